/* Conv and com.microsoft FusedConv, directly by definition: rows of outputs of a few channels at a
 * time, summed in double. */
#include "ops/epilogue.h"
#include "ops/image.h"

#define BLOCK 128  /* outputs of a row at a time */
#define CHANNELS 4 /* output channels at a time */

typedef struct conv_args {
    const sparoa_node *node;
    sp_image x, y;
    sp_window w;
    int64_t group, c_in, c_out; /* channels per group */
    int64_t channel_blocks, row_blocks;
    const sparoa_tensor *bias; /* or NULL */
} conv_args;

/* The bias is input 2 unless a residual is there. */
static const sparoa_tensor *bias_of(const sparoa_node *node)
{
    return sp_epilogue_of(node).residual_input == 2 ? NULL : sparoa_in(node, 2);
}

static sparoa_status conv_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *w = sparoa_in(node, 1), *bias = bias_of(node);
    sparoa_tensor *out = node->out[0];
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    SP_TRY(sp_image_check_rank(node, x->rank, err));
    SP_TRY(sp_conv_infer(node, x, w, sp_is_nhwc(node), out, err));
    out->dtype = x->dtype;
    if (bias) {
        SP_TRY(sp_check_same_type(node, 0, 2, err));
        if (sp_known(bias) &&
            (bias->rank != 1 || (w->rank > 0 && w->dims[0] >= 0 && bias->dims[0] != w->dims[0])))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "the bias must have one element per output channel");
    }
    return sp_epilogue_check(node, err);
}

