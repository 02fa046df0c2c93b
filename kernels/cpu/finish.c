/* Epilogues that are more than bounds, on sums that wait in memory which is in the nearest cache.
 */
#include "kernels/cpu/protos.h"
#include "ops/epilogue.h"

void SP_KERNEL(sp_finish_f32)(const sp_finish_f32 *f, float *sums)
{
    const sp_gemm_epilogue *e = f->epilogue;
    const float *residual = e->residual ? f->residual : NULL;
    if (e->residual == 1)
        for (size_t i = 0; i < f->rows; i++)
            for (size_t j = 0; j < f->columns; j += VL) {
                size_t n = f->columns - j < VL ? f->columns - j : VL;
                float *p = sums + i * f->width + j;
                vf_store(p, vf_load(p) + vf_get(residual + i * f->stride + j, n));
            }
    SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, f->rows * f->width, sums, sums);
    for (size_t i = 0; i < f->rows; i++)
        for (size_t j = 0; j < f->columns; j += VL) {
            size_t n = f->columns - j < VL ? f->columns - j : VL;
            vf v = vf_load(sums + i * f->width + j);
            if (e->residual == 2) v += vf_get(residual + i * f->stride + j, n);
            vf_put(f->out + i * f->out_stride + j, v, n);
        }
}
