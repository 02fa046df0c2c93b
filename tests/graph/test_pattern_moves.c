/* Patterns of moves, of scaling in front of and behind products, and of attention. */
#include "graph_builder.h"

#define NO_FUSION "fuse,layout"
#define WITH_ATTENTION "fuse,layout,+attention"

static sp_id transpose(builder *b, sp_id x, int32_t rank, const int64_t *perm)
{
    return node_ints(b, "Transpose", 13, x, "perm", rank, perm);
}

static sp_id reshape(builder *b, sp_id x, int32_t rank, const int64_t *dims)
{
    return node(b, "Reshape", x, ints(b, rank, dims));
}

/* ---- moves ---- */

static void build_transposes(builder *b)
{
    sp_id x = transpose(b, input(b, DIMS(2, 3, 4, 5)), DIMS(0, 2, 3, 1));
    output(b, transpose(b, x, DIMS(1, 0, 3, 2)));
}

static void build_transposes_back(builder *b)
{
    sp_id x = node(b, "Relu", input(b, DIMS(2, 3, 4, 5)), NONE);
    x = transpose(b, transpose(b, x, DIMS(0, 2, 3, 1)), DIMS(0, 3, 1, 2));
    output(b, node(b, "Tanh", x, NONE));
}

static void build_transpose_of_ones(builder *b)
{
    output(b, transpose(b, input(b, DIMS(-1, 1, 4, 5)), DIMS(0, 2, 3, 1)));
}

static void build_views(builder *b)
{
    sp_id x = reshape(b, input(b, DIMS(2, 3, 4)), DIMS(6, 4));
    x = node(b, "Unsqueeze", x, ints(b, DIMS(0)));
    output(b, reshape(b, x, DIMS(3, 8)));
}

static void build_views_back(builder *b)
{
    sp_id x = node(b, "Relu", input(b, DIMS(2, 3, 4)), NONE);
    x = node(b, "Squeeze", node(b, "Unsqueeze", x, ints(b, DIMS(1))), ints(b, DIMS(1)));
    output(b, node(b, "Tanh", x, NONE));
}

static void build_casts(builder *b)
{
    sp_id x = node(b, "Relu", input(b, DIMS(2, 3)), NONE), y = node(b, "Cast", x, NONE);
    set_int(b, y, "to", SPAROA_FLOAT64);
    y = node(b, "Cast", y, NONE);
    set_int(b, y, "to", SPAROA_FLOAT32);
    output(b, node(b, "Tanh", y, NONE));
}

static void build_same_cast(builder *b)
{
    sp_id y = node(b, "Cast", node(b, "Relu", input(b, DIMS(-1, 3)), NONE), NONE);
    set_int(b, y, "to", SPAROA_FLOAT32);
    output(b, node(b, "Tanh", y, NONE));
}

static void build_narrowing_casts(builder *b)
{
    sp_id y = node(b, "Cast", input(b, DIMS(2, 3)), NONE);
    set_int(b, y, "to", SPAROA_FLOAT16);
    y = node(b, "Cast", y, NONE);
    set_int(b, y, "to", SPAROA_FLOAT32);
    output(b, y);
}

static sp_id slice(builder *b, sp_id x, int64_t axis, int64_t from, int64_t to)
{
    sp_id in[4] = {x, ints(b, DIMS(from)), ints(b, DIMS(to)), ints(b, DIMS(axis))};
    sp_id y = sp_insert_node(b->g, "Slice", 13, "slice", in, 4);
    assert_int_not_equal(y, SP_NO_ID);
    return y;
}

static void build_slices(builder *b)
{
    sp_id x = input(b, DIMS(-1, 6, 7));
    output(b, slice(b, slice(b, x, 1, 2, 5), -1, 0, 3));
}

static void build_slice_of_all(builder *b)
{
    sp_id x = node(b, "Relu", input(b, DIMS(-1, 6, 7)), NONE);
    x = slice(b, slice(b, x, 1, 0, 6), 0, 0, INT64_MAX);
    output(b, node(b, "Tanh", x, NONE));
}

static void build_slices_of_one_axis(builder *b)
{
    output(b, slice(b, slice(b, input(b, DIMS(2, 6)), 1, 1, 5), 1, 1, 3));
}

static void build_empty_pad(builder *b)
{
    sp_id x = node(b, "Relu", input(b, DIMS(-1, 6)), NONE);
    output(b, node(b, "Tanh", node(b, "Pad", x, ints(b, DIMS(0, 0, 0, 0))), NONE));
}

static void build_whole_of_slices(builder *b)
{
    sp_id x = node(b, "Relu", input(b, DIMS(-1, 6, 7)), NONE);
    sp_id in[3] = {slice(b, x, 1, 0, 2), slice(b, x, 1, 2, 3), slice(b, x, 1, 3, INT64_MAX)};
    sp_id y = sp_insert_node(b->g, "Concat", 13, "concat", in, 3);
    set_int(b, y, "axis", 1);
    output(b, node(b, "Tanh", y, NONE));
}

