/* Re-planning: pricing a state, candidates, the best of them. Training is in replan_train.c. */
#include "schedule/replan.h"

#include <math.h>

#include "base/rng.h"
#include "ops/op.h"
#include "schedule/env_build.h"
#include "schedule/env_predict.h"
#include "schedule/replan_parts.h"

/* ---- memory for policies that allocate: handed out from one block, given back all at once ---- */

static void *take(void *user, size_t size, size_t align)
{
    sp_scratch *s = user;
    size_t at = (s->used + align - 1) / align * align;
    if (at + size > s->size) return NULL;
    s->used = at + size;
    return s->block + at;
}

static void give(void *user, void *p, size_t size)
{
    (void)user;
    (void)p;
    (void)size;
}

/* What dp and heft ask for, generously. */
static size_t scratch_bytes(const sp_env *env)
{
    size_t node = SP_ENV_DEVICES * sizeof(double) + 4 * sizeof(double);
    return (env->node_count + 2) * node * 2 +
           (env->value_count + 2) * SP_ENV_DEVICES * sizeof(double) * 2 + 4096;
}

/* ---- making ---- */

static sparoa_status first_plan(sp_replanner *r, sparoa_error *err)
{
    const sp_policy_options o = {.objective = r->objective};
    sp_policy_result result;
    sparoa_status status =
        sp_policy_run(sp_policy_find("portfolio"), r->env, &o, r->nominal, &result, err);
    if (status == SPAROA_OK) memcpy(r->current, r->nominal, r->env->node_count);
    return status;
}

static sparoa_status fill(sp_replanner *r, sparoa_error *err)
{
    const sp_sac_options o = {.obs = SP_ENV_OBS,
                              .actions = 2,
                              .discrete = true,
                              .batch = 64,
                              .replay = 60000,
                              .gamma = 1,
                              .tau = 0.01,
                              .rate = 2e-3,
                              .initial_alpha = 0.05,
                              .target_entropy = 0.05,
                              .imitation = 1};
    SP_TRY(
        sp_env_build(&r->alloc, r->profile, r->platform, r->profile->regime, NULL, &r->env, err));
    const sp_platform_state nominal = sp_platform_nominal(r->platform);
    const sp_predict_machine machine = {r->platform, &nominal, r->profile->regime};
    SP_TRY(sp_env_predict_shipped(r->env, r->profile, &machine, NULL, err));
    if (r->env->device_count < 2)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "re-planning: %s has one device: there is nothing to decide",
                           r->platform->name);
    SP_TRY(sp_sac_create(&r->alloc, sp_cpu_kernels(NULL), &o, &r->sac, err));
    size_t nodes = r->env->node_count + 1;
    r->scratch.size = scratch_bytes(r->env);
    r->scratch.block = sp_arena_alloc(&r->arena, r->scratch.size);
    r->nominal = sp_arena_alloc(&r->arena, nodes);
    r->current = sp_arena_alloc(&r->arena, nodes);
    r->trial = sp_arena_alloc(&r->arena, nodes);
    r->best = sp_arena_alloc(&r->arena, nodes);
    bool ready = r->scratch.block && r->nominal && r->current && r->trial && r->best;
    if (!ready || !sp_env_state_init(&r->state, r->env))
        return sp_no_memory(&r->alloc, r->scratch.size, err);
    return first_plan(r, err);
}

sparoa_status sp_replanner_create(const sparoa_allocator *alloc, const sp_profile *profile,
                                  const sp_platform *platform, sp_objective objective,
                                  sp_replanner **replanner, sparoa_error *err)
{
    sp_replanner *r = sp_calloc(alloc, 1, sizeof *r);
    if (!r) return sp_no_memory(alloc, sizeof *r, err);
    *r = (sp_replanner){.alloc = *alloc, .profile = profile, .objective = objective};
    sp_arena_init(&r->arena, alloc);
    r->platform = sp_arena_copy(&r->arena, platform, sizeof *platform);
    sparoa_status status = r->platform ? fill(r, err) : sp_no_memory(alloc, sizeof *platform, err);
    if (status == SPAROA_OK)
        *replanner = r;
    else
        sp_replanner_destroy(r);
    return status;
}

void sp_replanner_destroy(sp_replanner *r)
{
    if (!r) return;
    sparoa_allocator alloc = r->alloc;
    sp_env_state_free(&r->state);
    sp_sac_destroy(r->sac);
    sp_env_destroy(r->env);
    sp_arena_destroy(&r->arena);
    sp_free(&alloc, r, sizeof *r);
}

sp_env *sp_replanner_env(const sp_replanner *r)
{
    return r->env;
}

sp_platform_state sp_replanner_nominal(const sp_replanner *r)
{
    return sp_platform_nominal(r->platform);
}

const sp_platform *sp_replanner_platform(const sp_replanner *r)
{
    return r->platform;
}

bool sp_replanner_trained(const sp_replanner *r)
{
    return r->trained;
}

/* ---- files ---- */

uint32_t sp_replan_schema(void)
{
    return (uint32_t)(sp_rng_text("observation 1: env.h, 48 numbers; host or device 1") +
                      SP_ENV_OBS);
}

size_t sp_replanner_file_bytes(const sp_replanner *r)
{
    return sp_sac_file_bytes(r->sac);
}

void sp_replanner_save(const sp_replanner *r, unsigned char *file)
{
    sp_sac_save(r->sac, sp_replan_schema(), file);
}

