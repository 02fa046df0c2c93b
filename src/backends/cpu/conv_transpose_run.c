/* ConvTranspose: computing, piece by piece. */
#include "backends/cpu/conv_transpose.h"
#include "ops/op.h"

/* Input lines that an output row reads at most, which follow each other. */
static size_t ring_lines(const deconv_state *s)
{
    return (size_t)((s->y.kernel - 1) * s->y.dilation / s->y.stride + 1);
}

/* Sums of an output row as far as windows reach, which the row may exceed. */
static size_t line_floats(const deconv_state *s, size_t w, size_t ow, ptrdiff_t pad)
{
    size_t reach = w ? (w - 1) * (size_t)s->x.stride + (size_t)s->x.kernel : 0;
    return (reach > ow + (size_t)pad ? reach : ow + (size_t)pad) * s->c_out;
}

/* Pointers [taps][outputs of a phase in a row]; scattered: sums of a row, products of input lines.
 */
size_t sp_deconv_piece_bytes(const deconv_state *s, const sparoa_node *node, const place *pads)
{
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    const size_t ow = (size_t)y->dims[y->rank - 2], w = (size_t)x->dims[x->rank - 2];
    const size_t elements = (size_t)(kernel_rows(s) * s->x.kernel);
    size_t bytes = (ow / (size_t)s->x.stride + 1) * elements * sizeof(float *);
    const size_t ring = s->whole ? 0 : ring_lines(s);
    if (s->scattered)
        bytes = (line_floats(s, w, ow, pads->x) + ring * w * elements * s->c_out) * sizeof(float);
    return (bytes + 63) / 64 * 64;
}

/* Where output `first` of output row `row` lies, padding included. */
static place place_of(const deconv_task *t, size_t row, ptrdiff_t first)
{
    return (place){.z = (ptrdiff_t)(row / t->oh % t->od) + t->pads.z,
                   .y = (ptrdiff_t)(row % t->oh) + t->pads.y,
                   .x = first + t->pads.x};
}

/* The input line that a kernel row of its phase reads for output row `row`, NULL outside. */
static const float *line_of(const deconv_task *t, size_t row, const place *at, ptrdiff_t kernel_row)
{
    const axis *az = &t->s->z, *ay = &t->s->y;
    const ptrdiff_t kz = kernel_row / ay->kernel, ky = kernel_row % ay->kernel;
    const size_t z = (size_t)((at->z - kz * az->dilation) / az->stride); /* negative ones wrap */
    const size_t y = (size_t)((at->y - ky * ay->dilation) / ay->stride);
    const size_t line = ((row / t->oh / t->od * t->d + z) * t->h + y) * t->w;
    return z < t->d && y < t->h ? t->x + line * t->s->c_in * t->s->groups : NULL;
}

/* Pointers of all taps for outputs first, first + stride ... of output row `row`; returns the
 * number of taps. */
static size_t point(const deconv_task *t, size_t row, ptrdiff_t first, size_t count, size_t group,
                    const float **rows)
{
    const axis *ax = &t->s->x;
    const place at = place_of(t, row, first);
    const size_t channels = t->s->c_in * t->s->groups;
    size_t taps = 0;
    for (ptrdiff_t k = 0; k < kernel_rows(t->s); k++) {
        if (!row_in_phase(t->s, &at, k)) continue;
        const float *line = line_of(t, row, &at, k);
        for (ptrdiff_t kx = 0; kx < ax->kernel; kx++) {
            if (!in_phase(ax, at.x, kx)) continue;
            size_t x = (size_t)((at.x - kx * ax->dilation) / ax->stride); /* wraps too */
            const float **slot = rows + taps++ * count;
            for (size_t i = 0; i < count; i++)
                slot[i] = line && x + i < t->w ? line + (x + i) * channels + group * t->s->c_in
                                               : t->s->zero;
        }
    }
    return taps;
}

static void rows_apart(const deconv_task *t, size_t begin, size_t end)
{
    const deconv_state *s = t->s;
    const size_t n = (size_t)s->x.kernel * s->c_out;
    const size_t kh = (size_t)s->y.kernel, kd = (size_t)s->z.kernel;
    for (size_t row = begin; row < end; row++) {
        const size_t plane = row / t->oh, y = row % t->oh, at = row * t->w * n;
        sp_gemm_f32 product = {.m = t->w,
                               .n = n,
                               .k = s->c_in,
                               .taps = 1,
                               .a = t->x + (plane / kd * t->h + y / kh) * t->w * s->c_in,
                               .lda = s->c_in,
                               .b = s->packed[plane % kd * kh + y % kh]->data,
                               .c = t->y + at,
                               .ldc = n,
                               .ldr = n,
                               .residual = t->residual ? t->residual + at : NULL};
        product.epilogue = sp_gemm_epilogue_of(&s->epilogue);
        t->kernels->gemm_f32(&product, 0, t->w, 0, t->kernels->gemm_f32_panels(n));
    }
}

