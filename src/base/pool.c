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

typedef void task_fn(void *arg, int32_t i);

struct sp_pool {
    sparoa_allocator alloc;
    int32_t threads, started;
    int64_t spin_ns;
    sparoa_parallel_fn parallel;
    void *parallel_user;
    pthread_t *workers;
    sp_trace *trace;

    pthread_mutex_t busy;  /* held by the caller whose work is being spread */
    pthread_mutex_t mutex; /* guards sleeping; with the two conditions */
    pthread_cond_t work, done;
    atomic_int active; /* sp_pool_enter minus sp_pool_leave */
    atomic_int sleepers;
    atomic_bool stop;

    /* The piece of work: its number, odd while the fields below change, times 2^32, plus the next
     * task to take. Who takes a task compares and exchanges both, so that a worker that comes late
     * takes nothing of another piece, and nobody needs to wait for it. */
    atomic_uint_fast64_t state;
    _Atomic(task_fn *) task;
    _Atomic(void *) arg;
    atomic_int count;
    atomic_int finished; /* tasks */
    atomic_bool waiting; /* the caller sleeps on `done` */
};

typedef struct worker_start {
    sp_pool *pool;
    int32_t cpu; /* -1: anywhere */
} worker_start;

static uint32_t number_of(uint_fast64_t state)
{
    return (uint32_t)(state >> 32);
}

/* The last task wakes the caller. */
static void finish_task(sp_pool *p, int32_t count)
{
    if (atomic_fetch_add(&p->finished, 1) + 1 < count || !atomic_load(&p->waiting)) return;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->mutex);
}

/* Does tasks of the piece of work of this number, as long as there are any. Returns how many. */
static int32_t take_tasks(sp_pool *p, uint32_t number)
{
    for (int32_t done = 0;;) {
        uint_fast64_t state = atomic_load(&p->state);
        task_fn *task = atomic_load(&p->task);
        void *arg = atomic_load(&p->arg);
        int32_t count = atomic_load(&p->count), i = (int32_t)(state & UINT32_MAX);
        if (number_of(state) != number || i >= count) return done;
        /* success: what was read above belongs together */
        if (!atomic_compare_exchange_strong(&p->state, &state, state + 1)) continue;
        task(arg, i);
        done++;
        finish_task(p, count);
    }
}

static void take_traced_tasks(sp_pool *p, uint32_t number)
{
    int64_t start = sp_now_ns();
    int32_t done = take_tasks(p, number);
    if (done) sp_trace_add(p->trace, SP_TRACE_TASKS, "tasks", NULL, start, sp_now_ns(), 0, done);
}

static bool is_new(uint_fast64_t state, uint32_t seen)
{
    return number_of(state) != seen && number_of(state) % 2 == 0;
}

/* Waits for a piece of work other than *seen, and stores its number there; false: stop. */
static bool wait_for_work(sp_pool *p, uint32_t *seen)
{
    int64_t until = 0;
    uint_fast64_t state;
    for (uint32_t turn = 0; !is_new(state = atomic_load(&p->state), *seen); turn++) {
        if (atomic_load(&p->stop)) return false;
        cpu_relax();
        if (turn % 64) continue;
        int64_t limit = atomic_load(&p->active) > 0 ? RUN_SPIN_NS : p->spin_ns, now = sp_now_ns();
        if (until == 0) until = now;
        if (now - until < limit) continue;
        pthread_mutex_lock(&p->mutex);
        atomic_fetch_add(&p->sleepers, 1);
        while (!is_new(state = atomic_load(&p->state), *seen) && !atomic_load(&p->stop))
            pthread_cond_wait(&p->work, &p->mutex);
        atomic_fetch_sub(&p->sleepers, 1);
        pthread_mutex_unlock(&p->mutex);
        break;
    }
    *seen = number_of(state);
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
    uint32_t seen = 0;
    while (wait_for_work(p, &seen)) {
        if (sp_trace_on(p->trace))
            take_traced_tasks(p, seen);
        else
            take_tasks(p, seen);
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
    p->trace = options->trace;
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

/* For tasks that workers have taken. */
static void wait_for_tasks(sp_pool *p, int32_t count)
{
    int64_t until = 0;
    for (uint32_t turn = 0; atomic_load(&p->finished) < count; turn++) {
        cpu_relax();
        if (turn % 64) continue;
        int64_t now = sp_now_ns();
        if (until == 0) until = now + END_SPIN_NS;
        if (now < until) continue;
        pthread_mutex_lock(&p->mutex);
        atomic_store(&p->waiting, true);
        while (atomic_load(&p->finished) < count) pthread_cond_wait(&p->done, &p->mutex);
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
    uint32_t number = number_of(atomic_load(&pool->state));
    atomic_store(&pool->state, (uint_fast64_t)(number + 1) << 32);
    atomic_store(&pool->task, task);
    atomic_store(&pool->arg, arg);
    atomic_store(&pool->count, count);
    atomic_store(&pool->finished, 0);
    atomic_store(&pool->state, (uint_fast64_t)(number + 2) << 32);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->mutex);
    }
    take_tasks(pool, number + 2);
    wait_for_tasks(pool, count);
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
