/* Services: a model's sessions and its queue. */
#include <string.h>

#include "api/serve.h"
#include "ops/op.h"

#define DEFAULT_PRIORITY 100
#define DEFAULT_MAX_REQUESTS 4096
#define MAX_INSTANCES 256

/* ---- making ---- */

static sparoa_status open_dim(const char *kind, const char *name, const sparoa_tensor *fact,
                              sparoa_error *err)
{
    if (fact->rank < 0 || (fact->rank > 0 && fact->dims[0] < 0)) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                       "no batches can be formed: %s '%.80s' has a fixed first dimension; export "
                       "the model with an open one, or serve it without a batch policy",
                       kind, name);
}

static sparoa_status check_model(const sparoa_service *s, sparoa_error *err)
{
    const sp_graph *g = s->model->graph;
    if (s->batcher.alone || s->batcher.policy.max_batch == 1) return SPAROA_OK;
    if (g->input_count == 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "no batches can be formed: the model has no inputs");
    for (uint32_t i = 0; i < g->input_count; i++)
        SP_TRY(open_dim("input", g->values[g->inputs[i]].name, &g->values[g->inputs[i]].fact, err));
    for (uint32_t i = 0; i < g->output_count; i++)
        SP_TRY(
            open_dim("output", g->values[g->outputs[i]].name, &g->values[g->outputs[i]].fact, err));
    return SPAROA_OK;
}

static int32_t most_members(const sparoa_service *s)
{
    return s->batcher.alone ? 1 : s->batcher.policy.max_batch;
}

static sparoa_status make_instance(sparoa_service *s, sp_instance *in,
                                   const sparoa_service_options *o,
                                   const sparoa_session_options *options, sparoa_error *err)
{
    const sparoa_allocator *a = &s->server->runtime->alloc;
    size_t most = (size_t)most_members(s);
    in->service = s;
    in->members = sp_calloc(a, most, sizeof(sparoa_request *));
    in->rows = sp_calloc(a, most, sizeof *in->rows);
    in->inputs = sp_calloc(a, s->n_in, sizeof *in->inputs);
    in->outputs = sp_calloc(a, s->n_out, sizeof *in->outputs);
    in->gathered = sp_calloc(a, s->n_in, sizeof *in->gathered);
    if (!in->members || !in->rows || !in->inputs || !in->outputs || !in->gathered)
        return sp_no_memory(a, most * sizeof *in->members, err);
    SP_TRY(sparoa_session_create(s->model, options, &in->session, err));
    if (!o->segment_count) return SPAROA_OK;
    return sp_chain_create(s->model, o->segments, o->segment_count, options, &in->chain, err);
}

static void free_instance(sparoa_service *s, sp_instance *in)
{
    const sparoa_allocator *a = &s->server->runtime->alloc;
    size_t most = (size_t)most_members(s);
    sparoa_session_destroy(in->session);
    sp_chain_destroy(in->chain);
    for (uint32_t i = 0; in->gathered && i < s->n_in; i++)
        sp_free(a, in->gathered[i].data, in->gathered[i].capacity);
    sp_free(a, in->gathered, s->n_in * sizeof *in->gathered);
    sp_free(a, in->inputs, s->n_in * sizeof *in->inputs);
    sp_free(a, in->outputs, s->n_out * sizeof *in->outputs);
    sp_free(a, in->members, most * sizeof(sparoa_request *));
    sp_free(a, in->rows, most * sizeof *in->rows);
}

static void service_free(sparoa_service *s)
{
    const sparoa_allocator *a = &s->server->runtime->alloc;
    sp_service_free_requests(s);
    for (int32_t i = 0; s->instances && i < s->instance_count; i++)
        free_instance(s, &s->instances[i]);
    if (s->instances) sp_free(a, s->instances, (size_t)s->instance_count * sizeof *s->instances);
    if (s->times.sizes)
        sp_free(a, s->times.sizes, ((size_t)s->times.max + 1) * sizeof *s->times.sizes);
    sp_batcher_destroy(&s->batcher);
    sp_model_unref(s->model);
    pthread_cond_destroy(&s->quiet);
    sp_free(a, s, sizeof *s);
}

/* Requests go together if they differ in their first dimensions alone. */
static bool same_shapes(const sp_batch_item *a, const sp_batch_item *b)
{
    const sparoa_request *x = (const sparoa_request *)a, *y = (const sparoa_request *)b;
    for (uint32_t i = 0; i < x->service->n_in; i++) {
        const sparoa_tensor *s = &x->inputs[i], *t = &y->inputs[i];
        if (s->rank != t->rank || s->dtype != t->dtype) return false;
        for (int32_t d = 1; d < s->rank; d++)
            if (s->dims[d] != t->dims[d]) return false;
    }
    return true;
}

