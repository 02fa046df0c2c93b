/* Batches formed live: results, sizes, reasons, priorities, order, memory, tuning. */
#include "tests/api/serve.h"

static sparoa_tensor image(int i, int32_t items)
{
    return ts_random(MB_DIMS(items, 3, 8, 8), (uint64_t)(100 + i));
}

typedef struct setup {
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_server *server;
} setup;

static setup open_setup(ts_memory *memory, int32_t workers, size_t cap)
{
    setup s = {0};
    sparoa_error err;
    sparoa_runtime_options o = ts_options(memory, 1);
    o.memory_limit = cap;
    ts_ok(sparoa_runtime_create(&o, &s.rt, &err), err);
    s.model = ts_load(s.rt, ts_small_net());
    s.server = make_server(s.rt, workers);
    return s;
}

static void close_setup(setup *s)
{
    sparoa_server_destroy(s->server);
    sparoa_model_destroy(s->model);
    sparoa_runtime_destroy(s->rt);
    mb_end();
}

/* Submits `count` requests of sizes[i] items while nothing can run yet, flushes, and checks each
 * result against a run by itself. */
static void submit_all(setup *s, sparoa_service *service, int count, const int32_t *sizes)
{
    sparoa_session *alone = ts_session(s->model, NULL, 0);
    sparoa_request *r[16];
    sparoa_tensor in[16], out, want = {0};
    sparoa_error err;
    for (int i = 0; i < count; i++) {
        in[i] = image(i, sizes ? sizes[i] : 1);
        r[i] = submit(service, &in[i], NULL);
    }
    sparoa_service_flush(service);
    for (int i = 0; i < count; i++) {
        ts_ok(sparoa_request_wait(r[i], &err), err);
        assert_int_equal(sparoa_request_output(r[i], 0, &out), SPAROA_OK);
        want.data = NULL;
        ts_ok(sparoa_session_run(alone, &in[i], 1, &want, 1, &err), err);
        assert_true(ts_difference(&out, &want) < 1e-5);
        sparoa_request_release(r[i]);
        free(in[i].data);
    }
    sparoa_session_destroy(alone);
}

#define LONG 1000000000000 /* nobody waits that long: released by something else */

static void test_results(void **state)
{
    (void)state;
    ts_memory memory = {0};
    setup s = open_setup(&memory, 1, 0);
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 8, .max_queue_delay_ns = LONG};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    submit_all(&s, service, 11, NULL); /* 8 + 3 */
    submit_all(&s, service, 4, (int32_t[]){3, 5, 7, 1});
    submit_all(&s, service, 3, (int32_t[]){8, 2, 7}); /* 8, then 2: 7 more do not fit */
    sparoa_service_info info;
    int64_t count, mean;
    sparoa_service_get_info(service, &info);
    assert_int_equal(info.batches, 7);
    assert_int_equal(info.items, 11 + 16 + 17);
    assert_int_equal(info.by_release[SPAROA_RELEASE_FULL], 5);
    assert_int_equal(info.by_release[SPAROA_RELEASE_FLUSH], 2);
    assert_int_equal(sparoa_service_batches(service, 8, &count, &mean), 1);
    assert_int_equal(count, 4);
    assert_true(mean > 0);
    assert_int_equal(sparoa_service_batches(service, 9, &count, &mean), 0);
    assert_string_equal(sparoa_release_name(SPAROA_RELEASE_PREFERRED), "PREFERRED");
    close_setup(&s);
    ts_balanced(&memory);
}

