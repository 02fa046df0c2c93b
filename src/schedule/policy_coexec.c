/* coexec: node by node the least time by itself of the host, the accelerator and both at once, as
 * co-execution does (CoDL: Jia et al. 2022): the split that ends soonest, copies of inputs and of
 * the merged part included, blind to queues and to what comes after. The baseline that the paper
 * compares energy with. */
#include <math.h>

#include "schedule/policy.h"

static double fetch_ns(const sp_env *env, const uint8_t *device, const sp_env_node *n, uint32_t d)
{
    double ns = 0;
    bool opens = n->n_in == 0;
    for (uint32_t k = 0; k < n->n_in; k++) {
        const sp_env_value *v = &env->values[env->reads[n->first_in + k]];
        uint32_t home = v->producer == SP_ENV_INPUT ? 0 : sp_place_device(device[v->producer]);
        ns += v->copy_ns[home][d];
        opens |= home != d;
    }
    return ns + (opens ? env->devices[d].entry_ns : 0);
}

static double split_ns(const sp_env *env, const uint8_t *device, const sp_env_node *n,
                       uint8_t place)
{
    uint32_t d = sp_place_device(place), e = sp_place_second(place);
    double x = (double)sp_place_share(place) / SP_PLACE_SHARES;
    double copy = env->values[n->first_out].copy_ns[e][d], fixed = env->link_fixed_ns[e][d];
    double first = fetch_ns(env, device, n, d) + sp_env_part_ns(n, d, 1 - x);
    double second = fetch_ns(env, device, n, e) + sp_env_part_ns(n, e, x);
    return fmax(first, second + fixed + fmax(0, copy - fixed) * x);
}

SP_POLICY_RUN(coexec)
{
    (void)options;
    (void)optimal;
    (void)err;
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        double best = INFINITY;
        for (uint32_t d = 0; d < env->device_count; d++) {
            double ns = n->time_ns[d] + fetch_ns(env, device, n, d);
            if (!(n->allowed >> d & 1) || ns >= best) continue;
            best = ns;
            device[i] = (uint8_t)d;
        }
        if (n->split_place && split_ns(env, device, n, n->split_place) < best)
            device[i] = n->split_place;
    }
    return SPAROA_OK;
}
