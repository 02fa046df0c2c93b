/* Depthwise convolutions. Bias, activation and residual are applied where the result is written. */
#include "kernels/cuda/vec.cuh"

#pragma nv_diag_suppress 128 /* a loop that one instance of a template leaves after one turn */

/* One thread an output channel of one pixel; channels vary fastest. */
template <typename T>
static __global__ void depthwise_kernel(sp_cu_window w, sp_cu_epilogue e, int64_t count,
                                        const T *__restrict__ x, const T *__restrict__ f,
                                        const T *__restrict__ bias, const T *residual, T *y)
{
    int times = w.c_out / w.c_in;
    SP_CU_FOR(i, count)
    {
        int64_t pixel = i / w.c_out;
        int c = (int)(i - pixel * w.c_out), ow = (int)(pixel % w.out[2]);
        pixel /= w.out[2];
        int oh = (int)(pixel % w.out[1]), n = (int)(pixel / w.out[1]);
        int h0 = oh * w.stride[1] - w.begin[1], w0 = ow * w.stride[2] - w.begin[2];
        const T *image = x + n * w.x_n + (int64_t)(times == 1 ? c : c / times) * w.x_c;
        float sum = 0;
        for (int kh = 0; kh < w.kernel[1]; kh++) {
            int h = h0 + kh * w.dilation[1];
            if (h < 0 || h >= w.in[1]) continue;
            for (int kw = 0; kw < w.kernel[2]; kw++) {
                int v = w0 + kw * w.dilation[2];
                if (v < 0 || v >= w.in[2]) continue;
                sum += (float)image[h * w.x_s[1] + v * w.x_s[2]] *
                       (float)f[(kh * w.kernel[2] + kw) * w.c_out + c];
            }
        }
        int64_t at = n * w.y_n + oh * w.y_s[1] + ow * w.y_s[2] + c * w.y_c;
        float b = bias ? (float)bias[c] : 0.0f, r = e.residual ? (float)residual[at] : 0.0f;
        y[at] = (T)sp_cu_finish(e, sum, &b, 0, &r, 0);
    }
}

/* Four channels a thread, ACROSS neighbouring pixels of a row. SIZE: of the kernel, both ways, so
 * that its loads are under way together; 0: any. */
template <typename T, int ACROSS, int SIZE>
static __global__ void depthwise4_kernel(sp_cu_window w, sp_cu_epilogue e, uint32_t count,
                                         const T *__restrict__ x, const T *__restrict__ f,
                                         const T *__restrict__ bias, const T *residual, T *y)
{
    uint32_t quads = (uint32_t)w.c_out / 4, groups = ((uint32_t)w.out[2] + ACROSS - 1) / ACROSS;
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += gridDim.x * blockDim.x) {
        uint32_t pixel = i / quads, q = i - pixel * quads, row = pixel / groups;
        int ow = (int)(pixel - row * groups) * ACROSS;
        int n = (int)(row / (uint32_t)w.out[1]), oh = (int)(row - (uint32_t)n * (uint32_t)w.out[1]);
        int h0 = oh * w.stride[1] - w.begin[1], w0 = ow * w.stride[2] - w.begin[2];
        const T *image = x + n * w.x_n + q * 4;
        float s[ACROSS][4];
#pragma unroll
        for (int p = 0; p < ACROSS; p++) s[p][0] = s[p][1] = s[p][2] = s[p][3] = 0;
        int rows = SIZE ? SIZE : w.kernel[1], columns = SIZE ? SIZE : w.kernel[2];
#pragma unroll
        for (int kh = 0; kh < rows; kh++) {
            int h = h0 + kh * w.dilation[1];
            bool inside = (unsigned)h < (unsigned)w.in[1];
#pragma unroll
            for (int kw = 0; kw < columns; kw++) {
                float b[4];
                sp_cu_get4(f + ((kh * columns + kw) * quads + q) * 4, b);
#pragma unroll
                for (int p = 0; p < ACROSS; p++) {
                    int v = w0 + p * w.stride[2] + kw * w.dilation[2];
                    float a[4] = {0, 0, 0, 0};
                    if (inside && (unsigned)v < (unsigned)w.in[2])
                        sp_cu_get4(image + ((int64_t)h * w.in[2] + v) * w.c_in, a);
#pragma unroll
                    for (int k = 0; k < 4; k++) s[p][k] += a[k] * b[k];
                }
            }
        }
        float c[4] = {0, 0, 0, 0};
        if (bias) sp_cu_get4(bias + q * 4, c);
#pragma unroll
        for (int p = 0; p < ACROSS; p++) {
            if (ow + p >= w.out[2]) continue;
            int64_t at = ((int64_t)row * w.out[2] + ow + p) * w.c_out + q * 4;
            float r[4] = {0, 0, 0, 0};
            if (e.residual) sp_cu_get4(residual + at, r);
#pragma unroll
            for (int k = 0; k < 4; k++) s[p][k] = sp_cu_finish(e, s[p][k], c, k, r, k);
            sp_cu_put4(y + at, s[p]);
        }
    }
}

