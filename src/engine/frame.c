/* Making a frame: shapes, known values, places, prepared kernels. */
#include <string.h>

#include "engine/joined.h"
#include "engine/lanes.h"
#include "graph/infer.h"
#include "ops/op.h"

#define MAX_KNOWN_BYTES 8192 /* values worked out with the frame: shape arithmetic, not data */

static sparoa_status no_memory(sp_frame *f, sparoa_error *err)
{
    return sp_no_memory(&f->program->engine->alloc, 4096, err);
}

static sparoa_status make_views(sp_frame *f, sparoa_error *err)
{
    const sp_graph *g = f->program->graph;
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        sparoa_tensor **in = sp_arena_alloc(&f->arena, (size_t)(n->n_in + n->n_out) * sizeof *in);
        bool *constant = sp_arena_alloc(&f->arena, (size_t)n->n_in);
        if (!in || !constant) return no_memory(f, err);
        sparoa_tensor **out = in + n->n_in;
        sp_graph_node_view(g, n, in, out, constant, &f->nodes[i].view);
        for (int32_t k = 0; k < n->n_in; k++) in[k] = in[k] ? &f->tensors[n->in[k]] : NULL;
        for (int32_t k = 0; k < n->n_out; k++) out[k] = out[k] ? &f->tensors[n->out[k]] : NULL;
    }
    return SPAROA_OK;
}

static sparoa_status make_arrays(sp_frame *f, const sparoa_tensor *inputs, sparoa_error *err)
{
    const sp_graph *g = f->program->graph;
    f->sides =
        sp_arena_alloc(&f->arena, (size_t)f->program->engine->device_count * sizeof *f->sides);
    f->tensors = sp_arena_alloc(&f->arena, g->value_count * sizeof *f->tensors);
    f->locations = sp_arena_alloc(&f->arena, g->value_count * sizeof *f->locations);
    f->dynamic = sp_arena_alloc(&f->arena, g->value_count * sizeof *f->dynamic);
    f->late_aliases = sp_arena_alloc(&f->arena, g->value_count * sizeof *f->late_aliases);
    f->nodes = sp_arena_alloc(&f->arena, g->node_count * sizeof *f->nodes);
    f->own_outputs = sp_arena_alloc(&f->arena, g->output_count * sizeof *f->own_outputs);
    f->key = sp_arena_alloc(&f->arena, g->input_count * sizeof *f->key);
    if (!f->sides || !f->tensors || !f->locations || !f->dynamic || !f->late_aliases || !f->nodes ||
        !f->own_outputs || !f->key)
        return no_memory(f, err);
    f->sides[0] = (sp_side){.tensors = f->tensors, .locations = f->locations};
    for (size_t i = 0; i < g->value_count; i++) {
        const sp_value *v = &g->values[i];
        f->tensors[i] = v->fact;
        if (v->kind == SP_VALUE_CONST)
            f->locations[i].place = SP_PLACE_CONST;
        else
            f->tensors[i].data = NULL;
        if (v->kind == SP_VALUE_INPUT || v->kind == SP_VALUE_CAPTURE)
            f->locations[i].place = SP_PLACE_INPUT;
    }
    for (uint32_t i = 0; i < g->input_count && inputs; i++) {
        sparoa_tensor *t = &f->tensors[g->inputs[i]];
        sp_copy_fact(t, &inputs[i]);
        memcpy(f->key[i], inputs[i].dims, (size_t)inputs[i].rank * sizeof f->key[i][0]);
    }
    return make_views(f, err);
}

static bool any_input_dynamic(const sp_frame *f, const sp_gnode *n)
{
    for (int32_t k = 0; k < n->n_in; k++)
        if (n->in[k] != SP_NO_ID && f->locations[n->in[k]].place == SP_PLACE_DYNAMIC) return true;
    return false;
}

static void mark_dynamic(sp_frame *f, size_t i)
{
    const sp_graph *g = f->program->graph;
    const sp_gnode *n = &g->nodes[i];
    f->nodes[i].dynamic = true;
    for (int32_t k = 0; k < n->n_out; k++) {
        if (n->out[k] == SP_NO_ID) continue;
        sparoa_tensor *t = &f->tensors[n->out[k]];
        f->locations[n->out[k]].place = SP_PLACE_DYNAMIC;
        if (t->dtype == SPAROA_UNDEFINED) t->dtype = g->values[n->out[k]].fact.dtype;
        sp_set_shape(t, t->dtype, -1, NULL);
    }
}

