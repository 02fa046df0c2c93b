/* Where the bytes of a model come from, and their way through prescan and protobuf-c. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "onnx/internal.h"

#define DEFAULT_MAX_BYTES ((size_t)2 << 30)

static sparoa_status check_size(uint64_t size, size_t max_bytes, const char *name,
                                sparoa_error *err)
{
    size_t max = max_bytes ? max_bytes : DEFAULT_MAX_BYTES;
    if (size > max)
        return sparoa_fail(err, SPAROA_TOO_LARGE, NULL,
                           "'%.200s' has %llu bytes, more than the limit of %zu; raise max_bytes "
                           "or keep the weights "
                           "in external data",
                           name, (unsigned long long)size, max);
    if (size == 0)
        return sparoa_fail(err, SPAROA_MALFORMED, NULL, "'%.200s' is empty, expected an ONNX model",
                           name);
    return SPAROA_OK;
}

sparoa_status sp_onnx_map(int fd, size_t size, const char *name, const sparoa_allocator *alloc,
                          sp_blob **blob, sparoa_error *err)
{
    void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return sparoa_fail(err, SPAROA_IO, NULL, "cannot map '%.200s': %s", name, strerror(errno));
    *blob = sp_blob_map(alloc, p, size);
    if (*blob) return SPAROA_OK;
    munmap(p, size);
    return sp_no_memory(alloc, sizeof **blob, err);
}

static sparoa_status open_path(const char *path, size_t max_bytes, const sparoa_allocator *alloc,
                               sp_blob **file, sparoa_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return sparoa_fail(err, errno == ENOENT || errno == ENOTDIR ? SPAROA_NOT_FOUND : SPAROA_IO,
                           NULL, "cannot open '%.200s': %s", path, strerror(errno));
    struct stat st;
    sparoa_status status;
    if (fstat(fd, &st) != 0)
        status =
            sparoa_fail(err, SPAROA_IO, NULL, "cannot read '%.200s': %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        status = sparoa_fail(err, SPAROA_IO, NULL,
                             "'%.200s' is no regular file, expected an ONNX file", path);
    else if ((status = check_size((uint64_t)st.st_size, max_bytes, path, err)) == SPAROA_OK)
        status = sp_onnx_map(fd, (size_t)st.st_size, path, alloc, file, err);
    close(fd);
    return status;
}

static sparoa_status open_reader(const sparoa_reader *r, size_t max_bytes,
                                 const sparoa_allocator *alloc, sp_blob **file, sparoa_error *err)
{
    uint64_t size = r->size(r->user);
    sparoa_status status = check_size(size, max_bytes, "the reader's model", err);
    if (status != SPAROA_OK) return status;
    sp_blob *b = sp_blob_create(alloc, (size_t)size);
    if (!b) return sp_no_memory(alloc, (size_t)size, err);
    const size_t piece = (size_t)1 << 24;
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? (size_t)size - at : piece;
        if (r->read(r->user, at, (char *)b->data + at, n) == 0) continue;
        sp_blob_unref(b);
        return sparoa_fail(err, SPAROA_IO, NULL, "the reader failed at byte %zu of %llu", at,
                           (unsigned long long)size);
    }
    *file = b;
    return SPAROA_OK;
}

sparoa_status sp_onnx_open(const sp_onnx_source *src, const sparoa_allocator *alloc, sp_blob **file,
                           sparoa_error *err)
{
    if (src->path) return open_path(src->path, src->max_bytes, alloc, file, err);
    if (src->reader) return open_reader(src->reader, src->max_bytes, alloc, file, err);
    sparoa_status status =
        check_size(src->data ? src->size : 0, src->max_bytes, "the model in memory", err);
    if (status != SPAROA_OK) return status;
    sp_blob *b = sp_blob_create(alloc, src->size);
    if (!b) return sp_no_memory(alloc, src->size, err);
    memcpy(b->data, src->data, src->size);
    *file = b;
    return SPAROA_OK;
}

/* protobuf-c allocates from the arena and frees nothing. */
typedef struct arena_allocator {
    sp_arena *arena;
    size_t failed; /* bytes asked for in vain */
} arena_allocator;

static void *arena_alloc(void *user, size_t size)
{
    arena_allocator *a = user;
    void *p = sp_arena_alloc(a->arena, size);
    if (!p) a->failed = size ? size : 1;
    return p;
}

static void arena_free(void *user, void *ptr)
{
    (void)user;
    (void)ptr;
}

sparoa_status sp_onnx_unpack(sp_onnx *x, const ProtobufCMessageDescriptor *type,
                             ProtobufCMessage **message)
{
    sparoa_status status =
        sp_prescan_run(type, x->file->data, x->file->bytes, &x->alloc, &x->scan, x->err);
    if (status != SPAROA_OK) return status;
    arena_allocator a = {&x->scratch, 0};
    ProtobufCAllocator allocator = {arena_alloc, arena_free, &a};
    *message = protobuf_c_message_unpack(type, &allocator, x->scan.bytes, x->scan.skeleton);
    if (*message) return SPAROA_OK;
    if (a.failed) return sp_onnx_oom(x, a.failed);
    return sparoa_fail(x->err, SPAROA_MALFORMED, NULL,
                       "not a well-formed ONNX file; it is damaged or no ONNX");
}

sparoa_status sp_onnx_budget(sp_onnx *x, size_t bytes)
{
    if (bytes > x->budget)
        return sparoa_fail(
            x->err, SPAROA_TOO_LARGE, NULL,
            "the model expands to far more data than its file has (%zu bytes over the limit)",
            bytes - x->budget);
    x->budget -= bytes;
    return SPAROA_OK;
}

void sp_onnx_close(sp_onnx *x)
{
    for (size_t i = 0; i < x->external_count; i++) sp_blob_unref(x->externals[i].blob);
    sp_free(&x->alloc, x->externals, x->external_capacity * sizeof *x->externals);
    sp_prescan_free(&x->scan);
    sp_arena_destroy(&x->scratch);
    sp_blob_unref(x->file);
}
