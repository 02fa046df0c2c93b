/* LayerNormalization, RMSNormalization, GroupNormalization and com.microsoft's relatives: rows of
 * contiguous elements, each normalised by its own statistics. */
#include "ops/op.h"

#define NO_INPUT (-1)

/* What the operators differ in. Indices are of inputs and outputs. */
typedef struct row_norm {
    int64_t rows, width;
    bool centred;       /* subtract the mean */
    int32_t skip, bias; /* added to x first: same shape as x, or repeated; [width] */
    int32_t scale, shift;
    int32_t out_mean, out_inverse, out_sum;
    int32_t tail;  /* dimensions of x that make up a row */
    bool by_group; /* a row is a group of channels; scale and shift are per channel or group */
    bool channel_params;
    int64_t per_channel, channels_per_group, groups;
    double epsilon;
    const sparoa_node *node;
} row_norm;

static const sparoa_tensor *input(const row_norm *v, int32_t i)
{
    return i == NO_INPUT ? NULL : sparoa_in(v->node, i);
}

static sparoa_tensor *output(const row_norm *v, int32_t i)
{
    return i == NO_INPUT ? NULL : sparoa_out(v->node, i);
}

/* Index into a scale or shift of the shape of `t`, broadcast to x, for element `at` of x. */
static int64_t broadcast_index(const sparoa_tensor *x, const sparoa_tensor *t, int64_t at)
{
    int64_t index = 0, stride = 1;
    for (int32_t i = x->rank - 1, k = t->rank - 1; i >= 0 && k >= 0; i--, k--) {
        if (t->dims[k] != 1) index += at % x->dims[i] * stride;
        stride *= t->dims[k];
        at /= x->dims[i];
    }
    return index;
}

/* Whether element j of every row goes with element j of t: what t broadcasts over is rows only. */
static bool repeats_by_row(const row_norm *v, const sparoa_tensor *t)
{
    int32_t leading = 0;
    if (!t) return true;
    while (leading < t->rank && t->dims[leading] == 1) leading++;
    return !v->by_group && sp_count(t) == v->width && t->rank - leading <= v->tail;
}

static int64_t param_index(const row_norm *v, const sparoa_tensor *t, int64_t row, int64_t j)
{
    if (v->by_group) {
        int64_t group = row % v->groups;
        return v->channel_params ? group * v->channels_per_group + j / v->per_channel : group;
    }
    return broadcast_index(v->node->in[0], t, row * v->width + j);
}

/* Pairwise over blocks is not needed: sums are in double. The row is first written to y with skip
 * and bias added, then normalised in place. */
