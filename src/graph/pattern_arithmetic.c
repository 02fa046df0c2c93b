/* Arithmetic that does nothing or is cheaper said otherwise: x + 0, x * 1, x^2, x / 2^k. */
#include <string.h>

#include "graph/pattern.h"

static bool to_identity(sp_pattern *p, sp_id node, sp_id x)
{
    return sp_pattern_done(p, sp_pattern_replace(p, node, "Identity", 13, &x, 1) != SP_NO_ID);
}

/* The constant that leaves every x as it is, as the second operand. */
static bool neutral(const sp_gnode *n, double *value)
{
    bool sum = sp_node_is(n, "Add") || sp_node_is(n, "Sub");
    bool product = sp_node_is(n, "Mul") || sp_node_is(n, "Div") || sp_node_is(n, "Pow");
    *value = sum ? 0 : 1;
    return sum || product;
}

static bool square(sp_pattern *p, sp_id node, sp_id x)
{
    sp_id in[2] = {x, x};
    return sp_pattern_done(p, sp_pattern_replace(p, node, "Mul", 14, in, 2) != SP_NO_ID);
}

/* Division by a power of two is multiplication by its inverse, bit for bit. */
static bool divide(sp_pattern *p, sp_id node, sp_id x, double c)
{
    int exponent;
    if (fabs(frexp(c, &exponent)) != 0.5 || abs(exponent) > 12) return false;
    const sparoa_tensor f = p->g->values[p->g->nodes[node].in[1]].fact;
    sp_id in[2] = {x, sp_add_const(p->g, "inverse", f.dtype, f.rank, f.dims, NULL)};
    if (in[1] == SP_NO_ID) return sp_pattern_done(p, false);
    sp_set_f64(&p->g->values[in[1]].fact, 0, 1 / c);
    return sp_pattern_done(p, sp_pattern_replace(p, node, "Mul", 14, in, 2) != SP_NO_ID);
}

bool sp_pattern_arithmetic(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    double c, none;
    sp_id x;
    if (!neutral(n, &none) || !sp_pattern_is_float(p, n->out[0])) return false;
    if (!sp_pattern_with_scalar(p, n, &x, &c)) return false;
    if (p->g->values[x].kind == SP_VALUE_CONST ||
        p->g->values[x].fact.dtype != p->g->values[n->out[0]].fact.dtype)
        return false;
    bool swaps = sp_node_is(n, "Add") || sp_node_is(n, "Mul");
    if (!swaps && x != n->in[0]) return false;
    if (c == none) return to_identity(p, node, x);
    if (sp_node_is(n, "Pow") && c == 2) return square(p, node, x);
    return sp_node_is(n, "Div") && divide(p, node, x, c);
}