template <typename T, int ACROSS>
static void launch_depthwise4(const sp_cu_window *w, const sp_cu_epilogue *e, const T *x,
                              const T *weight, const T *bias, const T *residual, T *y,
                              cudaStream_t stream)
{
    int64_t n = (int64_t)w->n * w->out[1] * (w->c_out / 4) * ((w->out[2] + ACROSS - 1) / ACROSS);
    unsigned threads = n < 132 * 128 ? 32 : 128, blocks = sp_cu_blocks(n, threads);
    bool square = w->kernel[1] == w->kernel[2];
    if (square && w->kernel[1] == 3)
        depthwise4_kernel<T, ACROSS, 3>
            <<<blocks, threads, 0, stream>>>(*w, *e, (uint32_t)n, x, weight, bias, residual, y);
    else if (square && w->kernel[1] == 5)
        depthwise4_kernel<T, ACROSS, 5>
            <<<blocks, threads, 0, stream>>>(*w, *e, (uint32_t)n, x, weight, bias, residual, y);
    else
        depthwise4_kernel<T, ACROSS, 0>
            <<<blocks, threads, 0, stream>>>(*w, *e, (uint32_t)n, x, weight, bias, residual, y);
}

/* A thread has 16 bytes of channels and DOWN x ACROSS neighbouring pixels of the output: each
 * vector of the image is loaded once and counts for all of them. K x K taps, steps of S, no
 * dilation. */
template <typename T, int K, int S, int DOWN, int ACROSS>
static __global__ void __launch_bounds__(128)
    depthwise_tile_kernel(sp_cu_window w, sp_cu_light act, uint32_t count, const T *__restrict__ x,
                          const T *__restrict__ f, const T *__restrict__ bias, T *__restrict__ y)
{
    enum { N = sp_cu_vec<T>::N, ROWS = (DOWN - 1) * S + K, COLUMNS = (ACROSS - 1) * S + K };
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    uint32_t vectors = (uint32_t)w.c_out / N, wide = ((uint32_t)w.out[2] + ACROSS - 1) / ACROSS;
    uint32_t high = ((uint32_t)w.out[1] + DOWN - 1) / DOWN;
    uint32_t tile = i / vectors, q = i - tile * vectors, row = tile / wide, n = row / high;
    int ow = (int)(tile - row * wide) * ACROSS, oh = (int)(row - n * high) * DOWN;
    int h0 = oh * S - w.begin[1], w0 = ow * S - w.begin[2];
    const uint4 *image = (const uint4 *)x + (int64_t)n * w.in[1] * w.in[2] * vectors + q;
    const uint4 *filter = (const uint4 *)f + q;
    float sum[DOWN][ACROSS][N], b[N];
#pragma unroll
    for (int k = 0; k < N; k++) b[k] = 0;
    if (bias) sp_cu_unpack(__ldg((const uint4 *)bias + q), b);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        uint4 line[COLUMNS];
        int h = h0 + r;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            bool inside = (unsigned)h < (unsigned)w.in[1] && (unsigned)(w0 + c) < (unsigned)w.in[2];
            line[c] = make_uint4(0, 0, 0, 0);
            if (inside) line[c] = __ldg(image + (h * w.in[2] + w0 + c) * (int)vectors);
        }
