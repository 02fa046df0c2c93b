/* The CPU's fast attention against the plain operator. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/cpu_node.h"

/* Masks of every shape, also one that lets a single key pass, a row that lets none, one value for
 * all keys, and rows that end before the keys do. */
static void test_attention(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        builder b;
        int64_t batch = PICK(1, 2), heads = PICK(1, 3), m = PICK(1, 7, 49, 130),
                n = PICK(0, 1, 16, 49, 197);
        int64_t size = PICK(1, 16, 32, 40), width = PICK(1, 16, 32, 40),
                masks = PICK(0, 1, 2, 3, 4, 5);
        sparoa_tensor q = tensor(4, (int64_t[]){batch, heads, m, size});
        sparoa_tensor k = tensor(4, (int64_t[]){batch, heads, n, size});
        sparoa_tensor v = tensor(4, (int64_t[]){batch, heads, n, width});
        sparoa_tensor mask = masks == 1   ? tensor(2, (int64_t[]){m, n})
                             : masks == 2 ? tensor(4, (int64_t[]){1, heads, m, n})
                             : masks == 4 ? tensor(3, (int64_t[]){heads, m, n > 0})
                             : masks == 5 ? tensor(2, (int64_t[]){m, (n + 1) / 2})
                                          : tensor(4, (int64_t[]){batch, 1, 1, n});
        start(&b, "Attention");
        if (masks == 5) b.node.version = 24; /* a short mask is padded from then on */
        input(&b, &q, false);
        input(&b, &k, false);
        input(&b, &v, false);
        if (masks) input(&b, &mask, false);
        for (int64_t j = 1; masks == 3 && j < n; j++) ((float *)mask.data)[j] = -INFINITY;
        for (int64_t j = 0; masks == 1 && j < n; j++) ((float *)mask.data)[j] = -INFINITY;
        add_float(&b, "scale", 3);
        compare(&b, kernels, 2e-5, false);
        free(q.data), free(k.data), free(v.data), free(mask.data);
    }
}

/* Heads side by side: in tensors of their own, or all three parts in one, where masks may come
 * again after some images. */
static void test_packed_attention(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 40; i++) {
        builder b;
        bool one = i % 2, again = i % 4 == 3;
        int64_t windows = PICK(1, 3), batch = 2 * windows, kv = PICK(1, 3),
                heads = one ? kv : kv * PICK(1, 2);
        int64_t m = PICK(1, 7, 49, 130), n = one ? m : PICK(0, 1, 16, 49),
                size = PICK(1, 16, 32, 40);
        int64_t width = one ? size : PICK(1, 16, 33);
        sparoa_tensor q = tensor(3, (int64_t[]){batch, m, heads * size * (one ? 3 : 1)});
        sparoa_tensor k = tensor(3, (int64_t[]){batch, n, kv * size});
        sparoa_tensor v = tensor(3, (int64_t[]){batch, n, kv * width});
        sparoa_tensor mask = tensor(4, (int64_t[]){again ? windows : batch, heads, m, n});
        start(&b, "Attention");
        input(&b, &q, false);
        input(&b, one ? &q : &k, false);
        input(&b, one ? &q : &v, false);
        if (i % 3 || again) input(&b, &mask, false);
        add_int(&b, "q_num_heads", heads);
        add_int(&b, "kv_num_heads", kv);
        if (one) add_int(&b, "sp.qkv", 1);
        if (again) add_int(&b, "sp.windows", windows);
        compare(&b, kernels, 2e-5, false);
        free(q.data), free(k.data), free(v.data), free(mask.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention),
                                       cmocka_unit_test(test_packed_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
