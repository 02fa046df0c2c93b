/*
 * compare.h - whether a tensor is what was expected, and by how much it is not.
 */
#ifndef SP_CLI_COMPARE_H
#define SP_CLI_COMPARE_H

#include "sparoa.h"

#include <stdbool.h>

typedef enum sp_compare_mode {
    SP_COMPARE_ONNX,  /* each element: |got - want| <= atol + rtol * |want| */
    SP_COMPARE_SCALED /* each element: |got - want| <= atol + rtol * (largest finite |want| of the
                         tensor) */
} sp_compare_mode;

typedef struct sp_tolerance {
    sp_compare_mode mode;
    double rtol, atol;
    bool quant; /* one quantisation step is allowed, the arg-max along the last axis must agree */
    double quant_steps; /* how many steps are allowed; 0: 1 */
    double quant_step;  /* of floating-point outputs; 0: found from the expected values */
} sp_tolerance;

/* The defaults of a mode: ONNX's runner 1e-3 and 1e-7; scaled 1e-4 and 1e-7. */
sp_tolerance sp_tolerance_default(sp_compare_mode mode);

typedef struct sp_difference {
    bool same;           /* within the tolerance */
    double max_error;    /* largest |got - want| of finite pairs */
    double scaled_error; /* the same divided by the largest finite |want| (by 1 if that is 0) */
    int64_t worst;       /* element with the largest excess over the tolerance, or -1 */
    int64_t wrong;       /* elements outside the tolerance */
    char reason[200];    /* one line if not the same */
} sp_difference;

/* Type and shape must match; NaN equals only NaN, an infinity only the same infinity; integers and
 * bools are exact unless quantised. Allowed on top: two rounding steps of float32 at the tensor's
 * largest magnitude (2^-22 of it; not for float64), and one rounding step of each float16 and
 * bfloat16. */
sp_difference sp_compare(const sparoa_tensor *got, const sparoa_tensor *want,
                         const sp_tolerance *tolerance);

/* The distance of neighbouring values if all finite values lie on a grid of at most 256 steps, else
 * 0. */
double sp_grid_step(const sparoa_tensor *tensor);

/* "2,0,17" for element `index` of a tensor. */
const char *sp_index_text(char *text, size_t size, const sparoa_tensor *tensor, int64_t index);

#endif
