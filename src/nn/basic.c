/* Activations, layer normalisation, mean squared error, Adam. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "nn/nn.h"

#define NORM_EPSILON 1e-5f

void sp_nn_act_forward(sp_nn *nn, sp_act act, size_t n, const float *x, float *y)
{
    nn->kernels->act_f32(act, 0, 0, n, x, y);
}

static float slope(sp_act act, float x, float y)
{
    switch (act) {
    case SP_ACT_RELU: return x > 0 ? 1 : 0;
    case SP_ACT_TANH: return 1 - y * y;
    case SP_ACT_SIGMOID: return y * (1 - y);
    case SP_ACT_SILU: {
        float s = 1 / (1 + expf(-x));
        return s * (1 + x * (1 - s));
    }
    case SP_ACT_GELU:
        return 0.5f * (1 + erff(x * 0.70710678f)) + x * expf(-0.5f * x * x) * 0.39894228f;
    default: return 1;
    }
}

/* By far the most frequent: in place, so that the loop vectorises. */
static void relu_backward(size_t n, const float *restrict x, float *restrict d)
{
    for (size_t i = 0; i < n; i++) d[i] = x[i] > 0 ? d[i] : 0;
}

void sp_nn_act_backward(sp_act act, size_t n, const float *x, const float *y, const float *dy,
                        float *dx)
{
    if (act == SP_ACT_RELU) {
        if (dx != dy) memcpy(dx, dy, n * sizeof *dx);
        relu_backward(n, x, dx);
        return;
    }
    for (size_t i = 0; i < n; i++) dx[i] = dy[i] * slope(act, x[i], y[i]);
}

sp_nn_norm sp_nn_norm_make(size_t *count, size_t width)
{
    sp_nn_norm l = {.width = width, .scale = *count, .bias = *count + width};
    *count += 2 * width;
    return l;
}

void sp_nn_norm_init(const sp_nn_norm *l, float *params)
{
    for (size_t i = 0; i < l->width; i++) {
        params[l->scale + i] = 1;
        params[l->bias + i] = 0;
    }
}

void sp_nn_norm_forward(sp_nn *nn, const sp_nn_norm *l, const float *params, size_t rows,
                        const float *x, float *y, float *stats)
{
    nn->kernels->layernorm_f32(rows, l->width, true, NORM_EPSILON, x, params + l->scale,
                               params + l->bias, y, stats, stats + rows);
}

void sp_nn_norm_backward(const sp_nn_norm *l, const float *params, size_t rows, const float *x,
                         const float *stats, const float *dy, float *dx, float *grads)
{
    const float *scale = params + l->scale;
    float *dscale = grads + l->scale, *dbias = grads + l->bias;
    for (size_t r = 0; r < rows; r++, x += l->width, dy += l->width, dx += l->width) {
        float mean = stats[r], inverse = stats[rows + r];
        double sum = 0, product = 0;
        for (size_t j = 0; j < l->width; j++) {
            float h = (x[j] - mean) * inverse, g = dy[j] * scale[j];
            dscale[j] += dy[j] * h;
            dbias[j] += dy[j];
            sum += (double)g;
            product += (double)g * h;
        }
        float s = (float)(sum / (double)l->width), q = (float)(product / (double)l->width);
        for (size_t j = 0; j < l->width; j++)
            dx[j] = inverse * (dy[j] * scale[j] - s - (x[j] - mean) * inverse * q);
    }
}

double sp_nn_mse(size_t n, const float *y, const float *target, float *dy)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        float d = y[i] - target[i];
        sum += (double)d * d;
        if (dy) dy[i] = 2 * d / (float)n;
    }
    return n ? sum / (double)n : 0;
}

bool sp_nn_adam_init(sp_nn_adam *adam, const sparoa_allocator *alloc, size_t count, double rate)
{
    *adam =
        (sp_nn_adam){.count = count, .rate = rate, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};
    adam->m = sp_calloc(alloc, count, sizeof(float));
    adam->v = sp_calloc(alloc, count, sizeof(float));
    return adam->m && adam->v;
}

void sp_nn_adam_release(sp_nn_adam *adam, const sparoa_allocator *alloc)
{
    sp_free(alloc, adam->m, adam->count * sizeof(float));
    sp_free(alloc, adam->v, adam->count * sizeof(float));
    *adam = (sp_nn_adam){0};
}

/* Moments of parameters whose gradients stay zero fade: below the normal numbers, where processors
 * are slow, they no longer move anything. */
static float normal(float x)
{
    return fabsf(x) < FLT_MIN ? 0 : x;
}

void sp_nn_adam_step(sp_nn_adam *adam, float *params, const float *grads)
{
    double t = (double)++adam->step;
    float b1 = (float)adam->beta1, b2 = (float)adam->beta2, c1 = 1 - b1, c2 = 1 - b2;
    float rate = (float)(adam->rate / (1 - pow(adam->beta1, t)));
    float root = (float)(1 / sqrt(1 - pow(adam->beta2, t))), epsilon = (float)adam->epsilon;
    float *restrict m = adam->m, *restrict v = adam->v, *restrict p = params;
    const float *restrict g = grads;
    for (size_t i = 0; i < adam->count; i++) {
        m[i] = normal(b1 * m[i] + c1 * g[i]);
        v[i] = normal(b2 * v[i] + c2 * g[i] * g[i]);
        p[i] -= rate * m[i] / (sqrtf(v[i]) * root + epsilon);
    }
}

double sp_nn_clip(size_t count, float *grads, double most)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)grads[i] * grads[i];
    double norm = sqrt(sum);
    if (norm > most) {
        float f = (float)(most / norm);
        for (size_t i = 0; i < count; i++) grads[i] *= f;
    }
    return norm;
}
