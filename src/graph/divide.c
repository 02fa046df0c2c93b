#include "graph/divide.h"

#include "ops/conv_shape.h"
#include "ops/cut.h"
#include "ops/epilogue.h"

#define MAX_INPUTS 16
#define OPSET 13 /* of the Slice and Concat nodes made here */

typedef enum kind { KIND_CONV, KIND_CONV_TRANSPOSE, KIND_GEMM, KIND_MATMUL } kind;

/* Which inputs are what; 0: there is none. */
typedef struct rule {
    const char *op_type;
    kind kind;
    uint8_t weight, bias;
    uint8_t of_x[2],
        of_weight[2]; /* scale and zero point: one, or one for each row, column, filter */
} rule;

static const rule rules[] = {
    {"Conv", KIND_CONV, 1, 2, {0}, {0}},
    {"FusedConv", KIND_CONV, 1, 2, {0}, {0}},
    {"ConvTranspose", KIND_CONV_TRANSPOSE, 1, 2, {0}, {0}},
    {"ConvInteger", KIND_CONV, 1, 0, {2}, {3}},
    {"QLinearConv", KIND_CONV, 3, 8, {1, 2}, {4, 5}},
    {"Gemm", KIND_GEMM, 1, 2, {0}, {0}},
    {"FusedGemm", KIND_GEMM, 1, 2, {0}, {0}},
    {"MatMul", KIND_MATMUL, 1, 0, {0}, {0}},
    {"FusedMatMul", KIND_MATMUL, 1, 0, {0}, {0}},
    {"MatMulInteger", KIND_MATMUL, 1, 0, {2}, {3}},
    {"QLinearMatMul", KIND_MATMUL, 3, 0, {1, 2}, {4, 5}},
};

static const rule *rule_of(const char *op_type)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(op_type, rules[i].op_type) == 0) return &rules[i];
    return NULL;
}

/* How a node is cut: along which axis of its output and of each input. */
typedef struct cutting {
    const rule *rule;
    sparoa_node view;
    sparoa_tensor *in[MAX_INPUTS], *out[1];
    int32_t out_axis, in_axis[MAX_INPUTS]; /* -1: both parts read all of it */
    bool rows; /* a convolution by rows: the parts of input 0 overlap, and pads differ */
    sp_conv conv;
} cutting;

const char *sp_split_axis_name(sp_split_axis axis)
{
    static const char *const names[] = {"none", "channels", "rows", "batch"};
    return (unsigned)axis < SP_SPLIT_COUNT ? names[axis] : "unknown";
}

/* ---- rules by operator ---- */

static const char *conv_rows(cutting *c, bool transposed)
{
    const sparoa_tensor *x = c->view.in[0], *w = c->view.in[c->rule->weight];
    bool nhwc = sp_is_nhwc(&c->view);
    if (transposed) return "a transposed convolution is not divided by rows";
    for (int32_t i = nhwc ? 1 : 2; i < x->rank - nhwc; i++)
        if (x->dims[i] < 0) return "the size of its images is not known before it runs";
    if (sp_conv_shape(&c->view, x, w, nhwc, &c->conv, NULL) != SPAROA_OK)
        return "its geometry is not known";
    for (int32_t i = 0; i < c->conv.w.spatial; i++)
        if (c->conv.w.kernel[i] < 0) return "the size of its window is not known before it runs";
    const sp_window *g = &c->conv.w;
    if ((g->kernel[0] - 1) * g->dilation[0] + 1 <= g->pad_begin[0] ||
        (g->out[0] - 1) * g->stride[0] - g->pad_begin[0] >= g->in[0])
        return "a row of its output sees nothing but padding";
    c->rows = true;
    c->out_axis = nhwc ? 1 : 2;
    return NULL;
}

/* Scales and zero points that have a value for each of the `each` elements of the axis that is cut,
 * which is axis `from_last` of their own, counted from the last, -1, where they have more than one
 * axis. */
static const char *cut_params(cutting *c, const uint8_t inputs[2], int64_t each, int32_t from_last)
{
    for (int k = 0; k < 2 && inputs[k]; k++) {
        const sparoa_tensor *t = sparoa_in(&c->view, inputs[k]);
        if (!t) continue;
        if (!sp_known(t)) return "the shapes of its scales and zero points are not known";
        if (sp_count(t) == 1) continue;
        int32_t axis = t->rank == 1 ? 0 : t->rank + from_last;
        if (axis < 0 || t->dims[axis] != each) return "its scales or zero points go another way";
        c->in_axis[inputs[k]] = axis;
    }
    return NULL;
}

