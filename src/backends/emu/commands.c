/* Putting commands on a queue: copies, calls, events, captures, nodes. */
#include <time.h>

#include "emu.h"

sparoa_status emu_copy(sparoa_queue *queue, void *dst, const void *src, size_t bytes)
{
    sparoa_dev *dev = queue->dev;
    emu_command *c;
    if (bytes == 0) return SPAROA_OK;
    pthread_mutex_lock(&dev->lock);
    bool ok = dst && src && emu_translate(dev, dst, bytes, false) &&
              emu_translate(dev, src, bytes, false);
    sparoa_status status = ok ? emu_reserve(queue, sizeof *c, &c) : SPAROA_INVALID_ARGUMENT;
    if (status == SPAROA_OK) {
        c->kind = EMU_COPY;
        c->u.copy.dst = dst;
        c->u.copy.src = src;
        c->u.copy.bytes = bytes;
        emu_submit(queue, c);
    }
    pthread_mutex_unlock(&dev->lock);
    return status;
}

sparoa_status emu_host_call(sparoa_queue *queue, void (*fn)(void *arg), void *arg)
{
    sparoa_dev *dev = queue->dev;
    emu_command *c;
    pthread_mutex_lock(&dev->lock);
    sparoa_status status = emu_reserve(queue, sizeof *c, &c);
    if (status == SPAROA_OK) {
        c->kind = EMU_CALL;
        c->u.call.fn = fn;
        c->u.call.arg = arg;
        emu_submit(queue, c);
    }
    pthread_mutex_unlock(&dev->lock);
    return status;
}

/* ---- events ---- */

sparoa_status emu_event_create(sparoa_dev *dev, sparoa_event **event)
{
    sparoa_event *e = emu_host_alloc(dev, sizeof *e);
    if (!e) return SPAROA_OUT_OF_MEMORY;
    e->dev = dev;
    e->references = 1;
    *event = e;
    return SPAROA_OK;
}

void emu_event_destroy(sparoa_event *event)
{
    if (!event) return;
    sparoa_dev *dev = event->dev;
    pthread_mutex_lock(&dev->lock);
    emu_event_release(event);
    pthread_mutex_unlock(&dev->lock);
}

static sparoa_status enqueue_event(sparoa_queue *queue, sparoa_event *event, emu_kind kind)
{
    sparoa_dev *dev = queue->dev;
    emu_command *c;
    pthread_mutex_lock(&dev->lock);
    /* a capture holds kernels, copies and calls of one queue */
    sparoa_status status =
        queue->capture ? SPAROA_INVALID_STATE : emu_reserve(queue, sizeof *c, &c);
    if (status == SPAROA_OK) {
        c->kind = kind;
        c->u.event.event = event;
        c->u.event.generation = kind == EMU_RECORD ? ++event->recorded : event->recorded;
        event->references++;
        emu_submit(queue, c);
    }
    pthread_mutex_unlock(&dev->lock);
    return status;
}

sparoa_status emu_event_record(sparoa_event *event, sparoa_queue *queue)
{
    return enqueue_event(queue, event, EMU_RECORD);
}

sparoa_status emu_event_wait(sparoa_event *event, sparoa_queue *queue)
{
    return enqueue_event(queue, event, EMU_WAIT);
}

sparoa_status emu_event_sync(sparoa_event *event)
{
    sparoa_dev *dev = event->dev;
    pthread_mutex_lock(&dev->lock);
    uint64_t generation = event->recorded;
    while (event->completed < generation && !dev->closing) emu_host_wait(dev);
    bool lost = dev->lost || event->completed < generation;
    sparoa_status status = lost ? SPAROA_DEVICE_LOST : event->status;
    pthread_mutex_unlock(&dev->lock);
    return status;
}

sparoa_status emu_event_sync_for(sparoa_event *event, int64_t timeout_ns)
{
    sparoa_dev *dev = event->dev;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (timeout_ns > 0 ? timeout_ns : 0);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = ns % 1000000000;
    bool late = timeout_ns <= 0;
    pthread_mutex_lock(&dev->lock);
    uint64_t generation = event->recorded;
    while (event->completed < generation && !dev->closing && !late)
        late = !emu_host_wait_until(dev, &until);
    sparoa_status status = event->status;
    if (event->completed < generation)
        status = late && !dev->closing && !dev->lost ? SPAROA_DEADLINE : SPAROA_DEVICE_LOST;
    else if (dev->lost)
        status = SPAROA_DEVICE_LOST;
    pthread_mutex_unlock(&dev->lock);
    return status;
}

bool emu_event_done(sparoa_event *event)
{
    pthread_mutex_lock(&event->dev->lock);
    bool done = event->completed >= event->recorded;
    pthread_mutex_unlock(&event->dev->lock);
    return done;
}

double emu_event_elapsed_ns(sparoa_event *start, sparoa_event *end)
{
    pthread_mutex_lock(&end->dev->lock);
    double ns = (double)(end->completed_ns - start->completed_ns);
    pthread_mutex_unlock(&end->dev->lock);
    return ns;
}

