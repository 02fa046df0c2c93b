/* sparoa_profile_of_session: plans of models whose dimensions are open fit the sessions that run
 * them. */
#include "sparoa_schedule.h"
#include "tests/support/support.h"

/* rows [N,4,8] -> flattened by the size that Shape tells -> MatMul -> Relu [N,16] */
static sparoa_model *flattened(sparoa_runtime *rt)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 4, 8));
    mb_random(g, "w", MB_DIMS(32, 16), 5, -0.2, 0.2);
    mb_i64s(g, "first", 1, (int64_t[]){0});
    mb_i64s(g, "width", 1, (int64_t[]){32});
    mb_add(g, "Shape", "shape", "x", "shape");
    mb_add(g, "Gather", "count", "shape,first", "count");
    mb_int(mb_add(g, "Concat", "sizes", "count,width", "sizes"), "axis", 0);
    mb_add(g, "Reshape", "flat", "x,sizes", "flat");
    mb_add(g, "MatMul", "product", "flat,w", "product");
    mb_add(g, "Relu", "y", "product", "y");
    mb_output(g, "y");
    return ts_load(rt, m);
}

typedef struct bed {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *session;
} bed;

static void bed_make(bed *b)
{
    *b = (bed){0};
    b->rt = ts_runtime(&b->memory, 1);
    b->model = flattened(b->rt);
    b->session = ts_session(b->model, NULL, 0);
}

static void bed_clear(bed *b)
{
    sparoa_session_destroy(b->session);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    ts_balanced(&b->memory);
    mb_end();
}

static void test_plan_fits(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b);
    sparoa_session *session = b.session, *planned = NULL;
    sparoa_tensor in = ts_random(3, (int64_t[]){3, 4, 8}, 1), out = {0}, want;
    ts_ok(sparoa_session_run(session, &in, 1, &out, 1, &err), err);
    want = ts_copy(&out);
    sparoa_platform *platform = NULL;
    sparoa_profile *profile = NULL;
    sparoa_plan *plan = NULL;
    const sparoa_plan_options options = {.struct_size = sizeof options, .policy = "cpu"};
    ts_ok(sparoa_platform_load(b.rt, SPAROA_SOURCE_DIR "/platforms/jetson_orin_nano_8gb.yaml",
                               &platform, &err),
          err);
    ts_ok(sparoa_profile_of_session(session, &in, 1, &profile, &err), err);
    assert_int_equal(sparoa_profile_node_count(profile), sparoa_session_node_count(session));
    for (size_t i = 0; i < sparoa_profile_node_count(profile); i++) {
        sparoa_profile_node_info known;
        sparoa_node_info run;
        ts_ok(sparoa_profile_node(profile, i, &known), err);
        ts_ok(sparoa_session_node(session, i, &run), err);
        assert_string_equal(known.name, run.name);
    }
    ts_ok(sparoa_plan_create(profile, platform, &options, &plan, &err), err);
    sparoa_session_options by_plan = {.struct_size = sizeof by_plan, .plan = plan};
    ts_ok(sparoa_session_create(b.model, &by_plan, &planned, &err), err);
    memset(&out, 0, sizeof out);
    ts_ok(sparoa_session_run(planned, &in, 1, &out, 1, &err), err);
    assert_true(ts_same(&out, &want));

    sparoa_session_destroy(planned);
    sparoa_plan_destroy(plan);
    sparoa_profile_destroy(profile);
    sparoa_platform_destroy(platform);
    free(in.data);
    free(want.data);
    bed_clear(&b);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b);
    sparoa_tensor wrong = ts_random(3, (int64_t[]){3, 4, 7}, 1);
    sparoa_profile *profile = NULL;
    assert_int_equal(sparoa_profile_of_session(NULL, &wrong, 1, &profile, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_profile_of_session(b.session, &wrong, 1, NULL, &err),
                     SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sparoa_profile_of_session(b.session, &wrong, 1, &profile, &err),
                     SPAROA_SHAPE_MISMATCH);
    assert_null(profile);
    free(wrong.data);
    bed_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plan_fits),
                                       cmocka_unit_test(test_bad_arguments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
