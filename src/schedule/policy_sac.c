/*
 * sac: learns to place this graph's nodes at these prices, by Soft Actor-Critic (discrete: host,
 * device 1, or with `split` both). One episode places all nodes; what a step adds to the objective,
 * relative to the best demonstration, is its cost, so that the return is the objective itself. The
 * replay memory starts with what greedy, dp, heft and (with `split`) coexec do. The plan is the
 * best that was met on the way, refined by moving nodes; results are a function of the environment,
 * the options and the seed.
 */
#include <math.h>

#include "schedule/policy.h"
#include "schedule/sac.h"

enum {
    LEAST_UPDATES = 2000,
    UPDATES_PER_NODE = 60,
    MOST_UPDATES = 8000,
    BATCH = 64,
    DEMONSTRATIONS = 4, /* the last one divides nodes */
    REFINE_ROUNDS = 4
};
#define RETURN_SCALE 20 /* the return of the best demonstration, negative */

typedef struct learner {
    const sp_env *env;
    const sp_policy_options *options;
    sp_env_state state;
    sp_sac *sac;
    uint8_t *best;
    double best_score, unit; /* unit: of the objective, per unit of reward */
    uint32_t updates, most_updates;
} learner;

static int32_t forced(const sp_env_node *n)
{
    if ((n->allowed & 3) == 3) return -1;
    return __builtin_ctz(n->allowed);
}

/* What has been spent so far, in units of reward; time above the limit counts as much as a whole
 * return for each limit that it is long. */
static double cost(const learner *l)
{
    const sp_env_result *r = &l->state.result;
    double late = l->options->limit_ns > 0 ? r->makespan_ns / l->options->limit_ns - 1 : 0;
    return sp_objective_score(l->options->objective, r) / l->unit + RETURN_SCALE * fmax(0, late);
}

/* Places one node; returns the reward. */
static double step(learner *l, uint32_t device)
{
    double before = cost(l);
    sp_env_step(&l->state, device, NULL);
    return before - cost(l);
}

static void keep_best(learner *l)
{
    double score = sp_policy_score(l->options, &l->state.result);
    if (!(score < l->best_score)) return;
    l->best_score = score;
    memcpy(l->best, l->state.device, l->env->node_count);
    if (l->options->progress) l->options->progress(l->options->progress_user, l->updates, score);
}

/* Host, device 1, or both: divided where that is sooner by itself. */
static uint32_t place_of(const sp_env_node *n, float action)
{
    if (action < 2) return (uint32_t)action;
    return n->split_place ? n->split_place : 1;
}

typedef enum mode { FOLLOW, EXPLORE, EXPLOIT } mode;

/* One episode: after `script` (FOLLOW), or by the policy. Learns as it goes when it explores. */
static sparoa_status episode(learner *l, mode how, const uint8_t *script, sparoa_error *err)
{
    float obs[2][SP_ENV_OBS], action = 0;
    int now = 0;
    bool open = false;
    double reward = 0;
    sparoa_status status = SPAROA_OK;
    sp_env_state_reset(&l->state);
    while (l->state.next < l->env->node_count && !status) {
        int32_t device = forced(&l->env->nodes[l->state.next]);
        if (device < 0) {
            sp_env_observe(&l->state, obs[now]);
            if (open) sp_sac_observe(l->sac, obs[!now], &action, reward, obs[now], false);
            reward = 0;
            if (how == FOLLOW) {
                device = script[l->state.next];
                action = sp_place_share(script[l->state.next]) ? 2 : (float)device;
            } else {
                sp_sac_act(l->sac, obs[now], how == EXPLORE, &action);
                device = (int32_t)place_of(&l->env->nodes[l->state.next], action);
            }
            open = how != EXPLOIT;
            now = !now;
            if (how == EXPLORE && l->updates < l->most_updates) {
                status = sp_sac_update(l->sac, NULL, err);
                l->updates++;
            }
        }
        reward += step(l, (uint32_t)device);
    }
    if (open) sp_sac_observe(l->sac, obs[!now], &action, reward, obs[!now], true);
    keep_best(l);
    return status;
}

