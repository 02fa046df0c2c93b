#include "engine/program.h"

#include <string.h>

#include "engine/joined.h"
#include "engine/lanes.h"
#include "graph/infer.h"
#include "ops/op.h"

sparoa_status sp_growable_reserve(sp_growable *g, const sparoa_allocator *alloc, size_t bytes,
                                  sparoa_error *err)
{
    if (bytes <= g->capacity && g->data) return SPAROA_OK;
    size_t capacity = bytes + bytes / 4 + SP_ALIGN;
    sp_free(alloc, g->data, g->capacity);
    *g = (sp_growable){0};
    g->data = sp_alloc(alloc, capacity);
    if (!g->data) return sp_no_memory(alloc, capacity, err);
    g->capacity = capacity;
    return SPAROA_OK;
}

static void free_growables(const sparoa_allocator *a, sp_growable *list, size_t count)
{
    for (size_t i = 0; list && i < count; i++) sp_free(a, list[i].data, list[i].capacity);
}

static sparoa_status create_control(sp_program *p, size_t i, sparoa_error *err)
{
    const sparoa_allocator *a = &p->engine->alloc;
    const sp_gnode *n = &p->graph->nodes[i];
    sp_slot *slot = &p->slots[i];
    slot->programs = sp_calloc(a, (size_t)n->n_subgraphs, sizeof(sp_program *));
    if (!slot->programs) return sp_no_memory(a, sizeof *slot, err);
    slot->n_programs = n->n_subgraphs;
    slot->buffers = sp_calloc(a, (size_t)n->n_out + (size_t)n->n_in + 1, sizeof *slot->buffers);
    if (!slot->buffers) return sp_no_memory(a, sizeof *slot, err);
    slot->n_buffers = n->n_out + n->n_in + 1;
    for (int32_t k = 0; k < n->n_subgraphs; k++)
        SP_TRY(sp_program_create_body(p->engine, n->subgraphs[k], &slot->programs[k], err));
    return SPAROA_OK;
}

static bool is_control(const sp_program *p, size_t i)
{
    return p->graph->nodes[i].op->op_class == SPAROA_CLASS_CONTROL;
}

static sparoa_status make_kernel(sp_program *p, size_t i, int32_t device, const sparoa_node *view,
                                 sparoa_error *err)
{
    const sp_engine *e = p->engine;
    sparoa_kernel **kernel = &p->slots[i].kernels[device];
    char why[160] = "";
    const sp_device *d = &e->devices[device];
    if (*kernel) return SPAROA_OK;
    if (!d->table->node_supports(d->dev, view, why, sizeof why))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, view, "device '%s' cannot run it: %s",
                           d->table->name, why);
    SP_TRY(d->table->node_create(d->dev, view, kernel, err));
    sp_log_line(e->log, SPAROA_LOG_INFO, "%s '%s' -> %s %s", view->op, view->name, d->table->name,
                d->table->node_variant(*kernel));
    return SPAROA_OK;
}

/* Room for the view of any node. */
typedef struct view_room {
    sparoa_tensor **in, **out;
    bool *constant;
} view_room;

static sparoa_status take_room(const sp_program *p, view_room *room, sparoa_error *err)
{
    const sparoa_allocator *a = &p->engine->alloc;
    room->in = sp_calloc(a, p->widest_in, sizeof *room->in);
    room->out = sp_calloc(a, p->widest_out, sizeof *room->out);
    room->constant = sp_calloc(a, p->widest_in, sizeof *room->constant);
    if (room->in && room->out && room->constant) return SPAROA_OK;
    return sp_no_memory(a, p->widest_in * sizeof *room->in, err);
}

static void give_room(const sp_program *p, const view_room *room)
{
    const sparoa_allocator *a = &p->engine->alloc;
    sp_free(a, room->in, p->widest_in * sizeof *room->in);
    sp_free(a, room->out, p->widest_out * sizeof *room->out);
    sp_free(a, room->constant, p->widest_in * sizeof *room->constant);
}

