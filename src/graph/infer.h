/* infer.h - types, shapes and known values of a graph. */
#ifndef SP_GRAPH_INFER_H
#define SP_GRAPH_INFER_H

#include "graph/graph.h"

/* Calls an operator's infer for one node: resets the outputs' facts, infers, checks that ranks and
 * dimensions are within bounds. */
sparoa_status sp_infer_node(const sparoa_op *op, const sparoa_node *view, sparoa_error *err);

/* Where the operator trims its outputs, dims are bounds of what run will set: they become -1, so
 * that nobody takes them for facts. For graphs; a frame that is about to run such a node needs the
 * bounds. */
void sp_forget_bounds(const sparoa_op *op, const sparoa_node *view);

/* True if the node's outputs can be worked out now: values of all inputs known (shapes alone for
 * SHAPE_ONLY), no randomness, no subgraphs, and at most max_bytes of fully known output shapes. */
bool sp_can_evaluate(const sparoa_op *op, const sparoa_node *view, int32_t n_subgraphs,
                     size_t max_bytes);

/* Runs the operator's plain implementation on the calling thread; outputs' data must be set. */
sparoa_status sp_evaluate(const sparoa_op *op, const sparoa_node *view,
                          const sparoa_allocator *alloc, sparoa_error *err);

/* Types and shapes of every value, subgraphs included. */
sparoa_status sp_graph_infer(sp_graph *graph, sparoa_error *err);

#endif
