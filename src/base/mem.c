#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* From this size on memory comes straight from the system, in huge pages where it has them, and
 * goes back the moment it is freed: weights come and go once, and a heap would keep the holes.
 * Sanitizers watch the heap only. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAP_FROM SIZE_MAX
#else
#define MAP_FROM ((size_t)1 << 20)
#endif
#define MAP_ALIGN 4096 /* no page is smaller */
#define HUGE_PAGE ((size_t)2 << 20)

static void *map_pages(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Begins at a huge page, where one fits: else up to two of its size would be small ones. */
static void *map_alloc(size_t size)
{
    if (size < HUGE_PAGE) return map_pages(size);
    if (size > PTRDIFF_MAX - HUGE_PAGE) return NULL;
    char *all = map_pages(size + HUGE_PAGE);
    if (!all) return map_pages(size);
    size_t before = (HUGE_PAGE - (uintptr_t)all % HUGE_PAGE) % HUGE_PAGE;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t end = (before + size + page - 1) / page * page;
    if (before) munmap(all, before);
    if (end < size + HUGE_PAGE) munmap(all + end, size + HUGE_PAGE - end);
#ifdef MADV_HUGEPAGE
    madvise(all + before, size, MADV_HUGEPAGE);
#endif
    return all + before;
}

static void *libc_alloc(void *user, size_t size, size_t align)
{
    (void)user;
    void *p = NULL;
    if (size >= MAP_FROM) return align <= MAP_ALIGN ? map_alloc(size) : NULL;
    return posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size) == 0 ? p
                                                                                          : NULL;
}

static void libc_free(void *user, void *ptr, size_t size)
{
    (void)user;
    if (size >= MAP_FROM)
        munmap(ptr, size);
    else
        free(ptr);
}

static void *mem_alloc(void *user, size_t size, size_t align)
{
    sp_mem *mem = user;
    size_t used = atomic_fetch_add(&mem->used, size) + size;
    if (mem->limit && used > mem->limit) {
        atomic_fetch_sub(&mem->used, size);
        atomic_store(&mem->limit_hit, true);
        return NULL;
    }
    void *p = mem->base.alloc(mem->base.user, size, align);
    if (!p) {
        atomic_fetch_sub(&mem->used, size);
        atomic_store(&mem->limit_hit, false);
        return NULL;
    }
    size_t peak = atomic_load(&mem->peak);
    while (used > peak && !atomic_compare_exchange_weak(&mem->peak, &peak, used)) {
    }
    return p;
}

static void mem_free(void *user, void *ptr, size_t size)
{
    sp_mem *mem = user;
    if (!ptr) return;
    atomic_fetch_sub(&mem->used, size);
    mem->base.free(mem->base.user, ptr, size);
}

sparoa_allocator sp_mem_init(sp_mem *mem, const sparoa_allocator *base, size_t limit)
{
    mem->base = base && base->alloc ? *base : (sparoa_allocator){NULL, libc_alloc, libc_free};
    mem->limit = limit;
    atomic_init(&mem->used, 0);
    atomic_init(&mem->peak, 0);
    atomic_init(&mem->limit_hit, false);
    return (sparoa_allocator){mem, mem_alloc, mem_free};
}

void *sp_alloc(const sparoa_allocator *a, size_t size)
{
    if (size > PTRDIFF_MAX) return NULL;
    return a->alloc(a->user, size ? size : 1, SP_ALIGN);
}

