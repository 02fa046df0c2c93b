/* Functions of one floating-point number without attributes. */
#include "ops/eltwise.h"

/* Defines <name>_run from the expressions for float and double. */
#define FLOAT_UNARY(name, grain, expr32, expr64)                                                   \
    SP_UNARY_LOOP(name##_f32, float, float, expr32)                                                \
    SP_UNARY_LOOP(name##_f64, double, double, expr64)                                              \
    static sparoa_status name##_run(const sparoa_node *node, const sparoa_exec *exec)              \
    {                                                                                              \
        sparoa_dtype t = node->in[0]->dtype;                                                       \
        sp_unary_fn fn = t == SPAROA_FLOAT32   ? name##_f32                                        \
                         : t == SPAROA_FLOAT64 ? name##_f64                                        \
                                               : NULL;                                             \
        return sp_run_unary(node, exec, fn, NULL, grain);                                          \
    }

static inline float softplus_f(float x)
{
    return (x > 0 ? x : 0) + log1pf(expf(-fabsf(x)));
}

static inline double softplus_d(double x)
{
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

static inline float hardswish_f(float x)
{
    const float g = x * (1.0f / 6) + 0.5f;
    return x * (g < 0 ? 0 : g > 1 ? 1 : g);
}

static inline double hardswish_d(double x)
{
    const double g = x * (1.0 / 6) + 0.5;
    return x * (g < 0 ? 0 : g > 1 ? 1 : g);
}

FLOAT_UNARY(acos, SP_GRAIN_EXP, acosf(x), acos(x))
FLOAT_UNARY(acosh, SP_GRAIN_EXP, acoshf(x), acosh(x))
FLOAT_UNARY(asin, SP_GRAIN_EXP, asinf(x), asin(x))
FLOAT_UNARY(asinh, SP_GRAIN_EXP, asinhf(x), asinh(x))
FLOAT_UNARY(atan, SP_GRAIN_EXP, atanf(x), atan(x))
FLOAT_UNARY(atanh, SP_GRAIN_EXP, atanhf(x), atanh(x))
FLOAT_UNARY(ceil, SP_GRAIN, ceilf(x), ceil(x))
FLOAT_UNARY(cos, SP_GRAIN_EXP, cosf(x), cos(x))
FLOAT_UNARY(cosh, SP_GRAIN_EXP, coshf(x), cosh(x))
FLOAT_UNARY(erf, SP_GRAIN_EXP, erff(x), erf(x))
FLOAT_UNARY(exp, SP_GRAIN_EXP, expf(x), exp(x))
FLOAT_UNARY(floor, SP_GRAIN, floorf(x), floor(x))
FLOAT_UNARY(hardswish, SP_GRAIN, hardswish_f(x), hardswish_d(x))
FLOAT_UNARY(log, SP_GRAIN_EXP, logf(x), log(x))
FLOAT_UNARY(mish, SP_GRAIN_EXP, x *tanhf(softplus_f(x)), x *tanh(softplus_d(x)))
FLOAT_UNARY(reciprocal, SP_GRAIN, 1 / x, 1 / x)
FLOAT_UNARY(round, SP_GRAIN, rintf(x), rint(x))
FLOAT_UNARY(sigmoid, SP_GRAIN_EXP, 1 / (1 + expf(-x)), 1 / (1 + exp(-x)))
FLOAT_UNARY(sin, SP_GRAIN_EXP, sinf(x), sin(x))
FLOAT_UNARY(sinh, SP_GRAIN_EXP, sinhf(x), sinh(x))
FLOAT_UNARY(softplus, SP_GRAIN_EXP, softplus_f(x), softplus_d(x))
FLOAT_UNARY(softsign, SP_GRAIN, x / (1 + fabsf(x)), x / (1 + fabs(x)))
FLOAT_UNARY(sqrt, SP_GRAIN, sqrtf(x), sqrt(x))
FLOAT_UNARY(tan, SP_GRAIN_EXP, tanf(x), tan(x))
FLOAT_UNARY(tanh, SP_GRAIN_EXP, tanhf(x), tanh(x))

#define ROW(op, since, tol, name, cost_)                                                           \
    SP_UNARY_HEAD(op, since, SPAROA_TOL_##tol), .infer = sp_infer_float, .cost = cost_,            \
                                                .run = name##_run

/* ONNX Acos, versions 7 and 22. */
SP_OP(Acos) = {ROW("Acos", 7, ROUNDING, acos, sp_cost_exp)};

/* ONNX Acosh, versions 9 and 22. */
SP_OP(Acosh) = {ROW("Acosh", 9, ROUNDING, acosh, sp_cost_exp)};

/* ONNX Asin, versions 7 and 22. */
SP_OP(Asin) = {ROW("Asin", 7, ROUNDING, asin, sp_cost_exp)};

/* ONNX Asinh, versions 9 and 22. */
SP_OP(Asinh) = {ROW("Asinh", 9, ROUNDING, asinh, sp_cost_exp)};

/* ONNX Atan, versions 7 and 22. */
SP_OP(Atan) = {ROW("Atan", 7, ROUNDING, atan, sp_cost_exp)};

/* ONNX Atanh, versions 9 and 22. */
SP_OP(Atanh) = {ROW("Atanh", 9, ROUNDING, atanh, sp_cost_exp)};

/* ONNX Ceil, versions 1, 6 and 13. */
SP_OP(Ceil) = {ROW("Ceil", 1, EXACT, ceil, NULL)};

/* ONNX Cos, versions 7 and 22. */
SP_OP(Cos) = {ROW("Cos", 7, ROUNDING, cos, sp_cost_exp)};

/* ONNX Cosh, versions 9 and 22. */
SP_OP(Cosh) = {ROW("Cosh", 9, ROUNDING, cosh, sp_cost_exp)};

/* ONNX Erf, versions 9 and 13. */
SP_OP(Erf) = {ROW("Erf", 9, ROUNDING, erf, sp_cost_exp2)};

/* ONNX Exp, versions 1, 6 and 13. */
SP_OP(Exp) = {ROW("Exp", 1, ROUNDING, exp, sp_cost_exp)};

/* ONNX Floor, versions 1, 6 and 13. */
SP_OP(Floor) = {ROW("Floor", 1, EXACT, floor, NULL)};

/* ONNX HardSwish, versions 14 and 22. */
SP_OP(HardSwish) = {ROW("HardSwish", 14, ROUNDING, hardswish, sp_cost_div)};

/* ONNX Log, versions 1, 6 and 13. */
SP_OP(Log) = {ROW("Log", 1, ROUNDING, log, sp_cost_exp)};

/* ONNX Mish, versions 18 and 22. */
SP_OP(Mish) = {ROW("Mish", 18, ROUNDING, mish, sp_cost_exp2)};

/* ONNX Reciprocal, versions 1, 6 and 13. */
SP_OP(Reciprocal) = {ROW("Reciprocal", 1, ROUNDING, reciprocal, sp_cost_div)};

/* ONNX Round, versions 11 and 22 (ties go to the even neighbour). */
SP_OP(Round) = {ROW("Round", 11, EXACT, round, NULL)};

/* ONNX Sigmoid, versions 1, 6 and 13. */
SP_OP(Sigmoid) = {ROW("Sigmoid", 1, ROUNDING, sigmoid, sp_cost_exp)};

/* ONNX Sin, versions 7 and 22. */
SP_OP(Sin) = {ROW("Sin", 7, ROUNDING, sin, sp_cost_exp)};

/* ONNX Sinh, versions 9 and 22. */
SP_OP(Sinh) = {ROW("Sinh", 9, ROUNDING, sinh, sp_cost_exp)};

/* ONNX Softplus, versions 1 and 22. */
SP_OP(Softplus) = {ROW("Softplus", 1, ROUNDING, softplus, sp_cost_exp2)};

/* ONNX Softsign, versions 1 and 22. */
SP_OP(Softsign) = {ROW("Softsign", 1, ROUNDING, softsign, sp_cost_div)};

/* ONNX Sqrt, versions 1, 6 and 13. */
SP_OP(Sqrt) = {ROW("Sqrt", 1, ROUNDING, sqrt, sp_cost_div)};

/* ONNX Tan, versions 7 and 22. */
SP_OP(Tan) = {ROW("Tan", 7, ROUNDING, tan, sp_cost_exp)};

/* ONNX Tanh, versions 1, 6 and 13. */
SP_OP(Tanh) = {ROW("Tanh", 1, ROUNDING, tanh, sp_cost_exp)};
