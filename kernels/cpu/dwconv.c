/*
 * Depthwise convolutions of images with the channel last: one row of outputs per call, TW pixels at
 * a time, VL channels innermost. Each input element is loaded once per tile and kernel row and used
 * by all outputs it reaches. Rows above and below the image are one zero pixel with stride 0; tiles
 * that reach beyond the left or right edge test each column.
 */
#include "kernels/cpu/protos.h"
#include "kernels/cpu/vmath.h"
#include "ops/epilogue.h"

#define TW 4

size_t SP_KERNEL(sp_dwconv_f32_packed_floats)(size_t channels, size_t taps)
{
    return (channels + VL - 1) / VL * VL * (taps + 1);
}

void SP_KERNEL(sp_dwconv_f32_pack)(size_t channels, size_t taps, const float *w, const float *bias,
                                   float *packed)
{
    for (size_t c = 0; c < channels; c += VL, packed += (taps + 1) * VL)
        for (size_t i = 0; i < VL; i++) {
            bool in = c + i < channels;
            packed[i] = in && bias ? bias[c + i] : 0;
            for (size_t t = 0; t < taps; t++)
                packed[(t + 1) * VL + i] = in ? w[(c + i) * taps + t] : 0;
        }
}

typedef struct strip {
    const sp_dwconv_f32 *d;
    vf lo, hi;
    bool bounded, simple;
} strip;

SP_INLINE void store_pixel(const strip *s, vf v, size_t pixel, size_t c, size_t n)
{
    const sp_dwconv_f32 *d = s->d;
    const sp_gemm_epilogue *e = &d->epilogue;
    size_t at = pixel * d->channels + c;
    if (e->residual == 1) v += vf_load_n(d->residual + at, n);
    if (s->bounded) v = vf_min(s->hi, vf_max(s->lo, v));
    if (!s->simple) {
        float buffer[VL] __attribute__((aligned(64)));
        vf_store(buffer, v);
        SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, VL, buffer, buffer);
        v = vf_load(buffer);
    }
    if (e->residual == 2) v += vf_load_n(d->residual + at, n);
    vf_store_n(d->out + at, v, n);
}

/* Outputs x..x+tw-1. kh, kw, stride and tw are constants where this is inlined; `edge`: columns may
 * lie outside. */
SP_INLINE void tile_run(const strip *s, size_t x, const int kh, const int kw, const int stride,
                        const int tw, const bool edge)
{
    const sp_dwconv_f32 *d = s->d;
    const int columns = (tw - 1) * stride + kw;
    const float *w = d->w;
    const ptrdiff_t first = (ptrdiff_t)x * stride - d->pad_left;
    for (size_t c = 0; c < d->channels; c += VL) {
        size_t n = d->channels - c < VL ? d->channels - c : VL;
        vf acc[TW];
        SP_UNROLL for (int t = 0; t < tw; t++) acc[t] = vf_load(w);
        w += VL;
        SP_UNROLL for (int ky = 0; ky < kh; ky++)
        {
            const ptrdiff_t step = (ptrdiff_t)d->in_stride[ky];
            const float *in = d->in[ky] + first * step + (ptrdiff_t)c;
            vf wk[8];
            SP_UNROLL for (int kx = 0; kx < kw; kx++) wk[kx] = vf_load(w + kx * VL);
            w += kw * VL;
            SP_UNROLL for (int j = 0; j < columns; j++)
            {
                vf v = vf_zero();
                if (!edge || (size_t)(first + j) < d->in_width)
                    v = n == VL ? vf_load(in + j * step) : vf_load_n(in + j * step, n);
                SP_UNROLL for (int t = 0; t < tw; t++)
                {
                    const int kx = j - t * stride;
                    if (kx >= 0 && kx < kw) acc[t] = vf_fma(v, wk[kx], acc[t]);
                }
            }
        }
        SP_UNROLL for (int t = 0; t < tw; t++) store_pixel(s, acc[t], x + (size_t)t, c, n);
    }
}

/* Any kernel, stride and dilation: one pixel at a time. */
static void pixel_run(const strip *s, size_t x)
{
    const sp_dwconv_f32 *d = s->d;
    const float *w = d->w;
    const ptrdiff_t first = (ptrdiff_t)x * d->stride_w - d->pad_left;
    for (size_t c = 0; c < d->channels; c += VL) {
        size_t n = d->channels - c < VL ? d->channels - c : VL;
        vf acc = vf_load(w);
        w += VL;
        for (int ky = 0; ky < d->kh; ky++)
            for (int kx = 0; kx < d->kw; kx++, w += VL) {
                ptrdiff_t at = first + (ptrdiff_t)kx * d->dilation_w;
                if ((size_t)at >= d->in_width) continue;
                const float *in = d->in[ky] + at * (ptrdiff_t)d->in_stride[ky] + c;
                acc = vf_fma(n == VL ? vf_load(in) : vf_load_n(in, n), vf_load(w), acc);
            }
        store_pixel(s, acc, x, c, n);
    }
}

#define ROW_FN(k, stride)                                                                          \
    static void tile_##k##_##stride(const strip *s, size_t x)                                      \
    {                                                                                              \
        tile_run(s, x, k, k, stride, TW, false);                                                   \
    }                                                                                              \
    static void edge_##k##_##stride(const strip *s, size_t x)                                      \
    {                                                                                              \
        tile_run(s, x, k, k, stride, TW, true);                                                    \
    }                                                                                              \
    static void one_##k##_##stride(const strip *s, size_t x)                                       \
    {                                                                                              \
        tile_run(s, x, k, k, stride, 1, true);                                                     \
    }
ROW_FN(3, 1)
ROW_FN(3, 2)
ROW_FN(5, 1)
ROW_FN(5, 2)

static const struct {
    int k, stride;
    void (*tile)(const strip *s, size_t x), (*edge)(const strip *s, size_t x),
        (*one)(const strip *s, size_t x);
} special[] = {
    {3, 1, tile_3_1, edge_3_1, one_3_1},
    {3, 2, tile_3_2, edge_3_2, one_3_2},
    {5, 1, tile_5_1, edge_5_1, one_5_1},
    {5, 2, tile_5_2, edge_5_2, one_5_2},
};

void SP_KERNEL(sp_dwconv_f32)(const sp_dwconv_f32 *d)
{
    const sp_gemm_epilogue *e = &d->epilogue;
    strip s = {.d = d, .lo = vf_zero(), .hi = vf_splat(INFINITY)};
    s.bounded = e->act == SP_ACT_RELU || e->act == SP_ACT_CLIP;
    s.simple = s.bounded || e->act == SP_ACT_NONE;
    if (e->act == SP_ACT_CLIP) s.lo = vf_splat(e->a), s.hi = vf_splat(e->b);
    size_t x = 0;
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        const int k = special[i].k, stride = special[i].stride;
        if (d->kh != k || d->kw != k || d->stride_w != stride || (k > 1 && d->dilation_w != 1))
            continue;
        for (; x + TW <= d->out_width; x += TW) {
            ptrdiff_t first = (ptrdiff_t)x * stride - d->pad_left,
                      end = first + (TW - 1) * stride + k;
            bool inside = first >= 0 && end <= (ptrdiff_t)d->in_width;
            (inside ? special[i].tile : special[i].edge)(&s, x);
        }
        for (; x < d->out_width; x++) special[i].one(&s, x);
        return;
    }
    for (; x < d->out_width; x++) pixel_run(&s, x);
}
