/* What squeeze and excite takes from the inner loops: packed matrices with their rows scaled, and
 * sums of a depthwise convolution's outputs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "ops/epilogue.h"
#include "tests/support/kernels.h"

#define PICK(...)                                                                                  \
    ((const size_t[]){                                                                             \
        __VA_ARGS__}[random_u32() % (sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t))])

/* Scaling the packed matrix is packing the scaled one, and other panels stay. */
static void test_scale(void **unused)
{
    (void)unused;
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        const size_t n = PICK(1, 3, 8, 16, 17, 33, 40, 48, 96, 113), k = PICK(1, 2, 7, 30, 97);
        const size_t count = kernels->gemm_f32_packed_floats(n, k),
                     panels = kernels->gemm_f32_panels(n);
        float *b = floats(n * k), *bias = floats(n), *scale = floats(k);
        float *packed = floats(count), *want = floats(count), *got = floats(count);
        sp_gemm_f32_source source = {
            .n = n, .k = k, .taps = 1, .b = b, .k_stride = n, .n_stride = 1, .scale = 1};
        source.bias = i % 3 ? bias : NULL;
        kernels->gemm_f32_pack(&source, 0, panels, packed);
        memcpy(want, got, count * sizeof *want);
        const size_t p0 = random_u32() % panels, p1 = p0 + 1 + random_u32() % (panels - p0);
        kernels->gemm_f32_scale(n, k, packed, scale, p0, p1, got);
        for (size_t r = 0; r < k; r++)
            for (size_t c = 0; c < n; c++) b[r * n + c] *= scale[r];
        kernels->gemm_f32_pack(&source, p0, p1, want);
        for (size_t j = 0; j < count; j++) /* a padding of -0 is fine */
            if (!(got[j] == want[j])) fail_msg("%s: %zu x %zu, at %zu", kernels->isa, k, n, j);
        free(b), free(bias), free(scale), free(packed), free(want), free(got);
    }
}

typedef struct row_case {
    size_t channels, in_width, out_width;
    int k, stride, dilation, pad, act, residual;
} row_case;

/* Two rows, one by one, give what they give at once, without sums and with them; the sums are
 * theirs. */
static void check_row(const sp_kernels *kernels, const row_case *r)
{
    const size_t c = r->channels, taps = (size_t)(r->k * r->k), row = r->out_width * c,
                 out = 2 * row;
    float *x = floats((size_t)(r->k + 1) * r->in_width * c), *w = floats(c * taps),
          *bias = floats(c);
    float *packed = floats(kernels->dwconv_f32_packed_floats(c, taps)), *residual = floats(out);
    float *want = floats(out), *got = floats(out), *sums = floats(c), *start = floats(c);
    float *zero = calloc(c, sizeof *zero);
    const float *in[8];
    size_t strides[8];
    memcpy(start, sums, c * sizeof *sums);
    kernels->dwconv_f32_pack(c, taps, w, bias, packed);
    for (int i = 0; i <= r->k; i++) {
        const bool outside = random_u32() % 8 == 0;
        in[i] = outside ? zero : x + (size_t)i * r->in_width * c;
        strides[i] = outside ? 0 : c;
    }
    sp_dwconv_f32 d = {.kh = r->k,
                       .kw = r->k,
                       .stride_w = r->stride,
                       .dilation_w = r->dilation,
                       .pad_left = r->pad,
                       .channels = c,
                       .in_width = r->in_width,
                       .out_width = r->out_width,
                       .in = in,
                       .in_stride = strides,
                       .w = packed,
                       .out = want,
                       .out_stride = c,
                       .residual = residual,
                       .epilogue = {.act = r->act, .residual = r->residual}};
    kernels->dwconv_f32(&d);
    d.in++, d.in_stride++, d.out += row, d.residual += row;
    kernels->dwconv_f32(&d);
    d.in = in, d.in_stride = strides, d.residual = residual;
    d.two = true, d.next_row = row;
    for (int i = 0; i < 2; i++) {
        memset(got, 0, out * sizeof *got);
        d.out = got;
        d.sums = i ? sums : NULL;
        kernels->dwconv_f32(&d);
        assert_memory_equal(got, want, out * sizeof *want);
    }
    for (size_t i = 0; i < c; i++) {
        double sum = (double)start[i], size = fabs(sum);
        for (size_t p = 0; p < 2 * r->out_width; p++) {
            sum += (double)want[p * c + i];
            size += fabs((double)want[p * c + i]);
        }
        if (!(fabs((double)sums[i] - sum) <= 1e-6 * (size + 1)))
            fail_msg("%s: channel %zu of %zu, %zu pixels: %g instead of %g", kernels->isa, i, c,
                     r->out_width, (double)sums[i], sum);
    }
    free(x), free(w), free(bias), free(packed), free(residual);
    free(want), free(got), free(sums), free(start), free(zero);
}

static void test_sums(void **unused)
{
    static const int acts[] = {SP_ACT_NONE, SP_ACT_RELU, SP_ACT_HARDSWISH, SP_ACT_SILU};
    (void)unused;
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 300; i++) {
        row_case r = {.channels = PICK(1, 3, 4, 8, 15, 16, 17, 35, 64),
                      .out_width = 1 + random_u32() % 24,
                      .k = (int)PICK(1, 2, 3, 3, 5, 5),
                      .stride = (int)PICK(1, 1, 2, 3),
                      .dilation = (int)PICK(1, 1, 1, 2),
                      .act = acts[random_u32() % 4],
                      .residual = (int)PICK(0, 0, 1, 2)};
        r.pad = (int)(random_u32() % (uint32_t)r.k);
        const ptrdiff_t width = (ptrdiff_t)(r.out_width - 1) * r.stride + (r.k - 1) * r.dilation +
                                1 - r.pad - (ptrdiff_t)(random_u32() % 2);
        r.in_width = width < 1 ? 1 : (size_t)width;
        check_row(kernels, &r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scale), cmocka_unit_test(test_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
