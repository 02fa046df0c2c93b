/* Convolutions of images with few channels (the first of a network) in float16, channel last: all
 * taps and channels of a pixel are one step of 32 elements of the inner dimension on tensor cores.
 * A block takes the part of the image that it needs into shared memory once. Needs sm_80. */
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/vec.cuh"

#pragma nv_diag_suppress 177 /* what sm_75 has no use for */

#define WARPS 8    /* rows of a block's pixels */
#define PIXELS 32  /* of a row */
#define INNER 32   /* most taps times channels */
#define BLOCKS 264 /* most, two for each multiprocessor of an H200 */
#define VECTORS 3  /* most that a thread brings of a block's part of the image */
#define PITCH_F 40 /* elements of a row of weights: rows of a quarter warp lie in other banks */

typedef struct few_args {
    sp_cu_window w;
    sp_cu_light act;
    int k, rows, vectors; /* taps times channels; the part of the image: rows, 16 bytes of a row */
    uint32_t wide, high, tiles; /* blocks of pixels: in a row, in a column, in all images */
    const __half *x, *f, *bias;
    __half *y;
} few_args;

/* A block of pixels: its image, its first pixel, and the first element of its part of a row. */
typedef struct few_tile {
    int n, oh, ow, begin;
} few_tile;

static __device__ __forceinline__ few_tile tile_of(const few_args &a, uint32_t i)
{
    uint32_t row = i / a.wide, n = row / a.high;
    few_tile t;
    t.n = (int)n;
    t.oh = (int)(row - n * a.high) * WARPS;
    t.ow = (int)(i - row * a.wide) * PIXELS;
    t.begin = (t.ow * a.w.stride[2] - a.w.begin[2]) * a.w.c_in;
    return t;
}

/* What this thread brings of the part of the image: vectors from a multiple of eight elements on,
 * as the image's width is one; zeros beyond the image. r, c: row and vector of each. */
static __device__ __forceinline__ void load_image(const few_args &a, const few_tile &t,
                                                  const int (&r)[VECTORS], const int (&c)[VECTORS],
                                                  uint4 (&v)[VECTORS])
{
    const uint4 *x = (const uint4 *)(a.x + t.n * a.w.x_n);
    int line = a.w.in[2] * a.w.c_in / 8, h0 = t.oh * a.w.stride[1] - a.w.begin[1];
    int c0 = t.begin >> 3;
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        bool in = r[k] >= 0 && (unsigned)(h0 + r[k]) < (unsigned)a.w.in[1] &&
                  (unsigned)(c0 + c[k]) < (unsigned)line;
        v[k] = make_uint4(0, 0, 0, 0);
        if (in) v[k] = __ldg(x + (h0 + r[k]) * line + c0 + c[k]);
    }
}

template <int GROUPS>
static __device__ __forceinline__ void load_weights(const few_args &a, __half *to)
{
    for (int i = threadIdx.x; i < GROUPS * 32 * INNER; i += WARPS * 32) {
        int n = i / INNER, k = i % INNER;
        to[n * PITCH_F + k] = n < a.w.c_out && k < a.k ? __ldg(a.f + n * a.k + k) : (__half)0.0f;
    }
}

template <int GROUPS>
static __device__ __forceinline__ void finish(const few_args &a, const float (&sum)[GROUPS * 4][4],
                                              const uint4 (&bias)[GROUPS], int n, int oh, int ow)
{
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        int c = (g * 4 + (int)threadIdx.x % 4) * 8;
        if (c >= a.w.c_out) continue;
        float b[8];
        sp_cu_unpack(bias[g], b);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float r[8];
#pragma unroll
            for (int k = 0; k < 8; k++) r[k] = sum[g * 4 + k / 2][h * 2 + k % 2] + b[k];
            sp_cu_light_run(a.act, r);
            if (ow + h * 8 < a.w.out[2])
                *(uint4 *)(a.y +
                           (((int64_t)n * a.w.out[1] + oh) * a.w.out[2] + ow + h * 8) * a.w.c_out +
                           c) = sp_cu_pack(r);
        }
    }
}

/* The pixels of a warp: a row of 32. at, mask: where the elements of the inner dimension that this
 * lane has lie behind a pixel's first, and which there are. */
template <int GROUPS>
static __device__ __forceinline__ void
multiply(const few_args &a, const few_tile &t, const unsigned short *image, const int (&at)[8],
         const unsigned (&mask)[4], const uint4 (&b)[GROUPS * 4], const uint4 (&bias)[GROUPS])
{
    int lane = threadIdx.x % 32, step = a.w.stride[2] * a.w.c_in;
    const unsigned short *from = image + (t.begin & 7) + lane / 4 * step;
#pragma unroll
    for (int i = 0; i < PIXELS / 16; i++) {
        uint32_t v[2][4];
        float sum[GROUPS * 4][4];
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const unsigned short *p = from + (i * 16 + h * 8) * step;
                v[h][k] = ((unsigned)p[at[2 * k]] | (unsigned)p[at[2 * k + 1]] << 16) & mask[k];
            }
        const uint32_t one[4] = {v[0][0], v[1][0], v[0][1], v[1][1]},
                       two[4] = {v[0][2], v[1][2], v[0][3], v[1][3]};
#pragma unroll
        for (int k = 0; k < GROUPS * 4; k++) {
            const uint32_t first[2] = {b[k].x, b[k].y}, second[2] = {b[k].z, b[k].w};
            sum[k][0] = sum[k][1] = sum[k][2] = sum[k][3] = 0;
            sp_cu_mma<__half>(sum[k], one, first);
            sp_cu_mma<__half>(sum[k], two, second);
        }
        finish<GROUPS>(a, sum, bias, t.n, t.oh + (int)threadIdx.x / 32, t.ow + i * 16 + lane / 4);
    }
}

