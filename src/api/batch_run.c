/* Taking a batch from a service's queue, running it on an instance, handing the results out. */
#include "api/serve.h"

#include <string.h>

#include "base/clock.h"
#include "ops/op.h"

#define GROW_AFTER 64 /* good batches at the limit before a larger one is tried again */

/* ---- taking ---- */

static sp_instance *free_instance(sparoa_service *s)
{
    for (int32_t i = 0; i < s->instance_count; i++)
        if (!s->instances[i].busy) return &s->instances[i];
    return NULL;
}

sp_instance *sp_service_take(sparoa_service *service, int64_t now_ns, int64_t *wake_ns)
{
    sp_batch_list batch;
    sparoa_release release;
    int64_t wake;
    sp_instance *to = service->batcher.queued ? free_instance(service) : NULL;
    if (!to) return NULL;
    int32_t items = sp_batcher_form(&service->batcher, now_ns, &batch, &release, &wake);
    if (wake < *wake_ns) *wake_ns = wake;
    if (items == 0) return NULL;
    to->busy = true;
    to->open = false;
    __atomic_store_n(&to->stop_now, 0, __ATOMIC_RELAXED);
    to->count = to->live = 0;
    to->items = items;
    to->release = release;
    for (sp_batch_item *item = batch.head, *next; item; item = next) {
        sparoa_request *r = (sparoa_request *)item;
        next = item->next;
        item->list = NULL;
        item->prev = item->next = NULL;
        r->state = SP_REQUEST_RUNNING;
        r->instance = to;
        r->info.batch_items = items;
        r->info.release = release;
        r->info.queued_ns = now_ns - item->arrived_ns;
        service->info.queue_ns += r->info.queued_ns;
        service->info.queued--;
        to->members[to->count++] = r;
        if (item->deadline_ns < atomic_load(&service->server->attention_ns))
            atomic_store(&service->server->attention_ns, item->deadline_ns);
    }
    to->live = to->count;
    return to;
}

/* ---- running, without the lock ---- */

/* Copies the members' inputs together. */
static sparoa_status gather(sp_instance *in, sparoa_error *err)
{
    const sparoa_allocator *a = &in->service->server->runtime->alloc;
    for (uint32_t i = 0; i < in->service->n_in; i++) {
        sparoa_tensor *t = &in->inputs[i];
        size_t at = 0;
        *t = in->members[0]->inputs[i];
        t->dims[0] = in->items;
        SP_TRY(sp_growable_reserve(&in->gathered[i], a, sparoa_tensor_bytes(t), err));
        t->data = in->gathered[i].data;
        size_t row = sparoa_tensor_bytes(t) / (size_t)in->items;
        for (int32_t k = 0; k < in->count && row; k++) {
            size_t bytes = row * (size_t)in->rows[k];
            memcpy((char *)t->data + at, in->members[k]->inputs[i].data, bytes);
            at += bytes;
        }
    }
    return SPAROA_OK;
}

/* One output of one member: `bytes` at `from`, a part of the batch's or all of it. */
static sparoa_status hand_out(sparoa_request *r, uint32_t i, const sparoa_tensor *all,
                              const void *from, size_t bytes, sparoa_error *err)
{
    const sparoa_allocator *a = &r->service->server->runtime->alloc;
    void *data = r->outputs[i].data;
    if (data && bytes > r->bytes[i])
        return sparoa_fail(err, SPAROA_BUFFER_TOO_SMALL, NULL,
                           "output %u needs %zu bytes, the request's buffer has %zu", i, bytes,
                           r->bytes[i]);
    if (!data) {
        SP_TRY(sp_growable_reserve(&r->own[i], a, bytes, err));
        data = r->own[i].data;
    }
    if (bytes && data != from) memcpy(data, from, bytes);
    r->outputs[i] = *all;
    r->outputs[i].data = data;
    return SPAROA_OK;
}

