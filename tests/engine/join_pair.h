/* join_pair.h - a model in a session that joins nodes and in a plain one, for tests that compare.
 */
#ifndef TESTS_ENGINE_JOIN_PAIR_H
#define TESTS_ENGINE_JOIN_PAIR_H

#include "api/objects.h"
#include "engine/joined.h"
#include "tests/support/support.h"

static sparoa_error err;

static inline int joined_nodes(const sparoa_session *s)
{
    int n = 0;
    for (size_t i = 0; i < s->program->graph->node_count; i++) n += s->frame->nodes[i].join != NULL;
    return n;
}

/* A runtime whose CPU joins as said. */
static inline sparoa_runtime *join_runtime(ts_memory *memory, int32_t threads, const char *isa,
                                           const char *join)
{
    setenv("SPAROA_JOIN", join, 1);
    if (isa) setenv("SPAROA_ISA", isa, 1);
    sparoa_runtime *rt = ts_runtime(memory, threads);
    unsetenv("SPAROA_JOIN");
    unsetenv("SPAROA_ISA");
    return rt;
}

/* A model in a session that joins and in a plain one. */
typedef struct pair {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *s, *plain;
} pair;

static inline void pair_open(pair *p, const mb_model *m, int32_t threads, const char *isa,
                             const char *join)
{
    *p = (pair){0};
    p->rt = join_runtime(&p->memory, threads, isa, join);
    p->model = ts_load(p->rt, m);
    p->s = ts_session(p->model, NULL, 0);
    p->plain = ts_session(p->model, "all", 1);
}

static inline void pair_close(pair *p)
{
    sparoa_session_destroy(p->plain);
    sparoa_session_destroy(p->s);
    sparoa_model_destroy(p->model);
    sparoa_runtime_destroy(p->rt);
    mb_end();
    ts_balanced(&p->memory);
}

/* So many nodes are joined, the outputs are those of plain nodes, and the same bits twice. */
static inline void pair_check(const pair *p, const sparoa_tensor *in, int joined, const char *what)
{
    sparoa_tensor out = {0}, want = {0};
    ts_ok(sparoa_session_run(p->s, in, 1, &out, 1, &err), err);
    if (joined_nodes(p->s) != joined)
        fail_msg("%s: %d nodes joined, expected %d", what, joined_nodes(p->s), joined);
    sparoa_tensor first = ts_copy(&out);
    ts_ok(sparoa_session_run(p->s, in, 1, &out, 1, &err), err);
    assert_true(ts_same(&out, &first));
    ts_ok(sparoa_session_run(p->plain, in, 1, &want, 1, &err), err);
    const double d = ts_difference(&first, &want);
    if (!(d < 1e-5))
        fail_msg("%s, %d threads: differs by %g", what, p->s->model->runtime->host.threads, d);
    free(first.data);
}

#endif
