/* Segments: what a device is given in one go, what it waits for, and recording it for replay. */
#include "engine/program.h"
#include "ops/op.h"

#define LEAST_CAPTURED 2 /* nodes: one alone is launched as fast as a recording of it */

typedef struct planner {
    sp_frame *f;
    const sp_graph *g;
    int64_t *arrival; /* by device * values + value: transfer that brings it there, or -1 */
    bool *awaited;    /* by transfer: the device's queue is behind it already */
    uint32_t wait_count;
} planner;

/* The transfer that brings a value, or what it is an alias of, to a device; -1: none. */
static int64_t arrival(const planner *p, int32_t device, sp_id value)
{
    const int64_t *by_value = &p->arrival[(size_t)device * p->g->value_count];
    if (by_value[value] >= 0) return by_value[value];
    const sp_location *at = &p->f->sides[device].locations[value];
    return at->place == SP_PLACE_ALIAS ? by_value[at->root] : -1;
}

static void add_waits(planner *p, uint32_t node)
{
    sp_frame *f = p->f;
    sp_frame_node *fn = &f->nodes[node];
    const sp_gnode *n = &p->g->nodes[node];
    fn->waits = p->wait_count;
    for (int32_t k = 0; k < n->n_in && (!fn->skip || fn->transfer_count); k++) {
        int64_t t = n->in[k] == SP_NO_ID ? -1 : arrival(p, fn->device, n->in[k]);
        if (t < 0 || (fn->device && p->awaited[t])) continue;
        p->awaited[t] = true;
        if (!fn->device || f->transfers[t].done) f->waits[p->wait_count++] = (uint32_t)t;
    }
    fn->wait_count = p->wait_count - fn->waits;
}

/* Whether the node at `position` can follow the one before it in the segment. */
static bool goes_on(const sp_frame *f, const sp_dev_segment *s, uint32_t position)
{
    const sp_frame_node *fn = &f->nodes[f->order[position]];
    if (!s || s->first + s->count != position || s->device != fn->device) return false;
    return fn->wait_count == 0 && f->nodes[f->order[position - 1]].transfer_count == 0;
}

static sparoa_status make_segments(planner *p, sparoa_error *err)
{
    sp_frame *f = p->f;
    sp_dev_segment *s = NULL;
    f->segments = sp_arena_alloc(&f->arena, p->g->node_count * sizeof *f->segments);
    if (!f->segments)
        return sp_no_memory(&f->arena.alloc, p->g->node_count * sizeof *f->segments, err);
    for (uint32_t at = 0; at < p->g->node_count; at++) {
        sp_frame_node *fn = &f->nodes[f->order[at]];
        add_waits(p, f->order[at]);
        if (!fn->device) continue;
        if (!goes_on(f, s, at)) {
            s = &f->segments[f->segment_count];
            *s = (sp_dev_segment){.device = fn->device,
                                  .first = at,
                                  .waits = fn->waits,
                                  .wait_count = fn->wait_count};
            f->last_segment[fn->device] = f->segment_count++;
        }
        fn->segment = (uint32_t)(s - f->segments);
        s->count++;
    }
    return SPAROA_OK;
}

/* Behind segments that copies follow on another queue, and behind the last of each device. */
static sparoa_status make_events(sp_frame *f, sparoa_error *err)
{
    for (uint32_t i = 0; i < f->segment_count; i++) {
        sp_dev_segment *s = &f->segments[i];
        const sp_device *d = &f->program->engine->devices[s->device];
        bool copied = f->nodes[f->order[s->first + s->count - 1]].transfer_count > 0;
        if (!d->idle || !((copied && d->down != d->queue) || f->last_segment[s->device] == i))
            continue;
        sparoa_status status = d->table->event_create(d->dev, &s->end);
        if (status != SPAROA_OK) return sp_device_failed(d, status, "creating an event", err);
    }
    return SPAROA_OK;
}

sparoa_status sp_frame_plan_segments(sp_frame *frame, sparoa_error *err)
{
    planner p = {.f = frame, .g = frame->program->graph};
    int32_t devices = frame->program->engine->device_count;
    size_t total = 0, cells = p.g->value_count * (size_t)devices;
    for (int32_t d = 0; d < SP_ENGINE_DEVICES; d++) frame->last_segment[d] = -1;
    if (devices == 1) return SPAROA_OK;
    for (size_t i = 0; i < p.g->node_count; i++) total += (size_t)p.g->nodes[i].n_in;
    frame->waits = sp_arena_alloc(&frame->arena, total * sizeof *frame->waits);
    sp_arena scratch;
    sp_arena_init(&scratch, &frame->program->engine->alloc);
    p.arrival = sp_arena_alloc(&scratch, cells * sizeof *p.arrival);
    p.awaited = sp_arena_alloc(&scratch, frame->transfer_count + 1);
    sparoa_status status = SPAROA_OK;
    if (!frame->waits || !p.arrival || !p.awaited)
        status = sp_no_memory(&frame->arena.alloc, cells * sizeof *p.arrival, err);
    for (size_t i = 0; status == SPAROA_OK && i < cells; i++) p.arrival[i] = -1;
    for (uint32_t i = 0; status == SPAROA_OK && i < frame->transfer_count; i++) {
        const sp_transfer *t = &frame->transfers[i];
        p.arrival[(size_t)t->to * p.g->value_count + t->value] = i;
    }
    if (status == SPAROA_OK) status = make_segments(&p, err);
    if (status == SPAROA_OK) status = make_events(frame, err);
    sp_arena_destroy(&scratch);
    return status;
}

