/* FlexAttention with score_mod and prob_mod: the nodes it becomes, what its subgraphs may name, and
 * the numbers, against attention written out. */
#include "model_builder.h"

#include <math.h>

#include "sparoa.h"

enum { HEADS = 2, LENGTH = 3, KEYS = 4, SIZE = 2, Q = HEADS * LENGTH * SIZE, KV = KEYS * SIZE };

/* Two query heads share one key head; score_mod adds `bias`, a value of the main graph. */
static mb_model *flex_model(mb_node **node)
{
    mb_model *m = mb_new();
    mb_import(m, "ai.onnx.preview", 1);
    mb_input(m->graph, "q", SPAROA_FLOAT32, 4, (int64_t[]){1, HEADS, LENGTH, SIZE});
    mb_input(m->graph, "k", SPAROA_FLOAT32, 4, (int64_t[]){1, 1, KEYS, SIZE});
    mb_input(m->graph, "v", SPAROA_FLOAT32, 4, (int64_t[]){1, 1, KEYS, SIZE});
    mb_input(m->graph, "bias", SPAROA_FLOAT32, 1, (int64_t[]){KEYS});
    *node = mb_add(m->graph, "FlexAttention", "flex", "q,k,v", "y");
    (*node)->domain = mb_str("ai.onnx.preview");
    mb_output(m->graph, "y");
    return m;
}

static mb_graph *mod(mb_node *node, const char *name, const char *in, const char *out)
{
    mb_graph *g = mb_subgraph(node, name);
    mb_input(g, in, SPAROA_FLOAT32, -1, NULL);
    mb_output(g, out);
    return g;
}

static void run(const mb_model *m, const float *q, const float *k, const float *v,
                const float *bias, float *y)
{
    sparoa_runtime *runtime;
    sparoa_model *model;
    sparoa_session *session;
    sparoa_error err = {0};
    size_t size;
    uint8_t *bytes = mb_pack(m, &size);
    sparoa_runtime_options options = {.struct_size = sizeof options, .threads = 2};
    assert_int_equal(sparoa_runtime_create(&options, &runtime, &err), SPAROA_OK);
    if (sparoa_model_load_memory(runtime, bytes, size, NULL, &model, &err) ||
        sparoa_session_create(model, NULL, &session, &err))
        fail_msg("%s", err.message);
    sparoa_tensor in[4] = {sparoa_tensor_of(SPAROA_FLOAT32, (void *)q, 4, 1, HEADS, LENGTH, SIZE),
                           sparoa_tensor_of(SPAROA_FLOAT32, (void *)k, 4, 1, 1, KEYS, SIZE),
                           sparoa_tensor_of(SPAROA_FLOAT32, (void *)v, 4, 1, 1, KEYS, SIZE),
                           sparoa_tensor_of(SPAROA_FLOAT32, (void *)bias, 1, KEYS)};
    sparoa_tensor out = {0};
    if (sparoa_session_run(session, in, 4, &out, 1, &err)) fail_msg("%s", err.message);
    assert_int_equal(out.dims[1], HEADS);
    memcpy(y, out.data, Q * sizeof *y);
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(runtime);
}

/* probs scaled by `gain` after softmax(scores * scale + bias). */
static void expected(const float *q, const float *k, const float *v, const float *bias,
                     double scale, double gain, double *y)
{
    for (int row = 0; row < HEADS * LENGTH; row++) {
        double p[KEYS], sum = 0;
        for (int j = 0; j < KEYS; j++) {
            double dot = 0;
            for (int d = 0; d < SIZE; d++) dot += (double)q[row * SIZE + d] * k[j * SIZE + d];
            sum += p[j] = exp(scale * dot + bias[j]);
        }
        for (int d = 0; d < SIZE; d++) {
            y[row * SIZE + d] = 0;
            for (int j = 0; j < KEYS; j++) y[row * SIZE + d] += gain * p[j] / sum * v[j * SIZE + d];
        }
    }
}

static void fill(float *q, float *k, float *v)
{
    for (int i = 0; i < Q; i++) q[i] = 0.3f * (float)(i % 5) - 0.4f;
    for (int i = 0; i < KV; i++) k[i] = 0.2f * (float)i - 0.7f, v[i] = (float)(i * i % 7);
}

