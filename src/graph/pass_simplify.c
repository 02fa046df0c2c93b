/* Simplification: nodes that do nothing go, Identity names vanish, equal nodes become one, padding
 * of zeros moves into the convolution behind it. */
#include <string.h>

#include "graph/passes.h"
#include "graph/rewrite.h"

static bool same_attr(const sparoa_attr *a, const sparoa_attr *b)
{
    if (a->type != b->type || a->count != b->count || strcmp(a->name, b->name) != 0) return false;
    switch (a->type) {
    case SPAROA_ATTR_INT: return a->v.i == b->v.i;
    case SPAROA_ATTR_FLOAT: return memcmp(&a->v.f, &b->v.f, sizeof a->v.f) == 0;
    case SPAROA_ATTR_STRING: return strcmp(a->v.s, b->v.s) == 0;
    case SPAROA_ATTR_INTS: return memcmp(a->v.ints, b->v.ints, a->count * sizeof(int64_t)) == 0;
    case SPAROA_ATTR_FLOATS: return memcmp(a->v.floats, b->v.floats, a->count * sizeof(float)) == 0;
    default: return false;
    }
}

static bool same_constant(const sp_graph *g, sp_id a, sp_id b)
{
    const sp_value *x = &g->values[a], *y = &g->values[b];
    if (x->kind != SP_VALUE_CONST || y->kind != SP_VALUE_CONST || x->fact.dtype != y->fact.dtype)
        return false;
    size_t bytes = sparoa_tensor_bytes(&x->fact);
    return bytes <= 256 && sp_same_shape(&x->fact, &y->fact) &&
           memcmp(x->fact.data, y->fact.data, bytes) == 0;
}

static bool same_node(const sp_graph *g, const sp_gnode *a, const sp_gnode *b)
{
    if (a->op != b->op || a->version != b->version || a->n_in != b->n_in || a->n_out != b->n_out ||
        a->n_attrs != b->n_attrs)
        return false;
    for (int32_t k = 0; k < a->n_in; k++)
        if (a->in[k] != b->in[k] &&
            (a->in[k] == SP_NO_ID || b->in[k] == SP_NO_ID || !same_constant(g, a->in[k], b->in[k])))
            return false;
    for (int32_t k = 0; k < a->n_out; k++)
        if ((a->out[k] == SP_NO_ID) != (b->out[k] == SP_NO_ID)) return false;
    for (int32_t k = 0; k < a->n_attrs; k++)
        if (!same_attr(&a->attrs[k], &b->attrs[k])) return false;
    return true;
}

/* Common subexpressions: candidates share their first input that is no constant, so walk each
 * value's users. */
static sparoa_status share_equal_nodes(sp_graph *g, sp_use_lists *lists, sparoa_error *err)
{
    const sparoa_allocator *a = &g->arena.alloc;
    size_t values = g->value_count, nodes = g->node_count;
    sp_id *head = sp_alloc(a, values * sizeof *head), *next = sp_alloc(a, nodes * sizeof *next);
    bool ok = head && next;
    if (ok) memset(head, 0xff, values * sizeof *head);
    for (size_t i = 0; ok && i < nodes; i++) {
        sp_gnode *n = &g->nodes[i];
        if (n->dead || n->n_subgraphs || n->n_in == 0 || n->op->flags & SPAROA_OP_RANDOM) continue;
        sp_id key = n->in[0];
        for (int32_t k = 1;
             k < n->n_in && (key == SP_NO_ID || g->values[key].kind == SP_VALUE_CONST); k++)
            if (n->in[k] != SP_NO_ID) key = n->in[k];
        if (key == SP_NO_ID) continue;
        sp_id other = head[key];
        while (other != SP_NO_ID && (g->nodes[other].dead || !same_node(g, n, &g->nodes[other])))
            other = next[other];
        if (other == SP_NO_ID) {
            next[i] = head[key];
            head[key] = (sp_id)i;
            continue;
        }
        for (int32_t k = 0; k < n->n_out; k++)
            if (n->out[k] != SP_NO_ID)
                sp_graph_replace_uses(g, lists, n->out[k], g->nodes[other].out[k]);
        n->dead = true;
    }
    sp_free(a, head, values * sizeof *head);
    sp_free(a, next, nodes * sizeof *next);
    return ok ? SPAROA_OK : SP_NO_MEMORY(g, err);
}

static bool is_output(const sp_graph *g, sp_id value)
{
    for (uint32_t i = 0; i < g->output_count; i++)
        if (g->outputs[i] == value) return true;
    return false;
}

/* Only the first output is there and wanted. */
static bool single_output(const sp_gnode *n)
{
    for (int32_t k = 1; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) return false;
    return n->n_out > 0 && n->out[0] != SP_NO_ID;
}

static bool does_nothing(const sp_graph *g, const sp_gnode *n)
{
    const sparoa_tensor *in = sp_node_in(g, n, 0), *out = sp_node_out(g, n, 0);
    if (!in || !out || !single_output(n)) return false;
    if (sp_node_is(n, "Identity")) return true;
    sparoa_node attrs = sp_node_attrs(n);
    double training = 0;
    if (sp_node_is(n, "Dropout"))
        return n->n_in < 3 || n->in[2] == SP_NO_ID ||
               (sp_const_scalar(g, n, 2, &training) && training == 0);
    if (in->dtype == out->dtype && (sp_node_is(n, "Cast") || sp_node_is(n, "CastLike")))
        return true;
    if (in->dtype != out->dtype || !sp_known(in) || !sp_same_shape(in, out)) return false;
    if (n->op->flags & SPAROA_OP_VIEW || sp_node_is(n, "Cast") || sp_node_is(n, "CastLike") ||
        sp_node_is(n, "Expand"))
        return true;
    if (sp_node_is(n, "Transpose")) {
        size_t count;
        const int64_t *perm = sparoa_attr_ints(&attrs, "perm", &count);
        bool identity = perm != NULL;
        for (size_t i = 0; i < count; i++) identity = identity && perm[i] == (int64_t)i;
        return identity || in->rank <= 1;
    }
    if (sp_node_is(n, "Concat")) return n->n_in == 1;
    return false;
}

