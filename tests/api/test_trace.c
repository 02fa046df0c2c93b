/* Traces: parsed back, and checked against what was run. */
#include <ctype.h>

#include "tests/api/serve.h"

/* ---- reading one: a JSON value is checked as it is passed over ---- */

#define MAX_EVENTS 20000

typedef struct seen {
    char ph, cat[16], name[64], what[64], model[64];
    double ts, dur, value; /* value: node, bytes, items ... */
    long tid;
    long long id;
} seen;

typedef struct trace_file {
    char *text;
    const char *at;
    seen *events;
    int count;
} trace_file;

static void pass_space(trace_file *f)
{
    while (isspace((unsigned char)*f->at)) f->at++;
}

static void expect(trace_file *f, char c)
{
    pass_space(f);
    if (*f->at != c) fail_msg("expected '%c' at \"%.40s\"", c, f->at);
    f->at++;
}

static void read_string(trace_file *f, char *to, size_t size)
{
    size_t n = 0;
    expect(f, '"');
    for (; *f->at && *f->at != '"'; f->at++) {
        assert_true((unsigned char)*f->at >= 0x20);
        if (*f->at == '\\') {
            f->at++;
            assert_non_null(strchr("\"\\/bfnrtu", *f->at));
            for (int k = 0; *f->at == 'u' && k < 4; k++)
                assert_true(isxdigit((unsigned char)f->at[1 + k]));
        }
        if (n + 1 < size) to[n++] = *f->at;
    }
    if (size) to[n] = '\0';
    expect(f, '"');
}

static double read_number(trace_file *f)
{
    char *end;
    pass_space(f);
    double v = strtod(f->at, &end);
    assert_true(end != f->at && isfinite(v));
    f->at = end;
    return v;
}

static void read_value(trace_file *f, seen *e, const char *key);

static void read_object(trace_file *f, seen *e)
{
    char key[32];
    expect(f, '{');
    pass_space(f);
    while (*f->at != '}') {
        read_string(f, key, sizeof key);
        expect(f, ':');
        read_value(f, e, key);
        pass_space(f);
        if (*f->at == ',') f->at++;
        pass_space(f);
    }
    f->at++;
}

static void read_array(trace_file *f)
{
    expect(f, '[');
    pass_space(f);
    while (*f->at != ']') {
        assert_true(f->count < MAX_EVENTS);
        seen *e = &f->events[f->count++];
        memset(e, 0, sizeof *e);
        read_object(f, e);
        pass_space(f);
        if (*f->at == ',') f->at++;
        pass_space(f);
    }
    f->at++;
}

static void keep_text(trace_file *f, seen *e, const char *key)
{
    char text[64];
    read_string(f, text, sizeof text);
    if (!strcmp(key, "ph")) e->ph = text[0];
    if (!strcmp(key, "cat")) snprintf(e->cat, sizeof e->cat, "%.15s", text);
    if (!strcmp(key, "name")) memcpy(e->name, text, sizeof text); /* also of a lane */
    if (!strcmp(key, "what") || !strcmp(key, "status")) memcpy(e->what, text, sizeof text);
    if (!strcmp(key, "model")) memcpy(e->model, text, sizeof text);
}

static void read_value(trace_file *f, seen *e, const char *key)
{
    pass_space(f);
    if (*f->at == '{') {
        read_object(f, e);
    } else if (*f->at == '[') {
        read_array(f);
    } else if (*f->at == '"') {
        keep_text(f, e, key);
    } else {
        double v = read_number(f);
        if (!strcmp(key, "ts"))
            e->ts = v;
        else if (!strcmp(key, "dur"))
            e->dur = v;
        else if (!strcmp(key, "tid"))
            e->tid = (long)v;
        else if (!strcmp(key, "id"))
            e->id = (long long)v;
        else if (strcmp(key, "pid") != 0)
            e->value = v;
    }
}

static trace_file trace_read(sparoa_runtime *rt)
{
    char path[] = "sparoa_trace_XXXXXX";
    sparoa_error err;
    trace_file f = {.events = calloc(MAX_EVENTS, sizeof *f.events)};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    sparoa_trace_stop(rt);
    ts_ok(sparoa_trace_save(rt, path, &err), err);
    FILE *file = fopen(path, "r");
    size_t room = 16 << 20;
    f.text = malloc(room);
    f.text[fread(f.text, 1, room - 1, file)] = '\0';
    fclose(file);
    remove(path);
    f.at = f.text;
    seen top;
    read_object(&f, &top);
    pass_space(&f);
    assert_int_equal(*f.at, '\0');
    return f;
}

static void trace_free(trace_file *f)
{
    free(f->text);
    free(f->events);
}

static int count_of(const trace_file *f, char ph, const char *cat)
{
    int n = 0;
    for (int i = 0; i < f->count; i++) n += f->events[i].ph == ph && !strcmp(f->events[i].cat, cat);
    return n;
}

