/* Environment variables: each is obeyed, and a value that means nothing is refused. */
#include "tests/support/support.h"

static sparoa_error err;

static sparoa_status open_with(const char *variable, const char *value, sparoa_runtime **rt)
{
    memset(&err, 0, sizeof err);
    setenv(variable, value, 1);
    sparoa_status status = sparoa_runtime_create(NULL, rt, &err);
    unsetenv(variable);
    return status;
}

static void expect_refused(const char *variable, const char *value, sparoa_status want)
{
    sparoa_runtime *rt = NULL;
    sparoa_status got = open_with(variable, value, &rt);
    if (got != want || !strstr(err.message, value))
        fail_msg("%s=%s: %s '%s'", variable, value, sparoa_status_name(got), err.message);
}

static void expect_taken(const char *variable, const char *value)
{
    sparoa_runtime *rt = NULL;
    ts_ok(open_with(variable, value, &rt), err);
    sparoa_runtime_destroy(rt);
}

/* The instruction set that the value leads to. */
static void isa_of(const char *value, char isa[32])
{
    sparoa_runtime *rt = NULL;
    sparoa_device_desc desc;
    ts_ok(open_with("SPAROA_ISA", value, &rt), err);
    assert_int_equal(sparoa_device(rt, 0, &desc), SPAROA_OK);
    memcpy(isa, desc.isa, sizeof desc.isa);
    sparoa_runtime_destroy(rt);
}

static void test_isa(void **state)
{
    (void)state;
    char best[32], isa[32];
    isa_of("", best);
    isa_of(best, isa);
    assert_string_equal(isa, best);
    isa_of("generic", isa);
    assert_string_equal(isa, "generic");
    static const char *const wrong[] = {"vax", "GENERIC", "generic ", "generi", "generic-ish"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        expect_refused("SPAROA_ISA", wrong[i], SPAROA_DEVICE_UNAVAILABLE);
        assert_non_null(strstr(err.message, best)); /* what there is */
    }
}

static void test_when(void **state)
{
    (void)state;
    static const char *const variables[] = {"SPAROA_SPARSE", "SPAROA_JOIN"};
    for (size_t i = 0; i < 2; i++) {
        expect_taken(variables[i], "auto");
        expect_taken(variables[i], "never");
        expect_taken(variables[i], "always");
        expect_refused(variables[i], "Never", SPAROA_INVALID_ARGUMENT);
        expect_refused(variables[i], "alway", SPAROA_INVALID_ARGUMENT);
        expect_refused(variables[i], "auto ", SPAROA_INVALID_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_isa), cmocka_unit_test(test_when)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
