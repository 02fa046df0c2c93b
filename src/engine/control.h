/* control.h - what If, Loop and Scan share (control.c, scan.c). */
#ifndef SP_ENGINE_CONTROL_H
#define SP_ENGINE_CONTROL_H

#include "engine/program.h"

/* Room for the tensors that go into and come out of a body: made once per node, in the slot's last
 * buffer. */
typedef struct sp_body_io {
    sparoa_tensor *in, *out;
    sparoa_tensor **captures;
    size_t *bytes; /* zeros: the body brings its own memory */
} sp_body_io;

sparoa_status sp_body_io_make(sp_frame *frame, size_t node, int32_t program, sp_body_io *io,
                              sparoa_error *err);
/* Runs subgraph number `program` of the node on io->in; io->out then points to the body's memory.
 */
sparoa_status sp_body_run(sp_frame *frame, size_t node, int32_t program, sp_body_io *io,
                          sparoa_error *err);
/* Copies a tensor into the frame's memory of the node's output k. */
sparoa_status sp_control_set_output(sp_frame *frame, size_t node, int32_t k,
                                    const sparoa_tensor *value, sparoa_error *err);
/* Like sp_growable_reserve, but keeps the first `keep` bytes. */
sparoa_status sp_growable_extend(sp_growable *g, const sparoa_allocator *alloc, size_t bytes,
                                 size_t keep, sparoa_error *err);

sparoa_status sp_scan_run(sp_frame *frame, size_t node, sparoa_error *err);

#endif
