/* LpNormalization, MeanVarianceNormalization and LRN. */
#include "ops/op.h"

static sparoa_status float_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    return sp_infer_same(node, err);
}

/* ---- LpNormalization ---- */

typedef struct lp_args {
    const sparoa_tensor *in;
    sparoa_tensor *out;
    int64_t axis, inner, p;
} lp_args;

#define LP_TYPE(T)                                                                                 \
    /* Tasks are the vectors along the axis. A vector of zeros stays one. */                       \
    static void lp_##T(void *arg, int64_t begin, int64_t end)                                      \
    {                                                                                              \
        const lp_args *a = arg;                                                                    \
        for (int64_t i = begin; i < end; i++) {                                                    \
            int64_t at = i / a->inner * a->axis * a->inner + i % a->inner;                         \
            const T *x = (const T *)a->in->data + at;                                              \
            T *y = (T *)a->out->data + at;                                                         \
            double norm = 0;                                                                       \
            for (int64_t k = 0; k < a->axis; k++) {                                                \
                double v = x[k * a->inner];                                                        \
                norm += a->p == 1 ? fabs(v) : v * v;                                               \
            }                                                                                      \
            if (a->p == 2) norm = sqrt(norm);                                                      \
            for (int64_t k = 0; k < a->axis; k++)                                                  \
                y[k * a->inner] = norm == 0 ? 0 : (T)(x[k * a->inner] / norm);                     \
        }                                                                                          \
    }
LP_TYPE(float)
LP_TYPE(double)

static sparoa_status lp_infer(const sparoa_node *node, sparoa_error *err)
{
    int32_t axis, rank = node->in[0]->rank;
    int64_t p = sparoa_attr_int(node, "p", 2);
    if (p != 1 && p != 2)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "p=%lld, expected 1 or 2",
                           (long long)p);
    if (rank >= 0)
        SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), rank, false, &axis, err));
    return float_infer(node, err);
}

static sparoa_status lp_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), x->rank, false, &axis, exec->err));
    lp_args a = {x, node->out[0], x->dims[axis], sp_dims_product(x, axis + 1, x->rank),
                 sparoa_attr_int(node, "p", 2)};
    if (sp_count(x) == 0) return SPAROA_OK;
    sp_parallel_for(exec, sp_count(x) / a.axis, 1 + 8192 / a.axis,
                    x->dtype == SPAROA_FLOAT64 ? lp_double : lp_float, &a);
    return SPAROA_OK;
}

static void lp_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 3.0 * (double)sp_count(node->in[0]);
}

/* ONNX LpNormalization, versions 1 and 22. */
SP_OP(LpNormalization) = {
    SP_OP_HEAD("LpNormalization", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_NORM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = lp_infer,
    .cost = lp_cost,
    .run = lp_run,
};

/* ---- MeanVarianceNormalization ---- */

/* Axes default to all but the channel of an image. */
static sparoa_status mvn_axes(const sparoa_node *node, int32_t rank, uint32_t *mask,
                              sparoa_error *err)
{
    int32_t axes[SPAROA_MAX_RANK] = {0, 2, 3}, count, n = 3;
    bool given;
    SP_TRY(sp_read_axes(node, -1, rank, axes, &count, &given, err));
    if (given) n = count;
    *mask = 0;
    for (int32_t i = 0; i < n; i++) {
        if (axes[i] >= rank)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "axis %d is out of range for rank %d", axes[i], rank);
        *mask |= 1u << axes[i];
    }
    return SPAROA_OK;
}

static sparoa_status mvn_infer(const sparoa_node *node, sparoa_error *err)
{
    uint32_t mask;
    if (node->in[0]->rank >= 0) {
        if (!sparoa_attr_find(node, "axes") && node->in[0]->rank < 4)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "input 0 has rank %d; without axes 4 is expected",
                               node->in[0]->rank);
        SP_TRY(mvn_axes(node, node->in[0]->rank, &mask, err));
    }
    return float_infer(node, err);
}

/* Sum and sum of squared distances of each kept index. */
static size_t mvn_workspace(const sparoa_node *node, int32_t threads)
{
    uint32_t mask;
    int64_t kept = 1;
    const sparoa_tensor *x = node->in[0];
    if (mvn_axes(node, x->rank, &mask, NULL) != SPAROA_OK) return 0;
    for (int32_t i = 0; i < x->rank; i++) kept *= mask >> i & 1u ? 1 : x->dims[i];
    return (size_t)kept * 2 * sizeof(double);
}

/* Kept index of element i; strides are 0 along reduced axes. */
static int64_t kept_index(const sparoa_tensor *x, const int64_t *strides, int64_t i)
{
    int64_t index = 0;
    for (int32_t k = x->rank - 1; k >= 0; k--) {
        index += i % x->dims[k] * strides[k];
        i /= x->dims[k];
    }
    return index;
}

