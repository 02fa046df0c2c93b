/* quant.cuh - how 8-bit values are rounded and read. */
#ifndef SP_CUDA_QUANT_CUH
#define SP_CUDA_QUANT_CUH

#include "kernels/cuda/common.cuh"

/* v, already divided by the scale, as an integer of lo..hi around a zero point; NaN gives lo. */
static __device__ __forceinline__ int sp_cu_to_q(float v, int zero, int lo, int hi)
{
    const float least = (float)(lo - zero), most = (float)(hi - zero);
    v = v > least ? (v < most ? v : most) : least;
    return __float2int_rn(v) + zero;
}

/* A zero point of 8 bits; 0 where there is none. */
static __device__ __forceinline__ int sp_cu_zero(const void *zero, int is_signed, int64_t i)
{
    if (!zero) return 0;
    return is_signed ? (int)((const int8_t *)zero)[i] : (int)((const uint8_t *)zero)[i];
}

#endif
