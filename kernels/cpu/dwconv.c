/*
 * Depthwise convolutions of images with the channel last: one row of outputs per call, up to TW
 * pixels at a time, VL channels innermost. Each input element is loaded once per tile and kernel
 * row and used by all outputs it reaches; of two rows where registers suffice, since caches give
 * input more slowly than it can be multiplied. What lies outside the image is left out: rows above
 * and below have stride 0, and tiles that reach beyond the left or right edge test each column.
 */
#include "kernels/cpu/protos.h"
#include "kernels/cpu/vmath.h"
#include "ops/epilogue.h"

#define TW 7 /* the maps of most networks are multiples of 7 wide */
#define HALF 4
#ifdef SP_ISA_avx512
#define PAIRS /* 32 registers: two rows of sums and 9 weights; gcc 12 spills three with NEON */
#endif

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

typedef enum finish { FINISH_BOUNDS, FINISH_HARDSWISH, FINISH_SILU, FINISH_OTHER } finish;

typedef struct strip {
    const sp_dwconv_f32 *d;
    vf lo, hi;
    finish finish;
    int summed; /* pixels of the tile that are in the sums already */
} strip;

/* Residuals and the rarer activations, through memory. */
static __attribute__((noinline)) void finish_other(const strip *s, float *buffer, int count,
                                                   size_t at, size_t n)
{
    const sp_dwconv_f32 *d = s->d;
    const sp_gemm_epilogue *e = &d->epilogue;
    const float *residual = e->residual ? d->residual + at : NULL;
    if (e->residual == 1)
        for (int t = 0; t < count; t++) {
            float *p = buffer + t * VL;
            vf_store(p, vf_load(p) + vf_get(residual + (size_t)t * d->out_stride, n));
        }
    SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, (size_t)count * VL, buffer, buffer);
    for (int t = 0; t < count; t++) {
        vf v = vf_load(buffer + t * VL);
        if (e->residual == 2) v += vf_get(residual + (size_t)t * d->out_stride, n);
        vf_put(d->out + at + (size_t)t * d->out_stride, v, n);
        vf_store(buffer + t * VL, v);
    }
}

SP_INLINE void add_to_sums(const strip *s, const vf *v, const int count, size_t c, size_t n)
{
    float *sums = s->d->sums + c;
    vf sum = vf_zero();
    SP_UNROLL for (int t = 0; t < count; t++) if (t >= s->summed) sum += v[t];
    vf_put(sums, vf_get(sums, n) + sum, n);
}

/* `count` pixels, n of VL channels from c on, to out + at. */
SP_INLINE void store_pixels(const strip *s, vf *v, const int count, size_t at, size_t c, size_t n)
{
    const size_t stride = s->d->out_stride;
    float *out = s->d->out + at;
    if (s->finish == FINISH_OTHER) {
        float buffer[TW * VL] __attribute__((aligned(64)));
        SP_UNROLL for (int t = 0; t < count; t++) vf_store(buffer + t * VL, v[t]);
        finish_other(s, buffer, count, at, n);
        SP_UNROLL for (int t = 0; t < count; t++) v[t] = vf_load(buffer + t * VL);
    } else if (s->finish == FINISH_HARDSWISH) {
        SP_UNROLL for (int t = 0; t < count; t++, out += stride)
            vf_put(out, v[t] = vf_hardswish(v[t]), n);
    } else if (s->finish == FINISH_SILU) {
        SP_UNROLL for (int t = 0; t < count; t++, out += stride)
            vf_put(out, v[t] = vf_silu(v[t]), n);
    } else {
        const vf lo = s->lo, hi = s->hi;
        SP_UNROLL for (int t = 0; t < count; t++, out += stride)
            vf_put(out, v[t] = vf_min(hi, vf_max(lo, v[t])), n);
    }
    if (s->d->sums) add_to_sums(s, v, count, c, n);
}

/* Outputs x..x+tw-1 of the channels from c on: all VL, or the last `left`. kh, kw, stride, tw and
 * `all` are constants where this is inlined; `edge`: columns may lie outside, `inside` has a bit
 * for each that does not. */
