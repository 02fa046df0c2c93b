#include "ops/tolerance.h"

/* Distance of 1 and the next number. */
static double unit_of(sparoa_dtype dtype)
{
    switch (dtype) {
    case SPAROA_FLOAT64: return 0x1p-52;
    case SPAROA_FLOAT16: return 0x1p-10;
    case SPAROA_BFLOAT16: return 0x1p-7;
    default: return 0x1p-23;
    }
}

sp_allowed sp_tolerance_of(sparoa_tolerance tolerance, sparoa_dtype dtype, double length, bool tf32)
{
    sp_allowed a = {0};
    if (tolerance == SPAROA_TOL_EXACT) return a;
    if (!sp_is_float(dtype)) { /* rounded to integers: one may tip over */
        a.steps = dtype == SPAROA_INT8 || dtype == SPAROA_UINT8 ? 1 : 0;
        return a;
    }
    double unit = unit_of(dtype), sums = sp_is_half(dtype) ? 0x1p-23 : unit;
    /* functions of the device's own library err by a few units; halves are rounded once more */
    a.relative = sp_is_half(dtype) ? 2 * unit : 32 * unit;
    a.scaled = sp_is_half(dtype) ? unit / 4 : 2 * unit;
    if (tolerance == SPAROA_TOL_ROUNDING) return a;
    /* sums in another order differ like a random walk; fast convolutions (Winograd's) by a few
     * times as much */
    a.scaled += sums * (16 + 16 * sqrt(length > 1 ? length : 1));
    if (tf32) a.scaled += 0x1p-9;
    return a;
}

const char *sp_tolerance_name(sparoa_tolerance tolerance)
{
    static const char *const names[] = {"exact", "rounding", "sum"};
    return (unsigned)tolerance < 3 ? names[tolerance] : "unknown";
}
