/*
 * kernel.h - the contract between the CPU backend and its fast node kernels. A kernel is one const
 * row, defined with SP_CPU_KERNEL(symbol) at column 0 of a file in src/backends/cpu; CMake collects
 * the rows into sp_cpu_kernel_table (cmake/cpu_kernel_table.cmake). Nodes without a row run the
 * operator's plain implementation.
 *
 * Life of a node: find -> create (constants packed) -> prepare (shapes known; again whenever they
 * change) -> run, any number of times -> prepared_destroy -> destroy. One state may have several
 * prepared objects.
 */
#ifndef SP_BACKENDS_CPU_KERNEL_H
#define SP_BACKENDS_CPU_KERNEL_H

#include "backends/cpu/packcache.h"
#include "kernels/cpu/kernels.h"
#include "sparoa_backend.h"

/* When something runs that is not always faster. */
typedef enum sp_when {
    SP_WHEN_FASTER, /* as far as sizes tell */
    SP_WHEN_NEVER,
    SP_WHEN_ALWAYS /* wherever it can run */
} sp_when;

/* What a kernel gets from its backend. Outlives every state made with it. */
typedef struct sp_cpu_host {
    sparoa_allocator allocator;
    int32_t threads;           /* threads that exec->parallel will have */
    const sp_kernels *kernels; /* the inner loops for this machine: sp_cpu_kernels */
    sp_cpu_packcache *cache;   /* packed weights shared by sessions; NULL: nothing is shared */
    const sparoa_host *engine; /* its threads serve packing too; NULL: the caller's thread only */
    sp_when sparse;            /* products with pruned weights on the sparse kernel */
    sp_when join;              /* convolutions that follow each other in one go (conv_join.c) */
    size_t l2_bytes;           /* second-level cache of a core; 0: unknown */
} sp_cpu_host;

/* Slots marked O may be NULL. */
typedef struct sp_cpu_kernel_row {
    const char *op, *domain; /* matches the node; "" for ai.onnx */
    /* The name of the variant that would run, e.g. "dwconv_f32_3x3__avx2", or NULL: not this row.
     * Looks at attributes, constant inputs and facts (dims may be -1, ranks too). Static storage.
     */
    const char *(*supports)(const sp_cpu_host *host, const sparoa_node *node);
    /* O: parses attributes, packs constants. No create: state is NULL. */
    sparoa_status (*create)(const sparoa_node *node, const sp_cpu_host *host, void **state,
                            sparoa_error *err);
    size_t (*bytes)(const void *state); /* O: memory kept for weights */
    bool (*keeps_input)(const void *state,
                        int32_t input); /* O: true for all; false: it made its own copy */
    /* O: all shapes are set, data of inputs and outputs is not. *prepared NULL: make it; else: it
     * belongs to other shapes, reuse or replace it. *workspace: bytes that run wants in
     * exec->workspace. */
    sparoa_status (*prepare)(void *state, const sp_cpu_host *host, const sparoa_node *node,
                             void **prepared, size_t *workspace, sparoa_error *err);
    /* No allocation. exec->threads must not exceed host->threads. exec->state is not used. */
    sparoa_status (*run)(void *state, void *prepared, const sp_cpu_host *host,
                         const sparoa_node *node, const sparoa_exec *exec);
    void (*prepared_destroy)(void *state, const sp_cpu_host *host,
                             void *prepared);              /* O: nothing to free */
    void (*destroy)(void *state, const sp_cpu_host *host); /* O: nothing to free */
} sp_cpu_kernel_row;

#define SP_CPU_KERNEL(symbol) const sp_cpu_kernel_row sp_cpu_kernel_##symbol

/* Finds a kernel that does in one go what the nodes of these rows and states do, as nodes_join of
 * sparoa_backend says (joins.c). *state NULL: there is none, or it is not faster. */
sparoa_status sp_cpu_join(const sp_cpu_host *host, const sp_cpu_kernel_row *const *rows,
                          void *const *states, const sparoa_node *const *nodes, int32_t count,
                          bool kept, const sp_cpu_kernel_row **row, void **state,
                          sparoa_error *err);

/* All rows; ends with NULL. Generated. */
extern const sp_cpu_kernel_row *const sp_cpu_kernel_table[];

/* The first row that supports the node, and in *variant the name it gave; NULL: run the plain
 * operator. */
const sp_cpu_kernel_row *sp_cpu_kernel_find(const sp_cpu_host *host, const sparoa_node *node,
                                            const char **variant);

/* Zeroed memory of the host's allocator, 64-byte aligned, and back. Size 0 gives one byte. */
void *sp_cpu_alloc(const sp_cpu_host *host, size_t bytes);
void sp_cpu_free(const sp_cpu_host *host, void *ptr, size_t bytes);
/* For prepare: *prepared, made where it is NULL, holds a copy of the plan of so many bytes. */
sparoa_status sp_cpu_keep_plan(const sp_cpu_host *host, const sparoa_node *node, const void *plan,
                               size_t bytes, void **prepared, sparoa_error *err);

/* How many threads should pack `floats` that fall into `parts`. */
int32_t sp_cpu_pack_pieces(const sp_cpu_host *host, size_t floats, size_t parts);
/* task(arg, i) for i < count, on the host's threads where it has them. For create only. */
void sp_cpu_pack_tasks(const sp_cpu_host *host, int32_t count, void (*task)(void *arg, int32_t i),
                       void *arg);
/* sp_pack_key_add for arrays that may be large: all threads read. */
void sp_cpu_pack_key_add(const sp_cpu_host *host, sp_pack_key *key, const void *bytes,
                         size_t count);

/* All pieces, on the calling thread where it is one. */
static inline void sp_run_pieces(const sparoa_exec *exec, int32_t count,
                                 void (*piece)(void *arg, int32_t i), void *arg)
{
    if (count > 1)
        exec->parallel(exec, count, piece, arg);
    else if (count == 1)
        piece(arg, 0);
}

#endif
