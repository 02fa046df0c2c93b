/*
 * batch.h - which queued requests become a batch, and when.
 *
 * A pure state machine without clock, threads or memory of its own but for its levels: the caller
 * brings the time and locks around it. Its rules are those of Triton's dynamic batcher, with
 * release before a deadline, before a latency objective is missed, and below a limit of size that
 * the caller lowers for lack of memory or time.
 *
 * Batches are formed from the requests in order: level by level; in each those that are in time,
 * the oldest first, then those that were delayed. They are taken while they fit the limit and have
 * the shapes of the first. Then, in this order:
 *   1. a preferred size among the sums on the way is released, the largest, unless the oldest of
 *      the batch waits for max_queue_delay or longer (PREFERRED)
 *   2. a batch that cannot grow is released (FULL, SHAPE, or the limit's reason)
 *   3. at or past the largest preferred size it is released (PREFERRED)
 *   4. after max_queue_delay it is released (DELAY; NO_DELAY where that is 0)
 *   5. so it is when the queue is flushed (FLUSH), or when waiting would miss a deadline or the
 *      latency objective by the time that the batch is expected to run (DEADLINE, LATENCY).
 */
#ifndef SP_ENGINE_BATCH_H
#define SP_ENGINE_BATCH_H

#include <stdbool.h>

#include "base/mem.h"
#include "sparoa_serve.h"

#define SP_NEVER INT64_MAX

typedef struct sp_batch_list sp_batch_list;

/* What the batcher knows of a request: a part of it. */
typedef struct sp_batch_item {
    struct sp_batch_item *prev, *next;
    sp_batch_list *list; /* it is in; NULL: not queued */
    int64_t arrived_ns;
    int64_t timeout_ns;  /* queue policy: when it is rejected or delayed; SP_NEVER: not */
    int64_t deadline_ns; /* when it ends in any case; SP_NEVER: not */
    int32_t items;
    int32_t level; /* from 0 */
} sp_batch_item;

struct sp_batch_list {
    sp_batch_item *head, *tail;
    int32_t count;
};

typedef struct sp_batch_level {
    sparoa_queue_policy policy;
    sp_batch_list in_time, delayed;
} sp_batch_level;

typedef struct sp_batcher {
    sparoa_allocator alloc;
    sparoa_batch_policy policy; /* its pointers are copies */
    sp_batch_level *levels;
    int32_t level_count, default_level;
    int32_t queued; /* requests */
    int32_t limit;  /* items of a batch, at most policy.max_batch */
    sparoa_release limit_reason;
    bool alone;          /* no policy: each request by itself */
    bool flush;          /* until the queue is empty */
    int64_t earliest_ns; /* no timeout or deadline in the queue is before this */
    bool (*same)(const sp_batch_item *a, const sp_batch_item *b); /* shapes go together */
    int64_t (*run_ns)(void *user, int32_t items); /* expected time of a batch, 0: unknown */
    void *user;
} sp_batcher;

/* policy NULL: each request alone, one level. Checks and copies it. Set same, run_ns and user
 * after. */
sparoa_status sp_batcher_init(sp_batcher *batcher, const sparoa_batch_policy *policy,
                              const sparoa_allocator *alloc, sparoa_error *err);
void sp_batcher_destroy(sp_batcher *batcher);

/* Queues an item whose arrived_ns, deadline_ns, items and level (0 is the first) are set.
 * queue_timeout_ns: the request's own, 0: none. False: its level is full. */
bool sp_batcher_push(sp_batcher *batcher, sp_batch_item *item, int64_t queue_timeout_ns);
void sp_batcher_remove(sp_batcher *batcher, sp_batch_item *item);
/* Back in front of its level, as if never taken. */
void sp_batcher_return(sp_batcher *batcher, sp_batch_item *item);

/* Applies timeouts and deadlines: takes out and gives back one request that is to end with
 * DEADLINE; NULL: none (any more). To be called before sp_batcher_form. */
sp_batch_item *sp_batcher_expire(sp_batcher *batcher, int64_t now_ns);

/* Takes a batch out of the queue: its items in order are chained by `next` in *batch. Returns their
 * sum, 0 if none is due; then *wake_ns is when to ask again unless something is pushed. */
int32_t sp_batcher_form(sp_batcher *batcher, int64_t now_ns, sp_batch_list *batch,
                        sparoa_release *release, int64_t *wake_ns);

void sp_batch_append(sp_batch_list *list, sp_batch_item *item);

/* ---- how long batches take ---- */

typedef struct sp_batch_time {
    int64_t count, sum_ns; /* of what was added */
    double mean_ns;        /* of late: exponentially weighted; 0: unknown. May be set beforehand */
} sp_batch_time;

typedef struct sp_batch_times {
    sp_batch_time *sizes; /* by items */
    int32_t max;
} sp_batch_times;

void sp_batch_times_add(sp_batch_times *times, int32_t items, int64_t ns);
/* For a size not met: in proportion to the nearest smaller one, at most what the nearest larger one
 * takes. 0: nothing is known. */
int64_t sp_batch_times_expect(const sp_batch_times *times, int32_t items);

#endif
