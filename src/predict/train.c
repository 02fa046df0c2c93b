/* Training of predictors. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "predict/parts.h"
#include "sparoa_backend.h"

typedef struct window {
    size_t first, n; /* operators, counted over all sequences */
} window;

typedef struct run {
    sp_predictor *p;
    const sp_predict_data *data;
    sp_predict_training t;
    size_t rows, count; /* operators; windows */
    window *windows;
    float *grads;
    sp_nn_adam adam;
} run;

static sparoa_status check(run *r, sparoa_error *err)
{
    const sp_predict_data *d = r->data;
    size_t f = r->p->shape.features;
    for (size_t i = 0; i < d->sequences; i++) {
        r->rows += d->lengths[i];
        r->count += sp_predict_windows(d->lengths[i]);
    }
    if (!r->rows || r->t.batch > 4096 || !(r->t.rate > 0 && r->t.rate <= 1))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "training: %zu operators, batch=%u, rate=%g, expected some, at most "
                           "4096, 0..1",
                           r->rows, r->t.batch, r->t.rate);
    for (size_t i = 0; i < r->rows * SP_PREDICT_OUTPUTS; i++)
        if (!(d->labels[i] >= 0 && d->labels[i] <= 1))
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "training: label %zu of operator %zu is %g, expected 0..1",
                               i % SP_PREDICT_OUTPUTS, i / SP_PREDICT_OUTPUTS,
                               (double)d->labels[i]);
    for (size_t k = 0; r->t.guess && k < SP_PREDICT_OUTPUTS; k++)
        if (r->t.guess[k] >= f)
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "training: guess[%zu]=%u, expected a feature, 0..%zu", k,
                               r->t.guess[k], f - 1);
    for (size_t i = 0; i < r->rows * f; i++)
        if (!isfinite(d->features[i]))
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "training: feature %zu of operator %zu is not finite", i % f, i / f);
    return SPAROA_OK;
}

/* Mean and deviation of each feature; one that never changes is left out (inverse 0). A rare value
 * far from the mean (a kind of operator) makes the scale smaller, so that it counts as known. */
static void scale_features(run *r)
{
    size_t f = r->p->shape.features;
    for (size_t j = 0; j < f; j++) {
        double sum = 0, squares = 0, farthest = 0, n = (double)r->rows;
        for (size_t i = 0; i < r->rows; i++) sum += (double)r->data->features[i * f + j];
        double mean = sum / n;
        for (size_t i = 0; i < r->rows; i++) {
            double d = (double)r->data->features[i * f + j] - mean;
            squares += d * d;
            farthest = fmax(farthest, fabs(d));
        }
        double deviation = sqrt(squares / n);
        r->p->mean[j] = (float)mean;
        double scale = fmax(deviation, farthest / (0.999 * (double)SP_PREDICT_FAR));
        bool used = deviation > 1e-6 && (!r->t.use || j < r->t.use);
        r->p->inverse[j] = used ? (float)(1 / scale) : 0;
    }
}

/* Starts with y = the guesses: all that adds to y is 0 at first. */
static void start_from_guess(run *r)
{
    sp_predictor *p = r->p;
    const sp_nn_linear *skip = p->has_embed ? &p->skip : &p->head, *head = &p->head;
    memset(p->params + head->w, 0, (head->in + 1) * SP_PREDICT_OUTPUTS * sizeof(float));
    memset(p->params + skip->w, 0, (skip->in + 1) * SP_PREDICT_OUTPUTS * sizeof(float));
    for (size_t k = 0; k < SP_PREDICT_OUTPUTS; k++) {
        size_t j = r->t.guess[k];
        if (!(p->inverse[j] > 0)) continue;
        p->params[skip->w + j * SP_PREDICT_OUTPUTS + k] = 1 / p->inverse[j];
        p->params[skip->b + k] = p->mean[j];
    }
}

static void cut(run *r)
{
    size_t first = 0, k = 0;
    for (size_t s = 0; s < r->data->sequences; s++) {
        size_t n = r->data->lengths[s], count = sp_predict_windows(n);
        for (size_t i = 0; i < count; i++) {
            size_t at = sp_predict_window(n, count, i);
            r->windows[k++] = (window){first + at, sp_predict_window(n, count, i + 1) - at};
        }
        first += n;
    }
}

