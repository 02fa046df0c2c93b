/*
 * system.h - what Linux says about this process and machine.
 */
#ifndef SP_CLI_SYSTEM_H
#define SP_CLI_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A figure of /proc/self/status ("VmRSS", "VmHWM") in bytes, 0 if unknown. */
int64_t sp_process_memory(const char *key);

/* A figure of /proc/meminfo ("MemAvailable") in bytes, 0 if unknown. */
int64_t sp_system_memory(const char *key);

/* Frequency governor of the first core ("performance"), "" if unknown. */
const char *sp_governor(char *text, size_t size);

/* Load average of the last minute, -1 if unknown. */
double sp_load(void);

/* Device files of NVIDIA GPUs: /dev/nvidia0 and on, and /dev/nvidiactl or /dev/nvmap for the
 * driver. */
int sp_gpu_files(void);
bool sp_gpu_driver(void);

#endif
