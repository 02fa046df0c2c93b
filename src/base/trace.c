#include "base/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sparoa_backend.h"

void sp_trace_init(sp_trace *trace, const sparoa_allocator *alloc)
{
    *trace = (sp_trace){.alloc = *alloc};
    atomic_init(&trace->on, false);
    atomic_init(&trace->next, 0);
    atomic_init(&trace->writers, 0);
    atomic_init(&trace->spans, 0);
}

/* ---- arrays ---- */

static size_t bytes_of(size_t capacity)
{
    return sizeof(sp_trace_array) + capacity * sizeof(sp_trace_event);
}

static void array_free(const sp_trace *trace, sp_trace_array *a)
{
    sp_free(&trace->alloc, a, bytes_of(a->capacity));
}

void sp_trace_destroy(sp_trace *trace)
{
    for (sp_trace_array *a = trace->array, *older; a; a = older) {
        older = a->older;
        array_free(trace, a);
    }
    trace->array = NULL;
}

static bool awaited(sp_trace_array *a)
{
    for (size_t i = 0; i < a->capacity; i++)
        if (atomic_load_explicit(&a->events[i].state, memory_order_acquire) == SP_TRACE_OPEN)
            return true;
    return false;
}

/* Frees what no device will write to any more, but for one that is large enough: it is returned. */
static sp_trace_array *sweep(sp_trace *trace, size_t max_events)
{
    sp_trace_array *good = NULL;
    for (sp_trace_array **at = &trace->array; *at;) {
        sp_trace_array *a = *at;
        if (awaited(a)) {
            at = &a->older;
            continue;
        }
        *at = a->older;
        if (!good && a->capacity >= max_events)
            good = a;
        else
            array_free(trace, a);
    }
    for (size_t i = 0; good && i < good->capacity; i++)
        if (atomic_load(&good->events[i].state) != SP_TRACE_FREE)
            atomic_store(&good->events[i].state, SP_TRACE_FREE);
    return good;
}

sparoa_status sp_trace_start(sp_trace *trace, size_t max_events, sparoa_error *err)
{
    atomic_store(&trace->on, false);
    while (atomic_load(&trace->writers) > 0) sched_yield();
    atomic_store(&trace->next, 0);
    trace->limit = 0;
    sp_trace_array *a = sweep(trace, max_events);
    if (!a) {
        a = sp_calloc(&trace->alloc, 1, bytes_of(max_events));
        if (!a) return sp_no_memory(&trace->alloc, bytes_of(max_events), err);
        a->capacity = max_events;
    }
    a->older = trace->array;
    trace->array = a;
    trace->limit = max_events;
    trace->start_ns = sp_now_ns();
    atomic_store(&trace->on, true);
    return SPAROA_OK;
}

void sp_trace_stop(sp_trace *trace)
{
    atomic_store(&trace->on, false);
}

size_t sp_trace_count(const sp_trace *trace, size_t *dropped)
{
    size_t asked = atomic_load(&trace->next);
    size_t kept = asked < trace->limit ? asked : trace->limit;
    if (dropped) *dropped = asked - kept;
    return kept;
}

/* ---- recording ---- */

static void copy_text(char *to, size_t size, const char *from)
{
    size_t n = from ? strnlen(from, size - 1) : 0;
    if (n) memcpy(to, from, n);
    to[n] = '\0';
}

/* By a writer. */
static sp_trace_event *take(sp_trace *trace, sp_trace_kind kind, const char *name, const char *what)
{
    if (!atomic_load(&trace->on)) return NULL;
    size_t i = atomic_fetch_add_explicit(&trace->next, 1, memory_order_relaxed);
    if (i >= trace->limit) return NULL;
    sp_trace_event *e = &trace->array->events[i];
    e->kind = kind;
    copy_text(e->name, sizeof e->name, name);
    copy_text(e->what, sizeof e->what, what);
    return e;
}

void sp_trace_add(sp_trace *trace, sp_trace_kind kind, const char *name, const char *what,
                  int64_t start_ns, int64_t end_ns, int64_t id, int64_t value)
{
    if (!trace) return;
    atomic_fetch_add(&trace->writers, 1);
    sp_trace_event *e = take(trace, kind, name, what);
    if (e) {
        e->lane = (uint64_t)pthread_self();
        e->start_ns = start_ns;
        e->end_ns = end_ns;
        e->id = id;
        e->value = value;
        atomic_store_explicit(&e->state, SP_TRACE_DONE, memory_order_release);
    }
    atomic_fetch_sub(&trace->writers, 1);
}

