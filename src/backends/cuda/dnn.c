#include "backends/cuda/dnn.h"

#define WORKSPACE_LIMIT ((size_t)256 << 20)
#define ALGORITHMS 10

/* cuDNN pads both sides alike: where they differ, the image is padded first. */
static void plan_padding(sp_cuda_dnn *d, sp_cu_window *w)
{
    if (w->begin[1] == w->end[1] && w->begin[2] == w->end[2]) return;
    d->pad = (sp_cu_pad){.size = (int32_t)sp_cuda_math_bytes(d->math), .rank = 4};
    const int64_t n[4] = {w->n, w->in[1], w->in[2], w->c_in};
    const int64_t before[4] = {0, w->begin[1], w->begin[2], 0};
    const int64_t after[4] = {0, w->end[1], w->end[2], 0};
    int64_t stride = 1;
    d->pad.count = 1;
    for (int i = 3; i >= 0; i--) {
        d->pad.n[i] = n[i];
        d->pad.before[i] = before[i];
        d->pad.out[i] = n[i] + before[i] + after[i];
        d->pad.strides[i] = stride;
        stride *= n[i];
        d->pad.count *= d->pad.out[i];
    }
    d->pad_bytes = ((size_t)d->pad.count * sp_cuda_math_bytes(d->math) + 255) / 256 * 256;
    for (int i = 1; i < 3; i++) {
        w->in[i] = (int32_t)d->pad.out[i];
        w->begin[i] = w->end[i] = 0;
    }
}

static bool describe(sparoa_dev *dev, sp_cuda_dnn *d, const sp_cu_window *w,
                     const sp_cu_epilogue *e)
{
    const sp_cuda_libs *l = &dev->libs;
    int type = d->math == SP_CUDA_MATH_F16 ? DNN_HALF : DNN_FLOAT;
    int math = d->math == SP_CUDA_MATH_F32   ? DNN_FMA_MATH
               : d->math == SP_CUDA_MATH_F16 ? DNN_TENSOR_MATH
                                             : DNN_DEFAULT_MATH;
    if (l->dnn_tensor_create(&d->x) || l->dnn_tensor_create(&d->y) ||
        l->dnn_tensor_create(&d->bias) || l->dnn_filter_create(&d->w) ||
        l->dnn_conv_create(&d->conv) || l->dnn_act_create(&d->act))
        return false;
    return !l->dnn_tensor_set(d->x, DNN_NHWC, type, w->n, w->c_in, w->in[1], w->in[2]) &&
           !l->dnn_tensor_set(d->y, DNN_NHWC, type, w->n, w->c_out, w->out[1], w->out[2]) &&
           !l->dnn_tensor_set(d->bias, DNN_NHWC, type, 1, w->c_out, 1, 1) &&
           !l->dnn_filter_set(d->w, type, DNN_NHWC, w->c_out, w->c_in / w->group, w->kernel[1],
                              w->kernel[2]) &&
           !l->dnn_conv_set(d->conv, w->begin[1], w->begin[2], w->stride[1], w->stride[2],
                            w->dilation[1], w->dilation[2], DNN_CROSS_CORRELATION, DNN_FLOAT) &&
           !l->dnn_conv_group(d->conv, w->group) && !l->dnn_conv_math(d->conv, math) &&
           !l->dnn_act_set(d->act, e->act == 1 ? DNN_ACT_RELU : DNN_ACT_IDENTITY, 1, 0);
}

void sp_cuda_dnn_choose(sp_cuda_dnn *d, const sp_cu_epilogue *e, int i)
{
    d->algo = d->algos[i];
    d->workspace = d->needs[i];
    d->ready = true;
    /* without an activation only one algorithm takes the fused call */
    bool act = e->act == 1 || (e->act == 0 && d->algo == DNN_PRECOMP_GEMM);
    d->fuse = act && e->residual < 2;
}

void sp_cuda_dnn_plan(sparoa_dev *dev, sp_cuda_dnn *d, const sp_cu_window *window,
                      const sp_cu_epilogue *e, sp_cuda_math math)
{
    sp_cu_window w = *window;
    dnn_perf found[ALGORITHMS];
    int n = 0;
    memset(d, 0, sizeof *d);
    d->math = math;
    if (!dev->dnn || w.in[0] != 1 || w.kernel[0] != 1) return;
    plan_padding(d, &w);
    if (!describe(dev, d, &w, e)) return;
    pthread_mutex_lock(&dev->lock);
    if (dev->libs.dnn_get(dev->dnn, d->x, d->w, d->conv, d->y, ALGORITHMS, &n, found)) n = 0;
    pthread_mutex_unlock(&dev->lock);
    for (int i = 0; i < n && d->n_algos < SP_CUDA_DNN_ALGOS; i++) {
        if (found[i].status != 0 || found[i].memory > WORKSPACE_LIMIT) continue;
        bool exact = found[i].math == DNN_FMA_MATH || found[i].math == DNN_DEFAULT_MATH;
        if (math == SP_CUDA_MATH_F32 && !exact) continue;
        d->needs[d->n_algos] = found[i].memory;
        d->algos[d->n_algos++] = found[i].algo;
    }
    if (d->n_algos > 0) sp_cuda_dnn_choose(d, e, 0);
}

void sp_cuda_dnn_done(sparoa_dev *dev, sp_cuda_dnn *d)
{
    const sp_cuda_libs *l = &dev->libs;
    if (d->x) l->dnn_tensor_destroy(d->x);
    if (d->y) l->dnn_tensor_destroy(d->y);
    if (d->bias) l->dnn_tensor_destroy(d->bias);
    if (d->w) l->dnn_filter_destroy(d->w);
    if (d->conv) l->dnn_conv_destroy(d->conv);
    if (d->act) l->dnn_act_destroy(d->act);
}

bool sp_cuda_dnn_run(sparoa_dev *dev, sp_cuda_dnn *d, const sp_cu_epilogue *e, const void *x,
                     const void *weight, const void *bias, const void *residual, void *y,
                     int64_t count, void *workspace, cudaStream_t stream)
{
    const sp_cuda_libs *l = &dev->libs;
    const float one = 1, zero = 0;
    void *rest = (char *)workspace + d->pad_bytes;
    if (d->pad_bytes) {
        sp_cu_pad_run(&d->pad, x, NULL, workspace, stream);
        x = workspace;
    }
    int code = -1;
    pthread_mutex_lock(&dev->lock);
    l->dnn_set_stream(dev->dnn, stream);
    if (d->fuse && bias) {
        code = l->dnn_fused(dev->dnn, &one, d->x, x, d->w, weight, d->conv, d->algo, rest,
                            d->workspace, e->residual ? &one : &zero, d->y,
                            e->residual ? residual : y, d->bias, bias, d->act, d->y, y);
        d->fuse = code == 0;
    }
    bool finished = code == 0;
    if (!finished)
        code = l->dnn_forward(dev->dnn, &one, d->x, x, d->w, weight, d->conv, d->algo, rest,
                              d->workspace, &zero, d->y, y);
    pthread_mutex_unlock(&dev->lock);
    if (code != 0) {
        d->ready = false;
        return false;
    }
    if (!finished)
        sp_cu_epilogue_run(e, d->math == SP_CUDA_MATH_F16, y, bias, residual, count, stream);
    return true;
}
