#include "predict/features.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"

static const char schema[] =
    "kind one-hot; log10 flops/12 bytes_in/9 bytes_w/9 bytes_out/9; log10 flop per byte/3; zeros "
    "of "
    "weights, inputs; log10 channels/4 pixels/6; kernel/11 stride/4; log10 groups/4; log2 batch/8; "
    "per device: log10 peak/12, log10 efficiency at the operator and at 1e5..1e10, log10 "
    "bandwidth/10, log10 overhead/6, log2 sparse gain at .5 .7 .8 .9 .95 .99, log10 compute memory "
    "total ns/8; log10 time ratio, asinh overhead difference, log10 ns per flop of both, "
    "first-order "
    "crossover; thresholds: zeros 0..1, log10 flops 3..12; version 3";

uint64_t sp_predict_schema(void)
{
    return sp_rng_stream(sp_rng_text(schema), SP_PREDICT_FEATURES);
}

static double log10_of(double x)
{
    return log10(x > 1 ? x : 1);
}

double sp_predict_work(const sp_predict_op *op)
{
    const sparoa_cost *c = &op->work.cost;
    if (c->flops >= 1) return c->flops;
    double elements = (c->bytes_in + c->bytes_out) / 8;
    return elements >= 1 ? elements : 1;
}

double sp_predict_flops(double normalised)
{
    return pow(10, SP_PREDICT_LOG_LOW + normalised * (SP_PREDICT_LOG_HIGH - SP_PREDICT_LOG_LOW));
}

double sp_predict_normalised(double flops)
{
    double x = (log10_of(flops) - SP_PREDICT_LOG_LOW) / (SP_PREDICT_LOG_HIGH - SP_PREDICT_LOG_LOW);
    return fmin(fmax(x, 0), 1);
}

double sp_predict_time(const sp_predict_machine *m, uint32_t device, const sp_predict_op *op,
                       double scale, double zeros)
{
    sp_work w = op->work;
    w.cost.flops *= scale;
    w.cost.bytes_in *= scale;
    w.cost.bytes_out *= scale;
    if (zeros >= 0) w.weight_zeros = w.input_zeros = zeros;
    return sp_platform_cost(m->platform, device, m->regime, &w, m->state).ns;
}

static float *operator_features(const sp_predict_op *op, float *f)
{
    const sparoa_cost *c = &op->work.cost;
    double bytes = c->bytes_in + c->bytes_w + c->bytes_out;
    for (int k = 0; k < SP_KIND_COUNT; k++) *f++ = k == op->work.kind;
    const double v[] = {log10_of(c->flops) / 12,
                        log10_of(c->bytes_in) / 9,
                        log10_of(c->bytes_w) / 9,
                        log10_of(c->bytes_out) / 9,
                        bytes > 0 ? log10(fmax(c->flops / bytes, 1e-3)) / 3 : -1,
                        op->work.weight_zeros,
                        op->work.input_zeros,
                        log10_of(op->channels) / 4,
                        log10_of(op->pixels) / 6,
                        fmin(op->kernel / 11, 2),
                        fmin(op->stride / 4, 2),
                        log10_of(op->groups) / 4,
                        log2(fmax(op->batch, 1)) / 8};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) *f++ = (float)v[i];
    return f;
}

static const double shown_zeros[] = {0.5, 0.7, 0.8, 0.9, 0.95, 0.99};

static double sparse_gain(const sp_platform_kind *k, double zeros)
{
    return fmax(sp_curve_at(&k->sparse_weights, zeros), sp_curve_at(&k->sparse_inputs, zeros));
}

static float *device_features(const sp_predict_machine *m, uint32_t device, const sp_predict_op *op,
                              float *f)
{
    const sp_platform_device *d = &m->platform->devices[device];
    const sp_platform_kind *k = &d->kinds[op->work.kind];
    const sp_device_state *s = &m->state->device[device];
    double free_share = s->clock * s->units * (1 - s->load);
    *f++ = (float)(log10_of(d->peak_flops * free_share) / 12);
    *f++ = (float)log10(fmax(sp_curve_at(&k->efficiency, op->work.cost.flops), 1e-4));
    for (int e = 5; e <= 10; e++)
        *f++ = (float)log10(fmax(sp_curve_at(&k->efficiency, pow(10, e)), 1e-4));
    double bandwidth = d->bandwidth * k->bandwidth * (1 - s->load) *
                       fmin(m->state->memory_clock, sqrt(s->clock * s->units));
    *f++ = (float)(log10_of(bandwidth) / 10);
    *f++ = (float)(log10_of(k->overhead_ns[m->regime] / m->state->device[0].clock) / 6);
    for (size_t i = 0; i < sizeof shown_zeros / sizeof *shown_zeros; i++)
        *f++ = (float)log2(fmax(sparse_gain(k, shown_zeros[i]), 1));
    sp_price p = sp_platform_cost(m->platform, device, m->regime, &op->work, m->state);
    *f++ = (float)(log10_of(p.compute_ns) / 8);
    *f++ = (float)(log10_of(p.memory_ns) / 8);
    *f++ = (float)(log10_of(p.ns) / 8);
    return f;
}

