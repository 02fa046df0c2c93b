/*
 * sparoa_backend.h - for authors of operators and devices.
 *
 *   1. nodes and attributes   what an operator or a device sees of one node of a graph
 *   2. operators              struct sparoa_op: shapes, cost and a plain implementation of one
 * operator
 *   3. devices                struct sparoa_backend: the table through which the engine drives a
 * device
 *
 * Everything here is plain data and inline functions: an operator or plug-in links to nothing of
 * libsparoa. Structs that begin with struct_size only ever grow at the end; a reader uses a field
 * only if struct_size covers it. Structs without it are frozen.
 */
#ifndef SPAROA_BACKEND_H
#define SPAROA_BACKEND_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "sparoa.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. Nodes and attributes
 * ------------------------------------------------------------------------- */

/* Values are those of ONNX AttributeProto.AttributeType. */
typedef enum sparoa_attr_type {
    SPAROA_ATTR_FLOAT = 1,
    SPAROA_ATTR_INT = 2,
    SPAROA_ATTR_STRING = 3,
    SPAROA_ATTR_TENSOR = 4,
    SPAROA_ATTR_GRAPH =
        5, /* the value stays with the graph: a subgraph is no operator's business */
    SPAROA_ATTR_FLOATS = 6,
    SPAROA_ATTR_INTS = 7,
    SPAROA_ATTR_STRINGS = 8
} sparoa_attr_type;

/* One attribute of a node. Frozen. */
typedef struct sparoa_attr {
    const char *name;
    sparoa_attr_type type;
    size_t count; /* elements of an array; bytes of a string (which is zero-terminated as well) */
    union {
        float f;
        int64_t i;
        const char *s;
        const float *floats;
        const int64_t *ints;
        const char *const *strings;
        const sparoa_tensor *tensor;
        uint32_t graph; /* index of the subgraph within the node */
    } v;
} sparoa_attr;

/* One node as an operator or device sees it. Frozen.
 * in[i] is NULL where an optional input is left out, out[i] where an output is not wanted.
 * While shapes are inferred, in[i]->data is NULL unless the value is already known (a constant, or
 * worked out from shapes), and dims may hold -1. While a node runs, all shapes and data are set. */
typedef struct sparoa_node {
    const char *name;   /* never NULL */
    const char *op;     /* operator type */
    const char *domain; /* "" for ai.onnx */
    int32_t version;    /* opset version of the domain in the model */
    int32_t n_in, n_out, n_attrs;
    sparoa_tensor *const *in;
    sparoa_tensor *const *out;
    const sparoa_attr *attrs;
    const bool
        *constant; /* constant[i]: input i is the same in every run, its data set from the start */
} sparoa_node;

/* The i-th input or output, or NULL if it is not there. */
static inline const sparoa_tensor *sparoa_in(const sparoa_node *node, int32_t i)
{
    return i < node->n_in ? node->in[i] : NULL;
}

static inline sparoa_tensor *sparoa_out(const sparoa_node *node, int32_t i)
{
    return i < node->n_out ? node->out[i] : NULL;
}

/* The attribute of that name, or NULL. */
static inline const sparoa_attr *sparoa_attr_find(const sparoa_node *node, const char *name)
{
    for (int32_t i = 0; i < node->n_attrs; i++)
        if (strcmp(node->attrs[i].name, name) == 0) return &node->attrs[i];
    return NULL;
}

/* The attribute's value, or `fallback` where it is missing or of another type. */
static inline int64_t sparoa_attr_int(const sparoa_node *node, const char *name, int64_t fallback)
{
    const sparoa_attr *a = sparoa_attr_find(node, name);
    return a && a->type == SPAROA_ATTR_INT ? a->v.i : fallback;
}

static inline float sparoa_attr_float(const sparoa_node *node, const char *name, float fallback)
{
    const sparoa_attr *a = sparoa_attr_find(node, name);
    return a && a->type == SPAROA_ATTR_FLOAT ? a->v.f : fallback;
}

static inline const char *sparoa_attr_string(const sparoa_node *node, const char *name,
                                             const char *fallback)
{
    const sparoa_attr *a = sparoa_attr_find(node, name);
    return a && a->type == SPAROA_ATTR_STRING ? a->v.s : fallback;
}

/* The array and, in *count, its length; NULL and 0 where it is missing or of another type. */
static inline const int64_t *sparoa_attr_ints(const sparoa_node *node, const char *name,
                                              size_t *count)
{
    const sparoa_attr *a = sparoa_attr_find(node, name);
    bool ok = a && a->type == SPAROA_ATTR_INTS;
    *count = ok ? a->count : 0;
    return ok ? a->v.ints : NULL;
}

