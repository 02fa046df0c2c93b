/* What a session with device "auto" loses against the better of the CPU alone and the device alone.
 *
 *   bench_regret PLUGIN OPTIONS DEVICE THREADS BATCH NAME=MODEL.onnx...
 *
 * For each model three sessions run in turns with the same inputs: on the CPU, on the device, and
 * auto, which has measured for two seconds before. Prints a line of JSON: medians, and the median
 * and quartiles of the ratio, round by round, of auto's time to that of the better of the other two
 * (by medians); then create and first run of a session on the CPU and of one with auto. A device
 * that needs over ten times the CPU's time for a run is given up. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/order.h"
#include "sparoa_schedule.h"
#include "sparoa_serve.h"

enum { LEAST = 7, MOST = 61, SESSIONS = 3, OUTPUTS = 8, FIRST = 15 };
#define SECONDS 6.0    /* for the rounds of one model */
#define TURN_NS 10e6   /* a turn takes at least this long: the mean of its runs counts */
#define GIVE_UP_NS 3e9 /* for a device's first run, besides ten times the CPU's */

typedef struct contest {
    sparoa_session *sessions[SESSIONS]; /* cpu, device, auto */
    sparoa_tensor in;
    size_t outputs;
    double ms[SESSIONS][MOST];
    int rounds;
    bool device;        /* it takes part */
    double first_ms[2]; /* create and first run, cpu and auto */
    double first_ratio; /* of auto to cpu, pair by pair */
    sparoa_error err;
} contest;

static const char *const names[SESSIONS] = {"cpu", "device", "auto"};

static double now_ns(void)
{
    return (double)sparoa_now_ns();
}

static sparoa_status run(contest *c, int i, int64_t deadline_ns)
{
    sparoa_tensor out[OUTPUTS] = {{0}};
    const sparoa_run_options o = {.struct_size = sizeof o, .deadline_ns = deadline_ns};
    return sparoa_session_run_with(c->sessions[i], &c->in, 1, out, c->outputs,
                                   deadline_ns ? &o : NULL, &c->err);
}

/* One unmeasured run behind the others' turns, then the mean of as many as fill the turn. */
static sparoa_status turn(contest *c, int i, double *ms)
{
    int runs = 0;
    sparoa_status status = run(c, i, 0);
    double start = now_ns(), passed = 0;
    for (; status == SPAROA_OK && passed < TURN_NS; passed = now_ns() - start, runs++)
        status = run(c, i, 0);
    *ms = passed * 1e-6 / (runs ? runs : 1);
    return status;
}

/* Quantile q of the times, or of their ratios to those of session `by`. */
static double quantile(const contest *c, int i, int by, double q)
{
    double x[MOST];
    for (int r = 0; r < c->rounds; r++) x[r] = c->ms[i][r] / (by < 0 ? 1 : c->ms[by][r]);
    qsort(x, (size_t)c->rounds, sizeof *x, by_value);
    return x[(int)(q * (c->rounds - 1) + 0.5)];
}

/* Whether the device keeps up at all. */
static sparoa_status try_device(contest *c)
{
    sparoa_status status = run(c, 0, 0);
    double start = now_ns();
    if (status == SPAROA_OK) status = run(c, 0, 0);
    double cpu = now_ns() - start;
    if (status != SPAROA_OK) return status;
    status = run(c, 1, (int64_t)(now_ns() + 10 * cpu + GIVE_UP_NS));
    if (status == SPAROA_DEADLINE) return SPAROA_OK;
    start = now_ns();
    if (status == SPAROA_OK) status = run(c, 1, 0);
    c->device = now_ns() - start < 10 * cpu;
    return status;
}

static sparoa_status compare(contest *c)
{
    double begin = now_ns();
    while (c->rounds < MOST && (c->rounds < LEAST || now_ns() - begin < SECONDS * 1e9)) {
        for (int k = 0; k < SESSIONS; k++) {
            int i = (k + c->rounds) % SESSIONS;
            if (i == 1 && !c->device) continue;
            sparoa_status status = turn(c, i, &c->ms[i][c->rounds]);
            if (status != SPAROA_OK) return status;
        }
        c->rounds++;
    }
    return SPAROA_OK;
}

static void print(const contest *c, const char *model, char **argv)
{
    sparoa_choice choice = {0};
    sparoa_session_choice(c->sessions[2], &c->in, 1, &choice, NULL);
    double cpu = quantile(c, 0, -1, 0.5), device = c->device ? quantile(c, 1, -1, 0.5) : 0;
    int better = c->device && device < cpu;
    printf("{\"model\": \"%s\", \"batch\": %s, \"threads\": %s, \"device\": \"%s\", \"options\": "
           "\"%s\", \"rounds\": %d, \"cpu_ms\": %.4g, \"device_ms\": ",
           model, argv[5], argv[4], argv[3], argv[2], c->rounds, cpu);
    printf(c->device ? "%.4g" : "null", device);
    printf(", \"auto_ms\": %.4g, \"chosen\": \"%s\", \"better\": \"%s\", \"ratio\": %.4f, \"q1\": "
           "%.4f, \"q3\": %.4f, \"tune_s\": %.2f, \"first_cpu_ms\": %.4g, \"first_auto_ms\": %.4g, "
           "\"first_ratio\": %.3f, \"candidates\": {",
           quantile(c, 2, -1, 0.5), choice.chosen, names[better], quantile(c, 2, better, 0.5),
           quantile(c, 2, better, 0.25), quantile(c, 2, better, 0.75), choice.tune_ns * 1e-9,
           c->first_ms[0], c->first_ms[1], c->first_ratio);
    for (int i = 0; i < choice.candidate_count; i++)
        printf("%s\"%s\": %.4g", i ? ", " : "", choice.candidates[i].name,
               choice.candidates[i].ratio);
    printf("}}\n");
    fflush(stdout);
}

