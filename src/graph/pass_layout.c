/* Channel-last layout. Values that convolutions and pools work on get a second form with the
 * channel last; nodes that do not mind follow them there; whoever needs the model's own order gets
 * a Transpose. Walking the nodes in order, each value has one or both forms, and a form that is
 * missing is made once, where it is first wanted. Transposes that the model itself contains often
 * come for free: their result is the other form. */
#include <string.h>

#include "graph/layout_axes.h"
#include "graph/passes.h"
#include "graph/rewrite.h"

#define LEAST_CHANNELS 8 /* of an image that is moved for a pool alone */

typedef struct forms {
    sp_id first,
        last; /* the value with the channel second, as in the model, and with the channel last */
} forms;

typedef struct layout {
    sp_graph *g;
    forms *of; /* by value id of the graph before the pass */
    size_t count;
} layout;

/* ---- the two forms of a value ---- */

static sp_id add_permute(layout *l, sp_id from, const char *base, bool to_last)
{
    sp_graph *g = l->g;
    const sparoa_tensor f = g->values[from].fact;
    int64_t perm[SPAROA_MAX_RANK], dims[SPAROA_MAX_RANK];
    bool trivial = f.rank > 2; /* nothing but the channel is wider than 1: only the shape changes */
    for (int32_t i = 0; i < f.rank; i++) {
        perm[i] = to_last ? sp_axis_of_last(i, f.rank) : sp_axis_of_first(i, f.rank);
        dims[i] = f.dims[perm[i]];
    }
    for (int32_t i = 1; i < f.rank; i++) {
        bool channel = (to_last ? 1 : f.rank - 1) == i;
        if (!channel && f.dims[i] != 1) trivial = false;
    }
    sp_id channel_dim = to_last ? 1 : (sp_id)f.rank - 1;
    sp_id out;
    if (trivial && f.dims[channel_dim] > 0) {
        int64_t shape[SPAROA_MAX_RANK];
        memcpy(shape, dims, sizeof shape);
        shape[0] = 0; /* as it is */
        sp_id in[2] = {from, sp_add_const_i64(g, "shape", shape, f.rank)};
        if (in[1] == SP_NO_ID) return SP_NO_ID;
        out = sp_insert_node(g, "Reshape", 13, base, in, 2);
    } else {
        out = sp_insert_node(g, "Transpose", 13, base, &from, 1);
        if (out == SP_NO_ID ||
            !sp_node_set_ints(g, g->values[out].producer, "perm", perm, (size_t)f.rank))
            return SP_NO_ID;
    }
    if (out == SP_NO_ID) return SP_NO_ID;
    sp_set_shape(&g->values[out].fact, f.dtype, f.rank, dims);
    g->values[out].nhwc = to_last;
    return out;
}

static bool has_last(const layout *l, sp_id value)
{
    return value < l->count && l->of[value].last != SP_NO_ID;
}

static sp_id want_first(layout *l, sp_id value)
{
    if (value >= l->count) return value;
    forms *f = &l->of[value];
    if (f->first != SP_NO_ID) return f->first;
    /* the value itself keeps its name and users; it is now written by a Transpose of its last form
     */
    sp_id copy = add_permute(l, f->last, "first", false);
    if (copy == SP_NO_ID) return SP_NO_ID;
    sp_id node = l->g->values[copy].producer;
    sp_take_output(l->g, node, value);
    f->first = value;
    return value;
}

static sp_id want_last(layout *l, sp_id value)
{
    forms *f = &l->of[value];
    if (f->last == SP_NO_ID) f->last = add_permute(l, f->first, l->g->values[value].name, true);
    return f->last;
}

/* A constant with the channel last, its rank brought up to `rank`; small ranks that do not reach
 * the channel stay. */
