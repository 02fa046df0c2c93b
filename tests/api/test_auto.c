/* Sessions whose device is "auto": right results whatever is chosen, choices where one candidate is
 * faster by far, and the file that keeps choices. */
#include "sparoa_live.h"
#include "tests/api/auto_bed.h"
#include "tests/engine/random_build.h"

/* ---- what is chosen ---- */

static void check_chosen(const char *chain, const char *chosen, int nodes)
{
    bed b;
    bed_make(&b, chain, "", 1);
    sparoa_session *s = bed_session(&b, AMPLE, SPAROA_FALLBACK_WARN, NULL);
    bed_run(&b, s);
    assert_int_equal(choice_of(s).source, SPAROA_CHOICE_NONE); /* answered at once, on the cpu */
    bed_run(&b, s);
    sparoa_choice c = choice_of(s);
    assert_int_equal(c.source, SPAROA_CHOICE_MEASURED);
    if (strncmp(c.chosen, chosen, strlen(chosen)))
        fail_msg("%s: chosen %s, expected %s: %s; %s: %s", chain, c.chosen, chosen, c.reason,
                 c.candidates[1].name, c.candidates[1].verdict);
    assert_string_equal(c.candidates[0].name, "cpu");
    assert_true(c.candidate_count >= 2 && c.tune_ns > 0);
    int chosen_count = 0, on_device = 0;
    for (int i = 0; i < c.candidate_count; i++)
        chosen_count += strcmp(c.candidates[i].verdict, "chosen") == 0;
    assert_int_equal(chosen_count, 1);
    for (int k = 0; k < 3; k++) bed_run(&b, s);
    for (size_t i = 0; i < sparoa_session_node_count(s); i++) {
        sparoa_node_info info;
        assert_int_equal(sparoa_session_node(s, i, &info), SPAROA_OK);
        on_device += strcmp(info.device, "emu0") == 0;
    }
    assert_int_equal(on_device, nodes);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

static void the_fastest_is_chosen(void **state)
{
    (void)state;
    check_chosen("hhh", "cpu", 0);
    check_chosen("ttt", "emu0", 3);
    check_chosen("hhhttt", "plan", 3);
}

/* No run after the choice allocates, and the session counts its runs. */
static void later_runs_allocate_nothing(void **state)
{
    (void)state;
    bed b;
    bed_make(&b, "hht", "", 1);
    sparoa_session *s = bed_session(&b, 0.2, SPAROA_FALLBACK_WARN, NULL);
    for (int i = 0; i < 4; i++) bed_run(&b, s);
    long before = atomic_load(&b.memory.calls);
    for (int i = 0; i < 6; i++) bed_run(&b, s);
    assert_int_equal(atomic_load(&b.memory.calls), before);
    sparoa_session_info info;
    sparoa_session_get_info(s, &info);
    assert_int_equal(info.runs, 10);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

/* Shapes that were not measured go by the nearest that were. */
static void other_shapes_go_by_the_nearest(void **state)
{
    (void)state;
    bed b;
    bed_make(&b, "tt", "", 1);
    sparoa_error err;
    sparoa_session *s = bed_session(&b, -1, SPAROA_FALLBACK_WARN, NULL);
    for (int i = 0; i < 4; i++) bed_run(&b, s);
    assert_int_equal(choice_of(s).source, SPAROA_CHOICE_NONE); /* it must not measure on its own */
    ts_ok(sparoa_session_tune(s, &b.in, 1, AMPLE, &err), err);
    assert_string_equal(choice_of(s).chosen, "emu0");
    free(b.in.data);
    b.in = ts_random(2, (int64_t[]){3, 8}, 6);
    for (int i = 0; i < 3; i++) bed_run(&b, s);
    assert_int_equal(choice_of(s).source, SPAROA_CHOICE_NEAREST);
    assert_string_equal(choice_of(s).chosen, "emu0");
    sparoa_session_destroy(s);
    bed_clear(&b);
}

static void random_graphs_give_the_same(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        sparoa_error err;
        rg graph;
        ts_memory memory = {0};
        sparoa_runtime *rt = ts_runtime(&memory, 2);
        ts_emu(rt, NULL);
        rg_build_steps(&graph, seed, 12);
        sparoa_model *model = ts_load(rt, graph.model);
        sparoa_session *cpu = ts_session(model, NULL, 0), *s = NULL;
        sparoa_session_options o = {
            .struct_size = sizeof o, .device = "auto", .auto_seconds = 0.05};
        ts_ok(sparoa_session_create(model, &o, &s, &err), err);
        sparoa_tensor in[2], want[RG_MAX_OUTPUTS] = {{0}};
        size_t n_in = graph.g->n_input, n_out = graph.g->n_output;
        rg_inputs(&graph, graph.n, in);
        ts_ok(sparoa_session_run(cpu, in, n_in, want, n_out, &err), err);
        for (int k = 0; k < 4; k++) {
            sparoa_tensor out[RG_MAX_OUTPUTS] = {{0}};
            ts_ok(sparoa_session_run(s, in, n_in, out, n_out, &err), err);
            for (size_t i = 0; i < n_out; i++)
                assert_true(ts_difference(&out[i], &want[i]) <= 1e-3);
        }
        assert_int_equal(choice_of(s).source, SPAROA_CHOICE_MEASURED);
        sparoa_session_destroy(s);
        sparoa_session_destroy(cpu);
        for (size_t i = 0; i < n_in; i++) free(in[i].data);
        sparoa_model_destroy(model);
        sparoa_runtime_destroy(rt);
        ts_balanced(&memory);
        mb_end();
    }
}

/* ---- the file ---- */

static void a_choice_is_kept(void **state)
{
    (void)state;
    static const char *const chains[] = {"hh", "tt", "hhhttt"};
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        bed b;
        bed_make(&b, chains[i], "", 1);
        sparoa_session *first = bed_session(&b, 0.3, SPAROA_FALLBACK_WARN, b.cache);
        assert_int_equal(choice_of(first).cache, SPAROA_CACHE_ABSENT);
        for (int k = 0; k < 2; k++) bed_run(&b, first);
        sparoa_choice measured = choice_of(first);
        for (int again = 0; again < 2; again++) {
            sparoa_session *s = bed_session(&b, 0, SPAROA_FALLBACK_WARN, b.cache);
            for (int k = 0; k < 3; k++) bed_run(&b, s);
            sparoa_choice c = choice_of(s);
            assert_int_equal(c.cache, SPAROA_CACHE_USED);
            assert_int_equal(c.source, SPAROA_CHOICE_CACHED);
            assert_string_equal(c.chosen, measured.chosen);
            assert_string_equal(c.reason, measured.reason);
            assert_int_equal(c.candidate_count, measured.candidate_count);
            assert_int_equal(sparoa_session_node_count(s), sparoa_session_node_count(first));
            for (size_t n = 0; n < sparoa_session_node_count(s); n++) {
                sparoa_node_info x, y;
                bed_run(&b, first);
                assert_int_equal(sparoa_session_node(s, n, &x), SPAROA_OK);
                assert_int_equal(sparoa_session_node(first, n, &y), SPAROA_OK);
                assert_string_equal(x.device, y.device);
            }
            sparoa_session_destroy(s);
        }
        sparoa_session_destroy(first);
        remove(b.cache);
        bed_clear(&b);
    }
}

