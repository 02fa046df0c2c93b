/* Products and depthwise convolutions of 8-bit integers, accumulated in 32 bits. The activations
 * are taken as unsigned: `flip` (0x80) turns signed ones into those, the zero points moved along by
 * the caller. */
#include "kernels/cpu/protos.h"
#if defined(SP_ISA_avx512)
#include "kernels/cpu/q8_dot.h"
#endif

/* Columns of a panel: two vectors of 32-bit lanes. B is packed [panel][k / group][column][group]
 * with as many values of k side by side as one instruction takes. Panels for the dot product may
 * end in one of one vector. */
#define COLUMNS (2 * VL)
#if defined(SP_ISA_generic)
#define ROWS 2
#else
#define ROWS 4
#endif

static size_t groups_of(size_t k, size_t group)
{
    return (k + group - 1) / group;
}

size_t SP_KERNEL(sp_gemm_q8_packed_bytes)(size_t n, size_t k, bool dot)
{
    size_t group = dot ? 4 : 2;
    return (n + COLUMNS - 1) / COLUMNS * groups_of(k, group) * group * COLUMNS;
}

void SP_KERNEL(sp_gemm_q8_pack)(size_t n, size_t k, bool dot, const int8_t *b, size_t n_stride,
                                int8_t *packed)
{
    size_t group = dot ? 4 : 2;
    for (size_t n0 = 0; n0 < n; n0 += COLUMNS) {
        size_t columns = dot && n - n0 <= VL ? VL : COLUMNS;
        for (size_t k0 = 0; k0 < k; k0 += group)
            for (size_t c = 0; c < columns; c++)
                for (size_t i = 0; i < group; i++)
                    *packed++ = n0 + c < n && k0 + i < k ? b[(n0 + c) * n_stride + k0 + i] : 0;
    }
}

/* Up to 4 bytes of a row as one number; what lies behind the row's end counts as zero. */
SP_INLINE uint32_t row_bytes(const uint8_t *a, size_t count, uint32_t flip)
{
    uint32_t v = 0;
    memcpy(&v, a, count);
    return v ^ flip;
}

/* The pair of bytes at k as two 16-bit halves of a lane, and two such products added to each lane
 * of c. */
SP_INLINE vi pair_step(vi c, uint32_t pair, const int8_t *b)
{
#if defined(SP_ISA_avx512)
    __m512i w = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)b));
    __m512i x = _mm512_set1_epi32((int)((pair & 0xffu) | (pair & 0xff00u) << 8));
    return (vi)_mm512_add_epi32((__m512i)c, _mm512_madd_epi16(x, w));
#elif defined(SP_ISA_avx2)
    __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)b));
    __m256i x = _mm256_set1_epi32((int)((pair & 0xffu) | (pair & 0xff00u) << 8));
    return (vi)_mm256_add_epi32((__m256i)c, _mm256_madd_epi16(x, w));
#else
    int32_t x0 = (int32_t)(pair & 0xffu), x1 = (int32_t)(pair >> 8 & 0xffu);
    for (int i = 0; i < VL; i++) c[i] += x0 * b[2 * i] + x1 * b[2 * i + 1];
    return c;
#endif
}

SP_INLINE void tile_pairs(const sp_gemm_q8 *g, const uint8_t *a, const int8_t *b, size_t rows,
                          int32_t *acc)
{
    vi c[ROWS][2] = {0};
    for (size_t k = 0; k < g->k; k += 2, b += 2 * COLUMNS) {
        size_t count = g->k - k < 2 ? 1 : 2;
        SP_UNROLL for (size_t r = 0; r < rows; r++)
        {
            uint32_t pair = row_bytes(a + r * g->lda + k, count, g->flip);
            c[r][0] = pair_step(c[r][0], pair, b);
            c[r][1] = pair_step(c[r][1], pair, b + 2 * VL);
        }
    }
    memcpy(acc, c, rows * sizeof c[0]);
}

/* acc -> 8 bits: the sums of a column get its offset and factor, then round to even, zero point and
 * range. */
SP_INLINE void requantize(const sp_q8_output *o, size_t column, size_t n,
                          const int32_t *restrict acc, uint8_t *restrict to)
{
    const int32_t *restrict offset = o->offset + column;
    const float *restrict factor = o->factor + column;
    const int32_t zero = o->zero;
    const float magic = 12582912.0f, least = (float)(o->lo - zero), most = (float)(o->hi - zero);
    for (size_t c = 0; c < n; c++) {
        float v = (float)(acc[c] + offset[c]) * factor[c];
        v = v > least ? v : least;
        v = v < most ? v : most;
        to[c] = (uint8_t)((int32_t)((v + magic) - magic) + zero);
    }
}

/* Whole panels have a constant width, which the compiler turns into a few vectors. */
SP_INLINE void requantize_panel(const sp_q8_output *o, size_t column, size_t n, const int32_t *acc,
                                uint8_t *to)
{
    if (n == COLUMNS)
        requantize(o, column, COLUMNS, acc, to);
    else
        requantize(o, column, n, acc, to);
}

