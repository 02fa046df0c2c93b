/* gemm_plain.h - the plain matrix product behind MatMul, Gemm and their relatives. */
#ifndef SP_OPS_GEMM_PLAIN_H
#define SP_OPS_GEMM_PLAIN_H

#include "ops/op.h"

/* out[p][i][j] = alpha * sum over l of a[p][i][l] b[p][l][j] + beta * c[i][j], for a batch of
 * products p. All strides are in elements. Floats are summed in double, integers modulo 2^64. */
typedef struct sp_product {
    sparoa_dtype dtype;
    int64_t m, n, k;
    const void *a, *b;
    void *out; /* dense: [batch][m][n] */
    int64_t a_row, a_col, b_row, b_col;
    int32_t batch_rank;
    int64_t batch[SPAROA_MAX_RANK]; /* dimensions of the batch */
    int64_t a_batch[SPAROA_MAX_RANK], b_batch[SPAROA_MAX_RANK];
    double alpha, beta;
    const void *c; /* or NULL */
    int64_t c_row, c_col;
} sp_product;

void sp_product_run(const sp_product *product, const sparoa_exec *exec);

#endif
