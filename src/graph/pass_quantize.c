/* Quantised models spell an 8-bit operator as DequantizeLinear, the float operator, QuantizeLinear.
 * Where scales and zero points are constant, the three become one operator on 8-bit values:
 * QLinearConv, QLinearAdd, QLinearGlobalAveragePool, or the same operator where values are only
 * moved. A Relu or Clip in front of the QuantizeLinear goes where the 8-bit range already ends
 * there. */
#include <math.h>
#include <string.h>

#include "graph/passes.h"
#include "graph/rewrite.h"

/* Scale and zero point of one QuantizeLinear or DequantizeLinear, with one element or one per
 * channel at axis 0. */
typedef struct quantisation {
    sp_id q; /* the 8-bit (or 32-bit) side */
    sp_id scale, zero;
    sparoa_dtype type;
    int64_t count; /* of scales */
} quantisation;

static bool read_scale(sp_graph *g, const sp_gnode *n, sparoa_dtype type, quantisation *out)
{
    const sp_value *scale = sp_const_in(g, n, 1);
    sparoa_node attrs = sp_node_attrs(n);
    if (!scale || scale->fact.dtype != SPAROA_FLOAT32 || sparoa_attr_int(&attrs, "block_size", 0))
        return false;
    out->count = sparoa_tensor_count(&scale->fact);
    out->scale = n->in[1];
    out->type = type;
    bool has_zero = n->n_in > 2 && n->in[2] != SP_NO_ID;
    if (has_zero && !sp_const_in(g, n, 2)) return false;
    out->zero = has_zero ? n->in[2] : SP_NO_ID;
    return out->count >= 1;
}

/* The DequantizeLinear that makes input k of n; its own input is to be of one of two types. */
static bool read_input(sp_graph *g, const sp_gnode *n, int32_t k, quantisation *out)
{
    const sp_gnode *dq = sp_producer(g, n, k);
    if (!dq || dq->dead || !sp_node_is(dq, "DequantizeLinear")) return false;
    const sparoa_tensor *q = sp_node_in(g, dq, 0);
    out->q = dq->in[0];
    return read_scale(g, dq, q->dtype, out);
}

static bool is_byte(sparoa_dtype t)
{
    return t == SPAROA_UINT8 || t == SPAROA_INT8;
}

static double zero_of(const sp_graph *g, const quantisation *q)
{
    return q->zero == SP_NO_ID ? 0 : sp_get_f64(&g->values[q->zero].fact, 0);
}

static double scale_of(const sp_graph *g, const quantisation *q, int64_t i)
{
    return sp_get_f64(&g->values[q->scale].fact, q->count > 1 ? i : 0);
}

/* A zero point that is left out becomes a constant 0 of the type. */
static bool complete(sp_graph *g, quantisation *q)
{
    if (q->zero != SP_NO_ID) return true;
    q->zero = sp_add_const(g, "zero_point", q->type, 0, NULL, NULL);
    return q->zero != SP_NO_ID;
}

/* Whether the range of q, as real numbers, lies within lo..hi, half a step let pass. */
static bool range_within(const sp_graph *g, const quantisation *q, double lo, double hi)
{
    double least = q->type == SPAROA_UINT8 ? 0 : -128, most = least + 255, s = scale_of(g, q, 0),
           z = zero_of(g, q);
    return (least - z) * s >= lo - s / 2 && (most - z) * s <= hi + s / 2;
}

/* Steps over a Relu or Clip between the operator and the QuantizeLinear; NULL: it does something.
 */
static sp_gnode *behind_activation(sp_graph *g, const sp_uses *uses, sp_gnode *n,
                                   const quantisation *y, sp_gnode **act)
{
    double lo = -INFINITY, hi = INFINITY;
    sparoa_node attrs = sp_node_attrs(n);
    *act = NULL;
    if (sp_node_is(n, "Relu")) {
        lo = 0;
    } else if (sp_node_is(n, "Clip")) {
        lo = sparoa_attr_float(&attrs, "min", -INFINITY);
        hi = sparoa_attr_float(&attrs, "max", INFINITY);
        if (n->n_in > 1 && n->in[1] != SP_NO_ID && !sp_const_scalar(g, n, 1, &lo)) return NULL;
        if (n->n_in > 2 && n->in[2] != SP_NO_ID && !sp_const_scalar(g, n, 2, &hi)) return NULL;
    } else {
        return n;
    }
    if (!range_within(g, y, lo, hi) || uses->count[n->in[0]] != 1) return NULL;
    *act = n;
    return sp_producer(g, n, 0);
}

