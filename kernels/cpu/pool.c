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

/* One output vector, n of VL channels from `at` on: of count pixels `step` apart in each row. */
SP_INLINE vf window(const sp_pool_line_f32 *p, size_t at, size_t step, const size_t rows,
                    const ptrdiff_t count, const bool max, size_t n)
{
    vf v = max ? vf_splat(-INFINITY) : vf_zero();
    for (size_t r = 0; r < rows; r++) {
        const float *in = p->in[r] + at;
        for (ptrdiff_t k = 0; k < count; k++, in += step) {
            vf x = vf_get(in, n);
            v = max ? maximum(v, x) : v + x;
        }
    }
    return v;
}

/* A pixel whose window may reach beyond the image. */
static void edge_pixel(const sp_pool_line_f32 *p, size_t x)
{
    const ptrdiff_t width = (ptrdiff_t)p->in_width, first = (ptrdiff_t)x * p->stride - p->pad;
    ptrdiff_t k0 = 0, k1 = p->taps;
    while (k0 < k1 && first + k0 * p->dilation < 0) k0++;
    while (k1 > k0 && first + (k1 - 1) * p->dilation >= width) k1--;
    const size_t step = (size_t)p->dilation * p->channels;
    const size_t at = k0 < k1 ? (size_t)(first + k0 * p->dilation) * p->channels : 0;
    const vf scale = vf_splat(p->max ? 1 : p->scale[x]);
    float *out = p->out + x * p->channels;
    for (size_t c = 0; c < p->channels; c += VL) {
        size_t n = p->channels - c < VL ? p->channels - c : VL;
        vf v = p->max ? window(p, at + c, step, p->rows, k1 - k0, true, n)
                      : window(p, at + c, step, p->rows, k1 - k0, false, n) * scale;
        vf_put(out + c, v, n);
    }
}

/* Pixels x0..x1-1, whose windows are inside. rows, taps and max are constants where this is
 * inlined.
 */
SP_INLINE void inner_pixels(const sp_pool_line_f32 *p, size_t x0, size_t x1, const size_t rows,
                            const ptrdiff_t taps, const bool max)
{
    const size_t channels = p->channels, step = (size_t)p->dilation * channels;
    for (size_t x = x0; x < x1; x++) {
        const size_t at = (size_t)((ptrdiff_t)x * p->stride - p->pad) * channels;
        const vf scale = vf_splat(max ? 1 : p->scale[x]);
        float *out = p->out + x * channels;
        size_t c = 0;
        for (; c + VL <= channels; c += VL) {
            vf v = window(p, at + c, step, rows, taps, max, VL);
            vf_store(out + c, max ? v : v * scale);
        }
        if (c < channels) {
            vf v = window(p, at + c, step, rows, taps, max, channels - c);
            vf_store_n(out + c, max ? v : v * scale, channels - c);
        }
    }
}

typedef void inner_fn(const sp_pool_line_f32 *p, size_t x0, size_t x1);

#define INNER(rows, taps)                                                                          \
    static void max_##rows##x##taps(const sp_pool_line_f32 *p, size_t x0, size_t x1)               \
    {                                                                                              \
        inner_pixels(p, x0, x1, rows, taps, true);                                                 \
    }                                                                                              \
    static void sum_##rows##x##taps(const sp_pool_line_f32 *p, size_t x0, size_t x1)               \
    {                                                                                              \
        inner_pixels(p, x0, x1, rows, taps, false);                                                \
    }
INNER(2, 2)
INNER(3, 3)

static void inner_any(const sp_pool_line_f32 *p, size_t x0, size_t x1)
{
    if (p->max)
        inner_pixels(p, x0, x1, p->rows, p->taps, true);
    else
        inner_pixels(p, x0, x1, p->rows, p->taps, false);
}

void SP_KERNEL(sp_pool_line_f32)(const sp_pool_line_f32 *p)
{
    inner_fn *inner = inner_any;
    if (p->rows == 2 && p->taps == 2) inner = p->max ? max_2x2 : sum_2x2;
    if (p->rows == 3 && p->taps == 3) inner = p->max ? max_3x3 : sum_3x3;
    const ptrdiff_t reach = (p->taps - 1) * p->dilation + 1, room = (ptrdiff_t)p->in_width - reach;
    size_t x0 = p->pad > 0 ? (size_t)((p->pad - 1) / p->stride) + 1 : 0, x1 = 0;
    if (room + p->pad >= 0) x1 = (size_t)((room + p->pad) / p->stride) + 1;
    if (x0 > p->out_width) x0 = p->out_width;
    if (x1 > p->out_width) x1 = p->out_width;
    if (x1 < x0) x1 = x0;
    for (size_t x = 0; x < x0; x++) edge_pixel(p, x);
    inner(p, x0, x1);
    for (size_t x = x1; x < p->out_width; x++) edge_pixel(p, x);
}
