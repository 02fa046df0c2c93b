/*
 * sim.h - what a placed graph would do on a described machine: a discrete-event simulation.
 *
 * Devices run their tasks in the order given, one per lane; values are copied between devices over
 * links, each once, beside computation. On top of the prices of cost.c come what prices leave out:
 * memory shared by all that runs at once, noise, other work that comes and goes, and clocks that
 * throttle when the machine gets hot. The same seed gives the same run on every machine. No tensor
 * is computed.
 */
#ifndef SP_PLATFORM_SIM_H
#define SP_PLATFORM_SIM_H

#include "platform/platform.h"

#define SP_SIM_INPUT UINT32_MAX

typedef struct sp_sim_task {
    const char *name;
    uint32_t device;
    sp_work work;
    double scale; /* measured over predicted time; 0: 1 */
    uint32_t first_in, n_in, first_out, n_out;
    bool second; /* the other part of a node that is split between this task and the one before */
} sp_sim_task;

typedef struct sp_sim_value {
    uint32_t producer; /* task, or SP_SIM_INPUT */
    bool output;
    double bytes;
} sp_sim_value;

typedef struct sp_sim_graph {
    const sp_sim_task *tasks; /* in dispatch order */
    const sp_sim_value *values;
    const uint32_t *reads;
    uint32_t task_count, value_count;
} sp_sim_graph;

typedef struct sp_sim_options {
    sp_regime regime;
    const sp_platform_state *state; /* at the start; NULL: nominal */
    uint64_t seed;
    uint32_t runs; /* inferences one after the other; 0: 1 */
    bool noise, contention, thermal;
    /* Other work: at the end of every period each device is, with this probability, busy with other
     * work to that share. Period 0: none. */
    double load_period_ns, load_probability[SP_PLATFORM_DEVICES], load_share[SP_PLATFORM_DEVICES];
    double
        queue_ns[SP_PLATFORM_DEVICES]; /* busy with what was there before, at every run's start */
    sp_text *trace;                    /* or NULL: Chrome trace events of the first run */
} sp_sim_options;

typedef struct sp_sim_result {
    double mean_ns, min_ns, p50_ns, p99_ns, max_ns; /* of a run */
    double energy_j;                                /* of a run, mean */
    double busy_ns[SP_PLATFORM_DEVICES];            /* of a run, mean */
    double transfer_ns;                             /* of a run, mean */
    double slowed_ns;                               /* time lost to contention, of a run, mean */
    double temperature_c;                           /* at the end; 0: not simulated */
    uint32_t throttled;                             /* runs during which clocks were lowered */
} sp_sim_result;

sparoa_status sp_sim_run(const sparoa_allocator *alloc, const sp_platform *platform,
                         const sp_sim_graph *graph, const sp_sim_options *options,
                         sp_sim_result *result, sparoa_error *err);

#endif
