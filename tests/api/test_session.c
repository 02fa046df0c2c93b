/* Sessions of sparoa.h: what they do and how they refuse. */
#include "tests/api/api.h"

static void test_session_refusals(void **state)
{
    (void)state;
    bench b = open_model(NULL);
    sparoa_session *s = NULL;
    sparoa_session_options o = {.struct_size = 0};
    refused(sparoa_session_create(NULL, NULL, &s, &err), SPAROA_INVALID_ARGUMENT, "model");
    refused(sparoa_session_create(b.model, NULL, NULL, &err), SPAROA_INVALID_ARGUMENT, "NULL");
    refused(sparoa_session_create(b.model, &o, &s, &err), SPAROA_INVALID_ARGUMENT, "struct_size");
    o = (sparoa_session_options){.struct_size = sizeof o, .disable_passes = "layout,nonsense"};
    refused(sparoa_session_create(b.model, &o, &s, &err), SPAROA_INVALID_ARGUMENT, "'nonsense'");
    o.disable_passes = NULL, o.dump_dir = "/nonexistent/folder";
    refused(sparoa_session_create(b.model, &o, &s, &err), SPAROA_IO, "/nonexistent/folder");
    assert_null(s);
    sparoa_session_destroy(NULL);
    sparoa_session_profile_reset(NULL);
    sparoa_session_get_info(NULL, NULL);
    assert_int_equal(sparoa_session_node_count(NULL), 0);
    close_model(&b);
}

/* The session is as good as new after a refusal. */
static void still_works(bench *b)
{
    sparoa_tensor in = ts_random(MB_DIMS(2, 3, 8, 8), 5), out = {0};
    ts_ok(sparoa_session_run(b->s, &in, 1, &out, 1, &err), err);
    assert_int_equal(out.dims[0], 2);
    free(in.data);
}

static void test_run_refusals(void **state)
{
    (void)state;
    bench b = open_model(ts_small_net());
    float data[2 * 3 * 8 * 8] = {0}, result[10];
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, data, 4, 2, 3, 8, 8), out = {0}, bad;
#define run_refused(i, ni, o, no, status, text)                                                    \
    do {                                                                                           \
        refused(sparoa_session_run(b.s, i, ni, o, no, &err), status, text);                        \
        still_works(&b);                                                                           \
    } while (0)
    refused(sparoa_session_run(NULL, &in, 1, &out, 1, &err), SPAROA_INVALID_ARGUMENT, "session");
    run_refused(&in, 0, &out, 1, SPAROA_INVALID_ARGUMENT, "0 inputs given, the model has 1");
    run_refused(&in, 2, &out, 1, SPAROA_INVALID_ARGUMENT, "2 inputs");
    run_refused(NULL, 1, &out, 1, SPAROA_INVALID_ARGUMENT, "inputs is NULL");
    run_refused(&in, 1, &out, 0, SPAROA_INVALID_ARGUMENT, "0 outputs");
    run_refused(&in, 1, NULL, 1, SPAROA_INVALID_ARGUMENT, "outputs is NULL");
    bad = in, bad.data = NULL;
    run_refused(&bad, 1, &out, 1, SPAROA_INVALID_ARGUMENT, "input 'image' has no data");
    bad = in, bad.dtype = SPAROA_FLOAT64;
    run_refused(&bad, 1, &out, 1, SPAROA_TYPE_MISMATCH, "'image' is float64");
    bad = in, bad.rank = 3;
    run_refused(&bad, 1, &out, 1, SPAROA_SHAPE_MISMATCH, "[2,3,8]");
    bad = in, bad.rank = 99;
    run_refused(&bad, 1, &out, 1, SPAROA_SHAPE_MISMATCH, "'image'");
    bad = in, bad.rank = -1;
    run_refused(&bad, 1, &out, 1, SPAROA_SHAPE_MISMATCH, "'image'");
    bad = in, bad.dims[1] = 4;
    run_refused(&bad, 1, &out, 1, SPAROA_SHAPE_MISMATCH, "[2,4,8,8]");
    bad = in, bad.dims[0] = -2;
    run_refused(&bad, 1, &out, 1, SPAROA_SHAPE_MISMATCH, "'image'");
    bad = in, bad.dims[0] = INT64_MAX;
    run_refused(&bad, 1, &out, 1, SPAROA_SHAPE_MISMATCH, "'image' is too large");
    bad = in, bad.dims[0] = INT64_MAX / 192 / 16;
    sparoa_status status = sparoa_session_run(b.s, &bad, 1, &out, 1, &err);
    assert_true(status == SPAROA_OUT_OF_MEMORY || status == SPAROA_INVALID_GRAPH);
    still_works(&b);
    out = sparoa_tensor_of(SPAROA_FLOAT32, result, 2, 2, 4);
    run_refused(&in, 1, &out, 1, SPAROA_BUFFER_TOO_SMALL, "output 'scores' needs 40 bytes");
    assert_int_equal(out.dims[1], 4);
    out.dtype = SPAROA_INT32;
    run_refused(&in, 1, &out, 1, SPAROA_TYPE_MISMATCH, "'scores' is int32");
    out.dtype = SPAROA_FLOAT32, out.rank = 12;
    run_refused(&in, 1, &out, 1, SPAROA_INVALID_ARGUMENT, "'scores'");
    out.rank = 1, out.dims[0] = 10; /* enough elements: any shape will do */
    ts_ok(sparoa_session_run(b.s, &in, 1, &out, 1, &err), err);
    assert_int_equal(out.rank, 2);
    assert_ptr_equal(out.data, result);
    refused(sparoa_session_prepare(NULL, &in, 1, &err), SPAROA_INVALID_ARGUMENT, "session");
    refused(sparoa_session_prepare(b.s, &in, 3, &err), SPAROA_INVALID_ARGUMENT, "3 inputs");
    bad = in, bad.data = NULL;
    ts_ok(sparoa_session_prepare(b.s, &bad, 1, &err), err);
    assert_int_equal(sparoa_session_run(b.s, &in, 9, &out, 1, NULL), SPAROA_INVALID_ARGUMENT);
    close_model(&b);
}