/* Asked between nodes. */
static sparoa_status between_nodes(void *user)
{
    sp_instance *in = user;
    sparoa_service *service = in->service;
    sparoa_server *server = service->server;
    int64_t at = atomic_load_explicit(&server->attention_ns, memory_order_relaxed);
    bool timeout = at != SP_NEVER && sp_now_ns() >= at;
    if (timeout ||
        atomic_load_explicit(&server->urgent, memory_order_relaxed) < service->priority) {
        int64_t start = sp_now_ns();
        pthread_mutex_lock(&server->mutex);
        sp_server_attend(server, service->priority);
        pthread_mutex_unlock(&server->mutex);
        in->away_ns += sp_now_ns() - start;
    }
    return __atomic_load_n(&in->stop_now, __ATOMIC_RELAXED) ? SPAROA_CANCELLED : SPAROA_OK;
}

/* Plans the batch and tells whether its intermediate values keep the policy's bound. */
static sparoa_status check_memory(sp_instance *in, const sparoa_tensor *inputs, sparoa_error *err)
{
    size_t bound = in->service->batcher.policy.memory_bound;
    if (!bound) return SPAROA_OK;
    SP_TRY(sparoa_session_prepare(in->session, inputs, in->service->n_in, err));
    sparoa_session_info info;
    sparoa_session_get_info(in->session, &info);
    if (info.activation_bytes <= bound) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_MEMORY_LIMIT, NULL,
                       "a batch of %d needs %zu bytes of intermediate values, the policy allows "
                       "%zu",
                       in->items, info.activation_bytes, bound);
}

/* Outputs without data are set to memory that lasts until the next run. */
static sparoa_status run_model(sp_instance *in, const sparoa_tensor *inputs, const sp_stop *stop,
                               sparoa_error *err)
{
    uint32_t n_in = in->service->n_in, n_out = in->service->n_out;
    if (in->chain) return sp_chain_run(in->chain, inputs, in->outputs, in->items, stop, err);
    return sp_session_run(in->session, inputs, n_in, in->outputs, n_out, stop, err);
}

/* A request alone: its inputs are read and its buffers written where they are. */
static sparoa_status run_one(sp_instance *in, int64_t start, sparoa_error *err)
{
    sparoa_request *r = in->members[0];
    uint32_t n_out = in->service->n_out;
    sp_stop stop = {.cancel = &in->stop_now,
                    .check = between_nodes,
                    .user = in,
                    .deadline_ns = r->item.deadline_ns == SP_NEVER ? 0 : r->item.deadline_ns};
    if (n_out) memcpy(in->outputs, r->outputs, n_out * sizeof *in->outputs);
    SP_TRY(check_memory(in, r->inputs, err));
    SP_TRY(run_model(in, r->inputs, &stop, err));
    for (uint32_t i = 0; i < n_out; i++) {
        const sparoa_tensor *t = &in->outputs[i];
        SP_TRY(hand_out(r, i, t, t->data, sparoa_tensor_bytes(t), err));
    }
    /* handing out one request's results is not worth a look at the clock */
    in->end_ns = sp_now_ns();
    in->run_ns = in->end_ns - start - in->away_ns;
    return SPAROA_OK;
}

static sparoa_status check_rows(const sp_instance *in, sparoa_error *err)
{
    for (uint32_t i = 0; i < in->service->n_out; i++) {
        const sparoa_tensor *t = &in->outputs[i];
        if (t->rank < 1 || t->dims[0] != in->items)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, NULL,
                               "output %u of a batch of %d has first dimension %lld: the model's "
                               "rows are not independent; serve it without a batch policy",
                               i, in->items, t->rank < 1 ? -1LL : (long long)t->dims[0]);
    }
    return SPAROA_OK;
}

