/* The search for a batch size on curves whose answer is known, and within bounds. */
#include <math.h>

#include "base/rng.h"
#include "engine/batch_search.h"
#include "tests/support/support.h"

/* Time of a batch: a fixed part, a part per item, and a step where a cache overflows. */
typedef struct curve {
    double fixed, item, beyond;
    int32_t cache;
    size_t bytes;
} curve;

static int64_t time_of(const curve *c, int32_t n)
{
    double ns = c->fixed + c->item * n;
    if (c->cache && n > c->cache) ns += c->beyond * (n - c->cache);
    return (int64_t)ns + 1;
}

static sp_batch_search_options defaults(void)
{
    return (sp_batch_search_options){.start = 8,
                                     .max = 512,
                                     .zeros = -1,
                                     .intensity = -1,
                                     .sparse_from = 0.5,
                                     .intense_from = 50,
                                     .tolerance = 0.05};
}

static int32_t search(const curve *c, const sp_batch_search_options *o, sp_batch_search *s)
{
    int32_t n = sp_batch_search_start(s, o);
    while (n > 0) {
        assert_true(n <= o->max);
        bool memory = o->memory_bound && (size_t)n * c->bytes > 4 * o->memory_bound;
        n = sp_batch_search_next(s, n, memory ? 0 : time_of(c, n), (size_t)n * c->bytes);
    }
    return sp_batch_search_result(s);
}

/* What an exhaustive look over all sizes allows. */
static double best_item(const curve *c, const sp_batch_search_options *o)
{
    double best = INFINITY;
    for (int32_t n = 1; n <= o->max; n++) {
        if (o->latency_bound && time_of(c, n) > o->latency_bound) continue;
        if (o->memory_bound && (size_t)n * c->bytes > o->memory_bound) continue;
        double item = (double)time_of(c, n) / n;
        if (item < best) best = item;
    }
    return best;
}

static void test_shapes(void **state)
{
    (void)state;
    sp_batch_search s;
    sp_batch_search_options o = defaults();
    /* nothing to gain: one item */
    assert_int_equal(search(&(curve){.item = 1000}, &o, &s), 1);
    /* the fixed part is all: as large as allowed, but for the tolerance */
    assert_true(search(&(curve){.fixed = 1e6, .item = 1}, &o, &s) >= 256);
    /* a cache that overflows: near there */
    int32_t n = search(&(curve){.fixed = 4000, .item = 1000, .cache = 32, .beyond = 3000}, &o, &s);
    assert_true(n >= 16 && n <= 48);
    assert_true(s.count <= 12);
}

static void test_start(void **state)
{
    (void)state;
    sp_batch_search s;
    sp_batch_search_options o = defaults();
    assert_int_equal(sp_batch_search_start(&s, &o), 8);
    o.zeros = 0.8;
    assert_int_equal(sp_batch_search_start(&s, &o), 16);
    o.intensity = 60;
    assert_int_equal(sp_batch_search_start(&s, &o), 8);
    o.zeros = 0.1;
    assert_int_equal(sp_batch_search_start(&s, &o), 4);
    o.start = 1;
    assert_int_equal(sp_batch_search_start(&s, &o), 1);
    o.start = 4000;
    assert_int_equal(sp_batch_search_start(&s, &o), 512);
}

static void test_bounds(void **state)
{
    (void)state;
    sp_batch_search s;
    sp_batch_search_options o = defaults();
    curve c = {.fixed = 1e6, .item = 1000, .bytes = 100};
    o.latency_bound = 1020000; /* 20 items */
    int32_t n = search(&c, &o, &s);
    assert_true(n >= 16 && n <= 20);
    assert_false(s.memory_bound);
    o.latency_bound = 1000; /* nothing fits */
    assert_int_equal(search(&c, &o, &s), 1);
    o.latency_bound = 0;
    o.memory_bound = 4200;
    n = search(&c, &o, &s);
    assert_true(n >= 34 && n <= 42);
    assert_true(s.memory_bound);
}

/* Random curves and bounds: ends, keeps the bounds, and is near the best that they allow. */
static void test_random(void **state)
{
    (void)state;
    for (uint64_t key = 1; key <= 2000; key++) {
        sp_batch_search s;
        sp_batch_search_options o = defaults();
        curve c = {.fixed = 1e5 * sp_rng_uniform(key, 1),
                   .item = 100 + 1e4 * sp_rng_uniform(key, 2),
                   .bytes = 100};
        o.start = 1 + (int32_t)(64 * sp_rng_uniform(key, 3));
        if (key % 3 == 0)
            o.latency_bound = (int64_t)(c.fixed + c.item * (1 + 100 * sp_rng_uniform(key, 4)));
        if (key % 5 == 0) o.memory_bound = 100 + (size_t)(2e4 * sp_rng_uniform(key, 5));
        int32_t n = search(&c, &o, &s);
        assert_true(s.count <= SP_BATCH_SEARCH_STEPS);
        assert_true(!o.latency_bound || time_of(&c, n) <= o.latency_bound);
        assert_true(!o.memory_bound || (size_t)n * c.bytes <= o.memory_bound);
        assert_true((double)time_of(&c, n) / n <= 1.25 * best_item(&c, &o));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
