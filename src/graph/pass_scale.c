/* Folding what scales and shifts channels into the weights in front of it: BatchNormalization, Mul,
 * Div, Add and Sub by a constant per channel, behind Conv, ConvTranspose, Gemm and MatMul with
 * constant weights; and Mul and Div by a constant number into the weights behind them. */
#include <math.h>
#include <string.h>

#include "graph/passes.h"
#include "graph/rewrite.h"

typedef struct channel_map {
    float *scale, *shift; /* one per output channel: y = scale x + shift */
    int64_t channels;
} channel_map;

/* Output channels of a product that can take a scale; 0: it can't. */
static int64_t output_channels(const sp_graph *g, const sp_gnode *n)
{
    const sp_value *w = sp_const_in(g, n, 1);
    sparoa_node attrs = sp_node_attrs(n);
    bool bias_ok = n->n_in < 3 || n->in[2] == SP_NO_ID || sp_const_in(g, n, 2);
    if (!w || !bias_ok || w->fact.dtype != SPAROA_FLOAT32 || sparoa_attr_find(&attrs, "sp.act") ||
        sparoa_attr_find(&attrs, "sp.residual"))
        return 0;
    if (sp_node_is(n, "Conv") && w->fact.rank >= 3) return w->fact.dims[0];
    if (sp_node_is(n, "ConvTranspose") && w->fact.rank >= 3 &&
        sparoa_attr_int(&attrs, "group", 1) == 1)
        return w->fact.dims[1];
    if (sp_node_is(n, "MatMul") && w->fact.rank == 2 && n->n_in == 2) return w->fact.dims[1];
    if (sp_node_is(n, "Gemm") && w->fact.rank == 2 && sparoa_attr_float(&attrs, "beta", 1) == 1) {
        int64_t channels = w->fact.dims[sparoa_attr_int(&attrs, "transB", 0) ? 0 : 1];
        const sp_value *bias = sp_const_in(g, n, 2);
        return !bias || sparoa_tensor_count(&bias->fact) == channels ? channels : 0;
    }
    return 0;
}

/* Where the channel stands in the output of a product. */
static int32_t channel_axis(const sp_gnode *n, int32_t rank)
{
    return sp_node_is(n, "MatMul") ? rank - 1 : 1;
}

/* A float32 constant that has one value, or one per channel at `axis` of a tensor of `rank`. */
static bool read_channels(const sp_value *v, int64_t channels, int32_t rank, int32_t axis,
                          float *to)
{
    if (!v || v->fact.dtype != SPAROA_FLOAT32 || v->fact.rank > rank) return false;
    int64_t count = sparoa_tensor_count(&v->fact);
    if (count != 1 && count != channels) return false;
    int32_t own = axis - (rank - v->fact.rank); /* where the channel stands in the constant */
    if (count > 1 && (own < 0 || v->fact.dims[own] != channels)) return false;
    for (int64_t c = 0; c < channels; c++) to[c] = sp_f32_at(&v->fact, count == 1 ? 0 : c);
    return true;
}

static bool read_batch_norm(const sp_graph *g, const sp_gnode *n, channel_map *m)
{
    sparoa_node attrs = sp_node_attrs(n);
    double epsilon = sparoa_attr_float(&attrs, "epsilon", 1e-5f);
    const sparoa_tensor *p[4]; /* scale, bias, mean, variance */
    if (sparoa_attr_int(&attrs, "training_mode", 0) || sparoa_attr_int(&attrs, "spatial", 1) != 1)
        return false;
    for (int32_t k = 1; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) return false;
    for (int32_t k = 0; k < 4; k++) {
        const sp_value *v = sp_const_in(g, n, k + 1);
        if (!v || v->fact.dtype != SPAROA_FLOAT32 || sparoa_tensor_count(&v->fact) != m->channels)
            return false;
        p[k] = &v->fact;
    }
    for (int64_t c = 0; c < m->channels; c++) {
        double s = sp_f32_at(p[0], c) / sqrt((double)sp_f32_at(p[3], c) + epsilon);
        m->scale[c] = (float)s;
        m->shift[c] = (float)(sp_f32_at(p[1], c) - sp_f32_at(p[2], c) * s);
    }
    return true;
}

/* The map that node n applies to its input number `from`, which has its channels at `axis`. */
static bool read_map(const sp_graph *g, const sp_gnode *n, int32_t from, int32_t rank, int32_t axis,
                     channel_map *m)
{
    const sp_value *other = sp_const_in(g, n, 1 - from);
    for (int64_t c = 0; c < m->channels; c++) {
        m->scale[c] = 1;
        m->shift[c] = 0;
    }
    if (sp_node_is(n, "BatchNormalization"))
        return from == 0 && axis == 1 && read_batch_norm(g, n, m);
    if (sp_node_is(n, "Mul")) return read_channels(other, m->channels, rank, axis, m->scale);
    if (sp_node_is(n, "Add")) return read_channels(other, m->channels, rank, axis, m->shift);
    if (from != 0 || (!sp_node_is(n, "Sub") && !sp_node_is(n, "Div"))) return false;
    bool div = sp_node_is(n, "Div"), fine = true;
    float *to = div ? m->scale : m->shift;
    if (!read_channels(other, m->channels, rank, axis, to)) return false;
    for (int64_t c = 0; c < m->channels; c++) {
        to[c] = div ? 1 / to[c] : -to[c];
        fine = fine && isfinite(to[c]);
    }
    return fine;
}

