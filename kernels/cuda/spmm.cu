/* Products with a sparse right side: y[m][n] = sum over the non-zeros of row n of w[n][k] x[m][k].
 * A block takes P rows of x and some rows of w; x goes through shared memory in pieces of the inner
 * dimension, turned so that the lanes of a warp read neighbouring rows; a warp walks through the
 * non-zeros of CW rows of w, every lane with P / 32 rows of x. The entries of a row in a piece come
 * in fours, filled up with zeros, so that none waits for the one before. */
#include "kernels/cuda/common.cuh"

#define PIECE SP_CU_SPMM_PIECE

typedef struct spmm_args {
    int64_t m;
    int n, k, quads; /* quads: rows of x are read 16 bytes at a time */
    sp_cu_epilogue e;
    const int *starts;
    const int4 *entries;
    const float *x, *bias, *residual;
    float *y;
} spmm_args;

/* Eight values of a row from k on. */
static __device__ __forceinline__ void load8(const spmm_args &a, int64_t row, int k, float (&v)[8])
{
    const float *from = a.x + row * a.k + k;
#pragma unroll
    for (int j = 0; j < 8; j += 4) {
        const bool in = row < a.m;
        if (a.quads) {
            float4 q =
                in && k + j < a.k ? __ldg((const float4 *)(from + j)) : make_float4(0, 0, 0, 0);
            v[j] = q.x, v[j + 1] = q.y, v[j + 2] = q.z, v[j + 3] = q.w;
            continue;
        }
#pragma unroll
        for (int i = j; i < j + 4; i++) v[i] = in && k + i < a.k ? __ldg(from + i) : 0.0f;
    }
}

template <int EACH>
static __device__ __forceinline__ void multiply(float (&sum)[EACH], const float *column, int bits)
{
    const float w = __int_as_float(bits);
    if (EACH == 4) {
        const float4 u = *(const float4 *)column;
        sum[0] += w * u.x, sum[1 % EACH] += w * u.y;
        sum[2 % EACH] += w * u.z, sum[3 % EACH] += w * u.w;
    } else if (EACH == 2) {
        const float2 u = *(const float2 *)column;
        sum[0] += w * u.x, sum[1 % EACH] += w * u.y;
    } else {
        sum[0] += w * column[0];
    }
}

template <int P, int CW, int WARPS>
static __global__ void __launch_bounds__(WARPS * 32) spmm_kernel(spmm_args a)
{
    enum { EACH = P / 32, THREADS = WARPS * 32 };
    extern __shared__ __align__(16) float xs[]; /* [PIECE][P] */
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int64_t m0 = (int64_t)blockIdx.x * P;
    const int n0 = ((int)blockIdx.y * WARPS + warp) * CW;
    const float *mine = xs + lane * EACH;
    float sum[CW][EACH];
#pragma unroll
    for (int c = 0; c < CW; c++)
#pragma unroll
        for (int i = 0; i < EACH; i++) sum[c][i] = 0;
    for (int k0 = 0, piece = 0; k0 < a.k; k0 += PIECE, piece++) {
        __syncthreads();
        for (int i = (int)threadIdx.x; i < P * (PIECE / 8); i += THREADS) {
            const int p = i % P, k = i / P * 8;
            float v[8];
            load8(a, m0 + p, k0 + k, v);
#pragma unroll
            for (int j = 0; j < 8; j++) xs[(k + j) * P + p] = v[j];
        }
        __syncthreads();
        const int *starts = a.starts + (int64_t)piece * a.n;
#pragma unroll
        for (int c = 0; c < CW; c++) {
            if (n0 + c >= a.n) break;
            const int end = starts[n0 + c + 1];
            for (int i = starts[n0 + c]; i < end; i++) {
                const int4 p = __ldg(&a.entries[2 * i]), q = __ldg(&a.entries[2 * i + 1]);
                multiply<EACH>(sum[c], mine + p.x * P, p.y);
                multiply<EACH>(sum[c], mine + p.z * P, p.w);
                multiply<EACH>(sum[c], mine + q.x * P, q.y);
                multiply<EACH>(sum[c], mine + q.z * P, q.w);
            }
        }
    }
    const bool quads = a.n % 4 == 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int64_t m = m0 + lane * EACH + i;
        if (m >= a.m) continue;
#pragma unroll
        for (int c = 0; c < CW; c += 4) {
            const int n = n0 + c;
            const int64_t to = m * a.n + n;
            if (n >= a.n) break;
            if (quads) {
                float v[4];
#pragma unroll
                for (int j = 0; j < 4; j++)
                    v[j] = sp_cu_finish(a.e, sum[c + j][i], a.bias, n + j, a.residual, to + j);
                sp_cu_put4(a.y + to, v);
                continue;
            }
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (n + j < a.n)
                    a.y[to + j] =
                        sp_cu_finish(a.e, sum[c + j][i], a.bias, n + j, a.residual, to + j);
        }
    }
}

template <int P, int CW, int WARPS> static void launch(const spmm_args &a, cudaStream_t stream)
{
    auto kernel = spmm_kernel<P, CW, WARPS>;
    const int bytes = P * PIECE * (int)sizeof(float);
    dim3 grid((unsigned)((a.m + P - 1) / P), (unsigned)((a.n + CW * WARPS - 1) / (CW * WARPS)));
    if (bytes > 48 * 1024)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    kernel<<<grid, WARPS * 32, (size_t)bytes, stream>>>(a);
}

static const int widths[SP_CU_SPMM_TILES] = {128, 64, 64, 32};

int sp_cu_spmm_fits(int tile, size_t shared_limit)
{
    return (size_t)(widths[tile] * PIECE) * sizeof(float) <= shared_limit;
}

void sp_cu_spmm(const sp_cu_csr *w, int tile, const sp_cu_epilogue *e, int64_t m, const float *x,
                const float *bias, const float *residual, float *y, cudaStream_t stream)
{
    const spmm_args a = {m,
                         (int)w->n,
                         (int)w->k,
                         w->k % 4 == 0 && (uintptr_t)x % 16 == 0,
                         *e,
                         w->starts,
                         (const int4 *)w->entries,
                         x,
                         bias,
                         residual,
                         y};
    if (m <= 0 || w->n <= 0) return;
    switch (tile) {
    case 0: launch<128, 16, 8>(a, stream); break;
    case 1: launch<64, 16, 8>(a, stream); break;
    case 2: launch<64, 4, 8>(a, stream); break;
    default: launch<32, 4, 4>(a, stream);
    }
}
