/* cpu and gpu: one device wherever it may run the node. */
#include "schedule/policy.h"

static void prefer(const sp_env *env, uint32_t wanted, uint8_t *device)
{
    for (uint32_t i = 0; i < env->node_count; i++) {
        uint32_t d = wanted;
        if (d >= env->device_count || !(env->nodes[i].allowed >> d & 1))
            for (d = 0; !(env->nodes[i].allowed >> d & 1);) d++;
        device[i] = (uint8_t)d;
    }
}

SP_POLICY_RUN(cpu)
{
    prefer(env, 0, device);
    return SPAROA_OK;
}

SP_POLICY_RUN(gpu)
{
    prefer(env, 1, device);
    return SPAROA_OK;
}
