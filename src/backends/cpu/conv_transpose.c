/*
 * ConvTranspose on float32 images with the channel last, 1-D to 3-D, constant weights. Output
 * pixels of one phase, (position + padding) modulo stride, all see the same kernel elements, so
 * each phase is an ordinary convolution with stride 1: products whose rows of A are pointers to
 * input pixels, written straight to every stride-th pixel; of groups of few channels each phase is
 * a row of the grouped kernel. Where windows do not overlap, all outputs of an input pixel in one
 * row lie side by side: one product for each kernel row.
 */
#include "backends/cpu/gemm_run.h"
#include "ops/check.h"
#include "ops/conv_shape.h"

#define MAX_KERNEL 64
#define MAX_STRIDE 8
#define MAX_GROUPS 64 /* that are not taken several at a time */

/* One spatial dimension. */
typedef struct axis {
    ptrdiff_t kernel, stride, dilation;
} axis;

/* A phase, or a position that is in one; padding before the first pixel, which may depend on the
 * size of the image. */
typedef struct place {
    ptrdiff_t z, y, x;
} place;

typedef struct deconv_state {
    sp_epilogue epilogue;
    bool has_bias;
    size_t groups, c_in, c_out; /* channels of one group */
    axis z, y, x;
    bool apart;             /* windows neither overlap nor leave gaps, and there is no padding */
    bool together;          /* groups of few channels: sp_gconv_f32 */
    sp_cpu_packed **packed; /* [phase z][phase y][phase x][group]; apart: [kernel row of all
                               planes]; together: no group */
    size_t packed_count;
    float *zero; /* a pixel outside the image */
} deconv_state;

static int64_t attr_at(const sparoa_node *node, const char *name, int32_t i, int64_t fallback)
{
    size_t n;
    const int64_t *v = sparoa_attr_ints(node, name, &n);
    return v && (size_t)i < n ? v[i] : fallback;
}

static bool all_zero(const sparoa_node *node, const char *name)
{
    size_t n;
    const int64_t *v = sparoa_attr_ints(node, name, &n);
    for (size_t i = 0; v && i < n; i++)
        if (v[i] != 0) return false;
    return true;
}

/* Spatial dimension i of so many. */
static const axis *axis_of(const deconv_state *s, int32_t i, int32_t spatial)
{
    return i == spatial - 1 ? &s->x : i == spatial - 2 ? &s->y : &s->z;
}

/* An output_shape, if any, is what the size of the image, known beforehand, gives without it. */
static bool natural_shape(const sparoa_node *node, const deconv_state *s)
{
    size_t n;
    const sparoa_tensor *x = node->in[0];
    const int64_t *shape = sparoa_attr_ints(node, "output_shape", &n);
    if (!shape || n == 0) return true;
    if (x->rank < 3 || n < (size_t)x->rank - 2) return false;
    shape += n - (size_t)(x->rank - 2);
    for (int32_t i = 0; i < x->rank - 2; i++) {
        const axis *a = axis_of(s, i, x->rank - 2);
        if (x->dims[i + 1] < 0 || shape[i] != x->dims[i + 1] * a->stride) return false;
    }
    return true;
}

/* auto_pad then adds nothing. */
static bool windows_apart(const sparoa_node *node, const deconv_state *s)
{
    const int32_t spatial = node->in[1]->rank - 2;
    bool apart = s->groups == 1 && all_zero(node, "pads") && all_zero(node, "output_padding");
    for (int32_t i = 0; i < spatial; i++) {
        const axis *a = axis_of(s, i, spatial);
        apart = apart && a->kernel == a->stride && a->dilation == 1;
    }
    return apart && natural_shape(node, s);
}

static bool read_attributes(const sp_cpu_host *host, const sparoa_node *node, deconv_state *s)
{
    const sparoa_tensor *w = node->in[1];
    const int32_t spatial = w->rank - 2;
    *s = (deconv_state){.epilogue = sp_epilogue_of(node), .z = {1, 1, 1}, .y = {1, 1, 1}};
    s->has_bias = s->epilogue.residual_input != 2 && sparoa_in(node, 2);
    int64_t group = sparoa_attr_int(node, "group", 1);
    if (group < 1 || w->dims[0] % group != 0) return false;
    s->groups = (size_t)group;
    s->c_in = (size_t)(w->dims[0] / group);
    s->c_out = (size_t)w->dims[1];
    for (int32_t i = 0; i < spatial; i++) {
        axis *a = i == spatial - 1 ? &s->x : i == spatial - 2 ? &s->y : &s->z;
        int64_t stride = attr_at(node, "strides", i, 1),
                dilation = attr_at(node, "dilations", i, 1);
        int64_t kernel = w->dims[i + 2];
        if (kernel < 1 || kernel > MAX_KERNEL || stride < 1 || stride > MAX_STRIDE) return false;
        if (dilation < 1 || dilation > INT32_MAX) return false;
        *a = (axis){(ptrdiff_t)kernel, (ptrdiff_t)stride, (ptrdiff_t)dilation};
    }
    s->apart = windows_apart(node, s);
    if (s->z.kernel * s->y.kernel > MAX_KERNEL) return false;
    s->together = group > 1 && host->kernels->gconv_f32_takes(s->c_in, s->c_out);
    return s->together || group <= MAX_GROUPS;
}

