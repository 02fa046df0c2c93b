/* support.h - what the tests of whole models share: attributes and constants for the model builder,
 * an allocator that counts and can be told to fail, loading and running. */
#ifndef TESTS_SUPPORT_SUPPORT_H
#define TESTS_SUPPORT_SUPPORT_H

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/rng.h"
#include "tests/onnx/model_builder.h"

/* ---- building ---- */

static inline mb_attr *mb_ints(mb_node *n, const char *name, size_t count, const int64_t *values)
{
    mb_attr *a = mb_attribute(n, name, SPAROA_ATTR_INTS);
    a->n_ints = count;
    a->ints = mb_alloc(count * sizeof *a->ints);
    if (count) memcpy(a->ints, values, count * sizeof *values);
    return a;
}

static inline mb_attr *mb_float(mb_node *n, const char *name, float value)
{
    mb_attr *a = mb_attribute(n, name, SPAROA_ATTR_FLOAT);
    a->has_f = 1;
    a->f = value;
    return a;
}

static inline mb_attr *mb_string(mb_node *n, const char *name, const char *value)
{
    mb_attr *a = mb_attribute(n, name, SPAROA_ATTR_STRING);
    a->has_s = 1;
    a->s.len = strlen(value);
    a->s.data = (uint8_t *)mb_str(value);
    return a;
}

#define MB_DIMS(...)                                                                               \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                   \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static inline void mb_i64s(mb_graph *g, const char *name, size_t count, const int64_t *values)
{
    int64_t dim = (int64_t)count;
    mb_raw(mb_initializer(g, name, SPAROA_INT64, 1, &dim), values, count * sizeof *values);
}

static inline void mb_scalar(mb_graph *g, const char *name, float value)
{
    mb_raw(mb_initializer(g, name, SPAROA_FLOAT32, 0, NULL), &value, sizeof value);
}

static inline int64_t mb_product(int rank, const int64_t *dims)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dims[i];
    return n;
}

/* Random constants: uniform in [lo, hi). */
static inline void mb_random(mb_graph *g, const char *name, int rank, const int64_t *dims,
                             uint64_t key, double lo, double hi)
{
    int64_t count = mb_product(rank, dims);
    float *p = mb_alloc((size_t)count * sizeof *p);
    for (int64_t i = 0; i < count; i++)
        p[i] = (float)(lo + (hi - lo) * sp_rng_uniform(key, (uint64_t)i));
    mb_raw(mb_initializer(g, name, SPAROA_FLOAT32, rank, dims), p, (size_t)count * sizeof *p);
}

static inline void mb_opset(mb_model *m, int64_t version)
{
    m->opset_import[0]->version = version;
}

/* ---- memory ---- */

/* Counts what is held; fails the allocation number `fail_at` (1: the next) and all after it, or
 * only that one. */
typedef struct ts_memory {
    atomic_long calls, blocks, bytes;
    long fail_at; /* 0: never */
    int only_one;
} ts_memory;

static inline void *ts_alloc(void *user, size_t size, size_t align)
{
    ts_memory *m = user;
    long call = atomic_fetch_add(&m->calls, 1) + 1;
    if (m->fail_at && (m->only_one ? call == m->fail_at : call >= m->fail_at)) return NULL;
    void *p = NULL;
    if (posix_memalign(&p, align < sizeof p ? sizeof p : align, size)) return NULL;
    memset(p, 0xa5, size); /* whoever counts on zeroes is wrong */
    atomic_fetch_add(&m->blocks, 1);
    atomic_fetch_add(&m->bytes, (long)size);
    return p;
}

static inline void ts_free(void *user, void *ptr, size_t size)
{
    ts_memory *m = user;
    if (!ptr) return;
    atomic_fetch_sub(&m->blocks, 1);
    atomic_fetch_sub(&m->bytes, (long)size);
    free(ptr);
}

static inline sparoa_runtime_options ts_options(ts_memory *m, int32_t threads)
{
    sparoa_runtime_options o = {.struct_size = sizeof o, .threads = threads};
    if (m) o.allocator = (sparoa_allocator){m, ts_alloc, ts_free};
    return o;
}

#define ts_balanced(m)                                                                             \
    do {                                                                                           \
        assert_int_equal(atomic_load(&(m)->blocks), 0);                                            \
        assert_int_equal(atomic_load(&(m)->bytes), 0);                                             \
    } while (0)

/* ---- running ---- */

