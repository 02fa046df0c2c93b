/* Names and the values they stand for. */
#include <string.h>

#include "onnx/internal.h"

void sp_scope_init(sp_onnx *x, sp_scope *scope, sp_scope *parent, sp_graph *graph,
                   const sp_call *call)
{
    *scope =
        (sp_scope){.parent = parent, .home = scope, .graph = graph, .call = call, .prefix = ""};
    sp_names_init(&scope->names, &x->alloc);
    sp_names_init(&scope->results, &x->alloc);
    sp_names_init(&scope->made, &x->alloc);
}

void sp_scope_free(sp_scope *scope)
{
    sparoa_allocator alloc = scope->names.alloc;
    sp_names_free(&scope->names);
    sp_names_free(&scope->results);
    sp_names_free(&scope->made);
    sp_free(&alloc, scope->captures, scope->capture_capacity * sizeof *scope->captures);
}

sparoa_status sp_scope_bind(sp_onnx *x, sp_scope *scope, const char *name, sp_id id)
{
    if (sp_names_find(&scope->names, name, NULL))
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                           "value '%.80s' is defined twice; every name must be defined once", name);
    return sp_names_add(&scope->names, name, id) ? SPAROA_OK
                                                 : sp_onnx_oom(x, sizeof *scope->names.items);
}

/* A name that no value of the graph has: prefix and base, with a number where that is taken. */
static const char *made_name(sp_onnx *x, sp_scope *scope, const char *base)
{
    sp_scope *home = scope->home;
    const char *made = sp_arena_printf(&x->scratch, "%s%s", scope->prefix, base);
    while (made &&
           (sp_names_find(&home->names, made, NULL) || sp_names_find(&home->made, made, NULL)))
        made = sp_arena_printf(&x->scratch, "%s%s_%zu", scope->prefix, base, ++x->names);
    return made && sp_names_add(&home->made, made, 0) ? made : NULL;
}

sparoa_status sp_scope_temporary(sp_onnx *x, sp_scope *scope, const char *base, sp_id *id)
{
    const char *name = made_name(x, scope, base);
    *id = name ? sp_graph_add_value(scope->graph, name, SP_VALUE_NODE) : SP_NO_ID;
    return *id == SP_NO_ID ? sp_onnx_oom(x, sizeof(sp_value)) : SPAROA_OK;
}

sparoa_status sp_scope_define(sp_onnx *x, sp_scope *scope, const char *name, sp_value_kind kind,
                              const sparoa_tensor *fact, sp_blob *blob, sp_id *id)
{
    /* Of the graph itself: the file's name; of a function body: one made from it. */
    bool own = scope == scope->home && !sp_names_find(&scope->made, name, NULL);
    const char *unique = own ? name : made_name(x, scope, name);
    if (!unique) {
        sp_blob_unref(blob);
        return sp_onnx_oom(x, strlen(name) + 1);
    }
    *id = kind == SP_VALUE_CONST ? sp_graph_add_const(scope->graph, unique, fact, blob)
                                 : sp_graph_add_value(scope->graph, unique, kind);
    if (*id == SP_NO_ID) return sp_onnx_oom(x, sizeof(sp_value));
    return sp_scope_bind(x, scope, name, *id);
}

/* Brings a value of the parent's graph into scope's graph: constants share their data, others are
 * captured. */
static sparoa_status capture(sp_onnx *x, sp_scope *scope, const char *name, sp_id outer, sp_id *id)
{
    const sp_value *v = &scope->parent->graph->values[outer];
    sparoa_tensor fact = v->fact;
    if (v->kind == SP_VALUE_CONST)
        return sp_scope_define(x, scope, name, SP_VALUE_CONST, &fact, sp_blob_ref(v->blob), id);
    sparoa_status status = sp_scope_define(x, scope, name, SP_VALUE_CAPTURE, NULL, NULL, id);
    if (status != SPAROA_OK) return status;
    scope->graph->values[*id].fact = fact;
    if (!sp_grow(&x->alloc, &scope->captures, &scope->capture_capacity, scope->capture_ids + 2,
                 sizeof *scope->captures))
        return sp_onnx_oom(x, sizeof *scope->captures);
    scope->captures[scope->capture_ids++] = *id;
    scope->captures[scope->capture_ids++] = outer;
    return SPAROA_OK;
}

sparoa_status sp_scope_resolve(sp_onnx *x, sp_scope *scope, const char *name, const char *user,
                               sp_id *id)
{
    if (sp_names_find(&scope->names, name, id)) {
        if (*id != SP_ID_UNUSABLE) return SPAROA_OK;
        return sparoa_fail(x->err, SPAROA_UNSUPPORTED_TYPE, NULL,
                           "%s uses constant '%.80s', whose element type is not supported; "
                           "expected numbers or bool",
                           user, name);
    }
    if (!scope->parent)
        return sparoa_fail(
            x->err, SPAROA_INVALID_GRAPH, NULL,
            "%s uses value '%.80s', which is neither an input, an initialiser nor a node's output",
            user, name);
    if (scope->parent->graph == scope->graph) /* put in line: nothing to capture */
        return sp_scope_resolve(x, scope->parent, name, user, id);
    sp_id outer; /* as deep as graphs are nested, which is limited */
    sparoa_status status = sp_scope_resolve(x, scope->parent, name, user, &outer);
    if (status != SPAROA_OK) return status;
    if (outer != SP_NO_ID) return capture(x, scope, name, outer, id);
    *id = SP_NO_ID;
    return SPAROA_OK;
}
