/* The static profile of a graph. */
#include "profile/profile.h"

#include <math.h>
#include <stdlib.h>

#include "graph/infer.h"
#include "graph/passes.h"
#include "ops/op.h"

#define MAX_COUNTED ((int64_t)1 << 28) /* elements of a constant whose zeros are counted */

const char *sp_regime_disabled_passes(sp_regime regime)
{
    return regime == SP_REGIME_EAGER ? "pattern,attention,scale,fuse,layout,clean" : NULL;
}

const char *sp_regime_name(sp_regime regime)
{
    return regime == SP_REGIME_EAGER ? "eager" : "graph";
}

static sparoa_status set_inputs(sp_graph *g, const sparoa_tensor *inputs, size_t count,
                                sparoa_error *err)
{
    if (count != g->input_count)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "%zu input shapes, the model has %u",
                           count, g->input_count);
    for (size_t i = 0; i < count; i++) {
        sp_value *v = &g->values[g->inputs[i]];
        const sparoa_tensor *t = &inputs[i];
        bool fits = sp_known(t) && (v->fact.rank < 0 || v->fact.rank == t->rank);
        for (int32_t k = 0; fits && v->fact.rank >= 0 && k < t->rank; k++)
            fits = v->fact.dims[k] < 0 || v->fact.dims[k] == t->dims[k];
        if (!fits)
            return sparoa_fail(
                err, SPAROA_SHAPE_MISMATCH, NULL,
                "input '%.80s': the shape is not the model's, or has open dimensions", v->name);
        v->fact.rank = t->rank;
        memcpy(v->fact.dims, t->dims, sizeof v->fact.dims);
    }
    return SPAROA_OK;
}

/* Share of zeros in the float constants of a node, -1 without any. */
static double count_zeros(const sp_graph *g, const sp_gnode *n)
{
    int64_t all = 0, zeros = 0;
    for (int32_t k = 0; k < n->n_in; k++) {
        const sp_value *v = n->in[k] == SP_NO_ID ? NULL : &g->values[n->in[k]];
        if (!v || v->kind != SP_VALUE_CONST || v->fact.dtype != SPAROA_FLOAT32 || !v->fact.data)
            continue;
        int64_t count = sparoa_tensor_count(&v->fact);
        if (count < 2 || count > MAX_COUNTED) continue;
        const float *x = v->fact.data;
        for (int64_t i = 0; i < count; i++) zeros += x[i] == 0;
        all += count;
    }
    return all ? (double)zeros / (double)all : -1;
}

static double dim(const sparoa_tensor *t, int32_t axis)
{
    return axis >= 0 && axis < t->rank && t->dims[axis] > 0 ? (double)t->dims[axis] : 1;
}

static double first_int(const sparoa_node *view, const char *name)
{
    size_t count;
    const int64_t *v = sparoa_attr_ints(view, name, &count);
    return v && count && v[0] > 0 ? (double)v[0] : 1;
}

static void shape_features(const sp_graph *g, const sp_gnode *n, const sparoa_node *view,
                           sp_profile_node *p)
{
    p->batch = p->channels = p->height = p->width = p->in_channels = 1;
    p->kernel = first_int(view, "kernel_shape");
    p->stride = first_int(view, "strides");
    int64_t groups = sparoa_attr_int(view, "group", 1);
    p->groups = groups > 0 ? (double)groups : 1;
    const sparoa_tensor *in = sparoa_in(view, 0), *out = sparoa_out(view, 0);
    if (out && out->rank > 0) {
        bool last = g->values[n->out[0]].nhwc || out->rank < 4;
        p->batch = dim(out, 0);
        p->channels = dim(out, last ? out->rank - 1 : 1);
        p->height = dim(out, last ? out->rank - 3 : 2);
        p->width = dim(out, last ? out->rank - 2 : 3);
        if (out->rank < 4 && out->rank > 1) p->height = 1;
    }
    if (in && in->rank > 0) {
        bool last = g->values[n->in[0]].nhwc || in->rank < 3;
        p->in_channels = dim(in, last ? in->rank - 1 : 1);
    }
}

/* How a permutation moves data: whether rows keep together, and the binary logarithm of their
 * length in the result. */
