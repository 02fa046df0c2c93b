/* Convolutions that need no library: any convolution as an implicit matrix product, and transposed
 * ones. Bias, activation and residual are applied where the result is written. */
#include "kernels/cuda/common.cuh"

#pragma nv_diag_suppress 128 /* a loop that one instance of a template leaves after one turn */

/* ---- implicit product ---- */

#define TK 16 /* of the inner dimension in one tile */

/* Which part of the inner dimension a block sums up, and where to: partial sums
 * [split][pixel][channel], or NULL. */
typedef struct conv_split {
    int splits, k_each;
    float *partial;
} conv_split;

/* One pixel whose elements this thread loads. */
typedef struct conv_row {
    const float *image;
    int o[3];
    bool inside;
} conv_row;

static __device__ conv_row row_of(const sp_cu_window &w, const float *x, int64_t p, int64_t pixels,
                                  int group, int cig)
{
    conv_row r;
    r.inside = p < pixels;
    if (!r.inside) p = 0;
    for (int d = 2; d >= 0; d--) {
        r.o[d] = (int)(p % w.out[d]) * w.stride[d] - w.begin[d];
        p /= w.out[d];
    }
    r.image = x + p * w.x_n + (int64_t)group * cig * w.x_c;
    return r;
}

/* Four elements of a pixel from k on. VEC: they are neighbours in x, all of one tap. */
template <bool VEC>
static __device__ float4 load_pixel(const sp_cu_window &w, const conv_row &r, int k, int end,
                                    int cig)
{
    __align__(16) float v[4] = {0, 0, 0, 0};
    for (int j = 0, step = VEC ? 4 : 1; j < 4; j += step) {
        if (!r.inside || k + j >= end) break;
        int t = (k + j) / cig, c = k + j - t * cig;
        int q = t / w.kernel[2], x = (t - q * w.kernel[2]) * w.dilation[2] + r.o[2];
        int z = q / w.kernel[1], y = (q - z * w.kernel[1]) * w.dilation[1] + r.o[1];
        z = z * w.dilation[0] + r.o[0];
        if (x < 0 || x >= w.in[2] || y < 0 || y >= w.in[1] || z < 0 || z >= w.in[0]) continue;
        const float *at = r.image + z * w.x_s[0] + y * w.x_s[1] + x * w.x_s[2] + c * w.x_c;
        if (VEC)
            *(float4 *)v = *(const float4 *)at;
        else
            v[j] = *at;
    }
    return make_float4(v[0], v[1], v[2], v[3]);
}

template <bool VEC>
static __device__ float4 load_filter(const float *row, bool inside, int k, int end)
{
    float v[4] = {0, 0, 0, 0};
    if (!inside || k >= end) return make_float4(0, 0, 0, 0);
    if (VEC) return *(const float4 *)(row + k);
    for (int j = 0; j < 4 && k + j < end; j++) v[j] = row[k + j];
    return make_float4(v[0], v[1], v[2], v[3]);
}

/* Four consecutive k of row m. */
template <int M>
static __device__ __forceinline__ void put(float (*tile)[M + 4], int k, int m, float4 v)
{
    tile[k][m] = v.x;
    tile[k + 1][m] = v.y;
    tile[k + 2][m] = v.z;
    tile[k + 3][m] = v.w;
}

static __device__ void finish_pixel(const sp_cu_window &w, const sp_cu_epilogue &e, int64_t pixel,
                                    int channel, float v, const float *bias, const float *residual,
                                    float *y)
{
    int64_t at = (int64_t)channel * w.y_c, q = pixel;
    for (int d = 2; d >= 0; d--) {
        at += q % w.out[d] * w.y_s[d];
        q /= w.out[d];
    }
    at += q * w.y_n;
    y[at] = sp_cu_finish(e, v, bias, channel, residual, at);
}

/* Rows of the product are output pixels, columns output channels of one group, the inner dimension
 * the taps' input channels. blockIdx.z: group and split. Tiles of M x M; threads lie M / 8 x 16 and
 * have 8 x M / 16 results each, in groups of four columns; the next tile is loaded while this one
 * is multiplied. */
