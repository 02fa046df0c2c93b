/*
 * isa.h - one vector vocabulary for all instruction sets. Every file of this folder is compiled
 * once per ISA; external functions are named SP_KERNEL(name), everything else is static, so that no
 * code compiled for a newer machine is ever picked by the linker for an older one. Nothing of libc
 * or libm is called from inner loops.
 *
 * vf is VL floats, vi as many int32. vf_min and vf_max return their second argument where one is
 * NaN.
 */
#ifndef SP_KERNELS_CPU_ISA_H
#define SP_KERNELS_CPU_ISA_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SP_CAT_(a, b) a##__##b
#define SP_CAT(a, b) SP_CAT_(a, b)
#define SP_KERNEL(name) SP_CAT(name, SP_ISA)
#define SP_STR_(a) #a
#define SP_STR(a) SP_STR_(a)
#define SP_ISA_STRING SP_STR(SP_ISA)

#define SP_INLINE static inline __attribute__((always_inline, unused))
#define SP_UNROLL _Pragma("GCC unroll 64")

#if defined(SP_ISA_avx512)
#include <immintrin.h>
#define VL 16
#elif defined(SP_ISA_avx2)
#include <immintrin.h>
#define VL 8
#elif defined(SP_ISA_neon)
#include <arm_neon.h>
#define VL 4
#else
#define VL 4
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4))); /* for sums that may wrap around */
typedef float vf_u __attribute__((vector_size(VL * 4), aligned(4), may_alias));

/* Half a vf as doubles, and as many integers: for sums of many floats. */
typedef int64_t vl __attribute__((vector_size(VL * 4)));
typedef double vd __attribute__((vector_size(VL * 4)));
typedef float vf_half_u __attribute__((vector_size(VL * 2), aligned(4), may_alias));
#define VD (VL / 2)

SP_INLINE vf vf_load(const float *p)
{
    return *(const vf_u *)p;
}

SP_INLINE void vf_store(float *p, vf v)
{
    *(vf_u *)p = v;
}

/* VD floats as doubles. */
SP_INLINE vd vd_load(const float *p)
{
#if defined(SP_ISA_avx512)
    return (vd)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(SP_ISA_avx2)
    return (vd)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
    return __builtin_convertvector(*(const vf_half_u *)p, vd);
#endif
}

/* The first or second half of a vf as doubles. */
SP_INLINE vd vd_half(vf v, int half)
{
#if defined(SP_ISA_avx512)
    __m512d d = (__m512d)v;
    return (vd)_mm512_cvtps_pd(
        _mm256_castpd_ps(half ? _mm512_extractf64x4_pd(d, 1) : _mm512_castpd512_pd256(d)));
#elif defined(SP_ISA_avx2)
    __m256 f = (__m256)v;
    return (vd)_mm256_cvtps_pd(half ? _mm256_extractf128_ps(f, 1) : _mm256_castps256_ps128(f));
#else
    return half ? (vd){v[2], v[3]} : (vd){v[0], v[1]};
#endif
}

/* Doubles to VD floats. */
SP_INLINE void vd_store(float *p, vd v)
{
#if defined(SP_ISA_avx512)
    _mm256_storeu_ps(p, _mm512_cvtpd_ps((__m512d)v));
#elif defined(SP_ISA_avx2)
    _mm_storeu_ps(p, _mm256_cvtpd_ps((__m256d)v));
#else
    *(vf_half_u *)p = __builtin_convertvector(v, vf_half_u);
#endif
}

/* Keeps a value that is used several times in a register: compilers would rather load it anew for
 * each use, and each of those loads waits when the data is not near. */
SP_INLINE vf vf_once(vf v)
{
#if defined(SP_ISA_avx512) || defined(SP_ISA_avx2)
    __asm__("" : "+v"(v));
#elif defined(SP_ISA_neon)
    __asm__("" : "+w"(v));
#endif
    return v;
}

