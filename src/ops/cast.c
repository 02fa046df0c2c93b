/* Cast, CastLike: numbers from any type to any other. BitCast: the same bits under another type. */
#include "ops/eltwise.h"
#include "ops/half.h"
#include "ops/truncate.h"

#define CHUNK 256 /* elements that pass through a buffer on their way to or from a half type */

/* As truncate.h says. Narrow types take the low bits of a 32-bit result and unsigned ones wrap
 * below zero, as conversions in C and numpy usually come out. */
#define int8_t_FROM(F, x) SP_TO_I32(F, x)
#define int16_t_FROM(F, x) SP_TO_I32(F, x)
#define int32_t_FROM(F, x) SP_TO_I32(F, x)
#define int64_t_FROM(F, x) SP_TO_I64(F, x)
#define uint8_t_FROM(F, x) SP_TO_I32(F, x)
#define uint16_t_FROM(F, x) SP_TO_I32(F, x)
#define uint32_t_FROM(F, x) SP_TO_I64(F, x)
#define uint64_t_FROM(F, x)                                                                        \
    ((x) >= (F)0x1p64 ? UINT64_MAX : (x) >= (F)0x1p63 ? (uint64_t)(x) : (uint64_t)SP_TO_I64(F, x))

/* For one source type S: to every native type. Integers to integers wrap. */
#define TO_BOOL(S) SP_UNARY_LOOP(bool_of_##S, S, uint8_t, x != 0)
#define TO_FLOATS(S)                                                                               \
    SP_UNARY_LOOP(float_of_##S, S, float, x)                                                       \
    SP_UNARY_LOOP(double_of_##S, S, double, x)
#define INT_OF_INT(T, S) SP_UNARY_LOOP(T##_of_##S, S, T, x)
#define INT_OF_FLOAT(T, S) SP_UNARY_LOOP(T##_of_##S, S, T, T##_FROM(S, x))
#define TO_INTS(OF, S)                                                                             \
    OF(int8_t, S)                                                                                  \
    OF(int16_t, S)                                                                                 \
    OF(int32_t, S) OF(int64_t, S) OF(uint8_t, S) OF(uint16_t, S) OF(uint32_t, S) OF(uint64_t, S)
#define X(S, dt) TO_BOOL(S) TO_FLOATS(S) TO_INTS(INT_OF_INT, S)
SP_FOR_INTS(X)
#undef X
#define X(S, dt) TO_BOOL(S) TO_FLOATS(S) TO_INTS(INT_OF_FLOAT, S)
SP_FOR_FLOATS(X)
#undef X
/* A truth value is 0 or 1 whatever its byte. */
SP_UNARY_LOOP(clean_bool, uint8_t, uint8_t, x != 0)

#define FROM(S)                                                                                    \
    static sp_unary_fn from_##S(sparoa_dtype to)                                                   \
    {                                                                                              \
        switch (to) {                                                                              \
        case SPAROA_BOOL: return bool_of_##S;                                                      \
        case SPAROA_FLOAT32: return float_of_##S;                                                  \
        case SPAROA_FLOAT64: return double_of_##S;                                                 \
        case SPAROA_INT8: return int8_t_of_##S;                                                    \
        case SPAROA_INT16: return int16_t_of_##S;                                                  \
        case SPAROA_INT32: return int32_t_of_##S;                                                  \
        case SPAROA_INT64: return int64_t_of_##S;                                                  \
        case SPAROA_UINT8: return uint8_t_of_##S;                                                  \
        case SPAROA_UINT16: return uint16_t_of_##S;                                                \
        case SPAROA_UINT32: return uint32_t_of_##S;                                                \
        case SPAROA_UINT64: return uint64_t_of_##S;                                                \
        default: return NULL;                                                                      \
        }                                                                                          \
    }
#define X(S, dt) FROM(S)
SP_FOR_NUMBERS(X)
#undef X

/* Between types other than the halves; bool counts as uint8. */
static sp_unary_fn native_cast(sparoa_dtype from, sparoa_dtype to)
{
    if (from == SPAROA_BOOL && (to == SPAROA_BOOL || to == SPAROA_UINT8 || to == SPAROA_INT8))
        return clean_bool;
    switch (from) {
#define X(S, dt)                                                                                   \
    case dt: return from_##S(to);
        SP_FOR_NUMBERS(X)
#undef X
    case SPAROA_BOOL: return from_uint8_t(to);
    default: return NULL;
    }
}

/* double to float so that a second rounding to fewer bits comes out as if there were one: an
 * inexact result gets an odd last bit ("round to odd"). */
static float narrow_to_odd(double v)
{
    float f = (float)v;
    if ((double)f == v || v != v || isinf(f)) return f;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (bits & 1u) return f;
    bool away = fabs((double)f) > fabs(v);
    bits = away ? bits - 1 : bits + 1;
    memcpy(&f, &bits, sizeof f);
    return f;
}

typedef struct cast_job {
    const char *in;
    char *out;
    sparoa_dtype from, to;
} cast_job;

static void widen_chunk(const uint16_t *x, sparoa_dtype from, int64_t n, float *y)
{
    if (from == SPAROA_FLOAT16)
        for (int64_t i = 0; i < n; i++) y[i] = sp_f32_of_f16(x[i]);
    else
        for (int64_t i = 0; i < n; i++) y[i] = sp_f32_of_bf16(x[i]);
}

static void narrow_chunk(const float *x, sparoa_dtype to, int64_t n, uint16_t *y)
{
    if (to == SPAROA_FLOAT16)
        for (int64_t i = 0; i < n; i++) y[i] = sp_f16_of_f32(x[i]);
    else
        for (int64_t i = 0; i < n; i++) y[i] = sp_bf16_of_f32(x[i]);
}

/* At most CHUNK elements of any type as floats that still round correctly to a half type. */
static void to_floats(const void *x, sparoa_dtype from, int64_t n, float *y)
{
    double wide[CHUNK];
    if (sp_is_half(from)) {
        widen_chunk(x, from, n, y);
    } else if (from == SPAROA_FLOAT32) {
        memcpy(y, x, (size_t)n * sizeof *y);
    } else {
        native_cast(from, SPAROA_FLOAT64)(x, wide, n, NULL);
        for (int64_t i = 0; i < n; i++) y[i] = narrow_to_odd(wide[i]);
    }
}

static void cast_piece(void *arg, int64_t begin, int64_t end)
{
    const cast_job *job = arg;
    const size_t from_size = sparoa_dtype_size(job->from), to_size = sparoa_dtype_size(job->to);
    const char *x = job->in + (size_t)begin * from_size;
    char *y = job->out + (size_t)begin * to_size;
    if (!sp_is_half(job->from) && !sp_is_half(job->to)) {
        native_cast(job->from, job->to)(x, y, end - begin, NULL);
        return;
    }
    float buffer[CHUNK];
    for (int64_t i = begin; i < end; i += CHUNK) {
        const int64_t n = end - i < CHUNK ? end - i : CHUNK;
        to_floats(x, job->from, n, buffer);
        if (sp_is_half(job->to))
            narrow_chunk(buffer, job->to, n, (uint16_t *)y);
        else
            native_cast(SPAROA_FLOAT32, job->to)(buffer, y, n, NULL);
        x += (size_t)n * from_size;
        y += (size_t)n * to_size;
    }
}

static sparoa_status cast_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    if (in->dtype == out->dtype) {
        sp_copy_data(out, in);
        return SPAROA_OK;
    }
    cast_job job = {in->data, out->data, in->dtype, out->dtype};
    sp_parallel_for(exec, sp_count(in), SP_GRAIN, cast_piece, &job);
    return SPAROA_OK;
}

/* Attribute `to`: a number, and the name of a type before opset 6. SPAROA_UNDEFINED if it is none.
 */
static sparoa_dtype target_type(const sparoa_node *node)
{
    static const struct {
        const char *name;
        sparoa_dtype type;
    } names[] = {{"FLOAT", SPAROA_FLOAT32}, {"DOUBLE", SPAROA_FLOAT64}, {"FLOAT16", SPAROA_FLOAT16},
                 {"INT8", SPAROA_INT8},     {"INT16", SPAROA_INT16},    {"INT32", SPAROA_INT32},
                 {"INT64", SPAROA_INT64},   {"UINT8", SPAROA_UINT8},    {"UINT16", SPAROA_UINT16},
                 {"UINT32", SPAROA_UINT32}, {"UINT64", SPAROA_UINT64},  {"BOOL", SPAROA_BOOL}};
    const char *name = sparoa_attr_string(node, "to", NULL);
    for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i].name) == 0) return names[i].type;
    int64_t to = sparoa_attr_int(node, "to", 0);
    return to > 0 && to < 32 && (SP_TYPES_ALL >> to & 1u) ? (sparoa_dtype)to : SPAROA_UNDEFINED;
}

