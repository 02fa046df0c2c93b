/* Convolutions of 3x3 in float32 after Winograd, F(4x4, 3x3): tiles of 6x6 of the image and the
 * weights are transformed, which leaves 36 products [tile][c_in] x [c_in][c_out] with a quarter of
 * the multiplications, and their results are transformed back. Channels vary fastest, stride 1.
 * Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308. */
#include "kernels/cuda/common.cuh"

#define POINTS 36

static __device__ __forceinline__ void input_line(float (&v)[6])
{
    const float a = v[4] - 4 * v[2], b = v[3] - 4 * v[1], c = v[4] - v[2], d = 2 * (v[3] - v[1]);
    const float first = 4 * v[0] - 5 * v[2] + v[4], last = 4 * v[1] - 5 * v[3] + v[5];
    v[0] = first;
    v[1] = a + b;
    v[2] = a - b;
    v[3] = c + d;
    v[4] = c - d;
    v[5] = last;
}

static __device__ __forceinline__ void weight_line(const float (&g)[3], float (&v)[6])
{
    const float even = g[0] + g[2], four = g[0] * (1.0f / 24) + g[2] * (1.0f / 6);
    v[0] = g[0] * 0.25f;
    v[1] = (even + g[1]) * (-1.0f / 6);
    v[2] = (even - g[1]) * (-1.0f / 6);
    v[3] = four + g[1] * (1.0f / 12);
    v[4] = four - g[1] * (1.0f / 12);
    v[5] = g[2];
}

static __device__ __forceinline__ void output_line(const float (&m)[6], float (&v)[4])
{
    const float a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
    v[0] = m[0] + a + c;
    v[1] = b + 2 * d;
    v[2] = a + 4 * c;
    v[3] = b + 8 * d + m[5];
}

typedef struct tiles {
    int across, down; /* of one image */
    int64_t count;    /* of all */
} tiles;

static tiles tiles_of(const sp_cu_window *w)
{
    tiles t = {(w->out[2] + 3) / 4, (w->out[1] + 3) / 4, 0};
    t.count = (int64_t)w->n * t.across * t.down;
    return t;
}

/* [c_out][9][c_in] to [36][c_out][c_in]. */
static __global__ void weight_kernel(const float *f, float *u, int64_t c_out, int64_t c_in)
{
    SP_CU_FOR(i, c_out * c_in)
    {
        const int64_t n = i / c_in, c = i - n * c_in;
        float half[6][3], v[6];
#pragma unroll
        for (int x = 0; x < 3; x++) {
            float g[3];
#pragma unroll
            for (int y = 0; y < 3; y++) g[y] = f[(n * 9 + y * 3 + x) * c_in + c];
            weight_line(g, v);
#pragma unroll
            for (int y = 0; y < 6; y++) half[y][x] = v[y];
        }
#pragma unroll
        for (int y = 0; y < 6; y++) {
            weight_line(half[y], v);
#pragma unroll
            for (int x = 0; x < 6; x++) u[((y * 6 + x) * c_out + n) * c_in + c] = v[x];
        }
    }
}

/* One channel of one tile a thread. */
static __global__ void __launch_bounds__(256)
    input_kernel(sp_cu_window w, tiles t, const float *__restrict__ x, float *__restrict__ to)
{
    const int64_t count = t.count * w.c_in;
    SP_CU_FOR(i, count)
    {
        const int64_t tile = i / w.c_in;
        const int c = (int)(i - tile * w.c_in), tx = (int)(tile % t.across),
                  row = (int)(tile / t.across), ty = row % t.down, n = row / t.down;
        const float *image = x + n * w.x_n + c;
        const int y0 = ty * 4 - w.begin[1], x0 = tx * 4 - w.begin[2];
        float d[6][6];
#pragma unroll
        for (int y = 0; y < 6; y++)
#pragma unroll
            for (int k = 0; k < 6; k++) {
                const int h = y0 + y, v = x0 + k;
                const bool in = (unsigned)h < (unsigned)w.in[1] && (unsigned)v < (unsigned)w.in[2];
                d[y][k] = in ? __ldg(image + h * w.x_s[1] + v * w.x_s[2]) : 0.0f;
            }
#pragma unroll
        for (int k = 0; k < 6; k++) {
            float column[6];
#pragma unroll
            for (int y = 0; y < 6; y++) column[y] = d[y][k];
            input_line(column);
#pragma unroll
            for (int y = 0; y < 6; y++) d[y][k] = column[y];
        }
#pragma unroll
        for (int y = 0; y < 6; y++) {
            input_line(d[y]);
#pragma unroll
            for (int k = 0; k < 6; k++) to[(y * 6 + k) * count + i] = d[y][k];
        }
    }
}

