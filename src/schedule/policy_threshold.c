/* threshold: SparOA's quadrants with the thresholds of each node. Dense and heavy goes to the
 * accelerator, sparse and light to the host; the paper sends sparse and heavy to the accelerator in
 * spite of its zeros and dense and light to the host in spite of its density, so that intensity
 * decides there too. */
#include "schedule/policy.h"

SP_POLICY_RUN(threshold)
{
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        bool heavy = n->cost.flops >= n->intensity_threshold;
        uint32_t d = heavy && env->device_count > 1;
        while (!(n->allowed >> d & 1)) d = (d + 1) % env->device_count;
        device[i] = (uint8_t)d;
    }
    return SPAROA_OK;
}
