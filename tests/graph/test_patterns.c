/* Patterns: graphs as exporters write them, and the nodes that must come out. */
#include "graph_builder.h"

#define NO_FUSION "fuse,layout"

static sp_id image(builder *b)
{
    return input(b, DIMS(2, 3, 4, 5));
}

/* ---- activations ---- */

static void build_silu(builder *b)
{
    sp_id x = image(b);
    output(b, node(b, "Mul", node(b, "Sigmoid", x, NONE), x));
}

static void build_quick_gelu(builder *b)
{
    sp_id x = image(b);
    sp_id s = node(b, "Sigmoid", node(b, "Mul", scalar(b, 1.702f), x), NONE);
    output(b, node(b, "Mul", x, s));
}

static sp_id relu6_of_shifted(builder *b, sp_id x, int32_t rank)
{
    sp_id shifted = node(b, "Add", x, scalar_of_rank(b, 3, rank));
    return node_v(b, "Clip", 13, shifted, scalar(b, 0), scalar(b, 6));
}

static void build_hardswish_torch(builder *b)
{
    sp_id x = image(b);
    sp_id gate = node(b, "Div", relu6_of_shifted(b, x, 0), scalar(b, 6));
    output(b, node(b, "Mul", x, gate));
}

static void build_hardswish_paddle(builder *b)
{
    sp_id x = image(b);
    output(b,
           node(b, "Div", node(b, "Mul", x, relu6_of_shifted(b, x, 1)), scalar_of_rank(b, 6, 1)));
}

static void build_hardswish_tf(builder *b)
{
    sp_id x = image(b);
    sp_id sixth = node(b, "Mul", scalar(b, 0.16666667f), relu6_of_shifted(b, x, 4));
    output(b, node(b, "Mul", sixth, x));
}

static void build_hardswish_gate(builder *b)
{
    sp_id x = image(b), gate = node(b, "HardSigmoid", x, NONE);
    assert_true(sp_node_set_float(b->g, b->g->values[gate].producer, "alpha", 1.f / 6));
    output(b, node(b, "Mul", gate, x));
}

static void build_hardsigmoid(builder *b)
{
    sp_id x = image(b);
    output(b, node(b, "Mul", scalar(b, 1.f / 6), relu6_of_shifted(b, x, 0)));
}

static void build_hardsigmoid_line(builder *b)
{
    sp_id x = image(b);
    sp_id line = node(b, "Add", node(b, "Mul", x, scalar(b, 0.2f)), scalar(b, 0.4f));
    output(b, node_v(b, "Clip", 13, line, scalar(b, 0), scalar(b, 1)));
}

static void build_mish(builder *b)
{
    sp_id x = image(b);
    output(b, node(b, "Mul", x, node(b, "Tanh", node(b, "Softplus", x, NONE), NONE)));
}

static void build_two_users(builder *b) /* the sigmoid is an output as well */
{
    sp_id x = image(b), s = node(b, "Sigmoid", x, NONE);
    output(b, node(b, "Mul", x, s));
    output(b, s);
}

static void build_not_hardswish(builder *b) /* x + 3 clipped at 5 */
{
    sp_id x = image(b), shifted = node(b, "Add", x, scalar(b, 3));
    sp_id clip = node_v(b, "Clip", 13, shifted, scalar(b, 0), scalar(b, 5));
    output(b, node(b, "Mul", x, node(b, "Mul", clip, scalar(b, 1.f / 6))));
}

static void test_activations(void **state)
{
    (void)state;
    check_passes(build_silu, NO_FUSION, "Swish");
    check_passes(build_quick_gelu, NO_FUSION, "Swish");
    check_passes(build_hardswish_torch, NO_FUSION, "HardSwish");
    check_passes(build_hardswish_paddle, NO_FUSION, "HardSwish");
    check_passes(build_hardswish_tf, NO_FUSION, "HardSwish");
    check_passes(build_hardswish_gate, NO_FUSION, "HardSwish");
    check_passes(build_hardsigmoid, NO_FUSION, "HardSigmoid");
    check_passes(build_hardsigmoid_line, NO_FUSION, "HardSigmoid");
    check_passes(build_mish, NO_FUSION, "Mish");
    check_passes(build_two_users, NO_FUSION, "Sigmoid Mul");
    check_passes(build_not_hardswish, NO_FUSION, "Add Clip Mul Mul");
}

