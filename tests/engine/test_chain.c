/* Pass chain: element-wise operators that follow each other become one, on the CPU and on a device;
 * the answers stay the same. */
#include "tests/support/graph.h"
#include "tests/support/support.h"

static sparoa_error err;

static mb_model *begin(void)
{
    mb_model *m = mb_new();
    mb_opset(m, 17);
    mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(-1, 5, 7));
    return m;
}

/* chains: how many the pass makes; nodes: what is left in all. */
static void check(mb_model *m, int chains, size_t nodes, const char *device)
{
    ts_memory memory;
    memset(&memory, 0, sizeof memory);
    sparoa_runtime *rt;
    sparoa_runtime_options ro = ts_options(&memory, 2);
    ts_ok(sparoa_runtime_create(&ro, &rt, &err), err);
    ts_emu(rt, NULL);
    sparoa_model *model = ts_load(rt, m);
    sparoa_session *plain = ts_session(model, NULL, 0), *chained = NULL;
    sparoa_session_options o = {.struct_size = sizeof o,
                                .disable_passes = "+chain",
                                .device = device,
                                .fallback = SPAROA_FALLBACK_FORBID};
    ts_ok(sparoa_session_create(model, &o, &chained, &err), err);
    assert_int_equal(ts_nodes(chained, "Chain"), chains);
    assert_int_equal(chained->graph->node_count, nodes);
    for (int64_t n = 1; n < 100; n = n * 3 + 1) {
        sparoa_tensor x = ts_random(3, (int64_t[]){n, 5, 7}, (uint64_t)n), a[2] = {0}, b[2] = {0};
        size_t outputs = chained->graph->output_count;
        ts_ok(sparoa_session_run(plain, &x, 1, a, outputs, &err), err);
        ts_ok(sparoa_session_run(chained, &x, 1, b, outputs, &err), err);
        for (size_t i = 0; i < outputs; i++) assert_true(ts_difference(&b[i], &a[i]) < 1e-5);
        free(x.data);
    }
    sparoa_session_destroy(plain);
    sparoa_session_destroy(chained);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    ts_balanced(&memory);
    mb_end();
}

static mb_model *mixed(void)
{
    mb_model *m = begin();
    mb_graph *g = m->graph;
    mb_random(g, "row", MB_DIMS(7), 1, -1, 1);
    mb_random(g, "column", MB_DIMS(1, 5, 1), 2, 1, 2);
    mb_scalar(g, "two", 2);
    mb_scalar(g, "low", -0.5f);
    mb_scalar(g, "high", 0.75f);
    mb_add(g, "Mul", "n0", "x,row", "v0");
    mb_add(g, "Sub", "n1", "two,v0", "v1"); /* the chain is the right operand */
    mb_float(mb_add(g, "LeakyRelu", "n2", "v1", "v2"), "alpha", 0.25f);
    mb_add(g, "Div", "n3", "v2,column", "v3");
    mb_add(g, "Clip", "n4", "v3,low,high", "v4");
    mb_add(g, "Exp", "n5", "v4", "v5");
    mb_add(g, "Max", "n6", "v5,x", "y");
    mb_output(g, "y");
    return m;
}

static void one_node_is_left(void **state)
{
    (void)state;
    check(mixed(), 1, 1, "cpu");
    check(mixed(), 1, 1, "emu0");
}

/* Every function that a chain knows, in as many chains as they fill. */
static void every_function(void **state)
{
    static const char *const names[] = {"Relu",      "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid",
                                        "HardSwish", "Erf",       "Exp",     "Abs",  "Reciprocal",
                                        "Log",       "Abs",       "Sqrt",    "Neg",  "Softplus",
                                        "Elu",       "Ceil",      "Floor"};
    enum { N = sizeof names / sizeof *names };
    (void)state;
    mb_model *m = begin();
    mb_graph *g = m->graph;
    mb_scalar(g, "half", 0.5f);
    mb_add(g, "Add", "first", "x,half", "v0");
    for (int i = 0; i < N; i++) {
        char *name = mb_alloc(16), *from = mb_alloc(16), *to = mb_alloc(16);
        sprintf(name, "n%d", i);
        sprintf(from, "v%d", i);
        sprintf(to, "v%d", i + 1);
        mb_add(g, names[i], name, from, to);
    }
    char *last = mb_alloc(24);
    sprintf(last, "v%d,half", N);
    mb_add(g, "Pow", "last", last, "y");
    mb_output(g, "y");
    check(m, 2, 2, "emu0"); /* twenty steps */
}

/* What somebody else reads stays a value, and what is small is not worked out for each of many. */
static void chains_end_where_they_must(void **state)
{
    (void)state;
    mb_model *m = begin();
    mb_graph *g = m->graph;
    mb_add(g, "Sin", "outside", "x", "s");
    mb_add(g, "Abs", "a", "s", "v0");
    mb_add(g, "Neg", "b", "v0", "v1");
    mb_add(g, "Exp", "c", "v1", "v2");
    mb_add(g, "Add", "d", "v2,v0", "y");
    mb_output(g, "y");
    mb_output(g, "v1");
    check(m, 1, 4, "emu0"); /* Sin, Abs, Neg, and Exp with Add */
    m = begin();
    g = m->graph;
    mb_random(g, "w", MB_DIMS(1, 1, 7), 3, -1, 1);
    mb_i64s(g, "axes", 1, (int64_t[]){1});
    mb_ints(mb_add(g, "ReduceMean", "mean", "x", "v0"), "axes", 1, (int64_t[]){1});
    mb_add(g, "Exp", "small", "v0", "v1");
    mb_add(g, "Sub", "large", "x,v1", "v2");
    mb_add(g, "Abs", "end", "v2", "y");
    mb_output(g, "y");
    check(m, 1, 3, "emu0"); /* the mean, its Exp, the chain */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_is_left),
        cmocka_unit_test(every_function),
        cmocka_unit_test(chains_end_where_they_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
