/* TfIdfVectorizer over integers: counts the n-grams of a pool, with gaps, in each row. The pool is
 * put in a hash table once per run. */
#include "ops/check.h"

typedef struct slot {
    const int64_t *tokens; /* NULL: empty */
    int64_t length, index; /* of the n-gram; its place in the pool's list */
} slot;

typedef struct tfidf {
    int64_t min_length, max_length, skips, rows, columns, width;
    bool clip, weigh; /* counts become at most 1; counts are multiplied by weights */
    const int64_t *pool, *counts, *indexes;
    const float *weights;
    size_t n_pool, n_counts, n_indexes, capacity;
    slot *table;
    const sparoa_tensor *in;
    float *out;
} tfidf;

static sparoa_status parse_mode(const sparoa_node *node, tfidf *t, sparoa_error *err)
{
    const char *mode = sparoa_attr_string(node, "mode", "");
    t->clip = strcmp(mode, "IDF") == 0;
    t->weigh = t->clip || strcmp(mode, "TFIDF") == 0;
    if (!t->weigh && strcmp(mode, "TF") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "mode '%.40s' is not TF, IDF or TFIDF",
                           mode);
    t->min_length = sparoa_attr_int(node, "min_gram_length", 0);
    t->max_length = sparoa_attr_int(node, "max_gram_length", 0);
    t->skips = sparoa_attr_int(node, "max_skip_count", 0);
    if (t->min_length < 1 || t->max_length < t->min_length || t->skips < 0)
        return sparoa_fail(
            err, SPAROA_INVALID_GRAPH, node,
            "min_gram_length=%lld, max_gram_length=%lld, max_skip_count=%lld do not fit together",
            (long long)t->min_length, (long long)t->max_length, (long long)t->skips);
    return SPAROA_OK;
}

/* Entries of the pool that belong to n-grams of length n (1-based). */
static void level(const tfidf *t, size_t n, int64_t *first, int64_t *end)
{
    *first = t->counts[n - 1];
    *end = n < t->n_counts ? t->counts[n] : (int64_t)t->n_pool;
}

static sparoa_status parse_pool(const sparoa_node *node, tfidf *t, sparoa_error *err)
{
    size_t n_weights;
    t->pool = sparoa_attr_ints(node, "pool_int64s", &t->n_pool);
    t->counts = sparoa_attr_ints(node, "ngram_counts", &t->n_counts);
    t->indexes = sparoa_attr_ints(node, "ngram_indexes", &t->n_indexes);
    t->weights = sparoa_attr_floats(node, "weights", &n_weights);
    if (!t->pool || !t->counts || !t->indexes || t->n_counts < 1 || t->n_indexes < 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "pool_int64s, ngram_counts and ngram_indexes are needed");
    if (t->weights && n_weights != t->n_indexes)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%zu weights are given for %zu n-grams",
                           n_weights, t->n_indexes);
    size_t grams = 0;
    for (size_t n = 1; n <= t->n_counts; n++) {
        int64_t first, end;
        level(t, n, &first, &end);
        if (first < 0 || end < first || end > (int64_t)t->n_pool || (size_t)(end - first) % n)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                               "ngram_counts does not divide the pool");
        grams += (size_t)(end - first) / n;
    }
    if (grams != t->n_indexes)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "%zu ngram_indexes are given for %zu n-grams", t->n_indexes, grams);
    t->width = 0;
    for (size_t i = 0; i < t->n_indexes; i++) {
        if (t->indexes[i] < 0 || t->indexes[i] > INT32_MAX)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                               "ngram_indexes[%zu]=%lld is out of range", i,
                               (long long)t->indexes[i]);
        if (t->indexes[i] >= t->width) t->width = t->indexes[i] + 1;
    }
    for (t->capacity = 16; t->capacity < 2 * t->n_indexes; t->capacity *= 2) {
    }
    return SPAROA_OK;
}

static sparoa_status parse(const sparoa_node *node, tfidf *t, sparoa_error *err)
{
    *t = (tfidf){0};
    SP_TRY(sp_check_present(node, 1, 1, err));
    SP_TRY(sp_check_type(node, 0, 1u << SPAROA_INT32 | 1u << SPAROA_INT64, err));
    SP_TRY(sp_check_rank(node, 0, 1, 2, err));
    SP_TRY(parse_mode(node, t, err));
    SP_TRY(parse_pool(node, t, err));
    t->in = node->in[0];
    t->rows = t->in->rank == 1 ? 1 : sp_dim(t->in, 0);
    t->columns = sp_dim(t->in, t->in->rank - 1);
    return SPAROA_OK;
}