static int64_t expected_ns(void *user, int32_t items)
{
    const sparoa_service *s = user;
    int64_t ns = sp_batch_times_expect(&s->times, items);
    return ns + ns / 8;
}

static sparoa_status service_fill(sparoa_service *s, const sparoa_service_options *o,
                                  sparoa_error *err)
{
    const sparoa_allocator *a = &s->server->runtime->alloc;
    sparoa_session_options session = {.struct_size = sizeof session};
    sparoa_batch_policy policy;
    if (!sp_read_options(&policy, sizeof policy, o->batch) ||
        (o->session && !sp_read_options(&session, sizeof session, o->session)))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set struct_size of the policy and session options");
    session.struct_size = sizeof session;
    SP_TRY(sp_batcher_init(&s->batcher, o->batch ? &policy : NULL, a, err));
    s->batcher.same = same_shapes;
    s->batcher.run_ns = expected_ns;
    s->batcher.user = s;
    SP_TRY(check_model(s, err));
    s->tuned = s->batcher.policy.max_batch;
    s->times.max = s->batcher.alone ? 0 : policy.max_batch;
    s->times.sizes = sp_calloc(a, (size_t)s->times.max + 1, sizeof *s->times.sizes);
    s->instances = sp_calloc(a, (size_t)s->instance_count, sizeof *s->instances);
    if (!s->times.sizes || !s->instances) return sp_no_memory(a, sizeof *s->instances, err);
    /* each size of batch is a set of shapes of its own */
    if (session.max_shapes == 0 && s->times.max > 8) session.max_shapes = s->times.max;
    for (int32_t i = 0; i < s->instance_count; i++)
        SP_TRY(make_instance(s, &s->instances[i], o, &session, err));
    return SPAROA_OK;
}

static sparoa_status check_options(const sparoa_service_options *o, sparoa_error *err)
{
    if (o->instances < 0 || o->instances > MAX_INSTANCES)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "instances=%d; expected 0 to %d",
                           o->instances, MAX_INSTANCES);
    if (o->priority < 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "priority=%d; expected 0 or more",
                           o->priority);
    if (o->segment_count && (!o->segments || !o->batch || o->batch->memory_bound))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "segments need a list, and a batch policy without a memory_bound");
    if (o->max_requests < 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "max_requests=%d; expected 0 or more", o->max_requests);
    return SPAROA_OK;
}

sparoa_status sparoa_service_create(sparoa_server *server, sparoa_model *model,
                                    const sparoa_service_options *options, sparoa_service **service,
                                    sparoa_error *err)
{
    sparoa_service_options o;
    if (!server || !model || !service)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "server, model or service is NULL");
    if (model->runtime != server->runtime)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "model and server belong to different runtimes");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    SP_TRY(check_options(&o, err));
    sparoa_service *s = sp_calloc(&server->runtime->alloc, 1, sizeof *s);
    if (!s) return sp_no_memory(&server->runtime->alloc, sizeof *s, err);
    s->server = server;
    s->model = model;
    sp_model_ref(model);
    sp_cond_init(&s->quiet);
    s->ready_end = &s->ready;
    s->name = model->graph->name && model->graph->name[0] ? model->graph->name : "model";
    s->priority = o.priority ? o.priority : DEFAULT_PRIORITY;
    s->max_requests = o.max_requests ? o.max_requests : DEFAULT_MAX_REQUESTS;
    s->instance_count = o.instances ? o.instances : 1;
    s->n_in = model->graph->input_count;
    s->n_out = model->graph->output_count;
    sparoa_status status = service_fill(s, &o, err);
    if (status != SPAROA_OK) {
        service_free(s);
        return status;
    }
    pthread_mutex_lock(&server->mutex);
    sparoa_service **at = &server->services;
    while (*at && (*at)->priority <= s->priority) at = &(*at)->next;
    s->next = *at;
    *at = s;
    pthread_mutex_unlock(&server->mutex);
    *service = s;
    return SPAROA_OK;
}

/* ---- destroying ---- */

static bool busy(const sparoa_service *s)
{
    for (int32_t i = 0; i < s->instance_count; i++)
        if (s->instances[i].busy) return true;
    return false;
}

