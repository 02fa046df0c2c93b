/* The order in which a frame's nodes are started. A device gets its work as early as its inputs
 * allow; the host meanwhile does what needs no device first, and among that what a device waits
 * for. With the host alone, nodes keep the graph's order. */
#include <string.h>

#include "engine/program.h"

typedef struct order {
    sp_frame *f;
    const sp_graph *g;
    uint32_t *missing;    /* by node: inputs that no started node has written yet */
    uint32_t *first_user; /* by value: start of its users in `users` */
    uint32_t *users;      /* nodes that read a value, once per use */
    uint32_t *ready;      /* nodes that could start */
    uint8_t *feeds;       /* by node: a device's node depends on it */
    uint32_t ready_count, done;
    uint32_t seen[SP_ENGINE_DEVICES]; /* by device: its nodes up to here have been waited for */
    int32_t latest;                   /* device of the latest node */
} order;

/* Nodes that do nothing need not be ordered with those of their device. */
static int32_t device_of(const order *o, uint32_t node)
{
    return o->f->nodes[node].skip ? 0 : o->f->nodes[node].device;
}

static void list_users(order *o)
{
    const sp_graph *g = o->g;
    for (size_t i = 0; i < g->node_count; i++)
        for (int32_t k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] != SP_NO_ID) o->first_user[g->nodes[i].in[k] + 1]++;
    for (size_t v = 0; v < g->value_count; v++) o->first_user[v + 1] += o->first_user[v];
    uint32_t total = o->first_user[g->value_count];
    for (size_t i = g->node_count; i-- > 0;)
        for (int32_t k = 0; k < g->nodes[i].n_in; k++) {
            sp_id v = g->nodes[i].in[k];
            if (v == SP_NO_ID) continue;
            if (g->values[v].producer != SP_NO_ID) o->missing[i]++;
            o->users[--o->first_user[v + 1]] = (uint32_t)i;
        }
    /* every start was moved down to where it belongs, one place too high */
    memmove(o->first_user, o->first_user + 1, g->value_count * sizeof *o->first_user);
    o->first_user[g->value_count] = total;
}

static void find_feeders(order *o)
{
    for (size_t i = o->g->node_count; i-- > 0;) {
        const sp_gnode *n = &o->g->nodes[i];
        for (int32_t k = 0; k < n->n_out; k++) {
            if (n->out[k] == SP_NO_ID) continue;
            for (uint32_t u = o->first_user[n->out[k]]; u < o->first_user[n->out[k] + 1]; u++)
                if (device_of(o, o->users[u]) || o->feeds[o->users[u]]) o->feeds[i] = 1;
        }
    }
}

/* Whether the host would have to wait for a device, and for its node at which position: 0 for no,
 * else the position + 1. */
static uint32_t waits_for(const order *o, uint32_t node)
{
    uint32_t most = 0;
    const sp_gnode *n = &o->g->nodes[node];
    for (int32_t k = 0; k < n->n_in; k++) {
        sp_id p = n->in[k] == SP_NO_ID ? SP_NO_ID : o->g->values[n->in[k]].producer;
        if (p == SP_NO_ID || !device_of(o, p)) continue;
        uint32_t at = o->f->nodes[p].position + 1;
        if (at > o->seen[device_of(o, p)] && at > most) most = at;
    }
    return most;
}

/* Smaller is sooner. */
static uint64_t urgency(const order *o, uint32_t node)
{
    int32_t device = device_of(o, node);
    if (o->f->nodes[node].skip) return node;
    if (device) return (uint64_t)(device == o->latest ? 1 : 2) << 60 | node;
    uint32_t wait = waits_for(o, node);
    if (wait) return (uint64_t)5 << 60 | wait;
    return (uint64_t)(o->feeds[node] ? 3 : 4) << 60 | node;
}

static void start(order *o, uint32_t node)
{
    const sp_gnode *n = &o->g->nodes[node];
    int32_t device = device_of(o, node);
    for (int32_t k = 0; k < n->n_in && !device && !o->f->nodes[node].skip; k++) {
        sp_id p = n->in[k] == SP_NO_ID ? SP_NO_ID : o->g->values[n->in[k]].producer;
        if (p == SP_NO_ID || !device_of(o, p)) continue;
        uint32_t *seen = &o->seen[device_of(o, p)], at = o->f->nodes[p].position + 1;
        if (at > *seen) *seen = at;
    }
    o->f->nodes[node].position = o->done;
    o->f->order[o->done++] = node;
    if (!o->f->nodes[node].skip) o->latest = device;
    for (int32_t k = 0; k < n->n_out; k++) {
        if (n->out[k] == SP_NO_ID) continue;
        for (uint32_t u = o->first_user[n->out[k]]; u < o->first_user[n->out[k] + 1]; u++)
            if (--o->missing[o->users[u]] == 0) o->ready[o->ready_count++] = o->users[u];
    }
}

static void place_all(order *o)
{
    for (size_t i = 0; i < o->g->node_count; i++)
        if (o->missing[i] == 0) o->ready[o->ready_count++] = (uint32_t)i;
    while (o->ready_count) {
        uint32_t best = 0;
        uint64_t least = UINT64_MAX;
        for (uint32_t i = 0; i < o->ready_count; i++) {
            uint64_t u = urgency(o, o->ready[i]);
            if (u >= least) continue;
            least = u;
            best = i;
        }
        uint32_t node = o->ready[best];
        o->ready[best] = o->ready[--o->ready_count];
        start(o, node);
    }
}

static bool on_host_alone(const sp_frame *f)
{
    for (size_t i = 0; i < f->program->graph->node_count; i++)
        if (f->nodes[i].device && !f->nodes[i].skip) return false;
    return true;
}

sparoa_status sp_frame_order(sp_frame *frame, sparoa_error *err)
{
    const sp_graph *g = frame->program->graph;
    order o = {.f = frame, .g = g};
    size_t total = 0;
    frame->order = sp_arena_alloc(&frame->arena, (g->node_count + 1) * sizeof *frame->order);
    if (!frame->order)
        return sp_no_memory(&frame->arena.alloc, g->node_count * sizeof *frame->order, err);
    if (on_host_alone(frame)) {
        for (uint32_t i = 0; i < g->node_count; i++) frame->order[i] = frame->nodes[i].position = i;
        return SPAROA_OK;
    }
    for (size_t i = 0; i < g->node_count; i++) total += (size_t)g->nodes[i].n_in;
    sp_arena scratch;
    sp_arena_init(&scratch, &frame->program->engine->alloc);
    o.missing = sp_arena_alloc(&scratch, g->node_count * sizeof *o.missing);
    o.ready = sp_arena_alloc(&scratch, g->node_count * sizeof *o.ready);
    o.feeds = sp_arena_alloc(&scratch, g->node_count);
    o.first_user = sp_arena_alloc(&scratch, (g->value_count + 1) * sizeof *o.first_user);
    o.users = sp_arena_alloc(&scratch, (total + 1) * sizeof *o.users);
    bool ok = o.missing && o.ready && o.feeds && o.first_user && o.users;
    if (ok) {
        list_users(&o);
        find_feeders(&o);
        place_all(&o);
    }
    sp_arena_destroy(&scratch);
    return ok ? SPAROA_OK : sp_no_memory(&frame->arena.alloc, total * sizeof *o.users, err);
}
