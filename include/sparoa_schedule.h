/*
 * sparoa_schedule.h - where operators should run, and why.
 *
 * Given a model and a description of a machine, which need not be there, this part decides for
 * every operator which device runs it, explains each decision, and says what it would cost.
 * Everything handed on is a value that can be saved and loaded: platform, profile, plan. All
 * predicted and simulated figures are just that; they are as good as the platform file they come
 * from.
 *
 *   1. platforms    what a machine can do
 *   2. profiles     what a model's operators are: work, bytes, sparsity, shapes
 *   3. plans        decisions, with prices and reasons
 *   4. simulation   what a plan would do with noise, contention, other work and heat
 *   5. re-planning  deciding again, within a millisecond, for the state the machine is in now
 *   6. thresholds   from which work and sparsity on a device is the faster one; learning them
 *   7. auto         what sessions with device "auto" measured and chose
 *
 *   sparoa_platform_load(rt, "jetson_orin_nano_8gb.yaml", &platform, &err);
 *   sparoa_profile_create(model, &input_shape, 1, SPAROA_REGIME_GRAPH, &profile, &err);
 *   sparoa_plan_create(profile, platform, NULL, &plan, &err);
 *   sparoa_plan_save(plan, "plan.yaml", &err);
 *
 * The rules at the top of sparoa.h hold here too. The objects keep their runtime alive, hold no
 * reference to the model or to each other, and do not change once made (a profile only by
 * sparoa_profile_measured), so that threads may share them.
 */
#ifndef SPAROA_SCHEDULE_H
#define SPAROA_SCHEDULE_H

#include "sparoa.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPAROA_MAX_DEVICES 4 /* of a platform */

/* How operators reach a device. */
typedef enum sparoa_regime {
    SPAROA_REGIME_EAGER = 0, /* one by one, as frameworks do: every operator pays for its launch */
    SPAROA_REGIME_GRAPH = 1  /* fused and recorded segments, replayed */
} sparoa_regime;

/* ---- 1. Platforms
 * ------------------------------------------------------------------------------------ */

typedef struct sparoa_platform sparoa_platform;

/* Reads a platform file (docs/scheduling.md). Errors name line and field: NOT_FOUND, IO, MALFORMED,
 * TOO_LARGE, UNSUPPORTED_VERSION, OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_platform_load(sparoa_runtime *runtime, const char *path,
                                              sparoa_platform **platform, sparoa_error *err);
SPAROA_API void sparoa_platform_destroy(sparoa_platform *platform);

SPAROA_API sparoa_status sparoa_platform_save(const sparoa_platform *platform, const char *path,
                                              sparoa_error *err);

typedef struct sparoa_calibrate_options {
    size_t struct_size;
    const char *name; /* of the platform; NULL: "this_machine" */
    double seconds;   /* spent on the operators of each device; 0: 50 */
    /* Called now and then with what is being done and its share of the whole, 0..1; or NULL. */
    void (*progress)(void *user, const char *what, double done);
    void *progress_user;
} sparoa_calibrate_options;

/* Describes this machine: measures the host and every device of the runtime's plug-ins on small
 * random networks (efficiency by kind and size of operators, dispatch, copies, contention, sparse
 * kernels). What sensors do not tell, such as power, stays 0. Nothing else should run meanwhile.
 * Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, and those of a session. */
SPAROA_API sparoa_status sparoa_calibrate(sparoa_runtime *runtime,
                                          const sparoa_calibrate_options *options,
                                          sparoa_platform **platform, sparoa_error *err);

/* Names: of the platform, of its devices (the host is device 0) and of its power modes; NULL past
 * the end. They live as long as the platform. */
SPAROA_API const char *sparoa_platform_name(const sparoa_platform *platform);
SPAROA_API const char *sparoa_platform_device(const sparoa_platform *platform, size_t index);
SPAROA_API const char *sparoa_platform_mode(const sparoa_platform *platform, size_t index);

/* ---- 2. Profiles
 * ------------------------------------------------------------------------------------- */

typedef struct sparoa_profile sparoa_profile;

