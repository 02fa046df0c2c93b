/* Sums, products and extremes of floats, in double, one result per row or per column; and where the
 * extremes are. */
#include "kernels/cpu/protos.h"

typedef double vd_u __attribute__((vector_size(VL * 4), aligned(8), may_alias));

SP_INLINE vd vd_abs(vd x)
{
    return (vd)((vl)x & INT64_MAX);
}

SP_INLINE vd vd_fold(sp_fold fold, vd a, vd x)
{
    switch (fold) {
    case SP_FOLD_SQUARE: return a + x * x;
    case SP_FOLD_ABS: return a + vd_abs(x);
    case SP_FOLD_PROD: return a * x;
    default: return a + x;
    }
}

SP_INLINE double fold_one(sp_fold fold, double a, double x)
{
    switch (fold) {
    case SP_FOLD_SQUARE: return a + x * x;
    case SP_FOLD_ABS: return a + __builtin_fabs(x);
    case SP_FOLD_PROD: return a * x;
    case SP_FOLD_MAX: return x > a || x != x ? x : a;
    case SP_FOLD_MIN: return x < a || x != x ? x : a;
    default: return a + x;
    }
}

/* Where either is NaN, so is the result. */
SP_INLINE vf vf_extreme(sp_fold fold, vf a, vf x)
{
    return vf_nan_or(x, fold == SP_FOLD_MAX ? vf_max(x, a) : vf_min(x, a));
}

/* ---- rows ---- */

SP_INLINE double row_total(sp_fold fold, size_t n, const float *x)
{
    const double none = fold == SP_FOLD_PROD;
    vd a[4];
    for (int j = 0; j < 4; j++) a[j] = (vd){0} + none;
    size_t i = 0;
    for (; i + 4 * VD <= n; i += 4 * VD)
        SP_UNROLL for (int j = 0; j < 4; j++) a[j] = vd_fold(fold, a[j], vd_load(x + i + j * VD));
    SP_UNROLL for (int j = 0; j < 3; j++) if (i + VD <= n)
    {
        a[j] = vd_fold(fold, a[j], vd_load(x + i));
        i += VD;
    }
    double rest = none;
    for (; i < n; i++) rest = fold_one(fold, rest, x[i]);
    if (fold != SP_FOLD_PROD) return vd_sum((a[0] + a[1]) + (a[2] + a[3])) + rest;
    a[0] = (a[0] * a[1]) * (a[2] * a[3]);
    for (int k = 0; k < VD; k++) rest *= a[0][k];
    return rest;
}

SP_INLINE double row_extreme(sp_fold fold, size_t n, const float *x)
{
    double best = x[0];
    if (n < VL) {
        for (size_t i = 1; i < n; i++) best = fold_one(fold, best, x[i]);
        return best;
    }
    vf a = vf_load(x), b = vf_load(x + n - VL);
    for (size_t i = VL; i + 2 * VL < n; i += 2 * VL) {
        a = vf_extreme(fold, a, vf_load(x + i));
        b = vf_extreme(fold, b, vf_load(x + i + VL));
    }
    if (n > 2 * VL) a = vf_extreme(fold, a, vf_load(x + n - 2 * VL));
    a = vf_extreme(fold, a, b);
    if (vf_any_nan(a)) return NAN;
    return fold == SP_FOLD_MAX ? vf_hmax(a) : -vf_hmax(-a);
}

SP_INLINE void fold_rows(sp_fold fold, size_t rows, size_t n, const float *x, size_t stride,
                         double *acc)
{
    const bool extreme = fold == SP_FOLD_MAX || fold == SP_FOLD_MIN;
    for (size_t r = 0; n && r < rows; r++, x += stride) {
        double v = extreme ? row_extreme(fold, n, x) : row_total(fold, n, x);
        acc[r] = fold == SP_FOLD_PROD ? acc[r] * v
                 : extreme            ? fold_one(fold, acc[r], v)
                                      : acc[r] + v;
    }
}

/* ---- columns ---- */

#define WIDE 4 /* vectors of columns at a time */

/* `vectors` whole ones, the last of them `last` columns from the first; it may overlap the one
 * before. */
