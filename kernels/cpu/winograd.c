/* The transforms of Winograd's F(4x4, 3x3) with the points 0, 1, -1, 2, -2 and infinity. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/protos.h"
#include "ops/epilogue.h"

/* y = G x: six values out of three. */
SP_INLINE void transform_weights(const vf *x, const int s, vf *y, const int r)
{
    vf a = (x[0] + x[2 * s]) * vf_splat(1.0f / 6), b = x[s] * vf_splat(1.0f / 6);
    vf c = vf_fma(x[2 * s], vf_splat(4), x[0]) * vf_splat(1.0f / 24),
       d = x[s] * vf_splat(1.0f / 12);
    y[0] = x[0] * vf_splat(0.25f);
    y[r] = -(a + b);
    y[2 * r] = b - a;
    y[3 * r] = c + d;
    y[4 * r] = c - d;
    y[5 * r] = x[2 * s];
}

void SP_KERNEL(sp_winograd_weights_f32)(const sp_winograd_weights_f32 *w, size_t p0, size_t p1)
{
    const size_t panels = gemm_panels(w->n);
    for (size_t p = p0; p < p1; p++) {
        const size_t width = gemm_panel_vectors(w->n, p, panels) * VL, first = p * NR;
        float *panel = w->packed + first * (w->k + 1);
        for (size_t i = 0; i < 36; i++)
            memset(panel + i * w->group, 0, width * sizeof(float)); /* the bias */
        for (size_t k = 0; k < w->k; k++)
            for (size_t j = 0; j < width; j += VL) {
                float lanes[9][VL] __attribute__((aligned(64))) = {{0}};
                vf g[9], t[18], u[36];
                for (size_t l = 0; l < VL && first + j + l < w->n; l++)
                    for (size_t i = 0; i < 9; i++)
                        lanes[i][l] = w->w[((first + j + l) * w->k + k) * 9 + i];
                for (int i = 0; i < 9; i++) g[i] = vf_load(lanes[i]);
                for (int i = 0; i < 3; i++) transform_weights(g + i, 3, t + i, 3);
                for (int i = 0; i < 6; i++) transform_weights(t + 3 * i, 1, u + 6 * i, 1);
                for (size_t i = 0; i < 36; i++)
                    vf_store(panel + i * w->group + (k + 1) * width + j, u[i]);
            }
    }
}

/* y = B^T x, six values s apart. */
SP_INLINE void transform_in(const vf *x, vf *y, const int s)
{
    const vf c4 = vf_splat(4), c5 = vf_splat(5), c2 = vf_splat(2);
    vf a = x[4 * s] - c4 * x[2 * s], b = x[3 * s] - c4 * x[s];
    vf c = x[4 * s] - x[2 * s], d = c2 * (x[3 * s] - x[s]);
    vf first = c4 * x[0] - c5 * x[2 * s] + x[4 * s];
    vf last = c4 * x[s] - c5 * x[3 * s] + x[5 * s];
    y[0] = first;
    y[s] = a + b;
    y[2 * s] = a - b;
    y[3 * s] = c + d;
    y[4 * s] = c - d;
    y[5 * s] = last;
}

void SP_KERNEL(sp_winograd_in_f32)(const sp_winograd_in_f32 *w)
{
    for (size_t c = 0; c < w->channels; c += VL) {
        size_t n = w->channels - c < VL ? w->channels - c : VL;
        vf t[36];
        if (n == VL)
            for (int i = 0; i < 36; i++) t[i] = vf_load(w->in[i] + c);
        else
            for (int i = 0; i < 36; i++) t[i] = vf_load_n(w->in[i] + c, n);
        for (int i = 0; i < 6; i++) transform_in(t + i, t + i, 6);
        for (int i = 0; i < 6; i++) transform_in(t + 6 * i, t + 6 * i, 1);
        for (int i = 0; i < 36; i++) {
            float *v = w->v + (size_t)i * w->v_stride + c;
            if (n == VL)
                vf_store(v, t[i]);
            else
                vf_store_n(v, t[i], n);
        }
    }
}

/* y = A^T x: four values out of six. */
SP_INLINE void transform_out(const vf *x, const int s, vf *y, const int r)
{
    vf a = x[s] + x[2 * s], b = x[s] - x[2 * s], c = x[3 * s] + x[4 * s], d = x[3 * s] - x[4 * s];
    y[0] = x[0] + a + c;
    y[r] = b + vf_splat(2) * d;
    y[2 * r] = a + vf_splat(4) * c;
    y[3 * r] = b + vf_splat(8) * d + x[5 * s];
}

static void finish(const sp_winograd_out_f32 *w, size_t c, size_t n, float *tile)
{
    const sp_gemm_epilogue *e = &w->epilogue;
    if (e->residual == 1)
        for (int y = 0; y < w->rows; y++)
            for (int x = 0; x < w->columns; x++) {
                float *p = tile + (y * 4 + x) * VL;
                size_t at = (size_t)y * w->line + (size_t)x * w->pixel + c;
                vf_store(p, vf_load(p) + vf_load_n(w->residual + at, n));
            }
    SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, 16 * VL, tile, tile);
    for (int y = 0; y < w->rows; y++)
        for (int x = 0; x < w->columns; x++) {
            size_t at = (size_t)y * w->line + (size_t)x * w->pixel + c;
            vf v = vf_load(tile + (y * 4 + x) * VL);
            if (e->residual == 2) v += vf_load_n(w->residual + at, n);
            vf_store_n(w->out + at, v, n);
        }
}

void SP_KERNEL(sp_winograd_out_f32)(const sp_winograd_out_f32 *w)
{
    for (size_t c = w->c0; c < w->c1; c += VL) {
        size_t n = w->c1 - c < VL ? w->c1 - c : VL;
        vf m[36], t[24], y[16];
        if (n == VL)
            for (int i = 0; i < 36; i++) m[i] = vf_load(w->m + (size_t)i * w->m_stride + c);
        else
            for (int i = 0; i < 36; i++) m[i] = vf_load_n(w->m + (size_t)i * w->m_stride + c, n);
        vf bias = w->bias ? vf_load_n(w->bias + c, n) : vf_zero();
        for (int i = 0; i < 6; i++) transform_out(m + i, 6, t + i, 6);
        for (int i = 0; i < 4; i++) transform_out(t + 6 * i, 1, y + 4 * i, 1);
        float tile[16 * VL] __attribute__((aligned(64)));
        for (int i = 0; i < 16; i++) vf_store(tile + i * VL, y[i] + bias);
        finish(w, c, n, tile);
    }
}
