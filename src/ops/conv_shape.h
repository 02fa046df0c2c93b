/*
 * conv_shape.h - the geometry of operators that slide a window over an image: convolutions and
 * pools. One place reads kernel_shape, strides, dilations, pads and auto_pad, checks them, and
 * works out the output size.
 */
#ifndef SP_OPS_CONV_SHAPE_H
#define SP_OPS_CONV_SHAPE_H

#include "ops/op.h"

#define SP_MAX_SPATIAL (SPAROA_MAX_RANK - 2)

/* A window over `spatial` dimensions. -1 marks a size that is not known yet. */
typedef struct sp_window {
    int32_t spatial;
    int64_t in[SP_MAX_SPATIAL], out[SP_MAX_SPATIAL];
    int64_t kernel[SP_MAX_SPATIAL], stride[SP_MAX_SPATIAL], dilation[SP_MAX_SPATIAL];
    int64_t pad_begin[SP_MAX_SPATIAL],
        pad_end[SP_MAX_SPATIAL]; /* auto_pad resolved; -1: size not known */
} sp_window;

typedef struct sp_conv {
    int64_t batch, c_in, c_out, group; /* group is always known */
    sp_window w;
} sp_conv;

/* Reads the attributes of a window over in[0..spatial-1]. kernel: its sizes (-1: unknown), or NULL
 * to take them from kernel_shape, which must then be there. ceil_mode: the output size is rounded
 * up, without windows that start in the padding at the end. With auto_pad other than NOTSET, pads
 * are ignored. */
sparoa_status sp_window_shape(const sparoa_node *node, int32_t spatial, const int64_t *in,
                              const int64_t *kernel, bool ceil_mode, sp_window *w,
                              sparoa_error *err);

/* Geometry of a convolution of x [N, C, spatial...] (nhwc: [N, spatial..., C]) with weight [M,
 * C/group, kernel...]; both ranks must be known. Checks group, channels and kernel_shape. */
sparoa_status sp_conv_shape(const sparoa_node *node, const sparoa_tensor *x,
                            const sparoa_tensor *weight, bool nhwc, sp_conv *conv,
                            sparoa_error *err);

/* The same of a ConvTranspose of its node's first two inputs: out is known where in is, and pads
 * are those that output_shape or auto_pad ask for. */
sparoa_status sp_conv_transpose_shape(const sparoa_node *node, sp_conv *conv, sparoa_error *err);

/* Rank and dims of a convolution's output, as far as x and weight are known. Sets no type. */
sparoa_status sp_conv_infer(const sparoa_node *node, const sparoa_tensor *x,
                            const sparoa_tensor *weight, bool nhwc, sparoa_tensor *out,
                            sparoa_error *err);

#endif
