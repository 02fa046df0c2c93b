/*
 * QLinearConv on 8-bit images with the channel last: one scale and zero point for the image, one or
 * one per channel for constant weights whose zero points are 0. Windows are gathered into rows,
 * then it is a matrix product; depthwise convolutions walk the pixels.
 */
#include "backends/cpu/kernel.h"
#include "base/cpu.h"
#include "ops/conv_shape.h"
#include "ops/epilogue.h"
#include "ops/quant.h"

#define ROW_BLOCK 64 /* output pixels gathered at a time */
#define MAX_TAPS 1024

enum { IN_X, IN_X_SCALE, IN_X_ZERO, IN_W, IN_W_SCALE, IN_W_ZERO, IN_Y_SCALE, IN_Y_ZERO, IN_BIAS };

typedef struct qconv_state {
    size_t c_in, c_out, taps, k; /* of the whole image; k: values of one window */
    size_t bytes;                /* of this struct and what lies behind it */
    bool depthwise, dot;
    uint32_t flip;
    uint8_t pad; /* what a pixel outside the image is */
    int32_t zero, lo, hi;
    int32_t *offset;
    float *factor;
    int8_t *packed;     /* product */
    int32_t *dw;        /* depthwise: [taps, channels] */
    uint8_t *pad_pixel; /* depthwise: one pixel of padding */
} qconv_state;

typedef struct qconv_plan {
    sp_conv conv;
    bool direct; /* rows are pixels of the image */
} qconv_plan;

static bool depthwise(const sparoa_node *node)
{
    int64_t group = sparoa_attr_int(node, "group", 1);
    return group > 1 && node->in[IN_W]->dims[1] == 1 && node->in[IN_W]->dims[0] == group;
}

static bool zero_points_are_zero(const sparoa_node *node)
{
    const sparoa_tensor *t = node->in[IN_W_ZERO];
    for (int64_t i = 0; i < sp_count(t); i++)
        if (sp_get_i64(t, i) != 0) return false;
    return true;
}

static const char *qconv_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    if (!sp_is_nhwc(node) || node->n_in < 8) return NULL;
    for (int32_t i = 1; i < node->n_in; i++)
        if (node->in[i] && !(node->constant && node->constant[i] && node->in[i]->data)) return NULL;
    for (int32_t i = 0; i < 8; i++)
        if (!node->in[i]) return NULL;
    const sparoa_tensor *w = node->in[IN_W];
    if (w->dtype != SPAROA_INT8 || w->rank != 4 || !zero_points_are_zero(node)) return NULL;
    if (node->in[IN_X_SCALE]->dtype != SPAROA_FLOAT32) return NULL;
    int64_t taps = w->dims[2] * w->dims[3];
    if (taps < 1 || taps > MAX_TAPS || sp_count(w) < 1) return NULL;
    if (sparoa_attr_int(node, "group", 1) != 1 && !depthwise(node)) return NULL;
    return host->kernels->q8_name;
}

/* The weights [m, c, taps] in the order of a gathered window, [m, taps, c]. */
static void reorder(const qconv_state *s, const int8_t *w, int8_t *to)
{
    size_t c_per = s->k / s->taps;
    for (size_t m = 0; m < s->c_out; m++)
        for (size_t t = 0; t < s->taps; t++)
            for (size_t c = 0; c < c_per; c++) *to++ = w[(m * c_per + c) * s->taps + t];
}

/* Sums of x - zero instead of x: zero times the sum of a column's weights goes into its offset. */
static void fill_outputs(qconv_state *s, const sparoa_node *node)
{
    const int8_t *w = node->in[IN_W]->data;
    const sparoa_tensor *bias = sparoa_in(node, IN_BIAS);
    bool is_signed = node->in[IN_X]->dtype == SPAROA_INT8;
    int32_t zero = sp_q_zero(node, IN_X_ZERO, 0) + (is_signed ? 128 : 0);
    for (size_t m = 0; m < s->c_out; m++) {
        int32_t sum = 0;
        for (size_t i = 0; i < s->k; i++) sum += w[m * s->k + i];
        s->offset[m] = (bias ? ((const int32_t *)bias->data)[m] : 0) - zero * sum;
        s->factor[m] = sp_q_scale(node, IN_X_SCALE, 0) * sp_q_scale(node, IN_W_SCALE, (int64_t)m) /
                       sp_q_scale(node, IN_Y_SCALE, 0);
    }
    s->flip = is_signed ? 0x80808080u : 0;
    s->pad = (uint8_t)sp_q_zero(node, IN_X_ZERO, 0);
    s->zero = sp_q_zero(node, IN_Y_ZERO, 0);
    sp_q_range(node->in[IN_Y_ZERO]->dtype, &s->lo, &s->hi);
    if (s->depthwise) memset(s->pad_pixel, s->pad, s->c_out);
}

static size_t align64(size_t n)
{
    return (n + 63) / 64 * 64;
}

