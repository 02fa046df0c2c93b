/*
 * embedded.h - the digits model that the command carries along. Size 0 in a build without it.
 */
#ifndef SP_CLI_EMBEDDED_H
#define SP_CLI_EMBEDDED_H

#include <stddef.h>

extern const unsigned char sp_cli_digits_model[];
extern const size_t sp_cli_digits_model_size;

#endif
