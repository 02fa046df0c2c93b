/* file.h - whole files in memory. */
#ifndef SP_BASE_FILE_H
#define SP_BASE_FILE_H

#include "base/mem.h"

/* Reads a file of at most `most` bytes; a 0 follows the last one. The caller frees *data, which has
 * *size + 1 bytes. Fails with NOT_FOUND, IO, TOO_LARGE or OUT_OF_MEMORY, naming the file. */
sparoa_status sp_file_read(const sparoa_allocator *alloc, const char *path, size_t most,
                           char **data, size_t *size, sparoa_error *err);

/* Writes a file; IO names it. */
sparoa_status sp_file_write(const char *path, const void *data, size_t size, sparoa_error *err);

/* What messages call a file: its name without folders. */
const char *sp_file_name(const char *path);

#endif
