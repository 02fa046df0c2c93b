/* What moves between the host and the devices of a frame. Everything goes through the host: a value
 * that one device makes and another reads is copied twice. */
#include <string.h>

#include "engine/program.h"
#include "ops/op.h"

typedef struct transfer_plan {
    sp_frame *f;
    const sp_graph *g;
    int32_t devices;
    bool *present; /* by device * values + value */
    size_t capacity;
    sp_transfer *list;
    uint32_t count;
} transfer_plan;

static bool *present(transfer_plan *p, int32_t device, sp_id value)
{
    return &p->present[(size_t)device * p->g->value_count + value];
}

static int32_t home_of(const transfer_plan *p, sp_id value)
{
    sp_id producer = p->g->values[value].producer;
    return producer == SP_NO_ID || p->f->nodes[producer].skip ? 0 : p->f->nodes[producer].device;
}

static uint32_t written_after(const transfer_plan *p, sp_id value)
{
    sp_id producer = p->g->values[value].producer;
    if (producer == SP_NO_ID || p->f->nodes[producer].skip) return 0;
    return p->f->nodes[producer].position + 1;
}

static sparoa_status make_side(transfer_plan *p, int32_t device, sparoa_error *err)
{
    sp_side *side = &p->f->sides[device];
    size_t count = p->g->value_count;
    if (side->tensors) return SPAROA_OK;
    side->tensors = sp_arena_copy(&p->f->arena, p->f->tensors, count * sizeof *side->tensors);
    side->locations = sp_arena_alloc(&p->f->arena, count * sizeof *side->locations);
    if (!side->tensors || !side->locations)
        return sp_no_memory(&p->f->arena.alloc, count * sizeof *side->tensors, err);
    for (size_t v = 0; v < count; v++) side->tensors[v].data = NULL;
    return SPAROA_OK;
}

/* The program that keeps a constant on devices. */
static sp_program *uploader(sp_program *program, sp_id value)
{
    sp_program *kin = program->kin;
    const sp_blob *blob = program->graph->values[value].blob;
    bool same = kin && value < kin->graph->value_count && kin->graph->values[value].blob == blob;
    return same ? kin : program;
}

/* Constants are uploaded once for all frames of the program. */
static sparoa_status upload(transfer_plan *p, int32_t device, sp_id value, sparoa_error *err)
{
    sp_program *program = uploader(p->f->program, value);
    const sp_engine *e = program->engine;
    const sp_device *d = &e->devices[device];
    const sparoa_tensor *t = &p->f->tensors[value];
    size_t values = program->graph->value_count, bytes = sparoa_tensor_bytes(t),
           slots = values * (size_t)(e->device_count - 1);
    if (!program->uploaded &&
        !(program->uploaded = sp_calloc(&e->alloc, slots, sizeof *program->uploaded)))
        return sp_no_memory(&e->alloc, slots * sizeof *program->uploaded, err);
    void **to = &program->uploaded[(size_t)(device - 1) * values + value];
    if (!*to) {
        sparoa_status status = d->table->buffer_alloc(d->dev, bytes, SPAROA_MEMORY_DEVICE, to);
        if (status != SPAROA_OK)
            return sp_device_failed(d, status, "allocating memory for a constant", err);
        status = d->table->copy(d->queue, *to, t->data, bytes);
        if (status == SPAROA_OK)
            status = sp_device_sync(program->engine, d, d->queue, err);
        else
            sp_device_failed(d, status, "uploading a constant", err);
        if (status != SPAROA_OK) {
            if (!program->engine->in_flight) { /* else it is freed with the program */
                d->table->buffer_free(d->dev, *to, bytes, SPAROA_MEMORY_DEVICE);
                *to = NULL; /* the next frame tries again */
            }
            return status;
        }
    }
    p->f->sides[device].tensors[value].data = *to;
    p->f->sides[device].locations[value].place = SP_PLACE_CONST;
    return SPAROA_OK;
}

static sparoa_status add_transfer(transfer_plan *p, sp_id value, int32_t from, int32_t to,
                                  sparoa_error *err)
{
    if (!sp_grow(&p->f->arena.alloc, &p->list, &p->capacity, p->count + 1, sizeof *p->list))
        return sp_no_memory(&p->f->arena.alloc, sizeof *p->list, err);
    p->list[p->count++] =
        (sp_transfer){.value = value, .from = from, .to = to, .after = written_after(p, value)};
    *present(p, to, value) = true;
    return SPAROA_OK;
}

