/* Making and running predictors. */
#include "predict/predictor.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "predict/parts.h"
#include "sparoa_backend.h"

enum { MAX_WIDTH = 256, MAX_FEED = 1024 };

const char *sp_predict_net_name(sp_predict_net net)
{
    static const char *const names[] = {
#define X(name, text) text,
        SP_PREDICT_NET_MAP(X)
#undef X
    };
    return (unsigned)net < SP_PREDICT_NET_COUNT ? names[net] : "unknown";
}

static sparoa_status check(const sp_predict_shape *s, sparoa_error *err)
{
    if ((unsigned)s->net >= SP_PREDICT_NET_COUNT || s->features < 1 ||
        s->features > SP_PREDICT_MAX_FEATURES)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "predictor: net=%d, features=%u, expected 0..%d and 1..%d", (int)s->net,
                           s->features, SP_PREDICT_NET_COUNT - 1, SP_PREDICT_MAX_FEATURES);
    if (s->width < 2 || s->width > MAX_WIDTH || s->width % 2 || s->heads < 1 ||
        s->heads > s->width || s->width % s->heads || s->feed < 1 || s->feed > MAX_FEED)
        return sparoa_fail(
            err, SPAROA_INVALID_ARGUMENT, NULL,
            "predictor: width=%u, heads=%u, feed=%u, expected an even width up to %d "
            "that heads divide, feed 1..%d",
            s->width, s->heads, s->feed, MAX_WIDTH, MAX_FEED);
    return SPAROA_OK;
}

static void make_layers(sp_predictor *p)
{
    const sp_predict_shape *s = &p->shape;
    size_t w = s->width;
    p->has_embed = s->net != SP_PREDICT_LINEAR;
    p->has_conv = s->net == SP_PREDICT_CNN;
    p->has_encoder = s->net == SP_PREDICT_TRANSFORMER || s->net == SP_PREDICT_TRANSFORMER_LSTM;
    p->has_lstm = s->net == SP_PREDICT_LSTM || s->net == SP_PREDICT_TRANSFORMER_LSTM;
    if (p->has_embed) p->embed = sp_nn_linear_make(&p->count, s->features, w);
    for (int i = 0; i < 2 && p->has_conv; i++) p->conv[i] = sp_nn_linear_make(&p->count, 3 * w, w);
    if (p->has_encoder) p->encoder = sp_nn_encoder_make(&p->count, w, s->heads, s->feed);
    if (p->has_lstm) p->lstm = sp_nn_lstm_make(&p->count, w, w / 2);
    p->head = sp_nn_linear_make(&p->count, p->has_embed ? w : s->features, SP_PREDICT_OUTPUTS);
    if (p->has_embed) p->skip = sp_nn_linear_make(&p->count, s->features, SP_PREDICT_OUTPUTS);
}

static void take(sp_predictor *p, float **array, size_t floats, bool *ok)
{
    *array = *ok ? sp_arena_alloc(&p->arena, (floats + 1) * sizeof(float)) : NULL;
    *ok = *array != NULL;
}

static void take_values(sp_predictor *p, sp_predict_values *v, bool *ok)
{
    size_t n = SP_PREDICT_WINDOW, w = p->shape.width;
    take(p, &v->x, n * p->shape.features, ok);
    take(p, &v->embedded, n * w, ok);
    take(p, &v->bent, n * w, ok);
    for (int i = 0; i < 2; i++) {
        take(p, &v->wide[i], p->has_conv ? n * 3 * w : 0, ok);
        take(p, &v->conv[i], p->has_conv ? n * w : 0, ok);
    }
    take(p, &v->encoded, n * w, ok);
    take(p, &v->mixed, n * w, ok);
    take(p, &v->sum, n * w, ok);
    take(p, &v->out, n * SP_PREDICT_OUTPUTS, ok);
    take(p, &v->encoder, p->has_encoder ? sp_nn_encoder_cache(&p->encoder, n) : 0, ok);
    take(p, &v->lstm, p->has_lstm ? sp_nn_lstm_cache(&p->lstm, n) : 0, ok);
}

static bool take_all(sp_predictor *p)
{
    bool ok = true;
    take(p, &p->params, p->count, &ok);
    take(p, &p->mean, p->shape.features, &ok);
    take(p, &p->inverse, p->shape.features, &ok);
    take(p, &p->y, SP_PREDICT_WINDOW * SP_PREDICT_OUTPUTS, &ok);
    take(p, &p->dy, SP_PREDICT_WINDOW * SP_PREDICT_OUTPUTS, &ok);
    take_values(p, &p->values, &ok);
    take_values(p, &p->work, &ok);
    for (size_t i = 0; ok && i < p->shape.features; i++) p->inverse[i] = 1;
    return ok;
}

