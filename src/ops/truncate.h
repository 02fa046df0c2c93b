/*
 * truncate.h - how floating-point numbers become integers: toward zero; what does not fit saturates
 * and NaN gives 0 (ONNX leaves both undefined). Without branches, so that loops over it vectorise.
 */
#ifndef SP_OPS_TRUNCATE_H
#define SP_OPS_TRUNCATE_H

#include <stdint.h>

/* x is of type F; past: the first number that is too large for T. */
#define SP_TRUNCATE(F, T, x, lo, hi, past)                                                         \
    ((x) >= (F)(past) ? (hi) : (x) >= -(F)(past) ? (T)(x) : (x) != (x) ? 0 : (lo))
#define SP_TO_I32(F, x) SP_TRUNCATE(F, int32_t, x, INT32_MIN, INT32_MAX, 0x1p31)
#define SP_TO_I64(F, x) SP_TRUNCATE(F, int64_t, x, INT64_MIN, INT64_MAX, 0x1p63)

#endif
