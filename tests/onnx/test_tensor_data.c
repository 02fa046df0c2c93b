/* Tensor data: every field and type, in place and decoded, dense and sparse; sizes that don't fit.
 */
#include <stdio.h>
#include <unistd.h>

#include "model_builder.h"
#include "ops/op.h"

#define FILE_NAME "test_tensor.onnx"

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* A model whose output is the sum of "t" with itself. */
static mb_model *with_tensor(mb_tensor **t, int32_t type, int64_t n)
{
    mb_model *m = mb_new();
    *t = mb_initializer(m->graph, "t", type, 1, &n);
    mb_add(m->graph, "Add", "", "t,t", "y");
    mb_output(m->graph, "y");
    return m;
}

static void load_file(mb_loaded *l, const mb_model *m)
{
    size_t size;
    uint8_t *bytes = mb_pack(m, &size);
    write_file(FILE_NAME, bytes, size);
    mb_load_source(l, (sp_onnx_source){.path = FILE_NAME});
    unlink(FILE_NAME); /* the mapping lives on */
    if (l->status) fail_msg("%s", l->err.message);
}

static const sp_value *tensor_of(const mb_loaded *l)
{
    return &l->graph->values[mb_value(l->graph, "t")];
}

static const int32_t all_types[] = {SPAROA_FLOAT32, SPAROA_UINT8,   SPAROA_INT8,   SPAROA_UINT16,
                                    SPAROA_INT16,   SPAROA_INT32,   SPAROA_INT64,  SPAROA_BOOL,
                                    SPAROA_FLOAT16, SPAROA_FLOAT64, SPAROA_UINT32, SPAROA_UINT64,
                                    SPAROA_BFLOAT16};
#define TYPES (sizeof all_types / sizeof *all_types)

/* What element i is: small, of both signs where the type has them. */
static int64_t element(int32_t type, int64_t i)
{
    if (type == SPAROA_BOOL) return i & 1;
    return sp_is_signed((sparoa_dtype)type) ? i % 200 - 100 : i % 200;
}

static void fill_typed(mb_tensor *t, int64_t n)
{
    sparoa_dtype type = (sparoa_dtype)t->data_type;
    for (int64_t i = 0; i < n; i++) {
        int64_t v = element(type, i);
        if (type == SPAROA_FLOAT32)
            t->float_data[i] = (float)v;
        else if (type == SPAROA_FLOAT64)
            t->double_data[i] = (double)v;
        else if (type == SPAROA_INT64)
            t->int64_data[i] = v;
        else if (type == SPAROA_UINT32 || type == SPAROA_UINT64)
            t->uint64_data[i] = (uint64_t)v;
        else if (type == SPAROA_FLOAT16)
            t->int32_data[i] = sp_float_to_half((float)v);
        else if (type == SPAROA_BFLOAT16)
            t->int32_data[i] = sp_float_to_bfloat((float)v);
        else
            t->int32_data[i] = (int32_t)v;
    }
}

static void make_typed(mb_tensor *t, int64_t n)
{
    size_t count = (size_t)n;
    switch (t->data_type) {
    case SPAROA_FLOAT32: t->float_data = mb_alloc(count * 4), t->n_float_data = count; break;
    case SPAROA_FLOAT64: t->double_data = mb_alloc(count * 8), t->n_double_data = count; break;
    case SPAROA_INT64: t->int64_data = mb_alloc(count * 8), t->n_int64_data = count; break;
    case SPAROA_UINT32:
    case SPAROA_UINT64: t->uint64_data = mb_alloc(count * 8), t->n_uint64_data = count; break;
    default: t->int32_data = mb_alloc(count * 4), t->n_int32_data = count;
    }
    fill_typed(t, n);
}

static void check_elements(const mb_loaded *l, int32_t type, int64_t n)
{
    const sparoa_tensor *t = &tensor_of(l)->fact;
    assert_int_equal(t->dtype, type);
    assert_int_equal(t->dims[0], n);
    for (int64_t i = 0; i < n; i++)
        if (sp_get_i64(t, i) != element(type, i))
            fail_msg("%s[%d] is %d, expected %d", sparoa_dtype_name(t->dtype), (int)i,
                     (int)sp_get_i64(t, i), (int)element(type, i));
}

