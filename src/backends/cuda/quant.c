/* Operators on 8-bit tensors that are not products: conversion, element-wise, softmax, averages. */
#include "backends/cuda/quant.h"

bool sp_cuda_is_q8(const sparoa_tensor *t)
{
    return t && (t->dtype == SPAROA_INT8 || t->dtype == SPAROA_UINT8);
}

bool sp_cuda_is_scale(const sparoa_node *node, int32_t i)
{
    return sp_cuda_is_f32(node, i);
}

const void *sp_cuda_data(const sparoa_node *node, int32_t i)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    return t ? t->data : NULL;
}

/* ---- QuantizeLinear, DequantizeLinear ---- */

static bool narrow_type(sparoa_dtype t)
{
    return t == SPAROA_INT8 || t == SPAROA_UINT8 || t == SPAROA_INT16 || t == SPAROA_UINT16;
}

static const char *linear_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0), *y = sparoa_out(node, 0);
    (void)dev;
    if (!x || !y || !sp_cuda_is_scale(node, 1)) return "only float32 and float16 scales";
    if (op == 0 &&
        ((x->dtype != SPAROA_FLOAT32 && x->dtype != SPAROA_INT32) || !narrow_type(y->dtype)))
        return "a type that has no kernel";
    if (op == 1 &&
        (y->dtype != SPAROA_FLOAT32 || !(narrow_type(x->dtype) || x->dtype == SPAROA_INT32)))
        return "a type that has no kernel";
    return NULL;
}

static sparoa_status linear_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                    size_t *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *scale = node->in[1];
    const sparoa_tensor *narrow = k->op == 0 ? node->out[0] : x;
    sp_cu_quant *q = prepared;
    (void)workspace;
    *q = (sp_cu_quant){.size = (int32_t)sparoa_dtype_size(narrow->dtype),
                       .is_signed = narrow->dtype == SPAROA_INT8 || narrow->dtype == SPAROA_INT16,
                       .count = sp_count(x),
                       .axis = 1,
                       .inner = 1,
                       .block = sparoa_attr_int(node, "block_size", 0),
                       .scales = sp_count(scale)};
    if (q->scales == 1) return SPAROA_OK; /* whichever block it is of */
    int64_t axis = x->rank == 1 && q->block == 0 ? 0 : sparoa_attr_int(node, "axis", 1);
    if (axis < 0) axis += x->rank;
    if (axis < 0 || axis >= x->rank)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axis is out of range");
    q->axis = x->dims[axis];
    q->inner = sp_dims_product(x, (int32_t)axis + 1, x->rank);
    return SPAROA_OK;
}

static sparoa_status linear_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    (void)workspace, (void)err;
    if (k->op == 0)
        sp_cu_quantize(prepared, x->dtype == SPAROA_INT32, x->data, node->in[1]->data,
                       sp_cuda_data(node, 2), node->out[0]->data, stream);
    else
        sp_cu_dequantize(prepared, x->data, node->in[1]->data, sp_cuda_data(node, 2),
                         node->out[0]->data, stream);
    return SPAROA_OK;
}

/* ONNX QuantizeLinear and DequantizeLinear, versions 10 to 28, of 8, 16 and 32 bits. */
SP_CUDA_KERNEL(Linear) = {.ops = SP_CUDA_NAMES("QuantizeLinear", "DequantizeLinear"),
                          .variant = "quantize",
                          .prepared_bytes = sizeof(sp_cu_quant),
                          .refuses = linear_refuses,
                          .prepare = linear_prepare,
                          .run = linear_run};

/* com.microsoft QuantizeLinear and DequantizeLinear. */
SP_CUDA_KERNEL(LinearMs) = {.ops = SP_CUDA_NAMES("QuantizeLinear", "DequantizeLinear"),
                            .domain = "com.microsoft",
                            .variant = "quantize",
                            .prepared_bytes = sizeof(sp_cu_quant),
                            .refuses = linear_refuses,
                            .prepare = linear_prepare,
                            .run = linear_run};

