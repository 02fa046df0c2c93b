/* The CPU's fast node kernels against the plain operators: convolutions, products and the rest. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ops/epilogue.h"
#include "tests/support/cpu_node.h"

typedef struct conv_case {
    int64_t n, h, w, c, m, group, kh, kw, stride[2], dilation[2], pads[4];
    const char *act;
    int residual;
    bool bias;
    const char
        *auto_pad; /* in place of pads, or NULL; "SHAPE": output_shape h and w times stride */
    bool odd;      /* an element of the image is infinite or NaN */
    bool computed; /* the weights are no constant */
} conv_case;

static void run_conv(const sp_kernels *kernels, const conv_case *q, const char *op)
{
    builder b;
    bool transposed = strcmp(op, "ConvTranspose") == 0, one = q->h == 0;
    start(&b, op);
    sparoa_tensor x = one ? tensor(3, (int64_t[]){q->n, q->w, q->c})
                          : tensor(4, (int64_t[]){q->n, q->h, q->w, q->c});
    int64_t first = transposed ? q->c : q->m, second = (transposed ? q->m : q->c) / q->group;
    sparoa_tensor w = one ? tensor(3, (int64_t[]){first, second, q->kw})
                          : tensor(4, (int64_t[]){first, second, q->kh, q->kw});
    sparoa_tensor bias = tensor(1, &q->m), residual = {0};
    prune(&w);
    if (q->odd)
        ((float *)x.data)[random_u32() % (uint32_t)sparoa_tensor_count(&x)] =
            random_u32() % 2 ? NAN : INFINITY;
    const int64_t pads1[2] = {q->pads[1], q->pads[3]};
    input(&b, &x, false);
    input(&b, &w, !q->computed);
    if (q->bias)
        input(&b, &bias, !q->computed);
    else if (q->residual)
        input(&b, NULL, false);
    add_int(&b, "sp.nhwc", 1);
    add_int(&b, "group", q->group);
    add_ints(&b, "strides", one ? 1 : 2, q->stride + one);
    add_ints(&b, "dilations", one ? 1 : 2, q->dilation + one);
    const int64_t natural[2] = {q->h * q->stride[0], q->w * q->stride[1]};
    if (q->auto_pad && strcmp(q->auto_pad, "SHAPE") == 0)
        add_ints(&b, "output_shape", one ? 1 : 2, natural + one);
    else if (q->auto_pad)
        add_string(&b, "auto_pad", q->auto_pad);
    else
        add_ints(&b, "pads", one ? 2 : 4, one ? pads1 : q->pads);
    if (q->act) {
        add_string(&b, "sp.act", q->act);
        add_float(&b, "sp.act_a", -0.4f);
        add_float(&b, "sp.act_b", 0.9f);
    }
    if (q->residual) {
        sparoa_error err;
        const sparoa_op *row = sp_op_find("", op, 20, NULL, 0);
        if (row->infer(&b.node, &err)) fail_msg("%s", err.message);
        residual = tensor(b.y.rank, b.y.dims);
        input(&b, &residual, false);
        add_int(&b, "sp.residual", q->residual);
    }
    /* Clipped outputs say little about the size of the sums. */
    compare(&b, kernels, q->act && strcmp(q->act, "clip") == 0 ? 1e-4 : 1e-5, false);
    free(x.data), free(w.data), free(bias.data), free(residual.data);
}

static const char *random_act(void)
{
    static const char *const acts[] = {NULL, "relu", "clip", "hardswish", "silu"};
    return acts[random_u32() % 5];
}

