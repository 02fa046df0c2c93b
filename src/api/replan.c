/* sparoa_schedule.h: re-planning. */
#include <errno.h>
#include <stdio.h>

#include "api/schedule_objects.h"

static sparoa_status no_file(sparoa_error *err, const char *path, const char *what)
{
    sparoa_status status = errno == ENOENT ? SPAROA_NOT_FOUND : SPAROA_IO;
    return sparoa_fail(err, status, NULL, "%s: cannot %s: %s", path, what, strerror(errno));
}

static sparoa_status load_policy(sparoa_replanner *p, const char *path, sparoa_error *err)
{
    const sparoa_allocator *a = &p->runtime->alloc;
    size_t expected = sp_replanner_file_bytes(p->r), room = expected + 1;
    unsigned char *bytes = sp_alloc(a, room);
    if (!bytes) return sp_no_memory(a, room, err);
    FILE *file = fopen(path, "rb");
    sparoa_status status = SPAROA_OK;
    if (!file) status = no_file(err, path, "open");
    size_t size = file ? fread(bytes, 1, room, file) : 0;
    if (file && ferror(file)) status = no_file(err, path, "read");
    if (status == SPAROA_OK) status = sp_replanner_load(p->r, bytes, size, err);
    if (file) fclose(file);
    sp_free(a, bytes, room);
    return status;
}

static sparoa_status no_replanner(sparoa_error *err)
{
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                       "replanner, profile, platform, path or result is NULL, or there is no such "
                       "objective");
}

sparoa_status sparoa_replanner_create(const sparoa_profile *profile,
                                      const sparoa_platform *platform, sparoa_objective objective,
                                      const char *policy, sparoa_replanner **replanner,
                                      sparoa_error *err)
{
    if (!profile || !platform || !replanner || (unsigned)objective > SPAROA_OBJECTIVE_PRODUCT)
        return no_replanner(err);
    sparoa_runtime *rt = profile->runtime;
    sparoa_replanner *p = sp_calloc(&rt->alloc, 1, sizeof *p);
    if (!p) return sp_no_memory(&rt->alloc, sizeof *p, err);
    *p =
        (sparoa_replanner){.runtime = rt, .profile = profile, .objective = (sp_objective)objective};
    sp_runtime_ref(rt);
    snprintf(p->platform, sizeof p->platform, "%s", platform->p.name);
    sparoa_status status = sp_replanner_create(&rt->alloc, profile->p, &platform->p,
                                               (sp_objective)objective, &p->r, err);
    if (status == SPAROA_OK) {
        p->device = sp_calloc(&rt->alloc, profile->p->node_count + 1, 1);
        if (!p->device) status = sp_no_memory(&rt->alloc, profile->p->node_count, err);
    }
    if (status == SPAROA_OK) {
        sp_replan_result result;
        const sp_live_state idle = {.platform = sp_platform_nominal(&platform->p)};
        sp_replan(p->r, &idle, SP_REPLAN_KEEP, p->device, &result);
        if (policy) status = load_policy(p, policy, err);
    }
    if (status == SPAROA_OK)
        *replanner = p;
    else
        sparoa_replanner_destroy(p);
    return status;
}

void sparoa_replanner_destroy(sparoa_replanner *p)
{
    if (!p) return;
    sparoa_runtime *rt = p->runtime;
    sp_replanner_destroy(p->r);
    if (p->device) sp_free(&rt->alloc, p->device, p->profile->p->node_count + 1);
    sp_free(&rt->alloc, p, sizeof *p);
    sp_runtime_unref(rt);
}

sparoa_status sparoa_replanner_train(sparoa_replanner *p, uint64_t seed, uint32_t updates,
                                     double *above, sparoa_error *err)
{
    if (!p) return no_replanner(err);
    sp_replan_training t = {.seed = seed, .updates = updates};
    sparoa_status status = sp_replanner_train(p->r, &t, err);
    if (status == SPAROA_OK && above) *above = t.above_teacher;
    return status;
}

