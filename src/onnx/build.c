/* GraphProto into sp_graph: values, nodes, subgraphs, function calls. */
#include <string.h>

#include "onnx/internal.h"

/* ---- inputs and outputs of graphs ---- */

static const char *type_kind(const SpOnnx__TypeProto *t)
{
    if (t->has_sequence_type) return "sequence";
    if (t->has_map_type) return "map";
    if (t->has_optional_type) return "optional";
    if (t->has_sparse_tensor_type) return "sparse tensor";
    return t->has_opaque_type ? "opaque" : NULL;
}

/* Type, shape and names of dimensions as declared. names: NULL where no dimension has one. */
static sparoa_status declared(sp_onnx *x, sp_arena *arena, const onnx_value_info *info,
                              const char *role, sparoa_tensor *fact, const char ***names)
{
    char what[140];
    snprintf(what, sizeof what, "%s '%.80s'", role, sp_str(info->name));
    *fact = (sparoa_tensor){.rank = -1};
    *names = NULL;
    if (!info->type) return SPAROA_OK;
    const char *kind = type_kind(info->type);
    if (kind)
        return sparoa_fail(x->err, SPAROA_UNSUPPORTED_TYPE, NULL,
                           "%s is of type %s, which is not supported; expected a tensor", what,
                           kind);
    const SpOnnx__TypeProto__Tensor *t = info->type->tensor_type;
    if (!t || !t->elem_type) return SPAROA_OK;
    if (!t->shape) return sp_onnx_dtype(x, t->elem_type, what, &fact->dtype);
    int64_t known[SPAROA_MAX_RANK] = {0};
    size_t rank = t->shape->n_dim, bytes;
    for (size_t i = 0; i < rank && i < SPAROA_MAX_RANK; i++) {
        const SpOnnx__TensorShapeProto__Dimension *d = t->shape->dim[i];
        known[i] = d->has_dim_value && d->dim_value >= 0 ? d->dim_value : 1;
    }
    sparoa_status status = sp_onnx_fact(x, t->elem_type, known, rank, what, fact, &bytes);
    if (status != SPAROA_OK) return status;
    for (size_t i = 0; i < rank; i++) {
        const SpOnnx__TensorShapeProto__Dimension *d = t->shape->dim[i];
        if (d->has_dim_value && d->dim_value >= 0) continue;
        fact->dims[i] = -1;
        if (!d->dim_param || !*d->dim_param) continue;
        /* One entry for every dimension a tensor can have: the rank may still turn out to be
         * another. */
        if (!*names) *names = sp_arena_alloc(arena, SPAROA_MAX_RANK * sizeof **names);
        char *copy = sp_arena_strdup(arena, d->dim_param);
        if (!*names || !copy) return sp_onnx_oom(x, SPAROA_MAX_RANK * sizeof **names);
        (*names)[i] = copy;
    }
    return SPAROA_OK;
}

static sparoa_status add_inputs(sp_onnx *x, sp_scope *scope, const onnx_graph *g)
{
    sp_graph *graph = scope->graph;
    graph->inputs = sp_arena_alloc(&graph->arena, g->n_input * sizeof *graph->inputs);
    if (!graph->inputs) return sp_onnx_oom(x, g->n_input * sizeof *graph->inputs);
    sp_id first = (sp_id)graph->value_count; /* constants come before */
    for (size_t i = 0; i < g->n_input; i++) {
        const char *name = sp_str(g->input[i]->name);
        sp_id id;
        if (!*name)
            return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                               "input %zu of graph '%.80s' has no name", i, graph->name);
        if (sp_names_find(&scope->names, name, &id) && (id == SP_ID_UNUSABLE || id < first))
            continue;
        sparoa_tensor fact;
        const char **names;
        sparoa_status status = declared(x, &graph->arena, g->input[i], "input", &fact, &names);
        if (status == SPAROA_OK)
            status = sp_scope_define(x, scope, name, SP_VALUE_INPUT, NULL, NULL, &id);
        if (status != SPAROA_OK) return status;
        graph->values[id].fact = fact;
        graph->values[id].dim_names = names;
        graph->inputs[graph->input_count++] = id;
    }
    return SPAROA_OK;
}

