/* window.h - the geometry of pools and convolutions as the kernels want it. */
#ifndef SP_BACKENDS_CUDA_WINDOW_H
#define SP_BACKENDS_CUDA_WINDOW_H

#include "backends/cuda/cuda.h"
#include "ops/image.h"

/* Fills sizes and strides from the images and the window (of one to three dimensions, which is
 * changed); group is 1. Fails where a size does not fit an int32. */
sparoa_status sp_cuda_window(const sparoa_node *node, sp_window *w, bool nhwc, sp_cu_window *out,
                             sparoa_error *err);

#endif
