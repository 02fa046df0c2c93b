#include "backends/cuda/sparse.h"

#define LEAST_ZEROS 0.6 /* below that share no sparse product has won */
#define LEAST_COUNT 4096

static const int algorithms[SP_CUDA_SPMM_ALGOS] = {SPARSE_CSR_ALG1, SPARSE_CSR_ALG2,
                                                   SPARSE_CSR_ALG3};

/* The matrix on the host, as cuSPARSE and as our kernel want it. */
typedef struct csr_host {
    int32_t *rows, *cols;
    float *values;
    int32_t *starts, *pairs; /* column in the piece, bits of the value */
    size_t count, starts_count, pairs_count;
} csr_host;

typedef struct dense {
    const float *w;
    int64_t n, n_step, k, k_step;
} dense;

static float at(const dense *d, int64_t n, int64_t k)
{
    return d->w[n * d->n_step + k * d->k_step];
}

static int64_t pieces_of(int64_t k)
{
    return (k + SP_CU_SPMM_PIECE - 1) / SP_CU_SPMM_PIECE;
}

/* Non-zeros of row n in columns from..end-1. */
static int64_t count_row(const dense *d, int64_t n, int64_t from, int64_t end)
{
    int64_t count = 0;
    for (int64_t k = from; k < end; k++) count += at(d, n, k) != 0;
    return count;
}

static int64_t end_of(const dense *d, int64_t piece)
{
    int64_t end = (piece + 1) * SP_CU_SPMM_PIECE;
    return end < d->k ? end : d->k;
}

/* Non-zeros, and in *fours what they take in our kernel's form. */
static int64_t count_all(const dense *d, int64_t *fours)
{
    int64_t count = 0;
    *fours = 0;
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t p = 0; p < pieces_of(d->k); p++) {
            int64_t c = count_row(d, n, p * SP_CU_SPMM_PIECE, end_of(d, p));
            count += c;
            *fours += (c + 3) / 4;
        }
    return count;
}

static void fill(csr_host *h, const dense *d)
{
    size_t i = 0, four = 0, start = 0;
    for (int64_t n = 0; n < d->n; n++) {
        h->rows[n] = (int32_t)i;
        for (int64_t k = 0; k < d->k; k++) {
            if (at(d, n, k) == 0) continue;
            h->cols[i] = (int32_t)k;
            h->values[i++] = at(d, n, k);
        }
    }
    h->rows[d->n] = (int32_t)i;
    for (int64_t p = 0; p < pieces_of(d->k); p++)
        for (int64_t n = 0; n < d->n; n++) {
            size_t pair = four * 4;
            h->starts[start++] = (int32_t)four;
            for (int64_t k = p * SP_CU_SPMM_PIECE; k < end_of(d, p); k++) {
                float v = at(d, n, k);
                if (v == 0) continue;
                h->pairs[2 * pair] = (int32_t)(k - p * SP_CU_SPMM_PIECE);
                memcpy(&h->pairs[2 * pair++ + 1], &v, sizeof v);
            }
            four = (pair + 3) / 4; /* the rest stays zero: column 0 times 0 */
        }
    h->starts[start] = (int32_t)four;
}

static sparoa_status upload(sparoa_kernel *k, sp_cuda_sparse *s, const csr_host *h,
                            sparoa_error *err)
{
    const sp_cuda_libs *l = &k->dev->libs;
    void *starts = NULL, *entries = NULL;
    SP_TRY(sp_cuda_upload(k->dev, k, h->starts, s->starts_bytes, &starts, err));
    s->csr.starts = starts;
    SP_TRY(sp_cuda_upload(k->dev, k, h->pairs, s->entries_bytes, &entries, err));
    s->csr.entries = entries;
    if (!k->dev->sparse) return SPAROA_OK;
    SP_TRY(sp_cuda_upload(k->dev, k, h->rows, s->rows_bytes, &s->rows, err));
    SP_TRY(sp_cuda_upload(k->dev, k, h->cols, s->single_bytes, &s->cols, err));
    SP_TRY(sp_cuda_upload(k->dev, k, h->values, s->single_bytes, &s->values, err));
    if (l->sparse_csr(&s->matrix, s->csr.n, s->csr.k, (int64_t)h->count, s->rows, s->cols,
                      s->values, SPARSE_INDEX_32I, SPARSE_INDEX_32I, 0, LT_R_32F) != 0)
        s->matrix = NULL;
    return SPAROA_OK;
}

