#include "ops/conv_shape.h"

#define MAX_ATTR INT32_MAX       /* strides, dilations, kernels and pads beyond it are nonsense */
#define MAX_SIZE (INT64_MAX / 4) /* image sizes: sums with pads cannot overflow below it */

/* An array attribute of `count` values in lo..MAX_ATTR; `fallback` where it is missing. */
static sparoa_status read_ints(const sparoa_node *node, const char *name, int32_t count, int64_t lo,
                               int64_t fallback, int64_t *values, sparoa_error *err)
{
    size_t n;
    const int64_t *given = sparoa_attr_ints(node, name, &n);
    if (given && n != (size_t)count)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s has %zu values, expected %d", name,
                           n, count);
    for (int32_t i = 0; i < count; i++) {
        int64_t v = given ? given[i] : fallback;
        if (v < lo || v > MAX_ATTR)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s[%d]=%lld is out of range", name,
                               i, (long long)v);
        values[i] = v;
    }
    return SPAROA_OK;
}

static sparoa_status read_kernel(const sparoa_node *node, int32_t spatial, const int64_t *kernel,
                                 sp_window *w, sparoa_error *err)
{
    bool given = sparoa_attr_find(node, "kernel_shape") != NULL;
    if (!given && !kernel)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "kernel_shape is missing");
    if (given) SP_TRY(read_ints(node, "kernel_shape", spatial, 1, 1, w->kernel, err));
    if (!kernel) return SPAROA_OK;
    for (int32_t i = 0; i < spatial; i++) {
        if (given && kernel[i] >= 0 && kernel[i] != w->kernel[i])
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "kernel_shape[%d]=%lld differs from the weight's %lld", i,
                               (long long)w->kernel[i], (long long)kernel[i]);
        if (kernel[i] == 0 || kernel[i] > MAX_ATTR)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "the weight's kernel size %lld is out of range",
                               (long long)kernel[i]);
        if (!given) w->kernel[i] = kernel[i] < 0 ? -1 : kernel[i];
    }
    return SPAROA_OK;
}

typedef enum auto_pad { PAD_EXPLICIT, PAD_VALID, PAD_SAME_UPPER, PAD_SAME_LOWER } auto_pad;

static sparoa_status read_auto_pad(const sparoa_node *node, auto_pad *mode, sparoa_error *err)
{
    static const char *const names[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"};
    const char *s = sparoa_attr_string(node, "auto_pad", "NOTSET");
    for (int i = 0; i < 4; i++) {
        if (strcmp(s, names[i]) != 0 && !(i == 0 && s[0] == '\0')) continue;
        *mode = (auto_pad)i;
        return SPAROA_OK;
    }
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                       "auto_pad '%.32s' is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER", s);
}

/* SAME: the output has ceil(in / stride) positions; the padding that needs is split evenly, an odd
 * one goes to the end (UPPER) or the beginning (LOWER). */
static void pad_same(sp_window *w, int32_t i, bool lower)
{
    w->pad_begin[i] = w->pad_end[i] = w->out[i] = -1;
    if (w->in[i] < 0) return;
    w->out[i] = w->in[i] == 0 ? 0 : (w->in[i] - 1) / w->stride[i] + 1;
    if (w->kernel[i] < 0) return;
    int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
    int64_t total = w->out[i] == 0 ? 0 : (w->out[i] - 1) * w->stride[i] + reach - w->in[i];
    if (total < 0) total = 0;
    w->pad_begin[i] = lower ? total - total / 2 : total / 2;
    w->pad_end[i] = total - w->pad_begin[i];
}

static sparoa_status size_out(const sparoa_node *node, sp_window *w, int32_t i, bool ceil_mode,
                              sparoa_error *err)
{
    w->out[i] = -1;
    if (w->in[i] < 0 || w->kernel[i] < 0) return SPAROA_OK;
    int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
    int64_t room = w->in[i] + w->pad_begin[i] + w->pad_end[i] - reach;
    bool partial = ceil_mode && room > -w->stride[i]; /* one window that the image does not fill */
    if (room < 0 && w->in[i] > 0 && !partial)
        return sparoa_fail(
            err, SPAROA_SHAPE_MISMATCH, node,
            "window of %lld does not fit spatial dimension %d of size %lld with padding %lld+%lld",
            (long long)reach, i, (long long)w->in[i], (long long)w->pad_begin[i],
            (long long)w->pad_end[i]);
    if (room < 0) {
        w->out[i] = w->in[i] > 0;
        return SPAROA_OK;
    }
    int64_t out = room / w->stride[i] + 1;
    if (ceil_mode && room % w->stride[i] != 0 && out * w->stride[i] < w->in[i] + w->pad_begin[i])
        out++;
    w->out[i] = out;
    return SPAROA_OK;
}

