/* Attention whose queries, keys and values are cut from one tensor [batch, rows, 3 heads size]: the
 * node then reads that tensor as it is (sp.qkv), and writes [batch, rows, heads size], so that
 * nothing is gathered or transposed around it. Where each dimension of Q, K and V comes from is
 * followed through the moves of data in between. */
#include <string.h>

#include "graph/pattern.h"

enum { ATOMS = 4, DEPTH = 12, RANK = 6 };

/* A part of a dimension of the root: `size` steps of `stride` elements of that dimension. Size -1:
 * all that a dimension of unknown size has. */
typedef struct atom {
    int32_t dim;
    int64_t size, stride;
} atom;

/* A value as a view of another: each dimension is a run of atoms, outermost first. */
typedef struct view {
    sp_id root;
    int64_t offset; /* in the root's last dimension */
    int32_t rank, count[RANK];
    atom at[RANK][ATOMS];
} view;

static const sparoa_tensor *fact(const sp_pattern *p, sp_id value)
{
    return &p->g->values[value].fact;
}

static bool push(view *v, int32_t d, bool front, atom a)
{
    if (v->count[d] == ATOMS) return false;
    if (front) memmove(&v->at[d][1], &v->at[d][0], (size_t)v->count[d] * sizeof a);
    v->at[d][front ? 0 : v->count[d]] = a;
    v->count[d]++;
    return true;
}

/* Takes `need` elements off the outer end of the atoms list[first..]. */
static bool take_outer(atom *list, int32_t *first, int32_t end, int64_t need, view *to, int32_t d)
{
    while (need > 1) {
        if (*first == end || list[*first].size < 1) return false;
        atom *a = &list[*first], part = *a;
        if (need % a->size == 0) {
            (*first)++;
        } else if (a->size % need == 0) {
            part.stride *= a->size / need;
            part.size = need;
            a->size /= need;
        } else
            return false;
        need /= part.size;
        if (!push(to, d, false, part)) return false;
    }
    return true;
}

/* The same off the inner end; what is of unknown size holds as many as needed. */
static bool take_inner(atom *list, int32_t first, int32_t *end, int64_t need, view *to, int32_t d)
{
    while (need > 1) {
        if (*end == first) return false;
        atom *a = &list[*end - 1], part = *a;
        if (a->size > 0 && need % a->size == 0) {
            (*end)--;
        } else if (a->size < 0 || a->size % need == 0) {
            part.size = need;
            a->stride *= need;
            if (a->size > 0) a->size /= need;
        } else
            return false;
        need /= part.size;
        if (!push(to, d, true, part)) return false;
    }
    return true;
}

/* The same elements in the same order as a tensor of this shape, at most one size of it unknown. */
static bool reshape(const view *from, const sparoa_tensor *shape, view *to)
{
    atom list[RANK * ATOMS];
    int32_t n = 0, first = 0, left = 0, right;
    if (shape->rank < 1 || shape->rank > RANK) return false;
    for (int32_t d = 0; d < from->rank; d++)
        for (int32_t k = 0; k < from->count[d]; k++)
            if (from->at[d][k].size != 1) list[n++] = from->at[d][k];
    *to = (view){.root = from->root, .offset = from->offset, .rank = shape->rank};
    for (right = shape->rank; left < right && shape->dims[left] >= 0; left++)
        if (!take_outer(list, &first, n, shape->dims[left], to, left)) return false;
    if (left == right) return first == n;
    for (; right > left + 1; right--)
        if (shape->dims[right - 1] < 0 ||
            !take_inner(list, first, &n, shape->dims[right - 1], to, right - 1))
            return false;
    for (; first < n; first++)
        if (!push(to, left, false, list[first])) return false;
    return true;
}

static bool follow(const sp_pattern *p, sp_id value, int depth, view *out);

static bool transposed(const sp_gnode *n, const view *from, view *to)
{
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *perm = sparoa_attr_ints(&attrs, "perm", &count);
    if (!perm || count != (size_t)from->rank) return false;
    *to = *from;
    for (int32_t d = 0; d < from->rank; d++) {
        to->count[d] = from->count[perm[d]];
        memcpy(to->at[d], from->at[perm[d]], sizeof to->at[d]);
    }
    return true;
}