SP_INLINE void block_run(const strip *s, size_t x, size_t c, const float *w, const int kh,
                         const int kw, const int stride, const int tw, const bool edge,
                         uint32_t inside, const bool all, size_t left)
{
    const sp_dwconv_f32 *d = s->d;
    const int columns = (tw - 1) * stride + kw;
    const ptrdiff_t first = (ptrdiff_t)x * stride - d->pad_left;
    vf acc[TW];
    SP_UNROLL for (int t = 0; t < tw; t++) acc[t] = vf_load(w);
    w += VL;
    for (int ky = 0; ky < kh; ky++, w += kw * VL) {
        const ptrdiff_t step = (ptrdiff_t)d->in_stride[ky];
        if (step == 0) continue;
        const float *in = d->in[ky] + first * step + (ptrdiff_t)c;
        vf wk[8];
        SP_UNROLL for (int kx = 0; kx < kw; kx++) wk[kx] = vf_load(w + kx * VL);
        SP_UNROLL for (int j = 0; j < columns; j++, in += step)
        {
            if (edge && !(inside >> j & 1)) continue;
            vf v = vf_once(all ? vf_load(in) : vf_load_n(in, left));
            SP_UNROLL for (int t = 0; t < tw; t++)
            {
                const int kx = j - t * stride;
                if (kx >= 0 && kx < kw) acc[t] = vf_fma(v, wk[kx], acc[t]);
            }
        }
    }
    store_pixels(s, acc, tw, x * d->out_stride + c, c, all ? VL : left);
}

#ifdef PAIRS
/* The same of two rows, for a 3x3 kernel that moves by one. */
SP_INLINE void pair_run(const strip *s, size_t x, size_t c, const float *w, const int tw,
                        const bool edge, uint32_t inside, const bool all, size_t left)
{
    const sp_dwconv_f32 *d = s->d;
    const ptrdiff_t first = (ptrdiff_t)x - d->pad_left;
    const size_t at = x * d->out_stride + c, n = all ? VL : left;
    vf acc[2][TW], wk[3][3];
    SP_UNROLL for (int t = 0; t < tw; t++) acc[0][t] = acc[1][t] = vf_load(w);
    SP_UNROLL for (int i = 0; i < 9; i++) wk[i / 3][i % 3] = vf_load(w + (1 + i) * VL);
    SP_UNROLL for (int ky = 0; ky < 4; ky++)
    {
        const ptrdiff_t step = (ptrdiff_t)d->in_stride[ky];
        if (step == 0) continue;
        const float *in = d->in[ky] + first * step + (ptrdiff_t)c;
        SP_UNROLL for (int j = 0; j < tw + 2; j++, in += step)
        {
            if (edge && !(inside >> j & 1)) continue;
            vf v = vf_once(all ? vf_load(in) : vf_load_n(in, left));
            SP_UNROLL for (int t = 0; t < tw; t++)
            {
                const int kx = j - t;
                if (kx < 0 || kx > 2) continue;
                if (ky < 3) acc[0][t] = vf_fma(v, wk[ky % 3][kx], acc[0][t]);
                if (ky > 0) acc[1][t] = vf_fma(v, wk[(ky + 2) % 3][kx], acc[1][t]);
            }
        }
    }
    store_pixels(s, acc[0], tw, at, c, n);
    store_pixels(s, acc[1], tw, at + d->next_row, c, n);
}
#endif

SP_INLINE void tile_run(const strip *s, size_t x, const int k, const int stride, const int tw,
                        const bool edge, const bool two)
{
    const sp_dwconv_f32 *d = s->d;
    const float *w = d->w;
    const int columns = (tw - 1) * stride + k;
    const ptrdiff_t first = (ptrdiff_t)x * stride - d->pad_left;
    uint32_t inside = 0;
    for (int j = 0; edge && j < columns; j++)
        inside |= (uint32_t)((size_t)(first + j) < d->in_width) << j;
    size_t c = 0;
#ifdef PAIRS
    if (two) {
        for (; c + VL <= d->channels; c += VL, w += 10 * VL)
            pair_run(s, x, c, w, tw, edge, inside, true, VL);
        if (c < d->channels) pair_run(s, x, c, w, tw, edge, inside, false, d->channels - c);
        return;
    }
#endif
    for (; c + VL <= d->channels; c += VL, w += (size_t)(1 + k * k) * VL)
        block_run(s, x, c, w, k, k, stride, tw, edge, inside, true, VL);
    if (c < d->channels)
        block_run(s, x, c, w, k, k, stride, tw, edge, inside, false, d->channels - c);
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
                if ((size_t)at >= d->in_width || d->in_stride[ky] == 0) continue;
                const float *in = d->in[ky] + at * (ptrdiff_t)d->in_stride[ky] + c;
                acc = vf_fma(vf_get(in, n), vf_load(w), acc);
            }
        store_pixels(s, &acc, 1, x * d->out_stride + c, c, n);
    }
}

