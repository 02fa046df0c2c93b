/* Element-wise operators: the broadcast engine against plain index arithmetic, and the corners of
 * integer arithmetic, shifts and conversions. */
#include "bench.h"

#define MAX_ELEMENTS 20000

/* A random shape that broadcasts into `dims`. */
static void sub_shape(int32_t rank, const int64_t *dims, sparoa_tensor *t)
{
    t->rank = below(rank + 1);
    for (int32_t i = 0; i < t->rank; i++) {
        int64_t d = dims[rank - t->rank + i];
        t->dims[i] = below(3) == 0 ? 1 : d;
    }
}

/* Element of `t` that belongs to element `at` of `out`. */
static double value_at(const sparoa_tensor *t, const sparoa_tensor *out, int64_t at)
{
    int64_t index = 0, scale = 1;
    for (int32_t d = out->rank - 1, k = t->rank - 1; k >= 0; d--, k--) {
        int64_t coordinate = at % out->dims[d];
        at /= out->dims[d];
        if (t->dims[k] != 1) index += coordinate * scale;
        scale *= t->dims[k];
    }
    return sp_get_f64(t, index);
}

static double expected(const bench *b, int64_t i)
{
    double v[MAX_IN];
    for (int32_t k = 0; k < b->node.n_in; k++) v[k] = value_at(&b->in[k], &b->out[0], i);
    const char *op = b->node.op;
    if (strcmp(op, "Sub") == 0) return v[0] - v[1];
    if (strcmp(op, "Less") == 0) return v[0] < v[1];
    if (strcmp(op, "Where") == 0) return v[0] != 0 ? v[1] : v[2];
    if (strcmp(op, "Max") == 0) return fmax(fmax(v[0], v[1]), b->node.n_in > 2 ? v[2] : v[0]);
    return v[0] + v[1] + v[2];
}

static void test_broadcast(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        int32_t n_in;
        sparoa_dtype first, rest;
    } ops[] = {
        {"Sub", 2, SPAROA_FLOAT32, SPAROA_FLOAT32}, {"Sub", 2, SPAROA_INT8, SPAROA_INT8},
        {"Less", 2, SPAROA_INT64, SPAROA_INT64},    {"Where", 3, SPAROA_BOOL, SPAROA_INT16},
        {"Max", 3, SPAROA_FLOAT64, SPAROA_FLOAT64}, {"Sum", 3, SPAROA_FLOAT32, SPAROA_FLOAT32},
        {"Sub", 2, SPAROA_FLOAT16, SPAROA_FLOAT16}, {"Max", 2, SPAROA_UINT32, SPAROA_UINT32}};
    for (int round = 0; round < 3000; round++) {
        const int which = round % 8;
        int64_t dims[6];
        const int32_t rank = below(7);
        for (int32_t i = 0; i < rank; i++)
            dims[i] = below(40) == 0 ? 0 : below(12) == 0 ? 1 + below(60) : 1 + below(4);
        bench b;
        setup(&b, ops[which].op, 13, ops[which].n_in);
        for (int32_t k = 0; k < b.node.n_in; k++) {
            sub_shape(rank, dims, &b.in[k]);
            b.in[k].dtype = k == 0 ? ops[which].first : ops[which].rest;
        }
        b.in[1].rank = rank; /* one input has the full shape */
        memcpy(b.in[1].dims, dims, sizeof dims);
        if (sp_count(&b.in[1]) > MAX_ELEMENTS) continue;
        for (int32_t k = 0; k < b.node.n_in; k++) fill(&b.in[k]);
        assert_int_equal(run_node(&b, -1), SPAROA_OK);
        const int64_t n = sp_count(&b.out[0]);
        assert_int_equal(n, sp_count(&b.in[1]));
        for (int64_t i = 0; i < n; i++)
            if (sp_get_f64(&b.out[0], i) != expected(&b, i))
                fail_msg("round %d, %s: element %d is %g, expected %g", round, b.node.op, (int)i,
                         sp_get_f64(&b.out[0], i), expected(&b, i));
        /* the same in place */
        if (b.out[0].dtype == b.in[1].dtype) {
            sparoa_tensor plain = b.out[0];
            assert_int_equal(run_node(&b, 1), SPAROA_OK);
            assert_memory_equal(plain.data, b.out[0].data, sparoa_tensor_bytes(&plain));
            b.out[0].data = plain.data;
        }
        free(b.out[0].data);
        for (int32_t k = 0; k < b.node.n_in; k++) free(b.in[k].data);
    }
}

