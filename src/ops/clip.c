#include "ops/eltwise.h"

/* The limits, in the member of the element type. */
typedef union limit {
#define X(T, dt) T v_##T;
    SP_FOR_NUMBERS(X)
#undef X
} limit;

typedef struct clip_arg {
    limit lo, hi;
} clip_arg;

/* The lower limit first: where they cross, the upper one wins. NaN passes through. */
#define X(T, dt)                                                                                   \
    static void clip_##T(const void *in, void *out, int64_t n, const void *arg)                    \
    {                                                                                              \
        const T lo = ((const clip_arg *)arg)->lo.v_##T;                                            \
        const T hi = ((const clip_arg *)arg)->hi.v_##T;                                            \
        const T *x = in;                                                                           \
        T *y = out;                                                                                \
        SP_IVDEP for (int64_t i = 0; i < n; i++)                                                   \
        {                                                                                          \
            const T v = x[i] < lo ? lo : x[i];                                                     \
            y[i] = v > hi ? hi : v;                                                                \
        }                                                                                          \
    }
SP_FOR_NUMBERS(X)
#undef X

static void full_range(sparoa_dtype t, clip_arg *arg)
{
    switch (t) {
    case SPAROA_FLOAT32:
        arg->lo.v_float = -3.402823466e+38f, arg->hi.v_float = 3.402823466e+38f;
        break;
    case SPAROA_FLOAT64:
        arg->lo.v_double = -1.7976931348623157e+308, arg->hi.v_double = 1.7976931348623157e+308;
        break;
    case SPAROA_INT8: arg->lo.v_int8_t = INT8_MIN, arg->hi.v_int8_t = INT8_MAX; break;
    case SPAROA_INT16: arg->lo.v_int16_t = INT16_MIN, arg->hi.v_int16_t = INT16_MAX; break;
    case SPAROA_INT32: arg->lo.v_int32_t = INT32_MIN, arg->hi.v_int32_t = INT32_MAX; break;
    case SPAROA_INT64: arg->lo.v_int64_t = INT64_MIN, arg->hi.v_int64_t = INT64_MAX; break;
    case SPAROA_UINT8: arg->lo.v_uint8_t = 0, arg->hi.v_uint8_t = UINT8_MAX; break;
    case SPAROA_UINT16: arg->lo.v_uint16_t = 0, arg->hi.v_uint16_t = UINT16_MAX; break;
    case SPAROA_UINT32: arg->lo.v_uint32_t = 0, arg->hi.v_uint32_t = UINT32_MAX; break;
    default: arg->lo.v_uint64_t = 0, arg->hi.v_uint64_t = UINT64_MAX; break;
    }
}

static sparoa_status clip_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_infer_number(node, err));
    for (int32_t i = 1; i < node->n_in; i++) {
        const sparoa_tensor *limit_in = node->in[i];
        if (!limit_in) continue;
        SP_TRY(sp_check_same_type(node, 0, i, err));
        if (sp_known(limit_in) && sp_count(limit_in) != 1)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "input %d has %lld values, expected a scalar", i,
                               (long long)sp_count(limit_in));
    }
    return SPAROA_OK;
}

static sparoa_status clip_attr_infer(const sparoa_node *node, sparoa_error *err)
{
    return sp_infer_float(node, err);
}

static sp_unary_fn clip_of(sparoa_dtype t)
{
    switch (t) {
#define X(T, dt)                                                                                   \
    case dt: return clip_##T;
        SP_FOR_NUMBERS(X)
#undef X
    default: return NULL;
    }
}

static sparoa_status clip_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *lo = sparoa_in(node, 1), *hi = sparoa_in(node, 2);
    clip_arg arg;
    full_range(in->dtype, &arg);
    if (lo) memcpy(&arg.lo, lo->data, sparoa_dtype_size(in->dtype));
    if (hi) memcpy(&arg.hi, hi->data, sparoa_dtype_size(in->dtype));
    return sp_run_unary(node, exec, clip_of(in->dtype), &arg, SP_GRAIN);
}

static sparoa_status clip_attr_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sparoa_dtype t = node->in[0]->dtype;
    clip_arg arg;
    full_range(t, &arg);
    const sparoa_attr *lo = sparoa_attr_find(node, "min"), *hi = sparoa_attr_find(node, "max");
    if (t == SPAROA_FLOAT64) {
        if (lo && lo->type == SPAROA_ATTR_FLOAT) arg.lo.v_double = lo->v.f;
        if (hi && hi->type == SPAROA_ATTR_FLOAT) arg.hi.v_double = hi->v.f;
    } else {
        if (lo && lo->type == SPAROA_ATTR_FLOAT) arg.lo.v_float = lo->v.f;
        if (hi && hi->type == SPAROA_ATTR_FLOAT) arg.hi.v_float = hi->v.f;
    }
    return sp_run_unary(node, exec, clip_of(t), &arg, SP_GRAIN);
}

/* ONNX Clip, versions 11, 12 and 13: the limits are inputs. */
SP_OP(Clip) = {
    SP_OP_HEAD("Clip", 11, 0),
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_ELTWISE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_INPLACE | SPAROA_OP_UNARY_POINTWISE,
    .infer = clip_infer,
    .run = clip_run,
};

/* ONNX Clip, versions 1 and 6: the limits are attributes. */
SP_OP(Clip_6) = {SP_OP_HEAD("Clip", 1, 10), SP_UNARY(SPAROA_TOL_EXACT), .infer = clip_attr_infer,
                 .run = clip_attr_run};