/* Bias in steps of x_scale * w_scale: what the file has, or worked out from it. */
static sp_id make_bias(sp_graph *g, const sp_gnode *conv, const quantisation *x,
                       const quantisation *w, int64_t channels, bool *ok)
{
    quantisation b;
    *ok = true;
    if (conv->n_in < 3 || conv->in[2] == SP_NO_ID) return SP_NO_ID;
    bool raw = read_input(g, conv, 2, &b) && b.type == SPAROA_INT32 &&
               g->values[b.q].kind == SP_VALUE_CONST && zero_of(g, &b) == 0;
    const sp_value *real = raw ? NULL : sp_const_in(g, conv, 2);
    if (!raw && (!real || real->fact.dtype != SPAROA_FLOAT32)) {
        *ok = false;
        return SP_NO_ID;
    }
    const sparoa_tensor *from = raw ? &g->values[b.q].fact : &real->fact;
    int32_t *values = sp_arena_alloc(&g->arena, (size_t)channels * sizeof *values);
    *ok = values && sparoa_tensor_count(from) == channels;
    for (int64_t c = 0; *ok && c < channels; c++) {
        double step = scale_of(g, x, 0) * scale_of(g, w, c);
        double v = sp_get_f64(from, c) * (raw ? scale_of(g, &b, c) / step : 1 / step);
        *ok = fabs(v) < 2147483000.0;
        values[c] = *ok ? (int32_t)nearbyint(v) : 0;
    }
    sp_id id = *ok ? sp_add_const(g, "bias_q", SPAROA_INT32, 1, &channels, values) : SP_NO_ID;
    if (id == SP_NO_ID) *ok = false;
    return id;
}

/* The new node takes over the output of the QuantizeLinear. */
static bool replace(sp_graph *g, sp_id quantise, const char *domain, const char *op_type,
                    int32_t version, const sp_id *in, int32_t n_in, const sparoa_attr *attrs,
                    int32_t n_attrs)
{
    const sparoa_op *op = sp_op_find(domain, op_type, version, NULL, 0);
    sp_id out = g->nodes[quantise].out[0];
    if (!op) return false;
    g->nodes[quantise].dead = true;
    return sp_graph_add_node(g, g->nodes[quantise].name, op, version, in, n_in, &out, 1, attrs,
                             n_attrs) != SP_NO_ID;
}

static bool same_channels(const sp_graph *g, const quantisation *w, int64_t channels)
{
    if (w->count != 1 && w->count != channels) return false;
    return w->zero == SP_NO_ID || sparoa_tensor_count(&g->values[w->zero].fact) == 1 ||
           sparoa_tensor_count(&g->values[w->zero].fact) == channels;
}

static bool quantise_conv(sp_graph *g, sp_id quantise, sp_id node, quantisation *y, bool *done)
{
    quantisation x, w;
    const sp_gnode *conv = &g->nodes[node];
    if (!read_input(g, conv, 0, &x) || !is_byte(x.type) || x.count != 1) return true;
    if (!read_input(g, conv, 1, &w) || !is_byte(w.type) || g->values[w.q].kind != SP_VALUE_CONST)
        return true;
    sparoa_tensor fact = g->values[w.q].fact;
    const sp_gnode *dq = sp_producer(g, conv, 1);
    sparoa_node dq_attrs = sp_node_attrs(dq);
    if (fact.rank < 3 || !same_channels(g, &w, fact.dims[0])) return true;
    if (w.count > 1 && sparoa_attr_int(&dq_attrs, "axis", 1) != 0) return true;
    bool ok;
    sp_id bias = make_bias(g, conv, &x, &w, fact.dims[0], &ok);
    if (!ok) return true;
    if (!complete(g, &x) || !complete(g, &w) || !complete(g, y)) return false;
    sp_id in[9] = {x.q, x.scale, x.zero, w.q, w.scale, w.zero, y->scale, y->zero, bias};
    *done = true;
    conv = &g->nodes[node];
    return replace(g, quantise, "", "QLinearConv", 10, in, bias == SP_NO_ID ? 8 : 9, conv->attrs,
                   conv->n_attrs);
}

