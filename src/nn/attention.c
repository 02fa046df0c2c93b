/* Multi-head self-attention and the Transformer encoder layer. */
#include <math.h>
#include <string.h>

#include "nn/nn.h"

sp_nn_attention sp_nn_attention_make(size_t *count, size_t width, size_t heads)
{
    sp_nn_attention l = {.width = width, .heads = heads};
    l.qkv = sp_nn_linear_make(count, width, 3 * width);
    l.out = sp_nn_linear_make(count, width, width);
    return l;
}

void sp_nn_attention_init(const sp_nn_attention *l, float *params, sp_nn_rng *rng)
{
    sp_nn_linear_init(&l->qkv, params, rng);
    sp_nn_linear_init(&l->out, params, rng);
}

/* queries, keys, values [n][3 width]; mixed values [n][width]; weights [heads][n][n] */
size_t sp_nn_attention_cache(const sp_nn_attention *l, size_t n)
{
    return n * 4 * l->width + l->heads * n * n;
}

void sp_nn_attention_forward(sp_nn *nn, const sp_nn_attention *l, const float *params, size_t n,
                             const float *x, float *y, float *cache)
{
    size_t d = l->width, ld = 3 * d, size = d / l->heads;
    float *qkv = cache, *mixed = qkv + n * ld, *weights = mixed + n * d;
    sp_nn_linear_forward(nn, &l->qkv, params, n, x, qkv);
    for (size_t h = 0; h < l->heads; h++) {
        const float *q = qkv + h * size, *k = q + d, *v = k + d;
        float *w = weights + h * n * n;
        sp_nn_multiply(nn, &(sp_nn_product){.m = n,
                                            .n = n,
                                            .k = size,
                                            .a = q,
                                            .lda = ld,
                                            .b = k,
                                            .ldb = ld,
                                            .b_turned = true,
                                            .scale = 1 / sqrtf((float)size),
                                            .c = w,
                                            .ldc = n});
        nn->kernels->softmax_f32(n, n, w, w);
        sp_nn_multiply(nn, &(sp_nn_product){.m = n,
                                            .n = size,
                                            .k = n,
                                            .a = w,
                                            .lda = n,
                                            .b = v,
                                            .ldb = ld,
                                            .c = mixed + h * size,
                                            .ldc = d});
    }
    sp_nn_linear_forward(nn, &l->out, params, n, mixed, y);
}

/* dw -> gradient before the softmax, in place. */
static void softmax_backward(size_t n, const float *w, float *dw)
{
    for (size_t r = 0; r < n; r++, w += n, dw += n) {
        double dot = 0;
        for (size_t j = 0; j < n; j++) dot += (double)w[j] * dw[j];
        for (size_t j = 0; j < n; j++) dw[j] = w[j] * (dw[j] - (float)dot);
    }
}

static void head_backward(sp_nn *nn, size_t n, size_t d, size_t size, const float *qkv,
                          const float *w, const float *dmixed, float *dqkv, float *dw)
{
    size_t ld = 3 * d;
    const float *q = qkv, *k = q + d, *v = k + d;
    float *dq = dqkv, *dk = dq + d, *dv = dk + d, scale = 1 / sqrtf((float)size);
    sp_nn_product p = {.m = n,
                       .n = n,
                       .k = size,
                       .a = dmixed,
                       .lda = d,
                       .b = v,
                       .ldb = ld,
                       .b_turned = true,
                       .c = dw,
                       .ldc = n};
    sp_nn_multiply(nn, &p); /* dW = dO V^T */
    p = (sp_nn_product){.m = n,
                        .n = size,
                        .k = n,
                        .a = w,
                        .lda = n,
                        .a_turned = true,
                        .b = dmixed,
                        .ldb = d,
                        .c = dv,
                        .ldc = ld};
    sp_nn_multiply(nn, &p); /* dV = W^T dO */
    softmax_backward(n, w, dw);
    p = (sp_nn_product){.m = n,
                        .n = size,
                        .k = n,
                        .a = dw,
                        .lda = n,
                        .b = k,
                        .ldb = ld,
                        .scale = scale,
                        .c = dq,
                        .ldc = ld};
    sp_nn_multiply(nn, &p); /* dQ = dS K */
    p = (sp_nn_product){.m = n,
                        .n = size,
                        .k = n,
                        .a = dw,
                        .lda = n,
                        .a_turned = true,
                        .b = q,
                        .ldb = ld,
                        .scale = scale,
                        .c = dk,
                        .ldc = ld};
    sp_nn_multiply(nn, &p); /* dK = dS^T Q */
}