/* The static profile of a model at input shapes (data pointers are ignored; no dimension may be
 * open): operators as they are in the model for EAGER, as the graph passes make them for GRAPH.
 * Errors: INVALID_ARGUMENT, SHAPE_MISMATCH, INVALID_GRAPH, OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_profile_create(sparoa_model *model, const sparoa_tensor *inputs,
                                               size_t input_count, sparoa_regime regime,
                                               sparoa_profile **profile, sparoa_error *err);

/* The same of the graph that a session runs, which is another one than GRAPH above where the model
 * leaves dimensions open and passes need to know them. A plan made from it fits this session and
 * others with the same options. The session may run meanwhile and is not needed afterwards.
 * Errors: as above. */
SPAROA_API sparoa_status sparoa_profile_of_session(const sparoa_session *session,
                                                   const sparoa_tensor *inputs, size_t input_count,
                                                   sparoa_profile **profile, sparoa_error *err);

/* Takes over, for nodes of the same name, the shares of zeros in inputs and outputs that a
 * profiling session has seen, and their mean times as those of `device` if that is not NULL.
 * *matched (may be NULL) receives how many nodes were found. The session must have run; for EAGER
 * it must have been created with the passes of sparoa_profile_passes left out. Not while other
 * threads use the profile. Errors: INVALID_ARGUMENT, INVALID_STATE (it does not profile, or never
 * ran). */
SPAROA_API sparoa_status sparoa_profile_measured(sparoa_profile *profile,
                                                 const sparoa_session *session, const char *device,
                                                 size_t *matched, sparoa_error *err);

/* What sparoa_session_options.disable_passes must be for a session whose nodes are those of a
 * profile; NULL for GRAPH. Static storage. */
SPAROA_API const char *sparoa_profile_passes(sparoa_regime regime);

/* YAML; where the path ends in ".json" the same as JSON, in ".csv" as a table with a row for each
 * node. All of them can be loaded, whatever the file is called. */
SPAROA_API sparoa_status sparoa_profile_save(const sparoa_profile *profile, const char *path,
                                             sparoa_error *err);
SPAROA_API sparoa_status sparoa_profile_load(sparoa_runtime *runtime, const char *path,
                                             sparoa_profile **profile, sparoa_error *err);
SPAROA_API void sparoa_profile_destroy(sparoa_profile *profile);

SPAROA_API size_t sparoa_profile_node_count(const sparoa_profile *profile);

/* Takes in the latest run of a profiling session as one more measurement of `device`: a node's time
 * is the median of the latest 64, its spread the distance between their quartiles. Also what
 * sparoa_profile_measured takes over, times aside. Call it after each run. *matched as there.
 * Errors: those of sparoa_profile_measured, OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_profile_sample(sparoa_profile *profile,
                                               const sparoa_session *session, const char *device,
                                               size_t *matched, sparoa_error *err);

/* One node. Pointers live as long as the profile. Shares of zeros are -1 where they are not known,
 * times 0 where they were not measured. */
typedef struct sparoa_profile_node_info {
    const char *name, *op, *op_class;
    const char *kind;     /* the class, or "depthwise", "view" */
    const char *quadrant; /* by the SparOA paper's thresholds: "sparse+heavy" ... */
    double flops;         /* of one run */
    double bytes;         /* read and written, weights included */
    double flops_per_byte;
    double weight_zeros, input_zeros, output_zeros;
    double measured_ns[SPAROA_MAX_DEVICES], spread_ns[SPAROA_MAX_DEVICES]; /* by device */
} sparoa_profile_node_info;
SPAROA_API sparoa_status sparoa_profile_node(const sparoa_profile *profile, size_t index,
                                             sparoa_profile_node_info *info);
/* The devices that times are of; NULL past the end. */
SPAROA_API const char *sparoa_profile_device(const sparoa_profile *profile, size_t index);
SPAROA_API sparoa_regime sparoa_profile_regime(const sparoa_profile *profile);

/* Draws the nodes by FLOPs (log) and sparsity with the thresholds between the quadrants, as SVG, to
 * a file. A threshold of 0 is the SparOA paper's (0.4 and 1e8). */
SPAROA_API sparoa_status sparoa_profile_svg(const sparoa_profile *profile,
                                            double sparsity_threshold, double flops_threshold,
                                            const char *path, sparoa_error *err);
/* The same into a buffer of `size` bytes (may be NULL if 0), cut off and zero-terminated as
 * snprintf does. Returns the bytes that all of it takes without the zero; 0 on failure. */
SPAROA_API size_t sparoa_profile_svg_text(const sparoa_profile *profile, double sparsity_threshold,
                                          double flops_threshold, char *buffer, size_t size);

