#include "profile/fit.h"

#include <math.h>
#include <stdlib.h>

bool sp_fit_add(sp_fit *fit, const sp_profile *profile, uint32_t device)
{
    for (uint32_t i = 0; i < profile->node_count; i++) {
        const sp_profile_node *n = &profile->nodes[i];
        double ns = n->measured_ns[device];
        char label[sizeof fit->samples->op] = "";
        if (!(ns > 0) || n->kind == SP_KIND_VIEW || n->op_class == SPAROA_CLASS_SHAPE ||
            n->op_class == SPAROA_CLASS_CONTROL || !sp_profile_label(n, label, sizeof label))
            continue;
        if (!sp_grow(&fit->alloc, &fit->samples, &fit->capacity, fit->count + 1,
                     sizeof *fit->samples))
            return false;
        sp_fit_sample *s = &fit->samples[fit->count++];
        *s = (sp_fit_sample){.kind = n->kind, .cost = n->cost, .ns = ns};
        memcpy(s->op, label, sizeof s->op);
    }
    return true;
}

void sp_fit_free(sp_fit *fit)
{
    sp_free(&fit->alloc, fit->samples, fit->capacity * sizeof *fit->samples);
    *fit = (sp_fit){.alloc = fit->alloc};
}

/* ---- rooflines ---- */

typedef struct point {
    double x, y;
} point;

static int by_x(const void *a, const void *b)
{
    double x = ((const point *)a)->x, y = ((const point *)b)->x;
    return (x > y) - (x < y);
}

static int by_y(const void *a, const void *b)
{
    double x = ((const point *)a)->y, y = ((const point *)b)->y;
    return (x > y) - (x < y);
}

static double bytes_of(const sp_fit_sample *s)
{
    return s->cost.bytes_in + s->cost.bytes_w + s->cost.bytes_out;
}

