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
    int kind; /* SPAROA_CLASS_* or SP_KIND_* */
    sparoa_op_class op_class;
    sparoa_cost cost;
    double weight_zeros, input_zeros, output_zeros; /* shares of zeros; -1: not known or none */
    double batch, channels, height, width;          /* of the first output; 1 where it has none */
    double in_channels;
    double kernel, stride, groups;           /* 1 where it has none */
    double measured_ns[SP_PLATFORM_DEVICES]; /* by device of the profile; 0: not measured */
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
} sp_profile;

/* Passes that are left out so that the graph of a regime comes about: a framework runs operators as
 * the model has them, a compiled segment runs them fused. NULL: none left out. */
const char *sp_regime_disabled_passes(sp_regime regime);
const char *sp_regime_name(sp_regime regime); /* "eager", "graph" */

/* The static profile of a model at the inputs' shapes (data is not looked at): works on a copy of
 * the graph. */
sparoa_status sp_profile_create(const sparoa_allocator *alloc, const sp_graph *graph,
                                const char *model, const sparoa_tensor *inputs, size_t input_count,
                                sp_regime regime, sp_profile **profile, sparoa_error *err);
void sp_profile_destroy(sp_profile *profile);

/* The index of a node, or SP_NO_ID. */
uint32_t sp_profile_find(const sp_profile *profile, const char *name);

/* A number that changes whenever the fields of a profile do: what was trained on other fields does
 * not fit. */
uint64_t sp_profile_schema_hash(void);

void sp_profile_write(const sp_profile *profile, sp_text *text);     /* YAML */
void sp_profile_write_csv(const sp_profile *profile, sp_text *text); /* nodes only */
sparoa_status sp_profile_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                               size_t size, sp_profile **profile, sparoa_error *err);
sparoa_status sp_profile_load(const sparoa_allocator *alloc, const char *path, sp_profile **profile,
                              sparoa_error *err);

#endif
