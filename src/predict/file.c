/*
 * A predictor as a .spw file, little-endian:
 *   0  magic, 8 bytes           8  version u32             12  FNV-1a of all that follows, u32
 *  16  schema u64              24  data u64                32  net, features, width, heads, feed
 * u32 52  number of parameters u32 56  mean and inverse deviation of each feature, float32; then
 * the parameters, float16
 */
#include <math.h>
#include <string.h>

#include "ops/op.h"
#include "predict/parts.h"

#define MAGIC "SPARSPW\x1a"
enum { VERSION = 1, HEAD = 56, MAX_BYTES = 16 << 20 };

static uint32_t fnv(const unsigned char *p, size_t n)
{
    uint32_t h = 0x811c9dc5u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x01000193u;
    return h;
}

static size_t file_bytes(size_t features, size_t params)
{
    return HEAD + features * 2 * sizeof(float) + params * sizeof(uint16_t);
}

size_t sp_predictor_file_bytes(const sp_predictor *p)
{
    return file_bytes(p->shape.features, p->count);
}

void sp_predictor_save(const sp_predictor *p, unsigned char *file)
{
    const sp_predict_shape *s = &p->shape;
    uint32_t version = VERSION;
    uint32_t sizes[] = {s->net, s->features, s->width, s->heads, s->feed, (uint32_t)p->count};
    size_t scale = s->features * sizeof(float);
    memcpy(file, MAGIC, 8);
    memcpy(file + 8, &version, 4);
    memcpy(file + 16, &s->schema, 8);
    memcpy(file + 24, &s->data, 8);
    memcpy(file + 32, sizes, sizeof sizes);
    memcpy(file + HEAD, p->mean, scale);
    memcpy(file + HEAD + scale, p->inverse, scale);
    for (size_t i = 0; i < p->count; i++) {
        uint16_t h = sp_float_to_half(p->params[i]);
        memcpy(file + HEAD + 2 * scale + 2 * i, &h, 2);
    }
    uint32_t sum = fnv(file + 16, sp_predictor_file_bytes(p) - 16);
    memcpy(file + 12, &sum, 4);
}

/* Everything before the numbers. */
static sparoa_status read_head(const unsigned char *file, size_t bytes, uint64_t schema,
                               sp_predict_shape *s, uint32_t *params, sparoa_error *err)
{
    uint32_t head[2], sizes[6];
    if (bytes < HEAD || memcmp(file, MAGIC, 8) != 0)
        return sparoa_fail(err, SPAROA_MALFORMED, NULL,
                           "predictor weights: not a .spw file (%zu bytes, no magic)", bytes);
    if (bytes > MAX_BYTES)
        return sparoa_fail(err, SPAROA_TOO_LARGE, NULL,
                           "predictor weights: %zu bytes, expected at most %d", bytes, MAX_BYTES);
    memcpy(head, file + 8, sizeof head);
    if (head[0] != VERSION)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_VERSION, NULL,
                           "predictor weights: version %u, expected %d", head[0], VERSION);
    if (head[1] != fnv(file + 16, bytes - 16))
        return sparoa_fail(
            err, SPAROA_MALFORMED, NULL,
            "predictor weights: the checksum (byte 12) is wrong; the file is damaged");
    memcpy(&s->schema, file + 16, 8);
    memcpy(&s->data, file + 24, 8);
    memcpy(sizes, file + 32, sizeof sizes);
    if (s->schema != schema)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_VERSION, NULL,
                           "predictor weights: made for other features (schema %016llx, expected "
                           "%016llx); train them again",
                           (unsigned long long)s->schema, (unsigned long long)schema);
    s->net = sizes[0] < SP_PREDICT_NET_COUNT ? (sp_predict_net)sizes[0] : SP_PREDICT_NET_COUNT;
    s->features = sizes[1];
    s->width = sizes[2] ? sizes[2] : 1; /* 0 would mean a default */
    s->heads = sizes[3] ? sizes[3] : UINT32_MAX;
    s->feed = sizes[4] ? sizes[4] : UINT32_MAX;
    *params = sizes[5];
    return SPAROA_OK;
}

static sparoa_status bad_number(const char *field, size_t i, float value, sparoa_error *err)
{
    return sparoa_fail(err, SPAROA_MALFORMED, NULL, "predictor weights: %s[%zu] is %g, expected %s",
                       field, i, (double)value,
                       field[0] == 'i' ? "a finite number from 0 on" : "a finite number");
}

static sparoa_status read_numbers(sp_predictor *p, const unsigned char *file, sparoa_error *err)
{
    size_t scale = p->shape.features * sizeof(float);
    memcpy(p->mean, file + HEAD, scale);
    memcpy(p->inverse, file + HEAD + scale, scale);
    for (size_t i = 0; i < p->shape.features; i++) {
        if (!isfinite(p->mean[i])) return bad_number("mean", i, p->mean[i], err);
        if (!isfinite(p->inverse[i]) || p->inverse[i] < 0)
            return bad_number("inverse", i, p->inverse[i], err);
    }
    for (size_t i = 0; i < p->count; i++) {
        uint16_t h;
        memcpy(&h, file + HEAD + 2 * scale + 2 * i, 2);
        p->params[i] = sp_half_to_float(h);
        if (!isfinite(p->params[i])) return bad_number("params", i, p->params[i], err);
    }
    return SPAROA_OK;
}

sparoa_status sp_predictor_load(const sparoa_allocator *alloc, const sp_kernels *kernels,
                                const unsigned char *file, size_t bytes, uint64_t schema,
                                sp_predictor **made, sparoa_error *err)
{
    sp_predict_shape shape = {0};
    sp_predictor *p = NULL;
    uint32_t params = 0;
    sparoa_status status = read_head(file, bytes, schema, &shape, &params, err);
    if (status) return status;
    status = sp_predictor_create(alloc, kernels, &shape, 0, &p, err);
    if (status == SPAROA_INVALID_ARGUMENT)
        return sparoa_fail(err, SPAROA_MALFORMED, NULL,
                           "predictor weights: net=%d, features=%u, width=%u, heads=%u, feed=%u is "
                           "no network",
                           (int)shape.net, shape.features, shape.width, shape.heads, shape.feed);
    if (status) return status;
    if (params != p->count || bytes != sp_predictor_file_bytes(p))
        status = sparoa_fail(err, SPAROA_MALFORMED, NULL,
                             "predictor weights: %u parameters in %zu bytes, expected %zu in %zu",
                             params, bytes, p->count, sp_predictor_file_bytes(p));
    else
        status = read_numbers(p, file, err);
    if (status) {
        sp_predictor_destroy(p);
        return status;
    }
    *made = p;
    return SPAROA_OK;
}
