#include "backends/cpu/packcache.h"

#include <pthread.h>

struct sp_cpu_packcache {
    sparoa_allocator allocator;
    pthread_mutex_t mutex;
    sp_cpu_packed *first;
};

sp_cpu_packcache *sp_cpu_packcache_create(const sparoa_allocator *allocator)
{
    sp_cpu_packcache *cache = allocator->alloc(allocator->user, sizeof *cache, 64);
    if (!cache) return NULL;
    *cache = (sp_cpu_packcache){.allocator = *allocator};
    if (pthread_mutex_init(&cache->mutex, NULL)) {
        allocator->free(allocator->user, cache, sizeof *cache);
        return NULL;
    }
    return cache;
}

void sp_cpu_packcache_destroy(sp_cpu_packcache *cache)
{
    if (!cache) return;
    sparoa_allocator a = cache->allocator;
    pthread_mutex_destroy(&cache->mutex);
    a.free(a.user, cache, sizeof *cache);
}

static uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

sp_pack_key sp_pack_key_of(const char *format)
{
    sp_pack_key key = {0x243f6a8885a308d3u, 0x13198a2e03707344u};
    sp_pack_key_add(&key, format, strlen(format));
    return key;
}

void sp_pack_key_int(sp_pack_key *key, int64_t value)
{
    key->lo = mix(key->lo + (uint64_t)value) + 0x9e3779b97f4a7c15u;
    key->hi = mix(key->hi ^ ((uint64_t)value * 0xa0761d6478bd642fu)) + 0xe7037ed1a0b428dbu;
}

/* The bulk of a large array, eight words side by side: one after the other, each would wait for the
 * multiplication of the one before. Returns the bytes taken. */
static size_t add_lanes(const unsigned char *p, size_t count, uint64_t *lo, uint64_t *hi)
{
    uint64_t a[8], b[8];
    size_t i = 0;
    if (count < 1024) return 0;
    for (uint64_t k = 0; k < 8; k++) {
        a[k] = mix(*lo + k);
        b[k] = mix(*hi ^ (k + 1));
    }
    for (; i + 64 <= count; i += 64)
        for (size_t k = 0; k < 8; k++) {
            uint64_t w;
            memcpy(&w, p + i + 8 * k, 8);
            a[k] = (a[k] ^ w) * 0x9fb21c651e98df25u;
            a[k] ^= a[k] >> 29;
            b[k] = (b[k] + w) * 0xff51afd7ed558ccdu;
            b[k] ^= b[k] >> 31;
        }
    for (size_t k = 0; k < 8; k++) {
        *lo = mix(*lo ^ a[k]) + k;
        *hi = mix(*hi + b[k]) ^ k;
    }
    return i;
}

void sp_pack_key_add(sp_pack_key *key, const void *bytes, size_t count)
{
    const unsigned char *p = bytes;
    uint64_t lo = key->lo, hi = key->hi;
    size_t i = add_lanes(p, count, &lo, &hi);
    for (; i + 8 <= count; i += 8) {
        uint64_t w;
        memcpy(&w, p + i, 8);
        lo = (lo ^ w) * 0x9fb21c651e98df25u;
        lo ^= lo >> 29;
        hi = (hi + w) * 0xff51afd7ed558ccdu;
        hi ^= hi >> 31;
    }
    uint64_t w = 0;
    if (i < count) memcpy(&w, p + i, count - i);
    key->lo = mix(lo ^ w);
    key->hi = mix(hi + w);
    sp_pack_key_int(key, (int64_t)count);
}

static sp_cpu_packed *build_block(const sparoa_allocator *a, sp_pack_key key, size_t bytes,
                                  void (*build)(void *arg, void *data), void *arg)
{
    sp_cpu_packed *block = a->alloc(a->user, sizeof *block, 64);
    if (!block) return NULL;
    *block =
        (sp_cpu_packed){.bytes = bytes ? bytes : 1, .allocator = *a, .key = key, .references = 1};
    block->data = a->alloc(a->user, block->bytes, 64);
    if (!block->data) {
        a->free(a->user, block, sizeof *block);
        return NULL;
    }
    build(arg, block->data);
    return block;
}

sp_cpu_packed *sp_cpu_pack_shared(sp_cpu_packcache *cache, const sparoa_allocator *allocator,
                                  sp_pack_key key, size_t bytes,
                                  void (*build)(void *arg, void *data), void *arg)
{
    if (!cache) return build_block(allocator, key, bytes, build, arg);
    /* Held while building: two sessions created at once must not pack the same weights twice. */
    pthread_mutex_lock(&cache->mutex);
    sp_cpu_packed *block = cache->first;
    while (block && (block->key.lo != key.lo || block->key.hi != key.hi ||
                     block->bytes != (bytes ? bytes : 1)))
        block = block->next;
    if (block) {
        block->references++;
    } else if ((block = build_block(&cache->allocator, key, bytes, build, arg))) {
        block->owner = cache;
        block->next = cache->first;
        cache->first = block;
    }
    pthread_mutex_unlock(&cache->mutex);
    return block;
}

void sp_cpu_pack_release(sp_cpu_packed *block)
{
    if (!block) return;
    if (block->owner) {
        sp_cpu_packcache *cache = block->owner;
        pthread_mutex_lock(&cache->mutex);
        bool last = --block->references == 0;
        if (last) {
            sp_cpu_packed **link = &cache->first;
            while (*link != block) link = &(*link)->next;
            *link = block->next;
        }
        pthread_mutex_unlock(&cache->mutex);
        if (!last) return;
    }
    sparoa_allocator a = block->allocator;
    a.free(a.user, block->data, block->bytes);
    a.free(a.user, block, sizeof *block);
}
