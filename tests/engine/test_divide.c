/* One operator divided over two devices: every operator that can be, along every axis that it has,
 * gives what it gives whole; what cannot be divided so is refused by name. */
#include <unistd.h>

#include "tests/engine/hand_plan.h"

enum { CHANNELS = 1 << SP_SPLIT_CHANNELS, ROWS = 1 << SP_SPLIT_ROWS, BATCH = 1 << SP_SPLIT_BATCH };
#define ALL (CHANNELS | ROWS | BATCH)

/* A model whose node "it" is divided; x (and z) are its inputs, y its output. */
typedef struct test_case {
    const char *name;
    void (*build)(mb_graph *g);
    int rank, z_rank;
    int64_t x[4], z[4]; /* shapes; z_rank 0: there is no z */
    int axes;           /* along which it can be divided */
} test_case;

static void weights(mb_graph *g, const char *name, int rank, const int64_t *dims)
{
    mb_random(g, name, rank, dims, sp_rng_stream(7, (uint64_t)name[0]), -0.5, 0.5);
}

static void conv(mb_graph *g)
{
    weights(g, "w", MB_DIMS(7, 5, 3, 3));
    weights(g, "b", MB_DIMS(7));
    mb_node *n = mb_add(g, "Conv", "it", "x,w,b", "y");
    mb_ints(n, "strides", 2, (int64_t[]){2, 2});
    mb_ints(n, "pads", 4, (int64_t[]){1, 0, 1, 2});
}

static void conv_same(mb_graph *g)
{
    weights(g, "w", MB_DIMS(4, 5, 3, 2));
    mb_node *n = mb_add(g, "Conv", "it", "x,w", "y");
    mb_ints(n, "dilations", 2, (int64_t[]){2, 1});
    mb_string(n, "auto_pad", "SAME_LOWER");
}

static void conv_groups(mb_graph *g)
{
    weights(g, "w", MB_DIMS(8, 2, 3, 3));
    mb_int(mb_add(g, "Conv", "it", "x,w", "y"), "group", 2);
}

static void conv_line(mb_graph *g)
{
    weights(g, "w", MB_DIMS(6, 5, 4));
    mb_ints(mb_add(g, "Conv", "it", "x,w", "y"), "pads", 2, (int64_t[]){3, 0});
}

static void conv_padding(mb_graph *g)
{
    weights(g, "w", MB_DIMS(6, 5, 1, 1));
    mb_ints(mb_add(g, "Conv", "it", "x,w", "y"), "pads", 4, (int64_t[]){1, 1, 1, 1});
}