/* Tiles of TW and HALF pixels and single ones, for square kernels. */
#define ROW_FN(name, k, stride, two)                                                               \
    static void tile_##name(const strip *s, size_t x)                                              \
    {                                                                                              \
        tile_run(s, x, k, stride, TW, false, two);                                                 \
    }                                                                                              \
    static void edge_##name(const strip *s, size_t x)                                              \
    {                                                                                              \
        tile_run(s, x, k, stride, TW, true, two);                                                  \
    }                                                                                              \
    static void half_##name(const strip *s, size_t x)                                              \
    {                                                                                              \
        tile_run(s, x, k, stride, HALF, true, two);                                                \
    }                                                                                              \
    static void one_##name(const strip *s, size_t x)                                               \
    {                                                                                              \
        tile_run(s, x, k, stride, 1, true, two);                                                   \
    }
#ifdef PAIRS
ROW_FN(pair, 3, 1, true)
#endif
ROW_FN(3_1, 3, 1, false)
ROW_FN(3_2, 3, 2, false)
ROW_FN(5_1, 5, 1, false)
ROW_FN(5_2, 5, 2, false)

typedef void tile_fn(const strip *s, size_t x);

typedef struct window {
    int k, stride;
    bool two;
    tile_fn *tile, *edge, *half, *one;
} window;

static const window special[] = {
#ifdef PAIRS
    {3, 1, true, tile_pair, edge_pair, half_pair, one_pair},
#endif
    {3, 1, false, tile_3_1, edge_3_1, half_3_1, one_3_1},
    {3, 2, false, tile_3_2, edge_3_2, half_3_2, one_3_2},
    {5, 1, false, tile_5_1, edge_5_1, half_5_1, one_5_1},
    {5, 2, false, tile_5_2, edge_5_2, half_5_2, one_5_2},
};

static void row_run(strip *s, const window *w)
{
    const sp_dwconv_f32 *d = s->d;
    size_t x = 0;
    for (; x + TW <= d->out_width; x += TW) {
        ptrdiff_t first = (ptrdiff_t)x * w->stride - d->pad_left,
                  end = first + (TW - 1) * w->stride + w->k;
        bool inside = first >= 0 && end <= (ptrdiff_t)d->in_width;
        (inside ? w->tile : w->edge)(s, x);
    }
    /* The rest overlaps what is done where that saves single pixels: the same values once more,
     * unless a residual may lie where they go. */
    if (x + HALF <= d->out_width) {
        w->half(s, x);
        x += HALF;
    }
    if (x + 1 < d->out_width && d->out_width >= HALF && d->epilogue.residual == 0) {
        s->summed = (int)(x + HALF - d->out_width);
        w->half(s, d->out_width - HALF);
        return;
    }
    for (; x < d->out_width; x++) w->one(s, x);
}

void SP_KERNEL(sp_dwconv_f32)(const sp_dwconv_f32 *d)
{
    const sp_gemm_epilogue *e = &d->epilogue;
    strip s = {.d = d, .lo = vf_splat(-INFINITY), .hi = vf_splat(INFINITY)};
    bool bounds = e->act == SP_ACT_NONE || e->act == SP_ACT_RELU || e->act == SP_ACT_CLIP;
    if (!bounds) s.finish = FINISH_OTHER;
    if (e->act == SP_ACT_HARDSWISH) s.finish = FINISH_HARDSWISH;
    if (e->act == SP_ACT_SILU) s.finish = FINISH_SILU;
    if (e->residual) s.finish = FINISH_OTHER;
    if (e->act == SP_ACT_RELU) s.lo = vf_zero();
    if (e->act == SP_ACT_CLIP) s.lo = vf_splat(e->a), s.hi = vf_splat(e->b);
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        const window *w = &special[i];
        if (d->kh != w->k || d->kw != w->k || d->stride_w != w->stride || d->dilation_w != 1 ||
            d->two != w->two)
            continue;
        row_run(&s, w);
        return;
    }
    if (d->two) {
        sp_dwconv_f32 one = *d;
        one.two = false;
        SP_KERNEL(sp_dwconv_f32)(&one);
        one.in++, one.in_stride++, one.out += d->next_row;
        if (one.residual) one.residual += d->next_row;
        SP_KERNEL(sp_dwconv_f32)(&one);
        return;
    }
    for (size_t x = 0; x < d->out_width; x++) pixel_run(&s, x);
}
