/*
 * program.h - a graph made ready to run on the devices of a session.
 *
 * Device 0 is the host's CPU. A placement gives each node a device; a program may have several and
 * keeps one kernel for each pair of node and device that any of them wants. For each placement and
 * set of input shapes that it has met it holds a frame: shapes of all values, their places in the
 * memory of each device that uses them, what the kernels prepared for those shapes, and which
 * values are copied from device to device. Most nodes of a frame are static: shapes are known when
 * the frame is made, memory is planned by lifetime, running is a plain loop over the nodes in order
 * that enqueues kernels and copies and waits only where the host needs a device's result. A node
 * whose output shapes depend on data (NonZero, Loop, a Reshape to a computed shape) is dynamic: it
 * runs on the host, its shapes are inferred when it runs and its outputs live in buffers that only
 * grow. Bodies of If, Loop and Scan are programs of their own with one all-dynamic frame.
 *
 * A program runs on one thread at a time.
 */
#ifndef SP_ENGINE_PROGRAM_H
#define SP_ENGINE_PROGRAM_H

#include "base/log.h"
#include "base/pool.h"
#include "engine/stop.h"
#include "graph/graph.h"

#define SP_ENGINE_DEVICES 16

/* An open device with the queues that the program uses. Copies have queues of their own where the
 * device works asynchronously, so that they overlap with its kernels; else all three are the same.
 */
typedef struct sp_device {
    const sparoa_backend *table;
    sparoa_dev *dev;
    sparoa_queue *queue;     /* kernels */
    sparoa_queue *up, *down; /* copies to the device and from it */
    sparoa_event *idle; /* for waiting until a queue is empty; NULL: the device has no events */
    uint32_t caps;      /* SPAROA_CAP_* */
} sp_device;

/* What all programs of a session share. */
typedef struct sp_engine {
    sparoa_allocator alloc;
    const sp_device *devices; /* 0: the host */
    int32_t device_count;
    /* Device of the index-th node in a program's first placement; NULL: everything on the host. */
    int32_t (*place)(void *user, size_t index, const sparoa_node *node);
    void *place_user;
    sp_pool *pool;
    sp_trace *trace;
    const sp_log *log;
    bool profile;
    sparoa_observer_fn observer;
    void *observer_user;
    int32_t max_frames;
    int64_t run_start_ns;      /* of the run under way */
    const sp_stop *stop;       /* of the run under way; NULL: it runs to its end */
    int64_t device_timeout_ns; /* a device that does not signal for so long is lost; 0: wait on */
    bool in_flight;            /* a run ended while a device was still at work: sp_engine_settle */
} sp_engine;

typedef struct sp_node_stats {
    int64_t runs, total_ns, min_ns, last_start_ns, last_ns;
    double weight_zeros;              /* share in the constants; -1: none, or not measured */
    double input_zeros, output_zeros; /* sums of shares over the runs */
    int64_t input_counted, output_counted;
} sp_node_stats;

typedef struct sp_program sp_program;
typedef struct sp_frame sp_frame;
typedef struct sp_lanes sp_lanes;
typedef struct sp_join sp_join;

typedef struct sp_growable {
    void *data;
    size_t capacity;
} sp_growable;

/* A device for each node; never changed once made. */
typedef struct sp_placement {
    struct sp_placement *next;
    int32_t *device; /* by node */
} sp_placement;

typedef struct sp_slot {
    sparoa_kernel **kernels; /* by device; NULL where no placement has wanted one yet */
    sp_program **programs;   /* of the subgraphs; the node is control flow, without kernels */
    uint32_t borrowed;       /* bit d: kernel d is kin's */
    sp_growable *buffers; /* control flow: one per output, then one per input and one for lists */
    int32_t n_programs, n_buffers;
    sp_node_stats stats;
} sp_slot;

/* Who still needs which constant while the first kernels are made. */
typedef struct sp_constant_uses {
    uint32_t *left; /* by value: inputs of nodes without a kernel yet; NULL: all kernels are made */
    bool *kept;     /* by value: some kernel reads it when it runs, or it is an output */
    sp_blob *spare; /* memory of a copy that was let go, for the next one: it is in the caches */
} sp_constant_uses;

