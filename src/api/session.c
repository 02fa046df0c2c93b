#include <string.h>

#include "api/auto.h"
#include "base/clock.h"
#include "graph/passes.h"
#include "ops/op.h"

#define DEFAULT_MAX_SHAPES 8
#define DEFAULT_TIMEOUT_MS INT64_C(30000)

/* A queue on each device that nodes may run on. */
static sparoa_status open_queues(sparoa_session *s, const sparoa_session_options *o, int32_t count,
                                 sparoa_error *err)
{
    sparoa_runtime *rt = s->model->runtime;
    for (int32_t i = 0; i < count; i++) {
        sp_device d = rt->devices[i];
        if (i == 0 && o->reference) SP_TRY(sp_runtime_reference(rt, &d, err));
        s->devices[i] = d;
        SP_TRY(sp_device_start(&s->devices[i], err));
    }
    return SPAROA_OK;
}

static int64_t timeout_of(const sparoa_session_options *o)
{
    if (o->device_timeout_ms < 0 || o->device_timeout_ms > INT64_MAX / 1000000) return 0;
    return 1000000 * (o->device_timeout_ms ? o->device_timeout_ms : DEFAULT_TIMEOUT_MS);
}

/* The program of plan 0: the options' plan, or device and pins. */
static sparoa_status first_program(sparoa_session *s, sp_planned *planned, sparoa_error *err)
{
    sp_graph *graph = planned->graph ? planned->graph : s->graph;
    SP_TRY(sp_program_create(&s->engine, graph, planned->device, &s->program, err));
    sparoa_status status = sp_session_keep_plan(s, s->program, s->program->placement, err);
    if (status != SPAROA_OK)
        sp_program_destroy(s->program);
    else
        planned->graph = NULL; /* the session's from here on */
    return status;
}

/* Passes that the options ask for besides those that always run. */
static const char *passes_of(const sparoa_session_options *o)
{
    static const char *const names[] = {NULL, "tf32", "half"};
    return names[o->precision];
}

static sparoa_status build(sparoa_session *s, const sparoa_session_options *o, sp_planned *planned,
                           sparoa_error *err)
{
    sparoa_runtime *rt = s->model->runtime;
    s->graph = sp_graph_clone(s->model->graph, &rt->alloc);
    if (!s->graph) return sp_no_memory(&rt->alloc, sizeof *s->graph, err);
    const char *without = o->disable_passes;
    if (!without && o->plan) without = sp_plan_passes(o->plan);
    size_t length = without ? strlen(without) + 1 : 0;
    if (length && !(s->without = sp_alloc(&rt->alloc, length)))
        return sp_no_memory(&rt->alloc, length, err);
    if (length) memcpy(s->without, without, length);
    s->enabled = passes_of(o);
    sp_pass_options passes = {.disabled = without,
                              .enabled = s->enabled,
                              .dump_dir = o->dump_dir ? o->dump_dir : rt->knobs.dump,
                              .log = &rt->log};
    SP_TRY(sp_passes_run(s->graph, &passes, err));
    SP_TRY(sp_session_devices(s, o, err));
    if (o->plan) SP_TRY(sp_session_plan(s, o->plan, planned, err));
    bool one = s->preferred == 0 && s->pin_count == 0 && !o->plan;
    SP_TRY(open_queues(s, o, one ? 1 : rt->device_count, err));
    s->engine = (sp_engine){.alloc = rt->alloc,
                            .devices = s->devices,
                            .device_count = one ? 1 : rt->device_count,
                            .place = one ? NULL : sp_session_place,
                            .place_user = s,
                            .pool = rt->pool,
                            .trace = &rt->trace,
                            .log = &rt->log,
                            .profile = o->profile != 0,
                            .observer = o->observer,
                            .observer_user = o->observer_user,
                            .device_timeout_ns = timeout_of(o),
                            .max_frames = o->max_shapes > 0 ? o->max_shapes : DEFAULT_MAX_SHAPES};
    s->bytes = sp_calloc(&rt->alloc, s->graph->output_count, sizeof *s->bytes);
    s->outputs = sp_calloc(&rt->alloc, s->graph->output_count, sizeof *s->outputs);
    if (!s->bytes || !s->outputs) return sp_no_memory(&rt->alloc, sizeof *s->outputs, err);
    SP_TRY(first_program(s, planned, err));
    s->pins = NULL;
    s->pin_count = 0;
    if (s->place_status != SPAROA_OK && err) *err = s->place_error;
    return s->place_status;
}