/* Every output has no elements: there is nothing to run. */
static bool gives_nothing(const sp_gnode *n, const sparoa_node *view)
{
    for (int32_t k = 0; k < n->n_out; k++)
        if (view->out[k] && sparoa_tensor_count(view->out[k]) != 0) return false;
    return n->n_out > 0 && !(n->op->flags & SPAROA_OP_TRIMS);
}

static sparoa_status evaluate_known(sp_frame *f, size_t i, sparoa_error *err)
{
    const sp_gnode *n = &f->program->graph->nodes[i];
    for (int32_t k = 0; k < n->n_out; k++) {
        if (n->out[k] == SP_NO_ID) continue;
        sparoa_tensor *t = &f->tensors[n->out[k]];
        t->data = sp_arena_alloc(&f->arena, sparoa_tensor_bytes(t));
        if (!t->data) return no_memory(f, err);
        f->locations[n->out[k]].place = SP_PLACE_KNOWN;
    }
    f->nodes[i].skip = true;
    if (gives_nothing(n, &f->nodes[i].view)) return SPAROA_OK;
    return sp_evaluate(n->op, &f->nodes[i].view, &f->program->engine->alloc, err);
}

static sparoa_status infer_frame_node(sp_frame *f, size_t i, sparoa_error *err)
{
    const sp_gnode *n = &f->program->graph->nodes[i];
    const sparoa_node *view = &f->nodes[i].view;
    bool control = n->op->op_class == SPAROA_CLASS_CONTROL;
    if (control || f->program->all_dynamic || any_input_dynamic(f, n)) {
        mark_dynamic(f, i);
        return SPAROA_OK;
    }
    SP_TRY(sp_infer_node(n->op, view, err));
    bool known = !(n->op->flags & SPAROA_OP_TRIMS);
    for (int32_t k = 0; k < n->n_out; k++)
        if (view->out[k] && (!sp_known(view->out[k]) || !sparoa_dtype_size(view->out[k]->dtype)))
            known = false;
    bool evaluable = sp_can_evaluate(n->op, view, n->n_subgraphs, MAX_KNOWN_BYTES);
    if (!known && !(evaluable && n->op->flags & SPAROA_OP_TRIMS))
        mark_dynamic(f, i);
    else if (evaluable || gives_nothing(n, view))
        return evaluate_known(f, i, err);
    return SPAROA_OK;
}

/* Nodes whose outputs are only asked for their shapes, which are known by now, need not run. */
static sparoa_status skip_unneeded(sp_frame *f, sparoa_error *err)
{
    const sp_graph *g = f->program->graph;
    bool *needed = sp_arena_alloc(&f->arena, g->value_count);
    if (!needed) return no_memory(f, err);
    for (uint32_t i = 0; i < g->output_count; i++) needed[g->outputs[i]] = true;
    for (size_t i = g->node_count; i-- > 0;) {
        const sp_gnode *n = &g->nodes[i];
        bool wanted = f->nodes[i].dynamic;
        for (int32_t k = 0; k < n->n_out; k++)
            if (n->out[k] != SP_NO_ID && needed[n->out[k]]) wanted = true;
        if (!wanted) f->nodes[i].skip = true;
        for (int32_t k = 0; k < n->n_in && !f->nodes[i].skip; k++)
            if (n->in[k] != SP_NO_ID) needed[n->in[k]] = true;
    }
    return SPAROA_OK;
}

/* A device's node whose shapes depend on data in this frame runs on the host. */
static sparoa_status choose_devices(sp_frame *f, sparoa_error *err)
{
    sp_program *p = f->program;
    const sp_device *host = &p->engine->devices[0];
    for (size_t i = 0; i < p->graph->node_count; i++) {
        sp_frame_node *fn = &f->nodes[i];
        size_t values = (size_t)(fn->view.n_in + fn->view.n_out);
        if (fn->dynamic && !(fn->shapes = sp_arena_alloc(&f->arena, values * sizeof *fn->shapes)))
            return no_memory(f, err);
        sp_slot *slot = &p->slots[i];
        /* known values need no device */
        fn->device = fn->dynamic || fn->skip ? 0 : f->placement->device[i];
        if (fn->dynamic && !slot->n_programs && !slot->kernels[0])
            SP_TRY(host->table->node_create(host->dev, &fn->view, &slot->kernels[0], err));
    }
    return SPAROA_OK;
}

