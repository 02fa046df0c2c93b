/* Nodes with random ranks, sizes, types, attributes and data: operators must refuse or run, never
 * crash. Meant for a build with sanitizers. */
#include "node.h"

#define COUNT(a) ((int64_t)(sizeof(a) / sizeof((a)[0])))

/* Operators with the type and rank of each input as they should be: f float32, l int64, i int32, b
 * bool. */
static const struct {
    const char *name, *inputs;
} ops[] = {
    {"RNN", "f3f3f3f2i1f3"},
    {"LSTM", "f3f3f3f2i1f3f3f2"},
    {"GRU", "f3f3f3f2i1f3"},
    {"Attention", "f4f4f4b2f4f4l1"},
    {"LinearAttention", "f3f3f3f4f3f3"},
    {"DFT", "f3l0l0"},
    {"STFT", "f3l0f1l0"},
    {"HannWindow", "l0"},
    {"MelWeightMatrix", "l0l0l0f0f0"},
    {"RotaryEmbedding", "f4f2f2l2"},
    {"Resize", "f2f1f1l1"},
    {"Upsample", "f2f1"},
    {"GridSample", "f4f4"},
    {"AffineGrid", "f3l1"},
    {"RoiAlign", "f4f2l1"},
    {"MaxRoiPool", "f4f2"},
    {"NonMaxSuppression", "f3f3l0f0f0"},
    {"TfIdfVectorizer", "l2"},
    {"CausalConvWithState", "f3f3f1f3"},
    {"NegativeLogLikelihoodLoss", "f3l2f1"},
    {"SoftmaxCrossEntropyLoss", "f3l2f1"},
};
static const char *const int_names[] = {
    "hidden_size",
    "layout",
    "linear_before_reset",
    "input_forget",
    "q_num_heads",
    "kv_num_heads",
    "is_causal",
    "left_window_size",
    "axis",
    "inverse",
    "onesided",
    "periodic",
    "interleaved",
    "num_heads",
    "rotary_embedding_dim",
    "antialias",
    "output_height",
    "output_width",
    "sampling_ratio",
    "align_corners",
    "min_gram_length",
    "max_gram_length",
    "max_skip_count",
    "ignore_index",
    "output_datatype",
    "qk_matmul_output_mode",
    "right_window_size",
    "exclude_outside",
    "sp.nhwc",
    "center_point_box",
};
static const char *const string_names[] = {
    "mode",        "direction",    "coordinate_transformation_mode", "padding_mode", "reduction",
    "update_rule", "nearest_mode", "keep_aspect_ratio_policy"};
static const char *const strings[] = {
    "linear",        "nearest",    "cubic",     "bidirectional", "reverse", "tf_crop_and_resize",
    "align_corners", "asymmetric", "border",    "reflection",    "none",    "sum",
    "avg",           "max",        "gated",     "delta",         "TFIDF",   "floor",
    "ceil",          "half_pixel", "not_larger"};
static const char *const list_names[] = {"axes", "pooled_shape", "pool_int64s", "ngram_counts",
                                         "ngram_indexes"};
static const sparoa_dtype types[] = {SPAROA_FLOAT32, SPAROA_FLOAT32, SPAROA_FLOAT32, SPAROA_FLOAT64,
                                     SPAROA_FLOAT16, SPAROA_INT64,   SPAROA_INT64,   SPAROA_INT32,
                                     SPAROA_UINT8,   SPAROA_BOOL};
#define PICK(a, seed) (a)[test_range(seed, 0, COUNT(a) - 1)]

static int64_t any_int(uint32_t *seed)
{
    static const int64_t extreme[] = {INT64_MIN, INT64_MAX,       -1, -2, 1 << 20,
                                      INT32_MAX, (int64_t)1 << 40};
    return test_range(seed, 0, 9) ? test_range(seed, 0, 5) : PICK(extreme, seed);
}

static double any_value(uint32_t *seed)
{
    static const double extreme[] = {-1, 1e9, -1e9, 1e30, NAN, INFINITY, -INFINITY, 0};
    return test_range(seed, 0, 12) ? (double)test_range(seed, 0, 24) / 4 : PICK(extreme, seed);
}

/* Sizes that go together where equal ones do not. */
static void fit_sizes(const char *op, int input, int64_t *dims)
{
    int64_t gates = strcmp(op, "LSTM") == 0 ? 4 : strcmp(op, "GRU") == 0 ? 3 : 0, n = dims[0];
    if (gates && input) dims[0] = 1;
    if (gates && (input == 1 || input == 2)) dims[1] = gates * n;
    if (gates && input == 3) dims[1] = 2 * gates * n;
    if (gates && input == 4) dims[0] = n;
    if (gates && input == 7) dims[1] = 3 * n;
    if (strcmp(op, "AffineGrid") == 0) {
        dims[0] = input ? 4 : n;
        dims[1] = 2;
        dims[2] = 3;
    }
    if (strstr(op, "Roi") && input == 1) dims[1] = op[0] == 'M' ? 5 : 4;
    if (strcmp(op, "RotaryEmbedding") == 0 && (input == 1 || input == 2)) dims[1] = (n + 1) / 2;
}

