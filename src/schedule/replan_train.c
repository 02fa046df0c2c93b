/* Training the policy of a replanner over random states of the machine. */
#include <math.h>

#include "base/rng.h"
#include "ops/op.h"
#include "schedule/replan_parts.h"

enum {
    UPDATES = 4000,
    HELD_OUT = 24,      /* states in each of the sets that are never trained on */
    CHECKS = 12,        /* how often they are asked */
    TRANSITIONS = 24000 /* of the teacher */
};
#define RETURN_SCALE 20
/* First states of the sets. Which policy is kept is chosen on one and judged on another, as the
 * best of many looks better on those that chose it than it is. */
#define EXPLORED ((uint64_t)1 << 32)
#define CHOOSING ((uint64_t)1 << 40)
#define JUDGING ((uint64_t)1 << 41)
#define REFINED_STEPS 3e7 /* of the environment, for refining what the teacher does */

typedef struct trainer {
    sp_replanner *r;
    uint64_t seed;
    double unit_ns; /* of queues: the nominal plan's time */
    uint8_t *teacher;
    double held_out[HELD_OUT]; /* the teacher's scores on the set at hand */
    unsigned char *kept;       /* the best policy so far, as a file */
    double best;
    uint32_t refined; /* states whose teacher is refined */
} trainer;

static sp_live_state draw(const trainer *t, uint64_t i)
{
    return sp_live_random(t->r->platform, sp_rng_bits(t->seed, i), t->unit_ns);
}

/* The best that simple policies know for the present prices; returns its score. */
static double teach(trainer *t, bool refine, sparoa_error *err, sparoa_status *status)
{
    sp_replanner *r = t->r;
    const sp_policy_options o = {.objective = r->objective};
    memcpy(t->teacher, r->nominal, r->env->node_count);
    double best = sp_replan_score(r, t->teacher);
    for (uint32_t k = SP_REPLAN_GREEDY; k <= SP_REPLAN_HEFT; k *= 2) {
        if (!sp_replan_run(r, k)) continue;
        double score = sp_replan_score(r, r->trial);
        if (!(score < best)) continue;
        best = score;
        memcpy(t->teacher, r->trial, r->env->node_count);
    }
    if (!refine) return best;
    *status = sp_policy_refine(r->env, &o, 2, t->teacher, err);
    return sp_replan_score(r, t->teacher);
}

typedef struct walk {
    float obs[2][SP_ENV_OBS], action;
    int now;
    bool open;
    double reward, unit;
} walk;

static void close_step(trainer *t, walk *w, bool done)
{
    if (w->open)
        sp_sac_observe(t->r->sac, w->obs[!w->now], &w->action, w->reward,
                       w->obs[done ? !w->now : w->now], done);
    w->reward = 0;
}

/* One run at the present prices, after `script` or by the policy; learns from every step it makes
 * itself until `updates` are used up. */
static sparoa_status run(trainer *t, const uint8_t *script, double unit, uint32_t *updates,
                         sparoa_error *err)
{
    sp_replanner *r = t->r;
    sp_env_state *s = &r->state;
    walk w = {.unit = unit};
    sparoa_status status = SPAROA_OK;
    sp_sac_shown(r->sac, script != NULL);
    sp_env_state_reset(s);
    while (s->next < r->env->node_count && !status) {
        uint32_t allowed = r->env->nodes[s->next].allowed;
        uint32_t device = script ? script[s->next] : (uint32_t)__builtin_ctz(allowed);
        if ((allowed & 3) == 3) {
            sp_env_observe(s, w.obs[w.now]);
            close_step(t, &w, false);
            if (!script) {
                sp_sac_act(r->sac, w.obs[w.now], true, &w.action);
                device = (uint32_t)w.action;
                if (*updates) status = sp_sac_update(r->sac, NULL, err);
                if (*updates) --*updates;
            }
            w.action = (float)device;
            w.open = true;
            w.now = !w.now;
        }
        double before = sp_objective_score(r->objective, &s->result);
        sp_env_step(s, device, NULL);
        w.reward += (before - sp_objective_score(r->objective, &s->result)) / w.unit;
    }
    close_step(t, &w, true);
    return status;
}

/* What the teacher reaches on a set. */
static sparoa_status know(trainer *t, uint64_t set, sparoa_error *err)
{
    sparoa_status status = SPAROA_OK;
    for (uint64_t i = 0; i < HELD_OUT && !status; i++) {
        sp_live_state s = draw(t, set + i);
        sp_replan_price(t->r, &s);
        t->held_out[i] = teach(t, t->refined > 0, err, &status);
    }
    return status;
}

