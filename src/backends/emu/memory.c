/* Device memory: a file in memory, mapped twice. A buffer ends at the end of a page, and the page
 * behind it is never accessible, so that kernels that write past a buffer or use one that was freed
 * are caught as well. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emu.h"

#define PAGE 4096
#define SLACK 4 /* addresses per byte of memory, so that none is soon used again */

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

void *emu_host_alloc(sparoa_dev *dev, size_t bytes)
{
    const sparoa_allocator *a = &dev->host->allocator;
    void *p = a->alloc(a->user, bytes, EMU_ALIGN);
    if (p) memset(p, 0, bytes);
    return p;
}

void emu_host_free(sparoa_dev *dev, void *ptr, size_t bytes)
{
    const sparoa_allocator *a = &dev->host->allocator;
    if (ptr) a->free(a->user, ptr, bytes);
}

size_t emu_tensor_bytes(const sparoa_tensor *tensor)
{
    static const uint8_t sizes[] = {
        [SPAROA_FLOAT32] = 4, [SPAROA_UINT8] = 1,   [SPAROA_INT8] = 1,   [SPAROA_UINT16] = 2,
        [SPAROA_INT16] = 2,   [SPAROA_INT32] = 4,   [SPAROA_INT64] = 8,  [SPAROA_BOOL] = 1,
        [SPAROA_FLOAT16] = 2, [SPAROA_FLOAT64] = 8, [SPAROA_UINT32] = 4, [SPAROA_UINT64] = 8,
        [SPAROA_BFLOAT16] = 2};
    size_t n = (unsigned)tensor->dtype < sizeof sizes ? sizes[tensor->dtype] : 0;
    for (int32_t i = 0; i < tensor->rank; i++)
        if (tensor->dims[i] < 0 || __builtin_mul_overflow(n, (size_t)tensor->dims[i], &n)) return 0;
    return n;
}

