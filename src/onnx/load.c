#include "onnx/load.h"

#include <string.h>

#include "onnx/internal.h"

static sparoa_status start(sp_onnx *x, const sp_onnx_source *src, const sparoa_allocator *alloc,
                           sparoa_error *err)
{
    *x = (sp_onnx){
        .alloc = *alloc, .err = err, .extra_ops = src->extra_ops, .extra_count = src->extra_count};
    sp_arena_init(&x->scratch, alloc);
    sparoa_status status = sp_onnx_open(src, alloc, &x->file, err);
    if (status != SPAROA_OK) return status;
    if (__builtin_mul_overflow(x->file->bytes, 8, &x->budget)) x->budget = x->file->bytes;
    x->budget += SP_ONNX_SPARE_BYTES;
    x->dir = src->external_dir;
    if (x->dir || !src->path) return SPAROA_OK;
    const char *slash = strrchr(src->path, '/');
    if (!slash)
        x->dir = ".";
    else
        x->dir = sp_arena_strndup(&x->scratch, src->path,
                                  slash == src->path ? 1 : (size_t)(slash - src->path));
    return x->dir ? SPAROA_OK : sp_onnx_oom(x, strlen(src->path));
}

static sparoa_status fill_meta(sp_onnx *x, sp_graph *graph, sp_model_meta *meta)
{
    const onnx_model *m = x->model;
    sp_arena *a = &graph->arena;
    const char *name = sp_str(m->producer_name), *version = sp_str(m->producer_version);
    *meta = (sp_model_meta){.ir_version = m->ir_version, .count = m->n_metadata_props};
    meta->producer = sp_arena_printf(a, "%s%s%s", name, *name && *version ? " " : "", version);
    meta->keys = sp_arena_alloc(a, meta->count * sizeof *meta->keys);
    meta->values = sp_arena_alloc(a, meta->count * sizeof *meta->values);
    if (!meta->producer || !meta->keys || !meta->values)
        return sp_onnx_oom(x, meta->count * sizeof *meta->keys);
    for (size_t i = 0; i < meta->count; i++) {
        meta->keys[i] = sp_arena_strdup(a, sp_str(m->metadata_props[i]->key));
        meta->values[i] = sp_arena_strdup(a, sp_str(m->metadata_props[i]->value));
        if (!meta->keys[i] || !meta->values[i]) return sp_onnx_oom(x, 1);
    }
    for (size_t i = 0; i < m->n_opset_import; i++) {
        const char *domain = sp_str(m->opset_import[i]->domain);
        if (!*domain || strcmp(domain, "ai.onnx") == 0) meta->opset = m->opset_import[i]->version;
    }
    return SPAROA_OK;
}

static sparoa_status load(sp_onnx *x, sp_graph **graph, sp_model_meta *meta)
{
    ProtobufCMessage *message = NULL;
    sparoa_status status = sp_onnx_unpack(x, &sp_onnx__model_proto__descriptor, &message);
    if (status != SPAROA_OK) return status;
    x->model = (const onnx_model *)message;
    if (!x->model->graph)
        return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                           "the file holds no graph; expected an ONNX model");
    status = sp_onnx_check_versions(x);
    if (status == SPAROA_OK) status = sp_onnx_check_ops(x);
    if (status == SPAROA_OK) status = sp_onnx_build(x, x->model->graph, NULL, graph);
    if (status != SPAROA_OK) return status;
    status = fill_meta(x, *graph, meta);
    if (status == SPAROA_OK) status = sp_graph_verify(*graph, x->err);
    if (status != SPAROA_OK) sp_graph_destroy(*graph);
    return status;
}

sparoa_status sp_onnx_load(const sp_onnx_source *src, const sparoa_allocator *alloc,
                           sp_graph **graph, sp_model_meta *meta, sparoa_error *err)
{
    sp_onnx x;
    sp_graph *made = NULL;
    sp_model_meta about;
    sparoa_status status = start(&x, src, alloc, err);
    if (status == SPAROA_OK) status = load(&x, &made, &about);
    if (status == SPAROA_OK) {
        *graph = made;
        *meta = about;
    }
    sp_onnx_close(&x);
    return status;
}

static sparoa_status load_tensor(sp_onnx *x, sparoa_tensor *tensor, char *name, size_t name_size)
{
    ProtobufCMessage *message = NULL;
    sparoa_status status = sp_onnx_unpack(x, &sp_onnx__tensor_proto__descriptor, &message);
    if (status != SPAROA_OK) return status;
    const onnx_tensor *t = (const onnx_tensor *)message;
    char what[120];
    snprintf(what, sizeof what, "tensor '%.80s'", sp_str(t->name));
    sparoa_tensor fact;
    sp_blob *blob = NULL;
    status = sp_onnx_tensor(x, t, what, &fact, &blob);
    if (status == SPAROA_OK) {
        size_t bytes = sparoa_tensor_bytes(&fact);
        fact.data = sp_alloc(&x->alloc, bytes);
        if (!fact.data)
            status = sp_onnx_oom(x, bytes);
        else if (bytes)
            memcpy(fact.data, blob->data, bytes);
    }
    sp_blob_unref(blob);
    if (status != SPAROA_OK) return status;
    *tensor = fact;
    if (name && name_size) snprintf(name, name_size, "%s", sp_str(t->name));
    return SPAROA_OK;
}

sparoa_status sp_onnx_load_tensor(const char *path, const sparoa_allocator *alloc,
                                  sparoa_tensor *tensor, char *name, size_t name_size,
                                  sparoa_error *err)
{
    sp_onnx x;
    sparoa_status status = start(&x, &(sp_onnx_source){.path = path}, alloc, err);
    x.dir = NULL; /* a tensor file has no external data */
    if (status == SPAROA_OK) status = load_tensor(&x, tensor, name, name_size);
    sp_onnx_close(&x);
    return status;
}