static sparoa_status cast_infer(const sparoa_node *node, sparoa_error *err)
{
    sparoa_dtype to = target_type(node);
    SP_TRY(sp_check_type(node, 0, SP_TYPES_ALL, err));
    if (to == SPAROA_UNDEFINED)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "attribute to=%lld is no supported element type",
                           (long long)sparoa_attr_int(node, "to", 0));
    SP_TRY(sp_infer_same(node, err));
    node->out[0]->dtype = to;
    return SPAROA_OK;
}

static sparoa_status cast_like_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_ALL, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_ALL, err));
    SP_TRY(sp_infer_same(node, err));
    node->out[0]->dtype = node->in[1]->dtype;
    return SPAROA_OK;
}

static sparoa_status bitcast_infer(const sparoa_node *node, sparoa_error *err)
{
    sparoa_dtype from = node->in[0]->dtype;
    SP_TRY(cast_infer(node, err));
    if (sparoa_dtype_size(from) != sparoa_dtype_size(node->out[0]->dtype))
        return sparoa_fail(err, SPAROA_TYPE_MISMATCH, node, "%s and %s differ in size",
                           sparoa_dtype_name(from), sparoa_dtype_name(node->out[0]->dtype));
    return SPAROA_OK;
}

static sparoa_status bitcast_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    sp_copy_data(node->out[0], node->in[0]);
    return SPAROA_OK;
}

