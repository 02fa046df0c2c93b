#include "predict/study.h"

#include <string.h>

#include "base/rng.h"
#include "ops/op.h"
#include "sparoa_backend.h"

enum { INVENTED_LENGTH = 64, MOST_OPS = 4096 };
#define SPREAD 0.35 /* of the factors of machines that are not as described */

typedef struct builder {
    sp_study *s;
    const sp_predict_corpus *corpus;
    const sp_platform *platforms[SP_STUDY_PLATFORMS];
    size_t platform_count;
    sp_study_options o;
    sp_predict_setup *setup;
    sp_predict_op *ops;
} builder;

static bool add(builder *b, sp_predict_examples *to, const sp_predict_op *ops, size_t count)
{
    return sp_predict_examples_add(to, b->setup, b->setup, ops, count);
}

/* One machine of three as it is described. */
static void random_setup(builder *b, sp_nn_rng *rng)
{
    const sp_platform *p = b->platforms[sp_nn_below(rng, b->platform_count)];
    sp_predict_setup_make(b->setup, p, rng, sp_nn_below(rng, 3) ? SPREAD : 0, true);
}

static bool make_train(builder *b)
{
    sp_nn_rng rng = {.key = sp_rng_stream(b->o.seed, 1)};
    for (size_t i = 0; i < b->corpus->model_count; i++) {
        const sp_predict_model *m = &b->corpus->models[i];
        for (uint32_t v = 0; v < b->o.variants && !m->held; v++) {
            random_setup(b, &rng);
            b->setup->regime = m->regime;
            memcpy(b->ops, b->corpus->ops + m->first, m->count * sizeof *b->ops);
            if (v % 2) sp_predict_prune(b->ops, m->count, &rng);
            if (!add(b, &b->s->train, b->ops, m->count)) return false;
        }
    }
    for (uint32_t i = 0; i < b->o.inventions; i++) {
        random_setup(b, &rng);
        if (i % 2)
            sp_predict_invent(b->setup->regime, &rng, b->ops, INVENTED_LENGTH);
        else
            sp_predict_recombine(b->corpus, b->setup->regime, &rng, b->ops, INVENTED_LENGTH);
        if (!add(b, &b->s->train, b->ops, INVENTED_LENGTH)) return false;
    }
    return true;
}

static bool test_model(builder *b, const sp_predict_model *m, const sp_platform *p, sp_nn_rng *rng)
{
    const sp_predict_op *ops = b->corpus->ops + m->first;
    sp_predict_setup_make(b->setup, p, rng, 0, false);
    b->setup->regime = m->regime;
    for (uint32_t mode = 0; mode < p->mode_count || mode == 0; mode++) {
        if (p->mode_count) b->setup->state = p->modes[mode].state;
        if (!add(b, &b->s->test, ops, m->count)) return false;
    }
    for (int v = 0; v < 2; v++) {
        sp_predict_setup_make(b->setup, p, rng, SPREAD, true);
        b->setup->regime = m->regime;
        if (!add(b, &b->s->shifted, ops, m->count)) return false;
    }
    return true;
}

static bool make_tests(builder *b)
{
    sp_nn_rng rng = {.key = sp_rng_stream(b->o.seed, 2)};
    for (size_t i = 0; i < b->corpus->model_count; i++)
        for (size_t p = 0; p < b->platform_count && b->corpus->models[i].held; p++)
            if (!test_model(b, &b->corpus->models[i], b->platforms[p], &rng)) return false;
    return true;
}

static sparoa_status make(builder *b, sparoa_error *err)
{
    const sparoa_allocator *a = &b->s->alloc;
    b->setup = sp_alloc(a, sizeof *b->setup);
    b->ops = sp_alloc(a, MOST_OPS * sizeof *b->ops);
    bool good = b->setup && b->ops && make_train(b) && make_tests(b);
    sp_free(a, b->setup, sizeof *b->setup);
    sp_free(a, b->ops, MOST_OPS * sizeof *b->ops);
    return good ? SPAROA_OK : sp_no_memory(a, 0, err);
}

