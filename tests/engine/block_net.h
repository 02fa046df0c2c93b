/* block_net.h - a model that is one inverted residual: a 1x1 convolution that expands, a depthwise
 * one, perhaps squeeze and excite, a 1x1 one that projects, perhaps a residual. */
#ifndef TESTS_ENGINE_BLOCK_NET_H
#define TESTS_ENGINE_BLOCK_NET_H

#include <math.h>

#include "tests/support/support.h"

typedef struct bn_block {
    int64_t h, w, c_in, c, c_out; /* c_in 0: nothing expands; c_out 0: nothing projects */
    int64_t kernel, stride, dilation, pads[4];
    const char *act, *last_act; /* operators, or NULL */
    bool residual, gate;        /* gate: squeeze and excite behind the depthwise one */
} bn_block;

static inline mb_node *bn_conv(mb_graph *g, const char *name, const char *in, int64_t to,
                               int64_t from, int64_t kernel, uint64_t key, const char *out)
{
    char weights[16], bias[16], inputs[64];
    snprintf(weights, sizeof weights, "w_%s", name);
    snprintf(bias, sizeof bias, "b_%s", name);
    snprintf(inputs, sizeof inputs, "%s,%s,%s", in, weights, bias);
    double scale = sqrt(3.0 / (double)(from * kernel * kernel));
    mb_random(g, weights, MB_DIMS(to, from, kernel, kernel), key, -scale, scale);
    mb_random(g, bias, MB_DIMS(to), key + 1, -0.5, 0.5);
    return mb_add(g, "Conv", name, inputs, out);
}

/* The value that the activation of `in` is. */
static inline const char *bn_activate(mb_graph *g, const char *act, const char *in, const char *out)
{
    if (!act) return in;
    mb_add(g, act, out, in, out);
    return out;
}

static inline mb_model *bn_net(const bn_block *b)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    const char *at = "x";
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, b->c_in ? b->c_in : b->c, b->h, b->w));
    if (b->c_in) {
        bn_conv(g, "expand", at, b->c, b->c_in, 1, 1, "e");
        at = bn_activate(g, b->act, "e", "ea");
    }
    mb_node *depthwise = bn_conv(g, "middle", at, b->c, 1, b->kernel, 3, "d");
    mb_int(depthwise, "group", b->c);
    mb_ints(depthwise, "pads", 4, b->pads);
    mb_ints(depthwise, "strides", 2, (int64_t[]){b->stride, b->stride});
    mb_ints(depthwise, "dilations", 2, (int64_t[]){b->dilation, b->dilation});
    at = bn_activate(g, b->act, "d", "da");
    if (b->gate) {
        mb_add(g, "GlobalAveragePool", "squeeze", at, "q");
        bn_conv(g, "excite", "q", b->c, b->c, 1, 5, "x1");
        mb_add(g, "HardSigmoid", "gate", "x1", "x2");
        char both[32];
        snprintf(both, sizeof both, "%s,x2", at);
        mb_add(g, "Mul", "scale", both, "scaled");
        at = "scaled";
    }
    if (b->c_out) {
        bn_conv(g, "project", at, b->c_out, b->c, 1, 7, "p");
        at = "p";
        if (b->residual) {
            mb_add(g, "Add", "add", "p,x", "sum");
            at = "sum";
        }
        at = bn_activate(g, b->last_act, at, "last");
    }
    mb_output(g, at);
    return m;
}

#endif
