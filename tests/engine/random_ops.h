/* random_ops.h - one function for each kind of node that a random graph may get. Each takes a value
 * of the graph, adds one or more nodes behind it, and returns false where the value does not suit.
 */
#ifndef TESTS_ENGINE_RANDOM_OPS_H
#define TESTS_ENGINE_RANDOM_OPS_H

#include "tests/engine/random_graph.h"

#define RG_MAX_SIZE 16 /* largest spatial dimension */
#define RG_MAX_CHANNELS 24

static inline void rg_use(rg_value *v)
{
    v->uses++;
}

static inline bool rg_conv(rg *r, rg_value *x)
{
    if (x->rank != 4) return false;
    static const int64_t channels[] = {1, 3, 4, 8, 12, 16};
    int64_t kernel = rg_chance(r, 40) ? 1 : 3, c = x->dims[1], stride = rg_chance(r, 25) ? 2 : 1;
    int64_t group = 1, m = channels[rg_pick(r, 6)], dilation = rg_chance(r, 10) ? 2 : 1;
    if (rg_chance(r, 25)) group = m = c; /* depthwise */
    if (group == 1 && c % 2 == 0 && m % 2 == 0 && rg_chance(r, 15)) group = 2;
    int64_t pads[4], dims[4] = {x->dims[0], m};
    for (int i = 0; i < 4; i++)
        pads[i] = rg_chance(r, 75) ? dilation * (kernel / 2) : rg_pick(r, kernel + 1);
    bool same = dilation == 1 && rg_chance(r, 15);
    for (int i = 0; i < 2; i++) {
        int64_t size = x->dims[2 + i];
        int64_t room = size + pads[i] + pads[2 + i] - dilation * (kernel - 1) - 1;
        if (room < 0) return false;
        dims[2 + i] = same ? (size + stride - 1) / stride : room / stride + 1;
    }
    double fan = sqrt(3.0 / (double)(c / group * kernel * kernel));
    int64_t wdims[4] = {m, c / group, kernel, kernel};
    const char *w = rg_weights(r, 4, wdims, -fan, fan);
    const char *b = rg_chance(r, 60) ? rg_weights(r, 1, &m, -0.5, 0.5) : NULL;
    rg_use(x);
    rg_value *y = rg_new(r, 4, dims, x);
    mb_node *n = rg_node(r, "Conv", rg_join(x->name, w, b), y);
    if (group > 1) mb_int(n, "group", group);
    if (stride > 1 || rg_chance(r, 30)) mb_ints(n, "strides", 2, (int64_t[]){stride, stride});
    if (dilation > 1) mb_ints(n, "dilations", 2, (int64_t[]){dilation, dilation});
    if (rg_chance(r, 50)) mb_ints(n, "kernel_shape", 2, (int64_t[]){kernel, kernel});
    if (same)
        mb_string(n, "auto_pad", rg_chance(r, 50) ? "SAME_UPPER" : "SAME_LOWER");
    else
        mb_ints(n, "pads", 4, pads);
    return true;
}

static inline bool rg_conv_transpose(rg *r, rg_value *x)
{
    if (x->rank != 4 || x->dims[2] > RG_MAX_SIZE / 2 || x->dims[3] > RG_MAX_SIZE / 2) return false;
    int64_t kernel = 2 + rg_pick(r, 2), stride = 1 + rg_pick(r, 2), c = x->dims[1];
    int64_t m = 2 + rg_pick(r, 7);
    int64_t dims[4] = {x->dims[0], m, (x->dims[2] - 1) * stride + kernel,
                       (x->dims[3] - 1) * stride + kernel};
    int64_t wdims[4] = {c, m, kernel, kernel};
    double fan = sqrt(3.0 / (double)(c * kernel));
    const char *w = rg_weights(r, 4, wdims, -fan, fan);
    const char *b = rg_chance(r, 60) ? rg_weights(r, 1, &m, -0.5, 0.5) : NULL;
    rg_use(x);
    mb_node *n = rg_node(r, "ConvTranspose", rg_join(x->name, w, b), rg_new(r, 4, dims, x));
    mb_ints(n, "strides", 2, (int64_t[]){stride, stride});
    return true;
}