static void random_convs(const char *op, int rounds)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < rounds; i++) {
        conv_case q = {.n = PICK(1, 1, 2),
                       .h = PICK(0, 1, 5, 7, 12),
                       .w = PICK(1, 4, 7, 9, 13, 20),
                       .group = PICK(1, 1, 2, 3),
                       .kh = PICK(1, 2, 3, 5),
                       .kw = PICK(1, 2, 3, 5, 7)};
        q.c = q.group * PICK(1, 3, 4, 8, 17, 64);
        q.m = q.group * PICK(1, 5, 8, 16, 24, 33, 48);
        for (int d = 0; d < 2; d++)
            q.stride[d] = PICK(1, 1, 2, 3), q.dilation[d] = PICK(1, 1, 1, 2);
        for (int d = 0; d < 4; d++) q.pads[d] = PICK(0, 0, 1, 2);
        if (q.h == 0) q.kh = 1;
        if (random_u32() % 4 == 0) { /* the plainest shape */
            q.kh = q.kw = q.stride[0] = q.stride[1] = 1;
            memset(q.pads, 0, sizeof q.pads);
        }
        if (strcmp(op, "ConvTranspose") == 0 && i % 3 == 0) {
            q.auto_pad = ((const char *[]){"SAME_UPPER", "SAME_LOWER", "SHAPE"})[i / 3 % 3];
            memset(q.pads, 0, sizeof q.pads);
        } else if (strcmp(op, "ConvTranspose") == 0 && i % 3 == 1) { /* windows side by side */
            q.stride[0] = q.h ? q.kh : 1, q.stride[1] = q.kw;
            q.dilation[0] = q.dilation[1] = q.group = 1;
            memset(q.pads, 0, sizeof q.pads);
            if (i % 2) q.auto_pad = "SHAPE";
        }
        /* The window must fit. */
        int64_t room_h = q.h + q.pads[0] + q.pads[2] - (q.kh - 1) * q.dilation[0] - 1;
        int64_t room_w = q.w + q.pads[1] + q.pads[3] - (q.kw - 1) * q.dilation[1] - 1;
        if (strcmp(op, "ConvTranspose") == 0) {
            room_h = (q.h - 1) * q.stride[0] + (q.kh - 1) * q.dilation[0] - q.pads[0] - q.pads[2];
            room_w = (q.w - 1) * q.stride[1] + (q.kw - 1) * q.dilation[1] - q.pads[1] - q.pads[3];
        }
        if ((q.h && room_h < 0) || room_w < 0) continue;
        q.act = random_act();
        q.residual = (int)PICK(0, 0, 1, 2);
        q.bias = random_u32() % 2;
        q.computed = strcmp(op, "Conv") == 0 && i % 4 == 0;
        run_conv(kernels, &q, op);
    }
}

static void test_conv(void **unused)
{
    random_convs("Conv", 150);
}

static void test_conv_transpose(void **unused)
{
    random_convs("ConvTranspose", 100);
}

static void test_depthwise(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 120; i++) {
        int64_t c = PICK(2, 3, 8, 16, 19, 24, 40, 67), k = PICK(1, 2, 3, 3, 3, 5, 5, 7),
                s = PICK(1, 1, 2, 3);
        conv_case q = {.n = PICK(1, 2),
                       .h = PICK(5, 7, 12),
                       .w = PICK(3, 5, 7, 9, 13, 20),
                       .c = c,
                       .m = c,
                       .group = c,
                       .kh = k,
                       .kw = k,
                       .stride = {s, s},
                       .dilation = {1, 1},
                       .pads = {k / 2, k / 2, k / 2, k / 2},
                       .bias = random_u32() % 2,
                       .residual = (int)PICK(0, 0, 1, 2)};
        if (random_u32() % 3 == 0) q.dilation[0] = q.dilation[1] = PICK(2, 2, 3);
        if (random_u32() % 3 == 0) q.pads[1] = q.pads[3] = k / 2 + 1;
        const int64_t window = (k - 1) * q.dilation[0] + 1;
        if (q.h + 2 * (k / 2) < window || q.w + 2 * (k / 2) < window) continue;
        q.act = random_act();
        q.computed = i % 4 == 0;
        run_conv(kernels, &q, "Conv");
    }
}

