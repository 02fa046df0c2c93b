#include "kernels/cpu/gemm.h"
#include "kernels/cpu/protos.h"
#include "kernels/cpu/transpose.h"

size_t SP_KERNEL(sp_gemm_f32_panels)(size_t n)
{
    return gemm_panels(n);
}

/* Panel p is at p * NR * (k_total + 1): a row of bias, then k_total rows of B. */
size_t SP_KERNEL(sp_gemm_f32_packed_floats)(size_t n, size_t k_total)
{
    return (n + VL - 1) / VL * VL * (k_total + 1);
}

static void pack_row(const float *b, size_t stride, size_t count, size_t width, float scale,
                     float *dst)
{
    size_t i = 0;
    if (stride == 1 && scale == 1) {
        for (; i + VL <= count; i += VL) vf_store(dst + i, vf_load(b + i));
        for (; i < count; i++) dst[i] = b[i];
    } else {
        for (; i < count; i++) dst[i] = b[i * stride] * scale;
    }
    for (; i < width; i++) dst[i] = 0;
}

/* Columns that are one piece of memory each, all taps of k before k + 1: squares of them are turned
 * in registers. Returns how many values of each column are done. */
static size_t pack_squares(const sp_gemm_f32_source *s, const float *b, size_t count, size_t width,
                           float *dst)
{
    size_t total = s->k * s->taps / VL * VL;
    const vf scale = vf_splat(s->scale);
    if (s->k_stride != s->taps || (s->taps > 1 && s->tap_stride != 1)) return 0;
    for (size_t q = 0; q < total; q += VL)
        for (size_t i = 0; i < width; i += VL) {
            vf r[VL];
            SP_UNROLL for (size_t l = 0; l < VL; l++) r[l] =
                i + l < count ? vf_load(b + (i + l) * s->n_stride + q) : vf_zero();
            vf_transpose(r);
            for (size_t l = 0; l < VL; l++) {
                size_t row = s->taps == 1 ? q + l : (q + l) % s->taps * s->k + (q + l) / s->taps;
                vf_store(dst + row * width + i, r[l] * scale);
            }
        }
    return total / s->taps;
}

/* B stored by columns, taps innermost perhaps: 8 k at a time, so that each line of either side is
 * used up while it is in the cache. */
static void pack_columns(const sp_gemm_f32_source *s, const float *b, size_t count, size_t width,
                         float *dst)
{
    for (size_t k = pack_squares(s, b, count, width, dst); k < s->k; k += 8) {
        size_t end = k + 8 < s->k ? k + 8 : s->k;
        for (size_t i = 0; i < width; i++) {
            const float *column = b + (i < count ? i : 0) * s->n_stride;
            for (size_t j = k; j < end; j++)
                for (size_t t = 0; t < s->taps; t++) {
                    float v =
                        i < count ? column[j * s->k_stride + t * s->tap_stride] * s->scale : 0;
                    dst[(t * s->k + j) * width + i] = v;
                }
        }
    }
}

void SP_KERNEL(sp_gemm_f32_pack)(const sp_gemm_f32_source *s, size_t p0, size_t p1, float *packed)
{
    size_t panels = gemm_panels(s->n), k_total = s->k * s->taps;
    for (size_t p = p0; p < p1; p++) {
        size_t width = gemm_panel_vectors(s->n, p, panels) * VL, first = p * NR;
        size_t count = s->n - first < width ? s->n - first : width;
        float *dst = packed + first * (k_total + 1);
        for (size_t i = 0; i < width; i++) dst[i] = s->bias && i < count ? s->bias[first + i] : 0;
        dst += width;
        if (s->n_stride > s->k_stride) {
            pack_columns(s, s->b + first * s->n_stride, count, width, dst);
            continue;
        }
        for (size_t t = 0; t < s->taps; t++, dst += s->k * width) {
            const float *b = s->b + t * s->tap_stride + first * s->n_stride;
            for (size_t k = 0; k < s->k; k++)
                pack_row(b + k * s->k_stride, s->n_stride, count, width, s->scale, dst + k * width);
        }
    }
}

void SP_KERNEL(sp_gemm_f32_scale)(size_t n, size_t k, const float *packed, const float *scale,
                                  size_t p0, size_t p1, float *to)
{
    const size_t panels = gemm_panels(n);
    for (size_t p = p0; p < p1; p++) {
        const size_t width = gemm_panel_vectors(n, p, panels) * VL, first = p * NR * (k + 1);
        const float *from = packed + first;
        float *row = to + first;
        for (size_t i = 0; i < width; i += VL) vf_store(row + i, vf_load(from + i));
        for (size_t j = 0; j < k; j++) {
            const vf v = vf_splat(scale[j]);
            from += width, row += width;
            for (size_t i = 0; i < width; i += VL) vf_store(row + i, vf_load(from + i) * v);
        }
    }
}
