#include "engine/lanes.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "engine/joined.h"
#include "graph/infer.h"
#include "ops/op.h"

#define MIN_GAIN 1e6 /* bytes that need not pass through the outer caches */

static sparoa_status no_memory(sp_frame *f, sparoa_error *err)
{
    return sp_no_memory(&f->program->engine->alloc, 4096, err);
}

static bool is_parameter(const sp_frame *f, sp_id value)
{
    sp_place place = f->locations[value].place;
    return place == SP_PLACE_CONST || place == SP_PLACE_KNOWN;
}

/* ---- choosing ---- */

/* The batch that a node can be run through image by image; 0: it can't. */
static int64_t batch_of(const sp_frame *f, size_t i)
{
    const sp_gnode *n = &f->program->graph->nodes[i];
    const uint32_t by_image = SPAROA_OP_BY_IMAGE | SPAROA_OP_UNARY_POINTWISE | SPAROA_OP_BROADCASTS;
    const sp_frame_node *fn = &f->nodes[i];
    if (!(n->op->flags & by_image) || n->op->flags & (SPAROA_OP_RANDOM | SPAROA_OP_VIEW)) return 0;
    if (fn->skip || fn->dynamic) return 0;
    for (int32_t k = 1; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) return 0;
    const sparoa_tensor *out = sparoa_out(&fn->view, 0);
    if (!out || out->rank < 2 || sp_count(out) == 0) return 0;
    for (int32_t k = 0; k < n->n_in; k++) {
        const sparoa_tensor *in = sparoa_in(&fn->view, k);
        if (!in || is_parameter(f, n->in[k])) continue;
        if (in->rank != out->rank || in->dims[0] != out->dims[0]) return 0;
    }
    return out->dims[0];
}

/* What a batch's output no longer goes through, less the weights that every image reads anew. */
static double gain_of(const sp_frame *f, size_t i, int64_t batch)
{
    const sp_gnode *n = &f->program->graph->nodes[i];
    double gain = (double)sparoa_tensor_bytes(f->nodes[i].view.out[0]);
    for (int32_t k = 0; k < n->n_in; k++)
        if (n->in[k] != SP_NO_ID && is_parameter(f, n->in[k]))
            gain -= (double)sparoa_tensor_bytes(&f->tensors[n->in[k]]) * (double)(batch - 1);
    return gain;
}

/* The stretch of largest gain among those of one batch size without a gap. */
static bool find_stretch(const sp_frame *f, sp_lanes *l)
{
    double best = MIN_GAIN, sum = 0;
    int64_t batch = 0;
    size_t start = 0;
    for (size_t i = 0; i < f->program->graph->node_count; i++) {
        int64_t b = batch_of(f, i);
        if (b != batch || sum <= 0) sum = 0, start = i;
        batch = b;
        if (b < 2) continue;
        sum += gain_of(f, i, b);
        if (sum <= best) continue;
        best = sum;
        l->first = (uint32_t)start, l->last = (uint32_t)i;
        l->batch = b;
    }
    return best > MIN_GAIN;
}

/* Sorts the values that the stretch touches into inner ones and edges. */
static void sort_values(const sp_frame *f, sp_lanes *l)
{
    const sp_graph *g = f->program->graph;
    for (size_t i = l->first; i <= l->last; i++) l->inner[g->nodes[i].out[0]] = true;
    for (size_t i = 0; i < g->node_count; i++) {
        if (i >= l->first && i <= l->last) continue;
        for (int32_t k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] != SP_NO_ID) l->inner[g->nodes[i].in[k]] = false;
    }
    for (uint32_t k = 0; k < g->output_count; k++) l->inner[g->outputs[k]] = false;
    for (size_t i = l->first; i <= l->last; i++) {
        const sp_gnode *n = &g->nodes[i];
        for (int32_t k = 0; k <= n->n_in; k++) {
            sp_id v = k < n->n_in ? n->in[k] : n->out[0];
            if (v == SP_NO_ID || l->inner[v] || is_parameter(f, v)) continue;
            bool seen = false;
            for (uint32_t j = 0; j < l->edge_count; j++) seen |= l->edges[j] == v;
            if (!seen) l->edges[l->edge_count++] = v;
        }
    }
}

static sparoa_tensor *lane_tensor(sp_frame *f, const sp_lane *lane, sp_id v)
{
    return is_parameter(f, v) ? &f->tensors[v] : &lane->tensors[v];
}

