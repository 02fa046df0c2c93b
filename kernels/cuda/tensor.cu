/* Convolutions and products on tensor cores: float16 with float32 sums, and float32 operands
 * rounded to TF32. Rows of the product are output pixels (images with the channel last), columns
 * output channels; both operands are read along the inner dimension, which is cut into parts where
 * there are too few tiles to fill the GPU. Bias, residual and activation are applied as the result
 * is written. Needs sm_80. */
#include "kernels/cuda/mma.cuh"

#pragma nv_diag_suppress 128 /* a loop that one instance of a template leaves after one turn */
#pragma nv_diag_suppress 177 /* what sm_75 has no use for */

#define ROW_BYTES 128   /* of the inner dimension in one tile */
#define STATIC_BYTES 16 /* at least the shared memory that the kernel declares besides its tiles   \
                         */

typedef struct tensor_args {
    sp_cu_window w;
    sp_cu_epilogue e;
    int64_t rows; /* output pixels */
    int n, k;     /* output channels; taps times input channels */
    int splits, k_tiles;
    float *partial;     /* [split][row][channel], where there are several */
    unsigned *arrivals; /* by tile; 0 before and after */
    const void *x, *f, *bias, *residual;
    void *y;
} tensor_args;

/* Where a chunk of 16 bytes lies in a tile of 128-byte rows: no two rows of a group of eight share
 * banks. */
static __device__ __forceinline__ uint32_t swizzled(int row, int chunk)
{
    return (uint32_t)(row * ROW_BYTES + ((chunk ^ (row & 7)) << 4));
}

/* What a thread needs to load its chunk of one output pixel. */
typedef struct pixel_row {
    int64_t base;
    int h, w;
    bool inside;
} pixel_row;

static __device__ __forceinline__ pixel_row pixel_of(const tensor_args &a, int64_t p)
{
    pixel_row r;
    r.inside = p < a.rows;
    if (!r.inside) p = 0;
    int64_t q = p / a.w.out[2];
    r.w = (int)(p - q * a.w.out[2]) * a.w.stride[2] - a.w.begin[2];
    int64_t n = q / a.w.out[1];
    r.h = (int)(q - n * a.w.out[1]) * a.w.stride[1] - a.w.begin[1];
    r.base = n * a.w.x_n;
    return r;
}

/* One tile of x: rows are pixels. WHOLE: 16 bytes are always of one tap and aligned. */
template <typename T, bool WHOLE, int ROWS, int THREADS>
static __device__ __forceinline__ void load_x(const tensor_args &a, const pixel_row *rows, int k0,
                                              uint32_t to, char *to_ptr)
{
    enum { EACH = 16 / (int)sizeof(T), PER = ROWS * 8 / THREADS };
    int chunk = threadIdx.x % 8, k = k0 + chunk * EACH;
    const T *x = (const T *)a.x;
    if (WHOLE) {
        int tap = k / a.w.c_in, c = k - tap * a.w.c_in;
        int kh = tap / a.w.kernel[2], kw = tap - kh * a.w.kernel[2];
        int dh = kh * a.w.dilation[1], dw = kw * a.w.dilation[2];
#pragma unroll
        for (int i = 0; i < PER; i++) {
            int row = threadIdx.x / 8 + i * (THREADS / 8);
            int h = rows[i].h + dh, v = rows[i].w + dw;
            bool in = rows[i].inside && k < a.k && (unsigned)h < (unsigned)a.w.in[1] &&
                      (unsigned)v < (unsigned)a.w.in[2];
            const T *from = x + rows[i].base + h * a.w.x_s[1] + v * a.w.x_s[2] + c;
            sp_cu_copy16(to + swizzled(row, chunk), in ? from : x, in);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int row = threadIdx.x / 8 + i * (THREADS / 8);
        __align__(16) T v[EACH];
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int tap = (k + j) / a.w.c_in, c = k + j - tap * a.w.c_in;
            int kh = tap / a.w.kernel[2], kw = tap - kh * a.w.kernel[2];
            int h = rows[i].h + kh * a.w.dilation[1], u = rows[i].w + kw * a.w.dilation[2];
            bool in = rows[i].inside && k + j < a.k && (unsigned)h < (unsigned)a.w.in[1] &&
                      (unsigned)u < (unsigned)a.w.in[2];
            v[j] = in ? x[rows[i].base + h * a.w.x_s[1] + u * a.w.x_s[2] + c] : (T)0.0f;
        }
        *(uint4 *)(to_ptr + swizzled(row, chunk)) = *(const uint4 *)v;
    }
}

