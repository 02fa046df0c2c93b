/* portfolio: the best of the cheap policies, refined; and refining itself. */
#include <math.h>

#include "schedule/policy.h"

#define ROUNDS 4
#define REFINED_NODES 1000 /* more are not refined: every trial costs a replay of what follows */

typedef struct refiner {
    const sp_policy_options *options;
    sp_env_state prefix, trial; /* all nodes before the one at hand; with a change tried */
    uint8_t *device;
    double best;
} refiner;

static sparoa_status open_refiner(refiner *r, const sp_env *env, const sp_policy_options *options,
                                  uint8_t *device, sparoa_error *err)
{
    *r = (refiner){.options = options, .device = device};
    bool ready = sp_env_state_init(&r->prefix, env) && sp_env_state_init(&r->trial, env);
    if (!ready) return sp_no_memory(&env->alloc, env->node_count, err);
    sp_env_replay(&r->trial, device);
    r->best = sp_policy_score(options, &r->trial.result);
    return SPAROA_OK;
}

static void close_refiner(refiner *r)
{
    sp_env_state_free(&r->prefix);
    sp_env_state_free(&r->trial);
}

static bool fits(const sp_env_state *s)
{
    for (uint32_t d = 0; d < s->env->device_count; d++) {
        double limit = s->env->devices[d].memory_limit;
        if (limit > 0 && s->memory[d] > limit) return false;
    }
    return true;
}

/* Puts `length` nodes from that at hand on device d where they may; keeps that if it scores
 * better. */
static bool try_run(refiner *r, uint32_t length, uint32_t d)
{
    sp_env_state *t = &r->trial;
    const sp_env *env = t->env;
    uint32_t first = r->prefix.next, end = first + length;
    bool changed = false;
    for (uint32_t i = first; i < end; i++)
        changed |= env->nodes[i].allowed >> d & 1 && r->device[i] != d;
    if (!changed) return false;
    sp_env_state_copy(t, &r->prefix);
    while (t->next < env->node_count) {
        bool moves = t->next < end && env->nodes[t->next].allowed >> d & 1;
        sp_env_step(t, moves ? d : r->device[t->next], NULL);
    }
    double score = sp_policy_score(r->options, &t->result);
    if (!(score < r->best) || !fits(t)) return false;
    r->best = score;
    memcpy(r->device, t->device, env->node_count);
    return true;
}

static bool improve(refiner *r)
{
    const sp_env *env = r->prefix.env;
    bool better = false;
    for (uint32_t length = 1; length <= 16 && length <= env->node_count; length *= 2) {
        sp_env_state_reset(&r->prefix);
        for (uint32_t i = 0; i + length <= env->node_count; i++) {
            for (uint32_t d = 0; d < env->device_count; d++) better |= try_run(r, length, d);
            sp_env_step(&r->prefix, r->device[i], NULL);
        }
    }
    return better;
}

sparoa_status sp_policy_refine(const sp_env *env, const sp_policy_options *options, int rounds,
                               uint8_t *device, sparoa_error *err)
{
    refiner r;
    sparoa_status status = open_refiner(&r, env, options, device, err);
    while (status == SPAROA_OK && rounds-- > 0 && improve(&r)) {
    }
    close_refiner(&r);
    return status;
}

static void try_split(refiner *r, uint32_t node, uint8_t place)
{
    uint8_t kept = r->device[node];
    sp_env_state *t = &r->trial;
    sp_env_state_copy(t, &r->prefix);
    r->device[node] = place;
    while (t->next < t->env->node_count) sp_env_step(t, r->device[t->next], NULL);
    double score = sp_policy_score(r->options, &t->result);
    if (score < r->best && fits(t))
        r->best = score;
    else
        r->device[node] = kept;
}

sparoa_status sp_policy_divide(const sp_env *env, const sp_policy_options *options, uint8_t *device,
                               sparoa_error *err)
{
    refiner r;
    if (env->node_count > REFINED_NODES) return SPAROA_OK;
    sparoa_status status = open_refiner(&r, env, options, device, err);
    while (status == SPAROA_OK && r.prefix.next < env->node_count) {
        uint32_t i = r.prefix.next;
        uint8_t place = env->nodes[i].split_place;
        uint32_t share = sp_place_share(place), d = sp_place_device(place);
        for (; share; share /= 2)
            try_split(&r, i, sp_place_split(d, sp_place_second(place), share));
        sp_env_step(&r.prefix, device[i], NULL);
    }
    close_refiner(&r);
    return status;
}

SP_POLICY_RUN(portfolio)
{
    uint8_t *trial = sp_alloc(&env->alloc, env->node_count);
    if (!trial) return sp_no_memory(&env->alloc, env->node_count, err);
    double best = INFINITY;
    bool any = options->start != NULL;
    sparoa_status status = SPAROA_OK;
    sp_policy_options o = *options;
    o.split = false; /* sp_policy_run divides the outcome */
    if (any) {
        sp_policy_result r = {0};
        status = sp_env_evaluate(env, options->start, &r.price, err);
        best = sp_policy_score(options, &r.price);
        memcpy(device, options->start, env->node_count);
    }
    for (const sp_policy *p = sp_policy_table; !status && p->run != sp_policy_portfolio; p++) {
        if (p->run == sp_policy_optimal && env->node_count > REFINED_NODES) continue;
        sp_policy_result r;
        status = sp_policy_run(p, env, &o, trial, &r, err);
        if (status != SPAROA_OK) break;
        double score = sp_policy_score(options, &r.price);
        if (!(score < best) && !r.optimal && any) continue;
        any = true;
        best = score;
        *optimal |= r.optimal;
        memcpy(device, trial, env->node_count);
    }
    if (status == SPAROA_OK && !*optimal && env->node_count <= REFINED_NODES)
        status = sp_policy_refine(env, options, ROUNDS, device, err);
    sp_free(&env->alloc, trial, env->node_count);
    return status;
}
