/* TensorProto and SparseTensorProto into dense data. */
#include <string.h>

#include "onnx/internal.h"

enum {
    FIELD_FLOAT = 4,
    FIELD_INT32 = 5,
    FIELD_INT64 = 7,
    FIELD_RAW = 9,
    FIELD_DOUBLE = 10,
    FIELD_UINT64 = 11
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "raw data is little-endian and used in place");

const char *sp_onnx_type_name(int32_t type)
{
    static const char *const names[] = {
        "undefined",      "float32",    "uint8",          "int8",       "uint16",    "int16",
        "int32",          "int64",      "string",         "bool",       "float16",   "float64",
        "uint32",         "uint64",     "complex64",      "complex128", "bfloat16",  "float8e4m3fn",
        "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4",      "int4",      "float4e2m1",
        "float8e8m0",     "uint2",      "int2",           "float6e2m3", "float6e3m2"};
    return type >= 0 && type < (int32_t)(sizeof names / sizeof *names) ? names[type] : "unknown";
}

bool sp_onnx_type_known(int32_t type)
{
    return type > 0 && type <= SPAROA_BFLOAT16 && sparoa_dtype_size((sparoa_dtype)type) > 0;
}

sparoa_status sp_onnx_dtype(sp_onnx *x, int32_t type, const char *what, sparoa_dtype *dtype)
{
    if (!sp_onnx_type_known(type))
        return sparoa_fail(
            x->err, SPAROA_UNSUPPORTED_TYPE, NULL,
            "%s has element type %s (%d), which is not supported; convert it to float32, float16, "
            "bfloat16, an 8 to 64 bit integer or bool",
            what, sp_onnx_type_name(type), type);
    *dtype = (sparoa_dtype)type;
    return SPAROA_OK;
}

sparoa_status sp_onnx_fact(sp_onnx *x, int32_t type, const int64_t *dims, size_t rank,
                           const char *what, sparoa_tensor *fact, size_t *bytes)
{
    *fact = (sparoa_tensor){0};
    sparoa_status status = sp_onnx_dtype(x, type, what, &fact->dtype);
    if (status != SPAROA_OK) return status;
    if (rank > SPAROA_MAX_RANK)
        return sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL,
                           "%s has %zu dimensions; at most %d are supported", what, rank,
                           SPAROA_MAX_RANK);
    int64_t count = (int64_t)sparoa_dtype_size(fact->dtype);
    bool empty = false;
    for (size_t i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                               "%s: dimension %zu is %lld, expected 0 or more", what, i,
                               (long long)dims[i]);
        fact->dims[i] = dims[i];
        if (dims[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(count, dims[i], &count))
            return sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL,
                               "%s: the product of its dimensions is too large", what);
    }
    fact->rank = (int32_t)rank;
    *bytes = empty ? 0 : (size_t)count;
    return SPAROA_OK;
}

/* ---- data ---- */

static uint32_t field_of(sparoa_dtype dtype)
{
    switch (dtype) {
    case SPAROA_FLOAT32: return FIELD_FLOAT;
    case SPAROA_FLOAT64: return FIELD_DOUBLE;
    case SPAROA_INT64: return FIELD_INT64;
    case SPAROA_UINT32:
    case SPAROA_UINT64: return FIELD_UINT64;
    default: return FIELD_INT32;
    }
}

/* Where the data of a tensor is: at most one of these. */
typedef struct payload {
    uint32_t field;      /* 0: there is none */
    const sp_span *span; /* in the file, or NULL: */
    const void *inline_; /* unpacked by protobuf-c */
    size_t count;        /* of inline_: elements, or bytes of raw data */
} payload;