static sparoa_status mvn_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    int64_t strides[SPAROA_MAX_RANK], kept = 1, count = sp_count(x);
    uint32_t mask;
    SP_TRY(mvn_axes(node, x->rank, &mask, exec->err));
    if (count <= 0) return SPAROA_OK;
    for (int32_t i = x->rank - 1; i >= 0; i--) {
        strides[i] = mask >> i & 1u ? 0 : kept;
        if (!(mask >> i & 1u)) kept *= x->dims[i];
    }
    double *mean = exec->workspace, *var = mean + kept, n = (double)(count / kept);
    memset(mean, 0, (size_t)kept * 2 * sizeof *mean);
    for (int64_t i = 0; i < count; i++) mean[kept_index(x, strides, i)] += sp_get_f64(x, i);
    for (int64_t k = 0; k < kept; k++) mean[k] /= n;
    for (int64_t i = 0; i < count; i++) {
        int64_t k = kept_index(x, strides, i);
        double d = sp_get_f64(x, i) - mean[k];
        var[k] += d * d;
    }
    for (int64_t k = 0; k < kept; k++) var[k] = sqrt(var[k] / n) + 1e-9;
    for (int64_t i = 0; i < count; i++) {
        int64_t k = kept_index(x, strides, i);
        sp_set_f64(node->out[0], i, (sp_get_f64(x, i) - mean[k]) / var[k]);
    }
    return SPAROA_OK;
}

static void mvn_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 6.0 * (double)sp_count(node->in[0]);
}

/* ONNX MeanVarianceNormalization, versions 9 and 13. */
SP_OP(MeanVarianceNormalization) = {
    SP_OP_HEAD("MeanVarianceNormalization", 9, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_NORM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = mvn_infer,
    .cost = mvn_cost,
    .workspace = mvn_workspace,
    .run = mvn_run,
};

/* ---- LRN ---- */

typedef struct lrn_args {
    const sparoa_tensor *in;
    sparoa_tensor *out;
    int64_t channels, inner, size;
    double alpha, beta, bias;
} lrn_args;

#define LRN_TYPE(T)                                                                                \
    /* Tasks are planes; a window over channels reaches (size - 1) / 2 back, the rest ahead. */    \
    static void lrn_##T(void *arg, int64_t begin, int64_t end)                                     \
    {                                                                                              \
        const lrn_args *a = arg;                                                                   \
        for (int64_t i = begin; i < end; i++) {                                                    \
            int64_t c = i % a->channels, back = (a->size - 1) / 2, ahead = a->size - 1 - back;     \
            int64_t first = c < back ? -c : -back;                                                 \
            int64_t last = ahead > a->channels - 1 - c ? a->channels - 1 - c : ahead;              \
            const T *x = (const T *)a->in->data + i * a->inner;                                    \
            T *y = (T *)a->out->data + i * a->inner;                                               \
            for (int64_t s = 0; s < a->inner; s++) {                                               \
                double sum = 0;                                                                    \
                for (int64_t k = first; k <= last; k++)                                            \
                    sum += (double)x[k * a->inner + s] * x[k * a->inner + s];                      \
                y[s] = (T)(x[s] / pow(a->bias + a->alpha / (double)a->size * sum, a->beta));       \
            }                                                                                      \
        }                                                                                          \
    }
LRN_TYPE(float)
LRN_TYPE(double)

static sparoa_status lrn_infer(const sparoa_node *node, sparoa_error *err)
{
    int64_t size = sparoa_attr_int(node, "size", 0);
    if (size < 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "size=%lld, expected at least 1",
                           (long long)size);
    if (node->in[0]->rank >= 0 && node->in[0]->rank < 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input 0 has rank %d, expected at least 2", node->in[0]->rank);
    return float_infer(node, err);
}

static sparoa_status lrn_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    lrn_args a = {
        .in = x,
        .out = node->out[0],
        .channels = x->dims[1],
        .inner = sp_dims_product(x, 2, x->rank),
        .size = sparoa_attr_int(node, "size", 1),
        .alpha = sparoa_attr_float(node, "alpha", 1e-4f),
        .beta = sparoa_attr_float(node, "beta", 0.75f),
        .bias = sparoa_attr_float(node, "bias", 1),
    };
    if (sp_count(x) == 0) return SPAROA_OK;
    sp_parallel_for(exec, x->dims[0] * x->dims[1], 1 + 1024 / a.inner,
                    x->dtype == SPAROA_FLOAT64 ? lrn_double : lrn_float, &a);
    return SPAROA_OK;
}

static void lrn_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops =
        (double)sp_count(node->in[0]) * (2.0 * (double)sparoa_attr_int(node, "size", 1) + 4);
}

/* ONNX LRN, versions 1 and 13. */
SP_OP(LRN) = {
    SP_OP_HEAD("LRN", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_NORM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = lrn_infer,
    .cost = lrn_cost,
    .run = lrn_run,
};
