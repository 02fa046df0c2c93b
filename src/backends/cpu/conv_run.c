#include "backends/cpu/conv.h"

typedef struct conv_task {
    const conv_state *s;
    const conv_plan *p;
    const sp_kernels *kernels;
    const float *x, *residual;
    float *y;
    char *workspace;
    int32_t count;
} conv_task;

static conv_task task_of(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                         const sparoa_node *node, const sparoa_exec *exec)
{
    conv_task t = {s, p, kernels, node->in[0]->data, NULL, node->out[0]->data, exec->workspace, 1};
    if (s->epilogue.residual) t.residual = node->in[s->epilogue.residual_input]->data;
    return t;
}

/* ---- products ---- */

/* Kernel rows as taps: windows of output pixels x.. on an input line. Those that cross the left or
 * right edge are copied, with their zeros, to `patch`; returns what is left of it. */
static float *point_to_windows(const conv_task *t, const float *line, size_t x, size_t count,
                               const float **slot, float *patch)
{
    const conv_plan *p = t->p;
    const ptrdiff_t kw = (ptrdiff_t)t->s->kw, w = (ptrdiff_t)p->w;
    ptrdiff_t x0 = (ptrdiff_t)x * p->stride_w - p->pad_left;
    for (size_t i = 0; i < count; i++, x0 += p->stride_w) {
        if (line && x0 >= 0 && x0 + kw <= w) {
            slot[i] = line + (size_t)x0 * p->c;
            continue;
        }
        size_t skip = x0 < 0 ? (size_t)-x0 : 0; /* pixels of the window outside the image */
        size_t end = x0 + kw <= w ? (size_t)kw : x0 < w ? (size_t)(w - x0) : 0;
        slot[i] = t->s->zero;
        if (!line || skip >= end) continue;
        slot[i] = patch;
        memset(patch, 0, p->k * sizeof *patch);
        memcpy(patch + skip * p->c, line + (size_t)(x0 + (ptrdiff_t)skip) * p->c,
               (end - skip) * p->c * sizeof *patch);
        patch += p->k;
    }
    return patch;
}

/* Pixels as taps. */
static void point_to_pixels(const conv_task *t, const float *line, size_t x, size_t count,
                            const float **slot)
{
    const conv_plan *p = t->p;
    for (size_t kx = 0; kx < t->s->kw; kx++, slot += p->block) {
        ptrdiff_t column = (ptrdiff_t)x * p->stride_w - p->pad_left + (ptrdiff_t)kx * p->dilation_w;
        for (size_t i = 0; i < count; i++, column += p->stride_w)
            slot[i] = line && (size_t)column < p->w ? line + (size_t)column * p->c : t->s->zero;
    }
}

/* Where all taps of output pixels m..m+count-1 lie. */
static void point_to_taps(const conv_task *t, size_t m, size_t count, const float **rows,
                          float *patch)
{
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    for (size_t i = 0, n; i < count; i += n) { /* output row by output row */
        const size_t row = (m + i) / p->ow, x = (m + i) % p->ow;
        n = p->ow - x < count - i ? p->ow - x : count - i;
        for (size_t ky = 0; ky < s->kh; ky++) {
            const float *line = sp_conv_line(s, p, t->x, row, ky);
            if (s->row_taps)
                patch = point_to_windows(t, line, x, n, rows + ky * p->block + i, patch);
            else
                point_to_pixels(t, line, x, n, rows + ky * s->kw * p->block + i);
        }
    }
}

/* To the next group; what is outside the image has zeros for all groups. */
static void move_taps(const conv_task *t, size_t count, const float **rows)
{
    for (size_t tap = 0; tap < t->p->taps; tap++)
        for (size_t i = 0; i < count; i++) rows[tap * t->p->block + i] += t->s->c_in;
}

static void indirect_piece(void *arg, int32_t index)
{
    const conv_task *t = arg;
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    sp_gemm_piece piece = sp_gemm_piece_of(&p->split, index);
    size_t table = (p->block * p->taps * sizeof(float *) + 63) / 64 * 64;
    size_t packed = sp_gemm_group_floats(t->kernels, s->c_out, p->taps * p->k),
           ldc = s->c_out * s->groups;
    const float **rows = (const float **)(t->workspace + p->piece_bytes * (size_t)index);
    float *patch = (float *)((char *)rows + table);
    for (size_t m = piece.m0; m < piece.m1; m += p->block) {
        size_t count = piece.m1 - m < p->block ? piece.m1 - m : p->block;
        point_to_taps(t, m, count, rows, patch);
        for (size_t g = 0; g < s->groups; g++) {
            if (g > 0) move_taps(t, count, rows);
            size_t at = m * ldc + g * s->c_out;
            sp_gemm_f32 product = {.m = count,
                                   .n = s->c_out,
                                   .k = p->k,
                                   .taps = p->taps,
                                   .rows = rows,
                                   .row_stride = p->block,
                                   .windows = sp_conv_overlaps(s, p),
                                   .b = (float *)s->packed->data + g * packed,
                                   .c = t->y + at,
                                   .ldc = ldc,
                                   .ldr = ldc,
                                   .residual = t->residual ? t->residual + at : NULL};
            product.epilogue = sp_gemm_epilogue_of(&s->epilogue);
            t->kernels->gemm_f32(&product, 0, count, piece.p0, piece.p1);
        }
    }
}

