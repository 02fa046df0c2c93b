#include "ops/op.h"

/* The part of the shape that Shape gives: attributes start and end, clamped to 0..rank. */
static void shape_range(const sparoa_node *node, int32_t rank, int32_t *from, int32_t *to)
{
    int64_t a = sparoa_attr_int(node, "start", 0), b = sparoa_attr_int(node, "end", rank);
    if (a < 0) a += rank;
    if (b < 0) b += rank;
    a = a < 0 ? 0 : a > rank ? rank : a;
    b = b < 0 ? 0 : b > rank ? rank : b;
    *from = (int32_t)a;
    *to = (int32_t)(b < a ? a : b);
}

static sparoa_status shape_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    int32_t from = 0, to = 0;
    int64_t n = -1;
    if (node->in[0]->rank >= 0) {
        shape_range(node, node->in[0]->rank, &from, &to);
        n = to - from;
    }
    sp_set_shape(node->out[0], SPAROA_INT64, 1, &n);
    return SPAROA_OK;
}

static sparoa_status shape_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    int32_t from, to;
    shape_range(node, node->in[0]->rank, &from, &to);
    if (to > from)
        memcpy(node->out[0]->data, node->in[0]->dims + from, (size_t)(to - from) * sizeof(int64_t));
    return SPAROA_OK;
}

static sparoa_status size_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    sp_set_shape(node->out[0], SPAROA_INT64, 0, NULL);
    return SPAROA_OK;
}

static sparoa_status size_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    *(int64_t *)node->out[0]->data = sp_count(node->in[0]);
    return SPAROA_OK;
}

/* ONNX Shape, versions 1 to 25; start and end since 15. */
SP_OP(Shape) = {
    SP_OP_HEAD("Shape", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_SHAPE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_SHAPE_ONLY,
    .infer = shape_infer,
    .run = shape_run,
};

/* ONNX Size, versions 1 to 25. */
SP_OP(Size) = {
    SP_OP_HEAD("Size", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_SHAPE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_SHAPE_ONLY,
    .infer = size_infer,
    .run = size_run,
};
