/* The host's processors and memory: procfs, cpufreq, thermal zones. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "platform/live_parts.h"

enum { MOST_CORES = 16, MOST_CLOCKS = 8 }; /* cores that are asked for their clock, and answer */

/* Ticks of /proc/stat's first line: all but idle and waiting for disks is busy. */
static bool read_ticks(const sp_live *live, sp_ticks *t)
{
    char line[512];
    double v[8] = {0};
    if (!sp_live_text(live, line, sizeof line, "/proc/stat") || strncmp(line, "cpu ", 4))
        return false;
    char *at = line + 4;
    for (int i = 0; i < 8; i++) {
        char *end;
        v[i] = (double)strtoull(at, &end, 10);
        if (end == at) break;
        at = end;
    }
    t->all = t->busy = 0;
    for (int i = 0; i < 8; i++) {
        t->all += v[i];
        if (i != 3 && i != 4) t->busy += v[i];
    }
    return t->all > 0;
}

/* User and system ticks of this process: fields 14 and 15; the name in field 2 may hold anything
 * but ends at the last bracket. */
static double own_ticks(const sp_live *live)
{
    char line[1024];
    if (!sp_live_text(live, line, sizeof line, "/proc/self/stat")) return -1;
    char *at = strrchr(line, ')');
    for (int field = 3; at && field <= 14; field++) {
        at = strchr(at + 1, ' ');
        if (!at) return -1;
    }
    if (!at) return -1;
    char *end;
    double user = (double)strtoull(at, &end, 10);
    return user + (double)strtoull(end, NULL, 10);
}

void sp_live_host_refresh(sp_live *live)
{
    sp_ticks now;
    if (!read_ticks(live, &now)) return;
    now.own = own_ticks(live);
    double all = now.all - live->ticks.all, busy = now.busy - live->ticks.busy;
    if (live->ticks.all > 0) {
        if (all < 1) return; /* no tick has passed: what was said holds */
        live->load = busy < 0 ? 0 : busy > all ? 1 : busy / all;
        double own = now.own >= 0 ? now.own - live->ticks.own : 0;
        double other = busy - own;
        live->other_load = other < 0 ? 0 : other > all ? 1 : other / all;
    }
    live->ticks = now;
}

static double read_load(sp_live *live, const sp_sensor *s)
{
    return s->what == SP_WHAT_LOAD ? live->load : live->other_load;
}

/* "MemTotal" or "MemAvailable" of /proc/meminfo; s->index says which. */
static double read_memory(sp_live *live, const sp_sensor *s)
{
    const char *key = s->index ? "MemAvailable:" : "MemTotal:";
    char path[512], line[256];
    snprintf(path, sizeof path, "%s/proc/meminfo", live->root);
    FILE *file = fopen(path, "r");
    double bytes = -1;
    while (file && bytes < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0) bytes = sp_live_number(line + strlen(key)) * 1024;
    if (file) fclose(file);
    return bytes < 0 ? -1 : bytes;
}

static double read_clock(sp_live *live, const sp_sensor *s)
{
    const char *file = s->what == SP_WHAT_CLOCK ? "scaling_cur_freq" : "cpuinfo_max_freq";
    double sum = 0, highest = -1;
    int32_t read = 0;
    for (int core = 0; core < MOST_CORES && read < MOST_CLOCKS; core++) {
        char text[32];
        if (!sp_live_text(live, text, sizeof text, "/sys/devices/system/cpu/cpu%d/cpufreq/%s", core,
                          file))
            continue; /* switched off */
        double mhz = sp_live_number(text) * 1e-3;
        if (mhz < 0) continue;
        sum += mhz;
        highest = mhz > highest ? mhz : highest;
        read++;
    }
    return !read ? -1 : s->what == SP_WHAT_CLOCK ? sum / read : highest;
}

/* x86 without cpufreq, as in a virtual machine: the clock of the first core. */
static double read_cpuinfo(sp_live *live, const sp_sensor *s)
{
    char path[512], line[256];
    snprintf(path, sizeof path, "%s/proc/cpuinfo", live->root);
    FILE *file = fopen(path, "r");
    double mhz = -1;
    while (file && mhz < 0 && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "cpu MHz", 7) == 0 && colon) mhz = sp_live_number(colon + 1);
    }
    if (file) fclose(file);
    return mhz;
}

