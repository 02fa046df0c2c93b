/* Floats to 8-bit integers by one scale, and the range that makes the scale. */
#include "kernels/cpu/protos.h"

typedef vi vi_u __attribute__((aligned(4), may_alias));

#define CHUNK 64

void SP_KERNEL(sp_range_f32)(size_t n, const float *x, float *least, float *most)
{
    vf lo[2] = {vf_zero(), vf_zero()}, hi[2] = {vf_zero(), vf_zero()};
    size_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) SP_UNROLL for (int j = 0; j < 2; j++)
        {
            vf v = vf_once(vf_load(x + i + (size_t)j * VL));
            lo[j] = vf_min(v, lo[j]);
            hi[j] = vf_max(v, hi[j]);
        }
    for (; i < n; i += VL) {
        vf v = vf_load_n(x + i, n - i < VL ? n - i : VL);
        lo[0] = vf_min(v, lo[0]);
        hi[0] = vf_max(v, hi[0]);
    }
    *least = -vf_hmax(-vf_min(lo[0], lo[1]));
    *most = vf_hmax(vf_max(hi[0], hi[1]));
}

/* In chunks, so that the compiler narrows many integers at a time. */
void SP_KERNEL(sp_quantize_f32)(size_t n, const sp_quantize_f32 *q, const float *x, uint8_t *y)
{
    const vf scale = vf_splat(q->scale), least = vf_splat((float)(q->lo - q->zero)),
             most = vf_splat((float)(q->hi - q->zero));
    int32_t wide[CHUNK];
    while (n > 0) {
        const size_t count = n < CHUNK ? n : CHUNK;
        for (size_t i = 0; i < count; i += VL) {
            const size_t c = count - i < VL ? count - i : VL;
            vf v = vf_min(vf_max(vf_get(x + i, c) / scale, least), most);
            *(vi_u *)(wide + i) = __builtin_convertvector(vf_round(v), vi) + q->zero;
        }
        if (count == CHUNK)
            for (size_t i = 0; i < CHUNK; i++) y[i] = (uint8_t)wide[i];
        else
            for (size_t i = 0; i < count; i++) y[i] = (uint8_t)wide[i];
        x += count, y += count, n -= count;
    }
}
