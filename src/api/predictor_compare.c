/* sparoa_schedule.h: the threshold predictor beside what it is compared with. */
#include <math.h>

#include "api/predictor_school.h"
#include "base/clock.h"
#include "predict/shipped.h"

enum { TIMED = 100, TIMINGS = 50 };

typedef struct comparison {
    sp_school school;
    void (*report)(void *user, const sparoa_predictor_score *score);
    void *user;
    double features_ns;
} comparison;

static const sp_predict_examples *set_of(const comparison *c, int shifted)
{
    return shifted ? &c->school.study.shifted : &c->school.study.test;
}

static void report(const comparison *c, const char *name, int shifted, const sp_predict_score *s,
                   size_t bytes, double network_ns)
{
    sparoa_predictor_score row = {.name = name,
                                  .shifted = shifted,
                                  .operators = s->operators,
                                  .right = s->right,
                                  .regret = s->regret,
                                  .bytes = bytes,
                                  .network_ns = network_ns,
                                  .features_ns = network_ns > 0 ? c->features_ns : 0};
    for (int k = 0; k < 2; k++) {
        row.bound[k] = s->bound[k];
        row.within[k] = s->within[k];
        row.interior[k] = s->interior[k];
        row.range[k] = s->range[k];
    }
    c->report(c->user, &row);
}

/* The best of many times for the features of 100 operators, the machine's rates included. */
static sparoa_status time_features(comparison *c, sparoa_error *err)
{
    const sp_predict_corpus *corpus = &c->school.corpus;
    const sp_platform *platform = &c->school.o.platforms[0]->p;
    sp_platform_state state = sp_platform_nominal(platform);
    sp_predict_machine machine = {platform, &state, SP_REGIME_GRAPH};
    sp_predict_rates *rates = sp_alloc(&corpus->alloc, sizeof *rates);
    if (!rates) return sp_no_memory(&corpus->alloc, sizeof *rates, err);
    c->features_ns = INFINITY;
    for (int i = 0; i < TIMINGS; i++) {
        float features[SP_PREDICT_FEATURES];
        int64_t start = sp_now_ns();
        sp_predict_rates_make(&machine, rates);
        for (size_t k = 0; k < TIMED; k++)
            sp_predict_features(rates, &corpus->ops[k % corpus->op_count], features);
        c->features_ns = fmin(c->features_ns, (double)(sp_now_ns() - start));
    }
    sp_free(&corpus->alloc, rates, sizeof *rates);
    return SPAROA_OK;
}

static sparoa_status time_network(const comparison *c, sp_predictor *p, double *ns,
                                  sparoa_error *err)
{
    const sp_predict_examples *e = &c->school.study.test;
    float out[2 * TIMED];
    size_t n = e->rows < TIMED ? e->rows : TIMED;
    *ns = INFINITY;
    for (int i = 0; i < TIMINGS; i++) {
        int64_t start = sp_now_ns();
        SP_TRY(sp_predictor_run(p, n, e->features, out, NULL, err));
        *ns = fmin(*ns, (double)(sp_now_ns() - start) * TIMED / (double)n);
    }
    return SPAROA_OK;
}

static sparoa_status judge_network(comparison *c, const char *name, sp_predictor *p,
                                   sparoa_error *err)
{
    double ns;
    SP_TRY(time_network(c, p, &ns, err));
    for (int shifted = 0; shifted < 2; shifted++) {
        sp_predict_score s;
        SP_TRY(sp_study_score(set_of(c, shifted), p, &s, err));
        report(c, name, shifted, &s, sp_predictor_file_bytes(p), ns);
    }
    return SPAROA_OK;
}

/* What needs no network. */
static sparoa_status judge_plain(comparison *c, int shifted, sparoa_error *err)
{
    const sp_predict_examples *e = set_of(c, shifted);
    size_t bytes = (2 * e->rows + 1) * sizeof(float);
    float *out = sp_alloc(&e->alloc, bytes);
    if (!out) return sp_no_memory(&e->alloc, bytes, err);
    sp_predict_guesses(e, out);
    sp_predict_score s = sp_predict_score_of(e, out);
    report(c, "first guess", shifted, &s, 0, 0);
    bool good = sp_predict_constants(&c->school.study.train, e, out);
    if (good) {
        s = sp_predict_score_of(e, out);
        report(c, "constant per kind", shifted, &s, 0, 0);
        s = sp_predict_score_of(e, e->labels);
        report(c, "labels", shifted, &s, 0, 0);
    }
    sp_free(&e->alloc, out, bytes);
    return good ? SPAROA_OK : sp_no_memory(&e->alloc, bytes, err);
}

static sparoa_status train_and_judge(comparison *c, const char *name, sp_predict_net net,
                                     bool blind, sparoa_error *err)
{
    sp_predictor *p;
    SP_TRY(sp_school_train(&c->school, net, blind, &p, err));
    sparoa_status status = judge_network(c, name, p, err);
    sp_predictor_destroy(p);
    return status;
}

static sparoa_status judge_all(comparison *c, sp_predictor *given, sparoa_error *err)
{
    sp_predict_net own = sp_predictor_shape(given)->net;
    SP_TRY(time_features(c, err));
    SP_TRY(judge_network(c, sp_predict_net_name(own), given, err));
    for (int n = 0; n < SP_PREDICT_NET_COUNT; n++) {
        sp_predict_net net = (sp_predict_net)n;
        if (net != own) SP_TRY(train_and_judge(c, sp_predict_net_name(net), net, false, err));
    }
    SP_TRY(train_and_judge(c, "transformer+lstm without prices and guess",
                           SP_PREDICT_TRANSFORMER_LSTM, true, err));
    for (int shifted = 0; shifted < 2; shifted++) SP_TRY(judge_plain(c, shifted, err));
    return SPAROA_OK;
}

sparoa_status sparoa_predictor_compare(sparoa_runtime *runtime, sparoa_predictor *given,
                                       const sparoa_training_options *options,
                                       void (*row)(void *user, const sparoa_predictor_score *score),
                                       void *user, sparoa_error *err)
{
    comparison c = {.report = row, .user = user};
    sp_predictor *shipped = NULL;
    if (!runtime || !row)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "runtime or report is NULL");
    sparoa_status status = sp_school_open(&c.school, runtime, options, err);
    if (!status) status = sp_school_study(&c.school, err);
    if (!status && !given) status = sp_predictor_shipped(&runtime->alloc, &shipped, err);
    if (!status) status = judge_all(&c, given ? given->p : shipped, err);
    sp_predictor_destroy(shipped);
    sp_school_close(&c.school);
    return status;
}
