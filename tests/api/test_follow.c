/* sparoa_watch: a session's plan follows load and clocks of a fake tree of files, comes back, does
 * not swing, allocates nothing on known ways, and follows them in a thread of its own if asked. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "sparoa_live.h"
#include "sparoa_schedule.h"
#include "tests/support/files.h"
#include "tests/support/support.h"

#define MS INT64_C(1000000)
#define LAYERS 4

/* The host is the faster one as long as nothing else uses it. */
static const char platform_text[] =
    "format: sparoa-platform\nversion: 1\nname: fake\nidle_watts: 1\ndevices:\n"
    "  - {name: cpu, kind: cpu, peak_gflops: 200, bandwidth_gbs: 100, active_watts: 5, "
    "kinds: {default: {}}}\n"
    "  - {name: emu0, kind: gpu, peak_gflops: 100, bandwidth_gbs: 100, active_watts: 5, "
    "kinds: {default: {}}}\n"
    "links:\n  - {from: cpu, to: emu0, eager_us: 1, graph_us: 1, bandwidth_gbs: 50}\n"
    "  - {from: emu0, to: cpu, eager_us: 1, graph_us: 1, bandwidth_gbs: 50}\n";

/* ---- a tree of files ---- */

static char root[64];
static unsigned busy_ticks, idle_ticks;

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "sparoa_follow_XXXXXX");
    return mkdtemp(root) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    return ts_remove(root) != 0;
}

static void put(const char *path, const char *text)
{
    ts_put(root, path, text);
}

/* Another process takes this share of the processor from the read before to the next one. */
static void put_load(double share)
{
    char text[96];
    busy_ticks += (unsigned)(1000 * share);
    idle_ticks += (unsigned)(1000 * (1 - share));
    snprintf(text, sizeof text, "cpu  %u 0 0 %u 0 0 0 0 0 0\ncpu0 1 2 3", busy_ticks, idle_ticks);
    put("/proc/stat", text);
    put("/proc/self/stat", "77 (a) S 1 77 77 0 -1 4194304 100 0 0 0 0 0 0 0 20");
}

static void put_clock(double share)
{
    char text[32];
    snprintf(text, sizeof text, "%d", (int)(2000000 * share));
    put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", text);
    put("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2000000");
}

/* ---- a session by a replanner's plan ---- */

typedef struct bed {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *cpu, *session;
    sparoa_platform *platform;
    sparoa_profile *profile;
    sparoa_replanner *replanner;
    sparoa_live *live;
    sparoa_watch *watch;
    sparoa_tensor in, want;
    int64_t now; /* of the states */
} bed;

static sparoa_model *layers(sparoa_runtime *rt)
{
    mb_model *m = mb_new();
    char from[32] = "v0", to[32], weight[32];
    mb_input(m->graph, "v0", SPAROA_FLOAT32, MB_DIMS(32, 256));
    for (int i = 0; i < LAYERS; i++) {
        snprintf(weight, sizeof weight, "w%d", i);
        snprintf(to, sizeof to, "v%d", i + 1);
        mb_random(m->graph, weight, MB_DIMS(256, 256), (uint64_t)i, -0.1, 0.1);
        char both[80];
        snprintf(both, sizeof both, "%s,%s", from, weight);
        mb_add(m->graph, "MatMul", to, both, to);
        strcpy(from, to);
    }
    mb_output(m->graph, from);
    return ts_load(rt, m);
}

static void bed_make(bed *b)
{
    sparoa_error err;
    char path[96];
    sparoa_tensor out = {0};
    memset(b, 0, sizeof *b);
    put_load(0);
    put_clock(1);
    put("/platform.yaml", platform_text);
    snprintf(path, sizeof path, "%s/platform.yaml", root);
    b->rt = ts_runtime(&b->memory, 1);
    ts_emu(b->rt, "load=0");
    b->model = layers(b->rt);
    b->in = ts_random(2, (int64_t[]){32, 256}, 3);
    b->cpu = ts_session(b->model, NULL, 0);
    ts_ok(sparoa_session_run(b->cpu, &b->in, 1, &out, 1, &err), err);
    b->want = ts_copy(&out);
    ts_ok(sparoa_platform_load(b->rt, path, &b->platform, &err), err);
    ts_ok(sparoa_profile_create(b->model, &b->in, 1, SPAROA_REGIME_GRAPH, &b->profile, &err), err);
    ts_ok(sparoa_replanner_create(b->profile, b->platform, SPAROA_OBJECTIVE_LATENCY, NULL,
                                  &b->replanner, &err),
          err);
    sparoa_plan *plan = NULL;
    ts_ok(sparoa_replanner_plan(b->replanner, &plan, &err), err);
    sparoa_session_options o = {.struct_size = sizeof o, .plan = plan};
    ts_ok(sparoa_session_create(b->model, &o, &b->session, &err), err);
    sparoa_plan_destroy(plan);
    const sparoa_live_options lo = {.struct_size = sizeof lo, .root = root};
    ts_ok(sparoa_live_create(b->rt, &lo, &b->live, &err), err);
}