/* Inputs that name the same dimension must agree on it. */
static void test_named_dimensions(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_input(m->graph, "a", SPAROA_FLOAT32, MB_DIMS(-1));
    mb_input(m->graph, "b", SPAROA_FLOAT32, MB_DIMS(-1));
    mb_add(m->graph, "Add", "add", "a,b", "c");
    mb_output(m->graph, "c");
    bench b = open_model(m);
    float data[4] = {1, 2, 3, 4};
    sparoa_tensor in[2] = {sparoa_tensor_of(SPAROA_FLOAT32, data, 1, 4),
                           sparoa_tensor_of(SPAROA_FLOAT32, data, 1, 1)},
                  out = {0};
    refused(sparoa_session_run(b.s, in, 2, &out, 1, &err), SPAROA_SHAPE_MISMATCH,
            "dimension 'N' is 1 in input 'b' but 4 in input 'a'");
    in[1].dims[0] = 4;
    ts_ok(sparoa_session_run(b.s, in, 2, &out, 1, &err), err);
    assert_true(((float *)out.data)[3] == 8);
    close_model(&b);
}

/* What only the data says: an index out of range names node and value. */
static void test_data_errors(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_random(m->graph, "table", MB_DIMS(5, 2), 1, -1, 1);
    mb_input(m->graph, "at", SPAROA_INT64, MB_DIMS(-1));
    mb_add(m->graph, "Gather", "lookup", "table,at", "rows");
    mb_output(m->graph, "rows");
    bench b = open_model(m);
    int64_t at[2] = {1, 5};
    sparoa_tensor in = sparoa_tensor_of(SPAROA_INT64, at, 1, 2), out = {0};
    refused(sparoa_session_run(b.s, &in, 1, &out, 1, &err), SPAROA_INDEX_OUT_OF_RANGE, "5");
    assert_string_equal(err.node, "lookup");
    assert_null(out.data);
    at[1] = -5;
    ts_ok(sparoa_session_run(b.s, &in, 1, &out, 1, &err), err);
    close_model(&b);
}

static void test_memory_limit(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime_options o = ts_options(&memory, 1);
    o.memory_limit = 1 << 20;
    sparoa_runtime *rt = NULL;
    ts_ok(sparoa_runtime_create(&o, &rt, &err), err);
    bench b = {.rt = rt, .model = ts_load(rt, ts_small_net())};
    b.s = ts_session(b.model, NULL, 0);
    sparoa_tensor in = ts_random(MB_DIMS(2000, 3, 8, 8), 1), out = {0};
    for (int i = 0; i < 3; i++) {
        refused(sparoa_session_run(b.s, &in, 1, &out, 1, &err), SPAROA_MEMORY_LIMIT,
                "raise memory_limit");
        assert_null(out.data);
        still_works(&b);
        assert_true(sparoa_runtime_memory(rt) <= o.memory_limit);
    }
    assert_true(sparoa_runtime_memory_peak(rt) <= o.memory_limit);
    sparoa_tensor big = sparoa_tensor_of(SPAROA_INT8, NULL, 1, 1 << 21);
    refused(sparoa_tensor_alloc(rt, &big, &err), SPAROA_MEMORY_LIMIT, "limit of 1048576");
    free(in.data);
    close_model(&b);
    ts_balanced(&memory);
}

