#include "ops/op.h"

typedef struct relu_args {
    const sparoa_tensor *in;
    sparoa_tensor *out;
} relu_args;

static void relu_piece(void *arg, int64_t begin, int64_t end)
{
    const relu_args *a = arg;
    switch (a->in->dtype) {
#define X(ctype, dt)                                                                               \
    case dt: {                                                                                     \
        const ctype *x = a->in->data;                                                              \
        ctype *y = a->out->data;                                                                   \
        for (int64_t i = begin; i < end; i++) y[i] = x[i] < 0 ? 0 : x[i];                          \
        break;                                                                                     \
    }
        SP_FOR_FLOATS(X)
        X(int8_t, SPAROA_INT8)
        X(int16_t, SPAROA_INT16)
        X(int32_t, SPAROA_INT32)
        X(int64_t, SPAROA_INT64)
#undef X
    default: break;
    }
}

static sparoa_status relu_infer(const sparoa_node *node, sparoa_error *err)
{
    const uint32_t signed_ints =
        1u << SPAROA_INT8 | 1u << SPAROA_INT16 | 1u << SPAROA_INT32 | 1u << SPAROA_INT64;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT | signed_ints, err));
    return sp_infer_same(node, err);
}

static sparoa_status relu_run(const sparoa_node *node, const sparoa_exec *exec)
{
    relu_args a = {node->in[0], node->out[0]};
    sp_parallel_for(exec, sp_count(a.in), 16384, relu_piece, &a);
    return SPAROA_OK;
}

/* ONNX Relu, versions 6, 13 and 14. */
SP_OP(Relu) = {
    SP_OP_HEAD("Relu", 6, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_ELTWISE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_INPLACE | SPAROA_OP_UNARY_POINTWISE,
    .infer = relu_infer,
    .run = relu_run,
};
