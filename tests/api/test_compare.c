/* Devices compared node by node: what errs is named, and only that. */
#include "ops/op.h"
#include "ops/tolerance.h"
#include "tests/support/support.h"

static int calls;

/* Adds a little more each time it runs: two devices never agree. */
static sparoa_status drift_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    const float *x = node->in[0]->data;
    float *y = node->out[0]->data;
    calls++;
    for (int64_t i = 0; i < sp_count(node->in[0]); i++) y[i] = x[i] + 1e-3f * (float)calls;
    return SPAROA_OK;
}

static const sparoa_op drift = {.struct_size = sizeof drift,
                                .name = "Drift",
                                .domain = "test",
                                .since = 1,
                                .min_in = 1,
                                .max_in = 1,
                                .min_out = 1,
                                .max_out = 1,
                                .op_class = SPAROA_CLASS_ELTWISE,
                                .tolerance = SPAROA_TOL_ROUNDING,
                                .infer = sp_infer_same,
                                .run = drift_run};

typedef struct seen {
    int values, wrong;
    char node[64];
} seen;

static void note(void *user, const sparoa_node_comparison *r)
{
    seen *s = user;
    s->values++;
    assert_true(r->wrong > 0 || r->scaled_error <= r->scaled_allowed);
    if (!r->wrong) return;
    s->wrong++;
    assert_true(r->worst >= 0 && r->max_error > 1e-4);
    snprintf(s->node, sizeof s->node, "%s", r->node);
}

static void the_node_that_errs_is_named(void **state)
{
    (void)state;
    const sparoa_op *const own[] = {&drift};
    ts_memory memory = {0};
    sparoa_runtime_options o = ts_options(&memory, 1);
    sparoa_runtime *rt = NULL;
    sparoa_error err;
    o.operators = own;
    o.operator_count = 1;
    ts_ok(sparoa_runtime_create(&o, &rt, &err), err);
    mb_model *m = mb_new();
    mb_import(m, "test", 1);
    mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(4, 8));
    mb_random(m->graph, "w", MB_DIMS(8, 8), 1, -1, 1);
    mb_add(m->graph, "MatMul", "product", "x,w", "a");
    mb_add(m->graph, "Drift", "drift", "a", "b")->domain = mb_str("test");
    mb_add(m->graph, "MatMul", "again", "b,w", "y");
    mb_output(m->graph, "y");
    sparoa_model *model = ts_load(rt, m);
    sparoa_session *session = ts_session(model, NULL, 0);
    sparoa_tensor x = ts_random(MB_DIMS(4, 8), 3);
    seen s = {0};
    ts_ok(sparoa_session_compare(session, "reference", &x, 1, note, &s, &err), err);
    assert_int_equal(s.values, 3);
    assert_int_equal(s.wrong, 1); /* the product behind it got the same input on both sides */
    assert_string_equal(s.node, "drift");
    assert_int_equal(sparoa_session_compare(session, "nobody", &x, 1, note, &s, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_session_compare(session, "cpu", &x, 0, note, &s, &err),
                     SPAROA_INVALID_ARGUMENT);
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    ts_balanced(&memory);
    free(x.data);
    mb_end();
}

static void classes_allow_what_they_say(void **state)
{
    (void)state;
    sp_allowed a = sp_tolerance_of(SPAROA_TOL_EXACT, SPAROA_FLOAT32, 100, true);
    assert_true(a.relative == 0 && a.scaled == 0 && a.steps == 0);
    sp_allowed r = sp_tolerance_of(SPAROA_TOL_ROUNDING, SPAROA_FLOAT32, 100, false);
    sp_allowed s = sp_tolerance_of(SPAROA_TOL_SUM, SPAROA_FLOAT32, 100, false);
    sp_allowed l = sp_tolerance_of(SPAROA_TOL_SUM, SPAROA_FLOAT32, 10000, false);
    sp_allowed t = sp_tolerance_of(SPAROA_TOL_SUM, SPAROA_FLOAT32, 100, true);
    sp_allowed h = sp_tolerance_of(SPAROA_TOL_SUM, SPAROA_FLOAT16, 100, false);
    sp_allowed d = sp_tolerance_of(SPAROA_TOL_SUM, SPAROA_FLOAT64, 100, false);
    assert_true(r.scaled < s.scaled && s.scaled < l.scaled && l.scaled < 1e-3);
    assert_true(s.scaled < t.scaled && t.scaled < 1e-2);
    assert_true(h.relative > 100 * s.relative && d.scaled < 1e-6 * s.scaled);
    assert_true(sp_tolerance_of(SPAROA_TOL_ROUNDING, SPAROA_UINT8, 1, false).steps == 1);
    assert_true(sp_tolerance_of(SPAROA_TOL_SUM, SPAROA_INT64, 1, false).steps == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_node_that_errs_is_named),
        cmocka_unit_test(classes_allow_what_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
