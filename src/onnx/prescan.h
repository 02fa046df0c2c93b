/*
 * prescan.h - checks the wire format of an ONNX file before protobuf-c sees it, and makes a small
 * copy without the weights.
 *
 * protobuf-c recurses as deep as the file says and copies every bytes field. The prescan walks the
 * file with a stack of its own, refuses what is malformed or beyond the limits below, and writes a
 * skeleton: the same message without unknown fields, in which each large data field of a
 * TensorProto (raw_data and the packed typed fields) is replaced by a reference in
 * TensorProto.span. A reference is field number << 32 | index into `spans`. Fields with the number
 * of TensorProto.span in the file are dropped like unknown ones, so none can be forged.
 */
#ifndef SP_ONNX_PRESCAN_H
#define SP_ONNX_PRESCAN_H

#include "base/mem.h"

struct ProtobufCMessageDescriptor;

#define SP_PRESCAN_DEPTH 64              /* messages inside each other */
#define SP_PRESCAN_MAX_NODES 1000000     /* NodeProtos */
#define SP_PRESCAN_MAX_MESSAGES 16000000 /* messages of all kinds */
#define SP_PRESCAN_SPAN_BYTES 1024       /* data fields from this size on stay in the file */

typedef struct sp_span {
    size_t offset, bytes; /* in the file */
} sp_span;

typedef struct sp_prescan {
    uint8_t *skeleton;
    size_t bytes, capacity;
    sp_span *spans;
    size_t span_count, span_capacity;
    sparoa_allocator alloc;
} sp_prescan;

/* Scans a message of type `root`. On success the caller frees `out`; on failure there is nothing to
 * free. Errors: MALFORMED, TOO_LARGE, OUT_OF_MEMORY, MEMORY_LIMIT. */
sparoa_status sp_prescan_run(const struct ProtobufCMessageDescriptor *root, const void *data,
                             size_t size, const sparoa_allocator *alloc, sp_prescan *out,
                             sparoa_error *err);
void sp_prescan_free(sp_prescan *scan);

/* Reads one varint of at most 10 bytes from p..end-1. Returns the bytes it took, 0 if it is
 * malformed. */
size_t sp_varint_read(const uint8_t *p, const uint8_t *end, uint64_t *value);

#endif
