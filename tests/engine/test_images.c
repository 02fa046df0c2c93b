/* Nets of images in whole sessions against the plain implementations: what the layout pass and
 * joining make of 3-D images, groups and weights that are computed. */
#include "tests/engine/join_pair.h"

static void check(mb_model *(*net)(int64_t), int64_t arg, const sparoa_tensor *in, const char *what)
{
    for (int32_t threads = 1; threads <= 3; threads += 2) {
        pair p;
        pair_open(&p, net(arg), threads, NULL, "always");
        pair_check(&p, in, 0, what);
        pair_close(&p);
    }
}

/* A block that in 2-D would be joined everywhere. */
static mb_model *volume_net(int64_t channels)
{
    static const int64_t ones[6] = {1, 1, 1, 1, 1, 1}, two[3] = {2, 2, 2};
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, channels, 6, 14, 14));
    mb_random(g, "w1", MB_DIMS(16, channels, 3, 3, 3), 1, -0.3, 0.3);
    mb_random(g, "w2", MB_DIMS(32, 16, 1, 1, 1), 2, -0.3, 0.3);
    mb_random(g, "w3", MB_DIMS(32, 1, 1, 3, 3), 3, -0.3, 0.3);
    mb_random(g, "w4", MB_DIMS(32, 32, 1, 1, 1), 4, -0.3, 0.3);
    mb_random(g, "w5", MB_DIMS(16, 32, 1, 1, 1), 5, -0.3, 0.3);
    mb_random(g, "w6", MB_DIMS(16, 4, 3, 1, 1), 6, -0.3, 0.3);
    mb_random(g, "w7", MB_DIMS(16, 8, 2, 2, 2), 7, -0.3, 0.3);
    mb_ints(mb_add(g, "Conv", "first", "x,w1", "c1"), "pads", 6, ones);
    mb_add(g, "Relu", "relu1", "c1", "r1");
    mb_node *pool = mb_add(g, "MaxPool", "pool", "r1", "p1");
    mb_ints(pool, "kernel_shape", 3, two);
    mb_ints(pool, "strides", 3, two);
    mb_add(g, "Conv", "expand", "p1,w2", "c2");
    mb_add(g, "Relu", "relu2", "c2", "r2");
    mb_node *depthwise = mb_add(g, "Conv", "depthwise", "r2,w3", "c3");
    mb_ints(depthwise, "pads", 6, (int64_t[]){0, 1, 1, 0, 1, 1});
    mb_int(depthwise, "group", 32);
    mb_add(g, "Relu", "relu3", "c3", "r3");
    mb_add(g, "GlobalAveragePool", "squeeze", "r3", "q");
    mb_add(g, "Conv", "gate", "q,w4", "d");
    mb_add(g, "Sigmoid", "sigmoid", "d", "s");
    mb_add(g, "Mul", "scale", "r3,s", "scaled");
    mb_add(g, "Conv", "project", "scaled,w5", "c5");
    mb_add(g, "Add", "residual", "c5,p1", "sum");
    mb_node *temporal = mb_add(g, "Conv", "temporal", "sum,w6", "c6");
    mb_ints(temporal, "pads", 6, (int64_t[]){1, 0, 0, 1, 0, 0});
    mb_int(temporal, "group", 4);
    mb_ints(mb_add(g, "ConvTranspose", "up", "c6,w7", "y"), "strides", 3, two);
    mb_output(g, "y");
    return m;
}

static void test_volumes(void **state)
{
    (void)state;
    for (int64_t batch = 1; batch <= 3; batch += 2) {
        sparoa_tensor in = ts_random(MB_DIMS(batch, 3, 6, 14, 14), 5);
        check(volume_net, 3, &in, "3-D");
        free(in.data);
    }
}

/* Weights that are the image of another convolution, which others read with the channel last. */
static mb_model *computed_net(int64_t group)
{
    static const int64_t ones[4] = {1, 1, 1, 1};
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(8, 16, 5, 5));
    mb_random(g, "w1", MB_DIMS(16 / group, 16, 3, 3), 1, -0.3, 0.3);
    mb_random(g, "w2", MB_DIMS(16, 8, 3, 3), 2, -0.3, 0.3);
    mb_add(g, "Conv", "weights", "x,w1", "w");
    mb_node *conv = mb_add(g, "Conv", "conv", "x,w", "c");
    mb_ints(conv, "pads", 4, ones);
    mb_int(conv, "group", group);
    mb_add(g, "Relu", "relu", "c", "r");
    mb_ints(mb_add(g, "Conv", "last", "r,w2", "l"), "pads", 4, ones);
    mb_add(g, "Add", "sum", "l,x", "y");
    mb_output(g, "y");
    return m;
}

static void test_computed_weights(void **state)
{
    (void)state;
    for (int64_t group = 1; group <= 8; group *= 2) {
        sparoa_tensor in = ts_random(MB_DIMS(8, 16, 5, 5), 7);
        check(computed_net, group, &in, "computed weights");
        free(in.data);
    }
}

/* Neither the image nor the weights of some convolutions have channels. */
static mb_model *empty_net(int64_t group)
{
    static const int64_t twos[2] = {2, 2};
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 0, -1, -1));
    mb_random(g, "w1", MB_DIMS(8, 0, 3, 3), 1, -0.3, 0.3);
    mb_random(g, "w2", MB_DIMS(0, 8 / group, 3, 3), 2, -0.3, 0.3);
    mb_random(g, "w3", MB_DIMS(0, 2, 3, 3), 3, -0.3, 0.3);
    mb_random(g, "w4", MB_DIMS(0, 0, 3, 3), 4, -0.3, 0.3);
    mb_random(g, "b", MB_DIMS(8), 5, -0.3, 0.3);
    mb_int(mb_add(g, "Conv", "from_none", "x,w1,b", "c1"), "group", group);
    mb_int(mb_add(g, "Conv", "to_none", "c1,w2", "c2"), "group", group);
    mb_node *up = mb_add(g, "ConvTranspose", "up", "c2,w3", "d");
    mb_ints(up, "strides", 2, twos);
    mb_int(up, "group", group);
    mb_node *none = mb_add(g, "Conv", "none", "c2,w4", "c3");
    mb_ints(none, "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_int(none, "group", group);
    mb_node *up_none = mb_add(g, "ConvTranspose", "up_none", "c3,w4", "u");
    mb_ints(up_none, "strides", 2, twos);
    mb_int(up_none, "group", group);
    mb_int(mb_add(g, "Concat", "both", "d,u", "y"), "axis", 1);
    mb_output(g, "y");
    return m;
}

static void test_no_channels(void **state)
{
    (void)state;
    for (int64_t group = 1; group <= 4; group *= 2) {
        sparoa_tensor in = ts_random(MB_DIMS(1, 0, 9, 12), 8);
        check(empty_net, group, &in, "no channels");
        free(in.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_volumes),
                                       cmocka_unit_test(test_computed_weights),
                                       cmocka_unit_test(test_no_channels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
