/*
 * predictor_train OUT.spw CORPUS.tsv EPOCHS [NET,...] PLATFORM.yaml... - trains the predictor and
 * what it is compared with, judges them on models and machines never trained on, and prints the
 * table. OUT.spw gets the first net of the list. All randomness comes from SEED.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/cpu/kernel.h"
#include "base/rng.h"
#include "corpus.h"

enum {
    SEED = 20261123,
    MOST_PLATFORMS = 8,
    VARIANTS = 14,
    RANDOM_MODELS = 420,
    RANDOM_LENGTH = 64
};
#define SPREAD 0.35

typedef struct task {
    sparoa_allocator alloc;
    corpus corpus;
    sp_platform *platforms;
    size_t platform_count;
    machine *m;
    examples train, test, shifted;
} task;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void make_training(task *t)
{
    sp_nn_rng rng = {.key = sp_rng_stream(SEED, 1)};
    sp_predict_op ops[1024];
    for (size_t i = 0; i < t->corpus.model_count; i++) {
        const model *m = &t->corpus.models[i];
        for (int v = 0; v < VARIANTS && !m->held && m->count <= 1024; v++) {
            const sp_platform *p = &t->platforms[sp_nn_below(&rng, t->platform_count)];
            machine_make(t->m, p, &rng, SPREAD, true);
            if (v % 2)
                pruned_model(&t->corpus, m, &rng, ops);
            else
                memcpy(ops, t->corpus.ops + m->first, m->count * sizeof *ops);
            examples_add(&t->train, t->m, ops, m->count);
        }
    }
    for (int i = 0; i < RANDOM_MODELS; i++) {
        const sp_platform *p = &t->platforms[sp_nn_below(&rng, t->platform_count)];
        machine_make(t->m, p, &rng, SPREAD, true);
        random_model(&t->corpus, &rng, ops, RANDOM_LENGTH);
        examples_add(&t->train, t->m, ops, RANDOM_LENGTH);
    }
}

/* test: the platforms as described, every mode and regime. shifted: other figures and loads. */
static void make_tests(task *t)
{
    sp_nn_rng rng = {.key = sp_rng_stream(SEED, 2)};
    for (size_t i = 0; i < t->corpus.model_count; i++) {
        const model *m = &t->corpus.models[i];
        if (!m->held) continue;
        for (size_t p = 0; p < t->platform_count; p++) {
            machine_make(t->m, &t->platforms[p], &rng, 0, false);
            for (uint32_t mode = 0; mode < t->platforms[p].mode_count; mode++)
                for (int r = 0; r < SP_REGIME_COUNT; r++) {
                    t->m->state = t->platforms[p].modes[mode].state;
                    t->m->regime = (sp_regime)r;
                    examples_add(&t->test, t->m, t->corpus.ops + m->first, m->count);
                }
            for (int v = 0; v < 4; v++) {
                machine_make(t->m, &t->platforms[p], &rng, SPREAD, true);
                examples_add(&t->shifted, t->m, t->corpus.ops + m->first, m->count);
            }
        }
    }
}

static uint64_t hash_of(const examples *e)
{
    uint64_t h = 0xcbf29ce484222325u;
    const unsigned char *p = (const unsigned char *)e->labels;
    for (size_t i = 0; i < e->rows * 2 * sizeof *e->labels; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h ? h : 1;
}

static bool progress(void *user, uint32_t epoch, double loss)
{
    double *start = user;
    if (epoch == 1 || epoch % 5 == 0)
        fprintf(stderr, "  epoch %u, error %.5f, %.0f s\n", epoch, sqrt(loss), now() - *start);
    return true;
}

static void predict_all(sp_predictor *p, const examples *e, float *out)
{
    for (size_t s = 0, first = 0; s < e->sequences; first += e->lengths[s++])
        sp_predictor_run(p, e->lengths[s], e->features + first * SP_PREDICT_FEATURES,
                         out + 2 * first, NULL, NULL);
}

static double time_per_100(sp_predictor *p, const examples *e)
{
    float out[200];
    double best = 1;
    for (int i = 0; i < 50 && e->rows >= 100; i++) {
        double start = now();
        sp_predictor_run(p, 100, e->features, out, NULL, NULL);
        best = fmin(best, now() - start);
    }
    return best * 1e3;
}

/* Trains, writes and reads back (so that what is judged is what is shipped), judges. */
static sparoa_status train_net(task *t, sp_predict_net net, uint32_t epochs, const char *path,
                               score scores[2], size_t *bytes, double *ms, sparoa_error *err)
{
    sp_predict_shape shape = {.net = net,
                              .features = SP_PREDICT_FEATURES,
                              .schema = sp_predict_schema(),
                              .data = hash_of(&t->train)};
    sp_predict_data data = {t->train.sequences, t->train.lengths, t->train.features,
                            t->train.labels};
    static const uint32_t guess[2] = {SP_PREDICT_GUESS_SPARSITY, SP_PREDICT_GUESS_INTENSITY};
    double start = now();
    sp_predict_training training = {.epochs = epochs,
                                    .batch = 8,
                                    .rate = net == SP_PREDICT_LINEAR ? 5e-3 : 1.5e-3,
                                    .limit = 0.02,
                                    .guess = guess,
                                    .seed = SEED,
                                    .progress = progress,
                                    .user = &start};
    sp_predictor *p = NULL, *q = NULL;
    fprintf(stderr, "%s\n", sp_predict_net_name(net));
    sparoa_status s = sp_predictor_create(&t->alloc, sp_cpu_kernels(NULL), &shape, SEED, &p, err);
    if (!s) s = sp_predictor_train(p, &data, &training, err);
    if (s) return sp_predictor_destroy(p), s;
    *bytes = sp_predictor_file_bytes(p);
    unsigned char *file = malloc(*bytes);
    sp_predictor_save(p, file);
    s = sp_predictor_load(&t->alloc, sp_cpu_kernels(NULL), file, *bytes, shape.schema, &q, err);
    FILE *f = !s && path ? fopen(path, "wb") : NULL;
    if (f) {
        fwrite(file, 1, *bytes, f);
        fclose(f);
    }
    const examples *sets[2] = {&t->test, &t->shifted};
    for (int i = 0; i < 2 && !s; i++) {
        float *out = malloc(sets[i]->rows * 2 * sizeof *out);
        predict_all(q, sets[i], out);
        scores[i] = score_of(sets[i], out);
        free(out);
    }
    *ms = s ? 0 : time_per_100(q, &t->test);
    free(file);
    sp_predictor_destroy(p);
    sp_predictor_destroy(q);
    return s;
}

static bool wanted(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || !p[n])) return true;
    return strcmp(list, "all") == 0;
}

