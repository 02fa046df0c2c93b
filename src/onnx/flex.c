/* FlexAttention (ai.onnx.preview, version 1) with score_mod or prob_mod: these subgraphs see all
 * scores and all probabilities as one tensor each, so the node becomes
 * FlexScores -> score_mod -> Softmax -> prob_mod -> FlexValues, the subgraphs' nodes in line. */
#include <string.h>

#include "onnx/internal.h"

static const onnx_graph *subgraph(const onnx_node *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++)
        if (strcmp(sp_str(node->attribute[i]->name), name) == 0) return node->attribute[i]->g;
    return NULL;
}

bool sp_onnx_is_flex(const onnx_node *node, const sparoa_op *op)
{
    return strcmp(op->name, "FlexAttention") == 0 && strcmp(op->domain, "ai.onnx.preview") == 0 &&
           (subgraph(node, "score_mod") || subgraph(node, "prob_mod"));
}

static sparoa_status add_one(sp_onnx *x, sp_scope *scope, const char *op, const char *domain,
                             const char *name, const sp_id *in, int32_t n_in, sp_id out,
                             const sparoa_attr *attr)
{
    onnx_node node = {.op_type = (char *)op, .domain = (char *)domain};
    sp_target t = sp_onnx_lookup(x, NULL, &node);
    if (!t.op)
        return sparoa_fail(x->err, SPAROA_UNSUPPORTED_OP, NULL, "operator %s is not supported", op);
    const char *full = sp_arena_printf(&x->scratch, "%s%s/%s", scope->prefix, name, op);
    if (!full || sp_graph_add_node(scope->graph, full, t.op, t.version, in, n_in, &out, 1, attr,
                                   attr ? 1 : 0) == SP_NO_ID)
        return sp_onnx_oom(x, sizeof(sp_gnode));
    return SPAROA_OK;
}

/* Names of the body: its initialisers, its input, its output. */
static sparoa_status bind_names(sp_onnx *x, sp_scope *body, const onnx_graph *g, sp_id in,
                                sp_id out)
{
    const char *input = sp_str(g->input[0]->name), *output = sp_str(g->output[0]->name);
    sparoa_status status = sp_onnx_add_initializers(x, body, g);
    if (status == SPAROA_OK) status = sp_scope_bind(x, body, input, in);
    if (status == SPAROA_OK && !sp_names_find(&body->names, output, NULL) &&
        !sp_names_add(&body->results, output, out))
        status = sp_onnx_oom(x, sizeof *body->results.items);
    return status;
}

/* Puts the nodes of g between the values in and out. */
static sparoa_status inline_graph(sp_onnx *x, sp_scope *scope, const char *name,
                                  const onnx_graph *g, sp_id in, sp_id out)
{
    if (g->n_input != 1 || g->n_output != 1 || !*sp_str(g->input[0]->name) ||
        !*sp_str(g->output[0]->name))
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                           "a subgraph of FlexAttention '%.80s' has %zu inputs and %zu outputs, "
                           "expected one each",
                           name, g->n_input, g->n_output);
    if (x->nesting >= SP_ONNX_MAX_NESTING)
        return sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL,
                           "subgraphs and functions are nested deeper than %d",
                           SP_ONNX_MAX_NESTING);
    sp_scope body;
    sp_scope_init(x, &body, scope, scope->graph, scope->call);
    body.home = scope->home;
    body.prefix = sp_arena_printf(&x->scratch, "%s%s/", scope->prefix, name);
    x->nesting++;
    sparoa_status status = body.prefix ? SPAROA_OK : sp_onnx_oom(x, strlen(name));
    sp_id result = SP_NO_ID;
    if (status == SPAROA_OK) status = bind_names(x, &body, g, in, out);
    if (status == SPAROA_OK) status = sp_onnx_add_nodes(x, &body, g->node, g->n_node);
    if (status == SPAROA_OK)
        status = sp_scope_resolve(x, &body, g->output[0]->name, "FlexAttention", &result);
    if (status == SPAROA_OK && result != out)
        status = add_one(x, scope, "Identity", "", name, &result, 1, out, NULL);
    x->nesting--;
    sp_scope_free(&body);
    return status;
}

/* *id is the value after the subgraph of that name, which is the one before where there is none. */
static sparoa_status modify(sp_onnx *x, sp_scope *scope, const onnx_node *node, const char *name,
                            const char *attr, sp_id *id)
{
    const onnx_graph *g = subgraph(node, attr);
    if (!g) return SPAROA_OK;
    sp_id out;
    sparoa_status status = sp_scope_temporary(x, scope, attr, &out);
    if (status == SPAROA_OK) status = inline_graph(x, scope, name, g, *id, out);
    *id = out;
    return status;
}

sparoa_status sp_onnx_add_flex(sp_onnx *x, sp_scope *scope, const onnx_node *node)
{
    const char *name = *sp_str(node->name) ? node->name : "FlexAttention";
    sp_id in[3], scores, probs, out;
    sparoa_status status = SPAROA_OK;
    if (node->n_input != 3 || node->n_output != 1 || !*node->output[0])
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                           "FlexAttention '%.80s' has %zu inputs and %zu outputs, expected 3 and 1",
                           name, node->n_input, node->n_output);
    for (size_t i = 0; i < 3 && status == SPAROA_OK; i++)
        status = sp_scope_resolve(x, scope, node->input[i], name, &in[i]);
    sparoa_attr scale;
    bool scaled = false;
    for (size_t i = 0; i < node->n_attribute && status == SPAROA_OK && !scaled; i++) {
        const onnx_attr *a = sp_attr_value(scope, node->attribute[i]);
        if (!a || strcmp(sp_str(node->attribute[i]->name), "scale") != 0) continue;
        status = sp_attr_copy(x, scope, name, "scale", a, &scale);
        scaled = true;
    }
    if (status == SPAROA_OK) status = sp_scope_temporary(x, scope, "scores", &scores);
    if (status == SPAROA_OK)
        status =
            add_one(x, scope, "FlexScores", "sparoa", name, in, 2, scores, scaled ? &scale : NULL);
    if (status == SPAROA_OK) status = modify(x, scope, node, name, "score_mod", &scores);
    if (status == SPAROA_OK) status = sp_scope_temporary(x, scope, "probs", &probs);
    sparoa_attr axis = {.name = "axis", .type = SPAROA_ATTR_INT, .count = 1, .v.i = -1};
    if (status == SPAROA_OK)
        status = add_one(x, scope, "Softmax", "", name, &scores, 1, probs, &axis);
    if (status == SPAROA_OK) status = modify(x, scope, node, name, "prob_mod", &probs);
    if (status != SPAROA_OK) return status;
    sp_names_find(&scope->names, node->output[0], &out);
    return add_one(x, scope, "FlexValues", "sparoa", name, (sp_id[]){probs, in[2]}, 2, out, NULL);
}