static const char *deconv_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    deconv_state s;
    if (!sp_is_nhwc(node) || node->n_in < 2 || !node->in[0] || !sp_cpu_all_float32(node))
        return NULL;
    const sparoa_tensor *x = node->in[0], *w = node->in[1];
    if (!sp_cpu_is_constant(node, 1) || w->rank < 3 || w->rank > 5) return NULL;
    if (x->rank >= 0 && x->rank != w->rank) return NULL;
    if (!read_attributes(host, node, &s)) return NULL;
    if (s.has_bias &&
        (!sp_cpu_is_constant(node, 2) || sp_count(node->in[2]) != (int64_t)(s.c_out * s.groups)))
        return NULL;
    return s.together ? host->kernels->gconv_name : host->kernels->conv_name;
}

/* Kernel element k contributes to outputs of this phase. */
static bool in_phase(const axis *a, ptrdiff_t phase, ptrdiff_t k)
{
    return (phase - k * a->dilation) % a->stride == 0;
}

/* Kernel rows of all planes. */
static ptrdiff_t kernel_rows(const deconv_state *s)
{
    return s->z.kernel * s->y.kernel;
}

static bool row_in_phase(const deconv_state *s, const place *at, ptrdiff_t row)
{
    return in_phase(&s->z, at->z, row / s->y.kernel) && in_phase(&s->y, at->y, row % s->y.kernel);
}

static size_t phase_count(const deconv_state *s)
{
    return (size_t)(s->z.stride * s->y.stride * s->x.stride);
}

static size_t phase_index(const deconv_state *s, const place *at)
{
    const ptrdiff_t y = at->z % s->z.stride * s->y.stride + at->y % s->y.stride;
    return (size_t)(y * s->x.stride + at->x % s->x.stride);
}

static place phase_at(const deconv_state *s, size_t index)
{
    const ptrdiff_t x = (ptrdiff_t)index, y = x / s->x.stride;
    return (place){y / s->y.stride, y % s->y.stride, x % s->x.stride};
}

static void deconv_destroy(void *state, const sp_cpu_host *host)
{
    deconv_state *s = state;
    if (!s) return;
    for (size_t i = 0; s->packed && i < s->packed_count; i++) sp_cpu_pack_release(s->packed[i]);
    sp_cpu_free(host, s->packed, s->packed_count * sizeof(sp_cpu_packed *));
    sp_cpu_free(host, s->zero, s->c_in * sizeof(float));
    sp_cpu_free(host, s, sizeof *s);
}

/* The weights of one phase and group as [tap][c_in][c_out] in `b`, then packed. */
static sp_cpu_packed *pack_phase(const deconv_state *s, const sp_cpu_host *host,
                                 const sparoa_node *node, size_t index, float *b)
{
    const size_t group = index % s->groups, k = s->c_in, n = s->c_out;
    const place at = phase_at(s, index / s->groups);
    const size_t elements = (size_t)(kernel_rows(s) * s->x.kernel);
    const float *w = (const float *)node->in[1]->data + group * k * n * elements;
    size_t taps = 0;
    for (ptrdiff_t row = 0; row < kernel_rows(s); row++)
        for (ptrdiff_t kx = 0; kx < s->x.kernel; kx++) {
            if (!row_in_phase(s, &at, row) || !in_phase(&s->x, at.x, kx)) continue;
            float *dst = b + taps++ * k * n;
            for (size_t i = 0; i < k * n; i++)
                dst[i] = w[i * elements + (size_t)(row * s->x.kernel + kx)];
        }
    sp_gemm_f32_source source = {.n = n,
                                 .k = k,
                                 .taps = taps,
                                 .b = b,
                                 .tap_stride = k * n,
                                 .k_stride = n,
                                 .n_stride = 1,
                                 .scale = 1};
    if (s->has_bias) source.bias = (const float *)node->in[2]->data + group * n;
    return sp_gemm_pack_shared(host, &source, 1, taps * k * n);
}

/* The weights of one kernel row as [c_in][kernel column][c_out] in `b`, the bias for each column
 * behind them, then packed. */
