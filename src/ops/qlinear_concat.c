#include "ops/eltwise.h"
#include "ops/quant.h"

/* Inputs Y_scale, Y_zero_point, then tensor, scale and zero point of each part. */
#define PART(i) (2 + 3 * (i))

static int32_t parts(const sparoa_node *node)
{
    return (node->n_in - 2) / 3;
}

static sparoa_status check_part(const sparoa_node *node, int32_t i, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, PART(i), SP_TYPES_Q8, err));
    SP_TRY(sp_check_same_type(node, PART(0), PART(i), err));
    SP_TRY(sp_q_check_scale(node, PART(i) + 1, -1, err));
    return sp_q_check_zero(node, PART(i) + 2, 1u << node->in[PART(0)]->dtype, -1, err);
}

/* Adds part i to the shape gathered so far. */
static sparoa_status join(const sparoa_node *node, int32_t i, sparoa_tensor *out, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[PART(i)];
    int32_t axis;
    if (x->rank < 0 || out->rank < 0) {
        out->rank = -1;
        return SPAROA_OK;
    }
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), out->rank, false, &axis, err));
    bool fits = x->rank == out->rank;
    for (int32_t d = 0; fits && d < x->rank; d++) {
        if (d == axis) continue;
        fits = x->dims[d] == out->dims[d] || x->dims[d] < 0 || out->dims[d] < 0;
        if (out->dims[d] < 0) out->dims[d] = x->dims[d];
    }
    int64_t sum = -1;
    if (!fits || (x->dims[axis] >= 0 && out->dims[axis] >= 0 &&
                  __builtin_add_overflow(x->dims[axis], out->dims[axis], &sum)))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the shape of input %d does not fit the others", PART(i));
    out->dims[axis] = sum;
    return SPAROA_OK;
}

static sparoa_status concat_infer(const sparoa_node *node, sparoa_error *err)
{
    if ((node->n_in - 2) % 3 != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "%d inputs, expected 2 and 3 for each part", node->n_in);
    int32_t axis;
    SP_TRY(sp_q_check_scale(node, 0, -1, err));
    for (int32_t i = 0; i < parts(node); i++) SP_TRY(check_part(node, i, err));
    SP_TRY(sp_q_check_zero(node, 1, 1u << node->in[PART(0)]->dtype, -1, err));
    if (!sparoa_attr_find(node, "axis"))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axis is missing");
    sp_copy_fact(node->out[0], node->in[PART(0)]);
    if (node->out[0]->rank >= 0)
        SP_TRY(
            sp_axis(node, sparoa_attr_int(node, "axis", 0), node->out[0]->rank, false, &axis, err));
    for (int32_t i = 1; i < parts(node); i++) SP_TRY(join(node, i, node->out[0], err));
    return SPAROA_OK;
}

/* table[byte of part i] = byte of the output. */
static void fill_table(const sparoa_node *node, int32_t i, uint8_t *table)
{
    const sparoa_dtype t = node->out[0]->dtype;
    const float scale = sp_q_scale(node, PART(i) + 1, 0) / sp_q_scale(node, 0, 0);
    const int32_t x_zero = sp_q_zero(node, PART(i) + 2, 0), y_zero = sp_q_zero(node, 1, 0);
    int32_t lo, hi;
    sp_q_range(t, &lo, &hi);
    for (int32_t b = 0; b < 256; b++) {
        const int32_t q = t == SPAROA_INT8 ? (int8_t)b : b;
        table[b] = (uint8_t)sp_quantize((float)(q - x_zero) * scale, y_zero, lo, hi);
    }
}

static sparoa_status concat_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *out = node->out[0];
    int32_t axis;
    if (sp_count(out) <= 0) return SPAROA_OK;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), out->rank, false, &axis, exec->err));
    const int64_t outer = sp_dims_product(out, 0, axis),
                  width = sp_dims_product(out, axis, out->rank);
    uint8_t *y = out->data;
    for (int32_t i = 0; i < parts(node); i++) {
        const sparoa_tensor *in = node->in[PART(i)];
        const int64_t n = sp_dims_product(in, axis, in->rank);
        uint8_t table[256];
        fill_table(node, i, table);
        for (int64_t o = 0; o < outer; o++) {
            const uint8_t *x = (const uint8_t *)in->data + o * n;
            for (int64_t j = 0; j < n; j++) y[o * width + j] = table[x[j]];
        }
        y += n;
    }
    return SPAROA_OK;
}

/* com.microsoft QLinearConcat, version 1. */
SP_OP(QLinearConcat) = {
    SP_MS_HEAD("QLinearConcat"),
    .min_in = 5,
    .max_in = -1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = concat_infer,
    .run = concat_run,
};
