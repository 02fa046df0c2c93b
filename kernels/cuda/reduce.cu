/* Reductions, arg-max and softmax. */
#include "kernels/cuda/common.cuh"

static __device__ int64_t offset_of(int n, const int64_t *sizes, const int64_t *strides, int64_t i)
{
    int64_t at = 0;
    for (int d = n - 1; d > 0; d--) {
        int64_t q = i / sizes[d];
        at += (i - q * sizes[d]) * strides[d];
        i = q;
    }
    return n > 0 ? at + i * strides[0] : 0;
}

static __device__ float start_of(int kind)
{
    if (kind == SP_CU_MAX) return -CUDART_INF_F;
    if (kind == SP_CU_MIN) return CUDART_INF_F;
    return kind == SP_CU_PROD ? 1.0f : 0.0f;
}

static __device__ float join(int kind, float a, float b)
{
    if (kind == SP_CU_MAX) return sp_cu_max(a, b);
    if (kind == SP_CU_MIN) return sp_cu_min(a, b);
    return kind == SP_CU_PROD ? a * b : a + b;
}

static __device__ float term(int kind, float x)
{
    if (kind == SP_CU_SUM_SQUARE || kind == SP_CU_L2) return x * x;
    return kind == SP_CU_L1 ? fabsf(x) : x;
}

static __device__ float finish(int kind, float v, int64_t total)
{
    if (kind == SP_CU_MEAN) return v / (float)total;
    if (kind == SP_CU_L2) return sqrtf(v);
    return kind == SP_CU_LOG_SUM ? logf(v) : v;
}

/* Blocks of 32 outputs (x) by blockDim.y slices of what is reduced. With one output a block, x
 * walks what is reduced as well. */
template <bool WHOLE> static __device__ float fold(float v, int kind, float *shared)
{
    int x = threadIdx.x, y = threadIdx.y;
    if (WHOLE)
        for (int i = 16; i; i >>= 1) v = join(kind, v, __shfl_xor_sync(0xffffffffu, v, i));
    __syncthreads();
    shared[y * 32 + x] = v;
    __syncthreads();
    for (int k = 0; k < (int)blockDim.y; k++) v = k ? join(kind, v, shared[k * 32 + x]) : shared[x];
    return v;
}

template <typename T, bool WHOLE>
static __global__ void __launch_bounds__(1024) reduce_kernel(sp_cu_reduce r, const T *x, T *y)
{
    __shared__ float shared[32 * 32];
    int kind = r.kind;
    int64_t step = WHOLE ? 32 * blockDim.y : blockDim.y;
    int64_t per_block = WHOLE ? 1 : 32;
    for (int64_t o = (int64_t)blockIdx.x * per_block; o < r.outputs;
         o += (int64_t)gridDim.x * per_block) {
        int64_t out = WHOLE ? o : o + threadIdx.x;
        bool inside = out < r.outputs;
        const T *row = x + (inside ? offset_of(r.n_kept, r.kept, r.kept_stride, out) : 0);
        int64_t total = inside ? r.total : 0;
        int64_t first = WHOLE ? threadIdx.y * 32 + threadIdx.x : threadIdx.y;
        int base = kind == SP_CU_LOG_SUM_EXP ? SP_CU_MAX : kind;
        float v = start_of(base), peak = 0;
        for (int64_t i = first; i < total; i += step)
            v = join(
                base, v,
                term(base, (float)row[offset_of(r.n_reduced, r.reduced, r.reduced_stride, i)]));
        v = fold<WHOLE>(v, base, shared);
        if (kind == SP_CU_LOG_SUM_EXP) {
            peak = isinf(v) ? 0.0f : v;
            v = 0;
            for (int64_t i = first; i < total; i += step)
                v +=
                    expf((float)row[offset_of(r.n_reduced, r.reduced, r.reduced_stride, i)] - peak);
            v = logf(fold<WHOLE>(v, SP_CU_SUM, shared)) + peak;
        }
        if (inside && threadIdx.y == 0 && (!WHOLE || threadIdx.x == 0))
            y[out] = (T)finish(kind, v, r.total);
    }
}

