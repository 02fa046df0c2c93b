/* Convolutions that need no library: depthwise, any convolution as an implicit matrix product, and
 * transposed ones. Bias, activation and residual are applied where the result is written. */
#include "kernels/cuda/common.cuh"

/* ---- depthwise ---- */

/* One thread an output channel of one pixel; channels vary fastest. */
static __global__ void depthwise_kernel(sp_cu_window w, sp_cu_epilogue e, int64_t count,
                                        const float *__restrict__ x, const float *__restrict__ f,
                                        const float *__restrict__ bias, const float *residual,
                                        float *y)
{
    int times = w.c_out / w.c_in;
    SP_CU_FOR(i, count)
    {
        int64_t pixel = i / w.c_out;
        int c = (int)(i - pixel * w.c_out), ow = (int)(pixel % w.out[2]);
        pixel /= w.out[2];
        int oh = (int)(pixel % w.out[1]), n = (int)(pixel / w.out[1]);
        int h0 = oh * w.stride[1] - w.begin[1], w0 = ow * w.stride[2] - w.begin[2];
        const float *image = x + n * w.x_n + (int64_t)(times == 1 ? c : c / times) * w.x_c;
        float sum = 0;
        for (int kh = 0; kh < w.kernel[1]; kh++) {
            int h = h0 + kh * w.dilation[1];
            if (h < 0 || h >= w.in[1]) continue;
            for (int kw = 0; kw < w.kernel[2]; kw++) {
                int v = w0 + kw * w.dilation[2];
                if (v < 0 || v >= w.in[2]) continue;
                sum +=
                    image[h * w.x_s[1] + v * w.x_s[2]] * f[(kh * w.kernel[2] + kw) * w.c_out + c];
            }
        }
        int64_t at = n * w.y_n + oh * w.y_s[1] + ow * w.y_s[2] + c * w.y_c;
        y[at] = sp_cu_finish(e, sum, bias, c, residual, at);
    }
}

/* Four channels a thread. */
static __global__ void depthwise4_kernel(sp_cu_window w, sp_cu_epilogue e, uint32_t count,
                                         const float4 *__restrict__ x, const float4 *__restrict__ f,
                                         const float *__restrict__ bias, const float *residual,
                                         float *y)
{
    uint32_t quads = (uint32_t)w.c_out / 4;
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += gridDim.x * blockDim.x) {
        uint32_t pixel = i / quads, q = i - pixel * quads, row = pixel / (uint32_t)w.out[2];
        int ow = (int)(pixel - row * (uint32_t)w.out[2]);
        int n = (int)(row / (uint32_t)w.out[1]), oh = (int)(row - (uint32_t)n * (uint32_t)w.out[1]);
        int h0 = oh * w.stride[1] - w.begin[1], w0 = ow * w.stride[2] - w.begin[2];
        const float4 *image = x + n * (w.x_n / 4) + q;
        float s[4] = {0, 0, 0, 0};
        for (int kh = 0; kh < w.kernel[1]; kh++) {
            int h = h0 + kh * w.dilation[1];
            if (h < 0 || h >= w.in[1]) continue;
            for (int kw = 0; kw < w.kernel[2]; kw++) {
                int v = w0 + kw * w.dilation[2];
                if (v < 0 || v >= w.in[2]) continue;
                float4 a = image[((int64_t)h * w.in[2] + v) * quads];
                float4 b = f[(kh * w.kernel[2] + kw) * quads + q];
                s[0] += a.x * b.x;
                s[1] += a.y * b.y;
                s[2] += a.z * b.z;
                s[3] += a.w * b.w;
            }
        }
        int64_t at = (int64_t)i * 4;
        for (int k = 0; k < 4; k++)
            y[at + k] = sp_cu_finish(e, s[k], bias, q * 4 + k, residual, at + k);
    }
}

void sp_cu_depthwise(const sp_cu_window *w, const sp_cu_epilogue *e, const float *x,
                     const float *weight, const float *bias, const float *residual, float *y,
                     cudaStream_t stream)
{
    int64_t count = (int64_t)w->n * w->c_out * w->out[1] * w->out[2];
    if (count <= 0) return;
    bool four = w->c_in == w->c_out && w->c_out % 4 == 0 && w->x_c == 1 && w->y_c == 1 &&
                count < (int64_t)1 << 31 && ((uintptr_t)x | (uintptr_t)weight) % 16 == 0;
    if (four)
        depthwise4_kernel<<<sp_cu_blocks(count / 4, 128), 128, 0, stream>>>(
            *w, *e, (uint32_t)(count / 4), (const float4 *)x, (const float4 *)weight, bias,
            residual, y);
    else
        depthwise_kernel<<<sp_cu_blocks(count, 128), 128, 0, stream>>>(*w, *e, count, x, weight,
                                                                       bias, residual, y);
}

