/* Planes of pixels to pixels of channels, such as the colours of an image. */
#include "kernels/cpu/protos.h"

/* channels is a constant where this is inlined, so that the stores of a few pixels are shuffles of
 * what was loaded. */
SP_INLINE void weave(size_t n, const size_t channels, const float *in, size_t stride,
                     float *restrict out)
{
    for (size_t i = 0; i < n; i++)
        SP_UNROLL for (size_t c = 0; c < channels; c++) out[i * channels + c] = in[c * stride + i];
}

void SP_KERNEL(sp_weave_f32)(size_t n, size_t channels, const float *in, size_t stride, float *out)
{
    switch (channels) {
    case 2: weave(n, 2, in, stride, out); break;
    case 3: weave(n, 3, in, stride, out); break;
    case 4: weave(n, 4, in, stride, out); break;
    default:
        for (size_t c = 0; c < channels; c++)
            for (size_t i = 0; i < n; i++) out[i * channels + c] = in[c * stride + i];
    }
}
