/* mem.h - memory: the caller's allocator with accounting and a cap, arenas, growing arrays. */
#ifndef SP_BASE_MEM_H
#define SP_BASE_MEM_H

#include <stdatomic.h>
#include <stdbool.h>

#include "sparoa.h"

#define SP_ALIGN 64 /* of tensor data: one cache line, one AVX-512 register */

/* Counts what goes through it and refuses to pass the cap. Lives as long as the runtime. */
typedef struct sp_mem {
    sparoa_allocator base;
    size_t limit; /* 0: none */
    atomic_size_t used, peak;
    atomic_bool limit_hit; /* the latest refusal was the cap's, not the base allocator's */
} sp_mem;

/* base may be NULL: libc. The returned allocator refers to mem. */
sparoa_allocator sp_mem_init(sp_mem *mem, const sparoa_allocator *base, size_t limit);

void *sp_alloc(const sparoa_allocator *a,
               size_t size); /* SP_ALIGN-aligned; NULL: no memory; size 0: a valid pointer */
void *sp_calloc(const sparoa_allocator *a, size_t count,
                size_t size);                                    /* zeroed; checks the product */
void sp_free(const sparoa_allocator *a, void *ptr, size_t size); /* NULL is fine */

/* Fills err for an allocation of `bytes` that failed: OUT_OF_MEMORY, or MEMORY_LIMIT where the cap
 * refused. */
sparoa_status sp_no_memory(const sparoa_allocator *a, size_t bytes, sparoa_error *err);

/* Makes *items (of item_size, *capacity of them) hold at least `need`; false: no memory. Keeps the
 * contents. */
bool sp_grow(const sparoa_allocator *a, void *items, size_t *capacity, size_t need,
             size_t item_size);

/* Many small objects freed together. */
typedef struct sp_arena_chunk sp_arena_chunk;
typedef struct sp_arena {
    sparoa_allocator alloc;
    sp_arena_chunk *chunks;
} sp_arena;

void sp_arena_init(sp_arena *arena, const sparoa_allocator *alloc);
void *sp_arena_alloc(sp_arena *arena, size_t size); /* 16-byte aligned, zeroed; NULL: no memory */
char *sp_arena_strndup(sp_arena *arena, const char *s, size_t n);
char *sp_arena_strdup(sp_arena *arena, const char *s);
char *sp_arena_printf(sp_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void *sp_arena_copy(sp_arena *arena, const void *data, size_t size);
void sp_arena_destroy(sp_arena *arena);

#endif
