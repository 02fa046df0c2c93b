#include "ops/op.h"

#include "ops/half.h"

const sparoa_op *sp_op_find(const char *domain, const char *name, int32_t version,
                            const sparoa_op *const *extra, size_t extra_count)
{
    if (strcmp(domain, "ai.onnx") == 0) domain = "";
    for (size_t i = 0; i < extra_count; i++) {
        const sparoa_op *op = extra[i];
        if (strcmp(op->name, name) == 0 && strcmp(op->domain, domain) == 0 &&
            version >= op->since && (op->until == 0 || version <= op->until))
            return op;
    }
    for (const sparoa_op *const *row = sp_op_table; *row; row++) {
        const sparoa_op *op = *row;
        if (strcmp(op->name, name) == 0 && strcmp(op->domain, domain) == 0 &&
            version >= op->since && (op->until == 0 || version <= op->until))
            return op;
    }
    return NULL;
}

void sp_op_cost(const sparoa_op *op, const sparoa_node *node, sparoa_cost *cost)
{
    *cost = (sparoa_cost){0};
    for (int32_t i = 0; i < node->n_in; i++) {
        if (!node->in[i]) continue;
        double bytes = (double)sparoa_tensor_bytes(node->in[i]);
        if (node->constant && node->constant[i])
            cost->bytes_w += bytes;
        else
            cost->bytes_in += bytes;
    }
    for (int32_t i = 0; i < node->n_out; i++) {
        if (!node->out[i]) continue;
        cost->bytes_out += (double)sparoa_tensor_bytes(node->out[i]);
        int64_t n = sparoa_tensor_count(node->out[i]);
        bool computes = op->op_class != SPAROA_CLASS_MOVE && op->op_class != SPAROA_CLASS_SHAPE &&
                        op->op_class != SPAROA_CLASS_CONTROL;
        if (i == 0 && n > 0 && computes) cost->flops = (double)n;
    }
    if (op->flags & SPAROA_OP_SHAPE_ONLY) cost->bytes_in = 0;
    if (op->cost) op->cost(node, cost);
}

/* ---- types ---- */

bool sp_is_half(sparoa_dtype t)
{
    return t == SPAROA_FLOAT16 || t == SPAROA_BFLOAT16;
}

bool sp_is_float(sparoa_dtype t)
{
    return (SP_TYPES_FLOAT >> t & 1u) != 0;
}

bool sp_is_int(sparoa_dtype t)
{
    return (SP_TYPES_INT >> t & 1u) != 0;
}

bool sp_is_signed(sparoa_dtype t)
{
    return sp_is_float(t) || t == SPAROA_INT8 || t == SPAROA_INT16 || t == SPAROA_INT32 ||
           t == SPAROA_INT64;
}

float sp_half_to_float(uint16_t h)
{
    return sp_f32_of_f16(h);
}

uint16_t sp_float_to_half(float f)
{
    return sp_f16_of_f32(f);
}

float sp_bfloat_to_float(uint16_t h)
{
    return sp_f32_of_bf16(h);
}

uint16_t sp_float_to_bfloat(float f)
{
    return sp_bf16_of_f32(f);
}

double sp_get_f64(const sparoa_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case SPAROA_FLOAT32: return ((const float *)t->data)[i];
    case SPAROA_FLOAT64: return ((const double *)t->data)[i];
    case SPAROA_FLOAT16: return sp_half_to_float(((const uint16_t *)t->data)[i]);
    case SPAROA_BFLOAT16: return sp_bfloat_to_float(((const uint16_t *)t->data)[i]);
    case SPAROA_UINT64: return (double)((const uint64_t *)t->data)[i];
    default: return (double)sp_get_i64(t, i);
    }
}

int64_t sp_get_i64(const sparoa_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case SPAROA_BOOL: return ((const uint8_t *)t->data)[i] != 0;
#define X(ctype, dt)                                                                               \
    case dt: return (int64_t)((const ctype *)t->data)[i];
        SP_FOR_INTS(X)
#undef X
    default: return (int64_t)sp_get_f64(t, i);
    }
}

