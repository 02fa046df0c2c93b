/* Operators that work with indices: gather, scatter, selection, sorting. */
#include "node.h"

static sparoa_tensor *values_input(test_node *t, sparoa_dtype dtype, int rank, const int64_t *dims,
                                   const double *v)
{
    uint32_t seed = 1;
    sparoa_tensor *in = node_input(t, dtype, rank, dims, &seed);
    for (int64_t i = 0; i < sp_count(in); i++) sp_set_f64(in, i, v[i]);
    return in;
}

#define VALUES(t, dtype, n, ...) values_input(t, dtype, 1, (int64_t[]){n}, (double[]){__VA_ARGS__})

static void check_values(const sparoa_tensor *t, int64_t n, const double *want)
{
    assert_int_equal(sp_count(t), n);
    for (int64_t i = 0; i < n; i++) {
        double got = sp_get_f64(t, i);
        if (got != want[i] && (got == got || want[i] == want[i]))
            fail_msg("element %d is %g, expected %g", (int)i, got, want[i]);
    }
}

#define CHECK(t, n, ...) check_values(t, n, (double[]){__VA_ARGS__})

/* Infers and runs; returns the status of whichever failed. */
static sparoa_status node_try(test_node *t)
{
    const sparoa_op *op = node_row(t);
    SP_TRY(node_infer(t));
    for (int32_t i = 0; i < t->node.n_out; i++)
        t->out[i].data = malloc(sparoa_tensor_bytes(&t->out[i]) + 1);
    sparoa_exec exec = {.threads = 2, .parallel = test_parallel, .err = &t->err};
    exec.workspace = aligned_alloc(64, (sp_op_workspace(op, &t->node, 2) + 127) / 64 * 64);
    sparoa_status status = sp_op_run(op, &t->node, &exec);
    free(exec.workspace);
    return status;
}

static void test_gather(void **state)
{
    (void)state;
    static const sparoa_dtype types[] = {SPAROA_INT8, SPAROA_BFLOAT16, SPAROA_FLOAT32,
                                         SPAROA_INT64};
    uint32_t seed = 2;
    for (int round = 0; round < 100; round++) {
        int axis = (int)test_range(&seed, 0, 2);
        int64_t dims[3] = {test_range(&seed, 1, 6), test_range(&seed, 1, 6),
                           test_range(&seed, 1, 9)},
                n = 7;
        test_node t;
        node_start(&t, "Gather", 13, 1);
        sparoa_tensor *in = node_input(&t, types[round % 4], 3, dims, &seed);
        sparoa_tensor *indices =
            node_input(&t, round & 1 ? SPAROA_INT32 : SPAROA_INT64, 1, &n, &seed);
        for (int64_t i = 0; i < n; i++)
            sp_set_i64(indices, i, test_range(&seed, -dims[axis], dims[axis] - 1));
        node_int(&t, "axis", axis);
        node_run(&t, 3);
        for (int64_t i = 0; i < sp_count(&t.out[0]); i++) {
            int64_t at[3], rest = i;
            for (int a = 2; a >= 0; a--) {
                at[a] = rest % t.out[0].dims[a];
                rest /= t.out[0].dims[a];
            }
            at[axis] = sp_get_i64(indices, at[axis]);
            if (at[axis] < 0) at[axis] += dims[axis];
            double want = sp_get_f64(in, (at[0] * dims[1] + at[1]) * dims[2] + at[2]);
            assert_true(sp_get_f64(&t.out[0], i) == want);
        }
        node_free(&t);
    }
}

