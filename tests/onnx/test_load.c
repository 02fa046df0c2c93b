/* The loader on small models: what graphs come out, and how bad models are refused. */
#include "model_builder.h"

static void simple(void **state)
{
    (void)state;
    mb_loaded l;
    mb_load(&l, mb_relu());
    if (l.status) fail_msg("%s", l.err.message);
    const sp_graph *g = l.graph;
    assert_int_equal(g->node_count, 1);
    assert_string_equal(g->nodes[0].name, "relu");
    assert_int_equal(g->input_count, 1);
    const sp_value *x = &g->values[g->inputs[0]];
    assert_string_equal(x->name, "x");
    assert_int_equal(x->fact.dtype, SPAROA_FLOAT32);
    assert_int_equal(x->fact.rank, 2);
    assert_int_equal(x->fact.dims[0], -1);
    assert_int_equal(x->fact.dims[1], 4);
    assert_string_equal(x->dim_names[0], "N");
    assert_null(x->dim_names[1]);
    assert_string_equal(g->values[g->outputs[0]].name, "y");
    assert_string_equal(l.meta.producer, "tests 1.0");
    assert_int_equal(l.meta.opset, 17);
    mb_unload(&l);
}

static void initializer_as_input(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_input(m->graph, "w", SPAROA_FLOAT32, 1, (int64_t[]){2});
    mb_input(m->graph, "b", SPAROA_FLOAT32, 1, (int64_t[]){2});
    mb_input(m->graph, "a", SPAROA_FLOAT32, 1, (int64_t[]){2});
    mb_raw(mb_initializer(m->graph, "w", SPAROA_FLOAT32, 1, (int64_t[]){2}), (float[]){1, 2}, 8);
    mb_add(m->graph, "Add", "", "a,w", "t");
    mb_add(m->graph, "Add", "", "t,b", "y");
    mb_output(m->graph, "y");
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    assert_int_equal(l.graph->input_count, 2);
    assert_string_equal(l.graph->values[l.graph->inputs[0]].name, "b");
    assert_string_equal(l.graph->values[l.graph->inputs[1]].name, "a");
    const sp_value *w = &l.graph->values[mb_value(l.graph, "w")];
    assert_int_equal(w->kind, SP_VALUE_CONST);
    assert_true(((float *)w->fact.data)[1] == 2);
    mb_unload(&l);
}

static void unsorted_and_optional(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, 0, NULL);
    mb_add(m->graph, "Clip", "last", "t,,x", "y");
    mb_add(m->graph, "Clip", "first", "x,,", "t");
    mb_add(m->graph, "Split", "split", "x", ",s");
    mb_output(m->graph, "y");
    mb_output(m->graph, "s");
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    assert_string_equal(l.graph->nodes[0].name, "first");
    assert_int_equal(l.graph->nodes[0].n_in, 1);
    assert_string_equal(l.graph->nodes[1].name, "last");
    assert_int_equal(l.graph->nodes[1].in[1], SP_NO_ID);
    assert_int_equal(l.graph->nodes[2].n_out, 2);
    assert_int_not_equal(l.graph->nodes[2].out[0], SP_NO_ID); /* the operator always writes it */
    mb_unload(&l);
}

