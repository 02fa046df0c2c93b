/* Activation functions with parameters. */
#include "ops/eltwise.h"

#include "ops/gelu.h"

typedef struct act_arg {
    float a, b;
} act_arg;

/* Defines <name>_f32 and <name>_f64; the expressions use x and the parameters p and q. */
#define ACT_LOOP(name, T, expr)                                                                    \
    static void name(const void *in, void *out, int64_t n, const void *arg)                        \
    {                                                                                              \
        const T *px = in;                                                                          \
        T *y = out;                                                                                \
        const T p = ((const act_arg *)arg)->a;                                                     \
        const T q = ((const act_arg *)arg)->b;                                                     \
        (void)p;                                                                                   \
        (void)q;                                                                                   \
        SP_IVDEP for (int64_t i = 0; i < n; i++)                                                   \
        {                                                                                          \
            const T x = px[i];                                                                     \
            y[i] = (T)(expr);                                                                      \
        }                                                                                          \
    }

/* ... and <name>_run, with the parameters' attribute names and defaults. */
#define ACT(name, grain, attr_a, default_a, attr_b, default_b, expr32, expr64)                     \
    ACT_LOOP(name##_f32, float, expr32)                                                            \
    ACT_LOOP(name##_f64, double, expr64)                                                           \
    static sparoa_status name##_run(const sparoa_node *node, const sparoa_exec *exec)              \
    {                                                                                              \
        act_arg arg = {sparoa_attr_float(node, attr_a, default_a),                                 \
                       sparoa_attr_float(node, attr_b, default_b)};                                \
        sparoa_dtype t = node->in[0]->dtype;                                                       \
        sp_unary_fn fn = t == SPAROA_FLOAT32   ? name##_f32                                        \
                         : t == SPAROA_FLOAT64 ? name##_f64                                        \
                                               : NULL;                                             \
        return sp_run_unary(node, exec, fn, &arg, grain);                                          \
    }

#define CLAMP01(v) ((v) < 0 ? 0 : (v) > 1 ? 1 : (v))

ACT(celu, SP_GRAIN_EXP, "alpha", 1.0f, "", 0, x > 0 ? x : p * expm1f(x / p),
    x > 0 ? x : p * expm1(x / p))
ACT(elu, SP_GRAIN_EXP, "alpha", 1.0f, "", 0, x < 0 ? p * expm1f(x) : x, x < 0 ? p * expm1(x) : x)
ACT(leakyrelu, SP_GRAIN, "alpha", 0.01f, "", 0, x < 0 ? p * x : x, x < 0 ? p * x : x)
ACT(thresholdedrelu, SP_GRAIN, "alpha", 1.0f, "", 0, x > p ? x : 0, x > p ? x : 0)
ACT(hardsigmoid, SP_GRAIN, "alpha", 0.2f, "beta", 0.5f, CLAMP01(p *x + q), CLAMP01(p *x + q))
ACT(swish, SP_GRAIN_EXP, "alpha", 1.0f, "", 0, x / (1 + expf(-p * x)), x / (1 + exp(-p * x)))
ACT(quickgelu, SP_GRAIN_EXP, "alpha", 1.702f, "", 0, x / (1 + expf(-p * x)), x / (1 + exp(-p * x)))
ACT(selu, SP_GRAIN_EXP, "alpha", 1.67326319217681884765625f, "gamma", 1.05070102214813232421875f,
    x > 0 ? q * x : q * p * expm1f(x), x > 0 ? q * x : q * p * expm1(x))
ACT(selu1, SP_GRAIN_EXP, "alpha", 1.6732f, "gamma", 1.0507f, x > 0 ? q * x : q * p * expm1f(x),
    x > 0 ? q * x : q * p * expm1(x))
ACT(gelu_erf, SP_GRAIN_EXP, "", 0, "", 0, sp_gelu_f(x), sp_gelu_d(x))
ACT(gelu_tanh, SP_GRAIN_EXP, "", 0, "", 0, sp_gelu_tanh_f(x), sp_gelu_tanh_d(x))

static sparoa_status gelu_infer(const sparoa_node *node, sparoa_error *err)
{
    const char *mode = sparoa_attr_string(node, "approximate", "none");
    if (strcmp(mode, "none") != 0 && strcmp(mode, "tanh") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "approximate='%.32s', expected none or tanh", mode);
    return sp_infer_float(node, err);
}

static sparoa_status gelu_run(const sparoa_node *node, const sparoa_exec *exec)
{
    bool fast = strcmp(sparoa_attr_string(node, "approximate", "none"), "tanh") == 0;
    return fast ? gelu_tanh_run(node, exec) : gelu_erf_run(node, exec);
}

/* Shrink takes integers as well; there bias and threshold are compared as numbers and the result
 * truncates. */
#define SHRINK(x, p, q) ((x) < -(p) ? (x) + (q) : (x) > (p) ? (x) - (q) : 0)
ACT_LOOP(shrink_float, float, SHRINK(x, p, q))
ACT_LOOP(shrink_double, double, SHRINK(x, p, q))

static void shrink_ints(sparoa_tensor *out, const sparoa_tensor *in, double p, double q)
{
    int64_t n = sp_count(in);
    for (int64_t i = 0; i < n; i++) {
        double x = sp_get_f64(in, i);
        sp_set_f64(out, i, SHRINK(x, p, q));
    }
}

static sparoa_status shrink_run(const sparoa_node *node, const sparoa_exec *exec)
{
    act_arg arg = {sparoa_attr_float(node, "lambd", 0.5f), sparoa_attr_float(node, "bias", 0.0f)};
    switch (node->in[0]->dtype) {
    case SPAROA_FLOAT32: return sp_run_unary(node, exec, shrink_float, &arg, SP_GRAIN);
    case SPAROA_FLOAT64: return sp_run_unary(node, exec, shrink_double, &arg, SP_GRAIN);
    default: shrink_ints(node->out[0], node->in[0], arg.a, arg.b); return SPAROA_OK;
    }
}

#define ROW(op, since, tol, cost_, run_)                                                           \
    SP_UNARY_HEAD(op, since, SPAROA_TOL_##tol), .infer = sp_infer_float, .cost = cost_, .run = run_

/* ONNX Celu, versions 12 and 28. */
SP_OP(Celu) = {ROW("Celu", 12, ROUNDING, sp_cost_exp, celu_run)};

/* ONNX Elu, versions 1, 6 and 22. */
SP_OP(Elu) = {ROW("Elu", 1, ROUNDING, sp_cost_exp, elu_run)};

/* ONNX LeakyRelu, versions 1, 6 and 16. */
SP_OP(LeakyRelu) = {ROW("LeakyRelu", 1, ROUNDING, NULL, leakyrelu_run)};

/* ONNX ThresholdedRelu, versions 10 and 22. */
SP_OP(ThresholdedRelu) = {ROW("ThresholdedRelu", 10, EXACT, NULL, thresholdedrelu_run)};

/* ONNX HardSigmoid, versions 1, 6 and 22. */
SP_OP(HardSigmoid) = {ROW("HardSigmoid", 1, ROUNDING, sp_cost_div, hardsigmoid_run)};

/* ONNX Swish, version 24. */
SP_OP(Swish) = {ROW("Swish", 24, ROUNDING, sp_cost_exp, swish_run)};

/* ONNX Selu, versions 6 and 22. */
SP_OP(Selu) = {ROW("Selu", 6, ROUNDING, sp_cost_exp, selu_run)};

/* ONNX Selu, version 1: rounder defaults. */
SP_OP(Selu_1) = {SP_OP_HEAD("Selu", 1, 5), SP_UNARY(SPAROA_TOL_ROUNDING), .infer = sp_infer_float,
                 .cost = sp_cost_exp, .run = selu1_run};

/* ONNX Gelu, version 20. */
SP_OP(Gelu) = {SP_UNARY_HEAD("Gelu", 20, SPAROA_TOL_ROUNDING), .infer = gelu_infer,
               .cost = sp_cost_exp2, .run = gelu_run};

/* com.microsoft Gelu, version 1: the exact form only. */
SP_OP(Gelu_ms) = {SP_MS_HEAD("Gelu"), SP_UNARY(SPAROA_TOL_ROUNDING), .infer = sp_infer_float,
                  .cost = sp_cost_exp2, .run = gelu_erf_run};

/* com.microsoft QuickGelu, version 1. */
SP_OP(QuickGelu) = {SP_MS_HEAD("QuickGelu"), SP_UNARY(SPAROA_TOL_ROUNDING), .infer = sp_infer_float,
                    .cost = sp_cost_exp, .run = quickgelu_run};

/* ONNX Shrink, version 9. */
SP_OP(Shrink) = {SP_UNARY_HEAD("Shrink", 9, SPAROA_TOL_ROUNDING), .infer = sp_infer_number,
                 .run = shrink_run};
