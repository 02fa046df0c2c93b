/* Pass window: several moves that put rows into another order become one Gather, and the answers
 * stay the same; moves that do more than that stay as they are. */
#include "tests/support/graph.h"
#include "tests/support/support.h"

static sparoa_error err;

/* What a model does to the rows of [N, side, side, columns]. */
typedef struct layout {
    int64_t side, window, shift, columns;
    int64_t batch; /* -1: any */
    int axis;      /* of the second roll: 2, or what must not be matched */
    bool back;     /* windows are put back after */
} layout;

static void ints(mb_graph *g, const char *name, int n, const int64_t *v)
{
    const int64_t dims[1] = {n};
    mb_raw(mb_initializer(g, name, SPAROA_INT64, 1, dims), v, sizeof *v * (size_t)n);
}

/* out = rows of `in` from `from` on, then those before it, along an axis. */
static void roll(mb_graph *g, const char *in, const char *out, int axis, int64_t from)
{
    char name[8][24], line[128];
    static const char *const parts[] = {"s0", "e0", "s1", "e1", "axis", "step", "first", "second"};
    for (int i = 0; i < 8; i++) snprintf(name[i], sizeof name[i], "%.12s_%s", out, parts[i]);
    ints(g, name[0], 1, &from);
    ints(g, name[1], 1, (int64_t[]){INT64_MAX});
    ints(g, name[2], 1, (int64_t[]){0});
    ints(g, name[3], 1, &from);
    ints(g, name[4], 1, (int64_t[]){axis});
    ints(g, name[5], 1, (int64_t[]){1});
    for (int i = 0; i < 2; i++) {
        snprintf(line, sizeof line, "%.20s,%s,%s,%s,%s", in, name[2 * i], name[2 * i + 1], name[4],
                 name[5]);
        mb_add(g, "Slice", name[6 + i], line, name[6 + i]);
    }
    snprintf(line, sizeof line, "%s,%s", name[6], name[7]);
    mb_int(mb_add(g, "Concat", out, line, out), "axis", axis);
}

static void reshape(mb_graph *g, const char *in, const char *out, int n, const int64_t *dims)
{
    char shape[24], line[64];
    snprintf(shape, sizeof shape, "%.12s_shape", out);
    snprintf(line, sizeof line, "%.20s,%s", in, shape);
    ints(g, shape, n, dims);
    mb_add(g, "Reshape", out, line, out);
}

static void turn(mb_graph *g, const char *in, const char *out, int n, const int64_t *perm)
{
    mb_ints(mb_add(g, "Transpose", out, in, out), "perm", n, perm);
}

static const char *shifted(mb_graph *g, const layout *l, const char *in, const char *half,
                           const char *out, int64_t from)
{
    if (!l->shift) return in;
    roll(g, in, half, 1, from);
    roll(g, half, out, l->axis, from);
    return out;
}

static mb_model *windows_of(const layout *l)
{
    static const int64_t swap[6] = {0, 1, 3, 2, 4, 5};
    const int64_t w = l->window, n = l->side / w, c = l->columns;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(l->batch, l->side, l->side, c));
    mb_add(g, "Relu", "r", "x", "r");
    const char *at = shifted(g, l, "r", "a", "b", l->shift);
    reshape(g, at, "c", 6, (int64_t[]){-1, n, w, n, w, c});
    turn(g, "c", "d", 6, swap);
    reshape(g, "d", "e", 3, (int64_t[]){-1, w * w, c});
    mb_add(g, "Sqrt", "f", "e", "f");
    at = "f";
    if (l->back) {
        reshape(g, "f", "h", 6, (int64_t[]){-1, n, n, w, w, c});
        turn(g, "h", "i", 6, swap);
        reshape(g, "i", "j", 4, (int64_t[]){-1, l->side, l->side, c});
        at = shifted(g, l, "j", "k", "l", l->axis == 2 ? l->side - l->shift : 1);
    }
    mb_add(g, "Abs", "y", at, "y");
    mb_output(g, "y");
    return m;
}