static const char *cut_conv(cutting *c, sp_split_axis axis, bool transposed)
{
    const sparoa_node *v = &c->view;
    const int32_t bias = c->rule->bias;
    const sparoa_tensor *x = v->in[0], *w = v->in[c->rule->weight];
    sp_epilogue e = sp_epilogue_of(v);
    const char *why = NULL;
    if (x->rank < 3 || w->rank != x->rank) return "the shapes of its inputs are not known";
    if (axis == SP_SPLIT_CHANNELS) {
        if (sparoa_attr_int(v, "group", 1) != 1) return "its groups of channels do not divide";
        c->out_axis = sp_is_nhwc(v) ? x->rank - 1 : 1;
        c->in_axis[c->rule->weight] = transposed ? 1 : 0;
        if (bias && e.residual_input != bias && sparoa_in(v, bias)) c->in_axis[bias] = 0;
        why = cut_params(c, c->rule->of_weight, w->dims[0], -1);
    } else if (axis == SP_SPLIT_BATCH) {
        c->out_axis = c->in_axis[0] = 0;
    } else {
        why = conv_rows(c, transposed);
    }
    if (e.residual_input >= 0) c->in_axis[e.residual_input] = c->out_axis;
    return why;
}

/* An input that is broadcast to the output's shape, cut with the output's axis (both counted from
 * the last, -1). False: it is not known whether it spans that axis. */
static bool cut_broadcast(cutting *c, int32_t input, int32_t from_last)
{
    const sparoa_tensor *t = sparoa_in(&c->view, input);
    if (!t) return true;
    int32_t axis = t->rank + from_last;
    if (t->rank < 0 || (axis >= 0 && t->dims[axis] < 0)) return false;
    if (axis >= 0 && t->dims[axis] != 1) c->in_axis[input] = axis;
    return true;
}

static const char *cut_gemm(cutting *c, sp_split_axis axis)
{
    const sparoa_node *v = &c->view;
    sp_epilogue e = sp_epilogue_of(v);
    bool channels = axis == SP_SPLIT_CHANNELS;
    c->out_axis = channels ? 1 : 0;
    if (channels)
        c->in_axis[1] = sparoa_attr_int(v, "transB", 0) ? 0 : 1;
    else
        c->in_axis[0] = sparoa_attr_int(v, "transA", 0) ? 1 : 0;
    if (e.residual_input != 2 && !cut_broadcast(c, 2, channels ? -1 : -2))
        return "the shape of what is added to the product is not known";
    if (e.residual_input >= 0) c->in_axis[e.residual_input] = c->out_axis;
    return NULL;
}

/* Scales and zero points of a matrix of a stack: one, one for each row or column (`each`) of any of
 * them, or as many for each matrix, in the stack's shape. Those go with the first axis. */
static const char *cut_stacked_params(cutting *c, const uint8_t inputs[2], const sparoa_tensor *of,
                                      int64_t each, int32_t rank)
{
    for (int k = 0; k < 2 && inputs[k]; k++) {
        const sparoa_tensor *t = sparoa_in(&c->view, inputs[k]);
        if (!t) continue;
        if (!sp_known(t)) return "the shapes of its scales and zero points are not known";
        if (sp_count(t) == 1 || (each >= 0 && sp_count(t) == each)) continue;
        if (t->rank != of->rank || t->dims[0] != of->dims[0])
            return "its scales or zero points go another way";
        if (t->rank == rank && t->dims[0] > 1) c->in_axis[inputs[k]] = 0;
    }
    return NULL;
}

/* The first axis of a product of stacks of matrices. */
static const char *cut_stack(cutting *c, int32_t rank)
{
    const rule *r = c->rule;
    const sparoa_tensor *a = c->view.in[0], *b = c->view.in[r->weight];
    if ((a->rank == rank && !cut_broadcast(c, 0, -rank)) ||
        (b->rank == rank && !cut_broadcast(c, r->weight, -rank)))
        return "it is not known which of its inputs have a batch";
    if (c->in_axis[0] < 0 && c->in_axis[r->weight] < 0) return "there is one image only";
    const char *why = cut_stacked_params(c, r->of_x, a, a->dims[a->rank - 2], rank);
    return why ? why : cut_stacked_params(c, r->of_weight, b, b->dims[b->rank - 1], rank);
}

