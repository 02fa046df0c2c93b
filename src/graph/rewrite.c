#include "graph/rewrite.h"

#include <string.h>

bool sp_node_is(const sp_gnode *n, const char *op_type)
{
    return n->domain[0] == '\0' && strcmp(n->op_type, op_type) == 0;
}

sparoa_node sp_node_attrs(const sp_gnode *n)
{
    return (sparoa_node){.name = n->name,
                         .op = n->op_type,
                         .domain = n->domain,
                         .version = n->version,
                         .n_attrs = n->n_attrs,
                         .attrs = n->attrs};
}

const sparoa_tensor *sp_node_in(const sp_graph *g, const sp_gnode *n, int32_t k)
{
    return k < n->n_in && n->in[k] != SP_NO_ID ? &g->values[n->in[k]].fact : NULL;
}

const sparoa_tensor *sp_node_out(const sp_graph *g, const sp_gnode *n, int32_t k)
{
    return k < n->n_out && n->out[k] != SP_NO_ID ? &g->values[n->out[k]].fact : NULL;
}

const sp_value *sp_const_in(const sp_graph *g, const sp_gnode *n, int32_t k)
{
    const sp_value *v = k < n->n_in && n->in[k] != SP_NO_ID ? &g->values[n->in[k]] : NULL;
    return v && v->kind == SP_VALUE_CONST ? v : NULL;
}

sp_gnode *sp_producer(const sp_graph *g, const sp_gnode *n, int32_t k)
{
    if (k >= n->n_in || n->in[k] == SP_NO_ID) return NULL;
    sp_id id = g->values[n->in[k]].producer;
    return id == SP_NO_ID ? NULL : &g->nodes[id];
}

bool sp_const_scalar(const sp_graph *g, const sp_gnode *n, int32_t k, double *value)
{
    const sp_value *v = sp_const_in(g, n, k);
    if (!v || sparoa_tensor_count(&v->fact) != 1) return false;
    *value = sp_get_f64(&v->fact, 0);
    return true;
}

sp_id sp_add_const(sp_graph *g, const char *base, sparoa_dtype dtype, int32_t rank,
                   const int64_t *dims, const void *data)
{
    const char *name = sp_graph_unique_name(g, base);
    sparoa_tensor fact = sparoa_tensor_view(dtype, NULL, rank, dims);
    size_t bytes = sparoa_tensor_bytes(&fact);
    sp_blob *blob = name ? sp_blob_create(&g->arena.alloc, bytes) : NULL;
    if (!blob) return SP_NO_ID;
    if (data && bytes)
        memcpy(blob->data, data, bytes);
    else
        memset(blob->data, 0, bytes);
    return sp_graph_add_const(g, name, &fact, blob);
}

sp_id sp_add_const_i64(sp_graph *g, const char *base, const int64_t *values, int64_t count)
{
    return sp_add_const(g, base, SPAROA_INT64, 1, &count, values);
}

sp_id sp_add_value(sp_graph *g, const char *base)
{
    const char *name = sp_graph_unique_name(g, base);
    return name ? sp_graph_add_value(g, name, SP_VALUE_NODE) : SP_NO_ID;
}

sp_id sp_insert_node(sp_graph *g, const char *op_type, int32_t version, const char *base,
                     const sp_id *in, int32_t n_in)
{
    const sparoa_op *op = sp_op_find("", op_type, version, NULL, 0);
    sp_id out = op ? sp_add_value(g, base) : SP_NO_ID;
    if (out == SP_NO_ID) return SP_NO_ID;
    sp_id node = sp_graph_add_node(g, g->values[out].name, op, version, in, n_in, &out, 1, NULL, 0);
    return node == SP_NO_ID ? SP_NO_ID : out;
}

void sp_take_output(sp_graph *g, sp_id keep, sp_id value)
{
    sp_gnode *n = &g->nodes[keep];
    if (n->out[0] != value) g->values[n->out[0]].producer = SP_NO_ID;
    n->out[0] = value;
    g->values[value].producer = keep;
}
