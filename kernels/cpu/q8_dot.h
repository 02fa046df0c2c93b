/* q8_dot.h - 8-bit products and depthwise convolutions by AVX-512's dot-product instruction: four
 * products and their sum in each 32-bit lane. Included by q8.c. */
#ifndef SP_KERNELS_CPU_Q8_DOT_H
#define SP_KERNELS_CPU_Q8_DOT_H

#include "kernels/cpu/protos.h"

#define DOT __attribute__((target("avx512vnni")))
#define DOT_INLINE DOT static inline __attribute__((always_inline))
#define DOT_ROWS 12
#define DOT_BLOCK 64 /* channels of a depthwise block */

/* sums += dot products. In assembly because gcc 12 keeps the accumulators of the intrinsic in
 * memory.
 */
DOT_INLINE void dot_add(__m512i *sums, __m512i x, __m512i w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(x), "v"(w));
}

typedef struct dot_range {
    __m512 least, most;
    __m512i zero;
} dot_range;

DOT_INLINE dot_range dot_range_of(int32_t zero, int32_t lo, int32_t hi)
{
    return (dot_range){_mm512_set1_ps((float)(lo - zero)), _mm512_set1_ps((float)(hi - zero)),
                       _mm512_set1_epi32(zero)};
}

/* Sums, their offsets in them, to integers of the output's range. */
DOT_INLINE __m512i dot_quantise(__m512i sums, __m512 factor, const dot_range *r)
{
    __m512 v = _mm512_max_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), factor), r->least);
    return _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_min_ps(v, r->most)), r->zero);
}

/* ---- product ---- */

/* Columns of a panel are 32, or 16 where no more are left. */
static inline size_t dot_panel(size_t n, size_t n0)
{
    return n - n0 > VL ? 2 * VL : VL;
}

/* 32 columns of two rows in one vector, to where they belong. */
DOT_INLINE void dot_store_rows(const sp_gemm_q8 *g, const __m512i q[4], uint8_t *c)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i a = _mm512_packs_epi32(q[0], q[1]), b = _mm512_packs_epi32(q[2], q[3]);
    __m512i bytes = g->out.lo < 0 ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
    bytes = _mm512_permutexvar_epi32(order, bytes);
    _mm256_storeu_si256((__m256i *)(void *)c, _mm512_castsi512_si256(bytes));
    _mm256_storeu_si256((__m256i *)(void *)(c + g->ldc), _mm512_extracti64x4_epi64(bytes, 1));
}

DOT_INLINE void dot_tile(const sp_gemm_q8 *g, const uint8_t *a, const int8_t *b, size_t column,
                         uint8_t *c, const int rows, const int nv)
{
    __m512i s[DOT_ROWS][2];
    SP_UNROLL for (int j = 0; j < nv; j++)
    {
        __m512i offset = _mm512_loadu_si512(g->out.offset + column + (size_t)j * VL);
        SP_UNROLL for (int r = 0; r < rows; r++) s[r][j] = offset;
    }
    const __m512i flip = _mm512_set1_epi32((int)g->flip);
    for (size_t k = 0; k < g->k; k += 4, b += nv * 4 * VL) {
        __m512i w[2];
        SP_UNROLL for (int j = 0; j < nv; j++) w[j] = _mm512_loadu_si512(b + j * 4 * VL);
        SP_UNROLL for (int r = 0; r < rows; r++)
        {
            int32_t word; /* behind the row's end weights are zero */
            memcpy(&word, a + (size_t)r * g->lda + k, 4);
            __m512i x = _mm512_xor_si512(_mm512_set1_epi32(word), flip);
            SP_UNROLL for (int j = 0; j < nv; j++) dot_add(&s[r][j], x, w[j]);
        }
    }
    const dot_range range = dot_range_of(g->out.zero, g->out.lo, g->out.hi);
    const size_t left = g->n - column;
    __m512 factor[2];
    SP_UNROLL for (int j = 0; j < nv; j++) factor[j] =
        _mm512_loadu_ps(g->out.factor + column + (size_t)j * VL);
    c += column;
    const bool whole = nv == 2 && left >= 2 * VL;
    if (whole) SP_UNROLL for (int p = 0; p < rows / 2; p++)
        {
            const __m512i q[4] = {dot_quantise(s[2 * p][0], factor[0], &range),
                                  dot_quantise(s[2 * p][1], factor[1], &range),
                                  dot_quantise(s[2 * p + 1][0], factor[0], &range),
                                  dot_quantise(s[2 * p + 1][1], factor[1], &range)};
            dot_store_rows(g, q, c + (size_t)(2 * p) * g->ldc);
        }
    SP_UNROLL for (int r = 0; r < rows; r++)
    {
        if (whole && (r < rows - 1 || rows % 2 == 0)) continue;
        SP_UNROLL for (int j = 0; j < nv; j++)
        {
            const size_t columns = left - (size_t)j * VL;
            const __mmask16 mask = (__mmask16)(columns >= VL ? 0xffff : (1u << columns) - 1);
            _mm_mask_storeu_epi8(c + (size_t)r * g->ldc + j * VL, mask,
                                 _mm512_cvtepi32_epi8(dot_quantise(s[r][j], factor[j], &range)));
        }
    }
}

