/* The Reduce family. Adjacent axes of the same kind are merged, so that most cases become
 * [outer, reduce, inner]; the rest is walked with an odometer. Floats are summed in double,
 * integers modulo 2^64. */
#include "ops/reduce.h"

#define BLOCK 256 /* accumulators at a time, along kept elements */
#define LANES 64  /* the same along a contiguous reduced axis */

typedef enum reduce_kind {
    KIND_SUM,
    KIND_MEAN,
    KIND_SUM_SQUARE,
    KIND_L1,
    KIND_L2,
    KIND_LOG_SUM,
    KIND_LOG_SUM_EXP,
    KIND_MAX,
    KIND_MIN,
    KIND_PROD
} reduce_kind;

/* How an element joins an accumulator. */
typedef enum fold_kind {
    FOLD_SUM,
    FOLD_SQUARE,
    FOLD_ABS,
    FOLD_EXP,
    FOLD_MAX,
    FOLD_MIN,
    FOLD_PROD
} fold_kind;

typedef struct reduce_plan {
    sp_reduce_axes axes;
    int64_t blocks; /* blocks of `inner` */
    reduce_kind kind;
    const sparoa_tensor *in;
    sparoa_tensor *out;
} reduce_plan;

static fold_kind fold_of(reduce_kind kind)
{
    switch (kind) {
    case KIND_SUM_SQUARE:
    case KIND_L2: return FOLD_SQUARE;
    case KIND_L1: return FOLD_ABS;
    case KIND_LOG_SUM_EXP: return FOLD_EXP;
    case KIND_MAX: return FOLD_MAX;
    case KIND_MIN: return FOLD_MIN;
    case KIND_PROD: return FOLD_PROD;
    default: return FOLD_SUM;
    }
}

/* ---- one instance per element type ---- */

#define ABS_INT(x) ((x) < 0 ? 0 - (uint64_t)(x) : (uint64_t)(x))
#define ABS_UINT(x) (x)
#define DIV_FLOAT(a, n) ((a) / (double)(n))
#define DIV_INT(a, n) ((n) ? (a) / (n) : 0)
#define DIV_UINT(a, n) ((n) ? (a) / (uint64_t)(n) : 0)

/* T: element. A: accumulator. U: the type that sums and products are formed in (unsigned for
 * integers, which wrap). LO, HI: where a maximum and a minimum start. NaN wins in both. */
