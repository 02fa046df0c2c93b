/*
 * predictor.h - networks that read a model's operators in order and give two numbers in 0..1 for
 * each: the threshold of sparsity and that of intensity (predict/features.h says what they stand
 * for). One interface over the predictor proper and the simpler models it is compared with.
 *
 * A sequence longer than SP_PREDICT_WINDOW is cut into equal windows, so that the cost is linear in
 * its length.
 */
#ifndef SP_PREDICT_PREDICTOR_H
#define SP_PREDICT_PREDICTOR_H

#include "base/mem.h"
#include "kernels/cpu/kernels.h"

enum { SP_PREDICT_WINDOW = 128, SP_PREDICT_OUTPUTS = 2, SP_PREDICT_MAX_FEATURES = 256 };

/* X(name, text) */
#define SP_PREDICT_NET_MAP(X)                                                                      \
    X(TRANSFORMER_LSTM, "transformer+lstm") /* embedding, encoder layer, bidirectional LSTM */     \
    X(TRANSFORMER, "transformer")           /* embedding, encoder layer */                         \
    X(LSTM, "lstm")                         /* embedding, bidirectional LSTM */                    \
    X(CNN, "cnn")                           /* three convolutions of width 3 along the sequence */ \
    X(LINEAR, "linear")                     /* linear regression */
typedef enum sp_predict_net {
#define X(name, text) SP_PREDICT_##name,
    SP_PREDICT_NET_MAP(X)
#undef X
        SP_PREDICT_NET_COUNT
} sp_predict_net;
const char *sp_predict_net_name(sp_predict_net net);

/* Zero means the default in brackets. */
typedef struct sp_predict_shape {
    sp_predict_net net;
    uint32_t features; /* per operator; 1..SP_PREDICT_MAX_FEATURES */
    uint32_t width;    /* of the embedding [128]; 2 * 64 units of LSTM; at most 256 */
    uint32_t heads;    /* of attention [4]; divides width */
    uint32_t feed;     /* inner width of the encoder's feed-forward part [256]; at most 1024 */
    uint64_t schema;   /* hash of what the features mean */
    uint64_t data;     /* hash of what it was trained on; 0: not trained */
} sp_predict_shape;

typedef struct sp_predictor sp_predictor;

/* A fresh network. INVALID_ARGUMENT names the number that is out of range. */
sparoa_status sp_predictor_create(const sparoa_allocator *alloc, const sp_kernels *kernels,
                                  const sp_predict_shape *shape, uint64_t seed, sp_predictor **made,
                                  sparoa_error *err);
void sp_predictor_destroy(sp_predictor *p);
const sp_predict_shape *sp_predictor_shape(const sp_predictor *p);
size_t sp_predictor_params(const sp_predictor *p);

/* features: [n][features] as they are; thresholds: [n][2]. Features that are not finite count as
 * the mean. outside, if not NULL: how many operators have a feature far from all that was trained
 * on, for which nothing should be believed. */
sparoa_status sp_predictor_run(sp_predictor *p, size_t n, const float *features, float *thresholds,
                               size_t *outside, sparoa_error *err);

/* Whether one operator's features are that far out. */
bool sp_predictor_outside(const sp_predictor *p, const float *features);

/* ---- training ---- */

/* Sequences one after the other. */
typedef struct sp_predict_data {
    size_t sequences;
    const uint32_t *lengths; /* [sequences] */
    const float *features;   /* [sum of lengths][features] */
    const float *labels;     /* [sum of lengths][2], 0..1 */
} sp_predict_data;

typedef struct sp_predict_training {
    uint32_t epochs;       /* [100] */
    uint32_t batch;        /* windows per step [8] */
    double rate;           /* of Adam at first, falling to 0 along a cosine [1e-3] */
    double limit[2];       /* by threshold: errors beyond it count linearly (Huber) [0: none do] */
    double margin;         /* how far beyond a bound predictions for labels there should be [0] */
    const uint32_t *guess; /* [2]: features that are a first guess of the thresholds; training
                              starts from them. NULL: from nothing */
    uint32_t use;          /* only the first features; the others count as the mean [all] */
    bool keep_scale;       /* fine-tuning: keep the normalisation of features */
    uint64_t seed;         /* order of the windows */
    /* May be NULL. Called after each epoch; false ends training. */
    bool (*progress)(void *user, uint32_t epoch, double loss);
    void *user;
} sp_predict_training;

/* Mean squared or Huber error of both thresholds, each relative to its limit; Adam. */
sparoa_status sp_predictor_train(sp_predictor *p, const sp_predict_data *data,
                                 const sp_predict_training *training, sparoa_error *err);

/* ---- files: .spw, little-endian, weights as float16 ---- */
size_t sp_predictor_file_bytes(const sp_predictor *p);
void sp_predictor_save(const sp_predictor *p, unsigned char *file);
/* schema: what the caller's features mean; a file for others is refused (UNSUPPORTED_VERSION). Any
 * damage is MALFORMED, an absurd size TOO_LARGE. */
sparoa_status sp_predictor_load(const sparoa_allocator *alloc, const sp_kernels *kernels,
                                const unsigned char *file, size_t bytes, uint64_t schema,
                                sp_predictor **made, sparoa_error *err);

#endif
