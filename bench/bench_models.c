/*
 * bench_models [--threads N] [--batch N] [--sessions N] [--seconds S] [--json FILE] MODEL...
 *
 * One table of latency, throughput, memory and start time for many models. A MODEL is an ONNX file
 * or a folder that holds model.onnx. Every model runs in a process of its own, so that its memory
 * is its own and a model that fails does not end the others. Inputs come from test_data_set_0
 * beside the model where it is and --batch is not given, otherwise they are small made-up values.
 * The JSON has one object per model.
 *
 * start is loading, planning and the first answer; p50, p90 and p99 are latencies of one session on
 * --threads threads; throughput is that of --sessions sessions of one model, each on one thread.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/order.h"
#include "sparoa.h"

enum { MAX_INPUTS = 64, MAX_SESSIONS = 256, MAX_RUNS = 1 << 20, LEAST_RUNS = 10, WARMUP = 3 };

typedef struct settings {
    int threads, batch, sessions;
    double seconds;
    const char *json;
} settings;

/* What a model's process tells its parent: plain data, sent through a pipe. */
typedef struct result {
    int failed;
    char message[416];
    int64_t runs;
    double load_ms, create_ms, first_ms, p50_ms, p90_ms, p99_ms, per_second, gflop;
    double prepared_mib, activation_mib, library_peak_mib, resident_peak_mib;
} result;

typedef struct feed {
    sparoa_tensor inputs[MAX_INPUTS];
    size_t inputs_count, outputs_count;
} feed;

static double ms_since(int64_t start)
{
    return (double)(sp_now_ns() - start) * 1e-6;
}

static double percentile(const double *sorted, size_t count, double share)
{
    return sorted[(size_t)(share * (double)(count - 1) + 0.5)];
}

static double resident_peak_mib(void)
{
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    if (f) fclose(f);
    return (double)kib / 1024;
}

static sparoa_status fail(sparoa_error *err, const char *text)
{
    err->status = SPAROA_INVALID_ARGUMENT;
    snprintf(err->message, sizeof err->message, "%s", text);
    return err->status;
}

/* Values of a test set, if there is one. */
static sparoa_status feed_from_set(sparoa_runtime *rt, const char *path, size_t index,
                                   sparoa_tensor *tensor, sparoa_error *err)
{
    char file[4096];
    const char *slash = strrchr(path, '/');
    snprintf(file, sizeof file, "%.*stest_data_set_0/input_%zu.pb",
             slash ? (int)(slash - path + 1) : 0, path, index);
    return sparoa_tensor_load_pb(rt, file, tensor, NULL, 0, err);
}

static sparoa_status feed_made_up(sparoa_runtime *rt, const sparoa_value_info *info, int batch,
                                  size_t index, sparoa_tensor *tensor, sparoa_error *err)
{
    if (info->rank < 0)
        return fail(err, "the rank of an input is unknown, and there is no test set");
    *tensor = sparoa_tensor_view(info->dtype, NULL, info->rank, info->dims);
    for (int d = 0; d < tensor->rank; d++)
        if (tensor->dims[d] < 0) tensor->dims[d] = 1;
    if (index == 0 && tensor->rank > 0 && info->dims[0] < 0)
        tensor->dims[0] = batch > 0 ? batch : 1;
    sparoa_status status = sparoa_tensor_alloc(rt, tensor, err);
    if (status || tensor->dtype != SPAROA_FLOAT32) return status;
    float *values = tensor->data;
    for (int64_t i = 0, count = sparoa_tensor_count(tensor); i < count; i++)
        values[i] = (float)(i * 37 % 255) / 128.0f - 1.0f;
    return SPAROA_OK;
}

static sparoa_status make_feed(sparoa_runtime *rt, const sparoa_model *model, const char *path,
                               const settings *s, feed *f, sparoa_error *err)
{
    f->inputs_count = sparoa_model_input_count(model);
    f->outputs_count = sparoa_model_output_count(model);
    if (f->inputs_count > MAX_INPUTS || f->outputs_count > MAX_INPUTS)
        return fail(err, "more inputs or outputs than this program handles");
    for (size_t i = 0; i < f->inputs_count; i++) {
        sparoa_value_info info;
        sparoa_error ignored;
        sparoa_status status = sparoa_model_input(model, i, &info);
        if (status) return fail(err, "an input has no description");
        if (s->batch == 0 && feed_from_set(rt, path, i, &f->inputs[i], &ignored) == SPAROA_OK)
            continue;
        status = feed_made_up(rt, &info, s->batch, i, &f->inputs[i], err);
        if (status) return status;
    }
    return SPAROA_OK;
}

