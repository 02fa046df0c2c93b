/* Normalisation over rows, channels and groups of channels. */
#include "kernels/cuda/common.cuh"

/* Sum over a block of whole warps; every thread gets it. */
static __device__ float block_sum(float v, float *shared)
{
    int warps = blockDim.x / 32;
    v = sp_cu_warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (int i = 0; i < warps; i++) v += shared[i];
    return v;
}

static __global__ void row_norm_kernel(sp_cu_row_norm r)
{
    __shared__ float shared[32];
    for (int64_t row = blockIdx.x; row < r.rows; row += gridDim.x) {
        const float *x = (const float *)r.x + row * r.width, *skip = (const float *)r.skip;
        const float *scale = (const float *)r.scale, *shift = (const float *)r.shift;
        float *y = (float *)r.y + row * r.width, mean = 0, square = 0;
        for (int64_t i = threadIdx.x; i < r.width; i += blockDim.x) {
            float v = x[i];
            if (skip) v += skip[row * r.width + i];
            if (r.bias) v += r.bias[i];
            y[i] = v;
            if (r.sum) r.sum[row * r.width + i] = v;
            mean += v;
        }
        mean = r.centred ? block_sum(mean, shared) / (float)r.width : 0.0f;
        for (int64_t i = threadIdx.x; i < r.width; i += blockDim.x) {
            float d = y[i] - mean;
            square += d * d;
        }
        square = block_sum(square, shared);
        float inverse = 1 / sqrtf(square / (float)r.width + r.epsilon);
        for (int64_t i = threadIdx.x; i < r.width; i += blockDim.x)
            y[i] = (y[i] - mean) * inverse * (scale ? scale[i] : 1.0f) + (shift ? shift[i] : 0.0f);
        if (threadIdx.x == 0) {
            if (r.mean) r.mean[row] = mean;
            if (r.inverse) r.inverse[row] = inverse;
        }
    }
}

/* One warp a row, which stays in registers: EACH fours for each lane. */
template <typename T, int EACH>
static __global__ void __launch_bounds__(128) row_norm_warp(sp_cu_row_norm r)
{
    int lane = threadIdx.x % 32, quads = (int)(r.width / 4);
    int64_t row = (int64_t)blockIdx.x * 4 + threadIdx.x / 32;
    if (row >= r.rows) return;
    const T *x = (const T *)r.x + row * r.width;
    T *y = (T *)r.y + row * r.width;
    float v[EACH][4], mean = 0, square = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int q = lane + i * 32;
        if (q >= quads) continue;
        sp_cu_get4(x + q * 4, v[i]);
        mean += v[i][0] + v[i][1] + v[i][2] + v[i][3];
    }
    mean = r.centred ? sp_cu_warp_sum(mean) / (float)r.width : 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (lane + i * 32 >= quads) continue;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            v[i][k] -= mean;
            square += v[i][k] * v[i][k];
        }
    }
    float inverse = 1 / sqrtf(sp_cu_warp_sum(square) / (float)r.width + r.epsilon);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int q = lane + i * 32;
        float scale[4] = {1, 1, 1, 1}, shift[4] = {0, 0, 0, 0};
        if (q >= quads) continue;
        if (r.scale) sp_cu_get4((const T *)r.scale + q * 4, scale);
        if (r.shift) sp_cu_get4((const T *)r.shift + q * 4, shift);
#pragma unroll
        for (int k = 0; k < 4; k++) v[i][k] = v[i][k] * inverse * scale[k] + shift[k];
        sp_cu_put4(y + q * 4, v[i]);
    }
    if (lane == 0) {
        if (r.mean) r.mean[row] = mean;
        if (r.inverse) r.inverse[row] = inverse;
    }
}

