/* Gather, GatherElements, GatherND and ScatterND. */
#include "backends/cuda/cuda.h"

static const char *gather_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0), *index = sparoa_in(node, 1);
    (void)dev;
    if (!x || !index || sparoa_dtype_size(x->dtype) == 0) return "an input is missing";
    bool wide = index->dtype == SPAROA_INT64;
    if (!wide && (op >= 2 || index->dtype != SPAROA_INT32)) return "indices of another type";
    if (op == 3 && strcmp(sparoa_attr_string(node, "reduction", "none"), "none") != 0)
        return "updates that are combined";
    return NULL;
}

static sparoa_status run_gather(sparoa_dev *dev, const sparoa_node *node, cudaStream_t stream,
                                sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *index = node->in[1];
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), x->rank, false, &axis, err));
    int size = (int)sparoa_dtype_size(x->dtype);
    int64_t inner = sp_dims_product(x, axis + 1, x->rank), outer = sp_dims_product(x, 0, axis);
    const uintptr_t both = (uintptr_t)x->data | (uintptr_t)node->out[0]->data;
    while (size < 8 && inner % 2 == 0 && inner > 0 && both % (2 * (unsigned)size) == 0) {
        size *= 2;
        inner /= 2;
    }
    sp_cu_gather(size, index->dtype == SPAROA_INT64, x->data, index->data, node->out[0]->data,
                 outer, x->dims[axis], sp_count(index), inner, dev->fault_dev, stream);
    return SPAROA_OK;
}

static sparoa_status run_elements(sparoa_dev *dev, const sparoa_node *node, cudaStream_t stream,
                                  sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *index = node->in[1];
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), x->rank, false, &axis, err));
    sp_cu_gather_elements g = {.size = (int32_t)sparoa_dtype_size(x->dtype),
                               .wide = index->dtype == SPAROA_INT64,
                               .rank = x->rank,
                               .axis = axis,
                               .count = sp_count(index),
                               .extent = x->dims[axis]};
    sp_strides(x, g.strides);
    memcpy(g.dims, index->dims, sizeof g.dims);
    sp_cu_gather_elements_run(&g, x->data, index->data, node->out[0]->data, dev->fault_dev, stream);
    return SPAROA_OK;
}

/* x is what tuples point into. */
static sp_cu_gather_nd nd_of(const sparoa_tensor *x, const sparoa_tensor *index, int32_t batch)
{
    sp_cu_gather_nd g = {.size = (int32_t)sparoa_dtype_size(x->dtype),
                         .depth = (int32_t)index->dims[index->rank - 1]};
    int64_t strides[SPAROA_MAX_RANK];
    sp_strides(x, strides);
    g.tuples = sp_dims_product(index, 0, index->rank - 1);
    g.inner = sp_dims_product(x, batch + g.depth, x->rank);
    g.batch_tuples = sp_dims_product(index, batch, index->rank - 1);
    g.batch_stride = sp_dims_product(x, batch, x->rank);
    if (g.batch_tuples < 1) g.batch_tuples = 1;
    for (int32_t i = 0; i < g.depth; i++) {
        g.dims[i] = x->dims[batch + i];
        g.strides[i] = strides[batch + i];
    }
    return g;
}

static sparoa_status gather_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    sparoa_dev *dev = k->dev;
    const sparoa_tensor *x = node->in[0], *index = node->in[1];
    sparoa_tensor *y = node->out[0];
    (void)prepared, (void)workspace;
    if (k->op == 0) return run_gather(dev, node, stream, err);
    if (k->op == 1) return run_elements(dev, node, stream, err);
    int32_t batch = k->op == 2 ? (int32_t)sparoa_attr_int(node, "batch_dims", 0) : 0;
    sp_cu_gather_nd g = nd_of(x, index, batch);
    if (k->op == 2) {
        sp_cu_gather_nd_run(&g, x->data, index->data, y->data, dev->fault_dev, stream);
        return SPAROA_OK;
    }
    sp_cuda_copy(y->data, x->data, sparoa_tensor_bytes(y), stream);
    sp_cu_scatter_nd_run(&g, node->in[2]->data, index->data, y->data, dev->fault_dev, stream);
    return SPAROA_OK;
}

/* ONNX Gather, versions 1 to 13; GatherElements, 11 and 13; GatherND, 11 to 13; ScatterND, 11 to
 * 18, without a reduction. Indices out of range are reported when the queue is waited for. */
SP_CUDA_KERNEL(Gather) = {.ops = SP_CUDA_NAMES("Gather", "GatherElements", "GatherND", "ScatterND"),
                          .variant = "gather",
                          .half = sp_cuda_any_half,
                          .refuses = gather_refuses,
                          .run = gather_run};
