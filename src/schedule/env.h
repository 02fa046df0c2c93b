/*
 * env.h - the one description of a placement problem that all policies share.
 *
 * An environment is a graph with a price list: nodes in dispatch order (a topological order), the
 * values they read and write, the time and energy of every node on every device, the time to copy
 * every value between devices. Prices are those of one platform state (load, clocks); another state
 * gives other prices for the same graph.
 *
 * The world that it describes:
 *   - device 0 is the host. Inputs of the graph start there, outputs must end there;
 *   - a device runs its nodes in dispatch order, one per lane at a time;
 *   - a value that is needed on another device is copied there once, as soon as it exists and the
 *     link is free; copies run beside computation;
 *   - a node starts when a lane is free and all it reads has arrived. A node that reads anything
 * not made on its own device opens a segment and pays the device's entry cost (a graph launch);
 *   - energy is that of nodes and copies, and idle power for as long as the makespan.
 * Contention, noise and load that changes while a run is under way are the simulator's
 * (platform/sim.h), not the environment's.
 *
 * An assignment is one placement per node. sp_env_evaluate prices it; a state does the same one
 * node at a time, for policies that decide as they go: the increments of its steps sum up to the
 * total.
 */
#ifndef SP_SCHEDULE_ENV_H
#define SP_SCHEDULE_ENV_H

#include "base/mem.h"
#include "graph/divide.h"
#include "sparoa_backend.h"

enum {
    SP_ENV_DEVICES = 4, /* most devices */
    SP_ENV_LANES = 4,   /* most lanes of a device */
    SP_ENV_OBS = 48     /* numbers of an observation */
};

#define SP_ENV_INPUT UINT32_MAX /* producer of a value that is an input of the graph */

/*
 * A placement is a byte. 0..3: the device that runs the node. A split node has besides a second
 * device and the share of the work that it takes, in sixteenths (1..15): both compute their part,
 * and what the second made is copied to the first, which then has the whole.
 */
#define SP_PLACE_SHARES 16
static inline uint32_t sp_place_device(uint8_t place)
{
    return place & 3;
}
static inline uint32_t sp_place_second(uint8_t place)
{
    return place >> 2 & 3;
}
static inline uint32_t sp_place_share(uint8_t place) /* 0: not split */
{
    return place >> 4;
}
static inline uint8_t sp_place_split(uint32_t device, uint32_t second, uint32_t share)
{
    return (uint8_t)(device | second << 2 | share << 4);
}

/* Why a node may not run everywhere, or where a policy put it. The text is what plans say. */
#define SP_REASON_MAP(X)                                                                           \
    X(CHEAPER_HERE, "takes less time here, copies included")                                       \
    X(UNSUPPORTED, "no other device supports the operator")                                        \
    X(TRANSFER_DOMINATES, "computes faster elsewhere, but copying would cost more than that")      \
    X(SPARSE, "so sparse that this device's sparse kernel wins")                                   \
    X(PINNED, "the user put it here")                                                              \
    X(FORBIDDEN, "the user forbade the other devices")                                             \
    X(MEMORY, "does not fit into the other device's memory")                                       \
    X(OVERLAP, "slower here, but the other device is busy meanwhile")                              \
    X(ENERGY, "takes less energy here")                                                            \
    X(POLICY, "the policy's rule says so")                                                         \
    X(SPLIT, "both devices together are done sooner")
typedef enum sp_reason {
#define X(name, text) SP_REASON_##name,
    SP_REASON_MAP(X)
#undef X
        SP_REASON_COUNT
} sp_reason;
const char *sp_reason_name(sp_reason reason); /* "CHEAPER_HERE" */
const char *sp_reason_text(sp_reason reason);

typedef struct sp_env_value {
    uint32_t producer; /* node, or SP_ENV_INPUT */
    bool output;       /* an output of the graph: must end on the host */
    double bytes;
    double copy_ns[SP_ENV_DEVICES][SP_ENV_DEVICES]; /* [from][to]; 0 on the diagonal */
    double copy_j[SP_ENV_DEVICES][SP_ENV_DEVICES];
} sp_env_value;