/* One of several along a dimension that is part of the root's last. */
static bool gathered(const sp_pattern *p, const sp_gnode *n, const view *from, view *to)
{
    const sp_value *index = sp_const_in(p->g, n, 1);
    sparoa_node attrs = sp_node_attrs(n);
    int64_t axis = sparoa_attr_int(&attrs, "axis", 0);
    if (axis < 0) axis += from->rank;
    if (!index || index->fact.rank != 0 || index->fact.dtype != SPAROA_INT64 || axis < 0 ||
        axis >= from->rank || from->count[axis] != 1)
        return false;
    const atom a = from->at[axis][0];
    int64_t i = *(const int64_t *)index->fact.data;
    if (i < 0) i += a.size;
    if (a.dim != fact(p, from->root)->rank - 1 || a.size < 1 || i < 0 || i >= a.size) return false;
    *to = *from;
    to->offset += i * a.stride;
    to->rank--;
    for (int32_t d = (int32_t)axis; d < to->rank; d++) {
        to->count[d] = from->count[d + 1];
        memcpy(to->at[d], from->at[d + 1], sizeof to->at[d]);
    }
    return true;
}

static bool follow(const sp_pattern *p, sp_id value, int depth, view *out)
{
    const sp_gnode *n = sp_pattern_from(p, value, NULL);
    bool views = n && (sp_node_is(n, "Reshape") || sp_node_is(n, "Squeeze") ||
                       sp_node_is(n, "Unsqueeze") || sp_node_is(n, "Flatten"));
    bool turns = n && sp_node_is(n, "Transpose"), picks = n && sp_node_is(n, "Gather");
    if ((views || turns || picks) && depth < DEPTH) {
        view from;
        if (!follow(p, n->in[0], depth + 1, &from)) return false;
        if (views) return reshape(&from, fact(p, value), out);
        return turns ? transposed(n, &from, out) : gathered(p, n, &from, out);
    }
    const sparoa_tensor *t = fact(p, value);
    if (t->rank != 3 || t->dims[2] < 1) return false;
    *out = (view){.root = value, .rank = 3};
    for (int32_t d = 0; d < 3; d++) push(out, d, false, (atom){d, t->dims[d], 1});
    return true;
}

typedef struct packed {
    sp_id root;
    int32_t row_dim; /* of the root */
    int64_t heads, size, rows, windows;
} packed;

static bool is_atom(const atom *a, int32_t dim, int64_t size, int64_t stride)
{
    return a->dim == dim && a->stride == stride && (size == 0 || a->size == size);
}

/* Whether the value is part number `part` of three. */
static bool read_part(const sp_pattern *p, sp_id value, int part, packed *out)
{
    view v;
    if (!follow(p, value, 0, &v) || v.rank != 4 || v.count[3] != 1 || v.count[2] != 1) return false;
    const sparoa_tensor *root = fact(p, v.root);
    const atom *element = &v.at[3][0], *row = &v.at[2][0];
    int32_t n = v.count[1];
    if (n < 1 || n > 2 || v.count[0] > 1 || row->dim > 1 || row->size < 1) return false;
    const atom *head = &v.at[1][n - 1], *window = n == 2 ? &v.at[1][0] : NULL;
    *out =
        (packed){v.root, row->dim, head->size, element->size, row->size, window ? window->size : 1};
    bool batch = v.count[0] ? is_atom(&v.at[0][0], 1 - row->dim, 0, out->windows)
                            : root->dims[1 - row->dim] == out->windows; /* one image, no atom */
    return is_atom(element, 2, 0, 1) && is_atom(row, row->dim, root->dims[row->dim], 1) &&
           is_atom(head, 2, 0, element->size) && out->heads > 0 && out->size > 0 &&
           (!window || is_atom(window, 1 - row->dim, 0, 1)) && batch &&
           root->dims[2] == 3 * out->heads * out->size && v.offset == part * out->heads * out->size;
}

static bool same(const packed *a, const packed *b)
{
    return a->root == b->root && a->row_dim == b->row_dim && a->heads == b->heads &&
           a->size == b->size && a->rows == b->rows && a->windows == b->windows;
}

static bool find(const sp_pattern *p, const sp_gnode *n, packed *out)
{
    packed other[2];
    if (!sp_node_is(n, "Attention") || n->n_in < 3 || n->n_in > 4 || n->n_out != 1) return false;
    sparoa_node attrs = sp_node_attrs(n);
    for (int32_t i = 0; i < n->n_attrs; i++)
        if (strcmp(attrs.attrs[i].name, "scale") != 0) return false;
    if (fact(p, n->in[0])->dtype != SPAROA_FLOAT32 || !read_part(p, n->in[0], 0, out)) return false;
    for (int k = 0; k < 2; k++)
        if (!read_part(p, n->in[k + 1], k + 1, &other[k]) || !same(&other[k], out)) return false;
    return true;
}

/* ---- replacing ---- */

