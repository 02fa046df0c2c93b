/* Placing nodes one by one, and pricing whole assignments that way. */
#include "schedule/env.h"

#include <math.h>

double sp_objective_score(sp_objective objective, const sp_env_result *result)
{
    double seconds = result->makespan_ns * 1e-9;
    if (objective == SP_OBJECTIVE_ENERGY) return result->energy_j;
    if (objective == SP_OBJECTIVE_PRODUCT) return result->energy_j * seconds;
    return seconds;
}

static size_t doubles_of(const sp_env *env)
{
    return 2 * (size_t)env->node_count + (size_t)env->value_count * SP_ENV_DEVICES;
}

bool sp_env_state_init(sp_env_state *state, const sp_env *env)
{
    *state = (sp_env_state){.env = env};
    state->bytes = doubles_of(env) * sizeof(double) + env->node_count;
    double *block = sp_alloc(&env->alloc, state->bytes);
    if (!block) return false;
    state->start = block;
    state->finish = block + env->node_count;
    state->arrival = block + 2 * (size_t)env->node_count;
    state->device = (uint8_t *)(block + doubles_of(env));
    sp_env_state_reset(state);
    return true;
}

void sp_env_state_free(sp_env_state *state)
{
    if (state->start) sp_free(&state->env->alloc, state->start, state->bytes);
    *state = (sp_env_state){0};
}

void sp_env_state_reset(sp_env_state *state)
{
    const sp_env *env = state->env;
    state->next = 0;
    state->result = (sp_env_result){0};
    for (int d = 0; d < SP_ENV_DEVICES; d++)
        for (int l = 0; l < SP_ENV_LANES; l++) state->lane_free[d][l] = env->devices[d].queue_ns;
    memset(state->link_free, 0, sizeof state->link_free);
    memset(state->memory, 0, sizeof state->memory);
    for (uint32_t v = 0; v < env->value_count; v++) {
        double *arrival = &state->arrival[(size_t)v * SP_ENV_DEVICES];
        for (int d = 0; d < SP_ENV_DEVICES; d++) arrival[d] = -1;
        if (env->values[v].producer == SP_ENV_INPUT) arrival[0] = 0;
    }
}

void sp_env_state_copy(sp_env_state *to, const sp_env_state *from)
{
    sp_env_state kept = *to;
    *to = *from;
    to->start = kept.start;
    to->finish = kept.finish;
    to->arrival = kept.arrival;
    to->device = kept.device;
    memcpy(to->start, from->start, from->bytes);
}

static uint32_t home_of(const sp_env_state *state, uint32_t value)
{
    uint32_t producer = state->env->values[value].producer;
    return producer == SP_ENV_INPUT ? 0 : sp_place_device(state->device[producer]);
}

/* Copies a value from its home; returns when it has arrived. Counts it if `commit`. */
static double copy_value(sp_env_state *state, double links[SP_ENV_DEVICES][SP_ENV_DEVICES],
                         uint32_t value, uint32_t to, bool commit)
{
    const sp_env_value *v = &state->env->values[value];
    uint32_t from = home_of(state, value);
    double *arrival = &state->arrival[(size_t)value * SP_ENV_DEVICES];
    double *link = state->env->link_shared != 0 ? &links[0][0] : &links[from][to];
    double end = fmax(arrival[from], *link) + v->copy_ns[from][to];
    *link = end;
    if (commit) {
        arrival[to] = end;
        state->result.transfer_ns += v->copy_ns[from][to];
        state->result.energy_j += v->copy_j[from][to];
        state->result.copies++;
    }
    return end;
}

static int first_free_lane(const sp_env_state *state, uint32_t device)
{
    int best = 0;
    for (int l = 1; l < state->env->devices[device].lanes; l++)
        if (state->lane_free[device][l] < state->lane_free[device][best]) best = l;
    return best;
}

typedef struct placing {
    double ready, made; /* when all it reads is here; when all of it was made, wherever */
    bool opens;         /* a segment */
} placing;