static void test_no_allocation(void **state)
{
    (void)state;
    ts_memory memory = {0};
    setup s = open_setup(&memory, 1, 0);
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 16, .max_queue_delay_ns = LONG};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    sparoa_tensor in = image(0, 1);
    sparoa_request *r[16];
    sparoa_error err;
    long before = 0;
    ts_ok(sparoa_service_prepare(service, &in, 1, &err), err);
    for (int turn = 0; turn < 20; turn++) {
        if (turn == 1) before = atomic_load(&memory.calls);
        int n = turn ? 1 + turn % 16 : 16; /* the first makes the requests and the largest batch */
        for (int i = 0; i < n; i++) r[i] = submit(service, &in, NULL);
        sparoa_service_flush(service);
        for (int i = 0; i < n; i++) {
            assert_int_equal(sparoa_request_wait(r[i], NULL), SPAROA_OK);
            sparoa_request_release(r[i]);
        }
    }
    /* the outputs of each size get their memory when it is first run */
    assert_true(atomic_load(&memory.calls) - before <= 15);
    before = atomic_load(&memory.calls);
    for (int n = 1; n <= 16; n++) {
        for (int i = 0; i < n; i++) r[i] = submit(service, &in, NULL);
        sparoa_service_flush(service);
        for (int i = 0; i < n; i++) {
            assert_int_equal(sparoa_request_wait(r[i], NULL), SPAROA_OK);
            sparoa_request_release(r[i]);
        }
    }
    assert_int_equal(atomic_load(&memory.calls), before);
    free(in.data);
    close_setup(&s);
}

/* Members that are cancelled or late leave their batch; the others get their results. */
static void test_members_leave(void **state)
{
    (void)state;
    ts_memory memory = {0};
    setup s = open_setup(&memory, 1, 0);
    sparoa_model *endless = ts_load(s.rt, endless_net(0));
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 3, .max_queue_delay_ns = LONG};
    sparoa_service *service = make_service(s.server, endless, &policy, 0);
    sparoa_tensor in = ts_random(MB_DIMS(1, 4), 1);
    sparoa_submit_options late = {.struct_size = sizeof late};
    sparoa_request *r[3];
    late.deadline_ns = sparoa_now_ns() + 1000000000; /* all three run long before */
    for (int i = 0; i < 3; i++) r[i] = submit(service, &in, i == 2 ? &late : NULL);
    wait_running(service);
    sparoa_request_cancel(r[0]);
    sparoa_status first = sparoa_request_wait(r[0], NULL);
    assert_int_equal(first, SPAROA_CANCELLED);
    assert_int_equal(sparoa_request_wait(r[2], NULL), SPAROA_DEADLINE);
    assert_int_equal(sparoa_request_done(r[1], 1000000), 0); /* still running */
    sparoa_request_cancel(r[1]);                             /* the last one: the run stops */
    assert_int_equal(sparoa_request_wait(r[1], NULL), SPAROA_CANCELLED);
    for (int i = 0; i < 3; i++) sparoa_request_release(r[i]);
    free(in.data);
    sparoa_model_destroy(endless);
    close_setup(&s);
    ts_balanced(&memory);
}

/* Requests that end in the order they came, although a later level runs first. */
typedef struct numbered {
    int number;
    int *next, *wrong;
} numbered;

static void note_order(void *user, sparoa_request *request, sparoa_status status)
{
    numbered *n = user;
    (void)request;
    (void)status;
    if ((*n->next)++ != n->number) ++*n->wrong;
}

static int out_of_order(int32_t preserve)
{
    setup s = open_setup(NULL, 1, 0);
    sparoa_batch_policy policy = {.struct_size = sizeof policy,
                                  .max_batch = 4,
                                  .max_queue_delay_ns = LONG,
                                  .priority_levels = 2,
                                  .preserve_ordering = preserve};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    sparoa_tensor in = image(1, 1);
    sparoa_request *r[7];
    numbered n[7];
    int next = 0, wrong = 0;
    for (int i = 0; i < 7; i++) {
        n[i] = (numbered){i, &next, &wrong};
        sparoa_submit_options o = {
            .struct_size = sizeof o, .done = note_order, .user = &n[i], .priority = i < 3 ? 2 : 1};
        r[i] = submit(service, &in, &o);
    }
    sparoa_service_flush(service);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(sparoa_request_wait(r[i], NULL), SPAROA_OK);
        sparoa_request_release(r[i]);
    }
    assert_int_equal(next, 7);
    free(in.data);
    close_setup(&s);
    return wrong;
}

static void test_order(void **state)
{
    (void)state;
    assert_int_equal(out_of_order(1), 0);
    assert_true(out_of_order(0) > 0); /* the first three can't run before one of level 1 is there */
}