#pragma unroll
        for (int d = 0; d < DOWN; d++) {
            const int kh = r - d * S;
            if (kh < 0 || kh >= K) continue;
            if (kh == 0)
#pragma unroll
                for (int p = 0; p < ACROSS; p++)
#pragma unroll
                    for (int k = 0; k < N; k++) sum[d][p][k] = b[k];
#pragma unroll
            for (int kw = 0; kw < K; kw++) {
                float g[N];
                sp_cu_unpack(__ldg(filter + (kh * K + kw) * (int)vectors), g);
#pragma unroll
                for (int p = 0; p < ACROSS; p++) {
                    float a[N];
                    sp_cu_unpack(line[p * S + kw], a);
#pragma unroll
                    for (int k = 0; k < N; k++) sum[d][p][k] += a[k] * g[k];
                }
            }
            if (kh < K - 1 || oh + d >= w.out[1]) continue;
            uint4 *to =
                (uint4 *)y + ((int64_t)(n * w.out[1] + oh + d) * w.out[2] + ow) * vectors + q;
#pragma unroll
            for (int p = 0; p < ACROSS; p++) {
                sp_cu_light_run(act, sum[d][p]);
                if (ow + p < w.out[2]) to[p * vectors] = sp_cu_pack(sum[d][p]);
            }
        }
    }
}

template <typename T, int K, int S, int DOWN, int ACROSS>
static void launch_tile(const sp_cu_window *w, const sp_cu_light *act, const void *x,
                        const void *weight, const void *bias, void *y, cudaStream_t stream)
{
    int64_t n = (int64_t)w->n * ((w->out[1] + DOWN - 1) / DOWN) *
                ((w->out[2] + ACROSS - 1) / ACROSS) * (w->c_out / sp_cu_vec<T>::N);
    unsigned threads = n < 132 * 128 ? 32 : 128;
    depthwise_tile_kernel<T, K, S, DOWN, ACROSS><<<sp_cu_blocks(n, threads), threads, 0, stream>>>(
        *w, *act, (uint32_t)n, (const T *)x, (const T *)weight, (const T *)bias, (T *)y);
}

template <typename T, int K, int S>
static void launch_way(int way, const sp_cu_window *w, const sp_cu_light *act, const void *x,
                       const void *weight, const void *bias, void *y, cudaStream_t stream)
{
    switch (way) {
    case 1: launch_tile<T, K, S, 1, 2>(w, act, x, weight, bias, y, stream); break;
    case 2: launch_tile<T, K, S, 1, 4>(w, act, x, weight, bias, y, stream); break;
    case 3: launch_tile<T, K, S, 2, 4>(w, act, x, weight, bias, y, stream); break;
    default: launch_tile<T, K, S, 4, 2>(w, act, x, weight, bias, y, stream); break;
    }
}

int sp_cu_depthwise_can(const sp_cu_window *w, const sp_cu_epilogue *e, int half, int way)
{
    sp_cu_light act;
    int each = half ? 8 : 4, k = w->kernel[2], s = w->stride[2];
    if (way == 0) return 1;
    return way < SP_CU_DEPTHWISE_WAYS && w->c_in == w->c_out && w->c_out % each == 0 &&
           w->x_c == 1 && w->y_c == 1 && w->in[0] == 1 && w->kernel[0] == 1 && w->kernel[1] == k &&
           (k == 3 || k == 5) && w->stride[1] == s && (s == 1 || s == 2) && w->dilation[1] == 1 &&
           w->dilation[2] == 1 && !e->residual && sp_cu_light_of(e, &act) &&
           (int64_t)w->n * w->c_out * w->out[1] * w->out[2] < INT32_MAX &&
           (int64_t)w->c_in * w->in[1] * w->in[2] < INT32_MAX;
}