void *sp_calloc(const sparoa_allocator *a, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    void *p = sp_alloc(a, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void sp_free(const sparoa_allocator *a, void *ptr, size_t size)
{
    if (ptr) a->free(a->user, ptr, size ? size : 1);
}

sparoa_status sp_no_memory(const sparoa_allocator *a, size_t bytes, sparoa_error *err)
{
    const sp_mem *mem = a->alloc == mem_alloc ? a->user : NULL;
    bool capped = mem && atomic_load(&mem->limit_hit);
    sparoa_status status = capped ? SPAROA_MEMORY_LIMIT : SPAROA_OUT_OF_MEMORY;
    if (!err) return status;
    *err = (sparoa_error){.status = status};
    if (capped)
        snprintf(
            err->message, sizeof err->message,
            "%zu more bytes would pass the memory limit of %zu (%zu in use); raise memory_limit or "
            "use smaller shapes",
            bytes, mem->limit, atomic_load(&mem->used));
    else
        snprintf(err->message, sizeof err->message,
                 "no memory for %zu bytes; free some or use smaller shapes", bytes);
    return status;
}

bool sp_grow(const sparoa_allocator *a, void *items, size_t *capacity, size_t need,
             size_t item_size)
{
    if (need <= *capacity) return true;
    size_t n = *capacity ? *capacity * 2 : 16, bytes;
    if (n < need) n = need;
    if (__builtin_mul_overflow(n, item_size, &bytes)) return false;
    void *old, *grown = sp_alloc(a, bytes);
    if (!grown) return false;
    memcpy(&old, items, sizeof old);
    if (*capacity) memcpy(grown, old, *capacity * item_size);
    memset((char *)grown + *capacity * item_size, 0, (n - *capacity) * item_size);
    sp_free(a, *capacity ? old : NULL, *capacity * item_size);
    memcpy(items, &grown, sizeof grown);
    *capacity = n;
    return true;
}

struct sp_arena_chunk {
    sp_arena_chunk *next;
    size_t size, used; /* of the whole chunk, this header included */
};

#define CHUNK_HEADER ((sizeof(sp_arena_chunk) + 15) / 16 * 16)
#define CHUNK_MIN ((size_t)4096)
#define CHUNK_MAX ((size_t)1 << 18)

void sp_arena_init(sp_arena *arena, const sparoa_allocator *alloc)
{
    arena->alloc = *alloc;
    arena->chunks = NULL;
}

void *sp_arena_alloc(sp_arena *arena, size_t size)
{
    if (size > PTRDIFF_MAX / 2) return NULL;
    size = (size + 15) / 16 * 16;
    sp_arena_chunk *c = arena->chunks;
    if (!c || c->size - c->used < size) {
        size_t bytes = c ? c->size * 2 : CHUNK_MIN;
        if (bytes > CHUNK_MAX) bytes = CHUNK_MAX;
        if (bytes < size + CHUNK_HEADER) bytes = size + CHUNK_HEADER;
        sp_arena_chunk *fresh = sp_alloc(&arena->alloc, bytes);
        if (!fresh) return NULL;
        *fresh = (sp_arena_chunk){c, bytes, CHUNK_HEADER};
        arena->chunks = c = fresh;
    }
    void *p = (char *)c + c->used;
    c->used += size;
    memset(p, 0, size);
    return p;
}

void *sp_arena_copy(sp_arena *arena, const void *data, size_t size)
{
    void *p = sp_arena_alloc(arena, size);
    if (p && size) memcpy(p, data, size);
    return p;
}

char *sp_arena_strndup(sp_arena *arena, const char *s, size_t n)
{
    char *p = sp_arena_alloc(arena, n + 1);
    if (p && n) memcpy(p, s, n);
    return p;
}

char *sp_arena_strdup(sp_arena *arena, const char *s)
{
    return sp_arena_strndup(arena, s, strlen(s));
}

char *sp_arena_printf(sp_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *p = n < 0 ? NULL : sp_arena_alloc(arena, (size_t)n + 1);
    if (!p) return NULL;
    va_start(args, format);
    vsnprintf(p, (size_t)n + 1, format, args);
    va_end(args);
    return p;
}

void sp_arena_destroy(sp_arena *arena)
{
    for (sp_arena_chunk *c = arena->chunks, *next; c; c = next) {
        next = c->next;
        sp_free(&arena->alloc, c, c->size);
    }
    arena->chunks = NULL;
}
