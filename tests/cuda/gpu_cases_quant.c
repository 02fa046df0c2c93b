/* Cases of 8-bit operators, chains and recurrent networks. */
#include "gpu_node.h"
#include "ops/chain.h"

static sparoa_dtype byte_type(gpu_node *g)
{
    return gpu_range(g, 0, 1) ? SPAROA_INT8 : SPAROA_UINT8;
}

static void values_of(gpu_node *g, sparoa_dtype type)
{
    g->lo = type == SPAROA_UINT8 ? 0 : -128;
    g->hi = type == SPAROA_UINT8 ? 256 : 128;
}

/* Scales of 0.5 / size to 1.5 / size; n: how many, 0 for a scalar. */
static void scale(gpu_node *g, double size, int64_t n)
{
    g->lo = 0.5 / size;
    g->hi = 1.5 / size;
    gpu_weight(g, n ? 1 : 0, &n);
}

static void zero(gpu_node *g, sparoa_dtype type, int64_t n)
{
    values_of(g, type);
    g->lo += 90;
    g->hi -= 90;
    if (gpu_range(g, 0, 2) == 0) g->lo = g->hi = type == SPAROA_UINT8 ? 128 : 0;
    g->constant[g->node.n_in] = true;
    gpu_input(g, type, n ? 1 : 0, &n);
}

static void bytes(gpu_node *g, sparoa_dtype type, int rank, const int64_t *dims)
{
    values_of(g, type);
    gpu_input(g, type, rank, dims);
}

static void constant_bytes(gpu_node *g, sparoa_dtype type, int rank, const int64_t *dims)
{
    g->constant[g->node.n_in] = true;
    bytes(g, type, rank, dims);
}

static void linear(gpu_test *t, gpu_node *g)
{
    static const sparoa_dtype types[] = {SPAROA_INT8, SPAROA_UINT8, SPAROA_INT16, SPAROA_UINT16};
    bool quantize = gpu_range(g, 0, 1);
    int mode = (int)gpu_range(g, 0, 2); /* one scale, one by channel, one by block */
    int64_t dims[3], scales[3], axis = gpu_range(g, 0, 2);
    sparoa_dtype type = PICK(g, types);
    gpu_start(g, quantize ? "QuantizeLinear" : "DequantizeLinear", 21, 1);
    gpu_dims(g, 3, 30, dims);
    memcpy(scales, dims, sizeof dims);
    scales[axis] = (dims[axis] + 3) / 4;
    g->lo = quantize ? -3 : 0;
    g->hi = quantize ? 3 : 100;
    gpu_input(g, quantize ? SPAROA_FLOAT32 : type, 3, dims);
    g->lo = 0.01;
    g->hi = 0.03;
    int rank = mode == 2 ? 3 : mode;
    const int64_t *shape = mode == 2 ? scales : &dims[axis];
    gpu_weight(g, rank, shape);
    g->lo = 0;
    g->hi = 50;
    g->constant[2] = true;
    gpu_input(g, type, rank, shape);
    gpu_int(g, "axis", axis);
    if (mode == 2) gpu_int(g, "block_size", 4);
    gpu_compare(t, g);
}

static void dynamic(gpu_test *t, gpu_node *g)
{
    int64_t n = gpu_range(g, 1, 70000);
    gpu_start(g, "DynamicQuantizeLinear", 11, 3);
    g->lo = gpu_range(g, 0, 2) ? -1.7 : 0.2;
    g->hi = 2.9;
    gpu_input(g, SPAROA_FLOAT32, 1, &n);
    gpu_compare(t, g);
}

