/* Requests: results, waiting, callbacks, cancelling, deadlines, priorities, memory. */
#include "tests/api/serve.h"

#define MS 1000000LL

static sparoa_tensor image(int i)
{
    return ts_random(MB_DIMS(1, 3, 8, 8), (uint64_t)(100 + i));
}

static sparoa_tensor expect(sparoa_model *model, const sparoa_tensor *in)
{
    sparoa_session *s = ts_session(model, NULL, 0);
    sparoa_tensor out = {0};
    sparoa_error err;
    ts_ok(sparoa_session_run(s, in, 1, &out, 1, &err), err);
    out = ts_copy(&out);
    sparoa_session_destroy(s);
    return out;
}

/* ---- stopping a run in the calling thread ---- */

typedef struct canceller {
    sparoa_cancel cancel;
    pthread_t thread;
} canceller;

static void *cancel_soon(void *arg)
{
    usleep(20000);
    sparoa_cancel_request(&((canceller *)arg)->cancel);
    return NULL;
}

static void endless(int empty)
{
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 1);
    sparoa_model *model = ts_load(rt, endless_net(empty));
    sparoa_session *s = ts_session(model, NULL, 0);
    sparoa_tensor in = ts_random(MB_DIMS(1, 4), 1), out = {0};
    canceller c = {{0}, 0};
    sparoa_error err;
    sparoa_run_options o = {.struct_size = sizeof o, .cancel = &c.cancel};
    assert_int_equal(pthread_create(&c.thread, NULL, cancel_soon, &c), 0);
    assert_int_equal(sparoa_session_run_with(s, &in, 1, &out, 1, &o, &err), SPAROA_CANCELLED);
    assert_int_equal(err.status, SPAROA_CANCELLED);
    assert_true(err.node[0]); /* where it was */
    assert_null(out.data);
    pthread_join(c.thread, NULL);
    assert_int_equal(sparoa_session_run_with(s, &in, 1, &out, 1, &o, &err), SPAROA_CANCELLED);
    sparoa_cancel_reset(&c.cancel);
    o.deadline_ns = sparoa_now_ns() + 20 * MS;
    assert_int_equal(sparoa_session_run_with(s, &in, 1, &out, 1, &o, &err), SPAROA_DEADLINE);
    assert_true(sparoa_now_ns() >= o.deadline_ns);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(in.data);
    mb_end();
    ts_balanced(&memory);
}

static void test_stop_run(void **state)
{
    (void)state;
    endless(0);
    endless(1);
}

/* A stopped session runs again, with the right result. */
static void test_stop_leaves_session(void **state)
{
    (void)state;
    sparoa_runtime *rt = ts_runtime(NULL, 2);
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_session *s = ts_session(model, NULL, 0);
    sparoa_tensor in = image(1), out = {0}, want = expect(model, &in);
    sparoa_cancel cancel = {0};
    sparoa_error err;
    sparoa_run_options o = {.struct_size = sizeof o, .cancel = &cancel};
    sparoa_cancel_request(&cancel);
    assert_int_equal(sparoa_session_run_with(s, &in, 1, &out, 1, &o, &err), SPAROA_CANCELLED);
    sparoa_cancel_reset(&cancel);
    ts_ok(sparoa_session_run_with(s, &in, 1, &out, 1, &o, &err), err);
    assert_true(ts_same(&out, &want));
    ts_ok(sparoa_session_run_with(s, &in, 1, &out, 1, NULL, &err), err);
    o.struct_size = 0;
    assert_int_equal(sparoa_session_run_with(s, &in, 1, &out, 1, &o, NULL),
                     SPAROA_INVALID_ARGUMENT);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(in.data);
    free(want.data);
    mb_end();
}

/* ---- requests ---- */

typedef struct setup {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_server *server;
    sparoa_service *service;
} setup;

static void open_setup(setup *s, int32_t threads, mb_model *m)
{
    *s = (setup){.memory = {0}};
    s->rt = ts_runtime(&s->memory, 1);
    s->model = ts_load(s->rt, m);
    s->server = make_server(s->rt, threads);
    s->service = make_service(s->server, s->model, NULL, 0);
}

static void close_setup(setup *s)
{
    sparoa_server_destroy(s->server);
    sparoa_model_destroy(s->model);
    sparoa_runtime_destroy(s->rt);
    mb_end();
    ts_balanced(&s->memory);
}

