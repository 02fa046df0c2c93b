#include "kernels/cpu/protos.h"

void SP_KERNEL(sp_pool_max_f32)(size_t channels, size_t count, const float *const *in, float *out)
{
    for (size_t c = 0; c < channels; c += VL) {
        size_t n = channels - c < VL ? channels - c : VL;
        vf m = vf_splat(-INFINITY);
        if (n == VL)
            for (size_t i = 0; i < count; i++) m = vf_max(m, vf_load(in[i] + c));
        else
            for (size_t i = 0; i < count; i++) m = vf_max(m, vf_load_n(in[i] + c, n));
        vf_store_n(out + c, m, n);
    }
}

void SP_KERNEL(sp_pool_sum_f32)(size_t channels, size_t count, const float *const *in, float scale,
                                float *out)
{
    for (size_t c = 0; c < channels; c += VL) {
        size_t n = channels - c < VL ? channels - c : VL, i = 0;
        vf s = vf_zero(), t = vf_zero();
        if (n == VL) {
            for (; i + 2 <= count; i += 2) s += vf_load(in[i] + c), t += vf_load(in[i + 1] + c);
            if (i < count) s += vf_load(in[i] + c);
        } else {
            for (; i < count; i++) s += vf_load_n(in[i] + c, n);
        }
        vf_store_n(out + c, (s + t) * vf_splat(scale), n);
    }
}
