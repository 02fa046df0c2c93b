/* What a queue's thread does with a command. */
#include <time.h>

#include "emu.h"

static void say(sparoa_dev *dev, const char *format, const char *name, sparoa_status status)
{
    char line[256];
    snprintf(line, sizeof line, format, name, (int)status);
    dev->host->log(dev->host->log_user, SPAROA_LOG_WARN, line);
}

static void fail_queue(sparoa_queue *q, sparoa_status status)
{
    if (q->status == SPAROA_OK) q->status = status;
}

/* xorshift64*: delays need no better. */
static double random_share(sparoa_dev *dev)
{
    uint64_t x = dev->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    dev->random = x;
    return (double)((x * 2685821657736338717u) >> 11) * 0x1p-53;
}

static void sleep_ns(int64_t ns)
{
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    if (ns > 0) nanosleep(&t, NULL);
}

/* A command that does not end. */
static void hang(sparoa_queue *q)
{
    sparoa_dev *dev = q->dev;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until); /* `changed` waits by that clock */
    int64_t ns = until.tv_nsec + (int64_t)(dev->options.hang_ms % 1000) * 1000000;
    until.tv_sec += (time_t)(dev->options.hang_ms / 1000 + (uint64_t)(ns / 1000000000));
    until.tv_nsec = ns % 1000000000;
    bool late = false;
    dev->hung = true;
    pthread_cond_broadcast(&dev->changed);
    while (!q->stop && !dev->closing && !late) {
        if (dev->options.hang_ms)
            late = pthread_cond_timedwait(&dev->changed, &dev->lock, &until) != 0;
        else
            pthread_cond_wait(&dev->changed, &dev->lock);
    }
    dev->lost = true;
    dev->hung = false;
}

/* Injects what the options ask for at this command. False: it must not run. */
static bool admit(sparoa_queue *q, emu_kind kind, uint64_t number, uint64_t number_of_kind)
{
    sparoa_dev *dev = q->dev;
    const emu_options *o = &dev->options;
    if (number == o->lose_at) dev->lost = true;
    if (number == o->hang_at) hang(q);
    if (dev->lost) fail_queue(q, SPAROA_DEVICE_LOST);
    if (number_of_kind == (kind == EMU_COPY ? o->fail_copy : o->fail_kernel))
        fail_queue(q, SPAROA_DEVICE_UNAVAILABLE);
    return q->status == SPAROA_OK;
}

/* ---- real work: with one of the device's streams taken and the lock given up ---- */

static int64_t begin_work(sparoa_dev *dev, uint64_t delay_us)
{
    while (dev->running >= dev->options.streams) pthread_cond_wait(&dev->changed, &dev->lock);
    dev->running++;
    int64_t ns = delay_us ? (int64_t)(2000.0 * (double)delay_us * random_share(dev)) : 0;
    pthread_mutex_unlock(&dev->lock);
    return ns;
}

static void end_work(sparoa_dev *dev)
{
    pthread_mutex_lock(&dev->lock);
    dev->running--;
    pthread_cond_broadcast(&dev->changed);
}

static void serial(const sparoa_exec *exec, int32_t count, void (*task)(void *arg, int32_t i),
                   void *arg)
{
    (void)exec;
    for (int32_t i = 0; i < count; i++) task(arg, i);
}

/* The node of the command with tensors in `scratch`, their data where the emulator finds them.
 * False: one is not in device memory any more. */
static bool bring_in(sparoa_queue *q, const emu_command *c, char *scratch, sparoa_node *node)
{
    *node = c->u.run.node;
    size_t ports = (size_t)(node->n_in + node->n_out);
    sparoa_tensor *tensors = (sparoa_tensor *)scratch;
    sparoa_tensor **list = (sparoa_tensor **)(scratch + ports * sizeof *tensors);
    memcpy(tensors, c + 1, ports * sizeof *tensors);
    for (size_t i = 0; i < ports; i++) {
        sparoa_tensor *t = &tensors[i];
        list[i] = t->rank < 0 ? NULL : t;
        size_t bytes = list[i] ? emu_tensor_bytes(t) : 0;
        if (!list[i]) continue;
        t->data = bytes ? emu_translate(q->dev, t->data, bytes, true) : scratch;
        if (!t->data) return false;
    }
    node->in = list;
    node->out = list + node->n_in;
    return true;
}

