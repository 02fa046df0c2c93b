/* Means and variances of rows and columns of floats, and what normalisations do with them. */
#include "kernels/cpu/protos.h"

typedef double vd_u __attribute__((vector_size(VL * 4), aligned(8), may_alias));

void SP_KERNEL(sp_moments_f32)(size_t n, const float *x, float shift, double *sum, double *square)
{
    vd s[2] = {{0}, {0}}, q[2] = {{0}, {0}};
    const double k = shift;
    size_t i = 0;
    for (; i + VL <= n; i += VL) SP_UNROLL for (int j = 0; j < 2; j++)
        {
            vd d = vd_load(x + i + j * VD) - k;
            s[j] += d;
            q[j] += d * d;
        }
    double rest = 0, rest_square = 0;
    for (; i < n; i++) {
        double d = x[i] - k;
        rest += d;
        rest_square += d * d;
    }
    *sum += vd_sum(s[0] + s[1]) + rest;
    *square += vd_sum(q[0] + q[1]) + rest_square;
}

/* Rows of `columns` floats that are worked on together stay in the first-level cache. */
static size_t rows_at_once(size_t columns)
{
    return columns < 4096 ? 4096 / (columns + 1) + 1 : 1;
}

SP_INLINE void columns_moments(size_t n, int count, size_t columns, const float *x,
                               const float *shift, double *sum, double *square)
{
    vd k[2], s[2], q[2];
    SP_UNROLL for (int j = 0; j < count; j++)
    {
        k[j] = vd_load(shift + j * VD);
        s[j] = *(const vd_u *)(sum + j * VD);
        q[j] = *(const vd_u *)(square + j * VD);
    }
    for (size_t r = 0; r < n; r++, x += columns) SP_UNROLL for (int j = 0; j < count; j++)
        {
            vd d = vd_load(x + j * VD) - k[j];
            s[j] += d;
            q[j] += d * d;
        }
    SP_UNROLL for (int j = 0; j < count; j++)
    {
        *(vd_u *)(sum + j * VD) = s[j];
        *(vd_u *)(square + j * VD) = q[j];
    }
}

void SP_KERNEL(sp_moments_columns_f32)(size_t rows, size_t columns, const float *x,
                                       const float *shift, double *sum, double *square)
{
    const size_t most = rows_at_once(columns);
    for (size_t r = 0; r < rows; r += most, x += most * columns) {
        const size_t n = rows - r < most ? rows - r : most;
        size_t c = 0;
        for (; c + VL <= columns; c += VL)
            columns_moments(n, 2, columns, x + c, shift + c, sum + c, square + c);
        for (; c + VD <= columns; c += VD)
            columns_moments(n, 1, columns, x + c, shift + c, sum + c, square + c);
        for (; c < columns; c++)
            for (size_t k = 0; k < n; k++) {
                double d = (double)x[k * columns + c] - shift[c];
                sum[c] += d;
                square[c] += d * d;
            }
    }
}

void SP_KERNEL(sp_affine_f32)(size_t n, const sp_affine_f32 *a, const float *x, float *y)
{
    const vf mean = vf_splat(*a->mean), rest = vf_splat(*a->rest), scale = vf_splat(*a->scale),
             shift = vf_splat(*a->shift);
    for (size_t i = 0; i < n; i += VL) {
        const size_t c = n - i < VL ? n - i : VL;
        vf_put(y + i, vf_fma((vf_get(x + i, c) - mean) - rest, scale, shift), c);
    }
}

void SP_KERNEL(sp_affine_columns_f32)(size_t rows, size_t columns, const sp_affine_f32 *a,
                                      const float *x, float *y)
{
    const size_t most = rows_at_once(columns);
    for (size_t r = 0; r < rows; r += most, x += most * columns, y += most * columns) {
        const size_t n = rows - r < most ? rows - r : most;
        for (size_t i = 0; i < columns; i += VL) {
            const size_t c = columns - i < VL ? columns - i : VL;
            const vf mean = vf_get(a->mean + i, c), rest = vf_get(a->rest + i, c),
                     scale = vf_get(a->scale + i, c), shift = vf_get(a->shift + i, c);
            for (size_t k = i; k < n * columns; k += columns)
                vf_put(y + k, vf_fma((vf_get(x + k, c) - mean) - rest, scale, shift), c);
        }
    }
}
