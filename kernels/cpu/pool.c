#include "kernels/cpu/protos.h"

SP_INLINE vf pixel(const sp_pool_f32 *p, size_t i, size_t c, size_t n)
{
    const float *x = (p->in ? p->in[i] : p->base + i * p->stride) + c;
    return n == VL ? vf_load(x) : vf_load_n(x, n);
}

/* NaN wins. */
SP_INLINE vf maximum(vf m, vf x)
{
    return vf_nan_or(m, vf_max(m, x));
}

/* Two chains, so that one doesn't wait for the other. */
void SP_KERNEL(sp_pool_f32)(const sp_pool_f32 *p)
{
    for (size_t c = 0; c < p->channels; c += VL) {
        size_t n = p->channels - c < VL ? p->channels - c : VL, i = 0;
        vf start = p->max ? vf_splat(-INFINITY) : vf_zero(), a = start, b = start;
        if (p->max) {
            for (; i + 2 <= p->count; i += 2) {
                a = maximum(a, pixel(p, i, c, n));
                b = maximum(b, pixel(p, i + 1, c, n));
            }
            if (i < p->count) a = maximum(a, pixel(p, i, c, n));
            vf_store_n(p->out + c, maximum(a, b), n);
        } else {
            for (; i + 2 <= p->count; i += 2) {
                a += pixel(p, i, c, n);
                b += pixel(p, i + 1, c, n);
            }
            if (i < p->count) a += pixel(p, i, c, n);
            vf_store_n(p->out + c, (a + b) * vf_splat(p->scale), n);
        }
    }
}
