/* MatMulInteger and QLinearMatMul: products of 8-bit matrices, accumulated in 32 bits (which wrap).
 */
#include "ops/eltwise.h"
#include "ops/quant.h"

#define TILE 512 /* columns accumulated at once, on the stack */

/* acc[j] += sum over p of (a[p] - za) * b[p][j]; returns the sum of a[p] - za, for b's zero points.
 */
#define ROW(A, B)                                                                                  \
    static uint32_t row_##A##_##B(const void *a, const void *b, int64_t k, int64_t n, int64_t ldb, \
                                  int32_t za, uint32_t *acc)                                       \
    {                                                                                              \
        const A *x = a;                                                                            \
        uint32_t sum = 0;                                                                          \
        for (int64_t p = 0; p < k; p++) {                                                          \
            const B *w = (const B *)b + p * ldb;                                                   \
            const uint32_t v = (uint32_t)(x[p] - za);                                              \
            sum += v;                                                                              \
            for (int64_t j = 0; j < n; j++) acc[j] += v * (uint32_t)w[j];                          \
        }                                                                                          \
        return sum;                                                                                \
    }
ROW(int8_t, int8_t)
ROW(int8_t, uint8_t)
ROW(uint8_t, int8_t)
ROW(uint8_t, uint8_t)
#undef ROW
typedef uint32_t (*row_fn)(const void *, const void *, int64_t, int64_t, int64_t, int32_t,
                           uint32_t *);

/* Where the inputs are: MatMulInteger has A, B and zero points; QLinearMatMul scales as well. */
typedef struct places {
    int32_t b, a_scale, a_zero, b_scale, b_zero, y_scale, y_zero; /* -1: there is none */
} places;
static const places integer_places = {1, -1, 2, -1, 3, -1, -1};
static const places qlinear_places = {3, 1, 2, 4, 5, 6, 7};

typedef struct product {
    int64_t m, k, n;                       /* -1: unknown */
    sparoa_tensor a_batch, b_batch, batch; /* leading dimensions only */
} product;

/* Splits off the matrix dimensions; a vector is a row (a) or a column (b). Ranks are known and at
 * least 1. */
static sparoa_status product_of(const sparoa_node *node, const sparoa_tensor *a,
                                const sparoa_tensor *b, product *p, sparoa_error *err)
{
    const bool va = a->rank == 1, vb = b->rank == 1;
    p->a_batch = *a;
    p->b_batch = *b;
    p->a_batch.rank = va ? 0 : a->rank - 2;
    p->b_batch.rank = vb ? 0 : b->rank - 2;
    p->m = va ? 1 : a->dims[a->rank - 2];
    p->k = a->dims[a->rank - 1];
    p->n = vb ? 1 : b->dims[b->rank - 1];
    const int64_t kb = vb ? b->dims[0] : b->dims[b->rank - 2];
    if (p->k >= 0 && kb >= 0 && p->k != kb)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "inner dimensions %lld and %lld differ", (long long)p->k, (long long)kb);
    p->batch = (sparoa_tensor){.rank = -1};
    return sp_broadcast(node, &p->a_batch, &p->b_batch, &p->batch, err);
}

static sparoa_status infer_shape(const sparoa_node *node, const places *at, sparoa_error *err)
{
    const sparoa_tensor *a = node->in[0], *b = node->in[at->b];
    sparoa_tensor *out = node->out[0];
    out->rank = -1;
    if (a->rank < 0 || b->rank < 0) return SPAROA_OK;
    if (a->rank == 0 || b->rank == 0)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "a scalar is no matrix");
    product p;
    SP_TRY(product_of(node, a, b, &p, err));
    out->rank = p.batch.rank;
    memcpy(out->dims, p.batch.dims, sizeof out->dims);
    if (a->rank > 1) out->dims[out->rank++] = p.m;
    if (b->rank > 1) out->dims[out->rank++] = p.n;
    return SPAROA_OK;
}