static void structure_errors(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_add(m->graph, "Relu", "again", "x", "y");
    mb_refused(m, SPAROA_INVALID_GRAPH, "'y' is defined twice");
    m = mb_relu();
    mb_input(m->graph, "x", SPAROA_FLOAT32, 0, NULL);
    mb_refused(m, SPAROA_INVALID_GRAPH, "'x' is defined twice");
    m = mb_relu();
    mb_add(m->graph, "Relu", "other", "nowhere", "z");
    mb_refused(m, SPAROA_INVALID_GRAPH, "Relu 'other' uses value 'nowhere'");
    m = mb_relu();
    mb_output(m->graph, "nothing");
    mb_refused(m, SPAROA_INVALID_GRAPH, "'nothing'");
    m = mb_relu();
    mb_add(m->graph, "Add", "c1", "x,q", "p");
    mb_add(m->graph, "Relu", "c2", "p", "q");
    mb_refused(m, SPAROA_INVALID_GRAPH, "cycle");
    m = mb_relu();
    mb_add(m->graph, "Add", "few", "x", "p");
    mb_refused(m, SPAROA_INVALID_GRAPH, "Add 'few' has 1 inputs");
    m = mb_relu();
    mb_add(m->graph, "Add", "left", ",x", "p");
    mb_refused(m, SPAROA_INVALID_GRAPH, "left out");
    m = mb_relu();
    mb_add(m->graph, "Concat", "left", "x,,x", "p");
    mb_refused(m, SPAROA_INVALID_GRAPH, "left out");
    m = mb_relu();
    mb_int(m->graph->node[0], "sp.fused", 1);
    mb_refused(m, SPAROA_INVALID_GRAPH, "sp.fused");
    m = mb_relu();
    mb_int(m->graph->node[0], "a", 1);
    mb_int(m->graph->node[0], "a", 2);
    mb_refused(m, SPAROA_INVALID_GRAPH, "twice");
}

static void versions(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    m->ir_version = 2;
    mb_refused(m, SPAROA_UNSUPPORTED_VERSION, "IR version 2");
    m = mb_relu();
    m->opset_import[0]->version = 0;
    mb_refused(m, SPAROA_UNSUPPORTED_VERSION, "opset version 0");
    m = mb_relu();
    m->n_opset_import = 0;
    mb_refused(m, SPAROA_UNSUPPORTED_VERSION, "opset_import");
    m = mb_relu();
    m->opset_import[0]->version = 1000;
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    assert_int_equal(l.graph->nodes[0].version, 1000);
    mb_unload(&l);
}

static void all_unsupported_operators_are_named(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_import(m, "com.acme", 3);
    mb_add(m->graph, "Foo", "foo1", "x", "f1");
    mb_add(m->graph, "Foo", "foo2", "x", "f2");
    mb_add(m->graph, "Bar", "bar", "x", "b")->domain = mb_str("com.acme");
    mb_node *branch = mb_add(m->graph, "If", "if", "x", "i");
    mb_add(mb_subgraph(branch, "then_branch"), "Baz", "inner", "x", "z");
    mb_refused(m, SPAROA_UNSUPPORTED_OP,
               "3 operators are not supported: Foo (ai.onnx 17) at node 'foo1' and 1 more; "
               "Bar (com.acme 3) at node 'bar'; Baz (ai.onnx 17) at node 'inner'");
}

static void types(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_tensor *t = mb_initializer(m->graph, "s", 8, 0, NULL); /* string */
    mb_loaded l;
    mb_load(&l, m);
    assert_int_equal(l.status, SPAROA_OK); /* nobody uses it */
    mb_unload(&l);
    mb_add(m->graph, "Relu", "user", "s", "z");
    mb_refused(m, SPAROA_UNSUPPORTED_TYPE, "Relu 'user' uses constant 's'");
    t->data_type = 17;
    mb_refused(m, SPAROA_UNSUPPORTED_TYPE, "'s'");
    m = mb_relu();
    mb_input(m->graph, "text", 8, 1, (int64_t[]){-1});
    mb_refused(m, SPAROA_UNSUPPORTED_TYPE, "input 'text' has element type string");
    m = mb_relu();
    m->graph->input[0]->type->tensor_type = NULL;
    m->graph->input[0]->type->has_sequence_type = 1;
    mb_refused(m, SPAROA_UNSUPPORTED_TYPE, "sequence");
    m = mb_relu();
    mb_input(m->graph, "deep", SPAROA_FLOAT32, 9, (int64_t[9]){0});
    mb_refused(m, SPAROA_TOO_LARGE, "9 dimensions");
    m = mb_relu();
    mb_input(m->graph, "huge", SPAROA_FLOAT32, 3, (int64_t[]){1ll << 31, 1ll << 31, 1ll << 31});
    mb_refused(m, SPAROA_TOO_LARGE, "'huge'");
}

