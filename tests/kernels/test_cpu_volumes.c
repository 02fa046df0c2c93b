/* The CPU's fast convolutions and pools of 3-D images against the plain operators. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/cpu_node.h"

/* Three of each: depth, height, width; pads begin with those in front. */
typedef struct volume_case {
    int64_t n, size[3], c, m, group, kernel[3], stride[3], dilation[3], pads[6], output_padding[3];
    const char *act, *auto_pad;
    int residual;
    bool bias, odd;
} volume_case;

static void add_window(builder *b, const volume_case *q)
{
    add_int(b, "sp.nhwc", 1);
    add_ints(b, "strides", 3, q->stride);
    add_ints(b, "dilations", 3, q->dilation);
    if (q->auto_pad)
        add_string(b, "auto_pad", q->auto_pad);
    else
        add_ints(b, "pads", 6, q->pads);
}

static bool fits(const volume_case *q)
{
    for (int i = 0; i < 3; i++)
        if (q->size[i] + q->pads[i] + q->pads[i + 3] < (q->kernel[i] - 1) * q->dilation[i] + 1)
            return false;
    return true;
}

static sparoa_tensor image_of(const volume_case *q)
{
    sparoa_tensor x = tensor(5, (int64_t[]){q->n, q->size[0], q->size[1], q->size[2], q->c});
    if (q->odd)
        ((float *)x.data)[random_u32() % (uint32_t)sparoa_tensor_count(&x)] =
            random_u32() % 2 ? NAN : INFINITY;
    return x;
}

static void run_volume(const sp_kernels *kernels, const volume_case *q, const char *op)
{
    builder b;
    bool transposed = strcmp(op, "ConvTranspose") == 0;
    start(&b, op);
    const int64_t *k = q->kernel, m = (transposed ? q->m : q->c) / q->group;
    sparoa_tensor x = image_of(q), residual = {0}, bias = tensor(1, &q->m);
    sparoa_tensor w = tensor(5, (int64_t[]){transposed ? q->c : q->m, m, k[0], k[1], k[2]});
    input(&b, &x, false);
    input(&b, &w, true);
    if (q->bias)
        input(&b, &bias, true);
    else if (q->residual)
        input(&b, NULL, false);
    add_int(&b, "group", q->group);
    add_window(&b, q);
    if (transposed) add_ints(&b, "output_padding", 3, q->output_padding);
    if (q->act) add_string(&b, "sp.act", q->act);
    if (q->residual) {
        sparoa_error err;
        if (sp_op_find("", op, 20, NULL, 0)->infer(&b.node, &err)) fail_msg("%s", err.message);
        residual = tensor(b.y.rank, b.y.dims);
        input(&b, &residual, false);
        add_int(&b, "sp.residual", q->residual);
    }
    compare(&b, kernels, 1e-5, false);
    free(x.data), free(w.data), free(bias.data), free(residual.data);
}

static volume_case random_case(int i)
{
    volume_case q = {.n = PICK(1, 2),
                     .size = {PICK(1, 3, 6), PICK(1, 5, 7), PICK(1, 6, 9)},
                     .group = 1,
                     .act = ((const char *[]){NULL, "relu", "silu"})[random_u32() % 3],
                     .residual = (int)PICK(0, 0, 1, 2),
                     .bias = random_u32() % 2};
    for (int d = 0; d < 3; d++) {
        q.kernel[d] = PICK(1, 2, 3);
        q.stride[d] = PICK(1, 1, 2);
        q.dilation[d] = PICK(1, 1, 2);
        q.pads[d] = PICK(0, 0, 1), q.pads[d + 3] = PICK(0, 1);
    }
    if (i % 4 == 0) { /* planes that don't see each other, or pixels that see no neighbours */
        const int one = random_u32() % 2;
        for (int d = one ? 1 : 0; d < (one ? 3 : 1); d++) {
            q.kernel[d] = 1, q.pads[d] = q.pads[d + 3] = PICK(0, 0, 0, 1);
            q.stride[d] = PICK(1, 1, 1, 2);
        }
    }
    return q;
}

static void test_volumes(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 250; i++) {
        volume_case q = random_case(i);
        q.group = PICK(1, 1, 2, 5);
        q.c = q.group * PICK(1, 3, 8, 17), q.m = q.group * PICK(1, 4, 16, 33);
        if (i % 6 == 1) q.group = q.c = q.m = PICK(3, 16, 37); /* depthwise */
        if (i % 10 == 2) q.auto_pad = "SAME_UPPER";
        q.odd = q.group == 1 || q.c == q.m;
        if (q.auto_pad || fits(&q)) run_volume(kernels, &q, "Conv");
    }
}

static void test_transposed(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 120; i++) {
        volume_case q = random_case(1);
        q.group = PICK(1, 1, 3);
        q.c = q.group * PICK(1, 8, 17), q.m = q.group * PICK(1, 4, 33);
        if (i % 6 == 1) q.group = q.c = q.m = PICK(3, 16, 37); /* depthwise */
        q.odd = true;
        if (i % 3 == 0) { /* windows side by side */
            memset(q.pads, 0, sizeof q.pads);
            for (int d = 0; d < 3; d++) q.stride[d] = q.kernel[d], q.dilation[d] = 1;
        }
        bool empty = false;
        for (int d = 0; d < 3; d++) {
            q.output_padding[d] = q.stride[d] > 1 && i % 3 ? PICK(0, 1) : 0;
            empty |= (q.size[d] - 1) * q.stride[d] + (q.kernel[d] - 1) * q.dilation[d] <
                     q.pads[d] + q.pads[d + 3];
        }
        if (!empty) run_volume(kernels, &q, "ConvTranspose");
    }
}

static void test_pools(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 120; i++) {
        builder b;
        volume_case q = random_case(i + 1);
        q.c = PICK(1, 3, 16, 33, 64);
        q.odd = i % 3 == 0;
        /* a window must see the image */
        for (int d = 0; d < 3; d++) q.dilation[d] = 1, q.pads[d] *= q.kernel[d] > 1;
        for (int d = 3; d < 6; d++) q.pads[d] *= q.kernel[d - 3] > 1;
        if (!fits(&q)) continue;
        sparoa_tensor x = image_of(&q);
        start(&b, ((const char *[]){"MaxPool", "AveragePool", "GlobalAveragePool",
                                    "GlobalMaxPool"})[i % 4]);
        input(&b, &x, false);
        if (i % 4 < 2) {
            add_ints(&b, "kernel_shape", 3, q.kernel);
            add_window(&b, &q);
            add_int(&b, "ceil_mode", random_u32() % 2);
            if (i % 4 == 1) add_int(&b, "count_include_pad", random_u32() % 2);
        } else {
            add_int(&b, "sp.nhwc", 1);
        }
        compare(&b, kernels, 1e-5, false);
        free(x.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_volumes),
                                       cmocka_unit_test(test_transposed),
                                       cmocka_unit_test(test_pools)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