struct sp_program {
    sp_engine *engine;
    sp_graph *graph;          /* borrowed */
    sp_program *kin;          /* shares kernels and uploaded constants with it; or NULL */
    sp_id *twins;             /* by node: the same node of kin, or SP_NO_ID; NULL without kin */
    sp_slot *slots;           /* by node */
    sparoa_kernel **kernels;  /* of all slots */
    sp_placement *placements; /* all that there are, the latest first */
    sp_placement *placement;  /* of the next run */
    int32_t placement_count;
    sp_frame *frames; /* latest first */
    int32_t frame_count;
    void **uploaded;  /* by (device - 1) * values + value: constants in a device's memory */
    bool all_dynamic; /* the body of a control-flow node */
    size_t widest_in, widest_out; /* most inputs and outputs of a node */
    sp_constant_uses uses;
};

/* Constants while kernels are made (constants.c): before a node's are made its constants are put
 * where elements can be read, and measured if asked for; afterwards those that no kernel will read
 * again give their memory back. */
sparoa_status sp_constants_count(sp_program *program, sparoa_error *err);
sparoa_status sp_constants_ready(sp_program *program, size_t node, sparoa_error *err);
void sp_constants_release(sp_program *program, size_t node);
void sp_constants_end(sp_program *program);

typedef enum sp_place {
    SP_PLACE_NONE,   /* not used at run time */
    SP_PLACE_CONST,  /* in the graph's blob */
    SP_PLACE_KNOWN,  /* worked out when the frame was made */
    SP_PLACE_INPUT,  /* the caller's memory */
    SP_PLACE_OUTPUT, /* the caller's memory, or the frame's own if the caller brings none */
    SP_PLACE_ARENA,  /* at an offset of the frame's memory */
    SP_PLACE_ALIAS,  /* the memory of another value */
    SP_PLACE_DYNAMIC /* in a growing buffer of its own */
} sp_place;

typedef struct sp_location {
    sp_place place;
    sp_id root;      /* ALIAS: the value whose memory it is (never an alias itself) */
    size_t offset;   /* ARENA */
    uint32_t output; /* OUTPUT: index of the graph output */
} sp_location;

/* One device's share of a frame. Shapes are those of side 0. */
typedef struct sp_side {
    sparoa_tensor
        *tensors; /* by value: data in the device's memory; NULL: the device is not used */
    sp_location *locations; /* by value */
    void *memory;           /* static values and workspaces */
    size_t memory_bytes;
    int32_t memory_device; /* whose buffer_free it goes back to */
    sparoa_memory_kind memory_kind;
} sp_side;

/* A value that goes from the host to a device or back, right after it was written. */
typedef struct sp_transfer {
    sp_id value;
    int32_t from, to;
    uint32_t after;        /* position of the node that writes it + 1; 0: known before the first */
    sparoa_event *done;    /* recorded behind the copy; NULL: the queue's order is enough */
    size_t staging_offset; /* + 1; 0: none */
    void *staging; /* in the host's memory: the caller's input is copied there first, as a device
                      may read it after the run has ended with an error; NULL: not needed */
    bool shared;   /* the host's memory is the device's, too: nothing is copied */
    bool waited;   /* by the host, in the run under way */
} sp_transfer;

/* Nodes of one device that are enqueued in one go. What they wait for is waited for by the first,
 * what is copied from them is written by the last. */
typedef struct sp_dev_segment {
    int32_t device;
    uint32_t first, count;      /* positions */
    uint32_t waits, wait_count; /* transfers to the device that it needs: a range of `waits` */
    sparoa_event *end;          /* recorded behind it; NULL: nobody waits for it */
    sparoa_capture *capture;    /* replayed in place of its nodes, once made */
} sp_dev_segment;

