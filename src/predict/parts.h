/* parts.h - the inside of a predictor, for predict/ and for tests of its gradients. */
#ifndef SP_PREDICT_PARTS_H
#define SP_PREDICT_PARTS_H

#include "nn/nn.h"
#include "predict/predictor.h"

/* Scaled features beyond this say nothing: all that was trained on lies within. */
#define SP_PREDICT_FAR 8.0f

/* Where the values of one window lie, behind each other, for one pass forward. A second block of
 * the same layout takes the gradients. */
typedef struct sp_predict_values {
    float *x;                     /* [n][features], normalised */
    float *embedded, *bent;       /* [n][width] */
    float *wide[2], *conv[2];     /* CNN: [n][3 width], [n][width] */
    float *encoded, *mixed, *sum; /* [n][width] */
    float *out;                   /* [n][2]: what skip adds */
    float *encoder, *lstm;        /* caches */
} sp_predict_values;

struct sp_predictor {
    sparoa_allocator alloc;
    sp_arena arena;
    sp_nn nn;
    sp_predict_shape shape;
    size_t count;
    sp_nn_linear embed, conv[2], head, skip; /* skip: from the features straight to y */
    sp_nn_encoder encoder;
    sp_nn_lstm lstm;
    bool has_embed, has_conv, has_encoder, has_lstm;
    float *params, *mean, *inverse; /* inverse: 1 / deviation */
    sp_predict_values values, work;
    float *y, *dy; /* [window][2] */
};

/* Of the n operators (at most a window) in p->values.x: y [n][2], not yet cut off at 0 and 1. */
void sp_predict_forward(sp_predictor *p, size_t n, float *y);
/* From dy to grads, after forward with the same n. */
void sp_predict_backward(sp_predictor *p, size_t n, const float *dy, float *grads);
/* p->values.x from features as they are; returns how many operators are far out. */
size_t sp_predict_normalise(sp_predictor *p, size_t n, const float *features);

/* How a sequence of n is cut: into *count windows, of which window i starts at the returned place.
 */
size_t sp_predict_window(size_t n, size_t count, size_t i);
size_t sp_predict_windows(size_t n);

#endif
