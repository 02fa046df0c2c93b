/* NodeProto into nodes of the graph: inputs, attributes, subgraphs; and function calls, which are
 * inlined. */
#include <string.h>

#include "onnx/internal.h"

/* A node being put together. */
typedef struct draft {
    const sparoa_op *op;
    const char *name; /* "" if the file gives none */
    char user[160];   /* "Conv 'name'", for messages */
    sp_id *in;
    size_t n_in, in_capacity, n_explicit;
    sp_id *out;
    size_t n_out;
    sparoa_attr *attrs;
    size_t n_attrs;
    sp_graph **subgraphs;
    size_t n_subgraphs;
} draft;

static sparoa_status push_input(sp_onnx *x, draft *d, sp_id id)
{
    if (!sp_grow(&x->alloc, &d->in, &d->in_capacity, d->n_in + 1, sizeof *d->in))
        return sp_onnx_oom(x, (d->n_in + 1) * sizeof *d->in);
    d->in[d->n_in++] = id;
    return SPAROA_OK;
}

static size_t without_trailing_empty(char *const *names, size_t count)
{
    while (count && !*names[count - 1]) count--;
    return count;
}

static sparoa_status read_inputs(sp_onnx *x, sp_scope *scope, const onnx_node *node, draft *d)
{
    const sparoa_op *op = d->op;
    size_t n = without_trailing_empty(node->input, node->n_input);
    bool all = op->max_in < 0 && op->op_class != SPAROA_CLASS_CONTROL && !*op->domain;
    if (n < (size_t)op->min_in || (op->max_in >= 0 && n > (size_t)op->max_in))
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                           "%s has %zu inputs, expected %d to %d", d->user, n, op->min_in,
                           op->max_in);
    for (size_t i = 0; i < n; i++) {
        sp_id id = SP_NO_ID;
        sparoa_status status = SPAROA_OK;
        char user[200];
        snprintf(user, sizeof user, "input %zu of %s", i, d->user);
        if (*node->input[i]) status = sp_scope_resolve(x, scope, node->input[i], user, &id);
        if (status == SPAROA_OK && id == SP_NO_ID && (all || i < (size_t)op->min_in) &&
            op->op_class != SPAROA_CLASS_CONTROL)
            status = sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                                 "%s is left out, but the operator needs it", user);
        if (status == SPAROA_OK) status = push_input(x, d, id);
        if (status != SPAROA_OK) return status;
    }
    d->n_explicit = n;
    return SPAROA_OK;
}

/* Outputs that the operator always writes get a value even if nobody wants them. */
static sparoa_status read_outputs(sp_onnx *x, sp_scope *scope, const onnx_node *node, draft *d)
{
    const sparoa_op *op = d->op;
    size_t n = without_trailing_empty(node->output, node->n_output), least = (size_t)op->min_out;
    if (op->max_out >= 0 && n > (size_t)op->max_out)
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                           "%s has %zu outputs, expected %d to %d", d->user, n, op->min_out,
                           op->max_out);
    d->n_out = n > least ? n : least;
    d->out = sp_arena_alloc(&x->scratch, d->n_out * sizeof *d->out);
    if (!d->out) return sp_onnx_oom(x, d->n_out * sizeof *d->out);
    for (size_t i = 0; i < d->n_out; i++) {
        const char *name = i < n ? node->output[i] : "";
        d->out[i] = SP_NO_ID;
        sparoa_status status = SPAROA_OK;
        if (*name)
            sp_names_find(&scope->names, name, &d->out[i]);
        else if (i < least)
            status = sp_scope_temporary(x, scope, *d->name ? d->name : op->name, &d->out[i]);
        if (status != SPAROA_OK) return status;
    }
    return SPAROA_OK;
}

static sparoa_status add_subgraph(sp_onnx *x, sp_scope *scope, const onnx_attr *a,
                                  const onnx_attr *value, draft *d)
{
    if (!value->g || value != a)
        return sparoa_fail(
            x->err, SPAROA_INVALID_GRAPH, NULL,
            "attribute '%.60s' of %s holds no graph of its own; graphs handed to functions as "
            "attributes are not supported",
            sp_str(a->name), d->user);
    sp_graph *sub = NULL;
    sparoa_status status = sp_onnx_build(x, value->g, scope, &sub);
    if (status != SPAROA_OK) return status;
    d->subgraphs[d->n_subgraphs] = sub;
    for (uint32_t k = 0; k < sub->capture_count && status == SPAROA_OK; k++) {
        status = push_input(x, d, sub->capture_inputs[k]);
        sub->capture_inputs[k] = (uint32_t)(d->n_in - 1);
    }
    sparoa_attr *out = &d->attrs[d->n_attrs];
    *out = (sparoa_attr){.name = sp_arena_strdup(&scope->graph->arena, sp_str(a->name)),
                         .type = SPAROA_ATTR_GRAPH,
                         .count = 1,
                         .v.graph = (uint32_t)d->n_subgraphs++};
    if (status == SPAROA_OK && !out->name) status = sp_onnx_oom(x, strlen(sp_str(a->name)));
    d->n_attrs++;
    return status;
}

