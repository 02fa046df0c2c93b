/* Min, Max, Sum, Mean: any number of inputs, all broadcast against each other. */
#include "ops/eltwise.h"

/* NaN wins over every number. */
#define MIN(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))
#define MAX(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))

#define X(T, dt)                                                                                   \
    SP_BINARY_LOOP(min_##T, T, T, MIN(a, b))                                                       \
    SP_BINARY_LOOP(max_##T, T, T, MAX(a, b))
SP_FOR_NUMBERS(X)
#undef X
#define X(T, dt)                                                                                   \
    SP_BINARY_LOOP(sum_##T, T, T, a + b)                                                           \
    SP_BINARY_LOOP(scale_##T, T, T, a / b)
SP_FOR_FLOATS(X)
#undef X
#define X(T, size)                                                                                 \
    static void copy_##T(const sp_run *run)                                                        \
    {                                                                                              \
        for (int64_t r = 0; r < run->rows; r++) {                                                  \
            const T *a = (const T *)run->in[0] + r * run->row[0];                                  \
            T *y = (T *)run->out + r * run->n;                                                     \
            if (run->step[0])                                                                      \
                memcpy(y, a, (size_t)run->n * sizeof(T));                                          \
            else                                                                                   \
                for (int64_t i = 0; i < run->n; i++) y[i] = *a;                                    \
        }                                                                                          \
    }
SP_FOR_SIZES(X)
#undef X

#define TILE_BYTES 4096

typedef struct variadic_job {
    const sparoa_node *node;
    sp_run_fn combine, copy;
    sp_run_fn scale; /* Mean: divides by *divisor at the end; else NULL */
    const void *divisor;
} variadic_job;

/* Elements begin..end-1 (a tile) of input k: where they lie, or broadcast into `tile`. */
static const void *tile_of(const variadic_job *job, int32_t k, int64_t begin, int64_t end,
                           void *tile)
{
    const sparoa_tensor *in = job->node->in[k], *out = job->node->out[0];
    if (sp_count(in) == sp_count(out))
        return (const char *)in->data + (size_t)begin * sparoa_dtype_size(in->dtype);
    sp_bcast plan;
    sp_bcast_plan(&plan, out, 1, &in, job->copy, NULL);
    sp_bcast_range(&plan, begin, end, tile);
    return tile;
}

/* Accumulates tile by tile in a buffer of its own, so that the output may be the memory of any
 * input. */
static void variadic_piece(void *arg, int64_t begin, int64_t end)
{
    const variadic_job *job = arg;
    const sparoa_tensor *out = job->node->out[0];
    const int64_t size = (int64_t)sparoa_dtype_size(out->dtype);
    _Alignas(64) char acc[TILE_BYTES], other[TILE_BYTES];
    for (int64_t pos = begin; pos < end; pos += TILE_BYTES / size) {
        const int64_t stop = end - pos < TILE_BYTES / size ? end : pos + TILE_BYTES / size;
        sp_run run = {.rows = 1, .n = stop - pos, .out = acc, .in = {acc}, .step = {1, 1}};
        memcpy(acc, tile_of(job, 0, pos, stop, other), (size_t)(run.n * size));
        for (int32_t k = 1; k < job->node->n_in; k++) {
            run.in[1] = tile_of(job, k, pos, stop, other);
            job->combine(&run);
        }
        run.in[1] = job->divisor;
        run.step[1] = 0;
        if (job->scale) job->scale(&run);
        memcpy((char *)out->data + pos * size, acc, (size_t)(run.n * size));
    }
}

static sp_run_fn copy_of(sparoa_dtype t)
{
    switch (sparoa_dtype_size(t)) {
#define X(T, size)                                                                                 \
    case size: return copy_##T;
        SP_FOR_SIZES(X)
#undef X
    default: return NULL;
    }
}

static sparoa_status variadic_infer(const sparoa_node *node, uint32_t types, sparoa_error *err)
{
    for (int32_t i = 0; i < node->n_in; i++) {
        SP_TRY(sp_check_type(node, i, types, err));
        SP_TRY(sp_check_same_type(node, 0, i, err));
    }
    return sp_infer_broadcast(node, err);
}

static sparoa_status number_infer(const sparoa_node *node, sparoa_error *err)
{
    return variadic_infer(node, SP_TYPES_NUMBER, err);
}

static sparoa_status float_infer(const sparoa_node *node, sparoa_error *err)
{
    return variadic_infer(node, SP_TYPES_FLOAT, err);
}

static sparoa_status variadic_run(const sparoa_node *node, const sparoa_exec *exec,
                                  sp_run_fn combine, sp_run_fn scale, const void *divisor)
{
    if (!combine)
        return sparoa_fail(exec->err, SPAROA_UNSUPPORTED_TYPE, node, "no implementation for %s",
                           sparoa_dtype_name(node->in[0]->dtype));
    if (node->n_in == 1) {
        sp_copy_data(node->out[0], node->in[0]);
        return SPAROA_OK;
    }
    if (node->n_in == 2 && !scale) return sp_run_binary(node, exec, combine, NULL, SP_GRAIN);
    variadic_job job = {node, combine, copy_of(node->out[0]->dtype), scale, divisor};
    sp_parallel_for(exec, sp_count(node->out[0]), SP_GRAIN, variadic_piece, &job);
    return SPAROA_OK;
}

static sparoa_status min_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_run_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = min_##T; break;
        SP_FOR_NUMBERS(X)
#undef X
    default: break;
    }
    return variadic_run(node, exec, fn, NULL, NULL);
}

static sparoa_status max_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_run_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = max_##T; break;
        SP_FOR_NUMBERS(X)
#undef X
    default: break;
    }
    return variadic_run(node, exec, fn, NULL, NULL);
}