int sp_cu_depthwise_way(const sp_cu_window *w, const sp_cu_epilogue *e, int half)
{
    int64_t count = (int64_t)w->n * w->c_out * w->out[1] * w->out[2];
    int way = count >= 1 << 21 ? 3 : 2;
    return sp_cu_depthwise_can(w, e, half, way) ? way : 0;
}

template <typename T>
static void run_way(int way, const sp_cu_window *w, const sp_cu_epilogue *e, const void *x,
                    const void *weight, const void *bias, void *y, cudaStream_t stream)
{
    sp_cu_light act;
    sp_cu_light_of(e, &act);
    if (w->kernel[2] == 3)
        w->stride[2] == 1 ? launch_way<T, 3, 1>(way, w, &act, x, weight, bias, y, stream)
                          : launch_way<T, 3, 2>(way, w, &act, x, weight, bias, y, stream);
    else
        w->stride[2] == 1 ? launch_way<T, 5, 1>(way, w, &act, x, weight, bias, y, stream)
                          : launch_way<T, 5, 2>(way, w, &act, x, weight, bias, y, stream);
}

template <typename T>
static void run_depthwise(const sp_cu_window *w, const sp_cu_epilogue *e, const T *x,
                          const T *weight, const T *bias, const T *residual, T *y,
                          cudaStream_t stream)
{
    int64_t count = (int64_t)w->n * w->c_out * w->out[1] * w->out[2];
    uintptr_t all =
        (uintptr_t)x | (uintptr_t)weight | (uintptr_t)bias | (uintptr_t)residual | (uintptr_t)y;
    bool four = w->c_in == w->c_out && w->c_out % 4 == 0 && w->x_c == 1 && w->y_c == 1 &&
                count < (int64_t)1 << 31 && all % 16 == 0;
    if (four && count >= 1 << 21) {
        launch_depthwise4<T, 4>(w, e, x, weight, bias, residual, y, stream);
    } else if (four && count >= 1 << 19) {
        launch_depthwise4<T, 2>(w, e, x, weight, bias, residual, y, stream);
    } else if (four) {
        launch_depthwise4<T, 1>(w, e, x, weight, bias, residual, y, stream);
    } else
        depthwise_kernel<T><<<sp_cu_blocks(count, 128), 128, 0, stream>>>(*w, *e, count, x, weight,
                                                                          bias, residual, y);
}

void sp_cu_depthwise(const sp_cu_window *w, const sp_cu_epilogue *e, int half, int way,
                     const void *x, const void *weight, const void *bias, const void *residual,
                     void *y, cudaStream_t stream)
{
    uintptr_t all = (uintptr_t)x | (uintptr_t)weight | (uintptr_t)bias | (uintptr_t)y;
    if ((int64_t)w->n * w->c_out * w->out[1] * w->out[2] <= 0) return;
    bool tiles = way > 0 && all % 16 == 0 && sp_cu_depthwise_can(w, e, half, way);
    if (tiles && half)
        run_way<__half>(way, w, e, x, weight, bias, y, stream);
    else if (tiles)
        run_way<float>(way, w, e, x, weight, bias, y, stream);
    else if (half)
        run_depthwise(w, e, (const __half *)x, (const __half *)weight, (const __half *)bias,
                      (const __half *)residual, (__half *)y, stream);
    else
        run_depthwise(w, e, (const float *)x, (const float *)weight, (const float *)bias,
                      (const float *)residual, (float *)y, stream);
}