static sparoa_status read_attrs(sp_onnx *x, sp_scope *scope, const onnx_node *node, draft *d)
{
    size_t n = node->n_attribute;
    d->attrs = sp_arena_alloc(&x->scratch, n * sizeof *d->attrs);
    d->subgraphs = sp_arena_alloc(&scope->graph->arena, n * sizeof *d->subgraphs);
    if (!d->attrs || !d->subgraphs) return sp_onnx_oom(x, n * sizeof *d->attrs);
    for (size_t i = 0; i < n; i++) {
        const onnx_attr *a = node->attribute[i], *value = sp_attr_value(scope, a);
        const char *name = sp_str(a->name);
        sparoa_status status;
        if (!*name || strncmp(name, "sp.", 3) == 0)
            return sparoa_fail(
                x->err, SPAROA_INVALID_GRAPH, NULL,
                "%s has an attribute named '%.60s'; expected a name that does not begin with 'sp.'",
                d->user, name);
        for (size_t k = 0; k < d->n_attrs; k++)
            if (strcmp(d->attrs[k].name, name) == 0)
                return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                                   "%s has attribute '%.60s' twice", d->user, name);
        if (!value) continue;
        if (sp_attr_type(value) == SPAROA_ATTR_GRAPH)
            status = add_subgraph(x, scope, a, value, d);
        else
            status =
                sp_attr_copy(x, scope, sp_str(node->name), name, value, &d->attrs[d->n_attrs++]);
        if (status != SPAROA_OK) return status;
    }
    return SPAROA_OK;
}

static const char *node_name(sp_onnx *x, const sp_scope *scope, const onnx_node *node,
                             const char *fallback)
{
    const char *name = sp_str(node->name);
    if (!*scope->prefix) return *name ? name : "";
    return sp_arena_printf(&x->scratch, "%s%s", scope->prefix, *name ? name : fallback);
}

static sparoa_status add_operator(sp_onnx *x, sp_scope *scope, const onnx_node *node,
                                  const sparoa_op *op, int32_t version)
{
    draft d = {.op = op, .name = node_name(x, scope, node, op->name)};
    if (!d.name) return sp_onnx_oom(x, 1);
    snprintf(d.user, sizeof d.user, "%s '%.80s'", op->name,
             *d.name || !node->n_output ? d.name : node->output[0]);
    sparoa_status status = read_inputs(x, scope, node, &d);
    if (status == SPAROA_OK) status = read_outputs(x, scope, node, &d);
    if (status == SPAROA_OK) status = read_attrs(x, scope, node, &d);
    sp_id id = SP_NO_ID;
    if (status == SPAROA_OK && d.n_in > INT32_MAX)
        status = sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL, "%s has too many inputs", d.user);
    if (status == SPAROA_OK) {
        id = sp_graph_add_node(scope->graph, d.name, op, version, d.in, (int32_t)d.n_in, d.out,
                               (int32_t)d.n_out, d.attrs, (int32_t)d.n_attrs);
        if (id == SP_NO_ID) status = sp_onnx_oom(x, sizeof(sp_gnode));
    }
    if (id != SP_NO_ID) {
        sp_gnode *n = &scope->graph->nodes[id];
        n->n_explicit = (int32_t)d.n_explicit;
        n->subgraphs = d.subgraphs;
        n->n_subgraphs = (int32_t)d.n_subgraphs;
    } else {
        for (size_t i = 0; i < d.n_subgraphs; i++) sp_graph_destroy(d.subgraphs[i]);
    }
    sp_free(&x->alloc, d.in, d.in_capacity * sizeof *d.in);
    if (status != SPAROA_OK && x->err && !x->err->node[0])
        snprintf(x->err->node, sizeof x->err->node, "%s", d.name);
    return status;
}

/* ---- functions ---- */