/* A runtime, model and session may be destroyed in any order. */
static void test_destroy_order(void **state)
{
    (void)state;
    static const char *const orders[] = {"rms", "rsm", "mrs", "msr", "srm", "smr"};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        ts_memory memory = {0};
        sparoa_runtime *rt = ts_runtime(&memory, 2);
        sparoa_model *model = ts_load(rt, ts_small_net());
        sparoa_session *s = ts_session(model, NULL, 0);
        sparoa_session *reference = ts_session(model, NULL, 1);
        for (const char *at = orders[i]; *at; at++) {
            if (*at == 'r') sparoa_runtime_destroy(rt);
            if (*at == 'm') sparoa_model_destroy(model);
            bench b = {.s = s};
            if (*at != 's' && strchr(at, 's')) still_works(&b);
            if (*at == 's') sparoa_session_destroy(s);
        }
        sparoa_session_destroy(reference);
        mb_end();
        ts_balanced(&memory);
    }
}

typedef struct seen {
    int values, nhwc;
} seen;

static void count_value(void *user, const char *node, const char *value,
                        const sparoa_tensor *tensor, const char *layout)
{
    seen *s = user;
    assert_true(node[0] && value[0] && (tensor->data || !sparoa_tensor_count(tensor)));
    s->values++;
    if (layout) {
        assert_string_equal(layout, "NHWC");
        s->nhwc++;
    }
}

static void test_looking_inside(void **state)
{
    (void)state;
    bench b = open_model(ts_small_net());
    seen count = {0};
    sparoa_session_options o = {
        .struct_size = sizeof o, .profile = 1, .observer = count_value, .observer_user = &count};
    sparoa_session *s = NULL;
    ts_ok(sparoa_session_create(b.model, &o, &s, &err), err);
    sparoa_node_info node;
    sparoa_session_info info;
    assert_int_equal(sparoa_session_node(s, 0, &node), SPAROA_OK); /* before any run */
    assert_int_equal(node.runs, 0);
    sparoa_tensor in = ts_random(MB_DIMS(2, 3, 8, 8), 5), out = {0};
    for (int i = 0; i < 3; i++) ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    assert_true(count.values >= 3 && count.nhwc > 0);
    sparoa_session_get_info(s, &info);
    assert_int_equal(info.runs, 3);
    assert_true(info.flops > 0 && info.activation_bytes > 0 && info.last_run_ns > 0);
    assert_int_equal(info.node_count, sparoa_session_node_count(s));
    double flops = 0;
    for (size_t i = 0; i < info.node_count; i++) {
        assert_int_equal(sparoa_session_node(s, i, &node), SPAROA_OK);
        assert_true(node.name[0] && node.op[0] && node.kernel[0] && node.op_class[0]);
        assert_string_equal(node.device, "cpu");
        assert_true(node.runs == 3 || strcmp(node.kernel, "none") == 0);
        assert_true(node.min_ns * node.runs <= node.total_ns);
        flops += node.flops;
    }
    assert_true(fabs(flops - info.flops) <= 1e-6 * flops);
    assert_int_equal(sparoa_session_node(s, info.node_count, &node), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_session_node(s, 0, NULL), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_session_node(NULL, 0, &node), SPAROA_INVALID_ARGUMENT);
    sparoa_session_profile_reset(s);
    assert_int_equal(sparoa_session_node(s, 0, &node), SPAROA_OK);
    assert_int_equal(node.runs, 0);
    free(in.data);
    sparoa_session_destroy(s);
    close_model(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_refusals), cmocka_unit_test(test_run_refusals),
        cmocka_unit_test(test_named_dimensions), cmocka_unit_test(test_data_errors),
        cmocka_unit_test(test_memory_limit),     cmocka_unit_test(test_destroy_order),
        cmocka_unit_test(test_looking_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
