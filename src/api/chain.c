#include "api/chain.h"

#include <string.h>

#include "graph/cut.h"
#include "ops/op.h"

#define MAX_SEGMENTS 16

/* ---- making ---- */

static sparoa_status node_index(const sp_graph *g, const char *name, size_t *index,
                                sparoa_error *err)
{
    for (size_t i = 0; i < g->node_count; i++) {
        if (strcmp(g->nodes[i].name, name) != 0) continue;
        *index = i;
        return SPAROA_OK;
    }
    return sparoa_fail(err, SPAROA_NOT_FOUND, NULL,
                       "the model has no node '%.80s' for a segment to end with", name);
}

static sparoa_status check_edges(const sp_graph *part, sparoa_error *err)
{
    for (uint32_t i = 0; i < part->input_count + part->output_count; i++) {
        sp_id v = i < part->input_count ? part->inputs[i] : part->outputs[i - part->input_count];
        const sparoa_tensor *t = &part->values[v].fact;
        if (t->rank < 0 || (t->rank > 0 && t->dims[0] < 0)) continue;
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "value '%.80s' goes from one segment to another but has no open first "
                           "dimension; cut elsewhere",
                           part->values[v].name);
    }
    return SPAROA_OK;
}

static sparoa_status make_model(sparoa_model *whole, size_t first, size_t last,
                                sparoa_model **model, sparoa_error *err)
{
    sparoa_runtime *rt = whole->runtime;
    sparoa_model *m = sp_calloc(&rt->alloc, 1, sizeof *m);
    if (!m) return sp_no_memory(&rt->alloc, sizeof *m, err);
    atomic_init(&m->refs, 1);
    m->runtime = rt;
    sp_runtime_ref(rt);
    sparoa_status status = sp_graph_part(whole->graph, first, last, &rt->alloc, &m->graph, err);
    if (status == SPAROA_OK) status = check_edges(m->graph, err);
    if (status == SPAROA_OK)
        *model = m;
    else
        sp_model_unref(m);
    return status;
}

static sparoa_status make_segment(sp_chain *c, sp_segment *s, size_t first, size_t last,
                                  const sparoa_session_options *options, sparoa_error *err)
{
    const sparoa_allocator *a = &c->model->runtime->alloc;
    SP_TRY(make_model(c->model, first, last, &s->model, err));
    s->in = sp_calloc(a, s->model->graph->input_count, sizeof *s->in);
    s->out = sp_calloc(a, s->model->graph->output_count, sizeof *s->out);
    if (!s->in || !s->out) return sp_no_memory(a, sizeof *s->in, err);
    return sparoa_session_create(s->model, options, &s->session, err);
}

static sparoa_status fill(sp_chain *c, const sparoa_segment *segments, size_t count,
                          const sparoa_session_options *options, sparoa_error *err)
{
    const sparoa_allocator *a = &c->model->runtime->alloc;
    const sp_graph *g = c->model->graph;
    size_t first = 0;
    c->values = sp_calloc(a, g->value_count, sizeof *c->values);
    c->memory = sp_calloc(a, g->value_count, sizeof *c->memory);
    c->segments = sp_calloc(a, count, sizeof *c->segments);
    if (!c->values || !c->memory || !c->segments)
        return sp_no_memory(a, g->value_count * sizeof *c->values, err);
    c->count = (int32_t)count;
    for (size_t i = 0; i < count; i++) {
        size_t last = g->node_count - 1;
        if (segments[i].batch < 0)
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "segment %zu: batch=%d; expected 0 or more", i, segments[i].batch);
        if (i + 1 < count) {
            if (!segments[i].last_node)
                return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                                   "segment %zu needs the node that it ends with", i);
            SP_TRY(node_index(g, segments[i].last_node, &last, err));
        }
        if (last + 1 <= first)
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "segment %zu ends before it begins; name nodes in their order", i);
        c->segments[i].batch = segments[i].batch;
        SP_TRY(make_segment(c, &c->segments[i], first, last + 1, options, err));
        first = last + 1;
    }
    return SPAROA_OK;
}

sparoa_status sp_chain_create(sparoa_model *model, const sparoa_segment *segments, size_t count,
                              const sparoa_session_options *options, sp_chain **chain,
                              sparoa_error *err)
{
    const sparoa_allocator *a = &model->runtime->alloc;
    if (count > MAX_SEGMENTS)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "%zu segments; at most %d", count,
                           MAX_SEGMENTS);
    sp_chain *c = sp_calloc(a, 1, sizeof *c);
    if (!c) return sp_no_memory(a, sizeof *c, err);
    c->model = model;
    sp_model_ref(model);
    sparoa_status status = fill(c, segments, count, options, err);
    if (status == SPAROA_OK)
        *chain = c;
    else
        sp_chain_destroy(c);
    return status;
}