static sparoa_status prepare_static(sp_frame *f, sparoa_error *err)
{
    sp_program *p = f->program;
    for (size_t i = 0; i < p->graph->node_count; i++) {
        sp_frame_node *fn = &f->nodes[i];
        if ((fn->skip && !fn->join) || fn->dynamic) continue;
        sp_op_cost(p->graph->nodes[i].op, &fn->view, &fn->cost);
        f->flops += fn->cost.flops;
        if (fn->skip || sp_in_lanes(f, i)) continue;
        SP_TRY(p->engine->devices[fn->device].table->node_prepare(
            sp_node_kernel(f, i), sp_run_view(fn), &fn->prepared, &fn->workspace_bytes, err));
    }
    return sp_lanes_prepare(f, err);
}

static bool alloc_host_side(sp_frame *f, int32_t d, sparoa_memory_kind kind)
{
    sp_side *side = &f->sides[0];
    const sp_device *device = &f->program->engine->devices[d];
    void *memory = NULL;
    if (device->table->buffer_alloc(device->dev, side->memory_bytes, kind, &memory) != SPAROA_OK)
        return false;
    if ((uintptr_t)memory % SP_ALIGN != 0) {
        device->table->buffer_free(device->dev, memory, side->memory_bytes, kind);
        return false;
    }
    side->memory = memory;
    side->memory_device = d;
    side->memory_kind = kind;
    return true;
}

/* Host memory that a device copies from and to is the device's to give: where it can use it itself
 * nothing is copied, else copies are faster and need not hold up the host. */
static bool alloc_pinned(sp_frame *f)
{
    const sp_engine *e = f->program->engine;
    int32_t first = 0;
    for (int32_t d = e->device_count - 1; d > 0; d--) {
        const sp_device *device = &e->devices[d];
        if (!f->sides[d].tensors || !device->idle) continue;
        first = d;
        if (device->caps & SPAROA_CAP_UNIFIED) f->unified = d;
    }
    if (f->unified && alloc_host_side(f, f->unified, SPAROA_MEMORY_UNIFIED)) return true;
    f->unified = 0;
    return first && alloc_host_side(f, first, SPAROA_MEMORY_PINNED);
}

static sparoa_status alloc_side(sp_frame *f, int32_t device, sparoa_error *err)
{
    const sp_device *d = &f->program->engine->devices[device];
    sp_side *side = &f->sides[device];
    if (!side->memory_bytes || (device == 0 && alloc_pinned(f))) return SPAROA_OK;
    side->memory_device = device;
    side->memory_kind = SPAROA_MEMORY_DEVICE;
    sparoa_status status =
        d->table->buffer_alloc(d->dev, side->memory_bytes, SPAROA_MEMORY_DEVICE, &side->memory);
    if (status == SPAROA_OUT_OF_MEMORY && device == 0)
        return sp_no_memory(&f->program->engine->alloc, side->memory_bytes, err);
    return status == SPAROA_OK ? status : sp_device_failed(d, status, "allocating memory", err);
}

/* The host's memory of a value that a transfer brings or takes; NULL: it is not the frame's. */
static void *host_memory(const sp_frame *f, const sp_transfer *t)
{
    const sp_location *at = &f->locations[t->value];
    if (t->staging) return t->staging;
    if (at->place == SP_PLACE_ALIAS) at = &f->locations[at->root];
    return at->place == SP_PLACE_ARENA ? f->tensors[t->value].data : NULL;
}

/* Once the host's memory is there: what a device that shares it has in common with the host. */
static void share(sp_frame *f)
{
    for (uint32_t i = 0; i < f->transfer_count; i++) {
        sp_transfer *t = &f->transfers[i];
        t->shared = f->unified && t->from + t->to == f->unified && host_memory(f, t);
    }
}

static void place_shared(sp_frame *f, int32_t device)
{
    for (uint32_t i = 0; i < f->transfer_count; i++) {
        const sp_transfer *t = &f->transfers[i];
        if (t->shared && t->from + t->to == device)
            f->sides[device].tensors[t->value].data = host_memory(f, t);
    }
}