static inline bool rg_pool(rg *r, rg_value *x)
{
    if (x->rank != 4) return false;
    int64_t kernel = 2 + rg_pick(r, 2), stride = 1 + rg_pick(r, 2);
    int64_t pad = kernel == 3 ? rg_pick(r, 2) : 0;
    bool average = rg_chance(r, 40), ceil = rg_chance(r, 15);
    int64_t dims[4] = {x->dims[0], x->dims[1]};
    for (int i = 2; i < 4; i++) {
        int64_t room = x->dims[i] + 2 * pad - kernel;
        if (room < 0) return false;
        dims[i] = (room + (ceil ? stride - 1 : 0)) / stride + 1;
        if (ceil && (dims[i] - 1) * stride >= x->dims[i] + pad) dims[i]--;
    }
    rg_use(x);
    mb_node *n = rg_node(r, average ? "AveragePool" : "MaxPool", x->name, rg_new(r, 4, dims, x));
    mb_ints(n, "kernel_shape", 2, (int64_t[]){kernel, kernel});
    mb_ints(n, "strides", 2, (int64_t[]){stride, stride});
    mb_ints(n, "pads", 4, (int64_t[]){pad, pad, pad, pad});
    if (ceil) mb_int(n, "ceil_mode", 1);
    if (average && !ceil && rg_chance(r, 50)) mb_int(n, "count_include_pad", 1);
    return true;
}

static inline bool rg_global_pool(rg *r, rg_value *x)
{
    if (x->rank != 4) return false;
    int64_t dims[4] = {x->dims[0], x->dims[1], 1, 1};
    rg_use(x);
    rg_node(r, rg_chance(r, 80) ? "GlobalAveragePool" : "GlobalMaxPool", x->name,
            rg_new(r, 4, dims, x));
    return true;
}

static inline bool rg_norm(rg *r, rg_value *x)
{
    if (x->rank < 2 || x->dims[1] < 1) return false;
    int64_t c = x->dims[1];
    const char *scale = rg_weights(r, 1, &c, 0.5, 1.5), *bias = rg_weights(r, 1, &c, -1, 1);
    char *in = mb_alloc(80);
    rg_use(x);
    if (x->rank == 4 && x->dims[2] * x->dims[3] >= 16 && rg_chance(r, 20)) {
        sprintf(in, "%s,%s,%s", x->name, scale, bias);
        mb_float(rg_node(r, "InstanceNormalization", in, rg_new(r, x->rank, x->dims, x)), "epsilon",
                 1e-2f);
        return true;
    }
    sprintf(in, "%s,%s,%s,%s,%s", x->name, scale, bias, rg_weights(r, 1, &c, -1, 1),
            rg_weights(r, 1, &c, 0.5, 2));
    mb_float(rg_node(r, "BatchNormalization", in, rg_new(r, x->rank, x->dims, x)), "epsilon",
             1e-3f);
    return true;
}

static inline bool rg_unary(rg *r, rg_value *x)
{
    static const char *const ops[] = {"Relu",     "Relu",        "Relu",     "LeakyRelu", "Sigmoid",
                                      "Tanh",     "HardSigmoid", "Elu",      "Neg",       "Abs",
                                      "Softplus", "Erf",         "Identity", "Softsign",  "Selu"};
    const char *op = ops[rg_pick(r, sizeof ops / sizeof *ops)];
    rg_use(x);
    rg_value *y = rg_new(r, x->rank, x->dims, x);
    mb_node *n = rg_node(r, op, x->name, y);
    if (strcmp(op, "LeakyRelu") == 0 && rg_chance(r, 50)) mb_float(n, "alpha", 0.2f);
    return true;
}

static inline bool rg_clip(rg *r, rg_value *x)
{
    const char *lo = rg_float(r, rg_chance(r, 50) ? 0 : -0.7f), *hi = rg_float(r, 0.8f);
    rg_use(x);
    const char *in = rg_chance(r, 80) ? rg_join(x->name, lo, hi) : rg_join(x->name, "", hi);
    rg_node(r, "Clip", in, rg_new(r, x->rank, x->dims, x));
    return true;
}

