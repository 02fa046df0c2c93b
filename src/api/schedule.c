/* sparoa_schedule.h: platforms, profiles, plans and their simulation. */
#include <math.h>

#include "api/schedule_objects.h"
#include "base/clock.h"
#include "schedule/clocks.h"
#include "schedule/env_predict.h"

_Static_assert((int)SPAROA_MAX_DEVICES == (int)SP_ENV_DEVICES, "devices");
_Static_assert((int)SPAROA_MAX_DEVICES == (int)SP_PLATFORM_DEVICES, "devices");

static sparoa_status no_argument(sparoa_error *err, const char *what)
{
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "%s is NULL", what);
}

/* ---- platforms ---- */

sparoa_status sparoa_platform_load(sparoa_runtime *runtime, const char *path,
                                   sparoa_platform **platform, sparoa_error *err)
{
    if (!runtime || !path || !platform) return no_argument(err, "runtime, path or platform");
    sparoa_platform *p = sp_calloc(&runtime->alloc, 1, sizeof *p);
    if (!p) return sp_no_memory(&runtime->alloc, sizeof *p, err);
    sparoa_status status = sp_platform_load(&runtime->alloc, path, &p->p, err);
    if (status != SPAROA_OK) {
        sp_free(&runtime->alloc, p, sizeof *p);
        return status;
    }
    p->runtime = runtime;
    sp_runtime_ref(runtime);
    *platform = p;
    return SPAROA_OK;
}

void sparoa_platform_destroy(sparoa_platform *platform)
{
    if (!platform) return;
    sparoa_runtime *rt = platform->runtime;
    sp_free(&rt->alloc, platform, sizeof *platform);
    sp_runtime_unref(rt);
}

const char *sparoa_platform_name(const sparoa_platform *platform)
{
    return platform ? platform->p.name : NULL;
}

const char *sparoa_platform_device(const sparoa_platform *platform, size_t index)
{
    return platform && index < platform->p.device_count ? platform->p.devices[index].name : NULL;
}

sparoa_status sparoa_platform_save(const sparoa_platform *platform, const char *path,
                                   sparoa_error *err)
{
    if (!platform || !path) return no_argument(err, "platform or path");
    sp_text text;
    sp_text_init(&text, &platform->runtime->alloc);
    sp_platform_write(&platform->p, &text);
    sparoa_status status = sp_text_save(&text, path, err);
    sp_text_free(&text);
    return status;
}

const char *sparoa_platform_mode(const sparoa_platform *platform, size_t index)
{
    return platform && index < platform->p.mode_count ? platform->p.modes[index].name : NULL;
}

/* ---- profiles ---- */

static sparoa_status wrap_profile(sparoa_runtime *rt, sp_profile *inner, sparoa_profile **profile,
                                  sparoa_error *err)
{
    sparoa_profile *p = sp_calloc(&rt->alloc, 1, sizeof *p);
    if (!p) {
        sp_profile_destroy(inner);
        return sp_no_memory(&rt->alloc, sizeof *p, err);
    }
    *p = (sparoa_profile){rt, inner};
    sp_runtime_ref(rt);
    *profile = p;
    return SPAROA_OK;
}

sparoa_status sparoa_profile_create(sparoa_model *model, const sparoa_tensor *inputs,
                                    size_t input_count, sparoa_regime regime,
                                    sparoa_profile **profile, sparoa_error *err)
{
    if (!model || (!inputs && input_count) || !profile)
        return no_argument(err, "model, inputs or profile");
    if ((unsigned)regime >= SP_REGIME_COUNT)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "there is no regime %d", regime);
    sparoa_runtime *rt = model->runtime;
    sp_profile *p;
    SP_TRY(sp_profile_create(&rt->alloc, model->graph, model->graph->name, inputs, input_count,
                             (sp_regime)regime, &p, err));
    return wrap_profile(rt, p, profile, err);
}

sparoa_status sparoa_profile_of_session(const sparoa_session *session, const sparoa_tensor *inputs,
                                        size_t input_count, sparoa_profile **profile,
                                        sparoa_error *err)
{
    if (!session || (!inputs && input_count) || !profile)
        return no_argument(err, "session, inputs or profile");
    sparoa_runtime *rt = session->model->runtime;
    sp_profile *p;
    SP_TRY(sp_profile_of_graph(&rt->alloc, session->graph, inputs, input_count, &p, err));
    return wrap_profile(rt, p, profile, err);
}

