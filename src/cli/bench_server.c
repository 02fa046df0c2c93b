#include "cli/bench_server.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_PREFERRED 64
#define WARMUP_BATCHES 3

void sp_server_bench_args(sp_server_bench *b, sp_arg *rows)
{
    const sp_arg table[SP_SERVER_BENCH_ROWS] = {
        {SP_ARG_NUMBER, 0, "rate", &b->rate, "R",
         "server: requests per second, at random times (default: half of what is possible one by "
         "one)",
         0, 0, NULL},
        {SP_ARG_INT, 0, "max-batch", &b->max_batch, "N", "server: requests in a batch (default: 1)",
         1, 4096, NULL},
        {SP_ARG_NUMBER, 0, "delay", &b->delay_ms, "MS",
         "server: how long a request may wait for others (default: 0)", 0, 0, NULL},
        {SP_ARG_STRING, 0, "preferred", &b->preferred, "A,B",
         "server: batch sizes to release at once", 0, 0, NULL},
        {SP_ARG_INT, 0, "workers", &b->workers, "N", "server: batches at once (default: 1)", 1, 256,
         NULL},
        {SP_ARG_NUMBER, 0, "deadline", &b->deadline_ms, "MS",
         "server: give up requests after this time", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "objective", &b->objective_ms, "MS",
         "server: latency that batches are formed for", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "p99", &b->p99_ms, "MS", "server: fail if the 99th percentile is above",
         0, 0, NULL},
        {SP_ARG_INT, 0, "arrivals", &b->seed, "SEED", "server: seed of the arrival times", 0,
         INT64_MAX, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    memcpy(rows, table, sizeof table);
}

/* ---- the load ---- */

typedef struct load {
    sp_server_bench *bench;
    const sp_job *job;
    sparoa_service *service;
    pthread_mutex_t mutex;
    sp_samples *samples; /* guarded by it */
    _Atomic int64_t ended, failed;
    sparoa_error err; /* of the first that failed */
} load;

typedef struct shot { /* one request */
    load *load;
    int64_t due_ns;
} shot;

static void answered(void *user, sparoa_request *request, sparoa_status status)
{
    shot *s = user;
    load *l = s->load;
    int64_t now = sparoa_now_ns();
    pthread_mutex_lock(&l->mutex);
    if (status == SPAROA_OK)
        sp_samples_add(l->samples, (double)(now - s->due_ns));
    else if (status == SPAROA_DEADLINE)
        l->bench->late++;
    else if (l->failed++ == 0)
        sparoa_request_error(request, &l->err);
    pthread_mutex_unlock(&l->mutex);
    sparoa_request_release(request);
    atomic_fetch_add(&l->ended, 1);
}

/* Time to the next arrival: exponential, from a counter-based generator. */
static int64_t gap_ns(uint64_t *state, double rate)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    double u = (double)((z ^ z >> 31) >> 11) * 0x1p-53;
    return (int64_t)(-log1p(-u) / rate * 1e9);
}

static void sleep_until(int64_t ns)
{
    struct timespec at = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) continue;
}

static void drain(load *l, int64_t sent)
{
    while (atomic_load(&l->ended) < sent) sleep_until(sparoa_now_ns() + 200000);
}

static int generate(const sp_cli *cli, load *l, double seconds)
{
    sp_server_bench *b = l->bench;
    size_t room = (size_t)(b->rate * seconds * 1.5) + 1000;
    shot *shots = calloc(room, sizeof *shots);
    if (!shots) return sp_cli_fail(cli, SP_EXIT_FAIL, "no memory");
    uint64_t state = (uint64_t)b->seed;
    int64_t begin = sparoa_now_ns(), due = begin, end = begin + (int64_t)(seconds * 1e9);
    sparoa_submit_options o = {.struct_size = sizeof o, .done = answered};
    while ((due += gap_ns(&state, b->rate)) < end && (size_t)b->sent < room) {
        sparoa_request *request;
        sparoa_error err;
        shot *s = &shots[b->sent++];
        *s = (shot){l, due};
        o.user = s;
        o.deadline_ns = b->deadline_ms > 0 ? due + (int64_t)(b->deadline_ms * 1e6) : 0;
        if (due > sparoa_now_ns()) sleep_until(due);
        sparoa_status status = sparoa_submit(l->service, l->job->inputs.items, l->job->inputs.count,
                                             NULL, 0, &o, &request, &err);
        if (status == SPAROA_OK) continue;
        atomic_fetch_add(&l->ended, 1);
        if (status == SPAROA_QUEUE_FULL)
            b->refused++;
        else if (atomic_fetch_add(&l->failed, 1) == 0)
            l->err = err;
    }
    drain(l, b->sent);
    b->seconds = (double)(sparoa_now_ns() - begin) * 1e-9;
    free(shots);
    return atomic_load(&l->failed) ? sp_cli_error(cli, "request", &l->err) : -1;
}

