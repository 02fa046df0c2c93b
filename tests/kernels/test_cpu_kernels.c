/* The CPU's fast node kernels against the plain operators: convolutions, products, pools and the
 * rest. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ops/epilogue.h"
#include "ops/op.h"
#include "tests/support/kernels.h"

static void *count_alloc(void *user, size_t size, size_t align)
{
    void *p = NULL;
    *(int64_t *)user += (int64_t)size;
    return posix_memalign(&p, align < 16 ? 16 : align, size) ? NULL : p;
}

static void count_free(void *user, void *ptr, size_t size)
{
    *(int64_t *)user -= (int64_t)size;
    free(ptr);
}

/* In reverse order: no kernel may count on any. */
static void serial(const sparoa_exec *exec, int32_t count, void (*task)(void *, int32_t), void *arg)
{
    for (int32_t i = count; i-- > 0;) task(arg, i);
}

static sparoa_tensor tensor(int rank, const int64_t *dims)
{
    sparoa_tensor t = sparoa_tensor_view(SPAROA_FLOAT32, NULL, rank, dims);
    int64_t n = sparoa_tensor_count(&t);
    float *p = malloc((size_t)n * 4 + (n == 0));
    for (int64_t i = 0; i < n; i++) p[i] = (float)random_u32() / (float)(1 << 23) - 1;
    t.data = p;
    return t;
}

/* Prunes weights, now and then. */
static void prune(sparoa_tensor *t)
{
    float *p = t->data;
    uint32_t zeros = random_u32() % 3 ? random_u32() % 100 : 0; /* per cent */
    for (int64_t i = 0; i < sparoa_tensor_count(t); i++)
        if (random_u32() % 100 < zeros) p[i] = 0;
}

#define MAX_ATTRS 16
typedef struct builder {
    sparoa_node node;
    sparoa_tensor *in[6], *out[1], y;
    bool constant[6];
    sparoa_attr attrs[MAX_ATTRS];
} builder;

static void start(builder *b, const char *op)
{
    *b = (builder){.y = {.rank = -1}};
    b->out[0] = &b->y;
    b->node = (sparoa_node){.name = "node",
                            .op = op,
                            .domain = "",
                            .version = 20,
                            .in = b->in,
                            .out = b->out,
                            .n_out = 1,
                            .attrs = b->attrs,
                            .constant = b->constant};
}

static void input(builder *b, sparoa_tensor *t, bool constant)
{
    b->constant[b->node.n_in] = constant;
    b->in[b->node.n_in++] = t;
}

static void add_int(builder *b, const char *name, int64_t v)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_INT, .count = 1, .v.i = v};
}

static void add_float(builder *b, const char *name, float v)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_FLOAT, .count = 1, .v.f = v};
}

static void add_ints(builder *b, const char *name, size_t n, const int64_t *v)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_INTS, .count = n, .v.ints = v};
}

static void add_string(builder *b, const char *name, const char *v)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_STRING, .count = strlen(v), .v.s = v};
}

/* Runs the node by its row and by its operator, and compares. optional: it may have no row. */
static void compare(builder *b, const sp_kernels *kernels, double tolerance, bool optional)
{
    int64_t held = 0;
    sparoa_error err = {0};
    sp_cpu_packcache *cache =
        sp_cpu_packcache_create(&(sparoa_allocator){&held, count_alloc, count_free});
    sp_cpu_host host = {.allocator = {&held, count_alloc, count_free},
                        .threads = 1 + (int32_t)(random_u32() % 4),
                        .kernels = kernels,
                        .sparse = (sp_when)(random_u32() % 3),
                        .cache = random_u32() % 2 ? cache : NULL};
    const sparoa_op *op = sp_op_find("", b->node.op, 23, NULL, 0);
    assert_non_null(op);
    if (op->infer(&b->node, &err)) fail_msg("%s", err.message);
    const sp_cpu_kernel_row *row = sp_cpu_kernel_find(&host, &b->node, NULL);
    if (!row && optional) {
        sp_cpu_packcache_destroy(cache);
        return;
    }
    if (!row) fail_msg("no row for %s", b->node.op);
    size_t n = (size_t)sparoa_tensor_count(&b->y), workspace = 0;
    float *expected = malloc(n * 4 + (n == 0)), *actual = malloc(n * 4 + (n == 0));
    for (size_t i = 0; i < n; i++) actual[i] = NAN;

    sparoa_exec exec = {.threads = host.threads, .parallel = serial, .err = &err};
    exec.workspace = malloc(sp_op_workspace(op, &b->node, exec.threads) + 1);
    b->y.data = expected;
    if (sp_op_run(op, &b->node, &exec)) fail_msg("%s", err.message);
    free(exec.workspace);

    void *state = NULL, *second = NULL, *prepared = NULL;
    if (row->create && row->create(&b->node, &host, &state, &err)) fail_msg("%s", err.message);
    if (row->create && row->create(&b->node, &host, &second, &err)) fail_msg("%s", err.message);
    b->y.data = NULL;
    for (int again = 0; row->prepare && again < 2; again++)
        if (row->prepare(state, &host, &b->node, &prepared, &workspace, &err))
            fail_msg("%s", err.message);
    exec.workspace = malloc(workspace + (workspace == 0));
    memset(exec.workspace, 0xff, workspace);
    b->y.data = actual;
    void *hidden[6];
    for (int32_t i = 0; i < b->node.n_in; i++) {
        hidden[i] = b->in[i] ? b->in[i]->data : NULL;
        if (b->in[i] && b->constant[i] && row->keeps_input && !row->keeps_input(state, i))
            b->in[i]->data = NULL;
    }
    if (row->run(state, prepared, &host, &b->node, &exec)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < b->node.n_in; i++)
        if (b->in[i]) b->in[i]->data = hidden[i];
    free(exec.workspace);
    double top = 0.1; /* what cancels is no better than its terms, which are of -1..1 */
    for (size_t i = 0; i < n; i++)
        if (isfinite(expected[i])) top = fmax(top, fabs(expected[i]));
    for (size_t i = 0; i < n; i++) {
        bool same = actual[i] == expected[i] || (isnan(actual[i]) && isnan(expected[i])) ||
                    fabs(actual[i] - expected[i]) <= tolerance * top;
        if (!same)
            fail_msg("%s on %s: element %zu of %zu is %g, expected %g", b->node.op, kernels->isa, i,
                     n, actual[i], expected[i]);
    }
    if (row->prepared_destroy) row->prepared_destroy(state, &host, prepared);
    if (row->destroy) row->destroy(state, &host), row->destroy(second, &host);
    sp_cpu_packcache_destroy(cache);
    assert_true(held == 0);
    free(expected), free(actual);
}

