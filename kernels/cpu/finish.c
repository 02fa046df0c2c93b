/* Epilogues that are more than bounds, on sums that wait in memory which is in the nearest cache.
 */
#include "kernels/cpu/protos.h"
#include "ops/epilogue.h"

/* Sums and residual, to rows of `stride`. */
static void add_residual(const sp_finish_f32 *f, const float *sums, float *to, size_t stride)
{
    for (size_t i = 0; i < f->rows; i++)
        for (size_t j = 0; j < f->columns; j += VL) {
            size_t n = f->columns - j < VL ? f->columns - j : VL;
            vf v = vf_load(sums + i * f->width + j);
            vf_put(to + i * stride + j, v + vf_get(f->residual + i * f->stride + j, n), n);
        }
}

void SP_KERNEL(sp_finish_f32)(const sp_finish_f32 *f, float *sums)
{
    const sp_gemm_epilogue *e = f->epilogue;
    if (e->residual == 1) add_residual(f, sums, sums, f->width);
    if (e->residual == 2) {
        SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, f->rows * f->width, sums, sums);
        add_residual(f, sums, f->out, f->out_stride);
    } else if (f->columns == f->width && f->out_stride == f->width) {
        SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, f->rows * f->width, sums, f->out);
    } else {
        for (size_t i = 0; i < f->rows; i++) {
            float *out = f->out + i * f->out_stride;
            SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, f->columns, sums + i * f->width, out);
        }
    }
}