#define ROW_TYPE(T)                                                                                \
    static void add_##T(const row_norm *v, int64_t row, const T *x, T *y)                          \
    {                                                                                              \
        const sparoa_tensor *skip = input(v, v->skip), *bias = input(v, v->bias);                  \
        sparoa_tensor *sum = output(v, v->out_sum);                                                \
        const T *b = bias ? bias->data : NULL;                                                     \
        int64_t skip_rows = skip && v->width ? sp_count(skip) / v->width : 1;                      \
        const T *s = skip ? (const T *)skip->data + row % skip_rows * v->width : NULL;             \
        if (y != x) memcpy(y, x, (size_t)v->width * sizeof *y);                                    \
        for (int64_t j = 0; s && j < v->width; j++) y[j] += s[j];                                  \
        for (int64_t j = 0; b && j < v->width; j++) y[j] += b[j];                                  \
        if (sum) memcpy((T *)sum->data + row * v->width, y, (size_t)v->width * sizeof *y);         \
    }                                                                                              \
                                                                                                   \
    static void row_##T(const row_norm *v, int64_t row)                                            \
    {                                                                                              \
        const sparoa_tensor *scale = input(v, v->scale), *shift = input(v, v->shift);              \
        T *y = (T *)v->node->out[0]->data + row * v->width;                                        \
        double mean = 0, square = 0;                                                               \
        add_##T(v, row, (const T *)v->node->in[0]->data + row * v->width, y);                      \
        if (v->centred)                                                                            \
            for (int64_t j = 0; j < v->width; j++) mean += y[j];                                   \
        mean /= (double)v->width;                                                                  \
        for (int64_t j = 0; j < v->width; j++) square += (y[j] - mean) * (y[j] - mean);            \
        double inverse = 1 / sqrt(square / (double)v->width + v->epsilon);                         \
        if (repeats_by_row(v, scale) && repeats_by_row(v, shift)) {                                \
            const T *g = scale ? scale->data : NULL, *b = shift ? shift->data : NULL;              \
            for (int64_t j = 0; j < v->width; j++)                                                 \
                y[j] = (T)((y[j] - mean) * inverse * (g ? g[j] : 1));                              \
            for (int64_t j = 0; b && j < v->width; j++) y[j] += b[j];                              \
        } else                                                                                     \
            for (int64_t j = 0; j < v->width; j++) {                                               \
                double g = scale ? ((const T *)scale->data)[param_index(v, scale, row, j)] : 1;    \
                double b = shift ? ((const T *)shift->data)[param_index(v, shift, row, j)] : 0;    \
                y[j] = (T)((y[j] - mean) * inverse * g + b);                                       \
            }                                                                                      \
        if (output(v, v->out_mean)) sp_set_f64(output(v, v->out_mean), row, mean);                 \
        if (output(v, v->out_inverse)) sp_set_f64(output(v, v->out_inverse), row, inverse);        \
    }                                                                                              \
                                                                                                   \
    static void piece_##T(void *arg, int64_t begin, int64_t end)                                   \
    {                                                                                              \
        for (int64_t i = begin; i < end; i++) row_##T(arg, i);                                     \
    }
ROW_TYPE(float)
ROW_TYPE(double)

static sparoa_status run_rows(row_norm *v, const sparoa_exec *exec)
{
    if (v->rows <= 0 || v->width <= 0) return SPAROA_OK;
    sp_parallel_for(exec, v->rows, 1 + 4096 / v->width,
                    v->node->in[0]->dtype == SPAROA_FLOAT64 ? piece_double : piece_float, v);
    return SPAROA_OK;
}

static void norm_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 7.0 * (double)sp_count(node->in[0]); /* mean, variance, scale and shift */
}

/* ---- LayerNormalization and RMSNormalization ---- */

/* Inputs i.. must be of x's type and, where known, broadcast to x's shape. */
static sparoa_status check_param(const sparoa_node *node, int32_t i, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, i), *x = node->in[0];
    sparoa_tensor shape;
    if (!t) return SPAROA_OK;
    SP_TRY(sp_check_same_type(node, 0, i, err));
    if (t->rank < 0 || x->rank < 0) return SPAROA_OK;
    SP_TRY(sp_broadcast(node, x, t, &shape, err));
    bool fits = shape.rank == x->rank;
    for (int32_t k = 0; fits && k < x->rank; k++)
        fits = x->dims[k] < 0 || shape.dims[k] < 0 || shape.dims[k] == x->dims[k];
    return fits ? SPAROA_OK
                : sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                              "input %d does not broadcast to input 0", i);
}

/* Statistics have x's shape with 1 from `axis` on. */
static void set_statistic(const sparoa_node *node, int32_t i, int32_t axis)
{
    sparoa_tensor *t = sparoa_out(node, i);
    const sparoa_tensor *x = node->in[0];
    if (!t) return;
    t->dtype = sparoa_attr_int(node, "stash_type", 1) == SPAROA_BFLOAT16 ? SPAROA_BFLOAT16
                                                                         : SPAROA_FLOAT32;
    t->rank = x->rank;
    for (int32_t k = 0; k < x->rank; k++) t->dims[k] = k < axis ? x->dims[k] : 1;
}

static sparoa_status layer_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    int32_t axis = 0;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    if (!node->in[1]) return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "the scale is missing");
    if (x->rank >= 0)
        SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), x->rank, false, &axis, err));
    for (int32_t i = 1; i < 3; i++) SP_TRY(check_param(node, i, err));
    SP_TRY(sp_infer_same(node, err));
    for (int32_t i = 1; i < 3; i++) set_statistic(node, i, axis);
    return SPAROA_OK;
}

