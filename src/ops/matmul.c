/* MatMul and com.microsoft FusedMatMul: numpy's matmul, with optional transposition and scale. */
#include "ops/epilogue.h"
#include "ops/gemm_plain.h"

/* Both operands as matrices: 1-D ones get a dimension that the output drops again. */
typedef struct operand {
    sparoa_tensor t; /* rank >= 2; no data */
    bool vector;     /* was 1-D */
} operand;

static bool flag(const sparoa_node *node, const char *name)
{
    return sparoa_attr_int(node, name, 0) != 0;
}

static operand as_matrix(const sparoa_tensor *in, bool left)
{
    operand o = {.t = *in, .vector = in->rank == 1};
    if (!o.vector) return o;
    o.t.rank = 2;
    o.t.dims[0] = left ? 1 : in->dims[0];
    o.t.dims[1] = left ? in->dims[0] : 1;
    return o;
}

/* Swaps the last two dimensions and, with `batch`, moves the first one before the last but one. */
static void transpose(sparoa_tensor *t, int64_t *strides, bool last_two, bool batch)
{
    int32_t r = t->rank;
    if (batch)
        for (int32_t i = 0; i + 2 < r; i++) {
            int64_t d = t->dims[i], s = strides[i];
            t->dims[i] = t->dims[i + 1];
            strides[i] = strides[i + 1];
            t->dims[i + 1] = d;
            strides[i + 1] = s;
        }
    if (last_two) {
        int64_t d = t->dims[r - 2], s = strides[r - 2];
        t->dims[r - 2] = t->dims[r - 1];
        strides[r - 2] = strides[r - 1];
        t->dims[r - 1] = d;
        strides[r - 1] = s;
    }
}

typedef struct matmul_shape {
    operand a, b;
    int64_t a_strides[SPAROA_MAX_RANK], b_strides[SPAROA_MAX_RANK];
    sparoa_tensor batch; /* broadcast of the leading dimensions */
} matmul_shape;

static void row_major(const sparoa_tensor *t, int64_t *strides)
{
    if (sp_count(t) > 0)
        sp_strides(t, strides);
    else
        memset(strides, 0, SPAROA_MAX_RANK * sizeof strides[0]);
}

static sparoa_status read_shape(const sparoa_node *node, matmul_shape *s, sparoa_error *err)
{
    const sparoa_tensor *a = node->in[0], *b = node->in[1];
    if (a->rank == 0 || b->rank == 0)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "a scalar cannot be multiplied as a matrix");
    *s = (matmul_shape){.a = as_matrix(a, true), .b = as_matrix(b, false)};
    row_major(&s->a.t, s->a_strides);
    row_major(&s->b.t, s->b_strides);
    transpose(&s->a.t, s->a_strides, flag(node, "transA") && !s->a.vector,
              flag(node, "transBatchA"));
    transpose(&s->b.t, s->b_strides, flag(node, "transB") && !s->b.vector,
              flag(node, "transBatchB"));
    int64_t ka = s->a.t.dims[s->a.t.rank - 1], kb = s->b.t.dims[s->b.t.rank - 2];
    if (ka >= 0 && kb >= 0 && ka != kb)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "inner dimensions %lld and %lld differ", (long long)ka, (long long)kb);
    sparoa_tensor heads[2] = {s->a.t, s->b.t};
    heads[0].rank -= 2;
    heads[1].rank -= 2;
    return sp_broadcast(node, &heads[0], &heads[1], &s->batch, err);
}

static sparoa_status check_bias(const sparoa_node *node, sparoa_error *err)
{
    sp_epilogue e = sp_epilogue_of(node);
    if (e.bias_input < 0) return SPAROA_OK;
    if (e.bias_input < 2)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "the bias is missing");
    SP_TRY(sp_check_same_type(node, 0, e.bias_input, err));
    const sparoa_tensor *bias = node->in[e.bias_input], *out = node->out[0];
    if (!sp_known(bias) || out->rank < 1 || out->dims[out->rank - 1] < 0) return SPAROA_OK;
    if (bias->rank != 1 || bias->dims[0] != out->dims[out->rank - 1])
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "the bias must have %lld elements",
                           (long long)out->dims[out->rank - 1]);
    return SPAROA_OK;
}