/* One tile of the weights [channel][k]. */
template <typename T, bool WHOLE, int ROWS, int THREADS>
static __device__ __forceinline__ void load_f(const tensor_args &a, int n0, int k0, uint32_t to,
                                              char *to_ptr)
{
    enum { EACH = 16 / (int)sizeof(T), PER = ROWS * 8 / THREADS };
    int chunk = threadIdx.x % 8, k = k0 + chunk * EACH;
    const T *f = (const T *)a.f;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int row = threadIdx.x / 8 + i * (THREADS / 8), n = n0 + row;
        const T *from = f + (int64_t)n * a.k + k;
        if (WHOLE) {
            bool in = n < a.n && k < a.k;
            sp_cu_copy16(to + swizzled(row, chunk), in ? from : f, in);
            continue;
        }
        __align__(16) T v[EACH];
#pragma unroll
        for (int j = 0; j < EACH; j++) v[j] = n < a.n && k + j < a.k ? from[j] : (T)0.0f;
        *(uint4 *)(to_ptr + swizzled(row, chunk)) = *(const uint4 *)v;
    }
}

/* A result of 4 channels: epilogue and store. */
template <typename T>
static __device__ __forceinline__ void write4(const tensor_args &a, int64_t row, int n, float4 v4,
                                              bool quad)
{
    float v[4] = {v4.x, v4.y, v4.z, v4.w};
    int64_t at = row * a.n + n;
    const T *bias = (const T *)a.bias, *residual = (const T *)a.residual;
    T *y = (T *)a.y;
    if (quad) {
        float b[4] = {0, 0, 0, 0}, r[4] = {0, 0, 0, 0};
        if (bias) sp_cu_get4(bias + n, b);
        if (a.e.residual) sp_cu_get4(residual + at, r);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            v[j] += b[j];
            if (a.e.residual == 1) v[j] += r[j];
            v[j] = sp_cu_act(a.e.act, a.e.a, a.e.b, v[j]);
            if (a.e.residual == 2) v[j] += r[j];
        }
        sp_cu_put4(y + at, v);
        return;
    }
    for (int j = 0; j < 4 && n + j < a.n; j++) {
        if (bias) v[j] += (float)bias[n + j];
        if (a.e.residual == 1) v[j] += (float)residual[at + j];
        v[j] = sp_cu_act(a.e.act, a.e.a, a.e.b, v[j]);
        if (a.e.residual == 2) v[j] += (float)residual[at + j];
        y[at + j] = (T)v[j];
    }
}

