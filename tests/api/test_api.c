/* sparoa.h but for sessions: every function, what it does and how it refuses. */
#include <stdio.h>
#include <unistd.h>

#include "tests/api/api.h"

/* ---- status, types, tensors ---- */

static void test_names(void **state)
{
    (void)state;
    assert_non_null(sparoa_version());
    assert_string_equal(sparoa_version(), "0.1.0");
#define X(name, value, text)                                                                       \
    assert_string_equal(sparoa_status_name(SPAROA_##name), #name);                                 \
    assert_string_equal(sparoa_status_text(SPAROA_##name), text);
    SPAROA_STATUS_MAP(X)
#undef X
    assert_string_equal(sparoa_status_name((sparoa_status)-999), "UNKNOWN");
    assert_non_null(sparoa_status_text((sparoa_status)-999));
    assert_int_equal(sparoa_dtype_size(SPAROA_FLOAT32), 4);
    assert_int_equal(sparoa_dtype_size(SPAROA_BFLOAT16), 2);
    assert_int_equal(sparoa_dtype_size(SPAROA_BOOL), 1);
    assert_int_equal(sparoa_dtype_size((sparoa_dtype)8), 0);
    assert_int_equal(sparoa_dtype_size((sparoa_dtype)-5), 0);
    assert_string_equal(sparoa_dtype_name(SPAROA_INT64), "int64");
    assert_string_equal(sparoa_dtype_name((sparoa_dtype)77), "undefined");
}

static void test_tensor_views(void **state)
{
    (void)state;
    float data[24];
    sparoa_tensor t = sparoa_tensor_of(SPAROA_FLOAT32, data, 3, 2, 3, 4);
    assert_int_equal(t.rank, 3);
    assert_int_equal(sparoa_tensor_count(&t), 24);
    assert_int_equal(sparoa_tensor_bytes(&t), 96);
    assert_int_equal(sparoa_tensor_count(&(sparoa_tensor){.dtype = SPAROA_INT8}), 1);
    t.dims[1] = -1;
    assert_int_equal(sparoa_tensor_count(&t), -1);
    assert_int_equal(sparoa_tensor_bytes(&t), 0);
    t.dims[0] = t.dims[1] = INT64_MAX;
    assert_int_equal(sparoa_tensor_count(&t), -1);
    t.dims[2] = 0;
    assert_int_equal(sparoa_tensor_bytes(&t), 0);
    assert_int_equal(sparoa_tensor_of(SPAROA_FLOAT32, data, 9).dtype, SPAROA_UNDEFINED);
    assert_int_equal(sparoa_tensor_of(SPAROA_FLOAT32, data, -1).dtype, SPAROA_UNDEFINED);
    int64_t dims[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    assert_int_equal(sparoa_tensor_view(SPAROA_FLOAT32, data, 9, dims).dtype, SPAROA_UNDEFINED);
    assert_int_equal(sparoa_tensor_count(NULL), -1);
    assert_int_equal(sparoa_tensor_bytes(NULL), 0);
}

static void test_tensor_memory(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 1);
    sparoa_tensor t = sparoa_tensor_of(SPAROA_INT32, NULL, 2, 3, 5);
    ts_ok(sparoa_tensor_alloc(rt, &t, &err), err);
    for (int i = 0; i < 15; i++) assert_int_equal(((int32_t *)t.data)[i], 0);
    sparoa_tensor_free(rt, &t);
    assert_null(t.data);
    sparoa_tensor_free(rt, &t);
    sparoa_tensor_free(rt, NULL);
    sparoa_tensor_free(NULL, &t);
    sparoa_tensor bad = sparoa_tensor_of(SPAROA_INT32, NULL, 1, -1), empty = {0};
    refused(sparoa_tensor_alloc(rt, &bad, &err), SPAROA_INVALID_ARGUMENT, "dimensions");
    refused(sparoa_tensor_alloc(rt, &empty, &err), SPAROA_INVALID_ARGUMENT, "element type");
    refused(sparoa_tensor_alloc(rt, NULL, &err), SPAROA_INVALID_ARGUMENT, "tensor");
    refused(sparoa_tensor_alloc(NULL, &t, &err), SPAROA_INVALID_ARGUMENT, "");
    sparoa_tensor huge = sparoa_tensor_view(SPAROA_INT8, NULL, 1, (int64_t[]){INT64_MAX / 4});
    refused(sparoa_tensor_alloc(rt, &huge, &err), SPAROA_OUT_OF_MEMORY, "no memory");
    char name[4] = "old";
    refused(sparoa_tensor_load_pb(rt, "no such file.pb", &t, name, 4, &err), SPAROA_NOT_FOUND,
            "no such file.pb");
    refused(sparoa_tensor_load_pb(rt, NULL, &t, name, 4, &err), SPAROA_INVALID_ARGUMENT, "path");
    refused(sparoa_tensor_load_pb(rt, DIGITS, NULL, name, 4, &err), SPAROA_INVALID_ARGUMENT,
            "NULL");
    assert_string_equal(name, "old");
    ts_ok(sparoa_tensor_load_pb(rt, SPAROA_SOURCE_DIR "/models/digits/test_data_set_0/input_0.pb",
                                &t, name, sizeof name, &err),
          err);
    assert_true(strlen(name) < sizeof name);
    assert_true(sparoa_tensor_count(&t) > 0);
    sparoa_tensor_free(rt, &t);
    sparoa_runtime_destroy(rt);
    ts_balanced(&memory);
}

/* ---- runtime ---- */

static void test_runtime_refusals(void **state)
{
    (void)state;
    sparoa_runtime *rt = NULL;
    sparoa_runtime_options o = {.struct_size = 0};
    refused(sparoa_runtime_create(NULL, NULL, &err), SPAROA_INVALID_ARGUMENT, "runtime is NULL");
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "struct_size");
    assert_int_equal(sparoa_runtime_create(&o, &rt, NULL), SPAROA_INVALID_ARGUMENT);
    o = (sparoa_runtime_options){.struct_size = sizeof o, .threads = -1};
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "threads=-1");
    o.threads = 100000;
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "threads=100000");
    o = (sparoa_runtime_options){.struct_size = sizeof o, .spin_us = -1};
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "spin_us=-1");
    o = (sparoa_runtime_options){.struct_size = sizeof o, .affinity_count = 1};
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "NULL");
    int32_t cpu = -7;
    o = (sparoa_runtime_options){
        .struct_size = sizeof o, .threads = 2, .affinity = &cpu, .affinity_count = -1};
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "affinity");
    o.affinity_count = 1;
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "affinity");
    cpu = 1 << 20;
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "affinity");
    o = (sparoa_runtime_options){.struct_size = sizeof o, .allocator = {NULL, ts_alloc, NULL}};
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "allocator");
    o = (sparoa_runtime_options){.struct_size = sizeof o, .operator_count = 1};
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "NULL");
    const sparoa_op incomplete = {.struct_size = sizeof incomplete, .name = "X", .domain = "d"};
    const sparoa_op *rows[] = {&incomplete};
    o = (sparoa_runtime_options){.struct_size = sizeof o, .operators = rows, .operator_count = 1};
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_INVALID_ARGUMENT, "operator 0");
    o = (sparoa_runtime_options){.struct_size = sizeof o, .memory_limit = 16};
    refused(sparoa_runtime_create(&o, &rt, &err), SPAROA_MEMORY_LIMIT, "memory_limit");
    assert_null(rt);
    sparoa_runtime_destroy(NULL);
    assert_int_equal(sparoa_runtime_memory(NULL), 0);
    assert_int_equal(sparoa_runtime_memory_peak(NULL), 0);
    assert_int_equal(sparoa_runtime_threads(NULL), 0);
    assert_int_equal(sparoa_device_count(NULL), 0);
}

