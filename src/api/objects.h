/* objects.h - the objects behind sparoa.h. Each keeps what it was made from alive by a reference
 * count. */
#ifndef SP_API_OBJECTS_H
#define SP_API_OBJECTS_H

#include <pthread.h>

#include "base/knobs.h"
#include "engine/program.h"

struct sparoa_runtime {
    atomic_int refs;
    sp_mem mem;
    sparoa_allocator alloc; /* counts into mem */
    sp_log log;
    sp_pool *pool;
    sparoa_host host;
    sp_knobs knobs;
    sp_device cpu;         /* queue NULL: each session has its own */
    sp_device reference;   /* opened when first wanted */
    pthread_mutex_t mutex; /* guards `reference` */
};

struct sparoa_model {
    atomic_int refs;
    sparoa_runtime *runtime;
    sp_graph *graph;
    sp_model_meta meta;
};

struct sparoa_session {
    sparoa_model *model;
    sp_graph *graph;
    sp_device device;
    sp_engine engine;
    sp_program *program;
    sp_frame *frame;        /* of the latest run or prepare */
    size_t *bytes;          /* room for one run: capacities of the outputs */
    sparoa_tensor *outputs; /* room for one run */
    pthread_mutex_t mutex;  /* one run at a time */
    int64_t runs, last_run_ns;
};

void sp_runtime_ref(sparoa_runtime *runtime);
void sp_runtime_unref(sparoa_runtime *runtime);
void sp_model_ref(sparoa_model *model);
void sp_model_unref(sparoa_model *model);
/* The device that runs plain implementations only. */
sparoa_status sp_runtime_reference(sparoa_runtime *runtime, sp_device *device, sparoa_error *err);

/* A copy of the caller's options struct of which `size` bytes are known; the rest is zero. False:
 * struct_size is missing. */
bool sp_read_options(void *to, size_t size, const void *from);

#endif
