/* Functions of one number of any type, or of one truth value, without libm. */
#include "ops/eltwise.h"

/* Negation that wraps at the smallest integer. */
#define NEG_INT(T, x) ((T)(0 - (uint64_t)(x)))

SP_UNARY_LOOP(abs_float, float, float, fabsf(x))
SP_UNARY_LOOP(abs_double, double, double, fabs(x))
SP_UNARY_LOOP(neg_float, float, float, -x)
SP_UNARY_LOOP(neg_double, double, double, -x)
SP_UNARY_LOOP(sign_float, float, float, x != x ? x : (float)((x > 0) - (x < 0)))
SP_UNARY_LOOP(sign_double, double, double, x != x ? x : (double)((x > 0) - (x < 0)))
#define X(T, dt)                                                                                   \
    SP_UNARY_LOOP(abs_##T, T, T, x < 0 ? NEG_INT(T, x) : x)                                        \
    SP_UNARY_LOOP(neg_##T, T, T, NEG_INT(T, x))                                                    \
    SP_UNARY_LOOP(sign_##T, T, T, (x > 0) - (x < 0))
X(int8_t, 0)
X(int16_t, 0)
X(int32_t, 0)
X(int64_t, 0)
#undef X
#define X(T, dt) SP_UNARY_LOOP(sign_##T, T, T, x != 0)
X(uint8_t, 0)
X(uint16_t, 0)
X(uint32_t, 0)
X(uint64_t, 0)
#undef X
#define X(T, dt) SP_UNARY_LOOP(bitnot_##T, T, T, ~x)
SP_FOR_INTS(X)
#undef X
SP_UNARY_LOOP(not_bool, uint8_t, uint8_t, x == 0)
SP_UNARY_LOOP(isnan_float, float, uint8_t, x != x)
SP_UNARY_LOOP(isnan_double, double, uint8_t, x != x)

static sparoa_status abs_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_unary_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = abs_##T; break;
        SP_FOR_FLOATS(X)
        X(int8_t, SPAROA_INT8)
        X(int16_t, SPAROA_INT16)
        X(int32_t, SPAROA_INT32)
        X(int64_t, SPAROA_INT64)
#undef X
    default: sp_copy_data(node->out[0], node->in[0]); return SPAROA_OK; /* unsigned */
    }
    return sp_run_unary(node, exec, fn, NULL, SP_GRAIN);
}

static sparoa_status neg_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0,
                         SP_TYPES_FLOAT | 1u << SPAROA_INT8 | 1u << SPAROA_INT16 |
                             1u << SPAROA_INT32 | 1u << SPAROA_INT64,
                         err));
    return sp_infer_same(node, err);
}

static sparoa_status neg_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_unary_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = neg_##T; break;
        SP_FOR_FLOATS(X)
        X(int8_t, SPAROA_INT8)
        X(int16_t, SPAROA_INT16)
        X(int32_t, SPAROA_INT32)
        X(int64_t, SPAROA_INT64)
#undef X
    default: break;
    }
    return sp_run_unary(node, exec, fn, NULL, SP_GRAIN);
}

static sparoa_status sign_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_unary_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = sign_##T; break;
        SP_FOR_NUMBERS(X)
#undef X
    default: break;
    }
    return sp_run_unary(node, exec, fn, NULL, SP_GRAIN);
}

static sparoa_status bitnot_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_INT, err));
    return sp_infer_same(node, err);
}

static sparoa_status bitnot_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_unary_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = bitnot_##T; break;
        SP_FOR_INTS(X)
#undef X
    default: break;
    }
    return sp_run_unary(node, exec, fn, NULL, SP_GRAIN);
}

static sparoa_status not_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, 1u << SPAROA_BOOL, err));
    return sp_infer_same(node, err);
}

static sparoa_status not_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return sp_run_unary(node, exec, not_bool, NULL, SP_GRAIN);
}

static sparoa_status test_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_infer_float(node, err));
    node->out[0]->dtype = SPAROA_BOOL;
    return SPAROA_OK;
}

static sparoa_status isnan_run(const sparoa_node *node, const sparoa_exec *exec)
{
    bool f64 = node->in[0]->dtype == SPAROA_FLOAT64;
    return sp_run_unary(node, exec, f64 ? isnan_double : isnan_float, NULL, SP_GRAIN);
}

/* Which infinities IsInf looks for: the two limits that count as infinite. */
typedef struct isinf_arg {
    float above, below;
} isinf_arg;

SP_UNARY_LOOP(isinf_float, float, uint8_t,
              x == ((const isinf_arg *)arg)->above || x == ((const isinf_arg *)arg)->below)
SP_UNARY_LOOP(isinf_double, double, uint8_t,
              x == ((const isinf_arg *)arg)->above || x == ((const isinf_arg *)arg)->below)

static sparoa_status isinf_run(const sparoa_node *node, const sparoa_exec *exec)
{
    /* NaN equals nothing, so it switches one side off. */
    isinf_arg arg = {sparoa_attr_int(node, "detect_positive", 1) ? INFINITY : NAN,
                     sparoa_attr_int(node, "detect_negative", 1) ? -INFINITY : NAN};
    bool f64 = node->in[0]->dtype == SPAROA_FLOAT64;
    return sp_run_unary(node, exec, f64 ? isinf_double : isinf_float, &arg, SP_GRAIN);
}

#define ROW(op, since, infer_, run_)                                                               \
    SP_UNARY_HEAD(op, since, SPAROA_TOL_EXACT), .infer = infer_, .run = run_

/* ONNX Abs, versions 1, 6 and 13. */
SP_OP(Abs) = {ROW("Abs", 1, sp_infer_number, abs_run)};

/* ONNX Neg, versions 1, 6 and 13. */
SP_OP(Neg) = {ROW("Neg", 1, neg_infer, neg_run)};

/* ONNX Sign, versions 9 and 13; NaN stays NaN. */
SP_OP(Sign) = {ROW("Sign", 9, sp_infer_number, sign_run)};

/* ONNX Not, version 1. */
SP_OP(Not) = {ROW("Not", 1, not_infer, not_run)};

/* ONNX BitwiseNot, version 18. */
SP_OP(BitwiseNot) = {ROW("BitwiseNot", 18, bitnot_infer, bitnot_run)};

/* ONNX IsNaN, versions 9, 13 and 20. */
SP_OP(IsNaN) = {ROW("IsNaN", 9, test_infer, isnan_run)};

/* ONNX IsInf, versions 10 and 20. */
SP_OP(IsInf) = {ROW("IsInf", 10, test_infer, isinf_run)};
