/* Einsum for any number of operands: sums over all labels that the output lacks, in double
 * (integers modulo 2^64). */
#include "ops/op.h"

#define MAX_TERMS 16
#define LETTERS 52 /* A-Z, a-z in ASCII order */
#define LABELS                                                                                     \
    (LETTERS + SPAROA_MAX_RANK) /* then the dimensions of the ellipsis, aligned at the last */
#define MANY (INT64_MAX / 256)
#define BLOCK 64 /* outputs along the last label at a time */

typedef struct term {
    int32_t rank, ellipsis; /* ellipsis: how many of the labels it stands for; -1: there is none */
    int32_t labels[SPAROA_MAX_RANK];
} term;

typedef struct equation {
    int32_t n_terms;
    term in[MAX_TERMS], out;
    int64_t size[LABELS]; /* -1: not known, or (see used) not there */
    int32_t used[LABELS]; /* occurrences in the inputs */
} equation;

static int32_t label_of(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    return c >= 'a' && c <= 'z' ? c - 'a' + 26 : -1;
}

static sparoa_status bad(const sparoa_node *node, sparoa_error *err, const char *what)
{
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "equation '%.64s': %s",
                       sparoa_attr_string(node, "equation", ""), what);
}

/* Reads a term up to ',', '-' or the end. dots: dimensions the ellipsis stands for; -1: what `rank`
 * leaves. */
static sparoa_status read_term(const sparoa_node *node, const char **at, int32_t rank, int32_t dots,
                               term *t, sparoa_error *err)
{
    const char *s = *at;
    int32_t letters = 0;
    *t = (term){.ellipsis = -1};
    for (const char *p = s; *p && *p != ',' && *p != '-'; p++) letters += label_of(*p) >= 0;
    if (letters > SPAROA_MAX_RANK) return bad(node, err, "a term has too many labels");
    for (; *s && *s != ',' && *s != '-'; s++) {
        if (*s == ' ') continue;
        if (label_of(*s) >= 0) {
            if (t->rank == SPAROA_MAX_RANK) return bad(node, err, "a term has too many dimensions");
            t->labels[t->rank++] = label_of(*s);
            continue;
        }
        if (strncmp(s, "...", 3) != 0 || t->ellipsis >= 0)
            return bad(node, err, "a term is not well formed");
        s += 2;
        t->ellipsis = dots >= 0 ? dots : rank - letters;
        if (t->ellipsis < 0 || t->rank + t->ellipsis > SPAROA_MAX_RANK)
            return bad(node, err, "a term does not fit the rank of its input");
        for (int32_t i = 0; i < t->ellipsis; i++) t->labels[t->rank++] = LABELS - t->ellipsis + i;
    }
    *at = s;
    return SPAROA_OK;
}

/* Sizes of the labels, dimensions of 1 giving way. */
static sparoa_status merge_sizes(const sparoa_node *node, equation *e, int32_t input,
                                 sparoa_error *err)
{
    const term *t = &e->in[input];
    for (int32_t i = 0; i < t->rank; i++) {
        int64_t d = node->in[input]->dims[i], *size = &e->size[t->labels[i]];
        bool first = e->used[t->labels[i]]++ == 0;
        if (first || *size == 1 || (*size < 0 && d > 1))
            *size = d;
        else if (*size >= 0 && d >= 0 && d != 1 && d != *size)
            return sparoa_fail(
                err, SPAROA_SHAPE_MISMATCH, node,
                "dimension %d of input %d is %lld, but its label has size %lld elsewhere", i, input,
                (long long)d, (long long)*size);
    }
    return SPAROA_OK;
}

static sparoa_status read_output(const sparoa_node *node, equation *e, const char *s, int32_t dots,
                                 sparoa_error *err)
{
    bool seen[LABELS] = {false};
    if (s[0] == '-') {
        if (s[1] != '>') return bad(node, err, "'->' expected");
        s += 2;
        SP_TRY(read_term(node, &s, 0, dots, &e->out, err));
        if (*s) return bad(node, err, "the output must come last");
    } else { /* the ellipsis, then every label that occurs once */
        e->out = (term){.ellipsis = dots};
        for (int32_t i = 0; i < dots; i++) e->out.labels[e->out.rank++] = LABELS - dots + i;
        for (int32_t i = 0; i < LETTERS; i++) {
            if (e->used[i] != 1) continue;
            if (e->out.rank == SPAROA_MAX_RANK)
                return bad(node, err, "the output has too many dimensions");
            e->out.labels[e->out.rank++] = i;
        }
    }
    for (int32_t i = 0; i < e->out.rank; i++) {
        int32_t label = e->out.labels[i];
        if (seen[label] || e->used[label] == 0)
            return bad(node, err, "an output label is repeated or not in an input");
        seen[label] = true;
    }
    return SPAROA_OK;
}