/* Fused into one node: convolution, residual, activation. */
static void conv_residual(mb_graph *g)
{
    weights(g, "w", MB_DIMS(5, 5, 3, 3));
    mb_ints(mb_add(g, "Conv", "c", "x,w", "c"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    mb_add(g, "Add", "a", "c,z", "a");
    mb_add(g, "Relu", "it", "a", "y");
}

static void conv_one_channel(mb_graph *g)
{
    weights(g, "w", MB_DIMS(1, 5, 3, 3));
    mb_add(g, "Conv", "it", "x,w", "y");
}

static void conv_transpose(mb_graph *g)
{
    weights(g, "w", MB_DIMS(5, 6, 3, 3));
    weights(g, "b", MB_DIMS(6));
    mb_ints(mb_add(g, "ConvTranspose", "it", "x,w,b", "y"), "strides", 2, (int64_t[]){2, 2});
}

/* Weights that are not constant are cut as they come. */
static void conv_computed(mb_graph *g)
{
    mb_add(g, "Conv", "it", "x,z", "y");
}

static void gemm_row(mb_graph *g)
{
    weights(g, "w", MB_DIMS(9, 5));
    weights(g, "c", MB_DIMS(1, 9));
    mb_int(mb_add(g, "Gemm", "it", "x,w,c", "y"), "transB", 1);
}

static void gemm_column(mb_graph *g)
{
    weights(g, "w", MB_DIMS(5, 9));
    weights(g, "c", MB_DIMS(4, 1));
    mb_float(mb_add(g, "Gemm", "it", "x,w,c", "y"), "beta", 0.5f);
}

static void gemm_turned(mb_graph *g)
{
    weights(g, "w", MB_DIMS(4, 9));
    weights(g, "c", MB_DIMS(5, 9));
    mb_int(mb_add(g, "Gemm", "it", "x,w,c", "y"), "transA", 1);
}

static void matmul(mb_graph *g)
{
    weights(g, "w", MB_DIMS(5, 6));
    weights(g, "b", MB_DIMS(6));
    mb_add(g, "MatMul", "m", "x,w", "m");
    mb_add(g, "Add", "it", "m,b", "y"); /* fused into the product */
}

static void matmul_two(mb_graph *g)
{
    mb_add(g, "MatMul", "it", "x,z", "y");
}

/* ---- 8 bits: quantised here, and made float again ---- */

static void bytes(mb_graph *g, const char *name, int32_t dtype, int rank, const int64_t *dims)
{
    int64_t count = mb_product(rank, dims);
    uint8_t *p = mb_alloc((size_t)count);
    for (int64_t i = 0; i < count; i++)
        p[i] = (uint8_t)(256 * sp_rng_uniform(sp_rng_stream(8, (uint64_t)name[0]), (uint64_t)i));
    mb_raw(mb_initializer(g, name, dtype, rank, dims), p, (size_t)count);
}

static void scales(mb_graph *g, const char *name, int rank, const int64_t *dims)
{
    mb_random(g, name, rank, dims, sp_rng_stream(9, (uint64_t)name[0]), 0.01, 0.02);
}

/* x as 8 bits, "xq", with one scale "xs" and zero point "xz"; those of the result are "ys", "yz".
 */
static void quantised_x(mb_graph *g)
{
    mb_scalar(g, "xs", 0.01f);
    mb_scalar(g, "ys", 0.05f);
    mb_raw(mb_initializer(g, "xz", SPAROA_UINT8, 0, NULL), &(uint8_t){121}, 1);
    mb_raw(mb_initializer(g, "yz", SPAROA_UINT8, 0, NULL), &(uint8_t){130}, 1);
    mb_add(g, "QuantizeLinear", "quantise", "x,xs,xz", "xq");
}

static void qconv(mb_graph *g)
{
    int32_t *b = mb_alloc(7 * sizeof *b);
    for (int i = 0; i < 7; i++) b[i] = 300 * i - 700;
    quantised_x(g);
    bytes(g, "w", SPAROA_INT8, MB_DIMS(7, 5, 3, 3));
    bytes(g, "z", SPAROA_INT8, MB_DIMS(7));
    scales(g, "s", MB_DIMS(7));
    mb_raw(mb_initializer(g, "b", SPAROA_INT32, MB_DIMS(7)), b, 7 * sizeof *b);
    mb_node *n = mb_add(g, "QLinearConv", "it", "xq,xs,xz,w,s,z,ys,yz,b", "yq");
    mb_ints(n, "pads", 4, (int64_t[]){1, 0, 1, 2});
    mb_add(g, "DequantizeLinear", "float", "yq,ys,yz", "y");
}

/* Without zero points of the weights, by a fast kernel. */
static void qconv_symmetric(mb_graph *g)
{
    quantised_x(g);
    bytes(g, "w", SPAROA_INT8, MB_DIMS(8, 5, 3, 3));
    scales(g, "s", MB_DIMS(8));
    mb_raw(mb_initializer(g, "z", SPAROA_INT8, 0, NULL), &(int8_t){0}, 1);
    mb_add(g, "QLinearConv", "it", "xq,xs,xz,w,s,z,ys,yz", "yq");
    mb_add(g, "DequantizeLinear", "float", "yq,ys,yz", "y");
}

static void conv_integer(mb_graph *g)
{
    quantised_x(g);
    bytes(g, "w", SPAROA_UINT8, MB_DIMS(6, 5, 3, 3));
    bytes(g, "z", SPAROA_UINT8, MB_DIMS(6));
    mb_ints(mb_add(g, "ConvInteger", "it", "xq,w,xz,z", "yi"), "strides", 2, (int64_t[]){2, 1});
    mb_int(mb_add(g, "Cast", "float", "yi", "y"), "to", SPAROA_FLOAT32);
}

static void qmatmul(mb_graph *g)
{
    quantised_x(g);
    bytes(g, "w", SPAROA_INT8, MB_DIMS(5, 6));
    bytes(g, "z", SPAROA_INT8, MB_DIMS(6));
    scales(g, "s", MB_DIMS(6));
    mb_add(g, "QLinearMatMul", "it", "xq,xs,xz,w,s,z,ys,yz", "yq");
    mb_add(g, "DequantizeLinear", "float", "yq,ys,yz", "y");
}

/* A zero point for each row and for each column of every matrix. */
static void matmul_integer(mb_graph *g)
{
    quantised_x(g);
    bytes(g, "a", SPAROA_UINT8, MB_DIMS(3, 4, 1));
    bytes(g, "w", SPAROA_INT8, MB_DIMS(3, 5, 6));
    bytes(g, "z", SPAROA_INT8, MB_DIMS(3, 1, 6));
    mb_add(g, "MatMulInteger", "it", "xq,w,a,z", "yi");
    mb_int(mb_add(g, "Cast", "float", "yi", "y"), "to", SPAROA_FLOAT32);
}

/* A row's zero points go with rows alone, also where there are as many as for all matrices. */
static void matmul_integer_rows(mb_graph *g)
{
    quantised_x(g);
    bytes(g, "a", SPAROA_UINT8, MB_DIMS(4));
    bytes(g, "w", SPAROA_INT8, MB_DIMS(5, 6));
    bytes(g, "z", SPAROA_INT8, MB_DIMS(6, 1));
    mb_add(g, "MatMulInteger", "it", "xq,w,a,z", "yi");
    mb_int(mb_add(g, "Cast", "float", "yi", "y"), "to", SPAROA_FLOAT32);
}

/* The same for the columns of every matrix, in a shape that does not follow the stack's. */
static void matmul_integer_shape(mb_graph *g)
{
    quantised_x(g);
    bytes(g, "w", SPAROA_INT8, MB_DIMS(3, 5, 6));
    bytes(g, "z", SPAROA_INT8, MB_DIMS(1, 3, 6));
    mb_add(g, "MatMulInteger", "it", "xq,w,xz,z", "yi");
    mb_int(mb_add(g, "Cast", "float", "yi", "y"), "to", SPAROA_FLOAT32);
}

static void relu(mb_graph *g)
{
    mb_add(g, "Relu", "it", "x", "y");
}

static const test_case cases[] = {
    {"conv", conv, 4, 0, {2, 5, 9, 8}, {0}, ALL},
    {"conv, SAME, dilated", conv_same, 4, 0, {2, 5, 9, 8}, {0}, ALL},
    {"conv, groups", conv_groups, 4, 0, {3, 4, 7, 7}, {0}, ROWS | BATCH},
    {"conv, one dimension", conv_line, 3, 0, {2, 5, 11}, {0}, ALL},
    {"conv, rows of padding alone", conv_padding, 4, 0, {2, 5, 4, 4}, {0}, CHANNELS | BATCH},
    {"conv, residual", conv_residual, 4, 4, {2, 5, 6, 6}, {2, 5, 6, 6}, ALL},
    {"conv, one channel and image", conv_one_channel, 4, 0, {1, 5, 6, 6}, {0}, ROWS},
    {"transposed conv", conv_transpose, 4, 0, {2, 5, 4, 4}, {0}, CHANNELS | BATCH},
    {"conv, weights not constant", conv_computed, 4, 4, {2, 5, 6, 6}, {4, 5, 3, 3}, ALL},
    {"gemm, row", gemm_row, 2, 0, {4, 5}, {0}, ALL},
    {"gemm, column", gemm_column, 2, 0, {4, 5}, {0}, ALL},
    {"gemm, turned", gemm_turned, 2, 0, {4, 5}, {0}, ALL},
    {"matmul, bias", matmul, 3, 0, {3, 4, 5}, {0}, ALL},
    {"matmul, two stacks", matmul_two, 4, 4, {2, 3, 4, 5}, {1, 3, 5, 6}, ALL},
    {"matmul, a stack on the right", matmul_two, 2, 3, {4, 5}, {2, 5, 6}, ALL},
    {"matmul, no stack", matmul_two, 2, 2, {4, 5}, {5, 6}, ALL},
    {"8-bit conv", qconv, 4, 0, {2, 5, 9, 8}, {0}, ALL},
    {"8-bit conv, symmetric", qconv_symmetric, 4, 0, {2, 5, 9, 8}, {0}, ALL},
    {"integer conv", conv_integer, 4, 0, {2, 5, 9, 8}, {0}, ALL},
    {"8-bit product", qmatmul, 3, 0, {3, 4, 5}, {0}, ALL},
    {"integer product, stacks", matmul_integer, 3, 0, {3, 4, 5}, {0}, ALL},
    {"integer product, columns another way",
     matmul_integer_rows,
     3,
     0,
     {3, 4, 5},
     {0},
     ROWS | BATCH},
    {"integer product, stacks in another shape",
     matmul_integer_shape,
     3,
     0,
     {3, 4, 5},
     {0},
     CHANNELS | ROWS},
    {"no such operator", relu, 2, 0, {4, 5}, {0}, 0},
};

typedef struct bed {
    const test_case *c;
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_tensor in[2], want;
    size_t inputs;
    sparoa_session *session; /* with device emu0 */
    sparoa_plan *plan;
    uint32_t node; /* that is divided */
    char name[64];
} bed;

static void bed_make(bed *b, const test_case *c)
{
    sparoa_error err;
    memset(b, 0, sizeof *b);
    b->c = c;
    sparoa_runtime_options ro = ts_options(&b->memory, 2);
    ts_ok(sparoa_runtime_create(&ro, &b->rt, &err), err);
    ts_emu(b->rt, "delay_us=5");
    mb_model *m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, c->rank, c->x);
    if (c->z_rank) mb_input(m->graph, "z", SPAROA_FLOAT32, c->z_rank, c->z);
    c->build(m->graph);
    mb_output(m->graph, "y");
    b->model = ts_load(b->rt, m);
    b->in[0] = ts_random(c->rank, c->x, 1);
    b->inputs = 1;
    if (c->z_rank) b->in[b->inputs++] = ts_random(c->z_rank, c->z, 2);
    sparoa_session *cpu = ts_session(b->model, NULL, 0);
    sparoa_tensor out = {0};
    ts_ok(sparoa_session_run(cpu, b->in, b->inputs, &out, 1, &err), err);
    b->want = ts_copy(&out);
    sparoa_session_destroy(cpu);
    sparoa_session_options o = {.struct_size = sizeof o, .device = "emu0"};
    ts_ok(sparoa_session_create(b->model, &o, &b->session, &err), err);
    b->plan = hp_make(b->rt, b->session, "emu0");
    const sp_plan *p = b->plan->p;
    for (uint32_t i = 0; i < p->node_count; i++)
        if (sp_divides(p->nodes[i].op)) b->node = i;
    snprintf(b->name, sizeof b->name, "%s", p->nodes[b->node].name);
}

static void bed_clear(bed *b)
{
    for (size_t i = 0; i < b->inputs; i++) free(b->in[i].data);
    free(b->want.data);
    sparoa_plan_destroy(b->plan);
    sparoa_session_destroy(b->session);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    ts_balanced(&b->memory);
    mb_end();
}

static void check_parts(bed *b, int first)
{
    int parts = 0;
    size_t length = strlen(b->name);
    for (size_t i = 0; i < sparoa_session_node_count(b->session); i++) {
        sparoa_node_info info;
        assert_int_equal(sparoa_session_node(b->session, i, &info), SPAROA_OK);
        if (strncmp(info.name, b->name, length) || strncmp(info.name + length, "/part", 5))
            continue;
        parts++;
        bool second = info.name[length + 5] == '1';
        assert_string_equal(info.device, second == (first == 0) ? "emu0" : "cpu");
    }
    assert_int_equal(parts, 2);
}

static void run_divided(bed *b, size_t index, int first, const char *axis)
{
    sparoa_error err;
    ts_ok(sparoa_session_use_plan(b->session, index, &err), err);
    for (int turn = 0; turn < 3; turn++) {
        sparoa_tensor out = {0};
        ts_ok(sparoa_session_run(b->session, b->in, b->inputs, &out, 1, &err), err);
        double d = ts_difference(&out, &b->want);
        if (!(d < 1e-5)) fail_msg("%s by %s: differs by %g", b->c->name, axis, d);
    }
    check_parts(b, first);
}

static void divided_is_whole(void **state)
{
    (void)state;
    static const double shares[] = {0.001, 0.3, 0.5, 0.9};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        bed b;
        bed_make(&b, &cases[k]);
        sp_plan_node *n = &b.plan->p->nodes[b.node];
        for (int axis = SP_SPLIT_CHANNELS; axis < SP_SPLIT_COUNT; axis++)
            for (int turn = 0; turn < 8; turn++) {
                const char *by = sp_split_axis_name((sp_split_axis)axis);
                sparoa_error err = {0};
                size_t index = 0;
                n->axis = (uint8_t)axis;
                n->share = shares[turn / 2];
                n->device = turn % 2;
                n->second = !n->device;
                sparoa_status status = sparoa_session_add_plan(b.session, b.plan, &index, &err);
                if (cases[k].axes >> axis & 1) {
                    if (status != SPAROA_OK)
                        fail_msg("%s by %s: %s", cases[k].name, by, err.message);
                    run_divided(&b, index, n->device, by);
                    continue;
                }
                if (status != SPAROA_INVALID_PLAN || strcmp(err.node, b.name) ||
                    !strstr(err.message, by))
                    fail_msg("%s by %s: %s '%s'", cases[k].name, by, sparoa_status_name(status),
                             err.message);
            }
        bed_clear(&b);
    }
}

