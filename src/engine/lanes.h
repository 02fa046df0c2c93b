/*
 * lanes.h - a batch run image by image through a stretch of nodes.
 *
 * Where a batch's intermediate values are larger than the caches, and each image goes its own way
 * (convolutions, pools, element by element), a stretch of nodes is run for one image after the
 * other instead of node after node for all images: values inside the stretch are those of one image
 * and stay near. With several threads each takes the next image in a lane of its own, alone, with
 * its own memory, and waits for nobody until the batch is through. Values that enter or leave the
 * stretch hold the whole batch.
 *
 * Only on the host, and not where a profile or an observer wants every value whole.
 */
#ifndef SP_ENGINE_LANES_H
#define SP_ENGINE_LANES_H

#include "engine/program.h"

typedef struct sp_lane {
    sparoa_tensor *tensors;     /* by value: of one image */
    sparoa_node *views;         /* by node - first */
    sparoa_prepared **prepared; /* by node - first */
} sp_lane;

struct sp_lanes {
    uint32_t first, last; /* nodes, both included */
    int64_t batch;
    int32_t count;
    sp_lane *lanes;
    bool *inner;  /* by value: written and read inside only */
    sp_id *edges; /* values of the whole batch that nodes inside read or write */
    uint32_t edge_count;
    size_t *workspaces;        /* by node - first: offset in a lane's memory */
    size_t offset, lane_bytes; /* of the lanes' memory in that of side 0 */
};

/* Finds the stretch that gains most and makes the lanes' views; frame->lanes stays NULL if none is
 * worth it. Shapes must be known, kernels not yet prepared. */
sparoa_status sp_lanes_choose(sp_frame *frame, sparoa_error *err);
sparoa_status sp_lanes_prepare(sp_frame *frame, sparoa_error *err);
/* Points the lanes' values into the memory of side 0, once that is there. */
void sp_lanes_place(sp_frame *frame);
sparoa_status sp_lanes_run(sp_frame *frame, sparoa_error *err);
void sp_lanes_destroy(sp_frame *frame);

static inline bool sp_in_lanes(const sp_frame *frame, size_t node)
{
    return frame->lanes && node >= frame->lanes->first && node <= frame->lanes->last;
}

#endif