static void typed_fields(void **state)
{
    (void)state;
    const int64_t counts[] = {0, 1, 5, 3000}; /* the last is left in the file by the prescan */
    for (size_t k = 0; k < TYPES; k++) {
        for (size_t c = 0; c < 4; c++) {
            mb_tensor *t;
            mb_model *m = with_tensor(&t, all_types[k], counts[c]);
            make_typed(t, counts[c]);
            mb_loaded l;
            load_file(&l, m);
            check_elements(&l, all_types[k], counts[c]);
            mb_unload(&l);
        }
        mb_end();
    }
}

static void typed_counts(void **state)
{
    (void)state;
    const int64_t counts[] = {4, 3000};
    for (size_t k = 0; k < TYPES; k++) {
        for (size_t c = 0; c < 4; c++) {
            mb_tensor *t;
            mb_model *m = with_tensor(&t, all_types[k], counts[c / 2]);
            make_typed(t, counts[c / 2]);
            t->dims[0] += c % 2 ? 1 : -1;
            mb_refused(m, SPAROA_MALFORMED, "initialiser 't'");
        }
        mb_end();
    }
}

static void raw_data(void **state)
{
    (void)state;
    float data[1024];
    for (int i = 0; i < 1024; i++) data[i] = (float)i;
    int in_place = 0;
    for (int pad = 0; pad < 4; pad++) {
        mb_tensor *t;
        mb_model *m = with_tensor(&t, SPAROA_FLOAT32, 1024);
        mb_raw(t, data, sizeof data);
        m->producer_name = mb_str("1234" + pad); /* shifts the data by a byte */
        mb_loaded l;
        load_file(&l, m);
        assert_memory_equal(tensor_of(&l)->fact.data, data, sizeof data);
        assert_int_equal((uintptr_t)tensor_of(&l)->fact.data % sizeof(float), 0);
        if (tensor_of(&l)->blob->owner) {
            in_place++;
            assert_true(atomic_load(&l.mem.used) < 12000);
        }
        mb_unload(&l);
        t->dims[0] = 1023;
        mb_refused(m, SPAROA_MALFORMED, "4096 bytes of data, but its shape needs 4092");
    }
    assert_int_equal(in_place, 1);
}

/* Large ones stay in the file wherever they lie, until somebody reads their elements. */
static void large_data_is_aligned_late(void **state)
{
    (void)state;
    const int64_t n = (int64_t)SP_ALIGN_LATER / 4;
    float *data = mb_alloc(SP_ALIGN_LATER);
    int aligned = 0;
    for (int64_t i = 0; i < n; i++) data[i] = (float)i;
    for (int pad = 0; pad < 4; pad++) {
        mb_tensor *t;
        mb_model *m = with_tensor(&t, SPAROA_FLOAT32, n);
        mb_raw(t, data, SP_ALIGN_LATER);
        m->producer_name = mb_str("1234" + pad);
        mb_loaded l;
        load_file(&l, m);
        assert_non_null(tensor_of(&l)->blob->owner);
        assert_true(atomic_load(&l.mem.used) < 12000);
        aligned += (uintptr_t)tensor_of(&l)->fact.data % sizeof(float) == 0;
        sp_graph *copy = sp_graph_clone(l.graph, &l.alloc);
        sp_id id = mb_value(copy, "t");
        assert_int_equal(sp_graph_align(copy, id, NULL, NULL), SPAROA_OK);
        const float *got = copy->values[id].fact.data;
        assert_int_equal((uintptr_t)got % sizeof(float), 0);
        assert_memory_equal(got, data, SP_ALIGN_LATER);
        /* the model's own has not moved, and is read from the file again */
        assert_memory_equal(tensor_of(&l)->fact.data, data, SP_ALIGN_LATER);
        sp_graph_destroy(copy);
        mb_unload(&l);
    }
    assert_int_equal(aligned, 1);
}

