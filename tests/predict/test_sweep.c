/* Features and thresholds on a made-up machine whose crossovers can be worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "predict/features.h"

/* Host: 1 GFLOPS, 1 us. Device 1: 10 GFLOPS, 10 us. Memory is fast. The host gains 1 / (1 - zeros)
 * from zeros. */
static void make_machine(sp_platform *p, sp_predict_machine *m, sp_platform_state *state)
{
    memset(p, 0, sizeof *p);
    p->device_count = 2;
    for (int d = 0; d < 2; d++) {
        p->devices[d].peak_flops = d ? 1e10 : 1e9;
        p->devices[d].bandwidth = 1e15;
        for (int k = 0; k < SP_KIND_COUNT; k++) {
            sp_platform_kind *kind = &p->devices[d].kinds[k];
            kind->efficiency = (sp_curve){.count = 1, .x = {1}, .y = {1}};
            kind->bandwidth = 1;
            kind->overhead_ns[SP_REGIME_EAGER] = d ? 10000 : 1000;
            kind->overhead_ns[SP_REGIME_GRAPH] = 1000;
        }
    }
    sp_curve *gain = &p->devices[0].kinds[SPAROA_CLASS_GEMM].sparse_weights;
    gain->count = 3;
    for (int i = 0; i < 3; i++) {
        gain->x[i] = (double[]){0.5, 0.9, 0.99}[i];
        gain->y[i] = (double[]){1, 10, 100}[i];
    }
    *state = sp_platform_nominal(p);
    *m = (sp_predict_machine){p, state, SP_REGIME_EAGER};
}

static sp_predict_op gemm(double flops)
{
    return (sp_predict_op){
        .work = {.kind = SPAROA_CLASS_GEMM, .cost = {flops, flops / 100, flops / 100, flops / 100}},
        .batch = 1,
        .channels = 8,
        .pixels = 1,
        .kernel = 1,
        .stride = 1,
        .groups = 1};
}

static void test_crossovers(void **state)
{
    sp_platform *p = malloc(sizeof *p);
    sp_platform_state s;
    sp_predict_machine m;
    sp_predict_label l;
    make_machine(p, &m, &s);

    /* 1000 + F = 10000 + F / 10 at F = 10000. */
    sp_predict_op op = gemm(1e6);
    sp_predict_sweep(&m, &op, &l);
    assert_true(l.interior[1]);
    assert_true(fabs(sp_predict_flops((double)l.thresholds[1]) / 10000 - 1) < 1e-3);
    /* 1000 + 1e6 / gain = 110000: gain 9.1743, on the line (in log zeros) from 1 at 0.5 to 10 at
     * 0.9 */
    double zeros = exp(log(0.5) + (9.174312 - 1) / 9 * log(0.9 / 0.5));
    assert_true(l.interior[0] && fabs((double)l.thresholds[0] - zeros) < 1e-4);

    /* The threshold does not depend on the size that the operator happens to have. */
    op = gemm(500);
    sp_predict_sweep(&m, &op, &l);
    assert_true(fabs(sp_predict_flops((double)l.thresholds[1]) / 10000 - 1) < 1e-3);
    assert_true(!l.interior[0] && l.thresholds[0] == 0); /* the host wins with no zeros at all */

    m.regime = SP_REGIME_GRAPH; /* equal overheads: device 1 always */
    op = gemm(1e6);
    op.work.kind = SPAROA_CLASS_CONV; /* no sparse kernel */
    sp_predict_sweep(&m, &op, &l);
    assert_true(!l.interior[0] && !l.interior[1] && l.thresholds[0] == 1 && l.thresholds[1] == 0);

    p->devices[1].unsupported = 1u << SPAROA_CLASS_CONV;
    sp_predict_sweep(&m, &op, &l);
    assert_true(!l.interior[0] && !l.interior[1] && l.thresholds[0] == 0 && l.thresholds[1] == 1);
    free(p);
}

/* With a dent in device 1's efficiency its times cross the host's three times: the threshold is the
 * crossing that decides right at the operator's own size. */
static void test_next_crossing(void **state)
{
    sp_platform *p = malloc(sizeof *p);
    sp_platform_state s;
    sp_predict_machine m;
    sp_predict_label l;
    make_machine(p, &m, &s);
    p->devices[1].kinds[SPAROA_CLASS_GEMM].efficiency =
        (sp_curve){.count = 4, .x = {1e6, 2e6, 3e6, 4e6}, .y = {1, 0.05, 0.05, 1}};
    for (double flops = 1e3; flops < 1e9; flops *= 1.37) {
        sp_predict_op op = gemm(flops);
        sp_predict_sweep(&m, &op, &l);
        bool heavy = flops >= sp_predict_flops((double)l.thresholds[1]);
        double host = sp_predict_time(&m, 0, &op, 1, -1),
               other = sp_predict_time(&m, 1, &op, 1, -1);
        assert_true(l.interior[1] && (heavy ? other <= host : host <= other));
    }
    free(p);
}

/* Features are finite whatever the operator is, and the first guesses are near the thresholds. */
static void test_features(void **state)
{
    sp_platform *p = malloc(sizeof *p);
    sp_platform_state s;
    sp_predict_machine m;
    sp_predict_rates *rates = malloc(sizeof *rates);
    make_machine(p, &m, &s);
    sp_predict_rates_make(&m, rates);
    static const double odd[] = {0, 1, 1e-300, 1e300, 7, 1e9};
    float f[SP_PREDICT_FEATURES + 1];
    for (int i = 0; i < 6; i++)
        for (int kind = 0; kind < SP_KIND_COUNT; kind++) {
            sp_predict_op op = gemm(odd[i]);
            op.work.kind = kind;
            op.channels = op.pixels = op.groups = op.batch = odd[(i + 1) % 6];
            f[SP_PREDICT_FEATURES] = 77;
            sp_predict_features(rates, &op, f);
            for (int j = 0; j < SP_PREDICT_FEATURES; j++) assert_true(isfinite(f[j]));
            assert_true(f[SP_PREDICT_FEATURES] == 77);
        }
    for (double flops = 1e4; flops < 1e9; flops *= 3.3) {
        sp_predict_op op = gemm(flops);
        sp_predict_label l;
        sp_predict_sweep(&m, &op, &l);
        sp_predict_features(rates, &op, f);
        for (int k = 0; k < 2; k++) {
            int at = k ? SP_PREDICT_GUESS_INTENSITY : SP_PREDICT_GUESS_SPARSITY;
            if (l.interior[k])
                assert_true(fabsf(f[at] - l.thresholds[k]) < 0.05f);
            else
                assert_true(l.thresholds[k] > 0 ? f[at] > 1 : f[at] < 0);
        }
    }
    for (double x = 1e3; x < 1e12; x *= 7)
        assert_true(fabs(sp_predict_flops(sp_predict_normalised(x)) / x - 1) < 1e-9);
    assert_true(sp_predict_schema() != 0);
    free(p), free(rates);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_crossovers),
                                       cmocka_unit_test(test_next_crossing),
                                       cmocka_unit_test(test_features)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
