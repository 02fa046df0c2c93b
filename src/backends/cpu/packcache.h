/*
 * packcache.h - packed weights, shared by all sessions that pack the same source bytes into the
 * same format. Entries are counted references: the last release frees. Any thread may call.
 */
#ifndef SP_BACKENDS_CPU_PACKCACHE_H
#define SP_BACKENDS_CPU_PACKCACHE_H

#include "sparoa_backend.h"

typedef struct sp_cpu_packcache sp_cpu_packcache;

/* What was packed: two independent hashes of the source bytes, and of format and sizes. */
typedef struct sp_pack_key {
    uint64_t lo, hi;
} sp_pack_key;

/* A packed block; data is 64-byte aligned and constant once built. */
typedef struct sp_cpu_packed {
    void *data;
    size_t bytes;
    struct sp_cpu_packed *next;
    sp_cpu_packcache *owner; /* NULL: private to its holder */
    sparoa_allocator allocator;
    sp_pack_key key;
    size_t references;
} sp_cpu_packed;

sp_cpu_packcache *
sp_cpu_packcache_create(const sparoa_allocator *allocator); /* NULL: out of memory */
void sp_cpu_packcache_destroy(sp_cpu_packcache *cache);     /* all blocks must have been released */

/* Start a key with the format's name, then add every source array and number that the packed bytes
 * depend on. */
sp_pack_key sp_pack_key_of(const char *format);
void sp_pack_key_add(sp_pack_key *key, const void *bytes, size_t count);
void sp_pack_key_int(sp_pack_key *key, int64_t value);

/* The block for `key`, filled by build(arg, data) where there is none yet. cache NULL: a
 * private block. NULL: out of memory. */
sp_cpu_packed *sp_cpu_pack_shared(sp_cpu_packcache *cache, const sparoa_allocator *allocator,
                                  sp_pack_key key, size_t bytes,
                                  void (*build)(void *arg, void *data), void *arg);
void sp_cpu_pack_release(sp_cpu_packed *packed); /* NULL is fine */

#endif
