/* Every layer of src/nn against PyTorch (fixtures/nn.bin, make_fixtures.py) and against finite
 * differences. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/cpu/kernel.h"
#include "nn/nn.h"

static const char *const isas[] = {"generic", "neon", "avx2", "avx512"};
static sp_mem mem;
static sp_nn nn;

/* ---- the layers, behind one face ---- */

typedef struct subject subject;
struct subject {
    const char *name;
    size_t rows, in, out, count, cache;
    void (*init)(const subject *s, float *params, sp_nn_rng *rng);
    void (*forward)(const subject *s, const float *params, const float *x, float *y, float *cache);
    void (*backward)(const subject *s, const float *params, const float *x, const float *dy,
                     float *dx, float *grads, const float *cache, float *work);
    union {
        sp_nn_linear linear;
        sp_nn_norm norm;
        sp_nn_attention attention;
        sp_nn_lstm lstm;
        sp_nn_encoder encoder;
        sp_nn_mlp mlp;
    } l;
};

static void norm_init(const subject *s, float *params, sp_nn_rng *rng)
{
    sp_nn_norm_init(&s->l.norm, params);
    for (size_t i = 0; i < s->count; i++) params[i] += (float)(0.5 * sp_nn_normal(rng));
}

static void linear_forward(const subject *s, const float *params, const float *x, float *y,
                           float *c)
{
    sp_nn_linear_forward(&nn, &s->l.linear, params, s->rows, x, y);
}

static void linear_backward(const subject *s, const float *params, const float *x, const float *dy,
                            float *dx, float *grads, const float *c, float *w)
{
    sp_nn_linear_backward(&nn, &s->l.linear, params, s->rows, x, dy, dx, grads);
}

static void norm_forward(const subject *s, const float *params, const float *x, float *y, float *c)
{
    sp_nn_norm_forward(&nn, &s->l.norm, params, s->rows, x, y, c);
}

static void norm_backward(const subject *s, const float *params, const float *x, const float *dy,
                          float *dx, float *grads, const float *c, float *w)
{
    sp_nn_norm_backward(&s->l.norm, params, s->rows, x, c, dy, dx, grads);
}

#define LAYER(kind)                                                                                \
    static void kind##_init(const subject *s, float *params, sp_nn_rng *rng)                       \
    {                                                                                              \
        sp_nn_##kind##_init(&s->l.kind, params, rng);                                              \
    }
#define SEQUENCE(kind)                                                                             \
    LAYER(kind)                                                                                    \
    static void kind##_forward(const subject *s, const float *params, const float *x, float *y,    \
                               float *c)                                                           \
    {                                                                                              \
        sp_nn_##kind##_forward(&nn, &s->l.kind, params, s->rows, x, y, c);                         \
    }                                                                                              \
    static void kind##_backward(const subject *s, const float *params, const float *x,             \
                                const float *dy, float *dx, float *grads, const float *c,          \
                                float *w)                                                          \
    {                                                                                              \
        sp_nn_##kind##_backward(&nn, &s->l.kind, params, s->rows, x, dy, dx, grads, c, w);         \
    }
LAYER(linear)
SEQUENCE(attention)
SEQUENCE(lstm)
SEQUENCE(encoder)
SEQUENCE(mlp)

enum { SUBJECTS = 6 };

#define FACE(kind) kind##_init, kind##_forward, kind##_backward

static void make_subjects(subject s[SUBJECTS])
{
    s[0] = (subject){"linear", 5, 7, 9, 0, 1, FACE(linear), {{0}}};
    s[0].l.linear = sp_nn_linear_make(&s[0].count, 7, 9);
    s[1] = (subject){"norm", 5, 24, 24, 0, 10, FACE(norm), {{0}}};
    s[1].l.norm = sp_nn_norm_make(&s[1].count, 24);
    s[2] = (subject){"attention", 6, 16, 16, 0, 0, FACE(attention), {{0}}};
    s[2].l.attention = sp_nn_attention_make(&s[2].count, 16, 4);
    s[2].cache = sp_nn_attention_cache(&s[2].l.attention, 6);
    s[3] = (subject){"lstm", 7, 6, 10, 0, 0, FACE(lstm), {{0}}};
    s[3].l.lstm = sp_nn_lstm_make(&s[3].count, 6, 5);
    s[3].cache = sp_nn_lstm_cache(&s[3].l.lstm, 7);
    s[4] = (subject){"encoder", 6, 16, 16, 0, 0, FACE(encoder), {{0}}};
    s[4].l.encoder = sp_nn_encoder_make(&s[4].count, 16, 4, 32);
    s[4].cache = sp_nn_encoder_cache(&s[4].l.encoder, 6);
    s[5] = (subject){"mlp", 5, 7, 3, 0, 0, FACE(mlp), {{0}}};
    s[5].l.mlp = sp_nn_mlp_make(&s[5].count, SP_ACT_TANH, 3, (size_t[]){7, 16, 12, 3});
    s[5].cache = sp_nn_mlp_cache(&s[5].l.mlp, 5);
}

