/* If and Loop. */
#include "engine/control.h"

#include <string.h>

#include "ops/op.h"

sparoa_status sp_growable_extend(sp_growable *g, const sparoa_allocator *alloc, size_t bytes,
                                 size_t keep, sparoa_error *err)
{
    if (bytes <= g->capacity && g->data) return SPAROA_OK;
    sp_growable old = *g;
    *g = (sp_growable){0};
    sparoa_status status =
        sp_growable_reserve(g, alloc, bytes > 2 * old.capacity ? bytes : 2 * old.capacity, err);
    if (status == SPAROA_OK && keep) memcpy(g->data, old.data, keep);
    sp_free(alloc, old.data, old.capacity);
    return status;
}

sparoa_status sp_body_io_make(sp_frame *frame, size_t node, int32_t program, sp_body_io *io,
                              sparoa_error *err)
{
    sp_slot *slot = &frame->program->slots[node];
    const sp_gnode *n = &frame->program->graph->nodes[node];
    const sp_graph *body = n->subgraphs[program];
    size_t n_in = body->input_count, n_out = body->output_count, n_captures = body->capture_count;
    size_t bytes = (n_in + n_out) * sizeof(sparoa_tensor) + n_captures * sizeof(sparoa_tensor *) +
                   n_out * sizeof(size_t);
    sp_growable *room = &slot->buffers[slot->n_buffers - 1];
    SP_TRY(sp_growable_reserve(room, &frame->program->engine->alloc, bytes, err));
    memset(room->data, 0, bytes);
    io->in = room->data;
    io->out = io->in + n_in;
    io->captures = (sparoa_tensor **)(io->out + n_out);
    io->bytes = (size_t *)(io->captures + n_captures);
    for (size_t k = 0; k < n_captures; k++)
        io->captures[k] = frame->nodes[node].view.in[body->capture_inputs[k]];
    return SPAROA_OK;
}

sparoa_status sp_body_run(sp_frame *frame, size_t node, int32_t program, sp_body_io *io,
                          sparoa_error *err)
{
    sp_frame *body = NULL;
    sp_program *p = frame->program->slots[node].programs[program];
    /* here too: a body need not have a node */
    SP_TRY(sp_stop_check(frame->program->engine->stop, err));
    SP_TRY(sp_program_frame(p, io->in, &body, err));
    for (uint32_t k = 0; k < p->graph->output_count; k++) io->out[k].data = NULL;
    return sp_frame_run(body, io->in, io->captures, io->out, io->bytes, err);
}

sparoa_status sp_control_set_output(sp_frame *frame, size_t node, int32_t k,
                                    const sparoa_tensor *value, sparoa_error *err)
{
    const sp_gnode *n = &frame->program->graph->nodes[node];
    if (n->out[k] == SP_NO_ID) return SPAROA_OK;
    sp_growable *memory = &frame->dynamic[n->out[k]];
    size_t bytes = sparoa_tensor_bytes(value);
    SP_TRY(sp_growable_reserve(memory, &frame->program->engine->alloc, bytes, err));
    if (bytes) memcpy(memory->data, value->data, bytes);
    sparoa_tensor *t = &frame->tensors[n->out[k]];
    *t = *value;
    t->data = memory->data;
    return SPAROA_OK;
}

static sparoa_status read_bool(const sparoa_node *view, const sparoa_tensor *t, bool *value,
                               sparoa_error *err)
{
    if (t->dtype != SPAROA_BOOL || sparoa_tensor_count(t) != 1)
        return sparoa_fail(err, SPAROA_TYPE_MISMATCH, view, "the condition must be one bool");
    *value = *(const uint8_t *)t->data != 0;
    return SPAROA_OK;
}

static sparoa_status run_if(sp_frame *frame, size_t node, sparoa_error *err)
{
    const sp_gnode *n = &frame->program->graph->nodes[node];
    const sparoa_node *view = &frame->nodes[node].view;
    bool condition = false;
    SP_TRY(read_bool(view, view->in[0], &condition, err));
    const sparoa_attr *branch = sparoa_attr_find(view, condition ? "then_branch" : "else_branch");
    if (!branch || branch->type != SPAROA_ATTR_GRAPH || branch->v.graph >= (uint32_t)n->n_subgraphs)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, view, "the branch is missing");
    sp_body_io io;
    SP_TRY(sp_body_io_make(frame, node, (int32_t)branch->v.graph, &io, err));
    SP_TRY(sp_body_run(frame, node, (int32_t)branch->v.graph, &io, err));
    for (int32_t k = 0; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID)
            frame->tensors[n->out[k]] = io.out[k]; /* lives until this node runs again */
    return SPAROA_OK;
}

typedef struct loop_state {
    sp_frame *frame;
    size_t node;
    sp_body_io io;
    int32_t carried;
    int64_t turn, limit;
    bool condition;
} loop_state;

