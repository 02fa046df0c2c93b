/* Plans: the same bytes again, reasons, re-costing, differences, damage. */
#include "base/rng.h"
#include "schedule/env_build.h"
#include "schedule/plan.h"
#include "tests/support/memory.h"

static const sp_plan_origin origin = {
    "m.onnx", "machine \"x\"", "graph", "optimal", SP_OBJECTIVE_LATENCY, 7, true};

static sp_env *make_env(uint64_t seed)
{
    sp_env *env;
    assert_int_equal(sp_env_random(&alloc, seed, 30, 3, &env, NULL), SPAROA_OK);
    return env;
}

static sp_plan *make_plan(const sp_env *env, const char *policy, uint8_t *device)
{
    sp_policy_result r;
    sp_plan *plan;
    sparoa_error err = {0};
    assert_int_equal(sp_policy_run(sp_policy_find(policy), env, NULL, device, &r, NULL), SPAROA_OK);
    if (sp_plan_create(env, device, &origin, &plan, &err)) fail_msg("%s", err.message);
    return plan;
}

static void same_bytes(void **state)
{
    uint8_t device[30], read[30];
    for (uint64_t seed = 0; seed < 20; seed++) {
        sp_env *env = make_env(seed);
        sp_plan *a = make_plan(env, "optimal", device), *b = make_plan(env, "optimal", device), *c;
        sp_text text[3];
        sparoa_error err = {0};
        for (int i = 0; i < 3; i++) sp_text_init(&text[i], &alloc);
        sp_plan_write(a, &text[0]);
        sp_plan_write(b, &text[1]);
        assert_string_equal(text[0].data, text[1].data);
        if (sp_plan_parse(&alloc, "p", text[0].data, text[0].size, &c, &err))
            fail_msg("%s", err.message);
        sp_plan_write(c, &text[2]);
        assert_string_equal(text[0].data, text[2].data);
        assert_int_equal(sp_plan_assignment(c, env, read, &err), SPAROA_OK);
        assert_memory_equal(device, read, 30);
        assert_int_equal(sp_plan_diff(a, c, NULL, NULL), 0);
        sp_plan_destroy(a);
        sp_plan_destroy(b);
        sp_plan_destroy(c);
        for (int i = 0; i < 3; i++) sp_text_free(&text[i]);
        sp_env_destroy(env);
    }
}

static void reasons(void **state)
{
    uint8_t device[30];
    sp_env *env = make_env(3);
    env->nodes[4].allowed = 3;
    env->nodes[6].allowed = 3;
    assert_int_equal(sp_env_pin(env, "node4", "gpu", NULL), SPAROA_OK);
    assert_int_equal(sp_env_forbid(env, "node6", "gpu", NULL), SPAROA_OK);
    sp_plan *plan = make_plan(env, "optimal", device);
    assert_int_equal(plan->nodes[4].reason, SP_REASON_PINNED);
    assert_int_equal(plan->nodes[4].device, 1);
    assert_int_equal(plan->nodes[6].reason, SP_REASON_FORBIDDEN);
    assert_int_equal(plan->nodes[6].device, 0);
    for (uint32_t i = 0; i < 30; i++) {
        const sp_plan_node *n = &plan->nodes[i];
        if (n->reason == SP_REASON_CHEAPER_HERE)
            assert_true(n->time_ns[n->device] <= n->time_ns[!n->device]);
        if (n->reason == SP_REASON_UNSUPPORTED) assert_true(n->time_ns[!n->device] < 0);
        assert_int_not_equal(n->reason, SP_REASON_POLICY); /* the optimum has a reason for all */
    }
    sp_plan *other = make_plan(env, "cpu", device);
    assert_true(sp_plan_diff(plan, other, NULL, NULL) > 0);
    sp_env *smaller;
    assert_int_equal(sp_env_random(&alloc, 3, 29, 3, &smaller, NULL), SPAROA_OK);
    assert_int_equal(sp_plan_assignment(plan, smaller, device, NULL), SPAROA_INVALID_PLAN);
    sp_env_destroy(smaller);
    sp_plan_destroy(other);
    sp_plan_destroy(plan);
    sp_env_destroy(env);
}

static void damage(void **state)
{
    uint8_t device[30];
    sp_env *env = make_env(1);
    sp_plan *plan = make_plan(env, "heft", device);
    sp_text text, copy;
    sp_text_init(&text, &alloc);
    sp_text_init(&copy, &alloc);
    sp_plan_write(plan, &text);
    sp_text_add(&copy, "%s", text.data);
    static const struct {
        const char *from, *to, *message;
    } cases[] = {{"version: 1", "version: 9", "bad.yaml:2: version"},
                 {"device: \"cpu\"", "device: \"npu\"", ".device: there is no device"},
                 {"reason: ", "reason: X", ".reason: "},
                 {"seed: 7", "seed: -7", "bad.yaml:8: seed"},
                 {"copies: ", "copies: 0.", "predicted.copies: expected a whole number"},
                 {"name: \"gpu\", busy", "name: \"cpu\", busy", "devices[1]: a second device"},
                 {"busy_us: ", "clock: 2, busy_us: ", "devices[0].clock: 2 is not within"},
                 {"objective: latency", "objective: beauty", "objective: 'beauty'"},
                 {"start_us: ", "start_us: x", ".start_us: expected a number"},
                 {"latency_us: ", "latency_us: -", "predicted.latency_us: -"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *at = strstr(text.data, cases[i].from);
        assert_non_null(at);
        sp_text bad;
        sp_text_init(&bad, &alloc);
        sp_text_add(&bad, "%.*s%s%s", (int)(at - text.data), text.data, cases[i].to,
                    at + strlen(cases[i].from));
        sparoa_error err = {0};
        sp_plan *none = NULL;
        sparoa_status status = sp_plan_parse(&alloc, "bad.yaml", bad.data, bad.size, &none, &err);
        if (status == SPAROA_OK || !strstr(err.message, cases[i].message))
            fail_msg("case %zu: '%s', expected '%s'", i, err.message, cases[i].message);
        sp_text_free(&bad);
    }
    for (uint64_t i = 0; i < 2000; i++) {
        memcpy(copy.data, text.data, text.size);
        for (uint64_t k = 0; k <= i % 3; k++)
            copy.data[sp_rng_bits(i, 2 * k) % text.size] =
                "0-9:[]{},\n \"x\xff"[sp_rng_bits(i, 2 * k + 1) % 14];
        sp_plan *other = NULL;
        sparoa_error err;
        if (sp_plan_parse(&alloc, "p", copy.data, text.size, &other, &err) != SPAROA_OK) continue;
        sp_plan_assignment(other, env, device, &err);
        sp_plan_diff(plan, other, NULL, NULL);
        sp_plan_destroy(other);
    }
    sp_text_free(&text);
    sp_text_free(&copy);
    sp_plan_destroy(plan);
    sp_env_destroy(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bytes), cmocka_unit_test(reasons),
                                       cmocka_unit_test(damage)};
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
