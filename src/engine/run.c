/* Running a frame. */
#include <string.h>

#include "base/clock.h"
#include "engine/joined.h"
#include "engine/lanes.h"
#include "graph/infer.h"
#include "ops/op.h"

/* ---- dynamic nodes ---- */

static const sparoa_tensor *value_at(const sparoa_node *view, int32_t i)
{
    return i < view->n_in ? view->in[i] : view->out[i - view->n_in];
}

/* Whether the node was prepared for the types and shapes that it has now. */
static bool same_shapes(const sparoa_node *view, const sparoa_tensor *prepared)
{
    for (int32_t i = 0; i < view->n_in + view->n_out; i++) {
        const sparoa_tensor *t = value_at(view, i);
        if (t && (t->dtype != prepared[i].dtype || !sp_same_shape(t, &prepared[i]))) return false;
    }
    return true;
}

static void keep_shapes(const sparoa_node *view, sparoa_tensor *prepared)
{
    for (int32_t i = 0; i < view->n_in + view->n_out; i++)
        if (value_at(view, i)) prepared[i] = *value_at(view, i);
}

static bool is_output(const sp_graph *g, sp_id value)
{
    for (uint32_t i = 0; i < g->output_count; i++)
        if (g->outputs[i] == value) return true;
    return false;
}

/* A view of a dynamic value or a constant needs no memory of its own. */
static bool alias_dynamic_view(sp_frame *f, size_t i)
{
    const sp_gnode *n = &f->program->graph->nodes[i];
    if (!(n->op->flags & SPAROA_OP_VIEW) || f->nodes[i].view.n_out != 1 || n->in[0] == SP_NO_ID)
        return false;
    sp_place place = f->locations[n->in[0]].place;
    bool lasting = place == SP_PLACE_DYNAMIC || place == SP_PLACE_CONST ||
                   place == SP_PLACE_KNOWN || (place == SP_PLACE_INPUT && f->program->all_dynamic);
    if (!lasting || is_output(f->program->graph, n->out[0])) return false;
    f->tensors[n->out[0]].data = f->tensors[n->in[0]].data;
    return true;
}

static sparoa_status ready_dynamic(sp_frame *f, size_t i, sparoa_error *err)
{
    sp_program *p = f->program;
    const sp_gnode *n = &p->graph->nodes[i];
    sp_frame_node *fn = &f->nodes[i];
    const sparoa_allocator *a = &p->engine->alloc;
    SP_TRY(sp_infer_node(n->op, &fn->view, err));
    for (int32_t k = 0; k < n->n_out; k++) {
        sparoa_tensor *t = fn->view.out[k];
        if (!t) continue;
        if (!sp_known(t) || !sparoa_dtype_size(t->dtype))
            return sparoa_fail(err, SPAROA_INTERNAL, &fn->view,
                               "the shape of output %d is not known at run time", k);
    }
    if (!fn->ready || !same_shapes(&fn->view, fn->shapes)) {
        fn->workspace_bytes = 0;
        fn->ready = false;
        SP_TRY(p->engine->devices[0].table->node_prepare(sp_node_kernel(f, i), &fn->view,
                                                         &fn->prepared, &fn->workspace_bytes, err));
        keep_shapes(&fn->view, fn->shapes);
        fn->ready = true;
    }
    if (alias_dynamic_view(f, i)) return SPAROA_OK;
    for (int32_t k = 0; k < n->n_out; k++) {
        sparoa_tensor *t = fn->view.out[k];
        if (!t) continue;
        SP_TRY(sp_growable_reserve(&f->dynamic[n->out[k]], a, sparoa_tensor_bytes(t), err));
        t->data = f->dynamic[n->out[k]].data;
    }
    SP_TRY(sp_growable_reserve(&f->workspace, a, fn->workspace_bytes, err));
    fn->workspace = f->workspace.data;
    return SPAROA_OK;
}

