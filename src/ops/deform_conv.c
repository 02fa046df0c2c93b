/* DeformConv: a convolution whose taps are moved by offsets and weighted by a mask, read
 * bilinearly. */
#include "ops/image.h"

#define CHANNELS 64 /* output channels that share one sampled tap */

typedef struct deform_args {
    const sparoa_node *node;
    const sparoa_tensor *bias, *mask; /* or NULL */
    sp_conv c;
    int64_t offset_group, c_in, c_out; /* channels per group */
} deform_args;

static sparoa_status check_aux(const sparoa_node *node, int32_t i, int64_t channels,
                               const sp_conv *c, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    const int64_t want[4] = {c->batch, channels, c->w.out[0], c->w.out[1]};
    if (!t) return SPAROA_OK;
    SP_TRY(sp_check_same_type(node, 0, i, err));
    if (t->rank < 0) return SPAROA_OK;
    for (int32_t k = 0; k < 4; k++)
        if (t->rank != 4 || (t->dims[k] >= 0 && want[k] >= 0 && t->dims[k] != want[k]))
            return sparoa_fail(
                err, SPAROA_SHAPE_MISMATCH, node,
                "input %d has rank %d and dimension %d is %lld, expected rank 4 and %lld", i,
                t->rank, k, (long long)(k < t->rank ? t->dims[k] : 0), (long long)want[k]);
    return SPAROA_OK;
}

static sparoa_status read_shape(const sparoa_node *node, deform_args *a, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *w = node->in[1];
    if (x->rank != 4)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node,
                           "input 0 has rank %d; only images of rank 4 are supported", x->rank);
    SP_TRY(sp_conv_shape(node, x, w, false, &a->c, err));
    const int64_t *k = a->c.w.kernel;
    int64_t taps = k[0] < 0 || k[1] < 0 ? -1 : k[0] * k[1], channels = -1;
    a->node = node;
    a->bias = sparoa_in(node, 3);
    a->mask = sparoa_in(node, 4);
    a->offset_group = sparoa_attr_int(node, "offset_group", 1);
    if (a->offset_group < 1 || a->offset_group > INT32_MAX ||
        (a->c.c_in >= 0 && a->c.c_in % a->offset_group != 0))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "offset_group=%lld does not divide C=%lld", (long long)a->offset_group,
                           (long long)a->c.c_in);
    if (taps > 0 &&
        (__builtin_mul_overflow(taps, a->offset_group, &channels) || channels > INT64_MAX / 4))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "too many taps");
    SP_TRY(check_aux(node, 2, channels < 0 ? -1 : channels * 2, &a->c, err));
    SP_TRY(check_aux(node, 4, channels, &a->c, err));
    a->c_in = a->c.c_in / a->c.group;
    a->c_out = a->c.c_out / a->c.group;
    return SPAROA_OK;
}

