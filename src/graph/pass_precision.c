/* Precision of a session. Pass "half" lets most operators work on float16: values get a second
 * form, in float16, constants are converted once, and Casts stand where the two forms meet, which
 * is at the graph's inputs and outputs unless an operator in between has to stay in float32. Pass
 * "tf32" marks products, which may then round their operands to 10 bits of mantissa on devices that
 * have such arithmetic; others ignore the mark. */
#include <math.h>
#include <string.h>

#include "graph/passes.h"
#include "graph/rewrite.h"
#include "ops/half.h"

#define LARGEST_HALF 65504.0f

/* Operators whose float tensors may all be float16. Those that are missing here stay in float32. */
static const char *const half_ops[] = {"Abs",
                                       "Add",
                                       "Attention",
                                       "AveragePool",
                                       "BatchNormalization",
                                       "BiasGelu",
                                       "Ceil",
                                       "Celu",
                                       "Clip",
                                       "Concat",
                                       "Conv",
                                       "ConvTranspose",
                                       "DepthToSpace",
                                       "Div",
                                       "Elu",
                                       "Erf",
                                       "Exp",
                                       "Expand",
                                       "Flatten",
                                       "Floor",
                                       "FusedConv",
                                       "FusedGemm",
                                       "FusedMatMul",
                                       "Gather",
                                       "Gelu",
                                       "Gemm",
                                       "GlobalAveragePool",
                                       "GlobalMaxPool",
                                       "GroupNormalization",
                                       "HardSigmoid",
                                       "HardSwish",
                                       "Identity",
                                       "InstanceNormalization",
                                       "LayerNormalization",
                                       "LeakyRelu",
                                       "LogSoftmax",
                                       "MatMul",
                                       "Max",
                                       "MaxPool",
                                       "Min",
                                       "Mish",
                                       "Mul",
                                       "Neg",
                                       "PRelu",
                                       "Pad",
                                       "QuickGelu",
                                       "Relu",
                                       "Reshape",
                                       "Resize",
                                       "Selu",
                                       "Sigmoid",
                                       "SkipLayerNormalization",
                                       "Slice",
                                       "Softmax",
                                       "Softplus",
                                       "SpaceToDepth",
                                       "Split",
                                       "Sqrt",
                                       "Squeeze",
                                       "Sub",
                                       "Sum",
                                       "Swish",
                                       "Tanh",
                                       "Tile",
                                       "Transpose",
                                       "Unsqueeze",
                                       "Upsample",
                                       "Where"};

typedef struct forms {
    sp_id full, half; /* SP_NO_ID: not made yet */
} forms;

typedef struct halves {
    sp_graph *g;
    forms *of; /* by value id of the graph before the pass */
    size_t count;
} halves;

static bool named(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, list[i]) == 0) return true;
    return false;
}

static bool fits_half(const sparoa_tensor *t)
{
    int64_t n = sparoa_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        float v = sp_f32_at(t, i);
        if (isfinite(v) && fabsf(v) > LARGEST_HALF) return false;
    }
    return true;
}

/* Scales and regions of Resize are float32 by definition. */
static bool converts(const halves *h, const sp_gnode *n, int32_t k)
{
    const sparoa_tensor *t = sp_node_in(h->g, n, k);
    bool sizes = strcmp(n->op_type, "Resize") == 0 || strcmp(n->op_type, "Upsample") == 0;
    return t && t->dtype == SPAROA_FLOAT32 && !(sizes && k > 0);
}

static bool wants_half(const halves *h, const sp_gnode *n)
{
    if (n->n_subgraphs || !named(n->op_type, half_ops, sizeof half_ops / sizeof *half_ops))
        return false;
    bool any = false;
    for (int32_t k = 0; k < n->n_in; k++) {
        const sparoa_tensor *t = sp_node_in(h->g, n, k);
        if (t && (t->dtype == SPAROA_FLOAT64 || t->dtype == SPAROA_BFLOAT16)) return false;
        if (!converts(h, n, k)) continue;
        const sp_value *c = sp_const_in(h->g, n, k);
        if (c && !fits_half(&c->fact)) return false;
        any = true;
    }
    return any;
}

static sp_id constant_half(halves *h, const sp_value *v)
{
    sparoa_tensor f = v->fact;
    sp_id id = sp_add_const(h->g, v->name, SPAROA_FLOAT16, f.rank, f.dims, NULL);
    if (id == SP_NO_ID) return SP_NO_ID;
    uint16_t *to = h->g->values[id].fact.data;
    int64_t n = sparoa_tensor_count(&f);
    for (int64_t i = 0; i < n; i++) to[i] = sp_f16_of_f32(sp_f32_at(&f, i));
    return id;
}