void sp_chain_destroy(sp_chain *chain)
{
    if (!chain) return;
    sparoa_model *model = chain->model;
    const sparoa_allocator *a = &model->runtime->alloc;
    size_t values = model->graph->value_count;
    for (int32_t i = 0; i < chain->count; i++) {
        sp_segment *s = &chain->segments[i];
        sparoa_session_destroy(s->session);
        if (s->model) sp_free(a, s->in, s->model->graph->input_count * sizeof *s->in);
        if (s->model) sp_free(a, s->out, s->model->graph->output_count * sizeof *s->out);
        sp_model_unref(s->model);
    }
    for (size_t v = 0; chain->memory && v < values; v++)
        sp_free(a, chain->memory[v].data, chain->memory[v].capacity);
    sp_free(a, chain->memory, values * sizeof *chain->memory);
    sp_free(a, chain->values, values * sizeof *chain->values);
    sp_free(a, chain->segments, (size_t)chain->count * sizeof *chain->segments);
    sp_free(a, chain, sizeof *chain);
    sp_model_unref(model);
}

/* ---- running ---- */

static sparoa_tensor rows(const sparoa_tensor *t, int32_t row, int32_t count)
{
    sparoa_tensor r = *t;
    size_t one = t->dims[0] ? sparoa_tensor_bytes(t) / (size_t)t->dims[0] : 0;
    r.dims[0] = count;
    r.data = (char *)t->data + (size_t)row * one;
    return r;
}

/* What a piece made, to where the next segment reads the whole. */
static sparoa_status keep(sp_chain *c, sp_id v, const sparoa_tensor *piece, int32_t row,
                          int32_t count, int32_t items, sparoa_error *err)
{
    const sparoa_allocator *a = &c->model->runtime->alloc;
    if (piece->rank < 1 || piece->dims[0] != count)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, NULL,
                           "value '%.80s' of %d items has first dimension %lld: rows are not "
                           "independent there; cut elsewhere",
                           c->model->graph->values[v].name, count,
                           piece->rank < 1 ? -1LL : (long long)piece->dims[0]);
    sparoa_tensor *whole = &c->values[v];
    if (count == items) {
        *whole = *piece;
        return SPAROA_OK;
    }
    size_t one = sparoa_tensor_bytes(piece) / (size_t)count;
    if (row == 0) {
        SP_TRY(sp_growable_reserve(&c->memory[v], a, one * (size_t)items, err));
        *whole = *piece;
        whole->dims[0] = items;
        whole->data = c->memory[v].data;
    }
    memcpy((char *)whole->data + (size_t)row * one, piece->data, one * (size_t)count);
    return SPAROA_OK;
}

static sparoa_status run_segment(sp_chain *c, sp_segment *s, int32_t items, const sp_stop *stop,
                                 sparoa_error *err)
{
    const sp_graph *g = s->model->graph;
    int32_t batch = s->batch && s->batch < items ? s->batch : items;
    for (int32_t row = 0; row < items; row += batch) {
        int32_t count = items - row < batch ? items - row : batch;
        for (uint32_t k = 0; k < g->input_count; k++)
            s->in[k] = rows(&c->values[g->inputs[k]], row, count);
        memset(s->out, 0, g->output_count * sizeof *s->out);
        SP_TRY(
            sp_session_run(s->session, s->in, g->input_count, s->out, g->output_count, stop, err));
        for (uint32_t k = 0; k < g->output_count; k++)
            SP_TRY(keep(c, g->outputs[k], &s->out[k], row, count, items, err));
    }
    return SPAROA_OK;
}

sparoa_status sp_chain_run_until(sp_chain *chain, const sparoa_tensor *inputs, int32_t items,
                                 int32_t count, const sp_stop *stop, sparoa_error *err)
{
    const sp_graph *g = chain->model->graph;
    for (uint32_t i = 0; i < g->input_count; i++) chain->values[g->inputs[i]] = inputs[i];
    for (int32_t i = 0; i < count; i++)
        SP_TRY(run_segment(chain, &chain->segments[i], items, stop, err));
    return SPAROA_OK;
}

sparoa_status sp_chain_run(sp_chain *chain, const sparoa_tensor *inputs, sparoa_tensor *outputs,
                           int32_t items, const sp_stop *stop, sparoa_error *err)
{
    const sp_graph *g = chain->model->graph;
    SP_TRY(sp_chain_run_until(chain, inputs, items, chain->count, stop, err));
    for (uint32_t i = 0; i < g->output_count; i++) outputs[i] = chain->values[g->outputs[i]];
    return SPAROA_OK;
}
