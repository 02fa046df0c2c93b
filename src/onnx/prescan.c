#include "onnx/prescan.h"

#include <string.h>

#include "onnx.pb-c.h"
#include "sparoa_backend.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

#define LENGTH_BYTES                                                                               \
    5 /* lengths of messages are written at this width and filled in afterwards                    \
       */
#define SPAN_FIELD 500
#define SKELETON_MAX ((size_t)INT32_MAX - 64) /* protobuf-c counts in int in places */

typedef struct frame {
    const ProtobufCMessageDescriptor *type;
    size_t end;       /* offset in the input after this message */
    size_t length_at; /* where in the skeleton its length stands */
    uint64_t seen;    /* bit i: field i of the descriptor was there (fields that may stand once) */
} frame;

typedef struct scanner {
    const uint8_t *data;
    size_t at;
    sp_prescan *out;
    sparoa_error *err;
    size_t nodes, messages;
    int depth;
    frame stack[SP_PRESCAN_DEPTH];
} scanner;

/* One field as it stands in the input. */
typedef struct field {
    uint32_t number, wire;
    size_t begin;   /* of the tag */
    size_t payload; /* of the value; of a length-delimited one, after the length */
    size_t bytes;   /* of the value */
    const ProtobufCFieldDescriptor *known; /* NULL: unknown, or of no use */
} field;

size_t sp_varint_read(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
    uint64_t v = 0;
    for (size_t i = 0; i < 10 && p + i < end; i++) {
        v |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (p[i] & 0x80) continue;
        if (i == 9 && p[i] > 1) return 0; /* more than 64 bits */
        *value = v;
        return i + 1;
    }
    return 0;
}

static sparoa_status malformed(const scanner *s, const char *what)
{
    const frame *f = s->depth > 0 ? &s->stack[s->depth - 1] : NULL;
    return sparoa_fail(s->err, SPAROA_MALFORMED, NULL,
                       "not a well-formed ONNX file: %s at byte %zu (in %s); the file is damaged, "
                       "cut off or no ONNX",
                       what, s->at, f ? f->type->short_name : "the file");
}

static sparoa_status no_memory(const scanner *s, size_t bytes)
{
    return sp_no_memory(&s->out->alloc, bytes, s->err);
}

/* ---- writing the skeleton ---- */

static sparoa_status reserve(scanner *s, size_t more)
{
    sp_prescan *o = s->out;
    if (more > SKELETON_MAX || o->bytes + more > SKELETON_MAX)
        return sparoa_fail(s->err, SPAROA_TOO_LARGE, NULL,
                           "the file describes more than %zu bytes besides weights", SKELETON_MAX);
    if (o->bytes + more <= o->capacity) return SPAROA_OK;
    if (!sp_grow(&o->alloc, &o->skeleton, &o->capacity, o->bytes + more, 1))
        return no_memory(s, o->bytes + more);
    return SPAROA_OK;
}

static void put_varint(sp_prescan *o, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) o->skeleton[o->bytes++] = (uint8_t)(v | 0x80);
    o->skeleton[o->bytes++] = (uint8_t)v;
}

