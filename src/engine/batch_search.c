#include "engine/batch_search.h"

#include <math.h>

#define STRONG                                                                                     \
    3 /* gradients above this many tolerances double the size, weaker ones add a half              \
       */

static int32_t clamp(int64_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : (int32_t)v;
}

int32_t sp_batch_search_start(sp_batch_search *search, const sp_batch_search_options *options)
{
    *search = (sp_batch_search){.o = *options};
    int64_t start = options->start;
    if (options->zeros >= options->sparse_from) start *= 2;
    if (options->intensity >= options->intense_from) start /= 2;
    return clamp(start, 1, options->max);
}

static double item_ns(const sp_batch_step *s)
{
    return (double)s->ns / s->items;
}

static const sp_batch_step *measured(const sp_batch_search *s, int32_t items)
{
    for (int32_t i = 0; i < s->count; i++)
        if (s->steps[i].items == items) return &s->steps[i];
    return NULL;
}

/* The neighbour below that fits, and was measured. */
static const sp_batch_step *below(const sp_batch_search *s, int32_t items)
{
    const sp_batch_step *best = NULL;
    for (int32_t i = 0; i < s->count; i++)
        if (s->steps[i].fits && s->steps[i].items < items &&
            (!best || s->steps[i].items > best->items))
            best = &s->steps[i];
    return best;
}

/* Relative change of the time per item for a doubling of the size: negative is a gain. */
static double gradient(const sp_batch_step *from, const sp_batch_step *to)
{
    double change = (item_ns(to) - item_ns(from)) / item_ns(from);
    return change / log2((double)to->items / from->items);
}

/* From the largest size that fits: up while that pays. */
static int32_t climb(const sp_batch_search *s, const sp_batch_step *at)
{
    const sp_batch_step *from = below(s, at->items);
    double slope = from ? gradient(from, at) : -1;
    if (at->items < s->low) return 0;
    if (slope > -s->o.tolerance) return 0;
    int64_t step = slope < -STRONG * s->o.tolerance ? at->items : (at->items + 1) / 2;
    int32_t next = clamp((int64_t)at->items + step, 1, s->o.max);
    if (s->high && next >= s->high) next = at->items + (s->high - at->items) / 2;
    /* between two measured sizes less than an eighth apart nothing is left to find */
    if (next - at->items <= at->items / 8 && s->high) return 0;
    return next;
}

static double best_item_ns(const sp_batch_search *s)
{
    double best = INFINITY;
    for (int32_t i = 0; i < s->count; i++)
        if (s->steps[i].fits && item_ns(&s->steps[i]) < best) best = item_ns(&s->steps[i]);
    return best;
}

/* Below the smallest measured size that fits, while that is as good as any: smaller is sooner. */
static int32_t descend(const sp_batch_search *s)
{
    const sp_batch_step *least = NULL;
    for (int32_t i = 0; i < s->count; i++)
        if (s->steps[i].fits && (!least || s->steps[i].items < least->items)) least = &s->steps[i];
    if (!least || item_ns(least) > best_item_ns(s) * (1 + s->o.tolerance)) return 0;
    return least->items / 2;
}

int32_t sp_batch_search_next(sp_batch_search *search, int32_t items, int64_t ns, size_t bytes)
{
    sp_batch_search *s = search;
    const sp_batch_search_options *o = &s->o;
    bool memory = ns == 0 || (o->memory_bound && bytes > o->memory_bound);
    bool late = o->latency_bound && ns > o->latency_bound;
    sp_batch_step *at = &s->steps[s->count++];
    *at = (sp_batch_step){items, ns, bytes, !memory && !late};
    if (at->fits && items > s->low) s->low = items;
    if (!at->fits && (!s->high || items < s->high)) {
        s->high = items;
        s->memory_bound = memory;
    }
    if (s->count == SP_BATCH_SEARCH_STEPS) return 0;
    int32_t next = at->fits ? climb(s, at) : items / 2;
    /* something that fits is known: between it and what does not */
    if (!at->fits && s->low && next <= s->low) {
        next = s->low + (items - s->low) / 2;
        if (next - s->low <= s->low / 8) next = 0;
    }
    if (next == 0 || measured(s, next)) next = descend(s);
    return next >= 1 && !measured(s, next) ? next : 0;
}

int32_t sp_batch_search_result(const sp_batch_search *search)
{
    double best = best_item_ns(search);
    int32_t result = 0;
    for (int32_t i = 0; i < search->count; i++) {
        const sp_batch_step *s = &search->steps[i];
        if (s->fits && item_ns(s) <= best * (1 + search->o.tolerance) &&
            (!result || s->items < result))
            result = s->items;
    }
    return result ? result : 1;
}
