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

/* absolute: errors are counted in ulps of max(|x|, 1): functions that cancel near their zeros. */
static const struct row {
    const char *name;
    int act; /* or -1: */
    sp_unary unary;
    double (*f)(double);
    double ulps;
    bool absolute, inf_is_nan;
} rows[] = {
    {"exp", -1, SP_UNARY_EXP, exp, 2.5, false, false},
    {"erf", -1, SP_UNARY_ERF, erf, 4, false, false},
    {"sqrt", -1, SP_UNARY_SQRT, sqrt, 0.6, false, false},
    {"elu", -1, SP_UNARY_ELU, elu, 3, false, false},
    {"softplus", -1, SP_UNARY_SOFTPLUS, softplus, 4, false, false},
    {"sigmoid", SP_ACT_SIGMOID, 0, sigmoid, 4, false, false},
    {"tanh", SP_ACT_TANH, 0, tanh, 4, false, false},
    {"silu", SP_ACT_SILU, 0, silu, 4, true, true},
    {"gelu", SP_ACT_GELU, 0, gelu, 4, true, true},
    {"gelu_tanh", SP_ACT_GELU_TANH, 0, gelu_tanh, 4, true, true},
};

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
                if (rows[r].act >= 0)
                    s->act_f32(rows[r].act, 0, 0, 2 * BATCH, x, y);
                else
                    s->unary_f32(rows[r].unary, 2 * BATCH, x, y);
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
            if (rows[r].act >= 0)
                s->act_f32(rows[r].act, 0, 0, 3, x, y);
            else
                s->unary_f32(rows[r].unary, 3, x, y);
            assert_true(isnan(y[0]));
            assert_true(y[1] == rows[r].f(INFINITY));
            if (rows[r].inf_is_nan)
                assert_true(isnan(y[2]) || y[2] == 0);
            else
                assert_true(error_of(&rows[r], x[2], y[2]) == 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_accuracy),
                                       cmocka_unit_test(test_special)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
