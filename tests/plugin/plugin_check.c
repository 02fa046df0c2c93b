/*
 * plugin_check - does a device plug-in keep the contract of sparoa_backend.h?
 *
 *   plugin_check PATH.so [OPTIONS]
 *
 * Loads the plug-in, opens each of its devices with OPTIONS, and checks table, memory, copies,
 * queues, events, captures, and every operator that the device supports against the library's plain
 * implementation. Exit status: 0 all well, 1 something is not, 2 the plug-in cannot be used here.
 */
#include <dlfcn.h>

#include "plugin/check.h"

bool check_that(check *c, bool ok, const char *format, ...)
{
    va_list args;
    if (ok) {
        c->passed++;
        return true;
    }
    c->failed++;
    printf("FAIL ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    return false;
}

/* ---- table ---- */

static void check_query(check *c, const char *path)
{
    sparoa_backend_query_fn query = NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "sparoa_backend_query") : NULL;
    if (!symbol) return;
    memcpy(&query, &symbol, sizeof query);
    sparoa_host other = c->h.host;
    other.abi = SPAROA_BACKEND_ABI + 1;
    check_that(c, !query(&other), "the query answers a host of another ABI");
    check_that(c, query(&c->h.host) == c->t, "the query gives another table the second time");
    dlclose(library);
}

static void check_table(check *c)
{
    const sparoa_backend *t = c->t;
    check_that(c, t->name[0] && t->version[0], "name or version is empty");
    check_that(c, t->struct_size >= sizeof *t,
               "struct_size is %zu, this header's %zu: built with an older one", t->struct_size,
               sizeof *t);
    bool all = t->capture_begin && t->capture_end && t->capture_launch && t->capture_destroy;
    bool none = !t->capture_begin && !t->capture_end && !t->capture_launch && !t->capture_destroy;
    check_that(c, all || none, "some of the capture slots are set and some are not");
    all = t->event_create && t->event_destroy && t->event_record && t->event_wait &&
          t->event_sync && t->event_done;
    none = !t->event_create && !t->event_destroy && !t->event_record && !t->event_wait &&
           !t->event_sync && !t->event_done;
    check_that(c, all || none, "some of the event slots are set and some are not");
}

static void check_info(check *c)
{
    sparoa_device_info *info = &c->info;
    *info = (sparoa_device_info){.struct_size = sizeof *info};
    c->t->device_info(c->dev, info);
    check_that(c, info->name[0] && memchr(info->name, 0, sizeof info->name),
               "device_info: no name");
    check_that(c, memchr(info->description, 0, sizeof info->description) != NULL,
               "device_info: the description does not end");
    check_that(c, info->alignment && (info->alignment & (info->alignment - 1)) == 0,
               "device_info: alignment %zu is no power of two", info->alignment);
    if (info->caps & SPAROA_CAP_ASYNC)
        check_that(c, c->t->event_create != NULL, "ASYNC without events");
    if (info->caps & SPAROA_CAP_CAPTURE)
        check_that(c, c->t->capture_begin != NULL, "CAPTURE without its slots");
    if (info->caps & SPAROA_CAP_TIMED_EVENTS)
        check_that(c, c->t->event_elapsed_ns != NULL, "TIMED_EVENTS without event_elapsed_ns");
    sparoa_device_status status = {.struct_size = sizeof status};
    if (c->t->device_status)
        check_that(c, c->t->device_status(c->dev, &status) == SPAROA_OK && status.load <= 1,
                   "device_status fails, or its load is above 1");
}

/* ---- memory and copies ---- */

#define FLOATS 10007

typedef struct floats {
    float v[FLOATS];
} floats;

static float *device_floats(check *c)
{
    void *p = NULL;
    sparoa_status s = c->t->buffer_alloc(c->dev, sizeof(floats), SPAROA_MEMORY_DEVICE, &p);
    check_that(c, s == SPAROA_OK && p, "buffer_alloc: %s", sparoa_status_name(s));
    return p;
}

static void free_floats(check *c, float *p)
{
    c->t->buffer_free(c->dev, p, sizeof(floats), SPAROA_MEMORY_DEVICE);
}

static void number(floats *f, float from)
{
    for (int i = 0; i < FLOATS; i++) f->v[i] = from + (float)i;
}

