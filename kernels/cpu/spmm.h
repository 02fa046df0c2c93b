/* spmm.h - the shape of the sparse product's tiles, and what its parts cost. */
#ifndef SP_KERNELS_CPU_SPMM_H
#define SP_KERNELS_CPU_SPMM_H

#include "kernels/cpu/isa.h"

/* Rows of a tile, in spans of 16: as many vectors as two columns side by side can sum in registers.
 */
#if defined(SP_ISA_generic)
#define SPMM_ROWS 16
#define SPMM_NAME "16x2"
#elif VL == 16
#define SPMM_ROWS 64
#define SPMM_NAME "64x2"
#else
#define SPMM_ROWS 32
#define SPMM_NAME "32x2"
#endif

/* In cycles. AVX-512 and AVX2: fitted to bench_sparse on a fifth-generation EPYC, where they
 * predict the sparse product within 6 % in half of the cases. The others take AVX2's per vector
 * and, because nobody has measured them, a wide margin. */
#if defined(SP_ISA_avx512)
#define SPMM_COSTS                                                                                 \
    {                                                                                              \
        .entry = .65, .vector = .7, .column = 8.3, .finish = 3.9, .turn = 5.1, .dense = .495,      \
        .dense_finish = 2.9, .row_entry = 1.2, .row_column = 4, .row_dense = 1.4, .margin = 1.15   \
    }
#else
#define SPMM_COSTS                                                                                 \
    {                                                                                              \
        .entry = .65, .vector = .57, .column = 5.5, .finish = 2.9, .turn = 2.3, .dense = .51,      \
        .dense_finish = .4, .row_entry = 1.2, .row_column = 4, .row_dense = .85,                   \
        .margin = SPMM_MARGIN                                                                      \
    }
#if defined(SP_ISA_avx2)
#define SPMM_MARGIN 1.15
#else
#define SPMM_MARGIN 1.5
#endif
#endif

#endif