static sparoa_status bind_arguments(sp_onnx *x, sp_scope *scope, sp_scope *body,
                                    const onnx_node *node, const onnx_function *f)
{
    for (size_t i = 0; i < f->n_input; i++) {
        sp_id id = SP_NO_ID;
        sparoa_status status = SPAROA_OK;
        char user[160];
        snprintf(user, sizeof user, "input %zu of the call '%.80s'", i, sp_str(node->name));
        if (i < node->n_input && *node->input[i])
            status = sp_scope_resolve(x, scope, node->input[i], user, &id);
        if (status == SPAROA_OK) status = sp_scope_bind(x, body, f->input[i], id);
        if (status != SPAROA_OK) return status;
    }
    for (size_t i = 0; i < f->n_output && i < node->n_output; i++) {
        sp_id id;
        if (!*node->output[i] || !sp_names_find(&scope->names, node->output[i], &id)) continue;
        if (sp_names_find(&body->names, f->output[i], NULL) ||
            sp_names_find(&body->results, f->output[i], NULL))
            continue; /* handed through: see copy_results */
        if (!sp_names_add(&body->results, f->output[i], id))
            return sp_onnx_oom(x, sizeof *body->results.items);
    }
    return SPAROA_OK;
}

/* Outputs that the body does not write itself, because they are inputs or another output: copied.
 */
static sparoa_status copy_results(sp_onnx *x, sp_scope *scope, sp_scope *body,
                                  const onnx_node *node, const onnx_function *f)
{
    for (size_t i = 0; i < f->n_output && i < node->n_output; i++) {
        sp_id want, have;
        char user[200];
        if (!*node->output[i] || !sp_names_find(&scope->names, node->output[i], &want)) continue;
        snprintf(user, sizeof user, "output %zu of function '%.80s'", i, sp_str(f->name));
        sparoa_status status = sp_scope_resolve(x, body, f->output[i], user, &have);
        if (status != SPAROA_OK) return status;
        if (have == want) continue;
        if (have == SP_NO_ID)
            return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                               "%s is an input that the call '%.80s' leaves out", user,
                               sp_str(node->name));
        char *op_type = "Identity";
        sp_target t = sp_onnx_lookup(x, NULL, &(onnx_node){.op_type = op_type});
        if (!t.op)
            return sparoa_fail(x->err, SPAROA_UNSUPPORTED_OP, NULL,
                               "operator Identity is not supported");
        const char *name = node_name(x, body, node, op_type);
        if (!name || sp_graph_add_node(scope->graph, name, t.op, t.version, &have, 1, &want, 1,
                                       NULL, 0) == SP_NO_ID)
            return sp_onnx_oom(x, sizeof(sp_gnode));
    }
    return SPAROA_OK;
}

static sparoa_status inline_call(sp_onnx *x, sp_scope *scope, const onnx_node *node,
                                 const onnx_function *f)
{
    const char *name = *sp_str(node->name) ? node->name : sp_str(f->name);
    if (x->nesting >= SP_ONNX_MAX_NESTING)
        return sparoa_fail(
            x->err, SPAROA_TOO_LARGE, NULL,
            "functions are nested deeper than %d at the call '%.80s', or '%.80s' calls itself",
            SP_ONNX_MAX_NESTING, name, sp_str(f->name));
    if (node->n_input > f->n_input || node->n_output > f->n_output)
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                           "call '%.80s' of function '%.80s' has %zu inputs and %zu outputs, "
                           "expected at most %zu and %zu",
                           name, sp_str(f->name), node->n_input, node->n_output, f->n_input,
                           f->n_output);
    sp_call call = {f, node, scope};
    sp_scope body;
    sp_scope_init(x, &body, NULL, scope->graph, &call);
    body.home = scope->home;
    body.prefix = sp_arena_printf(&x->scratch, "%s%s/", scope->prefix, name);
    x->nesting++;
    sparoa_status status = body.prefix ? SPAROA_OK : sp_onnx_oom(x, strlen(name));
    if (status == SPAROA_OK) status = bind_arguments(x, scope, &body, node, f);
    if (status == SPAROA_OK) status = sp_onnx_add_nodes(x, &body, f->node, f->n_node);
    if (status == SPAROA_OK) status = copy_results(x, scope, &body, node, f);
    x->nesting--;
    sp_scope_free(&body);
    return status;
}

sparoa_status sp_onnx_add_node(sp_onnx *x, sp_scope *scope, const onnx_node *node)
{
    if (++x->nodes > SP_PRESCAN_MAX_NODES)
        return sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL,
                           "the model has more than %d nodes after its functions are inlined",
                           SP_PRESCAN_MAX_NODES);
    sp_target t = sp_onnx_lookup(x, scope->call ? scope->call->function : NULL, node);
    if (t.function) return inline_call(x, scope, node, t.function);
    if (!t.op)
        return sparoa_fail(x->err, SPAROA_INTERNAL, NULL, "operator %.80s was not checked",
                           sp_str(node->op_type));
    if (sp_onnx_is_flex(node, t.op)) return sp_onnx_add_flex(x, scope, node);
    return add_operator(x, scope, node, t.op, t.version);
}
