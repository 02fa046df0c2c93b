/* Nodes divided between two devices: prices, policies, plans, simulation. */
#include "base/rng.h"
#include "schedule/env_build.h"
#include "schedule/env_sim.h"
#include "schedule/plan.h"
#include "tests/support/memory.h"

/* One node from an input to an output: 100 us on the host, 60 us on the accelerator. */
static sp_env *one_node(void)
{
    sp_env_value values[2] = {{.producer = SP_ENV_INPUT, .bytes = 1000},
                              {.producer = 0, .output = true, .bytes = 1000}};
    for (int v = 0; v < 2; v++) {
        values[v].copy_ns[0][1] = values[v].copy_ns[1][0] = 10e3;
        values[v].copy_j[0][1] = values[v].copy_j[1][0] = 1;
    }
    const sp_env_node node = {.name = "n",
                              .op = "Conv",
                              .allowed = 3,
                              .cost = {1600, 1, 1, 1},
                              .time_ns = {100e3, 60e3},
                              .energy_j = {100, 60},
                              .memory = {160, 160},
                              .fixed_ns = {20e3, 12e3},
                              .part_power = {1, 1},
                              .split_axis = SP_SPLIT_CHANNELS,
                              .n_in = 1,
                              .first_out = 1,
                              .n_out = 1};
    const sp_env_device devices[] = {{.name = "cpu"}, {.name = "gpu", .entry_ns = 5e3}};
    const uint32_t reads[] = {0};
    sp_env *env;
    sparoa_error err;
    if (sp_env_create(&alloc, &node, 1, values, 2, reads, 1, devices, 2, &env, &err))
        fail_msg("%s", err.message);
    env->link_fixed_ns[0][1] = env->link_fixed_ns[1][0] = 6e3;
    sp_env_refresh(env);
    return env;
}

static void prices_by_hand(void **state)
{
    sp_env *env = one_node();
    sp_env_result r;
    uint8_t place = sp_place_split(0, 1, 4); /* a quarter on the accelerator */
    assert_int_equal(sp_env_evaluate(env, &place, &r, NULL), SPAROA_OK);
    /* host: 20 + 80 * 3/4 = 80; accelerator: copy 10, entry 5, 12 + 48/4 = 24, merge 6 + 4/4 */
    assert_near(r.makespan_ns, 80e3);
    assert_near(r.busy_ns[0], 80e3);
    assert_near(r.busy_ns[1], 29e3);
    assert_near(r.transfer_ns, 17e3);
    assert_near(r.flops[1], 400);
    assert_near(r.energy_j, 100 * 0.8 + 60 * 24 / 60. + 1 + 0.7);
    assert_int_equal(r.copies, 2);
    assert_near(sp_env_kept_bytes(&env->nodes[0], place, 1), 40);
    assert_near(sp_env_kept_bytes(&env->nodes[0], place, 0), 120);
    assert_true(sp_place_share(env->nodes[0].split_place) > 0);
    assert_int_equal(sp_place_device(env->nodes[0].split_place), 1); /* the faster has the whole */
    sp_env_destroy(env);
}

static void refuses(void **state)
{
    sp_env *env = one_node();
    sp_env_result r;
    sparoa_error err;
    const uint8_t bad[] = {sp_place_split(0, 0, 4), sp_place_split(0, 2, 4),
                           sp_place_split(0, 1, 0), sp_place_split(2, 0, 0)};
    for (size_t i = 0; i < sizeof bad; i++)
        assert_int_equal(sp_env_evaluate(env, &bad[i], &r, &err), SPAROA_INVALID_PLAN);
    uint8_t good = sp_place_split(0, 1, 4);
    env->nodes[0].allowed = 1;
    assert_int_equal(sp_env_evaluate(env, &good, &r, &err), SPAROA_INVALID_PLAN);
    env->nodes[0].allowed = 3;
    env->nodes[0].split_axis = SP_SPLIT_NONE;
    assert_int_equal(sp_env_evaluate(env, &good, &r, &err), SPAROA_INVALID_PLAN);
    assert_non_null(strstr(err.message, "split"));
    sp_env_destroy(env);
}