/* An older program's options are shorter: what it does not know is at its default. */
static void test_short_options(void **state)
{
    (void)state;
    sparoa_runtime_options o;
    memset(&o, 0xff, sizeof o);
    o.struct_size = offsetof(sparoa_runtime_options, spin_us);
    o.threads = 2;
    sparoa_runtime *rt = NULL;
    ts_ok(sparoa_runtime_create(&o, &rt, &err), err);
    assert_int_equal(sparoa_runtime_threads(rt), 2);
    sparoa_runtime_destroy(rt);
}

typedef struct executor {
    int calls;
    int64_t tasks;
} executor;

static void run_backwards(void *user, int32_t count, void (*task)(void *arg, int32_t i), void *arg)
{
    executor *e = user;
    e->calls++;
    e->tasks += count;
    for (int32_t i = count; i-- > 0;) task(arg, i);
}

static sparoa_tensor run_small(sparoa_runtime *rt, int64_t n)
{
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_session *s = ts_session(model, NULL, 0);
    sparoa_tensor in = ts_random(MB_DIMS(n, 3, 8, 8), 77), out = {0};
    ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    out = ts_copy(&out);
    free(in.data);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    mb_end();
    return out;
}

/* Threads, the host's executor and a second runtime give the same bits. */
static void test_threads_and_executor(void **state)
{
    (void)state;
    executor e = {0};
    sparoa_tensor want = {0};
    for (int i = 0; i < 5; i++) {
        static const int32_t threads[] = {1, 2, 4, 3, 0};
        sparoa_runtime_options o = {.struct_size = sizeof o, .threads = threads[i]};
        if (i == 3) o.parallel = run_backwards, o.parallel_user = &e;
        sparoa_runtime *rt = NULL, *other = ts_runtime(NULL, 2);
        ts_ok(sparoa_runtime_create(&o, &rt, &err), err);
        if (threads[i]) assert_int_equal(sparoa_runtime_threads(rt), threads[i]);
        sparoa_tensor got = run_small(rt, 6), twin = run_small(other, 6);
        if (i == 0) want = ts_copy(&got);
        assert_true(ts_same(&got, &want));
        assert_true(ts_same(&twin, &want));
        free(got.data);
        free(twin.data);
        sparoa_runtime_destroy(rt);
        sparoa_runtime_destroy(other);
    }
    free(want.data);
}