static void run_kernel(sparoa_queue *q, const emu_command *c)
{
    sparoa_dev *dev = q->dev;
    sparoa_kernel *k = c->u.run.kernel;
    sparoa_node node;
    size_t bytes = c->u.run.workspace_bytes;
    void *workspace = bytes ? emu_translate(dev, c->u.run.workspace, bytes, true) : NULL;
    bool ok = bring_in(q, c, q->ring + EMU_RING, &node) && (workspace || !bytes);
    if (!ok) {
        say(dev, "emu: '%.100s' uses memory that was freed before it ran (%d)", c->u.run.node.name,
            SPAROA_INTERNAL);
        fail_queue(q, SPAROA_INTERNAL);
        return;
    }
    sparoa_error err = {0};
    sparoa_exec exec = {
        .state = k->state, .workspace = workspace, .threads = 1, .parallel = serial, .err = &err};
    sleep_ns(begin_work(dev, dev->options.delay_us));
    sparoa_status status = k->op->run(&node, &exec);
    end_work(dev);
    if (status == SPAROA_OK) return;
    say(dev, "emu: %.200s (%d)", err.message, status);
    fail_queue(q, status);
}

static void run_copy(sparoa_queue *q, const emu_command *c)
{
    sparoa_dev *dev = q->dev;
    size_t bytes = c->u.copy.bytes;
    void *dst = emu_translate(dev, c->u.copy.dst, bytes, false);
    const void *src = emu_translate(dev, c->u.copy.src, bytes, false);
    if (!dst || !src) {
        say(dev, "emu: a %s uses memory that was freed before it ran (%d)", "copy",
            SPAROA_INTERNAL);
        fail_queue(q, SPAROA_INTERNAL);
        return;
    }
    sleep_ns(begin_work(dev, dev->options.copy_delay_us));
    memmove(dst, src, bytes);
    end_work(dev);
}

/* ---- events and captures ---- */

void emu_event_release(sparoa_event *event)
{
    if (--event->references == 0) emu_host_free(event->dev, event, sizeof *event);
}

void emu_capture_release(sparoa_capture *capture)
{
    if (--capture->references) return;
    emu_host_free(capture->dev, capture->commands, capture->capacity);
    emu_host_free(capture->dev, capture, sizeof *capture);
}

static void record_event(sparoa_queue *q, const emu_command *c)
{
    sparoa_event *e = c->u.event.event;
    if (c->u.event.generation > e->completed) {
        e->completed = c->u.event.generation;
        e->completed_ns = emu_now_ns();
        e->status = q->dev->lost ? SPAROA_DEVICE_LOST : q->status;
    }
    emu_event_release(e);
}

/* An event behind a command that hangs never comes; then a queue that is destroyed goes on. */
static void wait_event(sparoa_queue *q, const emu_command *c)
{
    sparoa_dev *dev = q->dev;
    sparoa_event *e = c->u.event.event;
    while (e->completed < c->u.event.generation && !dev->closing && !(q->stop && dev->hung))
        pthread_cond_wait(&dev->changed, &dev->lock);
    fail_queue(q, e->completed < c->u.event.generation ? SPAROA_DEVICE_LOST : e->status);
    emu_event_release(e);
}

static void run_plain(sparoa_queue *q, const emu_command *c, uint64_t number,
                      uint64_t number_of_kind)
{
    if (c->kind == EMU_CALL) {
        pthread_mutex_unlock(&q->dev->lock);
        c->u.call.fn(c->u.call.arg);
        pthread_mutex_lock(&q->dev->lock);
    } else if (admit(q, c->kind, number, number_of_kind)) {
        if (c->kind == EMU_KERNEL)
            run_kernel(q, c);
        else
            run_copy(q, c);
    }
}

static void launch(sparoa_queue *q, const emu_command *c)
{
    sparoa_capture *capture = c->u.capture;
    uint64_t number = c->number, kernels = c->kernel_number, copies = c->copy_number;
    for (size_t at = 0; at < capture->bytes;) {
        const emu_command *part = (const emu_command *)(capture->commands + at);
        bool counts = part->kind != EMU_CALL;
        run_plain(q, part, counts ? number : 0, part->kind == EMU_COPY ? copies : kernels);
        number += counts;
        copies += part->kind == EMU_COPY;
        kernels += part->kind == EMU_KERNEL;
        at += part->bytes;
    }
    emu_capture_release(capture);
}

void emu_execute(sparoa_queue *queue, const emu_command *command)
{
    switch (command->kind) {
    case EMU_RECORD: record_event(queue, command); break;
    case EMU_WAIT: wait_event(queue, command); break;
    case EMU_LAUNCH: launch(queue, command); break;
    case EMU_PAD: break;
    case EMU_COPY: run_plain(queue, command, command->number, command->copy_number); break;
    case EMU_KERNEL:
    case EMU_CALL: run_plain(queue, command, command->number, command->kernel_number); break;
    }
}
