/* Attributes: references to those of a function call, copies into a graph, Constant nodes. */
#include <string.h>

#include "onnx/internal.h"

enum { ATTR_SPARSE_TENSOR = 11 };

const onnx_attr *sp_attr_value(const sp_scope *scope, const onnx_attr *a)
{
    const sp_call *call = scope->call;
    while (a && a->ref_attr_name && *a->ref_attr_name && call) {
        const char *name = a->ref_attr_name;
        const onnx_attr *found = NULL, *fallback = NULL;
        for (size_t i = 0; i < call->site->n_attribute; i++)
            if (strcmp(sp_str(call->site->attribute[i]->name), name) == 0)
                found = call->site->attribute[i];
        for (size_t i = 0; i < call->function->n_attribute_proto; i++)
            if (strcmp(sp_str(call->function->attribute_proto[i]->name), name) == 0)
                fallback = call->function->attribute_proto[i];
        if (!found) return fallback;
        a = found;
        call =
            call->site_scope->call; /* the call's attribute may itself refer to one further out */
    }
    return a && a->ref_attr_name && *a->ref_attr_name ? NULL : a; /* refers to nothing: left out */
}

int32_t sp_attr_type(const onnx_attr *a)
{
    if (a->has_type && a->type) return a->type;
    if (a->has_f) return SPAROA_ATTR_FLOAT;
    if (a->has_i) return SPAROA_ATTR_INT;
    if (a->has_s) return SPAROA_ATTR_STRING;
    if (a->t) return SPAROA_ATTR_TENSOR;
    if (a->g) return SPAROA_ATTR_GRAPH;
    if (a->sparse_tensor) return ATTR_SPARSE_TENSOR;
    if (a->n_floats) return SPAROA_ATTR_FLOATS;
    if (a->n_ints) return SPAROA_ATTR_INTS;
    return a->n_strings ? SPAROA_ATTR_STRINGS : 0;
}

static sparoa_status copy_tensor(sp_onnx *x, sp_arena *arena, const char *what, const onnx_attr *a,
                                 sparoa_attr *out)
{
    sparoa_tensor fact;
    sp_blob *blob = NULL;
    sparoa_status status;
    if (a->t)
        status = sp_onnx_tensor(x, a->t, what, &fact, &blob);
    else if (a->sparse_tensor)
        status = sp_onnx_sparse(x, a->sparse_tensor, what, &fact, &blob);
    else
        return sparoa_fail(x->err, SPAROA_MALFORMED, NULL, "%s holds no tensor", what);
    size_t bytes = status == SPAROA_OK ? sparoa_tensor_bytes(&fact) : 0;
    if (status == SPAROA_OK) status = sp_onnx_budget(x, bytes);
    if (status == SPAROA_OK) {
        sparoa_tensor *t = sp_arena_copy(arena, &fact, sizeof fact);
        void *data = sp_arena_copy(arena, fact.data, bytes);
        if (t && data)
            t->data = data;
        else
            status = sp_onnx_oom(x, bytes);
        out->v.tensor = t;
    }
    sp_blob_unref(blob);
    out->type = SPAROA_ATTR_TENSOR;
    out->count = 1;
    return status;
}

static sparoa_status copy_array(sp_onnx *x, sp_arena *arena, const void *items, size_t count,
                                size_t size, sparoa_attr *out)
{
    sparoa_status status = sp_onnx_budget(x, count * size);
    if (status != SPAROA_OK) return status;
    out->count = count;
    out->v.ints = sp_arena_copy(arena, items, count * size);
    return out->v.ints ? SPAROA_OK : sp_onnx_oom(x, count * size);
}

static sparoa_status copy_string(sp_onnx *x, sp_arena *arena, ProtobufCBinaryData s,
                                 const char **out)
{
    sparoa_status status = sp_onnx_budget(x, s.len);
    if (status != SPAROA_OK) return status;
    *out = sp_arena_strndup(arena, (const char *)s.data, s.len);
    return *out ? SPAROA_OK : sp_onnx_oom(x, s.len);
}

static sparoa_status copy_strings(sp_onnx *x, sp_arena *arena, const onnx_attr *a, sparoa_attr *out)
{
    const char **list = sp_arena_alloc(arena, a->n_strings * sizeof *list);
    if (!list) return sp_onnx_oom(x, a->n_strings * sizeof *list);
    sparoa_status status = SPAROA_OK;
    for (size_t i = 0; i < a->n_strings && status == SPAROA_OK; i++)
        status = copy_string(x, arena, a->strings[i], &list[i]);
    out->count = a->n_strings;
    out->v.strings = list;
    return status;
}

