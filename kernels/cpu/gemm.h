/* gemm.h - the shape of register tiles, shared by packing and computing. */
#ifndef SP_KERNELS_CPU_GEMM_H
#define SP_KERNELS_CPU_GEMM_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/kernels.h"

/* NV: vectors in a panel. MR: rows of a tile of that width; the accumulators of a tile, the panel's
 * row and one broadcast element must fit the registers. A panel of NV + 1 vectors ends a matrix
 * that would else end in one vector, whose tile waits for the latency of its few accumulators. */
#if defined(SP_ISA_avx512)
#define NV 2
#define MR_OF_1 12
#define MR_OF_2 12
#define MR_OF_3 8
#define MR_MAX 12
#define TILE_NAME "12x32"
#elif defined(SP_ISA_avx2)
#define NV 2
#define MR_OF_1 6
#define MR_OF_2 6
#define MR_OF_3 4
#define MR_MAX 6
#define TILE_NAME "6x16"
#elif defined(SP_ISA_neon)
#define NV 2
#define MR_OF_1 12
#define MR_OF_2 12
#define MR_OF_3 8
#define MR_MAX 12
#define TILE_NAME "12x8"
#else
#define NV 2
#define MR_OF_1 6
#define MR_OF_2 4
#define MR_OF_3 2
#define MR_MAX 6
#define TILE_NAME "4x8"
#endif

#define NR (NV * VL)
#define NR_MAX ((NV + 1) * VL)

SP_INLINE size_t gemm_panels(size_t n)
{
    size_t vectors = (n + VL - 1) / VL;
    if (vectors % NV == 1 && vectors > NV) return vectors / NV;
    return (vectors + NV - 1) / NV;
}

/* Vectors of panel p of `panels`. */
SP_INLINE size_t gemm_panel_vectors(size_t n, size_t p, size_t panels)
{
    return p + 1 < panels ? NV : (n + VL - 1) / VL - p * NV;
}

#endif
