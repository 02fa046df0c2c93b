#include "ops/image.h"

sp_image sp_image_of(const sparoa_tensor *t, bool nhwc)
{
    sp_image v = {.n = t->dims[0], .c = t->dims[nhwc ? t->rank - 1 : 1]};
    int32_t spatial = t->rank - 2;
    int64_t stride = nhwc ? v.c : 1;
    for (int32_t i = SP_IMAGE_DIMS - 1, k = spatial - 1; i >= 0; i--, k--) {
        v.size[i] = k < 0 ? 1 : t->dims[k + (nhwc ? 1 : 2)];
        v.stride[i] = stride;
        stride *= v.size[i];
    }
    v.c_stride = nhwc ? 1 : stride;
    v.n_stride = nhwc ? stride : stride * v.c;
    return v;
}

static void move_last(int64_t *values, int32_t n, int64_t fill)
{
    int64_t moved[SP_IMAGE_DIMS];
    for (int32_t i = 0; i < SP_IMAGE_DIMS; i++) {
        int32_t k = i - (SP_IMAGE_DIMS - n);
        moved[i] = k < 0 ? fill : values[k];
    }
    memcpy(values, moved, sizeof moved);
}

void sp_window_to_3d(sp_window *w)
{
    move_last(w->in, w->spatial, 1);
    move_last(w->out, w->spatial, 1);
    move_last(w->kernel, w->spatial, 1);
    move_last(w->stride, w->spatial, 1);
    move_last(w->dilation, w->spatial, 1);
    move_last(w->pad_begin, w->spatial, 0);
    move_last(w->pad_end, w->spatial, 0);
    w->spatial = SP_IMAGE_DIMS;
}

sparoa_status sp_image_check_rank(const sparoa_node *node, int32_t rank, sparoa_error *err)
{
    if (rank < 0 || (rank >= 3 && rank <= 2 + SP_IMAGE_DIMS)) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input 0 has rank %d, expected 3 to %d",
                       rank, 2 + SP_IMAGE_DIMS);
}
