/* Profiles: features of a small graph, files that read back to the same text, refusals. */
#include "base/rng.h"
#include "graph/infer.h"
#include "ops/op.h"
#include "profile/fit.h"
#include "profile/micro.h"
#include "schedule/env_build.h"
#include "tests/support/memory.h"

/* x[?,4,8,8] -> depthwise Conv (half of its weights zero) -> Relu -> out */
static sp_graph *make_graph(void)
{
    sp_graph *g = sp_graph_create(&alloc, "g");
    sp_id x = sp_graph_add_value(g, "x", SP_VALUE_INPUT);
    int64_t open[] = {-1, 4, 8, 8};
    sp_set_shape(&g->values[x].fact, SPAROA_FLOAT32, 4, open);
    sparoa_tensor w = {.dtype = SPAROA_FLOAT32, .rank = 4, .dims = {4, 1, 3, 3}};
    sp_blob *blob = sp_blob_create(&alloc, 36 * 4);
    for (int i = 0; i < 36; i++) ((float *)blob->data)[i] = i % 2 ? 1.f : 0.f;
    sp_id weight = sp_graph_add_const(g, "w", &w, blob);
    sp_id y = sp_graph_add_value(g, "y", SP_VALUE_NODE),
          z = sp_graph_add_value(g, "z", SP_VALUE_NODE);
    sp_id in[] = {x, weight};
    sp_id conv = sp_graph_add_node(g, "conv \"1\"", sp_op_find("", "Conv", 11, NULL, 0), 11, in, 2,
                                   &y, 1, NULL, 0);
    sp_node_set_int(g, conv, "group", 4);
    sp_node_set_ints(g, conv, "kernel_shape", (int64_t[]){3, 3}, 2);
    sp_graph_add_node(g, "relu", sp_op_find("", "Relu", 14, NULL, 0), 14, &y, 1, &z, 1, NULL, 0);
    g->inputs = sp_arena_copy(&g->arena, &x, sizeof x);
    g->outputs = sp_arena_copy(&g->arena, &z, sizeof z);
    g->input_count = g->output_count = 1;
    return g;
}

static sp_profile *make_profile(sp_regime regime)
{
    sp_graph *g = make_graph();
    sparoa_tensor in = {.dtype = SPAROA_FLOAT32, .rank = 4, .dims = {2, 4, 8, 8}};
    sp_profile *p = NULL;
    sparoa_error err = {0};
    if (sp_profile_create(&alloc, g, "m", &in, 1, regime, &p, &err)) fail_msg("%s", err.message);
    sp_graph_destroy(g);
    return p;
}

static void features(void **state)
{
    sp_profile *p = make_profile(SP_REGIME_EAGER);
    assert_int_equal(p->node_count, 2);
    assert_int_equal(p->value_count, 3);
    const sp_profile_node *n = &p->nodes[0];
    assert_int_equal(n->kind, SP_KIND_DEPTHWISE);
    assert_true(n->weight_zeros == 0.5 && n->input_zeros == -1);
    assert_true(n->batch == 2 && n->channels == 4 && n->height == 6 && n->width == 6);
    assert_true(n->kernel == 3 && n->groups == 4 && n->stride == 1);
    assert_true(n->cost.flops >= 2 * 2 * 4 * 36 * 9);
    assert_true(p->values[0].bytes == 2 * 4 * 64 * 4 && p->values[2].output);
    assert_int_equal(sp_profile_find(p, "relu"), 1);
    assert_int_equal(p->nodes[1].kind, SPAROA_CLASS_ELTWISE);
    sp_profile_destroy(p);
    p = make_profile(SP_REGIME_GRAPH);
    int depthwise = 0; /* among transposes that the layout pass put around it */
    for (uint32_t i = 0; i < p->node_count; i++) depthwise += p->nodes[i].kind == SP_KIND_DEPTHWISE;
    assert_int_equal(depthwise, 1);
    assert_true(p->values[p->value_count - 1].output);
    sp_profile_destroy(p);
    sp_graph *g = make_graph();
    sparoa_tensor wrong = {.dtype = SPAROA_FLOAT32, .rank = 4, .dims = {2, 5, 8, 8}};
    assert_int_equal(sp_profile_create(&alloc, g, "m", &wrong, 1, SP_REGIME_EAGER, &p, NULL),
                     SPAROA_SHAPE_MISMATCH);
    sp_graph_destroy(g);
}

