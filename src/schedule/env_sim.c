#include "schedule/env_sim.h"

#include <math.h>

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

sparoa_status sp_env_simulate(const sparoa_allocator *alloc, const sp_profile *profile,
                              const sp_platform *platform, const uint8_t *device,
                              const sp_sim_options *options, sp_sim_result *result,
                              sparoa_error *err)
{
    sp_arena arena;
    sp_arena_init(&arena, alloc);
    sp_sim_task *tasks = sp_arena_alloc(&arena, (profile->node_count + 1) * sizeof *tasks);
    sp_sim_value *values = sp_arena_alloc(&arena, (profile->value_count + 1) * sizeof *values);
    sparoa_status status = SPAROA_OK;
    if (!tasks || !values) status = sp_no_memory(alloc, profile->node_count * sizeof *tasks, err);
    for (uint32_t i = 0; status == SPAROA_OK && i < profile->value_count; i++)
        values[i] = (sp_sim_value){profile->values[i].producer, profile->values[i].output,
                                   profile->values[i].bytes};
    for (uint32_t i = 0; status == SPAROA_OK && i < profile->node_count; i++) {
        const sp_profile_node *n = &profile->nodes[i];
        if (device[i] >= platform->device_count) {
            status =
                sparoa_fail(err, SPAROA_INVALID_PLAN, NULL, "node '%.80s' is on device %u of %u",
                            n->name, device[i], platform->device_count);
            break;
        }
        tasks[i] = (sp_sim_task){.name = n->name,
                                 .device = device[i],
                                 .work = {n->kind, n->cost, fmin(1, fmax(0, n->weight_zeros)),
                                          fmin(1, fmax(0, n->input_zeros))},
                                 .first_in = n->first_in,
                                 .n_in = n->n_in,
                                 .first_out = n->first_out,
                                 .n_out = n->n_out};
        tasks[i].scale = scale_of(profile, n, platform, device[i], options->regime, &tasks[i].work);
    }
    const sp_sim_graph graph = {tasks, values, profile->reads, profile->node_count,
                                profile->value_count};
    if (status == SPAROA_OK) status = sp_sim_run(alloc, platform, &graph, options, result, err);
    sp_arena_destroy(&arena);
    return status;
}