static sparoa_status qconv_create(const sparoa_node *node, const sp_cpu_host *host, void **state,
                                  sparoa_error *err)
{
    const sparoa_tensor *w = node->in[IN_W];
    const sp_kernels *kernels = host->kernels;
    qconv_state s = {.c_out = (size_t)w->dims[0], .taps = (size_t)(w->dims[2] * w->dims[3])};
    s.depthwise = depthwise(node);
    s.k = (size_t)w->dims[1] * s.taps;
    s.c_in = s.depthwise ? s.c_out : (size_t)w->dims[1];
    s.dot = strcmp(kernels->isa, "avx512") == 0 && sp_cpu_has_dot512();
    size_t head = align64(sizeof s), row = align64(s.c_out * 4);
    size_t weights = s.depthwise ? align64(s.taps * s.c_out * 4) + align64(s.c_out)
                                 : kernels->gemm_q8_packed_bytes(s.c_out, s.k, s.dot);
    s.bytes = head + 2 * row + weights;
    char *memory = sp_cpu_alloc(host, s.bytes);
    int8_t *ordered = sp_cpu_alloc(host, s.c_out * s.k);
    if (!memory || !ordered) {
        sp_cpu_free(host, memory, s.bytes);
        sp_cpu_free(host, ordered, s.c_out * s.k);
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to pack the weights");
    }
    s.offset = (int32_t *)(memory + head);
    s.factor = (float *)(memory + head + row);
    reorder(&s, w->data, ordered);
    if (s.depthwise) {
        s.dw = (int32_t *)(memory + head + 2 * row);
        s.pad_pixel = (uint8_t *)s.dw + align64(s.taps * s.c_out * 4);
        for (size_t t = 0; t < s.taps; t++)
            for (size_t c = 0; c < s.c_out; c++) s.dw[t * s.c_out + c] = ordered[c * s.taps + t];
    } else {
        s.packed = (int8_t *)(memory + head + 2 * row);
        kernels->gemm_q8_pack(s.c_out, s.k, s.dot, ordered, s.k, s.packed);
    }
    fill_outputs(&s, node);
    sp_cpu_free(host, ordered, s.c_out * s.k);
    memcpy(memory, &s, sizeof s);
    *state = memory;
    return SPAROA_OK;
}

static void qconv_destroy(void *state, const sp_cpu_host *host)
{
    if (state) sp_cpu_free(host, state, ((qconv_state *)state)->bytes);
}

static size_t qconv_bytes(const void *state)
{
    return ((const qconv_state *)state)->bytes;
}

static bool qconv_keeps_input(const void *state, int32_t input)
{
    (void)state;
    return input == IN_X;
}

static sparoa_status qconv_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                   void **prepared, size_t *workspace, sparoa_error *err)
{
    const qconv_state *s = state;
    qconv_plan plan = {0};
    SP_TRY(sp_conv_shape(node, node->in[IN_X], node->in[IN_W], true, &plan.conv, err));
    const sp_window *w = &plan.conv.w;
    plan.direct = s->taps == 1;
    for (int32_t d = 0; d < 2; d++)
        plan.direct =
            plan.direct && w->stride[d] == 1 && w->pad_begin[d] == 0 && w->in[d] == w->out[d];
    if (!*prepared) *prepared = sp_cpu_alloc(host, sizeof plan);
    if (!*prepared) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the plan");
    memcpy(*prepared, &plan, sizeof plan);
    if (!s->depthwise && !plan.direct)
        *workspace = align64(ROW_BLOCK * s->k) * (size_t)host->threads;
    return SPAROA_OK;
}

static void qconv_prepared_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    (void)state;
    sp_cpu_free(host, prepared, sizeof(qconv_plan));
}

/* ---- running ---- */

typedef struct qconv_job {
    const qconv_state *s;
    const qconv_plan *p;
    const sp_kernels *kernels;
    const uint8_t *x;
    uint8_t *y;
    uint8_t *workspace;
    int64_t pixels;
    int32_t pieces;
} qconv_job;

static sp_q8_output output_of(const qconv_state *s)
{
    return (sp_q8_output){s->offset, s->factor, s->zero, s->lo, s->hi};
}

/* Input pixel under tap (ky, kx) of output pixel (y, x) of an image, or NULL outside. */
static const uint8_t *pixel(const qconv_job *job, const uint8_t *image, int64_t y, int64_t x,
                            int64_t ky, int64_t kx)
{
    const sp_window *w = &job->p->conv.w;
    int64_t iy = y * w->stride[0] + ky * w->dilation[0] - w->pad_begin[0];
    int64_t ix = x * w->stride[1] + kx * w->dilation[1] - w->pad_begin[1];
    if (iy < 0 || iy >= w->in[0] || ix < 0 || ix >= w->in[1]) return NULL;
    return image + (size_t)(iy * w->in[1] + ix) * job->s->c_in;
}