static void test_queue_full(void **state)
{
    (void)state;
    setup s = open_setup(NULL, 1, 0);
    sparoa_batch_policy policy = {.struct_size = sizeof policy,
                                  .max_batch = 8,
                                  .max_queue_delay_ns = LONG,
                                  .queue = {.max_queue_size = 3}};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    sparoa_tensor in = image(1, 1), large = image(2, 9);
    sparoa_request *r[4] = {0};
    sparoa_error err;
    for (int i = 0; i < 3; i++) r[i] = submit(service, &in, NULL);
    assert_int_equal(sparoa_submit(service, &in, 1, NULL, 0, NULL, &r[3], &err), SPAROA_QUEUE_FULL);
    assert_int_equal(sparoa_submit(service, &large, 1, NULL, 0, NULL, &r[3], &err),
                     SPAROA_SHAPE_MISMATCH);
    sparoa_service_flush(service);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sparoa_request_wait(r[i], NULL), SPAROA_OK);
        sparoa_request_release(r[i]);
    }
    free(in.data);
    free(large.data);
    close_setup(&s);
}

/* 64 requests at once under a cap; what the runtime held most. */
static size_t run_capped(size_t cap, sparoa_service_info *info, size_t *before)
{
    setup s = open_setup(NULL, 1, cap);
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 64, .max_queue_delay_ns = LONG};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    sparoa_tensor in = image(1, 1);
    sparoa_submit_options o = {.struct_size = sizeof o};
    float scores[64][5];
    sparoa_request *r[64];
    sparoa_error err;
    *before = sparoa_runtime_memory(s.rt);
    for (int i = 0; i < 64; i++) {
        sparoa_tensor out = sparoa_tensor_of(SPAROA_FLOAT32, scores[i], 2, 1, 5);
        ts_ok(sparoa_submit(service, &in, 1, &out, 1, &o, &r[i], &err), err);
    }
    for (int i = 0; i < 64; i++) {
        sparoa_service_flush(service);
        ts_ok(sparoa_request_wait(r[i], &err), err);
        sparoa_request_release(r[i]);
    }
    sparoa_service_get_info(service, info);
    size_t peak = sparoa_runtime_memory_peak(s.rt);
    free(in.data);
    close_setup(&s);
    return peak;
}

/* Batches that find no memory are done again in halves, and larger ones no longer formed. */
static void test_cap(void **state)
{
    (void)state;
    sparoa_service_info info;
    size_t before, peak = run_capped(0, &info, &before);
    assert_int_equal(info.splits, 0);
    size_t cap = before + (peak - before) * 3 / 4;
    assert_true(run_capped(cap, &info, &before) <= cap);
    assert_true(info.splits >= 1);
    assert_true(info.batch_limit < 64);
    assert_true(info.by_release[SPAROA_RELEASE_MEMORY] >= 1);
    assert_int_equal(info.completed, 64);
}

/* An allocator that fails once, and cancels a request when it does. */
typedef struct trap {
    ts_memory memory;
    _Atomic(sparoa_request *) cancel;
} trap;

static void *trap_alloc(void *user, size_t size, size_t align)
{
    trap *t = user;
    sparoa_request *r = atomic_exchange(&t->cancel, NULL);
    if (!r) return ts_alloc(&t->memory, size, align);
    sparoa_request_cancel(r);
    return NULL;
}

static void trap_free(void *user, void *ptr, size_t size)
{
    ts_free(&((trap *)user)->memory, ptr, size);
}

/* One of two requests is cancelled while they are copied together, for which there is no memory:
 * the other one runs by itself. */
