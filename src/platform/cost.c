/* The price of work and copies on a described machine. */
#include <math.h>

#include "platform/platform.h"

double sp_curve_at(const sp_curve *curve, double x)
{
    uint32_t n = curve->count, i = 0;
    if (!n) return 0;
    if (!(x > curve->x[0])) return curve->y[0];
    if (x >= curve->x[n - 1]) return curve->y[n - 1];
    while (x > curve->x[i + 1]) i++;
    double x0 = curve->x[i], x1 = curve->x[i + 1];
    double at = x0 > 0 ? log(x / x0) / log(x1 / x0) : (x - x0) / (x1 - x0);
    return curve->y[i] + at * (curve->y[i + 1] - curve->y[i]);
}

sp_platform_state sp_platform_nominal(const sp_platform *platform)
{
    sp_platform_state s = {.memory_clock = 1, .idle_watts = platform->idle_watts};
    for (uint32_t d = 0; d < SP_PLATFORM_DEVICES; d++) s.device[d].clock = s.device[d].units = 1;
    return s;
}

const sp_platform_mode *sp_platform_find_mode(const sp_platform *platform, const char *name)
{
    for (uint32_t i = 0; i < platform->mode_count; i++)
        if (strcmp(platform->modes[i].name, name) == 0) return &platform->modes[i];
    return NULL;
}

double sp_platform_idle_watts(const sp_platform *platform, const sp_platform_state *state)
{
    double watts = state->idle_watts;
    for (uint32_t d = 0; d < platform->device_count; d++)
        watts -= platform->devices[d].idle_clock_watts *
                 (1 - state->device[d].clock * state->device[d].units);
    return fmax(0, watts);
}

/* What the better of the sparse kernels gains. */
static double sparse_gain(const sp_platform_kind *k, const sp_work *work)
{
    double gain = 1;
    if (work->weight_zeros > 0)
        gain = fmax(gain, sp_curve_at(&k->sparse_weights, work->weight_zeros));
    if (work->input_zeros > 0) gain = fmax(gain, sp_curve_at(&k->sparse_inputs, work->input_zeros));
    return gain;
}

uint32_t sp_op_key(const char *op)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const char *c = op; *c; c++) h = (h ^ (unsigned char)*c) * 16777619u;
    return h ? h : 1;
}

/* The mean of the nearest samples' factors in the log, weighted by the inverse fourth power of
 * their distance; a far sample counts little against the roofline itself. */
enum { NEAREST = 6 };
#define TRUST 0.0016f /* weight of the roofline: that of a sample five units (of log) away */
#define SOFT 0.02f    /* added to squares of distances: samples differ by noise */
#define APART 4       /* square of the distance between operators of one kind */

typedef struct nearest {
    uint32_t count;
    float square[NEAREST], factor[NEAREST];
} nearest;

static void consider(nearest *n, float square, float factor)
{
    if (n->count == NEAREST && square >= n->square[NEAREST - 1]) return;
    uint32_t i = n->count < NEAREST ? n->count++ : NEAREST - 1;
    for (; i > 0 && n->square[i - 1] > square; i--) {
        n->square[i] = n->square[i - 1];
        n->factor[i] = n->factor[i - 1];
    }
    n->square[i] = square;
    n->factor[i] = factor;
}

static double correction(const sp_platform *platform, const sp_platform_kind *k,
                         const sp_work *work)
{
    if (!k->sample_count) return 1;
    const sp_platform_sample *s = &platform->samples[k->first_sample];
    const float at[4] = {(float)log1p(work->cost.flops), (float)log1p(work->cost.bytes_in),
                         (float)log1p(work->cost.bytes_w), (float)log1p(work->cost.bytes_out)};
    nearest near = {0};
    for (uint32_t i = 0; i < k->sample_count; i++) {
        float square = work->op && s[i].key != work->op ? APART : 0;
        for (int d = 0; d < 4; d++) square += (at[d] - s[i].at[d]) * (at[d] - s[i].at[d]);
        consider(&near, square, s[i].factor);
    }
    double sum = 0, weights = TRUST;
    for (uint32_t i = 0; i < near.count; i++) {
        double w = 1 / ((near.square[i] + SOFT) * (near.square[i] + SOFT));
        sum += w * log(near.factor[i]);
        weights += w;
    }
    return exp(sum / weights);
}

