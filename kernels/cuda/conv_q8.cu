/* Convolutions and products of 8-bit values with sums of 32 bits, four values an instruction. Both
 * operands are made signed as they are loaded (v - 128 for unsigned ones, and their zero points
 * with them). With zero points p and r
 *   sum (x - p)(f - r) = sum x f - r sum x - p sum f + k p r,
 * so that the products need no subtraction. */
#include "kernels/cuda/quant.cuh"

#define TILE 64
#define STEP 16 /* words of four values */

typedef struct q8_args {
    sp_cu_window w;
    sp_cu_q8 q;
    int64_t f_n, f_k, pixels;
    const uint8_t *x, *f;
    void *y;
} q8_args;

/* Zero points of values that were made signed. */
static __device__ __forceinline__ int x_zero_of(const sp_cu_q8 &q)
{
    return sp_cu_zero(q.x_zero, q.x_signed, 0) - (q.x_signed ? 0 : 128);
}

static __device__ __forceinline__ int w_zero_of(const sp_cu_q8 &q, int channel)
{
    return sp_cu_zero(q.w_zero, q.w_signed, q.w_zeros > 1 ? channel : 0) - (q.w_signed ? 0 : 128);
}

static __device__ __forceinline__ int dot4(int a, int b, int c)
{
    return __dp4a(a, b, c);
}

/* One pixel whose values this thread loads. */
typedef struct q8_row {
    const uint8_t *image;
    int o[3];
    bool inside;
} q8_row;

static __device__ q8_row row_of(const q8_args &a, int64_t p, int group, int cig)
{
    q8_row r;
    r.inside = p < a.pixels;
    if (!r.inside) p = 0;
    for (int d = 2; d >= 0; d--) {
        r.o[d] = (int)(p % a.w.out[d]) * a.w.stride[d] - a.w.begin[d];
        p /= a.w.out[d];
    }
    r.image = a.x + p * a.w.x_n + (int64_t)group * cig * a.w.x_c;
    return r;
}

/* Address of value k of a pixel's window; NULL: in the padding. */
static __device__ const uint8_t *value_at(const q8_args &a, const q8_row &r, int k, int cig)
{
    const sp_cu_window &w = a.w;
    int t = k / cig, c = k - t * cig;
    int q = t / w.kernel[2], x = (t - q * w.kernel[2]) * w.dilation[2] + r.o[2];
    int z = q / w.kernel[1], y = (q - z * w.kernel[1]) * w.dilation[1] + r.o[1];
    z = z * w.dilation[0] + r.o[0];
    if (x < 0 || x >= w.in[2] || y < 0 || y >= w.in[1] || z < 0 || z >= w.in[0]) return NULL;
    return r.image + z * w.x_s[0] + y * w.x_s[1] + x * w.x_s[2] + c * w.x_c;
}

/* Four values of a pixel from k on. WORDS: they are one aligned word. */
template <bool WORDS>
static __device__ int load_x(const q8_args &a, const q8_row &r, int k, int end, int cig, int zero)
{
    const int flip = a.q.x_signed ? 0 : (int)0x80808080u;
    if (!r.inside || k >= end) return 0;
    if (WORDS) {
        const uint8_t *at = value_at(a, r, k, cig);
        return at ? *(const int *)at ^ flip : (zero & 0xff) * 0x01010101;
    }
    unsigned v = 0;
    for (int j = 0; j < 4 && k + j < end; j++) {
        const uint8_t *at = value_at(a, r, k + j, cig);
        unsigned e = at ? (unsigned)(*at ^ (flip & 0xff)) : (unsigned)(zero & 0xff);
        v |= e << (j * 8);
    }
    return (int)v;
}