static sparoa_status deform_infer(const sparoa_node *node, sparoa_error *err)
{
    sparoa_tensor *out = node->out[0];
    deform_args a;
    for (int32_t i = 0; i < 3; i++) SP_TRY(sp_check_type(node, i, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    out->dtype = node->in[0]->dtype;
    out->rank = -1;
    if (node->in[0]->rank < 0 || node->in[1]->rank < 0) return SPAROA_OK;
    SP_TRY(read_shape(node, &a, err));
    if (a.bias) {
        SP_TRY(sp_check_same_type(node, 0, 3, err));
        if (sp_known(a.bias) &&
            (a.bias->rank != 1 || (a.c.c_out >= 0 && a.bias->dims[0] != a.c.c_out)))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "the bias must have one element per output channel");
    }
    return sp_conv_infer(node, node->in[0], node->in[1], false, out, err);
}

#define DEFORM_TYPE(T)                                                                             \
    static double pixel_##T(const T *x, const int64_t *size, int64_t h, int64_t w)                 \
    {                                                                                              \
        return h < 0 || h >= size[0] || w < 0 || w >= size[1] ? 0 : x[h * size[1] + w];            \
    }                                                                                              \
                                                                                                   \
    /* Bilinear, with zeros outside of the image; a position that is no number reads zero. */      \
    static double sample_##T(const T *x, const int64_t *size, double h, double w)                  \
    {                                                                                              \
        if (!(h > -1 && w > -1 && h < (double)size[0] && w < (double)size[1])) return 0;           \
        int64_t h0 = (int64_t)floor(h), w0 = (int64_t)floor(w);                                    \
        double fh = h - (double)h0, fw = w - (double)w0;                                           \
        return (1 - fh) *                                                                          \
                   ((1 - fw) * pixel_##T(x, size, h0, w0) + fw * pixel_##T(x, size, h0, w0 + 1)) + \
               fh * ((1 - fw) * pixel_##T(x, size, h0 + 1, w0) +                                   \
                     fw * pixel_##T(x, size, h0 + 1, w0 + 1));                                     \
    }                                                                                              \
                                                                                                   \
    /* The tap's value in channel c of image n at output (oh, ow). */                              \
    static double tap_##T(const deform_args *a, int64_t n, int64_t c, int64_t k, int64_t oh,       \
                          int64_t ow)                                                              \
    {                                                                                              \
        const sp_window *w = &a->c.w;                                                              \
        int64_t taps = w->kernel[0] * w->kernel[1], plane = w->out[0] * w->out[1];                 \
        int64_t group = c / (a->c.c_in / a->offset_group), at = oh * w->out[1] + ow;               \
        int64_t index = (n * a->offset_group + group) * taps + k;                                  \
        const T *offset = (const T *)a->node->in[2]->data + index * 2 * plane + at;                \
        const T *x = (const T *)a->node->in[0]->data + (n * a->c.c_in + c) * w->in[0] * w->in[1];  \
        int64_t h = oh * w->stride[0] - w->pad_begin[0] + k / w->kernel[1] * w->dilation[0];       \
        int64_t v = ow * w->stride[1] - w->pad_begin[1] + k % w->kernel[1] * w->dilation[1];       \
        double value = sample_##T(x, w->in, (double)h + offset[0], (double)v + offset[plane]);     \
        return a->mask ? value * ((const T *)a->mask->data)[index * plane + at] : value;           \
    }                                                                                              \
                                                                                                   \
    static void outputs_##T(const deform_args *a, int64_t n, int64_t g, int64_t oc, int64_t oh,    \
                            int64_t ow)                                                            \
    {                                                                                              \
        const sp_window *w = &a->c.w;                                                              \
        double acc[CHANNELS] = {0};                                                                \
        int64_t channels = a->c_out - oc < CHANNELS ? a->c_out - oc : CHANNELS;                    \
        int64_t taps = w->kernel[0] * w->kernel[1], first = g * a->c_out + oc;                     \
        for (int64_t ic = 0; ic < a->c_in; ic++)                                                   \
            for (int64_t k = 0; k < taps; k++) {                                                   \
                double v = tap_##T(a, n, g * a->c_in + ic, k, oh, ow);                             \
                const T *weight =                                                                  \
                    (const T *)a->node->in[1]->data + (first * a->c_in + ic) * taps + k;           \
                for (int64_t i = 0; i < channels; i++) acc[i] += v * weight[i * a->c_in * taps];   \
            }                                                                                      \
        T *y = (T *)a->node->out[0]->data +                                                        \
               ((n * a->c.c_out + first) * w->out[0] + oh) * w->out[1] + ow;                       \
        for (int64_t i = 0; i < channels; i++)                                                     \
            y[i * w->out[0] * w->out[1]] =                                                         \
                (T)(acc[i] + (a->bias ? ((const T *)a->bias->data)[first + i] : 0));               \
    }                                                                                              \
                                                                                                   \
    static void piece_##T(void *arg, int64_t begin, int64_t end)                                   \
    {                                                                                              \
        const deform_args *a = arg;                                                                \
        const int64_t *out = a->c.w.out;                                                           \
        for (int64_t t = begin; t < end; t++)                                                      \
            for (int64_t g = 0; g < a->c.group; g++)                                               \
                for (int64_t oc = 0; oc < a->c_out; oc += CHANNELS)                                \
                    outputs_##T(a, t / out[0] / out[1], g, oc, t / out[1] % out[0], t % out[1]);   \
    }
DEFORM_TYPE(float)
DEFORM_TYPE(double)

static sparoa_status deform_run(const sparoa_node *node, const sparoa_exec *exec)
{
    deform_args a;
    SP_TRY(read_shape(node, &a, exec->err));
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    sp_parallel_for(exec, a.c.batch * a.c.w.out[0] * a.c.w.out[1], 4,
                    node->in[0]->dtype == SPAROA_FLOAT64 ? piece_double : piece_float, &a);
    return SPAROA_OK;
}

static void deform_cost(const sparoa_node *node, sparoa_cost *cost)
{
    const sparoa_tensor *w = node->in[1];
    if (w->rank < 3 || w->dims[0] <= 0) return;
    cost->flops = 2.0 * (double)sp_count(node->out[0]) * (double)sp_count(w) / (double)w->dims[0];
}

/* ONNX DeformConv, versions 19 and 22. */
SP_OP(DeformConv) = {
    SP_OP_HEAD("DeformConv", 19, 0),
    .min_in = 3,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_CONV,
    .tolerance = SPAROA_TOL_SUM,
    .infer = deform_infer,
    .cost = deform_cost,
    .run = deform_run,
};
