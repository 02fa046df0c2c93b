#include "base/plugin.h"

#include <dlfcn.h>
#include <stddef.h>

/* Offsets of the slots that every device must fill. */
static const struct {
    const char *name;
    size_t offset;
} required[] = {
#define SLOT(f)                                                                                    \
    {                                                                                              \
#f, offsetof(sparoa_backend, f)                                                            \
    }
    SLOT(name),         SLOT(version),       SLOT(probe),
    SLOT(device_count), SLOT(device_open),   SLOT(device_close),
    SLOT(device_info),  SLOT(buffer_alloc),  SLOT(buffer_free),
    SLOT(queue_create), SLOT(queue_destroy), SLOT(queue_sync),
    SLOT(copy),         SLOT(node_supports), SLOT(node_create),
    SLOT(node_variant), SLOT(node_bytes),    SLOT(node_keeps_input),
    SLOT(node_prepare), SLOT(node_run),      SLOT(prepared_destroy),
    SLOT(node_destroy)
#undef SLOT
};

static sparoa_status check_table(const char *path, const sparoa_backend *t, sparoa_error *err)
{
    if (t->abi != SPAROA_BACKEND_ABI)
        return sparoa_fail(err, SPAROA_PLUGIN, NULL, "'%.200s' has ABI %u, expected %u; rebuild it",
                           path, t->abi, SPAROA_BACKEND_ABI);
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        const void *slot = NULL;
        if (t->struct_size >= required[i].offset + sizeof slot)
            memcpy(&slot, (const char *)t + required[i].offset, sizeof slot);
        if (!slot)
            return sparoa_fail(err, SPAROA_PLUGIN, NULL,
                               "'%.200s' leaves the required slot %s empty", path,
                               required[i].name);
    }
    return SPAROA_OK;
}

sparoa_status sp_plugin_load(const char *path, const sparoa_host *host,
                             const sparoa_backend **table, sparoa_error *err)
{
    if (!strchr(path, '/'))
        return sparoa_fail(err, SPAROA_NOT_FOUND, NULL,
                           "plug-in '%.200s' must be named with its folder; no folder is searched",
                           path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return sparoa_fail(err, SPAROA_NOT_FOUND, NULL, "plug-in '%.200s': %.150s", path,
                           dlerror());
    sparoa_backend_query_fn query;
    void *symbol = dlsym(library, "sparoa_backend_query");
    if (!symbol)
        return sparoa_fail(err, SPAROA_PLUGIN, NULL,
                           "'%.200s' does not export sparoa_backend_query", path);
    memcpy(&query, &symbol, sizeof query);
    const sparoa_backend *t = query(host);
    if (!t)
        return sparoa_fail(err, SPAROA_PLUGIN, NULL, "'%.200s' does not serve ABI %u", path,
                           SPAROA_BACKEND_ABI);
    sparoa_status status = check_table(path, t, err);
    if (status != SPAROA_OK) return status;
    status = t->probe(host, err);
    if (status != SPAROA_OK) return status;
    *table = t;
    return SPAROA_OK;
}
