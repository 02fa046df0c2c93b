/* Making an environment: checks, neighbour lists, ranks and bounds. */
#include "schedule/env.h"

#include <math.h>

#include "ops/op.h"

const char *sp_reason_name(sp_reason reason)
{
    static const char *const names[] = {
#define X(name, text) #name,
        SP_REASON_MAP(X)
#undef X
    };
    return (unsigned)reason < SP_REASON_COUNT ? names[reason] : "UNKNOWN";
}

const char *sp_reason_text(sp_reason reason)
{
    static const char *const texts[] = {
#define X(name, text) text,
        SP_REASON_MAP(X)
#undef X
    };
    return (unsigned)reason < SP_REASON_COUNT ? texts[reason] : "unknown";
}

static sparoa_status bad(sparoa_error *err, const sp_env_node *n, const char *what)
{
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, NULL, "environment: node '%.80s': %s", n->name,
                       what);
}

/* Every value belongs to one node or the inputs, in order, and is written before it is read. */
static sparoa_status check_nodes(const sp_env *env, sparoa_error *err)
{
    uint32_t value = 0;
    while (value < env->value_count && env->values[value].producer == SP_ENV_INPUT) value++;
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        if (!(n->allowed & ((1u << env->device_count) - 1)))
            return bad(err, n, "no device may run it");
        if (n->first_in > env->read_count || n->n_in > env->read_count - n->first_in)
            return bad(err, n, "its reads lie outside the list");
        for (uint32_t k = 0; k < n->n_in; k++)
            if (env->reads[n->first_in + k] >= value)
                return bad(err, n, "it reads a value before it is written");
        if (n->first_out != value || n->n_out > env->value_count - value)
            return bad(err, n, "its values do not follow those of the node before");
        for (uint32_t k = 0; k < n->n_out; k++)
            if (env->values[value + k].producer != i)
                return bad(err, n, "a value of it names another producer");
        value += n->n_out;
    }
    if (value != env->value_count)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, NULL,
                           "environment: value %u belongs to no node", value);
    return SPAROA_OK;
}

/* Predecessors of every node, ascending and once each, then successors by counting. */
static sparoa_status build_links(sp_env *env, sparoa_error *err)
{
    uint32_t *preds =
        sp_arena_alloc(&env->arena, (2 * (size_t)env->read_count + 1) * sizeof *preds);
    if (!preds) return sp_no_memory(&env->alloc, 2 * env->read_count * sizeof *preds, err);
    uint32_t count = 0;
    for (uint32_t i = 0; i < env->node_count; i++) {
        sp_env_node *n = &env->nodes[i];
        n->first_pred = count;
        for (uint32_t k = 0; k < n->n_in; k++) {
            uint32_t p = env->values[env->reads[n->first_in + k]].producer, at = count;
            if (p == SP_ENV_INPUT) continue;
            while (at > n->first_pred && preds[at - 1] > p) at--;
            if (at > n->first_pred && preds[at - 1] == p) continue;
            memmove(&preds[at + 1], &preds[at], (count - at) * sizeof *preds);
            preds[at] = p;
            count++;
        }
        n->n_pred = count - n->first_pred;
        n->n_succ = 0;
    }
    for (uint32_t k = 0; k < count; k++) env->nodes[preds[k]].n_succ++;
    uint32_t at = count;
    for (uint32_t i = 0; i < env->node_count; i++) {
        env->nodes[i].first_succ = at;
        at += env->nodes[i].n_succ;
        env->nodes[i].n_succ = 0;
    }
    for (uint32_t i = 0; i < env->node_count; i++)
        for (uint32_t k = 0; k < env->nodes[i].n_pred; k++) {
            sp_env_node *p = &env->nodes[preds[env->nodes[i].first_pred + k]];
            preds[p->first_succ + p->n_succ++] = i;
        }
    env->links = preds;
    env->link_count = at;
    return SPAROA_OK;
}

static bool copy_names(sp_env *env)
{
    for (uint32_t i = 0; i < env->node_count; i++) {
        sp_env_node *n = &env->nodes[i];
        n->name = sp_arena_strdup(&env->arena, n->name ? n->name : "");
        n->op = sp_arena_strdup(&env->arena, n->op ? n->op : "");
        if (!n->name || !n->op) return false;
    }
    return true;
}