static const char *cut_matmul(cutting *c, sp_split_axis axis)
{
    const sparoa_node *v = &c->view;
    const int32_t weight = c->rule->weight;
    sp_epilogue e = sp_epilogue_of(v);
    int32_t ra = v->in[0]->rank, rb = v->in[weight]->rank, rank = ra > rb ? ra : rb;
    const char *why = NULL;
    if (ra < 2 || rb < 2) return "its inputs are not known to be matrices";
    if (sparoa_attr_int(v, "transBatchA", 0) || sparoa_attr_int(v, "transBatchB", 0))
        return "its batch is transposed";
    if (axis == SP_SPLIT_CHANNELS) {
        c->out_axis = rank - 1;
        c->in_axis[weight] = sparoa_attr_int(v, "transB", 0) ? rb - 2 : rb - 1;
        if (e.bias_input >= 0) c->in_axis[e.bias_input] = 0;
        why = cut_params(c, c->rule->of_weight, v->in[weight]->dims[rb - 1], -1);
    } else if (axis == SP_SPLIT_ROWS || rank == 2) {
        c->out_axis = rank - 2;
        c->in_axis[0] = sparoa_attr_int(v, "transA", 0) ? ra - 1 : ra - 2;
        why = cut_params(c, c->rule->of_x, v->in[0]->dims[ra - 2], -2);
    } else {
        c->out_axis = 0;
        why = cut_stack(c, rank);
    }
    if (e.residual_input >= 0) c->in_axis[e.residual_input] = c->out_axis;
    return why;
}

bool sp_divides(const char *op_type)
{
    return rule_of(op_type) != NULL;
}

static const char *plan_cutting(const sp_graph *g, sp_id node, sp_split_axis axis, cutting *c)
{
    const sp_gnode *n = &g->nodes[node];
    const rule *r = rule_of(n->op_type);
    const sparoa_op *own = sp_op_find(n->domain, n->op_type, n->version, NULL, 0);
    if (!r || n->op != own || n->n_in > MAX_INPUTS || n->n_out != 1 || n->out[0] == SP_NO_ID)
        return "this operator is not divided";
    if (axis <= SP_SPLIT_NONE || axis >= SP_SPLIT_COUNT) return "there is no such axis";
    memset(c, 0, sizeof *c);
    c->rule = r;
    sp_graph_node_view(g, n, c->in, c->out, NULL, &c->view);
    for (int32_t i = 0; i < MAX_INPUTS; i++) c->in_axis[i] = -1;
    const char *why = r->kind == KIND_GEMM     ? cut_gemm(c, axis)
                      : r->kind == KIND_MATMUL ? cut_matmul(c, axis)
                                               : cut_conv(c, axis, r->kind == KIND_CONV_TRANSPOSE);
    if (why) return why;
    const sparoa_tensor *out = c->out[0];
    int64_t size = c->rows ? c->conv.w.out[0] : out->rank < 0 ? -1 : out->dims[c->out_axis];
    if (size >= 0 && size < 2) return "there is nothing to divide: the axis has less than two";
    for (int32_t i = 0; i < n->n_in; i++) {
        const sparoa_tensor *t = c->in[i];
        if (c->in_axis[i] >= 0 && g->values[n->in[i]].kind == SP_VALUE_CONST &&
            (t->dims[c->in_axis[i]] < 2 || !t->data))
            return "there is nothing to divide: a constant has less than two";
    }
    return NULL;
}

const char *sp_divide_obstacle(const sp_graph *graph, sp_id node, sp_split_axis axis)
{
    cutting c;
    return plan_cutting(graph, node, axis, &c);
}

/* ---- rewriting ---- */

typedef struct divider {
    sp_graph *g;
    const cutting *c;
    const char *name; /* of the node */
    float share;
    int part; /* 0 or 1 */
    sparoa_error *err;
} divider;

static sparoa_status no_memory(const divider *d)
{
    return sp_no_memory(&d->g->arena.alloc, sizeof(sp_gnode), d->err);
}

static sp_id named_value(divider *d, const char *base, const char *suffix)
{
    char *wanted = sp_arena_printf(&d->g->arena, "%s/%s%d", base, suffix, d->part);
    const char *name = wanted ? sp_graph_unique_name(d->g, wanted) : NULL;
    return name ? sp_graph_add_value(d->g, name, SP_VALUE_NODE) : SP_NO_ID;
}