/* w'[..c..] = scale[c] w, b'[c] = scale[c] b[c] + shift[c]. */
static bool apply_map(sp_graph *g, sp_gnode *conv, const channel_map *m)
{
    const sp_value *w = sp_const_in(g, conv, 1), *b = sp_const_in(g, conv, 2);
    sparoa_tensor wf = w->fact;
    sparoa_node attrs = sp_node_attrs(conv);
    bool outer = sp_node_is(conv, "Conv") ||
                 (sp_node_is(conv, "Gemm") && sparoa_attr_int(&attrs, "transB", 0));
    int32_t axis = outer ? 0 : 1;
    int64_t inner = sp_dims_product(&wf, axis + 1, wf.rank), count = sparoa_tensor_count(&wf);
    sp_id new_b =
        sp_add_const(g, "folded_bias", SPAROA_FLOAT32, 1, &m->channels, b ? b->fact.data : NULL);
    if (new_b == SP_NO_ID) return false;
    sp_id new_w =
        sp_add_const(g, g->values[conv->in[1]].name, SPAROA_FLOAT32, wf.rank, wf.dims, wf.data);
    if (new_w == SP_NO_ID) return false;
    float *wd = g->values[new_w].fact.data, *bd = g->values[new_b].fact.data;
    for (int64_t i = 0; i < count; i++) wd[i] *= m->scale[i / inner % m->channels];
    for (int64_t c = 0; c < m->channels; c++) bd[c] = bd[c] * m->scale[c] + m->shift[c];
    conv->in[1] = new_w;
    if (conv->n_in > 2)
        conv->in[2] = new_b;
    else if (!sp_node_append_input(g, (sp_id)(conv - g->nodes), new_b))
        return false;
    return true;
}

/* Values made in this round are not in the count. */
static bool used_once(const sp_uses *uses, sp_id value)
{
    return value < uses->values && uses->count[value] == 1;
}

static bool shifts(const channel_map *m)
{
    for (int64_t c = 0; c < m->channels; c++)
        if (m->shift[c] != 0) return true;
    return false;
}

/* MatMul has no bias: what is scaled goes into its weights, a shift is added behind it. */
static bool apply_to_matmul(sp_graph *g, sp_id node, const channel_map *m)
{
    const sparoa_tensor w = g->values[g->nodes[node].in[1]].fact;
    sp_id scaled =
        sp_add_const(g, g->values[g->nodes[node].in[1]].name, SPAROA_FLOAT32, 2, w.dims, w.data);
    if (scaled == SP_NO_ID) return false;
    float *to = g->values[scaled].fact.data;
    int64_t count = sparoa_tensor_count(&w);
    for (int64_t i = 0; i < count; i++) to[i] *= m->scale[i % m->channels];
    g->nodes[node].in[1] = scaled;
    return true;
}

static bool add_shift(sp_graph *g, sp_id node, const channel_map *m, sp_id value)
{
    sp_id in[2] = {g->nodes[node].out[0],
                   sp_add_const(g, "shift", SPAROA_FLOAT32, 1, &m->channels, m->shift)};
    sp_id sum = in[1] == SP_NO_ID ? SP_NO_ID : sp_insert_node(g, "Add", 14, "shifted", in, 2);
    if (sum == SP_NO_ID) return false;
    sp_take_output(g, g->values[sum].producer, value);
    return true;
}

static bool make_map(sp_graph *g, int64_t channels, channel_map *m)
{
    *m = (channel_map){.channels = channels};
    m->scale = sp_arena_alloc(&g->arena, 2 * (size_t)channels * sizeof(float));
    if (m->scale) m->shift = m->scale + channels;
    return m->scale != NULL;
}

/* Node n, which scales the output of a product, is folded into it. */
static sparoa_status fold_into(sp_graph *g, const sp_uses *uses, size_t i, bool *changed,
                               sparoa_error *err)
{
    sp_gnode *n = &g->nodes[i];
    for (int32_t from = 0; from < n->n_in && from < 2; from++) {
        sp_gnode *product = sp_producer(g, n, from);
        channel_map m;
        if (!product || product->dead || !used_once(uses, n->in[from])) continue;
        int64_t channels = output_channels(g, product);
        int32_t rank = sp_node_out(g, product, 0)->rank;
        if (!channels || rank < 2) continue;
        if (!make_map(g, channels, &m)) return SP_NO_MEMORY(g, err);
        if (!read_map(g, n, from, rank, channel_axis(product, rank), &m)) continue;
        sp_id node = (sp_id)(product - g->nodes), value = n->out[0];
        bool matmul = sp_node_is(product, "MatMul"), shift = matmul && shifts(&m);
        if (matmul && (sp_node_is(n, "Add") || sp_node_is(n, "Sub"))) continue;
        g->nodes[i].dead = true;
        bool ok = matmul ? apply_to_matmul(g, node, &m) : apply_map(g, product, &m);
        if (ok && shift)
            ok = add_shift(g, node, &m, value);
        else if (ok)
            sp_take_output(g, node, value);
        if (!ok) return SP_NO_MEMORY(g, err);
        *changed = true;
        return SPAROA_OK;
    }
    return SPAROA_OK;
}

