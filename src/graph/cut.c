#include "graph/cut.h"

#include "graph/infer.h"
#include "ops/op.h"

typedef struct use {
    bool made, read; /* by the part's nodes */
    bool wanted;     /* by later nodes, or as an output of the graph */
} use;

static void find_uses(const sp_graph *g, size_t first, size_t last, use *uses)
{
    for (size_t i = first; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        for (int32_t k = 0; k < n->n_in; k++) {
            if (n->in[k] == SP_NO_ID || g->values[n->in[k]].kind == SP_VALUE_CONST) continue;
            *(i < last ? &uses[n->in[k]].read : &uses[n->in[k]].wanted) = true;
        }
        for (int32_t k = 0; k < n->n_out && i < last; k++)
            if (n->out[k] != SP_NO_ID) uses[n->out[k]].made = true;
    }
    for (uint32_t i = 0; i < g->output_count; i++) uses[g->outputs[i]].wanted = true;
}

static bool set_edges(sp_graph *g, const use *uses)
{
    sp_id *in = sp_arena_alloc(&g->arena, g->value_count * sizeof *in);
    sp_id *out = sp_arena_alloc(&g->arena, g->value_count * sizeof *out);
    if (!in || !out) return false;
    g->inputs = in;
    g->outputs = out;
    g->input_count = g->output_count = 0;
    for (size_t v = 0; v < g->value_count; v++) {
        sp_value *value = &g->values[v];
        if (uses[v].read && !uses[v].made) {
            in[g->input_count++] = (sp_id)v;
            value->kind = SP_VALUE_INPUT;
            value->producer = SP_NO_ID;
        } else if (value->kind == SP_VALUE_INPUT) {
            value->kind = SP_VALUE_NODE;
        }
        if (uses[v].made && uses[v].wanted) out[g->output_count++] = (sp_id)v;
        if (!uses[v].made && value->kind == SP_VALUE_NODE) value->producer = SP_NO_ID;
    }
    return true;
}

sparoa_status sp_graph_part(const sp_graph *graph, size_t first, size_t last,
                            const sparoa_allocator *alloc, sp_graph **part, sparoa_error *err)
{
    use *uses = sp_calloc(alloc, graph->value_count, sizeof *uses);
    sp_graph *g = sp_graph_clone(graph, alloc);
    bool made = uses && g;
    if (made) {
        find_uses(graph, first, last, uses);
        for (size_t i = 0; i < g->node_count; i++) g->nodes[i].dead = i < first || i >= last;
        made = set_edges(g, uses);
    }
    sp_free(alloc, uses, graph->value_count * sizeof *uses);
    sparoa_status status =
        made ? SPAROA_OK : sp_no_memory(alloc, graph->value_count * sizeof *uses, err);
    if (status == SPAROA_OK) status = sp_graph_compact(g, err);
    if (status == SPAROA_OK) status = sp_graph_verify(g, err);
    if (status == SPAROA_OK) status = sp_graph_infer(g, err);
    if (status == SPAROA_OK)
        *part = g;
    else
        sp_graph_destroy(g);
    return status;
}