/* Scales and zero points: one, one per row of a (column of b), or one per row of each matrix. */
static sparoa_status check_params(const sparoa_node *node, int32_t i, const sparoa_tensor *of,
                                  bool rows, sparoa_error *err)
{
    const sparoa_tensor *t = i < 0 ? NULL : sparoa_in(node, i);
    if (!t || !sp_known(t) || sp_count(t) == 1 || of->rank < 1) return SPAROA_OK;
    const bool vector = of->rank == 1;
    int64_t each = vector ? 1 : of->dims[rows ? of->rank - 2 : of->rank - 1], batch = 1;
    if (!sp_known(of)) return SPAROA_OK;
    if (!vector) batch = sp_dims_product(of, 0, of->rank - 2);
    if (sp_count(t) == each || sp_count(t) == batch * each) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                       "input %d has %lld values, expected 1 or %lld", i, (long long)sp_count(t),
                       (long long)each);
}

static sparoa_status integer_infer(const sparoa_node *node, sparoa_error *err)
{
    const places *at = &integer_places;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_Q8, err));
    SP_TRY(sp_check_type(node, at->b, SP_TYPES_Q8, err));
    if (sparoa_in(node, at->a_zero)) SP_TRY(sp_check_same_type(node, 0, at->a_zero, err));
    if (sparoa_in(node, at->b_zero)) SP_TRY(sp_check_same_type(node, at->b, at->b_zero, err));
    SP_TRY(check_params(node, at->a_zero, node->in[0], true, err));
    SP_TRY(check_params(node, at->b_zero, node->in[at->b], false, err));
    node->out[0]->dtype = SPAROA_INT32;
    return infer_shape(node, at, err);
}

static sparoa_status qlinear_infer(const sparoa_node *node, sparoa_error *err)
{
    const places *at = &qlinear_places;
    const uint32_t scale = SP_TYPES_FLOAT & ~(1u << SPAROA_FLOAT64);
    static const int32_t quantized[] = {0, 2, 3, 5, 7}, scales[] = {1, 4, 6};
    for (int i = 0; i < 5; i++) SP_TRY(sp_check_type(node, quantized[i], SP_TYPES_Q8, err));
    for (int i = 0; i < 3; i++) SP_TRY(sp_check_type(node, scales[i], scale, err));
    SP_TRY(sp_check_same_type(node, 0, at->a_zero, err));
    SP_TRY(sp_check_same_type(node, at->b, at->b_zero, err));
    SP_TRY(check_params(node, at->a_zero, node->in[0], true, err));
    SP_TRY(check_params(node, at->a_scale, node->in[0], true, err));
    SP_TRY(check_params(node, at->b_zero, node->in[at->b], false, err));
    SP_TRY(check_params(node, at->b_scale, node->in[at->b], false, err));
    SP_TRY(sp_q_check_scale(node, at->y_scale, -1, err));
    SP_TRY(sp_q_check_zero(node, at->y_zero, SP_TYPES_Q8, -1, err));
    node->out[0]->dtype = node->in[at->y_zero]->dtype;
    return infer_shape(node, at, err);
}

typedef struct matmul_job {
    const sparoa_node *node;
    const places *at;
    product p;
    int64_t a_stride[SPAROA_MAX_RANK], b_stride[SPAROA_MAX_RANK]; /* in matrices */
    row_fn row;
    int32_t lo, hi;
} matmul_job;

/* Value `at` of a parameter whose values repeat. */
static double param(const sparoa_node *node, int32_t input, int64_t at, double fallback)
{
    const sparoa_tensor *t = input < 0 ? NULL : sparoa_in(node, input);
    return t ? sp_get_f64(t, at % sp_count(t)) : fallback;
}

static void store(const matmul_job *job, int64_t a_row, int64_t b_column, int64_t at, int64_t n,
                  const uint32_t *acc, uint32_t sum)
{
    const sparoa_node *node = job->node;
    sparoa_tensor *out = node->out[0];
    const places *in = job->at;
    const bool quantized = out->dtype != SPAROA_INT32;
    const float a_scale = (float)param(node, in->a_scale, a_row, 1),
                y_scale = (float)param(node, in->y_scale, 0, 1);
    const int32_t y_zero = (int32_t)param(node, in->y_zero, 0, 0);
    for (int64_t j = 0; j < n; j++) {
        const int32_t zb = (int32_t)param(node, in->b_zero, b_column + j, 0);
        const int32_t v = (int32_t)(acc[j] - sum * (uint32_t)zb);
        if (!quantized) {
            ((int32_t *)out->data)[at + j] = v;
            continue;
        }
        const float scale = a_scale * (float)param(node, in->b_scale, b_column + j, 1) / y_scale;
        const int32_t q = sp_quantize((float)v * scale, y_zero, job->lo, job->hi);
        ((uint8_t *)out->data)[at + j] = (uint8_t)q;
    }
}