/* Moves carried values to where the next turn reads them, and appends the scan outputs. */
static sparoa_status keep_outputs(loop_state *s, sparoa_error *err)
{
    sp_program *p = s->frame->program;
    const sp_gnode *n = &p->graph->nodes[s->node];
    const sparoa_allocator *a = &p->engine->alloc;
    sp_growable *buffers = p->slots[s->node].buffers;
    for (int32_t k = 0; k < n->n_out; k++) {
        const sparoa_tensor *value = &s->io.out[k + 1];
        size_t bytes = sparoa_tensor_bytes(value);
        if (k < s->carried) {
            SP_TRY(sp_growable_reserve(&buffers[k], a, bytes, err));
            if (bytes) memcpy(buffers[k].data, value->data, bytes);
            s->io.in[k + 2] = *value;
            s->io.in[k + 2].data = buffers[k].data;
            continue;
        }
        if (n->out[k] == SP_NO_ID) continue;
        sparoa_tensor *t = &s->frame->tensors[n->out[k]];
        bool same = t->rank == value->rank + 1 && t->dtype == value->dtype &&
                    memcmp(&t->dims[1], value->dims, (size_t)value->rank * sizeof t->dims[0]) == 0;
        if (value->rank + 1 > SPAROA_MAX_RANK || (s->turn > 0 && !same))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, &s->frame->nodes[s->node].view,
                               "scan output %d changes its shape at iteration %lld", k - s->carried,
                               (long long)s->turn);
        size_t done = bytes * (size_t)s->turn;
        SP_TRY(sp_growable_extend(&buffers[k], a, done + bytes, done, err));
        if (bytes) memcpy((char *)buffers[k].data + done, value->data, bytes);
        t->dtype = value->dtype;
        t->rank = value->rank + 1;
        t->dims[0] = s->turn + 1;
        memcpy(&t->dims[1], value->dims, (size_t)value->rank * sizeof t->dims[0]);
        t->data = buffers[k].data;
    }
    return read_bool(&s->frame->nodes[s->node].view, &s->io.out[0], &s->condition, err);
}

/* The shape of a scan output of no iterations: what the body's graph says, unknown dimensions as 0.
 */
static sparoa_status empty_scan_output(loop_state *s, int32_t k, sparoa_error *err)
{
    const sp_gnode *n = &s->frame->program->graph->nodes[s->node];
    const sp_graph *body = n->subgraphs[0];
    const sparoa_tensor *fact = &body->values[body->outputs[k + 1]].fact;
    sparoa_tensor t = {.dtype = fact->dtype, .rank = fact->rank < 0 ? 1 : fact->rank + 1};
    if (t.rank > SPAROA_MAX_RANK) t.rank = SPAROA_MAX_RANK;
    for (int32_t i = 1; i < t.rank; i++) t.dims[i] = fact->dims[i - 1] < 0 ? 0 : fact->dims[i - 1];
    return sp_control_set_output(s->frame, s->node, k, &t, err);
}

static sparoa_status start_loop(loop_state *s, sparoa_error *err)
{
    const sparoa_node *view = &s->frame->nodes[s->node].view;
    const sp_gnode *n = &s->frame->program->graph->nodes[s->node];
    const sparoa_tensor *trips = view->in[0], *condition = view->in[1];
    s->carried = n->n_explicit - 2;
    s->limit = INT64_MAX;
    s->condition = true;
    if (trips) {
        if (trips->dtype != SPAROA_INT64 || sparoa_tensor_count(trips) != 1)
            return sparoa_fail(err, SPAROA_TYPE_MISMATCH, view, "the trip count must be one int64");
        s->limit = *(const int64_t *)trips->data;
    }
    if (condition) SP_TRY(read_bool(view, condition, &s->condition, err));
    SP_TRY(sp_body_io_make(s->frame, s->node, 0, &s->io, err));
    for (int32_t k = 0; k < s->carried; k++) {
        if (!view->in[k + 2])
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, view,
                               "carried value %d has no initial value", k);
        s->io.in[k + 2] = *view->in[k + 2];
    }
    return SPAROA_OK;
}

static sparoa_status run_loop(sp_frame *frame, size_t node, sparoa_error *err)
{
    loop_state s = {.frame = frame, .node = node};
    SP_TRY(start_loop(&s, err));
    uint8_t condition = 1;
    for (; s.turn < s.limit && s.condition; s.turn++) {
        s.io.in[0] = (sparoa_tensor){.data = &s.turn, .dtype = SPAROA_INT64};
        s.io.in[1] = (sparoa_tensor){.data = &condition, .dtype = SPAROA_BOOL};
        SP_TRY(sp_body_run(frame, node, 0, &s.io, err));
        SP_TRY(keep_outputs(&s, err));
    }
    const sp_gnode *n = &frame->program->graph->nodes[node];
    for (int32_t k = 0; k < n->n_out; k++) {
        if (k < s.carried)
            SP_TRY(sp_control_set_output(frame, node, k, &s.io.in[k + 2], err));
        else if (s.turn == 0 && n->out[k] != SP_NO_ID)
            SP_TRY(empty_scan_output(&s, k, err));
    }
    return SPAROA_OK;
}

sparoa_status sp_control_run(sp_frame *frame, size_t node, sparoa_error *err)
{
    const char *op = frame->program->graph->nodes[node].op_type;
    if (strcmp(op, "If") == 0) return run_if(frame, node, err);
    if (strcmp(op, "Loop") == 0) return run_loop(frame, node, err);
    return sp_scan_run(frame, node, err);
}