void sp_conv_indirect_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                          const sparoa_node *node, const sparoa_exec *exec)
{
    conv_task t = task_of(s, p, kernels, node, exec);
    sp_run_pieces(exec, sp_gemm_split_count(&p->split), indirect_piece, &t);
}

/* ---- pruned weights ---- */

sparoa_status sp_conv_sparse_plan(const conv_state *s, const sp_cpu_host *host,
                                  const sparoa_node *node, conv_plan *p, sparoa_error *err)
{
    const sp_spmm_f32_size *size = sp_spmm_size_of(s->packed);
    p->split = sp_spmm_split(host->kernels, size, p->batch * p->oh * p->ow, host->threads);
    p->block = sp_conv_is_plain(s, p) ? 0 : 4 * (size_t)host->kernels->spmm_rows;
    p->piece_bytes = (p->block * sizeof(float *) + 63) / 64 * 64;
    if (__builtin_add_overflow(p->piece_bytes, sp_spmm_piece_bytes(host->kernels, size),
                               &p->piece_bytes))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    return SPAROA_OK;
}

static void sparse_piece(void *arg, int32_t index)
{
    const conv_task *t = arg;
    const conv_plan *p = t->p;
    const sp_gemm_piece piece = sp_gemm_piece_of(&p->split, index);
    const float **rows = (const float **)(t->workspace + p->piece_bytes * (size_t)index);
    void *memory = (char *)rows + (p->block * sizeof *rows + 63) / 64 * 64;
    sp_spmm_f32 g = {.b = t->s->packed->data,
                     .a = t->x,
                     .lda = p->c,
                     .c = t->y,
                     .ldc = t->s->c_out,
                     .residual = t->residual,
                     .ldr = t->s->c_out,
                     .epilogue = sp_gemm_epilogue_of(&t->s->epilogue)};
    if (p->block == 0) {
        sp_spmm_piece(t->kernels, &g, &piece, piece.m0, piece.m1, memory);
        return;
    }
    g.rows = rows;
    for (size_t m = piece.m0; m < piece.m1; m += p->block) {
        const size_t count = piece.m1 - m < p->block ? piece.m1 - m : p->block;
        point_to_taps(t, m, count, rows, NULL);
        g.c = t->y + m * t->s->c_out;
        if (t->residual) g.residual = t->residual + m * t->s->c_out;
        sp_spmm_piece(t->kernels, &g, &piece, 0, count, memory);
    }
}

void sp_conv_sparse_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                        const sparoa_node *node, const sparoa_exec *exec)
{
    conv_task t = task_of(s, p, kernels, node, exec);
    sp_run_pieces(exec, sp_gemm_split_count(&p->split), sparse_piece, &t);
}

/* ---- depthwise ---- */

#define MAX_ROWS 64
#define LEAST_WORK 1e5    /* multiply-adds; below, other threads would come too late */
#define CHUNK_FLOATS 7168 /* of the nearest cache: the input rows of an output row, and weights */
#define MIN_CHUNK 32      /* channels; narrower strips of wide images are walked too slowly */

size_t sp_conv_depthwise_chunk(const conv_state *s, const conv_plan *p)
{
    size_t rows = s->kh + (size_t)p->stride_h, taps = s->kh * s->kw;
    size_t chunk = CHUNK_FLOATS / (rows * p->w + taps + 1) / 16 * 16;
    return chunk < MIN_CHUNK || chunk > p->c ? p->c : chunk;
}

/* A row of windows with holes: outputs that lie `dilation` pixels apart read inputs that do, each
 * such set through windows without holes. in, strides: the d->kh rows of the input, to change. */
static void dilated_row(const conv_task *t, const sp_dwconv_f32 *row, const float **in,
                        size_t *strides)
{
    const ptrdiff_t step = row->dilation_w;
    const float *lines[MAX_ROWS];
    memcpy(lines, in, (size_t)row->kh * sizeof *in);
    for (int ky = 0; ky < row->kh; ky++) strides[ky] *= (size_t)step;
    for (ptrdiff_t first = 0; first < step && first < (ptrdiff_t)row->out_width; first++) {
        sp_dwconv_f32 d = *row;
        const ptrdiff_t column = ((first - d.pad_left) % step + step) % step; /* of the input */
        const size_t pixels = d.in_width, at = (size_t)first * d.out_stride;
        d.pad_left = (int)((column - first + d.pad_left) / step);
        d.in_width = (size_t)column < pixels ? (pixels - 1 - (size_t)column) / (size_t)step + 1 : 0;
        d.out_width = (d.out_width - 1 - (size_t)first) / (size_t)step + 1;
        d.dilation_w = 1;
        for (int ky = 0; ky < d.kh; ky++)
            if (strides[ky]) in[ky] = lines[ky] + (size_t)column * t->p->c;
        d.out += at;
        if (d.residual) d.residual += at;
        d.out_stride *= (size_t)step;
        t->kernels->dwconv_f32(&d);
    }
}

