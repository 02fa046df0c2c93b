/* Choosing clocks by branch and bound over the settings of a platform. */
#include "schedule/clocks.h"

#include <math.h>

#include "ops/op.h"
#include "schedule/env_build.h"

enum {
    SETTINGS = (SP_CURVE_POINTS + 1) * (SP_CURVE_POINTS + 1),
    TRIES = 24,
    SHARES = 16,
    PRICES = 10
};

/* Energy and the price of time, where time is at least any weighted mean of the devices' work:
 * each node where that is least. A price of time above idle power stands for the limit (Lagrange).
 */
static double relaxed(const sp_env *env, double host_share, double watts)
{
    double sum = 0;
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        double least = INFINITY;
        for (uint32_t d = 0; d < env->device_count; d++) {
            double share = d ? (1 - host_share) / (env->device_count - 1) : host_share;
            double ns = n->time_ns[d] * share / env->devices[d].lanes;
            if (n->allowed >> d & 1) least = fmin(least, n->energy_j[d] + watts * ns * 1e-9);
        }
        sum += least;
    }
    return sum;
}

/* The node that goes on the longest path from here, or node_count at its end. */
static uint32_t next_on_path(const sp_env *env, uint32_t node)
{
    const sp_env_node *n = &env->nodes[node];
    uint32_t best = env->node_count;
    for (uint32_t k = 0; k < n->n_succ; k++) {
        uint32_t s = env->links[n->first_succ + k];
        if (best == env->node_count || env->best_ns[s] > env->best_ns[best]) best = s;
    }
    return best;
}

static double weigh(double watts, double ns, double joules)
{
    return joules + watts * ns * 1e-9;
}

/* What node `to` costs on device d more for reading from a node or input that is on `from`. */
static double move_cost(const sp_env *env, uint32_t producer, uint32_t to, uint32_t from,
                        uint32_t d, double watts)
{
    const sp_env_node *n = &env->nodes[to];
    double most = 0;
    for (uint32_t k = 0; from != d && k < n->n_in; k++) {
        const sp_env_value *v = &env->values[env->reads[n->first_in + k]];
        if (v->producer == producer)
            most = fmax(most, weigh(watts, v->copy_ns[from][d] + env->devices[d].entry_ns,
                                    v->copy_j[from][d] + env->devices[d].entry_j));
    }
    return most;
}

static double leave_cost(const sp_env *env, uint32_t node, uint32_t from, double watts)
{
    const sp_env_node *n = &env->nodes[node];
    double most = 0;
    for (uint32_t k = 0; k < n->n_out; k++) {
        const sp_env_value *v = &env->values[n->first_out + k];
        if (v->output) most = fmax(most, weigh(watts, v->copy_ns[from][0], v->copy_j[from][0]));
    }
    return most;
}

/* The same where time is at least that of the longest path, copies between its nodes included:
 * dynamic programming along it, every other node where it takes the least energy. */
static double along_path(const sp_env *env, double watts)
{
    double cost[SP_ENV_DEVICES] = {0}, next[SP_ENV_DEVICES], rest = relaxed(env, 0, 0);
    uint32_t node = 0, last = env->node_count;
    for (uint32_t i = 1; i < env->node_count; i++)
        if (env->best_ns[i] > env->best_ns[node]) node = i;
    for (; node < env->node_count; last = node, node = next_on_path(env, node)) {
        const sp_env_node *n = &env->nodes[node];
        double least = INFINITY;
        for (uint32_t d = 0; d < env->device_count; d++) {
            next[d] = INFINITY;
            if (!(n->allowed >> d & 1)) continue;
            least = fmin(least, n->energy_j[d]);
            for (uint32_t e = 0; e < (last < env->node_count ? env->device_count : 1); e++)
                next[d] = fmin(
                    next[d], cost[e] + move_cost(env, last < env->node_count ? last : SP_ENV_INPUT,
                                                 node, e, d, watts));
            next[d] += weigh(watts, n->time_ns[d], n->energy_j[d]);
        }
        rest -= least;
        memcpy(cost, next, sizeof cost);
    }
    double best = INFINITY;
    for (uint32_t d = 0; d < env->device_count && last < env->node_count; d++)
        best = fmin(best, cost[d] + leave_cost(env, last, d, watts));
    return isfinite(best) ? rest + best : rest;
}

double sp_env_energy_bound(const sp_env *env, double limit_ns)
{
    double fastest = sp_env_lower_bound(env, false);
    if (limit_ns > 0 && fastest > limit_ns) return INFINITY;
    double bound = relaxed(env, 0, 0) + env->idle_watts * fastest * 1e-9;
    for (int k = 0; k < PRICES; k++) {
        double more = k && limit_ns > 0 ? ldexp(env->idle_watts + 1e-3, k - 5) : 0;
        double watts = env->idle_watts + more, late = more * limit_ns * 1e-9;
        bound = fmax(bound, along_path(env, watts) - late);
        for (int s = 0; s <= SHARES; s++)
            bound = fmax(
                bound, relaxed(env, env->device_count > 1 ? (double)s / SHARES : 1, watts) - late);
    }
    return bound;
}