static const seen *first_of(const trace_file *f, const char *cat, int number)
{
    for (int i = 0; i < f->count; i++)
        if (f->events[i].ph == 'X' && !strcmp(f->events[i].cat, cat) && number-- == 0)
            return &f->events[i];
    return NULL;
}

/* Slices of one lane lie apart or inside each other: else a viewer would show nonsense. */
static void check_nesting(const trace_file *f)
{
    const double slack = 0.002; /* three digits are written */
    for (int i = 0; i < f->count; i++) {
        const seen *a = &f->events[i];
        if (a->ph != 'X') continue;
        assert_true(a->dur >= 0 && a->ts >= 0);
        for (int k = 0; k < f->count; k++) {
            const seen *b = &f->events[k];
            if (b->ph != 'X' || b->tid != a->tid || k == i) continue;
            bool apart = b->ts >= a->ts + a->dur - slack || a->ts >= b->ts + b->dur - slack;
            bool inside = b->ts >= a->ts - slack && b->ts + b->dur <= a->ts + a->dur + slack;
            bool around = a->ts >= b->ts - slack && a->ts + a->dur <= b->ts + b->dur + slack;
            if (!apart && !inside && !around)
                fail_msg("'%s' %.3f+%.3f and '%s' %.3f+%.3f overlap", a->name, a->ts, a->dur,
                         b->name, b->ts, b->dur);
        }
    }
}

static bool has_lane(const trace_file *f, const char *part)
{
    for (int i = 0; i < f->count; i++)
        if (f->events[i].ph == 'M' && strstr(f->events[i].name, part)) return true;
    return false;
}

/* ---- runs ---- */

static void test_run(void **state)
{
    (void)state;
    ts_memory memory = {0};
    setenv("SPAROA_JOIN", "never", 1); /* joined nodes are one event */
    sparoa_runtime *rt = ts_runtime(&memory, 3);
    unsetenv("SPAROA_JOIN");
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_session *s = ts_session(model, NULL, 0);
    sparoa_tensor in = ts_random(MB_DIMS(64, 3, 8, 8), 3), out = {0};
    sparoa_error err;
    ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err); /* not traced */
    ts_ok(sparoa_trace_start(rt, 10000, &err), err);
    long before = atomic_load(&memory.calls);
    for (int i = 0; i < 5; i++) ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    assert_int_equal(atomic_load(&memory.calls), before);
    trace_file f = trace_read(rt);
    assert_int_equal(count_of(&f, 'X', "run"), 5);
    size_t nodes = 0;
    for (size_t i = 0; i < sparoa_session_node_count(s); i++) {
        sparoa_node_info info;
        sparoa_session_node(s, i, &info);
        nodes += strcmp(info.kernel, "none") != 0;
        if (!strcmp(info.kernel, "none")) continue;
        bool found = false;
        for (int k = 0; k < f.count; k++)
            found |= !strcmp(f.events[k].name, info.name) && !strcmp(f.events[k].what, info.op);
        assert_true(found);
    }
    assert_int_equal(count_of(&f, 'X', "node"), 5 * (int)nodes);
    /* each node inside its run, on one lane; together not longer than it */
    const seen *run = first_of(&f, "run", 0);
    double sum = 0;
    for (int i = 0; i < f.count; i++) {
        const seen *e = &f.events[i];
        if (strcmp(e->cat, "node") != 0 || e->ts > run->ts + run->dur) continue;
        assert_int_equal(e->tid, run->tid);
        assert_true(e->ts >= run->ts - 0.002);
        sum += e->dur;
    }
    assert_true(sum > 0 && sum <= run->dur + 0.01);
    assert_true(has_lane(&f, "cpu caller"));
    check_nesting(&f);
    trace_free(&f);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(in.data);
    mb_end();
    ts_balanced(&memory);
}

/* The workers' lanes: work that is spread takes long enough that they get some. */
static void test_workers(void **state)
{
    (void)state;
    sparoa_runtime *rt = ts_runtime(NULL, 2);
    mb_model *m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(256, 512));
    mb_random(m->graph, "w", MB_DIMS(512, 512), 1, -1, 1);
    mb_add(m->graph, "MatMul", "mm", "x,w", "y");
    mb_output(m->graph, "y");
    sparoa_model *model = ts_load(rt, m);
    sparoa_session *s = ts_session(model, NULL, 0);
    sparoa_tensor in = ts_random(MB_DIMS(256, 512), 3), out = {0};
    sparoa_error err;
    ts_ok(sparoa_trace_start(rt, 0, &err), err);
    size_t found = 0;
    for (int i = 0; i < 200; i++) ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    trace_file f = trace_read(rt);
    found = (size_t)count_of(&f, 'X', "tasks");
    assert_true(found > 0);
    assert_true(has_lane(&f, "cpu worker"));
    assert_true(first_of(&f, "tasks", 0)->tid != first_of(&f, "run", 0)->tid);
    check_nesting(&f);
    trace_free(&f);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(in.data);
    mb_end();
}

/* ---- requests and batches ---- */

