/*
 * sparoa_serve.h - running models from queues: requests, deadlines, priorities, batches.
 *
 * Where sparoa_session_run runs a model in the calling thread, a server has threads of its own (as
 * many as asked for, no others) and runs what is submitted to its services. A service is a model
 * with a queue in front of it; a server may have many, which share its threads by priority and the
 * runtime's memory cap.
 *
 *   1. stopping      a run with a deadline, or that another thread can cancel
 *   2. servers       threads that run requests
 *   3. services      a model with its queue and its policy of forming batches
 *   4. requests      submit, wait, poll, callback, cancel
 *   5. figures       what was batched and why
 *
 *   sparoa_server_options so = {.struct_size = sizeof so, .threads = 2};
 *   sparoa_server_create(rt, &so, &server, &err);
 *   sparoa_service_create(server, model, NULL, &service, &err);
 *   sparoa_submit(service, &in, 1, &out, 1, NULL, &request, &err);
 *   sparoa_request_wait(request, &err);
 *   sparoa_request_release(request);
 *
 * The rules at the top of sparoa.h hold here too. All functions of one server, its services and its
 * requests may be called from any threads at once, but for the destroying ones. Once requests have
 * been made and input shapes been met, a request allocates nothing.
 */
#ifndef SPAROA_SERVE_H
#define SPAROA_SERVE_H

#include "sparoa.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. Stopping
 * ------------------------------------------------------------------------------------- */

/* The clock of all deadlines: monotonic, nanoseconds, its zero means nothing. */
SPAROA_API int64_t sparoa_now_ns(void);

/* Zero-initialise it, hand it to runs, ask any of them to stop from another thread. The caller's;
 * must outlive the runs. */
typedef struct sparoa_cancel {
    int32_t requested; /* read and written by the two functions below */
} sparoa_cancel;

/* Asks for the end of the runs that watch it; may be called in a signal handler. Runs that start
 * later end at once, until sparoa_cancel_reset. */
SPAROA_API void sparoa_cancel_request(sparoa_cancel *cancel);
SPAROA_API void sparoa_cancel_reset(sparoa_cancel *cancel);

typedef struct sparoa_run_options {
    size_t struct_size;
    const sparoa_cancel *cancel; /* or NULL */
    int64_t deadline_ns;         /* time of sparoa_now_ns at which to give up; 0: none */
} sparoa_run_options;

/* sparoa_session_run that can be stopped: between two nodes and between two iterations of a loop,
 * so that a model that loops without end can be left; a single node runs to its end. A stopped run
 * leaves the contents of output buffers undefined, and the session usable. Waiting for another
 * run on the session is not interrupted. Errors: as sparoa_session_run, CANCELLED, DEADLINE. */
SPAROA_API sparoa_status sparoa_session_run_with(sparoa_session *session,
                                                 const sparoa_tensor *inputs, size_t input_count,
                                                 sparoa_tensor *outputs, size_t output_count,
                                                 const sparoa_run_options *options,
                                                 sparoa_error *err);

/* ---- 2. Servers
 * -------------------------------------------------------------------------------------- */

typedef struct sparoa_server_options {
    size_t struct_size;
    int32_t threads;         /* workers, 1 to 256: so many batches run at once. Each may spread its
                                work over the runtime's own threads, one at a time */
    int32_t no_interruption; /* not 0: a batch under way keeps its worker to the end; by default
                                a worker turns to a service of higher priority between two nodes
                                where no other is free, and comes back */
} sparoa_server_options;

typedef struct sparoa_server sparoa_server;

/* Starts the workers; they sleep while there is nothing to do. Errors: INVALID_ARGUMENT,
 * OUT_OF_MEMORY, MEMORY_LIMIT. */
SPAROA_API sparoa_status sparoa_server_create(sparoa_runtime *runtime,
                                              const sparoa_server_options *options,
                                              sparoa_server **server, sparoa_error *err);

/* Cancels what is queued and under way, waits for its callbacks, ends the workers, destroys the
 * services. Requests that were not released are gone: no pointer to one may be used afterwards. */
SPAROA_API void sparoa_server_destroy(sparoa_server *server);

/* ---- 3. Services
 * ------------------------------------------------------------------------------------- */