/* All ranks must be known. */
static sparoa_status read_equation(const sparoa_node *node, equation *e, sparoa_error *err)
{
    const char *s = sparoa_attr_string(node, "equation", NULL);
    int32_t dots = 0;
    if (!s) return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "the equation is missing");
    if (node->n_in > MAX_TERMS) return bad(node, err, "too many inputs");
    memset(e, 0, sizeof *e);
    e->n_terms = node->n_in;
    for (int32_t i = 0; i < e->n_terms; i++) {
        if (i > 0 && *s++ != ',') return bad(node, err, "there are fewer terms than inputs");
        SP_TRY(read_term(node, &s, node->in[i]->rank, -1, &e->in[i], err));
        if (e->in[i].rank != node->in[i]->rank)
            return bad(node, err, "a term does not fit the rank of its input");
        if (e->in[i].ellipsis > dots) dots = e->in[i].ellipsis;
        SP_TRY(merge_sizes(node, e, i, err));
    }
    if (*s == ',') return bad(node, err, "there are more terms than inputs");
    return read_output(node, e, s, dots, err);
}

static sparoa_status einsum_infer(const sparoa_node *node, sparoa_error *err)
{
    sparoa_tensor *out = node->out[0];
    equation e;
    bool known = true;
    for (int32_t i = 0; i < node->n_in; i++) {
        SP_TRY(sp_check_type(node, i, SP_TYPES_NUMBER, err));
        SP_TRY(sp_check_same_type(node, 0, i, err));
        known = known && node->in[i]->rank >= 0;
    }
    out->dtype = node->in[0]->dtype;
    out->rank = -1;
    if (!known) return SPAROA_OK;
    SP_TRY(read_equation(node, &e, err));
    out->rank = e.out.rank;
    for (int32_t i = 0; i < out->rank; i++) out->dims[i] = e.size[e.out.labels[i]];
    return SPAROA_OK;
}

/* ---- running ---- */

typedef struct einsum_plan {
    const sparoa_node *node;
    int32_t n_terms, n_outer, n_sums;
    int64_t inner, blocks; /* the last output label, or 1; blocks of it */
    int64_t outer_size[SPAROA_MAX_RANK], sum_size[LABELS];
    int64_t inner_stride[MAX_TERMS];
    int64_t outer_stride[SPAROA_MAX_RANK][MAX_TERMS], sum_stride[LABELS][MAX_TERMS];
    int64_t sums; /* terms of each sum, up to MANY: for sharing the work out */
} einsum_plan;

/* Element stride of a label within an input: a repeated label walks the diagonal. */
static int64_t stride_of(const equation *e, const sparoa_tensor *t, int32_t input, int32_t label)
{
    int64_t strides[SPAROA_MAX_RANK], sum = 0;
    sp_strides(t, strides);
    for (int32_t i = 0; i < t->rank; i++)
        if (e->in[input].labels[i] == label && t->dims[i] != 1) sum += strides[i];
    return sum;
}

static void strides_of(const equation *e, const sparoa_node *node, int32_t label, int64_t *strides)
{
    for (int32_t i = 0; i < e->n_terms; i++) strides[i] = stride_of(e, node->in[i], i, label);
}

static void make_plan(const equation *e, const sparoa_node *node, einsum_plan *p)
{
    bool in_out[LABELS] = {false};
    p->node = node;
    p->n_terms = e->n_terms;
    p->inner = p->sums = 1;
    for (int32_t i = 0; i < e->out.rank; i++) {
        int32_t label = e->out.labels[i];
        in_out[label] = true;
        if (i == e->out.rank - 1) {
            p->inner = e->size[label];
            strides_of(e, node, label, p->inner_stride);
        } else {
            p->outer_size[p->n_outer] = e->size[label];
            strides_of(e, node, label, p->outer_stride[p->n_outer++]);
        }
    }
    for (int32_t label = 0; label < LABELS; label++) {
        if (in_out[label] || e->used[label] == 0) continue;
        p->sum_size[p->n_sums] = e->size[label];
        if (__builtin_mul_overflow(p->sums, e->size[label], &p->sums) || p->sums > MANY)
            p->sums = MANY;
        strides_of(e, node, label, p->sum_stride[p->n_sums++]);
    }
    p->blocks = (p->inner + BLOCK - 1) / BLOCK;
}

