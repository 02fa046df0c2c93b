/* gpu_check.h - the state of one run of the checks. */
#ifndef TESTS_CUDA_GPU_CHECK_H
#define TESTS_CUDA_GPU_CHECK_H

#include "gpu_node.h"

struct gpu_test {
    sparoa_host host;
    const sparoa_backend *b;
    sparoa_dev *dev;
    sparoa_queue *queue;
    const char *family;
    bool tf32;
    int passed, failed, refused;
    long live; /* host allocations that the plug-in has not given back */
};

/* Counts one check; prints what failed. */
bool gpu_expect(gpu_test *t, bool ok, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
double gpu_now_ns(void);

/* A node on the device: everything that a run needs. */
typedef struct gpu_placed {
    sparoa_node node;
    sparoa_tensor in[GPU_PORTS], out[GPU_PORTS];
    sparoa_tensor *in_list[GPU_PORTS], *out_list[GPU_PORTS];
    void *buffers[2 * GPU_PORTS + 1];
    size_t bytes[2 * GPU_PORTS + 1];
    int n_buffers;
    void *workspace;
    sparoa_kernel *kernel;
    sparoa_prepared *prepared;
} gpu_placed;

/* Shapes of the outputs must be known. guard: bytes before and after each output. */
bool gpu_place(gpu_test *t, gpu_node *g, gpu_placed *p, size_t guard);
void gpu_unplace(gpu_test *t, gpu_placed *p);

/* The slots of the table besides nodes (gpu_slots.c), and the measurements (gpu_bench.c). */
void gpu_check_slots(gpu_test *t);
void gpu_bench(gpu_test *t, const char *options, FILE *out);
/* Real layers with 0 to 99 % zeros on openings of the device in turns: as it chooses, dense ways
 * only, our sparse product, cuSPARSE (gpu_sweep.c). */
#define GPU_SIDES 4
void gpu_sweep(gpu_test tests[GPU_SIDES], FILE *out);

#endif