static void attributes(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_node *n = m->graph->node[0];
    mb_int(n, "i", -7);
    mb_attr *a = mb_attribute(n, "f", 0); /* files of old have no type */
    a->has_type = 0;
    a->has_f = 1;
    a->f = 2.5f;
    a = mb_attribute(n, "s", SPAROA_ATTR_STRING);
    a->has_s = 1;
    a->s = (ProtobufCBinaryData){3, (uint8_t *)"abc"};
    a = mb_attribute(n, "is", SPAROA_ATTR_INTS);
    a->n_ints = 2;
    a->ints = (int64_t[]){5, 6};
    a = mb_attribute(n, "ss", SPAROA_ATTR_STRINGS);
    a->n_strings = 2;
    a->strings = (ProtobufCBinaryData[]){{1, (uint8_t *)"p"}, {2, (uint8_t *)"qr"}};
    a = mb_attribute(n, "t", SPAROA_ATTR_TENSOR);
    a->t = mb_make_tensor("", SPAROA_INT64, 1, (int64_t[]){1});
    mb_raw(a->t, (int64_t[]){9}, 8);
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    sparoa_node view;
    sparoa_tensor *in[1], *out[1];
    sp_graph_node_view(l.graph, &l.graph->nodes[0], in, out, NULL, &view);
    assert_int_equal(sparoa_attr_int(&view, "i", 0), -7);
    assert_true(sparoa_attr_float(&view, "f", 0) == 2.5f);
    assert_string_equal(sparoa_attr_string(&view, "s", ""), "abc");
    size_t count;
    assert_int_equal(sparoa_attr_ints(&view, "is", &count)[1], 6);
    assert_int_equal(count, 2);
    assert_string_equal(sparoa_attr_find(&view, "ss")->v.strings[1], "qr");
    assert_int_equal(((int64_t *)sparoa_attr_tensor(&view, "t")->data)[0], 9);
    mb_unload(&l);
    mb_attribute(n, "tp", 13); /* TYPE_PROTO */
    mb_refused(m, SPAROA_UNSUPPORTED_TYPE, "attribute 'tp'");
}

static void constants(void **state)
{
    (void)state;
    mb_model *m = mb_new();
    mb_node *n = mb_add(m->graph, "Constant", "c", "", "c");
    mb_attr *a = mb_attribute(n, "value_floats", SPAROA_ATTR_FLOATS);
    a->n_floats = 3;
    a->floats = (float[]){1, 2, 3};
    mb_int(mb_add(m->graph, "Constant", "d", "", "d"), "value_int", 42);
    mb_attr *s = mb_attribute(mb_add(m->graph, "Constant", "text", "", "text"), "value_string",
                              SPAROA_ATTR_STRING);
    s->has_s = 1;
    mb_add(m->graph, "Add", "", "c,d", "y");
    mb_output(m->graph, "y");
    mb_output(m->graph, "c");
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    assert_int_equal(l.graph->node_count, 1);
    const sp_value *c = &l.graph->values[mb_value(l.graph, "c")],
                   *d = &l.graph->values[mb_value(l.graph, "d")];
    assert_int_equal(c->kind, SP_VALUE_CONST);
    assert_int_equal(c->fact.rank, 1);
    assert_int_equal(c->fact.dims[0], 3);
    assert_int_equal(d->fact.rank, 0);
    assert_int_equal(*(int64_t *)d->fact.data, 42);
    mb_unload(&l);
    mb_add(m->graph, "Relu", "", "text", "z");
    mb_refused(m, SPAROA_UNSUPPORTED_TYPE, "'text'");
}

/* ---- subgraphs ---- */

