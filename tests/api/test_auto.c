/* Sessions whose device is "auto": right results whatever is chosen, choices where one candidate is
 * faster by far, lost devices, devices without memory, and the file that keeps choices.
 *
 * Which candidate is faster is decided by two operators of the test: `Here` sleeps everywhere but
 * on the thread of the host, `There` on that thread only. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "sparoa_live.h"
#include "sparoa_schedule.h"
#include "tests/engine/random_build.h"
#include "tests/support/support.h"

#define SLOW_NS 2000000
#define AMPLE 60 /* seconds: rounds end it long before, however busy the machine is */

static pthread_t host;

static void sleep_slowly(void)
{
    nanosleep(&(struct timespec){0, SLOW_NS}, NULL);
}

static sparoa_status infer(const sparoa_node *node, sparoa_error *err)
{
    (void)err;
    *sparoa_out(node, 0) = *sparoa_in(node, 0);
    sparoa_out(node, 0)->data = NULL;
    return SPAROA_OK;
}

static sparoa_status work(const sparoa_node *node)
{
    const float *x = sparoa_in(node, 0)->data;
    float *y = sparoa_out(node, 0)->data;
    for (int64_t i = 0; i < sparoa_tensor_count(node->in[0]); i++) y[i] = 2 * x[i] + 1;
    return SPAROA_OK;
}

static sparoa_status run_here(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    if (!pthread_equal(pthread_self(), host)) sleep_slowly();
    return work(node);
}

static sparoa_status run_there(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    if (pthread_equal(pthread_self(), host)) sleep_slowly();
    return work(node);
}

/* Slow everywhere, on the host twice as much. */
static sparoa_status run_either(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    sleep_slowly();
    if (pthread_equal(pthread_self(), host)) sleep_slowly();
    return work(node);
}

#define OWN_OP(op_name, op_run)                                                                    \
    {                                                                                              \
        .struct_size = sizeof(sparoa_op), .name = op_name, .domain = "test", .since = 1,           \
        .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .op_class = SPAROA_CLASS_OTHER,      \
        .tolerance = SPAROA_TOL_EXACT, .infer = infer, .run = op_run,                              \
    }
static const sparoa_op here = OWN_OP("Here", run_here), there = OWN_OP("There", run_there);
static const sparoa_op either = OWN_OP("Either", run_either);
static const sparoa_op *const own[] = {&here, &there, &either};

typedef struct bed {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_tensor in;
    size_t nodes;
    char cache[64];
} bed;

/* A chain: 'h' a node that is fast here, 't' there, 'e' slow on either. emu NULL: no device. */
static void bed_make(bed *b, const char *chain, const char *emu, int32_t threads)
{
    sparoa_error err;
    memset(b, 0, sizeof *b);
    host = pthread_self();
    sparoa_runtime_options o = ts_options(&b->memory, threads);
    o.operators = own;
    o.operator_count = 3;
    ts_ok(sparoa_runtime_create(&o, &b->rt, &err), err);
    if (emu) ts_ok(sparoa_runtime_load_plugin(b->rt, SPAROA_EMU_PATH, emu, &err), err);
    mb_model *m = mb_new();
    mb_import(m, "test", 1);
    mb_input(m->graph, "v0", SPAROA_FLOAT32, MB_DIMS(-1, 8));
    char name[32], from[32], to[32];
    b->nodes = strlen(chain);
    for (size_t i = 0; i < b->nodes; i++) {
        snprintf(name, sizeof name, "n%zu", i);
        snprintf(from, sizeof from, "v%zu", i);
        snprintf(to, sizeof to, "v%zu", i + 1);
        const char *op = chain[i] == 'h' ? "Here" : chain[i] == 't' ? "There" : "Either";
        mb_add(m->graph, op, name, from, to)->domain = mb_str("test");
    }
    mb_output(m->graph, to);
    b->model = ts_load(b->rt, m);
    b->in = ts_random(2, (int64_t[]){1, 8}, 5);
    snprintf(b->cache, sizeof b->cache, "sparoa_auto_%ld.yaml", (long)getpid());
    remove(b->cache);
}

static void bed_clear(bed *b)
{
    free(b->in.data);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    ts_balanced(&b->memory);
    mb_end();
}

static sparoa_session *bed_session(bed *b, double seconds, sparoa_fallback fallback,
                                   const char *cache)
{
    sparoa_session_options o = {.struct_size = sizeof o,
                                .device = "auto",
                                .fallback = fallback,
                                .auto_seconds = seconds,
                                .auto_cache = cache};
    sparoa_session *s = NULL;
    sparoa_error err;
    ts_ok(sparoa_session_create(b->model, &o, &s, &err), err);
    return s;
}

static sparoa_status bed_try(bed *b, sparoa_session *s, sparoa_error *err)
{
    sparoa_tensor out = {0};
    sparoa_status status = sparoa_session_run(s, &b->in, 1, &out, 1, err);
    if (status != SPAROA_OK) return status;
    assert_int_equal(sparoa_tensor_count(&out), sparoa_tensor_count(&b->in));
    for (int64_t i = 0; i < sparoa_tensor_count(&out); i++) {
        float want = ((float *)b->in.data)[i];
        for (size_t k = 0; k < b->nodes; k++) want = 2 * want + 1;
        assert_true(((float *)out.data)[i] == want);
    }
    return SPAROA_OK;
}

static void bed_run(bed *b, sparoa_session *s)
{
    sparoa_error err;
    ts_ok(bed_try(b, s, &err), err);
}

static sparoa_choice choice_of(sparoa_session *s)
{
    sparoa_choice c;
    sparoa_error err;
    ts_ok(sparoa_session_choice(s, NULL, 0, &c, &err), err);
    return c;
}

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
        ts_ok(sparoa_runtime_load_plugin(rt, SPAROA_EMU_PATH, NULL, &err), err);
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

/* ---- devices that fail ---- */

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
    ts_ok(sparoa_session_tune(s, &b.in, 1, 0.1, &err), err);
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
        cmocka_unit_test(a_device_lost_early_is_not_chosen),
        cmocka_unit_test(a_device_lost_late_ends_on_the_cpu),
        cmocka_unit_test(forbidding_fallback_gives_the_error),
        cmocka_unit_test(a_device_without_memory_is_not_chosen),
        cmocka_unit_test(a_failure_in_a_run_ends_on_the_cpu),
        cmocka_unit_test(no_memory_anywhere_is_an_error_or_the_cpu),
        cmocka_unit_test(a_run_that_measures_needs_no_memory),
        cmocka_unit_test(a_choice_is_kept),
        cmocka_unit_test(a_stale_file_is_refused),
        cmocka_unit_test(a_watch_changes_the_choice),
        cmocka_unit_test(a_watch_does_not_take_times_of_other_shapes),
        cmocka_unit_test(wrong_use_is_refused),
        cmocka_unit_test(threads_share_a_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
