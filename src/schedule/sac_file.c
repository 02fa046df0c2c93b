/*
 * A learner as a file, little-endian: magic, version, checksum of what follows it; obs, actions,
 * discrete, hidden, schema (u32 each); log alpha (f32); all parameters, then the critics' targets
 * (f32).
 */
#include <math.h>
#include <string.h>

#include "schedule/sac_parts.h"
#include "sparoa_backend.h"

#define MAGIC "SPSAC\r\n\x1a"
enum { VERSION = 2, HEAD = 40 };

static uint32_t fnv(const unsigned char *p, size_t n)
{
    uint32_t h = 0x811c9dc5u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x01000193u;
    return h;
}

static size_t body_floats(const sp_sac *s)
{
    return s->count + (s->count - s->policy_count);
}

size_t sp_sac_file_bytes(const sp_sac *s)
{
    return HEAD + body_floats(s) * sizeof(float);
}

void sp_sac_save(const sp_sac *s, uint32_t schema, unsigned char *file)
{
    uint32_t head[] = {VERSION, 0, s->o.obs, s->o.actions, s->o.discrete, s->o.hidden, schema};
    float alpha = (float)s->log_alpha;
    memcpy(file, MAGIC, 8);
    memcpy(file + 8, head, sizeof head);
    memcpy(file + 36, &alpha, 4);
    memcpy(file + HEAD, s->params, s->count * sizeof(float));
    memcpy(file + HEAD + s->count * sizeof(float), s->targets + s->policy_count,
           (s->count - s->policy_count) * sizeof(float));
    uint32_t sum = fnv(file + 16, sp_sac_file_bytes(s) - 16);
    memcpy(file + 12, &sum, 4);
}

sparoa_status sp_sac_load(sp_sac *s, uint32_t schema, const unsigned char *file, size_t bytes,
                          sparoa_error *err)
{
    uint32_t head[7];
    float alpha;
    if (bytes < HEAD || memcmp(file, MAGIC, 8) != 0)
        return sparoa_fail(err, SPAROA_MALFORMED, NULL,
                           "SAC weights: not such a file (%zu bytes, no magic)", bytes);
    memcpy(head, file + 8, sizeof head);
    memcpy(&alpha, file + 36, 4);
    if (head[0] != VERSION)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_VERSION, NULL,
                           "SAC weights: version %u, expected %d", head[0], VERSION);
    if (head[2] != s->o.obs || head[3] != s->o.actions || head[4] != (uint32_t)s->o.discrete ||
        head[5] != s->o.hidden || bytes != sp_sac_file_bytes(s))
        return sparoa_fail(err, SPAROA_MALFORMED, NULL,
                           "SAC weights: obs=%u, actions=%u, discrete=%u, hidden=%u in %zu bytes, "
                           "expected %u, %u, %d, %u in %zu",
                           head[2], head[3], head[4], head[5], bytes, s->o.obs, s->o.actions,
                           s->o.discrete, s->o.hidden, sp_sac_file_bytes(s));
    if (head[6] != schema)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_VERSION, NULL,
                           "SAC weights: schema=%08x, expected %08x: trained on other observations",
                           head[6], schema);
    if (head[1] != fnv(file + 16, bytes - 16))
        return sparoa_fail(err, SPAROA_MALFORMED, NULL,
                           "SAC weights: the checksum (byte 12) is wrong");
    if (!(fabsf(alpha) <= 16))
        return sparoa_fail(err, SPAROA_MALFORMED, NULL,
                           "SAC weights: log_alpha (byte 36) is %g, expected -16..16",
                           (double)alpha);
    for (size_t i = 0; i < body_floats(s); i++) {
        float v;
        memcpy(&v, file + HEAD + i * sizeof v, sizeof v);
        if (!isfinite(v))
            return sparoa_fail(err, SPAROA_MALFORMED, NULL,
                               "SAC weights: weight %zu (byte %zu) is not finite", i,
                               HEAD + i * sizeof v);
    }
    s->log_alpha = (double)alpha;
    memcpy(s->params, file + HEAD, s->count * sizeof(float));
    memcpy(s->targets + s->policy_count, file + HEAD + s->count * sizeof(float),
           (s->count - s->policy_count) * sizeof(float));
    return SPAROA_OK;
}
