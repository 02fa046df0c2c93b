/*
 * External tensor data, confined to one folder. A model names its data files; those names are
 * hostile until shown otherwise. Every component of the path is opened by itself, relative to the
 * folder before it and without following symbolic links, and the file must be a regular one with a
 * single hard link: whatever it is, it was put there as this model's data and is no second name of
 * something else.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "onnx/internal.h"

static sparoa_status forbidden(sp_onnx *x, const char *what, const char *location, const char *why)
{
    return sparoa_fail(
        x->err, SPAROA_FORBIDDEN_PATH, NULL,
        "%s: external data '%.120s' %s; expected a plain file inside the model's folder", what,
        location, why);
}

/* A failed openat of one component. */
static sparoa_status open_failed(sp_onnx *x, const char *what, const char *location, int error,
                                 bool last)
{
    if (error == ELOOP || error == EMLINK)
        return forbidden(x, what, location, "goes through a symbolic link");
    if (error == ENOTDIR && !last)
        return forbidden(x, what, location, "goes through something that is no folder");
    return sparoa_fail(x->err, error == ENOENT || error == ENOTDIR ? SPAROA_NOT_FOUND : SPAROA_IO,
                       NULL, "%s: cannot open external data '%.120s' in '%.80s': %s", what,
                       location, x->dir, strerror(error));
}

/* Length of the component at p, which ends at '/' or at the end. */
static size_t component(const char *p)
{
    return strcspn(p, "/");
}

static sparoa_status check_location(sp_onnx *x, const char *what, const char *location)
{
    if (!*location) return forbidden(x, what, location, "has no name");
    if (*location == '/') return forbidden(x, what, location, "is an absolute path");
    const char *last = "";
    for (const char *p = location; *p; p += component(p), p += *p == '/') {
        if (component(p) == 2 && p[0] == '.' && p[1] == '.')
            return forbidden(x, what, location, "goes up with '..'");
        if (component(p) > NAME_MAX)
            return forbidden(x, what, location, "has a name that is too long");
        last = p;
    }
    if (!*last || *last == '/' || strcmp(last, ".") == 0 || location[strlen(location) - 1] == '/')
        return forbidden(x, what, location, "names a folder");
    return SPAROA_OK;
}

/* Walks down from the folder; *fd is the file, opened for reading. */
static sparoa_status open_confined(sp_onnx *x, const char *what, const char *location, int *fd)
{
    sparoa_status status = check_location(x, what, location);
    if (status != SPAROA_OK) return status;
    int at = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return sparoa_fail(x->err, errno == ENOENT ? SPAROA_NOT_FOUND : SPAROA_IO, NULL,
                           "cannot open the folder of external data '%.200s': %s", x->dir,
                           strerror(errno));
    for (const char *p = location; *p;) {
        char name[NAME_MAX + 1];
        size_t n = component(p);
        memcpy(name, p, n);
        name[n] = '\0';
        p += n;
        bool last = *p == '\0';
        while (*p == '/') p++;
        if (n == 0 || strcmp(name, ".") == 0) continue;
        struct stat st;
        int next = -1, error = 0;
        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            error = errno;
        else if (S_ISLNK(st.st_mode))
            error = ELOOP;
        else if (last && !S_ISREG(st.st_mode))
            error = EISDIR; /* never opened: opening a device may do something */
        else if ((next = openat(at, name,
                                O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
                                    (last ? 0 : O_DIRECTORY))) < 0)
            error = errno;
        close(at);
        if (error == EISDIR) return forbidden(x, what, location, "is no regular file");
        if (error) return open_failed(x, what, location, error, last);
        at = next;
    }
    *fd = at;
    return SPAROA_OK;
}