void sparoa_service_destroy(sparoa_service *service)
{
    if (!service) return;
    sparoa_server *server = service->server;
    pthread_mutex_lock(&server->mutex);
    service->closing = true;
    for (sparoa_request *r = service->all; r; r = r->all_next) {
        if (sp_request_withdraw(r))
            sp_request_end(r, SPAROA_CANCELLED, NULL);
        else if (r->state == SP_REQUEST_RUNNING)
            r->cancelled = true;
    }
    for (int32_t i = 0; i < service->instance_count; i++)
        if (service->instances[i].busy)
            __atomic_store_n(&service->instances[i].stop_now, 1, __ATOMIC_RELAXED);
    sp_service_deliver(service);
    while (busy(service) || service->ready || service->delivering || service->users)
        pthread_cond_wait(&service->quiet, &server->mutex);
    sparoa_service **at = &server->services;
    while (*at && *at != service) at = &(*at)->next;
    if (*at) *at = service->next;
    pthread_mutex_unlock(&server->mutex);
    service_free(service);
}

/* ---- the rest ---- */

/* Plans 1, 2, ... `most` items; *fitting: how many fit. `sized` is room for the shapes. */
static sparoa_status prepare_sizes(const sparoa_service *s, sparoa_session *session,
                                   sparoa_tensor *sized, int32_t most, int32_t *fitting,
                                   sparoa_error *err)
{
    size_t bound = s->batcher.policy.memory_bound;
    for (int32_t n = 1; n <= most; n++) {
        sparoa_session_info info;
        for (uint32_t k = 0; k < s->n_in && !s->batcher.alone; k++) sized[k].dims[0] = n;
        SP_TRY(sparoa_session_prepare(session, sized, s->n_in, err));
        sparoa_session_get_info(session, &info);
        if (bound && info.activation_bytes > bound)
            return sparoa_fail(err, SPAROA_MEMORY_LIMIT, NULL,
                               "a batch of %d needs %zu bytes of intermediate values, the policy "
                               "allows %zu",
                               n, info.activation_bytes, bound);
        *fitting = n;
    }
    return SPAROA_OK;
}

sparoa_status sparoa_service_prepare(sparoa_service *service, const sparoa_tensor *inputs,
                                     size_t input_count, sparoa_error *err)
{
    if (!service || (input_count && !inputs))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "service or inputs is NULL");
    SP_TRY(sp_session_check_inputs(service->instances[0].session, inputs, input_count, false, err));
    if (service->instances[0].chain) return SPAROA_OK; /* sizes are met as they come */
    const sparoa_allocator *a = &service->server->runtime->alloc;
    size_t bytes = input_count * sizeof *inputs;
    sparoa_tensor *sized = sp_alloc(a, bytes);
    if (!sized) return sp_no_memory(a, bytes, err);
    if (bytes) memcpy(sized, inputs, bytes);
    sparoa_status status = SPAROA_OK;
    for (int32_t i = 0; i < service->instance_count && status == SPAROA_OK; i++) {
        int32_t most = service->batcher.alone ? 1 : service->batcher.limit, fitting = 0;
        sparoa_error fault;
        status =
            prepare_sizes(service, service->instances[i].session, sized, most, &fitting, &fault);
        if (sp_lacks_memory(status) && fitting > 0) {
            pthread_mutex_lock(&service->server->mutex);
            sp_service_limit(service, fitting, SPAROA_RELEASE_MEMORY);
            pthread_mutex_unlock(&service->server->mutex);
            status = SPAROA_OK;
        } else if (status != SPAROA_OK && err) {
            *err = fault;
        }
    }
    sp_free(a, sized, bytes);
    return status;
}

void sparoa_service_flush(sparoa_service *service)
{
    if (!service) return;
    pthread_mutex_lock(&service->server->mutex);
    if (service->batcher.queued) {
        service->batcher.flush = true;
        sp_server_notify(service);
    }
    pthread_mutex_unlock(&service->server->mutex);
}

void sparoa_service_get_info(const sparoa_service *service, sparoa_service_info *info)
{
    if (!service || !info) return;
    pthread_mutex_lock(&service->server->mutex);
    *info = service->info;
    info->batch_limit = service->batcher.alone ? 1 : service->batcher.limit;
    pthread_mutex_unlock(&service->server->mutex);
}

int32_t sparoa_service_batches(const sparoa_service *service, int32_t items, int64_t *count,
                               int64_t *mean_ns)
{
    if (!service || items < 1 || items > service->times.max) return 0;
    pthread_mutex_lock(&service->server->mutex);
    const sp_batch_time *t = &service->times.sizes[items];
    if (count) *count = t->count;
    if (mean_ns) *mean_ns = t->count ? t->sum_ns / t->count : 0;
    pthread_mutex_unlock(&service->server->mutex);
    return 1;
}