/* ---- DynamicQuantizeLinear ---- */

static const char *dynamic_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    return sp_cuda_is_f32(node, 0) ? NULL : "only float32";
}

static sparoa_status dynamic_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                     size_t *workspace, sparoa_error *err)
{
    (void)k, (void)node, (void)prepared, (void)err;
    *workspace = sp_cu_dynamic_workspace();
    return SPAROA_OK;
}

static sparoa_status dynamic_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                 const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *y = sparoa_out(node, 0), *scale = sparoa_out(node, 1),
                        *zero = sparoa_out(node, 2);
    (void)k, (void)prepared, (void)err;
    sp_cu_dynamic_quantize(node->in[0]->data, sp_count(node->in[0]), y ? y->data : NULL,
                           scale ? scale->data : NULL, zero ? zero->data : NULL, workspace, stream);
    return SPAROA_OK;
}

/* ONNX DynamicQuantizeLinear, version 11. */
SP_CUDA_KERNEL(DynamicQuantizeLinear) = {.ops = SP_CUDA_NAMES("DynamicQuantizeLinear"),
                                         .variant = "quantize",
                                         .refuses = dynamic_refuses,
                                         .prepare = dynamic_prepare,
                                         .run = dynamic_run};

/* ---- QLinearAdd, QLinearMul ---- */

static const char *pair_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    for (int32_t i = 1; i < 7; i += i == 1 ? 3 : 2)
        if (!sp_cuda_is_scale(node, i)) return "only float32 scales";
    return sp_cuda_is_q8(sparoa_in(node, 0)) && sp_cuda_is_q8(sparoa_in(node, 3)) ? NULL
                                                                                  : "only 8 bits";
}

static sparoa_status pair_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                  size_t *workspace, sparoa_error *err)
{
    const sparoa_tensor *in[] = {node->in[0], node->in[3]};
    (void)k, (void)workspace, (void)err;
    sp_cuda_space(prepared, node->out[0], 2, in);
    return SPAROA_OK;
}

static sparoa_status pair_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    int32_t is_signed = node->in[0]->dtype == SPAROA_INT8;
    const sp_cu_q8 q = {.x_signed = is_signed,
                        .w_signed = is_signed,
                        .y_signed = is_signed,
                        .x_scale = node->in[1]->data,
                        .x_zero = sp_cuda_data(node, 2),
                        .w_scale = node->in[4]->data,
                        .w_zero = sp_cuda_data(node, 5),
                        .y_scale = node->in[6]->data,
                        .y_zero = sp_cuda_data(node, 7)};
    (void)workspace, (void)err;
    sp_cu_pair_q8(k->op, prepared, &q, node->in[0]->data, node->in[3]->data, node->out[0]->data,
                  stream);
    return SPAROA_OK;
}

/* com.microsoft QLinearAdd and QLinearMul. */
SP_CUDA_KERNEL(QLinearPair) = {.ops = SP_CUDA_NAMES("QLinearAdd", "QLinearMul"),
                               .domain = "com.microsoft",
                               .variant = "pair_q8",
                               .prepared_bytes = sizeof(sp_cu_space),
                               .refuses = pair_refuses,
                               .prepare = pair_prepare,
                               .run = pair_run};

/* ---- one 8-bit input: X, X_scale, X_zero_point, Y_scale, Y_zero_point ---- */

static const char *single_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    if (!sp_cuda_is_scale(node, 1) || !sp_cuda_is_scale(node, 3)) return "only float32 scales";
    return sp_cuda_is_q8(sparoa_in(node, 0)) ? NULL : "only 8 bits";
}

static sp_cu_q8 single_of(const sparoa_node *node)
{
    int32_t is_signed = node->in[0]->dtype == SPAROA_INT8;
    return (sp_cu_q8){.x_signed = is_signed,
                      .y_signed = is_signed,
                      .x_scale = node->in[1]->data,
                      .x_zero = sp_cuda_data(node, 2),
                      .y_scale = node->in[3]->data,
                      .y_zero = sp_cuda_data(node, 4)};
}

