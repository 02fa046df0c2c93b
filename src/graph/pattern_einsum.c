/* Einsum of two operands that is a batch of matrix products becomes one: each operand turned to
 * [batch, rows, columns], MatMul, and the result turned to the order that the equation asks for. */
#include <string.h>

#include "graph/pattern.h"

typedef struct labels {
    int32_t count;
    char at[SPAROA_MAX_RANK];
} labels;

/* Labels of both operands and the result, by where they occur; in the order of the result, those
 * that are summed over in that of the first operand. */
typedef struct product {
    labels in[2], out;
    labels batch, rows, columns, summed;
} product;

static int32_t find(const labels *l, char c)
{
    const char *at = l->count ? memchr(l->at, c, (size_t)l->count) : NULL;
    return at ? (int32_t)(at - l->at) : -1;
}

static void append(labels *l, char c)
{
    l->at[l->count++] = c;
}

/* Letters up to ',', '-' or the end; none twice. */
static bool read_labels(const char **text, labels *l)
{
    for (; **text && **text != ',' && **text != '-'; ++*text) {
        char c = **text;
        if (c == ' ') continue;
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) return false;
        if (l->count == SPAROA_MAX_RANK || find(l, c) >= 0) return false;
        append(l, c);
    }
    return true;
}

static bool read_equation(const char *text, product *e)
{
    *e = (product){0};
    if (!text || !read_labels(&text, &e->in[0]) || *text++ != ',') return false;
    if (!read_labels(&text, &e->in[1]) || strncmp(text, "->", 2) != 0) return false;
    text += 2;
    return read_labels(&text, &e->out) && !*text;
}

/* False: a label of one operand alone is summed over, or nothing is. */
static bool group(product *e)
{
    const labels *a = &e->in[0], *b = &e->in[1];
    for (int32_t i = 0; i < e->out.count; i++) {
        char c = e->out.at[i];
        bool left = find(a, c) >= 0, right = find(b, c) >= 0;
        append(left && right ? &e->batch : left ? &e->rows : &e->columns, c);
    }
    for (int32_t i = 0; i < a->count; i++)
        if (find(&e->out, a->at[i]) < 0) append(&e->summed, a->at[i]);
    for (int32_t i = 0; i < e->summed.count; i++)
        if (find(b, e->summed.at[i]) < 0) return false;
    for (int32_t i = 0; i < b->count; i++)
        if (find(a, b->at[i]) < 0 && find(&e->out, b->at[i]) < 0) return false;
    return e->summed.count > 0 && e->batch.count + 2 <= SPAROA_MAX_RANK;
}

static int64_t size_of(const sparoa_tensor *t, const labels *l, char c)
{
    return t->dims[find(l, c)];
}

/* One label each for rows, columns and sum: no dimensions are merged. */
static bool is_plain(const product *e)
{
    return e->rows.count == 1 && e->columns.count == 1 && e->summed.count == 1;
}

/* A dimension of 1 is repeated by Einsum, also where it is summed over: sizes must be seen to agree
 * there, and all of them known where dimensions are merged. */
static bool sizes_fit(const product *e, const sparoa_tensor *a, const sparoa_tensor *b)
{
    for (int32_t i = 0; i < e->summed.count; i++) {
        int64_t n = size_of(a, &e->in[0], e->summed.at[i]);
        if (n <= 0 || n != size_of(b, &e->in[1], e->summed.at[i])) return false;
    }
    if (is_plain(e)) return true;
    for (int32_t d = 0; d < a->rank; d++)
        if (a->dims[d] <= 0) return false;
    for (int32_t d = 0; d < b->rank; d++)
        if (b->dims[d] <= 0) return false;
    return true;
}

/* An operand as [batch, first, second], the labels of a list in one dimension. */
static sp_id arrange(sp_pattern *p, const product *e, int32_t k, sp_id x, const labels *first,
                     const labels *second)
{
    const sparoa_tensor t = p->g->values[x].fact;
    const labels *lists[3] = {&e->batch, first, second};
    int64_t perm[SPAROA_MAX_RANK], dims[SPAROA_MAX_RANK], merged[SPAROA_MAX_RANK];
    int32_t count = 0, rank = e->batch.count;
    bool turned = false;
    for (int32_t l = 0; l < 3; l++)
        for (int32_t i = 0; i < lists[l]->count; i++, count++) {
            perm[count] = find(&e->in[k], lists[l]->at[i]);
            dims[count] = t.dims[perm[count]];
            turned = turned || perm[count] != count;
        }
    if (turned) x = sp_pattern_transpose(p, x, count, perm);
    if (x == SP_NO_ID) return SP_NO_ID;
    if (first->count == 1 && second->count == 1) return x;
    memcpy(merged, dims, sizeof merged);
    for (int32_t l = 1, at = e->batch.count; l < 3; l++, rank++) {
        merged[rank] = 1;
        for (int32_t i = 0; i < lists[l]->count; i++) merged[rank] *= dims[at++];
    }
    return sp_pattern_reshape(p, x, rank, merged);
}

