/* Normalisation. */
#include "backends/cuda/cuda.h"
#include "ops/epilogue.h"

static const char *f32_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    return sp_cuda_all_f32(node) ? NULL : "only float32";
}

static const float *data_of(const sparoa_node *node, int32_t i)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    return t ? t->data : NULL;
}

static float *out_of(const sparoa_node *node, int32_t i)
{
    sparoa_tensor *t = sparoa_out(node, i);
    return t ? t->data : NULL;
}

/* ---- rows ---- */

/* Scale and shift must be one row long, whatever ones lead. */
static sparoa_status check_row(const sparoa_node *node, int32_t i, int64_t width, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    if (!t || sp_count(t) == width) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node,
                       "input %d has %lld elements, the CUDA kernel needs %lld", i,
                       (long long)sp_count(t), (long long)width);
}

/* Further outputs, and widths that no kernel has, go by float32. */
static bool row_half(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0);
    int64_t axis = sparoa_attr_int(node, "axis", -1);
    if (!sp_cuda_all_half(dev, node, op) || x->rank < 1 || sparoa_out(node, 1) ||
        sparoa_out(node, 2))
        return false;
    int64_t width = x->dims[x->rank - 1];
    return (axis == -1 || axis == x->rank - 1) && width > 0 && width % 8 == 0 && width <= 1536;
}

static const char *row_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0), *scale = sparoa_in(node, 1);
    int64_t axis = sparoa_attr_int(node, "axis", -1);
    if (!x || !scale || x->rank < 1) return "a rank that is not known";
    if (axis < 0) axis += x->rank;
    if (axis < 0 || axis >= x->rank) return "an axis out of range";
    for (int32_t i = 1; i < node->n_in && i < 3; i++) {
        const sparoa_tensor *t = sparoa_in(node, i);
        if (t && t->rank != x->rank - axis) return "a scale or shift that is not one row";
        for (int32_t d = 0; t && d < t->rank; d++)
            if (t->dims[d] == 1 && x->dims[axis + d] != 1)
                return "a scale or shift that is repeated within a row";
    }
    if (row_half(dev, node, op)) return NULL;
    return f32_refuses(dev, node, op);
}

/* ops: LayerNormalization, then without the mean. */
static sparoa_status row_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                             const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    bool centred = k->op == 0;
    int32_t axis;
    (void)prepared, (void)workspace;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), x->rank, false, &axis, err));
    sp_cu_row_norm r = {.half = sp_cuda_is_half(node),
                        .rows = sp_dims_product(x, 0, axis),
                        .width = sp_dims_product(x, axis, x->rank),
                        .centred = centred,
                        .epsilon = sparoa_attr_float(node, "epsilon", 1e-5f),
                        .x = x->data,
                        .scale = data_of(node, 1),
                        .shift = centred ? data_of(node, 2) : NULL,
                        .y = node->out[0]->data,
                        .mean = centred ? out_of(node, 1) : NULL,
                        .inverse = out_of(node, centred ? 2 : 1)};
    SP_TRY(check_row(node, 1, r.width, err));
    if (centred) SP_TRY(check_row(node, 2, r.width, err));
    if (!sp_cu_row_norm_run(&r, stream))
        return sparoa_fail(err, SPAROA_INTERNAL, node, "float16 rows are not aligned");
    return SPAROA_OK;
}

/* ONNX LayerNormalization, version 17, and RMSNormalization, version 23. */
SP_CUDA_KERNEL(LayerNorm) = {.ops = SP_CUDA_NAMES("LayerNormalization", "RMSNormalization"),
                             .variant = "row_norm",
                             .half = row_half,
                             .refuses = row_refuses,
                             .run = row_run};

static const char *skip_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0), *skip = sparoa_in(node, 1);
    if (!x || !skip || x->rank < 1 || skip->rank != x->rank) return "a skip of another shape";
    for (int32_t i = 0; i < x->rank; i++)
        if (x->dims[i] != skip->dims[i]) return "a skip of another shape";
    return f32_refuses(dev, node, op);
}

