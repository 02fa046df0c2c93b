/* Products with pruned weights of every instruction set this machine has, against the dense ones,
 * and when they are chosen. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backends/cpu/spmm_run.h"
#include "ops/epilogue.h"
#include "tests/support/kernels.h"

static void *packed_block(size_t bytes)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes), 0);
    memset(p, 0xff, bytes); /* nothing may rest on what was there */
    return p;
}

typedef struct problem {
    size_t m, n, k, lda_extra, ldc_extra;
    int zeros; /* of 1000 */
    bool rows, transposed, bias, one_row;
    sp_gemm_epilogue epilogue;
} problem;

#define GUARD 77.25f

static sp_gemm_f32_source weights_of(const problem *q, const float *b, const float *bias)
{
    return (sp_gemm_f32_source){.n = q->n,
                                .k = q->k,
                                .taps = 1,
                                .b = b,
                                .k_stride = q->transposed ? 1 : q->n,
                                .n_stride = q->transposed ? q->k : 1,
                                .bias = bias,
                                .scale = 0.75f};
}

static void run_dense(const sp_kernels *s, const problem *q, const sp_gemm_f32_source *source,
                      const sp_spmm_f32 *g, float *c)
{
    float *packed = packed_block(s->gemm_f32_packed_floats(q->n, q->k) * sizeof(float) + 64);
    s->gemm_f32_pack(source, 0, s->gemm_f32_panels(q->n), packed);
    sp_gemm_f32 d = {.m = q->m,
                     .n = q->n,
                     .k = q->k,
                     .taps = 1,
                     .rows = g->rows,
                     .row_stride = q->m,
                     .a = g->a,
                     .lda = g->lda,
                     .b = packed,
                     .c = c,
                     .ldc = g->ldc,
                     .residual = g->residual,
                     .ldr = g->ldr,
                     .epilogue = q->epilogue};
    s->gemm_f32(&d, 0, q->m, 0, s->gemm_f32_panels(q->n));
    free(packed);
}

/* In pieces of rows and columns, as threads would. */
static void run_sparse(const sp_kernels *s, const problem *q, const sp_gemm_f32_source *source,
                       sp_spmm_f32 *g)
{
    sp_spmm_f32_size size;
    s->spmm_f32_measure(source, q->one_row, &size);
    assert_true(size.entries >= size.nonzeros && size.blocks * size.depth >= q->k);
    void *packed = packed_block(size.bytes);
    s->spmm_f32_pack(source, &size, packed);
    float *scratch = floats(s->spmm_f32_scratch_floats(&size));
    size_t half = (q->n + 15) / 16 / 2 * 16, mid = q->m ? random_u32() % (q->m + 1) : 0;
    g->b = packed;
    g->scratch = scratch;
    s->spmm_f32(g, 0, mid, 0, q->n);
    s->spmm_f32(g, mid, q->m, 0, half);
    s->spmm_f32(g, mid, q->m, half, q->n);
    free(packed), free(scratch);
}

static void check(const sp_kernels *s, const problem *q)
{
    const size_t lda = q->k + q->lda_extra, ldc = q->n + q->ldc_extra;
    float *a = floats(q->m * lda), *b = floats(q->k * q->n), *bias = floats(q->n);
    float *residual = floats(q->m * q->n), *c = floats(q->m * ldc), *d = floats(q->m * ldc);
    const float **rows = malloc((q->m + 1) * sizeof *rows);
    for (size_t i = 0; i < q->m; i++) rows[i] = a + (q->m - 1 - i) * lda;
    for (size_t i = 0; i < q->k * q->n; i++)
        if ((int)(random_u32() % 1000) < q->zeros) b[i] = random_u32() % 2 ? 0.0f : -0.0f;
    for (size_t i = 0; i < q->m * ldc; i++) c[i] = d[i] = GUARD;
    const sp_gemm_f32_source source = weights_of(q, b, q->bias ? bias : NULL);
    sp_spmm_f32 g = {.rows = q->rows ? rows : NULL,
                     .a = a,
                     .lda = lda,
                     .c = c,
                     .ldc = ldc,
                     .residual = residual,
                     .ldr = q->n,
                     .epilogue = q->epilogue};
    run_dense(s, q, &source, &g, d);
    run_sparse(s, q, &source, &g);
    for (size_t i = 0; i < q->m * ldc; i++) {
        /* Single rows, also those that are left over, are summed in another order. */
        double bound = 2e-6 * (double)(q->k + 8);
        bool beyond = i % ldc >= q->n;
        if (beyond ? c[i] != GUARD : !(fabs((double)c[i] - d[i]) <= bound))
            fail_msg("%s m=%zu n=%zu k=%zu zeros=%d at %zu: %.9g, expected %.9g", s->isa, q->m,
                     q->n, q->k, q->zeros, i, c[i], d[i]);
    }
    free(a), free(b), free(bias), free(residual), free(c), free(d), free(rows);
}