/* x * sigmoid(x), x * hard_sigmoid(x), and mish: what exporters write for activations. */
static inline bool rg_swish(rg *r, rg_value *x)
{
    rg_use(x);
    rg_value *y = rg_new(r, x->rank, x->dims, x);
    const char *ops[] = {"Sigmoid", "HardSigmoid", "Tanh"};
    rg_node(r, ops[rg_pick(r, 3)], x->name, y);
    rg_value *z = rg_new(r, x->rank, x->dims, y);
    rg_node(r, "Mul",
            rg_chance(r, 50) ? rg_join(x->name, y->name, NULL) : rg_join(y->name, x->name, NULL),
            z);
    y->uses++;
    return true;
}

static inline bool rg_binary(rg *r, rg_value *x)
{
    rg_value *other = rg_same(r, x);
    static const char *const ops[] = {"Add", "Add", "Add", "Sub", "Mul", "Max", "Min"};
    const char *op = ops[rg_pick(r, 7)];
    if (!other) {
        if (!rg_chance(r, 20)) return false;
        other = x;
    }
    if (strcmp(op, "Mul") == 0 && x->spread * other->spread > 50) op = "Add";
    rg_use(x);
    rg_use(other);
    const char *in = rg_join(x->name, other->name, NULL);
    rg_value *y = rg_new(r, x->rank, x->dims, x);
    y->spread = strcmp(op, "Mul") == 0 ? x->spread * other->spread : x->spread + other->spread;
    rg_node(r, op, in, y);
    return true;
}

/* With a constant: a scalar, one per channel, a row, or the whole shape but the batch. */
static inline bool rg_binary_const(rg *r, rg_value *x)
{
    static const char *const ops[] = {"Add", "Mul", "Sub", "Div", "Max", "PRelu", "Pow"};
    const char *op = ops[rg_pick(r, 7)], *k;
    int64_t dims[4] = {1, 1, 1, 1};
    int rank = x->rank, shape = (int)rg_pick(r, 5);
    bool divisor = strcmp(op, "Div") == 0;
    if (strcmp(op, "Pow") == 0) {
        if (x->spread > 3) return false;
        rg_use(x);
        rg_value *y = rg_new(r, x->rank, x->dims, x);
        y->spread = x->spread * x->spread;
        rg_node(r, op, rg_join(x->name, rg_float(r, 2), NULL), y);
        return true;
    }
    if (shape == 0) {
        k = rg_float(r, divisor ? 1.7f : -0.6f);
    } else {
        if (shape == 1 && rank >= 2) { /* channel, with the rank of x or without the batch */
            dims[1] = x->dims[1];
            if (rg_chance(r, 50)) {
                rank--;
                memmove(dims, dims + 1, 3 * sizeof *dims);
            }
        } else if (shape == 2) {
            rank = 1;
            dims[0] = x->dims[x->rank - 1];
        } else {
            for (int i = 1; i < rank; i++) dims[i] = x->dims[i];
            if (shape == 4 && !x->batch) dims[0] = x->dims[0];
        }
        k = rg_weights(r, rank, dims, divisor ? 0.5 : -1, divisor ? 2 : 1);
    }
    bool swap = !divisor && strcmp(op, "PRelu") != 0 && rg_chance(r, 40);
    rg_use(x);
    rg_value *y = rg_new(r, x->rank, x->dims, x);
    rg_node(r, op, swap ? rg_join(k, x->name, NULL) : rg_join(x->name, k, NULL), y);
    y->spread += 1;
    return true;
}

/* Squeeze and excite: the image scaled by a function of its channel means. */
static inline bool rg_excite(rg *r, rg_value *x)
{
    if (x->rank != 4) return false;
    int64_t c = x->dims[1], dims[4] = {x->dims[0], c, 1, 1}, wdims[4] = {c, c, 1, 1};
    rg_value *mean = rg_new(r, 4, dims, x);
    if (rg_chance(r, 50) || r->opset >= 18)
        rg_node(r, "GlobalAveragePool", x->name, mean);
    else
        mb_ints(rg_node(r, "ReduceMean", x->name, mean), "axes", 2, (int64_t[]){2, 3});
    rg_value *mixed = rg_new(r, 4, dims, mean);
    rg_node(r, "Conv", rg_join(mean->name, rg_weights(r, 4, wdims, -0.5, 0.5), NULL), mixed);
    rg_value *gate = rg_new(r, 4, dims, mixed);
    rg_node(r, rg_chance(r, 50) ? "Sigmoid" : "HardSigmoid", mixed->name, gate);
    rg_value *y = rg_new(r, 4, x->dims, x);
    rg_node(r, "Mul",
            rg_chance(r, 50) ? rg_join(x->name, gate->name, NULL)
                             : rg_join(gate->name, x->name, NULL),
            y);
    x->uses += 2;
    mean->uses++, mixed->uses++, gate->uses++;
    return true;
}