/* Cores in a list such as "0-3,6". */
static int32_t count_cores(const char *list)
{
    int32_t count = 0;
    while (isdigit((unsigned char)*list)) {
        char *end;
        long from = strtol(list, &end, 10), to = from;
        if (*end == '-') to = strtol(end + 1, &end, 10);
        if (to >= from && to - from < 65536) count += (int32_t)(to - from + 1);
        list = *end == ',' ? end + 1 : end;
    }
    return count;
}

static double read_units(sp_live *live, const sp_sensor *s)
{
    char online[256], present[256];
    if (!sp_live_text(live, online, sizeof online, "/sys/devices/system/cpu/online") ||
        !sp_live_text(live, present, sizeof present, "/sys/devices/system/cpu/present"))
        return -1;
    int32_t all = count_cores(present);
    return all ? (double)count_cores(online) / all : -1;
}

static bool begins(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

static void add_zones(sp_live *live)
{
    sp_names zones;
    sp_live_list(live, "/sys/class/thermal", "thermal_zone", &zones);
    for (size_t i = 0; i < zones.count; i++) {
        const char *z = zones.name[i];
        char type[32], name[48];
        if (!sp_live_text(live, type, sizeof type, "/sys/class/thermal/%s/type", z)) continue;
        int32_t device = SP_SENSOR_MACHINE;
        if (begins(type, "cpu") || begins(type, "x86_pkg")) device = 0;
        if (begins(type, "gpu")) device = sp_live_integrated_gpu(live);
        snprintf(name, sizeof name, "thermal %s", type);
        sp_live_add(live, SP_WHAT_TEMPERATURE, device, name, sp_live_file_number,
                    "/sys/class/thermal/%s/temp", z)
            ->scale = 1e-3;
    }
}

/* Chips whose first channel is the processor's temperature, where there is no such zone. */
static void add_chips(sp_live *live)
{
    sp_names chips;
    sp_live_list(live, "/sys/class/hwmon", "hwmon", &chips);
    for (size_t i = 0; i < chips.count; i++) {
        const char *c = chips.name[i];
        char type[32];
        if (!sp_live_text(live, type, sizeof type, "/sys/class/hwmon/%s/name", c)) continue;
        if (begins(type, "coretemp") || begins(type, "k10temp") || begins(type, "zenpower"))
            sp_live_add(live, SP_WHAT_TEMPERATURE, 0, type, sp_live_file_number,
                        "/sys/class/hwmon/%s/temp1_input", c)
                ->scale = 1e-3;
    }
}

void sp_live_host_sensors(sp_live *live)
{
    char text[256];
    if (sp_live_text(live, text, sizeof text, "/proc/stat")) {
        sp_live_add(live, SP_WHAT_LOAD, 0, "cpu", read_load, "/proc/stat");
        sp_live_add(live, SP_WHAT_OTHER_LOAD, 0, "cpu", read_load, "/proc/stat, /proc/self/stat");
    }
    sp_sensor probe = {.what = SP_WHAT_CLOCK};
    if (read_clock(live, &probe) >= 0) {
        sp_live_add(live, SP_WHAT_CLOCK, 0, "cpu", read_clock,
                    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq");
        sp_live_add(live, SP_WHAT_MAX_CLOCK, 0, "cpu", read_clock,
                    "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq");
    } else if (read_cpuinfo(live, &probe) >= 0) {
        sp_live_add(live, SP_WHAT_CLOCK, 0, "cpu", read_cpuinfo, "/proc/cpuinfo");
    }
    if (read_units(live, &probe) >= 0)
        sp_live_add(live, SP_WHAT_UNITS, 0, "cpu", read_units, "/sys/devices/system/cpu/online");
    if (sp_live_text(live, text, sizeof text, "/proc/meminfo")) {
        sp_live_add(live, SP_WHAT_MEMORY, 0, "cpu", read_memory, "/proc/meminfo, MemTotal");
        sp_live_add(live, SP_WHAT_MEMORY_FREE, 0, "cpu", read_memory, "/proc/meminfo, MemAvailable")
            ->index = 1;
    }
    add_zones(live);
    add_chips(live);
}