sparoa_status sp_env_create(const sparoa_allocator *alloc, const sp_env_node *nodes,
                            uint32_t node_count, const sp_env_value *values, uint32_t value_count,
                            const uint32_t *reads, uint32_t read_count,
                            const sp_env_device *devices, uint32_t device_count, sp_env **env,
                            sparoa_error *err)
{
    if (!device_count || device_count > SP_ENV_DEVICES)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "environment: %u devices, expected 1..%d", device_count, SP_ENV_DEVICES);
    sp_env *e = sp_calloc(alloc, 1, sizeof *e);
    if (!e) return sp_no_memory(alloc, sizeof *e, err);
    e->alloc = *alloc;
    sp_arena_init(&e->arena, alloc);
    e->node_count = node_count;
    e->value_count = value_count;
    e->read_count = read_count;
    e->device_count = device_count;
    memcpy(e->devices, devices, device_count * sizeof *devices);
    for (uint32_t d = 0; d < device_count; d++) {
        int32_t lanes = e->devices[d].lanes;
        e->devices[d].lanes = lanes < 1 ? 1 : lanes > SP_ENV_LANES ? SP_ENV_LANES : lanes;
    }
    e->nodes = sp_arena_copy(&e->arena, nodes, node_count * sizeof *nodes);
    e->values = sp_arena_copy(&e->arena, values, value_count * sizeof *values);
    e->reads = sp_arena_copy(&e->arena, reads, read_count * sizeof *reads);
    e->rank_ns = sp_arena_alloc(&e->arena, (node_count + 1) * sizeof *e->rank_ns);
    e->best_ns = sp_arena_alloc(&e->arena, (node_count + 1) * sizeof *e->best_ns);
    sparoa_status status = SPAROA_OK;
    if (!e->nodes || !e->values || !e->reads || !e->rank_ns || !e->best_ns || !copy_names(e))
        status = sp_no_memory(alloc, node_count * sizeof *nodes, err);
    if (status == SPAROA_OK) status = check_nodes(e, err);
    if (status == SPAROA_OK) status = build_links(e, err);
    if (status != SPAROA_OK) {
        sp_env_destroy(e);
        return status;
    }
    sp_env_refresh(e);
    *env = e;
    return SPAROA_OK;
}

void sp_env_destroy(sp_env *env)
{
    if (!env) return;
    sparoa_allocator alloc = env->alloc;
    sp_arena_destroy(&env->arena);
    sp_free(&alloc, env, sizeof *env);
}

/* Mean over pairs of different devices: HEFT's estimate of a copy before devices are known. */
static double mean_copy(const sp_env *env, const sp_env_value *v)
{
    double sum = 0;
    for (uint32_t a = 0; a < env->device_count; a++)
        for (uint32_t b = 0; b < env->device_count; b++) sum += v->copy_ns[a][b];
    return sum / (env->device_count * env->device_count);
}

/* The share in sixteenths of the slower device at which both are done soonest. */
static void best_split(const sp_env *env, sp_env_node *n)
{
    n->split_place = 0;
    if (n->split_axis == SP_SPLIT_NONE || env->device_count < 2 || (n->allowed & 3) != 3) return;
    uint32_t fast = n->time_ns[1] < n->time_ns[0], slow = !fast;
    double best = n->time_ns[fast];
    double copy = env->values[n->first_out].copy_ns[slow][fast];
    double fixed = env->link_fixed_ns[slow][fast];
    for (uint32_t k = 1; k < SP_PLACE_SHARES; k++) {
        double x = (double)k / SP_PLACE_SHARES;
        double merged = sp_env_part_ns(n, slow, x) + fixed + fmax(0, copy - fixed) * x;
        double end = fmax(sp_env_part_ns(n, fast, 1 - x), merged);
        if (end >= best) continue;
        best = end;
        n->split_place = sp_place_split(fast, slow, k);
    }
}

void sp_env_refresh(sp_env *env)
{
    env->scale_ns = env->scale_j = 0;
    for (uint32_t i = env->node_count; i-- > 0;) {
        const sp_env_node *n = &env->nodes[i];
        best_split(env, &env->nodes[i]);
        double best = INFINITY, joules = INFINITY, mean = 0;
        int count = 0;
        for (uint32_t d = 0; d < env->device_count; d++) {
            if (!(n->allowed >> d & 1)) continue;
            best = fmin(best, n->time_ns[d]);
            joules = fmin(joules, n->energy_j[d]);
            mean += n->time_ns[d];
            count++;
        }
        double copy = 0, rank = 0, bound = 0;
        for (uint32_t k = 0; k < n->n_out; k++)
            copy += mean_copy(env, &env->values[n->first_out + k]);
        for (uint32_t k = 0; k < n->n_succ; k++) {
            uint32_t s = env->links[n->first_succ + k];
            rank = fmax(rank, env->rank_ns[s] + copy);
            bound = fmax(bound, env->best_ns[s]);
        }
        env->rank_ns[i] = mean / count + rank;
        env->best_ns[i] = best + bound;
        env->scale_ns += best;
        env->scale_j += joules;
    }
}

/* For any share l of the first device, sum of min(l t0, (1-l) t1) is a bound on the busier device's
 * work (the dual of the fractional split); the best l is found by golden section, as the sum is
 * concave in l. */
static double work_bound(const sp_env *env, double l)
{
    double sum = 0;
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        double a = n->allowed & 1 ? l * n->time_ns[0] / env->devices[0].lanes : INFINITY;
        double b = n->allowed & 2 ? (1 - l) * n->time_ns[1] / env->devices[1].lanes : INFINITY;
        sum += fmin(a, b);
    }
    return sum;
}

double sp_env_lower_bound(const sp_env *env, bool splits)
{
    double bound = 0;
    for (uint32_t i = 0; !splits && i < env->node_count; i++) bound = fmax(bound, env->best_ns[i]);
    if (env->device_count != 2) return bound;
    double low = 0, high = 1;
    for (int k = 0; k < 60; k++) {
        double a = low + 0.381966 * (high - low), b = high - 0.381966 * (high - low);
        if (work_bound(env, a) < work_bound(env, b))
            low = a;
        else
            high = b;
    }
    return fmax(bound, work_bound(env, (low + high) / 2));
}
