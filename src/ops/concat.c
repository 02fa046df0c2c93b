#include "ops/move.h"

static sparoa_status concat_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, node->n_in, 1, err));
    sparoa_tensor *out = node->out[0];
    const sparoa_tensor *known = NULL;
    for (int32_t i = 0; i < node->n_in; i++) {
        SP_TRY(sp_check_same_type(node, 0, i, err));
        if (!known && node->in[i]->rank >= 0) known = node->in[i];
    }
    sp_set_shape(out, node->in[0]->dtype, -1, NULL);
    if (!known) return SPAROA_OK;
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 1), known->rank, false, &axis, err));
    sp_set_shape(out, known->dtype, known->rank, NULL);
    out->dims[axis] = 0;
    for (int32_t i = 0; i < node->n_in; i++) {
        const sparoa_tensor *t = node->in[i];
        if (t->rank < 0) {
            out->dims[axis] = -1;
            continue;
        }
        if (t->rank != known->rank)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input %d has rank %d, others %d",
                               i, t->rank, known->rank);
        for (int32_t j = 0; j < t->rank; j++) {
            int64_t d = t->dims[j], *o = &out->dims[j];
            if (j == axis) {
                if (*o >= 0) *o = d < 0 ? -1 : __builtin_add_overflow(*o, d, o) ? INT64_MAX : *o;
            } else if (*o < 0) {
                *o = d;
            } else if (d >= 0 && d != *o) {
                return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                                   "dimension %d of input %d is %lld, that of others %lld", j, i,
                                   (long long)d, (long long)*o);
            }
        }
    }
    return sp_check_shape(node, out, err);
}

static sparoa_status concat_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *out = node->out[0];
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 1), out->rank, false, &axis, exec->err));
    size_t size = sparoa_dtype_size(out->dtype);
    int64_t outer = sp_outer(out, axis), inner = sp_inner(out, axis),
            pitch = out->dims[axis] * inner;
    char *dst = out->data;
    for (int32_t i = 0; i < node->n_in; i++) {
        int64_t run = node->in[i]->dims[axis] * inner;
        sp_move m = {.size = size, .src = node->in[i]->data, .dst = dst};
        sp_move_axis(&m, outer, run, pitch);
        sp_move_axis(&m, run, 1, 1);
        sp_move_run(&m, exec);
        dst += run * (int64_t)size;
    }
    return SPAROA_OK;
}

/* ONNX Concat, versions 1 to 13; axis is 1 where version 1 leaves it out. */
SP_OP(Concat) = {
    SP_OP_HEAD("Concat", 1, 0),
    .min_in = 1,
    .max_in = -1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = concat_infer,
    .run = concat_run,
};