/* Makes a value available on a device. */
static sparoa_status bring(transfer_plan *p, sp_id value, int32_t to, sparoa_error *err)
{
    int32_t home = home_of(p, value);
    if (home == to || *present(p, to, value)) return SPAROA_OK;
    if (p->f->locations[value].place == SP_PLACE_CONST) {
        *present(p, to, value) = true;
        return upload(p, to, value, err);
    }
    if (home != 0 && !*present(p, 0, value)) SP_TRY(add_transfer(p, value, home, 0, err));
    return to == 0 ? SPAROA_OK : add_transfer(p, value, 0, to, err);
}

static sparoa_status bring_inputs(transfer_plan *p, size_t i, sparoa_error *err)
{
    const sp_gnode *n = &p->g->nodes[i];
    const sp_frame_node *fn = &p->f->nodes[i];
    const sparoa_backend *table = p->f->program->engine->devices[fn->device].table;
    if (fn->device) SP_TRY(make_side(p, fn->device, err));
    for (int32_t k = 0; k < n->n_in; k++) {
        sp_id v = n->in[k];
        if (v == SP_NO_ID) continue;
        sp_place place = p->f->locations[v].place;
        bool fixed = place == SP_PLACE_CONST || place == SP_PLACE_KNOWN;
        if (fn->device && fixed && !table->node_keeps_input(sp_node_kernel(p->f, i), k)) continue;
        SP_TRY(bring(p, v, fn->device, err));
    }
    return SPAROA_OK;
}

/* From here on the node's view is of its device's tensors. */
static void point_views(sp_frame *f)
{
    const sp_graph *g = f->program->graph;
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        if (!f->nodes[i].device || f->nodes[i].skip) continue;
        sparoa_tensor *tensors = f->sides[f->nodes[i].device].tensors;
        sparoa_tensor **in = (sparoa_tensor **)(uintptr_t)f->nodes[i].view.in;
        sparoa_tensor **out = (sparoa_tensor **)(uintptr_t)f->nodes[i].view.out;
        for (int32_t k = 0; k < n->n_in; k++)
            in[k] = n->in[k] == SP_NO_ID ? NULL : &tensors[n->in[k]];
        for (int32_t k = 0; k < n->n_out; k++)
            out[k] = n->out[k] == SP_NO_ID ? NULL : &tensors[n->out[k]];
    }
}

/* Transfers in the order of the nodes that they follow; stable, so that a first hop stays before
 * the second. */
static sparoa_status order_transfers(transfer_plan *p, sparoa_error *err)
{
    sp_frame *f = p->f;
    f->transfers = sp_arena_alloc(&f->arena, p->count * sizeof *f->transfers);
    uint32_t *start = sp_arena_alloc(&f->arena, (p->g->node_count + 2) * sizeof *start);
    if (!f->transfers || !start)
        return sp_no_memory(&f->arena.alloc, p->count * sizeof *f->transfers, err);
    for (uint32_t i = 0; i < p->count; i++) start[p->list[i].after + 1]++;
    for (size_t i = 1; i <= p->g->node_count + 1; i++) start[i] += start[i - 1];
    f->input_transfers = start[1];
    for (size_t i = 0; i < p->g->node_count; i++) {
        sp_frame_node *fn = &f->nodes[f->order[i]];
        fn->transfers = start[i + 1];
        fn->transfer_count = start[i + 2] - start[i + 1];
    }
    for (uint32_t i = 0; i < p->count; i++) f->transfers[start[p->list[i].after]++] = p->list[i];
    for (uint32_t i = 0; i < p->count; i++) {
        sp_transfer *t = &f->transfers[i];
        const sp_device *d = &f->program->engine->devices[t->from ? t->from : t->to];
        f->transfer_count = i + 1;
        if (!d->idle || (t->from == 0 && d->up == d->queue)) continue;
        sparoa_status status = d->table->event_create(d->dev, &t->done);
        if (status != SPAROA_OK) return sp_device_failed(d, status, "creating an event", err);
    }
    return SPAROA_OK;
}

