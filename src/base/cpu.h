/* cpu.h - which instruction sets this machine and its operating system let us use. */
#ifndef SP_BASE_CPU_H
#define SP_BASE_CPU_H

#include <stdbool.h>

typedef enum sp_isa {
    SP_CPU_GENERIC, /* what the compiler assumes */
    SP_CPU_NEON,
    SP_CPU_AVX2,   /* with FMA, F16C and BMI2 */
    SP_CPU_AVX512, /* F, BW, DQ, VL and CD, and all of the above */
    SP_CPU_ISA_COUNT
} sp_isa;

bool sp_cpu_has(sp_isa isa);

/* The 8-bit dot-product instruction on 512-bit vectors. */
bool sp_cpu_has_dot512(void);

#endif