template <typename T> static bool run_warps(const sp_cu_row_norm *r, cudaStream_t stream)
{
    const uintptr_t all =
        (uintptr_t)r->x | (uintptr_t)r->y | (uintptr_t)r->scale | (uintptr_t)r->shift;
    if (r->skip || r->bias || r->sum || r->width % 4 != 0 || all % 16 != 0) return false;
    int64_t blocks = (r->rows + 3) / 4;
    if (blocks > INT32_MAX) return false;
    if (r->width <= 128)
        row_norm_warp<T, 1><<<(unsigned)blocks, 128, 0, stream>>>(*r);
    else if (r->width <= 384)
        row_norm_warp<T, 3><<<(unsigned)blocks, 128, 0, stream>>>(*r);
    else if (r->width <= 768)
        row_norm_warp<T, 6><<<(unsigned)blocks, 128, 0, stream>>>(*r);
    else if (r->width <= 1536)
        row_norm_warp<T, 12><<<(unsigned)blocks, 128, 0, stream>>>(*r);
    else
        return false;
    return true;
}

int sp_cu_row_norm_run(const sp_cu_row_norm *r, cudaStream_t stream)
{
    if (r->rows <= 0 || r->width <= 0) return 1;
    if (r->half) return run_warps<__half>(r, stream);
    if (run_warps<float>(r, stream)) return 1;
    unsigned threads = r->width <= 64 ? 32 : r->width <= 512 ? 128 : 256;
    row_norm_kernel<<<sp_cu_blocks(r->rows, 1), threads, 0, stream>>>(*r);
    return 1;
}

static __global__ void batch_norm_kernel(const float *x, const float *scale, const float *shift,
                                         const float *mean, const float *var, float epsilon,
                                         float *y, int64_t n, int64_t channels, int64_t inner)
{
    SP_CU_FOR(i, n)
    {
        int64_t c = inner == 1 ? i % channels : i / inner % channels;
        float k = scale[c] / sqrtf(var[c] + epsilon);
        y[i] = (x[i] - mean[c]) * k + shift[c];
    }
}

void sp_cu_batch_norm(const float *x, const float *scale, const float *shift, const float *mean,
                      const float *var, float epsilon, float *y, int64_t n, int64_t channels,
                      int64_t inner, cudaStream_t stream)
{
    if (n <= 0) return;
    batch_norm_kernel<<<sp_cu_blocks(n, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(
        x, scale, shift, mean, var, epsilon, y, n, channels, inner);
}

/* One block a group of one image. Element j of a group: with the channel last j = pixel * per_group
 * + channel, else channel * pixels + pixel. */
static __global__ void group_norm_kernel(const float *x, const float *scale, const float *shift,
                                         float epsilon, float *y, int64_t channels, int64_t groups,
                                         int64_t pixels, int nhwc)
{
    __shared__ float shared[32];
    int64_t per_group = channels / groups, n = per_group * pixels;
    int64_t image = blockIdx.x / groups, group = blockIdx.x % groups;
    int64_t base = image * channels * pixels + group * (nhwc ? per_group : n);
    float mean = 0, square = 0;
#define AT(j) (base + (nhwc ? (j) / per_group * channels + (j) % per_group : (j)))
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) mean += x[AT(j)];
    mean = block_sum(mean, shared) / (float)n;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        float d = x[AT(j)] - mean;
        square += d * d;
    }
    square = block_sum(square, shared);
    float inverse = 1 / sqrtf(square / (float)n + epsilon);
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        int64_t c = group * per_group + (nhwc ? j % per_group : j / pixels);
        y[AT(j)] = (x[AT(j)] - mean) * inverse * scale[c] + shift[c];
    }
#undef AT
}

void sp_cu_group_norm(const float *x, const float *scale, const float *shift, float epsilon,
                      float *y, int64_t images, int64_t channels, int64_t groups, int64_t pixels,
                      int nhwc, cudaStream_t stream)
{
    if (images * groups <= 0 || pixels <= 0 || channels <= 0) return;
    group_norm_kernel<<<(unsigned)(images * groups), SP_CU_THREADS, 0, stream>>>(
        x, scale, shift, epsilon, y, channels, groups, pixels, nhwc);
}
