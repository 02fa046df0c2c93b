/* Dead code: nodes whose outputs nobody uses are dropped, and outputs nobody uses are no longer
 * computed. */
#include "graph/passes.h"

sparoa_status sp_pass_dce(sp_graph *graph, sparoa_error *err)
{
    sp_uses uses;
    if (!sp_uses_build(&uses, graph, &graph->arena.alloc))
        return sp_no_memory(&graph->arena.alloc, graph->value_count * 8, err);
    for (size_t i = graph->node_count; i-- > 0;) {
        sp_gnode *n = &graph->nodes[i];
        if (n->dead) continue;
        bool used = false;
        for (int32_t k = 0; k < n->n_out; k++)
            if (n->out[k] != SP_NO_ID && uses.count[n->out[k]]) used = true;
        n->dead = !used;
        for (int32_t k = 0; k < n->n_in && n->dead; k++)
            if (n->in[k] != SP_NO_ID) uses.count[n->in[k]]--;
        /* an operator may need its first output; the later ones are optional */
        for (int32_t k = n->op->min_out > 1 ? n->op->min_out : 1;
             k < n->n_out && !n->dead && !n->n_subgraphs; k++)
            if (n->out[k] != SP_NO_ID && !uses.count[n->out[k]]) {
                graph->values[n->out[k]].producer = SP_NO_ID;
                n->out[k] = SP_NO_ID;
            }
    }
    /* constants that are not used any more give their memory back */
    for (size_t v = 0; v < graph->value_count; v++) {
        sp_value *value = &graph->values[v];
        if (value->kind != SP_VALUE_CONST || uses.count[v] || !value->blob) continue;
        sp_blob_unref(value->blob);
        value->blob = NULL;
        value->fact.data = NULL;
        value->kind = SP_VALUE_NODE;
    }
    sp_uses_free(&uses);
    return SPAROA_OK;
}
