/* What the machine can do at best: the yardsticks of benchmarks and of sparoa_device_measure. */
#include "kernels/cpu/protos.h"

/* Enough chains of multiply-adds to hide the latency of two units of any machine we know. */
#define CHAINS 12

/* Keeps a value in a register where the compiler cannot see what becomes of it. */
#if defined(__aarch64__)
#define KEEP(v) __asm__ volatile("" : "+w"(v))
#elif defined(SP_ISA_avx512)
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#elif defined(__x86_64__)
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#else
#define KEEP(v) __asm__ volatile("" : "+m"(v))
#endif

#define FOR_CHAINS(X)                                                                              \
    X(0)                                                                                           \
    X(1)                                                                                           \
    X(2)                                                                                           \
    X(3)                                                                                           \
    X(4)                                                                                           \
    X(5)                                                                                           \
    X(6)                                                                                           \
    X(7)                                                                                           \
    X(8)                                                                                           \
    X(9)                                                                                           \
    X(10)                                                                                          \
    X(11)

double SP_KERNEL(sp_peak_fma_f32)(size_t rounds, float *sink)
{
    vf a = vf_splat(0.999f), b = vf_splat(*sink);
#define X(i) vf c##i = vf_splat(i);
    FOR_CHAINS(X)
#undef X
    for (size_t r = 0; r < rounds; r++) {
#define X(i) c##i = vf_fma(c##i, a, b);
        FOR_CHAINS(X)
#undef X
#define X(i) KEEP(c##i);
        FOR_CHAINS(X)
#undef X
    }
    vf sum = vf_zero();
#define X(i) sum += c##i;
    FOR_CHAINS(X)
#undef X
    *sink = vf_sum(sum) / (CHAINS * VL * 1000.0f);
    return 2.0 * VL * CHAINS * (double)rounds;
}

/* Reads n floats; the sum keeps the compiler from leaving it out. */
float SP_KERNEL(sp_peak_read_f32)(size_t n, const float *x)
{
    vf s0 = vf_zero(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        s0 += vf_load(x + i);
        s1 += vf_load(x + i + VL);
        s2 += vf_load(x + i + 2 * VL);
        s3 += vf_load(x + i + 3 * VL);
    }
    return vf_sum((s0 + s1) + (s2 + s3));
}
