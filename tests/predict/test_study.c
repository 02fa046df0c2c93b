/* Training sets, the shipped corpus, and fitting to a machine that is not as described. */
#include "predict/adapt.h"
#include "predict/shipped.h"
#include "predict/study.h"
#include "tests/support/memory.h"

#if defined(SP_TEST_EMULATED) /* training takes a hundred times as long there */
enum { MOST_OPS = 60, LEAST_ROWS = 500, MADE_UP = 4, TUNING_MADE_UP = 8, BYTES_MORE = 1000 };
#else
enum { MOST_OPS = 4096, LEAST_ROWS = 1000, MADE_UP = 20, TUNING_MADE_UP = 160, BYTES_MORE = 100 };
#endif
static sp_platform *platform;
static sp_predict_corpus corpus;

static void drop_large_models(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < corpus.model_count; i++)
        if (corpus.models[i].count <= MOST_OPS) corpus.models[kept++] = corpus.models[i];
    corpus.model_count = kept;
}

static int set_up(void **state)
{
    memory_set_up(state);
    platform = calloc(1, sizeof *platform);
    if (sp_platform_load(&alloc, SPAROA_SOURCE_DIR "/platforms/jetson_orin_nano_8gb.yaml", platform,
                         NULL) ||
        sp_predict_corpus_load(&alloc, SPAROA_SOURCE_DIR "/models/predictor/corpus.tsv", &corpus,
                               NULL))
        return 1;
    drop_large_models();
    return 0;
}

static int tear_down(void **state)
{
    sp_predict_corpus_free(&corpus);
    free(platform);
    return memory_tear_down(state);
}

static void check_op(const sp_predict_op *o)
{
    const sparoa_cost *c = &o->work.cost;
    assert_true(o->work.kind >= 0 && o->work.kind < SP_KIND_COUNT);
    assert_true(c->flops >= 0 && c->flops < 1e16 && c->bytes_in >= 0 && c->bytes_out >= 0);
    assert_true(c->flops + c->bytes_in + c->bytes_out > 0);
    assert_true(c->bytes_w >= 0 && isfinite(c->bytes_w));
    assert_true(o->work.weight_zeros >= 0 && o->work.weight_zeros <= 1);
    assert_true(o->work.input_zeros >= 0 && o->work.input_zeros <= 1);
    assert_true(o->batch >= 1 && o->channels > 0 && o->pixels > 0 && o->groups >= 1);
}

static void test_invents(void **state)
{
    enum { N = 96, ROUNDS = 60 };
    sp_predict_op ops[N];
    sp_nn_rng rng = {.key = 7};
    bool seen[SP_KIND_COUNT] = {false};
    for (int round = 0; round < ROUNDS; round++) {
        sp_regime regime = (sp_regime)(round % 2);
        sp_predict_invent(regime, &rng, ops, N);
        for (int i = 0; i < N; i++) {
            check_op(&ops[i]);
            seen[ops[i].work.kind] = true;
            if (regime == SP_REGIME_EAGER)
                assert_int_not_equal(ops[i].work.kind, SPAROA_CLASS_ATTENTION);
        }
        sp_predict_recombine(&corpus, regime, &rng, ops, N);
        sp_predict_prune(ops, N, &rng);
        for (int i = 0; i < N; i++) check_op(&ops[i]);
    }
    assert_true(seen[SPAROA_CLASS_CONV] && seen[SP_KIND_DEPTHWISE] && seen[SPAROA_CLASS_RNN] &&
                seen[SPAROA_CLASS_ATTENTION] && seen[SP_KIND_VIEW]);
}

/* A corpus of one regime: for the other, operators are invented. */
static void test_one_regime(void **state)
{
    enum { N = 32 };
    static const char text[] =
        SP_PREDICT_CORPUS_HEAD "\nvgg\ta\teager\tconv\t1e6\t9\t9\t9\t0\t0\t1\t8\t64\t3\t1\t1\n";
    sp_predict_corpus eager;
    sp_predict_op ops[N];
    sp_nn_rng rng = {.key = 3};
    assert_int_equal(sp_predict_corpus_parse(&alloc, "c", text, sizeof text - 1, &eager, NULL),
                     SPAROA_OK);
    sp_predict_recombine(&eager, SP_REGIME_GRAPH, &rng, ops, N);
    for (int i = 0; i < N; i++) check_op(&ops[i]);
    sp_predict_recombine(&eager, SP_REGIME_EAGER, &rng, ops, N);
    for (int i = 0; i < N; i++) assert_int_equal(ops[i].work.kind, SPAROA_CLASS_CONV);
    sp_predict_corpus_free(&eager);
}

/* Wherever memory ends while sets grow, all of it is given back. */
static void test_no_memory(void **state)
{
    const sp_predict_model *m = &corpus.models[0];
    sp_predict_setup *setup = calloc(1, sizeof *setup);
    setup->platform = *platform;
    setup->state = sp_platform_nominal(platform);
    setup->regime = m->regime;
    bool done = false;
    int failed = 0;
    for (size_t limit = 20000; !done; limit += BYTES_MORE) {
        sp_mem little;
        sp_predict_examples e = {.alloc = sp_mem_init(&little, NULL, limit)};
        done = true;
        for (int i = 0; i < 3 && done; i++)
            done = sp_predict_examples_add(&e, setup, setup, corpus.ops + m->first, m->count);
        failed += !done;
        sp_predict_examples_free(&e);
        assert_int_equal(atomic_load(&little.used), 0);
    }
    assert_true(failed > 10);
    free(setup);
}

