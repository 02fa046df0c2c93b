/* A batch run image by image through a stretch of nodes: the same answers as one image at a time,
 * for any batch and number of threads, from run to run, and after a failed allocation. */
#include "api/objects.h"
#include "engine/lanes.h"
#include "tests/engine/random_build.h"

static sparoa_error err;

/* Convolutions with a gate and a residual; a value inside is an output of the model, too. */
static mb_model *gated_net(void)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "image", SPAROA_FLOAT32, MB_DIMS(-1, 3, 56, 56));
    mb_random(g, "w1", MB_DIMS(32, 3, 3, 3), 1, -0.3, 0.3);
    mb_random(g, "w2", MB_DIMS(32, 1, 5, 5), 2, -0.2, 0.2);
    mb_random(g, "w3", MB_DIMS(8, 32, 1, 1), 3, -0.3, 0.3);
    mb_random(g, "w4", MB_DIMS(32, 8, 1, 1), 4, -0.3, 0.3);
    mb_random(g, "w5", MB_DIMS(32, 32, 1, 1), 5, -0.3, 0.3);
    mb_random(g, "w6", MB_DIMS(32, 5), 6, -0.5, 0.5);
    mb_ints(mb_add(g, "Conv", "first", "image,w1", "c1"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_add(g, "HardSwish", "swish", "c1", "s1");
    mb_node *depthwise = mb_add(g, "Conv", "depthwise", "s1,w2", "c2");
    mb_ints(depthwise, "pads", 4, (int64_t[]){2, 2, 2, 2});
    mb_int(depthwise, "group", 32);
    mb_add(g, "Relu", "relu", "c2", "r2");
    mb_add(g, "GlobalAveragePool", "squeeze", "r2", "q");
    mb_add(g, "Conv", "down", "q,w3", "d");
    mb_add(g, "Relu", "relu_d", "d", "rd");
    mb_add(g, "Conv", "up", "rd,w4", "u");
    mb_add(g, "HardSigmoid", "gate", "u", "h");
    mb_add(g, "Mul", "scale", "r2,h", "scaled");
    mb_add(g, "Conv", "project", "scaled,w5", "p");
    mb_add(g, "Add", "residual", "p,s1", "sum");
    mb_add(g, "GlobalAveragePool", "mean", "sum", "mean_out");
    mb_add(g, "Flatten", "flat", "mean_out", "f");
    mb_add(g, "MatMul", "fc", "f,w6", "scores");
    mb_output(g, "scores");
    mb_output(g, "sum");
    return m;
}

/* Element n of the first dimension. */
static sparoa_tensor image_of(const sparoa_tensor *t, int64_t n)
{
    sparoa_tensor one = *t;
    one.dims[0] = 1;
    one.data = (char *)t->data + (size_t)n * sparoa_tensor_bytes(&one);
    return one;
}

static void check_batch(sparoa_session *s, int64_t batch, int32_t threads)
{
    sparoa_tensor in = ts_random(MB_DIMS(batch, 3, 56, 56), (uint64_t)batch), out[2] = {{0}};
    sparoa_tensor copy[2];
    ts_ok(sparoa_session_run(s, &in, 1, out, 2, &err), err);
    bool expected = batch >= 4 && (threads == 1 || batch % threads == 0);
    if (expected) assert_non_null(s->frame->lanes);
    if (batch == 1) assert_null(s->frame->lanes);
    if (s->frame->lanes) assert_in_range(s->frame->lanes->count, 1, threads);
    for (int i = 0; i < 2; i++) copy[i] = ts_copy(&out[i]);
    ts_ok(sparoa_session_run(s, &in, 1, out, 2, &err), err);
    for (int i = 0; i < 2; i++) assert_true(ts_same(&copy[i], &out[i]));
    for (int64_t n = 0; n < batch; n++) {
        sparoa_tensor one = image_of(&in, n), single[2] = {{0}};
        ts_ok(sparoa_session_run(s, &one, 1, single, 2, &err), err);
        for (int i = 0; i < 2; i++) {
            sparoa_tensor part = image_of(&copy[i], n);
            assert_true(ts_difference(&single[i], &part) < 1e-5);
        }
    }
    for (int i = 0; i < 2; i++) free(copy[i].data);
    free(in.data);
}

static void test_same_as_single_images(void **state)
{
    (void)state;
    for (int32_t threads = 1; threads <= 4; threads++) {
        ts_memory memory = {0};
        sparoa_runtime *rt = ts_runtime(&memory, threads);
        sparoa_model *model = ts_load(rt, gated_net());
        sparoa_session *s = ts_session(model, "", 0);
        for (int64_t batch = 1; batch <= 9; batch++) check_batch(s, batch, threads);
        sparoa_session_destroy(s);
        sparoa_model_destroy(model);
        sparoa_runtime_destroy(rt);
        mb_end();
        ts_balanced(&memory);
    }
}

/* What is not a number in one image stays there. */
static void test_nan_stays_in_its_image(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 2);
    sparoa_model *model = ts_load(rt, gated_net());
    sparoa_session *s = ts_session(model, "", 0);
    sparoa_tensor in = ts_random(MB_DIMS(8, 3, 56, 56), 3), out[2] = {{0}};
    float *third = image_of(&in, 2).data;
    third[100] = NAN;
    ts_ok(sparoa_session_run(s, &in, 1, out, 2, &err), err);
    assert_non_null(s->frame->lanes);
    for (int64_t n = 0; n < 8; n++)
        for (int64_t i = 0; i < 5; i++)
            assert_int_equal(isnan(((float *)out[0].data)[n * 5 + i]) != 0, n == 2);
    free(in.data);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
}

/* Making a frame with lanes fails cleanly at every allocation, and then works. */
static void test_out_of_memory(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 2);
    sparoa_model *model = ts_load(rt, gated_net());
    sparoa_session *s = ts_session(model, "", 0);
    sparoa_tensor in = ts_random(MB_DIMS(4, 3, 56, 56), 3);
    ts_prepare_at_last(&memory, s, &in);
    assert_non_null(s->frame->lanes);
    free(in.data);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
    ts_balanced(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_single_images),
        cmocka_unit_test(test_nan_stays_in_its_image),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
