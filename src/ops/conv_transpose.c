/* ConvTranspose, gathered: each output sums the taps that reach it, in double. */
#include "ops/epilogue.h"
#include "ops/image.h"

#define BLOCK 128 /* outputs of a row at a time */

typedef struct transpose_args {
    const sparoa_node *node;
    sp_image x, y;
    sp_window w;                /* in: of x; out: of y */
    int64_t group, c_in, c_out; /* channels per group */
    int64_t row_blocks;
    const sparoa_tensor *bias; /* or NULL */
} transpose_args;

static const sparoa_tensor *bias_of(const sparoa_node *node)
{
    return sp_epilogue_of(node).residual_input == 2 ? NULL : sparoa_in(node, 2);
}

/* Values of output_padding or output_shape, the latter with or without batch and channels; 0: not
 * given. */
static sparoa_status read_sizes(const sparoa_node *node, const char *name, int32_t spatial,
                                bool with_batch, int64_t *values, bool *given, sparoa_error *err)
{
    size_t n, skip = 0;
    const int64_t *v = sparoa_attr_ints(node, name, &n);
    *given = v != NULL && n > 0;
    memset(values, 0, (size_t)spatial * sizeof *values);
    if (!*given) return SPAROA_OK;
    if (with_batch && n == (size_t)spatial + 2) skip = 2;
    if (n != (size_t)spatial + skip)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s has %zu values, expected %d", name,
                           n, spatial);
    for (int32_t i = 0; i < spatial; i++) {
        values[i] = v[i + (int32_t)skip];
        if (values[i] < 0 || values[i] > INT32_MAX)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s[%d]=%lld is out of range", name,
                               i, (long long)values[i]);
    }
    return SPAROA_OK;
}

/* Output size and padding of one spatial dimension whose input and kernel are known. Source: ONNX
 * ConvTranspose. */
static sparoa_status resolve(const sparoa_node *node, sp_window *w, int32_t i, int64_t extra,
                             const int64_t *shape, sparoa_error *err)
{
    const char *mode = sparoa_attr_string(node, "auto_pad", "NOTSET");
    bool upper = strcmp(mode, "SAME_UPPER") == 0, same = upper || strcmp(mode, "SAME_LOWER") == 0;
    int64_t full; /* without padding */
    if (w->in[i] == 0) {
        w->out[i] = shape ? *shape : 0;
        w->pad_begin[i] = w->pad_end[i] = 0;
        return SPAROA_OK;
    }
    if (__builtin_mul_overflow(w->in[i] - 1, w->stride[i], &full) ||
        __builtin_add_overflow(full, extra + (w->kernel[i] - 1) * w->dilation[i] + 1, &full) ||
        full > INT64_MAX / 4)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "spatial dimension %d becomes too large", i);
    if (shape || same) {
        w->out[i] = shape ? *shape : w->in[i] * w->stride[i];
        int64_t total = full > w->out[i] ? full - w->out[i] : 0;
        w->pad_begin[i] = upper ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad_begin[i];
        return SPAROA_OK;
    }
    w->out[i] = full - w->pad_begin[i] - w->pad_end[i];
    if (w->out[i] < 0)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "padding %lld+%lld exceeds the size %lld", (long long)w->pad_begin[i],
                           (long long)w->pad_end[i], (long long)full);
    return SPAROA_OK;
}