static sparoa_status table_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                               const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sp_cu_q8 q = single_of(node);
    (void)prepared, (void)workspace, (void)err;
    sp_cu_table_q8(k->op, sparoa_attr_float(node, "alpha", 0.01f), &q, node->in[0]->data,
                   node->out[0]->data, sp_count(node->out[0]), stream);
    return SPAROA_OK;
}

/* com.microsoft QLinearSigmoid and QLinearLeakyRelu. */
SP_CUDA_KERNEL(QLinearTable) = {.ops = SP_CUDA_NAMES("QLinearSigmoid", "QLinearLeakyRelu"),
                                .domain = "com.microsoft",
                                .variant = "table_q8",
                                .refuses = single_refuses,
                                .run = table_run};

static sparoa_status softmax_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                 const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sp_cu_q8 q = single_of(node);
    const sparoa_tensor *x = node->in[0];
    int64_t axis = sparoa_attr_int(node, "axis", -1);
    if (axis < 0) axis += x->rank;
    /* before opset 13 softmax flattened everything from the axis on */
    bool flatten = sparoa_attr_int(node, "opset", 13) < 13;
    int32_t at = (int32_t)axis, end = flatten ? x->rank : at + 1;
    (void)k, (void)prepared, (void)workspace, (void)err;
    sp_cu_softmax_q8(&q, sp_dims_product(x, 0, at), sp_dims_product(x, at, end),
                     sp_dims_product(x, end, x->rank), x->data, node->out[0]->data, stream);
    return SPAROA_OK;
}

/* com.microsoft QLinearSoftmax. */
SP_CUDA_KERNEL(QLinearSoftmax) = {.ops = SP_CUDA_NAMES("QLinearSoftmax"),
                                  .domain = "com.microsoft",
                                  .variant = "softmax_q8",
                                  .refuses = single_refuses,
                                  .run = softmax_run};

static const char *average_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const char *why = single_refuses(dev, node, op);
    if (why) return why;
    int32_t rank = node->in[0]->rank;
    return rank >= 3 && rank <= 5 ? NULL : "an image of unknown or other rank";
}

static sparoa_status average_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                     size_t *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    bool last = sparoa_attr_int(node, "channels_last", 0) != 0;
    sp_window w = {.spatial = x->rank - 2};
    (void)workspace;
    if (k->op == 0)
        SP_TRY(sp_window_shape(node, x->rank - 2, x->dims + (last ? 1 : 2), NULL,
                               sparoa_attr_int(node, "ceil_mode", 0) != 0, &w, err));
    for (int32_t d = 0; k->op == 1 && d < w.spatial; d++) {
        w.in[d] = w.kernel[d] = x->dims[d + (last ? 1 : 2)];
        w.out[d] = w.stride[d] = w.dilation[d] = 1;
    }
    return sp_cuda_window(node, &w, last, prepared, err);
}

static sparoa_status average_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                 const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sp_cu_q8 q = single_of(node);
    int padding = k->op == 0 && sparoa_attr_int(node, "count_include_pad", 0) != 0;
    (void)workspace, (void)err;
    sp_cu_average_q8(prepared, &q, padding, node->in[0]->data, node->out[0]->data, stream);
    return SPAROA_OK;
}

/* com.microsoft QLinearAveragePool and QLinearGlobalAveragePool. */
SP_CUDA_KERNEL(QLinearPool) = {
    .ops = SP_CUDA_NAMES("QLinearAveragePool", "QLinearGlobalAveragePool"),
    .domain = "com.microsoft",
    .variant = "average_q8",
    .prepared_bytes = sizeof(sp_cu_window),
    .refuses = average_refuses,
    .prepare = average_prepare,
    .run = average_run};
