/* Types and shapes across the border of If, Loop and Scan. */
#include <string.h>

#include "graph/control_facts.h"
#include "ops/op.h"

static void set_type(sparoa_tensor *t, sparoa_dtype dtype)
{
    if (dtype != SPAROA_UNDEFINED) t->dtype = dtype;
}

static const sparoa_tensor *node_fact(const sp_graph *g, const sp_gnode *n, int32_t input)
{
    return input < n->n_explicit && n->in[input] != SP_NO_ID ? &g->values[n->in[input]].fact : NULL;
}

/* Loop body inputs: iteration, condition, carried values (whose shape may change from turn to
 * turn). */
static void loop_inputs(const sp_graph *g, const sp_gnode *n, sp_graph *body)
{
    for (uint32_t i = 0; i < body->input_count; i++) {
        sparoa_tensor *t = &body->values[body->inputs[i]].fact;
        if (i < 2) {
            sp_set_shape(t, i == 0 ? SPAROA_INT64 : SPAROA_BOOL, 0, NULL);
            continue;
        }
        const sparoa_tensor *from = node_fact(g, n, (int32_t)i);
        if (from) set_type(t, from->dtype);
        t->rank = -1;
    }
}

static int64_t scan_count(const sp_gnode *n)
{
    sparoa_node view = {.n_attrs = n->n_attrs, .attrs = n->attrs};
    return sparoa_attr_int(&view, "num_scan_inputs", 1);
}

static void scan_inputs(const sp_graph *g, const sp_gnode *n, sp_graph *body)
{
    int64_t n_scan = scan_count(n);
    if (n_scan < 1 || n_scan > n->n_explicit) return; /* sp_control_output_facts says so */
    int32_t n_state = n->n_explicit - (int32_t)n_scan;
    int32_t skip = n->version < 9 ? 1 : 0; /* Scan-8: sequence lengths come first */
    for (uint32_t i = 0; i < body->input_count; i++) {
        sparoa_tensor *t = &body->values[body->inputs[i]].fact;
        const sparoa_tensor *from = node_fact(g, n, (int32_t)i + skip);
        if (from) set_type(t, from->dtype);
        if ((int32_t)i + skip >= n_state || skip)
            t->rank = -1;
        else if (from)
            sp_set_shape(t, t->dtype, from->rank, from->dims);
    }
}

void sp_control_input_facts(const sp_graph *graph, const sp_gnode *node)
{
    for (int32_t s = 0; s < node->n_subgraphs; s++) {
        sp_graph *sub = node->subgraphs[s];
        for (uint32_t k = 0; k < sub->capture_count; k++) {
            const sparoa_tensor *from = &graph->values[node->in[sub->capture_inputs[k]]].fact;
            sp_copy_fact(&sub->values[sub->capture_values[k]].fact, from);
        }
        if (strcmp(node->op_type, "Loop") == 0) loop_inputs(graph, node, sub);
        if (strcmp(node->op_type, "Scan") == 0) scan_inputs(graph, node, sub);
    }
}

/* Kernels are chosen once, so a value may not change its type on its way round. */
static sparoa_status same_type(const sparoa_node *view, const char *what, int32_t k,
                               const sparoa_tensor *a, const sparoa_tensor *b, sparoa_error *err)
{
    if (a->dtype == b->dtype || a->dtype == SPAROA_UNDEFINED || b->dtype == SPAROA_UNDEFINED)
        return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, view,
                       "%s %d is %s on one side and %s on the other", what, k,
                       sparoa_dtype_name(a->dtype), sparoa_dtype_name(b->dtype));
}

static void merge_fact(sparoa_tensor *t, const sparoa_tensor *other)
{
    if (t->rank != other->rank) t->rank = -1;
    for (int32_t i = 0; i < t->rank; i++)
        if (t->dims[i] != other->dims[i]) t->dims[i] = -1;
}

/* How a body fits its Loop or Scan: counts, and the types of the `carried` values. */
static sparoa_status check_body(const sp_gnode *node, const sparoa_node *view, int32_t carried,
                                bool loop, sparoa_error *err)
{
    const sp_graph *body = node->subgraphs[0];
    int32_t inputs = node->n_explicit - (!loop && node->version < 9);
    int32_t in = loop ? 2 : 0, out = loop ? 1 : 0; /* of the first carried value */
    if (body->input_count != (uint32_t)inputs)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, view, "the body has %u inputs, expected %d",
                           body->input_count, inputs);
    if (carried < 0 || carried > node->n_out)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, view, "%d carried values but %d outputs",
                           carried, node->n_out);
    for (int32_t k = 0; k < carried; k++)
        SP_TRY(same_type(view, "carried value", k, &body->values[body->inputs[k + in]].fact,
                         &body->values[body->outputs[k + out]].fact, err));
    return SPAROA_OK;
}

sparoa_status sp_control_output_facts(sp_graph *graph, const sp_gnode *node, sparoa_error *err)
{
    sparoa_node view = {
        .name = node->name, .op = node->op_type, .n_attrs = node->n_attrs, .attrs = node->attrs};
    bool loop = strcmp(node->op_type, "Loop") == 0, scan = strcmp(node->op_type, "Scan") == 0;
    int32_t needed = loop || scan ? 1 : 2;
    if (node->n_subgraphs != needed)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view, "%d subgraphs; expected %d",
                           node->n_subgraphs, needed);
    const sp_graph *sub = node->subgraphs[0], *other = node->subgraphs[needed - 1];
    int32_t shift = loop ? 1 : 0;
    if (scan && (scan_count(node) < 1 || scan_count(node) > node->n_explicit))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view,
                           "num_scan_inputs=%lld; expected 1 to %d", (long long)scan_count(node),
                           node->n_explicit);
    if ((int64_t)sub->output_count != (int64_t)node->n_out + shift)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view, "the body has %u outputs, expected %d",
                           sub->output_count, node->n_out + shift);
    if (loop) SP_TRY(check_body(node, &view, node->n_explicit - 2, true, err));
    if (scan)
        SP_TRY(check_body(node, &view,
                          node->n_explicit - (int32_t)scan_count(node) - (node->version < 9), false,
                          err));
    if (other->output_count != sub->output_count)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view, "the branches have %u and %u outputs",
                           sub->output_count, other->output_count);
    for (int32_t k = 0; k < node->n_out; k++) {
        if (node->out[k] == SP_NO_ID) continue;
        sparoa_tensor *t = &graph->values[node->out[k]].fact;
        const sparoa_tensor *last = &other->values[other->outputs[k + shift]].fact;
        sp_copy_fact(t, &sub->values[sub->outputs[k + shift]].fact);
        SP_TRY(same_type(&view, "output", k, t, last, err));
        if (loop || scan)
            t->rank = -1;
        else
            merge_fact(t, last);
    }
    return SPAROA_OK;
}
