/* Conv and ConvTranspose. A 1x1 convolution with the channel last is a product; depthwise ones and,
 * in float16, those of few channels have their own kernels; the rest goes to cuDNN, to an implicit
 * product of our own on tensor cores (float16, TF32), or to one in plain float32. */
#include "backends/cuda/conv.h"
#include "backends/cuda/sparse.h"
#include "backends/cuda/window.h"
#include "ops/epilogue.h"

typedef struct conv_state {
    sp_cuda_conv_kind kind;
    bool transposed;
    void *weight; /* packed; NULL: as the engine uploads it */
    size_t weight_bytes;
    void *winograd; /* the weights for it; NULL: not yet needed */
    size_t winograd_bytes;
    sp_cuda_sparse *sparse; /* of a 1x1 convolution with many zeros; else NULL */
} conv_state;

/* What has a kernel for float16 as it is: images with the channel last, depthwise or in one group.
 */
static bool conv_half(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *w = sparoa_in(node, 1);
    int64_t group = sparoa_attr_int(node, "group", 1);
    if (dev->prop.major < 8 || !sp_cuda_all_half(dev, node, op)) return false;
    return w && w->rank == 4 && sp_is_nhwc(node) && (group == 1 || w->dims[1] == 1);
}

static const char *conv_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0), *w = sparoa_in(node, 1);
    if (!x || !w || (!sp_cuda_all_f32(node) && !conv_half(dev, node, op)))
        return "only float32 and float16";
    if (!node->constant || !node->constant[1]) return "weights that are not constant";
    if (w->rank < 3 || w->rank > 5 || x->rank != w->rank)
        return "an image of unknown or other rank";
    int64_t group = sparoa_attr_int(node, "group", 1);
    if (group < 1 || group > 65535 || w->dims[0] % group != 0) return "too many groups";
    return NULL;
}

static sp_cu_epilogue epilogue_of(const sparoa_node *node)
{
    sp_epilogue e = sp_epilogue_of(node);
    const sparoa_tensor *y = node->out[0];
    bool nhwc = sp_is_nhwc(node);
    return (sp_cu_epilogue){.act = e.act,
                            .a = e.a,
                            .b = e.b,
                            .residual = e.residual,
                            .channels = y->dims[nhwc ? y->rank - 1 : 1],
                            .inner = nhwc ? 1 : sp_dims_product(y, 2, y->rank)};
}

static const void *bias_of(const sparoa_node *node)
{
    const sparoa_tensor *b = sp_epilogue_of(node).residual_input == 2 ? NULL : sparoa_in(node, 2);
    return b ? b->data : NULL;
}

static const void *residual_of(const sparoa_node *node)
{
    int32_t i = sp_epilogue_of(node).residual_input;
    return i >= 0 ? node->in[i]->data : NULL;
}

/* Whether a window of one element is all there is: no strides, no padding. */
static bool is_pointwise(const sparoa_node *node)
{
    const sparoa_tensor *w = node->in[1];
    size_t n;
    for (int32_t i = 2; i < w->rank; i++)
        if (w->dims[i] != 1) return false;
    const int64_t *v = sparoa_attr_ints(node, "strides", &n);
    for (size_t i = 0; i < n; i++)
        if (v[i] != 1) return false;
    v = sparoa_attr_ints(node, "pads", &n);
    for (size_t i = 0; i < n; i++)
        if (v[i] != 0) return false;
    return sparoa_attr_int(node, "group", 1) == 1;
}

/* ---- packing ---- */

/* Weights [a][b][taps] in another order: out[i] of the element is at(a, b, tap). */
typedef struct packing {
    int64_t outer, inner, taps;         /* dims 0 and 1, product of the rest */
    int64_t to_outer, to_inner, to_tap; /* strides in the packed array */
    int64_t group_size, to_group;       /* outer counts groups of that many */
} packing;

static sparoa_status pack(sparoa_kernel *k, const sparoa_tensor *weight, const packing *p,
                          sparoa_error *err)
{
    conv_state *s = k->state;
    size_t size = sparoa_dtype_size(weight->dtype);
    const char *w = weight->data;
    s->weight_bytes = (size_t)(p->outer * p->inner * p->taps) * size;
    if (s->weight_bytes == 0) return SPAROA_OK;
    char *packed = sp_cuda_host_alloc(k->dev, s->weight_bytes);
    if (!packed) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no memory to pack weights");
    for (int64_t o = 0; o < p->outer; o++)
        for (int64_t i = 0; i < p->inner; i++)
            for (int64_t t = 0; t < p->taps; t++, w += size) {
                int64_t at = o / p->group_size * p->to_group + o % p->group_size * p->to_outer +
                             i * p->to_inner + t * p->to_tap;
                memcpy(packed + at * (int64_t)size, w, size);
            }
    sparoa_status status = sp_cuda_upload(k->dev, k, packed, s->weight_bytes, &s->weight, err);
    sp_cuda_host_free(k->dev, packed, s->weight_bytes);
    return status;
}

