/* fixed, threshold: SparOA's quadrants, with one threshold for all nodes or with those of each
 * node. Dense and heavy goes to the accelerator, sparse and light to the host; the paper sends
 * sparse and heavy to the accelerator in spite of its zeros and dense and light to the host in
 * spite of its density, so that intensity decides there too. */
#include "profile/profile.h"
#include "schedule/policy.h"

static void place(const sp_env *env, uint32_t i, bool heavy, uint8_t *device)
{
    uint32_t d = heavy && env->device_count > 1;
    while (!(env->nodes[i].allowed >> d & 1)) d = (d + 1) % env->device_count;
    device[i] = (uint8_t)d;
}

SP_POLICY_RUN(fixed)
{
    for (uint32_t i = 0; i < env->node_count; i++)
        place(env, i, env->nodes[i].cost.flops >= SP_RULE_FLOPS, device);
    return SPAROA_OK;
}

SP_POLICY_RUN(threshold)
{
    for (uint32_t i = 0; i < env->node_count; i++)
        place(env, i, env->nodes[i].cost.flops >= env->nodes[i].intensity_threshold, device);
    return SPAROA_OK;
}