static void drop_idle_nodes(sp_graph *g, sp_use_lists *lists)
{
    for (size_t i = 0; i < g->node_count; i++) {
        sp_gnode *n = &g->nodes[i];
        if (n->dead || n->n_subgraphs || !does_nothing(g, n)) continue;
        sp_id from = n->out[0], to = n->in[0];
        /* an output keeps its name: its value is renamed upstream where that is possible */
        if (is_output(g, from)) {
            sp_gnode *producer = sp_producer(g, n, 0);
            if (!producer || is_output(g, to) || producer->n_out != 1) continue;
            sp_graph_replace_uses(g, lists, to, from);
            n->dead = true;
            n->in[0] = to;
            producer->out[0] = from;
            g->values[from].producer = g->values[to].producer;
            g->values[to].producer = SP_NO_ID;
            continue;
        }
        sp_graph_replace_uses(g, lists, from, to);
        n->dead = true;
    }
}

/* Pad with zeros on spatial dimensions -> pads of the Conv behind it. Both only ever read zeros
 * there. */
static bool pad_amounts(const sp_graph *g, const sp_gnode *pad, int64_t *pads, int32_t rank)
{
    sparoa_node attrs = sp_node_attrs(pad);
    double value = sparoa_attr_float(&attrs, "value", 0);
    if (strcmp(sparoa_attr_string(&attrs, "mode", "constant"), "constant") != 0) return false;
    if (pad->n_in > 2 && pad->in[2] != SP_NO_ID && !sp_const_scalar(g, pad, 2, &value))
        return false;
    if (value != 0 || (pad->n_in > 3 && pad->in[3] != SP_NO_ID)) return false;
    size_t count;
    const int64_t *list = sparoa_attr_ints(&attrs, "pads", &count);
    const sp_value *input = sp_const_in(g, pad, 1);
    if (!list && input) {
        list = input->fact.data;
        count = (size_t)sparoa_tensor_count(&input->fact);
        if (input->fact.dtype != SPAROA_INT64) return false;
    }
    if (!list || count != 2 * (size_t)rank) return false;
    for (int32_t k = 0; k < 2 * rank; k++) {
        if (list[k] < 0 || (k % rank < 2 && list[k] != 0)) return false;
        pads[k] = list[k];
    }
    return true;
}

static bool fold_pad(sp_graph *g, const sp_uses *uses, sp_gnode *conv)
{
    sp_gnode *pad = sp_producer(g, conv, 0);
    const sparoa_tensor *in = sp_node_in(g, conv, 0);
    if (!pad || !sp_node_is(pad, "Pad") || pad->dead || in->rank < 3) return true;
    if (uses->count[conv->in[0]] != 1) return true;
    int32_t rank = in->rank, spatial = rank - 2;
    int64_t amounts[2 * SPAROA_MAX_RANK], pads[2 * SPAROA_MAX_RANK] = {0};
    sparoa_node attrs = sp_node_attrs(conv);
    if (sparoa_attr_int(&attrs, "sp.nhwc", 0)) return true; /* the axes of Pad are others there */
    if (strcmp(sparoa_attr_string(&attrs, "auto_pad", "NOTSET"), "NOTSET") != 0) return true;
    if (!pad_amounts(g, pad, amounts, rank)) return true;
    size_t count;
    const int64_t *own = sparoa_attr_ints(&attrs, "pads", &count);
    if (own && count != 2 * (size_t)spatial) return true;
    for (int32_t k = 0; k < spatial; k++) {
        pads[k] = (own ? own[k] : 0) + amounts[2 + k];
        pads[spatial + k] = (own ? own[spatial + k] : 0) + amounts[rank + 2 + k];
    }
    sp_id id = (sp_id)(conv - g->nodes);
    if (!sp_node_set_ints(g, id, "pads", pads, 2 * (size_t)spatial)) return false;
    conv->in[0] = pad->in[0];
    pad->dead = true;
    return true;
}

sparoa_status sp_pass_simplify(sp_graph *graph, sparoa_error *err)
{
    sp_use_lists lists;
    if (!sp_use_lists_build(&lists, graph, &graph->arena.alloc)) return SP_NO_MEMORY(graph, err);
    drop_idle_nodes(graph, &lists);
    sparoa_status status = sp_graph_compact(graph, err);
    if (status == SPAROA_OK) status = share_equal_nodes(graph, &lists, err);
    sp_use_lists_free(&lists);
    SP_TRY(status);
    sp_uses uses;
    if (!sp_uses_build(&uses, graph, &graph->arena.alloc)) return SP_NO_MEMORY(graph, err);
    bool ok = true;
    for (size_t i = 0; ok && i < graph->node_count; i++)
        if (!graph->nodes[i].dead && sp_node_is(&graph->nodes[i], "Conv"))
            ok = fold_pad(graph, &uses, &graph->nodes[i]);
    sp_uses_free(&uses);
    return ok ? SPAROA_OK : SP_NO_MEMORY(graph, err);
}
