/* Elementary functions of every instruction set, against double: errors in units in the last place.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backends/cpu/kernel.h"
#include "ops/epilogue.h"

static const char *const isas[] = {"generic", "neon", "avx2", "avx512"};

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static double gelu(double x)
{
    return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
}

static double gelu_tanh(double x)
{
    return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static double elu(double x)
{
    return x < 0 ? expm1(x) : x;
}

static double softplus(double x)
{
    return isnan(x) ? x : fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double selu(double x)
{
    return x < 0 ? 1.75 * expm1(x) : 1.0625 * x;
}

static double celu(double x)
{
    return x < 0 ? 0.3f * expm1(x / 0.3f) : x;
}

static double swish(double x)
{
    return x / (1 + exp(-1.5 * x));
}

static double mish(double x)
{
    double e = exp(fmin(x, 40)), n = e * (e + 2);
    return x * (n / (n + 2));
}

/* absolute: errors are counted in ulps of max(|x|, 1): functions that cancel near their zeros. */
static const struct row {
    const char *name;
    int act; /* or -1: */
    sp_unary unary;
    double (*f)(double);
    double ulps;
    bool absolute, inf_is_nan;
    float a, b;
} rows[] = {
    {"exp", -1, SP_UNARY_EXP, exp, 2.5, false, false, 0, 0},
    {"log", -1, SP_UNARY_LOG, log, 1.5, false, false, 0, 0},
    {"sin", -1, SP_UNARY_SIN, sin, 0.6, false, false, 0, 0},
    {"cos", -1, SP_UNARY_COS, cos, 0.6, false, false, 0, 0},
    {"erf", -1, SP_UNARY_ERF, erf, 4, false, false, 0, 0},
    {"sqrt", -1, SP_UNARY_SQRT, sqrt, 0.6, false, false, 0, 0},
    {"floor", -1, SP_UNARY_FLOOR, floor, 0, false, false, 0, 0},
    {"ceil", -1, SP_UNARY_CEIL, ceil, 0, false, false, 0, 0},
    {"round", -1, SP_UNARY_ROUND, rint, 0, false, false, 0, 0},
    {"elu", -1, SP_UNARY_ELU, elu, 3, false, false, 1, 1},
    {"selu", -1, SP_UNARY_ELU, selu, 3, false, false, 1.75f, 1.0625f},
    {"celu", -1, SP_UNARY_CELU, celu, 3, false, false, 0.3f, 0},
    {"softplus", -1, SP_UNARY_SOFTPLUS, softplus, 4, false, false, 0, 0},
    {"swish", -1, SP_UNARY_SWISH, swish, 3, true, true, 1.5f, 0},
    {"mish", -1, SP_UNARY_MISH, mish, 3, true, true, 0, 0},
    {"sigmoid", SP_ACT_SIGMOID, 0, sigmoid, 4, false, false, 0, 0},
    {"tanh", SP_ACT_TANH, 0, tanh, 4, false, false, 0, 0},
    {"silu", SP_ACT_SILU, 0, silu, 4, true, true, 0, 0},
    {"gelu", SP_ACT_GELU, 0, gelu, 4, true, true, 0, 0},
    {"gelu_tanh", SP_ACT_GELU_TANH, 0, gelu_tanh, 4, true, true, 0, 0},
};

static void apply(const sp_kernels *s, const struct row *row, size_t n, const float *x, float *y)
{
    if (row->act >= 0)
        s->act_f32(row->act, 0, 0, n, x, y);
    else
        s->unary_f32(row->unary, row->a, row->b, n, x, y);
}

/* Distance in ulps of the expected value; subnormal results count in the smallest normal's ulps. */
static double error_of(const struct row *row, float x, float actual)
{
    double expected = row->f(x);
    if (isnan(expected)) return isnan(actual) ? 0 : INFINITY;
    if (fabs(expected) > FLT_MAX)
        return isinf(actual) && (actual > 0) == (expected > 0) ? 0 : INFINITY;
    if (!isfinite(actual)) return fabs(expected) > FLT_MAX * (1 - 1e-6) ? 0 : INFINITY;
    double size = row->absolute ? fmax(fabs((double)x), 1) : fabs(expected);
    int exponent;
    frexp(fmax(size, FLT_MIN), &exponent);
    return fabs(actual - expected) / ldexp(1, exponent - 24);
}

