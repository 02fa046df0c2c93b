#include <stdarg.h>

#include "sparoa.h"

size_t sparoa_dtype_size(sparoa_dtype dtype)
{
    switch (dtype) {
    case SPAROA_UINT8:
    case SPAROA_INT8:
    case SPAROA_BOOL: return 1;
    case SPAROA_UINT16:
    case SPAROA_INT16:
    case SPAROA_FLOAT16:
    case SPAROA_BFLOAT16: return 2;
    case SPAROA_FLOAT32:
    case SPAROA_INT32:
    case SPAROA_UINT32: return 4;
    case SPAROA_INT64:
    case SPAROA_UINT64:
    case SPAROA_FLOAT64: return 8;
    default: return 0;
    }
}

const char *sparoa_dtype_name(sparoa_dtype dtype)
{
    switch (dtype) {
    case SPAROA_FLOAT32: return "float32";
    case SPAROA_UINT8: return "uint8";
    case SPAROA_INT8: return "int8";
    case SPAROA_UINT16: return "uint16";
    case SPAROA_INT16: return "int16";
    case SPAROA_INT32: return "int32";
    case SPAROA_INT64: return "int64";
    case SPAROA_BOOL: return "bool";
    case SPAROA_FLOAT16: return "float16";
    case SPAROA_FLOAT64: return "float64";
    case SPAROA_UINT32: return "uint32";
    case SPAROA_UINT64: return "uint64";
    case SPAROA_BFLOAT16: return "bfloat16";
    default: return "undefined";
    }
}

sparoa_tensor sparoa_tensor_view(sparoa_dtype dtype, void *data, int rank, const int64_t *dims)
{
    sparoa_tensor t = {.data = data, .dtype = dtype, .rank = rank};
    if (rank < 0 || rank > SPAROA_MAX_RANK) return (sparoa_tensor){.dtype = SPAROA_UNDEFINED};
    for (int i = 0; i < rank; i++) t.dims[i] = dims[i];
    return t;
}

sparoa_tensor sparoa_tensor_of(sparoa_dtype dtype, void *data, int rank, ...)
{
    int64_t dims[SPAROA_MAX_RANK] = {0};
    va_list args;
    va_start(args, rank);
    for (int i = 0; i < rank && i < SPAROA_MAX_RANK; i++) dims[i] = va_arg(args, int);
    va_end(args);
    return sparoa_tensor_view(dtype, data, rank, dims);
}

int64_t sparoa_tensor_count(const sparoa_tensor *tensor)
{
    int64_t n = 1;
    if (!tensor || tensor->rank < 0 || tensor->rank > SPAROA_MAX_RANK) return -1;
    for (int32_t i = 0; i < tensor->rank; i++)
        if (tensor->dims[i] < 0 || __builtin_mul_overflow(n, tensor->dims[i], &n)) return -1;
    return n;
}

size_t sparoa_tensor_bytes(const sparoa_tensor *tensor)
{
    int64_t n = sparoa_tensor_count(tensor);
    size_t bytes;
    if (n < 0 || __builtin_mul_overflow((size_t)n, sparoa_dtype_size(tensor->dtype), &bytes))
        return 0;
    return bytes;
}
