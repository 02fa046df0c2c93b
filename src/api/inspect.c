#include <string.h>

#include "api/auto.h"
#include "ops/op.h"

/* The session that does the work: with device "auto" perhaps that over all devices, after a device
 * was lost that on the CPU. */
static const sparoa_session *working(const sparoa_session *session)
{
    if (session && session->choose)
        return session->choose->on_devices ? session->choose->devices : session;
    return session && session->lost && session->rescue ? session->rescue : session;
}

size_t sparoa_session_node_count(const sparoa_session *session)
{
    session = working(session);
    return session ? session->program->graph->node_count : 0;
}

static double weight_bytes(const sp_graph *g, const sp_gnode *n)
{
    double bytes = 0;
    for (int32_t k = 0; k < n->n_in; k++) {
        const sp_value *v = n->in[k] == SP_NO_ID ? NULL : &g->values[n->in[k]];
        if (v && v->kind == SP_VALUE_CONST) bytes += (double)sparoa_tensor_bytes(&v->fact);
    }
    return bytes;
}

static void node_facts(const sparoa_session *s, size_t index, sparoa_node_info *info)
{
    const sp_gnode *n = &s->program->graph->nodes[index];
    const sparoa_node *view = s->frame ? &s->frame->nodes[index].view : NULL;
    const sparoa_tensor *in = view ? sparoa_in(view, 0) : NULL,
                        *out = view ? sparoa_out(view, 0) : NULL;
    if (n->n_out && n->out[0] != SP_NO_ID) {
        info->output = s->program->graph->values[n->out[0]].name;
        info->output_shape = out ? *out : s->program->graph->values[n->out[0]].fact;
    }
    if (n->n_in && n->in[0] != SP_NO_ID)
        info->input_shape = in ? *in : s->program->graph->values[n->in[0]].fact;
    info->input_shape.data = info->output_shape.data = NULL;
    bool known = view != NULL;
    for (int32_t k = 0; known && k < n->n_in; k++) known = !view->in[k] || sp_known(view->in[k]);
    for (int32_t k = 0; known && k < n->n_out; k++) known = !view->out[k] || sp_known(view->out[k]);
    if (!known) return;
    /* a device's node may have data that the host cannot read: its cost was worked out before */
    const sp_frame_node *fn = &s->frame->nodes[index];
    sparoa_cost cost = fn->cost;
    if (fn->device == 0 && !fn->prepared) sp_op_cost(n->op, view, &cost);
    info->flops = cost.flops;
    info->bytes = cost.bytes_in + cost.bytes_w + cost.bytes_out;
}

sparoa_status sparoa_session_node(const sparoa_session *session, size_t index,
                                  sparoa_node_info *info)
{
    session = working(session);
    if (!session || !info || index >= session->program->graph->node_count)
        return SPAROA_INVALID_ARGUMENT;
    const sp_gnode *n = &session->program->graph->nodes[index];
    const sp_slot *slot = &session->program->slots[index];
    const sp_node_stats *t = &slot->stats;
    bool moved = session->frame && session->frame->nodes[index].dynamic; /* runs on the host */
    int32_t device = moved ? 0 : session->program->placement->device[index];
    const sparoa_kernel *kernel = slot->kernels[device];
    *info = (sparoa_node_info){
        .name = n->name,
        .op = n->op_type,
        .domain = n->domain,
        .op_class = sp_class_name(n->op->op_class),
        .kernel = kernel ? session->devices[device].table->node_variant(kernel) : "engine",
        .device = session->model->runtime->names[device],
        .output = "",
        .runs = t->runs,
        .total_ns = t->total_ns,
        .min_ns = t->min_ns,
        .last_start_ns = t->last_start_ns,
        .last_ns = t->last_ns};
    info->weight_bytes = weight_bytes(session->program->graph, n);
    info->weight_zeros = t->weight_zeros;
    info->input_zeros = t->input_counted ? t->input_zeros / (double)t->input_counted : -1;
    info->output_zeros = t->output_counted ? t->output_zeros / (double)t->output_counted : -1;
    if (session->frame && session->frame->nodes[index].skip && !session->frame->nodes[index].join)
        info->kernel = "none"; /* known or a view */
    node_facts(session, index, info);
    return SPAROA_OK;
}

void sparoa_session_profile_reset(sparoa_session *session)
{
    const sparoa_session *s = working(session);
    for (size_t i = 0; s && i < s->program->graph->node_count; i++)
        s->program->slots[i].stats =
            (sp_node_stats){.weight_zeros = s->program->slots[i].stats.weight_zeros};
}

void sparoa_session_get_info(const sparoa_session *session, sparoa_session_info *info)
{
    if (!session || !info) return;
    bool chooses = session->choose != NULL;
    int64_t runs = session->runs, last_run_ns = session->last_run_ns;
    session = working(session);
    *info = (sparoa_session_info){.node_count = session->program->graph->node_count,
                                  .runs = chooses ? runs : session->runs,
                                  .last_run_ns = chooses ? last_run_ns : session->last_run_ns};
    for (size_t i = 0; i < session->program->graph->node_count; i++)
        for (int32_t d = 0; d < session->engine.device_count; d++) {
            const sparoa_kernel *kernel = session->program->slots[i].kernels[d];
            if (kernel) info->prepared_bytes += session->devices[d].table->node_bytes(kernel);
        }
    if (!session->frame) return;
    info->activation_bytes =
        session->frame->sides[0].memory_bytes + session->frame->workspace.capacity;
    info->unshared_bytes = session->frame->unshared_bytes;
    info->flops = session->frame->flops;
    for (size_t v = 0; v < session->program->graph->value_count; v++)
        info->activation_bytes += session->frame->dynamic[v].capacity;
}
