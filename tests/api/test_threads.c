/* Many threads: on one session, on sessions of one model, making and destroying. Results are those
 * of one thread, bit by bit. Run under the thread sanitizer too. */
#include <pthread.h>

#include "tests/support/support.h"

#define THREADS 6
#define TURNS 30

typedef struct worker {
    pthread_t thread;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *s; /* NULL: make one */
    int number;
    bool storm, ok;
} worker;

/* Input number i has batch 1 + i % 3. */
static sparoa_tensor input(int i)
{
    return ts_random(MB_DIMS(1 + i % 3, 3, 8, 8), (uint64_t)(100 + i));
}

static sparoa_tensor want[THREADS + TURNS];

static bool run_one(sparoa_session *s, int i)
{
    float result[15];
    sparoa_tensor in = input(i), out = sparoa_tensor_of(SPAROA_FLOAT32, result, 2, 3, 5);
    bool ok = sparoa_session_run(s, &in, 1, &out, 1, NULL) == SPAROA_OK;
    ok = ok && ts_same(&out, &want[i]);
    free(in.data);
    return ok;
}

static void *work(void *arg)
{
    worker *w = arg;
    bool ok = true;
    for (int turn = 0; turn < TURNS; turn++) {
        sparoa_session *s = w->s;
        sparoa_model *model = w->model;
        if (w->storm) {
            ok = ok && sparoa_session_create(model, NULL, &s, NULL) == SPAROA_OK;
            if (!ok) break;
        }
        ok = run_one(s, w->number + turn) && ok;
        if (w->storm) sparoa_session_destroy(s);
    }
    w->ok = ok;
    return NULL;
}

static void serial(sparoa_model *model)
{
    sparoa_session *s = ts_session(model, NULL, 0);
    for (int i = 0; i < THREADS + TURNS; i++) {
        sparoa_tensor in = input(i), out = {0};
        sparoa_error err;
        ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
        want[i] = ts_copy(&out);
        free(in.data);
    }
    sparoa_session_destroy(s);
}

static void start(worker *w, int n)
{
    for (int i = 0; i < n; i++) {
        w[i].number = i;
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        assert_true(w[i].ok);
    }
}

static void with_threads(int32_t threads)
{
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, threads);
    sparoa_model *model = ts_load(rt, ts_small_net());
    worker w[THREADS] = {{0}};
    serial(model);
    /* all on one session */
    sparoa_session *shared = ts_session(model, NULL, 0);
    for (int i = 0; i < THREADS; i++) w[i] = (worker){.rt = rt, .model = model, .s = shared};
    start(w, THREADS);
    /* one session each, on one model */
    for (int i = 0; i < THREADS; i++)
        w[i] = (worker){.rt = rt, .model = model, .s = ts_session(model, NULL, 0)};
    start(w, THREADS);
    for (int i = 0; i < THREADS; i++) sparoa_session_destroy(w[i].s);
    /* a new session for each run */
    for (int i = 0; i < THREADS; i++) w[i] = (worker){.rt = rt, .model = model, .storm = true};
    start(w, THREADS);
    sparoa_session_destroy(shared);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    for (int i = 0; i < THREADS + TURNS; i++) free(want[i].data);
    mb_end();
    ts_balanced(&memory);
}

static void test_one_thread_each(void **state)
{
    (void)state;
    with_threads(1);
}

static void test_workers_shared(void **state)
{
    (void)state;
    with_threads(4);
}

typedef struct loader {
    pthread_t thread;
    const uint8_t *bytes;
    size_t size;
    sparoa_runtime *rt; /* NULL: one of its own each time */
    bool ok;
} loader;

static void *load(void *arg)
{
    loader *l = arg;
    l->ok = true;
    for (int turn = 0; turn < TURNS && l->ok; turn++) {
        sparoa_runtime *rt = l->rt;
        sparoa_model *model = NULL;
        sparoa_session *s = NULL;
        sparoa_runtime_options o = {.struct_size = sizeof o, .threads = 2};
        if (!rt) l->ok = sparoa_runtime_create(&o, &rt, NULL) == SPAROA_OK;
        l->ok = l->ok && !sparoa_model_load_memory(rt, l->bytes, l->size, NULL, &model, NULL) &&
                !sparoa_session_create(model, NULL, &s, NULL);
        if (!l->rt) sparoa_runtime_destroy(rt); /* in the worst order */
        sparoa_model_destroy(model);
        l->ok = l->ok && run_one(s, turn);
        sparoa_session_destroy(s);
    }
    return NULL;
}

/* Runtimes, models and sessions made and destroyed by all threads at once. */
static void test_storm(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = mb_pack(ts_small_net(), &size);
    sparoa_runtime *rt = ts_runtime(NULL, 2);
    sparoa_model *model = NULL;
    sparoa_error err;
    ts_ok(sparoa_model_load_memory(rt, bytes, size, NULL, &model, &err), err);
    serial(model);
    loader l[THREADS];
    for (int i = 0; i < THREADS; i++) {
        l[i] = (loader){.bytes = bytes, .size = size, .rt = i % 2 ? rt : NULL};
        assert_int_equal(pthread_create(&l[i].thread, NULL, load, &l[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(l[i].thread, NULL);
        assert_true(l[i].ok);
    }
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    for (int i = 0; i < THREADS + TURNS; i++) free(want[i].data);
    mb_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thread_each),
        cmocka_unit_test(test_workers_shared),
        cmocka_unit_test(test_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