/* ---- the server ---- */

static bool read_preferred(const char *text, int32_t *sizes, size_t *count)
{
    for (*count = 0; text && *text && *count < MAX_PREFERRED;) {
        char *end;
        long v = strtol(text, &end, 10);
        if (end == text || v < 1 || v > 4096 || (*end && *end != ',')) return false;
        sizes[(*count)++] = (int32_t)v;
        text = *end ? end + 1 : end;
    }
    return true;
}

/* Meets every batch size once, so that planning is not measured, and times one by one. */
static int warm_up(const sp_cli *cli, load *l, double *one_ns)
{
    sparoa_error err = {0};
    sparoa_request *request;
    const sp_inputs *in = &l->job->inputs;
    if (sparoa_service_prepare(l->service, in->items, in->count, &err))
        return sp_job_fault(cli, l->job, "prepare", &err);
    for (int i = 0; i < WARMUP_BATCHES + 5; i++) {
        int64_t start = sparoa_now_ns();
        if (sparoa_submit(l->service, in->items, in->count, NULL, 0, NULL, &request, &err))
            return sp_cli_error(cli, "submit", &err);
        sparoa_service_flush(l->service);
        sparoa_status status = sparoa_request_wait(request, &err);
        sparoa_request_release(request);
        if (status) return sp_cli_error(cli, "request", &err);
        double ns = (double)(sparoa_now_ns() - start);
        if (i >= WARMUP_BATCHES && ns < *one_ns) *one_ns = ns;
    }
    return -1;
}

static int serve(const sp_cli *cli, load *l, double seconds)
{
    sp_server_bench *b = l->bench;
    double one_ns = INFINITY;
    int code = warm_up(cli, l, &one_ns);
    if (code >= 0) return code;
    if (b->rate <= 0) b->rate = 0.5e9 / one_ns * (double)b->workers;
    sparoa_service_info before;
    sparoa_service_get_info(l->service, &before);
    code = generate(cli, l, seconds);
    sparoa_service_get_info(l->service, &b->info);
    /* without the warm-up */
    b->info.batches -= before.batches;
    b->info.items -= before.items;
    b->info.queue_ns -= before.queue_ns;
    b->info.gather_ns -= before.gather_ns;
    b->info.run_ns -= before.run_ns;
    b->info.scatter_ns -= before.scatter_ns;
    for (int i = 0; i < SPAROA_RELEASE_COUNT; i++) b->info.by_release[i] -= before.by_release[i];
    for (int32_t n = 1; n <= b->max_batch; n++)
        sparoa_service_batches(l->service, n, &b->sizes[n].count, &b->sizes[n].mean_ns);
    b->done = (int64_t)l->samples->count;
    return code;
}

int sp_server_bench_run(const sp_cli *cli, const sp_job *job, double seconds,
                        const sparoa_session_options *options, sp_server_bench *b,
                        sp_samples *samples)
{
    int32_t preferred[MAX_PREFERRED];
    sparoa_batch_policy policy = {.struct_size = sizeof policy,
                                  .max_batch = (int32_t)b->max_batch,
                                  .preferred_sizes = preferred,
                                  .max_queue_delay_ns = (int64_t)(b->delay_ms * 1e6),
                                  .latency_objective_ns = (int64_t)(b->objective_ms * 1e6)};
    if (!read_preferred(b->preferred, preferred, &policy.preferred_count))
        return sp_cli_fail(cli, SP_EXIT_USAGE, "--preferred takes sizes separated by commas");
    sparoa_server_options so = {.struct_size = sizeof so, .threads = (int32_t)b->workers};
    sparoa_service_options o = {.struct_size = sizeof o,
                                .session = options,
                                .instances = (int32_t)b->workers,
                                .max_requests = 1000000,
                                .batch = b->max_batch > 1 ? &policy : NULL};
    load l = {.bench = b, .job = job, .samples = samples};
    sparoa_server *server = NULL;
    sparoa_error err = {0};
    b->sizes = calloc((size_t)b->max_batch + 1, sizeof *b->sizes);
    if (!b->sizes) return sp_cli_fail(cli, SP_EXIT_FAIL, "no memory");
    pthread_mutex_init(&l.mutex, NULL);
    int code = -1;
    if (sparoa_server_create(job->runtime, &so, &server, &err) ||
        sparoa_service_create(server, job->model, &o, &l.service, &err))
        code = sp_cli_error(cli, "server", &err);
    if (code < 0) code = serve(cli, &l, seconds);
    sparoa_server_destroy(server);
    pthread_mutex_destroy(&l.mutex);
    return code;
}