static int64_t saturate(double v, double lo, double hi)
{
    if (!(v == v)) return 0;
    if (v <= lo) return (int64_t)lo;
    return v >= hi ? (int64_t)hi : (int64_t)v;
}

void sp_set_f64(sparoa_tensor *t, int64_t i, double v)
{
    switch (t->dtype) {
    case SPAROA_FLOAT32: ((float *)t->data)[i] = (float)v; break;
    case SPAROA_FLOAT64: ((double *)t->data)[i] = v; break;
    case SPAROA_FLOAT16: ((uint16_t *)t->data)[i] = sp_float_to_half((float)v); break;
    case SPAROA_BFLOAT16: ((uint16_t *)t->data)[i] = sp_float_to_bfloat((float)v); break;
    case SPAROA_BOOL: ((uint8_t *)t->data)[i] = v != 0; break;
    case SPAROA_INT8: ((int8_t *)t->data)[i] = (int8_t)saturate(v, INT8_MIN, INT8_MAX); break;
    case SPAROA_INT16: ((int16_t *)t->data)[i] = (int16_t)saturate(v, INT16_MIN, INT16_MAX); break;
    case SPAROA_INT32: ((int32_t *)t->data)[i] = (int32_t)saturate(v, INT32_MIN, INT32_MAX); break;
    case SPAROA_INT64:
        ((int64_t *)t->data)[i] = v >= 0x1p63    ? INT64_MAX
                                  : v <= -0x1p63 ? INT64_MIN
                                                 : saturate(v, -0x1p62 * 2, 0x1p63);
        break;
    case SPAROA_UINT8: ((uint8_t *)t->data)[i] = (uint8_t)saturate(v, 0, UINT8_MAX); break;
    case SPAROA_UINT16: ((uint16_t *)t->data)[i] = (uint16_t)saturate(v, 0, UINT16_MAX); break;
    case SPAROA_UINT32: ((uint32_t *)t->data)[i] = (uint32_t)saturate(v, 0, UINT32_MAX); break;
    case SPAROA_UINT64:
        ((uint64_t *)t->data)[i] = !(v > 0) ? 0 : v >= 0x1p64 ? UINT64_MAX : (uint64_t)v;
        break;
    default: break;
    }
}

void sp_set_i64(sparoa_tensor *t, int64_t i, int64_t v)
{
    switch (t->dtype) {
    case SPAROA_BOOL: ((uint8_t *)t->data)[i] = v != 0; break;
#define X(ctype, dt)                                                                               \
    case dt: ((ctype *)t->data)[i] = (ctype)v; break;
        SP_FOR_INTS(X)
#undef X
    default: sp_set_f64(t, i, (double)v);
    }
}

/* ---- shapes ---- */

int64_t sp_dims_product(const sparoa_tensor *t, int32_t from, int32_t to)
{
    int64_t n = 1;
    for (int32_t i = from; i < to; i++) n *= t->dims[i];
    return n;
}

bool sp_known(const sparoa_tensor *t)
{
    if (t->rank < 0) return false;
    for (int32_t i = 0; i < t->rank; i++)
        if (t->dims[i] < 0) return false;
    return true;
}

bool sp_same_shape(const sparoa_tensor *a, const sparoa_tensor *b)
{
    return a->rank == b->rank && a->rank >= 0 &&
           memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) == 0;
}

void sp_set_shape(sparoa_tensor *t, sparoa_dtype dtype, int32_t rank, const int64_t *dims)
{
    t->dtype = dtype;
    t->rank = rank;
    for (int32_t i = 0; i < rank; i++) t->dims[i] = dims ? dims[i] : -1;
}

void sp_copy_fact(sparoa_tensor *dst, const sparoa_tensor *src)
{
    sp_set_shape(dst, src->dtype, src->rank, src->dims);
}

sparoa_status sp_axis(const sparoa_node *node, int64_t axis, int32_t rank, bool inclusive,
                      int32_t *out, sparoa_error *err)
{
    int64_t a = axis < 0 ? axis + rank : axis;
    if (a < 0 || a >= rank + (inclusive ? 1 : 0))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axis=%lld is out of range for rank %d",
                           (long long)axis, rank);
    *out = (int32_t)a;
    return SPAROA_OK;
}