/* Every operator that takes indices refuses those outside, in both directions. */
static void test_index_errors(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        int updates;
    } cases[] = {{"Gather", 0},
                 {"GatherElements", 0},
                 {"GatherND", 0},
                 {"ScatterElements", 1},
                 {"ScatterND", 1}};
    static const double bad[] = {5, -6, 1e18, -1e18};
    for (size_t i = 0; i < 5; i++)
        for (int b = 0; b < 4; b++) {
            test_node t;
            node_start(&t, cases[i].op, 18, 1);
            VALUES(&t, SPAROA_FLOAT32, 5, 1, 2, 3, 4, 5);
            bool nd = strstr(cases[i].op, "ND") != NULL;
            values_input(&t, SPAROA_INT64, nd ? 2 : 1, nd ? (int64_t[]){2, 1} : (int64_t[]){2},
                         (double[]){-5, bad[b]});
            if (cases[i].updates) VALUES(&t, SPAROA_FLOAT32, 2, 0, 0);
            assert_int_equal(node_try(&t), SPAROA_INDEX_OUT_OF_RANGE);
            assert_non_null(strstr(t.err.message, "axis 0 of size 5"));
            node_free(&t);
        }
    test_node t;
    node_start(&t, "ReverseSequence", 10, 1);
    values_input(&t, SPAROA_FLOAT32, 2, (int64_t[]){2, 1}, (double[]){1, 2});
    VALUES(&t, SPAROA_INT64, 1, 3);
    assert_int_equal(node_try(&t), SPAROA_INDEX_OUT_OF_RANGE);
    node_free(&t);
    node_start(&t, "MaxUnpool", 22, 1);
    values_input(&t, SPAROA_FLOAT32, 3, (int64_t[]){1, 1, 1}, (double[]){1});
    values_input(&t, SPAROA_INT64, 3, (int64_t[]){1, 1, 1}, (double[]){2});
    node_ints(&t, "kernel_shape", 1, (int64_t[]){2});
    assert_int_equal(node_try(&t), SPAROA_INDEX_OUT_OF_RANGE);
    node_free(&t);
    node_start(&t, "TensorScatter", 24, 1);
    values_input(&t, SPAROA_FLOAT32, 3, (int64_t[]){1, 3, 1}, (double[]){1, 2, 3});
    values_input(&t, SPAROA_FLOAT32, 3, (int64_t[]){1, 2, 1}, (double[]){4, 5});
    VALUES(&t, SPAROA_INT64, 1, 2);
    assert_int_equal(node_try(&t), SPAROA_INDEX_OUT_OF_RANGE);
    node_free(&t);
}

static void test_scatter_reductions(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double want[3];
    } cases[] = {
        {"none", {2, 7, 3}}, {"add", {2, 12, 3}}, {"mul", {2, 42, 3}},
        {"max", {2, 7, 3}},  {"min", {2, 2, 3}},
    };
    static const sparoa_dtype types[] = {SPAROA_FLOAT32,  SPAROA_FLOAT64, SPAROA_FLOAT16,
                                         SPAROA_BFLOAT16, SPAROA_INT8,    SPAROA_UINT8,
                                         SPAROA_INT16,    SPAROA_UINT16,  SPAROA_INT32,
                                         SPAROA_UINT32,   SPAROA_INT64,   SPAROA_UINT64};
    for (int c = 0; c < 5; c++)
        for (int i = 0; i < 24; i++) {
            test_node t;
            node_start(&t, i & 1 ? "ScatterND" : "ScatterElements", 18, 1);
            VALUES(&t, types[i / 2], 3, 2, 3, 3);
            values_input(&t, SPAROA_INT64, i & 1 ? 2 : 1, (int64_t[]){2, 1}, (double[]){1, -2});
            VALUES(&t, types[i / 2], 2, 2, 7);
            node_string(&t, "reduction", cases[c].name);
            node_run(&t, 2);
            check_values(&t.out[0], 3, cases[c].want);
            node_free(&t);
        }
}

static void test_scatter_nan(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        test_node t;
        node_start(&t, "ScatterElements", 18, 1);
        VALUES(&t, SPAROA_FLOAT32, 2, NAN, 1);
        VALUES(&t, SPAROA_INT32, 2, 0, 1);
        VALUES(&t, SPAROA_FLOAT32, 2, 1, NAN);
        node_string(&t, "reduction", i ? "max" : "min");
        node_run(&t, 1);
        CHECK(&t.out[0], 2, NAN, NAN);
        node_free(&t);
    }
}

/* ---- selection ---- */