/* Replays what simpler policies do, twice each: once to know the unit, once to remember. */
static sparoa_status demonstrate(learner *l, const sp_policy_options *options, uint8_t *device,
                                 sparoa_error *err)
{
    static sparoa_status (*const run[DEMONSTRATIONS])(const sp_env *, const sp_policy_options *,
                                                      uint8_t *, bool *, sparoa_error *) = {
        sp_policy_greedy, sp_policy_dp, sp_policy_heft, sp_policy_coexec};
    int count = options->split ? DEMONSTRATIONS : DEMONSTRATIONS - 1;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < count; i++) {
            bool optimal;
            sparoa_status status = run[i](l->env, options, device, &optimal, err);
            if (!status && pass == 1) status = episode(l, FOLLOW, device, err);
            if (status) return status;
            if (pass == 1) continue;
            sp_env_replay(&l->state, device);
            keep_best(l);
        }
        if (l->options->start) {
            sp_env_replay(&l->state, l->options->start);
            keep_best(l);
        }
        bool known = l->best_score > 0 && isfinite(l->best_score);
        l->unit = known ? l->best_score / RETURN_SCALE : 1;
    }
    return SPAROA_OK;
}

/* Two episodes without learning: one to know the unit, one to remember. */
static sparoa_status measure(learner *l, sparoa_error *err)
{
    uint32_t most = l->most_updates;
    l->most_updates = 0;
    sparoa_status status = episode(l, EXPLORE, NULL, err);
    double score = sp_objective_score(l->options->objective, &l->state.result);
    if (score > 0) l->unit = score / RETURN_SCALE;
    sp_sac_forget(l->sac); /* its costs are in another unit */
    if (!status) status = episode(l, EXPLORE, NULL, err);
    l->most_updates = most;
    return status;
}

static sparoa_status learn(learner *l, const sp_policy_options *options, uint8_t *device,
                           sparoa_error *err)
{
    sparoa_status status = options->alone ? measure(l, err) : demonstrate(l, options, device, err);
    for (uint32_t i = 1; !status && l->updates < l->most_updates; i++) {
        status = episode(l, EXPLORE, NULL, err);
        if (!status && i % 8 == 0) status = episode(l, EXPLOIT, NULL, err);
    }
    if (!status) status = episode(l, EXPLOIT, NULL, err);
    memcpy(device, l->best, l->env->node_count);
    if (!status && !options->alone)
        status = sp_policy_refine(l->env, options, REFINE_ROUNDS, device, err);
    if (!status && options->progress) {
        sp_env_replay(&l->state, device);
        double score = sp_policy_score(options, &l->state.result);
        options->progress(options->progress_user, l->updates, score);
    }
    return status;
}

static uint32_t count_choices(const sp_env *env)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < env->node_count; i++) n += forced(&env->nodes[i]) < 0;
    return n;
}

SP_POLICY_RUN(sac)
{
    uint32_t choices = count_choices(env), most = options->updates;
    if (!most) {
        most =
            choices < MOST_UPDATES / UPDATES_PER_NODE ? choices * UPDATES_PER_NODE : MOST_UPDATES;
        if (most < LEAST_UPDATES) most = LEAST_UPDATES;
    }
    learner l = {.env = env,
                 .options = options,
                 .best_score = INFINITY,
                 .unit = 1,
                 .most_updates = choices ? most : 0};
    sp_sac_options o = {.obs = SP_ENV_OBS,
                        .actions = options->split ? 3 : 2,
                        .discrete = true,
                        .batch = BATCH,
                        .gamma = 1,
                        .tau = 0.01,
                        .rate = 3e-3,
                        .initial_alpha = 1,
                        .target_entropy = 0.2,
                        .seed = options->seed};
    *optimal = false;
    l.best = sp_calloc(&env->alloc, env->node_count + 1, 1);
    bool ready = l.best && sp_env_state_init(&l.state, env);
    sparoa_status status = ready ? sp_sac_create(&env->alloc, sp_cpu_kernels(NULL), &o, &l.sac, err)
                                 : sp_no_memory(&env->alloc, env->node_count, err);
    if (!status) status = learn(&l, options, device, err);
    sp_sac_destroy(l.sac);
    sp_env_state_free(&l.state);
    sp_free(&env->alloc, l.best, env->node_count + 1);
    return status;
}
