/* When a plan's state counts as left: bands, holding, hysteresis, the budget for switching. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "platform/watch.h"

#define MS 1000000

static sp_platform_state nominal(void)
{
    sp_platform_state s = {.memory_clock = 1};
    for (int d = 0; d < 2; d++) s.device[d].clock = s.device[d].units = 1;
    return s;
}

/* Feeds one state every 10 ms for `ms`; the time of the first alarm, or -1. */
static int64_t feed(sp_watch *w, const sp_platform_state *s, int64_t from, int64_t ms, double cost)
{
    for (int64_t t = 10; t <= ms; t += 10)
        if (sp_watch_feed(w, s, cost, from + t * MS) != SP_WATCH_INSIDE) return from + t * MS;
    return -1;
}

static void stays_inside(void **state)
{
    sp_platform_state s = nominal();
    sp_watch w;
    sp_watch_start(&w, NULL, &s, 2, 0);
    s.device[0].load = 0.1; /* within 0.15 */
    s.device[1].clock = 0.9;
    assert_int_equal(feed(&w, &s, 0, 2000, 0), -1);
    assert_false(w.outside);
}

static void leaves_after_holding(void **state)
{
    sp_platform_state s = nominal();
    sp_watch w;
    sp_watch_start(&w, NULL, &s, 2, 0);
    s.device[1].load = 0.5;
    int64_t at = feed(&w, &s, 0, 2000, 0);
    assert_true(at >= 100 * MS && at <= 300 * MS);
    assert_int_equal(w.reason, SP_WATCH_LOAD);
    assert_string_equal(sp_watch_reason_text(w.reason), "load");
    sp_watch_switched(&w, &w.seen, 1e5, at);
    /* What remains of the way to 0.5 is within the band. */
    assert_int_equal(feed(&w, &s, at, 1000, 1e5), -1);
}

static void short_burst_is_ignored(void **state)
{
    sp_platform_state calm = nominal(), busy = nominal();
    sp_watch w;
    busy.device[0].load = 0.6;
    sp_watch_start(&w, NULL, &calm, 2, 0);
    for (int64_t i = 0; i < 20; i++) {
        assert_int_equal(feed(&w, &calm, i * 400 * MS, 350, 0), -1);
        assert_int_equal(feed(&w, &busy, (i * 400 + 350) * MS, 50, 0), -1);
    }
}

static void clock_and_memory(void **state)
{
    sp_platform_state s = nominal();
    sp_watch w;
    sp_watch_start(&w, &(sp_watch_options){.smooth_ns = -1}, &s, 2, 0);
    s.device[0].clock = 0.6;
    assert_int_equal(feed(&w, &s, 0, 1000, 0), 110 * MS);
    assert_int_equal(w.reason, SP_WATCH_CLOCK);
    sp_watch_switched(&w, &s, 0, 110 * MS);
    s.device[1].memory_used = 0.99;
    assert_true(feed(&w, &s, 110 * MS, 1000, 0) > 0);
    assert_int_equal(w.reason, SP_WATCH_MEMORY);
    sp_watch_switched(&w, &s, 0, 400 * MS);
    assert_int_equal(feed(&w, &s, 400 * MS, 1000, 0), -1); /* planned for now */
}

/* A load that comes and goes every 300 ms, switching at 5 ms a time: never above 1% of the time. */
static void switching_is_bounded(void **state)
{
    sp_platform_state calm = nominal(), busy = nominal();
    sp_watch w;
    const double cost = 5e6;
    busy.device[0].load = 0.8;
    sp_watch_start(&w, NULL, &calm, 2, 0);
    for (int64_t t = 10; t <= 60000; t += 10) {
        const sp_platform_state *s = t / 300 % 2 ? &busy : &calm;
        if (sp_watch_feed(&w, s, cost, t * MS) != SP_WATCH_INSIDE)
            sp_watch_switched(&w, &w.seen, cost, t * MS);
        assert_true(w.spent_ns <= 0.01 * (double)(t * MS) + cost);
    }
    assert_true(w.switches > 50 && w.held_back > 0);
}

/* Half way out and back again: inside only below half the band. */
static void hysteresis(void **state)
{
    sp_platform_state s = nominal();
    sp_watch w;
    sp_watch_start(&w, &(sp_watch_options){.smooth_ns = -1, .hold_ns = 50e6}, &s, 2, 0);
    s.device[0].load = 0.16;
    assert_int_equal(sp_watch_feed(&w, &s, 0, 10 * MS), SP_WATCH_INSIDE);
    assert_true(w.outside);
    s.device[0].load = 0.14; /* within the band, not within half of it */
    assert_int_equal(feed(&w, &s, 10 * MS, 500, 0), -1);
    assert_true(w.outside);
    s.device[0].load = 0.16;
    assert_int_equal(sp_watch_feed(&w, &s, 0, 600 * MS), SP_WATCH_LOAD);
    s.device[0].load = 0.07;
    assert_int_equal(sp_watch_feed(&w, &s, 0, 610 * MS), SP_WATCH_INSIDE);
    assert_false(w.outside);
}

static void a_time_that_goes_back_does_no_harm(void **state)
{
    sp_platform_state s = nominal();
    sp_watch w;
    sp_watch_start(&w, NULL, &s, 2, 3600000 * (int64_t)MS);
    sp_watch_feed(&w, &s, 0, 3600000 * (int64_t)MS);
    s.device[1].load = 0.5;
    assert_int_equal(sp_watch_feed(&w, &s, 0, 0), SP_WATCH_INSIDE);
    assert_true(feed(&w, &s, 3600000 * (int64_t)MS, 2000, 0) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_inside),
        cmocka_unit_test(leaves_after_holding),
        cmocka_unit_test(short_burst_is_ignored),
        cmocka_unit_test(clock_and_memory),
        cmocka_unit_test(switching_is_bounded),
        cmocka_unit_test(hysteresis),
        cmocka_unit_test(a_time_that_goes_back_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
