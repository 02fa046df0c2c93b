/*
 * emu.h - an accelerator emulated on the host, for tests of everything that drives a device.
 *
 * Device memory is a file in memory that is mapped twice. The engine gets addresses of the first
 * mapping, which nobody may read or write: a host access is a SIGSEGV. The emulator's own threads
 * use the second one. Each queue is a thread with a ring of commands, so that copies and kernels
 * are as late as on a real device, and everything that a command needs is copied into the ring when
 * it is enqueued. Nodes run through the plain implementation that the host gives.
 *
 * Options of device_open, "key=value,...":
 *   memory=BYTES        device memory (default 2 GiB); more is OUT_OF_MEMORY
 *   streams=N           commands that may run at the same time (default 4)
 *   delay_us=T          a kernel takes up to 2 T longer, at random
 *   copy_delay_us=T     the same for a copy
 *   seed=N              of the delays and of support=every_other
 *   fail_alloc=N        the N-th buffer_alloc fails with OUT_OF_MEMORY
 *   fail_copy=N         the N-th copy puts DEVICE_UNAVAILABLE on its queue
 *   fail_kernel=N       the same for the N-th kernel
 *   lose_at=N           the N-th command (kernels and copies count) and all that follows is
 *                       DEVICE_LOST
 *   hang_at=N           the N-th command does not end before its queue or device is closed ...
 *   hang_ms=T           ... or T milliseconds passed; it is DEVICE_LOST then
 *   unified=1           kernels use memory of the host's that it gave (kind UNIFIED) as their own
 *   support=LIST        all (default), every_other, or classes of operators joined by '+':
 *                       eltwise reduce gemm conv pool norm attention rnn move shape other
 *   load=X clock=X temperature=X power=X    what device_status says (0..1, MHz, degrees, watts)
 *
 * A command that failed leaves its status on the queue: what follows on the queue, and on queues
 * that wait for an event behind it, is not run; queue_sync reports the status and clears it. Calls
 * of the host are always made.
 */
#ifndef EMU_H
#define EMU_H

#include <pthread.h>
#include <time.h>

#include "sparoa_backend.h"

#define EMU_ALIGN 64
#define EMU_MAX_PORTS 256       /* inputs plus outputs of a node */
#define EMU_RING (256 * 1024)   /* bytes of commands that a queue holds */
#define EMU_SCRATCH (32 * 1024) /* at least one command of EMU_MAX_PORTS */

typedef struct emu_options {
    uint64_t memory, streams, delay_us, copy_delay_us, seed;
    uint64_t fail_alloc, fail_copy, fail_kernel, lose_at, hang_at, hang_ms; /* 0: never */
    uint64_t unified;
    uint64_t classes; /* by bit: classes of operators supported */
    bool every_other;
    double load, clock_mhz, temperature_c, power_w;
} emu_options;

/* A live buffer. */
typedef struct emu_buffer {
    char *base;
    size_t bytes;
    sparoa_memory_kind kind;
} emu_buffer;

struct sparoa_dev {
    const sparoa_host *host;
    emu_options options;
    int32_t index;

    pthread_mutex_t lock;   /* everything below, and the state of queues, events and captures */
    pthread_cond_t changed; /* a command ended, or the device did */
    sparoa_queue *queues;
    bool lost, hung, closing;
    uint64_t waiting; /* threads of the host inside queue_sync, event_sync or a full queue */
    uint64_t running; /* commands under way */
    uint64_t allocs, copies, kernels, commands; /* so far */
    uint64_t random;

    int fd;        /* of the memory */
    char *address; /* of the engine; no access */
    char *memory;  /* the same bytes for the emulator; accessible where a buffer is */
    size_t range;  /* bytes of either mapping */
    size_t next;   /* where the search for free space begins */
    size_t used;
    emu_buffer *buffers; /* by address */
    size_t buffer_count, buffer_capacity;
};

typedef enum emu_kind {
    EMU_PAD, /* the rest of the ring is empty */
    EMU_KERNEL,
    EMU_COPY,
    EMU_CALL,
    EMU_RECORD,
    EMU_WAIT,
    EMU_LAUNCH
} emu_kind;

/* One command in a ring or a capture. A kernel's is followed by the tensors of its inputs and
 * outputs; a tensor of rank -1 stands for one that is absent. */
typedef struct emu_command {
    size_t bytes; /* all of it, a multiple of 16 */
    emu_kind kind;
    union {
        struct {
            sparoa_kernel *kernel;
            sparoa_node node; /* in and out are not set */
            void *workspace;
            size_t workspace_bytes;
        } run;
        struct {
            void *dst;
            const void *src;
            size_t bytes;
        } copy;
        struct {
            void (*fn)(void *arg);
            void *arg;
        } call;
        struct {
            sparoa_event *event;
            uint64_t generation;
        } event;
        sparoa_capture *capture;
    } u;
    /* Which faults hit it: its number, from 1, among kernels and copies, among kernels, and among
     * copies; for a capture those of its first. */
    uint64_t number, kernel_number, copy_number;
} emu_command;