static sparoa_status add_outputs(sp_onnx *x, sp_scope *scope, const onnx_graph *g)
{
    sp_graph *graph = scope->graph;
    graph->outputs = sp_arena_alloc(&graph->arena, g->n_output * sizeof *graph->outputs);
    if (!graph->outputs) return sp_onnx_oom(x, g->n_output * sizeof *graph->outputs);
    for (size_t i = 0; i < g->n_output; i++) {
        const char *name = sp_str(g->output[i]->name);
        char user[128];
        snprintf(user, sizeof user, "output %zu of graph '%.80s'", i, graph->name);
        sp_id id;
        sparoa_tensor fact;
        const char **names;
        sparoa_status status = sp_scope_resolve(x, scope, name, user, &id);
        if (status == SPAROA_OK)
            status = declared(x, &graph->arena, g->output[i], "output", &fact, &names);
        if (status != SPAROA_OK) return status;
        if (id == SP_NO_ID)
            return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL, "%s is a value that is left out",
                               user);
        sp_value *v = &graph->values[id];
        if (v->kind == SP_VALUE_NODE && v->fact.dtype == SPAROA_UNDEFINED) {
            v->fact = fact;
            v->dim_names = names;
        }
        graph->outputs[graph->output_count++] = id;
    }
    return SPAROA_OK;
}

/* ---- constants ---- */

/* An initialiser of an unsupported type is an error only where it is used. */
sparoa_status sp_onnx_add_initializers(sp_onnx *x, sp_scope *scope, const onnx_graph *g)
{
    size_t n = g->n_initializer;
    for (size_t i = 0; i < n + g->n_sparse_initializer; i++) {
        const onnx_sparse *sparse = i < n ? NULL : g->sparse_initializer[i - n];
        const onnx_tensor *t = sparse ? sparse->values : g->initializer[i];
        const char *name = t ? sp_str(t->name) : "";
        char what[120];
        snprintf(what, sizeof what, "initialiser '%.80s'", name);
        if (!*name)
            return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                               "initialiser %zu of graph '%.80s' has no name", i,
                               scope->graph->name);
        sparoa_tensor fact;
        sp_blob *blob = NULL;
        sparoa_status status;
        sp_id id;
        if (!sp_onnx_type_known(t->data_type)) {
            status = sp_scope_bind(x, scope, name, SP_ID_UNUSABLE);
        } else {
            status = sparse ? sp_onnx_sparse(x, sparse, what, &fact, &blob)
                            : sp_onnx_tensor(x, t, what, &fact, &blob);
            if (status == SPAROA_OK)
                status = sp_scope_define(x, scope, name, SP_VALUE_CONST, &fact, blob, &id);
        }
        if (status != SPAROA_OK) return status;
    }
    return SPAROA_OK;
}

static sparoa_status add_constant(sp_onnx *x, sp_scope *scope, const onnx_node *node)
{
    sparoa_tensor fact;
    sp_blob *blob;
    bool usable;
    sp_id bound;
    if (node->n_output != 1 || !*sp_str(node->output[0])) {
        if (node->n_output == 1) return SPAROA_OK;
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                           "Constant '%.80s' has %zu outputs, expected 1", sp_str(node->name),
                           node->n_output);
    }
    sparoa_status status = sp_attr_constant(x, scope, node, &fact, &blob, &usable);
    if (status != SPAROA_OK) {
        sp_blob_unref(blob);
        return status;
    }
    if (!usable) return sp_scope_bind(x, scope, node->output[0], SP_ID_UNUSABLE);
    if (!sp_names_find(&scope->results, node->output[0], &bound))
        return sp_scope_define(x, scope, node->output[0], SP_VALUE_CONST, &fact, blob, &bound);
    /* The result of a function call: the caller's value becomes the constant. */
    status = sp_scope_bind(x, scope, node->output[0], bound);
    if (status != SPAROA_OK) {
        sp_blob_unref(blob);
        return status;
    }
    sp_value *v = &scope->graph->values[bound];
    v->kind = SP_VALUE_CONST;
    v->fact = fact;
    v->fact.data = blob->data;
    v->blob = blob;
    return SPAROA_OK;
}

