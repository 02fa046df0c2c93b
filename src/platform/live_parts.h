/* live_parts.h - what the files of the sensors share. */
#ifndef SP_PLATFORM_LIVE_PARTS_H
#define SP_PLATFORM_LIVE_PARTS_H

#include <pthread.h>

#include "platform/live.h"

typedef enum sp_what {
    SP_WHAT_LOAD,         /* share */
    SP_WHAT_OTHER_LOAD,   /* share */
    SP_WHAT_CLOCK,        /* MHz */
    SP_WHAT_MAX_CLOCK,    /* MHz */
    SP_WHAT_UNITS,        /* share */
    SP_WHAT_TEMPERATURE,  /* degrees Celsius */
    SP_WHAT_MEMORY,       /* bytes */
    SP_WHAT_MEMORY_FREE,  /* bytes */
    SP_WHAT_MEMORY_CLOCK, /* share */
    SP_WHAT_POWER,        /* watts */
    SP_WHAT_ENERGY        /* joules since some moment */
} sp_what;

enum { SP_SENSOR_MACHINE = -1 }; /* of no single device of the runtime */

typedef struct sp_sensor sp_sensor;
struct sp_sensor {
    char name[48], source[160]; /* source: a file below the root, where `read` takes one */
    sp_what what;
    int32_t device;                                         /* or SP_SENSOR_MACHINE */
    double (*read)(sp_live *live, const sp_sensor *sensor); /* negative: unknown */
    double scale;                                           /* of the number in the file */
    int32_t index;                                          /* the reader's own */
    double wrap;   /* ENERGY: joules at which the counter starts again; 0: never */
    bool counts;   /* in the machine's energy */
    double value;  /* read last */
    double before; /* of an interval of energy: the counter, or the power, at the last sample */
    double joules; /* of it so far */
};

/* Busy time of the cpu, in ticks since boot. */
typedef struct sp_ticks {
    double busy, all, own;
} sp_ticks;

typedef struct sp_nvml sp_nvml;

struct sp_live {
    sparoa_allocator alloc;
    char root[256]; /* "" for "/" */
    sp_live_source devices[SPAROA_LIVE_DEVICES];
    uint32_t device_count;
    sparoa_device_status status[SPAROA_LIVE_DEVICES]; /* of this read, where the plug-in tells */
    sp_ticks ticks;
    double load, other_load; /* of the cpu */
    sp_nvml *nvml;
    sp_sensor *sensors;
    size_t count, capacity;
    sp_sensor spare; /* takes what is set on a sensor that there was no memory for */
    bool failed;     /* no memory */

    /* an interval of energy */
    pthread_mutex_t mutex; /* guards the fields below, `status` and the sensors' interval */
    pthread_cond_t wake;
    pthread_t thread;
    bool measuring, threaded, stop;
    int64_t energy_start_ns, sample_ns;
};

/* Adds a sensor; source is a printf format. */
sp_sensor *sp_live_add(sp_live *live, sp_what what, int32_t device, const char *name,
                       double (*read)(sp_live *, const sp_sensor *), const char *source, ...)
    __attribute__((format(printf, 6, 7)));

/* The first line of a file below the root without its newline; false: it can't be read. */
bool sp_live_text(const sp_live *live, char *text, size_t size, const char *path, ...)
    __attribute__((format(printf, 4, 5)));
/* The number that a text begins with; -1: none, or below 0. */
double sp_live_number(const char *text);
/* The number in the sensor's file times its scale. */
double sp_live_file_number(sp_live *live, const sp_sensor *sensor);
/* Names in a folder below the root that begin with `prefix`, in natural order. */
enum { SP_LIVE_NAMES = 64 };
typedef struct sp_names {
    size_t count;
    char name[SP_LIVE_NAMES][48];
} sp_names;
void sp_live_list(const sp_live *live, const char *folder, const char *prefix, sp_names *names);

/* Each adds the sensors of one source. */
void sp_live_host_sensors(sp_live *live);   /* procfs, cpufreq, thermal zones */
void sp_live_jetson_sensors(sp_live *live); /* devfreq, INA3221 */
void sp_live_power_sensors(sp_live *live);  /* RAPL */
void sp_live_nvml_sensors(sp_live *live, const char *library);
void sp_live_nvml_close(sp_live *live);

/* The runtime's integrated GPU, or SP_SENSOR_MACHINE. */
int32_t sp_live_integrated_gpu(const sp_live *live);
/* Whether a sensor of the whole machine's power counts: others would count twice. */
bool sp_live_machine_counts(const sp_live *live);

/* Read what several sensors share, before a round of reading. */
void sp_live_host_refresh(sp_live *live);
void sp_live_status_refresh(sp_live *live); /* device_status of plug-ins */

#endif