/* The same from the start, in a session that is created with the plan; whole plans go beside it. */
static void first_plan_divides(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    size_t index;
    bed_make(&b, &cases[0]);
    sparoa_session_destroy(b.session);
    sp_plan_node *n = &b.plan->p->nodes[b.node];
    n->axis = SP_SPLIT_ROWS;
    n->share = 0.5;
    n->second = 1;
    sparoa_session_options o = {.struct_size = sizeof o, .plan = b.plan};
    ts_ok(sparoa_session_create(b.model, &o, &b.session, &err), err);
    run_divided(&b, 0, 0, "rows");
    n->share = 0;
    ts_ok(sparoa_session_add_plan(b.session, b.plan, &index, &err), err);
    n->device = 1;
    ts_ok(sparoa_session_add_plan(b.session, b.plan, &index, &err), err);
    assert_int_equal(index, 2);
    for (size_t k = 0; k < 3; k++) {
        ts_ok(sparoa_session_use_plan(b.session, k, &err), err);
        sparoa_tensor out = {0};
        ts_ok(sparoa_session_run(b.session, b.in, 1, &out, 1, &err), err);
        assert_true(ts_difference(&out, &b.want) < 1e-5);
    }
    long calls = atomic_load(&b.memory.calls);
    for (int turn = 0; turn < 6; turn++) {
        sparoa_tensor out = {0};
        ts_ok(sparoa_session_use_plan(b.session, (size_t)turn % 3, &err), err);
        ts_ok(sparoa_session_run(b.session, b.in, 1, &out, 1, &err), err);
        assert_true(ts_difference(&out, &b.want) < 1e-5);
    }
    assert_int_equal(atomic_load(&b.memory.calls), calls);
    bed_clear(&b);
}