static sp_id constant_last(layout *l, sp_id value, int32_t rank)
{
    const sp_value *v = &l->g->values[value];
    sparoa_tensor f = v->fact;
    size_t size = sparoa_dtype_size(f.dtype);
    if (sparoa_tensor_count(&f) == 1) return value;
    sparoa_tensor wide = f, out;
    wide.rank = rank;
    for (int32_t i = 0; i < rank; i++)
        wide.dims[i] = i < rank - f.rank ? 1 : f.dims[i - (rank - f.rank)];
    sp_set_shape(&out, f.dtype, rank, NULL);
    int64_t strides[SPAROA_MAX_RANK], index[SPAROA_MAX_RANK] = {0};
    sp_strides(&wide, strides);
    for (int32_t i = 0; i < rank; i++) out.dims[i] = wide.dims[sp_axis_of_last(i, rank)];
    sp_id id = sp_add_const(l->g, v->name, f.dtype, rank, out.dims, NULL);
    if (id == SP_NO_ID) return SP_NO_ID;
    char *to = l->g->values[id].fact.data;
    int64_t count = sparoa_tensor_count(&out);
    for (int64_t n = 0; n < count; n++) {
        int64_t at = 0;
        for (int32_t i = 0; i < rank; i++) at += index[i] * strides[sp_axis_of_last(i, rank)];
        memcpy(to + (size_t)n * size, (const char *)f.data + (size_t)at * size, size);
        for (int32_t i = rank - 1; i >= 0 && ++index[i] == out.dims[i]; i--) index[i] = 0;
    }
    return id;
}

/* ---- nodes ---- */

static sparoa_status no_memory(layout *l, sparoa_error *err)
{
    return SP_NO_MEMORY(l->g, err);
}

static bool is_image(const sparoa_tensor *t)
{
    return t && t->rank >= 3 && t->rank <= 5;
}

/* Node i now writes the last form of its output number k. */
static bool give_last(layout *l, size_t i, int32_t k)
{
    sp_id value = l->g->nodes[i].out[k];
    sp_id last = sp_add_value(l->g, l->g->values[value].name);
    if (last == SP_NO_ID) return false;
    sp_value *v = &l->g->values[last];
    const sparoa_tensor *f = &l->g->values[value].fact;
    sp_set_shape(&v->fact, f->dtype, f->rank, f->dims);
    for (int32_t d = 0; d < f->rank; d++) v->fact.dims[d] = f->dims[sp_axis_of_last(d, f->rank)];
    v->nhwc = true;
    v->model_name = l->g->values[value].name;
    v->producer = (sp_id)i;
    l->g->nodes[i].out[k] = last;
    l->g->values[value].producer = SP_NO_ID;
    l->of[value] = (forms){SP_NO_ID, last};
    return true;
}

/* The node keeps the model's order: its inputs are wanted in the first form. */
static sparoa_status stay_first(layout *l, size_t i, sparoa_error *err)
{
    for (int32_t k = 0; k < l->g->nodes[i].n_in; k++) {
        sp_id in = l->g->nodes[i].in[k];
        if (in == SP_NO_ID || in >= l->count) continue;
        sp_id first = want_first(l, in);
        if (first == SP_NO_ID) return no_memory(l, err);
        l->g->nodes[i].in[k] = first;
    }
    return SPAROA_OK;
}

/* Convolutions and pools: image in, image out; a residual is an image too. */
static sparoa_status convert_anchor(layout *l, size_t i, sparoa_error *err)
{
    sparoa_node attrs = sp_node_attrs(&l->g->nodes[i]);
    int32_t residual = sparoa_attr_find(&attrs, "sp.residual") ? l->g->nodes[i].n_in - 1 : -1;
    for (int32_t k = 0; k < l->g->nodes[i].n_in; k++) {
        sp_id in = l->g->nodes[i].in[k];
        if (in == SP_NO_ID) continue;
        /* weights stay as they are, also where they are an image of another convolution */
        sp_id form = k == 0 || k == residual ? want_last(l, in) : want_first(l, in);
        if (form == SP_NO_ID) return no_memory(l, err);
        l->g->nodes[i].in[k] = form;
    }
    if (!sp_node_set_int(l->g, (sp_id)i, "sp.nhwc", 1) || !give_last(l, i, 0))
        return no_memory(l, err);
    return SPAROA_OK;
}

static bool single_output(const sp_gnode *n)
{
    for (int32_t k = 1; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) return false;
    return n->n_out > 0 && n->out[0] != SP_NO_ID;
}

static bool any_last(const layout *l, const sp_gnode *n)
{
    for (int32_t k = 0; k < n->n_in; k++)
        if (n->in[k] != SP_NO_ID && has_last(l, n->in[k])) return true;
    return false;
}

/* Element by element on input 0; the other inputs are parameters. */
static bool is_unary(const layout *l, const sp_gnode *n)
{
    if (n->op->flags & SPAROA_OP_UNARY_POINTWISE) return true;
    const sparoa_tensor *scale = sp_node_in(l->g, n, 1);
    bool quantises = sp_node_is(n, "QuantizeLinear") || sp_node_is(n, "DequantizeLinear");
    return quantises && scale && sparoa_tensor_count(scale) == 1;
}

