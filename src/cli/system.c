#include "cli/system.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int64_t figure(const char *path, const char *key)
{
    char line[256];
    size_t length = strlen(key);
    int64_t bytes = 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == ':')
            bytes = strtoll(line + length + 1, NULL, 10) * 1024;
    fclose(file);
    return bytes;
}

int64_t sp_process_memory(const char *key)
{
    return figure("/proc/self/status", key);
}

int64_t sp_system_memory(const char *key)
{
    return figure("/proc/meminfo", key);
}

const char *sp_governor(char *text, size_t size)
{
    text[0] = 0;
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "r");
    if (!file) return text;
    if (fgets(text, (int)size, file)) text[strcspn(text, "\n")] = 0;
    fclose(file);
    return text;
}

double sp_load(void)
{
    double load[1];
    return getloadavg(load, 1) == 1 ? load[0] : -1;
}

int sp_gpu_files(void)
{
    int count = 0;
    for (int i = 0; i < 64; i++) {
        char path[40];
        snprintf(path, sizeof path, "/dev/nvidia%d", i);
        count += access(path, F_OK) == 0;
    }
    return count;
}

bool sp_gpu_driver(void)
{
    return access("/dev/nvidiactl", F_OK) == 0 || access("/dev/nvmap", F_OK) == 0;
}