sparoa_status sparoa_profile_load(sparoa_runtime *runtime, const char *path,
                                  sparoa_profile **profile, sparoa_error *err)
{
    if (!runtime || !path || !profile) return no_argument(err, "runtime, path or profile");
    sp_profile *p;
    SP_TRY(sp_profile_load(&runtime->alloc, path, &p, err));
    return wrap_profile(runtime, p, profile, err);
}

void sparoa_profile_destroy(sparoa_profile *profile)
{
    if (!profile) return;
    sparoa_runtime *rt = profile->runtime;
    sp_profile_destroy(profile->p);
    sp_free(&rt->alloc, profile, sizeof *profile);
    sp_runtime_unref(rt);
}

const char *sparoa_profile_passes(sparoa_regime regime)
{
    return sp_regime_disabled_passes((sp_regime)regime);
}

size_t sparoa_profile_node_count(const sparoa_profile *profile)
{
    return profile ? profile->p->node_count : 0;
}

static uint32_t device_slot(sp_profile *p, const char *device)
{
    uint32_t d = 0;
    while (d < p->device_count && strcmp(p->devices[d], device)) d++;
    if (d == p->device_count && d < SP_PLATFORM_DEVICES) {
        snprintf(p->devices[d], sizeof p->devices[d], "%s", device);
        p->device_count++;
    }
    return d;
}

/* The profile's node of a session's node, or SP_NO_ID; nodes of both are in the same order mostly,
 * so that the search begins behind the last hit. */
static uint32_t node_of(const sp_profile *p, const sparoa_node_info *n, uint32_t *at)
{
    for (uint32_t k = 0; k < p->node_count; k++) {
        uint32_t i = (*at + k) % p->node_count;
        if (strcmp(p->nodes[i].name, n->name) || strcmp(p->nodes[i].op, n->op)) continue;
        *at = i + 1;
        return i;
    }
    return SP_NO_ID;
}

static sparoa_status measured_slot(sp_profile *p, const sparoa_session *session, const char *device,
                                   uint32_t *slot, sparoa_error *err)
{
    size_t count = sparoa_session_node_count(session), ran = 0;
    for (size_t i = 0; i < count && !ran; i++) {
        sparoa_node_info n;
        sparoa_session_node(session, i, &n);
        ran += n.runs > 0;
    }
    if (!ran)
        return sparoa_fail(
            err, SPAROA_INVALID_STATE, NULL,
            "the session has profiled no run: create it with profile = 1 and run it");
    if (device && (strlen(device) >= sizeof p->devices[0] || !*device))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "'%.60s' is no device name", device);
    *slot = device ? device_slot(p, device) : 0;
    if (*slot == SP_PLATFORM_DEVICES)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "the profile has %d devices already",
                           SP_PLATFORM_DEVICES);
    return SPAROA_OK;
}

sparoa_status sparoa_profile_measured(sparoa_profile *profile, const sparoa_session *session,
                                      const char *device, size_t *matched, sparoa_error *err)
{
    if (!profile || !session) return no_argument(err, "profile or session");
    sp_profile *p = profile->p;
    uint32_t slot, at = 0;
    size_t count = sparoa_session_node_count(session), found = 0;
    SP_TRY(measured_slot(p, session, device, &slot, err));
    for (size_t i = 0; i < count; i++) {
        sparoa_node_info n;
        sparoa_session_node(session, i, &n);
        uint32_t k = node_of(p, &n, &at);
        if (k == SP_NO_ID) continue;
        p->nodes[k].input_zeros = n.input_zeros;
        p->nodes[k].output_zeros = n.output_zeros;
        if (device && n.runs > 0)
            p->nodes[k].measured_ns[slot] = (double)n.total_ns / (double)n.runs;
        found++;
    }
    if (matched) *matched = found;
    return SPAROA_OK;
}