template <bool WORDS>
static __device__ int load_f(const q8_args &a, const uint8_t *row, bool inside, int k, int end)
{
    const int flip = a.q.w_signed ? 0 : (int)0x80808080u;
    if (!inside || k >= end) return 0;
    if (WORDS) return *(const int *)(row + k) ^ flip;
    unsigned v = 0;
    for (int j = 0; j < 4 && k + j < end; j++)
        v |= (unsigned)(row[(k + j) * a.f_k] ^ (flip & 0xff)) << (j * 8);
    return (int)v;
}

static __device__ void store(const q8_args &a, int64_t at, int channel, int sum)
{
    const sp_cu_q8 &q = a.q;
    if (q.raw) {
        ((int32_t *)a.y)[at] = sum;
        return;
    }
    if (q.bias) sum = (int)((unsigned)sum + (unsigned)q.bias[channel]);
    float scale = __fmul_rn(*q.x_scale, q.w_scale[q.w_scales > 1 ? channel : 0]) / *q.y_scale;
    int lo = q.y_signed ? -128 : 0;
    ((uint8_t *)a.y)[at] = (uint8_t)sp_cu_to_q(__fmul_rn((float)sum, scale),
                                               sp_cu_zero(q.y_zero, q.y_signed, 0), lo, lo + 255);
}

static __device__ int64_t pixel_at(const sp_cu_window &w, int64_t p)
{
    int64_t at = 0;
    for (int d = 2; d >= 0; d--) {
        at += p % w.out[d] * w.y_s[d];
        p /= w.out[d];
    }
    return at + p * w.y_n;
}

/* Rows are output pixels, columns output channels of a group; 16 x 16 threads have 4 x 4 results.
 * SUMS: the values are summed up, too, as a zero point asks for it. */
