#include "engine/joined.h"

#include "engine/lanes.h"
#include "ops/op.h"

static sparoa_status no_memory(const sp_frame *f, sparoa_error *err)
{
    return sp_no_memory(&f->program->engine->alloc, 4096, err);
}

bool sp_values_are_free(const sp_frame *f)
{
    const sp_engine *e = f->program->engine;
    if (e->profile || e->observer || f->program->all_dynamic) return false;
    for (size_t i = 0; i < f->program->graph->node_count; i++)
        if (f->nodes[i].device) return false;
    return true;
}

static bool can_join(const sp_frame *f, uint32_t i)
{
    const sp_frame_node *fn = &f->nodes[i];
    const sp_slot *slot = &f->program->slots[i];
    return !fn->skip && !fn->dynamic && !fn->join && fn->view.n_out == 1 && slot->kernels[0] &&
           !slot->n_programs;
}

/* The node that alone reads what this one writes, as its first input; SP_NO_ID: none. */
static sp_id next_of(const sp_frame *f, const sp_uses *uses, uint32_t i)
{
    const sp_graph *g = f->program->graph;
    const sp_id value = g->nodes[i].out[0];
    sp_id next = uses->count[value] == 1 ? uses->single[value] : SP_NO_ID;
    if (next == SP_NO_ID || g->nodes[next].in[0] != value || !can_join(f, next)) return SP_NO_ID;
    return sp_in_lanes(f, i) == sp_in_lanes(f, next) ? next : SP_NO_ID;
}

/* A node that reads first what this one writes, and before others do; SP_NO_ID: none. */
static sp_id first_reader(const sp_frame *f, uint32_t i)
{
    const sp_graph *g = f->program->graph;
    const sp_id value = g->nodes[i].out[0];
    for (uint32_t at = i + 1; at < g->node_count; at++)
        for (int32_t k = 0; k < g->nodes[at].n_in; k++)
            if (g->nodes[at].in[k] == value)
                return k == 0 && can_join(f, at) && sp_in_lanes(f, i) == sp_in_lanes(f, at)
                           ? at
                           : SP_NO_ID;
    return SP_NO_ID;
}

/* The node as lane `lane` sees it, as the frame does where that is -1. */
static sparoa_node *view_of(const sp_frame *f, uint32_t node, int32_t lane)
{
    return lane < 0 ? &f->nodes[node].view : &f->lanes->lanes[lane].views[node - f->lanes->first];
}

/* All nodes as one, with the inputs of all and the outputs of the last. */
static sparoa_status join_views(sp_frame *f, const sp_join *join, int32_t lane, sparoa_node *view,
                                sparoa_error *err)
{
    int32_t total = 0;
    for (int32_t k = 0; k < join->count; k++) total += view_of(f, join->nodes[k], lane)->n_in;
    sparoa_tensor **in = sp_arena_alloc(&f->arena, (size_t)total * sizeof *in);
    bool *constant = sp_arena_alloc(&f->arena, (size_t)total);
    if (!in || !constant) return no_memory(f, err);
    *view = *view_of(f, join->nodes[join->count - 1], lane);
    view->in = in;
    view->constant = constant;
    view->n_in = total;
    view->n_attrs = 0;
    if (join->kept) {
        sparoa_tensor **out = sp_arena_alloc(&f->arena, (size_t)(view->n_out + 1) * sizeof *out);
        if (!out) return no_memory(f, err);
        out[0] = view_of(f, join->nodes[0], lane)->out[0];
        memcpy(out + 1, view->out, (size_t)view->n_out * sizeof *out);
        view->out = out;
        view->n_out++;
    }
    for (int32_t k = 0; k < join->count; k++) {
        const sparoa_node *part = view_of(f, join->nodes[k], lane);
        memcpy(in, part->in, (size_t)part->n_in * sizeof *in);
        memcpy(constant, part->constant, (size_t)part->n_in);
        in += part->n_in;
        constant += part->n_in;
    }
    return SPAROA_OK;
}

