/* plugin.h - loading a device plug-in: a shared library that exports sparoa_backend_query. */
#ifndef SP_BASE_PLUGIN_H
#define SP_BASE_PLUGIN_H

#include "sparoa_backend.h"

/* Opens the library at `path` (a path with a slash; never searched in the working folder) and asks
 * for its table. Checks the table's size, version and required slots. The library stays loaded for
 * the life of the process. Errors: NOT_FOUND, PLUGIN, DEVICE_UNAVAILABLE (the plug-in's own
 * reason). */
sparoa_status sp_plugin_load(const char *path, const sparoa_host *host,
                             const sparoa_backend **table, sparoa_error *err);

#endif
