/* Requests: submitting, waiting, ending. */
#include <string.h>

#include "api/serve.h"
#include "base/clock.h"
#include "ops/op.h"

/* ---- their memory ---- */

/* A request and its arrays are one piece: they are used together, for a few hundred nanoseconds. */
static size_t request_bytes(const sparoa_service *s)
{
    return sizeof(sparoa_request) + s->n_in * sizeof(sparoa_tensor) +
           s->n_out * (sizeof(sparoa_tensor) + sizeof(sp_growable) + sizeof(size_t));
}

static void request_free(sparoa_request *r)
{
    const sparoa_service *s = r->service;
    const sparoa_allocator *a = &s->server->runtime->alloc;
    for (uint32_t i = 0; i < s->n_out; i++) sp_free(a, r->own[i].data, r->own[i].capacity);
    pthread_cond_destroy(&r->ended);
    sp_free(a, r, request_bytes(s));
}

void sp_service_free_requests(sparoa_service *service)
{
    for (sparoa_request *r = service->all, *next; r; r = next) {
        next = r->all_next;
        request_free(r);
    }
    service->all = service->free = NULL;
}

static sparoa_request *request_new(sparoa_service *s)
{
    sparoa_request *r = sp_calloc(&s->server->runtime->alloc, 1, request_bytes(s));
    if (!r) return NULL;
    r->service = s;
    sp_cond_init(&r->ended);
    r->inputs = (sparoa_tensor *)(r + 1);
    r->outputs = r->inputs + s->n_in;
    r->own = (sp_growable *)(r->outputs + s->n_out);
    r->bytes = (size_t *)(r->own + s->n_out);
    r->all_next = s->all;
    s->all = r;
    return r;
}

static sparoa_status request_get(sparoa_service *s, sparoa_request **request, sparoa_error *err)
{
    if (s->held >= s->max_requests)
        return sparoa_fail(err, SPAROA_QUEUE_FULL, NULL,
                           "the service holds %d requests that were not released, its "
                           "max_requests",
                           s->held);
    sparoa_request *r = s->free;
    if (r)
        s->free = r->free_next;
    else if (!(r = request_new(s)))
        return sp_no_memory(&s->server->runtime->alloc, request_bytes(s), err);
    s->held++;
    *request = r;
    return SPAROA_OK;
}

static void request_put(sparoa_request *r)
{
    sparoa_service *s = r->service;
    r->state = SP_REQUEST_FREE;
    r->free_next = s->free;
    s->free = r;
    s->held--;
}

/* ---- ending ---- */

static void order_remove(sparoa_request *r)
{
    sparoa_service *s = r->service;
    *(r->order_prev ? &r->order_prev->order_next : &s->order_first) = r->order_next;
    *(r->order_next ? &r->order_next->order_prev : &s->order_last) = r->order_prev;
    r->order_prev = r->order_next = NULL;
}

static void order_append(sparoa_request *r)
{
    sparoa_service *s = r->service;
    r->order_next = NULL;
    r->order_prev = s->order_last;
    *(s->order_last ? &s->order_last->order_next : &s->order_first) = r;
    s->order_last = r;
}

static void make_ready(sparoa_request *r)
{
    sparoa_service *s = r->service;
    order_remove(r);
    r->ready_next = NULL;
    *s->ready_end = r;
    s->ready_end = &r->ready_next;
}

static void count_end(sparoa_service *s, sparoa_status status)
{
    if (status == SPAROA_OK)
        s->info.completed++;
    else if (status == SPAROA_CANCELLED)
        s->info.cancelled++;
    else if (status == SPAROA_DEADLINE)
        s->info.expired++;
    else
        s->info.failed++;
}

static void trace_end(const sparoa_request *r, int64_t now)
{
    const sparoa_service *s = r->service;
    sp_trace *trace = &s->server->runtime->trace;
    if (!sp_trace_on(trace)) return;
    const char *status = sparoa_status_name(r->info.status);
    int64_t id = sp_trace_span(trace), taken = r->item.arrived_ns + r->info.queued_ns;
    sp_trace_add(trace, SP_TRACE_QUEUED, s->name, status, r->item.arrived_ns, taken, id, 0);
    if (r->info.batch_items)
        sp_trace_add(trace, SP_TRACE_REQUEST, s->name, status, taken, now, id, r->info.batch_items);
}