/* Warps lie MW x NW; each sums a tile of TM x TN. */
template <typename T, bool WHOLE, int MW, int NW, int TM, int TN, int STAGES>
static __global__ void __launch_bounds__(MW *NW * 32) tensor_kernel(tensor_args a)
{
#if __CUDA_ARCH__ >= 800
    enum { BM = MW * TM, BN = NW * TN, THREADS = MW * NW * 32, BK = ROW_BYTES / (int)sizeof(T) };
    enum { STAGE = (BM + BN) * ROW_BYTES, PER = BM * 8 / THREADS, PITCH = BN + 4 };
    extern __shared__ __align__(128) char shared[];
    __shared__ unsigned last;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, wm = warp % MW * TM, wn = warp / MW * TN;
    int64_t m0 = (int64_t)blockIdx.x * BM;
    int n0 = blockIdx.y * BN, part = blockIdx.z;
    int first = part * a.k_tiles, tiles = (a.k + BK - 1) / BK - first;
    if (tiles > a.k_tiles) tiles = a.k_tiles;
    uint32_t base = (uint32_t)__cvta_generic_to_shared(shared);
    pixel_row rows[PER];
#pragma unroll
    for (int i = 0; i < PER; i++) rows[i] = pixel_of(a, m0 + threadIdx.x / 8 + i * (THREADS / 8));
    float sum[TM / 16][TN / 8][4];
#pragma unroll
    for (int i = 0; i < TM / 16; i++)
#pragma unroll
        for (int j = 0; j < TN / 8; j++)
#pragma unroll
            for (int q = 0; q < 4; q++) sum[i][j][q] = 0;
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < tiles) {
            load_x<T, WHOLE, BM, THREADS>(a, rows, (first + s) * BK, base + s * STAGE,
                                          shared + s * STAGE);
            load_f<T, WHOLE, BN, THREADS>(a, n0, (first + s) * BK,
                                          base + s * STAGE + BM * ROW_BYTES,
                                          shared + s * STAGE + BM * ROW_BYTES);
        }
        sp_cu_copy_commit();
    }
    for (int t = 0; t < tiles; t++) {
        sp_cu_copy_wait<STAGES - 2>();
        __syncthreads();
        int next = t + STAGES - 1;
        if (next < tiles) {
            int s = next % STAGES * STAGE;
            load_x<T, WHOLE, BM, THREADS>(a, rows, (first + next) * BK, base + s, shared + s);
            load_f<T, WHOLE, BN, THREADS>(a, n0, (first + next) * BK, base + s + BM * ROW_BYTES,
                                          shared + s + BM * ROW_BYTES);
        }
        sp_cu_copy_commit();
        uint32_t xs = base + t % STAGES * STAGE, fs = xs + BM * ROW_BYTES;
#pragma unroll
        for (int step = 0; step < ROW_BYTES / 32; step++) {
            uint32_t fa[TM / 16][4], fb[TN / 16][4];
#pragma unroll
            for (int i = 0; i < TM / 16; i++)
                sp_cu_matrix4(fa[i], xs + swizzled(wm + i * 16 + lane % 16, step * 2 + lane / 16));
#pragma unroll
            for (int j = 0; j < TN / 16; j++)
                sp_cu_matrix4(fb[j], fs + swizzled(wn + j * 16 + lane % 8 + lane / 16 * 8,
                                                   step * 2 + lane / 8 % 2));
            if (sizeof(T) == 4) {
#pragma unroll
                for (int q = 0; q < 4; q++) {
#pragma unroll
                    for (int i = 0; i < TM / 16; i++) fa[i][q] = sp_cu_tf32(fa[i][q]);
#pragma unroll
                    for (int j = 0; j < TN / 16; j++) fb[j][q] = sp_cu_tf32(fb[j][q]);
                }
            }
#pragma unroll
            for (int i = 0; i < TM / 16; i++)
#pragma unroll
                for (int j = 0; j < TN / 8; j++)
                    sp_cu_mma<T>(sum[i][j], fa[i], fb[j / 2] + j % 2 * 2);
        }
    }
    sp_cu_copy_wait<0>();
    __syncthreads();
    float *tile = (float *)shared;
#pragma unroll
    for (int i = 0; i < TM / 16; i++)