static void view_of(const sp_program *p, size_t i, const view_room *room, sparoa_node *view)
{
    sp_graph_node_view(p->graph, &p->graph->nodes[i], room->in, room->out, room->constant, view);
}

/* The kernel that kin has, or makes, for the same node. */
static sparoa_status borrow_kernel(sp_program *p, size_t i, int32_t device, sparoa_error *err)
{
    sp_program *kin = p->kin;
    sp_slot *slot = &p->slots[i];
    view_room room = {0};
    sparoa_node view;
    if (slot->kernels[device]) return SPAROA_OK;
    sparoa_status status = take_room(kin, &room, err);
    if (status == SPAROA_OK) {
        view_of(kin, p->twins[i], &room, &view);
        status = make_kernel(kin, p->twins[i], device, &view, err);
    }
    give_room(kin, &room);
    if (status != SPAROA_OK) return status;
    slot->kernels[device] = kin->slots[p->twins[i]].kernels[device];
    slot->borrowed |= UINT32_C(1) << device;
    return SPAROA_OK;
}

/* Fills in a placement, by the engine's `place` where `device` is NULL, and creates kernels. */
static sparoa_status fill_placement(sp_program *p, const int32_t *device, sp_placement *to,
                                    sparoa_error *err)
{
    const sp_engine *e = p->engine;
    view_room room = {0};
    sparoa_status status = take_room(p, &room, err);
    for (size_t i = 0; status == SPAROA_OK && i < p->graph->node_count; i++) {
        sparoa_node view;
        if (is_control(p, i)) continue;
        view_of(p, i, &room, &view);
        if (device)
            to->device[i] = device[i];
        else if (e->place && !p->all_dynamic)
            to->device[i] = e->place(e->place_user, i, &view);
        if (p->twins && p->twins[i] != SP_NO_ID) {
            status = borrow_kernel(p, i, to->device[i], err);
            continue;
        }
        if (p->uses.left) status = sp_constants_ready(p, i, err);
        if (status == SPAROA_OK) status = make_kernel(p, i, to->device[i], &view, err);
        if (status == SPAROA_OK && p->uses.left) sp_constants_release(p, i);
    }
    give_room(p, &room);
    return status;
}

static void free_placement(const sp_program *p, sp_placement *placement)
{
    const sparoa_allocator *a = &p->engine->alloc;
    sp_free(a, placement->device, p->graph->node_count * sizeof *placement->device);
    sp_free(a, placement, sizeof *placement);
}

sparoa_status sp_program_place(sp_program *program, const int32_t *device, sp_placement **placement,
                               sparoa_error *err)
{
    const sparoa_allocator *a = &program->engine->alloc;
    size_t count = program->graph->node_count;
    sp_placement *made = sp_calloc(a, 1, sizeof *made);
    if (!made) return sp_no_memory(a, sizeof *made, err);
    made->device = sp_calloc(a, count, sizeof *made->device);
    sparoa_status status = made->device ? fill_placement(program, device, made, err)
                                        : sp_no_memory(a, count * sizeof *made->device, err);
    if (status != SPAROA_OK) {
        free_placement(program, made);
        return status;
    }
    made->next = program->placements;
    program->placements = made;
    program->placement_count++;
    *placement = made;
    return SPAROA_OK;
}

static sparoa_status create_slots(sp_program *p, const int32_t *device, sparoa_error *err)
{
    const sparoa_allocator *a = &p->engine->alloc;
    size_t nodes = p->graph->node_count, devices = (size_t)p->engine->device_count;
    p->slots = sp_calloc(a, nodes, sizeof *p->slots);
    p->kernels = sp_calloc(a, nodes * devices, sizeof(sparoa_kernel *));
    if (!p->slots || !p->kernels) return sp_no_memory(a, nodes * sizeof *p->slots, err);
    for (size_t i = 0; i < nodes; i++) {
        p->slots[i].kernels = &p->kernels[i * devices];
        if (!is_control(p, i)) continue;
        SP_TRY(sp_constants_ready(p, i, err));
        SP_TRY(create_control(p, i, err));
        sp_constants_release(p, i);
    }
    return sp_program_place(p, device, &p->placement, err);
}