static double score_bound(const sp_env *env, const sp_policy_options *o)
{
    double ns = sp_env_lower_bound(env, false);
    sp_env_result r = {.makespan_ns = ns, .energy_j = sp_env_energy_bound(env, o->limit_ns)};
    return isfinite(r.energy_j) ? sp_objective_score(o->objective, &r) : INFINITY;
}

typedef struct setting {
    sp_platform_state state;
    double bound, known; /* score of the best plan at hand, INFINITY where none meets the limit */
} setting;

/* What the plan to better, and quick policies, score at the environment's prices. */
static sparoa_status known_score(const sp_env *env, const sp_policy_options *o, uint8_t *trial,
                                 double *score, sparoa_error *err)
{
    static const char *const names[] = {"gpu", "dp", "heft"};
    sp_policy_result r;
    *score = INFINITY;
    if (o->start) {
        SP_TRY(sp_env_evaluate(env, o->start, &r.price, err));
        *score = sp_policy_score(o, &r.price);
    }
    for (int i = 0; i < 3; i++) {
        SP_TRY(sp_policy_run(sp_policy_find(names[i]), env, o, trial, &r, err));
        *score = fmin(*score, sp_policy_score(o, &r.price));
    }
    return SPAROA_OK;
}

/* Settings with a plan first, the best of them first; then those of least bound. */
static bool before(const setting *a, const setting *b)
{
    return a->known != b->known ? a->known < b->known : a->bound < b->bound;
}

/* Clocks to choose from: the platform's steps, and full if they lack it. */
static uint32_t clocks_of(const sp_platform *p, uint32_t d)
{
    uint32_t n = d < p->device_count ? p->devices[d].clock_step_count : 0;
    return n && p->devices[d].clock_steps[n - 1] >= 1 ? n : n + 1;
}

static double clock_of(const sp_platform *p, uint32_t d, uint32_t i)
{
    return d < p->device_count && i < p->devices[d].clock_step_count ? p->devices[d].clock_steps[i]
                                                                     : 1;
}

static sparoa_status list_settings(sp_env *env, const sp_profile *profile, const sp_platform *p,
                                   const sp_platform_state *base, const sp_policy_options *o,
                                   uint8_t *trial, setting *list, uint32_t *count,
                                   sparoa_error *err)
{
    *count = 0;
    for (uint32_t a = 0; a < clocks_of(p, 0); a++)
        for (uint32_t b = 0; b < clocks_of(p, 1); b++) {
            setting s = {.state = *base};
            s.state.device[0].clock *= clock_of(p, 0, a);
            s.state.device[1].clock *= clock_of(p, 1, b);
            sp_env_reprice(env, profile, p, profile->regime, &s.state);
            s.bound = score_bound(env, o);
            SP_TRY(known_score(env, o, trial, &s.known, err));
            uint32_t at = (*count)++;
            for (; at > 0 && before(&s, &list[at - 1]); at--) list[at] = list[at - 1];
            list[at] = s;
        }
    return SPAROA_OK;
}

static sparoa_status try_settings(sp_env *env, const sp_profile *profile,
                                  const sp_platform *platform, const sp_policy *policy,
                                  const sp_policy_options *options, const setting *list,
                                  uint32_t count, uint8_t *trial, uint8_t *device,
                                  sp_policy_result *result, sp_clock_choice *choice,
                                  sparoa_error *err)
{
    double best = INFINITY;
    for (uint32_t i = 0; i < count && choice->tried < TRIES; i++) {
        sp_policy_result r;
        if (!(list[i].bound < best)) continue;
        sp_env_reprice(env, profile, platform, profile->regime, &list[i].state);
        SP_TRY(sp_policy_run(policy, env, options, trial, &r, err));
        choice->tried++;
        double score = sp_policy_score(options, &r.price);
        if (!(score < best)) continue;
        best = score;
        *result = r;
        choice->state = list[i].state;
        memcpy(device, trial, env->node_count);
    }
    return SPAROA_OK;
}

sparoa_status sp_clocks_choose(sp_env *env, const sp_profile *profile, const sp_platform *platform,
                               const sp_platform_state *base, const sp_policy *policy,
                               const sp_policy_options *options, uint8_t *device,
                               sp_policy_result *result, sp_clock_choice *choice, sparoa_error *err)
{
    size_t bytes = SETTINGS * sizeof(setting) + env->node_count;
    setting *list = sp_alloc(&env->alloc, bytes);
    if (!list) return sp_no_memory(&env->alloc, bytes, err);
    uint8_t *trial = (uint8_t *)(list + SETTINGS);
    uint32_t count;
    *choice = (sp_clock_choice){.state = *base, .bound = INFINITY};
    sparoa_status status =
        list_settings(env, profile, platform, base, options, trial, list, &count, err);
    for (uint32_t i = 0; status == SPAROA_OK && i < count; i++)
        choice->bound = fmin(choice->bound, list[i].bound);
    if (status == SPAROA_OK)
        status = try_settings(env, profile, platform, policy, options, list, count, trial, device,
                              result, choice, err);
    sp_env_reprice(env, profile, platform, profile->regime, &choice->state);
    if (status == SPAROA_OK && !choice->tried) /* no setting meets the limit: as without */
        status = sp_policy_run(policy, env, options, device, result, err);
    sp_free(&env->alloc, list, bytes);
    return status;
}