/* From here on members may be taken out; those that were cancelled meanwhile are. */
static void open_batch(sp_instance *in)
{
    in->open = true;
    for (int32_t k = 0; k < in->count; k++) {
        sparoa_request *r = in->members[k];
        if (r->cancelled && sp_request_withdraw(r)) sp_request_end(r, SPAROA_CANCELLED, NULL);
    }
    sp_service_deliver(in->service);
}

/* Several requests; members taken out meanwhile were ended already. */
static sparoa_status run_many(sp_instance *in, int64_t start, sparoa_error *err)
{
    sparoa_service *s = in->service;
    pthread_mutex_t *mutex = &s->server->mutex;
    sp_stop stop = {.cancel = &in->stop_now, .check = between_nodes, .user = in};
    SP_TRY(gather(in, err));
    SP_TRY(check_memory(in, in->inputs, err));
    for (uint32_t i = 0; i < s->n_out; i++) in->outputs[i] = (sparoa_tensor){0};
    int64_t gathered = sp_now_ns();
    pthread_mutex_lock(mutex);
    open_batch(in);
    pthread_mutex_unlock(mutex);
    sparoa_status status = run_model(in, in->inputs, &stop, err);
    pthread_mutex_lock(mutex);
    in->open = false;
    pthread_mutex_unlock(mutex);
    in->gather_ns = gathered - start;
    in->end_ns = sp_now_ns();
    in->run_ns = in->end_ns - gathered - in->away_ns;
    SP_TRY(status);
    return check_rows(in, err);
}

/* Results to those who are still there. A buffer that is too small is its own request's fault. */
static void scatter(sp_instance *in)
{
    for (uint32_t i = 0; i < in->service->n_out; i++) {
        const sparoa_tensor *all = &in->outputs[i];
        const char *at = all->data;
        size_t row = sparoa_tensor_bytes(all) / (size_t)in->items;
        for (int32_t k = 0; k < in->count; k++) {
            sparoa_request *r = in->members[k];
            size_t bytes = row * (size_t)in->rows[k];
            if (r && r->fault == SPAROA_OK) {
                r->fault = hand_out(r, i, all, at, bytes, &r->err);
                r->outputs[i].dims[0] = in->rows[k];
            }
            at += bytes;
        }
    }
}

/* ---- ending, with the lock ---- */

void sp_service_limit(sparoa_service *service, int32_t limit, sparoa_release reason)
{
    int32_t most = service->batcher.policy.max_batch;
    service->batcher.limit = limit < 1 ? 1 : limit;
    service->batcher.limit_reason = limit >= most ? SPAROA_RELEASE_FULL : reason;
    service->good_batches = 0;
}

/* Halves the batches that take longer than the objective allows, and tries larger ones again when
 * they have long been well within it: the machine's speed changes. */
static void adapt(sparoa_service *s, const sp_instance *in)
{
    int64_t objective = s->batcher.policy.latency_objective_ns;
    sp_batch_times_add(&s->times, in->items, in->run_ns);
    if (!objective) return;
    const sp_batch_time *t = &s->times.sizes[in->items];
    if (t->mean_ns > (double)objective && in->items > 1) {
        if (in->items / 2 < s->batcher.limit)
            sp_service_limit(s, in->items / 2, SPAROA_RELEASE_LATENCY);
    } else if (s->batcher.limit_reason == SPAROA_RELEASE_LATENCY && in->items >= s->batcher.limit &&
               2 * t->mean_ns <= (double)objective && ++s->good_batches >= GROW_AFTER) {
        int32_t limit = 2 * s->batcher.limit;
        if (limit < s->tuned)
            sp_service_limit(s, limit, SPAROA_RELEASE_LATENCY);
        else
            sp_service_limit(s, s->tuned, SPAROA_RELEASE_TUNED);
    }
}

/* Puts the members back where they were, to be taken again in smaller batches; but for those that
 * were cancelled before they could be taken out. */
