#include "ops/move.h"

/* ---- Gather ---- */

/* Gives out the rank of a result joined from several shapes; fails beyond SPAROA_MAX_RANK. */
static sparoa_status check_rank(const sparoa_node *node, int32_t rank, sparoa_error *err)
{
    if (rank <= SPAROA_MAX_RANK) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                       "the output would have rank %d, at most %d is possible", rank,
                       SPAROA_MAX_RANK);
}

static sparoa_status gather_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_indices(node, 1, err));
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    sparoa_tensor *out = node->out[0];
    sp_set_shape(out, in->dtype, -1, NULL);
    if (in->rank < 0) return SPAROA_OK;
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &axis, err));
    if (indices->rank < 0) return SPAROA_OK;
    int32_t rank = in->rank - 1 + indices->rank, n = 0;
    SP_TRY(check_rank(node, rank, err));
    int64_t dims[SPAROA_MAX_RANK];
    for (int32_t i = 0; i < axis; i++) dims[n++] = in->dims[i];
    for (int32_t i = 0; i < indices->rank; i++) dims[n++] = indices->dims[i];
    for (int32_t i = axis + 1; i < in->rank; i++) dims[n++] = in->dims[i];
    sp_set_shape(out, in->dtype, rank, dims);
    return sp_check_shape(node, out, err);
}

typedef struct gather_args {
    const sparoa_tensor *indices;
    const char *src;
    char *dst;
    int64_t extent, count;
    size_t block;
} gather_args;

/* Blocks begin..end-1 of (outer, index). */
static void gather_piece(void *arg, int64_t begin, int64_t end)
{
    const gather_args *a = arg;
    int64_t block = (int64_t)a->block, outer = begin / a->count, i = begin % a->count;
    const char *src = a->src + outer * a->extent * block;
    char *dst = a->dst + begin * block;
    for (int64_t at = begin, run; at < end; at += run, dst += run * block) {
        /* neighbours that stay neighbours are copied together */
        const int64_t first = sp_index_at(a->indices, i, a->extent);
        const int64_t most = a->count - i < end - at ? a->count - i : end - at;
        for (run = 1; run < most && sp_index_at(a->indices, i + run, a->extent) == first + run;)
            run++;
        sp_copy_block(dst, src + first * block, (size_t)run * a->block);
        if ((i += run) == a->count) {
            i = 0;
            src += a->extent * block;
        }
    }
}

static sparoa_status gather_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &axis, exec->err));
    SP_TRY(sp_check_range(node, indices, axis, in->dims[axis], exec->err));
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    gather_args a = {indices,
                     in->data,
                     node->out[0]->data,
                     in->dims[axis],
                     sp_count(indices),
                     (size_t)sp_inner(in, axis) * sparoa_dtype_size(in->dtype)};
    sp_parallel_for(exec, sp_outer(in, axis) * a.count, 65536 / (int64_t)a.block + 1, gather_piece,
                    &a);
    return SPAROA_OK;
}

/* What is read of the data is what is written. */
static void gather_cost(const sparoa_node *node, sparoa_cost *cost)
{
    double out = (double)sparoa_tensor_bytes(node->out[0]),
           indices = (double)sparoa_tensor_bytes(node->in[1]);
    bool weights = node->constant && node->constant[0];
    cost->bytes_w = weights ? out : 0;
    cost->bytes_in = indices + (weights ? 0 : out);
}

/* ONNX Gather, versions 1 to 13; negative indices in all of them. */
SP_OP(Gather) = {
    SP_OP_HEAD("Gather", 1, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = gather_infer,
    .cost = gather_cost,
    .run = gather_run,
};

/* ---- GatherElements ---- */

static sparoa_status gather_elements_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_indices(node, 1, err));
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    sp_set_shape(node->out[0], in->dtype, indices->rank, indices->dims);
    if (in->rank < 0 || indices->rank < 0) return SPAROA_OK;
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &axis, err));
    if (in->rank != indices->rank)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "data has rank %d, indices %d",
                           in->rank, indices->rank);
    for (int32_t i = 0; i < in->rank; i++)
        if (i != axis && in->dims[i] >= 0 && indices->dims[i] > in->dims[i])
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "dimension %d of indices is %lld, that of data %lld", i,
                               (long long)indices->dims[i], (long long)in->dims[i]);
    return SPAROA_OK;
}

typedef struct elements_args {
    const sparoa_tensor *in, *indices;
    sparoa_tensor *out;
    int32_t axis;
    int64_t strides[SPAROA_MAX_RANK];
} elements_args;

/* Rows begin..end-1 along the last axis of the indices. */
static void gather_elements_piece(void *arg, int64_t begin, int64_t end)
{
    const elements_args *a = arg;
    int32_t last = a->indices->rank - 1;
    int64_t n = a->indices->dims[last], extent = a->in->dims[a->axis], along = a->strides[a->axis];
    int64_t step = a->axis == last ? 0 : 1;
    for (int64_t row = begin; row < end; row++) {
        int64_t base = 0, rest = row;
        for (int32_t i = last - 1; i >= 0; i--) {
            if (i != a->axis) base += rest % a->indices->dims[i] * a->strides[i];
            rest /= a->indices->dims[i];
        }
        switch (sparoa_dtype_size(a->in->dtype)) {
#define X(ctype, bytes)                                                                            \
    case bytes: {                                                                                  \
        const ctype *src = (const ctype *)a->in->data + base;                                      \
        ctype *dst = (ctype *)a->out->data + row * n;                                              \
        for (int64_t j = 0; j < n; j++)                                                            \
            dst[j] = src[sp_index_at(a->indices, row * n + j, extent) * along + j * step];         \
        break;                                                                                     \
    }
            SP_FOR_SIZES(X)
#undef X
        default: break;
        }
    }
}