sparoa_status sp_broadcast(const sparoa_node *node, const sparoa_tensor *a, const sparoa_tensor *b,
                           sparoa_tensor *out, sparoa_error *err)
{
    if (a->rank < 0 || b->rank < 0) {
        out->rank = -1;
        return SPAROA_OK;
    }
    int32_t rank = a->rank > b->rank ? a->rank : b->rank;
    int64_t dims[SPAROA_MAX_RANK];
    for (int32_t i = 0; i < rank; i++) {
        int32_t ia = i - (rank - a->rank), ib = i - (rank - b->rank);
        int64_t da = ia < 0 ? 1 : a->dims[ia], db = ib < 0 ? 1 : b->dims[ib];
        if (da == 1)
            dims[i] = db;
        else if (db == 1 || da == db)
            dims[i] = da;
        else if (da < 0)
            dims[i] = db;
        else if (db < 0)
            dims[i] = da;
        else
            return sparoa_fail(
                err, SPAROA_SHAPE_MISMATCH, node,
                "dimensions %lld and %lld (axis %d of the result) cannot be broadcast",
                (long long)da, (long long)db, i);
    }
    out->rank = rank;
    memcpy(out->dims, dims, (size_t)rank * sizeof dims[0]);
    return SPAROA_OK;
}

void sp_strides(const sparoa_tensor *t, int64_t strides[SPAROA_MAX_RANK])
{
    int64_t s = 1;
    for (int32_t i = t->rank - 1; i >= 0; i--) {
        strides[i] = s;
        s *= t->dims[i];
    }
}

void sp_broadcast_strides(const sparoa_tensor *t, const sparoa_tensor *out,
                          int64_t strides[SPAROA_MAX_RANK])
{
    int64_t own[SPAROA_MAX_RANK];
    sp_strides(t, own);
    int32_t shift = out->rank - t->rank;
    for (int32_t i = 0; i < out->rank; i++)
        strides[i] = i < shift || t->dims[i - shift] == 1 ? 0 : own[i - shift];
}

sparoa_status sp_read_ints(const sparoa_node *node, int32_t input, int64_t *values, int32_t max,
                           int32_t *count, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, input);
    *count = 0;
    if (!t) return SPAROA_OK;
    if (t->dtype != SPAROA_INT64 && t->dtype != SPAROA_INT32)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "input %d is %s, expected int64 or int32", input,
                           sparoa_dtype_name(t->dtype));
    if (t->rank > 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input %d has rank %d, expected 1",
                           input, t->rank);
    *count = -1;
    if (!sp_known(t) || (!t->data && sp_count(t) > 0)) return SPAROA_OK;
    int64_t n = sp_count(t);
    if (n > max)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input %d has %lld values, at most %d are possible", input, (long long)n,
                           max);
    for (int64_t i = 0; i < n; i++) values[i] = sp_get_i64(t, i);
    *count = (int32_t)n;
    return SPAROA_OK;
}

sparoa_status sp_read_axes(const sparoa_node *node, int32_t input, int32_t rank,
                           int32_t axes[SPAROA_MAX_RANK], int32_t *count, bool *given,
                           sparoa_error *err)
{
    int64_t raw[SPAROA_MAX_RANK];
    size_t n_attr;
    const int64_t *attr = sparoa_attr_ints(node, "axes", &n_attr);
    *count = 0;
    *given = attr != NULL || (input >= 0 && sparoa_in(node, input));
    if (attr) {
        if (n_attr > SPAROA_MAX_RANK)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axes has %zu entries", n_attr);
        *count = (int32_t)n_attr;
        memcpy(raw, attr, n_attr * sizeof raw[0]);
    } else if (input >= 0) {
        SP_TRY(sp_read_ints(node, input, raw, SPAROA_MAX_RANK, count, err));
    }
    for (int32_t i = 0; i < *count; i++) SP_TRY(sp_axis(node, raw[i], rank, false, &axes[i], err));
    return SPAROA_OK;
}

