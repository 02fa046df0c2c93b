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
        if (device[i] != d || !(n->allowed & 1) || !(n->memory[d] > 0)) continue;
        double loss = (n->time_ns[0] - n->time_ns[d]) / n->memory[d];
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
            if (device[i] == d) used += env->nodes[i].memory[d];
        while (limit > 0 && used > limit) {
            uint32_t i = cheapest_move(env, device, d);
            if (i == env->node_count)
                return sparoa_fail(err, SPAROA_MEMORY_LIMIT, NULL,
                                   "weights of %.0f bytes do not fit into %s (%.0f bytes)", used,
                                   env->devices[d].name, limit);
            device[i] = 0;
            used -= env->nodes[i].memory[d];
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

sparoa_status sp_policy_run(const sp_policy *policy, const sp_env *env,
                            const sp_policy_options *options, uint8_t *device,
                            sp_policy_result *result, sparoa_error *err)
{
    const sp_policy_options defaults = {.objective = SP_OBJECTIVE_LATENCY};
    *result = (sp_policy_result){0};
    sparoa_status status =
        policy->run(env, options ? options : &defaults, device, &result->optimal, err);
    if (status == SPAROA_OK) status = sp_policy_legalise(env, device, err);
    if (status == SPAROA_OK) status = sp_env_evaluate(env, device, &result->price, err);
    return status;
}