/* ---- profile ---- */

static void add_zeros(const sparoa_tensor *t, double *sum, int64_t *count)
{
    double share = t ? sp_zero_share(t) : -1;
    if (share < 0) return;
    *sum += share;
    *count += 1;
}

static void record(sp_frame *f, size_t i, int64_t start, int64_t end)
{
    sp_node_stats *s = &f->program->slots[i].stats;
    int64_t ns = end - start;
    if (s->runs == 0 || ns < s->min_ns) s->min_ns = ns;
    s->runs++;
    s->total_ns += ns;
    s->last_ns = ns;
    s->last_start_ns = start - f->program->engine->run_start_ns;
    if (f->nodes[i].device == 0)
        add_zeros(sparoa_out(&f->nodes[i].view, 0), &s->output_zeros, &s->output_counted);
}

/* The observer reads host memory: a device's value is copied for it. */
static sparoa_status observe_value(sp_frame *f, size_t i, sp_id value, sparoa_error *err)
{
    const sp_engine *e = f->program->engine;
    const sp_value *v = &f->program->graph->values[value];
    int32_t device = f->nodes[i].device;
    sparoa_tensor t = f->sides[device].tensors[value];
    if (device) {
        const sp_device *d = &e->devices[device];
        size_t bytes = sparoa_tensor_bytes(&t);
        SP_TRY(sp_growable_reserve(&f->observed, &e->alloc, bytes, err));
        sparoa_status status = d->table->copy(d->queue, f->observed.data, t.data, bytes);
        if (status != SPAROA_OK) return sp_device_failed(d, status, "copying a value", err);
        SP_TRY(sp_device_sync(f->program->engine, d, d->queue, err));
        t.data = f->observed.data;
    }
    e->observer(e->observer_user, f->nodes[i].view.name, v->model_name ? v->model_name : v->name,
                &t, v->nhwc ? "NHWC" : NULL);
    return SPAROA_OK;
}

static sparoa_status observe(sp_frame *f, size_t i, sparoa_error *err)
{
    const sp_gnode *n = &f->program->graph->nodes[i];
    for (int32_t k = 0; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) SP_TRY(observe_value(f, i, n->out[k], err));
    return SPAROA_OK;
}

/* ---- nodes ---- */

static sparoa_status run_node(sp_frame *f, size_t i, sparoa_error *err)
{
    sp_program *p = f->program;
    sp_frame_node *fn = &f->nodes[i];
    const sp_device *d = &p->engine->devices[fn->device];
    if (fn->wait_count) SP_TRY(sp_frame_wait(f, fn, err));
    if (p->slots[i].n_programs) {
        SP_TRY(sp_control_run(f, i, err));
    } else {
        if (fn->dynamic) SP_TRY(ready_dynamic(f, i, err));
        SP_TRY(d->table->node_run(sp_node_kernel(f, i), fn->prepared, d->queue, sp_run_view(fn),
                                  fn->workspace, err));
    }
    return fn->transfer_count ? sp_frame_transfer(f, fn->transfers, fn->transfer_count, err)
                              : SPAROA_OK;
}

/* With a profile or an observer nothing overlaps: a device's node is waited for. */
static sparoa_status run_watched(sp_frame *f, size_t i, sparoa_error *err)
{
    sp_engine *e = f->program->engine;
    sp_node_stats *s = &f->program->slots[i].stats;
    const sp_frame_node *fn = &f->nodes[i];
    const sp_device *d = &e->devices[fn->device];
    /* before the node runs: it may work in place */
    if (!fn->device) SP_TRY(sp_frame_wait(f, fn, err));
    if (e->profile && !fn->device)
        add_zeros(sparoa_in(&fn->view, 0), &s->input_zeros, &s->input_counted);
    int64_t start = sp_now_ns();
    if (fn->device) {
        SP_TRY(d->table->node_run(sp_node_kernel(f, i), fn->prepared, d->queue, &fn->view,
                                  fn->workspace, err));
        SP_TRY(sp_device_sync(e, d, d->queue, err));
    } else {
        SP_TRY(run_node(f, i, err));
    }
    if (e->profile) record(f, i, start, sp_now_ns());
    return e->observer ? observe(f, i, err) : SPAROA_OK;
}

