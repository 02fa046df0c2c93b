/* NVIDIA's management library, opened at run time. Declarations are ours, of the few functions of
 * its stable C interface that are used; each may be missing. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "platform/live_parts.h"

enum { MOST_GPUS = 16 };

typedef void *nvml_device;
typedef struct nvml_utilization {
    unsigned gpu, memory; /* percent */
} nvml_utilization;
typedef struct nvml_memory {
    unsigned long long total, free, used; /* bytes */
} nvml_memory;

struct sp_nvml {
    void *library;
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *);
    int (*handle)(unsigned, nvml_device *);
    int (*utilization)(nvml_device, nvml_utilization *);
    int (*clock)(nvml_device, int type, unsigned *mhz);
    int (*max_clock)(nvml_device, int type, unsigned *mhz);
    int (*temperature)(nvml_device, int sensor, unsigned *celsius);
    int (*memory)(nvml_device, nvml_memory *);
    int (*power)(nvml_device, unsigned *milliwatts);
    int (*energy)(nvml_device, unsigned long long *millijoules);
    nvml_device gpus[MOST_GPUS];
};

enum { CLOCK_SM = 1, TEMPERATURE_GPU = 0 };

static double read_gpu(sp_live *live, const sp_sensor *s)
{
    const sp_nvml *n = live->nvml;
    nvml_device gpu = n->gpus[s->index];
    nvml_utilization use;
    nvml_memory memory;
    unsigned v;
    unsigned long long mj;
    switch (s->what) {
    case SP_WHAT_LOAD: return n->utilization(gpu, &use) ? -1 : use.gpu * 0.01;
    case SP_WHAT_CLOCK: return n->clock(gpu, CLOCK_SM, &v) ? -1 : (double)v;
    case SP_WHAT_MAX_CLOCK: return n->max_clock(gpu, CLOCK_SM, &v) ? -1 : (double)v;
    case SP_WHAT_TEMPERATURE: return n->temperature(gpu, TEMPERATURE_GPU, &v) ? -1 : (double)v;
    case SP_WHAT_MEMORY: return n->memory(gpu, &memory) ? -1 : (double)memory.total;
    case SP_WHAT_MEMORY_FREE: return n->memory(gpu, &memory) ? -1 : (double)memory.free;
    case SP_WHAT_POWER: return n->power(gpu, &v) ? -1 : v * 1e-3;
    case SP_WHAT_ENERGY: return n->energy(gpu, &mj) ? -1 : (double)mj * 1e-3;
    default: return -1;
    }
}

static bool find(sp_nvml *n)
{
    const struct {
        const char *name;
        void *slot;
    } table[] = {{"nvmlInit_v2", &n->init},
                 {"nvmlShutdown", &n->shutdown},
                 {"nvmlDeviceGetCount_v2", &n->count},
                 {"nvmlDeviceGetHandleByIndex_v2", &n->handle},
                 {"nvmlDeviceGetUtilizationRates", &n->utilization},
                 {"nvmlDeviceGetClockInfo", &n->clock},
                 {"nvmlDeviceGetMaxClockInfo", &n->max_clock},
                 {"nvmlDeviceGetTemperature", &n->temperature},
                 {"nvmlDeviceGetMemoryInfo", &n->memory},
                 {"nvmlDeviceGetPowerUsage", &n->power},
                 {"nvmlDeviceGetTotalEnergyConsumption", &n->energy}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        void *symbol = dlsym(n->library, table[i].name);
        memcpy(table[i].slot, &symbol, sizeof symbol);
        if (!symbol) return false;
    }
    return true;
}

/* The runtime's device of the index-th GPU: the plug-in numbers them as the driver does. */
static int32_t device_of(const sp_live *live, int32_t index)
{
    char name[16];
    snprintf(name, sizeof name, "cuda%d", (int)index);
    for (uint32_t d = 1; d < live->device_count; d++)
        if (strcmp(live->devices[d].name, name) == 0) return (int32_t)d;
    return SP_SENSOR_MACHINE;
}

static void add_gpu(sp_live *live, int32_t index, bool module_counted)
{
    static const struct {
        sp_what what;
        const char *function;
    } said[] = {{SP_WHAT_LOAD, "nvmlDeviceGetUtilizationRates"},
                {SP_WHAT_CLOCK, "nvmlDeviceGetClockInfo"},
                {SP_WHAT_MAX_CLOCK, "nvmlDeviceGetMaxClockInfo"},
                {SP_WHAT_TEMPERATURE, "nvmlDeviceGetTemperature"},
                {SP_WHAT_MEMORY, "nvmlDeviceGetMemoryInfo"},
                {SP_WHAT_MEMORY_FREE, "nvmlDeviceGetMemoryInfo"},
                {SP_WHAT_ENERGY, "nvmlDeviceGetTotalEnergyConsumption"},
                {SP_WHAT_POWER, "nvmlDeviceGetPowerUsage"}};
    bool counted = module_counted;
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        char name[48];
        sp_sensor asked = {.what = said[i].what, .index = index};
        if (read_gpu(live, &asked) < 0) continue; /* this GPU does not say */
        snprintf(name, sizeof name, "NVML GPU %d", (int)index);
        sp_sensor *s = sp_live_add(live, said[i].what, device_of(live, index), name, read_gpu, "%s",
                                   said[i].function);
        s->index = index;
        s->counts = !counted && (s->what == SP_WHAT_ENERGY || s->what == SP_WHAT_POWER);
        counted |= s->counts; /* power counts where there is no counter */
    }
}

void sp_live_nvml_sensors(sp_live *live, const char *library)
{
    unsigned count = 0;
    if (!*library) return;
    sp_nvml *n = sp_calloc(&live->alloc, 1, sizeof *n);
    live->failed |= !n;
    if (!n) return;
    n->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!n->library || !find(n) || n->init()) {
        if (n->library) dlclose(n->library);
        sp_free(&live->alloc, n, sizeof *n);
        return;
    }
    live->nvml = n;
    bool module = sp_live_machine_counts(live);
    if (n->count(&count)) count = 0;
    for (unsigned i = 0; i < count && i < MOST_GPUS; i++)
        if (n->handle(i, &n->gpus[i]) == 0) add_gpu(live, (int32_t)i, module);
}

void sp_live_nvml_close(sp_live *live)
{
    if (!live->nvml) return;
    live->nvml->shutdown();
    dlclose(live->nvml->library);
    sp_free(&live->alloc, live->nvml, sizeof *live->nvml);
    live->nvml = NULL;
}