static inline const float *sparoa_attr_floats(const sparoa_node *node, const char *name,
                                              size_t *count)
{
    const sparoa_attr *a = sparoa_attr_find(node, name);
    bool ok = a && a->type == SPAROA_ATTR_FLOATS;
    *count = ok ? a->count : 0;
    return ok ? a->v.floats : NULL;
}

static inline const sparoa_tensor *sparoa_attr_tensor(const sparoa_node *node, const char *name)
{
    const sparoa_attr *a = sparoa_attr_find(node, name);
    return a && a->type == SPAROA_ATTR_TENSOR ? a->v.tensor : NULL;
}

/* Fills *err (may be NULL) and returns `status`, so that a failing function can end with
 *     return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "group=%d does not divide C=%d", g, c);
 * The message becomes "Conv 'name': group=3 does not divide C=64". node may be NULL. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static inline sparoa_status
sparoa_fail(sparoa_error *err, sparoa_status status, const sparoa_node *node, const char *format,
            ...)
{
    if (!err) return status;
    int n = 0;
    err->status = status;
    err->node[0] = '\0';
    if (node) {
        snprintf(err->node, sizeof err->node, "%s", node->name);
        n = snprintf(err->message, sizeof err->message, "%s '%.80s': ", node->op, node->name);
    }
    if (n < 0 || n >= (int)sizeof err->message) n = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message + n, sizeof err->message - (size_t)n, format, args);
    va_end(args);
    return status;
}

/* ---- 2. Operators
 * ------------------------------------------------------------------------------------ */

/* What kind of work an operator is: cost models, reports and the scheduler go by this, never by a
 * name. */
typedef enum sparoa_op_class {
    SPAROA_CLASS_ELTWISE,   /* each output element from the matching input elements */
    SPAROA_CLASS_REDUCE,    /* along axes: sums, arg-max, softmax */
    SPAROA_CLASS_GEMM,      /* matrix products */
    SPAROA_CLASS_CONV,      /* convolutions */
    SPAROA_CLASS_POOL,      /* windows without weights */
    SPAROA_CLASS_NORM,      /* normalisation */
    SPAROA_CLASS_ATTENTION, /* attention */
    SPAROA_CLASS_RNN,       /* recurrent networks */
    SPAROA_CLASS_MOVE,  /* data is moved, not computed: transpose, gather, concat, resize by copying
                         */
    SPAROA_CLASS_SHAPE, /* shapes and small integers; no tensor data worth counting */
    SPAROA_CLASS_CONTROL, /* If, Loop, Scan: run by the engine */
    SPAROA_CLASS_OTHER,
    SPAROA_CLASS_COUNT
} sparoa_op_class;

enum {
    SPAROA_OP_INPLACE =
        1 << 0,              /* output 0 may be the memory of an input of the same size and type */
    SPAROA_OP_VIEW = 1 << 1, /* output 0 is input 0's data under another shape: run is a plain copy,
                                which the engine leaves out where it can alias */
    SPAROA_OP_SHAPE_ONLY = 1 << 2, /* run reads the shapes of its inputs, never their data */
    SPAROA_OP_TRIMS =
        1 << 3, /* infer gives an upper bound per dimension; run sets the true out->dims */
    SPAROA_OP_RANDOM = 1 << 4, /* results differ from run to run: never folded or shared */
    SPAROA_OP_HALF =
        1 << 5, /* run handles float16 and bfloat16 itself; without the flag the engine widens
                   such inputs to float32, runs the node, and narrows float outputs back */
    SPAROA_OP_COMMUTES = 1 << 6,        /* inputs 0 and 1 may be swapped */
    SPAROA_OP_UNARY_POINTWISE = 1 << 7, /* out[i] = f(in[i]): layout does not matter */
    SPAROA_OP_BROADCASTS =
        1 << 8, /* multidirectional broadcasting of all inputs, element by element */
    SPAROA_OP_BY_IMAGE =
        1 << 9 /* where the output's first dimension is as large as input 0's, whatever that is,
                  element n of it comes from element n of input 0's (and of a fused residual's)
                  alone; all other inputs are parameters */
};

/* How far an implementation may depart from the reference. */
typedef enum sparoa_tolerance {
    SPAROA_TOL_EXACT,    /* not at all */
    SPAROA_TOL_ROUNDING, /* a few units in the last place: one rounding per element */
    SPAROA_TOL_SUM /* sums in another order: relative to the largest magnitude of the output */
} sparoa_tolerance;