static float *zeros(size_t n)
{
    return calloc(n + !n, sizeof(float));
}

/* ---- against PyTorch ---- */

static unsigned char *fixtures;
static size_t fixture_bytes;

static int load_fixtures(void **state)
{
    FILE *f = fopen(SP_TEST_SOURCE_DIR "/nn/fixtures/nn.bin", "rb");
    if (!f) return -1;
    fixtures = malloc(1 << 20);
    fixture_bytes = fread(fixtures, 1, 1 << 20, f);
    fclose(f);
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, 0);
    sp_nn_init(&nn, sp_cpu_kernels(NULL), &alloc);
    return 0;
}

static int free_all(void **state)
{
    free(fixtures);
    sp_nn_release(&nn);
    return nn.failed || atomic_load(&mem.used) != 0;
}

/* A copy of the array "name.key", of n floats. */
static float *fixture(const char *name, const char *key, size_t n)
{
    char line[96], have[96];
    snprintf(line, sizeof line, "%s.%s %zu\n", name, key, n);
    for (size_t at = 0; at < fixture_bytes;) {
        const unsigned char *end = memchr(fixtures + at, '\n', fixture_bytes - at);
        size_t length = (size_t)(end - fixtures) + 1 - at, count = 0;
        assert_true(end && length < sizeof have);
        memcpy(have, fixtures + at, length);
        have[length] = 0;
        assert_int_equal(sscanf(have, "%*s %zu", &count), 1);
        at += length;
        if (strcmp(have, line) == 0) {
            float *p = zeros(n);
            memcpy(p, fixtures + at, n * sizeof *p);
            return p;
        }
        at += count * sizeof(float);
    }
    fail_msg("no fixture %s", line);
    return NULL;
}

/* Frees want. Errors are relative to the largest element. */
static void expect(const char *name, const char *what, size_t n, const float *got, float *want)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 3e-6 * most + 1e-7))
            fail_msg("%s %s %s[%zu]: %g, PyTorch has %g", nn.kernels->isa, name, what, i,
                     (double)got[i], (double)want[i]);
    free(want);
}

static void check_fixture(const subject *s)
{
    size_t nx = s->rows * s->in, ny = s->rows * s->out;
    float *params = fixture(s->name, "params", s->count), *x = fixture(s->name, "x", nx);
    float *dy = fixture(s->name, "dy", ny), *y = zeros(ny), *dx = zeros(nx);
    float *grads = zeros(s->count), *cache = zeros(s->cache), *work = zeros(s->cache);
    s->forward(s, params, x, y, cache);
    s->backward(s, params, x, dy, dx, grads, cache, work);
    expect(s->name, "y", ny, y, fixture(s->name, "y", ny));
    expect(s->name, "dx", nx, dx, fixture(s->name, "dx", nx));
    expect(s->name, "grads", s->count, grads, fixture(s->name, "grads", s->count));
    free(params), free(x), free(dy), free(y), free(dx), free(grads), free(cache), free(work);
}

static void test_pytorch_layers(void **state)
{
    subject s[SUBJECTS];
    make_subjects(s);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (!sp_cpu_kernels(isas[i])) continue;
        nn.kernels = sp_cpu_kernels(isas[i]);
        for (int j = 0; j < SUBJECTS; j++) check_fixture(&s[j]);
    }
    nn.kernels = sp_cpu_kernels(NULL);
}

static void test_pytorch_activations(void **state)
{
    static const struct {
        const char *name;
        sp_act act;
    } rows[] = {{"relu", SP_ACT_RELU},
                {"tanh", SP_ACT_TANH},
                {"sigmoid", SP_ACT_SIGMOID},
                {"silu", SP_ACT_SILU},
                {"gelu", SP_ACT_GELU}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        float *x = fixture(rows[i].name, "x", 33), *dy = fixture(rows[i].name, "dy", 33), y[33];
        sp_nn_act_forward(&nn, rows[i].act, 33, x, y);
        expect(rows[i].name, "y", 33, y, fixture(rows[i].name, "y", 33));
        sp_nn_act_backward(rows[i].act, 33, x, y, dy, dy);
        expect(rows[i].name, "dx", 33, dy, fixture(rows[i].name, "dx", 33));
        free(x), free(dy);
    }
}

