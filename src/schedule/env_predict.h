/* env_predict.h - thresholds of an environment's nodes from a predictor instead of the fixed rule.
 */
#ifndef SP_SCHEDULE_ENV_PREDICT_H
#define SP_SCHEDULE_ENV_PREDICT_H

#include "predict/features.h"
#include "predict/predictor.h"
#include "profile/profile.h"
#include "schedule/env.h"

/* What the predictor is told of a node. */
sp_predict_op sp_predict_op_of(const sp_profile_node *node);

/* Sets sparsity_threshold and intensity_threshold of all nodes; env was built from the profile. A
 * node whose features are far from all that was trained on keeps the rule's. *outside (may be
 * NULL): how many. Fails with INVALID_ARGUMENT where env and profile or the predictor's features do
 * not fit. */
sparoa_status sp_env_predict(sp_env *env, const sp_profile *profile,
                             const sp_predict_machine *machine, sp_predictor *predictor,
                             size_t *outside, sparoa_error *err);

/* The same with the shipped weights. On a platform without a second device nothing is changed. */
sparoa_status sp_env_predict_shipped(sp_env *env, const sp_profile *profile,
                                     const sp_predict_machine *machine, size_t *outside,
                                     sparoa_error *err);

#endif
