/* The worker pool: every task exactly once, from any number of callers, and nothing burnt after. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "base/pool.h"

#define MOST 1000

typedef struct counts {
    atomic_int seen[MOST];
    sp_pool *pool; /* for nested work */
    struct counts *inner;
} counts;

static sp_pool *make_pool(sp_mem *mem, int32_t threads, int32_t spin_us)
{
    sparoa_allocator a = sp_mem_init(mem, NULL, 0);
    sp_pool_options o = {.threads = threads, .spin_us = spin_us};
    sp_pool *pool = NULL;
    assert_int_equal(sp_pool_create(&o, &a, &pool, NULL), SPAROA_OK);
    assert_int_equal(sp_pool_threads(pool), threads);
    return pool;
}

static void end_pool(sp_mem *mem, sp_pool *pool)
{
    sp_pool_destroy(pool);
    assert_int_equal(atomic_load(&mem->used), 0);
}

static void count_one(void *arg, int32_t i)
{
    atomic_fetch_add(&((counts *)arg)->seen[i], 1);
}

static bool each_once(const counts *c, int32_t n)
{
    for (int32_t i = 0; i < MOST; i++)
        if (atomic_load(&c->seen[i]) != (i < n)) return false;
    return true;
}

static void test_each_index_once(void **state)
{
    (void)state;
    counts *c = calloc(1, sizeof *c);
    for (int32_t threads = 1; threads <= 8; threads++) {
        sp_mem mem;
        sp_pool *pool = make_pool(&mem, threads, threads == 3 ? 50 : 0);
        static const int32_t sizes[] = {0, 1, 2, 3, 7, 8, 9, 64, MOST};
        for (size_t turn = 0; turn < 300; turn++) {
            int32_t n = sizes[turn % (sizeof sizes / sizeof *sizes)];
            memset(c->seen, 0, sizeof c->seen);
            if (turn == 100) sp_pool_enter(pool);
            if (turn == 200) sp_pool_leave(pool);
            sp_pool_run(pool, n, count_one, c);
            assert_true(each_once(c, n));
        }
        end_pool(&mem, pool);
    }
    free(c);
}

static void run_inner(void *arg, int32_t i)
{
    counts *c = arg;
    atomic_fetch_add(&c->seen[i], 1);
    sp_pool_run(c->pool, 10, count_one, &c->inner[i]);
}

static void test_nested(void **state)
{
    (void)state;
    sp_mem mem;
    sp_pool *pool = make_pool(&mem, 4, 0);
    counts *c = calloc(1, sizeof *c), *inner = calloc(20, sizeof *inner);
    c->pool = pool;
    c->inner = inner;
    sp_pool_run(pool, 20, run_inner, c);
    assert_true(each_once(c, 20));
    for (int i = 0; i < 20; i++) assert_true(each_once(&inner[i], 10));
    end_pool(&mem, pool);
    free(inner);
    free(c);
}

static void *call_often(void *arg)
{
    sp_pool *pool = arg;
    counts *c = calloc(1, sizeof *c);
    bool ok = c != NULL;
    for (int32_t turn = 0; ok && turn < 400; turn++) {
        memset(c->seen, 0, sizeof c->seen);
        sp_pool_enter(pool);
        sp_pool_run(pool, turn % 40, count_one, c);
        sp_pool_leave(pool);
        ok = each_once(c, turn % 40);
    }
    free(c);
    return ok ? pool : NULL;
}

static void test_many_callers(void **state)
{
    (void)state;
    for (int32_t threads = 1; threads <= 8; threads *= 2) {
        sp_mem mem;
        sp_pool *pool = make_pool(&mem, threads, 0);
        pthread_t callers[5];
        void *result;
        for (int i = 0; i < 5; i++)
            assert_int_equal(pthread_create(&callers[i], NULL, call_often, pool), 0);
        for (int i = 0; i < 5; i++) {
            pthread_join(callers[i], &result);
            assert_ptr_equal(result, pool);
        }
        end_pool(&mem, pool);
    }
}

static void test_create_and_destroy(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        sp_mem mem;
        sp_pool *pool = make_pool(&mem, 1 + i % 8, 0);
        counts c = {0};
        if (i % 2) sp_pool_run(pool, 5, count_one, &c);
        end_pool(&mem, pool);
    }
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Processor time of the process over a second of which nothing is asked. */
static double idle_second(void)
{
    double before = cpu_seconds();
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    return cpu_seconds() - before;
}

/* Idle workers sleep: they use less than 0.5 % of a core once the polling after a run has ended,
 * which a busy machine makes late. */
static void test_idle_costs_nothing(void **state)
{
    (void)state;
    sp_mem mem;
    sp_pool *pool = make_pool(&mem, 4, 0);
    counts *c = calloc(1, sizeof *c);
    sp_pool_enter(pool);
    for (int i = 0; i < 50; i++) sp_pool_run(pool, 100, count_one, c);
    sp_pool_leave(pool);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* the end of a run's polling */
    double used = idle_second();
    for (int again = 0; again < 4 && used >= 0.005; again++) used = idle_second();
    assert_true(used < 0.005);
    end_pool(&mem, pool);
    free(c);
}

static void backwards(void *user, int32_t count, void (*task)(void *arg, int32_t i), void *arg)
{
    ++*(int *)user;
    for (int32_t i = count; i-- > 0;) task(arg, i);
}

static void test_host_executor(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_allocator a = sp_mem_init(&mem, NULL, 0);
    int calls = 0;
    sp_pool_options o = {.threads = 3, .parallel = backwards, .parallel_user = &calls};
    sp_pool *pool = NULL;
    counts c = {0};
    assert_int_equal(sp_pool_create(&o, &a, &pool, NULL), SPAROA_OK);
    sp_pool_run(pool, 9, count_one, &c);
    assert_true(each_once(&c, 9));
    assert_int_equal(calls, 1);
    end_pool(&mem, pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_index_once),    cmocka_unit_test(test_nested),
        cmocka_unit_test(test_many_callers),       cmocka_unit_test(test_create_and_destroy),
        cmocka_unit_test(test_idle_costs_nothing), cmocka_unit_test(test_host_executor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
