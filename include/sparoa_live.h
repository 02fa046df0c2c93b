/*
 * sparoa_live.h - the machine as it is now: load, clocks, temperatures, memory, power, energy.
 *
 *   sparoa_live_create(rt, NULL, &live, &err);
 *   sparoa_live_read(live, &state);              load, clocks ... of every device of the runtime
 *   sparoa_energy_start(live, &err);
 *   ... a hundred runs ...
 *   sparoa_energy_stop(live, &energy, &err);     energy.joules / 100, measured by energy.sensor
 *   sparoa_live_destroy(live);
 *
 * Figures come from procfs, cpufreq, thermal zones, devfreq, RAPL, INA3221, NVML (opened at run
 * time where a driver is there) and the devices' own plug-ins. What a machine does not say is
 * unknown: a negative number, never a guess. The rules at the top of sparoa.h hold here too.
 */
#ifndef SPAROA_LIVE_H
#define SPAROA_LIVE_H

#include "sparoa.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPAROA_LIVE_DEVICES 16 /* most devices of a state */

/* One device now. Negative: unknown. */
typedef struct sparoa_live_device {
    char name[32];        /* as sparoa_device gives it; "cpu" is the first */
    double load;          /* share of it that was busy since the last read, 0..1 */
    double other_load;    /* the part of `load` that is not this process's, where that is known
                             (cpu); else the same as `load` */
    double clock_mhz;     /* mean of the cores */
    double max_clock_mhz; /* highest that the device allows */
    double units;         /* share of cores switched on, 0..1 */
    double temperature_c; /* degrees Celsius */
    double memory_bytes;  /* installed */
    double memory_free;   /* bytes still to be had */
    double power_w;       /* watts now */
} sparoa_live_device;

typedef struct sparoa_live_state {
    int64_t time_ns;     /* monotonic clock */
    double memory_clock; /* of the shared memory, share of its highest; negative: unknown */
    double power_w;      /* watts of what the energy sensors cover; negative: unknown */
    size_t device_count;
    sparoa_live_device devices[SPAROA_LIVE_DEVICES]; /* those of the runtime, in its order */
} sparoa_live_state;

typedef struct sparoa_live_options {
    size_t struct_size;
    const char *root; /* folder in place of "/" under which proc/ and sys/ are read; NULL: "/" */
    const char *nvml; /* NVIDIA's management library; NULL: the driver's where root is "/", none
                         elsewhere; "": none */
} sparoa_live_options;

typedef struct sparoa_live sparoa_live;

/* Finds the sensors. Cheap to keep; starts no thread. One thread at a time may use it. Errors:
 * INVALID_ARGUMENT, OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_live_create(sparoa_runtime *runtime,
                                            const sparoa_live_options *options, sparoa_live **live,
                                            sparoa_error *err);
SPAROA_API void sparoa_live_destroy(sparoa_live *live);

/* Reads all sensors: below a millisecond. Loads are means since the read before, so that reading
 * faster than every 50 ms says little. */
SPAROA_API void sparoa_live_read(sparoa_live *live, sparoa_live_state *state);

/* One sensor with what it said when read last. Pointers live as long as `live`. */
typedef struct sparoa_sensor {
    const char *name;   /* "RAPL package-0", "thermal CPU-therm" */
    const char *what;   /* "load", "clock", "temperature", "memory", "power", "energy" ... */
    const char *unit;   /* "%", "MHz", "C", "MiB", "W", "J" */
    const char *source; /* file or function it is read from */
    double value;       /* negative: it could not be read */
    int32_t counts;     /* not 0: part of what sparoa_energy_stop reports */
} sparoa_sensor;

SPAROA_API size_t sparoa_live_sensor_count(const sparoa_live *live);
SPAROA_API sparoa_status sparoa_live_sensor(const sparoa_live *live, size_t index,
                                            sparoa_sensor *sensor);

/* Energy of an interval. */
typedef struct sparoa_energy {
    double joules;    /* negative: unknown, the machine has no readable sensor */
    double seconds;   /* length of the interval */
    int32_t sampled;  /* not 0: added up from samples of power; 0: counted by the hardware */
    char sensor[160]; /* "RAPL package-0 + RAPL dram", "INA3221 VDD_IN", or "unknown": what is
                         covered; idle power included */
} sparoa_energy;

/* Begins an interval. Where a sensor only tells power, a thread samples it every 10 ms until the
 * stop. Errors: INVALID_ARGUMENT, INVALID_STATE (begun already), OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_energy_start(sparoa_live *live, sparoa_error *err);

/* Ends it. Errors: INVALID_ARGUMENT, INVALID_STATE (not begun). */
SPAROA_API sparoa_status sparoa_energy_stop(sparoa_live *live, sparoa_energy *energy,
                                            sparoa_error *err);

#ifdef __cplusplus
}
#endif
#endif