/* Nanoseconds that a node takes on a device of a platform in its nominal state by the platform's
 * prices alone, whatever was measured; negative: no such node or device. */
SPAROA_API double sparoa_platform_predict(const sparoa_platform *platform,
                                          const sparoa_profile *profile, size_t node,
                                          size_t device);

/* ---- 3. Plans
 * ---------------------------------------------------------------------------------------- */

typedef enum sparoa_objective {
    SPAROA_OBJECTIVE_LATENCY = 0,
    SPAROA_OBJECTIVE_ENERGY = 1,
    SPAROA_OBJECTIVE_PRODUCT = 2 /* energy times latency */
} sparoa_objective;

typedef struct sparoa_plan_options {
    size_t struct_size;
    const char *policy;              /* a name of sparoa_policy_name; NULL: "portfolio" */
    sparoa_objective objective;      /* what is minimised */
    const char *mode;                /* power mode of the platform; NULL: its full clocks */
    double load[SPAROA_MAX_DEVICES]; /* by device: share taken by other work, 0..0.95 */
    const char *const *pins;         /* "NODE=DEVICE": must run there */
    size_t pin_count;
    const char *const *forbids; /* "NODE=DEVICE": must not run there */
    size_t forbid_count;
    uint64_t seed;   /* of policies that draw random numbers; written into the plan */
    uint32_t labels; /* partial plans that "optimal" keeps side by side; 0: 512 */
    int32_t split;   /* not 0: nodes may be divided between devices where that pays */
    /* 0, or at least 1: no plan slower than this many times the fastest known one is taken, for
     * "least energy that costs at most 10 % more time": objective ENERGY, latency_limit 1.1. */
    double latency_limit;
    struct sparoa_predictor *predictor; /* of thresholds, for the policies that use them; NULL: the
                                           weights inside the library */
    double clock[SPAROA_MAX_DEVICES];   /* by device: share of the mode's clock that it is set to,
                                           0.05..1; 0: 1 */
    /* Not 0: clocks of the host and the first accelerator are part of the decision: any of the
     * platform's clock_steps, of the mode's or those set above. latency_limit then is against the
     * fastest plan at full clocks. The plan tells the clocks chosen; setting them is the caller's.
     */
    int32_t choose_clocks;
    uint32_t updates; /* gradient steps of "sac"; 0: 60 for each node, 2000 to 8000 */
} sparoa_plan_options;

/* Names of the policies with a line on each (what may be NULL); NULL past the end. Static storage.
 */
SPAROA_API const char *sparoa_policy_name(size_t index, const char **what);

/* sparoa_plan: declared in sparoa.h, as sessions take one. */

/* Decides. The same profile, platform and options give the same plan, to the byte. Errors:
 * INVALID_ARGUMENT, NOT_FOUND (policy, mode, node or device of that name), INVALID_PLAN (pins and
 * forbids leave a node no device), MEMORY_LIMIT, OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_plan_create(const sparoa_profile *profile,
                                            const sparoa_platform *platform,
                                            const sparoa_plan_options *options, sparoa_plan **plan,
                                            sparoa_error *err);

/* The same devices, priced anew on another platform, mode or load (policy, objective, pins and
 * forbids of the options are not used), at the clocks that the plan is for, at most the mode's,
 * where options.clock names none. Errors: INVALID_PLAN where the plan does not fit. */
SPAROA_API sparoa_status sparoa_plan_recost(const sparoa_plan *plan, const sparoa_profile *profile,
                                            const sparoa_platform *platform,
                                            const sparoa_plan_options *options,
                                            sparoa_plan **recosted, sparoa_error *err);

SPAROA_API sparoa_status sparoa_plan_save(const sparoa_plan *plan, const char *path,
                                          sparoa_error *err);
SPAROA_API sparoa_status sparoa_plan_load(sparoa_runtime *runtime, const char *path,
                                          sparoa_plan **plan, sparoa_error *err);
SPAROA_API void sparoa_plan_destroy(sparoa_plan *plan);

