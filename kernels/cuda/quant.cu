/* 8-bit operators: conversion from and to floats, element-wise operators, pools. Every step rounds
 * as the plain operators do (src/ops/quant.h), so that bytes come out the same. */
#include "kernels/cuda/quant.cuh"

/* Index of element i's scale and zero point. */
static __device__ int64_t scale_of(const sp_cu_quant &q, int64_t i)
{
    if (q.scales == 1) return 0;
    int64_t o = i / q.inner, a = o % q.axis;
    if (q.block == 0) return a;
    return (o / q.axis * ((q.axis + q.block - 1) / q.block) + a / q.block) * q.inner + i % q.inner;
}

template <typename S, typename T>
static __global__ void quantize_kernel(sp_cu_quant q, int lo, int hi, const S *x,
                                       const float *scale, const T *zero, T *y)
{
    SP_CU_FOR(i, q.count)
    {
        int64_t at = scale_of(q, i);
        y[i] = (T)sp_cu_to_q((float)x[i] / scale[at], zero ? (int)zero[at] : 0, lo, hi);
    }
}

template <typename T>
static __global__ void dequantize_kernel(sp_cu_quant q, const T *x, const float *scale,
                                         const T *zero, float *y)
{
    SP_CU_FOR(i, q.count)
    {
        int64_t at = scale_of(q, i);
        uint32_t z = zero ? (uint32_t)zero[at] : 0;
        y[i] = (float)(int32_t)((uint32_t)x[i] - z) * scale[at];
    }
}

template <typename S>
static void quantize(const sp_cu_quant *q, const S *x, const float *scale, const void *zero,
                     void *y, cudaStream_t stream)
{
    unsigned n = sp_cu_blocks(q->count, SP_CU_THREADS);
#define CASE(T, lo, hi)                                                                            \
    quantize_kernel<S, T>                                                                          \
        <<<n, SP_CU_THREADS, 0, stream>>>(*q, lo, hi, x, scale, (const T *)zero, (T *)y)
    if (q->size == 1 && q->is_signed)
        CASE(int8_t, -128, 127);
    else if (q->size == 1)
        CASE(uint8_t, 0, 255);
    else if (q->is_signed)
        CASE(int16_t, -32768, 32767);
    else
        CASE(uint16_t, 0, 65535);
#undef CASE
}

void sp_cu_quantize(const sp_cu_quant *q, int integers, const void *x, const float *scale,
                    const void *zero, void *y, cudaStream_t stream)
{
    if (q->count <= 0) return;
    if (integers)
        quantize(q, (const int32_t *)x, scale, zero, y, stream);
    else
        quantize(q, (const float *)x, scale, zero, y, stream);
}

void sp_cu_dequantize(const sp_cu_quant *q, const void *x, const float *scale, const void *zero,
                      float *y, cudaStream_t stream)
{
    if (q->count <= 0) return;
    unsigned n = sp_cu_blocks(q->count, SP_CU_THREADS);
#define CASE(T)                                                                                    \
    dequantize_kernel<T>                                                                           \
        <<<n, SP_CU_THREADS, 0, stream>>>(*q, (const T *)x, scale, (const T *)zero, y)
    if (q->size == 4)
        CASE(int32_t);
    else if (q->size == 1 && q->is_signed)
        CASE(int8_t);
    else if (q->size == 1)
        CASE(uint8_t);
    else if (q->is_signed)
        CASE(int16_t);
    else
        CASE(uint16_t);
#undef CASE
}

/* ---- a range that is found at run time ---- */

#define MOST_PARTS 256

static __device__ float2 wider(float2 a, float2 b)
{
    return make_float2(b.x < a.x ? b.x : a.x, b.y > a.y ? b.y : a.y);
}

/* The range of the block's threads, in thread 0. */
static __device__ float2 block_range(float2 v)
{
    __shared__ float2 parts[32];
    for (int i = 16; i; i >>= 1)
        v = wider(v, make_float2(__shfl_xor_sync(0xffffffffu, v.x, i),
                                 __shfl_xor_sync(0xffffffffu, v.y, i)));
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    for (int i = 0; threadIdx.x == 0 && i < (int)blockDim.x / 32; i++) v = wider(v, parts[i]);
    return v;
}

static __global__ void range_kernel(const float *x, int64_t n, float2 *parts)
{
    float2 v = make_float2(0, 0);
    SP_CU_FOR(i, n) v = wider(v, make_float2(x[i], x[i]));
    v = block_range(v);
    if (threadIdx.x == 0) parts[blockIdx.x] = v;
}