static sparoa_status find_payload(sp_onnx *x, const onnx_tensor *t, const char *what, payload *p)
{
    const payload fields[] = {
        {FIELD_RAW, NULL, t->raw_data.data, t->has_raw_data ? t->raw_data.len : 0},
        {FIELD_FLOAT, NULL, t->float_data, t->n_float_data},
        {FIELD_INT32, NULL, t->int32_data, t->n_int32_data},
        {FIELD_INT64, NULL, t->int64_data, t->n_int64_data},
        {FIELD_DOUBLE, NULL, t->double_data, t->n_double_data},
        {FIELD_UINT64, NULL, t->uint64_data, t->n_uint64_data},
    };
    int found = 0;
    *p = (payload){0};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].count == 0) continue;
        *p = fields[i];
        found++;
    }
    for (size_t i = 0; i < t->n_span; i++) {
        size_t index = (size_t)(t->span[i] & UINT32_MAX);
        if (index >= x->scan.span_count)
            return sparoa_fail(x->err, SPAROA_INTERNAL, NULL, "%s: wrong reference to its data",
                               what);
        *p = (payload){.field = (uint32_t)(t->span[i] >> 32), .span = &x->scan.spans[index]};
        found++;
    }
    if (found > 1)
        return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                           "%s has its data in several pieces, expected one field", what);
    return SPAROA_OK;
}

static sparoa_status wrong_size(sp_onnx *x, const char *what, size_t have, size_t want,
                                const char *unit)
{
    return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                       "%s has %zu %s of data, but its shape needs %zu", what, have, unit, want);
}

/* Data as it lies in the file: in place where the alignment allows, or where it is so large that
 * its first reader had better make an aligned copy (sp_graph_align). */
static sparoa_status take_bytes(sp_onnx *x, const payload *p, size_t bytes, sparoa_dtype dtype,
                                sp_blob **blob)
{
    const uint8_t *from = p->inline_;
    if (p->span) {
        from = (const uint8_t *)x->file->data + p->span->offset;
        bool later = dtype == SPAROA_FLOAT32 && bytes >= SP_ALIGN_LATER;
        if (later || (uintptr_t)from % sparoa_dtype_size(dtype) == 0) {
            *blob = sp_blob_slice(&x->alloc, x->file, p->span->offset, bytes);
            return *blob ? SPAROA_OK : sp_onnx_oom(x, sizeof **blob);
        }
    }
    sparoa_status status = sp_onnx_budget(x, bytes);
    if (status != SPAROA_OK) return status;
    *blob = sp_blob_create(&x->alloc, bytes);
    if (!*blob) return sp_onnx_oom(x, bytes);
    if (bytes) memcpy((*blob)->data, from, bytes);
    return SPAROA_OK;
}

/* Stores one integer of int32_data, int64_data or uint64_data as an element. False: it doesn't fit.
 */
static bool store(sparoa_dtype dtype, void *data, size_t i, uint64_t v)
{
    int64_t s = (int64_t)v;
    switch (dtype) {
    case SPAROA_INT64:
    case SPAROA_UINT64: ((uint64_t *)data)[i] = v; return true;
    case SPAROA_UINT32: ((uint32_t *)data)[i] = (uint32_t)v; return v <= UINT32_MAX;
    case SPAROA_BOOL: ((uint8_t *)data)[i] = v != 0; return true;
    case SPAROA_INT32: ((uint32_t *)data)[i] = (uint32_t)v; return true;
    case SPAROA_INT8:
    case SPAROA_UINT8: ((uint8_t *)data)[i] = (uint8_t)v; return s >= INT8_MIN && s <= UINT8_MAX;
    default: ((uint16_t *)data)[i] = (uint16_t)v; return s >= INT16_MIN && s <= UINT16_MAX;
    }
}

static sparoa_status decode_span(sp_onnx *x, const payload *p, const char *what, sparoa_dtype dtype,
                                 size_t count, void *data)
{
    const uint8_t *at = (const uint8_t *)x->file->data + p->span->offset,
                  *end = at + p->span->bytes;
    for (size_t i = 0; i < count; i++) {
        uint64_t v;
        size_t n = sp_varint_read(at, end, &v);
        if (n == 0) return wrong_size(x, what, i, count, "elements");
        at += n;
        if (p->field == FIELD_INT32) v = (uint64_t)(int64_t)(int32_t)v;
        if (!store(dtype, data, i, v))
            return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                               "%s: element %zu doesn't fit into %s", what, i,
                               sparoa_dtype_name(dtype));
    }
    if (at != end)
        return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                           "%s has more data than the %zu elements of its shape", what, count);
    return SPAROA_OK;
}