static void round_trip(void **state)
{
    sp_profile *p = make_profile(SP_REGIME_EAGER), *again = NULL;
    p->device_count = 1;
    strcpy(p->devices[0], "cpu");
    p->nodes[0].measured_ns[0] = 12345.5;
    sp_text a, b, csv;
    sp_text_init(&a, &alloc);
    sp_text_init(&b, &alloc);
    sp_text_init(&csv, &alloc);
    sp_profile_write(p, &a);
    sparoa_error err = {0};
    if (sp_profile_parse(&alloc, "p", a.data, a.size, &again, &err)) fail_msg("%s", err.message);
    sp_profile_write(again, &b);
    assert_string_equal(a.data, b.data);
    assert_true(again->nodes[0].measured_ns[0] == 12345.5);
    sp_profile_write_csv(again, &csv);
    assert_non_null(strstr(csv.data, "\"conv \"\"1\"\"\",\"Conv\",conv,depthwise,"));
    sp_profile_destroy(again);
    b.size = 0;
    if (sp_profile_parse(&alloc, "p", csv.data, csv.size, &again, &err))
        fail_msg("%s", err.message);
    sp_profile_write(again, &b);
    assert_string_equal(a.data, b.data);
    sp_profile_destroy(again);
    /* damage */
    for (uint64_t i = 0; i < 3000; i++) {
        memcpy(b.data, a.data, a.size);
        for (uint64_t k = 0; k <= i % 3; k++)
            b.data[sp_rng_bits(i, 2 * k) % a.size] =
                "0-9:[]{},\n \"x\xff"[sp_rng_bits(i, 2 * k + 1) % 14];
        again = NULL;
        if (sp_profile_parse(&alloc, "p", b.data, a.size, &again, &err) == SPAROA_OK)
            sp_profile_destroy(again);
    }
    sp_text_free(&a);
    sp_text_free(&b);
    sp_text_free(&csv);
    sp_profile_destroy(p);
}

/* A table with one thing wrong: line and field are named. */
static void damaged_tables(void **state)
{
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"name,op,class", "name,op,calss", "t.csv:1: calss: unknown column"},
        {"flops,bytes_in", "bytes_in,bytes_in", "t.csv:1: bytes_in: a second column of it"},
        {"\"Relu\",eltwise", "\"Relu\",eltwize", "t.csv:3: nodes[1].class: no such class"},
        {"\"Relu\",eltwise", "\"Relu\"", "t.csv:3: more or fewer cells than titles"},
        {"\"relu\"", "\"relu", "t.csv:3: a quote that does not fit"},
        {"\"relu\"", "\"re\"lu", "t.csv:3: a quote that does not fit"},
        {",conv,depthwise,5", ",conv,depthwise,x5", "t.csv:2: nodes[0].flops: expected a number"},
        {",conv,depthwise,5", ",conv,depthwise,-5", "t.csv:2: nodes[0].flops: -5"},
        {",0,1,", ",7,1,", "t.csv:2: nodes[0].reads[0]: value 7 is not written"},
        {",0,1,", ",0 x,1,", "t.csv:2: nodes[0].reads[0]: expected a number"},
        {",eager,1,", ",eager,2,", "t.csv:2: version"},
        {",eager,1,", ",lazy,1,", "t.csv:2: regime: expected eager or graph"}};
    sp_profile *p = make_profile(SP_REGIME_EAGER), *read = NULL;
    sp_text csv;
    sp_text_init(&csv, &alloc);
    sp_profile_write_csv(p, &csv);
    sp_profile_destroy(p);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096];
        const char *at = strstr(csv.data, cases[i].from);
        sparoa_error err = {0};
        if (!at) fail_msg("%s: not in %s", cases[i].from, csv.data);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - csv.data), csv.data, cases[i].to,
                 at + strlen(cases[i].from));
        if (sp_profile_parse(&alloc, "t.csv", text, strlen(text), &read, &err) == SPAROA_OK)
            fail_msg("case %zu was read", i);
        if (!strstr(err.message, cases[i].message)) fail_msg("case %zu: %s", i, err.message);
    }
    for (uint64_t i = 0; i < 3000; i++) { /* any damage: an error or a profile, never more */
        sparoa_error err;
        char *text = malloc(csv.size);
        memcpy(text, csv.data, csv.size);
        for (uint64_t k = 0; k <= i % 3; k++)
            text[sp_rng_bits(i, 2 * k) % csv.size] =
                "0-9:[]{},\n \"x\xff"[sp_rng_bits(i, 2 * k + 1) % 14];
        if (sp_profile_parse(&alloc, "t", text, csv.size - i % 5, &read, &err) == SPAROA_OK)
            sp_profile_destroy(read);
        free(text);
    }
    sp_text_free(&csv);
}