static inline bool rg_concat(rg *r, rg_value *x)
{
    if (x->rank < 2) return false;
    rg_value *other = rg_same(r, x);
    int axis = x->rank == 2 || rg_chance(r, 70) ? 1 : 1 + (int)rg_pick(r, x->rank - 1);
    int64_t dims[4];
    const char *name = other ? other->name : x->name;
    memcpy(dims, x->dims, sizeof dims);
    if (dims[axis] * 2 > RG_MAX_CHANNELS && axis == 1) return false;
    dims[axis] *= 2;
    if (!x->batch && rg_chance(r, 30)) {
        int64_t kdims[4];
        memcpy(kdims, x->dims, sizeof kdims);
        kdims[axis] = 2;
        dims[axis] = x->dims[axis] + 2;
        name = rg_weights(r, x->rank, kdims, -1, 1);
        other = NULL;
    }
    rg_use(x);
    if (other) rg_use(other);
    const char *in = rg_chance(r, 50) ? rg_join(x->name, name, NULL) : rg_join(name, x->name, NULL);
    mb_int(rg_node(r, "Concat", in, rg_new(r, x->rank, dims, x)), "axis",
           rg_chance(r, 30) ? axis - x->rank : axis);
    return true;
}

static inline bool rg_split(rg *r, rg_value *x)
{
    if (x->rank < 2) return false;
    int axis = rg_chance(r, 70) ? 1 : 1 + (int)rg_pick(r, x->rank - 1);
    if (x->dims[axis] < 2) return false;
    int64_t parts[2] = {1 + rg_pick(r, x->dims[axis] - 1)}, dims[4];
    parts[1] = x->dims[axis] - parts[0];
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = parts[0];
    const char *in = x->name;
    if (r->opset >= 13) in = rg_join(x->name, rg_ints(r, 2, parts), NULL);
    rg_use(x);
    mb_node *n = rg_node(r, "Split", in, rg_new(r, x->rank, dims, x));
    dims[axis] = parts[1];
    rg_value *second = rg_new(r, x->rank, dims, x);
    MB_APPEND(n->output, n->n_output, mb_str(second->name));
    if (r->opset < 13) mb_ints(n, "split", 2, parts);
    mb_int(n, "axis", rg_chance(r, 30) ? axis - x->rank : axis);
    return true;
}

static inline bool rg_slice(rg *r, rg_value *x)
{
    int first = x->batch ? 1 : 0;
    if (x->rank <= first) return false;
    int axis = first + (int)rg_pick(r, x->rank - first);
    int64_t size = x->dims[axis], dims[4], start = rg_pick(r, size);
    if (size < 2) return false;
    memcpy(dims, x->dims, sizeof dims);
    bool back = rg_chance(r, 15);
    int64_t step = back ? -1 : 1 + (rg_chance(r, 25) ? 1 : 0), end = back ? INT64_MIN / 2 : size;
    dims[axis] = back ? start + 1 : (size - start + step - 1) / step;
    int64_t named = rg_chance(r, 30) ? axis - x->rank : axis;
    char *in = mb_alloc(100);
    sprintf(in, "%s,%s,%s,%s,%s", x->name, rg_ints(r, 1, &start), rg_ints(r, 1, &end),
            rg_ints(r, 1, &named), rg_ints(r, 1, &step));
    rg_use(x);
    rg_node(r, "Slice", in, rg_new(r, x->rank, dims, x));
    return true;
}

