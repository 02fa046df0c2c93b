/* One node made by hand, run by its fast CPU kernel and by the plain operator. */
#ifndef TESTS_SUPPORT_CPU_NODE_H
#define TESTS_SUPPORT_CPU_NODE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/op.h"
#include "tests/support/kernels.h"

static inline void *count_alloc(void *user, size_t size, size_t align)
{
    void *p = NULL;
    *(int64_t *)user += (int64_t)size;
    return posix_memalign(&p, align < 16 ? 16 : align, size) ? NULL : p;
}

static inline void count_free(void *user, void *ptr, size_t size)
{
    *(int64_t *)user -= (int64_t)size;
    free(ptr);
}

/* In reverse order: no kernel may count on any. */
static inline void serial(const sparoa_exec *exec, int32_t count, void (*task)(void *, int32_t),
                          void *arg)
{
    for (int32_t i = count; i-- > 0;) task(arg, i);
}

static inline sparoa_tensor tensor(int rank, const int64_t *dims)
{
    sparoa_tensor t = sparoa_tensor_view(SPAROA_FLOAT32, NULL, rank, dims);
    int64_t n = sparoa_tensor_count(&t);
    float *p = malloc((size_t)n * 4 + (n == 0));
    for (int64_t i = 0; i < n; i++) p[i] = (float)random_u32() / (float)(1 << 23) - 1;
    t.data = p;
    return t;
}

/* Prunes weights, now and then. */
static inline void prune(sparoa_tensor *t)
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

static inline void start(builder *b, const char *op)
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

static inline void input(builder *b, sparoa_tensor *t, bool constant)
{
    b->constant[b->node.n_in] = constant;
    b->in[b->node.n_in++] = t;
}

static inline void add_int(builder *b, const char *name, int64_t v)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_INT, .count = 1, .v.i = v};
}

static inline void add_float(builder *b, const char *name, float v)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_FLOAT, .count = 1, .v.f = v};
}

static inline void add_ints(builder *b, const char *name, size_t n, const int64_t *v)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_INTS, .count = n, .v.ints = v};
}

static inline void add_string(builder *b, const char *name, const char *v)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_STRING, .count = strlen(v), .v.s = v};
}

/* Runs the node by its row and by its operator, and compares. optional: it may have no row. */
static inline void compare(builder *b, const sp_kernels *kernels, double tolerance, bool optional)
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
    const sparoa_op *op = sp_op_find("", b->node.op, 24, NULL, 0);
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

/* The same for kernels without a state, whose outputs of any type must equal the operator's. */
static inline void compare_bytes(sparoa_node *node, const sp_kernels *kernels)
{
    sparoa_error err = {0};
    sp_cpu_host host = {.threads = 3, .kernels = kernels};
    sparoa_exec exec = {.threads = 3, .parallel = serial, .err = &err};
    const sparoa_op *op = sp_op_find("", node->op, 24, NULL, 0);
    void *expected[4], *actual[4];
    if (op->infer(node, &err)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < node->n_out; i++) {
        const size_t bytes = sparoa_tensor_bytes(node->out[i]);
        expected[i] = node->out[i]->data = malloc(bytes + 1);
        actual[i] = malloc(bytes + 1);
    }
    if (op->run(node, &exec)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < node->n_out; i++) node->out[i]->data = actual[i];
    const sp_cpu_kernel_row *row = sp_cpu_kernel_find(&host, node, NULL);
    assert_non_null(row);
    if (row->run(NULL, NULL, &host, node, &exec)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < node->n_out; i++) {
        assert_memory_equal(actual[i], expected[i], sparoa_tensor_bytes(node->out[i]));
        free(actual[i]), free(expected[i]);
    }
}

static inline int64_t pick(const int64_t *values, size_t n)
{
    return values[random_u32() % n];
}
#define PICK(...)                                                                                  \
    pick((const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

#endif
