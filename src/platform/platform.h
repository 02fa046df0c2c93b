/*
 * platform.h - what a machine can do: a description in numbers, and the price of work on it.
 *
 * A description is a YAML file (docs/scheduling.md) of devices with their peaks, efficiency by
 * operator kind and size, overheads in two regimes, sparse kernels, links between devices, power,
 * and power modes. It says what to expect of a machine that may not be there.
 */
#ifndef SP_PLATFORM_PLATFORM_H
#define SP_PLATFORM_PLATFORM_H

#include "base/yaml.h"
#include "sparoa_backend.h"

enum {
    SP_PLATFORM_DEVICES = 4,
    SP_PLATFORM_LINKS = 12,
    SP_PLATFORM_MODES = 12,
    SP_CURVE_POINTS = 16,
    SP_PLATFORM_SAMPLES = 2048
};

/* How operators are dispatched: one by one by a framework, or as recorded segments. */
typedef enum sp_regime { SP_REGIME_EAGER, SP_REGIME_GRAPH, SP_REGIME_COUNT } sp_regime;

/* Kinds of work: the operator classes, and two that cost unlike the rest of their class. */
enum {
    SP_KIND_DEPTHWISE = SPAROA_CLASS_COUNT, /* convolution with one input channel per group */
    SP_KIND_VIEW,                           /* the same data under another shape */
    SP_KIND_COUNT
};
const char *sp_kind_name(int kind); /* "conv", "depthwise" */

/* y at points of ascending x; between them linear in log x, beyond them flat. No points: 0. */
typedef struct sp_curve {
    uint32_t count;
    double x[SP_CURVE_POINTS], y[SP_CURVE_POINTS];
} sp_curve;
double sp_curve_at(const sp_curve *curve, double x);

typedef struct sp_platform_kind {
    bool given;          /* in the file; else a copy of "default" */
    sp_curve efficiency; /* FLOPs of an operator -> share of the peak */
    double bandwidth;    /* share of the device's bandwidth */
    double overhead_ns[SP_REGIME_COUNT];
    sp_curve
        sparse_weights; /* share of zeros -> how many times faster than dense; below 1: dense */
    sp_curve sparse_inputs;
    uint32_t first_sample, sample_count; /* its part of the platform's samples */
} sp_platform_kind;

/* One measured operator, as a correction of the roofline near its size: work between samples takes
 * a weighted mean of their factors, near ones most, those of the same operator only where there are
 * any. */
typedef struct sp_platform_sample {
    char op[24];
    uint32_t key; /* sp_op_key(op) */
    float at[4];  /* FLOPs, bytes in, of weights, out: log(1 + x) */
    float factor; /* measured over predicted time without the overhead */
} sp_platform_sample;
uint32_t sp_op_key(const char *op); /* never 0 */

typedef struct sp_platform_device {
    char name[32];
    sparoa_device_kind kind;
    int32_t lanes;
    double peak_flops, bandwidth; /* per second, all units at the highest clock */
    double memory_bytes;          /* 0: no limit */
    double active_watts;          /* above idle, while it computes */
    double clock_power;           /* active power goes with clock to this power */
    double idle_clock_watts;      /* part of the idle power that goes with clock and units */
    double memory_by_clock;    /* part of the memory's time that goes with clock and units, 0..1 */
    uint32_t clock_step_count; /* clocks that can be set, ascending; 0: only the highest */
    double clock_steps[SP_CURVE_POINTS];
    double entry_ns[SP_REGIME_COUNT];
    uint32_t unsupported; /* bit per kind */
    sp_platform_kind kinds[SP_KIND_COUNT];
} sp_platform_device;

typedef struct sp_platform_link {
    uint32_t from, to;
    double fixed_ns[SP_REGIME_COUNT], bandwidth; /* of a copy */
    double mapped_ns, mapped_bandwidth; /* of using the other's memory; bandwidth 0: it can't */
} sp_platform_link;

