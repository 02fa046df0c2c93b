/* Choosing between cuDNN's algorithms, a product by cuBLASLt and our own implicit product by
 * measuring them. */
#include "backends/cuda/conv.h"

typedef struct trial {
    sparoa_dev *dev;
    sp_cuda_conv *conv;
    void *memory[5]; /* x, weight, bias, y and residual, workspace */
    size_t bytes[5];
    bool failed;
} trial;

static void step(void *arg, cudaStream_t stream)
{
    trial *t = arg;
    sp_cuda_conv *c = t->conv;
    bool dnn = c->kind == SP_CUDA_CONV_DNN;
    sparoa_status status = sp_cuda_conv_launch(
        t->dev, c, t->memory[0], t->memory[1], c->has_bias ? t->memory[2] : NULL,
        c->epilogue.residual ? t->memory[3] : NULL, t->memory[3], t->memory[4], stream, NULL, NULL);
    if (status != SPAROA_OK || (dnn && !c->dnn.ready)) t->failed = true;
}

static bool prepare_memory(trial *t, size_t workspace)
{
    const sp_cu_window *w = &t->conv->window;
    int64_t taps = (int64_t)w->kernel[0] * w->kernel[1] * w->kernel[2];
    int64_t in = (int64_t)w->in[0] * w->in[1] * w->in[2];
    int64_t out = (int64_t)w->out[0] * w->out[1] * w->out[2];
    t->bytes[0] = (size_t)(w->n * in * w->c_in) * sizeof(float);
    t->bytes[1] = (size_t)(w->c_out * taps * (w->c_in / w->group)) * sizeof(float);
    t->bytes[2] = (size_t)w->c_out * sizeof(float);
    t->bytes[3] = (size_t)(w->n * out * w->c_out) * sizeof(float);
    t->bytes[4] = workspace;
    for (int i = 0; i < 5; i++) {
        if (sp_cuda_alloc(t->dev, t->bytes[i], &t->memory[i]) != SPAROA_OK) return false;
        if (i < 4 && cudaMemset(t->memory[i], 0x3c, t->bytes[i]) != cudaSuccess) return false;
    }
    return cudaDeviceSynchronize() == cudaSuccess;
}

/* Tries what c is set to; keeps a copy of it where it beats the best so far. */
static void attempt(trial *t, const sp_cuda_conv *setting, sp_cuda_conv *best, float *best_ms)
{
    *t->conv = *setting;
    t->failed = false;
    float ms = sp_cuda_time(10, step, t);
    if (t->failed || ms < 0 || (*best_ms >= 0 && ms >= *best_ms)) return;
    *best_ms = ms;
    *best = *t->conv; /* with what the first run found out about fusing */
}

void sp_cuda_conv_tune(sparoa_dev *dev, sp_cuda_conv *c)
{
    const sp_cuda_conv given = *c;
    sp_cuda_conv best = given, setting = given;
    float best_ms = -1;
    trial t = {.dev = dev, .conv = c};
    size_t most = given.product.workspace;
    int splits = sp_cu_conv_splits(&given.window, dev->prop.multiProcessorCount);
    for (int i = 0; i < given.dnn.n_algos; i++)
        if (given.dnn.needs[i] + given.dnn.pad_bytes > most)
            most = given.dnn.needs[i] + given.dnn.pad_bytes;
    if (sp_cu_conv_workspace(&given.window, 2 * splits) > most)
        most = sp_cu_conv_workspace(&given.window, 2 * splits);
    if (prepare_memory(&t, most)) {
        if (given.kind == SP_CUDA_CONV_PRODUCT) attempt(&t, &given, &best, &best_ms);
        setting.kind = SP_CUDA_CONV_DNN;
        for (int i = 0; i < given.dnn.n_algos; i++) {
            sp_cuda_dnn_choose(&setting.dnn, &given.epilogue, i);
            attempt(&t, &setting, &best, &best_ms);
        }
        setting.kind = SP_CUDA_CONV_IMPLICIT;
        const int tries[3] = {1, splits, splits / 2};
        for (int i = 0; i < 3; i++) {
            if (i > 0 && tries[i] < 2) continue;
            setting.splits = tries[i];
            attempt(&t, &setting, &best, &best_ms);
        }
    }
    *c = best_ms >= 0 ? best : given;
    cudaDeviceSynchronize();
    for (int i = 0; i < 5; i++) sp_cuda_free(dev, t.memory[i], t.bytes[i]);
    cudaGetLastError();
}