typedef struct lines {
    int count;
    sparoa_log_level most;
} lines;

static void count_line(void *user, sparoa_log_level level, const char *line)
{
    lines *l = user;
    l->count++;
    if (level > l->most) l->most = level;
    assert_null(strchr(line, '\n'));
}

static void test_log(void **state)
{
    (void)state;
    for (sparoa_log_level level = SPAROA_LOG_ERROR; level <= SPAROA_LOG_DEBUG; level++) {
        lines l = {0};
        sparoa_runtime_options o = {.struct_size = sizeof o,
                                    .threads = 1,
                                    .log = count_line,
                                    .log_user = &l,
                                    .log_level = level};
        sparoa_runtime *rt = NULL;
        ts_ok(sparoa_runtime_create(&o, &rt, &err), err);
        free(run_small(rt, 1).data);
        sparoa_runtime_destroy(rt);
        assert_true(l.most <= level);
        if (level >= SPAROA_LOG_INFO) assert_true(l.count > 0 && l.most == level);
    }
}

static void test_devices(void **state)
{
    (void)state;
    sparoa_runtime *rt = ts_runtime(NULL, 2);
    sparoa_device_desc d;
    sparoa_device_peak peak;
    assert_int_equal(sparoa_device_count(rt), 1);
    assert_int_equal(sparoa_device(rt, 0, &d), SPAROA_OK);
    assert_string_equal(d.name, "cpu");
    assert_true(d.cores >= 1);
    assert_int_equal(sparoa_device(rt, 1, &d), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_device(rt, 0, NULL), SPAROA_INVALID_ARGUMENT);
    refused(sparoa_device_measure(rt, 0, 5, &peak, &err), SPAROA_INVALID_ARGUMENT, "30");
    refused(sparoa_device_measure(rt, 3, 50, &peak, &err), SPAROA_INVALID_ARGUMENT, "device");
    ts_ok(sparoa_device_measure(rt, 0, 30, &peak, &err), err);
    assert_true(peak.gflops_one > 0 && peak.gflops_all > 0 && peak.bandwidth > 0);
    sparoa_runtime_destroy(rt);
}

/* ---- model ---- */

