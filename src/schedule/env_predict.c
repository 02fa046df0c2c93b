#include "schedule/env_predict.h"

#include <math.h>

#include "predict/shipped.h"

sp_predict_op sp_predict_op_of(const sp_profile_node *n)
{
    return (sp_predict_op){.work = {.kind = n->kind,
                                    .cost = n->cost,
                                    .weight_zeros = fmax(n->weight_zeros, 0),
                                    .input_zeros = fmax(n->input_zeros, 0)},
                           .batch = n->batch,
                           .channels = n->channels,
                           .pixels = n->height * n->width,
                           .kernel = n->kernel,
                           .stride = n->stride,
                           .groups = n->groups};
}

/* The rule compares FLOPs; an operator without any is above or below its threshold for good. */
static void set_node(sp_env_node *node, const sp_predict_op *op, const float *thresholds)
{
    double flops = sp_predict_flops((double)thresholds[1]);
    if (thresholds[1] >= 1) flops = 1e300;
    if (op->work.cost.flops < 1) flops = sp_predict_work(op) >= flops ? 0 : 1e300;
    node->sparsity_threshold = (double)thresholds[0];
    node->intensity_threshold = flops;
}

static sparoa_status predict(sp_env *env, const sp_profile *profile,
                             const sp_predict_machine *machine, sp_predictor *predictor,
                             float *features, float *thresholds, size_t *outside, sparoa_error *err)
{
    uint32_t n = env->node_count;
    for (uint32_t i = 0; i < n; i++) {
        sp_predict_op op = sp_predict_op_of(&profile->nodes[i]);
        sp_predict_features(machine, &op, features + (size_t)i * SP_PREDICT_FEATURES);
    }
    sparoa_status status = sp_predictor_run(predictor, n, features, thresholds, outside, err);
    for (uint32_t i = 0; i < n && !status; i++) {
        sp_predict_op op = sp_predict_op_of(&profile->nodes[i]);
        if (!sp_predictor_outside(predictor, features + (size_t)i * SP_PREDICT_FEATURES))
            set_node(&env->nodes[i], &op, thresholds + 2 * (size_t)i);
    }
    return status;
}

sparoa_status sp_env_predict(sp_env *env, const sp_profile *profile,
                             const sp_predict_machine *machine, sp_predictor *predictor,
                             size_t *outside, sparoa_error *err)
{
    const sp_predict_shape *shape = sp_predictor_shape(predictor);
    size_t floats = (size_t)env->node_count * (SP_PREDICT_FEATURES + SP_PREDICT_OUTPUTS) + 1;
    if (env->node_count != profile->node_count || env->device_count < 2 ||
        machine->platform->device_count < 2 || shape->features != SP_PREDICT_FEATURES ||
        shape->schema != sp_predict_schema())
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "thresholds: %u nodes of %u, %u and %u devices, %u features, expected "
                           "equal numbers of nodes, two devices or more, %d features",
                           env->node_count, profile->node_count, env->device_count,
                           machine->platform->device_count, shape->features, SP_PREDICT_FEATURES);
    float *features = sp_alloc(&env->alloc, floats * sizeof *features);
    if (!features) return sp_no_memory(&env->alloc, floats * sizeof *features, err);
    float *thresholds = features + (size_t)env->node_count * SP_PREDICT_FEATURES;
    sparoa_status status =
        predict(env, profile, machine, predictor, features, thresholds, outside, err);
    sp_free(&env->alloc, features, floats * sizeof *features);
    return status;
}

sparoa_status sp_env_predict_shipped(sp_env *env, const sp_profile *profile,
                                     const sp_predict_machine *machine, size_t *outside,
                                     sparoa_error *err)
{
    sp_predictor *predictor;
    if (env->device_count < 2) return SPAROA_OK;
    sparoa_status status = sp_predictor_shipped(&env->alloc, &predictor, err);
    if (status) return status;
    status = sp_env_predict(env, profile, machine, predictor, outside, err);
    sp_predictor_destroy(predictor);
    return status;
}
