/*
 * batch_search.h - the batch size at which the time per item settles: SparOA's Algorithm 2.
 *
 * From a start that is doubled for sparse and halved for compute-bound models, the search follows
 * the gradient of the time per item by the logarithm of the batch size: up while it falls, doubling
 * where it falls steeply, halving where the latency or memory bound is exceeded, until it settles;
 * then down as long as smaller batches are as good. The caller measures what the search asks for.
 */
#ifndef SP_ENGINE_BATCH_SEARCH_H
#define SP_ENGINE_BATCH_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SP_BATCH_SEARCH_STEPS 32 /* most sizes that are measured */

typedef struct sp_batch_search_options {
    int32_t start, max;    /* sizes */
    int64_t latency_bound; /* ns of a batch; 0: none */
    size_t memory_bound;   /* bytes; 0: none */
    double zeros;          /* share of zeros in the weights, or -1 */
    double intensity;      /* operations per byte of one item, or -1 */
    double sparse_from;    /* share of zeros from which the start is doubled */
    double intense_from;   /* operations per byte from which it is halved */
    double tolerance;      /* relative gain per doubling that no longer counts */
} sp_batch_search_options;

typedef struct sp_batch_step {
    int32_t items;
    int64_t ns; /* of the batch; 0: it was not run */
    size_t bytes;
    bool fits; /* both bounds are kept */
} sp_batch_step;

typedef struct sp_batch_search {
    sp_batch_search_options o;
    sp_batch_step steps[SP_BATCH_SEARCH_STEPS]; /* in the order measured */
    int32_t count;
    int32_t low, high; /* largest size that fits, smallest that does not; 0: none yet */
    bool memory_bound; /* the latest that did not fit exceeded memory */
} sp_batch_search;

/* The first size to measure. */
int32_t sp_batch_search_start(sp_batch_search *search, const sp_batch_search_options *options);
/* Tells what the last size took (ns 0: memory was lacking) and gets the next one; 0: settled. */
int32_t sp_batch_search_next(sp_batch_search *search, int32_t items, int64_t ns, size_t bytes);
/* The smallest measured size that fits and whose time per item is within the tolerance of the best.
 * 1 where none fits. */
int32_t sp_batch_search_result(const sp_batch_search *search);

#endif