static bool is_quantised_pair(const sp_gnode *n)
{
    return strcmp(n->domain, "com.microsoft") == 0 &&
           (strcmp(n->op_type, "QLinearAdd") == 0 || strcmp(n->op_type, "QLinearMul") == 0);
}

/* Whether an element-wise node can work with the channel last: every input is an image of the
 * output's rank, a constant, or a single element. */
static bool eltwise_can_follow(const layout *l, const sp_gnode *n)
{
    const sparoa_tensor *out = sp_node_out(l->g, n, 0);
    if (!is_image(out) || !single_output(n)) return false;
    bool unary = is_unary(l, n);
    if (!unary && !(n->op->flags & SPAROA_OP_BROADCASTS) && !is_quantised_pair(n)) return false;
    sparoa_node attrs = sp_node_attrs(n);
    if (sparoa_attr_find(&attrs, "broadcast")) return false;
    for (int32_t k = 0; k < n->n_in; k++) {
        const sparoa_tensor *t = sp_node_in(l->g, n, k);
        if (!t || (unary && k > 0)) continue;
        bool constant = l->g->values[n->in[k]].kind == SP_VALUE_CONST;
        if (t->rank == out->rank || (constant && t->rank >= 0 && t->rank <= out->rank)) continue;
        if (t->rank >= 0 && sparoa_tensor_count(t) == 1) continue;
        return false;
    }
    return true;
}

static sparoa_status convert_eltwise(layout *l, size_t i, sparoa_error *err)
{
    int32_t rank = sp_node_out(l->g, &l->g->nodes[i], 0)->rank;
    bool unary = is_unary(l, &l->g->nodes[i]);
    for (int32_t k = 0; k < l->g->nodes[i].n_in; k++) {
        sp_id in = l->g->nodes[i].in[k];
        if (in == SP_NO_ID || (unary && k > 0)) continue;
        sp_id last = in;
        if (l->g->values[in].kind == SP_VALUE_CONST)
            last = constant_last(l, in, rank);
        else if (l->g->values[in].fact.rank == rank)
            last = want_last(l, in);
        if (last == SP_NO_ID) return no_memory(l, err);
        l->g->nodes[i].in[k] = last;
    }
    return give_last(l, i, 0) ? SPAROA_OK : no_memory(l, err);
}

/* Concat, Split, Softmax, Pad ...: the axes they name move along with the dimensions. */
static sparoa_status convert_axes(layout *l, size_t i, sparoa_error *err)
{
    int32_t rank = sp_node_in(l->g, &l->g->nodes[i], 0)->rank;
    bool concat = sp_node_is(&l->g->nodes[i], "Concat");
    if (!sp_move_axes(l->g, (sp_id)i, rank)) return no_memory(l, err);
    for (int32_t k = 0; k < (concat ? l->g->nodes[i].n_in : 1); k++) {
        sp_id in = l->g->nodes[i].in[k];
        sp_id last =
            l->g->values[in].kind == SP_VALUE_CONST ? constant_last(l, in, rank) : want_last(l, in);
        if (last == SP_NO_ID) return no_memory(l, err);
        l->g->nodes[i].in[k] = last;
    }
    for (int32_t k = 0; k < l->g->nodes[i].n_out; k++) {
        sp_id out = l->g->nodes[i].out[k];
        if (out == SP_NO_ID || l->g->values[out].fact.rank != rank)
            continue; /* reduced away: no image any more */
        if (!give_last(l, i, k)) return no_memory(l, err);
    }
    return SPAROA_OK;
}

/* A Transpose of the model between the two orders: its result is the other form of its input. */
static bool convert_transpose(layout *l, sp_gnode *n)
{
    const sparoa_tensor *in = sp_node_in(l->g, n, 0);
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *perm = sparoa_attr_ints(&attrs, "perm", &count);
    if (!is_image(in) || !perm || count != (size_t)in->rank || n->in[0] >= l->count ||
        n->out[0] >= l->count)
        return false;
    bool to_first = true;
    for (int32_t k = 0; k < in->rank; k++)
        to_first = to_first && perm[k] == sp_axis_of_first(k, in->rank);
    if (to_first && l->of[n->in[0]].first == n->in[0] && l->of[n->in[0]].last == SP_NO_ID) {
        l->of[n->out[0]].last =
            n->in[0]; /* both forms exist; the Transpose goes if nobody wants the first */
        return true;
    }
    return false;
}