sparoa_status sp_cuda_sparse_make(sparoa_kernel *k, const float *w, int64_t n, int64_t n_step,
                                  int64_t count_k, int64_t k_step, sp_cuda_sparse **sparse,
                                  sparoa_error *err)
{
    sparoa_dev *dev = k->dev;
    const dense d = {w, n, n_step, count_k, k_step};
    int64_t fours;
    if (dev->sparse_ways == 0 || n * count_k < LEAST_COUNT || n * count_k > INT32_MAX / 2)
        return SPAROA_OK;
    int64_t count = count_all(&d, &fours);
    if (count == 0 || (double)count > (1 - LEAST_ZEROS) * (double)(n * count_k)) return SPAROA_OK;
    csr_host h = {.count = (size_t)count,
                  .starts_count = (size_t)(pieces_of(count_k) * n) + 1,
                  .pairs_count = (size_t)fours * 8};
    size_t rows = (size_t)n + 1;
    size_t total = (rows + 2 * h.count + h.starts_count + h.pairs_count) * 4;
    sp_cuda_sparse *s = sp_cuda_host_alloc(dev, sizeof *s);
    int32_t *memory = sp_cuda_host_alloc(dev, total);
    sparoa_status status = SPAROA_OK;
    if (!s || !memory)
        status = sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no memory for sparse weights");
    if (status == SPAROA_OK) {
        h.rows = memory;
        h.cols = h.rows + rows;
        h.values = (float *)(h.cols + count);
        h.starts = h.cols + 2 * count;
        h.pairs = h.starts + h.starts_count;
        fill(&h, &d);
        *s = (sp_cuda_sparse){.csr = {.n = n, .k = count_k, .count = count},
                              .starts_bytes = h.starts_count * 4,
                              .entries_bytes = h.pairs_count * 4,
                              .rows_bytes = rows * 4,
                              .single_bytes = h.count * 4};
        status = upload(k, s, &h, err);
    }
    sp_cuda_host_free(dev, memory, total);
    if (status != SPAROA_OK)
        sp_cuda_sparse_done(dev, s);
    else
        *sparse = s;
    return status;
}

void sp_cuda_sparse_done(sparoa_dev *dev, sp_cuda_sparse *s)
{
    if (!s) return;
    if (s->matrix) dev->libs.sparse_matrix_destroy(s->matrix);
    sp_cuda_free(dev, (void *)s->csr.starts, s->starts_bytes);
    sp_cuda_free(dev, (void *)s->csr.entries, s->entries_bytes);
    sp_cuda_free(dev, s->rows, s->rows_bytes);
    sp_cuda_free(dev, s->cols, s->single_bytes);
    sp_cuda_free(dev, s->values, s->single_bytes);
    sp_cuda_host_free(dev, s, sizeof *s);
}

/* cuSPARSE counts columns first for y^T = w x^T: x [m][k] is its [k] x [m]. */
bool sp_cuda_spmm_plan(sparoa_dev *dev, sp_cuda_product *p)
{
    const sp_cuda_libs *l = &dev->libs;
    const sp_cuda_sparse *s = p->sparse;
    const float one = 1, zero = 0;
    if (!dev->sparse || !s->matrix) return false;
    if (l->sparse_dense(&p->spmm_x, s->csr.k, p->shape.m, s->csr.k, s->values, LT_R_32F,
                        SPARSE_ORDER_COL) != 0 ||
        l->sparse_dense(&p->spmm_y, s->csr.n, p->shape.m, s->csr.n, s->values, LT_R_32F,
                        SPARSE_ORDER_COL) != 0)
        return false;
    bool any = false;
    pthread_mutex_lock(&dev->lock);
    for (int i = 0; i < SP_CUDA_SPMM_ALGOS; i++) {
        size_t bytes = 0;
        bool can = l->sparse_spmm_size(dev->sparse, 0, 0, &one, s->matrix, p->spmm_x, &zero,
                                       p->spmm_y, LT_R_32F, algorithms[i], &bytes) == 0;
        p->spmm_needs[i] = can ? bytes : SIZE_MAX;
        any = any || can;
    }
    pthread_mutex_unlock(&dev->lock);
    return any;
}

void sp_cuda_spmm_done(sparoa_dev *dev, sp_cuda_product *p)
{
    if (p->spmm_x) dev->libs.sparse_dense_destroy(p->spmm_x);
    if (p->spmm_y) dev->libs.sparse_dense_destroy(p->spmm_y);
    p->spmm_x = p->spmm_y = NULL;
}

bool sp_cuda_spmm_run(sparoa_dev *dev, sp_cuda_product *p, const void *x, void *y, void *workspace,
                      cudaStream_t stream)
{
    const sp_cuda_libs *l = &dev->libs;
    const float one = 1, zero = 0;
    pthread_mutex_lock(&dev->lock);
    int code = l->sparse_set_stream(dev->sparse, stream);
    if (code == 0) code = l->sparse_dense_set(p->spmm_x, (void *)x);
    if (code == 0) code = l->sparse_dense_set(p->spmm_y, y);
    if (code == 0)
        code = l->sparse_spmm(dev->sparse, 0, 0, &one, p->sparse->matrix, p->spmm_x, &zero,
                              p->spmm_y, LT_R_32F, algorithms[p->algo], workspace);
    pthread_mutex_unlock(&dev->lock);
    return code == 0;
}
