/*
 * sparoa.h - the public interface of libsparoa.
 *
 * libsparoa runs ONNX models on the CPU and on accelerators of one machine. This header is all that
 * an application needs to run them; sparoa_serve.h adds queues, requests and batches,
 * sparoa_schedule.h plans, sparoa_backend.h is for authors of operators and devices. It reads top
 * to bottom as a tutorial:
 *
 *   1. status codes and errors        what every call returns
 *   2. tensors                        how data goes in and out
 *   3. runtime                        threads, memory, log: one per process or per component
 *   4. model                          an ONNX file, loaded and checked once
 *   5. session                        a model made ready to run, and running it
 *   6. looking inside                 profile, nodes, memory, values
 *   7. devices                        what the machine offers
 *   8. tensor files                   ONNX TensorProto (.pb) in and out
 *
 * The shortest program:
 *
 *   sparoa_runtime *rt; sparoa_model *model; sparoa_session *session; sparoa_error err;
 *   if (sparoa_runtime_create(NULL, &rt, &err) ||
 *       sparoa_model_load(rt, "model.onnx", NULL, &model, &err) ||
 *       sparoa_session_create(model, NULL, &session, &err)) { puts(err.message); return 1; }
 *   sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, pixels, 4, 1, 3, 224, 224), out = {0};
 *   if (sparoa_session_run(session, &in, 1, &out, 1, &err)) puts(err.message);
 *
 * Rules that hold for every function, unless its comment says otherwise:
 *   - Ownership: a *_create or *_load call hands over an object that the matching *_destroy frees.
 *     Destroy functions accept NULL and return nothing. A model keeps its runtime alive and a
 * session its model, so objects may be destroyed in any order.
 *   - Threads: different objects may be used from different threads at once. One runtime or model
 * may be shared by any number of threads. What one session allows is said at its functions.
 *   - Errors: a call that fails leaves its outputs untouched. `err` may be NULL; if it is not, it
 * is filled on failure and left alone on success. The library never aborts, exits or prints because
 * of input.
 *   - Sizes are size_t bytes, dimensions int64_t, times int64_t nanoseconds in names that end in
 * _ns.
 *   - Strings are UTF-8 and zero-terminated.
 *   - Options structs: zero-initialise them (or pass NULL), set struct_size = sizeof the struct,
 * then the fields you care about; zero means "default" everywhere.
 */
#ifndef SPAROA_H
#define SPAROA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) || defined(SPAROA_STATIC)
#define SPAROA_API
#else
#define SPAROA_API __attribute__((visibility("default")))
#endif

#define SPAROA_VERSION_MAJOR 0
#define SPAROA_VERSION_MINOR 1
#define SPAROA_VERSION_PATCH 0

/* "0.1.0": the version of the library that is running, which may be newer than this header. Never
 * NULL. */
SPAROA_API const char *sparoa_version(void);

/* ---- 1. Status codes and errors
 * ---------------------------------------------------------------------- */

/* X(name, value, text): one row per status. Values are grouped by tens and never reused.
 * docs/errors.md explains each row with its usual cause and remedy. */
#define SPAROA_STATUS_MAP(X)                                                                       \
    X(OK, 0, "success")                                                                            \
    X(INVALID_ARGUMENT, -10, "an argument is missing or out of range")                             \
    X(INVALID_STATE, -11, "the object cannot do this in its present state")                        \
    X(NOT_FOUND, -12, "a name, file or entry does not exist")                                      \
    X(TYPE_MISMATCH, -13, "the element type is not the expected one")                              \
    X(SHAPE_MISMATCH, -14, "the shape is not the expected one")                                    \
    X(BUFFER_TOO_SMALL, -15, "the caller's buffer is too small")                                   \
    X(OUT_OF_MEMORY, -20, "the allocator returned no memory")                                      \
    X(MEMORY_LIMIT, -21, "the memory cap would be exceeded")                                       \
    X(IO, -30, "reading or writing a file failed")                                                 \
    X(MALFORMED, -31, "the file is not well formed")                                               \
    X(TOO_LARGE, -32, "the file exceeds a limit that protects the reader")                         \
    X(FORBIDDEN_PATH, -33, "the path leaves the model's folder")                                   \
    X(UNSUPPORTED_VERSION, -34, "the file's version is not supported")                             \
    X(INVALID_GRAPH, -40, "the graph breaks a rule of ONNX")                                       \
    X(UNSUPPORTED_OP, -41, "an operator is not supported")                                         \
    X(UNSUPPORTED_TYPE, -42, "an operator does not support this element type")                     \
    X(INDEX_OUT_OF_RANGE, -43, "an index in the data is out of range")                             \
    X(DEVICE_UNAVAILABLE, -50, "the device is not there or cannot be used")                        \
    X(DEVICE_LOST, -51, "the device stopped working")                                              \
    X(PLUGIN, -52, "a plug-in is not usable")                                                      \
    X(INVALID_PLAN, -60, "the plan does not fit the graph or the machine")                         \
    X(CANCELLED, -70, "the request was cancelled")                                                 \
    X(DEADLINE, -71, "the deadline passed")                                                        \
    X(QUEUE_FULL, -72, "no more requests are taken at present")                                    \
    X(INTERNAL, -90, "a fault inside the library; please report it")