/* The answers with and without the pass; how many Gathers it made and what it left. */
static void check(mb_model *m, int rank, const int64_t *dims, int gathers, int others)
{
    for (int threads = 1; threads <= 3; threads += 2) {
        sparoa_runtime *rt = ts_runtime(NULL, threads);
        sparoa_model *model = ts_load(rt, m);
        sparoa_session *plain = ts_session(model, "window", 0), *one = ts_session(model, NULL, 0);
        assert_int_equal(ts_nodes(one, "Gather"), gathers);
        assert_int_equal(
            ts_nodes(one, "Transpose") + ts_nodes(one, "Concat") + ts_nodes(one, "Slice"), others);
        sparoa_tensor x = ts_random(rank, dims, 5), a = {0}, b = {0};
        for (int again = 0; again < 2; again++) {
            ts_ok(sparoa_session_run(plain, &x, 1, &a, 1, &err), err);
            ts_ok(sparoa_session_run(one, &x, 1, &b, 1, &err), err);
            assert_true(ts_difference(&b, &a) == 0);
        }
        sparoa_session_destroy(plain);
        sparoa_session_destroy(one);
        sparoa_model_destroy(model);
        sparoa_runtime_destroy(rt);
        free(x.data);
    }
    mb_end();
}

static void check_layout(const layout *l, int64_t batch, int gathers, int others)
{
    const int64_t dims[4] = {batch, l->side, l->side, l->columns};
    check(windows_of(l), 4, dims, gathers, others);
}

static void test_rolled_windows(void **state)
{
    (void)state;
    for (int64_t batch = 1; batch <= 3; batch++) {
        check_layout(&(layout){6, 3, 1, 32, -1, 2, true}, batch, 2, 0);
        check_layout(&(layout){6, 3, 1, 32, batch, 2, true}, batch, 2, 0);
        check_layout(&(layout){10, 5, 2, 35, -1, 2, true}, batch, 2, 0);
        check_layout(&(layout){6, 2, 5, 33, -1, 2, false}, batch, 1, 0);
    }
    check_layout(&(layout){7, 7, 3, 40, -1, 2, true}, 2, 2, 0); /* one window: rolls alone */
}

static void test_windows_at_rest(void **state)
{
    (void)state;
    check_layout(&(layout){6, 3, 0, 32, -1, 2, true}, 2, 0, 2); /* one move each: left as it is */
}

static void test_short_rows(void **state)
{
    (void)state;
    check_layout(&(layout){6, 3, 1, 8, -1, 2, false}, 2, 0, 7);
}

/* Rows of one image go to another, or parts of rows: not a Gather for each image. */
static void test_other_axes(void **state)
{
    (void)state;
    /* along the columns: windows of what was rolled once, and rolled on one axis alone before */
    check_layout(&(layout){6, 3, 1, 32, -1, 3, false}, 2, 1, 4);
    /* along the batch, of three images */
    check_layout(&(layout){6, 3, 1, 32, 3, 0, false}, 3, 1, 0);
}

/* Every second row and column, and a cut: fewer rows than there were. */
static void test_parts(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(2, 7, 6, 32));
    ints(g, "starts", 2, (int64_t[]){-6, 1});
    ints(g, "ends", 2, (int64_t[]){-1, 100});
    ints(g, "axes", 2, (int64_t[]){1, -2});
    ints(g, "steps", 2, (int64_t[]){2, 2});
    mb_add(g, "Slice", "s", "x,starts,ends,axes,steps", "s");
    turn(g, "s", "y", 4, (int64_t[]){0, 2, 1, 3});
    mb_output(g, "y");
    check(m, 4, (int64_t[]){2, 7, 6, 32}, 1, 0);
}

/* Halves of two values, and one that somebody else reads half way. */
static void test_two_values(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 4, 6, 32));
    mb_add(g, "Relu", "r", "x", "r");
    mb_add(g, "Neg", "n", "x", "n");
    mb_int(mb_add(g, "Concat", "both", "r,n", "b"), "axis", 1);
    turn(g, "b", "y", 4, (int64_t[]){0, 2, 1, 3});
    mb_output(g, "y");
    check(m, 4, (int64_t[]){2, 4, 6, 32}, 0, 2);

    m = mb_new();
    g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 4, 6, 32));
    roll(g, "x", "a", 1, 1);
    roll(g, "a", "b", 2, 2);
    mb_add(g, "Sqrt", "other", "a", "z");
    mb_add(g, "Abs", "y", "b", "y");
    mb_output(g, "y");
    mb_output(g, "z");
    ts_expect_nodes(m, 2, (ts_node_count[]){{"Gather", 2}, {"Concat", 0}});
}

