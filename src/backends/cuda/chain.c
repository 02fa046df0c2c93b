/* Chains of element-wise operators (src/ops/chain.h). */
#include "ops/chain.h"

#include "backends/cuda/cuda.h"

_Static_assert(SP_CHAIN_STEPS <= SP_CU_CHAIN_STEPS && SP_CHAIN_INPUTS <= SP_CU_CHAIN_OPERANDS,
               "chains fit the kernel");

static const int8_t functions[SP_CHAIN_FN_COUNT] = {[SP_CHAIN_Relu] = SP_CU_Relu,
                                                    [SP_CHAIN_LeakyRelu] = SP_CU_LeakyRelu,
                                                    [SP_CHAIN_Sigmoid] = SP_CU_Sigmoid,
                                                    [SP_CHAIN_Tanh] = SP_CU_Tanh,
                                                    [SP_CHAIN_HardSigmoid] = SP_CU_HardSigmoid,
                                                    [SP_CHAIN_HardSwish] = SP_CU_HardSwish,
                                                    [SP_CHAIN_Swish] = SP_CU_Swish,
                                                    [SP_CHAIN_Gelu] = SP_CU_Gelu,
                                                    [SP_CHAIN_Erf] = SP_CU_Erf,
                                                    [SP_CHAIN_Exp] = SP_CU_Exp,
                                                    [SP_CHAIN_Log] = SP_CU_Log,
                                                    [SP_CHAIN_Sqrt] = SP_CU_Sqrt,
                                                    [SP_CHAIN_Reciprocal] = SP_CU_Reciprocal,
                                                    [SP_CHAIN_Abs] = SP_CU_Abs,
                                                    [SP_CHAIN_Neg] = SP_CU_Neg,
                                                    [SP_CHAIN_Floor] = SP_CU_Floor,
                                                    [SP_CHAIN_Ceil] = SP_CU_Ceil,
                                                    [SP_CHAIN_Softplus] = SP_CU_Softplus,
                                                    [SP_CHAIN_Elu] = SP_CU_Elu,
                                                    [SP_CHAIN_Clip] = SP_CU_UNARY_COUNT,
                                                    [SP_CHAIN_Add] = SP_CU_BIN_Add,
                                                    [SP_CHAIN_Sub] = SP_CU_BIN_Sub,
                                                    [SP_CHAIN_Mul] = SP_CU_BIN_Mul,
                                                    [SP_CHAIN_Div] = SP_CU_BIN_Div,
                                                    [SP_CHAIN_Min] = SP_CU_BIN_Min,
                                                    [SP_CHAIN_Max] = SP_CU_BIN_Max,
                                                    [SP_CHAIN_Pow] = SP_CU_BIN_Pow};

static const char *chain_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    sp_chain chain;
    if (!sp_chain_read(node, &chain) || node->n_in > SP_CHAIN_INPUTS) return "not a chain";
    return sp_cuda_all_f32(node) || sp_cuda_all_half(dev, node, op) ? NULL
                                                                    : "only float32 and float16";
}

/* The space of the output, dimensions merged where all inputs allow it. */
static void plan_space(sp_cu_chain *c, const sparoa_node *node)
{
    const sparoa_tensor *out = node->out[0];
    int64_t strides[SP_CHAIN_INPUTS][SPAROA_MAX_RANK];
    c->count = sp_count(out);
    c->operands = node->n_in;
    for (int32_t k = 0; k < node->n_in; k++) sp_broadcast_strides(node->in[k], out, strides[k]);
    for (int32_t d = 0; d < out->rank; d++) {
        int32_t last = c->rank - 1;
        bool joins = last >= 0;
        if (out->dims[d] == 1) continue;
        for (int32_t k = 0; k < node->n_in && joins; k++)
            joins = c->strides[k][last] == out->dims[d] * strides[k][d];
        int32_t at = joins ? last : c->rank++;
        c->dims[at] = joins ? c->dims[at] * out->dims[d] : out->dims[d];
        for (int32_t k = 0; k < node->n_in; k++) c->strides[k][at] = strides[k][d];
    }
}

static sparoa_status chain_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                   size_t *workspace, sparoa_error *err)
{
    sp_cu_chain *c = prepared;
    sp_chain chain;
    (void)k, (void)workspace;
    if (!sp_chain_read(node, &chain))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "steps are missing or wrong");
    *c = (sp_cu_chain){.steps = chain.count};
    for (int32_t i = 0; i < chain.count; i++) {
        const sp_chain_step *s = &chain.steps[i];
        c->op[i] = functions[s->fn];
        if (s->fn == SP_CHAIN_Gelu && s->a != 0) c->op[i] = SP_CU_GeluTanh;
        c->operand[i] = (int8_t)s->input;
        c->left[i] = s->first;
        c->a[i] = s->a;
        c->b[i] = s->b;
    }
    plan_space(c, node);
    return SPAROA_OK;
}

static sparoa_status chain_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                               const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const void *in[SP_CHAIN_INPUTS];
    (void)k, (void)workspace, (void)err;
    for (int32_t i = 0; i < node->n_in; i++) in[i] = node->in[i]->data;
    sp_cu_chain_run(prepared, sp_cuda_is_half(node), in, node->out[0]->data, stream);
    return SPAROA_OK;
}

/* sparoa Chain, version 1. */
SP_CUDA_KERNEL(Chain) = {.ops = SP_CUDA_NAMES("Chain"),
                         .domain = SP_CHAIN_DOMAIN,
                         .variant = "chain",
                         .half = sp_cuda_all_half,
                         .prepared_bytes = sizeof(sp_cu_chain),
                         .refuses = chain_refuses,
                         .prepare = chain_prepare,
                         .run = chain_run};