typedef struct source {
    const uint8_t *bytes;
    size_t size;
    int fail_after; /* reads that work; -1: all */
} source;

static uint64_t source_size(void *user)
{
    return ((source *)user)->size;
}

static int source_read(void *user, uint64_t offset, void *dst, size_t size)
{
    source *s = user;
    if (s->fail_after == 0 || offset > s->size || size > s->size - offset) return 5;
    if (s->fail_after > 0) s->fail_after--;
    memcpy(dst, s->bytes + offset, size);
    return 0;
}

static void test_load_ways(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 1);
    sparoa_model *model = NULL;
    size_t size;
    uint8_t *bytes = mb_pack(ts_small_net(), &size);
    refused(sparoa_model_load(NULL, DIGITS, NULL, &model, &err), SPAROA_INVALID_ARGUMENT, "NULL");
    refused(sparoa_model_load(rt, NULL, NULL, &model, &err), SPAROA_INVALID_ARGUMENT, "path");
    refused(sparoa_model_load(rt, DIGITS, NULL, NULL, &err), SPAROA_INVALID_ARGUMENT, "NULL");
    refused(sparoa_model_load(rt, "nowhere.onnx", NULL, &model, &err), SPAROA_NOT_FOUND,
            "nowhere.onnx");
    refused(sparoa_model_load(rt, SPAROA_SOURCE_DIR, NULL, &model, &err), SPAROA_IO, "");
    refused(sparoa_model_load_memory(rt, NULL, 4, NULL, &model, &err), SPAROA_INVALID_ARGUMENT, "");
    refused(sparoa_model_load_memory(rt, bytes, 0, NULL, &model, &err), SPAROA_INVALID_ARGUMENT,
            "");
    sparoa_model_options o = {.struct_size = 0};
    refused(sparoa_model_load_memory(rt, bytes, size, &o, &model, &err), SPAROA_INVALID_ARGUMENT,
            "struct_size");
    o = (sparoa_model_options){.struct_size = sizeof o, .max_bytes = size - 1};
    refused(sparoa_model_load_memory(rt, bytes, size, &o, &model, &err), SPAROA_TOO_LARGE,
            "max_bytes");
    refused(sparoa_model_load(rt, DIGITS, &o, &model, &err), SPAROA_TOO_LARGE, "max_bytes");
    source src = {bytes, size, -1};
    sparoa_reader reader = {&src, source_size, source_read};
    refused(sparoa_model_load_reader(rt, NULL, NULL, &model, &err), SPAROA_INVALID_ARGUMENT,
            "reader");
    refused(sparoa_model_load_reader(rt, &(sparoa_reader){.user = &src}, NULL, &model, &err),
            SPAROA_INVALID_ARGUMENT, "size and read");
    refused(sparoa_model_load_reader(rt, &reader, &o, &model, &err), SPAROA_TOO_LARGE, "max_bytes");
    src.fail_after = 0;
    refused(sparoa_model_load_reader(rt, &reader, NULL, &model, &err), SPAROA_IO, "");
    assert_null(model);
    src.fail_after = -1;
    ts_ok(sparoa_model_load_reader(rt, &reader, NULL, &model, &err), err);
    sparoa_model_destroy(model);
    sparoa_model_destroy(NULL);
    sparoa_runtime_destroy(rt);
    mb_end();
    ts_balanced(&memory);
}

/* Whatever stands in a file: an error with a text, and nothing leaks. */
static void test_damaged_files(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 1);
    size_t size;
    uint8_t *bytes = mb_pack(ts_control_net(3), &size), *copy = mb_alloc(size);
    size_t held = sparoa_runtime_memory(rt);
    for (size_t n = 1; n < size; n++) { /* cut off: fewer fields may still be a model */
        sparoa_model *model = NULL;
        sparoa_status status = sparoa_model_load_memory(rt, bytes, n, NULL, &model, &err);
        assert_true((status == SPAROA_OK) == (model != NULL));
        if (status != SPAROA_OK) assert_true(err.message[0] != '\0');
        sparoa_model_destroy(model);
    }
    for (uint64_t turn = 0; turn < 3000; turn++) {
        sparoa_model *model = NULL;
        memcpy(copy, bytes, size);
        for (int k = 0; k < 3; k++)
            copy[sp_rng_bits(turn, 2 * k) % size] = (uint8_t)sp_rng_bits(turn, 2 * k + 1);
        if (sparoa_model_load_memory(rt, copy, size, NULL, &model, &err) != SPAROA_OK)
            assert_true(err.message[0] != '\0');
        sparoa_model_destroy(model);
        assert_int_equal(sparoa_runtime_memory(rt), held);
    }
    sparoa_runtime_destroy(rt);
    mb_end();
    ts_balanced(&memory);
}