sparoa_status sparoa_session_create(sparoa_model *model, const sparoa_session_options *options,
                                    sparoa_session **session, sparoa_error *err)
{
    sparoa_session_options o;
    if (!model || !session)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "model or session is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    if ((unsigned)o.precision > SPAROA_PRECISION_FLOAT16)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "precision %d is none of the three",
                           (int)o.precision);
    bool chooses = o.device && strcmp(o.device, "auto") == 0;
    sparoa_session_options host = o; /* what the session itself is */
    if (chooses) {
        host.device = NULL;
        host.precision = SPAROA_PRECISION_FLOAT32;
    }
    sparoa_session *s = sp_calloc(&model->runtime->alloc, 1, sizeof *s);
    if (!s) return sp_no_memory(&model->runtime->alloc, sizeof *s, err);
    s->model = model;
    sp_model_ref(model);
    pthread_mutex_init(&s->mutex, NULL);
    sp_planned planned = {0};
    sparoa_status status = build(s, &host, &planned, err);
    sp_planned_free(s, &planned);
    if (status == SPAROA_OK && chooses) status = sp_auto_open(s, &o, err);
    if (status != SPAROA_OK)
        sparoa_session_destroy(s);
    else
        *session = s;
    return status;
}

void sparoa_session_destroy(sparoa_session *session)
{
    if (!session) return;
    sparoa_model *model = session->model;
    const sparoa_allocator *a = &model->runtime->alloc;
    size_t outputs = session->graph ? session->graph->output_count : 0;
    sp_auto_close(session);
    /* the queues first: nothing that they still hold may outlive what it works on */
    for (int32_t i = 0; i < SP_MAX_DEVICES; i++)
        if (session->devices[i].table) sp_device_close(&session->devices[i]);
    sp_session_drop_plans(session);
    sparoa_session_destroy(session->rescue);
    sp_free(a, session->bytes, outputs * sizeof *session->bytes);
    sp_free(a, session->outputs, outputs * sizeof *session->outputs);
    if (session->without) sp_free(a, session->without, strlen(session->without) + 1);
    sp_graph_destroy(session->graph);
    pthread_mutex_destroy(&session->mutex);
    sp_free(a, session, sizeof *session);
    sp_model_unref(model);
}

/* ---- running ---- */

static void print_shape(char *text, size_t size, const sparoa_tensor *t)
{
    size_t n = (size_t)snprintf(text, size, "[");
    for (int32_t i = 0; i < t->rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, t->dims[i] == -1 ? "%s?" : "%s%lld", i ? "," : "",
                              (long long)t->dims[i]);
    if (n < size) snprintf(text + n, size - n, "]");
}

static sparoa_status shape_error(const sp_value *v, const sparoa_tensor *given, sparoa_error *err)
{
    char want[128], got[128];
    print_shape(want, sizeof want, &v->fact);
    print_shape(got, sizeof got, given);
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, NULL,
                       "input '%.80s' has shape %s, the model expects %s", v->name, got, want);
}

static sparoa_status check_input(const sp_value *v, const sparoa_tensor *t, bool need_data,
                                 sparoa_error *err)
{
    if (t->dtype != v->fact.dtype)
        return sparoa_fail(err, SPAROA_TYPE_MISMATCH, NULL,
                           "input '%.80s' is %s, the model expects %s", v->name,
                           sparoa_dtype_name(t->dtype), sparoa_dtype_name(v->fact.dtype));
    if (t->rank < 0 || t->rank > SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, NULL,
                           "input '%.80s' has rank %d; expected 0 to %d", v->name, t->rank,
                           SPAROA_MAX_RANK);
    if (v->fact.rank >= 0 && t->rank != v->fact.rank) return shape_error(v, t, err);
    for (int32_t i = 0; i < t->rank; i++)
        if (t->dims[i] < 0 ||
            (v->fact.rank >= 0 && v->fact.dims[i] >= 0 && t->dims[i] != v->fact.dims[i]))
            return shape_error(v, t, err);
    if (sp_check_shape(NULL, t, NULL) != SPAROA_OK)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, NULL,
                           "input '%.80s' is too large: more elements than memory can hold",
                           v->name);
    if (need_data && !t->data && sparoa_tensor_count(t) > 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "input '%.80s' has no data",
                           v->name);
    return SPAROA_OK;
}

