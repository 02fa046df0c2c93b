/* Operators that no model has: parts of models put together anew, and architectures drawn at
 * random.
 */
#include <math.h>

#include "predict/examples.h"

static void prune(sp_predict_op *op, double zeros)
{
    if (op->work.cost.bytes_w > 0 && op->work.cost.flops > 0) op->work.weight_zeros = zeros;
}

void sp_predict_prune(sp_predict_op *ops, size_t count, sp_nn_rng *rng)
{
    double level = 0.5 + 0.48 * sp_nn_uniform(rng);
    for (size_t i = 0; i < count; i++)
        prune(&ops[i], fmin(level * exp(0.05 * sp_nn_normal(rng)), 0.99));
}

static bool trainable(const sp_predict_model *m, sp_regime regime)
{
    return !m->held && m->regime == regime;
}

void sp_predict_recombine(const sp_predict_corpus *c, sp_regime regime, sp_nn_rng *rng,
                          sp_predict_op *ops, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < c->model_count && !any; i++) any = trainable(&c->models[i], regime);
    if (!any) {
        sp_predict_invent(regime, rng, ops, count);
        return;
    }
    double level = sp_nn_below(rng, 2) ? sp_nn_uniform(rng) : 0;
    for (size_t i = 0; i < count;) {
        const sp_predict_model *m = &c->models[sp_nn_below(rng, c->model_count)];
        if (!trainable(m, regime)) continue;
        size_t first = sp_nn_below(rng, m->count), run = 1 + sp_nn_below(rng, 12);
        double area = exp(1.5 * sp_nn_normal(rng)), width = exp(0.5 * sp_nn_normal(rng));
        for (size_t k = first; k < m->count && run > 0 && i < count; k++, run--) {
            sp_predict_op o = c->ops[m->first + k];
            bool product = o.work.cost.bytes_w > 0 && o.work.kind != SP_KIND_DEPTHWISE;
            o.work.cost.flops *= area * width * (product ? width : 1);
            o.work.cost.bytes_in *= area * width;
            o.work.cost.bytes_out *= area * width;
            o.work.cost.bytes_w *= width * (product ? width : 1);
            o.channels *= width;
            o.pixels *= area;
            if (sp_nn_below(rng, 2)) o.work.input_zeros = sp_nn_uniform(rng);
            if (level > 0) prune(&o, fmin(level * exp(0.1 * sp_nn_normal(rng)), 0.99));
            ops[i++] = o;
        }
    }
}

/* ---- architectures ---- */

/* An architecture under construction: its activations are batch x channels x side x side, or batch
 * x tokens x channels. */
typedef struct maker {
    sp_predict_op *ops;
    size_t used, room;
    sp_regime regime;
    sp_nn_rng *rng;
    double batch, channels, side; /* side: square root of the pixels */
    double zeros;                 /* of the latest activation */
    double pruned;                /* share of zeros in weights */
} maker;

static double choose(maker *m, const double *list, size_t count)
{
    return list[sp_nn_below(m->rng, count)];
}
#define CHOOSE(m, ...)                                                                             \
    choose(m, (const double[]){__VA_ARGS__}, sizeof((const double[]){__VA_ARGS__}) / sizeof(double))

static double elements(const maker *m)
{
    return m->batch * m->channels * m->side * m->side;
}

static void add(maker *m, int kind, double flops, double in, double weights, double out,
                double kernel, double stride, double groups)
{
    if (m->used == m->room) return;
    m->ops[m->used++] = (sp_predict_op){.work = {.kind = kind,
                                                 .cost = {flops, 4 * in, 4 * weights, 4 * out},
                                                 .weight_zeros = weights > 0 ? m->pruned : 0,
                                                 .input_zeros = m->zeros},
                                        .batch = m->batch,
                                        .channels = m->channels,
                                        .pixels = m->side * m->side,
                                        .kernel = kernel,
                                        .stride = stride,
                                        .groups = groups};
    m->zeros = 0;
}

/* Something per element: an activation, a normalisation. Fused into what comes before in the graph
 * regime where it can be. */
static void pointwise(maker *m, int kind, double flops, bool fuses, double zeros)
{
    double n = elements(m);
    if (!fuses || m->regime == SP_REGIME_EAGER)
        add(m, kind, flops * n, n, kind == SPAROA_CLASS_NORM ? 2 * m->channels : 0, n, 1, 1, 1);
    m->zeros = zeros;
}

static double zeros_after(maker *m)
{
    return sp_nn_below(m->rng, 2) ? 0.3 + 0.5 * sp_nn_uniform(m->rng) : 0;
}

static void conv(maker *m, double channels, double kernel, double stride, double groups)
{
    double in = elements(m), from = m->channels;
    m->side = fmax(ceil(m->side / stride), 1);
    m->channels = channels;
    double n = elements(m), weights = kernel * kernel * from / groups * channels;
    int kind = groups > 1 && groups == from ? SP_KIND_DEPTHWISE : SPAROA_CLASS_CONV;
    add(m, kind, 2 * n * kernel * kernel * from / groups, in, weights + channels, n, kernel, stride,
        groups);
}