sparoa_status sp_frame_plan_transfers(sp_frame *frame, sparoa_error *err)
{
    const sp_engine *e = frame->program->engine;
    transfer_plan p = {.f = frame, .g = frame->program->graph, .devices = e->device_count};
    if (e->device_count == 1) return SPAROA_OK;
    size_t cells = p.g->value_count * (size_t)p.devices;
    p.present = sp_calloc(&e->alloc, cells, sizeof *p.present);
    sparoa_status status = p.present ? SPAROA_OK : sp_no_memory(&e->alloc, cells, err);
    for (size_t i = 0; status == SPAROA_OK && i < p.g->node_count; i++)
        if (!frame->nodes[i].skip) status = bring_inputs(&p, i, err);
    for (uint32_t i = 0; status == SPAROA_OK && i < p.g->output_count; i++)
        status = bring(&p, p.g->outputs[i], 0, err);
    if (status == SPAROA_OK) status = order_transfers(&p, err);
    if (status == SPAROA_OK) point_views(frame);
    sp_free(&e->alloc, p.list, p.capacity * sizeof *p.list);
    sp_free(&e->alloc, p.present, cells * sizeof *p.present);
    return status;
}

/* ---- running ---- */

sp_trace_event *sp_queue_trace(const sp_frame *frame, int32_t device, sparoa_queue *queue,
                               bool waits, sp_trace_kind kind, const char *name, int64_t value)
{
    const sp_engine *e = frame->program->engine;
    const sp_device *d = &e->devices[device];
    if (!sp_trace_on(e->trace) || !d->table->host_call) return NULL;
    sp_trace_event *event = sp_trace_begin(e->trace, kind, name, d->table->name, queue, value);
    if (event && waits) (void)d->table->host_call(queue, sp_trace_reached, event);
    return event;
}

void sp_queue_trace_end(const sp_device *device, sparoa_queue *queue, sp_trace_event *event)
{
    /* where it fails the device has, which others report; the event stays without an end */
    if (event) (void)device->table->host_call(queue, sp_trace_end, event);
}

static sparoa_status wait_for(sp_frame *f, sp_transfer *t, sparoa_error *err)
{
    sp_engine *e = f->program->engine;
    const sp_device *d = &e->devices[t->from];
    if (t->waited) return SPAROA_OK;
    t->waited = true;
    return t->done ? sp_device_wait(e, d, t->done, err) : sp_device_sync(e, d, d->queue, err);
}

/* A second hop reads on the host what the first one brings there. */
static sparoa_status wait_for_first_hop(sp_frame *f, uint32_t index, sparoa_error *err)
{
    for (uint32_t i = index; i-- > 0 && f->transfers[i].after == f->transfers[index].after;)
        if (f->transfers[i].value == f->transfers[index].value && f->transfers[i].to == 0)
            return wait_for(f, &f->transfers[i], err);
    return SPAROA_OK;
}

sparoa_status sp_frame_transfer(sp_frame *frame, uint32_t first, uint32_t count, sparoa_error *err)
{
    for (uint32_t i = first; i < first + count; i++) {
        sp_transfer *t = &frame->transfers[i];
        const sp_device *d = &frame->program->engine->devices[t->from ? t->from : t->to];
        sparoa_queue *queue = t->from ? d->down : d->up;
        if (t->from == 0) SP_TRY(wait_for_first_hop(frame, i, err));
        const sparoa_tensor *from = &frame->sides[t->from].tensors[t->value];
        size_t bytes = sparoa_tensor_bytes(from);
        const void *data = from->data;
        if (t->staging && bytes) data = memcpy(t->staging, data, bytes);
        sparoa_status status = SPAROA_OK;
        if (!t->shared) {
            sp_trace_event *event =
                sp_queue_trace(frame, t->from ? t->from : t->to, queue, t->from, SP_TRACE_COPY,
                               frame->program->graph->values[t->value].name, (int64_t)bytes);
            status = d->table->copy(queue, frame->sides[t->to].tensors[t->value].data, data, bytes);
            sp_queue_trace_end(d, queue, event);
        }
        if (status == SPAROA_OK && t->done) status = d->table->event_record(t->done, queue);
        if (status != SPAROA_OK) return sp_device_failed(d, status, "copying a value", err);
        t->waited = false;
    }
    return SPAROA_OK;
}

sparoa_status sp_frame_wait(sp_frame *frame, const sp_frame_node *node, sparoa_error *err)
{
    for (uint32_t i = 0; i < node->wait_count; i++)
        SP_TRY(wait_for(frame, &frame->transfers[frame->waits[node->waits + i]], err));
    return SPAROA_OK;
}
