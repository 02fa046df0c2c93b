/* The Reduce family on float32, ReduceLogSumExp left out, and global pools with the channel second.
 */
#include "ops/reduce.h"

#include "backends/cpu/gemm_run.h"
#include "ops/conv_shape.h"

#define GRAIN 131072 /* elements worth another thread: some 10 us */
#define BLOCK 256    /* outputs at a time */
#define PARTS 64     /* that the elements of a single output are cut into, */
#define PART 8192    /* of at least so many, whatever the number of threads */

typedef enum reduce_end { END_PLAIN, END_MEAN, END_ROOT, END_LOG } reduce_end;

static const struct reduce_row {
    const char *op;
    sp_fold fold;
    reduce_end end;
} reduce_rows[] = {
    {"ReduceSum", SP_FOLD_SUM, END_PLAIN},     {"ReduceSumSquare", SP_FOLD_SQUARE, END_PLAIN},
    {"ReduceMean", SP_FOLD_SUM, END_MEAN},     {"ReduceL1", SP_FOLD_ABS, END_PLAIN},
    {"ReduceL2", SP_FOLD_SQUARE, END_ROOT},    {"ReduceLogSum", SP_FOLD_SUM, END_LOG},
    {"ReduceMax", SP_FOLD_MAX, END_PLAIN},     {"ReduceMin", SP_FOLD_MIN, END_PLAIN},
    {"ReduceProd", SP_FOLD_PROD, END_PLAIN},   {"GlobalAveragePool", SP_FOLD_SUM, END_MEAN},
    {"GlobalMaxPool", SP_FOLD_MAX, END_PLAIN},
};

static const struct reduce_row *row_of(const sparoa_node *node)
{
    for (size_t i = 0; i < sizeof reduce_rows / sizeof *reduce_rows; i++)
        if (strcmp(reduce_rows[i].op, node->op) == 0) return &reduce_rows[i];
    return NULL;
}

static const char *reduce_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    bool fits = node->n_in >= 1 && node->in[0] && node->in[0]->dtype == SPAROA_FLOAT32;
    return fits && row_of(node) ? host->kernels->name : NULL;
}

/* Outputs `side` by side are rows, or columns where the innermost axis is kept; groups that are
 * left are walked. */
typedef struct reduce_task {
    const sp_kernels *kernels;
    const struct reduce_row *row;
    sp_reduce_axes axes;
    bool columns;
    int64_t n, stride; /* elements of a row or column; between neighbouring rows, or of a column */
    int64_t side, blocks, block;
    const float *x;
    float *y;
} reduce_task;

static void take_last(sp_reduce_group *groups, int32_t *count, int64_t *size, int64_t *stride)
{
    *size = 1;
    if (*count == 0) return;
    *size = groups[--*count].size;
    *stride = groups[*count].stride;
}

static double identity_of(sp_fold fold)
{
    return fold == SP_FOLD_PROD  ? 1
           : fold == SP_FOLD_MAX ? -INFINITY
           : fold == SP_FOLD_MIN ? INFINITY
                                 : 0;
}

static void fold_block(const reduce_task *t, const float *x, int64_t width, double *acc)
{
    const sp_kernels *k = t->kernels;
    const sp_fold fold = t->row->fold;
    int64_t rounds = t->axes.total > 0 ? t->axes.total / t->n : 0;
    for (int64_t i = 0; i < rounds; i++) {
        const float *from = x + sp_reduce_offset(t->axes.reduced, t->axes.n_reduced, i);
        if (t->columns)
            k->fold_columns_f32(fold, (size_t)t->n, (size_t)width, from, (size_t)t->stride, acc);
        else
            k->fold_rows_f32(fold, (size_t)width, (size_t)t->n, from, (size_t)t->stride, acc);
    }
}

static void finish(const reduce_task *t, int64_t n, const double *acc, float *y)
{
    const double total = (double)t->axes.total;
    switch (t->row->end) {
    case END_MEAN:
        for (int64_t i = 0; i < n; i++) y[i] = (float)(acc[i] / total);
        break;
    case END_ROOT:
        for (int64_t i = 0; i < n; i++) y[i] = (float)sqrt(acc[i]);
        break;
    case END_LOG:
        for (int64_t i = 0; i < n; i++) y[i] = (float)log(acc[i]);
        break;
    default:
        for (int64_t i = 0; i < n; i++) y[i] = (float)acc[i];
        break;
    }
}

