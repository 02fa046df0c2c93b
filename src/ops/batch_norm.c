/* BatchNormalization and InstanceNormalization: per-channel scale and shift of [N, C, spatial...]
 * or, with sp.nhwc, [N, spatial..., C]. */
#include "ops/epilogue.h"
#include "ops/op.h"

/* Channels of a tensor: element (n, c, s) lies at n * C * S + c * channel + s * step. */
typedef struct channels {
    int64_t n, c, s;
    int64_t channel, step;
} channels;

static channels channels_of(const sparoa_node *node, const sparoa_tensor *x, bool spatial)
{
    channels v = {.n = x->dims[0], .c = 1, .s = 1, .step = 1};
    bool last = sp_is_nhwc(node) && x->rank > 2;
    if (x->rank < 2) return v;
    if (!spatial) {
        v.c = sp_dims_product(x, 1, x->rank);
        v.channel = 1;
        return v;
    }
    v.c = x->dims[last ? x->rank - 1 : 1];
    v.s = last ? sp_dims_product(x, 1, x->rank - 1) : sp_dims_product(x, 2, x->rank);
    v.channel = last ? 1 : v.s;
    v.step = last ? v.c : 1;
    return v;
}

static sparoa_status check_rank(const sparoa_node *node, int32_t rank, int32_t least,
                                sparoa_error *err)
{
    if (rank < 0 || rank >= least) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                       "input 0 has rank %d, expected at least %d", rank, least);
}

/* Input i must be a float vector of `c` elements (-1: not known). */
static sparoa_status check_vector(const sparoa_node *node, int32_t i, int64_t c, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, i, SP_TYPES_FLOAT, err));
    int64_t n = node->in[i]->rank < 0 ? -1 : sp_count(node->in[i]);
    if (node->in[i]->rank >= 0 && sp_known(node->in[i]) && c >= 0 && n != c)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input %d has %lld elements, expected C=%lld", i, (long long)n,
                           (long long)c);
    return SPAROA_OK;
}

/* y = x * scale[c] + shift[c], and sums per channel; one instance per element type. */
typedef struct affine_args {
    const sparoa_tensor *in;
    sparoa_tensor *out;
    channels v;
    const double *scale, *shift;
} affine_args;

#define NORM_TYPE(T)                                                                               \
    /* Task i: the image and channel, or with step > 1 (channel last) the image alone. */          \
    static void affine_##T(void *arg, int64_t begin, int64_t end)                                  \
    {                                                                                              \
        const affine_args *a = arg;                                                                \
        const channels *v = &a->v;                                                                 \
        for (int64_t i = begin; i < end; i++) {                                                    \
            const T *x = (const T *)a->in->data + i * (v->channel == 1 ? v->c : v->s);             \
            T *y = (T *)a->out->data + i * (v->channel == 1 ? v->c : v->s);                        \
            double scale = a->scale[i % v->c], shift = a->shift[i % v->c];                         \
            if (v->channel == 1)                                                                   \
                for (int64_t c = 0; c < v->c; c++) y[c] = (T)(x[c] * a->scale[c] + a->shift[c]);   \
            else                                                                                   \
                for (int64_t s = 0; s < v->s; s++) y[s] = (T)(x[s] * scale + shift);               \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    /* Mean and (population) variance of channel c in images n0..n1-1. */                          \
    static void moments_##T(const sparoa_tensor *t, const channels *v, int64_t n0, int64_t n1,     \
                            int64_t c, double *mean, double *var)                                  \
    {                                                                                              \
        double sum = 0, square = 0, count = (double)(n1 - n0) * (double)v->s;                      \
        for (int64_t n = n0; n < n1; n++) {                                                        \
            const T *x = (const T *)t->data + n * v->c * v->s + c * v->channel;                    \
            for (int64_t s = 0; s < v->s; s++) sum += x[s * v->step];                              \
        }                                                                                          \
        *mean = sum / count;                                                                       \
        for (int64_t n = n0; n < n1; n++) {                                                        \
            const T *x = (const T *)t->data + n * v->c * v->s + c * v->channel;                    \
            for (int64_t s = 0; s < v->s; s++) {                                                   \
                double d = x[s * v->step] - *mean;                                                 \
                square += d * d;                                                                   \
            }                                                                                      \
        }                                                                                          \
        *var = square / count;                                                                     \
    }
NORM_TYPE(float)
NORM_TYPE(double)

static void moments(const sparoa_tensor *t, const channels *v, int64_t n0, int64_t n1, int64_t c,
                    double *mean, double *var)
{
    if (t->dtype == SPAROA_FLOAT64)
        moments_double(t, v, n0, n1, c, mean, var);
    else
        moments_float(t, v, n0, n1, c, mean, var);
}

/* ---- BatchNormalization ---- */

/* Training: the statistics of the batch are used, and running ones come out. Before version 14 an
 * inference node is told by is_test (to 6) or by having one output; others are refused. */
static bool training(const sparoa_node *node)
{
    return node->version >= 14 && sparoa_attr_int(node, "training_mode", 0) != 0;
}

static bool spatial(const sparoa_node *node)
{
    return node->version >= 9 || sparoa_attr_int(node, "spatial", 1) != 0;
}

static sparoa_status batch_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    int64_t c = -1;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(check_rank(node, x->rank, 1, err));
    if (x->rank == 1) c = 1;
    if (x->rank >= 2 && spatial(node)) c = x->dims[sp_is_nhwc(node) ? x->rank - 1 : 1];
    if (!spatial(node) && sp_count(x) >= 0 && x->rank >= 2 && x->dims[0] > 0)
        c = sp_count(x) / x->dims[0];
    for (int32_t i = 1; i < 5; i++) SP_TRY(check_vector(node, i, c, err));
    SP_TRY(sp_infer_same(node, err));
    for (int32_t i = 1; i < node->n_out; i++) {
        if (!node->out[i]) continue;
        if (!training(node) || i > 2)
            return sparoa_fail(
                err, SPAROA_UNSUPPORTED_OP, node,
                "output %d exists in training only, which is supported from version 14 on", i);
        sp_copy_fact(node->out[i], node->in[i + 2]);
    }
    return SPAROA_OK;
}