void sp_nn_attention_backward(sp_nn *nn, const sp_nn_attention *l, const float *params, size_t n,
                              const float *x, const float *dy, float *dx, float *grads,
                              const float *cache, float *work)
{
    size_t d = l->width, size = d / l->heads;
    const float *qkv = cache, *mixed = qkv + n * 3 * d, *weights = mixed + n * d;
    float *dqkv = work, *dmixed = dqkv + n * 3 * d, *dw = dmixed + n * d;
    sp_nn_linear_backward(nn, &l->out, params, n, mixed, dy, dmixed, grads);
    for (size_t h = 0; h < l->heads; h++)
        head_backward(nn, n, d, size, qkv + h * size, weights + h * n * n, dmixed + h * size,
                      dqkv + h * size, dw);
    sp_nn_linear_backward(nn, &l->qkv, params, n, x, dqkv, dx, grads);
}

sp_nn_encoder sp_nn_encoder_make(size_t *count, size_t width, size_t heads, size_t feed)
{
    sp_nn_encoder l;
    l.norm1 = sp_nn_norm_make(count, width);
    l.attention = sp_nn_attention_make(count, width, heads);
    l.norm2 = sp_nn_norm_make(count, width);
    l.up = sp_nn_linear_make(count, width, feed);
    l.down = sp_nn_linear_make(count, feed, width);
    return l;
}

void sp_nn_encoder_init(const sp_nn_encoder *l, float *params, sp_nn_rng *rng)
{
    sp_nn_norm_init(&l->norm1, params);
    sp_nn_attention_init(&l->attention, params, rng);
    sp_nn_norm_init(&l->norm2, params);
    sp_nn_linear_init(&l->up, params, rng);
    sp_nn_linear_init(&l->down, params, rng);
}

/* What lies in a cache: the results of the layer's steps in order. */
typedef struct encoder_cache {
    float *stats1, *normed1, *sum, *stats2, *normed2, *hidden, *active, *attention;
} encoder_cache;

static encoder_cache encoder_parts(const sp_nn_encoder *l, size_t n, float *p)
{
    size_t d = l->norm1.width, f = l->up.out;
    encoder_cache c = {.stats1 = p, .normed1 = p + 2 * n};
    c.sum = c.normed1 + n * d;
    c.stats2 = c.sum + n * d;
    c.normed2 = c.stats2 + 2 * n;
    c.hidden = c.normed2 + n * d;
    c.active = c.hidden + n * f;
    c.attention = c.active + n * f;
    return c;
}

size_t sp_nn_encoder_cache(const sp_nn_encoder *l, size_t n)
{
    return n * (4 + 3 * l->norm1.width + 2 * l->up.out) + sp_nn_attention_cache(&l->attention, n);
}

void sp_nn_encoder_forward(sp_nn *nn, const sp_nn_encoder *l, const float *params, size_t n,
                           const float *x, float *y, float *cache)
{
    encoder_cache c = encoder_parts(l, n, cache);
    size_t size = n * l->norm1.width;
    sp_nn_norm_forward(nn, &l->norm1, params, n, x, c.normed1, c.stats1);
    sp_nn_attention_forward(nn, &l->attention, params, n, c.normed1, c.sum, c.attention);
    for (size_t i = 0; i < size; i++) c.sum[i] += x[i];
    sp_nn_norm_forward(nn, &l->norm2, params, n, c.sum, c.normed2, c.stats2);
    sp_nn_linear_forward(nn, &l->up, params, n, c.normed2, c.hidden);
    sp_nn_act_forward(nn, SP_ACT_RELU, n * l->up.out, c.hidden, c.active);
    sp_nn_linear_forward(nn, &l->down, params, n, c.active, y);
    for (size_t i = 0; i < size; i++) y[i] += c.sum[i];
}

void sp_nn_encoder_backward(sp_nn *nn, const sp_nn_encoder *l, const float *params, size_t n,
                            const float *x, const float *dy, float *dx, float *grads,
                            const float *cache, float *work)
{
    encoder_cache c = encoder_parts(l, n, (float *)cache), w = encoder_parts(l, n, work);
    size_t size = n * l->norm1.width;
    sp_nn_linear_backward(nn, &l->down, params, n, c.active, dy, w.active, grads);
    sp_nn_act_backward(SP_ACT_RELU, n * l->up.out, c.hidden, c.active, w.active, w.hidden);
    sp_nn_linear_backward(nn, &l->up, params, n, c.normed2, w.hidden, w.normed2, grads);
    sp_nn_norm_backward(&l->norm2, params, n, c.sum, c.stats2, w.normed2, w.sum, grads);
    for (size_t i = 0; i < size; i++) w.sum[i] += dy[i];
    sp_nn_attention_backward(nn, &l->attention, params, n, c.normed1, w.sum, w.normed1, grads,
                             c.attention, w.attention);
    if (!dx) dx = w.normed2;
    sp_nn_norm_backward(&l->norm1, params, n, x, c.stats1, w.normed1, dx, grads);
    for (size_t i = 0; i < size; i++) dx[i] += w.sum[i];
}