/* Pointers live as long as the plan. Times are predicted. */
typedef struct sparoa_plan_info {
    const char *model, *platform, *regime, *policy, *objective;
    int32_t optimal;       /* proved: no plan scores better under these prices */
    double latency_ns;     /* from the inputs on the host to the outputs there */
    double lower_bound_ns; /* no plan is faster */
    double energy_j;
    double transfer_ns; /* all copies together, hidden or not */
    double exposed_ns;  /* waited for copies alone */
    size_t copies, segments, node_count, device_count;
    const char *device[SPAROA_MAX_DEVICES];
    double busy_ns[SPAROA_MAX_DEVICES];
    double flops[SPAROA_MAX_DEVICES];
    size_t nodes[SPAROA_MAX_DEVICES];
    double plan_ns;                   /* how long deciding took; 0 for a loaded plan */
    double clock[SPAROA_MAX_DEVICES]; /* of the device's highest, that the plan is priced for */
} sparoa_plan_info;
SPAROA_API void sparoa_plan_get_info(const sparoa_plan *plan, sparoa_plan_info *info);

typedef struct sparoa_plan_node_info {
    const char *name, *op;
    const char *device;
    const char *reason;      /* "CHEAPER_HERE", "TRANSFER_DOMINATES" ... (docs/scheduling.md) */
    const char *reason_text; /* the same as a sentence */
    double time_ns[SPAROA_MAX_DEVICES]; /* on each device; negative: it may not run there */
    double start_ns, finish_ns;         /* in this plan */
    double transfer_ns;                 /* of the copies made for it */
    /* A split node: `split_device` computes the share `split_share` (above 0, below 1) of it and
     * hands it to `device`, which computes the rest and then has the whole: the parts are
     * concatenated, the part of `device` first. NULL, NULL and 0: not split. */
    const char *split_device;
    const char *split_axis; /* of the output: "channels" (of a matrix product: its last axis),
                               "rows" (height; of a matrix product: the last but one) or "batch" */
    double split_share;
} sparoa_plan_node_info;
SPAROA_API sparoa_status sparoa_plan_node(const sparoa_plan *plan, size_t index,
                                          sparoa_plan_node_info *info);

/* How many nodes run elsewhere, or are in one plan only. `report` (may be NULL) is called for each;
 * a device is NULL where the plan lacks the node. */
SPAROA_API size_t sparoa_plan_diff(const sparoa_plan *a, const sparoa_plan *b,
                                   void (*report)(void *user, const char *node,
                                                  const char *device_a, const char *device_b),
                                   void *user);

/* ---- 4. Simulation
 * ----------------------------------------------------------------------------------- */

typedef struct sparoa_simulation_options {
    size_t struct_size;
    const char *mode;
    double load[SPAROA_MAX_DEVICES]; /* constant other work */
    uint64_t seed;
    uint32_t runs;    /* inferences one after the other; 0: 100 */
    int32_t ideal;    /* not 0: no noise and no contention; the plan's own prediction comes out */
    int32_t thermal;  /* not 0: the machine heats up and throttles */
    double period_ns; /* other work comes and goes at this period; 0: it does not */
    double burst_probability[SPAROA_MAX_DEVICES]; /* of other work, by device and period */
    double burst_share[SPAROA_MAX_DEVICES];       /* that it takes of the device */
    const char *trace; /* file for the first run as Chrome trace events, or NULL */
    /* By device: the clock that it is set to, of its highest (0.05..1); 0: the one that the plan is
     * for, at most the mode's. */
    double clock[SPAROA_MAX_DEVICES];
} sparoa_simulation_options;

typedef struct sparoa_simulation_result {
    double mean_ns, min_ns, p50_ns, p99_ns, max_ns; /* of one inference */
    double energy_j;                                /* the rest are means of one inference */
    double busy_ns[SPAROA_MAX_DEVICES];
    double transfer_ns;
    double slowed_ns;     /* lost to shared memory */
    double temperature_c; /* at the end; 0 without `thermal` */
    uint32_t throttled;   /* inferences with lowered clocks */
} sparoa_simulation_result;

/* Runs a plan on a described machine without computing anything. The same seed gives the same
 * result. Errors: INVALID_ARGUMENT, NOT_FOUND (mode), INVALID_PLAN, IO (trace), OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_simulate(const sparoa_plan *plan, const sparoa_profile *profile,
                                         const sparoa_platform *platform,
                                         const sparoa_simulation_options *options,
                                         sparoa_simulation_result *result, sparoa_error *err);

/* ---- 5. Re-planning
 * ---------------------------------------------------------------------------------- */

/* Decides again for one profile on one platform whenever the machine's state has changed. Keeps
 * the profile, which must outlive it. One thread at a time may use it. */
typedef struct sparoa_replanner sparoa_replanner;