/* One image where the plan divides the batch: the second part has none, and does not run. */
static void a_part_may_be_empty(void **state)
{
    (void)state;
    static const test_case any = {"conv", conv, 4, 0, {-1, 5, 9, 8}, {0}, ALL};
    bed b;
    sparoa_error err;
    size_t index;
    test_case c = any;
    c.x[0] = 2;
    bed_make(&b, &c);
    sparoa_model_destroy(b.model);
    sparoa_session_destroy(b.session);
    mb_model *m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, 4, any.x);
    conv(m->graph);
    mb_output(m->graph, "y");
    b.model = ts_load(b.rt, m);
    sparoa_session_options o = {.struct_size = sizeof o, .device = "emu0"};
    ts_ok(sparoa_session_create(b.model, &o, &b.session, &err), err);
    sp_plan_node *n = &b.plan->p->nodes[b.node];
    n->axis = SP_SPLIT_BATCH;
    n->share = 0.25;
    n->second = 1;
    ts_ok(sparoa_session_add_plan(b.session, b.plan, &index, &err), err);
    ts_ok(sparoa_session_use_plan(b.session, index, &err), err);
    for (int turn = 0; turn < 4; turn++) {
        sparoa_tensor in = b.in[0], want = b.want, out = {0};
        in.dims[0] = want.dims[0] = 2 - turn % 2;
        ts_ok(sparoa_session_run(b.session, &in, 1, &out, 1, &err), err);
        assert_true(ts_difference(&out, &want) < 1e-5);
    }
    bed_clear(&b);
}