#if defined(SP_TEST_EMULATED) /* training is products of matrices, a hundred times slower there */
#define UPDATES 30
#else
#define UPDATES 300
#endif

static double run(const char *name, const sp_env *env, bool split, uint8_t *device)
{
    const sp_policy_options o = {.split = split, .updates = UPDATES};
    sp_policy_result r;
    sparoa_error err;
    if (sp_policy_run(sp_policy_find(name), env, &o, device, &r, &err))
        fail_msg("%s: %s", name, err.message);
    return r.price.makespan_ns;
}

static void pays_or_stays(void **state)
{
    int better = 0, split = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        sp_env *env;
        uint8_t device[40];
        assert_int_equal(sp_env_random(&alloc, seed, 40, 1 + seed % 4, &env, NULL), SPAROA_OK);
        double whole = run("portfolio", env, false, device);
        for (int i = 0; i < 40; i++) assert_int_equal(sp_place_share(device[i]), 0);
        double both = run("portfolio", env, true, device);
        assert_true(both <= whole * (1 + 1e-12));
        assert_true(sp_env_lower_bound(env, true) <= both);
        better += both < 0.98 * whole;
        double each = run("coexec", env, false, device);
        for (int i = 0; i < 40; i++) split += sp_place_share(device[i]) > 0;
        if (seed < 4) assert_true(run("sac", env, true, device) <= each);
        sp_env_destroy(env);
    }
    if (better < 3 || split < 20) fail_msg("%d plans better, %d nodes split", better, split);
}

