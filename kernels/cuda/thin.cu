/* Products with few channels: y = act(x w^T + bias) + residual, x [rows][k], w [n][k], y [rows][n],
 * many rows. They are bound by memory: rows go from memory straight into the registers of tensor
 * cores and results straight back, 16 bytes a lane; only the weights lie in shared memory. float16,
 * or float32 rounded to TF32; sums are float32. Needs sm_80.
 *
 * Which element of a row a lane has does not matter as long as it is the same for x and w, so that
 * a lane takes 16 neighbouring bytes of the inner dimension, which are its parts of two steps of
 * the tensor core. In the same way columns are dealt out such that a lane's results are 16
 * neighbouring bytes. */
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/vec.cuh"

#pragma nv_diag_suppress 128 /* a loop that one instance of a template leaves after one turn */
#pragma nv_diag_suppress 177 /* what sm_75 has no use for */

#define WARPS 4
#define MOST_BLOCKS                                                                                \
    2112 /* sixteen for each multiprocessor of an H200; each goes from rows to rows */

typedef struct thin_args {
    int64_t rows;
    int n, k, steps; /* steps of 64 bytes of the inner dimension */
    int residual;    /* added after the activation */
    sp_cu_light act;
    const void *x, *f, *bias, *add;
    void *y;
} thin_args;

/* The weights of GROUPS groups of columns from group g0 on: [step][group][tile][lane] of 16 bytes.
 */
template <typename T, int GROUPS>
static __device__ __forceinline__ void load_weights(const thin_args &a, int g0, uint4 *to)
{
    enum { EACH = 16 / (int)sizeof(T), TILES = EACH / 2, SET = GROUPS * TILES * 32 };
    for (int i = threadIdx.x; i < a.steps * SET; i += WARPS * 32) {
        int step = i / SET, rest = i - step * SET, lane = rest % 32, t = rest / 32 % TILES;
        int group = g0 + rest / 32 / TILES, column = lane / 4;
        int n = group * EACH * 4 + column / 2 * EACH + t * 2 + column % 2;
        int k = (step * 4 + lane % 4) * EACH;
        to[i] = make_uint4(0, 0, 0, 0);
        if (n < a.n && k < a.k) to[i] = *(const uint4 *)((const T *)a.f + (int64_t)n * a.k + k);
    }
}

/* 16 bytes of a row and of the one eight further down. */
template <typename T>
static __device__ __forceinline__ void load_rows(const thin_args &a, int64_t row, int step,
                                                 uint4 (&v)[2])
{
    enum { EACH = 16 / (int)sizeof(T) };
    int k = (step * 4 + (int)threadIdx.x % 4) * EACH;
    const T *x = (const T *)a.x + row * a.k + k;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        v[h] = make_uint4(0, 0, 0, 0);
        if (k < a.k && row + h * 8 < a.rows)
            v[h] = __ldg((const uint4 *)(x + (int64_t)h * 8 * a.k));
    }
}

template <typename T> static __device__ __forceinline__ void round_tf32(uint4 &v)
{
    if (sizeof(T) == 2) return;
    v = make_uint4(sp_cu_tf32(v.x), sp_cu_tf32(v.y), sp_cu_tf32(v.z), sp_cu_tf32(v.w));
}

/* sum += rows times weights, over one step. */
template <typename T, int MT, int COLUMNS>
static __device__ __forceinline__ void multiply(uint4 (&v)[MT][2], const uint4 *w,
                                                float (&sum)[MT][COLUMNS][4])
{
    if (sizeof(T) == 4)
#pragma unroll
        for (int i = 0; i < MT; i++) round_tf32<T>(v[i][0]), round_tf32<T>(v[i][1]);
#pragma unroll
    for (int t = 0; t < COLUMNS; t++) {
        uint4 b = w[t * 32];
        round_tf32<T>(b);
        const uint32_t first[2] = {b.x, b.y}, second[2] = {b.z, b.w};
#pragma unroll
        for (int i = 0; i < MT; i++) {
            const uint4 p = v[i][0], q = v[i][1];
            const uint32_t one[4] = {p.x, q.x, p.y, q.y}, two[4] = {p.z, q.z, p.w, q.w};
            sp_cu_mma<T>(sum[i][t], one, first);
            sp_cu_mma<T>(sum[i][t], two, second);
        }
    }
}

/* Epilogue and store of a lane's results: columns from n on, rows from `row` on. */
template <typename T, int MT, int COLUMNS>
static __device__ __forceinline__ void finish(const thin_args &a, int64_t row, int n,
                                              const float (&sum)[MT][COLUMNS][4], int first)
{
    enum { EACH = 16 / (int)sizeof(T) };
    float b[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) b[k] = 0;
    if (a.bias) sp_cu_unpack(__ldg((const uint4 *)((const T *)a.bias + n)), b);
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int64_t m = row + i * 16 + h * 8, at = m * a.n + n;
            if (m >= a.rows) continue;
            float r[EACH], e[EACH];
#pragma unroll
            for (int k = 0; k < EACH; k++) r[k] = sum[i][first + k / 2][h * 2 + k % 2] + b[k];
            sp_cu_light_run(a.act, r);
            if (a.residual) {
                sp_cu_unpack(*(const uint4 *)((const T *)a.add + at), e);
#pragma unroll
                for (int k = 0; k < EACH; k++) r[k] += e[k];
            }
            *(uint4 *)((T *)a.y + at) = sp_cu_pack(r);
        }
}

