/*
 * divide.h - one operator made into two that may run on two devices, and a Concat of what they
 * give.
 */
#ifndef SP_GRAPH_DIVIDE_H
#define SP_GRAPH_DIVIDE_H

#include "graph/graph.h"

/* Along what a node is divided. Parts are concatenated, nothing is averaged. */
typedef enum sp_split_axis {
    SP_SPLIT_NONE,     /* it can't be */
    SP_SPLIT_CHANNELS, /* output channels; the last axis of a matrix product: weights divide too */
    SP_SPLIT_ROWS,     /* rows of the output: height; the last but one axis of a matrix product */
    SP_SPLIT_BATCH,    /* the first axis of the output */
    SP_SPLIT_COUNT
} sp_split_axis;
const char *sp_split_axis_name(sp_split_axis axis); /* "none", "channels", "rows", "batch" */

/* Whether nodes of this operator can be divided at all. */
bool sp_divides(const char *op_type);

/* What keeps a node from being divided along an axis, or NULL. Static text. */
const char *sp_divide_obstacle(const sp_graph *graph, sp_id node, sp_split_axis axis);

typedef struct sp_divided {
    sp_id part[2], join; /* nodes */
    sp_id first;         /* these and what cuts inputs are the nodes from here on */
} sp_divided;

/* Adds the parts of a node, the second with `share` (0..1) of the elements of the axis, and the
 * Concat that writes the node's output in its place; the node is dead then. Constants are cut here,
 * other inputs by Slice nodes. The caller compacts, verifies and infers the graph. Fails with
 * INVALID_PLAN where there is an obstacle. */
sparoa_status sp_graph_divide(sp_graph *graph, sp_id node, sp_split_axis axis, double share,
                              sp_divided *made, sparoa_error *err);

#endif
