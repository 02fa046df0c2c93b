/* portfolio: the best of the cheap policies, refined; and refining itself. */
#include <math.h>

#include "schedule/policy.h"

#define ROUNDS 4
#define REFINED_NODES 400 /* more are not refined: every trial costs a replay of all nodes */

static double score_of(sp_env_state *s, sp_objective objective, const uint8_t *device)
{
    sp_env_replay(s, device);
    return sp_objective_score(objective, &s->result);
}

/* Puts nodes first..last on d where they may; returns false if nothing changed. */
static bool move_run(const sp_env *env, const uint8_t *from, uint32_t first, uint32_t last,
                     uint32_t d, uint8_t *to)
{
    bool changed = false;
    for (uint32_t i = first; i <= last; i++) {
        bool may = env->nodes[i].allowed >> d & 1;
        changed |= may && from[i] != d;
        to[i] = may ? (uint8_t)d : from[i];
    }
    return changed;
}

static bool improve(sp_env_state *s, sp_objective objective, uint8_t *device, uint8_t *trial,
                    double *best)
{
    const sp_env *env = s->env;
    bool better = false;
    for (uint32_t length = 1; length <= 8 && length <= env->node_count; length *= 2)
        for (uint32_t i = 0; i + length <= env->node_count; i++)
            for (uint32_t d = 0; d < env->device_count; d++) {
                memcpy(trial, device, env->node_count);
                if (!move_run(env, device, i, i + length - 1, d, trial)) continue;
                double score = score_of(s, objective, trial);
                if (!(score < *best)) continue;
                *best = score;
                memcpy(device, trial, env->node_count);
                better = true;
            }
    return better;
}

sparoa_status sp_policy_refine(const sp_env *env, const sp_policy_options *options, int rounds,
                               uint8_t *device, sparoa_error *err)
{
    sp_env_state s;
    uint8_t *trial = sp_alloc(&env->alloc, env->node_count);
    bool ready = trial && sp_env_state_init(&s, env);
    if (!ready) {
        sp_free(&env->alloc, trial, env->node_count);
        return sp_no_memory(&env->alloc, env->node_count, err);
    }
    double best = score_of(&s, options->objective, device);
    while (rounds-- > 0 && improve(&s, options->objective, device, trial, &best)) {
    }
    sp_env_state_free(&s);
    sp_free(&env->alloc, trial, env->node_count);
    return SPAROA_OK;
}

SP_POLICY_RUN(portfolio)
{
    uint8_t *trial = sp_alloc(&env->alloc, env->node_count);
    if (!trial) return sp_no_memory(&env->alloc, env->node_count, err);
    double best = INFINITY;
    sparoa_status status = SPAROA_OK;
    for (const sp_policy *p = sp_policy_table; p->run != sp_policy_portfolio; p++) {
        if (p->run == sp_policy_optimal && env->node_count > REFINED_NODES) continue;
        sp_policy_result r;
        status = sp_policy_run(p, env, options, trial, &r, err);
        if (status != SPAROA_OK) break;
        double score = sp_objective_score(options->objective, &r.price);
        if (!(score < best) && !r.optimal) continue;
        best = score;
        *optimal |= r.optimal;
        memcpy(device, trial, env->node_count);
    }
    if (status == SPAROA_OK && !*optimal && env->node_count <= REFINED_NODES)
        status = sp_policy_refine(env, options, ROUNDS, device, err);
    sp_free(&env->alloc, trial, env->node_count);
    return status;
}
