#include "ops/move.h"

static sparoa_status view_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_move_bytes(node->out[0]->data, node->in[0]->data, sparoa_tensor_bytes(node->in[0]), exec);
    return SPAROA_OK;
}

/* ---- Reshape ---- */

/* The requested shape, from input 1 or (Reshape-1) the attribute; *rank -1: not known. */
static sparoa_status requested_shape(const sparoa_node *node, int64_t dims[SPAROA_MAX_RANK],
                                     int32_t *rank, sparoa_error *err)
{
    size_t n;
    const int64_t *attr = sparoa_attr_ints(node, "shape", &n);
    if (sparoa_in(node, 1)) return sp_read_ints(node, 1, dims, SPAROA_MAX_RANK, rank, err);
    if (!attr && !sparoa_attr_find(node, "shape"))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "has no shape");
    if (n > SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "shape has %zu dimensions, at most %d are possible", n, SPAROA_MAX_RANK);
    if (n) memcpy(dims, attr, n * sizeof dims[0]);
    *rank = (int32_t)n;
    return SPAROA_OK;
}

/* Works out the dimension that is -1 in `out` from the elements of `in`; copied[i]: dimension i of
 * out is that of in, and drops out of the division even where it is unknown. */
static sparoa_status solve_wildcard(const sparoa_node *node, const sparoa_tensor *in,
                                    sparoa_tensor *out, const bool *copied, int32_t wildcard,
                                    sparoa_error *err)
{
    int64_t have = 1, want = 1;
    for (int32_t i = 0; i < in->rank; i++) {
        if (i < out->rank && copied[i]) continue;
        if (in->dims[i] < 0) return SPAROA_OK;
        have *= in->dims[i];
    }
    for (int32_t i = 0; i < out->rank; i++) {
        if (i == wildcard || copied[i]) continue;
        if (__builtin_mul_overflow(want, out->dims[i], &want)) want = -1;
        if (want < 0) break;
    }
    if (want <= 0 || have % want != 0)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "-1 stands for no size: %lld elements are left for a product of %lld",
                           (long long)have, (long long)want);
    out->dims[wildcard] = have / want;
    return SPAROA_OK;
}

static sparoa_status reshape_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0], *shape = sparoa_in(node, 1);
    sparoa_tensor *out = node->out[0];
    int64_t dims[SPAROA_MAX_RANK];
    int32_t rank, wildcard = -1;
    bool copied[SPAROA_MAX_RANK] = {false}, allow_zero = sparoa_attr_int(node, "allowzero", 0) != 0;
    SP_TRY(requested_shape(node, dims, &rank, err));
    if (rank < 0) {
        bool sized = shape->rank == 1 && shape->dims[0] >= 0 && shape->dims[0] <= SPAROA_MAX_RANK;
        sp_set_shape(out, in->dtype, sized ? (int32_t)shape->dims[0] : -1, NULL);
        return SPAROA_OK;
    }
    for (int32_t i = 0; i < rank; i++) {
        if (dims[i] < -1 || (dims[i] == -1 && wildcard >= 0))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "shape[%d]=%lld: sizes must be positive, 0 or one single -1", i,
                               (long long)dims[i]);
        if (dims[i] == -1) wildcard = i;
        if (dims[i] != 0 || allow_zero) continue;
        if (in->rank >= 0 && i >= in->rank)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "shape[%d]=0 copies a dimension of rank %d", i, in->rank);
        copied[i] = true;
        dims[i] = in->rank < 0 ? -1 : in->dims[i];
    }
    sp_set_shape(out, in->dtype, rank, dims);
    SP_TRY(sp_check_shape(node, out, err));
    if (in->rank < 0) return SPAROA_OK;
    if (wildcard >= 0) SP_TRY(solve_wildcard(node, in, out, copied, wildcard, err));
    if (sp_known(in) && sp_known(out) && sp_count(in) != sp_count(out))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input has %lld elements, the new shape %lld", (long long)sp_count(in),
                           (long long)sp_count(out));
    return SPAROA_OK;
}

/* ONNX Reshape, versions 1 to 25: shape as attribute (1) or input (5), allowzero (14). */
SP_OP(Reshape) = {
    SP_OP_HEAD("Reshape", 1, 0),
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_VIEW,
    .infer = reshape_infer,
    .run = view_run,
};

/* ---- Flatten ---- */