/* Transpose to the channel-last order of a value that has that form: no more than another name for
 * it. */
static bool is_to_last(const layout *l, const sp_gnode *n)
{
    const sparoa_tensor *in = sp_node_in(l->g, n, 0);
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *perm = sparoa_attr_ints(&attrs, "perm", &count);
    if (!is_image(in) || !perm || count != (size_t)in->rank || !has_last(l, n->in[0])) return false;
    for (int32_t k = 0; k < in->rank; k++)
        if (perm[k] != sp_axis_of_last(k, in->rank)) return false;
    return true;
}

static bool make_identity(layout *l, size_t i)
{
    sp_gnode *n = &l->g->nodes[i];
    const sparoa_op *op = sp_op_find("", "Identity", 13, NULL, 0);
    if (!op) return false;
    n->in[0] = l->of[n->in[0]].last;
    n->op = op;
    n->op_type = op->name;
    n->version = 13;
    n->n_attrs = 0;
    return true;
}

/* Shape of an image that is stored with the channel last: the shape of that, picked in the model's
 * order. */
static sparoa_status convert_shape(layout *l, size_t i, sparoa_error *err)
{
    sp_graph *g = l->g;
    sp_id in = g->nodes[i].in[0], out = g->nodes[i].out[0];
    int32_t rank = g->values[in].fact.rank;
    sparoa_node attrs = sp_node_attrs(&g->nodes[i]);
    int64_t start = sparoa_attr_int(&attrs, "start", 0), end = sparoa_attr_int(&attrs, "end", rank),
            order[SPAROA_MAX_RANK];
    if (start < 0) start += rank;
    if (end < 0) end += rank;
    if (start < 0) start = 0;
    if (end > rank) end = rank;
    int64_t n = end > start ? end - start : 0;
    for (int64_t k = 0; k < n; k++) order[k] = sp_axis_of_first((int32_t)(start + k), rank);
    sp_id last = l->of[in].last, whole = sp_insert_node(g, "Shape", 13, "shape_last", &last, 1);
    sp_id index = sp_add_const_i64(g, "order", order, n);
    if (whole == SP_NO_ID || index == SP_NO_ID) return no_memory(l, err);
    sp_id pair[2] = {whole, index};
    sp_id picked = sp_insert_node(g, "Gather", 13, "shape_first", pair, 2);
    if (picked == SP_NO_ID) return no_memory(l, err);
    g->nodes[i].dead = true;
    sp_take_output(g, g->values[picked].producer, out);
    return SPAROA_OK;
}

/* 8-bit convolutions that have a kernel with the channel last. */
static bool is_quantised_conv(const layout *l, const sp_gnode *n)
{
    const sp_value *w = sp_node_is(n, "QLinearConv") ? sp_const_in(l->g, n, 3) : NULL;
    return w && w->fact.dtype == SPAROA_INT8 && w->fact.rank == 4 && single_output(n);
}

/* A pool that no convolution leads to: moving the image there and back costs little beside the
 * plain pool, if there are channels to make vectors of. */
static bool is_lone_pool(const layout *l, const sp_gnode *n)
{
    const sparoa_tensor *x = sp_node_in(l->g, n, 0);
    return (sp_node_is(n, "MaxPool") || sp_node_is(n, "AveragePool")) &&
           x->dims[1] >= LEAST_CHANNELS;
}

/* Computed weights of a size that is known, so that there is a kernel. */
static bool has_known_weights(const layout *l, const sp_gnode *n)
{
    const sparoa_tensor *w = sp_node_in(l->g, n, 1);
    bool known = w && is_image(w);
    for (int32_t i = 0; known && i < w->rank; i++) known = w->dims[i] > 0;
    return known;
}

static bool is_anchor(const layout *l, const sp_gnode *n)
{
    if (is_image(sp_node_in(l->g, n, 0)) && is_quantised_conv(l, n)) return true;
    if (!is_image(sp_node_in(l->g, n, 0)) || !is_image(sp_node_out(l->g, n, 0))) return false;
    const sparoa_dtype type = sp_node_in(l->g, n, 0)->dtype;
    if (!single_output(n)) return false;
    if (sp_node_is(n, "MaxPool") && (type == SPAROA_UINT8 || type == SPAROA_INT8))
        return has_last(l, n->in[0]);
    if (type != SPAROA_FLOAT32) return false;
    if (sp_node_is(n, "ConvTranspose")) return sp_const_in(l->g, n, 1) != NULL;
    if (sp_node_is(n, "Conv")) return sp_const_in(l->g, n, 1) || has_known_weights(l, n);
    if (!has_last(l, n->in[0])) return is_lone_pool(l, n);
    static const char *const followers[] = {
        "MaxPool",       "AveragePool",        "GlobalAveragePool",
        "GlobalMaxPool", "BatchNormalization", "InstanceNormalization",
        "Resize",        "Upsample",           "DepthToSpace",
        "SpaceToDepth"};
    for (size_t k = 0; k < sizeof followers / sizeof *followers; k++)
        if (sp_node_is(n, followers[k])) return true;
    return false;
}