sparoa_status sp_window_shape(const sparoa_node *node, int32_t spatial, const int64_t *in,
                              const int64_t *kernel, bool ceil_mode, sp_window *w,
                              sparoa_error *err)
{
    if (spatial < 0 || spatial > SP_MAX_SPATIAL)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "%d spatial dimensions, at most %d are possible", spatial,
                           SP_MAX_SPATIAL);
    auto_pad mode = PAD_EXPLICIT;
    int64_t pads[2 * SP_MAX_SPATIAL];
    w->spatial = spatial;
    SP_TRY(read_auto_pad(node, &mode, err));
    SP_TRY(read_kernel(node, spatial, kernel, w, err));
    SP_TRY(read_ints(node, "strides", spatial, 1, 1, w->stride, err));
    SP_TRY(read_ints(node, "dilations", spatial, 1, 1, w->dilation, err));
    if (mode == PAD_EXPLICIT) SP_TRY(read_ints(node, "pads", 2 * spatial, 0, 0, pads, err));
    for (int32_t i = 0; i < spatial; i++) {
        if (in[i] > MAX_SIZE)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "spatial dimension %d is too large: %lld", i, (long long)in[i]);
        w->in[i] = in[i] < 0 ? -1 : in[i];
        w->pad_begin[i] = mode == PAD_EXPLICIT ? pads[i] : 0;
        w->pad_end[i] = mode == PAD_EXPLICIT ? pads[spatial + i] : 0;
        if (mode == PAD_SAME_UPPER || mode == PAD_SAME_LOWER)
            pad_same(w, i, mode == PAD_SAME_LOWER);
        else
            SP_TRY(size_out(node, w, i, ceil_mode, err));
    }
    return SPAROA_OK;
}

static sparoa_status check_channels(const sparoa_node *node, const sp_conv *conv, int64_t per_group,
                                    sparoa_error *err)
{
    int64_t c_in;
    if (conv->group < 1 || conv->group > MAX_ATTR)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "group=%lld is out of range",
                           (long long)conv->group);
    if (conv->c_out >= 0 && conv->c_out % conv->group != 0)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "group=%lld does not divide M=%lld",
                           (long long)conv->group, (long long)conv->c_out);
    if (conv->c_in < 0 || per_group < 0) return SPAROA_OK;
    if (__builtin_mul_overflow(per_group, conv->group, &c_in) || c_in != conv->c_in)
        return sparoa_fail(
            err, SPAROA_SHAPE_MISMATCH, node,
            "input has %lld channels, the weight expects %lld in each of %lld groups",
            (long long)conv->c_in, (long long)per_group, (long long)conv->group);
    return SPAROA_OK;
}

sparoa_status sp_conv_shape(const sparoa_node *node, const sparoa_tensor *x,
                            const sparoa_tensor *weight, bool nhwc, sp_conv *conv,
                            sparoa_error *err)
{
    if (x->rank < 3 || x->rank != weight->rank)
        return sparoa_fail(
            err, SPAROA_SHAPE_MISMATCH, node,
            "input has rank %d and weight rank %d; both must be the same and at least 3", x->rank,
            weight->rank);
    conv->batch = x->dims[0];
    conv->c_in = x->dims[nhwc ? x->rank - 1 : 1];
    conv->c_out = weight->dims[0];
    conv->group = sparoa_attr_int(node, "group", 1);
    SP_TRY(check_channels(node, conv, weight->dims[1], err));
    return sp_window_shape(node, x->rank - 2, x->dims + (nhwc ? 1 : 2), weight->dims + 2, false,
                           &conv->w, err);
}

sparoa_status sp_conv_infer(const sparoa_node *node, const sparoa_tensor *x,
                            const sparoa_tensor *weight, bool nhwc, sparoa_tensor *out,
                            sparoa_error *err)
{
    int32_t rank = x->rank >= 0 ? x->rank : weight->rank;
    if (x->rank >= 0 && weight->rank >= 0) {
        sp_conv conv;
        SP_TRY(sp_conv_shape(node, x, weight, nhwc, &conv, err));
        out->dims[0] = conv.batch;
        out->dims[nhwc ? rank - 1 : 1] = conv.c_out;
        for (int32_t i = 0; i < conv.w.spatial; i++) out->dims[i + (nhwc ? 1 : 2)] = conv.w.out[i];
    } else if (rank >= 0) {
        if (rank < 3)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "rank %d, expected at least 3",
                               rank);
        for (int32_t i = 0; i < rank; i++) out->dims[i] = -1;
        if (x->rank >= 0)
            out->dims[0] = x->dims[0];
        else
            out->dims[nhwc ? rank - 1 : 1] = weight->dims[0];
    }
    out->rank = rank;
    return SPAROA_OK;
}
