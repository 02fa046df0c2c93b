/*
 * tolerance.h - what an operator's tolerance class (sparoa_op.tolerance) allows in numbers, when
 * two implementations get the same inputs.
 */
#ifndef SP_OPS_TOLERANCE_H
#define SP_OPS_TOLERANCE_H

#include "ops/op.h"

/* An element may be off by relative * |want| + scaled * (the output's largest magnitude). All zero:
 * it must be the same. */
typedef struct sp_allowed {
    double relative, scaled;
    double steps; /* integers: units */
} sp_allowed;

/* For an output of type `dtype`. length: terms that are summed for one element (1 where nothing
 * is). tf32: factors may be rounded to 10 bits. */
sp_allowed sp_tolerance_of(sparoa_tolerance tolerance, sparoa_dtype dtype, double length,
                           bool tf32);

const char *sp_tolerance_name(sparoa_tolerance tolerance); /* "exact", "rounding", "sum" */

#endif
