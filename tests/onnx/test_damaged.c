/* Damaged and hostile files: cut off anywhere, bits flipped, memory failing at every allocation.
 * Nothing may crash, leak or hang; what loads after all must be a valid graph. */
#include <stdio.h>
#include <unistd.h>

#include "model_builder.h"

/* A small model with something of everything. */
static uint8_t *rich_model(size_t *size)
{
    static float data[300];
    mb_model *m = mb_relu();
    mb_graph *g = m->graph;
    mb_raw(mb_initializer(g, "w", SPAROA_FLOAT32, 2, (int64_t[]){75, 4}), data, 1200);
    mb_tensor *t = mb_initializer(g, "k", SPAROA_INT8, 1, (int64_t[]){3});
    t->n_int32_data = 3;
    t->int32_data = (int32_t *)memcpy(mb_alloc(12), (int32_t[]){1, -2, 3}, 12);
    SpOnnx__SparseTensorProto *s =
        MB_NEW(SpOnnx__SparseTensorProto, SP_ONNX__SPARSE_TENSOR_PROTO__INIT);
    s->values = mb_make_tensor("s", SPAROA_FLOAT32, 1, (int64_t[]){1});
    mb_raw(s->values, (float[]){1}, 4);
    s->indices = mb_make_tensor("", SPAROA_INT64, 1, (int64_t[]){1});
    mb_raw(s->indices, (int64_t[]){2}, 8);
    s->n_dims = 1;
    s->dims = (int64_t *)memcpy(mb_alloc(8), &(int64_t){4}, 8);
    MB_APPEND(g->sparse_initializer, g->n_sparse_initializer, s);
    mb_int(mb_add(g, "Constant", "c", "", "c"), "value_int", 3);
    mb_add(g, "Add", "add", "y,w", "z");
    mb_node *branch = mb_add(g, "If", "if", "c", "r");
    mb_graph *sub = mb_subgraph(branch, "then_branch");
    mb_add(sub, "Add", "in", "z,s", "i");
    mb_output(sub, "i");
    mb_function *f = mb_new_function(m, "f", "a", "b");
    mb_attribute(mb_body(f, "Clip", "clip", "a", "t"), "level", SPAROA_ATTR_INT)->ref_attr_name =
        mb_str("level");
    mb_body(f, "Relu", "", "t", "b");
    mb_node *call = mb_add(g, "f", "call", "r", "v");
    call->domain = mb_str("local");
    mb_int(call, "level", 2);
    mb_output(g, "v");
    mb_output(g, "k");
    return mb_pack(m, size);
}

static void load_bytes(mb_loaded *l, const uint8_t *bytes, size_t size)
{
    mb_load_source(l, (sp_onnx_source){.data = bytes, .size = size});
    if (l->status == SPAROA_OK) assert_int_equal(sp_graph_verify(l->graph, NULL), SPAROA_OK);
    mb_unload(l);
}

static void cut_off_at_every_byte(void **state)
{
    (void)state;
    size_t size;
    const uint8_t *bytes = rich_model(&size);
    mb_loaded l;
    load_bytes(&l, bytes, size);
    if (l.status) fail_msg("%s", l.err.message);
    for (size_t n = 0; n < size; n++) {
        uint8_t *piece = malloc(n ? n : 1); /* of its own, so that reading past it is seen */
        memcpy(piece, bytes, n);
        load_bytes(&l, piece, n);
        free(piece);
        assert_true(n > 0 || l.status == SPAROA_MALFORMED);
    }
}

static uint64_t random_state;
static uint32_t next_random(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static void flipped_bits(void **state)
{
    (void)state;
    size_t size;
    const uint8_t *bytes = rich_model(&size);
    uint8_t *damaged = mb_alloc(size);
    int loaded = 0;
    for (uint64_t seed = 0; seed < 20000; seed++) {
        random_state = seed;
        memcpy(damaged, bytes, size);
        for (uint32_t flips = 1 + next_random() % 4; flips; flips--)
            damaged[next_random() % size] ^= (uint8_t)(1u << next_random() % 8);
        mb_loaded l;
        load_bytes(&l, damaged, size);
        loaded += l.status == SPAROA_OK;
    }
    assert_true(loaded > 0);
}

static void overwritten_bytes(void **state)
{
    (void)state;
    size_t size;
    const uint8_t *bytes = rich_model(&size);
    uint8_t *damaged = mb_alloc(size);
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t i = 0; i < size; i++) {
        for (size_t k = 0; k < sizeof values; k++) {
            if (i > 200 && i < 1200 && i % 16) continue; /* weights */
            memcpy(damaged, bytes, size);
            damaged[i] = values[k];
            mb_loaded l;
            load_bytes(&l, damaged, size);
        }
    }
}

