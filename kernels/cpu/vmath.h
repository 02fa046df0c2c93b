/*
 * vmath.h - elementary functions of vectors of floats. Polynomials are minimax fits on the reduced
 * range, errors a few units in the last place (tests/kernels/test_vmath.c holds them to it);
 * infinities, NaN and subnormal results come out as from libm.
 */
#ifndef SP_KERNELS_CPU_VMATH_H
#define SP_KERNELS_CPU_VMATH_H

#include "kernels/cpu/isa.h"

SP_INLINE vf vf_poly(vf x, const float *c, int degree)
{
    vf y = vf_splat(c[degree]);
    SP_UNROLL for (int i = degree - 1; i >= 0; i--) y = vf_fma(y, x, vf_splat(c[i]));
    return y;
}

/* exp(x) = 2^n exp(r), |r| <= ln 2 / 2; ln 2 in two parts, the first short enough to make n times
 * it exact. Gives exp(r) - 1. */
SP_INLINE vf vf_exp_parts(vf x, vf *power)
{
    static const float c[] = {0x1p-1f, 0x1.55548ep-3f, 0x1.55545ep-5f, 0x1.123b56p-7f,
                              0x1.6db42ap-10f};
    x = vf_max(vf_splat(-105.0f), vf_min(vf_splat(89.0f), x));
    vf n = vf_round(x * vf_splat(0x1.715476p+0f));
    vf r = vf_fma(n, vf_splat(-0x1.62e4p-1f), x);
    r = vf_fma(n, vf_splat(-0x1.7f7d1cp-20f), r);
    *power = n;
    return vf_fma(r * r, vf_poly(r, c, 4), r);
}

SP_INLINE vf vf_exp(vf x)
{
    vf n, p = vf_exp_parts(x, &n);
    return vf_scale(p + vf_splat(1), n);
}

/* exp(x) of x not above 0, and 0 where that is below exp(least): arithmetic with subnormals, of
 * which masks of -100 make many, takes some processors a hundred cycles. */
SP_INLINE vf vf_exp_above(vf least, vf x)
{
    return vf_lt(x, least, vf_zero(), vf_exp(vf_max(least, x)));
}

/* 2^x of the x that is given, to twice 2^-24 of the result; rounding of x counts besides. */
SP_INLINE vf vf_exp2(vf x)
{
    static const float c[] = {0x1.fffffep-1f, 0x1.62e4f6p-1f, 0x1.ebd5aap-3f,
                              0x1.c95444p-5f, 0x1.26901cp-7f, 0x1.ec320ap-10f};
    vf whole, f = vf_fraction(x, &whole);
    return vf_scale(vf_poly(f, c, 5), whole);
}

/* exp(x) - 1 of numbers below 0. */
SP_INLINE vf vf_expm1(vf x)
{
    vf n, p = vf_exp_parts(x, &n), one = vf_splat(1);
    return vf_scale(p, n) + (vf_scale(one, n) - one);
}

/* x = 2^n (1 + f) with 1 + f in sqrt(1/2)..sqrt(2); log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R) with
 * s = f / (2 + f) and R a polynomial of s^2. Subnormals are scaled up first. */
SP_INLINE vf vf_log(vf x)
{
    static const float c[] = {0xaaaaaa.0p-24f, 0xccce13.0p-25f, 0x91e9ee.0p-25f, 0xf89e26.0p-26f};
    const vf zero = vf_zero(), tiny = vf_splat(0x1p-126f), infinity = vf_splat(INFINITY);
    vi i = (vi)((vu)vf_lt(x, tiny, x * vf_splat(0x1p23f), x) + (0x3f800000u - 0x3f3504f3u));
    vf n = __builtin_convertvector((i >> 23) - 127, vf) - vf_lt(x, tiny, vf_splat(23), zero);
    vf f = (vf)((i & 0x007fffff) + 0x3f3504f3) - vf_splat(1);
    vf s = f / (f + vf_splat(2)), z = s * s, half = vf_splat(0.5f) * f * f;
    vf tail = vf_fma(s, vf_fma(z, vf_poly(z, c, 3), half), n * vf_splat(0x1.7f7d1cp-20f));
    vf y = vf_fma(n, vf_splat(0x1.62e4p-1f), (tail - half) + f);
    vf other = vf_lt(x, zero, vf_splat(NAN), -infinity);
    return vf_nan_or(x, vf_lt(zero, x, vf_lt(x, infinity, y, x), other));
}

/* Whole numbers; zeros keep their sign. From 2^23 on every float is one. */
SP_INLINE vf vf_nearest(vf x)
{
#if defined(SP_ISA_generic)
    vf a = vf_abs(x), magic = vf_splat(0x1p23f);
    return vf_lt(a, magic, vf_sign((a + magic) - magic, x), x);
#else
    return vf_round(x);
#endif
}

SP_INLINE vf vf_floor(vf x)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_roundscale_ps((__m512)x, 9);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_round_ps((__m256)x, 9);
#elif defined(SP_ISA_neon)
    return (vf)vrndmq_f32((float32x4_t)x);
