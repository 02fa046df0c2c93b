/* Policies against brute force. */
#include "schedule/policy.h"
#include "tests/support/memory.h"

/* The least score of all assignments. */
static double brute_force(const sp_env *env, sp_policy_options o)
{
    sp_env_state s;
    uint8_t device[24];
    double best = INFINITY;
    assert_true(sp_env_state_init(&s, env));
    for (uint32_t bits = 0; bits < 1u << env->node_count; bits++) {
        bool may = true;
        for (uint32_t i = 0; i < env->node_count; i++) {
            device[i] = bits >> i & 1;
            may &= env->nodes[i].allowed >> device[i] & 1;
        }
        if (!may) continue;
        sp_env_replay(&s, device);
        best = fmin(best, sp_policy_score(&o, &s.result));
    }
    sp_env_state_free(&s);
    return best;
}

static double run(const char *name, const sp_env *env, sp_objective objective, bool *optimal)
{
    sp_policy_options o = {.objective = objective, .updates = 200};
    sp_policy_result r;
    uint8_t device[512];
    sparoa_error err = {0};
    if (sp_policy_run(sp_policy_find(name), env, &o, device, &r, &err))
        fail_msg("%s: %s", name, err.message);
    if (optimal) *optimal = r.optimal;
    return sp_objective_score(objective, &r.price);
}

static void optimal_is_brute_force(void **state)
{
    for (uint64_t seed = 0; seed < 150; seed++)
        for (int objective = 0; objective < 3; objective++) {
            sp_env *env;
            assert_int_equal(sp_env_random(&alloc, seed, 2 + seed % 10, 1 + seed % 5, &env, NULL),
                             SPAROA_OK);
            if (seed % 3 == 0) env->devices[0].lanes = 2;
            if (seed % 7 == 0) env->devices[1].lanes = 3;
            env->link_shared = seed % 4 == 0;
            double best = brute_force(env, (sp_policy_options){.objective = objective});
            bool proved;
            assert_near(run("optimal", env, objective, &proved), best);
            assert_true(proved);
            for (const sp_policy *p = sp_policy_table; p->name; p++) {
                if (seed % 75 && p->run == sp_policy_sac) continue; /* it learns: that takes time */
                double score = run(p->name, env, objective, &proved);
                if (p->run == sp_policy_coexec) continue; /* it may split, brute force doesn't */
                if (!(score >= best * (1 - 1e-9))) fail_msg("%s beats brute force", p->name);
                if (proved) assert_near(score, best);
            }
            assert_near(run("portfolio", env, objective, NULL), best);
            if (objective == SP_OBJECTIVE_LATENCY)
                assert_true(sp_env_lower_bound(env, false) <= best * 1e9 * (1 + 1e-9));
            sp_env_destroy(env);
        }
}

static void dp_is_exact_on_chains(void **state)
{
    for (uint64_t seed = 0; seed < 100; seed++)
        for (int objective = 0; objective < 2; objective++) {
            sp_env *env;
            assert_int_equal(sp_env_random(&alloc, seed, 2 + seed % 11, 1, &env, NULL), SPAROA_OK);
            bool proved;
            assert_near(run("dp", env, objective, &proved),
                        brute_force(env, (sp_policy_options){.objective = objective}));
            assert_true(proved);
            sp_env_destroy(env);
        }
}

static void large_graphs(void **state)
{
    for (uint64_t seed = 0; seed < 4; seed++) {
        sp_env *env;
        assert_int_equal(sp_env_random(&alloc, seed, 300, 1 + (uint32_t)seed, &env, NULL),
                         SPAROA_OK);
        double best = run("optimal", env, 0, NULL), bound = sp_env_lower_bound(env, false) * 1e-9;
        assert_true(bound <= best);
        assert_true(best <= run("heft", env, 0, NULL) && best <= run("dp", env, 0, NULL));
        assert_near(run("optimal", env, 0, NULL), best); /* the same again */
        sp_env_destroy(env);
    }
}

static void limits_hold(void **state)
{
    sp_env *env;
    assert_int_equal(sp_env_random(&alloc, 5, 60, 2, &env, NULL), SPAROA_OK);
    for (uint32_t i = 0; i < 60; i++) env->nodes[i].allowed = 3;
    env->devices[1].memory_limit = 4e6;
    for (const sp_policy *p = sp_policy_table; p->name; p++) {
        bool proved;
        run(p->name, env, 0, &proved); /* evaluation refuses what passes the limit */
        assert_false(proved);
    }
    sp_env_destroy(env);
}

static void least_energy_in_time(void **state)
{
    int saved = 0;
    for (uint64_t seed = 0; seed < 12; seed++) {
        sp_env *env;
        uint8_t device[24];
        sparoa_error err;
        sp_policy_result r, free_of_limit;
        assert_int_equal(sp_env_random(&alloc, seed, 11, 3, &env, NULL), SPAROA_OK);
        double fastest = run("optimal", env, SP_OBJECTIVE_LATENCY, NULL) * 1e9;
        const sp_policy_options o = {.objective = SP_OBJECTIVE_ENERGY, .latency_limit = 1.1},
                                no = {.objective = SP_OBJECTIVE_ENERGY};
        for (const sp_policy *p = sp_policy_table; p->name; p++) {
            sp_policy_options short_o = o;
            short_o.updates = 100;
            assert_int_equal(sp_policy_run(p, env, &short_o, device, &r, &err), SPAROA_OK);
            assert_true(r.price.makespan_ns <= 1.1 * fastest * (1 + 1e-9));
        }
        assert_int_equal(sp_policy_run(sp_policy_find("optimal"), env, &o, device, &r, &err),
                         SPAROA_OK);
        assert_true(r.optimal);
        assert_near(r.price.energy_j,
                    brute_force(env, (sp_policy_options){.objective = SP_OBJECTIVE_ENERGY,
                                                         .limit_ns = 1.1 * fastest}));
        assert_int_equal(
            sp_policy_run(sp_policy_find("optimal"), env, &no, device, &free_of_limit, &err),
            SPAROA_OK);
        assert_true(free_of_limit.price.energy_j <= r.price.energy_j * (1 + 1e-9));
        saved += free_of_limit.price.energy_j < r.price.energy_j;
        sp_env_destroy(env);
    }
    assert_true(saved > 0); /* the limit mattered somewhere */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimal_is_brute_force), cmocka_unit_test(dp_is_exact_on_chains),
        cmocka_unit_test(large_graphs), cmocka_unit_test(limits_hold),
        cmocka_unit_test(least_energy_in_time)};
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
