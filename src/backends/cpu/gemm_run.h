/* gemm_run.h - what the kernels that are matrix products inside share: packing, and splitting among
 * threads. */
#ifndef SP_BACKENDS_CPU_GEMM_RUN_H
#define SP_BACKENDS_CPU_GEMM_RUN_H

#include "backends/cpu/kernel.h"
#include "ops/epilogue.h"

/* m rows and `panels` panels of columns cut into rows_parts x panel_parts even pieces. */
typedef struct sp_gemm_split {
    size_t m, panels;
    int32_t rows_parts, panel_parts;
} sp_gemm_split;

/* For at most `threads` pieces; depends on the sizes and threads only. */
sp_gemm_split sp_gemm_split_of(const sp_kernels *kernels, size_t m, size_t n, size_t k_total,
                               int32_t threads);
/* Several pieces per thread where each is still long: a thread that other processes keep from its
 * core holds up the others for one short piece only. */
sp_gemm_split sp_gemm_split_fine(const sp_kernels *kernels, size_t m, size_t n, size_t k_total,
                                 int32_t threads);
int32_t sp_fine_pieces(double multiply_adds, int32_t threads);
static inline int32_t sp_gemm_split_count(const sp_gemm_split *s)
{
    return s->rows_parts * s->panel_parts;
}

typedef struct sp_gemm_piece {
    size_t m0, m1, p0, p1;
} sp_gemm_piece;
sp_gemm_piece sp_gemm_piece_of(const sp_gemm_split *s, int32_t i);

/* The whole product on all threads. */
void sp_gemm_parallel(const sp_kernels *kernels, const sp_gemm_f32 *g, const sparoa_exec *exec);

/* Packs on all threads, into memory that the caller has. */
void sp_gemm_pack_parallel(const sp_kernels *kernels, const sp_gemm_f32_source *source,
                           float *packed, const sparoa_exec *exec);

/* Packs constant weights, or finds them packed: `groups` matrices one after the other, each of
 * group_floats in the source (its bias: n further on) and of sp_gemm_group_floats when packed.
 * NULL: out of memory. */
sp_cpu_packed *sp_gemm_pack_shared(const sp_cpu_host *host, const sp_gemm_f32_source *source,
                                   size_t groups, size_t group_floats);
size_t sp_gemm_group_floats(const sp_kernels *kernels, size_t n, size_t k_total);

/* The same for groups of few channels (conv_groups.c). */
sp_cpu_packed *sp_gconv_pack_shared(const sp_cpu_host *host, const sp_gconv_f32_source *source);

sp_gemm_epilogue sp_gemm_epilogue_of(const sp_epilogue *e);

/* Input i is absent or a constant of type float32 with its data set. */
bool sp_cpu_constant_or_absent(const sparoa_node *node, int32_t i);
bool sp_cpu_is_constant(const sparoa_node *node, int32_t i);
bool sp_cpu_all_float32(const sparoa_node *node);

#endif
