/* Cut: where an axis of a shape is divided between two devices (graph/divide.h). */
#include "ops/cut.h"

int64_t sp_cut(int64_t size, float share)
{
    if (size < 2) return size;
    int64_t behind = llround((double)size * (double)share);
    return size - (behind < 1 ? 1 : behind > size - 1 ? size - 1 : behind);
}

static sparoa_status cut_infer(const sparoa_node *node, sparoa_error *err)
{
    int32_t axis;
    SP_TRY(sp_check_present(node, 1, 1, err));
    if (node->in[0]->rank >= 0)
        SP_TRY(
            sp_axis(node, sparoa_attr_int(node, "axis", 0), node->in[0]->rank, false, &axis, err));
    sp_set_shape(node->out[0], SPAROA_INT64, 1, &(int64_t){1});
    return SPAROA_OK;
}

static sparoa_status cut_run(const sparoa_node *node, const sparoa_exec *exec)
{
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), node->in[0]->rank, false, &axis,
                   exec->err));
    *(int64_t *)node->out[0]->data =
        sp_cut(node->in[0]->dims[axis], sparoa_attr_float(node, "share", 0.5f));
    return SPAROA_OK;
}

/* The library's own: elements of `axis` that come before the cut, [1]. */
SP_OP(Cut) = {
    .struct_size = sizeof(sparoa_op),
    .name = "Cut",
    .domain = "sparoa",
    .since = 1,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_SHAPE,
    .flags = SPAROA_OP_SHAPE_ONLY,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = cut_infer,
    .run = cut_run,
};