static void build_roll(builder *b) /* both halves, the other way round */
{
    sp_id x = input(b, DIMS(-1, 6, 7));
    sp_id y = node(b, "Concat", slice(b, x, 1, 2, 6), slice(b, x, 1, 0, 2));
    set_int(b, y, "axis", 1);
    output(b, y);
}

static void test_moves(void **state)
{
    (void)state;
    check_passes(build_transposes, NO_FUSION, "Transpose");
    check_passes(build_transposes_back, NO_FUSION, "Relu Tanh");
    check_passes(build_transpose_of_ones, NO_FUSION, "Reshape");
    check_passes(build_views, NO_FUSION, "Reshape");
    check_passes(build_views_back, NO_FUSION, "Relu Tanh");
    check_passes(build_casts, NO_FUSION, "Relu Tanh");
    check_passes(build_same_cast, NO_FUSION, "Relu Tanh");
    check_passes(build_narrowing_casts, NO_FUSION, "Cast Cast");
    check_passes(build_slices, NO_FUSION, "Slice");
    check_passes(build_slice_of_all, NO_FUSION, "Relu Tanh");
    check_passes(build_slices_of_one_axis, NO_FUSION, "Slice Slice");
    check_passes(build_whole_of_slices, NO_FUSION, "Relu Tanh");
    check_passes(build_roll, NO_FUSION, "Slice Slice Concat");
    check_passes(build_empty_pad, NO_FUSION, "Relu Tanh");
}

/* ---- scaling ---- */

static void build_scale_behind(builder *b)
{
    sp_id y = node(b, "MatMul", input(b, DIMS(2, 3, 4)), weights(b, DIMS(4, 5)));
    output(b, node(b, "Mul", weights(b, DIMS(1, 5)), y));
}

static void build_scale_in_front(builder *b)
{
    sp_id x = node(b, "Div", input(b, DIMS(2, 3, 4)), scalar(b, 3));
    output(b, node(b, "MatMul", x, weights(b, DIMS(4, 5))));
}

static void build_scale_of_conv(builder *b)
{
    sp_id x = node(b, "Mul", scalar(b, 1.f / 255), input(b, DIMS(1, 3, 4, 4)));
    output(b, node(b, "Div", node(b, "Conv", x, weights(b, DIMS(2, 3, 3, 3))), scalar(b, 3)));
}

static void build_scale_of_sum(builder *b)
{
    sp_id y = node(b, "MatMul", input(b, DIMS(2, 3, 4)), weights(b, DIMS(4, 5)));
    output(b, node(b, "Mul", node(b, "Add", weights(b, DIMS(5)), y), weights(b, DIMS(5))));
}

static void build_scale_of_rows(builder *b) /* one number a row: no column of the weights */
{
    sp_id y = node(b, "MatMul", input(b, DIMS(2, 3, 4)), weights(b, DIMS(4, 3)));
    output(b, node(b, "Mul", y, weights(b, DIMS(3, 1))));
}

static void build_norm_behind_matmul(builder *b)
{
    sp_id y = node(b, "MatMul", input(b, DIMS(3, 4)), weights(b, DIMS(4, 5)));
    float ones[5] = {1, 2, 3, 4, 5};
    int64_t five = 5;
    sp_id in[5] = {y, weights(b, DIMS(5)), weights(b, DIMS(5)), weights(b, DIMS(5)),
                   sp_add_const(b->g, "variance", SPAROA_FLOAT32, 1, &five, ones)};
    output(b, sp_insert_node(b->g, "BatchNormalization", 15, "bn", in, 5));
}

static void test_scaling(void **state)
{
    (void)state;
    check_passes(build_scale_behind, NO_FUSION, "MatMul");
    check_passes(build_scale_in_front, NO_FUSION, "MatMul");
    check_passes(build_scale_of_conv, NO_FUSION, "Conv");
    check_passes(build_scale_of_sum, NO_FUSION, "MatMul Add");
    check_passes(build_scale_of_sum, "layout", "MatMul");
    check_passes(build_scale_of_rows, NO_FUSION, "MatMul Mul");
    check_passes(build_norm_behind_matmul, NO_FUSION, "MatMul Add");
}

/* ---- attention ---- */

enum { HEADS = 2, ROWS = 3, WIDTH = 4 };

static sp_id heads_of(builder *b, int64_t batch)
{
    return input(b, DIMS(batch, HEADS, ROWS, WIDTH));
}

static sp_id weigh(builder *b, sp_id scores, sp_id v)
{
    sp_id p = node(b, "Softmax", scores, NONE);
    set_int(b, p, "axis", -1);
    return node(b, "MatMul", p, v);
}