/* Output rows row0..row1-1 of an image, counted over the batch, of d->channels channels from c on.
 */
static void depthwise_rows(const conv_task *t, sp_dwconv_f32 *d, size_t c, size_t row0, size_t row1)
{
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    const float *in[MAX_ROWS + 1];
    size_t strides[MAX_ROWS + 1];
    d->in = in;
    d->in_stride = strides;
    d->w = (float *)s->packed->data + c * (s->kh * s->kw + 1);
    d->next_row = p->ow * p->c;
    for (size_t row = row0; row < row1; row += 1 + d->two) {
        d->two = sp_conv_takes_two(p) && row + 1 < row1;
        for (size_t ky = 0; ky < s->kh + d->two; ky++) {
            const float *line = sp_conv_line(s, p, t->x, row, ky);
            in[ky] = line ? line + c : s->zero;
            strides[ky] = line ? p->c : 0;
        }
        d->out = t->y + row * p->ow * p->c + c;
        if (t->residual) d->residual = t->residual + row * p->ow * p->c + c;
        if (d->dilation_w > 1 && d->stride_w == 1 && !d->two)
            dilated_row(t, d, in, strides);
        else
            t->kernels->dwconv_f32(d);
    }
}

/* Rows begin..end-1 of the batch; sums: what they hold is added to it by channel, or NULL. */
static void depthwise_span(const conv_task *t, size_t begin, size_t end, float *sums)
{
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    sp_dwconv_f32 d = {.kh = (int)s->kh,
                       .kw = (int)s->kw,
                       .stride_w = (int)p->stride_w,
                       .dilation_w = (int)p->dilation_w,
                       .pad_left = (int)p->pad_left,
                       .in_width = p->w,
                       .out_width = p->ow,
                       .out_stride = p->c};
    d.epilogue = sp_gemm_epilogue_of(&s->epilogue);
    for (size_t row = begin; row < end;) { /* image by image */
        size_t last = (row / p->oh + 1) * p->oh;
        if (last > end) last = end;
        for (size_t c = 0; c < p->c; c += p->chunk) {
            d.channels = p->c - c < p->chunk ? p->c - c : p->chunk;
            d.sums = sums ? sums + c : NULL;
            depthwise_rows(t, &d, c, row, last);
        }
        row = last;
    }
}

static void depthwise_piece(void *arg, int32_t index)
{
    const conv_task *t = arg;
    size_t rows = t->p->batch * t->p->oh, count = (size_t)t->count, i = (size_t)index;
    depthwise_span(t, rows * i / count, rows * (i + 1) / count, NULL);
}

static double depthwise_work(const conv_state *s, const conv_plan *p)
{
    return (double)(p->batch * p->oh * p->ow) * (double)(p->c * s->kh * s->kw);
}

void sp_conv_depthwise_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                           const sparoa_node *node, const sparoa_exec *exec)
{
    conv_task t = task_of(s, p, kernels, node, exec);
    size_t rows = p->batch * p->oh;
    double work = depthwise_work(s, p);
    t.count = sp_fine_pieces(work, exec->threads);
    if ((size_t)t.count > rows) t.count = (int32_t)rows;
    if (work < LEAST_WORK) t.count = 1;
    sp_run_pieces(exec, t.count, depthwise_piece, &t);
}

/* ---- depthwise, with the mean of each channel ---- */

size_t sp_conv_mean_parts(const conv_state *s, const conv_plan *p, int32_t threads)
{
    double work = depthwise_work(s, p);
    size_t pieces = work < LEAST_WORK ? 1 : (size_t)sp_fine_pieces(work, threads);
    size_t parts = p->batch ? (pieces + p->batch - 1) / p->batch : 1;
    return parts < p->oh ? parts : p->oh;
}

/* A part of an image and its sums. */
static void mean_piece(void *arg, int32_t index)
{
    const conv_task *t = arg;
    const conv_plan *p = t->p;
    size_t parts = (size_t)t->count, i = (size_t)index, first = i / parts * p->oh;
    float *sums = (float *)(void *)t->workspace + i * p->c;
    memset(sums, 0, p->c * sizeof *sums);
    depthwise_span(t, first + p->oh * (i % parts) / parts, first + p->oh * (i % parts + 1) / parts,
                   sums);
}

void sp_conv_mean_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                      const sparoa_node *node, float *means, const sparoa_exec *exec)
{
    conv_task t = task_of(s, p, kernels, node, exec);
    const size_t parts = sp_conv_mean_parts(s, p, exec->threads);
    t.count = (int32_t)parts;
    sp_run_pieces(exec, (int32_t)(p->batch * parts), mean_piece, &t);
    for (size_t n = 0; n < p->batch; n++) {
        const sp_pool_f32 sum = {.channels = p->c,
                                 .count = parts,
                                 .base = (float *)exec->workspace + n * parts * p->c,
                                 .stride = p->c,
                                 .scale = 1 / (float)(p->oh * p->ow),
                                 .out = means + n * p->c};
        kernels->pool_f32(&sum);
    }
}
