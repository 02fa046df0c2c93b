#include <string.h>

#include "graph/graph.h"

static bool copy_attr(sp_arena *arena, sparoa_attr *a)
{
    a->name = sp_arena_strdup(arena, a->name);
    bool ok = a->name != NULL;
    switch (a->type) {
    case SPAROA_ATTR_STRING: return ok && (a->v.s = sp_arena_strndup(arena, a->v.s, a->count));
    case SPAROA_ATTR_FLOATS:
        return ok && (a->v.floats = sp_arena_copy(arena, a->v.floats, a->count * sizeof(float)));
    case SPAROA_ATTR_INTS:
        return ok && (a->v.ints = sp_arena_copy(arena, a->v.ints, a->count * sizeof(int64_t)));
    case SPAROA_ATTR_STRINGS: {
        const char **list = sp_arena_alloc(arena, a->count * sizeof *list);
        for (size_t i = 0; ok && list && i < a->count; i++)
            ok = (list[i] = sp_arena_strdup(arena, a->v.strings[i])) != NULL;
        a->v.strings = (const char *const *)list;
        return ok && list;
    }
    case SPAROA_ATTR_TENSOR: {
        sparoa_tensor *t = sp_arena_copy(arena, a->v.tensor, sizeof *t);
        if (!t) return false;
        t->data = sp_arena_copy(arena, t->data, sparoa_tensor_bytes(t));
        a->v.tensor = t;
        return ok && t->data;
    }
    default: return ok;
    }
}

static bool copy_node(sp_graph *g, sp_gnode *n)
{
    sp_arena *arena = &g->arena;
    sp_graph **theirs = n->subgraphs;
    int32_t n_sub = n->n_subgraphs;
    n->n_subgraphs = 0;
    n->name = sp_arena_strdup(arena, n->name);
    n->in = sp_arena_copy(arena, n->in, (size_t)n->n_in * sizeof *n->in);
    n->out = sp_arena_copy(arena, n->out, (size_t)n->n_out * sizeof *n->out);
    n->attrs = sp_arena_copy(arena, n->attrs, (size_t)n->n_attrs * sizeof *n->attrs);
    n->subgraphs = sp_arena_alloc(arena, (size_t)n_sub * sizeof *n->subgraphs);
    bool ok = n->name && n->in && n->out && n->attrs && n->subgraphs;
    n->op_type = n->op->name;
    n->domain = n->op->domain;
    for (int32_t i = 0; ok && i < n->n_attrs; i++) ok = copy_attr(arena, &n->attrs[i]);
    for (int32_t i = 0; ok && i < n_sub; i++) {
        n->subgraphs[i] = sp_graph_clone(theirs[i], &arena->alloc);
        ok = n->subgraphs[i] != NULL;
        if (ok) n->n_subgraphs = i + 1;
    }
    return ok;
}

static bool copy_value(sp_graph *g, sp_value *v)
{
    v->name = sp_arena_strdup(&g->arena, v->name);
    if (v->model_name && !(v->model_name = sp_arena_strdup(&g->arena, v->model_name))) return false;
    if (v->dim_names) {
        const char **names =
            sp_arena_copy(&g->arena, v->dim_names, SPAROA_MAX_RANK * sizeof *names);
        for (int32_t i = 0; names && i < SPAROA_MAX_RANK; i++)
            if (names[i] && !(names[i] = sp_arena_strdup(&g->arena, names[i]))) return false;
        v->dim_names = names;
        if (!names) return false;
    }
    return v->name != NULL;
}

sp_graph *sp_graph_clone(const sp_graph *graph, const sparoa_allocator *alloc)
{
    sp_graph *g = sp_graph_create(alloc, graph->name);
    if (!g) return NULL;
    bool ok =
        sp_grow(alloc, &g->values, &g->value_capacity, graph->value_count, sizeof *g->values) &&
        sp_grow(alloc, &g->nodes, &g->node_capacity, graph->node_count, sizeof *g->nodes);
    for (size_t i = 0; ok && i < graph->value_count; i++) {
        g->values[i] = graph->values[i];
        if (g->values[i].blob) sp_blob_ref(g->values[i].blob);
        g->value_count = i + 1;
        ok = copy_value(g, &g->values[i]);
    }
    for (size_t i = 0; ok && i < graph->node_count; i++) {
        g->nodes[i] = graph->nodes[i];
        g->node_count = i + 1;
        ok = copy_node(g, &g->nodes[i]);
    }
    sp_arena *arena = &g->arena;
    g->inputs = sp_arena_copy(arena, graph->inputs, graph->input_count * sizeof *g->inputs);
    g->outputs = sp_arena_copy(arena, graph->outputs, graph->output_count * sizeof *g->outputs);
    g->capture_values = sp_arena_copy(arena, graph->capture_values,
                                      graph->capture_count * sizeof *g->capture_values);
    g->capture_inputs = sp_arena_copy(arena, graph->capture_inputs,
                                      graph->capture_count * sizeof *g->capture_inputs);
    g->input_count = graph->input_count;
    g->output_count = graph->output_count;
    g->capture_count = graph->capture_count;
    if (ok && g->inputs && g->outputs && g->capture_values && g->capture_inputs) return g;
    sp_graph_destroy(g);
    return NULL;
}
