#include "ops/gemm_plain.h"

/* A task computes one tile of MB x NB outputs; KB rows of b at a time are copied to a panel in the
 * accumulator's type, so that the inner loop is contiguous whatever the strides are. */
#define MB 32
#define NB 64
#define KB 32

typedef struct tile {
    const sp_product *p;
    int64_t row_tiles, col_tiles;
} tile_job;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void batch_offsets(const sp_product *p, int64_t index, int64_t *a, int64_t *b)
{
    *a = *b = 0;
    for (int32_t i = p->batch_rank - 1; i >= 0; i--) {
        *a += index % p->batch[i] * p->a_batch[i];
        *b += index % p->batch[i] * p->b_batch[i];
        index /= p->batch[i];
    }
}

/* A: accumulator; FINISH: accumulator, alpha, beta and an element of c (or 0) to the result. */
#define PRODUCT_TYPE(T, A, FINISH)                                                                 \
    static void panel_##T(const sp_product *p, const T *b, int64_t depth, int64_t width,           \
                          A panel[KB][NB])                                                         \
    {                                                                                              \
        for (int64_t l = 0; l < depth; l++) {                                                      \
            for (int64_t j = 0; j < width; j++) panel[l][j] = (A)b[l * p->b_row + j * p->b_col];   \
            for (int64_t j = width; j < NB; j++) panel[l][j] = 0;                                  \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void tile_##T(const sp_product *p, const T *a, const T *b, T *out, int64_t i0,          \
                         int64_t j0)                                                               \
    {                                                                                              \
        A acc[MB][NB] = {{0}}, panel[KB][NB];                                                      \
        int64_t rows = least(MB, p->m - i0), width = least(NB, p->n - j0);                         \
        for (int64_t l0 = 0; l0 < p->k; l0 += KB) {                                                \
            int64_t depth = least(KB, p->k - l0);                                                  \
            panel_##T(p, b + l0 * p->b_row + j0 * p->b_col, depth, width, panel);                  \
            for (int64_t i = 0; i < rows; i++)                                                     \
                for (int64_t l = 0; l < depth; l++) {                                              \
                    A v = (A)a[(i0 + i) * p->a_row + (l0 + l) * p->a_col];                         \
                    for (int64_t j = 0; j < NB; j++) acc[i][j] += v * panel[l][j];                 \
                }                                                                                  \
        }                                                                                          \
        for (int64_t i = 0; i < rows; i++)                                                         \
            for (int64_t j = 0; j < width; j++) {                                                  \
                const T *c =                                                                       \
                    p->c ? (const T *)p->c + (i0 + i) * p->c_row + (j0 + j) * p->c_col : NULL;     \
                out[(i0 + i) * p->n + j0 + j] = FINISH(T, acc[i][j], p->alpha, p->beta, c);        \
            }                                                                                      \
    }                                                                                              \
                                                                                                   \
    static void piece_##T(void *arg, int64_t begin, int64_t end)                                   \
    {                                                                                              \
        const tile_job *job = arg;                                                                 \
        const sp_product *p = job->p;                                                              \
        int64_t tiles = job->row_tiles * job->col_tiles;                                           \
        for (int64_t t = begin; t < end; t++) {                                                    \
            int64_t index = t / tiles, a, b;                                                       \
            batch_offsets(p, index, &a, &b);                                                       \
            tile_##T(p, (const T *)p->a + a, (const T *)p->b + b,                                  \
                     (T *)p->out + index * p->m * p->n, t % tiles / job->col_tiles * MB,           \
                     t % job->col_tiles * NB);                                                     \
        }                                                                                          \
    }

#define FINISH_FLOAT(T, acc, alpha, beta, c)                                                       \
    (T)((alpha) * (acc) + ((c) ? (beta) * (double)*(c) : 0))
#define FINISH_INT(T, acc, alpha, beta, c)                                                         \
    ((alpha) == 1 && (beta) == 1                                                                   \
         ? (T)((acc) + ((c) ? (uint64_t) * (c) : 0))                                               \
         : finish_##T((alpha) * (double)(T)(acc) + ((c) ? (beta) * (double)*(c) : 0)))

/* A scaled integer: rounded towards zero, saturated. */
#define SCALED(T, dt)                                                                              \
    static T finish_##T(double v)                                                                  \
    {                                                                                              \
        T value;                                                                                   \
        sparoa_tensor t = {.data = &value, .dtype = dt};                                           \
        sp_set_f64(&t, 0, v);                                                                      \
        return value;                                                                              \
    }                                                                                              \
    PRODUCT_TYPE(T, uint64_t, FINISH_INT)

PRODUCT_TYPE(float, double, FINISH_FLOAT)
PRODUCT_TYPE(double, double, FINISH_FLOAT)
SP_FOR_INTS(SCALED)

void sp_product_run(const sp_product *p, const sparoa_exec *exec)
{
    tile_job job = {p, (p->m + MB - 1) / MB, (p->n + NB - 1) / NB};
    int64_t tasks = job.row_tiles * job.col_tiles;
    for (int32_t i = 0; i < p->batch_rank; i++) tasks *= p->batch[i];
    int64_t grain = 1 + 65536 / (least(MB, p->m) * NB * (p->k + 1) + 1);
    switch (p->dtype) {
#define X(T, dt)                                                                                   \
    case dt: sp_parallel_for(exec, tasks, grain, piece_##T, &job); break;
        SP_FOR_NUMBERS(X)
#undef X
    default: break;
    }
}
