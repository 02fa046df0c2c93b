/* Pricing a profile on a platform. */
#include "schedule/env_build.h"

#include <math.h>

#define SPLIT_FLOPS 1e6 /* less is not worth dividing */
#define SPLIT_CHANNELS 16

static double share(double zeros)
{
    return zeros > 0 ? fmin(zeros, 1) : 0;
}

static double measured(const sp_profile *p, const sp_profile_node *n, const char *device)
{
    for (uint32_t d = 0; d < p->device_count; d++)
        if (strcmp(p->devices[d], device) == 0) return n->measured_ns[d];
    return 0;
}

/* Heavy operators with weights divide by output channels; where there are few, by batch. */
sp_split_axis sp_env_split_axis(const sp_profile_node *n)
{
    bool conv = n->kind == SPAROA_CLASS_CONV, gemm = n->kind == SPAROA_CLASS_GEMM;
    if (!(conv || gemm) || n->groups > 1 || n->n_out != 1 || n->cost.flops < SPLIT_FLOPS ||
        !sp_divides(n->op))
        return SP_SPLIT_NONE;
    if (gemm) return n->cost.bytes_w > 0 ? SP_SPLIT_CHANNELS : SP_SPLIT_ROWS;
    if (n->channels >= SPLIT_CHANNELS) return SP_SPLIT_CHANNELS;
    return n->batch >= 2 ? SP_SPLIT_BATCH : SP_SPLIT_NONE;
}

sp_work sp_env_part_work(const sp_profile_node *n, double x)
{
    sp_work w = {n->kind, n->cost, share(n->weight_zeros), share(n->input_zeros),
                 sp_profile_key(n)};
    bool channels = sp_env_split_axis(n) == SP_SPLIT_CHANNELS;
    w.cost.flops *= x;
    w.cost.bytes_out *= x;
    *(channels ? &w.cost.bytes_w : &w.cost.bytes_in) *= x;
    return w;
}

/* How the time of a share goes with the share: exact for the whole and for a half. */
static void price_parts(const sp_platform *platform, uint32_t d, sp_regime regime, const sp_work *w,
                        const sp_platform_state *state, const sp_price *whole, sp_env_node *to)
{
    to->part_power[d] = 1;
    if (to->split_axis == SP_SPLIT_NONE) return;
    sp_price half = sp_platform_cost(platform, d, regime, w, state);
    double a = whole->ns - whole->overhead_ns, b = half.ns - half.overhead_ns;
    if (a > 0 && b > 0) to->part_power[d] = fmin(1, fmax(0, log2(a / b)));
}

static void price_node(const sp_profile *profile, const sp_profile_node *from,
                       const sp_platform *platform, sp_regime regime,
                       const sp_platform_state *state, sp_env_node *to)
{
    const sp_work w = sp_env_part_work(from, 1), half = sp_env_part_work(from, 0.5);
    for (uint32_t d = 0; d < platform->device_count; d++) {
        sp_price p = sp_platform_cost(platform, d, regime, &w, state);
        double known = measured(profile, from, platform->devices[d].name);
        price_parts(platform, d, regime, &half, state, &p, to);
        to->fixed_ns[d] = p.overhead_ns;
        if (known > 0) { /* scaled as the model says from the nominal state to this one */
            sp_price nominal = sp_platform_cost(platform, d, regime, &w, NULL);
            double ratio = nominal.ns > 0 ? known / nominal.ns : 0;
            p.ns = nominal.ns > 0 ? p.ns * ratio : known;
            to->fixed_ns[d] *= ratio;
            p.joules *= nominal.ns > 0 ? ratio : 1;
        }
        to->sparse = (uint8_t)((to->sparse & ~(1u << d)) | (uint32_t)p.sparse << d);
        to->time_ns[d] = p.ns;
        to->energy_j[d] = p.joules;
    }
}

static void price_values(sp_env *env, const sp_platform *platform, sp_regime regime,
                         const sp_platform_state *state)
{
    for (uint32_t a = 0; a < env->device_count; a++)
        for (uint32_t b = 0; b < env->device_count; b++)
            env->link_fixed_ns[a][b] = sp_platform_copy(platform, a, b, regime, 0, state).ns;
    for (uint32_t v = 0; v < env->value_count; v++)
        for (uint32_t a = 0; a < env->device_count; a++)
            for (uint32_t b = 0; b < env->device_count; b++) {
                sp_copy_price c =
                    sp_platform_copy(platform, a, b, regime, env->values[v].bytes, state);
                env->values[v].copy_ns[a][b] = c.ns;
                env->values[v].copy_j[a][b] = c.joules;
            }
}

static void set_devices(sp_env_device *to, const sp_platform *platform, sp_regime regime,
                        const sp_platform_state *state)
{
    for (uint32_t d = 0; d < platform->device_count; d++) {
        const sp_platform_device *from = &platform->devices[d];
        double host = state ? state->device[0].clock : 1;
        snprintf(to[d].name, sizeof to[d].name, "%s", from->name);
        to[d].lanes = from->lanes;
        to[d].entry_ns = from->entry_ns[regime] / host;
        to[d].entry_j = to[d].entry_ns * 1e-9 * platform->dispatch_watts;
        to[d].memory_limit = from->memory_bytes;
        to[d].clock = state ? state->device[d].clock : 1;
        to[d].load = state ? state->device[d].load : 0;
        to[d].temperature = state ? state->device[d].temperature : 0;
        to[d].memory_used = state ? state->device[d].memory_used : 0;
    }
}

