#include "profile/micro.h"

#include <math.h>

#include "base/rng.h"
#include "graph/rewrite.h"
#include "ops/op.h"

#define OPSET 17

typedef struct net {
    sp_graph *g;
    uint64_t seed, draws;
    double zeros;
    bool failed;
} net;

static uint64_t draw(net *n, uint64_t below)
{
    return sp_rng_bits(n->seed, n->draws++) % below;
}

static int64_t pick(net *n, const int64_t *from, uint64_t count)
{
    return from[draw(n, count)];
}

#define PICK(n, ...)                                                                               \
    pick(n, (const int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
#define DIMS(...)                                                                                  \
    (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])               \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static sp_id input(net *n, int32_t rank, const int64_t *dims)
{
    sp_id id = sp_graph_add_value(n->g, "x", SP_VALUE_INPUT);
    n->g->inputs = sp_arena_alloc(&n->g->arena, sizeof(sp_id));
    n->g->outputs = sp_arena_alloc(&n->g->arena, sizeof(sp_id));
    if (id == SP_NO_ID || !n->g->inputs || !n->g->outputs) {
        n->failed = true;
        return SP_NO_ID;
    }
    n->g->values[id].fact = sparoa_tensor_view(SPAROA_FLOAT32, NULL, rank, dims);
    n->g->inputs[n->g->input_count++] = id;
    return id;
}

/* Weights of the size that keeps activations in range. */
static sp_id weights(net *n, int32_t rank, const int64_t *dims, double fan_in)
{
    sp_id id = n->failed ? SP_NO_ID : sp_add_const(n->g, "w", SPAROA_FLOAT32, rank, dims, NULL);
    if (id == SP_NO_ID) {
        n->failed = true;
        return id;
    }
    sparoa_tensor *t = &n->g->values[id].fact;
    int64_t count = sparoa_tensor_count(t);
    float *w = t->data, scale = (float)(2.4 / sqrt(fan_in > 1 ? fan_in : 1));
    uint64_t stream = n->draws++, threshold = (uint64_t)(n->zeros * 1048576);
    for (int64_t i = 0; i < count; i++) {
        uint64_t bits = sp_rng_bits(n->seed ^ (stream << 32), (uint64_t)i);
        w[i] = (bits >> 40 & 0xfffff) < threshold
                   ? 0
                   : ((float)(bits & 0xffffff) / 16777216.0f - 0.5f) * scale;
    }
    return id;
}

static sp_id add(net *n, const char *op, const sp_id *in, int32_t count)
{
    bool ready = !n->failed;
    for (int32_t i = 0; i < count; i++) ready = ready && in[i] != SP_NO_ID;
    sp_id out = ready ? sp_insert_node(n->g, op, OPSET, op, in, count) : SP_NO_ID;
    n->failed |= out == SP_NO_ID;
    return out;
}

static sp_id unary(net *n, const char *op, sp_id x)
{
    return add(n, op, &x, 1);
}

static sp_id binary(net *n, const char *op, sp_id x, sp_id y)
{
    return add(n, op, (sp_id[]){x, y}, 2);
}

static void set_ints(net *n, sp_id value, const char *name, int32_t count, const int64_t *v)
{
    if (value == SP_NO_ID) return;
    n->failed |= !sp_node_set_ints(n->g, n->g->values[value].producer, name, v, (size_t)count);
}

static void set_int(net *n, sp_id value, const char *name, int64_t v)
{
    if (value == SP_NO_ID) return;
    n->failed |= !sp_node_set_int(n->g, n->g->values[value].producer, name, v);
}

static sp_id ints(net *n, int32_t count, const int64_t *v)
{
    sp_id id = n->failed ? SP_NO_ID : sp_add_const_i64(n->g, "i", v, count);
    n->failed |= id == SP_NO_ID;
    return id;
}

static sp_id conv(net *n, sp_id x, int64_t from, int64_t to, int64_t kernel, int64_t stride,
                  int64_t groups)
{
    sp_id w = weights(n, DIMS(to, from / groups, kernel, kernel),
                      (double)(from / groups * kernel * kernel));
    sp_id b = weights(n, DIMS(to), 100);
    sp_id y = add(n, "Conv", (sp_id[]){x, w, b}, 3);
    int64_t pad = kernel / 2;
    set_ints(n, y, "kernel_shape", DIMS(kernel, kernel));
    set_ints(n, y, "strides", DIMS(stride, stride));
    set_ints(n, y, "pads", DIMS(pad, pad, pad, pad));
    set_int(n, y, "group", groups);
    return y;
}

static sp_id activate(net *n, sp_id x)
{
    static const char *const names[] = {"Relu", "Relu", "HardSwish", "Sigmoid", "Relu", NULL};
    const char *name = names[draw(n, 6)];
    return name ? unary(n, name, x) : x;
}

/* Expand, spread, project, add: a MobileNet's block; without the middle a ResNet's neck. */
static sp_id bottleneck(net *n, sp_id x, int64_t channels, int64_t size)
{
    int64_t wide = channels * PICK(n, 1, 2, 3, 4, 6), to = PICK(n, 16, 24, 40, 64, 96, 160, 320);
    if (wide * size * size > 1500000) wide = channels;
    int64_t kernel = PICK(n, 3, 3, 3, 5), stride = PICK(n, 1, 1, 1, 2);
    sp_id y = activate(n, conv(n, x, channels, wide, 1, 1, 1));
    y = activate(n, conv(n, y, wide, wide, kernel, stride, wide));
    if (draw(n, 3) == 0) { /* squeeze and excite */
        int64_t few = wide / 4 > 8 ? wide / 4 : 8;
        sp_id s = unary(n, "GlobalAveragePool", y);
        s = unary(n, "Relu", conv(n, s, wide, few, 1, 1, 1));
        s = unary(n, "HardSigmoid", conv(n, s, few, wide, 1, 1, 1));
        y = binary(n, "Mul", y, s);
    }
    if (stride == 1) {
        y = conv(n, y, wide, channels, 1, 1, 1);
        return binary(n, "Add", y, x);
    }
    return conv(n, y, wide, to, 1, 1, 1);
}

/* Plain convolutions as in ResNets and detectors. */
static sp_id plain(net *n, sp_id x, int64_t channels, int64_t size)
{
    int64_t kernel = PICK(n, 1, 3, 3, 3, 5), to = PICK(n, 8, 10, 16, 24, 32, 48, 64, 128, 256, 512);
    if (draw(n, 2)) { /* a residual block */
        sp_id y = activate(n, conv(n, x, channels, channels, 3, 1, 1));
        return activate(n, binary(n, "Add", conv(n, y, channels, channels, 3, 1, 1), x));
    }
    if (to * channels * kernel * kernel * size * size > 400000000) to = 16;
    sp_id y = activate(n, conv(n, x, channels, to, kernel, 1, 1));
    y = activate(n, conv(n, y, to, to, 3, PICK(n, 1, 1, 2), 1));
    return conv(n, y, to, PICK(n, 4, 16, 32, 64, 128), PICK(n, 1, 1, 3), 1, 1);
}

static sp_id stem(net *n, sp_id *x)
{
    sp_id y;
    int64_t size = PICK(n, 64, 96, 128, 160, 192, 224, 256), to = PICK(n, 8, 16, 24, 32, 64);
    *x = input(n, DIMS(1, PICK(n, 3, 3, 1), size, size));
    int64_t from = n->failed ? 1 : n->g->values[*x].fact.dims[1];
    if (draw(n, 4) == 0) { /* patches */
        int64_t patch = PICK(n, 4, 8, 16);
        y = conv(n, *x, from, patch * PICK(n, 12, 24, 48), patch, patch, 1);
        set_ints(n, y, "pads", DIMS(0, 0, 0, 0));
        return y;
    }
    y = activate(n, conv(n, *x, from, to, PICK(n, 3, 3, 7), 2, 1));
    if (draw(n, 2)) {
        y = unary(n, "MaxPool", y);
        set_ints(n, y, "kernel_shape", DIMS(3, 3));
        set_ints(n, y, "strides", DIMS(2, 2));
        set_ints(n, y, "pads", DIMS(1, 1, 1, 1));
    }
    return activate(n, conv(n, y, to, to, 3, 1, PICK(n, 1, 1, to)));
}

static sp_id image_net(net *n)
{
    uint64_t family = draw(n, 8);
    if (family == 0) {
        sp_id x;
        return stem(n, &x);
    }
    int64_t size = PICK(n, 4, 7, 8, 10, 14, 16, 20, 28, 32, 40, 56, 64, 80, 112);
    int64_t channels = PICK(n, 8, 16, 24, 32, 40, 64, 72, 96, 128, 160, 256, 512);
    while (channels * size * size > 420000) channels /= 2;
    sp_id x = input(n, DIMS(1, channels, size, size));
    sp_id y = activate(n, conv(n, x, channels, channels, 1, 1, 1));
    if (family < 5) return bottleneck(n, y, channels, size);
    if (family < 7) return plain(n, y, channels, size);
    /* a decoder's step: enlarge, join, smooth */
    const float scales[4] = {1, 1, 2, 2};
    sp_id roi = sp_add_const(n->g, "roi", SPAROA_FLOAT32, DIMS(0), NULL);
    sp_id by = sp_add_const(n->g, "scales", SPAROA_FLOAT32, DIMS(4), scales);
    return conv(n, add(n, "Resize", (sp_id[]){y, roi, by}, 3), channels, 16, 3, 1, 1);
}

/* ---- transformers ---- */

static sp_id linear(net *n, sp_id x, int64_t from, int64_t to)
{
    sp_id y = binary(n, "MatMul", x, weights(n, DIMS(from, to), (double)from));
    return binary(n, "Add", y, weights(n, DIMS(to), 100));
}

static sp_id layer_norm(net *n, sp_id x, int64_t width)
{
    sp_id in[3] = {x, weights(n, DIMS(width), 1), weights(n, DIMS(width), 1)};
    return add(n, "LayerNormalization", in, 3);
}

static sp_id reshape(net *n, sp_id x, int32_t count, const int64_t *dims)
{
    return binary(n, "Reshape", x, ints(n, count, dims));
}

static sp_id transpose(net *n, sp_id x, int32_t count, const int64_t *perm)
{
    sp_id y = unary(n, "Transpose", x);
    set_ints(n, y, "perm", count, perm);
    return y;
}

static sp_id slice(net *n, sp_id x, int64_t axis, int64_t from, int64_t to)
{
    sp_id in[4] = {x, ints(n, DIMS(from)), ints(n, DIMS(to)), ints(n, DIMS(axis))};
    return add(n, "Slice", in, 4);
}

static sp_id attention(net *n, sp_id x, int64_t batch, int64_t tokens, int64_t width, int64_t heads)
{
    int64_t d = width / heads;
    sp_id part[3], all = linear(n, x, width, 3 * width);
    bool gather = draw(n, 2);
    if (gather) {
        all = reshape(n, all, DIMS(batch, tokens, 3, heads, d));
        all = transpose(n, all, DIMS(2, 0, 3, 1, 4));
    }
    for (int i = 0; i < 3; i++) {
        if (gather) {
            const int64_t which = i;
            sp_id index = sp_add_const(n->g, "i", SPAROA_INT64, 0, NULL, &which);
            part[i] = binary(n, "Gather", all, index);
            continue;
        }
        part[i] = slice(n, all, 2, i * width, (i + 1) * width);
        part[i] = reshape(n, part[i], DIMS(batch, tokens, heads, d));
        part[i] = transpose(n, part[i], DIMS(0, 2, 1, 3));
    }
    sp_id y;
    if (draw(n, 3)) {
        sp_id in[4] = {part[0], part[1], part[2]};
        bool bias = tokens <= 100 && draw(n, 2); /* of positions, or a mask for each window too */
        if (bias) in[3] = weights(n, DIMS(draw(n, 2) ? batch : 1, heads, tokens, tokens), 1);
        y = n->failed ? SP_NO_ID
                      : sp_insert_node(n->g, "Attention", 23, "Attention", in, bias ? 4 : 3);
        n->failed |= y == SP_NO_ID;
    } else {
        y = binary(n, "MatMul", part[0], transpose(n, part[1], DIMS(0, 1, 3, 2)));
        y = binary(n, "MatMul", unary(n, "Softmax", y), part[2]);
    }
    y = reshape(n, transpose(n, y, DIMS(0, 2, 1, 3)), DIMS(batch, tokens, width));
    return linear(n, y, width, width);
}

static sp_id transformer(net *n)
{
    int64_t width = PICK(n, 32, 64, 96, 128, 192, 256, 384, 768), heads = width / 32;
    int64_t tokens = PICK(n, 1, 16, 49, 64, 100, 197, 320, 784, 2048), batch = 1;
    if (width >= 64 && draw(n, 2)) heads = width / 64;
    if (tokens == 49) batch = PICK(n, 1, 4, 16, 64);
    while (batch * tokens * width * width * 24 > 3000000000) {
        if (tokens > 49)
            tokens /= 2;
        else
            width /= 2, heads = heads / 2 ? heads / 2 : 1;
    }
    sp_id x = input(n, DIMS(batch, tokens, width));
    sp_id y =
        binary(n, "Add", attention(n, layer_norm(n, x, width), batch, tokens, width, heads), x);
    sp_id z = linear(n, layer_norm(n, y, width), width, 4 * width);
    z = draw(n, 3) && !n->failed ? sp_insert_node(n->g, "Gelu", 20, "Gelu", &z, 1)
                                 : unary(n, "Relu", z);
    return binary(n, "Add", linear(n, z, 4 * width, width), y);
}

/* ---- what moves and maps data ---- */

static sp_id pooling(net *n, sp_id x)
{
    sp_id y = unary(n, draw(n, 2) ? "MaxPool" : "AveragePool", x);
    int64_t k = PICK(n, 2, 3);
    set_ints(n, y, "kernel_shape", DIMS(k, k));
    set_ints(n, y, "strides", DIMS(2, 2));
    return y;
}

/* Shifted windows: a picture rolled, cut into squares of 7, and what a Swin merges. */
static sp_id windows(net *n)
{
    int64_t size = PICK(n, 7, 14, 28, 56), width = PICK(n, 32, 96, 192, 384), m = size / 7;
    while (size * size * width > 320000) width /= 2;
    sp_id x = input(n, DIMS(1, size, size, width)), y = unary(n, "Relu", x);
    for (int axis = 1; axis < 3; axis++) {
        sp_id part[2] = {slice(n, y, axis, 3, size), slice(n, y, axis, 0, 3)};
        y = add(n, "Concat", part, 2);
        set_int(n, y, "axis", axis);
    }
    y = transpose(n, reshape(n, y, DIMS(1, m, 7, m, 7, width)), DIMS(0, 1, 3, 2, 4, 5));
    y = layer_norm(n, reshape(n, y, DIMS(m * m, 49, width)), width);
    y = transpose(n, reshape(n, y, DIMS(1, m, m, 7, 7, width)), DIMS(0, 1, 3, 2, 4, 5));
    return binary(n, "Add", reshape(n, y, DIMS(1, size, size, width)), x);
}

static sp_id data_net(net *n)
{
    if (draw(n, 2)) return windows(n);
    int64_t size = PICK(n, 4, 8, 14, 20, 32, 56, 96), channels = PICK(n, 4, 16, 32, 64, 128, 256);
    while (channels * size * size > 420000) channels /= 2;
    sp_id x = input(n, DIMS(1, channels, size, size));
    sp_id y = unary(n, "Sigmoid", x), z = unary(n, PICK(n, 0, 1) ? "Exp" : "Abs", x);
    z = binary(n, draw(n, 2) ? "Add" : "Mul", y, z);
    sp_id joined = add(n, "Concat", (sp_id[]){y, z}, 2);
    int64_t axis = PICK(n, 1, 1, 2, 3);
    set_int(n, joined, "axis", axis);
    y = slice(n, joined, axis, 1, axis == 1 ? channels + 1 : size + 1);
    if (axis == 1 && draw(n, 2)) y = pooling(n, y);
    if (draw(n, 2)) y = transpose(n, y, DIMS(0, 2, 3, 1));
    if (draw(n, 2)) {
        y = unary(n, "ReduceMean", y);
        set_ints(n, y, "axes", DIMS(draw(n, 2) ? 3 : 2));
    } else {
        y = unary(n, "Softmax", y);
    }
    return y;
}

/* Lookups, gates and recurrence on a few rows, as in models of speech and text. */
static sp_id vector_net(net *n)
{
    int64_t rows = PICK(n, 1, 1, 4, 16, 64), width = PICK(n, 16, 32, 64, 128, 256, 512, 1024);
    int64_t wide = PICK(n, 10, 32, 64, 128, 256, 512, 1000);
    sp_id x = input(n, DIMS(rows, width));
    sp_id y = unary(n, "Relu", linear(n, x, width, wide));
    y = linear(n, unary(n, "Tanh", linear(n, y, wide, wide)), wide, width);
    if (rows == 1) return y;
    sp_id row = ints(n, DIMS(0, rows / 2));
    return binary(n, "Gather", y, row);
}

static sp_graph *finish(net *n, sp_id y)
{
    if (!n->failed && y != SP_NO_ID) {
        n->g->outputs[n->g->output_count++] = y;
        return n->g;
    }
    sp_graph_destroy(n->g);
    return NULL;
}

sp_graph *sp_micro_graph(const sparoa_allocator *alloc, uint32_t index, double zeros)
{
    net n = {.g = sp_graph_create(alloc, "micro"), .seed = index + 1, .zeros = zeros};
    if (!n.g) return NULL;
    switch (index % 8) {
    case 0:
    case 1:
    case 2:
    case 3: return finish(&n, image_net(&n));
    case 4:
    case 5: return finish(&n, transformer(&n));
    case 6: return finish(&n, data_net(&n));
    default: return finish(&n, vector_net(&n));
    }
}

sp_graph *sp_micro_chain(const sparoa_allocator *alloc, int32_t length, int64_t elements)
{
    net n = {.g = sp_graph_create(alloc, "chain"), .seed = 1};
    if (!n.g) return NULL;
    sp_id x = input(&n, DIMS(elements)), y = x;
    for (int32_t i = 0; i < length; i++) y = binary(&n, "Add", y, x);
    return finish(&n, y);
}

sp_graph *sp_micro_product(const sparoa_allocator *alloc, int64_t rows, int64_t depth,
                           int64_t columns, double zeros)
{
    net n = {.g = sp_graph_create(alloc, "product"), .seed = 2, .zeros = zeros};
    if (!n.g) return NULL;
    sp_id x = input(&n, DIMS(rows, depth));
    return finish(&n, binary(&n, "MatMul", x, weights(&n, DIMS(depth, columns), (double)depth)));
}
