/* Resize: results worked out by hand, channels last against channels first, and requests that
 * cannot work. */
#include "node.h"

static const float *floats_of(test_node *t, int64_t n, const float *values)
{
    sparoa_tensor *in = &t->in[t->node.n_in];
    *in = sparoa_tensor_view(SPAROA_FLOAT32, NULL, 1, &n);
    in->data = malloc((size_t)n * sizeof(float) + 1);
    memcpy(in->data, values, (size_t)n * sizeof(float));
    t->in_list[t->node.n_in++] = in;
    return in->data;
}

/* A row of n elements resized by `scale`. */
static void start_row(test_node *t, int64_t n, const float *x, float scale)
{
    node_start(t, "Resize", 13, 1);
    floats_of(t, n, x);
    node_skip_input(t);
    floats_of(t, 1, &scale);
}

static void check_row(test_node *t, int64_t n, const double *want)
{
    node_run(t, 2);
    assert_int_equal(t->out[0].dims[0], n);
    for (int64_t i = 0; i < n; i++) check_close(sp_get_f64(&t->out[0], i), want[i], 1e-6);
    node_free(t);
}

static void linear_by_hand(void **state)
{
    const float x[] = {1, 2, 4};
    test_node t;
    start_row(&t, 3, x, 2);
    node_string(&t, "mode", "linear");
    check_row(&t, 6, (double[]){1, 1.25, 1.75, 2.5, 3.5, 4});
    start_row(&t, 3, x, 2);
    node_string(&t, "mode", "linear");
    node_string(&t, "coordinate_transformation_mode", "align_corners");
    check_row(&t, 6, (double[]){1, 1.4, 1.8, 2.4, 3.2, 4});
    start_row(&t, 3, x, 2);
    node_string(&t, "mode", "linear");
    node_string(&t, "coordinate_transformation_mode", "asymmetric");
    check_row(&t, 6, (double[]){1, 1.5, 2, 3, 4, 4});
}

static void nearest_by_hand(void **state)
{
    const float x[] = {1, 2, 3, 4};
    test_node t;
    start_row(&t, 4, x, 0.5f); /* from 0.5 and 2.5 */
    check_row(&t, 2, (double[]){1, 3});
    start_row(&t, 4, x, 0.5f);
    node_string(&t, "nearest_mode", "round_prefer_ceil");
    check_row(&t, 2, (double[]){2, 4});
    start_row(&t, 4, x, 1.5f);
    node_string(&t, "nearest_mode", "floor");
    node_string(&t, "coordinate_transformation_mode", "asymmetric");
    check_row(&t, 6, (double[]){1, 1, 2, 3, 3, 4});
    start_row(&t, 4, x, 1.5f);
    node_string(&t, "nearest_mode", "ceil");
    node_string(&t, "coordinate_transformation_mode", "asymmetric");
    check_row(&t, 6, (double[]){1, 2, 3, 3, 4, 4});
}

static void cubic_keeps_lines(void **state)
{
    const float x[] = {0, 1, 2, 3, 4, 5, 6, 7};
    test_node t;
    start_row(&t, 8, x, 2);
    node_string(&t, "mode", "cubic");
    node_float(&t, "cubic_coeff_a", -0.5f);
    node_run(&t, 1);
    for (int64_t i = 4; i < 12; i++)
        check_close(sp_get_f64(&t.out[0], i), ((double)i + 0.5) / 2 - 0.5, 1e-6);
    node_free(&t);
}

/* A triangle of width 2: weights 1, 3, 3, 1 of 8 where all lie inside. */
static void antialias_by_hand(void **state)
{
    const float x[] = {8, 0, 0, 8, 0, 0};
    test_node t;
    start_row(&t, 6, x, 0.5f);
    t.node.version = 18;
    node_string(&t, "mode", "linear");
    node_int(&t, "antialias", 1);
    check_row(&t, 3, (double[]){4, 3, 1}); /* the edge takes the weight that falls outside */
}

static void channels_last(void **state)
{
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    uint32_t seed = 2;
    for (int m = 0; m < 9; m++) {
        test_node a, b;
        const float scales[] = {1, 1, m / 3 == 0 ? 2.0f : 0.6f, m / 3 == 2 ? 0.5f : 1.7f};
        const int64_t n = 2, c = 3, h = 5, w = 6;
        for (int last = 0; last < 2; last++) {
            test_node *t = last ? &b : &a;
            node_start(t, "Resize", 13, 1);
            node_input(t, SPAROA_FLOAT32, 4,
                       last ? (int64_t[]){n, h, w, c} : (int64_t[]){n, c, h, w}, &seed);
            node_skip_input(t);
            floats_of(t, 4, scales);
            node_string(t, "mode", modes[m % 3]);
            if (last) node_int(t, "sp.nhwc", 1);
        }
        for (int64_t i = 0; i < n * c * h * w; i++) {
            int64_t x = i % w, y = i / w % h, ch = i / w / h % c, image = i / w / h / c;
            sp_set_f64(&b.in[0], ((image * h + y) * w + x) * c + ch, sp_get_f64(&a.in[0], i));
        }
        node_run(&a, 2);
        node_run(&b, 3);
        int64_t oh = a.out[0].dims[2], ow = a.out[0].dims[3];
        assert_int_equal(b.out[0].dims[1], oh);
        assert_int_equal(b.out[0].dims[2], ow);
        assert_int_equal(b.out[0].dims[3], c);
        for (int64_t i = 0; i < sp_count(&a.out[0]); i++) {
            int64_t x = i % ow, y = i / ow % oh, ch = i / ow / oh % c, image = i / ow / oh / c;
            check_close(sp_get_f64(&b.out[0], ((image * oh + y) * ow + x) * c + ch),
                        sp_get_f64(&a.out[0], i), 1e-6);
        }
        node_free(&a);
        node_free(&b);
    }
}

static void bytes_are_rounded(void **state)
{
    uint32_t seed = 1;
    const float scale = 2;
    const double want[] = {0, 64, 191, 255};
    test_node t;
    node_start(&t, "Resize", 13, 1);
    node_input(&t, SPAROA_UINT8, 1, (int64_t[]){2}, &seed);
    sp_set_f64(&t.in[0], 0, 0);
    sp_set_f64(&t.in[0], 1, 255);
    node_skip_input(&t);
    floats_of(&t, 1, &scale);
    node_string(&t, "mode", "linear");
    check_row(&t, 4, want);
}

static void bad_scales_are_refused(void **state)
{
    const float x[] = {1, 2}, bad[] = {0, -1, NAN, INFINITY, 1e30f};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_node t;
        start_row(&t, 2, x, bad[i]);
        assert_int_not_equal(node_infer(&t), SPAROA_OK);
        node_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_by_hand),         cmocka_unit_test(nearest_by_hand),
        cmocka_unit_test(cubic_keeps_lines),      cmocka_unit_test(antialias_by_hand),
        cmocka_unit_test(channels_last),          cmocka_unit_test(bytes_are_rounded),
        cmocka_unit_test(bad_scales_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
