/* The table of policies and what all of them share. */
#include "schedule/policy.h"

#include <math.h>

const sp_policy sp_policy_table[] = {
    {"cpu", "everything on the host", sp_policy_cpu, false},
    {"gpu", "everything that can on the first accelerator", sp_policy_gpu, false},
    {"fixed", "the fixed rule: heavy operators to the accelerator", sp_policy_fixed, false},
    {"threshold", "the same rule with thresholds predicted for each operator", sp_policy_threshold,
     true},
    {"greedy", "node by node the device with the least time and copies", sp_policy_greedy, false},
    {"dp", "dynamic programming: exact on chains", sp_policy_dp, false},
    {"heft", "node by node the earliest finish, queues included", sp_policy_heft, false},
    {"optimal", "search with bounds and dominance: exact while its labels suffice",
     sp_policy_optimal, false},
    {"portfolio", "the best of the others, refined", sp_policy_portfolio, true},
    {"sac", "learned on this graph at these prices by Soft Actor-Critic", sp_policy_sac, true},
    {"coexec", "node by node both devices at once where that is sooner, as CoDL does",
     sp_policy_coexec, false},
    {NULL, NULL, NULL, false},
};

const sp_policy *sp_policy_find(const char *name)
{
    for (const sp_policy *p = sp_policy_table; p->name; p++)
        if (strcmp(p->name, name) == 0) return p;
    return NULL;
}

/* The node on device d whose move to the host loses least time per byte freed. */
static uint32_t cheapest_move(const sp_env *env, const uint8_t *device, uint32_t d)
{
    uint32_t best = env->node_count;
    double least = INFINITY;
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        double kept = sp_env_kept_bytes(n, device[i], d);
        if (!(n->allowed & 1) || !(kept > 0)) continue;
        double loss = (n->time_ns[0] - n->time_ns[d]) / kept;
        if (loss >= least) continue;
        least = loss;
        best = i;
    }
    return best;
}

sparoa_status sp_policy_legalise(const sp_env *env, uint8_t *device, sparoa_error *err)
{
    for (uint32_t d = 1; d < env->device_count; d++) {
        double limit = env->devices[d].memory_limit, used = 0;
        for (uint32_t i = 0; i < env->node_count; i++)
            used += sp_env_kept_bytes(&env->nodes[i], device[i], d);
        while (limit > 0 && used > limit) {
            uint32_t i = cheapest_move(env, device, d);
            if (i == env->node_count)
                return sparoa_fail(err, SPAROA_MEMORY_LIMIT, NULL,
                                   "weights of %.0f bytes do not fit into %s (%.0f bytes)", used,
                                   env->devices[d].name, limit);
            used -= sp_env_kept_bytes(&env->nodes[i], device[i], d);
            device[i] = 0;
        }
    }
    return SPAROA_OK;
}

bool sp_policy_memory_binds(const sp_env *env)
{
    for (uint32_t d = 0; d < env->device_count; d++) {
        double all = 0;
        for (uint32_t i = 0; i < env->node_count; i++) all += env->nodes[i].memory[d];
        if (env->devices[d].memory_limit > 0 && all > env->devices[d].memory_limit) return true;
    }
    return false;
}

double sp_policy_score(const sp_policy_options *options, const sp_env_result *result)
{
    if (options->limit_ns > 0 && result->makespan_ns > options->limit_ns) return INFINITY;
    return sp_objective_score(options->objective, result);
}

static sparoa_status decide(const sp_policy *policy, const sp_env *env,
                            const sp_policy_options *options, uint8_t *device,
                            sp_policy_result *result, sparoa_error *err)
{
    *result = (sp_policy_result){0};
    sparoa_status status = policy->run(env, options, device, &result->optimal, err);
    if (status == SPAROA_OK) status = sp_policy_legalise(env, device, err);
    if (status == SPAROA_OK && options->split && policy->run != sp_policy_coexec) {
        status = sp_policy_divide(env, options, device, err);
        result->optimal = false;
    }
    if (status == SPAROA_OK) status = sp_env_evaluate(env, device, &result->price, err);
    return status;
}

/* The fastest plan first; then the policy's own, unless that is too slow. */
static sparoa_status decide_within(const sp_policy *policy, const sp_env *env, sp_policy_options o,
                                   uint8_t *device, sp_policy_result *result, sparoa_error *err)
{
    sp_policy_options fast = o;
    fast.objective = SP_OBJECTIVE_LATENCY;
    fast.latency_limit = 0;
    fast.progress = NULL;
    sp_policy_result fastest;
    uint8_t *known = sp_alloc(&env->alloc, env->node_count + 1);
    if (!known) return sp_no_memory(&env->alloc, env->node_count, err);
    sparoa_status status = decide(sp_policy_find("portfolio"), env, &fast, known, &fastest, err);
    o.limit_ns = fastest.price.makespan_ns * o.latency_limit;
    o.start = known;
    if (status == SPAROA_OK) status = decide(policy, env, &o, device, result, err);
    if (status == SPAROA_OK && !isfinite(sp_policy_score(&o, &result->price))) {
        memcpy(device, known, env->node_count);
        *result = (sp_policy_result){.price = fastest.price};
    }
    sp_free(&env->alloc, known, env->node_count + 1);
    return status;
}

sparoa_status sp_policy_run(const sp_policy *policy, const sp_env *env,
                            const sp_policy_options *options, uint8_t *device,
                            sp_policy_result *result, sparoa_error *err)
{
    const sp_policy_options defaults = {.objective = SP_OBJECTIVE_LATENCY};
    if (!options) options = &defaults;
    if (options->latency_limit > 0 && options->limit_ns == 0)
        return decide_within(policy, env, *options, device, result, err);
    return decide(policy, env, options, device, result, err);
}