static sparoa_status flatten_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0];
    sp_set_shape(node->out[0], in->dtype, 2, NULL);
    if (in->rank < 0) return SPAROA_OK;
    int32_t axis = in->rank;
    int64_t raw = sparoa_attr_int(node, "axis", 1); /* from -rank to rank itself */
    if (raw != in->rank) SP_TRY(sp_axis(node, raw, in->rank, false, &axis, err));
    int64_t dims[2] = {1, 1};
    for (int32_t i = 0; i < in->rank; i++) {
        int64_t *d = &dims[i >= axis];
        if (*d >= 0) *d = in->dims[i] < 0 ? -1 : *d * in->dims[i];
    }
    sp_set_shape(node->out[0], in->dtype, 2, dims);
    return SPAROA_OK;
}

/* ONNX Flatten, versions 1 to 25. */
SP_OP(Flatten) = {
    SP_OP_HEAD("Flatten", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_VIEW,
    .infer = flatten_infer,
    .run = view_run,
};

/* ---- Squeeze and Unsqueeze ---- */

static sparoa_status squeeze_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0];
    sp_set_shape(node->out[0], in->dtype, -1, NULL);
    if (in->rank < 0) return SPAROA_OK;
    int32_t axes[SPAROA_MAX_RANK], n;
    bool given, drop[SPAROA_MAX_RANK] = {false};
    SP_TRY(sp_read_axes(node, 1, in->rank, axes, &n, &given, err));
    if (n < 0) return SPAROA_OK;
    for (int32_t i = 0; i < n; i++) {
        if (in->dims[axes[i]] != 1 && in->dims[axes[i]] != -1)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "axis %d has size %lld, expected 1", axes[i],
                               (long long)in->dims[axes[i]]);
        drop[axes[i]] = true;
    }
    int64_t dims[SPAROA_MAX_RANK];
    int32_t rank = 0;
    for (int32_t i = 0; i < in->rank; i++) {
        if (!given && in->dims[i] < 0) return SPAROA_OK; /* it may be 1 */
        if (drop[i] || (!given && in->dims[i] == 1)) continue;
        dims[rank++] = in->dims[i];
    }
    sp_set_shape(node->out[0], in->dtype, rank, dims);
    return SPAROA_OK;
}

static sparoa_status unsqueeze_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0], *input = sparoa_in(node, 1);
    int64_t raw[SPAROA_MAX_RANK];
    size_t n_attr;
    const int64_t *attr = sparoa_attr_ints(node, "axes", &n_attr);
    int32_t n = (int32_t)n_attr;
    if (!attr && !input && !sparoa_attr_find(node, "axes"))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "has no axes");
    if (n_attr > SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axes has %zu entries", n_attr);
    if (attr)
        memcpy(raw, attr, n_attr * sizeof raw[0]);
    else
        SP_TRY(sp_read_ints(node, 1, raw, SPAROA_MAX_RANK, &n, err));
    bool sized =
        n >= 0 || (input->rank == 1 && input->dims[0] >= 0 && input->dims[0] <= SPAROA_MAX_RANK);
    int32_t added = n >= 0 ? n : sized ? (int32_t)input->dims[0] : -1;
    sp_set_shape(node->out[0], in->dtype, -1, NULL);
    if (in->rank < 0 || !sized) return SPAROA_OK;
    int32_t rank = in->rank + added;
    if (rank > SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the output would have rank %d, at most %d is possible", rank,
                           SPAROA_MAX_RANK);
    sp_set_shape(node->out[0], in->dtype, rank, NULL);
    if (n < 0) return SPAROA_OK;
    bool one[SPAROA_MAX_RANK] = {false};
    for (int32_t i = 0; i < n; i++) {
        int32_t axis;
        SP_TRY(sp_axis(node, raw[i], rank, false, &axis, err));
        if (one[axis])
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axis %d is given twice", axis);
        one[axis] = true;
    }
    for (int32_t i = 0, j = 0; i < rank; i++) node->out[0]->dims[i] = one[i] ? 1 : in->dims[j++];
    return SPAROA_OK;
}

/* ONNX Squeeze, versions 1 to 25: axes as attribute or (13) input. */
SP_OP(Squeeze) = {
    SP_OP_HEAD("Squeeze", 1, 0),
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_VIEW,
    .infer = squeeze_infer,
    .run = view_run,
};

/* ONNX Unsqueeze, versions 1 to 25: axes as attribute or (13) input. */
SP_OP(Unsqueeze) = {
    SP_OP_HEAD("Unsqueeze", 1, 0),
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_VIEW,
    .infer = unsqueeze_infer,
    .run = view_run,
};
