/* Moves of data: transposes in a row become one, and a reshape where they only move ones; views in
 * a row become one reshape; slices and pads that take everything go, slices of slices are one. */
#include <string.h>

#include "graph/pattern.h"

#define MAX_AXES SPAROA_MAX_RANK

static bool to_identity(sp_pattern *p, sp_id node, sp_id x)
{
    return sp_pattern_done(p, sp_pattern_replace(p, node, "Identity", 13, &x, 1) != SP_NO_ID);
}

/* A Reshape of x to the shape that the node's output has; false where that is not one a constant
 * can say: more than one dimension not known, or one that is zero. */
static bool to_reshape(sp_pattern *p, sp_id node, sp_id x)
{
    const sparoa_tensor *out = sp_node_out(p->g, &p->g->nodes[node], 0);
    int64_t dims[SPAROA_MAX_RANK];
    int32_t unknown = 0;
    if (!out || out->rank < 0) return false;
    for (int32_t k = 0; k < out->rank; k++) {
        dims[k] = out->dims[k];
        if (dims[k] == 0) return false;
        if (dims[k] < 0) unknown++;
    }
    if (unknown > 1) return false;
    sp_id in[2] = {x, sp_add_const_i64(p->g, "shape", dims, out->rank)};
    if (in[1] == SP_NO_ID) return sp_pattern_done(p, false);
    return sp_pattern_done(p, sp_pattern_replace(p, node, "Reshape", 14, in, 2) != SP_NO_ID);
}

/* ---- Transpose ---- */

static bool read_perm(const sp_pattern *p, const sp_gnode *n, int64_t *perm, int32_t *rank)
{
    const sparoa_tensor *x = sp_node_in(p->g, n, 0);
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *list = sparoa_attr_ints(&attrs, "perm", &count);
    if (!x || x->rank < 1 || (list && count != (size_t)x->rank)) return false;
    *rank = x->rank;
    for (int32_t k = 0; k < x->rank; k++) perm[k] = list ? list[k] : x->rank - 1 - k;
    return true;
}

/* The dimensions that are wider than one, or may be, keep their order. */
static bool moves_ones_only(const sparoa_tensor *x, const int64_t *perm)
{
    int64_t before = -1;
    for (int32_t k = 0; k < x->rank; k++) {
        if (x->dims[perm[k]] == 1) continue;
        if (perm[k] < before) return false;
        before = perm[k];
    }
    return true;
}

static bool transpose(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node], *before = sp_pattern_from(p, n->in[0], "Transpose");
    int64_t perm[SPAROA_MAX_RANK], first[SPAROA_MAX_RANK];
    int32_t rank, first_rank;
    if (!read_perm(p, n, perm, &rank)) return false;
    if (before && read_perm(p, before, first, &first_rank) && first_rank == rank) {
        for (int32_t k = 0; k < rank; k++) perm[k] = first[perm[k]];
        sp_id x = before->in[0], made = sp_pattern_replace(p, node, "Transpose", 13, &x, 1);
        return sp_pattern_done(p, made != SP_NO_ID &&
                                      sp_node_set_ints(p->g, made, "perm", perm, (size_t)rank));
    }
    const sparoa_tensor *x = sp_node_in(p->g, n, 0);
    return moves_ones_only(x, perm) && to_reshape(p, node, n->in[0]);
}

/* ---- views ---- */

static bool is_view(const sp_gnode *n)
{
    return sp_node_is(n, "Reshape") || sp_node_is(n, "Squeeze") || sp_node_is(n, "Unsqueeze") ||
           sp_node_is(n, "Flatten");
}

static bool view(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node], *before = sp_pattern_from(p, n->in[0], NULL);
    if (!before || !is_view(before) || before->in[0] == SP_NO_ID) return false;
    const sparoa_tensor *x = sp_node_in(p->g, before, 0), *y = sp_node_out(p->g, n, 0);
    if (y && sp_known(y) && sp_known(x) && sp_same_shape(x, y))
        return to_identity(p, node, before->in[0]);
    return to_reshape(p, node, before->in[0]);
}

/* ---- Cast ---- */

