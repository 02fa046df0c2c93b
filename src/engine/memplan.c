/* Memory by lifetime: which values of a side share memory, and where each lies. Nodes run in the
 * frame's order, and so does a device's queue, so a value lives from the node that writes it to the
 * last that reads it on that side, and a workspace for one node. Copies have queues of their own:
 * what takes part in one lives to the end of the run, and on a device that it is copied to from the
 * beginning, as nothing there keeps the copy behind earlier nodes. Times are positions in the
 * order. Blocks are placed largest first at the lowest offset that is free over their whole life.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/joined.h"
#include "engine/lanes.h"
#include "ops/op.h"

typedef struct block {
    size_t bytes, offset;
    uint32_t first, last; /* positions between which it must stay, both included */
    sp_id value;          /* SP_NO_ID: not a value ... */
    sp_transfer *staging; /* ... but where this copy's input lies meanwhile, or, if NULL, the
                             workspace of the node at `first` */
    bool lanes;           /* the memory of all lanes */
} block;

typedef struct planner {
    sp_frame *f;
    const sp_graph *g;
    sp_side *side;
    int32_t device;
    bool *copied;     /* by value: comes to this side by a transfer */
    bool *shared;     /* by value: lies in the host's memory */
    uint32_t *last;   /* by value: position of the last node that reads it or an alias of it */
    uint32_t *output; /* by value: graph output index + 1, or 0 */
    block *blocks;
    size_t count;
} planner;

static size_t align_up(size_t n)
{
    return (n + SP_ALIGN - 1) / SP_ALIGN * SP_ALIGN;
}

static sp_id root_of(const planner *p, sp_id value)
{
    const sp_location *at = &p->side->locations[value];
    return at->place == SP_PLACE_ALIAS ? at->root : value;
}

/* A value of which each lane has that of one image. */
static bool is_inner(const planner *p, sp_id value)
{
    return p->f->lanes && p->f->lanes->inner[value];
}

/* Views share their input's memory, except where the result is an output of the graph. */
static bool alias_view(planner *p, size_t i)
{
    const sp_gnode *n = &p->g->nodes[i];
    if (!(n->op->flags & SPAROA_OP_VIEW) || n->in[0] == SP_NO_ID || n->out[0] == SP_NO_ID)
        return false;
    for (int32_t k = 1; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) return false;
    if (p->output[n->out[0]]) return false;
    sp_id root = root_of(p, n->in[0]);
    if (sparoa_tensor_bytes(&p->f->tensors[n->out[0]]) !=
        sparoa_tensor_bytes(&p->f->tensors[n->in[0]]))
        return false;
    p->side->locations[n->out[0]] = (sp_location){.place = SP_PLACE_ALIAS, .root = root};
    if (p->last[n->out[0]] > p->last[root]) p->last[root] = p->last[n->out[0]];
    p->f->nodes[i].skip = true;
    return true;
}

/* The root of an input whose memory the node's first output may take over, or SP_NO_ID. */
static sp_id inplace_root(const planner *p, size_t i)
{
    const sp_gnode *n = &p->g->nodes[i];
    if (!(n->op->flags & SPAROA_OP_INPLACE) || n->out[0] == SP_NO_ID || p->output[n->out[0]] ||
        p->shared[n->out[0]])
        return SP_NO_ID;
    size_t bytes = sparoa_tensor_bytes(&p->f->tensors[n->out[0]]);
    for (int32_t k = 0; k < n->n_in; k++) {
        if (n->in[k] == SP_NO_ID) continue;
        sp_id root = root_of(p, n->in[k]);
        if (p->side->locations[root].place != SP_PLACE_ARENA ||
            p->last[root] != p->f->nodes[i].position)
            continue;
        if (is_inner(p, root) != is_inner(p, n->out[0])) continue;
        if (sparoa_tensor_bytes(&p->f->tensors[n->in[k]]) != bytes ||
            p->f->tensors[n->in[k]].dtype != p->f->tensors[n->out[0]].dtype ||
            sparoa_tensor_bytes(&p->f->tensors[root]) != bytes)
            continue;
        bool shared = false;
        for (int32_t j = 0; j < n->n_in; j++)
            if (j != k && n->in[j] != SP_NO_ID && n->in[j] != n->in[k] &&
                root_of(p, n->in[j]) == root)
                shared = true;
        if (!shared) return root;
    }
    return SP_NO_ID;
}

/* An output that a device makes arrives in the frame's own memory, which stays if it comes late. */
static void place_own(planner *p, uint32_t position, sp_id v)
{
    p->f->unshared_bytes += align_up(sparoa_tensor_bytes(&p->f->tensors[v]));
    if (p->output[v] && !p->copied[v]) {
        p->side->locations[v] = (sp_location){.place = SP_PLACE_OUTPUT, .output = p->output[v] - 1};
        return;
    }
    p->side->locations[v].place = SP_PLACE_ARENA;
    if (p->last[v] < position) p->last[v] = position;
}