typedef enum sparoa_timeout_action {
    SPAROA_TIMEOUT_REJECT = 0, /* the request ends with DEADLINE */
    SPAROA_TIMEOUT_DELAY = 1,  /* it stays, behind all of its level that are in time */
    SPAROA_TIMEOUT_MAX_ = 0x7fffffff
} sparoa_timeout_action;

/* What may happen to a request while it is queued; the fields of Triton's ModelQueuePolicy. */
typedef struct sparoa_queue_policy {
    sparoa_timeout_action timeout_action;
    int64_t default_timeout_ns;     /* longest time in the queue; 0: any */
    int32_t allow_timeout_override; /* not 0: a request may bring a shorter one */
    int32_t max_queue_size;         /* requests of this level; one more is QUEUE_FULL; 0: any */
} sparoa_queue_policy;

/* How batches are formed, by the fields of Triton's ModelDynamicBatching and what lies beyond. A
 * batch takes requests in order: level by level, in each the oldest first, delayed ones last; as
 * many as fit. */
typedef struct sparoa_batch_policy {
    size_t struct_size;
    int32_t max_batch;              /* items (first dimension) of a batch, 1 to 4096 */
    const int32_t *preferred_sizes; /* sizes to release at once when the queue holds them, the
                                       largest of them that it does; copied; or NULL */
    size_t preferred_count;
    int64_t max_queue_delay_ns; /* how long a request may wait for others; 0: not at all */
    int32_t priority_levels;    /* 1 is served first, strictly; 0: one level */
    int32_t default_priority;   /* level of requests that name none; 0: the last */
    sparoa_queue_policy queue;  /* of all levels but those in level_queues */
    const sparoa_queue_policy *level_queues; /* one for each level, copied; or NULL */
    int32_t preserve_ordering;               /* not 0: requests end in the order they came in */
    int64_t latency_objective_ns; /* a batch is released in time for its oldest request to
                                     be done this long after it came, and batches that
                                     take longer to run are not formed any more; 0: none */
    size_t memory_bound;          /* most bytes of intermediate values of a batch; larger
                                     ones are not formed; 0: only the runtime's cap */
} sparoa_batch_policy;

/* A part of a model that runs with a batch size of its own: convolutions may want few items at
 * once, for their values to stay in the cache, where fully connected layers want many for each
 * reading of their weights. */
typedef struct sparoa_segment {
    const char *last_node; /* node of the model with which it ends; NULL for the last segment */
    int32_t batch;         /* items that it takes at once from a batch; 0: all */
} sparoa_segment;

typedef struct sparoa_service_options {
    size_t struct_size;
    const sparoa_session_options *session; /* of its sessions; NULL: defaults */
    int32_t instances;                     /* sessions: batches of it that may run at once; 0: 1 */
    int32_t priority;                      /* among the services of the server: lower numbers
                                              first, strictly; 0: 100 */
    int32_t max_requests;                  /* requests not yet released; one more is QUEUE_FULL;
                                              0: 4096 */
    const sparoa_batch_policy *batch;      /* NULL: every request runs alone */
    const sparoa_segment *segments;        /* of the model, in order, at most 16; or NULL. Every
                                              value that goes from one to another must have an open
                                              first dimension, its rows independent. Needs a batch
                                              policy, without a memory_bound */
    size_t segment_count;
} sparoa_service_options;

typedef struct sparoa_service sparoa_service;

/* Puts a model on a server. To form batches (max_batch above 1) the first dimension of every input
 * and output must be one that the model leaves open, its rows independent of each other (as for
 * Triton: not checked but for the shapes of results). Errors: as sparoa_session_create,
 * INVALID_ARGUMENT. Destroying a service is like destroying the server, for this service alone; it
 * must not be called from a callback. */
SPAROA_API sparoa_status sparoa_service_create(sparoa_server *server, sparoa_model *model,
                                               const sparoa_service_options *options,
                                               sparoa_service **service, sparoa_error *err);
SPAROA_API void sparoa_service_destroy(sparoa_service *service);

/* Plans every batch size for items of these shapes, so that no later request does: inputs as of a
 * request of one item, data ignored. Sizes that need more than the memory bound or cap are left
 * out of later batches and are no error. With segments nothing is planned. Before the first submit.
 * Errors: as sparoa_session_prepare. */
SPAROA_API sparoa_status sparoa_service_prepare(sparoa_service *service,
                                                const sparoa_tensor *inputs, size_t input_count,
                                                sparoa_error *err);