/* A row twice: more rows come out than went in, for one image as for several. */
static void test_more_rows(void **state)
{
    (void)state;
    for (int64_t batch = 0; batch <= 3; batch++) {
        mb_model *m = mb_new();
        mb_graph *g = m->graph;
        mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 2, 3, 32));
        turn(g, "x", "t", 4, (int64_t[]){0, 2, 1, 3});
        mb_int(mb_add(g, "Concat", "twice", "t,t", "c"), "axis", 1);
        mb_add(g, "Abs", "y", "c", "y");
        mb_output(g, "y");
        check(m, 4, (int64_t[]){batch, 2, 3, 32}, 1, 0);
    }
}

/* The batch is no longer the first dimension half way: what holds for two images need not hold for
 * three. */
static void test_batch_inside(void **state)
{
    (void)state;
    for (int64_t batch = 1; batch <= 3; batch++) {
        mb_model *m = mb_new();
        mb_graph *g = m->graph;
        mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 2, 2, 32));
        ints(g, "zero", 1, (int64_t[]){0});
        ints(g, "two", 1, (int64_t[]){2});
        ints(g, "one", 1, (int64_t[]){1});
        turn(g, "x", "a", 4, (int64_t[]){1, 0, 2, 3});
        mb_add(g, "Slice", "b", "a,zero,two,one", "b");
        turn(g, "b", "y", 4, (int64_t[]){1, 2, 0, 3});
        mb_output(g, "y");
        check(m, 4, (int64_t[]){batch, 2, 2, 32}, 0, 3);

        m = mb_new();
        g = m->graph;
        mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 4, 32));
        turn(g, "x", "a", 3, (int64_t[]){1, 0, 2});
        reshape(g, "a", "b", 4, (int64_t[]){-1, 2, 2, 32});
        turn(g, "b", "c", 4, (int64_t[]){2, 0, 1, 3});
        reshape(g, "c", "d", 4, (int64_t[]){-1, 2, 2, 32});
        turn(g, "d", "y", 4, (int64_t[]){0, 2, 1, 3});
        mb_output(g, "y");
        check(m, 3, (int64_t[]){batch, 4, 32}, 0, 3);
    }
}

/* Steps whose sums do not fit 64 bits. */
static void test_steps(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(2, 3, 4, 32));
    ints(g, "starts", 2, (int64_t[]){1, 0});
    ints(g, "ends", 2, (int64_t[]){INT64_MAX, INT64_MAX});
    ints(g, "axes", 2, (int64_t[]){1, 2});
    ints(g, "steps", 2, (int64_t[]){INT64_MAX, INT64_MAX - 1});
    mb_add(g, "Slice", "s", "x,starts,ends,axes,steps", "s");
    mb_int(mb_add(g, "Concat", "c", "s,s", "y"), "axis", 1);
    mb_output(g, "y");
    check(m, 4, (int64_t[]){2, 3, 4, 32}, 1, 0);
}

/* What reads the rows has no first output. */
static void test_reader_without_first_output(void **state)
{
    (void)state;
    static float zeros[4 * 32];
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(2, 5, 32));
    mb_raw(mb_initializer(g, "w", SPAROA_FLOAT32, 3, (int64_t[]){1, 4, 32}), zeros, sizeof zeros);
    mb_raw(mb_initializer(g, "r", SPAROA_FLOAT32, 3, (int64_t[]){1, 4, 1}), zeros,
           4 * sizeof *zeros);
    turn(g, "x", "t", 3, (int64_t[]){1, 0, 2});
    mb_int(mb_add(g, "LSTM", "lstm", "t,w,r", ",y"), "hidden_size", 1);
    mb_output(g, "y");
    check(m, 3, (int64_t[]){2, 5, 32}, 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rolled_windows), cmocka_unit_test(test_windows_at_rest),
        cmocka_unit_test(test_short_rows),     cmocka_unit_test(test_other_axes),
        cmocka_unit_test(test_parts),          cmocka_unit_test(test_two_values),
        cmocka_unit_test(test_more_rows),      cmocka_unit_test(test_batch_inside),
        cmocka_unit_test(test_steps),          cmocka_unit_test(test_reader_without_first_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