sparoa_status sp_conv_transpose_shape(const sparoa_node *node, sp_conv *c, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *weight = node->in[1];
    bool nhwc = sp_is_nhwc(node), has_shape, has_extra;
    int32_t spatial = x->rank - 2;
    int64_t unknown[SP_MAX_SPATIAL], extra[SP_MAX_SPATIAL], shape[SP_MAX_SPATIAL], c_out;
    SP_TRY(sp_image_check_rank(node, x->rank, err));
    if (weight->rank != x->rank)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "the weight has rank %d, expected %d",
                           weight->rank, x->rank);
    c->batch = x->dims[0];
    c->c_in = x->dims[nhwc ? x->rank - 1 : 1];
    c->group = sparoa_attr_int(node, "group", 1);
    if (c->group < 1 || c->group > INT32_MAX || (c->c_in >= 0 && c->c_in % c->group != 0))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "group=%lld does not divide C=%lld",
                           (long long)c->group, (long long)c->c_in);
    if (c->c_in >= 0 && weight->dims[0] >= 0 && weight->dims[0] != c->c_in)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input has %lld channels, the weight expects %lld", (long long)c->c_in,
                           (long long)weight->dims[0]);
    if (__builtin_mul_overflow(weight->dims[1] < 0 ? 0 : weight->dims[1], c->group, &c_out))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "too many output channels");
    c->c_out = weight->dims[1] < 0 ? -1 : c_out;
    /* With unknown sizes this reads and checks the attributes, which is all that is wanted here. */
    for (int32_t i = 0; i < spatial; i++) unknown[i] = -1;
    SP_TRY(sp_window_shape(node, spatial, unknown, weight->dims + 2, false, &c->w, err));
    SP_TRY(read_sizes(node, "output_padding", spatial, false, extra, &has_extra, err));
    SP_TRY(read_sizes(node, "output_shape", spatial, true, shape, &has_shape, err));
    for (int32_t i = 0; i < spatial; i++) {
        c->w.in[i] = x->dims[i + (nhwc ? 1 : 2)];
        if (c->w.in[i] < 0 || c->w.kernel[i] < 0) continue;
        SP_TRY(resolve(node, &c->w, i, extra[i], has_shape ? &shape[i] : NULL, err));
    }
    return SPAROA_OK;
}

static sparoa_status transpose_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *bias = bias_of(node);
    sparoa_tensor *out = node->out[0];
    bool nhwc = sp_is_nhwc(node);
    sp_conv c;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    out->dtype = x->dtype;
    out->rank = -1;
    if (x->rank < 0 || node->in[1]->rank < 0) return SPAROA_OK;
    SP_TRY(sp_conv_transpose_shape(node, &c, err));
    out->rank = x->rank;
    out->dims[0] = c.batch;
    out->dims[nhwc ? x->rank - 1 : 1] = c.c_out;
    for (int32_t i = 0; i < c.w.spatial; i++) out->dims[i + (nhwc ? 1 : 2)] = c.w.out[i];
    if (bias) {
        SP_TRY(sp_check_same_type(node, 0, 2, err));
        if (sp_known(bias) && (bias->rank != 1 || (c.c_out >= 0 && bias->dims[0] != c.c_out)))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "the bias must have one element per output channel");
    }
    return sp_epilogue_check(node, err);
}

/* Position in the input of tap k for output o, or -1. */
static int64_t source(const sp_window *w, int i, int64_t o, int64_t k)
{
    int64_t t = o + w->pad_begin[i] - k * w->dilation[i];
    return t < 0 || t % w->stride[i] != 0 || t / w->stride[i] >= w->in[i] ? -1 : t / w->stride[i];
}