static sparoa_status skip_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    bool simple = k->op == 1;
    (void)prepared, (void)workspace, (void)err;
    sp_cu_row_norm r = {.rows = sp_dims_product(x, 0, x->rank - 1),
                        .width = x->dims[x->rank - 1],
                        .centred = !simple,
                        .epsilon = sparoa_attr_float(node, "epsilon", 1e-5f),
                        .x = x->data,
                        .skip = data_of(node, 1),
                        .scale = data_of(node, 2),
                        .shift = simple ? NULL : data_of(node, 3),
                        .bias = data_of(node, simple ? 3 : 4),
                        .y = node->out[0]->data,
                        .mean = out_of(node, 1),
                        .inverse = out_of(node, 2),
                        .sum = out_of(node, 3)};
    sp_cu_row_norm_run(&r, stream);
    return SPAROA_OK;
}

/* com.microsoft SkipLayerNormalization and SkipSimplifiedLayerNormalization. */
SP_CUDA_KERNEL(SkipNorm) = {
    .ops = SP_CUDA_NAMES("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
    .domain = "com.microsoft",
    .variant = "row_norm_f32",
    .refuses = skip_refuses,
    .run = skip_run};

/* ---- channels ---- */

static const char *batch_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    if (sparoa_attr_int(node, "training_mode", 0) || !sparoa_attr_int(node, "is_test", 1) ||
        (node->n_out > 1 && node->out[1]))
        return "training";
    if (!sparoa_attr_int(node, "spatial", 1)) return "statistics for each element";
    if (node->version < 7 && !sparoa_attr_int(node, "is_test", 0)) return "training";
    return f32_refuses(dev, node, op);
}

static sparoa_status batch_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                               const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    bool last = sp_is_nhwc(node) && x->rank > 2;
    int64_t channels = x->rank < 2 ? 1 : x->dims[last ? x->rank - 1 : 1];
    int64_t inner = x->rank < 3 || last ? 1 : sp_dims_product(x, 2, x->rank);
    (void)k, (void)prepared, (void)workspace, (void)err;
    sp_cu_batch_norm(x->data, data_of(node, 1), data_of(node, 2), data_of(node, 3),
                     data_of(node, 4), sparoa_attr_float(node, "epsilon", 1e-5f),
                     node->out[0]->data, sp_count(x), channels, inner, stream);
    return SPAROA_OK;
}

/* ONNX BatchNormalization, versions 6 to 15, for inference. */
SP_CUDA_KERNEL(BatchNorm) = {.ops = SP_CUDA_NAMES("BatchNormalization"),
                             .variant = "batch_norm_f32",
                             .refuses = batch_refuses,
                             .run = batch_run};

static const char *group_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    if (op == 1 && node->version < 21) return "one scale for each group, before opset 21";
    return f32_refuses(dev, node, op);
}

static sparoa_status group_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                               const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    bool last = k->op == 0 && sp_is_nhwc(node) && x->rank > 2;
    int64_t channels = x->dims[last ? x->rank - 1 : 1];
    int64_t pixels = last ? sp_dims_product(x, 1, x->rank - 1) : sp_dims_product(x, 2, x->rank);
    int64_t groups = k->op == 0 ? channels : sparoa_attr_int(node, "num_groups", 1);
    (void)prepared, (void)workspace, (void)err;
    if (sp_count(x) == 0) return SPAROA_OK;
    sp_cu_group_norm(x->data, data_of(node, 1), data_of(node, 2),
                     sparoa_attr_float(node, "epsilon", 1e-5f), node->out[0]->data, x->dims[0],
                     channels, groups, pixels, last, stream);
    return SPAROA_OK;
}

/* ONNX InstanceNormalization, versions 1 to 22, and GroupNormalization, version 21. */
SP_CUDA_KERNEL(GroupNorm) = {.ops = SP_CUDA_NAMES("InstanceNormalization", "GroupNormalization"),
                             .variant = "group_norm_f32",
                             .refuses = group_refuses,
                             .run = group_run};
