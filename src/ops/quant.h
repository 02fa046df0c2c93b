/* quant.h - what operators on linearly quantised tensors share: value = (q - zero_point) * scale.
 */
#ifndef SP_OPS_QUANT_H
#define SP_OPS_QUANT_H

#include "ops/op.h"

#define SP_TYPES_Q8 (1u << SPAROA_INT8 | 1u << SPAROA_UINT8)
#define SP_TYPES_Q16 (1u << SPAROA_INT16 | 1u << SPAROA_UINT16)

/* To the nearest integer, ties to even, for |v| up to 2^22. Adding 1.5 * 2^23 makes the float's
 * unit 1, which rounds in a way that vectorises. */
static inline int32_t sp_round_small(float v)
{
    const float magic = 12582912.0f;
    return (int32_t)((v + magic) - magic);
}

/* v (already divided by the scale) to an integer lo..hi, of at most 16 bits, around zero point zp.
 * NaN gives lo. */
static inline int32_t sp_quantize(float v, int32_t zp, int32_t lo, int32_t hi)
{
    const float least = (float)(lo - zp), most = (float)(hi - zp);
    v = v > least ? v < most ? v : most : least;
    return sp_round_small(v) + zp;
}

/* The range of an 8- or 16-bit integer type. */
void sp_q_range(sparoa_dtype t, int32_t *lo, int32_t *hi);
/* Input i is a float32 (or half) scale, or a zero point of one of `types`, with one value or, if n
 * >= 0, n. */
sparoa_status sp_q_check_scale(const sparoa_node *node, int32_t i, int64_t n, sparoa_error *err);
/* The same for zero points, which may be left out. */
sparoa_status sp_q_check_zero(const sparoa_node *node, int32_t i, uint32_t types, int64_t n,
                              sparoa_error *err);
/* Value `at` of zero points in input i, the only one where there is one; 0 where the input is left
 * out. */
int32_t sp_q_zero(const sparoa_node *node, int32_t i, int64_t at);
float sp_q_scale(const sparoa_node *node, int32_t i, int64_t at);

#endif