sparoa_status sparoa_profile_sample(sparoa_profile *profile, const sparoa_session *session,
                                    const char *device, size_t *matched, sparoa_error *err)
{
    if (!profile || !session || !device) return no_argument(err, "profile, session or device");
    sp_profile *p = profile->p;
    const sparoa_allocator *a = &profile->runtime->alloc;
    uint32_t slot, at = 0;
    size_t count = sparoa_session_node_count(session), found = 0;
    SP_TRY(measured_slot(p, session, device, &slot, err));
    double *ns = sp_calloc(a, p->node_count + 1, sizeof *ns);
    bool good = ns != NULL;
    for (size_t i = 0; good && i < count; i++) {
        sparoa_node_info n;
        sparoa_session_node(session, i, &n);
        uint32_t k = node_of(p, &n, &at);
        if (k == SP_NO_ID) continue;
        p->nodes[k].input_zeros = n.input_zeros;
        p->nodes[k].output_zeros = n.output_zeros;
        if (n.runs > 0) ns[k] = (double)n.last_ns;
        found++;
    }
    good = good && sp_profile_record(p, slot, ns);
    sp_free(a, ns, (p->node_count + 1) * sizeof *ns);
    if (!good) return sp_no_memory(a, p->node_count * sizeof *ns, err);
    if (matched) *matched = found;
    return SPAROA_OK;
}

static bool ends_in(const char *path, const char *suffix)
{
    size_t n = strlen(path), k = strlen(suffix);
    return n > k && strcmp(path + n - k, suffix) == 0;
}

sparoa_status sparoa_profile_save(const sparoa_profile *profile, const char *path,
                                  sparoa_error *err)
{
    if (!profile || !path) return no_argument(err, "profile or path");
    sp_text text;
    sp_text_init(&text, &profile->runtime->alloc);
    if (ends_in(path, ".csv"))
        sp_profile_write_csv(profile->p, &text);
    else if (ends_in(path, ".json"))
        sp_profile_write_json(profile->p, &text);
    else
        sp_profile_write(profile->p, &text);
    sparoa_status status = sp_text_save(&text, path, err);
    sp_text_free(&text);
    return status;
}

/* ---- plans ---- */

sparoa_status sp_schedule_state(const sp_platform *p, const char *mode, const double *load,
                                sp_platform_state *state, sparoa_error *err)
{
    const sp_platform_mode *m = mode ? sp_platform_find_mode(p, mode) : NULL;
    if (mode && !m)
        return sparoa_fail(err, SPAROA_NOT_FOUND, NULL, "%s has no power mode '%.60s'", p->name,
                           mode);
    *state = m ? m->state : sp_platform_nominal(p);
    for (uint32_t d = 0; d < p->device_count; d++) {
        if (!(load[d] >= 0 && load[d] <= 0.95))
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "load of %s is %g, expected 0..0.95", p->devices[d].name, load[d]);
        state->device[d].load = load[d];
    }
    return SPAROA_OK;
}

static sparoa_status apply_rules(sp_env *env, const char *const *rules, size_t count,
                                 sparoa_status (*apply)(sp_env *, const char *, const char *,
                                                        sparoa_error *),
                                 sparoa_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *equals = rules[i] ? strrchr(rules[i], '=') : NULL;
        char *node =
            equals ? sp_arena_strndup(&env->arena, rules[i], (size_t)(equals - rules[i])) : NULL;
        if (!equals)
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "'%.80s': expected NODE=DEVICE",
                               rules[i] ? rules[i] : "");
        if (!node) return sp_no_memory(&env->alloc, strlen(rules[i]), err);
        SP_TRY(apply(env, node, equals + 1, err));
    }
    return SPAROA_OK;
}

static sparoa_status read_options(const sparoa_plan_options *options, sparoa_plan_options *o,
                                  sparoa_error *err)
{
    if (!sp_read_options(o, sizeof *o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    if ((unsigned)o->objective > SPAROA_OBJECTIVE_PRODUCT)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "there is no objective %d",
                           o->objective);
    if (!(o->latency_limit == 0 || (o->latency_limit >= 1 && o->latency_limit <= 1e6)))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "latency_limit is %g, expected 0 or 1..1e6", o->latency_limit);
    return SPAROA_OK;
}

sparoa_status sp_schedule_wrap_plan(sparoa_runtime *rt, sp_plan *inner, double plan_ns,
                                    sparoa_plan **plan, sparoa_error *err)
{
    sparoa_plan *p = sp_calloc(&rt->alloc, 1, sizeof *p);
    if (!p) {
        sp_plan_destroy(inner);
        return sp_no_memory(&rt->alloc, sizeof *p, err);
    }
    *p = (sparoa_plan){rt, inner, plan_ns};
    sp_runtime_ref(rt);
    *plan = p;
    return SPAROA_OK;
}