/* Mul or Div by one number in front of a product becomes part of its weights. */
static sparoa_status fold_number(sp_graph *g, const sp_uses *uses, size_t i, bool *changed,
                                 sparoa_error *err)
{
    sp_gnode *n = &g->nodes[i];
    sp_gnode *mul = n->n_in ? sp_producer(g, n, 0) : NULL;
    if (!mul || mul->dead || mul->n_in != 2 || !used_once(uses, n->in[0])) return SPAROA_OK;
    bool div = sp_node_is(mul, "Div");
    if ((!div && !sp_node_is(mul, "Mul")) || !output_channels(g, n)) return SPAROA_OK;
    for (int32_t from = 0; from < (div ? 1 : 2); from++) {
        const sp_value *v = sp_const_in(g, mul, 1 - from);
        const sparoa_tensor *x = sp_node_in(g, mul, from);
        if (!v || !x || sparoa_tensor_count(&v->fact) != 1 || v->fact.rank > x->rank) continue;
        double c = sp_get_f64(&v->fact, 0);
        if (div) c = 1 / c;
        if (v->fact.dtype != SPAROA_FLOAT32 || !isfinite(c)) continue;
        const sparoa_tensor w = g->values[n->in[1]].fact;
        sp_id x_id = mul->in[from];
        sp_id scaled =
            sp_add_const(g, g->values[n->in[1]].name, SPAROA_FLOAT32, w.rank, w.dims, w.data);
        if (scaled == SP_NO_ID) return SP_NO_MEMORY(g, err);
        float *to = g->values[scaled].fact.data;
        int64_t count = sparoa_tensor_count(&w);
        for (int64_t k = 0; k < count; k++) to[k] = (float)(to[k] * c);
        mul->dead = true;
        n->in[0] = x_id;
        n->in[1] = scaled;
        *changed = true;
        return SPAROA_OK;
    }
    return SPAROA_OK;
}

/* (product + b) s is product s + b s, where the product is one that takes a scale but no bias. */
static sparoa_status swap_sum(sp_graph *g, const sp_uses *uses, size_t i, bool *changed,
                              sparoa_error *err)
{
    sp_gnode *n = &g->nodes[i];
    bool div = sp_node_is(n, "Div");
    if (n->n_in != 2 || (!div && !sp_node_is(n, "Mul"))) return SPAROA_OK;
    for (int32_t k = 0; k < (div ? 2 : 4); k++) {
        int32_t from = k / 2, at = k % 2; /* the sum, and the product in it */
        sp_gnode *add = sp_producer(g, n, from);
        if (!add || add->dead || !sp_node_is(add, "Add") || !used_once(uses, n->in[from])) continue;
        sp_gnode *product = sp_producer(g, add, at);
        if (!product || product->dead || !sp_node_is(product, "MatMul")) continue;
        int64_t channels = output_channels(g, product);
        int32_t rank = sp_node_out(g, product, 0)->rank;
        channel_map m, sum;
        if (!channels || rank < 2 || !used_once(uses, add->in[at])) continue;
        if (!make_map(g, channels, &m) || !make_map(g, channels, &sum)) return SP_NO_MEMORY(g, err);
        if (!read_map(g, n, from, rank, rank - 1, &m) ||
            !read_map(g, add, at, rank, rank - 1, &sum))
            continue;
        for (int64_t c = 0; c < channels; c++) m.shift[c] = sum.shift[c] * m.scale[c];
        sp_id node = (sp_id)(product - g->nodes), value = n->out[0];
        n->dead = add->dead = true;
        if (!apply_to_matmul(g, node, &m) || !add_shift(g, node, &m, value))
            return SP_NO_MEMORY(g, err);
        *changed = true;
        return SPAROA_OK;
    }
    return SPAROA_OK;
}

sparoa_status sp_pass_scale(sp_graph *graph, sparoa_error *err)
{
    for (bool changed = true; changed;) {
        changed = false;
        sp_uses uses;
        if (!sp_uses_build(&uses, graph, &graph->arena.alloc)) return SP_NO_MEMORY(graph, err);
        size_t count = graph->node_count;
        sparoa_status status = SPAROA_OK;
        for (size_t i = 0; status == SPAROA_OK && i < count; i++) {
            if (!graph->nodes[i].dead) status = fold_into(graph, &uses, i, &changed, err);
            if (status == SPAROA_OK && !graph->nodes[i].dead)
                status = fold_number(graph, &uses, i, &changed, err);
            if (status == SPAROA_OK && !graph->nodes[i].dead)
                status = swap_sum(graph, &uses, i, &changed, err);
        }
        sp_uses_free(&uses);
        SP_TRY(status);
        if (!changed) break;
        SP_TRY(sp_graph_compact(graph, err));
    }
    return SPAROA_OK;
}
