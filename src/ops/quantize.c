/* QuantizeLinear and DequantizeLinear: one scale per tensor, per index of an axis, or per block
 * along an axis. */
#include "ops/eltwise.h"
#include "ops/quant.h"

#define CHUNK 256

/* y = x / scale + zero_point, for inputs x, scale, zero_point. One pass for each limit: compilers
 * turn a single choice into a minimum or maximum, but two in a row into branches. */
#define QUANTIZE(T, S, lo, hi)                                                                     \
    static void quantize_row_##T##_##S(const S *x, float scale, int32_t zero, int64_t n, T *y)     \
    {                                                                                              \
        const float least = (float)(lo - zero), most = (float)(hi - zero);                         \
        float v[CHUNK];                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const float q = (float)x[i] / scale;                                                   \
            v[i] = q > least ? q : least;                                                          \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) v[i] = v[i] < most ? v[i] : most;                          \
        for (int64_t i = 0; i < n; i++) y[i] = (T)(sp_round_small(v[i]) + zero);                   \
    }                                                                                              \
    static void quantize_##T##_##S(const sp_run *run)                                              \
    {                                                                                              \
        for (int64_t r = 0; r < run->rows; r++) {                                                  \
            const S *x = (const S *)run->in[0] + r * run->row[0];                                  \
            const float *scale = (const float *)run->in[1] + r * run->row[1];                      \
            const T *zero = (const T *)run->in[2] + r * run->row[2];                               \
            T *y = (T *)run->out + r * run->n;                                                     \
            if (run->step[1] || run->step[2])                                                      \
                for (int64_t i = 0; i < run->n; i++)                                               \
                    y[i] = (T)sp_quantize((float)x[i] / scale[i * run->step[1]],                   \
                                          zero[i * run->step[2]], lo, hi);                         \
            else                                                                                   \
                for (int64_t i = 0; i < run->n; i += CHUNK)                                        \
                    quantize_row_##T##_##S(x + i, *scale, *zero,                                   \
                                           run->n - i < CHUNK ? run->n - i : CHUNK, y + i);        \
        }                                                                                          \
    }
#define X(S)                                                                                       \
    QUANTIZE(int8_t, S, INT8_MIN, INT8_MAX)                                                        \
    QUANTIZE(uint8_t, S, 0, UINT8_MAX)                                                             \
    QUANTIZE(int16_t, S, INT16_MIN, INT16_MAX)                                                     \
    QUANTIZE(uint16_t, S, 0, UINT16_MAX)
X(float)
X(int32_t)
#undef X

/* y = (x - zero_point) * scale. */
#define X(T, dt)                                                                                   \
    static void dequantize_##T(const sp_run *run)                                                  \
    {                                                                                              \
        for (int64_t r = 0; r < run->rows; r++) {                                                  \
            const T *x = (const T *)run->in[0] + r * run->row[0];                                  \
            const float *scale = (const float *)run->in[1] + r * run->row[1];                      \
            const T *zero = (const T *)run->in[2] + r * run->row[2];                               \
            float *y = (float *)run->out + r * run->n;                                             \
            if (run->step[1] || run->step[2]) {                                                    \
                for (int64_t i = 0; i < run->n; i++)                                               \
                    y[i] = (float)(int32_t)((uint32_t)x[i] - (uint32_t)zero[i * run->step[2]]) *   \
                           scale[i * run->step[1]];                                                \
            } else {                                                                               \
                const float s = *scale;                                                            \
                const uint32_t z = (uint32_t)*zero;                                                \
                SP_IVDEP for (int64_t i = 0; i < run->n; i++) y[i] =                               \
                    (float)(int32_t)((uint32_t)x[i] - z) * s;                                      \
            }                                                                                      \
        }                                                                                          \
    }
X(int8_t, 0)
X(uint8_t, 0)
X(int16_t, 0)
X(uint16_t, 0)
X(int32_t, 0)
#undef X

/* x as [outer, axis, inner] and which part of it shares a scale. */
typedef struct q_layout {
    int64_t outer, axis, inner;
    int64_t block; /* > 0: that many indices of the axis share a scale, which varies along outer and
                      inner */
    int64_t scales; /* without blocks: 1 or `axis` scales */
} q_layout;

static sparoa_status check_blocks(const sparoa_node *node, const sparoa_tensor *x,
                                  const sparoa_tensor *scale, int32_t axis, int64_t block,
                                  sparoa_error *err)
{
    bool fits = scale->rank == x->rank;
    for (int32_t i = 0; fits && i < x->rank; i++) {
        int64_t have = scale->dims[i], want = x->dims[i];
        if (want >= 0 && i == axis) want = want / block + (want % block != 0);
        fits = have < 0 || want < 0 || have == want;
    }
    if (fits) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                       "the scale's shape does not fit block_size=%lld on axis %d",
                       (long long)block, axis);
}