/* policy: a file of sparoa_replanner_save, or NULL: none, the simple policies decide until
 * sparoa_replanner_train. A trained policy fits other models and platforms too, if less well. The
 * plan in use is that of "portfolio" for the idle machine. Errors: INVALID_ARGUMENT (also: a
 * platform of one device), NOT_FOUND, IO, MALFORMED, UNSUPPORTED_VERSION, OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_replanner_create(const sparoa_profile *profile,
                                                 const sparoa_platform *platform,
                                                 sparoa_objective objective, const char *policy,
                                                 sparoa_replanner **replanner, sparoa_error *err);
SPAROA_API void sparoa_replanner_destroy(sparoa_replanner *replanner);

/* Trains the policy on random states of the platform: seconds. The same seed gives the same policy
 * on the same kind of processor. updates: gradient steps, 0: 4000. *above (may be NULL): by which
 * share of the objective the policy alone is above the best of the simple policies, refined, in the
 * mean over states that were neither trained on nor chose among the policies met. */
SPAROA_API sparoa_status sparoa_replanner_train(sparoa_replanner *replanner, uint64_t seed,
                                                uint32_t updates, double *above, sparoa_error *err);
SPAROA_API sparoa_status sparoa_replanner_save(const sparoa_replanner *replanner, const char *path,
                                               sparoa_error *err);

/* Where the machine stands; by device of the platform. What is 0 is nominal: no load, the highest
 * clock, an empty queue. From sparoa_live.h: load = other_load, clock = clock_mhz / max_clock_mhz.
 */
typedef struct sparoa_replan_state {
    size_t struct_size;
    double load[SPAROA_MAX_DEVICES];          /* share taken by other work, 0..0.95 */
    double clock[SPAROA_MAX_DEVICES];         /* share of the highest, 0.05..1; 0: 1 */
    double temperature_c[SPAROA_MAX_DEVICES]; /* 0: unknown */
    double memory_used[SPAROA_MAX_DEVICES];   /* 0..1 */
    double queue_ns[SPAROA_MAX_DEVICES];      /* until it is done with what it was given before */
    double memory_clock;                      /* share of the highest, 0.05..1; 0: 1 */
} sparoa_replan_state;

typedef struct sparoa_replan_info {
    double latency_ns, energy_j; /* predicted in this state, queues included */
    int32_t changed;             /* not 0: another plan than the one in use before */
    const char *from;            /* whose plan it is: "sac", "greedy", "dp", "heft" or "kept" */
} sparoa_replan_info;

/* Fills devices[0..count-1], for node i of the profile the index of its device on the platform, and
 * makes that the plan in use: the best, under the prices of this state, of what the trained policy,
 * greedy, dp and heft do and of the plan in use. Allocates nothing, below a millisecond for 200
 * nodes. count must be sparoa_profile_node_count; info may be NULL. Errors: INVALID_ARGUMENT. */
SPAROA_API sparoa_status sparoa_replan(sparoa_replanner *replanner,
                                       const sparoa_replan_state *state, uint8_t *devices,
                                       size_t count, sparoa_replan_info *info);

/* The plan in use as a plan, with reasons, at the prices of the state asked for last. */
SPAROA_API sparoa_status sparoa_replanner_plan(const sparoa_replanner *replanner,
                                               sparoa_plan **plan, sparoa_error *err);

/* ---- 6. Thresholds
 * ----------------------------------------------------------------------------------- */

/* A network that tells thresholds for every operator of a model on a described machine
 * (models/predictor/README.md). Used by one thread at a time. */
typedef struct sparoa_predictor sparoa_predictor;

/* Reads a weights file (.spw), or the weights inside the library where path is NULL. Errors:
 * NOT_FOUND, IO, MALFORMED and UNSUPPORTED_VERSION (both name the field), TOO_LARGE,
 * OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_predictor_load(sparoa_runtime *runtime, const char *path,
                                               sparoa_predictor **predictor, sparoa_error *err);
SPAROA_API sparoa_status sparoa_predictor_save(const sparoa_predictor *predictor, const char *path,
                                               sparoa_error *err);
SPAROA_API void sparoa_predictor_destroy(sparoa_predictor *predictor);

typedef struct sparoa_predictor_info {
    const char *network;      /* "transformer+lstm" ...; static storage */
    size_t parameters, bytes; /* bytes: of the file */
    uint64_t data;            /* a hash of what it was trained on; 0: not known */
} sparoa_predictor_info;
SPAROA_API void sparoa_predictor_get_info(const sparoa_predictor *predictor,
                                          sparoa_predictor_info *info);

