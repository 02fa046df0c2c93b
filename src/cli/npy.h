/*
 * npy.h - NumPy's .npy files, little-endian and in C order.
 */
#ifndef SP_CLI_NPY_H
#define SP_CLI_NPY_H

#include "sparoa.h"

/* Reads a file into memory of the runtime (sparoa_tensor_free). */
sparoa_status sp_npy_load(sparoa_runtime *runtime, const char *path, sparoa_tensor *tensor,
                          sparoa_error *err);

/* Writes a tensor; bfloat16, which NumPy lacks, becomes float32. */
sparoa_status sp_npy_save(const char *path, const sparoa_tensor *tensor, sparoa_error *err);

/* Fills an error, printf-style, and returns its status. */
sparoa_status sp_cli_error_set(sparoa_error *err, sparoa_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