sparoa_status sparoa_replanner_save(const sparoa_replanner *p, const char *path, sparoa_error *err)
{
    if (!p || !path) return no_replanner(err);
    if (!sp_replanner_trained(p->r))
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL, "no policy was trained or loaded");
    const sparoa_allocator *a = &p->runtime->alloc;
    size_t size = sp_replanner_file_bytes(p->r);
    unsigned char *bytes = sp_alloc(a, size);
    if (!bytes) return sp_no_memory(a, size, err);
    sp_replanner_save(p->r, bytes);
    FILE *file = fopen(path, "wb");
    sparoa_status status = file ? SPAROA_OK : no_file(err, path, "open");
    if (file && fwrite(bytes, 1, size, file) != size) status = no_file(err, path, "write");
    if (file && fclose(file) && status == SPAROA_OK) status = no_file(err, path, "write");
    sp_free(a, bytes, size);
    return status;
}

static bool within(double x, double low, double high)
{
    return x >= low && x <= high;
}

/* False: a field is out of range. */
static bool read_state(const sparoa_replanner *p, const sparoa_replan_state *o, sp_live_state *s)
{
    const sp_env *env = sp_replanner_env(p->r);
    s->platform = sp_replanner_nominal(p->r);
    if (o->memory_clock != 0) s->platform.memory_clock = o->memory_clock;
    bool good = within(s->platform.memory_clock, 0.05, 1);
    for (uint32_t d = 0; d < env->device_count; d++) {
        sp_device_state *to = &s->platform.device[d];
        to->load = o->load[d];
        if (o->clock[d] != 0) to->clock = o->clock[d];
        to->temperature = o->temperature_c[d];
        to->memory_used = o->memory_used[d];
        s->queue_ns[d] = o->queue_ns[d];
        good = good && within(to->load, 0, 0.95) && within(to->clock, 0.05, 1) &&
               within(to->temperature, -100, 1000) && within(to->memory_used, 0, 1) &&
               within(s->queue_ns[d], 0, 1e15);
    }
    return good;
}

sparoa_status sparoa_replan(sparoa_replanner *p, const sparoa_replan_state *state, uint8_t *devices,
                            size_t count, sparoa_replan_info *info)
{
    sparoa_replan_state o;
    sp_live_state live = {0};
    sp_replan_result result;
    if (!p || !state || !devices || count != p->profile->p->node_count ||
        !sp_read_options(&o, sizeof o, state) || !read_state(p, &o, &live))
        return SPAROA_INVALID_ARGUMENT;
    sp_replan(p->r, &live, SP_REPLAN_ALL, devices, &result);
    memcpy(p->device, devices, count);
    if (!info) return SPAROA_OK;
    *info = (sparoa_replan_info){.latency_ns = result.price.makespan_ns,
                                 .energy_j = result.price.energy_j,
                                 .changed = result.changed,
                                 .from = result.from == SP_REPLAN_POLICY   ? "sac"
                                         : result.from == SP_REPLAN_GREEDY ? "greedy"
                                         : result.from == SP_REPLAN_DP     ? "dp"
                                         : result.from == SP_REPLAN_HEFT   ? "heft"
                                                                           : "kept"};
    return SPAROA_OK;
}

sparoa_status sp_replanner_plan_of(const sparoa_replanner *p, const uint8_t *device,
                                   sparoa_plan **plan, sparoa_error *err)
{
    const sp_plan_origin origin = {.model = p->profile->p->model,
                                   .platform = p->platform,
                                   .regime = sp_regime_name(p->profile->p->regime),
                                   .policy = "replan",
                                   .objective = p->objective};
    sp_plan *inner;
    SP_TRY(sp_plan_create(sp_replanner_env(p->r), device, &origin, &inner, err));
    return sp_schedule_wrap_plan(p->runtime, inner, 0, plan, err);
}

sparoa_status sparoa_replanner_plan(const sparoa_replanner *p, sparoa_plan **plan,
                                    sparoa_error *err)
{
    if (!p || !plan) return no_replanner(err);
    return sp_replanner_plan_of(p, p->device, plan, err);
}