static const char *const kind_names[][3] = {
    {"conv_product", "conv_product_tf32", "conv_product_f16"},
    {"conv_depthwise", "conv_depthwise", "conv_depthwise_f16"},
    {"conv_cudnn", "conv_cudnn_tf32", "conv_cudnn_f16"},
    {"conv_implicit", "conv_implicit", "conv_implicit"},
    {"conv_tensor", "conv_tensor_tf32", "conv_tensor_f16"},
    {"conv_winograd", "conv_winograd", "conv_winograd"},
    {"conv_few_f16", "conv_few_f16", "conv_few_f16"}};

static sparoa_status conv_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    conv_state *s = k->state;
    const sparoa_tensor *w = node->in[1];
    int64_t group = sparoa_attr_int(node, "group", 1), taps = sp_dims_product(w, 2, w->rank);
    bool nhwc = sp_is_nhwc(node), flat = w->rank < 5;
    if (nhwc && is_pointwise(node))
        s->kind = SP_CUDA_CONV_PRODUCT;
    else if (flat && group > 1 && w->dims[1] == 1)
        s->kind = SP_CUDA_CONV_DEPTHWISE;
    else
        s->kind = nhwc && flat && k->dev->dnn ? SP_CUDA_CONV_DNN : SP_CUDA_CONV_IMPLICIT;
    k->variant = kind_names[s->kind][sp_cuda_math_of(k->dev, node)];
    if (s->kind == SP_CUDA_CONV_PRODUCT) { /* [c_out][c_in] is what it wants */
        if (w->dtype != SPAROA_FLOAT32) return SPAROA_OK;
        return sp_cuda_sparse_make(k, w->data, w->dims[0], w->dims[1], w->dims[1], 1, &s->sparse,
                                   err);
    }
    packing p = {w->dims[0], w->dims[1], taps, taps * w->dims[1], 1, w->dims[1], w->dims[0], 0};
    if (s->kind == SP_CUDA_CONV_DEPTHWISE) {
        p.to_outer = 1;
        p.to_inner = 0;
        p.to_tap = w->dims[0];
    }
    return p.outer ? pack(k, w, &p, err) : SPAROA_OK;
}

static void conv_destroy(sparoa_kernel *k)
{
    conv_state *s = k->state;
    sp_cuda_free(k->dev, s->weight, s->weight_bytes);
    sp_cuda_free(k->dev, s->winograd, s->winograd_bytes);
    sp_cuda_sparse_done(k->dev, s->sparse);
}

static bool conv_keeps_input(const sparoa_kernel *k, int32_t input)
{
    return input != 1 || !((const conv_state *)k->state)->weight;
}

/* ---- running ---- */

/* The image as transformed; points [tile][channel]. */
static size_t points_bytes(const sp_cu_window *w, int64_t channels)
{
    size_t bytes = (size_t)(SP_CU_WINOGRAD_POINTS * sp_cu_winograd_tiles(w) * channels) * 4;
    return (bytes + 255) / 256 * 256;
}

size_t sp_cuda_winograd_weight_bytes(const sp_cu_window *w)
{
    return (size_t)SP_CU_WINOGRAD_POINTS * (size_t)w->c_in * (size_t)w->c_out * sizeof(float);
}

size_t sp_cuda_conv_workspace(const sp_cuda_conv *c)
{
    switch (c->kind) {
    case SP_CUDA_CONV_PRODUCT: return c->product.workspace;
    case SP_CUDA_CONV_DNN: return c->dnn.workspace + c->dnn.pad_bytes;
    case SP_CUDA_CONV_IMPLICIT: return sp_cu_conv_workspace(&c->window, c->splits);
    case SP_CUDA_CONV_TENSOR: return sp_cu_tensor_workspace(&c->window, c->parts.splits);
    case SP_CUDA_CONV_WINOGRAD:
        return points_bytes(&c->window, c->window.c_in) +
               points_bytes(&c->window, c->window.c_out) + c->product.workspace;
    default: return 0;
    }
}

