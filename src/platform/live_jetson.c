/* NVIDIA Jetson: the integrated GPU's devfreq node and load, the memory clock, and the INA3221
 * power monitors on the module. Paths are those of JetPack 5 and 6. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/live_parts.h"

enum { CHANNELS = 3 }; /* of an INA3221; its further hwmon channels are sums */

/* "17000000.gpu" (Orin, JetPack 6), "17000000.ga10b" (JetPack 5), "17000000.gv11b" (Xavier). */
static bool is_gpu(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcmp(dot, ".gpu") || !strcmp(dot, ".ga10b") || !strcmp(dot, ".gv11b") ||
                   !strcmp(dot, ".gp10b"));
}

static void add_gpu(sp_live *live)
{
    sp_names names;
    sp_live_list(live, "/sys/class/devfreq", "", &names);
    for (size_t i = 0; i < names.count; i++) {
        const char *n = names.name[i];
        char text[64];
        int32_t gpu = sp_live_integrated_gpu(live);
        if (!is_gpu(n)) continue;
        sp_live_add(live, SP_WHAT_CLOCK, gpu, "gpu", sp_live_file_number,
                    "/sys/class/devfreq/%s/cur_freq", n)
            ->scale = 1e-6;
        sp_live_add(live, SP_WHAT_MAX_CLOCK, gpu, "gpu", sp_live_file_number,
                    "/sys/class/devfreq/%s/max_freq", n)
            ->scale = 1e-6;
        if (sp_live_text(live, text, sizeof text, "/sys/class/devfreq/%s/device/load", n))
            sp_live_add(live, SP_WHAT_LOAD, gpu, "gpu", sp_live_file_number,
                        "/sys/class/devfreq/%s/device/load", n)
                ->scale = 1e-3;
        else if (sp_live_text(live, text, sizeof text, "/sys/devices/platform/gpu.0/load"))
            sp_live_add(live, SP_WHAT_LOAD, gpu, "gpu", sp_live_file_number,
                        "/sys/devices/platform/gpu.0/load")
                ->scale = 1e-3;
        break;
    }
}

#define EMC "/sys/kernel/debug/bpmp/debug/clk/emc" /* readable by root */

static double read_emc(sp_live *live, const sp_sensor *s)
{
    char now[32], most[32];
    if (!sp_live_text(live, now, sizeof now, EMC "/rate") ||
        !sp_live_text(live, most, sizeof most, EMC "/max_rate"))
        return -1;
    double highest = sp_live_number(most), rate = sp_live_number(now);
    return highest > 0 && rate >= 0 ? rate / highest : -1;
}

static double read_rail(sp_live *live, const sp_sensor *s)
{
    char mv[32], ma[32];
    if (!sp_live_text(live, mv, sizeof mv, "%s/in%d_input", s->source, s->index) ||
        !sp_live_text(live, ma, sizeof ma, "%s/curr%d_input", s->source, s->index))
        return -1;
    double volts = sp_live_number(mv) * 1e-3, amperes = sp_live_number(ma) * 1e-3;
    return volts < 0 || amperes < 0 ? -1 : volts * amperes;
}

/* VDD_IN is the whole module (Orin Nano, Orin NX). An AGX Orin has three rails that are fed from
 * outside; VDDQ_* is a part of VIN_SYS_5V0. */
static void count_rails(sp_live *live, size_t first)
{
    bool whole = false;
    for (size_t i = first; i < live->count; i++)
        whole |= strstr(live->sensors[i].name, "VDD_IN") != NULL;
    for (size_t i = first; i < live->count; i++) {
        const char *name = live->sensors[i].name;
        live->sensors[i].counts = whole ? strstr(name, "VDD_IN") != NULL : !strstr(name, "VDDQ");
    }
}

static void add_rails(sp_live *live)
{
    sp_names chips;
    sp_live_list(live, "/sys/class/hwmon", "hwmon", &chips);
    size_t first = live->count;
    for (size_t i = 0; i < chips.count; i++) {
        const char *c = chips.name[i];
        char type[32], label[32], name[48];
        if (!sp_live_text(live, type, sizeof type, "/sys/class/hwmon/%s/name", c) ||
            strcmp(type, "ina3221"))
            continue;
        for (int ch = 1; ch <= CHANNELS; ch++) {
            if (!sp_live_text(live, label, sizeof label, "/sys/class/hwmon/%s/in%d_label", c, ch) ||
                !strcmp(label, "NC"))
                continue;
            snprintf(name, sizeof name, "INA3221 %s", label);
            sp_live_add(live, SP_WHAT_POWER, SP_SENSOR_MACHINE, name, read_rail,
                        "/sys/class/hwmon/%s", c)
                ->index = ch;
        }
    }
    if (!live->failed) count_rails(live, first);
}

void sp_live_jetson_sensors(sp_live *live)
{
    add_gpu(live);
    if (read_emc(live, NULL) >= 0)
        sp_live_add(live, SP_WHAT_MEMORY_CLOCK, SP_SENSOR_MACHINE, "emc", read_emc, EMC "/rate");
    add_rails(live);
}
