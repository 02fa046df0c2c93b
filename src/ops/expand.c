#include "ops/move.h"

/* ---- Expand ---- */

static sparoa_status expand_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    const sparoa_tensor *in = node->in[0], *shape = node->in[1];
    sparoa_tensor want = {0}, *out = node->out[0];
    SP_TRY(sp_read_ints(node, 1, want.dims, SPAROA_MAX_RANK, &want.rank, err));
    out->dtype = in->dtype;
    if (want.rank < 0 || in->rank < 0) {
        bool sized = in->rank >= 0 && shape->rank == 1 && shape->dims[0] >= 0 &&
                     shape->dims[0] <= SPAROA_MAX_RANK;
        int64_t rank = sized ? (shape->dims[0] > in->rank ? shape->dims[0] : in->rank) : -1;
        sp_set_shape(out, in->dtype, (int32_t)rank, NULL);
        return SPAROA_OK;
    }
    for (int32_t i = 0; i < want.rank; i++)
        if (want.dims[i] < 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "shape[%d]=%lld is negative", i,
                               (long long)want.dims[i]);
    SP_TRY(sp_broadcast(node, in, &want, out, err));
    return sp_check_shape(node, out, err);
}

static sparoa_status expand_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *out = node->out[0];
    int64_t strides[SPAROA_MAX_RANK];
    sp_move m = {.size = sparoa_dtype_size(in->dtype), .src = in->data, .dst = out->data};
    sp_broadcast_strides(in, out, strides);
    for (int32_t i = 0; i < out->rank; i++) sp_move_axis(&m, out->dims[i], strides[i], 0);
    sp_move_dense(&m);
    sp_move_run(&m, exec);
    return SPAROA_OK;
}

/* ONNX Expand, versions 8 and 13. */
SP_OP(Expand) = {
    SP_OP_HEAD("Expand", 8, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = expand_infer,
    .run = expand_run,
};

/* ---- Tile ---- */

static sparoa_status tile_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    int64_t repeats[SPAROA_MAX_RANK];
    int32_t n;
    SP_TRY(sp_read_ints(node, 1, repeats, SPAROA_MAX_RANK, &n, err));
    sp_set_shape(out, in->dtype, in->rank < 0 ? n : in->rank, NULL);
    if (n < 0 || in->rank < 0) return SPAROA_OK;
    if (n != in->rank)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "repeats has %d values, expected rank %d", n, in->rank);
    for (int32_t i = 0; i < n; i++) {
        if (repeats[i] < 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "repeats[%d]=%lld is negative", i,
                               (long long)repeats[i]);
        if (in->dims[i] < 0) continue;
        if (__builtin_mul_overflow(in->dims[i], repeats[i], &out->dims[i]))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "repeats[%d]=%lld is too large", i,
                               (long long)repeats[i]);
    }
    return sp_check_shape(node, out, err);
}

static sparoa_status tile_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *out = node->out[0];
    int64_t strides[SPAROA_MAX_RANK];
    sp_move m = {.size = sparoa_dtype_size(in->dtype), .src = in->data, .dst = out->data};
    if (sp_count(out) == 0) return SPAROA_OK;
    sp_strides(in, strides);
    for (int32_t i = 0; i < in->rank; i++) {
        sp_move_axis(&m, out->dims[i] / in->dims[i], 0, 0);
        sp_move_axis(&m, in->dims[i], strides[i], 0);
    }
    sp_move_dense(&m);
    sp_move_run(&m, exec);
    return SPAROA_OK;
}

/* ONNX Tile, versions 6 and 13. */
SP_OP(Tile) = {
    SP_OP_HEAD("Tile", 6, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = tile_infer,
    .run = tile_run,
};
