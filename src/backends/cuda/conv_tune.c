/* Choosing between cuDNN's algorithms, a product, our own implicit products and the shapes of the
 * other kernels by measuring them. */
#include "backends/cuda/conv.h"
#include "backends/cuda/sparse.h"

typedef struct trial {
    sparoa_dev *dev;
    sp_cuda_conv *conv;
    void *memory[6]; /* x, weight, bias, y and residual, workspace, Winograd's weight */
    size_t bytes[6];
    bool failed;
    float best_ms;
    sp_cuda_choice best;
} trial;

static void step(void *arg, cudaStream_t stream)
{
    trial *t = arg;
    sp_cuda_conv *c = t->conv;
    bool dnn = c->kind == SP_CUDA_CONV_DNN;
    sparoa_status status = sp_cuda_conv_launch(
        t->dev, c, t->memory[0], t->memory[c->kind == SP_CUDA_CONV_WINOGRAD ? 5 : 1],
        c->has_bias ? t->memory[2] : NULL, c->epilogue.residual ? t->memory[3] : NULL, t->memory[3],
        t->memory[4], stream, NULL, NULL);
    if (status != SPAROA_OK || (dnn && !c->dnn.ready)) t->failed = true;
}

static bool prepare_memory(trial *t, size_t workspace)
{
    const sp_cu_window *w = &t->conv->window;
    size_t size = sp_cuda_math_bytes(t->conv->math);
    int64_t taps = (int64_t)w->kernel[0] * w->kernel[1] * w->kernel[2];
    int64_t in = (int64_t)w->in[0] * w->in[1] * w->in[2];
    int64_t out = (int64_t)w->out[0] * w->out[1] * w->out[2];
    t->bytes[0] = (size_t)(w->n * in * w->c_in) * size;
    t->bytes[1] = (size_t)(w->c_out * taps * (w->c_in / w->group)) * size;
    t->bytes[2] = (size_t)w->c_out * size;
    t->bytes[3] = (size_t)(w->n * out * w->c_out) * size;
    t->bytes[4] = workspace;
    t->bytes[5] = t->conv->winograd ? sp_cuda_winograd_weight_bytes(w) : 0;
    for (int i = 0; i < 6; i++) {
        if (sp_cuda_alloc(t->dev, t->bytes[i], &t->memory[i]) != SPAROA_OK) return false;
        if (i != 4 && cudaMemset(t->memory[i], 0x3c, t->bytes[i]) != cudaSuccess) return false;
    }
    return cudaDeviceSynchronize() == cudaSuccess;
}

