/* Each graph pass does what it says: on small graphs, by what is left of them. That results stay
 * the same is the business of tests/engine/test_random_graphs.c. */
#include <dirent.h>
#include <unistd.h>

#include "api/objects.h"
#include "graph/passes.h"
#include "ops/op.h"
#include "tests/support/support.h"

static sparoa_error err;

typedef struct made {
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *s;
} made;

/* A session of the model with all passes but those in `without`. */
static made make(mb_model *m, const char *without)
{
    made x = {.rt = ts_runtime(NULL, 1)};
    x.model = ts_load(x.rt, m);
    x.s = ts_session(x.model, without, 0);
    return x;
}

static void end(made *x)
{
    sparoa_session_destroy(x->s);
    sparoa_model_destroy(x->model);
    sparoa_runtime_destroy(x->rt);
    mb_end();
}

static int nodes(const made *x, const char *op)
{
    int n = 0;
    for (size_t i = 0; i < x->s->graph->node_count; i++)
        if (!op || strcmp(x->s->graph->nodes[i].op_type, op) == 0) n++;
    return n;
}

static const sp_gnode *node(const made *x, const char *op)
{
    for (size_t i = 0; i < x->s->graph->node_count; i++)
        if (strcmp(x->s->graph->nodes[i].op_type, op) == 0) return &x->s->graph->nodes[i];
    fail_msg("no %s is left", op);
    return NULL;
}

static const sparoa_attr *attribute(const sp_gnode *n, const char *name)
{
    for (int32_t i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].name, name) == 0) return &n->attrs[i];
    return NULL;
}

/* All passes but the named ones, which a test is about. */
static const char *only(const char *wanted)
{
    static char list[256];
    list[0] = '\0';
    for (size_t i = 0; sparoa_pass_name(i); i++) {
        const char *at = strstr(wanted, sparoa_pass_name(i));
        if (at) continue;
        if (list[0]) strcat(list, ",");
        strcat(list, sparoa_pass_name(i));
    }
    return list;
}

static mb_model *image_model(void)
{
    mb_model *m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(-1, 4, 8, 8));
    mb_random(m->graph, "w", MB_DIMS(6, 4, 3, 3), 1, -1, 1);
    return m;
}

static void test_fold(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(2, 3));
    mb_random(g, "a", MB_DIMS(2, 3), 1, -1, 1);
    mb_random(g, "b", MB_DIMS(2, 3), 2, -1, 1);
    mb_add(g, "Add", "sum", "a,b", "c");   /* constants only */
    mb_add(g, "Shape", "shape", "x", "s"); /* the shape is fixed */
    mb_add(g, "Reshape", "same", "c,s", "d");
    mb_add(g, "Mul", "product", "x,d", "y");
    mb_output(g, "y");
    made x = make(m, only("fold"));
    assert_int_equal(nodes(&x, NULL), 1);
    assert_int_equal(nodes(&x, "Mul"), 1);
    end(&x);
}

static void test_random_is_not_folded(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_ints(mb_add(m->graph, "RandomUniform", "noise", "", "y"), "shape", 1, (int64_t[]){3});
    mb_output(m->graph, "y");
    made x = make(m, NULL);
    assert_int_equal(nodes(&x, "RandomUniform"), 1);
    end(&x);
}

static void test_simplify(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(2, 3));
    mb_add(g, "Identity", "same", "x", "a");
    mb_ints(mb_add(g, "Transpose", "turn", "a", "b"), "perm", 2, (int64_t[]){0, 1});
    mb_add(g, "Dropout", "drop", "b", "c");
    mb_add(g, "Exp", "first", "c", "d");
    mb_add(g, "Exp", "second", "c", "e"); /* equal to the first */
    mb_add(g, "Add", "sum", "d,e", "y");
    mb_output(g, "y");
    made x = make(m, only("simplify"));
    assert_int_equal(nodes(&x, NULL), 2);
    assert_int_equal(nodes(&x, "Exp"), 1);
    end(&x);
}