static sparoa_status watch_segment(sp_frame *f, sp_dev_segment *s, sparoa_error *err)
{
    SP_TRY(sp_segment_begin(f, s, err));
    for (uint32_t at = s->first; at < s->first + s->count; at++)
        if (!f->nodes[f->order[at]].skip) SP_TRY(run_watched(f, f->order[at], err));
    return sp_segment_end(f, s, err);
}

/* A view that is an alias does not run, but another side may read it. */
static sparoa_status pass_on(sp_frame *f, size_t i, sparoa_error *err)
{
    const sp_frame_node *fn = &f->nodes[i];
    SP_TRY(sp_frame_wait(f, fn, err));
    return sp_frame_transfer(f, fn->transfers, fn->transfer_count, err);
}

static sparoa_status run_traced(sp_frame *f, size_t i, bool watched, sparoa_error *err)
{
    const sparoa_node *view = &f->nodes[i].view;
    SP_TRY(sp_frame_wait(f, &f->nodes[i], err)); /* for copies: no work of the node's */
    int64_t start = sp_now_ns();
    SP_TRY(watched ? run_watched(f, i, err) : run_node(f, i, err));
    sp_trace_add(f->program->engine->trace, SP_TRACE_NODE, view->name, view->op, start, sp_now_ns(),
                 0, (int64_t)i);
    return SPAROA_OK;
}

static sparoa_status run_step(sp_frame *f, uint32_t i, bool watched, sparoa_error *err)
{
    const sp_frame_node *fn = &f->nodes[i];
    SP_TRY(sp_stop_check(f->program->engine->stop, err));
    if (fn->device) {
        sp_dev_segment *s = &f->segments[fn->segment];
        return watched ? watch_segment(f, s, err) : sp_segment_run(f, s, err);
    }
    if (fn->skip) return pass_on(f, i, err);
    if (fn->join) watched = false; /* it has not the values of one node */
    if (sp_trace_on(f->program->engine->trace)) return run_traced(f, i, watched, err);
    return watched ? run_watched(f, i, err) : run_node(f, i, err);
}

static sparoa_status run_nodes(sp_frame *f, sparoa_error *err)
{
    bool watched = f->program->engine->profile || f->program->engine->observer;
    uint32_t count = (uint32_t)f->program->graph->node_count;
    for (uint32_t at = 0, steps; at < count; at += steps) {
        uint32_t i = f->order[at];
        const sp_frame_node *fn = &f->nodes[i];
        if (sp_in_lanes(f, i)) { /* the host's alone: nodes are in the graph's order */
            SP_TRY(sp_stop_check(f->program->engine->stop, err));
            SP_TRY(sp_lanes_run(f, err));
            steps = f->lanes->last + 1 - i;
            continue;
        }
        steps = fn->device ? f->segments[fn->segment].count : 1;
        if (!fn->device && fn->skip && !fn->transfer_count) continue;
        sparoa_status status = run_step(f, i, watched, err);
        if (status == SPAROA_OK) continue;
        if (err && !err->node[0]) {
            size_t n = strnlen(fn->view.name, sizeof err->node - 1);
            memcpy(err->node, fn->view.name, n);
            err->node[n] = '\0';
        }
        return status;
    }
    return SPAROA_OK;
}

/* ---- inputs and outputs ---- */