/* Views of the stretch's nodes for one image. */
static sparoa_status make_lane(sp_frame *f, const sp_lanes *l, sp_lane *lane, sparoa_error *err)
{
    const sp_graph *g = f->program->graph;
    size_t nodes = l->last - l->first + 1;
    lane->tensors = sp_arena_alloc(&f->arena, g->value_count * sizeof *lane->tensors);
    lane->views = sp_arena_alloc(&f->arena, nodes * sizeof *lane->views);
    lane->prepared = sp_arena_alloc(&f->arena, nodes * sizeof *lane->prepared);
    if (!lane->tensors || !lane->views || !lane->prepared) return no_memory(f, err);
    memset(lane->prepared, 0, nodes * sizeof *lane->prepared);
    for (size_t v = 0; v < g->value_count; v++) {
        lane->tensors[v] = f->tensors[v];
        if (lane->tensors[v].rank > 0) lane->tensors[v].dims[0] = 1;
        lane->tensors[v].data = NULL;
    }
    for (size_t i = 0; i < nodes; i++) {
        const sp_gnode *n = &g->nodes[l->first + i];
        sparoa_node *view = &lane->views[i];
        *view = f->nodes[l->first + i].view;
        sparoa_tensor **in =
            sp_arena_alloc(&f->arena, (size_t)(view->n_in + view->n_out) * sizeof *in);
        if (!in) return no_memory(f, err);
        sparoa_tensor **out = in + view->n_in;
        for (int32_t k = 0; k < view->n_in; k++)
            in[k] = view->in[k] ? lane_tensor(f, lane, n->in[k]) : NULL;
        for (int32_t k = 0; k < view->n_out; k++)
            out[k] = view->out[k] ? lane_tensor(f, lane, n->out[k]) : NULL;
        view->in = in;
        view->out = out;
    }
    return SPAROA_OK;
}

/* Inference agrees that one image in gives one image out. */
static bool separable(const sp_frame *f, const sp_lanes *l, const sp_lane *lane)
{
    for (size_t i = 0; i <= l->last - l->first; i++) {
        sparoa_tensor *out = lane->views[i].out[0], expected = *out;
        const sp_gnode *n = &f->program->graph->nodes[l->first + i];
        if (sp_infer_node(n->op, &lane->views[i], NULL) != SPAROA_OK) return false;
        if (out->dtype != expected.dtype || !sp_same_shape(out, &expected)) return false;
    }
    return true;
}

static int32_t lane_count(const sp_frame *f, int64_t batch)
{
    int32_t threads = sp_pool_threads(f->program->engine->pool);
    int64_t turns = (batch + threads - 1) / threads;
    /* threads without an image had better share the nodes of the others */
    return batch * 5 >= turns * threads * 4 ? (batch < threads ? (int32_t)batch : threads) : 0;
}

sparoa_status sp_lanes_choose(sp_frame *f, sparoa_error *err)
{
    const sp_engine *e = f->program->engine;
    const sp_graph *g = f->program->graph;
    if (!e->devices[0].table->node_prepare_lane || !sp_values_are_free(f)) return SPAROA_OK;
    sp_lanes found = {0};
    if (!find_stretch(f, &found) || !(found.count = lane_count(f, found.batch))) return SPAROA_OK;
    size_t nodes = found.last - found.first + 1;
    sp_lanes *l = sp_arena_alloc(&f->arena, sizeof *l);
    if (!l) return no_memory(f, err);
    *l = found;
    l->lanes = sp_arena_alloc(&f->arena, (size_t)l->count * sizeof *l->lanes);
    l->inner = sp_arena_alloc(&f->arena, g->value_count * sizeof *l->inner);
    l->edges = sp_arena_alloc(&f->arena, g->value_count * sizeof *l->edges);
    l->workspaces = sp_arena_alloc(&f->arena, nodes * sizeof *l->workspaces);
    if (!l->lanes || !l->inner || !l->edges || !l->workspaces) return no_memory(f, err);
    memset(l->inner, 0, g->value_count * sizeof *l->inner);
    sort_values(f, l);
    for (int32_t k = 0; k < l->count; k++) SP_TRY(make_lane(f, l, &l->lanes[k], err));
    if (!separable(f, l, &l->lanes[0])) return SPAROA_OK;
    for (int32_t k = 1; k < l->count; k++) (void)separable(f, l, &l->lanes[k]);
    f->lanes = l;
    return SPAROA_OK;
}

/* ---- making ready ---- */