static void sizes(void **state)
{
    (void)state;
    mb_tensor *t;
    mb_model *m = with_tensor(&t, SPAROA_FLOAT32, 4);
    mb_refused(m, SPAROA_MALFORMED, "0 bytes of data");
    t->dims[0] = INT64_MAX;
    mb_refused(m, SPAROA_TOO_LARGE, "too large");
    t->dims[0] = 1ll << 40; /* nothing of that size is allocated */
    mb_refused(m, SPAROA_MALFORMED, "0 bytes of data");
    t->dims[0] = -4;
    mb_refused(m, SPAROA_MALFORMED, "dimension 0 is -4");
    t->dims[0] = 4;
    make_typed(t, 4);
    mb_raw(t, "0123456789abcdef", 16);
    mb_refused(m, SPAROA_MALFORMED, "several pieces");
    t->n_float_data = 0;
    t->data_type = SPAROA_UNDEFINED;
    mb_refused(m, SPAROA_UNSUPPORTED_TYPE, "'t'");
    m = with_tensor(&t, SPAROA_INT64, 4);
    t->n_int32_data = 4;
    t->int32_data = mb_alloc(16);
    mb_refused(m, SPAROA_MALFORMED, "field of another type");
    m = with_tensor(&t, SPAROA_INT8, 1);
    t->n_int32_data = 1;
    t->int32_data = (int32_t[]){256};
    mb_refused(m, SPAROA_MALFORMED, "doesn't fit into int8");
}

static void raw_booleans_become_0_or_1(void **state)
{
    (void)state;
    mb_tensor *t;
    mb_model *m = with_tensor(&t, SPAROA_BOOL, 4);
    mb_raw(t, "\x00\x01\x02\xff", 4);
    mb_loaded l;
    mb_load(&l, m);
    assert_int_equal(l.status, SPAROA_OK);
    assert_memory_equal(tensor_of(&l)->fact.data, "\0\1\1\1", 4);
    mb_unload(&l);
}

/* ---- sparse ---- */

static SpOnnx__SparseTensorProto *make_sparse(int rank, const int64_t *dims, int64_t n,
                                              const float *values, const int64_t *indices,
                                              int columns)
{
    SpOnnx__SparseTensorProto *s =
        MB_NEW(SpOnnx__SparseTensorProto, SP_ONNX__SPARSE_TENSOR_PROTO__INIT);
    s->values = mb_make_tensor("t", SPAROA_FLOAT32, 1, &n);
    mb_raw(s->values, values, (size_t)n * 4);
    s->indices = mb_make_tensor("", SPAROA_INT64, columns ? 2 : 1, (int64_t[]){n, columns});
    mb_raw(s->indices, indices, (size_t)(n * (columns ? columns : 1)) * 8);
    s->n_dims = (size_t)rank;
    s->dims = mb_alloc((size_t)rank * 8);
    memcpy(s->dims, dims, (size_t)rank * 8);
    return s;
}

static mb_model *with_sparse(SpOnnx__SparseTensorProto *s, bool constant)
{
    mb_model *m = mb_new();
    if (constant)
        mb_attribute(mb_add(m->graph, "Constant", "c", "", "t"), "sparse_value", 11)
            ->sparse_tensor = s;
    else
        MB_APPEND(m->graph->sparse_initializer, m->graph->n_sparse_initializer, s);
    mb_add(m->graph, "Relu", "", "t", "y");
    mb_output(m->graph, "y");
    return m;
}

