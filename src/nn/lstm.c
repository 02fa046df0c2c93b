/* Bidirectional LSTM: the products with x for the whole sequence at once, those with h step by
 * step. */
#include <math.h>
#include <string.h>

#include "nn/nn.h"

sp_nn_lstm sp_nn_lstm_make(size_t *count, size_t in, size_t hidden)
{
    sp_nn_lstm l = {.in = in, .hidden = hidden};
    for (int d = 0; d < 2; d++) {
        l.x[d] = sp_nn_linear_make(count, in, 4 * hidden);
        l.h[d] = *count;
        *count += hidden * 4 * hidden;
    }
    return l;
}

void sp_nn_lstm_init(const sp_nn_lstm *l, float *params, sp_nn_rng *rng)
{
    double bound = 1 / sqrt((double)l->hidden);
    for (int d = 0; d < 2; d++) {
        sp_nn_fill(params + l->x[d].w, (l->in + 1) * 4 * l->hidden, bound, rng);
        sp_nn_fill(params + l->h[d], l->hidden * 4 * l->hidden, bound, rng);
    }
}

/* Of one direction: gates [n][4 hidden], cell [n][hidden], tanh of it, output
 * [n][hidden]. */
typedef struct lstm_cache {
    float *gates, *cell, *bent, *out;
} lstm_cache;

static size_t direction_floats(const sp_nn_lstm *l, size_t n)
{
    return 7 * n * l->hidden;
}

static lstm_cache lstm_parts(const sp_nn_lstm *l, size_t n, int direction, float *p)
{
    size_t size = n * l->hidden;
    p += (size_t)direction * direction_floats(l, n);
    return (lstm_cache){p, p + 4 * size, p + 5 * size, p + 6 * size};
}

size_t sp_nn_lstm_cache(const sp_nn_lstm *l, size_t n)
{
    return 2 * direction_floats(l, n);
}

static void step_forward(sp_nn *nn, size_t h, float *gates, const float *cell_before, float *cell,
                         float *bent, float *out)
{
    sp_nn_act_forward(nn, SP_ACT_SIGMOID, 2 * h, gates, gates);
    sp_nn_act_forward(nn, SP_ACT_TANH, h, gates + 2 * h, gates + 2 * h);
    sp_nn_act_forward(nn, SP_ACT_SIGMOID, h, gates + 3 * h, gates + 3 * h);
    const float *i = gates, *f = i + h, *g = f + h, *o = g + h;
    for (size_t j = 0; j < h; j++)
        cell[j] = (cell_before ? f[j] * cell_before[j] : 0) + i[j] * g[j];
    sp_nn_act_forward(nn, SP_ACT_TANH, h, cell, bent);
    for (size_t j = 0; j < h; j++) out[j] = o[j] * bent[j];
}

static void direction_forward(sp_nn *nn, const sp_nn_lstm *l, const float *params, size_t n, int d,
                              const float *x, float *cache)
{
    size_t h = l->hidden;
    lstm_cache c = lstm_parts(l, n, d, cache);
    const sp_kernels *k = nn->kernels;
    sp_nn_linear_forward(nn, &l->x[d], params, n, x, c.gates);
    sp_gemm_f32 g;
    if (!sp_nn_prepare(nn,
                       &(sp_nn_product){.m = 1,
                                        .n = 4 * h,
                                        .k = h,
                                        .lda = h,
                                        .b = params + l->h[d],
                                        .ldb = 4 * h,
                                        .ldc = 4 * h,
                                        .add = true},
                       &g))
        return;
    size_t panels = k->gemm_f32_panels(4 * h), before = 0;
    for (size_t s = 0; s < n; s++) {
        size_t t = d ? n - 1 - s : s;
        if (s) {
            g.a = c.out + before * h;
            g.c = c.gates + t * 4 * h;
            g.residual = g.c;
            k->gemm_f32(&g, 0, 1, 0, panels);
        }
        step_forward(nn, h, c.gates + t * 4 * h, s ? c.cell + before * h : NULL, c.cell + t * h,
                     c.bent + t * h, c.out + t * h);
        before = t;
    }
}

