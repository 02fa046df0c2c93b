#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define RUN_SPIN_NS 200000 /* polling of a worker inside a run: longer than most nodes take */
#define END_SPIN_NS 50000  /* polling of the caller for the last task */

#if defined(__x86_64__) || defined(__i386__)
#define cpu_relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("yield" ::: "memory")
#else
#define cpu_relax() ((void)0)
#endif

struct sp_pool {
    sparoa_allocator alloc;
    int32_t threads, started;
    int64_t spin_ns;
    sparoa_parallel_fn parallel;
    void *parallel_user;
    pthread_t *workers;

    pthread_mutex_t busy;  /* held by the caller whose work is being spread */
    pthread_mutex_t mutex; /* guards sleeping; with the two conditions */
    pthread_cond_t work, done;
    atomic_uint_fast64_t
        ticket;        /* counts pieces of work; a worker that sees it change looks for tasks */
    atomic_int active; /* sp_pool_enter minus sp_pool_leave */
    atomic_int sleepers;
    atomic_bool stop;

    void (*task)(void *arg, int32_t i);
    void *arg;
    int32_t count;
    atomic_int next;     /* next task to take */
    atomic_int pending;  /* workers that have yet to leave the present piece of work */
    atomic_bool waiting; /* the caller sleeps on `done` */
};

typedef struct worker_start {
    sp_pool *pool;
    int32_t cpu; /* -1: anywhere */
} worker_start;

static void take_tasks(sp_pool *p)
{
    for (;;) {
        int i = atomic_fetch_add(&p->next, 1);
        if (i >= p->count) return;
        p->task(p->arg, i);
    }
}

/* Waits until the ticket differs from `seen`; false: stop. */
static bool wait_for_work(sp_pool *p, uint_fast64_t seen)
{
    int64_t until = 0;
    for (uint32_t turn = 0;; turn++) {
        if (atomic_load(&p->ticket) != seen) return true;
        if (atomic_load(&p->stop)) return false;
        cpu_relax();
        if (turn % 64) continue;
        int64_t limit = atomic_load(&p->active) > 0 ? RUN_SPIN_NS : p->spin_ns, now = sp_now_ns();
        if (until == 0) until = now;
        if (now - until >= limit) break;
    }
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->ticket) == seen && !atomic_load(&p->stop))
        pthread_cond_wait(&p->work, &p->mutex);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->mutex);
    return !atomic_load(&p->stop);
}

static void *worker_main(void *arg)
{
    worker_start start = *(worker_start *)arg;
    sp_pool *p = start.pool;
    sp_free(&p->alloc, arg, sizeof start);
    if (start.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)start.cpu, &set);
        pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    }
    uint_fast64_t seen = 0;
    while (wait_for_work(p, seen)) {
        seen++; /* the next piece of work starts only after every worker has left this one */
        take_tasks(p);
        if (atomic_fetch_sub(&p->pending, 1) == 1 && atomic_load(&p->waiting)) {
            pthread_mutex_lock(&p->mutex);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->mutex);
        }
    }
    return NULL;
}

static sparoa_status start_workers(sp_pool *p, const sp_pool_options *o, sparoa_error *err)
{
    for (int32_t i = 0; i < p->threads - 1; i++) {
        worker_start *start = sp_alloc(&p->alloc, sizeof *start);
        if (!start) return sp_no_memory(&p->alloc, sizeof *start, err);
        *start = (worker_start){p, i < o->affinity_count ? o->affinity[i] : -1};
        int code = pthread_create(&p->workers[i], NULL, worker_main, start);
        if (code) {
            sp_free(&p->alloc, start, sizeof *start);
            if (err) {
                *err = (sparoa_error){.status = SPAROA_OUT_OF_MEMORY};
                snprintf(err->message, sizeof err->message,
                         "worker thread %d could not be started: %s; ask for fewer threads", i + 1,
                         strerror(code));
            }
            return SPAROA_OUT_OF_MEMORY;
        }
        p->started++;
    }
    return SPAROA_OK;
}

sparoa_status sp_pool_create(const sp_pool_options *options, const sparoa_allocator *alloc,
                             sp_pool **pool, sparoa_error *err)
{
    sp_pool *p = sp_calloc(alloc, 1, sizeof *p);
    if (!p) return sp_no_memory(alloc, sizeof *p, err);
    p->alloc = *alloc;
    p->threads = options->threads;
    p->spin_ns = (int64_t)options->spin_us * 1000;
    p->parallel = options->parallel;
    p->parallel_user = options->parallel_user;
    pthread_mutex_init(&p->busy, NULL);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    sparoa_status status = SPAROA_OK;
    if (!p->parallel && p->threads > 1) {
        p->workers = sp_calloc(alloc, (size_t)p->threads - 1, sizeof *p->workers);
        status = p->workers ? start_workers(p, options, err) : sp_no_memory(alloc, sizeof *p, err);
    }
    if (status != SPAROA_OK)
        sp_pool_destroy(p);
    else
        *pool = p;
    return status;
}

void sp_pool_destroy(sp_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->stop, true);
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int32_t i = 0; i < pool->started; i++) pthread_join(pool->workers[i], NULL);
    sparoa_allocator alloc = pool->alloc;
    if (pool->workers)
        sp_free(&alloc, pool->workers, ((size_t)pool->threads - 1) * sizeof *pool->workers);
    pthread_mutex_destroy(&pool->busy);
    pthread_mutex_destroy(&pool->mutex);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    sp_free(&alloc, pool, sizeof *pool);
}

int32_t sp_pool_threads(const sp_pool *pool)
{
    return pool->threads;
}

static void wait_for_workers(sp_pool *p)
{
    int64_t until = 0;
    for (uint32_t turn = 0; atomic_load(&p->pending) > 0; turn++) {
        cpu_relax();
        if (turn % 64) continue;
        int64_t now = sp_now_ns();
        if (until == 0) until = now + END_SPIN_NS;
        if (now < until) continue;
        pthread_mutex_lock(&p->mutex);
        atomic_store(&p->waiting, true);
        while (atomic_load(&p->pending) > 0) pthread_cond_wait(&p->done, &p->mutex);
        atomic_store(&p->waiting, false);
        pthread_mutex_unlock(&p->mutex);
    }
}

void sp_pool_run(sp_pool *pool, int32_t count, void (*task)(void *arg, int32_t i), void *arg)
{
    if (pool->parallel && count > 1) {
        pool->parallel(pool->parallel_user, count, task, arg);
        return;
    }
    if (count <= 1 || pool->started == 0 || pthread_mutex_trylock(&pool->busy) != 0) {
        for (int32_t i = 0; i < count; i++) task(arg, i);
        return;
    }
    pool->task = task;
    pool->arg = arg;
    pool->count = count;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->pending, pool->started);
    atomic_fetch_add(&pool->ticket, 1);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->mutex);
    }
    take_tasks(pool);
    wait_for_workers(pool);
    pthread_mutex_unlock(&pool->busy);
}

void sp_pool_enter(sp_pool *pool)
{
    atomic_fetch_add(&pool->active, 1);
}

void sp_pool_leave(sp_pool *pool)
{
    atomic_fetch_sub(&pool->active, 1);
}
