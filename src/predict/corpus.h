/*
 * corpus.h - the operators of many models: what predictors are trained and judged on.
 *
 * A text file. The first line is SP_PREDICT_CORPUS_HEAD; each further one is an operator, with tabs
 * between the fields that the head names. Operators of one model in one regime stand together, in
 * order. Models of one family are near-duplicates or of one architecture: they are held out
 * together or not at all.
 */
#ifndef SP_PREDICT_CORPUS_H
#define SP_PREDICT_CORPUS_H

#include "predict/features.h"

#define SP_PREDICT_CORPUS_HEAD                                                                     \
    "sparoa-corpus 1\tmodel\tregime\tkind\tflops\tbytes_in\tbytes_w\tbytes_out\tweight_zeros\t"    \
    "input_zeros\tbatch\tchannels\tpixels\tkernel\tstride\tgroups"

typedef struct sp_predict_model {
    char family[32], name[64];
    sp_regime regime;
    size_t first, count; /* of ops */
    bool held;           /* never trained on */
} sp_predict_model;

typedef struct sp_predict_corpus {
    sparoa_allocator alloc;
    sp_predict_op *ops;
    sp_predict_model *models;
    size_t op_count, model_count, op_room, model_room;
} sp_predict_corpus;

/* Errors name file, line and field: MALFORMED, TOO_LARGE (64 MiB), UNSUPPORTED_VERSION,
 * OUT_OF_MEMORY; load: NOT_FOUND and IO as well. On success the caller frees it. */
sparoa_status sp_predict_corpus_parse(const sparoa_allocator *alloc, const char *what,
                                      const char *data, size_t size, sp_predict_corpus *corpus,
                                      sparoa_error *err);
sparoa_status sp_predict_corpus_load(const sparoa_allocator *alloc, const char *path,
                                     sp_predict_corpus *corpus, sparoa_error *err);
void sp_predict_corpus_free(sp_predict_corpus *corpus);

/* Holds out all models of the families in a list with commas. NOT_FOUND names one without models;
 * families NULL: those of SP_PREDICT_HELD that have some. */
sparoa_status sp_predict_corpus_hold(sp_predict_corpus *corpus, const char *families,
                                     sparoa_error *err);
#define SP_PREDICT_HELD                                                                            \
    "resnet,mobilenet_v2,mobilenet_v3,vit,swin,bert,yunet,super_resolution,silero,ppocr,xfeat,"    \
    "crepe"

#endif
