#include <string.h>

#include "api/objects.h"
#include "graph/infer.h"
#include "onnx/load.h"
#include "ops/op.h"

static sparoa_status load(sparoa_runtime *rt, const sparoa_model_options *options,
                          sp_onnx_source *source, sparoa_model **model, sparoa_error *err)
{
    sparoa_model_options o;
    if (!rt || !model)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "runtime or model is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    source->external_dir = o.external_data_dir;
    source->max_bytes = o.max_bytes;
    source->extra_ops = rt->host.operators;
    source->extra_count = rt->host.operator_count;
    sparoa_model *m = sp_calloc(&rt->alloc, 1, sizeof *m);
    if (!m) return sp_no_memory(&rt->alloc, sizeof *m, err);
    atomic_init(&m->refs, 1);
    m->runtime = rt;
    sp_runtime_ref(rt);
    sparoa_status status = sp_onnx_load(source, &rt->alloc, &m->graph, &m->meta, err);
    if (status == SPAROA_OK) status = sp_graph_verify(m->graph, err);
    if (status == SPAROA_OK) status = sp_graph_infer(m->graph, err);
    if (status != SPAROA_OK)
        sp_model_unref(m);
    else
        *model = m;
    return status;
}

sparoa_status sp_model_of_graph(sparoa_runtime *rt, sp_graph *graph, sparoa_model **model,
                                sparoa_error *err)
{
    sparoa_status status = sp_graph_verify(graph, err);
    if (status == SPAROA_OK) status = sp_graph_infer(graph, err);
    sparoa_model *m = status == SPAROA_OK ? sp_calloc(&rt->alloc, 1, sizeof *m) : NULL;
    if (!m) {
        sp_graph_destroy(graph);
        return status == SPAROA_OK ? sp_no_memory(&rt->alloc, sizeof *m, err) : status;
    }
    atomic_init(&m->refs, 1);
    m->runtime = rt;
    m->graph = graph;
    sp_runtime_ref(rt);
    *model = m;
    return SPAROA_OK;
}

sparoa_status sparoa_model_load(sparoa_runtime *runtime, const char *path,
                                const sparoa_model_options *options, sparoa_model **model,
                                sparoa_error *err)
{
    if (!path) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "path is NULL");
    return load(runtime, options, &(sp_onnx_source){.path = path}, model, err);
}

sparoa_status sparoa_model_load_memory(sparoa_runtime *runtime, const void *data, size_t size,
                                       const sparoa_model_options *options, sparoa_model **model,
                                       sparoa_error *err)
{
    if (!data || !size) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "there is no data");
    return load(runtime, options, &(sp_onnx_source){.data = data, .size = size}, model, err);
}

sparoa_status sparoa_model_load_reader(sparoa_runtime *runtime, const sparoa_reader *reader,
                                       const sparoa_model_options *options, sparoa_model **model,
                                       sparoa_error *err)
{
    if (!reader || !reader->size || !reader->read)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "the reader needs both size and read");
    return load(runtime, options, &(sp_onnx_source){.reader = reader}, model, err);
}

void sp_model_ref(sparoa_model *model)
{
    atomic_fetch_add(&model->refs, 1);
}

void sp_model_unref(sparoa_model *model)
{
    if (!model || atomic_fetch_sub(&model->refs, 1) != 1) return;
    sparoa_runtime *rt = model->runtime;
    sp_graph_destroy(model->graph);
    sp_free(&rt->alloc, model, sizeof *model);
    sp_runtime_unref(rt);
}

void sparoa_model_destroy(sparoa_model *model)
{
    sp_model_unref(model);
}

size_t sparoa_model_input_count(const sparoa_model *model)
{
    return model ? model->graph->input_count : 0;
}

size_t sparoa_model_output_count(const sparoa_model *model)
{
    return model ? model->graph->output_count : 0;
}

static void fill_info(const sp_value *v, sparoa_value_info *info)
{
    *info = (sparoa_value_info){.name = v->name, .dtype = v->fact.dtype, .rank = v->fact.rank};
    for (int32_t i = 0; i < v->fact.rank; i++) {
        info->dims[i] = v->fact.dims[i];
        info->dim_names[i] = v->dim_names ? v->dim_names[i] : NULL;
    }
}

sparoa_status sparoa_model_input(const sparoa_model *model, size_t index, sparoa_value_info *info)
{
    if (!model || !info || index >= model->graph->input_count) return SPAROA_INVALID_ARGUMENT;
    fill_info(&model->graph->values[model->graph->inputs[index]], info);
    return SPAROA_OK;
}

sparoa_status sparoa_model_output(const sparoa_model *model, size_t index, sparoa_value_info *info)
{
    if (!model || !info || index >= model->graph->output_count) return SPAROA_INVALID_ARGUMENT;
    fill_info(&model->graph->values[model->graph->outputs[index]], info);
    return SPAROA_OK;
}

static void count_graph(const sp_graph *g, sparoa_model_info *info)
{
    for (size_t i = 0; i < g->value_count; i++) {
        const sp_value *v = &g->values[i];
        if (v->kind != SP_VALUE_CONST) continue;
        info->weight_bytes += sparoa_tensor_bytes(&v->fact);
        bool weight = sp_is_float(v->fact.dtype) || sparoa_dtype_size(v->fact.dtype) == 1;
        if (weight) info->parameter_count += (size_t)sparoa_tensor_count(&v->fact);
    }
    for (size_t i = 0; i < g->node_count; i++)
        for (int32_t k = 0; k < g->nodes[i].n_subgraphs; k++)
            count_graph(g->nodes[i].subgraphs[k], info);
}

void sparoa_model_get_info(const sparoa_model *model, sparoa_model_info *info)
{
    if (!model || !info) return;
    *info = (sparoa_model_info){.producer = model->meta.producer ? model->meta.producer : "",
                                .ir_version = model->meta.ir_version,
                                .opset = model->meta.opset,
                                .node_count = model->graph->node_count};
    count_graph(model->graph, info);
}

const char *sparoa_model_metadata(const sparoa_model *model, const char *key)
{
    for (size_t i = 0; model && key && i < model->meta.count; i++)
        if (strcmp(model->meta.keys[i], key) == 0) return model->meta.values[i];
    return NULL;
}