sparoa_status sp_replanner_load(sp_replanner *r, const unsigned char *file, size_t bytes,
                                sparoa_error *err)
{
    sparoa_status status = sp_sac_load(r->sac, sp_replan_schema(), file, bytes, err);
    if (status == SPAROA_OK) r->trained = true;
    return status;
}

/* ---- states ---- */

sp_live_state sp_live_random(const sp_platform *platform, uint64_t seed, double unit_ns)
{
    uint64_t key = sp_rng_stream(sp_rng_text("live"), seed), i = 0;
    sp_live_state s = {.platform = sp_platform_nominal(platform)};
    for (uint32_t d = 0; d < platform->device_count; d++) {
        double u[4];
        for (int k = 0; k < 4; k++) u[k] = sp_rng_uniform(key, i++);
        if (u[0] < 0.5) s.platform.device[d].load = 0.15 + 0.75 * u[1];
        if (u[2] < 0.5) s.platform.device[d].clock = 0.35 + 0.6 * u[3];
        if (sp_rng_uniform(key, i++) < 0.4)
            s.queue_ns[d] = 2.5 * sp_rng_uniform(key, i++) * unit_ns;
    }
    return s;
}

void sp_replan_price(sp_replanner *r, const sp_live_state *state)
{
    sp_env_reprice(r->env, r->profile, r->platform, r->profile->regime, &state->platform);
    for (uint32_t d = 0; d < r->env->device_count; d++)
        r->env->devices[d].queue_ns = state->queue_ns[d];
}

/* ---- deciding ---- */

void sp_replan_follow_policy(sp_replanner *r, uint8_t *device)
{
    float obs[SP_ENV_OBS];
    sp_env_state *s = &r->state;
    sp_env_state_reset(s);
    while (s->next < r->env->node_count) {
        uint32_t allowed = r->env->nodes[s->next].allowed, d;
        if ((allowed & 3) == 3) {
            sp_env_observe(s, obs);
            d = sp_sac_choice(r->sac, obs);
        } else {
            d = (uint32_t)__builtin_ctz(allowed);
        }
        device[s->next] = (uint8_t)d;
        sp_env_step(s, d, NULL);
    }
}

double sp_replan_score(sp_replanner *r, const uint8_t *device)
{
    sp_env_replay(&r->state, device);
    return sp_objective_score(r->objective, &r->state.result);
}

static bool fits(const sp_replanner *r)
{
    for (uint32_t d = 0; d < r->env->device_count; d++) {
        double limit = r->env->devices[d].memory_limit;
        if (limit > 0 && r->state.memory[d] > limit) return false;
    }
    return true;
}

static void consider(sp_replanner *r, const uint8_t *device, uint32_t from, double *best,
                     sp_replan_result *result)
{
    double score = sp_replan_score(r, device);
    if (!(score < *best) || !fits(r)) return;
    *best = score;
    result->price = r->state.result;
    result->from = from;
    memcpy(r->best, device, r->env->node_count);
}

/* Whether a cheap policy filled `trial`; it may allocate, from the scratch block. */
bool sp_replan_run(sp_replanner *r, uint32_t which)
{
    const sp_policy_options o = {.objective = r->objective};
    sparoa_allocator kept = r->env->alloc;
    bool optimal = false;
    r->scratch.used = 0;
    r->env->alloc = (sparoa_allocator){&r->scratch, take, give};
    sparoa_status status = SPAROA_OK;
    if (which == SP_REPLAN_GREEDY) status = sp_policy_greedy(r->env, &o, r->trial, &optimal, NULL);
    if (which == SP_REPLAN_DP) status = sp_policy_dp(r->env, &o, r->trial, &optimal, NULL);
    if (which == SP_REPLAN_HEFT) status = sp_policy_heft(r->env, &o, r->trial, &optimal, NULL);
    r->env->alloc = kept;
    return status == SPAROA_OK;
}

void sp_replan(sp_replanner *r, const sp_live_state *state, uint32_t which, uint8_t *device,
               sp_replan_result *result)
{
    double best = INFINITY;
    *result = (sp_replan_result){0};
    if (!which) which = SP_REPLAN_ALL;
    sp_replan_price(r, state);
    if (which & SP_REPLAN_KEEP) {
        consider(r, r->current, SP_REPLAN_KEEP, &best, result);
        consider(r, r->nominal, SP_REPLAN_KEEP, &best, result);
    }
    for (uint32_t k = SP_REPLAN_GREEDY; k <= SP_REPLAN_HEFT; k *= 2)
        if (which & k && sp_replan_run(r, k)) consider(r, r->trial, k, &best, result);
    if (which & SP_REPLAN_POLICY && r->trained) {
        sp_replan_follow_policy(r, r->trial);
        consider(r, r->trial, SP_REPLAN_POLICY, &best, result);
    }
    if (!isfinite(best)) { /* nothing fits or nothing was asked for: what fitted before */
        sp_replan_score(r, r->nominal);
        result->price = r->state.result;
        result->from = SP_REPLAN_KEEP;
        memcpy(r->best, r->nominal, r->env->node_count);
    }
    result->changed = memcmp(r->best, r->current, r->env->node_count) != 0;
    memcpy(r->current, r->best, r->env->node_count);
    memcpy(device, r->best, r->env->node_count);
}