/* Outputs of another side's node that are copied to this one. */
static void place_arrivals(planner *p, size_t i)
{
    const sp_gnode *n = &p->g->nodes[i];
    for (int32_t k = 0; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID && p->copied[n->out[k]] &&
            p->side->locations[n->out[k]].place == SP_PLACE_NONE)
            place_own(p, p->f->nodes[i].position, n->out[k]);
}

static void place_outputs(planner *p, size_t i)
{
    sp_frame *f = p->f;
    const sp_gnode *n = &p->g->nodes[i];
    if (f->nodes[i].device != p->device) {
        place_arrivals(p, i);
        return;
    }
    if ((f->nodes[i].skip && !sp_is_kept(f, (uint32_t)i)) || f->nodes[i].dynamic) return;
    if (alias_view(p, i)) return;
    sp_id reuse = inplace_root(p, i);
    for (int32_t k = 0; k < n->n_out; k++) {
        sp_id v = n->out[k];
        if (v == SP_NO_ID) continue;
        if (k == 0 && reuse != SP_NO_ID) {
            f->unshared_bytes += align_up(sparoa_tensor_bytes(&f->tensors[v]));
            p->side->locations[v] = (sp_location){.place = SP_PLACE_ALIAS, .root = reuse};
            if (p->last[v] > p->last[reuse]) p->last[reuse] = p->last[v];
        } else {
            place_own(p, f->nodes[i].position, v);
        }
    }
}

/* Lifetimes on this side: what its own nodes read. Inputs and known values that are copied here
 * come first. */
static void find_lifetimes(planner *p)
{
    for (uint32_t at = 0; at < p->g->node_count; at++) {
        const sp_gnode *n = &p->g->nodes[p->f->order[at]];
        if (p->f->nodes[p->f->order[at]].device != p->device) continue;
        const uint32_t until = p->f->nodes[sp_runs_in(p->f, p->f->order[at])].position;
        for (int32_t k = 0; k < n->n_in; k++)
            if (n->in[k] != SP_NO_ID && p->last[n->in[k]] < until) p->last[n->in[k]] = until;
    }
    /* while one lane is at the last node, another may be at the first */
    for (uint32_t i = 0; p->f->lanes && i < p->f->lanes->edge_count; i++) {
        sp_id v = p->f->lanes->edges[i];
        if (p->last[v] < p->f->lanes->last) p->last[v] = p->f->lanes->last;
    }
    for (uint32_t i = 0; i < p->f->transfer_count; i++) {
        const sp_transfer *t = &p->f->transfers[i];
        if (t->from == p->device || t->to == p->device) p->last[t->value] = UINT32_MAX;
        if (p->device && t->shared && t->from == p->device) p->shared[t->value] = true;
        if (t->to != p->device) continue;
        p->copied[t->value] = true;
        if (t->after == 0) place_own(p, 0, t->value);
    }
    for (uint32_t i = p->g->output_count; i-- > 0 && p->device == 0;) {
        p->output[p->g->outputs[i]] = i + 1;
        p->last[p->g->outputs[i]] = UINT32_MAX;
    }
}

static void add_block(planner *p, size_t bytes, size_t first, size_t last, sp_id value)
{
    p->blocks[p->count++] =
        (block){.bytes = bytes, .first = (uint32_t)first, .last = (uint32_t)last, .value = value};
}

/* What the caller's inputs are copied to on their way to a device. */
static void add_staging(planner *p)
{
    const sp_frame *f = p->f;
    for (uint32_t i = 0; i < f->transfer_count; i++) {
        sp_transfer *t = &f->transfers[i];
        bool callers = p->side->locations[root_of(p, t->value)].place == SP_PLACE_INPUT;
        if (t->from || !callers || !f->program->engine->devices[t->to].idle) continue;
        add_block(p, align_up(sparoa_tensor_bytes(&f->tensors[t->value])), 0, UINT32_MAX, SP_NO_ID);
        p->blocks[p->count - 1].staging = t;
    }
}

/* What this device and the host have in common needs no room here; but a view does not lie in the
 * host's memory. */
static void find_shared(planner *p)
{
    for (uint32_t i = 0; p->device && i < p->f->transfer_count; i++) {
        sp_transfer *t = &p->f->transfers[i];
        if (!t->shared || t->from + t->to != p->device) continue;
        t->shared = p->side->locations[t->value].place == SP_PLACE_ARENA;
        p->shared[t->value] = t->shared;
    }
}