/* Groups of a few channels, with an infinity or NaN somewhere: it stays in its group. */
static void test_groups(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 250; i++) {
        int64_t k = PICK(1, 2, 3, 3, 3, 5), s = PICK(1, 1, 2, 3), d = PICK(1, 1, 1, 2);
        conv_case q = {.n = PICK(1, 2),
                       .h = PICK(0, 5, 7, 12),
                       .w = PICK(5, 7, 9, 13, 20, 31),
                       .group = PICK(2, 3, 5, 8, 16, 17, 32),
                       .kh = k,
                       .kw = i % 5 ? k : 3,
                       .stride = {s, i % 7 ? s : 2},
                       .dilation = {d, d},
                       .pads = {k / 2, k / 2, k / 2, i % 3 ? k / 2 : 2},
                       .bias = random_u32() % 2,
                       .odd = true,
                       .residual = (int)PICK(0, 0, 1, 2)};
        q.c = q.group * PICK(1, 2, 3, 4, 5, 8, 9, 16);
        q.m = i % 2 ? q.c : q.group * PICK(1, 2, 3, 4, 6, 8, 16, 24);
        if (q.h == 0) q.kh = 1;
        if (q.h && q.h + q.pads[0] + q.pads[2] < (q.kh - 1) * d + 1) continue;
        if (q.w + q.pads[1] + q.pads[3] < (q.kw - 1) * d + 1) continue;
        q.act = random_act();
        q.computed = i % 5 == 0;
        run_conv(kernels, &q, "Conv");
    }
}

/* Few pixels and many weights. */
static void test_transposed_small_maps(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 6; i++) {
        conv_case q = {.n = 1 + i % 2,
                       .h = i % 3 ? 4 : 0,
                       .w = 5,
                       .c = 160,
                       .m = 130,
                       .group = 1,
                       .kh = i % 3 ? 4 : 1,
                       .kw = i % 3 ? 4 : 13,
                       .stride = {2, 2},
                       .dilation = {1, 1},
                       .pads = {1, 1, 1, 1},
                       .bias = i % 2,
                       .residual = i % 3};
        q.act = i % 2 ? "relu" : "silu";
        run_conv(kernels, &q, "ConvTranspose");
    }
}

static void test_transposed_groups(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 150; i++) {
        conv_case q = {.n = PICK(1, 2),
                       .h = PICK(0, 1, 5, 7),
                       .w = PICK(1, 4, 7, 9, 13),
                       .group = PICK(2, 3, 8, 17, 32),
                       .kh = PICK(1, 2, 3, 4, 5),
                       .kw = PICK(1, 2, 3, 4, 7, 16),
                       .stride = {PICK(1, 2, 3), PICK(1, 2, 2, 3, 8)},
                       .dilation = {PICK(1, 1, 2, 3), PICK(1, 1, 2, 3)},
                       .pads = {PICK(0, 1), PICK(0, 1, 2), PICK(0, 1), PICK(0, 1)},
                       .bias = random_u32() % 2,
                       .residual = (int)PICK(0, 0, 1, 2),
                       .odd = true};
        q.c = q.group * PICK(1, 1, 2, 4, 8), q.m = q.group * PICK(1, 1, 2, 4, 8);
        if (q.h == 0) q.kh = 1;
        int64_t high = (q.h - 1) * q.stride[0] + (q.kh - 1) * q.dilation[0];
        int64_t wide = (q.w - 1) * q.stride[1] + (q.kw - 1) * q.dilation[1];
        if (wide < q.pads[1] + q.pads[3] || (q.h && high < q.pads[0] + q.pads[2])) continue;
        q.act = random_act();
        run_conv(kernels, &q, "ConvTranspose");
    }
}

