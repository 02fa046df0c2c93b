/* Making plans, with a reason for every node. */
#include "schedule/plan.h"

#include <math.h>

/* Up to here a reason may be found by replaying the plan without it. */
#define REPLAYED_NODES 2000

const char *sp_objective_name(sp_objective objective)
{
    static const char *const names[] = {"latency", "energy", "product"};
    return (unsigned)objective < 3 ? names[objective] : "unknown";
}

/* Time and copies of node i if it were on d and all others where they are. */
static double local_cost(const sp_env *env, const uint8_t *device, uint32_t i, uint32_t d,
                         double *copies)
{
    const sp_env_node *n = &env->nodes[i];
    *copies = 0;
    for (uint32_t k = 0; k < n->n_in; k++) {
        const sp_env_value *v = &env->values[env->reads[n->first_in + k]];
        *copies +=
            v->copy_ns[v->producer == SP_ENV_INPUT ? 0 : sp_place_device(device[v->producer])][d];
    }
    for (uint32_t k = 0; k < n->n_out; k++)
        if (env->values[n->first_out + k].output)
            *copies += env->values[n->first_out + k].copy_ns[d][0];
    for (uint32_t k = 0; k < n->n_succ; k++) {
        uint32_t s = env->links[n->first_succ + k];
        double most = 0; /* a value is copied once; several values to one reader are rare */
        for (uint32_t o = 0; o < n->n_out; o++)
            most = fmax(most, env->values[n->first_out + o].copy_ns[d][sp_place_device(device[s])]);
        *copies += most;
    }
    return n->time_ns[d] + *copies;
}

static sp_reason slower_here(sp_env_state *scratch, uint8_t *device, uint32_t i, uint32_t other,
                             const sp_env_result *price)
{
    const sp_env *env = scratch->env;
    double copies_here, copies_there;
    double here = local_cost(env, device, i, sp_place_device(device[i]), &copies_here);
    if (here <= local_cost(env, device, i, other, &copies_there))
        return SP_REASON_TRANSFER_DOMINATES;
    if (env->node_count > REPLAYED_NODES) return SP_REASON_POLICY;
    uint8_t kept = device[i];
    device[i] = (uint8_t)other;
    sp_env_replay(scratch, device);
    device[i] = kept;
    if (scratch->result.makespan_ns > price->makespan_ns) return SP_REASON_OVERLAP;
    if (scratch->result.energy_j > price->energy_j) return SP_REASON_ENERGY;
    return SP_REASON_POLICY;
}

static sp_reason reason_of(sp_env_state *scratch, uint8_t *device, uint32_t i,
                           const sp_env_result *price)
{
    const sp_env_node *n = &scratch->env->nodes[i];
    uint32_t here = sp_place_device(device[i]), other = SP_ENV_DEVICES;
    if (sp_place_share(device[i])) return SP_REASON_SPLIT;
    for (uint32_t d = 0; d < scratch->env->device_count; d++)
        if (d != here && n->allowed >> d & 1 &&
            (other == SP_ENV_DEVICES || n->time_ns[d] < n->time_ns[other]))
            other = d;
    if (other == SP_ENV_DEVICES)
        return scratch->env->device_count == 1 ? SP_REASON_CHEAPER_HERE : (sp_reason)n->why;
    if (n->time_ns[here] > n->time_ns[other]) return slower_here(scratch, device, i, other, price);
    bool sparse = n->sparse >> here & 1 && !(n->sparse >> other & 1);
    return sparse ? SP_REASON_SPARSE : SP_REASON_CHEAPER_HERE;
}

bool sp_plan_label(sp_plan *p, sp_plan_node *n)
{
    char text[96];
    n->where = p->devices[n->device];
    if (!(n->share > 0)) return true;
    snprintf(text, sizeof text, "%s + %.4g %s", p->devices[n->device], n->share,
             p->devices[n->second]);
    n->where = sp_arena_strdup(&p->arena, text);
    return n->where != NULL;
}

