/* The table of sensors: finding, reading, and the state made of it. */
#include "platform/live.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "platform/live_parts.h"

sp_sensor *sp_live_add(sp_live *live, sp_what what, int32_t device, const char *name,
                       double (*read)(sp_live *, const sp_sensor *), const char *source, ...)
{
    if (live->failed || !sp_grow(&live->alloc, &live->sensors, &live->capacity, live->count + 1,
                                 sizeof live->spare)) {
        live->failed = true;
        return &live->spare;
    }
    sp_sensor *s = &live->sensors[live->count++];
    *s = (sp_sensor){.what = what, .device = device, .read = read, .scale = 1, .value = -1};
    snprintf(s->name, sizeof s->name, "%s", name);
    va_list args;
    va_start(args, source);
    vsnprintf(s->source, sizeof s->source, source, args);
    va_end(args);
    return s;
}

/* ---- files below the root ---- */

bool sp_live_text(const sp_live *live, char *text, size_t size, const char *path, ...)
{
    char full[512];
    size_t used = (size_t)snprintf(full, sizeof full, "%s", live->root);
    va_list args;
    va_start(args, path);
    vsnprintf(full + used, sizeof full - used, path, args);
    va_end(args);
    text[0] = 0;
    FILE *file = fopen(full, "r");
    if (!file) return false;
    bool good = fgets(text, (int)size, file) != NULL;
    fclose(file);
    text[strcspn(text, "\n")] = 0;
    return good;
}

double sp_live_number(const char *text)
{
    char *end;
    double v = strtod(text, &end);
    return end != text && v >= 0 && isfinite(v) ? v : -1;
}

double sp_live_file_number(sp_live *live, const sp_sensor *sensor)
{
    char text[64];
    if (!sp_live_text(live, text, sizeof text, "%s", sensor->source)) return -1;
    double v = sp_live_number(text);
    return v < 0 ? -1 : v * sensor->scale;
}

static int natural(const void *a, const void *b)
{
    return strverscmp(a, b);
}

void sp_live_list(const sp_live *live, const char *folder, const char *prefix, sp_names *names)
{
    char full[512];
    names->count = 0;
    snprintf(full, sizeof full, "%s%s", live->root, folder);
    DIR *dir = opendir(full);
    for (struct dirent *e; dir && names->count < SP_LIVE_NAMES && (e = readdir(dir)) != NULL;) {
        size_t n = strlen(e->d_name);
        if (e->d_name[0] == '.' || strncmp(e->d_name, prefix, strlen(prefix))) continue;
        if (n < sizeof names->name[0]) memcpy(names->name[names->count++], e->d_name, n + 1);
    }
    if (dir) closedir(dir);
    qsort(names->name, names->count, sizeof names->name[0], natural);
}

int32_t sp_live_integrated_gpu(const sp_live *live)
{
    for (uint32_t d = 1; d < live->device_count; d++)
        if (live->devices[d].kind == SPAROA_DEVICE_INTEGRATED_GPU) return (int32_t)d;
    return SP_SENSOR_MACHINE;
}

/* ---- what plug-ins say of their devices ---- */

static double read_status(sp_live *live, const sp_sensor *s)
{
    const sparoa_device_status *st = &live->status[s->device];
    switch (s->what) {
    case SP_WHAT_LOAD: return st->load;
    case SP_WHAT_CLOCK: return st->clock_mhz;
    case SP_WHAT_TEMPERATURE: return st->temperature_c;
    case SP_WHAT_POWER: return st->power_w;
    case SP_WHAT_MEMORY_FREE: return st->free_bytes ? (double)st->free_bytes : -1;
    default: return -1;
    }
}

static double read_info(sp_live *live, const sp_sensor *s)
{
    const sp_live_source *d = &live->devices[s->device];
    sparoa_device_info info = {.struct_size = sizeof info};
    d->table->device_info(d->dev, &info);
    return info.memory_bytes ? (double)info.memory_bytes : -1;
}

void sp_live_status_refresh(sp_live *live)
{
    for (uint32_t d = 1; d < live->device_count; d++) {
        sparoa_device_status *st = &live->status[d];
        const sparoa_backend *t = live->devices[d].table;
        *st = (sparoa_device_status){sizeof *st, 0, -1, -1, -1, -1};
        if (t && t->device_status && t->device_status(live->devices[d].dev, st) != SPAROA_OK)
            *st = (sparoa_device_status){sizeof *st, 0, -1, -1, -1, -1};
    }
}

