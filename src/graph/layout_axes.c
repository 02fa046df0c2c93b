#include "graph/layout_axes.h"

#include <string.h>

#include "graph/rewrite.h"

typedef enum axes_kind {
    AXES_NONE,
    AXES_ONE,    /* attribute "axis" */
    AXES_REDUCE, /* attribute or input 1 "axes" */
    AXES_PAD,    /* begins and ends of every dimension: attribute or input 1 "pads" */
    AXES_SLICE   /* starts, ends and axes: attributes or inputs 1 to 3 */
} axes_kind;

static axes_kind kind_of(const sp_gnode *n)
{
    static const struct {
        const char *op;
        axes_kind kind;
        int32_t since; /* older versions mean something else by their axis */
    } table[] = {{"Concat", AXES_ONE, 4},          {"Split", AXES_ONE, 2},
                 {"Softmax", AXES_ONE, 13},        {"LogSoftmax", AXES_ONE, 13},
                 {"LpNormalization", AXES_ONE, 1}, {"Pad", AXES_PAD, 2},
                 {"Slice", AXES_SLICE, 1}};
    if (n->domain[0]) return AXES_NONE;
    if (strncmp(n->op_type, "Reduce", 6) == 0) return AXES_REDUCE;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(n->op_type, table[i].op) == 0)
            return n->version >= table[i].since ? table[i].kind : AXES_NONE;
    return AXES_NONE;
}

/* A list of int64 that is an attribute, or a constant as input `input`. */
static bool read_list(const sp_graph *g, const sp_gnode *n, const char *attribute, int32_t input,
                      int64_t *list, size_t *count)
{
    sparoa_node attrs = sp_node_attrs(n);
    const int64_t *values = attribute ? sparoa_attr_ints(&attrs, attribute, count) : NULL;
    if (!values) {
        const sp_value *v = sp_const_in(g, n, input);
        if (!v || (v->fact.dtype != SPAROA_INT64 && v->fact.dtype != SPAROA_INT32) ||
            v->fact.rank > 1)
            return false;
        *count = (size_t)sparoa_tensor_count(&v->fact);
        if (*count > 2 * SPAROA_MAX_RANK) return false;
        for (size_t i = 0; i < *count; i++) list[i] = sp_get_i64(&v->fact, (int64_t)i);
        return true;
    }
    if (*count > 2 * SPAROA_MAX_RANK) return false;
    memcpy(list, values, *count * sizeof *list);
    return true;
}

static bool axes_given(const sp_graph *g, const sp_gnode *n, int64_t *axes, size_t *count,
                       int32_t rank)
{
    if (!read_list(g, n, "axes", 1, axes, count) || *count == 0) return false;
    for (size_t i = 0; i < *count; i++) {
        if (axes[i] < 0) axes[i] += rank;
        if (axes[i] < 0 || axes[i] >= rank) return false;
    }
    return true;
}

/* Reductions keep their rank, or take all spatial dimensions away so that [N, C] is left either
 * way. */
static bool reduce_can_move(const sp_graph *g, const sp_gnode *n, int32_t rank)
{
    int64_t axes[2 * SPAROA_MAX_RANK];
    size_t count;
    sparoa_node attrs = sp_node_attrs(n);
    if (!axes_given(g, n, axes, &count, rank)) return false;
    if (sparoa_attr_int(&attrs, "keepdims", 1)) return true;
    uint32_t set = 0;
    for (size_t i = 0; i < count; i++) set |= 1u << axes[i];
    return set == ((1u << rank) - 1u - 3u);
}

static bool slice_can_move(const sp_graph *g, const sp_gnode *n, int32_t rank)
{
    int64_t list[2 * SPAROA_MAX_RANK];
    size_t count;
    bool inputs = n->version >= 10;
    if (read_list(g, n, inputs ? NULL : "axes", 3, list, &count)) return true;
    /* no axes: the first so many dimensions, as many as there are starts */
    bool absent = inputs ? n->n_in <= 3 || n->in[3] == SP_NO_ID : true;
    return absent && read_list(g, n, inputs ? NULL : "starts", 1, list, &count) &&
           count <= (size_t)rank;
}