static sparoa_status matmul_infer(const sparoa_node *node, sparoa_error *err)
{
    sparoa_tensor *out = node->out[0];
    matmul_shape s;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_NUMBER, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_NUMBER, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    out->dtype = node->in[0]->dtype;
    out->rank = -1;
    if (node->in[0]->rank < 0 || node->in[1]->rank < 0) return SPAROA_OK;
    SP_TRY(read_shape(node, &s, err));
    if (s.batch.rank > SPAROA_MAX_RANK - 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "the output has too many dimensions");
    int32_t rank = s.batch.rank;
    memcpy(out->dims, s.batch.dims, sizeof out->dims);
    if (!s.a.vector) out->dims[rank++] = s.a.t.dims[s.a.t.rank - 2];
    if (!s.b.vector) out->dims[rank++] = s.b.t.dims[s.b.t.rank - 1];
    out->rank = rank;
    SP_TRY(check_bias(node, err));
    return sp_epilogue_check(node, err);
}

/* Strides of `t`'s leading dimensions within the batch: 0 where it is broadcast. */
static void batch_strides(const sparoa_tensor *t, const int64_t *own, const sparoa_tensor *batch,
                          int64_t *out)
{
    int32_t shift = batch->rank - (t->rank - 2);
    for (int32_t i = 0; i < batch->rank; i++)
        out[i] = i < shift || t->dims[i - shift] == 1 ? 0 : own[i - shift];
}

static sparoa_status matmul_run(const sparoa_node *node, const sparoa_exec *exec)
{
    matmul_shape s;
    SP_TRY(read_shape(node, &s, exec->err));
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    sp_epilogue e = sp_epilogue_of(node);
    int32_t ra = s.a.t.rank, rb = s.b.t.rank;
    sp_product p = {
        .dtype = node->in[0]->dtype,
        .m = s.a.t.dims[ra - 2],
        .n = s.b.t.dims[rb - 1],
        .k = s.a.t.dims[ra - 1],
        .a = node->in[0]->data,
        .b = node->in[1]->data,
        .out = node->out[0]->data,
        .a_row = s.a_strides[ra - 2],
        .a_col = s.a_strides[ra - 1],
        .b_row = s.b_strides[rb - 2],
        .b_col = s.b_strides[rb - 1],
        .batch_rank = s.batch.rank,
        .alpha = sparoa_attr_float(node, "alpha", 1),
        .beta = 1,
    };
    memcpy(p.batch, s.batch.dims, sizeof p.batch);
    batch_strides(&s.a.t, s.a_strides, &s.batch, p.a_batch);
    batch_strides(&s.b.t, s.b_strides, &s.batch, p.b_batch);
    if (e.bias_input >= 0) {
        p.c = node->in[e.bias_input]->data;
        p.c_col = 1;
    }
    sp_product_run(&p, exec);
    sp_epilogue_run(&e, node);
    return SPAROA_OK;
}

static void matmul_cost(const sparoa_node *node, sparoa_cost *cost)
{
    matmul_shape s;
    if (!sp_known(node->in[0]) || !sp_known(node->in[1]) || read_shape(node, &s, NULL) != SPAROA_OK)
        return;
    cost->flops = 2.0 * (double)sp_count(node->out[0]) * (double)s.a.t.dims[s.a.t.rank - 1];
}

/* ONNX MatMul, versions 1, 9 and 13. A bias and a residual may follow (epilogue.h). */
SP_OP(MatMul) = {
    SP_OP_HEAD("MatMul", 1, 0),
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_GEMM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = matmul_infer,
    .cost = matmul_cost,
    .run = matmul_run,
};

/* com.microsoft FusedMatMul: alpha, transA, transB, transBatchA, transBatchB. */
SP_OP(FusedMatMul) = {
    .struct_size = sizeof(sparoa_op),
    .name = "FusedMatMul",
    .domain = "com.microsoft",
    .since = 1,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_GEMM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = matmul_infer,
    .cost = matmul_cost,
    .run = matmul_run,
};
