/* spmm_run.h - products with pruned constant weights: whether the sparse kernel is faster, packing
 * for it, and running it on all threads. */
#ifndef SP_BACKENDS_CPU_SPMM_RUN_H
#define SP_BACKENDS_CPU_SPMM_RUN_H

#include "backends/cpu/gemm_run.h"

typedef enum sp_spmm_choice {
    SP_SPMM_NO,
    SP_SPMM_MANY, /* for `most` rows, but not for all numbers from `least` on */
    SP_SPMM_YES
} sp_spmm_choice;

/* Whether the sparse kernel is to take products of least..most rows with these weights (one tap),
 * by a rule that was fitted to measurements (bench_sparse) and depends on the arguments only. Of
 * weights that aren't mostly zeros it looks at a few samples. */
sp_spmm_choice sp_spmm_choose(const sp_cpu_host *host, const sp_gemm_f32_source *source,
                              size_t least, size_t most, sp_spmm_f32_size *size);
/* The same for packed weights and m rows. */
bool sp_spmm_pays(const sp_cpu_host *host, const sp_spmm_f32_size *size, size_t m);

/* Packed weights, which begin with their sp_spmm_f32_size. NULL: out of memory. */
sp_cpu_packed *sp_spmm_pack_shared(const sp_cpu_host *host, const sp_gemm_f32_source *source,
                                   const sp_spmm_f32_size *size);
static inline const sp_spmm_f32_size *sp_spmm_size_of(const sp_cpu_packed *packed)
{
    return packed->data;
}

/* m rows on at most `threads` threads; the split's panels are groups of SP_SPMM_GROUP columns. */
sp_gemm_split sp_spmm_split(const sp_kernels *kernels, const sp_spmm_f32_size *size, size_t m,
                            int32_t threads);
/* The kernel's own memory for one piece. */
size_t sp_spmm_piece_bytes(const sp_kernels *kernels, const sp_spmm_f32_size *size);
/* Piece i of rows that `g` describes from row 0 on; memory: sp_spmm_piece_bytes. */
void sp_spmm_piece(const sp_kernels *kernels, const sp_spmm_f32 *g, const sp_gemm_piece *piece,
                   size_t m0, size_t m1, void *memory);

/* The whole product; workspace: split's count times sp_spmm_piece_bytes. */
void sp_spmm_parallel(const sp_kernels *kernels, const sp_spmm_f32 *g, const sp_gemm_split *split,
                      const sparoa_exec *exec);

#endif