bool sp_cuda_conv_choose(sparoa_dev *dev, sp_cuda_conv *c, const sp_cuda_choice *choice)
{
    sp_cuda_parts_done(dev, &c->parts);
    c->kind = (sp_cuda_conv_kind)choice->kind;
    switch (c->kind) {
    case SP_CUDA_CONV_PRODUCT: return c->product.shape.m > 0 && !c->winograd;
    case SP_CUDA_CONV_WINOGRAD: return c->winograd;
    case SP_CUDA_CONV_DEPTHWISE:
        c->way = choice->tile;
        return c->way >= 0 &&
               sp_cu_depthwise_can(&c->window, &c->epilogue, c->math == SP_CUDA_MATH_F16, c->way);
    case SP_CUDA_CONV_FEW:
        return c->math == SP_CUDA_MATH_F16 && sp_cuda_has_cores(dev, c->math) &&
               sp_cu_few_can(&c->window, &c->epilogue);
    case SP_CUDA_CONV_DNN:
        if (choice->index < 0 || choice->index >= c->dnn.n_algos) return false;
        sp_cuda_dnn_choose(&c->dnn, &c->epilogue, choice->index);
        return true;
    case SP_CUDA_CONV_IMPLICIT:
        c->splits = choice->splits;
        c->large = choice->tile == 1;
        return c->math != SP_CUDA_MATH_F16 && c->splits > 0 && c->splits <= 64 &&
               c->window.c_out / c->window.group <= 64 * 65535;
    case SP_CUDA_CONV_TENSOR:
        if (!sp_cuda_has_cores(dev, c->math) || choice->tile < 0 ||
            choice->tile >= SP_CU_TENSOR_TILES || choice->splits < 1 || choice->splits > 64 ||
            !sp_cu_tensor_can(&c->window, c->math == SP_CUDA_MATH_F16) ||
            !sp_cu_tensor_fits(&c->window, choice->tile, dev->prop.sharedMemPerBlockOptin))
            return false;
        c->parts = (sp_cuda_parts){.tile = choice->tile, .splits = choice->splits};
        return sp_cuda_parts_make(dev, &c->parts, &c->window);
    default: return false;
    }
}

static void plan_product(sparoa_kernel *k, const sparoa_node *node, sp_cuda_conv *p)
{
    int64_t n = node->in[1]->dims[0], in = node->in[1]->dims[1];
    p->product.math = p->math;
    p->product.sparse = ((const conv_state *)k->state)->sparse;
    p->product.shape = (sp_cu_gemm){.m = sp_count(node->out[0]) / n,
                                    .n = n,
                                    .k = in,
                                    .batch = 1,
                                    .a_m = in,
                                    .a_k = 1,
                                    .b_k = 1,
                                    .b_n = in,
                                    .alpha = 1};
    sp_cuda_product_plan(k->dev, &p->product, &p->epilogue, p->has_bias);
}

/* Winograd's products, where they may pay: not for few pixels, whose transforms cost as much. */
static void plan_winograd(sparoa_kernel *k, sp_cuda_conv *p)
{
    const sp_cu_window *w = &p->window;
    int64_t m = sp_cu_winograd_tiles(w);
    p->winograd = p->math == SP_CUDA_MATH_F32 && k->dev->autotune && sp_cu_winograd_can(w) &&
                  w->c_in >= 16 && w->c_out >= 16;
    if (!p->winograd) return;
    p->product.math = p->math;
    p->product.shape = (sp_cu_gemm){.m = m,
                                    .n = w->c_out,
                                    .k = w->c_in,
                                    .batch = SP_CU_WINOGRAD_POINTS,
                                    .a_m = w->c_in,
                                    .a_k = 1,
                                    .a_batch = m * w->c_in,
                                    .b_k = 1,
                                    .b_n = w->c_in,
                                    .b_batch = (int64_t)w->c_in * w->c_out,
                                    .y_batch = m * w->c_out,
                                    .alpha = 1};
    const sp_cu_epilogue none = {.channels = w->c_out, .inner = 1};
    sp_cuda_product_plan(k->dev, &p->product, &none, false);
}