/* Moves to the next element of the sum; false after the last. */
static bool advance(const einsum_plan *p, int64_t *index, int64_t *offset)
{
    for (int32_t k = p->n_sums - 1; k >= 0; k--) {
        bool carry = ++index[k] == p->sum_size[k];
        if (carry) index[k] = 0;
        for (int32_t i = 0; i < p->n_terms; i++)
            offset[i] += carry ? -(p->sum_size[k] - 1) * p->sum_stride[k][i] : p->sum_stride[k][i];
        if (!carry) return true;
    }
    return false;
}

static void start_offsets(const einsum_plan *p, int64_t outer, int64_t j0, int64_t *offset)
{
    for (int32_t i = 0; i < p->n_terms; i++) offset[i] = j0 * p->inner_stride[i];
    for (int32_t k = p->n_outer - 1; k >= 0; k--) {
        for (int32_t i = 0; i < p->n_terms; i++)
            offset[i] += outer % p->outer_size[k] * p->outer_stride[k][i];
        outer /= p->outer_size[k];
    }
}

#define EINSUM_TYPE(T, A)                                                                          \
    static void multiply_##T(const einsum_plan *p, const int64_t *offset, int64_t width, A *acc)   \
    {                                                                                              \
        const T *a = (const T *)p->node->in[0]->data + offset[0];                                  \
        int64_t sa = p->inner_stride[0];                                                           \
        if (p->n_terms == 2) {                                                                     \
            const T *b = (const T *)p->node->in[1]->data + offset[1];                              \
            int64_t sb = p->inner_stride[1];                                                       \
            for (int64_t j = 0; j < width; j++) acc[j] += (A)a[j * sa] * (A)b[j * sb];             \
            return;                                                                                \
        }                                                                                          \
        for (int64_t j = 0; j < width; j++) {                                                      \
            A v = (A)a[j * sa];                                                                    \
            for (int32_t i = 1; i < p->n_terms; i++)                                               \
                v *= (A)((const T *)p->node->in[i]->data)[offset[i] + j * p->inner_stride[i]];     \
            acc[j] += v;                                                                           \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void piece_##T(void *arg, int64_t begin, int64_t end)                                   \
    {                                                                                              \
        const einsum_plan *p = arg;                                                                \
        for (int64_t t = begin; t < end; t++) {                                                    \
            int64_t index[LABELS] = {0}, offset[MAX_TERMS];                                        \
            int64_t j0 = t % p->blocks * BLOCK, outer = t / p->blocks;                             \
            int64_t width = p->inner - j0 < BLOCK ? p->inner - j0 : BLOCK;                         \
            A acc[BLOCK] = {0};                                                                    \
            start_offsets(p, outer, j0, offset);                                                   \
            if (p->sums > 0) {                                                                     \
                do multiply_##T(p, offset, width, acc);                                            \
                while (advance(p, index, offset));                                                 \
            }                                                                                      \
            T *y = (T *)p->node->out[0]->data + outer * p->inner + j0;                             \
            for (int64_t j = 0; j < width; j++) y[j] = (T)acc[j];                                  \
        }                                                                                          \
    }
#define INT_TYPE(T, dt) EINSUM_TYPE(T, uint64_t)
EINSUM_TYPE(float, double)
EINSUM_TYPE(double, double)
SP_FOR_INTS(INT_TYPE)

static sparoa_status einsum_run(const sparoa_node *node, const sparoa_exec *exec)
{
    equation e;
    einsum_plan p = {0};
    SP_TRY(read_equation(node, &e, exec->err));
    int64_t count = sp_count(node->out[0]);
    if (count == 0) return SPAROA_OK;
    make_plan(&e, node, &p);
    int64_t work = p.sums * (p.inner < BLOCK ? p.inner : BLOCK);
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt:                                                                                       \
        sp_parallel_for(exec, count / p.inner * p.blocks, 1 + 16384 / (work + 1), piece_##T, &p);  \
        break;
        SP_FOR_NUMBERS(X)
#undef X
    default: break;
    }
    return SPAROA_OK;
}

static void einsum_cost(const sparoa_node *node, sparoa_cost *cost)
{
    equation e;
    for (int32_t i = 0; i < node->n_in; i++)
        if (!sp_known(node->in[i])) return;
    if (read_equation(node, &e, NULL) != SPAROA_OK) return;
    cost->flops = node->n_in > 1 ? node->n_in : 1;
    for (int32_t i = 0; i < LABELS; i++)
        if (e.used[i]) cost->flops *= (double)e.size[i];
}

/* ONNX Einsum, version 12. */
SP_OP(Einsum) = {
    SP_OP_HEAD("Einsum", 12, 0),
    .min_in = 1,
    .max_in = MAX_TERMS,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_GEMM,
    .tolerance = SPAROA_TOL_SUM,
    .infer = einsum_infer,
    .cost = einsum_cost,
    .run = einsum_run,
};