enum { BATCH = 1021 };

static void test_accuracy(void **unused)
{
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        for (size_t r = 0; s && r < sizeof rows / sizeof *rows; r++) {
            double worst = 0, at = 0;
            /* All floats in steps of a prime number of ulps, both signs. */
            for (uint64_t bits = 0; bits < 0x7f800000u;) {
                float x[2 * BATCH], y[2 * BATCH];
                for (int k = 0; k < BATCH; k++, bits += 4099) {
                    uint32_t u = (uint32_t)(bits < 0x7f800000u ? bits : 0x7f7fffffu);
                    memcpy(&x[2 * k], &u, sizeof u);
                    x[2 * k + 1] = -x[2 * k];
                }
                apply(s, &rows[r], 2 * BATCH, x, y);
                for (int k = 0; k < 2 * BATCH; k++) {
                    double error = error_of(&rows[r], x[k], y[k]);
                    if (error > worst) worst = error, at = x[k];
                }
            }
            if (!(worst <= rows[r].ulps))
                fail_msg("%s on %s: %.2f ulps at %g", rows[r].name, s->isa, worst, at);
            print_message("%-8s %-10s %.2f ulps at %g\n", s->isa, rows[r].name, worst, at);
        }
    }
}

static void test_special(void **unused)
{
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        for (size_t r = 0; s && r < sizeof rows / sizeof *rows; r++) {
            float x[3] = {NAN, INFINITY, -INFINITY}, y[3];
            apply(s, &rows[r], 3, x, y);
            assert_true(isnan(y[0]));
            assert_true(error_of(&rows[r], x[1], y[1]) == 0);
            if (rows[r].inf_is_nan)
                assert_true(isnan(y[2]) || y[2] == 0);
            else
                assert_true(error_of(&rows[r], x[2], y[2]) == 0);
        }
    }
}

/* Whole numbers and halves, ties to even, the signs of zeros, and where floats have no fraction. */
static void test_rounding(void **unused)
{
    static const struct {
        sp_unary op;
        float (*f)(float);
    } functions[] = {{SP_UNARY_FLOOR, floorf}, {SP_UNARY_CEIL, ceilf}, {SP_UNARY_ROUND, rintf}};
    float x[400], y[400];
    for (int i = 0; i < 400; i++) x[i] = (float)(i % 80 - 40) / 4;
    for (int i = 0; i < 80; i++) x[i] += i < 40 ? 0x1p21f : -0x1p22f, x[i + 80] *= 0x1p23f;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        for (size_t r = 0; s && r < 3; r++) {
            s->unary_f32(functions[r].op, 0, 0, 400, x, y);
            for (int k = 0; k < 400; k++) {
                const float expected = functions[r].f(x[k]);
                assert_true(y[k] == expected && signbit(y[k]) == signbit(expected));
            }
        }
    }
}

/* Floats of every size near multiples of pi / 2, where most digits cancel. */
static void test_near_multiples(void **unused)
{
    enum { COUNT = 20000 };
    static float x[COUNT], y[COUNT];
    double step = 1.5707963267948966;
    for (int k = 0; k < COUNT; k++) {
        double n = floor(ldexp(1, k % 24) * (1 + (double)(k * 7919 % COUNT) / COUNT));
        x[k] = (float)(n * step);
    }
    x[0] = 0x1.47d0fep+34f; /* as near as 2^-29 */
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const sp_kernels *s = sp_cpu_kernels(isas[i]);
        for (int cosine = 0; s && cosine < 2; cosine++) {
            s->unary_f32(cosine ? SP_UNARY_COS : SP_UNARY_SIN, 0, 0, COUNT, x, y);
            for (int k = 0; k < COUNT; k++) {
                const double expected = cosine ? cos(x[k]) : sin(x[k]);
                if (!(fabs(y[k] - expected) <= fabs(expected) * 0x1.2p-24))
                    fail_msg("%s of %a on %s: %a, expected %a", cosine ? "cos" : "sin", x[k],
                             s->isa, y[k], expected);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accuracy), cmocka_unit_test(test_special),
        cmocka_unit_test(test_rounding), cmocka_unit_test(test_near_multiples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
