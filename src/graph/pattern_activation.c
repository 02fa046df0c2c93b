/* Activations: SiLU, HardSwish, HardSigmoid, Mish and GELU in the spellings of torch, tf2onnx and
 * paddle2onnx. */
#include <string.h>

#include "graph/pattern.h"

#define SQRT_HALF 0.70710678118654752
#define SQRT_2_OVER_PI 0.79788456080286536

/* Clip with constant bounds. */
static bool is_clip(const sp_pattern *p, const sp_gnode *n, double lo, double hi)
{
    sparoa_node attrs = sp_node_attrs(n);
    double min = sparoa_attr_float(&attrs, "min", -INFINITY),
           max = sparoa_attr_float(&attrs, "max", INFINITY);
    if (n->n_in > 1 && n->in[1] != SP_NO_ID && !sp_pattern_scalar(p, n->in[1], &min)) return false;
    if (n->n_in > 2 && n->in[2] != SP_NO_ID && !sp_pattern_scalar(p, n->in[2], &max)) return false;
    return min == lo && max == hi;
}

/* value = x + b, nobody else uses it. */
static bool is_shifted(const sp_pattern *p, sp_id value, double b, sp_id *x)
{
    const sp_gnode *add = sp_pattern_only(p, value, "Add");
    double c;
    return add && sp_pattern_with_scalar(p, add, x, &c) && sp_pattern_near(p, value, c, b);
}

/* value = clip(x + 3, 0, 6), nobody else uses it. */
static bool is_relu6_of_shifted(const sp_pattern *p, sp_id value, sp_id *x)
{
    const sp_gnode *clip = sp_pattern_only(p, value, "Clip");
    return clip && is_clip(p, clip, 0, 6) && is_shifted(p, clip->in[0], 3, x);
}

/* ---- products of x and a function of x ---- */

typedef struct found {
    const char *op;
    int32_t version;
    float alpha; /* Swish */
    bool tanh;   /* Gelu */
} found;

static bool swish(const sp_pattern *p, sp_id x, sp_id f, double c, found *out)
{
    const sp_gnode *sigmoid = sp_pattern_only(p, f, "Sigmoid");
    double alpha;
    if (!sigmoid || c != 1 || !sp_pattern_scaled(p, sigmoid->in[0], x, &alpha)) return false;
    *out = (found){.op = "Swish", .version = 24, .alpha = (float)alpha};
    return true;
}

static bool hard_swish(const sp_pattern *p, sp_id x, sp_id f, double c, found *out)
{
    const sp_gnode *gate = sp_pattern_only(p, f, "HardSigmoid");
    sp_id inner;
    bool fits = false;
    if (gate) {
        sparoa_node attrs = sp_node_attrs(gate);
        fits = c == 1 && gate->in[0] == x &&
               sp_pattern_near(p, x, sparoa_attr_float(&attrs, "alpha", 0.2f), 1.0 / 6) &&
               sparoa_attr_float(&attrs, "beta", 0.5f) == 0.5f;
    } else {
        fits = sp_pattern_near(p, x, c, 1.0 / 6) && is_relu6_of_shifted(p, f, &inner) && inner == x;
    }
    *out = (found){.op = "HardSwish", .version = 14};
    return fits;
}

static bool mish(const sp_pattern *p, sp_id x, sp_id f, double c, found *out)
{
    const sp_gnode *tanh_ = sp_pattern_only(p, f, "Tanh"),
                   *softplus = tanh_ ? sp_pattern_only(p, tanh_->in[0], "Softplus") : NULL;
    *out = (found){.op = "Mish", .version = 18};
    return softplus && c == 1 && softplus->in[0] == x;
}

/* The product is c x^power. */
static bool is_power(const sp_pattern *p, sp_id value, sp_id x, double c, int power)
{
    sp_product product;
    double e;
    int have = 0;
    if (sp_pattern_uses(p, value) != 1 || !sp_pattern_product(p, value, &product)) return false;
    if (!sp_pattern_near(p, x, product.c, c)) return false;
    for (int32_t k = 0; k < product.count; k++) {
        const sp_gnode *pow_ = sp_pattern_from(p, product.factor[k], "Pow"),
                       *square = sp_pattern_from(p, product.factor[k], "Mul");
        if (product.factor[k] == x)
            have++;
        else if (pow_ && pow_->in[0] == x && sp_pattern_scalar(p, pow_->in[1], &e) &&
                 (e == 2 || e == 3))
            have += (int)e;
        else if (square && square->in[0] == x && square->in[1] == x)
            have += 2;
        else
            return false;
    }
    return have == power;
}

