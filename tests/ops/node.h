/* node.h - builds a node by hand and runs it through the operator's row. */
#ifndef TESTS_OPS_NODE_H
#define TESTS_OPS_NODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/epilogue.h"
#include "ops/op.h"

#define MAX_PORTS 8
#define MAX_ATTRS 16

typedef struct test_node {
    sparoa_node node;
    sparoa_tensor in[MAX_PORTS], out[MAX_PORTS];
    sparoa_tensor *in_list[MAX_PORTS], *out_list[MAX_PORTS];
    sparoa_attr attrs[MAX_ATTRS];
    sparoa_error err;
} test_node;

static inline uint32_t test_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static inline int64_t test_range(uint32_t *seed, int64_t lo, int64_t hi)
{
    return lo + (int64_t)(test_random(seed) % (uint32_t)(hi - lo + 1));
}

static inline void node_start(test_node *t, const char *op, int32_t version, int32_t outputs)
{
    memset(t, 0, sizeof *t);
    t->node =
        (sparoa_node){.name = "n", .op = op, .domain = "", .version = version, .n_out = outputs};
    t->node.in = t->in_list;
    t->node.out = t->out_list;
    t->node.attrs = t->attrs;
    for (int32_t i = 0; i < outputs; i++) {
        t->out[i].rank = -1;
        t->out_list[i] = &t->out[i];
    }
}

/* Adds an input of random values; its data is freed by node_free. */
static inline sparoa_tensor *node_input(test_node *t, sparoa_dtype dtype, int rank,
                                        const int64_t *dims, uint32_t *seed)
{
    sparoa_tensor *in = &t->in[t->node.n_in];
    *in = sparoa_tensor_view(dtype, NULL, rank, dims);
    in->data = calloc(1, sparoa_tensor_bytes(in) + 64);
    for (int64_t i = 0; i < sp_count(in); i++)
        sp_set_f64(in, i, (double)test_range(seed, -1000, 1000) / 256);
    t->in_list[t->node.n_in++] = in;
    return in;
}

static inline void node_skip_input(test_node *t)
{
    t->in_list[t->node.n_in++] = NULL;
}

static inline void node_int(test_node *t, const char *name, int64_t v)
{
    t->attrs[t->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_INT, .count = 1, .v.i = v};
}

static inline void node_float(test_node *t, const char *name, float v)
{
    t->attrs[t->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_FLOAT, .count = 1, .v.f = v};
}

static inline void node_string(test_node *t, const char *name, const char *v)
{
    t->attrs[t->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_STRING, .count = strlen(v), .v.s = v};
}

static inline void node_ints(test_node *t, const char *name, size_t n, const int64_t *v)
{
    t->attrs[t->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_INTS, .count = n, .v.ints = v};
}

static inline void test_parallel(const sparoa_exec *exec, int32_t count,
                                 void (*task)(void *arg, int32_t i), void *arg)
{
    for (int32_t i = count - 1; i >= 0; i--) task(arg, i);
}

static inline const sparoa_op *node_row(test_node *t)
{
    const sparoa_op *op = sp_op_find(t->node.domain, t->node.op, t->node.version, NULL, 0);
    assert_non_null(op);
    return op;
}

static inline sparoa_status node_infer(test_node *t)
{
    return node_row(t)->infer(&t->node, &t->err);
}

/* Infers, allocates the outputs and runs, as if with `threads` threads. */
static inline void node_run(test_node *t, int32_t threads)
{
    const sparoa_op *op = node_row(t);
    sparoa_status status = node_infer(t);
    if (status != SPAROA_OK) print_message("%s\n", t->err.message);
    assert_int_equal(status, SPAROA_OK);
    for (int32_t i = 0; i < t->node.n_out; i++) {
        if (!t->out_list[i]) continue;
        assert_true(sp_known(&t->out[i]));
        t->out[i].data = malloc(sparoa_tensor_bytes(&t->out[i]) + 1);
        memset(t->out[i].data, 0xff, sparoa_tensor_bytes(&t->out[i]));
    }
    sparoa_exec exec = {.threads = threads, .parallel = test_parallel, .err = &t->err};
    size_t bytes = sp_op_workspace(op, &t->node, threads);
    exec.workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);
    status = sp_op_run(op, &t->node, &exec);
    free(exec.workspace);
    if (status != SPAROA_OK) print_message("%s\n", t->err.message);
    assert_int_equal(status, SPAROA_OK);
}

static inline void node_free(test_node *t)
{
    for (int32_t i = 0; i < MAX_PORTS; i++) {
        free(t->in[i].data);
        free(t->out[i].data);
    }
}

static inline void check_close(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        fail_msg("got %.9g, expected %.9g", got, want);
}

#endif
