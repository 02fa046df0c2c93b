/*
 * trace.h - what happened when, for Chrome's trace viewer and Perfetto.
 *
 * Events go into an array made beforehand, each writer taking the next free one: recording
 * allocates nothing and takes no lock. What comes after the array is full is counted and dropped.
 * A device may end its events long after the recording they belong to, where a run was given up
 * while the device was at work: the array is kept for it then, and the next recording gets another.
 * Host events lie on the lane of the thread that records them; events of a device's queue on a lane
 * of that queue, from when they were enqueued or the one before was done until the queue got there.
 */
#ifndef SP_BASE_TRACE_H
#define SP_BASE_TRACE_H

#include "base/clock.h"
#include "base/mem.h"

typedef enum sp_trace_kind {
    SP_TRACE_RUN,     /* a run of a session */
    SP_TRACE_NODE,    /* a node on the host, or its enqueueing; value: its index */
    SP_TRACE_TASKS,   /* a worker's share of a piece of work */
    SP_TRACE_STREAM,  /* a node on a device's queue; value: its index */
    SP_TRACE_COPY,    /* a copy on a device's queue; value: bytes */
    SP_TRACE_BATCH,   /* a batch being run; value: items */
    SP_TRACE_GATHER,  /* requests being copied together, results copied out; value: items */
    SP_TRACE_QUEUED,  /* a request in its queue; id: which one */
    SP_TRACE_REQUEST, /* from being taken out of it to its end; value: items of its batch */
    SP_TRACE_KINDS
} sp_trace_kind;

typedef enum sp_trace_state { SP_TRACE_FREE, SP_TRACE_OPEN, SP_TRACE_DONE } sp_trace_state;

typedef struct sp_trace_event {
    int64_t start_ns, end_ns;
    uint64_t lane; /* thread, or queue */
    int64_t id, value;
    sp_trace_kind kind;
    atomic_int state;        /* OPEN: a device is to end it */
    char name[48], what[24]; /* what: operator, device, reason; "" if none */
} sp_trace_event;

typedef struct sp_trace_array {
    struct sp_trace_array *older; /* that devices may still write to */
    size_t capacity;
    sp_trace_event events[];
} sp_trace_array;

typedef struct sp_trace {
    sparoa_allocator alloc;
    atomic_bool on;
    atomic_size_t next; /* event to take */
    atomic_int writers; /* taking an event: a worker may record after the run it worked for */
    atomic_llong spans;
    size_t limit; /* events that this recording keeps */
    sp_trace_array *array;
    int64_t start_ns;
} sp_trace;

void sp_trace_init(sp_trace *trace, const sparoa_allocator *alloc);
void sp_trace_destroy(sp_trace *trace);

/* Forgets what was recorded and starts; not while another thread starts, counts or saves. After a
 * failure nothing is recorded. */
sparoa_status sp_trace_start(sp_trace *trace, size_t max_events, sparoa_error *err);
void sp_trace_stop(sp_trace *trace);
size_t sp_trace_count(const sp_trace *trace, size_t *dropped);
sparoa_status sp_trace_save(const sp_trace *trace, const char *path, sparoa_error *err);

static inline bool sp_trace_on(const sp_trace *trace)
{
    return trace && atomic_load_explicit(&trace->on, memory_order_acquire);
}

/* An event of the calling thread. name and what are copied, cut to fit; what may be NULL. */
void sp_trace_add(sp_trace *trace, sp_trace_kind kind, const char *name, const char *what,
                  int64_t start_ns, int64_t end_ns, int64_t id, int64_t value);

/* An id for the events of one span: QUEUED and REQUEST. */
static inline int64_t sp_trace_span(sp_trace *trace)
{
    return atomic_fetch_add_explicit(&trace->spans, 1, memory_order_relaxed);
}

/* An event of a device's queue that has just been enqueued and ends when sp_trace_end(event) is
 * called, from any thread; NULL: the trace is full. It begins when the one before it on its queue
 * ends, or, where the queue waits for another one in between, at sp_trace_reached(event). */
sp_trace_event *sp_trace_begin(sp_trace *trace, sp_trace_kind kind, const char *name,
                               const char *what, const void *queue, int64_t value);
void sp_trace_reached(void *event);
void sp_trace_end(void *event);

#endif
