/* Reductions over random axes against a naive sum in double; softmax against its definition. */
#include "node.h"

static const char *const names[] = {"ReduceSum", "ReduceMean", "ReduceSumSquare",
                                    "ReduceL1",  "ReduceL2",   "ReduceLogSumExp",
                                    "ReduceMax", "ReduceMin",  "ReduceProd"};
#define KINDS (sizeof names / sizeof names[0])

static double fold(size_t kind, double acc, double x)
{
    switch (kind) {
    case 2:
    case 4: return acc + x * x;
    case 3: return acc + fabs(x);
    case 5: return acc + exp(x);
    case 6: return x > acc ? x : acc;
    case 7: return x < acc ? x : acc;
    case 8: return acc * x;
    default: return acc + x;
    }
}

static double finish(size_t kind, double acc, int64_t n)
{
    return kind == 1 ? acc / (double)n : kind == 4 ? sqrt(acc) : kind == 5 ? log(acc) : acc;
}

static void check_naive(const test_node *t, size_t kind, const bool *reduced)
{
    const sparoa_tensor *in = &t->in[0], *out = &t->out[0];
    int64_t n_out = sp_count(out), n_in = sp_count(in);
    for (int64_t o = 0; o < n_out; o++) {
        double acc = kind == 8 ? 1 : kind == 6 ? -INFINITY : kind == 7 ? INFINITY : 0;
        int64_t n = 0;
        for (int64_t i = 0; i < n_in; i++) {
            int64_t index = 0, stride = 1, rest = i;
            for (int32_t k = in->rank - 1; k >= 0; k--) {
                if (!reduced[k]) {
                    index += rest % in->dims[k] * stride;
                    stride *= in->dims[k];
                }
                rest /= in->dims[k];
            }
            if (index != o) continue;
            acc = fold(kind, acc, sp_get_f64(in, i));
            n++;
        }
        check_close(sp_get_f64(out, o), finish(kind, acc, n), kind == 8 ? 1e-5 : 1e-6);
    }
}

static void random_axes(void **state)
{
    uint32_t seed = 7;
    for (int round = 0; round < 400; round++) {
        test_node t;
        size_t kind = (size_t)round % KINDS;
        int64_t dims[5], axes[5];
        int rank = (int)test_range(&seed, 1, 5), n = 0;
        bool reduced[5] = {false};
        for (int i = 0; i < rank; i++)
            dims[i] = test_range(&seed, 1, round % 7 == 0 && i == rank - 1 ? 150 : 4);
        for (int i = 0; i < rank; i++) {
            reduced[i] = test_range(&seed, 0, 1);
            if (reduced[i]) axes[n++] = test_range(&seed, 0, 1) ? i : i - rank;
        }
        if (n == 0)
            for (int i = 0; i < rank; i++) reduced[i] = true;
        node_start(&t, names[kind], 11, 1);
        node_input(&t, test_range(&seed, 0, 3) ? SPAROA_FLOAT32 : SPAROA_FLOAT64, rank, dims,
                   &seed);
        if (kind == 8)
            for (int64_t i = 0; i < sp_count(&t.in[0]); i++)
                sp_set_f64(&t.in[0], i, 1 + sp_get_f64(&t.in[0], i) / 64);
        node_int(&t, "keepdims", test_range(&seed, 0, 1));
        if (n > 0) node_ints(&t, "axes", (size_t)n, axes);
        node_run(&t, 3);
        check_naive(&t, kind, reduced);
        node_free(&t);
    }
}

static void empty_sets(void **state)
{
    const double want[KINDS] = {0, NAN, 0, 0, 0, -INFINITY, -INFINITY, INFINITY, 1};
    uint32_t seed = 1;
    for (size_t kind = 0; kind < KINDS; kind++) {
        test_node t;
        node_start(&t, names[kind], 18, 1);
        node_input(&t, SPAROA_FLOAT32, 3, (const int64_t[]){2, 0, 3}, &seed);
        node_input(&t, SPAROA_INT64, 1, (const int64_t[]){1}, &seed);
        sp_set_i64(&t.in[1], 0, 1);
        node_run(&t, 1);
        for (int64_t i = 0; i < 6; i++) {
            double got = sp_get_f64(&t.out[0], i);
            assert_true(got == want[kind] || (got != got && want[kind] != want[kind]));
        }
        node_free(&t);
    }
}

static void noop_applies_the_function(void **state)
{
    uint32_t seed = 5;
    test_node t;
    node_start(&t, "ReduceSumSquare", 18, 1);
    node_input(&t, SPAROA_FLOAT32, 2, (const int64_t[]){3, 100}, &seed);
    node_int(&t, "noop_with_empty_axes", 1);
    node_run(&t, 2);
    for (int64_t i = 0; i < 300; i++) {
        double x = sp_get_f64(&t.in[0], i);
        check_close(sp_get_f64(&t.out[0], i), x * x, 1e-6);
    }
    node_free(&t);
}

static void bad_axes_are_refused(void **state)
{
    uint32_t seed = 1;
    test_node t;
    node_start(&t, "ReduceSum", 11, 1);
    node_input(&t, SPAROA_FLOAT32, 2, (const int64_t[]){3, 4}, &seed);
    node_ints(&t, "axes", 1, (const int64_t[]){INT64_MIN});
    assert_int_equal(node_infer(&t), SPAROA_INVALID_GRAPH);
    node_free(&t);
}

/* Version 11 flattens from the axis on; version 13 works along it. */
static void softmax_axes(void **state)
{
    uint32_t seed = 3;
    for (int version = 11; version <= 13; version += 2)
        for (int axis = 0; axis < 3; axis++) {
            test_node t;
            const int64_t dims[3] = {3, 5, 70};
            node_start(&t, "Softmax", version, 1);
            node_input(&t, SPAROA_FLOAT32, 3, dims, &seed);
            node_int(&t, "axis", axis);
            node_run(&t, 2);
            int64_t size = 1, inner = 1;
            for (int i = axis; i < 3; i++) *(version == 13 && i > axis ? &inner : &size) *= dims[i];
            for (int64_t i = 0; i < 3 * 5 * 70; i++) {
                int64_t first = i / (size * inner) * size * inner + i % inner;
                double sum = 0;
                for (int64_t k = 0; k < size; k++)
                    sum += exp(sp_get_f64(&t.in[0], first + k * inner));
                check_close(sp_get_f64(&t.out[0], i), exp(sp_get_f64(&t.in[0], i)) / sum, 1e-6);
            }
            node_free(&t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_axes),
        cmocka_unit_test(empty_sets),
        cmocka_unit_test(noop_applies_the_function),
        cmocka_unit_test(bad_axes_are_refused),
        cmocka_unit_test(softmax_axes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