static sparoa_status run_once(sparoa_session *session, const feed *f, sparoa_error *err)
{
    sparoa_tensor outputs[MAX_INPUTS] = {0};
    return sparoa_session_run(session, f->inputs, f->inputs_count, outputs, f->outputs_count, err);
}

static sparoa_status measure_latency(sparoa_session *session, const feed *f, const settings *s,
                                     result *r, sparoa_error *err)
{
    double *times = malloc(MAX_RUNS * sizeof *times);
    if (!times) return fail(err, "no memory for the times");
    sparoa_status status = SPAROA_OK;
    size_t count = 0;
    for (int i = 0; i < WARMUP && !status; i++) status = run_once(session, f, err);
    int64_t begin = sp_now_ns();
    while (!status && count < MAX_RUNS &&
           (count < LEAST_RUNS || ms_since(begin) < s->seconds * 1e3)) {
        int64_t start = sp_now_ns();
        status = run_once(session, f, err);
        times[count++] = ms_since(start);
    }
    qsort(times, count, sizeof *times, by_value);
    if (!status) {
        r->runs = (int64_t)count;
        r->p50_ms = percentile(times, count, 0.50);
        r->p90_ms = percentile(times, count, 0.90);
        r->p99_ms = percentile(times, count, 0.99);
    }
    free(times);
    return status;
}

typedef struct stream {
    sparoa_session *session;
    const feed *feed;
    pthread_t thread;
    int64_t until;
    int64_t runs;
    sparoa_error err;
    sparoa_status status;
} stream;

static void *stream_main(void *arg)
{
    stream *t = arg;
    do {
        t->status = run_once(t->session, t->feed, &t->err);
        t->runs++;
    } while (!t->status && sp_now_ns() < t->until);
    return NULL;
}

/* Sessions side by side, each with a thread of its own, which share the model. */
static sparoa_status measure_throughput(sparoa_model *model, const feed *f, const settings *s,
                                        result *r, sparoa_error *err)
{
    static stream streams[MAX_SESSIONS];
    sparoa_status status = SPAROA_OK;
    int started = 0;
    for (int i = 0; i < s->sessions && !status; i++) {
        streams[i].feed = f;
        status = sparoa_session_create(model, NULL, &streams[i].session, err);
        if (!status) status = run_once(streams[i].session, f, err);
    }
    int64_t begin = sp_now_ns(), runs = 0;
    for (; started < s->sessions && !status; started++) {
        streams[started].until = begin + (int64_t)(s->seconds * 1e9);
        if (pthread_create(&streams[started].thread, NULL, stream_main, &streams[started])) {
            status = fail(err, "a thread can't be started");
            break;
        }
    }
    for (int i = 0; i < started; i++) {
        pthread_join(streams[i].thread, NULL);
        runs += streams[i].runs;
        if (streams[i].status && !status) status = streams[i].status, *err = streams[i].err;
    }
    int64_t batch =
        f->inputs_count && f->inputs[0].rank > 0 && s->batch > 0 ? f->inputs[0].dims[0] : 1;
    r->per_second = (double)(runs * batch) / (ms_since(begin) * 1e-3);
    for (int i = 0; i < s->sessions; i++) sparoa_session_destroy(streams[i].session);
    return status;
}

static sparoa_runtime *open_runtime(int threads, sparoa_error *err)
{
    sparoa_runtime_options options = {.struct_size = sizeof options, .threads = threads};
    sparoa_runtime *rt = NULL;
    return sparoa_runtime_create(&options, &rt, err) ? NULL : rt;
}