/* Inputs that share the name of a dynamic dimension must agree on it. */
static sparoa_status check_dim_names(const sp_graph *g, const sparoa_tensor *inputs,
                                     sparoa_error *err)
{
    for (uint32_t i = 0; i < g->input_count; i++) {
        const sp_value *a = &g->values[g->inputs[i]];
        for (int32_t d = 0; a->dim_names && d < inputs[i].rank; d++) {
            for (uint32_t j = 0; a->dim_names[d] && j < i; j++) {
                const sp_value *b = &g->values[g->inputs[j]];
                for (int32_t e = 0; b->dim_names && e < inputs[j].rank; e++)
                    if (b->dim_names[e] && strcmp(a->dim_names[d], b->dim_names[e]) == 0 &&
                        inputs[i].dims[d] != inputs[j].dims[e])
                        return sparoa_fail(
                            err, SPAROA_SHAPE_MISMATCH, NULL,
                            "dimension '%.60s' is %lld in input '%.60s' but %lld in input '%.60s'",
                            a->dim_names[d], (long long)inputs[i].dims[d], a->name,
                            (long long)inputs[j].dims[e], b->name);
            }
        }
    }
    return SPAROA_OK;
}

sparoa_status sp_session_check_inputs(const sparoa_session *s, const sparoa_tensor *inputs,
                                      size_t count, bool need_data, sparoa_error *err)
{
    const sp_graph *g = s->graph;
    if (count != g->input_count)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "%zu inputs given, the model has %u",
                           count, g->input_count);
    if (count && !inputs) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "inputs is NULL");
    for (size_t i = 0; i < count; i++)
        SP_TRY(check_input(&g->values[g->inputs[i]], &inputs[i], need_data, err));
    return check_dim_names(g, inputs, err);
}

sparoa_status sp_session_check_outputs(const sparoa_session *s, const sparoa_tensor *outputs,
                                       size_t count, size_t *bytes, sparoa_error *err)
{
    const sp_graph *g = s->graph;
    if (count != g->output_count)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "%zu outputs given, the model has %u", count, g->output_count);
    if (count && !outputs)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "outputs is NULL");
    for (size_t i = 0; i < count; i++) {
        const sp_value *v = &g->values[g->outputs[i]];
        if (bytes) bytes[i] = 0;
        if (!outputs[i].data) continue;
        if (outputs[i].dtype != v->fact.dtype && v->fact.dtype != SPAROA_UNDEFINED)
            return sparoa_fail(
                err, SPAROA_TYPE_MISMATCH, NULL, "output buffer '%.80s' is %s, the model gives %s",
                v->name, sparoa_dtype_name(outputs[i].dtype), sparoa_dtype_name(v->fact.dtype));
        if (outputs[i].rank < 0 || outputs[i].rank > SPAROA_MAX_RANK ||
            sparoa_tensor_count(&outputs[i]) < 0)
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "output buffer '%.80s' has data but no valid dimensions", v->name);
        if (bytes) bytes[i] = sparoa_tensor_bytes(&outputs[i]);
    }
    return SPAROA_OK;
}

sparoa_status sp_session_run_here(sparoa_session *s, const sparoa_tensor *inputs,
                                  size_t input_count, sparoa_tensor *outputs, size_t output_count,
                                  sparoa_error *err)
{
    SP_TRY(sp_session_check_inputs(s, inputs, input_count, true, err));
    SP_TRY(sp_session_check_outputs(s, outputs, output_count, s->bytes, err));
    int64_t start = sp_now_ns();
    s->engine.run_start_ns = start;
    SP_TRY(sp_engine_settle(&s->engine, err));
    SP_TRY(sp_program_frame(s->program, inputs, &s->frame, err));
    if (output_count) memcpy(s->outputs, outputs, output_count * sizeof *outputs);
    sp_pool_enter(s->engine.pool);
    sparoa_status status = sp_frame_run(s->frame, inputs, NULL, s->outputs, s->bytes, err);
    sp_pool_leave(s->engine.pool);
    if (status != SPAROA_OK) return status;
    if (output_count) memcpy(outputs, s->outputs, output_count * sizeof *outputs);
    int64_t end = sp_now_ns();
    s->last_run_ns = end - start;
    s->runs++;
    sp_trace_add(s->engine.trace, SP_TRACE_RUN, s->graph->name ? s->graph->name : "run", NULL,
                 start, end, 0, 0);
    return SPAROA_OK;
}

/* Whether the run is to be done again on the CPU: a device failed, and the caller allows it. */
static bool falls_back(const sparoa_session *s, sparoa_status status)
{
    bool failed = status == SPAROA_DEVICE_LOST || status == SPAROA_DEVICE_UNAVAILABLE ||
                  status == SPAROA_OUT_OF_MEMORY;
    return failed && s->engine.device_count > 1 && s->fallback != SPAROA_FALLBACK_FORBID;
}