/* Long runs in several pieces, so that pieces begin and end inside rows. */
static void test_pieces(void **state)
{
    (void)state;
    bench b;
    setup(&b, "Sub", 13, 2);
    b.threads = 7;
    b.in[0] = sparoa_tensor_of(SPAROA_FLOAT32, NULL, 4, 3, 11, 1001, 7);
    b.in[1] = sparoa_tensor_of(SPAROA_FLOAT32, NULL, 3, 11, 1, 7);
    fill(&b.in[0]);
    fill(&b.in[1]);
    assert_int_equal(run_node(&b, -1), SPAROA_OK);
    for (int64_t i = 0, n = sp_count(&b.out[0]); i < n; i++)
        if (sp_get_f64(&b.out[0], i) != expected(&b, i)) fail_msg("element %d differs", (int)i);
    free(b.out[0].data);
    free(b.in[0].data);
    free(b.in[1].data);
}

/* Inputs x, y (element by element) and what must come out, all as int64. */
static void check_ints(const char *op, const char *attr, const char *text, int64_t number,
                       sparoa_dtype t, int n, const int64_t *x, const int64_t *y,
                       const int64_t *want)
{
    int64_t memory[3][32] = {{0}};
    bench b;
    setup(&b, op, 28, 2);
    if (text)
        attr_string(&b, attr, text);
    else if (attr)
        attr_int(&b, attr, number);
    b.in[0] = vector(t, memory[0], n);
    b.in[1] = vector(t, memory[1], n);
    sparoa_tensor w = vector(t, memory[2], n);
    for (int i = 0; i < n; i++) {
        sp_set_i64(&b.in[0], i, x[i]);
        sp_set_i64(&b.in[1], i, y[i]);
        sp_set_i64(&w, i, want[i]);
    }
    assert_int_equal(run_node(&b, -1), SPAROA_OK);
    for (int i = 0; i < n; i++)
        if (sp_get_i64(&b.out[0], i) != sp_get_i64(&w, i))
            fail_msg("%s %s of %lld and %lld: %lld, expected %lld", op, sparoa_dtype_name(t),
                     (long long)x[i], (long long)y[i], (long long)sp_get_i64(&b.out[0], i),
                     (long long)want[i]);
    free(b.out[0].data);
}

static void test_division(void **state)
{
    (void)state;
    static const struct {
        sparoa_dtype t;
        int64_t min;
    } types[] = {{SPAROA_INT8, INT8_MIN},
                 {SPAROA_INT16, INT16_MIN},
                 {SPAROA_INT32, INT32_MIN},
                 {SPAROA_INT64, INT64_MIN}};
    for (int k = 0; k < 4; k++) {
        const int64_t min = types[k].min;
        const int64_t x[] = {7, -7, 7, -7, 6, 5, min, min, 0};
        const int64_t y[] = {3, 3, -3, -3, 3, 0, -1, 0, -5};
        const int64_t quotient[] = {2, -2, -2, 2, 2, 0, min, 0, 0};
        const int64_t floored[] = {1, 2, -2, -1, 0, 0, 0, 0, 0};
        const int64_t truncated[] = {1, -1, 1, -1, 0, 0, 0, 0, 0};
        check_ints("Div", NULL, NULL, 0, types[k].t, 9, x, y, quotient);
        check_ints("Mod", "fmod", NULL, 0, types[k].t, 9, x, y, floored);
        check_ints("Mod", "fmod", NULL, 1, types[k].t, 9, x, y, truncated);
    }
    const int64_t x[] = {200, 200, 0}, y[] = {7, 0, 9}, quotient[] = {28, 0, 0}, rest[] = {4, 0, 0};
    static const sparoa_dtype u[] = {SPAROA_UINT8, SPAROA_UINT16, SPAROA_UINT32, SPAROA_UINT64};
    for (int k = 0; k < 4; k++) {
        check_ints("Div", NULL, NULL, 0, u[k], 3, x, y, quotient);
        check_ints("Mod", "fmod", NULL, 0, u[k], 3, x, y, rest);
    }
}

static void test_float_mod(void **state)
{
    (void)state;
    float x[] = {5.5f, -5.5f, 5.5f, -5.5f, -0.0f, 0.0f, 1.0f, -1.0f, INFINITY, 1.0f};
    float y[] = {2.0f, 2.0f, -2.0f, -2.0f, 3.0f, -3.0f, INFINITY, INFINITY, 1.0f, 0.0f};
    const float floored[] = {1.5f, 0.5f, -0.5f, -1.5f, 0.0f, -0.0f, 1.0f, INFINITY, NAN, NAN};
    bench b;
    setup(&b, "Mod", 28, 2);
    b.in[0] = vector(SPAROA_FLOAT32, x, 10);
    b.in[1] = vector(SPAROA_FLOAT32, y, 10);
    assert_int_equal(run_node(&b, -1), SPAROA_OK);
    for (int i = 0; i < 10; i++) {
        const float v = ((float *)b.out[0].data)[i];
        assert_true(v == floored[i] ? signbit(v) == signbit(floored[i])
                                    : v != v && floored[i] != floored[i]);
    }
    free(b.out[0].data);
}