static sparoa_status run_layer(const sparoa_node *node, const sparoa_exec *exec, bool centred)
{
    const sparoa_tensor *x = node->in[0];
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), x->rank, false, &axis, exec->err));
    row_norm v = {
        .node = node,
        .centred = centred,
        .skip = NO_INPUT,
        .bias = NO_INPUT,
        .scale = 1,
        .shift = centred ? 2 : NO_INPUT,
        .out_mean = centred ? 1 : NO_INPUT,
        .out_inverse = centred ? 2 : 1,
        .out_sum = NO_INPUT,
        .epsilon = sparoa_attr_float(node, "epsilon", 1e-5f),
        .rows = sp_dims_product(x, 0, axis),
        .width = sp_dims_product(x, axis, x->rank),
        .tail = x->rank - axis,
    };
    return run_rows(&v, exec);
}

static sparoa_status layer_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return run_layer(node, exec, true);
}

static sparoa_status rms_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return run_layer(node, exec, false);
}

#define LAYER_ROW(name_, domain_, since_, max_in_, max_out_, run_)                                 \
    {                                                                                              \
        .struct_size = sizeof(sparoa_op), .name = name_, .domain = domain_, .since = since_,       \
        .min_in = 2, .max_in = max_in_, .min_out = 1, .max_out = max_out_,                         \
        .op_class = SPAROA_CLASS_NORM, .tolerance = SPAROA_TOL_SUM, .infer = layer_infer,          \
        .cost = norm_cost, .run = run_                                                             \
    }

/* ONNX LayerNormalization, version 17 (exporters use it below, as a contrib operator). */
SP_OP(LayerNormalization) = LAYER_ROW("LayerNormalization", "", 1, 3, 3, layer_run);
/* com.microsoft LayerNormalization. */
SP_OP(LayerNormalization_ms) = LAYER_ROW("LayerNormalization", "com.microsoft", 1, 3, 3, layer_run);
/* ONNX RMSNormalization, version 23. */
SP_OP(RMSNormalization) = LAYER_ROW("RMSNormalization", "", 23, 2, 1, rms_run);
/* SimplifiedLayerNormalization of onnxruntime: RMSNormalization under another name. */
SP_OP(SimplifiedLayerNormalization) = LAYER_ROW("SimplifiedLayerNormalization", "", 1, 2, 2,
                                                rms_run);
SP_OP(SimplifiedLayerNormalization_ms) = LAYER_ROW("SimplifiedLayerNormalization", "com.microsoft",
                                                   1, 2, 2, rms_run);

/* ---- GroupNormalization ---- */

static sparoa_status group_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    int64_t groups = sparoa_attr_int(node, "num_groups", 0), c = x->rank < 2 ? -1 : x->dims[1];
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    if (x->rank >= 0 && x->rank < 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input 0 has rank %d, expected at least 2", x->rank);
    if (groups < 1 || (c >= 0 && c % groups != 0))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "num_groups=%lld does not divide C=%lld", (long long)groups,
                           (long long)c);
    int64_t want = node->version < 21 ? groups : c;
    for (int32_t i = 1; i < 3; i++) {
        if (!node->in[i])
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "input %d is missing", i);
        SP_TRY(sp_check_same_type(node, 0, i, err));
        if (sp_known(node->in[i]) && want >= 0 &&
            (node->in[i]->rank != 1 || node->in[i]->dims[0] != want))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input %d must have %lld elements",
                               i, (long long)want);
    }
    return sp_infer_same(node, err);
}

static sparoa_status group_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    int64_t groups = sparoa_attr_int(node, "num_groups", 1);
    row_norm v = {
        .node = node,
        .centred = true,
        .skip = NO_INPUT,
        .bias = NO_INPUT,
        .scale = 1,
        .shift = 2,
        .out_mean = NO_INPUT,
        .out_inverse = NO_INPUT,
        .out_sum = NO_INPUT,
        .epsilon = sparoa_attr_float(node, "epsilon", 1e-5f),
        .rows = x->dims[0] * groups,
        .by_group = true,
        .groups = groups,
        .per_channel = sp_dims_product(x, 2, x->rank),
        .channels_per_group = x->dims[1] / groups,
        .channel_params = node->version >= 21,
    };
    v.width = v.per_channel * v.channels_per_group;
    return run_rows(&v, exec);
}

