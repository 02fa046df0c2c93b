/* Pools and resizing. */
#include "kernels/cuda/common.cuh"

/* Splits an output index: with the channel last, neighbouring threads take neighbouring channels.
 */
static __device__ void place(const sp_cu_window &w, int64_t i, int at[3], int *n, int *c)
{
    if (w.y_c == 1) {
        int64_t q = i / w.c_out;
        *c = (int)(i - q * w.c_out);
        i = q;
    }
    for (int d = 2; d >= 0; d--) {
        int64_t q = i / w.out[d];
        at[d] = (int)(i - q * w.out[d]);
        i = q;
    }
    if (w.y_c != 1) {
        *c = (int)(i % w.c_out);
        i /= w.c_out;
    }
    *n = (int)i;
}

template <typename T>
static __global__ void pool_kernel(int kind, sp_cu_window w, int64_t count, const T *x, T *y)
{
    SP_CU_FOR(i, count)
    {
        int at[3], n, c, from[3], first[3], end[3];
        float divisor = 1;
        place(w, i, at, &n, &c);
        for (int d = 0; d < 3; d++) {
            from[d] = at[d] * w.stride[d] - w.begin[d];
            int dil = w.dilation[d];
            first[d] = from[d] < 0 ? (-from[d] + dil - 1) / dil : 0;
            end[d] = from[d] >= w.in[d] ? 0 : min(w.kernel[d], (w.in[d] - from[d] + dil - 1) / dil);
            /* what a size that was rounded up lets reach past the padding never counts */
            int limit = w.in[d] + w.end[d];
            int padded = from[d] >= limit ? 0 : min(w.kernel[d], (limit - from[d] + dil - 1) / dil);
            divisor *= kind == 2 ? padded : max(end[d] - first[d], 0);
        }
        const T *image = x + n * w.x_n + c * w.x_c;
        float v = kind == 0 ? -CUDART_INF_F : 0.0f;
        for (int d = first[0]; d < end[0]; d++)
            for (int h = first[1]; h < end[1]; h++)
                for (int k = first[2]; k < end[2]; k++) {
                    float e = (float)image[(from[0] + d * w.dilation[0]) * w.x_s[0] +
                                           (from[1] + h * w.dilation[1]) * w.x_s[1] +
                                           (from[2] + k * w.dilation[2]) * w.x_s[2]];
                    v = kind == 0 ? sp_cu_max(e, v) : v + e;
                }
        if (kind) v = divisor > 0 ? v / divisor : 0.0f;
        y[n * w.y_n + c * w.y_c + at[0] * w.y_s[0] + at[1] * w.y_s[1] + at[2] * w.y_s[2]] = (T)v;
    }
}

/* Pictures with the channel last, four channels a thread. */
template <typename T>
static __global__ void pool4_kernel(int kind, sp_cu_window w, uint32_t count, const T *x, T *y)
{
    uint32_t quads = (uint32_t)w.c_out / 4;
    SP_CU_FOR(at, (int64_t)count)
    {
        uint32_t i = (uint32_t)at, pixel = i / quads, q = i - pixel * quads;
        uint32_t row = pixel / (uint32_t)w.out[2], n = row / (uint32_t)w.out[1];
        int w0 = (int)(pixel - row * (uint32_t)w.out[2]) * w.stride[2] - w.begin[2];
        int h0 = (int)(row - n * (uint32_t)w.out[1]) * w.stride[1] - w.begin[1];
        const T *image = x + n * w.x_n + q * 4;
        float v[4], e[4];
        int taps = 0;
        for (int k = 0; k < 4; k++) v[k] = kind == 0 ? -CUDART_INF_F : 0.0f;
        for (int kh = 0; kh < w.kernel[1]; kh++) {
            int h = h0 + kh * w.dilation[1];
            for (int kw = 0; kw < w.kernel[2]; kw++) {
                int u = w0 + kw * w.dilation[2];
                if ((unsigned)h >= (unsigned)w.in[1] || (unsigned)u >= (unsigned)w.in[2]) continue;
                sp_cu_get4(image + h * w.x_s[1] + u * w.x_s[2], e);
                taps++;
#pragma unroll
                for (int k = 0; k < 4; k++) v[k] = kind == 0 ? sp_cu_max(e[k], v[k]) : v[k] + e[k];
            }
        }
        if (kind)
            for (int k = 0; k < 4; k++) v[k] = taps ? v[k] / (float)taps : 0.0f;
        sp_cu_put4(y + at * 4, v);
    }
}