sparoa_status sp_lanes_prepare(sp_frame *f, sparoa_error *err)
{
    sp_lanes *l = f->lanes;
    const sparoa_backend *host = f->program->engine->devices[0].table;
    for (int32_t k = 0; l && k < l->count; k++)
        for (size_t i = l->first; i <= l->last; i++) {
            if (f->nodes[i].skip) continue;
            SP_TRY(host->node_prepare_lane(sp_node_kernel(f, i), &l->lanes[k].views[i - l->first],
                                           &l->lanes[k].prepared[i - l->first],
                                           &f->nodes[i].workspace_bytes, err));
        }
    return SPAROA_OK;
}

void sp_lanes_place(sp_frame *f)
{
    sp_lanes *l = f->lanes;
    for (int32_t k = 0; l && k < l->count; k++) {
        char *memory = (char *)f->sides[0].memory + l->offset + (size_t)k * l->lane_bytes;
        for (size_t v = 0; v < f->program->graph->value_count; v++) {
            const sp_location *at = &f->locations[v];
            if (!l->inner[v] || at->place == SP_PLACE_NONE) continue;
            if (at->place == SP_PLACE_ALIAS) at = &f->locations[at->root];
            l->lanes[k].tensors[v].data = memory + at->offset;
        }
    }
}

void sp_lanes_destroy(sp_frame *f)
{
    const sp_lanes *l = f->lanes;
    const sparoa_backend *host = f->program->engine->devices[0].table;
    for (int32_t k = 0; l && k < l->count; k++)
        for (size_t i = l->first; i <= l->last; i++)
            if (l->lanes[k].prepared[i - l->first])
                host->prepared_destroy(sp_node_kernel(f, i), l->lanes[k].prepared[i - l->first]);
}

/* ---- running ---- */

typedef struct lanes_run {
    sp_frame *f;
    atomic_int_fast64_t next; /* image */
    atomic_bool failed;
    sparoa_status status; /* of the first failure, with its error */
    sparoa_error *err;
} lanes_run;

/* stop: without its check, which belongs to the thread of the run; or NULL. */
static sparoa_status run_image(sp_frame *f, int32_t k, int64_t image, const sp_stop *stop,
                               sparoa_error *err)
{
    const sp_lanes *l = f->lanes;
    const sp_lane *lane = &l->lanes[k];
    const sp_engine *e = f->program->engine;
    const sparoa_backend *host = e->devices[0].table;
    const bool traced = sp_trace_on(e->trace);
    char *memory = (char *)f->sides[0].memory + l->offset + (size_t)k * l->lane_bytes;
    for (uint32_t j = 0; j < l->edge_count; j++) {
        sp_id v = l->edges[j];
        size_t bytes = sparoa_tensor_bytes(&lane->tensors[v]);
        lane->tensors[v].data = (char *)f->tensors[v].data + (size_t)image * bytes;
    }
    for (size_t i = l->first; i <= l->last; i++) {
        size_t at = i - l->first;
        if (f->nodes[i].skip) continue;
        const sparoa_node *view = &lane->views[at];
        int64_t start = traced ? sp_now_ns() : 0;
        sparoa_status status = sp_stop_check(stop, err);
        if (status == SPAROA_OK)
            status = host->node_run_lane(sp_node_kernel(f, i), lane->prepared[at], view,
                                         memory + l->workspaces[at], err);
        if (traced)
            sp_trace_add(e->trace, SP_TRACE_NODE, view->name, view->op, start, sp_now_ns(), 0,
                         (int64_t)i);
        if (status == SPAROA_OK) continue;
        if (err && !err->node[0]) snprintf(err->node, sizeof err->node, "%s", view->name);
        return status;
    }
    return SPAROA_OK;
}

static void run_lane(void *arg, int32_t k)
{
    lanes_run *r = arg;
    const sp_stop *asked = r->f->program->engine->stop;
    sp_stop stop = asked ? *asked : (sp_stop){0};
    stop.check = NULL;
    for (;;) {
        int64_t image = atomic_fetch_add(&r->next, 1);
        if (image >= r->f->lanes->batch || atomic_load(&r->failed)) return;
        sparoa_error err = {0};
        sparoa_status status = run_image(r->f, k, image, &stop, &err);
        if (status == SPAROA_OK || atomic_exchange(&r->failed, true)) continue;
        r->status = status;
        if (r->err) *r->err = err;
    }
}

sparoa_status sp_lanes_run(sp_frame *f, sparoa_error *err)
{
    lanes_run r = {.f = f, .err = err, .status = SPAROA_OK};
    sp_pool_run(f->program->engine->pool, f->lanes->count, run_lane, &r);
    return r.status;
}
