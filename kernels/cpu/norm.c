#include "kernels/cpu/protos.h"
#include "kernels/cpu/vmath.h"

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
            vf e = vf_exp(vf_load(x + i) - top);
            vf_store(y + i, e);
            sum += e;
        }
        if (i < n) {
            vf_store_n(y + i, vf_exp(vf_load_n(x + i, n - i) - top), n - i);
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
            vf e = vf_exp(vf_load(x + i) - top);
            vf_store(x + i, e);
            sum += e;
        }
        const float total = vf_sum(sum);
        vf scale = vf_splat(total == 0 ? 0 : 1 / total);
        for (size_t i = 0; i < n; i += VL) vf_store(x + i, vf_load(x + i) * scale);
    }
}

void SP_KERNEL(sp_layernorm_f32)(size_t rows, size_t n, float epsilon, const float *x,
                                 const float *scale, const float *bias, float *y, float *mean,
                                 float *inv_std)
{
    for (size_t r = 0; n && r < rows; r++, x += n, y += n) {
        vf sum = vf_zero(), square = vf_zero();
        size_t i = 0;
        for (; i + VL <= n; i += VL) sum += vf_load(x + i);
        if (i < n) sum += vf_load_n(x + i, n - i);
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
