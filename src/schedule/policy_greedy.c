/* greedy: node by node the device with the least time and copies, blind to queues and to what comes
 * after. */
#include <math.h>

#include "schedule/policy.h"

static double local_cost(const sp_env *env, sp_objective objective, const uint8_t *device,
                         const sp_env_node *n, uint32_t d)
{
    bool energy = objective == SP_OBJECTIVE_ENERGY, opens = n->n_in == 0;
    double cost = energy ? n->energy_j[d] + env->idle_watts * n->time_ns[d] * 1e-9 : n->time_ns[d];
    for (uint32_t k = 0; k < n->n_in; k++) {
        const sp_env_value *v = &env->values[env->reads[n->first_in + k]];
        uint32_t home = v->producer == SP_ENV_INPUT ? 0 : device[v->producer];
        cost += energy ? v->copy_j[home][d] + env->idle_watts * v->copy_ns[home][d] * 1e-9
                       : v->copy_ns[home][d];
        opens |= home != d;
    }
    if (opens) cost += energy ? env->devices[d].entry_j : env->devices[d].entry_ns;
    return cost;
}

SP_POLICY_RUN(greedy)
{
    for (uint32_t i = 0; i < env->node_count; i++) {
        double best = INFINITY;
        for (uint32_t d = 0; d < env->device_count; d++) {
            if (!(env->nodes[i].allowed >> d & 1)) continue;
            double cost = local_cost(env, options->objective, device, &env->nodes[i], d);
            if (cost >= best) continue;
            best = cost;
            device[i] = (uint8_t)d;
        }
    }
    return SPAROA_OK;
}