/* The result's dimensions in the order [batch, rows, columns]; perm: where each label of the
 * equation's result is there. */
static int32_t result_dims(const product *e, const sparoa_tensor *out, int64_t *dims, int64_t *perm)
{
    const labels *lists[3] = {&e->batch, &e->rows, &e->columns};
    int32_t count = 0;
    for (int32_t l = 0; l < 3; l++)
        for (int32_t i = 0; i < lists[l]->count; i++, count++) {
            int32_t at = find(&e->out, lists[l]->at[i]);
            perm[at] = count;
            dims[count] = out->dims[at];
        }
    return count;
}

/* MatMul of both operands, whose result the node's users then read. */
static bool multiply(sp_pattern *p, sp_id node, const product *e, const sp_id *in)
{
    const sparoa_tensor out = *sp_node_out(p->g, &p->g->nodes[node], 0);
    int64_t dims[SPAROA_MAX_RANK], perm[SPAROA_MAX_RANK], flat[SPAROA_MAX_RANK];
    const int32_t count = result_dims(e, &out, dims, perm), batch = e->batch.count;
    bool turned = false;
    for (int32_t i = 0; i < count; i++) turned = turned || perm[i] != i;
    if (!turned && is_plain(e)) return sp_pattern_replace(p, node, "MatMul", 13, in, 2) != SP_NO_ID;
    memcpy(flat, dims, sizeof flat);
    flat[batch] = flat[batch + 1] = 1;
    for (int32_t i = 0; i < e->rows.count; i++) flat[batch] *= dims[batch + i];
    for (int32_t i = e->rows.count; batch + i < count; i++) flat[batch + 1] *= dims[batch + i];
    sp_id y = sp_pattern_shaped(p, sp_pattern_insert(p, "MatMul", 13, "product", in, 2), out.dtype,
                                batch + 2, is_plain(e) ? dims : flat);
    if (y != SP_NO_ID && !is_plain(e) && turned) y = sp_pattern_reshape(p, y, count, dims);
    if (y == SP_NO_ID) return false;
    if (turned) {
        sp_id turn = sp_pattern_replace(p, node, "Transpose", 13, &y, 1);
        return turn != SP_NO_ID && sp_node_set_ints(p->g, turn, "perm", perm, (size_t)count);
    }
    sp_id view[2] = {y, sp_add_const_i64(p->g, "shape", dims, count)};
    return view[1] != SP_NO_ID && sp_pattern_replace(p, node, "Reshape", 14, view, 2) != SP_NO_ID;
}

bool sp_pattern_einsum(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    if (!sp_node_is(n, "Einsum") || n->n_in != 2) return false;
    const sparoa_tensor *a = sp_node_in(p->g, n, 0), *b = sp_node_in(p->g, n, 1),
                        *out = sp_node_out(p->g, n, 0);
    sparoa_node attrs = sp_node_attrs(n);
    product e;
    if (!a || !b || !out || !read_equation(sparoa_attr_string(&attrs, "equation", NULL), &e))
        return false;
    if (a->rank != e.in[0].count || b->rank != e.in[1].count || out->rank != e.out.count ||
        (a->dtype != SPAROA_FLOAT32 && a->dtype != SPAROA_FLOAT16))
        return false;
    if (!group(&e) || !sizes_fit(&e, a, b)) return false;
    const sp_id given[2] = {n->in[0], n->in[1]};
    sp_id in[2] = {arrange(p, &e, 0, given[0], &e.rows, &e.summed), SP_NO_ID};
    if (in[0] != SP_NO_ID) in[1] = arrange(p, &e, 1, given[1], &e.summed, &e.columns);
    if (in[1] == SP_NO_ID) return sp_pattern_done(p, false);
    return sp_pattern_done(p, multiply(p, node, &e, in));
}
