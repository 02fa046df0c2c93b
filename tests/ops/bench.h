/* bench.h - one operator on tensors of a test's own: what unit tests of operators share. */
#ifndef TESTS_OPS_BENCH_H
#define TESTS_OPS_BENCH_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ops/op.h"

#define MAX_IN 9

static uint32_t seed = 2463534242u;

static inline uint32_t random_u32(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

static inline int below(int n)
{
    return (int)(random_u32() % (uint32_t)n);
}

static inline void serial(const sparoa_exec *exec, int32_t count,
                          void (*task)(void *arg, int32_t i), void *arg)
{
    (void)exec;
    for (int32_t i = count - 1; i >= 0; i--) task(arg, i);
}

/* One node: inputs and attributes are filled in by the test, outputs by run_node. */
typedef struct bench {
    sparoa_tensor in[MAX_IN], out[2];
    sparoa_tensor *in_ptr[MAX_IN], *out_ptr[2];
    sparoa_attr attrs[8];
    sparoa_node node;
    sparoa_error err;
    char *workspace;
    int32_t threads;
} bench;

static inline void setup(bench *b, const char *op, int32_t version, int32_t n_in)
{
    memset(b, 0, sizeof *b);
    b->threads = 1 + below(4);
    for (int32_t i = 0; i < MAX_IN; i++) b->in_ptr[i] = &b->in[i];
    for (int32_t i = 0; i < 2; i++) b->out_ptr[i] = &b->out[i];
    b->node = (sparoa_node){.name = "n",
                            .op = op,
                            .domain = "",
                            .version = version,
                            .n_in = n_in,
                            .n_out = 1,
                            .in = b->in_ptr,
                            .out = b->out_ptr,
                            .attrs = b->attrs};
}

static inline void attr_int(bench *b, const char *name, int64_t value)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_INT, .count = 1, .v.i = value};
}

static inline void attr_string(bench *b, const char *name, const char *value)
{
    b->attrs[b->node.n_attrs++] = (sparoa_attr){
        .name = name, .type = SPAROA_ATTR_STRING, .count = strlen(value), .v.s = value};
}

static inline sparoa_status infer(bench *b)
{
    const sparoa_op *op = sp_op_find(b->node.domain, b->node.op, b->node.version, NULL, 0);
    assert_non_null(op);
    b->out[0] = b->out[1] = (sparoa_tensor){.rank = -1};
    return op->infer(&b->node, &b->err);
}

/* Infers and runs. alias >= 0: output 0 lies in the memory of that input. Else it is exactly as
 * large as needed, so that a sanitizer sees every step beyond. */
static inline sparoa_status run_node(bench *b, int32_t alias)
{
    const sparoa_op *op = sp_op_find(b->node.domain, b->node.op, b->node.version, NULL, 0);
    SP_TRY(infer(b));
    assert_true(sp_known(&b->out[0]));
    b->out[0].data = alias >= 0 ? b->in[alias].data : malloc(sparoa_tensor_bytes(&b->out[0]) + 1);
    size_t bytes = sp_op_workspace(op, &b->node, b->threads);
    b->workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);
    sparoa_exec exec = {
        .workspace = b->workspace, .threads = b->threads, .parallel = serial, .err = &b->err};
    sparoa_status status = sp_op_run(op, &b->node, &exec);
    free(b->workspace);
    return status;
}

static inline sparoa_tensor vector(sparoa_dtype t, void *data, int64_t n)
{
    return sparoa_tensor_view(t, data, 1, &n);
}

/* Small positive numbers, or truth values. */
static inline void fill(sparoa_tensor *t)
{
    int64_t n = sp_count(t);
    t->data = malloc((size_t)n * sparoa_dtype_size(t->dtype) + 1);
    for (int64_t i = 0; i < n; i++)
        sp_set_i64(t, i, below(t->dtype == SPAROA_BOOL ? 2 : 100) + 1 - (t->dtype == SPAROA_BOOL));
}

#endif
