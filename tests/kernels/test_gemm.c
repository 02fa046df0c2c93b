/* Matrix products of every instruction set this machine has, against sums in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/epilogue.h"
#include "tests/support/kernels.h"

typedef struct problem {
    size_t m, n, k, taps, lda_extra, ldc_extra;
    bool indirect, transposed, bias;
    int zeros; /* of A, in per cent */
    sp_gemm_epilogue epilogue;
} problem;

#define GUARD 77.25f

static double act64(int act, float a, float b, double x)
{
    switch (act) {
    case SP_ACT_RELU: return x < 0 ? 0 : x;
    case SP_ACT_CLIP: return fmin(fmax(x, a), b);
    case SP_ACT_SILU: return x / (1 + exp(-x));
    default: return x;
    }
}

static void check(const sp_kernels *s, const problem *q)
{
    size_t lda = q->k + q->lda_extra, ldc = q->n + q->ldc_extra, kt = q->k * q->taps;
    float *a = floats(q->taps * q->m * lda), *b = floats(kt * q->n), *bias = floats(q->n);
    float *residual = floats(q->m * q->n), *c = floats(q->m * ldc);
    for (size_t i = 0; i < q->taps * q->m * lda; i++)
        if ((int)(random_u32() % 100) < q->zeros) a[i] = 0;
    for (size_t i = 0; i < q->m * ldc; i++) c[i] = GUARD;
    const float **rows = malloc((q->taps * q->m + 1) * sizeof *rows);
    for (size_t i = 0; i < q->taps * q->m; i++) rows[i] = a + i * lda;
    sp_gemm_f32_source source = {.n = q->n,
                                 .k = q->k,
                                 .taps = q->taps,
                                 .b = b,
                                 .tap_stride = q->transposed ? q->k : q->k * q->n,
                                 .k_stride = q->transposed ? 1 : q->n,
                                 .n_stride = q->transposed ? kt : 1,
                                 .bias = q->bias ? bias : NULL,
                                 .scale = 1};
    float *packed = aligned_alloc(64, (s->gemm_f32_packed_floats(q->n, kt) * 4 + 64) / 64 * 64);
    s->gemm_f32_pack(&source, 0, s->gemm_f32_panels(q->n), packed);
    sp_gemm_f32 g = {.m = q->m,
                     .n = q->n,
                     .k = q->k,
                     .taps = q->taps,
                     .rows = q->indirect ? rows : NULL,
                     .row_stride = q->m,
                     .a = a,
                     .lda = lda,
                     .b = packed,
                     .c = c,
                     .ldc = ldc,
                     .residual = residual,
                     .ldr = q->n,
                     .epilogue = q->epilogue};
    size_t panels = s->gemm_f32_panels(q->n), mid = q->m ? random_u32() % (q->m + 1) : 0,
           pm = panels / 2;
    s->gemm_f32(&g, 0, mid, 0, panels);
    s->gemm_f32(&g, mid, q->m, 0, pm);
    s->gemm_f32(&g, mid, q->m, pm, panels);
    for (size_t i = 0; i < q->m; i++) {
        for (size_t j = 0; j < q->n; j++) {
            double sum = q->bias ? bias[j] : 0, scale = fabs(sum);
            for (size_t t = 0; t < q->taps; t++)
                for (size_t k = 0; k < q->k; k++) {
                    double v = (double)a[(t * q->m + i) * lda + k] *
                               b[t * source.tap_stride + k * source.k_stride + j * source.n_stride];
                    sum += v;
                    scale += fabs(v);
                }
            const sp_gemm_epilogue *e = &q->epilogue;
            double r = residual[i * q->n + j];
            if (e->residual == 1) sum += r;
            sum = act64(e->act, e->a, e->b, sum);
            if (e->residual == 2) sum += r;
            double error = fabs(sum - c[i * ldc + j]), bound = 3e-7 * (scale + 1) * 2;
            if (!(error <= bound))
                fail_msg("%s m=%zu n=%zu k=%zu taps=%zu at %zu,%zu: %g, expected %g", s->isa, q->m,
                         q->n, q->k, q->taps, i, j, c[i * ldc + j], sum);
        }
        for (size_t j = q->n; j < ldc; j++) assert_true(c[i * ldc + j] == GUARD);
    }
    free(a), free(b), free(bias), free(residual), free(c), free(rows), free(packed);
}

static const size_t sizes[] = {0,  1,  2,  3,  5,  7,  8,  11, 12, 13, 16, 17,
                               23, 24, 31, 32, 33, 47, 48, 49, 64, 65, 97};
#define PICK(array) (array)[random_u32() % (sizeof(array) / sizeof *(array))]

static void test_random(void **unused)
{
    static const int acts[] = {SP_ACT_NONE, SP_ACT_RELU, SP_ACT_CLIP, SP_ACT_SILU};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        for (int round = 0; s && round < 400; round++) {
            problem q = {.m = PICK(sizes), .n = PICK(sizes), .k = PICK(sizes), .taps = 1};
            q.indirect = random_u32() % 2;
            if (q.indirect) q.taps = 1 + random_u32() % 9;
            q.lda_extra = random_u32() % 3;
            q.ldc_extra = random_u32() % 3;
            q.transposed = random_u32() % 2;
            q.bias = random_u32() % 2;
            q.epilogue = (sp_gemm_epilogue){
                .act = PICK(acts), .a = -0.5f, .b = 1.5f, .residual = (int)(random_u32() % 3)};
            check(s, &q);
        }
    }
}