static void the_trace_has_both_parts(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    size_t index;
    char path[] = "sparoa-divide-XXXXXX", *text = calloc(1, 1 << 20);
    int fd = mkstemp(path);
    assert_true(fd >= 0 && text);
    bed_make(&b, &cases[0]);
    sp_plan_node *n = &b.plan->p->nodes[b.node];
    n->axis = SP_SPLIT_CHANNELS;
    n->share = 0.4;
    n->second = 1;
    ts_ok(sparoa_session_add_plan(b.session, b.plan, &index, &err), err);
    ts_ok(sparoa_session_use_plan(b.session, index, &err), err);
    ts_ok(sparoa_trace_start(b.rt, 0, &err), err);
    sparoa_tensor out = {0};
    ts_ok(sparoa_session_run(b.session, b.in, 1, &out, 1, &err), err);
    sparoa_trace_stop(b.rt);
    ts_ok(sparoa_trace_save(b.rt, path, &err), err);
    assert_true(read(fd, text, (1 << 20) - 1) > 0);
    assert_non_null(strstr(text, "\"it/part0\"")); /* on the host */
    assert_non_null(strstr(text, "\"it/part1\"")); /* on the device's queue */
    assert_non_null(strstr(text, "\"it/join\""));
    close(fd);
    unlink(path);
    free(text);
    bed_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divided_is_whole),
        cmocka_unit_test(first_plan_divides),
        cmocka_unit_test(a_part_may_be_empty),
        cmocka_unit_test(the_trace_has_both_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