static sparoa_status map_confined(sp_onnx *x, const char *what, const char *location,
                                  sp_blob **blob)
{
    int fd = -1;
    sparoa_status status = open_confined(x, what, location, &fd);
    if (status != SPAROA_OK) return status;
    struct stat st;
    if (fstat(fd, &st) != 0)
        status = sparoa_fail(x->err, SPAROA_IO, NULL, "cannot read external data '%.200s': %s",
                             location, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        status = forbidden(x, what, location, "is no regular file");
    else if (st.st_nlink != 1)
        status = forbidden(x, what, location, "has more than one hard link");
    else if (st.st_size == 0)
        status = sparoa_fail(x->err, SPAROA_MALFORMED, NULL, "%s: external data '%.200s' is empty",
                             what, location);
    else
        status = sp_onnx_map(fd, (size_t)st.st_size, location, &x->alloc, blob, x->err);
    close(fd);
    return status;
}

/* The mapping of a file, made once per load. */
static sparoa_status find_file(sp_onnx *x, const char *what, const char *location, sp_blob **blob)
{
    for (size_t i = 0; i < x->external_count; i++) {
        if (strcmp(x->externals[i].location, location) != 0) continue;
        *blob = x->externals[i].blob;
        return SPAROA_OK;
    }
    if (!sp_grow(&x->alloc, &x->externals, &x->external_capacity, x->external_count + 1,
                 sizeof *x->externals))
        return sp_onnx_oom(x, sizeof *x->externals);
    sparoa_status status = map_confined(x, what, location, blob);
    if (status != SPAROA_OK) return status;
    x->externals[x->external_count++] = (sp_external){location, *blob};
    if (__builtin_add_overflow(x->budget, (*blob)->bytes, &x->budget)) x->budget = SIZE_MAX;
    return SPAROA_OK;
}

/* A decimal number without sign, as a whole. */
static bool parse_number(const char *s, uint64_t *value)
{
    *value = 0;
    if (!*s) return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*s - '0'), value))
            return false;
    }
    return true;
}

static sparoa_status read_entries(sp_onnx *x, const onnx_tensor *t, const char *what,
                                  const char **location, uint64_t *offset, uint64_t *length)
{
    for (size_t i = 0; i < t->n_external_data; i++) {
        const char *key = sp_str(t->external_data[i]->key),
                   *value = sp_str(t->external_data[i]->value);
        bool ok = true;
        if (strcmp(key, "location") == 0)
            *location = value;
        else if (strcmp(key, "offset") == 0)
            ok = parse_number(value, offset);
        else if (strcmp(key, "length") == 0)
            ok = parse_number(value, length);
        if (!ok)
            return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                               "%s: external data has %s='%.40s', expected a number", what, key,
                               value);
    }
    return SPAROA_OK;
}

sparoa_status sp_onnx_external(sp_onnx *x, const onnx_tensor *t, const char *what, size_t bytes,
                               size_t align, sp_blob **blob)
{
    const char *location = "";
    uint64_t offset = 0, length = bytes;
    sparoa_status status = read_entries(x, t, what, &location, &offset, &length);
    if (status != SPAROA_OK) return status;
    if (!x->dir)
        return sparoa_fail(
            x->err, SPAROA_FORBIDDEN_PATH, NULL,
            "%s has external data '%.120s', but there is no folder for it; set external_data_dir",
            what, location);
    sp_blob *file;
    status = find_file(x, what, location, &file);
    if (status != SPAROA_OK) return status;
    if (length != bytes)
        return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                           "%s: external data has length %llu, but its shape needs %zu", what,
                           (unsigned long long)length, bytes);
    if (offset > file->bytes || bytes > file->bytes - offset)
        return sparoa_fail(
            x->err, SPAROA_MALFORMED, NULL,
            "%s: external data at %llu with %zu bytes lies outside '%.120s', which has %zu", what,
            (unsigned long long)offset, bytes, location, file->bytes);
    if (((uintptr_t)file->data + offset) % align == 0) {
        *blob = sp_blob_slice(&x->alloc, file, (size_t)offset, bytes);
        return *blob ? SPAROA_OK : sp_onnx_oom(x, sizeof **blob);
    }
    status = sp_onnx_budget(x, bytes);
    if (status != SPAROA_OK) return status;
    *blob = sp_blob_create(&x->alloc, bytes);
    if (!*blob) return sp_onnx_oom(x, bytes);
    memcpy((*blob)->data, (const char *)file->data + offset, bytes);
    return SPAROA_OK;
}
