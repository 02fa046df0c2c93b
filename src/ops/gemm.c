/* Gemm and com.microsoft FusedGemm: alpha * op(A) op(B) + beta * C. */
#include "ops/epilogue.h"
#include "ops/gemm_plain.h"

typedef struct gemm_shape {
    bool trans_a, trans_b;
    int64_t m, n, k;
    const sparoa_tensor *c; /* or NULL */
} gemm_shape;

static sparoa_status read_shape(const sparoa_node *node, gemm_shape *s, sparoa_error *err)
{
    const sparoa_tensor *a = node->in[0], *b = node->in[1];
    sp_epilogue e = sp_epilogue_of(node);
    s->trans_a = sparoa_attr_int(node, "transA", 0) != 0;
    s->trans_b = sparoa_attr_int(node, "transB", 0) != 0;
    s->c = e.residual_input == 2 ? NULL : sparoa_in(node, 2);
    if ((a->rank >= 0 && a->rank != 2) || (b->rank >= 0 && b->rank != 2))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "A has rank %d and B rank %d, expected 2 and 2", a->rank, b->rank);
    s->m = a->rank < 0 ? -1 : a->dims[s->trans_a];
    s->n = b->rank < 0 ? -1 : b->dims[!s->trans_b];
    s->k = a->rank < 0 ? -1 : a->dims[!s->trans_a];
    int64_t kb = b->rank < 0 ? -1 : b->dims[s->trans_b];
    if (s->k >= 0 && kb >= 0 && s->k != kb)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "inner dimensions %lld and %lld differ", (long long)s->k, (long long)kb);
    if (!s->c || s->c->rank < 0) return SPAROA_OK;
    if (s->c->rank > 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "C has rank %d", s->c->rank);
    int64_t out[2] = {s->m, s->n};
    for (int32_t i = 0; i < s->c->rank; i++) {
        int64_t d = s->c->dims[i], o = out[2 - s->c->rank + i];
        if (d >= 0 && d != 1 && o >= 0 && d != o)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "dimension %d of C is %lld, expected %lld or 1", i, (long long)d,
                               (long long)o);
    }
    return SPAROA_OK;
}

static sparoa_status gemm_infer(const sparoa_node *node, sparoa_error *err)
{
    const uint32_t types = SP_TYPES_FLOAT | 1u << SPAROA_INT32 | 1u << SPAROA_INT64 |
                           1u << SPAROA_UINT32 | 1u << SPAROA_UINT64;
    gemm_shape s;
    SP_TRY(sp_check_type(node, 0, types, err));
    SP_TRY(sp_check_type(node, 1, types, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    SP_TRY(read_shape(node, &s, err));
    if (s.c) SP_TRY(sp_check_same_type(node, 0, 2, err));
    sp_set_shape(node->out[0], node->in[0]->dtype, 2, (const int64_t[]){s.m, s.n});
    return sp_epilogue_check(node, err);
}

static sparoa_status gemm_run(const sparoa_node *node, const sparoa_exec *exec)
{
    gemm_shape s;
    SP_TRY(read_shape(node, &s, exec->err));
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    sp_epilogue e = sp_epilogue_of(node);
    sp_product p = {
        .dtype = node->in[0]->dtype,
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .a = node->in[0]->data,
        .b = node->in[1]->data,
        .out = node->out[0]->data,
        .a_row = s.trans_a ? 1 : s.k,
        .a_col = s.trans_a ? s.m : 1,
        .b_row = s.trans_b ? 1 : s.n,
        .b_col = s.trans_b ? s.k : 1,
        .alpha = sparoa_attr_float(node, "alpha", 1),
        .beta = sparoa_attr_float(node, "beta", 1),
    };
    if (s.c) {
        int32_t r = s.c->rank;
        p.c = s.c->data;
        p.c_col = r < 1 || s.c->dims[r - 1] == 1 ? 0 : 1;
        p.c_row = r < 2 || s.c->dims[0] == 1 ? 0 : s.c->dims[1];
    }
    sp_product_run(&p, exec);
    sp_epilogue_run(&e, node);
    return SPAROA_OK;
}

static void gemm_cost(const sparoa_node *node, sparoa_cost *cost)
{
    gemm_shape s;
    if (read_shape(node, &s, NULL) != SPAROA_OK || s.m < 0 || s.n < 0 || s.k < 0) return;
    cost->flops = 2.0 * (double)s.m * (double)s.n * (double)s.k;
}

/* ONNX Gemm, versions 7, 9, 11 and 13. A residual may follow C (epilogue.h). */
SP_OP(Gemm) = {
    SP_OP_HEAD("Gemm", 6, 0),
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_GEMM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = gemm_infer,
    .cost = gemm_cost,
    .run = gemm_run,
};

/* com.microsoft FusedGemm: Gemm with an activation. */
SP_OP(FusedGemm) = {
    .struct_size = sizeof(sparoa_op),
    .name = "FusedGemm",
    .domain = "com.microsoft",
    .since = 1,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_GEMM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = gemm_infer,
    .cost = gemm_cost,
    .run = gemm_run,
};