typedef struct sparoa_threshold {
    double sparsity; /* share of zeros from which the host is at least as fast as device 1, 0..1 */
    double flops;    /* work from which device 1 is at least as fast; of operators without FLOPs:
                        0 or infinity */
    int32_t outside; /* not 0: unlike all that was trained on; nothing should be believed */
} sparoa_threshold;

/* thresholds: sparoa_profile_node_count of them. Of the options mode and load are used; NULL: full
 * clocks, no load. Errors: INVALID_ARGUMENT (the platform has one device), NOT_FOUND (mode),
 * OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_predictor_run(sparoa_predictor *predictor,
                                              const sparoa_profile *profile,
                                              const sparoa_platform *platform,
                                              const sparoa_plan_options *options,
                                              sparoa_threshold *thresholds, sparoa_error *err);

typedef struct sparoa_training_options {
    size_t struct_size;
    const char *corpus;                      /* file with operators of many models */
    const sparoa_platform *const *platforms; /* machines to train on; at least one of two devices */
    size_t platform_count;
    const char *network;  /* a name of sparoa_predictor_network; NULL: the first */
    const char *hold_out; /* families of the corpus never trained on, with commas; NULL: those of
                             the shipped weights */
    uint32_t epochs;      /* 0: as for the shipped weights */
    uint64_t seed;        /* 0: that of the shipped weights */
    /* Called after each epoch with the mean error; not 0 ends training. May be NULL. */
    int32_t (*progress)(void *user, uint32_t epoch, double error);
    void *user;
    uint32_t inventions; /* sequences of 64 operators that no model has, trained on beside the
                            corpus; 0: 1600, for fine-tuning 160 */
} sparoa_training_options;

/* Names of the networks, the predictor's own first, then those it is compared with; NULL past the
 * end. Static storage. */
SPAROA_API const char *sparoa_predictor_network(size_t index);

/* Trains a predictor, on the calling thread: minutes. The same options and files give the same
 * weights, to the byte, on one machine; on another instruction set sums are rounded in another
 * order. Errors: INVALID_ARGUMENT, NOT_FOUND (file, network, family), MALFORMED (names line and
 * field), OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_predictor_train(sparoa_runtime *runtime,
                                                const sparoa_training_options *options,
                                                sparoa_predictor **predictor, sparoa_error *err);

/* Fine-tunes a predictor to one machine that differs from its description, the only platform of the
 * options: from profiles with times measured on its devices (sparoa_profile_measured; a handful of
 * operators will do). Of the options mode is that of the measurements and may be NULL; network is
 * not used. *used (may be NULL) receives the number of measured times. Errors: INVALID_ARGUMENT (no
 * times), as sparoa_predictor_train. */
SPAROA_API sparoa_status sparoa_predictor_tune(sparoa_predictor *predictor,
                                               const sparoa_profile *const *profiles,
                                               size_t profile_count, const char *mode,
                                               const sparoa_training_options *options, size_t *used,
                                               sparoa_error *err);

/* How good thresholds are; shares 0..1; [2]: sparsity, intensity. */
typedef struct sparoa_predictor_score {
    const char *name;   /* network, "first guess", "constant per kind" or "labels" */
    int32_t shifted;    /* 0: platforms as described, every mode; 1: other figures and loads */
    size_t operators;   /* of models held out, both regimes */
    double bound[2];    /* labels at a bound, where one device wins over the whole sweep */
    double within[2];   /* within 10% of the label: of the share of zeros (at least 0.01), of the
                           FLOPs */
    double interior[2]; /* the same among labels that are not at a bound */
    double range[2]; /* within 0.1 of thresholds scaled to 0..1 (for the intensity 0.9 decades) */
    double right;    /* operators for which FLOPs and threshold choose the faster device */
    double regret;   /* time lost by that choice, over the best possible, copies apart */
    size_t bytes;    /* of the weights file; 0: none */
    double network_ns, features_ns; /* for 100 operators, the best of many; 0: none */
} sparoa_predictor_score;

/* Judges `given` (NULL: the shipped weights) and what it is compared with: trains each other
 * network as the options say, and reports two rows (shifted 0 and 1) for each. Errors as
 * sparoa_predictor_train. */
