/* Convolutions in one go: the plain implementations' answers for all windows, sizes, activations,
 * batches, threads and instruction sets; nothing joined where somebody else reads what is handed
 * over; no allocation in a run, the same bits in each, and clean failures without memory. */
#include "engine/lanes.h"
#include "tests/engine/block_net.h"
#include "tests/engine/join_pair.h"
#include "tests/support/kernels.h"

/* Joined against plain: `batch` images, twice. */
static void check_batch(const pair *p, const bn_block *b, int64_t batch, int joined)
{
    char what[128];
    snprintf(what, sizeof what, "%lldx%lldx%lld to %lld to %lld, kernel %lld, stride %lld",
             (long long)b->h, (long long)b->w, (long long)b->c_in, (long long)b->c,
             (long long)b->c_out, (long long)b->kernel, (long long)b->stride);
    sparoa_tensor in =
        ts_random(MB_DIMS(batch, b->c_in ? b->c_in : b->c, b->h, b->w), (uint64_t)batch + 9);
    pair_check(p, &in, joined, what);
    free(in.data);
}

static void check_block(const bn_block *b, int32_t threads, const char *isa, int joined)
{
    pair p;
    pair_open(&p, bn_net(b), threads, isa, "always");
    for (int64_t batch = 1; batch <= 3; batch++) check_batch(&p, b, batch, joined);
    pair_close(&p);
}

static const char *const acts[] = {NULL, "Relu", "HardSwish", "Sigmoid"};

/* Windows, paddings and channels that are no multiples of anything. */
static bn_block random_block(void)
{
    static const int64_t channels[] = {3, 8, 13, 16, 33, 48, 70, 80, 145};
    bn_block b = {.h = 4 + random_u32() % 27, .w = 4 + random_u32() % 27, .dilation = 1};
    b.c_in = 1 + random_u32() % 40;
    b.c = channels[random_u32() % 9];
    b.c_out = 1 + random_u32() % 40;
    b.kernel = random_u32() % 2 ? 3 : 5;
    b.stride = 1 + random_u32() % 2;
    if (random_u32() % 8 == 0) b.dilation = 2;
    if (random_u32() % 8 == 0) b.stride = 3;
    for (int i = 0; i < 4; i++)
        b.pads[i] = random_u32() % 4 ? b.kernel / 2 * b.dilation : random_u32() % 5;
    if (b.dilation == 2) b.h += 8, b.w += 8;
    b.act = acts[random_u32() % 4];
    b.last_act = acts[random_u32() % 4];
    uint32_t parts = random_u32() % 8;
    if (parts == 0) b.c_in = 0;
    if (parts < 3) b.c_out = 0;
    return b;
}

static void test_random_blocks(void **state)
{
    (void)state;
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        bn_block b = random_block();
        int64_t reach = (b.kernel - 1) * b.dilation + 1;
        if ((b.h + b.pads[0] + b.pads[2] - reach) / b.stride < 1) continue; /* one row */
        check_block(&b, 1 + i % 4, kernels->isa, b.c_in ? 2 + (b.c_out > 0) : 0);
    }
}

