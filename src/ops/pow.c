/* Pow: the base decides the type of the result; the exponent may be of any type of number. */
#include "ops/eltwise.h"

/* base^exponent by squaring; wraps. Negative exponents leave the fraction 1 / base^n, truncated. */
static uint64_t pow_int(int64_t base, int64_t exponent)
{
    if (exponent < 0) {
        if (base == 1) return 1;
        if (base == -1) return exponent % 2 == 0 ? 1 : UINT64_MAX;
        return 0;
    }
    uint64_t result = 1, factor = (uint64_t)base;
    for (; exponent > 0; exponent >>= 1, factor *= factor)
        if (exponent & 1) result *= factor;
    return result;
}

/* An unsigned exponent beyond int64 acts like the largest one of the same parity. */
static inline int64_t clamp_exponent(uint64_t e)
{
    return e > INT64_MAX ? INT64_MAX - 1 + (int64_t)(e & 1) : (int64_t)e;
}

static inline int64_t truncate_i64(double v)
{
    if (v != v) return 0;
    return v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : (int64_t)v;
}

static inline int32_t truncate_i32(double v)
{
    if (v != v) return 0;
    return v >= 2147483647.0 ? INT32_MAX : v <= -2147483648.0 ? INT32_MIN : (int32_t)v;
}

/* float raised to float: powf, except where a constant exponent allows one instruction. */
static void pow_float_float(const sp_run *run)
{
    const int64_t n = run->n;
    for (int64_t r = 0; r < run->rows; r++) {
        const float *pa = (const float *)run->in[0] + r * run->row[0];
        const float *pb = (const float *)run->in[1] + r * run->row[1];
        float *y = (float *)run->out + r * n;
        const float e = *pb;
        const int64_t sa = run->step[0], sb = run->step[1];
        if (sb == 0 && sa == 1 && e == 2.0f) {
            SP_IVDEP for (int64_t i = 0; i < n; i++) y[i] = pa[i] * pa[i];
        } else if (sb == 0 && sa == 1 && e == 3.0f) {
            SP_IVDEP for (int64_t i = 0; i < n; i++) y[i] = pa[i] * pa[i] * pa[i];
        } else if (sb == 0 && sa == 1 && e == 0.5f) {
            /* pow(-0, 0.5) is +0 and pow(-inf, 0.5) is +inf, unlike sqrt */
            SP_IVDEP for (int64_t i = 0; i < n; i++) y[i] =
                pa[i] == -INFINITY ? INFINITY : sqrtf(pa[i] + 0.0f);
        } else {
            for (int64_t i = 0; i < n; i++) y[i] = powf(pa[i * sa], pb[i * sb]);
        }
    }
}

#define POW_LOOP(A, B, expr)                                                                       \
    static void pow_##A##_##B(const sp_run *run)                                                   \
    {                                                                                              \
        for (int64_t r = 0; r < run->rows; r++) {                                                  \
            const A *pa = (const A *)run->in[0] + r * run->row[0];                                 \
            const B *pb = (const B *)run->in[1] + r * run->row[1];                                 \
            A *y = (A *)run->out + r * run->n;                                                     \
            for (int64_t i = 0; i < run->n; i++) {                                                 \
                const A a = pa[i * run->step[0]];                                                  \
                const B b = pb[i * run->step[1]];                                                  \
                y[i] = (A)(expr);                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

POW_LOOP(float, double, pow(a, b))
POW_LOOP(double, float, pow(a, b))
POW_LOOP(double, double, pow(a, b))
POW_LOOP(int32_t, float, truncate_i32(pow(a, b)))
POW_LOOP(int32_t, double, truncate_i32(pow(a, b)))
POW_LOOP(int64_t, float, truncate_i64(pow((double)a, b)))
POW_LOOP(int64_t, double, truncate_i64(pow((double)a, b)))
#define X(B, dt)                                                                                   \
    POW_LOOP(float, B, powf(a, (float)b))                                                          \
    POW_LOOP(double, B, pow(a, (double)b))                                                         \
    POW_LOOP(int32_t, B, pow_int(a, b))                                                            \
    POW_LOOP(int64_t, B, pow_int(a, b))
X(int8_t, 0)
X(int16_t, 0)
X(int32_t, 0)
X(int64_t, 0)
X(uint8_t, 0)
X(uint16_t, 0)
X(uint32_t, 0)
#undef X
POW_LOOP(float, uint64_t, powf(a, (float)b))
POW_LOOP(double, uint64_t, pow(a, (double)b))
POW_LOOP(int32_t, uint64_t, pow_int(a, clamp_exponent(b)))
POW_LOOP(int64_t, uint64_t, pow_int(a, clamp_exponent(b)))

#define X(B, dt)                                                                                   \
    case dt: return pow_float_##B;
static sp_run_fn of_float(sparoa_dtype exponent)
{
    switch (exponent) {
        SP_FOR_NUMBERS(X)
    default: return NULL;
    }
}
#undef X

#define X(B, dt)                                                                                   \
    case dt: return pow_double_##B;
static sp_run_fn of_double(sparoa_dtype exponent)
{
    switch (exponent) {
        SP_FOR_NUMBERS(X)
    default: return NULL;
    }
}
#undef X

#define X(B, dt)                                                                                   \
    case dt: return pow_int32_t_##B;
static sp_run_fn of_int32(sparoa_dtype exponent)
{
    switch (exponent) {
        SP_FOR_NUMBERS(X)
    default: return NULL;
    }
}
#undef X

#define X(B, dt)                                                                                   \
    case dt: return pow_int64_t_##B;
static sp_run_fn of_int64(sparoa_dtype exponent)
{
    switch (exponent) {
        SP_FOR_NUMBERS(X)
    default: return NULL;
    }
}
#undef X

static sparoa_status pow_infer(const sparoa_node *node, sparoa_error *err)
{
    sparoa_tensor second;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT | 1u << SPAROA_INT32 | 1u << SPAROA_INT64, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_NUMBER, err));
    SP_TRY(sp_second_operand(node, &second, err));
    SP_TRY(sp_broadcast(node, node->in[0], &second, node->out[0], err));
    node->out[0]->dtype = node->in[0]->dtype;
    return SPAROA_OK;
}

static sparoa_status pow_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sparoa_dtype exponent = node->in[1]->dtype;
    sp_run_fn fn = NULL;
    switch (node->in[0]->dtype) {
    case SPAROA_FLOAT32: fn = of_float(exponent); break;
    case SPAROA_FLOAT64: fn = of_double(exponent); break;
    case SPAROA_INT32: fn = of_int32(exponent); break;
    case SPAROA_INT64: fn = of_int64(exponent); break;
    default: break;
    }
    return sp_run_binary(node, exec, fn, NULL, SP_GRAIN_EXP);
}

/* ONNX Pow, versions 1, 7, 12, 13 and 15. */
SP_OP(Pow) = {SP_BINARY_HEAD("Pow", 1, SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE), .infer = pow_infer,
              .cost = sp_cost_exp, .run = pow_run};
