/* sparoa bench: latency, throughput, memory and loading time. */
#include "cli/bench_server.h"
#include "cli/choice.h"
#include "cli/stats.h"
#include "cli/system.h"
#include "sparoa_live.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct bench_command {
    sp_cli *cli;
    sp_feed feed;
    sp_job job;
    const char *scenario, *trace_path;
    sp_server_bench server;
    int64_t warmup, runs, sessions;
    double seconds;
    bool reference, energy;
    sparoa_live *live;   /* with --energy */
    sparoa_energy spent; /* in the measured part */
    sp_samples samples;  /* ns of each run */
    sp_stats stats;
    double first_ns;   /* of the first run */
    double elapsed_ns; /* offline: of the measured part */
    int64_t done;      /* runs measured */
    int64_t items;     /* first dimension of the first input: pictures in a batch */
    sparoa_session_info info;
} bench_command;

static bool offline(const bench_command *b)
{
    return !strcmp(b->scenario, "offline");
}

static bool serves(const bench_command *b)
{
    return !strcmp(b->scenario, "server");
}

/* The measured part begins or ends. */
static int energy_begin(bench_command *b)
{
    sparoa_error err;
    if (!b->energy) return -1;
    if (sparoa_live_create(b->job.runtime, NULL, &b->live, &err) ||
        sparoa_energy_start(b->live, &err))
        return sp_cli_error(b->cli, "energy", &err);
    return -1;
}

static void energy_end(bench_command *b)
{
    if (b->live) sparoa_energy_stop(b->live, &b->spent, NULL);
}

static int run_single(bench_command *b)
{
    int64_t start = sp_cli_now_ns();
    int code = sp_job_run(b->cli, &b->job);
    b->first_ns = (double)(sp_cli_now_ns() - start);
    for (int64_t i = 1; i < b->warmup && code < 0; i++) code = sp_job_run(b->cli, &b->job);
    if (code < 0) code = sp_job_trace(b->cli, &b->job, b->trace_path);
    if (code < 0) code = energy_begin(b);
    int64_t begin = sp_cli_now_ns(), limit = (int64_t)(b->seconds * 1e9);
    while (code < 0) {
        int64_t before = sp_cli_now_ns();
        bool enough = b->runs ? b->done >= b->runs : before - begin >= limit && b->done >= 10;
        if (enough) break;
        code = sp_job_run(b->cli, &b->job);
        if (code >= 0) return code;
        if (!sp_samples_add(&b->samples, (double)(sp_cli_now_ns() - before)))
            return sp_cli_fail(b->cli, SP_EXIT_FAIL, "no memory");
        b->done++;
        if (b->done % 16 == 0) sp_cli_progress(b->cli, begin, "%lld runs", (long long)b->done);
    }
    b->elapsed_ns = (double)(sp_cli_now_ns() - begin);
    energy_end(b);
    sp_cli_progress(b->cli, begin, NULL);
    return code;
}

/* ---- Offline: every thread has a session of its own ---- */

typedef struct worker {
    bench_command *bench;
    pthread_t thread;
    sparoa_session *session;
    sparoa_tensor *outputs;
    sp_samples samples;
    sparoa_error err;
    pthread_barrier_t *start;
    _Atomic int64_t *left; /* runs still to do; negative limits are those by time */
    int64_t limit_ns;
} worker;

static bool run_worker(worker *w)
{
    const sp_job *job = &w->bench->job;
    memset(w->outputs, 0, job->output_count * sizeof *w->outputs);
    return !sparoa_session_run(w->session, job->inputs.items, job->inputs.count, w->outputs,
                               job->output_count, &w->err);
}

static void *work(void *arg)
{
    worker *w = arg;
    bool good = true;
    for (int64_t i = 0; i < w->bench->warmup && good; i++) good = run_worker(w);
    pthread_barrier_wait(w->start);
    int64_t begin = sp_cli_now_ns();
    while (good) {
        int64_t before = sp_cli_now_ns();
        if (w->bench->runs ? atomic_fetch_sub(w->left, 1) <= 0 : before - begin >= w->limit_ns)
            break;
        good = run_worker(w) && sp_samples_add(&w->samples, (double)(sp_cli_now_ns() - before));
    }
    return NULL;
}

