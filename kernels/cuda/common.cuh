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

/* Four neighbours, aligned to their size. */
static __device__ __forceinline__ void sp_cu_get4(const float *p, float (&v)[4])
{
    float4 q = *(const float4 *)p;
    v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
}

static __device__ __forceinline__ void sp_cu_get4(const __half *p, float (&v)[4])
{
    uint2 q = *(const uint2 *)p;
    float2 a = __half22float2(*(const __half2 *)&q.x), b = __half22float2(*(const __half2 *)&q.y);
    v[0] = a.x, v[1] = a.y, v[2] = b.x, v[3] = b.y;
}

static __device__ __forceinline__ void sp_cu_put4(float *p, const float (&v)[4])
{
    *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
}

static __device__ __forceinline__ void sp_cu_put4(__half *p, const float (&v)[4])
{
    __half2 a = __floats2half2_rn(v[0], v[1]), b = __floats2half2_rn(v[2], v[3]);
    *(uint2 *)p = make_uint2(*(const unsigned *)&a, *(const unsigned *)&b);
}

static __device__ __forceinline__ void sp_cu_put2(float *p, float a, float b)
{
    *(float2 *)p = make_float2(a, b);
}

static __device__ __forceinline__ void sp_cu_put2(__half *p, float a, float b)
{
    *(__half2 *)p = __floats2half2_rn(a, b);
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