sp_trace_event *sp_trace_begin(sp_trace *trace, sp_trace_kind kind, const char *name,
                               const char *what, const void *queue, int64_t value)
{
    if (!trace) return NULL;
    atomic_fetch_add(&trace->writers, 1);
    sp_trace_event *e = take(trace, kind, name, what);
    if (e) {
        e->lane = (uint64_t)(uintptr_t)queue;
        e->start_ns = sp_now_ns();
        e->id = 0;
        e->value = value;
        atomic_store_explicit(&e->state, SP_TRACE_OPEN, memory_order_release);
    }
    atomic_fetch_sub(&trace->writers, 1);
    return e;
}

void sp_trace_reached(void *event)
{
    sp_trace_event *e = event;
    if (e) e->start_ns = sp_now_ns();
}

void sp_trace_end(void *event)
{
    sp_trace_event *e = event;
    if (!e) return;
    e->end_ns = sp_now_ns();
    atomic_store_explicit(&e->state, SP_TRACE_DONE, memory_order_release);
}

/* ---- writing ---- */

static const struct {
    const char *category, *value;
} kinds[SP_TRACE_KINDS] = {
    [SP_TRACE_RUN] = {"run", NULL},
    [SP_TRACE_NODE] = {"node", "node"},
    [SP_TRACE_TASKS] = {"tasks", NULL},
    [SP_TRACE_STREAM] = {"stream", "node"},
    [SP_TRACE_COPY] = {"copy", "bytes"},
    [SP_TRACE_BATCH] = {"batch", "items"},
    [SP_TRACE_GATHER] = {"gather", "items"},
    [SP_TRACE_QUEUED] = {"request", NULL},
    [SP_TRACE_REQUEST] = {"request", "batch_items"},
};

static void write_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(file, "\\%c", *p);
        else if (*p < 0x20 || *p >= 0x7f) /* names may be cut in the middle of a character */
            fprintf(file, "\\u%04x", *p < 0x20 ? *p : '?');
        else
            fputc(*p, file);
    }
    fputc('"', file);
}

static bool of_queue(const sp_trace_event *e)
{
    return e->kind == SP_TRACE_STREAM || e->kind == SP_TRACE_COPY;
}

typedef struct lane {
    uint64_t key;
    bool queue, serves, calls, works;
    int64_t last_end; /* queues */
    char device[24];
} lane;

typedef struct lanes {
    lane *items;
    size_t count, capacity;
} lanes;

static lane *lane_of(const sp_trace *trace, lanes *l, const sp_trace_event *e)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->items[i].key == e->lane && l->items[i].queue == of_queue(e)) return &l->items[i];
    if (!sp_grow(&trace->alloc, &l->items, &l->capacity, l->count + 1, sizeof *l->items))
        return NULL;
    lane *made = &l->items[l->count++];
    *made = (lane){.key = e->lane, .queue = of_queue(e), .last_end = INT64_MIN};
    return made;
}

/* Requests are not on a lane: they overlap. */
static bool spans(const sp_trace_event *e)
{
    return e->kind == SP_TRACE_QUEUED || e->kind == SP_TRACE_REQUEST;
}

static double us(const sp_trace *trace, int64_t ns)
{
    return (double)(ns - trace->start_ns) * 1e-3;
}

static void write_head(FILE *file, const sp_trace_event *e, const char *phase, size_t thread,
                       double at)
{
    fprintf(file,
            ",\n{\"ph\":\"%s\",\"pid\":1,\"tid\":%zu,\"cat\":\"%s\",\"ts\":%.3f,\"name\":", phase,
            thread, kinds[e->kind].category, at);
}

