/* Numbers and instruction sets for tests of inner loops; one seed for each test program. */
#ifndef TESTS_SUPPORT_KERNELS_H
#define TESTS_SUPPORT_KERNELS_H

#include <stdint.h>
#include <stdlib.h>

#include "backends/cpu/kernel.h"

static const char *const isas[] = {"generic", "neon", "avx2", "avx512"};
#define FOR_EACH_ISA(kernels)                                                                      \
    for (size_t isa_ = 0; isa_ < sizeof isas / sizeof *isas; isa_++)                               \
        for (const sp_kernels *kernels = sp_cpu_kernels(isas[isa_]); kernels; kernels = NULL)

static uint32_t seed = 4711;

static inline uint32_t random_u32(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* -1..1 */
static inline float random_float(void)
{
    return (float)random_u32() / (float)(1 << 23) - 1;
}

/* Exactly as many as asked for, so that a sanitizer sees every access beyond. */
static inline float *floats(size_t n)
{
    float *p = malloc(n * sizeof *p + (n == 0));
    for (size_t i = 0; i < n; i++) p[i] = random_float();
    return p;
}

#endif