/* ---- failing memory ---- */

typedef struct failing {
    size_t calls, fail_at, live;
} failing;

static void *failing_alloc(void *user, size_t size, size_t align)
{
    failing *f = user;
    if (f->calls++ == f->fail_at) return NULL;
    void *p = NULL;
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
    f->live++;
    return p;
}

static void failing_free(void *user, void *ptr, size_t size)
{
    (void)size;
    if (!ptr) return;
    ((failing *)user)->live--;
    free(ptr);
}

static void memory_fails(sp_onnx_source src)
{
    static const sparoa_op *rows[MB_ROWS];
    for (size_t i = 0; i < MB_ROWS; i++) rows[i] = &mb_rows[i];
    src.extra_ops = rows;
    src.extra_count = MB_ROWS;
    size_t n = 0;
    for (sparoa_status status = SPAROA_OUT_OF_MEMORY; status != SPAROA_OK; n++) {
        failing f = {.fail_at = n};
        sparoa_allocator alloc = {&f, failing_alloc, failing_free};
        sp_graph *g = NULL;
        sp_model_meta meta;
        sparoa_error err = {0};
        status = sp_onnx_load(&src, &alloc, &g, &meta, &err);
        if (status != SPAROA_OK) {
            if (status != SPAROA_OUT_OF_MEMORY) fail_msg("allocation %zu: %s", n, err.message);
            assert_null(g);
        }
        sp_graph_destroy(g);
        assert_int_equal(f.live, 0);
        assert_true(n < 100000);
    }
    assert_true(n > 20);
}

static void failing_allocations(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = rich_model(&size);
    memory_fails((sp_onnx_source){.data = bytes, .size = size});
    FILE *file = fopen("test_damaged.onnx", "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    memory_fails((sp_onnx_source){.path = "test_damaged.onnx"});
    unlink("test_damaged.onnx");
}

static void memory_limit(void **state)
{
    (void)state;
    size_t size;
    const uint8_t *bytes = rich_model(&size);
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, 4096);
    sp_graph *g = NULL;
    sp_model_meta meta;
    sparoa_error err;
    assert_int_equal(
        sp_onnx_load(&(sp_onnx_source){.data = bytes, .size = size}, &alloc, &g, &meta, &err),
        SPAROA_MEMORY_LIMIT);
    assert_int_equal(atomic_load(&mem.used), 0);
}

/* ---- sources ---- */

typedef struct reader_state {
    const uint8_t *bytes;
    size_t size, fail_at;
} reader_state;

static uint64_t reader_size(void *user)
{
    return ((reader_state *)user)->size;
}

static int reader_read(void *user, uint64_t offset, void *dst, size_t size)
{
    const reader_state *r = user;
    if (offset + size > r->fail_at) return 1;
    memcpy(dst, r->bytes + offset, size);
    return 0;
}

static void sources(void **state)
{
    (void)state;
    size_t size;
    const uint8_t *bytes = rich_model(&size);
    reader_state r = {bytes, size, SIZE_MAX};
    sparoa_reader reader = {&r, reader_size, reader_read};
    mb_loaded l;
    mb_load_source(&l, (sp_onnx_source){.reader = &reader});
    assert_int_equal(l.status, SPAROA_OK);
    mb_unload(&l);
    r.fail_at = 10;
    mb_load_source(&l, (sp_onnx_source){.reader = &reader});
    assert_int_equal(l.status, SPAROA_IO);
    mb_unload(&l);
    mb_load_source(&l, (sp_onnx_source){.data = bytes, .size = size, .max_bytes = size - 1});
    assert_int_equal(l.status, SPAROA_TOO_LARGE);
    mb_unload(&l);
    mb_load_source(&l, (sp_onnx_source){.path = "no_such_file.onnx"});
    assert_int_equal(l.status, SPAROA_NOT_FOUND);
    mb_unload(&l);
    mb_load_source(&l, (sp_onnx_source){.path = "."});
    assert_int_equal(l.status, SPAROA_IO);
    mb_unload(&l);
    mb_load_source(&l, (sp_onnx_source){.data = "", .size = 0});
    assert_int_equal(l.status, SPAROA_MALFORMED);
    mb_unload(&l);
}

static int end(void **state)
{
    (void)state;
    mb_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(cut_off_at_every_byte, end),
        cmocka_unit_test_teardown(flipped_bits, end),
        cmocka_unit_test_teardown(overwritten_bytes, end),
        cmocka_unit_test_teardown(failing_allocations, end),
        cmocka_unit_test_teardown(memory_limit, end),
        cmocka_unit_test_teardown(sources, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