static void put_length(sp_prescan *o, size_t at, size_t v)
{
    for (int i = 0; i < LENGTH_BYTES; i++, v >>= 7)
        o->skeleton[at + (size_t)i] = (uint8_t)((v & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
}

/* Copies a field with its tag written anew, so that the skeleton has no overlong tags or lengths.
 */
static sparoa_status copy_field(scanner *s, const field *f)
{
    sp_prescan *o = s->out;
    sparoa_status status = reserve(s, f->bytes + 20);
    if (status != SPAROA_OK) return status;
    put_varint(o, (uint64_t)f->number << 3 | f->wire);
    if (f->wire == WIRE_BYTES) put_varint(o, f->bytes);
    memcpy(o->skeleton + o->bytes, s->data + f->payload, f->bytes);
    o->bytes += f->bytes;
    return SPAROA_OK;
}

static sparoa_status write_span(scanner *s, const field *f)
{
    sp_prescan *o = s->out;
    if (!sp_grow(&o->alloc, &o->spans, &o->span_capacity, o->span_count + 1, sizeof *o->spans))
        return no_memory(s, (o->span_count + 1) * sizeof *o->spans);
    sparoa_status status = reserve(s, 16);
    if (status != SPAROA_OK) return status;
    uint64_t reference = (uint64_t)f->number << 32 | o->span_count;
    o->spans[o->span_count++] = (sp_span){f->payload, f->bytes};
    put_varint(o, SPAN_FIELD << 3 | WIRE_FIXED64);
    for (int i = 0; i < 8; i++) o->skeleton[o->bytes++] = (uint8_t)(reference >> (8 * i));
    return SPAROA_OK;
}

/* ---- checks ---- */

static uint32_t wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32: return WIRE_FIXED32;
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64: return WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: return WIRE_BYTES;
    default: return WIRE_VARINT;
    }
}

/* The values of a packed field fill it exactly. */
static bool packed_ok(const uint8_t *p, size_t bytes, uint32_t wire)
{
    if (wire == WIRE_FIXED32) return bytes % 4 == 0;
    if (wire == WIRE_FIXED64) return bytes % 8 == 0;
    const uint8_t *end = p + bytes;
    uint64_t v;
    for (size_t n; p < end; p += n)
        if ((n = sp_varint_read(p, end, &v)) == 0) return false;
    return true;
}

/* A field may be repeated on the wire although it holds one value; protobuf then takes the last or
 * merges messages. No writer of ONNX does that, so the second is refused. */
static sparoa_status check_known(scanner *s, frame *fr, const field *f)
{
    const ProtobufCFieldDescriptor *d = f->known;
    uint32_t wire = wire_of(d->type);
    bool packed =
        d->label == PROTOBUF_C_LABEL_REPEATED && wire != WIRE_BYTES && f->wire == WIRE_BYTES;
    if (f->wire != wire && !packed) return malformed(s, "field of the wrong wire type");
    if (packed && !packed_ok(s->data + f->payload, f->bytes, wire))
        return malformed(s, "broken packed values");
    if (d->type == PROTOBUF_C_TYPE_STRING && memchr(s->data + f->payload, 0, f->bytes))
        return malformed(s, "zero byte in a string");
    if (d->label == PROTOBUF_C_LABEL_REPEATED) return SPAROA_OK;
    uint64_t bit = (uint64_t)1 << ((size_t)(d - fr->type->fields) & 63);
    if (fr->seen & bit) return malformed(s, "field that may stand only once stands twice");
    fr->seen |= bit;
    return SPAROA_OK;
}