static void shuffle(run *r, sp_nn_rng *rng)
{
    for (size_t i = r->count; i > 1; i--) {
        size_t j = sp_nn_below(rng, i);
        window w = r->windows[i - 1];
        r->windows[i - 1] = r->windows[j];
        r->windows[j] = w;
    }
}

/* A label at a bound is met by all that lies beyond it by the margin: it is cut off when it is
 * used.
 */
static float error(float y, float label, float margin)
{
    if (label <= 0) return fmaxf(y + margin, 0);
    if (label >= 1) return fminf(y - 1 - margin, 0);
    return y - label;
}

/* The windows first..last-1, one step. Returns the sum of squared errors. */
static double step(run *r, size_t first, size_t last)
{
    sp_predictor *p = r->p;
    size_t f = p->shape.features, total = 0;
    double loss = 0;
    memset(r->grads, 0, p->count * sizeof(float));
    for (size_t i = first; i < last; i++) total += r->windows[i].n;
    for (size_t i = first; i < last; i++) {
        const window *w = &r->windows[i];
        sp_predict_normalise(p, w->n, r->data->features + w->first * f);
        sp_predict_forward(p, w->n, p->y);
        const float *label = r->data->labels + w->first * SP_PREDICT_OUTPUTS;
        for (size_t j = 0; j < w->n * SP_PREDICT_OUTPUTS; j++) {
            float e = error(p->y[j], label[j], (float)r->t.margin);
            float limit = (float)r->t.limit[j % SP_PREDICT_OUTPUTS];
            loss += (double)e * (double)e;
            if (limit > 0) e = fminf(fmaxf(e, -limit), limit) / limit;
            p->dy[j] = e / (float)total;
        }
        sp_predict_backward(p, w->n, p->dy, r->grads);
    }
    sp_nn_clip(p->count, r->grads, 1);
    sp_nn_adam_step(&r->adam, p->params, r->grads);
    return loss;
}

static sparoa_status epochs(run *r, sparoa_error *err)
{
    sp_nn_rng rng = {.key = sp_rng_stream(r->t.seed, 3)};
    size_t steps = (r->count + r->t.batch - 1) / r->t.batch;
    for (uint32_t e = 0; e < r->t.epochs; e++) {
        double loss = 0;
        shuffle(r, &rng);
        for (size_t s = 0; s < steps; s++) {
            double done = ((double)e + (double)s / (double)steps) / r->t.epochs;
            size_t last = (s + 1) * r->t.batch;
            r->adam.rate = r->t.rate * (0.5 + 0.5 * cos(3.141592653589793 * done)) + 1e-6;
            loss += step(r, s * r->t.batch, last < r->count ? last : r->count);
            if (r->p->nn.failed) return sp_no_memory(&r->p->alloc, 0, err);
        }
        loss /= (double)r->rows * SP_PREDICT_OUTPUTS;
        if (r->t.progress && !r->t.progress(r->t.user, e + 1, loss)) break;
    }
    return SPAROA_OK;
}

sparoa_status sp_predictor_train(sp_predictor *p, const sp_predict_data *data,
                                 const sp_predict_training *training, sparoa_error *err)
{
    run r = {.p = p, .data = data, .t = *training};
    if (!r.t.epochs) r.t.epochs = 100;
    if (!r.t.batch) r.t.batch = 8;
    if (r.t.rate == 0) r.t.rate = 1e-3;
    sparoa_status status = check(&r, err);
    if (status) return status;
    size_t windows_bytes = r.count * sizeof *r.windows, bytes = p->count * sizeof(float);
    r.windows = sp_alloc(&p->alloc, windows_bytes);
    r.grads = sp_alloc(&p->alloc, bytes);
    if (r.windows && r.grads && sp_nn_adam_init(&r.adam, &p->alloc, p->count, r.t.rate)) {
        if (!r.t.keep_scale) scale_features(&r);
        if (r.t.guess) start_from_guess(&r);
        cut(&r);
        status = epochs(&r, err);
    } else {
        status = sp_no_memory(&p->alloc, bytes, err);
    }
    sp_nn_adam_release(&r.adam, &p->alloc);
    sp_free(&p->alloc, r.windows, windows_bytes);
    sp_free(&p->alloc, r.grads, bytes);
    return status;
}
