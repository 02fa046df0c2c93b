#include <string.h>

#include "api/objects.h"
#include "base/plugin.h"
#include "ops/op.h"

int32_t sp_runtime_device(const sparoa_runtime *runtime, const char *name)
{
    for (int32_t i = 0; i < runtime->device_count; i++)
        if (strcmp(runtime->names[i], name) == 0) return i;
    return -1;
}

static sparoa_status open_devices(sparoa_runtime *rt, const sparoa_backend *table,
                                  const char *options, sparoa_error *err)
{
    int32_t count = table->device_count(&rt->host);
    if (count <= 0)
        return sparoa_fail(err, SPAROA_DEVICE_UNAVAILABLE, NULL, "plug-in '%s' found no device",
                           table->name);
    for (int32_t i = 0; i < count; i++) {
        if (rt->device_count == SP_MAX_DEVICES)
            return sparoa_fail(err, SPAROA_PLUGIN, NULL, "a runtime takes at most %d devices",
                               SP_MAX_DEVICES);
        sp_device *d = &rt->devices[rt->device_count];
        sparoa_device_info info = {.struct_size = sizeof info};
        SP_TRY(table->device_open(&rt->host, i, options, &d->dev, err));
        d->table = table;
        table->device_info(d->dev, &info);
        if (sp_runtime_device(rt, info.name) >= 0) {
            table->device_close(d->dev);
            *d = (sp_device){0};
            return sparoa_fail(err, SPAROA_PLUGIN, NULL, "there is a device '%s' already",
                               info.name);
        }
        snprintf(rt->names[rt->device_count], sizeof rt->names[0], "%s", info.name);
        rt->device_count++;
        sp_log_line(&rt->log, SPAROA_LOG_INFO, "device %s: %s", info.name, info.description);
    }
    return SPAROA_OK;
}

sparoa_status sparoa_runtime_load_plugin(sparoa_runtime *runtime, const char *path,
                                         const char *options, sparoa_error *err)
{
    const sparoa_backend *table = NULL;
    if (!runtime || !path)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "runtime or path is NULL");
    pthread_mutex_lock(&runtime->mutex);
    sparoa_status status = sp_plugin_load(path, &runtime->host, &table, err);
    if (status == SPAROA_OK) status = open_devices(runtime, table, options, err);
    pthread_mutex_unlock(&runtime->mutex);
    return status;
}

size_t sparoa_device_count(const sparoa_runtime *runtime)
{
    return runtime ? (size_t)runtime->device_count : 0;
}

sparoa_status sparoa_device(const sparoa_runtime *runtime, size_t index, sparoa_device_desc *desc)
{
    if (!runtime || !desc || index >= (size_t)runtime->device_count) return SPAROA_INVALID_ARGUMENT;
    const sp_device *d = &runtime->devices[index];
    sparoa_device_info info = {.struct_size = sizeof info};
    *desc = (sparoa_device_desc){0};
    if (d->table->describe) {
        d->table->describe(d->dev, desc);
    } else {
        d->table->device_info(d->dev, &info);
        snprintf(desc->description, sizeof desc->description, "%s", info.description);
        desc->memory_bytes = info.memory_bytes;
    }
    snprintf(desc->name, sizeof desc->name, "%s", runtime->names[index]);
    return SPAROA_OK;
}

sparoa_status sparoa_device_measure(sparoa_runtime *runtime, size_t index, int32_t milliseconds,
                                    sparoa_device_peak *peak, sparoa_error *err)
{
    if (!runtime || !peak || index >= (size_t)runtime->device_count || milliseconds < 30)
        return sparoa_fail(
            err, SPAROA_INVALID_ARGUMENT, NULL,
            "needs a runtime, a place for the result, a device and at least 30 milliseconds");
    const sp_device *d = &runtime->devices[index];
    if (!d->table->measure)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "device '%s' cannot be measured",
                           runtime->names[index]);
    return d->table->measure(d->dev, milliseconds, peak, err);
}