static void test_cancel_in_split(void **state)
{
    (void)state;
    trap t = {.memory = {0}};
    setup s = {0};
    sparoa_error err;
    sparoa_runtime_options o = ts_options(NULL, 1);
    o.allocator = (sparoa_allocator){&t, trap_alloc, trap_free};
    ts_ok(sparoa_runtime_create(&o, &s.rt, &err), err);
    s.model = ts_load(s.rt, ts_small_net());
    s.server = make_server(s.rt, 1);
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 8, .max_queue_delay_ns = LONG};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    sparoa_tensor in = image(1, 1);
    sparoa_request *r[2] = {submit(service, &in, NULL), submit(service, &in, NULL)};
    sparoa_request_info info;
    atomic_store(&t.cancel, r[0]);
    sparoa_service_flush(service);
    assert_int_equal(sparoa_request_wait(r[0], NULL), SPAROA_CANCELLED);
    sparoa_request_get_info(r[0], &info);
    assert_int_equal(info.batch_items, 0);
    sparoa_service_flush(service);
    ts_ok(sparoa_request_wait(r[1], &err), err);
    for (int i = 0; i < 2; i++) sparoa_request_release(r[i]);
    free(in.data);
    close_setup(&s);
    ts_balanced(&t.memory);
}

/* x [N,8,64,64] -> three nodes that a batch goes through image by image. */
static mb_model *by_image_net(void)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 8, 64, 64));
    mb_random(g, "w", MB_DIMS(8, 8, 3, 3), 1, -0.3, 0.3);
    mb_ints(mb_add(g, "Conv", "first", "x,w", "a"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_add(g, "Tanh", "between", "a", "b");
    mb_ints(mb_add(g, "Conv", "second", "b,w", "y"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_output(g, "y");
    return m;
}

static void cancel_then_run(void *user, int32_t count, void (*task)(void *arg, int32_t i),
                            void *arg)
{
    sparoa_request *r = atomic_exchange((_Atomic(sparoa_request *) *)user, NULL);
    sparoa_request_cancel(r);
    for (int32_t i = 0; i < count; i++) task(arg, i);
}

/* A request that is cancelled while its images go through the model stops at the next node. */
static void test_cancel_by_image(void **state)
{
    (void)state;
    _Atomic(sparoa_request *) cancel = NULL;
    setup s = {0};
    sparoa_error err;
    sparoa_runtime_options o = ts_options(NULL, 2);
    o.parallel = cancel_then_run;
    o.parallel_user = &cancel;
    ts_ok(sparoa_runtime_create(&o, &s.rt, &err), err);
    s.model = ts_load(s.rt, by_image_net());
    s.server = make_server(s.rt, 1);
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 8, .max_queue_delay_ns = LONG};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    sparoa_tensor in = ts_random(MB_DIMS(4, 8, 64, 64), 1);
    for (int turn = 0; turn < 2; turn++) {
        sparoa_request *r = submit(service, &in, NULL);
        if (turn) atomic_store(&cancel, r);
        sparoa_service_flush(service);
        assert_int_equal(sparoa_request_wait(r, NULL), turn ? SPAROA_CANCELLED : SPAROA_OK);
        sparoa_request_release(r);
    }
    free(in.data);
    close_setup(&s);
}

static void test_memory_bound(void **state)
{
    (void)state;
    for (int ahead = 0; ahead < 2; ahead++) {
        setup s = open_setup(NULL, 1, 0);
        sparoa_session *session = ts_session(s.model, NULL, 0);
        sparoa_tensor in = image(1, 1), five = image(1, 5);
        sparoa_session_info at_five;
        sparoa_error err;
        ts_ok(sparoa_session_prepare(session, &five, 1, &err), err);
        sparoa_session_get_info(session, &at_five);
        sparoa_batch_policy policy = {.struct_size = sizeof policy,
                                      .max_batch = 16,
                                      .max_queue_delay_ns = LONG,
                                      .memory_bound = at_five.activation_bytes};
        sparoa_service *service = make_service(s.server, s.model, &policy, 0);
        if (ahead) ts_ok(sparoa_service_prepare(service, &in, 1, &err), err);
        submit_all(&s, service, 16, NULL);
        submit_all(&s, service, 10, NULL);
        sparoa_service_info info;
        sparoa_service_get_info(service, &info);
        assert_true(ahead ? info.batch_limit == 5 : info.batch_limit <= 5);
        assert_true(info.by_release[SPAROA_RELEASE_MEMORY] >= 2);
        for (int32_t n = 6; n <= 16; n++) {
            int64_t count;
            sparoa_service_batches(service, n, &count, NULL);
            assert_int_equal(count, 0);
        }
        sparoa_session_destroy(session);
        free(in.data);
        free(five.data);
        close_setup(&s);
    }
}

/* An objective that no batch can keep: halved until single requests are left. */
static void test_objective(void **state)
{
    (void)state;
    setup s = open_setup(NULL, 1, 0);
    sparoa_batch_policy policy = {.struct_size = sizeof policy,
                                  .max_batch = 16,
                                  .max_queue_delay_ns = LONG,
                                  .latency_objective_ns = 1};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    sparoa_service_info info;
    for (int turn = 0; turn < 8; turn++) submit_all(&s, service, 16, NULL);
    sparoa_service_get_info(service, &info);
    assert_int_equal(info.completed, 8 * 16);
    assert_true(info.by_release[SPAROA_RELEASE_LATENCY] > 0);
    close_setup(&s);
}

static void test_tune(void **state)
{
    (void)state;
    setup s = open_setup(NULL, 1, 0);
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 32, .max_queue_delay_ns = LONG};
    sparoa_service *service = make_service(s.server, s.model, &policy, 0);
    sparoa_service *plain = make_service(s.server, s.model, NULL, 0);
    sparoa_tensor in = image(1, 1), two = image(1, 2);
    sparoa_tune_result result;
    sparoa_service_info info;
    sparoa_error err;
    ts_ok(sparoa_service_tune(service, &in, 1, NULL, &result, &err), err);
    assert_true(result.batch >= 1 && result.batch <= 32 && result.step_count >= 1);
    assert_int_equal(result.steps[0].items, 8);
    assert_true(result.zeros >= 0 && result.zeros < 0.1 && result.intensity > 0);
    for (int i = 0; i < result.step_count; i++) {
        assert_true(result.steps[i].run_ns > 0 && result.steps[i].bytes > 0);
        assert_int_equal(result.steps[i].fits, 1);
    }
    sparoa_service_get_info(service, &info);
    assert_int_equal(info.batch_limit, result.batch);
    assert_int_equal(info.batches, 0);
    submit_all(&s, service, 16, NULL);
    assert_int_equal(sparoa_service_tune(plain, &in, 1, NULL, NULL, &err), SPAROA_INVALID_STATE);
    assert_int_equal(sparoa_service_tune(service, &two, 1, NULL, NULL, &err),
                     SPAROA_SHAPE_MISMATCH);
    free(in.data);
    free(two.data);
    close_setup(&s);
}

static sparoa_service *segmented(setup *s, sparoa_batch_policy *policy,
                                 const sparoa_segment *segments, size_t count,
                                 sparoa_status expected)
{
    sparoa_service_options o = {.struct_size = sizeof o,
                                .batch = policy,
                                .instances = 2,
                                .segments = segments,
                                .segment_count = count};
    sparoa_service *service = NULL;
    sparoa_error err = {0};
    sparoa_status status = sparoa_service_create(s->server, s->model, &o, &service, &err);
    if (status != expected)
        fail_msg("%s instead of %s: %s", sparoa_status_name(status), sparoa_status_name(expected),
                 err.message);
    return service;
}

/* Segments that take a batch in pieces of their own sizes give what the whole model gives. */
static void test_segments(void **state)
{
    (void)state;
    ts_memory memory = {0};
    setup s = open_setup(&memory, 2, 0);
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 16, .max_queue_delay_ns = LONG};
    const sparoa_segment cuts[][4] = {{{"pool1", 3}, {"relu2", 5}, {NULL, 0}},
                                      {{"conv1", 1}, {"add", 16}, {"flat", 4}, {NULL, 7}},
                                      {{"conv2", 2}, {NULL, 0}}, /* two values cross */
                                      {{NULL, 3}}};
    const size_t counts[] = {3, 4, 2, 1};
    for (int i = 0; i < 4; i++) {
        sparoa_service *service = segmented(&s, &policy, cuts[i], counts[i], SPAROA_OK);
        submit_all(&s, service, 16, NULL);
        submit_all(&s, service, 13, NULL);
        submit_all(&s, service, 3, (int32_t[]){5, 1, 9});
        submit_all(&s, service, 1, NULL); /* a request by itself */
        sparoa_service_destroy(service);
    }
    sparoa_service *service = segmented(&s, &policy, cuts[0], 3, SPAROA_OK);
    sparoa_tensor in = image(1, 1);
    sparoa_tune_result result;
    sparoa_error err;
    ts_ok(sparoa_service_tune(service, &in, 1, NULL, &result, &err), err);
    for (int i = 0; i < 3; i++)
        assert_true(result.segment_batches[i] >= 1 && result.segment_batches[i] <= result.batch);
    submit_all(&s, service, 16, NULL);
    free(in.data);
    close_setup(&s);
    ts_balanced(&memory);
}

