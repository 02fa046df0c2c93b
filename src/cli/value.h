/*
 * value.h - elements of a tensor as numbers, whatever its type.
 */
#ifndef SP_CLI_VALUE_H
#define SP_CLI_VALUE_H

#include "sparoa.h"

#include <stdbool.h>

bool sp_value_is_float(sparoa_dtype dtype);
double sp_half_to_double(uint16_t bits);
double sp_bfloat_to_double(uint16_t bits);

/* Element `index` (which must exist) as a number; 64-bit integers lose what a double cannot hold.
 */
double sp_value_get(const sparoa_tensor *tensor, int64_t index);

/* Stores a number: integers are rounded to the nearest and clamped to the type, bool is 0 or 1. */
void sp_value_set(sparoa_tensor *tensor, int64_t index, double value);

/* Smallest, largest and mean of the values that are numbers, and how many are NaN or infinite. */
typedef struct sp_value_range {
    double min, max, mean; /* NaN where there is no finite value */
    int64_t nans, infs, zeros;
} sp_value_range;

sp_value_range sp_value_summary(const sparoa_tensor *tensor);

/* "float32[1,3,224,224]" into `text`; -1 prints as '?', a name from `names` (may be NULL) instead
 * of it. */
const char *sp_shape_text(char *text, size_t size, const sparoa_tensor *tensor,
                          const char *const *names);

#endif