/* Where a device stands now. All 1 or 0 in the nominal state. */
typedef struct sp_device_state {
    double clock;       /* of the highest, above 0..1 */
    double units;       /* share of cores or multiprocessors switched on */
    double load;        /* share taken by other work, 0..0.95 */
    double temperature; /* degrees Celsius; 0: unknown */
    double memory_used; /* 0..1 */
} sp_device_state;

typedef struct sp_platform_state {
    sp_device_state device[SP_PLATFORM_DEVICES];
    double memory_clock; /* of the highest */
    double idle_watts;   /* at full clocks; sp_platform_idle_watts tells it at these */
} sp_platform_state;

typedef struct sp_platform_mode {
    char name[32];
    sp_platform_state state;
} sp_platform_mode;

typedef struct sp_platform {
    char name[64], description[160];
    double idle_watts;       /* at full clocks */
    double dispatch_watts;   /* above idle, while the host only launches */
    double memory_bandwidth; /* that all devices share, bytes per second; 0: they share none */
    double contention_knee;  /* share of it up to which nobody is slowed */
    double contention;       /* how much slower at full use, e.g. 0.45 */
    double joules_per_byte;
    double noise_sigma, spike_probability, spike_factor; /* of times: log-normal, with spikes */
    double ambient_c, c_per_watt, thermal_s, limit_c,
        throttled_clock; /* limit_c 0: no throttling */
    bool shared_link;    /* copies of both directions use one engine */
    uint32_t device_count, link_count, mode_count;
    sp_platform_device devices[SP_PLATFORM_DEVICES]; /* the host first */
    sp_platform_link links[SP_PLATFORM_LINKS];
    sp_platform_mode modes[SP_PLATFORM_MODES];
    uint32_t sample_count;
    sp_platform_sample samples[SP_PLATFORM_SAMPLES]; /* by device, then kind */
} sp_platform;

/* Reads a description from a file or memory. The platform is a plain struct of about 200 KB: keep
 * it on the heap. */
sparoa_status sp_platform_load(const sparoa_allocator *alloc, const char *path,
                               sp_platform *platform, sparoa_error *err);
sparoa_status sp_platform_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                                size_t size, sp_platform *platform, sparoa_error *err);
/* Appends the description as YAML that reads back to the same text. */
void sp_platform_write(const sp_platform *platform, sp_text *text);

sp_platform_state sp_platform_nominal(const sp_platform *platform);
/* Power of the idle machine at the clocks and units of a state. */
double sp_platform_idle_watts(const sp_platform *platform, const sp_platform_state *state);
/* The mode of that name, or NULL. */
const sp_platform_mode *sp_platform_find_mode(const sp_platform *platform, const char *name);

/* One operator's work. */
typedef struct sp_work {
    int kind;
    sparoa_cost cost;
    double weight_zeros, input_zeros; /* shares; 0 where not known */
    uint32_t op;                      /* sp_op_key of the operator; 0: any */
} sp_work;

typedef struct sp_price {
    double ns;
    double overhead_ns, compute_ns, memory_ns; /* ns = overhead + the larger of the other two */
    double joules;                             /* above idle */
    double bytes;                              /* to and from memory */
    bool sparse;                               /* a sparse kernel is the fastest */
} sp_price;

/* state NULL: nominal. */
sp_price sp_platform_cost(const sp_platform *platform, uint32_t device, sp_regime regime,
                          const sp_work *work, const sp_platform_state *state);

/* Time and energy to make `bytes` of one device usable on another: a copy, or its memory mapped,
 * whichever is faster. */
typedef struct sp_copy_price {
    double ns, joules;
    bool mapped;
} sp_copy_price;
sp_copy_price sp_platform_copy(const sp_platform *platform, uint32_t from, uint32_t to,
                               sp_regime regime, double bytes, const sp_platform_state *state);

/* How many times slower memory-bound work gets when all together ask for `demand` bytes per second
 * of the shared memory. */
double sp_platform_contention(const sp_platform *platform, double demand,
                              const sp_platform_state *state);

#endif
