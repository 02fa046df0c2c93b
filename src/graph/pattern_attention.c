/* Attention spelled out: softmax(scale Q K^T + mask) V on tensors of rank 4. */
#include <string.h>

#include "graph/pattern.h"

#define MAX_MASK_BYTES ((int64_t)16 << 20)

typedef struct attention {
    sp_id q, k, v, mask; /* k: still transposed */
    double scale;
    /* Masks that differ from window to window: `windows` of them stand in front of each other in
     * the batch, and count as more heads. 0: none of that. */
    int64_t windows;
    sp_id window_bias; /* what is added for all windows alike, or SP_NO_ID */
} attention;

static const sparoa_tensor *fact(const sp_pattern *p, sp_id value)
{
    return &p->g->values[value].fact;
}

/* Takes constant factors off a value. */
static sp_id take_scale(const sp_pattern *p, sp_id value, double *scale)
{
    for (;;) {
        const sp_gnode *n = sp_pattern_only(p, value, NULL);
        double c;
        sp_id other;
        bool mul = n && sp_node_is(n, "Mul"), div = n && sp_node_is(n, "Div");
        if ((!mul && !div) || !sp_pattern_with_scalar(p, n, &other, &c)) return value;
        if (div && (other != n->in[0] || c == 0)) return value;
        *scale *= mul ? c : 1 / c;
        value = other;
    }
}

static bool softmax_over_last(const sp_pattern *p, const sp_gnode *n)
{
    sparoa_node attrs = sp_node_attrs(n);
    const sparoa_tensor *x = sp_node_in(p->g, n, 0);
    int64_t axis = sparoa_attr_int(&attrs, "axis", n->version < 13 ? 1 : -1);
    return x && x->rank == 4 && (axis == -1 || axis == 3);
}

/* A mask that Attention takes as it is: it never widens the scores. */
static bool mask_fits(const sparoa_tensor *mask, const sparoa_tensor *scores)
{
    if (mask->rank < 1 || mask->rank > scores->rank || mask->dtype != scores->dtype) return false;
    for (int32_t k = 1; k <= mask->rank; k++) {
        int64_t m = mask->dims[mask->rank - k], s = scores->dims[scores->rank - k];
        if (m != 1 && m != s) return false;
    }
    return true;
}

/* value = scores + mask. */
static sp_id take_mask(const sp_pattern *p, sp_id value, sp_id *mask)
{
    const sp_gnode *add = sp_pattern_only(p, value, "Add");
    if (!add || add->n_in != 2 || add->n_attrs) return value;
    for (int32_t k = 0; k < 2; k++) {
        sp_id scores = add->in[k], other = add->in[1 - k], under;
        double unused = 1;
        if (scores == SP_NO_ID || other == SP_NO_ID) continue;
        under = take_scale(p, scores, &unused);
        const sp_gnode *product = sp_pattern_only(p, under, "MatMul");
        if (!product && !sp_pattern_only(p, under, "Add")) continue;
        if (!mask_fits(fact(p, other), fact(p, scores))) continue;
        *mask = other;
        return scores;
    }
    return value;
}

/* Swin: the scores of all windows of an image get masks of their own between two reshapes,
 * [B windows, heads, S, S] -> [B, windows, heads, S, S] + [1, windows, 1, S, S] -> back. */