#define ts_ok(call, err)                                                                           \
    do {                                                                                           \
        sparoa_status ts_status_ = (call);                                                         \
        if (ts_status_ != SPAROA_OK)                                                               \
            fail_msg("%s: %s: %s", #call, sparoa_status_name(ts_status_), (err).message);          \
    } while (0)

static inline sparoa_runtime *ts_runtime(ts_memory *m, int32_t threads)
{
    sparoa_runtime_options o = ts_options(m, threads);
    sparoa_runtime *rt = NULL;
    sparoa_error err;
    ts_ok(sparoa_runtime_create(&o, &rt, &err), err);
    return rt;
}

#ifdef SPAROA_EMU_PATH
/* The emulated device with memory for small models, unless options (or NULL) say memory=BYTES: it
 * reserves addresses for several times its memory, and qemu's user mode pays for every page of
 * them. */
static inline void ts_emu(sparoa_runtime *rt, const char *options)
{
    char all[192];
    sparoa_error err;
    snprintf(all, sizeof all, "memory=%d,%s", 16 << 20, options ? options : "");
    ts_ok(sparoa_runtime_load_plugin(rt, SPAROA_EMU_PATH, all, &err), err);
}
#endif

static inline sparoa_model *ts_load(sparoa_runtime *rt, const mb_model *m)
{
    size_t size;
    uint8_t *bytes = mb_pack(m, &size);
    sparoa_model *model = NULL;
    sparoa_error err;
    ts_ok(sparoa_model_load_memory(rt, bytes, size, NULL, &model, &err), err);
    return model;
}

/* disabled and reference as in sparoa_session_options. */
static inline sparoa_session *ts_session(sparoa_model *model, const char *disabled, int reference)
{
    sparoa_session_options o = {
        .struct_size = sizeof o, .disable_passes = disabled, .reference = reference};
    sparoa_session *s = NULL;
    sparoa_error err;
    ts_ok(sparoa_session_create(model, &o, &s, &err), err);
    return s;
}

/* Gets a session of one input ready while every allocation in turn fails, cleanly; then it is. */
static inline void ts_prepare_at_last(ts_memory *m, sparoa_session *s, const sparoa_tensor *in)
{
    sparoa_status status = SPAROA_OUT_OF_MEMORY;
    sparoa_error err;
    for (long n = 1; status != SPAROA_OK; n++) {
        m->fail_at = atomic_load(&m->calls) + n;
        status = sparoa_session_prepare(s, in, 1, &err);
        assert_true(status == SPAROA_OK || status == SPAROA_OUT_OF_MEMORY);
        m->fail_at = 0;
    }
}

/* A float tensor of random values; free its data. */
static inline sparoa_tensor ts_random(int rank, const int64_t *dims, uint64_t key)
{
    int64_t count = mb_product(rank, dims);
    float *p = malloc((size_t)(count ? count : 1) * sizeof *p);
    for (int64_t i = 0; i < count; i++) p[i] = (float)(2 * sp_rng_uniform(key, (uint64_t)i) - 1);
    return sparoa_tensor_view(SPAROA_FLOAT32, p, rank, dims);
}

static inline sparoa_tensor ts_copy(const sparoa_tensor *t)
{
    sparoa_tensor c = *t;
    size_t bytes = sparoa_tensor_bytes(t);
    c.data = malloc(bytes ? bytes : 1);
    if (bytes) memcpy(c.data, t->data, bytes);
    return c;
}

static inline int ts_same_shape(const sparoa_tensor *a, const sparoa_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) == 0;
}

static inline int ts_same(const sparoa_tensor *a, const sparoa_tensor *b)
{
    return ts_same_shape(a, b) &&
           (!sparoa_tensor_bytes(a) || memcmp(a->data, b->data, sparoa_tensor_bytes(a)) == 0);
}

/* The largest difference of two float tensors, relative to the largest magnitude of `want` (at
 * least 0.1: what cancels out leaves noise). Infinite where one is NaN or infinite and the other is
 * not the same. */
static inline double ts_difference(const sparoa_tensor *got, const sparoa_tensor *want)
{
    if (!ts_same_shape(got, want)) return INFINITY;
    if (want->dtype != SPAROA_FLOAT32) return ts_same(got, want) ? 0 : INFINITY;
    const float *g = got->data, *w = want->data;
    double most = 0, scale = 0.1;
    int64_t count = sparoa_tensor_count(want);
    for (int64_t i = 0; i < count; i++) {
        if (isnan(w[i]) && isnan(g[i])) continue;
        if (isinf(w[i]) && w[i] == g[i]) continue;
        if (!isfinite(w[i]) || !isfinite(g[i])) return INFINITY;
        if (fabs((double)w[i]) > scale) scale = fabs((double)w[i]);
        if (fabs((double)w[i] - g[i]) > most) most = fabs((double)w[i] - g[i]);
    }
    return most / scale;
}

/* ---- models ---- */

