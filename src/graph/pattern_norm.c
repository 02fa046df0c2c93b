/* LayerNormalization and RMSNormalization spelled out over the last dimensions. */
#include <string.h>

#include "graph/pattern.h"

typedef struct row_norm {
    sp_id x;
    bool centred;
    int32_t tail; /* dimensions of x that make up a row */
    double epsilon;
} row_norm;

/* ReduceMean over the last dimensions, which stay as ones. */
static const sp_gnode *tail_mean(const sp_pattern *p, sp_id value, int32_t *tail)
{
    const sp_gnode *n = sp_pattern_only(p, value, "ReduceMean");
    uint32_t axes;
    if (!n || !sp_pattern_axes(p, n, &axes)) return NULL;
    sparoa_node attrs = sp_node_attrs(n);
    int32_t rank = sp_node_in(p->g, n, 0)->rank;
    *tail = 0;
    while (*tail < rank && axes & 1u << (rank - 1 - *tail)) ++*tail;
    bool rest = axes & ((1u << (rank - *tail)) - 1);
    return *tail > 0 && !rest && sparoa_attr_int(&attrs, "keepdims", 1) == 1 ? n : NULL;
}

/* value = a^0.5: Sqrt or Pow. */
static sp_id root_of(const sp_pattern *p, sp_id value)
{
    const sp_gnode *root = sp_pattern_only(p, value, "Sqrt"),
                   *power = sp_pattern_only(p, value, "Pow");
    double e;
    if (root) return root->in[0];
    return power && sp_pattern_scalar(p, power->in[1], &e) && e == 0.5 ? power->in[0] : SP_NO_ID;
}

/* value = a^-0.5: Reciprocal or 1 / of a root, or Pow. */
static sp_id inverse_root_of(const sp_pattern *p, sp_id value)
{
    const sp_gnode *inverse = sp_pattern_only(p, value, "Reciprocal"),
                   *div = sp_pattern_only(p, value, "Div"),
                   *power = sp_pattern_only(p, value, "Pow");
    double c;
    if (inverse) return root_of(p, inverse->in[0]);
    if (div && sp_pattern_scalar(p, div->in[0], &c) && c == 1) return root_of(p, div->in[1]);
    return power && sp_pattern_scalar(p, power->in[1], &c) && c == -0.5 ? power->in[0] : SP_NO_ID;
}

/* value = d^2; *uses: how often it names d. */
static bool is_square(const sp_pattern *p, sp_id value, sp_id d, uint32_t *uses)
{
    const sp_gnode *mul = sp_pattern_only(p, value, "Mul"),
                   *power = sp_pattern_only(p, value, "Pow");
    double e;
    *uses = mul ? 2 : 1;
    if (mul) return mul->n_in == 2 && mul->in[0] == d && mul->in[1] == d;
    return power && power->in[0] == d && sp_pattern_scalar(p, power->in[1], &e) && e == 2;
}

/* d / sqrt(mean(d^2) + epsilon), given d and what is under the root. */
static bool read_norm(const sp_pattern *p, sp_id d, sp_id under, row_norm *out)
{
    sp_id mean;
    uint32_t uses;
    int32_t tail;
    const sp_gnode *add = under == SP_NO_ID ? NULL : sp_pattern_only(p, under, "Add");
    if (!add || d == SP_NO_ID || !sp_pattern_with_scalar(p, add, &mean, &out->epsilon))
        return false;
    const sp_gnode *reduce = tail_mean(p, mean, &out->tail);
    if (!reduce || !is_square(p, reduce->in[0], d, &uses)) return false;
    if (!(out->epsilon >= 0) || p->g->values[d].fact.rank < 1) return false;
    const sp_gnode *sub = sp_pattern_from(p, d, "Sub");
    const sp_gnode *centre =
        sub && sp_pattern_uses(p, d) == uses + 1 ? tail_mean(p, sub->in[1], &tail) : NULL;
    out->centred = centre && tail == out->tail && centre->in[0] == sub->in[0];
    out->x = out->centred ? sub->in[0] : d;
    return true;
}

static bool match(const sp_pattern *p, const sp_gnode *n, row_norm *out)
{
    if (n->n_in != 2 || !sp_pattern_is_float(p, n->out[0])) return false;
    if (sp_node_is(n, "Div")) return read_norm(p, n->in[0], root_of(p, n->in[1]), out);
    if (!sp_node_is(n, "Mul")) return false;
    return read_norm(p, n->in[0], inverse_root_of(p, n->in[1]), out) ||
           read_norm(p, n->in[1], inverse_root_of(p, n->in[0]), out);
}