/* Means or sums of rows of channels. x: threads along the channels, four each; y: along the rows.
 */
template <typename T>
static __global__ void __launch_bounds__(512)
    column_kernel(int mean, const T *x, T *y, int64_t rows, int64_t channels, int64_t image)
{
    __shared__ float shared[512][4];
    int tx = threadIdx.x, ty = threadIdx.y, at = ty * blockDim.x + tx;
    int64_t q = (int64_t)blockIdx.x * blockDim.x + tx;
    float sum[4] = {0, 0, 0, 0};
    if (q * 4 < channels)
#pragma unroll 4
        for (int64_t r = ty; r < rows; r += blockDim.y) {
            float v[4];
            sp_cu_get4(x + blockIdx.y * image + r * channels + q * 4, v);
#pragma unroll
            for (int k = 0; k < 4; k++) sum[k] += v[k];
        }
#pragma unroll
    for (int k = 0; k < 4; k++) shared[at][k] = sum[k];
    __syncthreads();
    for (int half = blockDim.y / 2; half; half /= 2) {
        if (ty < half)
            for (int k = 0; k < 4; k++) shared[at][k] += shared[at + half * blockDim.x][k];
        __syncthreads();
    }
    if (ty || q * 4 >= channels) return;
    float v[4];
    for (int k = 0; k < 4; k++) v[k] = mean ? shared[tx][k] / (float)rows : shared[tx][k];
    sp_cu_put4(y + blockIdx.y * channels + q * 4, v);
}

/* [images][rows][channels] with the rows summed up; false: it is not of that form. */
template <typename T>
static bool run_columns(const sp_cu_reduce *r, const void *x, void *y, cudaStream_t stream)
{
    if (r->kind != SP_CU_SUM && r->kind != SP_CU_MEAN) return false;
    if (r->n_kept < 1 || r->n_kept > 2 || r->n_reduced != 1 || r->kept_stride[r->n_kept - 1] != 1)
        return false;
    int64_t channels = r->kept[r->n_kept - 1], images = r->n_kept == 2 ? r->kept[0] : 1;
    int64_t image = r->n_kept == 2 ? r->kept_stride[0] : 0;
    if (r->reduced_stride[0] != channels || channels % 4 != 0 || image % 4 != 0 || images > 65535 ||
        ((uintptr_t)x | (uintptr_t)y) % 16 != 0)
        return false;
    unsigned wide = channels >= 64 ? 16 : channels >= 32 ? 8 : 4;
    dim3 grid((unsigned)((channels / 4 + wide - 1) / wide), (unsigned)images);
    column_kernel<T><<<grid, dim3(wide, 512 / wide), 0, stream>>>(
        r->kind == SP_CU_MEAN, (const T *)x, (T *)y, r->total, channels, image);
    return true;
}

template <typename T>
static void run_reduce(const sp_cu_reduce *r, const void *x, void *y, cudaStream_t stream)
{
    /* Neighbouring outputs are neighbours in x: read across them; else along what is reduced. */
    bool across =
        r->n_kept > 0 && r->kept_stride[r->n_kept - 1] == 1 && r->kept[r->n_kept - 1] >= 8;
    if (across)
        reduce_kernel<T, false>
            <<<sp_cu_blocks(r->outputs, 32), dim3(32, r->total >= 256 ? 32 : 8), 0, stream>>>(
                *r, (const T *)x, (T *)y);
    else
        reduce_kernel<T, true>
            <<<sp_cu_blocks(r->outputs, 1), dim3(32, r->total < 256 ? 1 : 8), 0, stream>>>(
                *r, (const T *)x, (T *)y);
}

