/* The simulator: without noise and contention it is the environment; with them it is worse. */
#include "base/rng.h"
#include "schedule/env_sim.h"
#include "schedule/policy.h"
#include "tests/support/memory.h"

static sp_platform platform;

static int setup(void **state)
{
    sparoa_error err;
    memory_set_up(state);
    return sp_platform_load(&alloc, SPAROA_SOURCE_DIR "/platforms/jetson_agx_orin_64gb.yaml",
                            &platform, &err);
}

/* A profile of `count` nodes, each reading up to two of the last three values. */
static sp_profile *make_profile(uint64_t seed, uint32_t count)
{
    sp_profile *p = sp_calloc(&alloc, 1, sizeof *p);
    p->alloc = alloc;
    sp_arena_init(&p->arena, &alloc);
    p->model = "random";
    p->nodes = sp_arena_alloc(&p->arena, count * sizeof *p->nodes);
    p->values = sp_arena_alloc(&p->arena, (count + 1) * sizeof *p->values);
    p->reads = sp_arena_alloc(&p->arena, 2 * count * sizeof *p->reads);
    p->values[p->value_count++] = (sp_profile_value){"in", SP_PROFILE_INPUT, false, 6e5};
    for (uint32_t i = 0; i < count; i++) {
        sp_profile_node *n = &p->nodes[p->node_count++];
        double flops = pow(10, 5 + 4 * sp_rng_uniform(seed, 8 * i));
        *n = (sp_profile_node){.name = "n",
                               .op = "Conv",
                               .kind = SPAROA_CLASS_CONV,
                               .cost = {flops, 1e5, 1e5, 1e5},
                               .weight_zeros = -1,
                               .input_zeros = -1,
                               .first_in = p->read_count,
                               .first_out = p->value_count,
                               .n_out = 1};
        uint32_t window = p->value_count < 3 ? p->value_count : 3;
        uint32_t a = p->value_count - 1 - sp_rng_bits(seed, 8 * i + 1) % window;
        uint32_t b = p->value_count - 1 - sp_rng_bits(seed, 8 * i + 2) % window;
        p->reads[p->read_count++] = a;
        if (b != a) p->reads[p->read_count++] = b;
        n->n_in = p->read_count - n->first_in;
        p->values[p->value_count++] = (sp_profile_value){
            "v", i, i + 1 == count, pow(10, 3 + 3 * sp_rng_uniform(seed, 8 * i + 3))};
    }
    return p;
}

static void quiet_is_the_environment(void **state)
{
    for (uint64_t seed = 0; seed < 60; seed++)
        for (int regime = 0; regime < 2; regime++) {
            sp_profile *p = make_profile(seed, 40);
            platform.shared_link = seed % 5 == 0;
            platform.devices[1].lanes = seed % 7 == 0 ? 2 : 1;
            sp_env *env;
            uint8_t device[40];
            sparoa_error err = {0};
            assert_int_equal(sp_env_build(&alloc, p, &platform, regime, NULL, &env, &err),
                             SPAROA_OK);
            for (int i = 0; i < 40; i++) device[i] = sp_rng_bits(seed, 1000 + i) & 1;
            sp_env_result e;
            sp_sim_result r;
            const sp_sim_options o = {.regime = regime, .runs = 2};
            assert_int_equal(sp_env_evaluate(env, device, &e, &err), SPAROA_OK);
            if (sp_env_simulate(&alloc, p, &platform, device, &o, &r, &err))
                fail_msg("%s", err.message);
            if (!(fabs(r.mean_ns / e.makespan_ns - 1) < 1e-9))
                fail_msg("seed %d: simulated %.9g, priced %.9g", (int)seed, r.mean_ns,
                         e.makespan_ns);
            assert_true(fabs(r.energy_j / e.energy_j - 1) < 1e-6);
            assert_true(fabs(r.transfer_ns - e.transfer_ns) <= 1e-6 * (e.transfer_ns + 1));
            sp_env_destroy(env);
            sp_profile_destroy(p);
        }
    platform.shared_link = false;
    platform.devices[1].lanes = 1;
}

static void world_is_worse(void **state)
{
    sp_profile *p = make_profile(1, 40);
    uint8_t device[40];
    for (int i = 0; i < 40; i++) device[i] = i % 2;
    sp_sim_options o = {.regime = SP_REGIME_GRAPH, .runs = 200, .seed = 1};
    sp_sim_result quiet, r, again;
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &quiet, NULL), SPAROA_OK);
    o.noise = true;
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &r, NULL), SPAROA_OK);
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &again, NULL), SPAROA_OK);
    assert_memory_equal(&r, &again, sizeof r);
    assert_true(r.p99_ns > r.p50_ns && r.min_ns < r.p50_ns);
    o.seed = 2;
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &again, NULL), SPAROA_OK);
    assert_true(again.mean_ns != r.mean_ns);
    o.noise = false;
    o.contention = true;
    double kept = platform.memory_bandwidth;
    platform.memory_bandwidth = 5e9;
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &r, NULL), SPAROA_OK);
    platform.memory_bandwidth = kept;
    assert_true(r.slowed_ns > 0 && r.mean_ns > quiet.mean_ns);
    o.contention = false;
    o.load_period_ns = 1e6;
    o.load_probability[0] = 0.5;
    o.load_share[0] = 0.7;
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &r, NULL), SPAROA_OK);
    assert_true(r.mean_ns > quiet.mean_ns);
    o.load_period_ns = 0;
    o.thermal = true;
    sp_platform_state hot = sp_platform_nominal(&platform);
    hot.device[0].temperature = 150;
    o.state = &hot;
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &r, NULL), SPAROA_OK);
    assert_true(r.throttled > 0 && r.mean_ns > quiet.mean_ns && r.temperature_c > 95);
    sp_profile_destroy(p);
}

static void trace_lists_everything(void **state)
{
    sp_profile *p = make_profile(3, 10);
    uint8_t device[10] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
    sp_text text;
    sp_text_init(&text, &alloc);
    const sp_sim_options o = {.regime = SP_REGIME_GRAPH, .trace = &text, .runs = 3};
    sp_sim_result r;
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &r, NULL), SPAROA_OK);
    size_t tasks = 0;
    for (const char *c = text.data; (c = strstr(c, "\"cat\": \"conv\"")); c++) tasks++;
    assert_int_equal(tasks, 10);
    assert_non_null(strstr(text.data, "simulated: jetson_agx_orin_64gb"));
    sp_text_free(&text);
    device[3] = 7;
    sparoa_error err;
    assert_int_equal(sp_env_simulate(&alloc, p, &platform, device, &o, &r, &err),
                     SPAROA_INVALID_PLAN);
    sp_profile_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(quiet_is_the_environment),
                                       cmocka_unit_test(world_is_worse),
                                       cmocka_unit_test(trace_lists_everything)};
    return cmocka_run_group_tests(tests, setup, memory_tear_down);
}
