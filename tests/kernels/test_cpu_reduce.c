/* Reductions on the CPU's kernels against the plain operators. */
#include "tests/support/cpu_node.h"

static const char *const ops[] = {"ReduceSum", "ReduceMean", "ReduceSumSquare",
                                  "ReduceL1",  "ReduceL2",   "ReduceLogSum",
                                  "ReduceMax", "ReduceMin",  "ReduceProd"};

/* Not products: whether they reach 0 before an infinity depends on the order. */
static void spoil(const builder *b, sparoa_tensor *x)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, -0.0f};
    float *p = x->data;
    int64_t n = sparoa_tensor_count(x);
    if (n && strcmp(b->node.op, "ReduceProd") != 0)
        p[random_u32() % (uint32_t)n] = odd[random_u32() % 4];
}

/* Any axes, negative or not, of shapes with and without elements. */
static void test_axes(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 1500; i++) {
        builder b;
        start(&b, ops[i % 9]);
        int rank = (int)PICK(1, 2, 3, 4), count = 0;
        int64_t dims[4], axes[4], elements = 1;
        for (int d = 0; d < rank; d++) {
            dims[d] = PICK(1, 2, 3, 7, 8, 15, 16, 17, 33, 70, 131);
            if (elements * dims[d] > 40000) dims[d] = 3;
            elements *= dims[d];
            if (random_u32() % 2) axes[count++] = random_u32() % 2 ? d : d - rank;
        }
        if (random_u32() % 20 == 0) dims[random_u32() % (uint32_t)rank] = 0;
        sparoa_tensor x = tensor(rank, dims);
        sparoa_tensor list = sparoa_tensor_of(SPAROA_INT64, axes, 1, (int64_t)count);
        if (random_u32() % 4 == 0) spoil(&b, &x);
        input(&b, &x, false);
        input(&b, &list, true);
        if (random_u32() % 2) add_int(&b, "keepdims", 0);
        if (random_u32() % 2) add_int(&b, "noop_with_empty_axes", 1);
        compare(&b, kernels, 2e-7, false);
        free(x.data);
    }
}

/* Lengths around those of vectors, and one output of many elements. */
static void test_lengths(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 9 * 80; i++) {
        builder b;
        start(&b, ops[i % 9]);
        int64_t n = i / 9 < 70 ? i / 9 : 8192 * (i / 9 - 69) + PICK(-1, 0, 1), axis = 1;
        sparoa_tensor x = tensor(2, (int64_t[]){n > 100 ? 1 : 3, n});
        sparoa_tensor list = sparoa_tensor_of(SPAROA_INT64, &axis, 1, (int64_t)1);
        if (random_u32() % 3 == 0) spoil(&b, &x);
        input(&b, &x, false);
        input(&b, &list, true);
        compare(&b, kernels, 2e-7, false);
        free(x.data);
    }
}

/* Sums are made in double: ones behind a number that swallows them in float. */
static void test_double(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int rows = 0; rows < 2; rows++) {
        builder b;
        int64_t axis = rows;
        sparoa_tensor x = tensor(2, rows ? (int64_t[]){40, 300} : (int64_t[]){300, 40});
        sparoa_tensor list = sparoa_tensor_of(SPAROA_INT64, &axis, 1, (int64_t)1);
        float *p = x.data;
        for (int i = 0; i < 12000; i++) {
            int k = rows ? i % 300 : i / 40;
            p[i] = k == 7 ? 0x1p30f : k == 250 ? -0x1p30f : 1;
        }
        start(&b, "ReduceSum");
        input(&b, &x, false);
        input(&b, &list, true);
        compare(&b, kernels, 0, false);
        free(x.data);
    }
}

static void test_global(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        builder b;
        start(&b, i % 2 ? "GlobalMaxPool" : "GlobalAveragePool");
        sparoa_tensor x =
            tensor(4, (int64_t[]){PICK(1, 2), PICK(1, 3, 40), PICK(1, 7, 30), PICK(1, 7, 33)});
        input(&b, &x, false);
        compare(&b, kernels, 2e-7, false);
        free(x.data);
    }
}

/* Row k of column c, by the rules of ArgMax: the first NaN, else the first or last of the largest.
 */
static int64_t place(bool min, bool last, size_t n, const float *x, size_t stride)
{
    size_t best = 0;
    for (size_t k = 1; k < n; k++) {
        float v = x[k * stride], b = x[best * stride];
        if (isnan(b) ? last && isnan(v) : isnan(v) || (min ? v < b : v > b) || (last && v == b))
            best = k;
    }
    return (int64_t)best;
}

/* Few different values, so that many are equal; zeros of both signs, infinities and NaN. */
static void test_arg(void **unused)
{
    static const float values[] = {-1, -0.0f, 0, 2, 2, INFINITY, -INFINITY, NAN};
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 3000; i++) {
        const bool min = i & 1, last = i & 2;
        const size_t n = (size_t)PICK(1, 2, 3, 15, 16, 17, 40), width = (size_t)PICK(1, 3, 16, 37);
        const uint32_t kinds = i % 3 == 0 ? 8 : i % 3 == 1 ? 5 : 2;
        float *x = floats(n * width);
        int64_t index[64];
        for (size_t k = 0; k < n * width; k++) x[k] = values[random_u32() % kinds];
        kernels->arg_columns_f32(min, last, n, width, x, width, index);
        for (size_t c = 0; c < width; c++)
            assert_true(index[c] == place(min, last, n, x + c, width));
        kernels->arg_rows_f32(min, last, width, n, x, index);
        for (size_t c = 0; c < width; c++)
            assert_true(index[c] == place(min, last, n, x + c * n, 1));
        free(x);
    }
}

static void test_arg_nodes(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        builder b;
        start(&b, i % 2 ? "ArgMax" : "ArgMin");
        sparoa_tensor x = tensor(3, (int64_t[]){PICK(1, 3), PICK(2, 300), PICK(1, 5, 290)});
        input(&b, &x, false);
        add_int(&b, "axis", PICK(-2, -1, 1, 2));
        add_int(&b, "keepdims", random_u32() % 2);
        if (random_u32() % 2) add_int(&b, "select_last_index", 1);
        compare_bytes(&b.node, kernels);
        free(x.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_axes),   cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_double), cmocka_unit_test(test_global),
        cmocka_unit_test(test_arg),    cmocka_unit_test(test_arg_nodes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