#pragma unroll
        for (int j = 0; j < TN / 8; j++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                *(float2 *)&tile[(wm + i * 16 + h * 8 + lane / 4) * PITCH + wn + j * 8 +
                                 lane % 4 * 2] =
                    make_float2(sum[i][j][h * 2], sum[i][j][h * 2 + 1]);
    __syncthreads();
    bool quad = a.n % 4 == 0;
    if (a.splits > 1) {
        /* the last part to arrive adds them all, always in the same order */
        for (int i = threadIdx.x; i < BM * BN / 4; i += THREADS) {
            int64_t m = m0 + i / (BN / 4);
            int n = n0 + i % (BN / 4) * 4;
            if (m >= a.rows || n >= a.n) continue;
            float4 v = *(const float4 *)&tile[i / (BN / 4) * PITCH + i % (BN / 4) * 4];
            float *to = a.partial + (part * a.rows + m) * a.n + n;
            if (quad)
                __stcg((float4 *)to, v);
            else {
                const float e[4] = {v.x, v.y, v.z, v.w};
                for (int j = 0; j < 4 && n + j < a.n; j++) __stcg(to + j, e[j]);
            }
        }
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            unsigned *count = &a.arrivals[blockIdx.y * gridDim.x + blockIdx.x];
            last = atomicAdd(count, 1) == (unsigned)a.splits - 1;
            if (last) *count = 0;
        }
        __syncthreads();
        if (!last) return;
        __threadfence();
    }
    for (int i = threadIdx.x; i < BM * BN / 4; i += THREADS) {
        int64_t m = m0 + i / (BN / 4);
        int n = n0 + i % (BN / 4) * 4;
        if (m >= a.rows || n >= a.n) continue;
        float4 v = *(const float4 *)&tile[i / (BN / 4) * PITCH + i % (BN / 4) * 4];
        if (a.splits > 1) {
            v = make_float4(0, 0, 0, 0);
            for (int s = 0; s < a.splits; s++) {
                const float *from = a.partial + (s * a.rows + m) * a.n + n;
                if (quad) {
                    float4 u = __ldcg((const float4 *)from);
                    v = make_float4(v.x + u.x, v.y + u.y, v.z + u.z, v.w + u.w);
                } else {
                    v.x += __ldcg(from);
                    if (n + 1 < a.n) v.y += __ldcg(from + 1);
                    if (n + 2 < a.n) v.z += __ldcg(from + 2);
                    if (n + 3 < a.n) v.w += __ldcg(from + 3);
                }
            }
        }
        write4<T>(a, m, n, v, quad);
    }
#else
    (void)a;
#endif
}

/* ---- shapes of tiles ---- */

typedef struct tile_shape {
    int m, n, threads, stages;
} tile_shape;

static const tile_shape shapes[SP_CU_TENSOR_TILES] = {
    {128, 128, 256, 3}, {128, 64, 128, 3}, {64, 64, 128, 4}, {64, 32, 128, 4}, {32, 64, 64, 4}};

static size_t shared_bytes(const tile_shape *t)
{
    size_t loads = (size_t)(t->m + t->n) * ROW_BYTES * (size_t)t->stages;
    size_t result = (size_t)t->m * (size_t)(t->n + 4) * sizeof(float);
    return loads > result ? loads : result;
}

template <typename T, bool WHOLE, int MW, int NW, int TM, int TN, int STAGES>
static void launch(const tensor_args &a, dim3 grid, const tile_shape *t, cudaStream_t stream)
{
    auto kernel = tensor_kernel<T, WHOLE, MW, NW, TM, TN, STAGES>;
    size_t bytes = shared_bytes(t);
    if (bytes + STATIC_BYTES > 48 * 1024)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    kernel<<<grid, t->threads, bytes, stream>>>(a);
}

template <typename T, bool WHOLE>
static void launch_tile(const tensor_args &a, int tile, dim3 grid, cudaStream_t stream)
{
    const tile_shape *t = &shapes[tile];
    switch (tile) {
    case 0: launch<T, WHOLE, 2, 4, 64, 32, 3>(a, grid, t, stream); break;
    case 1: launch<T, WHOLE, 2, 2, 64, 32, 3>(a, grid, t, stream); break;
    case 2: launch<T, WHOLE, 2, 2, 32, 32, 4>(a, grid, t, stream); break;
    case 3: launch<T, WHOLE, 4, 1, 16, 32, 4>(a, grid, t, stream); break;
    default: launch<T, WHOLE, 1, 2, 32, 32, 4>(a, grid, t, stream); break;
    }
}

static int64_t rows_of(const sp_cu_window *w)
{
    return (int64_t)w->n * w->out[1] * w->out[2];
}

static int inner_of(const sp_cu_window *w)
{
    return w->c_in * w->kernel[1] * w->kernel[2];
}