SP_INLINE vf vf_splat(float x)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_set1_ps(x);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_set1_ps(x);
#else
    return (vf){x, x, x, x};
#endif
}

SP_INLINE vf vf_zero(void)
{
    return (vf){0};
}

/* a * b + c, fused where the machine can. */
SP_INLINE vf vf_fma(vf a, vf b, vf c)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(SP_ISA_neon)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

/* a < b ? x : y, false where a or b is NaN. */
SP_INLINE vf vf_lt(vf a, vf b, vf x, vf y)
{
#if defined(SP_ISA_avx512)
    __mmask16 m = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
    return (vf)_mm512_mask_blend_ps(m, (__m512)y, (__m512)x);
#elif defined(SP_ISA_avx2)
    __m256 m = _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LT_OQ);
    return (vf)_mm256_blendv_ps((__m256)y, (__m256)x, m);
#else
    vi m = a < b;
    return (vf)((m & (vi)x) | (~m & (vi)y));
#endif
}

/* a where it is NaN, else b. */
SP_INLINE vf vf_nan_or(vf a, vf b)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q),
                                    (__m512)b, (__m512)a);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_blendv_ps((__m256)b, (__m256)a,
                                _mm256_cmp_ps((__m256)a, (__m256)a, _CMP_UNORD_Q));
#else
    vi m = a == a;
    return (vf)((m & (vi)b) | (~m & (vi)a));
#endif
}

SP_INLINE vf vf_max(vf a, vf b)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_lt(b, a, a, b);
#endif
}

SP_INLINE vf vf_min(vf a, vf b)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vf_lt(a, b, a, b);
#endif
}

SP_INLINE vf vf_abs(vf a)
{
    return (vf)((vi)a & 0x7fffffff);
}

/* |a| with the sign of s, for a >= 0. */
SP_INLINE vf vf_sign(vf a, vf s)
{
    return (vf)((vi)a | ((vi)s & (int32_t)0x80000000));
}

/* Nearest integer, as a float; |a| < 2^22. */
SP_INLINE vf vf_round(vf a)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_roundscale_ps((__m512)a, 8);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_round_ps((__m256)a, 8);
#elif defined(SP_ISA_neon)
    return (vf)vrndnq_f32((float32x4_t)a);
#else
    vf magic = vf_splat(0x1.8p23f);
    return (a + magic) - magic;
#endif
}

/* a * 2^n for integral n in -300..300, subnormal and infinite results included. Of any other n
 * AVX-512 takes the largest integer not above it, which vf_fraction makes use of. */
SP_INLINE vf vf_scale(vf a, vf n)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_scalef_ps((__m512)a, (__m512)n);
#else
    /* Truncates a NaN to some integer, whose powers of two then multiply a NaN. */
    vi i = __builtin_convertvector(vf_max(vf_splat(-300), vf_min(vf_splat(300), n)), vi);
    vi h = i >> 1, q = h >> 1;
    vf s = (vf)((q + 127) << 23), r = (vf)((h - q + 127) << 23);
    vi h2 = i - h, q2 = h2 >> 1;
    vf s2 = (vf)((q2 + 127) << 23), r2 = (vf)((h2 - q2 + 127) << 23);
    return ((a * s) * r2) * (r * s2);
#endif
}

/* x less the largest integer not above it, in 0..1, and 0 for infinities; *whole is what vf_scale
 * takes for that integer. */
SP_INLINE vf vf_fraction(vf x, vf *whole)
{
#if defined(SP_ISA_avx512)
    *whole = x;
    return (vf)_mm512_reduce_ps((__m512)x, 1);
#else
    x = vf_max(vf_splat(-300), vf_min(vf_splat(300), x));
    *whole = vf_round(x - vf_splat(0.5f));
    return x - *whole;
#endif
}