/* u = sqrt(2 / pi) (x + 0.044715 x^3), or with x taken out. */
static bool is_tanh_argument(const sp_pattern *p, sp_id u, sp_id x)
{
    sp_product product;
    sp_id y;
    if (sp_pattern_uses(p, u) != 1 || !sp_pattern_product(p, u, &product) ||
        !sp_pattern_near(p, x, product.c, SQRT_2_OVER_PI))
        return false;
    if (product.count == 1) {
        const sp_gnode *add = sp_pattern_only(p, product.factor[0], "Add");
        if (!add || add->n_in != 2 || (add->in[0] != x && add->in[1] != x)) return false;
        return is_power(p, add->in[0] == x ? add->in[1] : add->in[0], x, 0.044715, 3);
    }
    for (int32_t k = 0; k < 2 && product.count == 2; k++)
        if (product.factor[k] == x && is_shifted(p, product.factor[1 - k], 1, &y))
            return is_power(p, y, x, 0.044715, 2);
    return false;
}

static bool gelu(const sp_pattern *p, sp_id x, sp_id f, double c, found *out)
{
    sp_id inner;
    double scale;
    if (!sp_pattern_near(p, x, c, 0.5) || !is_shifted(p, f, 1, &inner)) return false;
    const sp_gnode *erf_ = sp_pattern_only(p, inner, "Erf"),
                   *tanh_ = sp_pattern_only(p, inner, "Tanh");
    *out = (found){.op = "Gelu", .version = 20, .tanh = tanh_ != NULL};
    if (erf_)
        return sp_pattern_scaled(p, erf_->in[0], x, &scale) &&
               sp_pattern_near(p, x, scale, SQRT_HALF);
    return tanh_ && is_tanh_argument(p, tanh_->in[0], x);
}

static bool replace(sp_pattern *p, sp_id node, sp_id x, const found *f)
{
    sp_id made = sp_pattern_replace(p, node, f->op, f->version, &x, 1);
    bool ok = made != SP_NO_ID;
    if (ok && strcmp(f->op, "Swish") == 0) ok = sp_node_set_float(p->g, made, "alpha", f->alpha);
    if (ok && strcmp(f->op, "Gelu") == 0)
        ok = sp_node_set_string(p->g, made, "approximate", f->tanh ? "tanh" : "none");
    return sp_pattern_done(p, ok);
}

static bool hard_sigmoid(sp_pattern *p, sp_id node, sp_id x, double alpha, double beta)
{
    sp_id made = sp_pattern_replace(p, node, "HardSigmoid", 22, &x, 1);
    return sp_pattern_done(p, made != SP_NO_ID &&
                                  sp_node_set_float(p->g, made, "alpha", (float)alpha) &&
                                  sp_node_set_float(p->g, made, "beta", (float)beta));
}

/* clip(alpha x + beta, 0, 1). */
static bool clipped_line(sp_pattern *p, sp_id node)
{
    const sp_gnode *clip = &p->g->nodes[node],
                   *add = is_clip(p, clip, 0, 1) ? sp_pattern_only(p, clip->in[0], "Add") : NULL;
    sp_product line;
    sp_id inner;
    double beta;
    if (!add || !sp_pattern_with_scalar(p, add, &inner, &beta)) return false;
    if (sp_pattern_uses(p, inner) != 1 || !sp_pattern_product(p, inner, &line)) return false;
    return line.count == 1 && line.factor[0] != inner &&
           hard_sigmoid(p, node, line.factor[0], line.c, beta);
}

bool sp_pattern_activation(sp_pattern *p, sp_id node)
{
    static bool (*const kinds[])(const sp_pattern *, sp_id, sp_id, double,
                                 found *) = {swish, hard_swish, mish, gelu};
    const sp_gnode *n = &p->g->nodes[node];
    sp_product product;
    sp_id x;
    found f;
    if (sp_node_is(n, "Clip")) return sp_pattern_is_float(p, n->out[0]) && clipped_line(p, node);
    if (!sp_node_is(n, "Mul") && !sp_node_is(n, "Div")) return false;
    if (!sp_pattern_is_float(p, n->out[0]) || !sp_pattern_product(p, n->out[0], &product))
        return false;
    if (product.count == 1 && sp_pattern_near(p, n->out[0], product.c, 1.0 / 6) &&
        is_relu6_of_shifted(p, product.factor[0], &x))
        return hard_sigmoid(p, node, x, 1.0 / 6, 0.5);
    for (int32_t k = 0; k < 2 && product.count == 2; k++)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (kinds[i](p, product.factor[k], product.factor[1 - k], product.c, &f))
                return replace(p, node, product.factor[k], &f);
    return false;
}