static void test_bad_segments(void **state)
{
    (void)state;
    ts_memory memory = {0};
    setup s = open_setup(&memory, 1, 0);
    sparoa_batch_policy policy = {.struct_size = sizeof policy, .max_batch = 4};
    const sparoa_segment unknown[] = {{"nobody", 1}, {NULL, 0}};
    const sparoa_segment backwards[] = {{"relu2", 1}, {"conv1", 1}, {NULL, 0}};
    const sparoa_segment nameless[] = {{NULL, 1}, {NULL, 0}};
    const sparoa_segment negative[] = {{"conv1", -1}, {NULL, 0}};
    segmented(&s, &policy, unknown, 2, SPAROA_NOT_FOUND);
    segmented(&s, &policy, backwards, 3, SPAROA_INVALID_ARGUMENT);
    segmented(&s, &policy, nameless, 2, SPAROA_INVALID_ARGUMENT);
    segmented(&s, &policy, negative, 2, SPAROA_INVALID_ARGUMENT);
    segmented(&s, &policy, NULL, 2, SPAROA_INVALID_ARGUMENT);
    segmented(&s, NULL, unknown, 2, SPAROA_INVALID_ARGUMENT);
    policy.memory_bound = 1000;
    segmented(&s, &policy, nameless, 2, SPAROA_INVALID_ARGUMENT);
    close_setup(&s);
    ts_balanced(&memory);
}

