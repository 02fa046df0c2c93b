/* 8-bit convolutions: the kernels of every instruction set against the plain operator, bit for bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backends/cpu/kernel.h"
#include "ops/op.h"

static uint32_t seed = 99;

static int below(int n)
{
    seed = seed * 1664525u + 1013904223u;
    return (int)((seed >> 8) % (uint32_t)n);
}

static void *plain_alloc(void *user, size_t size, size_t align)
{
    void *p = NULL;
    *(int64_t *)user += (int64_t)size;
    return posix_memalign(&p, align < 16 ? 16 : align, size) ? NULL : p;
}

static void plain_free(void *user, void *p, size_t size)
{
    *(int64_t *)user -= (int64_t)size;
    free(p);
}

static void backwards(const sparoa_exec *exec, int32_t count, void (*task)(void *, int32_t),
                      void *arg)
{
    (void)exec;
    while (count-- > 0) task(arg, count);
}

static sparoa_tensor bytes(sparoa_dtype type, int rank, const int64_t *dims)
{
    sparoa_tensor t = sparoa_tensor_view(type, NULL, rank, dims);
    size_t n = sparoa_tensor_bytes(&t);
    t.data = malloc(n + 1);
    for (size_t i = 0; i < n; i++) ((uint8_t *)t.data)[i] = (uint8_t)below(256);
    return t;
}

typedef struct conv {
    sparoa_tensor t[9], y;
    sparoa_tensor *in[9], *out[1];
    sparoa_attr attrs[5];
    int64_t strides[2], pads[4], dilations[2];
    bool constant[9];
    float x_scale, y_scale, *w_scale;
    int64_t channels;
    sparoa_node node;
} conv;

/* Inputs x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias with random sizes and types.
 */
static void make(conv *c, bool depthwise)
{
    bool signed_x = below(2), signed_y = below(2), per_channel = below(2);
    int64_t group = depthwise ? 1 + below(150) : 1, c_in = depthwise ? group : 1 + below(70);
    int64_t kh = 1 + below(5), kw = 1 + below(3);
    *c = (conv){.x_scale = 0.02f, .y_scale = 0.7f, .channels = depthwise ? group : 1 + below(70)};
    int64_t xd[4] = {1 + below(2), 5 + below(9), 3 + below(20), c_in},
            wd[4] = {c->channels, c_in / group, kh, kw};
    c->t[0] = bytes(signed_x ? SPAROA_INT8 : SPAROA_UINT8, 4, xd);
    c->t[1] = sparoa_tensor_view(SPAROA_FLOAT32, &c->x_scale, 0, NULL);
    c->t[2] = bytes(c->t[0].dtype, 0, NULL);
    c->t[3] = bytes(SPAROA_INT8, 4, wd);
    c->w_scale = malloc((size_t)c->channels * sizeof(float));
    for (int64_t i = 0; i < c->channels; i++) c->w_scale[i] = 0.001f * (float)(1 + below(50));
    c->t[4] = sparoa_tensor_view(SPAROA_FLOAT32, c->w_scale, 1,
                                 per_channel ? &c->channels : &(int64_t){1});
    c->t[5] = bytes(SPAROA_INT8, 0, NULL);
    *(int8_t *)c->t[5].data = 0;
    c->t[6] = sparoa_tensor_view(SPAROA_FLOAT32, &c->y_scale, 0, NULL);
    c->t[7] = bytes(signed_y ? SPAROA_INT8 : SPAROA_UINT8, 0, NULL);
    c->t[8] = sparoa_tensor_view(SPAROA_INT32, malloc((size_t)c->channels * 4), 1, &c->channels);
    for (int64_t i = 0; i < c->channels; i++) ((int32_t *)c->t[8].data)[i] = below(20001) - 10000;
    for (int i = 0; i < 9; i++) c->in[i] = &c->t[i], c->constant[i] = i > 0;
    for (int i = 0; i < 2; i++) {
        c->strides[i] = 1 + below(2);
        c->dilations[i] = 1 + below(2);
        c->pads[i] = below(3), c->pads[i + 2] = below(3);
        if (xd[1 + i] + c->pads[i] + c->pads[i + 2] < (wd[2 + i] - 1) * c->dilations[i] + 1)
            c->dilations[i] = 1;
    }
    c->attrs[0] = (sparoa_attr){.name = "sp.nhwc", .type = SPAROA_ATTR_INT, .count = 1, .v.i = 1};
    c->attrs[1] = (sparoa_attr){.name = "group", .type = SPAROA_ATTR_INT, .count = 1, .v.i = group};
    c->attrs[2] = (sparoa_attr){
        .name = "strides", .type = SPAROA_ATTR_INTS, .count = 2, .v.ints = c->strides};
    c->attrs[3] =
        (sparoa_attr){.name = "pads", .type = SPAROA_ATTR_INTS, .count = 4, .v.ints = c->pads};
    c->attrs[4] = (sparoa_attr){
        .name = "dilations", .type = SPAROA_ATTR_INTS, .count = 2, .v.ints = c->dilations};
    c->out[0] = &c->y;
    c->node = (sparoa_node){.name = "q",
                            .op = "QLinearConv",
                            .domain = "",
                            .version = 10,
                            .n_in = 8 + below(2),
                            .n_out = 1,
                            .n_attrs = 5,
                            .in = c->in,
                            .out = c->out,
                            .attrs = c->attrs,
                            .constant = c->constant};
}

