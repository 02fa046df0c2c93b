/* The batch size of a service, found by running it. */
#include <string.h>

#include "api/serve.h"
#include "base/clock.h"
#include "engine/batch_search.h"
#include "ops/op.h"

_Static_assert(sizeof(((sparoa_tune_result *)0)->steps) / sizeof(sparoa_tune_step) >=
                   SP_BATCH_SEARCH_STEPS,
               "room for all steps");

/* Share of zeros in all floating-point weights of the model; -1: it has none. */
static double model_zeros(const sp_graph *g)
{
    double zeros = 0, total = 0;
    for (size_t i = 0; i < g->value_count; i++) {
        const sp_value *v = &g->values[i];
        double share = v->kind == SP_VALUE_CONST && v->fact.data && sp_is_float(v->fact.dtype)
                           ? sp_zero_share(&v->fact)
                           : -1;
        if (share < 0) continue;
        zeros += share * (double)sparoa_tensor_count(&v->fact);
        total += (double)sparoa_tensor_count(&v->fact);
    }
    return total > 0 ? zeros / total : -1;
}

/* Operations per byte at the shapes last prepared; -1: unknown. */
static double session_intensity(const sparoa_session *session)
{
    double flops = 0, bytes = 0;
    for (size_t i = 0; i < sparoa_session_node_count(session); i++) {
        sparoa_node_info info;
        if (sparoa_session_node(session, i, &info) != SPAROA_OK) continue;
        flops += info.flops;
        bytes += info.bytes;
    }
    return bytes > 0 ? flops / bytes : -1;
}

/* What is tuned: a session with one item for it, and room for batches of that. */
typedef struct subject {
    sparoa_session *session;
    uint32_t n_in, n_out;
    sparoa_tensor *one, *in, *out;
    sp_growable *memory; /* by input */
} subject;

static sparoa_status subject_make(subject *s, sparoa_session *session, sparoa_error *err)
{
    const sparoa_allocator *a = &session->model->runtime->alloc;
    *s = (subject){.session = session,
                   .n_in = session->graph->input_count,
                   .n_out = session->graph->output_count};
    s->one = sp_calloc(a, s->n_in, sizeof *s->one);
    s->in = sp_calloc(a, s->n_in, sizeof *s->in);
    s->out = sp_calloc(a, s->n_out, sizeof *s->out);
    s->memory = sp_calloc(a, s->n_in, sizeof *s->memory);
    return s->one && s->in && s->out && s->memory ? SPAROA_OK
                                                  : sp_no_memory(a, sizeof *s->one, err);
}

static void subject_free(subject *s)
{
    const sparoa_allocator *a = &s->session->model->runtime->alloc;
    for (uint32_t i = 0; s->memory && i < s->n_in; i++)
        sp_free(a, s->memory[i].data, s->memory[i].capacity);
    sp_free(a, s->memory, s->n_in * sizeof *s->memory);
    sp_free(a, s->one, s->n_in * sizeof *s->one);
    sp_free(a, s->in, s->n_in * sizeof *s->in);
    sp_free(a, s->out, s->n_out * sizeof *s->out);
}

/* The one item, `items` times. */
static sparoa_status repeat_item(subject *s, int32_t items, sparoa_error *err)
{
    const sparoa_allocator *a = &s->session->model->runtime->alloc;
    for (uint32_t i = 0; i < s->n_in; i++) {
        sparoa_tensor *t = &s->in[i];
        size_t one = sparoa_tensor_bytes(&s->one[i]);
        *t = s->one[i];
        t->dims[0] = items;
        SP_TRY(sp_growable_reserve(&s->memory[i], a, one * (size_t)items, err));
        t->data = s->memory[i].data;
        for (int32_t k = 0; k < items; k++)
            if (one) memcpy((char *)t->data + (size_t)k * one, s->one[i].data, one);
    }
    return SPAROA_OK;
}