static void priced(void **state)
{
    static sp_platform platform;
    sparoa_error err = {0};
    assert_int_equal(sp_platform_load(&alloc,
                                      SPAROA_SOURCE_DIR "/platforms/jetson_orin_nano_8gb.yaml",
                                      &platform, &err),
                     SPAROA_OK);
    sp_profile *p = make_profile(SP_REGIME_EAGER);
    sp_env *env;
    if (sp_env_build(&alloc, p, &platform, SP_REGIME_EAGER, NULL, &env, &err))
        fail_msg("%s", err.message);
    assert_true(env->nodes[0].time_ns[1] > 274e3 && env->nodes[0].time_ns[0] < 100e3);
    assert_true(env->values[0].copy_ns[0][1] >= 30e3 && env->values[0].copy_ns[0][0] == 0);
    assert_int_equal(sp_env_pin(env, "relu", "gpu", &err), SPAROA_OK);
    assert_int_equal(sp_env_forbid(env, "relu", "gpu", &err), SPAROA_INVALID_PLAN);
    assert_int_equal(sp_env_pin(env, "none", "gpu", &err), SPAROA_NOT_FOUND);
    assert_int_equal(sp_env_pin(env, "relu", "npu", &err), SPAROA_NOT_FOUND);
    assert_int_equal(env->nodes[1].allowed, 2);
    double fast = env->nodes[0].time_ns[1];
    sp_env_reprice(env, p, &platform, SP_REGIME_EAGER,
                   &sp_platform_find_mode(&platform, "7W")->state);
    assert_true(env->nodes[0].time_ns[1] > 1.5 * fast);
    /* a measured time replaces the model's */
    p->device_count = 1;
    strcpy(p->devices[0], "cpu");
    p->nodes[0].measured_ns[0] = 777;
    sp_env_reprice(env, p, &platform, SP_REGIME_EAGER, NULL);
    assert_true(fabs(env->nodes[0].time_ns[0] - 777) < 1e-6);
    sp_env_destroy(env);
    sp_profile_destroy(p);
}

/* Medians and quartiles of the runs recorded; other devices begin anew. */
static void recorded(void **state)
{
    sp_profile *p = make_profile(SP_REGIME_EAGER);
    p->device_count = 2;
    strcpy(p->devices[0], "cpu");
    strcpy(p->devices[1], "gpu");
    const double runs[] = {100, 900, 300, 200, 400}; /* sorted: 100 200 300 400 900 */
    for (int i = 0; i < 5; i++) {
        double ns[2] = {runs[i], 7};
        assert_true(sp_profile_record(p, 0, ns));
    }
    assert_true(p->nodes[0].measured_ns[0] == 300 && p->nodes[0].spread_ns[0] == 200);
    assert_true(p->nodes[1].measured_ns[0] == 7 && p->nodes[1].spread_ns[0] == 0);
    assert_true(sp_profile_record(p, 1, (double[]){50, 60}));
    assert_true(p->nodes[0].measured_ns[1] == 50 && p->nodes[0].measured_ns[0] == 300);
    for (int i = 0; i < 2 * SP_PROFILE_TIMES; i++) sp_profile_record(p, 1, (double[]){80, 90});
    assert_true(p->nodes[0].measured_ns[1] == 80);

    sp_text yaml, json, again;
    sp_profile *read;
    sparoa_error err = {0};
    sp_text_init(&yaml, &alloc);
    sp_text_init(&json, &alloc);
    sp_text_init(&again, &alloc);
    p->nodes[1].variant = sp_profile_variant("mixed6");
    sp_profile_write(p, &yaml);
    sp_profile_write_json(p, &json);
    if (sp_profile_parse(&alloc, "p.json", json.data, json.size, &read, &err))
        fail_msg("%s", err.message);
    sp_profile_write(read, &again); /* JSON says what YAML says */
    assert_string_equal(yaml.data, again.data);
    assert_true(read->nodes[0].spread_ns[0] == 200);
    sp_text_free(&yaml);
    sp_text_free(&json);
    sp_text_free(&again);
    sp_profile_destroy(read);
    sp_profile_destroy(p);
}