/* Layers of real networks, larger than a block. */
static void test_layers(void **unused)
{
    static const conv_case cases[] = {{1,
                                       32,
                                       32,
                                       3,
                                       32,
                                       1,
                                       3,
                                       3,
                                       {2, 2},
                                       {1, 1},
                                       {1, 1, 1, 1},
                                       "clip",
                                       0,
                                       true,
                                       NULL,
                                       false,
                                       false},
                                      {1,
                                       40,
                                       40,
                                       3,
                                       24,
                                       1,
                                       7,
                                       7,
                                       {2, 2},
                                       {1, 1},
                                       {3, 3, 3, 3},
                                       "relu",
                                       0,
                                       true,
                                       NULL,
                                       false,
                                       false},
                                      {1,
                                       14,
                                       14,
                                       70,
                                       72,
                                       1,
                                       3,
                                       3,
                                       {1, 1},
                                       {1, 1},
                                       {1, 1, 1, 1},
                                       "relu",
                                       1,
                                       true,
                                       NULL,
                                       false,
                                       false},
                                      {1,
                                       28,
                                       28,
                                       64,
                                       64,
                                       1,
                                       3,
                                       3,
                                       {1, 1},
                                       {1, 1},
                                       {1, 1, 1, 1},
                                       "relu",
                                       1,
                                       true,
                                       NULL,
                                       false,
                                       false},
                                      {2,
                                       17,
                                       19,
                                       64,
                                       96,
                                       1,
                                       3,
                                       3,
                                       {1, 1},
                                       {1, 1},
                                       {1, 1, 1, 1},
                                       NULL,
                                       2,
                                       true,
                                       NULL,
                                       false,
                                       false},
                                      {1,
                                       16,
                                       16,
                                       96,
                                       64,
                                       1,
                                       3,
                                       3,
                                       {1, 1},
                                       {1, 1},
                                       {0, 0, 0, 0},
                                       "silu",
                                       0,
                                       false,
                                       NULL,
                                       false,
                                       false},
                                      {1,
                                       14,
                                       14,
                                       64,
                                       128,
                                       1,
                                       1,
                                       1,
                                       {2, 2},
                                       {1, 1},
                                       {0, 0, 0, 0},
                                       NULL,
                                       0,
                                       true,
                                       NULL,
                                       false,
                                       false}};
    FOR_EACH_ISA(kernels)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run_conv(kernels, &cases[i], "Conv");
}

static void test_matmul(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 150; i++) {
        builder b;
        int64_t m = PICK(1, 2, 7, 30), n = PICK(1, 5, 16, 40, 70), k = PICK(1, 3, 33, 100),
                h = PICK(1, 2, 5);
        bool constant = random_u32() % 2, bias = random_u32() % 2, batched = random_u32() % 2;
        start(&b, "MatMul");
        sparoa_tensor a, w, c = tensor(1, &n);
        switch (random_u32() % 4) {
        case 0:
            a = tensor(1, &k);
            m = 1;
            break;
        case 1: a = tensor(2, (int64_t[]){m, k}); break;
        case 2: a = tensor(4, (int64_t[]){3, h, m, k}); break;
        default: a = tensor(4, (int64_t[]){3, 1, m, k}); break;
        }
        if (batched)
            w = tensor(3, (int64_t[]){h, k, n});
        else
            w = tensor(2, (int64_t[]){k, n});
        prune(&w);
        input(&b, &a, false);
        input(&b, &w, constant);
        if (bias) {
            input(&b, &c, constant);
            add_int(&b, "sp.bias", 1);
        }
        if (random_u32() % 2) add_string(&b, "sp.act", "gelu");
        compare(&b, kernels, 1e-5, false);
        free(a.data), free(w.data), free(c.data);
    }
}

static void test_gemm(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 100; i++) {
        builder b;
        int64_t m = PICK(1, 2, 7, 30), n = PICK(1, 5, 16, 40, 70), k = PICK(1, 3, 33, 100);
        bool ta = random_u32() % 2, tb = random_u32() % 2, constant = random_u32() % 2;
        start(&b, "Gemm");
        sparoa_tensor a = tensor(2, ta ? (int64_t[]){k, m} : (int64_t[]){m, k});
        sparoa_tensor w = tensor(2, tb ? (int64_t[]){n, k} : (int64_t[]){k, n}), c = tensor(1, &n);
        prune(&w);
        input(&b, &a, false);
        input(&b, &w, constant);
        if (random_u32() % 2) input(&b, &c, constant);
        add_int(&b, "transA", ta);
        add_int(&b, "transB", tb);
        if (random_u32() % 2) add_float(&b, "alpha", 0.7f);
        if (random_u32() % 2) add_string(&b, "sp.act", "tanh");
        compare(&b, kernels, 1e-5, false);
        free(a.data), free(w.data), free(c.data);
    }
}