static void bed_watch(bed *b, sparoa_watch_options o)
{
    sparoa_error err;
    o.struct_size = sizeof o;
    o.replanner = b->replanner;
    o.live = b->live;
    ts_ok(sparoa_watch_create(b->session, &o, &b->watch, &err), err);
}

static void bed_clear(bed *b)
{
    sparoa_watch_destroy(b->watch);
    sparoa_live_destroy(b->live);
    sparoa_session_destroy(b->session);
    sparoa_session_destroy(b->cpu);
    sparoa_replanner_destroy(b->replanner);
    sparoa_profile_destroy(b->profile);
    sparoa_platform_destroy(b->platform);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    free(b->in.data);
    free(b->want.data);
    ts_balanced(&b->memory);
    mb_end();
}

/* Reads the tree, `ms` later by the state's own clock. */
static sparoa_watch_info step(bed *b, double load, int64_t ms)
{
    sparoa_live_state state;
    sparoa_watch_info info;
    sparoa_error err;
    put_load(load);
    sparoa_live_read(b->live, &state);
    b->now += ms * MS;
    state.time_ns = b->now;
    ts_ok(sparoa_watch_step(b->watch, &state, &info, &err), err);
    return info;
}

static void only_run(bed *b)
{
    sparoa_error err;
    sparoa_tensor out = {0};
    ts_ok(sparoa_session_run(b->session, &b->in, 1, &out, 1, &err), err);
    assert_true(ts_difference(&out, &b->want) <= 1e-3);
}

/* Nodes on the device. */
static int run(bed *b)
{
    int there = 0;
    only_run(b);
    for (size_t i = 0; i < sparoa_session_node_count(b->session); i++) {
        sparoa_node_info n;
        assert_int_equal(sparoa_session_node(b->session, i, &n), SPAROA_OK);
        there += strcmp(n.device, "emu0") == 0;
    }
    return there;
}

static void load_moves_the_plan_and_back(void **state)
{
    (void)state;
    bed b;
    bed_make(&b);
    bed_watch(&b, (sparoa_watch_options){0});
    step(&b, 0, 1000);
    assert_int_equal(run(&b), 0);
    for (int k = 0; k < 4; k++) { /* not long enough */
        assert_int_equal(step(&b, 0.9, 20).changed, 0);
        assert_int_equal(run(&b), 0);
    }
    sparoa_watch_info info = {0};
    for (int k = 0; k < 10 && !info.changed; k++) {
        info = step(&b, 0.9, 20);
        run(&b);
    }
    assert_true(info.changed && info.switches == 1 && info.nodes > 0);
    assert_string_equal(info.reason, "load");
    assert_true(info.after_ns < 0.95 * info.before_ns && info.cost_ns > 0);
    assert_int_equal(run(&b), info.nodes);
    for (int k = 0; k < 10; k++) assert_int_equal(step(&b, 0.9, 1000).changed, 0);
    /* back, and from then on without allocating */
    for (int turn = 0; turn < 3; turn++) {
        long calls = atomic_load(&b.memory.calls);
        for (int k = 0; k < 3; k++) step(&b, 0, 2000);
        assert_int_equal(run(&b), 0);
        for (int k = 0; k < 3; k++) step(&b, 0.9, 2000);
        assert_true(run(&b) > 0);
        if (turn) assert_int_equal(atomic_load(&b.memory.calls), calls);
    }
    bed_clear(&b);
}

static void clocks_move_the_plan(void **state)
{
    (void)state;
    bed b;
    bed_make(&b);
    bed_watch(&b, (sparoa_watch_options){.hold_ns = 10 * MS});
    step(&b, 0, 1000);
    put_clock(0.3);
    sparoa_watch_info info = {0};
    for (int k = 0; k < 10 && !info.changed; k++) info = step(&b, 0, 500);
    assert_true(info.changed);
    assert_string_equal(info.reason, "clock");
    assert_int_equal(run(&b), info.nodes);
    bed_clear(&b);
}

