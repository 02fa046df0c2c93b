/* Epilogues: bias, residual and activation behind Conv, ConvTranspose, Gemm and MatMul become part
 * of the node (ops/epilogue.h). */
#include <string.h>

#include "graph/passes.h"
#include "graph/rewrite.h"
#include "ops/epilogue.h"

typedef enum fused { NOT_FUSED, FUSED, NO_MEMORY } fused;

typedef struct activation {
    sp_act act;
    float a, b;
} activation;

static bool clip_bounds(const sp_graph *g, const sp_gnode *n, activation *out)
{
    sparoa_node attrs = sp_node_attrs(n);
    double lo = sparoa_attr_float(&attrs, "min", -3.4028235e38f),
           hi = sparoa_attr_float(&attrs, "max", 3.4028235e38f);
    if (n->n_in > 1 && n->in[1] != SP_NO_ID && !sp_const_scalar(g, n, 1, &lo)) return false;
    if (n->n_in > 2 && n->in[2] != SP_NO_ID && !sp_const_scalar(g, n, 2, &hi)) return false;
    *out = (activation){SP_ACT_CLIP, (float)lo, (float)hi};
    return true;
}

/* The activation that a node is, with its parameters. */
static bool read_activation(const sp_graph *g, const sp_gnode *n, activation *out)
{
    sparoa_node attrs = sp_node_attrs(n);
    if (sp_node_is(n, "Clip")) return clip_bounds(g, n, out);
    if (sp_node_is(n, "Relu"))
        *out = (activation){SP_ACT_RELU, 0, 0};
    else if (sp_node_is(n, "LeakyRelu"))
        *out = (activation){SP_ACT_LEAKYRELU, sparoa_attr_float(&attrs, "alpha", 0.01f), 0};
    else if (sp_node_is(n, "Sigmoid"))
        *out = (activation){SP_ACT_SIGMOID, 0, 0};
    else if (sp_node_is(n, "Tanh"))
        *out = (activation){SP_ACT_TANH, 0, 0};
    else if (sp_node_is(n, "HardSigmoid"))
        *out = (activation){SP_ACT_HARDSIGMOID, sparoa_attr_float(&attrs, "alpha", 0.2f),
                            sparoa_attr_float(&attrs, "beta", 0.5f)};
    else if (sp_node_is(n, "HardSwish"))
        *out = (activation){SP_ACT_HARDSWISH, 0, 0};
    else if (sp_node_is(n, "Swish") && sparoa_attr_float(&attrs, "alpha", 1) == 1)
        *out = (activation){SP_ACT_SILU, 0, 0};
    else if (sp_node_is(n, "Gelu"))
        *out = (activation){strcmp(sparoa_attr_string(&attrs, "approximate", "none"), "tanh")
                                ? SP_ACT_GELU
                                : SP_ACT_GELU_TANH,
                            0, 0};
    else
        return false;
    return true;
}

static bool takes_epilogue(const sp_graph *g, const sp_gnode *n)
{
    const sparoa_tensor *in = sp_node_in(g, n, 0);
    if (!in || in->dtype != SPAROA_FLOAT32 || n->dead) return false;
    return sp_node_is(n, "Conv") || sp_node_is(n, "ConvTranspose") || sp_node_is(n, "Gemm") ||
           sp_node_is(n, "MatMul");
}

static bool same_facts(const sparoa_tensor *a, const sparoa_tensor *b)
{
    return a && b && a->dtype == b->dtype && sp_same_shape(a, b);
}

/* Optional inputs that are left out get their place, so that what is appended is the last input. */
static bool append(sp_graph *g, sp_id node, int32_t at_least, sp_id value)
{
    while (g->nodes[node].n_in < at_least)
        if (!sp_node_append_input(g, node, SP_NO_ID)) return false;
    return sp_node_append_input(g, node, value);
}

static int32_t own_inputs(const sp_gnode *n)
{
    return sp_node_is(n, "MatMul") ? 2 : 3;
}