/* ---- captures ---- */

sparoa_status emu_capture_begin(sparoa_queue *queue)
{
    sparoa_dev *dev = queue->dev;
    sparoa_capture *c = emu_host_alloc(dev, sizeof *c);
    if (!c) return SPAROA_OUT_OF_MEMORY;
    c->dev = dev;
    c->references = 1;
    pthread_mutex_lock(&dev->lock);
    bool free = !queue->capture;
    if (free) queue->capture = c;
    pthread_mutex_unlock(&dev->lock);
    if (!free) emu_host_free(dev, c, sizeof *c);
    return free ? SPAROA_OK : SPAROA_INVALID_STATE;
}

sparoa_status emu_capture_end(sparoa_queue *queue, sparoa_capture **capture)
{
    pthread_mutex_lock(&queue->dev->lock);
    sparoa_status status = queue->capture ? SPAROA_OK : SPAROA_INVALID_STATE;
    if (status == SPAROA_OK) *capture = queue->capture;
    queue->capture = NULL;
    pthread_mutex_unlock(&queue->dev->lock);
    return status;
}

sparoa_status emu_capture_launch(sparoa_capture *capture, sparoa_queue *queue)
{
    emu_command *c;
    pthread_mutex_lock(&queue->dev->lock);
    sparoa_status status =
        queue->capture ? SPAROA_INVALID_STATE : emu_reserve(queue, sizeof *c, &c);
    if (status == SPAROA_OK) {
        c->kind = EMU_LAUNCH;
        c->u.capture = capture;
        capture->references++;
        emu_submit(queue, c);
    }
    pthread_mutex_unlock(&queue->dev->lock);
    return status;
}

void emu_capture_destroy(sparoa_capture *capture)
{
    if (!capture) return;
    sparoa_dev *dev = capture->dev;
    pthread_mutex_lock(&dev->lock);
    emu_capture_release(capture);
    pthread_mutex_unlock(&dev->lock);
}

/* ---- nodes ---- */

static sparoa_tensor *port(const sparoa_node *node, int32_t i)
{
    return i < node->n_in ? node->in[i] : node->out[i - node->n_in];
}

/* Every tensor must be in memory of the device now; it is looked up again when the node runs. */
static sparoa_status check_places(sparoa_dev *dev, const sparoa_node *node, sparoa_error *err)
{
    for (int32_t i = 0; i < node->n_in + node->n_out; i++) {
        const sparoa_tensor *t = port(node, i);
        size_t bytes = t ? emu_tensor_bytes(t) : 0;
        bool input = i < node->n_in;
        if (bytes && !emu_translate(dev, t->data, bytes, true))
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, node,
                               "%s %d, %zu bytes at %p, is not in the device's memory",
                               input ? "input" : "output", input ? i : i - node->n_in, bytes,
                               t->data);
    }
    return SPAROA_OK;
}

static void fill_kernel(emu_command *c, sparoa_kernel *kernel, const sparoa_node *node,
                        void *workspace)
{
    sparoa_tensor *copies = (sparoa_tensor *)(c + 1);
    c->kind = EMU_KERNEL;
    c->u.run.kernel = kernel;
    c->u.run.node = *node;
    c->u.run.node.in = c->u.run.node.out = NULL;
    c->u.run.workspace = workspace;
    for (int32_t i = 0; i < node->n_in + node->n_out; i++) {
        const sparoa_tensor *t = port(node, i);
        copies[i] = t ? *t : (sparoa_tensor){.rank = -1};
    }
}

sparoa_status emu_node_run(sparoa_kernel *kernel, sparoa_prepared *prepared, sparoa_queue *queue,
                           const sparoa_node *node, void *workspace, sparoa_error *err)
{
    sparoa_dev *dev = queue->dev;
    emu_command *c;
    if (node->n_in + node->n_out > EMU_MAX_PORTS)
        return sparoa_fail(err, SPAROA_INTERNAL, node, "has more than %d inputs and outputs",
                           EMU_MAX_PORTS);
    size_t need = prepared->workspace;
    size_t bytes = sizeof *c + (size_t)(node->n_in + node->n_out) * sizeof(sparoa_tensor);
    pthread_mutex_lock(&dev->lock);
    sparoa_status status = check_places(dev, node, err);
    if (status == SPAROA_OK && need && !emu_translate(dev, workspace, need, true))
        status = sparoa_fail(err, SPAROA_INVALID_ARGUMENT, node,
                             "its workspace of %zu bytes is not in the device's memory", need);
    if (status == SPAROA_OK) {
        status = emu_reserve(queue, bytes, &c);
        if (status != SPAROA_OK) sparoa_fail(err, status, node, "the emulated device was lost");
    }
    if (status == SPAROA_OK) {
        fill_kernel(c, kernel, node, workspace);
        c->u.run.workspace_bytes = need;
        emu_submit(queue, c);
    }
    pthread_mutex_unlock(&dev->lock);
    return status;
}
