/* gpu_node.h - builds a node by hand for the checks of the CUDA plug-in. */
#ifndef TESTS_CUDA_GPU_NODE_H
#define TESTS_CUDA_GPU_NODE_H

#include <stdint.h>

#include "ops/epilogue.h"
#include "ops/op.h"

#define GPU_PORTS 10
#define GPU_ATTRS 16
#define GPU_INTS 36

#define COUNT(list) ((int)(sizeof(list) / sizeof(list)[0]))
#define PICK(g, list) ((list)[gpu_random(g) % (unsigned)COUNT(list)])
#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

typedef struct gpu_node {
    sparoa_node node;
    sparoa_tensor in[GPU_PORTS], out[GPU_PORTS];
    sparoa_tensor *in_list[GPU_PORTS], *out_list[GPU_PORTS];
    bool constant[GPU_PORTS];
    sparoa_attr attrs[GPU_ATTRS];
    int64_t ints[GPU_ATTRS][GPU_INTS];
    uint64_t seed;
    double lo, hi;    /* range of random values */
    double magnitude; /* of sums before an activation; 0: as the output shows */
} gpu_node;

/* What a check may do wrong is measured against this: the tolerance of sums, relative to the
 * largest output. */
typedef struct gpu_test gpu_test;

uint32_t gpu_random(gpu_node *g);
int64_t gpu_range(gpu_node *g, int64_t lo, int64_t hi);
double gpu_uniform(gpu_node *g, double lo, double hi);

void gpu_start(gpu_node *g, const char *op, int32_t version, int32_t outputs);
/* Adds an input of random values in lo..hi (integers: whole numbers). */
sparoa_tensor *gpu_input(gpu_node *g, sparoa_dtype dtype, int rank, const int64_t *dims);
/* The same, constant; gpu_weight: float32. */
sparoa_tensor *gpu_constant(gpu_node *g, sparoa_dtype dtype, int rank, const int64_t *dims);
sparoa_tensor *gpu_weight(gpu_node *g, int rank, const int64_t *dims);
/* A constant vector of int64. */
void gpu_const_ints(gpu_node *g, int n, const int64_t *values);
void gpu_skip_input(gpu_node *g);
void gpu_int(gpu_node *g, const char *name, int64_t v);
void gpu_float(gpu_node *g, const char *name, float v);
void gpu_string(gpu_node *g, const char *name, const char *v);
void gpu_ints(gpu_node *g, const char *name, int n, const int64_t *v);
/* Random dims of 1..most with the rank; some are primes. */
void gpu_dims(gpu_node *g, int rank, int64_t most, int64_t *dims);
void gpu_free(gpu_node *g);

/* Runs the node on the device and compares with the plain operator. */
void gpu_compare(gpu_test *t, gpu_node *g);

typedef struct gpu_family {
    const char *name;
    void (*run)(gpu_test *t, gpu_node *g); /* one random case: starts the node, compares */
    int times;
} gpu_family;

/* End with a NULL name. */
extern const gpu_family gpu_families_elements[], gpu_families_images[], gpu_families_quant[];

#endif
