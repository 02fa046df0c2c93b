/* Re-planning: never worse than what it is made of, no allocation, same bytes, damaged files. */
#include "base/rng.h"
#include "schedule/env_build.h"
#include "schedule/replan.h"
#include "tests/support/memory.h"

#if defined(SP_TEST_EMULATED) /* a step of training takes a hundred times as long there */
enum { NODES = 20, UPDATES = 500, SAME_UPDATES = 60 };
#else
enum { NODES = 40, UPDATES = 2000, SAME_UPDATES = 2000 };
#endif
static sp_platform platform;
static sp_profile *profile;

/* Heavy and light nodes, each reading up to two of the last three values. */
static sp_profile *make_profile(void)
{
    sp_profile *p = sp_calloc(&alloc, 1, sizeof *p);
    p->alloc = alloc;
    sp_arena_init(&p->arena, &alloc);
    p->model = "random";
    p->nodes = sp_arena_alloc(&p->arena, NODES * sizeof *p->nodes);
    p->values = sp_arena_alloc(&p->arena, (NODES + 1) * sizeof *p->values);
    p->reads = sp_arena_alloc(&p->arena, 2 * NODES * sizeof *p->reads);
    p->values[p->value_count++] = (sp_profile_value){"in", SP_PROFILE_INPUT, false, 6e5};
    for (uint32_t i = 0; i < NODES; i++) {
        sp_profile_node *n = &p->nodes[p->node_count++];
        bool heavy = sp_rng_uniform(1, 8 * i + 3) < 0.4;
        *n = (sp_profile_node){.name = "n",
                               .op = "x",
                               .kind = heavy ? SPAROA_CLASS_CONV : SPAROA_CLASS_ELTWISE,
                               .op_class = heavy ? SPAROA_CLASS_CONV : SPAROA_CLASS_ELTWISE,
                               .cost = {heavy ? 3e7 : 2e5, 2e5, heavy ? 1e5 : 0, 2e5},
                               .weight_zeros = -1,
                               .input_zeros = -1,
                               .batch = 1,
                               .channels = 64,
                               .height = 28,
                               .width = 28,
                               .kernel = 1,
                               .stride = 1,
                               .groups = 1,
                               .first_in = p->read_count,
                               .first_out = p->value_count,
                               .n_out = 1};
        uint32_t window = p->value_count < 3 ? p->value_count : 3;
        uint32_t a = p->value_count - 1 - sp_rng_bits(1, 8 * i + 1) % window;
        uint32_t b = p->value_count - 1 - sp_rng_bits(1, 8 * i + 2) % window;
        p->reads[p->read_count++] = a;
        if (b != a) p->reads[p->read_count++] = b;
        n->n_in = p->read_count - n->first_in;
        p->values[p->value_count++] = (sp_profile_value){"v", i, i + 1 == NODES, 2e5};
    }
    return p;
}

static int setup(void **state)
{
    sparoa_error err;
    memory_set_up(state);
    profile = make_profile();
    return sp_platform_load(&alloc, SPAROA_SOURCE_DIR "/platforms/jetson_agx_orin_64gb.yaml",
                            &platform, &err);
}

static int teardown(void **state)
{
    sp_profile_destroy(profile);
    return memory_tear_down(state);
}

static sp_replanner *make(void)
{
    sp_replanner *r;
    sparoa_error err;
    if (sp_replanner_create(&alloc, profile, &platform, SP_OBJECTIVE_LATENCY, &r, &err))
        fail_msg("%s", err.message);
    return r;
}

static double train(sp_replanner *r, uint32_t updates)
{
    sparoa_error err;
    sp_replan_training t = {.seed = 3, .updates = updates};
    if (sp_replanner_train(r, &t, &err)) fail_msg("%s", err.message);
    return t.above_teacher;
}