static void clear(conv *c)
{
    for (int i = 0; i < 9; i++)
        if (i != 1 && i != 4 && i != 6) free(c->t[i].data);
    free(c->w_scale);
    free(c->y.data);
}

static void run_plain(conv *c, uint8_t *to)
{
    const sparoa_op *op = sp_op_find("", "QLinearConv", 10, NULL, 0);
    sparoa_exec exec = {.threads = 1, .parallel = backwards};
    assert_int_equal(op->infer(&c->node, NULL), SPAROA_OK);
    size_t room = sp_op_workspace(op, &c->node, 1);
    exec.workspace = aligned_alloc(64, (room + 64) / 64 * 64);
    c->y.data = to;
    assert_int_equal(sp_op_run(op, &c->node, &exec), SPAROA_OK);
    free(exec.workspace);
    c->y.data = NULL;
}

static void run_kernel(conv *c, const sp_kernels *kernels, uint8_t *to)
{
    int64_t held = 0;
    sp_cpu_host host = {
        .allocator = {&held, plain_alloc, plain_free}, .threads = 3, .kernels = kernels};
    const char *variant = NULL;
    const sp_cpu_kernel_row *row = sp_cpu_kernel_find(&host, &c->node, &variant);
    assert_non_null(row);
    void *state = NULL, *prepared = NULL;
    size_t room = 0;
    assert_int_equal(row->create(&c->node, &host, &state, NULL), SPAROA_OK);
    assert_int_equal(row->prepare(state, &host, &c->node, &prepared, &room, NULL), SPAROA_OK);
    sparoa_exec exec = {
        .threads = 3, .parallel = backwards, .workspace = aligned_alloc(64, (room + 64) / 64 * 64)};
    c->y.data = to;
    assert_int_equal(row->run(state, prepared, &host, &c->node, &exec), SPAROA_OK);
    c->y.data = NULL;
    free(exec.workspace);
    row->prepared_destroy(state, &host, prepared);
    row->destroy(state, &host);
    assert_int_equal(held, 0);
}

static void check(bool depthwise)
{
    static const char *const isas[] = {"generic", "neon", "avx2", "avx512"};
    for (int round = 0; round < 150; round++) {
        conv c;
        make(&c, depthwise);
        assert_int_equal(sp_op_find("", "QLinearConv", 10, NULL, 0)->infer(&c.node, NULL),
                         SPAROA_OK);
        size_t n = sparoa_tensor_bytes(&c.y);
        uint8_t *want = malloc(n + 1), *got = malloc(n + 1);
        run_plain(&c, want);
        for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
            const sp_kernels *kernels = sp_cpu_kernels(isas[i]);
            if (!kernels) continue;
            memset(got, 0xa5, n + 1);
            run_kernel(&c, kernels, got);
            assert_memory_equal(got, want, n);
            assert_int_equal(got[n], 0xa5);
        }
        free(want);
        free(got);
        clear(&c);
    }
}

static void test_product(void **unused)
{
    (void)unused;
    check(false);
}

static void test_depthwise(void **unused)
{
    (void)unused;
    check(true);
}

/* The product without the dot-product instruction, which machines with AVX-512 may lack. */
static void test_pairs(void **unused)
{
    (void)unused;
    const sp_kernels *kernels = sp_cpu_kernels(NULL);
    enum { M = 13, N = 45, K = 37 };
    uint8_t a[M * K], c[M * N];
    int8_t b[N * K], *packed = malloc(kernels->gemm_q8_packed_bytes(N, K, false));
    int32_t offset[N];
    float factor[N];
    for (size_t i = 0; i < sizeof a; i++) a[i] = (uint8_t)below(256);
    for (size_t i = 0; i < sizeof b; i++) b[i] = (int8_t)(below(256) - 128);
    for (int i = 0; i < N; i++)
        offset[i] = below(1000) - 500, factor[i] = 0.001f * (float)(1 + below(9));
    kernels->gemm_q8_pack(N, K, false, b, K, packed);
    sp_gemm_q8 g = {.n = N,
                    .k = K,
                    .a = a,
                    .lda = K,
                    .b = packed,
                    .c = c,
                    .ldc = N,
                    .out = {offset, factor, 3, 0, 255}};
    kernels->gemm_q8(&g, 0, M);
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            int32_t sum = offset[n];
            for (int k = 0; k < K; k++) sum += a[m * K + k] * b[n * K + k];
            double v = nearbyint((double)((float)sum * factor[n])) + 3;
            assert_int_equal(c[m * N + n], v < 0 ? 0 : v > 255 ? 255 : (int)v);
        }
    free(packed);
}

