/* Random placement problems: for tests and for training. */
#include <math.h>

#include "base/rng.h"
#include "profile/profile.h"
#include "schedule/env.h"

typedef struct maker {
    uint64_t key, drawn;
    sp_env_node *nodes;
    sp_env_value *values;
    uint32_t *reads;
    uint32_t node_count, value_count, read_count;
} maker;

static double uniform(maker *m, double low, double high)
{
    return low + (high - low) * sp_rng_uniform(m->key, m->drawn++);
}

static double log_uniform(maker *m, double low, double high)
{
    return exp(uniform(m, log(low), log(high)));
}

/* 20 us and 1 to 8 GB/s, as between a processor and an integrated accelerator. */
static void price_value(maker *m, sp_env_value *v)
{
    v->bytes = log_uniform(m, 4e3, 4e6);
    double ns = 20e3 + v->bytes / uniform(m, 1, 8);
    v->copy_ns[0][1] = ns;
    v->copy_ns[1][0] = ns * uniform(m, 0.8, 1.5);
    v->copy_j[0][1] = v->copy_j[1][0] = v->bytes * 60e-12;
}

static void price_node(maker *m, sp_env_node *n, double bytes)
{
    static const sparoa_op_class classes[] = {
        SPAROA_CLASS_CONV,    SPAROA_CLASS_CONV, SPAROA_CLASS_GEMM, SPAROA_CLASS_ELTWISE,
        SPAROA_CLASS_ELTWISE, SPAROA_CLASS_NORM, SPAROA_CLASS_POOL, SPAROA_CLASS_MOVE};
    n->op_class = classes[(int)uniform(m, 0, 8)];
    bool heavy = n->op_class == SPAROA_CLASS_CONV || n->op_class == SPAROA_CLASS_GEMM;
    n->cost.flops = heavy ? log_uniform(m, 1e6, 1e9) : bytes / 4;
    n->cost.bytes_in = n->cost.bytes_out = bytes;
    n->cost.bytes_w = heavy ? log_uniform(m, 1e3, 4e6) : 0;
    n->weight_zeros = heavy && uniform(m, 0, 1) < 0.3 ? uniform(m, 0.5, 0.95) : 0;
    n->input_zeros = uniform(m, 0, 1) < 0.5 ? uniform(m, 0, 0.8) : 0;
    double dense = 1 - n->weight_zeros * 0.8;
    n->time_ns[0] = 5e3 + n->cost.flops * dense / uniform(m, 30, 200) + bytes / 20;
    n->time_ns[1] =
        log_uniform(m, 10e3, 200e3) + n->cost.flops / uniform(m, 500, 3000) + bytes / 100;
    n->split_axis = heavy ? SP_SPLIT_CHANNELS : SP_SPLIT_NONE;
    n->fixed_ns[0] = 5e3;
    n->fixed_ns[1] = 10e3;
    n->part_power[0] = n->part_power[1] = 0.9;
    n->energy_j[0] = n->time_ns[0] * 1e-9 * 12;
    n->energy_j[1] = n->time_ns[1] * 1e-9 * 18;
    n->memory[0] = n->memory[1] = n->cost.bytes_w;
    n->channels = log_uniform(m, 8, 512);
    n->height = n->width = log_uniform(m, 4, 112);
    n->batch = n->kernel = n->stride = n->groups = 1;
    n->sparsity_threshold = SP_RULE_SPARSITY;
    n->intensity_threshold = SP_RULE_FLOPS;
    n->allowed = uniform(m, 0, 1) < 0.05 ? 1 : 3;
    n->why = SP_REASON_UNSUPPORTED;
}

/* One node that reads up to two of the latest `width` values. */
static void add_node(maker *m, uint32_t width)
{
    sp_env_node *n = &m->nodes[m->node_count];
    uint32_t window = m->value_count < width ? m->value_count : width;
    uint32_t newest = m->value_count - 1;
    *n = (sp_env_node){.first_in = m->read_count, .first_out = m->value_count, .n_out = 1};
    uint32_t first = newest - (uint32_t)uniform(m, 0, window);
    m->reads[m->read_count++] = first;
    if (width > 1 && uniform(m, 0, 1) < 0.4) {
        uint32_t second = newest - (uint32_t)uniform(m, 0, window);
        if (second != first) m->reads[m->read_count++] = second;
    }
    n->n_in = m->read_count - n->first_in;
    sp_env_value *v = &m->values[m->value_count++];
    *v = (sp_env_value){.producer = m->node_count};
    price_value(m, v);
    price_node(m, n, v->bytes);
    m->node_count++;
}

static void mark_outputs(maker *m)
{
    for (uint32_t v = 1; v < m->value_count; v++) m->values[v].output = true;
    for (uint32_t k = 0; k < m->read_count; k++) m->values[m->reads[k]].output = false;
}

sparoa_status sp_env_random(const sparoa_allocator *alloc, uint64_t seed, uint32_t nodes,
                            uint32_t width, sp_env **env, sparoa_error *err)
{
    if (!nodes || !width || nodes > 1000000)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "random environment: %u nodes of width %u", nodes, width);
    maker m = {.key = sp_rng_stream(sp_rng_text("env"), seed)};
    sp_arena arena;
    sp_arena_init(&arena, alloc);
    m.nodes = sp_arena_alloc(&arena, nodes * sizeof *m.nodes);
    m.values = sp_arena_alloc(&arena, (nodes + 1) * sizeof *m.values);
    m.reads = sp_arena_alloc(&arena, 2 * (size_t)nodes * sizeof *m.reads);
    char(*names)[16] = sp_arena_alloc(&arena, nodes * sizeof *names);
    if (!m.nodes || !m.values || !m.reads || !names) {
        sp_arena_destroy(&arena);
        return sp_no_memory(alloc, nodes * sizeof *m.nodes, err);
    }
    m.values[0] = (sp_env_value){.producer = SP_ENV_INPUT};
    price_value(&m, &m.values[m.value_count++]);
    for (uint32_t i = 0; i < nodes; i++) {
        add_node(&m, width);
        snprintf(names[i], sizeof names[i], "node%u", i);
        m.nodes[i].name = names[i];
        m.nodes[i].op = "Random";
    }
    mark_outputs(&m);
    const sp_env_device devices[] = {
        {.name = "cpu", .lanes = 1, .clock = 1},
        {.name = "gpu", .lanes = 1, .clock = 1, .entry_ns = uniform(&m, 0, 30e3), .entry_j = 1e-4}};
    sparoa_status status = sp_env_create(alloc, m.nodes, nodes, m.values, m.value_count, m.reads,
                                         m.read_count, devices, 2, env, err);
    if (status == SPAROA_OK) {
        (*env)->idle_watts = uniform(&m, 4, 10);
        (*env)->link_fixed_ns[0][1] = (*env)->link_fixed_ns[1][0] = 20e3;
        sp_env_refresh(*env);
    }
    sp_arena_destroy(&arena);
    return status;
}