static sparoa_status measure_one_session(sparoa_runtime *rt, const char *path, const settings *s,
                                         result *r, sparoa_error *err)
{
    static feed f;
    sparoa_model *model = NULL;
    sparoa_session *session = NULL;
    int64_t start = sp_now_ns();
    sparoa_status status = sparoa_model_load(rt, path, NULL, &model, err);
    r->load_ms = ms_since(start);
    if (!status) status = make_feed(rt, model, path, s, &f, err);
    start = sp_now_ns();
    if (!status) status = sparoa_session_create(model, NULL, &session, err);
    r->create_ms = ms_since(start);
    start = sp_now_ns();
    if (!status) status = run_once(session, &f, err);
    r->first_ms = ms_since(start);
    if (!status) status = measure_latency(session, &f, s, r, err);
    if (!status) {
        sparoa_session_info info;
        sparoa_session_get_info(session, &info);
        r->gflop = info.flops * 1e-9;
        r->prepared_mib = (double)info.prepared_bytes / 1048576;
        r->activation_mib = (double)info.activation_bytes / 1048576;
        r->library_peak_mib = (double)sparoa_runtime_memory_peak(rt) / 1048576;
        r->resident_peak_mib = resident_peak_mib();
    }
    sparoa_session_destroy(session);
    for (size_t i = 0; i < f.inputs_count; i++) sparoa_tensor_free(rt, &f.inputs[i]);
    sparoa_model_destroy(model);
    return status;
}

static sparoa_status measure_sessions(sparoa_runtime *rt, const char *path, const settings *s,
                                      result *r, sparoa_error *err)
{
    static feed f;
    sparoa_model *model = NULL;
    sparoa_status status = sparoa_model_load(rt, path, NULL, &model, err);
    if (!status) status = make_feed(rt, model, path, s, &f, err);
    if (!status) status = measure_throughput(model, &f, s, r, err);
    for (size_t i = 0; i < f.inputs_count; i++) sparoa_tensor_free(rt, &f.inputs[i]);
    sparoa_model_destroy(model);
    return status;
}

static void measure(const char *path, const settings *s, result *r)
{
    sparoa_error err = {0};
    sparoa_runtime *rt = open_runtime(s->threads, &err);
    sparoa_status status = rt ? measure_one_session(rt, path, s, r, &err) : err.status;
    sparoa_runtime_destroy(rt);
    if (!status && s->sessions > 0) {
        rt = open_runtime(1, &err);
        status = rt ? measure_sessions(rt, path, s, r, &err) : err.status;
        sparoa_runtime_destroy(rt);
    }
    r->failed = status != SPAROA_OK;
    snprintf(r->message, sizeof r->message, "%s", err.message);
}

/* Runs measure in a process of its own. */
static void measure_apart(const char *path, const settings *s, result *r)
{
    int ends[2], status = 0;
    memset(r, 0, sizeof *r);
    r->failed = 1;
    snprintf(r->message, sizeof r->message, "its process could not be started");
    if (pipe(ends)) return;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        result own = {0};
        measure(path, s, &own);
        ssize_t sent = write(ends[1], &own, sizeof own);
        _exit(sent == (ssize_t)sizeof own ? 0 : 1);
    }
    close(ends[1]);
    result got;
    size_t have = 0;
    ssize_t more = 0;
    while (child > 0 && have < sizeof got &&
           (more = read(ends[0], (char *)&got + have, sizeof got - have)) > 0)
        have += (size_t)more;
    close(ends[0]);
    if (child > 0) waitpid(child, &status, 0);
    if (have == sizeof got)
        *r = got;
    else if (child > 0)
        snprintf(r->message, sizeof r->message, "its process ended with status %d", status);
}

/* The file of a MODEL argument, and the name it has in the table. */
static void resolve(const char *given, char *path, size_t path_size, char *name, size_t name_size)
{
    struct stat info;
    size_t length = strlen(given);
    while (length > 1 && given[length - 1] == '/') length--;
    bool folder = stat(given, &info) == 0 && S_ISDIR(info.st_mode);
    snprintf(path, path_size, folder ? "%.*s/model.onnx" : "%.*s", (int)length, given);
    size_t end = length;
    const char *suffix = "/model.onnx";
    size_t cut = strlen(suffix);
    if (!folder && length > cut && strcmp(given + length - cut, suffix) == 0) end = length - cut;
    size_t begin = end;
    while (begin > 0 && given[begin - 1] != '/') begin--;
    snprintf(name, name_size, "%.*s", (int)(end - begin), given + begin);
}