/* A part of a constant: inside the whole where its bytes lie together. */
static sparoa_status cut_constant(divider *d, sp_id value, int32_t axis, sp_id *part)
{
    const sp_value *v = &d->g->values[value];
    const sparoa_allocator *a = &d->g->arena.alloc;
    sparoa_tensor fact = v->fact;
    size_t element = sparoa_dtype_size(fact.dtype);
    int64_t size = fact.dims[axis], cut = sp_cut(size, d->share), outer = 1;
    int64_t from = d->part ? cut : 0, count = d->part ? size - cut : cut;
    for (int32_t i = 0; i < axis; i++) outer *= fact.dims[i];
    size_t inner = element;
    for (int32_t i = axis + 1; i < fact.rank; i++) inner *= (size_t)fact.dims[i];
    const char *data = (const char *)fact.data + (size_t)from * inner;
    fact.dims[axis] = count;
    size_t bytes = sparoa_tensor_bytes(&fact), row = (size_t)count * inner;
    bool together = outer == 1 && (uintptr_t)data % element == 0;
    sp_blob *blob = together
                        ? sp_blob_slice(a, v->blob, (size_t)(data - (char *)v->blob->data), bytes)
                        : sp_blob_create(a, bytes);
    if (!blob) return no_memory(d);
    for (int64_t i = 0; !together && row && i < outer; i++)
        memcpy((char *)blob->data + (size_t)i * row, data + (size_t)(i * size) * inner, row);
    char *wanted = sp_arena_printf(&d->g->arena, "%s/part%d", v->name, d->part);
    const char *name = wanted ? sp_graph_unique_name(d->g, wanted) : NULL;
    if (!name) {
        sp_blob_unref(blob);
        return no_memory(d);
    }
    *part = sp_graph_add_const(d->g, name, &fact, blob);
    return *part == SP_NO_ID ? no_memory(d) : SPAROA_OK;
}

static sp_id int_constant(divider *d, const char *suffix, int64_t number)
{
    sp_blob *blob = sp_blob_create(&d->g->arena.alloc, sizeof number);
    if (!blob) return SP_NO_ID;
    memcpy(blob->data, &number, sizeof number);
    char *wanted = sp_arena_printf(&d->g->arena, "%s/%s%d", d->name, suffix, d->part);
    const char *name = wanted ? sp_graph_unique_name(d->g, wanted) : NULL;
    if (!name) {
        sp_blob_unref(blob);
        return SP_NO_ID;
    }
    const sparoa_tensor fact = {.dtype = SPAROA_INT64, .rank = 1, .dims = {1}};
    return sp_graph_add_const(d->g, name, &fact, blob);
}

/* A node with one output of the library's own operator `op`. */
static sp_id add_node(divider *d, const char *suffix, const sparoa_op *op, int32_t version,
                      const sp_id *in, int32_t n_in, sp_id *out)
{
    char *name = sp_arena_printf(&d->g->arena, "%s/%s%d", d->name, suffix, d->part);
    *out = named_value(d, d->name, suffix);
    if (!name || *out == SP_NO_ID) return SP_NO_ID;
    return sp_graph_add_node(d->g, name, op, version, in, n_in, out, 1, NULL, 0);
}

/* Elements from..to-1 of an axis; `to` or `from` may be a value worked out at run time. */
static sparoa_status add_slice(divider *d, sp_id value, int32_t axis, sp_id from, sp_id to,
                               sp_id *part)
{
    const sp_id in[] = {value, from, to, int_constant(d, "axis", axis)};
    const sparoa_op *op = sp_op_find("", "Slice", OPSET, NULL, 0);
    for (int i = 1; i < 4; i++)
        if (in[i] == SP_NO_ID) return no_memory(d);
    if (add_node(d, "slice", op, OPSET, in, 4, part) == SP_NO_ID) return no_memory(d);
    d->g->values[*part].nhwc = d->g->values[value].nhwc;
    return SPAROA_OK;
}

static sparoa_status cut_value(divider *d, sp_id value, int32_t axis, sp_id *part)
{
    const sparoa_tensor *t = &d->g->values[value].fact;
    sp_id cut;
    if (t->rank > 0 && t->dims[axis] >= 0) {
        cut = int_constant(d, "cut", sp_cut(t->dims[axis], d->share));
    } else {
        const sparoa_op *op = sp_op_find("sparoa", "Cut", 1, NULL, 0);
        sp_id node = add_node(d, "cut", op, 1, &value, 1, &cut);
        if (node == SP_NO_ID || !sp_node_set_int(d->g, node, "axis", axis) ||
            !sp_node_set_float(d->g, node, "share", d->share))
            return no_memory(d);
    }
    sp_id edge = int_constant(d, "edge", d->part ? INT64_MAX : 0);
    return d->part ? add_slice(d, value, axis, cut, edge, part)
                   : add_slice(d, value, axis, edge, cut, part);
}