/* ---- implicit product ---- */

#define TM 64 /* output pixels of a tile */
#define TN 64 /* output channels of a tile */
#define TK 16

/* Rows of the product are output pixels, columns output channels of one group (blockIdx.z), the
 * inner dimension the taps' input channels. 16 x 16 threads with 4 x 4 results each. */
static __global__ void __launch_bounds__(256)
    conv_kernel(sp_cu_window w, sp_cu_epilogue e, const float *__restrict__ x,
                const float *__restrict__ f, const float *__restrict__ bias, const float *residual,
                float *y)
{
    __shared__ float a[TK][TM + 4], b[TK][TN + 4];
    int cig = w.c_in / w.group, cog = w.c_out / w.group;
    int64_t pixels = (int64_t)w.n * w.out[0] * w.out[1] * w.out[2];
    int k_total = cig * w.kernel[0] * w.kernel[1] * w.kernel[2];
    int64_t m0 = (int64_t)blockIdx.x * TM;
    int n0 = blockIdx.y * TN, group = blockIdx.z, tid = threadIdx.x;
    float sum[4][4] = {{0}};
    /* this thread loads one pixel's elements k = tid / 64 * 4 ... + 3 and one channel's likewise */
    int lm = tid % TM, lk = tid / TM * 4;
    int64_t p = m0 + lm;
    bool inside = p < pixels;
    int o[3], n;
    for (int d = 2; d >= 0; d--) {
        o[d] = (int)(p % w.out[d]) * w.stride[d] - w.begin[d];
        p /= w.out[d];
    }
    n = (int)p;
    const float *image = x + (inside ? n * w.x_n : 0) + (int64_t)group * cig * w.x_c;
    const float *filter = f + ((int64_t)group * cog + n0 + lm) * k_total;
    for (int k0 = 0; k0 < k_total; k0 += TK) {
        for (int j = 0; j < 4; j++) {
            int k = k0 + lk + j;
            float va = 0, vb = 0;
            if (k < k_total) {
                int c = k % cig, t = k / cig;
                int v = t % w.kernel[2] * w.dilation[2] + o[2];
                t /= w.kernel[2];
                int h = t % w.kernel[1] * w.dilation[1] + o[1];
                int d = t / w.kernel[1] * w.dilation[0] + o[0];
                if (inside && v >= 0 && v < w.in[2] && h >= 0 && h < w.in[1] && d >= 0 &&
                    d < w.in[0])
                    va = image[c * w.x_c + d * w.x_s[0] + h * w.x_s[1] + v * w.x_s[2]];
                if (n0 + lm < cog) vb = filter[k];
            }
            a[lk + j][lm] = va;
            b[lk + j][lm] = vb;
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
    for (int i = 0; i < 4; i++) {
        int64_t q = m0 + tid / 16 * 4 + i;
        if (q >= pixels) continue;
        int64_t at = 0;
        for (int d = 2; d >= 0; d--) {
            at += q % w.out[d] * w.y_s[d];
            q /= w.out[d];
        }
        at += q * w.y_n;
        for (int j = 0; j < 4; j++) {
            int c = n0 + tid % 16 * 4 + j;
            if (c >= cog) continue;
            int64_t to = at + (int64_t)(group * cog + c) * w.y_c;
            y[to] = sp_cu_finish(e, sum[i][j], bias, group * cog + c, residual, to);
        }
    }
}

void sp_cu_conv(const sp_cu_window *w, const sp_cu_epilogue *e, const float *x, const float *weight,
                const float *bias, const float *residual, float *y, cudaStream_t stream)
{
    int64_t pixels = (int64_t)w->n * w->out[0] * w->out[1] * w->out[2];
    int cog = w->c_out / w->group;
    if (pixels <= 0 || cog <= 0) return;
    dim3 grid((unsigned)((pixels + TM - 1) / TM), (unsigned)((cog + TN - 1) / TN),
              (unsigned)w->group);
    conv_kernel<<<grid, 256, 0, stream>>>(*w, *e, x, weight, bias, residual, y);
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
