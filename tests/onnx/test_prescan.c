/* The scan of the wire format, on bytes made by hand. */
#include "model_builder.h"
#include "onnx/prescan.h"

typedef struct bytes {
    uint8_t data[8192];
    size_t size;
} bytes;

static void put(bytes *b, size_t n, const void *data)
{
    assert_true(b->size + n <= sizeof b->data);
    memcpy(b->data + b->size, data, n);
    b->size += n;
}

static void put_varint(bytes *b, uint64_t v)
{
    uint8_t c;
    for (; v >= 0x80; v >>= 7) {
        c = (uint8_t)(v | 0x80);
        put(b, 1, &c);
    }
    c = (uint8_t)v;
    put(b, 1, &c);
}

static void put_tag(bytes *b, uint32_t number, uint32_t wire)
{
    put_varint(b, (uint64_t)number << 3 | wire);
}

static void put_block(bytes *b, uint32_t number, const void *data, size_t size)
{
    put_tag(b, number, 2);
    put_varint(b, size);
    put(b, size, data);
}

static sparoa_status scan(const ProtobufCMessageDescriptor *type, const bytes *b, sp_prescan *out,
                          sparoa_error *err)
{
    static sp_mem mem;
    static sparoa_allocator alloc;
    alloc = sp_mem_init(&mem, NULL, 0);
    sparoa_status status = sp_prescan_run(type, b->data, b->size, &alloc, out, err);
    if (status != SPAROA_OK) assert_int_equal(atomic_load(&mem.used), 0);
    return status;
}

static void refused(const bytes *b, const char *text)
{
    sp_prescan s;
    sparoa_error err = {0};
    assert_int_equal(scan(&sp_onnx__model_proto__descriptor, b, &s, &err), SPAROA_MALFORMED);
    if (!strstr(err.message, text)) fail_msg("'%s' lacks '%s'", err.message, text);
}

