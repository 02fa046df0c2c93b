#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sparoa_backend.h"

static sparoa_status read_open(const sparoa_allocator *alloc, const char *path, size_t most,
                               FILE *file, char **data, size_t *size, sparoa_error *err)
{
    long end = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (end < 0 || fseek(file, 0, SEEK_SET) != 0)
        return sparoa_fail(err, SPAROA_IO, NULL, "cannot read %.200s", path);
    *size = (size_t)end;
    if (*size > most)
        return sparoa_fail(err, SPAROA_TOO_LARGE, NULL, "%.200s: %zu bytes, at most %zu are read",
                           path, *size, most);
    char *bytes = sp_alloc(alloc, *size + 1);
    if (!bytes) return sp_no_memory(alloc, *size + 1, err);
    if (fread(bytes, 1, *size, file) != *size) {
        sp_free(alloc, bytes, *size + 1);
        return sparoa_fail(err, SPAROA_IO, NULL, "cannot read %.200s", path);
    }
    bytes[*size] = 0;
    *data = bytes;
    return SPAROA_OK;
}

sparoa_status sp_file_read(const sparoa_allocator *alloc, const char *path, size_t most,
                           char **data, size_t *size, sparoa_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return sparoa_fail(err, errno == ENOENT ? SPAROA_NOT_FOUND : SPAROA_IO, NULL,
                           "cannot open %.200s: %s", path, strerror(errno));
    sparoa_status status = read_open(alloc, path, most, file, data, size, err);
    fclose(file);
    return status;
}

sparoa_status sp_file_write(const char *path, const void *data, size_t size, sparoa_error *err)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return sparoa_fail(err, SPAROA_IO, NULL, "cannot write %.200s: %s", path, strerror(errno));
    bool good = fwrite(size ? data : "", 1, size, file) == size;
    if (fclose(file) || !good)
        return sparoa_fail(err, SPAROA_IO, NULL, "writing %.200s failed", path);
    return SPAROA_OK;
}

const char *sp_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
