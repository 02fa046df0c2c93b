/*
 * bench_finetune CORPUS PLATFORM.yaml... - how far fine-tuning from a few measured times brings the
 * threshold predictor on machines that are not as described: each platform with its figures times
 * random factors (log-normal, 0.35) is measured on operators that may be trained on, with 5% of
 * noise; thresholds are judged on models held out. Simulated from the platform files.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "predict/adapt.h"
#include "predict/shipped.h"
#include "predict/study.h"

enum { MACHINES = 2, SEED = 5 }; /* machines for each platform and regime */
static const size_t counts[] = {0, 10, 20, 50, 200};
enum { ROWS = sizeof counts / sizeof *counts, MOST = 200 };

typedef struct row {
    double times;                   /* mean error of the logs of new times */
    sp_predict_score tuned, fitted; /* from the description; from the fitted description */
} row;

typedef struct bench {
    sparoa_allocator alloc;
    sp_predict_corpus corpus;
    sp_predict_setup *described, *truth, *fitted;
    sp_nn_rng rng;
    row rows[ROWS];
    int machines;
} bench;

static void measure(bench *b, sp_predict_measurement *m, size_t count)
{
    const sp_predict_setup *t = b->truth;
    for (size_t i = 0; i < count;) {
        const sp_predict_model *model =
            &b->corpus.models[sp_nn_below(&b->rng, b->corpus.model_count)];
        const sp_predict_op *op = &b->corpus.ops[model->first + sp_nn_below(&b->rng, model->count)];
        if (model->held || model->regime != t->regime) continue;
        uint32_t d = (uint32_t)(i % 2);
        if (t->platform.devices[d].unsupported >> op->work.kind & 1) continue;
        double ns = sp_platform_cost(&t->platform, d, t->regime, &op->work, &t->state).ns;
        if (ns < 1) continue; /* views that cost nothing */
        m[i++] = (sp_predict_measurement){op->work, d, ns * exp(0.05 * sp_nn_normal(&b->rng))};
    }
}

static double off_by(const sp_predict_setup *s, const sp_predict_measurement *m, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += fabs(
            log(sp_platform_cost(&s->platform, m[i].device, s->regime, &m[i].work, &s->state).ns /
                m[i].ns));
    return sum / (double)count;
}

static void judge(bench *b, const sp_predict_setup *shown, sp_predictor *p, sp_predict_score *sum)
{
    sp_predict_examples e = {.alloc = b->alloc};
    sp_predict_score s;
    for (size_t i = 0; i < b->corpus.model_count; i++) {
        const sp_predict_model *m = &b->corpus.models[i];
        if (m->held && m->regime == b->truth->regime)
            sp_predict_examples_add(&e, shown, b->truth, b->corpus.ops + m->first, m->count);
    }
    sp_study_score(&e, p, &s, NULL);
    sum->within[1] += s.within[1];
    sum->interior[1] += s.interior[1];
    sum->right += s.right;
    sum->regret += s.regret;
    sp_predict_examples_free(&e);
}

static void try_count(bench *b, size_t count, row *r)
{
    sp_predict_measurement m[MOST], fresh[MOST];
    sp_predictor *p;
    measure(b, m, count);
    measure(b, fresh, MOST);
    *b->fitted = *b->described;
    if (count) sp_predict_fit(&b->alloc, b->described, m, count, &b->fitted->platform, NULL);
    if (sp_predictor_shipped(&b->alloc, &p, NULL)) exit(1);
    r->times += off_by(b->fitted, fresh, MOST);
    judge(b, b->fitted, p, &r->fitted);
    if (count)
        sp_predict_tune(p, &b->corpus, &b->described->platform, &b->fitted->platform,
                        &(sp_predict_tuning){.seed = SEED}, NULL);
    judge(b, b->described, p, &r->tuned);
    sp_predictor_destroy(p);
}

static void try_machine(bench *b, const sp_platform *platform, sp_regime regime)
{
    b->described->platform = *platform;
    b->described->state = sp_platform_nominal(platform);
    b->described->regime = regime;
    sp_predict_setup_make(b->truth, platform, &b->rng, 0.35, false);
    b->truth->state = b->described->state;
    b->truth->regime = regime;
    for (int i = 0; i < ROWS; i++) try_count(b, counts[i], &b->rows[i]);
    b->machines++;
    fprintf(stderr, "%d machines\n", b->machines);
}

static void print(const bench *b)
{
    double n = b->machines / 100.0;
    printf(
        "| measured times | new times off by | fine-tuned: intensity within 10%%, all | interior | "
        "right device | regret | fitted description instead: all | interior | right device | "
        "regret |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for (int i = 0; i < ROWS; i++) {
        const row *r = &b->rows[i];
        printf("| %zu | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.2f%% | %.1f%% | %.1f%% | %.1f%% | "
               "%.2f%% |\n",
               counts[i], r->times / n, r->tuned.within[1] / n, r->tuned.interior[1] / n,
               r->tuned.right / n, r->tuned.regret / n, r->fitted.within[1] / n,
               r->fitted.interior[1] / n, r->fitted.right / n, r->fitted.regret / n);
    }
    printf("\nSimulated: means over %d machines, models never trained on.\n", b->machines);
}

int main(int argc, char **argv)
{
    static sp_mem mem;
    static bench b;
    sparoa_error err;
    b.alloc = sp_mem_init(&mem, NULL, 0);
    b.rng.key = SEED;
    b.described = calloc(1, sizeof *b.described);
    b.truth = calloc(1, sizeof *b.truth);
    b.fitted = calloc(1, sizeof *b.fitted);
    sp_platform *platform = calloc(1, sizeof *platform);
    if (argc < 3) return fprintf(stderr, "usage: bench_finetune CORPUS PLATFORM...\n"), 2;
    if (sp_predict_corpus_load(&b.alloc, argv[1], &b.corpus, &err) ||
        sp_predict_corpus_hold(&b.corpus, NULL, &err))
        return fprintf(stderr, "%s\n", err.message), 1;
    for (int i = 2; i < argc; i++) {
        if (sp_platform_load(&b.alloc, argv[i], platform, &err))
            return fprintf(stderr, "%s\n", err.message), 1;
        for (int k = 0; k < MACHINES * SP_REGIME_COUNT; k++)
            try_machine(&b, platform, (sp_regime)(k % SP_REGIME_COUNT));
    }
    print(&b);
    sp_predict_corpus_free(&b.corpus);
    free(b.described), free(b.truth), free(b.fitted), free(platform);
    return 0;
}
