/*
 * Convolutions of groups of few channels, of images with the channel last: one row of outputs per
 * call, up to TW pixels at a time. A vector holds the outputs of as many groups as fit, side by
 * side. The inputs of those groups lie side by side as well; of each group its channel i, spread
 * over the group's outputs by a permutation, is what these are multiplied with: no product is made
 * that is not wanted. Each permuted input serves all outputs of the row that it reaches.
 */
#include "kernels/cpu/protos.h"
#include "ops/epilogue.h"

#define TW 7
#define HALF 4
#define QUARTER 2

typedef struct shape {
    size_t together; /* groups of a vector */
    size_t in, out;  /* channels of those */
} shape;

static shape shape_of(size_t c_in, size_t c_out)
{
    size_t n = VL / (c_in > c_out ? c_in : c_out);
    return (shape){n, n * c_in, n * c_out};
}

bool SP_KERNEL(sp_gconv_f32_takes)(size_t c_in, size_t c_out)
{
    return c_in <= VL / 2 && c_out <= VL / 2;
}

static size_t block_floats(size_t c_in, size_t taps)
{
    return (c_in * taps + 1) * VL;
}

size_t SP_KERNEL(sp_gconv_f32_packed_floats)(size_t groups, size_t c_in, size_t c_out, size_t taps)
{
    size_t together = shape_of(c_in, c_out).together;
    return (groups + together - 1) / together * block_floats(c_in, taps);
}

/* A block: biases, then for each tap and input channel one weight for each lane. */
void SP_KERNEL(sp_gconv_f32_pack)(const sp_gconv_f32_source *s, float *packed)
{
    const size_t together = shape_of(s->c_in, s->c_out).together;
    for (size_t g = 0; g < s->groups; g += together)
        for (size_t row = 0; row < s->c_in * s->taps + 1; row++, packed += VL)
            for (size_t lane = 0; lane < VL; lane++) {
                size_t group = g + lane / s->c_out, m = g * s->c_out + lane;
                bool in = lane / s->c_out < together && group < s->groups;
                packed[lane] = 0;
                if (in && row == 0 && s->bias) packed[lane] = s->bias[m];
                if (!in || row == 0) continue;
                size_t tap = (row - 1) / s->c_in, i = (row - 1) % s->c_in;
                packed[lane] = s->w[(m * s->c_in + i) * s->taps + tap];
            }
}

typedef struct row {
    const sp_gconv_f32 *d;
    vf lo, hi;
    bool bounds; /* all that the epilogue is */
    vi lanes[VL / 2];
} row;

/* What a tile works on: a block of groups. */
typedef struct block {
    const float *w;
    size_t in, out;     /* first channels */
    size_t left, count; /* channels from there on, at most VL; outputs that exist */
} block;

SP_INLINE void store_pixels(const row *s, const block *b, const vf *v, const int tw, size_t x)
{
    const sp_gconv_f32 *d = s->d;
    const size_t at = x * d->out_stride + b->out;
    if (s->bounds) {
        float *out = d->out + at;
        SP_UNROLL for (int t = 0; t < tw; t++, out += d->out_stride)
            vf_put(out, vf_min(s->hi, vf_max(s->lo, v[t])), b->count);
        return;
    }
    float sums[TW * VL] __attribute__((aligned(64)));
    SP_UNROLL for (int t = 0; t < tw; t++) vf_store(sums + t * VL, v[t]);
    SP_KERNEL(sp_finish_f32)
    (&(sp_finish_f32){.epilogue = &d->epilogue,
                      .rows = (size_t)tw,
                      .width = VL,
                      .columns = b->count,
                      .residual = d->residual ? d->residual + at : NULL,
                      .stride = d->out_stride,
                      .out = d->out + at,
                      .out_stride = d->out_stride},
     sums);
}

/* Outputs x..x+tw-1 of a block. k, stride, tw and `edge` are constants where this is inlined; edge:
 * columns may lie outside, `inside` has a bit for each that does not. */
SP_INLINE void tile_run(const row *s, const block *b, size_t x, uint32_t inside, const int k,
                        const int stride, const int tw, const bool edge)
{
    const sp_gconv_f32 *d = s->d;
    const int columns = (tw - 1) * stride + k;
    const ptrdiff_t first = (ptrdiff_t)x * stride - d->pad_left;
    const float *w = b->w + VL;
    vf acc[TW];
    SP_UNROLL for (int t = 0; t < tw; t++) acc[t] = vf_load(b->w);
    for (int ky = 0; ky < d->kh; ky++, w += (size_t)k * d->c_in * VL) {
        const ptrdiff_t step = (ptrdiff_t)d->in_stride[ky];
        if (step == 0) continue;
        const float *pixels = d->in[ky] + first * step + (ptrdiff_t)b->in;
        for (size_t i = 0; i < d->c_in; i++) {
            const vi lanes = s->lanes[i];
            const float *in = pixels;
            vf wk[8];
            SP_UNROLL for (int kx = 0; kx < k; kx++) wk[kx] =
                vf_load(w + ((size_t)kx * d->c_in + i) * VL);
            SP_UNROLL for (int j = 0; j < columns; j++, in += step)
            {
                if (edge && !(inside >> j & 1)) continue;
                vf v = vf_once(vf_permute(vf_load(in), lanes));
                SP_UNROLL for (int t = 0; t < tw; t++)
                {
                    const int kx = j - t * stride;
                    if (kx >= 0 && kx < k) acc[t] = vf_fma(v, wk[kx], acc[t]);
                }
            }
        }
    }
    store_pixels(s, b, acc, tw, x);
}

