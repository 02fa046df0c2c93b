/*
 * One row times B, where much of the row is zero, as behind a ReLU: a list of the elements that are
 * not, and only their rows of B are read. An infinity or NaN of B beside a zero is not looked at.
 */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/protos.h"

#define CHUNK 1024 /* k of a list */
#define PANELS 8   /* that share a list */
#define SIDE 4     /* sums of a column */
/* Per cent of zeros from which on it pays, measured with AVX-512 and AVX2: rows of B come from
 * caches, or in an order that memory is slow with. */
#define LEAST_ZEROS 55
#define LEAST_ZEROS_FAR 85
#define FAR_FLOATS ((size_t)4 << 20)
#define AHEAD 8            /* elements of the list between fetching a row of B and using it */
#define LEAST_FLOATS 65536 /* of B; smaller ones are done before a list is */

bool SP_KERNEL(sp_gemm_skip_pays)(const sp_gemm_f32 *g)
{
    size_t zeros = 0;
    if (g->m != 1 || g->taps != 1 || g->n < PANELS * VL || g->n * g->k < LEAST_FLOATS) return false;
    const float *a = g->rows ? g->rows[0] : g->bases ? g->bases[0] : g->a;
    for (size_t k = 0; k < g->k; k++) zeros += a[k] == 0;
    return zeros * 100 >= g->k * (g->n * g->k > FAR_FLOATS ? LEAST_ZEROS_FAR : LEAST_ZEROS);
}

static size_t list_of(const float *a, size_t k0, size_t k1, uint32_t *list)
{
    size_t count = 0;
    for (size_t k = k0; k < k1; k++) {
        list[count] = (uint32_t)k;
        count += a[k] != 0;
    }
    return count;
}

/* Adds the products of a list to one panel's sums; b: the panel behind its bias. */
SP_INLINE void add_list(const float *a, const float *b, const uint32_t *list, size_t count,
                        float *sums, const int nv)
{
    const size_t width = (size_t)nv * VL;
    vf acc[SIDE][NV + 1];
    SP_UNROLL for (int s = 0; s < SIDE; s++) SP_UNROLL for (int j = 0; j < nv; j++) acc[s][j] =
        s ? vf_zero() : vf_load(sums + j * VL);
    size_t i = 0;
    for (; i + SIDE <= count; i += SIDE) SP_UNROLL for (int s = 0; s < SIDE; s++)
        {
            const float *row = b + list[i + (size_t)s] * width;
            const size_t next = i + (size_t)s + AHEAD < count ? i + (size_t)s + AHEAD : count - 1;
            const vf av = vf_splat(a[list[i + (size_t)s]]);
            for (size_t l = 0; l < width; l += 16)
                __builtin_prefetch(b + list[next] * width + l, 0, 3);
            SP_UNROLL for (int j = 0; j < nv; j++) acc[s][j] =
                vf_fma(av, vf_load(row + j * VL), acc[s][j]);
        }
    for (; i < count; i++) {
        const float *row = b + list[i] * width;
        const vf av = vf_splat(a[list[i]]);
        SP_UNROLL for (int j = 0; j < nv; j++) acc[0][j] =
            vf_fma(av, vf_load(row + j * VL), acc[0][j]);
    }
    SP_UNROLL for (int j = 0; j < nv; j++)
        vf_store(sums + j * VL, (acc[0][j] + acc[1][j]) + (acc[2][j] + acc[3][j]));
}

static void finish(const sp_gemm_f32 *g, size_t column, size_t columns, const float *bias,
                   float *sums)
{
    const sp_gemm_epilogue *e = &g->epilogue;
    const float *residual = e->residual ? g->residual + column : NULL;
    for (size_t j = 0; j < columns; j += VL) {
        const size_t n = columns - j < VL ? columns - j : VL;
        vf v = vf_load(sums + j) + vf_load(bias + j);
        if (e->residual == 1) v += vf_load_n(residual + j, n);
        vf_store(sums + j, v);
        SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, VL, sums + j, sums + j);
        v = vf_load(sums + j);
        if (e->residual == 2) v += vf_load_n(residual + j, n);
        vf_store_n(g->c + column + j, v, n);
    }
}

void SP_KERNEL(sp_gemm_skip_f32)(const sp_gemm_f32 *g, size_t p0, size_t p1)
{
    const float *a = g->rows ? g->rows[0] : g->bases ? g->bases[0] : g->a;
    const size_t panels = gemm_panels(g->n);
    float sums[PANELS][NR_MAX] __attribute__((aligned(64)));
    uint32_t list[CHUNK];
    for (size_t first = p0; first < p1; first += PANELS) {
        const size_t end = first + PANELS < p1 ? first + PANELS : p1;
        memset(sums, 0, sizeof sums);
        for (size_t k = 0; k < g->k; k += CHUNK) {
            const size_t count = list_of(a, k, k + CHUNK < g->k ? k + CHUNK : g->k, list);
            for (size_t p = first; p < end; p++) {
                const size_t vectors = gemm_panel_vectors(g->n, p, panels);
                const float *b = g->b + p * NR * (g->k + 1) + vectors * VL;
                if (vectors == 1) add_list(a, b, list, count, sums[p - first], 1);
                if (vectors == 2) add_list(a, b, list, count, sums[p - first], 2);
                if (vectors == 3) add_list(a, b, list, count, sums[p - first], 3);
            }
        }
        for (size_t p = first; p < end; p++) {
            const size_t width = gemm_panel_vectors(g->n, p, panels) * VL, column = p * NR;
            finish(g, column, g->n - column < width ? g->n - column : width,
                   g->b + column * (g->k + 1), sums[p - first]);
        }
    }
}