typedef enum sparoa_status {
#define X(name, value, text) SPAROA_##name = value,
    SPAROA_STATUS_MAP(X)
#undef X
} sparoa_status;

/* The name of a status without its prefix ("OUT_OF_MEMORY"), or "UNKNOWN". Never NULL; static
 * storage. */
SPAROA_API const char *sparoa_status_name(sparoa_status status);

/* One sentence about a status, for people. Never NULL; static storage. */
SPAROA_API const char *sparoa_status_text(sparoa_status status);

/* What went wrong. A plain struct that the caller owns: no allocation, nothing to free. */
typedef struct sparoa_error {
    sparoa_status status; /* the code that the call returned */
    char node[96];        /* name of the graph node concerned, cut to fit; "" if none */
    char message[416];    /* one line: the object, the value, what was expected, what to do */
} sparoa_error;

/* ---- 2. Tensors
 * -------------------------------------------------------------------------------------- */

#define SPAROA_MAX_RANK 8 /* most dimensions a tensor can have */

/* Element types. Values are those of ONNX TensorProto.DataType. */
typedef enum sparoa_dtype {
    SPAROA_UNDEFINED = 0,
    SPAROA_FLOAT32 = 1,
    SPAROA_UINT8 = 2,
    SPAROA_INT8 = 3,
    SPAROA_UINT16 = 4,
    SPAROA_INT16 = 5,
    SPAROA_INT32 = 6,
    SPAROA_INT64 = 7,
    SPAROA_BOOL = 9, /* one byte, 0 or 1 */
    SPAROA_FLOAT16 = 10,
    SPAROA_FLOAT64 = 11,
    SPAROA_UINT32 = 12,
    SPAROA_UINT64 = 13,
    SPAROA_BFLOAT16 = 16
} sparoa_dtype;

/* Bytes of one element; 0 for a type the library does not handle. */
SPAROA_API size_t sparoa_dtype_size(sparoa_dtype dtype);

/* "float32", "int64" ...; "undefined" for anything else. Never NULL; static storage. */
SPAROA_API const char *sparoa_dtype_name(sparoa_dtype dtype);

/* A dense tensor: a plain view of memory that somebody else owns. Row-major, contiguous (the last
 * dimension varies fastest), aligned at least to its element. A scalar has rank 0. The layout of
 * this struct is frozen. */
typedef struct sparoa_tensor {
    void *data;         /* first element; may be NULL where a comment allows it */
    sparoa_dtype dtype; /* element type */
    int32_t rank; /* number of dimensions, 0..SPAROA_MAX_RANK; -1: rank unknown (facts only) */
    int64_t dims[SPAROA_MAX_RANK]; /* sizes, outermost first; -1: unknown (facts only) */
} sparoa_tensor;

/* Fills a tensor view: sparoa_tensor_of(SPAROA_FLOAT32, p, 2, 3, 4) is p[3][4]. The
 * dimensions are read as int; use sparoa_tensor_view for sizes above INT_MAX. A rank out of range
 * gives a tensor of type SPAROA_UNDEFINED. */
SPAROA_API sparoa_tensor sparoa_tensor_of(sparoa_dtype dtype, void *data, int rank, ...);

/* The same from an array of `rank` dimensions. */
SPAROA_API sparoa_tensor sparoa_tensor_view(sparoa_dtype dtype, void *data, int rank,
                                            const int64_t *dims);

/* Number of elements: the product of the dimensions, 1 for a scalar, -1 if any is unknown or the
 * product overflows. */
SPAROA_API int64_t sparoa_tensor_count(const sparoa_tensor *tensor);

