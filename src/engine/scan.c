/* Scan: a body run along an axis of its inputs. Version 8 has a batch dimension in front of
 * everything, which is an outer loop here; later versions are the case of one batch without that
 * dimension. */
#include <string.h>

#include "engine/control.h"
#include "ops/op.h"

typedef struct scan_state {
    sp_frame *frame;
    size_t node;
    const sparoa_node *view;
    const sp_gnode *n;
    sp_body_io io;
    bool batched;
    int32_t first; /* input number of the first state */
    int32_t n_state, n_scan, n_out_scan;
    int64_t batches, length;
} scan_state;

static int64_t list_at(const scan_state *s, const char *name, int32_t i)
{
    size_t count;
    const int64_t *list = sparoa_attr_ints(s->view, name, &count);
    return (size_t)i < count ? list[i] : 0;
}

/* Axis of scan input i in the tensor as given (after the batch dimension in version 8). */
static sparoa_status input_axis(const scan_state *s, int32_t i, int32_t *axis, sparoa_error *err)
{
    const sparoa_tensor *t = s->view->in[s->first + s->n_state + i];
    if (s->batched) {
        *axis = 1;
        if (t->rank >= 2) return SPAROA_OK;
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, s->view,
                           "scan input %d has rank %d, expected 2 or more", i, t->rank);
    }
    return sp_axis(s->view, list_at(s, "scan_input_axes", i), t->rank, false, axis, err);
}

static sparoa_status start_scan(scan_state *s, sparoa_error *err)
{
    s->batched = s->n->version < 9;
    s->first = s->batched ? 1 : 0;
    s->n_scan = (int32_t)sparoa_attr_int(s->view, "num_scan_inputs", 1);
    s->n_state = s->n->n_explicit - s->first - s->n_scan;
    s->n_out_scan = s->n->n_out - s->n_state;
    if (s->n_scan < 1 || s->n_state < 0 || s->n_out_scan < 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, s->view,
                           "num_scan_inputs=%d does not fit %d inputs", s->n_scan,
                           s->n->n_explicit);
    if (s->batched && s->view->in[0])
        return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, s->view,
                           "sequence_lens of Scan version 8 is not supported");
    s->batches = 1;
    for (int32_t i = 0; i < s->n_state + s->n_scan; i++) {
        const sparoa_tensor *t = s->view->in[s->first + i];
        if (!t)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, s->view, "input %d is missing",
                               s->first + i);
        if (s->batched && t->rank < 1)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, s->view,
                               "input %d has no batch dimension", s->first + i);
        if (s->batched && i == 0) s->batches = t->dims[0];
        if (s->batched && t->dims[0] != s->batches)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, s->view,
                               "the inputs differ in batch size");
        int32_t axis;
        if (i < s->n_state) continue;
        SP_TRY(input_axis(s, i - s->n_state, &axis, err));
        if (i == s->n_state) s->length = t->dims[axis];
        if (t->dims[axis] != s->length)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, s->view,
                               "scan input %d has length %lld, the first %lld", i - s->n_state,
                               (long long)t->dims[axis], (long long)s->length);
    }
    return SPAROA_OK;
}

static void drop_dim(sparoa_tensor *t, int32_t axis)
{
    for (int32_t i = axis; i + 1 < t->rank; i++) t->dims[i] = t->dims[i + 1];
    t->rank--;
}

