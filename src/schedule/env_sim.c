#include "schedule/env_sim.h"

#include "schedule/env_build.h"

static double scale_of(const sp_profile *profile, const sp_profile_node *n,
                       const sp_platform *platform, uint32_t device, sp_regime regime,
                       const sp_work *work)
{
    for (uint32_t d = 0; d < profile->device_count; d++) {
        if (strcmp(profile->devices[d], platform->devices[device].name)) continue;
        double predicted = sp_platform_cost(platform, device, regime, work, NULL).ns;
        return n->measured_ns[d] > 0 && predicted > 0 ? n->measured_ns[d] / predicted : 0;
    }
    return 0;
}

/* Tasks and values of the simulator: a split node becomes two tasks, whoever reads it reads both
 * parts. */
typedef struct expansion {
    const sp_profile *profile;
    const uint8_t *device;
    sp_sim_task *tasks;
    sp_sim_value *values;
    uint32_t *reads, *part; /* part: by value of the profile: its first part here */
    uint32_t task_count, value_count, read_count;
} expansion;

static bool is_split(const expansion *x, uint32_t value)
{
    uint32_t producer = x->profile->values[value].producer;
    return producer != SP_PROFILE_INPUT && sp_place_share(x->device[producer]) != 0;
}

static void add_reads(expansion *x, const sp_profile_node *n)
{
    for (uint32_t k = 0; k < n->n_in; k++) {
        uint32_t v = x->profile->reads[n->first_in + k];
        x->reads[x->read_count++] = x->part[v];
        if (is_split(x, v)) x->reads[x->read_count++] = x->part[v] + 1;
    }
}

static void add_task(expansion *x, uint32_t node, uint32_t device, double share)
{
    const sp_profile_node *n = &x->profile->nodes[node];
    sp_sim_task *t = &x->tasks[x->task_count];
    *t = (sp_sim_task){.name = n->name,
                       .device = device,
                       .work = sp_env_part_work(n, share),
                       .first_in = x->read_count,
                       .first_out = x->value_count,
                       .n_out = n->n_out};
    add_reads(x, n);
    t->n_in = x->read_count - t->first_in;
    for (uint32_t k = 0; k < n->n_out; k++) {
        const sp_profile_value *v = &x->profile->values[n->first_out + k];
        x->values[x->value_count++] = (sp_sim_value){x->task_count, v->output, v->bytes * share};
    }
    x->task_count++;
}

static void expand(expansion *x)
{
    const sp_profile *p = x->profile;
    for (uint32_t v = 0; v < p->value_count && p->values[v].producer == SP_PROFILE_INPUT; v++) {
        x->part[v] = x->value_count;
        x->values[x->value_count++] = (sp_sim_value){SP_SIM_INPUT, false, p->values[v].bytes};
    }
    for (uint32_t i = 0; i < p->node_count; i++) {
        const sp_profile_node *n = &p->nodes[i];
        double share = (double)sp_place_share(x->device[i]) / SP_PLACE_SHARES;
        for (uint32_t k = 0; k < n->n_out; k++) x->part[n->first_out + k] = x->value_count + k;
        add_task(x, i, sp_place_device(x->device[i]), 1 - share);
        if (share > 0) add_task(x, i, sp_place_second(x->device[i]), share);
        x->tasks[x->task_count - 1].second = share > 0;
    }
}

/* A part of a node and its whole differ from the prediction by the same ratio. */
static void set_scales(expansion *x, const sp_platform *platform, sp_regime regime)
{
    uint32_t t = 0;
    for (uint32_t i = 0; i < x->profile->node_count; i++) {
        const sp_profile_node *n = &x->profile->nodes[i];
        uint32_t parts = sp_place_share(x->device[i]) ? 2 : 1;
        sp_work whole = sp_env_part_work(n, 1);
        for (; parts--; t++)
            x->tasks[t].scale =
                scale_of(x->profile, n, platform, x->tasks[t].device, regime, &whole);
    }
}

static sparoa_status check_places(const sp_profile *profile, const sp_platform *platform,
                                  const uint8_t *device, sparoa_error *err)
{
    for (uint32_t i = 0; i < profile->node_count; i++) {
        uint32_t d = sp_place_device(device[i]), e = sp_place_second(device[i]);
        bool split = sp_place_share(device[i]) != 0;
        if (d < platform->device_count && e < platform->device_count &&
            (!split || (e != d && sp_env_split_axis(&profile->nodes[i]) != SP_SPLIT_NONE)))
            continue;
        return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                           "node '%.80s' is on device %u of %u, or split where it can't be",
                           profile->nodes[i].name, d > e ? d : e, platform->device_count);
    }
    return SPAROA_OK;
}

sparoa_status sp_env_simulate(const sparoa_allocator *alloc, const sp_profile *profile,
                              const sp_platform *platform, const uint8_t *device,
                              const sp_sim_options *options, sp_sim_result *result,
                              sparoa_error *err)
{
    sp_arena arena;
    sparoa_status status = check_places(profile, platform, device, err);
    if (status != SPAROA_OK) return status;
    sp_arena_init(&arena, alloc);
    size_t nodes = profile->node_count, values = profile->value_count;
    expansion x = {
        .profile = profile,
        .device = device,
        .tasks = sp_arena_alloc(&arena, (2 * nodes + 1) * sizeof *x.tasks),
        .values = sp_arena_alloc(&arena, (values + nodes + 1) * sizeof *x.values),
        .reads = sp_arena_alloc(&arena, (4 * (size_t)profile->read_count + 1) * sizeof *x.reads),
        .part = sp_arena_alloc(&arena, (values + 1) * sizeof *x.part)};
    if (!x.tasks || !x.values || !x.reads || !x.part)
        status = sp_no_memory(alloc, nodes * sizeof *x.tasks, err);
    if (status == SPAROA_OK) {
        expand(&x);
        set_scales(&x, platform, options->regime);
        const sp_sim_graph graph = {x.tasks, x.values, x.reads, x.task_count, x.value_count};
        status = sp_sim_run(alloc, platform, &graph, options, result, err);
    }
    sp_arena_destroy(&arena);
    return status;
}
