/* sparoa.h: every function, what it does and how it refuses. */
#include <stdio.h>
#include <unistd.h>

#include "tests/support/support.h"

#define DIGITS SPAROA_SOURCE_DIR "/models/digits/digits.onnx"

static sparoa_error err;

/* The call must fail with that status and, where it fills an error, say something that contains
 * `text`. */
#define refused(call, want, text)                                                                  \
    do {                                                                                           \
        memset(&err, 0, sizeof err);                                                               \
        sparoa_status got_ = (call);                                                               \
        if (got_ != (want) || err.status != (want) || !strstr(err.message, (text)))                \
            fail_msg("%s\ngot %s: %s\nexpected %s with '%s'", #call, sparoa_status_name(got_),     \
                     err.message, sparoa_status_name(want), (text));                               \
    } while (0)

typedef struct bench {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *s;
} bench;

static bench open_model(mb_model *m)
{
    static ts_memory memory;
    memory = (ts_memory){0};
    bench b = {.rt = ts_runtime(&memory, 1)};
    if (m)
        b.model = ts_load(b.rt, m);
    else
        ts_ok(sparoa_model_load(b.rt, DIGITS, NULL, &b.model, &err), err);
    b.s = ts_session(b.model, NULL, 0);
    return b;
}

static void close_model(bench *b)
{
    sparoa_session_destroy(b->s);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    mb_end();
}

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

/* ---- session ---- */

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
        cmocka_unit_test(test_model_facts),   cmocka_unit_test(test_session_refusals),
        cmocka_unit_test(test_run_refusals),  cmocka_unit_test(test_named_dimensions),
        cmocka_unit_test(test_data_errors),   cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_destroy_order), cmocka_unit_test(test_looking_inside),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