/* The mask of windows that count as heads, by window: [windows, heads, rows, keys]. */
static sp_id window_mask(sp_pattern *p, sp_id mask, const packed *q)
{
    const sp_value *v = &p->g->values[mask];
    const sparoa_tensor m = v->fact;
    if (v->kind != SP_VALUE_CONST || m.rank != 4 || m.dims[0] != 1 ||
        m.dims[1] != q->windows * q->heads)
        return SP_NO_ID;
    int64_t dims[4] = {q->windows, q->heads, m.dims[2], m.dims[3]};
    return sp_add_const(p->g, "window_mask", m.dtype, 4, dims, m.data);
}

/* The root with its rows second: the product in front of it can work in that order. */
static sp_id rows_second(sp_pattern *p, const packed *q)
{
    static const int64_t swap[3] = {1, 0, 2};
    if (q->row_dim == 1) return q->root;
    return sp_pattern_transpose(p, q->root, 3, swap);
}

static bool set_attention(sp_pattern *p, sp_id node, const packed *q, float scale)
{
    return sp_node_set_float(p->g, node, "scale", scale) &&
           sp_node_set_int(p->g, node, "q_num_heads", q->heads) &&
           sp_node_set_int(p->g, node, "kv_num_heads", q->heads) &&
           sp_node_set_int(p->g, node, "sp.qkv", 1) &&
           (q->windows == 1 || sp_node_set_int(p->g, node, "sp.windows", q->windows));
}

bool sp_pattern_qkv(sp_pattern *p, sp_id node)
{
    packed q;
    const sp_gnode *n = &p->g->nodes[node];
    if (!find(p, n, &q)) return false;
    sparoa_node attrs = sp_node_attrs(n);
    float scale = sparoa_attr_float(&attrs, "scale", 1 / sqrtf((float)q.size));
    sp_id mask = n->n_in > 3 ? n->in[3] : SP_NO_ID, last = node;
    if (q.windows > 1) {
        /* its user makes windows of heads again */
        last = sp_pattern_user(p, n->out[0]);
        if (last == SP_NO_ID || !sp_node_is(&p->g->nodes[last], "Reshape")) return false;
        const sparoa_tensor *t = fact(p, p->g->nodes[last].out[0]);
        if (t->rank != 4 || t->dims[1] != q.heads || t->dims[2] != q.rows || t->dims[3] != q.size)
            return false;
        if (mask != SP_NO_ID && (mask = window_mask(p, mask, &q)) == SP_NO_ID) return false;
    }
    sp_id root = rows_second(p, &q), in[4] = {root, root, root, mask};
    if (root == SP_NO_ID) return sp_pattern_done(p, false);
    int64_t batch = fact(p, root)->dims[0];
    int64_t flat[3] = {batch, q.rows, q.heads * q.size}, four[4] = {-1, q.rows, q.heads, q.size};
    sp_id y = sp_pattern_shaped(
        p,
        sp_pattern_insert(p, "Attention", 23, p->g->nodes[node].name, in, mask == SP_NO_ID ? 3 : 4),
        SPAROA_FLOAT32, 3, flat);
    if (y == SP_NO_ID || !set_attention(p, p->g->values[y].producer, &q, scale))
        return sp_pattern_done(p, false);
    sp_id split = sp_pattern_reshape(p, y, 4, four);
    if (split == SP_NO_ID) return sp_pattern_done(p, false);
    static const int64_t perm[4] = {0, 2, 1, 3};
    sp_id turn = sp_pattern_replace(p, last, "Transpose", 13, &split, 1);
    return sp_pattern_done(p, turn != SP_NO_ID && sp_node_set_ints(p->g, turn, "perm", perm, 4));
}

/* ---- products of rows in another order ---- */

/* [A, B, n] of a product of rows, then transposed to [B, A, n]: the rows may be transposed before.
 * Through a bias, and through a Gemm between two reshapes. */
static bool swaps_first(const sp_gnode *n)
{
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *perm = sparoa_attr_ints(&attrs, "perm", &count);
    return perm && count == 3 && perm[0] == 1 && perm[1] == 0 && perm[2] == 2;
}

static sp_id turned_weight(sp_pattern *p, sp_id weight)
{
    const sparoa_tensor w = *fact(p, weight);
    int64_t dims[2] = {w.dims[1], w.dims[0]};
    sp_id id = sp_add_const(p->g, "weight", SPAROA_FLOAT32, 2, dims, NULL);
    if (id == SP_NO_ID) return id;
    float *to = fact(p, id)->data;
    for (int64_t i = 0; i < dims[0]; i++)
        for (int64_t j = 0; j < dims[1]; j++) to[i * dims[1] + j] = sp_f32_at(&w, j * dims[0] + i);
    return id;
}