static void round_trip(void **state)
{
    const sp_plan_origin origin = {"m", "p", "graph", "coexec", SP_OBJECTIVE_LATENCY, 0, false};
    sp_env *env;
    uint8_t device[40], read[40];
    sp_plan *a, *b, *plain;
    sp_text text[2];
    sparoa_error err = {0};
    assert_int_equal(sp_env_random(&alloc, 3, 40, 3, &env, NULL), SPAROA_OK);
    run("coexec", env, false, device);
    if (sp_plan_create(env, device, &origin, &a, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++) sp_text_init(&text[i], &alloc);
    sp_plan_write(a, &text[0]);
    assert_non_null(strstr(text[0].data, "split: {device2: "));
    if (sp_plan_parse(&alloc, "p", text[0].data, text[0].size, &b, &err))
        fail_msg("%s", err.message);
    sp_plan_write(b, &text[1]);
    assert_string_equal(text[0].data, text[1].data);
    assert_int_equal(sp_plan_assignment(b, env, read, &err), SPAROA_OK);
    assert_memory_equal(device, read, sizeof device);
    uint32_t split = 0;
    for (int i = 0; i < 40; i++) {
        split += sp_place_share(device[i]) > 0;
        read[i] = (uint8_t)sp_place_device(device[i]);
    }
    if (sp_plan_create(env, read, &origin, &plain, &err)) fail_msg("%s", err.message);
    assert_int_equal(sp_plan_diff(a, plain, NULL, NULL), split);
    assert_int_equal(sp_plan_diff(a, b, NULL, NULL), 0);
    for (uint32_t i = 0; i < env->node_count; i++) env->nodes[i].split_axis = SP_SPLIT_ROWS;
    assert_int_equal(sp_plan_assignment(b, env, read, &err), SPAROA_INVALID_PLAN);
    assert_non_null(strstr(err.message, "split by channels, here by: rows"));
    sp_plan_destroy(a);
    sp_plan_destroy(b);
    sp_plan_destroy(plain);
    for (int i = 0; i < 2; i++) sp_text_free(&text[i]);
    sp_env_destroy(env);
}

static void damage(void **state)
{
    static const char head[] =
        "format: sparoa-plan\nversion: 1\nmodel: m\nplatform: p\nregime: graph\npolicy: x\n"
        "objective: latency\nseed: 0\noptimal: false\npredicted: {latency_us: 1, lower_bound_us: "
        "1, energy_mj: 1, transfer_us: 0, exposed_us: 0, copies: 0, segments: 0}\ndevices:\n"
        "  - {name: cpu, busy_us: 0, flops: 0, nodes: 1}\n"
        "  - {name: gpu, busy_us: 0, flops: 0, nodes: 1}\nnodes:\n"
        "  - {name: n, op: Conv, device: cpu, reason: SPLIT, us: [1, 1], start_us: 0, finish_us: "
        "1, transfer_us: 0, split: ";
    static const struct {
        const char *split, *message;
    } cases[] = {{"{device2: npu, axis: rows, share: 0.5}", "p:15: nodes[0].split.device2: there"},
                 {"{device2: cpu, axis: rows, share: 0.5}", ".device2: expected a device other"},
                 {"{device2: gpu, axis: none, share: 0.5}", ".split.axis: 'none' is not channels"},
                 {"{device2: gpu, axis: rows, share: 0}", ".split.share: 0 is not within"},
                 {"{device2: gpu, axis: rows, share: 1}", ".split.share: 1 is not within"},
                 {"{device2: gpu, axis: rows}", "p:15: nodes[0].split"},
                 {"{device2: gpu, axis: rows, share: 0.5, x: 1}", "x"},
                 {"0.5", "p:15: nodes[0].split"}};
    for (size_t i = 0; i <= sizeof cases / sizeof *cases; i++) {
        bool good = i == sizeof cases / sizeof *cases;
        sp_text text;
        sp_plan *plan = NULL;
        sparoa_error err = {0};
        sp_text_init(&text, &alloc);
        sp_text_add(&text, "%s%s}\n", head,
                    good ? "{device2: gpu, axis: rows, share: 0.3}" : cases[i].split);
        sparoa_status status = sp_plan_parse(&alloc, "p", text.data, text.size, &plan, &err);
        if (good ? status != SPAROA_OK : !status || !strstr(err.message, cases[i].message))
            fail_msg("case %zu: %s", i, err.message);
        sp_text_free(&text);
        sp_plan_destroy(plan);
    }
}

/* Two convolutions in a row on two devices that are alike. */
static sp_profile *two_nodes(void)
{
    sp_profile *p = sp_calloc(&alloc, 1, sizeof *p);
    p->alloc = alloc;
    sp_arena_init(&p->arena, &alloc);
    p->model = "two";
    p->regime = SP_REGIME_GRAPH;
    p->nodes = sp_arena_alloc(&p->arena, 2 * sizeof *p->nodes);
    p->values = sp_arena_alloc(&p->arena, 3 * sizeof *p->values);
    p->reads = sp_arena_alloc(&p->arena, 2 * sizeof *p->reads);
    p->node_count = p->read_count = 2;
    p->value_count = 3;
    for (uint32_t i = 0; i < 3; i++)
        p->values[i] = (sp_profile_value){"v", i ? i - 1 : SP_PROFILE_INPUT, i == 2, 4e5};
    for (uint32_t i = 0; i < 2; i++) {
        p->reads[i] = i;
        p->nodes[i] = (sp_profile_node){.name = i ? "b" : "a",
                                        .op = "Conv",
                                        .kind = SPAROA_CLASS_CONV,
                                        .cost = {2e9, 4e5, 1e6, 4e5},
                                        .channels = 64,
                                        .groups = 1,
                                        .first_in = i,
                                        .n_in = 1,
                                        .first_out = i + 1,
                                        .n_out = 1};
    }
    return p;
}

static const char twins[] =
    "format: sparoa-platform\nversion: 1\nname: twins\ndescription: two alike\nidle_watts: 5\n"
    "dispatch_watts: 1\nshared_link: false\n"
    "memory: {shared_gbs: 0, knee: 1, contention: 0, pj_per_byte: 60}\n"
    "noise: {sigma: 0, spike_probability: 0, spike_factor: 1}\n"
    "thermal: {ambient_c: 25, c_per_watt: 1, seconds: 10, limit_c: 0, throttled_clock: 1}\n"
    "devices:\n"
    "  - {name: cpu, kind: cpu, lanes: 1, peak_gflops: 200, bandwidth_gbs: 40, memory_gb: 0,\n"
    "     active_watts: 10, clock_power: 2, entry_eager_us: 0, entry_graph_us: 0,\n"
    "     kinds: {default: {efficiency: 0.5, bandwidth: 0.5, eager_us: 5, graph_us: 5}}}\n"
    "  - {name: gpu, kind: integrated_gpu, lanes: 1, peak_gflops: 220, bandwidth_gbs: 40,\n"
    "     memory_gb: 0, active_watts: 10, clock_power: 2, entry_eager_us: 5, entry_graph_us: 5,\n"
    "     kinds: {default: {efficiency: 0.5, bandwidth: 0.5, eager_us: 5, graph_us: 5}}}\n"
    "links:\n"
    "  - {from: cpu, to: gpu, eager_us: 10, graph_us: 10, bandwidth_gbs: 10}\n"
    "  - {from: gpu, to: cpu, eager_us: 10, graph_us: 10, bandwidth_gbs: 10}\n";

static void simulates(void **state)
{
    static sp_platform platform;
    sparoa_error err = {0};
    if (sp_platform_parse(&alloc, "twins", twins, sizeof twins - 1, &platform, &err))
        fail_msg("%s", err.message);
    sp_profile *profile = two_nodes();
    sp_env *env;
    uint8_t device[2];
    sp_sim_result sim;
    sp_env_result r;
    const sp_sim_options o = {.regime = SP_REGIME_GRAPH};
    if (sp_env_build(&alloc, profile, &platform, SP_REGIME_GRAPH, NULL, &env, &err))
        fail_msg("%s", err.message);
    double whole = run("portfolio", env, false, device), both = run("portfolio", env, true, device);
    if (!(both < 0.65 * whole)) fail_msg("%.0f us of %.0f us", both * 1e-3, whole * 1e-3);
    assert_true(sp_place_share(device[0]) && sp_place_share(device[1]));
    device[1] = sp_place_split(sp_place_device(device[0]), sp_place_second(device[0]), 7);
    assert_int_equal(sp_env_evaluate(env, device, &r, &err), SPAROA_OK);
    if (sp_env_simulate(&alloc, profile, &platform, device, &o, &sim, &err))
        fail_msg("%s", err.message);
    if (!(fabs(sim.mean_ns / r.makespan_ns - 1) < 0.05))
        fail_msg("simulated %.0f, predicted %.0f", sim.mean_ns, r.makespan_ns);
    device[0] = sp_place_split(0, 0, 3);
    assert_int_equal(sp_env_simulate(&alloc, profile, &platform, device, &o, &sim, &err),
                     SPAROA_INVALID_PLAN);
    sp_env_destroy(env);

    /* By batch every part reads all weights, which are most of the work here. */
    for (int i = 0; i < 2; i++) {
        profile->nodes[i].channels = 8;
        profile->nodes[i].batch = 2;
        profile->nodes[i].cost = (sparoa_cost){2e7, 4e5, 8e6, 4e5};
        device[i] = i ? 0 : sp_place_split(0, 1, 8);
    }
    if (sp_env_build(&alloc, profile, &platform, SP_REGIME_GRAPH, NULL, &env, &err))
        fail_msg("%s", err.message);
    assert_int_equal(env->nodes[0].split_axis, SP_SPLIT_BATCH);
    assert_int_equal(sp_env_evaluate(env, device, &r, &err), SPAROA_OK);
    if (sp_env_simulate(&alloc, profile, &platform, device, &o, &sim, &err))
        fail_msg("%s", err.message);
    if (!(fabs(sim.mean_ns / r.makespan_ns - 1) < 0.05))
        fail_msg("by batch: simulated %.0f, predicted %.0f", sim.mean_ns, r.makespan_ns);
    sp_env_destroy(env);
    profile->nodes[0].groups = 2; /* can't be divided */
    assert_int_equal(sp_env_simulate(&alloc, profile, &platform, device, &o, &sim, &err),
                     SPAROA_INVALID_PLAN);
    sp_profile_destroy(profile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prices_by_hand), cmocka_unit_test(refuses),
        cmocka_unit_test(pays_or_stays),  cmocka_unit_test(round_trip),
        cmocka_unit_test(damage),         cmocka_unit_test(simulates)};
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
