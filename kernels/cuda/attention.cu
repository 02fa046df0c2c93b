/* Attention without storing the scores: keys are walked in tiles, the maximum and the sum of each
 * row are corrected as they grow. On tensor cores for float16 and TF32 where heads have 32, 64 or
 * 128 elements, else with plain arithmetic. */
#include "kernels/cuda/mma.cuh"

#define LOG2E 1.44269504f

typedef struct attention_args {
    sp_cu_attention a;
    const void *q, *k, *v, *mask;
    void *y;
} attention_args;

/* Where the mask of a head begins; several images may follow each other in it. */
static __device__ __forceinline__ int64_t mask_base(const sp_cu_attention &a, int64_t b, int64_t h)
{
    return b % a.mask_images * a.mask[0] + h * a.mask[1];
}

/* Score of key j for query i, scale included, in powers of two; -infinity where it does not count.
 */
template <typename T>
static __device__ __forceinline__ float masked(const attention_args &p, float score, int64_t base,
                                               int i, int j)
{
    if (j >= p.a.kv_len || (p.a.causal && j > i)) return -CUDART_INF_F;
    if (p.a.mask_kind && i < p.a.q_len) {
        int64_t at = base + (int64_t)i * p.a.mask[2] + j * p.a.mask[3];
        if (p.a.mask_kind == 1) {
            if (!((const uint8_t *)p.mask)[at]) return -CUDART_INF_F;
        } else {
            score += (float)((const T *)p.mask)[at] * LOG2E;
        }
    }
    return score;
}

/* ---- tensor cores ---- */

#define QUERIES 64 /* four warps of 16 */
#define KEYS 64

/* Rows first.. of a matrix to shared memory; zeros past the last. */
template <typename T, int D>
static __device__ __forceinline__ void load_rows(const T *from, int64_t stride, int64_t first,
                                                 int64_t rows, uint32_t to)
{
    enum { CHUNKS = D * (int)sizeof(T) / 16, PITCH = D * (int)sizeof(T) + 16 };
#pragma unroll
    for (int i = 0; i < KEYS * CHUNKS / 128; i++) {
        int row = (threadIdx.x + i * 128) / CHUNKS, chunk = threadIdx.x % CHUNKS;
        bool in = first + row < rows;
        const T *at = from + (first + row) * stride + chunk * (16 / (int)sizeof(T));
        sp_cu_copy16(to + row * PITCH + chunk * 16, in ? at : from, in);
    }
}