static void test_pad_into_conv(void **state)
{
    (void)state;
    mb_model *m = image_model();
    mb_graph *g = m->graph;
    mb_i64s(g, "pads", 8, (int64_t[]){0, 0, 1, 2, 0, 0, 3, 0});
    mb_add(g, "Pad", "pad", "x,pads", "p");
    mb_ints(mb_add(g, "Conv", "conv", "p,w", "y"), "pads", 4, (int64_t[]){0, 1, 0, 1});
    mb_output(g, "y");
    made x = make(m, only("simplify"));
    assert_int_equal(nodes(&x, NULL), 1);
    const sparoa_attr *pads = attribute(node(&x, "Conv"), "pads");
    const int64_t want[] = {1, 3, 3, 1};
    assert_int_equal(pads->count, 4);
    assert_memory_equal(pads->v.ints, want, sizeof want);
    end(&x);
}

/* Padding of channels is no padding of a convolution. */
static void test_pad_of_channels_stays(void **state)
{
    (void)state;
    for (int layout = 0; layout < 2; layout++) {
        mb_model *m = mb_new();
        mb_graph *g = m->graph;
        mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(1, 4, 8, 8));
        mb_random(g, "w1", MB_DIMS(3, 4, 3, 3), 1, -1, 1);
        mb_random(g, "w2", MB_DIMS(2, 4, 1, 1), 2, -1, 1);
        mb_i64s(g, "pads", 8, (int64_t[]){0, 1, 0, 0, 0, 0, 0, 0});
        mb_add(g, "Conv", "conv1", "x,w1", "a");
        mb_add(g, "Pad", "pad", "a,pads", "b");
        mb_add(g, "Conv", "conv2", "b,w2", "y");
        mb_output(g, "y");
        made x = make(m, layout ? NULL : "layout");
        assert_int_equal(nodes(&x, "Pad"), 1);
        end(&x);
    }
}

static void test_scale(void **state)
{
    (void)state;
    mb_model *m = image_model();
    mb_graph *g = m->graph;
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"scale", "bias", "mean", "var"};
        mb_random(g, names[i], MB_DIMS(6), 10 + (uint64_t)i, 0.5, 1.5);
    }
    mb_random(g, "k", MB_DIMS(6, 1, 1), 20, -1, 1);
    mb_add(g, "Conv", "conv", "x,w", "a");
    mb_add(g, "BatchNormalization", "norm", "a,scale,bias,mean,var", "b");
    mb_add(g, "Mul", "times", "b,k", "c");
    mb_add(g, "Add", "plus", "k,c", "y");
    mb_output(g, "y");
    made x = make(m, only("scale"));
    assert_int_equal(nodes(&x, NULL), 1);
    assert_int_equal(node(&x, "Conv")->n_in, 3);
    end(&x);
}

/* Who else needs the value in between keeps it. */
static void test_scale_keeps_used_values(void **state)
{
    (void)state;
    mb_model *m = image_model();
    mb_graph *g = m->graph;
    mb_random(g, "k", MB_DIMS(6, 1, 1), 20, -1, 1);
    mb_add(g, "Conv", "conv", "x,w", "a");
    mb_add(g, "Mul", "times", "a,k", "y");
    mb_output(g, "y");
    mb_output(g, "a");
    made x = make(m, only("scale"));
    assert_int_equal(nodes(&x, "Mul"), 1);
    end(&x);
}