static void test_shift(void **state)
{
    (void)state;
    const int64_t x[] = {1, -8, -8, 127, 3, -1, 1}, y[] = {7, 1, 8, 1, -1, 64, 0};
    const int64_t right[] = {0, -4, -1, 63, 0, -1, 1}, left[] = {-128, -16, 0, -2, 0, 0, 1};
    check_ints("BitShift", "direction", "RIGHT", 0, SPAROA_INT8, 7, x, y, right);
    check_ints("BitShift", "direction", "LEFT", 0, SPAROA_INT8, 7, x, y, left);
    const int64_t ux[] = {1, -1, -1, 5}, uy[] = {63, 63, 64, 1}, ur[] = {0, 1, 0, 2};
    const int64_t ul[] = {INT64_MIN, INT64_MIN, 0, 10};
    check_ints("BitShift", "direction", "RIGHT", 0, SPAROA_UINT64, 4, ux, uy, ur);
    check_ints("BitShift", "direction", "LEFT", 0, SPAROA_UINT64, 4, ux, uy, ul);
}

static void test_int_pow(void **state)
{
    (void)state;
    const int64_t x[] = {2, -2, 3, 1, -1, -1, 5, 0, 2}, y[] = {10, 3, 0, -7, -3, -4, -1, -1, 31};
    const int64_t want[] = {1024, -8, 1, 1, -1, 1, 0, 0, (int64_t)1 << 31};
    check_ints("Pow", NULL, NULL, 0, SPAROA_INT64, 9, x, y, want);
    const int64_t x32[] = {2, 46341}, y32[] = {31, 2}, wrapped[] = {INT32_MIN, -2147479015};
    check_ints("Pow", NULL, NULL, 0, SPAROA_INT32, 2, x32, y32, wrapped);
}

/* Casts one double through type `from` to type `to`. */
static double cast(double v, sparoa_dtype from, sparoa_dtype to)
{
    double memory;
    bench b;
    setup(&b, "Cast", 13, 1);
    attr_int(&b, "to", to);
    b.in[0] = sparoa_tensor_view(from, &memory, 0, NULL);
    sp_set_f64(&b.in[0], 0, v);
    assert_int_equal(run_node(&b, -1), SPAROA_OK);
    assert_int_equal(b.out[0].dtype, to);
    double result = sp_get_f64(&b.out[0], 0);
    free(b.out[0].data);
    return result;
}

static void test_cast(void **state)
{
    (void)state;
    const sparoa_dtype f32 = SPAROA_FLOAT32, f64 = SPAROA_FLOAT64, f16 = SPAROA_FLOAT16;
    assert_true(cast(-1.9, f32, SPAROA_INT32) == -1);
    assert_true(cast(3e9, f32, SPAROA_INT32) == INT32_MAX);
    assert_true(cast(-INFINITY, f64, SPAROA_INT32) == INT32_MIN);
    assert_true(cast(NAN, f32, SPAROA_INT64) == 0);
    assert_true(cast(1e30, f32, SPAROA_UINT64) == 0x1p64);
    assert_true(cast(0x1p63, f64, SPAROA_UINT64) == 0x1p63);
    assert_true(cast(-1, f32, SPAROA_UINT8) == 255);
    assert_true(cast(200, SPAROA_INT16, SPAROA_INT8) == -56);
    assert_true(cast(-1, SPAROA_INT8, SPAROA_UINT32) == 4294967295.0);
    assert_true(cast(0.25, f32, SPAROA_BOOL) == 1);
    assert_true(cast(-0.0, f32, SPAROA_BOOL) == 0);
    assert_true(cast(NAN, f32, SPAROA_BOOL) == 1);
    assert_true(cast(1, SPAROA_BOOL, f16) == 1);
    assert_true(cast(65520, f32, f16) == INFINITY);
    assert_true(cast(65519, f32, f16) == 65504);
    /* just above the middle of two halves, nearer to it than a float can tell */
    assert_true(cast(1 + 0x1p-11 + 0x1p-40, f64, f16) == 1 + 0x1p-10);
    assert_true(cast(1 + 0x1p-11, f64, f16) == 1);
    assert_true(cast(1 + 0x1p-8 + 0x1p-40, f64, SPAROA_BFLOAT16) == 1 + 0x1p-7);
    assert_true(cast(-1.5, f16, SPAROA_BFLOAT16) == -1.5);
}

