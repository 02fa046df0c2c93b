#include "cli/npy.h"

#include "cli/value.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 65536 };

static const struct {
    const char *text;
    sparoa_dtype dtype;
} types[] = {
    {"f4", SPAROA_FLOAT32}, {"f8", SPAROA_FLOAT64}, {"f2", SPAROA_FLOAT16}, {"u1", SPAROA_UINT8},
    {"i1", SPAROA_INT8},    {"u2", SPAROA_UINT16},  {"i2", SPAROA_INT16},   {"u4", SPAROA_UINT32},
    {"i4", SPAROA_INT32},   {"u8", SPAROA_UINT64},  {"i8", SPAROA_INT64},   {"b1", SPAROA_BOOL},
};

sparoa_status sp_cli_error_set(sparoa_error *err, sparoa_status status, const char *format, ...)
{
    if (!err) return status;
    *err = (sparoa_error){.status = status};
    va_list list;
    va_start(list, format);
    vsnprintf(err->message, sizeof err->message, format, list);
    va_end(list);
    return status;
}

/* The text after "'key':" in the header, or NULL. */
static const char *entry(const char *header, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *at = strstr(header, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    at += strspn(at, " ");
    if (*at != ':') return NULL;
    return at + 1 + strspn(at + 1, " ");
}

static bool parse_shape(const char *at, sparoa_tensor *tensor)
{
    if (!at || *at++ != '(') return false;
    tensor->rank = 0;
    for (;;) {
        at += strspn(at, " ,");
        if (*at == ')') return sparoa_tensor_count(tensor) >= 0;
        char *end;
        errno = 0;
        long long size = strtoll(at, &end, 10);
        if (errno || end == at || size < 0 || tensor->rank == SPAROA_MAX_RANK) return false;
        if (*end != ',' && *end != ')') return false;
        tensor->dims[tensor->rank++] = size;
        at = end;
    }
}

static sparoa_status parse_header(const char *path, const char *header, sparoa_tensor *tensor,
                                  sparoa_error *err)
{
    const char *descr = entry(header, "descr"), *order = entry(header, "fortran_order");
    if (!descr || !order || *descr != '\'' || strlen(descr) < 5)
        return sp_cli_error_set(err, SPAROA_MALFORMED,
                                "%s: the header lacks descr or fortran_order", path);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strncmp(descr + 2, types[i].text, 2) == 0 && descr[4] == '\'')
            tensor->dtype = types[i].dtype;
    if (!strchr("<|=", descr[1]) || !tensor->dtype)
        return sp_cli_error_set(
            err, SPAROA_UNSUPPORTED_TYPE,
            "%s: type %.6s, expected little-endian f2, f4, f8, b1, i1..i8 or u1..u8", path, descr);
    if (strncmp(order, "False", 5))
        return sp_cli_error_set(err, SPAROA_UNSUPPORTED_TYPE,
                                "%s: is in Fortran order; save it with numpy.ascontiguousarray",
                                path);
    if (!parse_shape(entry(header, "shape"), tensor))
        return sp_cli_error_set(err, SPAROA_MALFORMED,
                                "%s: the shape is not readable, or has over %d dimensions", path,
                                SPAROA_MAX_RANK);
    return SPAROA_OK;
}

static sparoa_status read_header(FILE *file, const char *path, sparoa_tensor *tensor,
                                 sparoa_error *err)
{
    unsigned char magic[12];
    if (fread(magic, 1, 10, file) != 10 || memcmp(magic, "\x93NUMPY", 6))
        return sp_cli_error_set(err, SPAROA_MALFORMED, "%s: is not a .npy file", path);
    size_t length = magic[8] | (size_t)magic[9] << 8;
    if (magic[6] >= 2) {
        if (fread(magic + 10, 1, 2, file) != 2)
            return sp_cli_error_set(err, SPAROA_MALFORMED, "%s: ends in its header", path);
        length |= (size_t)magic[10] << 16 | (size_t)magic[11] << 24;
    }
    if (magic[6] < 1 || magic[6] > 3 || length > HEADER_MAX)
        return sp_cli_error_set(err, SPAROA_UNSUPPORTED_VERSION,
                                "%s: .npy version %d with a header of %zu bytes", path, magic[6],
                                length);
    char *header = calloc(1, length + 1);
    if (!header)
        return sp_cli_error_set(err, SPAROA_OUT_OF_MEMORY, "%s: no memory for the header", path);
    sparoa_status status;
    if (fread(header, 1, length, file) != length)
        status = sp_cli_error_set(err, SPAROA_MALFORMED, "%s: ends in its header", path);
    else
        status = parse_header(path, header, tensor, err);
    free(header);
    return status;
}