static sp_cpu_packed *pack_row(const deconv_state *s, const sp_cpu_host *host,
                               const sparoa_node *node, size_t ky, float *b)
{
    const size_t k = s->c_in, m = s->c_out, kw = (size_t)s->x.kernel;
    const size_t elements = (size_t)kernel_rows(s) * kw, n = kw * m;
    const float *w = (const float *)node->in[1]->data + ky * kw;
    for (size_t i = 0; i < k * m; i++)
        for (size_t kx = 0; kx < kw; kx++) b[(i / m * kw + kx) * m + i % m] = w[i * elements + kx];
    sp_gemm_f32_source source = {
        .n = n, .k = k, .taps = 1, .b = b, .tap_stride = k * n, .k_stride = n, .n_stride = 1};
    source.scale = 1;
    if (s->has_bias) {
        for (size_t i = 0; i < n; i++) b[k * n + i] = ((const float *)node->in[2]->data)[i % m];
        source.bias = b + k * n;
    }
    return sp_gemm_pack_shared(host, &source, 1, k * n);
}

/* Kernel elements of a phase: first, first + step ..., count of them, which read pixels `dilation`
 * apart, the later elements the earlier pixels. */
typedef struct phase_taps {
    ptrdiff_t first, step, count, dilation;
} phase_taps;

static phase_taps taps_of(const axis *a, ptrdiff_t phase)
{
    ptrdiff_t k = 0, step = 1;
    while (k < a->kernel && !in_phase(a, phase, k)) k++;
    while (step * a->dilation % a->stride != 0) step++;
    ptrdiff_t count = k < a->kernel ? (a->kernel - 1 - k) / step + 1 : 0;
    return (phase_taps){k, step, count, step * a->dilation / a->stride};
}

/* The weights of all groups in one phase as [group][c_out][c_in][taps] in `b`, columns from the
 * last tap to the first, then packed. */
static sp_cpu_packed *pack_together(const deconv_state *s, const sp_cpu_host *host,
                                    const sparoa_node *node, size_t index, float *b)
{
    const place at = phase_at(s, index);
    const phase_taps tx = taps_of(&s->x, at.x);
    const ptrdiff_t rows = kernel_rows(s);
    const float *w = node->in[1]->data;
    float *to = b;
    for (size_t g = 0; g < s->groups; g++)
        for (size_t m = 0; m < s->c_out; m++)
            for (size_t i = 0; i < s->c_in; i++)
                for (ptrdiff_t row = 0; row < rows; row++) {
                    if (!row_in_phase(s, &at, row)) continue;
                    size_t element = ((g * s->c_in + i) * s->c_out + m) * (size_t)rows;
                    const float *from = w + (element + (size_t)row) * (size_t)s->x.kernel;
                    for (ptrdiff_t kx = tx.count - 1; kx >= 0; kx--)
                        *to++ = from[tx.first + kx * tx.step];
                }
    const sp_gconv_f32_source source = {.groups = s->groups,
                                        .c_in = s->c_in,
                                        .c_out = s->c_out,
                                        .taps = (size_t)(to - b) / (s->groups * s->c_out * s->c_in),
                                        .w = b,
                                        .bias = s->has_bias ? node->in[2]->data : NULL};
    return sp_gconv_pack_shared(host, &source);
}

static sp_cpu_packed *pack_part(const deconv_state *s, const sp_cpu_host *host,
                                const sparoa_node *node, size_t index, float *b)
{
    if (s->together) return pack_together(s, host, node, index, b);
    return s->apart ? pack_row(s, host, node, index, b) : pack_phase(s, host, node, index, b);
}

static sparoa_status deconv_create(const sparoa_node *node, const sp_cpu_host *host, void **state,
                                   sparoa_error *err)
{
    deconv_state *s = sp_cpu_alloc(host, sizeof *s);
    if (!s) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    read_attributes(host, node, s);
    size_t bytes = sparoa_tensor_bytes(node->in[1]) / (s->together ? 1 : s->groups);
    if (s->apart) bytes += (size_t)s->x.kernel * s->c_out * sizeof(float);
    float *scratch = sp_cpu_alloc(host, bytes);
    s->packed_count = s->apart ? (size_t)kernel_rows(s) : phase_count(s);
    if (!s->together) s->packed_count *= s->groups;
    s->packed = sp_cpu_alloc(host, s->packed_count * sizeof *s->packed);
    s->zero = sp_cpu_alloc(host, s->c_in * sizeof(float));
    bool ok = scratch && s->packed && s->zero;
    for (size_t i = 0; ok && i < s->packed_count; i++) {
        s->packed[i] = pack_part(s, host, node, i, scratch);
        ok = s->packed[i] != NULL;
    }
    sp_cpu_free(host, scratch, bytes);
    if (!ok) {
        deconv_destroy(s, host);
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to pack the weights");
    }
    *state = s;
    return SPAROA_OK;
}

