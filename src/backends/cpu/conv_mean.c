/*
 * A depthwise convolution and the mean of each of its channels (GlobalAveragePool), in one go: sums
 * are made while the outputs are in registers. Each part of an image has sums of its own, which are
 * added in order.
 */
#include "backends/cpu/conv.h"
#include "ops/op.h"

typedef struct mean_state {
    const conv_state *conv;
    sparoa_node node; /* the convolution's, without inputs and outputs */
} mean_state;

static void mean_destroy(void *state, const sp_cpu_host *host)
{
    sp_cpu_free(host, state, sizeof(mean_state));
}

sparoa_status sp_conv_mean_join(const sp_cpu_host *host, const conv_state *conv,
                                const sparoa_node *node, const sparoa_node *pool, void **state,
                                sparoa_error *err)
{
    *state = NULL;
    if (conv->kind != CONV_DEPTHWISE || pool->n_in != 1) return SPAROA_OK;
    mean_state *made = sp_cpu_alloc(host, sizeof *made);
    if (!made) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to join nodes");
    *made = (mean_state){.conv = conv, .node = sp_without_tensors(node)};
    *state = made;
    return SPAROA_OK;
}

static sparoa_node conv_node(const mean_state *s, const sparoa_node *joined)
{
    sparoa_node conv = s->node;
    conv.in = joined->in;
    conv.out = joined->out;
    return conv;
}

static sparoa_status mean_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                  void **prepared, size_t *workspace, sparoa_error *err)
{
    const mean_state *s = state;
    const sparoa_node conv = conv_node(s, node);
    conv_plan plan;
    SP_TRY(sp_conv_geometry(s->conv, &conv, &plan, err));
    plan.chunk = sp_conv_depthwise_chunk(s->conv, &plan);
    size_t parts = plan.batch * sp_conv_mean_parts(s->conv, &plan, host->threads);
    if (__builtin_mul_overflow(parts, plan.c * sizeof(float), workspace))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
}

static void mean_prepared_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    (void)state;
    sp_cpu_free(host, prepared, sizeof(conv_plan));
}

static sparoa_status mean_run(void *state, void *prepared, const sp_cpu_host *host,
                              const sparoa_node *node, const sparoa_exec *exec)
{
    const mean_state *s = state;
    const sparoa_node conv = conv_node(s, node);
    if (sp_count(conv.out[0]) > 0)
        sp_conv_mean_run(s->conv, prepared, host->kernels, &conv, node->out[1]->data, exec);
    return SPAROA_OK;
}

const sp_cpu_kernel_row sp_conv_mean_row = {
    .op = "Conv",
    .domain = "",
    .prepare = mean_prepare,
    .run = mean_run,
    .prepared_destroy = mean_prepared_destroy,
    .destroy = mean_destroy,
};