/* Every value of type a is one of type b. */
static bool widens(sparoa_dtype a, sparoa_dtype b)
{
    size_t from = sparoa_dtype_size(a), to = sparoa_dtype_size(b);
    if (a == SPAROA_BOOL) return sp_is_float(b) || sp_is_int(b);
    if (sp_is_int(a) && sp_is_int(b))
        return sp_is_signed(a) == sp_is_signed(b) ? to >= from : !sp_is_signed(a) && to > from;
    if (sp_is_int(a))
        return (b == SPAROA_FLOAT64 && from <= 4) || (b == SPAROA_FLOAT32 && from <= 2);
    return sp_is_float(a) && (b == SPAROA_FLOAT64 || (b == SPAROA_FLOAT32 && from <= 4));
}

static bool cast(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node], *before = sp_pattern_from(p, n->in[0], "Cast");
    const sparoa_tensor *x = sp_node_in(p->g, n, 0), *y = sp_node_out(p->g, n, 0);
    if (x && y && x->dtype == y->dtype && x->dtype != SPAROA_UNDEFINED)
        return to_identity(p, node, n->in[0]);
    if (!before || before->in[0] == SP_NO_ID) return false;
    sparoa_dtype from = p->g->values[before->in[0]].fact.dtype,
                 middle = p->g->values[before->out[0]].fact.dtype;
    if (!widens(from, middle)) return false;
    /* small integers from floats saturate or wrap; only a way back or further up is safe */
    sparoa_dtype to = p->g->values[n->out[0]].fact.dtype;
    if (from == to) return to_identity(p, node, before->in[0]);
    if (!widens(from, to)) return false;
    p->g->nodes[node].in[0] = before->in[0];
    return true;
}

/* ---- Slice and Pad ---- */

typedef struct slice {
    int64_t start[MAX_AXES], end[MAX_AXES], step[MAX_AXES], axis[MAX_AXES];
    int32_t count;
} slice;

/* Values of a constant input; -1: it is no constant of type int64 or int32 of a length that fits.
 */
static int32_t const_ints(const sp_pattern *p, const sp_gnode *n, int32_t k, int64_t *to)
{
    const sp_value *v = sp_const_in(p->g, n, k);
    int64_t count = v ? sparoa_tensor_count(&v->fact) : -1;
    if (!v || count > MAX_AXES || (v->fact.dtype != SPAROA_INT64 && v->fact.dtype != SPAROA_INT32))
        return -1;
    for (int64_t i = 0; i < count; i++) to[i] = sp_get_i64(&v->fact, i);
    return (int32_t)count;
}

static bool given(const sp_gnode *n, int32_t k)
{
    return k < n->n_in && n->in[k] != SP_NO_ID;
}

static bool read_slice(const sp_pattern *p, const sp_gnode *n, slice *s)
{
    const sparoa_tensor *x = sp_node_in(p->g, n, 0);
    if (!x || x->rank < 1 || !given(n, 1)) return false;
    s->count = const_ints(p, n, 1, s->start);
    if (s->count < 1 || const_ints(p, n, 2, s->end) != s->count) return false;
    if (given(n, 3) && const_ints(p, n, 3, s->axis) != s->count) return false;
    if (given(n, 4) && const_ints(p, n, 4, s->step) != s->count) return false;
    for (int32_t k = 0; k < s->count; k++) {
        if (!given(n, 3)) s->axis[k] = k;
        if (!given(n, 4)) s->step[k] = 1;
        if (s->axis[k] < 0) s->axis[k] += x->rank;
        if (s->axis[k] < 0 || s->axis[k] >= x->rank) return false;
    }
    return true;
}

static bool takes_all(const slice *s, const sparoa_tensor *x)
{
    for (int32_t k = 0; k < s->count; k++) {
        int64_t dim = x->dims[s->axis[k]];
        bool from_start = s->start[k] == 0 || (dim >= 0 && s->start[k] <= -dim);
        bool to_end = s->end[k] >= INT32_MAX || (dim >= 0 && s->end[k] >= dim);
        if (s->step[k] != 1 || !from_start || !to_end) return false;
    }
    return true;
}