static bool is_quantised_pool(const layout *l, const sp_gnode *n)
{
    sparoa_node attrs = sp_node_attrs(n);
    return strcmp(n->domain, "com.microsoft") == 0 &&
           strcmp(n->op_type, "QLinearGlobalAveragePool") == 0 && has_last(l, n->in[0]) &&
           !sparoa_attr_int(&attrs, "channels_last", 0);
}

static sparoa_status convert_quantised_pool(layout *l, size_t i, sparoa_error *err)
{
    l->g->nodes[i].in[0] = l->of[l->g->nodes[i].in[0]].last;
    if (!sp_node_set_int(l->g, (sp_id)i, "channels_last", 1) || !give_last(l, i, 0))
        return no_memory(l, err);
    return SPAROA_OK;
}

static sparoa_status convert_node(layout *l, size_t i, sparoa_error *err)
{
    sp_gnode *n = &l->g->nodes[i];
    if (n->n_subgraphs) return stay_first(l, i, err);
    if (is_anchor(l, n)) return convert_anchor(l, i, err);
    if (is_quantised_pool(l, n)) return convert_quantised_pool(l, i, err);
    if (sp_node_is(n, "Transpose") && convert_transpose(l, n)) return SPAROA_OK;
    if (sp_node_is(n, "Transpose") && is_to_last(l, n))
        return make_identity(l, i) ? SPAROA_OK : stay_first(l, i, err);
    if (n->n_in && any_last(l, n)) {
        if (sp_node_is(n, "Shape") && has_last(l, n->in[0])) return convert_shape(l, i, err);
        if (eltwise_can_follow(l, n)) return convert_eltwise(l, i, err);
        if (is_image(sp_node_in(l->g, n, 0)) && has_last(l, n->in[0]) && sp_can_move_axes(l->g, n))
            return convert_axes(l, i, err);
    }
    return stay_first(l, i, err);
}

/* An image that comes out of an If may have no known rank; a convolution's weights tell it. */
static void ranks_from_weights(sp_graph *g)
{
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        if (!sp_node_is(n, "Conv") && !sp_node_is(n, "ConvTranspose")) continue;
        const sp_value *w = sp_const_in(g, n, 1);
        if (!w || w->fact.rank < 3 || n->in[0] == SP_NO_ID || n->out[0] == SP_NO_ID) continue;
        sparoa_tensor *x = &g->values[n->in[0]].fact, *y = &g->values[n->out[0]].fact;
        if (x->rank < 0) sp_set_shape(x, x->dtype, w->fact.rank, NULL);
        if (y->rank < 0) sp_set_shape(y, y->dtype, w->fact.rank, NULL);
    }
}

sparoa_status sp_pass_layout(sp_graph *graph, sparoa_error *err)
{
    ranks_from_weights(graph);
    const sparoa_allocator *a = &graph->arena.alloc;
    layout l = {.g = graph, .count = graph->value_count};
    l.of = sp_alloc(a, l.count * sizeof *l.of);
    if (!l.of) return SP_NO_MEMORY(graph, err);
    for (size_t v = 0; v < l.count; v++) l.of[v] = (forms){(sp_id)v, SP_NO_ID};
    size_t nodes = graph->node_count;
    sparoa_status status = SPAROA_OK;
    for (size_t i = 0; status == SPAROA_OK && i < nodes; i++) status = convert_node(&l, i, err);
    for (uint32_t k = 0; status == SPAROA_OK && k < graph->output_count; k++) {
        sp_id first = want_first(&l, graph->outputs[k]);
        if (first == SP_NO_ID)
            status = SP_NO_MEMORY(graph, err);
        else
            graph->outputs[k] = first;
    }
    sp_free(a, l.of, l.count * sizeof *l.of);
    return status;
}
