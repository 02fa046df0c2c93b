/* Order and rules of a graph. */
#include <string.h>

#include "graph/graph.h"

/* Depth-first order of the living nodes: a node comes after the producers of its inputs. Iterative,
 * because a chain may have a million nodes. */
typedef struct order_state {
    sp_graph *g;
    uint8_t *mark;   /* 0 new, 1 on the stack, 2 placed */
    int32_t *cursor; /* next input to look at */
    sp_id *stack, *order;
    size_t placed;
} order_state;

static sparoa_status place(order_state *s, sp_id root, sparoa_error *err)
{
    size_t depth = 0;
    if (s->mark[root]) return SPAROA_OK;
    s->stack[depth++] = root;
    s->mark[root] = 1;
    while (depth) {
        sp_id id = s->stack[depth - 1];
        const sp_gnode *n = &s->g->nodes[id];
        sp_id next = SP_NO_ID;
        while (s->cursor[id] < n->n_in && next == SP_NO_ID) {
            sp_id value = n->in[s->cursor[id]++];
            sp_id producer = value == SP_NO_ID ? SP_NO_ID : s->g->values[value].producer;
            if (producer == SP_NO_ID || s->mark[producer] == 2) continue;
            if (s->mark[producer] == 1) {
                sparoa_fail(
                    err, SPAROA_INVALID_GRAPH, NULL,
                    "the graph has a cycle through node '%.80s'; ONNX graphs must be acyclic",
                    n->name);
                return SPAROA_INVALID_GRAPH;
            }
            next = producer;
        }
        if (next != SP_NO_ID) {
            s->mark[next] = 1;
            s->stack[depth++] = next;
        } else {
            s->mark[id] = 2;
            s->order[s->placed++] = id;
            depth--;
        }
    }
    return SPAROA_OK;
}

static void apply_order(order_state *s, sp_gnode *sorted)
{
    sp_graph *g = s->g;
    for (size_t i = 0; i < g->node_count; i++)
        for (int32_t k = 0; g->nodes[i].dead && k < g->nodes[i].n_subgraphs; k++)
            sp_graph_destroy(g->nodes[i].subgraphs[k]);
    for (size_t i = 0; i < g->value_count; i++) g->values[i].producer = SP_NO_ID;
    for (size_t i = 0; i < s->placed; i++) sorted[i] = g->nodes[s->order[i]];
    if (s->placed) memcpy(g->nodes, sorted, s->placed * sizeof *sorted);
    g->node_count = s->placed;
    for (size_t i = 0; i < g->node_count; i++)
        for (int32_t k = 0; k < g->nodes[i].n_out; k++)
            if (g->nodes[i].out[k] != SP_NO_ID) g->values[g->nodes[i].out[k]].producer = (sp_id)i;
}

sparoa_status sp_graph_compact(sp_graph *graph, sparoa_error *err)
{
    const sparoa_allocator *a = &graph->arena.alloc;
    size_t n = graph->node_count;
    for (size_t i = 0; i < graph->value_count; i++) graph->values[i].producer = SP_NO_ID;
    for (size_t i = 0; i < n; i++)
        for (int32_t k = 0; k < graph->nodes[i].n_out && !graph->nodes[i].dead; k++)
            if (graph->nodes[i].out[k] != SP_NO_ID)
                graph->values[graph->nodes[i].out[k]].producer = (sp_id)i;
    order_state s = {.g = graph};
    s.mark = sp_calloc(a, n, sizeof *s.mark);
    s.cursor = sp_calloc(a, n, sizeof *s.cursor);
    s.stack = sp_calloc(a, n, sizeof *s.stack);
    s.order = sp_calloc(a, n, sizeof *s.order);
    sp_gnode *sorted = sp_calloc(a, n, sizeof *sorted);
    sparoa_status status = SPAROA_OK;
    if (!s.mark || !s.cursor || !s.stack || !s.order || !sorted)
        status = sp_no_memory(a, n * sizeof *sorted, err);
    for (size_t i = 0; status == SPAROA_OK && i < n; i++)
        if (!graph->nodes[i].dead) status = place(&s, (sp_id)i, err);
    if (status == SPAROA_OK) apply_order(&s, sorted);
    sp_free(a, s.mark, n * sizeof *s.mark);
    sp_free(a, s.cursor, n * sizeof *s.cursor);
    sp_free(a, s.stack, n * sizeof *s.stack);
    sp_free(a, s.order, n * sizeof *s.order);
    sp_free(a, sorted, n * sizeof *sorted);
    return status;
}

#define REQUIRE(condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition)) return sparoa_fail(err, SPAROA_INVALID_GRAPH, NULL, __VA_ARGS__);        \
    } while (0)