typedef struct sp_env_node {
    const char *name, *op; /* never NULL */
    sparoa_op_class op_class;
    sparoa_cost cost;
    double weight_zeros, input_zeros;      /* shares of zeros, 0 where not known */
    double channels, height, width, batch; /* of the first output; 1 where it has none */
    double kernel, stride, groups;         /* 1 where it has none */
    uint8_t allowed;                       /* bit d: may run on device d; never 0 */
    uint8_t why;                           /* sp_reason for a bit that is not set */
    uint8_t sparse;                        /* bit d: a sparse kernel is what is priced there */
    double time_ns[SP_ENV_DEVICES];        /* without entry cost */
    double energy_j[SP_ENV_DEVICES];       /* above idle */
    double memory[SP_ENV_DEVICES];         /* bytes that it keeps on the device: weights */
    uint8_t split_axis;                    /* sp_split_axis; NONE: only whole */
    uint8_t split_place;                   /* the split that would end soonest if inputs were
                                              everywhere and queues empty; 0: none pays */
    double fixed_ns[SP_ENV_DEVICES];       /* of time_ns: overhead, paid by every part */
    double part_power[SP_ENV_DEVICES];     /* a share x takes fixed + (time - fixed) x^power */
    double sparsity_threshold;             /* predicted, or SP_RULE_SPARSITY */
    double intensity_threshold;            /* in FLOPs; or SP_RULE_FLOPS */
    uint32_t first_in, n_in;               /* env->reads[first_in..]: values, each once */
    uint32_t first_out, n_out;             /* env->values[first_out..] */
    uint32_t first_pred, n_pred;           /* env->links[...]: nodes, each once, ascending */
    uint32_t first_succ, n_succ;
} sp_env_node;

typedef struct sp_env_device {
    char name[32];
    int32_t lanes;
    double entry_ns; /* to open a segment */
    double entry_j;
    double memory_limit; /* bytes; 0: none */
    double load, clock;  /* of the state that the prices are for: 0..1 busy with other work, 0..1 of
                            the highest clock */
    double temperature;  /* degrees Celsius; 0: unknown */
    double memory_used;  /* 0..1 */
    double queue_ns;     /* until it is done with what it was given before; its lanes start so */
} sp_env_device;

typedef struct sp_env {
    sparoa_allocator alloc;
    sp_arena arena; /* names and arrays */
    uint32_t node_count, value_count, read_count, link_count, device_count;
    sp_env_node *nodes;   /* in dispatch order */
    sp_env_value *values; /* those of node i follow those of node i-1; graph inputs come first */
    uint32_t *reads;
    uint32_t *links; /* predecessor lists, then successor lists */
    double *rank_ns; /* by node: longest remaining path from its start, mean times and half the
                        copies (HEFT's upward rank) */
    double *best_ns; /* by node: longest remaining path from its start with each node on its
                        fastest device and no copies: a lower bound */
    double scale_ns; /* sum of the fastest times: what observations are relative to */
    double scale_j;
    double idle_watts;
    sp_env_device devices[SP_ENV_DEVICES];
    double link_shared; /* not 0: copies of both directions share one engine */
    double link_fixed_ns[SP_ENV_DEVICES][SP_ENV_DEVICES]; /* of a copy, however small */
} sp_env;

/* ---- making one ---- */

/* What sp_env_create copies: nodes with name, op, class, cost ... and lists of values. Values must
 * be written before they are read in the order of nodes; first_in, n_in index `reads`; first_out,
 * n_out index `values`; the rest of the indices is filled in. Checks everything; fails with
 * INVALID_GRAPH naming the node. Prices may be set or changed afterwards, then sp_env_refresh. */
sparoa_status sp_env_create(const sparoa_allocator *alloc, const sp_env_node *nodes,
                            uint32_t node_count, const sp_env_value *values, uint32_t value_count,
                            const uint32_t *reads, uint32_t read_count,
                            const sp_env_device *devices, uint32_t device_count, sp_env **env,
                            sparoa_error *err);
void sp_env_destroy(sp_env *env);

/* Works out ranks, bounds, scales and split_place after prices or `allowed` changed. */
void sp_env_refresh(sp_env *env);

/* A random problem with a host and an accelerator: `width` is the most branches side by side (1: a
 * chain). The same on every machine for one seed. */
sparoa_status sp_env_random(const sparoa_allocator *alloc, uint64_t seed, uint32_t nodes,
                            uint32_t width, sp_env **env, sparoa_error *err);

/* ---- pricing ---- */

typedef struct sp_env_result {
    double makespan_ns, energy_j;
    double transfer_ns;             /* sum over all copies, hidden or not */
    double exposed_ns;              /* time that lanes stood waiting for copies alone */
    double busy_ns[SP_ENV_DEVICES]; /* by device, over all lanes */
    double flops[SP_ENV_DEVICES];
    uint32_t nodes[SP_ENV_DEVICES], copies, segments;
} sp_env_result;