template <typename T>
static bool run_pool4(int kind, const sp_cu_window *w, int64_t count, const void *x, void *y,
                      cudaStream_t stream)
{
    if (kind > 1 || w->out[0] != 1 || w->in[0] != 1 || w->kernel[0] != 1 || w->x_c != 1 ||
        w->y_c != 1 || w->c_out % 4 != 0 || w->x_s[1] % 4 != 0 || w->x_s[2] % 4 != 0 ||
        w->x_n % 4 != 0 || count >= (int64_t)1 << 32 || ((uintptr_t)x | (uintptr_t)y) % 16 != 0)
        return false;
    pool4_kernel<T><<<sp_cu_blocks(count / 4, 128), 128, 0, stream>>>(
        kind, *w, (uint32_t)(count / 4), (const T *)x, (T *)y);
    return true;
}

void sp_cu_pool(int kind, sp_cu_type type, const sp_cu_window *w, const void *x, void *y,
                cudaStream_t stream)
{
    int64_t count = (int64_t)w->n * w->c_out * w->out[0] * w->out[1] * w->out[2];
    if (count <= 0) return;
    unsigned blocks = sp_cu_blocks(count, SP_CU_THREADS);
    if (type == SP_CU_F16 && run_pool4<__half>(kind, w, count, x, y, stream)) return;
    if (type == SP_CU_F32 && run_pool4<float>(kind, w, count, x, y, stream)) return;
#define CASE(T)                                                                                    \
    pool_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(kind, *w, count, (const T *)x, (T *)y)
    switch (type) {
    case SP_CU_F16: CASE(__half); break;
    case SP_CU_U8: CASE(uint8_t); break;
    case SP_CU_I8: CASE(int8_t); break;
    default: CASE(float);
    }
#undef CASE
}

/* ---- resizing ---- */

static __global__ void resize_kernel(sp_cu_resize r, const float *x, float *y)
{
    SP_CU_FOR(i, r.count)
    {
        int64_t rest = i, at = 0;
        int from[3] = {0, 0, 0}, taps[3] = {1, 1, 1};
        int64_t step[3] = {0, 0, 0};
        const float *weight[3] = {NULL, NULL, NULL};
        bool outside = false;
        for (int d = r.rank - 1; d >= 0; d--) {
            int64_t q = rest / r.out[d];
            int c = (int)(rest - q * r.out[d]);
            rest = q;
            int k = 0;
            while (k < r.n_active && r.active[k] != d) k++;
            if (k == r.n_active) {
                at += c * r.strides[d];
                continue;
            }
            from[k] = r.start[k][c];
            outside = outside || from[k] < 0;
            taps[k] = r.taps[k];
            step[k] = r.strides[d];
            if (r.weight[k]) weight[k] = r.weight[k] + (int64_t)c * taps[k];
        }
        float sum = 0;
        if (!outside)
            for (int a = 0; a < taps[0]; a++)
                for (int b = 0; b < taps[1]; b++)
                    for (int c = 0; c < taps[2]; c++) {
                        float f = (weight[0] ? weight[0][a] : 1.0f) *
                                  (weight[1] ? weight[1][b] : 1.0f) *
                                  (weight[2] ? weight[2][c] : 1.0f);
                        /* a weight of zero may stand for an element that is not there */
                        if (f != 0)
                            sum += f * x[at + (from[0] + a) * step[0] + (from[1] + b) * step[1] +
                                         (from[2] + c) * step[2]];
                    }
        y[i] = outside ? r.extrapolation : sum;
    }
}

void sp_cu_resize_run(const sp_cu_resize *r, const float *x, float *y, cudaStream_t stream)
{
    if (r->count <= 0) return;
    resize_kernel<<<sp_cu_blocks(r->count, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(*r, x, y);
}