static sparoa_status set_clocks(const sp_platform *p, const double *clock, sp_platform_state *state,
                                sparoa_error *err)
{
    for (uint32_t d = 0; d < p->device_count; d++) {
        if (clock[d] == 0) continue;
        if (!(clock[d] >= 0.05 && clock[d] <= 1))
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "clock of %s is %g, expected 0 or 0.05..1", p->devices[d].name,
                               clock[d]);
        state->device[d].clock *= clock[d];
    }
    return SPAROA_OK;
}

void sp_schedule_keep_clocks(const sp_plan *plan, const sp_platform *p, const double *asked,
                             sp_platform_state *state)
{
    for (uint32_t d = 0; d < p->device_count; d++)
        for (uint32_t k = 0; asked[d] == 0 && k < plan->device_count; k++)
            if (strcmp(plan->devices[k], p->devices[d].name) == 0)
                state->device[d].clock = fmin(state->device[d].clock, plan->clock[k]);
}

typedef struct job {
    sparoa_plan_options o;
    sp_platform_state state;
    sp_env *env;
    uint8_t *device;
    sp_policy_result price;
    sp_plan_origin origin;
    double plan_ns;
} job;

/* keep: a plan whose clocks hold, or NULL. */
static sparoa_status open_job(job *j, const sparoa_profile *profile,
                              const sparoa_platform *platform, const sparoa_plan_options *options,
                              const sp_plan *keep, sparoa_error *err)
{
    SP_TRY(read_options(options, &j->o, err));
    const sparoa_allocator *a = &profile->runtime->alloc;
    SP_TRY(sp_schedule_state(&platform->p, j->o.mode, j->o.load, &j->state, err));
    SP_TRY(set_clocks(&platform->p, j->o.clock, &j->state, err));
    if (keep) sp_schedule_keep_clocks(keep, &platform->p, j->o.clock, &j->state);
    j->device = sp_calloc(a, profile->p->node_count, 1);
    if (!j->device) return sp_no_memory(a, profile->p->node_count, err);
    SP_TRY(sp_env_build(a, profile->p, &platform->p, profile->p->regime, &j->state, &j->env, err));
    j->origin = (sp_plan_origin){.model = profile->p->model,
                                 .platform = platform->p.name,
                                 .regime = sp_regime_name(profile->p->regime),
                                 .objective = (sp_objective)j->o.objective,
                                 .seed = j->o.seed};
    return SPAROA_OK;
}

static sparoa_status close_job(job *j, const sparoa_profile *profile, sparoa_status status,
                               sparoa_plan **plan, sparoa_error *err)
{
    sp_plan *inner;
    if (status == SPAROA_OK) status = sp_plan_create(j->env, j->device, &j->origin, &inner, err);
    if (status == SPAROA_OK)
        status = sp_schedule_wrap_plan(profile->runtime, inner, j->plan_ns, plan, err);
    sp_free(&profile->runtime->alloc, j->device, profile->p->node_count);
    sp_env_destroy(j->env);
    return status;
}

/* With clocks: within the limit against the fastest plan at full ones, which is where to begin. */
static sparoa_status decide_clocks(job *j, const sparoa_profile *profile,
                                   const sparoa_platform *platform, const sp_policy *policy,
                                   sp_policy_options po, sparoa_error *err)
{
    const sparoa_allocator *a = &profile->runtime->alloc;
    const sp_policy_options fast = {.labels = po.labels, .split = po.split};
    sp_clock_choice choice;
    uint8_t *start = sp_calloc(a, profile->p->node_count + 1, 1);
    if (!start) return sp_no_memory(a, profile->p->node_count, err);
    sparoa_status status =
        sp_policy_run(sp_policy_find("portfolio"), j->env, &fast, start, &j->price, err);
    po.limit_ns = po.latency_limit * j->price.price.makespan_ns;
    po.latency_limit = 0;
    po.start = start;
    if (status == SPAROA_OK)
        status = sp_clocks_choose(j->env, profile->p, &platform->p, &j->state, policy, &po,
                                  j->device, &j->price, &choice, err);
    sp_free(a, start, profile->p->node_count + 1);
    if (status == SPAROA_OK) j->price.optimal = false; /* of these clocks only */
    return status;
}

