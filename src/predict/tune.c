/* Fine-tuning a predictor to one machine. */
#include "base/rng.h"
#include "ops/op.h"
#include "predict/adapt.h"

enum { VARIANTS = 2, INVENTIONS = 160, LENGTH = 64, EPOCHS = 10 };

typedef struct tuner {
    const sp_predict_corpus *corpus;
    sp_predict_setup *shown, *real;
    sp_predict_examples examples;
    sp_nn_rng rng;
    uint32_t inventions;
} tuner;

/* Another mode and regime, the same for both. */
static void next_state(tuner *t)
{
    const sp_platform *p = &t->shown->platform;
    t->shown->state = sp_platform_nominal(p);
    if (p->mode_count && sp_nn_below(&t->rng, 2))
        t->shown->state = p->modes[sp_nn_below(&t->rng, p->mode_count)].state;
    t->shown->regime = (sp_regime)sp_nn_below(&t->rng, SP_REGIME_COUNT);
}

static bool add(tuner *t, const sp_predict_op *ops, size_t count)
{
    t->real->state = t->shown->state;
    t->real->regime = t->shown->regime;
    return sp_predict_examples_add(&t->examples, t->shown, t->real, ops, count);
}

static bool make_examples(tuner *t)
{
    const sp_predict_corpus *c = t->corpus;
    for (size_t i = 0; i < c->model_count; i++)
        for (int v = 0; v < VARIANTS && !c->models[i].held; v++) {
            next_state(t);
            t->shown->regime = c->models[i].regime;
            if (!add(t, c->ops + c->models[i].first, c->models[i].count)) return false;
        }
    for (uint32_t i = 0; i < t->inventions; i++) {
        sp_predict_op ops[LENGTH];
        next_state(t);
        if (i % 2)
            sp_predict_invent(t->shown->regime, &t->rng, ops, LENGTH);
        else
            sp_predict_recombine(c, t->shown->regime, &t->rng, ops, LENGTH);
        if (!add(t, ops, LENGTH)) return false;
    }
    return true;
}

sparoa_status sp_predict_tune(sp_predictor *predictor, const sp_predict_corpus *corpus,
                              const sp_platform *described, const sp_platform *truth,
                              const sp_predict_tuning *tuning, sparoa_error *err)
{
    const sparoa_allocator *a = &corpus->alloc;
    tuner t = {.corpus = corpus,
               .shown = sp_alloc(a, sizeof *t.shown),
               .real = sp_alloc(a, sizeof *t.real),
               .examples = {.alloc = *a},
               .rng = {.key = sp_rng_stream(tuning->seed, 4)},
               .inventions = tuning->inventions ? tuning->inventions : INVENTIONS};
    sparoa_status status = SPAROA_OK;
    if (t.shown && t.real) {
        t.shown->platform = *described;
        t.real->platform = *truth;
    }
    if (!t.shown || !t.real || !make_examples(&t)) status = sp_no_memory(a, sizeof *t.shown, err);
    sp_predict_data data = {t.examples.sequences, t.examples.lengths, t.examples.features,
                            t.examples.labels};
    sp_predict_training training = {.epochs = tuning->epochs ? tuning->epochs : EPOCHS,
                                    .batch = 4,
                                    .rate = 5e-4,
                                    .limit = {0.01, 0.005},
                                    .margin = 0.01,
                                    .keep_scale = true,
                                    .seed = tuning->seed};
    if (!status) status = sp_predictor_train(predictor, &data, &training, err);
    sp_predict_examples_free(&t.examples);
    sp_free(a, t.shown, sizeof *t.shown);
    sp_free(a, t.real, sizeof *t.real);
    return status;
}