/* The first n of VL floats (the others 0), 0 <= n <= VL. Touches no memory beyond. */
SP_INLINE vf vf_load_n(const float *p, size_t n)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(SP_ISA_avx2)
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return (vf)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane));
#else
    vf v = {0};
    for (size_t i = 0; i < n && i < VL; i++) v[i] = p[i];
    return v;
#endif
}

SP_INLINE void vf_store_n(float *p, vf v, size_t n)
{
#if defined(SP_ISA_avx512)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined(SP_ISA_avx2)
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane), (__m256)v);
#else
    for (size_t i = 0; i < n && i < VL; i++) p[i] = v[i];
#endif
}

/* As these, and without a mask where all VL are meant. */
SP_INLINE vf vf_get(const float *p, size_t n)
{
    return n == VL ? vf_load(p) : vf_load_n(p, n);
}

SP_INLINE void vf_put(float *p, vf v, size_t n)
{
    if (n == VL)
        vf_store(p, v);
    else
        vf_store_n(p, v, n);
}

/* Which lanes vf_permute takes, from[i] for lane i. */
SP_INLINE vi vi_lanes(const int32_t *from)
{
    vi v;
    memcpy(&v, from, sizeof v);
#if defined(SP_ISA_neon)
    v = v * 0x04040404 + 0x03020100; /* the numbers of their bytes */
#endif
    return v;
}

SP_INLINE vf vf_permute(vf v, vi lanes)
{
#if defined(SP_ISA_avx512)
    return (vf)_mm512_permutexvar_ps((__m512i)lanes, (__m512)v);
#elif defined(SP_ISA_avx2)
    return (vf)_mm256_permutevar8x32_ps((__m256)v, (__m256i)lanes);
#elif defined(SP_ISA_neon)
    return (vf)vqtbl1q_u8((uint8x16_t)v, (uint8x16_t)lanes);
#else
    return (vf){v[lanes[0]], v[lanes[1]], v[lanes[2]], v[lanes[3]]};
#endif
}

SP_INLINE float vf_sum(vf v)
{
#if defined(SP_ISA_avx512)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float s[VL];
    vf_store(s, v);
    for (int w = VL / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++) s[i] += s[i + w];
    return s[0];
#endif
}

SP_INLINE double vd_sum(vd v)
{
#if defined(SP_ISA_avx512)
    return _mm512_reduce_add_pd((__m512d)v);
#else
    double s = v[0] + v[VD / 2];
    for (int i = 1; i < VD / 2; i++) s += v[i] + v[i + VD / 2];
    return s;
#endif
}

/* Whether any lane of a mask is set. */
SP_INLINE bool vl_any(vl mask)
{
#if defined(SP_ISA_avx512)
    return _mm512_movepi64_mask((__m512i)mask) != 0;
#elif defined(SP_ISA_avx2)
    return _mm256_movemask_pd((__m256d)mask) != 0;
#else
    int64_t any = 0;
    for (int i = 0; i < VD; i++) any |= mask[i];
    return any != 0;
#endif
}

SP_INLINE bool vi_any(vi mask)
{
#if defined(SP_ISA_avx512)
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(SP_ISA_avx2)
    return _mm256_movemask_ps((__m256)mask) != 0;
#else
    int32_t any = 0;
    for (int i = 0; i < VL; i++) any |= mask[i];
    return any != 0;
#endif
}

SP_INLINE bool vf_any_nan(vf v)
{
#if defined(SP_ISA_avx512)
    return _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q) != 0;
#elif defined(SP_ISA_avx2)
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, (__m256)v, _CMP_UNORD_Q)) != 0;
#else
    int32_t any = 0;
    for (int i = 0; i < VL; i++) any |= v[i] != v[i];
    return any;
#endif
}

/* The largest; of a NaN it may or may not be one. */
SP_INLINE float vf_hmax(vf v)
{
#if defined(SP_ISA_avx512)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float s[VL];
    vf_store(s, v);
    for (int w = VL / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++) s[i] = s[i + w] > s[i] ? s[i + w] : s[i];
    return s[0];
#endif
}

#endif
