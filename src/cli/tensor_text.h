/*
 * tensor_text.h - tensors as text and JSON.
 */
#ifndef SP_CLI_TENSOR_TEXT_H
#define SP_CLI_TENSOR_TEXT_H

#include "cli/json.h"
#include "cli/value.h"

/* "name": {"name", "dtype", "shape"} without the closing bracket, so that the caller adds more. */
void sp_tensor_json_begin(sp_json *json, const char *name, const sparoa_tensor *tensor);

/* The array "shape"; unknown dimensions become null, or their name. */
void sp_shape_json(sp_json *json, const char *key, const sparoa_tensor *tensor,
                   const char *const *names);

/* min, max, mean, nan, inf and zero counts and the first `first` values. */
void sp_values_json(sp_json *json, const sparoa_tensor *tensor, int64_t first);

/* "min 0.01  max 0.9  mean 0.1  [0.01 0.2 ...]" */
void sp_values_text(const sparoa_tensor *tensor, int64_t first);

#endif
