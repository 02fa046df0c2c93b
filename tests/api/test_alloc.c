/* Memory: no allocation in the second and later runs at a shape, and every allocation failed once.
 */
#include "tests/support/support.h"

#define DIGITS SPAROA_SOURCE_DIR "/models/digits/digits.onnx"
#define MAX_VALUES 4

typedef mb_model *(*make_model)(void);

static mb_model *make_loop(void)
{
    return ts_control_net(5);
}

/* x [N,6] grows by a row in each turn: every turn has other shapes. */
static mb_model *make_growing_loop(void)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    int64_t trips = 4;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 6));
    mb_random(g, "row", MB_DIMS(1, 6), 3, -1, 1);
    mb_random(g, "w", MB_DIMS(6, 6), 4, -1, 1);
    mb_raw(mb_initializer(g, "trips", SPAROA_INT64, 0, NULL), &trips, sizeof trips);
    mb_graph *body = mb_subgraph(mb_add(g, "Loop", "loop", "trips,,x", "last"), "body");
    ts_loop_inputs(body);
    mb_input(body, "s", SPAROA_FLOAT32, -1, NULL);
    body->input[2] = mb_info("s", SPAROA_FLOAT32, 2, (int64_t[]){-1, 6});
    mb_add(body, "Identity", "keep", "go", "go_on");
    mb_int(mb_add(body, "Concat", "grow", "s,row", "longer"), "axis", 0);
    mb_add(body, "MatMul", "product", "longer,w", "p");
    mb_add(body, "Softmax", "soft", "p", "next");
    mb_output(body, "go_on");
    mb_output(body, "next");
    mb_output(g, "last");
    return m;
}

static sparoa_tensor make_input(const sparoa_value_info *info, int64_t n, uint64_t key)
{
    int64_t dims[SPAROA_MAX_RANK];
    for (int32_t i = 0; i < info->rank; i++) dims[i] = info->dims[i] < 0 ? n : info->dims[i];
    return ts_random(info->rank, dims, key);
}

static sparoa_model *load_any(sparoa_runtime *rt, make_model make)
{
    sparoa_model *model = NULL;
    sparoa_error err;
    if (make) return ts_load(rt, make());
    ts_ok(sparoa_model_load(rt, DIGITS, NULL, &model, &err), err);
    return model;
}

static const struct {
    const char *name;
    make_model make; /* NULL: the bundled model */
} models[] = {
    {"digits", NULL},           {"small", ts_small_net}, {"nonzero", ts_nonzero_net},
    {"loop and if", make_loop}, {"scan", ts_scan_net},   {"growing loop", make_growing_loop}};
#define MODELS (sizeof models / sizeof *models)

/* ---- none while running ---- */

static void check_quiet(size_t which, int32_t threads, int reference)
{
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, threads);
    sparoa_model *model = load_any(rt, models[which].make);
    sparoa_session *s = ts_session(model, NULL, reference);
    sparoa_value_info info;
    sparoa_error err;
    assert_int_equal(sparoa_model_input(model, 0, &info), SPAROA_OK);
    sparoa_tensor in[2] = {make_input(&info, 1, 1), make_input(&info, 4, 2)};
    for (int turn = 0; turn < 8; turn++) {
        sparoa_tensor out[MAX_VALUES] = {{0}};
        long before = atomic_load(&memory.calls);
        ts_ok(sparoa_session_run(s, &in[turn % 2], 1, out, sparoa_model_output_count(model), &err),
              err);
        long calls = atomic_load(&memory.calls) - before;
        if (turn >= 2 && calls)
            fail_msg("%s, %d threads: run %d allocates %ld times", models[which].name, threads,
                     turn + 1, calls);
    }
    free(in[0].data);
    free(in[1].data);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
    ts_balanced(&memory);
}

static void test_runs_do_not_allocate(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++)
        for (int reference = 0; reference < 2; reference++) {
            check_quiet(i, 1, reference);
            check_quiet(i, 2, reference);
        }
}

/* prepare does what the first run would. */
static void test_prepared_run_does_not_allocate(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 1);
    sparoa_model *model = load_any(rt, NULL);
    sparoa_session *s = ts_session(model, NULL, 0);
    sparoa_value_info in_info, out_info;
    sparoa_error err;
    assert_int_equal(sparoa_model_input(model, 0, &in_info), SPAROA_OK);
    assert_int_equal(sparoa_model_output(model, 0, &out_info), SPAROA_OK);
    sparoa_tensor in = make_input(&in_info, 2, 1), out = make_input(&out_info, 2, 1);
    ts_ok(sparoa_session_prepare(s, &in, 1, &err), err);
    long before = atomic_load(&memory.calls);
    ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    assert_int_equal(atomic_load(&memory.calls), before);
    free(in.data);
    free(out.data);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    ts_balanced(&memory);
}