/* The slice in front works on other axes: both are one. */
static bool merge_slices(sp_pattern *p, sp_id node, slice *s)
{
    const sp_gnode *n = &p->g->nodes[node], *before = sp_pattern_from(p, n->in[0], "Slice");
    slice b;
    if (!before || !read_slice(p, before, &b) || s->count + b.count > MAX_AXES) return false;
    for (int32_t i = 0; i < b.count; i++) {
        for (int32_t k = 0; k < s->count - i; k++)
            if (s->axis[k] == b.axis[i]) return false;
        s->start[s->count] = b.start[i];
        s->end[s->count] = b.end[i];
        s->step[s->count] = b.step[i];
        s->axis[s->count++] = b.axis[i];
    }
    sp_id in[5] = {before->in[0], sp_add_const_i64(p->g, "starts", s->start, s->count),
                   sp_add_const_i64(p->g, "ends", s->end, s->count),
                   sp_add_const_i64(p->g, "axes", s->axis, s->count),
                   sp_add_const_i64(p->g, "steps", s->step, s->count)};
    for (int32_t k = 1; k < 5; k++)
        if (in[k] == SP_NO_ID) return sp_pattern_done(p, false);
    return sp_pattern_done(p, sp_pattern_replace(p, node, "Slice", 13, in, 5) != SP_NO_ID);
}

static bool slices(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    slice s;
    if (!read_slice(p, n, &s)) return false;
    if (takes_all(&s, sp_node_in(p->g, n, 0))) return to_identity(p, node, n->in[0]);
    return merge_slices(p, node, &s);
}

static bool pads_nothing(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *list = sparoa_attr_ints(&attrs, "pads", &count);
    const sp_value *input = sp_const_in(p->g, n, 1);
    if (!list && input && input->fact.dtype == SPAROA_INT64) {
        list = input->fact.data;
        count = (size_t)sparoa_tensor_count(&input->fact);
    }
    if (!list) return false;
    for (size_t k = 0; k < count; k++)
        if (list[k] != 0) return false;
    return to_identity(p, node, n->in[0]);
}

/* ---- Concat of what was cut from one tensor ---- */

static bool concat_of_split(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    sp_id first = n->n_in > 1 && n->in[0] != SP_NO_ID ? p->g->values[n->in[0]].producer : SP_NO_ID;
    const sp_gnode *split = first == SP_NO_ID ? NULL : &p->g->nodes[first];
    if (!split || split->dead || !sp_node_is(split, "Split") || split->n_out != n->n_in)
        return false;
    sparoa_node a = sp_node_attrs(n), b = sp_node_attrs(split);
    const sparoa_tensor *x = sp_node_in(p->g, split, 0);
    int64_t to = sparoa_attr_int(&a, "axis", 0), from = sparoa_attr_int(&b, "axis", 0);
    if (!x || x->rank < 1) return false;
    if ((to < 0 ? to + x->rank : to) != (from < 0 ? from + x->rank : from)) return false;
    for (int32_t k = 0; k < n->n_in; k++)
        if (n->in[k] != split->out[k]) return false;
    return to_identity(p, node, split->in[0]);
}

/* Slices of one tensor along one axis, in order and without gaps. */
static bool concat_of_slices(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    const sparoa_tensor *y = sp_node_out(p->g, n, 0);
    sparoa_node attrs = sp_node_attrs(n);
    int64_t axis = sparoa_attr_int(&attrs, "axis", 0), at = 0;
    sp_id x = SP_NO_ID;
    if (!y || y->rank < 1) return false;
    if (axis < 0) axis += y->rank;
    for (int32_t k = 0; k < n->n_in; k++) {
        const sp_gnode *part = sp_pattern_from(p, n->in[k], "Slice");
        slice s;
        if (!part || !read_slice(p, part, &s) || s.count != 1 || s.axis[0] != axis ||
            s.step[0] != 1 || s.start[0] != at || s.end[0] <= at || (k && part->in[0] != x))
            return false;
        x = part->in[0];
        at = s.end[0];
        const sparoa_tensor *whole = &p->g->values[x].fact;
        int64_t dim = whole->dims[axis];
        if (dim < 0 || (at > dim && k + 1 < n->n_in)) return false;
        if (k + 1 == n->n_in && at < dim) return false;
    }
    return x != SP_NO_ID && to_identity(p, node, x);
}

bool sp_pattern_move(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    if (n->domain[0] || n->n_in < 1 || n->in[0] == SP_NO_ID) return false;
    if (is_view(n)) return view(p, node);
    if (sp_node_is(n, "Transpose")) return transpose(p, node);
    if (sp_node_is(n, "Cast")) return cast(p, node);
    if (sp_node_is(n, "Slice")) return slices(p, node);
    if (sp_node_is(n, "Pad")) return pads_nothing(p, node);
    return sp_node_is(n, "Concat") && (concat_of_split(p, node) || concat_of_slices(p, node));
}
