/*
 * combine.h - dst[i] = dst[i] (op) src[i] for every element type: the reductions of the scatter
 * operators.
 */
#ifndef SP_OPS_COMBINE_H
#define SP_OPS_COMBINE_H

#include "ops/op.h"

typedef enum sp_combine_mode {
    SP_COMBINE_NONE,
    SP_COMBINE_ADD,
    SP_COMBINE_MUL,
    SP_COMBINE_MAX,
    SP_COMBINE_MIN
} sp_combine_mode;

typedef void (*sp_combine_fn)(void *dst, const void *src, int64_t n);

/* Reads attribute "reduction" (none where it is missing). */
sparoa_status sp_combine_mode_of(const sparoa_node *node, sp_combine_mode *mode, sparoa_error *err);

/* Integers wrap around, bool adds as "or" and multiplies as "and", NaN wins in max and min. NONE:
 * NULL, as a copy does it; NULL as well for a type that is not supported. */
sp_combine_fn sp_combine_for(sparoa_dtype dtype, sp_combine_mode mode);

#endif