static bool fill_texts(sp_plan *p, const sp_env *env, const sp_plan_origin *o)
{
    p->model = sp_arena_strdup(&p->arena, o->model);
    p->platform = sp_arena_strdup(&p->arena, o->platform);
    p->regime = sp_arena_strdup(&p->arena, o->regime);
    p->policy = sp_arena_strdup(&p->arena, o->policy);
    p->objective = sp_objective_name(o->objective);
    p->nodes = sp_arena_alloc(&p->arena, (env->node_count + 1) * sizeof *p->nodes);
    bool good = p->model && p->platform && p->regime && p->policy && p->nodes;
    for (uint32_t i = 0; good && i < env->node_count; i++) {
        p->nodes[i].name = sp_arena_strdup(&p->arena, env->nodes[i].name);
        p->nodes[i].op = sp_arena_strdup(&p->arena, env->nodes[i].op);
        good = p->nodes[i].name && p->nodes[i].op;
    }
    return good;
}

/* Places the nodes once more and notes what each step brings. */
static void fill_nodes(sp_plan *p, const sp_env *env, const uint8_t *device, sp_env_state *s)
{
    sp_env_state_reset(s);
    while (s->next < env->node_count) {
        uint32_t i = s->next;
        sp_plan_node *n = &p->nodes[i];
        sp_env_delta delta;
        sp_env_step(s, device[i], &delta);
        n->device = (uint8_t)sp_place_device(device[i]);
        n->share = (double)sp_place_share(device[i]) / SP_PLACE_SHARES;
        if (n->share > 0) n->second = (uint8_t)sp_place_second(device[i]);
        if (n->share > 0) n->axis = env->nodes[i].split_axis;
        n->start_ns = s->start[i];
        n->finish_ns = s->finish[i];
        n->transfer_ns = delta.transfer_ns;
        for (uint32_t d = 0; d < env->device_count; d++)
            n->time_ns[d] = env->nodes[i].allowed >> d & 1 ? env->nodes[i].time_ns[d] : -1;
    }
    p->price = s->result;
}

sparoa_status sp_plan_create(const sp_env *env, const uint8_t *device, const sp_plan_origin *origin,
                             sp_plan **plan, sparoa_error *err)
{
    sp_env_result checked;
    sparoa_status status = sp_env_evaluate(env, device, &checked, err);
    if (status != SPAROA_OK) return status;
    sp_plan *p = sp_calloc(&env->alloc, 1, sizeof *p);
    if (!p) return sp_no_memory(&env->alloc, sizeof *p, err);
    p->alloc = env->alloc;
    sp_arena_init(&p->arena, &env->alloc);
    sp_env_state state = {0};
    uint8_t *copy = sp_arena_alloc(&p->arena, env->node_count + 1);
    if (!copy || !fill_texts(p, env, origin) || !sp_env_state_init(&state, env)) {
        sp_plan_destroy(p);
        return sp_no_memory(&env->alloc, env->node_count * sizeof *p->nodes, err);
    }
    memcpy(copy, device, env->node_count);
    p->seed = origin->seed;
    p->optimal = origin->optimal;
    bool splits = false;
    for (uint32_t i = 0; i < env->node_count; i++) splits |= sp_place_share(device[i]) != 0;
    p->lower_bound_ns = sp_env_lower_bound(env, splits);
    p->device_count = env->device_count;
    p->node_count = env->node_count;
    for (uint32_t d = 0; d < env->device_count; d++) {
        snprintf(p->devices[d], sizeof p->devices[d], "%s", env->devices[d].name);
        p->clock[d] = env->devices[d].clock;
    }
    fill_nodes(p, env, device, &state);
    bool good = true;
    for (uint32_t i = 0; i < env->node_count; i++) {
        p->nodes[i].reason = (uint8_t)reason_of(&state, copy, i, &p->price);
        good = good && sp_plan_label(p, &p->nodes[i]);
    }
    sp_env_state_free(&state);
    if (!good) {
        sp_plan_destroy(p);
        return sp_no_memory(&env->alloc, sizeof *p->nodes, err);
    }
    *plan = p;
    return SPAROA_OK;
}

