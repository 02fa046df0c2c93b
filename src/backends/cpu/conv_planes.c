/*
 * The first layer of a network whose image comes channel by channel: the Transpose that puts the
 * channel last and a convolution of few channels (conv_lines.c) in one go. The lines that the
 * convolution copies anyway are woven out of the planes; the turned image is never written.
 */
#include "backends/cpu/conv.h"
#include "ops/op.h"

typedef struct planes_state {
    const conv_state *conv;
    sparoa_node node; /* the convolution's, without inputs and outputs */
} planes_state;

static sparoa_node conv_node(const planes_state *s, const sparoa_node *joined)
{
    sparoa_node conv = s->node;
    conv.in = joined->in + 1;
    conv.out = joined->out;
    return conv;
}

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
static bool plan_planes(const planes_state *s, const sp_cpu_host *host, const sparoa_node *conv,
                        conv_plan *p)
{
    sparoa_error err;
    if (sp_conv_geometry(s->conv, conv, p, &err) != SPAROA_OK) return false;
    if (!sp_conv_lines_pay(s->conv, p)) return false;
    if (sp_conv_lines_plan(s->conv, host, conv, p, &err) != SPAROA_OK) return false;
    p->lines = p->planes = true;
    return true;
}

static void planes_destroy(void *state, const sp_cpu_host *host)
{
    sp_cpu_free(host, state, sizeof(planes_state));
}

sparoa_status sp_conv_planes_join(const sp_cpu_host *host, const conv_state *conv,
                                  const sparoa_node *turn, const sparoa_node *node, void **state,
                                  sparoa_error *err)
{
    planes_state s = {.conv = conv, .node = sp_without_tensors(node)};
    conv_plan plan;
    *state = NULL;
    if (!puts_channel_last(turn) || !plan_planes(&s, host, node, &plan)) return SPAROA_OK;
    /* several threads would weave the same lines */
    if (host->join == SP_WHEN_FASTER && plan.split.panel_parts > 1) return SPAROA_OK;
    planes_state *made = sp_cpu_alloc(host, sizeof *made);
    if (!made) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to join nodes");
    *made = s;
    *state = made;
    return SPAROA_OK;
}

static sparoa_status planes_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                    void **prepared, size_t *workspace, sparoa_error *err)
{
    const planes_state *s = state;
    const sparoa_node conv = conv_node(s, node);
    conv_plan plan;
    if (!plan_planes(s, host, &conv, &plan))
        return sparoa_fail(err, SPAROA_INTERNAL, node, "joined nodes changed their shapes");
    *workspace = plan.piece_bytes * (size_t)sp_gemm_split_count(&plan.split);
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
}

static void planes_prepared_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    (void)state;
    sp_cpu_free(host, prepared, sizeof(conv_plan));
}

static sparoa_status planes_run(void *state, void *prepared, const sp_cpu_host *host,
                                const sparoa_node *node, const sparoa_exec *exec)
{
    const planes_state *s = state;
    const sparoa_node conv = conv_node(s, node);
    if (sp_count(conv.out[0]) > 0)
        sp_conv_lines_run(s->conv, prepared, host->kernels, &conv, node->in[0]->data, exec);
    return SPAROA_OK;
}

const sp_cpu_kernel_row sp_conv_planes_row = {
    .op = "Conv",
    .domain = "",
    .prepare = planes_prepare,
    .run = planes_run,
    .prepared_destroy = planes_prepared_destroy,
    .destroy = planes_destroy,
};