static sp_id add_cast(halves *h, sp_id from, sparoa_dtype type)
{
    sp_graph *g = h->g;
    sp_id out = sp_insert_node(g, "Cast", 13, g->values[from].name, &from, 1);
    if (out == SP_NO_ID || !sp_node_set_int(g, g->values[out].producer, "to", type))
        return SP_NO_ID;
    const sparoa_tensor f = g->values[from].fact;
    sp_set_shape(&g->values[out].fact, type, f.rank, f.dims);
    g->values[out].nhwc = g->values[from].nhwc;
    return out;
}

static sp_id want_half(halves *h, sp_id value)
{
    if (value >= h->count) return value;
    forms *f = &h->of[value];
    if (f->half == SP_NO_ID) {
        const sp_value *v = &h->g->values[f->full];
        f->half =
            v->kind == SP_VALUE_CONST ? constant_half(h, v) : add_cast(h, f->full, SPAROA_FLOAT16);
    }
    return f->half;
}

/* The value keeps its name and users; a Cast of its half form writes it now. */
static sp_id want_full(halves *h, sp_id value)
{
    if (value >= h->count || h->of[value].full != SP_NO_ID) return value;
    sp_id copy = add_cast(h, h->of[value].half, SPAROA_FLOAT32);
    if (copy == SP_NO_ID) return SP_NO_ID;
    sp_take_output(h->g, h->g->values[copy].producer, value);
    h->of[value].full = value;
    return value;
}

/* Output k of node i is written in float16 from now on. */
static bool give_half(halves *h, size_t i, int32_t k)
{
    sp_id value = h->g->nodes[i].out[k];
    if (value == SP_NO_ID || h->g->values[value].fact.dtype != SPAROA_FLOAT32) return true;
    sp_id half = sp_add_value(h->g, h->g->values[value].name);
    if (half == SP_NO_ID) return false;
    sp_value *v = &h->g->values[half], *old = &h->g->values[value];
    sp_set_shape(&v->fact, SPAROA_FLOAT16, old->fact.rank, old->fact.dims);
    v->nhwc = old->nhwc;
    v->model_name = old->model_name ? old->model_name : old->name;
    v->producer = (sp_id)i;
    h->g->nodes[i].out[k] = half;
    old->producer = SP_NO_ID;
    h->of[value] = (forms){SP_NO_ID, half};
    return true;
}

static bool convert_node(halves *h, size_t i)
{
    bool half = wants_half(h, &h->g->nodes[i]);
    bool shape_only = (h->g->nodes[i].op->flags & SPAROA_OP_SHAPE_ONLY) != 0;
    for (int32_t k = 0; k < h->g->nodes[i].n_in; k++) {
        sp_id in = h->g->nodes[i].in[k];
        if (in == SP_NO_ID || in >= h->count) continue;
        sp_id to = in;
        if (half && converts(h, &h->g->nodes[i], k))
            to = want_half(h, in);
        else if (shape_only && h->of[in].full == SP_NO_ID)
            to = h->of[in].half;
        else
            to = want_full(h, in);
        if (to == SP_NO_ID) return false;
        h->g->nodes[i].in[k] = to;
    }
    for (int32_t k = 0; half && k < h->g->nodes[i].n_out; k++)
        if (!give_half(h, i, k)) return false;
    return true;
}

sparoa_status sp_pass_half(sp_graph *graph, sparoa_error *err)
{
    const sparoa_allocator *a = &graph->arena.alloc;
    halves h = {.g = graph, .count = graph->value_count};
    size_t nodes = graph->node_count;
    h.of = sp_alloc(a, h.count * sizeof *h.of);
    if (!h.of) return SP_NO_MEMORY(graph, err);
    for (size_t v = 0; v < h.count; v++) h.of[v] = (forms){(sp_id)v, SP_NO_ID};
    bool ok = true;
    for (size_t i = 0; ok && i < nodes; i++) ok = convert_node(&h, i);
    for (uint32_t k = 0; ok && k < graph->output_count; k++)
        ok = want_full(&h, graph->outputs[k]) != SP_NO_ID;
    sp_free(a, h.of, h.count * sizeof *h.of);
    return ok ? SPAROA_OK : SP_NO_MEMORY(graph, err);
}

sparoa_status sp_pass_tf32(sp_graph *graph, sparoa_error *err)
{
    static const char *const products[] = {"Conv",        "ConvTranspose", "FusedConv",
                                           "Gemm",        "FusedGemm",     "MatMul",
                                           "FusedMatMul", "Attention"};
    for (size_t i = 0; i < graph->node_count; i++) {
        const sp_gnode *n = &graph->nodes[i];
        const sparoa_tensor *x = sp_node_in(graph, n, 0);
        if (!x || x->dtype != SPAROA_FLOAT32 || n->dead ||
            !named(n->op_type, products, sizeof products / sizeof *products))
            continue;
        if (!sp_node_set_int(graph, (sp_id)i, "sp.tf32", 1)) return SP_NO_MEMORY(graph, err);
    }
    return SPAROA_OK;
}