/* Medians of groups of equal size, in the order of x. */
static void curve_of(point *points, size_t count, sp_curve *curve)
{
    size_t groups = count < 3 * SP_CURVE_POINTS ? (count + 2) / 3 : SP_CURVE_POINTS;
    *curve = (sp_curve){0};
    qsort(points, count, sizeof *points, by_x);
    for (size_t g = 0; g < groups; g++) {
        size_t from = g * count / groups, to = (g + 1) * count / groups, n = to - from;
        if (!n) continue;
        double x = points[from + n / 2].x;
        qsort(points + from, n, sizeof *points, by_y);
        if (curve->count && !(x > curve->x[curve->count - 1] * 1.001)) continue;
        curve->x[curve->count] = x;
        curve->y[curve->count++] = points[from + n / 2].y;
    }
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* Work that computes: FLOPs against time, which the caches' part is in. */
static bool computes(int kind)
{
    return kind == SPAROA_CLASS_CONV || kind == SP_KIND_DEPTHWISE || kind == SPAROA_CLASS_GEMM ||
           kind == SPAROA_CLASS_ATTENTION || kind == SPAROA_CLASS_RNN;
}

static void fit_kind(const sp_fit *fit, sp_platform_device *d, int kind, point *points)
{
    sp_platform_kind *k = &d->kinds[kind];
    size_t count = 0;
    double least = INFINITY, widest = 0;
    for (size_t i = 0; i < fit->count; i++)
        if (fit->samples[i].kind == kind) least = fmin(least, fit->samples[i].ns);
    if (isinf(least)) return; /* nothing of it was measured: the default's */
    double overhead = fmin(k->overhead_ns[SP_REGIME_EAGER], 0.8 * least);
    k->given = true;
    k->overhead_ns[SP_REGIME_GRAPH] = fmin(k->overhead_ns[SP_REGIME_GRAPH], overhead);
    k->overhead_ns[SP_REGIME_EAGER] = overhead;
    for (size_t i = 0; i < fit->count; i++) {
        const sp_fit_sample *s = &fit->samples[i];
        double busy = (s->ns - overhead) * 1e-9;
        if (s->kind != kind) continue;
        widest = fmax(widest, bytes_of(s) / busy / d->bandwidth);
        if (computes(kind) && s->cost.flops > 0)
            points[count++] = (point){s->cost.flops, s->cost.flops / busy / d->peak_flops};
        else if (!computes(kind) && bytes_of(s) > 0)
            points[count++] = (point){bytes_of(s), bytes_of(s) / busy / d->bandwidth};
    }
    if (!count) return;
    if (computes(kind)) {
        curve_of(points, count, &k->efficiency);
        for (uint32_t i = 0; i < k->efficiency.count; i++)
            k->efficiency.y[i] = clamp(k->efficiency.y[i], 1e-6, 8);
        k->bandwidth = clamp(widest, 1e-3, 100);
    } else {
        qsort(points, count, sizeof *points, by_y);
        k->efficiency = (sp_curve){.count = 1, .y = {8}}; /* bytes decide */
        k->bandwidth = clamp(points[count / 2].y, 1e-3, 100);
    }
}

/* ---- samples ---- */

static int by_work(const void *a, const void *b)
{
    const sp_fit_sample *x = a, *y = b;
    const double sizes[5][2] = {{x->kind, y->kind},
                                {x->cost.flops, y->cost.flops},
                                {x->cost.bytes_in, y->cost.bytes_in},
                                {x->cost.bytes_w, y->cost.bytes_w},
                                {x->cost.bytes_out, y->cost.bytes_out}};
    int order = strcmp(x->op, y->op);
    for (int i = 0; !order && i < 5; i++)
        order = (sizes[i][0] > sizes[i][1]) - (sizes[i][0] < sizes[i][1]);
    return order;
}

static int by_time(const void *a, const void *b)
{
    double x = ((const sp_fit_sample *)a)->ns, y = ((const sp_fit_sample *)b)->ns;
    return (x > y) - (x < y);
}

/* The same work measured in several networks becomes one sample, the median. */
static void merge_same(sp_fit *fit)
{
    size_t kept = 0;
    qsort(fit->samples, fit->count, sizeof *fit->samples, by_work);
    for (size_t from = 0, to; from < fit->count; from = to) {
        for (to = from + 1;
             to < fit->count && by_work(&fit->samples[from], &fit->samples[to]) == 0;)
            to++;
        qsort(fit->samples + from, to - from, sizeof *fit->samples, by_time);
        fit->samples[kept++] = fit->samples[from + (to - from) / 2];
    }
    fit->count = kept;
}

static void add_sample(sp_platform *p, sp_platform_kind *k, const sp_fit_sample *s, double factor)
{
    const double size[4] = {s->cost.flops, s->cost.bytes_in, s->cost.bytes_w, s->cost.bytes_out};
    sp_platform_sample *to = &p->samples[p->sample_count++];
    *to = (sp_platform_sample){.key = sp_op_key(s->op), .factor = (float)clamp(factor, 1e-3, 1e3)};
    snprintf(to->op, sizeof to->op, "%s", s->op);
    for (int i = 0; i < 4; i++) to->at[i] = (float)log1p(size[i]);
    k->sample_count++;
}

static void keep_samples(const sp_fit *fit, sp_platform *p, uint32_t device, int kind,
                         uint32_t room)
{
    sp_platform_kind *k = &p->devices[device].kinds[kind];
    size_t have = 0, seen = 0;
    for (size_t i = 0; i < fit->count; i++) have += fit->samples[i].kind == kind;
    k->first_sample = p->sample_count;
    k->sample_count = 0;
    for (size_t i = 0; i < fit->count; i++) {
        const sp_fit_sample *s = &fit->samples[i];
        if (s->kind != kind) continue;
        /* every (have / room)-th where there are too many */
        bool keep = have <= room || seen * room / have != (seen + 1) * room / have;
        seen++;
        if (!keep || p->sample_count == SP_PLATFORM_SAMPLES) continue;
        const sp_work work = {.kind = kind, .cost = s->cost};
        uint32_t count = k->sample_count;
        k->sample_count = 0; /* the roofline alone */
        sp_price price = sp_platform_cost(p, device, SP_REGIME_EAGER, &work, NULL);
        k->sample_count = count;
        double busy = price.ns - price.overhead_ns;
        if (busy > 0) add_sample(p, k, s, (s->ns - price.overhead_ns) / busy);
    }
}

bool sp_fit_device(sp_fit *fit, sp_platform *platform, uint32_t device, uint32_t room)
{
    sp_platform_device *d = &platform->devices[device];
    size_t kinds[SP_KIND_COUNT] = {0}, used = 0;
    size_t room_for_points = (fit->count + 1) * sizeof(point);
    point *points = sp_alloc(&fit->alloc, room_for_points);
    if (!points) return false;
    merge_same(fit);
    for (size_t i = 0; i < fit->count; i++) {
        const sp_fit_sample *s = &fit->samples[i];
        double rate = s->cost.flops / s->ns * 1e9, width = bytes_of(s) / s->ns * 1e9;
        if (device && d->peak_flops < rate) d->peak_flops = rate;
        if (device && d->bandwidth < width) d->bandwidth = width;
        if (kinds[s->kind]++ == 0) used++;
    }
    /* What kinds with few samples leave goes to the others. */
    size_t cap = used ? room / used : 0;
    for (int round = 0; used && round < 8; round++) {
        size_t taken = 0;
        for (int k = 0; k < SP_KIND_COUNT; k++) taken += kinds[k] < cap ? kinds[k] : cap;
        cap += (room - taken) / used;
    }
    for (int k = 0; k < SP_KIND_COUNT; k++) {
        fit_kind(fit, d, k, points);
        keep_samples(fit, platform, device, k, (uint32_t)cap);
    }
    sp_free(&fit->alloc, points, room_for_points);
    return true;
}
