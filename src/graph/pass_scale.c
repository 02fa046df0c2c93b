/* Folding what scales and shifts channels into the weights in front of it: BatchNormalization, Mul
 * and Add by a constant per channel, behind Conv, ConvTranspose and Gemm with constant weights. */
#include <math.h>
#include <string.h>

#include "graph/passes.h"
#include "graph/rewrite.h"

typedef struct channel_map {
    float *scale, *shift; /* one per output channel: y = scale x + shift */
    int64_t channels;
} channel_map;

/* Output channels of a Conv, ConvTranspose or Gemm that can take a scale; 0: it can't. */
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
    if (sp_node_is(n, "Gemm") && w->fact.rank == 2 && sparoa_attr_float(&attrs, "beta", 1) == 1) {
        int64_t channels = w->fact.dims[sparoa_attr_int(&attrs, "transB", 0) ? 0 : 1];
        const sp_value *bias = sp_const_in(g, n, 2);
        return !bias || sparoa_tensor_count(&bias->fact) == channels ? channels : 0;
    }
    return 0;
}

/* A float32 constant that has one value, or one per channel at axis 1 of a tensor of `rank`. */
static bool read_channels(const sp_value *v, int64_t channels, int32_t rank, float *to)
{
    if (!v || v->fact.dtype != SPAROA_FLOAT32 || v->fact.rank > rank) return false;
    int64_t count = sparoa_tensor_count(&v->fact);
    if (count != 1 && count != channels) return false;
    int32_t axis = 1 - (rank - v->fact.rank); /* where the channel stands in the constant */
    if (count > 1 && (axis < 0 || v->fact.dims[axis] != channels)) return false;
    for (int64_t c = 0; c < channels; c++)
        to[c] = ((const float *)v->fact.data)[count == 1 ? 0 : c];
    return true;
}

static bool read_batch_norm(const sp_graph *g, const sp_gnode *n, channel_map *m)
{
    sparoa_node attrs = sp_node_attrs(n);
    double epsilon = sparoa_attr_float(&attrs, "epsilon", 1e-5f);
    const sp_value *p[4];
    if (sparoa_attr_int(&attrs, "training_mode", 0) || sparoa_attr_int(&attrs, "spatial", 1) != 1)
        return false;
    for (int32_t k = 1; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) return false;
    for (int32_t k = 0; k < 4; k++) {
        p[k] = sp_const_in(g, n, k + 1);
        if (!p[k] || p[k]->fact.dtype != SPAROA_FLOAT32 ||
            sparoa_tensor_count(&p[k]->fact) != m->channels)
            return false;
    }
    const float *scale = p[0]->fact.data, *bias = p[1]->fact.data, *mean = p[2]->fact.data,
                *var = p[3]->fact.data;
    for (int64_t c = 0; c < m->channels; c++) {
        double s = scale[c] / sqrt((double)var[c] + epsilon);
        m->scale[c] = (float)s;
        m->shift[c] = (float)(bias[c] - mean[c] * s);
    }
    return true;
}

/* The map that node n applies to its input number `from`. */
static bool read_map(const sp_graph *g, const sp_gnode *n, int32_t from, int32_t rank,
                     channel_map *m)
{
    for (int64_t c = 0; c < m->channels; c++) {
        m->scale[c] = 1;
        m->shift[c] = 0;
    }
    if (sp_node_is(n, "BatchNormalization")) return from == 0 && read_batch_norm(g, n, m);
    if (sp_node_is(n, "Mul"))
        return read_channels(sp_const_in(g, n, 1 - from), m->channels, rank, m->scale);
    if (sp_node_is(n, "Add"))
        return read_channels(sp_const_in(g, n, 1 - from), m->channels, rank, m->shift);
    if (sp_node_is(n, "Sub") && from == 0) {
        if (!read_channels(sp_const_in(g, n, 1), m->channels, rank, m->shift)) return false;
        for (int64_t c = 0; c < m->channels; c++) m->shift[c] = -m->shift[c];
        return true;
    }
    return false;
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

static sparoa_status fold_into(sp_graph *g, const sp_uses *uses, size_t i, bool *changed,
                               sparoa_error *err)
{
    sp_gnode *n = &g->nodes[i];
    for (int32_t from = 0; from < n->n_in && from < 2; from++) {
        sp_gnode *conv = sp_producer(g, n, from);
        if (!conv || conv->dead || uses->count[n->in[from]] != 1) continue;
        const sparoa_tensor *out = sp_node_out(g, conv, 0);
        channel_map m = {.channels = output_channels(g, conv)};
        if (!m.channels || out->rank < 2) continue;
        m.scale = sp_arena_alloc(&g->arena, 2 * (size_t)m.channels * sizeof(float));
        if (!m.scale) return SP_NO_MEMORY(g, err);
        m.shift = m.scale + m.channels;
        if (!read_map(g, n, from, out->rank, &m)) continue;
        sp_id node = (sp_id)(conv - g->nodes), value = n->out[0];
        if (!apply_map(g, conv, &m)) return SP_NO_MEMORY(g, err);
        g->nodes[i].dead = true;
        sp_take_output(g, node, value);
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
        for (size_t i = 0; status == SPAROA_OK && i < count; i++)
            if (!graph->nodes[i].dead) status = fold_into(graph, &uses, i, &changed, err);
        sp_uses_free(&uses);
        SP_TRY(status);
        if (!changed) break;
        SP_TRY(sp_graph_compact(graph, err));
    }
    return SPAROA_OK;
}