/* A warp has MT times 16 rows and GROUPS groups of 64 bytes of columns; DEPTH steps of rows are
 * under way. */
template <typename T, int MT, int GROUPS, int DEPTH>
static __global__ void __launch_bounds__(WARPS * 32) thin_kernel(thin_args a)
{
#if __CUDA_ARCH__ >= 800
    enum { EACH = 16 / (int)sizeof(T), TILES = EACH / 2, COLUMNS = GROUPS * TILES };
    extern __shared__ uint4 weights[];
    int lane = threadIdx.x % 32, g0 = blockIdx.y * GROUPS;
    int64_t warp = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    load_weights<T, GROUPS>(a, g0, weights);
    __syncthreads();
    for (int64_t m0 = warp * MT * 16; m0 < a.rows; m0 += (int64_t)gridDim.x * WARPS * MT * 16) {
        int64_t row = m0 + lane / 4;
        uint4 v[DEPTH][MT][2];
        float sum[MT][COLUMNS][4];
#pragma unroll
        for (int d = 0; d < DEPTH; d++)
#pragma unroll
            for (int i = 0; i < MT; i++)
                if (d < a.steps) load_rows<T>(a, row + i * 16, d, v[d][i]);
#pragma unroll
        for (int i = 0; i < MT * COLUMNS * 4; i++) sum[i / COLUMNS / 4][i / 4 % COLUMNS][i % 4] = 0;
        for (int s0 = 0; s0 < a.steps; s0 += DEPTH)
#pragma unroll
            for (int d = 0; d < DEPTH; d++) {
                int step = s0 + d;
                if (step >= a.steps) break;
                multiply<T>(v[d], weights + step * COLUMNS * 32 + lane, sum);
                if (step + DEPTH < a.steps)
#pragma unroll
                    for (int i = 0; i < MT; i++)
                        load_rows<T>(a, row + i * 16, step + DEPTH, v[d][i]);
            }
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            int n = ((g0 + g) * 4 + lane % 4) * EACH;
            if (n < a.n) finish<T>(a, row, n, sum, g * TILES);
        }
    }
#else
    (void)a;
#endif
}

/* ---- shapes ---- */

typedef struct thin_shape {
    int mt, groups;
} thin_shape;

static const thin_shape shapes[SP_CU_THIN_WAYS] = {{1, 1}, {2, 1}, {2, 2}, {1, 3}, {2, 3}, {2, 4}};

static int steps_of(const sp_cu_gemm *g, int half)
{
    return (int)((g->k * (half ? 2 : 4) + 63) / 64);
}

static size_t shared_of(const sp_cu_gemm *g, int half, int way)
{
    return (size_t)steps_of(g, half) * (size_t)shapes[way].groups * (half ? 4 : 2) * 32 * 16;
}

int sp_cu_thin_can(const sp_cu_gemm *g, const sp_cu_epilogue *e, int half, int way,
                   size_t shared_limit)
{
    sp_cu_light act;
    int each = half ? 8 : 4;
    bool rows = g->a_k == 1 && g->a_m == g->k && g->b_k == 1 && g->b_n == g->k;
    bool after = e->residual == 0 || e->residual == 2 || e->act == 0;
    return way >= 0 && way < SP_CU_THIN_WAYS && rows && after && g->batch == 1 && g->alpha == 1 &&
           g->n > 0 && g->k > 0 && g->n % each == 0 && g->k % each == 0 && g->k <= 4096 &&
           g->n <= 4096 && sp_cu_light_of(e, &act) && shared_of(g, half, way) <= shared_limit;
}

template <typename T, int MT, int GROUPS, int DEPTH>
static void launch(const thin_args &a, size_t shared, cudaStream_t stream)
{
    auto kernel = thin_kernel<T, MT, GROUPS, DEPTH>;
    int per = 64 / (int)sizeof(T) * GROUPS;
    int64_t blocks = (a.rows + WARPS * MT * 16 - 1) / (WARPS * MT * 16);
    unsigned parts = (unsigned)((a.n + per - 1) / per);
    int64_t most = (MOST_BLOCKS + parts - 1) / parts;
    if (shared > 48 * 1024)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    kernel<<<dim3((unsigned)(blocks < most ? blocks : most), parts), WARPS * 32, shared, stream>>>(
        a);
}

template <typename T>
static void launch_way(const thin_args &a, int way, size_t shared, cudaStream_t stream)
{
    switch (way) {
    case 0: launch<T, 1, 1, 4>(a, shared, stream); break;
    case 1: launch<T, 2, 1, 4>(a, shared, stream); break;
    case 2: launch<T, 2, 2, 2>(a, shared, stream); break;
    case 3: launch<T, 1, 3, 2>(a, shared, stream); break;
    case 4: launch<T, 2, 3, 2>(a, shared, stream); break;
    default: launch<T, 2, 4, 2>(a, shared, stream); break;
    }
}

void sp_cu_thin(const sp_cu_gemm *g, const sp_cu_epilogue *e, int half, int way, const void *x,
                const void *weight, const void *bias, const void *residual, void *y,
                cudaStream_t stream)
{
    thin_args a = {
        g->m, (int)g->n, (int)g->k, steps_of(g, half), e->residual != 0, {0, 0, 0}, x, weight,
        bias, residual,  y};
    size_t shared = shared_of(g, half, way);
    sp_cu_light_of(e, &a.act);
    if (a.rows <= 0) return;
    half ? launch_way<__half>(a, way, shared, stream) : launch_way<float>(a, way, shared, stream);
}