static sparoa_status decode_inline(sp_onnx *x, const payload *p, const char *what,
                                   sparoa_dtype dtype, size_t count, void *data)
{
    if (p->count != count) return wrong_size(x, what, p->count, count, "elements");
    for (size_t i = 0; i < count; i++) {
        uint64_t v = p->field == FIELD_INT32 ? (uint64_t)(int64_t)((const int32_t *)p->inline_)[i]
                                             : ((const uint64_t *)p->inline_)[i];
        if (!store(dtype, data, i, v))
            return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                               "%s: element %zu doesn't fit into %s", what, i,
                               sparoa_dtype_name(dtype));
    }
    return SPAROA_OK;
}

static sparoa_status decode_integers(sp_onnx *x, const payload *p, const char *what,
                                     sparoa_dtype dtype, size_t bytes, sp_blob **blob)
{
    size_t count = bytes / sparoa_dtype_size(dtype);
    if (p->span && count > p->span->bytes)
        return wrong_size(x, what, p->span->bytes, count, "bytes");
    if (!p->span && count != p->count) return wrong_size(x, what, p->count, count, "elements");
    sparoa_status status = sp_onnx_budget(x, bytes);
    if (status != SPAROA_OK) return status;
    sp_blob *b = sp_blob_create(&x->alloc, bytes);
    if (!b) return sp_onnx_oom(x, bytes);
    status = p->span ? decode_span(x, p, what, dtype, count, b->data)
                     : decode_inline(x, p, what, dtype, count, b->data);
    if (status == SPAROA_OK)
        *blob = b;
    else
        sp_blob_unref(b);
    return status;
}

/* Booleans must be 0 or 1: kernels rely on it. A blob with others is replaced by a corrected copy.
 */
static sparoa_status fix_booleans(sp_onnx *x, sp_blob **blob)
{
    const uint8_t *p = (*blob)->data;
    size_t n = (*blob)->bytes, i = 0;
    while (i < n && p[i] <= 1) i++;
    if (i == n) return SPAROA_OK;
    sparoa_status status = sp_onnx_budget(x, n);
    sp_blob *copy = status == SPAROA_OK ? sp_blob_create(&x->alloc, n) : NULL;
    if (status == SPAROA_OK && !copy) status = sp_onnx_oom(x, n);
    for (i = 0; copy && i < n; i++) ((uint8_t *)copy->data)[i] = p[i] != 0;
    sp_blob_unref(*blob);
    *blob = copy;
    return status;
}

static sparoa_status stored_data(sp_onnx *x, const onnx_tensor *t, const char *what,
                                 sparoa_dtype dtype, size_t bytes, sp_blob **blob)
{
    size_t element = sparoa_dtype_size(dtype);
    payload p;
    sparoa_status status = find_payload(x, t, what, &p);
    if (status != SPAROA_OK) return status;
    if (p.field == 0) {
        if (bytes) return wrong_size(x, what, 0, bytes, "bytes");
        return take_bytes(x, &p, 0, dtype, blob);
    }
    if (p.field != FIELD_RAW && p.field != field_of(dtype))
        return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                           "%s of type %s has its data in a field of another type", what,
                           sparoa_dtype_name(dtype));
    if (p.field != FIELD_RAW && p.field != FIELD_FLOAT && p.field != FIELD_DOUBLE)
        return decode_integers(x, &p, what, dtype, bytes, blob);
    size_t have = p.span ? p.span->bytes : p.field == FIELD_RAW ? p.count : p.count * element;
    if (have != bytes) return wrong_size(x, what, have, bytes, "bytes");
    return take_bytes(x, &p, bytes, dtype, blob);
}

