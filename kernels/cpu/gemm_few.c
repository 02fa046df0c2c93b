/*
 * Products of few columns, such as the heads of detectors and the last layers of image filters. In
 * a tile as wide as a vector most lanes would compute nothing; here the lanes run along k instead,
 * and the sums of VL results are taken together, in a square that is turned in registers.
 */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/protos.h"
#include "kernels/cpu/transpose.h"

#define MOST_COLUMNS 4
#define MOST_FLOATS 4096 /* of the weights, which lie on the stack column by column */
#define LEAST_ROWS 48    /* of the whole matrix: turning the weights must pay */

bool SP_KERNEL(sp_gemm_few_pays)(const sp_gemm_f32 *g)
{
    size_t padded = (g->k + VL - 1) / VL * VL;
    return g->n > 0 && g->n <= MOST_COLUMNS && g->m >= LEAST_ROWS && g->ldc == g->n &&
           !g->epilogue.residual && g->k >= VL && g->k * 4 >= padded * 3 &&
           padded * g->taps * g->n <= MOST_FLOATS;
}

typedef struct few {
    const sp_gemm_f32 *g;
    size_t padded;  /* k of a tap, in whole vectors */
    const float *b; /* [column][tap][padded], zeros behind k */
} few;

SP_INLINE const float *row_of(const sp_gemm_f32 *g, size_t tap, size_t m)
{
    return g->rows ? g->rows[tap * g->row_stride + m]
                   : (g->bases ? g->bases[tap] : g->a) + m * g->lda;
}

/* The n columns of row m, each still spread over the lanes of a vector. */
SP_INLINE void row_run(const few *f, size_t m, vf *sums, const int n)
{
    const sp_gemm_f32 *g = f->g;
    const size_t whole = g->k / VL * VL, column = f->padded * g->taps;
    vf acc[MOST_COLUMNS];
    SP_UNROLL for (int j = 0; j < n; j++) acc[j] = vf_zero();
    for (size_t tap = 0; tap < g->taps; tap++) {
        const float *a = row_of(g, tap, m), *b = f->b + tap * f->padded;
        for (size_t k = 0; k < whole; k += VL) {
            vf av = vf_load(a + k);
            SP_UNROLL for (int j = 0; j < n; j++) acc[j] =
                vf_fma(av, vf_load(b + (size_t)j * column + k), acc[j]);
        }
        if (whole == g->k) continue;
        vf av = vf_load_n(a + whole, g->k - whole);
        SP_UNROLL for (int j = 0; j < n; j++) acc[j] =
            vf_fma(av, vf_load(b + (size_t)j * column + whole), acc[j]);
    }
    SP_UNROLL for (int j = 0; j < n; j++) sums[j] = acc[j];
}

SP_INLINE void rows_run(const few *f, size_t m0, size_t m1, vf bias, const int n)
{
    const size_t group = (size_t)(VL / n);
    for (size_t m = m0; m < m1; m += group) {
        size_t rows = m1 - m < group ? m1 - m : group;
        vf v[VL];
        for (size_t i = 0; i < rows; i++) row_run(f, m + i, v + i * (size_t)n, n);
        for (size_t i = rows * (size_t)n; i < VL; i++) v[i] = vf_zero();
        vf_transpose(v);
        for (int s = VL / 2; s > 0; s /= 2)
            for (int i = 0; i < s; i++) v[i] += v[i + s];
        vf_store_n(f->g->c + m * (size_t)n, v[0] + bias, rows * (size_t)n);
    }
}

void SP_KERNEL(sp_gemm_few_f32)(const sp_gemm_f32 *g, size_t m0, size_t m1)
{
    float b[MOST_FLOATS] __attribute__((aligned(64))), bias[VL];
    few f = {g, (g->k + VL - 1) / VL * VL, b};
    const float *packed = g->b; /* one panel: the bias, then rows of VL columns */
    for (size_t i = 0; i < VL; i++) bias[i] = packed[i % g->n];
    packed += VL;
    for (size_t tap = 0; tap < g->taps; tap++)
        for (size_t k = 0; k < f.padded; k++, packed += k <= g->k ? VL : 0)
            for (size_t j = 0; j < g->n; j++)
                b[(j * g->taps + tap) * f.padded + k] = k < g->k ? packed[j] : 0;
    switch (g->n) {
    case 1: rows_run(&f, m0, m1, vf_load(bias), 1); break;
    case 2: rows_run(&f, m0, m1, vf_load(bias), 2); break;
    case 3: rows_run(&f, m0, m1, vf_load(bias), 3); break;
    default: rows_run(&f, m0, m1, vf_load(bias), 4); break;
    }
}