void sp_env_reprice(sp_env *env, const sp_profile *profile, const sp_platform *platform,
                    sp_regime regime, const sp_platform_state *state)
{
    for (uint32_t i = 0; i < env->node_count; i++)
        price_node(profile, &profile->nodes[i], platform, regime, state, &env->nodes[i]);
    price_values(env, platform, regime, state);
    set_devices(env->devices, platform, regime, state);
    env->idle_watts = state ? sp_platform_idle_watts(platform, state) : platform->idle_watts;
    sp_env_refresh(env);
}

static void describe(const sp_profile_node *from, const sp_platform *platform, sp_env_node *to)
{
    *to = (sp_env_node){.name = from->name,
                        .op = from->op,
                        .op_class = from->op_class,
                        .cost = from->cost,
                        .weight_zeros = share(from->weight_zeros),
                        .input_zeros = share(from->input_zeros),
                        .batch = from->batch,
                        .channels = from->channels,
                        .height = from->height,
                        .width = from->width,
                        .kernel = from->kernel,
                        .stride = from->stride,
                        .groups = from->groups,
                        .split_axis = (uint8_t)sp_env_split_axis(from),
                        .why = SP_REASON_UNSUPPORTED,
                        .sparsity_threshold = SP_RULE_SPARSITY,
                        .intensity_threshold = SP_RULE_FLOPS,
                        .first_in = from->first_in,
                        .n_in = from->n_in,
                        .first_out = from->first_out,
                        .n_out = from->n_out};
    for (uint32_t d = 0; d < platform->device_count; d++) {
        if (!(platform->devices[d].unsupported >> from->kind & 1)) to->allowed |= (uint8_t)(1 << d);
        to->memory[d] = from->cost.bytes_w;
    }
}

sparoa_status sp_env_build(const sparoa_allocator *alloc, const sp_profile *profile,
                           const sp_platform *platform, sp_regime regime,
                           const sp_platform_state *state, sp_env **env, sparoa_error *err)
{
    sp_env_device devices[SP_PLATFORM_DEVICES] = {0};
    sp_arena scratch;
    sp_arena_init(&scratch, alloc);
    sp_env_node *nodes = sp_arena_alloc(&scratch, (profile->node_count + 1) * sizeof *nodes);
    sp_env_value *values = sp_arena_alloc(&scratch, (profile->value_count + 1) * sizeof *values);
    if (!nodes || !values) {
        sp_arena_destroy(&scratch);
        return sp_no_memory(alloc, profile->node_count * sizeof *nodes, err);
    }
    for (uint32_t i = 0; i < profile->node_count; i++)
        describe(&profile->nodes[i], platform, &nodes[i]);
    for (uint32_t i = 0; i < profile->value_count; i++)
        values[i] = (sp_env_value){.producer = profile->values[i].producer,
                                   .output = profile->values[i].output,
                                   .bytes = profile->values[i].bytes};
    set_devices(devices, platform, regime, state);
    sp_env *e;
    sparoa_status status = sp_env_create(alloc, nodes, profile->node_count, values,
                                         profile->value_count, profile->reads, profile->read_count,
                                         devices, platform->device_count, &e, err);
    sp_arena_destroy(&scratch);
    if (status != SPAROA_OK) return status;
    e->link_shared = platform->shared_link;
    sp_env_reprice(e, profile, platform, regime, state);
    *env = e;
    return SPAROA_OK;
}

static sparoa_status find(const sp_env *env, const char *node, const char *device, uint32_t *n,
                          uint32_t *d, sparoa_error *err)
{
    for (*n = 0; *n < env->node_count && strcmp(env->nodes[*n].name, node);) ++*n;
    for (*d = 0; *d < env->device_count && strcmp(env->devices[*d].name, device);) ++*d;
    if (*n == env->node_count)
        return sparoa_fail(err, SPAROA_NOT_FOUND, NULL, "there is no node '%.120s'", node);
    if (*d == env->device_count)
        return sparoa_fail(err, SPAROA_NOT_FOUND, NULL, "there is no device '%.60s'", device);
    return SPAROA_OK;
}

static sparoa_status restrict_to(sp_env *env, uint32_t node, uint32_t mask, sp_reason why,
                                 sparoa_error *err)
{
    sp_env_node *n = &env->nodes[node];
    if (!(n->allowed & mask))
        return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                           "node '%.120s' (%.40s) cannot run on the devices that are left", n->name,
                           n->op);
    if ((n->allowed & mask) != n->allowed) n->why = (uint8_t)why;
    n->allowed &= (uint8_t)mask;
    return SPAROA_OK;
}

sparoa_status sp_env_pin(sp_env *env, const char *node, const char *device, sparoa_error *err)
{
    uint32_t n, d;
    sparoa_status status = find(env, node, device, &n, &d, err);
    return status == SPAROA_OK ? restrict_to(env, n, 1u << d, SP_REASON_PINNED, err) : status;
}

sparoa_status sp_env_forbid(sp_env *env, const char *node, const char *device, sparoa_error *err)
{
    uint32_t n, d;
    sparoa_status status = find(env, node, device, &n, &d, err);
    return status == SPAROA_OK ? restrict_to(env, n, ~(1u << d), SP_REASON_FORBIDDEN, err) : status;
}
