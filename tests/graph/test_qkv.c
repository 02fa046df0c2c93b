/* Pass qkv: attention reads its inputs out of one product, in either order of batch and rows and in
 * windows with masks of their own; the answers stay the same. */
#include "tests/support/graph.h"
#include "tests/support/support.h"

enum { ROWS = 6, HEADS = 2, SIZE = 4, WIDTH = HEADS * SIZE, WINDOWS = 3, BATCH = 2 };

static sparoa_error err;

static int64_t attribute(const sparoa_session *s, const char *name)
{
    for (size_t i = 0; i < s->graph->node_count; i++)
        for (int32_t k = 0; k < s->graph->nodes[i].n_attrs; k++)
            if (strcmp(s->graph->nodes[i].attrs[k].name, name) == 0)
                return s->graph->nodes[i].attrs[k].v.i;
    return -1;
}

static void shape(mb_graph *g, const char *name, int n, const int64_t *v)
{
    const int64_t dims[1] = {n};
    mb_raw(mb_initializer(g, name, SPAROA_INT64, n ? 1 : 0, dims), v,
           sizeof *v * (size_t)(n ? n : 1));
}

static void turn(mb_graph *g, const char *in, const char *out, int n, const int64_t *perm)
{
    mb_ints(mb_add(g, "Transpose", out, in, out), "perm", n, perm);
}

/* parts [3, ...] -> softmax(q k^T / 2 + mask) v of rank 4; `cut` says how a part becomes that. */
static void attend(mb_graph *g, void (*cut)(mb_graph *g, const char *in, const char *out),
                   bool windows)
{
    static const char *const parts[] = {"q", "k", "v"};
    for (int i = 0; i < 3; i++) {
        char index[8], picked[8], line[32];
        snprintf(index, sizeof index, "i%d", i);
        snprintf(picked, sizeof picked, "%s0", parts[i]);
        snprintf(line, sizeof line, "parts,%s", index);
        shape(g, index, 0, (int64_t[]){i});
        mb_int(mb_add(g, "Gather", picked, line, picked), "axis", 0);
        cut(g, picked, parts[i]);
    }
    float half = 0.5f;
    mb_raw(mb_initializer(g, "half", SPAROA_FLOAT32, 0, NULL), &half, sizeof half);
    turn(g, "k", "kt", 4, (int64_t[]){0, 1, 3, 2});
    mb_add(g, "MatMul", "products", "q,kt", "s");
    mb_add(g, "Mul", "scaled", "s,half", "s1");
    const char *masked = "s1";
    if (windows) {
        shape(g, "apart", 5, (int64_t[]){-1, WINDOWS, HEADS, ROWS, ROWS});
        shape(g, "together", 4, (int64_t[]){-1, HEADS, ROWS, ROWS});
        mb_random(g, "mask", MB_DIMS(1, WINDOWS, 1, ROWS, ROWS), 7, -2, 2);
        mb_add(g, "Reshape", "apart", "s1,apart", "s2");
        mb_add(g, "Add", "masked", "s2,mask", "s3");
        mb_add(g, "Reshape", "together", "s3,together", "s4");
        masked = "s4";
    }
    mb_int(mb_add(g, "Softmax", "softmax", masked, "p"), "axis", -1);
    mb_add(g, "MatMul", "values", "p,v", "y4");
}

static void same(mb_graph *g, const char *in, const char *out)
{
    mb_add(g, "Identity", out, in, out);
}

/* [rows, batch, width] -> [batch, heads, rows, size], as PyTorch's attention is exported. */
static void split_heads(mb_graph *g, const char *in, const char *out)
{
    char name[3][16];
    for (int i = 0; i < 3; i++) snprintf(name[i], sizeof name[i], "%s_%d", out, i);
    char line[48];
    snprintf(line, sizeof line, "%s,heads_first", in);
    mb_add(g, "Reshape", name[0], line, name[0]);
    turn(g, name[0], name[1], 3, (int64_t[]){1, 0, 2});
    snprintf(line, sizeof line, "%s,heads_apart", name[1]);
    mb_add(g, "Reshape", out, line, out);
}

