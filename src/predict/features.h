/*
 * features.h - what the predictor is told about an operator on a machine, and the thresholds it is
 * to tell, by exhaustive sweep over a described machine.
 *
 * The thresholds of an operator, for the host against device 1:
 *   sparsity   the share of zeros (in weights and activations alike) from which the host is at
 *              least as fast: 0 if it always is, 1 if it never is;
 *   intensity  the work in FLOPs from which device 1 is at least as fast, when the operator is made
 *              larger or smaller with its sparsity kept: activations scale with the work, weights
 *              stay. As log10 between SP_PREDICT_LOG_LOW (0) and SP_PREDICT_LOG_HIGH (1).
 * An operator without FLOPs is measured by the elements it moves.
 */
#ifndef SP_PREDICT_FEATURES_H
#define SP_PREDICT_FEATURES_H

#include "platform/platform.h"

#define SP_PREDICT_LOG_LOW 3.0
#define SP_PREDICT_LOG_HIGH 12.0

/* An operator at its present shapes. */
typedef struct sp_predict_op {
    sp_work work;
    double batch, channels, pixels; /* of output 0; pixels: the other dimensions together */
    double kernel, stride, groups;  /* 1 where it has none */
} sp_predict_op;

/* The machine that the operators are priced on. */
typedef struct sp_predict_machine {
    const sp_platform *platform;
    const sp_platform_state *state; /* never NULL */
    sp_regime regime;
} sp_predict_machine;

enum {
    SP_PREDICT_OP_FEATURES = SP_KIND_COUNT + 13,
    SP_PREDICT_DEVICE_FEATURES = 19,
    SP_PREDICT_PAIR_FEATURES = 9,
    SP_PREDICT_FEATURES =
        SP_PREDICT_OP_FEATURES + 2 * SP_PREDICT_DEVICE_FEATURES + SP_PREDICT_PAIR_FEATURES
};
/* Features that are a first guess of the thresholds, from straight lines through the operator's
 * price: what the predictor corrects. */
enum {
    SP_PREDICT_GUESS_SPARSITY = SP_PREDICT_FEATURES - 1,
    SP_PREDICT_GUESS_INTENSITY = SP_PREDICT_FEATURES - 3
};
/* A hash that changes whenever the meaning of a feature or of a threshold does. */
uint64_t sp_predict_schema(void);
void sp_predict_features(const sp_predict_machine *machine, const sp_predict_op *op,
                         float features[SP_PREDICT_FEATURES]);

/* The work that the intensity threshold is compared with: FLOPs, or elements moved. */
double sp_predict_work(const sp_predict_op *op);
/* Time on a device with the operator scaled by `scale` and, if zeros is not negative, with that
 * share of zeros. */
double sp_predict_time(const sp_predict_machine *machine, uint32_t device, const sp_predict_op *op,
                       double scale, double zeros);

typedef struct sp_predict_label {
    float thresholds[2]; /* sparsity, intensity (normalised) */
    bool interior[2];    /* false: one device wins over the whole sweep */
} sp_predict_label;
void sp_predict_sweep(const sp_predict_machine *machine, const sp_predict_op *op,
                      sp_predict_label *label);

/* The threshold of intensity in FLOPs, and back. */
double sp_predict_flops(double normalised);
double sp_predict_normalised(double flops);

#endif
