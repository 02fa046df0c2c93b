/* Predictors: gradients, learning, files good and hostile, windows. Data from a made-up cost
 * function. */
#include <stdio.h>
#include <time.h>

#include "backends/cpu/kernel.h"
#include "predict/parts.h"
#include "tests/support/memory.h"

enum { FEATURES = 5 };
#define SCHEMA 0x1234567890abcdefu

static sp_predictor *create(sp_predict_net net, uint32_t width, uint64_t seed)
{
    sp_predictor *p = NULL;
    sparoa_error err;
    sp_predict_shape shape = {.net = net,
                              .features = FEATURES,
                              .width = width,
                              .heads = 2,
                              .feed = 2 * width,
                              .schema = SCHEMA};
    if (sp_predictor_create(&alloc, sp_cpu_kernels(NULL), &shape, seed, &p, &err))
        fail_msg("%s", err.message);
    return p;
}

/* ---- gradients of every network ---- */

static double loss_of(sp_predictor *p, size_t n, const float *dy, float *y)
{
    double sum = 0;
    sp_predict_forward(p, n, y);
    for (size_t i = 0; i < n * 2; i++) sum += (double)y[i] * (double)dy[i];
    return sum;
}

static void test_gradients(void **state)
{
    enum { N = 6 };
    for (int net = 0; net < SP_PREDICT_NET_COUNT; net++) {
        sp_predictor *p = create((sp_predict_net)net, 8, 3);
        sp_nn_rng rng = {.key = 17};
        float dy[N * 2], y[N * 2], *grads = calloc(p->count, sizeof *grads);
        for (size_t i = 0; i < N * FEATURES; i++) p->values.x[i] = (float)sp_nn_normal(&rng);
        for (size_t i = 0; i < N * 2; i++) dy[i] = (float)sp_nn_normal(&rng);
        loss_of(p, N, dy, y);
        sp_predict_backward(p, N, dy, grads);
        double error = 0, norm = 0;
        for (size_t i = 0; i < p->count; i++) {
            const float h = 5e-4f;
            float keep = p->params[i];
            p->params[i] = keep + h;
            double up = loss_of(p, N, dy, y);
            p->params[i] = keep - h;
            double slope = (up - loss_of(p, N, dy, y)) / (2 * (double)h);
            p->params[i] = keep;
            error += (slope - (double)grads[i]) * (slope - (double)grads[i]);
            norm += slope * slope;
        }
        if (!(norm > 0 && sqrt(error) <= 2e-2 * sqrt(norm))) /* ReLUs have kinks */
            fail_msg("%s: relative error %g", sp_predict_net_name((sp_predict_net)net),
                     sqrt(error / norm));
        free(grads);
        sp_predictor_destroy(p);
    }
}

/* ---- learning ---- */

typedef struct corpus {
    uint32_t *lengths;
    float *features, *labels;
    size_t rows;
} corpus;

/* A product of two features, and what the operator before had: the second needs neighbours. */
static corpus make_corpus(uint64_t seed, size_t sequences)
{
    sp_nn_rng rng = {.key = seed};
    corpus c = {.lengths = calloc(sequences, sizeof *c.lengths)};
    for (size_t s = 0; s < sequences; s++)
        c.rows += c.lengths[s] = (uint32_t)(5 + sp_nn_below(&rng, 20));
    c.features = calloc(c.rows * FEATURES, sizeof *c.features);
    c.labels = calloc(c.rows * 2, sizeof *c.labels);
    for (size_t s = 0, i = 0; s < sequences; s++)
        for (size_t k = 0; k < c.lengths[s]; k++, i++) {
            float *f = c.features + i * FEATURES;
            for (size_t j = 0; j < FEATURES; j++) f[j] = (float)(10 * sp_nn_uniform(&rng));
            c.labels[2 * i] = f[0] * f[1] / 100;
            c.labels[2 * i + 1] = k ? f[2 - FEATURES] / 10 : 0;
        }
    return c;
}

static void free_corpus(corpus *c)
{
    free(c->lengths), free(c->features), free(c->labels);
}

static double error_of(sp_predictor *p, const corpus *c, size_t sequences)
{
    double sum = 0;
    for (size_t s = 0, first = 0; s < sequences; first += c->lengths[s++]) {
        float y[64];
        assert_int_equal(
            sp_predictor_run(p, c->lengths[s], c->features + first * FEATURES, y, NULL, NULL),
            SPAROA_OK);
        for (size_t j = 0; j < c->lengths[s] * 2; j++)
            sum += fabs((double)y[j] - (double)c->labels[first * 2 + j]);
    }
    return sum / (double)(c->rows * 2);
}