/* One row of outputs w0..w1-1 for `channels` channels from `oc` (within the group) on. */
#define CONV_TYPE(T)                                                                               \
    static void taps_##T(double acc[CHANNELS][BLOCK], const double weight[CHANNELS], const T *x,   \
                         int64_t step, int64_t first, int64_t end)                                 \
    {                                                                                              \
        if (step == 1)                                                                             \
            for (int64_t j = first; j < end; j++) {                                                \
                double v = x[j - first];                                                           \
                for (int i = 0; i < CHANNELS; i++) acc[i][j] += weight[i] * v;                     \
            }                                                                                      \
        else                                                                                       \
            for (int64_t j = first; j < end; j++) {                                                \
                double v = x[(j - first) * step];                                                  \
                for (int i = 0; i < CHANNELS; i++) acc[i][j] += weight[i] * v;                     \
            }                                                                                      \
    }                                                                                              \
                                                                                                   \
    static void single_##T(double acc[BLOCK], double weight, const T *x, int64_t step,             \
                           int64_t first, int64_t end)                                             \
    {                                                                                              \
        for (int64_t j = first; j < end; j++) acc[j] += weight * x[(j - first) * step];            \
    }                                                                                              \
                                                                                                   \
    static void plane_##T(const conv_args *a, const T *x, const T *weight, int64_t channels,       \
                          int64_t w0, int64_t w1, double acc[CHANNELS][BLOCK])                     \
    {                                                                                              \
        const sp_window *w = &a->w;                                                                \
        int64_t volume = w->kernel[0] * w->kernel[1] * w->kernel[2];                               \
        for (int64_t k = 0; k < w->kernel[2]; k++) {                                               \
            int64_t shift = k * w->dilation[2] - w->pad_begin[2], s = w->stride[2];                \
            int64_t first = shift < 0 ? (-shift + s - 1) / s : 0;                                  \
            int64_t end = shift >= w->in[2] ? 0 : (w->in[2] - 1 - shift) / s + 1;                  \
            double wt[CHANNELS] = {0};                                                             \
            if (first < w0) first = w0;                                                            \
            if (end > w1) end = w1;                                                                \
            if (first >= end) continue;                                                            \
            for (int64_t i = 0; i < channels; i++) wt[i] = weight[i * a->c_in * volume + k];       \
            const T *at = x + (first * s + shift) * a->x.stride[2];                                \
            if (channels == 1)                                                                     \
                single_##T(acc[0], wt[0], at, s * a->x.stride[2], first - w0, end - w0);           \
            else                                                                                   \
                taps_##T(acc, wt, at, s * a->x.stride[2], first - w0, end - w0);                   \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void row_##T(const conv_args *a, int64_t n, int64_t g, int64_t oc, int64_t od,          \
                        int64_t oh, int64_t w0)                                                    \
    {                                                                                              \
        const sp_window *w = &a->w;                                                                \
        double acc[CHANNELS][BLOCK] = {{0}};                                                       \
        int64_t w1 = w0 + BLOCK < w->out[2] ? w0 + BLOCK : w->out[2];                              \
        int64_t channels = a->c_out - oc < CHANNELS ? a->c_out - oc : CHANNELS;                    \
        int64_t d = od * w->stride[0] - w->pad_begin[0], h = oh * w->stride[1] - w->pad_begin[1];  \
        int64_t d0, d1, h0, h1, volume = w->kernel[0] * w->kernel[1] * w->kernel[2];               \
        sp_taps_inside(d, w->kernel[0], w->dilation[0], w->in[0], &d0, &d1);                       \
        sp_taps_inside(h, w->kernel[1], w->dilation[1], w->in[1], &h0, &h1);                       \
        for (int64_t ic = 0; ic < a->c_in; ic++) {                                                 \
            const T *x = (const T *)a->node->in[0]->data + n * a->x.n_stride +                     \
                         (g * a->c_in + ic) * a->x.c_stride;                                       \
            const T *weight =                                                                      \
                (const T *)a->node->in[1]->data + ((g * a->c_out + oc) * a->c_in + ic) * volume;   \
            for (int64_t kd = d0; kd < d1; kd++)                                                   \
                for (int64_t kh = h0; kh < h1; kh++)                                               \
                    plane_##T(a,                                                                   \
                              x + (d + kd * w->dilation[0]) * a->x.stride[0] +                     \
                                  (h + kh * w->dilation[1]) * a->x.stride[1],                      \
                              weight + (kd * w->kernel[1] + kh) * w->kernel[2], channels, w0, w1,  \
                              acc);                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < channels; i++) {                                                   \
            int64_t c = g * a->c_out + oc + i;                                                     \
            double bias = a->bias ? ((const T *)a->bias->data)[c] : 0;                             \
            T *y = (T *)a->node->out[0]->data + n * a->y.n_stride + c * a->y.c_stride +            \
                   od * a->y.stride[0] + oh * a->y.stride[1];                                      \
            for (int64_t j = w0; j < w1; j++) y[j * a->y.stride[2]] = (T)(acc[i][j - w0] + bias);  \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void piece_##T(void *arg, int64_t begin, int64_t end)                                   \
    {                                                                                              \
        const conv_args *a = arg;                                                                  \
        for (int64_t t = begin; t < end; t++) {                                                    \
            int64_t rest = t / a->row_blocks, w0 = t % a->row_blocks * BLOCK;                      \
            int64_t oh = rest % a->w.out[1], od = rest / a->w.out[1] % a->w.out[0];                \
            rest = rest / a->w.out[1] / a->w.out[0];                                               \
            int64_t oc = rest % a->channel_blocks * CHANNELS,                                      \
                    g = rest / a->channel_blocks % a->group;                                       \
            row_##T(a, rest / a->channel_blocks / a->group, g, oc, od, oh, w0);                    \
        }                                                                                          \
    }
CONV_TYPE(float)
CONV_TYPE(double)

/* A 1x1 window at every position: the image is one long row. */
static void flatten_pointwise(conv_args *a)
{
    for (int i = 0; i < SP_IMAGE_DIMS; i++)
        if (a->w.kernel[i] != 1 || a->w.stride[i] != 1 || a->w.pad_begin[i] != 0 ||
            a->w.pad_end[i] != 0)
            return;
    a->w.in[2] *= a->w.in[0] * a->w.in[1];
    a->w.in[0] = a->w.in[1] = 1;
    memcpy(a->w.out, a->w.in, sizeof a->w.out);
}

static sparoa_status conv_run(const sparoa_node *node, const sparoa_exec *exec)
{
    bool nhwc = sp_is_nhwc(node);
    sp_conv conv;
    SP_TRY(sp_conv_shape(node, node->in[0], node->in[1], nhwc, &conv, exec->err));
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    sp_window_to_3d(&conv.w);
    conv_args a = {
        .node = node,
        .x = sp_image_of(node->in[0], nhwc),
        .y = sp_image_of(node->out[0], nhwc),
        .w = conv.w,
        .group = conv.group,
        .c_in = conv.c_in / conv.group,
        .c_out = conv.c_out / conv.group,
        .bias = bias_of(node),
    };
    flatten_pointwise(&a);
    a.channel_blocks = (a.c_out + CHANNELS - 1) / CHANNELS;
    a.row_blocks = (a.w.out[2] + BLOCK - 1) / BLOCK;
    int64_t tasks =
        conv.batch * a.group * a.channel_blocks * a.w.out[0] * a.w.out[1] * a.row_blocks;
    int64_t work = a.c_in * a.w.kernel[0] * a.w.kernel[1] * a.w.kernel[2] * CHANNELS *
                   (a.w.out[2] / a.row_blocks + 1);
    sp_parallel_for(exec, tasks, 1 + 65536 / (work + 1),
                    node->in[0]->dtype == SPAROA_FLOAT64 ? piece_double : piece_float, &a);
    sp_epilogue e = sp_epilogue_of(node);
    sp_epilogue_run(&e, node);
    return SPAROA_OK;
}

static void conv_cost(const sparoa_node *node, sparoa_cost *cost)
{
    const sparoa_tensor *w = node->in[1];
    if (w->rank < 3 || w->dims[0] <= 0) return;
    cost->flops = 2.0 * (double)sp_count(node->out[0]) * (double)sp_count(w) / (double)w->dims[0];
}

/* ONNX Conv, versions 1, 11 and 22. A residual may follow the bias (epilogue.h). */
SP_OP(Conv) = {
    SP_OP_HEAD("Conv", 1, 0),
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_CONV,
    .flags = SPAROA_OP_BY_IMAGE,
    .tolerance = SPAROA_TOL_SUM,
    .infer = conv_infer,
    .cost = conv_cost,
    .run = conv_run,
};

/* com.microsoft FusedConv: a sum Z as input 3 and an activation. */
SP_OP(FusedConv) = {
    .struct_size = sizeof(sparoa_op),
    .name = "FusedConv",
    .domain = "com.microsoft",
    .since = 1,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_CONV,
    .flags = SPAROA_OP_BY_IMAGE,
    .tolerance = SPAROA_TOL_SUM,
    .infer = conv_infer,
    .cost = conv_cost,
    .run = conv_run,
};
