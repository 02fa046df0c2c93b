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
#define MAX_ROWS 16 /* of a kernel whose rows of outputs are computed together */
#define SLACK 16    /* bytes behind gathered rows that copies of whole vectors may touch */

enum { IN_X, IN_X_SCALE, IN_X_ZERO, IN_W, IN_W_SCALE, IN_W_ZERO, IN_Y_SCALE, IN_Y_ZERO, IN_BIAS };

typedef struct qconv_state {
    size_t c_in, c_out, taps, k; /* of the whole image; k: values of one window */
    size_t kh, kw;
    size_t bytes; /* of this struct and what lies behind it */
    bool depthwise, dot;
    bool by_row; /* depthwise: packed holds weights for rows of outputs */
    uint32_t flip;
    uint8_t pad; /* what a pixel outside the image is */
    int32_t zero, lo, hi;
    int32_t *offset;
    float *factor;
    int8_t *packed;     /* product, or depthwise by row */
    int32_t *dw;        /* depthwise otherwise: [taps, channels] */
    uint8_t *pad_pixel; /* depthwise: one pixel of padding */
} qconv_state;

typedef struct qconv_plan {
    sp_conv conv;
    bool direct;        /* rows are pixels of the image */
    size_t piece_bytes; /* workspace of a thread */
    size_t line_bytes;  /* gathering: of a row of the image with its padding, and SLACK */
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

/* ordered: room for the weights in the order of windows. */
static void pack_weights(qconv_state *s, const sp_kernels *kernels, const int8_t *w,
                         int8_t *ordered)
{
    if (s->by_row) {
        kernels->dwconv_q8_pack(
            &(sp_dwconv_q8_weights){s->c_out, s->kh, s->kw, w, s->offset, s->factor}, s->packed);
        return;
    }
    reorder(s, w, ordered);
    if (!s->depthwise) {
        kernels->gemm_q8_pack(s->c_out, s->k, s->dot, ordered, s->k, s->packed);
        return;
    }
    s->dw = (int32_t *)(void *)s->packed;
    for (size_t t = 0; t < s->taps; t++)
        for (size_t c = 0; c < s->c_out; c++) s->dw[t * s->c_out + c] = ordered[c * s->taps + t];
}

static sparoa_status qconv_create(const sparoa_node *node, const sp_cpu_host *host, void **state,
                                  sparoa_error *err)
{
    const sparoa_tensor *w = node->in[IN_W];
    const sp_kernels *kernels = host->kernels;
    qconv_state s = {
        .c_out = (size_t)w->dims[0], .kh = (size_t)w->dims[2], .kw = (size_t)w->dims[3]};
    s.taps = s.kh * s.kw;
    s.depthwise = depthwise(node);
    s.k = (size_t)w->dims[1] * s.taps;
    s.c_in = s.depthwise ? s.c_out : (size_t)w->dims[1];
    s.dot = strcmp(kernels->isa, "avx512") == 0 && sp_cpu_has_dot512();
    s.by_row = s.depthwise && s.dot && s.kh <= MAX_ROWS;
    size_t head = align64(sizeof s), row = align64(s.c_out * 4);
    size_t weights = s.by_row      ? kernels->dwconv_q8_packed_bytes(s.c_out, s.kh, s.kw)
                     : s.depthwise ? align64(s.taps * s.c_out * 4)
                                   : kernels->gemm_q8_packed_bytes(s.c_out, s.k, s.dot);
    s.bytes = head + 2 * row + align64(weights) + align64(s.c_out);
    char *memory = sp_cpu_alloc(host, s.bytes);
    int8_t *ordered = sp_cpu_alloc(host, s.c_out * s.k);
    if (!memory || !ordered) {
        sp_cpu_free(host, memory, s.bytes);
        sp_cpu_free(host, ordered, s.c_out * s.k);
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to pack the weights");
    }
    s.offset = (int32_t *)(memory + head);
    s.factor = (float *)(memory + head + row);
    s.packed = (int8_t *)(memory + head + 2 * row);
    s.pad_pixel = (uint8_t *)s.packed + align64(weights);
    fill_outputs(&s, node);
    pack_weights(&s, kernels, w->data, ordered);
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

/* False: too large. */
static bool plan_workspace(const qconv_state *s, qconv_plan *p)
{
    const sp_window *w = &p->conv.w;
    if (w->out[0] < 1 || w->out[1] < 1) return true;
    size_t columns =
        (size_t)((w->out[1] - 1) * w->stride[1] + (w->kernel[1] - 1) * w->dilation[1] + 1);
    if (s->by_row) return !__builtin_mul_overflow(columns, (s->kh + 3) / 4 * 256, &p->piece_bytes);
    if (s->depthwise || (p->direct && s->k % 4 == 0)) return true;
    p->piece_bytes = align64(ROW_BLOCK * s->k + SLACK);
    size_t lines;
    if (__builtin_mul_overflow(columns, s->c_in, &p->line_bytes) ||
        __builtin_add_overflow(p->line_bytes, SLACK, &p->line_bytes) ||
        __builtin_mul_overflow(p->line_bytes, s->kh, &lines) || lines > SIZE_MAX / 2)
        return false;
    p->piece_bytes += align64(lines);
    return true;
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
    if (!plan_workspace(s, &plan) ||
        __builtin_mul_overflow(plan.piece_bytes, (size_t)host->threads, workspace))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
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

/* The image's rows under one row of outputs, with their padding, so that every window lies inside.
 */
typedef struct qconv_lines {
    int64_t row; /* of outputs, counted over the batch; -1: none yet */
    uint8_t *memory;
    size_t bytes; /* of a line, and SLACK */
} qconv_lines;

static void fill_lines(const qconv_job *job, qconv_lines *lines, int64_t row)
{
    const sp_window *w = &job->p->conv.w;
    const size_t c = job->s->c_in, width = lines->bytes - SLACK;
    const size_t left = w->pad_begin[1] > 0 ? (size_t)w->pad_begin[1] * c : 0;
    const size_t skip = w->pad_begin[1] < 0 ? (size_t)-w->pad_begin[1] * c : 0;
    size_t count = (size_t)w->in[1] * c > skip ? (size_t)w->in[1] * c - skip : 0;
    if (left >= width) count = 0;
    if (count > width - left) count = width - left;
    lines->row = row;
    for (int64_t ky = 0; ky < w->kernel[0]; ky++) {
        uint8_t *to = lines->memory + (size_t)ky * lines->bytes;
        int64_t y = row % w->out[0] * w->stride[0] + ky * w->dilation[0] - w->pad_begin[0];
        if (y < 0 || y >= w->in[0] || count == 0) {
            memset(to, job->s->pad, width);
            continue;
        }
        int64_t line = row / w->out[0] * w->in[0] + y;
        memset(to, job->s->pad, left);
        memcpy(to + left, job->x + (size_t)(line * w->in[1]) * c + skip, count);
        memset(to + left + count, job->s->pad, width - left - count);
    }
}

/* Windows of `count` output pixels from `at` on, one after the other. Copies of whole vectors may
 * reach SLACK behind what they are for, on both sides. */
static void gather(const qconv_job *job, qconv_lines *lines, int64_t at, int64_t count, uint8_t *to)
{
    const sp_window *w = &job->p->conv.w;
    const size_t c = job->s->c_in, n = (size_t)w->kernel[1] * c, hole = (size_t)w->dilation[1] * c;
    for (; count > 0; count--, at++) {
        if (at / w->out[1] != lines->row) fill_lines(job, lines, at / w->out[1]);
        const uint8_t *line = lines->memory + (size_t)(at % w->out[1] * w->stride[1]) * c;
        for (int64_t ky = 0; ky < w->kernel[0]; ky++, line += lines->bytes, to += n)
            if (hole == c)
                for (size_t i = 0; i < n; i += SLACK) memcpy(to + i, line + i, SLACK);
            else
                for (size_t kx = 0; kx < (size_t)w->kernel[1]; kx++)
                    memcpy(to + kx * c, line + kx * hole, c);
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
    uint8_t *rows = job->workspace + job->p->piece_bytes * (size_t)piece;
    if (job->p->direct) {
        /* what is read behind the image's last row must be there: that row is gathered */
        const bool last = job->p->piece_bytes && end == job->pixels;
        g.a = job->x;
        g.c = job->y;
        job->kernels->gemm_q8(&g, (size_t)begin, (size_t)(last ? end - 1 : end));
        if (!last) return;
        begin = end - 1;
    }
    g.a = rows;
    qconv_lines lines = {-1, rows + align64(ROW_BLOCK * s->k + SLACK), job->p->line_bytes};
    for (int64_t at = begin; at < end; at += ROW_BLOCK) {
        int64_t count = end - at < ROW_BLOCK ? end - at : ROW_BLOCK;
        gather(job, &lines, at, count, rows);
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

static void rows_piece(void *arg, int32_t piece)
{
    const qconv_job *job = arg;
    const qconv_state *s = job->s;
    const sp_window *w = &job->p->conv.w;
    const uint8_t *rows[MAX_ROWS];
    const size_t line = (size_t)w->in[1] * s->c_in;
    sp_dwconv_q8_row d = {.channels = s->c_out,
                          .kh = s->kh,
                          .kw = s->kw,
                          .stride = (size_t)w->stride[1],
                          .dilation = (size_t)w->dilation[1],
                          .in_w = (size_t)w->in[1],
                          .out_w = (size_t)w->out[1],
                          .pad_left = (ptrdiff_t)w->pad_begin[1],
                          .rows = rows,
                          .pad = s->pad,
                          .flip = (uint8_t)s->flip,
                          .packed = s->packed,
                          .scratch = job->workspace + job->p->piece_bytes * (size_t)piece,
                          .zero = s->zero,
                          .lo = s->lo,
                          .hi = s->hi};
    int64_t total = job->pixels / w->out[1];
    for (int64_t i = total * piece / job->pieces; i < total * (piece + 1) / job->pieces; i++) {
        int64_t y = i % w->out[0] * w->stride[0] - w->pad_begin[0];
        const uint8_t *image = job->x + (size_t)(i / w->out[0] * w->in[0]) * line;
        for (size_t ky = 0; ky < s->kh; ky++) {
            int64_t iy = y + (int64_t)ky * w->dilation[0];
            rows[ky] = iy < 0 || iy >= w->in[0] ? NULL : image + (size_t)iy * line;
        }
        d.out = job->y + (size_t)(i * w->out[1]) * s->c_out;
        job->kernels->dwconv_q8_row(&d);
    }
}

/* Threads that the work is worth: the dot product does some 30 multiply-adds in a cycle. */
static int32_t pieces_for(const qconv_job *job, int32_t threads)
{
    const qconv_state *s = job->s;
    const double least = s->depthwise ? 1e5 : 4e5;
    double work = (double)job->pixels * (double)s->k * (double)s->c_out / least;
    int64_t parts = s->by_row ? job->pixels / job->p->conv.w.out[1] : job->pixels;
    if (parts < threads) threads = (int32_t)parts;
    return work < threads ? work < 1 ? 1 : (int32_t)work : threads;
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
                     .workspace = exec->workspace};
    job.pixels = p->conv.batch * p->conv.w.out[0] * p->conv.w.out[1];
    if (job.pixels <= 0) return SPAROA_OK;
    job.pieces = pieces_for(&job, exec->threads);
    exec->parallel(exec, job.pieces,
                   s->by_row      ? rows_piece
                   : s->depthwise ? depthwise_piece
                                  : product_piece,
                   &job);
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