static void add_input(test_node *t, const char *inputs, const int64_t *common, uint32_t *seed)
{
    const char *want = inputs + 2 * t->node.n_in;
    int rank = test_range(seed, 0, 24) ? want[1] - '0' : (int)test_range(seed, 0, 6);
    sparoa_dtype type = *want == 'f'   ? SPAROA_FLOAT32
                        : *want == 'l' ? SPAROA_INT64
                        : *want == 'i' ? SPAROA_INT32
                                       : SPAROA_BOOL;
    int64_t dims[SPAROA_MAX_RANK];
    for (int i = 0; i < rank; i++)
        dims[i] = test_range(seed, 0, 7) ? common[i] : test_range(seed, 0, 6);
    if (test_range(seed, 0, 2)) fit_sizes(t->node.op, t->node.n_in, dims);
    if (test_range(seed, 0, 19) == 0) type = PICK(types, seed);
    sparoa_tensor *in = node_input(t, type, rank, dims, seed);
    size_t bytes = sparoa_tensor_bytes(in);
    free(in->data);
    in->data = malloc(bytes ? bytes : 1); /* exact, so that a step too far is seen */
    for (int64_t i = 0; i < sp_count(in); i++) {
        if (sp_is_float(in->dtype))
            sp_set_f64(in, i, any_value(seed));
        else
            sp_set_i64(in, i, any_int(seed));
    }
}

static void add_attributes(test_node *t, int64_t *lists, uint32_t *seed)
{
    for (int64_t n = test_range(seed, 0, 7); n > 0; n--)
        node_int(t, PICK(int_names, seed), any_int(seed));
    for (int64_t n = test_range(seed, 0, 3); n > 0; n--)
        node_string(t, PICK(string_names, seed), PICK(strings, seed));
    if (strcmp(t->node.op, "LinearAttention") == 0 && test_range(seed, 0, 1)) {
        t->node.n_attrs = 0;
        node_int(t, "q_num_heads", test_range(seed, 1, 2));
        node_int(t, "kv_num_heads", 1);
        node_string(t, "update_rule",
                    t->node.n_in < 5   ? "linear"
                    : t->node.n_in < 6 ? "gated"
                                       : "gated_delta");
    }
    if (strcmp(t->node.op, "TfIdfVectorizer") == 0 && test_range(seed, 0, 1)) {
        int64_t valid[12] = {1, 2, 1, 3, 0, 2, 2, 2, 0, 1, 2, 0}; /* two single tokens and a pair */
        memcpy(lists + 8, valid, sizeof valid);
        t->node.n_attrs = 0;
        node_int(t, "min_gram_length", 1);
        node_int(t, "max_gram_length", 2);
        node_int(t, "max_skip_count", any_int(seed));
        node_string(t, "mode", "TFIDF");
        node_ints(t, "ngram_counts", 2, lists + 12);
        node_ints(t, "pool_int64s", 4, lists + 8);
        node_ints(t, "ngram_indexes", 3, lists + 16);
        return;
    }
    if (strcmp(t->node.op, "TfIdfVectorizer") == 0)
        for (int64_t n = 2; n < COUNT(list_names); n++)
            node_ints(t, list_names[n], 4, lists + n * 4);
    else
        node_ints(t, list_names[test_range(seed, 0, 1)], (size_t)test_range(seed, 0, 3), lists);
}

static void run_if_small(test_node *t)
{
    const sparoa_op *op = node_row(t);
    for (int i = 0; i < t->node.n_out; i++) {
        int64_t n = sp_known(&t->out[i]) ? sp_count(&t->out[i]) : -1;
        if (n < 0 || n > 100000) return;
    }
    size_t bytes = sp_op_workspace(op, &t->node, 3);
    if (bytes > 4 << 20) return;
    for (int i = 0; i < t->node.n_out; i++) {
        size_t size = sparoa_tensor_bytes(&t->out[i]);
        t->out[i].data = malloc(size ? size : 1);
    }
    sparoa_cost cost;
    sp_op_cost(op, &t->node, &cost);
    sparoa_exec exec = {.threads = 3, .parallel = test_parallel, .err = &t->err};
    exec.workspace = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    sp_op_run(op, &t->node, &exec);
    free(exec.workspace);
}

static void nothing_crashes(void **state)
{
    uint32_t seed = 77;
    int64_t accepted[COUNT(ops)] = {0};
    for (int round = 0; round < 20000; round++) {
        test_node t;
        int64_t common[SPAROA_MAX_RANK], lists[32];
        int64_t which = test_range(&seed, 0, COUNT(ops) - 1), same = test_range(&seed, 0, 1);
        const char *name = ops[which].name;
        for (int i = 0; i < SPAROA_MAX_RANK; i++)
            common[i] = same && i ? common[0] : test_range(&seed, 1, 4);
        for (int i = 0; i < 32; i++) lists[i] = any_int(&seed);
        int32_t version = (int32_t)test_range(&seed, 9, 27);
        const sparoa_op *op = sp_op_find("", name, version, NULL, 0);
        if (!op) continue;
        node_start(&t, name, version, (int32_t)test_range(&seed, 1, op->max_out));
        int64_t n_in = test_range(&seed, op->min_in, (int64_t)strlen(ops[which].inputs) / 2);
        for (int64_t i = 0; i < n_in; i++) {
            if (test_range(&seed, 0, 3) || i < op->min_in)
                add_input(&t, ops[which].inputs, common, &seed);
            else
                node_skip_input(&t);
        }
        add_attributes(&t, lists, &seed);
        if (node_infer(&t) == SPAROA_OK) {
            accepted[which]++;
            run_if_small(&t);
        }
        node_free(&t);
    }
    for (int64_t i = 0; i < COUNT(ops); i++) {
        if (accepted[i] < 10) print_message("%s: %d\n", ops[i].name, (int)accepted[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_crashes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