static void conv_q8(gpu_test *t, gpu_node *g)
{
    bool integer = gpu_range(g, 0, 3) == 0, nhwc = !integer && gpu_range(g, 0, 1);
    int kind = (int)gpu_range(g, 0, 3); /* 1x1, depthwise, grouped, plain */
    int64_t n = gpu_range(g, 1, 3), h = gpu_range(g, 5, 20), w = gpu_range(g, 5, 20), group = 1;
    int64_t ci = gpu_range(g, 1, 40), co = gpu_range(g, 1, 80), k[2], s[2], p[4];
    if (kind == 1) group = ci = co = gpu_range(g, 2, 40);
    if (kind == 2) {
        group = gpu_range(g, 2, 4);
        ci = group * gpu_range(g, 1, 9);
        co = group * gpu_range(g, 1, 9);
    }
    if (gpu_range(g, 0, 1) && kind != 2) ci = (ci + 3) / 4 * 4;
    if (kind == 1) group = co = ci;
    sparoa_dtype x = byte_type(g), f = byte_type(g), y = byte_type(g);
    gpu_start(g, integer ? "ConvInteger" : "QLinearConv", 10, 1);
    for (int i = 0; i < 2; i++) {
        k[i] = kind == 0 ? 1 : gpu_range(g, 1, 4);
        s[i] = gpu_range(g, 1, 2);
        p[i] = gpu_range(g, 0, k[i] - 1);
        p[i + 2] = gpu_range(g, 0, k[i] - 1);
    }
    const int64_t *filter = DIMS(co, ci / group, k[0], k[1]);
    int64_t each = gpu_range(g, 0, 1) ? co : 0;
    bytes(g, x, 4, nhwc ? DIMS(n, h, w, ci) : DIMS(n, ci, h, w));
    if (integer) {
        constant_bytes(g, f, 4, filter);
        zero(g, x, 0);
        zero(g, f, each);
    } else {
        scale(g, 100, 0);
        zero(g, x, 0);
        constant_bytes(g, f, 4, filter);
        scale(g, 100, each);
        zero(g, f, each);
        scale(g, 2 / sqrt((double)(ci / group * k[0] * k[1])), 0);
        zero(g, y, 0);
        g->lo = -3000;
        g->hi = 3000;
        g->constant[8] = true;
        if (gpu_range(g, 0, 1)) gpu_input(g, SPAROA_INT32, 1, &co);
    }
    gpu_ints(g, "strides", 2, s);
    gpu_ints(g, "pads", 4, p);
    gpu_int(g, "group", group);
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    gpu_compare(t, g);
}

static void matmul_q8(gpu_test *t, gpu_node *g)
{
    bool integer = gpu_range(g, 0, 1), constant = gpu_range(g, 0, 1);
    int64_t m = gpu_range(g, 1, 90), n = gpu_range(g, 1, 90), k = gpu_range(g, 1, 200);
    int64_t batch = gpu_range(g, 1, 3), each = gpu_range(g, 0, 1) ? n : 0;
    sparoa_dtype a = byte_type(g), b = byte_type(g), y = byte_type(g);
    gpu_start(g, integer ? "MatMulInteger" : "QLinearMatMul", 10, 1);
    bytes(g, a, 3, DIMS(batch, m, k));
    if (!integer) {
        scale(g, 100, 0);
        zero(g, a, 0);
    }
    if (constant)
        constant_bytes(g, b, 2, DIMS(k, n));
    else
        bytes(g, b, 3, DIMS(gpu_range(g, 0, 1) ? batch : 1, k, n));
    if (integer) {
        zero(g, a, 0);
        zero(g, b, constant ? each : 0);
    } else {
        scale(g, 100, constant ? each : 0);
        zero(g, b, constant ? each : 0);
        scale(g, 2 / sqrt((double)k), 0);
        zero(g, y, 0);
    }
    gpu_compare(t, g);
}

static void pair_q8(gpu_test *t, gpu_node *g)
{
    sparoa_dtype type = byte_type(g);
    int64_t dims[4], other[4];
    gpu_start(g, gpu_range(g, 0, 1) ? "QLinearAdd" : "QLinearMul", 1, 1);
    g->node.domain = "com.microsoft";
    gpu_dims(g, 4, 15, dims);
    for (int i = 0; i < 4; i++) other[i] = gpu_range(g, 0, 2) ? dims[i] : 1;
    bytes(g, type, 4, dims);
    scale(g, 100, 0);
    zero(g, type, 0);
    bytes(g, type, 4, other);
    scale(g, 100, 0);
    zero(g, type, 0);
    scale(g, 60, 0);
    zero(g, type, 0);
    gpu_compare(t, g);
}

