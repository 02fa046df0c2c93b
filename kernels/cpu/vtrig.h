/*
 * vtrig.h - sine and cosine of vectors of floats, computed in double: x = n pi / 2 + r, |r| <=
 * pi / 4, then a polynomial of r (minimax fits). Arguments of any size are reduced exactly enough.
 */
#ifndef SP_KERNELS_CPU_VTRIG_H
#define SP_KERNELS_CPU_VTRIG_H

#include "kernels/cpu/isa.h"

/* r of a finite |x| >= 2^20, and in *n the last two bits of n. x = m 2^e with a whole m of 24 bits;
 * of 2 / pi those 96 bits count that give the product's last two whole bits and its fraction. */
static double trig_reduce(float x, int64_t *n)
{
    /* a word of zeros, then the bits of 2 / pi */
    static const uint32_t bits[] = {0,          0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
                                    0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561};
    uint32_t u, w[3];
    memcpy(&u, &x, sizeof u);
    const uint32_t first = (u >> 23 & 255) - 150 + 30, at = first / 32, shift = first % 32;
    const uint64_t m = (u & 0x7fffff) | 0x800000;
    for (uint32_t i = 0; i < 3; i++)
        w[i] = (uint32_t)(((uint64_t)bits[at + i] << 32 | bits[at + i + 1]) << shift >> 32);
    uint64_t p = (m * w[0] << 32) + m * w[1] + (m * w[2] >> 32); /* in units of 2^-62 */
    const uint64_t whole = (p + ((uint64_t)1 << 61)) >> 62;
    const double r = (double)(int64_t)(p - (whole << 62)) * 0x1.921fb54442d18p-62;
    *n = (int64_t)(x < 0 ? 0 - whole : whole);
    return x < 0 ? -r : r;
}

/* sin(x + quarter pi / 2); infinities give NaN. */
SP_INLINE vd vd_sin(vd x, int64_t quarter)
{
    static const double s[] = {-0x1.5555554c6ffc4p-3, 0x1.111108690bdd2p-7, -0x1.a00f7e14d70aep-13,
                               0x1.6cd1b0a1b99a1p-19};
    static const double c[] = {-0x1.ffffffcb77a7bp-2, 0x1.55553c74a4c4cp-5, -0x1.6c07efda2cfb7p-10,
                               0x1.991641fb784b9p-16};
    const double magic = 0x1.8p52; /* its last bits take up the nearest whole number */
    vd t = x * 0x1.45f306dc9c883p-1 + magic, n = t - magic;
    vl q = (vl)t, a = (vl)x & INT64_MAX;
    vd r = (x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a626331p-34;
    vl large = a >= 0x4130000000000000; /* the bits of 2^20 */
    for (int i = 0; __builtin_expect(vl_any(large), 0) && i < VD; i++) {
        int64_t turn;
        if (!large[i] || a[i] >= 0x7ff0000000000000) continue;
        r[i] = trig_reduce((float)x[i], &turn);
        q[i] = turn;
    }
    q += quarter;
    vd z = r * r;
    vd sine = r * (1 + z * (s[0] + z * (s[1] + z * (s[2] + z * s[3]))));
    vd cosine = 1 + z * (c[0] + z * (c[1] + z * (c[2] + z * c[3])));
    vl odd = -(q & 1), y = ((vl)cosine & odd) | ((vl)sine & ~odd);
    return (vd)(y ^ (q & 2) << 62);
}

#endif