/* The same run on the CPU alone. */
static sparoa_status run_rescue(sparoa_session *s, const sparoa_tensor *inputs, size_t input_count,
                                sparoa_tensor *outputs, size_t output_count, const sp_stop *stop,
                                sparoa_error *err)
{
    if (!s->rescue) {
        sparoa_session_options options = {.struct_size = sizeof options,
                                          .disable_passes = s->without,
                                          .profile = s->engine.profile,
                                          .observer = s->engine.observer,
                                          .observer_user = s->engine.observer_user,
                                          .max_shapes = s->engine.max_frames};
        SP_TRY(sparoa_session_create(s->model, &options, &s->rescue, err));
        sp_log_line(&s->model->runtime->log, SPAROA_LOG_WARN,
                    s->lost ? "a device was lost: the session goes on on the cpu"
                            : "a device failed: the run is done again on the cpu");
    }
    SP_TRY(sp_session_run(s->rescue, inputs, input_count, outputs, output_count, stop, err));
    s->runs++;
    atomic_fetch_add(&s->fallbacks, 1);
    s->last_run_ns = s->rescue->last_run_ns;
    return SPAROA_OK;
}

sparoa_status sp_session_run(sparoa_session *session, const sparoa_tensor *inputs,
                             size_t input_count, sparoa_tensor *outputs, size_t output_count,
                             const sp_stop *stop, sparoa_error *err)
{
    sparoa_error fault = {0};
    pthread_mutex_lock(&session->mutex);
    sparoa_status status = SPAROA_DEVICE_LOST;
    session->engine.stop = stop;
    if (session->choose)
        status = sp_auto_run(session, inputs, input_count, outputs, output_count, stop, &fault);
    else if (!session->lost)
        status = sp_session_run_here(session, inputs, input_count, outputs, output_count, &fault);
    session->engine.stop = NULL;
    if (falls_back(session, status)) {
        session->lost = status == SPAROA_DEVICE_LOST;
        status = run_rescue(session, inputs, input_count, outputs, output_count, stop, &fault);
    }
    pthread_mutex_unlock(&session->mutex);
    if (status == SPAROA_OK || !err) return status;
    if (!fault.message[0]) /* an operator of the application that left it empty */
        snprintf(fault.message, sizeof fault.message, "%s", sparoa_status_text(status));
    fault.status = status;
    *err = fault;
    return status;
}

sparoa_status sparoa_session_run(sparoa_session *session, const sparoa_tensor *inputs,
                                 size_t input_count, sparoa_tensor *outputs, size_t output_count,
                                 sparoa_error *err)
{
    if (!session) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session is NULL");
    return sp_session_run(session, inputs, input_count, outputs, output_count, NULL, err);
}

sparoa_status sparoa_session_run_with(sparoa_session *session, const sparoa_tensor *inputs,
                                      size_t input_count, sparoa_tensor *outputs,
                                      size_t output_count, const sparoa_run_options *options,
                                      sparoa_error *err)
{
    sparoa_run_options o;
    if (!session) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    sp_stop stop = {.cancel = o.cancel ? &o.cancel->requested : NULL, .deadline_ns = o.deadline_ns};
    return sp_session_run(session, inputs, input_count, outputs, output_count, &stop, err);
}

int64_t sparoa_session_fallbacks(const sparoa_session *session)
{
    return session ? atomic_load(&session->fallbacks) : 0;
}

sparoa_status sp_session_prepare_here(sparoa_session *s, const sparoa_tensor *inputs,
                                      size_t input_count, sparoa_error *err)
{
    SP_TRY(sp_session_check_inputs(s, inputs, input_count, false, err));
    SP_TRY(sp_engine_settle(&s->engine, err));
    return sp_program_frame(s->program, inputs, &s->frame, err);
}

sparoa_status sparoa_session_prepare(sparoa_session *session, const sparoa_tensor *inputs,
                                     size_t input_count, sparoa_error *err)
{
    if (!session) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session is NULL");
    pthread_mutex_lock(&session->mutex);
    if (session->lost && session->rescue) {
        sparoa_status status = sparoa_session_prepare(session->rescue, inputs, input_count, err);
        pthread_mutex_unlock(&session->mutex);
        return status;
    }
    sparoa_status status = session->choose
                               ? sp_auto_prepare(session, inputs, input_count, err)
                               : sp_session_prepare_here(session, inputs, input_count, err);
    pthread_mutex_unlock(&session->mutex);
    return status;
}