/* Makes values for all outputs of the nodes, so that nodes may stand in any order. */
static sparoa_status declare_outputs(sp_onnx *x, sp_scope *scope, onnx_node *const *nodes,
                                     size_t count)
{
    const onnx_function *within = scope->call ? scope->call->function : NULL;
    sparoa_status status = SPAROA_OK;
    for (size_t i = 0; i < count && status == SPAROA_OK; i++) {
        if (sp_onnx_is_constant(x, within, nodes[i])) {
            status = add_constant(x, scope, nodes[i]);
            continue;
        }
        for (size_t k = 0; k < nodes[i]->n_output && status == SPAROA_OK; k++) {
            const char *name = nodes[i]->output[k];
            sp_id id;
            if (!*name) continue;
            if (sp_names_find(&scope->results, name, &id))
                status = sp_scope_bind(x, scope, name, id);
            else
                status = sp_scope_define(x, scope, name, SP_VALUE_NODE, NULL, NULL, &id);
        }
    }
    return status;
}

/* ---- whole graphs ---- */

static sparoa_status fill_graph(sp_onnx *x, sp_scope *scope, const onnx_graph *g)
{
    sp_graph *graph = scope->graph;
    sparoa_status status = sp_onnx_add_initializers(x, scope, g);
    if (status == SPAROA_OK) status = add_inputs(x, scope, g);
    if (status == SPAROA_OK) status = sp_onnx_add_nodes(x, scope, g->node, g->n_node);
    if (status == SPAROA_OK) status = add_outputs(x, scope, g);
    if (status == SPAROA_OK) status = sp_graph_compact(graph, x->err);
    if (status != SPAROA_OK) return status;
    size_t n = scope->capture_ids / 2;
    graph->capture_values = sp_arena_alloc(&graph->arena, n * sizeof *graph->capture_values);
    graph->capture_inputs = sp_arena_alloc(&graph->arena, n * sizeof *graph->capture_inputs);
    if (!graph->capture_values || !graph->capture_inputs)
        return sp_onnx_oom(x, n * sizeof *graph->capture_values);
    for (size_t i = 0; i < n; i++) {
        graph->capture_values[i] = scope->captures[2 * i];
        graph->capture_inputs[i] = scope->captures[2 * i + 1];
    }
    graph->capture_count = (uint32_t)n;
    return SPAROA_OK;
}

sparoa_status sp_onnx_build(sp_onnx *x, const onnx_graph *g, sp_scope *parent, sp_graph **graph)
{
    if (x->nesting >= SP_ONNX_MAX_NESTING)
        return sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL,
                           "subgraphs and functions are nested deeper than %d",
                           SP_ONNX_MAX_NESTING);
    sp_graph *made = sp_graph_create(&x->alloc, sp_str(g->name));
    if (!made) return sp_onnx_oom(x, sizeof *made);
    sp_scope scope;
    sp_scope_init(x, &scope, parent, made, parent ? parent->call : NULL);
    if (parent) scope.prefix = parent->prefix;
    x->nesting++;
    sparoa_status status = fill_graph(x, &scope, g);
    x->nesting--;
    sp_scope_free(&scope);
    if (status == SPAROA_OK)
        *graph = made;
    else
        sp_graph_destroy(made);
    return status;
}

sparoa_status sp_onnx_add_nodes(sp_onnx *x, sp_scope *scope, onnx_node *const *nodes, size_t count)
{
    const onnx_function *within = scope->call ? scope->call->function : NULL;
    sparoa_status status = declare_outputs(x, scope, nodes, count);
    for (size_t i = 0; i < count && status == SPAROA_OK; i++)
        if (!sp_onnx_is_constant(x, within, nodes[i]))
            status = sp_onnx_add_node(x, scope, nodes[i]);
    return status;
}