void sp_request_end(sparoa_request *request, sparoa_status status, const sparoa_error *err)
{
    sp_request_end_at(request, status, err, sp_now_ns());
}

void sp_request_end_at(sparoa_request *request, sparoa_status status, const sparoa_error *err,
                       int64_t now)
{
    sparoa_service *s = request->service;
    sparoa_request_info *info = &request->info;
    int64_t total = now - request->item.arrived_ns;
    if (request->state == SP_REQUEST_QUEUED) {
        info->queued_ns = total;
        s->info.queued--;
    } else {
        info->run_ns = total - info->queued_ns;
    }
    request->state = SP_REQUEST_ENDED;
    info->status = status;
    info->ended = 1;
    if (err && status != SPAROA_OK)
        request->err = *err;
    else if (status != SPAROA_OK)
        sparoa_fail(&request->err, status, NULL, "the request ended after %.3f ms: %s",
                    (double)total * 1e-6, sparoa_status_text(status));
    if (status != SPAROA_OK) request->err.status = status;
    count_end(s, status);
    trace_end(request, now);
    if (!s->batcher.policy.preserve_ordering) {
        make_ready(request);
        return;
    }
    while (s->order_first && s->order_first->state == SP_REQUEST_ENDED) make_ready(s->order_first);
}

/* The request whose callback this thread is in: it looks after its release itself. */
static _Thread_local const sparoa_request *called_back;

/* One thread at a time calls back for a service, so that the order is kept. */
void sp_service_deliver(sparoa_service *service)
{
    pthread_mutex_t *mutex = &service->server->mutex;
    if (service->delivering) return;
    service->delivering = true;
    while (service->ready) {
        sparoa_request *r = service->ready;
        service->ready = r->ready_next;
        if (!service->ready) service->ready_end = &service->ready;
        if (r->done) {
            const sparoa_request *outer = called_back;
            pthread_mutex_unlock(mutex);
            called_back = r;
            r->done(r->user, r, r->info.status);
            called_back = outer;
            pthread_mutex_lock(mutex);
        }
        r->state = SP_REQUEST_DONE;
        if (service->users) pthread_cond_broadcast(&r->ended);
        if (r->released) request_put(r);
    }
    service->delivering = false;
    if (service->closing) pthread_cond_broadcast(&service->quiet);
}

bool sp_request_withdraw(sparoa_request *request)
{
    sp_instance *in = request->instance;
    if (request->state == SP_REQUEST_QUEUED) {
        sp_batcher_remove(&request->service->batcher, &request->item);
        return true;
    }
    if (request->state != SP_REQUEST_RUNNING) return false;
    if (in->count > 1 && in->open) {
        for (int32_t k = 0; k < in->count; k++)
            if (in->members[k] == request) in->members[k] = NULL;
        request->instance = NULL;
        if (--in->live == 0) __atomic_store_n(&in->stop_now, 1, __ATOMIC_RELAXED);
        return true;
    }
    return false;
}

/* ---- submitting ---- */

static sparoa_status check_submit(const sparoa_service *s, const sparoa_tensor *inputs,
                                  int32_t *items, const sparoa_submit_options *o, sparoa_error *err)
{
    const sp_batcher *b = &s->batcher;
    if (o->priority < 0 || o->priority > b->level_count)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "priority=%d; expected 0 to %d, the policy's priority_levels",
                           o->priority, b->level_count);
    if (o->queue_timeout_ns < 0 || o->deadline_ns < 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "a negative time; expected 0 or more");
    *items = 1;
    if (b->alone) return SPAROA_OK;
    for (uint32_t i = 0; i < s->n_in; i++) {
        const sparoa_tensor *t = &inputs[i];
        if (t->rank < 1 || t->dims[0] < 1 || t->dims[0] > b->policy.max_batch ||
            t->dims[0] != inputs[0].dims[0])
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, NULL,
                               "input %u must have 1 to %d items in its first dimension, as many "
                               "as input 0; it has %lld",
                               i, b->policy.max_batch, t->rank < 1 ? -1LL : (long long)t->dims[0]);
    }
    if (s->n_in) *items = (int32_t)inputs[0].dims[0];
    return SPAROA_OK;
}