static void build_attention(builder *b) /* as BERT: scores divided, a mask for each batch */
{
    sp_id q = heads_of(b, -1), k = transpose(b, heads_of(b, -1), DIMS(0, 1, 3, 2)),
          v = heads_of(b, -1), mask = input(b, DIMS(-1, 1, 1, ROWS));
    sp_id scores = node(b, "Div", node(b, "MatMul", q, k), scalar(b, 1.7f));
    output(b, weigh(b, node(b, "Add", scores, mask), v));
}

static void build_attention_scaled_inputs(builder *b) /* as torch: both inputs scaled */
{
    sp_id q = node(b, "Mul", heads_of(b, 2), scalar_of_rank(b, 0.8f, 1));
    sp_id k = transpose(b, input(b, DIMS(2, ROWS, HEADS, WIDTH)), DIMS(0, 2, 3, 1));
    k = node(b, "Mul", k, scalar_of_rank(b, 0.8f, 1));
    output(b, weigh(b, node(b, "MatMul", q, k), heads_of(b, 2)));
}

static void build_attention_bias(builder *b) /* as Swin: a constant bias by head */
{
    sp_id q = node(b, "Mul", heads_of(b, -1), scalar(b, 0.8f));
    sp_id k = transpose(b, heads_of(b, -1), DIMS(0, 1, 3, 2));
    sp_id scores = node(b, "Add", node(b, "MatMul", q, k), weights(b, DIMS(1, HEADS, ROWS, ROWS)));
    output(b, weigh(b, scores, heads_of(b, -1)));
}

static void build_attention_windows(builder *b) /* as Swin's shifted windows: a mask for each */
{
    sp_id q = heads_of(b, 6), k = transpose(b, heads_of(b, 6), DIMS(0, 1, 3, 2));
    sp_id scores = node(b, "Add", node(b, "MatMul", q, k), weights(b, DIMS(1, HEADS, ROWS, ROWS)));
    scores = reshape(b, scores, DIMS(-1, 3, HEADS, ROWS, ROWS));
    scores = node(b, "Add", scores, weights(b, DIMS(1, 3, 1, ROWS, ROWS)));
    scores = reshape(b, scores, DIMS(-1, HEADS, ROWS, ROWS));
    output(b, weigh(b, scores, heads_of(b, 6)));
}

static void build_attention_rows(builder *b) /* one value for all keys of a row */
{
    sp_id q = heads_of(b, 2), k = transpose(b, heads_of(b, 2), DIMS(0, 1, 3, 2));
    sp_id scores = node(b, "Add", node(b, "MatMul", q, k), input(b, DIMS(2, 1, ROWS, 1)));
    output(b, weigh(b, scores, heads_of(b, 2)));
}

static void build_attention_kept(builder *b) /* the probabilities are an output as well */
{
    sp_id q = heads_of(b, 2), k = transpose(b, heads_of(b, 2), DIMS(0, 1, 3, 2));
    sp_id p = node(b, "Softmax", node(b, "MatMul", q, k), NONE);
    output(b, node(b, "MatMul", p, heads_of(b, 2)));
    output(b, p);
}

static void build_attention_one_batch(builder *b) /* keys broadcast over the batch: left alone */
{
    sp_id q = heads_of(b, 2), k = transpose(b, heads_of(b, 1), DIMS(0, 1, 3, 2));
    output(b, weigh(b, node(b, "MatMul", q, k), heads_of(b, 1)));
}

static void test_attention(void **state)
{
    (void)state;
    check_passes(build_attention, WITH_ATTENTION, "Attention");
    check_passes(build_attention_scaled_inputs, WITH_ATTENTION, "Transpose Attention");
    check_passes(build_attention_bias, WITH_ATTENTION, "Attention");
    check_passes(build_attention_windows, WITH_ATTENTION,
                 "Reshape Reshape Reshape Attention Reshape");
    check_passes(build_attention_rows, WITH_ATTENTION, "Attention");
    check_passes(build_attention_kept, WITH_ATTENTION, "Transpose MatMul Softmax MatMul");
    check_passes(build_attention_one_batch, WITH_ATTENTION, "Transpose MatMul Softmax MatMul");
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    builder b;
    sparoa_error err;
    sp_log log = {0};
    start_graph(&b);
    build_transposes(&b);
    sp_pass_options o = {.disabled = "fuse,+attention", .log = &log};
    assert_int_equal(sp_passes_run(b.g, &o, &err), SPAROA_OK);
    o.disabled = "+nothing";
    assert_int_equal(sp_passes_run(b.g, &o, &err), SPAROA_INVALID_ARGUMENT);
    o.disabled = "+";
    assert_int_equal(sp_passes_run(b.g, &o, &err), SPAROA_INVALID_ARGUMENT);
    end_graph(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_scaling),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
