/*
 * The first layer of a network whose image comes channel by channel: the Transpose that puts the
 * channel last and a convolution of few channels (conv_lines.c) in one go. The lines that the
 * convolution copies anyway are woven out of the planes; the turned image is never written.
 */
#include "backends/cpu/conv.h"
#include "ops/op.h"

/* Axis 1 becomes the last one, the others keep their order. */
static bool puts_channel_last(const sparoa_node *turn)
{
    size_t n;
    const int64_t *perm = sparoa_attr_ints(turn, "perm", &n);
    if (!perm || n < 3 || perm[0] != 0 || perm[n - 1] != 1) return false;
    for (size_t i = 1; i + 1 < n; i++)
        if (perm[i] != (int64_t)i + 1) return false;
    return true;
}

/* False: the convolution does not go by lines. */
static bool plan_planes(const conv_state *s, const sp_cpu_host *host, const sparoa_node *conv,
                        conv_plan *p)
{
    sparoa_error err;
    if (sp_conv_geometry(s, conv, p, &err) != SPAROA_OK) return false;
    if (s->groups > 1 || !sp_conv_lines_pay(s, p)) return false;
    if (sp_conv_lines_plan(s, host, conv, p, &err) != SPAROA_OK) return false;
    p->lines = p->planes = true;
    return true;
}

sparoa_status sp_conv_planes_join(const sp_cpu_host *host, const conv_state *conv,
                                  const sparoa_node *turn, const sparoa_node *node, void **state,
                                  sparoa_error *err)
{
    conv_plan plan;
    *state = NULL;
    if (!puts_channel_last(turn) || !plan_planes(conv, host, node, &plan)) return SPAROA_OK;
    /* several threads would weave the same lines */
    if (host->join == SP_WHEN_FASTER && plan.split.panel_parts > 1) return SPAROA_OK;
    return sp_conv_member_keep(host, conv, node, state, err);
}

static sparoa_status planes_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                    void **prepared, size_t *workspace, sparoa_error *err)
{
    const conv_member *s = state;
    const sparoa_node conv = sp_conv_member_node(s, node->in + 1, node->out);
    conv_plan plan;
    if (!plan_planes(s->conv, host, &conv, &plan))
        return sparoa_fail(err, SPAROA_INTERNAL, node, "joined nodes changed their shapes");
    *workspace = plan.piece_bytes * (size_t)sp_gemm_split_count(&plan.split);
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
}

static sparoa_status planes_run(void *state, void *prepared, const sp_cpu_host *host,
                                const sparoa_node *node, const sparoa_exec *exec)
{
    const conv_member *s = state;
    const sparoa_node conv = sp_conv_member_node(s, node->in + 1, node->out);
    if (sp_count(conv.out[0]) > 0)
        sp_conv_lines_run(s->conv, prepared, host->kernels, &conv, node->in[0]->data, exec);
    return SPAROA_OK;
}

const sp_cpu_kernel_row sp_conv_planes_row = {
    .op = "Conv",
    .domain = "",
    .prepare = planes_prepare,
    .run = planes_run,
    .prepared_destroy = sp_conv_plan_destroy,
    .destroy = sp_conv_member_destroy,
};