static void test_networks_blocks(void **state)
{
    (void)state;
    static const bn_block blocks[] = {
        {28, 28, 32, 192, 32, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
        {28, 28, 32, 192, 32, 3, 1, 1, {1, 1, 1, 1}, "Relu", "Relu", true, false},
        {56, 56, 16, 96, 24, 3, 2, 1, {1, 1, 1, 1}, "Relu", NULL, false, false},
        {29, 31, 24, 144, 40, 5, 2, 1, {2, 2, 2, 2}, "HardSwish", NULL, false, false},
        {5, 400, 16, 96, 24, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, false, false},
        {300, 3, 16, 96, 24, 3, 2, 1, {1, 1, 1, 1}, "Relu", NULL, false, false},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        for (int32_t threads = 1; threads <= 4; threads++)
            check_block(&blocks[i], threads, NULL, 3);
}

/* With squeeze and excite the whole depthwise result is read twice: it is joined to what expands or
 * to the pool, and the scaling to what projects. */
static void test_squeeze_and_excite(void **state)
{
    (void)state;
    static const bn_block blocks[] = {
        {20, 20, 24, 72, 40, 5, 1, 1, {2, 2, 2, 2}, "HardSwish", NULL, false, true},
        {14, 14, 0, 240, 40, 5, 1, 1, {2, 2, 2, 2}, "HardSwish", NULL, false, true},
        {7, 7, 0, 288, 96, 5, 1, 1, {2, 2, 2, 2}, "HardSwish", NULL, false, true},
        {40, 40, 0, 16, 16, 3, 2, 1, {1, 1, 1, 1}, "Relu", "Relu", false, true},
        {1, 50, 0, 24, 24, 3, 1, 1, {1, 1, 1, 1}, "Relu", "Sigmoid", true, true},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        for (int32_t threads = 1; threads <= 4; threads++)
            check_block(&blocks[i], threads, NULL, 4);
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 60; i++) {
        bn_block b = random_block();
        b.gate = true;
        if (i % 3) b.c_in = 0;
        b.residual = b.c_out && b.stride == 1 && i % 4 == 0;
        if (b.residual) {
            for (int k = 0; k < 4; k++) b.pads[k] = b.kernel / 2 * b.dilation;
            b.c_out = b.c_in ? b.c_in : b.c;
        }
        check_block(&b, 1 + i % 4, kernels->isa, b.c_out ? 4 : 2);
    }
}

/* A depthwise convolution, `other` that reads its image before the pool does, and factors of this
 * shape in front of the convolution that projects. */
static mb_model *gated(bool other, bool by_pixel, int64_t images)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 24, 9, 11));
    mb_node *depthwise = bn_conv(g, "middle", "x", 24, 1, 3, 3, "d");
    mb_int(depthwise, "group", 24);
    mb_ints(depthwise, "pads", 4, (int64_t[]){1, 1, 1, 1});
    if (other) {
        mb_add(g, "Abs", "before", "d", "r");
        mb_output(g, "r");
    }
    mb_add(g, "GlobalAveragePool", "squeeze", "d", "q");
    mb_output(g, "q");
    if (by_pixel)
        mb_random(g, "s", MB_DIMS(images, 1, 9, 11), 8, -1, 1);
    else
        mb_random(g, "s", MB_DIMS(images, 24, 1, 1), 8, -1, 1);
    mb_add(g, "Mul", "scale", "s,d", "scaled");
    bn_conv(g, "project", "scaled", 8, 24, 1, 7, "p");
    mb_output(g, "p");
    return m;
}

/* Only factors by channel are joined, of each image or of all, in either order, and only a pool
 * that is the first to read. */