typedef struct sp_frame_node {
    sparoa_node view; /* of the tensors of the device that runs it */
    sparoa_prepared *prepared;
    sparoa_cost cost; /* of static nodes that run */
    void *workspace;  /* static nodes: inside the side's memory */
    size_t workspace_bytes;
    sparoa_tensor
        *shapes; /* dynamic nodes: inputs and outputs that `prepared` is for, once ready */
    int32_t device;
    uint32_t position;                  /* in the order of the run */
    uint32_t segment;                   /* of a device's node */
    uint32_t transfers, transfer_count; /* what is copied once the node is done: a range of them */
    uint32_t waits, wait_count; /* transfers to the host that it needs: a range of `waits` */
    sp_join *join; /* one of the nodes that the last of them runs (joined.h), or NULL */
    bool ready;
    bool dynamic, skip; /* skip: outputs are known, an alias, or not needed, or it is joined to a
                           later node */
} sp_frame_node;

struct sp_frame {
    sp_program *program;
    const sp_placement *placement;
    sp_frame *next;
    sp_arena arena;         /* the arrays below */
    sp_side *sides;         /* by device */
    sparoa_tensor *tensors; /* sides[0].tensors */
    sp_location *locations; /* sides[0].locations */
    int32_t unified;        /* the device that shares the host's memory of this frame; 0: none */
    sp_growable *dynamic;   /* by value */
    sp_frame_node *nodes;
    uint32_t *order; /* by position: node */
    sp_dev_segment *segments;
    uint32_t segment_count;
    int64_t last_segment[SP_ENGINE_DEVICES]; /* -1: none */
    bool captured;                           /* what can be captured is */
    sp_growable *own_outputs;                /* by output: memory for callers that bring none */
    sp_growable workspace;                   /* of dynamic nodes */
    sp_growable observed;                    /* a device's value, copied for the observer */
    sp_id *late_aliases; /* aliases of INPUT and OUTPUT values: set at each run */
    size_t late_alias_count;
    sp_transfer *transfers; /* those of inputs and known values first, then by node */
    uint32_t transfer_count, input_transfers;
    uint32_t *waits; /* indices of transfers */
    size_t unshared_bytes;
    sp_lanes *lanes; /* a batch's way image by image through some nodes (lanes.h), or NULL */
    int64_t (*key)[SPAROA_MAX_RANK]; /* dims of each graph input */
    double flops;
};

/* Picks and creates the kernels of the first placement: `device` by node (control flow on the
 * host), or where the engine's `place` says. The graph must outlive the program. */
sparoa_status sp_program_create(sp_engine *engine, sp_graph *graph, const int32_t *device,
                                sp_program **program, sparoa_error *err);
/* The body of a control-flow node: on the host, all dynamic. */
sparoa_status sp_program_create_body(sp_engine *engine, sp_graph *graph, sp_program **program,
                                     sparoa_error *err);
/* A program of a graph that came from the same one as `kin`'s, so that values have the same ids:
 * what both have in common exists once. kin, with its graph, must outlive it. */
sparoa_status sp_program_create_kin(sp_program *kin, sp_graph *graph, const int32_t *device,
                                    sp_program **program, sparoa_error *err);
void sp_program_destroy(sp_program *program);

/* A further placement, with the kernels that it needs, for program->placement. device: by node,
 * copied; control flow must be on the host. Fails with the device's reason where it cannot run a
 * node; the program is as before then, but for kernels. */
sparoa_status sp_program_place(sp_program *program, const int32_t *device, sp_placement **placement,
                               sparoa_error *err);

/* The frame for these input shapes and the present placement: an existing one (moved to the front)
 * or a new one. *frame is the caller's present one or NULL; it stays on failure, unless it had to
 * make room: then it is NULL. */
sparoa_status sp_program_frame(sp_program *program, const sparoa_tensor *inputs, sp_frame **frame,
                               sparoa_error *err);
void sp_frame_destroy(sp_frame *frame);

/* The kernel that runs a node in this frame. */
sparoa_kernel *sp_node_kernel(const sp_frame *frame, size_t node);

/* Runs a frame. outputs[i].data NULL: set to the frame's memory, valid until the next run; else the
 * caller's buffer of bytes[i] bytes. Sets dtype and dims of the outputs. captures: by capture
 * index, NULL for main graphs. */
sparoa_status sp_frame_run(sp_frame *frame, const sparoa_tensor *inputs,
                           sparoa_tensor *const *captures, sparoa_tensor *outputs,
                           const size_t *bytes, sparoa_error *err);