static sparoa_status decide(job *j, const sparoa_profile *profile, const sparoa_platform *platform,
                            sparoa_error *err)
{
    const char *name = j->o.policy ? j->o.policy : "portfolio";
    const sp_policy *policy = sp_policy_find(name);
    if (!policy)
        return sparoa_fail(err, SPAROA_NOT_FOUND, NULL, "there is no policy '%.60s'", name);
    SP_TRY(apply_rules(j->env, j->o.pins, j->o.pin_count, sp_env_pin, err));
    SP_TRY(apply_rules(j->env, j->o.forbids, j->o.forbid_count, sp_env_forbid, err));
    sp_env_refresh(j->env);
    sp_policy_options po = {.objective = (sp_objective)j->o.objective,
                            .labels = j->o.labels,
                            .updates = j->o.updates,
                            .seed = j->o.seed,
                            .split = j->o.split != 0,
                            .latency_limit = j->o.latency_limit};
    sp_predict_machine machine = {&platform->p, &j->state, profile->p->regime};
    int64_t start = sp_now_ns();
    if (policy->thresholds && j->o.predictor)
        SP_TRY(sp_env_predict(j->env, profile->p, &machine, j->o.predictor->p, NULL, err));
    else if (policy->thresholds)
        SP_TRY(sp_env_predict_shipped(j->env, profile->p, &machine, NULL, err));
    if (j->o.choose_clocks)
        SP_TRY(decide_clocks(j, profile, platform, policy, po, err));
    else
        SP_TRY(sp_policy_run(policy, j->env, &po, j->device, &j->price, err));
    j->plan_ns = (double)(sp_now_ns() - start);
    j->origin.policy = policy->name;
    j->origin.optimal = j->price.optimal;
    return SPAROA_OK;
}

sparoa_status sparoa_plan_create(const sparoa_profile *profile, const sparoa_platform *platform,
                                 const sparoa_plan_options *options, sparoa_plan **plan,
                                 sparoa_error *err)
{
    if (!profile || !platform || !plan) return no_argument(err, "profile, platform or plan");
    job j = {0};
    sparoa_status status = open_job(&j, profile, platform, options, NULL, err);
    if (status == SPAROA_OK) status = decide(&j, profile, platform, err);
    return close_job(&j, profile, status, plan, err);
}

sparoa_status sparoa_plan_recost(const sparoa_plan *plan, const sparoa_profile *profile,
                                 const sparoa_platform *platform,
                                 const sparoa_plan_options *options, sparoa_plan **recosted,
                                 sparoa_error *err)
{
    if (!plan || !profile || !platform || !recosted)
        return no_argument(err, "plan, profile, platform or recosted");
    job j = {0};
    sparoa_status status = open_job(&j, profile, platform, options, plan->p, err);
    if (status == SPAROA_OK) status = sp_plan_assignment(plan->p, j.env, j.device, err);
    for (int k = 0; k < SP_OBJECTIVE_COUNT; k++)
        if (strcmp(plan->p->objective, sp_objective_name((sp_objective)k)) == 0)
            j.origin.objective = (sp_objective)k;
    j.origin.policy = plan->p->policy;
    j.origin.seed = plan->p->seed;
    return close_job(&j, profile, status, recosted, err);
}

sparoa_status sparoa_plan_save(const sparoa_plan *plan, const char *path, sparoa_error *err)
{
    if (!plan || !path) return no_argument(err, "plan or path");
    sp_text text;
    sp_text_init(&text, &plan->runtime->alloc);
    sp_plan_write(plan->p, &text);
    sparoa_status status = sp_text_save(&text, path, err);
    sp_text_free(&text);
    return status;
}

sparoa_status sparoa_plan_load(sparoa_runtime *runtime, const char *path, sparoa_plan **plan,
                               sparoa_error *err)
{
    if (!runtime || !path || !plan) return no_argument(err, "runtime, path or plan");
    sp_plan *p;
    SP_TRY(sp_plan_load(&runtime->alloc, path, &p, err));
    return sp_schedule_wrap_plan(runtime, p, 0, plan, err);
}

void sparoa_plan_destroy(sparoa_plan *plan)
{
    if (!plan) return;
    sparoa_runtime *rt = plan->runtime;
    sp_plan_destroy(plan->p);
    sp_free(&rt->alloc, plan, sizeof *plan);
    sp_runtime_unref(rt);
}