static void check_memory(check *c)
{
    static const size_t sizes[] = {0, 1, 63, 64, 4096, 100000};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    for (int kind = SPAROA_MEMORY_DEVICE; kind <= SPAROA_MEMORY_UNIFIED; kind++) {
        void *p[COUNT] = {NULL};
        sparoa_status s = SPAROA_OK;
        for (int i = 0; i < COUNT && s == SPAROA_OK; i++)
            s = c->t->buffer_alloc(c->dev, sizes[i], (sparoa_memory_kind)kind, &p[i]);
        if (kind == SPAROA_MEMORY_DEVICE)
            check_that(c, s == SPAROA_OK, "buffer_alloc: %s", sparoa_status_name(s));
        for (int i = 1; i < COUNT && s == SPAROA_OK; i++) {
            check_that(c, (uintptr_t)p[i] % c->info.alignment == 0,
                       "a buffer of kind %d is not aligned to %zu", kind, c->info.alignment);
            for (int k = 1; k < i; k++)
                check_that(c,
                           (char *)p[k] + sizes[k] <= (char *)p[i] ||
                               (char *)p[i] + sizes[i] <= (char *)p[k],
                           "two buffers of kind %d overlap", kind);
        }
        for (int i = 0; i < COUNT; i++)
            if (p[i]) c->t->buffer_free(c->dev, p[i], sizes[i], (sparoa_memory_kind)kind);
    }
    c->t->buffer_free(c->dev, NULL, 0, SPAROA_MEMORY_DEVICE);
    c->t->queue_destroy(NULL);
}

/* Host to device, device to device at odd offsets, back. */
static void check_copies(check *c)
{
    floats *x = malloc(sizeof *x), *y = calloc(1, sizeof *y);
    float *a = device_floats(c), *b = device_floats(c);
    bool ok = x && y && a && b;
    if (ok) number(x, 1);
    ok = ok && !c->t->copy(c->queues[0], a, x, sizeof *x) &&
         !c->t->copy(c->queues[0], b, a, sizeof *x) &&
         !c->t->copy(c->queues[0], b + 3, a + 5, 1001 * sizeof *a) &&
         !c->t->copy(c->queues[0], b, a, 0) && !c->t->copy(c->queues[0], y, b, sizeof *y) &&
         !c->t->queue_sync(c->queues[0]);
    check_that(c, ok, "a copy, or the wait for it, failed");
    for (int i = 0; i < FLOATS && ok; i++)
        ok = y->v[i] == (i >= 3 && i < 1004 ? x->v[i + 2] : x->v[i]);
    check_that(c, ok, "copies give other bytes than were given");
    free_floats(c, a);
    free_floats(c, b);
    free(x);
    free(y);
}

/* ---- order ---- */