static void attempt(trial *t, sp_cuda_choice choice)
{
    t->failed = false;
    if (!sp_cuda_conv_choose(t->dev, t->conv, &choice)) return;
    if (sp_cuda_conv_workspace(t->conv) > t->bytes[4]) return;
    float ms = sp_cuda_time(t->dev, 10, step, t);
    if (t->failed || ms < 0 || (t->best_ms >= 0 && ms >= t->best_ms)) return;
    t->best_ms = ms;
    t->best = choice;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t most_workspace(const trial *t)
{
    const sp_cuda_conv *c = t->conv;
    int processors = t->dev->prop.multiProcessorCount, half = c->math == SP_CUDA_MATH_F16;
    size_t most = c->product.workspace;
    if (c->winograd) {
        sp_cuda_conv w = *c;
        w.kind = SP_CUDA_CONV_WINOGRAD;
        most = sp_cuda_conv_workspace(&w);
    }
    for (int i = 0; i < c->dnn.n_algos; i++)
        most = larger(most, c->dnn.needs[i] + c->dnn.pad_bytes);
    for (int i = 0; !half && i < 2; i++)
        most = larger(
            most, sp_cu_conv_workspace(&c->window, sp_cu_conv_splits(&c->window, i, processors)));
    for (int i = 0; sp_cuda_has_cores(t->dev, c->math) && i < SP_CU_TENSOR_TILES; i++)
        most = larger(most, sp_cu_tensor_workspace(
                                &c->window, sp_cu_tensor_splits(&c->window, half, i, processors)));
    return most;
}

static void try_parts(trial *t, sp_cuda_conv_kind kind, int tile, int splits)
{
    attempt(t, (sp_cuda_choice){kind, 0, tile, 1});
    if (splits > 1) attempt(t, (sp_cuda_choice){kind, 0, tile, splits});
    if (splits > 3) attempt(t, (sp_cuda_choice){kind, 0, tile, splits / 2});
}

static void try_all(trial *t, sp_cuda_conv_kind given)
{
    const sp_cuda_conv *c = t->conv;
    int processors = t->dev->prop.multiProcessorCount, half = c->math == SP_CUDA_MATH_F16;
    for (int i = 0; given == SP_CUDA_CONV_DEPTHWISE && i < SP_CU_DEPTHWISE_WAYS; i++)
        attempt(t, (sp_cuda_choice){given, 0, i, 1});
    if (given == SP_CUDA_CONV_DEPTHWISE) return;
    attempt(t, (sp_cuda_choice){SP_CUDA_CONV_FEW, 0, 0, 1});
    if (given == SP_CUDA_CONV_PRODUCT) attempt(t, (sp_cuda_choice){given, 0, 0, 1});
    if (c->product.sparse && t->dev->sparse_ways > 1) return;
    for (int i = 0; i < c->dnn.n_algos; i++)
        attempt(t, (sp_cuda_choice){SP_CUDA_CONV_DNN, i, 0, 1});
    if (c->winograd) attempt(t, (sp_cuda_choice){SP_CUDA_CONV_WINOGRAD, 0, 0, 1});
    for (int i = 0; !half && i < 2; i++)
        try_parts(t, SP_CUDA_CONV_IMPLICIT, i, sp_cu_conv_splits(&c->window, i, processors));
    /* a product has tried tensor cores itself */
    if (given == SP_CUDA_CONV_PRODUCT || !sp_cuda_has_cores(t->dev, c->math)) return;
    for (int i = 0; i < SP_CU_TENSOR_TILES; i++)
        try_parts(t, SP_CUDA_CONV_TENSOR, i, sp_cu_tensor_splits(&c->window, half, i, processors));
}

/* true: option way says what to take, and that can be. */
static bool forced(sparoa_dev *dev, sp_cuda_conv *c)
{
    const sp_cuda_choice wanted = {SP_CUDA_CONV_DEPTHWISE, 0, dev->way, 1};
    if (dev->way < 0) return false;
    if (c->kind == SP_CUDA_CONV_DEPTHWISE) return sp_cuda_conv_choose(dev, c, &wanted);
    return c->kind == SP_CUDA_CONV_FEW ||
           (c->kind == SP_CUDA_CONV_PRODUCT && c->product.kind == SP_CUDA_PRODUCT_THIN);
}

void sp_cuda_conv_tune(sparoa_dev *dev, sp_cuda_conv *c)
{
    const sp_cu_window *w = &c->window;
    char key[256];
    snprintf(key, sizeof key,
             "conv %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %lld", c->math,
             w->n, w->in[0], w->in[1], w->in[2], w->c_in, w->c_out, w->group, w->kernel[0],
             w->kernel[1], w->kernel[2], w->stride[1], w->stride[2], w->dilation[1], w->dilation[2],
             w->begin[1], w->end[1], w->begin[2], c->epilogue.act, c->epilogue.residual,
             c->has_bias, c->product.sparse ? (long long)c->product.sparse->csr.count : 0LL);
    trial t = {.dev = dev, .conv = c, .best_ms = -1};
    const sp_cuda_choice given = {c->kind, 0,
                                  c->kind == SP_CUDA_CONV_DEPTHWISE ? c->way : c->parts.tile,
                                  c->kind == SP_CUDA_CONV_IMPLICIT ? c->splits : 1};
    if (forced(dev, c)) return;
    if (sp_cuda_tuned_find(dev, key, &t.best) && sp_cuda_conv_choose(dev, c, &t.best)) return;
    t.best = given; /* what was kept may not fit, and has left its mark on c */
    if (prepare_memory(&t, most_workspace(&t))) try_all(&t, (sp_cuda_conv_kind)given.kind);
    if (!sp_cuda_conv_choose(dev, c, &t.best)) sp_cuda_conv_choose(dev, c, &given);
    if (t.best_ms >= 0) sp_cuda_tuned_keep(dev, key, &t.best);
    cudaDeviceSynchronize();
    for (int i = 0; i < 6; i++) sp_cuda_free(dev, t.memory[i], t.bytes[i]);
    cudaGetLastError();
}
