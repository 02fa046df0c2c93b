/* Session option precision: float16 between the inputs and outputs where operators allow it, marks
 * for TF32, and results near those of float32. */
#include "api/objects.h"
#include "tests/support/support.h"

enum { ELEMENTS = 2 * 6 * 8 * 8 };

static sparoa_error err;

static sparoa_session *session(const sparoa_model *model, sparoa_precision precision)
{
    sparoa_session_options o = {.struct_size = sizeof o, .precision = precision};
    sparoa_session *s = NULL;
    if (sparoa_session_create((sparoa_model *)model, &o, &s, &err)) fail_msg("%s", err.message);
    return s;
}

static int count(const sparoa_session *s, const char *op, sparoa_dtype type)
{
    int n = 0;
    for (size_t i = 0; i < s->graph->node_count; i++) {
        const sp_gnode *g = &s->graph->nodes[i];
        n += strcmp(g->op_type, op) == 0 && s->graph->values[g->out[0]].fact.dtype == type;
    }
    return n;
}

static int marks(const sparoa_session *s)
{
    int n = 0;
    for (size_t i = 0; i < s->graph->node_count; i++)
        for (int32_t k = 0; k < s->graph->nodes[i].n_attrs; k++)
            n += strcmp(s->graph->nodes[i].attrs[k].name, "sp.tf32") == 0;
    return n;
}

static void run(sparoa_session *s, const float *x, float *y)
{
    sparoa_tensor in = {(void *)(uintptr_t)x, SPAROA_FLOAT32, 4, {2, 4, 8, 8}}, out = {0};
    if (sparoa_session_run(s, &in, 1, &out, 1, &err)) fail_msg("%s", err.message);
    assert_int_equal(out.dtype, SPAROA_FLOAT32);
    assert_int_equal(sparoa_tensor_count(&out), ELEMENTS);
    memcpy(y, out.data, ELEMENTS * sizeof *y);
}

/* Two convolutions with an operator in between that stays in float32. */
static mb_model *network(void)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(2, 4, 8, 8));
    mb_random(g, "w", MB_DIMS(6, 4, 3, 3), 1, -1, 1);
    mb_random(g, "v", MB_DIMS(6, 6, 1, 1), 2, -1, 1);
    mb_ints(mb_add(g, "Conv", "first", "x,w", "a"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_add(g, "Relu", "act", "a", "b");
    mb_add(g, "Sinh", "wide", "b", "c");
    mb_add(g, "Tanh", "narrow", "c", "d");
    mb_add(g, "Conv", "second", "d,v", "y");
    mb_output(g, "y");
    return m;
}

static void test_half(void **state)
{
    static float x[2 * 4 * 8 * 8], expected[ELEMENTS], y[ELEMENTS];
    (void)state;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = (float)((i * 7919) % 401) / 400 - 0.5f;
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    sparoa_model *model = ts_load(rt, network());
    sparoa_session *full = session(model, SPAROA_PRECISION_FLOAT32);
    sparoa_session *half = session(model, SPAROA_PRECISION_FLOAT16);
    assert_int_equal(count(full, "Cast", SPAROA_FLOAT16), 0);
    assert_int_equal(count(half, "Conv", SPAROA_FLOAT16), 2);
    assert_int_equal(count(half, "Sinh", SPAROA_FLOAT32), 1);
    assert_int_equal(count(half, "Cast", SPAROA_FLOAT16), 2); /* the input, behind Sinh */
    assert_int_equal(count(half, "Cast", SPAROA_FLOAT32), 2); /* before Sinh, the output */
    run(full, x, expected);
    run(half, x, y);
    float most = 0, off = 0;
    for (int i = 0; i < ELEMENTS; i++) {
        assert_false(isnan(y[i]));
        most = fmaxf(most, fabsf(expected[i]));
        off = fmaxf(off, fabsf(y[i] - expected[i]));
    }
    assert_true(off > 0); /* it did compute with fewer digits */
    assert_true(off < 1e-2f * most);
    sparoa_session_destroy(full);
    sparoa_session_destroy(half);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
}

static void test_large_constant(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(4));
    mb_random(m->graph, "large", MB_DIMS(4), 1, 1e5f, 2e5f);
    mb_add(m->graph, "Mul", "product", "x,large", "y");
    mb_output(m->graph, "y");
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    sparoa_model *model = ts_load(rt, m);
    sparoa_session *half = session(model, SPAROA_PRECISION_FLOAT16);
    assert_int_equal(count(half, "Mul", SPAROA_FLOAT32), 1);
    assert_int_equal(count(half, "Cast", SPAROA_FLOAT16), 0);
    sparoa_session_destroy(half);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
}

/* A large constant lies in the file at any address. */
static void test_unaligned_constant(void **state)
{
    (void)state;
    for (int pad = 0; pad < 4; pad++) {
        mb_model *m = mb_new();
        m->producer_name = mb_str("1234" + pad);
        mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(SP_ALIGN_LATER / 4));
        mb_random(m->graph, "c", MB_DIMS(SP_ALIGN_LATER / 4), 1, -1, 1);
        mb_add(m->graph, "Mul", "product", "x,c", "y");
        mb_output(m->graph, "y");
        sparoa_runtime *rt = ts_runtime(NULL, 1);
        sparoa_model *model = ts_load(rt, m);
        sparoa_session *half = session(model, SPAROA_PRECISION_FLOAT16);
        assert_int_equal(count(half, "Mul", SPAROA_FLOAT16), 1);
        sparoa_session_destroy(half);
        sparoa_model_destroy(model);
        sparoa_runtime_destroy(rt);
        mb_end();
    }
}

static void test_tf32(void **state)
{
    static float x[2 * 4 * 8 * 8], expected[ELEMENTS], y[ELEMENTS];
    (void)state;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = (float)((i * 31) % 97) / 97;
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    sparoa_model *model = ts_load(rt, network());
    sparoa_session *full = session(model, SPAROA_PRECISION_FLOAT32);
    sparoa_session *tf32 = session(model, SPAROA_PRECISION_TF32);
    assert_int_equal(marks(full), 0);
    assert_int_equal(marks(tf32), 2);
    run(full, x, expected);
    run(tf32, x, y); /* the CPU has no such arithmetic: the mark changes nothing */
    assert_memory_equal(y, expected, sizeof y);
    sparoa_session_options o = {.struct_size = sizeof o, .precision = (sparoa_precision)3};
    sparoa_session *none = NULL;
    assert_int_equal(sparoa_session_create(model, &o, &none, &err), SPAROA_INVALID_ARGUMENT);
    assert_null(none);
    sparoa_session_destroy(full);
    sparoa_session_destroy(tf32);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_large_constant),
        cmocka_unit_test(test_unaligned_constant),
        cmocka_unit_test(test_tf32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