sp_price sp_platform_cost(const sp_platform *platform, uint32_t device, sp_regime regime,
                          const sp_work *work, const sp_platform_state *state)
{
    const sp_platform_device *d = &platform->devices[device];
    const sp_platform_kind *k = &d->kinds[work->kind];
    sp_platform_state nominal;
    if (!state) {
        nominal = sp_platform_nominal(platform);
        state = &nominal;
    }
    const sp_device_state *s = &state->device[device];
    double gain = sparse_gain(k, work), free_share = 1 - s->load;
    sp_price p = {.sparse = gain > 1};
    double rate = d->peak_flops * sp_curve_at(&k->efficiency, work->cost.flops) * s->clock *
                  s->units * free_share;
    /* A sparse kernel reads the weights that are left and as much again of indices. */
    double kept = fmin(1, 2 * (1 - work->weight_zeros));
    p.bytes = work->cost.bytes_in + work->cost.bytes_out +
              work->cost.bytes_w * (p.sparse && work->weight_zeros > 0 ? kept : 1);
    if (work->kind == SP_KIND_VIEW || work->kind == SPAROA_CLASS_SHAPE) p.bytes = 0;
    /* Most of the way is the memory's own, the rest goes with the device. */
    double way =
        (1 - d->memory_by_clock) / state->memory_clock + d->memory_by_clock / (s->clock * s->units);
    double width = d->bandwidth * k->bandwidth / way * free_share;
    double factor = correction(platform, k, work);
    p.compute_ns = work->cost.flops > 0 && rate > 0 ? work->cost.flops / rate / gain * 1e9 : 0;
    p.memory_ns = width > 0 ? p.bytes / width * 1e9 : 0;
    p.overhead_ns = k->overhead_ns[regime] / state->device[0].clock;
    p.compute_ns *= factor;
    p.memory_ns *= factor;
    double busy = fmax(p.compute_ns, p.memory_ns);
    p.ns = p.overhead_ns + busy;
    double watts = d->active_watts * pow(s->clock, d->clock_power) * s->units;
    p.joules = (busy * watts + p.overhead_ns * platform->dispatch_watts) * 1e-9 +
               p.bytes * platform->joules_per_byte;
    return p;
}

sp_copy_price sp_platform_copy(const sp_platform *platform, uint32_t from, uint32_t to,
                               sp_regime regime, double bytes, const sp_platform_state *state)
{
    sp_copy_price best = {0};
    double host = state ? state->device[0].clock : 1, memory = state ? state->memory_clock : 1;
    for (uint32_t i = 0; from != to && i < platform->link_count; i++) {
        const sp_platform_link *l = &platform->links[i];
        if (l->from != from || l->to != to) continue;
        best.ns = l->fixed_ns[regime] / host + bytes / (l->bandwidth * memory) * 1e9;
        if (l->mapped_bandwidth > 0) {
            double ns = l->mapped_ns / host + bytes / (l->mapped_bandwidth * memory) * 1e9;
            best.mapped = ns < best.ns;
            best.ns = fmin(ns, best.ns);
        }
        best.joules = best.ns * 1e-9 * platform->dispatch_watts +
                      (best.mapped ? 1 : 2) * bytes * platform->joules_per_byte;
    }
    return best;
}

double sp_platform_contention(const sp_platform *platform, double demand,
                              const sp_platform_state *state)
{
    double have = platform->memory_bandwidth * (state ? state->memory_clock : 1);
    if (!(have > 0)) return 1;
    double use = demand / have, knee = platform->contention_knee;
    if (use <= knee) return 1;
    double at = knee < 1 ? fmin(1, (use - knee) / (1 - knee)) : 1;
    return (1 + platform->contention * at) * fmax(1, use);
}
