#include "graph/infer.h"

#include <string.h>

#include "graph/control_facts.h"
#include "ops/op.h"

#define MAX_TENSOR_BYTES ((size_t)1 << 46) /* beyond any machine: an overflow in the making */

sparoa_status sp_infer_node(const sparoa_op *op, const sparoa_node *view, sparoa_error *err)
{
    for (int32_t i = 0; i < view->n_out; i++) {
        if (!view->out[i]) continue;
        view->out[i]->dtype = SPAROA_UNDEFINED;
        view->out[i]->rank = -1;
    }
    SP_TRY(op->infer(view, err));
    for (int32_t i = 0; i < view->n_out; i++) {
        const sparoa_tensor *t = view->out[i];
        if (!t) continue;
        if (t->rank > SPAROA_MAX_RANK)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, view,
                               "output %d has rank %d; at most %d are supported", i, t->rank,
                               SPAROA_MAX_RANK);
        SP_TRY(sp_check_shape(view, t, err));
        if (sp_known(t) &&
            (sparoa_tensor_count(t) < 0 || (size_t)sparoa_tensor_count(t) > MAX_TENSOR_BYTES / 8))
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, view, "output %d is too large", i);
    }
    return SPAROA_OK;
}

void sp_forget_bounds(const sparoa_op *op, const sparoa_node *view)
{
    if (!(op->flags & SPAROA_OP_TRIMS)) return;
    for (int32_t i = 0; i < view->n_out; i++)
        if (view->out[i]) sp_set_shape(view->out[i], view->out[i]->dtype, view->out[i]->rank, NULL);
}

bool sp_can_evaluate(const sparoa_op *op, const sparoa_node *view, int32_t n_subgraphs,
                     size_t max_bytes)
{
    if (n_subgraphs || op->flags & SPAROA_OP_RANDOM || op->op_class == SPAROA_CLASS_CONTROL)
        return false;
    for (int32_t i = 0; i < view->n_in; i++) {
        const sparoa_tensor *t = view->in[i];
        if (!t) continue;
        if (!sp_known(t)) return false;
        if (!(op->flags & SPAROA_OP_SHAPE_ONLY) && !t->data && sparoa_tensor_count(t) > 0)
            return false;
    }
    size_t bytes = 0;
    for (int32_t i = 0; i < view->n_out; i++) {
        if (!view->out[i]) continue;
        if (!sp_known(view->out[i]) || sparoa_dtype_size(view->out[i]->dtype) == 0) return false;
        bytes += sparoa_tensor_bytes(view->out[i]);
    }
    return bytes <= max_bytes;
}

static void run_inline(const sparoa_exec *exec, int32_t count, void (*task)(void *arg, int32_t i),
                       void *arg)
{
    (void)exec;
    for (int32_t i = 0; i < count; i++) task(arg, i);
}

sparoa_status sp_evaluate(const sparoa_op *op, const sparoa_node *view,
                          const sparoa_allocator *alloc, sparoa_error *err)
{
    sparoa_exec exec = {.threads = 1, .parallel = run_inline, .err = err};
    size_t bytes = sp_op_workspace(op, view, 1);
    if (bytes && !(exec.workspace = sp_alloc(alloc, bytes))) return sp_no_memory(alloc, bytes, err);
    sparoa_status status = op->create ? op->create(view, alloc, &exec.state, err) : SPAROA_OK;
    if (status == SPAROA_OK) status = sp_op_run(op, view, &exec);
    if (op->destroy && exec.state) op->destroy(exec.state, alloc);
    sp_free(alloc, exec.workspace, bytes);
    return status;
}

typedef struct view_buffers {
    sparoa_tensor **in, **out;
    bool *constant;
    size_t bytes_in, bytes_out, bytes_constant;
} view_buffers;

static sparoa_status infer_graph(sp_graph *graph, view_buffers *b, sparoa_error *err)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        sp_gnode *n = &graph->nodes[i];
        if (n->dead) continue;
        sparoa_node view;
        sp_graph_node_view(graph, n, b->in, b->out, b->constant, &view);
        SP_TRY(sp_infer_node(n->op, &view, err));
        sp_forget_bounds(n->op, &view);
        if (n->op->op_class != SPAROA_CLASS_CONTROL) continue;
        sp_control_input_facts(graph, n);
        for (int32_t s = 0; s < n->n_subgraphs; s++) SP_TRY(sp_graph_infer(n->subgraphs[s], err));
        SP_TRY(sp_control_output_facts(graph, n, err));
    }
    return SPAROA_OK;
}

sparoa_status sp_graph_infer(sp_graph *graph, sparoa_error *err)
{
    const sparoa_allocator *a = &graph->arena.alloc;
    size_t n_in = 1, n_out = 1;
    for (size_t i = 0; i < graph->node_count; i++) {
        if ((size_t)graph->nodes[i].n_in > n_in) n_in = (size_t)graph->nodes[i].n_in;
        if ((size_t)graph->nodes[i].n_out > n_out) n_out = (size_t)graph->nodes[i].n_out;
    }
    view_buffers b = {.bytes_in = n_in * sizeof *b.in,
                      .bytes_out = n_out * sizeof *b.out,
                      .bytes_constant = n_in};
    b.in = sp_alloc(a, b.bytes_in);
    b.out = sp_alloc(a, b.bytes_out);
    b.constant = sp_alloc(a, b.bytes_constant);
    sparoa_status status =
        b.in && b.out && b.constant ? infer_graph(graph, &b, err) : sp_no_memory(a, n_in * 8, err);
    sp_free(a, b.in, b.bytes_in);
    sp_free(a, b.out, b.bytes_out);
    sp_free(a, b.constant, b.bytes_constant);
    return status;
}
