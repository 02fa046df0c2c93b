/* graph_builder.h - builds small graphs by hand, runs passes over them, and compares what they
 * compute before and after, node by node with the plain implementations. */
#ifndef TESTS_GRAPH_BUILDER_H
#define TESTS_GRAPH_BUILDER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/infer.h"
#include "graph/passes.h"
#include "graph/rewrite.h"

#define MAX_PORTS 8
#define NONE SP_NO_ID

typedef struct builder {
    sp_mem mem;
    sparoa_allocator alloc;
    sp_graph *g;
    uint32_t seed;
} builder;

static inline float next_random(builder *b)
{
    b->seed = b->seed * 1664525u + 1013904223u;
    return (float)(b->seed >> 8) / (float)(1 << 22) - 2; /* -2 .. 2 */
}

static inline void start_graph(builder *b)
{
    b->seed = 1;
    b->alloc = sp_mem_init(&b->mem, NULL, 0);
    b->g = sp_graph_create(&b->alloc, "test");
    assert_non_null(b->g);
    b->g->inputs = sp_arena_alloc(&b->g->arena, MAX_PORTS * sizeof(sp_id));
    b->g->outputs = sp_arena_alloc(&b->g->arena, MAX_PORTS * sizeof(sp_id));
}

static inline void end_graph(builder *b)
{
    sp_graph_destroy(b->g);
    assert_int_equal(atomic_load(&b->mem.used), 0);
}

#define DIMS(...)                                                                                  \
    (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])               \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static inline sp_id input(builder *b, int32_t rank, const int64_t *dims)
{
    char name[16];
    snprintf(name, sizeof name, "x%u", b->g->input_count);
    sp_id id = sp_graph_add_value(b->g, name, SP_VALUE_INPUT);
    b->g->values[id].fact = sparoa_tensor_view(SPAROA_FLOAT32, NULL, rank, dims);
    b->g->inputs[b->g->input_count++] = id;
    return id;
}

static inline void output(builder *b, sp_id value)
{
    b->g->outputs[b->g->output_count++] = value;
}

/* A constant of one element: rank 0, or as many ones as given. */
static inline sp_id scalar(builder *b, float c)
{
    return sp_add_const(b->g, "c", SPAROA_FLOAT32, 0, NULL, &c);
}

static inline sp_id scalar_of_rank(builder *b, float c, int32_t rank)
{
    return sp_add_const(b->g, "c", SPAROA_FLOAT32, rank, (int64_t[]){1, 1, 1, 1}, &c);
}

static inline sp_id weights(builder *b, int32_t rank, const int64_t *dims)
{
    sp_id id = sp_add_const(b->g, "w", SPAROA_FLOAT32, rank, dims, NULL);
    sparoa_tensor *t = &b->g->values[id].fact;
    for (int64_t i = 0; i < sparoa_tensor_count(t); i++) ((float *)t->data)[i] = next_random(b);
    return id;
}

static inline sp_id ints(builder *b, int32_t count, const int64_t *values)
{
    return sp_add_const_i64(b->g, "i", values, count);
}

/* A node of the newest version that the patterns meet: 13, or `version`. */
static inline sp_id node_v(builder *b, const char *op, int32_t version, sp_id x, sp_id y, sp_id z)
{
    sp_id in[3] = {x, y, z};
    int32_t n = z != NONE ? 3 : y != NONE ? 2 : 1;
    sp_id out = sp_insert_node(b->g, op, version, op, in, n);
    assert_int_not_equal(out, SP_NO_ID);
    return out;
}

static inline sp_id node(builder *b, const char *op, sp_id x, sp_id y)
{
    return node_v(b, op, 13, x, y, NONE);
}

static inline sp_id node_ints(builder *b, const char *op, int32_t version, sp_id x,
                              const char *attr, int32_t count, const int64_t *values)
{
    sp_id out = node_v(b, op, version, x, NONE, NONE);
    assert_true(sp_node_set_ints(b->g, b->g->values[out].producer, attr, values, (size_t)count));
    return out;
}

static inline void set_int(builder *b, sp_id value, const char *name, int64_t i)
{
    assert_true(sp_node_set_int(b->g, b->g->values[value].producer, name, i));
}

/* ---- running ---- */

/* Runs the graph and returns a copy of its first output. */
static inline float *evaluate(builder *b, int64_t *count)
{
    sp_graph *g = b->g;
    sparoa_error err = {0};
    b->seed = 77;
    for (uint32_t i = 0; i < g->input_count; i++) {
        sparoa_tensor *t = &g->values[g->inputs[i]].fact;
        for (int32_t d = 0; d < t->rank; d++)
            if (t->dims[d] < 0) t->dims[d] = 2;
        t->data = malloc(sparoa_tensor_bytes(t));
        for (int64_t k = 0; k < sparoa_tensor_count(t); k++) ((float *)t->data)[k] = next_random(b);
    }
    for (size_t i = 0; i < g->node_count; i++) {
        sparoa_tensor *in[MAX_PORTS], *out[MAX_PORTS];
        bool constant[MAX_PORTS];
        sparoa_node view;
        sp_graph_node_view(g, &g->nodes[i], in, out, constant, &view);
        assert_int_equal(sp_infer_node(g->nodes[i].op, &view, &err), SPAROA_OK);
        for (int32_t k = 0; k < view.n_out; k++)
            if (out[k]) out[k]->data = malloc(sparoa_tensor_bytes(out[k]) + 64);
        if (sp_evaluate(g->nodes[i].op, &view, &b->alloc, &err) != SPAROA_OK)
            fail_msg("%s", err.message);
    }
    const sparoa_tensor *y = &g->values[g->outputs[0]].fact;
    *count = sparoa_tensor_count(y);
    float *copy = malloc((size_t)*count * sizeof *copy);
    memcpy(copy, y->data, (size_t)*count * sizeof *copy);
    for (size_t v = 0; v < g->value_count; v++)
        if (g->values[v].kind != SP_VALUE_CONST) free(g->values[v].fact.data);
    return copy;
}

static inline void list_nodes(const sp_graph *g, char *text, size_t size)
{
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < g->node_count; i++)
        at += (size_t)snprintf(text + at, at < size ? size - at : 0, "%s%s", i ? " " : "",
                               g->nodes[i].op_type);
}

/* Builds the graph twice; the second time passes run over it. Its nodes must be `want`, and what it
 * computes what the first one does. */
static inline void check_passes(void (*build)(builder *), const char *options, const char *want)
{
    builder before, after;
    char have[2048];
    sparoa_error err = {0};
    sp_log log = {0};
    start_graph(&before);
    start_graph(&after);
    build(&before);
    build(&after);
    sp_pass_options o = {.disabled = options, .log = &log};
    assert_int_equal(sp_graph_infer(before.g, &err), SPAROA_OK);
    if (sp_passes_run(after.g, &o, &err) != SPAROA_OK) fail_msg("%s", err.message);
    list_nodes(after.g, have, sizeof have);
    assert_string_equal(have, want);
    int64_t n, m;
    float *x = evaluate(&before, &n), *y = evaluate(&after, &m);
    assert_int_equal(n, m);
    for (int64_t i = 0; i < n; i++)
        if (!(x[i] - y[i] <= 2e-5f * (1 + (x[i] < 0 ? -x[i] : x[i])) &&
              y[i] - x[i] <= 2e-5f * (1 + (x[i] < 0 ? -x[i] : x[i]))))
            fail_msg("%s: element %lld is %g, was %g", want, (long long)i, (double)y[i],
                     (double)x[i]);
    free(x);
    free(y);
    end_graph(&before);
    end_graph(&after);
}

#endif