static void single_q8(gpu_test *t, gpu_node *g)
{
    static const char *const names[] = {"QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax",
                                        "QLinearGlobalAveragePool", "QLinearAveragePool"};
    sparoa_dtype type = byte_type(g);
    int which = (int)gpu_range(g, 0, 4);
    int64_t dims[4], k[2] = {gpu_range(g, 1, 3), gpu_range(g, 1, 3)};
    gpu_start(g, names[which], 1, 1);
    g->node.domain = "com.microsoft";
    gpu_dims(g, 4, 20, dims);
    for (int i = 0; i < 4; i++) dims[i] += 3;
    bytes(g, type, 4, dims);
    scale(g, 30, 0);
    zero(g, type, 0);
    scale(g, which == 1 || which > 2 ? 30 : 255, 0);
    zero(g, type, 0);
    if (which == 2) gpu_int(g, "axis", gpu_range(g, 0, 3));
    if (which == 2) gpu_int(g, "opset", gpu_range(g, 11, 14));
    if (which > 2) gpu_int(g, "channels_last", gpu_range(g, 0, 1));
    if (which == 4) {
        gpu_ints(g, "kernel_shape", 2, k);
        gpu_ints(g, "strides", 2, DIMS(2, 1));
        gpu_ints(g, "pads", 4, DIMS(k[0] / 2, 0, 0, k[1] / 2));
        gpu_int(g, "count_include_pad", gpu_range(g, 0, 1));
        gpu_int(g, "ceil_mode", gpu_range(g, 0, 1));
    }
    gpu_compare(t, g);
}

static void pool_q8(gpu_test *t, gpu_node *g)
{
    bool nhwc = gpu_range(g, 0, 1);
    sparoa_dtype type = byte_type(g);
    gpu_start(g, "MaxPool", 12, 1);
    bytes(g, type, 4, DIMS(2, gpu_range(g, 4, 20), gpu_range(g, 4, 20), gpu_range(g, 4, 20)));
    gpu_ints(g, "kernel_shape", 2, DIMS(3, 2));
    gpu_ints(g, "strides", 2, DIMS(2, 2));
    gpu_ints(g, "pads", 4, DIMS(1, 0, 1, 1));
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    gpu_compare(t, g);
}

/* Several element-wise functions as one operator. */
static void chain(gpu_test *t, gpu_node *g)
{
    int64_t dims[4], other[4], steps[3 * SP_CHAIN_STEPS];
    static float args[2 * SP_CHAIN_STEPS];
    int n = (int)gpu_range(g, 2, SP_CHAIN_STEPS - 1), inputs = 1, rank = (int)gpu_range(g, 1, 4);
    gpu_start(g, "Chain", 1, 1);
    g->node.domain = SP_CHAIN_DOMAIN;
    gpu_dims(g, rank, 16, dims);
    if (gpu_range(g, 0, 1)) dims[rank - 1] = 4;
    g->lo = 0.5;
    g->hi = 1.5;
    gpu_input(g, SPAROA_FLOAT32, rank, dims);
    for (int i = 0; i < n; i++) {
        bool two = inputs < SP_CHAIN_INPUTS && gpu_range(g, 0, 1);
        static const sp_chain_fn one[] = {SP_CHAIN_Relu, SP_CHAIN_Sigmoid, SP_CHAIN_Tanh,
                                          SP_CHAIN_Clip, SP_CHAIN_Abs,     SP_CHAIN_Gelu,
                                          SP_CHAIN_Neg,  SP_CHAIN_Swish,   SP_CHAIN_HardSwish};
        static const sp_chain_fn pair[] = {SP_CHAIN_Add, SP_CHAIN_Sub, SP_CHAIN_Mul, SP_CHAIN_Min,
                                           SP_CHAIN_Max};
        steps[i * 3] = two ? (int64_t)PICK(g, pair) : (int64_t)PICK(g, one);
        steps[i * 3 + 1] = two ? inputs : -1;
        steps[i * 3 + 2] = gpu_range(g, 0, 1);
        args[i * 2] = -1.25f;
        args[i * 2 + 1] = 1.5f;
        if (!two) continue;
        bool scalar = gpu_range(g, 0, 2) == 0;
        for (int d = 0; d < rank; d++) other[d] = gpu_range(g, 0, 3) ? dims[d] : 1;
        gpu_input(g, SPAROA_FLOAT32, scalar ? 0 : rank, other);
        inputs++;
    }
    gpu_ints(g, "sp.steps", n * 3, steps);
    g->attrs[g->node.n_attrs++] = (sparoa_attr){
        .name = "sp.args", .type = SPAROA_ATTR_FLOATS, .count = (size_t)n * 2, .v.floats = args};
    gpu_compare(t, g);
}