/* batch -1: open */
static mb_model *rows_first(int64_t batch)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(batch, ROWS, WIDTH));
    mb_random(g, "w", MB_DIMS(WIDTH, 3 * WIDTH), 1, -1, 1);
    mb_random(g, "b", MB_DIMS(3 * WIDTH), 2, -1, 1);
    mb_random(g, "u", MB_DIMS(WIDTH, WIDTH), 3, -1, 1);
    mb_random(g, "c", MB_DIMS(WIDTH), 4, -1, 1);
    shape(g, "thirds", 5, (int64_t[]){1, ROWS, -1, 3, WIDTH});
    shape(g, "zero", 1, (int64_t[]){3});
    shape(g, "heads_first", 3, (int64_t[]){ROWS, -1, SIZE});
    shape(g, "heads_apart", 4, (int64_t[]){-1, HEADS, ROWS, SIZE});
    shape(g, "flat", 2, (int64_t[]){-1, WIDTH});
    shape(g, "back", 3, (int64_t[]){ROWS, -1, WIDTH});
    turn(g, "x", "xt", 3, (int64_t[]){1, 0, 2});
    mb_add(g, "MatMul", "project", "xt,w", "r0");
    mb_add(g, "Add", "bias", "r0,b", "r");
    mb_add(g, "Reshape", "thirds", "r,thirds", "r5");
    turn(g, "r5", "r3", 5, (int64_t[]){3, 1, 2, 0, 4});
    mb_add(g, "Squeeze", "squeezed", "r3,zero", "parts");
    attend(g, split_heads, false);
    turn(g, "y4", "yt", 4, (int64_t[]){2, 0, 1, 3});
    mb_add(g, "Reshape", "flat", "yt,flat", "yf");
    mb_int(mb_add(g, "Gemm", "out", "yf,u,c", "o"), "transB", 1);
    mb_add(g, "Reshape", "back", "o,back", "ob");
    turn(g, "ob", "y", 3, (int64_t[]){1, 0, 2});
    mb_output(g, "y");
    return m;
}

static mb_model *batch_first(int64_t batch, bool windows)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(batch, ROWS, WIDTH));
    mb_random(g, "w", MB_DIMS(WIDTH, 3 * WIDTH), 1, -1, 1);
    shape(g, "thirds", 5, (int64_t[]){-1, ROWS, 3, HEADS, SIZE});
    shape(g, "flat", 3, (int64_t[]){-1, ROWS, WIDTH});
    mb_add(g, "MatMul", "project", "x,w", "r");
    mb_add(g, "Reshape", "thirds", "r,thirds", "r5");
    turn(g, "r5", "parts", 5, (int64_t[]){2, 0, 3, 1, 4});
    attend(g, same, windows);
    turn(g, "y4", "yt", 4, (int64_t[]){0, 2, 1, 3});
    mb_add(g, "Reshape", "out", "yt,flat", "y");
    mb_output(g, "y");
    return m;
}

/* images: rows of the first dimension. */
static void check(mb_model *m, int64_t images, int64_t windows)
{
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    sparoa_model *model = ts_load(rt, m);
    sparoa_session *plain = ts_session(model, "qkv", 0), *qkv = ts_session(model, NULL, 0);
    assert_int_equal(ts_nodes(plain, "Attention"), 1);
    assert_int_equal(ts_nodes(qkv, "Attention"), 1);
    assert_int_equal(attribute(qkv, "sp.qkv"), 1);
    assert_int_equal(attribute(qkv, "sp.windows"), windows);
    assert_int_equal(ts_nodes(qkv, "Gather"), 0);
    assert_int_equal(ts_nodes(qkv, "Transpose"), 0);
    int64_t dims[3] = {images, ROWS, WIDTH};
    sparoa_tensor x = ts_random(3, dims, 5), a = {0}, b = {0};
    ts_ok(sparoa_session_run(plain, &x, 1, &a, 1, &err), err);
    ts_ok(sparoa_session_run(qkv, &x, 1, &b, 1, &err), err);
    assert_true(ts_difference(&b, &a) < 1e-5);
    sparoa_session_destroy(plain);
    sparoa_session_destroy(qkv);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(x.data);
    mb_end();
}

static void test_rows_first(void **state)
{
    (void)state;
    check(rows_first(-1), BATCH, -1);
    check(rows_first(BATCH), BATCH, -1);
}

static void test_batch_first(void **state)
{
    (void)state;
    check(batch_first(-1, false), BATCH, -1);
    check(batch_first(BATCH, false), BATCH, -1);
}

static void test_windows(void **state)
{
    (void)state;
    check(batch_first(-1, true), BATCH * WINDOWS, WINDOWS);
    check(batch_first(BATCH * WINDOWS, true), BATCH * WINDOWS, WINDOWS);
}

/* One image whose batch is known: a dimension of size 1 leaves no trace in the moves of data. */
static void test_one_image(void **state)
{
    (void)state;
    check(rows_first(1), 1, -1);
    check(batch_first(1, false), 1, -1);
    check(batch_first(WINDOWS, true), WINDOWS, WINDOWS);
}

/* A product that somebody else needs as it is stays the only one. */
static void test_shared_product(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, ROWS, WIDTH));
    mb_random(g, "w", MB_DIMS(WIDTH, WIDTH), 1, -1, 1);
    mb_add(g, "MatMul", "product", "x,w", "r");
    turn(g, "r", "y", 3, (int64_t[]){1, 0, 2});
    mb_output(g, "y");
    mb_output(g, "r");
    ts_expect_nodes(m, 2, (ts_node_count[]){{"MatMul", 1}, {"Transpose", 1}});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_first),     cmocka_unit_test(test_batch_first),
        cmocka_unit_test(test_windows),        cmocka_unit_test(test_one_image),
        cmocka_unit_test(test_shared_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