typedef void dot_tile_fn(const sp_gemm_q8 *g, const uint8_t *a, const int8_t *b, size_t column,
                         uint8_t *c);

#define DOT_TILE(rows, nv)                                                                         \
    DOT static void dot_##rows##x##nv(const sp_gemm_q8 *g, const uint8_t *a, const int8_t *b,      \
                                      size_t column, uint8_t *c)                                   \
    {                                                                                              \
        dot_tile(g, a, b, column, c, rows, nv);                                                    \
    }
#define DOT_TILES(nv)                                                                              \
    DOT_TILE(1, nv)                                                                                \
    DOT_TILE(2, nv)                                                                                \
    DOT_TILE(3, nv)                                                                                \
    DOT_TILE(4, nv)                                                                                \
    DOT_TILE(5, nv)                                                                                \
    DOT_TILE(6, nv)                                                                                \
    DOT_TILE(7, nv)                                                                                \
    DOT_TILE(8, nv)                                                                                \
    DOT_TILE(9, nv)                                                                                \
    DOT_TILE(10, nv)                                                                               \
    DOT_TILE(11, nv)                                                                               \
    DOT_TILE(12, nv)
DOT_TILES(1)
DOT_TILES(2)

static dot_tile_fn *const dot_tiles[2][DOT_ROWS + 1] = {
    {NULL, dot_1x1, dot_2x1, dot_3x1, dot_4x1, dot_5x1, dot_6x1, dot_7x1, dot_8x1, dot_9x1,
     dot_10x1, dot_11x1, dot_12x1},
    {NULL, dot_1x2, dot_2x2, dot_3x2, dot_4x2, dot_5x2, dot_6x2, dot_7x2, dot_8x2, dot_9x2,
     dot_10x2, dot_11x2, dot_12x2},
};

static void gemm_dot(const sp_gemm_q8 *g, size_t m0, size_t m1)
{
    /* even tiles: 49 rows are 4 tiles of 10 and one of 9 */
    size_t rows = m1 - m0, count = (rows + DOT_ROWS - 1) / DOT_ROWS, depth = (g->k + 3) / 4 * 4;
    for (size_t i = 0, m = m0; i < count; i++) {
        size_t mr = rows / count + (i < rows % count);
        for (size_t n0 = 0; n0 < g->n; n0 += 2 * VL)
            dot_tiles[dot_panel(g->n, n0) > VL][mr](g, g->a + m * g->lda, g->b + n0 * depth, n0,
                                                    g->c + m * g->ldc);
        m += mr;
    }
}

/* ---- depthwise ---- */

/* Four kernel rows of 64 channels as four vectors with the rows of a channel side by side. Lane l
 * of vector j holds channels 16 l + 4 j up to 16 l + 4 j + 3: the order in which packing 32-bit
 * sums to bytes brings them back. */
static inline size_t dot_channel(size_t position)
{
    size_t j = position / VL, p = position % VL;
    return 16 * (p / 4) + 4 * j + p % 4;
}

static size_t dwconv_dot_bytes(size_t channels, size_t kh, size_t kw)
{
    size_t block = DOT_BLOCK * 8 + kw * ((kh + 3) / 4) * 4 * DOT_BLOCK;
    return (channels + DOT_BLOCK - 1) / DOT_BLOCK * block;
}

/* By block: offsets, factors, then [kx][group of 4 rows][4 vectors][16 channels][4 rows]. */
static void dwconv_dot_pack(const sp_dwconv_q8_weights *w, int8_t *packed)
{
    const size_t groups = (w->kh + 3) / 4;
    for (size_t c0 = 0; c0 < w->channels; c0 += DOT_BLOCK) {
        int32_t *offset = (int32_t *)(void *)packed;
        float *factor = (float *)(void *)(packed + 4 * DOT_BLOCK);
        for (size_t i = 0; i < DOT_BLOCK; i++) {
            size_t c = c0 + dot_channel(i);
            offset[i] = c < w->channels ? w->offset[c] : 0;
            factor[i] = c < w->channels ? w->factor[c] : 0;
        }
        packed += 8 * DOT_BLOCK;
        for (size_t kx = 0; kx < w->kw; kx++)
            for (size_t g = 0; g < groups; g++)
                for (size_t i = 0; i < DOT_BLOCK; i++)
                    for (size_t r = 0; r < 4; r++) {
                        size_t c = c0 + dot_channel(i), ky = 4 * g + r;
                        bool in = c < w->channels && ky < w->kh;
                        *packed++ = in ? w->w[(c * w->kh + ky) * w->kw + kx] : 0;
                    }
    }
}

