/* Operands that repeat themselves although the operator would repeat them on its own: Expand in
 * front of element-wise operators, constants that are the same along an axis. */
#include <string.h>

#include "graph/pattern.h"

/* Dimension of t that goes with dimension d of a tensor of `rank`. */
static int64_t dim_at(const sparoa_tensor *t, int32_t rank, int32_t d)
{
    int32_t own = d - (rank - t->rank);
    return own < 0 ? 1 : t->dims[own];
}

/* The output keeps its shape if input k becomes `small`: where that changes a dimension, another
 * input has the output's. */
static bool covered(const sp_pattern *p, const sp_gnode *n, int32_t k, const sparoa_tensor *small)
{
    const sparoa_tensor *out = sp_node_out(p->g, n, 0), *now = sp_node_in(p->g, n, k);
    if (!out || out->rank < 0 || now->rank < 0 || small->rank < 0 || now->rank > out->rank)
        return false;
    bool rank = small->rank == out->rank || small->rank == now->rank;
    for (int32_t j = 0; j < n->n_in; j++) {
        const sparoa_tensor *t = sp_node_in(p->g, n, j);
        if (!t || t->rank < 0) return false;
        if (j != k && t->rank == out->rank) rank = true;
    }
    for (int32_t d = 0; rank && d < out->rank; d++) {
        int64_t want = out->dims[d], s = dim_at(small, out->rank, d);
        bool same = s >= 0 && (s == dim_at(now, out->rank, d) || s == want);
        for (int32_t j = 0; j < n->n_in && !same; j++)
            same = j != k && want > 0 && dim_at(sp_node_in(p->g, n, j), out->rank, d) == want;
        rank = same;
    }
    return rank;
}

static bool use_unexpanded(sp_pattern *p, sp_id node, int32_t k)
{
    sp_gnode *n = &p->g->nodes[node];
    const sp_gnode *expand = sp_pattern_from(p, n->in[k], "Expand");
    const sparoa_tensor *small = expand ? sp_node_in(p->g, expand, 0) : NULL;
    if (!small || !covered(p, n, k, small)) return false;
    n->in[k] = expand->in[0];
    return true;
}

/* Whether t, of known values, is the same all along the axis. */
static bool repeats(const sparoa_tensor *t, int32_t axis)
{
    int64_t outer = sp_dims_product(t, 0, axis), dim = t->dims[axis];
    size_t inner = (size_t)sp_dims_product(t, axis + 1, t->rank) * sparoa_dtype_size(t->dtype);
    const char *at = t->data;
    for (int64_t o = 0; o < outer; o++, at += (size_t)dim * inner)
        for (int64_t i = 1; i < dim; i++)
            if (memcmp(at, at + (size_t)i * inner, inner) != 0) return false;
    return true;
}

/* The elements of `from` that come first along each axis where `to` has only one. */
static void copy_first(const sparoa_tensor *from, sparoa_tensor *to)
{
    size_t size = sparoa_dtype_size(from->dtype);
    int64_t strides[SPAROA_MAX_RANK], index[SPAROA_MAX_RANK] = {0}, count = sparoa_tensor_count(to);
    sp_strides(from, strides);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = 0;
        for (int32_t d = 0; d < to->rank; d++) at += index[d] * strides[d];
        memcpy((char *)to->data + (size_t)i * size, (const char *)from->data + (size_t)at * size,
               size);
        for (int32_t d = to->rank - 1; d >= 0 && ++index[d] == to->dims[d]; d--) index[d] = 0;
    }
}

static bool shrink_constant(sp_pattern *p, sp_id node, int32_t k)
{
    const sp_value *v = sp_const_in(p->g, &p->g->nodes[node], k);
    if (!v || !v->fact.data || sparoa_tensor_count(&v->fact) < 2 ||
        sparoa_dtype_size(v->fact.dtype) == 0)
        return false;
    const sparoa_tensor full = v->fact;
    sparoa_tensor small = full;
    int32_t wide = 0; /* a vector stays one: products take it as their bias, norms as their scale */
    for (int32_t d = 0; d < full.rank; d++) wide += full.dims[d] > 1;
    if (wide < 2) return false;
    for (int32_t d = 0; d < full.rank; d++) {
        if (full.dims[d] == 1) continue;
        small.dims[d] = 1;
        if (!covered(p, &p->g->nodes[node], k, &small) || !repeats(&full, d))
            small.dims[d] = full.dims[d];
    }
    if (sp_same_shape(&small, &full)) return false;
    sp_id id = sp_add_const(p->g, v->name, full.dtype, small.rank, small.dims, NULL);
    if (id == SP_NO_ID) return sp_pattern_done(p, false);
    copy_first(&full, &p->g->values[id].fact);
    p->g->nodes[node].in[k] = id;
    return true;
}

/* One slope for all channels: LeakyRelu. */
static bool leaky(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    sp_id x;
    double slope;
    if (!sp_pattern_with_scalar(p, n, &x, &slope) || x != n->in[0]) return false;
    sp_id made = sp_pattern_replace(p, node, "LeakyRelu", 16, &x, 1);
    return sp_pattern_done(p, made != SP_NO_ID &&
                                  sp_node_set_float(p->g, made, "alpha", (float)slope));
}

bool sp_pattern_broadcast(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    bool prelu = sp_node_is(n, "PRelu"), changed = false;
    if (n->domain[0] || (!prelu && !(n->op->flags & SPAROA_OP_BROADCASTS))) return false;
    if (n->n_attrs && n->version < 7) return false; /* broadcasting of another kind */
    for (int32_t k = prelu ? 1 : 0; k < p->g->nodes[node].n_in; k++) {
        if (p->g->nodes[node].in[k] == SP_NO_ID) return changed;
        changed = use_unexpanded(p, node, k) || changed;
        changed = shrink_constant(p, node, k) || changed;
    }
    return (prelu && leaky(p, node)) || changed;
}