/* ---- recurrent networks ---- */

static void rnn(gpu_test *t, gpu_node *g)
{
    static const char *const names[] = {"RNN", "GRU", "LSTM"},
                             *directions[] = {"forward", "reverse", "bidirectional"};
    int which = (int)gpu_range(g, 0, 2), way = (int)gpu_range(g, 0, 2);
    int64_t gates = which == 0 ? 1 : which == 1 ? 3 : 4, dirs = way == 2 ? 2 : 1;
    int64_t steps = gpu_range(g, 1, 12), batch = gpu_range(g, 1, 5), in = gpu_range(g, 1, 40);
    int64_t hidden = gpu_range(g, 0, 4) ? gpu_range(g, 1, 90) : gpu_range(g, 193, 260);
    bool first = gpu_range(g, 0, 1), lengths = gpu_range(g, 0, 1);
    gpu_start(g, names[which], 14, which == 2 ? 3 : 2);
    gpu_input(g, SPAROA_FLOAT32, 3, first ? DIMS(batch, steps, in) : DIMS(steps, batch, in));
    g->lo = -0.3;
    g->hi = 0.3;
    gpu_input(g, SPAROA_FLOAT32, 3, DIMS(dirs, gates * hidden, in));
    gpu_input(g, SPAROA_FLOAT32, 3, DIMS(dirs, gates * hidden, hidden));
    if (gpu_range(g, 0, 2))
        gpu_input(g, SPAROA_FLOAT32, 2, DIMS(dirs, 2 * gates * hidden));
    else
        gpu_skip_input(g);
    if (lengths) {
        sparoa_tensor *v = gpu_input(g, SPAROA_INT32, 1, &batch);
        for (int64_t i = 0; i < batch; i++)
            ((int32_t *)v->data)[i] = (int32_t)gpu_range(g, 0, steps);
    } else
        gpu_skip_input(g);
    const int64_t *state = first ? DIMS(batch, dirs, hidden) : DIMS(dirs, batch, hidden);
    if (gpu_range(g, 0, 1)) {
        gpu_input(g, SPAROA_FLOAT32, 3, state);
        if (which == 2) gpu_input(g, SPAROA_FLOAT32, 3, state);
        if (which == 2 && gpu_range(g, 0, 1))
            gpu_input(g, SPAROA_FLOAT32, 2, DIMS(dirs, 3 * hidden));
    }
    gpu_string(g, "direction", directions[way]);
    gpu_int(g, "layout", first);
    gpu_int(g, "hidden_size", hidden);
    if (which == 1) gpu_int(g, "linear_before_reset", gpu_range(g, 0, 1));
    if (which == 2) gpu_int(g, "input_forget", gpu_range(g, 0, 3) == 0);
    if (gpu_range(g, 0, 3) == 0) gpu_float(g, "clip", 0.5f);
    gpu_compare(t, g);
}

const gpu_family gpu_families_quant[] = {
    {"linear", linear, 60},    {"dynamic", dynamic, 10},
    {"conv_q8", conv_q8, 200}, {"matmul_q8", matmul_q8, 80},
    {"pair_q8", pair_q8, 40},  {"single_q8", single_q8, 80},
    {"pool_q8", pool_q8, 20},  {"rnn", rnn, 150},
    {"chain", chain, 150},     {NULL, NULL, 0},
};