static void test_fuse(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 6, 8, 8));
    mb_random(g, "w", MB_DIMS(6, 6, 3, 3), 1, -1, 1);
    mb_ints(mb_add(g, "Conv", "conv", "x,w", "a"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_add(g, "Add", "residual", "a,x", "b");
    mb_float(mb_add(g, "LeakyRelu", "act", "b", "y"), "alpha", 0.25f);
    mb_output(g, "y");
    made x = make(m, only("fuse"));
    assert_int_equal(nodes(&x, NULL), 1);
    const sp_gnode *conv = node(&x, "Conv");
    assert_int_equal(attribute(conv, "sp.residual")->v.i, 1);
    assert_true(attribute(conv, "sp.act_a")->v.f == 0.25f);
    assert_int_equal(conv->n_in, 4);
    end(&x);
}

static void test_fuse_bias(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 3, 6));
    mb_random(g, "w", MB_DIMS(6, 5), 1, -1, 1);
    mb_random(g, "b", MB_DIMS(5), 1, -1, 1);
    mb_add(g, "MatMul", "product", "x,w", "p");
    mb_add(g, "Add", "bias", "b,p", "q");
    mb_add(g, "Relu", "act", "q", "y");
    mb_output(g, "y");
    made x = make(m, only("fuse"));
    assert_int_equal(nodes(&x, NULL), 1);
    assert_int_equal(attribute(node(&x, "MatMul"), "sp.bias")->v.i, 1);
    end(&x);
}

/* Transposes stand at the edges of the model only. */
static void test_layout(void **state)
{
    (void)state;
    mb_model *m = image_model();
    mb_graph *g = m->graph;
    mb_random(g, "v", MB_DIMS(6, 6, 3, 3), 2, -1, 1);
    mb_random(g, "k", MB_DIMS(6, 1, 1), 20, -1, 1);
    mb_add(g, "Conv", "conv1", "x,w", "a");
    mb_add(g, "Sigmoid", "act", "a", "b");
    mb_add(g, "Mul", "gate", "a,b", "c");
    mb_add(g, "Sub", "shift", "c,k", "d");
    mb_ints(mb_add(g, "MaxPool", "pool", "d", "e"), "kernel_shape", 2, (int64_t[]){2, 2});
    mb_int(mb_add(g, "Concat", "twice", "e,e", "f"), "axis", 1);
    mb_random(g, "u", MB_DIMS(6, 12, 1, 1), 3, -1, 1);
    mb_add(g, "Conv", "conv2", "f,u", "y");
    mb_output(g, "y");
    made x = make(m, only("layout"));
    assert_int_equal(nodes(&x, "Transpose"), 2);
    assert_int_equal(attribute(node(&x, "Concat"), "axis")->v.i, 3);
    assert_int_equal(attribute(node(&x, "MaxPool"), "sp.nhwc")->v.i, 1);
    const sp_graph *graph = x.s->graph;
    assert_false(graph->values[graph->outputs[0]].nhwc);
    end(&x);
    made plain = make(image_model(), "layout");
    assert_int_equal(nodes(&plain, "Transpose"), 0);
    end(&plain);
}

/* The Transposes of a model that was channel-last before its export vanish. */
static void test_layout_removes_transposes(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 8, 8, 4));
    mb_random(g, "w", MB_DIMS(6, 4, 3, 3), 1, -1, 1);
    mb_ints(mb_add(g, "Transpose", "in", "x", "a"), "perm", 4, (int64_t[]){0, 3, 1, 2});
    mb_add(g, "Conv", "conv", "a,w", "b");
    mb_ints(mb_add(g, "Transpose", "out", "b", "c"), "perm", 4, (int64_t[]){0, 2, 3, 1});
    mb_add(g, "Relu", "act", "c", "y");
    mb_output(g, "y");
    made x = make(m, NULL);
    assert_int_equal(nodes(&x, "Transpose"), 0);
    end(&x);
}

/* An image of unknown rank has the rank of the weights. */
static void test_layout_of_unknown_rank(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1));
    mb_input(g, "shape", SPAROA_INT64, MB_DIMS(-1));
    mb_random(g, "w", MB_DIMS(6, 4, 3), 1, -1, 1);
    mb_add(g, "Reshape", "image", "x,shape", "a");
    mb_add(g, "Conv", "conv", "a,w", "y");
    mb_output(g, "y");
    made x = make(m, only("layout"));
    assert_int_equal(attribute(node(&x, "Conv"), "sp.nhwc")->v.i, 1);
    assert_int_equal(nodes(&x, "Transpose"), 2);
    end(&x);
}