static placing fetch_inputs(sp_env_state *state, uint32_t device, bool commit)
{
    const sp_env_node *n = &state->env->nodes[state->next];
    double trial[SP_ENV_DEVICES][SP_ENV_DEVICES];
    if (!commit) memcpy(trial, state->link_free, sizeof trial);
    placing p = {.opens = n->n_in == 0};
    for (uint32_t k = 0; k < n->n_in; k++) {
        uint32_t v = state->env->reads[n->first_in + k], home = home_of(state, v);
        const double *arrival = &state->arrival[(size_t)v * SP_ENV_DEVICES];
        double at = arrival[device];
        if (at < 0) at = copy_value(state, commit ? state->link_free : trial, v, device, commit);
        p.ready = fmax(p.ready, at);
        p.made = fmax(p.made, arrival[home]);
        if (home != device) p.opens = true;
    }
    return p;
}

double sp_env_finish_on(const sp_env_state *state, uint32_t device)
{
    /* Nothing is written unless told to commit. */
    placing p = fetch_inputs((sp_env_state *)(uintptr_t)state, device, false);
    const sp_env_device *d = &state->env->devices[device];
    double start = fmax(p.ready, state->lane_free[device][first_free_lane(state, device)]);
    double time = state->env->nodes[state->next].time_ns[device] + (p.opens ? d->entry_ns : 0);
    return start + time;
}

/* Outputs of the graph go back to the host; returns when the last of them is there. */
static double deliver(sp_env_state *state, const sp_env_node *n, double finish)
{
    double end = finish;
    for (uint32_t k = 0; k < n->n_out; k++) {
        uint32_t v = n->first_out + k;
        if (!state->env->values[v].output) continue;
        double at = state->arrival[(size_t)v * SP_ENV_DEVICES];
        if (at < 0) at = copy_value(state, state->link_free, v, 0, true);
        end = fmax(end, at);
    }
    return end;
}

double sp_env_part_ns(const sp_env_node *n, uint32_t device, double share)
{
    double body = n->time_ns[device] - n->fixed_ns[device];
    return n->fixed_ns[device] + body * pow(share, n->part_power[device]);
}

/* Runs a share of node state->next on a device; returns when that part is done. */
static double run_part(sp_env_state *state, uint32_t device, double share)
{
    const sp_env *env = state->env;
    const sp_env_node *n = &env->nodes[state->next];
    const sp_env_device *d = &env->devices[device];
    sp_env_result *r = &state->result;
    placing p = fetch_inputs(state, device, true);
    int lane = first_free_lane(state, device);
    double free_at = state->lane_free[device][lane];
    double start = fmax(p.ready, free_at), whole = n->time_ns[device];
    double part = share < 1 ? sp_env_part_ns(n, device, share) : whole;
    double time = part + (p.opens ? d->entry_ns : 0), finish = start + time;
    r->exposed_ns += fmax(0, start - fmax(free_at, p.made));
    r->busy_ns[device] += time;
    r->energy_j +=
        n->energy_j[device] * (whole > 0 ? part / whole : share) + (p.opens ? d->entry_j : 0);
    r->flops[device] += n->cost.flops * share;
    r->nodes[device]++;
    r->segments += p.opens;
    state->lane_free[device][lane] = finish;
    state->memory[device] += n->memory[device] * (n->split_axis == SP_SPLIT_CHANNELS ? share : 1);
    state->start[state->next] = fmin(state->start[state->next], start);
    return finish;
}

/* Copies what the second device made to the first; returns when the whole is there. */
static double merge(sp_env_state *state, uint32_t from, uint32_t to, double share, double finish)
{
    const sp_env *env = state->env;
    const sp_env_node *n = &env->nodes[state->next];
    double *link = env->link_shared != 0 ? &state->link_free[0][0] : &state->link_free[from][to];
    for (uint32_t k = 0; k < n->n_out; k++) {
        const sp_env_value *v = &env->values[n->first_out + k];
        double fixed = env->link_fixed_ns[from][to];
        double ns = fixed + fmax(0, v->copy_ns[from][to] - fixed) * share;
        finish = fmax(finish, *link) + ns;
        *link = finish;
        state->result.transfer_ns += ns;
        state->result.energy_j +=
            v->copy_ns[from][to] > 0 ? v->copy_j[from][to] * ns / v->copy_ns[from][to] : 0;
        state->result.copies++;
    }
    return finish;
}