/* ---- results ---- */

static double per_batch(const sp_server_bench *b, int64_t ns)
{
    return b->info.batches ? (double)ns * 1e-6 / (double)b->info.batches : 0;
}

void sp_server_bench_text(const sp_server_bench *b, const sp_stats *ns)
{
    const sparoa_service_info *i = &b->info;
    printf("server      %.1f requests per second asked for, %.1f answered: %lld of %lld, %lld "
           "refused, %lld late\n",
           b->rate, (double)b->done / b->seconds, (long long)b->done, (long long)b->sent,
           (long long)b->refused, (long long)b->late);
    printf("batches     %lld, %.2f requests each; queued %.3f ms, gather %.3f, run %.3f, scatter "
           "%.3f ms\n",
           (long long)i->batches, i->batches ? (double)i->items / (double)i->batches : 0,
           b->done ? (double)i->queue_ns * 1e-6 / (double)b->done : 0, per_batch(b, i->gather_ns),
           per_batch(b, i->run_ns), per_batch(b, i->scatter_ns));
    printf("released   ");
    for (int k = 0; k < SPAROA_RELEASE_COUNT; k++)
        if (i->by_release[k])
            printf(" %s %lld", sparoa_release_name((sparoa_release)k), (long long)i->by_release[k]);
    printf("\n");
    for (int64_t n = 1; n <= b->max_batch && b->max_batch > 1; n++)
        if (b->sizes[n].count)
            printf("  batch %4lld  %8lld times  %.3f ms\n", (long long)n,
                   (long long)b->sizes[n].count, (double)b->sizes[n].mean_ns * 1e-6);
    if (b->p99_ms > 0)
        printf("p99         %.3f ms, %.3f allowed: %s\n", ns->p99 * 1e-6, b->p99_ms,
               ns->p99 * 1e-6 <= b->p99_ms ? "PASSED" : "FAILED");
}

void sp_server_bench_json(sp_json *j, const sp_server_bench *b, const sp_stats *ns)
{
    const sparoa_service_info *i = &b->info;
    sp_json_object(j, "server");
    sp_json_number(j, "rate", b->rate);
    sp_json_number(j, "answered_per_second", (double)b->done / b->seconds);
    sp_json_int(j, "sent", b->sent);
    sp_json_int(j, "answered", b->done);
    sp_json_int(j, "refused", b->refused);
    sp_json_int(j, "late", b->late);
    sp_json_int(j, "max_batch", b->max_batch);
    sp_json_number(j, "delay_ms", b->delay_ms);
    sp_json_int(j, "workers", b->workers);
    sp_json_number(j, "p99_ms_allowed", b->p99_ms);
    sp_json_int(j, "kept", !(b->p99_ms > 0) || ns->p99 * 1e-6 <= b->p99_ms);
    sp_json_int(j, "batches", i->batches);
    sp_json_number(j, "gather_ms", per_batch(b, i->gather_ns));
    sp_json_number(j, "run_ms", per_batch(b, i->run_ns));
    sp_json_number(j, "scatter_ms", per_batch(b, i->scatter_ns));
    sp_json_flat_object(j, "released");
    for (int k = 0; k < SPAROA_RELEASE_COUNT; k++)
        sp_json_int(j, sparoa_release_name((sparoa_release)k), i->by_release[k]);
    sp_json_end_object(j);
    sp_json_array(j, "sizes");
    for (int64_t n = 1; n <= b->max_batch; n++) {
        if (!b->sizes[n].count) continue;
        sp_json_flat_object(j, NULL);
        sp_json_int(j, "items", n);
        sp_json_int(j, "count", b->sizes[n].count);
        sp_json_number(j, "mean_ms", (double)b->sizes[n].mean_ns * 1e-6);
        sp_json_end_object(j);
    }
    sp_json_end_array(j);
    sp_json_end_object(j);
}

void sp_server_bench_free(sp_server_bench *b)
{
    free(b->sizes);
    b->sizes = NULL;
}