/* Bytes of the data: count times element size, 0 if unknown. */
SPAROA_API size_t sparoa_tensor_bytes(const sparoa_tensor *tensor);

/* ---- 3. Runtime
 * -------------------------------------------------------------------------------------- */

/* Memory comes from here. alloc returns at least `size` bytes aligned to `align` (a power of two,
 * at most 4096), or NULL. free accepts NULL and gets the size that was asked for. Both may be
 * called from several threads at once. */
typedef struct sparoa_allocator {
    void *user;
    void *(*alloc)(void *user, size_t size, size_t align);
    void (*free)(void *user, void *ptr, size_t size);
} sparoa_allocator;

typedef enum sparoa_log_level {
    SPAROA_LOG_OFF = 0,
    SPAROA_LOG_ERROR = 1,
    SPAROA_LOG_WARN = 2,  /* something works, but not as asked */
    SPAROA_LOG_INFO = 3,  /* what was chosen: devices, kernels */
    SPAROA_LOG_DEBUG = 4, /* every pass, node and buffer */
    SPAROA_LOG_MAX_ = 0x7fffffff
} sparoa_log_level;

/* Receives one line without a newline. May be called from any thread that is inside a call of the
 * library. */
typedef void (*sparoa_log_fn)(void *user, sparoa_log_level level, const char *line);

/* A host's own executor: runs task(arg, i) for every i in 0..count-1, in any order, on any threads,
 * and returns when all are done. Runs at the same time call it at the same time; tasks never do. */
typedef void (*sparoa_parallel_fn)(void *user, int32_t count, void (*task)(void *arg, int32_t i),
                                   void *arg);

typedef struct sparoa_runtime_options {
    size_t struct_size; /* sizeof(sparoa_runtime_options) */
    int32_t
        threads; /* threads that work on one run, the caller's included; 0: one per usable core */
    int32_t spin_us; /* how long an idle worker polls before it blocks, so that the next run finds
                        it awake; 0 (default): 100 microseconds; 1: practically not */
    const int32_t
        *affinity; /* CPU number for each worker (the caller's thread is never moved), or NULL */
    int32_t affinity_count; /* entries in affinity */
    sparoa_parallel_fn
        parallel;               /* the host's executor in place of the library's workers, or NULL */
    void *parallel_user;        /* passed to it */
    sparoa_allocator allocator; /* alloc == NULL: aligned_alloc and free of libc */
    size_t memory_limit;        /* cap in bytes on what the runtime's objects hold; 0: none */
    sparoa_log_fn log;          /* NULL: nothing is logged */
    void *log_user;             /* passed to log */
    sparoa_log_level log_level; /* lines above this level are dropped; 0: SPAROA_LOG_WARN */
    const struct sparoa_op *const
        *operators;        /* the application's own operators (sparoa_backend.h), or NULL */
    size_t operator_count; /* entries in operators; the rows must outlive the runtime */
} sparoa_runtime_options;

typedef struct sparoa_runtime sparoa_runtime;

/* Starts a runtime: its workers, its memory accounting, its CPU device. No thread is started when
 * `threads` is 1 or `parallel` is set. Two runtimes share nothing. Errors: INVALID_ARGUMENT,
 * OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_runtime_create(const sparoa_runtime_options *options,
                                               sparoa_runtime **runtime, sparoa_error *err);
SPAROA_API void sparoa_runtime_destroy(sparoa_runtime *runtime);

/* Loads a device plug-in from a shared library (docs/plugins.md) and opens its devices, which
 * sessions created from then on can use. `path` must contain a slash: no folder is searched.
 * `options` is handed to the devices ("key=value,..."), or NULL.
 * Errors: NOT_FOUND, PLUGIN, DEVICE_UNAVAILABLE (this machine has no such device: the message says
 * why; the runtime goes on without), OUT_OF_MEMORY. Not while sessions are being created. */
SPAROA_API sparoa_status sparoa_runtime_load_plugin(sparoa_runtime *runtime, const char *path,
                                                    const char *options, sparoa_error *err);

/* Bytes held now, and the most ever held, by the runtime and everything made from it. */
SPAROA_API size_t sparoa_runtime_memory(const sparoa_runtime *runtime);
SPAROA_API size_t sparoa_runtime_memory_peak(const sparoa_runtime *runtime);

/* Threads that work on one run, the caller's included. */
SPAROA_API int32_t sparoa_runtime_threads(const sparoa_runtime *runtime);

