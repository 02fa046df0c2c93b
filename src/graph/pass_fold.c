/* Constant folding: a node whose inputs are all known is run now and its outputs become constants.
 * Shapes that the model fixes make Shape foldable too. */
#include <string.h>

#include "graph/infer.h"
#include "graph/passes.h"
#include "ops/op.h"

#define MAX_FOLDED_BYTES                                                                           \
    ((size_t)64 << 20) /* larger results stay computed: the file is smaller than memory */

typedef struct fold_buffers {
    sparoa_tensor **in, **out;
    sp_blob **blobs;
} fold_buffers;

static bool make_buffers(sp_graph *g, const sp_gnode *n, fold_buffers *b)
{
    b->in = sp_arena_alloc(&g->arena, (size_t)n->n_in * sizeof *b->in);
    b->out = sp_arena_alloc(&g->arena, (size_t)n->n_out * sizeof *b->out);
    b->blobs = sp_arena_alloc(&g->arena, (size_t)n->n_out * sizeof *b->blobs);
    return b->in && b->out && b->blobs;
}

static sparoa_status evaluate(sp_graph *g, sp_gnode *n, const sparoa_node *view, fold_buffers *b,
                              sparoa_error *err)
{
    const sparoa_allocator *a = &g->arena.alloc;
    sparoa_status status = SPAROA_OK;
    for (int32_t k = 0; k < n->n_out && status == SPAROA_OK; k++) {
        if (!b->out[k]) continue;
        size_t bytes = sparoa_tensor_bytes(b->out[k]);
        b->blobs[k] = sp_blob_create(a, bytes);
        if (b->blobs[k])
            b->out[k]->data = b->blobs[k]->data;
        else
            status = sp_no_memory(a, bytes, err);
    }
    if (status == SPAROA_OK) status = sp_evaluate(n->op, view, a, err);
    for (int32_t k = 0; k < n->n_out; k++) {
        if (!b->out[k]) continue;
        if (status != SPAROA_OK) {
            sp_blob_unref(b->blobs[k]);
            b->out[k]->data = NULL;
            continue;
        }
        sp_value *v = &g->values[n->out[k]];
        v->kind = SP_VALUE_CONST;
        v->blob = b->blobs[k];
        v->producer = SP_NO_ID;
    }
    if (status == SPAROA_OK) n->dead = true;
    return status;
}

/* Values in, bytes out: decompressing a constant (Expand, ConstantOfShape) into a large one is not
 * worth it. */
static bool worth_folding(const sparoa_node *view)
{
    size_t in = 0, out = 0;
    for (int32_t k = 0; k < view->n_in; k++)
        if (view->in[k]) in += sparoa_tensor_bytes(view->in[k]);
    for (int32_t k = 0; k < view->n_out; k++)
        if (view->out[k]) out += sparoa_tensor_bytes(view->out[k]);
    return out <= 65536 || out <= 4 * in;
}

sparoa_status sp_pass_fold(sp_graph *graph, sparoa_error *err)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        sp_gnode *n = &graph->nodes[i];
        for (int32_t k = 0; k < n->n_subgraphs; k++) {
            SP_TRY(sp_pass_fold(n->subgraphs[k], err));
            SP_TRY(sp_graph_compact(n->subgraphs[k], err));
        }
        if (n->n_subgraphs || n->dead) continue;
        fold_buffers b;
        sparoa_node view;
        if (!make_buffers(graph, n, &b)) return sp_no_memory(&graph->arena.alloc, sizeof b, err);
        sp_graph_node_view(graph, n, b.in, b.out, NULL, &view);
        SP_TRY(sp_infer_node(n->op, &view, err));
        if (!sp_can_evaluate(n->op, &view, 0, MAX_FOLDED_BYTES) || !worth_folding(&view)) {
            sp_forget_bounds(n->op, &view);
            continue;
        }
        for (int32_t k = 0; k < n->n_in; k++) SP_TRY(sp_graph_align(graph, n->in[k], NULL, err));
        SP_TRY(evaluate(graph, n, &view, &b, err));
    }
    return SPAROA_OK;
}