void sp_env_step(sp_env_state *state, uint32_t place, sp_env_delta *delta)
{
    const sp_env *env = state->env;
    const sp_env_node *n = &env->nodes[state->next];
    sp_env_result *r = &state->result, before = *r;
    uint32_t device = sp_place_device((uint8_t)place), sixteenths = sp_place_share((uint8_t)place);
    double share = (double)sixteenths / SP_PLACE_SHARES;
    state->start[state->next] = INFINITY;
    double finish = run_part(state, device, 1 - share);
    if (sixteenths) {
        uint32_t second = sp_place_second((uint8_t)place);
        double other = run_part(state, second, share);
        finish = fmax(finish, merge(state, second, device, share, other));
    }
    state->device[state->next] = (uint8_t)place;
    state->finish[state->next] = finish;
    for (uint32_t k = 0; k < n->n_out; k++)
        state->arrival[(size_t)(n->first_out + k) * SP_ENV_DEVICES + device] = finish;
    r->makespan_ns = fmax(r->makespan_ns, deliver(state, n, finish));
    r->energy_j += env->idle_watts * (r->makespan_ns - before.makespan_ns) * 1e-9;
    state->next++;
    if (delta)
        *delta = (sp_env_delta){r->makespan_ns - before.makespan_ns, r->energy_j - before.energy_j,
                                r->transfer_ns - before.transfer_ns};
}

void sp_env_replay(sp_env_state *state, const uint8_t *device)
{
    sp_env_state_reset(state);
    while (state->next < state->env->node_count) sp_env_step(state, device[state->next], NULL);
}

/* A split needs a node that divides, two devices that may run it, and a share. */
static bool may_run(const sp_env *env, const sp_env_node *n, uint8_t place)
{
    uint32_t d = sp_place_device(place), e = sp_place_second(place);
    if (d >= env->device_count || !(n->allowed >> d & 1)) return false;
    if (!sp_place_share(place)) return e == 0;
    return n->split_axis != SP_SPLIT_NONE && e != d && e < env->device_count && n->allowed >> e & 1;
}

double sp_env_kept_bytes(const sp_env_node *n, uint8_t place, uint32_t device)
{
    double share = (double)sp_place_share(place) / SP_PLACE_SHARES, part = 1;
    if (sp_place_device(place) != device && (share == 0 || sp_place_second(place) != device))
        return 0;
    if (share > 0 && n->split_axis == SP_SPLIT_CHANNELS)
        part = sp_place_device(place) == device ? 1 - share : share;
    return n->memory[device] * part;
}

static sparoa_status check(const sp_env *env, const uint8_t *device, sparoa_error *err)
{
    double memory[SP_ENV_DEVICES] = {0};
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        uint32_t split = sp_place_share(device[i]);
        if (!may_run(env, n, device[i]))
            return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                               "node '%.80s' (%.40s) may not run on device %u%s", n->name, n->op,
                               sp_place_device(device[i]), split ? " split so" : "");
        for (uint32_t d = 0; d < env->device_count; d++) {
            memory[d] += sp_env_kept_bytes(n, device[i], d);
            double limit = env->devices[d].memory_limit;
            if (limit > 0 && memory[d] > limit)
                return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                                   "node '%.80s': weights on %s pass its memory of %.0f bytes",
                                   n->name, env->devices[d].name, limit);
        }
    }
    return SPAROA_OK;
}

sparoa_status sp_env_evaluate(const sp_env *env, const uint8_t *device, sp_env_result *result,
                              sparoa_error *err)
{
    sparoa_status status = check(env, device, err);
    if (status != SPAROA_OK) return status;
    sp_env_state state;
    if (!sp_env_state_init(&state, env)) return sp_no_memory(&env->alloc, env->node_count, err);
    sp_env_replay(&state, device);
    *result = state.result;
    sp_env_state_free(&state);
    return SPAROA_OK;
}