/* The nodes run as one from here on. */
static sparoa_status keep(sp_frame *f, const sp_join *found, sparoa_error *err)
{
    sp_join *join = sp_arena_alloc(&f->arena, sizeof *join);
    const sp_device *host = &f->program->engine->devices[0];
    if (!join) {
        host->table->node_destroy(found->kernel);
        return no_memory(f, err);
    }
    *join = *found;
    for (int32_t k = 0; k < join->count; k++) {
        f->nodes[join->nodes[k]].join = join;
        f->nodes[join->nodes[k]].skip = k + 1 < join->count;
    }
    const uint32_t last = join->nodes[join->count - 1];
    sp_log_line(f->program->engine->log, SPAROA_LOG_INFO, "'%s' to '%s' -> %s, %d nodes joined",
                f->nodes[join->nodes[0]].view.name, f->nodes[last].view.name,
                host->table->node_variant(join->kernel), join->count);
    if (!sp_in_lanes(f, last)) return join_views(f, join, -1, &join->view, err);
    for (int32_t lane = 0; lane < f->lanes->count; lane++) {
        sparoa_node view;
        SP_TRY(join_views(f, join, lane, &view, err));
        *view_of(f, last, lane) = view;
    }
    return SPAROA_OK;
}

/* As many of the nodes from i on as the backend joins. */
static sparoa_status join_from(sp_frame *f, const sp_uses *uses, uint32_t i, sparoa_error *err)
{
    const sp_device *host = &f->program->engine->devices[0];
    sp_join join = {.count = 0};
    sparoa_kernel *kernels[SPAROA_JOIN_MAX];
    const sparoa_node *views[SPAROA_JOIN_MAX];
    const int32_t lane = sp_in_lanes(f, i) ? 0 : -1;
    for (sp_id at = i; at != SP_NO_ID && join.count < SPAROA_JOIN_MAX; at = next_of(f, uses, at)) {
        kernels[join.count] = f->program->slots[at].kernels[0];
        views[join.count] = view_of(f, at, lane);
        join.nodes[join.count++] = at;
    }
    if (join.count == 1) {
        sp_id at =
            uses->count[f->program->graph->nodes[i].out[0]] > 1 ? first_reader(f, i) : SP_NO_ID;
        if (at == SP_NO_ID) return SPAROA_OK;
        kernels[1] = f->program->slots[at].kernels[0];
        views[1] = view_of(f, at, lane);
        join.nodes[1] = at;
        join.count = 2;
        join.kept = true;
    }
    for (; join.count >= 2; join.count--) {
        SP_TRY(host->table->nodes_join(host->dev, kernels, views, join.count, lane >= 0, join.kept,
                                       &join.kernel, err));
        if (join.kernel) return keep(f, &join, err);
    }
    return SPAROA_OK;
}

sparoa_status sp_joins_choose(sp_frame *f, sparoa_error *err)
{
    const sp_engine *e = f->program->engine;
    sp_uses uses;
    if (!e->devices[0].table->nodes_join || !sp_values_are_free(f)) return SPAROA_OK;
    if (!sp_uses_build(&uses, f->program->graph, &e->alloc)) return no_memory(f, err);
    sparoa_status status = SPAROA_OK;
    for (uint32_t i = 0; i < f->program->graph->node_count && status == SPAROA_OK; i++)
        if (can_join(f, i)) status = join_from(f, &uses, i, err);
    sp_uses_free(&uses);
    return status;
}

void sp_joins_destroy(sp_frame *f)
{
    const sparoa_backend *host = f->program->engine->devices[0].table;
    for (uint32_t i = 0; f->nodes && i < f->program->graph->node_count; i++)
        if (f->nodes[i].join && sp_runs_in(f, i) == i) host->node_destroy(f->nodes[i].join->kernel);
}