/* ---- 4. Model
 * ---------------------------------------------------------------------------------------- */

/* Where the bytes of a model come from when they are neither a file nor in memory (an archive, an
 * encrypted store). size: total bytes. read: copies `size` bytes from `offset` to `dst`, returns 0
 * on success. */
typedef struct sparoa_reader {
    void *user;
    uint64_t (*size)(void *user);
    int (*read)(void *user, uint64_t offset, void *dst, size_t size);
} sparoa_reader;

typedef struct sparoa_model_options {
    size_t struct_size;
    const char *external_data_dir; /* folder of external tensor data; NULL: the folder of the model
                                      file. With a model from memory or a reader and no folder,
                                      external data is refused */
    size_t max_bytes; /* largest model file accepted, external data not counted; 0: 2 GiB */
} sparoa_model_options;

typedef struct sparoa_model sparoa_model;

/* Loads an ONNX model: reads, checks against limits, builds the graph, infers types and shapes.
 * Weights stay in the mapped file where they can. All operators that the library lacks are named in
 * one error. Source: ONNX IR versions 3 and newer. Errors: NOT_FOUND, IO, MALFORMED, TOO_LARGE,
 * FORBIDDEN_PATH, UNSUPPORTED_VERSION, UNSUPPORTED_OP, UNSUPPORTED_TYPE, INVALID_GRAPH,
 * SHAPE_MISMATCH, OUT_OF_MEMORY, MEMORY_LIMIT. */
SPAROA_API sparoa_status sparoa_model_load(sparoa_runtime *runtime, const char *path,
                                           const sparoa_model_options *options,
                                           sparoa_model **model, sparoa_error *err);

/* The same from memory, which is copied: it may be freed when the call returns. */
SPAROA_API sparoa_status sparoa_model_load_memory(sparoa_runtime *runtime, const void *data,
                                                  size_t size, const sparoa_model_options *options,
                                                  sparoa_model **model, sparoa_error *err);

/* The same through callbacks, which are used during the call only. */
SPAROA_API sparoa_status sparoa_model_load_reader(sparoa_runtime *runtime,
                                                  const sparoa_reader *reader,
                                                  const sparoa_model_options *options,
                                                  sparoa_model **model, sparoa_error *err);
SPAROA_API void sparoa_model_destroy(sparoa_model *model);

/* An input or output as the model declares it. Pointers live as long as the model. */
typedef struct sparoa_value_info {
    const char *name;
    sparoa_dtype dtype;
    int32_t rank;                           /* -1: the model does not say */
    int64_t dims[SPAROA_MAX_RANK];          /* -1: dynamic */
    const char *dim_names[SPAROA_MAX_RANK]; /* name of a dynamic dimension ("batch"), or NULL */
} sparoa_value_info;

/* Inputs are those that the caller must feed, in the model's order (initialisers that old models
 * also list as inputs are not among them). An index out of range gives INVALID_ARGUMENT. */
SPAROA_API size_t sparoa_model_input_count(const sparoa_model *model);
SPAROA_API size_t sparoa_model_output_count(const sparoa_model *model);
SPAROA_API sparoa_status sparoa_model_input(const sparoa_model *model, size_t index,
                                            sparoa_value_info *info);
SPAROA_API sparoa_status sparoa_model_output(const sparoa_model *model, size_t index,
                                             sparoa_value_info *info);

typedef struct sparoa_model_info {
    const char *producer;   /* tool that wrote the file, "" if it does not say */
    int64_t ir_version;     /* of the file */
    int64_t opset;          /* of the domain ai.onnx */
    size_t node_count;      /* nodes of the main graph as loaded, functions expanded */
    size_t parameter_count; /* elements of all floating-point and quantised weights */
    size_t weight_bytes;    /* bytes of all constants */
} sparoa_model_info;

SPAROA_API void sparoa_model_get_info(const sparoa_model *model, sparoa_model_info *info);

/* Value of a metadata_props entry, or NULL. Lives as long as the model. */
SPAROA_API const char *sparoa_model_metadata(const sparoa_model *model, const char *key);

/* ---- 5. Session
 * -------------------------------------------------------------------------------------- */

/* Called after each node of a run, on a thread of the run, with the values it wrote: for debugging
 * and comparing. `layout` is NULL, or "NHWC" if the value is stored with the channel last although
 * the model has it second. The data must not be kept or changed. */