#else
    vf r = vf_nearest(x);
    return vf_lt(x, r, r - vf_splat(1), r);
#endif
}

SP_INLINE vf vf_ceil(vf x)
{
    return -vf_floor(-x);
}

/* x / (1 + exp(-a x)) */
SP_INLINE vf vf_swish(vf x, vf a)
{
    return x / (vf_splat(1) + vf_exp(-(a * x)));
}

/* x tanh(log(1 + e)) with e = exp(x), which is x n / (n + 2) with n = e (e + 2). */
SP_INLINE vf vf_mish(vf x)
{
    vf e = vf_exp(vf_min(vf_splat(20), x)), two = vf_splat(2), n = e * (e + two);
    return x * (n / (n + two));
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + y) with y = exp(-|x|), and log(1 + y) = 2 artanh s with
 * s = y / (2 + y), at most 1 / 3, by its series. */
SP_INLINE vf vf_softplus(vf x)
{
    static const float c[] = {1.0f,     1.0f / 3,  1.0f / 5,  1.0f / 7,
                              1.0f / 9, 1.0f / 11, 1.0f / 13, 1.0f / 15};
    vf y = vf_exp(-vf_abs(x)), s = y / (y + vf_splat(2));
    return vf_fma(s + s, vf_poly(s * s, c, 7), vf_max(vf_zero(), x));
}

/* 1 / (1 + exp(-x)), by exp of a negative number only, so that small results keep their digits. */
SP_INLINE vf vf_sigmoid(vf x)
{
    vf e = vf_exp(-vf_abs(x)), one = vf_splat(1);
    return vf_lt(x, vf_zero(), e, one) / (one + e);
}

/* x / (1 + exp(-x)). Its error counts by the size of x, so that exp may take x / ln 2 as rounded.
 */
SP_INLINE vf vf_silu(vf x)
{
    return x / (vf_exp2(x * vf_splat(-0x1.715476p+0f)) + vf_splat(1));
}

SP_INLINE vf vf_tanh(vf x)
{
    static const float c[] = {-0x1.55552cp-2f, 0x1.1105a2p-3f, -0x1.b806a6p-5f, 0x1.50b828p-6f,
                              -0x1.6f4212p-8f};
    vf a = vf_abs(x), z = x * x, one = vf_splat(1);
    vf small = vf_fma(a * z, vf_poly(z, c, 4), a);
    vf large = one - vf_splat(2) / (vf_exp2(a * vf_splat(0x1.715476p+1f)) + one);
    return vf_sign(vf_lt(a, vf_splat(0.625f), small, large), x);
}

/* A polynomial near 0, else 1 - exp(polynomial for log erfc). */
SP_INLINE vf vf_erf(vf x)
{
    static const float c[] = {0x1.06eba8p-3f, -0x1.812742p-2f,  0x1.ce2de2p-4f, -0x1.b80b0ep-6f,
                              0x1.54a492p-8f, -0x1.a8fc6ep-11f, 0x1.589478p-14f};
    static const float l[] = {0x1.62d8acp-13f, -0x1.212626p+0f, -0x1.444d1ep-1f, -0x1.bb4548p-4f,
                              0x1.9aebb0p-6f,  -0x1.10625p-8f,  0x1.c45912p-12f, -0x1.5d71dap-16f};
    vf a = vf_abs(x), z = a * a;
    vf small = vf_fma(a, vf_poly(z, c, 6), a);
    vf large = vf_splat(1) - vf_exp(vf_poly(vf_min(vf_splat(4), a), l, 7));
    return vf_sign(vf_lt(a, vf_splat(0.9f), small, large), x);
}

/* x (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - t erfc(t / sqrt 2) / 2 with t = |x|: one exponential of
 * t times a polynomial, fitted to the product's absolute error. Beyond 5.6 the product is less than
 * half a unit in x's last place. */
SP_INLINE vf vf_gelu(vf x)
{
    static const float c[] = {-0x1.26af36p+0f, -0x1.d62e9cp-2f,  -0x1.af201ap-5f,
                              0x1.dad6p-8f,    -0x1.1d4ac4p-12f, -0x1.13b826p-13f,
                              0x1.d6b7a4p-16f, -0x1.fe94f2p-20f};
    vf end = vf_splat(5.6f), t = vf_min(end, vf_abs(x)), e = vf_exp2(t * vf_poly(t, c, 7));
    vf tail = vf_lt(t, end, t * vf_splat(-0.5f), vf_zero());
    return vf_fma(tail, e, vf_max(vf_zero(), x));
}

SP_INLINE vf vf_hardswish(vf x)
{
    vf gate = vf_fma(x, vf_splat(1.0f / 6), vf_splat(0.5f));
    return x * vf_max(vf_zero(), vf_min(vf_splat(1), gate));
}

SP_INLINE vf vf_gelu_tanh(vf x)
{
    vf h = x * vf_splat(0.5f), u = vf_fma(x * x * vf_splat(0.044715f), x, x);
    return vf_fma(h, vf_tanh(u * vf_splat(0.79788456f)), h);
}

#endif
