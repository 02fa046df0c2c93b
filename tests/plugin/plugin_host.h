/* plugin_host.h - a host for plug-ins that are driven through their table, without the engine: an
 * allocator that counts, the library's operators, a log that is kept. */
#ifndef TESTS_PLUGIN_HOST_H
#define TESTS_PLUGIN_HOST_H

#include <stdatomic.h>
#include <stdlib.h>

#include "base/plugin.h"
#include "ops/op.h"

typedef struct plugin_host {
    sparoa_host host;
    atomic_long blocks, bytes, calls; /* held now; allocations ever */
    atomic_long fail_at;              /* this allocation fails; 0: none */
    atomic_long complaints;           /* lines of level ERROR */
    sparoa_error err;
} plugin_host;

static inline void *plugin_host_alloc(void *user, size_t size, size_t align)
{
    plugin_host *h = user;
    long call = atomic_fetch_add(&h->calls, 1) + 1;
    if (call == atomic_load(&h->fail_at)) return NULL;
    void *p = aligned_alloc(align, (size + align - 1) / align * align);
    if (p) {
        memset(p, 0xa5, size);
        atomic_fetch_add(&h->blocks, 1);
        atomic_fetch_add(&h->bytes, (long)size);
    }
    return p;
}

static inline void plugin_host_free(void *user, void *ptr, size_t size)
{
    plugin_host *h = user;
    if (!ptr) return;
    atomic_fetch_sub(&h->blocks, 1);
    atomic_fetch_sub(&h->bytes, (long)size);
    free(ptr);
}

static inline void plugin_host_log(void *user, sparoa_log_level level, const char *line)
{
    plugin_host *h = user;
    (void)line;
    if (level == SPAROA_LOG_ERROR) atomic_fetch_add(&h->complaints, 1);
}

static inline void plugin_host_parallel(void *pool, int32_t count,
                                        void (*task)(void *arg, int32_t i), void *arg)
{
    (void)pool;
    for (int32_t i = 0; i < count; i++) task(arg, i);
}

static inline const sparoa_op *plugin_host_operator(const sparoa_host *host,
                                                    const sparoa_node *node)
{
    return sp_op_find(node->domain, node->op, node->version, host->operators, host->operator_count);
}

static inline void plugin_host_init(plugin_host *h)
{
    memset(h, 0, sizeof *h);
    h->host = (sparoa_host){.struct_size = sizeof h->host,
                            .abi = SPAROA_BACKEND_ABI,
                            .allocator = {h, plugin_host_alloc, plugin_host_free},
                            .log_user = h,
                            .log = plugin_host_log,
                            .threads = 1,
                            .parallel = plugin_host_parallel,
                            .operator_of = plugin_host_operator};
}

#endif