/* One size that was tried. */
typedef struct sparoa_tune_step {
    int32_t items;
    int32_t fits;   /* not 0: within the policy's latency objective and memory bound */
    int64_t run_ns; /* fastest run; 0: there was no memory for it */
    size_t bytes;   /* intermediate values */
} sparoa_tune_step;

typedef struct sparoa_tune_options {
    size_t struct_size;
    int32_t start;       /* first size, B0 in SparOA's Algorithm 2; 0: 8 */
    int32_t runs;        /* of each size; 0: 5 */
    double sparse_from;  /* share of zeros in the weights that doubles the start; 0: 0.5 */
    double intense_from; /* operations per byte that halve it; 0: 50 */
    double tolerance;    /* gain in time per item by a doubling that no longer counts; 0: 0.03 */
} sparoa_tune_options;

typedef struct sparoa_tune_result {
    int32_t batch;               /* what was chosen: from now on no larger batches are formed */
    int32_t segment_batches[16]; /* what each segment takes at once, where the service has some */
    double zeros;                /* share of zeros in the weights; -1: it has none */
    double intensity;            /* operations per byte of one item; -1: unknown */
    int32_t step_count;
    sparoa_tune_step steps[32]; /* in the order they were tried */
} sparoa_tune_result;

/* Looks for the batch size at which the time per item settles, by running batches: from the start,
 * doubled for sparse and halved for compute-bound models, up while larger batches pay, halving
 * where the memory bound or half of the latency objective (a request may wait for one batch and
 * then run in the next) is exceeded, then down while smaller ones are as good. Sizes from 1 to
 * max_batch. Segments are tuned one by one, and the batch is the largest of theirs; steps are those
 * of the last. inputs: as of a request of one item, with data. options and result may be NULL.
 * Before the first submit. Errors: as sparoa_session_run; INVALID_STATE: the service is busy, or
 * forms no batches. */
SPAROA_API sparoa_status sparoa_service_tune(sparoa_service *service, const sparoa_tensor *inputs,
                                             size_t input_count, const sparoa_tune_options *options,
                                             sparoa_tune_result *result, sparoa_error *err);

/* Releases what is queued without further waiting. */
SPAROA_API void sparoa_service_flush(sparoa_service *service);

/* ---- 4. Requests
 * ------------------------------------------------------------------------------------- */

typedef struct sparoa_request sparoa_request;

/* Called once when a request has ended, from a thread of the server or from inside submit, cancel
 * or wait; no lock is held. It may submit, cancel and release; it must not wait. */
typedef void (*sparoa_request_fn)(void *user, sparoa_request *request, sparoa_status status);

typedef struct sparoa_submit_options {
    size_t struct_size;
    int64_t deadline_ns;      /* time of sparoa_now_ns at which the request ends with DEADLINE,
                                 queued or running; 0: none */
    int64_t queue_timeout_ns; /* in place of the policy's default, where that allows it; 0: the
                                 policy's */
    int32_t priority;         /* level of the batch policy; 0: its default */
    sparoa_request_fn done;   /* or NULL */
    void *user;               /* passed to done */
} sparoa_submit_options;

/* Queues a request and returns. Inputs and outputs are as in sparoa_session_run, and the arrays are
 * copied; the data they point to are used until the request has ended. An output whose data is
 * NULL gets memory of the request, valid until its release; outputs itself may be NULL: all of them
 * do. *request must be released. Errors: INVALID_ARGUMENT, TYPE_MISMATCH, SHAPE_MISMATCH (a request
 * of more than max_batch items too), QUEUE_FULL, OUT_OF_MEMORY, MEMORY_LIMIT; INVALID_STATE: the
 * service is being destroyed. What goes wrong later is the request's status. */
SPAROA_API sparoa_status sparoa_submit(sparoa_service *service, const sparoa_tensor *inputs,
                                       size_t input_count, const sparoa_tensor *outputs,
                                       size_t output_count, const sparoa_submit_options *options,
                                       sparoa_request **request, sparoa_error *err);

/* Blocks until the request has ended and its callback returned; gives its status. Past its deadline
 * a request ends even if no worker ever gets to it. */
SPAROA_API sparoa_status sparoa_request_wait(sparoa_request *request, sparoa_error *err);