/* Work of one run of a node. Frozen. */
typedef struct sparoa_cost {
    double flops; /* floating-point (or integer multiply-add) operations; a multiply-add is two */
    double bytes_in;  /* bytes of non-constant inputs read */
    double bytes_w;   /* bytes of constant inputs read */
    double bytes_out; /* bytes written */
} sparoa_cost;

/* What `run` gets from the engine. Frozen. */
typedef struct sparoa_exec {
    void *state; /* what create made, or NULL */
    void *
        workspace; /* as many bytes as `workspace` asked for, 64-byte aligned; contents undefined */
    int32_t threads; /* threads that parallel can use; 1: none to spare */
    /* Runs task(arg, i) for all i in 0..count-1 on the runtime's threads, returns when all are
     * done. */
    void (*parallel)(const struct sparoa_exec *exec, int32_t count,
                     void (*task)(void *arg, int32_t i), void *arg);
    void *pool;        /* the engine's own */
    sparoa_error *err; /* for sparoa_fail; may be NULL */
} sparoa_exec;

/* One operator: what it is, and a plain implementation. A row is constant and outlives what uses
 * it. Applications add their own through sparoa_runtime_options.operators; they come before the
 * library's. */
typedef struct sparoa_op {
    size_t struct_size; /* sizeof(sparoa_op) */
    const char *name;   /* ONNX operator type */
    const char *domain; /* "" for ai.onnx */
    int32_t since,
        until; /* handles models with since <= opset version <= until; until 0: every later one */
    int32_t min_in, max_in;   /* inputs; max -1: any number */
    int32_t min_out, max_out; /* outputs; max -1: any number */
    sparoa_op_class op_class;
    sparoa_tolerance tolerance;
    uint32_t flags; /* SPAROA_OP_* */

    /* Sets dtype, rank and dims of every wanted output from the inputs' types, shapes and known
     * values. May be called with unknown ranks and dimensions: then it says what it can and leaves
     * rank or dims at -1; output facts start as unknown. Fails on types, shapes or attributes that
     * can never work. No allocation. */
    sparoa_status (*infer)(const sparoa_node *node, sparoa_error *err);

    /* Work at the present shapes. NULL: one operation per output element, all bytes once. */
    void (*cost)(const sparoa_node *node, sparoa_cost *cost);

    /* Bytes of workspace that run needs at the present shapes with up to `threads` threads. NULL:
     * none. */
    size_t (*workspace)(const sparoa_node *node, int32_t threads);

    /* Computes the outputs. No allocation, no state outside exec. */
    sparoa_status (*run)(const sparoa_node *node, const sparoa_exec *exec);

    /* Optional: prepares something once per session (tables, packed constants), given back to run
     * as exec->state. alloc is the runtime's allocator. */
    sparoa_status (*create)(const sparoa_node *node, const sparoa_allocator *alloc, void **state,
                            sparoa_error *err);
    void (*destroy)(void *state, const sparoa_allocator *alloc);
} sparoa_op;

/* ---- 3. Devices
 * -------------------------------------------------------------------------------------- */

/* A plug-in is a shared library that exports one symbol of this type, named sparoa_backend_query.
 * It returns its table, or NULL if it can't serve `host->abi`. */
#define SPAROA_BACKEND_ABI 1

typedef struct sparoa_host {
    size_t struct_size;
    uint32_t abi;               /* SPAROA_BACKEND_ABI of the host */
    sparoa_allocator allocator; /* host memory, counted and capped by the runtime */
    void *log_user;
    void (*log)(void *log_user, sparoa_log_level level, const char *line);
    int32_t threads; /* threads of the runtime */
    void *pool;      /* opaque, for parallel */
    void (*parallel)(void *pool, int32_t count, void (*task)(void *arg, int32_t i), void *arg);
    const sparoa_op *const *operators; /* the application's own operators */
    size_t operator_count;
    /* The plain implementation of a node's operator: devices that share the host's memory may run
     * it. */
    const sparoa_op *(*operator_of)(const struct sparoa_host *host, const sparoa_node *node);
} sparoa_host;

typedef enum sparoa_device_kind {
    SPAROA_DEVICE_CPU,
    SPAROA_DEVICE_GPU,            /* own memory */
    SPAROA_DEVICE_INTEGRATED_GPU, /* shares the host's memory */
    SPAROA_DEVICE_NPU
} sparoa_device_kind;