static void test_pytorch_training(void **state)
{
    float *y = fixture("mse", "y", 40), *target = fixture("mse", "target", 40), dy[40];
    float loss = (float)sp_nn_mse(40, y, target, dy);
    expect("mse", "loss", 1, &loss, fixture("mse", "loss", 1));
    expect("mse", "dy", 40, dy, fixture("mse", "dy", 40));
    free(y), free(target);

    sp_nn_adam adam;
    assert_true(sp_nn_adam_init(&adam, &nn.alloc, 50, 1e-2));
    float *p = fixture("adam", "before", 50);
    for (int step = 0; step < 3; step++) {
        char key[16];
        snprintf(key, sizeof key, "grad%d", step);
        float *g = fixture("adam", key, 50);
        sp_nn_adam_step(&adam, p, g);
        snprintf(key, sizeof key, "after%d", step);
        expect("adam", key, 50, p, fixture("adam", key, 50));
        free(g);
    }
    free(p);
    sp_nn_adam_release(&adam, &nn.alloc);
}

/* Parameters whose gradients end, or are so small that their squares are not: nothing subnormal, in
 * which arithmetic is slow, is left behind. */
static void test_adam_fades(void **state)
{
    sp_nn_adam adam;
    float p[3] = {1, 1, 1}, none[3] = {0, 0, 1e-20f};
    assert_true(sp_nn_adam_init(&adam, &nn.alloc, 3, 1e-2));
    sp_nn_adam_step(&adam, p, (const float[]){1e-3f, -1, 1e-20f});
    for (int step = 0; step < 2000; step++) {
        sp_nn_adam_step(&adam, p, none);
        for (int i = 0; i < 3; i++)
            assert_true(fpclassify(adam.m[i]) != FP_SUBNORMAL &&
                        fpclassify(adam.v[i]) != FP_SUBNORMAL);
    }
    assert_true(adam.m[0] == 0 && adam.m[1] == 0 && adam.m[2] > 0 && adam.v[1] > 0);
    sp_nn_adam_release(&adam, &nn.alloc);
}

/* ---- against finite differences ---- */

/* The loss is sum(dy * y), so that its gradient by y is dy. */
static double loss_of(const subject *s, const float *params, const float *x, const float *dy,
                      float *y, float *cache)
{
    double sum = 0;
    s->forward(s, params, x, y, cache);
    for (size_t i = 0; i < s->rows * s->out; i++) sum += (double)y[i] * dy[i];
    return sum;
}

/* Central differences of order four: the step may be large enough for float32 to see the
 * difference. */
static void check_numeric(const subject *s, float *vary, size_t n, const float *analytic,
                          const float *params, const float *x, const float *dy, float *y,
                          float *cache)
{
    /* A ReLU (encoder) has kinks, at which differences see another slope than the derivative: the
     * smaller the step, the fewer it crosses, and the more rounding there is. */
    bool kinks = strcmp(s->name, "encoder") == 0;
    const float h = kinks ? 0.004f : 0.02f;
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        float keep = vary[i];
        double l[4];
        for (int k = 0; k < 4; k++) {
            vary[i] = keep + (float[]){-2, -1, 1, 2}[k] * h;
            l[k] = loss_of(s, params, x, dy, y, cache);
        }
        vary[i] = keep;
        double slope = (l[0] - 8 * l[1] + 8 * l[2] - l[3]) / (12 * (double)h);
        error += (slope - analytic[i]) * (slope - analytic[i]);
        norm += slope * slope;
    }
    if (!(sqrt(error) <= (kinks ? 1e-2 : 1e-3) * sqrt(norm)))
        fail_msg("%s: relative error of the gradient %g", s->name, sqrt(error / norm));
}

