/* heft: node by node the earliest finish, with queues, copies and links as they will be. Nodes are
 * taken in dispatch order, as devices run them in that order; HEFT's order by rank would need
 * devices that reorder (Topcuoglu, Hariri, Wu 2002). */
#include <math.h>

#include "schedule/policy.h"

SP_POLICY_RUN(heft)
{
    sp_env_state s;
    if (!sp_env_state_init(&s, env)) return sp_no_memory(&env->alloc, env->node_count, err);
    while (s.next < env->node_count) {
        const sp_env_node *n = &env->nodes[s.next];
        double best = INFINITY;
        uint32_t chosen = 0;
        for (uint32_t d = 0; d < env->device_count; d++) {
            if (!(n->allowed >> d & 1)) continue;
            double finish = sp_env_finish_on(&s, d), score = finish;
            if (options->objective == SP_OBJECTIVE_ENERGY)
                score = n->energy_j[d] +
                        env->idle_watts * fmax(0, finish - s.result.makespan_ns) * 1e-9;
            if (score >= best) continue;
            best = score;
            chosen = d;
        }
        device[s.next] = (uint8_t)chosen;
        sp_env_step(&s, chosen, NULL);
    }
    sp_env_state_free(&s);
    return SPAROA_OK;
}