static inline bool rg_pad(rg *r, rg_value *x)
{
    if (x->rank != 4 || x->dims[2] + 3 > RG_MAX_SIZE || x->dims[3] + 3 > RG_MAX_SIZE) return false;
    static const char *const modes[] = {"constant", "constant", "reflect", "edge"};
    const char *mode = modes[rg_pick(r, 4)];
    int64_t pads[8] = {0}, dims[4];
    memcpy(dims, x->dims, sizeof dims);
    for (int i = rg_chance(r, 15) ? 1 : 2; i < 4; i++) {
        pads[i] = rg_pick(r, 3);
        pads[4 + i] = rg_pick(r, 2);
        if (strcmp(mode, "reflect") == 0 && (pads[i] >= dims[i] || pads[4 + i] >= dims[i]))
            return false;
        dims[i] += pads[i] + pads[4 + i];
    }
    const char *value = NULL, *list = rg_ints(r, 8, pads);
    if (strcmp(mode, "constant") == 0 && rg_chance(r, 50))
        value = rg_float(r, rg_chance(r, 50) ? 0 : 0.5f);
    rg_use(x);
    mb_node *n = rg_node(r, "Pad", rg_join(x->name, list, value), rg_new(r, 4, dims, x));
    mb_string(n, "mode", mode);
    if (dims[1] == x->dims[1] && rg_chance(r, 60)) return rg_conv(r, &r->values[r->count - 1]);
    return true;
}

static inline bool rg_reduce(rg *r, rg_value *x)
{
    static const char *const ops[] = {"ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"};
    if (x->rank < 3) return false;
    const char *op = ops[rg_pick(r, 4)];
    int64_t axes[2] = {x->rank - 2, x->rank - 1}, dims[4];
    size_t count = 2;
    bool keep = rg_chance(r, 50);
    if (rg_chance(r, 40)) {
        count = 1;
        axes[0] = 1 + rg_pick(r, x->rank - 1);
    }
    int rank = 0;
    for (int i = 0; i < x->rank; i++) {
        bool gone = i == axes[0] || (count == 2 && i == axes[1]);
        if (!gone || keep) dims[rank++] = gone ? 1 : x->dims[i];
    }
    for (size_t i = 0; i < count && rg_chance(r, 40); i++) axes[i] -= x->rank;
    bool input = r->opset >= 18 || (r->opset >= 13 && strcmp(op, "ReduceSum") == 0);
    const char *in = input ? rg_join(x->name, rg_ints(r, count, axes), NULL) : x->name;
    rg_use(x);
    rg_value *y = rg_new(r, rank, dims, x);
    if (strcmp(op, "ReduceSum") == 0) y->spread *= 4;
    mb_node *n = rg_node(r, op, in, y);
    if (!input) mb_ints(n, "axes", count, axes);
    mb_int(n, "keepdims", keep);
    return true;
}

static inline bool rg_softmax(rg *r, rg_value *x)
{
    if (x->rank < 2) return false;
    int64_t axis = 1 + rg_pick(r, x->rank - 1);
    rg_use(x);
    mb_node *n = rg_node(r, rg_chance(r, 80) ? "Softmax" : "LogSoftmax", x->name,
                         rg_new(r, x->rank, x->dims, x));
    if (rg_chance(r, 80)) mb_int(n, "axis", rg_chance(r, 50) ? axis - x->rank : axis);
    return true;
}

static inline bool rg_transpose(rg *r, rg_value *x)
{
    int64_t perm[4] = {0, 1, 2, 3}, dims[4];
    if (x->rank < 2) return false;
    int first = r->dynamic || rg_chance(r, 80) ? 1 : 0;
    if (x->rank == 4 && rg_chance(r, 60)) {
        bool to_last = rg_chance(r, 50);
        memcpy(perm, to_last ? (int64_t[]){0, 2, 3, 1} : (int64_t[]){0, 3, 1, 2}, sizeof perm);
    } else {
        for (int i = x->rank - 1; i > first; i--) {
            int j = first + (int)rg_pick(r, i - first + 1);
            int64_t t = perm[i];
            perm[i] = perm[j];
            perm[j] = t;
        }
    }
    for (int i = 0; i < x->rank; i++) dims[i] = x->dims[perm[i]];
    rg_use(x);
    rg_value *y = rg_new(r, x->rank, dims, x);
    if (perm[0] != 0) y->batch = false;
    mb_ints(rg_node(r, "Transpose", x->name, y), "perm", (size_t)x->rank, perm);
    return true;
}