template <typename T, int D>
static __global__ void __launch_bounds__(128) attention_tensor(attention_args p)
{
#if __CUDA_ARCH__ >= 800
    enum { PITCH = D * (int)sizeof(T) + 16, TILE = KEYS * PITCH, STEPS = D * (int)sizeof(T) / 32 };
    extern __shared__ __align__(128) char shared[];
    const sp_cu_attention &a = p.a;
    int64_t h = blockIdx.y % a.heads, b = blockIdx.y / a.heads, kh = h / (a.heads / a.kv_heads);
    int64_t q0 = (int64_t)blockIdx.x * QUERIES;
    const T *q = (const T *)p.q + b * a.q[0] + h * a.q[1];
    const T *k = (const T *)p.k + b * a.k[0] + kh * a.k[1];
    const T *v = (const T *)p.v + b * a.v[0] + kh * a.v[1];
    uint32_t base = (uint32_t)__cvta_generic_to_shared(shared);
    uint32_t ks = base + TILE, vs = ks + 2 * TILE;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int row = (int)q0 + warp * 16 + g;
    int64_t mask_at = mask_base(a, b, h);
    float scale = a.scale * LOG2E;
    float out[D / 8][4], peak[2] = {-CUDART_INF_F, -CUDART_INF_F}, sum[2] = {0, 0};
#pragma unroll
    for (int d = 0; d < D / 8; d++)
        for (int i = 0; i < 4; i++) out[d][i] = 0;
    load_rows<T, D>(q, a.q[2], q0, a.q_len, base);
    load_rows<T, D>(k, a.k[2], 0, a.kv_len, ks);
    load_rows<T, D>(v, a.v[2], 0, a.kv_len, vs);
    sp_cu_copy_commit();
    int now = 0;
    for (int64_t j0 = 0; j0 < a.kv_len; j0 += KEYS, now ^= 1) {
        if (j0 + KEYS < a.kv_len) {
            load_rows<T, D>(k, a.k[2], j0 + KEYS, a.kv_len, ks + (now ^ 1) * TILE);
            load_rows<T, D>(v, a.v[2], j0 + KEYS, a.kv_len, vs + (now ^ 1) * TILE);
        }
        sp_cu_copy_commit();
        sp_cu_copy_wait<1>();
        __syncthreads();
        float s[KEYS / 8][4];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
            for (int i = 0; i < 4; i++) s[j][i] = 0;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            uint32_t fq[4];
            sp_cu_matrix4(fq, base + (warp * 16 + lane % 16) * PITCH + (step * 2 + lane / 16) * 16);
            if (sizeof(T) == 4)
                for (int i = 0; i < 4; i++) fq[i] = sp_cu_tf32(fq[i]);
#pragma unroll
            for (int j = 0; j < KEYS / 16; j++) {
                uint32_t fk[4];
                sp_cu_matrix4(fk, ks + now * TILE + (j * 16 + lane % 8 + lane / 16 * 8) * PITCH +
                                      (step * 2 + lane / 8 % 2) * 16);
                if (sizeof(T) == 4)
                    for (int i = 0; i < 4; i++) fk[i] = sp_cu_tf32(fk[i]);
                sp_cu_mma<T>(s[j * 2], fq, fk);
                sp_cu_mma<T>(s[j * 2 + 1], fq, fk + 2);
            }
        }
        float most[2] = {peak[0], peak[1]};
        if (a.mask_kind || a.causal || j0 + KEYS > a.kv_len) {
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    s[j][i] = masked<T>(p, s[j][i] * scale, mask_at, row + i / 2 * 8,
                                        (int)j0 + j * 8 + t * 2 + i % 2);
        } else {
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) s[j][i] *= scale;
        }
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) most[i / 2] = sp_cu_max(most[i / 2], s[j][i]);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            most[i] = sp_cu_max(most[i], __shfl_xor_sync(0xffffffffu, most[i], 1));
            most[i] = sp_cu_max(most[i], __shfl_xor_sync(0xffffffffu, most[i], 2));
            float shift = most[i] == -CUDART_INF_F ? 0.0f : most[i];
            float factor = exp2f(peak[i] - shift);
            peak[i] = most[i];
            sum[i] *= factor;
#pragma unroll
            for (int d = 0; d < D / 8; d++) {
                out[d][i * 2] *= factor;
                out[d][i * 2 + 1] *= factor;
            }
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    s[j][i * 2 + c] = exp2f(s[j][i * 2 + c] - shift);
                    sum[i] += s[j][i * 2 + c];
                }
        }
        if (sizeof(T) == 2) {
#pragma unroll
            for (int j = 0; j < KEYS / 16; j++) {
                uint32_t fp[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    __half2 two = __floats2half2_rn(s[j * 2 + i / 2][i % 2 * 2],
                                                    s[j * 2 + i / 2][i % 2 * 2 + 1]);
                    fp[i] = *(const uint32_t *)&two;
                }
#pragma unroll
                for (int d = 0; d < D / 16; d++) {
                    uint32_t fv[4];
                    sp_cu_matrix4_transposed(fv, vs + now * TILE + (j * 16 + lane % 16) * PITCH +
                                                     (d * 2 + lane / 16) * 16);
                    sp_cu_mma<T>(out[d * 2], fp, fv);
                    sp_cu_mma<T>(out[d * 2 + 1], fp, fv + 2);
                }
            }
        } else {
            /* the inner index of this product is permuted: element t is key 2t, t + 4 is 2t + 1 */
            const float *tile = (const float *)(shared + TILE * 3 + now * TILE);
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
                uint32_t fp[4] = {
                    sp_cu_tf32(__float_as_uint(s[j][0])), sp_cu_tf32(__float_as_uint(s[j][2])),
                    sp_cu_tf32(__float_as_uint(s[j][1])), sp_cu_tf32(__float_as_uint(s[j][3]))};
                const float *at = tile + (j * 8 + t * 2) * (PITCH / 4) + g;
#pragma unroll
                for (int d = 0; d < D / 8; d++) {
                    uint32_t fv[2] = {sp_cu_tf32(__float_as_uint(at[d * 8])),
                                      sp_cu_tf32(__float_as_uint(at[PITCH / 4 + d * 8]))};
                    sp_cu_mma<T>(out[d], fp, fv);
                }
            }
        }
        __syncthreads();
    }
    T *y = (T *)p.y + b * a.y[0] + h * a.y[1];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
        sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
        int64_t r = row + i * 8;
        if (r >= a.q_len) continue;
        bool none = sum[i] == 0; /* no key counts: zero, whatever the values are */
        float inverse = 1 / sum[i];
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            sp_cu_put2(y + r * a.y[2] + d * 8 + t * 2, none ? 0.0f : out[d][i * 2] * inverse,
                       none ? 0.0f : out[d][i * 2 + 1] * inverse);
        }
    }