static char *map(int fd, size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

sparoa_status emu_memory_open(sparoa_dev *dev)
{
    dev->range = round_up((size_t)dev->options.memory * SLACK, PAGE) + 64 * PAGE;
    dev->fd = memfd_create("emu", MFD_CLOEXEC);
    if (dev->fd < 0 || ftruncate(dev->fd, (off_t)dev->range) != 0) return SPAROA_OUT_OF_MEMORY;
    dev->address = map(dev->fd, dev->range);
    dev->memory = map(dev->fd, dev->range);
    return dev->address && dev->memory ? SPAROA_OK : SPAROA_OUT_OF_MEMORY;
}

static void free_buffer(sparoa_dev *dev, const emu_buffer *b);

void emu_memory_close(sparoa_dev *dev)
{
    char line[96];
    snprintf(line, sizeof line, "emu: %zu buffers were not freed before the device was closed",
             dev->buffer_count);
    if (dev->buffer_count) dev->host->log(dev->host->log_user, SPAROA_LOG_ERROR, line);
    for (size_t i = 0; i < dev->buffer_count; i++) free_buffer(dev, &dev->buffers[i]);
    if (dev->address) munmap(dev->address, dev->range);
    if (dev->memory) munmap(dev->memory, dev->range);
    if (dev->fd >= 0) close(dev->fd);
    emu_host_free(dev, dev->buffers, dev->buffer_capacity * sizeof *dev->buffers);
}

/* The first buffer that begins behind `ptr`, by index. */
static size_t first_behind(const sparoa_dev *dev, const char *ptr)
{
    size_t lo = 0, hi = dev->buffer_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (dev->buffers[mid].base > ptr)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

static bool insert(sparoa_dev *dev, const emu_buffer *buffer)
{
    if (dev->buffer_count == dev->buffer_capacity) {
        size_t capacity = dev->buffer_capacity ? 2 * dev->buffer_capacity : 64;
        emu_buffer *more = emu_host_alloc(dev, capacity * sizeof *more);
        if (!more) return false;
        if (dev->buffer_count) memcpy(more, dev->buffers, dev->buffer_count * sizeof *more);
        emu_host_free(dev, dev->buffers, dev->buffer_capacity * sizeof *more);
        dev->buffers = more;
        dev->buffer_capacity = capacity;
    }
    size_t i = first_behind(dev, buffer->base);
    memmove(&dev->buffers[i + 1], &dev->buffers[i], (dev->buffer_count - i) * sizeof *buffer);
    dev->buffers[i] = *buffer;
    dev->buffer_count++;
    return true;
}

static char *page_of(char *p)
{
    return p - (uintptr_t)p % PAGE;
}

/* An address for `pages` bytes with a free page on either side, at or behind offset `from`. */
static char *find_space(const sparoa_dev *dev, size_t from, size_t pages)
{
    size_t at = from ? from : PAGE;
    for (size_t i = first_behind(dev, dev->address + at - 1); at + pages + PAGE <= dev->range;
         i++) {
        bool last = i == dev->buffer_count || dev->buffers[i].base >= dev->address + dev->range;
        if (i < dev->buffer_count && dev->buffers[i].base < dev->address) continue;
        size_t limit = last ? dev->range : (size_t)(page_of(dev->buffers[i].base) - dev->address);
        if (at + pages + PAGE <= limit) return dev->address + at;
        if (last) break;
        const emu_buffer *b = &dev->buffers[i];
        at = round_up((size_t)(b->base + b->bytes - dev->address), PAGE) + PAGE;
    }
    return NULL;
}

static sparoa_status alloc_device(sparoa_dev *dev, size_t bytes, emu_buffer *b)
{
    size_t size = round_up(bytes ? bytes : 1, EMU_ALIGN), pages = round_up(size, PAGE);
    if (size < bytes || size > dev->options.memory - dev->used) return SPAROA_OUT_OF_MEMORY;
    char *at = find_space(dev, dev->next, pages);
    if (!at) at = find_space(dev, 0, pages);
    if (!at) return SPAROA_OUT_OF_MEMORY;
    size_t offset = (size_t)(at - dev->address);
    if (mprotect(dev->memory + offset, pages, PROT_READ | PROT_WRITE) != 0)
        return SPAROA_OUT_OF_MEMORY;
    *b = (emu_buffer){at + pages - size, bytes ? bytes : 1, SPAROA_MEMORY_DEVICE};
    memset(dev->memory + offset + pages - size, 0xff, size); /* NaN: nobody reads it unnoticed */
    dev->next = offset + pages + PAGE;
    dev->used += size;
    return SPAROA_OK;
}

static void free_buffer(sparoa_dev *dev, const emu_buffer *b)
{
    if (b->kind != SPAROA_MEMORY_DEVICE) {
        emu_host_free(dev, b->base, b->bytes);
        return;
    }
    size_t offset = (size_t)(page_of(b->base) - dev->address), pages = round_up(b->bytes, PAGE);
    mprotect(dev->memory + offset, pages, PROT_NONE);
    fallocate(dev->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)pages);
    dev->used -= round_up(b->bytes, EMU_ALIGN);
}

sparoa_status emu_buffer_alloc(sparoa_dev *dev, size_t bytes, sparoa_memory_kind kind, void **ptr)
{
    emu_buffer b = {.bytes = bytes ? bytes : 1, .kind = kind};
    sparoa_status status = SPAROA_OK;
    pthread_mutex_lock(&dev->lock);
    if (dev->lost)
        status = SPAROA_DEVICE_LOST;
    else if (++dev->allocs == dev->options.fail_alloc)
        status = SPAROA_OUT_OF_MEMORY;
    else if (kind == SPAROA_MEMORY_DEVICE)
        status = alloc_device(dev, bytes, &b);
    else if (!(b.base = emu_host_alloc(dev, b.bytes)))
        status = SPAROA_OUT_OF_MEMORY;
    if (status == SPAROA_OK && !insert(dev, &b)) {
        free_buffer(dev, &b);
        status = SPAROA_OUT_OF_MEMORY;
    }
    if (status == SPAROA_OK) *ptr = b.base;
    pthread_mutex_unlock(&dev->lock);
    return status;
}

void emu_buffer_free(sparoa_dev *dev, void *ptr, size_t bytes, sparoa_memory_kind kind)
{
    if (!ptr) return;
    pthread_mutex_lock(&dev->lock);
    size_t i = first_behind(dev, ptr);
    emu_buffer *b = i ? &dev->buffers[i - 1] : NULL;
    size_t size = bytes ? bytes : 1;
    if (b && b->base == ptr && b->bytes == size && b->kind == kind) {
        free_buffer(dev, b);
        dev->buffer_count--;
        memmove(b, b + 1, (dev->buffer_count - (i - 1)) * sizeof *b);
    } else {
        dev->host->log(dev->host->log_user, SPAROA_LOG_ERROR,
                       "emu: buffer_free of what is no buffer of this size and kind");
    }
    pthread_mutex_unlock(&dev->lock);
}

void *emu_translate(sparoa_dev *dev, const void *ptr, size_t bytes, bool kernel)
{
    char *p = (char *)ptr;
    bool ours = p >= dev->address && p < dev->address + dev->range;
    size_t i = first_behind(dev, p);
    const emu_buffer *b = i ? &dev->buffers[i - 1] : NULL;
    bool inside = b && p < b->base + b->bytes;
    if (inside && bytes > (size_t)(b->base + b->bytes - p)) return NULL;
    if (ours) return inside ? dev->memory + (p - dev->address) : NULL;
    bool allowed = !kernel || (inside && b->kind == SPAROA_MEMORY_UNIFIED);
    return allowed ? p : NULL;
}