static void reduce_piece(void *arg, int64_t begin, int64_t end)
{
    const reduce_task *t = arg;
    double acc[BLOCK];
    for (int64_t i = begin; i < end; i++) {
        int64_t o = i / t->blocks, j0 = i % t->blocks * t->block;
        int64_t width = t->side - j0 < t->block ? t->side - j0 : t->block;
        const float *x = t->x + sp_reduce_offset(t->axes.kept, t->axes.n_kept, o);
        for (int64_t j = 0; j < width; j++) acc[j] = identity_of(t->row->fold);
        fold_block(t, x + j0 * (t->columns ? 1 : t->stride), width, acc);
        finish(t, width, acc, t->y + o * t->side + j0);
    }
}

typedef struct single_task {
    const reduce_task *t;
    int64_t part;
    double acc[PARTS];
} single_task;

static void single_piece(void *arg, int64_t begin, int64_t end)
{
    single_task *s = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = i * s->part, left = s->t->n - at;
        s->acc[i] = identity_of(s->t->row->fold);
        s->t->kernels->fold_rows_f32(s->t->row->fold, 1, (size_t)(left < s->part ? left : s->part),
                                     s->t->x + at, 0, &s->acc[i]);
    }
}

/* One output of contiguous elements: in parts, then those, one after the other. */
static void reduce_single(const reduce_task *t, const sparoa_exec *exec)
{
    single_task s = {.t = t, .part = (t->n + PARTS - 1) / PARTS};
    if (s.part < PART) s.part = PART;
    int64_t parts = (t->n + s.part - 1) / s.part;
    sp_parallel_for(exec, parts, 1 + GRAIN / s.part, single_piece, &s);
    for (int64_t i = 1; i < parts; i++) {
        double *a = s.acc, v = s.acc[i];
        switch (t->row->fold) {
        case SP_FOLD_PROD: *a *= v; break;
        case SP_FOLD_MAX: *a = v > *a || v != v ? v : *a; break;
        case SP_FOLD_MIN: *a = v < *a || v != v ? v : *a; break;
        default: *a += v; break;
        }
    }
    finish(t, 1, s.acc, t->y);
}

static void run_task(reduce_task *t, int64_t outputs, const sparoa_exec *exec)
{
    if (outputs == 1 && !t->columns && t->axes.n_reduced == 0 && t->n > PART) {
        reduce_single(t, exec);
        return;
    }
    /* Blocks so short that each thread has some, but no shorter than a few vectors. */
    t->block = BLOCK;
    while (t->block > 32 && outputs / t->block < 4 * exec->threads) t->block /= 2;
    t->blocks = (t->side + t->block - 1) / t->block;
    int64_t work = (t->side < t->block ? t->side : t->block) * t->axes.total + 1;
    sp_parallel_for(exec, outputs / t->side * t->blocks, 1 + GRAIN / work, reduce_piece, t);
}

static sparoa_status reduce_run(void *state, void *prepared, const sp_cpu_host *host,
                                const sparoa_node *node, const sparoa_exec *exec)
{
    reduce_task t = {.kernels = host->kernels,
                     .row = row_of(node),
                     .x = node->in[0]->data,
                     .y = node->out[0]->data};
    SP_TRY(sp_reduce_read_axes(node, &t.axes, exec->err));
    int64_t outputs = sp_count(node->out[0]);
    if (outputs == 0) return SPAROA_OK;
    t.columns = t.axes.run == 1;
    if (t.columns) {
        t.side = t.axes.inner;
        take_last(t.axes.reduced, &t.axes.n_reduced, &t.n, &t.stride);
    } else {
        t.n = t.axes.run;
        t.stride = t.n;
        take_last(t.axes.kept, &t.axes.n_kept, &t.side, &t.stride);
    }
    run_task(&t, outputs, exec);
    return SPAROA_OK;
}

#define REDUCE_ROW(name)                                                                           \
    {                                                                                              \
        .op = name, .domain = "", .supports = reduce_supports, .run = reduce_run                   \
    }
