/* rewrite.h - helpers that passes share. */
#ifndef SP_GRAPH_REWRITE_H
#define SP_GRAPH_REWRITE_H

#include "graph/graph.h"
#include "ops/op.h"

/* ONNX operator by type in the domain ai.onnx. */
bool sp_node_is(const sp_gnode *n, const char *op_type);
/* A view for reading attributes: no inputs, no outputs. */
sparoa_node sp_node_attrs(const sp_gnode *n);
/* Fact of input or output k, or NULL. */
const sparoa_tensor *sp_node_in(const sp_graph *g, const sp_gnode *n, int32_t k);
const sparoa_tensor *sp_node_out(const sp_graph *g, const sp_gnode *n, int32_t k);
/* The constant that input k is, or NULL. */
const sp_value *sp_const_in(const sp_graph *g, const sp_gnode *n, int32_t k);
/* The node that writes input k, or NULL. */
sp_gnode *sp_producer(const sp_graph *g, const sp_gnode *n, int32_t k);
/* A constant float scalar (one element, any rank) as input k; false: it is none. */
bool sp_const_scalar(const sp_graph *g, const sp_gnode *n, int32_t k, double *value);

/* New constants; SP_NO_ID: no memory. data is copied (NULL: zeros). */
sp_id sp_add_const(sp_graph *g, const char *base, sparoa_dtype dtype, int32_t rank,
                   const int64_t *dims, const void *data);
sp_id sp_add_const_i64(sp_graph *g, const char *base, const int64_t *values, int64_t count);
/* A new value with a unique name; SP_NO_ID: no memory. */
sp_id sp_add_value(sp_graph *g, const char *base);
/* A new node of the newest version of an ONNX operator with one output, a new value. Returns that
 * value, whose fact is not inferred yet; SP_NO_ID: no memory. */
sp_id sp_insert_node(sp_graph *g, const char *op_type, int32_t version, const char *base,
                     const sp_id *in, int32_t n_in);

/* Lets node `keep` write `value` in place of its output 0. The present producer of value must be
 * dead or `keep`. */
void sp_take_output(sp_graph *g, sp_id keep, sp_id value);

#define SP_NO_MEMORY(g, err) sp_no_memory(&(g)->arena.alloc, 256, err)

#endif
