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
#define SPMM_COSTS                                                                                 \
    {                                                                                              \
        .entry = 1, .vector = .6, .column = 8, .finish = 5, .turn = 4, .dense = .5,                \
        .dense_finish = 2, .row_entry = 1.2, .row_column = 5, .row_dense = 1.5, .margin = 1.1      \
    }

#endif