static __global__ void __launch_bounds__(256)
    output_kernel(sp_cu_window w, sp_cu_epilogue e, tiles t, const float *__restrict__ m,
                  const float *__restrict__ bias, const float *residual, float *y)
{
    const int64_t count = t.count * w.c_out;
    SP_CU_FOR(i, count)
    {
        const int64_t tile = i / w.c_out;
        const int c = (int)(i - tile * w.c_out), tx = (int)(tile % t.across),
                  row = (int)(tile / t.across), ty = row % t.down, n = row / t.down;
        float half[4][6], v[4];
#pragma unroll
        for (int k = 0; k < 6; k++) {
            float column[6];
#pragma unroll
            for (int r = 0; r < 6; r++) column[r] = m[(r * 6 + k) * count + i];
            output_line(column, v);
#pragma unroll
            for (int r = 0; r < 4; r++) half[r][k] = v[r];
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
            output_line(half[r], v);
            const int h = ty * 4 + r;
            if (h >= w.out[1]) break;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const int u = tx * 4 + k;
                if (u >= w.out[2]) break;
                const int64_t at = n * w.y_n + h * w.y_s[1] + u * w.y_s[2] + c;
                y[at] = sp_cu_finish(e, v[k], bias, c, residual, at);
            }
        }
    }
}

int sp_cu_winograd_can(const sp_cu_window *w)
{
    return w->group == 1 && w->in[0] == 1 && w->out[0] == 1 && w->kernel[0] == 1 &&
           w->kernel[1] == 3 && w->kernel[2] == 3 && w->stride[1] == 1 && w->stride[2] == 1 &&
           w->dilation[1] == 1 && w->dilation[2] == 1 && w->x_c == 1 && w->y_c == 1 &&
           w->c_in > 0 && w->c_out > 0 && tiles_of(w).count * w->c_in < INT32_MAX &&
           tiles_of(w).count * w->c_out < INT32_MAX;
}

int64_t sp_cu_winograd_tiles(const sp_cu_window *w)
{
    return tiles_of(w).count;
}

void sp_cu_winograd_weight(const float *weight, float *u, int64_t c_out, int64_t c_in,
                           cudaStream_t stream)
{
    weight_kernel<<<sp_cu_blocks(c_out * c_in, 128), 128, 0, stream>>>(weight, u, c_out, c_in);
}

void sp_cu_winograd_input(const sp_cu_window *w, const float *x, float *to, cudaStream_t stream)
{
    const tiles t = tiles_of(w);
    if (t.count <= 0) return;
    input_kernel<<<sp_cu_blocks(t.count * w->c_in, 128), 128, 0, stream>>>(*w, t, x, to);
}

void sp_cu_winograd_output(const sp_cu_window *w, const sp_cu_epilogue *e, const float *m,
                           const float *bias, const float *residual, float *y, cudaStream_t stream)
{
    const tiles t = tiles_of(w);
    if (t.count <= 0) return;
    output_kernel<<<sp_cu_blocks(t.count * w->c_out, 128), 128, 0, stream>>>(*w, *e, t, m, bias,
                                                                             residual, y);
}