/* Works out the layout as far as shapes are known; what it holds counts only where all are. */
static sparoa_status layout_of(const sparoa_node *node, q_layout *l, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *scale = node->in[1], *zero = sparoa_in(node, 2);
    const int64_t block = sparoa_attr_int(node, "block_size", 0);
    *l = (q_layout){.outer = 1, .axis = 1, .inner = 1, .scales = 1};
    if (block < 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "block_size=%lld", (long long)block);
    if (zero && sp_known(zero) && sp_known(scale) && sp_count(zero) != sp_count(scale))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "%lld zero points but %lld scales",
                           (long long)sp_count(zero), (long long)sp_count(scale));
    if (x->rank < 0 || !sp_known(scale)) return SPAROA_OK;
    int32_t axis = 0;
    if (sp_count(scale) == 1 && block == 0) {
        if (sp_known(x)) l->inner = sp_count(x);
        return SPAROA_OK;
    }
    if (x->rank != 1 || block > 0)
        SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 1), x->rank, false, &axis, err));
    if (block > 0) {
        SP_TRY(check_blocks(node, x, scale, axis, block, err));
        l->block = block;
    } else if (scale->rank != 1 || (x->dims[axis] >= 0 && x->dims[axis] != scale->dims[0])) {
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the scale must be one value or as many as axis %d has indices", axis);
    }
    if (!sp_known(x)) return SPAROA_OK;
    l->outer = sp_dims_product(x, 0, axis);
    l->axis = l->scales = x->dims[axis];
    l->inner = sp_dims_product(x, axis + 1, x->rank);
    return SPAROA_OK;
}

/* One call of the broadcast engine: everything at the given offsets, in the given shapes. */
typedef struct q_part {
    int32_t rank, scale_rank;
    int64_t dims[4], scale_dims[4];
    int64_t offset, scale_offset; /* elements */
} q_part;

static void run_part(const sparoa_node *node, const sparoa_exec *exec, const q_part *part,
                     sp_run_fn fn)
{
    static const int64_t none = 0;
    const sparoa_tensor *x = node->in[0], *scale = node->in[1], *zero = sparoa_in(node, 2);
    /* where no zero point is given: one of the narrow type, x's or y's */
    const sparoa_dtype narrow = sp_is_float(node->out[0]->dtype) ? x->dtype : node->out[0]->dtype;
    sparoa_tensor out =
        sparoa_tensor_view(node->out[0]->dtype, node->out[0]->data, part->rank, part->dims);
    sparoa_tensor vx = sparoa_tensor_view(x->dtype, x->data, part->rank, part->dims);
    sparoa_tensor vs =
        sparoa_tensor_view(scale->dtype, scale->data, part->scale_rank, part->scale_dims);
    sparoa_tensor vz = sparoa_tensor_view(narrow, (void *)&none, 0, NULL);
    if (zero) {
        vz = sparoa_tensor_view(zero->dtype, zero->data, part->scale_rank, part->scale_dims);
        vz.data = (char *)vz.data + (size_t)part->scale_offset * sparoa_dtype_size(vz.dtype);
    }
    out.data = (char *)out.data + (size_t)part->offset * sparoa_dtype_size(out.dtype);
    vx.data = (char *)vx.data + (size_t)part->offset * sparoa_dtype_size(vx.dtype);
    vs.data = (char *)vs.data + (size_t)part->scale_offset * sparoa_dtype_size(vs.dtype);
    const sparoa_tensor *in[3] = {&vx, &vs, &vz};
    sp_bcast_run(exec, &out, 3, in, fn, NULL, SP_GRAIN);
}

static sparoa_status run_layout(const sparoa_node *node, const sparoa_exec *exec, sp_run_fn fn)
{
    q_layout l;
    if (!fn)
        return sparoa_fail(exec->err, SPAROA_UNSUPPORTED_TYPE, node,
                           "no implementation for %s to %s", sparoa_dtype_name(node->in[0]->dtype),
                           sparoa_dtype_name(node->out[0]->dtype));
    if (sp_count(node->out[0]) <= 0) return SPAROA_OK;
    SP_TRY(layout_of(node, &l, exec->err));
    if (l.block == 0) {
        q_part all = {3, 2, {l.outer, l.axis, l.inner}, {l.scales, 1}, 0, 0};
        run_part(node, exec, &all, fn);
        return SPAROA_OK;
    }
    const int64_t full = l.axis / l.block, tail = l.axis % l.block, blocks = full + (tail != 0);
    if (tail == 0) {
        q_part all = {4, 4, {l.outer, full, l.block, l.inner}, {l.outer, full, 1, l.inner}, 0, 0};
        run_part(node, exec, &all, fn);
        return SPAROA_OK;
    }
    for (int64_t o = 0; o < l.outer; o++) {
        q_part head = {3,
                       3,
                       {full, l.block, l.inner},
                       {full, 1, l.inner},
                       o * l.axis * l.inner,
                       o * blocks * l.inner};
        q_part rest = {2,
                       2,
                       {tail, l.inner},
                       {1, l.inner},
                       head.offset + full * l.block * l.inner,
                       head.scale_offset + full * l.inner};
        run_part(node, exec, &head, fn);
        run_part(node, exec, &rest, fn);
    }
    return SPAROA_OK;
}