/* Flattening and folding: by constants, by -1 and 0, by the shape of the value worked out. */
static inline bool rg_reshape(rg *r, rg_value *x)
{
    if (x->rank < 3 || !x->batch) return false;
    int64_t rest = mb_product(x->rank - 1, x->dims + 1);
    int kind = (int)rg_pick(r, 4);
    int64_t dims[4] = {x->dims[0], rest};
    rg_use(x);
    if (kind == 0) {
        rg_node(r, "Flatten", x->name, rg_new(r, 2, dims, x));
    } else if (kind == 1) {
        rg_node(r, "Reshape", rg_join(x->name, rg_ints(r, 2, (int64_t[]){0, -1}), NULL),
                rg_new(r, 2, dims, x));
    } else if (kind == 2 && x->rank == 4) {
        int64_t cube[3] = {x->dims[0], x->dims[1], x->dims[2] * x->dims[3]};
        rg_node(r, "Reshape", rg_join(x->name, rg_ints(r, 3, (int64_t[]){0, 0, -1}), NULL),
                rg_new(r, 3, cube, x));
    } else {
        char *shape = mb_alloc(16), *head = mb_alloc(16), *up = mb_alloc(16), *all = mb_alloc(16);
        int id = r->nodes++;
        sprintf(shape, "sh%d", id), sprintf(head, "hd%d", id);
        sprintf(up, "up%d", id), sprintf(all, "al%d", id);
        mb_add(r->g, "Shape", shape, x->name, shape);
        const char *zero = rg_const_name(r);
        mb_raw(mb_initializer(r->g, zero, SPAROA_INT64, 0, NULL), &(int64_t){0}, 8);
        mb_int(mb_add(r->g, "Gather", head, rg_join(shape, zero, NULL), head), "axis", 0);
        if (r->opset >= 13)
            mb_add(r->g, "Unsqueeze", up, rg_join(head, rg_ints(r, 1, (int64_t[]){0}), NULL), up);
        else
            mb_ints(mb_add(r->g, "Unsqueeze", up, head, up), "axes", 1, (int64_t[]){0});
        mb_int(mb_add(r->g, "Concat", all, rg_join(up, rg_ints(r, 1, (int64_t[]){-1}), NULL), all),
               "axis", 0);
        rg_node(r, "Reshape", rg_join(x->name, all, NULL), rg_new(r, 2, dims, x));
    }
    return true;
}

/* Rank 2 or 3 back to an image. */
static inline bool rg_fold_back(rg *r, rg_value *x)
{
    if (!x->batch || (x->rank != 2 && x->rank != 3)) return false;
    int64_t rest = mb_product(x->rank - 1, x->dims + 1), side = 0;
    for (int64_t s = 4; s >= 2 && !side; s--)
        if (rest % (s * s) == 0 && rest / (s * s) <= RG_MAX_CHANNELS) side = s;
    if (!side) return false;
    int64_t dims[4] = {x->dims[0], rest / (side * side), side, side}, shape[4];
    memcpy(shape, dims, sizeof shape);
    shape[0] = rg_chance(r, 50) ? 0 : -1;
    rg_use(x);
    rg_node(r, "Reshape", rg_join(x->name, rg_ints(r, 4, shape), NULL), rg_new(r, 4, dims, x));
    return true;
}

static inline bool rg_matmul(rg *r, rg_value *x)
{
    if (x->rank < 2) return false;
    int64_t k = x->dims[x->rank - 1], n = 1 + rg_pick(r, 20), dims[4];
    double fan = sqrt(3.0 / (double)k);
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank - 1] = n;
    rg_use(x);
    if (x->rank == 2 && rg_chance(r, 50)) {
        bool turned = rg_chance(r, 50);
        int64_t wdims[2] = {turned ? n : k, turned ? k : n};
        const char *bias = rg_chance(r, 60) ? rg_weights(r, 1, &n, -1, 1) : NULL;
        const char *in = rg_join(x->name, rg_weights(r, 2, wdims, -fan, fan), bias);
        mb_node *node = rg_node(r, "Gemm", in, rg_new(r, 2, dims, x));
        if (turned) mb_int(node, "transB", 1);
        if (rg_chance(r, 20)) mb_float(node, "alpha", 0.5f);
        return true;
    }
    const char *in = rg_join(x->name, rg_weights(r, 2, (int64_t[]){k, n}, -fan, fan), NULL);
    rg_value *y = rg_new(r, x->rank, dims, x);
    rg_node(r, "MatMul", in, y);
    if (rg_chance(r, 60)) {
        rg_use(y);
        const char *bias = rg_weights(r, 1, &n, -1, 1);
        rg_node(r, "Add",
                rg_chance(r, 50) ? rg_join(y->name, bias, NULL) : rg_join(bias, y->name, NULL),
                rg_new(r, x->rank, dims, y));
    }
    return true;
}