static sp_run_fn sum_of(sparoa_dtype t)
{
    return t == SPAROA_FLOAT32 ? sum_float : t == SPAROA_FLOAT64 ? sum_double : NULL;
}

static sparoa_status sum_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return variadic_run(node, exec, sum_of(node->in[0]->dtype), NULL, NULL);
}

static sparoa_status mean_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const float f32 = (float)node->n_in;
    const double f64 = node->n_in;
    sparoa_dtype t = node->in[0]->dtype;
    bool wide = t == SPAROA_FLOAT64;
    return variadic_run(node, exec, sum_of(t), wide ? scale_double : scale_float,
                        wide ? (const void *)&f64 : (const void *)&f32);
}

static void variadic_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops *= node->n_in > 1 ? node->n_in - 1 : 1;
}

#define ROW(op, infer_, run_, tol)                                                                 \
    SP_OP_HEAD(op, 1, 0), .min_in = 1, .max_in = -1, .min_out = 1, .max_out = 1,                   \
                          .op_class = SPAROA_CLASS_ELTWISE, .tolerance = SPAROA_TOL_##tol,         \
                          .flags = SPAROA_OP_INPLACE | SPAROA_OP_BROADCASTS | SPAROA_OP_COMMUTES,  \
                          .infer = infer_, .cost = variadic_cost, .run = run_

/* ONNX Min, versions 1, 6, 8, 12 and 13. */
SP_OP(Min) = {ROW("Min", number_infer, min_run, EXACT)};

/* ONNX Max, versions 1, 6, 8, 12 and 13. */
SP_OP(Max) = {ROW("Max", number_infer, max_run, EXACT)};

/* ONNX Sum, versions 1, 6, 8 and 13. */
SP_OP(Sum) = {ROW("Sum", float_infer, sum_run, SUM)};

/* ONNX Mean, versions 1, 6, 8 and 13. */
SP_OP(Mean) = {ROW("Mean", float_infer, mean_run, SUM)};
