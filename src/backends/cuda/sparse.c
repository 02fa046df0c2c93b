#include "backends/cuda/sparse.h"

#define LEAST_ZEROS 0.6 /* below that share no sparse product has won */
#define LEAST_COUNT 4096

static const int algorithms[SP_CUDA_SPMM_ALGOS] = {SPARSE_CSR_ALG1, SPARSE_CSR_ALG2,
                                                   SPARSE_CSR_ALG3};

/* The matrix on the host: rows[n + 1], then for each non-zero column and value. */
typedef struct csr_host {
    int32_t *rows, *cols;
    float *values;
    int32_t *pairs; /* column, bits of the value */
    size_t count;
} csr_host;

static void fill(csr_host *h, const float *w, int64_t n, int64_t n_step, int64_t k, int64_t k_step)
{
    size_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        h->rows[i] = (int32_t)at;
        for (int64_t j = 0; j < k; j++) {
            float v = w[i * n_step + j * k_step];
            if (v == 0) continue;
            h->cols[at] = h->pairs[2 * at] = (int32_t)j;
            h->values[at] = v;
            memcpy(&h->pairs[2 * at + 1], &v, sizeof v);
            at++;
        }
    }
    h->rows[n] = (int32_t)at;
}

static sparoa_status upload(sparoa_kernel *k, sp_cuda_sparse *s, const csr_host *h,
                            sparoa_error *err)
{
    const sp_cuda_libs *l = &k->dev->libs;
    void *rows = NULL, *entries = NULL;
    SP_TRY(sp_cuda_upload(k->dev, k, h->rows, s->rows_bytes, &rows, err));
    s->csr.rows = rows;
    SP_TRY(sp_cuda_upload(k->dev, k, h->pairs, s->entries_bytes, &entries, err));
    s->csr.entries = entries;
    if (!k->dev->sparse) return SPAROA_OK;
    SP_TRY(sp_cuda_upload(k->dev, k, h->cols, s->single_bytes, &s->cols, err));
    SP_TRY(sp_cuda_upload(k->dev, k, h->values, s->single_bytes, &s->values, err));
    if (l->sparse_csr(&s->matrix, s->csr.n, s->csr.k, (int64_t)h->count, rows, s->cols, s->values,
                      SPARSE_INDEX_32I, SPARSE_INDEX_32I, 0, LT_R_32F) != 0)
        s->matrix = NULL;
    return SPAROA_OK;
}

sparoa_status sp_cuda_sparse_make(sparoa_kernel *k, const float *w, int64_t n, int64_t n_step,
                                  int64_t count_k, int64_t k_step, sp_cuda_sparse **sparse,
                                  sparoa_error *err)
{
    sparoa_dev *dev = k->dev;
    int64_t count = 0;
    if (dev->sparse_ways == 0 || n * count_k < LEAST_COUNT || n * count_k > INT32_MAX / 2)
        return SPAROA_OK;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < count_k; j++) count += w[i * n_step + j * k_step] != 0;
    if (count == 0 || (double)count > (1 - LEAST_ZEROS) * (double)(n * count_k)) return SPAROA_OK;
    size_t rows = (size_t)n + 1, total = (rows + 4 * (size_t)count) * 4;
    sp_cuda_sparse *s = sp_cuda_host_alloc(dev, sizeof *s);
    int32_t *memory = sp_cuda_host_alloc(dev, total);
    sparoa_status status = SPAROA_OK;
    if (!s || !memory)
        status = sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no memory for sparse weights");
    if (status == SPAROA_OK) {
        csr_host h = {.rows = memory, .cols = memory + rows, .count = (size_t)count};
        h.pairs = h.cols + count;
        h.values = (float *)(h.pairs + 2 * count);
        fill(&h, w, n, n_step, count_k, k_step);
        *s = (sp_cuda_sparse){.csr = {.n = n, .k = count_k, .count = count},
                              .rows_bytes = rows * 4,
                              .entries_bytes = (size_t)count * 8,
                              .single_bytes = (size_t)count * 4};
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
    sp_cuda_free(dev, (void *)s->csr.rows, s->rows_bytes);
    sp_cuda_free(dev, (void *)s->csr.entries, s->entries_bytes);
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
