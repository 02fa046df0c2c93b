/* score.h - how good predicted thresholds are. */
#ifndef SP_PREDICT_SCORE_H
#define SP_PREDICT_SCORE_H

#include "predict/examples.h"

/* [2]: sparsity, intensity. Shares are 0..1. */
typedef struct sp_predict_score {
    size_t operators;
    double bound[2]; /* labels at a bound */
    /* Predictions within 10% of the label: of the share of zeros (at least 0.01), of the FLOPs. */
    double within[2], interior[2]; /* of all labels; of those that are not at a bound */
    double range[2]; /* within 0.1 of thresholds scaled to 0..1: for the intensity 0.9 decades */
    double right;    /* operators for which the faster device was chosen */
    double regret;   /* time lost by these choices, over the best possible */
} sp_predict_score;

/* predicted: [rows][2]. */
sp_predict_score sp_predict_score_of(const sp_predict_examples *e, const float *predicted);

/* The first guesses among the features, cut off at 0 and 1. */
void sp_predict_guesses(const sp_predict_examples *e, float *predicted);
/* For each kind of operator the medians of the training labels. False: no memory. */
bool sp_predict_constants(const sp_predict_examples *train, const sp_predict_examples *test,
                          float *predicted);

#endif