#define PICK(array) (array)[random_u32() % (sizeof(array) / sizeof *(array))]

static void test_random(void **unused)
{
    static const size_t ms[] = {0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 47, 49, 63, 64, 65, 81, 130};
    static const size_t ns[] = {1, 3, 7, 8, 15, 16, 17, 24, 31, 32, 33, 40, 48, 96, 100};
    static const size_t ks[] = {0, 1, 2, 5, 8, 15, 16, 17, 33, 64, 100, 129, 257};
    static const int zeros[] = {0, 300, 600, 800, 900, 950, 990, 1000};
    static const int acts[] = {SP_ACT_NONE, SP_ACT_RELU, SP_ACT_CLIP,   SP_ACT_HARDSWISH,
                               SP_ACT_SILU, SP_ACT_GELU, SP_ACT_SIGMOID};
    FOR_EACH_ISA(s)
    for (int round = 0; round < 500; round++) {
        problem q = {.m = PICK(ms), .n = PICK(ns), .k = PICK(ks), .zeros = PICK(zeros)};
        q.rows = random_u32() % 2;
        q.lda_extra = random_u32() % 3;
        q.ldc_extra = random_u32() % 3;
        q.transposed = random_u32() % 2;
        q.bias = random_u32() % 2;
        q.one_row = random_u32() % 4 == 0;
        q.epilogue = (sp_gemm_epilogue){
            .act = PICK(acts), .a = -0.5f, .b = 1.5f, .residual = (int)(random_u32() % 3)};
        check(s, &q);
    }
}

/* Several blocks of k, and more columns than sums are kept for. */
static void test_large(void **unused)
{
    FOR_EACH_ISA(s)
    {
        check(s, &(problem){.m = 70, .n = 800, .k = 300, .zeros = 700, .bias = true});
        check(s, &(problem){.m = 1, .n = 1600, .k = 300, .zeros = 700, .bias = true});
        check(s, &(problem){.m = 17, .n = 5, .k = 70000, .zeros = 990, .one_row = true});
    }
}

/* So deep that k in blocks of the same depth needs fewer of them than were asked for. */
static void test_deep(void **unused)
{
    FOR_EACH_ISA(s)
    for (int zeros = 942; zeros < 956; zeros++)
        check(s, &(problem){.m = 17, .n = 5, .k = 60000, .zeros = zeros, .transposed = true});
}

/* Rows that a graph turns out to have while it runs may be none. */
static void test_split(void **unused)
{
    static const size_t ms[] = {0, 1, 16, 17, 1000};
    const sp_spmm_f32_size size = {
        .n = 256, .k = 512, .nonzeros = 9000, .entries = 9000, .blocks = 4, .depth = 128};
    FOR_EACH_ISA(s)
    for (size_t i = 0; i < sizeof ms / sizeof *ms; i++) {
        size_t done = 0;
        sp_gemm_split split = sp_spmm_split(s, &size, ms[i], 4);
        for (int32_t k = 0; k < sp_gemm_split_count(&split); k++) {
            sp_gemm_piece p = sp_gemm_piece_of(&split, k);
            done += (p.m1 - p.m0) * (p.p1 - p.p0);
        }
        assert_int_equal(done, ms[i] * size.n / 16);
    }
}

