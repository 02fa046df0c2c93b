/* Conversions and quantisation of every instruction set against the plain functions, bit by bit. */
#include "ops/half.h"
#include "ops/truncate.h"
#include "tests/support/cpu_node.h"

static bool same_half(uint16_t a, uint16_t b, uint16_t infinity)
{
    const bool nan_a = (a & 0x7fff) > infinity, nan_b = (b & 0x7fff) > infinity;
    return a == b || (nan_a && nan_b);
}

/* All 65,536 of them, from an odd address in steps that end within a vector. */
static void test_widen(void **unused)
{
    enum { STEP = 1021 };
    FOR_EACH_ISA(kernels)
    for (uint32_t first = 0; first < 65536; first += STEP) {
        uint16_t x[STEP];
        float y[STEP];
        for (int i = 0; i < STEP; i++) x[i] = (uint16_t)(first + (uint32_t)i);
        kernels->cast(SP_CAST_F32_OF_F16, STEP, x, y);
        for (int i = 0; i < STEP; i++) {
            const float expected = sp_f32_of_f16(x[i]);
            assert_true(sp_bits_of_float(y[i]) == sp_bits_of_float(expected) ||
                        (isnan(y[i]) && isnan(expected)));
        }
        kernels->cast(SP_CAST_F32_OF_BF16, STEP, x, y);
        for (int i = 0; i < STEP; i++) assert_true(sp_bits_of_float(y[i]) == (uint32_t)x[i] << 16);
    }
}

/* Floats of all sizes, ties of both halves among them. */
static void test_from_float(void **unused)
{
    enum { STEP = 1021 };
    FOR_EACH_ISA(kernels)
    for (uint64_t bits = 0; bits < 0x100000000u;) {
        float x[STEP];
        uint16_t half[STEP], brain[STEP];
        int32_t i32[STEP];
        int64_t i64[STEP];
        uint8_t u8[STEP], truth[STEP];
        int8_t i8[STEP];
        for (int i = 0; i < STEP; i++, bits += 0x10801) {
            const uint32_t tie = i % 3 == 0 ? 0xffff8000u : i % 3 == 1 ? 0xfffff000u : ~0u;
            x[i] = sp_float_of_bits((uint32_t)bits & tie);
        }
        kernels->cast(SP_CAST_F16_OF_F32, STEP, x, half);
        kernels->cast(SP_CAST_BF16_OF_F32, STEP, x, brain);
        kernels->cast(SP_CAST_I32_OF_F32, STEP, x, i32);
        kernels->cast(SP_CAST_I64_OF_F32, STEP, x, i64);
        kernels->cast(SP_CAST_U8_OF_F32, STEP, x, u8);
        kernels->cast(SP_CAST_I8_OF_F32, STEP, x, i8);
        kernels->cast(SP_CAST_BOOL_OF_F32, STEP, x, truth);
        for (int i = 0; i < STEP; i++) {
            assert_true(same_half(half[i], sp_f16_of_f32(x[i]), 0x7c00));
            assert_true(same_half(brain[i], sp_bf16_of_f32(x[i]), 0x7f80));
            assert_true(i32[i] == SP_TO_I32(float, x[i]));
            assert_true(i64[i] == SP_TO_I64(float, x[i]));
            assert_true(u8[i] == (uint8_t)i32[i] && i8[i] == (int8_t)i32[i]);
            assert_true(truth[i] == (x[i] != 0));
        }
    }
}

static void test_node(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 20; i++) {
        builder b;
        start(&b, "Cast");
        const int64_t n = PICK(0, 1, 7, 100, 200000);
        uint16_t *half = malloc((size_t)n * 2 + 1);
        for (int64_t k = 0; k < n; k++) half[k] = (uint16_t)random_u32();
        sparoa_tensor x = sparoa_tensor_of(SPAROA_FLOAT16, half, 1, n);
        input(&b, &x, false);
        add_int(&b, "to", SPAROA_FLOAT32);
        compare(&b, kernels, 0, false);
        free(half);
    }
}

/* Ties, values far outside, infinities and now and then a NaN. */
static void spread(float *x, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] *= 300 * scale;
        if (random_u32() % 4 == 0) x[i] = ((float)(random_u32() % 400) - 200.5f) * scale;
        if (random_u32() % 50 == 0) x[i] = random_u32() % 2 ? INFINITY : -INFINITY;
        if (random_u32() % 50 == 0) x[i] = NAN;
    }
}

static void test_quantize(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        builder b;
        start(&b, "QuantizeLinear");
        const int64_t n = PICK(0, 1, 7, 16, 100, 1021, 70001);
        float scale = i % 2 ? 0.25f : 0.03f;
        uint8_t zero = (uint8_t)random_u32();
        sparoa_tensor x = tensor(1, &n), s = sparoa_tensor_of(SPAROA_FLOAT32, &scale, 0);
        sparoa_tensor z = sparoa_tensor_of(i % 3 ? SPAROA_UINT8 : SPAROA_INT8, &zero, 0);
        spread(x.data, n, scale);
        input(&b, &x, false);
        input(&b, &s, true);
        if (i % 5) input(&b, &z, true);
        compare_bytes(&b.node, kernels);
        free(x.data);
    }
}

static void test_dynamic_quantize(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        builder b;
        start(&b, "DynamicQuantizeLinear");
        const int64_t n = PICK(0, 1, 7, 16, 33, 100, 70001);
        sparoa_tensor x = tensor(1, &n), y[3] = {{0}};
        float *p = x.data;
        for (int64_t k = 0; k < n; k++) p[k] = i % 4 == 0 ? 0 : p[k] + (float)(i % 3);
        if (n > 1 && i % 5 == 0) p[n / 2] = NAN;
        input(&b, &x, false);
        b.node.out = (sparoa_tensor *[]){&y[0], &y[1], &y[2]};
        b.node.n_out = 3;
        compare_bytes(&b.node, kernels);
        free(x.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_widen),
                                       cmocka_unit_test(test_from_float),
                                       cmocka_unit_test(test_node), cmocka_unit_test(test_quantize),
                                       cmocka_unit_test(test_dynamic_quantize)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
