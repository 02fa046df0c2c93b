/* An image whose channels come one by one and the convolution that reads it in one go, against the
 * plain implementations for all windows, sizes, batches, threads and instruction sets. */
#include "tests/engine/join_pair.h"
#include "tests/support/kernels.h"

/* pads: of height and width, begin and end; rank 3 where h is 0. */
typedef struct first_layer {
    int64_t h, w, c_in, c_out, kernel[2], strides[2], dilations[2], pads[4];
} first_layer;

static mb_model *first_net(const first_layer *f)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    const int one = f->h == 0, spatial = 2 - one;
    const int64_t pads[2] = {f->pads[1], f->pads[3]};
    if (one) {
        mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, f->c_in, f->w));
        mb_random(g, "w", MB_DIMS(f->c_out, f->c_in, f->kernel[1]), 1, -0.3, 0.3);
    } else {
        mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, f->c_in, f->h, f->w));
        mb_random(g, "w", MB_DIMS(f->c_out, f->c_in, f->kernel[0], f->kernel[1]), 1, -0.3, 0.3);
    }
    mb_random(g, "b", MB_DIMS(f->c_out), 2, -0.5, 0.5);
    mb_node *conv = mb_add(g, "Conv", "first", "x,w,b", "y");
    mb_ints(conv, "strides", (size_t)spatial, f->strides + one);
    mb_ints(conv, "dilations", (size_t)spatial, f->dilations + one);
    mb_ints(conv, "pads", 2 * (size_t)spatial, one ? pads : f->pads);
    mb_add(g, "Relu", "act", "y", "r");
    mb_output(g, "r");
    return m;
}

static void check_first(const first_layer *f, int32_t threads, const char *isa, int joined)
{
    pair p;
    char what[128];
    pair_open(&p, first_net(f), threads, isa, "always");
    snprintf(what, sizeof what, "%lldx%lldx%lld to %lld, kernel %lldx%lld", (long long)f->h,
             (long long)f->w, (long long)f->c_in, (long long)f->c_out, (long long)f->kernel[0],
             (long long)f->kernel[1]);
    for (int64_t batch = 1; batch <= 3; batch += 2) {
        sparoa_tensor in = f->h ? ts_random(MB_DIMS(batch, f->c_in, f->h, f->w), 5)
                                : ts_random(MB_DIMS(batch, f->c_in, f->w), 5);
        pair_check(&p, &in, joined, what);
        free(in.data);
    }
    pair_close(&p);
}

static void test_first_layers(void **state)
{
    (void)state;
    static const first_layer layers[] = {
        {32, 32, 3, 16, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}},
        {32, 48, 3, 64, {7, 7}, {2, 2}, {1, 1}, {3, 3, 3, 3}},
        {64, 128, 3, 40, {8, 8}, {8, 8}, {1, 1}, {0, 0, 0, 0}},
        {0, 200, 4, 24, {1, 5}, {1, 2}, {1, 1}, {0, 2, 0, 2}},
    };
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        for (int32_t threads = 1; threads <= 4; threads++)
            check_first(&layers[i], threads, NULL, 2);
    FOR_EACH_ISA(kernels)
    for (int i = 0; i < 50; i++) {
        first_layer f = {.h = random_u32() % 5 ? 10 + random_u32() % 20 : 0};
        f.w = 20 + random_u32() % 30;
        f.c_in = 2 + random_u32() % (i % 2 ? 3 : 15);
        f.c_out = 1 + random_u32() % 40;
        for (int k = 0; k < 2; k++) {
            f.kernel[k] = 2 + random_u32() % 4;
            f.strides[k] = 1 + random_u32() % 2;
            f.dilations[k] = k == 0 ? 1 + random_u32() % 2 : 1;
            f.pads[k] = random_u32() % 4, f.pads[k + 2] = random_u32() % 4;
        }
        check_first(&f, 1 + i % 4, kernels->isa, 2);
    }
}

/* Only what the convolution alone reads, and what puts the channel last. */
static void test_other_transposes(void **state)
{
    (void)state;
    const first_layer f = {32, 32, 3, 16, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}};
    for (int what = 0; what < 2; what++) {
        mb_model *m = first_net(&f);
        mb_graph *g = m->graph;
        if (what == 0) { /* a second reader */
            mb_random(g, "w2", MB_DIMS(8, 3, 3, 3), 7, -0.3, 0.3);
            mb_add(g, "Conv", "second", "x,w2", "y2");
            mb_add(g, "GlobalMaxPool", "most", "y2", "q");
            mb_output(g, "q");
        }
        pair p;
        pair_open(&p, m, 2, NULL, what ? "never" : "always");
        sparoa_tensor in = ts_random(MB_DIMS(2, 3, 32, 32), 5), out[2] = {{0}}, want[2] = {{0}};
        const size_t outputs = sparoa_model_output_count(p.model);
        ts_ok(sparoa_session_run(p.s, &in, 1, out, outputs, &err), err);
        ts_ok(sparoa_session_run(p.plain, &in, 1, want, outputs, &err), err);
        assert_int_equal(joined_nodes(p.s), 0);
        for (size_t k = 0; k < outputs; k++) assert_true(ts_difference(&out[k], &want[k]) < 1e-5);
        free(in.data);
        pair_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_layers),
        cmocka_unit_test(test_other_transposes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