/* The rows of the image that a part's rows are made from, and its pads above and below them. */
static sparoa_status cut_image(divider *d, sp_id value, int64_t *pad_begin, int64_t *pad_end,
                               sp_id *part)
{
    const sp_window *w = &d->c->conv.w;
    int64_t cut = sp_cut(w->out[0], d->share);
    int64_t first = d->part ? cut : 0, last = (d->part ? w->out[0] : cut) - 1;
    int64_t from = first * w->stride[0] - w->pad_begin[0];
    int64_t to = last * w->stride[0] - w->pad_begin[0] + (w->kernel[0] - 1) * w->dilation[0] + 1;
    *pad_begin = from < 0 ? -from : 0;
    *pad_end = to > w->in[0] ? to - w->in[0] : 0;
    from = from < 0 ? 0 : from;
    to = to > w->in[0] ? w->in[0] : to;
    return add_slice(d, value, d->c->out_axis, int_constant(d, "from", from),
                     int_constant(d, "to", to), part);
}

static sparoa_status set_pads(divider *d, sp_id node, int64_t pad_begin, int64_t pad_end)
{
    const sp_window *w = &d->c->conv.w;
    int64_t pads[2 * SP_MAX_SPATIAL];
    for (int32_t i = 0; i < w->spatial; i++) {
        pads[i] = i ? w->pad_begin[i] : pad_begin;
        pads[w->spatial + i] = i ? w->pad_end[i] : pad_end;
    }
    bool ok = sp_node_set_ints(d->g, node, "pads", pads, (size_t)w->spatial * 2) &&
              sp_node_set_string(d->g, node, "auto_pad", "NOTSET");
    return ok ? SPAROA_OK : no_memory(d);
}

static sparoa_status add_part(divider *d, sp_id node, sp_id *made, sp_id *value)
{
    sp_id in[MAX_INPUTS];
    int64_t pad_begin = 0, pad_end = 0;
    int32_t n_in = d->g->nodes[node].n_in;
    for (int32_t k = 0; k < n_in; k++) {
        sp_id v = in[k] = d->g->nodes[node].in[k];
        int32_t axis = d->c->in_axis[k];
        if (k == 0 && d->c->rows)
            SP_TRY(cut_image(d, v, &pad_begin, &pad_end, &in[k]));
        else if (axis >= 0 && d->g->values[v].kind == SP_VALUE_CONST)
            SP_TRY(cut_constant(d, v, axis, &in[k]));
        else if (axis >= 0)
            SP_TRY(cut_value(d, v, axis, &in[k]));
    }
    const sp_gnode n = d->g->nodes[node]; /* adding moves the array */
    char *name = sp_arena_printf(&d->g->arena, "%s/part%d", d->name, d->part);
    *value = named_value(d, d->g->values[n.out[0]].name, "part");
    if (!name || *value == SP_NO_ID) return no_memory(d);
    d->g->values[*value].nhwc = d->g->values[n.out[0]].nhwc;
    *made = sp_graph_add_node(d->g, name, n.op, n.version, in, n_in, value, 1, n.attrs, n.n_attrs);
    if (*made == SP_NO_ID) return no_memory(d);
    d->g->nodes[*made].op_type = n.op_type;
    d->g->nodes[*made].domain = n.domain;
    return d->c->rows ? set_pads(d, *made, pad_begin, pad_end) : SPAROA_OK;
}

sparoa_status sp_graph_divide(sp_graph *graph, sp_id node, sp_split_axis axis, double share,
                              sp_divided *made, sparoa_error *err)
{
    cutting c;
    const sp_gnode *n = &graph->nodes[node];
    const sparoa_node view = {.name = n->name, .op = n->op_type};
    const char *why = plan_cutting(graph, node, axis, &c);
    if (why)
        return sparoa_fail(err, SPAROA_INVALID_PLAN, &view, "it cannot be divided by %s: %s",
                           sp_split_axis_name(axis), why);
    divider d = {.g = graph, .c = &c, .name = n->name, .share = (float)share, .err = err};
    sp_id parts[2], out = n->out[0];
    made->first = (sp_id)graph->node_count;
    for (d.part = 0; d.part < 2; d.part++)
        SP_TRY(add_part(&d, node, &made->part[d.part], &parts[d.part]));
    char *name = sp_arena_printf(&graph->arena, "%s/join", d.name);
    const sparoa_op *op = sp_op_find("", "Concat", OPSET, NULL, 0);
    made->join =
        name ? sp_graph_add_node(graph, name, op, OPSET, parts, 2, &out, 1, NULL, 0) : SP_NO_ID;
    if (made->join == SP_NO_ID || !sp_node_set_int(graph, made->join, "axis", c.out_axis))
        return no_memory(&d);
    graph->nodes[node].dead = true;
    return SPAROA_OK;
}
