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
 *   sparoa_watch_create(session, &options, &watch, &err);
 *   sparoa_watch_step(watch, NULL, NULL, &err);  between runs: other plans for another state
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

/* ---- following the state ---- */

/* Keeps a session's plan fit for the state that the machine is in. Each step takes in a state; once
 * it has been out of the range that the plan was made for long enough, plans for the new state are
 * priced, and if another is faster enough, the session uses it from its next run on. */
typedef struct sparoa_watch sparoa_watch;

struct sparoa_replanner; /* sparoa_schedule.h */

typedef struct sparoa_watch_info {
    const char *reason; /* why plans were priced in this step: "load", "clock", "memory"; "inside":
                           they were not. Static storage */
    int32_t changed;    /* not 0: the session runs by another plan now */
    size_t plan;        /* that it runs by, for sparoa_session_use_plan; SIZE_MAX: with device
                           "auto" the CPU alone */
    int32_t nodes;      /* of the graph that this plan has on devices */
    double before_ns;   /* predicted latency in the state priced last, of the plan until then ... */
    double after_ns;    /* ... and of the one since */
    double cost_ns;     /* what planning and switching took in this step */
    int64_t replans;    /* steps that priced plans */
    int64_t switches;   /* that changed the plan */
    int64_t held_back;  /* that switch_share forbade */
} sparoa_watch_info;

/* Numbers of 0 mean the default in brackets. */
typedef struct sparoa_watch_options {
    size_t struct_size;
    struct sparoa_replanner *replanner; /* makes and prices the plans; must have the profile of the
                               session's graph, outlive the watch and not be used by others. The
                               session goes over to its plan. NULL: the session's device is "auto"
                               and it has measured; its own measurements take its place, for the
                               input shapes measured last */
    sparoa_live *live;   /* sensors for steps without a state, used by the watch alone; or NULL */
    double load_band;    /* change of a device's load by other work (0.15) */
    double clock_band;   /* change of a clock (0.15) */
    double memory_limit; /* share of a device's memory in use (0.95) */
    int64_t hold_ns;     /* the state must stay outside for so long (100 ms) */
    int64_t smooth_ns;   /* time constant of smoothing (50 ms); negative: none */
    double switch_share; /* most of the time that planning and switching may take (0.01); the first
                            time is free */
    double gain;         /* by which share a plan must be predicted faster to be taken (0.05) */
    int64_t period_ns;   /* not 0: a thread of the watch steps this often, at least every
                            millisecond; needs `live` */
    void (*report)(void *user, const sparoa_watch_info *info); /* called in the stepping thread
                               after each change, not to call functions of the watch; or NULL */
    void *report_user;
} sparoa_watch_options;

/* Starts watching. The plan in use is the one to come back to. With a replanner it counts as made
 * for the nominal state; with device "auto" for the first state that is taken in. Starts no thread
 * unless period_ns is set. The watch must be destroyed before the session, and a session with
 * device "auto" not be tuned meanwhile. A thread of the watch counts as one that runs the session:
 * see sparoa_session_node. Errors: INVALID_ARGUMENT, INVALID_STATE (nothing was measured; the
 * session is the CPU's alone), INVALID_PLAN (the replanner's profile is of another graph),
 * OUT_OF_MEMORY, MEMORY_LIMIT. */
SPAROA_API sparoa_status sparoa_watch_create(sparoa_session *session,
                                             const sparoa_watch_options *options,
                                             sparoa_watch **watch, sparoa_error *err);
/* Ends watching and its thread. A session with device "auto" goes back to what it measured; another
 * one keeps the plan in use. NULL is allowed. */
SPAROA_API void sparoa_watch_destroy(sparoa_watch *watch);

/* One step, from any thread: with a state of the caller, whose time_ns is its time, or NULL: with
 * that of the sensors now (loads of devices less what the session's runs account for). info may be
 * NULL. Below a millisecond; a plan met before is gone back to without allocating. Waits for a run
 * under way only if the plan changes. Errors: INVALID_ARGUMENT (neither state nor sensors), and
 * those of sparoa_session_add_plan; the plan stays as it was then. */
SPAROA_API sparoa_status sparoa_watch_step(sparoa_watch *watch, const sparoa_live_state *state,
                                           sparoa_watch_info *info, sparoa_error *err);

#ifdef __cplusplus
}
#endif
#endif