/* The same for any kernel, stride and dilation. */
SP_INLINE void any_run(const row *s, const block *b, size_t x, const int tw)
{
    const sp_gconv_f32 *d = s->d;
    const ptrdiff_t first = (ptrdiff_t)x * d->stride_w - d->pad_left;
    const float *w = b->w + VL;
    vf acc[TW];
    SP_UNROLL for (int t = 0; t < tw; t++) acc[t] = vf_load(b->w);
    for (int ky = 0; ky < d->kh; ky++)
        for (int kx = 0; kx < d->kw; kx++, w += d->c_in * VL) {
            const ptrdiff_t step = (ptrdiff_t)d->in_stride[ky];
            const ptrdiff_t at = first + (ptrdiff_t)kx * d->dilation_w;
            if (step == 0) continue;
            SP_UNROLL for (int t = 0; t < tw; t++)
            {
                const ptrdiff_t column = at + (ptrdiff_t)t * d->stride_w;
                if ((size_t)column >= d->in_width) continue;
                vf v = vf_get(d->in[ky] + column * step + (ptrdiff_t)b->in, b->left);
                for (size_t i = 0; i < d->c_in; i++)
                    acc[t] = vf_fma(vf_permute(v, s->lanes[i]), vf_load(w + i * VL), acc[t]);
            }
        }
    store_pixels(s, b, acc, tw, x);
}

typedef void tile_fn(const row *s, const block *b, size_t x, uint32_t inside);

#define TILE(name, k, stride, tw)                                                                  \
    static void name(const row *s, const block *b, size_t x, uint32_t inside)                      \
    {                                                                                              \
        if (inside + 1 == 1u << ((tw - 1) * (stride) + (k)))                                       \
            tile_run(s, b, x, inside, k, stride, tw, false);                                       \
        else                                                                                       \
            tile_run(s, b, x, inside, k, stride, tw, true);                                        \
    }
TILE(tile_3_1, 3, 1, TW)
TILE(half_3_1, 3, 1, HALF)
TILE(quarter_3_1, 3, 1, QUARTER)
TILE(one_3_1, 3, 1, 1)
TILE(tile_3_2, 3, 2, TW)
TILE(half_3_2, 3, 2, HALF)
TILE(quarter_3_2, 3, 2, QUARTER)
TILE(one_3_2, 3, 2, 1)

#define ANY(name, tw)                                                                              \
    static void name(const row *s, const block *b, size_t x, uint32_t unused)                      \
    {                                                                                              \
        any_run(s, b, x, tw);                                                                      \
    }
ANY(tile_any, TW)
ANY(half_any, HALF)
ANY(quarter_any, QUARTER)
ANY(one_any, 1)

static const int widths[] = {TW, HALF, QUARTER, 1};

static tile_fn *const tiles[3][4] = {
    {tile_any, half_any, quarter_any, one_any},
    {tile_3_1, half_3_1, quarter_3_1, one_3_1},
    {tile_3_2, half_3_2, quarter_3_2, one_3_2},
};

static uint32_t columns_inside(const sp_gconv_f32 *d, size_t x, int tw)
{
    const ptrdiff_t first = (ptrdiff_t)x * d->stride_w - d->pad_left;
    uint32_t inside = 0;
    for (int j = 0; j < (tw - 1) * d->stride_w + d->kw; j++)
        inside |= (uint32_t)((size_t)(first + j) < d->in_width) << j;
    return inside;
}

static void block_run(const row *s, const block *b)
{
    const sp_gconv_f32 *d = s->d;
    const bool special = d->kw == 3 && d->stride_w <= 2 && d->dilation_w == 1 && b->left == VL;
    size_t x = 0;
    for (int i = 0; i < 4; i++)
        for (; x + (size_t)widths[i] <= d->out_width; x += (size_t)widths[i]) {
            uint32_t inside = special ? columns_inside(d, x, widths[i]) : 0;
            tiles[special ? d->stride_w : 0][i](s, b, x, inside);
        }
}

/* Which of a vector's inputs, from `first` on, each of `count` outputs takes. */
static void spread(row *s, size_t first, size_t count)
{
    const sp_gconv_f32 *d = s->d;
    for (size_t i = 0; i < d->c_in; i++) {
        int32_t from[VL] = {0};
        for (size_t lane = 0; lane < count; lane++)
            from[lane] = (int32_t)(first + lane / d->c_out * d->c_in + i);
        s->lanes[i] = vi_lanes(from);
    }
}

void SP_KERNEL(sp_gconv_f32)(const sp_gconv_f32 *d)
{
    const sp_gemm_epilogue *e = &d->epilogue;
    const shape together = shape_of(d->c_in, d->c_out);
    row s = {.d = d, .lo = vf_splat(-INFINITY), .hi = vf_splat(INFINITY)};
    s.bounds =
        !e->residual && (e->act == SP_ACT_NONE || e->act == SP_ACT_RELU || e->act == SP_ACT_CLIP);
    if (e->act == SP_ACT_RELU) s.lo = vf_zero();
    if (e->act == SP_ACT_CLIP) s.lo = vf_splat(e->a), s.hi = vf_splat(e->b);
    const size_t inputs = d->groups * d->c_in, outputs = d->groups * d->c_out;
    block b = {.w = d->w};
    for (size_t in = 0; b.out < outputs; in += together.in, b.out += together.out) {
        /* The last ones may lie at the end of a vector that begins earlier. */
        b.in = inputs < VL || in + VL <= inputs ? in : inputs - VL;
        b.left = inputs - b.in < VL ? inputs - b.in : VL;
        b.count = outputs - b.out < together.out ? outputs - b.out : together.out;
        if (in == 0 || b.in < in || b.count < together.out) spread(&s, in - b.in, b.count);
        block_run(&s, &b);
        b.w += block_floats(d->c_in, (size_t)d->kh * (size_t)d->kw);
    }
}