static void test_requests(void **state)
{
    (void)state;
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_server *server = make_server(rt, 1);
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 4, .max_queue_delay_ns = 1000000000000};
    sparoa_service *service = make_service(server, model, &policy, 0);
    sparoa_tensor in = ts_random(MB_DIMS(1, 3, 8, 8), 3);
    sparoa_request *r[10];
    sparoa_error err;
    ts_ok(sparoa_trace_start(rt, 1000, &err), err);
    for (int i = 0; i < 10; i++) r[i] = submit(service, &in, NULL);
    sparoa_request_cancel(r[9]);
    sparoa_service_flush(service);
    for (int i = 0; i < 10; i++) {
        sparoa_request_wait(r[i], NULL);
        sparoa_request_release(r[i]);
    }
    sparoa_server_destroy(server); /* the last batch is noted after its requests ended */
    trace_file f = trace_read(rt);
    int batches = count_of(&f, 'X', "batch"), items = 0, ok = 0;
    for (int i = 0; i < batches; i++) items += (int)first_of(&f, "batch", i)->value;
    assert_int_equal(items, 9);
    assert_string_equal(first_of(&f, "batch", 0)->what, "FULL");
    assert_string_equal(first_of(&f, "batch", batches - 1)->what, "FLUSH");
    /* begin and end of each span; nine were queued and run, one was only queued */
    assert_int_equal(count_of(&f, 'b', "request"), 19);
    assert_int_equal(count_of(&f, 'e', "request"), 19);
    for (int i = 0; i < f.count; i++)
        ok += f.events[i].ph == 'b' && !strcmp(f.events[i].what, "OK");
    assert_int_equal(ok, 18);
    assert_true(has_lane(&f, "cpu server"));
    assert_true(count_of(&f, 'X', "gather") >= 4);
    check_nesting(&f);
    trace_free(&f);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(in.data);
    mb_end();
}

/* ---- devices ---- */

#ifdef SPAROA_EMU_PATH
static void test_queues(void **state)
{
    (void)state;
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    sparoa_error err;
    ts_emu(rt, NULL);
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_device_desc device;
    assert_int_equal(sparoa_device(rt, 1, &device), SPAROA_OK);
    sparoa_session_options o = {.struct_size = sizeof o, .device = device.name};
    sparoa_session *s = NULL;
    ts_ok(sparoa_session_create(model, &o, &s, &err), err);
    sparoa_tensor in = ts_random(MB_DIMS(2, 3, 8, 8), 3), out = {0};
    ts_ok(sparoa_trace_start(rt, 0, &err), err);
    for (int i = 0; i < 3; i++) ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    trace_file f = trace_read(rt);
    /* the first run node by node, the others as a replayed segment each */
    int nodes = 0;
    for (size_t i = 0; i < sparoa_session_node_count(s); i++) {
        sparoa_node_info info;
        ts_ok(sparoa_session_node(s, i, &info), err);
        nodes += !strcmp(info.device, device.name) && strcmp(info.kernel, "none");
    }
    assert_true(nodes >= 5);
    assert_int_equal(count_of(&f, 'X', "stream"), nodes + 2);
    assert_int_equal(count_of(&f, 'X', "copy"), 3 * 2); /* the image there, the scores back */
    assert_int_equal((int)first_of(&f, "copy", 0)->value, 2 * 3 * 8 * 8 * 4);
    assert_int_equal((int)first_of(&f, "copy", 1)->value, 2 * 5 * 4);
    assert_true(first_of(&f, "stream", 0)->tid != first_of(&f, "run", 0)->tid);
    assert_true(has_lane(&f, "queue"));
    check_nesting(&f);
    trace_free(&f);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(in.data);
    mb_end();
}
#endif

static void test_limits(void **state)
{
    (void)state;
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_session *s = ts_session(model, NULL, 0);
    sparoa_tensor in = ts_random(MB_DIMS(1, 3, 8, 8), 3), out = {0};
    sparoa_error err;
    size_t dropped;
    assert_int_equal(sparoa_trace_events(rt, &dropped), 0);
    ts_ok(sparoa_trace_start(rt, 3, &err), err);
    ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    sparoa_trace_stop(rt);
    assert_int_equal(sparoa_trace_events(rt, &dropped), 3);
    assert_true(dropped > 0);
    trace_file f = trace_read(rt);
    assert_int_equal(count_of(&f, 'X', "node"), 3);
    trace_free(&f);
    assert_int_equal(sparoa_trace_save(rt, "/nonexistent/x.json", &err), SPAROA_NOT_FOUND);
    assert_int_equal(sparoa_trace_save(rt, NULL, &err), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_trace_start(NULL, 0, &err), SPAROA_INVALID_ARGUMENT);
    ts_ok(sparoa_trace_start(rt, 0, &err), err); /* forgets, and grows */
    f = trace_read(rt);
    assert_int_equal(count_of(&f, 'X', "node"), 0);
    trace_free(&f);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(in.data);
    mb_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),      cmocka_unit_test(test_workers),
        cmocka_unit_test(test_requests),
#ifdef SPAROA_EMU_PATH
        cmocka_unit_test(test_queues),
#endif
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
