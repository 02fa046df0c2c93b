/* What tests look at in a session's graph. */
#ifndef TESTS_SUPPORT_GRAPH_H
#define TESTS_SUPPORT_GRAPH_H

#include <string.h>

#include "api/objects.h"

/* How many nodes of an operator there are. */
static inline int ts_nodes(const sparoa_session *s, const char *op)
{
    int n = 0;
    for (size_t i = 0; i < s->graph->node_count; i++)
        n += strcmp(s->graph->nodes[i].op_type, op) == 0;
    return n;
}

#endif