static sparoa_status verify_value(const sp_graph *g, size_t i, sparoa_error *err)
{
    const sp_value *v = &g->values[i];
    REQUIRE(v->name && *v->name, "value %zu has no name", i);
    REQUIRE(v->fact.rank >= -1 && v->fact.rank <= SPAROA_MAX_RANK, "value '%.80s' has rank %d",
            v->name, v->fact.rank);
    if (v->kind == SP_VALUE_CONST) {
        REQUIRE(v->blob && v->fact.data, "constant '%.80s' has no data", v->name);
        REQUIRE(v->producer == SP_NO_ID, "constant '%.80s' has a producer", v->name);
        REQUIRE(sparoa_tensor_count(&v->fact) >= 0 &&
                    sparoa_tensor_bytes(&v->fact) <= v->blob->bytes,
                "constant '%.80s' is larger than its data", v->name);
    } else {
        REQUIRE(!v->blob, "value '%.80s' has data but is no constant", v->name);
    }
    return SPAROA_OK;
}

/* Fused nodes carry "sp." attributes and may have inputs beyond the operator's own
 * (ops/epilogue.h). */
static bool has_own_attributes(const sp_gnode *n)
{
    for (int32_t i = 0; i < n->n_attrs; i++)
        if (strncmp(n->attrs[i].name, "sp.", 3) == 0) return true;
    return false;
}

static sparoa_status verify_node(const sp_graph *g, size_t i, sparoa_error *err)
{
    const sp_gnode *n = &g->nodes[i];
    REQUIRE(n->op && n->name && *n->name, "node %zu has no operator or name", i);
    REQUIRE(n->n_explicit >= n->op->min_in &&
                (n->op->max_in < 0 || n->n_explicit <= n->op->max_in || has_own_attributes(n)),
            "%s '%.80s' has %d inputs; the operator takes %d to %d", n->op_type, n->name,
            n->n_explicit, n->op->min_in, n->op->max_in);
    REQUIRE(n->n_out >= n->op->min_out && (n->op->max_out < 0 || n->n_out <= n->op->max_out),
            "%s '%.80s' has %d outputs; the operator gives %d to %d", n->op_type, n->name, n->n_out,
            n->op->min_out, n->op->max_out);
    for (int32_t k = 0; k < n->n_in; k++) {
        if (n->in[k] == SP_NO_ID) {
            REQUIRE(k >= n->op->min_in || n->op->max_in < 0,
                    "%s '%.80s': required input %d is missing", n->op_type, n->name, k);
            continue;
        }
        REQUIRE(n->in[k] < g->value_count, "node '%.80s' reads a value that is not there", n->name);
        const sp_value *v = &g->values[n->in[k]];
        REQUIRE(v->kind != SP_VALUE_NODE || v->producer != SP_NO_ID,
                "%s '%.80s' reads '%.80s', which nothing writes", n->op_type, n->name, v->name);
        REQUIRE(v->producer == SP_NO_ID || v->producer < i,
                "node '%.80s' reads '%.80s' before it is written", n->name, v->name);
    }
    for (int32_t k = 0; k < n->n_out; k++) {
        if (n->out[k] == SP_NO_ID) continue;
        REQUIRE(n->out[k] < g->value_count && g->values[n->out[k]].producer == i,
                "output %d of node '%.80s' is written twice", k, n->name);
    }
    return SPAROA_OK;
}

static sparoa_status verify_subgraph(const sp_gnode *n, const sp_graph *sub, sparoa_error *err)
{
    for (uint32_t k = 0; k < sub->capture_count; k++) {
        REQUIRE(sub->capture_inputs[k] < (uint32_t)n->n_in &&
                    (int32_t)sub->capture_inputs[k] >= n->n_explicit,
                "a subgraph of '%.80s' captures an input that is not there", n->name);
        REQUIRE(sub->capture_values[k] < sub->value_count &&
                    sub->values[sub->capture_values[k]].kind == SP_VALUE_CAPTURE,
                "a subgraph of '%.80s' has a wrong capture", n->name);
    }
    return sp_graph_verify(sub, err);
}

sparoa_status sp_graph_verify(const sp_graph *graph, sparoa_error *err)
{
    sparoa_status status = SPAROA_OK;
    for (size_t i = 0; i < graph->value_count; i++)
        if ((status = verify_value(graph, i, err)) != SPAROA_OK) return status;
    for (size_t i = 0; i < graph->node_count; i++) {
        const sp_gnode *n = &graph->nodes[i];
        REQUIRE(!n->dead, "node '%.80s' is dead but still there", n->name);
        if ((status = verify_node(graph, i, err)) != SPAROA_OK) return status;
        for (int32_t k = 0; k < n->n_subgraphs; k++)
            if ((status = verify_subgraph(n, n->subgraphs[k], err)) != SPAROA_OK) return status;
    }
    for (uint32_t i = 0; i < graph->input_count; i++)
        REQUIRE(graph->values[graph->inputs[i]].kind == SP_VALUE_INPUT,
                "graph input %u is not an input", i);
    for (uint32_t i = 0; i < graph->output_count; i++) {
        const sp_value *v = &graph->values[graph->outputs[i]];
        REQUIRE(v->kind != SP_VALUE_NODE || v->producer != SP_NO_ID,
                "graph output '%.80s' is not written by any node", v->name);
    }
    return SPAROA_OK;
}