SP_INLINE void columns_total(sp_fold fold, size_t n, int vectors, size_t last, const float *x,
                             size_t stride, double *acc)
{
    vd a[2 * WIDE];
    SP_UNROLL for (int j = 0; j < 2 * vectors; j++)
    {
        size_t at = j / 2 == vectors - 1 ? last : (size_t)(j / 2) * VL;
        a[j] = *(const vd_u *)(acc + at + j % 2 * VD);
    }
    for (size_t k = 0; k < n; k++, x += stride) SP_UNROLL for (int j = 0; j < 2 * vectors; j++)
        {
            size_t at = j / 2 == vectors - 1 ? last : (size_t)(j / 2) * VL;
            a[j] = vd_fold(fold, a[j], vd_load(x + at + j % 2 * VD));
        }
    SP_UNROLL for (int j = 0; j < 2 * vectors; j++)
    {
        size_t at = j / 2 == vectors - 1 ? last : (size_t)(j / 2) * VL;
        *(vd_u *)(acc + at + j % 2 * VD) = a[j];
    }
}

SP_INLINE void columns_extreme(sp_fold fold, size_t n, int vectors, size_t last, const float *x,
                               size_t stride, double *acc)
{
    vf a[WIDE];
    float best[VL];
    SP_UNROLL for (int j = 0; j < vectors; j++) a[j] =
        vf_load(x + (j == vectors - 1 ? last : (size_t)j * VL));
    const float *row = x + stride;
    for (size_t k = 1; k < n; k++, row += stride) SP_UNROLL for (int j = 0; j < vectors; j++)
        {
            size_t at = j == vectors - 1 ? last : (size_t)j * VL;
            a[j] = vf_extreme(fold, a[j], vf_load(row + at));
        }
    SP_UNROLL for (int j = 0; j < vectors; j++)
    {
        double *to = acc + (j == vectors - 1 ? last : (size_t)j * VL);
        vf_store(best, a[j]);
        SP_UNROLL for (int i = 0; i < VL; i += VD)
        {
            vd v = vd_load(best + i), old = *(vd_u *)(to + i);
            vl take = (v != v) | (fold == SP_FOLD_MAX ? v > old : v < old);
            *(vd_u *)(to + i) = (vd)(((vl)v & take) | ((vl)old & ~take));
        }
    }
}

SP_INLINE void columns_wide(sp_fold fold, size_t n, int vectors, size_t last, const float *x,
                            size_t stride, double *acc)
{
    if (fold == SP_FOLD_MAX || fold == SP_FOLD_MIN)
        columns_extreme(fold, n, vectors, last, x, stride, acc);
    else
        columns_total(fold, n, vectors, last, x, stride, acc);
}

SP_INLINE void fold_columns(sp_fold fold, size_t n, size_t columns, const float *x, size_t stride,
                            double *acc)
{
    if (n == 0) return;
    for (size_t c = 0; columns < VL && c < columns; c++)
        for (size_t k = 0; k < n; k++) acc[c] = fold_one(fold, acc[c], x[k * stride + c]);
    if (columns < VL) return;
    while (columns > 0) {
        /* What is left must not be less than a vector. */
        size_t now = columns <= WIDE * VL ? columns : WIDE * VL;
        if (columns > now && columns - now < VL) now -= VL;
        switch ((now + VL - 1) / VL) {
        case 1: columns_wide(fold, n, 1, 0, x, stride, acc); break;
        case 2: columns_wide(fold, n, 2, now - VL, x, stride, acc); break;
        case 3: columns_wide(fold, n, 3, now - VL, x, stride, acc); break;
        default: columns_wide(fold, n, 4, now - VL, x, stride, acc); break;
        }
        x += now, acc += now, columns -= now;
    }
}

#define FOLD(name, ...)                                                                            \
    switch (fold) {                                                                                \
    case SP_FOLD_SUM: name(SP_FOLD_SUM, __VA_ARGS__); break;                                       \
    case SP_FOLD_SQUARE: name(SP_FOLD_SQUARE, __VA_ARGS__); break;                                 \
    case SP_FOLD_ABS: name(SP_FOLD_ABS, __VA_ARGS__); break;                                       \
    case SP_FOLD_PROD: name(SP_FOLD_PROD, __VA_ARGS__); break;                                     \
    case SP_FOLD_MAX: name(SP_FOLD_MAX, __VA_ARGS__); break;                                       \
    case SP_FOLD_MIN: name(SP_FOLD_MIN, __VA_ARGS__); break;                                       \
    }

