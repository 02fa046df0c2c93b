/* transpose.h - VL rows of VL floats, exchanged in registers. */
#ifndef SP_KERNELS_CPU_TRANSPOSE_H
#define SP_KERNELS_CPU_TRANSPOSE_H

#include "kernels/cpu/isa.h"

/* LO_s and HI_s: the rows i and i + s after they have exchanged their blocks of s elements. */
#if VL == 16
#define LO_1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define HI_1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define LO_2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define HI_2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define LO_4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define HI_4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define LO_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define HI_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#elif VL == 8
#define LO_1 0, 8, 2, 10, 4, 12, 6, 14
#define HI_1 1, 9, 3, 11, 5, 13, 7, 15
#define LO_2 0, 1, 8, 9, 4, 5, 12, 13
#define HI_2 2, 3, 10, 11, 6, 7, 14, 15
#define LO_4 0, 1, 2, 3, 8, 9, 10, 11
#define HI_4 4, 5, 6, 7, 12, 13, 14, 15
#else
#define LO_1 0, 4, 2, 6
#define HI_1 1, 5, 3, 7
#define LO_2 0, 1, 4, 5
#define HI_2 2, 3, 6, 7
#endif

#define SP_EXCHANGE(size, lo, hi)                                                                  \
    SP_UNROLL for (int i = 0; i < VL; i++)                                                         \
    {                                                                                              \
        if (i & (size)) continue;                                                                  \
        vf x = r[i], y = r[i + (size)];                                                            \
        r[i] = __builtin_shufflevector(x, y, lo);                                                  \
        r[i + (size)] = __builtin_shufflevector(x, y, hi);                                         \
    }

/* r[i][j] becomes r[j][i]. */
SP_INLINE void vf_transpose(vf *r)
{
    SP_EXCHANGE(1, LO_1, HI_1)
    SP_EXCHANGE(2, LO_2, HI_2)
#if VL >= 8
    SP_EXCHANGE(4, LO_4, HI_4)
#endif
#if VL >= 16
    SP_EXCHANGE(8, LO_8, HI_8)
#endif
}

#undef SP_EXCHANGE

#endif
