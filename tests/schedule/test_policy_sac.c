/* The SAC policy on random graphs: against the optimum, against what it learned from, alone, twice.
 */
#include "schedule/policy.h"
#include "tests/support/memory.h"

/* Gradient steps: with demonstrations, alone, on a large graph, and for the same twice. */
#if defined(SP_TEST_EMULATED) /* a step takes a hundred times as long there */
enum { SHOWN = 100, ALONE = 300, LARGE = 100, SAME = 50 };
#else
enum { SHOWN = 800, ALONE = 1500, LARGE = 1500, SAME = 200 };
#endif

static double run(const char *name, const sp_env *env, sp_policy_options o, uint8_t *device)
{
    sp_policy_result r;
    sparoa_error err;
    if (sp_policy_run(sp_policy_find(name), env, &o, device, &r, &err)) fail_msg("%s", err.message);
    return sp_objective_score(o.objective, &r.price);
}

/* Objectives in turn; the mean and the worst share by which the optimum is missed. */
static void gaps(uint32_t nodes, int graphs, uint32_t updates, bool alone, double *mean,
                 double *worst)
{
    uint8_t device[128];
    *mean = *worst = 0;
    for (int i = 0; i < graphs; i++) {
        sp_env *env;
        assert_int_equal(
            sp_env_random(&alloc, 700 + (uint64_t)i, nodes, 1 + (uint32_t)i % 4, &env, NULL),
            SPAROA_OK);
        sp_policy_options o = {
            .objective = (sp_objective)(i % 3), .updates = updates, .seed = 1, .alone = alone};
        double best = run("optimal", env, o, device), mine = run("sac", env, o, device);
        if (!alone)
            for (int k = 0; k < 3; k++) {
                const char *other = (const char *[]){"greedy", "dp", "heft"}[k];
                assert_true(mine <= run(other, env, o, device) * (1 + 1e-9));
            }
        *mean += (mine / best - 1) / graphs;
        *worst = fmax(*worst, mine / best - 1);
        sp_env_destroy(env);
    }
}

static void test_near_the_optimum(void **state)
{
    double mean, worst;
    gaps(10, 4, SHOWN, false, &mean, &worst);
    print_message("10 nodes: %.2f%% above the optimum, at worst %.2f%%\n", 100 * mean, 100 * worst);
    assert_true(mean < 0.02);
    gaps(10, 4, ALONE, true, &mean, &worst);
    print_message("10 nodes, alone: %.2f%%, at worst %.2f%%\n", 100 * mean, 100 * worst);
    assert_true(mean < 0.05);
    gaps(40, 1, LARGE, false, &mean, &worst);
    print_message("40 nodes: %.2f%%\n", 100 * mean);
    assert_true(mean < 0.05);
}

static void test_deterministic(void **state)
{
    sp_env *env;
    uint8_t a[20], b[20];
    sp_policy_options o = {.seed = 3, .updates = SAME, .alone = true};
    assert_int_equal(sp_env_random(&alloc, 9, 20, 3, &env, NULL), SPAROA_OK);
    double x = run("sac", env, o, a), y = run("sac", env, o, b);
    assert_true(x == y);
    assert_memory_equal(a, b, sizeof a);
    sp_env_destroy(env);
}

/* Nothing to choose: no learning, and a device that is neither of the two is taken where it must
 * be. */
static void test_no_choice(void **state)
{
    sp_env *env;
    uint8_t device[12];
    assert_int_equal(sp_env_random(&alloc, 9, 12, 3, &env, NULL), SPAROA_OK);
    for (uint32_t i = 0; i < 12; i++) env->nodes[i].allowed = 1 + i % 2;
    run("sac", env, (sp_policy_options){0}, device);
    for (uint32_t i = 0; i < 12; i++) assert_int_equal(device[i], i % 2);
    sp_env_destroy(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_the_optimum),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_no_choice),
    };
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