#else
    (void)p;
#endif
}

/* ---- plain arithmetic ---- */

#define ROWS 32 /* queries and keys of a tile */

/* 256 threads; D: elements of a row in shared memory, the rest zeros. A thread has two by two
 * scores, and of the result every eighth element of one row. */
template <typename T, int D>
static __global__ void __launch_bounds__(256) attention_plain(attention_args p)
{
    enum { PITCH = D + 4 };
    extern __shared__ __align__(16) float memory[];
    float *qs = memory, *ks = qs + ROWS * PITCH, *vs = ks + ROWS * PITCH, *ss = vs + ROWS * PITCH;
    const sp_cu_attention &a = p.a;
    int64_t h = blockIdx.y % a.heads, b = blockIdx.y / a.heads, kh = h / (a.heads / a.kv_heads);
    int64_t q0 = (int64_t)blockIdx.x * ROWS;
    const T *q = (const T *)p.q + b * a.q[0] + h * a.q[1];
    const T *k = (const T *)p.k + b * a.k[0] + kh * a.k[1];
    const T *v = (const T *)p.v + b * a.v[0] + kh * a.v[1];
    int row = threadIdx.x / 8, lane = threadIdx.x % 8, sy = threadIdx.x / 16, sx = threadIdx.x % 16;
    int64_t mask_at = mask_base(a, b, h);
    float scale = a.scale * LOG2E;
    float out[D / 8] = {0}, peak = -CUDART_INF_F, sum = 0;
    for (int i = threadIdx.x; i < ROWS * D; i += 256) {
        int64_t r = q0 + i / D;
        qs[i / D * PITCH + i % D] =
            r < a.q_len && i % D < a.head ? (float)q[r * a.q[2] + i % D] : 0.0f;
    }
    for (int64_t j0 = 0; j0 < a.kv_len; j0 += ROWS) {
        for (int i = threadIdx.x; i < ROWS * D; i += 256) {
            int64_t r = j0 + i / D;
            int at = i / D * PITCH + i % D;
            ks[at] = r < a.kv_len && i % D < a.head ? (float)k[r * a.k[2] + i % D] : 0.0f;
            vs[at] = r < a.kv_len && i % D < a.v_head ? (float)v[r * a.v[2] + i % D] : 0.0f;
        }
        __syncthreads();
        float s[2][2] = {{0, 0}, {0, 0}};
#pragma unroll 8
        for (int d = 0; d < D; d += 4) {
            float4 x[2] = {*(const float4 *)&qs[sy * PITCH + d],
                           *(const float4 *)&qs[(sy + 16) * PITCH + d]};
            float4 z[2] = {*(const float4 *)&ks[sx * PITCH + d],
                           *(const float4 *)&ks[(sx + 16) * PITCH + d]};
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 2; j++)
                    s[i][j] +=
                        x[i].x * z[j].x + x[i].y * z[j].y + x[i].z * z[j].z + x[i].w * z[j].w;
        }
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 2; j++)
                ss[(sy + i * 16) * (ROWS + 1) + sx + j * 16] = masked<T>(
                    p, s[i][j] * scale, mask_at, (int)q0 + sy + i * 16, (int)j0 + sx + j * 16);
        __syncthreads();
        float *scores = ss + row * (ROWS + 1), most = peak;
        for (int j = lane; j < ROWS; j += 8) most = sp_cu_max(most, scores[j]);
        for (int i = 4; i; i >>= 1) most = sp_cu_max(most, __shfl_xor_sync(0xffffffffu, most, i));
        float shift = most == -CUDART_INF_F ? 0.0f : most, factor = exp2f(peak - shift);
        peak = most;
        sum *= factor;
        for (int d = 0; d < D / 8; d++) out[d] *= factor;
        float e[ROWS / 8];
