/* Operators against nonsense: shapes that overflow, facts that are unknown, random nodes of every
 * kind. What infer accepts must run without touching memory that is not its own (the sanitizer
 * builds see that). */
#include "node.h"

#define HUGE_DIM ((int64_t)1 << 40)

static void int_input(test_node *t, int64_t n, const int64_t *v)
{
    uint32_t seed = 1;
    memcpy(node_input(t, SPAROA_INT64, 1, &n, &seed)->data, v, (size_t)n * sizeof *v);
}

static void test_huge_shapes(void **state)
{
    (void)state;
    static const int64_t lists[][3] = {
        {HUGE_DIM, HUGE_DIM, 1}, {HUGE_DIM, HUGE_DIM, 0}, {INT64_MAX, 2, 2}, {-2, 1, 1},
        {INT64_MIN, 1, 1},
    };
    static const char *const ops[] = {"Reshape", "Expand", "Tile", "ConstantOfShape",
                                      "CenterCropPad"};
    for (size_t o = 0; o < 5; o++)
        for (size_t i = 0; i < 5; i++) {
            test_node t;
            uint32_t seed = 1;
            node_start(&t, ops[o], 20, 1);
            if (o != 3) node_input(&t, SPAROA_FLOAT32, 3, (int64_t[]){1, 1, 1}, &seed);
            int_input(&t, 3, lists[i]);
            assert_int_equal(node_infer(&t), SPAROA_SHAPE_MISMATCH);
            assert_true(t.err.message[0] != '\0');
            node_free(&t);
        }
    test_node t;
    uint32_t seed = 1;
    node_start(&t, "Pad", 13, 1);
    node_input(&t, SPAROA_FLOAT32, 1, (int64_t[]){3}, &seed);
    int_input(&t, 2, (int64_t[]){INT64_MAX, INT64_MAX});
    assert_int_equal(node_infer(&t), SPAROA_SHAPE_MISMATCH);
    node_free(&t);
    node_start(&t, "Pad", 13, 1);
    node_input(&t, SPAROA_FLOAT32, 1, (int64_t[]){3}, &seed);
    int_input(&t, 2, (int64_t[]){INT64_MIN, INT64_MAX});
    assert_int_equal(node_infer(&t), SPAROA_SHAPE_MISMATCH);
    node_free(&t);
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct {
        int64_t start, limit, delta, count; /* -1: refused */
    } cases[] = {
        {0, 10, 3, 4},
        {10, 0, -3, 4},
        {0, 10, -1, 0},
        {5, 5, 1, 0},
        {0, 10, 0, -1},
        {INT64_MIN, INT64_MAX, 1, -1},
        {INT64_MIN, INT64_MAX, INT64_MAX, 3},
        {INT64_MAX, INT64_MIN, INT64_MIN, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_node t;
        node_start(&t, "Range", 11, 1);
        int_input(&t, 1, &cases[i].start);
        int_input(&t, 1, &cases[i].limit);
        int_input(&t, 1, &cases[i].delta);
        if (cases[i].count < 0) {
            assert_int_not_equal(node_infer(&t), SPAROA_OK);
        } else {
            node_run(&t, 1);
            assert_int_equal(t.out[0].dims[0], cases[i].count);
        }
        node_free(&t);
    }
    static const float bad[][3] = {
        {0, INFINITY, 1}, {0, 1, NAN}, {0, 1, 0}, {NAN, 1, 1}, {0, 1e30f, 1e-30f}};
    for (size_t i = 0; i < 5; i++) {
        test_node t;
        uint32_t seed = 1;
        node_start(&t, "Range", 11, 1);
        for (int k = 0; k < 3; k++)
            *(float *)node_input(&t, SPAROA_FLOAT32, 0, NULL, &seed)->data = bad[i][k];
        assert_int_not_equal(node_infer(&t), SPAROA_OK);
        node_free(&t);
    }
}

/* ---- random nodes ---- */

/* Sizes that are an input count alone, also while nothing is known of them. */
static void test_split_sizes_unknown(void **state)
{
    (void)state;
    test_node t;
    uint32_t seed = 1;
    node_start(&t, "Split", 18, 2);
    node_input(&t, SPAROA_FLOAT32, 1, (int64_t[]){4}, &seed);
    int_input(&t, 2, (int64_t[]){1, 3});
    node_int(&t, "num_outputs", 1);
    assert_int_equal(node_infer(&t), SPAROA_OK);
    sparoa_tensor sizes = t.in[1];
    t.in[1].data = NULL;
    t.in[1].dims[0] = -1;
    assert_int_equal(node_infer(&t), SPAROA_OK);
    t.in[1] = sizes;
    node_free(&t);
}

static const char *const ops[] = {
    "Shape",
    "Size",
    "ConstantOfShape",
    "EyeLike",
    "Range",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Expand",
    "Transpose",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "GatherElements",
    "GatherND",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Pad",
    "Tile",
    "TopK",
    "NonZero",
    "Unique",
    "Compress",
    "OneHot",
    "CumSum",
    "CumProd",
    "ReverseSequence",
    "SpaceToDepth",
    "DepthToSpace",
    "Trilu",
    "CenterCropPad",
    "Col2Im",
    "TensorScatter",
    "ArgMax",
    "ArgMin",
    "MaxUnpool",
    "Multinomial",
    "Bernoulli",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Constant",
};
static const char *const int_attrs[] = {
    "axis",       "keepdims",  "start",      "end",         "k",         "blocksize",
    "batch_axis", "time_axis", "batch_dims", "num_outputs", "allowzero", "sorted",
    "largest",    "dtype",     "exclusive",  "reverse",     "upper",     "select_last_index",
    "sample_size"};
static const char *const list_attrs[] = {"axes",    "perm",      "shape",     "pads",
                                         "starts",  "ends",      "split",     "kernel_shape",
                                         "strides", "dilations", "value_ints"};
static const char *const words[] = {"constant", "edge", "reflect",  "wrap",
                                    "DCR",      "CRD",  "circular", "linear"};
static const char *const reductions[] = {"none", "add", "mul", "max", "min"};
static const sparoa_dtype types[] = {SPAROA_FLOAT32, SPAROA_FLOAT16, SPAROA_INT64,  SPAROA_INT32,
                                     SPAROA_BOOL,    SPAROA_UINT8,   SPAROA_FLOAT64};

static int64_t random_value(uint32_t *seed)
{
    static const int64_t odd[] = {INT64_MIN, INT64_MAX, INT32_MAX, -1, 0, HUGE_DIM, INT64_MIN + 1};
    return test_range(seed, 0, 19) == 0 ? odd[test_range(seed, 0, 6)] : test_range(seed, -2, 4);
}

/* Indices and sizes are int64 far more often than anything else. */
static void random_input(test_node *t, int32_t index, uint32_t *seed)
{
    int64_t dims[SPAROA_MAX_RANK];
    int rank = (int)test_range(seed, 0, index == 0 ? 4 : 2);
    sparoa_dtype dtype =
        index > 0 && test_range(seed, 0, 2) ? SPAROA_INT64 : types[test_range(seed, 0, 6)];
    if (index > 1 && test_range(seed, 0, 2)) dtype = t->in[0].dtype;
    for (int i = 0; i < rank; i++) dims[i] = test_range(seed, 0, 4);
    if (index > 0 && test_range(seed, 0, 1)) {
        rank = 1;
        dims[0] = t->in[0].rank > 0 ? t->in[0].rank * test_range(seed, 1, 2) : 1;
    }
    if (index > 0 && test_range(seed, 0, 3) == 0) {
        rank = t->in[0].rank;
        memcpy(dims, t->in[0].dims, sizeof dims);
    }
    sparoa_tensor *in = node_input(t, dtype, rank, dims, seed);
    for (int64_t i = 0; index > 0 && i < sp_count(in); i++) sp_set_i64(in, i, random_value(seed));
}

static void random_node(test_node *t, const char *op, uint32_t *seed, int64_t lists[8][6])
{
    const sparoa_op *row = sp_op_find("", op, 28, NULL, 0);
    assert_non_null(row);
    int32_t most = row->max_in < 0 || row->max_in > 5 ? 3 : row->max_in;
    int32_t n_in = (int32_t)test_range(seed, row->min_in, most);
    int32_t n_out = row->max_out < 0 ? (int32_t)test_range(seed, 1, 3) : row->max_out;
    node_start(t, op, (int32_t)test_range(seed, 0, 1) ? 28 : 9, n_out);
    if (!sp_op_find("", op, t->node.version, NULL, 0)) t->node.version = 28;
    for (int32_t i = 0; i < n_in; i++) {
        if (i >= row->min_in && test_range(seed, 0, 3) == 0)
            node_skip_input(t);
        else
            random_input(t, i, seed);
    }
    for (int i = 0; i < 4; i++) node_int(t, int_attrs[test_range(seed, 0, 18)], random_value(seed));
    for (int i = 0; i < 4; i++) {
        int64_t n = test_range(seed, 0, 1) && t->node.n_in ? t->in[0].rank : test_range(seed, 0, 5);
        for (int64_t k = 0; k < 6; k++) lists[i][k] = random_value(seed);
        node_ints(t, list_attrs[test_range(seed, 0, 10)], (size_t)(n < 0 ? 0 : n), lists[i]);
    }
    if (test_range(seed, 0, 1)) node_string(t, "mode", words[test_range(seed, 0, 7)]);
    if (test_range(seed, 0, 1)) node_string(t, "reduction", reductions[test_range(seed, 0, 4)]);
}

/* Takes away some of what is known, and infers: it may fail, but must not crash or contradict
 * `full`. */
static void infer_partly(test_node *t, uint32_t *seed, const sparoa_tensor *full, bool worked)
{
    sparoa_tensor saved[MAX_PORTS];
    memcpy(saved, t->in, sizeof saved);
    for (int32_t i = 0; i < t->node.n_in; i++) {
        if (!t->in_list[i]) continue;
        if (test_range(seed, 0, 1)) t->in[i].data = NULL;
        for (int32_t k = 0; k < t->in[i].rank; k++)
            if (test_range(seed, 0, 2) == 0) t->in[i].dims[k] = -1;
        if (test_range(seed, 0, 3) == 0) t->in[i].rank = -1;
        if (!sp_known(&t->in[i])) t->in[i].data = NULL;
    }
    for (int32_t i = 0; i < t->node.n_out; i++) t->out[i] = (sparoa_tensor){.rank = -1};
    sparoa_status status = node_infer(t);
    if (worked && status != SPAROA_OK)
        fail_msg("%s refused partly known inputs: %s", t->node.op, t->err.message);
    bool bounds = (node_row(t)->flags & SPAROA_OP_TRIMS) != 0;
    for (int32_t i = 0; worked && i < t->node.n_out; i++) {
        const sparoa_tensor *out = &t->out[i];
        if (out->rank < 0) continue;
        assert_int_equal(out->rank, full[i].rank);
        for (int32_t k = 0; k < out->rank; k++)
            if (out->dims[k] >= 0 &&
                (bounds ? out->dims[k] < full[i].dims[k] : out->dims[k] != full[i].dims[k]))
                fail_msg("%s: output %d has dimension %d %lld, was %lld before", t->node.op, i, k,
                         (long long)full[i].dims[k], (long long)out->dims[k]);
    }
    memcpy(t->in, saved, sizeof saved);
}

static bool fits(const test_node *t)
{
    for (int32_t i = 0; i < t->node.n_out; i++)
        if (!sp_known(&t->out[i]) || sp_count(&t->out[i]) > 100000) return false;
    return true;
}

static bool run_random(test_node *t)
{
    const sparoa_op *op = node_row(t);
    sparoa_exec exec = {.threads = 2, .parallel = test_parallel, .err = &t->err};
    for (int32_t i = 0; i < t->node.n_out; i++)
        t->out[i].data = malloc(sparoa_tensor_bytes(&t->out[i]));
    size_t bytes = sp_op_workspace(op, &t->node, 2);
    exec.workspace = bytes ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    sparoa_status status = sp_op_run(op, &t->node, &exec);
    free(exec.workspace);
    return status == SPAROA_OK;
}

static void test_random_nodes(void **state)
{
    (void)state;
    uint32_t seed = 12345;
    for (size_t o = 0; o < sizeof ops / sizeof ops[0]; o++) {
        int ran = 0;
        for (int round = 0; round < 4000; round++) {
            test_node t;
            int64_t lists[8][6];
            random_node(&t, ops[o], &seed, lists);
            sparoa_status status = node_infer(&t);
            sparoa_tensor full[MAX_PORTS];
            memcpy(full, t.out, sizeof full);
            if (status == SPAROA_OK && fits(&t)) ran += run_random(&t);
            for (int32_t i = 0; i < t.node.n_out; i++) {
                free(t.out[i].data);
                t.out[i].data = NULL;
            }
            infer_partly(&t, &seed, full, status == SPAROA_OK);
            node_free(&t);
        }
        if (ran == 0 && strcmp(ops[o], "Col2Im") != 0)
            fail_msg("no random %s was one that runs", ops[o]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_huge_shapes),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_split_sizes_unknown),
        cmocka_unit_test(test_random_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
