/* Thresholds from the shipped weights: they load, fit the features, and agree with the sweep. */
#include <stdio.h>

#include "backends/cpu/kernel.h"
#include "schedule/env_build.h"
#include "schedule/env_predict.h"
#include "schedule/policy.h"
#include "tests/support/memory.h"

enum { NODES = 40 };
static sp_platform *platform;

static int set_up(void **state)
{
    memory_set_up(state);
    platform = calloc(1, sizeof *platform);
    return sp_platform_load(&alloc, SP_TEST_SOURCE_DIR "/../platforms/jetson_agx_orin_64gb.yaml",
                            platform, NULL);
}

static int tear_down(void **state)
{
    free(platform);
    return memory_tear_down(state);
}

/* A chain of convolutions and activations, growing. */
static void make_profile(sp_profile *p, sp_profile_node *nodes, sp_profile_value *values,
                         uint32_t *reads)
{
    *p = (sp_profile){.alloc = alloc,
                      .model = "chain",
                      .regime = SP_REGIME_EAGER,
                      .node_count = NODES,
                      .value_count = NODES + 1,
                      .read_count = NODES,
                      .nodes = nodes,
                      .values = values,
                      .reads = reads};
    values[0] = (sp_profile_value){"in", SP_PROFILE_INPUT, false, 1e5};
    for (uint32_t i = 0; i < NODES; i++) {
        double flops = 1e5 * pow(10, 4.5 * i / NODES);
        bool conv = i % 2 == 0;
        values[i + 1] = (sp_profile_value){"v", i, i + 1 == NODES, flops / 50};
        reads[i] = i;
        nodes[i] = (sp_profile_node){
            .name = "n",
            .op = conv ? "Conv" : "Relu",
            .kind = conv ? SPAROA_CLASS_CONV : SPAROA_CLASS_ELTWISE,
            .op_class = conv ? SPAROA_CLASS_CONV : SPAROA_CLASS_ELTWISE,
            .cost = {conv ? flops : flops / 200, flops / 50, conv ? flops / 100 : 0, flops / 50},
            .weight_zeros = conv ? 0 : -1,
            .input_zeros = 0.3,
            .batch = 1,
            .channels = 64,
            .height = sqrt(flops / 12800) + 1,
            .width = sqrt(flops / 12800) + 1,
            .in_channels = 64,
            .kernel = conv ? 3 : 1,
            .stride = 1,
            .groups = 1,
            .first_in = i,
            .n_in = 1,
            .first_out = i + 1,
            .n_out = 1};
    }
}

static sp_predictor *load_shipped(void)
{
    static unsigned char file[1 << 20];
    sp_predictor *p = NULL;
    sparoa_error err;
    FILE *f = fopen(SP_TEST_SOURCE_DIR "/../models/predictor/predictor.spw", "rb");
    assert_non_null(f);
    size_t bytes = fread(file, 1, sizeof file, f);
    fclose(f);
    assert_true(bytes < sizeof file); /* the limit of 1 MB */
    if (sp_predictor_load(&alloc, sp_cpu_kernels(NULL), file, bytes, sp_predict_schema(), &p, &err))
        fail_msg("%s", err.message);
    return p;
}

static void test_thresholds(void **state)
{
    sp_profile profile;
    sp_profile_node nodes[NODES];
    sp_profile_value values[NODES + 1];
    uint32_t reads[NODES];
    sp_env *env = NULL;
    sp_predictor *p = load_shipped();
    sp_platform_state nominal = sp_platform_nominal(platform);
    sp_predict_machine machine = {platform, &nominal, SP_REGIME_EAGER};
    size_t outside = 9, right = 0;
    make_profile(&profile, nodes, values, reads);
    assert_int_equal(sp_env_build(&alloc, &profile, platform, SP_REGIME_EAGER, NULL, &env, NULL),
                     SPAROA_OK);
    assert_int_equal(sp_env_predict(env, &profile, &machine, p, &outside, NULL), SPAROA_OK);
    assert_true(outside <= NODES / 4);
    for (uint32_t i = 0; i < NODES; i++) {
        const sp_env_node *n = &env->nodes[i];
        assert_true(n->sparsity_threshold >= 0 && n->sparsity_threshold <= 1);
        assert_true(n->intensity_threshold >= 0);
        bool device = n->cost.flops >= n->intensity_threshold;
        right += n->time_ns[device] <= n->time_ns[!device] * 1.05;
    }
    print_message("%zu of %d on the faster device, or within 5%%\n", right, NODES);
    assert_true(right >= NODES * 9 / 10);

    profile.node_count--; /* of another model */
    assert_int_equal(sp_env_predict(env, &profile, &machine, p, NULL, NULL),
                     SPAROA_INVALID_ARGUMENT);
    sp_env_destroy(env);
    sp_predictor_destroy(p);
}

/* The library's own copy of the weights, as the policy uses it, against the file and the fixed
 * rule.
 */
static void test_shipped(void **state)
{
    sp_profile profile;
    sp_profile_node nodes[NODES];
    sp_profile_value values[NODES + 1];
    uint32_t reads[NODES];
    uint8_t device[NODES];
    sp_env *env = NULL;
    sp_predictor *p = load_shipped();
    sp_platform_state nominal = sp_platform_nominal(platform);
    sp_predict_machine machine = {platform, &nominal, SP_REGIME_EAGER};
    double sparsity[NODES], flops[NODES];
    sp_policy_result fixed, predicted;
    make_profile(&profile, nodes, values, reads);
    assert_int_equal(sp_env_build(&alloc, &profile, platform, SP_REGIME_EAGER, NULL, &env, NULL),
                     SPAROA_OK);
    assert_int_equal(sp_env_predict(env, &profile, &machine, p, NULL, NULL), SPAROA_OK);
    for (int i = 0; i < NODES; i++) {
        sparsity[i] = env->nodes[i].sparsity_threshold;
        flops[i] = env->nodes[i].intensity_threshold;
        env->nodes[i].sparsity_threshold = env->nodes[i].intensity_threshold = -1;
    }
    assert_int_equal(sp_env_predict_shipped(env, &profile, &machine, NULL, NULL), SPAROA_OK);
    for (int i = 0; i < NODES; i++) {
        assert_true(env->nodes[i].sparsity_threshold == sparsity[i]);
        assert_true(env->nodes[i].intensity_threshold == flops[i]);
    }
    sp_policy_run(sp_policy_find("fixed"), env, NULL, device, &fixed, NULL);
    for (int i = 0; i < NODES; i++) assert_int_equal(device[i], env->nodes[i].cost.flops >= 1e8);
    sp_policy_run(sp_policy_find("threshold"), env, NULL, device, &predicted, NULL);
    for (int i = 0; i < NODES; i++)
        assert_int_equal(device[i], env->nodes[i].cost.flops >= flops[i]);
    print_message("fixed %.3f ms, predicted %.3f ms\n", fixed.price.makespan_ns * 1e-6,
                  predicted.price.makespan_ns * 1e-6);
    sp_env_destroy(env);
    sp_predictor_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_thresholds),
                                       cmocka_unit_test(test_shipped)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