static sp_id take_window_mask(const sp_pattern *p, sp_id value, attention *a)
{
    const sp_gnode *back = sp_pattern_only(p, value, "Reshape");
    const sp_gnode *add = back ? sp_pattern_only(p, back->in[0], "Add") : NULL;
    for (int32_t k = 0; add && add->n_in == 2 && k < 2; k++) {
        const sp_gnode *to = sp_pattern_only(p, add->in[k], "Reshape");
        const sp_value *mask = sp_const_in(p->g, add, 1 - k);
        if (!to || !mask || mask->fact.rank != 5 || mask->fact.dtype != SPAROA_FLOAT32) continue;
        const sparoa_tensor *s = fact(p, to->in[0]), *wide = fact(p, add->in[k]), *m = &mask->fact;
        if (s->rank != 4 || wide->rank != 5 || fact(p, value)->rank != 4) continue;
        bool fits = m->dims[0] == 1 && m->dims[1] == wide->dims[1] && m->dims[2] == 1 &&
                    m->dims[1] > 0 && s->dims[1] > 0;
        for (int32_t d = 1; d < 4; d++)
            fits = fits && s->dims[d] == wide->dims[d + 1] &&
                   s->dims[d] == fact(p, value)->dims[d] &&
                   (d == 1 || m->dims[d + 1] == s->dims[d]);
        if (!fits || sparoa_tensor_count(m) * s->dims[1] * 4 > MAX_MASK_BYTES) continue;
        a->windows = m->dims[1];
        a->mask = add->in[1 - k];
        return to->in[0];
    }
    return value;
}

/* Q, K^T and V can go into one node: batch and heads are the same. */
static bool sizes_fit(const sp_pattern *p, const attention *a)
{
    if (a->q == SP_NO_ID || a->k == SP_NO_ID || a->v == SP_NO_ID) return false;
    const sparoa_tensor *q = fact(p, a->q), *k = fact(p, a->k), *v = fact(p, a->v);
    if (q->rank != 4 || k->rank != 4 || v->rank != 4) return false;
    if (q->dtype != SPAROA_FLOAT32 || k->dtype != q->dtype || v->dtype != q->dtype) return false;
    return q->dims[0] == k->dims[0] && q->dims[0] == v->dims[0] && q->dims[1] > 0 &&
           q->dims[1] == k->dims[1] && q->dims[1] == v->dims[1] && q->dims[3] > 0 && v->dims[3] > 0;
}

static bool match(const sp_pattern *p, const sp_gnode *n, attention *a)
{
    *a = (attention){.mask = SP_NO_ID, .window_bias = SP_NO_ID, .scale = 1};
    if (!sp_node_is(n, "MatMul") || n->n_attrs || n->n_in != 2) return false;
    const sp_gnode *softmax = sp_pattern_only(p, n->in[0], "Softmax");
    if (!softmax || !softmax_over_last(p, softmax)) return false;
    a->v = n->in[1];
    sp_id scores = take_window_mask(p, softmax->in[0], a);
    sp_id *mask = a->windows ? &a->window_bias : &a->mask;
    scores = take_mask(p, scores, mask);
    if (a->windows && a->window_bias != SP_NO_ID) {
        const sp_value *bias = &p->g->values[a->window_bias];
        if (bias->kind != SP_VALUE_CONST || bias->fact.rank != 4 || bias->fact.dims[0] != 1 ||
            sparoa_tensor_count(&bias->fact) != sp_dims_product(fact(p, scores), 1, 4))
            return false;
    }
    scores = take_scale(p, scores, &a->scale);
    const sp_gnode *product = sp_pattern_only(p, scores, "MatMul");
    if (!product || product->n_attrs || product->n_in != 2) return false;
    a->q = take_scale(p, product->in[0], &a->scale);
    a->k = take_scale(p, product->in[1], &a->scale);
    return sizes_fit(p, a) && isfinite(a->scale);
}

/* K from K^T: its Transpose with the last two dimensions swapped, or one more Transpose. */
static sp_id plain_keys(sp_pattern *p, sp_id keys)
{
    const sp_gnode *t = sp_pattern_from(p, keys, "Transpose");
    int64_t perm[4] = {0, 1, 3, 2};
    sp_id x = keys;
    if (t) {
        sparoa_node attrs = sp_node_attrs(t);
        size_t count;
        const int64_t *list = sparoa_attr_ints(&attrs, "perm", &count);
        for (int32_t k = 0; k < 4; k++) perm[k] = list && count == 4 ? list[k] : 3 - k;
        int64_t last = perm[3];
        perm[3] = perm[2];
        perm[2] = last;
        x = t->in[0];
        if (perm[0] == 0 && perm[1] == 1 && perm[2] == 2) return x;
    }
    sp_id made = sp_pattern_insert(p, "Transpose", 13, "keys", &x, 1);
    if (made == SP_NO_ID ||
        !sp_pattern_done(p, sp_node_set_ints(p->g, p->g->values[made].producer, "perm", perm, 4)))
        return SP_NO_ID;
    return made;
}