typedef enum sp_objective {
    SP_OBJECTIVE_LATENCY,
    SP_OBJECTIVE_ENERGY,
    SP_OBJECTIVE_PRODUCT,
    SP_OBJECTIVE_COUNT
} sp_objective;
/* What is minimised: seconds, joules, or joule-seconds. */
double sp_objective_score(sp_objective objective, const sp_env_result *result);

/* A run that is being placed node by node. */
typedef struct sp_env_state {
    const sp_env *env;
    uint32_t next; /* the node to place now; node_count: done */
    sp_env_result result;
    double lane_free[SP_ENV_DEVICES][SP_ENV_LANES];
    double link_free[SP_ENV_DEVICES][SP_ENV_DEVICES];
    double memory[SP_ENV_DEVICES];
    uint8_t *device;        /* by node: placement */
    double *start, *finish; /* by node */
    double *arrival; /* [value * SP_ENV_DEVICES + device]: when it is there; negative: not there */
    size_t bytes;    /* of the block behind the arrays */
} sp_env_state;

/* False: no memory. A state can be reset and used again; copying needs two states of one env. */
bool sp_env_state_init(sp_env_state *state, const sp_env *env);
void sp_env_state_free(sp_env_state *state);
void sp_env_state_reset(sp_env_state *state);
void sp_env_state_copy(sp_env_state *to, const sp_env_state *from);

/* What a step added. Sums over a run are the run's totals. */
typedef struct sp_env_delta {
    double makespan_ns, energy_j, transfer_ns;
} sp_env_delta;

/* Places node state->next (a placement; must be allowed) and goes on to the next one. delta may be
 * NULL. */
void sp_env_step(sp_env_state *state, uint32_t place, sp_env_delta *delta);

/* Time of a share of a node on a device, without entry cost. */
double sp_env_part_ns(const sp_env_node *node, uint32_t device, double share);

/* Bytes of weights that a placed node keeps on a device. */
double sp_env_kept_bytes(const sp_env_node *node, uint8_t place, uint32_t device);

/* When node state->next would finish on `device`, without placing it. */
double sp_env_finish_on(const sp_env_state *state, uint32_t device);

/* Prices a whole assignment. Fails with INVALID_PLAN where a node may not run on its device or a
 * memory limit is passed, naming the node. */
sparoa_status sp_env_evaluate(const sp_env *env, const uint8_t *device, sp_env_result *result,
                              sparoa_error *err);
/* The same with a state of the caller, which holds starts and finishes afterwards; nothing is
 * checked and nothing allocated. */
void sp_env_replay(sp_env_state *state, const uint8_t *device);

/* No assignment can be faster: the longest path and the devices' total work, whichever is more;
 * where nodes may be split, the work alone. */
double sp_env_lower_bound(const sp_env *env, bool splits);

/* ---- observing, for policies that learn ---- */

/* What a policy sees before it places node state->next on the host or on device 1: SP_ENV_OBS
 * numbers, all roughly within -1..1, in this order (t(x) = x / mean fastest node time, squashed by
 * a signed log1p; s(x) = x / scale_ns): 0-11  operator class, one-hot               12 log10 FLOPs
 * / 12          13 log10 bytes / 9 14 FLOP/byte (log10 / 3)  15 weight zeros   16 input zeros 17
 * log10 channels / 4 18 log10 height*width / 6 19 kernel / 11    20 log10 groups / 4          21
 * batch (log2 / 8) 22 time on the host t()   23 on device 1 t()  24 log ratio of the two (squashed
 * by tanh) 25 energy ratio likewise  26 sparsity minus its threshold 27 log10 FLOPs minus its
 * threshold's (/ 6) 28 bytes read that are on the host (share)  29 on device 1 (share) 30 cost of
 * fetching the rest to the host t()  31 to device 1 t() 32 queue of the host: when it is free minus
 * when the inputs are made, in mean fastest node times / 8, within -1..1   33 of device 1 34 finish
 * on the host minus finish on device 1, in t() 35 rank of the node s()   36 nodes left (share)  37
 * makespan so far s() 38 next consumer's time on the host t()  39 on device 1 t()  40 its log ratio
 *   41 load of the host  42 of device 1  43 clock of the host  44 of device 1
 *   45 temperature of device 1 / 100  46 memory in use on device 1  47 may run on device 1 (1),
 * only there (0.5), only on the host (0) */
void sp_env_observe(const sp_env_state *state, float observation[SP_ENV_OBS]);

#endif