/* Rows begin..end-1 of all matrices of the output. */
static void matmul_rows(void *arg, int64_t begin, int64_t end)
{
    const matmul_job *job = arg;
    const product *p = &job->p;
    uint32_t acc[TILE];
    for (int64_t r = begin; r < end; r++) {
        int64_t rest = r / p->m, ia = 0, ib = 0;
        const int64_t i = r % p->m;
        for (int32_t d = p->batch.rank - 1; d >= 0; d--) {
            ia += rest % p->batch.dims[d] * job->a_stride[d];
            ib += rest % p->batch.dims[d] * job->b_stride[d];
            rest /= p->batch.dims[d];
        }
        const int64_t a_row = ia * p->m + i;
        const char *a = (const char *)job->node->in[0]->data + a_row * p->k;
        const char *b = (const char *)job->node->in[job->at->b]->data + ib * p->k * p->n;
        const int32_t za = (int32_t)param(job->node, job->at->a_zero, a_row, 0);
        for (int64_t j = 0; j < p->n; j += TILE) {
            const int64_t n = p->n - j < TILE ? p->n - j : TILE;
            memset(acc, 0, (size_t)n * sizeof acc[0]);
            const uint32_t sum = job->row(a, b + j, p->k, n, p->n, za, acc);
            store(job, a_row, ib * p->n + j, r * p->n + j, n, acc, sum);
        }
    }
}

static sparoa_status matmul_run(const sparoa_node *node, const sparoa_exec *exec, const places *at)
{
    matmul_job job = {.node = node, .at = at};
    const sparoa_tensor *a = node->in[0], *b = node->in[at->b];
    if (sp_count(node->out[0]) <= 0) return SPAROA_OK;
    SP_TRY(product_of(node, a, b, &job.p, exec->err));
    sp_broadcast_strides(&job.p.a_batch, &job.p.batch, job.a_stride);
    sp_broadcast_strides(&job.p.b_batch, &job.p.batch, job.b_stride);
    if (a->dtype == SPAROA_INT8)
        job.row = b->dtype == SPAROA_INT8 ? row_int8_t_int8_t : row_int8_t_uint8_t;
    else
        job.row = b->dtype == SPAROA_INT8 ? row_uint8_t_int8_t : row_uint8_t_uint8_t;
    sp_q_range(node->out[0]->dtype, &job.lo, &job.hi);
    const int64_t work = job.p.k * job.p.n + 1,
                  rows = sp_dims_product(&job.p.batch, 0, job.p.batch.rank) * job.p.m;
    sp_parallel_for(exec, rows, work >= 65536 ? 1 : 65536 / work, matmul_rows, &job);
    return SPAROA_OK;
}

static sparoa_status integer_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return matmul_run(node, exec, &integer_places);
}

static sparoa_status qlinear_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return matmul_run(node, exec, &qlinear_places);
}

static void matmul_cost(const sparoa_node *node, sparoa_cost *cost)
{
    const sparoa_tensor *a = node->in[0];
    if (a->rank > 0) cost->flops *= 2 * (double)a->dims[a->rank - 1];
}

/* ONNX MatMulInteger, version 10. */
SP_OP(MatMulInteger) = {
    SP_OP_HEAD("MatMulInteger", 10, 0),
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_GEMM,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = integer_infer,
    .cost = matmul_cost,
    .run = integer_run,
};

/* ONNX QLinearMatMul, versions 10 and 21. */
SP_OP(QLinearMatMul) = {
    SP_OP_HEAD("QLinearMatMul", 10, 0),
    .min_in = 8,
    .max_in = 8,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_GEMM,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = qlinear_infer,
    .cost = matmul_cost,
    .run = qlinear_run,
};