enum { MOVE_WIDTHS = 13 };
static const char *const move_names[2][MOVE_WIDTHS] = {
    {"mixed0", "mixed1", "mixed2", "mixed3", "mixed4", "mixed5", "mixed6", "mixed7", "mixed8",
     "mixed9", "mixed10", "mixed11", "mixed12"},
    {"rows0", "rows1", "rows2", "rows3", "rows4", "rows5", "rows6", "rows7", "rows8", "rows9",
     "rows10", "rows11", "rows12"}};

const char *sp_profile_variant(const char *text)
{
    static const char *const plain[2] = {"mixed", "rows"};
    for (int kind = 0; kind < 2; kind++) {
        if (strcmp(text, plain[kind]) == 0) return plain[kind];
        for (int i = 0; i < MOVE_WIDTHS; i++)
            if (strcmp(text, move_names[kind][i]) == 0) return move_names[kind][i];
    }
    return NULL;
}

static const char *move_variant(const int64_t *perm, size_t axes, const sparoa_tensor *out)
{
    size_t axis = axes;
    double length = 1;
    bool rows = perm[axes - 1] == (int64_t)axes - 1;
    do {
        axis--;
        length *= dim(out, (int32_t)axis);
    } while (rows && axis > 0 && perm[axis - 1] == (int64_t)axis - 1);
    int width = (int)fmin(log2(length), MOVE_WIDTHS - 1);
    return move_names[rows][width];
}

static void node_features(const sp_graph *g, const sp_gnode *n, const sparoa_node *view,
                          sp_profile_node *p)
{
    bool known = true;
    for (int32_t k = 0; known && k < n->n_in; k++) known = !view->in[k] || sp_known(view->in[k]);
    for (int32_t k = 0; known && k < n->n_out; k++) known = !view->out[k] || sp_known(view->out[k]);
    if (known && n->op->op_class != SPAROA_CLASS_CONTROL) sp_op_cost(n->op, view, &p->cost);
    p->op_class = n->op->op_class;
    p->kind = (int)n->op->op_class;
    p->weight_zeros = count_zeros(g, n);
    p->input_zeros = p->output_zeros = -1;
    shape_features(g, n, view, p);
    size_t axes;
    const int64_t *perm = sparoa_attr_ints(view, "perm", &axes);
    const sparoa_tensor *out = sparoa_out(view, 0);
    if (axes && out && out->rank == (int32_t)axes) p->variant = move_variant(perm, axes, out);
    if (n->op->flags & SPAROA_OP_VIEW) p->kind = SP_KIND_VIEW;
    if (p->op_class == SPAROA_CLASS_CONV && p->groups > 1 && p->groups == p->in_channels)
        p->kind = SP_KIND_DEPTHWISE;
}

typedef struct builder {
    sp_profile *p;
    const sp_graph *g;
    uint32_t *index; /* by value of the graph: value of the profile, or SP_NO_ID */
    sparoa_tensor **in, **out;
    bool *constant;
} builder;

static bool add_value(builder *b, sp_id id, uint32_t producer)
{
    const sp_value *v = &b->g->values[id];
    sp_profile_value *to = &b->p->values[b->p->value_count];
    to->name = sp_arena_strdup(&b->p->arena, v->name);
    to->producer = producer;
    to->bytes = (double)sparoa_tensor_bytes(&v->fact);
    b->index[id] = b->p->value_count++;
    return to->name != NULL;
}

static bool add_node(builder *b, const sp_gnode *n)
{
    sp_profile *p = b->p;
    uint32_t index = p->node_count++;
    sp_profile_node *to = &p->nodes[index];
    sparoa_node view;
    sp_graph_node_view(b->g, n, b->in, b->out, b->constant, &view);
    node_features(b->g, n, &view, to);
    to->name = sp_arena_strdup(&p->arena, n->name);
    to->op = sp_arena_strdup(&p->arena, n->op_type);
    to->first_in = p->read_count;
    for (int32_t k = 0; k < n->n_in; k++) {
        uint32_t v = n->in[k] == SP_NO_ID ? SP_NO_ID : b->index[n->in[k]];
        for (uint32_t r = to->first_in; v != SP_NO_ID && r < p->read_count; r++)
            if (p->reads[r] == v) v = SP_NO_ID;
        if (v != SP_NO_ID) p->reads[p->read_count++] = v;
    }
    to->n_in = p->read_count - to->first_in;
    to->first_out = p->value_count;
    for (int32_t k = 0; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID && !add_value(b, n->out[k], index)) return false;
    to->n_out = p->value_count - to->first_out;
    return to->name && to->op;
}

