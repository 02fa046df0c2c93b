/* cut.h - a part of a graph as a graph of its own. */
#ifndef SP_GRAPH_CUT_H
#define SP_GRAPH_CUT_H

#include "graph/graph.h"

/* Nodes first to last - 1 of the graph, which shares the blobs. Value ids stay the same. Inputs of
 * the part are the values that it reads and does not make, in order of their ids; outputs those
 * that it makes and later nodes read or the graph gives. */
sparoa_status sp_graph_part(const sp_graph *graph, size_t first, size_t last,
                            const sparoa_allocator *alloc, sp_graph **part, sparoa_error *err);

#endif
