/* Element-wise operators on 8-bit tensors, domain com.microsoft. What has one input becomes a table
 * of 256. */
#include "ops/eltwise.h"
#include "ops/quant.h"

typedef struct pair_arg {
    float a_scale, b_scale, y_scale;
    int32_t a_zero, b_zero, y_zero;
} pair_arg;

static inline int32_t add_q(const pair_arg *p, int32_t a, int32_t b, int32_t lo, int32_t hi)
{
    const float v = (float)(a - p->a_zero) * p->a_scale + (float)(b - p->b_zero) * p->b_scale;
    return sp_quantize(v / p->y_scale, p->y_zero, lo, hi);
}

static inline int32_t mul_q(const pair_arg *p, int32_t a, int32_t b, int32_t lo, int32_t hi)
{
    const float v = (float)(a - p->a_zero) * p->a_scale * ((float)(b - p->b_zero) * p->b_scale);
    return sp_quantize(v / p->y_scale, p->y_zero, lo, hi);
}

SP_BINARY_LOOP(add_int8, int8_t, int8_t, add_q(run->arg, a, b, INT8_MIN, INT8_MAX))
SP_BINARY_LOOP(add_uint8, uint8_t, uint8_t, add_q(run->arg, a, b, 0, UINT8_MAX))
SP_BINARY_LOOP(mul_int8, int8_t, int8_t, mul_q(run->arg, a, b, INT8_MIN, INT8_MAX))
SP_BINARY_LOOP(mul_uint8, uint8_t, uint8_t, mul_q(run->arg, a, b, 0, UINT8_MAX))

/* Inputs A, A_scale, A_zero_point, B, B_scale, B_zero_point, C_scale, C_zero_point; zero points
 * optional. */
static sparoa_status pair_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_Q8, err));
    SP_TRY(sp_check_type(node, 3, SP_TYPES_Q8, err));
    SP_TRY(sp_check_same_type(node, 0, 3, err));
    static const int32_t scales[] = {1, 4, 6}, zeros[] = {2, 5, 7};
    for (int i = 0; i < 3; i++) {
        SP_TRY(sp_q_check_scale(node, scales[i], -1, err));
        SP_TRY(sp_q_check_zero(node, zeros[i], 1u << node->in[0]->dtype, -1, err));
    }
    node->out[0]->dtype = node->in[0]->dtype;
    return sp_broadcast(node, node->in[0], node->in[3], node->out[0], err);
}

static sparoa_status pair_run(const sparoa_node *node, const sparoa_exec *exec, sp_run_fn i8,
                              sp_run_fn u8)
{
    const pair_arg arg = {sp_q_scale(node, 1, 0), sp_q_scale(node, 4, 0), sp_q_scale(node, 6, 0),
                          sp_q_zero(node, 2, 0),  sp_q_zero(node, 5, 0),  sp_q_zero(node, 7, 0)};
    const sparoa_tensor *in[2] = {node->in[0], node->in[3]};
    sp_bcast_run(exec, node->out[0], 2, in, node->in[0]->dtype == SPAROA_INT8 ? i8 : u8, &arg,
                 SP_GRAIN);
    return SPAROA_OK;
}

static sparoa_status add_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return pair_run(node, exec, add_int8, add_uint8);
}

static sparoa_status mul_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return pair_run(node, exec, mul_int8, mul_uint8);
}

/* Inputs X, X_scale, X_zero_point, Y_scale, Y_zero_point; zero points optional. */
static sparoa_status table_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_Q8, err));
    SP_TRY(sp_q_check_scale(node, 1, -1, err));
    SP_TRY(sp_q_check_scale(node, 3, -1, err));
    SP_TRY(sp_q_check_zero(node, 2, 1u << node->in[0]->dtype, -1, err));
    SP_TRY(sp_q_check_zero(node, 4, 1u << node->in[0]->dtype, -1, err));
    return sp_infer_same(node, err);
}

/* table[byte]: f of the value that the byte stands for, as a byte. */
SP_UNARY_LOOP(look_up, uint8_t, uint8_t, ((const uint8_t *)arg)[x])

static sparoa_status table_run(const sparoa_node *node, const sparoa_exec *exec,
                               float (*f)(float x, float p), float p)
{
    uint8_t table[256];
    const bool is_signed = node->in[0]->dtype == SPAROA_INT8;
    const float x_scale = sp_q_scale(node, 1, 0), y_scale = sp_q_scale(node, 3, 0);
    const int32_t x_zero = sp_q_zero(node, 2, 0), y_zero = sp_q_zero(node, 4, 0);
    int32_t lo, hi;
    sp_q_range(node->in[0]->dtype, &lo, &hi);
    for (int32_t i = 0; i < 256; i++) {
        const int32_t q = is_signed ? (int8_t)i : i;
        table[i] =
            (uint8_t)sp_quantize(f((float)(q - x_zero) * x_scale, p) / y_scale, y_zero, lo, hi);
    }
    return sp_run_unary(node, exec, look_up, table, SP_GRAIN);
}

static float sigmoid(float x, float p)
{
    (void)p;
    return 1 / (1 + expf(-x));
}

static float leaky_relu(float x, float alpha)
{
    return x < 0 ? alpha * x : x;
}

static sparoa_status sigmoid_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return table_run(node, exec, sigmoid, 0);
}

static sparoa_status leaky_relu_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return table_run(node, exec, leaky_relu, sparoa_attr_float(node, "alpha", 0.01f));
}

#define PAIR(op, run_)                                                                             \
    SP_MS_HEAD(op), .min_in = 7, .max_in = 8, .min_out = 1, .max_out = 1,                          \
                    .op_class = SPAROA_CLASS_ELTWISE, .tolerance = SPAROA_TOL_ROUNDING,            \
                    .infer = pair_infer, .cost = sp_cost_div, .run = run_
#define TABLE(op, run_)                                                                            \
    SP_MS_HEAD(op), .min_in = 4, .max_in = 5, .min_out = 1, .max_out = 1,                          \
                    .op_class = SPAROA_CLASS_ELTWISE, .tolerance = SPAROA_TOL_ROUNDING,            \
                    .flags = SPAROA_OP_INPLACE | SPAROA_OP_UNARY_POINTWISE, .infer = table_infer,  \
                    .run = run_

/* com.microsoft QLinearAdd, version 1. */
SP_OP(QLinearAdd) = {PAIR("QLinearAdd", add_run)};

/* com.microsoft QLinearMul, version 1. */
SP_OP(QLinearMul) = {PAIR("QLinearMul", mul_run)};

/* com.microsoft QLinearSigmoid, version 1. */
SP_OP(QLinearSigmoid) = {TABLE("QLinearSigmoid", sigmoid_run)};

/* com.microsoft QLinearLeakyRelu, version 1. */
SP_OP(QLinearLeakyRelu) = {TABLE("QLinearLeakyRelu", leaky_relu_run)};
