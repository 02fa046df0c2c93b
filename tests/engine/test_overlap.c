/* Copies and both devices at work at once, segments that are replayed, and devices that do not
 * signal: a run ends at its deadline or at the device's timeout, right or with a typed error. */
#include <unistd.h>

#include "base/clock.h"
#include "sparoa_serve.h"
#include "tests/engine/hand_plan.h"

#define SIDE 64

/* x -> a chain of `deep` nodes on either of two branches -> their sum. */
static mb_model *branches(int deep)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_opset(m, 17);
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(SIDE, SIDE));
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < deep; i++) {
            char *from = mb_alloc(16), *to = mb_alloc(16);
            sprintf(from, i ? "v%d_%d" : "x", b, i - 1);
            sprintf(to, "v%d_%d", b, i);
            mb_add(g, i % 2 ? "Tanh" : b ? "Cos" : "Sin", to, from, to);
        }
    char *last = mb_alloc(40);
    sprintf(last, "v0_%d,v1_%d", deep - 1, deep - 1);
    mb_add(g, "Add", "sum", last, "sum");
    mb_output(g, "sum");
    return m;
}

typedef struct bed {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *session;
    sparoa_tensor in, want;
} bed;

/* The second branch is the device's. */
static void bed_make(bed *b, int deep, const char *emu, sparoa_session_options o)
{
    sparoa_error err;
    sparoa_session *cpu = NULL;
    sparoa_tensor out = {0};
    memset(b, 0, sizeof *b);
    sparoa_runtime_options ro = ts_options(&b->memory, 1);
    ts_ok(sparoa_runtime_create(&ro, &b->rt, &err), err);
    ts_emu(b->rt, emu);
    b->model = ts_load(b->rt, branches(deep));
    ts_ok(sparoa_session_create(b->model, NULL, &cpu, &err), err);
    b->in = ts_random(MB_DIMS(SIDE, SIDE), 7);
    ts_ok(sparoa_session_run(cpu, &b->in, 1, &out, 1, &err), err);
    b->want = ts_copy(&out);
    sparoa_plan *plan = hp_make(b->rt, cpu, "emu0");
    for (uint32_t i = 0; i < plan->p->node_count; i++)
        plan->p->nodes[i].device = strstr(plan->p->nodes[i].name, "v1_") != NULL;
    sparoa_session_destroy(cpu);
    o.struct_size = sizeof o;
    o.plan = plan;
    ts_ok(sparoa_session_create(b->model, &o, &b->session, &err), err);
    sparoa_plan_destroy(plan);
}

static void bed_clear(bed *b)
{
    free(b->in.data);
    free(b->want.data);
    sparoa_session_destroy(b->session);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    ts_balanced(&b->memory);
    mb_end();
}

static void right(bed *b)
{
    sparoa_error err;
    sparoa_tensor out = {0};
    ts_ok(sparoa_session_run(b->session, &b->in, 1, &out, 1, &err), err);
    assert_true(ts_difference(&out, &b->want) <= 1e-5);
}

/* One run, traced, of a device whose kernels take 4 ms in the mean; what was traced is left in the
 * runtime. */
static const sp_trace *run_traced(bed *b)
{
    sparoa_error err;
    bed_make(b, 6, "delay_us=4000,seed=3", (sparoa_session_options){0});
    right(b);
    ts_ok(sparoa_trace_start(b->rt, 1000, &err), err);
    right(b);
    sparoa_trace_stop(b->rt);
    return b->session->engine.trace;
}

/* Whether the host's branch ran while the device's was still at work. */
static bool overlapped(void)
{
    bed b;
    const sp_trace *t = run_traced(&b);
    int64_t device_end = 0, host_start = INT64_MAX;
    for (size_t i = 0; i < sp_trace_count(t, NULL); i++) {
        const sp_trace_event *e = &t->array->events[i];
        if (e->kind == SP_TRACE_STREAM && e->end_ns > device_end) device_end = e->end_ns;
        if (e->kind == SP_TRACE_NODE && strstr(e->name, "v0_") && e->start_ns < host_start)
            host_start = e->start_ns;
    }
    assert_true(device_end > 0 && host_start < INT64_MAX);
    bed_clear(&b);
    return host_start < device_end;
}

