/*
 * chain.h - a chain of element-wise operators as one: the value of input 0 goes through the steps,
 * each a function of it alone or of it and another input. All inputs broadcast to the output's
 * shape, which comes to the same as broadcasting step by step. Made by pass "chain"; in no file.
 */
#ifndef SP_OPS_CHAIN_H
#define SP_OPS_CHAIN_H

#include "ops/op.h"

#define SP_CHAIN_STEPS 12
#define SP_CHAIN_INPUTS 6
#define SP_CHAIN_DOMAIN "sparoa"

/* X(ONNX operator); from Add on they have two operands. */
#define SP_CHAIN_FNS(X)                                                                            \
    X(Relu)                                                                                        \
    X(LeakyRelu)                                                                                   \
    X(Sigmoid)                                                                                     \
    X(Tanh)                                                                                        \
    X(HardSigmoid)                                                                                 \
    X(HardSwish)                                                                                   \
    X(Swish)                                                                                       \
    X(Gelu)                                                                                        \
    X(Erf)                                                                                         \
    X(Exp)                                                                                         \
    X(Log)                                                                                         \
    X(Sqrt)                                                                                        \
    X(Reciprocal)                                                                                  \
    X(Abs)                                                                                         \
    X(Neg)                                                                                         \
    X(Floor)                                                                                       \
    X(Ceil)                                                                                        \
    X(Softplus)                                                                                    \
    X(Elu)                                                                                         \
    X(Clip)                                                                                        \
    X(Add)                                                                                         \
    X(Sub)                                                                                         \
    X(Mul)                                                                                         \
    X(Div)                                                                                         \
    X(Min)                                                                                         \
    X(Max)                                                                                         \
    X(Pow)

#define X(name) SP_CHAIN_##name,
typedef enum sp_chain_fn { SP_CHAIN_FNS(X) SP_CHAIN_FN_COUNT } sp_chain_fn;
#undef X

typedef struct sp_chain_step {
    sp_chain_fn fn;
    int32_t input; /* the other operand; -1: none */
    bool first;    /* the other operand is the left one */
    float a, b;    /* parameters of functions of one operand */
} sp_chain_step;

typedef struct sp_chain {
    int32_t count;
    sp_chain_step steps[SP_CHAIN_STEPS];
} sp_chain;

/* The step that an ONNX node is, operands aside, with its attributes; false: none. Clip's bounds
 * are the caller's to fill in where they are inputs. */
bool sp_chain_step_of(const sparoa_node *node, sp_chain_step *step);
/* The steps of a node of this operator; false: its attributes make none. */
bool sp_chain_read(const sparoa_node *node, sp_chain *chain);

#endif