static void captures(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_raw(mb_initializer(m->graph, "w", SPAROA_FLOAT32, 0, NULL), (float[]){3}, 4);
    mb_node *outer = mb_add(m->graph, "If", "outer", "x", "r");
    mb_graph *g1 = mb_subgraph(outer, "then_branch");
    mb_node *inner = mb_add(g1, "If", "inner", "y", "i");
    mb_graph *g2 = mb_subgraph(inner, "then_branch");
    mb_add(g2, "Add", "deep", "y,w", "o"); /* y through two levels, w a constant */
    mb_output(g2, "o");
    mb_output(g1, "i");
    mb_output(m->graph, "r");
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    const sp_gnode *n = &l.graph->nodes[1];
    assert_string_equal(n->name, "outer");
    assert_int_equal(n->n_explicit, 1);
    assert_int_equal(n->n_in, 2);
    assert_string_equal(l.graph->values[n->in[1]].name, "y");
    const sp_graph *s1 = n->subgraphs[0];
    assert_int_equal(s1->capture_count, 1);
    assert_int_equal(s1->capture_inputs[0], 1);
    assert_int_equal(s1->values[s1->capture_values[0]].kind, SP_VALUE_CAPTURE);
    const sp_gnode *k = &s1->nodes[0];
    assert_int_equal(k->n_explicit, 1);
    assert_int_equal(k->n_in, 2);
    const sp_graph *s2 = k->subgraphs[0];
    assert_int_equal(s2->capture_count, 1);
    const sp_value *w = &s2->values[mb_value(s2, "w")];
    assert_int_equal(w->kind, SP_VALUE_CONST);
    assert_ptr_equal(w->fact.data, l.graph->values[mb_value(l.graph, "w")].fact.data);
    mb_unload(&l);
    mb_add(g2, "Relu", "bad", "nobody", "b");
    mb_refused(m, SPAROA_INVALID_GRAPH, "Relu 'bad' uses value 'nobody'");
}

static void subgraph_names_hide_outer_ones(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_node *loop = mb_add(m->graph, "Loop", "loop", ",x", "r");
    mb_graph *body = mb_subgraph(loop, "body");
    mb_input(body, "x", SPAROA_INT64, -1, NULL);
    mb_add(body, "Relu", "", "x", "y");
    mb_output(body, "y");
    mb_output(m->graph, "r");
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    const sp_gnode *n = &l.graph->nodes[1];
    assert_int_equal(n->n_in, 2);
    assert_int_equal(n->in[0], SP_NO_ID);
    assert_int_equal(n->subgraphs[0]->capture_count, 0);
    assert_int_equal(n->subgraphs[0]->input_count, 1);
    mb_unload(&l);
}

static void deep_nesting(void **state)
{
    (void)state;
    for (int depth = 10; depth <= 3000; depth *= depth < 1000 ? 10 : 3) {
        mb_model *m = mb_relu();
        mb_graph *g = m->graph;
        for (int i = 0; i < depth; i++) {
            mb_node *n = mb_add(g, "If", "", "x", "r");
            mb_output(g, "r");
            g = mb_subgraph(n, "then_branch");
        }
        mb_add(g, "Relu", "", "x", "r");
        mb_output(g, "r");
        mb_loaded l;
        mb_load(&l, m);
        assert_int_equal(l.status, depth == 10 ? SPAROA_OK : SPAROA_TOO_LARGE);
        mb_unload(&l);
        mb_end();
    }
}

/* ---- functions ---- */

static mb_node *call(mb_graph *g, const char *function, const char *name, const char *in,
                     const char *out)
{
    mb_node *n = mb_add(g, function, name, in, out);
    n->domain = mb_str("local");
    return n;
}

