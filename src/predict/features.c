#include "predict/features.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"

static const char schema[] =
    "kind one-hot; log10 flops/12 bytes_in/9 bytes_w/9 bytes_out/9; log10 flop per byte/3; zeros "
    "of weights, inputs; log10 channels/4 pixels/6; kernel/11 stride/4; log10 groups/4; log2 "
    "batch/8; per device: log10 peak/12, log10 efficiency at 1e5..1e10, log10 bandwidth/10, log10 "
    "overhead/6, log2 sparse gain at .5 .7 .8 .9 .95 .99, log10 compute per flop/4 memory total "
    "ns/8, log10 of gain; log10 time ratio, asinh overhead difference, log10 ns per flop of both, "
    "log10 work; log10 time ratios at 1e3..1e12 of 19 sizes, bracket, guess; ratios by zeros, "
    "guess; "
    "thresholds: zeros 0..1, log10 flops 3..12, the crossing next to the operator; version 4";

uint64_t sp_predict_schema(void)
{
    return sp_rng_stream(sp_rng_text(schema), SP_PREDICT_FEATURES);
}

sp_predict_op sp_predict_op_of(const sp_profile_node *n)
{
    return (sp_predict_op){.work = {.kind = n->kind,
                                    .cost = n->cost,
                                    .weight_zeros = fmax(n->weight_zeros, 0),
                                    .input_zeros = fmax(n->input_zeros, 0)},
                           .batch = n->batch,
                           .channels = n->channels,
                           .pixels = n->height * n->width,
                           .kernel = n->kernel,
                           .stride = n->stride,
                           .groups = n->groups};
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

/* ---- rates ---- */

static const double levels[SP_PREDICT_LEVELS] = {0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1};
static const double shown_zeros[] = {0.5, 0.7, 0.8, 0.9, 0.95, 0.99};

static double size_at(int j)
{
    return sp_predict_flops((double)j / (SP_PREDICT_SIZES - 1));
}

static sp_price price(const sp_predict_machine *m, uint32_t device, int kind, double flops,
                      double bytes_w, double zeros)
{
    sp_work w = {.kind = kind,
                 .cost = {.flops = flops, .bytes_w = bytes_w},
                 .weight_zeros = zeros,
                 .input_zeros = zeros};
    return sp_platform_cost(m->platform, device, m->regime, &w, m->state);
}

static double ratio(double a, double b)
{
    return a > 0 && b > 0 ? a / b : 1;
}

/* The features of a device that are the same for all operators of a kind. */
static void show(const sp_predict_machine *m, uint32_t device, int kind, sp_predict_rate *r)
{
    const double some = 1e9;
    const sp_platform_device *d = &m->platform->devices[device];
    const sp_device_state *s = &m->state->device[device];
    double peak = d->peak_flops * s->clock * s->units * (1 - s->load);
    double dense = price(m, device, kind, some, 0, 0).compute_ns;
    float *f = r->shown;
    *f++ = (float)(log10_of(peak) / 12);
    for (int e = 5; e <= 10; e++) {
        double flops = pow(10, e), ns = price(m, device, kind, flops, 0, 0).compute_ns;
        *f++ = (float)log10(fmax(ns > 0 ? flops / ns * 1e9 / peak : 1, 1e-4));
    }
    *f++ = (float)(log10_of(r->byte_ns > 0 ? 1e9 / r->byte_ns : 0) / 10);
    *f++ = (float)(log10_of(r->overhead_ns) / 6);
    for (size_t i = 0; i < sizeof shown_zeros / sizeof *shown_zeros; i++) {
        double ns = price(m, device, kind, some, 0, shown_zeros[i]).compute_ns;
        *f++ = (float)log2(fmax(ratio(dense, ns), 1));
    }
}

static void make_rate(const sp_predict_machine *m, uint32_t device, int kind, sp_predict_rate *r)
{
    const double some = 1e9;
    sp_price weights = price(m, device, kind, 0, some, 0);
    double dense = price(m, device, kind, some, 0, 0).compute_ns;
    *r = (sp_predict_rate){.byte_ns = weights.memory_ns / some, .overhead_ns = weights.overhead_ns};
    for (int j = 0; j < SP_PREDICT_SIZES; j++)
        r->compute_ns[j] = price(m, device, kind, size_at(j), 0, 0).compute_ns;
    for (int k = 0; k < SP_PREDICT_LEVELS; k++) {
        sp_price p = price(m, device, kind, some, some, levels[k]);
        r->gain[k] = ratio(dense, p.compute_ns);
        r->kept[k] = ratio(p.bytes, some);
        r->sparse = r->sparse || p.sparse;
    }
    show(m, device, kind, r);
}

void sp_predict_rates_make(const sp_predict_machine *machine, sp_predict_rates *rates)
{
    rates->machine = *machine;
    for (uint32_t d = 0; d < 2; d++)
        for (int k = 0; k < SP_KIND_COUNT; k++) make_rate(machine, d, k, &rates->of[d][k]);
}

/* ---- features ---- */

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

/* One operator on one device. */
typedef struct priced {
    const sp_predict_rate *rate;
    sp_price own;
    double dense_ns;       /* computing, without zeros */
    double gain;           /* from the operator's zeros */
    double moved, weights; /* bytes that grow with the work, and that stay */
} priced;

static priced price_op(const sp_predict_rates *r, uint32_t device, const sp_predict_op *op)
{
    const sp_predict_machine *m = &r->machine;
    priced p = {.rate = &r->of[device][op->work.kind], .gain = 1};
    p.own = sp_platform_cost(m->platform, device, m->regime, &op->work, m->state);
    p.dense_ns = p.own.compute_ns;
    if (p.own.sparse) {
        sp_work w = op->work;
        w.weight_zeros = w.input_zeros = 0;
        p.dense_ns = sp_platform_cost(m->platform, device, m->regime, &w, m->state).compute_ns;
        p.gain = ratio(p.dense_ns, p.own.compute_ns);
    }
    p.moved = fmin(op->work.cost.bytes_in + op->work.cost.bytes_out, p.own.bytes);
    p.weights = p.own.bytes - p.moved;
    return p;
}

/* The operator at another size: x of work (normalised), and what it takes to compute on both
 * devices. */
typedef struct sized {
    double x, compute[2], ratio; /* ratio: log10 of the host's time over device 1's */
} sized;

static double time_with(const priced *p, double compute, double scale)
{
    double bytes = p->moved * scale + p->weights;
    return fmax(p->rate->overhead_ns + fmax(compute, bytes * p->rate->byte_ns), 1);
}

static void set_ratio(const priced p[2], double work, sized *s)
{
    double scale = sp_predict_flops(s->x) / work;
    s->ratio =
        log10(time_with(&p[0], s->compute[0], scale) / time_with(&p[1], s->compute[1], scale));
}

static void at_size(const priced p[2], const sp_predict_op *op, double work, int j, sized *s)
{
    s->x = (double)j / (SP_PREDICT_SIZES - 1);
    for (int d = 0; d < 2; d++)
        s->compute[d] = op->work.cost.flops >= 1 ? p[d].rate->compute_ns[j] / p[d].gain : 0;
    set_ratio(p, work, s);
}

static double time_at_zeros(const priced *p, const sp_predict_op *op, int k)
{
    double bytes = p->moved + (p->own.bytes > 0 ? op->work.cost.bytes_w : 0) * p->rate->kept[k];
    return fmax(
        p->rate->overhead_ns + fmax(p->dense_ns / p->rate->gain[k], bytes * p->rate->byte_ns), 1);
}

static float *device_features(const priced *p, float *f)
{
    enum { SHOWN = SP_PREDICT_DEVICE_FEATURES - 4 };
    memcpy(f, p->rate->shown, SHOWN * sizeof *f);
    f += SHOWN;
    *f++ = (float)(log10_of(p->own.compute_ns) / 8);
    *f++ = (float)(log10_of(p->own.memory_ns) / 8);
    *f++ = (float)(log10_of(p->own.ns) / 8);
    *f++ = (float)log10(fmax(p->gain, 0.1));
    return f;
}

static double within(double x, double most)
{
    return fmin(fmax(x, -most), most);
}

/* Where a straight line from (x0, y0 < 0) to (x1, y1 >= 0) is 0. */
static double line(double x0, double y0, double x1, double y1)
{
    return y1 > y0 ? x0 + (x1 - x0) * -y0 / (y1 - y0) : x1;
}

/* The same between two sizes, with rooflines: computing goes with a power of the work, bytes with
 * the work. low.ratio < 0 <= high.ratio. */
static double roofline(const priced p[2], double work, sized low, sized high)
{
    for (int i = 0; i < 16 && high.x - low.x > 1e-5; i++) {
        sized mid = {.x = (low.x + high.x) / 2};
        for (int d = 0; d < 2; d++) mid.compute[d] = sqrt(low.compute[d] * high.compute[d]);
        set_ratio(p, work, &mid);
        if (mid.ratio >= 0)
            high = mid;
        else
            low = mid;
    }
    return line(low.x, low.ratio, high.x, high.ratio);
}

static float *bracket_features(const priced p[2], double work, const sized *ends[2], float *f)
{
    for (int i = 0; i < 2; i++) {
        double scale = sp_predict_flops(ends[i]->x) / work;
        *f++ = (float)ends[i]->x;
        *f++ = (float)within(ends[i]->ratio, 1);
        for (int d = 0; d < 2; d++) {
            double memory = (p[d].moved * scale + p[d].weights) * p[d].rate->byte_ns;
            double compute = ends[i]->compute[d], busy = fmax(compute, memory);
            *f++ = (float)within(log10(fmax(compute, 1e-3) / fmax(memory, 1e-3)), 1);
            *f++ = (float)(busy / (busy + p[d].rate->overhead_ns + 1));
        }
    }
    return f;
}

/* Features of the crossing of s (by size; ratio >= 0: device 1 is faster) next to the operator's
 * own size, and at last the guess. */
static float *intensity_features(const priced p[2], const sized *s, const sized *own, double work,
                                 float *f)
{
    const int last = SP_PREDICT_SIZES - 1;
    int j = (int)floor(own->x * last); /* own lies between j and j + 1 */
    if (j >= last) j = last - 1;
    const sized *low = own, *high = own;
    if (own->ratio >= 0) {
        for (; j >= 0 && s[j].ratio >= 0; j--) high = &s[j];
        low = j >= 0 ? &s[j] : high;
    } else {
        for (j++; j <= last && s[j].ratio < 0; j++) low = &s[j];
        high = j <= last ? &s[j] : low;
    }
    f = bracket_features(p, work, (const sized *[]){low, high}, f);
    double guess;
    if (low->ratio >= 0)
        guess = -fmin(0.02 + 0.1 * low->ratio, 0.1);
    else if (high->ratio < 0)
        guess = 1 + fmin(0.02 - 0.1 * high->ratio, 0.1);
    else
        guess = roofline(p, work, *low, *high);
    *f++ = (float)guess;
    return f;
}

static double guess_sparsity(const double *g)
{
    int k = 0;
    if (g[0] >= 0) return -fmin(0.02 + g[0] * 0.1, 0.1);
    while (k < SP_PREDICT_LEVELS && g[k] < 0) k++;
    if (k == SP_PREDICT_LEVELS) return 1 + fmin(0.02 - g[k - 1] * 0.1, 0.1);
    return line(levels[k - 1], g[k - 1], levels[k], g[k]);
}

static void pair_features(const sp_predict_op *op, const priced p[2], float *f)
{
    const priced *a = &p[0], *b = &p[1];
    double work = sp_predict_work(op), g[SP_PREDICT_LEVELS];
    sized s[SP_PREDICT_SIZES], own = {.x = sp_predict_normalised(work),
                                      .compute = {a->own.compute_ns, b->own.compute_ns},
                                      .ratio = log10(fmax(a->own.ns, 1) / fmax(b->own.ns, 1))};
    *f++ = (float)within(own.ratio, 3);
    *f++ = (float)(asinh((b->own.overhead_ns - a->own.overhead_ns) / 1000) / 5);
    *f++ = (float)(log10(fmax(fmax(a->own.compute_ns, a->own.memory_ns) / work, 1e-6)) / 4);
    *f++ = (float)(log10(fmax(fmax(b->own.compute_ns, b->own.memory_ns) / work, 1e-6)) / 4);
    *f++ = (float)own.x;
    for (int j = 0; j < SP_PREDICT_SIZES; j++) {
        at_size(p, op, work, j, &s[j]);
        if (j % ((SP_PREDICT_SIZES - 1) / 9) == 0) *f++ = (float)within(s[j].ratio, 2);
    }
    f = intensity_features(p, s, &own, work, f);
    bool sparse = a->rate->sparse || b->rate->sparse;
    for (int k = 0; k < SP_PREDICT_LEVELS; k++) {
        g[k] = k && !sparse ? g[0] : log10(time_at_zeros(b, op, k) / time_at_zeros(a, op, k));
        *f++ = (float)within(g[k], 2);
    }
    *f = (float)guess_sparsity(g);
}

void sp_predict_features(const sp_predict_rates *rates, const sp_predict_op *op,
                         float features[SP_PREDICT_FEATURES])
{
    priced p[2] = {price_op(rates, 0, op), price_op(rates, 1, op)};
    float *f = operator_features(op, features);
    for (int d = 0; d < 2; d++) f = device_features(&p[d], f);
    pair_features(op, p, f);
}
