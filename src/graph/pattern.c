#include "graph/pattern.h"

#include <string.h>

#include "graph/passes.h"

#define MAX_ROUNDS 16 /* each round drops nodes; more are not worth the time */
#define MAX_DEPTH 8

static sparoa_status run_round(sp_pattern *p, const sp_pattern_fn *patterns, bool *changed,
                               sparoa_error *err)
{
    if (!sp_uses_build(&p->uses, p->g, &p->g->arena.alloc)) return SP_NO_MEMORY(p->g, err);
    for (size_t i = p->g->node_count; i-- > 0;)
        for (int32_t k = 0; patterns[k] && !p->g->nodes[i].dead && !p->no_memory; k++)
            if (!p->g->nodes[i].n_subgraphs && patterns[k](p, (sp_id)i)) *changed = true;
    sp_uses_free(&p->uses);
    return p->no_memory ? SP_NO_MEMORY(p->g, err) : SPAROA_OK;
}

sparoa_status sp_patterns_run(sp_graph *g, const sp_pattern_fn *patterns, sparoa_error *err)
{
    sp_pattern p = {.g = g};
    bool changed = true;
    for (int round = 0; changed && round < MAX_ROUNDS; round++) {
        changed = false;
        SP_TRY(run_round(&p, patterns, &changed, err));
        if (!changed) break;
        SP_TRY(sp_pass_dce(g, err));
        SP_TRY(sp_graph_compact(g, err));
    }
    return SPAROA_OK;
}

uint32_t sp_pattern_uses(const sp_pattern *p, sp_id value)
{
    return value < p->uses.values ? p->uses.count[value] : UINT32_MAX;
}

const sp_gnode *sp_pattern_from(const sp_pattern *p, sp_id value, const char *op)
{
    sp_id id = value == SP_NO_ID ? SP_NO_ID : p->g->values[value].producer;
    const sp_gnode *n = id == SP_NO_ID ? NULL : &p->g->nodes[id];
    if (!n || n->dead || n->domain[0] || n->out[0] != value) return NULL;
    return !op || strcmp(n->op_type, op) == 0 ? n : NULL;
}

const sp_gnode *sp_pattern_only(const sp_pattern *p, sp_id value, const char *op)
{
    return value != SP_NO_ID && sp_pattern_uses(p, value) == 1 ? sp_pattern_from(p, value, op)
                                                               : NULL;
}

sp_id sp_pattern_user(const sp_pattern *p, sp_id value)
{
    if (sp_pattern_uses(p, value) != 1) return SP_NO_ID;
    sp_id node = p->uses.single[value];
    return node == SP_NO_ID || p->g->nodes[node].dead ? SP_NO_ID : node;
}

bool sp_pattern_scalar(const sp_pattern *p, sp_id value, double *c)
{
    if (value == SP_NO_ID) return false;
    const sp_value *v = &p->g->values[value];
    if (v->kind != SP_VALUE_CONST || !sp_is_float(v->fact.dtype) ||
        sparoa_tensor_count(&v->fact) != 1)
        return false;
    *c = sp_get_f64(&v->fact, 0);
    return true;
}

/* Broadcasting never changes a shape by a tensor of one element and no higher rank. */
static bool keeps_shape(const sp_pattern *p, sp_id x, sp_id scalar)
{
    int32_t rank = p->g->values[scalar].fact.rank;
    return rank == 0 || p->g->values[x].fact.rank >= rank;
}

bool sp_pattern_with_scalar(const sp_pattern *p, const sp_gnode *n, sp_id *other, double *c)
{
    for (int32_t k = 0; k < 2 && n->n_in == 2; k++)
        if (n->in[1 - k] != SP_NO_ID && sp_pattern_scalar(p, n->in[k], c) &&
            keeps_shape(p, n->in[1 - k], n->in[k])) {
            *other = n->in[1 - k];
            return true;
        }
    return false;
}

bool sp_pattern_near(const sp_pattern *p, sp_id value, double c, double want)
{
    double tolerance = 2e-5;
    if (sp_is_half(p->g->values[value].fact.dtype)) tolerance = 4e-3;
    if (p->g->values[value].fact.dtype == SPAROA_FLOAT64) tolerance = 1e-7;
    return fabs(c - want) <= tolerance * fabs(want);
}

bool sp_pattern_is_float(const sp_pattern *p, sp_id value)
{
    return sp_is_float(p->g->values[value].fact.dtype);
}

