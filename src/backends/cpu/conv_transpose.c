/*
 * ConvTranspose on float32 images with the channel last, 1-D to 3-D, constant weights. Output
 * pixels of one phase, (position + padding) modulo stride, all see the same kernel elements, so
 * each phase is an ordinary convolution with stride 1: products whose rows of A are pointers to
 * input pixels, written straight to every stride-th pixel; of groups of few channels each phase is
 * a row of the grouped kernel. Where windows do not overlap, all outputs of an input pixel in one
 * row lie side by side: one product for each kernel row. Where outputs have few channels, one
 * product makes what an input line adds to the output rows around it.
 */
#include "backends/cpu/conv_transpose.h"
#include "ops/check.h"
#include "ops/conv_shape.h"

#define MAX_STRIDE 8
#define FEW_PIXELS 256
#define MUCH_WEIGHT ((size_t)1 << 20) /* bytes */
#define MAX_GROUPS 64                 /* that are not taken several at a time */

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

/* So few that a product for each phase and row would read large weights from afar for each. */
static bool has_few_pixels(const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0];
    int64_t pixels = 1;
    for (int32_t i = 0; i + 1 < x->rank; i++) {
        if (x->dims[i] < 1 || x->dims[i] > FEW_PIXELS) return false;
        pixels *= x->dims[i];
    }
    return x->rank >= 3 && pixels <= FEW_PIXELS && sparoa_tensor_bytes(node->in[1]) >= MUCH_WEIGHT;
}

static bool read_attributes(const sp_cpu_host *host, const sparoa_node *node, deconv_state *s)
{
    const sparoa_tensor *w = node->in[1];
    const int32_t spatial = w->rank - 2;
    *s = (deconv_state){.epilogue = sp_epilogue_of(node), .z = {1, 1, 1}, .y = {1, 1, 1}};
    s->has_bias = s->epilogue.residual_input != 2 && sparoa_in(node, 2);
    int64_t group = sparoa_attr_int(node, "group", 1);
    if (group < 1 || w->dims[0] % group != 0 || w->dims[0] < 1 || w->dims[1] < 1) return false;
    s->groups = (size_t)group;
    s->c_in = (size_t)(w->dims[0] / group);
    s->c_out = (size_t)w->dims[1];
    for (int32_t i = 0; i < spatial; i++) {
        axis *a = i == spatial - 1 ? &s->x : i == spatial - 2 ? &s->y : &s->z;
        int64_t stride = attr_at(node, "strides", i, 1),
                dilation = attr_at(node, "dilations", i, 1);
        int64_t kernel = w->dims[i + 2];
        if (kernel < 1 || kernel > SP_DECONV_MAX_KERNEL || stride < 1 || stride > MAX_STRIDE)
            return false;
        if (dilation < 1 || dilation > INT32_MAX) return false;
        *a = (axis){(ptrdiff_t)kernel, (ptrdiff_t)stride, (ptrdiff_t)dilation};
    }
    s->apart = windows_apart(node, s);
    if (s->z.kernel * s->y.kernel > SP_DECONV_MAX_KERNEL) return false;
    const bool can = !s->apart && group == 1 && spatial < 3 && s->x.stride > 1;
    s->whole = can && s->x.dilation == 1 && has_few_pixels(node);
    s->scattered =
        s->whole || (can && s->x.dilation == 1 && s->c_out <= (size_t)host->kernels->vector / 2);
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
    sp_cpu_free(host, s->bias, s->c_out * sizeof(float));
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

/* The weights of kernel elements first..first+count-1 as [c_in][element][c_out] in `b`, the bias
 * for each column behind them if wanted, then packed. */
static sp_cpu_packed *pack_elements(const deconv_state *s, const sp_cpu_host *host,
                                    const sparoa_node *node, size_t first, size_t count, bool bias,
                                    float *b)
{
    const size_t k = s->c_in, m = s->c_out, n = count * m;
    const size_t elements = (size_t)(kernel_rows(s) * s->x.kernel);
    const float *w = (const float *)node->in[1]->data + first;
    for (size_t i = 0; i < k * m; i++)
        for (size_t e = 0; e < count; e++) b[(i / m * count + e) * m + i % m] = w[i * elements + e];
    sp_gemm_f32_source source = {
        .n = n, .k = k, .taps = 1, .b = b, .tap_stride = k * n, .k_stride = n, .n_stride = 1};
    source.scale = 1;
    if (bias) {
        for (size_t i = 0; i < n; i++) b[k * n + i] = ((const float *)node->in[2]->data)[i % m];
        source.bias = b + k * n;
    }
    return sp_gemm_pack_shared(host, &source, 1, k * n);
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
    const size_t kw = (size_t)s->x.kernel;
    if (s->apart) return pack_elements(s, host, node, index * kw, kw, s->has_bias, b);
    if (s->scattered) return pack_elements(s, host, node, 0, (size_t)kernel_rows(s) * kw, false, b);
    return pack_phase(s, host, node, index, b);
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
    s->packed_count = s->scattered ? 1 : s->apart ? (size_t)kernel_rows(s) : phase_count(s);
    if (!s->together) s->packed_count *= s->groups;
    s->packed = sp_cpu_alloc(host, s->packed_count * sizeof *s->packed);
    s->zero = sp_cpu_alloc(host, s->c_in * sizeof(float));
    s->bias = sp_cpu_alloc(host, s->c_out * sizeof(float));
    bool ok = scratch && s->packed && s->zero && s->bias;
    if (ok && s->scattered && s->has_bias)
        memcpy(s->bias, node->in[2]->data, s->c_out * sizeof(float));
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
    *workspace = sp_deconv_shared_bytes(state, node) +
                 sp_deconv_piece_bytes(state, node, &pads) * (size_t)pieces_of(node, host->threads);
    return sp_cpu_keep_plan(host, node, &pads, sizeof pads, prepared, err);
}

static void deconv_prepared_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    sp_cpu_free(host, prepared, sizeof(place));
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
                     .workspace = (char *)exec->workspace + sp_deconv_shared_bytes(s, node),
                     .piece_bytes = sp_deconv_piece_bytes(s, node, prepared)};
    if (y->rank > 4) t.d = (size_t)x->dims[1], t.od = (size_t)y->dims[1];
    if (y->rank > 3) t.h = (size_t)x->dims[x->rank - 3], t.oh = (size_t)y->dims[y->rank - 3];
    t.w = (size_t)x->dims[x->rank - 2], t.ow = (size_t)y->dims[y->rank - 2];
    t.rows = (size_t)sp_dims_product(y, 0, y->rank - 2);
    if (s->epilogue.residual) t.residual = node->in[s->epilogue.residual_input]->data;
    t.pieces = pieces_of(node, host->threads);
    sp_deconv_share(&t, exec);
    if (t.pieces > 1)
        exec->parallel(exec, t.pieces, sp_deconv_piece, &t);
    else
        sp_deconv_piece(&t, 0);
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