static sparoa_status fill(sp_profile *p, const sp_graph *g, sparoa_error *err)
{
    size_t reads = 0, widest = 1;
    for (size_t i = 0; i < g->node_count; i++) {
        size_t width = (size_t)(g->nodes[i].n_in + g->nodes[i].n_out);
        reads += (size_t)g->nodes[i].n_in;
        widest = width > widest ? width : widest;
    }
    sp_arena scratch;
    sp_arena_init(&scratch, &p->alloc);
    builder b = {.p = p, .g = g};
    b.index = sp_arena_alloc(&scratch, (g->value_count + 1) * sizeof *b.index);
    b.in = sp_arena_alloc(&scratch, widest * sizeof *b.in);
    b.out = sp_arena_alloc(&scratch, widest * sizeof *b.out);
    b.constant = sp_arena_alloc(&scratch, widest);
    p->nodes = sp_arena_alloc(&p->arena, (g->node_count + 1) * sizeof *p->nodes);
    p->values = sp_arena_alloc(&p->arena, (g->value_count + 1) * sizeof *p->values);
    p->reads = sp_arena_alloc(&p->arena, (reads + 1) * sizeof *p->reads);
    bool good = b.index && b.in && b.out && b.constant && p->nodes && p->values && p->reads;
    if (good) memset(b.index, 0xff, g->value_count * sizeof *b.index);
    for (uint32_t i = 0; good && i < g->input_count; i++)
        good = add_value(&b, g->inputs[i], SP_PROFILE_INPUT);
    for (size_t i = 0; good && i < g->node_count; i++) good = add_node(&b, &g->nodes[i]);
    for (uint32_t i = 0; good && i < g->output_count; i++)
        if (b.index[g->outputs[i]] != SP_NO_ID) p->values[b.index[g->outputs[i]]].output = true;
    sp_arena_destroy(&scratch);
    return good ? SPAROA_OK : sp_no_memory(&p->alloc, g->node_count * sizeof *p->nodes, err);
}

/* passes NULL: the graph has been through them. */
static sparoa_status create(const sparoa_allocator *alloc, const sp_graph *graph, const char *model,
                            const sparoa_tensor *inputs, size_t input_count, sp_regime regime,
                            const sp_pass_options *passes, sp_profile **profile, sparoa_error *err)
{
    sp_graph *g = sp_graph_clone(graph, alloc);
    sp_profile *p = sp_calloc(alloc, 1, sizeof *p);
    sparoa_status status = SPAROA_OK;
    if (!g || !p) status = sp_no_memory(alloc, sizeof *p, err);
    if (status == SPAROA_OK) {
        p->alloc = *alloc;
        p->regime = regime;
        sp_arena_init(&p->arena, alloc);
        p->model = sp_arena_strdup(&p->arena, model ? model : "");
        if (!p->model) status = sp_no_memory(alloc, 64, err);
    }
    if (status == SPAROA_OK) status = set_inputs(g, inputs, input_count, err);
    if (status == SPAROA_OK) status = sp_graph_infer(g, err);
    if (status == SPAROA_OK && passes) status = sp_passes_run(g, passes, err);
    if (status == SPAROA_OK) status = fill(p, g, err);
    sp_graph_destroy(g);
    if (status == SPAROA_OK)
        *profile = p;
    else if (p && p->model)
        sp_profile_destroy(p);
    else
        sp_free(alloc, p, sizeof *p);
    return status;
}

sparoa_status sp_profile_create(const sparoa_allocator *alloc, const sp_graph *graph,
                                const char *model, const sparoa_tensor *inputs, size_t input_count,
                                sp_regime regime, sp_profile **profile, sparoa_error *err)
{
    const sp_log silent = {0};
    sp_pass_options passes = {.disabled = sp_regime_disabled_passes(regime), .log = &silent};
    return create(alloc, graph, model, inputs, input_count, regime, &passes, profile, err);
}

