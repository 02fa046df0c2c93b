#include "ops/move.h"

/* A value as an unsigned number of the same order, so that one selection serves every type. Order:
 * NaN is greater than everything else (all NaN are equal), and -0 equals 0. For the smallest k the
 * keys are inverted. */
typedef struct entry {
    uint64_t key;
    int64_t index;
} entry;

static inline uint64_t key_double(double v)
{
    if (v != v) return UINT64_MAX;
    if (v == 0) v = 0; /* drops the sign of -0 */
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    return u >> 63 ? ~u : u | 0x8000000000000000u;
}

static inline uint64_t key_float(float v)
{
    return key_double(v);
}

#define X(ctype, dt)                                                                               \
    static inline uint64_t key_##ctype(ctype v)                                                    \
    {                                                                                              \
        return (ctype)-1 < (ctype)1 ? (uint64_t)(int64_t)v ^ 0x8000000000000000u : (uint64_t)v;    \
    }
SP_FOR_INTS(X)
#undef X

/* a comes before b in the result. */
static inline bool before(entry a, entry b)
{
    return a.key > b.key || (a.key == b.key && a.index < b.index);
}

/* Heap whose root comes last in the result. */
static void sift_down(entry *heap, int64_t n, int64_t at)
{
    entry e = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(heap[child], heap[child + 1])) child++;
        if (!before(e, heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = e;
}

static void heap_make(entry *heap, int64_t n)
{
    for (int64_t i = n / 2 - 1; i >= 0; i--) sift_down(heap, n, i);
}

static void heap_sort(entry *heap, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        entry last = heap[i];
        heap[i] = heap[0];
        heap[0] = last;
        sift_down(heap, i, 0);
    }
}

typedef struct topk_args {
    const sparoa_tensor *in;
    sparoa_tensor *values, *indices;
    int64_t n, k, inner;
    uint64_t flip;
    entry *heaps;
} topk_args;

static void select_line(const topk_args *a, const sparoa_tensor *in, int64_t from, entry *heap)
{
    int64_t n = a->n, k = a->k, inner = a->inner;
    switch (in->dtype) {
#define X(ctype, dt)                                                                               \
    case dt: {                                                                                     \
        const ctype *x = (const ctype *)in->data + from;                                           \
        for (int64_t i = 0; i < k; i++) heap[i] = (entry){key_##ctype(x[i * inner]) ^ a->flip, i}; \
        heap_make(heap, k);                                                                        \
        for (int64_t i = k; i < n; i++) {                                                          \
            uint64_t key = key_##ctype(x[i * inner]) ^ a->flip;                                    \
            if (key <= heap[0].key) continue; /* equal: the lower index stays */                   \
            heap[0] = (entry){key, i};                                                             \
            sift_down(heap, k, 0);                                                                 \
        }                                                                                          \
        break;                                                                                     \
    }
        SP_FOR_NUMBERS(X)
#undef X
    default: break;
    }
    heap_sort(heap, k);
}

static void topk_lines(void *arg, int32_t slot, int64_t begin, int64_t end)
{
    const topk_args *a = arg;
    entry *heap = a->heaps + slot * a->k;
    size_t size = sparoa_dtype_size(a->in->dtype);
    for (int64_t line = begin; line < end; line++) {
        int64_t outer = line / a->inner, inner = line % a->inner;
        int64_t from = outer * a->n * a->inner + inner, to = outer * a->k * a->inner + inner;
        select_line(a, a->in, from, heap);
        for (int64_t i = 0; i < a->k; i++) {
            int64_t at = to + i * a->inner;
            if (a->indices) ((int64_t *)a->indices->data)[at] = heap[i].index;
            if (a->values)
                sp_copy_block((char *)a->values->data + at * (int64_t)size,
                              (const char *)a->in->data +
                                  (from + heap[i].index * a->inner) * (int64_t)size,
                              size);
        }
    }
}

/* k as attribute (version 1) or input 1. */
static sparoa_status read_k(const sparoa_node *node, int64_t *k, bool *known, sparoa_error *err)
{
    const sparoa_attr *attr = sparoa_attr_find(node, "k");
    if (!attr) return sp_read_scalar(node, 1, k, known, err);
    *known = true;
    *k = sparoa_attr_int(node, "k", -1);
    return SPAROA_OK;
}

static sparoa_status topk_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 0, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_NUMBER, err));
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *values = sparoa_out(node, 0), *indices = sparoa_out(node, 1);
    sparoa_tensor fact = {0};
    int64_t k = -1;
    bool known;
    SP_TRY(read_k(node, &k, &known, err));
    if (known && k < 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "k=%lld is negative", (long long)k);
    sp_copy_fact(&fact, in);
    if (in->rank >= 0) {
        int32_t axis;
        SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), in->rank, false, &axis, err));
        if (known && in->dims[axis] >= 0 && k > in->dims[axis])
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "k=%lld is more than the %lld elements of axis %d", (long long)k,
                               (long long)in->dims[axis], axis);
        fact.dims[axis] = known ? k : -1;
    }
    if (values) sp_copy_fact(values, &fact);
    if (indices) sp_set_shape(indices, SPAROA_INT64, fact.rank, fact.dims);
    return SPAROA_OK;
}

static size_t topk_workspace(const sparoa_node *node, int32_t threads)
{
    int64_t k = 0;
    bool known;
    if (read_k(node, &k, &known, NULL) != SPAROA_OK || !known) return 0;
    return (size_t)k * (size_t)threads * sizeof(entry);
}

static sparoa_status topk_run(const sparoa_node *node, const sparoa_exec *exec)
{
    topk_args a = {
        .in = node->in[0], .values = sparoa_out(node, 0), .indices = sparoa_out(node, 1)};
    int32_t axis;
    bool known;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), a.in->rank, false, &axis, exec->err));
    SP_TRY(read_k(node, &a.k, &known, exec->err));
    a.n = a.in->dims[axis];
    a.inner = sp_inner(a.in, axis);
    a.flip = sparoa_attr_int(node, "largest", 1) ? 0 : UINT64_MAX;
    a.heaps = exec->workspace;
    if (a.k == 0 || a.k > a.n) return SPAROA_OK;
    sp_parallel_slots(exec, sp_outer(a.in, axis) * a.inner, 8192 / a.n + 1, topk_lines, &a);
    return SPAROA_OK;
}

/* ONNX TopK, versions 1 to 24: k as attribute or (10) input. Equal values come in the order of
 * their indices; NaN counts as the largest value. Always sorted, which `sorted`=0 allows. */
SP_OP(TopK) = {
    SP_OP_HEAD("TopK", 1, 0),
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 2,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = topk_infer,
    .workspace = topk_workspace,
    .run = topk_run,
};