static void top_k(test_node *t, int64_t k, bool largest)
{
    node_start(t, "TopK", 11, 2);
    VALUES(t, SPAROA_FLOAT32, 7, 3, -0.0, NAN, 3, 0.0, -INFINITY, 3);
    VALUES(t, SPAROA_INT64, 1, (double)k);
    node_int(t, "largest", largest);
}

static void test_topk(void **state)
{
    (void)state;
    test_node t;
    top_k(&t, 7, true);
    node_run(&t, 2);
    CHECK(&t.out[0], 7, NAN, 3, 3, 3, 0, 0, -INFINITY);
    CHECK(&t.out[1], 7, 2, 0, 3, 6, 1, 4, 5);
    node_free(&t);
    top_k(&t, 4, false);
    node_run(&t, 2);
    CHECK(&t.out[1], 4, 5, 1, 4, 0);
    node_free(&t);
    top_k(&t, 2, true);
    node_run(&t, 2);
    CHECK(&t.out[1], 2, 2, 0);
    node_free(&t);
    top_k(&t, 0, true);
    node_run(&t, 2);
    assert_int_equal(sp_count(&t.out[0]), 0);
    node_free(&t);
    top_k(&t, 8, true);
    assert_int_equal(node_infer(&t), SPAROA_SHAPE_MISMATCH);
    node_free(&t);
}

static void test_topk_random(void **state)
{
    (void)state;
    static const sparoa_dtype types[] = {SPAROA_FLOAT32, SPAROA_INT8, SPAROA_UINT64, SPAROA_FLOAT16,
                                         SPAROA_FLOAT64};
    uint32_t seed = 4;
    for (int round = 0; round < 100; round++) {
        int64_t dims[3] = {3, test_range(&seed, 1, 40), 5}, n = dims[1],
                k = test_range(&seed, 1, n);
        bool largest = round & 1;
        test_node t;
        node_start(&t, "TopK", 11, 2);
        sparoa_tensor *in = node_input(&t, types[round % 5], 3, dims, &seed);
        for (int64_t i = 0; i < sp_count(in); i++) sp_set_i64(in, i, test_range(&seed, 0, 12));
        VALUES(&t, SPAROA_INT64, 1, (double)k);
        node_int(&t, "axis", 1);
        node_int(&t, "largest", largest);
        node_run(&t, 4);
        for (int64_t line = 0; line < 15; line++) {
            int64_t o = line / 5, c = line % 5;
            for (int64_t j = 0; j < k; j++) { /* rank of the j-th result among all must be j */
                int64_t index = sp_get_i64(&t.out[1], (o * k + j) * 5 + c), rank = 0;
                double v = sp_get_f64(in, (o * n + index) * 5 + c);
                assert_true(v == sp_get_f64(&t.out[0], (o * k + j) * 5 + c));
                for (int64_t i = 0; i < n; i++) {
                    double w = sp_get_f64(in, (o * n + i) * 5 + c);
                    rank += (largest ? w > v : w < v) || (w == v && i < index);
                }
                assert_int_equal(rank, j);
            }
        }
        node_free(&t);
    }
}

static void test_unique(void **state)
{
    (void)state;
    for (int sorted = 0; sorted < 2; sorted++) {
        test_node t;
        node_start(&t, "Unique", 11, 4);
        VALUES(&t, SPAROA_FLOAT32, 8, 2, NAN, 1, 1, -0.0, NAN, 0.0, 2);
        node_int(&t, "sorted", sorted);
        node_run(&t, 1);
        if (sorted) {
            CHECK(&t.out[0], 4, 0, 1, 2, NAN);
            CHECK(&t.out[1], 4, 4, 2, 0, 1);
            CHECK(&t.out[2], 8, 2, 3, 1, 1, 0, 3, 0, 2);
        } else {
            CHECK(&t.out[0], 4, 2, NAN, 1, 0);
            CHECK(&t.out[1], 4, 0, 1, 2, 4);
            CHECK(&t.out[2], 8, 0, 1, 2, 2, 3, 1, 3, 0);
        }
        CHECK(&t.out[3], 4, 2, 2, 2, 2);
        node_free(&t);
        node_start(&t, "Unique", 11, 4); /* columns */
        values_input(&t, SPAROA_FLOAT16, 2, (int64_t[]){2, 4}, (double[]){3, 1, 3, 1, 5, 2, 5, 1});
        node_int(&t, "axis", 1);
        node_int(&t, "sorted", sorted);
        node_run(&t, 1);
        if (sorted)
            CHECK(&t.out[0], 6, 1, 1, 3, 1, 2, 5);
        else
            CHECK(&t.out[0], 6, 3, 1, 1, 5, 2, 1);
        node_free(&t);
        node_start(&t, "Unique", 11, 4);
        values_input(&t, SPAROA_INT64, 1, (int64_t[]){0}, NULL);
        node_run(&t, 1);
        for (int i = 0; i < 4; i++) assert_int_equal(sp_count(&t.out[i]), 0);
        node_free(&t);
    }
}