/* ---- running ---- */

static sparoa_status enqueue_nodes(sp_frame *f, const sp_dev_segment *s, bool traced,
                                   sparoa_error *err)
{
    const sp_device *d = &f->program->engine->devices[s->device];
    for (uint32_t at = s->first; at < s->first + s->count; at++) {
        uint32_t i = f->order[at];
        sp_frame_node *fn = &f->nodes[i];
        if (fn->skip) continue;
        bool waits = at == s->first && s->wait_count;
        sp_trace_event *event = !traced ? NULL
                                        : sp_queue_trace(f, s->device, d->queue, waits,
                                                         SP_TRACE_STREAM, fn->view.name, i);
        SP_TRY(d->table->node_run(sp_node_kernel(f, i), fn->prepared, d->queue, &fn->view,
                                  fn->workspace, err));
        sp_queue_trace_end(d, d->queue, event);
    }
    return SPAROA_OK;
}

sparoa_status sp_segment_begin(sp_frame *frame, const sp_dev_segment *segment, sparoa_error *err)
{
    const sp_device *d = &frame->program->engine->devices[segment->device];
    for (uint32_t k = 0; k < segment->wait_count; k++) {
        const sp_transfer *t = &frame->transfers[frame->waits[segment->waits + k]];
        sparoa_status status = d->table->event_wait(t->done, d->queue);
        if (status != SPAROA_OK) return sp_device_failed(d, status, "waiting for a copy", err);
    }
    return SPAROA_OK;
}

sparoa_status sp_segment_end(sp_frame *frame, const sp_dev_segment *segment, sparoa_error *err)
{
    const sp_device *d = &frame->program->engine->devices[segment->device];
    const sp_frame_node *last = &frame->nodes[frame->order[segment->first + segment->count - 1]];
    sparoa_status status = SPAROA_OK;
    if (segment->end) status = d->table->event_record(segment->end, d->queue);
    if (status == SPAROA_OK && last->transfer_count && d->down != d->queue)
        status = d->table->event_wait(segment->end, d->down);
    if (status != SPAROA_OK) return sp_device_failed(d, status, "enqueueing a segment", err);
    if (!last->transfer_count) return SPAROA_OK;
    return sp_frame_transfer(frame, last->transfers, last->transfer_count, err);
}

sparoa_status sp_segment_run(sp_frame *frame, const sp_dev_segment *segment, sparoa_error *err)
{
    const sp_device *d = &frame->program->engine->devices[segment->device];
    SP_TRY(sp_segment_begin(frame, segment, err));
    if (!segment->capture) {
        SP_TRY(enqueue_nodes(frame, segment, true, err));
    } else {
        uint32_t first = frame->order[segment->first];
        sp_trace_event *event =
            sp_queue_trace(frame, segment->device, d->queue, segment->wait_count, SP_TRACE_STREAM,
                           frame->nodes[first].view.name, first);
        sparoa_status status = d->table->capture_launch(segment->capture, d->queue);
        sp_queue_trace_end(d, d->queue, event);
        if (status != SPAROA_OK) return sp_device_failed(d, status, "replaying a segment", err);
    }
    return sp_segment_end(frame, segment, err);
}

static uint32_t nodes_that_run(const sp_frame *f, const sp_dev_segment *s)
{
    uint32_t count = 0;
    for (uint32_t at = s->first; at < s->first + s->count; at++)
        count += !f->nodes[f->order[at]].skip;
    return count;
}

void sp_frame_capture(sp_frame *frame)
{
    frame->captured = true;
    for (uint32_t i = 0; i < frame->segment_count; i++) {
        sp_dev_segment *s = &frame->segments[i];
        const sp_device *d = &frame->program->engine->devices[s->device];
        if (!(d->caps & SPAROA_CAP_CAPTURE) || nodes_that_run(frame, s) < LEAST_CAPTURED) continue;
        if (d->table->capture_begin(d->queue) != SPAROA_OK) continue;
        sparoa_capture *made = NULL;
        sparoa_status status = enqueue_nodes(frame, s, false, NULL);
        if (d->table->capture_end(d->queue, &made) != SPAROA_OK) continue;
        if (status == SPAROA_OK)
            s->capture = made;
        else
            d->table->capture_destroy(made);
    }
}

sparoa_status sp_frame_finish(sp_frame *frame, sparoa_error *err)
{
    sp_engine *e = frame->program->engine;
    for (int32_t k = 1; k < e->device_count; k++) {
        const sp_device *d = &e->devices[k];
        if (!frame->sides[k].tensors) continue;
        int64_t last = frame->last_segment[k];
        if (!d->idle || last < 0)
            SP_TRY(sp_device_sync(e, d, d->queue, err));
        else
            SP_TRY(sp_device_wait(e, d, frame->segments[last].end, err));
    }
    for (uint32_t i = 0; i < frame->transfer_count; i++) {
        sp_transfer *t = &frame->transfers[i];
        if (t->waited || t->to != 0 || !t->done) continue;
        SP_TRY(sp_device_wait(e, &e->devices[t->from], t->done, err));
        t->waited = true;
    }
    return SPAROA_OK;
}