void SP_KERNEL(sp_fold_rows_f32)(sp_fold fold, size_t rows, size_t n, const float *x, size_t stride,
                                 double *acc)
{
    FOLD(fold_rows, rows, n, x, stride, acc)
}

void SP_KERNEL(sp_fold_columns_f32)(sp_fold fold, size_t n, size_t columns, const float *x,
                                    size_t stride,
                                    double *acc){FOLD(fold_columns, n, columns, x, stride, acc)}

/* ---- where extremes are ---- */

SP_INLINE vi places_of(vf v, vf best)
{
    return (v == best) | ((v != v) & (best != best));
}

SP_INLINE bool is_place(float v, float best)
{
    return v == best || (v != v && best != best);
}

SP_INLINE size_t find_first(size_t n, const float *x, float best)
{
    size_t i = 0;
    while (i + VL <= n && !vi_any(places_of(vf_load(x + i), vf_splat(best)))) i += VL;
    while (i + 1 < n && !is_place(x[i], best)) i++;
    return i;
}

SP_INLINE size_t find_last(size_t n, const float *x, float best)
{
    while (n >= VL && !vi_any(places_of(vf_load(x + n - VL), vf_splat(best)))) n -= VL;
    while (n > 1 && !is_place(x[n - 1], best)) n--;
    return n - 1;
}

void SP_KERNEL(sp_arg_rows_f32)(bool min, bool last, size_t rows, size_t n, const float *x,
                                int64_t *index)
{
    for (size_t r = 0; r < rows; r++, x += n) {
        const float best = (float)(min ? row_extreme(SP_FOLD_MIN, n, x) //
                                       : row_extreme(SP_FOLD_MAX, n, x));
        index[r] = (int64_t)(last ? find_last(n, x, best) : find_first(n, x, best));
    }
}

/* A number gives way to a larger one and to a NaN; to an equal one, and a NaN to a NaN, for `last`
 * only. */
SP_INLINE vi takes(bool last, vf v, vf best)
{
    return last ? ~(v < best) & ((best == best) | (v != v)) : ~(v <= best) & (best == best);
}

SP_INLINE void arg_columns(bool min, bool last, size_t n, const float *x, size_t stride,
                           int64_t *index)
{
    vf best = min ? -vf_load(x) : vf_load(x);
    vi at = {0};
    for (size_t k = 1; k < n; k++) {
        vf v = vf_load(x + k * stride);
        if (min) v = -v;
        vi take = takes(last, v, best);
        best = (vf)(((vi)v & take) | ((vi)best & ~take));
        at = (((vi){0} + (int32_t)k) & take) | (at & ~take);
    }
    for (int i = 0; i < VL; i++) index[i] = at[i];
}

static void arg_column(bool min, bool last, size_t n, const float *x, size_t stride, int64_t *index)
{
    float best = min ? -*x : *x;
    *index = 0;
    for (size_t k = 1; k < n; k++) {
        const float v = min ? -x[k * stride] : x[k * stride];
        const bool take = last ? !(v < best) && (best == best || v != v) //
                               : !(v <= best) && best == best;
        if (take) best = v, *index = (int64_t)k;
    }
}

void SP_KERNEL(sp_arg_columns_f32)(bool min, bool last, size_t n, size_t columns, const float *x,
                                   size_t stride, int64_t *index)
{
    size_t c = 0;
    for (; n <= INT32_MAX && c + VL <= columns; c += VL)
        if (min)
            last ? arg_columns(true, true, n, x + c, stride, index + c)
                 : arg_columns(true, false, n, x + c, stride, index + c);
        else
            last ? arg_columns(false, true, n, x + c, stride, index + c)
                 : arg_columns(false, false, n, x + c, stride, index + c);
    for (; c < columns; c++) arg_column(min, last, n, x + c, stride, index + c);
}
