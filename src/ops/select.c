#include "ops/move.h"

/* ---- NonZero ---- */

static sparoa_status nonzero_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_ALL, err));
    const sparoa_tensor *in = node->in[0];
    int64_t dims[2] = {in->rank < 0   ? -1
                       : in->rank > 0 ? in->rank
                                      : 1,
                       sp_known(in) ? sp_count(in) : -1};
    sp_set_shape(node->out[0], SPAROA_INT64, 2, dims);
    return sp_check_shape(node, node->out[0], err);
}

/* Visits the elements in order: counts them where `out` is NULL, else writes coordinates. */
static int64_t nonzero_scan(const sparoa_tensor *in, int64_t *out, int64_t found)
{
    int64_t total = sp_count(in), n = 0, strides[SPAROA_MAX_RANK];
    sp_strides(in, strides);
#define SCAN(ctype, test)                                                                          \
    for (int64_t i = 0; i < total; i++) {                                                          \
        ctype v = ((const ctype *)in->data)[i];                                                    \
        if (!(test)) continue;                                                                     \
        if (out) {                                                                                 \
            if (in->rank == 0) out[n] = 0;                                                         \
            for (int32_t a = 0; a < in->rank; a++)                                                 \
                out[a * found + n] = i / strides[a] % in->dims[a];                                 \
        }                                                                                          \
        n++;                                                                                       \
    }                                                                                              \
    break;
    switch (in->dtype) {
#define X(ctype, dt)                                                                               \
    case dt: SCAN(ctype, v != 0)
        SP_FOR_NUMBERS(X)
#undef X
    case SPAROA_BOOL: SCAN(uint8_t, v != 0)
    case SPAROA_FLOAT16:
    case SPAROA_BFLOAT16: SCAN(uint16_t, (v & 0x7fff) != 0) /* all but the two zeros */
    default: break;
    }
#undef SCAN
    return n;
}

static sparoa_status nonzero_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    int64_t found = nonzero_scan(node->in[0], NULL, 0);
    node->out[0]->dims[1] = found;
    if (found) nonzero_scan(node->in[0], node->out[0]->data, found);
    return SPAROA_OK;
}

/* ONNX NonZero, versions 9 and 13. A scalar counts as one axis. */
SP_OP(NonZero) = {
    SP_OP_HEAD("NonZero", 9, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_TRIMS,
    .infer = nonzero_infer,
    .run = nonzero_run,
};

/* ---- Compress ---- */

/* The input as (outer, n, inner): along the axis, or flat without one. */
static sparoa_status compress_axis(const sparoa_node *node, bool *flat, int32_t *axis,
                                   sparoa_error *err)
{
    *axis = 0;
    *flat = !sparoa_attr_find(node, "axis");
    if (*flat) return SPAROA_OK;
    return sp_axis(node, sparoa_attr_int(node, "axis", 0), node->in[0]->rank, false, axis, err);
}

static sparoa_status compress_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_type(node, 1, 1u << SPAROA_BOOL, err));
    const sparoa_tensor *in = node->in[0], *condition = node->in[1];
    sparoa_tensor *out = node->out[0];
    bool flat;
    int32_t axis;
    if (condition->rank >= 0 && condition->rank != 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "condition has rank %d, expected 1",
                           condition->rank);
    sp_set_shape(out, in->dtype, sparoa_attr_find(node, "axis") ? in->rank : 1, NULL);
    if (in->rank < 0) return SPAROA_OK;
    SP_TRY(compress_axis(node, &flat, &axis, err));
    int64_t most = flat ? (sp_known(in) ? sp_count(in) : -1) : in->dims[axis];
    int64_t listed = condition->rank < 0 ? -1 : condition->dims[0];
    if (!flat) sp_copy_fact(out, in);
    out->dims[axis] = most < 0 || listed < 0 ? most : listed < most ? listed : most;
    return SPAROA_OK;
}

static sparoa_status compress_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *condition = node->in[1];
    sparoa_tensor *out = node->out[0];
    bool flat;
    int32_t axis;
    SP_TRY(compress_axis(node, &flat, &axis, exec->err));
    int64_t n = flat ? sp_count(in) : in->dims[axis], outer = flat ? 1 : sp_outer(in, axis);
    int64_t block = (flat ? 1 : sp_inner(in, axis)) * (int64_t)sparoa_dtype_size(in->dtype),
            kept = 0;
    int64_t listed = condition->dims[0] < n ? condition->dims[0] : n;
    const uint8_t *keep = condition->data;
    const char *src = in->data;
    char *dst = out->data;
    for (int64_t i = 0; i < listed; i++) kept += keep[i] != 0;
    out->dims[axis] = kept;
    for (int64_t o = 0; o < outer && kept && block; o++, src += n * block)
        for (int64_t i = 0; i < listed; i++) {
            if (!keep[i]) continue;
            sp_copy_block(dst, src + i * block, (size_t)block);
            dst += block;
        }
    return SPAROA_OK;
}

/* ONNX Compress, versions 9 to 28. */
SP_OP(Compress) = {
    SP_OP_HEAD("Compress", 9, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_TRIMS,
    .infer = compress_infer,
    .run = compress_run,
};
