/* resize.h - what a Resize or Upsample node asks for, axis by axis in the order of storage. */
#ifndef SP_OPS_RESIZE_H
#define SP_OPS_RESIZE_H

#include "ops/check.h"

#define SP_RESIZE_MAX ((int64_t)1 << 40) /* longest axis */

typedef enum sp_resize_mode { SP_RESIZE_NEAREST, SP_RESIZE_LINEAR, SP_RESIZE_CUBIC } sp_resize_mode;

typedef enum sp_resize_coord {
    SP_COORD_HALF_PIXEL,
    SP_COORD_HALF_PIXEL_SYMMETRIC,
    SP_COORD_PYTORCH_HALF_PIXEL,
    SP_COORD_ALIGN_CORNERS,
    SP_COORD_ASYMMETRIC,
    SP_COORD_TF_HALF_PIXEL_FOR_NN,
    SP_COORD_TF_CROP_AND_RESIZE,
    SP_COORD_COUNT
} sp_resize_coord;

typedef enum sp_resize_nearest {
    SP_NEAREST_ROUND_PREFER_FLOOR,
    SP_NEAREST_ROUND_PREFER_CEIL,
    SP_NEAREST_FLOOR,
    SP_NEAREST_CEIL,
    SP_NEAREST_BY_DIRECTION, /* before version 11: down when growing, up when shrinking */
    SP_NEAREST_COUNT
} sp_resize_nearest;

typedef struct sp_resize_axis {
    int64_t in, out; /* -1: not known yet */
    double scale;
    double width;    /* in * scale, which may have a fraction */
    double from, to; /* region, as parts of the input */
    bool active;     /* the axis changes */
} sp_resize_axis;

typedef struct sp_resize {
    int32_t rank; /* -1: not known yet */
    sp_resize_mode mode;
    sp_resize_coord coord;
    sp_resize_nearest nearest;
    bool antialias, exclude_outside;
    double cubic_a, extrapolation;
    sp_resize_axis axis[SPAROA_MAX_RANK];
} sp_resize;

sparoa_status sp_resize_parse(const sparoa_node *node, sp_resize *r, sparoa_error *err);

/* One axis as a table: output o is the sum of weights[o * taps + t] * input[start[o] + t]; start
 * -1: the extrapolation value. Nearest has one tap and no weights. */
int64_t sp_resize_taps(const sp_resize *r, const sp_resize_axis *axis);
void sp_resize_table(const sp_resize *r, const sp_resize_axis *axis, int64_t *start,
                     double *weights);

#endif
