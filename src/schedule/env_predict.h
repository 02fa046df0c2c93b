/* env_predict.h - thresholds of an environment's nodes from a predictor instead of the fixed rule.
 */
#ifndef SP_SCHEDULE_ENV_PREDICT_H
#define SP_SCHEDULE_ENV_PREDICT_H

#include "predict/features.h"
#include "predict/predictor.h"
#include "profile/profile.h"
#include "schedule/env.h"

/* For each node of a profile its thresholds as an environment has them: [node_count]. A node whose
 * features are far from all that was trained on is `outside` and gets the fixed rule's. Fails with
 * INVALID_ARGUMENT where the platform has one device or the predictor's features do not fit. */
#define SP_THRESHOLD_NEVER 1e18
typedef struct sp_threshold {
    double sparsity;
    double flops; /* of a node without FLOPs: 0 or SP_THRESHOLD_NEVER */
    bool outside;
} sp_threshold;
sparoa_status sp_predict_thresholds(const sparoa_allocator *alloc, const sp_profile *profile,
                                    const sp_predict_machine *machine, sp_predictor *predictor,
                                    sp_threshold *thresholds, sparoa_error *err);

/* Sets sparsity_threshold and intensity_threshold of all nodes; env was built from the profile.
 * *outside (may be NULL): how many are. predictor NULL: the shipped weights. On a platform without
 * a second device nothing is changed. Fails with INVALID_ARGUMENT where env and profile or the
 * predictor's features do not fit. */
sparoa_status sp_env_predict(sp_env *env, const sp_profile *profile,
                             const sp_predict_machine *machine, sp_predictor *predictor,
                             size_t *outside, sparoa_error *err);

/* The same with the shipped weights. */
sparoa_status sp_env_predict_shipped(sp_env *env, const sp_profile *profile,
                                     const sp_predict_machine *machine, size_t *outside,
                                     sparoa_error *err);

#endif