DOT_INLINE void dot_interleave(const __m512i r[4], uint8_t *to)
{
    __m512i lo01 = _mm512_unpacklo_epi8(r[0], r[1]), hi01 = _mm512_unpackhi_epi8(r[0], r[1]);
    __m512i lo23 = _mm512_unpacklo_epi8(r[2], r[3]), hi23 = _mm512_unpackhi_epi8(r[2], r[3]);
    _mm512_storeu_si512(to, _mm512_unpacklo_epi16(lo01, lo23));
    _mm512_storeu_si512(to + 64, _mm512_unpackhi_epi16(lo01, lo23));
    _mm512_storeu_si512(to + 128, _mm512_unpacklo_epi16(hi01, hi23));
    _mm512_storeu_si512(to + 192, _mm512_unpackhi_epi16(hi01, hi23));
}

/* The columns of the image that a row of outputs looks at, padding included, interleaved. */
DOT_INLINE void dot_columns(const sp_dwconv_q8_row *d, size_t c0, __mmask64 mask)
{
    const size_t groups = (d->kh + 3) / 4,
                 count = (d->out_w - 1) * d->stride + (d->kw - 1) * d->dilation + 1;
    const __m512i flip = _mm512_set1_epi8((char)d->flip), pad = _mm512_set1_epi8((char)d->pad);
    for (size_t x = 0; x < count; x++) {
        const size_t ix = x - (size_t)d->pad_left;
        for (size_t g = 0; g < groups; g++) {
            __m512i r[4];
            SP_UNROLL for (size_t i = 0; i < 4; i++)
            {
                size_t ky = 4 * g + i;
                const uint8_t *row = ky < d->kh ? d->rows[ky] : NULL;
                r[i] = row && ix < d->in_w
                           ? _mm512_maskz_loadu_epi8(mask, row + ix * d->channels + c0)
                           : pad;
                r[i] = _mm512_xor_si512(r[i], flip);
            }
            dot_interleave(r, d->scratch + (x * groups + g) * 4 * DOT_BLOCK);
        }
    }
}

/* `count` outputs side by side, which share the weights that they load. */
DOT_INLINE void dot_pixels(const sp_dwconv_q8_row *d, const int8_t *packed, size_t at, size_t c0,
                           __mmask64 mask, const int count)
{
    const size_t column = (d->kh + 3) / 4 * 4 * DOT_BLOCK; /* bytes */
    const uint8_t *from = d->scratch + at * d->stride * column;
    __m512i s[4][4];
    SP_UNROLL for (int j = 0; j < 4; j++)
    {
        __m512i offset = _mm512_loadu_si512(packed + j * 64);
        SP_UNROLL for (int i = 0; i < count; i++) s[i][j] = offset;
    }
    const int8_t *w = packed + 8 * DOT_BLOCK;
    for (size_t kx = 0; kx < d->kw; kx++, from += d->dilation * column)
        for (size_t g = 0; g < column; g += 4 * DOT_BLOCK, w += 4 * DOT_BLOCK)
            SP_UNROLL for (int j = 0; j < 4; j++)
            {
                __m512i weights = _mm512_loadu_si512(w + j * 64);
                SP_UNROLL for (int i = 0; i < count; i++) dot_add(
                    &s[i][j],
                    _mm512_loadu_si512(from + (size_t)i * d->stride * column + g + (size_t)j * 64),
                    weights);
            }
    const dot_range range = dot_range_of(d->zero, d->lo, d->hi);
    SP_UNROLL for (int i = 0; i < count; i++)
    {
        __m512i q[4];
        SP_UNROLL for (int j = 0; j < 4; j++) q[j] = dot_quantise(
            s[i][j], _mm512_loadu_ps((const float *)(const void *)(packed + 256 + j * 64)), &range);
        __m512i a = _mm512_packs_epi32(q[0], q[1]), b = _mm512_packs_epi32(q[2], q[3]);
        __m512i bytes = d->lo < 0 ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
        _mm512_mask_storeu_epi8(d->out + (at + (size_t)i) * d->channels + c0, mask, bytes);
    }
}

DOT static void dwconv_dot_row(const sp_dwconv_q8_row *d)
{
    const size_t block = dwconv_dot_bytes(DOT_BLOCK, d->kh, d->kw);
    const int8_t *packed = d->packed;
    for (size_t c0 = 0; c0 < d->channels; c0 += DOT_BLOCK, packed += block) {
        size_t left = d->channels - c0, at = 0;
        __mmask64 mask = left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
        dot_columns(d, c0, mask);
        for (; at + 4 <= d->out_w; at += 4) dot_pixels(d, packed, at, c0, mask, 4);
        for (; at < d->out_w; at++) dot_pixels(d, packed, at, c0, mask, 1);
    }
}

#endif
