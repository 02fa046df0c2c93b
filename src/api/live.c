/* sparoa_live.h: sensors of the machine and energy. */
#include "api/live.h"

static sparoa_status no_live(sparoa_error *err)
{
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                       "live or the place for the result is NULL");
}

sparoa_status sparoa_live_create(sparoa_runtime *runtime, const sparoa_live_options *options,
                                 sparoa_live **live, sparoa_error *err)
{
    sparoa_live_options o;
    if (!runtime || !live) return no_live(err);
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    sp_live_source devices[SPAROA_LIVE_DEVICES];
    uint32_t count = 0;
    for (; count < (uint32_t)runtime->device_count && count < SPAROA_LIVE_DEVICES; count++) {
        const sp_device *d = &runtime->devices[count];
        sparoa_device_info info = {.struct_size = sizeof info};
        d->table->device_info(d->dev, &info);
        devices[count] = (sp_live_source){d->table, d->dev, runtime->names[count], info.kind};
    }
    sparoa_live *l = sp_calloc(&runtime->alloc, 1, sizeof *l);
    if (!l) return sp_no_memory(&runtime->alloc, sizeof *l, err);
    const sp_live_options lo = {o.root, o.nvml, devices, count};
    sparoa_status status = sp_live_create(&runtime->alloc, &lo, &l->live, err);
    if (status != SPAROA_OK) {
        sp_free(&runtime->alloc, l, sizeof *l);
        return status;
    }
    l->runtime = runtime;
    sp_runtime_ref(runtime);
    *live = l;
    return SPAROA_OK;
}

void sparoa_live_destroy(sparoa_live *live)
{
    if (!live) return;
    sparoa_runtime *rt = live->runtime;
    sp_live_destroy(live->live);
    sp_free(&rt->alloc, live, sizeof *live);
    sp_runtime_unref(rt);
}

void sparoa_live_read(sparoa_live *live, sparoa_live_state *state)
{
    if (live && state) sp_live_read(live->live, NULL, state);
}

size_t sparoa_live_sensor_count(const sparoa_live *live)
{
    return live ? sp_live_sensor_count(live->live) : 0;
}

sparoa_status sparoa_live_sensor(const sparoa_live *live, size_t index, sparoa_sensor *sensor)
{
    if (!live || !sensor || index >= sp_live_sensor_count(live->live))
        return SPAROA_INVALID_ARGUMENT;
    sp_live_sensor(live->live, index, sensor);
    return SPAROA_OK;
}

sparoa_status sparoa_energy_start(sparoa_live *live, sparoa_error *err)
{
    return live ? sp_energy_start(live->live, err) : no_live(err);
}

sparoa_status sparoa_energy_stop(sparoa_live *live, sparoa_energy *energy, sparoa_error *err)
{
    return live && energy ? sp_energy_stop(live->live, energy, err) : no_live(err);
}