/* ---- GELU ---- */

static sp_id one_plus_erf(builder *b, sp_id x, bool div)
{
    sp_id u =
        div ? node(b, "Div", x, scalar(b, 1.4142135f)) : node(b, "Mul", x, scalar(b, 0.7071f));
    return node(b, "Add", scalar(b, 1), node(b, "Erf", u, NONE));
}

static void build_gelu_last(builder *b)
{
    sp_id x = image(b);
    output(b, node(b, "Mul", node(b, "Mul", x, one_plus_erf(b, x, true)), scalar(b, 0.5f)));
}

static void build_gelu_first(builder *b)
{
    sp_id x = image(b), half = node(b, "Mul", x, scalar(b, 0.5f));
    output(b, node(b, "Mul", half, one_plus_erf(b, x, false)));
}

static void build_gelu_inner(builder *b)
{
    sp_id x = image(b);
    output(b, node(b, "Mul", node(b, "Mul", scalar(b, 0.5f), one_plus_erf(b, x, true)), x));
}

static sp_id tanh_of(builder *b, sp_id x, sp_id sum)
{
    sp_id u = node(b, "Mul", sum, scalar(b, 0.7978845608f));
    sp_id f = node(b, "Add", node(b, "Tanh", u, NONE), scalar(b, 1));
    return node(b, "Mul", node(b, "Mul", x, scalar(b, 0.5f)), f);
}

static void build_gelu_tanh(builder *b)
{
    sp_id x = image(b), cube = node(b, "Pow", x, scalar(b, 3));
    output(b, tanh_of(b, x, node(b, "Add", x, node(b, "Mul", cube, scalar(b, 0.044715f)))));
}

static void build_gelu_tanh_products(builder *b)
{
    sp_id x = image(b), square = node(b, "Mul", x, x);
    sp_id line = node(b, "Add", scalar(b, 1), node(b, "Mul", scalar(b, 0.044715f), square));
    output(b, tanh_of(b, x, node(b, "Mul", x, line)));
}

static void build_not_gelu(builder *b)
{
    sp_id x = image(b);
    output(b, node(b, "Mul", node(b, "Mul", x, one_plus_erf(b, x, true)), scalar(b, 0.6f)));
}

static void test_gelu(void **state)
{
    (void)state;
    check_passes(build_gelu_last, NO_FUSION, "Gelu");
    check_passes(build_gelu_first, NO_FUSION, "Gelu");
    check_passes(build_gelu_inner, NO_FUSION, "Gelu");
    check_passes(build_gelu_tanh, NO_FUSION, "Gelu");
    check_passes(build_gelu_tanh_products, NO_FUSION, "Gelu");
    check_passes(build_not_gelu, NO_FUSION, "Div Erf Add Mul Mul");
}

/* ---- normalisations ---- */

typedef enum root_form { DIV_SQRT, MUL_RECIPROCAL, MUL_POW } root_form;

static sp_id reduce(builder *b, sp_id x, int32_t count)
{
    return node_ints(b, "ReduceMean", 13, x, "axes", count, (int64_t[]){-1, -2});
}

static sp_id normalised(builder *b, sp_id d, int32_t axes, bool pow_, root_form form)
{
    sp_id square = pow_ ? node(b, "Pow", d, scalar(b, 2)) : node(b, "Mul", d, d);
    sp_id under = node(b, "Add", reduce(b, square, axes), scalar(b, 1e-5f));
    if (form == MUL_POW) return node(b, "Mul", d, node(b, "Pow", under, scalar(b, -0.5f)));
    sp_id root = node(b, "Sqrt", under, NONE);
    if (form == DIV_SQRT) return node(b, "Div", d, root);
    return node(b, "Mul", node(b, "Reciprocal", root, NONE), d);
}

static sp_id centred(builder *b, sp_id x, int32_t axes)
{
    return node(b, "Sub", x, reduce(b, x, axes));
}

static void build_layer_norm(builder *b)
{
    sp_id x = input(b, DIMS(2, 3, 8)), y = normalised(b, centred(b, x, 1), 1, true, DIV_SQRT);
    y = node(b, "Mul", weights(b, DIMS(8)), y);
    output(b, node(b, "Add", y, weights(b, DIMS(8))));
}