static inline bool rg_resize(rg *r, rg_value *x)
{
    if (x->rank != 4 || x->dims[2] * 2 > RG_MAX_SIZE || x->dims[3] * 2 > RG_MAX_SIZE) return false;
    int64_t dims[4] = {x->dims[0], x->dims[1], x->dims[2] * 2, x->dims[3] * 2}, four = 4;
    const char *scales = rg_const_name(r);
    float factors[4] = {1, 1, 2, 2};
    mb_raw(mb_initializer(r->g, scales, SPAROA_FLOAT32, 1, &four), factors, sizeof factors);
    const char *roi = rg_const_name(r);
    mb_raw(mb_initializer(r->g, roi, SPAROA_FLOAT32, 1, &(int64_t){0}), NULL, 0);
    rg_use(x);
    mb_node *n = rg_node(r, "Resize", rg_join(x->name, roi, scales), rg_new(r, 4, dims, x));
    bool linear = rg_chance(r, 50);
    mb_string(n, "mode", linear ? "linear" : "nearest");
    mb_string(n, "coordinate_transformation_mode", linear ? "half_pixel" : "asymmetric");
    if (!linear) mb_string(n, "nearest_mode", "floor");
    return true;
}

static inline bool rg_depth_space(rg *r, rg_value *x)
{
    if (x->rank != 4) return false;
    bool to_space = rg_chance(r, 50);
    int64_t dims[4] = {x->dims[0]};
    if (to_space) {
        if (x->dims[1] % 4 || x->dims[2] > RG_MAX_SIZE / 2 || x->dims[3] > RG_MAX_SIZE / 2)
            return false;
        dims[1] = x->dims[1] / 4, dims[2] = x->dims[2] * 2, dims[3] = x->dims[3] * 2;
    } else {
        if (x->dims[2] % 2 || x->dims[3] % 2 || x->dims[1] * 4 > 2 * RG_MAX_CHANNELS) return false;
        dims[1] = x->dims[1] * 4, dims[2] = x->dims[2] / 2, dims[3] = x->dims[3] / 2;
    }
    rg_use(x);
    mb_node *n =
        rg_node(r, to_space ? "DepthToSpace" : "SpaceToDepth", x->name, rg_new(r, 4, dims, x));
    mb_int(n, "blocksize", 2);
    if (to_space && rg_chance(r, 50)) mb_string(n, "mode", "CRD");
    return true;
}

static inline bool rg_squeeze(rg *r, rg_value *x)
{
    int64_t axis = -1, dims[4];
    for (int i = x->rank - 1; i > 0; i--)
        if (x->dims[i] == 1) axis = i;
    bool drop = axis > 0 && x->rank > 2;
    if (!drop && x->rank > 3) return false;
    if (!drop) axis = 1 + rg_pick(r, x->rank);
    int rank = 0;
    for (int i = 0; i < x->rank; i++) {
        if (!drop && i == axis) dims[rank++] = 1;
        if (!(drop && i == axis)) dims[rank++] = x->dims[i];
    }
    if (!drop && axis == x->rank) dims[rank++] = 1;
    const char *op = drop ? "Squeeze" : "Unsqueeze";
    bool input = r->opset >= 13;
    const char *in = input ? rg_join(x->name, rg_ints(r, 1, &axis), NULL) : x->name;
    rg_use(x);
    mb_node *n = rg_node(r, op, in, rg_new(r, rank, dims, x));
    if (!input) mb_ints(n, "axes", 1, &axis);
    return true;
}