static double train(sp_predictor *p, const corpus *c, size_t sequences, uint32_t epochs)
{
    sp_predict_data data = {sequences, c->lengths, c->features, c->labels};
    sp_predict_training t = {.epochs = epochs, .batch = 4, .rate = 5e-3, .seed = 1};
    assert_int_equal(sp_predictor_train(p, &data, &t, NULL), SPAROA_OK);
    return error_of(p, c, sequences);
}

static void test_learns(void **state)
{
    enum { TRAIN = 60, HELD = 20 };
    corpus c = make_corpus(1, TRAIN), held = make_corpus(2, HELD);
    double error[SP_PREDICT_NET_COUNT];
    for (int net = 0; net < SP_PREDICT_NET_COUNT; net++) {
        sp_predictor *p = create((sp_predict_net)net, 32, 5);
        train(p, &c, TRAIN, 40);
        error[net] = error_of(p, &held, HELD);
        print_message("%-18s mean error %.3f\n", sp_predict_net_name((sp_predict_net)net),
                      error[net]);
        sp_predictor_destroy(p);
    }
    assert_true(error[SP_PREDICT_TRANSFORMER_LSTM] < 0.06);
    assert_true(error[SP_PREDICT_TRANSFORMER_LSTM] < 0.5 * error[SP_PREDICT_LINEAR]);
    free_corpus(&c), free_corpus(&held);
}

static void test_deterministic(void **state)
{
    corpus c = make_corpus(1, 10);
    sp_predictor *a = create(SP_PREDICT_TRANSFORMER_LSTM, 8, 5),
                 *b = create(SP_PREDICT_TRANSFORMER_LSTM, 8, 5);
    train(a, &c, 10, 3), train(b, &c, 10, 3);
    assert_memory_equal(a->params, b->params, a->count * sizeof(float));
    sp_predictor_destroy(a), sp_predictor_destroy(b);
    free_corpus(&c);
}

static void test_refuses_data(void **state)
{
    corpus c = make_corpus(1, 4);
    sp_predictor *p = create(SP_PREDICT_LINEAR, 8, 5);
    sp_predict_data data = {4, c.lengths, c.features, c.labels}, none = {0};
    sp_predict_training t = {.epochs = 1};
    assert_int_equal(sp_predictor_train(p, &none, &t, NULL), SPAROA_INVALID_ARGUMENT);
    c.labels[3] = NAN;
    assert_int_equal(sp_predictor_train(p, &data, &t, NULL), SPAROA_INVALID_ARGUMENT);
    c.labels[3] = 1;
    c.features[7] = INFINITY;
    assert_int_equal(sp_predictor_train(p, &data, &t, NULL), SPAROA_INVALID_ARGUMENT);
    sp_predictor_destroy(p);
    free_corpus(&c);
}

/* ---- running ---- */

static void test_windows(void **state)
{
    enum { N = 1000 };
    for (size_t n = 0; n < N; n++) {
        size_t count = sp_predict_windows(n), at = 0;
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(sp_predict_window(n, count, i), at);
            at = sp_predict_window(n, count, i + 1);
            assert_true(at - sp_predict_window(n, count, i) <= SP_PREDICT_WINDOW);
        }
        assert_int_equal(at, n);
    }
    sp_predictor *p = create(SP_PREDICT_TRANSFORMER_LSTM, 8, 5);
    float *x = calloc(N * FEATURES, sizeof *x), *y = calloc(N * 2, sizeof *y), nothing;
    size_t outside = 9;
    x[3] = NAN, x[FEATURES] = 1e30f, x[2 * FEATURES] = 7.5f; /* two operators are far out */
    assert_int_equal(sp_predictor_run(p, N, x, y, &outside, NULL), SPAROA_OK);
    assert_int_equal(outside, 2);
    for (size_t i = 0; i < N * 2; i++) assert_true(y[i] >= 0 && y[i] <= 1);
    assert_int_equal(sp_predictor_run(p, 0, x, &nothing, NULL, NULL), SPAROA_OK);
    free(x), free(y);
    sp_predictor_destroy(p);
}

static void test_time(void **state)
{
    sp_predictor *p = NULL;
    sp_predict_shape shape = {.features = 64};
    assert_int_equal(sp_predictor_create(&alloc, sp_cpu_kernels(NULL), &shape, 1, &p, NULL),
                     SPAROA_OK);
    float *x = calloc(100 * 64, sizeof *x), y[200];
    double best = 1;
    for (int i = 0; i < 30; i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        sp_predictor_run(p, 100, x, y, NULL, NULL);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
        if (s < best) best = s;
    }
    print_message("100 operators: %.3f ms; %zu parameters, file of %zu bytes\n", best * 1e3,
                  sp_predictor_params(p), sp_predictor_file_bytes(p));
    assert_true(sp_predictor_file_bytes(p) <= 1000000);
    free(x);
    sp_predictor_destroy(p);
}

