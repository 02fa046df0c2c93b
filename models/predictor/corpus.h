/* corpus.h - operators of models (corpus.tsv), machines, and the arrays that predictors are trained
 * and judged on. */
#ifndef SP_MODELS_PREDICTOR_CORPUS_H
#define SP_MODELS_PREDICTOR_CORPUS_H

#include <stdio.h>

#include "nn/nn.h"
#include "predict/features.h"
#include "predict/predictor.h"

typedef struct model {
    char name[64];
    size_t first, count; /* of corpus.ops */
    bool held;           /* never trained on */
} model;

typedef struct corpus {
    sp_predict_op *ops;
    model *models;
    size_t op_count, model_count;
} corpus;

bool corpus_read(corpus *c, const char *path); /* false after a message to stderr */
void corpus_free(corpus *c);

/* A machine in a state. */
typedef struct machine {
    sp_platform platform;
    sp_platform_state state;
    sp_regime regime;
} machine;
/* The platform in one of its modes, its figures multiplied by random factors (log-normal, `spread`
 * 0: as they are). */
void machine_make(machine *m, const sp_platform *platform, sp_nn_rng *rng, double spread,
                  bool random_state);

/* Arrays for training and judging. */
typedef struct examples {
    uint32_t *lengths;
    float *features, *labels;
    double *times; /* [rows][2] */
    double *work;
    int *kinds;
    bool *interior; /* [rows][2] */
    size_t sequences, rows, sequence_room, row_room;
} examples;
void examples_add(examples *e, const machine *m, const sp_predict_op *ops, size_t count);
void examples_free(examples *e);
/* A sequence of `count` operators cut out of training models and resized, with other shares of
 * zeros. */
void random_model(const corpus *c, sp_nn_rng *rng, sp_predict_op *ops, size_t count);
/* One model's operators with random shares of zeros in the weights (a pruned form). */
void pruned_model(const corpus *c, const model *m, sp_nn_rng *rng, sp_predict_op *ops);

/* ---- table.c: how good predictions are ---- */
typedef struct score {
    double bound[2];           /* share of labels at a bound */
    double near[2];            /* share within 10% of the range of thresholds */
    double within[2];          /* share of predictions within 10% of the label */
    double within_interior[2]; /* of the interior labels */
    double decided;            /* share of operators for which the faster device was chosen */
    double regret;             /* time lost by the choices, share of the best possible */
} score;
score score_of(const examples *e, const float *predicted);
void print_head(FILE *f);
void print_score(FILE *f, const char *name, const score *s, size_t bytes, double ms);
/* For each kind of operator the medians of the training labels. */
void constant_predictions(const examples *train, const examples *test, float *predicted);

#endif