static size_t deconv_bytes(const void *state)
{
    const deconv_state *s = state;
    size_t bytes = s->c_in * sizeof(float);
    for (size_t i = 0; i < s->packed_count; i++) bytes += s->packed[i]->bytes;
    return bytes;
}

static bool deconv_keeps_input(const void *state, int32_t input)
{
    const deconv_state *s = state;
    return input != 1 && !(input == 2 && s->has_bias);
}

/* Bytes of one piece: pointers [taps][outputs of a phase in a row]. */
static size_t piece_bytes(const deconv_state *s, const sparoa_node *node)
{
    const sparoa_tensor *y = node->out[0];
    size_t across = (size_t)(y->dims[y->rank - 2] / s->x.stride + 1);
    return (across * (size_t)(kernel_rows(s) * s->x.kernel) * sizeof(float *) + 63) / 64 * 64;
}

static int32_t pieces_of(const sparoa_node *node, int32_t threads)
{
    const sparoa_tensor *y = node->out[0];
    int64_t rows = sp_dims_product(y, 0, y->rank - 2);
    return rows < threads ? (int32_t)rows : threads;
}

static sparoa_status deconv_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                    void **prepared, size_t *workspace, sparoa_error *err)
{
    sp_conv c;
    SP_TRY(sp_conv_transpose_shape(node, &c, err));
    const int32_t n = c.w.spatial;
    const place pads = {.z = n > 2 ? (ptrdiff_t)c.w.pad_begin[n - 3] : 0,
                        .y = n > 1 ? (ptrdiff_t)c.w.pad_begin[n - 2] : 0,
                        .x = (ptrdiff_t)c.w.pad_begin[n - 1]};
    *workspace = piece_bytes(state, node) * (size_t)pieces_of(node, host->threads);
    return sp_cpu_keep_plan(host, node, &pads, sizeof pads, prepared, err);
}

static void deconv_prepared_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    sp_cpu_free(host, prepared, sizeof(place));
}

typedef struct deconv_task {
    const deconv_state *s;
    place pads;
    const sp_kernels *kernels;
    const float *x, *residual;
    float *y;
    size_t rows, d, h, w, od, oh, ow; /* rows: of all images and planes of the output */
    char *workspace;
    size_t piece_bytes;
    int32_t pieces;
} deconv_task;

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
    const float *in[MAX_KERNEL];
    size_t strides[MAX_KERNEL];
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

static void deconv_piece(void *arg, int32_t index)
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

static sparoa_status deconv_run(void *state, void *prepared, const sp_cpu_host *host,
                                const sparoa_node *node, const sparoa_exec *exec)
{
    const deconv_state *s = state;
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    if (sp_count(y) == 0) return SPAROA_OK;
    deconv_task t = {.s = s,
                     .pads = *(const place *)prepared,
                     .kernels = host->kernels,
                     .x = x->data,
                     .y = y->data,
                     .d = 1,
                     .h = 1,
                     .od = 1,
                     .oh = 1,
                     .workspace = exec->workspace,
                     .piece_bytes = piece_bytes(s, node)};
    if (y->rank > 4) t.d = (size_t)x->dims[1], t.od = (size_t)y->dims[1];
    if (y->rank > 3) t.h = (size_t)x->dims[x->rank - 3], t.oh = (size_t)y->dims[y->rank - 3];
    t.w = (size_t)x->dims[x->rank - 2], t.ow = (size_t)y->dims[y->rank - 2];
    t.rows = (size_t)sp_dims_product(y, 0, y->rank - 2);
    if (s->epilogue.residual) t.residual = node->in[s->epilogue.residual_input]->data;
    t.pieces = pieces_of(node, host->threads);
    if (t.pieces > 1)
        exec->parallel(exec, t.pieces, deconv_piece, &t);
    else
        deconv_piece(&t, 0);
    return SPAROA_OK;
}

/* ONNX ConvTranspose, all versions, with the epilogue and layout of epilogue.h. */
SP_CPU_KERNEL(ConvTranspose) = {
    .op = "ConvTranspose",
    .domain = "",
    .supports = deconv_supports,
    .create = deconv_create,
    .bytes = deconv_bytes,
    .keeps_input = deconv_keeps_input,
    .prepare = deconv_prepare,
    .run = deconv_run,
    .prepared_destroy = deconv_prepared_destroy,
    .destroy = deconv_destroy,
};
