/* Comparisons: two numbers in, a truth value out. NaN compares false. */
#include "ops/eltwise.h"

#define X(T, dt)                                                                                   \
    SP_BINARY_LOOP(equal_##T, T, uint8_t, a == b)                                                  \
    SP_BINARY_LOOP(less_##T, T, uint8_t, a < b)                                                    \
    SP_BINARY_LOOP(less_equal_##T, T, uint8_t, a <= b)                                             \
    SP_BINARY_LOOP(greater_##T, T, uint8_t, a > b)                                                 \
    SP_BINARY_LOOP(greater_equal_##T, T, uint8_t, a >= b)
SP_FOR_NUMBERS(X)
#undef X
SP_BINARY_LOOP(equal_bool, uint8_t, uint8_t, (a != 0) == (b != 0))

static sparoa_status compare_infer(const sparoa_node *node, sparoa_error *err)
{
    return sp_infer_binary(node, SP_TYPES_NUMBER, SPAROA_BOOL, err);
}

static sparoa_status equal_infer(const sparoa_node *node, sparoa_error *err)
{
    return sp_infer_binary(node, SP_TYPES_ALL, SPAROA_BOOL, err);
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
    case dt: fn = less_##T; break;
RUN(less)
#undef X
#define X(T, dt)                                                                                   \
    case dt: fn = less_equal_##T; break;
RUN(less_equal)
#undef X
#define X(T, dt)                                                                                   \
    case dt: fn = greater_##T; break;
RUN(greater)
#undef X
#define X(T, dt)                                                                                   \
    case dt: fn = greater_equal_##T; break;
RUN(greater_equal)
#undef X
#define X(T, dt)                                                                                   \
    case dt: fn = equal_##T; break;
RUN(equal_number)
#undef X

static sparoa_status equal_run(const sparoa_node *node, const sparoa_exec *exec)
{
    if (node->in[0]->dtype == SPAROA_BOOL)
        return sp_run_binary(node, exec, equal_bool, NULL, SP_GRAIN);
    return equal_number_run(node, exec);
}

/* ONNX Equal, versions 1, 7, 11, 13 and 19. */
SP_OP(Equal) = {SP_BINARY_HEAD("Equal", 1, SPAROA_TOL_EXACT, SPAROA_OP_COMMUTES),
                .infer = equal_infer, .run = equal_run};

/* ONNX Greater, versions 1, 7, 9 and 13. */
SP_OP(Greater) = {SP_BINARY_HEAD("Greater", 1, SPAROA_TOL_EXACT, 0), .infer = compare_infer,
                  .run = greater_run};

/* ONNX GreaterOrEqual, versions 12 and 16. */
SP_OP(GreaterOrEqual) = {SP_BINARY_HEAD("GreaterOrEqual", 12, SPAROA_TOL_EXACT, 0),
                         .infer = compare_infer, .run = greater_equal_run};

/* ONNX Less, versions 1, 7, 9 and 13. */
SP_OP(Less) = {SP_BINARY_HEAD("Less", 1, SPAROA_TOL_EXACT, 0), .infer = compare_infer,
               .run = less_run};

/* ONNX LessOrEqual, versions 12 and 16. */
SP_OP(LessOrEqual) = {SP_BINARY_HEAD("LessOrEqual", 12, SPAROA_TOL_EXACT, 0),
                      .infer = compare_infer, .run = less_equal_run};