/* From nothing to the first answer, on the CPU and as auto, in turns of changing order, behind one
 * that finds the model's file unread: medians in ms, and of the ratios of pairs. */
static sparoa_status first_answers(contest *c, sparoa_model *model)
{
    double took[3][FIRST];
    for (int k = -1; k < 2 * FIRST; k++) {
        int i = (k + k / 2) & 1;
        const sparoa_session_options o = {.struct_size = sizeof o, .device = i ? "auto" : "cpu"};
        double start = now_ns();
        sparoa_status status = sparoa_session_create(model, &o, &c->sessions[0], &c->err);
        if (status == SPAROA_OK) status = run(c, 0, 0);
        if (k >= 0) took[i][k / 2] = (now_ns() - start) * 1e-6;
        sparoa_session_destroy(c->sessions[0]);
        c->sessions[0] = NULL;
        if (status != SPAROA_OK) return status;
    }
    for (int k = 0; k < FIRST; k++) took[2][k] = took[1][k] / took[0][k];
    for (int i = 0; i < 3; i++) qsort(took[i], FIRST, sizeof took[i][0], by_value);
    for (int i = 0; i < 2; i++) c->first_ms[i] = took[i][FIRST / 2];
    c->first_ratio = took[2][FIRST / 2];
    return SPAROA_OK;
}

static sparoa_status open_all(contest *c, sparoa_runtime *rt, sparoa_model *model,
                              const char *device, int64_t batch)
{
    sparoa_value_info info;
    sparoa_status status = sparoa_model_input(model, 0, &info);
    if (status != SPAROA_OK) return status;
    c->in = sparoa_tensor_view(info.dtype, NULL, info.rank, info.dims);
    if (info.rank > 0 && info.dims[0] < 0) c->in.dims[0] = batch;
    for (int k = 1; k < info.rank; k++)
        if (info.dims[k] < 0) c->in.dims[k] = 224;
    status = sparoa_tensor_alloc(rt, &c->in, &c->err);
    float *x = c->in.data;
    for (int64_t i = 0; status == SPAROA_OK && i < sparoa_tensor_count(&c->in); i++)
        x[i] = (float)((uint32_t)(i * 2654435761u) >> 8) / 8388608.0f - 1;
    c->outputs = sparoa_model_output_count(model);
    if (status == SPAROA_OK) status = first_answers(c, model);
    const char *devices[SESSIONS] = {"cpu", device, "auto"};
    for (int i = 0; status == SPAROA_OK && i < SESSIONS; i++) {
        const sparoa_session_options o = {.struct_size = sizeof o,
                                          .device = devices[i],
                                          .fallback = SPAROA_FALLBACK_ALLOW,
                                          .auto_seconds = -1};
        status = sparoa_session_create(model, &o, &c->sessions[i], &c->err);
    }
    return status;
}

static sparoa_status measure(sparoa_runtime *rt, const char *argument, char **argv)
{
    static contest c;
    char name[64];
    sparoa_model *model = NULL;
    const char *path = strchr(argument, '=');
    c = (contest){0};
    if (!path) {
        fprintf(stderr, "%s: expected NAME=MODEL.onnx\n", argument);
        return SPAROA_INVALID_ARGUMENT;
    }
    snprintf(name, sizeof name, "%.*s", (int)(path - argument), argument);
    sparoa_status status = sparoa_model_load(rt, path + 1, NULL, &model, &c.err);
    if (status == SPAROA_OK) status = open_all(&c, rt, model, argv[3], atoi(argv[5]));
    if (status == SPAROA_OK) status = sparoa_session_tune(c.sessions[2], &c.in, 1, 0, &c.err);
    if (status == SPAROA_OK) status = try_device(&c);
    if (status == SPAROA_OK && !c.device) { /* what it left under way would disturb the others */
        sparoa_session_destroy(c.sessions[1]);
        c.sessions[1] = NULL;
    }
    if (status == SPAROA_OK) status = compare(&c);
    if (status == SPAROA_OK)
        print(&c, name, argv);
    else
        fprintf(stderr, "%s: %s\n", name, c.err.message);
    for (int i = 0; i < SESSIONS; i++) sparoa_session_destroy(c.sessions[i]);
    sparoa_tensor_free(rt, &c.in);
    sparoa_model_destroy(model);
    return status;
}

int main(int argc, char **argv)
{
    sparoa_error err;
    sparoa_runtime *rt = NULL;
    if (argc < 7) {
        fprintf(stderr, "usage: %s PLUGIN OPTIONS DEVICE THREADS BATCH NAME=MODEL.onnx...\n",
                argv[0]);
        return 2;
    }
    const sparoa_runtime_options o = {.struct_size = sizeof o, .threads = atoi(argv[4])};
    sparoa_status status = sparoa_runtime_create(&o, &rt, &err);
    if (status == SPAROA_OK) status = sparoa_runtime_load_plugin(rt, argv[1], argv[2], &err);
    if (status != SPAROA_OK) fprintf(stderr, "%s\n", err.message);
    for (int i = 6; status == SPAROA_OK && i < argc; i++) status = measure(rt, argv[i], argv);
    sparoa_runtime_destroy(rt);
    return status != SPAROA_OK;
}
