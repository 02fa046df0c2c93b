/* Sessions whose device is "auto" and devices that fail while they are measured, in a run, or have
 * no memory. */
#include "tests/api/auto_bed.h"

/* The device is lost at some command while it is measured. */
static void a_device_lost_early_is_not_chosen(void **state)
{
    (void)state;
    static const int at[] = {1, 3, 7, 20, 150, 600};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        bed b;
        char emu[32];
        snprintf(emu, sizeof emu, "lose_at=%d", at[i]);
        bed_make(&b, "tt", emu, 1);
        sparoa_session *s = bed_session(&b, 0.1, SPAROA_FALLBACK_ALLOW, NULL);
        for (int k = 0; k < 4; k++) bed_run(&b, s);
        sparoa_choice c = choice_of(s);
        assert_string_equal(c.chosen, "cpu");
        assert_int_equal(c.source, SPAROA_CHOICE_MEASURED);
        if (at[i] < 8) assert_non_null(strstr(c.candidates[1].verdict, "DEVICE_LOST"));
        sparoa_session_destroy(s);
        bed_clear(&b);
    }
}

/* Measuring takes some thousand commands, so that the device is lost in a run behind it. */
#define LOST_LATE "lose_at=15000"
#define MANY_RUNS 30000

static void a_device_lost_late_ends_on_the_cpu(void **state)
{
    (void)state;
    bed b;
    bed_make(&b, "tt", LOST_LATE, 1);
    sparoa_session *s = bed_session(&b, AMPLE, SPAROA_FALLBACK_ALLOW, NULL);
    int k = 0, on_device = 0;
    for (; k < MANY_RUNS && choice_of(s).source != SPAROA_CHOICE_FAILED; k++) {
        bed_run(&b, s);
        on_device += strcmp(choice_of(s).chosen, "emu0") == 0;
    }
    assert_true(k < MANY_RUNS && on_device > 10);
    for (k = 0; k < 3; k++) bed_run(&b, s);
    assert_string_equal(choice_of(s).chosen, "cpu");
    sparoa_session_destroy(s);
    bed_clear(&b);
}

static void forbidding_fallback_gives_the_error(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b, "tt", LOST_LATE, 1);
    sparoa_session *s = bed_session(&b, AMPLE, SPAROA_FALLBACK_FORBID, NULL);
    sparoa_status status = SPAROA_OK;
    for (int k = 0; k < MANY_RUNS && status == SPAROA_OK; k++) status = bed_try(&b, s, &err);
    assert_int_equal(status, SPAROA_DEVICE_LOST);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

static void a_device_without_memory_is_not_chosen(void **state)
{
    (void)state;
    bed b;
    bed_make(&b, "tt", "memory=4096", 1);
    free(b.in.data);
    b.in = ts_random(2, (int64_t[]){500, 8}, 6); /* 16 KB */
    sparoa_session *s = bed_session(&b, 0.1, SPAROA_FALLBACK_WARN, NULL);
    for (int k = 0; k < 4; k++) bed_run(&b, s);
    sparoa_choice c = choice_of(s);
    assert_int_equal(c.source, SPAROA_CHOICE_MEASURED);
    assert_string_equal(c.chosen, "cpu");
    assert_non_null(strstr(c.candidates[1].verdict, "OUT_OF_MEMORY"));
    sparoa_session_destroy(s);
    bed_clear(&b);
}

/* An allocation of the device that fails later: the same run ends on the CPU, and so do all others
 * at these shapes. */
static void a_failure_in_a_run_ends_on_the_cpu(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b, "tt", "memory=200000", 1);
    sparoa_session *s = bed_session(&b, -1, SPAROA_FALLBACK_WARN, NULL);
    ts_ok(sparoa_session_tune(s, &b.in, 1, AMPLE, &err), err);
    assert_string_equal(choice_of(s).chosen, "emu0");
    free(b.in.data);
    b.in = ts_random(2, (int64_t[]){20000, 8}, 6); /* by the nearest: emu0, which has no room */
    for (int k = 0; k < 3; k++) bed_run(&b, s);
    assert_string_equal(choice_of(s).chosen, "cpu");
    sparoa_session_destroy(s);
    bed_clear(&b);
}

static void no_memory_anywhere_is_an_error_or_the_cpu(void **state)
{
    (void)state;
    for (long at = 1; at < 4000; at += at / 2 + 3) {
        bed b;
        sparoa_error err;
        bed_make(&b, "ht", "", 1);
        sparoa_session_options o = {.struct_size = sizeof o, .device = "auto"};
        sparoa_session *s = NULL;
        b.memory.only_one = 1;
        b.memory.fail_at = atomic_load(&b.memory.calls) + at;
        sparoa_status status = sparoa_session_create(b.model, &o, &s, &err);
        if (status == SPAROA_OK) status = sparoa_session_tune(s, &b.in, 1, 0.01, &err);
        assert_true(status == SPAROA_OK || status == SPAROA_OUT_OF_MEMORY);
        b.memory.fail_at = 0;
        if (s) bed_run(&b, s);
        sparoa_session_destroy(s);
        bed_clear(&b);
    }
}

/* Measuring in a run that finds no memory, once or from some allocation on: the run has all it
 * needs from the one before. */
static void a_run_that_measures_needs_no_memory(void **state)
{
    (void)state;
    for (int only_one = 0; only_one <= 1; only_one++)
        for (long at = 1; at < 4000; at += at / 2 + 1) {
            bed b;
            bed_make(&b, "ht", "", 1);
            sparoa_session *s = bed_session(&b, 0.01, SPAROA_FALLBACK_FORBID, NULL);
            bed_run(&b, s);
            b.memory.only_one = only_one;
            b.memory.fail_at = atomic_load(&b.memory.calls) + at;
            bed_run(&b, s);
            b.memory.fail_at = 0;
            bed_run(&b, s);
            sparoa_session_destroy(s);
            bed_clear(&b);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_lost_early_is_not_chosen),
        cmocka_unit_test(a_device_lost_late_ends_on_the_cpu),
        cmocka_unit_test(forbidding_fallback_gives_the_error),
        cmocka_unit_test(a_device_without_memory_is_not_chosen),
        cmocka_unit_test(a_failure_in_a_run_ends_on_the_cpu),
        cmocka_unit_test(no_memory_anywhere_is_an_error_or_the_cpu),
        cmocka_unit_test(a_run_that_measures_needs_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