static void test_submit_wait(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 1, ts_small_net());
    float buffer[5];
    sparoa_error err;
    for (int i = 0; i < 6; i++) {
        sparoa_tensor in = image(i), want = expect(s.model, &in), out;
        sparoa_tensor own = sparoa_tensor_of(SPAROA_FLOAT32, buffer, 2, 1, 5);
        sparoa_request *r = NULL;
        ts_ok(sparoa_submit(s.service, &in, 1, i % 2 ? &own : NULL, i % 2, NULL, &r, &err), err);
        assert_int_equal(sparoa_request_done(r, INT64_MAX), 1);
        ts_ok(sparoa_request_wait(r, &err), err);
        assert_int_equal(sparoa_request_done(r, 0), 1);
        assert_int_equal(sparoa_request_output(r, 0, &out), SPAROA_OK);
        assert_int_equal(sparoa_request_output(r, 1, &out), SPAROA_INVALID_ARGUMENT);
        assert_true(ts_same(&out, &want));
        assert_true((out.data == buffer) == (i % 2 == 1));
        sparoa_request_info info;
        sparoa_request_get_info(r, &info);
        assert_int_equal(info.ended, 1);
        assert_int_equal(info.batch_items, 1);
        assert_int_equal(info.release, SPAROA_RELEASE_ALONE);
        assert_true(info.queued_ns >= 0 && info.run_ns > 0);
        sparoa_request_cancel(r); /* too late: nothing happens */
        assert_int_equal(sparoa_request_wait(r, NULL), SPAROA_OK);
        sparoa_request_release(r);
        free(in.data);
        free(want.data);
    }
    sparoa_service_info info;
    sparoa_service_get_info(s.service, &info);
    assert_int_equal(info.submitted, 6);
    assert_int_equal(info.completed, 6);
    assert_int_equal(info.by_release[SPAROA_RELEASE_ALONE], 6);
    close_setup(&s);
}

typedef struct counter {
    atomic_int calls, bad;
    sparoa_tensor want;
} counter;

static void count_and_release(void *user, sparoa_request *request, sparoa_status status)
{
    counter *c = user;
    sparoa_tensor out;
    if (status != SPAROA_OK || sparoa_request_output(request, 0, &out) != SPAROA_OK ||
        !ts_same(&out, &c->want))
        atomic_fetch_add(&c->bad, 1);
    sparoa_request_release(request);
    atomic_fetch_add(&c->calls, 1);
}

static void test_callback(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 2, ts_small_net());
    sparoa_tensor in = image(3);
    counter c = {.want = expect(s.model, &in)};
    sparoa_submit_options o = {.struct_size = sizeof o, .done = count_and_release, .user = &c};
    for (int i = 0; i < 50; i++) submit(s.service, &in, &o);
    while (atomic_load(&c.calls) < 50) usleep(200);
    assert_int_equal(atomic_load(&c.bad), 0);
    close_setup(&s);
    free(in.data);
    free(c.want.data);
}

static void test_cancel_and_deadline(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 1, endless_net(0));
    sparoa_tensor in = ts_random(MB_DIMS(1, 4), 1), out;
    sparoa_error err;
    sparoa_request *running = submit(s.service, &in, NULL);
    wait_running(s.service);
    /* one queued behind it: ends at once, by cancelling or by its deadline */
    sparoa_request *queued = submit(s.service, &in, NULL);
    sparoa_request_cancel(queued);
    assert_int_equal(sparoa_request_done(queued, 0), 1);
    assert_int_equal(sparoa_request_wait(queued, &err), SPAROA_CANCELLED);
    assert_int_equal(err.status, SPAROA_CANCELLED);
    assert_int_equal(sparoa_request_output(queued, 0, &out), SPAROA_INVALID_STATE);
    sparoa_request_release(queued);
    sparoa_submit_options o = {.struct_size = sizeof o, .deadline_ns = sparoa_now_ns() + 300 * MS};
    queued = submit(s.service, &in, &o);
    assert_int_equal(sparoa_request_done(queued, 0), 0);
    assert_int_equal(sparoa_request_wait(queued, &err), SPAROA_DEADLINE);
    assert_true(sparoa_now_ns() >= o.deadline_ns);
    sparoa_request_release(queued);
    /* the running one */
    assert_int_equal(sparoa_request_done(running, 5 * MS), 0);
    sparoa_request_cancel(running);
    assert_int_equal(sparoa_request_wait(running, &err), SPAROA_CANCELLED);
    sparoa_request_release(running);
    o.deadline_ns = sparoa_now_ns() + 20 * MS;
    running = submit(s.service, &in, &o);
    assert_int_equal(sparoa_request_wait(running, &err), SPAROA_DEADLINE);
    sparoa_request_release(running);
    sparoa_service_info info;
    sparoa_service_get_info(s.service, &info);
    assert_int_equal(info.cancelled, 2);
    assert_int_equal(info.expired, 2);
    close_setup(&s);
    free(in.data);
}