/* Slice `turn` of scan input i of batch b: copied together unless it is contiguous already. */
static sparoa_status feed_slice(scan_state *s, int64_t b, int32_t i, int64_t turn,
                                sparoa_error *err)
{
    const sparoa_tensor *t = s->view->in[s->first + s->n_state + i];
    sparoa_tensor *to = &s->io.in[s->n_state + i];
    int32_t axis;
    SP_TRY(input_axis(s, i, &axis, err));
    int64_t at = list_at(s, s->batched ? "directions" : "scan_input_directions", i)
                     ? s->length - 1 - turn
                     : turn;
    int32_t from = s->batched ? 1 : 0;
    size_t inner = (size_t)sp_dims_product(t, axis + 1, t->rank) * sparoa_dtype_size(t->dtype);
    int64_t outer = sp_dims_product(t, from, axis);
    const char *base =
        (const char *)t->data + (size_t)b * (size_t)outer * (size_t)s->length * inner;
    *to = *t;
    drop_dim(to, axis);
    if (s->batched) drop_dim(to, 0);
    if (outer == 1) {
        to->data = (void *)(base + (size_t)at * inner);
        return SPAROA_OK;
    }
    sp_growable *room =
        &s->frame->program->slots[s->node].buffers[s->n->n_out + s->first + s->n_state + i];
    SP_TRY(
        sp_growable_reserve(room, &s->frame->program->engine->alloc, (size_t)outer * inner, err));
    for (int64_t o = 0; o < outer; o++)
        memcpy((char *)room->data + (size_t)o * inner,
               base + ((size_t)o * (size_t)s->length + (size_t)at) * inner, inner);
    to->data = room->data;
    return SPAROA_OK;
}

static void feed_states(scan_state *s, int64_t b)
{
    for (int32_t k = 0; k < s->n_state; k++) {
        s->io.in[k] = *s->view->in[s->first + k];
        if (!s->batched) continue;
        drop_dim(&s->io.in[k], 0);
        s->io.in[k].data = (char *)s->io.in[k].data + (size_t)b * sparoa_tensor_bytes(&s->io.in[k]);
    }
}

/* True where `count` values of `bytes` fill the tensor exactly. */
static bool fills(const sparoa_tensor *t, size_t bytes, int64_t count)
{
    size_t all;
    return !__builtin_mul_overflow(bytes, (size_t)count, &all) && all == sparoa_tensor_bytes(t);
}

/* Sets shape and memory of output k from the body's value, with the batch and scan dimensions put
 * in. */
static sparoa_status shape_output(scan_state *s, int32_t k, int32_t axis,
                                  const sparoa_tensor *value, sparoa_error *err)
{
    sparoa_tensor *t = &s->frame->tensors[s->n->out[k]];
    int32_t extra = (s->batched ? 1 : 0) + (axis >= 0 ? 1 : 0), d = 0;
    if (value->rank + extra > SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, s->view, "output %d would have rank %d", k,
                           value->rank + extra);
    t->dtype = value->dtype;
    t->rank = value->rank + extra;
    if (s->batched) t->dims[d++] = s->batches;
    for (int32_t i = 0; i <= value->rank; i++) {
        if (i == axis) t->dims[d++] = s->length;
        if (i < value->rank) t->dims[d++] = value->dims[i];
    }
    SP_TRY(sp_check_shape(s->view, t, err));
    sp_growable *memory = &s->frame->dynamic[s->n->out[k]];
    SP_TRY(sp_growable_reserve(memory, &s->frame->program->engine->alloc, sparoa_tensor_bytes(t),
                               err));
    t->data = memory->data;
    return SPAROA_OK;
}

static sparoa_status store_scan_output(scan_state *s, int64_t b, int32_t i, int64_t turn,
                                       sparoa_error *err)
{
    int32_t k = s->n_state + i, axis = 0;
    const sparoa_tensor *value = &s->io.out[k];
    if (s->n->out[k] == SP_NO_ID) return SPAROA_OK;
    sparoa_tensor *t = &s->frame->tensors[s->n->out[k]];
    if (!s->batched)
        SP_TRY(sp_axis(s->view, list_at(s, "scan_output_axes", i), value->rank + 1, false, &axis,
                       err));
    if (b == 0 && turn == 0) SP_TRY(shape_output(s, k, axis, value, err));
    size_t bytes = sparoa_tensor_bytes(value);
    if (!fills(t, bytes, s->length * s->batches))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, s->view, "scan output %d changes its shape",
                           i);
    int64_t at =
        !s->batched && list_at(s, "scan_output_directions", i) ? s->length - 1 - turn : turn;
    int64_t outer = sp_dims_product(value, 0, axis);
    size_t inner = outer ? bytes / (size_t)outer : 0;
    char *base = (char *)t->data + (size_t)b * (size_t)s->length * bytes;
    for (int64_t o = 0; o < outer; o++)
        memcpy(base + ((size_t)o * (size_t)s->length + (size_t)at) * inner,
               (const char *)value->data + (size_t)o * inner, inner);
    return SPAROA_OK;
}