static void test_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = sp_half_to_float((uint16_t)h), g = sp_bfloat_to_float((uint16_t)h);
        if (f == f)
            assert_int_equal(sp_float_to_half(f), h);
        else
            assert_int_equal(sp_float_to_half(f) & 0x7e00, 0x7e00);
        if (g == g)
            assert_int_equal(sp_float_to_bfloat(g), h);
        else
            assert_true(sp_bfloat_to_float(sp_float_to_bfloat(g)) !=
                        sp_bfloat_to_float(sp_float_to_bfloat(g)));
    }
    for (uint32_t h = 0; h < 0x7bff;
         h++) { /* halfway to the next: the even one; past it: the next */
        const double middle =
            ((double)sp_half_to_float((uint16_t)h) + sp_half_to_float((uint16_t)(h + 1))) / 2;
        assert_int_equal(sp_float_to_half((float)middle), h + (h & 1));
        assert_int_equal(sp_float_to_half(nextafterf((float)middle, INFINITY)), h + 1);
        assert_int_equal(sp_float_to_half(nextafterf((float)middle, 0)), h);
    }
}

/* Before opset 7, attribute axis said where the second input belongs, and PRelu's slope meant
 * channels. */
static void test_old_broadcast(void **state)
{
    (void)state;
    float x[12] = {0}, y[3] = {1, 2, 3};
    bench b;
    setup(&b, "Add", 6, 2);
    attr_int(&b, "broadcast", 1);
    attr_int(&b, "axis", 1);
    b.in[0] = sparoa_tensor_of(SPAROA_FLOAT32, x, 3, 2, 3, 2);
    b.in[1] = vector(SPAROA_FLOAT32, y, 3);
    assert_int_equal(run_node(&b, -1), SPAROA_OK);
    for (int i = 0; i < 12; i++) assert_true(((float *)b.out[0].data)[i] == y[i / 2 % 3]);
    free(b.out[0].data);
    for (int i = 0; i < 12; i++) x[i] = -1;
    b.node.op = "PRelu";
    b.node.n_attrs = 0;
    assert_int_equal(run_node(&b, -1), SPAROA_OK);
    for (int i = 0; i < 12; i++) assert_true(((float *)b.out[0].data)[i] == -y[i / 2 % 3]);
    free(b.out[0].data);
    b.node.version = 7;
    assert_int_equal(infer(&b), SPAROA_SHAPE_MISMATCH);
}

/* Sum(x, x, y) into the memory of x. */
static void test_variadic_alias(void **state)
{
    (void)state;
    float x[3000], y[3000], want[3000];
    for (int i = 0; i < 3000; i++) {
        x[i] = (float)i;
        y[i] = (float)below(100);
        want[i] = x[i] + y[i] + x[i];
    }
    bench b;
    setup(&b, "Sum", 13, 3);
    b.in[0] = b.in[2] = vector(SPAROA_FLOAT32, x, 3000);
    b.in[1] = vector(SPAROA_FLOAT32, y, 3000);
    assert_int_equal(run_node(&b, 2), SPAROA_OK);
    assert_memory_equal(x, want, sizeof want);
}

/* Whatever is known of types and shapes, infer answers and touches no data. */
static void test_infer_unknown(void **state)
{
    (void)state;
    static const sparoa_dtype types[] = {SPAROA_FLOAT32, SPAROA_INT64,   SPAROA_BOOL,
                                         SPAROA_UINT8,   SPAROA_FLOAT16, SPAROA_UNDEFINED};
    for (const sparoa_op *const *row = sp_op_table; *row; row++) {
        const sparoa_op *op = *row;
        if (op->op_class != SPAROA_CLASS_ELTWISE || op->min_in > MAX_IN) continue;
        for (int round = 0; round < 200; round++) {
            bench b;
            setup(&b, op->name, op->since, op->min_in);
            b.node.domain = op->domain;
            for (int32_t k = 0; k < MAX_IN; k++) {
                b.in[k].dtype = types[round % 2 ? below(6) : below(2)];
                b.in[k].rank = below(6) - 1;
                for (int32_t d = 0; d < b.in[k].rank; d++) b.in[k].dims[d] = below(4) - 1;
            }
            b.out[0] = (sparoa_tensor){.rank = -1};
            sparoa_status status = op->infer(&b.node, &b.err);
            assert_true(status == SPAROA_OK || b.err.message[0] != '\0');
            if (status == SPAROA_OK)
                assert_true(b.out[0].dtype != SPAROA_UNDEFINED ||
                            b.in[0].dtype == SPAROA_UNDEFINED);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broadcast),     cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_division),      cmocka_unit_test(test_float_mod),
        cmocka_unit_test(test_shift),         cmocka_unit_test(test_int_pow),
        cmocka_unit_test(test_cast),          cmocka_unit_test(test_halves),
        cmocka_unit_test(test_old_broadcast), cmocka_unit_test(test_variadic_alias),
        cmocka_unit_test(test_infer_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
