#include "backends/cpu/describe.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"

/* The value of the first line of /proc/cpuinfo that starts with one of `keys`. */
static bool cpuinfo_field(const char *const *keys, char *value, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[512];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        for (size_t k = 0; keys[k] && !found; k++) {
            if (strncmp(line, keys[k], strlen(keys[k])) != 0) continue;
            char *text = strchr(line, ':');
            if (!text) continue;
            text += strspn(text, ": \t");
            text[strcspn(text, "\n")] = '\0';
            snprintf(value, size, "%s", text);
            found = true;
        }
    }
    if (f) fclose(f);
    return found;
}

static size_t cache_size(int level, const char *type)
{
    for (int i = 0; i < 8; i++) {
        char path[96], text[32] = "";
        int found_level = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        FILE *f = fopen(path, "r");
        if (!f) return 0;
        if (fscanf(f, "%d", &found_level) != 1) found_level = 0;
        fclose(f);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        f = fopen(path, "r");
        if (f && fscanf(f, "%31s", text) != 1) text[0] = '\0';
        if (f) fclose(f);
        if (found_level != level || strcmp(text, type) != 0) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        unsigned long kib = 0;
        f = fopen(path, "r");
        if (f && fscanf(f, "%luK", &kib) != 1) kib = 0;
        if (f) fclose(f);
        return (size_t)kib * 1024;
    }
    return 0;
}

void sp_cpu_describe(const sp_cpu_host *host, sparoa_device_desc *desc)
{
    static const char *const names[] = {"model name", "Hardware", "Model", NULL};
    static const char *const clocks[] = {"cpu MHz", NULL};
    char clock[32] = "";
    cpu_set_t set;
    *desc = (sparoa_device_desc){.name = "cpu"};
    snprintf(desc->isa, sizeof desc->isa, "%s", host->kernels->isa);
    if (!cpuinfo_field(names, desc->description, sizeof desc->description))
        snprintf(desc->description, sizeof desc->description, "unknown");
    if (cpuinfo_field(clocks, clock, sizeof clock)) desc->clock_mhz = strtod(clock, NULL);
    desc->cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    desc->memory_bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    desc->cache_bytes[0] = cache_size(1, "Data");
    desc->cache_bytes[1] = cache_size(2, "Unified");
    desc->cache_bytes[2] = cache_size(3, "Unified");
}

/* ---- peaks ---- */

#define READ_FLOATS ((size_t)16 << 20) /* 64 MiB: larger than the caches of one core */
#define FMA_ROUNDS 200000

typedef struct peak_job {
    const sp_kernels *kernels;
    const float *data;
    size_t floats; /* each thread's share; 0: arithmetic */
    double flops[256];
} peak_job;

static void peak_task(void *arg, int32_t i)
{
    peak_job *job = arg;
    float sink = 1.0f;
    if (job->floats)
        sink = job->kernels->peak_read_f32(job->floats, job->data + (size_t)i * job->floats);
    else
        job->flops[i & 255] = job->kernels->peak_fma_f32(FMA_ROUNDS, &sink);
    volatile float keep = sink;
    (void)keep;
}

/* Fastest of the rounds that fit into the time, in operations or bytes per nanosecond. */
static double best_rate(const sparoa_host *engine, peak_job *job, int32_t threads,
                        int64_t budget_ns)
{
    double best = 0;
    int64_t end = sp_now_ns() + budget_ns;
    do {
        int64_t start = sp_now_ns();
        if (threads == 1)
            peak_task(job, 0);
        else
            engine->parallel(engine->pool, threads, peak_task, job);
        double ns = (double)(sp_now_ns() - start);
        double work = job->floats ? (double)job->floats * sizeof(float) * threads : 0;
        for (int32_t i = 0; !job->floats && i < threads; i++) work += job->flops[i & 255];
        if (ns > 0 && work / ns > best) best = work / ns;
    } while (sp_now_ns() < end);
    return best;
}

sparoa_status sp_cpu_measure(const sp_cpu_host *host, const sparoa_host *engine,
                             int32_t milliseconds, sparoa_device_peak *peak, sparoa_error *err)
{
    int32_t threads = engine->threads < 256 ? engine->threads : 256;
    int64_t budget = (int64_t)milliseconds * 1000000 / 3;
    size_t bytes = READ_FLOATS * sizeof(float);
    float *data = sp_calloc(&host->allocator, bytes, 1);
    if (!data) return sp_no_memory(&host->allocator, bytes, err);
    peak_job job = {.kernels = host->kernels};
    peak->gflops_one = best_rate(engine, &job, 1, budget);
    peak->gflops_all = threads > 1 ? best_rate(engine, &job, threads, budget) : peak->gflops_one;
    job.data = data;
    job.floats = READ_FLOATS / (size_t)threads;
    peak->bandwidth = best_rate(engine, &job, threads, budget);
    sp_free(&host->allocator, data, bytes);
    return SPAROA_OK;
}
