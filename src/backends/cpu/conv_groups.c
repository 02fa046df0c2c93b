/* Conv of groups of so few channels that several groups share a vector: row by row. */
#include "backends/cpu/conv.h"

#define MAX_ROWS 64
#define LEAST_WORK 1e5 /* multiply-adds; below, other threads would come too late */

bool sp_conv_groups_fit(const sp_cpu_host *host, const conv_state *s)
{
    return s->kind == CONV_INDIRECT && s->groups > 1 && s->kh <= MAX_ROWS && s->kw <= MAX_ROWS &&
           host->kernels->gconv_f32_takes(s->c_in, s->c_out);
}

typedef struct groups_build {
    const sp_kernels *kernels;
    sp_gconv_f32_source source;
} groups_build;

static void build_groups(void *arg, void *data)
{
    const groups_build *b = arg;
    b->kernels->gconv_f32_pack(&b->source, data);
}

sp_cpu_packed *sp_gconv_pack_shared(const sp_cpu_host *host, const sp_gconv_f32_source *source)
{
    const size_t outputs = source->groups * source->c_out;
    groups_build b = {host->kernels, *source};
    sp_pack_key key = sp_pack_key_of(host->kernels->gconv_name);
    sp_pack_key_int(&key, (int64_t)source->groups);
    sp_pack_key_int(&key, (int64_t)source->c_in);
    sp_pack_key_int(&key, (int64_t)source->c_out);
    sp_pack_key_int(&key, (int64_t)source->taps);
    sp_pack_key_int(&key, source->bias != NULL);
    if (host->cache) {
        size_t weights = outputs * source->c_in * source->taps;
        sp_pack_key_add(&key, source->w, weights * sizeof(float));
        if (source->bias) sp_pack_key_add(&key, source->bias, outputs * sizeof(float));
    }
    size_t floats = host->kernels->gconv_f32_packed_floats(source->groups, source->c_in,
                                                           source->c_out, source->taps);
    return sp_cpu_pack_shared(host->cache, &host->allocator, key, floats * sizeof(float),
                              build_groups, &b);
}

typedef struct groups_task {
    const conv_state *s;
    const conv_plan *p;
    const sp_kernels *kernels;
    const float *x, *residual;
    float *y;
    int32_t count;
} groups_task;

static void groups_piece(void *arg, int32_t index)
{
    const groups_task *t = arg;
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    const size_t rows = p->batch * p->oh, count = (size_t)t->count, i = (size_t)index;
    const size_t line = p->ow * s->groups * s->c_out;
    const float *in[MAX_ROWS];
    size_t strides[MAX_ROWS];
    sp_gconv_f32 d = {.kh = (int)s->kh,
                      .kw = (int)s->kw,
                      .stride_w = (int)p->stride_w,
                      .dilation_w = (int)p->dilation_w,
                      .pad_left = (int)p->pad_left,
                      .groups = s->groups,
                      .c_in = s->c_in,
                      .c_out = s->c_out,
                      .in_width = p->w,
                      .out_width = p->ow,
                      .in = in,
                      .in_stride = strides,
                      .w = s->packed->data,
                      .out_stride = s->groups * s->c_out};
    d.epilogue = sp_gemm_epilogue_of(&s->epilogue);
    for (size_t row = rows * i / count; row < rows * (i + 1) / count; row++) {
        for (size_t ky = 0; ky < s->kh; ky++) {
            in[ky] = sp_conv_line(s, p, t->x, row, ky);
            strides[ky] = in[ky] ? p->c : 0;
        }
        d.out = t->y + row * line;
        if (t->residual) d.residual = t->residual + row * line;
        t->kernels->gconv_f32(&d);
    }
}

void sp_conv_groups_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                        const sparoa_node *node, const sparoa_exec *exec)
{
    groups_task t = {s, p, kernels, node->in[0]->data, NULL, node->out[0]->data, 1};
    if (s->epilogue.residual) t.residual = node->in[s->epilogue.residual_input]->data;
    const size_t rows = p->batch * p->oh;
    double work = (double)(rows * p->ow) * (double)(p->c * s->c_out * s->kh * s->kw);
    t.count = sp_fine_pieces(work, exec->threads);
    if ((size_t)t.count > rows) t.count = (int32_t)rows;
    if (work < LEAST_WORK) t.count = 1;
    sp_run_pieces(exec, t.count, groups_piece, &t);
}