static void write_span(const sp_trace *trace, FILE *file, const sp_trace_event *e)
{
    const char *name = e->kind == SP_TRACE_QUEUED ? "queued" : "running";
    write_head(file, e, "b", 0, us(trace, e->start_ns));
    write_text(file, name);
    fprintf(file, ",\"id\":%" PRId64 ",\"args\":{\"model\":", e->id);
    write_text(file, e->name);
    fprintf(file, ",\"status\":");
    write_text(file, e->what);
    if (kinds[e->kind].value) fprintf(file, ",\"%s\":%" PRId64, kinds[e->kind].value, e->value);
    fprintf(file, "}}");
    write_head(file, e, "e", 0, us(trace, e->end_ns));
    write_text(file, name);
    fprintf(file, ",\"id\":%" PRId64 "}", e->id);
}

static void write_slice(const sp_trace *trace, FILE *file, const sp_trace_event *e, lane *on,
                        size_t thread)
{
    int64_t start = e->start_ns;
    if (on->queue && on->last_end > start) start = on->last_end;
    if (start > e->end_ns) start = e->end_ns;
    on->last_end = e->end_ns;
    write_head(file, e, "X", thread, us(trace, start));
    write_text(file, e->name);
    fprintf(file, ",\"dur\":%.3f,\"args\":{", (double)(e->end_ns - start) * 1e-3);
    if (kinds[e->kind].value) fprintf(file, "\"%s\":%" PRId64 ",", kinds[e->kind].value, e->value);
    fprintf(file, "\"what\":");
    write_text(file, e->what);
    fprintf(file, "}}");
}

static void write_name(FILE *file, const lane *l, size_t thread, size_t number)
{
    char name[64];
    if (l->queue)
        snprintf(name, sizeof name, "%s queue %zu", l->device, number);
    else
        snprintf(name, sizeof name, "cpu %s %zu",
                 l->serves  ? "server"
                 : l->calls ? "caller"
                 : l->works ? "worker"
                            : "thread",
                 number);
    fprintf(file,
            ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%zu,\"name\":\"thread_name\",\"args\":{\"name\":",
            thread);
    write_text(file, name);
    fprintf(file,
            "}},\n{\"ph\":\"M\",\"pid\":1,\"tid\":%zu,\"name\":\"thread_sort_index\",\"args\":"
            "{\"sort_index\":%zu}}",
            thread, thread);
}

/* Notes on each lane what it is by what lies on it. */
static void classify(lane *on, const sp_trace_event *e)
{
    on->serves |= e->kind == SP_TRACE_BATCH;
    on->calls |= e->kind == SP_TRACE_RUN;
    on->works |= e->kind == SP_TRACE_TASKS;
    if (of_queue(e)) memcpy(on->device, e->what, sizeof on->device);
}

static bool write_events(const sp_trace *trace, FILE *file, lanes *l, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const sp_trace_event *e = &trace->array->events[i];
        if (atomic_load_explicit(&e->state, memory_order_acquire) != SP_TRACE_DONE) continue;
        if (spans(e)) {
            write_span(trace, file, e);
            continue;
        }
        lane *on = lane_of(trace, l, e);
        if (!on) return false;
        classify(on, e);
        write_slice(trace, file, e, on, 1 + (size_t)(on - l->items));
    }
    for (size_t i = 0; i < l->count; i++) write_name(file, &l->items[i], i + 1, i + 1);
    return true;
}

sparoa_status sp_trace_save(const sp_trace *trace, const char *path, sparoa_error *err)
{
    size_t dropped, count = sp_trace_count(trace, &dropped);
    lanes l = {0};
    FILE *file = fopen(path, "w");
    if (!file)
        return sparoa_fail(err, errno == ENOENT ? SPAROA_NOT_FOUND : SPAROA_IO, NULL,
                           "cannot write '%.200s': %s", path, strerror(errno));
    fprintf(file,
            "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"producer\":\"sparoa %s\",\"events\":%zu,"
            "\"dropped\":%zu},\"traceEvents\":[\n"
            "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"sparoa\"}}",
            sparoa_version(), count, dropped);
    bool good = write_events(trace, file, &l, count);
    fprintf(file, "\n]}\n");
    sp_free(&trace->alloc, l.items, l.capacity * sizeof *l.items);
    bool failed = ferror(file) != 0;
    failed |= fclose(file) != 0;
    if (!good) return sp_no_memory(&trace->alloc, sizeof *l.items, err);
    if (failed)
        return sparoa_fail(err, SPAROA_IO, NULL, "writing '%.200s' failed: %s", path,
                           strerror(errno));
    return SPAROA_OK;
}
