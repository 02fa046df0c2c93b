/*
 * micro.h - small random networks for measuring a machine: blocks as they are in convolutional
 * nets, transformers and decoders, at random sizes. Operators are measured between the neighbours
 * that they have in models, so that caches are as warm as there.
 */
#ifndef SP_PROFILE_MICRO_H
#define SP_PROFILE_MICRO_H

#include "graph/graph.h"

/* The index-th network; the same index gives the same one. zeros: share of its weights that are
 * zero. One float32 input. NULL: no memory. */
sp_graph *sp_micro_graph(const sparoa_allocator *alloc, uint32_t index, double zeros);

/* A chain of `length` additions on a vector: what a dispatch costs. */
sp_graph *sp_micro_chain(const sparoa_allocator *alloc, int32_t length, int64_t elements);

/* One product [rows, depth] x [depth, columns] with constant weights: what zeros in them gain. */
sp_graph *sp_micro_product(const sparoa_allocator *alloc, int64_t rows, int64_t depth,
                           int64_t columns, double zeros);

#endif
