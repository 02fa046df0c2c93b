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

/* The one item, `items` times. */
static sparoa_status repeat_item(sp_instance *in, const sparoa_tensor *inputs, int32_t items,
                                 sparoa_error *err)
{
    const sparoa_allocator *a = &in->service->server->runtime->alloc;
    for (uint32_t i = 0; i < in->service->n_in; i++) {
        sparoa_tensor *t = &in->inputs[i];
        size_t one = sparoa_tensor_bytes(&inputs[i]);
        *t = inputs[i];
        t->dims[0] = items;
        SP_TRY(sp_growable_reserve(&in->gathered[i], a, one * (size_t)items, err));
        t->data = in->gathered[i].data;
        for (int32_t k = 0; k < items; k++)
            if (one) memcpy((char *)t->data + (size_t)k * one, inputs[i].data, one);
    }
    return SPAROA_OK;
}

/* Fastest of `runs` runs after one that plans. */
static sparoa_status measure(sp_instance *in, const sparoa_tensor *inputs, int32_t items,
                             int32_t runs, int64_t *ns, size_t *bytes, sparoa_error *err)
{
    const sparoa_service *s = in->service;
    sparoa_session_info info;
    SP_TRY(repeat_item(in, inputs, items, err));
    for (int32_t i = 0; i <= runs; i++) {
        memset(in->outputs, 0, s->n_out * sizeof *in->outputs);
        int64_t start = sp_now_ns();
        SP_TRY(sp_session_run(in->session, in->inputs, s->n_in, in->outputs, s->n_out, NULL, err));
        int64_t took = sp_now_ns() - start;
        if (i == 1 || (i > 1 && took < *ns)) *ns = took;
    }
    sparoa_session_get_info(in->session, &info);
    *bytes = info.activation_bytes;
    return SPAROA_OK;
}

static bool lacks_memory(sparoa_status status)
{
    return status == SPAROA_MEMORY_LIMIT || status == SPAROA_OUT_OF_MEMORY;
}

static sparoa_status search_sizes(sp_instance *in, const sparoa_tensor *inputs,
                                  const sparoa_tune_options *o, sp_batch_search *search,
                                  sparoa_tune_result *result, sparoa_error *err)
{
    const sparoa_batch_policy *p = &in->service->batcher.policy;
    SP_TRY(sparoa_session_prepare(in->session, inputs, in->service->n_in, err));
    result->zeros = model_zeros(in->service->model->graph);
    result->intensity = session_intensity(in->session);
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
        sparoa_status status = measure(in, inputs, items, o->runs ? o->runs : 5, &ns, &bytes, err);
        if (status != SPAROA_OK && (!lacks_memory(status) || items == 1)) return status;
        items = sp_batch_search_next(search, items, status == SPAROA_OK ? ns : 0, bytes);
    }
    return SPAROA_OK;
}

static void fill_result(const sp_batch_search *search, sparoa_tune_result *result)
{
    result->batch = sp_batch_search_result(search);
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
    for (int32_t i = 0; i < search->count; i++)
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
    sparoa_status status = search_sizes(in, inputs, &o, &search, &found, err);
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