/* Nodes that read and write the same values as one of kin are that one. */
static sparoa_status find_twins(sp_program *p, sparoa_error *err)
{
    const sp_graph *g = p->graph, *k = p->kin->graph;
    p->twins = sp_calloc(&p->engine->alloc, g->node_count, sizeof *p->twins);
    if (!p->twins) return sp_no_memory(&p->engine->alloc, g->node_count * sizeof *p->twins, err);
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        sp_id value = n->n_out ? n->out[0] : SP_NO_ID;
        p->twins[i] = value < k->value_count ? k->values[value].producer : SP_NO_ID;
        const sp_gnode *t = p->twins[i] == SP_NO_ID ? NULL : &k->nodes[p->twins[i]];
        if (!t || is_control(p, i) || t->op != n->op || t->n_in != n->n_in ||
            strcmp(t->name, n->name) ||
            (n->n_in && memcmp(t->in, n->in, (size_t)n->n_in * sizeof *n->in)))
            p->twins[i] = SP_NO_ID;
    }
    return SPAROA_OK;
}

static sparoa_status create(sp_engine *engine, sp_graph *graph, sp_program *kin, bool all_dynamic,
                            const int32_t *device, sp_program **program, sparoa_error *err)
{
    const sparoa_allocator *a = &engine->alloc;
    sp_program *p = sp_calloc(a, 1, sizeof *p);
    if (!p) return sp_no_memory(a, sizeof *p, err);
    p->engine = engine;
    p->graph = graph;
    p->kin = kin;
    p->all_dynamic = all_dynamic;
    p->widest_in = p->widest_out = 1;
    for (size_t i = 0; i < graph->node_count; i++) {
        if ((size_t)graph->nodes[i].n_in > p->widest_in)
            p->widest_in = (size_t)graph->nodes[i].n_in;
        if ((size_t)graph->nodes[i].n_out > p->widest_out)
            p->widest_out = (size_t)graph->nodes[i].n_out;
    }
    sparoa_status status = kin ? find_twins(p, err) : SPAROA_OK;
    if (status == SPAROA_OK) status = sp_constants_count(p, err);
    if (status == SPAROA_OK) status = create_slots(p, device, err);
    sp_constants_end(p);
    if (status != SPAROA_OK)
        sp_program_destroy(p);
    else
        *program = p;
    return status;
}

sparoa_status sp_program_create(sp_engine *engine, sp_graph *graph, const int32_t *device,
                                sp_program **program, sparoa_error *err)
{
    return create(engine, graph, NULL, false, device, program, err);
}

sparoa_status sp_program_create_body(sp_engine *engine, sp_graph *graph, sp_program **program,
                                     sparoa_error *err)
{
    return create(engine, graph, NULL, true, NULL, program, err);
}

sparoa_status sp_program_create_kin(sp_program *kin, sp_graph *graph, const int32_t *device,
                                    sp_program **program, sparoa_error *err)
{
    return create(kin->engine, graph, kin, false, device, program, err);
}

static void free_uploaded(sp_program *p)
{
    const sp_engine *e = p->engine;
    size_t values = p->graph->value_count, count = values * (size_t)(e->device_count - 1);
    for (size_t i = 0; p->uploaded && i < count; i++) {
        const sp_device *d = &e->devices[1 + i / values];
        if (p->uploaded[i])
            d->table->buffer_free(d->dev, p->uploaded[i],
                                  sparoa_tensor_bytes(&p->graph->values[i % values].fact),
                                  SPAROA_MEMORY_DEVICE);
    }
    if (p->uploaded) sp_free(&e->alloc, p->uploaded, count * sizeof *p->uploaded);
}