typedef void (*sparoa_observer_fn)(void *user, const char *node, const char *value,
                                   const sparoa_tensor *tensor, const char *layout);

/* What happens when the chosen device can't do something. */
typedef enum sparoa_fallback {
    SPAROA_FALLBACK_WARN = 0,   /* the CPU does it, and the log says so once per node (default) */
    SPAROA_FALLBACK_ALLOW = 1,  /* the CPU does it */
    SPAROA_FALLBACK_FORBID = 2, /* an error */
    SPAROA_FALLBACK_MAX_ = 0x7fffffff
} sparoa_fallback;

/* A node that must run on a device. A name that is no node of the optimised graph has no effect. */
typedef struct sparoa_pin {
    const char *node;   /* name of the node as sparoa_session_node gives it */
    const char *device; /* name as sparoa_device gives it */
} sparoa_pin;

/* A decision where every node runs: made and described in sparoa_schedule.h. */
typedef struct sparoa_plan sparoa_plan;

/* How exactly a session computes. A model's own float16 and integer operators stay what they are.
 */
typedef enum sparoa_precision {
    SPAROA_PRECISION_FLOAT32, /* as the model says */
    SPAROA_PRECISION_TF32,    /* products and convolutions may round their float32 operands to 10
                                 bits of mantissa (errors near 1e-3), on devices that gain by it */
    SPAROA_PRECISION_FLOAT16  /* most operators work on float16 values with float32 sums (errors
                                 near 1e-2 of the largest value, none beyond 65504); inputs and
                                 outputs keep their types. For GPUs: a CPU converts for each
                                 operator and only loses time */
} sparoa_precision;

typedef struct sparoa_session_options {
    size_t struct_size;
    const char *disable_passes; /* names of graph passes to leave out, separated by commas
                                   ("layout,fuse"), or "all"; "+name" turns on one that is off by
                                   default ("+attention"). An unknown name is INVALID_ARGUMENT.
                                   sparoa_pass_name lists them */
    int32_t
        reference;   /* not 0: plain C kernels only, slow and simple; the oracle of `sparoa diff` */
    int32_t profile; /* not 0: record time and sparsity of every node (sparoa_session_node) */
    sparoa_observer_fn observer; /* or NULL */
    void *observer_user;
    const char *dump_dir; /* folder that gets the graph as text after every pass, or NULL */
    int32_t max_shapes;   /* input shapes whose memory plans are kept, oldest dropped first; 0: 8 */
    const char *device;   /* where nodes run: "cpu" (NULL: the same), a device of a loaded plug-in,
                             which then runs every node that it can, or "auto": what was measured to
                             be fastest here (below) */
    sparoa_fallback fallback; /* for nodes that `device` can't run, and for a device that fails or
                                 is out of memory in a run: the run is then done again on the CPU,
                                 as are all later ones if the device was lost */
    const sparoa_pin *pins;   /* exceptions from `device`, or NULL; an unknown device is
                                 INVALID_ARGUMENT, a node that it can't run UNSUPPORTED_OP */
    size_t pin_count;
    const sparoa_plan *plan; /* where every node runs (sparoa_schedule.h), or NULL; used during the
                                call only. In place of device and pins, which must be left out.
                                Checked before anything is made: INVALID_PLAN names the first node
                                that the plan lacks, that the graph lacks, or that its device is not
                                there for or cannot run, or that cannot be divided as the plan has
                                it. With disable_passes NULL the passes are
                                those of the plan's regime */
    sparoa_precision precision;
    int64_t device_timeout_ms; /* a device that does not signal for so long is taken for lost; 0:
                                  30 s; negative: it is waited for without end */
    const char *auto_cache; /* "auto": a file that keeps what was measured, read when the session is
                               created and replaced after measuring; NULL: none */
    double auto_seconds;    /* "auto": about how long the session may measure on its own, in all; 0:
                               2; negative: never, only sparoa_session_tune measures */
} sparoa_session_options;

/* Device "auto". The session begins as one on the CPU and answers as soon. The second run at input
 * shapes first measures: the CPU alone, each device alone, and plans that share the nodes between
 * them, made from each node's time on each device; they run in turn with the caller's inputs, and
 * the fastest is kept for these shapes. Where the fastest is not clearly faster, the simpler one
 * stays. That run takes about auto_seconds longer; sparoa_session_tune (sparoa_schedule.h) does the
 * same when it suits the caller. Without time left, and in runs with a deadline or a cancel flag,
 * nothing is measured and the choice for the shapes nearest in size decides, or the CPU. The CPU's
 * kernels stay ready: unless fallback is FORBID, a device that fails in a run ends in the CPU's
 * answer, and the CPU goes on. `precision` concerns devices: the CPU computes in float32. pins,
 * plan and reference must be left out; a session with an observer does not measure. */