static size_t batch_workspace(const sparoa_node *node, int32_t threads)
{
    return 2 * sizeof(double) * (size_t)channels_of(node, node->in[0], spatial(node)).c;
}

static void set_running(const sparoa_node *node, int32_t output, int64_t c, double batch)
{
    sparoa_tensor *out = sparoa_out(node, output);
    double momentum = sparoa_attr_float(node, "momentum", 0.9f);
    if (out)
        sp_set_f64(out, c, sp_get_f64(node->in[output + 2], c) * momentum + batch * (1 - momentum));
}

static sparoa_status batch_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    channels v = channels_of(node, x, spatial(node));
    double *scale = exec->workspace, *shift = scale + v.c;
    double epsilon = sparoa_attr_float(node, "epsilon", 1e-5f);
    for (int64_t c = 0; c < v.c; c++) {
        double mean = sp_get_f64(node->in[3], c), var = sp_get_f64(node->in[4], c);
        if (training(node)) {
            moments(x, &v, 0, v.n, c, &mean, &var);
            set_running(node, 1, c, mean);
            set_running(node, 2, c, var);
        }
        scale[c] = sp_get_f64(node->in[1], c) / sqrt(var + epsilon);
        shift[c] = sp_get_f64(node->in[2], c) - mean * scale[c];
    }
    affine_args a = {x, node->out[0], v, scale, shift};
    int64_t width = v.channel == 1 ? v.c : v.s, total = sp_count(x);
    if (total > 0)
        sp_parallel_for(exec, total / width, 1 + 16384 / width,
                        x->dtype == SPAROA_FLOAT64 ? affine_double : affine_float, &a);
    return SPAROA_OK;
}

static void batch_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 2.0 * (double)sp_count(node->in[0]);
}

/* ONNX BatchNormalization, versions 1, 6, 7, 9, 14 and 15. */
SP_OP(BatchNormalization) = {
    SP_OP_HEAD("BatchNormalization", 1, 0),
    .min_in = 5,
    .max_in = 5,
    .min_out = 1,
    .max_out = 5,
    .op_class = SPAROA_CLASS_NORM,
    .tolerance = SPAROA_TOL_SUM,
    .flags = SPAROA_OP_INPLACE,
    .infer = batch_infer,
    .cost = batch_cost,
    .workspace = batch_workspace,
    .run = batch_run,
};

/* ---- InstanceNormalization ---- */

static sparoa_status instance_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(check_rank(node, x->rank, 2, err));
    int64_t c = x->rank < 0 ? -1 : x->dims[sp_is_nhwc(node) ? x->rank - 1 : 1];
    SP_TRY(check_vector(node, 1, c, err));
    SP_TRY(check_vector(node, 2, c, err));
    return sp_infer_same(node, err);
}

typedef struct instance_args {
    const sparoa_node *node;
    channels v;
    double epsilon;
} instance_args;

#define INSTANCE_TYPE(T)                                                                           \
    static void instance_##T(void *arg, int64_t begin, int64_t end)                                \
    {                                                                                              \
        const instance_args *a = arg;                                                              \
        const channels *v = &a->v;                                                                 \
        for (int64_t i = begin; i < end; i++) {                                                    \
            int64_t n = i / v->c, c = i % v->c, at = n * v->c * v->s + c * v->channel;             \
            const T *x = (const T *)a->node->in[0]->data + at;                                     \
            T *y = (T *)a->node->out[0]->data + at;                                                \
            double mean, var, scale;                                                               \
            moments_##T(a->node->in[0], v, n, n + 1, c, &mean, &var);                              \
            scale = sp_get_f64(a->node->in[1], c) / sqrt(var + a->epsilon);                        \
            double shift = sp_get_f64(a->node->in[2], c);                                          \
            for (int64_t s = 0; s < v->s; s++)                                                     \
                y[s * v->step] = (T)((x[s * v->step] - mean) * scale + shift);                     \
        }                                                                                          \
    }
INSTANCE_TYPE(float)
INSTANCE_TYPE(double)

static sparoa_status instance_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    instance_args a = {node, channels_of(node, x, true), sparoa_attr_float(node, "epsilon", 1e-5f)};
    if (sp_count(x) > 0)
        sp_parallel_for(exec, a.v.n * a.v.c, 1 + 8192 / (a.v.s + 1),
                        x->dtype == SPAROA_FLOAT64 ? instance_double : instance_float, &a);
    return SPAROA_OK;
}

static void instance_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 6.0 * (double)sp_count(node->in[0]); /* mean, variance, scale and shift */
}

/* ONNX InstanceNormalization, versions 1, 6 and 22. */
SP_OP(InstanceNormalization) = {
    SP_OP_HEAD("InstanceNormalization", 1, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_NORM,
    .tolerance = SPAROA_TOL_SUM,
    .flags = SPAROA_OP_INPLACE,
    .infer = instance_infer,
    .cost = instance_cost,
    .run = instance_run,
};