/* Memory of one side, and where each of its values lies in it. */
static sparoa_status place_side(sp_frame *f, int32_t device, sparoa_error *err)
{
    sp_program *p = f->program;
    sp_side *side = &f->sides[device];
    size_t *offsets = sp_arena_alloc(&f->arena, p->graph->node_count * sizeof *offsets);
    if (!offsets) return no_memory(f, err);
    SP_TRY(sp_frame_plan_memory(f, device, offsets, err));
    SP_TRY(alloc_side(f, device, err));
    for (uint32_t i = 0; i < f->transfer_count && device == 0; i++)
        if (f->transfers[i].staging_offset)
            f->transfers[i].staging = (char *)side->memory + f->transfers[i].staging_offset - 1;
    for (size_t i = 0; i < p->graph->value_count; i++) {
        const sp_location *at = &side->locations[i];
        if (at->place == SP_PLACE_ARENA && !(f->lanes && f->lanes->inner[i]))
            side->tensors[i].data = (char *)side->memory + at->offset;
    }
    if (device) place_shared(f, device);
    for (size_t i = 0; i < p->graph->value_count; i++) {
        const sp_location *at = &side->locations[i];
        if (at->place != SP_PLACE_ALIAS) continue;
        sp_place root = side->locations[at->root].place;
        if (root == SP_PLACE_INPUT || root == SP_PLACE_OUTPUT)
            f->late_aliases[f->late_alias_count++] = (sp_id)i;
        else
            side->tensors[i].data = side->tensors[at->root].data;
    }
    for (size_t i = 0; i < p->graph->node_count; i++) {
        sp_frame_node *fn = &f->nodes[i];
        if (fn->workspace_bytes && !fn->dynamic && fn->device == device && !sp_in_lanes(f, i))
            fn->workspace = (char *)side->memory + offsets[i];
    }
    if (device == 0) sp_lanes_place(f);
    if (device == 0) share(f);
    return SPAROA_OK;
}

static sparoa_status place_values(sp_frame *f, sparoa_error *err)
{
    SP_TRY(sp_frame_order(f, err));
    SP_TRY(sp_frame_plan_transfers(f, err));
    for (int32_t d = 0; d < f->program->engine->device_count; d++)
        if (f->sides[d].tensors) SP_TRY(place_side(f, d, err));
    return sp_frame_plan_segments(f, err);
}

static sparoa_status frame_create(sp_program *p, const sparoa_tensor *inputs, sp_frame **frame,
                                  sparoa_error *err)
{
    const sparoa_allocator *a = &p->engine->alloc;
    sp_frame *f = sp_calloc(a, 1, sizeof *f);
    if (!f) return sp_no_memory(a, sizeof *f, err);
    f->program = p;
    f->placement = p->placement;
    sp_arena_init(&f->arena, a);
    sparoa_status status = make_arrays(f, inputs, err);
    for (size_t i = 0; status == SPAROA_OK && i < p->graph->node_count; i++)
        status = infer_frame_node(f, i, err);
    if (status == SPAROA_OK) status = skip_unneeded(f, err);
    if (status == SPAROA_OK) status = choose_devices(f, err);
    if (status == SPAROA_OK) status = sp_lanes_choose(f, err);
    if (status == SPAROA_OK) status = sp_joins_choose(f, err);
    if (status == SPAROA_OK) status = prepare_static(f, err);
    if (status == SPAROA_OK) status = place_values(f, err);
    if (status != SPAROA_OK)
        sp_frame_destroy(f);
    else
        *frame = f;
    return status;
}

static bool matches(const sp_frame *f, const sparoa_tensor *inputs)
{
    const sp_graph *g = f->program->graph;
    if (f->placement != f->program->placement) return false;
    for (uint32_t i = 0; i < g->input_count; i++) {
        const sparoa_tensor *t = &f->tensors[g->inputs[i]];
        if (t->rank != inputs[i].rank || t->dtype != inputs[i].dtype ||
            memcmp(f->key[i], inputs[i].dims, (size_t)t->rank * sizeof f->key[i][0]) != 0)
            return false;
    }
    return true;
}

/* `held` is cleared if it is that one. */
static void drop_oldest(sp_program *p, sp_frame **held)
{
    sp_frame **last = &p->frames;
    while ((*last)->next) last = &(*last)->next;
    if (*held == *last) *held = NULL;
    sp_frame_destroy(*last);
    *last = NULL;
    p->frame_count--;
}

sparoa_status sp_program_frame(sp_program *program, const sparoa_tensor *inputs, sp_frame **frame,
                               sparoa_error *err)
{
    for (sp_frame **link = &program->frames; *link; link = &(*link)->next) {
        if (!program->all_dynamic && !matches(*link, inputs)) continue;
        sp_frame *f = *link;
        *link = f->next;
        f->next = program->frames;
        program->frames = f;
        *frame = f;
        return SPAROA_OK;
    }
    if (program->frame_count >= program->engine->max_frames * program->placement_count)
        drop_oldest(program, frame);
    sp_frame *f = NULL;
    SP_TRY(frame_create(program, program->all_dynamic ? NULL : inputs, &f, err));
    f->next = program->frames;
    program->frames = f;
    program->frame_count++;
    *frame = f;
    return SPAROA_OK;
}