typedef struct sparoa_session sparoa_session;

/* Makes a model ready to run: runs the graph passes, picks a kernel for each node, prepares
 * weights. Sessions of one model share what does not change. Errors: INVALID_ARGUMENT,
 * UNSUPPORTED_TYPE, UNSUPPORTED_OP, INVALID_PLAN, INVALID_GRAPH, OUT_OF_MEMORY, MEMORY_LIMIT. */
SPAROA_API sparoa_status sparoa_session_create(sparoa_model *model,
                                               const sparoa_session_options *options,
                                               sparoa_session **session, sparoa_error *err);
SPAROA_API void sparoa_session_destroy(sparoa_session *session);

/* Runs the model once, in the calling thread and the runtime's workers, and returns when it is
 * done.
 *
 * inputs: one tensor per input of the model, in its order; borrowed until the call returns; never
 * written. outputs: one entry per output, in the model's order. Where data is NULL, the call sets
 * the whole entry to memory of the session, which stays valid until the next run or prepare on it
 * or its end.
 * Where data is not NULL, it is the caller's buffer: dtype must match and dims must hold at least
 * as many elements as the result (the result is written there and dims are set to its shape). It
 * must not overlap an input or another output.
 *
 * The first run at a new combination of input shapes plans memory and may allocate; later runs at
 * that shape do not allocate. Threads: runs on one session are done one after the other; a thread
 * that shares a session with others must bring its own output buffers. For parallel runs make one
 * session each: they share the weights. Errors: INVALID_ARGUMENT (count, NULL data), TYPE_MISMATCH,
 * SHAPE_MISMATCH, BUFFER_TOO_SMALL, INDEX_OUT_OF_RANGE, OUT_OF_MEMORY, MEMORY_LIMIT,
 * UNSUPPORTED_TYPE. The session can be used again after any. */
SPAROA_API sparoa_status sparoa_session_run(sparoa_session *session, const sparoa_tensor *inputs,
                                            size_t input_count, sparoa_tensor *outputs,
                                            size_t output_count, sparoa_error *err);

/* How many of the session's runs the CPU did because a device failed in them or was lost
 * (sparoa_session_options.fallback). May be called while another thread runs the session. */
SPAROA_API int64_t sparoa_session_fallbacks(const sparoa_session *session);

/* Plans for the given input shapes (data pointers are ignored) without running, so that the first
 * run is not slower than the rest. Errors: as for a run. */
SPAROA_API sparoa_status sparoa_session_prepare(sparoa_session *session,
                                                const sparoa_tensor *inputs, size_t input_count,
                                                sparoa_error *err);

/* Further plans for a session that was created with a plan, a device or pins, so that it can change
 * where nodes run between two runs, as load and heat ask for. sparoa_session_add_plan checks the
 * plan as session_create does, makes the kernels that are new and gives it a number in *index; 0 is
 * what the session was created with. Nothing is used yet. sparoa_session_use_plan lets that one
 * decide from the next run on; memory is planned per plan and input shapes, at the first run or
 * by sparoa_session_prepare while the plan is in use, and kept: going back allocates nothing.
 * Both wait for a run that is under way. Errors: INVALID_ARGUMENT, INVALID_STATE (a session on the
 * CPU alone), INVALID_PLAN, OUT_OF_MEMORY, MEMORY_LIMIT and what the device says. */
SPAROA_API sparoa_status sparoa_session_add_plan(sparoa_session *session, const sparoa_plan *plan,
                                                 size_t *index, sparoa_error *err);
SPAROA_API sparoa_status sparoa_session_use_plan(sparoa_session *session, size_t index,
                                                 sparoa_error *err);

/* ---- 6. Looking inside
 * ------------------------------------------------------------------------------- */

/* Names of the graph passes in the order they run; NULL past the end. Static storage. */
SPAROA_API const char *sparoa_pass_name(size_t index);

/* Name of the index-th operator the library has ("Conv", or "domain::Name"), sorted; NULL past the
 * end, with the opset range it handles (until 0: to the newest). since and until may be NULL.
 * Static storage. */
