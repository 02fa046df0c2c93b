/*
 * features.h - what the predictor is told about an operator on a machine, and the thresholds it is
 * to tell, by exhaustive sweep over a described machine.
 *
 * The thresholds of an operator, for the host against device 1:
 *   sparsity   the share of zeros (in weights and activations alike) from which the host is at
 *              least as fast: 0 if it always is, 1 if it never is;
 *   intensity  the work in FLOPs from which device 1 is at least as fast, when the operator is made
 *              larger or smaller with its sparsity kept: activations scale with the work, weights
 *              stay. As log10 between SP_PREDICT_LOG_LOW (0) and SP_PREDICT_LOG_HIGH (1). Where the
 *              times cross more than once, the crossing next to the operator's own size, so that
 *              comparing its work with the threshold gives the faster device.
 * An operator without FLOPs is measured by the elements it moves.
 */
#ifndef SP_PREDICT_FEATURES_H
#define SP_PREDICT_FEATURES_H

#include "platform/platform.h"
#include "profile/profile.h"

#define SP_PREDICT_LOG_LOW 3.0
#define SP_PREDICT_LOG_HIGH 12.0

/* An operator at its present shapes. */
typedef struct sp_predict_op {
    sp_work work;
    double batch, channels, pixels; /* of output 0; pixels: the other dimensions together */
    double kernel, stride, groups;  /* 1 where it has none */
} sp_predict_op;
sp_predict_op sp_predict_op_of(const sp_profile_node *node);

/* The machine that the operators are priced on. */
typedef struct sp_predict_machine {
    const sp_platform *platform;
    const sp_platform_state *state; /* never NULL */
    sp_regime regime;
} sp_predict_machine;

enum {
    SP_PREDICT_SIZES = 19,  /* work of 1e3, 3e3, 1e4 ... 1e12 */
    SP_PREDICT_LEVELS = 10, /* shares of zeros */
    SP_PREDICT_OP_FEATURES = SP_KIND_COUNT + 13,
    SP_PREDICT_DEVICE_FEATURES = 19,
    SP_PREDICT_PAIR_FEATURES = 5 + 10 + 13 + SP_PREDICT_LEVELS + 1,
    SP_PREDICT_SEEN_FEATURES = SP_PREDICT_OP_FEATURES + 2 * SP_PREDICT_DEVICE_FEATURES + 5,
    SP_PREDICT_FEATURES =
        SP_PREDICT_OP_FEATURES + 2 * SP_PREDICT_DEVICE_FEATURES + SP_PREDICT_PAIR_FEATURES
}; /* the first SEEN ones tell of the operator as it is and of the machine */
/* Features that are a first guess of the thresholds, by straight lines between the prices at a few
 * sizes and shares of zeros: what the predictor corrects. Beyond 0..1 where one device always wins.
 */
enum {
    SP_PREDICT_GUESS_SPARSITY = SP_PREDICT_FEATURES - 1,
    SP_PREDICT_GUESS_INTENSITY = SP_PREDICT_FEATURES - 2 - SP_PREDICT_LEVELS
};
/* A hash that changes whenever the meaning of a feature or of a threshold does. */
uint64_t sp_predict_schema(void);

/* What a kind of operator costs on a device in the machine's state, asked at fixed points. */
typedef struct sp_predict_rate {
    double compute_ns[SP_PREDICT_SIZES]; /* dense */
    double byte_ns, overhead_ns;
    double gain[SP_PREDICT_LEVELS];          /* of computing, from a share of zeros everywhere */
    double kept[SP_PREDICT_LEVELS];          /* share of the weights' bytes read then */
    bool sparse;                             /* a gain above 1 somewhere */
    float shown[SP_PREDICT_DEVICE_FEATURES]; /* features that do not depend on the operator */
} sp_predict_rate;

/* A machine with the rates of all kinds on the host and on device 1: made once for many operators.
 * Refers to the machine's platform and state. */
typedef struct sp_predict_rates {
    sp_predict_machine machine;
    sp_predict_rate of[2][SP_KIND_COUNT];
} sp_predict_rates;
/* The platform has two devices at least. */
void sp_predict_rates_make(const sp_predict_machine *machine, sp_predict_rates *rates);

void sp_predict_features(const sp_predict_rates *rates, const sp_predict_op *op,
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