struct sparoa_queue {
    sparoa_dev *dev;
    sparoa_queue *next;
    pthread_t thread;
    pthread_cond_t work;
    bool stop;
    sparoa_status status;     /* of the first command that failed */
    uint64_t submitted, done; /* commands */
    size_t head, tail, used;  /* bytes of the ring */
    char *ring;               /* EMU_RING, then EMU_SCRATCH for the command under way */
    sparoa_capture *capture;  /* being recorded */
};

struct sparoa_event {
    sparoa_dev *dev;
    uint64_t references;
    uint64_t recorded, completed; /* generations: each record is one */
    sparoa_status status;         /* of the queue when it got there */
    int64_t completed_ns;
};

struct sparoa_capture {
    sparoa_dev *dev;
    uint64_t references;
    char *commands;
    size_t bytes, capacity;
    uint64_t kernels, copies;
};

struct sparoa_kernel {
    sparoa_dev *dev;
    const sparoa_op *op;
    void *state;
};

struct sparoa_prepared {
    size_t workspace; /* bytes */
};

/* options.c */
sparoa_status emu_options_read(const char *text, emu_options *options, sparoa_error *err);

/* memory.c */
void *emu_host_alloc(sparoa_dev *dev, size_t bytes); /* zeroed; NULL: no memory */
void emu_host_free(sparoa_dev *dev, void *ptr, size_t bytes);
sparoa_status emu_memory_open(sparoa_dev *dev);
void emu_memory_close(sparoa_dev *dev);
sparoa_status emu_buffer_alloc(sparoa_dev *dev, size_t bytes, sparoa_memory_kind kind, void **ptr);
void emu_buffer_free(sparoa_dev *dev, void *ptr, size_t bytes, sparoa_memory_kind kind);
/* Where the emulator finds [ptr, ptr + bytes). kernel: it must be memory that kernels may use; else
 * memory of the host is good too. NULL: it is not that. With the lock held. */
void *emu_translate(sparoa_dev *dev, const void *ptr, size_t bytes, bool kernel);
size_t emu_tensor_bytes(const sparoa_tensor *tensor);

/* queue.c */
int64_t emu_now_ns(void);
sparoa_status emu_queue_create(sparoa_dev *dev, int32_t priority, sparoa_queue **queue);
void emu_queue_destroy(sparoa_queue *queue);
sparoa_status emu_queue_sync(sparoa_queue *queue);
/* Room for a command of `bytes` at the end of the queue, or of the capture that it records; with
 * the lock held. emu_submit hands it over. */
sparoa_status emu_reserve(sparoa_queue *queue, size_t bytes, emu_command **command);
void emu_submit(sparoa_queue *queue, emu_command *command);
/* Waits for a change as a thread of the host; with the lock held. */
void emu_host_wait(sparoa_dev *dev);
/* The same until a time of the monotonic clock; false: that has come. */
bool emu_host_wait_until(sparoa_dev *dev, const struct timespec *until);

/* execute.c */
/* Runs one command; with the lock held, which it gives up in between. */
void emu_execute(sparoa_queue *queue, const emu_command *command);
void emu_event_release(sparoa_event *event); /* with the lock held */
void emu_capture_release(sparoa_capture *capture);

/* commands.c */
sparoa_status emu_copy(sparoa_queue *queue, void *dst, const void *src, size_t bytes);
sparoa_status emu_host_call(sparoa_queue *queue, void (*fn)(void *arg), void *arg);
sparoa_status emu_event_create(sparoa_dev *dev, sparoa_event **event);
void emu_event_destroy(sparoa_event *event);
sparoa_status emu_event_record(sparoa_event *event, sparoa_queue *queue);
sparoa_status emu_event_wait(sparoa_event *event, sparoa_queue *queue);
sparoa_status emu_event_sync(sparoa_event *event);
sparoa_status emu_event_sync_for(sparoa_event *event, int64_t timeout_ns);
bool emu_event_done(sparoa_event *event);
double emu_event_elapsed_ns(sparoa_event *start, sparoa_event *end);
sparoa_status emu_capture_begin(sparoa_queue *queue);
sparoa_status emu_capture_end(sparoa_queue *queue, sparoa_capture **capture);
sparoa_status emu_capture_launch(sparoa_capture *capture, sparoa_queue *queue);
void emu_capture_destroy(sparoa_capture *capture);
sparoa_status emu_node_run(sparoa_kernel *kernel, sparoa_prepared *prepared, sparoa_queue *queue,
                           const sparoa_node *node, void *workspace, sparoa_error *err);

#endif
