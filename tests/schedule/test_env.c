/* The environment: prices by hand, sums of steps, bounds, refusals. */
#include "base/rng.h"
#include "schedule/env.h"
#include "tests/support/memory.h"

/* in -> a -> b -> out; copies cost 10 in and 20 back, the GPU's entry 5. */
static sp_env *chain(void)
{
    const sp_env_node nodes[] = {{.name = "a",
                                  .op = "A",
                                  .allowed = 3,
                                  .time_ns = {100, 40},
                                  .n_in = 1,
                                  .first_out = 1,
                                  .n_out = 1},
                                 {.name = "b",
                                  .op = "B",
                                  .allowed = 3,
                                  .time_ns = {30, 60},
                                  .first_in = 1,
                                  .n_in = 1,
                                  .first_out = 2,
                                  .n_out = 1}};
    sp_env_value values[3] = {
        {.producer = SP_ENV_INPUT}, {.producer = 0}, {.producer = 1, .output = true}};
    for (int v = 0; v < 3; v++) {
        values[v].copy_ns[0][1] = 10;
        values[v].copy_ns[1][0] = 20;
    }
    const uint32_t reads[] = {0, 1};
    const sp_env_device devices[] = {{.name = "cpu"}, {.name = "gpu", .entry_ns = 5}};
    sp_env *env;
    sparoa_error err = {0};
    if (sp_env_create(&alloc, nodes, 2, values, 3, reads, 2, devices, 2, &env, &err))
        fail_msg("%s", err.message);
    return env;
}

static void prices_by_hand(void **state)
{
    sp_env *env = chain();
    const struct {
        uint8_t device[2];
        double makespan, transfer, exposed;
    } cases[] = {{{0, 0}, 130, 0, 0},
                 {{1, 1}, 10 + 5 + 40 + 60 + 20, 30, 10},
                 {{1, 0}, 10 + 5 + 40 + 20 + 30, 30, 30},
                 {{0, 1}, 100 + 10 + 5 + 60 + 20, 30, 10}};
    for (size_t i = 0; i < 4; i++) {
        sp_env_result r;
        assert_int_equal(sp_env_evaluate(env, cases[i].device, &r, NULL), SPAROA_OK);
        assert_true(r.makespan_ns == cases[i].makespan);
        assert_true(r.transfer_ns == cases[i].transfer);
        assert_true(r.exposed_ns == cases[i].exposed);
    }
    assert_true(sp_env_lower_bound(env, false) == 70);
    sp_env_destroy(env);
}

static void steps_sum_up(void **state)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        sp_env *env;
        assert_int_equal(sp_env_random(&alloc, seed, 40, 1 + seed % 5, &env, NULL), SPAROA_OK);
        sp_env_state s, copy;
        assert_true(sp_env_state_init(&s, env) && sp_env_state_init(&copy, env));
        sp_env_delta sum = {0};
        uint8_t device[40];
        for (uint32_t i = 0; i < 40; i++) {
            device[i] = env->nodes[i].allowed & 2 ? sp_rng_bits(seed, i) & 1 : 0;
            double finish = sp_env_finish_on(&s, device[i]);
            float obs[SP_ENV_OBS];
            sp_env_observe(&s, obs);
            for (int k = 0; k < SP_ENV_OBS; k++) assert_true(isfinite(obs[k]) && fabsf(obs[k]) < 8);
            sp_env_state_copy(&copy, &s);
            sp_env_delta d;
            sp_env_step(&s, device[i], &d);
            sp_env_step(&copy, device[i], NULL);
            assert_true(finish == s.finish[i] && copy.finish[i] == finish);
            assert_true(d.makespan_ns >= 0);
            sum.makespan_ns += d.makespan_ns;
            sum.energy_j += d.energy_j;
            sum.transfer_ns += d.transfer_ns;
        }
        sp_env_result r;
        assert_int_equal(sp_env_evaluate(env, device, &r, NULL), SPAROA_OK);
        assert_true(fabs(sum.makespan_ns / r.makespan_ns - 1) < 1e-9);
        assert_true(fabs(sum.energy_j / r.energy_j - 1) < 1e-9);
        assert_true(memcmp(&r, &s.result, sizeof r) == 0);
        assert_true(sp_env_lower_bound(env, false) <= r.makespan_ns);
        sp_env_state_free(&s);
        sp_env_state_free(&copy);
        sp_env_destroy(env);
    }
}

static void refuses_nonsense(void **state)
{
    sp_env_node node = {
        .name = "a", .op = "A", .allowed = 3, .n_in = 1, .first_out = 0, .n_out = 1};
    const sp_env_value value = {.producer = 0};
    const uint32_t reads[] = {0};
    const sp_env_device devices[2] = {{.name = "cpu"}, {.name = "gpu"}};
    sp_env *env = NULL;
    sparoa_error err = {0};
    /* reads what it writes */
    assert_int_equal(sp_env_create(&alloc, &node, 1, &value, 1, reads, 1, devices, 2, &env, &err),
                     SPAROA_INVALID_GRAPH);
    assert_non_null(strstr(err.message, "'a'"));
    node.n_in = 0;
    node.allowed = 4;
    assert_int_equal(sp_env_create(&alloc, &node, 1, &value, 1, reads, 1, devices, 2, &env, &err),
                     SPAROA_INVALID_GRAPH);
    assert_int_equal(sp_env_create(&alloc, &node, 1, &value, 1, reads, 1, devices, 5, &env, &err),
                     SPAROA_INVALID_ARGUMENT);
    node.allowed = 1;
    assert_int_equal(sp_env_create(&alloc, &node, 1, &value, 1, reads, 1, devices, 2, &env, &err),
                     SPAROA_OK);
    const uint8_t gpu = 1;
    sp_env_result r;
    assert_int_equal(sp_env_evaluate(env, &gpu, &r, &err), SPAROA_INVALID_PLAN);
    sp_env_destroy(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(prices_by_hand),
                                       cmocka_unit_test(steps_sum_up),
                                       cmocka_unit_test(refuses_nonsense)};
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
