/*
 * serve.h - the objects behind sparoa_serve.h.
 *
 * One mutex per server guards its services, their queues and all requests; it is not held while a
 * model runs, data is copied, or a callback is called. A worker takes the lock, forms a batch from
 * the first service by priority that has one due and an instance free (server.c), runs it without
 * the lock (batch_run.c), and ends its requests (request.c).
 */
#ifndef SP_API_SERVE_H
#define SP_API_SERVE_H

#include "api/chain.h"
#include "engine/batch.h"

typedef enum sp_request_state {
    SP_REQUEST_FREE,
    SP_REQUEST_QUEUED,
    SP_REQUEST_RUNNING,
    SP_REQUEST_ENDED, /* its status is known; the callback is to come */
    SP_REQUEST_DONE
} sp_request_state;

typedef struct sp_instance sp_instance;

struct sparoa_request {
    sp_batch_item item; /* first: the batcher knows requests by it */
    sparoa_service *service;
    sparoa_request *all_next, *free_next, *ready_next;
    sparoa_request *order_prev, *order_next; /* requests that have not ended, as they came */
    sp_request_state state;
    bool released;
    bool cancelled; /* asked for while it could not be taken out of its batch */
    sparoa_request_info info;
    sparoa_status fault;             /* of handing out its results */
    sparoa_tensor *inputs, *outputs; /* outputs[i].data NULL: own memory is wanted */
    size_t *bytes;                   /* capacity of each output of the caller's */
    sp_growable *own;                /* memory for outputs */
    sp_instance *instance;           /* it runs on */
    sparoa_request_fn done;
    void *user;
    pthread_cond_t ended;
    sparoa_error err; /* where fault or info.status is not OK */
};

/* A session of a service, and what the batch on it needs. */
struct sp_instance {
    sparoa_service *service;
    sparoa_session *session;
    sp_chain *chain; /* runs in place of the session, where the service has segments */
    bool busy;
    bool open;                /* members may be taken out: their data is not being copied */
    int32_t stop_now;         /* atomic: nobody wants the result any more */
    sparoa_request **members; /* NULL: taken out */
    int32_t *rows;            /* items of each */
    int32_t count, live;      /* requests in the batch, and those still in it */
    int32_t items;
    sparoa_release release;
    sparoa_tensor *inputs, *outputs;
    sp_growable *gathered; /* by input */
    int64_t gather_ns, run_ns, scatter_ns;
    int64_t end_ns;  /* when the results were handed out */
    int64_t away_ns; /* of run_ns: spent on batches of higher priority; taken off in the end */
};

struct sparoa_service {
    sparoa_server *server;
    sparoa_model *model;
    sparoa_service *next; /* by priority */
    const char *name;     /* of the model's graph */
    int32_t priority, max_requests;
    sp_batcher batcher;
    sp_batch_times times; /* of runs by items; what batches are expected to take */
    sp_instance *instances;
    int32_t instance_count;
    uint32_t n_in, n_out;
    sparoa_request *all, *free;
    sparoa_request *ready, **ready_end; /* ended, callbacks to come */
    sparoa_request *order_first, *order_last;
    int32_t held;  /* requests that are not free */
    int32_t users; /* threads inside a wait on one of its requests */
    bool delivering, closing;
    int32_t tuned; /* largest limit that pays: max_batch, or what sparoa_service_tune found */
    int32_t good_batches; /* at the limit and well within the objective, since it last changed */
    pthread_cond_t quiet; /* while closing: something ended */
    sparoa_service_info info;
};

struct sparoa_server {
    sparoa_runtime *runtime;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    pthread_t *threads;
    int32_t thread_count, started, idle;
    sparoa_service *services; /* by priority */
    bool stop, interruption;
    atomic_int urgent;         /* least priority number that was submitted to while no worker was
                                  idle; INT32_MAX: none */
    atomic_llong attention_ns; /* when running batches are to look after timeouts */
};

void sp_cond_init(pthread_cond_t *cond); /* on the monotonic clock */
/* Waits until signalled or `until_ns` (SP_NEVER: no limit). */
void sp_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns);

/* Whether a batch failed because it was too large. */
static inline bool sp_lacks_memory(sparoa_status status)
{
    return status == SPAROA_MEMORY_LIMIT || status == SPAROA_OUT_OF_MEMORY;
}

/* ---- all of these with the server's mutex held ---- */

/* Tells workers that a service has something new; urgent where none is idle. */
void sp_server_notify(sparoa_service *service);
/* Ends what is past its time, queued or in a batch, and sets attention_ns to what comes next. */
void sp_server_expire(sparoa_server *server, int64_t now_ns);
/* What a running batch does between nodes when asked for attention: timeouts, and batches of
 * services of higher priority. */
void sp_server_attend(sparoa_server *server, int32_t priority);

/* Forms a batch on a free instance if one is due: its instance. Else *wake_ns is lowered to when
 * one will be. */
sp_instance *sp_service_take(sparoa_service *service, int64_t now_ns, int64_t *wake_ns);
/* Runs it and ends its requests; the mutex is released meanwhile. */
void sp_instance_run(sp_instance *instance, int64_t now_ns);

/* Batches of more than `limit` items are no longer formed. */
void sp_service_limit(sparoa_service *service, int32_t limit, sparoa_release reason);

/* Ends a request that is in no queue and no batch; err may be NULL. Callbacks are called by
 * sp_service_deliver, which releases the mutex meanwhile. */
void sp_request_end(sparoa_request *request, sparoa_status status, const sparoa_error *err);
/* The same at a time that the caller knows. */
void sp_request_end_at(sparoa_request *request, sparoa_status status, const sparoa_error *err,
                       int64_t now_ns);
void sp_service_deliver(sparoa_service *service);
/* Takes a request out of its queue or, where that can be done, out of its batch; false: it can't.
 */
bool sp_request_withdraw(sparoa_request *request);
void sp_service_free_requests(sparoa_service *service);

#endif