sparoa_status sp_profile_of_graph(const sparoa_allocator *alloc, const sp_graph *graph,
                                  const sparoa_tensor *inputs, size_t input_count,
                                  sp_profile **profile, sparoa_error *err)
{
    return create(alloc, graph, graph->name, inputs, input_count, SP_REGIME_GRAPH, NULL, profile,
                  err);
}

void sp_profile_destroy(sp_profile *profile)
{
    if (!profile) return;
    sparoa_allocator alloc = profile->alloc;
    sp_free(&alloc, profile->times, profile->node_count * SP_PROFILE_TIMES * sizeof(float));
    sp_arena_destroy(&profile->arena);
    sp_free(&alloc, profile, sizeof *profile);
}

uint32_t sp_profile_find(const sp_profile *profile, const char *name)
{
    for (uint32_t i = 0; i < profile->node_count; i++)
        if (strcmp(profile->nodes[i].name, name) == 0) return i;
    return SP_NO_ID;
}

/* ---- measured times ---- */

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

bool sp_profile_record(sp_profile *p, uint32_t device, const double *ns)
{
    if (!p->times) p->times = sp_calloc(&p->alloc, p->node_count * SP_PROFILE_TIMES, sizeof(float));
    if (!p->times) return p->node_count == 0;
    if (p->times_device != device) p->times_count = 0;
    p->times_device = device;
    uint32_t slot = p->times_count++ % SP_PROFILE_TIMES;
    uint32_t kept = p->times_count < SP_PROFILE_TIMES ? p->times_count : SP_PROFILE_TIMES;
    for (uint32_t i = 0; i < p->node_count; i++) {
        float sorted[SP_PROFILE_TIMES], *mine = p->times + (size_t)i * SP_PROFILE_TIMES;
        mine[slot] = (float)ns[i];
        memcpy(sorted, mine, kept * sizeof *sorted);
        qsort(sorted, kept, sizeof *sorted, ascending);
        p->nodes[i].measured_ns[device] = sorted[kept / 2];
        p->nodes[i].spread_ns[device] = (double)sorted[kept * 3 / 4] - (double)sorted[kept / 4];
    }
    return true;
}

bool sp_profile_label(const sp_profile_node *node, char *label, size_t size)
{
    char variant[32] = "";
    bool filter = node->op_class == SPAROA_CLASS_CONV;
    double tokens = node->height > 1 ? node->height : node->width;
    if (node->variant)
        snprintf(variant, sizeof variant, ".%s", node->variant);
    else if (filter)
        snprintf(variant, sizeof variant, ".k%.0fs%.0f", node->kernel, node->stride);
    else if (node->op_class == SPAROA_CLASS_ATTENTION)
        snprintf(variant, sizeof variant, ".t%.0f", floor(log2(fmax(1, tokens))));
    int n = snprintf(label, size, "%s%s", node->op, variant);
    return n > 0 && (size_t)n < size;
}

uint32_t sp_profile_key(const sp_profile_node *node)
{
    char label[160] = "";
    sp_profile_label(node, label, sizeof label);
    return sp_op_key(label);
}

/* ---- quadrants ---- */

double sp_node_sparsity(const sp_profile_node *node)
{
    double zeros = node->input_zeros > node->weight_zeros ? node->input_zeros : node->weight_zeros;
    return zeros > 0 ? zeros : 0;
}

double sp_flops_per_byte(const sp_profile_node *node)
{
    double bytes = node->cost.bytes_in + node->cost.bytes_w + node->cost.bytes_out;
    return bytes > 0 ? node->cost.flops / bytes : 0;
}

sp_quadrant sp_quadrant_of(const sp_profile_node *node, const sp_thresholds *thresholds)
{
    const sp_thresholds rule = {SP_RULE_SPARSITY, SP_RULE_FLOPS},
                        *t = thresholds ? thresholds : &rule;
    int sparse = sp_node_sparsity(node) >= t->sparsity, heavy = node->cost.flops >= t->flops;
    return (sp_quadrant)(2 * sparse + heavy);
}

const char *sp_quadrant_name(sp_quadrant quadrant)
{
    static const char *const names[] = {"dense+light", "dense+heavy", "sparse+light",
                                        "sparse+heavy"};
    return names[quadrant];
}