#define REDUCE_TYPE(NAME, T, A, U, ABS, DIV, LO, HI)                                               \
    static void fold_##NAME(fold_kind fold, A *acc, const double *shift, const T *x, int64_t n)    \
    {                                                                                              \
        switch (fold) {                                                                            \
        case FOLD_SUM:                                                                             \
            for (int64_t j = 0; j < n; j++) acc[j] = (A)((U)acc[j] + (U)x[j]);                     \
            break;                                                                                 \
        case FOLD_SQUARE:                                                                          \
            for (int64_t j = 0; j < n; j++) acc[j] = (A)((U)acc[j] + (U)x[j] * (U)x[j]);           \
            break;                                                                                 \
        case FOLD_ABS:                                                                             \
            for (int64_t j = 0; j < n; j++) acc[j] = (A)((U)acc[j] + (U)ABS(x[j]));                \
            break;                                                                                 \
        case FOLD_EXP:                                                                             \
            for (int64_t j = 0; j < n; j++) acc[j] += (A)exp((double)x[j] - shift[j]);             \
            break;                                                                                 \
        case FOLD_MAX:                                                                             \
            for (int64_t j = 0; j < n; j++)                                                        \
                acc[j] = (A)x[j] > acc[j] || x[j] != x[j] ? (A)x[j] : acc[j];                      \
            break;                                                                                 \
        case FOLD_MIN:                                                                             \
            for (int64_t j = 0; j < n; j++)                                                        \
                acc[j] = (A)x[j] < acc[j] || x[j] != x[j] ? (A)x[j] : acc[j];                      \
            break;                                                                                 \
        case FOLD_PROD:                                                                            \
            for (int64_t j = 0; j < n; j++) acc[j] = (A)((U)acc[j] * (U)x[j]);                     \
            break;                                                                                 \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    /* Folds all that belongs to `width` neighbouring outputs, whose first element is x, into acc  \
     */                                                                                            \
    /* (along a run: into its lanes). */                                                           \
    static void walk_##NAME(const reduce_plan *p, fold_kind fold, const T *x, A *acc,              \
                            const double *shift, int64_t width)                                    \
    {                                                                                              \
        int64_t index[SPAROA_MAX_RANK] = {0};                                                      \
        for (int64_t r = 0; r < p->axes.rows; r++) {                                               \
            if (p->axes.run == 1)                                                                  \
                fold_##NAME(fold, acc, shift, x, width);                                           \
            else                                                                                   \
                for (int64_t k = 0; k < p->axes.run; k += LANES)                                   \
                    fold_##NAME(fold, acc, shift, x + k,                                           \
                                p->axes.run - k < LANES ? p->axes.run - k : LANES);                \
            for (int32_t g = p->axes.n_reduced - 1; g >= 0; g--) {                                 \
                x += p->axes.reduced[g].stride;                                                    \
                if (++index[g] < p->axes.reduced[g].size) break;                                   \
                x -= p->axes.reduced[g].stride * p->axes.reduced[g].size;                          \
                index[g] = 0;                                                                      \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void gather_##NAME(const reduce_plan *p, fold_kind fold, const T *x, A *acc,            \
                              const double *shift, int64_t width)                                  \
    {                                                                                              \
        int64_t lanes = p->axes.run == 1      ? width                                              \
                        : p->axes.run < 1     ? 1                                                  \
                        : p->axes.run < LANES ? p->axes.run                                        \
                                              : LANES;                                             \
        for (int64_t j = 0; j < lanes; j++)                                                        \
            acc[j] = fold == FOLD_PROD ? 1 : fold == FOLD_MAX ? LO : fold == FOLD_MIN ? HI : 0;    \
        walk_##NAME(p, fold, x, acc, shift, width);                                                \
        for (int64_t j = 1; p->axes.run != 1 && j < lanes; j++) {                                  \
            A v = acc[j];                                                                          \
            if (fold == FOLD_PROD)                                                                 \
                acc[0] = (A)((U)acc[0] * (U)v);                                                    \
            else if (fold == FOLD_MAX)                                                             \
                acc[0] = v > acc[0] || v != v ? v : acc[0];                                        \
            else if (fold == FOLD_MIN)                                                             \
                acc[0] = v < acc[0] || v != v ? v : acc[0];                                        \
            else                                                                                   \
                acc[0] = (A)((U)acc[0] + (U)v);                                                    \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    /* The maxima that keep exp from overflowing; 0 where they are not finite. */                  \
    static void shifts_##NAME(const reduce_plan *p, const T *x, A *acc, double *shift,             \
                              int64_t width)                                                       \
    {                                                                                              \
        gather_##NAME(p, FOLD_MAX, x, acc, shift, width);                                          \
        for (int64_t j = 0; j < width; j++)                                                        \
            shift[j] = isfinite((double)acc[j]) ? (double)acc[j] : 0;                              \
        for (int64_t j = 1; p->axes.run != 1 && j < LANES; j++) shift[j] = shift[0];               \
        if (p->axes.total == 0) shift[0] = 0;                                                      \
    }                                                                                              \
                                                                                                   \
    static void piece_##NAME(void *arg, int64_t begin, int64_t end)                                \
    {                                                                                              \
        const reduce_plan *p = arg;                                                                \
        fold_kind fold = fold_of(p->kind);                                                         \
        A acc[BLOCK];                                                                              \
        double shift[BLOCK];                                                                       \
        for (int64_t i = begin; i < end; i++) {                                                    \
            int64_t o = i / p->blocks, j0 = i % p->blocks * BLOCK;                                 \
            int64_t width = p->axes.inner - j0 < BLOCK ? p->axes.inner - j0 : BLOCK,               \
                    at = o * p->axes.inner + j0;                                                   \
            const T *x =                                                                           \
                (const T *)p->in->data + sp_reduce_offset(p->axes.kept, p->axes.n_kept, o) + j0;   \
            T *y = (T *)p->out->data + at;                                                         \
            if (fold == FOLD_EXP) shifts_##NAME(p, x, acc, shift, width);                          \
            gather_##NAME(p, fold, x, acc, shift, width);                                          \
            for (int64_t j = 0; j < width; j++) {                                                  \
                if (p->kind == KIND_MEAN)                                                          \
                    y[j] = (T)DIV(acc[j], p->axes.total);                                          \
                else if (p->kind == KIND_L2)                                                       \
                    sp_set_f64(p->out, at + j, sqrt((double)acc[j]));                              \
                else if (p->kind == KIND_LOG_SUM)                                                  \
                    sp_set_f64(p->out, at + j, log((double)acc[j]));                               \
                else if (fold == FOLD_EXP)                                                         \
                    sp_set_f64(p->out, at + j, log((double)acc[j]) + shift[j]);                    \
                else                                                                               \
                    y[j] = (T)acc[j];                                                              \
            }                                                                                      \
        }                                                                                          \
    }

REDUCE_TYPE(f32, float, double, double, fabs, DIV_FLOAT, -INFINITY, INFINITY)
REDUCE_TYPE(f64, double, double, double, fabs, DIV_FLOAT, -INFINITY, INFINITY)
REDUCE_TYPE(i8, int8_t, int64_t, uint64_t, ABS_INT, DIV_INT, INT8_MIN, INT8_MAX)
REDUCE_TYPE(i32, int32_t, int64_t, uint64_t, ABS_INT, DIV_INT, INT32_MIN, INT32_MAX)
REDUCE_TYPE(i64, int64_t, int64_t, uint64_t, ABS_INT, DIV_INT, INT64_MIN, INT64_MAX)
REDUCE_TYPE(u8, uint8_t, uint64_t, uint64_t, ABS_UINT, DIV_UINT, 0, UINT8_MAX)
REDUCE_TYPE(u32, uint32_t, uint64_t, uint64_t, ABS_UINT, DIV_UINT, 0, UINT32_MAX)
REDUCE_TYPE(u64, uint64_t, uint64_t, uint64_t, ABS_UINT, DIV_UINT, 0, UINT64_MAX)
REDUCE_TYPE(b, uint8_t, uint64_t, uint64_t, ABS_UINT, DIV_UINT, 0, 1) /* bool */
/* Integers through double: a sum of exponentials is no integer. */
REDUCE_TYPE(i32_exp, int32_t, double, double, ABS_INT, DIV_FLOAT, -INFINITY, INFINITY)
REDUCE_TYPE(i64_exp, int64_t, double, double, ABS_INT, DIV_FLOAT, -INFINITY, INFINITY)
REDUCE_TYPE(u32_exp, uint32_t, double, double, ABS_UINT, DIV_FLOAT, -INFINITY, INFINITY)
REDUCE_TYPE(u64_exp, uint64_t, double, double, ABS_UINT, DIV_FLOAT, -INFINITY, INFINITY)

typedef void (*piece_fn)(void *arg, int64_t begin, int64_t end);

static piece_fn piece_of(sparoa_dtype dtype, bool exponentials)
{
    switch (dtype) {
    case SPAROA_FLOAT32: return piece_f32;
    case SPAROA_FLOAT64: return piece_f64;
    case SPAROA_INT8: return piece_i8;
    case SPAROA_INT32: return exponentials ? piece_i32_exp : piece_i32;
    case SPAROA_INT64: return exponentials ? piece_i64_exp : piece_i64;
    case SPAROA_UINT8: return piece_u8;
    case SPAROA_UINT32: return exponentials ? piece_u32_exp : piece_u32;
    case SPAROA_UINT64: return exponentials ? piece_u64_exp : piece_u64;
    case SPAROA_BOOL: return piece_b;
    default: return NULL;
    }
}

/* ---- axes ---- */

/* Which of `rank` axes are reduced, as a bit mask; *known is false where the axes are not known
 * yet. */
static sparoa_status reduced_axes(const sparoa_node *node, int32_t rank, uint32_t *mask,
                                  bool *known, sparoa_error *err)
{
    int32_t axes[SPAROA_MAX_RANK], count;
    bool given;
    SP_TRY(sp_read_axes(node, 1, rank, axes, &count, &given, err));
    *known = count >= 0;
    *mask = 0;
    for (int32_t i = 0; i < count; i++) *mask |= 1u << axes[i];
    if (count == 0 && sparoa_attr_int(node, "noop_with_empty_axes", 0) == 0)
        *mask = (1u << rank) - 1;
    return SPAROA_OK;
}

static sparoa_status infer_any(const sparoa_node *node, uint32_t types, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, types, err));
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    bool keep = sparoa_attr_int(node, "keepdims", 1) != 0, known;
    uint32_t mask;
    out->dtype = in->dtype;
    out->rank = -1;
    if (in->rank < 0) return SPAROA_OK;
    SP_TRY(reduced_axes(node, in->rank, &mask, &known, err));
    if (!known && !keep) return SPAROA_OK;
    int32_t rank = 0;
    for (int32_t i = 0; i < in->rank; i++) {
        bool reduced = known && (mask >> i & 1u);
        if (reduced && !keep) continue;
        out->dims[rank++] = !known ? -1 : reduced ? 1 : in->dims[i];
    }
    out->rank = rank;
    return SPAROA_OK;
}

#define TYPES_WIDE                                                                                 \
    (SP_TYPES_FLOAT | 1u << SPAROA_INT32 | 1u << SPAROA_INT64 | 1u << SPAROA_UINT32 |              \
     1u << SPAROA_UINT64)

static sparoa_status infer_sums(const sparoa_node *node, sparoa_error *err)
{
    return infer_any(node, TYPES_WIDE, err);
}

static sparoa_status infer_extremes(const sparoa_node *node, sparoa_error *err)
{
    return infer_any(node, TYPES_WIDE | 1u << SPAROA_INT8 | 1u << SPAROA_UINT8 | 1u << SPAROA_BOOL,
                     err);
}

sparoa_status sp_reduce_read_axes(const sparoa_node *node, sp_reduce_axes *axes, sparoa_error *err)
{
    const sparoa_tensor *in = node->in[0];
    sp_reduce_group groups[SPAROA_MAX_RANK];
    bool reduced[SPAROA_MAX_RANK], known;
    int32_t n = 0;
    int64_t stride = 1;
    uint32_t mask;
    SP_TRY(reduced_axes(node, in->rank, &mask, &known, err));
    for (int32_t i = in->rank - 1; i >= 0; i--) { /* groups[0] is the innermost */
        int64_t size = in->dims[i];
        bool r = mask >> i & 1u;
        if (size != 1 && n > 0 && reduced[n - 1] == r) {
            groups[n - 1].size *= size;
        } else if (size != 1) {
            groups[n] = (sp_reduce_group){size, stride};
            reduced[n++] = r;
        }
        stride *= size;
    }
    *axes = (sp_reduce_axes){.outer = 1, .inner = 1, .run = 1, .rows = 1, .total = 1};
    for (int32_t i = n - 1; i >= 0; i--) {
        if (reduced[i]) axes->total *= groups[i].size;
        if (i == 0 && reduced[i])
            axes->run = groups[i].size;
        else if (i == 0)
            axes->inner = groups[i].size;
        else if (reduced[i]) {
            axes->rows *= groups[i].size;
            axes->reduced[axes->n_reduced++] = groups[i];
        } else {
            axes->outer *= groups[i].size;
            axes->kept[axes->n_kept++] = groups[i];
        }
    }
    return SPAROA_OK;
}

static sparoa_status run_any(const sparoa_node *node, const sparoa_exec *exec, reduce_kind kind)
{
    reduce_plan p = {.kind = kind, .in = node->in[0], .out = node->out[0]};
    SP_TRY(sp_reduce_read_axes(node, &p.axes, exec->err));
    if (sp_count(p.out) == 0) return SPAROA_OK;
    p.blocks = (p.axes.inner + BLOCK - 1) / BLOCK;
    piece_fn piece = piece_of(p.in->dtype, kind == KIND_LOG_SUM_EXP);
    if (!piece) return sparoa_fail(exec->err, SPAROA_UNSUPPORTED_TYPE, node, "element type");
    int64_t work = p.axes.inner < BLOCK ? p.axes.inner : BLOCK;
    work *= p.axes.total > 0 ? p.axes.total : 1;
    sp_parallel_for(exec, p.axes.outer * p.blocks, 1 + 32768 / (work + 1), piece, &p);
    return SPAROA_OK;
}

static void cost_any(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = (double)sp_count(node->in[0]);
}

#define REDUCE_RUN(name, kind)                                                                     \
    static sparoa_status name(const sparoa_node *node, const sparoa_exec *exec)                    \
    {                                                                                              \
        return run_any(node, exec, kind);                                                          \
    }
REDUCE_RUN(sum_run, KIND_SUM)
REDUCE_RUN(mean_run, KIND_MEAN)
REDUCE_RUN(sum_square_run, KIND_SUM_SQUARE)
REDUCE_RUN(l1_run, KIND_L1)
REDUCE_RUN(l2_run, KIND_L2)
REDUCE_RUN(log_sum_run, KIND_LOG_SUM)
REDUCE_RUN(log_sum_exp_run, KIND_LOG_SUM_EXP)
REDUCE_RUN(max_run, KIND_MAX)
REDUCE_RUN(min_run, KIND_MIN)
REDUCE_RUN(prod_run, KIND_PROD)

/* Axes come as an attribute (ReduceSum to 12, the others to 17) or as input 1. */
#define REDUCE_ROW(name_, infer_, run_, tolerance_)                                                \
    {                                                                                              \
        SP_OP_HEAD(name_, 1, 0), .min_in = 1, .max_in = 2, .min_out = 1, .max_out = 1,             \
                                 .op_class = SPAROA_CLASS_REDUCE, .tolerance = tolerance_,         \
                                 .infer = infer_, .cost = cost_any, .run = run_                    \
    }

/* ONNX ReduceSum, versions 1, 11 and 13. */
SP_OP(ReduceSum) = REDUCE_ROW("ReduceSum", infer_sums, sum_run, SPAROA_TOL_SUM);
/* ONNX ReduceMean, versions 1, 11, 13 and 18. */
SP_OP(ReduceMean) = REDUCE_ROW("ReduceMean", infer_sums, mean_run, SPAROA_TOL_SUM);
/* ONNX ReduceSumSquare, versions 1, 11, 13 and 18. */
SP_OP(ReduceSumSquare) = REDUCE_ROW("ReduceSumSquare", infer_sums, sum_square_run, SPAROA_TOL_SUM);
/* ONNX ReduceL1, versions 1, 11, 13 and 18. */
SP_OP(ReduceL1) = REDUCE_ROW("ReduceL1", infer_sums, l1_run, SPAROA_TOL_SUM);
/* ONNX ReduceL2, versions 1, 11, 13 and 18. */
SP_OP(ReduceL2) = REDUCE_ROW("ReduceL2", infer_sums, l2_run, SPAROA_TOL_SUM);
/* ONNX ReduceLogSum, versions 1, 11, 13 and 18. */
SP_OP(ReduceLogSum) = REDUCE_ROW("ReduceLogSum", infer_sums, log_sum_run, SPAROA_TOL_SUM);
/* ONNX ReduceLogSumExp, versions 1, 11, 13 and 18. */
SP_OP(ReduceLogSumExp) = REDUCE_ROW("ReduceLogSumExp", infer_sums, log_sum_exp_run, SPAROA_TOL_SUM);
/* ONNX ReduceMax, versions 1, 11, 12, 13, 18 and 20. */
SP_OP(ReduceMax) = REDUCE_ROW("ReduceMax", infer_extremes, max_run, SPAROA_TOL_EXACT);
/* ONNX ReduceMin, versions 1, 11, 12, 13, 18 and 20. */
SP_OP(ReduceMin) = REDUCE_ROW("ReduceMin", infer_extremes, min_run, SPAROA_TOL_EXACT);
/* ONNX ReduceProd, versions 1, 11, 13 and 18. */
SP_OP(ReduceProd) = REDUCE_ROW("ReduceProd", infer_sums, prod_run, SPAROA_TOL_SUM);
