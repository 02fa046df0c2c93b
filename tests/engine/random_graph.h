/* random_graph.h - random models for differential tests: chains and branches of the operators that
 * image networks are made of, in the shapes that passes look for. */
#ifndef TESTS_ENGINE_RANDOM_GRAPH_H
#define TESTS_ENGINE_RANDOM_GRAPH_H

#include "tests/support/support.h"

#define RG_MAX_VALUES 160

typedef struct rg_value {
    char name[16];
    int rank;
    int64_t dims[4];
    bool batch;    /* dims[0] is the batch */
    double spread; /* an estimate of magnitude, to keep products in range */
    int uses;
    int depth;
} rg_value;

typedef struct rg {
    mb_model *model;
    mb_graph *g;
    uint64_t key, drawn;
    int64_t opset;
    int64_t n; /* batch */
    bool dynamic;
    rg_value values[RG_MAX_VALUES];
    int count, nodes, constants;
    char text[8192]; /* what was built, for reports */
    size_t used;
} rg;

static inline int64_t rg_pick(rg *r, int64_t below)
{
    return (int64_t)(sp_rng_bits(r->key, r->drawn++) % (uint64_t)below);
}

static inline bool rg_chance(rg *r, int percent)
{
    return rg_pick(r, 100) < percent;
}

static inline rg_value *rg_new(rg *r, int rank, const int64_t *dims, const rg_value *like)
{
    rg_value *v = &r->values[r->count];
    snprintf(v->name, sizeof v->name, "v%d", r->count++);
    v->rank = rank;
    memcpy(v->dims, dims, (size_t)rank * sizeof *dims);
    v->batch = like ? like->batch : true;
    v->spread = like ? like->spread : 1;
    v->depth = like ? like->depth + 1 : 0;
    v->uses = 0;
    return v;
}

/* A node with a name of its own, noted in the report. in: names separated by commas. */
static inline mb_node *rg_node(rg *r, const char *op, const char *in, const rg_value *out)
{
    char name[24];
    snprintf(name, sizeof name, "n%d_%s", r->nodes++, op);
    if (r->used < sizeof r->text) {
        int n =
            snprintf(r->text + r->used, sizeof r->text - r->used, "%s(%s)->%s[", op, in, out->name);
        r->used += n > 0 ? (size_t)n : 0;
        for (int i = 0; i < out->rank && r->used < sizeof r->text; i++) {
            n = snprintf(r->text + r->used, sizeof r->text - r->used, i ? ",%lld" : "%lld",
                         (long long)out->dims[i]);
            r->used += n > 0 ? (size_t)n : 0;
        }
        if (r->used < sizeof r->text) {
            n = snprintf(r->text + r->used, sizeof r->text - r->used, "]\n");
            r->used += n > 0 ? (size_t)n : 0;
        }
    }
    return mb_add(r->g, op, name, in, out->name);
}

static inline const char *rg_const_name(rg *r)
{
    char *name = mb_alloc(16);
    snprintf(name, 16, "k%d", r->constants++);
    return name;
}

static inline const char *rg_weights(rg *r, int rank, const int64_t *dims, double lo, double hi)
{
    const char *name = rg_const_name(r);
    mb_random(r->g, name, rank, dims, sp_rng_stream(r->key, (uint64_t)r->constants), lo, hi);
    return name;
}

static inline const char *rg_ints(rg *r, size_t count, const int64_t *values)
{
    const char *name = rg_const_name(r);
    mb_i64s(r->g, name, count, values);
    return name;
}

static inline const char *rg_float(rg *r, float value)
{
    const char *name = rg_const_name(r);
    mb_scalar(r->g, name, value);
    return name;
}

static inline const char *rg_join(const char *a, const char *b, const char *c)
{
    char *s = mb_alloc(strlen(a) + strlen(b) + (c ? strlen(c) : 0) + 3);
    sprintf(s, c ? "%s,%s,%s" : "%s,%s", a, b, c);
    return s;
}

/* A value of that rank (0: any), recent ones first; NULL if there is none. */
static inline rg_value *rg_any(rg *r, int rank)
{
    for (int attempt = 0; attempt < 12; attempt++) {
        int back = (int)rg_pick(r, rg_chance(r, 70) ? (r->count < 3 ? r->count : 3) : r->count);
        rg_value *v = &r->values[r->count - 1 - back];
        if (rank == 0 || v->rank == rank) return v;
    }
    for (int i = r->count - 1; i >= 0; i--)
        if (r->values[i].rank == rank) return &r->values[i];
    return NULL;
}

/* Another value of the same shape, or NULL. */
static inline rg_value *rg_same(rg *r, const rg_value *v)
{
    int start = (int)rg_pick(r, r->count);
    for (int k = 0; k < r->count; k++) {
        rg_value *w = &r->values[(start + k) % r->count];
        if (w != v && w->rank == v->rank && w->batch == v->batch &&
            memcmp(w->dims, v->dims, (size_t)v->rank * sizeof v->dims[0]) == 0)
            return w;
    }
    return NULL;
}

#endif
