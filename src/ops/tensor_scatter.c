#include "ops/move.h"

static sparoa_status tensor_scatter_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    const sparoa_tensor *cache = node->in[0], *update = node->in[1], *at = sparoa_in(node, 2);
    const char *mode = sparoa_attr_string(node, "mode", "linear");
    sp_copy_fact(node->out[0], cache);
    if (strcmp(mode, "linear") != 0 && strcmp(mode, "circular") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "mode='%.40s', expected linear or circular", mode);
    if (at) SP_TRY(sp_check_indices(node, 2, err));
    if (cache->rank < 0) return SPAROA_OK;
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -2), cache->rank, false, &axis, err));
    if (axis == 0) return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axis=0 is the batch");
    if (at && at->rank >= 0 &&
        (at->rank != 1 ||
         (at->dims[0] >= 0 && cache->dims[0] >= 0 && at->dims[0] != cache->dims[0])))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "write_indices must have one entry for each sample");
    if (update->rank < 0) return SPAROA_OK;
    if (update->rank != cache->rank)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "past_cache has rank %d, update %d",
                           cache->rank, update->rank);
    for (int32_t i = 0; i < cache->rank; i++) {
        int64_t c = cache->dims[i], u = update->dims[i];
        if (c >= 0 && u >= 0 && (i == axis ? u > c : u != c))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "dimension %d of update is %lld, of past_cache %lld", i,
                               (long long)u, (long long)c);
    }
    return SPAROA_OK;
}

static sparoa_status tensor_scatter_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *cache = node->in[0], *update = node->in[1], *at = sparoa_in(node, 2);
    bool circular = strcmp(sparoa_attr_string(node, "mode", "linear"), "circular") == 0;
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -2), cache->rank, false, &axis, exec->err));
    int64_t extent = cache->dims[axis], n = update->dims[axis], batches = cache->dims[0];
    for (int64_t b = 0; at && b < batches; b++) {
        int64_t w = sp_get_i64(at, b);
        if (w < 0 || (!circular && w > extent - n))
            return sp_fail_index(node, at, b, axis, extent, exec->err);
    }
    sp_move_bytes(node->out[0]->data, cache->data, sparoa_tensor_bytes(cache), exec);
    if (sp_count(update) == 0) return SPAROA_OK;
    int64_t per_batch = sp_dims_product(cache, 1, axis), inner = sp_inner(cache, axis);
    int64_t row = inner * (int64_t)sparoa_dtype_size(cache->dtype);
    for (int64_t b = 0; b < batches; b++) {
        int64_t w = at ? sp_get_i64(at, b) % extent : 0;
        int64_t straight = n < extent - w ? n : extent - w; /* before it wraps */
        for (int64_t p = b * per_batch; p < (b + 1) * per_batch; p++) {
            char *dst = (char *)node->out[0]->data + p * extent * row;
            const char *src = (const char *)update->data + p * n * row;
            memcpy(dst + w * row, src, (size_t)(straight * row));
            memcpy(dst, src + straight * row, (size_t)((n - straight) * row));
        }
    }
    return SPAROA_OK;
}

/* ONNX TensorScatter, version 24. */
SP_OP(TensorScatter) = {
    SP_OP_HEAD("TensorScatter", 24, 0),
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = tensor_scatter_infer,
    .run = tensor_scatter_run,
};
