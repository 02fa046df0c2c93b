#include "ops/move.h"

#define CHUNK 128 /* neighbouring lines searched together */

typedef struct arg_spec {
    const sparoa_tensor *in;
    sparoa_tensor *out;
    int64_t n, inner;
    bool min, last;
} arg_spec;

/* Index of the best element of each of `width` lines that start at base. A NaN beats every number;
 * of equal ones the first wins, or the last with `last`. */
#define X(ctype, dt)                                                                               \
    static void search_##ctype(const arg_spec *a, int64_t base, int64_t width, int64_t *index)     \
    {                                                                                              \
        const ctype *x = (const ctype *)a->in->data + base;                                        \
        ctype best[CHUNK];                                                                         \
        for (int64_t c = 0; c < width; c++) {                                                      \
            best[c] = x[c];                                                                        \
            index[c] = 0;                                                                          \
        }                                                                                          \
        for (int64_t i = 1; i < a->n; i++) {                                                       \
            x += a->inner;                                                                         \
            for (int64_t c = 0; c < width; c++) {                                                  \
                ctype v = x[c], b = best[c];                                                       \
                bool better = a->min ? v < b : v > b, same = v == b || (v != v && b != b);         \
                bool take = better || (v != v && b == b) || (a->last && same);                     \
                best[c] = take ? v : b;                                                            \
                index[c] = take ? i : index[c];                                                    \
            }                                                                                      \
        }                                                                                          \
    }
SP_FOR_NUMBERS(X)
#undef X

static void search(const arg_spec *a, int64_t base, int64_t width, int64_t *index)
{
    switch (a->in->dtype) {
#define X(ctype, dt)                                                                               \
    case dt: search_##ctype(a, base, width, index); break;
        SP_FOR_NUMBERS(X)
#undef X
    default: break;
    }
}

/* Lines begin..end-1 in pieces of at most CHUNK with the same outer index. */
static void arg_piece(void *arg, int64_t begin, int64_t end)
{
    const arg_spec *a = arg;
    while (begin < end) {
        int64_t column = begin % a->inner, width = a->inner - column;
        if (width > end - begin) width = end - begin;
        if (width > CHUNK) width = CHUNK;
        search(a, begin / a->inner * a->n * a->inner + column, width,
               (int64_t *)a->out->data + begin);
        begin += width;
    }
}

static sparoa_status arg_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_NUMBER, err));
    const sparoa_tensor *in = node->in[0];
    bool keep = sparoa_attr_int(node, "keepdims", 1) != 0;
    int32_t axis, rank = 0;
    sp_set_shape(node->out[0], SPAROA_INT64, -1, NULL);
    if (in->rank < 0) return SPAROA_OK;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &axis, err));
    if (in->dims[axis] == 0)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "axis %d has no elements", axis);
    int64_t dims[SPAROA_MAX_RANK];
    for (int32_t i = 0; i < in->rank; i++) {
        if (i != axis)
            dims[rank++] = in->dims[i];
        else if (keep)
            dims[rank++] = 1;
    }
    sp_set_shape(node->out[0], SPAROA_INT64, rank, dims);
    return SPAROA_OK;
}

static sparoa_status arg_run(const sparoa_node *node, bool min, const sparoa_exec *exec)
{
    arg_spec a = {.in = node->in[0], .out = node->out[0], .min = min};
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), a.in->rank, false, &axis, exec->err));
    a.last = sparoa_attr_int(node, "select_last_index", 0) != 0;
    a.n = a.in->dims[axis];
    a.inner = sp_inner(a.in, axis);
    sp_parallel_for(exec, sp_count(a.out), 16384 / a.n + 1, arg_piece, &a);
    return SPAROA_OK;
}

static sparoa_status argmax_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return arg_run(node, false, exec);
}

static sparoa_status argmin_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return arg_run(node, true, exec);
}

/* ONNX ArgMax, versions 1 to 13; select_last_index since 12. */
SP_OP(ArgMax) = {
    SP_OP_HEAD("ArgMax", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = arg_infer,
    .run = argmax_run,
};

/* ONNX ArgMin, versions 1 to 13; select_last_index since 12. */
SP_OP(ArgMin) = {
    SP_OP_HEAD("ArgMin", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = arg_infer,
    .run = argmin_run,
};