void SP_KERNEL(sp_gemm_q8)(const sp_gemm_q8 *g, size_t m0, size_t m1)
{
#if defined(SP_ISA_avx512)
    if (g->dot) {
        gemm_dot(g, m0, m1);
        return;
    }
#endif
    int32_t acc[ROWS * COLUMNS];
    size_t panel = groups_of(g->k, 2) * 2 * COLUMNS;
    for (size_t m = m0; m < m1;) {
        size_t rows = m1 - m >= ROWS ? ROWS : 1;
        for (size_t n0 = 0; n0 < g->n; n0 += COLUMNS) {
            const uint8_t *a = g->a + m * g->lda;
            const int8_t *b = g->b + n0 / COLUMNS * panel;
            if (rows == ROWS)
                tile_pairs(g, a, b, ROWS, acc);
            else
                tile_pairs(g, a, b, 1, acc);
            size_t width = g->n - n0 < COLUMNS ? g->n - n0 : COLUMNS;
            for (size_t r = 0; r < rows; r++)
                requantize_panel(&g->out, n0, width, acc + r * COLUMNS,
                                 g->c + (m + r) * g->ldc + n0);
        }
        m += rows;
    }
}

size_t SP_KERNEL(sp_dwconv_q8_packed_bytes)(size_t channels, size_t kh, size_t kw)
{
#if defined(SP_ISA_avx512)
    return dwconv_dot_bytes(channels, kh, kw);
#else
    return 0; /* no such kernel */
#endif
}

void SP_KERNEL(sp_dwconv_q8_pack)(const sp_dwconv_q8_weights *w, int8_t *packed)
{
#if defined(SP_ISA_avx512)
    dwconv_dot_pack(w, packed);
#endif
}

void SP_KERNEL(sp_dwconv_q8_row)(const sp_dwconv_q8_row *d)
{
#if defined(SP_ISA_avx512)
    dwconv_dot_row(d);
#endif
}

/* One output pixel after the other; taps outside the image are NULL and count as the zero point,
 * which the offset has taken out already where taps are inside. */
void SP_KERNEL(sp_dwconv_q8)(const sp_dwconv_q8 *d, const uint8_t *const *in, uint8_t *out)
{
    int32_t acc[COLUMNS];
    for (size_t c0 = 0; c0 < d->channels; c0 += COLUMNS) {
        size_t width = d->channels - c0 < COLUMNS ? d->channels - c0 : COLUMNS;
        const int32_t *restrict w = d->w + c0;
        const int32_t flip = d->flip;
        memset(acc, 0, sizeof acc);
        for (size_t t = 0; t < d->taps; t++, w += d->channels) {
            const uint8_t *restrict x = in[t] + c0;
            if (width == COLUMNS)
                for (size_t c = 0; c < COLUMNS; c++) acc[c] += ((int32_t)x[c] ^ flip) * w[c];
            else
                for (size_t c = 0; c < width; c++) acc[c] += ((int32_t)x[c] ^ flip) * w[c];
        }
        requantize_panel(&d->out, c0, width, acc, out + c0);
    }
}

/* Bytes as signed numbers less their zero point times their scale; the product rounds before it is
 * added to anything, as the plain operator's does. */
SP_INLINE void dequantize(const uint8_t *restrict x, size_t n, const sp_q8_input *q,
                          float *restrict y)
{
    const int32_t bias = q->zero + (q->flip ? 128 : 0), flip = q->flip;
    for (size_t i = 0; i < n; i++) y[i] = (float)(((int32_t)x[i] ^ flip) - bias) * q->scale;
}

#define ADD_BLOCK 256

void SP_KERNEL(sp_add_q8)(size_t n, const uint8_t *a, const sp_q8_input *qa, const uint8_t *b,
                          const sp_q8_input *qb, const sp_q8_sum *y, uint8_t *out)
{
    float fa[ADD_BLOCK], fb[ADD_BLOCK];
    const float magic = 12582912.0f, least = (float)(y->lo - y->zero),
                most = (float)(y->hi - y->zero);
    for (size_t at = 0; at < n; at += ADD_BLOCK) {
        size_t count = n - at < ADD_BLOCK ? n - at : ADD_BLOCK;
        dequantize(a + at, count, qa, fa);
        dequantize(b + at, count, qb, fb);
        for (size_t i = 0; i < count; i++) {
            float v = (fa[i] + fb[i]) / y->scale;
            v = v > least ? v : least;
            v = v < most ? v : most;
            out[at + i] = (uint8_t)((int32_t)((v + magic) - magic) + y->zero);
        }
    }
}

void SP_KERNEL(sp_sum_q8)(size_t pixels, size_t channels, size_t stride, const uint8_t *x,
                          uint8_t flip, int32_t *sums)
{
    memset(sums, 0, channels * sizeof *sums);
    for (size_t p = 0; p < pixels; p++, x += stride)
        for (size_t c = 0; c < channels; c++) sums[c] += x[c] ^ flip;
}

void SP_KERNEL(sp_max_q8)(size_t channels, size_t taps, const uint8_t *const *in, uint8_t flip,
                          uint8_t *out)
{
    for (size_t c0 = 0; c0 < channels; c0 += 64) {
        size_t n = channels - c0 < 64 ? channels - c0 : 64;
        uint8_t m[64] = {0};
        for (size_t t = 0; t < taps; t++) {
            const uint8_t *x = in[t] + c0;
            if (n == 64)
                for (size_t c = 0; c < 64; c++) {
                    uint8_t v = x[c] ^ flip;
                    m[c] = m[c] > v ? m[c] : v;
                }
            else
                for (size_t c = 0; c < n; c++) {
                    uint8_t v = x[c] ^ flip;
                    m[c] = m[c] > v ? m[c] : v;
                }
        }
        for (size_t c = 0; c < n; c++) out[c0 + c] = m[c] ^ flip;
    }
}
