/*
 * bench_kernels [isa] - speed of the float32 inner loops on layers of real networks, one thread,
 * against the measured peak of multiply-adds. Times are the best and the median of many runs with
 * everything in cache as it happens to be.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "backends/cpu/kernel.h"
#include "bench/order.h"
#include "ops/epilogue.h"

#define RUNS 31

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *floats(size_t n)
{
    float *p = aligned_alloc(64, (n * sizeof *p + 64) / 64 * 64);
    for (size_t i = 0; p && i < n; i++) p[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    return p;
}

static double peak(const sp_kernels *s)
{
    double best = 0;
    for (int i = 0; i < 10; i++) {
        float sink = 0.5f;
        double start = now(), flops = s->peak_fma_f32(1000000, &sink);
        best = fmax(best, flops / (now() - start));
    }
    return best;
}

static void report(const char *name, double flops, double *times, double top)
{
    qsort(times, RUNS, sizeof *times, by_value);
    double best = flops / times[0], median = flops / times[RUNS / 2];
    printf("%-34s %9.4f ms  best %7.1f  median %7.1f GFLOP/s  %5.1f %% of peak\n", name,
           times[0] * 1e3, best * 1e-9, median * 1e-9, 100 * best / top);
}

static void gemm(const sp_kernels *s, double top, size_t m, size_t n, size_t k, size_t taps)
{
    float *a = floats(m * k), *b = floats(n * k * taps), *c = floats(m * n), *bias = floats(n);
    float *packed = floats(s->gemm_f32_packed_floats(n, k * taps));
    const float **rows = malloc(m * taps * sizeof *rows);
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < m; i++) rows[t * m + i] = a + (i + t * 7) % m * k;
    sp_gemm_f32_source source = {.n = n,
                                 .k = k,
                                 .taps = taps,
                                 .b = b,
                                 .tap_stride = 1,
                                 .k_stride = taps,
                                 .n_stride = k * taps,
                                 .bias = bias,
                                 .scale = 1};
    s->gemm_f32_pack(&source, 0, s->gemm_f32_panels(n), packed);
    sp_gemm_f32 g = {.m = m,
                     .n = n,
                     .k = k,
                     .taps = taps,
                     .rows = taps > 1 ? rows : NULL,
                     .row_stride = m,
                     .a = a,
                     .lda = k,
                     .b = packed,
                     .c = c,
                     .ldc = n};
    double times[RUNS];
    for (int r = 0; r < RUNS; r++) {
        double start = now();
        s->gemm_f32(&g, 0, m, 0, s->gemm_f32_panels(n));
        times[r] = now() - start;
    }
    char name[64];
    snprintf(name, sizeof name, "gemm %zux%zux%zu taps %zu", m, n, k, taps);
    report(name, 2.0 * (double)m * (double)n * (double)k * (double)taps, times, top);
    free(a), free(b), free(c), free(bias), free(packed), free(rows);
}

static size_t dwconv_chunk(const sp_kernels *s, size_t size, size_t channels, int k, int stride)
{
    const char *e = getenv("CHUNK");
    if (e) return (size_t)atoi(e) ? (size_t)atoi(e) : channels;
    size_t n = 8192 / ((size_t)(k + stride) * size) / (size_t)s->vector * (size_t)s->vector;
    return n ? n : (size_t)s->vector;
}

static void depthwise(const sp_kernels *s, double top, size_t size, size_t channels, int k,
                      int stride)
{
    size_t out = (size + (size_t)stride - 1) / (size_t)stride, taps = (size_t)(k * k);
    float *in = floats(size * size * channels), *w = floats(taps * channels),
          *y = floats(out * out * channels);
    float *packed = floats(s->dwconv_f32_packed_floats(channels, taps)),
          *zero = calloc(channels, sizeof *zero);
    s->dwconv_f32_pack(channels, taps, w, NULL, packed);
    size_t chunk = dwconv_chunk(s, size, channels, k, stride);
    double times[RUNS];
    for (int r = 0; r < RUNS; r++) {
        double start = now();
        for (size_t c = 0; c < channels; c += chunk)
            for (size_t oy = 0; oy < out; oy++) {
                const float *rows[8];
                size_t strides[8];
                for (int ky = 0; ky < k; ky++) {
                    ptrdiff_t iy = (ptrdiff_t)oy * stride - k / 2 + ky;
                    bool inside = iy >= 0 && iy < (ptrdiff_t)size;
                    rows[ky] = inside ? in + (size_t)iy * size * channels + c : zero;
                    strides[ky] = inside ? channels : 0;
                }
                sp_dwconv_f32 d = {.kh = k,
                                   .kw = k,
                                   .stride_w = stride,
                                   .dilation_w = 1,
                                   .pad_left = k / 2,
                                   .channels = channels - c < chunk ? channels - c : chunk,
                                   .in_width = size,
                                   .out_width = out,
                                   .in = rows,
                                   .in_stride = strides,
                                   .w = packed + c * (taps + 1),
                                   .out = y + oy * out * channels + c,
                                   .out_stride = channels};
                s->dwconv_f32(&d);
            }
        times[r] = now() - start;
    }
    char name[64];
    snprintf(name, sizeof name, "depthwise %zux%zux%zu %dx%d s%d", size, size, channels, k, k,
             stride);
    report(name, 2.0 * (double)(out * out * channels * taps), times, top);
    free(in), free(w), free(y), free(packed), free(zero);
}

static void elementwise(const sp_kernels *s)
{
    enum { N = 16384 };
    float *x = floats(N), *y = floats(N);
    for (int act = SP_ACT_RELU; act < SP_ACT_COUNT; act++) {
        double best = 1;
        for (int r = 0; r < RUNS; r++) {
            double start = now();
            s->act_f32(act, 0.1f, 1, N, x, y);
            best = fmin(best, now() - start);
        }
        printf("%-34s %9.4f ms  best %7.2f elements/ns\n", sp_act_names[act], best * 1e3,
               N / best * 1e-9);
    }
    free(x), free(y);
}

int main(int argc, char **argv)
{
    const sp_kernels *s = sp_cpu_kernels(argc > 1 ? argv[1] : NULL);
    if (!s) {
        char known[64];
        fprintf(stderr, "usage: bench_kernels [isa], one of %s\n",
                sp_cpu_isas(known, sizeof known));
        return 2;
    }
    static const size_t products[][4] = {
        {12544, 16, 32, 1},  {12544, 96, 16, 1},  {3136, 24, 96, 1},  {3136, 144, 24, 1},
        {784, 192, 32, 1},   {784, 32, 192, 1},   {196, 384, 64, 1},  {196, 64, 384, 1},
        {196, 96, 576, 1},   {49, 960, 160, 1},   {49, 160, 960, 1},  {49, 320, 960, 1},
        {49, 1280, 320, 1},  {1, 1000, 1280, 1},  {197, 768, 768, 1}, {197, 2304, 768, 1},
        {197, 3072, 768, 1}, {197, 768, 3072, 1}, {512, 512, 512, 1}, {3136, 64, 64, 9},
        {784, 128, 128, 9},  {196, 256, 256, 9},  {49, 512, 512, 9},  {12544, 64, 21, 7}};
    static const size_t windows[][4] = {{112, 32, 3, 1}, {112, 96, 3, 2}, {56, 144, 3, 1},
                                        {56, 144, 3, 2}, {28, 192, 3, 1}, {14, 384, 3, 1},
                                        {14, 576, 3, 2}, {7, 960, 3, 1},  {28, 96, 5, 2},
                                        {14, 240, 5, 1}, {7, 576, 5, 1}};
    double top = peak(s);
    printf("%s, gemm %s: peak %.1f GFLOP/s\n", s->isa, s->gemm_name, top * 1e-9);
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        gemm(s, top, products[i][0], products[i][1], products[i][2], products[i][3]);
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
        depthwise(s, top, windows[i][0], windows[i][1], (int)windows[i][2], (int)windows[i][3]);
    elementwise(s);
    return 0;
}
