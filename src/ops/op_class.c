#include "ops/op.h"

const char *sp_class_name(sparoa_op_class op_class)
{
    static const char *const names[SPAROA_CLASS_COUNT] = {
        [SPAROA_CLASS_ELTWISE] = "eltwise",     [SPAROA_CLASS_REDUCE] = "reduce",
        [SPAROA_CLASS_GEMM] = "gemm",           [SPAROA_CLASS_CONV] = "conv",
        [SPAROA_CLASS_POOL] = "pool",           [SPAROA_CLASS_NORM] = "norm",
        [SPAROA_CLASS_ATTENTION] = "attention", [SPAROA_CLASS_RNN] = "rnn",
        [SPAROA_CLASS_MOVE] = "move",           [SPAROA_CLASS_SHAPE] = "shape",
        [SPAROA_CLASS_CONTROL] = "control",     [SPAROA_CLASS_OTHER] = "other"};
    return (unsigned)op_class < SPAROA_CLASS_COUNT ? names[op_class] : "unknown";
}
