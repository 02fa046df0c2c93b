/* What tests look at in a session's graph. */
#ifndef TESTS_SUPPORT_GRAPH_H
#define TESTS_SUPPORT_GRAPH_H

#include <string.h>

#include "api/objects.h"
#include "tests/support/support.h"

/* How many nodes of an operator there are. */
static inline int ts_nodes(const sparoa_session *s, const char *op)
{
    int n = 0;
    for (size_t i = 0; i < s->graph->node_count; i++)
        n += strcmp(s->graph->nodes[i].op_type, op) == 0;
    return n;
}

/* A session of the model has so many nodes of these operators. Ends the model. */
typedef struct ts_node_count {
    const char *op;
    int count;
} ts_node_count;

static inline void ts_expect_nodes(const mb_model *m, size_t n, const ts_node_count *want)
{
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    sparoa_model *model = ts_load(rt, m);
    sparoa_session *s = ts_session(model, NULL, 0);
    for (size_t i = 0; i < n; i++) assert_int_equal(ts_nodes(s, want[i].op), want[i].count);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
}

#endif