/* Output row `row`, phase by phase. */
static void row_together(const deconv_task *t, size_t row)
{
    const deconv_state *s = t->s;
    const size_t c = s->c_in * s->groups, out = s->c_out * s->groups;
    const float *in[SP_DECONV_MAX_KERNEL];
    size_t strides[SP_DECONV_MAX_KERNEL];
    place at = place_of(t, row, 0);
    int rows = 0;
    for (ptrdiff_t k = 0; k < kernel_rows(s); k++) {
        if (!row_in_phase(s, &at, k)) continue;
        const float *line = line_of(t, row, &at, k);
        in[rows] = line ? line : s->zero;
        strides[rows++] = line ? c : 0;
    }
    for (ptrdiff_t first = 0; first < s->x.stride && first < (ptrdiff_t)t->ow; first++) {
        const ptrdiff_t ox = at.x = first + t->pads.x;
        const phase_taps tx = taps_of(&s->x, ox % s->x.stride);
        const ptrdiff_t column = (ox - tx.first * s->x.dilation) / s->x.stride;
        const size_t begin = (row * t->ow + (size_t)first) * out;
        sp_gconv_f32 d = {.kh = rows,
                          .kw = (int)tx.count,
                          .stride_w = 1,
                          .dilation_w = (int)tx.dilation,
                          .pad_left = (int)((tx.count - 1) * tx.dilation - column),
                          .groups = s->groups,
                          .c_in = s->c_in,
                          .c_out = s->c_out,
                          .in_width = t->w,
                          .out_width = (t->ow - 1 - (size_t)first) / (size_t)s->x.stride + 1,
                          .in = in,
                          .in_stride = strides,
                          .out = t->y + begin,
                          .out_stride = (size_t)s->x.stride * out,
                          .residual = t->residual ? t->residual + begin : NULL};
        d.w = s->packed[phase_index(s, &at)]->data;
        d.epilogue = sp_gemm_epilogue_of(&s->epilogue);
        t->kernels->gconv_f32(&d);
    }
}

/* ---- scattered ---- */

typedef struct scatter {
    float *line, *ring; /* sums of a row; products of input lines, [w][kernel row][column][c_out] */
    size_t line_floats, ring_floats;       /* of one */
    size_t held[SP_DECONV_MAX_KERNEL + 1]; /* the input line of each place of the ring, + 1 */
} scatter;

/* What input lines add to output rows, from the line at x on. */
static void multiply(const deconv_task *t, const float *x, size_t pixels, float *to,
                     const sparoa_exec *exec)
{
    const deconv_state *s = t->s;
    const size_t n = (size_t)(kernel_rows(s) * s->x.kernel) * s->c_out;
    const sp_gemm_f32 product = {.m = pixels,
                                 .n = n,
                                 .k = s->c_in,
                                 .taps = 1,
                                 .a = x,
                                 .lda = s->c_in,
                                 .b = s->packed[0]->data,
                                 .c = to,
                                 .ldc = n};
    if (exec)
        sp_gemm_parallel(t->kernels, &product, exec);
    else
        t->kernels->gemm_f32(&product, 0, pixels, 0, t->kernels->gemm_f32_panels(n));
}

size_t sp_deconv_shared_bytes(const deconv_state *s, const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0];
    const size_t pixels = (size_t)sp_dims_product(x, 0, x->rank - 1);
    const size_t n = (size_t)(kernel_rows(s) * s->x.kernel) * s->c_out;
    return s->whole ? (pixels * n * sizeof(float) + 63) / 64 * 64 : 0;
}

void sp_deconv_share(deconv_task *t, const sparoa_exec *exec)
{
    const size_t pixels = t->rows / t->oh * t->h * t->w;
    float *to = exec->workspace;
    if (!t->s->whole || pixels == 0) return;
    multiply(t, t->x, pixels, to, exec);
    t->products = to;
}