/* The ONNX operators of these names, all versions. */
SP_CPU_KERNEL(ReduceSum) = REDUCE_ROW("ReduceSum");
SP_CPU_KERNEL(ReduceMean) = REDUCE_ROW("ReduceMean");
SP_CPU_KERNEL(ReduceSumSquare) = REDUCE_ROW("ReduceSumSquare");
SP_CPU_KERNEL(ReduceL1) = REDUCE_ROW("ReduceL1");
SP_CPU_KERNEL(ReduceL2) = REDUCE_ROW("ReduceL2");
SP_CPU_KERNEL(ReduceLogSum) = REDUCE_ROW("ReduceLogSum");
SP_CPU_KERNEL(ReduceMax) = REDUCE_ROW("ReduceMax");
SP_CPU_KERNEL(ReduceMin) = REDUCE_ROW("ReduceMin");
SP_CPU_KERNEL(ReduceProd) = REDUCE_ROW("ReduceProd");

static const char *global_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    return sp_is_nhwc(node) ? NULL : reduce_supports(host, node);
}

static sparoa_status global_run(void *state, void *prepared, const sp_cpu_host *host,
                                const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    const int64_t n = sp_dims_product(x, 2, x->rank), planes = sp_count(node->out[0]);
    reduce_task t = {.kernels = host->kernels,
                     .row = row_of(node),
                     .axes = {.total = n},
                     .n = n,
                     .stride = n,
                     .side = planes,
                     .x = x->data,
                     .y = node->out[0]->data};
    if (planes > 0) run_task(&t, planes, exec);
    return SPAROA_OK;
}

/* The ONNX operators of these names, all versions; with the channel last: pool.c. */
SP_CPU_KERNEL(GlobalAveragePool_first) = {
    .op = "GlobalAveragePool", .domain = "", .supports = global_supports, .run = global_run};
SP_CPU_KERNEL(GlobalMaxPool_first) = {
    .op = "GlobalMaxPool", .domain = "", .supports = global_supports, .run = global_run};

/* ---- ArgMax and ArgMin ---- */

typedef struct arg_task {
    const sp_kernels *kernels;
    bool min, last;
    int64_t n, inner, blocks;
    const float *x;
    int64_t *y;
} arg_task;

static void arg_row_piece(void *arg, int64_t begin, int64_t end)
{
    const arg_task *t = arg;
    t->kernels->arg_rows_f32(t->min, t->last, (size_t)(end - begin), (size_t)t->n,
                             t->x + begin * t->n, t->y + begin);
}

static void arg_column_piece(void *arg, int64_t begin, int64_t end)
{
    const arg_task *t = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t outer = i / t->blocks, c = i % t->blocks * BLOCK;
        const int64_t width = t->inner - c < BLOCK ? t->inner - c : BLOCK;
        t->kernels->arg_columns_f32(t->min, t->last, (size_t)t->n, (size_t)width,
                                    t->x + outer * t->n * t->inner + c, (size_t)t->inner,
                                    t->y + outer * t->inner + c);
    }
}

static const char *arg_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    return node->in[0] && sp_cpu_all_float32(node) ? host->kernels->name : NULL;
}

static sparoa_status arg_run(void *state, void *prepared, const sp_cpu_host *host,
                             const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    const int64_t outputs = sp_count(node->out[0]);
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), x->rank, false, &axis, exec->err));
    if (outputs == 0) return SPAROA_OK;
    arg_task t = {.kernels = host->kernels,
                  .min = strcmp(node->op, "ArgMin") == 0,
                  .last = sparoa_attr_int(node, "select_last_index", 0) != 0,
                  .n = x->dims[axis],
                  .inner = sp_dims_product(x, axis + 1, x->rank),
                  .x = x->data,
                  .y = node->out[0]->data};
    t.blocks = (t.inner + BLOCK - 1) / BLOCK;
    const int64_t width = t.inner < BLOCK ? t.inner : BLOCK;
    sp_parallel_for(exec, t.inner == 1 ? outputs : outputs / t.inner * t.blocks,
                    1 + GRAIN / (t.n * width), t.inner == 1 ? arg_row_piece : arg_column_piece, &t);
    return SPAROA_OK;
}

/* ONNX ArgMax and ArgMin, all versions. */
SP_CPU_KERNEL(ArgMax) = {.op = "ArgMax", .domain = "", .supports = arg_supports, .run = arg_run};
SP_CPU_KERNEL(ArgMin) = {.op = "ArgMin", .domain = "", .supports = arg_supports, .run = arg_run};
