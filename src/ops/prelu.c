#include "ops/eltwise.h"

#define X(T, dt) SP_BINARY_LOOP(prelu_##T, T, T, a < 0 ? a * b : a)
SP_FOR_FLOATS(X)
#undef X
#define X(T, dt) SP_BINARY_LOOP(prelu_##T, T, T, a < 0 ? (uint64_t)a * (uint64_t)b : (uint64_t)a)
X(int32_t, 0)
X(int64_t, 0)
#undef X

/* The slope under the shape that broadcasts: before opset 7 a vector belonged to the channels (axis
 * 1). */
static sparoa_tensor slope_of(const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0];
    sparoa_tensor slope = *node->in[1];
    if (node->version < 7 && slope.rank == 1)
        while (slope.rank < x->rank - 1) slope.dims[slope.rank++] = 1;
    return slope;
}

static sparoa_status prelu_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    sparoa_tensor slope, shape = {.rank = -1};
    const uint32_t types = SP_TYPES_FLOAT | 1u << SPAROA_INT32 | 1u << SPAROA_INT64 |
                           1u << SPAROA_UINT32 | 1u << SPAROA_UINT64;
    SP_TRY(sp_check_type(node, 0, types, err));
    SP_TRY(sp_check_type(node, 1, types, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    slope = slope_of(node);
    SP_TRY(sp_broadcast(node, x, &slope, &shape, err));
    bool grows = x->rank >= 0 && shape.rank > x->rank;
    for (int32_t i = 0; !grows && i < shape.rank; i++)
        grows = x->dims[i] >= 0 && shape.dims[i] >= 0 && shape.dims[i] != x->dims[i];
    if (grows)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "slope does not broadcast to the input's shape");
    return sp_infer_same(node, err);
}

static sparoa_status prelu_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sparoa_tensor slope = slope_of(node);
    const sparoa_tensor *in[2] = {node->in[0], &slope};
    sp_run_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = prelu_##T; break;
        SP_FOR_FLOATS(X)
        X(int32_t, SPAROA_INT32)
        X(int64_t, SPAROA_INT64)
#undef X
    case SPAROA_UINT32:
    case SPAROA_UINT64:
        sp_copy_data(node->out[0], node->in[0]);
        return SPAROA_OK; /* never negative */
    default:
        return sparoa_fail(exec->err, SPAROA_UNSUPPORTED_TYPE, node, "no implementation for %s",
                           sparoa_dtype_name(node->in[0]->dtype));
    }
    sp_bcast_run(exec, node->out[0], 2, in, fn, NULL, SP_GRAIN);
    return SPAROA_OK;
}

/* ONNX PRelu, versions 1, 6, 7, 9 and 16. */
SP_OP(PRelu) = {SP_BINARY_HEAD("PRelu", 1, SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE),
                .infer = prelu_infer, .run = prelu_run};