/* Fastest of `runs` runs after one that plans. */
static sparoa_status measure(subject *s, int32_t items, int32_t runs, int64_t *ns, size_t *bytes,
                             sparoa_error *err)
{
    sparoa_session_info info;
    SP_TRY(repeat_item(s, items, err));
    for (int32_t i = 0; i <= runs; i++) {
        memset(s->out, 0, s->n_out * sizeof *s->out);
        int64_t start = sp_now_ns();
        SP_TRY(sp_session_run(s->session, s->in, s->n_in, s->out, s->n_out, NULL, err));
        int64_t took = sp_now_ns() - start;
        if (i == 1 || (i > 1 && took < *ns)) *ns = took;
    }
    sparoa_session_get_info(s->session, &info);
    *bytes = info.activation_bytes;
    return SPAROA_OK;
}

static sparoa_status search_sizes(subject *s, const sparoa_batch_policy *p,
                                  const sparoa_tune_options *o, sp_batch_search *search,
                                  sparoa_tune_result *result, sparoa_error *err)
{
    SP_TRY(sparoa_session_prepare(s->session, s->one, s->n_in, err));
    result->zeros = model_zeros(s->session->model->graph);
    result->intensity = session_intensity(s->session);
    sp_batch_search_options so = {.start = o->start ? o->start : 8,
                                  .max = p->max_batch,
                                  .latency_bound = p->latency_objective_ns / 2,
                                  .memory_bound = p->memory_bound,
                                  .zeros = result->zeros,
                                  .intensity = result->intensity,
                                  .sparse_from = o->sparse_from > 0 ? o->sparse_from : 0.5,
                                  .intense_from = o->intense_from > 0 ? o->intense_from : 50,
                                  .tolerance = o->tolerance > 0 ? o->tolerance : 0.03};
    int32_t items = sp_batch_search_start(search, &so);
    while (items > 0) {
        int64_t ns = 0;
        size_t bytes = 0;
        sparoa_status status = measure(s, items, o->runs ? o->runs : 5, &ns, &bytes, err);
        if (status != SPAROA_OK && (!sp_lacks_memory(status) || items == 1)) return status;
        items = sp_batch_search_next(search, items, status == SPAROA_OK ? ns : 0, bytes);
    }
    return SPAROA_OK;
}

static sparoa_status tune_session(sparoa_session *session, const sparoa_batch_policy *p,
                                  const sparoa_tensor *const *one, const sparoa_tune_options *o,
                                  sp_batch_search *search, sparoa_tune_result *result,
                                  sparoa_error *err)
{
    subject s;
    sparoa_status status = subject_make(&s, session, err);
    for (uint32_t i = 0; status == SPAROA_OK && i < s.n_in; i++) s.one[i] = *one[i];
    if (status == SPAROA_OK) status = search_sizes(&s, p, o, search, result, err);
    subject_free(&s);
    return status;
}

/* Each segment on what those before make of the one item. */
static sparoa_status tune_chain(sp_chain *c, const sparoa_batch_policy *p,
                                const sparoa_tensor *inputs, const sparoa_tune_options *o,
                                sp_batch_search *search, sparoa_tune_result *result,
                                sparoa_error *err)
{
    const sparoa_allocator *a = &c->model->runtime->alloc;
    size_t bytes = c->model->graph->value_count * sizeof(sparoa_tensor *);
    const sparoa_tensor **one = sp_alloc(a, bytes);
    if (!one) return sp_no_memory(a, bytes, err);
    sparoa_status status = SPAROA_OK;
    for (int32_t i = 0; i < c->count && status == SPAROA_OK; i++) {
        sp_segment *segment = &c->segments[i];
        const sp_graph *g = segment->model->graph;
        status = sp_chain_run_until(c, inputs, 1, i, NULL, err);
        for (uint32_t k = 0; k < g->input_count; k++) one[k] = &c->values[g->inputs[k]];
        if (status == SPAROA_OK)
            status = tune_session(segment->session, p, one, o, search, result, err);
        if (status == SPAROA_OK) result->segment_batches[i] = sp_batch_search_result(search);
    }
    sp_free(a, one, bytes);
    return status;
}