static void count_call(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

/* Two queues that read what the other wrote, ordered by events alone. */
static void check_events(check *c)
{
    sparoa_event *e[2] = {NULL, NULL};
    floats *x = malloc(sizeof *x), *y = calloc(1, sizeof *y);
    float *a = device_floats(c), *b = device_floats(c);
    bool ok = x && y && a && b;
    for (int i = 0; i < 2 && ok; i++) ok = !c->t->event_create(c->dev, &e[i]);
    check_that(c, ok, "event_create failed");
    for (int i = 0; i < 20 && ok; i++) {
        number(x, (float)i);
        ok = !c->t->copy(c->queues[0], a, x, sizeof *x) &&
             !c->t->event_record(e[0], c->queues[0]) && !c->t->event_wait(e[0], c->queues[1]) &&
             !c->t->copy(c->queues[1], b, a, sizeof *x) &&
             !c->t->event_record(e[1], c->queues[1]) && !c->t->event_wait(e[1], c->queues[0]) &&
             !c->t->copy(c->queues[0], y, b, sizeof *y) &&
             !c->t->event_record(e[0], c->queues[0]) && !c->t->event_sync(e[0]);
        if (!check_that(c, ok, "a call on events failed")) break;
        check_that(c, c->t->event_done(e[0]) && c->t->event_done(e[1]),
                   "an event is not done after it was waited for");
        ok = check_that(c, memcmp(x, y, sizeof *x) == 0, "events do not order two queues");
        if (c->info.caps & SPAROA_CAP_TIMED_EVENTS)
            check_that(c, c->t->event_elapsed_ns(e[1], e[0]) >= 0, "time runs backwards");
    }
    for (int i = 0; i < 2; i++) c->t->queue_sync(c->queues[i]);
    for (int i = 0; i < 2; i++) c->t->event_destroy(e[i]);
    free_floats(c, a);
    free_floats(c, b);
    free(x);
    free(y);
}

static void check_calls(check *c)
{
    atomic_int called = 0;
    bool ok = true;
    for (int i = 0; i < 10; i++) ok = ok && !c->t->host_call(c->queues[i % 2], count_call, &called);
    for (int i = 0; i < 2; i++) ok = ok && !c->t->queue_sync(c->queues[i]);
    check_that(c, ok && atomic_load(&called) == 10, "10 host calls were made %d times",
               atomic_load(&called));
}

static void check_capture(check *c)
{
    sparoa_capture *capture = NULL;
    floats *x = calloc(1, sizeof *x), *y = calloc(1, sizeof *y);
    float *a = device_floats(c);
    bool ok = x && y && a && !c->t->capture_begin(c->queues[0]) &&
              !c->t->copy(c->queues[0], a, x, sizeof *x) &&
              !c->t->copy(c->queues[0], y, a, sizeof *y) &&
              !c->t->capture_end(c->queues[0], &capture);
    check_that(c, ok && capture, "a capture of two copies failed");
    for (int i = 0; i < 3 && ok; i++) {
        number(x, (float)(100 * i));
        ok = !c->t->capture_launch(capture, c->queues[0]) && !c->t->queue_sync(c->queues[0]);
        check_that(c, ok && memcmp(x, y, sizeof *x) == 0, "a capture does not replay its copies");
    }
    c->t->capture_destroy(capture);
    free_floats(c, a);
    free(x);
    free(y);
}

/* ---- everything about one device ---- */

static void check_balance(check *c, const char *when)
{
    check_that(c, atomic_load(&c->h.blocks) == 0 && atomic_load(&c->h.bytes) == 0,
               "%s: %ld blocks, %ld bytes of the host's memory were not given back", when,
               atomic_load(&c->h.blocks), atomic_load(&c->h.bytes));
}

static bool check_device(check *c, int32_t index)
{
    sparoa_status s = c->t->device_open(&c->h.host, index, c->options, &c->dev, &c->h.err);
    if (!check_that(c, s == SPAROA_OK, "device %d does not open: %s", index, c->h.err.message))
        return false;
    for (int i = 0; i < 2; i++)
        check_that(c, !c->t->queue_create(c->dev, 0, &c->queues[i]), "queue_create failed");
    if (c->queues[0] && c->queues[1]) {
        check_info(c);
        check_memory(c);
        check_copies(c);
        if (c->t->event_create) check_events(c);
        if (c->t->host_call) check_calls(c);
        if (c->info.caps & SPAROA_CAP_CAPTURE) check_capture(c);
        check_nodes(c);
    }
    for (int i = 0; i < 2; i++) {
        c->t->queue_destroy(c->queues[i]);
        c->queues[i] = NULL;
    }
    c->t->device_close(c->dev);
    check_balance(c, "after the device was closed");
    return true;
}

/* Memory of the host runs out at the n-th allocation of opening a device and a queue. */
static void check_no_memory(check *c)
{
    sparoa_status s = SPAROA_OUT_OF_MEMORY;
    for (long at = 1; s != SPAROA_OK && at < 1000; at++) {
        sparoa_dev *dev = NULL;
        sparoa_queue *queue = NULL;
        atomic_store(&c->h.calls, 0);
        atomic_store(&c->h.fail_at, at);
        s = c->t->device_open(&c->h.host, 0, c->options, &dev, &c->h.err);
        if (s == SPAROA_OK) s = c->t->queue_create(dev, 0, &queue);
        check_that(c, s == SPAROA_OK || s == SPAROA_OUT_OF_MEMORY || s == SPAROA_MEMORY_LIMIT,
                   "allocation %ld of the host failed: %s", at, sparoa_status_name(s));
        atomic_store(&c->h.fail_at, 0);
        if (queue) c->t->queue_destroy(queue);
        if (dev) c->t->device_close(dev);
        check_balance(c, "after an allocation failed");
    }
}

int main(int argc, char **argv)
{
    check c = {.options = argc > 2 ? argv[2] : NULL};
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: plugin_check PATH.so [OPTIONS]\n");
        return 2;
    }
    plugin_host_init(&c.h);
    if (sp_plugin_load(argv[1], &c.h.host, &c.t, &c.h.err) != SPAROA_OK) {
        fprintf(stderr, "%s\n", c.h.err.message);
        return 2;
    }
    int32_t count = c.t->device_count(&c.h.host);
    printf("%s %s: %d device(s)\n", c.t->name, c.t->version, count);
    check_query(&c, argv[1]);
    check_table(&c);
    check_that(&c, count > 0, "probe is content, but there is no device");
    sparoa_dev *none = NULL;
    check_that(&c, c.t->device_open(&c.h.host, count, c.options, &none, &c.h.err) != SPAROA_OK,
               "device %d opens, but there are only %d", count, count);
    for (int32_t i = 0; i < count; i++) check_device(&c, i);
    if (count > 0) check_no_memory(&c);
    printf("%d checks passed, %d failed\n", c.passed, c.failed);
    return c.failed ? 1 : 0;
}