/* ---- every one fails once ---- */

#define MARK ((void *)0x1)

typedef struct life {
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *s;
    sparoa_status status;
    sparoa_error err;
} life;

/* Create, load, prepare a session and run, until something fails. */
static void live(life *l, ts_memory *memory, const uint8_t *bytes, size_t size, int32_t threads)
{
    sparoa_runtime_options o = ts_options(memory, threads);
    *l = (life){.rt = MARK, .model = MARK, .s = MARK};
    l->status = sparoa_runtime_create(&o, &l->rt, &l->err);
    if (l->status != SPAROA_OK) {
        assert_ptr_equal(l->rt, MARK);
        l->rt = NULL, l->model = NULL, l->s = NULL;
        return;
    }
    l->status = bytes ? sparoa_model_load_memory(l->rt, bytes, size, NULL, &l->model, &l->err)
                      : sparoa_model_load(l->rt, DIGITS, NULL, &l->model, &l->err);
    if (l->status != SPAROA_OK) {
        assert_ptr_equal(l->model, MARK);
        l->model = NULL, l->s = NULL;
        return;
    }
    l->status = sparoa_session_create(l->model, NULL, &l->s, &l->err);
    if (l->status == SPAROA_OK) return;
    assert_ptr_equal(l->s, MARK);
    l->s = NULL;
}

static void run_life(life *l)
{
    sparoa_value_info info;
    assert_int_equal(sparoa_model_input(l->model, 0, &info), SPAROA_OK);
    sparoa_tensor in = make_input(&info, 3, 1), out[MAX_VALUES], before[MAX_VALUES];
    memset(out, 0, sizeof out);
    for (int i = 0; i < MAX_VALUES; i++) out[i].rank = 5 + i;
    memcpy(before, out, sizeof out);
    size_t count = sparoa_model_output_count(l->model);
    l->status = sparoa_session_run(l->s, &in, 1, out, count, &l->err);
    if (l->status != SPAROA_OK) assert_memory_equal(out, before, sizeof out);
    free(in.data);
}

static void end_life(life *l)
{
    sparoa_session_destroy(l->s);
    sparoa_model_destroy(l->model);
    sparoa_runtime_destroy(l->rt);
}

static void check_refusal(const life *l, size_t which, long n)
{
    if (l->status != SPAROA_OUT_OF_MEMORY || l->err.status != SPAROA_OUT_OF_MEMORY ||
        !strstr(l->err.message, "memory"))
        fail_msg("%s: allocation %ld failed and gave %s: %s", models[which].name, n,
                 sparoa_status_name(l->status), l->err.message);
}

static void fail_each(size_t which, int32_t threads, int only_one)
{
    size_t size = 0;
    uint8_t *bytes = models[which].make ? mb_pack(models[which].make(), &size) : NULL;
    long n = 1;
    for (;; n++) {
        ts_memory memory = {.fail_at = n, .only_one = only_one};
        life l;
        live(&l, &memory, bytes, size, threads);
        if (l.status == SPAROA_OK) {
            run_life(&l);
            if (l.status != SPAROA_OK) {
                check_refusal(&l, which, n);
                memory.fail_at = 0;
                run_life(&l); /* the session lives on */
                if (l.status != SPAROA_OK)
                    fail_msg("%s: after failed allocation %ld: %s", models[which].name, n,
                             l.err.message);
                l.status = SPAROA_OUT_OF_MEMORY;
            }
        } else {
            check_refusal(&l, which, n);
        }
        end_life(&l);
        ts_balanced(&memory);
        if (l.status == SPAROA_OK && atomic_load(&memory.calls) < n) break;
        if (l.status == SPAROA_OK)
            fail_msg("%s: allocation %ld failed and nobody noticed", models[which].name, n);
    }
    assert_true(n > 10);
    mb_end();
}

static void test_each_allocation_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++) fail_each(i, 1, 0);
}

static void test_one_allocation_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++) fail_each(i, 2, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_do_not_allocate),
        cmocka_unit_test(test_prepared_run_does_not_allocate),
        cmocka_unit_test(test_each_allocation_fails),
        cmocka_unit_test(test_one_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