/* The same seed gives the same sets and the same file; no family is on both sides. */
static void test_reproduces(void **state)
{
    const sp_platform *platforms[] = {platform};
    sp_study_options o = {.variants = 1, .inventions = MADE_UP};
    unsigned char *file[2];
    size_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        sp_study s;
        sp_predictor *p;
        sparoa_error err;
        if (sp_study_make(&alloc, &corpus, platforms, 1, &o, &s, &err)) fail_msg("%s", err.message);
        assert_true(s.train.rows > LEAST_ROWS && s.test.rows > LEAST_ROWS &&
                    s.shifted.rows > LEAST_ROWS);
        for (size_t a = 0; a < corpus.model_count; a++)
            for (size_t b = 0; b < corpus.model_count; b++)
                if (strcmp(corpus.models[a].family, corpus.models[b].family) == 0)
                    assert_int_equal(corpus.models[a].held, corpus.models[b].held);
        assert_int_equal(sp_study_train(&s, sp_cpu_kernels(NULL), SP_PREDICT_TRANSFORMER_LSTM,
                                        false, 1, NULL, NULL, &p, NULL),
                         SPAROA_OK);
        bytes = sp_predictor_file_bytes(p);
        file[i] = malloc(bytes);
        sp_predictor_save(p, file[i]);
        sp_predictor_destroy(p);
        sp_study_free(&s);
    }
    assert_memory_equal(file[0], file[1], bytes);
    free(file[0]), free(file[1]);
    o.hold = "nobody";
    sp_study s;
    assert_int_equal(sp_study_make(&alloc, &corpus, platforms, 1, &o, &s, NULL), SPAROA_NOT_FOUND);
}

/* A machine that is not as described, measured on operators of models that may be trained on. */
static void measure(const sp_predict_setup *truth, sp_nn_rng *rng, sp_predict_measurement *m,
                    size_t count)
{
    for (size_t i = 0; i < count;) {
        const sp_predict_model *model = &corpus.models[sp_nn_below(rng, corpus.model_count)];
        if (model->held || model->regime != truth->regime) continue;
        const sp_predict_op *op = &corpus.ops[model->first + sp_nn_below(rng, model->count)];
        uint32_t d = (uint32_t)(i % 2);
        double ns =
            sp_platform_cost(&truth->platform, d, truth->regime, &op->work, &truth->state).ns;
        if (ns < 1) continue; /* views that cost nothing */
        m[i++] = (sp_predict_measurement){op->work, d, ns * exp(0.05 * sp_nn_normal(rng))};
    }
}

static void test_fits(void **state)
{
    enum { MEASURED = 100 };
    sp_nn_rng rng = {.key = 11};
    sp_predict_setup *described = calloc(1, sizeof *described), *truth = calloc(1, sizeof *truth);
    sp_platform *fitted = calloc(1, sizeof *fitted);
    sp_predict_measurement m[MEASURED];
    sp_predict_examples held = {.alloc = alloc};
    sp_predict_score before, after;
    sp_predictor *p;
    described->platform = *platform;
    described->state = sp_platform_nominal(platform);
    described->regime = SP_REGIME_GRAPH;
    *truth = *described;
    truth->platform.devices[0].peak_flops *= 0.6;
    truth->platform.devices[1].peak_flops *= 1.5;
    truth->platform.devices[1].bandwidth *= 0.7;
    for (int k = 0; k < SP_KIND_COUNT; k++)
        truth->platform.devices[1].kinds[k].overhead_ns[SP_REGIME_GRAPH] *= 2;
    measure(truth, &rng, m, MEASURED);
    assert_int_equal(sp_predict_fit(&alloc, described, m, MEASURED, fitted, NULL), SPAROA_OK);
    double worst = 0; /* of new times, in logs */
    measure(truth, &rng, m, MEASURED);
    for (int i = 0; i < MEASURED; i++)
        worst += fabs(log(sp_platform_cost(fitted, m[i].device, described->regime, &m[i].work,
                                           &described->state)
                              .ns /
                          m[i].ns)) /
                 MEASURED;
    print_message("times of operators not measured: off by %.1f%% in the mean\n", 100 * worst);
    assert_true(worst < 0.1);

    assert_int_equal(sp_predict_corpus_hold(&corpus, NULL, NULL), SPAROA_OK);
    for (size_t i = 0; i < corpus.model_count; i++)
        if (corpus.models[i].held && corpus.models[i].regime == SP_REGIME_GRAPH)
            sp_predict_examples_add(&held, described, truth, corpus.ops + corpus.models[i].first,
                                    corpus.models[i].count);
    assert_int_equal(sp_predictor_shipped(&alloc, &p, NULL), SPAROA_OK);
    assert_int_equal(sp_study_score(&held, p, &before, NULL), SPAROA_OK);
    const sp_predict_tuning tuning = {.epochs = 4, .inventions = TUNING_MADE_UP, .seed = 1};
    assert_int_equal(sp_predict_tune(p, &corpus, platform, fitted, &tuning, NULL), SPAROA_OK);
    assert_int_equal(sp_study_score(&held, p, &after, NULL), SPAROA_OK);
    print_message("models never trained on: intensity within 10%% %.1f%% -> %.1f%%, right device "
                  "%.1f%% -> %.1f%%, regret %.2f%% -> %.2f%%\n",
                  100 * before.within[1], 100 * after.within[1], 100 * before.right,
                  100 * after.right, 100 * before.regret, 100 * after.regret);
    assert_true(after.within[1] > before.within[1] + 0.1);
    assert_true(after.regret < before.regret);
    sp_predictor_destroy(p);
    sp_predict_examples_free(&held);
    free(described), free(truth), free(fitted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_invents), cmocka_unit_test(test_one_regime),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_reproduces),
        cmocka_unit_test(test_fits)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