static void test_numeric(void **state)
{
    subject subjects[SUBJECTS];
    make_subjects(subjects);
    for (int j = 0; j < SUBJECTS; j++) {
        const subject *s = &subjects[j];
        size_t nx = s->rows * s->in, ny = s->rows * s->out;
        sp_nn_rng rng = {.key = 7};
        float *params = zeros(s->count), *x = zeros(nx), *dy = zeros(ny), *y = zeros(ny);
        float *dx = zeros(nx), *grads = zeros(s->count), *cache = zeros(s->cache),
              *work = zeros(s->cache);
        s->init(s, params, &rng);
        for (size_t i = 0; i < nx; i++) x[i] = (float)sp_nn_normal(&rng);
        for (size_t i = 0; i < ny; i++) dy[i] = (float)sp_nn_normal(&rng);
        s->forward(s, params, x, y, cache);
        s->backward(s, params, x, dy, dx, grads, cache, work);
        check_numeric(s, x, nx, dx, params, x, dy, y, cache);
        check_numeric(s, params, s->count, grads, params, x, dy, y, cache);
        /* Gradients add up: a second pass doubles them. */
        s->forward(s, params, x, y, cache);
        float *twice = zeros(s->count);
        memcpy(twice, grads, s->count * sizeof *twice);
        s->backward(s, params, x, dy, dx, twice, cache, work);
        for (size_t i = 0; i < s->count; i++)
            assert_true(fabsf(twice[i] - 2 * grads[i]) <= 1e-5f * (1 + fabsf(twice[i])));
        free(params), free(x), free(dy), free(y), free(dx), free(grads), free(cache), free(work);
        free(twice);
    }
}

/* ---- the rest ---- */

static void test_clip(void **state)
{
    float g[2] = {3, 4};
    assert_true(fabs(sp_nn_clip(2, g, 10) - 5) < 1e-6);
    assert_true(g[0] == 3 && g[1] == 4);
    sp_nn_clip(2, g, 1);
    assert_true(fabsf(g[0] - 0.6f) < 1e-6f && fabsf(g[1] - 0.8f) < 1e-6f);
}

/* Trains an MLP on XOR: the parts work together, and the seed fixes every bit. */
static double train_xor(uint64_t seed, float *params, size_t count, const sp_nn_mlp *mlp)
{
    static const float x[8] = {0, 0, 0, 1, 1, 0, 1, 1}, target[4] = {0, 1, 1, 0};
    float y[4], dy[4], *grads = zeros(count), *cache = zeros(sp_nn_mlp_cache(mlp, 4));
    float *work = zeros(sp_nn_mlp_cache(mlp, 4));
    sp_nn_rng rng = {.key = seed};
    sp_nn_adam adam;
    double loss = 0;
    assert_true(sp_nn_adam_init(&adam, &nn.alloc, count, 2e-2));
    sp_nn_mlp_init(mlp, params, &rng);
    for (int step = 0; step < 600; step++) {
        memset(grads, 0, count * sizeof *grads);
        sp_nn_mlp_forward(&nn, mlp, params, 4, x, y, cache);
        loss = sp_nn_mse(4, y, target, dy);
        sp_nn_mlp_backward(&nn, mlp, params, 4, x, dy, NULL, grads, cache, work);
        sp_nn_adam_step(&adam, params, grads);
    }
    sp_nn_adam_release(&adam, &nn.alloc);
    free(grads), free(cache), free(work);
    return loss;
}

static void test_learns(void **state)
{
    size_t count = 0;
    sp_nn_mlp mlp = sp_nn_mlp_make(&count, SP_ACT_TANH, 2, (size_t[]){2, 8, 1});
    float *a = zeros(count), *b = zeros(count);
    assert_true(train_xor(1, a, count, &mlp) < 1e-3);
    train_xor(1, b, count, &mlp);
    assert_memory_equal(a, b, count * sizeof *a);
    train_xor(2, b, count, &mlp);
    assert_memory_not_equal(a, b, count * sizeof *a);
    free(a), free(b);
}

static void test_no_memory(void **state)
{
    sp_mem small;
    sparoa_allocator alloc = sp_mem_init(&small, NULL, 64);
    sp_nn poor;
    sp_nn_init(&poor, sp_cpu_kernels(NULL), &alloc);
    size_t count = 0;
    sp_nn_linear l = sp_nn_linear_make(&count, 8, 8);
    float params[72] = {0}, x[8] = {0}, y[8];
    sp_nn_linear_forward(&poor, &l, params, 1, x, y);
    assert_true(poor.failed);
    sp_nn_release(&poor);
    assert_int_equal(atomic_load(&small.used), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pytorch_layers),   cmocka_unit_test(test_pytorch_activations),
        cmocka_unit_test(test_pytorch_training), cmocka_unit_test(test_adam_fades),
        cmocka_unit_test(test_numeric),          cmocka_unit_test(test_clip),
        cmocka_unit_test(test_learns),           cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, load_fixtures, free_all);
}
