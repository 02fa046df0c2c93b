/* sparoa_schedule.h: looking at plans, and names of policies. Objects are opened by schedule.c. */
#include "api/schedule_objects.h"

const char *sparoa_policy_name(size_t index, const char **what)
{
    for (size_t i = 0; sp_policy_table[i].name; i++) {
        if (i != index) continue;
        if (what) *what = sp_policy_table[i].what;
        return sp_policy_table[i].name;
    }
    return NULL;
}

void sparoa_plan_get_info(const sparoa_plan *plan, sparoa_plan_info *info)
{
    if (!plan || !info) return;
    const sp_plan *p = plan->p;
    *info = (sparoa_plan_info){.model = p->model,
                               .platform = p->platform,
                               .regime = p->regime,
                               .policy = p->policy,
                               .objective = p->objective,
                               .optimal = p->optimal,
                               .latency_ns = p->price.makespan_ns,
                               .lower_bound_ns = p->lower_bound_ns,
                               .energy_j = p->price.energy_j,
                               .transfer_ns = p->price.transfer_ns,
                               .exposed_ns = p->price.exposed_ns,
                               .copies = p->price.copies,
                               .segments = p->price.segments,
                               .node_count = p->node_count,
                               .device_count = p->device_count,
                               .plan_ns = plan->plan_ns};
    for (uint32_t d = 0; d < p->device_count; d++) {
        info->device[d] = p->devices[d];
        info->busy_ns[d] = p->price.busy_ns[d];
        info->flops[d] = p->price.flops[d];
        info->nodes[d] = p->price.nodes[d];
        info->clock[d] = p->clock[d];
    }
}

sparoa_status sparoa_plan_node(const sparoa_plan *plan, size_t index, sparoa_plan_node_info *info)
{
    if (!plan || !info || index >= plan->p->node_count) return SPAROA_INVALID_ARGUMENT;
    const sp_plan_node *n = &plan->p->nodes[index];
    *info = (sparoa_plan_node_info){.name = n->name,
                                    .op = n->op,
                                    .device = plan->p->devices[n->device],
                                    .reason = sp_reason_name((sp_reason)n->reason),
                                    .reason_text = sp_reason_text((sp_reason)n->reason),
                                    .start_ns = n->start_ns,
                                    .finish_ns = n->finish_ns,
                                    .transfer_ns = n->transfer_ns};
    memcpy(info->time_ns, n->time_ns, sizeof info->time_ns);
    if (n->share > 0) {
        info->split_device = plan->p->devices[n->second];
        info->split_axis = sp_split_axis_name((sp_split_axis)n->axis);
        info->split_share = n->share;
    }
    return SPAROA_OK;
}

typedef struct reporter {
    const sp_plan *a, *b;
    void (*report)(void *user, const char *node, const char *device_a, const char *device_b);
    void *user;
} reporter;

static void report_node(void *user, const sp_plan_node *a, const sp_plan_node *b)
{
    const reporter *r = user;
    r->report(r->user, a ? a->name : b->name, a ? a->where : NULL, b ? b->where : NULL);
}

size_t sparoa_plan_diff(const sparoa_plan *a, const sparoa_plan *b,
                        void (*report)(void *user, const char *node, const char *device_a,
                                       const char *device_b),
                        void *user)
{
    if (!a || !b) return 0;
    reporter r = {a->p, b->p, report, user};
    return sp_plan_diff(a->p, b->p, report ? report_node : NULL, &r);
}

/* ---- simulation ---- */

static void fill_result(const sp_sim_result *from, sparoa_simulation_result *to)
{
    *to = (sparoa_simulation_result){.mean_ns = from->mean_ns,
                                     .min_ns = from->min_ns,
                                     .p50_ns = from->p50_ns,
                                     .p99_ns = from->p99_ns,
                                     .max_ns = from->max_ns,
                                     .energy_j = from->energy_j,
                                     .transfer_ns = from->transfer_ns,
                                     .slowed_ns = from->slowed_ns,
                                     .temperature_c = from->temperature_c,
                                     .throttled = from->throttled};
    memcpy(to->busy_ns, from->busy_ns, sizeof to->busy_ns);
}

static sparoa_status simulate(const sparoa_plan *plan, const sparoa_profile *profile,
                              const sparoa_platform *platform, const sparoa_simulation_options *o,
                              sp_sim_options *so, uint8_t *device, sparoa_simulation_result *result,
                              sparoa_error *err)
{
    sp_env *env;
    const sparoa_allocator *a = &profile->runtime->alloc;
    SP_TRY(sp_env_build(a, profile->p, &platform->p, profile->p->regime, so->state, &env, err));
    sparoa_status status = sp_plan_assignment(plan->p, env, device, err);
    sp_env_destroy(env);
    sp_text trace;
    sp_text_init(&trace, a);
    if (o->trace) so->trace = &trace;
    sp_sim_result r;
    if (status == SPAROA_OK)
        status = sp_env_simulate(a, profile->p, &platform->p, device, so, &r, err);
    if (status == SPAROA_OK && o->trace) status = sp_text_save(&trace, o->trace, err);
    if (status == SPAROA_OK) fill_result(&r, result);
    sp_text_free(&trace);
    return status;
}

sparoa_status sparoa_simulate(const sparoa_plan *plan, const sparoa_profile *profile,
                              const sparoa_platform *platform,
                              const sparoa_simulation_options *options,
                              sparoa_simulation_result *result, sparoa_error *err)
{
    sparoa_simulation_options o;
    sp_platform_state state;
    if (!plan || !profile || !platform || !result)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "plan, profile, platform or result is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    SP_TRY(sp_schedule_state(&platform->p, o.mode, o.load, &state, err));
    for (uint32_t d = 0; d < platform->p.device_count; d++) {
        if (o.clock[d] == 0) continue;
        if (!(o.clock[d] >= 0.05 && o.clock[d] <= 1))
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "clock[%u] is %g, expected 0 or 0.05..1", d, o.clock[d]);
        state.device[d].clock = o.clock[d];
    }
    sp_schedule_keep_clocks(plan->p, &platform->p, o.clock, &state);
    sp_sim_options so = {.regime = profile->p->regime,
                         .state = &state,
                         .seed = o.seed,
                         .runs = o.runs ? o.runs : 100,
                         .noise = !o.ideal,
                         .contention = !o.ideal,
                         .thermal = o.thermal != 0,
                         .load_period_ns = o.period_ns};
    if (!(o.period_ns >= 0) || (o.period_ns > 0 && o.period_ns < 1000) || so.runs > 1000000)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "a period of %g ns (least 1000) or %u runs (most 1000000)", o.period_ns,
                           so.runs);
    for (uint32_t d = 0; d < platform->p.device_count; d++) {
        if (!(o.burst_share[d] >= 0 && o.burst_share[d] <= 0.95))
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "burst_share[%u] is %g, expected 0..0.95", d, o.burst_share[d]);
        so.load_probability[d] = o.burst_probability[d];
        so.load_share[d] = o.burst_share[d];
    }
    const sparoa_allocator *a = &profile->runtime->alloc;
    uint8_t *device = sp_calloc(a, profile->p->node_count, 1);
    if (!device) return sp_no_memory(a, profile->p->node_count, err);
    sparoa_status status = simulate(plan, profile, platform, &o, &so, device, result, err);
    sp_free(a, device, profile->p->node_count);
    return status;
}