/* Models that no batches can be formed of. */
static void test_refused_models(void **state)
{
    (void)state;
    setup s = open_setup(NULL, 1, 0);
    sparoa_batch_policy policy = {.struct_size = sizeof policy, .max_batch = 4};
    sparoa_service_options o = {.struct_size = sizeof o, .batch = &policy};
    sparoa_service *service = NULL;
    sparoa_error err;
    mb_model *m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(1, 4));
    mb_add(m->graph, "Relu", "relu", "x", "y");
    mb_output(m->graph, "y");
    sparoa_model *fixed = ts_load(s.rt, m);
    assert_int_equal(sparoa_service_create(s.server, fixed, &o, &service, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "'x'"));
    policy.max_batch = 0;
    assert_int_equal(sparoa_service_create(s.server, s.model, &o, &service, &err),
                     SPAROA_INVALID_ARGUMENT);
    policy.max_batch = 4;
    /* rows that are not independent are found when a batch has run */
    m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(-1));
    mb_add(m->graph, "NonZero", "nz", "x", "at");
    mb_ints(mb_add(m->graph, "Transpose", "turn", "at", "y"), "perm", 2, (int64_t[]){1, 0});
    mb_output(m->graph, "y");
    sparoa_model *mixing = ts_load(s.rt, m);
    policy.max_queue_delay_ns = LONG;
    service = make_service(s.server, mixing, &policy, 0);
    float x[1] = {0};
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, x, 1, 1);
    sparoa_request *r[2] = {submit(service, &in, NULL), submit(service, &in, NULL)};
    sparoa_service_flush(service);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sparoa_request_wait(r[i], &err), SPAROA_SHAPE_MISMATCH);
        sparoa_request_release(r[i]);
    }
    sparoa_model_destroy(fixed);
    sparoa_model_destroy(mixing);
    close_setup(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_members_leave),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_queue_full),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_cancel_in_split),
        cmocka_unit_test(test_cancel_by_image),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_objective),
        cmocka_unit_test(test_tune),
        cmocka_unit_test(test_refused_models),
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_bad_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
