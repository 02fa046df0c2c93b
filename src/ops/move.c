#include "ops/move.h"

#define GRAIN_BYTES 65536 /* less than this per thread is not worth handing over */

/* A move in bytes, with its axes merged and the innermost run folded into the block. */
typedef struct plan {
    size_t block;
    int32_t rank;
    int64_t dims[SP_MOVE_RANK], ss[SP_MOVE_RANK], ds[SP_MOVE_RANK];
    const char *src;
    char *dst;
    int32_t k; /* transposing: the axis that is contiguous in the source */
    int64_t k_strip, l_strip, k_strips, l_strips;
} plan;

void sp_move_dense(sp_move *m)
{
    int64_t s = 1;
    for (int32_t i = m->rank - 1; i >= 0; i--) {
        m->dst_strides[i] = s;
        s *= m->dims[i];
    }
}

/* Blocks are whole runs of smaller elements, so they may lie anywhere. */
typedef uint8_t any_1 __attribute__((aligned(1), may_alias));
typedef uint16_t any_2 __attribute__((aligned(1), may_alias));
typedef uint32_t any_4 __attribute__((aligned(1), may_alias));
typedef uint64_t any_8 __attribute__((aligned(1), may_alias));

static void copy_row(const plan *p, char *dst, const char *src, int64_t n)
{
    int64_t ss = p->ss[p->rank - 1], ds = p->ds[p->rank - 1];
    switch (p->block) {
#define X(ctype, bytes)                                                                            \
    case bytes:                                                                                    \
        if (ss == 0 && ds == bytes) {                                                              \
            any_##bytes v = *(const any_##bytes *)src;                                             \
            for (int64_t i = 0; i < n; i++) ((any_##bytes *)dst)[i] = v;                           \
        } else if (ds == bytes && ss == 2 * bytes) { /* a constant, which is vectorised */         \
            for (int64_t i = 0; i < n; i++)                                                        \
                ((any_##bytes *)dst)[i] = ((const any_##bytes *)src)[2 * i];                       \
        } else if (ds == bytes) {                                                                  \
            for (int64_t i = 0; i < n; i++)                                                        \
                ((any_##bytes *)dst)[i] = *(const any_##bytes *)(src + i * ss);                    \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++)                                                        \
                *(any_##bytes *)(dst + i * ds) = *(const any_##bytes *)(src + i * ss);             \
        }                                                                                          \
        break;
        SP_FOR_SIZES(X)
#undef X
    case 16:
        for (int64_t i = 0; i < n; i++) memcpy(dst + i * ds, src + i * ss, 16);
        break;
    default:
        for (int64_t i = 0; i < n; i++) memcpy(dst + i * ds, src + i * ss, p->block);
    }
}

/* Blocks begin..end-1 in the order of the axes. */
static void walk(void *arg, int64_t begin, int64_t end)
{
    const plan *p = arg;
    int32_t last = p->rank - 1;
    int64_t at[SP_MOVE_RANK], n = p->dims[last], j = begin % n, row = begin / n;
    const char *src = p->src;
    char *dst = p->dst;
    for (int32_t i = last - 1; i >= 0; i--) {
        at[i] = row % p->dims[i];
        row /= p->dims[i];
        src += at[i] * p->ss[i];
        dst += at[i] * p->ds[i];
    }
    while (begin < end) {
        int64_t count = n - j < end - begin ? n - j : end - begin;
        copy_row(p, dst + j * p->ds[last], src + j * p->ss[last], count);
        begin += count;
        j = 0;
        for (int32_t i = last - 1; i >= 0; i--) {
            src += p->ss[i];
            dst += p->ds[i];
            if (++at[i] < p->dims[i]) break;
            src -= at[i] * p->ss[i];
            dst -= at[i] * p->ds[i];
            at[i] = 0;
        }
    }
}

/* ---- blocked transposes ---- */

#ifdef __clang__
#define UNROLL(n) _Pragma("clang loop unroll(full)")
#else
#define UNROLL(n) UNROLL_(GCC unroll n)
#define UNROLL_(text) _Pragma(#text)
#endif
typedef uint8_t vec_1 __attribute__((vector_size(16)));
typedef uint16_t vec_2 __attribute__((vector_size(16)));
typedef uint32_t vec_4 __attribute__((vector_size(16)));
typedef uint64_t vec_8 __attribute__((vector_size(16)));
#define LOW_1(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH_1(a, b)                                                                               \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define LOW_2(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH_2(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LOW_4(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH_4(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define LOW_8(a, b) __builtin_shufflevector(a, b, 0, 2)
#define HIGH_8(a, b) __builtin_shufflevector(a, b, 1, 3)

/* rows x cols elements: dst[c][r] = src[r][c], rows sl bytes apart in the source, columns dk bytes
 * in the destination. The square of 16-byte vectors is turned by log2(lanes) rounds of interleaving
 * its halves. A few whole rows (color channels, pixel shuffles) are woven together. */
#define X(ctype, bytes)                                                                            \
    static inline void turn_##bytes(const char *src, int64_t sl, char *dst, int64_t dk)            \
    {                                                                                              \
        enum { lanes = 16 / bytes };                                                               \
        vec_##bytes v[lanes], w[lanes];                                                            \
        UNROLL(16) for (int i = 0; i < lanes; i++) memcpy(&v[i], src + i * sl, 16);                \
        UNROLL(4) for (int half = lanes; half > 1; half /= 2)                                      \
        {                                                                                          \
            UNROLL(8) for (int i = 0; i < lanes / 2; i++)                                          \
            {                                                                                      \
                w[2 * i] = LOW_##bytes(v[i], v[i + lanes / 2]);                                    \
                w[2 * i + 1] = HIGH_##bytes(v[i], v[i + lanes / 2]);                               \
            }                                                                                      \
            UNROLL(16) for (int i = 0; i < lanes; i++) v[i] = w[i];                                \
        }                                                                                          \
        UNROLL(16) for (int i = 0; i < lanes; i++) memcpy(dst + i * dk, &v[i], 16);                \
    }                                                                                              \
    static inline void weave_##bytes(const char *src, int64_t sl, char *dst, int64_t cols, int n)  \
    {                                                                                              \
        any_##bytes *restrict y = (any_##bytes *)dst;                                              \
        for (int64_t c = 0; c < cols; c++) UNROLL(4)                                               \
        for (int r = 0; r < n; r++) y[c * n + r] = ((const any_##bytes *)(src + r * sl))[c];       \
    }                                                                                              \
    static void transpose_##bytes(const char *src, int64_t sl, char *dst, int64_t dk,              \
                                  int64_t rows, int64_t cols)                                      \
    {                                                                                              \
        enum { lanes = 16 / bytes, line = 64 / bytes };                                            \
        int64_t whole_r = rows / lanes * lanes, whole_c = cols / lanes * lanes;                    \
        if (dk == rows * bytes && rows >= 2 && rows <= 4) {                                        \
            if (rows == 2)                                                                         \
                weave_##bytes(src, sl, dst, cols, 2);                                              \
            else if (rows == 3)                                                                    \
                weave_##bytes(src, sl, dst, cols, 3);                                              \
            else                                                                                   \
                weave_##bytes(src, sl, dst, cols, 4);                                              \
            return;                                                                                \
        }                                                                                          \
        for (int64_t r0 = 0; r0 < whole_r; r0 += line) {                                           \
            int64_t r1 = r0 + line < whole_r ? r0 + line : whole_r;                                \
            for (int64_t c = 0; c < whole_c; c += lanes)                                           \
                for (int64_t r = r0; r < r1; r += lanes)                                           \
                    turn_##bytes(src + r * sl + c * bytes, sl, dst + c * dk + r * bytes, dk);      \
        }                                                                                          \
        for (int64_t c = 0; c < cols; c++)                                                         \
            for (int64_t r = c < whole_c ? whole_r : 0; r < rows; r++)                             \
                *(any_##bytes *)(dst + c * dk + r * bytes) =                                       \
                    *(const any_##bytes *)(src + r * sl + c * bytes);                              \
    }
SP_FOR_SIZES(X)
#undef X

/* Strips begin..end-1: (outer axes, strip of axis k, strip of the last axis). */
static void transpose_strips(void *arg, int64_t begin, int64_t end)
{
    const plan *p = arg;
    int32_t last = p->rank - 1;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t l0 = unit % p->l_strips * p->l_strip, rest = unit / p->l_strips;
        int64_t k0 = rest % p->k_strips * p->k_strip;
        rest /= p->k_strips;
        const char *src = p->src + l0 * p->ss[last] + k0 * p->ss[p->k];
        char *dst = p->dst + l0 * p->ds[last] + k0 * p->ds[p->k];
        for (int32_t i = last - 1; i >= 0; i--) {
            if (i == p->k) continue;
            src += rest % p->dims[i] * p->ss[i];
            dst += rest % p->dims[i] * p->ds[i];
            rest /= p->dims[i];
        }
        int64_t rows = p->dims[last] - l0 < p->l_strip ? p->dims[last] - l0 : p->l_strip;
        int64_t cols = p->dims[p->k] - k0 < p->k_strip ? p->dims[p->k] - k0 : p->k_strip;
        switch (p->block) {
#define X(ctype, bytes)                                                                            \
    case bytes: transpose_##bytes(src, p->ss[last], dst, p->ds[p->k], rows, cols); break;
            SP_FOR_SIZES(X)
#undef X
        default: break;
        }
    }
}

/* Looks for the pair of axes to transpose; false: there is none. */
static bool plan_transpose(plan *p)
{
    int32_t last = p->rank - 1;
    p->k = -1;
    if (p->block > 8 || (p->block & (p->block - 1)) || p->ds[last] != (int64_t)p->block)
        return false;
    for (int32_t i = 0; i < last; i++)
        if (p->ss[i] == (int64_t)p->block && (p->k < 0 || p->dims[i] > p->dims[p->k])) p->k = i;
    if (p->k < 0) return false;
    int64_t line = 64 / (int64_t)p->block;
    p->k_strip = p->dims[last] < line ? 1024 : line;
    p->l_strip = p->dims[p->k] < line ? 4096 : 1024;
    p->k_strips = (p->dims[p->k] + p->k_strip - 1) / p->k_strip;
    p->l_strips = (p->dims[last] + p->l_strip - 1) / p->l_strip;
    return true;
}

/* ---- planning ---- */

/* False: nothing to move. */
static bool make_plan(const sp_move *m, plan *p)
{
    *p = (plan){.block = m->size, .src = m->src, .dst = m->dst};
    int64_t size = (int64_t)m->size;
    for (int32_t i = 0; i < m->rank; i++) {
        if (m->dims[i] == 0) return false;
        if (m->dims[i] == 1) continue;
        int64_t ss = m->src_strides[i] * size, ds = m->dst_strides[i] * size;
        int32_t r = p->rank;
        if (r && p->ss[r - 1] == ss * m->dims[i] && p->ds[r - 1] == ds * m->dims[i]) {
            p->dims[r - 1] *= m->dims[i];
            p->ss[r - 1] = ss;
            p->ds[r - 1] = ds;
            continue;
        }
        p->dims[r] = m->dims[i];
        p->ss[r] = ss;
        p->ds[r] = ds;
        p->rank++;
    }
    int32_t last = p->rank - 1;
    if (p->rank && p->ss[last] == size && p->ds[last] == size) {
        p->block *= (size_t)p->dims[last];
        p->rank--;
    }
    return true;
}

void sp_move_run(const sp_move *m, const sparoa_exec *exec)
{
    plan p;
    if (!make_plan(m, &p)) return;
    if (p.rank == 0) {
        sp_move_bytes(p.dst, p.src, p.block, exec);
        return;
    }
    int64_t blocks = 1;
    for (int32_t i = 0; i < p.rank; i++) blocks *= p.dims[i];
    if (plan_transpose(&p)) {
        int64_t units = blocks / p.dims[p.k] / p.dims[p.rank - 1] * p.k_strips * p.l_strips;
        int64_t unit_bytes = (blocks * (int64_t)p.block + units - 1) / units;
        sp_parallel_for(exec, units, GRAIN_BYTES / unit_bytes + 1, transpose_strips, &p);
    } else {
        sp_parallel_for(exec, blocks, GRAIN_BYTES / (int64_t)p.block + 1, walk, &p);
    }
}

typedef struct bytes_args {
    char *dst;
    const char *src;
} bytes_args;

static void bytes_piece(void *arg, int64_t begin, int64_t end)
{
    const bytes_args *a = arg;
    memcpy(a->dst + begin, a->src + begin, (size_t)(end - begin));
}

void sp_move_bytes(void *dst, const void *src, size_t bytes, const sparoa_exec *exec)
{
    if (dst == src) return;
    bytes_args a = {dst, src};
    sp_parallel_for(exec, (int64_t)bytes, 4 * GRAIN_BYTES, bytes_piece, &a);
}

void sp_fill(void *dst, size_t size, int64_t count, const void *value)
{
    if (count <= 0) return;
    static const char zeros[8];
    bool zero = !value || (size <= 8 && memcmp(value, zeros, size) == 0);
    if (zero) {
        memset(dst, 0, size * (size_t)count);
        return;
    }
    switch (size) {
#define X(ctype, bytes)                                                                            \
    case bytes: {                                                                                  \
        ctype v;                                                                                   \
        memcpy(&v, value, bytes);                                                                  \
        for (int64_t i = 0; i < count; i++) ((ctype *)dst)[i] = v;                                 \
        break;                                                                                     \
    }
        SP_FOR_SIZES(X)
#undef X
    default:
        for (int64_t i = 0; i < count; i++) memcpy((char *)dst + i * (int64_t)size, value, size);
    }
}

typedef struct slot_job {
    int64_t total;
    int32_t pieces;
    void (*body)(void *arg, int32_t slot, int64_t begin, int64_t end);
    void *arg;
} slot_job;

static void slot_piece(void *arg, int32_t i)
{
    const slot_job *job = arg;
    int64_t each = job->total / job->pieces, more = job->total % job->pieces;
    int64_t begin = each * i + (i < more ? i : more);
    job->body(job->arg, i, begin, begin + each + (i < more ? 1 : 0));
}

void sp_parallel_slots(const sparoa_exec *exec, int64_t total, int64_t grain,
                       void (*body)(void *arg, int32_t slot, int64_t begin, int64_t end), void *arg)
{
    if (total <= 0) return;
    int64_t pieces = grain > 0 ? total / grain : total;
    if (pieces > exec->threads) pieces = exec->threads;
    if (pieces <= 1) {
        body(arg, 0, 0, total);
        return;
    }
    slot_job job = {total, (int32_t)pieces, body, arg};
    exec->parallel(exec, job.pieces, slot_piece, &job);
}

/* ---- indices ---- */

sparoa_status sp_read_scalar(const sparoa_node *node, int32_t input, int64_t *value, bool *known,
                             sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, input);
    *known = false;
    if (!t) return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "input %d is missing", input);
    if (!sp_is_int(t->dtype))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "input %d is %s, expected an integer", input,
                           sparoa_dtype_name(t->dtype));
    if (!sp_known(t)) return SPAROA_OK;
    if (sp_count(t) != 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input %d has %lld elements, expected one", input,
                           (long long)sp_count(t));
    *known = t->data != NULL;
    if (*known) *value = sp_get_i64(t, 0);
    return SPAROA_OK;
}

sparoa_status sp_check_indices(const sparoa_node *node, int32_t input, sparoa_error *err)
{
    return sp_check_type(node, input, 1u << SPAROA_INT32 | 1u << SPAROA_INT64, err);
}

sparoa_status sp_fail_index(const sparoa_node *node, const sparoa_tensor *indices, int64_t i,
                            int32_t axis, int64_t extent, sparoa_error *err)
{
    return sparoa_fail(
        err, SPAROA_INDEX_OUT_OF_RANGE, node,
        "index %lld (element %lld of the indices) is out of range for axis %d of size %lld",
        (long long)sp_get_i64(indices, i), (long long)i, axis, (long long)extent);
}

sparoa_status sp_check_range(const sparoa_node *node, const sparoa_tensor *indices, int32_t axis,
                             int64_t extent, sparoa_error *err)
{
    int64_t n = sp_count(indices);
    for (int64_t i = 0; i < n; i++)
        if (sp_index_at(indices, i, extent) < 0)
            return sp_fail_index(node, indices, i, axis, extent, err);
    return SPAROA_OK;
}
