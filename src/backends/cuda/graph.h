/* graph.h - what is done to a recorded graph before it is instantiated. */
#ifndef SP_BACKENDS_CUDA_GRAPH_H
#define SP_BACKENDS_CUDA_GRAPH_H

#include "backends/cuda/cuda.h"

typedef struct sp_cuda_graph_counts {
    size_t kernels, fills, copies, others, replaced;
} sp_cuda_graph_counts;

/* Replaces fills and copies within the device by kernels, as far as that is possible, and logs what
 * the graph holds. */
void sp_cuda_graph_refine(sparoa_dev *dev, cudaGraph_t graph);

#endif