/* Patches that lie side by side are one tap of KW * C channels in a row of fewer, wider pixels. */
static sp_cu_window widened(const sp_cu_window *given)
{
    sp_cu_window w = *given;
    bool patches = w.kernel[2] > 1 && w.kernel[2] == w.stride[2] && w.dilation[2] == 1 &&
                   w.begin[2] == 0 && w.x_s[2] == w.c_in && w.x_c == 1 &&
                   w.out[2] <= w.in[2] / w.kernel[2];
    if (!patches) return w;
    w.c_in *= w.kernel[2];
    w.x_s[2] *= w.kernel[2];
    w.in[2] = w.out[2];
    w.kernel[2] = w.stride[2] = 1;
    return w;
}

int sp_cu_tensor_can(const sp_cu_window *w, int half)
{
    (void)half;
    return w->group == 1 && w->in[0] == 1 && w->out[0] == 1 && w->kernel[0] == 1 && w->x_c == 1 &&
           w->y_c == 1 && w->c_in > 0 && w->c_out > 0 && rows_of(w) < (int64_t)1 << 31;
}

int sp_cu_tensor_fits(const sp_cu_window *w, int tile, size_t shared_limit)
{
    const tile_shape *t = &shapes[tile];
    return shared_bytes(t) + STATIC_BYTES <= shared_limit && (w->c_out + t->n - 1) / t->n <= 65535;
}

int sp_cu_tensor_tile_count(const sp_cu_window *w, int tile)
{
    const tile_shape *t = &shapes[tile];
    return (int)((rows_of(w) + t->m - 1) / t->m * ((w->c_out + t->n - 1) / t->n));
}

int sp_cu_tensor_splits(const sp_cu_window *w, int half, int tile, int processors)
{
    int each = ROW_BYTES / (half ? 2 : 4), k_tiles = (inner_of(w) + each - 1) / each;
    int tiles = sp_cu_tensor_tile_count(w, tile);
    if (tiles < 1 || k_tiles < 4) return 1;
    int wanted = 2 * processors / tiles, most = k_tiles / 2;
    int splits = wanted < most ? wanted : most;
    if (splits > 16) splits = 16;
    return splits < 2 ? 1 : splits;
}

size_t sp_cu_tensor_workspace(const sp_cu_window *w, int splits)
{
    return splits > 1 ? (size_t)splits * (size_t)(rows_of(w) * w->c_out) * sizeof(float) : 0;
}

void sp_cu_tensor(const sp_cu_window *given, const sp_cu_epilogue *e, int half, int tile,
                  int splits, void *workspace, unsigned *arrivals, const void *x,
                  const void *weight, const void *bias, const void *residual, void *y,
                  cudaStream_t stream)
{
    const sp_cu_window wide = widened(given), *w = &wide;
    const tile_shape *t = &shapes[tile];
    int each = ROW_BYTES / (half ? 2 : 4), chunk = half ? 8 : 4;
    tensor_args a = {*w,       *e, rows_of(w), w->c_out, inner_of(w), splits, 0, (float *)workspace,
                     arrivals, x,  weight,     bias,     residual,    y};
    int k_tiles = (a.k + each - 1) / each;
    a.k_tiles = (k_tiles + splits - 1) / splits;
    a.splits = (k_tiles + a.k_tiles - 1) / a.k_tiles;
    if (a.rows <= 0 || a.n <= 0) return;
    dim3 grid((unsigned)((a.rows + t->m - 1) / t->m), (unsigned)((a.n + t->n - 1) / t->n),
              (unsigned)a.splits);
    bool whole = w->c_in % chunk == 0 && ((uintptr_t)x | (uintptr_t)weight) % 16 == 0 &&
                 w->x_n % chunk == 0 && w->x_s[1] % chunk == 0 && w->x_s[2] % chunk == 0;
    if (half)
        whole ? launch_tile<__half, true>(a, tile, grid, stream)
              : launch_tile<__half, false>(a, tile, grid, stream);
    else
        whole ? launch_tile<float, true>(a, tile, grid, stream)
              : launch_tile<float, false>(a, tile, grid, stream);
}