void sp_cu_reduce_run(const sp_cu_reduce *r, int half, const void *x, void *y, cudaStream_t stream)
{
    if (r->outputs <= 0) return;
    if (half ? run_columns<__half>(r, x, y, stream) : run_columns<float>(r, x, y, stream)) return;
    if (half)
        run_reduce<__half>(r, x, y, stream);
    else
        run_reduce<float>(r, x, y, stream);
}

/* ---- arg-max ---- */

/* One thread an output. NaN wins, as in the plain operator. */
static __global__ void argmax_kernel(int least, int last, const float *x, int64_t *y, int64_t count,
                                     int64_t extent, int64_t inner)
{
    SP_CU_FOR(i, count)
    {
        const float *row = x + i / inner * extent * inner + i % inner;
        float best = row[0];
        int64_t at = 0;
        for (int64_t k = 1; k < extent; k++) {
            float v = row[k * inner];
            bool better = least ? v < best : v > best;
            if (better || (last && v == best)) {
                best = v;
                at = k;
            }
        }
        y[i] = at;
    }
}

void sp_cu_argmax(int least, int last, const float *x, int64_t *y, int64_t outer, int64_t extent,
                  int64_t inner, cudaStream_t stream)
{
    int64_t count = outer * inner;
    if (count <= 0 || extent <= 0) return;
    argmax_kernel<<<sp_cu_blocks(count, 64), 64, 0, stream>>>(least, last, x, y, count, extent,
                                                              inner);
}

/* ---- softmax ---- */

/* One warp a row of contiguous elements. */
static __global__ void softmax_rows(int logarithm, const float *x, float *y, int64_t rows,
                                    int64_t extent)
{
    int lane = threadIdx.x & 31;
    int64_t warp = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    int64_t warps = (int64_t)gridDim.x * blockDim.x / 32;
    for (int64_t r = warp; r < rows; r += warps) {
        const float *in = x + r * extent;
        float *out = y + r * extent, peak = -CUDART_INF_F, sum = 0;
        for (int64_t i = lane; i < extent; i += 32) peak = sp_cu_max(peak, in[i]);
        for (int i = 16; i; i >>= 1) peak = sp_cu_max(peak, __shfl_xor_sync(0xffffffffu, peak, i));
        for (int64_t i = lane; i < extent; i += 32) sum += expf(in[i] - peak);
        sum = sp_cu_warp_sum(sum);
        float log_sum = logf(sum), inverse = 1 / sum;
        for (int64_t i = lane; i < extent; i += 32)
            out[i] = logarithm ? in[i] - peak - log_sum : expf(in[i] - peak) * inverse;
    }
}

/* One thread a row whose elements lie `inner` apart. */
static __global__ void softmax_columns(int logarithm, const float *x, float *y, int64_t count,
                                       int64_t extent, int64_t inner)
{
    SP_CU_FOR(i, count)
    {
        int64_t at = i / inner * extent * inner + i % inner;
        float peak = -CUDART_INF_F, sum = 0;
        for (int64_t k = 0; k < extent; k++) peak = sp_cu_max(peak, x[at + k * inner]);
        for (int64_t k = 0; k < extent; k++) sum += expf(x[at + k * inner] - peak);
        float log_sum = logf(sum), inverse = 1 / sum;
        for (int64_t k = 0; k < extent; k++) {
            float v = x[at + k * inner] - peak;
            y[at + k * inner] = logarithm ? v - log_sum : expf(v) * inverse;
        }
    }
}

void sp_cu_softmax(int logarithm, const float *x, float *y, int64_t outer, int64_t extent,
                   int64_t inner, cudaStream_t stream)
{
    int64_t count = outer * inner;
    if (count <= 0 || extent <= 0) return;
    if (inner == 1)
        softmax_rows<<<sp_cu_blocks(count, 4), 128, 0, stream>>>(logarithm, x, y, count, extent);
    else
        softmax_columns<<<sp_cu_blocks(count, 128), 128, 0, stream>>>(logarithm, x, y, count,
                                                                      extent, inner);
}
