/* The CPU's fast pools against the plain operators. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/cpu_node.h"

static void test_pools(void **unused)
{
    static const char *const ops[] = {"MaxPool", "AveragePool", "GlobalAveragePool",
                                      "GlobalMaxPool"};
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 160; i++) {
        builder b;
        bool one = random_u32() % 4 == 0;
        int64_t k[2] = {PICK(1, 2, 3, 5), PICK(1, 2, 3)}, s[2] = {PICK(1, 2, 3), PICK(1, 2)};
        int64_t pads[4] = {PICK(0, 1) * (k[0] > 1), PICK(0, 1) * (k[1] > 1), 0,
                           PICK(0, 1) * (k[1] > 1)};
        int64_t pads1[2] = {pads[1], pads[3]}, c = PICK(1, 3, 16, 33, 64, 130);
        sparoa_tensor x = one ? tensor(3, (int64_t[]){2, 9, c})
                              : tensor(4, (int64_t[]){2, PICK(6, 11), PICK(5, 9), c});
        if (i % 5 == 0) ((float *)x.data)[7] = NAN;
        start(&b, ops[i % 4]);
        input(&b, &x, false);
        add_int(&b, "sp.nhwc", 1);
        if (i % 4 < 2) {
            add_ints(&b, "kernel_shape", one ? 1 : 2, k + one);
            add_ints(&b, "strides", one ? 1 : 2, s + one);
            add_ints(&b, "pads", one ? 2 : 4, one ? pads1 : pads);
            add_int(&b, "ceil_mode", random_u32() % 2);
            if (i % 4 == 1) add_int(&b, "count_include_pad", random_u32() % 2);
        }
        compare(&b, kernels, 1e-5, false);
        free(x.data);
    }
}

/* Rows of the output that see padding only. */
static void test_pools_of_padding(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int64_t k = 1; k <= 3; k += 2) {
        builder b;
        sparoa_tensor x = tensor(4, (int64_t[]){2, 5, 6, 33});
        start(&b, "AveragePool");
        input(&b, &x, false);
        add_int(&b, "sp.nhwc", 1);
        add_ints(&b, "kernel_shape", 2, (int64_t[]){1, k});
        add_ints(&b, "pads", 4, (int64_t[]){1, 1, 1, 1});
        add_int(&b, "count_include_pad", 1);
        compare(&b, kernels, 1e-5, false);
        free(x.data);
    }
}

/* Windows that the image does not fill. */
static void test_pools_of_small_images(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 4; i++) {
        builder b;
        sparoa_tensor x = tensor(4, (int64_t[]){2, 2, 5, 33});
        start(&b, i % 2 ? "AveragePool" : "MaxPool");
        input(&b, &x, false);
        add_int(&b, "sp.nhwc", 1);
        add_ints(&b, "kernel_shape", 2, (int64_t[]){3, 2 + i});
        add_ints(&b, "strides", 2, (int64_t[]){2, 3});
        add_int(&b, "ceil_mode", 1);
        compare(&b, kernels, 1e-5, false);
        free(x.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pools),
                                       cmocka_unit_test(test_pools_of_padding),
                                       cmocka_unit_test(test_pools_of_small_images)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
