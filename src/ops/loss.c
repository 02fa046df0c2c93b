/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: scores [N, C, rest], labels [N, rest],
 * weights [C]. */
#include "ops/check.h"

typedef enum reduction { REDUCE_NONE, REDUCE_SUM, REDUCE_MEAN } reduction;

typedef struct loss {
    bool softmax; /* the input holds scores, not logarithms of probabilities */
    reduction reduce;
    bool has_ignored;
    int64_t ignored, classes, inner;
    const sparoa_tensor *in, *labels, *weights;
    sparoa_tensor *log_prob;
    double *losses; /* one for each label, not weighted, 0 where ignored */
} loss;

static sparoa_status parse(const sparoa_node *node, loss *l, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 0, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_type(node, 1, 1u << SPAROA_INT32 | 1u << SPAROA_INT64, err));
    SP_TRY(sp_check_rank(node, 0, 2, SPAROA_MAX_RANK, err));
    SP_TRY(sp_check_rank(node, 1, 1, SPAROA_MAX_RANK - 1, err));
    const char *reduce = sparoa_attr_string(node, "reduction", "mean");
    *l = (loss){.in = node->in[0], .labels = node->in[1], .weights = sparoa_in(node, 2)};
    l->softmax = strcmp(node->op, "SoftmaxCrossEntropyLoss") == 0;
    l->reduce = strcmp(reduce, "none") == 0  ? REDUCE_NONE
                : strcmp(reduce, "sum") == 0 ? REDUCE_SUM
                                             : REDUCE_MEAN;
    if (l->reduce == REDUCE_MEAN && strcmp(reduce, "mean") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "reduction '%.40s' is not none, sum or mean", reduce);
    l->has_ignored = sparoa_attr_find(node, "ignore_index") != NULL;
    l->ignored = sparoa_attr_int(node, "ignore_index", 0);
    l->classes = sp_dim(l->in, 1);
    l->log_prob = l->softmax ? sparoa_out(node, 1) : NULL;
    if (l->weights) {
        SP_TRY(sp_check_same_type(node, 0, 2, err));
        SP_TRY(sp_check_dims(node, 2, 1, (int64_t[]){l->classes}, err));
    }
    int32_t rank = l->in->rank;
    if (rank < 0) return SPAROA_OK;
    int64_t expected[SPAROA_MAX_RANK];
    for (int32_t i = 0; i < rank; i++)
        if (i != 1) expected[i > 1 ? i - 1 : 0] = l->in->dims[i];
    return sp_check_dims(node, 1, rank - 1, expected, err);
}

static sparoa_status infer(const sparoa_node *node, sparoa_error *err)
{
    loss l;
    SP_TRY(parse(node, &l, err));
    sparoa_tensor *out = sparoa_out(node, 0);
    if (l.log_prob) sp_copy_fact(l.log_prob, l.in);
    if (out && l.reduce != REDUCE_NONE) {
        sp_set_shape(out, l.in->dtype, 0, NULL);
    } else if (out) {
        sp_copy_fact(out, l.labels);
        out->dtype = l.in->dtype;
        for (int32_t i = 0; l.in->rank > 0 && i < out->rank; i++)
            if (out->dims[i] < 0) out->dims[i] = l.in->dims[i ? i + 1 : 0];
    }
    return SPAROA_OK;
}

static void cost_of(const sparoa_node *node, sparoa_cost *cost)
{
    bool softmax = strcmp(node->op, "SoftmaxCrossEntropyLoss") == 0;
    cost->flops =
        softmax ? 5.0 * (double)sp_count(node->in[0]) : 2.0 * (double)sp_count(node->in[1]);
}

static size_t workspace(const sparoa_node *node, int32_t threads)
{
    int64_t n = sp_count(node->in[1]);
    return n < 0 ? 0 : (size_t)n * sizeof(double);
}