template <bool WORDS, bool SUMS> static __global__ void __launch_bounds__(256) q8_kernel(q8_args a)
{
    __shared__ __align__(16) int xs[STEP][TILE + 4], fs[STEP][TILE + 4];
    const int cig = a.w.c_in / a.w.group, cog = a.w.c_out / a.w.group, group = blockIdx.z;
    const int end = cig * a.w.kernel[0] * a.w.kernel[1] * a.w.kernel[2];
    const int64_t m0 = (int64_t)blockIdx.x * TILE;
    const int n0 = blockIdx.y * TILE, tid = threadIdx.x, lm = tid / 4, lk = tid % 4 * 4;
    const int zero = x_zero_of(a.q), ones = 0x01010101;
    const q8_row row = row_of(a, m0 + lm, group, cig);
    const bool has = n0 + lm < cog;
    const uint8_t *filter = a.f + ((int64_t)group * cog + (has ? n0 + lm : 0)) * a.f_n;
    int sum[4][4] = {}, sum_x[4] = {}, sum_f[4] = {};
    const int ty = tid / 16 * 4, tx = tid % 16 * 4;
    for (int k0 = 0; k0 < end; k0 += STEP * 4) {
        for (int i = 0; i < 4; i++) {
            int k = k0 + (lk + i) * 4;
            xs[lk + i][lm] = load_x<WORDS>(a, row, k, end, cig, zero);
            fs[lk + i][lm] = load_f<WORDS>(a, filter, has, k, end);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP; k++) {
            int4 p = *(const int4 *)&xs[k][ty], r = *(const int4 *)&fs[k][tx];
            const int u[4] = {p.x, p.y, p.z, p.w}, v[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (SUMS) {
                    sum_x[i] = dot4(u[i], ones, sum_x[i]);
                    sum_f[i] = dot4(v[i], ones, sum_f[i]);
                }
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = dot4(u[i], v[j], sum[i][j]);
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++) {
        int64_t m = m0 + ty + i;
        if (m >= a.pixels) break;
        int64_t at = pixel_at(a.w, m);
        for (int j = 0; j < 4 && n0 + tx + j < cog; j++) {
            int c = group * cog + n0 + tx + j, f_zero = SUMS ? w_zero_of(a.q, c) : 0;
            unsigned v = (unsigned)sum[i][j], total = (unsigned)(SUMS ? sum_f[j] : a.q.w_sums[c]);
            v -= (unsigned)zero * total;
            if (SUMS) v += (unsigned)f_zero * ((unsigned)end * (unsigned)zero - (unsigned)sum_x[i]);
            store(a, at + (int64_t)c * a.w.y_c, c, (int)v);
        }
    }
}

/* Few input channels for each output, depthwise above all: one thread an output. */
static __global__ void direct_kernel(q8_args a, int64_t count)
{
    const sp_cu_window &w = a.w;
    const int cig = w.c_in / w.group, cog = w.c_out / w.group;
    const int taps = w.kernel[0] * w.kernel[1] * w.kernel[2], flip_x = a.q.x_signed ? 0 : 128,
              flip_f = a.q.w_signed ? 0 : 128, zero = x_zero_of(a.q);
    SP_CU_FOR(i, count)
    {
        int64_t p = w.y_c == 1 ? i / w.c_out
                               : i / ((int64_t)w.c_out * w.out[0] * w.out[1] * w.out[2]) *
                                         w.out[0] * w.out[1] * w.out[2] +
                                     i % ((int64_t)w.out[0] * w.out[1] * w.out[2]);
        int c = w.y_c == 1 ? (int)(i - p * w.c_out)
                           : (int)(i / ((int64_t)w.out[0] * w.out[1] * w.out[2]) % w.c_out);
        q8_row r = row_of(a, p, c / cog, cig);
        const uint8_t *f = a.f + (int64_t)c * a.f_n;
        const int f_zero = w_zero_of(a.q, c);
        unsigned sum = 0;
        for (int k = 0; k < taps * cig; k++) {
            const uint8_t *at = value_at(a, r, k, cig);
            if (!at) continue;
            int u = (int)(int8_t)(*at ^ flip_x) - zero;
            int v = (int)(int8_t)(f[k * a.f_k] ^ flip_f) - f_zero;
            sum += (unsigned)(u * v);
        }
        store(a, pixel_at(w, p) + (int64_t)c * w.y_c, c, (int)sum);
    }
}

int sp_cu_conv_q8_direct(const sp_cu_window *w)
{
    return w->group > 1 && w->c_in / w->group < 4;
}

void sp_cu_conv_q8(const sp_cu_window *w, const sp_cu_q8 *q, int64_t f_n, int64_t f_k,
                   const void *x, const void *weight, void *y, cudaStream_t stream)
{
    q8_args a = {*w, *q, f_n, f_k, 0, (const uint8_t *)x, (const uint8_t *)weight, y};
    const int cig = w->c_in / w->group, cog = w->c_out / w->group;
    a.pixels = (int64_t)w->n * w->out[0] * w->out[1] * w->out[2];
    if (a.pixels <= 0 || cog <= 0) return;
    if (sp_cu_conv_q8_direct(w)) {
        int64_t count = a.pixels * w->c_out;
        direct_kernel<<<sp_cu_blocks(count, 128), 128, 0, stream>>>(a, count);
        return;
    }
    bool words = cig % 4 == 0 && w->x_c == 1 && f_k == 1 && f_n % 4 == 0 && w->x_n % 4 == 0 &&
                 ((uintptr_t)x | (uintptr_t)weight) % 4 == 0;
    for (int d = 0; d < 3; d++) words = words && w->x_s[d] % 4 == 0;
    dim3 grid((unsigned)((a.pixels + TILE - 1) / TILE), (unsigned)((cog + TILE - 1) / TILE),
              (unsigned)w->group);
    bool sums = q->w_sums == NULL;
    if (words && sums)
        q8_kernel<true, true><<<grid, 256, 0, stream>>>(a);
    else if (words)
        q8_kernel<true, false><<<grid, 256, 0, stream>>>(a);
    else if (sums)
        q8_kernel<false, true><<<grid, 256, 0, stream>>>(a);
    else
        q8_kernel<false, false><<<grid, 256, 0, stream>>>(a);
}
