/* What a learning policy sees. */
#include <math.h>

#include "schedule/env.h"

static double squash(double x) /* signed log1p: keeps order, tames the tail */
{
    return x < 0 ? -log1p(-x) / 4 : log1p(x) / 4;
}

static double log_ratio(double a, double b)
{
    return a > 0 && b > 0 ? tanh(log(a / b) / 2) : 0;
}

static void observe_node(const sp_env_node *n, double unit, float *o)
{
    if (n->op_class < SPAROA_CLASS_COUNT) o[n->op_class] = 1;
    double bytes = n->cost.bytes_in + n->cost.bytes_w + n->cost.bytes_out;
    o[12] = (float)(log10(1 + n->cost.flops) / 12);
    o[13] = (float)(log10(1 + bytes) / 9);
    o[14] = (float)(bytes > 0 ? log10(1 + n->cost.flops / bytes) / 3 : 0);
    o[15] = (float)n->weight_zeros;
    o[16] = (float)n->input_zeros;
    o[17] = (float)(log10(fmax(1, n->channels)) / 4);
    o[18] = (float)(log10(fmax(1, n->height * n->width)) / 6);
    o[19] = (float)(fmin(n->kernel, 11) / 11);
    o[20] = (float)(log10(fmax(1, n->groups)) / 4);
    o[21] = (float)(log2(fmax(1, n->batch)) / 8);
    o[22] = (float)squash(n->time_ns[0] / unit);
    o[23] = (float)squash(n->time_ns[1] / unit);
    o[24] = (float)log_ratio(n->time_ns[0], n->time_ns[1]);
    o[25] = (float)log_ratio(n->energy_j[0], n->energy_j[1]);
    o[26] = (float)(n->input_zeros - n->sparsity_threshold);
    o[27] = (float)((log10(1 + n->cost.flops) - log10(1 + fmax(0, n->intensity_threshold))) / 6);
    int both = n->allowed & 3;
    o[47] = both == 3 ? 1.f : both == 2 ? 0.5f : 0.f;
}

static void observe_inputs(const sp_env_state *s, const sp_env_node *n, double unit, float *o)
{
    const sp_env *env = s->env;
    double bytes = 0, here[2] = {0}, fetch[2] = {0}, ready = 0;
    for (uint32_t k = 0; k < n->n_in; k++) {
        uint32_t v = env->reads[n->first_in + k], p = env->values[v].producer;
        uint32_t home = p == SP_ENV_INPUT ? 0 : sp_place_device(s->device[p]);
        const double *arrival = &s->arrival[(size_t)v * SP_ENV_DEVICES];
        bytes += env->values[v].bytes;
        ready = fmax(ready, arrival[home]);
        for (uint32_t d = 0; d < 2; d++)
            if (arrival[d] >= 0)
                here[d] += env->values[v].bytes;
            else
                fetch[d] += env->values[v].copy_ns[home][d];
    }
    for (int d = 0; d < 2; d++) {
        double lane = s->lane_free[d][0];
        for (int l = 1; l < env->devices[d].lanes; l++) lane = fmin(lane, s->lane_free[d][l]);
        o[28 + d] = (float)(bytes > 0 ? here[d] / bytes : 0);
        o[30 + d] = (float)squash(fetch[d] / unit);
        o[32 + d] = (float)fmax(-1, fmin(1, (lane - ready) / unit / 8));
    }
}

/* The node after which most of the rest waits. */
static void observe_next(const sp_env *env, const sp_env_node *n, double unit, float *o)
{
    const sp_env_node *next = NULL;
    double longest = -1;
    for (uint32_t k = 0; k < n->n_succ; k++) {
        uint32_t i = env->links[n->first_succ + k];
        if (env->rank_ns[i] <= longest) continue;
        longest = env->rank_ns[i];
        next = &env->nodes[i];
    }
    if (!next) return;
    o[38] = (float)squash(next->time_ns[0] / unit);
    o[39] = (float)squash(next->time_ns[1] / unit);
    o[40] = (float)log_ratio(next->time_ns[0], next->time_ns[1]);
}

void sp_env_observe(const sp_env_state *state, float observation[SP_ENV_OBS])
{
    const sp_env *env = state->env;
    memset(observation, 0, SP_ENV_OBS * sizeof *observation);
    if (state->next >= env->node_count) return;
    const sp_env_node *n = &env->nodes[state->next];
    double scale = env->scale_ns > 0 ? env->scale_ns : 1, unit = scale / env->node_count;
    float *o = observation;
    observe_node(n, unit, o);
    observe_inputs(state, n, unit, o);
    observe_next(env, n, unit, o);
    if ((n->allowed & 3) == 3 && env->device_count > 1)
        o[34] = (float)squash((sp_env_finish_on(state, 0) - sp_env_finish_on(state, 1)) / unit);
    o[35] = (float)fmin(2, env->rank_ns[state->next] / scale);
    o[36] = (float)(env->node_count - state->next) / (float)env->node_count;
    o[37] = (float)fmin(4, state->result.makespan_ns / scale);
    for (int d = 0; d < 2; d++) {
        o[41 + d] = (float)env->devices[d].load;
        o[43 + d] = (float)env->devices[d].clock;
    }
    o[45] = (float)(env->devices[1].temperature / 100);
    o[46] = (float)env->devices[1].memory_used;
}