static void quadrants(void **state)
{
    sp_profile_node n = {.cost = {2e8, 1e6, 0, 1e6}, .input_zeros = 0.5, .weight_zeros = -1};
    assert_string_equal(sp_quadrant_name(sp_quadrant_of(&n, NULL)), "sparse+heavy");
    assert_true(sp_flops_per_byte(&n) == 100);
    n.input_zeros = -1; /* not known: none */
    assert_int_equal(sp_quadrant_of(&n, NULL), SP_DENSE_HEAVY);
    n.weight_zeros = 0.9;
    n.cost.flops = 1e7;
    assert_int_equal(sp_quadrant_of(&n, NULL), SP_SPARSE_LIGHT);
    assert_int_equal(sp_quadrant_of(&n, &(sp_thresholds){0.95, 1e6}), SP_DENSE_HEAVY);
    const sp_thresholds its_own = {0.9, 1e7}; /* "from which" */
    assert_int_equal(sp_quadrant_of(&n, &its_own), SP_SPARSE_HEAVY);
    n.cost = (sparoa_cost){0};
    assert_true(sp_flops_per_byte(&n) == 0);

    sp_profile *p = make_profile(SP_REGIME_EAGER);
    sp_text svg;
    sp_text_init(&svg, &alloc);
    sp_profile_svg(p, NULL, &svg);
    assert_non_null(strstr(svg.data, "conv &quot;1&quot; (Conv)")); /* names are escaped */
    assert_non_null(strstr(svg.data, "</svg>"));
    size_t dots = 0;
    for (const char *c = svg.data; (c = strstr(c, "<title>")); c++) dots++;
    assert_int_equal(dots, 1 + p->node_count);
    sp_text_free(&svg);
    sp_profile_destroy(p);
}

/* A made-up device whose price is known: the fit finds its curve, and predicts work between. */
static void fitted(void **state)
{
    sp_fit fit = {.alloc = alloc};
    sp_profile_node nodes[200] = {{0}};
    sp_profile p = {.alloc = alloc, .node_count = 200, .nodes = nodes};
    for (int i = 0; i < 200; i++) {
        double flops = 1e5 * pow(1e4, i / 199.0); /* to 1e9 */
        sp_profile_node *n = &nodes[i];
        n->name = "n";
        n->op = i % 2 ? "Conv" : "Relu";
        n->kind = i % 2 ? SPAROA_CLASS_CONV : SPAROA_CLASS_ELTWISE;
        n->op_class = (sparoa_op_class)n->kind;
        n->cost = (sparoa_cost){flops, flops / 10, flops / 20, flops / 10};
        /* conv: 2 us and 10 to 50 GFLOP/s with size; element-wise: 1 us and 20 GB/s */
        double share = 0.1 + 0.4 * i / 199.0;
        n->measured_ns[0] = i % 2 ? 2000 + flops / (100 * share) : 1000 + flops / 4 / 20;
    }
    static sp_platform made;
    memset(&made, 0, sizeof made);
    made.device_count = 1;
    made.devices[0].peak_flops = 100e9;
    made.devices[0].bandwidth = 40e9;
    for (int k = 0; k < SP_KIND_COUNT; k++) {
        made.devices[0].kinds[k].overhead_ns[0] = made.devices[0].kinds[k].overhead_ns[1] = 1000;
        made.devices[0].kinds[k].bandwidth = 1;
    }
    assert_true(sp_fit_add(&fit, &p, 0));
    assert_int_equal(fit.count, 200);
    sp_mem none;
    fit.alloc = sp_mem_init(&none, NULL, 1);
    assert_false(sp_fit_device(&fit, &made, 0, 100));
    assert_int_equal(made.sample_count, 0);
    fit.alloc = alloc;
    assert_true(sp_fit_device(&fit, &made, 0, 100));
    assert_true(made.sample_count > 80 && made.sample_count <= 100);
    assert_true(fabs(made.devices[0].kinds[SPAROA_CLASS_ELTWISE].bandwidth - 0.5) < 0.05);
    for (int i = 20; i < 199; i++) {
        const sp_work w = {nodes[i].kind, nodes[i].cost, 0, 0, sp_profile_key(&nodes[i])};
        double ns = sp_platform_cost(&made, 0, SP_REGIME_EAGER, &w, NULL).ns;
        if (fabs(ns / nodes[i].measured_ns[0] - 1) > 0.08)
            fail_msg("node %d: %g ns, measured %g", i, ns, nodes[i].measured_ns[0]);
    }
    sp_fit_free(&fit);
}

