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

/* Pixels first, first + step ... (count of them), of VL channels or the last n. */
SP_INLINE vf line_pixel(const float *first, size_t step, ptrdiff_t count, bool max, size_t n)
{
    vf v = max ? vf_splat(-INFINITY) : vf_zero();
    for (ptrdiff_t k = 0; k < count; k++, first += step) {
        vf x = n == VL ? vf_load(first) : vf_load_n(first, n);
        v = max ? maximum(v, x) : v + x;
    }
    return v;
}

void SP_KERNEL(sp_pool_line_f32)(const sp_pool_line_f32 *p)
{
    const ptrdiff_t width = (ptrdiff_t)p->in_width;
    const size_t step = (size_t)p->dilation * p->channels;
    for (size_t x = 0; x < p->out_width; x++) {
        ptrdiff_t first = (ptrdiff_t)x * p->stride - p->pad, k0 = 0, k1 = p->taps;
        while (k0 < k1 && first + k0 * p->dilation < 0) k0++;
        while (k1 > k0 && first + (k1 - 1) * p->dilation >= width) k1--;
        const float *in = p->in + (k0 < k1 ? first + k0 * p->dilation : 0) * (ptrdiff_t)p->channels;
        float *out = p->out + x * p->channels;
        const vf scale = vf_splat(p->max ? 1 : p->scale[x]);
        for (size_t c = 0; c < p->channels; c += VL) {
            size_t n = p->channels - c < VL ? p->channels - c : VL;
            vf v = p->max ? line_pixel(in + c, step, k1 - k0, true, n)
                          : line_pixel(in + c, step, k1 - k0, false, n) * scale;
            if (n == VL)
                vf_store(out + c, v);
            else
                vf_store_n(out + c, v, n);
        }
    }
}