/* Runs an If, Loop or Scan: its dynamic outputs are put into frame->dynamic. */
sparoa_status sp_control_run(sp_frame *frame, size_t node, sparoa_error *err);

/* Puts the nodes in the order of running them (order.c). */
sparoa_status sp_frame_order(sp_frame *frame, sparoa_error *err);
/* Decides which values go where (transfers.c): fills sides, transfers and the nodes' transfers,
 * uploads constants. */
sparoa_status sp_frame_plan_transfers(sp_frame *frame, sparoa_error *err);
/* Enqueues transfers first..first+count-1. */
sparoa_status sp_frame_transfer(sp_frame *frame, uint32_t first, uint32_t count, sparoa_error *err);
/* Waits for transfers to the host that node i reads. */
sparoa_status sp_frame_wait(sp_frame *frame, const sp_frame_node *node, sparoa_error *err);

/* Groups the devices' nodes into segments and finds what has to be waited for, once aliases are
 * known (segments.c). */
sparoa_status sp_frame_plan_segments(sp_frame *frame, sparoa_error *err);
/* Enqueues a segment: that it waits for its inputs, its nodes, and the copies behind it. */
sparoa_status sp_segment_run(sp_frame *frame, const sp_dev_segment *segment, sparoa_error *err);
/* The first and the last part of that alone. */
sparoa_status sp_segment_begin(sp_frame *frame, const sp_dev_segment *segment, sparoa_error *err);
sparoa_status sp_segment_end(sp_frame *frame, const sp_dev_segment *segment, sparoa_error *err);
/* Records the segments of devices that can replay them; those that cannot be recorded stay as they
 * are. After a run that went well. */
void sp_frame_capture(sp_frame *frame);

/* Waits until the frame's work is done on all devices and its outputs are there. */
sparoa_status sp_frame_finish(sp_frame *frame, sparoa_error *err);
/* After a failure: waits until the devices are idle and forgets their errors, so that memory can be
 * used again. A device that does not get there is left alone: the engine is in flight. */
void sp_engine_drain(sp_engine *engine, sparoa_error *err);
/* Before anything that frees or reuses memory: waits for what an earlier run left under way. */
sparoa_status sp_engine_settle(sp_engine *engine, sparoa_error *err);

/* Waits for an event (device.c) no longer than the run's deadline (DEADLINE) and the device's
 * timeout (DEVICE_LOST) allow; then the engine is in flight. */
sparoa_status sp_device_wait(sp_engine *engine, const sp_device *device, sparoa_event *event,
                             sparoa_error *err);
/* Waits in the same way until a queue is empty; reports and clears its first failure. */
sparoa_status sp_device_sync(sp_engine *engine, const sp_device *device, sparoa_queue *queue,
                             sparoa_error *err);
/* Queues and events for a session; undone by sp_device_close, also after a failure. */
sparoa_status sp_device_start(sp_device *device, sparoa_error *err);
void sp_device_close(sp_device *device);

/* Traces what is enqueued on a device's queue between the two calls, to when its queue gets there.
 * NULL: not traced. `waits`: the queue may have to wait for another one first. */
sp_trace_event *sp_queue_trace(const sp_frame *frame, int32_t device, sparoa_queue *queue,
                               bool waits, sp_trace_kind kind, const char *name, int64_t value);
void sp_queue_trace_end(const sp_device *device, sparoa_queue *queue, sp_trace_event *event);

/* Plans the memory of one side's static values and workspaces (memplan.c): fills its locations and
 * memory_bytes, unshared_bytes, and workspace offsets by node. */
sparoa_status sp_frame_plan_memory(sp_frame *frame, int32_t side, size_t *workspace_offsets,
                                   sparoa_error *err);

/* The status of a device's call as an error that names the device. */
sparoa_status sp_device_failed(const sp_device *device, sparoa_status status, const char *what,
                               sparoa_error *err);

/* Makes a buffer hold `bytes`; the contents are lost when it grows. */
sparoa_status sp_growable_reserve(sp_growable *g, const sparoa_allocator *alloc, size_t bytes,
                                  sparoa_error *err);

#endif