static const float *products_of(const deconv_task *t, scatter *c, const float *x)
{
    const size_t line = (size_t)(x - t->x) / (t->w * t->s->c_in);
    if (t->products) return t->products + line * c->ring_floats;
    const size_t at = line % t->h % ring_lines(t->s);
    float *to = c->ring + at * c->ring_floats;
    if (c->held[at] != line + 1) multiply(t, x, t->w, to, NULL);
    c->held[at] = line + 1;
    return to;
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/* `from` has a row of `width` sums for each of `count` windows, which lie `step` apart in `to` and
 * overlap. Parts that do not overlap are added one after the other: a sum that was just stored is
 * not there yet for an unlike load. */
static void add_windows(float *to, size_t step, const float *from, size_t pitch, size_t count,
                        size_t width)
{
    for (size_t first = 0; first < width; first += step) {
        const size_t n = width - first < step ? width - first : step;
        float *restrict sum = to + first;
        const float *restrict in = from + first;
        for (size_t i = 0; i < count; i++, sum += step, in += pitch) {
            size_t j = 0;
            for (; j + 4 <= n; j += 4)
                *(four *)(void *)(sum + j) += *(const four *)(const void *)(in + j);
            if (n & 2) sum[j] += in[j], sum[j + 1] += in[j + 1];
            if (n & 1) sum[n - 1] += in[n - 1];
        }
    }
}

static void row_scattered(const deconv_task *t, size_t row, scatter *c)
{
    const deconv_state *s = t->s;
    const place at = place_of(t, row, 0);
    const size_t width = (size_t)s->x.kernel * s->c_out, floats = t->ow * s->c_out;
    for (size_t i = 0; i < c->line_floats; i += s->c_out)
        memcpy(c->line + i, s->bias, s->c_out * sizeof(float));
    for (ptrdiff_t k = 0; k < kernel_rows(s); k++) {
        if (!row_in_phase(s, &at, k)) continue;
        const float *x = line_of(t, row, &at, k);
        if (!x || t->w == 0) continue;
        add_windows(c->line, (size_t)s->x.stride * s->c_out,
                    products_of(t, c, x) + (size_t)k * width, c->ring_floats / t->w, t->w, width);
    }
    float *sums = c->line + (size_t)t->pads.x * s->c_out, *y = t->y + row * floats;
    const float *residual = t->residual ? t->residual + row * floats : NULL;
    const sp_gemm_epilogue e = sp_gemm_epilogue_of(&s->epilogue);
    if (e.residual == 1) t->kernels->binary_f32(SP_BINARY_ADD, floats, sums, 1, residual, 1, sums);
    t->kernels->act_f32(e.act, e.a, e.b, floats, sums, sums);
    if (e.residual == 2)
        t->kernels->binary_f32(SP_BINARY_ADD, floats, sums, 1, residual, 1, y);
    else
        memcpy(y, sums, floats * sizeof *y);
}

static void rows_scattered(const deconv_task *t, size_t begin, size_t end, void *memory)
{
    const deconv_state *s = t->s;
    scatter c = {.line = memory,
                 .line_floats = line_floats(s, t->w, t->ow, t->pads.x),
                 .ring_floats = t->w * (size_t)(kernel_rows(s) * s->x.kernel) * s->c_out,
                 .held = {0}};
    c.ring = c.line + c.line_floats;
    for (size_t row = begin; row < end; row++) row_scattered(t, row, &c);
}

void sp_deconv_piece(void *arg, int32_t index)
{
    const deconv_task *t = arg;
    const deconv_state *s = t->s;
    const size_t channels = s->c_out * s->groups, i = (size_t)index, pieces = (size_t)t->pieces;
    const size_t begin = t->rows * i / pieces, end = t->rows * (i + 1) / pieces;
    const float **rows = (const float **)(t->workspace + t->piece_bytes * i);
    if (s->apart) {
        rows_apart(t, begin, end);
        return;
    }
    if (s->scattered) {
        rows_scattered(t, begin, end, rows);
        return;
    }
    if (s->together) {
        for (size_t row = begin; row < end; row++) row_together(t, row);
        return;
    }
    for (size_t row = begin; row < end; row++)
        for (ptrdiff_t first = 0; first < s->x.stride && first < (ptrdiff_t)t->ow; first++) {
            size_t count = (t->ow - 1 - (size_t)first) / (size_t)s->x.stride + 1;
            const place in = place_of(t, row, first);
            for (size_t g = 0; g < s->groups; g++) {
                size_t taps = point(t, row, first, count, g, rows);
                size_t at = (row * t->ow + (size_t)first) * channels + g * s->c_out;
                size_t ld = (size_t)s->x.stride * channels;
                sp_gemm_f32 product = {.m = count,
                                       .n = s->c_out,
                                       .k = s->c_in,
                                       .taps = taps,
                                       .rows = rows,
                                       .row_stride = count,
                                       .c = t->y + at,
                                       .ldc = ld,
                                       .ldr = ld,
                                       .residual = t->residual ? t->residual + at : NULL};
                product.b = s->packed[phase_index(s, &in) * s->groups + g]->data;
                product.epilogue = sp_gemm_epilogue_of(&s->epilogue);
                t->kernels->gemm_f32(&product, 0, count, 0, t->kernels->gemm_f32_panels(s->c_out));
            }
        }
}