static bool quantise_add(sp_graph *g, sp_id quantise, sp_id node, quantisation *y, bool *done)
{
    quantisation a, b;
    if (!read_input(g, &g->nodes[node], 0, &a) || !read_input(g, &g->nodes[node], 1, &b))
        return true;
    if (!is_byte(a.type) || a.type != b.type || a.type != y->type || a.count != 1 || b.count != 1)
        return true;
    if (!complete(g, &a) || !complete(g, &b) || !complete(g, y)) return false;
    sp_id in[8] = {a.q, a.scale, a.zero, b.q, b.scale, b.zero, y->scale, y->zero};
    *done = true;
    return replace(g, quantise, "com.microsoft", "QLinearAdd", 1, in, 8, NULL, 0);
}

static bool quantise_pool(sp_graph *g, sp_id quantise, sp_id node, quantisation *y, bool *done)
{
    quantisation x;
    if (!read_input(g, &g->nodes[node], 0, &x) || !is_byte(x.type) || x.type != y->type ||
        x.count != 1)
        return true;
    if (!complete(g, &x) || !complete(g, y)) return false;
    sp_id in[5] = {x.q, x.scale, x.zero, y->scale, y->zero};
    *done = true;
    return replace(g, quantise, "com.microsoft", "QLinearGlobalAveragePool", 1, in, 5, NULL, 0);
}

static bool same_quantisation(const sp_graph *g, const quantisation *a, const quantisation *b)
{
    return a->type == b->type && a->count == 1 && b->count == 1 &&
           scale_of(g, a, 0) == scale_of(g, b, 0) && zero_of(g, a) == zero_of(g, b);
}

/* Operators that only move or compare values work on the 8-bit ones if both sides have one scale.
 */
static bool quantise_move(sp_graph *g, sp_id quantise, sp_id node, quantisation *y, bool *done)
{
    quantisation x;
    static const char *const movers[] = {"MaxPool",   "Reshape", "Flatten",
                                         "Transpose", "Squeeze", "Unsqueeze"};
    bool moves = false;
    for (size_t k = 0; k < sizeof movers / sizeof *movers; k++)
        moves = moves || sp_node_is(&g->nodes[node], movers[k]);
    if (!moves || g->nodes[node].n_out != 1 || !read_input(g, &g->nodes[node], 0, &x)) return true;
    if (!is_byte(x.type) || !same_quantisation(g, &x, y)) return true;
    sp_gnode *n = &g->nodes[node];
    *done = true;
    n->in[0] = x.q;
    sp_id out = g->nodes[quantise].out[0];
    g->nodes[quantise].dead = true;
    sp_take_output(g, node, out);
    return true;
}

static bool quantise_node(sp_graph *g, const sp_uses *uses, sp_id i)
{
    quantisation y;
    const sp_gnode *q = &g->nodes[i];
    const sparoa_tensor *out = sp_node_out(g, q, 0);
    if (q->dead || !sp_node_is(q, "QuantizeLinear") || !out || !is_byte(out->dtype)) return true;
    sp_gnode *n = sp_producer(g, q, 0), *act;
    if (!n || n->dead || uses->count[q->in[0]] != 1 || !read_scale(g, q, out->dtype, &y) ||
        y.count != 1)
        return true;
    n = behind_activation(g, uses, n, &y, &act);
    if (!n || n->dead) return true;
    sp_id node = (sp_id)(n - g->nodes), act_id = act ? (sp_id)(act - g->nodes) : SP_NO_ID;
    bool done = false, ok = true, moved = false;
    if (sp_node_is(n, "Conv"))
        ok = quantise_conv(g, i, node, &y, &done);
    else if (sp_node_is(n, "Add"))
        ok = quantise_add(g, i, node, &y, &done);
    else if (sp_node_is(n, "GlobalAveragePool"))
        ok = quantise_pool(g, i, node, &y, &done);
    else if (!act) {
        ok = quantise_move(g, i, node, &y, &done);
        moved = done;
    }
    if (done && !moved) g->nodes[node].dead = true;
    if (done && act_id != SP_NO_ID) g->nodes[act_id].dead = true;
    return ok;
}

sparoa_status sp_pass_quantize(sp_graph *graph, sparoa_error *err)
{
    sp_uses uses;
    if (!sp_uses_build(&uses, graph, &graph->arena.alloc)) return SP_NO_MEMORY(graph, err);
    size_t count = graph->node_count;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) ok = quantise_node(graph, &uses, (sp_id)i);
    sp_uses_free(&uses);
    return ok ? SPAROA_OK : SP_NO_MEMORY(graph, err);
}