static sparoa_status infer(const sparoa_node *node, sparoa_error *err)
{
    tfidf t;
    SP_TRY(parse(node, &t, err));
    node->out[0]->dtype = SPAROA_FLOAT32;
    if (t.in->rank == 1) sp_set_shape(node->out[0], SPAROA_FLOAT32, 1, &t.width);
    if (t.in->rank == 2)
        sp_set_shape(node->out[0], SPAROA_FLOAT32, 2, (int64_t[]){t.rows, t.width});
    return SPAROA_OK;
}

static void cost_of(const sparoa_node *node, sparoa_cost *cost)
{
    tfidf t;
    if (parse(node, &t, NULL) != SPAROA_OK) return;
    cost->flops = (double)sp_count(t.in) * (double)(t.max_length - t.min_length + 1) *
                  ((double)t.skips + 1.0);
}

static size_t workspace(const sparoa_node *node, int32_t threads)
{
    tfidf t;
    return parse(node, &t, NULL) == SPAROA_OK ? t.capacity * sizeof(slot) : 0;
}

static uint64_t mix(uint64_t hash, int64_t token)
{
    hash = (hash ^ (uint64_t)token) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static void build(const tfidf *t)
{
    memset(t->table, 0, t->capacity * sizeof(slot));
    int64_t index = 0;
    for (size_t n = 1; n <= t->n_counts; n++) {
        int64_t at, end;
        for (level(t, n, &at, &end); at < end; at += (int64_t)n, index++) {
            uint64_t hash = n;
            for (size_t i = 0; i < n; i++) hash = mix(hash, t->pool[(size_t)at + i]);
            size_t s = hash & (t->capacity - 1);
            while (t->table[s].tokens) s = (s + 1) & (t->capacity - 1);
            t->table[s] = (slot){t->pool + at, (int64_t)n, index};
        }
    }
}

/* The n-gram that starts at `at` with `stride` between its tokens, or -1. */
static int64_t find(const tfidf *t, int64_t at, int64_t stride, int64_t n)
{
    uint64_t hash = (uint64_t)n;
    for (int64_t i = 0; i < n; i++) hash = mix(hash, sp_get_i64(t->in, at + i * stride));
    for (size_t s = hash & (t->capacity - 1); t->table[s].tokens; s = (s + 1) & (t->capacity - 1)) {
        const slot *entry = &t->table[s];
        int64_t same = entry->length == n ? 0 : -1;
        while (same >= 0 && same < n)
            same = entry->tokens[same] == sp_get_i64(t->in, at + same * stride) ? same + 1 : -1;
        if (same == n) return entry->index;
    }
    return -1;
}

static void piece(void *arg, int64_t begin, int64_t end)
{
    const tfidf *t = arg;
    for (int64_t row = begin; row < end; row++) {
        float *out = t->out + row * t->width;
        memset(out, 0, (size_t)t->width * sizeof *out);
        for (int64_t n = t->min_length;
             n <= t->max_length && n <= t->columns && n <= (int64_t)t->n_counts; n++) {
            /* a single token has no gaps, so it is counted once */
            for (int64_t skip = 0; skip <= (n == 1 ? 0 : t->skips) && skip < t->columns; skip++) {
                int64_t reach;
                if (__builtin_mul_overflow(n - 1, skip + 1, &reach)) break;
                for (int64_t at = 0; at + reach < t->columns; at++) {
                    int64_t index = find(t, row * t->columns + at, skip + 1, n);
                    if (index >= 0) out[t->indexes[index]] += 1;
                }
            }
        }
        for (int64_t i = 0; t->clip && i < t->width; i++) out[i] = out[i] > 1 ? 1 : out[i];
        for (size_t i = 0; t->weigh && t->weights && i < t->n_indexes; i++)
            out[t->indexes[i]] *= t->weights[i];
    }
}

static sparoa_status run(const sparoa_node *node, const sparoa_exec *exec)
{
    tfidf t;
    SP_TRY(parse(node, &t, exec->err));
    t.table = exec->workspace;
    t.out = node->out[0]->data;
    build(&t);
    if (t.rows > 0) sp_parallel_for(exec, t.rows, 1, piece, &t);
    return SPAROA_OK;
}

/* ONNX TfIdfVectorizer, version 9, for integers. */
SP_OP(TfIdfVectorizer) = {
    SP_OP_HEAD("TfIdfVectorizer", 9, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = infer,
    .cost = cost_of,
    .workspace = workspace,
    .run = run,
};