sparoa_status sp_check_shape(const sparoa_node *node, const sparoa_tensor *t, sparoa_error *err)
{
    int64_t n = 8;
    for (int32_t i = 0; i < t->rank; i++) {
        if (t->dims[i] < -1)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "dimension %d of the output would be %lld", i,
                               (long long)t->dims[i]);
        if (t->dims[i] > 1 && (__builtin_mul_overflow(n, t->dims[i], &n) || n >= (int64_t)1 << 62))
            return sparoa_fail(
                err, SPAROA_SHAPE_MISMATCH, node,
                "the output would have more elements than memory can hold (dimension %d is %lld)",
                i, (long long)t->dims[i]);
    }
    return SPAROA_OK;
}

/* ---- checks ---- */

sparoa_status sp_check_present(const sparoa_node *node, int32_t n_in, int32_t n_out,
                               sparoa_error *err)
{
    for (int32_t i = 0; i < n_in; i++)
        if (!sparoa_in(node, i))
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "input %d is missing", i);
    for (int32_t i = 0; i < n_out; i++)
        if (!sparoa_out(node, i))
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "output %d is missing", i);
    return SPAROA_OK;
}

sparoa_status sp_check_type(const sparoa_node *node, int32_t i, uint32_t types, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    if (!t) return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "input %d is missing", i);
    if (!(types >> t->dtype & 1u))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "input %d is %s, which this operator does not take", i,
                           sparoa_dtype_name(t->dtype));
    return SPAROA_OK;
}

sparoa_status sp_check_same_type(const sparoa_node *node, int32_t a, int32_t b, sparoa_error *err)
{
    sparoa_dtype ta = node->in[a]->dtype, tb = node->in[b]->dtype;
    if (ta == tb) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_TYPE_MISMATCH, node,
                       "input %d is %s but input %d is %s; they must be the same", a,
                       sparoa_dtype_name(ta), b, sparoa_dtype_name(tb));
}

/* ---- running ---- */

sparoa_status sp_infer_same(const sparoa_node *node, sparoa_error *err)
{
    (void)err;
    sp_copy_fact(node->out[0], node->in[0]);
    return SPAROA_OK;
}

sparoa_status sp_infer_broadcast(const sparoa_node *node, sparoa_error *err)
{
    sparoa_tensor *out = node->out[0];
    sp_copy_fact(out, node->in[0]);
    for (int32_t i = 1; i < node->n_in; i++) SP_TRY(sp_broadcast(node, out, node->in[i], out, err));
    return SPAROA_OK;
}

typedef struct range_job {
    int64_t total;
    int32_t pieces;
    void (*body)(void *arg, int64_t begin, int64_t end);
    void *arg;
} range_job;

static void range_piece(void *arg, int32_t i)
{
    const range_job *job = arg;
    int64_t begin = job->total / job->pieces * i +
                    (i < job->total % job->pieces ? i : job->total % job->pieces);
    int64_t end = begin + job->total / job->pieces + (i < job->total % job->pieces ? 1 : 0);
    job->body(job->arg, begin, end);
}

void sp_parallel_for(const sparoa_exec *exec, int64_t total, int64_t grain,
                     void (*body)(void *arg, int64_t begin, int64_t end), void *arg)
{
    if (total <= 0) return;
    int64_t pieces = grain > 0 ? total / grain : total;
    if (pieces > exec->threads) pieces = exec->threads;
    if (pieces <= 1) {
        body(arg, 0, total);
        return;
    }
    range_job job = {total, (int32_t)pieces, body, arg};
    exec->parallel(exec, job.pieces, range_piece, &job);
}

void sp_copy_data(sparoa_tensor *out, const sparoa_tensor *in)
{
    if (out->data != in->data) memmove(out->data, in->data, sparoa_tensor_bytes(in));
}

double sp_zero_share(const sparoa_tensor *t)
{
    int64_t n = sparoa_tensor_count(t), zeros = 0;
    if (n <= 0 || !t->data) return -1;
    switch (t->dtype) {
#define X(ctype, dt)                                                                               \
    case dt:                                                                                       \
        for (int64_t i = 0; i < n; i++) zeros += ((const ctype *)t->data)[i] == 0;                 \
        break;
        SP_FOR_NUMBERS(X)
#undef X
    default: return -1;
    }
    return (double)zeros / (double)n;
}