enum {
    SPAROA_CAP_HOST_MEMORY = 1 << 0, /* kernels read and write host memory: no copies needed */
    SPAROA_CAP_ASYNC = 1 << 1, /* run and copy return before the work is done; events order it */
    SPAROA_CAP_TIMED_EVENTS = 1 << 2,
    SPAROA_CAP_CAPTURE = 1 << 3, /* capture_* slots work */
    SPAROA_CAP_UNIFIED = 1 << 4  /* kernels use SPAROA_MEMORY_UNIFIED as well as their own memory:
                                    values that host and device share are not copied */
};

typedef struct sparoa_device_info {
    size_t struct_size;
    char name[32]; /* "cpu", "cuda0" */
    char description[96];
    sparoa_device_kind kind;
    uint32_t caps;           /* SPAROA_CAP_* */
    size_t memory_bytes;     /* total; 0: unknown */
    size_t alignment;        /* of buffers */
    double peak_flops;       /* float32 operations per second; 0: unknown */
    double memory_bandwidth; /* bytes per second; 0: unknown */
} sparoa_device_info;

typedef struct sparoa_device_status {
    size_t struct_size;
    size_t free_bytes;    /* 0: unknown */
    double load;          /* 0..1; negative: unknown */
    double clock_mhz;     /* negative: unknown */
    double temperature_c; /* negative: unknown */
    double power_w;       /* negative: unknown */
} sparoa_device_status;

typedef enum sparoa_memory_kind {
    SPAROA_MEMORY_DEVICE, /* what kernels use */
    SPAROA_MEMORY_PINNED, /* host memory that copies fast and asynchronously */
    SPAROA_MEMORY_UNIFIED /* one address for host and device */
} sparoa_memory_kind;

typedef struct sparoa_dev sparoa_dev;     /* an open device */
typedef struct sparoa_queue sparoa_queue; /* work in order: a CUDA stream */
typedef struct sparoa_event sparoa_event; /* a point in a queue */
typedef struct sparoa_kernel
    sparoa_kernel; /* a node prepared for a device: attributes parsed, weights packed */
typedef struct sparoa_prepared sparoa_prepared; /* a kernel prepared for one set of shapes */
typedef struct sparoa_capture sparoa_capture;   /* a recorded piece of a queue: a CUDA graph */

/* The table. Slots marked O may be NULL; the rest are required. Tensors' data pointers are
 * addresses of the device's memory; adding an offset to one is allowed. */