static void test_model_facts(void **state)
{
    (void)state;
    mb_model *m = ts_small_net();
    SpOnnx__StringStringEntryProto *e =
        MB_NEW(SpOnnx__StringStringEntryProto, SP_ONNX__STRING_STRING_ENTRY_PROTO__INIT);
    e->key = mb_str("author"), e->value = mb_str("nobody");
    MB_APPEND(m->metadata_props, m->n_metadata_props, e);
    bench b = open_model(m);
    sparoa_value_info v;
    sparoa_model_info info;
    assert_int_equal(sparoa_model_input_count(b.model), 1);
    assert_int_equal(sparoa_model_output_count(b.model), 1);
    assert_int_equal(sparoa_model_input_count(NULL), 0);
    assert_int_equal(sparoa_model_output_count(NULL), 0);
    assert_int_equal(sparoa_model_input(b.model, 0, &v), SPAROA_OK);
    assert_string_equal(v.name, "image");
    assert_int_equal(v.rank, 4);
    assert_int_equal(v.dims[0], -1);
    assert_string_equal(v.dim_names[0], "N");
    assert_null(v.dim_names[1]);
    assert_int_equal(sparoa_model_output(b.model, 0, &v), SPAROA_OK);
    assert_string_equal(v.name, "scores");
    assert_int_equal(v.dims[1], 5);
    assert_int_equal(sparoa_model_input(b.model, 1, &v), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_model_input(b.model, 0, NULL), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_model_output(b.model, SIZE_MAX, &v), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_model_output(NULL, 0, &v), SPAROA_INVALID_ARGUMENT);
    sparoa_model_get_info(b.model, &info);
    assert_int_equal(info.node_count, 9);
    assert_int_equal(info.opset, 17);
    assert_int_equal(info.ir_version, 8);
    assert_int_equal(info.parameter_count, 8 * 27 + 8 + 8 * 72 + 40 + 5);
    assert_int_equal(info.weight_bytes, 4 * info.parameter_count);
    assert_true(strncmp(info.producer, "tests", 5) == 0);
    sparoa_model_get_info(NULL, &info);
    sparoa_model_get_info(b.model, NULL);
    assert_string_equal(sparoa_model_metadata(b.model, "author"), "nobody");
    assert_null(sparoa_model_metadata(b.model, "title"));
    assert_null(sparoa_model_metadata(b.model, NULL));
    assert_null(sparoa_model_metadata(NULL, "author"));
    close_model(&b);
}

static void test_lists(void **state)
{
    (void)state;
    size_t n = 0;
    while (sparoa_pass_name(n)) n++;
    assert_true(n >= 5);
    assert_null(sparoa_pass_name(n + 100));
    int32_t since = -1, until = -1;
    size_t count = 0;
    for (const char *last = "", *name; (name = sparoa_operator_name(count, &since, &until));
         count++, last = name) {
        assert_true(strcmp(last, name) <= 0);
        assert_true(since >= 1 && (until == 0 || until >= since));
    }
    assert_true(count > 150);
    assert_null(sparoa_operator_name(SIZE_MAX, NULL, NULL));
    assert_non_null(sparoa_operator_name(0, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),         cmocka_unit_test(test_tensor_views),
        cmocka_unit_test(test_tensor_memory), cmocka_unit_test(test_runtime_refusals),
        cmocka_unit_test(test_short_options), cmocka_unit_test(test_threads_and_executor),
        cmocka_unit_test(test_log),           cmocka_unit_test(test_devices),
        cmocka_unit_test(test_load_ways),     cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_model_facts),   cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
