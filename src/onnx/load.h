/* load.h - ONNX files into the graph of graph/graph.h. */
#ifndef SP_ONNX_LOAD_H
#define SP_ONNX_LOAD_H

#include "graph/graph.h"

/* Where a model comes from: one of path, data, reader. */
typedef struct sp_onnx_source {
    const char *path; /* mapped into memory: must not be cut short while the graph lives */
    const void *data; /* copied */
    size_t size;      /* of data */
    const sparoa_reader *reader;
    const char *external_dir; /* folder of external data; NULL: the folder of path, or none */
    size_t max_bytes;         /* of the model file; 0: 2 GiB */
    const sparoa_op *const
        *extra_ops; /* rows of the application, which come before the library's */
    size_t extra_count;
} sp_onnx_source;

/* Reads a model: checks it against limits, inlines its functions, makes constants of initialisers
 * and of Constant nodes, orders the nodes. Weights stay in the mapped file where their alignment
 * allows. Types and shapes of intermediate values are not worked out here. On success the caller
 * owns *graph, and *meta points into it. Errors: those of sparoa_model_load. */
sparoa_status sp_onnx_load(const sp_onnx_source *src, const sparoa_allocator *alloc,
                           sp_graph **graph, sp_model_meta *meta, sparoa_error *err);

/* Reads a file that holds one TensorProto. data comes from sp_alloc with
 * sparoa_tensor_bytes(tensor) bytes. */
sparoa_status sp_onnx_load_tensor(const char *path, const sparoa_allocator *alloc,
                                  sparoa_tensor *tensor, char *name, size_t name_size,
                                  sparoa_error *err);

#endif
