/* dnn.h - one convolution by cuDNN: images with the channel last, weights [c_out][kh][kw][c_in /
 * group]. */
#ifndef SP_BACKENDS_CUDA_DNN_H
#define SP_BACKENDS_CUDA_DNN_H

#include "backends/cuda/cuda.h"

#define SP_CUDA_DNN_ALGOS 4

typedef struct sp_cuda_dnn {
    void *x, *w, *y, *bias, *conv, *act; /* descriptors */
    int algos[SP_CUDA_DNN_ALGOS], n_algos,
        algo;                        /* what cuDNN proposes, best first; the one to use */
    size_t needs[SP_CUDA_DNN_ALGOS]; /* workspace of each */
    sp_cuda_math math;
    bool ready, fuse;            /* fuse: bias, residual and ReLU in the same call */
    size_t workspace, pad_bytes; /* the padded image, which comes first in the workspace */
    sp_cu_pad pad;
} sp_cuda_dnn;

/* ready stays false where cuDNN can't do it. */
void sp_cuda_dnn_plan(sparoa_dev *dev, sp_cuda_dnn *d, const sp_cu_window *w,
                      const sp_cu_epilogue *e, sp_cuda_math math);
/* Takes proposal i. */
void sp_cuda_dnn_choose(sp_cuda_dnn *d, const sp_cu_epilogue *e, int i);
void sp_cuda_dnn_done(sparoa_dev *dev, sp_cuda_dnn *d);
/* false: cuDNN refused, and nothing was enqueued. bias may be NULL. */
bool sp_cuda_dnn_run(sparoa_dev *dev, sp_cuda_dnn *d, const sp_cu_epilogue *e, const void *x,
                     const void *weight, const void *bias, const void *residual, void *y,
                     int64_t count, void *workspace, cudaStream_t stream);

#endif
