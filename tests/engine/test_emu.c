/* The emulated accelerator, driven through its table. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugin/plugin_host.h"

#define COUNT 1000 /* floats in a buffer */
#define BYTES (COUNT * sizeof(float))

/* An open device with two queues. */
typedef struct rig {
    plugin_host h;
    const sparoa_backend *t;
    sparoa_dev *dev;
    sparoa_queue *q[2];
} rig;

static void start(rig *r, const char *options)
{
    char all[128];
    plugin_host_init(&r->h);
    assert_int_equal(sp_plugin_load(SPAROA_EMU_PATH, &r->h.host, &r->t, &r->h.err), SPAROA_OK);
    snprintf(all, sizeof all, "memory=%d,%s", 4 << 20, options ? options : ""); /* as ts_emu */
    assert_int_equal(r->t->device_open(&r->h.host, 0, all, &r->dev, &r->h.err), SPAROA_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(r->t->queue_create(r->dev, 0, &r->q[i]), SPAROA_OK);
}

/* Everything that the device took from the host is given back. */
static void finish(rig *r)
{
    for (int i = 0; i < 2; i++) r->t->queue_destroy(r->q[i]);
    r->t->device_close(r->dev);
    assert_int_equal(atomic_load(&r->h.blocks), 0);
    assert_int_equal(atomic_load(&r->h.bytes), 0);
    assert_int_equal(atomic_load(&r->h.complaints), 0);
}

static float *buffer(rig *r)
{
    void *p = NULL;
    assert_int_equal(r->t->buffer_alloc(r->dev, BYTES, SPAROA_MEMORY_DEVICE, &p), SPAROA_OK);
    return p;
}

static void drop(rig *r, void *p)
{
    r->t->buffer_free(r->dev, p, BYTES, SPAROA_MEMORY_DEVICE);
}

static void fill(float *x, float from)
{
    for (int i = 0; i < COUNT; i++) x[i] = from + (float)i;
}

/* ---- a node: y = Neg(x) or y = Add(x, w) ---- */

typedef struct unit {
    sparoa_node node;
    sparoa_tensor t[3], *in[2], *out[1];
    sparoa_kernel *kernel;
    sparoa_prepared *prepared;
} unit;

static void unit_make(rig *r, unit *u, const char *op)
{
    size_t workspace = 1;
    memset(u, 0, sizeof *u);
    int32_t n_in = strcmp(op, "Add") == 0 ? 2 : 1;
    for (int i = 0; i < 3; i++) u->t[i] = sparoa_tensor_of(SPAROA_FLOAT32, NULL, 1, COUNT);
    u->in[0] = &u->t[0];
    u->in[1] = &u->t[1];
    u->out[0] = &u->t[2];
    u->node = (sparoa_node){.name = "n",
                            .op = op,
                            .domain = "",
                            .version = 17,
                            .n_in = n_in,
                            .n_out = 1,
                            .in = u->in,
                            .out = u->out};
    assert_true(r->t->node_supports(r->dev, &u->node, NULL, 0));
    assert_int_equal(r->t->node_create(r->dev, &u->node, &u->kernel, &r->h.err), SPAROA_OK);
    assert_int_equal(r->t->node_prepare(u->kernel, &u->node, &u->prepared, &workspace, &r->h.err),
                     SPAROA_OK);
    assert_int_equal(workspace, 0);
}

/* The tensors change right after, as the engine's do. */
static sparoa_status unit_run(rig *r, unit *u, int q, float *x, float *w, float *y)
{
    u->t[0].data = x;
    u->t[1].data = w;
    u->t[2].data = y;
    sparoa_status status =
        r->t->node_run(u->kernel, u->prepared, r->q[q], &u->node, NULL, &r->h.err);
    for (int i = 0; i < 3; i++) u->t[i].data = NULL;
    return status;
}

static void unit_free(rig *r, unit *u)
{
    r->t->prepared_destroy(u->kernel, u->prepared);
    r->t->node_destroy(u->kernel);
}

/* ---- memory ---- */

static void touch(const float *p, bool inside_allowed)
{
    pid_t child = fork();
    if (child == 0) {
        /* the default action, not a sanitizer's report */
        signal(SIGSEGV, SIG_DFL);
        volatile float value = *(const volatile float *)p;
        _exit(value == 0 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (inside_allowed)
        assert_true(WIFEXITED(status));
    else
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void host_access_is_caught(void **state)
{
    rig r;
    start(&r, NULL);
    float *p = buffer(&r);
    void *pinned = NULL;
    assert_int_equal(r.t->buffer_alloc(r.dev, BYTES, SPAROA_MEMORY_PINNED, &pinned), SPAROA_OK);
    touch(p, false);
    touch(p + COUNT - 1, false);
    touch(pinned, true);
    drop(&r, p);
    r.t->buffer_free(r.dev, pinned, BYTES, SPAROA_MEMORY_PINNED);
    finish(&r);
}

static void memory_is_limited(void **state)
{
    rig r;
    void *p[5] = {NULL}, *more = NULL;
    sparoa_device_status s = {.struct_size = sizeof s};
    start(&r, "memory=20480,load=0.5,clock=900");
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 5; i++)
            assert_int_equal(r.t->buffer_alloc(r.dev, 4096, SPAROA_MEMORY_DEVICE, &p[i]),
                             SPAROA_OK);
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < i; k++)
                assert_true((char *)p[i] + 4096 <= (char *)p[k] ||
                            (char *)p[k] + 4096 <= (char *)p[i]);
        assert_int_equal(r.t->buffer_alloc(r.dev, 1, SPAROA_MEMORY_DEVICE, &more),
                         SPAROA_OUT_OF_MEMORY);
        assert_null(more);
        for (int i = 0; i < 5; i++) r.t->buffer_free(r.dev, p[i], 4096, SPAROA_MEMORY_DEVICE);
    }
    assert_int_equal(r.t->device_status(r.dev, &s), SPAROA_OK);
    assert_int_equal(s.free_bytes, 20480);
    assert_true(s.load == 0.5 && s.clock_mhz == 900 && s.power_w > 0);
    finish(&r);
}

static void bad_addresses_are_refused(void **state)
{
    rig r;
    unit u;
    float x[COUNT];
    start(&r, NULL);
    float *p = buffer(&r);
    unit_make(&r, &u, "Neg");
    assert_int_equal(unit_run(&r, &u, 0, x, NULL, p), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(unit_run(&r, &u, 0, p, NULL, p + 1), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(r.t->copy(r.q[0], p + 100, x, BYTES), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(r.t->copy(r.q[0], p + 100, x, BYTES - 100 * sizeof *x), SPAROA_OK);
    assert_int_equal(r.t->queue_sync(r.q[0]), SPAROA_OK);
    drop(&r, p);
    assert_int_equal(r.t->copy(r.q[0], p, x, BYTES), SPAROA_INVALID_ARGUMENT);
    unit_free(&r, &u);
    finish(&r);
}

static void options_are_checked(void **state)
{
    static const char *const bad[] = {"x=1",       "memory=",          "memory=-1", "memory=1",
                                      "streams=0", "delay_us=1.5",     "support=",  "load=nan",
                                      "memory",    "support=gemm+foo", "hang_at=x"};
    rig r;
    sparoa_dev *dev = NULL;
    start(&r, "support=gemm+conv,,seed=3,");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sparoa_status status = r.t->device_open(&r.h.host, 0, bad[i], &dev, &r.h.err);
        if (status != SPAROA_INVALID_ARGUMENT) fail_msg("'%s' was accepted", bad[i]);
        assert_non_null(strstr(r.h.err.message, "emu"));
    }
    assert_null(dev);
    assert_int_equal(r.t->device_open(&r.h.host, 1, NULL, &dev, NULL), SPAROA_INVALID_ARGUMENT);
    finish(&r);
}

/* ---- order ---- */

/* A chain of copies and kernels, far more than the queue's ring holds. */
static void queue_is_in_order(void **state)
{
    rig r;
    unit u;
    float x[COUNT], y[COUNT];
    start(&r, "delay_us=5,copy_delay_us=5,seed=7");
    float *a = buffer(&r), *b = buffer(&r);
    unit_make(&r, &u, "Neg");
    fill(x, 1);
    long calls = atomic_load(&r.h.calls);
    assert_int_equal(r.t->copy(r.q[0], a, x, BYTES), SPAROA_OK);
    for (int i = 0; i < 1501; i++) {
        assert_int_equal(unit_run(&r, &u, 0, a, NULL, b), SPAROA_OK);
        assert_int_equal(r.t->copy(r.q[0], a, b, BYTES), SPAROA_OK);
    }
    assert_int_equal(r.t->copy(r.q[0], y, a, BYTES), SPAROA_OK);
    assert_int_equal(r.t->queue_sync(r.q[0]), SPAROA_OK);
    assert_int_equal(atomic_load(&r.h.calls), calls); /* running allocates nothing */
    for (int i = 0; i < COUNT; i++) assert_true(y[i] == -x[i]);
    unit_free(&r, &u);
    drop(&r, a);
    drop(&r, b);
    finish(&r);
}

/* Queue 1 reads what queue 0 writes late, and back, over one event that is recorded again. */
static void events_order_queues(void **state)
{
    rig r;
    unit u;
    sparoa_event *e = NULL, *back = NULL;
    float x[COUNT], y[COUNT];
    start(&r, "delay_us=20,copy_delay_us=100,seed=3");
    float *a = buffer(&r), *b = buffer(&r);
    unit_make(&r, &u, "Add");
    assert_int_equal(r.t->event_create(r.dev, &e), SPAROA_OK);
    assert_int_equal(r.t->event_create(r.dev, &back), SPAROA_OK);
    assert_true(r.t->event_done(e)); /* never recorded */
    assert_int_equal(r.t->event_sync(e), SPAROA_OK);
    assert_int_equal(r.t->event_wait(e, r.q[1]), SPAROA_OK);
    fill(x, 1);
    assert_int_equal(r.t->copy(r.q[0], a, x, BYTES), SPAROA_OK);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(unit_run(&r, &u, 0, a, a, b), SPAROA_OK);
        assert_int_equal(r.t->event_record(e, r.q[0]), SPAROA_OK);
        assert_int_equal(r.t->event_wait(e, r.q[1]), SPAROA_OK);
        assert_int_equal(r.t->copy(r.q[1], a, b, BYTES), SPAROA_OK);
        assert_int_equal(r.t->event_record(back, r.q[1]), SPAROA_OK);
        assert_int_equal(r.t->event_wait(back, r.q[0]), SPAROA_OK);
    }
    assert_int_equal(r.t->copy(r.q[1], y, a, BYTES), SPAROA_OK);
    assert_int_equal(r.t->event_record(back, r.q[1]), SPAROA_OK);
    assert_int_equal(r.t->event_sync(back), SPAROA_OK);
    assert_true(r.t->event_done(e) && r.t->event_done(back));
    assert_true(r.t->event_elapsed_ns(e, back) >= 0);
    for (int i = 0; i < COUNT; i++) assert_true(y[i] == 1024 * x[i]);
    /* an event may go while it is waited for */
    assert_int_equal(r.t->event_record(e, r.q[0]), SPAROA_OK);
    assert_int_equal(r.t->event_wait(e, r.q[1]), SPAROA_OK);
    r.t->event_destroy(e);
    r.t->event_destroy(back);
    assert_int_equal(r.t->queue_sync(r.q[0]), SPAROA_OK);
    assert_int_equal(r.t->queue_sync(r.q[1]), SPAROA_OK);
    unit_free(&r, &u);
    drop(&r, a);
    drop(&r, b);
    finish(&r);
}

static void count_call(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void captures_replay(void **state)
{
    rig r;
    unit u;
    sparoa_capture *c = NULL;
    float x[COUNT], y[COUNT];
    atomic_int called = 0;
    start(&r, "delay_us=20");
    float *a = buffer(&r), *b = buffer(&r);
    unit_make(&r, &u, "Add");
    assert_int_equal(r.t->capture_begin(r.q[0]), SPAROA_OK);
    assert_int_equal(r.t->capture_begin(r.q[0]), SPAROA_INVALID_STATE);
    assert_int_equal(r.t->queue_sync(r.q[0]), SPAROA_INVALID_STATE);
    assert_int_equal(r.t->copy(r.q[0], a, x, BYTES), SPAROA_OK);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(unit_run(&r, &u, 0, a, a, b), SPAROA_OK);
        assert_int_equal(unit_run(&r, &u, 0, b, a, a), SPAROA_OK);
        if (i == 0) assert_int_equal(r.t->copy(r.q[0], y, a, BYTES), SPAROA_OK);
    }
    assert_int_equal(r.t->host_call(r.q[0], count_call, &called), SPAROA_OK);
    assert_int_equal(r.t->capture_end(r.q[0], &c), SPAROA_OK);
    assert_int_equal(r.t->capture_end(r.q[0], &c), SPAROA_INVALID_STATE);
    assert_int_equal(atomic_load(&called), 0);
    long calls = atomic_load(&r.h.calls);
    for (int run = 0; run < 5; run++) {
        fill(x, (float)run);
        assert_int_equal(r.t->capture_launch(c, r.q[run % 2]), SPAROA_OK);
        assert_int_equal(r.t->queue_sync(r.q[run % 2]), SPAROA_OK);
        for (int i = 0; i < COUNT; i++) assert_true(y[i] == 3 * x[i]);
    }
    assert_int_equal(atomic_load(&r.h.calls), calls);
    assert_int_equal(atomic_load(&called), 5);
    assert_int_equal(r.t->capture_launch(c, r.q[0]), SPAROA_OK);
    r.t->capture_destroy(c); /* while it runs */
    assert_int_equal(r.t->queue_sync(r.q[0]), SPAROA_OK);
    unit_free(&r, &u);
    drop(&r, a);
    drop(&r, b);
    finish(&r);
}

/* ---- faults ---- */

/* Ten rounds of upload, Neg, download over both queues. Returns the first status that is not OK;
 * *right: all results were right. */
static sparoa_status rounds(rig *r, bool *right)
{
    static float x[COUNT], y[COUNT];
    unit u;
    void *a = NULL, *b = NULL;
    sparoa_event *e = NULL;
    sparoa_status status;
    *right = true;
    unit_make(r, &u, "Neg");
    status = r->t->buffer_alloc(r->dev, BYTES, SPAROA_MEMORY_DEVICE, &a);
    if (!status) status = r->t->buffer_alloc(r->dev, BYTES, SPAROA_MEMORY_DEVICE, &b);
    if (!status) status = r->t->event_create(r->dev, &e);
    for (int i = 0; i < 10 && !status; i++) {
        fill(x, (float)i);
        status = r->t->copy(r->q[0], a, x, BYTES);
        if (!status) status = unit_run(r, &u, 0, a, NULL, b);
        if (!status) status = r->t->event_record(e, r->q[0]);
        if (!status) status = r->t->event_wait(e, r->q[1]);
        if (!status) status = r->t->copy(r->q[1], y, b, BYTES);
        sparoa_status first = r->t->queue_sync(r->q[0]), second = r->t->queue_sync(r->q[1]);
        if (!status) status = second ? second : first;
        for (int k = 0; k < COUNT && !status; k++)
            if (y[k] != -x[k]) *right = false;
    }
    if (status) { /* nothing may use the buffers any more */
        r->t->queue_sync(r->q[0]);
        r->t->queue_sync(r->q[1]);
    }
    r->t->event_destroy(e);
    if (a) drop(r, a);
    if (b) drop(r, b);
    unit_free(r, &u);
    return status;
}

static void faults_at_every_step(void **state)
{
    static const struct {
        const char *option;
        int steps;
        sparoa_status status;
        bool once; /* the second try works */
    } kinds[] = {{"fail_copy", 20, SPAROA_DEVICE_UNAVAILABLE, true},
                 {"fail_kernel", 10, SPAROA_DEVICE_UNAVAILABLE, true},
                 {"fail_alloc", 2, SPAROA_OUT_OF_MEMORY, true},
                 {"lose_at", 30, SPAROA_DEVICE_LOST, false},
                 {"hang_ms=2,hang_at", 30, SPAROA_DEVICE_LOST, false}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int step = 1; step <= kinds[k].steps + 1; step++) {
            rig r;
            bool right;
            char options[64];
            snprintf(options, sizeof options, "%s=%d", kinds[k].option, step);
            start(&r, options);
            sparoa_status want = step > kinds[k].steps ? SPAROA_OK : kinds[k].status;
            sparoa_status status = rounds(&r, &right);
            if (status != want || !right)
                fail_msg("%s: %s, expected %s", options, sparoa_status_name(status),
                         sparoa_status_name(want));
            if (want == SPAROA_OK) {
                finish(&r);
                continue;
            }
            status = rounds(&r, &right);
            assert_int_equal(status, kinds[k].once ? SPAROA_OK : SPAROA_DEVICE_LOST);
            assert_true(right);
            finish(&r);
        }
}

/* What follows a failure, on this queue and on one that waits for it, is not run. */
static void failure_stops_what_depends_on_it(void **state)
{
    rig r;
    unit u;
    sparoa_event *e = NULL;
    float x[COUNT], y[COUNT] = {0};
    atomic_int called = 0;
    start(&r, "fail_kernel=1");
    float *a = buffer(&r);
    unit_make(&r, &u, "Neg");
    assert_int_equal(r.t->event_create(r.dev, &e), SPAROA_OK);
    fill(x, 1);
    assert_int_equal(r.t->copy(r.q[0], a, x, BYTES), SPAROA_OK);
    assert_int_equal(unit_run(&r, &u, 0, a, NULL, a), SPAROA_OK);
    assert_int_equal(r.t->host_call(r.q[0], count_call, &called), SPAROA_OK);
    assert_int_equal(r.t->event_record(e, r.q[0]), SPAROA_OK);
    assert_int_equal(r.t->event_wait(e, r.q[1]), SPAROA_OK);
    assert_int_equal(r.t->copy(r.q[1], y, a, BYTES), SPAROA_OK);
    assert_int_equal(r.t->event_sync(e), SPAROA_DEVICE_UNAVAILABLE);
    assert_int_equal(r.t->queue_sync(r.q[1]), SPAROA_DEVICE_UNAVAILABLE);
    assert_int_equal(r.t->queue_sync(r.q[0]), SPAROA_DEVICE_UNAVAILABLE);
    assert_int_equal(r.t->queue_sync(r.q[0]), SPAROA_OK);
    assert_int_equal(atomic_load(&called), 1);
    assert_true(y[COUNT - 1] == 0);
    r.t->event_destroy(e);
    unit_free(&r, &u);
    drop(&r, a);
    finish(&r);
}

/* A command that never ends: the caller can see that, and closing ends it. */
static void hang_ends_with_the_device(void **state)
{
    for (int close_first = 0; close_first < 2; close_first++) {
        rig r;
        sparoa_event *e = NULL;
        float x[COUNT] = {0};
        start(&r, "hang_at=1");
        float *a = buffer(&r);
        assert_int_equal(r.t->event_create(r.dev, &e), SPAROA_OK);
        assert_int_equal(r.t->copy(r.q[0], a, x, BYTES), SPAROA_OK);
        assert_int_equal(r.t->event_record(e, r.q[0]), SPAROA_OK);
        assert_int_equal(r.t->event_wait(e, r.q[1]), SPAROA_OK);
        usleep(1000);
        assert_false(r.t->event_done(e));
        r.t->event_destroy(e);
        drop(&r, a);
        if (close_first) {
            r.t->device_close(r.dev);
            assert_int_equal(atomic_load(&r.h.blocks), 0);
        } else {
            sparoa_queue *q = r.q[0]; /* the one that waits goes first */
            r.q[0] = r.q[1];
            r.q[1] = q;
            finish(&r);
        }
    }
}

static void host_allocation_may_fail(void **state)
{
    plugin_host h;
    plugin_host_init(&h);
    const sparoa_backend *t;
    assert_int_equal(sp_plugin_load(SPAROA_EMU_PATH, &h.host, &t, &h.err), SPAROA_OK);
    bool failed = true;
    for (long at = 1; failed; at++) {
        sparoa_dev *dev = NULL;
        sparoa_queue *q = NULL;
        void *p = NULL;
        atomic_store(&h.calls, 0);
        atomic_store(&h.fail_at, at);
        sparoa_status s = t->device_open(&h.host, 0, "memory=65536", &dev, &h.err);
        if (!s) s = t->queue_create(dev, 0, &q);
        if (!s) s = t->buffer_alloc(dev, 100, SPAROA_MEMORY_DEVICE, &p);
        assert_true(s == SPAROA_OK || s == SPAROA_OUT_OF_MEMORY);
        failed = s != SPAROA_OK;
        if (p) t->buffer_free(dev, p, 100, SPAROA_MEMORY_DEVICE);
        t->queue_destroy(q);
        t->device_close(dev);
        assert_int_equal(atomic_load(&h.blocks), 0);
    }
}

/* ---- what it supports ---- */

static bool supported(rig *r, const char *op, sparoa_dtype type, const char *name)
{
    char why[100] = "";
    sparoa_tensor x = sparoa_tensor_of(type, NULL, 2, 3, 3), y = x;
    sparoa_tensor *in[] = {&x, &x}, *out[] = {&y};
    sparoa_node n = {.name = name,
                     .op = op,
                     .domain = "",
                     .version = 17,
                     .n_in = 2,
                     .n_out = 1,
                     .in = in,
                     .out = out};
    bool yes = r->t->node_supports(r->dev, &n, why, sizeof why);
    assert_int_equal(yes, why[0] == '\0');
    return yes;
}

static void support_can_be_partial(void **state)
{
    rig r;
    start(&r, NULL);
    assert_true(supported(&r, "MatMul", SPAROA_FLOAT32, "a"));
    assert_false(supported(&r, "MatMul", SPAROA_FLOAT16, "a"));
    assert_true(supported(&r, "Gather", SPAROA_FLOAT16, "a"));
    assert_true(supported(&r, "Add", SPAROA_FLOAT64, "a"));
    assert_false(supported(&r, "NonZero", SPAROA_FLOAT32, "a"));
    assert_false(supported(&r, "If", SPAROA_BOOL, "a"));
    assert_false(supported(&r, "RandomNormalLike", SPAROA_FLOAT32, "a"));
    assert_false(supported(&r, "NoSuchOperator", SPAROA_FLOAT32, "a"));
    finish(&r);
    start(&r, "support=gemm+conv");
    assert_true(supported(&r, "MatMul", SPAROA_FLOAT32, "a"));
    assert_false(supported(&r, "Add", SPAROA_FLOAT32, "a"));
    finish(&r);
    start(&r, "support=every_other");
    int yes = 0;
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "node%d", i);
        bool first = supported(&r, "Add", SPAROA_FLOAT32, name);
        assert_int_equal(first, supported(&r, "Add", SPAROA_FLOAT32, name));
        yes += first;
    }
    assert_in_range(yes, 25, 75);
    finish(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_access_is_caught),
        cmocka_unit_test(memory_is_limited),
        cmocka_unit_test(bad_addresses_are_refused),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(queue_is_in_order),
        cmocka_unit_test(events_order_queues),
        cmocka_unit_test(captures_replay),
        cmocka_unit_test(faults_at_every_step),
        cmocka_unit_test(failure_stops_what_depends_on_it),
        cmocka_unit_test(hang_ends_with_the_device),
        cmocka_unit_test(host_allocation_may_fail),
        cmocka_unit_test(support_can_be_partial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
