/*
 * A depthwise convolution and the mean of each of its channels (GlobalAveragePool), in one go: sums
 * are made while the outputs are in registers. Each part of an image has sums of its own, which are
 * added in order.
 */
#include "backends/cpu/conv.h"
#include "ops/op.h"

sparoa_status sp_conv_mean_join(const sp_cpu_host *host, const conv_state *conv,
                                const sparoa_node *node, const sparoa_node *pool, void **state,
                                sparoa_error *err)
{
    *state = NULL;
    if (conv->kind != CONV_DEPTHWISE || pool->n_in != 1) return SPAROA_OK;
    return sp_conv_member_keep(host, conv, node, state, err);
}

static sparoa_status mean_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                  void **prepared, size_t *workspace, sparoa_error *err)
{
    const conv_member *s = state;
    const sparoa_node conv = sp_conv_member_node(s, node->in, node->out);
    conv_plan plan;
    SP_TRY(sp_conv_geometry(s->conv, &conv, &plan, err));
    plan.chunk = sp_conv_depthwise_chunk(s->conv, &plan);
    size_t parts = plan.batch * sp_conv_mean_parts(s->conv, &plan, host->threads);
    if (__builtin_mul_overflow(parts, plan.c * sizeof(float), workspace))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
}

static sparoa_status mean_run(void *state, void *prepared, const sp_cpu_host *host,
                              const sparoa_node *node, const sparoa_exec *exec)
{
    const conv_member *s = state;
    const sparoa_node conv = sp_conv_member_node(s, node->in, node->out);
    if (sp_count(conv.out[0]) > 0)
        sp_conv_mean_run(s->conv, prepared, host->kernels, &conv, node->out[1]->data, exec);
    return SPAROA_OK;
}

const sp_cpu_kernel_row sp_conv_mean_row = {
    .op = "Conv",
    .domain = "",
    .prepare = mean_prepare,
    .run = mean_run,
    .prepared_destroy = sp_conv_plan_destroy,
    .destroy = sp_conv_member_destroy,
};
