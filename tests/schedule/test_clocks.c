/* Clocks as part of the decision, and the bound on energy. */
#include "profile/micro.h"
#include "schedule/clocks.h"
#include "schedule/env_build.h"
#include "tests/support/memory.h"

/* The least energy of all assignments within a limit; INFINITY: none is that fast. */
static double least_energy(const sp_env *env, double limit_ns)
{
    uint8_t place[16];
    double least = INFINITY;
    for (uint32_t bits = 0; bits < 1u << env->node_count; bits++) {
        sp_env_result r;
        for (uint32_t i = 0; i < env->node_count; i++) place[i] = bits >> i & 1;
        if (sp_env_evaluate(env, place, &r, NULL)) continue;
        if (limit_ns > 0 && r.makespan_ns > limit_ns) continue;
        least = fmin(least, r.energy_j);
    }
    return least;
}

/* Never above the truth; on chains near it. */
static void bounds(void **state)
{
    double tight = 0;
    int chains = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        sp_env *env;
        sparoa_error err;
        uint32_t width = 1 + seed % 3;
        if (sp_env_random(&alloc, seed, 8, width, &env, &err)) fail_msg("%s", err.message);
        sp_policy_result fastest;
        uint8_t place[16];
        assert_int_equal(sp_policy_run(sp_policy_find("optimal"), env, NULL, place, &fastest, &err),
                         0);
        for (int k = 0; k < 4; k++) {
            double limit = k ? fastest.price.makespan_ns * (0.9 + 0.1 * k) : 0;
            double truth = least_energy(env, limit), bound = sp_env_energy_bound(env, limit);
            if (bound > truth * (1 + 1e-9))
                fail_msg("seed %d, limit %g: bound %g above %g", (int)seed, limit, bound, truth);
            if (width > 1) continue;
            tight += bound / truth;
            chains++;
        }
        assert_true(isinf(sp_env_energy_bound(env, 1)));
        sp_env_destroy(env);
    }
    if (tight / chains < 0.9) fail_msg("on chains %g of the truth in the mean", tight / chains);
}

static sp_profile *small_profile(sp_regime regime)
{
    sparoa_error err;
    sp_profile *p = NULL;
    sp_graph *g = sp_micro_graph(&alloc, 1, 0);
    assert_non_null(g);
    sparoa_tensor in = g->values[g->inputs[0]].fact;
    if (sp_profile_create(&alloc, g, "m", &in, 1, regime, &p, &err)) fail_msg("%s", err.message);
    sp_graph_destroy(g);
    return p;
}

static void choose(const sp_platform *platform, sp_regime regime, double limit, bool steps)
{
    sparoa_error err;
    sp_profile *p = small_profile(regime);
    sp_env *env;
    sp_platform_state base = sp_platform_nominal(platform);
    sp_policy_result fast, slow, again;
    sp_clock_choice choice, second;
    const sp_policy *portfolio = sp_policy_find("portfolio");
    if (sp_env_build(&alloc, p, platform, regime, &base, &env, &err)) fail_msg("%s", err.message);
    uint8_t *start = sp_alloc(&alloc, env->node_count), *place = sp_alloc(&alloc, env->node_count);
    assert_int_equal(sp_policy_run(portfolio, env, NULL, start, &fast, &err), SPAROA_OK);
    const sp_policy_options o = {.objective = SP_OBJECTIVE_ENERGY,
                                 .limit_ns = limit * fast.price.makespan_ns,
                                 .start = start};
    assert_int_equal(sp_policy_run(portfolio, env, &o, place, &slow, &err), SPAROA_OK);
    if (sp_clocks_choose(env, p, platform, &base, portfolio, &o, place, &again, &choice, &err))
        fail_msg("%s", err.message);
    assert_true(again.price.makespan_ns <= o.limit_ns * (1 + 1e-12));
    assert_true(again.price.energy_j <= slow.price.energy_j * (1 + 1e-12));
    assert_true(choice.bound <= again.price.energy_j * (1 + 1e-12));
    for (uint32_t d = 0; d < 2; d++)
        assert_true(env->devices[d].clock == choice.state.device[d].clock);
    bool lowered = choice.state.device[0].clock < 1 || choice.state.device[1].clock < 1;
    assert_true(steps ? lowered && again.price.energy_j < 0.97 * slow.price.energy_j : !lowered);
    sp_env_reprice(env, p, platform, regime, &base);
    assert_int_equal(
        sp_clocks_choose(env, p, platform, &base, portfolio, &o, place, &slow, &second, &err),
        SPAROA_OK);
    assert_memory_equal(&second.state, &choice.state, sizeof choice.state);
    sp_free(&alloc, start, env->node_count);
    sp_free(&alloc, place, env->node_count);
    sp_env_destroy(env);
    sp_profile_destroy(p);
}

static void clocks(void **state)
{
    static sp_platform platform;
    sparoa_error err;
    if (sp_platform_load(&alloc, SPAROA_SOURCE_DIR "/platforms/jetson_orin_nano_8gb.yaml",
                         &platform, &err))
        fail_msg("%s", err.message);
    choose(&platform, SP_REGIME_EAGER, 1.1, true);
    choose(&platform, SP_REGIME_GRAPH, 2, true);
    platform.devices[0].clock_step_count = platform.devices[1].clock_step_count = 0;
    choose(&platform, SP_REGIME_GRAPH, 2, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bounds), cmocka_unit_test(clocks)};
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