/* Sums in the order of the dense kernel: the same bits, whatever is chosen. */
static void test_same_bits(void **unused)
{
    FOR_EACH_ISA(s)
    {
        const problem q = {.m = 50,
                           .n = 72,
                           .k = 700,
                           .zeros = 800,
                           .bias = true,
                           .epilogue = {.act = SP_ACT_HARDSWISH, .residual = 1}};
        float *a = floats(q.m * q.k), *b = floats(q.k * q.n), *bias = floats(q.n);
        float *residual = floats(q.m * q.n), *c = floats(q.m * q.n), *d = floats(q.m * q.n);
        for (size_t i = 0; i < q.k * q.n; i++)
            if ((int)(random_u32() % 1000) < q.zeros) b[i] = 0;
        const sp_gemm_f32_source source = weights_of(&q, b, bias);
        sp_spmm_f32 g = {.a = a,
                         .lda = q.k,
                         .c = c,
                         .ldc = q.n,
                         .residual = residual,
                         .ldr = q.n,
                         .epilogue = q.epilogue};
        sp_spmm_f32_size size;
        s->spmm_f32_measure(&source, false, &size);
        assert_true(size.blocks > 1);
        void *packed = packed_block(size.bytes);
        g.b = packed;
        g.scratch = floats(s->spmm_f32_scratch_floats(&size));
        s->spmm_f32_pack(&source, &size, packed);
        s->spmm_f32(&g, 0, q.m, 0, q.n);
        run_dense(s, &q, &source, &g, d);
        for (size_t i = 0; i < q.m * q.n; i++)
            if (c[i] != d[i]) fail_msg("%s at %zu: %.9g, dense %.9g", s->isa, i, c[i], d[i]);
        free(a), free(b), free(bias), free(residual), free(c), free(d), free(packed);
        free(g.scratch);
    }
}

static sp_spmm_choice choice(const sp_kernels *s, sp_when sparse, int zeros, size_t least,
                             size_t most)
{
    const problem q = {.n = 256, .k = 512, .transposed = true};
    float *b = floats(q.n * q.k);
    for (size_t i = 0; i < q.n * q.k; i++)
        if ((int)(random_u32() % 1000) < zeros) b[i] = 0;
    const sp_gemm_f32_source source = weights_of(&q, b, NULL);
    const sp_cpu_host host = {.threads = 1, .kernels = s, .sparse = sparse};
    sp_spmm_f32_size size = {0};
    sp_spmm_choice first = sp_spmm_choose(&host, &source, least, most, &size);
    assert_int_equal(sp_spmm_choose(&host, &source, least, most, &size), first);
    if (first == SP_SPMM_YES) {
        assert_true(sp_spmm_pays(&host, &size, least) && sp_spmm_pays(&host, &size, most));
        assert_true(size.nonzeros <= q.n * q.k && size.bytes > 0);
    }
    free(b);
    return first;
}

static void test_choice(void **unused)
{
    FOR_EACH_ISA(s)
    {
        assert_int_equal(choice(s, SP_WHEN_FASTER, 0, 196, 196), SP_SPMM_NO);
        assert_int_equal(choice(s, SP_WHEN_FASTER, 550, 196, 196), SP_SPMM_NO);
        assert_int_equal(choice(s, SP_WHEN_FASTER, 950, 196, 196), SP_SPMM_YES);
        assert_int_equal(choice(s, SP_WHEN_FASTER, 990, 1, 196), SP_SPMM_YES);
        assert_int_equal(choice(s, SP_WHEN_NEVER, 990, 196, 196), SP_SPMM_NO);
        assert_int_equal(choice(s, SP_WHEN_ALWAYS, 0, 1, 196), SP_SPMM_YES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),    cmocka_unit_test(test_large),
        cmocka_unit_test(test_deep),      cmocka_unit_test(test_split),
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