/* Elements of a row; -1: not known. */
static int64_t row_width(const sparoa_tensor *x, int32_t tail)
{
    for (int32_t k = x->rank - tail; k < x->rank; k++)
        if (x->dims[k] <= 0) return -1;
    return sp_dims_product(x, x->rank - tail, x->rank);
}

/* The only user of `value` is an `op` (Mul or Add) with a constant that goes along a row: one
 * element for each of the row's, the same for all rows. */
static sp_id along_rows(const sp_pattern *p, sp_id value, const char *op, const sparoa_tensor *x,
                        int32_t tail, sp_id *param)
{
    sp_id user = sp_pattern_user(p, value);
    if (user == SP_NO_ID || !sp_node_is(&p->g->nodes[user], op)) return SP_NO_ID;
    const sp_gnode *n = &p->g->nodes[user];
    if (n->n_in != 2 || n->n_attrs || n->in[0] == n->in[1]) return SP_NO_ID;
    *param = n->in[0] == value ? n->in[1] : n->in[0];
    const sp_value *v = *param == SP_NO_ID ? NULL : &p->g->values[*param];
    if (!v || v->kind != SP_VALUE_CONST || v->fact.dtype != x->dtype || v->fact.rank > x->rank)
        return SP_NO_ID;
    for (int32_t k = 1; k <= v->fact.rank || k <= tail; k++) {
        int64_t have = k <= v->fact.rank ? v->fact.dims[v->fact.rank - k] : 1;
        if (have != (k <= tail ? x->dims[x->rank - k] : 1)) return SP_NO_ID;
    }
    return user;
}

/* The constant in the shape of a row; `fill` where there is none. */
static sp_id row_constant(sp_pattern *p, const sparoa_tensor *x, int32_t tail, sp_id param,
                          double fill)
{
    const int64_t *dims = x->dims + x->rank - tail;
    if (param != SP_NO_ID && p->g->values[param].fact.rank == tail) return param;
    const void *data = param == SP_NO_ID ? NULL : p->g->values[param].fact.data;
    sp_id id = sp_add_const(p->g, "row_scale", x->dtype, tail, dims, data);
    if (id == SP_NO_ID || data) return id;
    sparoa_tensor *t = &p->g->values[id].fact;
    for (int64_t i = 0; i < sp_count(t); i++) sp_set_f64(t, i, fill);
    return id;
}

bool sp_pattern_norm(sp_pattern *p, sp_id node)
{
    row_norm norm;
    if (!match(p, &p->g->nodes[node], &norm)) return false;
    const sparoa_tensor x = p->g->values[norm.x].fact;
    if (row_width(&x, norm.tail) < 0) return false;
    sp_id scale = SP_NO_ID, shift = SP_NO_ID, last = node, in[3];
    sp_id mul = along_rows(p, p->g->nodes[last].out[0], "Mul", &x, norm.tail, &scale);
    if (mul == SP_NO_ID)
        scale = SP_NO_ID;
    else
        last = mul;
    sp_id add = norm.centred ? along_rows(p, p->g->nodes[last].out[0], "Add", &x, norm.tail, &shift)
                             : SP_NO_ID;
    if (add == SP_NO_ID)
        shift = SP_NO_ID;
    else
        last = add;
    in[0] = norm.x;
    in[1] = row_constant(p, &x, norm.tail, scale, 1);
    in[2] = shift == SP_NO_ID ? SP_NO_ID : row_constant(p, &x, norm.tail, shift, 0);
    if (in[1] == SP_NO_ID || (shift != SP_NO_ID && in[2] == SP_NO_ID))
        return sp_pattern_done(p, false);
    sp_id made = norm.centred ? sp_pattern_replace(p, last, "LayerNormalization", 17, in,
                                                   shift == SP_NO_ID ? 2 : 3)
                              : sp_pattern_replace(p, last, "RMSNormalization", 23, in, 2);
    return sp_pattern_done(p, made != SP_NO_ID && sp_node_set_int(p->g, made, "axis", -norm.tail) &&
                                  sp_node_set_float(p->g, made, "epsilon", (float)norm.epsilon));
}
