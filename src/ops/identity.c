/* Operators that pass their input on: Identity, and Dropout outside training. */
#include "ops/op.h"

static sparoa_status copy_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    sp_copy_data(node->out[0], node->in[0]);
    return SPAROA_OK;
}

static sparoa_status check_scalar(const sparoa_node *node, int32_t i, uint32_t types,
                                  sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    if (!t) return SPAROA_OK;
    SP_TRY(sp_check_type(node, i, types, err));
    if (sp_known(t) && sp_count(t) != 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input %d has %lld values, expected a scalar", i,
                           (long long)sp_count(t));
    return SPAROA_OK;
}

static sparoa_status dropout_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(check_scalar(node, 1, SP_TYPES_FLOAT, err));
    SP_TRY(check_scalar(node, 2, 1u << SPAROA_BOOL, err));
    SP_TRY(sp_infer_same(node, err));
    sparoa_tensor *mask = sparoa_out(node, 1);
    if (!mask) return SPAROA_OK;
    sp_copy_fact(mask, node->in[0]);
    if (node->version >= 10) mask->dtype = SPAROA_BOOL;
    return SPAROA_OK;
}

/* A fixed, position-independent stream of bits: the same seed gives the same mask on every machine.
 */
static double uniform(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static void drop(const sparoa_node *node, double ratio)
{
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *mask = sparoa_out(node, 1);
    const double scale = ratio < 1 ? 1 / (1 - ratio) : 0;
    const uint64_t seed = (uint64_t)sparoa_attr_int(node, "seed", 0);
    const int64_t n = sp_count(in);
    for (int64_t i = 0; i < n; i++) {
        bool keep = uniform(seed, (uint64_t)i) >= ratio;
        sp_set_f64(node->out[0], i, keep ? sp_get_f64(in, i) * scale : 0);
        if (mask) sp_set_i64(mask, i, keep);
    }
}

static sparoa_status dropout_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *ratio_in = sparoa_in(node, 1), *training = sparoa_in(node, 2);
    double ratio = ratio_in ? sp_get_f64(ratio_in, 0) : 0.5;
    if (!(ratio >= 0 && ratio <= 1))
        return sparoa_fail(exec->err, SPAROA_INVALID_ARGUMENT, node, "ratio=%g is not in 0..1",
                           ratio);
    if (training && sp_get_i64(training, 0) && ratio > 0) {
        drop(node, ratio);
        return SPAROA_OK;
    }
    sp_copy_data(node->out[0], node->in[0]);
    sparoa_tensor *mask = sparoa_out(node, 1);
    if (!mask) return SPAROA_OK;
    if (mask->dtype == SPAROA_BOOL) {
        memset(mask->data, 1, sparoa_tensor_bytes(mask));
        return SPAROA_OK;
    }
    for (int64_t i = 0, n = sp_count(mask); i < n; i++) sp_set_i64(mask, i, 1);
    return SPAROA_OK;
}

/* ONNX Identity, versions 1, 13, 14, 16, 19, 21, 23, 24 and 25. */
SP_OP(Identity) = {
    SP_OP_HEAD("Identity", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_VIEW | SPAROA_OP_INPLACE | SPAROA_OP_UNARY_POINTWISE,
    .infer = sp_infer_same,
    .run = copy_run,
};

/* ONNX Dropout, versions 1, 6, 7, 10, 12, 13 and 22. No view: the mask is written as well. */
SP_OP(Dropout) = {
    SP_OP_HEAD("Dropout", 1, 0),
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 2,
    .op_class = SPAROA_CLASS_ELTWISE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_INPLACE | SPAROA_OP_HALF,
    .infer = dropout_infer,
    .run = dropout_run,
};
