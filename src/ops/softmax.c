/* Softmax, LogSoftmax and Hardmax over [outer, axis, inner]. */
#include "ops/op.h"

#define BLOCK 64 /* neighbouring columns at a time where inner > 1 */

typedef enum softmax_kind { KIND_SOFTMAX, KIND_LOG_SOFTMAX, KIND_HARDMAX } softmax_kind;

typedef struct softmax_args {
    const sparoa_tensor *in;
    sparoa_tensor *out;
    int64_t axis, inner, blocks; /* sizes; blocks of inner */
    softmax_kind kind;
} softmax_args;

/* width columns of `axis` elements each, `inner` apart. */
#define SOFTMAX_TYPE(T, EXP)                                                                       \
    static void columns_##T(const softmax_args *a, const T *x, T *y, int64_t width)                \
    {                                                                                              \
        T top[BLOCK];                                                                              \
        double sum[BLOCK];                                                                         \
        for (int64_t j = 0; j < width; j++) {                                                      \
            top[j] = -INFINITY;                                                                    \
            sum[j] = 0;                                                                            \
        }                                                                                          \
        for (int64_t k = 0; k < a->axis; k++)                                                      \
            for (int64_t j = 0; j < width; j++)                                                    \
                top[j] = x[k * a->inner + j] > top[j] ? x[k * a->inner + j] : top[j];              \
        for (int64_t k = 0; k < a->axis; k++)                                                      \
            for (int64_t j = 0; j < width; j++) {                                                  \
                T e = EXP(x[k * a->inner + j] - top[j]);                                           \
                if (a->kind == KIND_SOFTMAX) y[k * a->inner + j] = e;                              \
                sum[j] += e;                                                                       \
            }                                                                                      \
        if (a->kind == KIND_SOFTMAX)                                                               \
            for (int64_t j = 0; j < width; j++) sum[j] = 1 / sum[j];                               \
        else                                                                                       \
            for (int64_t j = 0; j < width; j++) sum[j] = log(sum[j]);                              \
        for (int64_t k = 0; k < a->axis; k++)                                                      \
            for (int64_t j = 0; j < width; j++) {                                                  \
                int64_t i = k * a->inner + j;                                                      \
                y[i] = a->kind == KIND_SOFTMAX ? (T)(y[i] * sum[j]) : (T)(x[i] - top[j] - sum[j]); \
            }                                                                                      \
    }                                                                                              \
                                                                                                   \
    /* One at the first maximum. */                                                                \
    static void hard_##T(const softmax_args *a, const T *x, T *y, int64_t width)                   \
    {                                                                                              \
        for (int64_t j = 0; j < width; j++) {                                                      \
            int64_t best = 0;                                                                      \
            for (int64_t k = 1; k < a->axis; k++)                                                  \
                if (x[k * a->inner + j] > x[best * a->inner + j]) best = k;                        \
            for (int64_t k = 0; k < a->axis; k++) y[k * a->inner + j] = k == best;                 \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void piece_##T(void *arg, int64_t begin, int64_t end)                                   \
    {                                                                                              \
        const softmax_args *a = arg;                                                               \
        for (int64_t i = begin; i < end; i++) {                                                    \
            int64_t j0 = i % a->blocks * BLOCK, at = i / a->blocks * a->axis * a->inner + j0;      \
            int64_t width = a->inner - j0 < BLOCK ? a->inner - j0 : BLOCK;                         \
            const T *x = (const T *)a->in->data + at;                                              \
            T *y = (T *)a->out->data + at;                                                         \
            if (a->kind == KIND_HARDMAX)                                                           \
                hard_##T(a, x, y, width);                                                          \
            else                                                                                   \
                columns_##T(a, x, y, width);                                                       \
        }                                                                                          \
    }

SOFTMAX_TYPE(float, expf)
SOFTMAX_TYPE(double, exp)

/* Before version 13 the input is taken as the matrix [dims before axis, dims from axis on]. */
static bool flattens(const sparoa_node *node)
{
    return node->version < 13;
}

static sparoa_status read_axis(const sparoa_node *node, int32_t rank, int32_t *axis,
                               sparoa_error *err)
{
    int64_t a = sparoa_attr_int(node, "axis", flattens(node) ? 1 : -1);
    *axis = 0;
    if (rank == 0) return SPAROA_OK; /* one element, whatever the axis */
    return sp_axis(node, a, rank, flattens(node) && a >= 0, axis, err);
}

static sparoa_status softmax_infer(const sparoa_node *node, sparoa_error *err)
{
    int32_t axis;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    if (node->in[0]->rank >= 0) SP_TRY(read_axis(node, node->in[0]->rank, &axis, err));
    return sp_infer_same(node, err);
}

static sparoa_status run_any(const sparoa_node *node, const sparoa_exec *exec, softmax_kind kind)
{
    const sparoa_tensor *in = node->in[0];
    softmax_args a = {.in = in, .out = node->out[0], .axis = 1, .inner = 1, .kind = kind};
    int32_t axis;
    SP_TRY(read_axis(node, in->rank, &axis, exec->err));
    int64_t count = sp_count(in);
    if (count <= 0) return SPAROA_OK;
    if (flattens(node)) {
        a.axis = sp_dims_product(in, axis, in->rank);
    } else if (in->rank > 0) {
        a.axis = in->dims[axis];
        a.inner = sp_dims_product(in, axis + 1, in->rank);
    }
    a.blocks = (a.inner + BLOCK - 1) / BLOCK;
    int64_t tasks = count / a.axis / a.inner * a.blocks;
    sp_parallel_for(exec, tasks, 1 + 4096 / (count / tasks + 1),
                    in->dtype == SPAROA_FLOAT64 ? piece_double : piece_float, &a);
    return SPAROA_OK;
}

static sparoa_status softmax_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return run_any(node, exec, KIND_SOFTMAX);
}

static sparoa_status log_softmax_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return run_any(node, exec, KIND_LOG_SOFTMAX);
}

static sparoa_status hardmax_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return run_any(node, exec, KIND_HARDMAX);
}

static void softmax_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 5.0 * (double)sp_count(node->in[0]); /* maximum, subtract, exp, sum, scale */
}

/* ONNX Softmax, versions 1, 11 and 13. */
SP_OP(Softmax) = {
    SP_OP_HEAD("Softmax", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_SUM,
    .infer = softmax_infer,
    .cost = softmax_cost,
    .run = softmax_run,
};

/* ONNX LogSoftmax, versions 1, 11 and 13. */
SP_OP(LogSoftmax) = {
    SP_OP_HEAD("LogSoftmax", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_SUM,
    .infer = softmax_infer,
    .cost = softmax_cost,
    .run = log_softmax_run,
};

/* ONNX Hardmax, versions 1, 11 and 13. */
SP_OP(Hardmax) = {
    SP_OP_HEAD("Hardmax", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = softmax_infer,
    .run = hardmax_run,
};