/* Few columns, with and without a rest of k, a rest of rows, and taps; too much k for the path. */
static void test_few(void **unused)
{
    static const size_t depths[] = {16, 17, 48, 64, 143, 1500};
    static const int acts[] = {SP_ACT_NONE, SP_ACT_RELU, SP_ACT_SILU};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        for (size_t n = 0; s && n <= 5; n++) /* 0: an empty result */
            for (size_t d = 0; d < sizeof depths / sizeof *depths; d++)
                for (size_t m = 47; m < 64; m += 3) {
                    problem q = {.m = m, .n = n, .k = depths[d], .taps = 1, .bias = m % 2};
                    q.indirect = d % 2;
                    if (q.indirect) q.taps = 1 + m % 4;
                    q.epilogue.act = PICK(acts);
                    check(s, &q);
                }
    }
}

/* Every tile: rows of one matrix by 1..3 vectors of columns. */
static void test_tiles(void **unused)
{
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        for (size_t m = 1; s && m <= 26; m++)
            for (size_t n = 1; n <= (size_t)s->vector * 5; n += (size_t)s->vector - 1)
                check(s, &(problem){.m = m, .n = n, .k = 9, .taps = 1, .bias = true});
    }
}

/* One row with zeros, few and many: those that are skipped make no difference, except that what
 * stands beside them in B is not read. */
static void test_zeros(void **unused)
{
    static const size_t shapes[][2] = {{130, 1030}, {288, 300}, {1000, 70}};
    static const int acts[] = {SP_ACT_NONE, SP_ACT_RELU, SP_ACT_CLIP, SP_ACT_SILU};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        for (int round = 0; s && round < 60; round++) {
            problem q = {.m = 1, .n = shapes[round % 3][0], .k = shapes[round % 3][1], .taps = 1};
            q.zeros = (int)(random_u32() % 101);
            q.indirect = random_u32() % 2;
            q.bias = random_u32() % 2;
            q.ldc_extra = random_u32() % 3;
            q.epilogue = (sp_gemm_epilogue){
                .act = PICK(acts), .a = -0.5f, .b = 1.5f, .residual = (int)(random_u32() % 3)};
            check(s, &q);
        }
    }
}

static void test_large(void **unused)
{
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        if (!s) continue;
        check(s, &(problem){.m = 1, .n = 301, .k = 1031, .taps = 1, .bias = true});
        check(s, &(problem){.m = 211, .n = 67, .k = 2003, .taps = 1, .bias = true});
        check(s, &(problem){
                     .m = 150, .n = 48, .k = 129, .taps = 9, .indirect = true, .transposed = true});
    }
}

/* Windows of a tone against waves that it has nothing of: without fused multiply-adds the sums,
 * nearly 0, come out as exactly as single precision can say them. */
static void test_waves(void **unused)
{
    enum { K = 256, HOP = 64, M = 7, N = 21 };
    const sp_kernels *s = sp_cpu_kernels("generic");
    float *signal = floats(K + HOP * (M - 1)), *b = floats(K * N), c[M * N];
    const float *rows[M];
    for (int i = 0; i < K + HOP * (M - 1); i++) signal[i] = sinf(6.2831853f * 60 * (float)i / K);
    for (int k = 0; k < K; k++)
        for (int j = 0; j < N; j++) b[k * N + j] = cosf(6.2831853f * (float)(j * k) / K);
    for (int i = 0; i < M; i++) rows[i] = signal + i * HOP;
    sp_gemm_f32_source source = {
        .n = N, .k = K, .taps = 1, .b = b, .k_stride = N, .n_stride = 1, .scale = 1};
    float *packed = aligned_alloc(64, (s->gemm_f32_packed_floats(N, K) * 4 + 64) / 64 * 64);
    s->gemm_f32_pack(&source, 0, s->gemm_f32_panels(N), packed);
    sp_gemm_f32 g = {.m = M,
                     .n = N,
                     .k = K,
                     .taps = 1,
                     .a = signal,
                     .lda = HOP,
                     .windows = true,
                     .b = packed,
                     .c = c,
                     .ldc = N};
    for (int pointers = 0; pointers < 2; pointers++) {
        g.rows = pointers ? rows : NULL;
        memset(c, 0xff, sizeof c);
        s->gemm_f32(&g, 0, M, 0, s->gemm_f32_panels(N));
        for (int i = 0; i < M * N; i++) {
            double sum = 0;
            for (int k = 0; k < K; k++) sum += (double)rows[i / N][k] * (double)b[k * N + i % N];
            assert_true(fabs(c[i] - sum) <= 1e-7 * fabs(sum) + 1e-12);
        }
    }
    free(signal), free(b), free(packed);
}

static void test_nan(void **unused)
{
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        if (!s) continue;
        for (int act = 0; act < SP_ACT_COUNT; act++) {
            float x[19], y[19];
            for (int j = 0; j < 19; j++) x[j] = j % 2 ? NAN : 1;
            s->act_f32(act, 0.1f, 0.5f, 19, x, y);
            /* hard sigmoids may flush NaN: their oracle does */
            if (act == SP_ACT_HARDSIGMOID) continue;
            for (int j = 1; j < 19; j += 2) assert_true(isnan(y[j]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_few),
                                       cmocka_unit_test(test_tiles),  cmocka_unit_test(test_zeros),
                                       cmocka_unit_test(test_large),  cmocka_unit_test(test_waves),
                                       cmocka_unit_test(test_nan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
