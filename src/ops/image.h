/* image.h - images of one to three spatial dimensions seen as [N, C, D, H, W] in either layout, for
 * operators that slide a window over them. */
#ifndef SP_OPS_IMAGE_H
#define SP_OPS_IMAGE_H

#include "ops/conv_shape.h"

#define SP_IMAGE_DIMS 3

/* Sizes and element strides; missing spatial dimensions, the outer ones, have size 1. */
typedef struct sp_image {
    int64_t n, c, size[SP_IMAGE_DIMS];
    int64_t n_stride, c_stride, stride[SP_IMAGE_DIMS];
} sp_image;

/* The tensor's shape must be known, with 1 to 3 spatial dimensions. */
sp_image sp_image_of(const sparoa_tensor *t, bool nhwc);

/* The same window with its dimensions moved to the last of three. */
void sp_window_to_3d(sp_window *w);

/* Fails for a known rank that is not 3 to 5. */
sparoa_status sp_image_check_rank(const sparoa_node *node, int32_t rank, sparoa_error *err);

/* The part first..end-1 of a window's taps that fall inside 0..in-1 where tap 0 lies at `at`. */
static inline void sp_taps_inside(int64_t at, int64_t kernel, int64_t dilation, int64_t in,
                                  int64_t *first, int64_t *end)
{
    *first = at < 0 ? (-at + dilation - 1) / dilation : 0;
    *end = at >= in ? 0 : (in - at + dilation - 1) / dilation;
    if (*end > kernel) *end = kernel;
    if (*end < *first) *end = *first;
}

#endif