/* One mask [1, windows heads, S, S]: those of the windows plus what all have. */
static sp_id window_masks(sp_pattern *p, const attention *a)
{
    const sparoa_tensor m = *fact(p, a->mask);
    int64_t heads = fact(p, a->q)->dims[1], size = m.dims[3] * m.dims[4];
    sp_id id = sp_add_const(p->g, "window_mask", SPAROA_FLOAT32, 4,
                            (int64_t[]){1, a->windows * heads, m.dims[3], m.dims[4]}, NULL);
    if (id == SP_NO_ID) return id;
    const sparoa_tensor *bias = a->window_bias == SP_NO_ID ? NULL : fact(p, a->window_bias);
    float *to = fact(p, id)->data;
    for (int64_t w = 0; w < a->windows; w++)
        for (int64_t h = 0; h < heads; h++, to += size)
            for (int64_t i = 0; i < size; i++)
                to[i] = sp_f32_at(&m, w * size + i) + (bias ? sp_f32_at(bias, h * size + i) : 0);
    return id;
}

static sp_id reshape4(sp_pattern *p, sp_id x, int64_t heads, int64_t rows, int64_t width)
{
    sp_id in[2] = {x, sp_add_const_i64(p->g, "shape", (int64_t[]){-1, heads, rows, width}, 4)};
    return in[1] == SP_NO_ID ? SP_NO_ID : sp_pattern_insert(p, "Reshape", 14, "windows", in, 2);
}

/* Windows become heads: [B windows, heads, S, D] is [B, windows heads, S, D]. */
static sp_id windowed(sp_pattern *p, sp_id last, const attention *a, sp_id in[4])
{
    const sparoa_tensor q = *fact(p, a->q), v = *fact(p, a->v), s = *fact(p, a->mask);
    int64_t heads = q.dims[1] * a->windows, rows = s.dims[3], keys = s.dims[4];
    sp_id shaped[4] = {reshape4(p, in[0], heads, rows, q.dims[3]),
                       reshape4(p, in[1], heads, keys, q.dims[3]),
                       reshape4(p, in[2], heads, keys, v.dims[3]), window_masks(p, a)};
    for (int32_t k = 0; k < 4; k++)
        if (shaped[k] == SP_NO_ID) return SP_NO_ID;
    sp_id out = sp_pattern_insert(p, "Attention", 23, p->g->nodes[last].name, shaped, 4);
    int64_t shape[4] = {-1, q.dims[1], rows, v.dims[3]};
    sp_id back[2] = {out, sp_add_const_i64(p->g, "shape", shape, 4)};
    if (out == SP_NO_ID || back[1] == SP_NO_ID) return SP_NO_ID;
    sp_id node = p->g->values[out].producer;
    return sp_pattern_replace(p, last, "Reshape", 14, back, 2) == SP_NO_ID ? SP_NO_ID : node;
}

bool sp_pattern_attention(sp_pattern *p, sp_id node)
{
    attention a;
    if (!match(p, &p->g->nodes[node], &a)) return false;
    sp_id in[4] = {a.q, plain_keys(p, a.k), a.v, a.mask};
    if (in[1] == SP_NO_ID) return sp_pattern_done(p, false);
    sp_id made = a.windows
                     ? windowed(p, node, &a, in)
                     : sp_pattern_replace(p, node, "Attention", 23, in, a.mask == SP_NO_ID ? 3 : 4);
    return sp_pattern_done(p, made != SP_NO_ID &&
                                  sp_node_set_float(p->g, made, "scale", (float)a.scale));
}