sparoa_status sp_onnx_tensor(sp_onnx *x, const onnx_tensor *t, const char *what,
                             sparoa_tensor *fact, sp_blob **blob)
{
    size_t bytes;
    *blob = NULL;
    sparoa_status status = sp_onnx_fact(x, t->data_type, t->dims, t->n_dims, what, fact, &bytes);
    if (status != SPAROA_OK) return status;
    if (t->data_location == 1)
        status = sp_onnx_external(x, t, what, bytes, sparoa_dtype_size(fact->dtype), blob);
    else
        status = stored_data(x, t, what, fact->dtype, bytes, blob);
    if (status == SPAROA_OK && fact->dtype == SPAROA_BOOL) status = fix_booleans(x, blob);
    if (status == SPAROA_OK) fact->data = (*blob)->data;
    return status;
}

/* ---- sparse ---- */

/* Linear positions of the values, from indices of shape [count] or [count, rank]; ascending. */
static sparoa_status scatter(sp_onnx *x, const char *what, const sparoa_tensor *dense,
                             const sparoa_tensor *values, const sparoa_tensor *indices)
{
    size_t element = sparoa_dtype_size(dense->dtype);
    int64_t total = sparoa_tensor_count(dense), last = -1,
            columns = indices->rank == 2 ? indices->dims[1] : 0;
    const int64_t *index = indices->data;
    for (int64_t i = 0; i < values->dims[0]; i++) {
        int64_t at = columns ? 0 : index[i];
        bool ok = at >= 0 && at < total;
        for (int64_t k = 0; k < columns && ok; k++) {
            int64_t v = index[i * columns + k];
            ok = v >= 0 && v < dense->dims[k];
            if (ok) at = at * dense->dims[k] + v;
        }
        if (!ok || at <= last)
            return sparoa_fail(
                x->err, SPAROA_MALFORMED, NULL,
                "%s: index %lld of its sparse values is out of range or out of order", what,
                (long long)i);
        last = at;
        memcpy((char *)dense->data + (size_t)at * element,
               (const char *)values->data + (size_t)i * element, element);
    }
    return SPAROA_OK;
}

static sparoa_status expand(sp_onnx *x, const onnx_sparse *t, const char *what,
                            const sparoa_tensor *values, const sparoa_tensor *indices,
                            sparoa_tensor *fact, sp_blob **blob)
{
    size_t bytes;
    sparoa_status status =
        sp_onnx_fact(x, t->values->data_type, t->dims, t->n_dims, what, fact, &bytes);
    if (status != SPAROA_OK) return status;
    bool ok = values->rank == 1 && indices->dtype == SPAROA_INT64 && indices->rank >= 1 &&
              indices->rank <= 2 && indices->dims[0] == values->dims[0] &&
              (indices->rank == 1 || indices->dims[1] == fact->rank);
    if (!ok || (indices->rank == 2 && fact->rank == 0))
        return sparoa_fail(
            x->err, SPAROA_MALFORMED, NULL,
            "%s: sparse values need shape [n] and int64 indices of shape [n] or [n, rank]", what);
    status = sp_onnx_budget(x, bytes);
    if (status != SPAROA_OK) return status;
    sp_blob *b = sp_blob_create(&x->alloc, bytes);
    if (!b) return sp_onnx_oom(x, bytes);
    memset(b->data, 0, bytes);
    fact->data = b->data;
    status = scatter(x, what, fact, values, indices);
    if (status == SPAROA_OK)
        *blob = b;
    else
        sp_blob_unref(b);
    return status;
}

sparoa_status sp_onnx_sparse(sp_onnx *x, const onnx_sparse *t, const char *what,
                             sparoa_tensor *fact, sp_blob **blob)
{
    if (!t->values || !t->indices)
        return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                           "%s: a sparse tensor needs values and indices", what);
    sparoa_tensor values, indices;
    sp_blob *v = NULL, *i = NULL;
    sparoa_status status = sp_onnx_tensor(x, t->values, what, &values, &v);
    if (status == SPAROA_OK) status = sp_onnx_tensor(x, t->indices, what, &indices, &i);
    if (status == SPAROA_OK) status = expand(x, t, what, &values, &indices, fact, blob);
    sp_blob_unref(v);
    sp_blob_unref(i);
    return status;
}
