/* Nodes with random types, ranks, sizes and attributes, most of them wrong: infer must refuse or
 * accept them without a fault, and what it accepts must run. Meant for the sanitizers. */
#include "node.h"

static const char *const int_names[] = {"axis",
                                        "keepdims",
                                        "group",
                                        "num_groups",
                                        "ceil_mode",
                                        "p",
                                        "size",
                                        "storage_order",
                                        "transA",
                                        "transB",
                                        "offset_group",
                                        "sp.nhwc",
                                        "sp.residual",
                                        "sp.bias",
                                        "count_include_pad",
                                        "noop_with_empty_axes",
                                        "training_mode",
                                        "transBatchA",
                                        "transBatchB",
                                        "stash_type"};
static const char *const list_names[] = {"axes", "kernel_shape",   "strides",     "dilations",
                                         "pads", "output_padding", "output_shape"};
static const char *const equations[] = {
    "ij,jk->ik", "...ii->...i",  "i,j", "ij,ij",   "a...,...b->b...", "->",    ",,->",
    "ij->ji",    "bij,bjk->bik", "i.j", "...,...", "abcdefghi",       "ii->i", "ij->"};
static const char *const pads[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "ODD"};
static const char *const prefixes[] = {"Conv",    "Deform",     "Fused",   "AveragePool", "MaxPool",
                                       "LpPool",  "Global",     "Batch",   "Instance",    "Layer",
                                       "Group",   "RMS",        "Skip",    "Simplified",  "LpN",
                                       "MeanV",   "LRN",        "Gemm",    "MatMul",      "Einsum",
                                       "Softmax", "LogSoftmax", "Hardmax", "Reduce",      "Det"};
#define COUNT(a) ((int64_t)(sizeof(a) / sizeof((a)[0])))
#define LIST_MAX 10

static bool is_subject(const sparoa_op *op)
{
    if (strcmp(op->name, "ConvInteger") == 0 || strcmp(op->name, "MatMulInteger") == 0)
        return false;
    for (int64_t i = 0; i < COUNT(prefixes); i++)
        if (strncmp(op->name, prefixes[i], strlen(prefixes[i])) == 0)
            return op->op_class != SPAROA_CLASS_ELTWISE;
    return false;
}

static int64_t some_value(uint32_t *seed, bool hostile)
{
    static const int64_t odd[] = {INT64_MIN, INT64_MAX,        -1,     0,
                                  INT32_MAX, (int64_t)1 << 40, 1000000};
    if (hostile && test_range(seed, 0, 5) == 0) return odd[test_range(seed, 0, COUNT(odd) - 1)];
    return test_range(seed, -1, 3);
}

static void add_attrs(test_node *t, uint32_t *seed, bool hostile, int64_t lists[][LIST_MAX],
                      int spatial)
{
    for (int k = 0; k < 5; k++)
        node_int(t, int_names[test_range(seed, 0, COUNT(int_names) - 1)],
                 some_value(seed, hostile));
    for (int k = 0; k < 5; k++) {
        int which = (int)test_range(seed, 0, COUNT(list_names) - 1);
        int64_t n = which == 4 ? 2 * spatial : spatial;
        if (hostile && test_range(seed, 0, 3) == 0) n = test_range(seed, 0, LIST_MAX);
        for (int64_t i = 0; i < n; i++)
            lists[k][i] = hostile ? some_value(seed, true) : test_range(seed, 1, 2);
        node_ints(t, list_names[which], (size_t)n, lists[k]);
    }
    node_string(t, "auto_pad", pads[test_range(seed, 0, 4)]);
    node_string(t, "equation", equations[test_range(seed, 0, COUNT(equations) - 1)]);
    node_string(t, "sp.act", sp_act_names[test_range(seed, 0, SP_ACT_COUNT - 1)]);
}

static sparoa_dtype some_type(uint32_t *seed)
{
    static const sparoa_dtype types[] = {SPAROA_FLOAT64, SPAROA_INT32,   SPAROA_INT64,
                                         SPAROA_UINT8,   SPAROA_FLOAT16, SPAROA_BOOL};
    return test_range(seed, 0, 2) ? SPAROA_FLOAT32 : types[test_range(seed, 0, COUNT(types) - 1)];
}

/* A node of the row; hostile: sizes and ranks may be unknown or absurd, and there is no data. */
static void random_node(test_node *t, const sparoa_op *op, uint32_t *seed, bool hostile,
                        int64_t lists[][LIST_MAX])
{
    int32_t max_in = op->max_in < 0 || op->max_in > 5 ? 5 : op->max_in,
            max_out = op->max_out < 0 ? 1 : op->max_out;
    int rank = (int)test_range(seed, 0, 5);
    sparoa_dtype type = some_type(seed);
    int64_t usual =
        test_range(seed, 1, 4); /* most sizes are the same, so that many nodes are valid */
    bool vectors = test_range(seed, 0, 1);
    node_start(t, op->name, op->since > 13 ? op->since : (int32_t)test_range(seed, op->since, 24),
               (int32_t)test_range(seed, op->min_out, max_out));
    t->node.domain = op->domain;
    int64_t n = test_range(seed, op->min_in, max_in < op->min_in ? op->min_in : max_in);
    for (int64_t i = 0; i < n; i++) {
        int64_t dims[SPAROA_MAX_RANK];
        int own = test_range(seed, 0, 9) ? (i > (vectors ? 0 : 1) ? 1 : rank)
                                         : (int)test_range(seed, 0, 8);
        for (int k = 0; k < own; k++)
            dims[k] = test_range(seed, 0, 20) ? usual : test_range(seed, 0, 4);
        sparoa_tensor *in = node_input(t, test_range(seed, 0, 19) ? type : some_type(seed),
                                       own > 6 ? 6 : own, dims, seed);
        if (i > 1 && test_range(seed, 0, 7) == 0) t->in_list[i] = NULL;
        if (!hostile) continue;
        free(in->data);
        in->data = NULL;
        for (int k = 0; k < in->rank; k++) {
            int64_t v = some_value(seed, true);
            if (test_range(seed, 0, 2) == 0 && v >= -1) in->dims[k] = v;
        }
        if (test_range(seed, 0, 9) == 0) in->rank = -1;
    }
    add_attrs(t, seed, hostile, lists, rank > 2 ? rank - 2 : 1);
}

static bool small(const test_node *t)
{
    for (int32_t i = 0; i < t->node.n_out; i++)
        if (!sp_known(&t->out[i]) || sp_count(&t->out[i]) > 100000) return false;
    return true;
}

static void random_nodes(void **state)
{
    uint32_t seed = 1;
    int64_t ran = 0;
    for (const sparoa_op *const *row = sp_op_table; *row; row++)
        for (int round = 0; is_subject(*row) && round < 2000; round++) {
            test_node t;
            int64_t lists[5][LIST_MAX];
            bool hostile = round % 2;
            random_node(&t, *row, &seed, hostile, lists);
            sparoa_status status = (*row)->infer(&t.node, &t.err);
            sparoa_cost cost;
            if (status == SPAROA_OK) sp_op_cost(*row, &t.node, &cost);
            if (status == SPAROA_OK && !hostile && small(&t)) {
                node_run(&t, 2);
                ran++;
            }
            node_free(&t);
        }
    assert_true(ran > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_nodes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