static void test_unary(void **unused)
{
    static const char *const ops[] = {
        "Relu",  "Sigmoid",  "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish",  "Gelu",
        "Exp",   "Erf",      "Sqrt", "Neg",       "Abs",         "Reciprocal", "Clip",
        "Elu",   "Softplus", "Log",  "Sin",       "Cos",         "Floor",      "Ceil",
        "Round", "Selu",     "Celu", "Mish",      "Swish"};
    FOR_EACH_ISA(kernels)
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int round = 0; round < 3; round++) {
            builder b;
            start(&b, ops[i]);
            float limits[2] = {-0.3f, 0.6f};
            if (strcmp(ops[i], "Swish") == 0) b.node.version = 24;
            sparoa_tensor x = tensor(2, (int64_t[]){PICK(1, 3, 200), PICK(1, 7, 333)});
            sparoa_tensor lo = sparoa_tensor_of(SPAROA_FLOAT32, &limits[0], 0);
            sparoa_tensor hi = sparoa_tensor_of(SPAROA_FLOAT32, &limits[1], 0);
            float *p = x.data;
            for (int64_t k = 0; k < sparoa_tensor_count(&x); k++) p[k] *= 6;
            bool clip = strcmp(ops[i], "Clip") == 0; /* with both limits, or one, or the other */
            if (clip) p[sparoa_tensor_count(&x) - 1] = round == 1 ? -INFINITY : INFINITY;
            p[0] = round == 0 ? NAN : p[0];
            input(&b, &x, false);
            if (clip) input(&b, round == 1 ? NULL : &lo, true);
            if (clip && round != 2) input(&b, &hi, true);
            if (strstr(ops[i], "elu") || strcmp(ops[i], "Swish") == 0) /* those that have one */
                if (round == 1) add_float(&b, "alpha", 0.7f);
            if (strcmp(ops[i], "Selu") == 0 && round == 2) add_float(&b, "gamma", 1.2f);
            if (strcmp(ops[i], "Gelu") == 0 && round == 2) add_string(&b, "approximate", "tanh");
            compare(&b, kernels, 1e-6, false);
            free(x.data);
        }
}

static void test_binary(void **unused)
{
    static const char *const ops[] = {"Add", "Sub", "Mul", "Div"};
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 120; i++) {
        builder b;
        int64_t dims[2][4];
        start(&b, ops[i % 4]);
        for (int d = 0; d < 4; d++) {
            int64_t n = PICK(1, 2, 5, 19, 40), which = PICK(0, 1, 2, 3, 3, 3);
            dims[0][d] = which == 1 ? 1 : n;
            dims[1][d] = which == 2 ? 1 : n;
        }
        int ra = (int)PICK(1, 2, 4, 4), rb = (int)PICK(0, 1, 3, 4, 4);
        sparoa_tensor x = tensor(ra, dims[0] + 4 - ra), y = tensor(rb, dims[1] + 4 - rb);
        input(&b, &x, false);
        input(&b, &y, false);
        compare(&b, kernels, 1e-6, false);
        free(x.data), free(y.data);
    }
}

static void test_rows(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 80; i++) {
        builder b;
        int64_t m = PICK(1, 3, 50), n = PICK(1, 2, 7, 16, 33, 197, 768), k = PICK(1, 4);
        sparoa_tensor x = tensor(3, (int64_t[]){m, k, n});
        sparoa_tensor scale = tensor(2, (int64_t[]){k, n}), bias = tensor(2, (int64_t[]){k, n});
        start(&b, i % 2 ? "RMSNormalization" : "LayerNormalization");
        b.node.version = 24;
        input(&b, &x, false);
        if (i % 4) {
            add_int(&b, "axis", -2);
        } else {
            scale.rank = bias.rank = 1;
            scale.dims[0] = bias.dims[0] = n;
        }
        input(&b, &scale, true);
        if (i % 2 == 0 && i % 3) input(&b, &bias, true);
        compare(&b, kernels, 2e-5, false);
        free(x.data), free(scale.data), free(bias.data);
    }
}

