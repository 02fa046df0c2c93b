/* A device's queues, and waiting for it with an end to patience. */
#include <stddef.h>
#include <time.h>

#include "base/clock.h"
#include "engine/program.h"

#define SPIN_NS 20000 /* how long an event is asked for again and again */
#define NAP_NS 20000  /* then between two questions */

sparoa_status sp_device_failed(const sp_device *device, sparoa_status status, const char *what,
                               sparoa_error *err)
{
    return sparoa_fail(err, status, NULL, "device '%s' failed at %s: %s", device->table->name, what,
                       sparoa_status_text(status));
}

/* A second queue is a gain, not a need: without one, copies share the first. */
static sparoa_status copy_queue(sp_device *d, sparoa_queue **queue)
{
    sparoa_status status = d->table->queue_create(d->dev, 0, queue);
    if (status == SPAROA_OK) return status;
    *queue = d->queue;
    return status == SPAROA_DEVICE_LOST ? status : SPAROA_OK;
}

sparoa_status sp_device_start(sp_device *device, sparoa_error *err)
{
    sparoa_device_info info = {.struct_size = sizeof info};
    device->table->device_info(device->dev, &info);
    device->caps = info.caps;
    sparoa_status status = device->table->queue_create(device->dev, 0, &device->queue);
    device->up = device->down = device->queue;
    if (status == SPAROA_OK && info.caps & SPAROA_CAP_ASYNC) {
        status = copy_queue(device, &device->up);
        if (status == SPAROA_OK) status = copy_queue(device, &device->down);
        if (status == SPAROA_OK) status = device->table->event_create(device->dev, &device->idle);
    }
    return status == SPAROA_OK ? status
                               : sp_device_failed(device, status, "creating its queues", err);
}

void sp_device_close(sp_device *device)
{
    const sparoa_backend *t = device->table;
    if (device->idle) t->event_destroy(device->idle);
    if (device->up && device->up != device->queue) t->queue_destroy(device->up);
    if (device->down && device->down != device->queue) t->queue_destroy(device->down);
    if (device->queue) t->queue_destroy(device->queue);
    *device = (sp_device){.table = t, .dev = device->dev};
}

/* ---- waiting ---- */

/* Slots at the end of the table that older plug-ins lack. */
static bool can_wait_for(const sparoa_backend *t)
{
    return t->struct_size >= offsetof(sparoa_backend, event_sync_for) + sizeof t->event_sync_for &&
           t->event_sync_for;
}

/* False: it is not done in that time. */
static bool done_by(const sp_device *d, sparoa_event *event, int64_t limit_ns,
                    sparoa_status *status)
{
    const sparoa_backend *t = d->table;
    int64_t now = sp_now_ns(), begin = now;
    if (can_wait_for(t)) {
        *status = t->event_sync_for(event, limit_ns > now ? limit_ns - now : 0);
        return *status != SPAROA_DEADLINE;
    }
    while (!t->event_done(event)) {
        now = sp_now_ns();
        if (now >= limit_ns) return false;
        if (now - begin > SPIN_NS) nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    *status = t->event_sync(event);
    return true;
}

sparoa_status sp_device_wait(sp_engine *engine, const sp_device *device, sparoa_event *event,
                             sparoa_error *err)
{
    int64_t limit = INT64_MAX, deadline = engine->stop ? engine->stop->deadline_ns : 0;
    sparoa_status status = SPAROA_OK;
    if (engine->device_timeout_ns > 0) limit = sp_later_ns(sp_now_ns(), engine->device_timeout_ns);
    bool due = deadline > 0 && deadline < limit;
    if (due) limit = deadline;
    if (limit == INT64_MAX)
        status = device->table->event_sync(event);
    else if (!done_by(device, event, limit, &status)) {
        engine->in_flight = true;
        if (due)
            return sparoa_fail(err, SPAROA_DEADLINE, NULL,
                               "the deadline passed while device '%s' was at work",
                               device->table->name);
        return sparoa_fail(err, SPAROA_DEVICE_LOST, NULL,
                           "device '%s' has not signalled for %lld ms", device->table->name,
                           (long long)(engine->device_timeout_ns / 1000000));
    }
    if (status == SPAROA_OK) return status;
    return sp_device_failed(device, status, "running its part of the model", err);
}

sparoa_status sp_device_sync(sp_engine *engine, const sp_device *device, sparoa_queue *queue,
                             sparoa_error *err)
{
    sparoa_status status = SPAROA_OK;
    if (device->idle) {
        status = device->table->event_record(device->idle, queue);
        if (status == SPAROA_OK) status = sp_device_wait(engine, device, device->idle, err);
        if (engine->in_flight) return status;
    }
    sparoa_status synced = device->table->queue_sync(queue); /* empty by now: at once */
    if (status == SPAROA_OK) status = synced;
    return status == SPAROA_OK
               ? status
               : sp_device_failed(device, status, "running its part of the model", err);
}

void sp_engine_drain(sp_engine *engine, sparoa_error *err)
{
    sparoa_error ignored;
    for (int32_t k = 1; k < engine->device_count && !engine->in_flight; k++) {
        const sp_device *d = &engine->devices[k];
        sparoa_queue *queues[] = {d->up, d->queue, d->down};
        for (int q = 0; q < 3 && !engine->in_flight; q++)
            if (q == 1 || queues[q] != d->queue)
                (void)sp_device_sync(engine, d, queues[q], err ? err : &ignored);
    }
}

sparoa_status sp_engine_settle(sp_engine *engine, sparoa_error *err)
{
    sparoa_error why = {0};
    if (!engine->in_flight) return SPAROA_OK;
    engine->in_flight = false;
    sp_engine_drain(engine, &why);
    if (!engine->in_flight) return SPAROA_OK;
    if (err) *err = why;
    return why.status;
}