/* Where straight lines through an operator's times on both devices would cross, in work. */
static double crossing(const sp_price *a, const sp_price *b, double work)
{
    double more = b->overhead_ns - a->overhead_ns;
    double gain = (fmax(a->compute_ns, a->memory_ns) - fmax(b->compute_ns, b->memory_ns)) / work;
    double low = pow(10, SP_PREDICT_LOG_LOW), high = pow(10, SP_PREDICT_LOG_HIGH);
    if (more > 0 && gain > 0) return fmin(fmax(more / gain, low), high);
    return gain > 0 || (gain == 0 && more <= 0) ? low : high;
}

/* What the host would have to gain from zeros, to be as fast as device 1 is without any. */
static double gain_needed(const sp_price *a, const sp_price *b)
{
    double left = b->ns - a->overhead_ns;
    if (!(a->compute_ns > 0)) return a->ns <= b->ns ? -8 : 8;
    return left > 0 ? fmin(fmax(log2(a->compute_ns / left), -8), 8) : 8;
}

/* The share of zeros from which the host gains that much, between the points that its features
 * show. */
static double zeros_needed(const sp_platform_kind *k, double gain)
{
    double z0 = 0.3, g0 = 1;
    if (gain <= 1) return 0;
    for (size_t i = 0; i < sizeof shown_zeros / sizeof *shown_zeros; i++) {
        double z = shown_zeros[i], g = fmax(sparse_gain(k, z), 1);
        if (g >= gain) return z0 * pow(z / z0, (gain - g0) / (g - g0));
        z0 = z;
        g0 = g;
    }
    return 1;
}

static void pair_features(const sp_predict_machine *m, const sp_predict_op *op, float *f)
{
    double work = sp_predict_work(op), at = work;
    sp_work w = op->work;
    sp_price a = sp_platform_cost(m->platform, 0, m->regime, &w, m->state),
             b = sp_platform_cost(m->platform, 1, m->regime, &w, m->state);
    *f++ = (float)log10(fmax(a.ns, 1) / fmax(b.ns, 1));
    *f++ = (float)(asinh((b.overhead_ns - a.overhead_ns) / 1000) / 5);
    *f++ = (float)(log10(fmax(fmax(a.compute_ns, a.memory_ns) / work, 1e-6)) / 4);
    *f++ = (float)(log10(fmax(fmax(b.compute_ns, b.memory_ns) / work, 1e-6)) / 4);
    for (int i = 0; i < 3; i++) {
        at = crossing(&a, &b, at);
        *f++ = (float)sp_predict_normalised(at);
        w.cost = op->work.cost;
        w.cost.flops *= at / work;
        w.cost.bytes_in *= at / work;
        w.cost.bytes_out *= at / work;
        a = sp_platform_cost(m->platform, 0, m->regime, &w, m->state);
        b = sp_platform_cost(m->platform, 1, m->regime, &w, m->state);
    }
    w = op->work;
    w.weight_zeros = w.input_zeros = 0;
    a = sp_platform_cost(m->platform, 0, m->regime, &w, m->state);
    b = sp_platform_cost(m->platform, 1, m->regime, &w, m->state);
    double gain = gain_needed(&a, &b);
    *f++ = (float)(gain / 8);
    *f = (float)zeros_needed(&m->platform->devices[0].kinds[op->work.kind],
                             a.ns <= b.ns ? 0 : exp2(gain));
}

void sp_predict_features(const sp_predict_machine *machine, const sp_predict_op *op,
                         float features[SP_PREDICT_FEATURES])
{
    float *f = operator_features(op, features);
    f = device_features(machine, 0, op, f);
    f = device_features(machine, 1, op, f);
    pair_features(machine, op, f);
}