/* A warp has a row of 32 pixels and GROUPS times 32 output channels, dealt out as in thin.cu. A
 * block goes from tile to tile; the next one's part of the image is under way meanwhile. */
template <int GROUPS> static __global__ void __launch_bounds__(WARPS * 32) few_kernel(few_args a)
{
#if __CUDA_ARCH__ >= 800
    __shared__ __align__(16) __half f[GROUPS * 32 * PITCH_F];
    extern __shared__ uint4 image[];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, pitch = a.vectors * 8;
    int at[8], r[VECTORS], c[VECTORS];
    unsigned mask[4];
    uint4 b[GROUPS * 4], bias[GROUPS], v[VECTORS];
    uint32_t i = blockIdx.x;
    few_tile t = tile_of(a, i);
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        int p = (int)threadIdx.x + k * WARPS * 32;
        r[k] = p / a.vectors;
        c[k] = p - r[k] * a.vectors;
        if (r[k] >= a.rows) r[k] = -1;
    }
    load_image(a, t, r, c, v);
    load_weights<GROUPS>(a, f);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        int p = lane % 4 * 8 + k, tap = p / a.w.c_in;
        int kh = tap / a.w.kernel[2], kw = tap - kh * a.w.kernel[2];
        bool in = p < a.k;
        at[k] =
            in ? kh * a.w.dilation[1] * pitch + kw * a.w.dilation[2] * a.w.c_in + p - tap * a.w.c_in
               : 0;
        unsigned half = in ? 0xffffu : 0u;
        mask[k / 2] = k % 2 ? mask[k / 2] | half << 16 : half;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < GROUPS * 4; k++) {
        int column = lane / 4, row = k / 4 * 32 + column / 2 * 8 + k % 4 * 2 + column % 2;
        b[k] = *(const uint4 *)(f + row * PITCH_F + lane % 4 * 8);
    }
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        int n = (g * 4 + lane % 4) * 8;
        bias[g] = make_uint4(0, 0, 0, 0);
        if (a.bias && n < a.w.c_out) bias[g] = __ldg((const uint4 *)(a.bias + n));
    }
    for (; i < a.tiles; i += gridDim.x) {
        few_tile now = t;
#pragma unroll
        for (int k = 0; k < VECTORS; k++)
            if (r[k] >= 0) image[r[k] * a.vectors + c[k]] = v[k];
        __syncthreads();
        if (i + gridDim.x < a.tiles) {
            t = tile_of(a, i + gridDim.x);
            load_image(a, t, r, c, v);
        }
        if (now.oh + warp < a.w.out[1])
            multiply<GROUPS>(a, now, (const unsigned short *)image + warp * a.w.stride[1] * pitch,
                             at, mask, b, bias);
        __syncthreads();
    }
#else
    (void)a;
#endif
}

static few_args args_of(const sp_cu_window *w)
{
    few_args a = {};
    a.w = *w;
    a.k = w->c_in * w->kernel[1] * w->kernel[2];
    a.rows = (WARPS - 1) * w->stride[1] + (w->kernel[1] - 1) * w->dilation[1] + 1;
    int wide = (PIXELS - 1) * w->stride[2] + (w->kernel[2] - 1) * w->dilation[2] + 1;
    a.vectors = (wide * w->c_in + 7 + 7) / 8; /* up to seven elements come before the first */
    a.wide = (uint32_t)(w->out[2] + PIXELS - 1) / PIXELS;
    a.high = (uint32_t)(w->out[1] + WARPS - 1) / WARPS;
    a.tiles = a.wide * a.high * (uint32_t)w->n;
    return a;
}

int sp_cu_few_can(const sp_cu_window *w, const sp_cu_epilogue *e)
{
    sp_cu_light act;
    int64_t taps = (int64_t)w->kernel[1] * w->kernel[2];
    if (w->group != 1 || (int64_t)w->in[2] * w->c_in % 8 != 0 ||
        (int64_t)w->in[1] * w->in[2] * w->c_in > INT32_MAX || w->in[0] != 1 || w->out[0] != 1 ||
        w->kernel[0] != 1 || w->x_c != 1 || w->y_c != 1 || taps > INNER || w->c_in * taps > INNER ||
        w->c_out % 8 != 0 || w->c_out > 64 || (int64_t)w->n * w->out[1] * w->out[2] > INT32_MAX ||
        e->residual || w->stride[1] > 4 || w->stride[2] > 4 || w->dilation[1] > 4 ||
        w->dilation[2] > 4)
        return 0;
    few_args a = args_of(w);
    return a.rows * a.vectors <= VECTORS * WARPS * 32 && sp_cu_light_of(e, &act);
}

void sp_cu_few(const sp_cu_window *w, const sp_cu_epilogue *e, const void *x, const void *weight,
               const void *bias, void *y, cudaStream_t stream)
{
    few_args a = args_of(w);
    sp_cu_light_of(e, &a.act);
    a.x = (const __half *)x;
    a.f = (const __half *)weight;
    a.bias = (const __half *)bias;
    a.y = (__half *)y;
    if ((int64_t)w->n * w->out[1] * w->out[2] <= 0) return;
    unsigned grid = a.tiles < BLOCKS ? a.tiles : BLOCKS;
    size_t shared = (size_t)a.rows * a.vectors * 16;
    if (w->c_out <= 32)
        few_kernel<1><<<grid, WARPS * 32, shared, stream>>>(a);
    else
        few_kernel<2><<<grid, WARPS * 32, shared, stream>>>(a);
}