static void gather(const qconv_job *job, int64_t index, uint8_t *to)
{
    const sp_window *w = &job->p->conv.w;
    int64_t x = index % w->out[1], y = index / w->out[1] % w->out[0],
            n = index / (w->out[1] * w->out[0]);
    size_t c = job->s->c_in;
    const uint8_t *image = job->x + (size_t)(n * w->in[0] * w->in[1]) * c;
    for (int64_t ky = 0; ky < w->kernel[0]; ky++) {
        const uint8_t *first = pixel(job, image, y, x, ky, 0);
        const uint8_t *last = pixel(job, image, y, x, ky, w->kernel[1] - 1);
        if (first && last && w->dilation[1] == 1) { /* side by side in memory */
            memcpy(to, first, (size_t)w->kernel[1] * c);
            to += (size_t)w->kernel[1] * c;
            continue;
        }
        for (int64_t kx = 0; kx < w->kernel[1]; kx++, to += c) {
            const uint8_t *from = pixel(job, image, y, x, ky, kx);
            if (from)
                memcpy(to, from, c);
            else
                memset(to, job->s->pad, c);
        }
    }
}

static void product_piece(void *arg, int32_t piece)
{
    const qconv_job *job = arg;
    const qconv_state *s = job->s;
    int64_t begin = job->pixels * piece / job->pieces,
            end = job->pixels * (piece + 1) / job->pieces;
    sp_gemm_q8 g = {.n = s->c_out,
                    .k = s->k,
                    .lda = s->k,
                    .b = s->packed,
                    .ldc = s->c_out,
                    .flip = s->flip,
                    .dot = s->dot,
                    .out = output_of(s)};
    if (job->p->direct) {
        g.a = job->x;
        g.c = job->y;
        job->kernels->gemm_q8(&g, (size_t)begin, (size_t)end);
        return;
    }
    uint8_t *rows = job->workspace + align64(ROW_BLOCK * s->k) * (size_t)piece;
    g.a = rows;
    for (int64_t at = begin; at < end; at += ROW_BLOCK) {
        int64_t count = end - at < ROW_BLOCK ? end - at : ROW_BLOCK;
        for (int64_t i = 0; i < count; i++) gather(job, at + i, rows + (size_t)i * s->k);
        g.c = job->y + (size_t)at * s->c_out;
        job->kernels->gemm_q8(&g, 0, (size_t)count);
    }
}

static void depthwise_piece(void *arg, int32_t piece)
{
    const qconv_job *job = arg;
    const qconv_state *s = job->s;
    const sp_window *w = &job->p->conv.w;
    const uint8_t *in[MAX_TAPS];
    sp_dwconv_q8 d = {.channels = s->c_out,
                      .taps = s->taps,
                      .w = s->dw,
                      .flip = (uint8_t)s->flip,
                      .out = output_of(s)};
    int64_t begin = job->pixels * piece / job->pieces,
            end = job->pixels * (piece + 1) / job->pieces;
    for (int64_t index = begin; index < end; index++) {
        int64_t x = index % w->out[1], y = index / w->out[1] % w->out[0],
                n = index / (w->out[1] * w->out[0]);
        const uint8_t *image = job->x + (size_t)(n * w->in[0] * w->in[1]) * s->c_in;
        size_t t = 0;
        for (int64_t ky = 0; ky < w->kernel[0]; ky++)
            for (int64_t kx = 0; kx < w->kernel[1]; kx++, t++) {
                const uint8_t *from = pixel(job, image, y, x, ky, kx);
                in[t] = from ? from : s->pad_pixel;
            }
        job->kernels->dwconv_q8(&d, in, job->y + (size_t)index * s->c_out);
    }
}

static sparoa_status qconv_run(void *state, void *prepared, const sp_cpu_host *host,
                               const sparoa_node *node, const sparoa_exec *exec)
{
    const qconv_state *s = state;
    const qconv_plan *p = prepared;
    qconv_job job = {.s = s,
                     .p = p,
                     .kernels = host->kernels,
                     .x = node->in[IN_X]->data,
                     .y = node->out[0]->data,
                     .workspace = exec->workspace,
                     .pieces = exec->threads};
    job.pixels = p->conv.batch * p->conv.w.out[0] * p->conv.w.out[1];
    if (job.pixels < 4 * job.pieces) job.pieces = 1;
    if (job.pixels > 0)
        exec->parallel(exec, job.pieces, s->depthwise ? depthwise_piece : product_piece, &job);
    return SPAROA_OK;
}

/* ONNX QLinearConv, version 10, with the layout of epilogue.h. */
SP_CPU_KERNEL(QLinearConv) = {
    .op = "QLinearConv",
    .domain = "",
    .supports = qconv_supports,
    .create = qconv_create,
    .bytes = qconv_bytes,
    .keeps_input = qconv_keeps_input,
    .prepare = qconv_prepare,
    .run = qconv_run,
    .prepared_destroy = qconv_prepared_destroy,
    .destroy = qconv_destroy,
};
