/* Activations with a second tensor: a bias before them, or a factor after them. */
#include "ops/eltwise.h"

#include "ops/gelu.h"

SP_BINARY_LOOP(biasgelu_f32, float, float, sp_gelu_f(a + b))
SP_BINARY_LOOP(biasgelu_f64, double, double, sp_gelu_d(a + b))
SP_BINARY_LOOP(fastgelu_f32, float, float, sp_gelu_tanh_f(a + b))
SP_BINARY_LOOP(fastgelu_f64, double, double, sp_gelu_tanh_d(a + b))
SP_BINARY_LOOP(swiglu_f32, float, float, a / (1 + expf(-*(const float *)run->arg * a)) * b)
SP_BINARY_LOOP(swiglu_f64, double, double, a / (1 + exp(-(double)*(const float *)run->arg * a)) * b)

/* The bias, a vector as long as the last dimension of input 0, may be left out. */
static sparoa_status bias_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *bias = sparoa_in(node, 1);
    SP_TRY(sp_infer_float(node, err));
    if (!bias) return SPAROA_OK;
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    if (bias->rank < 0 || x->rank < 0) return SPAROA_OK;
    if (bias->rank != 1 || x->rank < 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "bias has rank %d, expected 1",
                           bias->rank);
    int64_t want = x->dims[x->rank - 1];
    if (want >= 0 && bias->dims[0] >= 0 && bias->dims[0] != want)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "bias has %lld values, expected %lld",
                           (long long)bias->dims[0], (long long)want);
    return SPAROA_OK;
}

static void run_pair(const sparoa_node *node, const sparoa_exec *exec, sp_run_fn f32, sp_run_fn f64,
                     const void *arg)
{
    static const double none = 0; /* zero bytes: 0 as float, too */
    bool wide = node->in[0]->dtype == SPAROA_FLOAT64;
    const sparoa_tensor zero = sparoa_tensor_view(node->in[0]->dtype, (void *)&none, 0, NULL);
    const sparoa_tensor *in[2] = {node->in[0], sparoa_in(node, 1) ? node->in[1] : &zero};
    sp_bcast_run(exec, node->out[0], 2, in, wide ? f64 : f32, arg, SP_GRAIN_EXP);
}

static sparoa_status biasgelu_run(const sparoa_node *node, const sparoa_exec *exec)
{
    run_pair(node, exec, biasgelu_f32, biasgelu_f64, NULL);
    return SPAROA_OK;
}

static sparoa_status fastgelu_run(const sparoa_node *node, const sparoa_exec *exec)
{
    run_pair(node, exec, fastgelu_f32, fastgelu_f64, NULL);
    return SPAROA_OK;
}

static sparoa_status swiglu_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *a = node->in[0], *b = sparoa_in(node, 1);
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    sp_copy_fact(node->out[0], a->rank >= 0 ? a : b);
    if (a->rank < 0 || b->rank < 0) return SPAROA_OK;
    bool same = a->rank == b->rank;
    for (int32_t i = 0; same && i < a->rank; i++) {
        same = a->dims[i] == b->dims[i] || a->dims[i] < 0 || b->dims[i] < 0;
        if (same && a->dims[i] < 0) node->out[0]->dims[i] = b->dims[i];
    }
    if (!same)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "A and B must have the same shape");
    return SPAROA_OK;
}

static sparoa_status swiglu_run(const sparoa_node *node, const sparoa_exec *exec)
{
    float alpha = sparoa_attr_float(node, "alpha", 1.0f);
    run_pair(node, exec, swiglu_f32, swiglu_f64, &alpha);
    return SPAROA_OK;
}

/* com.microsoft BiasGelu, version 1. */
SP_OP(BiasGelu) = {SP_MS_HEAD("BiasGelu"), SP_BINARY(SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE),
                   .infer = bias_infer, .cost = sp_cost_exp2, .run = biasgelu_run};

/* com.microsoft FastGelu, version 1: the bias is optional. */
SP_OP(FastGelu) = {
    SP_MS_HEAD("FastGelu"),
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_ELTWISE,
    .tolerance = SPAROA_TOL_ROUNDING,
    .flags = SPAROA_OP_INPLACE | SPAROA_OP_BROADCASTS,
    .infer = bias_infer,
    .cost = sp_cost_exp2,
    .run = fastgelu_run,
};

/* ONNX SwiGLU, version 28. */
SP_OP(SwiGLU) = {SP_BINARY_HEAD("SwiGLU", 28, SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE),
                 .infer = swiglu_infer, .cost = sp_cost_exp, .run = swiglu_run};