static void add_slots(sp_live *live)
{
    static const sp_what said[] = {SP_WHAT_LOAD, SP_WHAT_CLOCK, SP_WHAT_TEMPERATURE, SP_WHAT_POWER,
                                   SP_WHAT_MEMORY_FREE};
    sp_live_status_refresh(live);
    for (uint32_t d = 1; d < live->device_count; d++) {
        const sp_live_source *from = &live->devices[d];
        if (!from->table) continue;
        for (size_t i = 0; from->table->device_status && i < sizeof said / sizeof *said; i++) {
            sp_sensor asked = {.what = said[i], .device = (int32_t)d};
            if (read_status(live, &asked) >= 0)
                sp_live_add(live, said[i], (int32_t)d, from->name, read_status,
                            "plug-in %s, device_status", from->table->name);
        }
        sp_live_add(live, SP_WHAT_MEMORY, (int32_t)d, from->name, read_info,
                    "plug-in %s, device_info", from->table->name);
    }
}

/* ---- energy: which sensors count ---- */

bool sp_live_machine_counts(const sp_live *live)
{
    for (size_t i = 0; i < live->count; i++) {
        const sp_sensor *s = &live->sensors[i];
        if (s->counts && s->what == SP_WHAT_POWER && s->device == SP_SENSOR_MACHINE) return true;
    }
    return false;
}

static bool counted_device(const sp_live *live, int32_t device)
{
    for (size_t i = 0; device > 0 && i < live->count; i++)
        if (live->sensors[i].counts && live->sensors[i].device == device) return true;
    return false;
}

/* A device whose power only its plug-in tells counts by that, unless a sensor covers the module. */
static void count_plugins(sp_live *live)
{
    if (sp_live_machine_counts(live)) return;
    for (size_t i = 0; i < live->count; i++) {
        sp_sensor *s = &live->sensors[i];
        if (s->what == SP_WHAT_POWER && s->read == read_status && !counted_device(live, s->device))
            s->counts = true;
    }
}

static void read_sensors(sp_live *live)
{
    sp_live_status_refresh(live);
    sp_live_host_refresh(live);
    for (size_t i = 0; i < live->count; i++)
        live->sensors[i].value = live->sensors[i].read(live, &live->sensors[i]);
}

sparoa_status sp_live_create(const sparoa_allocator *alloc, const sp_live_options *options,
                             sp_live **live, sparoa_error *err)
{
    const char *root = options->root && strcmp(options->root, "/") ? options->root : "";
    if (strlen(root) >= sizeof(*live)->root || options->device_count > SPAROA_LIVE_DEVICES)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "root is longer than %zu characters, or %u devices are more than %d",
                           sizeof(*live)->root - 1, options->device_count, SPAROA_LIVE_DEVICES);
    sp_live *l = sp_calloc(alloc, 1, sizeof *l);
    if (!l) return sp_no_memory(alloc, sizeof *l, err);
    l->alloc = *alloc;
    snprintf(l->root, sizeof l->root, "%s", root);
    l->device_count = options->device_count;
    for (uint32_t d = 0; d < l->device_count; d++) l->devices[d] = options->devices[d];
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->wake, NULL);
    l->load = l->other_load = -1;
    sp_live_host_refresh(l);
    sp_live_host_sensors(l);
    add_slots(l);
    sp_live_jetson_sensors(l);
    sp_live_power_sensors(l);
    sp_live_nvml_sensors(l, options->nvml ? options->nvml : *root ? "" : "libnvidia-ml.so.1");
    count_plugins(l);
    if (l->failed) {
        sp_live_destroy(l);
        return sp_no_memory(alloc, sizeof(sp_sensor), err);
    }
    read_sensors(l);
    *live = l;
    return SPAROA_OK;
}

void sp_live_destroy(sp_live *live)
{
    if (!live) return;
    if (live->measuring) sp_energy_stop(live, NULL, NULL);
    sp_live_nvml_close(live);
    pthread_cond_destroy(&live->wake);
    pthread_mutex_destroy(&live->mutex);
    sparoa_allocator alloc = live->alloc;
    sp_free(&alloc, live->sensors, live->capacity * sizeof *live->sensors);
    sp_free(&alloc, live, sizeof *live);
}

static double *place_of(sparoa_live_device *d, sp_what what)
{
    switch (what) {
    case SP_WHAT_LOAD: return &d->load;
    case SP_WHAT_OTHER_LOAD: return &d->other_load;
    case SP_WHAT_CLOCK: return &d->clock_mhz;
    case SP_WHAT_MAX_CLOCK: return &d->max_clock_mhz;
    case SP_WHAT_UNITS: return &d->units;
    case SP_WHAT_TEMPERATURE: return &d->temperature_c;
    case SP_WHAT_MEMORY: return &d->memory_bytes;
    case SP_WHAT_MEMORY_FREE: return &d->memory_free;
    case SP_WHAT_POWER: return &d->power_w;
    default: return NULL;
    }
}