static sparoa_status keep_states(scan_state *s, sparoa_error *err)
{
    sp_program *p = s->frame->program;
    for (int32_t k = 0; k < s->n_state; k++) {
        const sparoa_tensor *value = &s->io.out[k];
        sp_growable *room = &p->slots[s->node].buffers[k];
        size_t bytes = sparoa_tensor_bytes(value);
        SP_TRY(sp_growable_reserve(room, &p->engine->alloc, bytes, err));
        if (bytes) memcpy(room->data, value->data, bytes);
        s->io.in[k] = *value;
        s->io.in[k].data = room->data;
    }
    return SPAROA_OK;
}

static sparoa_status store_states(scan_state *s, int64_t b, sparoa_error *err)
{
    for (int32_t k = 0; k < s->n_state; k++) {
        if (s->n->out[k] == SP_NO_ID) continue;
        const sparoa_tensor *value = &s->io.in[k];
        if (b == 0) SP_TRY(shape_output(s, k, -1, value, err));
        size_t bytes = sparoa_tensor_bytes(value);
        sparoa_tensor *t = &s->frame->tensors[s->n->out[k]];
        if (!fills(t, bytes, s->batches))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, s->view,
                               "state %d differs between batches", k);
        if (bytes) memcpy((char *)t->data + (size_t)b * bytes, value->data, bytes);
    }
    return SPAROA_OK;
}

/* No iterations: the shapes come from the body's graph, unknown dimensions as 0. */
static sparoa_status empty_outputs(scan_state *s, sparoa_error *err)
{
    const sp_graph *body = s->n->subgraphs[0];
    for (int32_t k = s->n_state; k < s->n->n_out; k++) {
        if (s->n->out[k] == SP_NO_ID) continue;
        sparoa_tensor value = body->values[body->outputs[k]].fact;
        if (value.rank < 0) value.rank = 0;
        for (int32_t i = 0; i < value.rank; i++)
            if (value.dims[i] < 0) value.dims[i] = 0;
        int32_t axis = 0;
        if (!s->batched)
            SP_TRY(sp_axis(s->view, list_at(s, "scan_output_axes", k - s->n_state), value.rank + 1,
                           false, &axis, err));
        SP_TRY(shape_output(s, k, axis, &value, err));
    }
    return SPAROA_OK;
}

sparoa_status sp_scan_run(sp_frame *frame, size_t node, sparoa_error *err)
{
    scan_state s = {.frame = frame,
                    .node = node,
                    .view = &frame->nodes[node].view,
                    .n = &frame->program->graph->nodes[node]};
    SP_TRY(start_scan(&s, err));
    SP_TRY(sp_body_io_make(frame, node, 0, &s.io, err));
    if (s.length == 0 || s.batches == 0) SP_TRY(empty_outputs(&s, err));
    for (int64_t b = 0; b < s.batches; b++) {
        feed_states(&s, b);
        for (int64_t turn = 0; turn < s.length; turn++) {
            for (int32_t i = 0; i < s.n_scan; i++) SP_TRY(feed_slice(&s, b, i, turn, err));
            SP_TRY(sp_body_run(frame, node, 0, &s.io, err));
            for (int32_t i = 0; i < s.n_out_scan; i++)
                SP_TRY(store_scan_output(&s, b, i, turn, err));
            SP_TRY(keep_states(&s, err));
        }
        SP_TRY(store_states(&s, b, err));
    }
    return SPAROA_OK;
}