/* Load that comes and goes as fast as the watch looks. */
static void switching_is_bounded(void **state)
{
    (void)state;
    bed b;
    bed_make(&b);
    bed_watch(&b, (sparoa_watch_options){.hold_ns = 1 * MS, .smooth_ns = -1, .switch_share = 1e-7});
    step(&b, 0, 1000);
    sparoa_watch_info info = {0};
    for (int k = 0; k < 200; k++) {
        info = step(&b, k / 2 % 2 ? 0 : 0.9, 10);
        run(&b);
    }
    assert_true(info.switches >= 1 && info.switches <= 2);
    assert_true(info.held_back > 40);
    /* a gain that nothing reaches */
    sparoa_watch_destroy(b.watch);
    bed_watch(&b, (sparoa_watch_options){.hold_ns = 1 * MS, .gain = 0.99});
    for (int k = 0; k < 20; k++) info = step(&b, k < 4 ? 0 : 0.9, 1000);
    assert_true(info.replans >= 1 && info.switches == 0);
    assert_int_equal(run(&b), 0);
    bed_clear(&b);
}

static atomic_int reported;

static void report(void *user, const sparoa_watch_info *info)
{
    (void)user;
    if (info->changed) atomic_fetch_add(&reported, 1);
}

static void a_thread_follows_if_asked(void **state)
{
    (void)state;
    bed b;
    bed_make(&b);
    atomic_store(&reported, 0);
    bed_watch(&b, (sparoa_watch_options){
                      .hold_ns = 1, .smooth_ns = -1, .period_ns = MS, .report = report});
    put_clock(0.3);
    for (int k = 0; k < 20000 && !atomic_load(&reported); k++) {
        only_run(&b);
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
    sparoa_watch_destroy(b.watch);
    b.watch = NULL;
    assert_true(atomic_load(&reported) >= 1);
    assert_true(run(&b) > 0);
    bed_clear(&b);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (long at = 1; at < 60; at++) {
        bed b;
        sparoa_error err;
        sparoa_live_state now;
        bed_make(&b);
        b.memory.only_one = 1;
        b.memory.fail_at = atomic_load(&b.memory.calls) + at;
        sparoa_watch_options o = {
            .struct_size = sizeof o, .replanner = b.replanner, .hold_ns = 1, .smooth_ns = -1};
        sparoa_status status = sparoa_watch_create(b.session, &o, &b.watch, &err);
        for (int k = 0; status == SPAROA_OK && k < 4; k++) {
            put_load(k ? 0.9 : 0);
            sparoa_live_read(b.live, &now);
            now.time_ns = 1000 * MS * (k + 1);
            status = sparoa_watch_step(b.watch, &now, NULL, &err);
        }
        assert_true(status == SPAROA_OK || status == SPAROA_OUT_OF_MEMORY);
        b.memory.fail_at = 0;
        run(&b);
        bed_clear(&b);
    }
}

static void wrong_use_is_refused(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    sparoa_watch *w = NULL;
    bed_make(&b);
    sparoa_watch_options o = {.struct_size = sizeof o};
    assert_int_equal(sparoa_watch_create(b.session, &o, &w, &err), SPAROA_INVALID_ARGUMENT);
    o.replanner = b.replanner;
    assert_int_equal(sparoa_watch_create(b.cpu, &o, &w, &err), SPAROA_INVALID_STATE);
    o.period_ns = MS; /* without sensors */
    assert_int_equal(sparoa_watch_create(b.session, &o, &w, &err), SPAROA_INVALID_ARGUMENT);
    o.period_ns = 0;
    o.gain = NAN;
    assert_int_equal(sparoa_watch_create(b.session, &o, &w, &err), SPAROA_INVALID_ARGUMENT);
    o.gain = 0;
    ts_ok(sparoa_watch_create(b.session, &o, &w, &err), err);
    assert_int_equal(sparoa_watch_step(w, NULL, NULL, &err), SPAROA_INVALID_ARGUMENT);
    sparoa_watch_destroy(w);
    sparoa_session_options so = {.struct_size = sizeof so, .device = "auto", .auto_seconds = -1};
    sparoa_session *s = NULL;
    ts_ok(sparoa_session_create(b.model, &so, &s, &err), err);
    assert_int_equal(sparoa_watch_create(s, &o, &w, &err), SPAROA_INVALID_ARGUMENT);
    o.replanner = NULL;
    assert_int_equal(sparoa_watch_create(s, &o, &w, &err), SPAROA_INVALID_STATE);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load_moves_the_plan_and_back), cmocka_unit_test(clocks_move_the_plan),
        cmocka_unit_test(switching_is_bounded),         cmocka_unit_test(a_thread_follows_if_asked),
        cmocka_unit_test(every_allocation_may_fail),    cmocka_unit_test(wrong_use_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