#define SCALE_TYPES (SP_TYPES_FLOAT & ~(1u << SPAROA_FLOAT64))

static sparoa_status quantize_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *zero = sparoa_in(node, 2);
    q_layout l;
    SP_TRY(sp_check_type(node, 0, SCALE_TYPES | 1u << SPAROA_INT32, err));
    SP_TRY(sp_check_type(node, 1, SCALE_TYPES, err));
    if (zero) SP_TRY(sp_check_type(node, 2, SP_TYPES_Q8 | SP_TYPES_Q16, err));
    int64_t given = sparoa_attr_int(node, "output_dtype", 0);
    int64_t type = given ? given : zero ? (int64_t)zero->dtype : SPAROA_UINT8;
    if (type < 0 || type > 31 || !((SP_TYPES_Q8 | SP_TYPES_Q16) >> type & 1u))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "output_dtype=%lld is not an 8- or 16-bit integer", (long long)type);
    if (zero && (int64_t)zero->dtype != type)
        return sparoa_fail(err, SPAROA_TYPE_MISMATCH, node,
                           "output_dtype=%lld but the zero point is %s", (long long)type,
                           sparoa_dtype_name(zero->dtype));
    SP_TRY(layout_of(node, &l, err));
    SP_TRY(sp_infer_same(node, err));
    node->out[0]->dtype = (sparoa_dtype)type;
    return SPAROA_OK;
}

static sparoa_status quantize_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const bool ints = node->in[0]->dtype == SPAROA_INT32;
    sp_run_fn fn = NULL;
    switch (node->out[0]->dtype) {
    case SPAROA_INT8: fn = ints ? quantize_int8_t_int32_t : quantize_int8_t_float; break;
    case SPAROA_UINT8: fn = ints ? quantize_uint8_t_int32_t : quantize_uint8_t_float; break;
    case SPAROA_INT16: fn = ints ? quantize_int16_t_int32_t : quantize_int16_t_float; break;
    case SPAROA_UINT16: fn = ints ? quantize_uint16_t_int32_t : quantize_uint16_t_float; break;
    default: break;
    }
    return run_layout(node, exec, fn);
}

static sparoa_status dequantize_infer(const sparoa_node *node, sparoa_error *err)
{
    q_layout l;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_Q8 | SP_TYPES_Q16 | 1u << SPAROA_INT32, err));
    SP_TRY(sp_check_type(node, 1, SCALE_TYPES, err));
    if (sparoa_in(node, 2)) SP_TRY(sp_check_same_type(node, 0, 2, err));
    int64_t type = sparoa_attr_int(node, "output_dtype", 0);
    if (type == 0) type = node->in[1]->dtype;
    if (type < 0 || type > 31 || !(SCALE_TYPES >> type & 1u))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node, "output_dtype=%lld is not supported",
                           (long long)type);
    SP_TRY(layout_of(node, &l, err));
    SP_TRY(sp_infer_same(node, err));
    node->out[0]->dtype = (sparoa_dtype)type;
    return SPAROA_OK;
}

static sparoa_status dequantize_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_run_fn fn = NULL;
    switch (node->in[0]->dtype) {
    case SPAROA_INT8: fn = dequantize_int8_t; break;
    case SPAROA_UINT8: fn = dequantize_uint8_t; break;
    case SPAROA_INT16: fn = dequantize_int16_t; break;
    case SPAROA_UINT16: fn = dequantize_uint16_t; break;
    case SPAROA_INT32: fn = dequantize_int32_t; break;
    default: break;
    }
    return run_layout(node, exec, fn);
}

#define ROW(infer_, run_, tol, cost_)                                                              \
    .min_in = 2, .max_in = 3, .min_out = 1, .max_out = 1, .op_class = SPAROA_CLASS_ELTWISE,        \
    .tolerance = SPAROA_TOL_##tol, .infer = infer_, .cost = cost_, .run = run_

/* ONNX QuantizeLinear, versions 10, 13, 19, 21, 23, 24, 25 and 28; to 8- and 16-bit integers. */
SP_OP(QuantizeLinear) = {SP_OP_HEAD("QuantizeLinear", 10, 0),
                         ROW(quantize_infer, quantize_run, ROUNDING, sp_cost_div)};

/* ONNX DequantizeLinear, versions 10, 13, 19, 21, 23, 24, 25 and 28; from 8-, 16- and 32-bit
 * integers. */
SP_OP(DequantizeLinear) = {SP_OP_HEAD("DequantizeLinear", 10, 0),
                           ROW(dequantize_infer, dequantize_run, ROUNDING, NULL)};

/* com.microsoft QuantizeLinear, version 1. */
SP_OP(QuantizeLinear_ms) = {SP_MS_HEAD("QuantizeLinear"),
                            ROW(quantize_infer, quantize_run, ROUNDING, sp_cost_div)};

/* com.microsoft DequantizeLinear, version 1. */
SP_OP(DequantizeLinear_ms) = {SP_MS_HEAD("DequantizeLinear"),
                              ROW(dequantize_infer, dequantize_run, ROUNDING, NULL)};
