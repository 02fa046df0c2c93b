#include "ops/move.h"

typedef struct scan_args {
    const sparoa_tensor *in;
    sparoa_tensor *out;
    int64_t n, inner;
    bool product, reverse, exclusive;
} scan_args;

/* Integers wrap around. */
#define ADD_INT(ctype, a, b) (ctype)((uint64_t)(a) + (uint64_t)(b))
#define MUL_INT(ctype, a, b) (ctype)((uint64_t)(a) * (uint64_t)(b))
#define ADD_FLOAT(ctype, a, b) ((a) + (b))
#define MUL_FLOAT(ctype, a, b) ((a) * (b))

/* `width` neighbouring lines: each row of them is the row before combined with a row of the input.
 */
#define SCAN(ctype, ADD, MUL)                                                                      \
    static void scan_##ctype(const scan_args *a, int64_t base, int64_t width)                      \
    {                                                                                              \
        int64_t step = a->reverse ? -a->inner : a->inner;                                          \
        int64_t first = base + (a->reverse ? (a->n - 1) * a->inner : 0);                           \
        const ctype *x = (const ctype *)a->in->data + first;                                       \
        ctype *y = (ctype *)a->out->data + first;                                                  \
        for (int64_t c = 0; c < width; c++) y[c] = a->exclusive ? (ctype)a->product : x[c];        \
        for (int64_t i = 1; i < a->n; i++) {                                                       \
            const ctype *term = a->exclusive ? x : x + step;                                       \
            if (a->product)                                                                        \
                for (int64_t c = 0; c < width; c++) y[c + step] = MUL(ctype, y[c], term[c]);       \
            else                                                                                   \
                for (int64_t c = 0; c < width; c++) y[c + step] = ADD(ctype, y[c], term[c]);       \
            x += step;                                                                             \
            y += step;                                                                             \
        }                                                                                          \
    }
#define X(ctype, dt) SCAN(ctype, ADD_INT, MUL_INT)
SP_FOR_INTS(X)
#undef X
#define X(ctype, dt) SCAN(ctype, ADD_FLOAT, MUL_FLOAT)
SP_FOR_FLOATS(X)
#undef X

/* Lines begin..end-1, counted as (outer, inner). */
static void scan_piece(void *arg, int64_t begin, int64_t end)
{
    const scan_args *a = arg;
    while (begin < end) {
        int64_t column = begin % a->inner, width = a->inner - column;
        if (width > end - begin) width = end - begin;
        int64_t base = begin / a->inner * a->n * a->inner + column;
        switch (a->in->dtype) {
#define X(ctype, dt)                                                                               \
    case dt: scan_##ctype(a, base, width); break;
            SP_FOR_NUMBERS(X)
#undef X
        default: break;
        }
        begin += width;
    }
}

static sparoa_status scan_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_NUMBER, err));
    int64_t raw;
    int32_t axis;
    bool known;
    SP_TRY(sp_read_scalar(node, 1, &raw, &known, err));
    if (known && node->in[0]->rank >= 0)
        SP_TRY(sp_axis(node, raw, node->in[0]->rank, false, &axis, err));
    return sp_infer_same(node, err);
}

static sparoa_status scan(const sparoa_node *node, bool product, const sparoa_exec *exec)
{
    scan_args a = {.in = node->in[0], .out = node->out[0], .product = product};
    int32_t axis;
    SP_TRY(sp_axis(node, sp_get_i64(node->in[1], 0), a.in->rank, false, &axis, exec->err));
    a.reverse = sparoa_attr_int(node, "reverse", 0) != 0;
    a.exclusive = sparoa_attr_int(node, "exclusive", 0) != 0;
    a.n = a.in->dims[axis];
    a.inner = sp_inner(a.in, axis);
    if (sp_count(a.in) == 0) return SPAROA_OK;
    sp_parallel_for(exec, sp_outer(a.in, axis) * a.inner, 16384 / a.n + 1, scan_piece, &a);
    return SPAROA_OK;
}

static sparoa_status cumsum_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return scan(node, false, exec);
}

static sparoa_status cumprod_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return scan(node, true, exec);
}

/* ONNX CumSum, versions 11 and 14. */
SP_OP(CumSum) = {
    SP_OP_HEAD("CumSum", 11, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_SUM,
    .infer = scan_infer,
    .run = cumsum_run,
};

/* ONNX CumProd, version 26. */
SP_OP(CumProd) = {
    SP_OP_HEAD("CumProd", 26, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_SUM,
    .infer = scan_infer,
    .run = cumprod_run,
};
