/* Normalisations of images on the CPU's kernels against the plain operators. */
#include "tests/support/cpu_node.h"

/* Values about a mean that is large beside their spread, and channels with a single value. */
static void shape_values(sparoa_tensor *x, bool last)
{
    float *p = x->data;
    int64_t n = sparoa_tensor_count(x), c = x->dims[last ? x->rank - 1 : 1], plane = 1;
    for (int i = 2; i < x->rank; i++) plane *= x->dims[i];
    for (int64_t i = 0; i < n; i++) {
        int64_t channel = last ? i % c : i / plane % c;
        p[i] = channel % 7 == 3 ? 5 : p[i] + (float)(channel % 5) * 20;
    }
}

static void test_norms(void **unused)
{
    static const char *const ops[] = {"BatchNormalization", "InstanceNormalization",
                                      "GroupNormalization", "MeanVarianceNormalization"};
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 400; i++) {
        builder b;
        const int which = i % 4;
        const bool last = which < 2 && random_u32() % 2;
        int64_t n = PICK(1, 2, 3), c = which == 2 ? PICK(4, 8, 12) : PICK(1, 3, 8, 17, 31, 64, 70),
                h = PICK(1, 2, 5, 30), w = PICK(1, 3, 16, 33, 100), groups = PICK(1, 2, 4);
        int rank = (int)PICK(3, 4, 4);
        if (which == 0 && !last) rank = (int)PICK(2, 3, 4);
        if (i % 50 == 5) c = 128, h = 100, w = 40; /* several parts */
        sparoa_tensor x = rank == 2 ? tensor(2, (int64_t[]){n * h * w, c})
                          : rank == 3
                              ? tensor(3, last ? (int64_t[]){n, w, c} : (int64_t[]){n, c, w})
                          : last ? tensor(4, (int64_t[]){n, h, w, c})
                                 : tensor(4, (int64_t[]){n, c, h, w});
        sparoa_tensor param[4];
        start(&b, ops[which]);
        b.node.version = which == 2 && random_u32() % 2 ? 18 : 24;
        int64_t params = which == 2 && b.node.version < 21 ? groups : c;
        for (int k = 0; k < 4; k++) param[k] = tensor(1, &params);
        for (int64_t k = 0; k < params; k++)
            ((float *)param[3].data)[k] = fabsf(((float *)param[3].data)[k]);
        shape_values(&x, last);
        if (random_u32() % 8 == 0) ((float *)x.data)[0] = random_u32() % 2 ? NAN : INFINITY;
        input(&b, &x, false);
        for (int k = 0; k < (which == 0 ? 4 : which == 3 ? 0 : 2); k++)
            input(&b, &param[k], random_u32() % 2);
        if (last) add_int(&b, "sp.nhwc", 1);
        if (which == 2) add_int(&b, "num_groups", groups);
        if (which < 3 && random_u32() % 2) add_float(&b, "epsilon", 1e-3f);
        const int64_t axes[2][3] = {{2, 3}, {0, 2, 3}};
        int pooled = (int)(random_u32() % 2);
        if (which == 3) add_ints(&b, "axes", (size_t)(rank - 2 + pooled), axes[pooled]);
        compare(&b, kernels, 5e-7, false);
        free(x.data);
        for (int k = 0; k < 4; k++) free(param[k].data);
    }
}

/* Rows of ordinary numbers, of zeros, of numbers whose norm has no reciprocal, and with a NaN. */
static void test_lp(void **unused)
{
    static const float sizes[] = {1, 0, 1e-40f, 1e-38f, 1e15f};
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        builder b;
        const int64_t m = PICK(1, 5, 90), n = PICK(1, 3, 16, 70, 513);
        sparoa_tensor x = tensor(2, (int64_t[]){m, n});
        float *p = x.data;
        for (int64_t k = 0; k < m * n; k++) p[k] *= sizes[(i + k / n) % 5];
        if (i % 7 == 0) p[n - 1] = i % 2 ? NAN : INFINITY;
        start(&b, "LpNormalization");
        input(&b, &x, false);
        add_int(&b, "p", 1 + i % 2);
        if (i % 3) add_int(&b, "axis", 1);
        compare(&b, kernels, 2e-7, false);
        free(x.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_norms), cmocka_unit_test(test_lp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
