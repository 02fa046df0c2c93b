/* layout_axes.h - which dimension goes where between [N, C, spatial...] and [N, spatial..., C]. */
#ifndef SP_GRAPH_LAYOUT_AXES_H
#define SP_GRAPH_LAYOUT_AXES_H

#include "graph/graph.h"

/* Dimension i of the channel-last order is this one of the model's order; and the other way round.
 */
static inline int32_t sp_axis_of_last(int32_t i, int32_t rank)
{
    return i == 0 ? 0 : i == rank - 1 ? 1 : i + 1;
}

static inline int32_t sp_axis_of_first(int32_t i, int32_t rank)
{
    return i == 0 ? 0 : i == 1 ? rank - 1 : i - 1;
}

/* True for Concat, Split, Softmax, reductions, Pad, Slice and the like whose axes are known, so
 * that they can work with the channel last. */
bool sp_can_move_axes(const sp_graph *g, const sp_gnode *n);
/* Rewrites those axes. False: no memory. */
bool sp_move_axes(sp_graph *g, sp_id node, int32_t rank);

#endif