static void write_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 32)
            fprintf(f, "\\u%04x", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

static void write_json(FILE *f, bool first, const char *name, const settings *s, const result *r)
{
    fprintf(f, "%s\n  {\"model\": ", first ? "" : ",");
    write_text(f, name);
    fprintf(f, ", \"threads\": %d, \"batch\": %d, \"sessions\": %d, ", s->threads, s->batch,
            s->sessions);
    if (r->failed) {
        fprintf(f, "\"failed\": ");
        write_text(f, r->message);
    } else {
        fprintf(f,
                "\"runs\": %" PRId64
                ", \"load_ms\": %.4f, \"create_ms\": %.4f, \"first_ms\": %.4f, ",
                r->runs, r->load_ms, r->create_ms, r->first_ms);
        fprintf(f, "\"p50_ms\": %.4f, \"p90_ms\": %.4f, \"p99_ms\": %.4f, \"per_second\": %.2f, ",
                r->p50_ms, r->p90_ms, r->p99_ms, r->per_second);
        fprintf(f, "\"gflop\": %.6f, \"prepared_mib\": %.3f, \"activation_mib\": %.3f, ", r->gflop,
                r->prepared_mib, r->activation_mib);
        fprintf(f, "\"library_peak_mib\": %.3f, \"resident_peak_mib\": %.3f", r->library_peak_mib,
                r->resident_peak_mib);
    }
    fputc('}', f);
}

static void print_row(const char *name, const result *r)
{
    if (r->failed)
        printf("%-28s %s\n", name, r->message);
    else
        printf("%-28s %9.2f %9.3f %9.3f %9.3f %9.1f %8.1f %8.1f %8.1f\n", name,
               r->load_ms + r->create_ms + r->first_ms, r->p50_ms, r->p90_ms, r->p99_ms,
               r->per_second, r->gflop / r->p50_ms * 1e3, r->library_peak_mib,
               r->resident_peak_mib);
    fflush(stdout);
}

static bool parse(int argc, char **argv, settings *s, int *models)
{
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        const char *value = argv[i + 1];
        if (!strcmp(argv[i], "--threads"))
            s->threads = atoi(value);
        else if (!strcmp(argv[i], "--batch"))
            s->batch = atoi(value);
        else if (!strcmp(argv[i], "--sessions"))
            s->sessions = atoi(value);
        else if (!strcmp(argv[i], "--seconds"))
            s->seconds = atof(value);
        else if (!strcmp(argv[i], "--json"))
            s->json = value;
        else
            return false;
    }
    *models = i;
    return i < argc && strncmp(argv[i], "--", 2) != 0 && s->threads >= 0 && s->batch >= 0 &&
           s->sessions >= 0 && s->sessions <= MAX_SESSIONS && s->seconds > 0;
}

int main(int argc, char **argv)
{
    settings s = {.threads = 1, .sessions = 1, .seconds = 1};
    int models = 0, failed = 0;
    if (!parse(argc, argv, &s, &models)) {
        fprintf(stderr, "usage: bench_models [--threads N] [--batch N] [--sessions N] [--seconds "
                        "S] [--json FILE] "
                        "MODEL...\n");
        return 2;
    }
    FILE *json = s.json ? fopen(s.json, "w") : NULL;
    if (s.json && !json) {
        perror(s.json);
        return 2;
    }
    if (json) fputc('[', json);
    printf("%-28s %9s %9s %9s %9s %9s %8s %8s %8s\n", "model", "start ms", "p50 ms", "p90 ms",
           "p99 ms", "per s", "GFLOP/s", "lib MiB", "RSS MiB");
    for (int i = models; i < argc; i++) {
        char path[4096], name[256];
        result r;
        resolve(argv[i], path, sizeof path, name, sizeof name);
        measure_apart(path, &s, &r);
        failed |= r.failed;
        print_row(name, &r);
        if (json) write_json(json, i == models, name, &s, &r);
    }
    if (json) {
        fputs("\n]\n", json);
        if (fclose(json)) perror(s.json), failed = 1;
    }
    return failed;
}