static void print_constant(task *t, const examples *e)
{
    float *out = malloc(e->rows * 2 * sizeof *out);
    for (size_t i = 0; i < e->rows; i++) {
        const float *f = e->features + i * SP_PREDICT_FEATURES;
        out[2 * i] = f[SP_PREDICT_GUESS_SPARSITY];
        out[2 * i + 1] = f[SP_PREDICT_GUESS_INTENSITY];
    }
    score s = score_of(e, out);
    print_score(stdout, "first guess, nothing learned", &s, 0, 0);
    constant_predictions(&t->train, e, out);
    s = score_of(e, out);
    print_score(stdout, "constant per kind", &s, 0, 0);
    printf("(%zu operators; labels at a bound: sparsity %.1f%%, intensity %.1f%%)\n\n", e->rows,
           100 * s.bound[0], 100 * s.bound[1]);
    free(out);
}

int main(int argc, char **argv)
{
    static task t;
    static sp_mem mem;
    sparoa_error err;
    if (argc < 6 || argc > 5 + MOST_PLATFORMS)
        return fprintf(stderr, "usage: predictor_train OUT CORPUS EPOCHS NETS|all PLATFORM...\n"),
               2;
    t.alloc = sp_mem_init(&mem, NULL, 0);
    t.platforms = calloc(MOST_PLATFORMS, sizeof *t.platforms);
    t.m = calloc(1, sizeof *t.m);
    if (!corpus_read(&t.corpus, argv[2])) return 1;
    for (int i = 5; i < argc; i++)
        if (sp_platform_load(&t.alloc, argv[i], &t.platforms[t.platform_count++], &err))
            return fprintf(stderr, "%s\n", err.message), 1;
    make_training(&t);
    make_tests(&t);
    printf("seed %d; training: %zu sequences, %zu operators, labels %016llx; %d epochs\n\n", SEED,
           t.train.sequences, t.train.rows, (unsigned long long)hash_of(&t.train), atoi(argv[3]));
    score scores[SP_PREDICT_NET_COUNT][2];
    size_t bytes[SP_PREDICT_NET_COUNT];
    double ms[SP_PREDICT_NET_COUNT];
    const char *path = argv[1];
    for (int n = 0; n < SP_PREDICT_NET_COUNT; n++) {
        if (!wanted(argv[4], sp_predict_net_name((sp_predict_net)n))) continue;
        if (train_net(&t, (sp_predict_net)n, (uint32_t)atoi(argv[3]), path, scores[n], &bytes[n],
                      &ms[n], &err))
            return fprintf(stderr, "%s\n", err.message), 1;
        path = NULL;
    }
    for (int set = 0; set < 2; set++) {
        puts(set ? "Held-out models on machines with other figures and loads:\n"
                 : "Held-out models on the platforms as described, every mode, both regimes:\n");
        print_head(stdout);
        for (int n = 0; n < SP_PREDICT_NET_COUNT; n++)
            if (wanted(argv[4], sp_predict_net_name((sp_predict_net)n)))
                print_score(stdout, sp_predict_net_name((sp_predict_net)n), &scores[n][set],
                            bytes[n], ms[n]);
        print_constant(&t, set ? &t.shifted : &t.test);
    }
    examples_free(&t.train), examples_free(&t.test), examples_free(&t.shifted);
    corpus_free(&t.corpus);
    free(t.platforms), free(t.m);
    return 0;
}