#define TRANSPOSE_TYPE(T)                                                                          \
    static void line_##T(const transpose_args *a, const T *x, const T *weight, int64_t w0,         \
                         int64_t w1, double acc[BLOCK])                                            \
    {                                                                                              \
        const sp_window *w = &a->w;                                                                \
        for (int64_t k = 0; k < w->kernel[2]; k++) {                                               \
            int64_t shift = k * w->dilation[2] - w->pad_begin[2], s = w->stride[2];                \
            int64_t i = w0 > shift ? (w0 - shift + s - 1) / s : 0;                                 \
            for (int64_t o = i * s + shift; o < w1 && i < w->in[2]; i++, o += s)                   \
                acc[o - w0] += (double)weight[k] * x[i * a->x.stride[2]];                          \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void row_##T(const transpose_args *a, int64_t n, int64_t c, int64_t od, int64_t oh,     \
                        int64_t w0)                                                                \
    {                                                                                              \
        const sp_window *w = &a->w;                                                                \
        double acc[BLOCK] = {0};                                                                   \
        int64_t w1 = w0 + BLOCK < w->out[2] ? w0 + BLOCK : w->out[2], g = c / a->c_out;            \
        int64_t volume = w->kernel[0] * w->kernel[1] * w->kernel[2];                               \
        for (int64_t kd = 0; kd < w->kernel[0]; kd++) {                                            \
            int64_t id = source(w, 0, od, kd);                                                     \
            for (int64_t kh = 0; id >= 0 && kh < w->kernel[1]; kh++) {                             \
                int64_t ih = source(w, 1, oh, kh);                                                 \
                for (int64_t ic = g * a->c_in; ih >= 0 && ic < (g + 1) * a->c_in; ic++)            \
                    line_##T(a,                                                                    \
                             (const T *)a->node->in[0]->data + n * a->x.n_stride +                 \
                                 ic * a->x.c_stride + id * a->x.stride[0] + ih * a->x.stride[1],   \
                             (const T *)a->node->in[1]->data +                                     \
                                 (ic * a->c_out + c % a->c_out) * volume +                         \
                                 (kd * w->kernel[1] + kh) * w->kernel[2],                          \
                             w0, w1, acc);                                                         \
            }                                                                                      \
        }                                                                                          \
        double bias = a->bias ? ((const T *)a->bias->data)[c] : 0;                                 \
        T *y = (T *)a->node->out[0]->data + n * a->y.n_stride + c * a->y.c_stride +                \
               od * a->y.stride[0] + oh * a->y.stride[1];                                          \
        for (int64_t j = w0; j < w1; j++) y[j * a->y.stride[2]] = (T)(acc[j - w0] + bias);         \
    }                                                                                              \
                                                                                                   \
    static void piece_##T(void *arg, int64_t begin, int64_t end)                                   \
    {                                                                                              \
        const transpose_args *a = arg;                                                             \
        int64_t channels = a->group * a->c_out;                                                    \
        for (int64_t t = begin; t < end; t++) {                                                    \
            int64_t rest = t / a->row_blocks, oh = rest % a->w.out[1];                             \
            int64_t od = rest / a->w.out[1] % a->w.out[0];                                         \
            rest = rest / a->w.out[1] / a->w.out[0];                                               \
            row_##T(a, rest / channels, rest % channels, od, oh, t % a->row_blocks * BLOCK);       \
        }                                                                                          \
    }
TRANSPOSE_TYPE(float)
TRANSPOSE_TYPE(double)

static sparoa_status transpose_run(const sparoa_node *node, const sparoa_exec *exec)
{
    bool nhwc = sp_is_nhwc(node);
    sp_conv c;
    SP_TRY(sp_conv_transpose_shape(node, &c, exec->err));
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    sp_window_to_3d(&c.w);
    transpose_args a = {
        .node = node,
        .x = sp_image_of(node->in[0], nhwc),
        .y = sp_image_of(node->out[0], nhwc),
        .w = c.w,
        .group = c.group,
        .c_in = c.c_in / c.group,
        .c_out = c.c_out / c.group,
        .bias = bias_of(node),
        .row_blocks = (c.w.out[2] + BLOCK - 1) / BLOCK,
    };
    int64_t tasks = c.batch * c.c_out * c.w.out[0] * c.w.out[1] * a.row_blocks;
    sp_parallel_for(exec, tasks, 1 + 256 / (a.c_in + 1),
                    node->in[0]->dtype == SPAROA_FLOAT64 ? piece_double : piece_float, &a);
    sp_epilogue e = sp_epilogue_of(node);
    sp_epilogue_run(&e, node);
    return SPAROA_OK;
}

static void transpose_cost(const sparoa_node *node, sparoa_cost *cost)
{
    const sparoa_tensor *w = node->in[1];
    if (w->rank < 3 || w->dims[0] <= 0) return;
    cost->flops = 2.0 * (double)sp_count(node->in[0]) * (double)sp_count(w) / (double)w->dims[0];
}

/* ONNX ConvTranspose, versions 1, 11 and 22. A residual may follow the bias (epilogue.h). */
SP_OP(ConvTranspose) = {
    SP_OP_HEAD("ConvTranspose", 1, 0),
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_CONV,
    .tolerance = SPAROA_TOL_SUM,
    .infer = transpose_infer,
    .cost = transpose_cost,
    .run = transpose_run,
};