template <bool VEC, int M>
static __global__ void __launch_bounds__(M * 2)
    conv_kernel(sp_cu_window w, sp_cu_epilogue e, conv_split split, const float *__restrict__ x,
                const float *__restrict__ f, const float *__restrict__ bias, const float *residual,
                float *y)
{
    enum { STEP = M / 2, GROUPS = M / 64 };
    __shared__ __align__(16) float a[2][TK][M + 4], b[2][TK][M + 4];
    int cig = w.c_in / w.group, cog = w.c_out / w.group;
    int64_t pixels = (int64_t)w.n * w.out[0] * w.out[1] * w.out[2];
    int k_total = cig * w.kernel[0] * w.kernel[1] * w.kernel[2];
    int group = blockIdx.z / split.splits, part = blockIdx.z % split.splits;
    int first = part * split.k_each, end = min(k_total, first + split.k_each);
    int64_t m0 = (int64_t)blockIdx.x * M;
    int n0 = blockIdx.y * M, tid = threadIdx.x, lm = tid / 4, lk = tid % 4 * 4;
    conv_row rows[2];
    const float *filter[2];
    bool has[2];
    for (int i = 0; i < 2; i++) {
        rows[i] = row_of(w, x, m0 + lm + i * STEP, pixels, group, cig);
        has[i] = n0 + lm + i * STEP < cog;
        filter[i] = f + ((int64_t)group * cog + n0 + lm + i * STEP) * k_total;
    }
    float sum[8][4 * GROUPS];
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 4 * GROUPS; j++) sum[i][j] = 0;
    for (int i = 0; i < 2; i++) {
        put<M>(a[0], lk, lm + i * STEP, load_pixel<VEC>(w, rows[i], first + lk, end, cig));
        put<M>(b[0], lk, lm + i * STEP, load_filter<VEC>(filter[i], has[i], first + lk, end));
    }
    __syncthreads();
    int ty = tid / 16 * 8, tx = tid % 16 * 4, now = 0;
    for (int k0 = first; k0 < end; k0 += TK, now ^= 1) {
        float4 na[2], nb[2];
        bool more = k0 + TK < end;
        for (int i = 0; i < 2 && more; i++) {
            na[i] = load_pixel<VEC>(w, rows[i], k0 + TK + lk, end, cig);
            nb[i] = load_filter<VEC>(filter[i], has[i], k0 + TK + lk, end);
        }
#pragma unroll
        for (int k = 0; k < TK; k++) {
            float4 p = *(const float4 *)&a[now][k][ty], q = *(const float4 *)&a[now][k][ty + 4];
            float fa[8] = {p.x, p.y, p.z, p.w, q.x, q.y, q.z, q.w};
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                float4 r = *(const float4 *)&b[now][k][tx + g * 64];
                float fb[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
                for (int i = 0; i < 8; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) sum[i][g * 4 + j] += fa[i] * fb[j];
            }
        }
        if (more)
            for (int i = 0; i < 2; i++) {
                put<M>(a[now ^ 1], lk, lm + i * STEP, na[i]);
                put<M>(b[now ^ 1], lk, lm + i * STEP, nb[i]);
            }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 4 * GROUPS; j++) {
            int64_t m = m0 + ty + i;
            int n = n0 + tx + j / 4 * 64 + j % 4, c = group * cog + n;
            if (m >= pixels || n >= cog) continue;
            if (split.partial)
                split.partial[(part * pixels + m) * w.c_out + c] = sum[i][j];
            else
                finish_pixel(w, e, m, c, sum[i][j], bias, residual, y);
        }
}

/* Adds up the parts, always in the same order. */
static __global__ void join_kernel(sp_cu_window w, sp_cu_epilogue e, conv_split split,
                                   int64_t pixels, const float *bias, const float *residual,
                                   float *y)
{
    int64_t n = pixels * w.c_out;
    SP_CU_FOR(i, n)
    {
        float v = 0;
        for (int s = 0; s < split.splits; s++) v += split.partial[s * n + i];
        int64_t pixel = i / w.c_out;
        finish_pixel(w, e, pixel, (int)(i - pixel * w.c_out), v, bias, residual, y);
    }
}

static int64_t pixels_of(const sp_cu_window *w)
{
    return (int64_t)w->n * w->out[0] * w->out[1] * w->out[2];
}

int sp_cu_conv_splits(const sp_cu_window *w, int large, int processors)
{
    int64_t cog = w->c_out / w->group, size = large ? 128 : 64;
    int64_t tiles = (pixels_of(w) + size - 1) / size * ((cog + size - 1) / size) * w->group;
    int64_t k = (int64_t)(w->c_in / w->group) * w->kernel[0] * w->kernel[1] * w->kernel[2];
    if (tiles < 1) return 1;
    int64_t wanted = (large ? 2 : 3) * (int64_t)processors / tiles, most = k / (TK * 4);
    int64_t splits = wanted < most ? wanted : most;
    if (splits > 32) splits = 32;
    return splits * w->group > 65535 || splits < 2 ? 1 : (int)splits;
}

size_t sp_cu_conv_workspace(const sp_cu_window *w, int splits)
{
    return splits > 1 ? (size_t)splits * (size_t)(pixels_of(w) * w->c_out) * sizeof(float) : 0;
}