SPAROA_API const char *sparoa_operator_name(size_t index, int32_t *since, int32_t *until);

/* One node of the session's optimised graph, in execution order; of a node that the plan in use
 * divides, its parts "NAME/part0" and "NAME/part1", "NAME/join" and what cuts its inputs. Pointers
 * live as long as the session. Figures that need shapes are those of the last prepared or run input
 * shapes, 0 before. sparoa_session_node and sparoa_session_get_info must not be called while
 * another thread runs or prepares the session. */
typedef struct sparoa_node_info {
    const char *name;     /* name of the ONNX node (of the last one, where several were fused) */
    const char *op;       /* ONNX operator type */
    const char *domain;   /* "" for ai.onnx */
    const char *op_class; /* "conv", "gemm", "eltwise", ... (docs/operators.md) */
    const char *kernel;   /* kernel chosen, e.g. "gemm_f32_6x16__avx2", or "reference" */
    const char *device;   /* device it runs on: "cpu" */
    const char *output;   /* name of its first output value */
    sparoa_tensor output_shape; /* type and shape of that output; data is NULL */
    sparoa_tensor input_shape;  /* type and shape of its first input; data is NULL */
    double flops;               /* floating-point operations of one run (a multiply-add is two) */
    double bytes;               /* bytes read and written: inputs, weights and outputs once each */
    double weight_bytes;        /* bytes of its constant inputs */
    double weight_zeros; /* share of exact zeros in its float constants, 0..1; -1: it has none, or
                            the session does not profile */
    double input_zeros;  /* share of exact zeros in its first input over the profiled runs; -1: not
                            measured */
    double output_zeros; /* the same of its first output */
    int64_t runs;        /* profiled runs that the next two figures cover */
    int64_t total_ns;    /* sum of its time over them */
    int64_t min_ns;      /* fastest */
    int64_t last_start_ns; /* start of the latest, from the start of that run */
    int64_t last_ns;       /* time of the latest */
} sparoa_node_info;

SPAROA_API size_t sparoa_session_node_count(const sparoa_session *session);
SPAROA_API sparoa_status sparoa_session_node(const sparoa_session *session, size_t index,
                                             sparoa_node_info *info);

/* One value that a node wrote on two devices from the same inputs. */
typedef struct sparoa_node_comparison {
    const char *node, *op, *value;
    const char *tolerance;    /* class of the operator: "exact", "rounding" (a few units in the last
                                 place), "sum" (by the largest magnitude and the square root of how
                                 many terms are summed), or "random", which is not compared */
    const char *device;       /* where the session ran it */
    const char *other_device; /* where it ran then: "cpu" also where the other device can't */
    sparoa_tensor got, other; /* the values; lent during the call */
    double max_error;         /* largest difference of two elements */
    double scaled_error;      /* the same divided by the largest finite magnitude of `got` */
    double scaled_allowed;    /* what the class allows an element of that magnitude, so divided */
    int64_t wrong;            /* elements that differ by more than allowed; 0: it agrees */
    int64_t worst;            /* the one that differs most; -1: none */
} sparoa_node_comparison;
typedef void (*sparoa_comparison_fn)(void *user, const sparoa_node_comparison *comparison);

/* Runs the session's optimised graph with its device and gives every node's inputs to the same node
 * on `device` as well ("reference": plain C on the CPU): differences are those of single nodes, not
 * what earlier ones left. report is called for each value in the order of execution and
 * must not call the session. Holds all
 * values of the run at once; the session's own memory and counts stay as they are. With a plan, all
 * nodes of this side run on the CPU. Errors: as for creating and running a session. */
SPAROA_API sparoa_status sparoa_session_compare(sparoa_session *session, const char *device,
                                                const sparoa_tensor *inputs, size_t input_count,
                                                sparoa_comparison_fn report, void *user,
                                                sparoa_error *err);

/* Forgets the recorded times. Not while a run is under way. */
SPAROA_API void sparoa_session_profile_reset(sparoa_session *session);

typedef struct sparoa_session_info {
    size_t node_count;       /* nodes of the optimised graph */
    size_t prepared_bytes;   /* weights in the kernels' own order */
    size_t activation_bytes; /* intermediate values and workspace of the last prepared shapes, after
                                reuse */
    size_t unshared_bytes;   /* the same without reuse of memory: what lifetime planning saved */
    int64_t runs;            /* runs done */
    int64_t last_run_ns;     /* wall time of the last one */
    double flops;            /* of one run at the last prepared shapes */
} sparoa_session_info;