/* ---- files ---- */

static sparoa_status load(const unsigned char *file, size_t bytes, uint64_t schema,
                          sp_predictor **p)
{
    return sp_predictor_load(&alloc, sp_cpu_kernels(NULL), file, bytes, schema, p, NULL);
}

/* The file's own checksum, so that damage gets past it. */
static void seal(unsigned char *file, size_t bytes)
{
    uint32_t h = 0x811c9dc5u;
    for (size_t i = 16; i < bytes; i++) h = (h ^ file[i]) * 0x01000193u;
    memcpy(file + 12, &h, 4);
}

static void test_file(void **state)
{
    corpus c = make_corpus(1, 10);
    sp_predictor *a = create(SP_PREDICT_TRANSFORMER_LSTM, 8, 5), *b = NULL;
    train(a, &c, 10, 3);
    size_t bytes = sp_predictor_file_bytes(a);
    unsigned char *file = malloc(bytes), *again = malloc(bytes);
    sp_predictor_save(a, file);
    assert_int_equal(load(file, bytes, SCHEMA, &b), SPAROA_OK);
    sp_predictor_save(b, again);
    assert_memory_equal(file, again, bytes);
    assert_true(fabs(error_of(a, &c, 10) - error_of(b, &c, 10)) < 2e-3); /* float16 */
    sp_predictor_destroy(b), sp_predictor_destroy(a);

    assert_int_equal(load(file, bytes, SCHEMA + 1, &b), SPAROA_UNSUPPORTED_VERSION);
    assert_int_equal(load(file, 0, SCHEMA, &b), SPAROA_MALFORMED);
    again[8] = 7;
    assert_int_equal(load(again, bytes, SCHEMA, &b), SPAROA_UNSUPPORTED_VERSION);
    for (size_t i = 0; i < bytes; i += i < 200 ? 1 : 53) {
        memcpy(again, file, bytes);
        again[i] ^= 0x80;
        assert_int_not_equal(load(again, bytes, SCHEMA, &b), SPAROA_OK);
        assert_int_equal(load(file, i, SCHEMA, &b), SPAROA_MALFORMED);
    }
    free(file), free(again);
    free_corpus(&c);
}

/* Random damage with a right checksum: loads or is refused, and never more memory than the sizes
 * allow. */
static void test_hostile_files(void **state)
{
    static const uint32_t odd[] = {0,   1,   2,    3,     7,          255,
                                   256, 257, 1024, 65536, 0x7fffffff, 0xffffffff};
    sp_predictor *a = create(SP_PREDICT_LSTM, 4, 5), *b = NULL;
    size_t bytes = sp_predictor_file_bytes(a), loaded = 0;
    unsigned char *file = malloc(bytes), *bad = malloc(bytes);
    sp_predictor_save(a, file);
    sp_predictor_destroy(a);
    sp_nn_rng rng = {.key = 99};
    for (int round = 0; round < 3000; round++) {
        memcpy(bad, file, bytes);
        for (uint64_t k = sp_nn_below(&rng, 3) + 1; k > 0; k--) {
            if (sp_nn_below(&rng, 2)) { /* a size in the head */
                memcpy(bad + 32 + 4 * sp_nn_below(&rng, 6),
                       &odd[sp_nn_below(&rng, sizeof odd / sizeof *odd)], 4);
            } else {
                bad[16 + sp_nn_below(&rng, bytes - 16)] = (unsigned char)sp_nn_below(&rng, 256);
            }
        }
        size_t n = sp_nn_below(&rng, 4) ? bytes : 16 + sp_nn_below(&rng, bytes - 16);
        unsigned char *exact = malloc(n); /* so that a sanitizer sees reads beyond */
        memcpy(exact, bad, n);
        seal(exact, n);
        if (load(exact, n, SCHEMA, &b) == SPAROA_OK) {
            float x[3 * SP_PREDICT_MAX_FEATURES] = {0}, y[6];
            loaded++;
            sp_predictor_run(b, 3, x, y, NULL, NULL);
            sp_predictor_destroy(b);
        }
        free(exact);
    }
    print_message("%zu of 3000 damaged files are files still\n", loaded);
    assert_true(atomic_load(&mem.peak) < 64u << 20);
    free(file), free(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),     cmocka_unit_test(test_learns),
        cmocka_unit_test(test_deterministic), cmocka_unit_test(test_refuses_data),
        cmocka_unit_test(test_windows),       cmocka_unit_test(test_time),
        cmocka_unit_test(test_file),          cmocka_unit_test(test_hostile_files),
    };
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