typedef struct sparoa_backend {
    size_t struct_size;
    uint32_t abi;     /* SPAROA_BACKEND_ABI it was built for */
    const char *name; /* "cpu", "cuda" */
    const char *version;

    /* library */
    sparoa_status (*probe)(const sparoa_host *host,
                           sparoa_error *why); /* OK: this machine has such a device */
    int32_t (*device_count)(const sparoa_host *host);
    sparoa_status (*device_open)(const sparoa_host *host, int32_t index, const char *options,
                                 sparoa_dev **dev,
                                 sparoa_error *err); /* options: "key=value,..." or NULL */
    void (*device_close)(sparoa_dev *dev);
    void (*device_info)(const sparoa_dev *dev, sparoa_device_info *info);
    sparoa_status (*device_status)(sparoa_dev *dev, sparoa_device_status *status); /* O */

    /* memory */
    sparoa_status (*buffer_alloc)(sparoa_dev *dev, size_t bytes, sparoa_memory_kind kind,
                                  void **ptr);
    void (*buffer_free)(sparoa_dev *dev, void *ptr, size_t bytes, sparoa_memory_kind kind);

    /* queues and copies; src or dst may be host memory. Devices without SPAROA_CAP_ASYNC work at
     * once. */
    sparoa_status (*queue_create)(sparoa_dev *dev, int32_t priority, sparoa_queue **queue);
    void (*queue_destroy)(sparoa_queue *queue);
    sparoa_status (*queue_sync)(sparoa_queue *queue); /* waits; reports what failed in between */
    sparoa_status (*copy)(sparoa_queue *queue, void *dst, const void *src, size_t bytes);
    sparoa_status (*host_call)(sparoa_queue *queue, void (*fn)(void *arg),
                               void *arg); /* O: fn runs on some thread
                                          when the queue gets there */
    /* events: O, but required with SPAROA_CAP_ASYNC */
    sparoa_status (*event_create)(sparoa_dev *dev, sparoa_event **event);
    void (*event_destroy)(sparoa_event *event);
    sparoa_status (*event_record)(sparoa_event *event, sparoa_queue *queue);
    sparoa_status (*event_wait)(sparoa_event *event,
                                sparoa_queue *queue); /* queue waits, the caller does not */
    sparoa_status (*event_sync)(sparoa_event *event); /* the caller waits */
    bool (*event_done)(sparoa_event *event);
    double (*event_elapsed_ns)(sparoa_event *start,
                               sparoa_event *end); /* O: with SPAROA_CAP_TIMED_EVENTS */

    /* kernels */
    bool (*node_supports)(sparoa_dev *dev, const sparoa_node *node, char *why,
                          size_t why_size); /* capability
    only; speed is never a reason */
    sparoa_status (*node_create)(sparoa_dev *dev, const sparoa_node *node, sparoa_kernel **kernel,
                                 sparoa_error *err); /* constant inputs have host data */
    const char *(*node_variant)(
        const sparoa_kernel *kernel); /* name of what was chosen, for logs and profiles */
    size_t (*node_bytes)(const sparoa_kernel *kernel); /* memory it keeps for weights */
    bool (*node_keeps_input)(const sparoa_kernel *kernel,
                             int32_t input); /* false: it made its own copy of this
                            constant, which the engine may release */
    /* All shapes are set. *prepared (may be NULL before: make it; else: reuse or replace it) holds
     * what depends on them; *workspace gets the bytes of device memory that node_run wants. Inputs
     * whose values are known by now (constants, worked-out shapes) have host data, all others
     * data NULL: parameters that a kernel needs on the host are read here or in node_create. */
    sparoa_status (*node_prepare)(sparoa_kernel *kernel, const sparoa_node *node,
                                  sparoa_prepared **prepared, size_t *workspace, sparoa_error *err);
    /* Enqueues the node: no allocation, no waiting. All data are addresses of the device's memory;
     * the engine has uploaded the constants that node_keeps_input asks for. */
    sparoa_status (*node_run)(sparoa_kernel *kernel, sparoa_prepared *prepared, sparoa_queue *queue,
                              const sparoa_node *node, void *workspace, sparoa_error *err);
    void (*prepared_destroy)(sparoa_kernel *kernel, sparoa_prepared *prepared);
    void (*node_destroy)(sparoa_kernel *kernel);

    /* capture: O */
    sparoa_status (*capture_begin)(sparoa_queue *queue);
    sparoa_status (*capture_end)(sparoa_queue *queue, sparoa_capture **capture);
    sparoa_status (*capture_launch)(sparoa_capture *capture, sparoa_queue *queue);
    void (*capture_destroy)(sparoa_capture *capture);

    /* measuring: O */
    sparoa_status (*measure)(sparoa_dev *dev, int32_t milliseconds, sparoa_device_peak *peak,
                             sparoa_error *err);
    void (*describe)(const sparoa_dev *dev, sparoa_device_desc *desc);

    /* lanes: O, host memory only. As node_prepare and node_run, but done by the calling thread
     * alone; several threads run one kernel at once, each with a prepared object and a workspace
     * of its own. */
    sparoa_status (*node_prepare_lane)(sparoa_kernel *kernel, const sparoa_node *node,
                                       sparoa_prepared **prepared, size_t *workspace,
                                       sparoa_error *err);
    sparoa_status (*node_run_lane)(sparoa_kernel *kernel, sparoa_prepared *prepared,
                                   const sparoa_node *node, void *workspace, sparoa_error *err);

    /* O: event_sync that returns DEADLINE if the event is not done after so long (0 and less: at
     * once). Without it event_done is asked again and again. */
    sparoa_status (*event_sync_for)(sparoa_event *event, int64_t timeout_ns);

    /* O, host memory only. A kernel that does in one go what `count` nodes do one after the other,
     * where that is faster: without writing what they hand over, which is input 0 of the next and
     * which nobody else reads. kernels: theirs, which stay as long as this one; nodes: with all
     * shapes set, whose attributes stay. lane: it will run in lanes. *kernel NULL: they had better
     * run one by one. The kernel is prepared and run with a node whose inputs are those of all
     * nodes, one after the other, with data NULL where they hand over, and whose outputs are those
     * of the last; it has no attributes. kept: others read what the first hands over, which is
     * written then, as output 0 in front of those of the last. */
    sparoa_status (*nodes_join)(sparoa_dev *dev, sparoa_kernel *const *kernels,
                                const sparoa_node *const *nodes, int32_t count, bool lane,
                                bool kept, sparoa_kernel **kernel, sparoa_error *err);
} sparoa_backend;

#define SPAROA_JOIN_MAX 3 /* nodes that the engine offers to nodes_join at most */

typedef const sparoa_backend *(*sparoa_backend_query_fn)(const sparoa_host *host);

#ifdef __cplusplus
}
#endif
#endif