bool sp_can_move_axes(const sp_graph *g, const sp_gnode *n)
{
    int64_t list[2 * SPAROA_MAX_RANK];
    size_t count;
    const sparoa_tensor *in = sp_node_in(g, n, 0);
    int32_t rank = in->rank;
    switch (kind_of(n)) {
    case AXES_ONE:
        for (int32_t k = 0; k < n->n_in && sp_node_is(n, "Concat"); k++)
            if (!sp_node_in(g, n, k) || sp_node_in(g, n, k)->rank != rank) return false;
        return true;
    case AXES_REDUCE: return reduce_can_move(g, n, rank);
    case AXES_PAD:
        if (n->n_in > 3 && n->in[3] != SP_NO_ID) return false;
        return read_list(g, n, "pads", 1, list, &count) && count == 2 * (size_t)rank;
    case AXES_SLICE: return slice_can_move(g, n, rank);
    default: return false;
    }
}

/* Puts a list back where it was read from: the attribute if there is one, else a new constant at
 * `input`. */
static bool write_list(sp_graph *g, sp_id node, const char *attribute, int32_t input,
                       const int64_t *list, size_t count)
{
    sparoa_node attrs = sp_node_attrs(&g->nodes[node]);
    if (attribute && sparoa_attr_find(&attrs, attribute))
        return sp_node_set_ints(g, node, attribute, list, count);
    sp_id c = sp_add_const_i64(g, "axes", list, (int64_t)count);
    if (c == SP_NO_ID) return false;
    while (g->nodes[node].n_in <= input)
        if (!sp_node_append_input(g, node, SP_NO_ID)) return false;
    g->nodes[node].in[input] = c;
    return true;
}

static void move_each(int64_t *axes, size_t count, int32_t rank)
{
    for (size_t i = 0; i < count; i++) {
        int64_t a = axes[i] < 0 ? axes[i] + rank : axes[i];
        axes[i] = a >= 0 && a < rank ? sp_axis_of_first((int32_t)a, rank) : axes[i];
    }
}

static bool move_slice(sp_graph *g, sp_id node, int32_t rank)
{
    const sp_gnode *n = &g->nodes[node];
    int64_t axes[2 * SPAROA_MAX_RANK], starts[2 * SPAROA_MAX_RANK];
    size_t count = 0;
    bool inputs = n->version >= 10;
    if (!read_list(g, n, inputs ? NULL : "axes", 3, axes, &count)) {
        if (!read_list(g, n, inputs ? NULL : "starts", 1, starts, &count)) return false;
        for (size_t i = 0; i < count; i++) axes[i] = (int64_t)i;
    }
    move_each(axes, count, rank);
    if (!inputs) return sp_node_set_ints(g, node, "axes", axes, count);
    /* starts, ends and axes must have one type: int32 ones are rare, and their axes are rewritten
     * alike */
    const sparoa_tensor *t = sp_node_in(g, n, 1);
    if (t->dtype == SPAROA_INT64) return write_list(g, node, NULL, 3, axes, count);
    int32_t narrow[2 * SPAROA_MAX_RANK];
    int64_t dims = (int64_t)count;
    for (size_t i = 0; i < count; i++) narrow[i] = (int32_t)axes[i];
    sp_id c = sp_add_const(g, "axes", SPAROA_INT32, 1, &dims, narrow);
    if (c == SP_NO_ID) return false;
    while (g->nodes[node].n_in <= 3)
        if (!sp_node_append_input(g, node, SP_NO_ID)) return false;
    g->nodes[node].in[3] = c;
    return true;
}

bool sp_move_axes(sp_graph *g, sp_id node, int32_t rank)
{
    int64_t list[2 * SPAROA_MAX_RANK], moved[2 * SPAROA_MAX_RANK];
    size_t count;
    const sp_gnode *n = &g->nodes[node];
    sparoa_node attrs = sp_node_attrs(n);
    switch (kind_of(n)) {
    case AXES_ONE: {
        bool from_end = strcmp(n->op_type, "Softmax") == 0 ||
                        strcmp(n->op_type, "LogSoftmax") == 0 ||
                        strcmp(n->op_type, "LpNormalization") == 0;
        list[0] = sparoa_attr_int(&attrs, "axis", from_end ? -1 : 0);
        move_each(list, 1, rank);
        return sp_node_set_int(g, node, "axis", list[0]);
    }
    case AXES_REDUCE:
        if (!axes_given(g, n, list, &count, rank)) return false;
        move_each(list, count, rank);
        return write_list(g, node, "axes", 1, list, count);
    case AXES_PAD:
        if (!read_list(g, n, "pads", 1, list, &count)) return false;
        for (int32_t i = 0; i < rank; i++) {
            moved[i] = list[sp_axis_of_last(i, rank)];
            moved[rank + i] = list[rank + sp_axis_of_last(i, rank)];
        }
        return write_list(g, node, "pads", 1, moved, count);
    case AXES_SLICE: return move_slice(g, node, rank);
    default: return true;
    }
}