static void fill(sparoa_request *r, const sparoa_tensor *inputs, const sparoa_tensor *outputs,
                 const sparoa_submit_options *o, int32_t items)
{
    const sparoa_service *s = r->service;
    const sp_batcher *b = &s->batcher;
    for (uint32_t i = 0; i < s->n_in; i++) r->inputs[i] = inputs[i];
    for (uint32_t i = 0; i < s->n_out; i++) {
        r->outputs[i].data = NULL;
        if (outputs) r->outputs[i] = outputs[i];
        r->bytes[i] = r->outputs[i].data ? sparoa_tensor_bytes(&r->outputs[i]) : 0;
    }
    r->item = (sp_batch_item){.arrived_ns = sp_now_ns(),
                              .deadline_ns = o->deadline_ns ? o->deadline_ns : SP_NEVER,
                              .items = items,
                              .level = o->priority ? o->priority - 1 : b->default_level};
    r->info = (sparoa_request_info){.items = items};
    r->fault = SPAROA_OK;
    r->state = SP_REQUEST_QUEUED;
    r->instance = NULL;
    r->released = r->cancelled = false;
    r->done = o->done;
    r->user = o->user;
}

static sparoa_status enqueue(sparoa_service *s, const sparoa_tensor *inputs,
                             const sparoa_tensor *outputs, const sparoa_submit_options *o,
                             int32_t items, sparoa_request **request, sparoa_error *err)
{
    sparoa_request *r = NULL;
    if (s->closing)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL, "the service is being destroyed");
    sparoa_status status = request_get(s, &r, err);
    if (status == SPAROA_OK) {
        fill(r, inputs, outputs, o, items);
        if (!sp_batcher_push(&s->batcher, &r->item, o->queue_timeout_ns)) {
            request_put(r);
            status =
                sparoa_fail(err, SPAROA_QUEUE_FULL, NULL,
                            "level %d of the queue holds its max_queue_size", r->item.level + 1);
        }
    }
    if (status == SPAROA_QUEUE_FULL) s->info.rejected++;
    if (status != SPAROA_OK) return status;
    order_append(r);
    s->info.submitted++;
    s->info.queued++;
    *request = r; /* before a worker can end it */
    sp_server_notify(s);
    return SPAROA_OK;
}

sparoa_status sparoa_submit(sparoa_service *service, const sparoa_tensor *inputs,
                            size_t input_count, const sparoa_tensor *outputs, size_t output_count,
                            const sparoa_submit_options *options, sparoa_request **request,
                            sparoa_error *err)
{
    sparoa_submit_options o;
    int32_t items;
    if (!service || !request)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "service or request is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    const sparoa_session *session = service->instances[0].session;
    SP_TRY(sp_session_check_inputs(session, inputs, input_count, true, err));
    if (outputs) SP_TRY(sp_session_check_outputs(session, outputs, output_count, NULL, err));
    SP_TRY(check_submit(service, inputs, &items, &o, err));
    pthread_mutex_lock(&service->server->mutex);
    sparoa_status status = enqueue(service, inputs, outputs, &o, items, request, err);
    pthread_mutex_unlock(&service->server->mutex);
    return status;
}

/* ---- the caller's side of a request ---- */

/* A request whose time has come while no worker looked. One that cannot be taken out any more ends
 * with its run. */
static void expire_here(sparoa_request *r)
{
    if (!sp_request_withdraw(r)) return;
    sp_request_end(r, SPAROA_DEADLINE, NULL);
    sp_service_deliver(r->service);
}