sparoa_status sp_npy_load(sparoa_runtime *runtime, const char *path, sparoa_tensor *tensor,
                          sparoa_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return sp_cli_error_set(err, errno == ENOENT ? SPAROA_NOT_FOUND : SPAROA_IO, "%s: %s", path,
                                strerror(errno));
    sparoa_tensor t = {0};
    sparoa_status status = read_header(file, path, &t, err);
    long at = ftell(file);
    if (!status && (at < 0 || fseek(file, 0, SEEK_END)))
        status = sp_cli_error_set(err, SPAROA_IO, "%s: %s", path, strerror(errno));
    if (!status && (size_t)(ftell(file) - at) < sparoa_tensor_bytes(&t))
        status = sp_cli_error_set(err, SPAROA_MALFORMED,
                                  "%s: holds %ld bytes of data, the shape needs %zu", path,
                                  ftell(file) - at, sparoa_tensor_bytes(&t));
    if (!status) status = sparoa_tensor_alloc(runtime, &t, err);
    if (!status && (fseek(file, at, SEEK_SET) ||
                    fread(t.data, 1, sparoa_tensor_bytes(&t), file) != sparoa_tensor_bytes(&t))) {
        sparoa_tensor_free(runtime, &t);
        status = sp_cli_error_set(err, SPAROA_IO, "%s: reading failed", path);
    }
    fclose(file);
    if (!status) *tensor = t;
    return status;
}

static size_t header_text(char *text, size_t size, const sparoa_tensor *tensor)
{
    const char *type = "f4";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == tensor->dtype) type = types[i].text;
    size_t at = (size_t)snprintf(text, size, "{'descr': '%s%s', 'fortran_order': False, 'shape': (",
                                 type[1] == '1' ? "|" : "<", type);
    for (int i = 0; i < tensor->rank; i++)
        at += (size_t)snprintf(text + at, size - at, i ? ", %lld" : "%lld",
                               (long long)tensor->dims[i]);
    at += (size_t)snprintf(text + at, size - at, tensor->rank == 1 ? ",), }" : "), }");
    while ((10 + at + 1) % 64) text[at++] = ' ';
    text[at++] = '\n';
    return at;
}

static bool write_data(FILE *file, const sparoa_tensor *tensor)
{
    if (tensor->dtype != SPAROA_BFLOAT16)
        return fwrite(tensor->data, 1, sparoa_tensor_bytes(tensor), file) ==
               sparoa_tensor_bytes(tensor);
    for (int64_t i = 0; i < sparoa_tensor_count(tensor); i++) {
        float value = (float)sp_value_get(tensor, i);
        if (fwrite(&value, sizeof value, 1, file) != 1) return false;
    }
    return true;
}

sparoa_status sp_npy_save(const char *path, const sparoa_tensor *tensor, sparoa_error *err)
{
    char text[512];
    size_t length = header_text(text, sizeof text - 64, tensor);
    unsigned char magic[10] = {0x93, 'N', 'U', 'M',          'P',
                               'Y',  1,   0,   length & 255, (unsigned char)(length >> 8)};
    FILE *file = fopen(path, "wb");
    if (!file) return sp_cli_error_set(err, SPAROA_IO, "%s: %s", path, strerror(errno));
    bool good = fwrite(magic, 1, 10, file) == 10 && fwrite(text, 1, length, file) == length;
    if (good && sparoa_tensor_bytes(tensor)) good = write_data(file, tensor);
    if (fclose(file)) good = false;
    return good ? SPAROA_OK
                : sp_cli_error_set(err, SPAROA_IO, "%s: writing failed: %s", path, strerror(errno));
}