static bool open_workers(bench_command *b, worker *workers, pthread_barrier_t *barrier,
                         _Atomic int64_t *left)
{
    sparoa_session_options options = {.struct_size = sizeof options, .reference = b->reference};
    sp_cli_device(b->cli, &options);
    options.plan = b->job.plan;
    for (int64_t i = 0; i < b->sessions; i++) {
        worker *w = &workers[i];
        w->bench = b;
        w->start = barrier;
        w->left = left;
        w->limit_ns = (int64_t)(b->seconds * 1e9);
        w->outputs = calloc(b->job.output_count + 1, sizeof *w->outputs);
        if (!w->outputs || sparoa_session_create(b->job.model, &options, &w->session, &w->err)) {
            sp_cli_error(b->cli, "session", &w->err);
            return false;
        }
    }
    return true;
}

static int gather(bench_command *b, worker *workers)
{
    int code = -1;
    for (int64_t i = 0; i < b->sessions; i++) {
        worker *w = &workers[i];
        if (w->err.status) code = sp_cli_error(b->cli, "run", &w->err);
        for (size_t k = 0; k < w->samples.count; k++)
            sp_samples_add(&b->samples, w->samples.items[k]);
    }
    b->done = (int64_t)b->samples.count;
    return code;
}

static int run_offline(bench_command *b)
{
    worker *workers = calloc((size_t)b->sessions, sizeof *workers);
    pthread_barrier_t barrier;
    _Atomic int64_t left = b->runs;
    if (!workers || pthread_barrier_init(&barrier, NULL, (unsigned)b->sessions + 1)) {
        free(workers);
        return sp_cli_fail(b->cli, SP_EXIT_FAIL, "no memory");
    }
    int code = open_workers(b, workers, &barrier, &left) ? -1 : SP_EXIT_FAIL;
    int64_t started = 0;
    while (code < 0 && started < b->sessions &&
           !pthread_create(&workers[started].thread, NULL, work, &workers[started]))
        started++;
    if (code < 0 && started < b->sessions) {
        /* Those that started wait at the barrier for ever: end the process. */
        exit(sp_cli_fail(b->cli, SP_EXIT_FAIL, "cannot start thread %lld", (long long)started));
    }
    if (code < 0) {
        code = sp_job_trace(b->cli, &b->job, b->trace_path);
        pthread_barrier_wait(&barrier);
        if (code < 0) code = energy_begin(b);
        int64_t begin = sp_cli_now_ns();
        for (int64_t i = 0; i < started; i++) pthread_join(workers[i].thread, NULL);
        b->elapsed_ns = (double)(sp_cli_now_ns() - begin);
        energy_end(b);
        int failed = gather(b, workers);
        if (code < 0) code = failed;
    }
    for (int64_t i = 0; i < b->sessions; i++) {
        sparoa_session_destroy(workers[i].session);
        sp_samples_free(&workers[i].samples);
        free(workers[i].outputs);
    }
    pthread_barrier_destroy(&barrier);
    free(workers);
    return code;
}

static int run_server(bench_command *b, sparoa_session_options *options)
{
    int code = sp_job_trace(b->cli, &b->job, b->trace_path);
    sp_cli_device(b->cli, options);
    if (code < 0) code = energy_begin(b);
    if (code < 0)
        code = sp_server_bench_run(b->cli, &b->job, b->seconds, options, &b->server, &b->samples);
    energy_end(b);
    b->elapsed_ns = b->server.seconds * 1e9;
    b->done = b->server.done;
    return code;
}

/* ---- Results ---- */

static double per_second(const bench_command *b)
{
    return b->elapsed_ns > 0 ? 1e9 * (double)(b->done * b->items) / b->elapsed_ns : 0;
}

/* Per item of a batch. */
static double joules_each(const bench_command *b)
{
    return b->done ? b->spent.joules / (double)(b->done * b->items) : 0;
}

static void energy_json(sp_json *j, const bench_command *b)
{
    bool known = b->spent.joules >= 0;
    sp_json_flat_object(j, "energy");
    sp_json_string(j, "sensor", b->spent.sensor);
    if (known)
        sp_json_number(j, "joules_per_inference", joules_each(b));
    else
        sp_json_null(j, "joules_per_inference");
    if (known)
        sp_json_number(j, "watts", b->spent.joules / b->spent.seconds);
    else
        sp_json_null(j, "watts");
    sp_json_bool(j, "sampled", b->spent.sampled != 0);
    sp_json_end_object(j);
}

