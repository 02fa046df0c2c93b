/*
 * pool.h - the worker threads of one runtime.
 *
 * sp_pool_run splits work over the workers and the caller. One piece of work is spread at a time: a
 * call that finds the workers busy with another session's work, or that comes from inside a task,
 * does its tasks in the calling thread, one after the other. Which thread does a task never changes
 * a result.
 */
#ifndef SP_BASE_POOL_H
#define SP_BASE_POOL_H

#include "base/mem.h"
#include "base/trace.h"

typedef struct sp_pool sp_pool;

typedef struct sp_pool_options {
    int32_t threads; /* the caller's included; at least 1 */
    int32_t spin_us; /* how long an idle worker polls outside of a run before it blocks */
    const int32_t *affinity;
    int32_t affinity_count;
    sparoa_parallel_fn parallel; /* the host's executor, or NULL */
    void *parallel_user;
    sp_trace *trace; /* gets what the workers do, or NULL */
} sp_pool_options;

sparoa_status sp_pool_create(const sp_pool_options *options, const sparoa_allocator *alloc,
                             sp_pool **pool, sparoa_error *err);
void sp_pool_destroy(sp_pool *pool);
int32_t sp_pool_threads(const sp_pool *pool);

/* for (i = 0; i < count; i++) task(arg, i), in any order, on several threads. */
void sp_pool_run(sp_pool *pool, int32_t count, void (*task)(void *arg, int32_t i), void *arg);

/* Between these two, workers poll for the next piece of work for a short while before they block,
 * because a run of a graph brings one every few microseconds. Calls nest. */
void sp_pool_enter(sp_pool *pool);
void sp_pool_leave(sp_pool *pool);

#endif
