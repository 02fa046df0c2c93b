#include "ops/epilogue.h"

#include "ops/op.h"

const char *const sp_act_names[SP_ACT_COUNT] = {
    "none",        "relu",      "clip", "leakyrelu", "sigmoid",   "tanh",
    "hardsigmoid", "hardswish", "silu", "gelu",      "gelu_tanh",
};

static sp_act act_of(const char *name)
{
    for (int i = 0; i < SP_ACT_COUNT; i++)
        if (strcmp(sp_act_names[i], name) == 0) return (sp_act)i;
    return SP_ACT_NONE;
}

/* com.microsoft FusedConv and FusedGemm name their activation by an ONNX operator. */
static void read_contrib(const sparoa_node *node, sp_epilogue *e)
{
    static const struct {
        const char *name;
        sp_act act;
        float a, b;
    } rows[] = {
        {"Relu", SP_ACT_RELU, 0, 0},
        {"Tanh", SP_ACT_TANH, 0, 0},
        {"Sigmoid", SP_ACT_SIGMOID, 0, 0},
        {"LeakyRelu", SP_ACT_LEAKYRELU, 0.01f, 0},
        {"Clip", SP_ACT_CLIP, -INFINITY, INFINITY},
        {"HardSigmoid", SP_ACT_HARDSIGMOID, 0.2f, 0.5f},
        {"HardSwish", SP_ACT_HARDSWISH, 0, 0},
        {"Gelu", SP_ACT_GELU, 0, 0},
    };
    const char *name = sparoa_attr_string(node, "activation", "");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, name) != 0) continue;
        size_t n;
        const float *params = sparoa_attr_floats(node, "activation_params", &n);
        e->act = rows[i].act;
        e->a = n > 0 ? params[0] : sparoa_attr_float(node, "activation_alpha", rows[i].a);
        e->b = n > 1 ? params[1] : sparoa_attr_float(node, "activation_beta", rows[i].b);
    }
}

sp_epilogue sp_epilogue_of(const sparoa_node *node)
{
    sp_epilogue e = {.residual_input = -1, .bias_input = -1};
    int32_t last = node->n_in - 1;
    int64_t residual = sparoa_attr_int(node, "sp.residual", 0);
    if (strcmp(node->domain, "com.microsoft") == 0) {
        read_contrib(node, &e);
        if (strcmp(node->op, "FusedConv") == 0 && node->n_in == 4) residual = 1;
    }
    const char *act = sparoa_attr_string(node, "sp.act", NULL);
    if (act) {
        e.act = act_of(act);
        e.a = sparoa_attr_float(node, "sp.act_a", 0);
        e.b = sparoa_attr_float(node, "sp.act_b", 0);
    }
    if ((residual == 1 || residual == 2) && last > 0 && node->in[last]) {
        e.residual = (int)residual;
        e.residual_input = last--;
    }
    if (sparoa_attr_int(node, "sp.bias", 0) == 1 && last > 0 && node->in[last]) e.bias_input = last;
    return e;
}

sparoa_status sp_epilogue_check(const sparoa_node *node, sparoa_error *err)
{
    sp_epilogue e = sp_epilogue_of(node);
    if (e.residual_input < 0) return SPAROA_OK;
    const sparoa_tensor *r = node->in[e.residual_input], *out = node->out[0];
    if (r->dtype != out->dtype)
        return sparoa_fail(err, SPAROA_TYPE_MISMATCH, node, "the residual is %s, the output %s",
                           sparoa_dtype_name(r->dtype), sparoa_dtype_name(out->dtype));
    if (sp_known(r) && sp_known(out) && !sp_same_shape(r, out))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the residual has not the shape of the output");
    return SPAROA_OK;
}

bool sp_is_nhwc(const sparoa_node *node)
{
    return sparoa_attr_int(node, "sp.nhwc", 0) == 1;
}

/* Comparisons are such that NaN passes through. */
static double apply(sp_act act, double a, double b, double x)
{
    switch (act) {
    case SP_ACT_RELU: return x < 0 ? 0 : x;
    case SP_ACT_CLIP: x = x < a ? a : x; return x > b ? b : x;
    case SP_ACT_LEAKYRELU: return x < 0 ? a * x : x;
    case SP_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case SP_ACT_TANH: return tanh(x);
    case SP_ACT_HARDSIGMOID:
        x = a * x + b;
        x = x > 1 ? 1 : x;
        return x < 0 ? 0 : x;
    case SP_ACT_HARDSWISH: {
        double h = x / 6 + 0.5;
        h = h > 1 ? 1 : h;
        return x * (h < 0 ? 0 : h);
    }
    case SP_ACT_SILU: return x / (1 + exp(-x));
    case SP_ACT_GELU: return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    case SP_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    default: return x;
    }
}

float sp_act_apply(sp_act act, float a, float b, float x)
{
    return (float)apply(act, a, b, x);
}

void sp_epilogue_run(const sp_epilogue *e, const sparoa_node *node)
{
    sparoa_tensor *out = node->out[0];
    const sparoa_tensor *residual = e->residual_input >= 0 ? node->in[e->residual_input] : NULL;
    int64_t n = sp_count(out);
    if (e->act == SP_ACT_NONE && !residual) return;
    switch (out->dtype) {
#define X(T, dt)                                                                                   \
    case dt: {                                                                                     \
        T *y = out->data;                                                                          \
        const T *r = residual ? residual->data : NULL;                                             \
        if (r && e->residual == 1)                                                                 \
            for (int64_t i = 0; i < n; i++) y[i] += r[i];                                          \
        if (e->act == SP_ACT_RELU)                                                                 \
            for (int64_t i = 0; i < n; i++) y[i] = y[i] < 0 ? 0 : y[i];                            \
        else if (e->act != SP_ACT_NONE)                                                            \
            for (int64_t i = 0; i < n; i++) y[i] = (T)apply(e->act, e->a, e->b, y[i]);             \
        if (r && e->residual == 2)                                                                 \
            for (int64_t i = 0; i < n; i++) y[i] += r[i];                                          \
        break;                                                                                     \
    }
        SP_FOR_FLOATS(X)
#undef X
    default: break;
    }
}