/* A deadline ends a queued request that nobody waits for, while the only worker is busy. */
static void test_deadline_unattended(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 1, endless_net(1));
    sparoa_tensor in = ts_random(MB_DIMS(1, 4), 1);
    sparoa_request *running = submit(s.service, &in, NULL);
    wait_running(s.service);
    sparoa_submit_options o = {.struct_size = sizeof o, .deadline_ns = sparoa_now_ns() + 5 * MS};
    sparoa_request *queued = submit(s.service, &in, &o);
    sparoa_request_info info;
    do {
        usleep(500);
        sparoa_request_get_info(queued, &info);
    } while (!info.ended);
    assert_int_equal(info.status, SPAROA_DEADLINE);
    sparoa_request_release(queued);
    sparoa_request_release(running); /* goes on until the server ends */
    close_setup(&s);
    free(in.data);
}

/* The only worker is inside an endless run of low priority: others come through between its nodes.
 */
static void test_interruption(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 1, endless_net(0));
    sparoa_model *small = ts_load(s.rt, ts_small_net());
    sparoa_service *urgent = make_service(s.server, small, NULL, 1);
    sparoa_tensor in = ts_random(MB_DIMS(1, 4), 1), picture = image(1), out;
    sparoa_tensor want = expect(small, &picture);
    sparoa_error err;
    sparoa_request *running = submit(s.service, &in, NULL);
    wait_running(s.service);
    for (int i = 0; i < 10; i++) {
        sparoa_request *r = submit(urgent, &picture, NULL);
        ts_ok(sparoa_request_wait(r, &err), err);
        assert_int_equal(sparoa_request_output(r, 0, &out), SPAROA_OK);
        assert_true(ts_same(&out, &want));
        sparoa_request_release(r);
    }
    sparoa_service_info info;
    sparoa_service_get_info(urgent, &info);
    assert_int_equal(info.interruptions, 10);
    sparoa_request_cancel(running);
    assert_int_equal(sparoa_request_wait(running, NULL), SPAROA_CANCELLED);
    sparoa_request_release(running);
    sparoa_model_destroy(small);
    close_setup(&s);
    free(in.data);
    free(picture.data);
    free(want.data);
}