static void conv_act(maker *m, double channels, double kernel, double stride, double groups)
{
    conv(m, channels, kernel, stride, groups);
    if (sp_nn_below(m->rng, 4) == 0) pointwise(m, SPAROA_CLASS_NORM, 4, true, 0);
    pointwise(m, SPAROA_CLASS_ELTWISE, 1, true, zeros_after(m));
}

static void sum_with_skip(maker *m)
{
    if (m->regime != SP_REGIME_EAGER) return;
    double n = elements(m);
    add(m, SPAROA_CLASS_ELTWISE, n, 2 * n, 0, n, 1, 1, 1);
}

/* rows x depth times depth x channels; weights: the second operand is one. */
static void gemm(maker *m, double rows, double depth, double channels, bool weights)
{
    double n = depth * channels;
    m->channels = channels;
    add(m, SPAROA_CLASS_GEMM, 2 * rows * n, rows * depth + (weights ? 0 : n * m->batch),
        weights ? n + channels : 0, rows * channels, 1, 1, 1);
}

static void squeeze_excite(maker *m)
{
    double c = m->channels, side = m->side, inner = ceil(c / 4);
    add(m, SPAROA_CLASS_POOL, elements(m), elements(m), 0, m->batch * c, side, 1, 1);
    m->side = 1;
    conv_act(m, inner, 1, 1, 1);
    conv_act(m, c, 1, 1, 1);
    m->side = side;
    add(m, SPAROA_CLASS_ELTWISE, elements(m), elements(m) + m->batch * c, 0, elements(m), 1, 1, 1);
}

static void stage(maker *m, int style, double channels)
{
    double from = m->channels, stride = CHOOSE(m, 1, 2, 2), kernel = CHOOSE(m, 3, 3, 5);
    if (style == 0) { /* plain or residual */
        conv_act(m, channels, kernel, stride, 1);
        conv_act(m, channels, kernel, 1, 1);
        if (sp_nn_below(m->rng, 2)) sum_with_skip(m);
    } else if (style == 1) { /* bottleneck */
        conv_act(m, ceil(channels / 4), 1, 1, 1);
        conv_act(m, ceil(channels / 4), 3, stride, CHOOSE(m, 1, 1, 1, 8));
        conv_act(m, channels, 1, 1, 1);
        sum_with_skip(m);
    } else { /* inverted residual, or depthwise separable */
        double wide = style == 2 ? ceil(from * CHOOSE(m, 2, 4, 6)) : from;
        if (style == 2) conv_act(m, wide, 1, 1, 1);
        conv_act(m, wide, kernel, stride, wide);
        if (sp_nn_below(m->rng, 3) == 0) squeeze_excite(m);
        conv(m, channels, 1, 1, 1);
        if (style == 2) sum_with_skip(m);
    }
    if (sp_nn_below(m->rng, 5) == 0) { /* up again, as decoders do */
        double n = elements(m);
        m->side *= 2;
        add(m, SPAROA_CLASS_MOVE, 0, n, 0, elements(m), 1, 1, 1);
    }
    if (m->side > 1024) conv_act(m, m->channels, 3, 4, 1);
}

static void convolutional(maker *m)
{
    int style = (int)sp_nn_below(m->rng, 4);
    m->side = CHOOSE(m, 28, 64, 96, 128, 160, 192, 224, 256, 320, 416, 512);
    m->channels = CHOOSE(m, 1, 3, 3, 3);
    double channels = CHOOSE(m, 8, 16, 24, 32, 48, 64);
    conv_act(m, channels, CHOOSE(m, 3, 5, 7), 2, 1);
    if (sp_nn_below(m->rng, 2)) {
        m->side = ceil(m->side / 2);
        add(m, SPAROA_CLASS_POOL, 9 * elements(m), 4 * elements(m), 0, elements(m), 3, 2, 1);
    }
    for (int s = 0; s < 5; s++) {
        size_t blocks = 1 + sp_nn_below(m->rng, 3);
        for (size_t b = 0; b < blocks && m->side >= 2; b++) stage(m, style, channels);
        channels = fmin(ceil(channels * CHOOSE(m, 1, 1.5, 2, 2)), 2048);
    }
    double depth = m->channels, classes = CHOOSE(m, 2, 10, 100, 1000);
    add(m, SPAROA_CLASS_POOL, elements(m), elements(m), 0, m->batch * depth, m->side, 1, 1);
    m->side = 1;
    add(m, SP_KIND_VIEW, 0, m->batch * depth, 0, m->batch * depth, 1, 1, 1);
    gemm(m, m->batch, depth, classes, true);
    pointwise(m, SPAROA_CLASS_REDUCE, 5, false, 0);
}

