/* dp: dynamic programming over (node, device). On a chain every cost is additive and the outcome is
 * the optimum. On other graphs a node's cost is that of its latest predecessor, each predecessor on
 * the device that suits it, which may not be the same for two successors: then the one that needs
 * it most decides. Overlap and queues are not seen. */
#include <math.h>

#include "schedule/policy.h"

typedef struct dp {
    const sp_env *env;
    bool energy;
    double (*cost)[SP_ENV_DEVICES]; /* by node: least cost until it is done on a device */
} dp;

static double weigh(const dp *p, double ns, double joules)
{
    return p->energy ? joules + p->env->idle_watts * ns * 1e-9 : ns;
}

static double copy_cost(const dp *p, const sp_env_value *v, uint32_t from, uint32_t to)
{
    return weigh(p, v->copy_ns[from][to], v->copy_j[from][to]);
}

static double open_cost(const dp *p, uint32_t d)
{
    return weigh(p, p->env->devices[d].entry_ns, p->env->devices[d].entry_j);
}

/* The least cost until a value can be read on device d, and its producer's device then. */
static double reach(const dp *p, uint32_t value, uint32_t d, uint32_t *from)
{
    const sp_env_value *v = &p->env->values[value];
    if (v->producer == SP_ENV_INPUT) {
        *from = 0;
        return copy_cost(p, v, 0, d) + (d ? open_cost(p, d) : 0);
    }
    double best = INFINITY;
    for (uint32_t a = 0; a < p->env->device_count; a++) {
        double c = p->cost[v->producer][a];
        if (a != d) c += copy_cost(p, v, a, d) + open_cost(p, d);
        if (c >= best) continue;
        best = c;
        *from = a;
    }
    return best;
}

static double output_cost(const dp *p, const sp_env_node *n, uint32_t d)
{
    double cost = 0;
    for (uint32_t k = 0; k < n->n_out; k++) {
        const sp_env_value *v = &p->env->values[n->first_out + k];
        if (v->output) cost += copy_cost(p, v, d, 0);
    }
    return cost;
}

static void forward(dp *p)
{
    for (uint32_t i = 0; i < p->env->node_count; i++) {
        const sp_env_node *n = &p->env->nodes[i];
        for (uint32_t d = 0; d < p->env->device_count; d++) {
            double ready = n->n_in ? 0 : open_cost(p, d);
            uint32_t from;
            for (uint32_t k = 0; k < n->n_in; k++)
                ready = fmax(ready, reach(p, p->env->reads[n->first_in + k], d, &from));
            p->cost[i][d] = n->allowed >> d & 1 ? ready + weigh(p, n->time_ns[d], n->energy_j[d]) +
                                                      (n->n_succ ? 0 : output_cost(p, n, d))
                                                : INFINITY;
        }
    }
}

static uint32_t least(const dp *p, uint32_t node)
{
    uint32_t best = 0;
    while (!(p->env->nodes[node].allowed >> best & 1)) best++;
    for (uint32_t d = 0; d < p->env->device_count; d++)
        if (p->cost[node][d] < p->cost[node][best]) best = d;
    return best;
}

/* From the last node to the first: the wish of the successor that costs most wins. */
static void backward(const dp *p, uint8_t *device, double *wish)
{
    const sp_env *env = p->env;
    for (uint32_t i = 0; i < env->node_count; i++) wish[i] = -1;
    for (uint32_t i = env->node_count; i-- > 0;) {
        const sp_env_node *n = &env->nodes[i];
        if (wish[i] < 0) device[i] = (uint8_t)least(p, i);
        for (uint32_t k = 0; k < n->n_in; k++) {
            uint32_t value = env->reads[n->first_in + k], producer = env->values[value].producer;
            if (producer == SP_ENV_INPUT) continue;
            uint32_t from = 0;
            double cost = reach(p, value, device[i], &from);
            if (cost <= wish[producer]) continue;
            wish[producer] = cost;
            device[producer] = (uint8_t)from;
        }
    }
}

SP_POLICY_RUN(dp)
{
    dp p = {.env = env, .energy = options->objective == SP_OBJECTIVE_ENERGY};
    size_t row = sizeof *p.cost + sizeof(double);
    p.cost = sp_calloc(&env->alloc, env->node_count + 1, row);
    if (!p.cost) return sp_no_memory(&env->alloc, env->node_count * row, err);
    forward(&p);
    backward(&p, device, (double *)(p.cost + env->node_count + 1));
    bool chain = options->objective != SP_OBJECTIVE_PRODUCT;
    for (uint32_t i = 0; chain && i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        chain = n->n_in == 1 && n->n_out == 1 &&
                env->values[env->reads[n->first_in]].producer == (i ? i - 1 : SP_ENV_INPUT) &&
                env->values[n->first_out].output == (i + 1 == env->node_count);
    }
    if (chain && !sp_policy_memory_binds(env)) *optimal = true;
    sp_free(&env->alloc, p.cost, (env->node_count + 1) * row);
    return SPAROA_OK;
}
