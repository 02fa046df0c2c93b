/*
 * study.h - training the threshold predictor as it is shipped, and judging it and what it is
 * compared with, from a corpus, platforms and a seed.
 */
#ifndef SP_PREDICT_STUDY_H
#define SP_PREDICT_STUDY_H

#include "predict/score.h"

enum { SP_STUDY_PLATFORMS = 16 };

/* Zero means the default in brackets. */
typedef struct sp_study_options {
    const char *hold;    /* families never trained on, with commas [SP_PREDICT_HELD] */
    uint32_t variants;   /* machines for each model [12] */
    uint32_t inventions; /* sequences of operators that no model has [1600] */
    uint64_t seed;       /* [SP_STUDY_SEED] */
} sp_study_options;

#define SP_STUDY_SEED 20261129

/* The sets that a predictor is trained and judged on. */
typedef struct sp_study {
    sparoa_allocator alloc;
    uint64_t seed;
    sp_predict_examples train;
    sp_predict_examples test; /* models held out, platforms as described, every mode and regime */
    sp_predict_examples shifted; /* models held out, machines with other figures and loads */
} sp_study;

/* Platforms with one device are left out. Errors: those of sp_predict_corpus_hold, INVALID_ARGUMENT
 * (no platform with two devices, no model held out, or all), OUT_OF_MEMORY. */
sparoa_status sp_study_make(const sparoa_allocator *alloc, sp_predict_corpus *corpus,
                            const sp_platform *const *platforms, size_t platform_count,
                            const sp_study_options *options, sp_study *study, sparoa_error *err);
void sp_study_free(sp_study *study);

/* A network of that kind, trained for `epochs` [SP_STUDY_EPOCHS], with its weights as a file would
 * hold them. blind: it sees the operator and the machine, but neither prices of the operator at
 * other sizes nor the first guess. */
#define SP_STUDY_EPOCHS 24
sparoa_status sp_study_train(const sp_study *study, const sp_kernels *kernels, sp_predict_net net,
                             bool blind, uint32_t epochs,
                             bool (*progress)(void *, uint32_t, double), void *user,
                             sp_predictor **made, sparoa_error *err);

/* What a predictor reaches on a set. */
sparoa_status sp_study_score(const sp_predict_examples *set, sp_predictor *predictor,
                             sp_predict_score *score, sparoa_error *err);

#endif