sparoa_status sp_study_make(const sparoa_allocator *alloc, sp_predict_corpus *corpus,
                            const sp_platform *const *platforms, size_t platform_count,
                            const sp_study_options *options, sp_study *study, sparoa_error *err)
{
    builder b = {.s = study, .corpus = corpus};
    if (options) b.o = *options;
    if (!b.o.variants) b.o.variants = 12;
    if (!b.o.inventions) b.o.inventions = 1600;
    if (!b.o.seed) b.o.seed = SP_STUDY_SEED;
    for (size_t i = 0; i < platform_count; i++)
        if (platforms[i]->device_count > 1 && b.platform_count < SP_STUDY_PLATFORMS)
            b.platforms[b.platform_count++] = platforms[i];
    if (!b.platform_count)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "none of %zu platforms has a second device", platform_count);
    SP_TRY(sp_predict_corpus_hold(corpus, b.o.hold, err));
    size_t held = 0;
    for (size_t i = 0; i < corpus->model_count; i++) held += corpus->models[i].held;
    if (!held || held == corpus->model_count)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "%zu of %zu models are held out, expected some and not all", held,
                           corpus->model_count);
    *study = (sp_study){.alloc = *alloc, .seed = b.o.seed};
    study->train.alloc = study->test.alloc = study->shifted.alloc = *alloc;
    sparoa_status status = make(&b, err);
    if (status) sp_study_free(study);
    return status;
}

void sp_study_free(sp_study *study)
{
    sp_predict_examples_free(&study->train);
    sp_predict_examples_free(&study->test);
    sp_predict_examples_free(&study->shifted);
}

/* What a file keeps of the weights. */
static sparoa_status through_file(const sparoa_allocator *alloc, const sp_kernels *kernels,
                                  const sp_predictor *p, sp_predictor **made, sparoa_error *err)
{
    size_t bytes = sp_predictor_file_bytes(p);
    unsigned char *file = sp_alloc(alloc, bytes);
    if (!file) return sp_no_memory(alloc, bytes, err);
    sp_predictor_save(p, file);
    sparoa_status status =
        sp_predictor_load(alloc, kernels, file, bytes, sp_predict_schema(), made, err);
    sp_free(alloc, file, bytes);
    return status;
}

sparoa_status sp_study_train(const sp_study *study, const sp_kernels *kernels, sp_predict_net net,
                             bool blind, uint32_t epochs,
                             bool (*progress)(void *, uint32_t, double), void *user,
                             sp_predictor **made, sparoa_error *err)
{
    static const uint32_t guess[2] = {SP_PREDICT_GUESS_SPARSITY, SP_PREDICT_GUESS_INTENSITY};
    sp_predict_shape shape = {.net = net,
                              .features = SP_PREDICT_FEATURES,
                              .schema = sp_predict_schema(),
                              .data = sp_predict_examples_hash(&study->train)};
    sp_predict_data data = {study->train.sequences, study->train.lengths, study->train.features,
                            study->train.labels};
    sp_predict_training training = {.epochs = epochs ? epochs : SP_STUDY_EPOCHS,
                                    .batch = 8,
                                    .rate = net == SP_PREDICT_LINEAR ? 5e-3 : 1.5e-3,
                                    .limit = {0.01, 0.005},
                                    .margin = 0.01,
                                    .guess = blind ? NULL : guess,
                                    .use = blind ? SP_PREDICT_SEEN_FEATURES : 0,
                                    .seed = study->seed,
                                    .progress = progress,
                                    .user = user};
    sp_predictor *p;
    SP_TRY(sp_predictor_create(&study->alloc, kernels, &shape, study->seed, &p, err));
    sparoa_status status = sp_predictor_train(p, &data, &training, err);
    if (!status) status = through_file(&study->alloc, kernels, p, made, err);
    sp_predictor_destroy(p);
    return status;
}

sparoa_status sp_study_score(const sp_predict_examples *set, sp_predictor *predictor,
                             sp_predict_score *score, sparoa_error *err)
{
    size_t bytes = (set->rows * 2 + 1) * sizeof(float);
    float *out = sp_alloc(&set->alloc, bytes);
    if (!out) return sp_no_memory(&set->alloc, bytes, err);
    sparoa_status status = SPAROA_OK;
    for (size_t s = 0, first = 0; s < set->sequences && !status; first += set->lengths[s++])
        status = sp_predictor_run(predictor, set->lengths[s],
                                  set->features + first * SP_PREDICT_FEATURES, out + 2 * first,
                                  NULL, err);
    if (!status) *score = sp_predict_score_of(set, out);
    sp_free(&set->alloc, out, bytes);
    return status;
}
