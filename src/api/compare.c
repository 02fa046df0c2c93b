/* Every node of a session on two devices, from the same inputs, so that a difference is the node's
 * own and not what those before it left. */
#include <string.h>

#include "api/objects.h"
#include "graph/passes.h"
#include "ops/tolerance.h"

#define CONTROL_LENGTH 1e4 /* terms that a body's sums may have */

typedef struct comparison {
    sparoa_session *session, *run, *apart; /* run: all values are outputs; apart: each node alone */
    sp_graph *graph; /* the session's, made once more: its own may have given constants back */
    const sparoa_tensor *inputs;
    sparoa_tensor *values, *fed, *results; /* of run by output, into apart, out of it */
    uint32_t fed_count;
    sp_id *written;   /* values that nodes write, in the order of outputs */
    uint32_t *output; /* by value: its output + 1, or 0 */
    uint32_t count;
    size_t value_count;
    sparoa_error *err;
} comparison;

static const sparoa_allocator *alloc_of(const comparison *c)
{
    return &c->session->model->runtime->alloc;
}

static sparoa_status no_memory(const comparison *c)
{
    return sp_no_memory(alloc_of(c), c->value_count * sizeof *c->values, c->err);
}

static sparoa_status make_graph(comparison *c)
{
    const sparoa_session *s = c->session;
    const sp_pass_options passes = {
        .disabled = s->without, .enabled = s->enabled, .log = &s->model->runtime->log};
    c->graph = sp_graph_clone(s->model->graph, alloc_of(c));
    return c->graph ? sp_passes_run(c->graph, &passes, c->err) : no_memory(c);
}

static sparoa_status list_values(comparison *c)
{
    const sp_graph *g = c->graph;
    const sparoa_allocator *a = alloc_of(c);
    c->value_count = g->value_count;
    c->written = sp_calloc(a, g->value_count, sizeof *c->written);
    c->output = sp_calloc(a, g->value_count, sizeof *c->output);
    c->values = sp_calloc(a, g->value_count, sizeof *c->values);
    c->results = sp_calloc(a, g->value_count, sizeof *c->results);
    c->fed = sp_calloc(a, g->value_count + g->input_count, sizeof *c->fed);
    if (!c->written || !c->output || !c->values || !c->results || !c->fed) return no_memory(c);
    for (size_t v = 0; v < g->value_count; v++) {
        if (g->values[v].producer == SP_NO_ID) continue;
        c->written[c->count++] = (sp_id)v;
        c->output[v] = c->count;
    }
    return SPAROA_OK;
}

/* A copy of the session's graph that gives out every value that a node writes. */
static sp_graph *open_graph(const comparison *c)
{
    sp_graph *g = sp_graph_clone(c->graph, alloc_of(c));
    if (!g) return NULL;
    g->outputs = sp_arena_copy(&g->arena, c->written, c->count * sizeof *c->written);
    g->output_count = c->count;
    if (g->outputs || !c->count) return g;
    sp_graph_destroy(g);
    return NULL;
}

static sparoa_status open_session(comparison *c, sp_graph *graph, const char *device,
                                  bool reference, sparoa_session **session)
{
    sparoa_model *model;
    sparoa_session_options o = {.struct_size = sizeof o,
                                .disable_passes = "all",
                                .reference = reference,
                                .device = device,
                                .fallback = SPAROA_FALLBACK_ALLOW};
    SP_TRY(sp_model_of_graph(c->session->model->runtime, graph, &model, c->err));
    sparoa_status status = sparoa_session_create(model, &o, session, c->err);
    sparoa_model_destroy(model);
    return status;
}

static sparoa_status run_all(comparison *c)
{
    sparoa_runtime *rt = c->session->model->runtime;
    sp_graph *g = open_graph(c);
    if (!g) return no_memory(c);
    bool reference = c->session->devices[0].dev == rt->reference.dev && rt->reference.dev;
    SP_TRY(open_session(c, g, rt->names[c->session->preferred], reference, &c->run));
    return sparoa_session_run(c->run, c->inputs, g->input_count, c->values, c->count, c->err);
}

/* A value that is worked out from shapes stays known, so that the nodes that ask for it can be
 * prepared as they were. */
