/*
 * live.h - the sensors of this machine behind one interface, and the energy between two moments.
 *
 * A sensor says one thing (load, clock, ...) of one device or of the machine; where several say the
 * same, the one found first counts. All files are read below a root folder that tests replace.
 */
#ifndef SP_PLATFORM_LIVE_H
#define SP_PLATFORM_LIVE_H

#include "platform/platform.h"
#include "sparoa_live.h"

/* A device of the runtime: the host first, with table NULL or the CPU's. */
typedef struct sp_live_source {
    const sparoa_backend *table;
    sparoa_dev *dev;
    const char *name;
    sparoa_device_kind kind;
} sp_live_source;

typedef struct sp_live_options {
    const char *root; /* NULL or "": "/" */
    const char *nvml; /* as in sparoa_live_options */
    const sp_live_source *devices;
    uint32_t device_count; /* at most SPAROA_LIVE_DEVICES */
} sp_live_options;

typedef struct sp_live sp_live;

sparoa_status sp_live_create(const sparoa_allocator *alloc, const sp_live_options *options,
                             sp_live **live, sparoa_error *err);
void sp_live_destroy(sp_live *live);

/* own_busy (may be NULL): by device, share of the time since the last read that this process kept
 * it busy, which the caller knows and no sensor says. Taken off other_load (the cpu's own part is
 * measured). */
void sp_live_read(sp_live *live, const double *own_busy, sparoa_live_state *state);
size_t sp_live_sensor_count(const sp_live *live);
void sp_live_sensor(const sp_live *live, size_t index, sparoa_sensor *sensor);

sparoa_status sp_energy_start(sp_live *live, sparoa_error *err);
sparoa_status sp_energy_stop(sp_live *live, sparoa_energy *energy, sparoa_error *err);

/* The state in the terms of a platform file, for prices and policies. Devices are matched by name,
 * else the n-th accelerator with the n-th; what is unknown stays as in `base` (NULL: nominal). */
void sp_live_platform_state(const sparoa_live_state *live, const sp_platform *platform,
                            const sp_platform_state *base, sp_platform_state *state);

#endif