static sparoa_status winograd_weight(sparoa_kernel *k, const sp_cu_window *w, sparoa_error *err)
{
    conv_state *s = k->state;
    if (s->winograd) return SPAROA_OK;
    s->winograd_bytes = sp_cuda_winograd_weight_bytes(w);
    if (sp_cuda_alloc(k->dev, s->winograd_bytes, &s->winograd) != SPAROA_OK)
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no device memory for %zu bytes",
                           s->winograd_bytes);
    k->bytes += s->winograd_bytes;
    sp_cu_winograd_weight(s->weight, s->winograd, w->c_out, w->c_in, NULL);
    cudaError_t error = cudaStreamSynchronize(NULL);
    return error == cudaSuccess ? SPAROA_OK
                                : sp_cuda_fail(err, NULL, "transforming weights", error);
}

/* Before anything is measured. */
static void first_choice(sparoa_kernel *k, sp_cuda_conv *p, bool nhwc)
{
    sp_cuda_choice c = {.kind = SP_CUDA_CONV_IMPLICIT, .splits = 1, .tile = 2};
    if (nhwc) c.splits = sp_cu_conv_splits(&p->window, 0, k->dev->prop.multiProcessorCount);
    if (nhwc && sp_cuda_has_cores(k->dev, p->math) &&
        sp_cu_tensor_can(&p->window, p->math == SP_CUDA_MATH_F16)) {
        c.kind = SP_CUDA_CONV_TENSOR;
        c.splits = 1;
    }
    if (p->dnn.ready) c = (sp_cuda_choice){.kind = SP_CUDA_CONV_DNN};
    const sp_cuda_choice few = {.kind = SP_CUDA_CONV_FEW};
    if (!nhwc || !sp_cuda_conv_choose(k->dev, p, &few)) sp_cuda_conv_choose(k->dev, p, &c);
}

static const char *variant_of(const sp_cuda_conv *p)
{
    if (p->kind == SP_CUDA_CONV_PRODUCT && p->product.kind == SP_CUDA_PRODUCT_SPMM)
        return "conv_sparse";
    if (p->kind == SP_CUDA_CONV_PRODUCT && p->product.kind == SP_CUDA_PRODUCT_CUSPARSE)
        return "conv_cusparse";
    if (p->kind == SP_CUDA_CONV_PRODUCT && p->product.kind == SP_CUDA_PRODUCT_THIN)
        return p->math == SP_CUDA_MATH_F16 ? "conv_thin_f16" : "conv_thin_tf32";
    return kind_names[p->kind][p->math];
}

static sparoa_status conv_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                  size_t *workspace, sparoa_error *err)
{
    conv_state *s = k->state;
    sp_cuda_conv *p = prepared;
    const sparoa_tensor *x = node->in[0], *w = node->in[1], *y = node->out[0];
    bool nhwc = sp_is_nhwc(node);
    sp_conv c;
    SP_TRY(sp_conv_shape(node, x, w, nhwc, &c, err));
    p->kind = s->kind;
    p->math = sp_cuda_math_of(k->dev, node);
    p->splits = 1;
    p->has_bias = sp_epilogue_of(node).residual_input != 2 && sparoa_in(node, 2);
    p->epilogue = epilogue_of(node);
    SP_TRY(sp_cuda_window(node, &c.w, nhwc, &p->window, err));
    p->window.group = (int32_t)c.group;
    if (sp_count(y) == 0) return SPAROA_OK;
    if (s->kind == SP_CUDA_CONV_PRODUCT)
        plan_product(k, node, p);
    else if (s->kind == SP_CUDA_CONV_DEPTHWISE) {
        p->way = sp_cu_depthwise_way(&p->window, &p->epilogue, p->math == SP_CUDA_MATH_F16);
    } else {
        if (s->kind == SP_CUDA_CONV_DNN)
            sp_cuda_dnn_plan(k->dev, &p->dnn, &p->window, &p->epilogue, p->math);
        if (nhwc) plan_winograd(k, p);
        first_choice(k, p, nhwc);
    }
    if (nhwc && k->dev->autotune) sp_cuda_conv_tune(k->dev, p);
    if (p->kind == SP_CUDA_CONV_WINOGRAD) SP_TRY(winograd_weight(k, &p->window, err));
    k->variant = variant_of(p);
    *workspace = sp_cuda_conv_workspace(p);
    return SPAROA_OK;
}

static void conv_unprepare(sparoa_kernel *k, void *prepared)
{
    sp_cuda_conv *p = prepared;
    sp_cuda_product_done(k->dev, &p->product);
    sp_cuda_dnn_done(k->dev, &p->dnn);
    sp_cuda_parts_done(k->dev, &p->parts);
}

