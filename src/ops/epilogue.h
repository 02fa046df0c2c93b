/*
 * epilogue.h - what graph passes hang onto Conv, ConvTranspose, Gemm and MatMul nodes, and how they
 * say that a node's images are stored with the channel last. All of it is carried by attributes
 * whose names start with "sp.", which no ONNX file can contain (the loader refuses them).
 *
 *   sp.nhwc     int 1: input 0 and output 0 are [N, spatial..., C]; weights keep ONNX's order.
 * Understood by Conv, ConvTranspose, the pools, BatchNormalization, InstanceNormalization, Resize,
 * Upsample, DepthToSpace, SpaceToDepth and PRelu's neighbours in layout.c sp.bias     int 1, MatMul
 * only: the last-but-residual input is a bias [N] added to the product sp.residual int 1: the last
 * input is added before the activation; 2: after it. Same shape as the output sp.act      string,
 * name of the activation below; sp.act_a, sp.act_b: its parameters
 */
#ifndef SP_OPS_EPILOGUE_H
#define SP_OPS_EPILOGUE_H

#include "sparoa_backend.h"

typedef enum sp_act {
    SP_ACT_NONE,
    SP_ACT_RELU,
    SP_ACT_CLIP,      /* min(max(x, a), b) */
    SP_ACT_LEAKYRELU, /* x < 0 ? a x : x */
    SP_ACT_SIGMOID,
    SP_ACT_TANH,
    SP_ACT_HARDSIGMOID, /* max(0, min(1, a x + b)) */
    SP_ACT_HARDSWISH,   /* x max(0, min(1, x / 6 + 0.5)) */
    SP_ACT_SILU,        /* x sigmoid(x) */
    SP_ACT_GELU,        /* 0.5 x (1 + erf(x / sqrt 2)) */
    SP_ACT_GELU_TANH,   /* the tanh approximation */
    SP_ACT_COUNT
} sp_act;

typedef struct sp_epilogue {
    sp_act act;
    float a, b;
    int residual;       /* 0 none, 1 before the activation, 2 after */
    int residual_input; /* index of that input; -1: none */
    int bias_input;     /* MatMul with sp.bias: index of the bias; -1: none */
} sp_epilogue;

extern const char
    *const sp_act_names[SP_ACT_COUNT]; /* "none", "relu", "clip", ... as sp.act spells them */

sp_epilogue sp_epilogue_of(const sparoa_node *node);
bool sp_is_nhwc(const sparoa_node *node);
float sp_act_apply(sp_act act, float a, float b, float x); /* one element, plain libm: the oracle */
/* Applies residual and activation in place to output 0 of a node that holds the bare product. */
void sp_epilogue_run(const sp_epilogue *e, const sparoa_node *node);
/* For infer: the residual, if any, must fit output 0, whose fact is already set. */
sparoa_status sp_epilogue_check(const sparoa_node *node, sparoa_error *err);

#endif