static void functions(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_function *inner = mb_new_function(m, "inner", "a", "b");
    mb_attr *ref = mb_attribute(mb_body(inner, "Relu", "r", "a", "b"), "k", SPAROA_ATTR_INT);
    ref->ref_attr_name = mb_str("depth");
    mb_attr *fallback = mb_int(NULL, "depth", 11);
    MB_APPEND(inner->attribute_proto, inner->n_attribute_proto, fallback);
    mb_function *f = mb_new_function(m, "twice", "a,opt", "b,same");
    mb_body(f, "Clip", "clip", "a,opt", "t");
    mb_node *n = mb_body(f, "inner", "call1", "t", "u");
    n->domain = mb_str("local");
    mb_attribute(n, "depth", SPAROA_ATTR_INT)->ref_attr_name = mb_str("level");
    n = mb_body(f, "inner", "call2", "u", "b");
    n->domain = mb_str("local");
    mb_body(f, "Identity", "id", "t", "same");
    mb_int(call(m->graph, "twice", "A", "y", "p,q"), "level", 5);
    mb_int(call(m->graph, "twice", "B", "p,x", "z"), "level", 6);
    mb_output(m->graph, "z");
    mb_output(m->graph, "q");
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    const sp_graph *g = l.graph;
    assert_int_equal(g->node_count, 9);
    int level5 = 0, fallbacks = 0;
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *k = &g->nodes[i];
        if (strcmp(k->name, "A/call1/r") == 0) level5 = (int)k->attrs[0].v.i;
        if (k->n_attrs && k->attrs[0].v.i == 11) fallbacks++;
        if (strcmp(k->name, "A/clip") == 0)
            assert_int_equal(k->n_explicit > 1 ? k->in[1] : SP_NO_ID, SP_NO_ID);
        for (size_t j = 0; j < g->value_count; j++)
            for (size_t h = 0; h < j; h++)
                assert_string_not_equal(g->values[j].name, g->values[h].name);
    }
    assert_int_equal(level5, 5);
    assert_int_equal(fallbacks, 2);
    mb_unload(&l);
}

static void function_results(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_new_function(m, "through", "a", "a"); /* hands its input through */
    call(m->graph, "through", "t", "y", "z");
    mb_function *c = mb_new_function(m, "seven", "", "s"); /* gives a constant */
    mb_int(mb_body(c, "Constant", "c", "", "s"), "value_int", 7);
    call(m->graph, "seven", "s", "", "seven");
    mb_output(m->graph, "z");
    mb_output(m->graph, "seven");
    mb_loaded l;
    mb_load(&l, m);
    if (l.status) fail_msg("%s", l.err.message);
    assert_int_equal(l.graph->node_count, 2);
    assert_string_equal(l.graph->nodes[1].op_type, "Identity");
    assert_int_equal(l.graph->values[mb_value(l.graph, "seven")].kind, SP_VALUE_CONST);
    mb_unload(&l);
    mb_body(c, "Relu", "again", "s", "s");
    mb_refused(m, SPAROA_INVALID_GRAPH, "'s' is defined twice");
    c->n_node = 0;
    mb_refused(m, SPAROA_INVALID_GRAPH, "output 0 of function 'seven'");
}

static void function_limits(void **state)
{
    (void)state;
    mb_model *m = mb_relu();
    mb_function *f = mb_new_function(m, "self", "a", "b");
    mb_body(f, "self", "", "a", "b")->domain = mb_str("local");
    call(m->graph, "self", "c", "y", "z");
    mb_refused(m, SPAROA_TOO_LARGE, "nested deeper");
    m = mb_relu();
    char name[16] = "f0", next[16]; /* 2^40 calls */
    call(m->graph, name, "c", "y", "z");
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "f%d", i);
        snprintf(next, sizeof next, "f%d", i + 1);
        f = mb_new_function(m, name, "a", "c");
        mb_body(f, i < 39 ? next : "Relu", "", "a", "b")->domain = i < 39 ? mb_str("local") : NULL;
        mb_body(f, i < 39 ? next : "Relu", "", "b", "c")->domain = i < 39 ? mb_str("local") : NULL;
    }
    mb_refused(m, SPAROA_TOO_LARGE, "after its functions are inlined");
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
        cmocka_unit_test_teardown(simple, end),
        cmocka_unit_test_teardown(initializer_as_input, end),
        cmocka_unit_test_teardown(unsorted_and_optional, end),
        cmocka_unit_test_teardown(structure_errors, end),
        cmocka_unit_test_teardown(versions, end),
        cmocka_unit_test_teardown(all_unsupported_operators_are_named, end),
        cmocka_unit_test_teardown(types, end),
        cmocka_unit_test_teardown(attributes, end),
        cmocka_unit_test_teardown(constants, end),
        cmocka_unit_test_teardown(captures, end),
        cmocka_unit_test_teardown(subgraph_names_hide_outer_ones, end),
        cmocka_unit_test_teardown(deep_nesting, end),
        cmocka_unit_test_teardown(functions, end),
        cmocka_unit_test_teardown(function_results, end),
        cmocka_unit_test_teardown(function_limits, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
