/* If, Loop and Scan: rows only. Their outputs' facts come from their subgraphs (graph/infer.c) and
 * the engine runs them (engine/control.c). */
#include "ops/op.h"

static sparoa_status control_infer(const sparoa_node *node, sparoa_error *err)
{
    (void)node;
    (void)err;
    return SPAROA_OK;
}

static sparoa_status control_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return sparoa_fail(exec->err, SPAROA_INTERNAL, node, "control flow is run by the engine");
}

#define CONTROL_ROW(op_name, since_, min_in_, max_in_)                                             \
    {                                                                                              \
        SP_OP_HEAD(op_name, since_, 0), .min_in = (min_in_), .max_in = (max_in_), .min_out = 0,    \
                                        .max_out = -1, .op_class = SPAROA_CLASS_CONTROL,           \
                                        .tolerance = SPAROA_TOL_EXACT, .infer = control_infer,     \
                                        .run = control_run                                         \
    }

/* ONNX If (1 to newest), Loop (1 to newest), Scan (9 to newest; Scan-8 has a batch dimension of its
 * own). */
SP_OP(If) = CONTROL_ROW("If", 1, 1, 1);
SP_OP(Loop) = CONTROL_ROW("Loop", 1, 2, -1);
SP_OP(Scan) = CONTROL_ROW("Scan", 8, 1, -1);
