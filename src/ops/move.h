/*
 * move.h - strided copies, shared by the operators that move elements without looking at them.
 */
#ifndef SP_OPS_MOVE_H
#define SP_OPS_MOVE_H

#include "ops/op.h"

#define SP_MOVE_RANK (2 * SPAROA_MAX_RANK)

/* dst[sum of i_a * dst_strides[a]] = src[sum of i_a * src_strides[a]] for all i_a < dims[a].
 * Strides are in elements of `size` bytes; source strides may be 0 or negative. Different i must
 * write different elements. */
typedef struct sp_move {
    size_t size;
    int32_t rank;
    int64_t dims[SP_MOVE_RANK];
    int64_t src_strides[SP_MOVE_RANK];
    int64_t dst_strides[SP_MOVE_RANK];
    const void *src;
    void *dst;
} sp_move;

/* Adds one axis, outermost first. */
static inline void sp_move_axis(sp_move *m, int64_t dim, int64_t src_stride, int64_t dst_stride)
{
    m->dims[m->rank] = dim;
    m->src_strides[m->rank] = src_stride;
    m->dst_strides[m->rank++] = dst_stride;
}

/* Sets dst_strides to those of a contiguous destination. */
void sp_move_dense(sp_move *m);

/* Runs it: axes that can be are merged, whole blocks go through memcpy, permuted ones through
 * blocked transposes, large ones are spread over the threads. */
void sp_move_run(const sp_move *m, const sparoa_exec *exec);

/* memcpy spread over the threads where it is large. */
void sp_move_bytes(void *dst, const void *src, size_t bytes, const sparoa_exec *exec);

/* Fills count elements of `size` bytes with the one at value (NULL: zeros). */
void sp_fill(void *dst, size_t size, int64_t count, const void *value);

/* Copies one element or block; the common sizes without a call. */
static inline void sp_copy_block(void *dst, const void *src, size_t size)
{
    switch (size) {
#define X(ctype, bytes)                                                                            \
    case bytes: memcpy(dst, src, bytes); break;
        SP_FOR_SIZES(X)
#undef X
    default: memcpy(dst, src, size);
    }
}

/* Like sp_parallel_for with at most exec->threads pieces; `slot` is the piece's number, for
 * workspace that each piece has for itself. */
void sp_parallel_slots(const sparoa_exec *exec, int64_t total, int64_t grain,
                       void (*body)(void *arg, int32_t slot, int64_t begin, int64_t end),
                       void *arg);

/* Product of dims[from..to-1] of an outer/axis/inner split. */
static inline int64_t sp_outer(const sparoa_tensor *t, int32_t axis)
{
    return sp_dims_product(t, 0, axis);
}

static inline int64_t sp_inner(const sparoa_tensor *t, int32_t axis)
{
    return sp_dims_product(t, axis + 1, t->rank);
}

/* The single integer of input i (int32 or int64, one element): *known says whether it is known. */
sparoa_status sp_read_scalar(const sparoa_node *node, int32_t input, int64_t *value, bool *known,
                             sparoa_error *err);

/* Input `input` must hold indices: int32 or int64. */
sparoa_status sp_check_indices(const sparoa_node *node, int32_t input, sparoa_error *err);

/* Index i of a tensor of indices into an axis of `extent`, wrapped once. Outside -extent..extent-1:
 * -1. */
static inline int64_t sp_index_at(const sparoa_tensor *t, int64_t i, int64_t extent)
{
    int64_t v =
        t->dtype == SPAROA_INT64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
    if (v < 0) v += extent;
    return v >= 0 && v < extent ? v : -1;
}

/* All indices must lie in the axis; INDEX_OUT_OF_RANGE names the first that does not. */
sparoa_status sp_check_range(const sparoa_node *node, const sparoa_tensor *indices, int32_t axis,
                             int64_t extent, sparoa_error *err);
sparoa_status sp_fail_index(const sparoa_node *node, const sparoa_tensor *indices, int64_t i,
                            int32_t axis, int64_t extent, sparoa_error *err);

#endif