static void print_text(const bench_command *b)
{
    const sp_job *job = &b->job;
    const sp_stats *s = &b->stats;
    char governor[64];
    if (!b->cli->quiet) {
        printf("model       %s, batch %lld\n", job->path, (long long)b->items);
        printf("load        %.1f ms, create %.1f ms, prepare %.1f ms\n",
               (double)job->load_ns * 1e-6, (double)job->create_ns * 1e-6,
               (double)job->prepare_ns * 1e-6);
    }
    if (!b->cli->quiet) sp_choice_print(b->cli, job);
    if (serves(b))
        sp_server_bench_text(&b->server, s);
    else if (offline(b))
        printf("sessions    %lld of %d threads, %lld runs in %.2f s\n", (long long)b->sessions,
               (int)sparoa_runtime_threads(job->runtime), (long long)b->done, b->elapsed_ns * 1e-9);
    else
        printf("threads     %d, %lld runs, first run %.3f ms\n",
               (int)sparoa_runtime_threads(job->runtime), (long long)b->done, b->first_ns * 1e-6);
    printf("latency ms  p50 %.3f  p90 %.3f  p99 %.3f  mean %.3f  min %.3f  max %.3f\n",
           s->p50 * 1e-6, s->p90 * 1e-6, s->p99 * 1e-6, s->mean * 1e-6, s->min * 1e-6,
           s->max * 1e-6);
    printf("throughput  %.1f per second", per_second(b));
    if (b->info.flops > 0 && s->mean > 0)
        printf(", %.1f GFLOP/s", b->info.flops * (double)b->done / b->elapsed_ns);
    printf("\nmemory      runtime peak %.1f MiB, resident %.1f MiB, resident peak %.1f MiB\n",
           (double)sparoa_runtime_memory_peak(job->runtime) / 1048576,
           (double)sp_process_memory("VmRSS") / 1048576,
           (double)sp_process_memory("VmHWM") / 1048576);
    if (b->energy && b->spent.joules >= 0)
        printf("energy      %.4g mJ per inference, %.1f W (%s%s)\n", 1e3 * joules_each(b),
               b->spent.joules / b->spent.seconds, b->spent.sensor,
               b->spent.sampled ? ", sampled" : "");
    else if (b->energy)
        printf("energy      unknown: no sensor can be read (sparoa doctor lists them)\n");
    if (!offline(b) && !serves(b) && s->cov > 0.025 && !b->cli->quiet) {
        sp_governor(governor, sizeof governor);
        printf(
            "note        the times vary by %.1f %% (load average %.1f%s%s): prefer p50 and min\n",
            100 * s->cov, sp_load(), *governor ? ", governor " : "", governor);
    }
}

static bool print_json(const bench_command *b)
{
    FILE *file = sp_cli_json_open(b->cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_job_json(&j, b->cli, &b->job);
    sp_choice_json(&j, b->cli, &b->job);
    sp_json_string(&j, "scenario", b->scenario);
    sp_json_int(&j, "batch", b->items);
    sp_json_int(&j, "sessions", offline(b) ? b->sessions : 1);
    sp_json_int(&j, "runs", b->done);
    sp_json_number(&j, "seconds", b->elapsed_ns * 1e-9);
    if (offline(b) || serves(b))
        sp_json_null(&j, "first_run_ms");
    else
        sp_json_number(&j, "first_run_ms", b->first_ns * 1e-6);
    sp_stats ms = b->stats;
    double *const figures[] = {&ms.min, &ms.mean, &ms.p50, &ms.p90, &ms.p99, &ms.max};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) *figures[i] *= 1e-6;
    sp_stats_json(&j, "latency_ms", &ms);
    if (serves(b)) sp_server_bench_json(&j, &b->server, &b->stats);
    sp_json_number(&j, "per_second", per_second(b));
    sp_json_number(&j, "flops", b->info.flops);
    sp_json_number(&j, "gflops",
                   b->elapsed_ns > 0 ? b->info.flops * (double)b->done / b->elapsed_ns : 0);
    if (b->energy) energy_json(&j, b);
    sp_json_flat_object(&j, "memory");
    sp_json_int(&j, "runtime_peak", (int64_t)sparoa_runtime_memory_peak(b->job.runtime));
    sp_json_int(&j, "prepared", (int64_t)b->info.prepared_bytes);
    sp_json_int(&j, "activations", (int64_t)b->info.activation_bytes);
    sp_json_int(&j, "rss", sp_process_memory("VmRSS"));
    sp_json_int(&j, "rss_peak", sp_process_memory("VmHWM"));
    sp_json_end_object(&j);
    sp_json_end_object(&j);
    return sp_cli_json_close(b->cli, file);
}