/* ONNX GroupNormalization, versions 18 (scale and bias per group) and 21 (per channel). */
SP_OP(GroupNormalization) = {
    SP_OP_HEAD("GroupNormalization", 18, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_NORM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = group_infer,
    .cost = norm_cost,
    .run = group_run,
};

/* ---- com.microsoft SkipLayerNormalization ---- */

/* Inputs: x, skip, gamma, then (unless simplified) beta, then bias. */
static sparoa_status infer_skip(const sparoa_node *node, bool simplified, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *skip = sparoa_in(node, 1);
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    if (x->rank == 0) return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input 0 is a scalar");
    if (!skip || !node->in[2])
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "skip or gamma is missing");
    int64_t width = x->rank < 0 ? -1 : x->dims[x->rank - 1];
    for (int32_t i = 1; i < (simplified ? 4 : 5); i++) {
        const sparoa_tensor *t = sparoa_in(node, i);
        if (!t) continue;
        SP_TRY(sp_check_same_type(node, 0, i, err));
        SP_TRY(check_param(node, i, err));
        if (sp_known(t) && width >= 0 &&
            (t->rank < 1 || (i > 1 && t->rank != 1) || t->dims[t->rank - 1] != width))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "input %d must end in %lld elements", i, (long long)width);
    }
    if (sp_known(x) && sp_known(skip) && sp_count(skip) > 0 && x->dims[0] > 0) {
        int64_t n = sp_count(skip);
        if (n != sp_count(x) && n != sp_count(x) / x->dims[0])
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "skip has not the shape of input 0");
    }
    SP_TRY(sp_infer_same(node, err));
    for (int32_t i = 1; i < 3; i++) set_statistic(node, i, x->rank - 1);
    if (sparoa_out(node, 3)) sp_copy_fact(node->out[3], x);
    return SPAROA_OK;
}

static sparoa_status skip_infer(const sparoa_node *node, sparoa_error *err)
{
    return infer_skip(node, false, err);
}

static sparoa_status skip_simple_infer(const sparoa_node *node, sparoa_error *err)
{
    return infer_skip(node, true, err);
}

static sparoa_status run_skip(const sparoa_node *node, const sparoa_exec *exec, bool simplified)
{
    const sparoa_tensor *x = node->in[0];
    row_norm v = {
        .node = node,
        .centred = !simplified,
        .skip = 1,
        .bias = simplified ? 3 : 4,
        .scale = 2,
        .shift = simplified ? NO_INPUT : 3,
        .out_mean = 1,
        .out_inverse = 2,
        .out_sum = 3,
        .epsilon = sparoa_attr_float(node, "epsilon", 1e-5f),
        .rows = sp_dims_product(x, 0, x->rank - 1),
        .width = x->dims[x->rank - 1],
        .tail = 1,
    };
    return run_rows(&v, exec);
}

static sparoa_status skip_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return run_skip(node, exec, false);
}

static sparoa_status skip_simple_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return run_skip(node, exec, true);
}

#define SKIP_ROW(name_, max_in_, infer_, run_)                                                     \
    {                                                                                              \
        .struct_size = sizeof(sparoa_op), .name = name_, .domain = "com.microsoft", .since = 1,    \
        .min_in = 3, .max_in = max_in_, .min_out = 1, .max_out = 4, .op_class = SPAROA_CLASS_NORM, \
        .tolerance = SPAROA_TOL_SUM, .infer = infer_, .cost = norm_cost, .run = run_               \
    }

/* com.microsoft SkipLayerNormalization: LayerNormalization of x + skip + bias. */
SP_OP(SkipLayerNormalization) = SKIP_ROW("SkipLayerNormalization", 5, skip_infer, skip_run);
/* com.microsoft SkipSimplifiedLayerNormalization: the same with RMSNormalization. */
SP_OP(SkipSimplifiedLayerNormalization) = SKIP_ROW("SkipSimplifiedLayerNormalization", 4,
                                                   skip_simple_infer, skip_simple_run);
