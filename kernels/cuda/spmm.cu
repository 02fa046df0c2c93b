/* Products with a sparse right side: y[m][n] = sum over the non-zeros of row n of w[n][k] x[m][k].
 * A block takes P rows of x and some rows of w; x goes through shared memory in pieces of the inner
 * dimension, turned so that the lanes of a warp read neighbouring rows; a warp walks through the
 * non-zeros of CW rows of w, every lane with P / 32 rows of x. */
#include "kernels/cuda/common.cuh"

#define PIECE 64 /* of the inner dimension */

typedef struct spmm_args {
    int64_t m;
    int n, k;
    sp_cu_epilogue e;
    const int *rows;
    const int2 *entries;
    const float *x, *bias, *residual;
    float *y;
} spmm_args;

template <int P, int CW, int WARPS>
static __global__ void __launch_bounds__(WARPS * 32) spmm_kernel(spmm_args a)
{
    enum { EACH = P / 32, PITCH = P + EACH, THREADS = WARPS * 32 };
    __shared__ __align__(16) float xs[PIECE * PITCH];
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int64_t m0 = (int64_t)blockIdx.x * P;
    const int n0 = ((int)blockIdx.y * WARPS + warp) * CW;
    float sum[CW][EACH];
    int at[CW], end[CW];
#pragma unroll
    for (int c = 0; c < CW; c++) {
        bool in = n0 + c < a.n;
        at[c] = in ? a.rows[n0 + c] : 0;
        end[c] = in ? a.rows[n0 + c + 1] : 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) sum[c][i] = 0;
    }
    for (int k0 = 0; k0 < a.k; k0 += PIECE) {
        const int top = min(a.k, k0 + PIECE);
        __syncthreads();
        for (int i = (int)threadIdx.x; i < P * PIECE; i += THREADS) {
            int k = i % PIECE, p = i / PIECE;
            bool in = m0 + p < a.m && k0 + k < top;
            xs[k * PITCH + p] = in ? a.x[(m0 + p) * a.k + k0 + k] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int c = 0; c < CW; c++) {
            int i = at[c];
#pragma unroll 4
            for (; i < end[c]; i++) {
                const int2 entry = __ldg(&a.entries[i]);
                if (entry.x >= top) break;
                const float *v = &xs[(entry.x - k0) * PITCH + lane * EACH];
                const float w = __int_as_float(entry.y);
                if (EACH == 2) {
                    float2 u = *(const float2 *)v;
                    sum[c][0] += w * u.x;
                    sum[c][EACH - 1] += w * u.y;
                } else {
                    sum[c][0] += w * v[0];
                }
            }
            at[c] = i;
        }
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int64_t m = m0 + lane * EACH + i;
        if (m >= a.m) continue;
        const bool quads = a.n % 4 == 0;
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
    dim3 grid((unsigned)((a.m + P - 1) / P), (unsigned)((a.n + CW * WARPS - 1) / (CW * WARPS)));
    spmm_kernel<P, CW, WARPS><<<grid, WARPS * 32, 0, stream>>>(a);
}

void sp_cu_spmm(const sp_cu_csr *w, int tile, const sp_cu_epilogue *e, int64_t m, const float *x,
                const float *bias, const float *residual, float *y, cudaStream_t stream)
{
    const spmm_args a = {m, (int)w->n, (int)w->k, *e, w->rows, (const int2 *)w->entries,
                         x, bias,      residual,  y};
    if (m <= 0 || w->n <= 0) return;
    switch (tile) {
    case 0: launch<64, 16, 8>(a, stream); break;
    case 1: launch<64, 4, 8>(a, stream); break;
    default: launch<32, 4, 4>(a, stream);
    }
}