/* They run at once; where others keep this thread waiting for as long as the device works, once
 * more. */
static void host_and_device_overlap(void **state)
{
    (void)state;
    bool once = false;
    for (int turn = 0; turn < 10 && !once; turn++) once = overlapped();
    assert_true(once);
}

/* A slice of a trace begins where the work does: what follows another queue counts no waiting. */
static void traces_show_no_waiting(void **state)
{
    (void)state;
    bed b;
    const sp_trace *t = run_traced(&b);
    const sp_trace_event *there = NULL, *work = NULL, *back = NULL, *sum = NULL;
    for (size_t i = 0; i < sp_trace_count(t, NULL); i++) {
        const sp_trace_event *e = &t->array->events[i];
        if (e->kind == SP_TRACE_COPY) *(there ? &back : &there) = e;
        if (e->kind == SP_TRACE_STREAM) work = e;
        if (e->kind == SP_TRACE_NODE && !strcmp(e->name, "sum")) sum = e;
    }
    assert_true(there && work && back && sum);
    assert_true(there->end_ns <= work->start_ns && work->end_ns <= back->start_ns);
    assert_true(back->end_ns <= sum->start_ns);
    bed_clear(&b);
}

/* A device that shares the host's memory is handed what it reads where it lies: with the first copy
 * failing, it can run only if there is none. */
static void shared_memory_is_not_copied(void **state)
{
    (void)state;
    bed b;
    const sparoa_session_options forbid = {.fallback = SPAROA_FALLBACK_FORBID};
    bed_make(&b, 5, "unified=1,fail_copy=1,delay_us=200", forbid);
    for (int i = 0; i < 4; i++) right(&b); /* as it is, then recorded */
    bed_clear(&b);
    bed_make(&b, 5, "fail_copy=1", forbid);
    sparoa_error err;
    sparoa_tensor out = {0};
    assert_int_not_equal(sparoa_session_run(b.session, &b.in, 1, &out, 1, &err), SPAROA_OK);
    right(&b);
    bed_clear(&b);
}

static void runs_allocate_nothing_once_recorded(void **state)
{
    (void)state;
    bed b;
    bed_make(&b, 5, NULL, (sparoa_session_options){0});
    right(&b);
    const sp_frame *f = b.session->frame;
    uint32_t captures = 0;
    for (uint32_t i = 0; i < f->segment_count; i++) captures += f->segments[i].capture != NULL;
    assert_int_equal(captures, 1);
    long calls = atomic_load(&b.memory.calls);
    for (int i = 0; i < 20; i++) right(&b);
    assert_int_equal(atomic_load(&b.memory.calls), calls);
    bed_clear(&b);
}

/* A device that hangs for good, at every step: the timeout ends the run. */
static void a_silent_device_is_lost(void **state)
{
    (void)state;
    for (int step = 1; step <= 12; step++)
        for (int fallback = 1; fallback <= 2; fallback++) {
            bed b;
            char options[32];
            sparoa_error err = {0};
            sparoa_tensor out = {0};
            snprintf(options, sizeof options, "hang_at=%d", step);
            bed_make(&b, 3, options,
                     (sparoa_session_options){.device_timeout_ms = 60,
                                              .fallback = (sparoa_fallback)fallback});
            bool lost = false;
            for (int turn = 0; turn < 3; turn++) {
                if (fallback == SPAROA_FALLBACK_ALLOW) {
                    right(&b);
                    continue;
                }
                sparoa_status status = sparoa_session_run(b.session, &b.in, 1, &out, 1, &err);
                if (lost || status != SPAROA_OK) {
                    assert_int_equal(status, SPAROA_DEVICE_LOST);
                    assert_non_null(strstr(err.message, "emu"));
                }
                lost |= status != SPAROA_OK;
                out = (sparoa_tensor){0};
            }
            bed_clear(&b);
        }
}

