#include "base/cpu.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>

/* clang 14 does not know this feature by name. */
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx = 0, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
}
#endif

bool sp_cpu_has(sp_isa isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == SP_CPU_AVX2) return has_avx2();
    if (isa == SP_CPU_AVX512) return has_avx512();
#elif defined(__aarch64__) && defined(__linux__)
    if (isa == SP_CPU_NEON) return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
#elif defined(__aarch64__)
    if (isa == SP_CPU_NEON) return true;
#endif
    return isa == SP_CPU_GENERIC;
}

bool sp_cpu_has_dot512(void)
{
#if defined(__x86_64__)
    return sp_cpu_has(SP_CPU_AVX512) && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}