/* Runs a node of images with the channel last by its row and by its operator, byte by byte. */
static void same_bytes(sparoa_node *node, const sparoa_op *op, const sp_kernels *kernels,
                       const sp_cpu_kernel_row *row)
{
    sparoa_tensor *y = node->out[0];
    sparoa_exec exec = {.threads = 3, .parallel = backwards};
    assert_non_null(op);
    assert_int_equal(op->infer(node, NULL), SPAROA_OK);
    size_t n = sparoa_tensor_bytes(y);
    uint8_t *want = malloc(n + 1), *got = malloc(n + 1);
    sp_cpu_host host = {.threads = 3, .kernels = kernels};
    if (!row) row = sp_cpu_kernel_find(&host, node, NULL);
    assert_non_null(row);
    y->data = want;
    assert_int_equal(sp_op_run(op, node, &exec), SPAROA_OK);
    y->data = got;
    memset(got, 0xa5, n + 1);
    assert_int_equal(row->run(NULL, NULL, &host, node, &exec), SPAROA_OK);
    assert_memory_equal(got, want, n);
    assert_int_equal(got[n], 0xa5);
    y->data = NULL;
    free(want);
    free(got);
}

typedef struct scales {
    float value[3];
    sparoa_tensor scale[3], zero[3];
} scales;

static void make_scales(scales *s, sparoa_dtype type)
{
    for (int i = 0; i < 3; i++) {
        s->value[i] = 0.01f * (float)(1 + below(99));
        s->scale[i] = sparoa_tensor_view(SPAROA_FLOAT32, &s->value[i], 0, NULL);
        s->zero[i] = bytes(type, 0, NULL);
    }
}

/* Sums, also of a batch with a single image; global averages and maxima. */
static void other_operators(const sp_kernels *kernels)
{
    sparoa_dtype type = below(2) ? SPAROA_UINT8 : SPAROA_INT8;
    int64_t d[4] = {2, 1 + below(9), 1 + below(9), 1 + below(300)};
    int64_t one[4] = {1, d[1], d[2], d[3]}, size[2] = {1 + below((int)d[1]), 1 + below((int)d[2])};
    sparoa_tensor a = bytes(type, 4, d), b = bytes(type, 4, below(3) ? d : one), y = {0};
    scales s;
    make_scales(&s, type);
    sparoa_tensor *sum[8] = {&a,          &s.scale[0], &s.zero[0],  &b,
                             &s.scale[1], &s.zero[1],  &s.scale[2], &s.zero[2]};
    sparoa_tensor *average[5] = {&a, &s.scale[0], &s.zero[0], &s.scale[1], &s.zero[1]};
    sparoa_tensor *out[1] = {&y};
    sparoa_attr last = {.name = "channels_last", .type = SPAROA_ATTR_INT, .count = 1, .v.i = 1};
    sparoa_attr pool[3] = {
        {.name = "sp.nhwc", .type = SPAROA_ATTR_INT, .count = 1, .v.i = 1},
        {.name = "kernel_shape", .type = SPAROA_ATTR_INTS, .count = 2, .v.ints = size},
        {.name = "auto_pad", .type = SPAROA_ATTR_STRING, .count = 10, .v.s = "SAME_UPPER"}};
    sparoa_node node = {.name = "q", .op = "QLinearAdd", .domain = "com.microsoft", .version = 1};
    node.n_out = 1, node.out = out;
    node.n_in = 8, node.in = sum;
    int64_t rows = b.dims[0];
    b.dims[0] = a.dims[0]; /* what a graph with an unknown batch looks like */
    sp_cpu_host host = {.threads = 3, .kernels = kernels};
    const sp_cpu_kernel_row *add = sp_cpu_kernel_find(&host, &node, NULL);
    assert_non_null(add);
    b.dims[0] = rows;
    same_bytes(&node, sp_op_find(node.domain, node.op, 1, NULL, 0), kernels, add);
    node.op = "QLinearGlobalAveragePool", node.n_in = 5, node.in = average;
    node.n_attrs = 1, node.attrs = &last;
    same_bytes(&node, sp_op_find(node.domain, node.op, 1, NULL, 0), kernels, NULL);
    node.op = "MaxPool", node.domain = "", node.version = 12, node.n_in = 1;
    node.n_attrs = 3, node.attrs = pool;
    same_bytes(&node, sp_op_find("", "MaxPool", 12, NULL, 0), kernels, NULL);
    for (int i = 0; i < 3; i++) free(s.zero[i].data);
    free(a.data);
    free(b.data);
}

static void test_other_operators(void **unused)
{
    static const char *const isas[] = {"generic", "neon", "avx2", "avx512"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (int round = 0; round < 60 && sp_cpu_kernels(isas[i]); round++)
            other_operators(sp_cpu_kernels(isas[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product), cmocka_unit_test(test_depthwise),
        cmocka_unit_test(test_pairs), cmocka_unit_test(test_other_operators)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