SPAROA_API void sparoa_session_get_info(const sparoa_session *session, sparoa_session_info *info);

/* Records what every session and server of the runtime does from now on: runs, nodes, the workers'
 * shares of them, copies and nodes on the queues of devices, batches and requests. At most
 * max_events (0: 100000, about 120 bytes each) are kept; further ones are counted and dropped. What
 * was recorded before is forgotten, also on failure. Not while another thread calls a function of
 * the trace; runs may be under way. Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, MEMORY_LIMIT. */
SPAROA_API sparoa_status sparoa_trace_start(sparoa_runtime *runtime, size_t max_events,
                                            sparoa_error *err);
SPAROA_API void sparoa_trace_stop(sparoa_runtime *runtime);

/* Events recorded; dropped (may be NULL) gets how many more there were. */
SPAROA_API size_t sparoa_trace_events(const sparoa_runtime *runtime, size_t *dropped);

/* Writes them as Chrome trace JSON, for ui.perfetto.dev or chrome://tracing: one lane for each
 * thread and for each queue of a device, requests as spans. After sparoa_trace_stop. Errors:
 * INVALID_ARGUMENT, NOT_FOUND, IO, OUT_OF_MEMORY, MEMORY_LIMIT. */
SPAROA_API sparoa_status sparoa_trace_save(const sparoa_runtime *runtime, const char *path,
                                           sparoa_error *err);

/* ---- 7. Devices
 * -------------------------------------------------------------------------------------- */

typedef struct sparoa_device_desc {
    char name[32];        /* "cpu" */
    char description[96]; /* processor name, "unknown" if the system does not say */
    char isa[32];  /* instruction set of the kernels in use: "avx512", "avx2", "neon", "generic" */
    int32_t cores; /* usable cores */
    size_t memory_bytes;   /* installed memory, 0: unknown */
    size_t cache_bytes[3]; /* L1 data, L2, L3 per core or shared as the system says; 0: unknown */
    double clock_mhz;      /* 0: unknown */
} sparoa_device_desc;

SPAROA_API size_t sparoa_device_count(const sparoa_runtime *runtime);
SPAROA_API sparoa_status sparoa_device(const sparoa_runtime *runtime, size_t index,
                                       sparoa_device_desc *desc);

/* Measures the device's peak: fused multiply-adds on one thread and on all, and memory read
 * bandwidth on all. Takes about `milliseconds` (at least 30). Errors: INVALID_ARGUMENT,
 * OUT_OF_MEMORY. */
typedef struct sparoa_device_peak {
    double gflops_one; /* 1e9 float32 operations per second, one thread */
    double gflops_all; /* all of the runtime's threads */
    double bandwidth;  /* 1e9 bytes read per second, all threads */
} sparoa_device_peak;
SPAROA_API sparoa_status sparoa_device_measure(sparoa_runtime *runtime, size_t index,
                                               int32_t milliseconds, sparoa_device_peak *peak,
                                               sparoa_error *err);

/* ---- 8. Tensor files
 * --------------------------------------------------------------------------------- */

/* Reads a serialised ONNX TensorProto (the input_0.pb of ONNX's test folders). The tensor's data is
 * memory of the runtime that sparoa_tensor_free gives back. name (may be NULL) receives up to
 * name_size bytes. Errors: NOT_FOUND, IO, MALFORMED, TOO_LARGE, UNSUPPORTED_TYPE, OUT_OF_MEMORY. */
SPAROA_API sparoa_status sparoa_tensor_load_pb(sparoa_runtime *runtime, const char *path,
                                               sparoa_tensor *tensor, char *name, size_t name_size,
                                               sparoa_error *err);

/* Allocates a tensor of the runtime's memory: data is set from dtype, rank and dims; zero-filled.
 */
SPAROA_API sparoa_status sparoa_tensor_alloc(sparoa_runtime *runtime, sparoa_tensor *tensor,
                                             sparoa_error *err);

/* Frees data that sparoa_tensor_load_pb or sparoa_tensor_alloc gave, and clears the tensor. Before
 * freeing, dtype and dims must be as they were given. NULL and cleared tensors are accepted. */
SPAROA_API void sparoa_tensor_free(sparoa_runtime *runtime, sparoa_tensor *tensor);

#ifdef __cplusplus
}
#endif
#endif