static sparoa_status gather_elements_run(const sparoa_node *node, const sparoa_exec *exec)
{
    elements_args a = {.in = node->in[0], .indices = node->in[1], .out = node->out[0]};
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), a.in->rank, false, &a.axis, exec->err));
    SP_TRY(sp_check_range(node, a.indices, a.axis, a.in->dims[a.axis], exec->err));
    int64_t count = sp_count(a.indices);
    if (count == 0) return SPAROA_OK;
    sp_strides(a.in, a.strides);
    int64_t n = a.indices->dims[a.indices->rank - 1];
    sp_parallel_for(exec, count / n, 16384 / n + 1, gather_elements_piece, &a);
    return SPAROA_OK;
}

/* ONNX GatherElements, versions 11 and 13. */
SP_OP(GatherElements) = {
    SP_OP_HEAD("GatherElements", 11, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = gather_elements_infer,
    .cost = gather_cost,
    .run = gather_elements_run,
};

/* ---- GatherND ---- */

static sparoa_status gather_nd_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_indices(node, 1, err));
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    sparoa_tensor *out = node->out[0];
    int64_t batch = sparoa_attr_int(node, "batch_dims", 0);
    sp_set_shape(out, in->dtype, -1, NULL);
    if (in->rank < 0 || indices->rank < 0) return SPAROA_OK;
    if (in->rank < 1 || indices->rank < 1 || batch < 0 || batch >= in->rank ||
        batch >= indices->rank)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "batch_dims=%lld does not fit ranks %d and %d", (long long)batch,
                           in->rank, indices->rank);
    for (int32_t i = 0; i < batch; i++)
        if (in->dims[i] >= 0 && indices->dims[i] >= 0 && in->dims[i] != indices->dims[i])
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "batch dimension %d is %lld in data, %lld in indices", i,
                               (long long)in->dims[i], (long long)indices->dims[i]);
    int64_t depth = indices->dims[indices->rank - 1];
    if (depth < 0) return SPAROA_OK;
    if (depth < 1 || depth > in->rank - batch)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the last dimension of indices is %lld, expected 1 to %lld",
                           (long long)depth, (long long)(in->rank - batch));
    int32_t from = (int32_t)(batch + depth), n = 0;
    SP_TRY(check_rank(node, indices->rank - 1 + in->rank - from, err));
    int64_t dims[SPAROA_MAX_RANK];
    for (int32_t i = 0; i < indices->rank - 1; i++) dims[n++] = indices->dims[i];
    for (int32_t i = from; i < in->rank; i++) dims[n++] = in->dims[i];
    sp_set_shape(out, in->dtype, n, dims);
    return sp_check_shape(node, out, err);
}

typedef struct nd_args {
    const sparoa_tensor *in, *indices;
    char *dst;
    int32_t batch, depth;
    int64_t per_batch, batch_bytes, strides[SPAROA_MAX_RANK];
    size_t block;
} nd_args;

static void gather_nd_piece(void *arg, int64_t begin, int64_t end)
{
    const nd_args *a = arg;
    int64_t size = (int64_t)sparoa_dtype_size(a->in->dtype);
    for (int64_t t = begin; t < end; t++) {
        int64_t offset = 0;
        for (int32_t j = 0; j < a->depth; j++)
            offset += sp_index_at(a->indices, t * a->depth + j, a->in->dims[a->batch + j]) *
                      a->strides[a->batch + j];
        sp_copy_block(a->dst + t * (int64_t)a->block,
                      (const char *)a->in->data + t / a->per_batch * a->batch_bytes + offset * size,
                      a->block);
    }
}

static sparoa_status gather_nd_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    nd_args a = {.in = in, .indices = indices, .dst = node->out[0]->data};
    a.batch = (int32_t)sparoa_attr_int(node, "batch_dims", 0);
    a.depth = (int32_t)indices->dims[indices->rank - 1];
    int64_t tuples = sp_dims_product(indices, 0, indices->rank - 1);
    for (int64_t i = 0; i < tuples * a.depth; i++) {
        int32_t axis = a.batch + (int32_t)(i % a.depth);
        if (sp_index_at(indices, i, in->dims[axis]) < 0)
            return sp_fail_index(node, indices, i, axis, in->dims[axis], exec->err);
    }
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    size_t size = sparoa_dtype_size(in->dtype);
    sp_strides(in, a.strides);
    a.block = (size_t)sp_dims_product(in, a.batch + a.depth, in->rank) * size;
    a.per_batch = sp_dims_product(indices, a.batch, indices->rank - 1);
    a.batch_bytes = sp_dims_product(in, a.batch, in->rank) * (int64_t)size;
    sp_parallel_for(exec, tuples, 65536 / (int64_t)a.block + 1, gather_nd_piece, &a);
    return SPAROA_OK;
}

/* ONNX GatherND, versions 11 to 13; batch_dims since 12. */
SP_OP(GatherND) = {
    SP_OP_HEAD("GatherND", 11, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = gather_nd_infer,
    .cost = gather_cost,
    .run = gather_nd_run,
};
