#include "kernels/cpu/protos.h"
#include "kernels/cpu/vmath.h"

#define LEAST -87.0f       /* exp of it is a normal number */
#define LEAST_SHARE -80.0f /* and of many keys' shares, which multiply values */

static float row_max(size_t n, const float *x)
{
    if (n < VL) {
        float m = x[0];
        for (size_t i = 1; i < n; i++) m = x[i] > m ? x[i] : m;
        return m;
    }
    vf m = vf_load(x);
    for (size_t i = VL; i + VL <= n; i += VL) m = vf_max(m, vf_load(x + i));
    return vf_hmax(vf_max(m, vf_load(x + n - VL)));
}

/* NaN anywhere in a row makes the sum and so the whole row NaN. */
void SP_KERNEL(sp_softmax_f32)(size_t rows, size_t n, const float *x, float *y)
{
    for (size_t r = 0; n && r < rows; r++, x += n, y += n) {
        vf top = vf_splat(row_max(n, x)), sum = vf_zero();
        size_t i = 0;
        for (; i + VL <= n; i += VL) {
            vf e = vf_exp_above(vf_splat(LEAST), vf_load(x + i) - top);
            vf_store(y + i, e);
            sum += e;
        }
        if (i < n) {
            vf_store_n(y + i, vf_exp_above(vf_splat(LEAST), vf_load_n(x + i, n - i) - top), n - i);
            sum += vf_load_n(y + i, n - i);
        }
        vf scale = vf_splat(1 / vf_sum(sum));
        for (i = 0; i + VL <= n; i += VL) vf_store(y + i, vf_load(y + i) * scale);
        if (i < n) vf_store_n(y + i, vf_load_n(y + i, n - i) * scale, n - i);
    }
}

/* Lanes from `count` on become `fill`. */
SP_INLINE vf fill_tail(vf v, size_t count, vf fill)
{
    static const float ones[2 * VL] = {[0 ... VL - 1] = 1};
    return vf_lt(vf_zero(), vf_load(ones + VL - count), v, fill);
}

/* log of sums: that of the nearest float and what the sum is beside it, relative to it. */
SP_INLINE vf log_of(vf nearest, vf rest)
{
    return vf_log(nearest) + rest / nearest;
}

SP_INLINE double row_exp_sum(size_t n, const float *x, float highest)
{
    const vf top = vf_splat(highest);
    vd sum = {0};
    size_t i = 0;
    for (; i + VL <= n; i += VL) {
        vf e = vf_exp_above(vf_splat(LEAST), vf_load(x + i) - top);
        sum += vd_half(e, 0) + vd_half(e, 1);
    }
    if (i < n) {
        vf e = fill_tail(vf_exp_above(vf_splat(LEAST), vf_load_n(x + i, n - i) - top), n - i,
                         vf_zero());
        sum += vd_half(e, 0) + vd_half(e, 1);
    }
    return vd_sum(sum);
}

/* Short rows several at a time, which share a logarithm. */
void SP_KERNEL(sp_log_softmax_f32)(size_t rows, size_t n, const float *x, float *y)
{
    const size_t most = n <= 1024 ? VL : 1;
    float top[VL], total[VL], rest[VL], log[VL];
    for (int k = 0; k < VL; k++) total[k] = 1, rest[k] = 0;
    for (size_t r = 0; n && r < rows; r += most) {
        const size_t count = rows - r < most ? rows - r : most;
        for (size_t k = 0; k < count; k++) {
            top[k] = row_max(n, x + k * n);
            const double sum = row_exp_sum(n, x + k * n, top[k]);
            total[k] = (float)sum;
            rest[k] = (float)(sum - total[k]);
        }
        vf_store(log, log_of(vf_load(total), vf_load(rest)));
        for (size_t k = 0; k < count; k++, x += n, y += n)
            for (size_t i = 0; i < n; i += VL) {
                const size_t c = n - i < VL ? n - i : VL;
                vf_put(y + i, (vf_get(x + i, c) - vf_splat(top[k])) - vf_splat(log[k]), c);
            }
    }
}

/* Floats nearest to two halves of doubles, and what is left. */
SP_INLINE vf nearest_of(const vd *sum, vf *rest)
{
    float f[VL], g[VL];
    SP_UNROLL for (int j = 0; j < 2; j++)
    {
        vd_store(f + j * VD, sum[j]);
        vd_store(g + j * VD, sum[j] - vd_load(f + j * VD));
    }
    *rest = vf_load(g);
    return vf_load(f);
}

