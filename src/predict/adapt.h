/*
 * adapt.h - fitting to a machine that differs from its description, from a handful of measured
 * operators: first the figures that explain the times, then thresholds on a machine with these.
 */
#ifndef SP_PREDICT_ADAPT_H
#define SP_PREDICT_ADAPT_H

#include "predict/examples.h"

typedef struct sp_predict_measurement {
    sp_work work;
    uint32_t device;
    double ns;
} sp_predict_measurement;

/*
 * The most probable machine, given its description and times measured in a state and regime: for
 * each device one factor of computing speed, one of bandwidth and one of overhead, and one more of
 * speed and of overhead for each kind of operator that was measured. All are taken to be near 1
 * before (log-normal, deviation 0.5 for a device's, 0.25 for a kind's), the times to be off by 10%.
 * Both regimes' overheads get the same factor. Fails with OUT_OF_MEMORY.
 */
sparoa_status sp_predict_fit(const sparoa_allocator *alloc, const sp_predict_setup *described,
                             const sp_predict_measurement *measured, size_t count,
                             sp_platform *fitted, sparoa_error *err);

/*
 * Trains a predictor further, so that from the description of a machine it tells the thresholds of
 * what the machine is in truth: on the operators of the corpus that may be trained on and invented
 * ones, in all modes and both regimes, with features as described and thresholds as in truth. For
 * this machine only; run it on no other description afterwards.
 */
typedef struct sp_predict_tuning {
    uint32_t epochs;     /* 0: 10 */
    uint32_t inventions; /* sequences of operators that no model has; 0: 160 */
    uint64_t seed;
} sp_predict_tuning;
sparoa_status sp_predict_tune(sp_predictor *predictor, const sp_predict_corpus *corpus,
                              const sp_platform *described, const sp_platform *truth,
                              const sp_predict_tuning *tuning, sparoa_error *err);

#endif
