#include "ops/move.h"

/* The list `which` ("starts", ...) as attribute, else as input; *n -1: given but not known, 0:
 * absent. */
static sparoa_status slice_list(const sparoa_node *node, const char *which, int32_t input,
                                int64_t values[SPAROA_MAX_RANK], int32_t *n, bool *given,
                                sparoa_error *err)
{
    size_t count;
    const int64_t *attr = sparoa_attr_ints(node, which, &count);
    *given = attr || sparoa_in(node, input);
    if (!attr) return sp_read_ints(node, input, values, SPAROA_MAX_RANK, n, err);
    if (count > SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s has %zu entries", which, count);
    memcpy(values, attr, count * sizeof values[0]);
    *n = (int32_t)count;
    return SPAROA_OK;
}

typedef struct slice_spec {
    int32_t n; /* axes sliced; -1: not even the axes are known */
    int32_t axes[SPAROA_MAX_RANK];
    bool known; /* starts, ends and steps are */
    int64_t starts[SPAROA_MAX_RANK], ends[SPAROA_MAX_RANK], steps[SPAROA_MAX_RANK];
} slice_spec;

static sparoa_status read_spec(const sparoa_node *node, int32_t rank, slice_spec *s,
                               sparoa_error *err)
{
    int64_t axes[SPAROA_MAX_RANK];
    int32_t n_starts, n_ends, n_axes, n_steps;
    bool has_starts, has_ends, has_axes, has_steps;
    SP_TRY(slice_list(node, "starts", 1, s->starts, &n_starts, &has_starts, err));
    SP_TRY(slice_list(node, "ends", 2, s->ends, &n_ends, &has_ends, err));
    SP_TRY(slice_list(node, "axes", 3, axes, &n_axes, &has_axes, err));
    SP_TRY(slice_list(node, "steps", 4, s->steps, &n_steps, &has_steps, err));
    if (!has_starts || !has_ends)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "starts and ends are both needed");
    s->known = n_starts >= 0 && n_ends >= 0 && n_steps >= 0;
    s->n = has_axes ? n_axes : n_starts >= 0 ? n_starts : n_ends;
    if (s->n < 0) return SPAROA_OK;
    if ((n_starts >= 0 && n_starts != s->n) || (n_ends >= 0 && n_ends != s->n) ||
        (has_steps && n_steps >= 0 && n_steps != s->n))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "starts, ends, axes and steps have %d, %d, %d and %d entries", n_starts,
                           n_ends, s->n, has_steps ? n_steps : s->n);
    uint32_t seen = 0;
    for (int32_t i = 0; i < s->n; i++) {
        SP_TRY(sp_axis(node, has_axes ? axes[i] : i, rank, false, &s->axes[i], err));
        if (seen >> s->axes[i] & 1u)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axis %d is given twice",
                               s->axes[i]);
        seen |= 1u << s->axes[i];
        if (!has_steps) s->steps[i] = 1;
        if (s->known && s->steps[i] == 0)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "the step of axis %d is 0",
                               s->axes[i]);
    }
    return SPAROA_OK;
}

/* Elements start, start+step, ... of an axis of d elements, clamped as ONNX says. Returns how many.
 */
static int64_t slice_axis(int64_t d, int64_t start, int64_t end, int64_t step, int64_t *first)
{
    if (start < 0) start += d;
    if (end < 0) end += d;
    *first = 0;
    if (d == 0) return 0;
    if (step > 0) {
        start = start < 0 ? 0 : start > d ? d : start;
        end = end < 0 ? 0 : end > d ? d : end;
        *first = start;
        return end > start ? (end - start - 1) / step + 1 : 0;
    }
    start = start < 0 ? 0 : start > d - 1 ? d - 1 : start;
    end = end < -1 ? -1 : end > d - 1 ? d - 1 : end;
    *first = start;
    if (start <= end) return 0;
    return step == INT64_MIN ? 1 : (start - end - 1) / -step + 1;
}

static sparoa_status slice_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    sp_copy_fact(out, in);
    if (in->rank < 0) return SPAROA_OK;
    slice_spec s;
    SP_TRY(read_spec(node, in->rank, &s, err));
    if (s.n < 0) sp_set_shape(out, in->dtype, in->rank, NULL);
    for (int32_t i = 0; i < s.n; i++) {
        int64_t d = in->dims[s.axes[i]], first;
        out->dims[s.axes[i]] =
            d < 0 || !s.known ? -1 : slice_axis(d, s.starts[i], s.ends[i], s.steps[i], &first);
    }
    return SPAROA_OK;
}

static sparoa_status slice_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *out = node->out[0];
    slice_spec s;
    SP_TRY(read_spec(node, in->rank, &s, exec->err));
    if (sp_count(out) == 0) return SPAROA_OK;
    int64_t strides[SPAROA_MAX_RANK], offset = 0;
    sp_strides(in, strides);
    for (int32_t i = 0; i < s.n; i++) {
        int32_t axis = s.axes[i];
        int64_t first, n = slice_axis(in->dims[axis], s.starts[i], s.ends[i], s.steps[i], &first);
        offset += first * strides[axis];
        strides[axis] =
            n > 1 ? strides[axis] * s.steps[i] : 0; /* a lone element's step may be huge */
    }
    size_t size = sparoa_dtype_size(in->dtype);
    sp_move m = {
        .size = size, .src = (const char *)in->data + offset * (int64_t)size, .dst = out->data};
    for (int32_t i = 0; i < in->rank; i++) sp_move_axis(&m, out->dims[i], strides[i], 0);
    sp_move_dense(&m);
    sp_move_run(&m, exec);
    return SPAROA_OK;
}

/* What is read of the data is what is written. */
static void slice_cost(const sparoa_node *node, sparoa_cost *cost)
{
    double bytes = (double)sparoa_tensor_bytes(node->out[0]);
    bool weights = node->constant && node->constant[0];
    cost->bytes_w = weights ? bytes : 0;
    cost->bytes_in = weights ? 0 : bytes;
}

/* ONNX Slice, versions 1 to 13: starts, ends, axes as attributes or (10) inputs, with steps. */
SP_OP(Slice) = {
    SP_OP_HEAD("Slice", 1, 0),
    .min_in = 1,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = slice_infer,
    .cost = slice_cost,
    .run = slice_run,
};