/* Over each axis, old and new meaning of it; rows with infinities, a NaN, or one large value. */
static void test_softmax(void **unused)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 30, 1e30f};
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 300; i++) {
        builder b;
        int64_t m = PICK(1, 3, 20), n = PICK(1, 2, 7, 16, 33, 197), k = PICK(1, 4, 15, 70);
        sparoa_tensor x = tensor(3, (int64_t[]){m, k, n});
        float *p = x.data;
        start(&b, i % 2 ? "Softmax" : "LogSoftmax");
        b.node.version = random_u32() % 3 ? 13 : 11;
        if (i % 5) add_int(&b, "axis", PICK(-3, -2, -1, 0, 1, 2));
        if (i % 3 == 0) p[random_u32() % (uint32_t)(m * n * k)] = odd[random_u32() % 5];
        if (i % 7 == 0) /* all but masked */
            for (int64_t e = 0; e < n; e++) p[e] = -INFINITY;
        input(&b, &x, false);
        compare(&b, kernels, 1e-6, false);
        free(x.data);
    }
}

/* Behind a large value the sum is little more than 1, and its logarithm must keep its digits. */
static void test_log_softmax_near_0(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (int64_t stride = 1; stride <= 20; stride += 19) {
        float x[600], y[600];
        for (int i = 0; i < 600; i++) x[i] = i / stride % 30 == 7 ? 12.0f : 0.25f;
        if (stride == 1)
            kernels->log_softmax_f32(20, 30, x, y);
        else
            kernels->softmax_columns_f32(true, 30, 20, 20, x, y);
        const double expected = -log1p(29 * exp(-11.75));
        for (int i = 0; i < 600; i++)
            if (x[i] == 12.0f) assert_true(fabs(y[i] - expected) < 1e-6 * fabs(expected));
    }
}

/* What a mask of -100 leaves is nothing, not a subnormal number, which would be slow to multiply.
 */
static void test_masked_shares(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (size_t n = 1; n <= 70; n += 23) {
        float x[3 * 96] = {0}, mask[70], y[70];
        for (size_t i = 0; i < n; i++) mask[i] = i % 3 == 1 ? -100.0f : 0;
        for (size_t i = 0; i < 3 * 96; i++) x[i] = (float)(i % 7);
        kernels->softmax_f32(1, n, mask, y);
        kernels->softmax_masked_f32(3, n, x, 96, mask, 0);
        for (size_t i = 0; i < 3 * n; i++) {
            const float share = x[i / n * 96 + i % n];
            assert_true(i % n % 3 == 1 ? share == 0 : isnormal(share));
            assert_true(i % n % 3 == 1 ? y[i % n] == 0 : isnormal(y[i % n]));
        }
    }
}

/* Planes to pixels, to the last float and no further. */
static void test_weave(void **unused)
{
    FOR_EACH_ISA(kernels)
    for (size_t channels = 1; channels <= 17; channels++)
        for (size_t n = 0; n < 70; n += 1 + random_u32() % 7) {
            const size_t stride = n + random_u32() % 5;
            float *in = floats(channels * stride), *out = floats(channels * n + 1);
            const float guard = out[channels * n];
            kernels->weave_f32(n, channels, in, stride, out);
            for (size_t i = 0; i < n; i++)
                for (size_t c = 0; c < channels; c++)
                    assert_true(out[i * channels + c] == in[c * stride + i]);
            assert_true(out[channels * n] == guard);
            free(in), free(out);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_conv),
                                       cmocka_unit_test(test_depthwise),
                                       cmocka_unit_test(test_conv_transpose),
                                       cmocka_unit_test(test_layers),
                                       cmocka_unit_test(test_groups),
                                       cmocka_unit_test(test_transposed_groups),
                                       cmocka_unit_test(test_transposed_small_maps),
                                       cmocka_unit_test(test_matmul),
                                       cmocka_unit_test(test_gemm),
                                       cmocka_unit_test(test_unary),
                                       cmocka_unit_test(test_binary),
                                       cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_softmax),
                                       cmocka_unit_test(test_log_softmax_near_0),
                                       cmocka_unit_test(test_masked_shares),
                                       cmocka_unit_test(test_weave)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
