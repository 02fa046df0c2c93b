/* A plain tiled product in float32: what is left where cuBLASLt is missing or refuses. */
#include "kernels/cuda/common.cuh"

#define TM 64
#define TN 64
#define TK 16

/* 16 x 16 threads with 4 x 4 results each. A and B are read along whichever stride is 1. */
template <typename T>
static __global__ void __launch_bounds__(256)
    gemm_kernel(sp_cu_gemm g, const T *__restrict__ pa, const T *__restrict__ pb, T *py)
{
    __shared__ float a[TK][TM + 4], b[TK][TN + 4];
    int tid = threadIdx.x;
    int64_t m0 = (int64_t)blockIdx.x * TM, n0 = (int64_t)blockIdx.y * TN;
    const T *x = pa + blockIdx.z * g.a_batch, *f = pb + blockIdx.z * g.b_batch;
    float sum[4][4] = {{0}};
    for (int64_t k0 = 0; k0 < g.k; k0 += TK) {
        for (int j = tid; j < TK * TM; j += 256) {
            int k = g.a_k == 1 ? j % TK : j / TM, m = g.a_k == 1 ? j / TK : j % TM;
            bool in = m0 + m < g.m && k0 + k < g.k;
            a[k][m] = in ? (float)x[(m0 + m) * g.a_m + (k0 + k) * g.a_k] : 0.0f;
        }
        for (int j = tid; j < TK * TN; j += 256) {
            int k = g.b_k == 1 ? j % TK : j / TN, n = g.b_k == 1 ? j / TK : j % TN;
            bool in = n0 + n < g.n && k0 + k < g.k;
            b[k][n] = in ? (float)f[(k0 + k) * g.b_k + (n0 + n) * g.b_n] : 0.0f;
        }
        __syncthreads();
        int ty = tid / 16 * 4, tx = tid % 16 * 4;
        for (int k = 0; k < TK; k++) {
            float4 ra = *(const float4 *)&a[k][ty], rb = *(const float4 *)&b[k][tx];
            float fa[4] = {ra.x, ra.y, ra.z, ra.w}, fb[4] = {rb.x, rb.y, rb.z, rb.w};
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) sum[i][j] += fa[i] * fb[j];
        }
        __syncthreads();
    }
    T *y = py + blockIdx.z * g.y_batch;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int64_t m = m0 + tid / 16 * 4 + i, n = n0 + tid % 16 * 4 + j;
            if (m < g.m && n < g.n) y[m * g.n + n] = (T)(g.alpha * sum[i][j]);
        }
}

template <typename T>
static void run(const sp_cu_gemm *g, const T *a, const T *b, T *y, cudaStream_t stream)
{
    for (int64_t first = 0; first < g->batch; first += 65535) {
        int64_t n = g->batch - first < 65535 ? g->batch - first : 65535;
        dim3 grid((unsigned)((g->m + TM - 1) / TM), (unsigned)((g->n + TN - 1) / TN), (unsigned)n);
        gemm_kernel<T><<<grid, 256, 0, stream>>>(*g, a + first * g->a_batch, b + first * g->b_batch,
                                                 y + first * g->y_batch);
    }
}

void sp_cu_gemm_run(const sp_cu_gemm *g, int half, const void *a, const void *b, void *y,
                    cudaStream_t stream)
{
    if (g->m <= 0 || g->n <= 0) return;
    if (half)
        run(g, (const __half *)a, (const __half *)b, (__half *)y, stream);
    else
        run(g, (const float *)a, (const float *)b, (float *)y, stream);
}