SPAROA_API sparoa_status sparoa_predictor_compare(
    sparoa_runtime *runtime, sparoa_predictor *given, const sparoa_training_options *options,
    void (*report)(void *user, const sparoa_predictor_score *score), void *user, sparoa_error *err);

/* ---- 7. Auto
 * ------------------------------------------------------------------------------------ */

/* Measures now, for the shapes of these inputs and with their data, and chooses (sparoa.h, device
 * "auto"). What was chosen for the shapes before is forgotten. seconds: about how long that may
 * take; 0: 2. Runs of the session wait meanwhile; nothing else should use the machine. A device
 * that fails is no error: it is not chosen, and the candidate's verdict says why. Errors:
 * INVALID_ARGUMENT, INVALID_STATE (the session's device is not "auto", or it has an observer) and
 * those of a run on the CPU. */
SPAROA_API sparoa_status sparoa_session_tune(sparoa_session *session, const sparoa_tensor *inputs,
                                             size_t input_count, double seconds, sparoa_error *err);

/* Where a choice comes from. */
typedef enum sparoa_choice_source {
    SPAROA_CHOICE_NONE = 0,     /* nothing is decided: the CPU */
    SPAROA_CHOICE_MEASURED = 1, /* by this session */
    SPAROA_CHOICE_CACHED = 2,   /* read from auto_cache */
    SPAROA_CHOICE_NEAREST = 3,  /* that of other shapes, the nearest in size */
    SPAROA_CHOICE_FAILED = 4,   /* the device failed in a run: the CPU for good */
    SPAROA_CHOICE_WATCHED = 5,  /* a sparoa_watch (sparoa_live.h) changed it */
    SPAROA_CHOICE_MAX_ = 0x7fffffff
} sparoa_choice_source;

/* What became of the file of auto_cache when the session was created. All but USED measure anew. */
typedef enum sparoa_cache_state {
    SPAROA_CACHE_NONE = 0, /* no file is named */
    SPAROA_CACHE_ABSENT,   /* it does not exist yet */
    SPAROA_CACHE_USED,
    SPAROA_CACHE_DAMAGED,       /* it cannot be read */
    SPAROA_CACHE_OTHER_LIBRARY, /* another version of the library measured */
    SPAROA_CACHE_OTHER_MODEL,
    SPAROA_CACHE_OTHER_MACHINE, /* another processor or other devices */
    SPAROA_CACHE_OTHER_THREADS,
    SPAROA_CACHE_OTHER_OPTIONS, /* precision, passes, profile, SPAROA_SPARSE or SPAROA_JOIN */
    SPAROA_CACHE_MAX_ = 0x7fffffff
} sparoa_cache_state;

#define SPAROA_CANDIDATES 8 /* most candidates of a choice */

/* Something that was measured: the CPU, a device, or a plan over several. */
typedef struct sparoa_candidate {
    char name[48];       /* "cpu", "cuda0", "plan heft" */
    double median_ns;    /* of its runs; 0: it never ran to the end */
    double ratio;        /* median over the rounds of its time by the CPU's; 0: not measured */
    double spread;       /* of these ratios, between their quartiles */
    double predicted_ns; /* by the nodes' measured times; 0: not predicted */
    int32_t rounds;      /* that it took part in */
    int32_t nodes;       /* of the graph that run on devices */
    char verdict[128];   /* "chosen", or why not */
} sparoa_candidate;

typedef struct sparoa_choice {
    char chosen[48]; /* a candidate's name */
    char reason[160];
    sparoa_choice_source source;
    sparoa_cache_state cache;
    char cache_reason[192]; /* why the file was not used; "" if it was */
    double tune_ns;         /* time that measuring took; 0: nothing was measured here */
    int32_t candidate_count;
    sparoa_candidate candidates[SPAROA_CANDIDATES]; /* the CPU first */
} sparoa_choice;

/* What decides for inputs of these shapes (data is ignored); inputs NULL: those of the latest run
 * or tuning. Waits for a run that is under way. Errors: INVALID_ARGUMENT, INVALID_STATE (the
 * session's device is not "auto"). */
SPAROA_API sparoa_status sparoa_session_choice(sparoa_session *session, const sparoa_tensor *inputs,
                                               size_t input_count, sparoa_choice *choice,
                                               sparoa_error *err);

#ifdef __cplusplus
}
#endif
#endif
