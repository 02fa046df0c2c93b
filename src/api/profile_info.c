/* sparoa_schedule.h: looking at profiles. Objects are opened by schedule.c. */
#include "api/schedule_objects.h"

sparoa_status sparoa_profile_node(const sparoa_profile *profile, size_t index,
                                  sparoa_profile_node_info *info)
{
    if (!profile || !info || index >= profile->p->node_count) return SPAROA_INVALID_ARGUMENT;
    const sp_profile_node *n = &profile->p->nodes[index];
    *info =
        (sparoa_profile_node_info){.name = n->name,
                                   .op = n->op,
                                   .op_class = sp_class_name(n->op_class),
                                   .kind = sp_kind_name(n->kind),
                                   .quadrant = sp_quadrant_name(sp_quadrant_of(n, NULL)),
                                   .flops = n->cost.flops,
                                   .bytes = n->cost.bytes_in + n->cost.bytes_w + n->cost.bytes_out,
                                   .flops_per_byte = sp_flops_per_byte(n),
                                   .weight_zeros = n->weight_zeros,
                                   .input_zeros = n->input_zeros,
                                   .output_zeros = n->output_zeros};
    memcpy(info->measured_ns, n->measured_ns, sizeof info->measured_ns);
    memcpy(info->spread_ns, n->spread_ns, sizeof info->spread_ns);
    return SPAROA_OK;
}

const char *sparoa_profile_device(const sparoa_profile *profile, size_t index)
{
    return profile && index < profile->p->device_count ? profile->p->devices[index] : NULL;
}

sparoa_regime sparoa_profile_regime(const sparoa_profile *profile)
{
    return profile ? (sparoa_regime)profile->p->regime : SPAROA_REGIME_GRAPH;
}

sparoa_status sparoa_profile_svg(const sparoa_profile *profile, double sparsity_threshold,
                                 double flops_threshold, const char *path, sparoa_error *err)
{
    if (!profile || !path)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "profile or path is NULL");
    if (!(sparsity_threshold >= 0 && sparsity_threshold <= 1 && flops_threshold >= 0))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "thresholds of %g zeros and %g FLOPs, expected 0..1 and 0 or more",
                           sparsity_threshold, flops_threshold);
    const sp_thresholds at = {sparsity_threshold > 0 ? sparsity_threshold : SP_RULE_SPARSITY,
                              flops_threshold > 0 ? flops_threshold : SP_RULE_FLOPS};
    sp_text text;
    sp_text_init(&text, &profile->runtime->alloc);
    sp_profile_svg(profile->p, &at, &text);
    sparoa_status status = sp_text_save(&text, path, err);
    sp_text_free(&text);
    return status;
}

size_t sparoa_profile_svg_text(const sparoa_profile *profile, double sparsity_threshold,
                               double flops_threshold, char *buffer, size_t size)
{
    if (!profile || (!buffer && size)) return 0;
    const sp_thresholds at = {sparsity_threshold > 0 ? sparsity_threshold : SP_RULE_SPARSITY,
                              flops_threshold > 0 ? flops_threshold : SP_RULE_FLOPS};
    sp_text text;
    sp_text_init(&text, &profile->runtime->alloc);
    sp_profile_svg(profile->p, &at, &text);
    size_t all = text.failed ? 0 : text.size, kept = all < size ? all : size - 1;
    if (size) {
        if (all) memcpy(buffer, text.data, kept);
        buffer[all ? kept : 0] = 0;
    }
    sp_text_free(&text);
    return all;
}

double sparoa_platform_predict(const sparoa_platform *platform, const sparoa_profile *profile,
                               size_t node, size_t device)
{
    if (!platform || !profile || node >= profile->p->node_count ||
        device >= platform->p.device_count)
        return -1;
    const sp_profile_node *n = &profile->p->nodes[node];
    const sp_work work = {n->kind, n->cost, n->weight_zeros > 0 ? n->weight_zeros : 0,
                          n->input_zeros > 0 ? n->input_zeros : 0, sp_profile_key(n)};
    return sp_platform_cost(&platform->p, (uint32_t)device, profile->p->regime, &work, NULL).ns;
}