static sparoa_status read_field(scanner *s, const frame *fr, field *f)
{
    const uint8_t *end = s->data + fr->end;
    uint64_t tag, length;
    size_t n = sp_varint_read(s->data + s->at, end, &tag);
    if (n == 0 || n > 5 || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return malformed(s, "broken field tag");
    *f = (field){.number = (uint32_t)(tag >> 3),
                 .wire = (uint32_t)(tag & 7),
                 .begin = s->at,
                 .payload = s->at + n};
    size_t left = fr->end - f->payload;
    switch (f->wire) {
    case WIRE_VARINT:
        f->bytes = sp_varint_read(s->data + f->payload, end, &length);
        if (f->bytes == 0) return malformed(s, "broken varint");
        break;
    case WIRE_FIXED64: f->bytes = 8; break;
    case WIRE_FIXED32: f->bytes = 4; break;
    case WIRE_BYTES:
        n = sp_varint_read(s->data + f->payload, end, &length);
        if (n == 0) return malformed(s, "broken length");
        f->payload += n;
        left -= n;
        if (length > left) return malformed(s, "field longer than what contains it");
        f->bytes = (size_t)length;
        break;
    default: return malformed(s, "unknown wire type");
    }
    if (f->bytes > left) return malformed(s, "field longer than what contains it");
    bool reserved = fr->type == &sp_onnx__tensor_proto__descriptor && f->number == SPAN_FIELD;
    f->known = reserved ? NULL : protobuf_c_message_descriptor_get_field(fr->type, f->number);
    return SPAROA_OK;
}

static bool keeps_in_file(const frame *fr, const field *f)
{
    if (fr->type != &sp_onnx__tensor_proto__descriptor || f->wire != WIRE_BYTES ||
        f->bytes < SP_PRESCAN_SPAN_BYTES)
        return false;
    return f->number == 4 || f->number == 5 || f->number == 7 ||
           (f->number >= 9 && f->number <= 11);
}

static sparoa_status enter(scanner *s, const field *f)
{
    const ProtobufCMessageDescriptor *type = f->known->descriptor;
    if (s->depth == SP_PRESCAN_DEPTH)
        return sparoa_fail(
            s->err, SPAROA_TOO_LARGE, NULL,
            "messages are nested deeper than %d at byte %zu; subgraphs may be nested about 20 deep",
            SP_PRESCAN_DEPTH, s->at);
    if (++s->messages > SP_PRESCAN_MAX_MESSAGES)
        return sparoa_fail(s->err, SPAROA_TOO_LARGE, NULL, "the file has more than %d messages",
                           SP_PRESCAN_MAX_MESSAGES);
    if (type == &sp_onnx__node_proto__descriptor && ++s->nodes > SP_PRESCAN_MAX_NODES)
        return sparoa_fail(s->err, SPAROA_TOO_LARGE, NULL, "the file has more than %d nodes",
                           SP_PRESCAN_MAX_NODES);
    sparoa_status status = reserve(s, 20);
    if (status != SPAROA_OK) return status;
    put_varint(s->out, (uint64_t)f->number << 3 | WIRE_BYTES);
    s->stack[s->depth++] =
        (frame){.type = type, .end = f->payload + f->bytes, .length_at = s->out->bytes};
    s->out->bytes += LENGTH_BYTES;
    s->at = f->payload;
    return SPAROA_OK;
}

static sparoa_status scan(scanner *s)
{
    while (s->depth > 0) {
        frame *fr = &s->stack[s->depth - 1];
        if (s->at == fr->end) {
            if (--s->depth > 0)
                put_length(s->out, fr->length_at, s->out->bytes - fr->length_at - LENGTH_BYTES);
            continue;
        }
        field f = {0};
        sparoa_status status = read_field(s, fr, &f);
        if (status == SPAROA_OK && f.known) status = check_known(s, fr, &f);
        if (status != SPAROA_OK) return status;
        if (f.known && f.known->type == PROTOBUF_C_TYPE_MESSAGE) {
            if ((status = enter(s, &f)) != SPAROA_OK) return status;
            continue;
        }
        if (f.known) status = keeps_in_file(fr, &f) ? write_span(s, &f) : copy_field(s, &f);
        if (status != SPAROA_OK) return status;
        s->at = f.payload + f.bytes;
    }
    return SPAROA_OK;
}

sparoa_status sp_prescan_run(const ProtobufCMessageDescriptor *root, const void *data, size_t size,
                             const sparoa_allocator *alloc, sp_prescan *out, sparoa_error *err)
{
    *out = (sp_prescan){.alloc = *alloc};
    scanner s = {.data = data, .out = out, .err = err, .depth = 1};
    s.stack[0] = (frame){.type = root, .end = size};
    sparoa_status status = reserve(&s, 16);
    if (status == SPAROA_OK) status = scan(&s);
    if (status != SPAROA_OK) sp_prescan_free(out);
    return status;
}

void sp_prescan_free(sp_prescan *scan)
{
    sp_free(&scan->alloc, scan->skeleton, scan->capacity);
    sp_free(&scan->alloc, scan->spans, scan->span_capacity * sizeof *scan->spans);
    scan->skeleton = NULL;
    scan->spans = NULL;
    scan->bytes = scan->capacity = scan->span_count = scan->span_capacity = 0;
}