static void numbers(void **state)
{
    (void)state;
    float q[Q], k[KV], v[KV], bias[KEYS] = {0.5f, -1, 0, 2}, y[Q];
    double want[Q];
    fill(q, k, v);
    mb_node *node;
    mb_model *m = flex_model(&node);
    mb_attribute(node, "scale", SPAROA_ATTR_FLOAT)->f = 1.5f;
    node->attribute[0]->has_f = 1;
    mb_add(mod(node, "score_mod", "s", "t"), "Add", "", "s,bias", "t");
    mb_graph *twice = mod(node, "prob_mod", "p", "r");
    mb_raw(mb_initializer(twice, "two", SPAROA_FLOAT32, 0, NULL), (float[]){2}, 4);
    mb_add(twice, "Mul", "", "p,two", "r");
    run(m, q, k, v, bias, y);
    expected(q, k, v, bias, 1.5, 2, want);
    for (int i = 0; i < Q; i++) assert_true(fabs(y[i] - want[i]) < 1e-5);

    /* A subgraph that hands its input through, and the default scale. */
    m = flex_model(&node);
    mod(node, "prob_mod", "p", "p");
    float none[KEYS] = {0};
    run(m, q, k, v, bias, y);
    expected(q, k, v, none, 1 / sqrt(SIZE), 1, want);
    for (int i = 0; i < Q; i++) assert_true(fabs(y[i] - want[i]) < 1e-5);
}

/* A body may use a name of the main graph for something of its own, and a subgraph in it may hand
 * through a value of the main graph. */
static void names(void **state)
{
    (void)state;
    float q[Q], k[KV], v[KV], bias[KEYS] = {0.5f, -1, 0, 2}, y[Q];
    double want[Q];
    fill(q, k, v);
    mb_node *node;
    mb_model *m = flex_model(&node);
    mb_graph *g = mod(node, "score_mod", "s", "t");
    mb_add(g, "Neg", "", "s", "bias");
    mb_add(g, "Neg", "", "bias", "t");
    float none[KEYS] = {0};
    run(m, q, k, v, bias, y);
    expected(q, k, v, none, 1 / sqrt(SIZE), 1, want);
    for (int i = 0; i < Q; i++) assert_true(fabs(y[i] - want[i]) < 1e-5);

    m = flex_model(&node);
    g = mod(node, "score_mod", "s", "t");
    mb_raw(mb_initializer(g, "yes", SPAROA_BOOL, 0, NULL), (bool[]){true}, 1);
    mb_node *choice = mb_add(g, "If", "", "yes", "c");
    mb_output(mb_subgraph(choice, "then_branch"), "bias");
    mb_graph *other = mb_subgraph(choice, "else_branch");
    mb_add(other, "Add", "", "s,bias", "n");
    mb_output(other, "n");
    mb_add(g, "Add", "", "s,c", "t");
    run(m, q, k, v, bias, y);
    expected(q, k, v, bias, 1 / sqrt(SIZE), 1, want);
    for (int i = 0; i < Q; i++) assert_true(fabs(y[i] - want[i]) < 1e-5);
}

static void nodes(void **state)
{
    (void)state;
    mb_node *node;
    mb_model *m = flex_model(&node);
    mb_add(mod(node, "score_mod", "s", "t"), "Add", "plus", "s,bias", "t");
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    const char *want[] = {"FlexScores", "Add", "Softmax", "FlexValues"};
    assert_int_equal(l.graph->node_count, 4);
    for (int i = 0; i < 4; i++) assert_string_equal(l.graph->nodes[i].op_type, want[i]);
    assert_string_equal(l.graph->nodes[1].name, "flex/plus");
    mb_unload(&l);
}

static void refused(void **state)
{
    (void)state;
    mb_node *node;
    mb_model *m = flex_model(&node);
    mb_graph *g = mod(node, "score_mod", "s", "t");
    mb_add(g, "Add", "", "s,nobody", "t");
    mb_refused(m, SPAROA_INVALID_GRAPH, "'nobody'");
    m = flex_model(&node);
    g = mod(node, "score_mod", "s", "t");
    mb_add(g, "Relu", "", "s", "t");
    mb_input(g, "more", SPAROA_FLOAT32, -1, NULL);
    mb_refused(m, SPAROA_INVALID_GRAPH, "has 2 inputs and 1 outputs");
    m = flex_model(&node);
    mb_add(mod(node, "score_mod", "s", "t"), "Relu", "", "s", "s");
    mb_refused(m, SPAROA_INVALID_GRAPH, "defined twice");
    m = flex_model(&node);
    mod(node, "prob_mod", "p", "absent");
    mb_refused(m, SPAROA_INVALID_GRAPH, "'absent'");
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
        cmocka_unit_test_teardown(numbers, end), cmocka_unit_test_teardown(names, end),
        cmocka_unit_test_teardown(nodes, end), cmocka_unit_test_teardown(refused, end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