static void sparse(void **state)
{
    (void)state;
    const float expected[6] = {0, 5, 0, 0, 0, 7}, values[] = {5, 7};
    const int64_t flat[] = {1, 5}, pairs[] = {0, 1, 1, 2}, dims[] = {2, 3};
    for (int k = 0; k < 4; k++) {
        mb_model *m = with_sparse(
            make_sparse(2, dims, 2, values, k & 1 ? pairs : flat, k & 1 ? 2 : 0), k & 2);
        mb_loaded l;
        mb_load(&l, m);
        if (l.status) fail_msg("%s", l.err.message);
        assert_int_equal(tensor_of(&l)->kind, SP_VALUE_CONST);
        assert_memory_equal(tensor_of(&l)->fact.data, expected, sizeof expected);
        mb_unload(&l);
    }
    const int64_t outside[] = {1, 6}, order[] = {5, 1}, pair[] = {0, 1, 0, 3};
    mb_refused(with_sparse(make_sparse(2, dims, 2, values, outside, 0), false), SPAROA_MALFORMED,
               "out of range");
    mb_refused(with_sparse(make_sparse(2, dims, 2, values, order, 0), false), SPAROA_MALFORMED,
               "out of order");
    mb_refused(with_sparse(make_sparse(2, dims, 2, values, pair, 2), false), SPAROA_MALFORMED,
               "out of range");
    const int64_t big[] = {1 << 20, 1 << 20};
    mb_refused(with_sparse(make_sparse(2, big, 2, values, flat, 0), true), SPAROA_TOO_LARGE,
               "far more data");
    SpOnnx__SparseTensorProto *s = make_sparse(2, dims, 2, values, flat, 0);
    s->indices = NULL;
    mb_refused(with_sparse(s, false), SPAROA_MALFORMED, "values and indices");
}

/* ---- tensor files ---- */

static void tensor_files(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, 0);
    for (int64_t n = 0; n < 3000; n = n * 10 + 3) {
        mb_tensor *t = mb_make_tensor("input", SPAROA_INT64, 1, &n);
        make_typed(t, n);
        size_t size = sp_onnx__tensor_proto__get_packed_size(t);
        uint8_t *bytes = mb_alloc(size);
        sp_onnx__tensor_proto__pack(t, bytes);
        write_file("test_tensor.pb", bytes, size);
        sparoa_tensor out = {0};
        char name[4] = "";
        sparoa_error err;
        assert_int_equal(
            sp_onnx_load_tensor("test_tensor.pb", &alloc, &out, name, sizeof name, &err),
            SPAROA_OK);
        assert_string_equal(name, "inp");
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(((int64_t *)out.data)[i], element(SPAROA_INT64, i));
        sp_free(&alloc, out.data, sparoa_tensor_bytes(&out));
    }
    sparoa_tensor out = {0};
    sparoa_error err;
    assert_int_equal(sp_onnx_load_tensor("test_tensor.none", &alloc, &out, NULL, 0, &err),
                     SPAROA_NOT_FOUND);
    mb_tensor *t = mb_make_tensor("s", 8, 0, NULL);
    mb_external(t, "location", "test_tensor.pb");
    for (int k = 0; k < 2; k++) {
        t->data_type = k ? SPAROA_FLOAT32 : 8;
        size_t size = sp_onnx__tensor_proto__get_packed_size(t);
        uint8_t *bytes = mb_alloc(size);
        sp_onnx__tensor_proto__pack(t, bytes);
        write_file("test_tensor.pb", bytes, size);
        assert_int_equal(sp_onnx_load_tensor("test_tensor.pb", &alloc, &out, NULL, 0, &err),
                         k ? SPAROA_FORBIDDEN_PATH : SPAROA_UNSUPPORTED_TYPE);
    }
    assert_null(out.data);
    unlink("test_tensor.pb");
    assert_int_equal(atomic_load(&mem.used), 0);
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
        cmocka_unit_test_teardown(typed_fields, end),
        cmocka_unit_test_teardown(typed_counts, end),
        cmocka_unit_test_teardown(raw_data, end),
        cmocka_unit_test_teardown(large_data_is_aligned_late, end),
        cmocka_unit_test_teardown(sizes, end),
        cmocka_unit_test_teardown(raw_booleans_become_0_or_1, end),
        cmocka_unit_test_teardown(sparse, end),
        cmocka_unit_test_teardown(tensor_files, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