/* Blocks inside a lane, or all others, the memory of the lanes among them. */
static void collect_blocks(planner *p, bool inner)
{
    sp_frame *f = p->f;
    const sp_lanes *lanes = f->lanes;
    p->count = 0;
    for (size_t v = 0; v < p->g->value_count; v++) {
        if (p->side->locations[v].place != SP_PLACE_ARENA || is_inner(p, (sp_id)v) != inner)
            continue;
        if (p->shared[v]) continue;
        sp_id producer = p->g->values[v].producer;
        /* known values are copied to a device before the first node */
        if (p->f->locations[v].place == SP_PLACE_KNOWN) producer = SP_NO_ID;
        if (p->device && p->copied[v]) producer = SP_NO_ID;
        size_t bytes = sparoa_tensor_bytes(&f->tensors[v]);
        size_t first = producer == SP_NO_ID ? 0 : f->nodes[producer].position;
        if (inner)
            bytes /= (size_t)lanes->batch;
        else if (producer != SP_NO_ID && sp_in_lanes(f, producer))
            first = lanes->first;
        add_block(p, align_up(bytes), first, p->last[v], (sp_id)v);
    }
    for (size_t i = 0; i < p->g->node_count; i++)
        if (f->nodes[i].workspace_bytes && !f->nodes[i].dynamic && !f->nodes[i].skip &&
            f->nodes[i].device == p->device && sp_in_lanes(f, i) == inner) {
            size_t at = f->nodes[i].position;
            add_block(p, align_up(f->nodes[i].workspace_bytes), at, at, SP_NO_ID);
            f->unshared_bytes += align_up(f->nodes[i].workspace_bytes);
        }
    if (!inner && p->device == 0) add_staging(p);
    if (inner || !lanes || p->device != 0) return;
    add_block(p, lanes->lane_bytes * (size_t)lanes->count, lanes->first, lanes->last, SP_NO_ID);
    p->blocks[p->count - 1].lanes = true;
}

static int larger_first(const void *a, const void *b)
{
    const block *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* placed: indices of blocks already placed, by offset. */
static void place_block(block *blocks, size_t *placed, size_t n_placed, size_t index)
{
    block *b = &blocks[index];
    size_t at = 0;
    for (size_t k = 0; k < n_placed; k++) {
        const block *o = &blocks[placed[k]];
        if (o->last < b->first || o->first > b->last) continue;
        if (at + b->bytes <= o->offset) break;
        if (o->offset + o->bytes > at) at = o->offset + o->bytes;
    }
    b->offset = at;
    size_t k = n_placed;
    while (k > 0 && blocks[placed[k - 1]].offset > at) {
        placed[k] = placed[k - 1];
        k--;
    }
    placed[k] = index;
}

/* Gives every block its place; returns the bytes that they take together. */
static size_t place_blocks(planner *p, size_t *placed, size_t *workspace_offsets)
{
    size_t total = 0;
    qsort(p->blocks, p->count, sizeof *p->blocks, larger_first);
    for (size_t i = 0; i < p->count; i++) {
        place_block(p->blocks, placed, i, i);
        const block *b = &p->blocks[i];
        if (b->offset + b->bytes > total) total = b->offset + b->bytes;
        if (b->lanes)
            p->f->lanes->offset = b->offset;
        else if (b->staging)
            b->staging->staging_offset = b->offset + 1;
        else if (b->value == SP_NO_ID)
            workspace_offsets[p->f->order[b->first]] = b->offset;
        else
            p->side->locations[b->value].offset = b->offset;
    }
    return total;
}

static void plan_side(planner *p, size_t *placed, size_t *workspace_offsets)
{
    sp_lanes *lanes = p->device == 0 ? p->f->lanes : NULL;
    find_lifetimes(p);
    for (size_t at = 0; at < p->g->node_count; at++) place_outputs(p, p->f->order[at]);
    if (lanes) {
        collect_blocks(p, true);
        lanes->lane_bytes = place_blocks(p, placed, workspace_offsets);
        for (size_t i = lanes->first; i <= lanes->last; i++)
            lanes->workspaces[i - lanes->first] = workspace_offsets[i];
    }
    find_shared(p);
    collect_blocks(p, false);
    p->side->memory_bytes = place_blocks(p, placed, workspace_offsets);
}

sparoa_status sp_frame_plan_memory(sp_frame *frame, int32_t side, size_t *workspace_offsets,
                                   sparoa_error *err)
{
    const sparoa_allocator *a = &frame->program->engine->alloc;
    const sp_graph *g = frame->program->graph;
    planner p = {.f = frame, .g = g, .side = &frame->sides[side], .device = side};
    size_t n = g->value_count + g->node_count + frame->transfer_count + 1;
    p.last = sp_calloc(a, g->value_count, sizeof *p.last);
    p.output = sp_calloc(a, g->value_count, sizeof *p.output);
    p.copied = sp_calloc(a, g->value_count, sizeof *p.copied);
    p.shared = sp_calloc(a, g->value_count, sizeof *p.shared);
    p.blocks = sp_calloc(a, n, sizeof *p.blocks);
    size_t *placed = sp_calloc(a, n, sizeof *placed);
    bool ok = p.last && p.output && p.copied && p.shared && p.blocks && placed;
    if (ok) plan_side(&p, placed, workspace_offsets);
    sp_free(a, p.last, g->value_count * sizeof *p.last);
    sp_free(a, p.output, g->value_count * sizeof *p.output);
    sp_free(a, p.copied, g->value_count * sizeof *p.copied);
    sp_free(a, p.shared, g->value_count * sizeof *p.shared);
    sp_free(a, p.blocks, n * sizeof *p.blocks);
    sp_free(a, placed, n * sizeof *placed);
    return ok ? SPAROA_OK : sp_no_memory(a, n * sizeof *placed, err);
}
