#include "schedule/env_predict.h"

#include "ops/op.h"
#include "predict/shipped.h"

/* The rule compares FLOPs; an operator without any is above or below its threshold for good. */
static void set(sp_threshold *to, const sp_predict_op *op, const float *thresholds)
{
    double flops = sp_predict_flops((double)thresholds[1]);
    if (thresholds[1] >= 1) flops = SP_THRESHOLD_NEVER;
    if (op->work.cost.flops < 1) flops = sp_predict_work(op) >= flops ? 0 : SP_THRESHOLD_NEVER;
    *to = (sp_threshold){(double)thresholds[0], flops, false};
}

typedef struct room {
    sp_predict_rates rates;
    float features[];
} room;

sparoa_status sp_predict_thresholds(const sparoa_allocator *alloc, const sp_profile *profile,
                                    const sp_predict_machine *machine, sp_predictor *predictor,
                                    sp_threshold *thresholds, sparoa_error *err)
{
    const sp_predict_shape *shape = sp_predictor_shape(predictor);
    size_t n = profile->node_count,
           bytes = sizeof(room) + n * (SP_PREDICT_FEATURES + SP_PREDICT_OUTPUTS) * sizeof(float);
    if (machine->platform->device_count < 2 || shape->features != SP_PREDICT_FEATURES ||
        shape->schema != sp_predict_schema())
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "thresholds: %u devices, %u features, expected two devices or more, %d "
                           "features",
                           machine->platform->device_count, shape->features, SP_PREDICT_FEATURES);
    room *r = sp_alloc(alloc, bytes);
    if (!r) return sp_no_memory(alloc, bytes, err);
    float *out = r->features + n * SP_PREDICT_FEATURES;
    sp_predict_rates_make(machine, &r->rates);
    for (size_t i = 0; i < n; i++) {
        sp_predict_op op = sp_predict_op_of(&profile->nodes[i]);
        sp_predict_features(&r->rates, &op, r->features + i * SP_PREDICT_FEATURES);
    }
    sparoa_status status = sp_predictor_run(predictor, n, r->features, out, NULL, err);
    for (size_t i = 0; i < n && !status; i++) {
        sp_predict_op op = sp_predict_op_of(&profile->nodes[i]);
        thresholds[i] = (sp_threshold){SP_RULE_SPARSITY, SP_RULE_FLOPS, true};
        if (!sp_predictor_outside(predictor, r->features + i * SP_PREDICT_FEATURES))
            set(&thresholds[i], &op, out + i * SP_PREDICT_OUTPUTS);
    }
    sp_free(alloc, r, bytes);
    return status;
}

static void store(sp_env *env, const sp_threshold *t, size_t *outside)
{
    size_t far = 0;
    for (uint32_t i = 0; i < env->node_count; i++) {
        env->nodes[i].sparsity_threshold = t[i].sparsity;
        env->nodes[i].intensity_threshold = t[i].flops;
        far += t[i].outside;
    }
    if (outside) *outside = far;
}

sparoa_status sp_env_predict(sp_env *env, const sp_profile *profile,
                             const sp_predict_machine *machine, sp_predictor *predictor,
                             size_t *outside, sparoa_error *err)
{
    size_t bytes = env->node_count * sizeof(sp_threshold);
    if (env->node_count != profile->node_count)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "thresholds: %u nodes, the profile has %u", env->node_count,
                           profile->node_count);
    if (env->device_count < 2) return SPAROA_OK;
    sp_threshold *t = sp_alloc(&env->alloc, bytes);
    if (!t) return sp_no_memory(&env->alloc, bytes, err);
    sparoa_status status = sp_predict_thresholds(&env->alloc, profile, machine, predictor, t, err);
    if (!status) store(env, t, outside);
    sp_free(&env->alloc, t, bytes);
    return status;
}

sparoa_status sp_env_predict_shipped(sp_env *env, const sp_profile *profile,
                                     const sp_predict_machine *machine, size_t *outside,
                                     sparoa_error *err)
{
    sp_predictor *predictor;
    SP_TRY(sp_predictor_shipped(&env->alloc, &predictor, err));
    sparoa_status status = sp_env_predict(env, profile, machine, predictor, outside, err);
    sp_predictor_destroy(predictor);
    return status;
}