bool sp_pattern_axes(const sp_pattern *p, const sp_gnode *n, uint32_t *axes)
{
    const sparoa_tensor *x = sp_node_in(p->g, n, 0);
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *list = sparoa_attr_ints(&attrs, "axes", &count);
    const sp_value *input = sp_const_in(p->g, n, 1);
    if (n->n_in > 1 && n->in[1] != SP_NO_ID) {
        if (!input || input->fact.dtype != SPAROA_INT64) return false;
        list = input->fact.data;
        count = (size_t)sparoa_tensor_count(&input->fact);
    }
    if (!x || x->rank < 1 || !list || count == 0) return false;
    *axes = 0;
    for (size_t k = 0; k < count; k++) {
        int64_t axis = list[k] < 0 ? list[k] + x->rank : list[k];
        if (axis < 0 || axis >= x->rank) return false;
        *axes |= 1u << axis;
    }
    return true;
}

/* ---- products ---- */

static bool collect(const sp_pattern *p, sp_id value, int depth, sp_product *out)
{
    double c;
    sp_id other;
    const sp_gnode *mul = depth ? sp_pattern_only(p, value, "Mul") : NULL,
                   *div = depth ? sp_pattern_only(p, value, "Div") : NULL;
    if (!depth) {
        mul = sp_pattern_from(p, value, "Mul");
        div = sp_pattern_from(p, value, "Div");
    }
    if (mul && depth < MAX_DEPTH && sp_pattern_with_scalar(p, mul, &other, &c)) {
        out->c *= c;
        return collect(p, other, depth + 1, out);
    }
    if (div && depth < MAX_DEPTH && sp_pattern_with_scalar(p, div, &other, &c) &&
        other == div->in[0] && c != 0) {
        out->c /= c;
        return collect(p, other, depth + 1, out);
    }
    if (mul && depth < MAX_DEPTH && mul->n_in == 2 && mul->in[0] != SP_NO_ID &&
        mul->in[1] != SP_NO_ID)
        return collect(p, mul->in[0], depth + 1, out) && collect(p, mul->in[1], depth + 1, out);
    if (out->count == SP_MAX_FACTORS) return false;
    out->factor[out->count++] = value;
    return true;
}

bool sp_pattern_product(const sp_pattern *p, sp_id value, sp_product *out)
{
    *out = (sp_product){.c = 1};
    return collect(p, value, 0, out);
}

bool sp_pattern_scaled(const sp_pattern *p, sp_id value, sp_id x, double *c)
{
    sp_product product;
    *c = 1;
    if (value == x) return true;
    if (sp_pattern_uses(p, value) != 1 || !sp_pattern_product(p, value, &product)) return false;
    *c = product.c;
    return product.count == 1 && (x == SP_NO_ID || product.factor[0] == x);
}

/* ---- replacing ---- */

bool sp_pattern_done(sp_pattern *p, bool ok)
{
    if (!ok) p->no_memory = true;
    return ok;
}

sp_id sp_pattern_insert(sp_pattern *p, const char *op, int32_t version, const char *base,
                        const sp_id *in, int32_t n_in)
{
    sp_id value = sp_insert_node(p->g, op, version, base, in, n_in);
    if (value == SP_NO_ID) p->no_memory = true;
    return value;
}

sp_id sp_pattern_shaped(sp_pattern *p, sp_id value, sparoa_dtype dtype, int32_t rank,
                        const int64_t *dims)
{
    if (value != SP_NO_ID) sp_set_shape(&p->g->values[value].fact, dtype, rank, dims);
    return value;
}

sp_id sp_pattern_transpose(sp_pattern *p, sp_id x, int32_t rank, const int64_t *perm)
{
    const sparoa_tensor t = p->g->values[x].fact;
    int64_t dims[SPAROA_MAX_RANK];
    for (int32_t d = 0; d < rank; d++) dims[d] = t.dims[perm[d]];
    sp_id y = sp_pattern_shaped(p, sp_pattern_insert(p, "Transpose", 13, "turned", &x, 1), t.dtype,
                                rank, dims);
    if (y == SP_NO_ID ||
        !sp_node_set_ints(p->g, p->g->values[y].producer, "perm", perm, (size_t)rank))
        return SP_NO_ID;
    return y;
}

sp_id sp_pattern_reshape(sp_pattern *p, sp_id x, int32_t rank, const int64_t *dims)
{
    const sparoa_dtype dtype = p->g->values[x].fact.dtype;
    sp_id in[2] = {x, sp_add_const_i64(p->g, "shape", dims, rank)};
    if (in[1] == SP_NO_ID) return SP_NO_ID;
    return sp_pattern_shaped(p, sp_pattern_insert(p, "Reshape", 14, "shaped", in, 2), dtype, rank,
                             dims);
}

sp_id sp_pattern_replace(sp_pattern *p, sp_id last, const char *op, int32_t version,
                         const sp_id *in, int32_t n_in)
{
    sp_id out = p->g->nodes[last].out[0];
    sp_id value = sp_pattern_insert(p, op, version, p->g->nodes[last].name, in, n_in);
    if (value == SP_NO_ID) return SP_NO_ID;
    sp_id node = p->g->values[value].producer;
    p->g->nodes[last].dead = true;
    sp_take_output(p->g, node, out);
    return node;
}