/* How much the policy alone is above that in the mean. */
static double above(trainer *t, uint64_t set)
{
    double mean = 0;
    for (uint64_t i = 0; i < HELD_OUT; i++) {
        sp_live_state s = draw(t, set + i);
        sp_replan_price(t->r, &s);
        sp_replan_follow_policy(t->r, t->r->trial);
        mean += (sp_replan_score(t->r, t->r->trial) / t->held_out[i] - 1) / HELD_OUT;
    }
    return mean;
}

/* Keeps the best policy. */
static void check(trainer *t)
{
    double mean = above(t, CHOOSING);
    if (!(mean < t->best)) return;
    t->best = mean;
    sp_replanner_save(t->r, t->kept);
}

/* Goes on with the best policy; returns how it does on states that did not choose it. */
static sparoa_status judge(trainer *t, double *share, sparoa_error *err)
{
    if (isfinite(t->best))
        SP_TRY(sp_replanner_load(t->r, t->kept, sp_replanner_file_bytes(t->r), err));
    SP_TRY(know(t, JUDGING, err));
    *share = above(t, JUDGING);
    return SPAROA_OK;
}

static sparoa_status show(trainer *t, sp_replan_training *training, sparoa_error *err)
{
    uint32_t none = 0, nodes = t->r->env->node_count;
    uint32_t states = nodes ? TRANSITIONS / nodes : 0;
    sparoa_status status = SPAROA_OK;
    training->states = states < 40 ? 40 : states > 600 ? 600 : states;
    for (uint32_t i = 0; i < training->states && !status; i++) {
        sp_live_state s = draw(t, i);
        sp_replan_price(t->r, &s);
        double score = teach(t, i < t->refined, err, &status);
        double unit = score > 0 ? score / RETURN_SCALE : 1;
        if (!status) status = run(t, t->teacher, unit, &none, err);
    }
    return status;
}

/* A third of the updates on what was shown, then by itself. */
static sparoa_status learn(trainer *t, uint32_t updates, sparoa_error *err)
{
    sparoa_status status = SPAROA_OK;
    uint32_t shown = updates / 3, each = updates / CHECKS + 1, since = 0;
    for (uint32_t i = 0; i < shown && !status; i++) {
        status = sp_sac_update(t->r->sac, NULL, err);
        if (i % each == each - 1) check(t);
    }
    updates -= shown;
    for (uint32_t i = 0; updates && !status; i++) {
        uint32_t before = updates;
        sp_live_state s = draw(t, EXPLORED + i);
        sp_replan_price(t->r, &s);
        double unit = teach(t, false, err, &status) / RETURN_SCALE;
        if (!status) status = run(t, NULL, unit > 0 ? unit : 1, &updates, err);
        if (before == updates) break; /* there is nothing to decide */
        since += before - updates;
        if (since < each) continue;
        since = 0;
        check(t);
    }
    check(t);
    return status;
}

sparoa_status sp_replanner_train(sp_replanner *r, sp_replan_training *training, sparoa_error *err)
{
    trainer t = {.r = r, .seed = sp_rng_stream(training->seed, 7), .best = INFINITY};
    size_t bytes = sp_replanner_file_bytes(r);
    const sp_live_state nominal = {.platform = sp_platform_nominal(r->platform)};
    t.teacher = sp_alloc(&r->alloc, r->env->node_count + 1);
    t.kept = sp_alloc(&r->alloc, bytes);
    sparoa_status status = SPAROA_OK;
    if (!t.teacher || !t.kept) status = sp_no_memory(&r->alloc, bytes, err);
    if (status == SPAROA_OK) {
        double nodes = r->env->node_count;
        t.refined = (uint32_t)fmin(600, REFINED_STEPS / (nodes * nodes * 10 + 1));
        sp_replan_price(r, &nominal);
        sp_replan_score(r, r->nominal);
        t.unit_ns = r->state.result.makespan_ns;
        sp_sac_forget(r->sac);
        status = know(&t, CHOOSING, err);
    }
    if (status == SPAROA_OK) status = show(&t, training, err);
    if (status == SPAROA_OK)
        status = learn(&t, training->updates ? training->updates : UPDATES, err);
    if (status == SPAROA_OK) status = judge(&t, &training->above_teacher, err);
    sp_free(&r->alloc, t.teacher, r->env->node_count + 1);
    sp_free(&r->alloc, t.kept, bytes);
    return status;
}
