/* Conversions between types. float16 has instructions of its own; the other loops are vectorised by
 * the compiler. */
#include "kernels/cpu/protos.h"
#include "ops/half.h"
#include "ops/truncate.h"

/* As many as there are instructions for; returns how many. */
static size_t widen_whole(size_t n, const uint16_t *x, float *y)
{
    size_t i = 0;
#if defined(SP_ISA_avx512)
    for (; i + VL <= n; i += VL)
        _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(x + i))));
#elif defined(SP_ISA_avx2)
    for (; i + VL <= n; i += VL)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(x + i))));
#elif defined(SP_ISA_neon)
    for (; i + VL <= n; i += VL)
        vst1q_f32(y + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x + i))));
#endif
    return i;
}

static size_t narrow_whole(size_t n, const float *x, uint16_t *y)
{
    size_t i = 0;
#if defined(SP_ISA_avx512)
    for (; i + VL <= n; i += VL)
        _mm256_storeu_si256((void *)(y + i), _mm512_cvtps_ph(_mm512_loadu_ps(x + i), 0));
#elif defined(SP_ISA_avx2)
    for (; i + VL <= n; i += VL)
        _mm_storeu_si128((void *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), 0));
#elif defined(SP_ISA_neon)
    for (; i + VL <= n; i += VL)
        vst1_u16(y + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
#endif
    return i;
}

/* x and y may be the same memory. */
#define LOOP(name, S, T, expression)                                                               \
    static void name(size_t n, const S *x, T *y)                                                   \
    {                                                                                              \
        _Pragma("GCC ivdep") for (size_t i = 0; i < n; i++) y[i] = (T)(expression);                \
    }
LOOP(f32_of_f16, uint16_t, float, sp_f32_of_f16(x[i]))
LOOP(f32_of_bf16, uint16_t, float, sp_f32_of_bf16(x[i]))
LOOP(f16_of_f32, float, uint16_t, sp_f16_of_f32(x[i]))
LOOP(bf16_of_f32, float, uint16_t, sp_bf16_of_f32(x[i]))
LOOP(i32_of_f32, float, int32_t, SP_TO_I32(float, x[i]))
LOOP(i64_of_f32, float, int64_t, SP_TO_I64(float, x[i]))
LOOP(byte_of_f32, float, uint8_t, SP_TO_I32(float, x[i]))
LOOP(bool_of_f32, float, uint8_t, x[i] != 0)

void SP_KERNEL(sp_cast)(sp_cast kind, size_t n, const void *x, void *y)
{
    size_t i;
    switch (kind) {
    case SP_CAST_F32_OF_F16:
        i = widen_whole(n, x, y);
        f32_of_f16(n - i, (const uint16_t *)x + i, (float *)y + i);
        break;
    case SP_CAST_F16_OF_F32:
        i = narrow_whole(n, x, y);
        f16_of_f32(n - i, (const float *)x + i, (uint16_t *)y + i);
        break;
    case SP_CAST_F32_OF_BF16: f32_of_bf16(n, x, y); break;
    case SP_CAST_BF16_OF_F32: bf16_of_f32(n, x, y); break;
    case SP_CAST_I32_OF_F32: i32_of_f32(n, x, y); break;
    case SP_CAST_I64_OF_F32: i64_of_f32(n, x, y); break;
    case SP_CAST_U8_OF_F32:
    case SP_CAST_I8_OF_F32: byte_of_f32(n, x, y); break;
    case SP_CAST_BOOL_OF_F32: bool_of_f32(n, x, y); break;
    }
}