/* With the mutex held: waits until the request is done or `until_ns`; true: it is done. */
static bool wait_done(sparoa_request *r, int64_t until_ns)
{
    sparoa_service *s = r->service;
    bool expired = false;
    s->users++;
    while (r->state != SP_REQUEST_DONE) {
        int64_t now = sp_now_ns(), until = until_ns;
        if (!expired && r->item.deadline_ns <= now && r->state < SP_REQUEST_ENDED) {
            expired = true;
            expire_here(r);
            continue;
        }
        if (!expired && r->item.deadline_ns < until) until = r->item.deadline_ns;
        if (until_ns <= now) break;
        sp_cond_wait_until(&r->ended, &s->server->mutex, until);
    }
    bool done = r->state == SP_REQUEST_DONE;
    s->users--;
    if (s->closing) pthread_cond_broadcast(&s->quiet);
    return done;
}

sparoa_status sparoa_request_wait(sparoa_request *request, sparoa_error *err)
{
    if (!request) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "request is NULL");
    pthread_mutex_t *mutex = &request->service->server->mutex;
    pthread_mutex_lock(mutex);
    wait_done(request, SP_NEVER);
    sparoa_status status = request->info.status;
    if (err && status != SPAROA_OK) *err = request->err;
    pthread_mutex_unlock(mutex);
    return status;
}

int32_t sparoa_request_done(sparoa_request *request, int64_t timeout_ns)
{
    if (!request) return 0;
    pthread_mutex_t *mutex = &request->service->server->mutex;
    pthread_mutex_lock(mutex);
    bool done = wait_done(request, timeout_ns > 0 ? sp_later_ns(sp_now_ns(), timeout_ns) : 0);
    pthread_mutex_unlock(mutex);
    return done;
}

void sparoa_request_cancel(sparoa_request *request)
{
    if (!request) return;
    sparoa_service *s = request->service;
    pthread_mutex_lock(&s->server->mutex);
    if (sp_request_withdraw(request)) {
        sp_request_end(request, SPAROA_CANCELLED, NULL);
        sp_service_deliver(s);
    } else if (request->state == SP_REQUEST_RUNNING) {
        request->cancelled = true;
        if (request->instance->count == 1)
            __atomic_store_n(&request->instance->stop_now, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&s->server->mutex);
}

sparoa_status sparoa_request_output(const sparoa_request *request, size_t index,
                                    sparoa_tensor *output)
{
    if (!request || !output || index >= request->service->n_out) return SPAROA_INVALID_ARGUMENT;
    pthread_mutex_t *mutex = &request->service->server->mutex;
    pthread_mutex_lock(mutex);
    bool good = request->info.ended && request->info.status == SPAROA_OK;
    if (good) *output = request->outputs[index];
    pthread_mutex_unlock(mutex);
    return good ? SPAROA_OK : SPAROA_INVALID_STATE;
}

sparoa_status sparoa_request_error(const sparoa_request *request, sparoa_error *err)
{
    if (!request) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "request is NULL");
    pthread_mutex_t *mutex = &request->service->server->mutex;
    pthread_mutex_lock(mutex);
    sparoa_status status = request->info.status;
    if (err && status != SPAROA_OK) *err = request->err;
    pthread_mutex_unlock(mutex);
    return status;
}

void sparoa_request_get_info(const sparoa_request *request, sparoa_request_info *info)
{
    if (!request || !info) return;
    pthread_mutex_t *mutex = &request->service->server->mutex;
    pthread_mutex_lock(mutex);
    *info = request->info;
    pthread_mutex_unlock(mutex);
}

void sparoa_request_release(sparoa_request *request)
{
    if (!request) return;
    if (request == called_back) {
        request->released = true;
        return;
    }
    pthread_mutex_t *mutex = &request->service->server->mutex;
    pthread_mutex_lock(mutex);
    if (request->state == SP_REQUEST_DONE)
        request_put(request);
    else
        request->released = true;
    pthread_mutex_unlock(mutex);
}

const char *sparoa_release_name(sparoa_release release)
{
    switch (release) {
#define X(name, value, text)                                                                       \
    case SPAROA_RELEASE_##name: return #name;
        SPAROA_RELEASE_MAP(X)
#undef X
    default: return "UNKNOWN";
    }
}