static sparoa_status winograd_launch(sparoa_dev *dev, sp_cuda_conv *c, const void *x,
                                     const void *weight, const void *bias, const void *residual,
                                     void *y, void *workspace, cudaStream_t stream,
                                     const sparoa_node *node, sparoa_error *err)
{
    const sp_cu_window *w = &c->window;
    char *image = workspace, *result = image + points_bytes(w, w->c_in);
    sp_cu_winograd_input(w, x, (float *)image, stream);
    SP_TRY(sp_cuda_product_run(dev, &c->product, image, weight, NULL, NULL, result,
                               result + points_bytes(w, w->c_out), stream, node, err));
    sp_cu_winograd_output(w, &c->epilogue, (const float *)result, bias, residual, y, stream);
    return SPAROA_OK;
}

sparoa_status sp_cuda_conv_launch(sparoa_dev *dev, sp_cuda_conv *c, const void *x,
                                  const void *weight, const void *bias, const void *residual,
                                  void *y, void *workspace, cudaStream_t stream,
                                  const sparoa_node *node, sparoa_error *err)
{
    const sp_cu_window *w = &c->window;
    int half = c->math == SP_CUDA_MATH_F16;
    int64_t count = (int64_t)w->n * w->c_out * w->out[0] * w->out[1] * w->out[2];
    if (c->kind == SP_CUDA_CONV_PRODUCT)
        return sp_cuda_product_run(dev, &c->product, x, weight, bias, residual, y, workspace,
                                   stream, node, err);
    if (c->kind == SP_CUDA_CONV_DEPTHWISE) {
        sp_cu_depthwise(w, &c->epilogue, half, c->way, x, weight, bias, residual, y, stream);
        return SPAROA_OK;
    }
    if (c->kind == SP_CUDA_CONV_FEW && ((uintptr_t)x | (uintptr_t)bias | (uintptr_t)y) % 16 == 0) {
        sp_cu_few(w, &c->epilogue, x, weight, bias, y, stream);
        return SPAROA_OK;
    }
    if (c->kind == SP_CUDA_CONV_WINOGRAD)
        return winograd_launch(dev, c, x, weight, bias, residual, y, workspace, stream, node, err);
    bool dnn = c->kind == SP_CUDA_CONV_DNN && c->dnn.ready;
    if (dnn && sp_cuda_dnn_run(dev, &c->dnn, &c->epilogue, x, weight, bias, residual, y, count,
                               workspace, stream))
        return SPAROA_OK;
    if (c->kind == SP_CUDA_CONV_TENSOR || half) {
        bool chosen = c->kind == SP_CUDA_CONV_TENSOR;
        sp_cu_tensor(w, &c->epilogue, half, chosen ? c->parts.tile : 2,
                     chosen ? c->parts.splits : 1, workspace, c->parts.arrivals, x, weight, bias,
                     residual, y, stream);
        return SPAROA_OK;
    }
    int splits = c->kind == SP_CUDA_CONV_IMPLICIT ? c->splits : 1;
    sp_cu_conv(w, &c->epilogue, c->large, splits, workspace, x, weight, bias, residual, y, stream);
    return SPAROA_OK;
}

static sparoa_status conv_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const conv_state *s = k->state;
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    const sp_cuda_conv *p = prepared;
    const void *weight = s->weight ? s->weight : node->in[1]->data;
    if (p->kind == SP_CUDA_CONV_WINOGRAD) weight = s->winograd;
    return sp_cuda_conv_launch(k->dev, prepared, node->in[0]->data, weight, bias_of(node),
                               residual_of(node), node->out[0]->data, workspace, stream, node, err);
}

/* ONNX Conv, versions 1 to 22: one to three dimensions, constant weights. */
SP_CUDA_KERNEL(Conv) = {.ops = SP_CUDA_NAMES("Conv"),
                        .variant = "conv",
                        .state_bytes = sizeof(conv_state),
                        .prepared_bytes = sizeof(sp_cuda_conv),
                        .half = conv_half,
                        .refuses = conv_refuses,
                        .create = conv_create,
                        .destroy = conv_destroy,
                        .keeps_input = conv_keeps_input,
                        .prepare = conv_prepare,
                        .unprepare = conv_unprepare,
                        .run = conv_run};

