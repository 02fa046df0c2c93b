/* The networks, forward and backward. What a network lacks is passed through. */
#include <math.h>
#include <string.h>

#include "predict/parts.h"

/* Rows of three neighbours, zeros beyond the ends. */
static void widen(size_t n, size_t w, const float *x, float *wide)
{
    for (size_t i = 0; i < n; i++, wide += 3 * w) {
        if (i)
            memcpy(wide, x + (i - 1) * w, w * sizeof(float));
        else
            memset(wide, 0, w * sizeof(float));
        memcpy(wide + w, x + i * w, w * sizeof(float));
        if (i + 1 < n)
            memcpy(wide + 2 * w, x + (i + 1) * w, w * sizeof(float));
        else
            memset(wide + 2 * w, 0, w * sizeof(float));
    }
}

static void narrow(size_t n, size_t w, const float *wide, float *dx)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < w; j++) {
            float sum = wide[i * 3 * w + w + j];
            if (i) sum += wide[(i - 1) * 3 * w + 2 * w + j];
            if (i + 1 < n) sum += wide[(i + 1) * 3 * w + j];
            dx[i * w + j] = sum;
        }
}

void sp_predict_forward(sp_predictor *p, size_t n, float *y)
{
    sp_predict_values *v = &p->values;
    sp_nn *nn = &p->nn;
    size_t w = p->shape.width, size = n * w;
    const float *at = v->x;
    if (p->has_embed) {
        sp_nn_linear_forward(nn, &p->embed, p->params, n, at, v->embedded);
        sp_nn_act_forward(nn, SP_ACT_RELU, size, v->embedded, v->bent);
        at = v->bent;
    }
    for (int i = 0; i < 2 && p->has_conv; i++) {
        widen(n, w, at, v->wide[i]);
        sp_nn_linear_forward(nn, &p->conv[i], p->params, n, v->wide[i], v->conv[i]);
        sp_nn_act_forward(nn, SP_ACT_RELU, size, v->conv[i], v->conv[i]);
        at = v->conv[i];
    }
    if (p->has_encoder) {
        sp_nn_encoder_forward(nn, &p->encoder, p->params, n, at, v->encoded, v->encoder);
        at = v->encoded;
    }
    if (p->has_lstm) { /* with the operator's own embedding beside what it learns of its neighbours
                        */
        sp_nn_lstm_forward(nn, &p->lstm, p->params, n, at, v->mixed, v->lstm);
        for (size_t i = 0; i < size; i++) v->sum[i] = at[i] + v->mixed[i];
        at = v->sum;
    }
    sp_nn_linear_forward(nn, &p->head, p->params, n, at, y);
    if (!p->has_embed) return;
    sp_nn_linear_forward(nn, &p->skip, p->params, n, v->x, v->out);
    for (size_t i = 0; i < n * SP_PREDICT_OUTPUTS; i++) y[i] += v->out[i];
}

static const float *before_head(const sp_predictor *p)
{
    const sp_predict_values *v = &p->values;
    return p->has_lstm      ? v->sum
           : p->has_encoder ? v->encoded
           : p->has_conv    ? v->conv[1]
           : p->has_embed   ? v->bent
                            : v->x;
}

void sp_predict_backward(sp_predictor *p, size_t n, const float *dy, float *grads)
{
    sp_predict_values *v = &p->values, *d = &p->work;
    sp_nn *nn = &p->nn;
    size_t w = p->shape.width, size = n * w;
    float *g = d->sum;
    sp_nn_linear_backward(nn, &p->head, p->params, n, before_head(p), dy, p->has_embed ? g : NULL,
                          grads);
    if (!p->has_embed) return;
    sp_nn_linear_backward(nn, &p->skip, p->params, n, v->x, dy, NULL, grads);
    if (p->has_lstm) {
        const float *in = p->has_encoder ? v->encoded : v->bent;
        sp_nn_lstm_backward(nn, &p->lstm, p->params, n, in, g, d->mixed, grads, v->lstm, d->lstm);
        for (size_t i = 0; i < size; i++) g[i] += d->mixed[i];
    }
    if (p->has_encoder) {
        sp_nn_encoder_backward(nn, &p->encoder, p->params, n, v->bent, g, d->encoded, grads,
                               v->encoder, d->encoder);
        g = d->encoded;
    }
    for (int i = 1; i >= 0 && p->has_conv; i--) {
        sp_nn_act_backward(SP_ACT_RELU, size, v->conv[i], v->conv[i], g, d->conv[i]);
        sp_nn_linear_backward(nn, &p->conv[i], p->params, n, v->wide[i], d->conv[i], d->wide[i],
                              grads);
        g = d->mixed;
        narrow(n, w, d->wide[i], g);
    }
    sp_nn_act_backward(SP_ACT_RELU, size, v->embedded, v->bent, g, d->bent);
    sp_nn_linear_backward(nn, &p->embed, p->params, n, v->x, d->bent, NULL, grads);
}