/* The same for at most timeout_ns (0: only looks). Returns 1 if it has ended, else 0. */
SPAROA_API int32_t sparoa_request_done(sparoa_request *request, int64_t timeout_ns);

/* Asks for its end: at once while it is queued or in a batch with others, after the present node if
 * it runs alone; it then ends with CANCELLED. A request that has ended stays as it is. */
SPAROA_API void sparoa_request_cancel(sparoa_request *request);

/* Output number index of a request that ended with OK. Errors: INVALID_STATE, INVALID_ARGUMENT. */
SPAROA_API sparoa_status sparoa_request_output(const sparoa_request *request, size_t index,
                                               sparoa_tensor *output);

/* Status of a request that has ended, with its message; OK before. May be called in its callback.
 */
SPAROA_API sparoa_status sparoa_request_error(const sparoa_request *request, sparoa_error *err);

/* Why a batch was released. */
#define SPAROA_RELEASE_MAP(X)                                                                      \
    X(ALONE, 0, "the service forms no batches")                                                    \
    X(FULL, 1, "max_batch was reached, or the next request did not fit")                           \
    X(PREFERRED, 2, "a preferred size was reached")                                                \
    X(NO_DELAY, 3, "the policy does not wait, and nothing more was queued")                        \
    X(DELAY, 4, "max_queue_delay passed")                                                          \
    X(SHAPE, 5, "the next request has other shapes")                                               \
    X(DEADLINE, 6, "a request would have missed its deadline")                                     \
    X(LATENCY, 7, "the latency objective left no time to wait, or no larger batch keeps it")       \
    X(MEMORY, 8, "no larger batch fits the memory bound")                                          \
    X(FLUSH, 9, "the service was flushed")                                                         \
    X(TUNED, 10, "no larger batch pays, as sparoa_service_tune found")

typedef enum sparoa_release {
#define X(name, value, text) SPAROA_RELEASE_##name = value,
    SPAROA_RELEASE_MAP(X)
#undef X
        SPAROA_RELEASE_COUNT = 11
} sparoa_release;

/* "FULL", ... or "UNKNOWN". Static storage. */
SPAROA_API const char *sparoa_release_name(sparoa_release release);

typedef struct sparoa_request_info {
    sparoa_status status; /* of a request that has ended; OK before */
    int32_t ended;        /* not 0: the figures below are final */
    int32_t items;        /* of this request */
    int32_t batch_items;  /* of the batch it ran in; 0: it never ran */
    sparoa_release release;
    int64_t queued_ns; /* from submit until its batch was formed, or it ended */
    int64_t run_ns;    /* from then until it ended; 0: it never ran */
} sparoa_request_info;

SPAROA_API void sparoa_request_get_info(const sparoa_request *request, sparoa_request_info *info);

/* Gives the request back; NULL is accepted. One that has not ended goes on, calls its callback, and
 * is then forgotten. */
SPAROA_API void sparoa_request_release(sparoa_request *request);

/* ---- 5. Figures
 * -------------------------------------------------------------------------------------- */

typedef struct sparoa_service_info {
    int64_t submitted, completed; /* requests taken in; ended with OK */
    int64_t rejected;             /* refused with QUEUE_FULL */
    int64_t cancelled, expired, failed;
    int64_t queued;  /* now */
    int64_t batches; /* run, and the items in them */
    int64_t items;
    int64_t by_release[SPAROA_RELEASE_COUNT]; /* batches by reason */
    int64_t interruptions;                    /* turns to this service in the midst of another's */
    int64_t splits;                           /* batches done again in halves for lack of memory */
    int32_t batch_limit;                      /* largest batch formed at present */
    int64_t queue_ns;                         /* sums over requests that ran: in the queue, */
    int64_t gather_ns;                        /* and over batches: copying requests together, */
    int64_t run_ns;                           /* running the model, */
    int64_t scatter_ns;                       /* copying results out */
} sparoa_service_info;

SPAROA_API void sparoa_service_get_info(const sparoa_service *service, sparoa_service_info *info);

/* Batches of exactly `items` items that were run, and the mean time their runs took; either may be
 * NULL. Returns 0 where the policy forms none of that size. */
SPAROA_API int32_t sparoa_service_batches(const sparoa_service *service, int32_t items,
                                          int64_t *count, int64_t *mean_ns);

#ifdef __cplusplus
}
#endif
#endif
