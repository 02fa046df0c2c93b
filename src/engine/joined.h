/*
 * joined.h - nodes run in one go: where the host's backend has a kernel that does what a few nodes
 * that follow each other do, faster than one by one, the last of them runs it and the others do not
 * run. What they hand over to each other has no memory then, unless others read it too.
 *
 * Only where nobody looks at such values: all nodes on the host, no profile, no observer.
 */
#ifndef SP_ENGINE_JOINED_H
#define SP_ENGINE_JOINED_H

#include "engine/program.h"

struct sp_join {
    sparoa_kernel *kernel;
    sparoa_node view; /* of the frame's tensors; in lanes each has its own */
    uint32_t nodes[SPAROA_JOIN_MAX];
    int32_t count;
    bool kept; /* others read what the first hands over: it is written too */
};

/* Joins what the backend joins, once shapes are known and lanes chosen, before kernels are
 * prepared. */
sparoa_status sp_joins_choose(sp_frame *frame, sparoa_error *err);
/* Frees the kernels; what they prepared must be gone. */
void sp_joins_destroy(sp_frame *frame);

/* Whether values may have no memory, as nothing but the next node reads them. */
bool sp_values_are_free(const sp_frame *frame);

/* What the node is run with. */
static inline const sparoa_node *sp_run_view(const sp_frame_node *node)
{
    return node->join ? &node->join->view : &node->view;
}

/* Whether a node that is not run itself has outputs all the same. */
static inline bool sp_is_kept(const sp_frame *frame, uint32_t node)
{
    const sp_join *join = frame->nodes[node].join;
    return join && join->kept && join->nodes[0] == node;
}

/* The node whose run does the work of this one. */
static inline uint32_t sp_runs_in(const sp_frame *frame, uint32_t node)
{
    const sp_join *join = frame->nodes[node].join;
    return join ? join->nodes[join->count - 1] : node;
}

#endif