/* One block over `tokens` of width d. */
static void attention_block(maker *m, double tokens, double d, double heads, double ratio)
{
    double rows = m->batch * tokens, n = rows * d, scores = m->batch * heads * tokens * tokens;
    m->side = sqrt(tokens);
    m->channels = d;
    pointwise(m, SPAROA_CLASS_NORM, 8, false, 0);
    gemm(m, rows, d, 3 * d, true);
    add(m, SP_KIND_VIEW, 0, 3 * n, 0, 3 * n, 1, 1, 1);
    add(m, SPAROA_CLASS_MOVE, 0, 3 * n, 0, 3 * n, 1, 1, 1);
    m->channels = d;
    if (m->regime == SP_REGIME_GRAPH) {
        add(m, SPAROA_CLASS_ATTENTION, 4 * scores * d / heads + 5 * scores, 3 * n, 0, n, 1, 1, 1);
    } else {
        add(m, SPAROA_CLASS_GEMM, 2 * scores * d / heads, 2 * n, 0, scores, 1, 1, 1);
        add(m, SPAROA_CLASS_ELTWISE, scores, scores, 0, scores, 1, 1, 1);
        add(m, SPAROA_CLASS_REDUCE, 5 * scores, scores, 0, scores, 1, 1, 1);
        add(m, SPAROA_CLASS_GEMM, 2 * scores * d / heads, scores + n, 0, n, 1, 1, 1);
        add(m, SPAROA_CLASS_MOVE, 0, n, 0, n, 1, 1, 1);
    }
    gemm(m, rows, d, d, true);
    sum_with_skip(m);
    pointwise(m, SPAROA_CLASS_NORM, 8, false, 0);
    gemm(m, rows, d, ceil(ratio * d), true);
    pointwise(m, SPAROA_CLASS_ELTWISE, CHOOSE(m, 1, 4, 8), true, 0);
    gemm(m, rows, ceil(ratio * d), d, true);
    sum_with_skip(m);
}

static void transformer(maker *m)
{
    double d = CHOOSE(m, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024),
           heads = fmax(floor(d / 64), 1),
           tokens = CHOOSE(m, 8, 16, 32, 49, 64, 128, 196, 256, 384, 577, 1024),
           ratio = CHOOSE(m, 2, 3, 4, 4);
    double window =
        sp_nn_below(m->rng, 3) ? 1 : CHOOSE(m, 4, 16, 64); /* attention within windows */
    m->batch *= window;
    tokens = ceil(tokens / window);
    m->channels = d, m->side = sqrt(tokens);
    add(m, SPAROA_CLASS_MOVE, 0, elements(m), 0, elements(m), 1, 1, 1);
    while (m->used < m->room) attention_block(m, tokens, d, heads, ratio);
}

static void recurrent(maker *m)
{
    double d = CHOOSE(m, 16, 32, 64, 128, 256, 512, 1024), steps = CHOOSE(m, 1, 8, 32, 100, 400);
    for (size_t layer = 0; layer < 4; layer++) {
        double rows = m->batch * steps, weights = 8 * d * d;
        m->side = sqrt(steps);
        if (sp_nn_below(m->rng, 2)) { /* a dense layer, as in plain perceptrons */
            gemm(m, rows, d, d, true);
            pointwise(m, SPAROA_CLASS_ELTWISE, CHOOSE(m, 1, 4), true, zeros_after(m));
            continue;
        }
        m->channels = d;
        add(m, SPAROA_CLASS_RNN, 2 * rows * weights + 20 * rows * d, rows * d, weights, rows * d, 1,
            1, 1);
        add(m, SPAROA_CLASS_MOVE, 0, rows * d, 0, rows * d, 1, 1, 1);
        add(m, SP_KIND_VIEW, 0, rows * d, 0, rows * d, 1, 1, 1);
    }
    gemm(m, m->batch * steps, d, CHOOSE(m, 4, 32, 512), true);
    pointwise(m, SPAROA_CLASS_ELTWISE, 4, false, 0);
}

void sp_predict_invent(sp_regime regime, sp_nn_rng *rng, sp_predict_op *ops, size_t count)
{
    maker m = {.ops = ops, .room = count, .regime = regime, .rng = rng};
    double level = sp_nn_below(rng, 2) ? 0.3 + 0.69 * sp_nn_uniform(rng) : 0;
    while (m.used < m.room) {
        m.batch = CHOOSE(&m, 1, 1, 1, 2, 4, 8, 16);
        m.channels = m.side = 1;
        m.zeros = 0;
        m.pruned = level > 0 ? fmin(level * exp(0.1 * sp_nn_normal(rng)), 0.99) : 0;
        uint64_t which = sp_nn_below(rng, 6);
        if (which < 3)
            convolutional(&m);
        else if (which < 5)
            transformer(&m);
        else
            recurrent(&m);
    }
}