static void build_layer_norm_open(builder *b)
{
    sp_id x = input(b, DIMS(-1, -1, 8));
    sp_id y = normalised(b, centred(b, x, 1), 1, false, MUL_RECIPROCAL);
    y = node(b, "Mul", y, weights(b, DIMS(1, 1, 8)));
    output(b, node(b, "Add", weights(b, DIMS(8)), y));
}

static void build_layer_norm_bare(builder *b)
{
    output(b, normalised(b, centred(b, input(b, DIMS(2, 3, 8)), 1), 1, true, MUL_POW));
}

static void build_layer_norm_two_axes(builder *b)
{
    sp_id x = input(b, DIMS(2, 3, 8)), y = normalised(b, centred(b, x, 2), 2, true, DIV_SQRT);
    output(b, node(b, "Mul", y, weights(b, DIMS(3, 8))));
}

static void build_scale_by_row(builder *b) /* no scale of the normalisation: one number a row */
{
    sp_id x = input(b, DIMS(2, 3, 8)), y = normalised(b, centred(b, x, 1), 1, true, DIV_SQRT);
    output(b, node(b, "Mul", y, weights(b, DIMS(3, 1))));
}

static void build_rms_norm(builder *b)
{
    sp_id x = input(b, DIMS(2, 3, 8)), y = normalised(b, x, 1, true, MUL_RECIPROCAL);
    output(b, node(b, "Mul", weights(b, DIMS(8)), y));
}

static void build_rms_norm_div(builder *b)
{
    output(b, normalised(b, input(b, DIMS(2, 3, 8)), 1, false, DIV_SQRT));
}

static void build_norm_of_channels(builder *b) /* axis 1: rows are not contiguous */
{
    sp_id x = input(b, DIMS(2, 3, 8));
    sp_id mean = node_ints(b, "ReduceMean", 13, node(b, "Mul", x, x), "axes", DIMS(1));
    sp_id root = node(b, "Sqrt", node(b, "Add", mean, scalar(b, 1e-5f)), NONE);
    output(b, node(b, "Div", x, root));
}

static void test_norms(void **state)
{
    (void)state;
    check_passes(build_layer_norm, NO_FUSION, "LayerNormalization");
    check_passes(build_layer_norm_open, NO_FUSION, "LayerNormalization");
    check_passes(build_layer_norm_bare, NO_FUSION, "LayerNormalization");
    check_passes(build_layer_norm_two_axes, NO_FUSION, "LayerNormalization");
    check_passes(build_scale_by_row, NO_FUSION, "LayerNormalization Mul");
    check_passes(build_rms_norm, NO_FUSION, "RMSNormalization");
    check_passes(build_rms_norm_div, NO_FUSION, "RMSNormalization");
    check_passes(build_norm_of_channels, NO_FUSION, "Mul ReduceMean Add Sqrt Div");
}

/* ---- pools and arithmetic ---- */

static void build_mean_pool(builder *b)
{
    output(b, node_ints(b, "ReduceMean", 13, image(b), "axes", DIMS(-1, 2)));
}

static void build_max_pool_flat(builder *b)
{
    sp_id y = node_ints(b, "ReduceMax", 13, image(b), "axes", DIMS(2, 3));
    set_int(b, y, "keepdims", 0);
    output(b, y);
}

static void build_mean_not_pool(builder *b)
{
    output(b, node_ints(b, "ReduceMean", 13, image(b), "axes", DIMS(1, 2)));
}

static void build_window_pool(builder *b)
{
    output(b, node_ints(b, "AveragePool", 11, image(b), "kernel_shape", DIMS(4, 5)));
}

static void build_window_max(builder *b)
{
    output(b, node_ints(b, "MaxPool", 12, image(b), "kernel_shape", DIMS(4, 5)));
}

static void build_window_smaller(builder *b)
{
    output(b, node_ints(b, "AveragePool", 11, image(b), "kernel_shape", DIMS(4, 4)));
}

static void build_idle(builder *b)
{
    sp_id x = image(b), y = node(b, "Relu", x, NONE);
    y = node(b, "Add", node(b, "Mul", scalar(b, 1), y), scalar_of_rank(b, 0, 4));
    y = node(b, "Sub", node(b, "Div", y, scalar(b, 1)), scalar(b, 0));
    output(b, node(b, "Tanh", y, NONE));
}

