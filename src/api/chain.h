/*
 * chain.h - a model in segments that run with batch sizes of their own.
 *
 * Each segment is a session on a part of the graph. A batch goes through the segments one after the
 * other; a segment takes it in pieces of its own size, and the values between two segments are put
 * together in memory of the chain. A segment that takes the batch whole hands over its session's
 * memory.
 */
#ifndef SP_API_CHAIN_H
#define SP_API_CHAIN_H

#include "api/objects.h"

typedef struct sp_segment {
    sparoa_model *model; /* the part */
    sparoa_session *session;
    int32_t batch;           /* items of a piece; 0: the whole batch */
    sparoa_tensor *in, *out; /* of a piece */
} sp_segment;

typedef struct sp_chain {
    sparoa_model *model;
    sp_segment *segments;
    int32_t count;
    sparoa_tensor *values; /* by value id: those between segments, for the whole batch */
    sp_growable *memory;   /* by value id */
} sp_chain;

/* Cuts the model after the nodes named; the last segment ends with the model. Fails where a value
 * that crosses a cut has no open first dimension. */
sparoa_status sp_chain_create(sparoa_model *model, const sparoa_segment *segments, size_t count,
                              const sparoa_session_options *options, sp_chain **chain,
                              sparoa_error *err);
void sp_chain_destroy(sp_chain *chain);

/* Runs a batch of `items`; outputs are set to memory that is valid until the next run. */
sparoa_status sp_chain_run(sp_chain *chain, const sparoa_tensor *inputs, sparoa_tensor *outputs,
                           int32_t items, const sp_stop *stop, sparoa_error *err);
/* The same up to segment `count`, whose inputs are then in place. */
sparoa_status sp_chain_run_until(sp_chain *chain, const sparoa_tensor *inputs, int32_t items,
                                 int32_t count, const sp_stop *stop, sparoa_error *err);

#endif
