/*
 * stats.h - figures of a list of times.
 */
#ifndef SP_CLI_STATS_H
#define SP_CLI_STATS_H

#include "cli/json.h"

#include <stddef.h>
#include <stdint.h>

typedef struct sp_samples {
    double *items;
    size_t count, room;
} sp_samples;

typedef struct sp_stats {
    size_t count;
    double min, mean, p50, p90, p99, max;
    double cov; /* standard deviation by mean */
} sp_stats;

bool sp_samples_add(sp_samples *samples, double value);
void sp_samples_free(sp_samples *samples);

/* Sorts the samples. Percentiles are interpolated between neighbours. All figures of no samples are
 * NaN. */
sp_stats sp_stats_of(sp_samples *samples);

void sp_stats_json(sp_json *json, const char *key, const sp_stats *stats);

#endif