void sp_plan_destroy(sp_plan *plan)
{
    if (!plan) return;
    sparoa_allocator alloc = plan->alloc;
    sp_arena_destroy(&plan->arena);
    sp_free(&alloc, plan, sizeof *plan);
}

/* Plans and environments of one graph list nodes in the same order, so the search begins where the
 * last one ended. */
static const sp_plan_node *find(const sp_plan *plan, const char *name, uint32_t *at)
{
    for (uint32_t k = 0; k < plan->node_count; k++) {
        uint32_t i = (*at + k) % plan->node_count;
        if (strcmp(plan->nodes[i].name, name)) continue;
        *at = i + 1;
        return &plan->nodes[i];
    }
    return NULL;
}

/* The placement that a plan's node means for one of an environment, whose devices are `map`. */
static sparoa_status place_of(const sp_plan *plan, const sp_plan_node *n, const sp_env *env,
                              const sp_env_node *to, const uint32_t *map, uint8_t *place,
                              sparoa_error *err)
{
    uint32_t device = map[n->device], second = n->share > 0 ? map[n->second] : device;
    bool here = device < env->device_count && to->allowed >> device & 1;
    if (!here || second >= env->device_count || !(to->allowed >> second & 1))
        return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL, "node '%.80s' may not run on '%s' here",
                           n->name, plan->devices[here ? n->second : n->device]);
    *place = (uint8_t)device;
    if (!(n->share > 0)) return SPAROA_OK;
    if (to->split_axis != n->axis)
        return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                           "node '%.80s' is split by %s, here by: %s", n->name,
                           sp_split_axis_name((sp_split_axis)n->axis),
                           sp_split_axis_name((sp_split_axis)to->split_axis));
    double parts = fmin(fmax(round(n->share * SP_PLACE_SHARES), 1), SP_PLACE_SHARES - 1);
    *place = sp_place_split(device, second, (uint32_t)parts);
    return SPAROA_OK;
}

sparoa_status sp_plan_assignment(const sp_plan *plan, const sp_env *env, uint8_t *device,
                                 sparoa_error *err)
{
    uint32_t at = 0, map[SP_ENV_DEVICES];
    for (uint32_t d = 0; d < plan->device_count; d++) {
        for (map[d] = 0; map[d] < env->device_count; map[d]++)
            if (strcmp(plan->devices[d], env->devices[map[d]].name) == 0) break;
    }
    if (plan->node_count != env->node_count)
        return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                           "the plan has %u nodes, the graph %u: another model, shape or regime",
                           plan->node_count, env->node_count);
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_plan_node *n = find(plan, env->nodes[i].name, &at);
        if (!n || strcmp(n->op, env->nodes[i].op))
            return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                               "the plan has no node '%.80s' (%.40s)", env->nodes[i].name,
                               env->nodes[i].op);
        sparoa_status status = place_of(plan, n, env, &env->nodes[i], map, &device[i], err);
        if (status != SPAROA_OK) return status;
    }
    return SPAROA_OK;
}

size_t sp_plan_diff(const sp_plan *a, const sp_plan *b,
                    void (*report)(void *user, const sp_plan_node *a, const sp_plan_node *b),
                    void *user)
{
    size_t count = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < a->node_count; i++) {
        const sp_plan_node *x = &a->nodes[i], *y = find(b, x->name, &at);
        if (y && strcmp(x->where, y->where) == 0) continue;
        count++;
        if (report) report(user, x, y);
    }
    at = 0;
    for (uint32_t i = 0; i < b->node_count; i++) {
        if (find(a, b->nodes[i].name, &at)) continue;
        count++;
        if (report) report(user, NULL, &b->nodes[i]);
    }
    return count;
}
