/*
 * examples.h - what predictors are trained and judged on: sequences of operators on machines, with
 * features, thresholds by sweep, and times. All that is random here is a function of the generator.
 */
#ifndef SP_PREDICT_EXAMPLES_H
#define SP_PREDICT_EXAMPLES_H

#include "nn/nn.h"
#include "predict/corpus.h"
#include "predict/predictor.h"

/* A machine in a state. About 100 KB: keep it on the heap. */
typedef struct sp_predict_setup {
    sp_platform platform;
    sp_platform_state state;
    sp_regime regime;
} sp_predict_setup;

/* The platform in a random mode and regime. spread > 0: all its figures times log-normal factors of
 * this deviation, efficiency curves bent and shifted. loads: random other work on both devices. */
void sp_predict_setup_make(sp_predict_setup *setup, const sp_platform *platform, sp_nn_rng *rng,
                           double spread, bool loads);

enum { SP_PREDICT_ROW_ARRAYS = 6 };
typedef struct sp_predict_examples {
    sparoa_allocator alloc;
    uint32_t *lengths; /* [sequences] */
    float *features;   /* [rows][SP_PREDICT_FEATURES] */
    float *labels;     /* [rows][2] */
    double *times;     /* [rows][2]: on the host and on device 1, which may be infinite */
    double *work;      /* [rows] */
    int *kinds;        /* [rows] */
    bool *interior;    /* [rows][2] */
    size_t sequences, rows, sequence_room;
    size_t row_room[SP_PREDICT_ROW_ARRAYS]; /* by array, as they stand above from features on */
} sp_predict_examples;

/* Adds operators: features as on `described`, labels and times as on `truth`, which may be the
 * same. False: no memory. */
bool sp_predict_examples_add(sp_predict_examples *e, const sp_predict_setup *described,
                             const sp_predict_setup *truth, const sp_predict_op *ops, size_t count);
void sp_predict_examples_free(sp_predict_examples *e);
uint64_t sp_predict_examples_hash(const sp_predict_examples *e); /* of the labels; never 0 */

/* ---- operators that no model has ---- */

/* Operators cut out of the models of a regime that may be trained on, resized, with other shares of
 * zeros. A corpus without any in this regime: invented ones. */
void sp_predict_recombine(const sp_predict_corpus *c, sp_regime regime, sp_nn_rng *rng,
                          sp_predict_op *ops, size_t count);
/* An architecture drawn at random: convolutional, Transformer or recurrent, with its work and bytes
 * counted as a profile counts them, as a regime has it. */
void sp_predict_invent(sp_regime regime, sp_nn_rng *rng, sp_predict_op *ops, size_t count);
/* A pruned form: `count` operators with random shares of zeros in their weights. */
void sp_predict_prune(sp_predict_op *ops, size_t count, sp_nn_rng *rng);

#endif