#pragma unroll
        for (int j = 0; j < ROWS / 8; j++) sum += e[j] = exp2f(scores[lane + j * 8] - shift);
        __syncwarp();
#pragma unroll
        for (int j = 0; j < ROWS / 8; j++) scores[lane + j * 8] = e[j];
        __syncwarp();
#pragma unroll 4
        for (int j = 0; j < ROWS; j++) {
            float w = scores[j];
#pragma unroll
            for (int d = 0; d < D / 8; d++) out[d] += w * vs[j * PITCH + lane + d * 8];
        }
        __syncthreads();
    }
    for (int i = 4; i; i >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, i);
    if (q0 + row >= a.q_len) return;
    T *y = (T *)p.y + b * a.y[0] + h * a.y[1] + (q0 + row) * a.y[2];
    for (int d = 0; d < D / 8; d++)
        if (lane + d * 8 < a.v_head) y[lane + d * 8] = (T)(sum == 0 ? 0.0f : out[d] / sum);
}

template <typename K>
static void launch(K kernel, const attention_args &p, int queries, int threads, size_t bytes,
                   cudaStream_t stream)
{
    if (bytes > 48 * 1024)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    dim3 grid((unsigned)((p.a.q_len + queries - 1) / queries), (unsigned)(p.a.batch * p.a.heads));
    kernel<<<grid, threads, bytes, stream>>>(p);
}

template <typename T, int D> static void tensor(const attention_args &p, cudaStream_t stream)
{
    launch(attention_tensor<T, D>, p, QUERIES, 128, (size_t)5 * KEYS * (D * sizeof(T) + 16),
           stream);
}

template <typename T> static void plain(const attention_args &p, cudaStream_t stream)
{
    int d = p.a.head > p.a.v_head ? p.a.head : p.a.v_head;
#define BYTES(D) (((size_t)3 * ROWS * ((D) + 4) + ROWS * (ROWS + 1)) * sizeof(float))
    if (d <= 32)
        launch(attention_plain<T, 32>, p, ROWS, 256, BYTES(32), stream);
    else if (d <= 64)
        launch(attention_plain<T, 64>, p, ROWS, 256, BYTES(64), stream);
    else if (d <= 128)
        launch(attention_plain<T, 128>, p, ROWS, 256, BYTES(128), stream);
    else
        launch(attention_plain<T, 256>, p, ROWS, 256, BYTES(256), stream);
#undef BYTES
}

/* Rows can be loaded 16 bytes at a time. */
static bool aligned(const attention_args &p, int size)
{
    int64_t all = 0;
    for (int i = 0; i < 3; i++) all |= p.a.q[i] | p.a.k[i] | p.a.v[i];
    return (all * size % 16 == 0) && ((uintptr_t)p.q | (uintptr_t)p.k | (uintptr_t)p.v) % 16 == 0;
}

void sp_cu_attention_run(const sp_cu_attention *a, int processor, const void *q, const void *k,
                         const void *v, const void *mask, void *y, cudaStream_t stream)
{
    attention_args p = {*a, q, k, v, mask, y};
    if (a->batch * a->heads <= 0 || a->q_len <= 0 || a->kv_len <= 0) return;
    bool cores = processor >= 80 && (a->half || a->tf32) && a->head == a->v_head &&
                 aligned(p, a->half ? 2 : 4);
    if (cores && a->half && a->head == 32) return tensor<__half, 32>(p, stream);
    if (cores && a->half && a->head == 64) return tensor<__half, 64>(p, stream);
    if (cores && a->half && a->head == 128) return tensor<__half, 128>(p, stream);
    if (cores && !a->half && a->head == 32) return tensor<float, 32>(p, stream);
    if (cores && !a->half && a->head == 64) return tensor<float, 64>(p, stream);
    if (a->half)
        plain<__half>(p, stream);
    else
        plain<float>(p, stream);
}