/* com.microsoft FusedConv: Conv with an activation. */
SP_CUDA_KERNEL(FusedConv) = {.ops = SP_CUDA_NAMES("FusedConv"),
                             .domain = "com.microsoft",
                             .variant = "conv",
                             .state_bytes = sizeof(conv_state),
                             .prepared_bytes = sizeof(sp_cuda_conv),
                             .half = conv_half,
                             .refuses = conv_refuses,
                             .create = conv_create,
                             .destroy = conv_destroy,
                             .keeps_input = conv_keeps_input,
                             .prepare = conv_prepare,
                             .unprepare = conv_unprepare,
                             .run = conv_run};

/* ---- ConvTranspose ---- */

static sparoa_status transpose_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    conv_state *s = k->state;
    const sparoa_tensor *w = node->in[1]; /* [c_in][c_out / group][taps] */
    int64_t group = sparoa_attr_int(node, "group", 1), taps = sp_dims_product(w, 2, w->rank);
    int64_t cig = w->dims[0] / group, cog = w->dims[1];
    s->transposed = true;
    if (cig == 0) return SPAROA_OK;
    packing p = {w->dims[0], cog, taps, cog, 1, cig * cog, cig, taps * cig * cog};
    return pack(k, w, &p, err);
}

/* Padding before each dimension. Source: ONNX ConvTranspose. The output's size is known by now. */
static sparoa_status transpose_window(const sparoa_node *node, sp_window *w, bool nhwc,
                                      sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *f = node->in[1], *y = node->out[0];
    int64_t unknown[SP_MAX_SPATIAL];
    int32_t spatial = x->rank - 2;
    const char *mode = sparoa_attr_string(node, "auto_pad", "NOTSET");
    bool upper = strcmp(mode, "SAME_UPPER") == 0, same = upper || strcmp(mode, "SAME_LOWER") == 0;
    size_t n, n_shape, n_extra;
    const int64_t *extra = sparoa_attr_ints(node, "output_padding", &n_extra);
    (void)sparoa_attr_ints(node, "output_shape", &n_shape);
    (void)n;
    for (int32_t i = 0; i < spatial; i++) unknown[i] = -1;
    SP_TRY(sp_window_shape(node, spatial, unknown, f->dims + 2, false, w, err));
    for (int32_t i = 0; i < spatial; i++) {
        w->in[i] = x->dims[i + (nhwc ? 1 : 2)];
        w->out[i] = y->dims[i + (nhwc ? 1 : 2)];
        if (!same && n_shape == 0) continue;
        int64_t more = extra && i < (int32_t)n_extra ? extra[i] : 0;
        int64_t full =
            (w->in[i] - 1) * w->stride[i] + more + (w->kernel[i] - 1) * w->dilation[i] + 1;
        int64_t total = full > w->out[i] ? full - w->out[i] : 0;
        w->pad_begin[i] = upper ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad_begin[i];
    }
    for (int32_t i = 0; i < spatial; i++)
        if (w->pad_begin[i] < 0 || w->pad_end[i] < 0) w->pad_begin[i] = w->pad_end[i] = 0;
    return SPAROA_OK;
}

static sparoa_status transpose_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                       size_t *workspace, sparoa_error *err)
{
    sp_cuda_conv *p = prepared;
    bool nhwc = sp_is_nhwc(node);
    sp_window w;
    (void)k, (void)workspace;
    SP_TRY(transpose_window(node, &w, nhwc, err));
    SP_TRY(sp_cuda_window(node, &w, nhwc, &p->window, err));
    p->epilogue = epilogue_of(node);
    p->window.group = (int32_t)sparoa_attr_int(node, "group", 1);
    return SPAROA_OK;
}

static sparoa_status transpose_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                   const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const conv_state *s = k->state;
    const sp_cuda_conv *p = prepared;
    (void)workspace, (void)err;
    sp_cu_conv_transpose(&p->window, &p->epilogue, node->in[0]->data, s->weight, bias_of(node),
                         residual_of(node), node->out[0]->data, stream);
    return SPAROA_OK;
}

/* ONNX ConvTranspose, versions 1 to 22: one to three dimensions, constant weights. */
SP_CUDA_KERNEL(ConvTranspose) = {.ops = SP_CUDA_NAMES("ConvTranspose"),
                                 .variant = "conv_transpose_f32",
                                 .state_bytes = sizeof(conv_state),
                                 .prepared_bytes = sizeof(sp_cuda_conv),
                                 .refuses = conv_refuses,
                                 .create = transpose_create,
                                 .destroy = conv_destroy,
                                 .keeps_input = conv_keeps_input,
                                 .prepare = transpose_prepare,
                                 .run = transpose_run};
