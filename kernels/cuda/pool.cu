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

void sp_cu_pool(int kind, int half, const sp_cu_window *w, const void *x, void *y,
                cudaStream_t stream)
{
    int64_t count = (int64_t)w->n * w->c_out * w->out[0] * w->out[1] * w->out[2];
    if (count <= 0) return;
    unsigned blocks = sp_cu_blocks(count, SP_CU_THREADS);
    if (half)
        pool_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(kind, *w, count, (const __half *)x,
                                                          (__half *)y);
    else
        pool_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(kind, *w, count, (const float *)x,
                                                          (float *)y);
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
