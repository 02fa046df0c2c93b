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

static void scan_inputs(const sp_graph *g, const sp_gnode *n, sp_graph *body, int32_t n_scan)
{
    int32_t n_state = n->n_explicit - n_scan;
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
        sparoa_node view = {.n_attrs = node->n_attrs, .attrs = node->attrs};
        if (strcmp(node->op_type, "Scan") == 0)
            scan_inputs(graph, node, sub, (int32_t)sparoa_attr_int(&view, "num_scan_inputs", 1));
    }
}

static void merge_fact(sparoa_tensor *t, const sparoa_tensor *other)
{
    if (t->rank != other->rank) t->rank = -1;
    for (int32_t i = 0; i < t->rank; i++)
        if (t->dims[i] != other->dims[i]) t->dims[i] = -1;
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
    const sp_graph *sub = node->subgraphs[0];
    int32_t shift = loop ? 1 : 0, carried = loop ? node->n_explicit - 2 : 0;
    if (scan)
        carried = node->n_explicit - (int32_t)sparoa_attr_int(&view, "num_scan_inputs", 1) -
                  (node->version < 9);
    if ((int64_t)sub->output_count != (int64_t)node->n_out + shift)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view, "the body has %u outputs, expected %d",
                           sub->output_count, node->n_out + shift);
    if (loop && sub->input_count != (uint32_t)node->n_explicit)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view, "the body has %u inputs, expected %d",
                           sub->input_count, node->n_explicit);
    if (scan && (int64_t)sub->input_count != (int64_t)node->n_explicit - (node->version < 9))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view, "the body has %u inputs, expected %d",
                           sub->input_count, node->n_explicit);
    if ((loop || scan) && (carried < 0 || carried > node->n_out))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view, "%d carried values but %d outputs",
                           carried, node->n_out);
    for (int32_t k = 0; k < node->n_out; k++) {
        if (node->out[k] == SP_NO_ID) continue;
        sparoa_tensor *t = &graph->values[node->out[k]].fact;
        sp_copy_fact(t, &sub->values[sub->outputs[k + shift]].fact);
        if (loop || scan)
            t->rank = -1;
        else if (node->subgraphs[1]->output_count == sub->output_count)
            merge_fact(t, &node->subgraphs[1]->values[node->subgraphs[1]->outputs[k]].fact);
        else
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, &view,
                               "the branches have %u and %u outputs", sub->output_count,
                               node->subgraphs[1]->output_count);
    }
    return SPAROA_OK;
}