static __global__ void dynamic_kernel(const float *x, int64_t n, const float2 *parts, int n_parts,
                                      uint8_t *y, float *y_scale, uint8_t *y_zero)
{
    __shared__ float scale;
    __shared__ int zero;
    float2 v = make_float2(0, 0);
    for (int i = (int)threadIdx.x; i < n_parts; i += (int)blockDim.x) v = wider(v, parts[i]);
    v = block_range(v);
    if (threadIdx.x == 0) {
        scale = (v.y - v.x) / 255;
        if (!(scale > 0)) scale = 1;
        zero = sp_cu_to_q(-v.x / scale, 0, 0, 255);
        if (blockIdx.x == 0 && y_scale) *y_scale = scale;
        if (blockIdx.x == 0 && y_zero) *y_zero = (uint8_t)zero;
    }
    __syncthreads();
    if (y) SP_CU_FOR(i, n) y[i] = (uint8_t)sp_cu_to_q(x[i] / scale, zero, 0, 255);
}

size_t sp_cu_dynamic_workspace(void)
{
    return MOST_PARTS * sizeof(float2);
}

void sp_cu_dynamic_quantize(const float *x, int64_t n, uint8_t *y, float *scale, uint8_t *zero,
                            void *workspace, cudaStream_t stream)
{
    float2 *parts = (float2 *)workspace;
    unsigned blocks = sp_cu_blocks(n > 0 ? n : 1, SP_CU_THREADS * 4);
    if (blocks > MOST_PARTS) blocks = MOST_PARTS;
    range_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(x, n, parts);
    dynamic_kernel<<<sp_cu_blocks(n > 0 ? n : 1, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(
        x, n, parts, (int)blocks, y, scale, zero);
}

/* ---- element-wise ---- */

template <typename T>
static __global__ void pair_kernel(int multiply, sp_cu_space s, sp_cu_q8 q, const T *a, const T *b,
                                   T *y)
{
    const int lo = q.y_signed ? -128 : 0, az = sp_cu_zero(q.x_zero, q.x_signed, 0),
              bz = sp_cu_zero(q.w_zero, q.w_signed, 0), yz = sp_cu_zero(q.y_zero, q.y_signed, 0);
    const float as = *q.x_scale, bs = *q.w_scale, ys = *q.y_scale;
    SP_CU_FOR(i, s.count)
    {
        int64_t rest = i, at[2] = {0, 0};
        for (int d = s.rank - 1; d >= 0; d--) {
            int64_t c = rest % s.dims[d];
            at[0] += c * s.strides[0][d];
            at[1] += c * s.strides[1][d];
            rest /= s.dims[d];
        }
        float u = __fmul_rn((float)((int)a[at[0]] - az), as);
        float v = __fmul_rn((float)((int)b[at[1]] - bz), bs);
        v = multiply ? __fmul_rn(u, v) : __fadd_rn(u, v);
        y[i] = (T)sp_cu_to_q(v / ys, yz, lo, lo + 255);
    }
}

void sp_cu_pair_q8(int multiply, const sp_cu_space *s, const sp_cu_q8 *q, const void *a,
                   const void *b, void *y, cudaStream_t stream)
{
    if (s->count <= 0) return;
    unsigned n = sp_cu_blocks(s->count, SP_CU_THREADS);
    if (q->x_signed)
        pair_kernel<<<n, SP_CU_THREADS, 0, stream>>>(multiply, *s, *q, (const int8_t *)a,
                                                     (const int8_t *)b, (int8_t *)y);
    else
        pair_kernel<<<n, SP_CU_THREADS, 0, stream>>>(multiply, *s, *q, (const uint8_t *)a,
                                                     (const uint8_t *)b, (uint8_t *)y);
}

/* exp as a float that is rounded once, as the host's is. */
static __device__ float exp_once(float x)
{
    return (float)exp((double)x);
}

/* A function of one byte is a table. kind 0: sigmoid, 1: leaky ReLU. */
static __global__ void table_kernel(int kind, float alpha, sp_cu_q8 q, const uint8_t *x, uint8_t *y,
                                    int64_t n)
{
    __shared__ uint8_t table[256];
    const int lo = q.y_signed ? -128 : 0, i = (int)threadIdx.x;
    float v =
        __fmul_rn((float)((q.x_signed ? (int)(int8_t)i : i) - sp_cu_zero(q.x_zero, q.x_signed, 0)),
                  *q.x_scale);
    v = kind == 0 ? 1 / (1 + exp_once(-v)) : v < 0 ? __fmul_rn(alpha, v) : v;
    table[i] =
        (uint8_t)sp_cu_to_q(v / *q.y_scale, sp_cu_zero(q.y_zero, q.y_signed, 0), lo, lo + 255);
    __syncthreads();
    SP_CU_FOR(k, n) y[k] = table[x[k]];
}

void sp_cu_table_q8(int kind, float alpha, const sp_cu_q8 *q, const void *x, void *y, int64_t n,
                    cudaStream_t stream)
{
    if (n <= 0) return;
    table_kernel<<<sp_cu_blocks(n, 256 * 8), 256, 0, stream>>>(kind, alpha, *q, (const uint8_t *)x,
                                                               (uint8_t *)y, n);
}

/* A block takes a line of x as [outer][count][inner]. */
static __global__ void softmax_kernel(sp_cu_q8 q, int64_t lines, int64_t count, int64_t inner,
                                      const uint8_t *x, uint8_t *y)
{
    __shared__ float exps[256];
    __shared__ double sums[8];
    __shared__ int tops[8];
    const int flip = q.x_signed ? 128 : 0, lo = q.y_signed ? -128 : 0, id = (int)threadIdx.x;
    exps[id] = exp_once(__fmul_rn(-(float)id, *q.x_scale));
    for (int64_t line = blockIdx.x; line < lines; line += gridDim.x) {
        const int64_t first = line / inner * count * inner + line % inner;
        int top = 0;
        double sum = 0;
        __syncthreads();
        for (int64_t i = id; i < count; i += 256) top = max(top, x[first + i * inner] ^ flip);
        for (int i = 16; i; i >>= 1) top = max(top, __shfl_xor_sync(0xffffffffu, top, i));
        if (id % 32 == 0) tops[id / 32] = top;
        __syncthreads();
        for (int i = 0; i < 8; i++) top = max(top, tops[i]);
        for (int64_t i = id; i < count; i += 256) sum += exps[top - (x[first + i * inner] ^ flip)];
        for (int i = 16; i; i >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, i);
        if (id % 32 == 0) sums[id / 32] = sum;
        __syncthreads();
        sum = 0;
        for (int i = 0; i < 8; i++) sum += sums[i];
        const float factor = (float)(1 / sum) / *q.y_scale;
        const int zero = sp_cu_zero(q.y_zero, q.y_signed, 0);
        for (int64_t i = id; i < count; i += 256) {
            float e = exps[top - (x[first + i * inner] ^ flip)];
            y[first + i * inner] = (uint8_t)sp_cu_to_q(__fmul_rn(e, factor), zero, lo, lo + 255);
        }
    }
}

void sp_cu_softmax_q8(const sp_cu_q8 *q, int64_t outer, int64_t count, int64_t inner, const void *x,
                      void *y, cudaStream_t stream)
{
    if (outer * count * inner <= 0) return;
    softmax_kernel<<<sp_cu_blocks(outer * inner, 1), 256, 0, stream>>>(
        *q, outer * inner, count, inner, (const uint8_t *)x, (uint8_t *)y);
}

/* ---- averages ---- */

template <typename T>
static __global__ void average_kernel(sp_cu_window w, sp_cu_q8 q, int padding, int64_t count,
                                      const T *x, T *y)
{
    const int zero = sp_cu_zero(q.x_zero, q.x_signed, 0), lo = q.y_signed ? -128 : 0;
    const float scale = *q.x_scale / *q.y_scale;
    SP_CU_FOR(i, count)
    {
        int64_t rest = i, sum = 0, area = 0, inside = 0;
        int c = 0, from[3], at[3];
        if (w.y_c == 1) c = (int)(rest % w.c_out), rest /= w.c_out;
        for (int d = 2; d >= 0; d--) {
            at[d] = (int)(rest % w.out[d]);
            from[d] = at[d] * w.stride[d] - w.begin[d];
            rest /= w.out[d];
        }
        if (w.y_c != 1) c = (int)(rest % w.c_out), rest /= w.c_out;
        const T *image = x + rest * w.x_n + c * w.x_c;
        for (int z = 0; z < w.kernel[0]; z++)
            for (int h = 0; h < w.kernel[1]; h++)
                for (int v = 0; v < w.kernel[2]; v++) {
                    int p[3] = {from[0] + z * w.dilation[0], from[1] + h * w.dilation[1],
                                from[2] + v * w.dilation[2]};
                    bool in = true, padded = true;
                    for (int d = 0; d < 3; d++) {
                        in = in && p[d] >= 0 && p[d] < w.in[d];
                        padded = padded && p[d] < w.in[d] + w.end[d];
                    }
                    area += padded;
                    if (!in) continue;
                    inside++;
                    sum += (int)image[p[0] * w.x_s[0] + p[1] * w.x_s[1] + p[2] * w.x_s[2]] - zero;
                }
        if (!padding) area = inside;
        float mean = area > 0 ? (float)sum / (float)area : 0.0f;
        y[rest * w.y_n + c * w.y_c + at[0] * w.y_s[0] + at[1] * w.y_s[1] + at[2] * w.y_s[2]] =
            (T)sp_cu_to_q(__fmul_rn(mean, scale), sp_cu_zero(q.y_zero, q.y_signed, 0), lo,
                          lo + 255);
    }
}

void sp_cu_average_q8(const sp_cu_window *w, const sp_cu_q8 *q, int padding, const void *x, void *y,
                      cudaStream_t stream)
{
    int64_t count = (int64_t)w->n * w->c_out * w->out[0] * w->out[1] * w->out[2];
    if (count <= 0) return;
    unsigned n = sp_cu_blocks(count, 64);
    if (q->x_signed)
        average_kernel<<<n, 64, 0, stream>>>(*w, *q, padding, count, (const int8_t *)x,
                                             (int8_t *)y);
    else
        average_kernel<<<n, 64, 0, stream>>>(*w, *q, padding, count, (const uint8_t *)x,
                                             (uint8_t *)y);
}