/* What samples of one operator have in common beside its name; the same work measured in several
 * networks is one sample, the median. */
static void alike(void **state)
{
    char label[24];
    sp_profile_node n = {.op = "Conv", .op_class = SPAROA_CLASS_CONV, .kernel = 3, .stride = 2};
    assert_true(sp_profile_label(&n, label, sizeof label));
    assert_string_equal(label, "Conv.k3s2");
    n = (sp_profile_node){
        .op = "Attention", .op_class = SPAROA_CLASS_ATTENTION, .height = 197, .width = 64};
    assert_true(sp_profile_label(&n, label, sizeof label));
    assert_string_equal(label, "Attention.t7");
    n = (sp_profile_node){.op = "Transpose", .variant = sp_profile_variant("rows5")};
    assert_true(sp_profile_label(&n, label, sizeof label));
    assert_string_equal(label, "Transpose.rows5");
    assert_null(sp_profile_variant("rows13"));
    assert_null(sp_profile_variant("rows5 "));
    assert_non_null(sp_profile_variant("mixed"));
    n.op = "AnOperatorOfALongNameIndeed";
    assert_false(sp_profile_label(&n, label, sizeof label));

    static sp_platform made;
    sp_fit fit = {.alloc = alloc};
    sp_profile_node nodes[4] = {{0}};
    sp_profile p = {.alloc = alloc, .node_count = 4, .nodes = nodes};
    const double ns[4] = {1000, 2000, 9000, 500};
    for (int i = 0; i < 4; i++) {
        nodes[i] = (sp_profile_node){.op = "Relu",
                                     .kind = SPAROA_CLASS_ELTWISE,
                                     .op_class = SPAROA_CLASS_ELTWISE,
                                     .cost = {1e3, i < 3 ? 4e3 : 4e2, 0, 4e3}};
        nodes[i].measured_ns[0] = ns[i];
    }
    memset(&made, 0, sizeof made);
    made.device_count = 1;
    made.devices[0].peak_flops = made.devices[0].bandwidth = 1e9;
    for (int k = 0; k < SP_KIND_COUNT; k++) made.devices[0].kinds[k].bandwidth = 1;
    assert_true(sp_fit_add(&fit, &p, 0) && sp_fit_device(&fit, &made, 0, 100));
    assert_int_equal(made.sample_count, 2);
    const sp_work w = {SPAROA_CLASS_ELTWISE, nodes[0].cost, 0, 0, sp_op_key("Relu")};
    assert_true(fabs(sp_platform_cost(&made, 0, SP_REGIME_EAGER, &w, NULL).ns / 2000 - 1) < 0.02);
    sp_fit_free(&fit);
}

/* The networks that calibration measures are graphs that infer. */
static void networks(void **state)
{
    sparoa_error err = {0};
    for (uint32_t i = 0; i < 48; i++) {
        sp_graph *g = sp_micro_graph(&alloc, i, 0.5);
        assert_non_null(g);
        if (sp_graph_verify(g, &err) || sp_graph_infer(g, &err)) fail_msg("%u: %s", i, err.message);
        assert_true(sp_known(&g->values[g->outputs[0]].fact));
        sp_graph_destroy(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features), cmocka_unit_test(round_trip),     cmocka_unit_test(priced),
        cmocka_unit_test(recorded), cmocka_unit_test(quadrants),      cmocka_unit_test(fitted),
        cmocka_unit_test(alike),    cmocka_unit_test(damaged_tables), cmocka_unit_test(networks)};
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