static void test_dce(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(4));
    mb_add(g, "Exp", "unused1", "x", "a");
    mb_add(g, "Log", "unused2", "a", "b");
    mb_add(g, "Relu", "used", "x", "y");
    mb_output(g, "y");
    made x = make(m, only("dce"));
    assert_int_equal(nodes(&x, NULL), 1);
    end(&x);
}

static void test_disable(void **state)
{
    (void)state;
    made all = make(ts_small_net(), NULL), none = make(ts_small_net(), "all");
    assert_int_equal(nodes(&none, NULL), 9);
    assert_true(nodes(&all, "Relu") == 0 && nodes(&none, "Relu") == 2);
    end(&all);
    end(&none);
    made each = make(ts_small_net(), "fuse,,layout");
    assert_int_equal(nodes(&each, "Relu"), 2);
    assert_int_equal(nodes(&each, "Transpose"), 0);
    end(&each);
}

/* One file after loading and one after each pass, which names every node. */
static void test_dump(void **state)
{
    (void)state;
    char folder[] = "sparoa_dump_XXXXXX", path[512], text[16384] = "";
    assert_non_null(mkdtemp(folder));
    made x = make(ts_small_net(), "all");
    sparoa_session_options o = {.struct_size = sizeof o, .dump_dir = folder};
    sparoa_session *s = NULL;
    ts_ok(sparoa_session_create(x.model, &o, &s, &err), err);
    sparoa_session_destroy(s);
    size_t files = 0, passes = 0;
    for (const sp_pass *p = sp_pass_table; p->name; p++) passes += !p->default_off;
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        files++;
        snprintf(path, sizeof path, "%s/%.200s", folder, e->d_name);
        if (strstr(e->d_name, "00-loaded")) {
            FILE *f = fopen(path, "r");
            text[fread(text, 1, sizeof text - 1, f)] = '\0';
            fclose(f);
        }
        unlink(path);
    }
    closedir(d);
    rmdir(folder);
    assert_int_equal(files, passes + 1);
    static const char *const words[] = {"conv1", "MaxPool", "scores", "float32",
                                        "kernel_shape=2,2"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strstr(text, words[i])) fail_msg("no %s in\n%s", words[i], text);
    end(&x);
}

/* A graph with a cycle, a value that nothing writes, and a value written twice are refused. */
static void test_verify(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_allocator a = sp_mem_init(&mem, NULL, 0);
    const sparoa_op *relu = sp_op_find("", "Relu", 17, NULL, 0);
    sp_graph *g = sp_graph_create(&a, "g");
    sp_id x = sp_graph_add_value(g, "x", SP_VALUE_NODE),
          y = sp_graph_add_value(g, "y", SP_VALUE_NODE);
    sp_graph_add_node(g, "first", relu, 17, &x, 1, &y, 1, NULL, 0);
    assert_int_equal(sp_graph_verify(g, &err), SPAROA_INVALID_GRAPH);
    assert_non_null(strstr(err.message, "'x', which nothing writes"));
    sp_graph_add_node(g, "second", relu, 17, &y, 1, &x, 1, NULL, 0);
    assert_int_equal(sp_graph_compact(g, &err), SPAROA_INVALID_GRAPH);
    assert_non_null(strstr(err.message, "cycle"));
    sp_graph_destroy(g);
    assert_int_equal(atomic_load(&mem.used), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_random_is_not_folded),
        cmocka_unit_test(test_simplify),
        cmocka_unit_test(test_pad_into_conv),
        cmocka_unit_test(test_pad_of_channels_stays),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_scale_keeps_used_values),
        cmocka_unit_test(test_fuse),
        cmocka_unit_test(test_fuse_bias),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_layout_removes_transposes),
        cmocka_unit_test(test_layout_of_unknown_rank),
        cmocka_unit_test(test_dce),
        cmocka_unit_test(test_disable),
        cmocka_unit_test(test_dump),
        cmocka_unit_test(test_verify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
