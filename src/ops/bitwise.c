/* Truth values and bits: And, Or, Xor, their bitwise relatives, and shifts. */
#include "ops/eltwise.h"

SP_BINARY_LOOP(and_bool, uint8_t, uint8_t, (a != 0) & (b != 0))
SP_BINARY_LOOP(or_bool, uint8_t, uint8_t, (a | b) != 0)
SP_BINARY_LOOP(xor_bool, uint8_t, uint8_t, (a != 0) ^ (b != 0))

/* Bits do not care about signs: one instance per size. */
#define SIZES(X)                                                                                   \
    X(uint8_t, 1)                                                                                  \
    X(uint16_t, 2)                                                                                 \
    X(uint32_t, 4)                                                                                 \
    X(uint64_t, 8)
#define X(T, size)                                                                                 \
    SP_BINARY_LOOP(and_##T, T, T, a &b)                                                            \
    SP_BINARY_LOOP(or_##T, T, T, a | b)                                                            \
    SP_BINARY_LOOP(xor_##T, T, T, a ^ b)
SIZES(X)
#undef X

/* Amounts that are negative or reach the width leave nothing but the sign. Shifting right keeps the
 * sign, and bits shifted left past the top are lost. */
#define WIDTH(T) (8 * sizeof(T))
#define X(T, dt)                                                                                   \
    SP_BINARY_LOOP(left_##T, T, T,                                                                 \
                   (uint64_t)b < WIDTH(T) ? (uint64_t)a << ((unsigned)b & 63u) : 0)                \
    SP_BINARY_LOOP(right_##T, T, T,                                                                \
                   (uint64_t)b < WIDTH(T) ? a >> ((unsigned)b & (WIDTH(T) - 1))                    \
                                          : (a < 0 ? -1 : 0))
X(int8_t, 0)
X(int16_t, 0)
X(int32_t, 0)
X(int64_t, 0)
#undef X
#define X(T, dt)                                                                                   \
    SP_BINARY_LOOP(left_##T, T, T, b < WIDTH(T) ? (uint64_t)a << ((unsigned)b & 63u) : 0)          \
    SP_BINARY_LOOP(right_##T, T, T, b < WIDTH(T) ? a >> ((unsigned)b & (WIDTH(T) - 1)) : 0)
X(uint8_t, 0)
X(uint16_t, 0)
X(uint32_t, 0)
X(uint64_t, 0)
#undef X

static sparoa_status logic_infer(const sparoa_node *node, sparoa_error *err)
{
    return sp_infer_binary(node, 1u << SPAROA_BOOL, SPAROA_BOOL, err);
}

static sparoa_status bits_infer(const sparoa_node *node, sparoa_error *err)
{
    return sp_infer_binary(node, SP_TYPES_INT, SPAROA_UNDEFINED, err);
}

static sparoa_status shift_infer(const sparoa_node *node, sparoa_error *err)
{
    const char *direction = sparoa_attr_string(node, "direction", "");
    if (strcmp(direction, "LEFT") != 0 && strcmp(direction, "RIGHT") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "direction='%.32s', expected LEFT or RIGHT", direction);
    return bits_infer(node, err);
}

#define LOGIC_RUN(name)                                                                            \
    static sparoa_status name##_run(const sparoa_node *node, const sparoa_exec *exec)              \
    {                                                                                              \
        return sp_run_binary(node, exec, name##_bool, NULL, SP_GRAIN);                             \
    }
LOGIC_RUN(and)
LOGIC_RUN(or)
LOGIC_RUN(xor)

#define BITS_RUN(name)                                                                             \
    static sparoa_status bit##name##_run(const sparoa_node *node, const sparoa_exec *exec)         \
    {                                                                                              \
        static const sp_run_fn of_size[9] = {[1] = name##_uint8_t,                                 \
                                             [2] = name##_uint16_t,                                \
                                             [4] = name##_uint32_t,                                \
                                             [8] = name##_uint64_t};                               \
        return sp_run_binary(node, exec, of_size[sparoa_dtype_size(node->in[0]->dtype)], NULL,     \
                             SP_GRAIN);                                                            \
    }
BITS_RUN(and)
BITS_RUN(or)
BITS_RUN(xor)

static sparoa_status shift_run(const sparoa_node *node, const sparoa_exec *exec)
{
    bool left = strcmp(sparoa_attr_string(node, "direction", ""), "LEFT") == 0;
    sp_run_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = left ? left_##T : right_##T; break;
        SP_FOR_INTS(X)
#undef X
    default: break;
    }
    return sp_run_binary(node, exec, fn, NULL, SP_GRAIN);
}

#define ROW(op, since, flags_, infer_, run_)                                                       \
    SP_BINARY_HEAD(op, since, SPAROA_TOL_EXACT, SPAROA_OP_INPLACE | (flags_)), .infer = infer_,    \
                                                                               .run = run_

/* ONNX And, versions 1 and 7. */
SP_OP(And) = {ROW("And", 1, SPAROA_OP_COMMUTES, logic_infer, and_run)};

/* ONNX Or, versions 1 and 7. */
SP_OP(Or) = {ROW("Or", 1, SPAROA_OP_COMMUTES, logic_infer, or_run)};

/* ONNX Xor, versions 1 and 7. */
SP_OP(Xor) = {ROW("Xor", 1, SPAROA_OP_COMMUTES, logic_infer, xor_run)};

/* ONNX BitwiseAnd, version 18. */
SP_OP(BitwiseAnd) = {ROW("BitwiseAnd", 18, SPAROA_OP_COMMUTES, bits_infer, bitand_run)};

/* ONNX BitwiseOr, version 18. */
SP_OP(BitwiseOr) = {ROW("BitwiseOr", 18, SPAROA_OP_COMMUTES, bits_infer, bitor_run)};

/* ONNX BitwiseXor, version 18. */
SP_OP(BitwiseXor) = {ROW("BitwiseXor", 18, SPAROA_OP_COMMUTES, bits_infer, bitxor_run)};

/* ONNX BitShift, versions 11 and 28 (which takes signed types, too). */
SP_OP(BitShift) = {ROW("BitShift", 11, 0, shift_infer, shift_run)};