static sparoa_status bind_outputs(sp_frame *f, const sparoa_tensor *outputs, const size_t *bytes,
                                  sparoa_error *err)
{
    const sp_graph *g = f->program->graph;
    for (uint32_t i = 0; i < g->output_count; i++) {
        sp_id v = g->outputs[i];
        const sp_location *at = &f->locations[v];
        if (at->place == SP_PLACE_DYNAMIC) continue;
        size_t need = sparoa_tensor_bytes(&f->tensors[v]);
        if (outputs[i].data && need > bytes[i])
            return sparoa_fail(err, SPAROA_BUFFER_TOO_SMALL, NULL,
                               "output '%.80s' needs %zu bytes, the buffer has %zu",
                               g->values[v].name, need, bytes[i]);
        void *to = outputs[i].data;
        if (!to) {
            SP_TRY(sp_growable_reserve(&f->own_outputs[i], &f->program->engine->alloc, need, err));
            to = f->own_outputs[i].data;
        }
        if (at->place == SP_PLACE_OUTPUT && at->output == i) f->tensors[v].data = to;
    }
    for (size_t k = 0; k < f->late_alias_count; k++) {
        sp_id v = f->late_aliases[k];
        f->tensors[v].data = f->tensors[f->locations[v].root].data;
    }
    return SPAROA_OK;
}

/* Values that are not already where they should be: constants, inputs, dynamic values, duplicates.
 */
static sparoa_status hand_over(sp_frame *f, sparoa_tensor *outputs, const size_t *bytes,
                               sparoa_error *err)
{
    const sp_graph *g = f->program->graph;
    for (uint32_t i = 0; i < g->output_count; i++) {
        sp_id v = g->outputs[i];
        const sparoa_tensor *t = &f->tensors[v];
        size_t need = sparoa_tensor_bytes(t);
        if (outputs[i].data && need > bytes[i])
            return sparoa_fail(err, SPAROA_BUFFER_TOO_SMALL, NULL,
                               "output '%.80s' needs %zu bytes, the buffer has %zu",
                               g->values[v].name, need, bytes[i]);
        if (f->locations[v].place == SP_PLACE_DYNAMIC && !outputs[i].data) continue;
        void *to = outputs[i].data ? outputs[i].data : f->own_outputs[i].data;
        if (to != t->data && need) memcpy(to, t->data, need);
    }
    for (uint32_t i = 0; i < g->output_count; i++) {
        const sparoa_tensor *t = &f->tensors[g->outputs[i]];
        void *data = outputs[i].data;
        if (!data)
            data = f->locations[g->outputs[i]].place == SP_PLACE_DYNAMIC ? t->data
                                                                         : f->own_outputs[i].data;
        outputs[i] = *t;
        outputs[i].data = data;
    }
    return SPAROA_OK;
}

sparoa_status sp_frame_run(sp_frame *frame, const sparoa_tensor *inputs,
                           sparoa_tensor *const *captures, sparoa_tensor *outputs,
                           const size_t *bytes, sparoa_error *err)
{
    const sp_graph *g = frame->program->graph;
    for (uint32_t i = 0; i < g->input_count; i++) {
        if (frame->program->all_dynamic)
            frame->tensors[g->inputs[i]] = inputs[i];
        else
            frame->tensors[g->inputs[i]].data = inputs[i].data;
    }
    for (uint32_t i = 0; i < g->capture_count; i++)
        frame->tensors[g->capture_values[i]] = *captures[i];
    SP_TRY(bind_outputs(frame, outputs, bytes, err));
    sparoa_status status = sp_frame_transfer(frame, 0, frame->input_transfers, err);
    if (status == SPAROA_OK) status = run_nodes(frame, err);
    if (status == SPAROA_OK && frame->segment_count) status = sp_frame_finish(frame, err);
    if (status != SPAROA_OK) {
        /* nothing may be under way in memory that the next run uses */
        if (frame->segment_count) sp_engine_drain(frame->program->engine, NULL);
        return status;
    }
    if (frame->segment_count && !frame->captured) sp_frame_capture(frame);
    return hand_over(frame, outputs, bytes, err);
}
