/* objects.h - the objects behind sparoa.h. Each keeps what it was made from alive by a reference
 * count. */
#ifndef SP_API_OBJECTS_H
#define SP_API_OBJECTS_H

#include <pthread.h>

#include "base/knobs.h"
#include "engine/program.h"
#include "sparoa_serve.h"

#define SP_MAX_DEVICES SP_ENGINE_DEVICES

struct sparoa_runtime {
    atomic_int refs;
    sp_mem mem;
    sparoa_allocator alloc; /* counts into mem */
    sp_log log;
    sp_pool *pool;
    sp_trace trace;
    sparoa_host host;
    sp_knobs knobs;
    sp_device devices[SP_MAX_DEVICES]; /* 0: the CPU; queues are NULL: each session has its own */
    char names[SP_MAX_DEVICES][32];
    int32_t device_count;
    sp_device reference;   /* opened when first wanted */
    pthread_mutex_t mutex; /* guards `reference` and the loading of plug-ins */
};

struct sparoa_model {
    atomic_int refs;
    sparoa_runtime *runtime;
    sp_graph *graph;
    sp_model_meta meta;
};

/* One of a session's plans. A program whose graph is not the session's has divided nodes. */
typedef struct sp_session_plan_entry {
    sp_program *program;
    sp_placement *placement;
} sp_session_plan_entry;

struct sparoa_session {
    sparoa_model *model;
    sp_graph *graph;
    sp_device devices[SP_MAX_DEVICES]; /* 0: the CPU, or its reference */
    sp_engine engine;
    int32_t preferred; /* device of sparoa_session_options.device */
    sparoa_fallback fallback;
    const sparoa_pin *pins; /* the caller's, while the session is created */
    size_t pin_count;
    sparoa_status place_status; /* what sp_session_place could not do */
    sparoa_error place_error;
    char *without;                /* passes that were left out, or NULL */
    struct sp_auto *choose;       /* device "auto" (auto.h), or NULL */
    const char *enabled;          /* passes that ran whatever `without` says, or NULL */
    sparoa_session *rescue;       /* on the CPU alone, once a device failed */
    bool lost;                    /* a device is gone for good: every run is the rescue's */
    sp_session_plan_entry *plans; /* by number; those of several may have one program */
    size_t plan_count, plan_capacity;
    sp_program *program;    /* of the plan in use */
    sp_frame *frame;        /* of the latest run or prepare */
    size_t *bytes;          /* room for one run: capacities of the outputs */
    sparoa_tensor *outputs; /* room for one run */
    pthread_mutex_t mutex;  /* one run at a time */
    atomic_llong fallbacks; /* runs that the rescue did */
    int64_t runs, last_run_ns;
};

void sp_runtime_ref(sparoa_runtime *runtime);
void sp_runtime_unref(sparoa_runtime *runtime);
void sp_model_ref(sparoa_model *model);
void sp_model_unref(sparoa_model *model);
/* A model of a graph made here, which it takes over, on failure too. */
sparoa_status sp_model_of_graph(sparoa_runtime *runtime, sp_graph *graph, sparoa_model **model,
                                sparoa_error *err);
/* The device that runs plain implementations only. */
sparoa_status sp_runtime_reference(sparoa_runtime *runtime, sp_device *device, sparoa_error *err);

/* Index of a device by name, -1: there is none. */
int32_t sp_runtime_device(const sparoa_runtime *runtime, const char *name);

/* Where a node of the session runs (engine's `place`); user is the session. */
int32_t sp_session_place(void *user, size_t index, const sparoa_node *node);
/* Checks device and pins of the options. */
sparoa_status sp_session_devices(sparoa_session *session, const sparoa_session_options *options,
                                 sparoa_error *err);

/* What a plan means: the device of each node of `graph`, in which nodes are divided, or of the
 * session's own graph where that is NULL. */
typedef struct sp_planned {
    sp_graph *graph; /* owned */
    int32_t *device;
    size_t count;
} sp_planned;
/* Checks a plan against the session's graph and the runtime's devices. */
sparoa_status sp_session_plan(const sparoa_session *session, const sparoa_plan *plan,
                              sp_planned *planned, sparoa_error *err);
void sp_planned_free(const sparoa_session *session, sp_planned *planned);
/* Gives a placement the next number; the session destroys the program. */
sparoa_status sp_session_keep_plan(sparoa_session *session, sp_program *program,
                                   sp_placement *placement, sparoa_error *err);
/* Destroys all programs, with the graphs that are theirs. */
void sp_session_drop_plans(sparoa_session *session);
/* Passes that the graph of a plan was made without; NULL: none. */
const char *sp_plan_passes(const sparoa_plan *plan);

/* sparoa_session_run that asks `stop` (or NULL) between nodes. */
sparoa_status sp_session_run(sparoa_session *session, const sparoa_tensor *inputs,
                             size_t input_count, sparoa_tensor *outputs, size_t output_count,
                             const sp_stop *stop, sparoa_error *err);
/* What a run checks first. bytes: by output, set to the capacity of the caller's buffer, 0 without
 * one; or NULL. */
sparoa_status sp_session_check_inputs(const sparoa_session *session, const sparoa_tensor *inputs,
                                      size_t count, bool need_data, sparoa_error *err);
sparoa_status sp_session_check_outputs(const sparoa_session *session, const sparoa_tensor *outputs,
                                       size_t count, size_t *bytes, sparoa_error *err);

/* A copy of the caller's options struct of which `size` bytes are known; the rest is zero. False:
 * struct_size is missing. */
bool sp_read_options(void *to, size_t size, const void *from);

#endif
