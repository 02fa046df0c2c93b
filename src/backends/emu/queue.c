/* Queues: a thread each, and a ring of commands between it and the host. */
#include <time.h>

#include "emu.h"

int64_t emu_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void emu_host_wait(sparoa_dev *dev)
{
    dev->waiting++;
    pthread_cond_wait(&dev->changed, &dev->lock);
    dev->waiting--;
    if (dev->closing) pthread_cond_broadcast(&dev->changed);
}

bool emu_host_wait_until(sparoa_dev *dev, const struct timespec *until)
{
    dev->waiting++;
    bool late = pthread_cond_timedwait(&dev->changed, &dev->lock, until) != 0;
    dev->waiting--;
    if (dev->closing) pthread_cond_broadcast(&dev->changed);
    return !late;
}

static void *worker(void *arg)
{
    sparoa_queue *q = arg;
    sparoa_dev *dev = q->dev;
    pthread_mutex_lock(&dev->lock);
    for (;;) {
        while (q->used == 0 && !q->stop) pthread_cond_wait(&q->work, &dev->lock);
        if (q->used == 0) break;
        emu_command *c = (emu_command *)(q->ring + q->tail);
        size_t bytes = c->bytes;
        if (c->kind != EMU_PAD) {
            emu_execute(q, c);
            q->done++;
        }
        q->tail = (q->tail + bytes) % EMU_RING;
        q->used -= bytes;
        pthread_cond_broadcast(&dev->changed);
    }
    pthread_mutex_unlock(&dev->lock);
    return NULL;
}

sparoa_status emu_queue_create(sparoa_dev *dev, int32_t priority, sparoa_queue **queue)
{
    (void)priority;
    pthread_mutex_lock(&dev->lock);
    bool lost = dev->lost;
    pthread_mutex_unlock(&dev->lock);
    if (lost) return SPAROA_DEVICE_LOST;
    sparoa_queue *q = emu_host_alloc(dev, sizeof *q);
    if (!q) return SPAROA_OUT_OF_MEMORY;
    q->dev = dev;
    q->ring = emu_host_alloc(dev, EMU_RING + EMU_SCRATCH);
    pthread_cond_init(&q->work, NULL);
    if (!q->ring || pthread_create(&q->thread, NULL, worker, q) != 0) {
        pthread_cond_destroy(&q->work);
        emu_host_free(dev, q->ring, EMU_RING + EMU_SCRATCH);
        emu_host_free(dev, q, sizeof *q);
        return SPAROA_OUT_OF_MEMORY;
    }
    pthread_mutex_lock(&dev->lock);
    q->next = dev->queues;
    dev->queues = q;
    pthread_mutex_unlock(&dev->lock);
    *queue = q;
    return SPAROA_OK;
}

/* Ends what hangs, lets the rest run, and waits for that. */
void emu_queue_destroy(sparoa_queue *queue)
{
    if (!queue) return;
    sparoa_dev *dev = queue->dev;
    pthread_mutex_lock(&dev->lock);
    queue->stop = true;
    pthread_cond_signal(&queue->work);
    pthread_cond_broadcast(&dev->changed);
    pthread_mutex_unlock(&dev->lock);
    pthread_join(queue->thread, NULL);
    pthread_mutex_lock(&dev->lock);
    for (sparoa_queue **q = &dev->queues; *q; q = &(*q)->next) {
        if (*q != queue) continue;
        *q = queue->next;
        break;
    }
    if (queue->capture) emu_capture_release(queue->capture);
    pthread_mutex_unlock(&dev->lock);
    pthread_cond_destroy(&queue->work);
    emu_host_free(dev, queue->ring, EMU_RING + EMU_SCRATCH);
    emu_host_free(dev, queue, sizeof *queue);
}