/* Once warm, a request allocates nothing. */
static void test_no_allocation(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 1, ts_small_net());
    sparoa_tensor in = image(1);
    sparoa_request *r[4];
    long before = 0;
    for (int turn = 0; turn < 20; turn++) {
        if (turn == 2) before = atomic_load(&s.memory.calls);
        for (int i = 0; i < 4; i++) r[i] = submit(s.service, &in, NULL);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(sparoa_request_wait(r[i], NULL), SPAROA_OK);
            sparoa_request_release(r[i]);
        }
    }
    assert_int_equal(atomic_load(&s.memory.calls), before);
    close_setup(&s);
    free(in.data);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 1, ts_small_net());
    sparoa_tensor in = image(1), wrong = ts_random(MB_DIMS(1, 3, 8, 9), 1), none = in;
    sparoa_submit_options o = {.struct_size = sizeof o, .priority = 2};
    sparoa_server_options so = {.struct_size = sizeof so};
    sparoa_request *r = NULL;
    sparoa_server *server = NULL;
    sparoa_service *service = NULL;
    sparoa_error err;
    none.data = NULL;
    assert_int_equal(sparoa_submit(s.service, &wrong, 1, NULL, 0, NULL, &r, &err),
                     SPAROA_SHAPE_MISMATCH);
    assert_int_equal(sparoa_submit(s.service, &none, 1, NULL, 0, NULL, &r, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_submit(s.service, &in, 2, NULL, 0, NULL, &r, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_submit(s.service, &in, 1, &in, 2, NULL, &r, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_submit(s.service, &in, 1, NULL, 0, &o, &r, &err),
                     SPAROA_INVALID_ARGUMENT);
    o = (sparoa_submit_options){.priority = 1};
    assert_int_equal(sparoa_submit(s.service, &in, 1, NULL, 0, &o, &r, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_submit(NULL, &in, 1, NULL, 0, NULL, &r, NULL), SPAROA_INVALID_ARGUMENT);
    assert_null(r);
    assert_int_equal(sparoa_server_create(s.rt, NULL, &server, &err), SPAROA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "threads"));
    so.threads = 257;
    assert_int_equal(sparoa_server_create(s.rt, &so, &server, &err), SPAROA_INVALID_ARGUMENT);
    sparoa_service_options eo = {.struct_size = sizeof eo, .instances = -1};
    assert_int_equal(sparoa_service_create(s.server, s.model, &eo, &service, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_service_create(s.server, NULL, NULL, &service, &err),
                     SPAROA_INVALID_ARGUMENT);
    sparoa_request_release(NULL);
    sparoa_request_cancel(NULL);
    sparoa_service_destroy(NULL);
    sparoa_server_destroy(NULL);
    close_setup(&s);
    free(in.data);
    free(wrong.data);
}

static void test_max_requests(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 1, ts_small_net());
    sparoa_service_options o = {.struct_size = sizeof o, .max_requests = 2};
    sparoa_service *few = NULL;
    sparoa_error err;
    sparoa_tensor in = image(1);
    sparoa_request *r = NULL;
    ts_ok(sparoa_service_create(s.server, s.model, &o, &few, &err), err);
    sparoa_request *a = submit(few, &in, NULL), *b = submit(few, &in, NULL);
    assert_int_equal(sparoa_submit(few, &in, 1, NULL, 0, NULL, &r, &err), SPAROA_QUEUE_FULL);
    sparoa_request_wait(a, NULL);
    sparoa_request_release(a);
    a = submit(few, &in, NULL);
    assert_int_equal(sparoa_request_wait(a, NULL), SPAROA_OK);
    assert_int_equal(sparoa_request_wait(b, NULL), SPAROA_OK);
    sparoa_request_release(a);
    sparoa_request_release(b);
    sparoa_service_info info;
    sparoa_service_get_info(few, &info);
    assert_int_equal(info.rejected, 1);
    sparoa_service_destroy(few);
    close_setup(&s);
    free(in.data);
}

/* Several models under one cap: what passes it is refused, everything else goes on. */
static void test_memory_cap(void **state)
{
    (void)state;
    sparoa_runtime_options ro = {.struct_size = sizeof ro, .threads = 1, .memory_limit = 1 << 20};
    sparoa_runtime *rt = NULL;
    sparoa_error err;
    ts_ok(sparoa_runtime_create(&ro, &rt, &err), err);
    sparoa_model *small = ts_load(rt, ts_small_net()), *other = ts_load(rt, ts_nonzero_net());
    sparoa_server *server = make_server(rt, 2);
    sparoa_service *a = make_service(server, small, NULL, 1);
    sparoa_service *b = make_service(server, other, NULL, 2);
    sparoa_tensor in = image(1), large = ts_random(MB_DIMS(2000, 3, 8, 8), 5);
    sparoa_tensor want = expect(small, &in), out, xs = ts_random(MB_DIMS(100), 7);
    for (int turn = 0; turn < 3; turn++) {
        sparoa_request *big = submit(a, &large, NULL), *x = submit(b, &xs, NULL);
        assert_int_equal(sparoa_request_wait(big, &err), SPAROA_MEMORY_LIMIT);
        assert_int_equal(err.status, SPAROA_MEMORY_LIMIT);
        sparoa_request *fine = submit(a, &in, NULL);
        ts_ok(sparoa_request_wait(fine, &err), err);
        assert_int_equal(sparoa_request_output(fine, 0, &out), SPAROA_OK);
        assert_true(ts_same(&out, &want));
        ts_ok(sparoa_request_wait(x, &err), err);
        sparoa_request_release(big);
        sparoa_request_release(fine);
        sparoa_request_release(x);
    }
    assert_true(sparoa_runtime_memory_peak(rt) <= 1 << 20);
    sparoa_server_destroy(server);
    sparoa_model_destroy(small);
    sparoa_model_destroy(other);
    sparoa_runtime_destroy(rt);
    free(in.data);
    free(want.data);
    free(large.data);
    free(xs.data);
    mb_end();
}

/* The n-th allocation fails, for every n: an error, no leak, and all can be destroyed. */
static void test_failing_memory(void **state)
{
    (void)state;
    bool finished = false;
    for (long n = 1; !finished && n < 2000; n++) {
        ts_memory memory = {0};
        sparoa_runtime *rt = ts_runtime(&memory, 1);
        sparoa_model *model = ts_load(rt, ts_small_net());
        sparoa_server *server = NULL;
        sparoa_service *service = NULL;
        sparoa_request *r = NULL;
        sparoa_tensor in = image(1);
        sparoa_server_options so = {.struct_size = sizeof so, .threads = 1};
        sparoa_batch_policy policy = {.struct_size = sizeof policy, .max_batch = 4};
        sparoa_service_options eo = {.struct_size = sizeof eo, .batch = &policy};
        memory.fail_at = atomic_load(&memory.calls) + n;
        sparoa_status status = sparoa_server_create(rt, &so, &server, NULL);
        if (!status) status = sparoa_service_create(server, model, &eo, &service, NULL);
        if (!status) status = sparoa_submit(service, &in, 1, NULL, 0, NULL, &r, NULL);
        if (!status) status = sparoa_request_wait(r, NULL);
        assert_true(status == SPAROA_OK || status == SPAROA_OUT_OF_MEMORY);
        finished = status == SPAROA_OK;
        sparoa_request_release(r);
        sparoa_server_destroy(server);
        sparoa_model_destroy(model);
        sparoa_runtime_destroy(rt);
        ts_balanced(&memory);
        free(in.data);
    }
    assert_true(finished);
    mb_end();
}

/* ---- many threads ---- */

#define THREADS 6
#define TURNS 60

typedef struct client {
    pthread_t thread;
    sparoa_service *service;
    const sparoa_tensor *want;
    int number;
    bool ok;
    int ended[3]; /* OK, CANCELLED, DEADLINE */
} client;

static void *work(void *arg)
{
    client *c = arg;
    c->ok = true;
    for (int turn = 0; turn < TURNS && c->ok; turn++) {
        int i = (c->number + turn) % 8;
        sparoa_tensor in = image(i), out;
        sparoa_submit_options o = {.struct_size = sizeof o};
        if (turn % 5 == 3) o.deadline_ns = sparoa_now_ns() + 20000 * (turn % 7);
        sparoa_request *r = NULL;
        c->ok = sparoa_submit(c->service, &in, 1, NULL, 0, &o, &r, NULL) == SPAROA_OK;
        if (turn % 5 == 1) sparoa_request_cancel(r);
        sparoa_status status = sparoa_request_wait(r, NULL);
        if (status == SPAROA_OK)
            c->ok = c->ok && sparoa_request_output(r, 0, &out) == SPAROA_OK &&
                    ts_difference(&out, &c->want[i]) < 1e-5;
        else
            c->ok = c->ok && ((status == SPAROA_CANCELLED && turn % 5 == 1) ||
                              (status == SPAROA_DEADLINE && turn % 5 == 3));
        c->ended[status == SPAROA_OK ? 0 : status == SPAROA_CANCELLED ? 1 : 2]++;
        sparoa_request_release(r);
        free(in.data);
    }
    return NULL;
}

static void storm(int32_t workers, int32_t instances, const sparoa_batch_policy *policy)
{
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 2);
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_server *server = make_server(rt, workers);
    sparoa_service *service = NULL;
    sparoa_service_options o = {.struct_size = sizeof o, .batch = policy, .instances = instances};
    sparoa_error err;
    ts_ok(sparoa_service_create(server, model, &o, &service, &err), err);
    sparoa_tensor want[8];
    client c[THREADS] = {{0}};
    for (int i = 0; i < 8; i++) {
        sparoa_tensor in = image(i);
        want[i] = expect(model, &in);
        free(in.data);
    }
    int sums[3] = {0};
    for (int i = 0; i < THREADS; i++) {
        c[i] = (client){.service = service, .want = want, .number = i};
        assert_int_equal(pthread_create(&c[i].thread, NULL, work, &c[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(c[i].thread, NULL);
        assert_true(c[i].ok);
        for (int k = 0; k < 3; k++) sums[k] += c[i].ended[k];
    }
    sparoa_service_info info;
    sparoa_service_get_info(service, &info);
    assert_int_equal(info.completed, sums[0]);
    assert_int_equal(info.cancelled, sums[1]);
    assert_int_equal(info.expired, sums[2]);
    assert_int_equal(info.submitted, THREADS * TURNS);
    assert_int_equal(info.queued, 0);
    sparoa_server_destroy(server);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    for (int i = 0; i < 8; i++) free(want[i].data);
    mb_end();
    ts_balanced(&memory);
}

static void test_many_threads(void **state)
{
    (void)state;
    storm(1, 1, NULL);
    storm(3, 2, NULL);
}

static void test_many_threads_batched(void **state)
{
    (void)state;
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 4, .max_queue_delay_ns = 200000};
    storm(2, 2, &policy);
    policy.preserve_ordering = 1;
    storm(3, 3, &policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_run),
        cmocka_unit_test(test_stop_leaves_session),
        cmocka_unit_test(test_submit_wait),
        cmocka_unit_test(test_callback),
        cmocka_unit_test(test_cancel_and_deadline),
        cmocka_unit_test(test_deadline_unattended),
        cmocka_unit_test(test_interruption),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_max_requests),
        cmocka_unit_test(test_memory_cap),
        cmocka_unit_test(test_failing_memory),
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_many_threads_batched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
