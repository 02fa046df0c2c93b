/* DFT against direct sums, round trips, and halves of spectra. */
#include "node.h"

static void direct(const double *x, double *y, int64_t n, double sign)
{
    for (int64_t k = 0; k < n; k++) {
        y[2 * k] = y[2 * k + 1] = 0;
        for (int64_t i = 0; i < n; i++) {
            double angle = sign * 2.0 * M_PI * (double)(i * k % n) / (double)n;
            y[2 * k] += x[2 * i] * cos(angle) - x[2 * i + 1] * sin(angle);
            y[2 * k + 1] += x[2 * i] * sin(angle) + x[2 * i + 1] * cos(angle);
        }
    }
}

static void start(test_node *t, int64_t n, int64_t parts, bool inverse, bool onesided,
                  uint32_t *seed)
{
    node_start(t, "DFT", 17, 1);
    node_input(t, SPAROA_FLOAT64, 3, (int64_t[]){1, n, parts}, seed);
    node_int(t, "inverse", inverse);
    node_int(t, "onesided", onesided);
}

static void check_length(int64_t n, uint32_t *seed)
{
    test_node t;
    double *x = calloc((size_t)n * 2, sizeof *x), *y = calloc((size_t)n * 2, sizeof *y);
    for (int parts = 1; parts <= 2; parts++)
        for (int inverse = 0; inverse <= 1; inverse++) {
            start(&t, n, parts, inverse, false, seed);
            for (int64_t i = 0; i < n; i++) {
                x[2 * i] = sp_get_f64(&t.in[0], i * parts);
                x[2 * i + 1] = parts == 2 ? sp_get_f64(&t.in[0], i * parts + 1) : 0;
            }
            direct(x, y, n, inverse ? 1 : -1);
            node_run(&t, 2);
            for (int64_t i = 0; i < 2 * n; i++)
                check_close(sp_get_f64(&t.out[0], i), inverse ? y[i] / (double)n : y[i], 1e-10);
            node_free(&t);
        }
    free(x);
    free(y);
}

static void lengths_against_direct_sums(void **state)
{
    const int64_t more[] = {97, 121, 225, 251, 360, 1000, 1024, 1009};
    uint32_t seed = 3;
    for (int64_t n = 1; n <= 64; n++) check_length(n, &seed);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) check_length(more[i], &seed);
}

/* A real signal through half a spectrum and back. */
static void real_round_trip(void **state)
{
    uint32_t seed = 4;
    for (int64_t n = 2; n < 80; n++) {
        test_node a, b;
        start(&a, n, 1, false, true, &seed);
        node_run(&a, 1);
        assert_int_equal(a.out[0].dims[1], n / 2 + 1);
        start(&b, n / 2 + 1, 2, true, true, &seed);
        memcpy(b.in[0].data, a.out[0].data, sparoa_tensor_bytes(&a.out[0]));
        node_input(&b, SPAROA_INT64, 0, NULL, &seed);
        sp_set_i64(&b.in[1], 0, n);
        node_run(&b, 1);
        assert_int_equal(b.out[0].dims[1], n);
        for (int64_t i = 0; i < n; i++)
            check_close(sp_get_f64(&b.out[0], i), sp_get_f64(&a.in[0], i), 1e-12);
        node_free(&a);
        node_free(&b);
    }
}

/* The middle axis of rank 4, cut or padded, against the same lines one by one. */
static void axes_and_lengths(void **state)
{
    uint32_t seed = 8;
    for (int64_t length = 3; length <= 9; length++) {
        test_node t;
        double x[32] = {0}, y[32];
        node_start(&t, "DFT", 20, 1);
        node_input(&t, SPAROA_FLOAT64, 4, (int64_t[]){2, 6, 3, 2}, &seed);
        node_input(&t, SPAROA_INT64, 0, NULL, &seed);
        node_input(&t, SPAROA_INT64, 0, NULL, &seed);
        sp_set_i64(&t.in[1], 0, length);
        sp_set_i64(&t.in[2], 0, -3);
        node_run(&t, 3);
        for (int64_t line = 0; line < 6; line++) {
            int64_t a = line / 3, c = line % 3;
            for (int64_t i = 0; i < 2 * length; i++)
                x[i] = i / 2 < 6 ? sp_get_f64(&t.in[0], ((a * 6 + i / 2) * 3 + c) * 2 + i % 2) : 0;
            direct(x, y, length, -1);
            for (int64_t i = 0; i < 2 * length; i++)
                check_close(sp_get_f64(&t.out[0], ((a * length + i / 2) * 3 + c) * 2 + i % 2), y[i],
                            1e-12);
        }
        node_free(&t);
    }
}

static void bad_requests_are_refused(void **state)
{
    const int64_t lengths[] = {0, -1, INT64_MAX, INT64_MIN}, axes[] = {2, -1, 3, -4, INT64_MAX};
    uint32_t seed = 8;
    test_node t;
    for (size_t i = 0; i < 9; i++) {
        node_start(&t, "DFT", 20, 1);
        node_input(&t, SPAROA_FLOAT32, 3, (int64_t[]){1, 4, 1}, &seed);
        node_input(&t, SPAROA_INT64, 0, NULL, &seed);
        node_input(&t, SPAROA_INT64, 0, NULL, &seed);
        sp_set_i64(&t.in[1], 0, i < 4 ? lengths[i] : 4);
        sp_set_i64(&t.in[2], 0, i < 4 ? 1 : axes[i - 4]);
        assert_int_not_equal(node_infer(&t), SPAROA_OK);
        node_free(&t);
    }
    start(&t, 0, 1, false, false, &seed);
    assert_int_not_equal(node_infer(&t), SPAROA_OK);
    node_free(&t);
    start(&t, 4, 2, false, true, &seed);
    assert_int_not_equal(node_infer(&t), SPAROA_OK);
    node_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_against_direct_sums),
        cmocka_unit_test(real_round_trip),
        cmocka_unit_test(axes_and_lengths),
        cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