/* Layer normalisation over the last dimension, as exporters spell it out. */
static inline bool rg_layer_norm(rg *r, rg_value *x)
{
    if (x->rank < 2 || x->dims[x->rank - 1] < 3 || r->opset >= 18 || x->spread > 1e4) return false;
    int64_t c = x->dims[x->rank - 1], dims[4], last = -1;
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank - 1] = 1;
    rg_value *mean = rg_new(r, x->rank, dims, x), *d, *sq, *var, *eps, *root, *q;
    mb_ints(rg_node(r, "ReduceMean", x->name, mean), "axes", 1, &last);
    d = rg_new(r, x->rank, x->dims, x);
    rg_node(r, "Sub", rg_join(x->name, mean->name, NULL), d);
    sq = rg_new(r, x->rank, x->dims, x);
    rg_node(r, "Pow", rg_join(d->name, rg_float(r, 2), NULL), sq);
    var = rg_new(r, x->rank, dims, x);
    mb_ints(rg_node(r, "ReduceMean", sq->name, var), "axes", 1, &last);
    eps = rg_new(r, x->rank, dims, x);
    rg_node(r, "Add", rg_join(var->name, rg_float(r, 1e-2f), NULL), eps);
    root = rg_new(r, x->rank, dims, x);
    rg_node(r, "Sqrt", eps->name, root);
    q = rg_new(r, x->rank, x->dims, x);
    rg_node(r, "Div", rg_join(d->name, root->name, NULL), q);
    rg_value *scaled = rg_new(r, x->rank, x->dims, x);
    rg_node(r, "Mul", rg_join(q->name, rg_weights(r, 1, &c, 0.5, 1.5), NULL), scaled);
    rg_value *y = rg_new(r, x->rank, x->dims, x);
    rg_node(r, "Add", rg_join(scaled->name, rg_weights(r, 1, &c, -1, 1), NULL), y);
    y->spread = 2;
    x->uses += 2;
    mean->uses++, d->uses += 2, sq->uses++, var->uses++, eps->uses++, root->uses++, q->uses++;
    scaled->uses++;
    return true;
}

/* Gelu as exporters spell it out: 0.5 x (1 + erf(x / sqrt(2))). */
static inline bool rg_gelu(rg *r, rg_value *x)
{
    rg_value *part[4];
    for (int i = 0; i < 4; i++) part[i] = rg_new(r, x->rank, x->dims, x);
    rg_value *y = rg_new(r, x->rank, x->dims, x);
    rg_node(r, "Div", rg_join(x->name, rg_float(r, 1.41421356f), NULL), part[0]);
    rg_node(r, "Erf", part[0]->name, part[1]);
    rg_node(r, "Add", rg_join(part[1]->name, rg_float(r, 1), NULL), part[2]);
    rg_node(r, "Mul", rg_join(x->name, part[2]->name, NULL), part[3]);
    rg_node(r, "Mul", rg_join(part[3]->name, rg_float(r, 0.5f), NULL), y);
    x->uses += 2;
    for (int i = 0; i < 4; i++) part[i]->uses++;
    return true;
}

static inline bool rg_gather(rg *r, rg_value *x)
{
    int first = x->batch ? 1 : 0;
    if (x->rank <= first) return false;
    int axis = first + (int)rg_pick(r, x->rank - first);
    int64_t index[3], dims[4], size = x->dims[axis];
    for (int i = 0; i < 3; i++) index[i] = rg_pick(r, 2 * size) - size;
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = 3;
    rg_use(x);
    mb_int(rg_node(r, "Gather", rg_join(x->name, rg_ints(r, 3, index), NULL),
                   rg_new(r, x->rank, dims, x)),
           "axis", axis);
    return true;
}

typedef bool (*rg_op)(rg *r, rg_value *x);

/* Each step of a graph is one of these; what stands here twice comes twice as often. */
static const rg_op rg_ops[] = {
    rg_conv,           rg_conv,         rg_conv,         rg_conv,        rg_conv,
    rg_conv_transpose, rg_conv,         rg_conv,         rg_conv,        rg_conv,
    rg_conv,           rg_conv,         rg_pool,         rg_pool,        rg_norm,
    rg_norm,           rg_unary,        rg_unary,        rg_unary,       rg_clip,
    rg_swish,          rg_binary,       rg_binary,       rg_binary,      rg_excite,
    rg_concat,         rg_concat,       rg_split,        rg_slice,       rg_pad,
    rg_reduce,         rg_reduce,       rg_softmax,      rg_transpose,   rg_transpose,
    rg_reshape,        rg_matmul,       rg_resize,       rg_gather,      rg_depth_space,
    rg_squeeze,        rg_layer_norm,   rg_gelu,         rg_global_pool, rg_fold_back,
    rg_fold_back,      rg_binary_const, rg_binary_const, rg_binary_const};

#endif