void sp_program_destroy(sp_program *program)
{
    if (!program) return;
    const sp_engine *e = program->engine;
    sparoa_allocator a = e->alloc;
    for (sp_frame *f = program->frames, *next; f; f = next) {
        next = f->next;
        sp_frame_destroy(f);
    }
    for (size_t i = 0; program->slots && i < program->graph->node_count; i++) {
        sp_slot *s = &program->slots[i];
        for (int32_t d = 0; program->kernels && d < e->device_count; d++)
            if (s->kernels && s->kernels[d] && !(s->borrowed >> d & 1))
                e->devices[d].table->node_destroy(s->kernels[d]);
        for (int32_t k = 0; k < s->n_programs; k++) sp_program_destroy(s->programs[k]);
        sp_free(&a, s->programs, (size_t)s->n_programs * sizeof *s->programs);
        free_growables(&a, s->buffers, (size_t)s->n_buffers);
        sp_free(&a, s->buffers, (size_t)s->n_buffers * sizeof *s->buffers);
    }
    free_uploaded(program);
    for (sp_placement *m = program->placements, *next; m; m = next) {
        next = m->next;
        free_placement(program, m);
    }
    sp_free(&a, program->kernels,
            program->graph->node_count * (size_t)e->device_count * sizeof(sparoa_kernel *));
    sp_free(&a, program->slots, program->graph->node_count * sizeof *program->slots);
    if (program->twins)
        sp_free(&a, program->twins, program->graph->node_count * sizeof *program->twins);
    sp_free(&a, program, sizeof *program);
}

sparoa_kernel *sp_node_kernel(const sp_frame *frame, size_t node)
{
    const sp_frame_node *fn = &frame->nodes[node];
    return fn->join ? fn->join->kernel : frame->program->slots[node].kernels[fn->device];
}

static void free_side(sp_frame *frame, int32_t device)
{
    const sp_side *side = &frame->sides[device];
    const sp_device *d = &frame->program->engine->devices[side->memory_device];
    if (side->memory)
        d->table->buffer_free(d->dev, side->memory, side->memory_bytes, side->memory_kind);
}

void sp_frame_destroy(sp_frame *frame)
{
    if (!frame) return;
    sp_program *p = frame->program;
    const sp_engine *e = p->engine;
    sparoa_allocator a = e->alloc;
    for (size_t i = 0; frame->nodes && i < p->graph->node_count; i++)
        if (frame->nodes[i].prepared)
            e->devices[frame->nodes[i].device].table->prepared_destroy(sp_node_kernel(frame, i),
                                                                       frame->nodes[i].prepared);
    sp_lanes_destroy(frame);
    sp_joins_destroy(frame);
    for (uint32_t i = 0; i < frame->transfer_count; i++)
        if (frame->transfers[i].done) {
            const sp_transfer *t = &frame->transfers[i];
            e->devices[t->from ? t->from : t->to].table->event_destroy(t->done);
        }
    for (uint32_t i = 0; i < frame->segment_count; i++) {
        const sp_dev_segment *s = &frame->segments[i];
        const sparoa_backend *t = e->devices[s->device].table;
        if (s->end) t->event_destroy(s->end);
        if (s->capture) t->capture_destroy(s->capture);
    }
    free_growables(&a, frame->dynamic, p->graph->value_count);
    free_growables(&a, frame->own_outputs, p->graph->output_count);
    free_growables(&a, &frame->workspace, 1);
    free_growables(&a, &frame->observed, 1);
    for (int32_t d = 0; frame->sides && d < e->device_count; d++) free_side(frame, d);
    sp_arena_destroy(&frame->arena);
    sp_free(&a, frame, sizeof *frame);
}
