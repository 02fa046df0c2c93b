/* Add, Sub, Mul, Div. Integers wrap; the detour over uint64_t keeps that defined. */
#include "ops/eltwise.h"

SP_BINARY_LOOP(add_float, float, float, a + b)
SP_BINARY_LOOP(add_double, double, double, a + b)
SP_BINARY_LOOP(sub_float, float, float, a - b)
SP_BINARY_LOOP(sub_double, double, double, a - b)
SP_BINARY_LOOP(mul_float, float, float, a *b)
SP_BINARY_LOOP(mul_double, double, double, a *b)
SP_BINARY_LOOP(div_float, float, float, a / b)
SP_BINARY_LOOP(div_double, double, double, a / b)
#define X(T, dt)                                                                                   \
    SP_BINARY_LOOP(add_##T, T, T, (uint64_t)a + (uint64_t)b)                                       \
    SP_BINARY_LOOP(sub_##T, T, T, (uint64_t)a - (uint64_t)b)                                       \
    SP_BINARY_LOOP(mul_##T, T, T, (uint64_t)a *(uint64_t)b)
SP_FOR_INTS(X)
#undef X
/* Truncates; division by zero gives 0, and the smallest integer by -1 wraps to itself. */
#define X(T, dt) SP_BINARY_LOOP(div_##T, T, T, b == 0 ? 0 : b == -1 ? (T)(0 - (uint64_t)a) : a / b)
X(int8_t, 0)
X(int16_t, 0)
X(int32_t, 0)
X(int64_t, 0)
#undef X
#define X(T, dt) SP_BINARY_LOOP(div_##T, T, T, b == 0 ? 0 : a / b)
X(uint8_t, 0)
X(uint16_t, 0)
X(uint32_t, 0)
X(uint64_t, 0)
#undef X

static sparoa_status arithmetic_infer(const sparoa_node *node, sparoa_error *err)
{
    return sp_infer_binary(node, SP_TYPES_NUMBER, SPAROA_UNDEFINED, err);
}

#define RUN(name)                                                                                  \
    static sparoa_status name##_run(const sparoa_node *node, const sparoa_exec *exec)              \
    {                                                                                              \
        sp_run_fn fn = NULL;                                                                       \
        switch (node->in[0]->dtype) {                                                              \
            SP_FOR_NUMBERS(X)                                                                      \
        default: break;                                                                            \
        }                                                                                          \
        return sp_run_binary(node, exec, fn, NULL, SP_GRAIN);                                      \
    }

#define X(T, dt)                                                                                   \
    case dt: fn = add_##T; break;
RUN(add)
#undef X
#define X(T, dt)                                                                                   \
    case dt: fn = sub_##T; break;
RUN(sub)
#undef X
#define X(T, dt)                                                                                   \
    case dt: fn = mul_##T; break;
RUN(mul)
#undef X
#define X(T, dt)                                                                                   \
    case dt: fn = div_##T; break;
RUN(div)
#undef X

/* ONNX Add, versions 1, 6, 7, 13 and 14. */
SP_OP(Add) = {SP_BINARY_HEAD("Add", 1, SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE | SPAROA_OP_COMMUTES),
              .infer = arithmetic_infer, .run = add_run};

/* ONNX Sub, versions 1, 6, 7, 13 and 14. */
SP_OP(Sub) = {SP_BINARY_HEAD("Sub", 1, SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE),
              .infer = arithmetic_infer, .run = sub_run};

/* ONNX Mul, versions 1, 6, 7, 13 and 14. */
SP_OP(Mul) = {SP_BINARY_HEAD("Mul", 1, SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE | SPAROA_OP_COMMUTES),
              .infer = arithmetic_infer, .run = mul_run};

/* ONNX Div, versions 1, 6, 7, 13 and 14. */
SP_OP(Div) = {SP_BINARY_HEAD("Div", 1, SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE),
              .infer = arithmetic_infer, .cost = sp_cost_div, .run = div_run};