static int run(bench_command *b)
{
    sparoa_session_options options = {.struct_size = sizeof options, .reference = b->reference};
    if (b->seconds <= 0 && !b->runs)
        return sp_cli_fail(b->cli, SP_EXIT_USAGE, "--seconds must be above 0");
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (!b->sessions) b->sessions = cores > 0 ? cores : 1;
    if (offline(b) && !b->cli->threads) b->cli->threads = 1;
    int code = sp_job_load(b->cli, &b->feed, &b->job);
    if (code < 0) code = sp_job_session(b->cli, &options, &b->job);
    if (code < 0) code = sp_job_inputs(b->cli, &b->feed, &b->job);
    if (code < 0) code = sp_job_tune(b->cli, &b->job);
    if (code >= 0) return code;
    const sparoa_tensor *first = b->job.inputs.items;
    b->items = b->job.inputs.count && first->rank > 1 && first->dims[0] > 0 ? first->dims[0] : 1;
    code = serves(b) ? run_server(b, &options) : offline(b) ? run_offline(b) : run_single(b);
    if (code < 0) code = sp_job_trace_save(b->cli, &b->job, b->trace_path);
    if (code >= 0) return code;
    sparoa_session_get_info(b->job.session, &b->info);
    b->stats = sp_stats_of(&b->samples);
    if (sp_cli_text(b->cli)) print_text(b);
    if (b->cli->json_path && !print_json(b)) return SP_EXIT_FAIL;
    bool kept = !(b->server.p99_ms > 0) || b->stats.p99 * 1e-6 <= b->server.p99_ms;
    return kept ? SP_EXIT_PASS : SP_EXIT_FAIL;
}

int sp_cmd_bench(sp_cli *cli, int argc, char **argv)
{
    bench_command b = {.cli = cli,
                       .scenario = "single",
                       .warmup = 5,
                       .seconds = 2,
                       .server = {.max_batch = 1, .workers = 1}};
    sp_arg rows[SP_FEED_ROWS + SP_SERVER_BENCH_ROWS], *end = rows;
    sp_feed_args(&b.feed, rows);
    while (end->kind != SP_ARG_END) end++;
    sp_server_bench_args(&b.server, end);
    const sp_arg table[] = {
        {SP_ARG_CHOICE, 0, "scenario", &b.scenario, NULL,
         "one run after the other, sessions in threads, or requests that arrive at random", 0, 0,
         "single|offline|server"},
        {SP_ARG_STRING, 0, "trace", &b.trace_path, "FILE", "write a trace for ui.perfetto.dev", 0,
         0, NULL},
        {SP_ARG_INT, 'n', "runs", &b.runs, "N",
         "measured runs in all (default: as many as --seconds)", 1, INT64_MAX, NULL},
        {SP_ARG_NUMBER, 0, "seconds", &b.seconds, "S", "measured time (default: 2)", 0, 0, NULL},
        {SP_ARG_INT, 0, "warmup", &b.warmup, "N", "runs before (default: 5)", 0, INT64_MAX, NULL},
        {SP_ARG_INT, 0, "sessions", &b.sessions, "N",
         "offline: sessions (default: one per core), 1 thread each", 1, 1024, NULL},
        {SP_ARG_STRING, 0, "plan", &cli->plan, "FILE", "run as this plan says (sparoa plan -o)", 0,
         0, NULL},
        {SP_ARG_FLAG, 0, "reference", &b.reference, NULL, "use the plain kernels", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "energy", &b.energy, NULL, "joules per inference, with the sensor's name",
         0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, rows, table, argc, argv);
    if (code < 0) code = run(&b);
    sp_samples_free(&b.samples);
    sp_server_bench_free(&b.server);
    sparoa_live_destroy(b.live);
    sp_job_close(&b.job);
    sp_feed_free(&b.feed);
    return code;
}