void sp_nn_lstm_forward(sp_nn *nn, const sp_nn_lstm *l, const float *params, size_t n,
                        const float *x, float *y, float *cache)
{
    size_t h = l->hidden;
    for (int d = 0; d < 2 && n > 0; d++) {
        direction_forward(nn, l, params, n, d, x, cache);
        lstm_cache c = lstm_parts(l, n, d, cache);
        for (size_t t = 0; t < n; t++)
            memcpy(y + t * 2 * h + (size_t)d * h, c.out + t * h, h * sizeof(float));
    }
}

/* dh, dcell: gradients that arrive from the step after; dcell leaves as that of the step before. */
static void step_backward(size_t h, const lstm_cache *c, size_t t, const float *cell_before,
                          const float *dh, float *dcell, float *dgates)
{
    const float *i = c->gates + t * 4 * h, *f = i + h, *g = f + h, *o = g + h,
                *bent = c->bent + t * h;
    float *di = dgates, *df = di + h, *dg = df + h, *dout = dg + h;
    for (size_t j = 0; j < h; j++) {
        float dc = dcell[j] + dh[j] * o[j] * (1 - bent[j] * bent[j]);
        di[j] = dc * g[j] * i[j] * (1 - i[j]);
        df[j] = cell_before ? dc * cell_before[j] * f[j] * (1 - f[j]) : 0;
        dg[j] = dc * i[j] * (1 - g[j] * g[j]);
        dout[j] = dh[j] * bent[j] * o[j] * (1 - o[j]);
        dcell[j] = dc * f[j];
    }
}

static void direction_backward(sp_nn *nn, const sp_nn_lstm *l, const float *params, size_t n, int d,
                               const float *x, const float *dy, float *dx, float *grads,
                               const float *cache, float *work)
{
    size_t h = l->hidden;
    lstm_cache c = lstm_parts(l, n, d, (float *)cache), w = lstm_parts(l, n, d, work);
    float *dh = w.cell, *dcell = w.bent; /* one row of each */
    memset(dh, 0, h * sizeof(float));
    memset(dcell, 0, h * sizeof(float));
    const sp_kernels *k = nn->kernels;
    sp_nn_product p = {.m = 1,
                       .n = h,
                       .k = 4 * h,
                       .lda = 4 * h,
                       .b = params + l->h[d],
                       .ldb = 4 * h,
                       .b_turned = true,
                       .c = dh,
                       .ldc = h};
    sp_gemm_f32 g;
    if (!sp_nn_prepare(nn, &p, &g)) return;
    size_t panels = k->gemm_f32_panels(h);
    for (size_t s = n; s-- > 0;) {
        size_t t = d ? n - 1 - s : s, before = d ? t + 1 : t - 1;
        for (size_t j = 0; j < h; j++) dh[j] += dy[t * 2 * h + (size_t)d * h + j];
        step_backward(h, &c, t, s ? c.cell + before * h : NULL, dh, dcell, w.gates + t * 4 * h);
        g.a = w.gates + t * 4 * h;
        if (s) k->gemm_f32(&g, 0, 1, 0, panels);
        /* The output of the step before, in line with the gates it went into. */
        if (s)
            memcpy(w.out + t * h, c.out + before * h, h * sizeof(float));
        else
            memset(w.out + t * h, 0, h * sizeof(float));
    }
    p = (sp_nn_product){.m = h,
                        .n = 4 * h,
                        .k = n,
                        .a = w.out,
                        .lda = h,
                        .a_turned = true,
                        .b = w.gates,
                        .ldb = 4 * h,
                        .add = true,
                        .c = grads + l->h[d],
                        .ldc = 4 * h};
    sp_nn_multiply(nn, &p);
    sp_nn_linear_backward(nn, &l->x[d], params, n, x, w.gates, NULL, grads);
    if (!dx) return;
    p = (sp_nn_product){.m = n,
                        .n = l->in,
                        .k = 4 * h,
                        .a = w.gates,
                        .lda = 4 * h,
                        .b = params + l->x[d].w,
                        .ldb = 4 * h,
                        .b_turned = true,
                        .add = d == 1,
                        .c = dx,
                        .ldc = l->in};
    sp_nn_multiply(nn, &p);
}

void sp_nn_lstm_backward(sp_nn *nn, const sp_nn_lstm *l, const float *params, size_t n,
                         const float *x, const float *dy, float *dx, float *grads,
                         const float *cache, float *work)
{
    for (int d = 0; d < 2 && n > 0; d++)
        direction_backward(nn, l, params, n, d, x, dy, dx, grads, cache, work);
}
