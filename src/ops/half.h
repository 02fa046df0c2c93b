/*
 * half.h - float16 and bfloat16 to float and back, without branches, so that loops over them
 * vectorise. All conversions round to nearest even; NaN stays NaN.
 */
#ifndef SP_OPS_HALF_H
#define SP_OPS_HALF_H

#include <stdint.h>
#include <string.h>

static inline float sp_float_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t sp_bits_of_float(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float sp_f32_of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, a = (uint32_t)(h & 0x7fffu) << 13;
    /* a subnormal half: its mantissa below that of 2^-14, which is then taken off again */
    const uint32_t small = sp_bits_of_float(sp_float_of_bits(a + 0x38800000u) - 0x1p-14f);
    const uint32_t normal = a + 0x38000000u, special = a | 0x7f800000u;
    const uint32_t finite = a < 0x00800000u ? small : normal;
    return sp_float_of_bits(sign | (a >= 0x0f800000u ? special : finite));
}

static inline uint16_t sp_f16_of_f32(float f)
{
    const uint32_t u = sp_bits_of_float(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    /* below 2^-14: adding 0.5 leaves units of 2^-24 in the mantissa, rounded */
    const uint32_t small = sp_bits_of_float(sp_float_of_bits(a) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (a + 0xfffu + (a >> 13 & 1u) - 0x38000000u) >> 13;
    const uint32_t finite = a < 0x38800000u ? small : normal;
    const uint32_t large = a > 0x7f800000u ? 0x7e00u : 0x7c00u;    /* NaN or infinity */
    return (uint16_t)(sign | (a >= 0x477ff000u ? large : finite)); /* rounds past 65504 */
}

static inline float sp_f32_of_bf16(uint16_t h)
{
    return sp_float_of_bits((uint32_t)h << 16);
}

static inline uint16_t sp_bf16_of_f32(float f)
{
    const uint32_t u = sp_bits_of_float(f), rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : rounded);
}

#endif