static sp_id add_known(const comparison *c, sp_graph *g, sp_id value, const char *name)
{
    const sparoa_tensor *t = &c->values[c->output[value] - 1];
    size_t bytes = sparoa_tensor_bytes(t);
    sp_blob *blob = sp_blob_create(alloc_of(c), bytes);
    if (!blob) return SP_NO_ID;
    if (bytes) memcpy(blob->data, t->data, bytes);
    return sp_graph_add_const(g, name, t, blob);
}

/* What stands for a value in the graph of nodes that are alone. */
static sp_id stand_in(comparison *c, sp_graph *g, sp_id value)
{
    char *wanted = sp_arena_printf(&g->arena, "%s/in", g->values[value].name);
    const char *name = wanted ? sp_graph_unique_name(g, wanted) : NULL;
    if (!name) return SP_NO_ID;
    if (c->run->frame->locations[value].place == SP_PLACE_KNOWN)
        return add_known(c, g, value, name);
    sp_id id = sp_graph_add_value(g, name, SP_VALUE_INPUT);
    if (id == SP_NO_ID) return id;
    const sparoa_tensor *t = &c->values[c->output[value] - 1];
    g->values[id].nhwc = g->values[value].nhwc;
    g->values[id].fact = *t;
    g->values[id].fact.data = NULL;
    g->inputs[g->input_count++] = id;
    c->fed[c->fed_count++] = *t;
    return id;
}

static sparoa_status separate(comparison *c, sp_graph *g, sp_id *stands)
{
    sp_id *inputs = sp_arena_alloc(&g->arena, (g->input_count + c->count) * sizeof *inputs);
    if (!inputs) return no_memory(c);
    if (g->input_count) memcpy(inputs, g->inputs, g->input_count * sizeof *inputs);
    g->inputs = inputs;
    for (uint32_t i = 0; i < g->input_count; i++) {
        sp_value *v = &g->values[g->inputs[i]];
        v->fact = c->inputs[i];
        v->fact.data = NULL;
        v->dim_names = NULL;
        c->fed[c->fed_count++] = c->inputs[i];
    }
    for (size_t i = 0; i < g->node_count; i++)
        for (int32_t k = 0; k < g->nodes[i].n_in; k++) {
            sp_id v = g->nodes[i].in[k];
            if (v == SP_NO_ID || v >= c->value_count || !c->output[v]) continue;
            if (stands[v] == SP_NO_ID && (stands[v] = stand_in(c, g, v)) == SP_NO_ID)
                return no_memory(c);
            g->nodes[i].in[k] = stands[v];
        }
    return SPAROA_OK;
}

static sparoa_status run_apart(comparison *c, const char *device)
{
    const sparoa_allocator *a = alloc_of(c);
    bool reference = strcmp(device, "reference") == 0;
    sp_graph *g = open_graph(c);
    sp_id *stands = sp_calloc(a, c->value_count, sizeof *stands);
    sparoa_status status = g && stands ? SPAROA_OK : no_memory(c);
    for (size_t v = 0; status == SPAROA_OK && v < c->value_count; v++) stands[v] = SP_NO_ID;
    if (status == SPAROA_OK) status = separate(c, g, stands);
    if (stands) sp_free(a, stands, c->value_count * sizeof *stands);
    if (status != SPAROA_OK) {
        sp_graph_destroy(g);
        return status;
    }
    SP_TRY(open_session(c, g, reference ? "cpu" : device, reference, &c->apart));
    return sparoa_session_run(c->apart, c->fed, c->fed_count, c->results, c->count, c->err);
}

/* ---- comparing ---- */

static bool same_bits(const sparoa_tensor *a, const sparoa_tensor *b, int64_t i)
{
    size_t size = sparoa_dtype_size(a->dtype);
    return memcmp((const char *)a->data + (size_t)i * size,
                  (const char *)b->data + (size_t)i * size, size) == 0;
}

static void compare_values(sparoa_node_comparison *r, const sp_allowed *allowed)
{
    const sparoa_tensor *want = &r->got, *got = &r->other;
    double largest = 0;
    int64_t count = sp_count(want);
    r->worst = -1;
    if (got->dtype != want->dtype || !sp_same_shape(got, want)) {
        r->wrong = count > 0 ? count : 1;
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        double v = fabs(sp_get_f64(want, i));
        if (isfinite(v) && v > largest) largest = v;
    }
    for (int64_t i = 0; i < count; i++) {
        if (same_bits(want, got, i)) continue;
        double w = sp_get_f64(want, i), v = sp_get_f64(got, i), error = fabs(w - v);
        if (w == v && sp_is_float(want->dtype)) continue; /* zeros of two signs */
        if (isnan(w) && isnan(v)) continue;
        double bound = sp_is_float(want->dtype)
                           ? allowed->relative * fabs(w) + allowed->scaled * largest
                           : allowed->steps;
        if (!(error <= r->max_error)) r->worst = i;
        if (error > r->max_error) r->max_error = error;
        r->wrong += !(error <= bound) || (bound == 0);
        if (!isfinite(error)) r->max_error = INFINITY;
    }
    r->scaled_error = largest > 0 ? r->max_error / largest : r->max_error;
    r->scaled_allowed = allowed->scaled + allowed->relative;
}