sparoa_status emu_queue_sync(sparoa_queue *queue)
{
    sparoa_dev *dev = queue->dev;
    pthread_mutex_lock(&dev->lock);
    sparoa_status status = queue->capture ? SPAROA_INVALID_STATE : SPAROA_OK;
    uint64_t all = queue->submitted;
    while (status == SPAROA_OK && queue->done < all && !dev->closing) emu_host_wait(dev);
    if (status == SPAROA_OK) {
        status = dev->lost || queue->done < all ? SPAROA_DEVICE_LOST : queue->status;
        queue->status = SPAROA_OK;
    }
    pthread_mutex_unlock(&dev->lock);
    return status;
}

/* ---- enqueuing ---- */

static sparoa_status reserve_in_capture(sparoa_capture *c, size_t bytes, emu_command **command)
{
    if (c->bytes + bytes > c->capacity) {
        size_t capacity = 2 * c->capacity + bytes;
        char *more = emu_host_alloc(c->dev, capacity);
        if (!more) return SPAROA_OUT_OF_MEMORY;
        if (c->bytes) memcpy(more, c->commands, c->bytes);
        emu_host_free(c->dev, c->commands, c->capacity);
        c->commands = more;
        c->capacity = capacity;
    }
    *command = (emu_command *)(c->commands + c->bytes);
    return SPAROA_OK;
}

/* Commands lie in one piece: where one does not fit before the end of the ring, a gap does. */
static size_t gap_before(const sparoa_queue *q, size_t bytes)
{
    size_t to_end = EMU_RING - q->head;
    return to_end < bytes ? to_end : 0;
}

static bool wait_for_room(sparoa_queue *q, size_t bytes)
{
    sparoa_dev *dev = q->dev;
    while (EMU_RING - q->used < bytes + gap_before(q, bytes) && !dev->closing && !dev->lost)
        emu_host_wait(dev);
    if (dev->closing || dev->lost) return false;
    size_t pad = gap_before(q, bytes);
    if (!pad) return true;
    emu_command *gap = (emu_command *)(q->ring + q->head);
    gap->kind = EMU_PAD;
    gap->bytes = pad;
    q->used += pad;
    q->head = 0;
    return true;
}

sparoa_status emu_reserve(sparoa_queue *queue, size_t bytes, emu_command **command)
{
    sparoa_dev *dev = queue->dev;
    if (dev->lost) return SPAROA_DEVICE_LOST;
    sparoa_status status = SPAROA_OK;
    bytes = (bytes + 15) / 16 * 16;
    if (queue->capture) {
        status = reserve_in_capture(queue->capture, bytes, command);
    } else {
        if (!wait_for_room(queue, bytes)) return SPAROA_DEVICE_LOST;
        *command = (emu_command *)(queue->ring + queue->head);
    }
    if (status != SPAROA_OK) return status;
    memset(*command, 0, sizeof **command);
    (*command)->bytes = bytes;
    return SPAROA_OK;
}

/* The numbers that choose which faults hit it. */
static void count_command(sparoa_dev *dev, emu_command *c)
{
    uint64_t kernels = 0, copies = 0;
    if (c->kind == EMU_KERNEL) kernels = 1;
    if (c->kind == EMU_COPY) copies = 1;
    if (c->kind == EMU_LAUNCH) {
        kernels = c->u.capture->kernels;
        copies = c->u.capture->copies;
    }
    c->number = dev->commands + 1;
    c->kernel_number = dev->kernels + 1;
    c->copy_number = dev->copies + 1;
    dev->commands += kernels + copies;
    dev->kernels += kernels;
    dev->copies += copies;
}

void emu_submit(sparoa_queue *queue, emu_command *command)
{
    sparoa_capture *capture = queue->capture;
    if (capture) {
        capture->bytes += command->bytes;
        capture->kernels += command->kind == EMU_KERNEL;
        capture->copies += command->kind == EMU_COPY;
        return;
    }
    count_command(queue->dev, command);
    queue->head = (queue->head + command->bytes) % EMU_RING;
    queue->used += command->bytes;
    queue->submitted++;
    pthread_cond_signal(&queue->work);
}
