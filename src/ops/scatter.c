#include "ops/combine.h"
#include "ops/move.h"

/* ---- ScatterElements ---- */

static sparoa_status check_updates(const sparoa_node *node, sparoa_error *err)
{
    sp_combine_mode mode;
    SP_TRY(sp_check_present(node, 3, 1, err));
    SP_TRY(sp_check_indices(node, 1, err));
    SP_TRY(sp_check_same_type(node, 0, 2, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_ALL, err));
    return sp_combine_mode_of(node, &mode, err);
}

static sparoa_status mismatch(const sparoa_node *node, int32_t axis, int64_t have, int64_t want,
                              sparoa_error *err)
{
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                       "dimension %d of updates is %lld, expected %lld", axis, (long long)have,
                       (long long)want);
}

static sparoa_status scatter_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(check_updates(node, err));
    const sparoa_tensor *in = node->in[0], *indices = node->in[1], *updates = node->in[2];
    sp_copy_fact(node->out[0], in);
    if (in->rank < 0) return SPAROA_OK;
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &axis, err));
    if (indices->rank < 0 || updates->rank < 0) return SPAROA_OK;
    if (in->rank != indices->rank || in->rank != updates->rank)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "data, indices and updates have ranks %d, %d and %d", in->rank,
                           indices->rank, updates->rank);
    for (int32_t i = 0; i < in->rank; i++) {
        int64_t d = in->dims[i], n = indices->dims[i], u = updates->dims[i];
        if (n >= 0 && u >= 0 && n != u) return mismatch(node, i, u, n, err);
        if (i != axis && d >= 0 && n > d)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "dimension %d of indices is %lld, that of data %lld", i,
                               (long long)n, (long long)d);
    }
    return SPAROA_OK;
}

typedef struct scatter_args {
    const sparoa_tensor *indices;
    const char *updates;
    char *out;
    int32_t axis;
    int64_t extent, size, out_strides[SPAROA_MAX_RANK], strides[SPAROA_MAX_RANK];
    sp_combine_fn combine;
} scatter_args;

/* Lines begin..end-1 of indices along the axis: different lines never meet in the output. */
static void scatter_lines(void *arg, int64_t begin, int64_t end)
{
    const scatter_args *a = arg;
    int64_t n = a->indices->dims[a->axis], step = a->strides[a->axis],
            out_step = a->out_strides[a->axis] * a->size;
    for (int64_t line = begin; line < end; line++) {
        int64_t from = 0, to = 0, rest = line;
        for (int32_t i = a->indices->rank - 1; i >= 0; i--) {
            if (i == a->axis) continue;
            int64_t c = rest % a->indices->dims[i];
            rest /= a->indices->dims[i];
            from += c * a->strides[i];
            to += c * a->out_strides[i];
        }
        char *out = a->out + to * a->size;
        for (int64_t j = 0; j < n; j++, from += step) {
            char *dst = out + sp_index_at(a->indices, from, a->extent) * out_step;
            const char *src = a->updates + from * a->size;
            if (a->combine)
                a->combine(dst, src, 1);
            else
                sp_copy_block(dst, src, (size_t)a->size);
        }
    }
}

static sparoa_status scatter_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    scatter_args a = {.indices = indices, .updates = node->in[2]->data, .out = node->out[0]->data};
    sp_combine_mode mode;
    SP_TRY(sp_combine_mode_of(node, &mode, exec->err));
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &a.axis, exec->err));
    a.extent = in->dims[a.axis];
    SP_TRY(sp_check_range(node, indices, a.axis, a.extent, exec->err));
    sp_move_bytes(a.out, in->data, sparoa_tensor_bytes(in), exec);
    int64_t count = sp_count(indices);
    if (count == 0) return SPAROA_OK;
    a.size = (int64_t)sparoa_dtype_size(in->dtype);
    a.combine = sp_combine_for(in->dtype, mode);
    sp_strides(in, a.out_strides);
    sp_strides(indices, a.strides);
    int64_t n = indices->dims[a.axis];
    sp_parallel_for(exec, count / n, 16384 / n + 1, scatter_lines, &a);
    return SPAROA_OK;
}

/* ONNX Scatter, versions 9 and 11 (where ScatterElements took over). */
SP_OP(Scatter) = {
    SP_OP_HEAD("Scatter", 9, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = scatter_infer,
    .run = scatter_run,
};

/* ONNX ScatterElements, versions 11 to 18: reduction add and mul (16), max and min (18). */
SP_OP(ScatterElements) = {
    SP_OP_HEAD("ScatterElements", 11, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = scatter_infer,
    .run = scatter_run,
};

/* ---- ScatterND ---- */

static sparoa_status scatter_nd_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(check_updates(node, err));
    const sparoa_tensor *in = node->in[0], *indices = node->in[1], *updates = node->in[2];
    sp_copy_fact(node->out[0], in);
    if (in->rank < 0 || indices->rank < 0) return SPAROA_OK;
    if (in->rank < 1 || indices->rank < 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "data and indices have ranks %d and %d, expected 1 or more", in->rank,
                           indices->rank);
    int64_t depth = indices->dims[indices->rank - 1];
    if (depth < 0 || updates->rank < 0) return SPAROA_OK;
    if (depth > in->rank)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the last dimension of indices is %lld, data has rank %d",
                           (long long)depth, in->rank);
    int32_t tuple = indices->rank - 1;
    if (updates->rank != tuple + in->rank - depth)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "updates has rank %d, expected %lld",
                           updates->rank, (long long)(tuple + in->rank - depth));
    for (int32_t i = 0; i < updates->rank; i++) {
        int64_t want = i < tuple ? indices->dims[i] : in->dims[i - tuple + depth];
        if (want >= 0 && updates->dims[i] >= 0 && want != updates->dims[i])
            return mismatch(node, i, updates->dims[i], want, err);
    }
    return SPAROA_OK;
}

static sparoa_status scatter_nd_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    sp_combine_mode mode;
    SP_TRY(sp_combine_mode_of(node, &mode, exec->err));
    int32_t depth = (int32_t)indices->dims[indices->rank - 1];
    int64_t tuples = sp_dims_product(indices, 0, indices->rank - 1), strides[SPAROA_MAX_RANK];
    int64_t size = (int64_t)sparoa_dtype_size(in->dtype),
            block = sp_dims_product(in, depth, in->rank);
    for (int64_t i = 0; i < tuples * depth; i++) {
        int64_t extent = in->dims[i % depth];
        if (sp_index_at(indices, i, extent) < 0)
            return sp_fail_index(node, indices, i, (int32_t)(i % depth), extent, exec->err);
    }
    sp_strides(in, strides);
    sp_move_bytes(node->out[0]->data, in->data, sparoa_tensor_bytes(in), exec);
    if (block == 0) return SPAROA_OK;
    sp_combine_fn combine = sp_combine_for(in->dtype, mode);
    const char *src = node->in[2]->data;
    for (int64_t t = 0; t < tuples; t++, src += block * size) { /* in order: later updates win */
        int64_t offset = 0;
        for (int32_t j = 0; j < depth; j++)
            offset += sp_index_at(indices, t * depth + j, in->dims[j]) * strides[j];
        char *dst = (char *)node->out[0]->data + offset * size;
        if (combine)
            combine(dst, src, block);
        else
            sp_copy_block(dst, src, (size_t)(block * size));
    }
    return SPAROA_OK;
}

/* ONNX ScatterND, versions 11 to 18: reduction add and mul (16), max and min (18). */
SP_OP(ScatterND) = {
    SP_OP_HEAD("ScatterND", 11, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = scatter_nd_infer,
    .run = scatter_nd_run,
};
