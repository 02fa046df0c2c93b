/* Global pools in disguise: reductions over all spatial dimensions, windows as large as the image.
 */
#include <string.h>

#include "graph/pattern.h"

static bool is_image(const sparoa_tensor *t)
{
    return t && t->rank >= 3 && t->rank <= 5 && t->dtype == SPAROA_FLOAT32;
}

static bool from_reduction(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    const sparoa_tensor *x = sp_node_in(p->g, n, 0);
    sparoa_node attrs = sp_node_attrs(n);
    uint32_t axes;
    if (!is_image(x) || !sp_pattern_axes(p, n, &axes) || axes != (1u << x->rank) - 4) return false;
    const char *op = sp_node_is(n, "ReduceMean") ? "GlobalAveragePool" : "GlobalMaxPool";
    sp_id in = n->in[0];
    if (sparoa_attr_int(&attrs, "keepdims", 1) == 1)
        return sp_pattern_done(p, sp_pattern_replace(p, node, op, 22, &in, 1) != SP_NO_ID);
    sp_id pooled = sp_pattern_insert(p, op, 22, "pooled", &in, 1);
    return pooled != SP_NO_ID && sp_pattern_replace(p, node, "Flatten", 13, &pooled, 1) != SP_NO_ID;
}

static bool all_equal(const sparoa_node *attrs, const char *name, int64_t value)
{
    size_t count;
    const int64_t *list = sparoa_attr_ints(attrs, name, &count);
    for (size_t k = 0; k < count; k++)
        if (list[k] != value) return false;
    return true;
}

static bool from_window(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    const sparoa_tensor *x = sp_node_in(p->g, n, 0), *y = sp_node_out(p->g, n, 0);
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *kernel = sparoa_attr_ints(&attrs, "kernel_shape", &count);
    const char *pad = sparoa_attr_string(&attrs, "auto_pad", "NOTSET");
    if (!is_image(x) || !y || y->rank != x->rank || count != (size_t)x->rank - 2) return false;
    if (strcmp(pad, "NOTSET") != 0 && strcmp(pad, "VALID") != 0) return false;
    if (!all_equal(&attrs, "pads", 0) || !all_equal(&attrs, "dilations", 1)) return false;
    for (int32_t k = 2; k < x->rank; k++)
        if (x->dims[k] != kernel[k - 2] || y->dims[k] != 1) return false;
    for (int32_t k = 1; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) return false;
    sp_id in = n->in[0];
    const char *op = sp_node_is(n, "AveragePool") ? "GlobalAveragePool" : "GlobalMaxPool";
    return sp_pattern_done(p, sp_pattern_replace(p, node, op, 22, &in, 1) != SP_NO_ID);
}

bool sp_pattern_pool(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    if (sp_node_is(n, "ReduceMean") || sp_node_is(n, "ReduceMax")) return from_reduction(p, node);
    return (sp_node_is(n, "AveragePool") || sp_node_is(n, "MaxPool")) && from_window(p, node);
}