/* Terms of a sum: from the operator's own count of its work, else from how much it reads. */
static double length_of(const sp_frame *f, size_t i, const sparoa_tensor *out)
{
    double outputs = (double)(sp_count(out) > 0 ? sp_count(out) : 1);
    const sparoa_tensor *in = sparoa_in(&f->nodes[i].view, 0);
    double read = in && sp_known(in) ? (double)sp_count(in) : outputs;
    return fmax(f->nodes[i].cost.flops / 2, read) / outputs;
}

static void report_node(const comparison *c, size_t i, sparoa_comparison_fn report, void *user)
{
    const sp_graph *g = c->run->program->graph;
    const sp_gnode *n = &g->nodes[i];
    sparoa_node_info here, there;
    if (sparoa_session_node(c->run, i, &here) || sparoa_session_node(c->apart, i, &there)) return;
    const sparoa_node view = {.attrs = n->attrs, .n_attrs = n->n_attrs};
    bool control = n->op->op_class == SPAROA_CLASS_CONTROL; /* whatever its body computes */
    sparoa_tolerance class = control ? SPAROA_TOL_SUM : n->op->tolerance;
    bool tf32 = sparoa_attr_int(&view, "sp.tf32", 0) == 1;
    for (int32_t k = 0; k < n->n_out; k++) {
        if (n->out[k] == SP_NO_ID) continue;
        uint32_t at = c->output[n->out[k]] - 1;
        sparoa_node_comparison r = {.node = here.name,
                                    .op = here.op,
                                    .value = g->values[n->out[k]].name,
                                    .tolerance = sp_tolerance_name(class),
                                    .device = here.device,
                                    .other_device = there.device,
                                    .got = c->values[at],
                                    .other = c->results[at]};
        double length = control ? CONTROL_LENGTH : length_of(c->run->frame, i, &r.got);
        sp_allowed allowed = sp_tolerance_of(class, r.got.dtype, length, tf32);
        if (n->op->flags & SPAROA_OP_RANDOM)
            r.tolerance = "random";
        else
            compare_values(&r, &allowed);
        report(user, &r);
    }
}

sparoa_status sparoa_session_compare(sparoa_session *session, const char *device,
                                     const sparoa_tensor *inputs, size_t input_count,
                                     sparoa_comparison_fn report, void *user, sparoa_error *err)
{
    if (!session || !device || !report)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session, device or report is NULL");
    comparison c = {.session = session, .inputs = inputs, .err = err};
    pthread_mutex_lock(&session->mutex);
    sparoa_status status = sp_session_check_inputs(session, inputs, input_count, true, err);
    if (status == SPAROA_OK) status = make_graph(&c);
    if (status == SPAROA_OK) status = list_values(&c);
    if (status == SPAROA_OK) status = run_all(&c);
    if (status == SPAROA_OK) status = run_apart(&c, device);
    for (size_t i = 0; status == SPAROA_OK && i < c.graph->node_count; i++)
        report_node(&c, i, report, user);
    const sparoa_allocator *a = alloc_of(&c);
    uint32_t input_room = session->graph->input_count;
    sp_graph_destroy(c.graph);
    pthread_mutex_unlock(&session->mutex);
    sparoa_session_destroy(c.run);
    sparoa_session_destroy(c.apart);
    if (c.written) sp_free(a, c.written, c.value_count * sizeof *c.written);
    if (c.output) sp_free(a, c.output, c.value_count * sizeof *c.output);
    if (c.values) sp_free(a, c.values, c.value_count * sizeof *c.values);
    if (c.results) sp_free(a, c.results, c.value_count * sizeof *c.results);
    if (c.fed) sp_free(a, c.fed, (c.value_count + input_room) * sizeof *c.fed);
    return status;
}