/* bias: of the last dimension, constant, or SP_NO_ID. The product takes the place of node last. */
static bool put_product(sp_pattern *p, sp_id last, sp_id x, sp_id weight, sp_id bias)
{
    sp_id in[2] = {x, weight};
    if (x == SP_NO_ID || weight == SP_NO_ID) return sp_pattern_done(p, false);
    if (bias == SP_NO_ID)
        return sp_pattern_done(p, sp_pattern_replace(p, last, "MatMul", 13, in, 2) != SP_NO_ID);
    const sparoa_tensor t = *fact(p, p->g->nodes[last].out[0]);
    sp_id product = sp_pattern_shaped(p, sp_pattern_insert(p, "MatMul", 13, "rows", in, 2),
                                      SPAROA_FLOAT32, t.rank, t.dims);
    sp_id sum[2] = {product, bias};
    if (product == SP_NO_ID) return sp_pattern_done(p, false);
    return sp_pattern_done(p, sp_pattern_replace(p, last, "Add", 14, sum, 2) != SP_NO_ID);
}

static bool is_bias(const sp_value *b, int64_t n)
{
    return b && b->fact.rank == 1 && b->fact.dims[0] == n && b->fact.dtype == SPAROA_FLOAT32;
}

/* Transpose(MatMul(x, w) + bias) */
static bool through_matmul(sp_pattern *p, sp_id node)
{
    static const int64_t swap[3] = {1, 0, 2};
    const sp_gnode *n = &p->g->nodes[node], *add = sp_pattern_only(p, n->in[0], "Add");
    sp_id product = n->in[0], bias = SP_NO_ID;
    int64_t width = fact(p, n->in[0])->dims[2];
    for (int32_t k = 0; add && add->n_in == 2 && k < 2; k++)
        if (is_bias(sp_const_in(p->g, add, k), width)) {
            bias = add->in[k];
            product = add->in[1 - k];
        }
    const sp_gnode *m = sp_pattern_only(p, product, "MatMul");
    const sp_value *w = m && m->n_in == 2 && m->n_attrs == 0 ? sp_const_in(p->g, m, 1) : NULL;
    if (!w || w->fact.rank != 2 || fact(p, m->in[0])->rank != 3) return false;
    sp_id weight = m->in[1];
    return put_product(p, node, sp_pattern_transpose(p, m->in[0], 3, swap), weight, bias);
}

/* Transpose(Reshape(Gemm(Reshape(x), w, bias))) */
static bool through_gemm(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node], *out = sp_pattern_only(p, n->in[0], "Reshape");
    const sp_gnode *gemm = out ? sp_pattern_only(p, out->in[0], "Gemm") : NULL;
    const sp_gnode *in = gemm ? sp_pattern_from(p, gemm->in[0], "Reshape") : NULL;
    if (!in || gemm->n_in != 3) return false;
    sparoa_node attrs = sp_node_attrs(gemm);
    const sp_value *w = sp_const_in(p->g, gemm, 1);
    const sparoa_tensor *x = fact(p, in->in[0]), *flat = fact(p, gemm->in[0]);
    const sparoa_tensor *y = fact(p, n->in[0]);
    if (sparoa_attr_float(&attrs, "alpha", 1) != 1 || sparoa_attr_float(&attrs, "beta", 1) != 1 ||
        sparoa_attr_int(&attrs, "transA", 0) || !w || w->fact.rank != 2 || x->rank < 3 ||
        !is_bias(sp_const_in(p->g, gemm, 2), y->dims[2]))
        return false;
    int64_t inner = 1, perm[SPAROA_MAX_RANK] = {1, 0};
    for (int32_t d = 2; d < x->rank; d++) {
        if (x->dims[d] < 0) return false;
        inner *= x->dims[d];
        perm[d] = d;
    }
    /* rows are those of the first two dimensions */
    if (flat->rank != 2 || flat->dims[1] != inner || y->dims[0] != x->dims[0] || y->dims[0] < 1)
        return false;
    bool turned = sparoa_attr_int(&attrs, "transB", 0) != 0;
    sp_id bias = gemm->in[2], weight = gemm->in[1], source = in->in[0];
    int64_t shape[3] = {-1, x->dims[0], inner};
    int32_t rank = x->rank;
    sp_id swapped = sp_pattern_transpose(p, source, rank, perm);
    if (swapped == SP_NO_ID) return sp_pattern_done(p, false);
    return put_product(p, node, sp_pattern_reshape(p, swapped, 3, shape),
                       turned ? turned_weight(p, weight) : weight, bias);
}

bool sp_pattern_rows(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    if (!sp_node_is(n, "Transpose") || fact(p, n->in[0])->rank != 3 || !swaps_first(n) ||
        fact(p, n->in[0])->dtype != SPAROA_FLOAT32)
        return false;
    return through_matmul(p, node) || through_gemm(p, node);
}