static void best_of_all(void **state)
{
    static const char *const names[] = {"greedy", "dp", "heft"};
    sp_replanner *r = make();
    sp_env *env;
    uint8_t device[NODES], other[NODES];
    sp_replan_result result;
    assert_int_equal(sp_env_build(&alloc, profile, &platform, profile->regime, NULL, &env, NULL),
                     SPAROA_OK);
    double above = train(r, UPDATES);
    if (!(above < 0.03)) fail_msg("the policy alone is %.2f%% above its teacher", 100 * above);
    int changed = 0;
    size_t used = atomic_load(&mem.used);
    for (uint64_t seed = 0; seed < 60; seed++) {
        sp_live_state s = sp_live_random(&platform, seed, 2e6);
        sp_replan(r, &s, 0, device, &result);
        changed += result.changed;
        assert_true(atomic_load(&mem.used) == used);
        sp_env_reprice(env, profile, &platform, profile->regime, &s.platform);
        for (uint32_t d = 0; d < env->device_count; d++) env->devices[d].queue_ns = s.queue_ns[d];
        sp_env_result price;
        assert_int_equal(sp_env_evaluate(env, device, &price, NULL), SPAROA_OK);
        assert_true(fabs(price.makespan_ns - result.price.makespan_ns) <= 1e-6);
        for (int i = 0; i < 3; i++) {
            sp_policy_result p;
            assert_int_equal(sp_policy_run(sp_policy_find(names[i]), env, NULL, other, &p, NULL),
                             SPAROA_OK);
            if (!(price.makespan_ns <= p.price.makespan_ns * (1 + 1e-12)))
                fail_msg("seed %d: slower than %s", (int)seed, names[i]);
        }
    }
    assert_true(changed > 10);
    sp_env_destroy(env);
    sp_replanner_destroy(r);
}

/* A device that is still at work gets less, and time begins after its queue. */
static void queues_count(void **state)
{
    sp_replanner *r = make();
    uint8_t device[NODES];
    sp_replan_result idle, busy;
    sp_live_state s = {.platform = sp_platform_nominal(&platform)};
    sp_replan(r, &s, 0, device, &idle);
    s.queue_ns[1] = 1e9;
    sp_replan(r, &s, 0, device, &busy);
    assert_true(busy.changed && busy.price.makespan_ns < 1e9);
    for (int i = 0; i < NODES; i++) assert_int_equal(device[i], 0);
    s.queue_ns[0] = 1e9;
    sp_replan(r, &s, 0, device, &busy);
    assert_true(busy.price.makespan_ns > 1e9);
    sp_replanner_destroy(r);
}

static void same_bytes(void **state)
{
    sp_replanner *a = make(), *b = make();
    size_t bytes = sp_replanner_file_bytes(a);
    unsigned char *x = malloc(bytes), *y = malloc(bytes);
    uint8_t from_a[NODES], from_b[NODES];
    sp_replan_result result;
    sparoa_error err = {0};
    train(a, SAME_UPDATES), train(b, SAME_UPDATES);
    sp_replanner_save(a, x), sp_replanner_save(b, y);
    assert_memory_equal(x, y, bytes);
    sp_replanner_destroy(b);
    b = make();
    assert_false(sp_replanner_trained(b));
    assert_int_equal(sp_replanner_load(b, x, bytes - 1, &err), SPAROA_MALFORMED);
    x[32] ^= 1; /* the schema */
    assert_int_equal(sp_replanner_load(b, x, bytes, &err), SPAROA_UNSUPPORTED_VERSION);
    assert_non_null(strstr(err.message, "schema"));
    x[32] ^= 1;
    assert_false(sp_replanner_trained(b));
    assert_int_equal(sp_replanner_load(b, x, bytes, &err), SPAROA_OK);
    for (uint64_t seed = 0; seed < 10; seed++) {
        sp_live_state s = sp_live_random(&platform, seed, 2e6);
        sp_replan(a, &s, SP_REPLAN_POLICY, from_a, &result);
        sp_replan(b, &s, SP_REPLAN_POLICY, from_b, &result);
        assert_int_equal(result.from, SP_REPLAN_POLICY);
        assert_memory_equal(from_a, from_b, NODES);
    }
    free(x), free(y);
    sp_replanner_destroy(a), sp_replanner_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(best_of_all),
                                       cmocka_unit_test(queues_count),
                                       cmocka_unit_test(same_bytes)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