static void split(sp_instance *in)
{
    sparoa_service *s = in->service;
    s->info.splits++;
    if (in->items / 2 < s->batcher.limit) sp_service_limit(s, in->items / 2, SPAROA_RELEASE_MEMORY);
    for (int32_t k = in->count; k-- > 0;) {
        sparoa_request *r = in->members[k];
        if (!r) continue;
        r->instance = NULL;
        r->info.batch_items = 0;
        if (r->cancelled) {
            sp_request_end(r, SPAROA_CANCELLED, NULL);
            continue;
        }
        s->info.queue_ns -= r->info.queued_ns;
        s->info.queued++;
        r->state = SP_REQUEST_QUEUED;
        sp_batcher_return(&s->batcher, &r->item);
    }
}

static void end_members(sp_instance *in, sparoa_status status, const sparoa_error *err)
{
    int64_t now = status == SPAROA_OK ? in->end_ns : sp_now_ns();
    for (int32_t k = 0; k < in->count; k++) {
        sparoa_request *r = in->members[k];
        if (!r) continue;
        sparoa_status own = status;
        if (own == SPAROA_OK && in->count > 1) own = r->fault;
        if (own == SPAROA_OK && r->item.deadline_ns <= now) own = SPAROA_DEADLINE;
        /* whoever stopped a batch has taken its members out, but for one that runs alone */
        r->instance = NULL;
        if (own == SPAROA_OK || (own == SPAROA_DEADLINE && status == SPAROA_OK)) {
            sp_request_end_at(r, own, NULL, now);
            continue;
        }
        sparoa_error copy = own == status && err ? *err : r->err;
        sp_request_end_at(r, own, &copy, now);
    }
}

static void count_batch(sparoa_service *s, const sp_instance *in)
{
    s->info.batches++;
    s->info.items += in->items;
    s->info.by_release[in->release]++;
    s->info.gather_ns += in->gather_ns;
    s->info.run_ns += in->run_ns;
    s->info.scatter_ns += in->scatter_ns;
}

static void trace_batch(const sp_instance *in, int64_t begin)
{
    const sparoa_service *s = in->service;
    sp_trace *trace = &s->server->runtime->trace;
    if (!sp_trace_on(trace)) return;
    int64_t end = sp_now_ns();
    sp_trace_add(trace, SP_TRACE_BATCH, s->name, sparoa_release_name(in->release), begin, end, 0,
                 in->items);
    if (in->count == 1) return;
    sp_trace_add(trace, SP_TRACE_GATHER, "gather", s->name, begin, begin + in->gather_ns, 0,
                 in->items);
    sp_trace_add(trace, SP_TRACE_GATHER, "scatter", s->name, end - in->scatter_ns, end, 0,
                 in->items);
}

void sp_instance_run(sp_instance *instance, int64_t begin)
{
    sparoa_service *s = instance->service;
    sparoa_error err; /* set where status is not OK */
    instance->gather_ns = instance->run_ns = instance->scatter_ns = instance->away_ns = 0;
    for (int32_t k = 0; k < instance->count; k++)
        instance->rows[k] = instance->members[k]->item.items;
    pthread_mutex_unlock(&s->server->mutex);
    sparoa_status status =
        instance->count == 1 ? run_one(instance, begin, &err) : run_many(instance, begin, &err);
    if (status == SPAROA_OK && instance->count > 1) {
        int64_t start = instance->end_ns;
        scatter(instance);
        instance->end_ns = sp_now_ns();
        instance->scatter_ns = instance->end_ns - start;
    }
    trace_batch(instance, begin);
    pthread_mutex_lock(&s->server->mutex);
    if (status == SPAROA_OK) {
        count_batch(s, instance);
        adapt(s, instance);
    }
    if (sp_lacks_memory(status) && instance->count > 1 && !s->closing)
        split(instance);
    else
        end_members(instance, status, status == SPAROA_OK ? NULL : &err);
    instance->busy = false;
    if (s->batcher.queued) sp_server_notify(s);
    if (s->closing) pthread_cond_broadcast(&s->quiet);
    sp_service_deliver(s);
}
