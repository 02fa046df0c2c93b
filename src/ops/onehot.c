#include "ops/move.h"

static sparoa_status read_depth(const sparoa_node *node, int64_t *depth, sparoa_error *err)
{
    const sparoa_tensor *t = node->in[1];
    *depth = -1;
    if (!sp_known(t)) return SPAROA_OK;
    if (sp_count(t) != 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "depth has %lld elements, expected one", (long long)sp_count(t));
    if (!t->data) return SPAROA_OK;
    double d = sp_get_f64(t, 0);
    if (!(d >= 0 && d < 0x1p58))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "depth=%g is out of range", d);
    *depth = (int64_t)d;
    return SPAROA_OK;
}

static sparoa_status onehot_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 3, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_NUMBER, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_NUMBER, err));
    const sparoa_tensor *indices = node->in[0], *values = node->in[2];
    sparoa_tensor *out = node->out[0];
    int64_t depth;
    int32_t axis;
    if (sp_known(values) && sp_count(values) != 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "values has %lld elements, expected 2",
                           (long long)sp_count(values));
    SP_TRY(read_depth(node, &depth, err));
    sp_set_shape(out, values->dtype, -1, NULL);
    if (indices->rank < 0) return SPAROA_OK;
    if (indices->rank >= SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "indices has rank %d, at most %d is possible", indices->rank,
                           SPAROA_MAX_RANK - 1);
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), indices->rank + 1, false, &axis, err));
    sp_set_shape(out, values->dtype, indices->rank + 1, NULL);
    for (int32_t i = 0; i <= indices->rank; i++)
        out->dims[i] = i == axis ? depth : indices->dims[i < axis ? i : i - 1];
    return sp_check_shape(node, out, err);
}

/* Index i wrapped once; -1 where it selects nothing. */
static int64_t hot_index(const sparoa_tensor *indices, int64_t i, int64_t depth)
{
    double v = sp_get_f64(indices, i);
    if (v < 0) v += (double)depth;
    return v >= 0 && v < (double)depth ? (int64_t)v : -1;
}

typedef struct onehot_args {
    const sparoa_tensor *indices;
    char *out;
    const char *values;
    int64_t depth, inner;
    size_t size;
} onehot_args;

static void onehot_piece(void *arg, int64_t begin, int64_t end)
{
    const onehot_args *a = arg;
    int64_t size = (int64_t)a->size, block = a->depth * a->inner;
    sp_fill(a->out + begin * block * size, a->size, (end - begin) * block, a->values);
    for (int64_t o = begin; o < end; o++)
        for (int64_t i = 0; i < a->inner; i++) {
            int64_t hot = hot_index(a->indices, o * a->inner + i, a->depth);
            if (hot >= 0)
                memcpy(a->out + (o * block + hot * a->inner + i) * size, a->values + size, a->size);
        }
}

static sparoa_status onehot_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *out = node->out[0];
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), node->in[0]->rank + 1, false, &axis,
                   exec->err));
    onehot_args a = {node->in[0],     out->data,           node->in[2]->data,
                     out->dims[axis], sp_inner(out, axis), sparoa_dtype_size(out->dtype)};
    if (sp_count(out) == 0) return SPAROA_OK;
    sp_parallel_for(exec, sp_outer(out, axis), 16384 / (a.depth * a.inner) + 1, onehot_piece, &a);
    return SPAROA_OK;
}

/* ONNX OneHot, versions 9 to 28. */
SP_OP(OneHot) = {
    SP_OP_HEAD("OneHot", 9, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = onehot_infer,
    .run = onehot_run,
};
