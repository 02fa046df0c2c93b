/* conv.h - ways to convolve. conv.c prepares and runs, conv_tune.c chooses. */
#ifndef SP_BACKENDS_CUDA_CONV_H
#define SP_BACKENDS_CUDA_CONV_H

#include "backends/cuda/dnn.h"

typedef enum sp_cuda_conv_kind {
    SP_CUDA_CONV_PRODUCT,
    SP_CUDA_CONV_DEPTHWISE,
    SP_CUDA_CONV_DNN,
    SP_CUDA_CONV_IMPLICIT,
    SP_CUDA_CONV_TENSOR,
    SP_CUDA_CONV_WINOGRAD,
    SP_CUDA_CONV_FEW
} sp_cuda_conv_kind;

typedef struct sp_cuda_conv {
    sp_cuda_conv_kind kind;
    sp_cuda_math math;
    int splits; /* of the implicit product */
    bool large; /* its tiles */
    int way;    /* of the depthwise kernel */
    bool has_bias;
    sp_cuda_parts parts; /* of the product on tensor cores */
    sp_cu_window window;
    sp_cu_epilogue epilogue;
    sp_cuda_product product; /* of a pointwise convolution, or Winograd's */
    bool winograd;           /* it can be done so: then product is planned for it */
    sp_cuda_dnn dnn;
} sp_cuda_conv;

/* Room in bytes for Winograd's weights, and for the transformed image and results. */
size_t sp_cuda_winograd_weight_bytes(const sp_cu_window *w);
size_t sp_cuda_conv_workspace(const sp_cuda_conv *c);
/* weight: Winograd's where that is chosen. */
sparoa_status sp_cuda_conv_launch(sparoa_dev *dev, sp_cuda_conv *c, const void *x,
                                  const void *weight, const void *bias, const void *residual,
                                  void *y, void *workspace, cudaStream_t stream,
                                  const sparoa_node *node, sparoa_error *err);
/* Sets what c is to use; index: cuDNN's proposal. false: it can't. */
bool sp_cuda_conv_choose(sparoa_dev *dev, sp_cuda_conv *c, const sp_cuda_choice *choice);
/* Times the ways that are possible, on memory whose contents do not matter, and takes the fastest.
 */
void sp_cuda_conv_tune(sparoa_dev *dev, sp_cuda_conv *c);

#endif
