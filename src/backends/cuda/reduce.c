/* Reductions, arg-max and softmax. */
#include "backends/cuda/cuda.h"

/* In the order of sp_cu_reduce_kind. */
static const char *const reduce_names[] = {
    "ReduceSum",       "ReduceMean", "ReduceSumSquare", "ReduceL1",   "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax",  "ReduceMin",       "ReduceProd", NULL};

static const char *reduce_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    if (!sp_cuda_is_f32(node, 0)) return "only float32";
    return sp_cuda_known(node, 1) ? NULL : "axes that are not constant";
}

/* Adds dimension i of x to the kept or reduced ones, merged with the one before where that is
 * possible. */
static void add_axis(int32_t *n, int64_t *sizes, int64_t *strides, int64_t dim, int64_t stride)
{
    if (dim == 1) return;
    if (*n > 0 && strides[*n - 1] == dim * stride) {
        sizes[*n - 1] *= dim;
        strides[*n - 1] = stride;
        return;
    }
    sizes[*n] = dim;
    strides[(*n)++] = stride;
}

static void plan_reduce(sp_cu_reduce *r, const sparoa_tensor *x, const bool reduced[])
{
    int64_t strides[SPAROA_MAX_RANK];
    sp_strides(x, strides);
    r->outputs = r->total = 1;
    for (int32_t i = 0; i < x->rank; i++) {
        *(reduced[i] ? &r->total : &r->outputs) *= x->dims[i];
        if (reduced[i])
            add_axis(&r->n_reduced, r->reduced, r->reduced_stride, x->dims[i], strides[i]);
        else
            add_axis(&r->n_kept, r->kept, r->kept_stride, x->dims[i], strides[i]);
    }
}

static sparoa_status reduce_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                    size_t *workspace, sparoa_error *err)
{
    sp_cu_reduce *r = prepared;
    const sparoa_tensor *x = node->in[0];
    int32_t axes[SPAROA_MAX_RANK], n;
    bool given, reduced[SPAROA_MAX_RANK] = {false};
    (void)workspace;
    SP_TRY(sp_read_axes(node, 1, x->rank, axes, &n, &given, err));
    if (n < 0) return sparoa_fail(err, SPAROA_INVALID_STATE, node, "axes are not known");
    bool all = n == 0 && sparoa_attr_int(node, "noop_with_empty_axes", 0) == 0;
    for (int32_t i = 0; i < x->rank; i++) reduced[i] = all;
    for (int32_t i = 0; i < n; i++) reduced[axes[i]] = true;
    r->kind = (sp_cu_reduce_kind)k->op;
    plan_reduce(r, x, reduced);
    return SPAROA_OK;
}

static sparoa_status reduce_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    (void)k, (void)workspace, (void)err;
    sp_cu_reduce_run(prepared, sp_cuda_is_half(node), node->in[0]->data, node->out[0]->data,
                     stream);
    return SPAROA_OK;
}

/* ONNX ReduceSum, ReduceMean and the others, all versions, float32, constant axes. */
SP_CUDA_KERNEL(Reduce) = {.ops = reduce_names,
                          .variant = "reduce_f32",
                          .prepared_bytes = sizeof(sp_cu_reduce),
                          .refuses = reduce_refuses,
                          .prepare = reduce_prepare,
                          .run = reduce_run};

/* ---- global pools: a reduction over the image ---- */

static const char *global_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    bool floats = sp_cuda_all_f32(node) || sp_cuda_all_half(dev, node, op);
    return floats ? NULL : "only float32 and float16";
}

static const char *f32_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    return sp_cuda_all_f32(node) ? NULL : "only float32";
}

static sparoa_status global_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                    size_t *workspace, sparoa_error *err)
{
    sp_cu_reduce *r = prepared;
    const sparoa_tensor *x = node->in[0];
    bool nhwc = sparoa_attr_int(node, "sp.nhwc", 0) == 1 && x->rank > 2;
    bool reduced[SPAROA_MAX_RANK] = {false};
    (void)workspace, (void)err;
    for (int32_t i = 2; i < x->rank; i++) reduced[nhwc ? i - 1 : i] = true;
    r->kind = k->op ? SP_CU_MAX : SP_CU_MEAN;
    plan_reduce(r, x, reduced);
    return SPAROA_OK;
}

/* ONNX GlobalAveragePool and GlobalMaxPool, version 1. */
SP_CUDA_KERNEL(GlobalPool) = {.ops = SP_CUDA_NAMES("GlobalAveragePool", "GlobalMaxPool"),
                              .variant = "reduce",
                              .half = sp_cuda_all_half,
                              .prepared_bytes = sizeof(sp_cu_reduce),
                              .refuses = global_refuses,
                              .prepare = global_prepare,
                              .run = reduce_run};

/* ---- arg-max ---- */

static const char *argmax_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    return sp_cuda_is_f32(node, 0) ? NULL : "only float32";
}

static sparoa_status argmax_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    int32_t axis;
    (void)prepared, (void)workspace;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), x->rank, false, &axis, err));
    sp_cu_argmax(k->op, sparoa_attr_int(node, "select_last_index", 0) != 0, x->data,
                 node->out[0]->data, sp_dims_product(x, 0, axis), x->dims[axis],
                 sp_dims_product(x, axis + 1, x->rank), stream);
    return SPAROA_OK;
}

/* ONNX ArgMax and ArgMin, versions 1 to 13, float32. */
SP_CUDA_KERNEL(ArgMax) = {.ops = SP_CUDA_NAMES("ArgMax", "ArgMin"),
                          .variant = "argmax_f32",
                          .refuses = argmax_refuses,
                          .run = argmax_run};

/* ---- softmax ---- */

static sparoa_status softmax_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                 const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    bool flattens = node->version < 13;
    int32_t axis = 0;
    (void)prepared, (void)workspace;
    int64_t fallback = flattens ? 1 : -1;
    if (x->rank > 0)
        SP_TRY(
            sp_axis(node, sparoa_attr_int(node, "axis", fallback), x->rank, flattens, &axis, err));
    int64_t extent = x->rank == 0 ? 1
                     : flattens   ? sp_dims_product(x, axis, x->rank)
                                  : x->dims[axis];
    int64_t inner = flattens || x->rank == 0 ? 1 : sp_dims_product(x, axis + 1, x->rank);
    sp_cu_softmax(k->op, x->data, node->out[0]->data, sp_dims_product(x, 0, axis), extent, inner,
                  stream);
    return SPAROA_OK;
}

/* ONNX Softmax and LogSoftmax, versions 1, 11 and 13. */
SP_CUDA_KERNEL(Softmax) = {.ops = SP_CUDA_NAMES("Softmax", "LogSoftmax"),
                           .variant = "softmax_f32",
                           .refuses = f32_refuses,
                           .run = softmax_run};