/* log(sum(exp(x))) along the classes, safe from overflow. */
static double log_sum_exp(const loss *l, int64_t first)
{
    double top = -INFINITY, sum = 0;
    for (int64_t c = 0; c < l->classes; c++) {
        double v = sp_get_f64(l->in, first + c * l->inner);
        if (!(v <= top)) top = v;
    }
    if (isinf(top)) return top;
    for (int64_t c = 0; c < l->classes; c++)
        sum += exp(sp_get_f64(l->in, first + c * l->inner) - top);
    return top + log(sum);
}

static void piece(void *arg, int64_t begin, int64_t end)
{
    const loss *l = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i / l->inner * l->classes * l->inner + i % l->inner,
                label = sp_get_i64(l->labels, i);
        double norm = l->softmax ? log_sum_exp(l, first) : 0;
        for (int64_t c = 0; l->log_prob && c < l->classes; c++) {
            int64_t at = first + c * l->inner;
            sp_set_f64(l->log_prob, at, sp_get_f64(l->in, at) - norm);
        }
        bool skip = l->has_ignored && label == l->ignored;
        l->losses[i] = skip ? 0 : norm - sp_get_f64(l->in, first + label * l->inner);
    }
}

static sparoa_status check_labels(const sparoa_node *node, const loss *l, sparoa_error *err)
{
    int64_t n = sp_count(l->labels);
    for (int64_t i = 0; i < n; i++) {
        int64_t label = sp_get_i64(l->labels, i);
        if ((label >= 0 && label < l->classes) || (l->has_ignored && label == l->ignored)) continue;
        return sparoa_fail(err, SPAROA_INDEX_OUT_OF_RANGE, node,
                           "label %lld at %lld is out of range for %lld classes", (long long)label,
                           (long long)i, (long long)l->classes);
    }
    return SPAROA_OK;
}

static sparoa_status run(const sparoa_node *node, const sparoa_exec *exec)
{
    loss l;
    SP_TRY(parse(node, &l, exec->err));
    SP_TRY(check_labels(node, &l, exec->err));
    int64_t n = sp_count(l.labels);
    l.inner = sp_dims_product(l.in, 2, l.in->rank);
    l.losses = exec->workspace;
    if (n > 0) sp_parallel_for(exec, n, 1 + 16384 / (l.classes + 1), piece, &l);
    double sum = 0, total = 0;
    sparoa_tensor *out = sparoa_out(node, 0);
    for (int64_t i = 0; out && i < n; i++) {
        int64_t label = sp_get_i64(l.labels, i);
        bool skip = l.has_ignored && label == l.ignored;
        double w = skip        ? 0
                   : l.weights ? sp_get_f64(l.weights, label)
                               : 1,
               v = skip ? 0 : w * l.losses[i];
        if (l.reduce == REDUCE_NONE) sp_set_f64(out, i, v);
        sum += v;
        total += w;
    }
    if (out && l.reduce != REDUCE_NONE)
        sp_set_f64(out, 0, l.reduce == REDUCE_MEAN ? sum / total : sum);
    return SPAROA_OK;
}

#define LOSS_ROW(name_, max_out_)                                                                  \
    {                                                                                              \
        SP_OP_HEAD(name_, 12, 0), .min_in = 2, .max_in = 3, .min_out = 1, .max_out = (max_out_),   \
                                  .op_class = SPAROA_CLASS_REDUCE, .tolerance = SPAROA_TOL_SUM,    \
                                  .infer = infer, .cost = cost_of, .workspace = workspace,         \
                                  .run = run                                                       \
    }

/* ONNX NegativeLogLikelihoodLoss, versions 12, 13 and 22. */
SP_OP(NegativeLogLikelihoodLoss) = LOSS_ROW("NegativeLogLikelihoodLoss", 1);
/* ONNX SoftmaxCrossEntropyLoss, versions 12 and 13. */
SP_OP(SoftmaxCrossEntropyLoss) = LOSS_ROW("SoftmaxCrossEntropyLoss", 2);