/* Add of a constant [N] behind a MatMul. */
static fused fuse_bias(sp_graph *g, sp_gnode *add, sp_gnode *matmul, int32_t from)
{
    sparoa_node attrs = sp_node_attrs(matmul);
    const sp_value *bias = sp_const_in(g, add, 1 - from);
    const sparoa_tensor *out = sp_node_out(g, matmul, 0);
    if (!sp_node_is(matmul, "MatMul") || attrs.n_attrs || !bias ||
        bias->fact.dtype != SPAROA_FLOAT32)
        return NOT_FUSED;
    int64_t n = out->rank >= 2 ? out->dims[out->rank - 1] : -1;
    if (n <= 0 || bias->fact.rank < 1 || bias->fact.rank > out->rank ||
        sparoa_tensor_count(&bias->fact) != n || bias->fact.dims[bias->fact.rank - 1] != n)
        return NOT_FUSED;
    sp_id node = (sp_id)(matmul - g->nodes), value = add->in[1 - from];
    if (bias->fact.rank > 1)
        value = sp_add_const(g, bias->name, SPAROA_FLOAT32, 1, &n, bias->fact.data);
    return value != SP_NO_ID && append(g, node, 2, value) && sp_node_set_int(g, node, "sp.bias", 1)
               ? FUSED
               : NO_MEMORY;
}

static fused fuse_residual(sp_graph *g, sp_gnode *add, sp_gnode *product, int32_t from)
{
    sparoa_node attrs = sp_node_attrs(product);
    const sparoa_tensor *other = sp_node_in(g, add, 1 - from), *out = sp_node_out(g, product, 0);
    if (sparoa_attr_find(&attrs, "sp.residual") || !same_facts(other, out) || out->rank < 2)
        return NOT_FUSED;
    if (add->in[0] == add->in[1] || g->values[add->in[1 - from]].kind == SP_VALUE_CONST)
        return NOT_FUSED;
    sp_id node = (sp_id)(product - g->nodes);
    bool after = sparoa_attr_find(&attrs, "sp.act") != NULL;
    int32_t at_least = own_inputs(product);
    return append(g, node, at_least, add->in[1 - from]) &&
                   sp_node_set_int(g, node, "sp.residual", after ? 2 : 1)
               ? FUSED
               : NO_MEMORY;
}

static fused fuse_activation(sp_graph *g, const sp_gnode *n, sp_gnode *product)
{
    activation act;
    sparoa_node attrs = sp_node_attrs(product);
    if (!read_activation(g, n, &act) || sparoa_attr_find(&attrs, "sp.act")) return NOT_FUSED;
    sp_id node = (sp_id)(product - g->nodes);
    return sp_node_set_string(g, node, "sp.act", sp_act_names[act.act]) &&
                   sp_node_set_float(g, node, "sp.act_a", act.a) &&
                   sp_node_set_float(g, node, "sp.act_b", act.b)
               ? FUSED
               : NO_MEMORY;
}

/* FUSED if node i was taken into the product in front of it. Where both inputs of an Add are
 * products, the later one takes it: the other is ready by then. */
static fused try_fuse(sp_graph *g, const sp_uses *uses, size_t i)
{
    sp_gnode *n = &g->nodes[i];
    bool add = sp_node_is(n, "Add");
    int32_t best = -1;
    for (int32_t from = 0; from < n->n_in && from < (add ? 2 : 1); from++) {
        sp_gnode *p = sp_producer(g, n, from);
        if (!p || !takes_epilogue(g, p) || uses->count[n->in[from]] != 1) continue;
        if (best < 0 || p > sp_producer(g, n, best)) best = from;
    }
    if (best < 0) return NOT_FUSED;
    sp_gnode *product = sp_producer(g, n, best);
    sp_id node = (sp_id)(product - g->nodes), value = n->out[0];
    fused done = add ? fuse_bias(g, n, product, best) : fuse_activation(g, n, product);
    if (add && done == NOT_FUSED) done = fuse_residual(g, n, product, best);
    if (done != FUSED) return done;
    g->nodes[i].dead = true;
    sp_take_output(g, node, value);
    return FUSED;
}

sparoa_status sp_pass_fuse(sp_graph *graph, sparoa_error *err)
{
    for (bool changed = true; changed;) {
        changed = false;
        sp_uses uses;
        if (!sp_uses_build(&uses, graph, &graph->arena.alloc)) return SP_NO_MEMORY(graph, err);
        size_t count = graph->node_count;
        fused last = NOT_FUSED;
        for (size_t i = 0; i < count && last != NO_MEMORY; i++) {
            last = graph->nodes[i].dead ? NOT_FUSED : try_fuse(graph, &uses, i);
            if (last == FUSED) changed = true;
        }
        sp_uses_free(&uses);
        if (last == NO_MEMORY) return SP_NO_MEMORY(graph, err);
        if (changed) SP_TRY(sp_graph_compact(graph, err));
    }
    return SPAROA_OK;
}