static void init_params(sp_predictor *p, uint64_t seed)
{
    sp_nn_rng rng = {.key = sp_rng_stream(seed, 0)};
    if (p->has_embed) sp_nn_linear_init(&p->embed, p->params, &rng);
    for (int i = 0; i < 2 && p->has_conv; i++) sp_nn_linear_init(&p->conv[i], p->params, &rng);
    if (p->has_encoder) sp_nn_encoder_init(&p->encoder, p->params, &rng);
    if (p->has_lstm) sp_nn_lstm_init(&p->lstm, p->params, &rng);
    sp_nn_linear_init(&p->head, p->params, &rng);
    if (p->has_embed) sp_nn_linear_init(&p->skip, p->params, &rng);
}

sparoa_status sp_predictor_create(const sparoa_allocator *alloc, const sp_kernels *kernels,
                                  const sp_predict_shape *shape, uint64_t seed, sp_predictor **made,
                                  sparoa_error *err)
{
    sp_predict_shape s = *shape;
    if (!s.width) s.width = 128;
    if (!s.heads) s.heads = 4;
    if (!s.feed) s.feed = 256;
    sparoa_status status = check(&s, err);
    if (status) return status;
    sp_predictor *p = sp_calloc(alloc, 1, sizeof *p);
    if (!p) return sp_no_memory(alloc, sizeof *p, err);
    p->alloc = *alloc;
    p->shape = s;
    sp_arena_init(&p->arena, alloc);
    sp_nn_init(&p->nn, kernels, alloc);
    make_layers(p);
    if (!take_all(p)) {
        status = sp_no_memory(alloc, p->count * sizeof(float), err);
        sp_predictor_destroy(p);
        return status;
    }
    init_params(p, seed);
    *made = p;
    return SPAROA_OK;
}

void sp_predictor_destroy(sp_predictor *p)
{
    if (!p) return;
    sparoa_allocator alloc = p->alloc;
    sp_nn_release(&p->nn);
    sp_arena_destroy(&p->arena);
    sp_free(&alloc, p, sizeof *p);
}

const sp_predict_shape *sp_predictor_shape(const sp_predictor *p)
{
    return &p->shape;
}

size_t sp_predictor_params(const sp_predictor *p)
{
    return p->count;
}

bool sp_predictor_outside(const sp_predictor *p, const float *features)
{
    for (size_t j = 0; j < p->shape.features; j++)
        if (!(fabsf((features[j] - p->mean[j]) * p->inverse[j]) <= SP_PREDICT_FAR)) return true;
    return false;
}

size_t sp_predict_normalise(sp_predictor *p, size_t n, const float *features)
{
    size_t f = p->shape.features, outside = 0;
    for (size_t i = 0; i < n; i++) {
        outside += sp_predictor_outside(p, features + i * f);
        for (size_t j = 0; j < f; j++) {
            float z = (features[i * f + j] - p->mean[j]) * p->inverse[j];
            p->values.x[i * f + j] =
                isfinite(z) ? fminf(fmaxf(z, -SP_PREDICT_FAR), SP_PREDICT_FAR) : 0;
        }
    }
    return outside;
}

size_t sp_predict_windows(size_t n)
{
    return n / SP_PREDICT_WINDOW + (n % SP_PREDICT_WINDOW != 0);
}

size_t sp_predict_window(size_t n, size_t count, size_t i)
{
    size_t size = n / count, larger = n % count;
    return i * size + (i < larger ? i : larger);
}

sparoa_status sp_predictor_run(sp_predictor *p, size_t n, const float *features, float *thresholds,
                               size_t *outside, sparoa_error *err)
{
    size_t count = sp_predict_windows(n), far = 0;
    for (size_t i = 0; i < count; i++) {
        size_t first = sp_predict_window(n, count, i),
               m = sp_predict_window(n, count, i + 1) - first;
        far += sp_predict_normalise(p, m, features + first * p->shape.features);
        sp_predict_forward(p, m, p->y);
        if (p->nn.failed) return sp_no_memory(&p->alloc, p->nn.packed_floats * sizeof(float), err);
        for (size_t j = 0; j < m * SP_PREDICT_OUTPUTS; j++)
            thresholds[first * SP_PREDICT_OUTPUTS + j] = fminf(fmaxf(p->y[j], 0), 1);
    }
    if (outside) *outside = far;
    return SPAROA_OK;
}