static void tags_and_varints(void **state)
{
    (void)state;
    bytes b = {.data = {0x00, 0x01}, .size = 2};
    refused(&b, "tag"); /* field number 0 */
    b = (bytes){.data = {0x08}, .size = 1};
    refused(&b, "varint");
    b = (bytes){.data = {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
                .size = 11};
    sp_prescan s;
    assert_int_equal(scan(&sp_onnx__model_proto__descriptor, &b, &s, NULL), SPAROA_OK);
    sp_prescan_free(&s);
    b.data[10] = 0x02; /* 65 bits */
    refused(&b, "varint");
    b.data[10] = 0x81; /* 11 bytes */
    b.data[11] = 0x01;
    b.size = 12;
    refused(&b, "varint");
    b = (bytes){.data = {0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0}, .size = 7};
    refused(&b, "tag");
    for (uint8_t wire = 3; wire < 8; wire++) {
        if (wire == 5) continue;
        b = (bytes){.data = {(uint8_t)(31 << 3 | wire), 1, 0}, .size = 3};
        b.data[0] = (uint8_t)(7 << 3 | wire); /* groups and what doesn't exist */
        refused(&b, "wire type");
    }
    b = (bytes){.data = {7 << 3 | 0, 1}, .size = 2};
    refused(&b, "wrong wire type"); /* graph as a number */
}

static void lengths(void **state)
{
    (void)state;
    bytes b = {.data = {7 << 3 | 2, 1}, .size = 2};
    refused(&b, "longer than what contains it");
    b = (bytes){.data = {7 << 3 | 2, 2, 2 << 3 | 2, 1, 'x'},
                .size = 5}; /* the name leaves the graph */
    refused(&b, "longer than what contains it");
    b = (bytes){0};
    put_tag(&b, 2, 2);
    put_varint(&b, UINT64_MAX);
    refused(&b, "longer than what contains it");
    b = (bytes){.data = {30 << 3 & 0xff, 0}, .size = 0};
    put_tag(&b, 900, 1); /* unknown fixed64 with 4 bytes */
    put(&b, 4, "0000");
    refused(&b, "longer than what contains it");
    b = (bytes){0};
    put_block(&b, 2, "a\0b", 3);
    refused(&b, "zero byte");
    b = (bytes){0};
    put_block(&b, 7, "", 0);
    put_block(&b, 7, "", 0);
    refused(&b, "stands twice");
}

static void unknown_fields_are_dropped(void **state)
{
    (void)state;
    bytes b = {0};
    put_tag(&b, 1, 0);
    put_varint(&b, 8);
    put_block(&b, 6, "some documentation", 18);
    put_block(&b, 77, "\xff\xff", 2);
    put_tag(&b, 78, 5);
    put(&b, 4, "0000");
    sp_prescan s;
    assert_int_equal(scan(&sp_onnx__model_proto__descriptor, &b, &s, NULL), SPAROA_OK);
    assert_int_equal(s.bytes, 2);
    sp_prescan_free(&s);
}

static SpOnnx__TensorProto *unpack(const sp_prescan *s)
{
    return sp_onnx__tensor_proto__unpack(NULL, s->bytes, s->skeleton);
}

static void large_data_is_referred_to(void **state)
{
    (void)state;
    static const uint8_t zeros[2048];
    bytes b = {0};
    put_block(&b, 8, "name", 4);
    put_block(&b, 9, zeros, 2000);
    size_t at = b.size - 2000;
    put_block(&b, 4, zeros, 1024);
    put_block(&b, 7, zeros, 1023); /* too small to stay away */
    sp_prescan s;
    assert_int_equal(scan(&sp_onnx__tensor_proto__descriptor, &b, &s, NULL), SPAROA_OK);
    assert_int_equal(s.span_count, 2);
    assert_int_equal(s.spans[0].offset, at);
    assert_int_equal(s.spans[0].bytes, 2000);
    SpOnnx__TensorProto *t = unpack(&s);
    assert_non_null(t);
    assert_int_equal(t->n_span, 2);
    assert_true(t->span[0] == (uint64_t)9 << 32);
    assert_true(t->span[1] == ((uint64_t)4 << 32 | 1));
    assert_false(t->has_raw_data);
    assert_int_equal(t->n_int64_data, 1023);
    assert_string_equal(t->name, "name");
    sp_onnx__tensor_proto__free_unpacked(t, NULL);
    sp_prescan_free(&s);
    b.size = 0;
    put_block(&b, 4, zeros, 1025);
    sparoa_error err;
    assert_int_equal(scan(&sp_onnx__tensor_proto__descriptor, &b, &s, &err), SPAROA_MALFORMED);
}

static void references_cannot_be_forged(void **state)
{
    (void)state;
    bytes b = {0};
    put_tag(&b, 500, 1);
    put(&b, 8, "\x07\0\0\0\x09\0\0\0");
    put_block(&b, 500, "\x07\0\0\0\x09\0\0\0", 8); /* packed */
    put_tag(&b, 500, 0);
    put_varint(&b, 1);
    sp_prescan s;
    assert_int_equal(scan(&sp_onnx__tensor_proto__descriptor, &b, &s, NULL), SPAROA_OK);
    assert_int_equal(s.bytes, 0);
    assert_int_equal(s.span_count, 0);
    sp_prescan_free(&s);
}

/* Messages inside each other: graph > node > attribute > graph ... */
static size_t nest(bytes *b, int levels)
{
    bytes inner = {0};
    for (int i = levels; i > 0; i--) {
        bytes outer = {0};
        uint32_t number = i == 1 ? 7 : i % 3 == 2 ? 1 : i % 3 == 0 ? 5 : 6;
        put_block(&outer, number, inner.data, inner.size);
        inner = outer;
    }
    *b = inner;
    return b->size;
}

static void depth(void **state)
{
    (void)state;
    bytes b;
    sp_prescan s;
    sparoa_error err;
    nest(&b, SP_PRESCAN_DEPTH - 1); /* the model is one more */
    assert_int_equal(scan(&sp_onnx__model_proto__descriptor, &b, &s, &err), SPAROA_OK);
    SpOnnx__ModelProto *m = sp_onnx__model_proto__unpack(NULL, s.bytes, s.skeleton);
    assert_non_null(m);
    sp_onnx__model_proto__free_unpacked(m, NULL);
    sp_prescan_free(&s);
    nest(&b, SP_PRESCAN_DEPTH);
    assert_int_equal(scan(&sp_onnx__model_proto__descriptor, &b, &s, &err), SPAROA_TOO_LARGE);
    nest(&b, 2000);
    assert_int_equal(scan(&sp_onnx__model_proto__descriptor, &b, &s, &err), SPAROA_TOO_LARGE);
}

static void too_many_nodes(void **state)
{
    (void)state;
    size_t n = SP_PRESCAN_MAX_NODES + 1, size = n * 2 + 8;
    bytes head = {0};
    put_tag(&head, 7, 2);
    put_varint(&head, n * 2);
    uint8_t *file = mb_alloc(size);
    memcpy(file, head.data, head.size);
    for (size_t i = 0; i < n; i++) file[head.size + 2 * i] = 1 << 3 | 2; /* empty nodes */
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, 0);
    sp_prescan s;
    sparoa_error err;
    assert_int_equal(sp_prescan_run(&sp_onnx__model_proto__descriptor, file, head.size + 2 * n,
                                    &alloc, &s, &err),
                     SPAROA_TOO_LARGE);
    assert_int_equal(atomic_load(&mem.used), 0);
    mb_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_and_varints),
        cmocka_unit_test(lengths),
        cmocka_unit_test(unknown_fields_are_dropped),
        cmocka_unit_test(large_data_is_referred_to),
        cmocka_unit_test(references_cannot_be_forged),
        cmocka_unit_test(depth),
        cmocka_unit_test(too_many_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