template <int M>
static void launch_conv(const sp_cu_window *w, const sp_cu_epilogue *e, const conv_split *split,
                        bool quads, const float *x, const float *weight, const float *bias,
                        const float *residual, float *y, cudaStream_t stream)
{
    dim3 grid((unsigned)((pixels_of(w) + M - 1) / M), (unsigned)((w->c_out / w->group + M - 1) / M),
              (unsigned)(w->group * split->splits));
    if (quads)
        conv_kernel<true, M>
            <<<grid, M * 2, 0, stream>>>(*w, *e, *split, x, weight, bias, residual, y);
    else
        conv_kernel<false, M>
            <<<grid, M * 2, 0, stream>>>(*w, *e, *split, x, weight, bias, residual, y);
}

void sp_cu_conv(const sp_cu_window *w, const sp_cu_epilogue *e, int large, int splits,
                void *workspace, const float *x, const float *weight, const float *bias,
                const float *residual, float *y, cudaStream_t stream)
{
    int64_t pixels = pixels_of(w);
    int cig = w->c_in / w->group, cog = w->c_out / w->group;
    if (pixels <= 0 || cog <= 0) return;
    int k = cig * w->kernel[0] * w->kernel[1] * w->kernel[2];
    conv_split split = {splits, ((k + splits - 1) / splits + TK - 1) / TK * TK,
                        splits > 1 ? (float *)workspace : NULL};
    bool quads = cig % 4 == 0 && w->x_c == 1 && ((uintptr_t)x | (uintptr_t)weight) % 16 == 0;
    for (int d = 0; d < 3; d++) quads = quads && w->x_s[d] % 4 == 0;
    quads = quads && w->x_n % 4 == 0;
    if (large)
        launch_conv<128>(w, e, &split, quads, x, weight, bias, residual, y, stream);
    else
        launch_conv<64>(w, e, &split, quads, x, weight, bias, residual, y, stream);
    if (split.partial)
        join_kernel<<<sp_cu_blocks(pixels * w->c_out, 128), 128, 0, stream>>>(*w, *e, split, pixels,
                                                                              bias, residual, y);
}

/* ---- transposed ---- */

/* Gathered: one thread an output, over the taps that reach it. c_in and c_out are those of the
 * node; in is x's size, out is y's. */
static __global__ void transpose_kernel(sp_cu_window w, sp_cu_epilogue e, int64_t count,
                                        const float *__restrict__ x, const float *__restrict__ f,
                                        const float *__restrict__ bias, const float *residual,
                                        float *y)
{
    int cig = w.c_in / w.group, cog = w.c_out / w.group;
    SP_CU_FOR(i, count)
    {
        int64_t q = i / w.c_out;
        int c = (int)(i - q * w.c_out), at[3];
        for (int d = 2; d >= 0; d--) {
            at[d] = (int)(q % w.out[d]);
            q /= w.out[d];
        }
        int g = c / cog;
        const float *image = x + q * w.x_n + (int64_t)g * cig * w.x_c;
        int taps = w.kernel[0] * w.kernel[1] * w.kernel[2];
        const float *filter = f + (int64_t)g * taps * cig * cog + (c - g * cog);
        float sum = 0;
        for (int t = 0; t < taps; t++) {
            int k[3] = {t / (w.kernel[1] * w.kernel[2]), t / w.kernel[2] % w.kernel[1],
                        t % w.kernel[2]};
            int64_t from = 0;
            bool hit = true;
            for (int d = 0; d < 3; d++) {
                int v = at[d] + w.begin[d] - k[d] * w.dilation[d];
                hit = hit && v >= 0 && v % w.stride[d] == 0 && v / w.stride[d] < w.in[d];
                from += v / w.stride[d] * w.x_s[d];
            }
            if (!hit) continue;
            const float *row = filter + (int64_t)t * cig * cog;
            for (int j = 0; j < cig; j++) sum += image[from + j * w.x_c] * row[(int64_t)j * cog];
        }
        int64_t to = q * w.y_n + c * w.y_c + at[0] * w.y_s[0] + at[1] * w.y_s[1] + at[2] * w.y_s[2];
        y[to] = sp_cu_finish(e, sum, bias, c, residual, to);
    }
}

void sp_cu_conv_transpose(const sp_cu_window *w, const sp_cu_epilogue *e, const float *x,
                          const float *weight, const float *bias, const float *residual, float *y,
                          cudaStream_t stream)
{
    int64_t count = (int64_t)w->n * w->c_out * w->out[0] * w->out[1] * w->out[2];
    if (count <= 0) return;
    transpose_kernel<<<sp_cu_blocks(count, 128), 128, 0, stream>>>(*w, *e, count, x, weight, bias,
                                                                   residual, y);
}