/* ONNX Cast, versions 1, 6, 9, 13, 19, 21, 23, 24, 25 and 28; no strings, no types below 8 bits, no
 * float8. */
SP_OP(Cast) = {SP_OP_HEAD("Cast", 1, 0),
               .min_in = 1,
               .max_in = 1,
               .min_out = 1,
               .max_out = 1,
               .op_class = SPAROA_CLASS_ELTWISE,
               .tolerance = SPAROA_TOL_EXACT,
               .flags = SPAROA_OP_INPLACE | SPAROA_OP_UNARY_POINTWISE | SPAROA_OP_HALF,
               .infer = cast_infer,
               .run = cast_run};

/* ONNX CastLike, versions 15, 19, 21, 23, 24 and 25: as Cast, to the type of input 1. */
SP_OP(CastLike) = {SP_OP_HEAD("CastLike", 15, 0),
                   .min_in = 2,
                   .max_in = 2,
                   .min_out = 1,
                   .max_out = 1,
                   .op_class = SPAROA_CLASS_ELTWISE,
                   .tolerance = SPAROA_TOL_EXACT,
                   .flags = SPAROA_OP_UNARY_POINTWISE | SPAROA_OP_HALF,
                   .infer = cast_like_infer,
                   .run = cast_run};

/* ONNX BitCast, version 26. */
SP_OP(BitCast) = {SP_OP_HEAD("BitCast", 26, 0),
                  .min_in = 1,
                  .max_in = 1,
                  .min_out = 1,
                  .max_out = 1,
                  .op_class = SPAROA_CLASS_MOVE,
                  .tolerance = SPAROA_TOL_EXACT,
                  .flags = SPAROA_OP_UNARY_POINTWISE,
                  .infer = bitcast_infer,
                  .run = bitcast_run};
