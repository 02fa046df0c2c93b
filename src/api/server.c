/* Servers: worker threads, and what each does next. */
#include "api/serve.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "ops/op.h"

#define MAX_WORKERS 256

void sp_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

void sp_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    if (until_ns == SP_NEVER) {
        pthread_cond_wait(cond, mutex);
        return;
    }
    struct timespec at = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    pthread_cond_timedwait(cond, mutex, &at);
}

/* ---- what is due ---- */

void sp_server_notify(sparoa_service *service)
{
    sparoa_server *server = service->server;
    if (server->idle > 0) {
        pthread_cond_signal(&server->work);
        return;
    }
    if (service->priority < atomic_load(&server->urgent))
        atomic_store(&server->urgent, service->priority);
    if (service->batcher.earliest_ns < atomic_load(&server->attention_ns))
        atomic_store(&server->attention_ns, service->batcher.earliest_ns);
}

/* Takes members that are past their deadline out of a running batch. */
static int64_t expire_members(sp_instance *instance, int64_t now)
{
    int64_t next = SP_NEVER;
    for (int32_t i = 0; instance->busy && i < instance->count; i++) {
        sparoa_request *r = instance->members[i];
        if (!r) continue;
        if (r->item.deadline_ns <= now && sp_request_withdraw(r))
            sp_request_end(r, SPAROA_DEADLINE, NULL);
        else if (r->item.deadline_ns > now && r->item.deadline_ns < next)
            next = r->item.deadline_ns;
    }
    return next;
}

static int64_t expire_service(sparoa_service *s, int64_t now)
{
    int64_t next = SP_NEVER;
    sp_batch_item *item;
    while ((item = sp_batcher_expire(&s->batcher, now)))
        sp_request_end((sparoa_request *)item, SPAROA_DEADLINE, NULL);
    for (int32_t i = 0; i < s->instance_count; i++) {
        int64_t member = expire_members(&s->instances[i], now);
        if (member < next) next = member;
    }
    return s->batcher.earliest_ns < next ? s->batcher.earliest_ns : next;
}

void sp_server_expire(sparoa_server *server, int64_t now_ns)
{
    int64_t next = SP_NEVER;
    for (sparoa_service *s = server->services; s; s = s->next) {
        int64_t of_service = expire_service(s, now_ns);
        if (of_service < next) next = of_service;
    }
    atomic_store(&server->attention_ns, next);
}

/* Callbacks of what has just ended. The list may change while the mutex is released. */
static void deliver_all(sparoa_server *server)
{
    for (sparoa_service *s = server->services; s;) {
        if (s->ready && !s->delivering) {
            sp_service_deliver(s);
            s = server->services;
        } else {
            s = s->next;
        }
    }
}

/* A batch of a service whose priority number is below `below`. */
static sp_instance *take(sparoa_server *server, int64_t now, int64_t below, int64_t *wake)
{
    for (sparoa_service *s = server->services; s && s->priority < below; s = s->next) {
        sp_instance *instance = sp_service_take(s, now, wake);
        if (instance) return instance;
    }
    return NULL;
}

void sp_server_attend(sparoa_server *server, int32_t priority)
{
    int64_t now = sp_now_ns(), wake = SP_NEVER;
    sp_server_expire(server, now);
    deliver_all(server);
    atomic_store(&server->urgent, INT32_MAX);
    sp_instance *instance = server->interruption ? take(server, now, priority, &wake) : NULL;
    if (instance) {
        instance->service->info.interruptions++;
        sp_instance_run(instance, now);
        /* there may be more */
        atomic_store(&server->urgent, instance->service->priority);
    } else if (server->interruption && wake < atomic_load(&server->attention_ns)) {
        atomic_store(&server->attention_ns, wake);
    }
}

static void *worker_main(void *arg)
{
    sparoa_server *server = arg;
    pthread_mutex_lock(&server->mutex);
    while (!server->stop) {
        int64_t now = sp_now_ns(), wake;
        sp_server_expire(server, now);
        deliver_all(server);
        wake = atomic_load(&server->attention_ns);
        sp_instance *instance = take(server, now, INT64_MAX, &wake);
        if (instance) {
            sp_instance_run(instance, now);
            continue;
        }
        if (server->stop) break;
        server->idle++;
        sp_cond_wait_until(&server->work, &server->mutex, wake);
        server->idle--;
    }
    pthread_mutex_unlock(&server->mutex);
    return NULL;
}

/* ---- making and destroying ---- */

static sparoa_status start_workers(sparoa_server *server, sparoa_error *err)
{
    for (int32_t i = 0; i < server->thread_count; i++) {
        int code = pthread_create(&server->threads[i], NULL, worker_main, server);
        if (code)
            return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL,
                               "worker %d could not be started: %s; ask for fewer threads", i + 1,
                               strerror(code));
        server->started++;
    }
    return SPAROA_OK;
}

sparoa_status sparoa_server_create(sparoa_runtime *runtime, const sparoa_server_options *options,
                                   sparoa_server **server, sparoa_error *err)
{
    sparoa_server_options o;
    if (!runtime || !server)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "runtime or server is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    if (o.threads < 1 || o.threads > MAX_WORKERS)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "a server needs threads: threads=%d; expected 1 to %d", o.threads,
                           MAX_WORKERS);
    const sparoa_allocator *a = &runtime->alloc;
    sparoa_server *s = sp_calloc(a, 1, sizeof *s);
    if (!s) return sp_no_memory(a, sizeof *s, err);
    s->runtime = runtime;
    s->thread_count = o.threads;
    s->interruption = !o.no_interruption;
    atomic_init(&s->urgent, INT32_MAX);
    atomic_init(&s->attention_ns, SP_NEVER);
    pthread_mutex_init(&s->mutex, NULL);
    sp_cond_init(&s->work);
    sp_runtime_ref(runtime);
    s->threads = sp_calloc(a, (size_t)o.threads, sizeof *s->threads);
    sparoa_status status = s->threads
                               ? start_workers(s, err)
                               : sp_no_memory(a, (size_t)o.threads * sizeof *s->threads, err);
    if (status != SPAROA_OK)
        sparoa_server_destroy(s);
    else
        *server = s;
    return status;
}

void sparoa_server_destroy(sparoa_server *server)
{
    if (!server) return;
    sparoa_runtime *runtime = server->runtime;
    const sparoa_allocator *a = &runtime->alloc;
    while (server->services) sparoa_service_destroy(server->services);
    pthread_mutex_lock(&server->mutex);
    server->stop = true;
    pthread_cond_broadcast(&server->work);
    pthread_mutex_unlock(&server->mutex);
    for (int32_t i = 0; i < server->started; i++) pthread_join(server->threads[i], NULL);
    if (server->threads)
        sp_free(a, server->threads, (size_t)server->thread_count * sizeof *server->threads);
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->work);
    sp_free(a, server, sizeof *server);
    sp_runtime_unref(runtime);
}
