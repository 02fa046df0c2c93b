/* Memory by lifetime: which values of a side share memory, and where each lies. Nodes run in order,
 * and so do a device's queue and the copies in it, so a value lives from the node that writes it to
 * the last that reads it on that side, and a workspace for one node. Host memory that takes part in
 * a copy lives to the end of the run: the copy may be under way while the host goes on. Blocks are
 * placed largest first at the lowest offset that is free over their whole life. */
#include <stdlib.h>
#include <string.h>

#include "engine/lanes.h"
#include "ops/op.h"

typedef struct block {
    size_t bytes, offset;
    uint32_t first, last; /* nodes between which it must stay, both included */
    sp_id value;          /* SP_NO_ID: the workspace of node `first` */
    bool lanes;           /* the memory of all lanes */
} block;

typedef struct planner {
    sp_frame *f;
    const sp_graph *g;
    sp_side *side;
    int32_t device;
    bool *copied;     /* by value: comes to this side by a transfer */
    uint32_t *last;   /* by value: last node that reads it or an alias of it */
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
    if (!(n->op->flags & SPAROA_OP_INPLACE) || n->out[0] == SP_NO_ID || p->output[n->out[0]])
        return SP_NO_ID;
    size_t bytes = sparoa_tensor_bytes(&p->f->tensors[n->out[0]]);
    for (int32_t k = 0; k < n->n_in; k++) {
        if (n->in[k] == SP_NO_ID) continue;
        sp_id root = root_of(p, n->in[k]);
        if (p->side->locations[root].place != SP_PLACE_ARENA || p->last[root] != i) continue;
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

static void place_own(planner *p, size_t i, sp_id v)
{
    p->f->unshared_bytes += align_up(sparoa_tensor_bytes(&p->f->tensors[v]));
    if (p->output[v]) {
        p->side->locations[v] = (sp_location){.place = SP_PLACE_OUTPUT, .output = p->output[v] - 1};
        return;
    }
    p->side->locations[v].place = SP_PLACE_ARENA;
    if (p->last[v] < i) p->last[v] = (uint32_t)i;
}

/* Outputs of another side's node that are copied to this one. */
static void place_arrivals(planner *p, size_t i)
{
    const sp_gnode *n = &p->g->nodes[i];
    for (int32_t k = 0; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID && p->copied[n->out[k]] &&
            p->side->locations[n->out[k]].place == SP_PLACE_NONE)
            place_own(p, i, n->out[k]);
}

static void place_outputs(planner *p, size_t i)
{
    sp_frame *f = p->f;
    const sp_gnode *n = &p->g->nodes[i];
    if (f->nodes[i].device != p->device) {
        place_arrivals(p, i);
        return;
    }
    if (f->nodes[i].skip || f->nodes[i].dynamic) return;
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
            place_own(p, i, v);
        }
    }
}

/* Lifetimes on this side: what its own nodes read. Inputs and known values that are copied here
 * come first. */
static void find_lifetimes(planner *p)
{
    for (size_t i = 0; i < p->g->node_count; i++) {
        const sp_gnode *n = &p->g->nodes[i];
        if (p->f->nodes[i].device != p->device) continue;
        for (int32_t k = 0; k < n->n_in; k++)
            if (n->in[k] != SP_NO_ID) p->last[n->in[k]] = (uint32_t)i;
    }
    /* while one lane is at the last node, another may be at the first */
    for (uint32_t i = 0; p->f->lanes && i < p->f->lanes->edge_count; i++) {
        sp_id v = p->f->lanes->edges[i];
        if (p->last[v] < p->f->lanes->last) p->last[v] = p->f->lanes->last;
    }
    for (uint32_t i = 0; i < p->f->transfer_count; i++) {
        const sp_transfer *t = &p->f->transfers[i];
        if (p->device == 0) p->last[t->value] = UINT32_MAX;
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

/* Blocks inside a lane, or all others, the memory of the lanes among them. */
static void collect_blocks(planner *p, bool inner)
{
    sp_frame *f = p->f;
    const sp_lanes *lanes = f->lanes;
    p->count = 0;
    for (size_t v = 0; v < p->g->value_count; v++) {
        if (p->side->locations[v].place != SP_PLACE_ARENA || is_inner(p, (sp_id)v) != inner)
            continue;
        sp_id producer = p->g->values[v].producer;
        /* known values are copied to a device before the first node */
        if (p->f->locations[v].place == SP_PLACE_KNOWN) producer = SP_NO_ID;
        size_t bytes = sparoa_tensor_bytes(&f->tensors[v]), first = producer;
        if (producer == SP_NO_ID) first = 0;
        if (inner)
            bytes /= (size_t)lanes->batch;
        else if (producer != SP_NO_ID && sp_in_lanes(f, producer))
            first = lanes->first;
        add_block(p, align_up(bytes), first, p->last[v], (sp_id)v);
    }
    for (size_t i = 0; i < p->g->node_count; i++)
        if (f->nodes[i].workspace_bytes && !f->nodes[i].dynamic && !f->nodes[i].skip &&
            f->nodes[i].device == p->device && sp_in_lanes(f, i) == inner) {
            add_block(p, align_up(f->nodes[i].workspace_bytes), i, i, SP_NO_ID);
            f->unshared_bytes += align_up(f->nodes[i].workspace_bytes);
        }
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
        else if (b->value == SP_NO_ID)
            workspace_offsets[b->first] = b->offset;
        else
            p->side->locations[b->value].offset = b->offset;
    }
    return total;
}

static void plan_side(planner *p, size_t *placed, size_t *workspace_offsets)
{
    sp_lanes *lanes = p->device == 0 ? p->f->lanes : NULL;
    find_lifetimes(p);
    for (size_t i = 0; i < p->g->node_count; i++) place_outputs(p, i);
    if (lanes) {
        collect_blocks(p, true);
        lanes->lane_bytes = place_blocks(p, placed, workspace_offsets);
        for (size_t i = lanes->first; i <= lanes->last; i++)
            lanes->workspaces[i - lanes->first] = workspace_offsets[i];
    }
    collect_blocks(p, false);
    p->side->memory_bytes = place_blocks(p, placed, workspace_offsets);
}

sparoa_status sp_frame_plan_memory(sp_frame *frame, int32_t side, size_t *workspace_offsets,
                                   sparoa_error *err)
{
    const sparoa_allocator *a = &frame->program->engine->alloc;
    const sp_graph *g = frame->program->graph;
    planner p = {.f = frame, .g = g, .side = &frame->sides[side], .device = side};
    size_t n = g->value_count + g->node_count + 1;
    p.last = sp_calloc(a, g->value_count, sizeof *p.last);
    p.output = sp_calloc(a, g->value_count, sizeof *p.output);
    p.copied = sp_calloc(a, g->value_count, sizeof *p.copied);
    p.blocks = sp_calloc(a, n, sizeof *p.blocks);
    size_t *placed = sp_calloc(a, n, sizeof *placed);
    bool ok = p.last && p.output && p.copied && p.blocks && placed;
    if (ok) plan_side(&p, placed, workspace_offsets);
    sp_free(a, p.last, g->value_count * sizeof *p.last);
    sp_free(a, p.output, g->value_count * sizeof *p.output);
    sp_free(a, p.copied, g->value_count * sizeof *p.copied);
    sp_free(a, p.blocks, n * sizeof *p.blocks);
    sp_free(a, placed, n * sizeof *placed);
    return ok ? SPAROA_OK : sp_no_memory(a, n * sizeof *placed, err);
}