static void build_square(builder *b)
{
    output(b, node(b, "Pow", image(b), scalar(b, 2)));
}

static void build_quarter(builder *b)
{
    output(b, node(b, "Div", image(b), scalar(b, 4)));
}

static void build_third(builder *b) /* 1/3 is no float: division stays */
{
    output(b, node(b, "Div", image(b), scalar(b, 3)));
}

static void build_wider_zero(builder *b) /* adding [1,1,1,1] changes the rank: it stays */
{
    output(b, node(b, "Add", input(b, DIMS(3)), scalar_of_rank(b, 0, 4)));
}

static void build_lone_pool(builder *b) /* no convolution in sight, channels enough */
{
    output(b, node_ints(b, "MaxPool", 12, input(b, DIMS(2, 9, 5, 6)), "kernel_shape", DIMS(2, 3)));
}

static void build_lone_pool_grey(builder *b)
{
    output(b,
           node_ints(b, "AveragePool", 11, input(b, DIMS(2, 1, 5, 6)), "kernel_shape", DIMS(2, 3)));
}

static void test_pools_and_arithmetic(void **state)
{
    (void)state;
    check_passes(build_lone_pool, "fuse", "Transpose MaxPool Transpose");
    check_passes(build_lone_pool_grey, "fuse", "AveragePool");
    check_passes(build_mean_pool, NO_FUSION, "GlobalAveragePool");
    check_passes(build_max_pool_flat, NO_FUSION, "GlobalMaxPool Flatten");
    check_passes(build_mean_not_pool, NO_FUSION, "ReduceMean");
    check_passes(build_window_pool, NO_FUSION, "GlobalAveragePool");
    check_passes(build_window_max, NO_FUSION, "GlobalMaxPool");
    check_passes(build_window_smaller, NO_FUSION, "AveragePool");
    check_passes(build_idle, NO_FUSION, "Relu Tanh");
    check_passes(build_square, NO_FUSION, "Mul");
    check_passes(build_quarter, NO_FUSION, "Mul");
    check_passes(build_third, NO_FUSION, "Div");
    check_passes(build_wider_zero, NO_FUSION, "Add");
}

/* ---- broadcasting ---- */

static sp_id expanded(builder *b, sp_id x)
{
    return node(b, "Expand", x, ints(b, DIMS(40, 3, 24, 25)));
}

static void build_expanded_slope(builder *b) /* too large to be folded */
{
    sp_id x = input(b, DIMS(40, 3, 24, 25));
    output(b, node_v(b, "PRelu", 16, x, expanded(b, weights(b, DIMS(3, 1, 1))), NONE));
}

static void build_expanded_sum(builder *b)
{
    sp_id x = input(b, DIMS(40, 3, 24, 25)), y = input(b, DIMS(1, 3, 1, 25));
    output(b, node(b, "Add", expanded(b, y), x));
}

static void build_expanded_needed(builder *b) /* nothing else has the full shape */
{
    sp_id x = input(b, DIMS(3, 24, 25)), y = input(b, DIMS(1, 3, 1, 25));
    output(b, node(b, "Add", expanded(b, y), x));
}

static void build_repeated_constant(builder *b)
{
    sp_id w = weights(b, DIMS(1, 3, 4, 5));
    float *data = b->g->values[w].fact.data;
    for (int i = 0; i < 60; i++) data[i] = (float)(i / 20);
    sp_id y = node(b, "Conv", image(b), weights(b, DIMS(3, 3, 1, 1)));
    output(b, node(b, "Mul", y, w));
}

static void build_one_slope(builder *b)
{
    output(b, node_v(b, "PRelu", 16, image(b), weights(b, DIMS(1, 1, 1)), NONE));
}

static void test_broadcasts(void **state)
{
    (void)state;
    check_passes(build_expanded_slope, NO_FUSION, "PRelu");
    check_passes(build_expanded_sum, NO_FUSION, "Add");
    check_passes(build_expanded_needed, NO_FUSION, "Expand Add");
    check_passes(build_repeated_constant, NO_FUSION, "Conv");
    check_passes(build_one_slope, NO_FUSION, "LeakyRelu");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activations), cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_norms),       cmocka_unit_test(test_pools_and_arithmetic),
        cmocka_unit_test(test_broadcasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