static sparoa_status tune_whole(sp_instance *in, const sparoa_tensor *inputs,
                                const sparoa_tune_options *o, sp_batch_search *search,
                                sparoa_tune_result *result, sparoa_error *err)
{
    const sparoa_allocator *a = &in->service->server->runtime->alloc;
    size_t bytes = in->service->n_in * sizeof(sparoa_tensor *);
    const sparoa_tensor **one = sp_alloc(a, bytes);
    if (!one) return sp_no_memory(a, bytes, err);
    for (uint32_t i = 0; i < in->service->n_in; i++) one[i] = &inputs[i];
    sparoa_status status =
        tune_session(in->session, &in->service->batcher.policy, one, o, search, result, err);
    sp_free(a, one, bytes);
    return status;
}

static void fill_result(const sp_batch_search *search, sparoa_tune_result *result)
{
    result->batch = sp_batch_search_result(search);
    for (int32_t i = 0; i < 16; i++)
        if (result->segment_batches[i] > result->batch) result->batch = result->segment_batches[i];
    result->step_count = search->count;
    for (int32_t i = 0; i < search->count; i++) {
        const sp_batch_step *s = &search->steps[i];
        result->steps[i] = (sparoa_tune_step){s->items, s->fits, s->ns, s->bytes};
    }
}

static void apply(sparoa_service *s, const sp_batch_search *search, const sparoa_tune_result *r)
{
    sparoa_release reason = SPAROA_RELEASE_TUNED;
    /* as large as fits, or as large as pays? */
    if (search->high && r->batch == search->low)
        reason = search->memory_bound ? SPAROA_RELEASE_MEMORY : SPAROA_RELEASE_LATENCY;
    sp_service_limit(s, r->batch, reason);
    s->tuned = r->batch;
    for (int32_t i = 0; i < s->instance_count && s->instances[0].chain; i++)
        for (int32_t k = 0; k < s->instances[0].chain->count; k++)
            s->instances[i].chain->segments[k].batch = r->segment_batches[k];
    for (int32_t i = 0; i < search->count && !s->instances[0].chain; i++)
        if (search->steps[i].ns)
            s->times.sizes[search->steps[i].items].mean_ns = (double)search->steps[i].ns;
}

static sparoa_status check(const sparoa_service *s, const sparoa_tensor *inputs, size_t count,
                           const sparoa_tune_options *o, sparoa_error *err)
{
    SP_TRY(sp_session_check_inputs(s->instances[0].session, inputs, count, true, err));
    if (s->batcher.alone)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL, "the service forms no batches");
    for (size_t i = 0; i < count; i++)
        if (inputs[i].rank < 1 || inputs[i].dims[0] != 1)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, NULL,
                               "input %zu must be one item: a first dimension of 1", i);
    if (o->start < 0 || o->runs < 0 || o->sparse_from < 0 || o->intense_from < 0 ||
        o->tolerance < 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "a tune option is negative; expected 0 or more");
    return SPAROA_OK;
}

sparoa_status sparoa_service_tune(sparoa_service *service, const sparoa_tensor *inputs,
                                  size_t input_count, const sparoa_tune_options *options,
                                  sparoa_tune_result *result, sparoa_error *err)
{
    sparoa_tune_options o;
    sparoa_tune_result found = {0};
    sp_batch_search search;
    if (!service) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "service is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    SP_TRY(check(service, inputs, input_count, &o, err));
    pthread_mutex_t *mutex = &service->server->mutex;
    sp_instance *in = &service->instances[0];
    pthread_mutex_lock(mutex);
    bool taken = !in->busy && !service->closing;
    if (taken) {
        in->busy = true;
        in->count = 0;
    }
    pthread_mutex_unlock(mutex);
    if (!taken) return sparoa_fail(err, SPAROA_INVALID_STATE, NULL, "the service is busy");
    sparoa_status status = in->chain ? tune_chain(in->chain, &service->batcher.policy, inputs, &o,
                                                  &search, &found, err)
                                     : tune_whole(in, inputs, &o, &search, &found, err);
    pthread_mutex_lock(mutex);
    in->busy = false;
    if (status == SPAROA_OK) {
        fill_result(&search, &found);
        apply(service, &search, &found);
    }
    if (service->batcher.queued) sp_server_notify(service);
    if (service->closing) pthread_cond_broadcast(&service->quiet);
    pthread_mutex_unlock(mutex);
    if (status == SPAROA_OK && result) *result = found;
    return status;
}
