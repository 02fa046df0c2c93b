/* sparse.h - constant matrices with many zeros, and products with them. */
#ifndef SP_BACKENDS_CUDA_SPARSE_H
#define SP_BACKENDS_CUDA_SPARSE_H

#include "backends/cuda/cuda.h"

/* A matrix [n][k] of float32 by rows, on the device twice: as our kernel and as cuSPARSE want it.
 */
typedef struct sp_cuda_sparse {
    sp_cu_csr csr;
    void *rows, *cols, *values, *matrix; /* of cuSPARSE; NULL where there is none */
    size_t starts_bytes, entries_bytes, rows_bytes, single_bytes;
} sp_cuda_sparse;

/* Makes *sparse from values that lie n_step and k_step apart where enough of them are zero that a
 * sparse product may win; else *sparse stays NULL. */
sparoa_status sp_cuda_sparse_make(sparoa_kernel *k, const float *w, int64_t n, int64_t n_step,
                                  int64_t count_k, int64_t k_step, sp_cuda_sparse **sparse,
                                  sparoa_error *err);
void sp_cuda_sparse_done(sparoa_dev *dev, sp_cuda_sparse *sparse);

/* Descriptors of x [m][k] and y [m][n] for cuSPARSE, and what each of its algorithms needs; false:
 * it can't. */
bool sp_cuda_spmm_plan(sparoa_dev *dev, sp_cuda_product *p);
void sp_cuda_spmm_done(sparoa_dev *dev, sp_cuda_product *p);
/* The product with cuSPARSE, without epilogue; false: it refused. */
bool sp_cuda_spmm_run(sparoa_dev *dev, sp_cuda_product *p, const void *x, void *y, void *workspace,
                      cudaStream_t stream);

#endif