/* The deadline ends a run whose device is slow; the next one waits for what is left and is right.
 */
static void deadlines_hold_while_a_device_works(void **state)
{
    (void)state;
    bed b;
    sparoa_error err = {0};
    bed_make(&b, 40, "delay_us=5000", (sparoa_session_options){0});
    sparoa_tensor out = {0};
    int64_t start = sp_now_ns();
    sparoa_run_options o = {.struct_size = sizeof o, .deadline_ns = start + 20000000};
    assert_int_equal(sparoa_session_run_with(b.session, &b.in, 1, &out, 1, &o, &err),
                     SPAROA_DEADLINE);
    assert_null(out.data);
    right(&b);
    bed_clear(&b);
}

/* A run that was given up leaves events with the device. A larger recording begins meanwhile: the
 * device ends its events all the same, and none of them is taken for one of the new recording. */
static void a_trace_restarts_while_a_device_works(void **state)
{
    (void)state;
    bed b;
    sparoa_error err = {0};
    bed_make(&b, 40, "delay_us=2000", (sparoa_session_options){0});
    for (size_t events = 20000; events <= 60000; events += 20000) {
        sparoa_tensor out = {0};
        ts_ok(sparoa_trace_start(b.rt, events, &err), err);
        sparoa_run_options o = {.struct_size = sizeof o, .deadline_ns = sp_now_ns() + 10000000};
        assert_int_equal(sparoa_session_run_with(b.session, &b.in, 1, &out, 1, &o, &err),
                         SPAROA_DEADLINE);
    }
    ts_ok(sparoa_trace_start(b.rt, 80000, &err), err);
    right(&b);
    sparoa_trace_stop(b.rt);
    const sp_trace *t = b.session->engine.trace;
    size_t stream = 0;
    for (size_t i = 0; i < sp_trace_count(t, NULL); i++) {
        const sp_trace_event *e = &t->array->events[i];
        assert_int_equal(e->state, SP_TRACE_DONE);
        assert_true(e->start_ns >= t->start_ns && e->end_ns >= e->start_ns);
        stream += e->kind == SP_TRACE_STREAM;
    }
    assert_int_equal(stream, 40);
    ts_ok(sparoa_trace_start(b.rt, 3, &err), err); /* the others are not needed any more */
    assert_null(t->array->older);
    right(&b);
    assert_int_equal(sparoa_trace_events(b.rt, NULL), 3);
    bed_clear(&b);
}

static int observed;

static void observe(void *user, const char *node, const char *value, const sparoa_tensor *tensor,
                    const char *layout)
{
    (void)user, (void)node, (void)value, (void)tensor, (void)layout;
    observed++;
}

/* What was asked of the session goes on after the device is gone. */
static void observer_and_profile_survive_the_device(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b, 3, "lose_at=3",
             (sparoa_session_options){
                 .profile = 1, .observer = observe, .fallback = SPAROA_FALLBACK_ALLOW});
    for (int i = 0; i < 3; i++) right(&b);
    assert_true(b.session->lost);
    observed = 0;
    right(&b);
    assert_int_equal(observed, 7);
    ts_ok(sparoa_session_prepare(b.session, &b.in, 1, &err), err);
    sparoa_node_info info;
    for (size_t i = 0; i < sparoa_session_node_count(b.session); i++) {
        assert_int_equal(sparoa_session_node(b.session, i, &info), SPAROA_OK);
        assert_true(info.runs >= 3);
        assert_string_equal(info.device, "cpu");
    }
    bed_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_and_device_overlap),
        cmocka_unit_test(traces_show_no_waiting),
        cmocka_unit_test(shared_memory_is_not_copied),
        cmocka_unit_test(runs_allocate_nothing_once_recorded),
        cmocka_unit_test(a_silent_device_is_lost),
        cmocka_unit_test(deadlines_hold_while_a_device_works),
        cmocka_unit_test(a_trace_restarts_while_a_device_works),
        cmocka_unit_test(observer_and_profile_survive_the_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
