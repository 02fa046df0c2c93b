#include "kernels/cpu/vmath.h"

#include "kernels/cpu/protos.h"
#include "kernels/cpu/vtrig.h"
#include "ops/epilogue.h"

/* y[i] = expression in the vector v, for all i; the last few through partial loads and stores. */
#define MAP(expression)                                                                            \
    do {                                                                                           \
        size_t i = 0;                                                                              \
        for (; i + VL <= n; i += VL) {                                                             \
            vf v = vf_load(x + i);                                                                 \
            vf_store(y + i, (expression));                                                         \
        }                                                                                          \
        if (i < n) {                                                                               \
            vf v = vf_load_n(x + i, n - i);                                                        \
            vf_store_n(y + i, (expression), n - i);                                                \
        }                                                                                          \
    } while (0)

void SP_KERNEL(sp_act_f32)(int act, float a, float b, size_t n, const float *x, float *y)
{
    const vf zero = vf_zero(), one = vf_splat(1), va = vf_splat(a), vb = vf_splat(b);
    switch (act) {
    case SP_ACT_RELU: MAP(vf_max(zero, v)); break;
    case SP_ACT_CLIP: MAP(vf_min(vb, vf_max(va, v))); break;
    case SP_ACT_LEAKYRELU: MAP(vf_lt(v, zero, va * v, v)); break;
    case SP_ACT_SIGMOID: MAP(vf_sigmoid(v)); break;
    case SP_ACT_TANH: MAP(vf_tanh(v)); break;
    case SP_ACT_HARDSIGMOID: MAP(vf_max(zero, vf_min(one, vf_fma(va, v, vb)))); break;
    case SP_ACT_HARDSWISH: MAP(vf_hardswish(v)); break;
    case SP_ACT_SILU: MAP(vf_silu(v)); break;
    case SP_ACT_GELU: MAP(vf_gelu(v)); break;
    case SP_ACT_GELU_TANH: MAP(vf_gelu_tanh(v)); break;
    default:
        if (x != y) memmove(y, x, n * sizeof *y);
        break;
    }
}

SP_INLINE vf vf_sqrt(vf x)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(SP_ISA_neon)
    return (vf)vsqrtq_f32((float32x4_t)x);
#else
    vf y;
    for (int i = 0; i < VL; i++) y[i] = __builtin_sqrtf(x[i]);
    return y;
#endif
}

static void sines(int64_t quarter, size_t n, const float *x, float *y)
{
    float rest[VD] = {0};
    size_t i = 0;
    for (; i + VD <= n; i += VD) vd_store(y + i, vd_sin(vd_load(x + i), quarter));
    if (i == n) return;
    for (size_t k = 0; k < n - i; k++) rest[k] = x[i + k];
    vd_store(rest, vd_sin(vd_load(rest), quarter));
    for (size_t k = 0; k < n - i; k++) y[i + k] = rest[k];
}

void SP_KERNEL(sp_unary_f32)(sp_unary op, float a, float b, size_t n, const float *x, float *y)
{
    const vf zero = vf_zero(), va = vf_splat(a), vb = vf_splat(b);
    switch (op) {
    case SP_UNARY_EXP: MAP(vf_exp(v)); break;
    case SP_UNARY_LOG: MAP(vf_log(v)); break;
    case SP_UNARY_SIN: sines(0, n, x, y); break;
    case SP_UNARY_COS: sines(1, n, x, y); break;
    case SP_UNARY_ERF: MAP(vf_erf(v)); break;
    case SP_UNARY_SQRT: MAP(vf_sqrt(v)); break;
    case SP_UNARY_NEG: MAP(-v); break;
    case SP_UNARY_ABS: MAP(vf_abs(v)); break;
    case SP_UNARY_FLOOR: MAP(vf_floor(v)); break;
    case SP_UNARY_CEIL: MAP(vf_ceil(v)); break;
    case SP_UNARY_ROUND: MAP(vf_nearest(v)); break;
    case SP_UNARY_RECIPROCAL: MAP(vf_splat(1) / v); break;
    case SP_UNARY_ELU: MAP(vf_lt(v, zero, va * vf_expm1(v), vb * v)); break;
    case SP_UNARY_CELU: MAP(vf_lt(v, zero, va * vf_expm1(v / va), v)); break;
    case SP_UNARY_SOFTPLUS: MAP(vf_softplus(v)); break;
    case SP_UNARY_SWISH: MAP(vf_swish(v, va)); break;
    case SP_UNARY_MISH: MAP(vf_mish(v)); break;
    default: break;
    }
}

#define WALK(op)                                                                                   \
    do {                                                                                           \
        size_t i = 0;                                                                              \
        if (a_stride && b_stride)                                                                  \
            for (; i + VL <= n; i += VL) vf_store(y + i, vf_load(a + i) op vf_load(b + i));        \
        else if (a_stride)                                                                         \
            for (; i + VL <= n; i += VL) vf_store(y + i, vf_load(a + i) op vb);                    \
        else if (b_stride)                                                                         \
            for (; i + VL <= n; i += VL) vf_store(y + i, va op vf_load(b + i));                    \
        if (i < n) {                                                                               \
            vf ta = a_stride ? vf_load_n(a + i, n - i) : va;                                       \
            vf tb = b_stride ? vf_load_n(b + i, n - i) : vb;                                       \
            vf_store_n(y + i, ta op tb, n - i);                                                    \
        }                                                                                          \
    } while (0)

void SP_KERNEL(sp_binary_f32)(sp_binary op, size_t n, const float *a, int a_stride, const float *b,
                              int b_stride, float *y)
{
    if (n == 0) return;
    vf va = vf_splat(*a), vb = vf_splat(*b);
    if (!a_stride && !b_stride) { /* both repeat: one value fills y */
        float r = 0;
        SP_KERNEL(sp_binary_f32)(op, 1, a, 1, b, 1, &r);
        for (size_t i = 0; i < n; i++) y[i] = r;
        return;
    }
    switch (op) {
    case SP_BINARY_ADD: WALK(+); break;
    case SP_BINARY_SUB: WALK(-); break;
    case SP_BINARY_MUL: WALK(*); break;
    case SP_BINARY_DIV: WALK(/); break;
    default: break;
    }
}