/* `width` neighbouring columns, at most a vector. */
SP_INLINE void softmax_columns(bool log, size_t n, size_t width, size_t stride, const float *x,
                               float *y)
{
    vf top = vf_splat(-INFINITY), rest;
    vd sum[2] = {{0}, {0}};
    for (size_t k = 0; k < n; k++) top = vf_max(vf_get(x + k * stride, width), top);
    for (size_t k = 0; k < n; k++) {
        vf e = vf_exp_above(vf_splat(LEAST), vf_get(x + k * stride, width) - top);
        if (!log) vf_put(y + k * stride, e, width);
        sum[0] += vd_half(e, 0);
        sum[1] += vd_half(e, 1);
    }
    vf total = nearest_of(sum, &rest);
    vf by = log ? log_of(total, rest) : vf_splat(1) / total;
    for (size_t k = 0; k < n; k++) {
        vf v = vf_get((log ? x : y) + k * stride, width);
        vf_put(y + k * stride, log ? (v - top) - by : v * by, width);
    }
}

void SP_KERNEL(sp_softmax_columns_f32)(bool log, size_t n, size_t columns, size_t stride,
                                       const float *x, float *y)
{
    for (size_t c = 0; c < columns; c += VL) {
        const size_t left = columns - c;
        if (left >= VL && log)
            softmax_columns(true, n, VL, stride, x + c, y + c);
        else if (left >= VL)
            softmax_columns(false, n, VL, stride, x + c, y + c);
        else
            softmax_columns(log, n, left, stride, x + c, y + c);
    }
}

void SP_KERNEL(sp_softmax_masked_f32)(size_t rows, size_t n, float *x, size_t ldx,
                                      const float *mask, size_t ldm)
{
    const size_t whole = n - n % VL, rest = n - whole;
    const vf lowest = vf_splat(-INFINITY);
    for (size_t r = 0; n && r < rows; r++, x += ldx, mask += mask ? ldm : 0) {
        vf top = lowest, sum = vf_zero();
        for (size_t i = 0; i < whole; i += VL) {
            vf v = vf_load(x + i);
            if (mask) vf_store(x + i, v += vf_load(mask + i));
            top = vf_max(top, v);
        }
        if (rest) {
            vf v = vf_load(x + whole);
            if (mask) v += vf_load_n(mask + whole, rest);
            vf_store(x + whole, v = fill_tail(v, rest, lowest));
            top = vf_max(top, v);
        }
        const float highest = vf_hmax(top);
        top = vf_splat(highest == -INFINITY ? 0 : highest); /* all is masked: powers of 0 */
        for (size_t i = 0; i < n; i += VL) {
            vf e = vf_exp_above(vf_splat(LEAST_SHARE), vf_load(x + i) - top);
            vf_store(x + i, e);
            sum += e;
        }
        const float total = vf_sum(sum);
        vf scale = vf_splat(total == 0 ? 0 : 1 / total);
        for (size_t i = 0; i < n; i += VL) vf_store(x + i, vf_load(x + i) * scale);
    }
}

void SP_KERNEL(sp_layernorm_f32)(size_t rows, size_t n, bool centred, float epsilon, const float *x,
                                 const float *scale, const float *bias, float *y, float *mean,
                                 float *inv_std)
{
    for (size_t r = 0; n && r < rows; r++, x += n, y += n) {
        vf sum = vf_zero(), square = vf_zero();
        size_t i = 0;
        for (; centred && i + VL <= n; i += VL) sum += vf_load(x + i);
        if (centred && i < n) sum += vf_load_n(x + i, n - i);
        float m = vf_sum(sum) / (float)n, rest = 0;
        vf vm = vf_splat(m);
        for (i = 0; i + VL <= n; i += VL) {
            vf d = vf_load(x + i) - vm;
            square = vf_fma(d, d, square);
        }
        for (; i < n; i++) rest += (x[i] - m) * (x[i] - m);
        float inv = 1 / __builtin_sqrtf((vf_sum(square) + rest) / (float)n + epsilon);
        if (mean) mean[r] = m;
        if (inv_std) inv_std[r] = inv;
        vf vs = vf_splat(inv);
        for (i = 0; i < n; i += VL) {
            size_t c = n - i < VL ? n - i : VL;
            vf d = (vf_load_n(x + i, c) - vm) * vs;
            vf b = bias ? vf_load_n(bias + i, c) : vf_zero();
            vf_store_n(y + i, vf_fma(d, vf_load_n(scale + i, c), b), c);
        }
    }
}