typedef struct conv_case {
    int64_t n, h, w, c, m, group, kh, kw, stride[2], dilation[2], pads[4];
    const char *act;
    int residual;
    bool bias;
    const char
        *auto_pad; /* in place of pads, or NULL; "SHAPE": output_shape h and w times stride */
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
    const int64_t pads1[2] = {q->pads[1], q->pads[3]};
    input(&b, &x, false);
    input(&b, &w, true);
    if (q->bias)
        input(&b, &bias, true);
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

static int64_t pick(const int64_t *values, size_t n)
{
    return values[random_u32() % n];
}
#define PICK(...)                                                                                  \
    pick((const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static void random_convs(const char *op, int rounds)
{
    static const char *const acts[] = {NULL, "relu", "clip", "hardswish", "silu"};
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
        q.act = acts[random_u32() % 5];
        q.residual = (int)PICK(0, 0, 1, 2);
        q.bias = random_u32() % 2;
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
        if (random_u32() % 4 == 0) q.dilation[0] = q.dilation[1] = 2;
        if (random_u32() % 3 == 0) q.pads[1] = q.pads[3] = k / 2 + 1;
        if (q.h + 2 * (k / 2) < (k - 1) * 2 + 1 || q.w + 2 * (k / 2) < (k - 1) * 2 + 1) continue;
        static const char *const acts[] = {NULL, "relu", "clip", "hardswish"};
        q.act = acts[random_u32() % 4];
        run_conv(kernels, &q, "Conv");
    }
}

/* Layers of real networks, larger than a block. */
static void test_layers(void **unused)
{
    static const conv_case cases[] = {
        {1, 32, 32, 3, 32, 1, 3, 3, {2, 2}, {1, 1}, {1, 1, 1, 1}, "clip", 0, true, NULL},
        {1, 40, 40, 3, 24, 1, 7, 7, {2, 2}, {1, 1}, {3, 3, 3, 3}, "relu", 0, true, NULL},
        {1, 14, 14, 70, 72, 1, 3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}, "relu", 1, true, NULL},
        {1, 28, 28, 64, 64, 1, 3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}, "relu", 1, true, NULL},
        {2, 17, 19, 64, 96, 1, 3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}, NULL, 2, true, NULL},
        {1, 16, 16, 96, 64, 1, 3, 3, {1, 1}, {1, 1}, {0, 0, 0, 0}, "silu", 0, false, NULL},
        {1, 14, 14, 64, 128, 1, 1, 1, {2, 2}, {1, 1}, {0, 0, 0, 0}, NULL, 0, true, NULL}};
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
        "Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish", "Gelu", "Exp",
        "Erf",  "Sqrt",    "Neg",  "Abs",       "Reciprocal",  "Clip",      "Elu",  "Softplus"};
    FOR_EACH_ISA(kernels)
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int round = 0; round < 3; round++) {
            builder b;
            start(&b, ops[i]);
            float limits[2] = {-0.3f, 0.6f};
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
    for (int i = 0; i < 60; i++) {
        builder b;
        int64_t m = PICK(1, 3, 50), n = PICK(1, 2, 7, 16, 33, 197, 768), k = PICK(1, 4);
        sparoa_tensor x = tensor(3, (int64_t[]){m, k, n});
        sparoa_tensor scale = tensor(2, (int64_t[]){k, n}), bias = tensor(2, (int64_t[]){k, n});
        start(&b, i % 2 ? "Softmax" : "LayerNormalization");
        input(&b, &x, false);
        if (i % 2 == 0) {
            if (i % 4) {
                add_int(&b, "axis", -2);
            } else {
                scale.rank = bias.rank = 1;
                scale.dims[0] = bias.dims[0] = n;
            }
            input(&b, &scale, true);
            if (i % 3) input(&b, &bias, true);
        }
        compare(&b, kernels, 2e-5, false);
        free(x.data), free(scale.data), free(bias.data);
    }
}

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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_conv),
                                       cmocka_unit_test(test_depthwise),
                                       cmocka_unit_test(test_conv_transpose),
                                       cmocka_unit_test(test_layers),
                                       cmocka_unit_test(test_matmul),
                                       cmocka_unit_test(test_gemm),
                                       cmocka_unit_test(test_unary),
                                       cmocka_unit_test(test_binary),
                                       cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_weave),
                                       cmocka_unit_test(test_pools),
                                       cmocka_unit_test(test_attention),
                                       cmocka_unit_test(test_pools_of_padding),
                                       cmocka_unit_test(test_pools_of_small_images),
                                       cmocka_unit_test(test_packed_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
