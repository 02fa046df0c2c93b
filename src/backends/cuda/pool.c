/* Pools, and the geometry that convolutions share with them. */
#include "backends/cuda/window.h"
#include "ops/epilogue.h"

sparoa_status sp_cuda_window(const sparoa_node *node, sp_window *w, bool nhwc, sp_cu_window *out,
                             sparoa_error *err)
{
    sp_image x = sp_image_of(node->in[0], nhwc), y = sp_image_of(node->out[0], nhwc);
    sp_window_to_3d(w);
    *out = (sp_cu_window){.n = (int32_t)x.n,
                          .c_in = (int32_t)x.c,
                          .c_out = (int32_t)y.c,
                          .group = 1,
                          .x_n = x.n_stride,
                          .x_c = x.c_stride,
                          .y_n = y.n_stride,
                          .y_c = y.c_stride};
    bool fits = x.n <= INT32_MAX && x.c <= INT32_MAX && y.c <= INT32_MAX;
    for (int d = 0; d < 3; d++) {
        const int64_t sizes[] = {x.size[d],      y.size[d],       w->kernel[d], w->stride[d],
                                 w->dilation[d], w->pad_begin[d], w->pad_end[d]};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            fits = fits && sizes[i] >= 0 && sizes[i] < (1 << 29);
        int64_t reach;
        fits = fits && !__builtin_mul_overflow(w->kernel[d], w->dilation[d], &reach) &&
               reach < (1 << 29) && !__builtin_mul_overflow(y.size[d], w->stride[d], &reach) &&
               reach < (1 << 29);
        out->in[d] = (int32_t)x.size[d];
        out->out[d] = (int32_t)y.size[d];
        out->kernel[d] = (int32_t)w->kernel[d];
        out->stride[d] = (int32_t)w->stride[d];
        out->dilation[d] = (int32_t)w->dilation[d];
        out->begin[d] = (int32_t)w->pad_begin[d];
        out->end[d] = (int32_t)w->pad_end[d];
        out->x_s[d] = x.stride[d];
        out->y_s[d] = y.stride[d];
    }
    return fits ? SPAROA_OK
                : sparoa_fail(err, SPAROA_TOO_LARGE, node, "a size does not fit the CUDA kernel");
}

static const char *pool_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0);
    if (!x) return "no input";
    bool bytes = op == 0 && (x->dtype == SPAROA_INT8 || x->dtype == SPAROA_UINT8);
    if (!bytes && !sp_cuda_is_f32(node, 0) && !sp_cuda_all_half(dev, node, op))
        return "only float32, float16 and, for MaxPool, 8 bits";
    if (node->n_out > 1 && node->out[1]) return "indices";
    return x->rank >= 3 && x->rank <= 5 ? NULL : "an image of unknown or other rank";
}

static sparoa_status pool_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                  size_t *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    bool nhwc = sp_is_nhwc(node);
    sp_window w;
    (void)k, (void)workspace;
    SP_TRY(sp_window_shape(node, x->rank - 2, x->dims + (nhwc ? 1 : 2), NULL,
                           sparoa_attr_int(node, "ceil_mode", 0) != 0, &w, err));
    return sp_cuda_window(node, &w, nhwc, prepared, err);
}

static sparoa_status pool_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    int kind = k->op == 0 ? 0 : sparoa_attr_int(node, "count_include_pad", 0) ? 2 : 1;
    (void)workspace, (void)err;
    sp_cu_pool(kind, (sp_cu_type)sp_cuda_type(node->in[0]->dtype), prepared, node->in[0]->data,
               node->out[0]->data, stream);
    return SPAROA_OK;
}

/* ONNX MaxPool, versions 1 to 12 (no indices), and AveragePool, versions 1 to 19. */
SP_CUDA_KERNEL(Pool) = {.ops = SP_CUDA_NAMES("MaxPool", "AveragePool"),
                        .variant = "pool",
                        .half = sp_cuda_all_half,
                        .prepared_bytes = sizeof(sp_cu_window),
                        .refuses = pool_refuses,
                        .prepare = pool_prepare,
                        .run = pool_run};