static void test_nonzero_compress(void **state)
{
    (void)state;
    test_node t;
    node_start(&t, "NonZero", 13, 1);
    values_input(&t, SPAROA_FLOAT16, 2, (int64_t[]){2, 3}, (double[]){0, 1, -0.0, NAN, 0, 2});
    node_run(&t, 1);
    CHECK(&t.out[0], 6, 0, 1, 1, 1, 0, 2);
    node_free(&t);
    node_start(&t, "NonZero", 13, 1);
    values_input(&t, SPAROA_BOOL, 0, NULL, (double[]){1});
    node_run(&t, 1);
    CHECK(&t.out[0], 1, 0);
    node_free(&t);
    for (int flat = 0; flat < 2; flat++) {
        node_start(&t, "Compress", 11, 1);
        values_input(&t, SPAROA_INT16, 2, (int64_t[]){3, 2}, (double[]){1, 2, 3, 4, 5, 6});
        VALUES(&t, SPAROA_BOOL, 3, 0, 1, 1);
        if (!flat) node_int(&t, "axis", 0);
        node_run(&t, 1);
        if (flat)
            CHECK(&t.out[0], 2, 2, 3);
        else
            CHECK(&t.out[0], 4, 3, 4, 5, 6);
        node_free(&t);
    }
}

static void test_argmax(void **state)
{
    (void)state;
    for (int last = 0; last < 2; last++) {
        test_node t;
        node_start(&t, "ArgMax", 13, 1);
        values_input(&t, SPAROA_FLOAT32, 2, (int64_t[]){3, 3},
                     (double[]){1, 5, NAN, 4, 5, 9, 4, 0, NAN});
        node_int(&t, "axis", 0);
        node_int(&t, "keepdims", 0);
        node_int(&t, "select_last_index", last);
        node_run(&t, 2);
        assert_int_equal(t.out[0].rank, 1);
        if (last)
            CHECK(&t.out[0], 3, 2, 1, 2);
        else
            CHECK(&t.out[0], 3, 1, 0, 0);
        node_free(&t);
    }
}

static void test_one_hot(void **state)
{
    (void)state;
    test_node t;
    node_start(&t, "OneHot", 11, 1);
    VALUES(&t, SPAROA_INT64, 4, 1, -1, 3, -4); /* the last two select nothing */
    values_input(&t, SPAROA_INT64, 0, NULL, (double[]){3});
    VALUES(&t, SPAROA_UINT8, 2, 5, 7);
    node_run(&t, 2);
    CHECK(&t.out[0], 12, 5, 7, 5, 5, 5, 7, 5, 5, 5, 5, 5, 5);
    node_free(&t);
}