static void test_gates(void **state)
{
    (void)state;
    static const struct {
        bool other, by_pixel;
        int64_t images;
        int joined;
    } rows[] = {
        {false, false, 2, 4}, {false, false, 1, 4}, {true, false, 2, 2},
        {false, true, 2, 2},  {true, true, 1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pair p;
        pair_open(&p, gated(rows[i].other, rows[i].by_pixel, rows[i].images), 3, NULL, "auto");
        sparoa_tensor in = ts_random(MB_DIMS(2, 24, 9, 11), 4), out[3] = {{0}}, want[3] = {{0}};
        size_t outputs = sparoa_model_output_count(p.model);
        ts_ok(sparoa_session_run(p.s, &in, 1, out, outputs, &err), err);
        ts_ok(sparoa_session_run(p.plain, &in, 1, want, outputs, &err), err);
        if (joined_nodes(p.s) != rows[i].joined) fail_msg("row %zu: %d", i, joined_nodes(p.s));
        for (size_t k = 0; k < outputs; k++) assert_true(ts_difference(&out[k], &want[k]) < 1e-5);
        free(in.data);
        pair_close(&p);
    }
}

/* In lanes each image is joined by the thread that has it. */
static void test_lanes(void **state)
{
    (void)state;
    const bn_block b = {56, 56, 16, 96, 16, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false};
    for (int32_t threads = 1; threads <= 4; threads += 3) {
        pair p;
        pair_open(&p, bn_net(&b), threads, NULL, "always");
        check_batch(&p, &b, 8, 3);
        assert_non_null(p.s->frame->lanes);
        check_batch(&p, &b, 1, 3);
        assert_null(p.s->frame->lanes);
        pair_close(&p);
    }
}

static void see(void *user, const char *node, const char *value, const sparoa_tensor *tensor,
                const char *layout)
{
    (void)node, (void)value, (void)layout;
    *(int64_t *)user += sparoa_tensor_count(tensor) > 0 && tensor->data;
}

/* Values that somebody looks at are there. */
static void test_values_that_are_read(void **state)
{
    (void)state;
    const bn_block b = {16, 16, 8, 48, 8, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, false, false};
    sparoa_runtime *rt = join_runtime(NULL, 2, NULL, "always");
    for (int what = 0; what < 4; what++) {
        mb_model *m = bn_net(&b);
        if (what == 0) mb_output(m->graph, "ea"); /* the hidden value is an output */
        if (what == 1) {
            mb_add(m->graph, "Relu", "again", "da", "r"); /* ... or read twice */
            mb_output(m->graph, "r");
        }
        sparoa_model *model = ts_load(rt, m);
        int64_t seen = 0;
        sparoa_session_options o = {.struct_size = sizeof o, .profile = what == 2};
        if (what == 3) o.observer = see, o.observer_user = &seen;
        sparoa_session *s = NULL, *plain = ts_session(model, "all", 1);
        ts_ok(sparoa_session_create(model, &o, &s, &err), err);
        sparoa_tensor in = ts_random(MB_DIMS(1, 8, 16, 16), 4), out[2] = {{0}}, want[2] = {{0}};
        size_t outputs = sparoa_model_output_count(model);
        ts_ok(sparoa_session_run(s, &in, 1, out, outputs, &err), err);
        ts_ok(sparoa_session_run(plain, &in, 1, want, outputs, &err), err);
        for (size_t i = 0; i < outputs; i++) assert_true(ts_difference(&out[i], &want[i]) < 1e-5);
        assert_int_equal(joined_nodes(s), what == 1 ? 2 : 0);
        if (what == 3) assert_true(seen >= 3);
        free(in.data);
        sparoa_session_destroy(plain);
        sparoa_session_destroy(s);
        sparoa_model_destroy(model);
        mb_end();
    }
    sparoa_runtime_destroy(rt);
}

/* A profile that starts later finds the frame as it is. */
static void test_late_profile(void **state)
{
    (void)state;
    const bn_block b = {16, 16, 8, 48, 8, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, false, false};
    pair p;
    pair_open(&p, bn_net(&b), 1, NULL, "always");
    for (int i = 0; i < 2; i++) {
        check_batch(&p, &b, 1, 3);
        p.s->engine.profile = true;
    }
    pair_close(&p);
}

/* What is not a number reaches what it reached before, and nothing else. */
static void test_nan(void **state)
{
    (void)state;
    const bn_block b = {24, 24, 8, 48, 8, 3, 1, 1, {1, 1, 1, 1}, NULL, NULL, true, false};
    pair p;
    pair_open(&p, bn_net(&b), 2, NULL, "always");
    sparoa_tensor in = ts_random(MB_DIMS(2, 8, 24, 24), 4), out = {0}, want = {0};
    ((float *)in.data)[11 * 24 + 23] = NAN;
    ts_ok(sparoa_session_run(p.s, &in, 1, &out, 1, &err), err);
    ts_ok(sparoa_session_run(p.plain, &in, 1, &want, 1, &err), err);
    assert_int_equal(joined_nodes(p.s), 3);
    for (int64_t i = 0; i < sparoa_tensor_count(&out); i++)
        assert_int_equal(isnan(((float *)out.data)[i]) != 0, isnan(((float *)want.data)[i]) != 0);
    free(in.data);
    pair_close(&p);
}

/* Frames fail cleanly at every allocation, in lanes and without; runs allocate nothing, and what is
 * handed over takes no memory. */
static void test_memory(void **state)
{
    (void)state;
    static const bn_block blocks[2] = {
        {56, 56, 16, 96, 16, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
        {56, 56, 0, 16, 16, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, true}};
    for (int i = 0; i < 4; i++) {
        const bn_block *b = &blocks[i % 2];
        const int64_t batch = i < 2 ? 1 : 4;
        ts_memory memory = {0};
        sparoa_runtime *rt = join_runtime(&memory, 2, NULL, "always");
        sparoa_model *model = ts_load(rt, bn_net(b));
        sparoa_session *s = ts_session(model, "", 0);
        sparoa_tensor in = ts_random(MB_DIMS(batch, 16, 56, 56), 3), out = {0};
        ts_prepare_at_last(&memory, s, &in);
        assert_int_equal(joined_nodes(s), b->gate ? 4 : 3);
        if (batch == 1) assert_true(s->frame->sides[0].memory_bytes < 56 * 56 * 96 * 4 * 2);
        ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
        long calls = atomic_load(&memory.calls);
        ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
        assert_int_equal(atomic_load(&memory.calls), calls);
        free(in.data);
        sparoa_session_destroy(s);
        sparoa_model_destroy(model);
        sparoa_runtime_destroy(rt);
        mb_end();
        ts_balanced(&memory);
    }
}

/* Left alone, the CPU joins what is large, and what threads can share without much done twice. */
static void test_choice(void **state)
{
    (void)state;
    static const struct {
        bn_block b;
        int32_t threads;
        const char *join;
        int joined;
    } rows[] = {
        {{112, 112, 16, 96, 24, 3, 2, 1, {1, 1, 1, 1}, "Relu", NULL, false, false}, 1, "auto", 3},
        {{112, 112, 16, 96, 24, 3, 2, 1, {1, 1, 1, 1}, "Relu", NULL, false, false}, 2, "auto", 3},
        {{56, 56, 64, 64, 64, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, false, false}, 1, "auto", 0},
        {{28, 28, 32, 192, 32, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false}, 1, "auto", 3},
        {{28, 28, 32, 192, 32, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false}, 2, "auto", 3},
        {{112, 112, 16, 96, 24, 3, 2, 1, {1, 1, 1, 1}, "Relu", NULL, false, false}, 1, "never", 0},
        {{7, 7, 160, 960, 160, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false}, 1, "auto", 0},
        {{28, 28, 32, 192, 32, 5, 1, 1, {2, 2, 2, 2}, "Relu", NULL, true, false}, 16, "auto", 0},
        {{8, 8, 8, 16, 8, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false}, 1, "auto", 0},
        {{8, 8, 8, 16, 8, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false}, 1, "always", 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const bn_block *b = &rows[i].b;
        sparoa_runtime *rt = join_runtime(NULL, rows[i].threads, NULL, rows[i].join);
        sparoa_model *model = ts_load(rt, bn_net(b));
        sparoa_session *s = ts_session(model, "", 0);
        sparoa_tensor in = ts_random(MB_DIMS(1, b->c_in, b->h, b->w), 3);
        ts_ok(sparoa_session_prepare(s, &in, 1, &err), err);
        if (joined_nodes(s) != rows[i].joined) fail_msg("row %zu: %d", i, joined_nodes(s));
        free(in.data);
        sparoa_session_destroy(s);
        sparoa_model_destroy(model);
        sparoa_runtime_destroy(rt);
        mb_end();
    }
    sparoa_runtime *rt = NULL;
    setenv("SPAROA_JOIN", "perhaps", 1);
    assert_int_equal(sparoa_runtime_create(NULL, &rt, &err), SPAROA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "perhaps"));
    unsetenv("SPAROA_JOIN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_blocks),
        cmocka_unit_test(test_networks_blocks),
        cmocka_unit_test(test_squeeze_and_excite),
        cmocka_unit_test(test_gates),
        cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_values_that_are_read),
        cmocka_unit_test(test_late_profile),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
