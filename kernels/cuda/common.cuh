/* common.cuh - what the kernels share. */
#ifndef SP_CUDA_COMMON_CUH
#define SP_CUDA_COMMON_CUH

#include <cuda_fp16.h>
#include <math_constants.h>

#include "kernels/cuda/launch.h"

#define SP_CU_THREADS 256

/* Blocks for n elements, bounded: kernels walk the rest in strides of the grid. */
static inline unsigned sp_cu_blocks(int64_t n, int64_t per_block)
{
    int64_t blocks = (n + per_block - 1) / per_block;
    return (unsigned)(blocks > 65535 * 16 ? 65535 * 16 : blocks);
}

#define SP_CU_FOR(i, n)                                                                            \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                      \
         i += (int64_t)gridDim.x * blockDim.x)

/* Values of sp_act (src/ops/epilogue.h). Comparisons are such that NaN passes through. */
static __device__ __forceinline__ float sp_cu_act(int act, float a, float b, float x)
{
    switch (act) {
    case 1: return x < 0 ? 0.0f : x;
    case 2: x = x < a ? a : x; return x > b ? b : x;
    case 3: return x < 0 ? a * x : x;
    case 4: return 1 / (1 + expf(-x));
    case 5: return tanhf(x);
    case 6:
        x = a * x + b;
        x = x > 1 ? 1.0f : x;
        return x < 0 ? 0.0f : x;
    case 7: {
        float h = x / 6 + 0.5f;
        h = h > 1 ? 1.0f : h;
        return x * (h < 0 ? 0.0f : h);
    }
    case 8: return x / (1 + expf(-x));
    case 9: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case 10: return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    default: return x;
    }
}

/* The epilogue of one element. */
static __device__ __forceinline__ float sp_cu_finish(const sp_cu_epilogue &e, float v,
                                                     const float *bias, int64_t channel,
                                                     const float *residual, int64_t at)
{
    if (bias) v += bias[channel];
    if (e.residual == 1) v += residual[at];
    v = sp_cu_act(e.act, e.a, e.b, v);
    if (e.residual == 2) v += residual[at];
    return v;
}

static __device__ __forceinline__ float sp_cu_warp_sum(float v)
{
    for (int i = 16; i; i >>= 1) v += __shfl_xor_sync(0xffffffffu, v, i);
    return v;
}

/* NaN wins. */
static __device__ __forceinline__ float sp_cu_max(float a, float b)
{
    return a > b || a != a ? a : b;
}

static __device__ __forceinline__ float sp_cu_min(float a, float b)
{
    return a < b || a != a ? a : b;
}

#endif