static void test_col2im(void **state)
{
    (void)state;
    uint32_t seed = 6;
    for (int round = 0; round < 60; round++) {
        int64_t image[2], block[2], strides[2], dilations[2], pads[4], steps[2];
        for (int i = 0; i < 2; i++) {
            image[i] = test_range(&seed, 1, 7);
            block[i] = test_range(&seed, 1, 3);
            strides[i] = test_range(&seed, 1, 3);
            dilations[i] = test_range(&seed, 1, 2);
            pads[i] = test_range(&seed, 0, 2);
            pads[i + 2] = test_range(&seed, 0, 2);
            int64_t room = image[i] + pads[i] + pads[i + 2] - dilations[i] * (block[i] - 1) - 1;
            steps[i] = room < 0 ? 0 : room / strides[i] + 1;
        }
        int64_t dims[3] = {2, 3 * block[0] * block[1], steps[0] * steps[1]}, two = 2;
        double want[2 * 3 * 49] = {0};
        test_node t;
        node_start(&t, "Col2Im", 18, 1);
        sparoa_tensor *in =
            node_input(&t, round & 1 ? SPAROA_FLOAT64 : SPAROA_INT32, 3, dims, &seed);
        memcpy(node_input(&t, SPAROA_INT64, 1, &two, &seed)->data, image, sizeof image);
        memcpy(node_input(&t, SPAROA_INT64, 1, &two, &seed)->data, block, sizeof block);
        node_ints(&t, "strides", 2, strides);
        node_ints(&t, "dilations", 2, dilations);
        node_ints(&t, "pads", 4, pads);
        node_run(&t, 2);
        for (int64_t i = 0; i < sp_count(in); i++) {
            int64_t place = i % dims[2], element = i / dims[2] % (block[0] * block[1]);
            int64_t plane = i / dims[2] / (block[0] * block[1]);
            int64_t y = place / steps[1] * strides[0] + element / block[1] * dilations[0] - pads[0];
            int64_t x = place % steps[1] * strides[1] + element % block[1] * dilations[1] - pads[1];
            if (y < 0 || x < 0 || y >= image[0] || x >= image[1]) continue;
            want[(plane * image[0] + y) * image[1] + x] += sp_get_f64(in, i);
        }
        assert_int_equal(sp_count(&t.out[0]), 6 * image[0] * image[1]);
        for (int64_t i = 0; i < sp_count(&t.out[0]); i++)
            check_close(sp_get_f64(&t.out[0], i), want[i], 1e-12);
        node_free(&t);
    }
}

static void test_drawing(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        test_node a, b;
        test_node *const both[] = {&a, &b};
        double sum = 0, squares = 0;
        int64_t n = 20000;
        for (int k = 0; k < 2; k++) {
            node_start(both[k], i ? "RandomNormal" : "RandomUniform", 22, 1);
            node_ints(both[k], "shape", 1, &n);
            node_float(both[k], "seed", 3);
            node_run(both[k], k + 1);
        }
        assert_memory_equal(a.out[0].data, b.out[0].data, sparoa_tensor_bytes(&a.out[0]));
        for (int64_t j = 0; j < n; j++) {
            double v = sp_get_f64(&a.out[0], j);
            sum += v;
            squares += v * v;
        }
        double mean = sum / (double)n, variance = squares / (double)n - mean * mean;
        check_close(mean, i ? 0 : 0.5, 0.03);
        check_close(variance, i ? 1 : 1.0 / 12, 0.03);
        node_free(&a);
        node_free(&b);
    }
    test_node t;
    int32_t count[3] = {0};
    node_start(&t, "Multinomial", 22, 1);
    values_input(&t, SPAROA_FLOAT32, 2, (int64_t[]){1, 3},
                 (double[]){log(0.5), -INFINITY, log(0.25)});
    node_int(&t, "sample_size", 9000);
    node_run(&t, 1);
    for (int i = 0; i < 9000; i++) count[sp_get_i64(&t.out[0], i)]++;
    assert_in_range(count[0], 5800, 6200);
    assert_int_equal(count[1], 0);
    node_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_index_errors),
        cmocka_unit_test(test_scatter_reductions),
        cmocka_unit_test(test_scatter_nan),
        cmocka_unit_test(test_topk),
        cmocka_unit_test(test_topk_random),
        cmocka_unit_test(test_unique),
        cmocka_unit_test(test_nonzero_compress),
        cmocka_unit_test(test_argmax),
        cmocka_unit_test(test_one_hot),
        cmocka_unit_test(test_drawing),
        cmocka_unit_test(test_col2im),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