sparoa_status sp_attr_copy(sp_onnx *x, const sp_scope *scope, const char *node, const char *name,
                           const onnx_attr *value, sparoa_attr *out)
{
    sp_arena *arena = &scope->graph->arena;
    char what[200];
    snprintf(what, sizeof what, "attribute '%.60s' of node '%.80s'", name, node);
    *out = (sparoa_attr){.name = sp_arena_strdup(arena, name),
                         .type = (sparoa_attr_type)sp_attr_type(value)};
    if (!out->name) return sp_onnx_oom(x, strlen(name));
    switch ((int32_t)out->type) {
    case SPAROA_ATTR_FLOAT:
        out->count = 1;
        out->v.f = value->f;
        return SPAROA_OK;
    case SPAROA_ATTR_INT:
        out->count = 1;
        out->v.i = value->i;
        return SPAROA_OK;
    case SPAROA_ATTR_STRING:
        out->count = value->s.len;
        return copy_string(x, arena, value->s, &out->v.s);
    case SPAROA_ATTR_TENSOR:
    case ATTR_SPARSE_TENSOR: return copy_tensor(x, arena, what, value, out);
    case SPAROA_ATTR_FLOATS:
        return copy_array(x, arena, value->floats, value->n_floats, sizeof(float), out);
    case SPAROA_ATTR_INTS:
        return copy_array(x, arena, value->ints, value->n_ints, sizeof(int64_t), out);
    case SPAROA_ATTR_STRINGS: return copy_strings(x, arena, value, out);
    default:
        return sparoa_fail(x->err, SPAROA_UNSUPPORTED_TYPE, NULL,
                           "%s has type %d, which is not supported here; expected numbers, "
                           "strings, a tensor or lists "
                           "of numbers or strings",
                           what, sp_attr_type(value));
    }
}

/* ---- Constant ---- */

static sparoa_status constant_of(sp_onnx *x, sparoa_dtype dtype, const void *data, size_t count,
                                 bool scalar, sparoa_tensor *fact, sp_blob **blob)
{
    size_t bytes = count * sparoa_dtype_size(dtype);
    *fact = (sparoa_tensor){
        .dtype = dtype, .rank = scalar ? 0 : 1, .dims = {scalar ? 0 : (int64_t)count}};
    sparoa_status status = sp_onnx_budget(x, bytes);
    if (status != SPAROA_OK) return status;
    *blob = sp_blob_create(&x->alloc, bytes);
    if (!*blob) return sp_onnx_oom(x, bytes);
    if (bytes) memcpy((*blob)->data, data, bytes);
    return SPAROA_OK;
}

sparoa_status sp_attr_constant(sp_onnx *x, const sp_scope *scope, const onnx_node *node,
                               sparoa_tensor *fact, sp_blob **blob, bool *usable)
{
    char what[120];
    snprintf(what, sizeof what, "Constant '%.80s'", sp_str(node->name));
    const onnx_attr *a = NULL;
    for (size_t i = 0; i < node->n_attribute && !a; i++) {
        const char *name = sp_str(node->attribute[i]->name);
        if (strncmp(name, "value", 5) == 0 || strcmp(name, "sparse_value") == 0)
            a = sp_attr_value(scope, node->attribute[i]);
    }
    *blob = NULL;
    *usable = true;
    if (!a)
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                           "%s has no value; expected one of value, sparse_value, value_float ...",
                           what);
    switch (sp_attr_type(a)) {
    case SPAROA_ATTR_FLOAT: return constant_of(x, SPAROA_FLOAT32, &a->f, 1, true, fact, blob);
    case SPAROA_ATTR_INT: return constant_of(x, SPAROA_INT64, &a->i, 1, true, fact, blob);
    case SPAROA_ATTR_FLOATS:
        return constant_of(x, SPAROA_FLOAT32, a->floats, a->n_floats, false, fact, blob);
    case SPAROA_ATTR_INTS:
        return constant_of(x, SPAROA_INT64, a->ints, a->n_ints, false, fact, blob);
    case SPAROA_ATTR_TENSOR:
        if (!a->t) break;
        *usable = sp_onnx_type_known(a->t->data_type);
        return *usable ? sp_onnx_tensor(x, a->t, what, fact, blob) : SPAROA_OK;
    case ATTR_SPARSE_TENSOR:
        if (!a->sparse_tensor) break;
        *usable =
            !a->sparse_tensor->values || sp_onnx_type_known(a->sparse_tensor->values->data_type);
        return *usable ? sp_onnx_sparse(x, a->sparse_tensor, what, fact, blob) : SPAROA_OK;
    case SPAROA_ATTR_STRING:
    case SPAROA_ATTR_STRINGS: *usable = false; return SPAROA_OK;
    default: break;
    }
    return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL,
                       "%s: its attribute '%.40s' holds no value", what, sp_str(a->name));
}
