/* Conv whose weights are computed: packed anew in each run, then as with constant ones. */
#include "backends/cpu/conv.h"
#include "ops/op.h"

typedef struct dynamic_plan {
    conv_plan conv;
    size_t packed_at; /* in the workspace, behind what the convolution takes */
} dynamic_plan;

static const char *dynamic_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    if (sp_cpu_is_constant(node, 1) || !sp_conv_can(node)) return NULL;
    conv_state s;
    sp_conv_read(node, &s);
    if (s.kind == CONV_DEPTHWISE) return host->kernels->dwconv_name;
    return sp_conv_groups_fit(host, &s) ? host->kernels->gconv_name : host->kernels->conv_name;
}

static void dynamic_destroy(void *state, const sp_cpu_host *host)
{
    conv_state *s = state;
    if (!s) return;
    sp_cpu_free(host, s->zero, s->zero_floats * sizeof(float));
    sp_cpu_free(host, s, sizeof *s);
}

static sparoa_status dynamic_create(const sparoa_node *node, const sp_cpu_host *host, void **state,
                                    sparoa_error *err)
{
    conv_state *s = sp_cpu_alloc(host, sizeof *s);
    if (!s) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    sp_conv_read(node, s);
    if (sp_conv_groups_fit(host, s)) s->kind = CONV_GROUPED;
    s->zero = sp_cpu_alloc(host, s->zero_floats * sizeof(float));
    if (!s->zero) {
        dynamic_destroy(s, host);
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    }
    *state = s;
    return SPAROA_OK;
}

static size_t packed_floats(const conv_state *s, const sp_kernels *kernels)
{
    const size_t taps = s->kh * s->kw;
    if (s->kind == CONV_DEPTHWISE) return kernels->dwconv_f32_packed_floats(s->groups, taps);
    if (s->kind == CONV_GROUPED)
        return kernels->gconv_f32_packed_floats(s->groups, s->c_in, s->c_out, taps);
    return s->groups * sp_gemm_group_floats(kernels, s->c_out, taps * s->c_in);
}

static sparoa_status dynamic_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                     void **prepared, size_t *workspace, sparoa_error *err)
{
    const conv_state *s = state;
    dynamic_plan plan;
    conv_state now;
    sp_conv_read(node, &now);
    if (now.c_in != s->c_in || now.c_out != s->c_out || now.kh != s->kh || now.kw != s->kw)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "the weights changed their shape");
    if (s->has_bias && sp_count(node->in[2]) != node->in[1]->dims[0])
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the bias has %lld elements, expected %lld",
                           (long long)sp_count(node->in[2]), (long long)node->in[1]->dims[0]);
    SP_TRY(sp_conv_make_plan(s, host, node, &plan.conv, workspace, err));
    plan.packed_at = (*workspace + 63) / 64 * 64;
    *workspace = plan.packed_at + packed_floats(s, host->kernels) * sizeof(float);
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
}

typedef struct pack_task {
    const conv_state *s;
    const sp_kernels *kernels;
    const float *w, *bias;
    float *packed;
} pack_task;

static void pack_groups(void *arg, int64_t begin, int64_t end)
{
    const pack_task *t = arg;
    const conv_state *s = t->s;
    const size_t floats = sp_gemm_group_floats(t->kernels, s->c_out, s->kh * s->kw * s->c_in);
    for (size_t g = (size_t)begin; g < (size_t)end; g++) {
        sp_gemm_f32_source source = sp_conv_source(s, t->w + g * s->c_out * s->c_in * s->kh * s->kw,
                                                   t->bias ? t->bias + g * s->c_out : NULL);
        t->kernels->gemm_f32_pack(&source, 0, t->kernels->gemm_f32_panels(s->c_out),
                                  t->packed + g * floats);
    }
}

static void pack(const pack_task *t, const sparoa_exec *exec)
{
    const conv_state *s = t->s;
    const size_t taps = s->kh * s->kw;
    const sp_gemm_f32_source source = sp_conv_source(s, t->w, t->bias);
    const sp_gconv_f32_source groups = {s->groups, s->c_in, s->c_out, taps, t->w, t->bias};
    if (s->kind == CONV_DEPTHWISE)
        t->kernels->dwconv_f32_pack(s->groups, taps, t->w, t->bias, t->packed);
    else if (s->kind == CONV_GROUPED)
        t->kernels->gconv_f32_pack(&groups, t->packed);
    else if (s->groups == 1)
        sp_gemm_pack_parallel(t->kernels, &source, t->packed, exec);
    else
        sp_parallel_for(exec, (int64_t)s->groups, 1, pack_groups, (void *)t);
}

static sparoa_status dynamic_run(void *state, void *prepared, const sp_cpu_host *host,
                                 const sparoa_node *node, const sparoa_exec *exec)
{
    const dynamic_plan *p = prepared;
    conv_state s = *(const conv_state *)state;
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    pack_task t = {.s = &s,
                   .kernels = host->kernels,
                   .w = node->in[1]->data,
                   .bias = s.has_bias ? node->in[2]->data : NULL,
                   .packed = (float *)(void *)((char *)exec->workspace + p->packed_at)};
    pack(&t, exec);
    sp_cpu_packed packed = {.data = t.packed};
    s.packed = &packed;
    sp_conv_compute(&s, &p->conv, host, node, exec);
    return SPAROA_OK;
}

static void dynamic_prepared_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    sp_cpu_free(host, prepared, sizeof(dynamic_plan));
}

/* ONNX Conv, all versions, with the epilogue and layout of epilogue.h. */
SP_CPU_KERNEL(ConvDynamic) = {
    .op = "Conv",
    .domain = "",
    .supports = dynamic_supports,
    .create = dynamic_create,
    .prepare = dynamic_prepare,
    .run = dynamic_run,
    .prepared_destroy = dynamic_prepared_destroy,
    .destroy = dynamic_destroy,
};