/* images [N,3,8,8] -> Conv, Relu, MaxPool, Conv + residual, GlobalAveragePool, Gemm -> [N,5] */
static inline mb_model *ts_small_net(void)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "image", SPAROA_FLOAT32, MB_DIMS(-1, 3, 8, 8));
    mb_random(g, "w1", MB_DIMS(8, 3, 3, 3), 1, -0.3, 0.3);
    mb_random(g, "b1", MB_DIMS(8), 2, -0.3, 0.3);
    mb_random(g, "w2", MB_DIMS(8, 8, 3, 3), 3, -0.2, 0.2);
    mb_random(g, "w3", MB_DIMS(8, 5), 4, -0.5, 0.5);
    mb_random(g, "b3", MB_DIMS(5), 5, -0.5, 0.5);
    mb_ints(mb_add(g, "Conv", "conv1", "image,w1,b1", "c1"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_add(g, "Relu", "relu1", "c1", "r1");
    mb_node *pool = mb_add(g, "MaxPool", "pool1", "r1", "p1");
    mb_ints(pool, "kernel_shape", 2, (int64_t[]){2, 2});
    mb_ints(pool, "strides", 2, (int64_t[]){2, 2});
    mb_ints(mb_add(g, "Conv", "conv2", "p1,w2", "c2"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_add(g, "Add", "add", "c2,p1", "a2");
    mb_add(g, "Relu", "relu2", "a2", "r2");
    mb_add(g, "GlobalAveragePool", "mean", "r2", "m");
    mb_add(g, "Flatten", "flat", "m", "f");
    mb_add(g, "Gemm", "fc", "f,w3,b3", "scores");
    mb_output(g, "scores");
    return m;
}

/* x [N] -> the indices of its non-zeros, and how many there are: shapes depend on data. */
static inline mb_model *ts_nonzero_net(void)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1));
    mb_add(g, "Relu", "relu", "x", "r");
    mb_add(g, "NonZero", "nonzero", "r", "at");
    mb_ints(mb_add(g, "Transpose", "turn", "at", "rows"), "perm", 2, (int64_t[]){1, 0});
    mb_add(g, "GatherND", "pick", "x,rows", "picked");
    mb_add(g, "Shape", "shape", "picked", "count");
    mb_output(g, "picked");
    mb_output(g, "count");
    return m;
}

/* A body's declared input: scalars of the loop. */
static inline void ts_loop_inputs(mb_graph *body)
{
    mb_input(body, "turn", SPAROA_INT64, 0, NULL);
    mb_input(body, "go", SPAROA_BOOL, 0, NULL);
}

/* trips turns of s = s * 0.5 + x, collecting s; then an If that negates where the sum is negative.
 * x [N] -> last [N], all [trips, N], chosen [N] */
static inline mb_model *ts_control_net(int64_t trips)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1));
    mb_raw(mb_initializer(g, "trips", SPAROA_INT64, 0, NULL), &trips, sizeof trips);
    mb_scalar(g, "half", 0.5f);
    mb_scalar(g, "zero", 0);
    mb_graph *body = mb_subgraph(mb_add(g, "Loop", "loop", "trips,,x", "last,all"), "body");
    ts_loop_inputs(body);
    mb_input(body, "s", SPAROA_FLOAT32, MB_DIMS(-1));
    mb_add(body, "Identity", "keep", "go", "go_on");
    mb_add(body, "Mul", "scale", "s,half", "scaled");
    mb_add(body, "Add", "add", "scaled,x", "next");
    mb_add(body, "Identity", "copy", "next", "seen");
    mb_output(body, "go_on");
    mb_output(body, "next");
    mb_output(body, "seen");
    mb_int(mb_add(g, "ReduceSum", "sum", "last", "total"), "keepdims", 0);
    mb_add(g, "Less", "less", "total,zero", "negative");
    mb_node *branch = mb_add(g, "If", "if", "negative", "chosen");
    mb_graph *then_graph = mb_subgraph(branch, "then_branch");
    mb_add(then_graph, "Neg", "neg", "last", "flipped");
    mb_output(then_graph, "flipped");
    mb_graph *else_graph = mb_subgraph(branch, "else_branch");
    mb_add(else_graph, "Identity", "same", "last", "kept");
    mb_output(else_graph, "kept");
    mb_output(g, "last");
    mb_output(g, "all");
    mb_output(g, "chosen");
    return m;
}

/* Cumulative sums of x [T, 3] by Scan. */
static inline mb_model *ts_scan_net(void)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 3));
    mb_random(g, "start", MB_DIMS(3), 9, -1, 1);
    mb_node *scan = mb_add(g, "Scan", "scan", "start,x", "last,sums");
    mb_int(scan, "num_scan_inputs", 1);
    mb_graph *body = mb_subgraph(scan, "body");
    mb_input(body, "s", SPAROA_FLOAT32, MB_DIMS(3));
    mb_input(body, "row", SPAROA_FLOAT32, MB_DIMS(3));
    mb_add(body, "Add", "add", "s,row", "next");
    mb_add(body, "Identity", "copy", "next", "out");
    mb_output(body, "next");
    mb_output(body, "out");
    mb_output(g, "last");
    mb_output(g, "sums");
    return m;
}

#endif
