/*
 * profile.h - the features of a graph at given input shapes: what predictors and schedulers know of
 * it. A table of nodes (work, bytes, sparsity, shapes, measured times) and of the values between
 * them; a value type that files hold (docs/scheduling.md) and that needs no graph any more.
 */
#ifndef SP_PROFILE_PROFILE_H
#define SP_PROFILE_PROFILE_H

#include "graph/graph.h"
#include "platform/platform.h"

#define SP_PROFILE_INPUT UINT32_MAX

typedef struct sp_profile_value {
    const char *name;
    uint32_t producer; /* node, or SP_PROFILE_INPUT */
    bool output;       /* of the graph */
    double bytes;
} sp_profile_value;

typedef struct sp_profile_node {
    const char *name, *op;
    const char *variant; /* sp_profile_variant, or NULL */
    int kind;            /* SPAROA_CLASS_* or SP_KIND_* */
    sparoa_op_class op_class;
    sparoa_cost cost;
    double weight_zeros, input_zeros, output_zeros; /* shares of zeros; -1: not known or none */
    double batch, channels, height, width;          /* of the first output; 1 where it has none */
    double in_channels;
    double kernel, stride, groups;           /* 1 where it has none */
    double measured_ns[SP_PLATFORM_DEVICES]; /* by device of the profile: median; 0: not measured */
    double spread_ns[SP_PLATFORM_DEVICES];   /* between its quartiles; 0: not known */
    uint32_t first_in, n_in;                 /* profile->reads[first_in..]: values, each once */
    uint32_t first_out, n_out;               /* profile->values[first_out..] */
} sp_profile_node;

typedef struct sp_profile {
    sparoa_allocator alloc;
    sp_arena arena;
    const char *model; /* name, for people */
    sp_regime regime;  /* whose graph this is: as in the model, or optimised */
    uint32_t node_count, value_count, read_count, device_count;
    char devices[SP_PLATFORM_DEVICES][32]; /* that measured_ns is of */
    sp_profile_node *nodes;
    sp_profile_value *values; /* inputs first, then those of each node in turn */
    uint32_t *reads;
    float *times; /* latest measured times: SP_PROFILE_TIMES for each node, of one device */
    uint32_t times_device, times_count;
} sp_profile;

/* Takes in the times of one run on a device (index below device_count): ns[node], 0 where a node
 * did not run. measured_ns and spread_ns become those of the latest SP_PROFILE_TIMES runs; another
 * device's begin anew. False: no memory. */
enum { SP_PROFILE_TIMES = 64 };
bool sp_profile_record(sp_profile *profile, uint32_t device, const double *ns);

/* Passes that are left out so that the graph of a regime comes about: a framework runs operators as
 * the model has them, a compiled segment runs them fused. NULL: none left out. */
const char *sp_regime_disabled_passes(sp_regime regime);
const char *sp_regime_name(sp_regime regime); /* "eager", "graph" */

/* The static profile of a model at the inputs' shapes (data is not looked at): works on a copy of
 * the graph. */
sparoa_status sp_profile_create(const sparoa_allocator *alloc, const sp_graph *graph,
                                const char *model, const sparoa_tensor *inputs, size_t input_count,
                                sp_regime regime, sp_profile **profile, sparoa_error *err);
/* The same of a graph that has been through its passes, such as a session's: it stays as it is. */
sparoa_status sp_profile_of_graph(const sparoa_allocator *alloc, const sp_graph *graph,
                                  const sparoa_tensor *inputs, size_t input_count,
                                  sp_profile **profile, sparoa_error *err);
void sp_profile_destroy(sp_profile *profile);

/* How a permutation moves data: "rows" (whole rows keep together) or "mixed", with the binary
 * logarithm of a row's length where it is known: "rows5". NULL: the text is none of these. */
const char *sp_profile_variant(const char *text);

/* By which samples of a platform are of the same operator: "Transpose.rows5" with its variant,
 * "Conv.k3s1" with kernel and stride, "Attention.t7" with the logarithm of its length; else "op".
 * False: it does not fit. And its sp_op_key. */
bool sp_profile_label(const sp_profile_node *node, char *label, size_t size);
uint32_t sp_profile_key(const sp_profile_node *node);

/* Where an operator lies by its two numbers, which are close to independent: FLOPs of one run (not
 * FLOP per byte), and the share of zeros in what it reads. */
#define SP_RULE_SPARSITY 0.4 /* the SparOA paper's fixed rule, for every operator and device */
#define SP_RULE_FLOPS 1e8
typedef struct sp_thresholds {
    double sparsity; /* share of zeros from which it is sparse */
    double flops;    /* from which it is heavy */
} sp_thresholds;
typedef enum sp_quadrant {
    SP_DENSE_LIGHT,
    SP_DENSE_HEAVY,
    SP_SPARSE_LIGHT,
    SP_SPARSE_HEAVY
} sp_quadrant;
/* thresholds NULL: the fixed rule's. Zeros that are not known count as none. */
sp_quadrant sp_quadrant_of(const sp_profile_node *node, const sp_thresholds *thresholds);
const char *sp_quadrant_name(sp_quadrant quadrant);   /* "sparse+heavy" */
double sp_node_sparsity(const sp_profile_node *node); /* the larger of inputs' and weights' zeros */
double sp_flops_per_byte(const sp_profile_node *node);

/* The index of a node, or SP_NO_ID. */
uint32_t sp_profile_find(const sp_profile *profile, const char *name);

/* A number that changes whenever the fields of a profile do: what was trained on other fields does
 * not fit. */
uint64_t sp_profile_schema_hash(void);

void sp_profile_write(const sp_profile *profile, sp_text *text);      /* YAML */
void sp_profile_write_json(const sp_profile *profile, sp_text *text); /* reads as YAML too */
/* Not without nodes: what is of the whole profile stands in the first one's row. */
void sp_profile_write_csv(const sp_profile *profile, sp_text *text);
sparoa_status sp_profile_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                               size_t size, sp_profile **profile, sparoa_error *err);
sparoa_status sp_profile_load(const sparoa_allocator *alloc, const char *path, sp_profile **profile,
                              sparoa_error *err);

/* The quadrants as an SVG of its own: FLOPs (log) against sparsity, a dot for each node. */
void sp_profile_svg(const sp_profile *profile, const sp_thresholds *thresholds, sp_text *text);

#endif
