#include "cli/stats.h"

#include <math.h>
#include <stdlib.h>

bool sp_samples_add(sp_samples *samples, double value)
{
    if (samples->count == samples->room) {
        size_t room = samples->room ? 2 * samples->room : 256;
        double *items = realloc(samples->items, room * sizeof *items);
        if (!items) return false;
        samples->items = items;
        samples->room = room;
    }
    samples->items[samples->count++] = value;
    return true;
}

void sp_samples_free(sp_samples *samples)
{
    free(samples->items);
    *samples = (sp_samples){0};
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const sp_samples *s, double share)
{
    double at = share * (double)(s->count - 1);
    size_t low = (size_t)at, high = low + 1 < s->count ? low + 1 : low;
    return s->items[low] + (at - (double)low) * (s->items[high] - s->items[low]);
}

sp_stats sp_stats_of(sp_samples *s)
{
    if (s->count == 0) return (sp_stats){0, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    qsort(s->items, s->count, sizeof *s->items, by_value);
    double sum = 0, squares = 0, n = (double)s->count;
    for (size_t i = 0; i < s->count; i++) sum += s->items[i];
    double mean = sum / n;
    for (size_t i = 0; i < s->count; i++) squares += (s->items[i] - mean) * (s->items[i] - mean);
    return (sp_stats){
        .count = s->count,
        .min = s->items[0],
        .mean = mean,
        .p50 = percentile(s, 0.5),
        .p90 = percentile(s, 0.9),
        .p99 = percentile(s, 0.99),
        .max = s->items[s->count - 1],
        .cov = mean > 0 && s->count > 1 ? sqrt(squares / (n - 1)) / mean : 0,
    };
}

void sp_stats_json(sp_json *json, const char *key, const sp_stats *s)
{
    sp_json_flat_object(json, key);
    sp_json_int(json, "count", (int64_t)s->count);
    sp_json_number(json, "min", s->min);
    sp_json_number(json, "mean", s->mean);
    sp_json_number(json, "p50", s->p50);
    sp_json_number(json, "p90", s->p90);
    sp_json_number(json, "p99", s->p99);
    sp_json_number(json, "max", s->max);
    sp_json_number(json, "cov", s->cov);
    sp_json_end_object(json);
}