void sp_live_read(sp_live *live, const double *own_busy, sparoa_live_state *state)
{
    pthread_mutex_lock(&live->mutex); /* an interval's sampler may be at work */
    read_sensors(live);
    pthread_mutex_unlock(&live->mutex);
    *state = (sparoa_live_state){.time_ns = sp_now_ns(),
                                 .memory_clock = -1,
                                 .power_w = -1,
                                 .device_count = live->device_count};
    for (uint32_t d = 0; d < live->device_count; d++) {
        state->devices[d] = (sparoa_live_device){"", -1, -1, -1, -1, -1, -1, -1, -1, -1};
        snprintf(state->devices[d].name, sizeof state->devices[d].name, "%s",
                 live->devices[d].name);
    }
    for (size_t i = 0; i < live->count; i++) {
        const sp_sensor *s = &live->sensors[i];
        double *to = NULL;
        if (s->what == SP_WHAT_MEMORY_CLOCK) to = &state->memory_clock;
        if (s->device >= 0 && (uint32_t)s->device < live->device_count && !to)
            to = place_of(&state->devices[s->device], s->what);
        if (to && *to < 0) *to = s->value;
        if (s->counts && s->what == SP_WHAT_POWER && s->value >= 0)
            state->power_w = fmax(0, state->power_w) + s->value;
    }
    for (uint32_t d = 1; d < live->device_count; d++) {
        sparoa_live_device *to = &state->devices[d];
        to->other_load = to->load;
        if (own_busy && to->load >= 0) to->other_load = fmax(0, to->load - own_busy[d]);
    }
}

size_t sp_live_sensor_count(const sp_live *live)
{
    return live->count;
}

void sp_live_sensor(const sp_live *live, size_t index, sparoa_sensor *sensor)
{
    static const struct {
        const char *what, *unit;
        double scale;
    } kinds[] = {{"load", "%", 100},         {"load of others", "%", 100},
                 {"clock", "MHz", 1},        {"highest clock", "MHz", 1},
                 {"cores on", "%", 100},     {"temperature", "C", 1},
                 {"memory", "MiB", 0x1p-20}, {"free memory", "MiB", 0x1p-20},
                 {"memory clock", "%", 100}, {"power", "W", 1},
                 {"energy", "J", 1}};
    const sp_sensor *s = &live->sensors[index];
    *sensor = (sparoa_sensor){.name = s->name,
                              .what = kinds[s->what].what,
                              .unit = kinds[s->what].unit,
                              .source = s->source,
                              .value = s->value < 0 ? -1 : s->value * kinds[s->what].scale,
                              .counts = s->counts};
}

/* ---- in the terms of a platform file ---- */

static const sparoa_live_device *match(const sparoa_live_state *live, const sp_platform *platform,
                                       uint32_t device)
{
    if (device == 0) return live->device_count ? &live->devices[0] : NULL;
    for (size_t i = 1; i < live->device_count; i++)
        if (strcmp(live->devices[i].name, platform->devices[device].name) == 0)
            return &live->devices[i];
    return device < live->device_count ? &live->devices[device] : NULL;
}

void sp_live_platform_state(const sparoa_live_state *live, const sp_platform *platform,
                            const sp_platform_state *base, sp_platform_state *state)
{
    *state = base ? *base : sp_platform_nominal(platform);
    for (uint32_t d = 0; d < platform->device_count; d++) {
        const sparoa_live_device *from = match(live, platform, d);
        sp_device_state *to = &state->device[d];
        if (!from) continue;
        if (from->other_load >= 0) to->load = fmin(0.95, from->other_load);
        if (from->clock_mhz > 0 && from->max_clock_mhz > 0)
            to->clock = fmin(1, fmax(0.05, from->clock_mhz / from->max_clock_mhz));
        if (from->units > 0) to->units = fmin(1, from->units);
        if (from->temperature_c >= 0) to->temperature = from->temperature_c;
        if (from->memory_bytes > 0 && from->memory_free >= 0)
            to->memory_used = fmin(1, fmax(0, 1 - from->memory_free / from->memory_bytes));
    }
    if (live->memory_clock > 0) state->memory_clock = fmin(1, fmax(0.05, live->memory_clock));
}