static void expect_stale(bed *b, sparoa_cache_state want)
{
    sparoa_session *s = bed_session(b, -1, SPAROA_FALLBACK_WARN, b->cache);
    bed_run(b, s);
    sparoa_choice c = choice_of(s);
    assert_int_equal(c.cache, want);
    assert_int_equal(c.source, SPAROA_CHOICE_NONE);
    assert_true(c.cache_reason[0] != 0);
    sparoa_session_destroy(s);
}

/* Another machine, model, number of threads ... with a file that was made for "tt". */
static void expect_stale_elsewhere(const char *chain, const char *emu, int32_t threads,
                                   const char *content, sparoa_cache_state want)
{
    bed b;
    bed_make(&b, chain, emu, threads);
    FILE *file = fopen(b.cache, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    expect_stale(&b, want);
    remove(b.cache);
    bed_clear(&b);
}

static void a_stale_file_is_refused(void **state)
{
    (void)state;
    bed b;
    char content[16384] = "", changed[16384];
    sparoa_error err;
    bed_make(&b, "tth", "", 1);
    sparoa_session *s = bed_session(&b, 0, SPAROA_FALLBACK_WARN, b.cache);
    ts_ok(sparoa_session_tune(s, &b.in, 1, 0.1, &err), err);
    sparoa_session_destroy(s);
    FILE *file = fopen(b.cache, "r");
    assert_non_null(file);
    content[fread(content, 1, sizeof content - 1, file)] = 0;
    fclose(file);
    sparoa_session_options o = {.struct_size = sizeof o,
                                .device = "auto",
                                .auto_cache = b.cache,
                                .precision = SPAROA_PRECISION_TF32};
    ts_ok(sparoa_session_create(b.model, &o, &s, &err), err);
    assert_int_equal(choice_of(s).cache, SPAROA_CACHE_OTHER_OPTIONS);
    sparoa_session_destroy(s);
    remove(b.cache);
    bed_clear(&b);

    expect_stale_elsewhere("tht", "", 1, content, SPAROA_CACHE_OTHER_MODEL);
    expect_stale_elsewhere("tth", NULL, 1, content, SPAROA_CACHE_OTHER_MACHINE);
    expect_stale_elsewhere("tth", "", 2, content, SPAROA_CACHE_OTHER_THREADS);
    expect_stale_elsewhere("tth", "", 1, "format: sparoa-auto\nversion: 1\n",
                           SPAROA_CACHE_OTHER_LIBRARY);
    expect_stale_elsewhere("tth", "", 1, "", SPAROA_CACHE_DAMAGED);
    strcpy(changed, content);
    strstr(changed, "library: \"")[strlen("library: \"")] = '7';
    expect_stale_elsewhere("tth", "", 1, changed, SPAROA_CACHE_OTHER_LIBRARY);
    strcpy(changed, content);
    strcpy(strstr(changed, "candidates:"), "candidates: 3\n");
    expect_stale_elsewhere("tth", "", 1, changed, SPAROA_CACHE_DAMAGED);
}

/* ---- following the machine's state ---- */

/* What another process takes of the device makes it slower than the host; then it ends. */
static void a_watch_changes_the_choice(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b, "ee", "load=0", 1);
    sparoa_session *s = bed_session(&b, -1, SPAROA_FALLBACK_WARN, NULL);
    ts_ok(sparoa_session_tune(s, &b.in, 1, AMPLE, &err), err);
    assert_string_equal(choice_of(s).chosen, "emu0");
    sparoa_watch *w = NULL;
    sparoa_watch_options o = {.struct_size = sizeof o};
    ts_ok(sparoa_watch_create(s, &o, &w, &err), err);
    sparoa_live_state now = {.memory_clock = -1, .device_count = 2};
    for (int d = 0; d < 2; d++) {
        now.devices[d] = (sparoa_live_device){.load = 0, .clock_mhz = -1, .max_clock_mhz = -1};
        snprintf(now.devices[d].name, sizeof now.devices[d].name, "%s", d ? "emu0" : "cpu");
    }
    for (int k = 1; k <= 12; k++) {
        sparoa_watch_info info;
        now.time_ns = (int64_t)k * 1000000000;
        now.devices[1].other_load = k < 4 || k > 8 ? 0 : 0.9;
        ts_ok(sparoa_watch_step(w, &now, &info, &err), err);
        bed_run(&b, s);
        if (k == 3 || k == 12) assert_int_equal(info.nodes, 2);
        if (k == 8) {
            assert_int_equal(info.nodes, 0);
            assert_string_equal(choice_of(s).chosen, "cpu");
            assert_int_equal(choice_of(s).source, SPAROA_CHOICE_WATCHED);
        }
    }
    now.devices[1].other_load = 0.9;
    for (int k = 13; k <= 17; k++) {
        now.time_ns = (int64_t)k * 1000000000;
        ts_ok(sparoa_watch_step(w, &now, NULL, &err), err);
    }
    assert_string_equal(choice_of(s).chosen, "cpu");
    sparoa_watch_destroy(w);
    assert_string_equal(choice_of(s).chosen, "emu0"); /* what was measured counts again */
    assert_int_equal(choice_of(s).source, SPAROA_CHOICE_MEASURED);
    bed_run(&b, s);
    ts_ok(sparoa_watch_create(s, &o, &w, &err), err);
    sparoa_watch_destroy(w);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

/* Of the shapes measured last nothing is known, as the device has no memory for them. */
static void a_watch_does_not_take_times_of_other_shapes(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    sparoa_watch *w = NULL;
    bed_make(&b, "tt", "memory=9000000", 1);
    sparoa_session *s = bed_session(&b, -1, SPAROA_FALLBACK_WARN, NULL);
    const sparoa_watch_options o = {.struct_size = sizeof o};
    ts_ok(sparoa_session_tune(s, &b.in, 1, AMPLE, &err), err);
    assert_string_equal(choice_of(s).chosen, "emu0");
    ts_ok(sparoa_watch_create(s, &o, &w, &err), err);
    sparoa_watch_destroy(w);
    free(b.in.data);
    b.in = ts_random(2, (int64_t[]){300000, 8}, 6); /* 9.6 MB */
    ts_ok(sparoa_session_tune(s, &b.in, 1, 0.1, &err), err);
    assert_string_equal(choice_of(s).chosen, "cpu");
    assert_int_equal(sparoa_watch_create(s, &o, &w, &err), SPAROA_INVALID_STATE);
    bed_run(&b, s);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

/* ---- the interface ---- */

static void wrong_use_is_refused(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b, "h", NULL, 1);
    const sparoa_pin pin = {"n0", "cpu"};
    sparoa_session *s = NULL;
    sparoa_session_options o = {
        .struct_size = sizeof o, .device = "auto", .pins = &pin, .pin_count = 1};
    assert_int_equal(sparoa_session_create(b.model, &o, &s, &err), SPAROA_INVALID_ARGUMENT);
    o.pin_count = 0;
    o.reference = 1;
    assert_int_equal(sparoa_session_create(b.model, &o, &s, &err), SPAROA_INVALID_ARGUMENT);
    o.reference = 0;
    o.auto_seconds = NAN;
    assert_int_equal(sparoa_session_create(b.model, &o, &s, &err), SPAROA_INVALID_ARGUMENT);
    sparoa_choice c;
    s = ts_session(b.model, NULL, 0);
    assert_int_equal(sparoa_session_tune(s, &b.in, 1, 0, &err), SPAROA_INVALID_STATE);
    assert_int_equal(sparoa_session_choice(s, NULL, 0, &c, &err), SPAROA_INVALID_STATE);
    sparoa_session_destroy(s);
    s = bed_session(&b, 0, SPAROA_FALLBACK_WARN, NULL);
    assert_int_equal(sparoa_session_tune(s, &b.in, 1, -1, &err), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_session_tune(s, &b.in, 2, 0, &err), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_session_choice(s, &b.in, 1, NULL, &err), SPAROA_INVALID_ARGUMENT);
    ts_ok(sparoa_session_tune(s, &b.in, 1, 0, &err), err); /* with no device but the cpu */
    assert_string_equal(choice_of(s).chosen, "cpu");
    bed_run(&b, s);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

typedef struct sharer {
    bed *b;
    sparoa_session *s;
    pthread_t thread;
    bool good;
} sharer;

static void *share(void *user)
{
    sharer *me = user;
    float y[8];
    me->good = true;
    for (int k = 0; k < 20; k++) {
        sparoa_tensor out = sparoa_tensor_of(SPAROA_FLOAT32, y, 2, 1, 8);
        sparoa_choice c;
        me->good &= sparoa_session_run(me->s, &me->b->in, 1, &out, 1, NULL) == SPAROA_OK;
        me->good &= y[3] == 4 * ((float *)me->b->in.data)[3] + 3;
        me->good &= sparoa_session_choice(me->s, NULL, 0, &c, NULL) == SPAROA_OK;
    }
    return NULL;
}

static void threads_share_a_session(void **state)
{
    (void)state;
    bed b;
    sharer sharers[3];
    bed_make(&b, "ht", "", 2);
    sparoa_session *s = bed_session(&b, 0.05, SPAROA_FALLBACK_WARN, NULL);
    for (int i = 0; i < 3; i++) {
        sharers[i] = (sharer){.b = &b, .s = s};
        assert_int_equal(pthread_create(&sharers[i].thread, NULL, share, &sharers[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(sharers[i].thread, NULL);
        assert_true(sharers[i].good);
    }
    sparoa_session_destroy(s);
    bed_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_is_chosen),
        cmocka_unit_test(later_runs_allocate_nothing),
        cmocka_unit_test(other_shapes_go_by_the_nearest),
        cmocka_unit_test(random_graphs_give_the_same),
        cmocka_unit_test(a_choice_is_kept),
        cmocka_unit_test(a_stale_file_is_refused),
        cmocka_unit_test(a_watch_changes_the_choice),
        cmocka_unit_test(a_watch_does_not_take_times_of_other_shapes),
        cmocka_unit_test(wrong_use_is_refused),
        cmocka_unit_test(threads_share_a_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
