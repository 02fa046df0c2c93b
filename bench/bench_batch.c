/*
 * bench_batch.c - what forming batches costs and gives.
 *
 * For each model:
 *   curve      time per item of a batch, run directly; what batches can give at all
 *   overhead   a service that is never without work against direct runs of its batch size, in
 *              short turns: how much longer the same work takes (copying together, queueing,
 *              callbacks); median and quartiles
 *   poisson    requests at random times: the highest rate at which the 99th percentile of latency
 *              keeps a bound, one by one and in batches; the bound is the same for both, a multiple
 *              of the time of one run
 *
 *   bench_batch [-t THREADS] [-b MAX_BATCH] [-p BOUND] [-m LEAST_MS] [-s SECONDS]
 *               [-v SECONDS] [-o FILE] MODEL.onnx[:DIM=N,...]...
 *
 * The model mlp-WIDTHxLAYERS is made here: MatMul and Relu of random weights.
 * BOUND: p99 allowed, as a multiple of the time of one run (default 10). -s: seconds of each
 * Poisson run (default 1.5). -v: seconds for one figure of overhead (default 6), shared by nine
 * services one after the other; with one thread they and the direct runs keep to one processor.
 * FILE gets one line of JSON for each model. Dimensions that the model leaves open beside the first
 * are 1 unless named.
 */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "bench/order.h"
#include "sparoa_serve.h"

#define MAX_IO 16
#define CURVE 11     /* batch sizes 1, 2, 4 ... */
#define SERVICES 9   /* that share the time for the overhead */
#define ROUNDS 400   /* of each, at most */
#define SLICE_S 0.01 /* of a turn, or three batches */
#define STEPS 7      /* of the search for a rate */
#define MAX_SHOTS 400000

typedef struct bench {
    int threads, max_batch;
    double bound, least_bound, seconds, overhead_s;
    FILE *json;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *session;
    sparoa_tensor in[MAX_IO]; /* one item, random */
    size_t n_in, n_out;
    char dims[256];
} bench;

static void die(const char *what, const sparoa_error *err)
{
    fprintf(stderr, "bench_batch: %s: %s\n", what, err->message);
    exit(1);
}

#define MUST(call)                                                                                 \
    do {                                                                                           \
        sparoa_error err_ = {0};                                                                   \
        sparoa_error *err = &err_;                                                                 \
        if (call) die(#call, err);                                                                 \
    } while (0)

static double now_s(void)
{
    return (double)sparoa_now_ns() * 1e-9;
}

static void sleep_until(int64_t ns)
{
    struct timespec at = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) continue;
}

static double quantile(double *v, int n, double q)
{
    if (n == 0) return INFINITY;
    qsort(v, (size_t)n, sizeof *v, by_value);
    int i = (int)ceil(q * n) - 1;
    return v[i < 0 ? 0 : i];
}

/* ---- models ---- */

static int64_t named_dim(const bench *b, const char *name)
{
    size_t n = name ? strlen(name) : 0;
    for (const char *p = b->dims; n && *p; p += strcspn(p, ","), p += *p == ',')
        if (!strncmp(p, name, n) && p[n] == '=') return atoll(p + n + 1);
    return 1;
}

static void fill(sparoa_tensor *t, uint64_t key)
{
    int64_t count = sparoa_tensor_count(t);
    for (int64_t i = 0; i < count; i++) {
        double u = sp_rng_uniform(key, (uint64_t)i);
        if (t->dtype == SPAROA_FLOAT32) ((float *)t->data)[i] = (float)(2 * u - 1);
        if (t->dtype == SPAROA_INT64) ((int64_t *)t->data)[i] = (int64_t)(9 * u);
        if (t->dtype == SPAROA_INT32) ((int32_t *)t->data)[i] = (int32_t)(9 * u);
        if (t->dtype == SPAROA_UINT8) ((uint8_t *)t->data)[i] = (uint8_t)(255 * u);
    }
}

/* ---- a multi-layer perceptron, written as ONNX: matrix-vector products one by one, matrix
 * products in batches ---- */

typedef struct bytes {
    uint8_t *data;
    size_t size, room;
} bytes;

static void put(bytes *b, const void *data, size_t size)
{
    if (b->size + size > b->room) b->data = realloc(b->data, b->room = 2 * (b->size + size));
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_varint(bytes *b, uint64_t v)
{
    for (; v >= 128; v >>= 7) put(b, &(uint8_t){(uint8_t)(v | 128)}, 1);
    put(b, &(uint8_t){(uint8_t)v}, 1);
}

static void put_int(bytes *b, uint32_t field, uint64_t v)
{
    put_varint(b, field << 3);
    put_varint(b, v);
}

static void put_block(bytes *b, uint32_t field, const void *data, size_t size)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, size);
    put(b, data, size);
}

static void put_text(bytes *b, uint32_t field, const char *text)
{
    put_block(b, field, text, strlen(text));
}

/* Puts a message into the one around it. */
static void put_message(bytes *b, uint32_t field, bytes *message)
{
    put_block(b, field, message->data, message->size);
    free(message->data);
    *message = (bytes){0};
}

static void put_node(bytes *graph, const char *op, const char *in, const char *weights,
                     const char *out)
{
    bytes node = {0};
    put_text(&node, 1, in);
    if (weights) put_text(&node, 1, weights);
    put_text(&node, 2, out);
    put_text(&node, 4, op);
    put_message(graph, 1, &node);
}

/* TensorProto of width x width random floats. */
static void put_weights(bytes *graph, const char *name, int64_t width, uint64_t key)
{
    bytes t = {0};
    size_t count = (size_t)(width * width);
    float *w = malloc(count * sizeof *w);
    for (size_t i = 0; i < count; i++)
        w[i] = (float)((2 * sp_rng_uniform(key, i) - 1) / sqrt((double)width));
    put_int(&t, 1, (uint64_t)width);
    put_int(&t, 1, (uint64_t)width);
    put_int(&t, 2, SPAROA_FLOAT32);
    put_text(&t, 8, name);
    put_block(&t, 9, w, count * sizeof *w);
    free(w);
    put_message(graph, 5, &t);
}

/* ValueInfoProto of float [batch, width]. */
static void put_edge(bytes *graph, uint32_t field, const char *name, int64_t width)
{
    bytes info = {0}, type = {0}, tensor = {0}, shape = {0}, open = {0}, wide = {0};
    put_text(&open, 2, "batch");
    put_int(&wide, 1, (uint64_t)width);
    put_message(&shape, 1, &open);
    put_message(&shape, 1, &wide);
    put_int(&tensor, 1, SPAROA_FLOAT32);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&info, 1, name);
    put_message(&info, 2, &type);
    put_message(graph, field, &info);
}

static void load_mlp(bench *b, int64_t width, int layers)
{
    bytes model = {0}, graph = {0}, opset = {0};
    char in[16] = "x", w[16], product[16], out[16];
    for (int i = 0; i < layers; i++) {
        snprintf(w, sizeof w, "w%d", i);
        snprintf(product, sizeof product, "p%d", i);
        snprintf(out, sizeof out, "y%d", i);
        put_node(&graph, "MatMul", in, w, product);
        put_node(&graph, "Relu", product, NULL, out);
        put_weights(&graph, w, width, (uint64_t)i + 1);
        memcpy(in, out, sizeof in);
    }
    put_text(&graph, 2, "mlp");
    put_edge(&graph, 11, "x", width);
    put_edge(&graph, 12, in, width);
    put_int(&opset, 2, 17);
    put_int(&model, 1, 8);
    put_message(&model, 7, &graph);
    put_message(&model, 8, &opset);
    MUST(sparoa_model_load_memory(b->rt, model.data, model.size, NULL, &b->model, err));
    free(model.data);
}

static void open_model(bench *b, const char *path)
{
    int width, layers;
    sparoa_runtime_options ro = {.struct_size = sizeof ro, .threads = b->threads};
    sparoa_session_options so = {.struct_size = sizeof so, .max_shapes = CURVE + 1};
    MUST(sparoa_runtime_create(&ro, &b->rt, err));
    if (sscanf(path, "mlp-%dx%d", &width, &layers) == 2)
        load_mlp(b, width, layers);
    else
        MUST(sparoa_model_load(b->rt, path, NULL, &b->model, err));
    MUST(sparoa_session_create(b->model, &so, &b->session, err));
    b->n_in = sparoa_model_input_count(b->model);
    b->n_out = sparoa_model_output_count(b->model);
    if (b->n_in > MAX_IO || b->n_out > MAX_IO) die("too many inputs", &(sparoa_error){0});
    for (size_t i = 0; i < b->n_in; i++) {
        sparoa_value_info info;
        sparoa_model_input(b->model, i, &info);
        sparoa_tensor *t = &b->in[i];
        *t = (sparoa_tensor){.dtype = info.dtype, .rank = info.rank < 0 ? 0 : info.rank};
        for (int32_t d = 0; d < t->rank; d++)
            t->dims[d] = info.dims[d] >= 0 ? info.dims[d]
                         : d == 0          ? 1
                                           : named_dim(b, info.dim_names[d]);
        MUST(sparoa_tensor_alloc(b->rt, t, err));
        fill(t, i + 1);
    }
}

static void close_model(bench *b)
{
    for (size_t i = 0; i < b->n_in; i++) sparoa_tensor_free(b->rt, &b->in[i]);
    sparoa_session_destroy(b->session);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
}

/* ---- direct runs ---- */

typedef struct direct_runs {
    const bench *b;
    sparoa_tensor in[MAX_IO];
} direct_runs;

static direct_runs direct_open(const bench *b, int32_t items)
{
    direct_runs d = {.b = b};
    for (size_t i = 0; i < b->n_in; i++) {
        d.in[i] = b->in[i];
        d.in[i].dims[0] = items;
        MUST(sparoa_tensor_alloc(b->rt, &d.in[i], err));
        fill(&d.in[i], i + 1);
    }
    return d;
}

static void direct_close(direct_runs *d)
{
    for (size_t i = 0; i < d->b->n_in; i++) sparoa_tensor_free(d->b->rt, &d->in[i]);
}

static void direct_run(const direct_runs *d)
{
    sparoa_tensor out[MAX_IO];
    memset(out, 0, sizeof out);
    MUST(sparoa_session_run(d->b->session, d->in, d->b->n_in, out, d->b->n_out, err));
}

/* Median time of a batch over about `seconds`. */
static double direct(const bench *b, int32_t items, double seconds)
{
    direct_runs d = direct_open(b, items);
    static double times[100000];
    int n = 0;
    direct_run(&d); /* plans */
    for (double begin = now_s(); n < 3 || (now_s() - begin < seconds && n < 100000); n++) {
        double start = now_s();
        direct_run(&d);
        times[n] = now_s() - start;
    }
    direct_close(&d);
    return quantile(times, n, 0.5);
}

/* ---- services ---- */

static void open_service(const bench *b, int32_t max_batch, int64_t delay_ns,
                         sparoa_server **server, sparoa_service **service)
{
    sparoa_server_options so = {.struct_size = sizeof so, .threads = 1};
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = max_batch, .max_queue_delay_ns = delay_ns};
    sparoa_service_options o = {.struct_size = sizeof o,
                                .max_requests = MAX_SHOTS,
                                .batch = max_batch > 1 ? &policy : NULL};
    MUST(sparoa_server_create(b->rt, &so, server, err));
    MUST(sparoa_service_create(*server, b->model, &o, service, err));
    MUST(sparoa_service_prepare(*service, b->in, b->n_in, err));
}

typedef struct closed { /* a loop that never lets the queue run dry */
    const bench *b;
    sparoa_service *service;
    long done, from, to; /* items; measured between the two */
    int64_t from_ns, to_ns;
    int under_way;
    sem_t end;
} closed;

/* All but the first submissions are made here, by the only worker. */
static void again(void *user, sparoa_request *request, sparoa_status status)
{
    closed *c = user;
    if (status != SPAROA_OK) die("request", &(sparoa_error){.message = "failed"});
    sparoa_request_release(request);
    c->done++;
    if (c->done == c->from) c->from_ns = sparoa_now_ns();
    if (c->done == c->to) c->to_ns = sparoa_now_ns();
    sparoa_submit_options o = {.struct_size = sizeof o, .done = again, .user = c};
    if (c->done < c->to) {
        sparoa_request *next;
        MUST(sparoa_submit(c->service, c->b->in, c->b->n_in, NULL, 0, &o, &next, err));
    } else if (--c->under_way == 0) {
        sem_post(&c->end);
    }
}

/* Seconds for `batches` batches of a service that always has two more queued. */
static double saturated(const bench *b, sparoa_service *service, int32_t max_batch, long batches)
{
    closed c = {.b = b, .service = service, .under_way = 3 * max_batch};
    c.from = 4 * max_batch; /* those of the start, and one more */
    c.to = c.from + batches * max_batch;
    sem_init(&c.end, 0, 0);
    sparoa_submit_options o = {.struct_size = sizeof o, .done = again, .user = &c};
    for (int i = 0; i < 3 * max_batch; i++) {
        sparoa_request *r;
        MUST(sparoa_submit(service, b->in, b->n_in, NULL, 0, &o, &r, err));
    }
    while (sem_wait(&c.end)) continue;
    sem_destroy(&c.end);
    return (double)(c.to_ns - c.from_ns) * 1e-9;
}

typedef struct overhead {
    double worse, median, better; /* shares, with their quartiles */
    double per_second;            /* of the service, median */
} overhead;

/* Keeps this thread, and those that it starts, on one processor, or lets it go: virtual processors
 * differ in speed, by what else the host runs. */
static void stay_here(bool stay)
{
    static cpu_set_t all;
    cpu_set_t here;
    if (!stay) {
        sched_setaffinity(0, sizeof all, &all);
        return;
    }
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    sched_setaffinity(0, sizeof here, &here);
}

/* Turns of one service, whose memory lies where it lies. */
static void take_turns(const bench *b, int32_t max_batch, long batches, int rounds, double *shares,
                       double *rates)
{
    sparoa_server *server = NULL;
    sparoa_service *service = NULL;
    direct_runs d = direct_open(b, max_batch);
    open_service(b, max_batch, 0, &server, &service);
    saturated(b, service, max_batch, batches);
    for (int i = 0; i < rounds; i++) {
        double served = i % 2 ? saturated(b, service, max_batch, batches) : 0;
        double start = now_s();
        for (long k = 0; k < batches; k++) direct_run(&d);
        double alone = now_s() - start;
        if (!(i % 2)) served = saturated(b, service, max_batch, batches);
        shares[i] = 1 - alone / served;
        rates[i] = max_batch * (double)batches / served;
    }
    direct_close(&d);
    sparoa_server_destroy(server);
}

/* Short turns of equal work: what the machine does to one side it does to the other. */
static overhead measure_overhead(const bench *b, int32_t max_batch)
{
    static double shares[SERVICES * ROUNDS], rates[SERVICES * ROUNDS];
    stay_here(b->threads == 1);
    double one = direct(b, max_batch, 0.1);
    long batches = one < SLICE_S / 3 ? (long)(SLICE_S / one) : 3;
    int rounds = (int)(b->overhead_s / (2 * SERVICES * one * (double)batches));
    rounds = rounds > ROUNDS ? ROUNDS : rounds < 3 ? 3 : rounds;
    for (int i = 0; i < SERVICES; i++)
        take_turns(b, max_batch, batches, rounds, shares + i * rounds, rates + i * rounds);
    if (b->threads == 1) stay_here(false);
    return (overhead){.better = quantile(shares, SERVICES * rounds, 0.25),
                      .median = quantile(shares, SERVICES * rounds, 0.5),
                      .worse = quantile(shares, SERVICES * rounds, 0.75),
                      .per_second = quantile(rates, SERVICES * rounds, 0.5)};
}

/* ---- Poisson arrivals ---- */

typedef struct shot {
    struct volley *volley;
    int64_t due_ns, end_ns;
} shot;

typedef struct volley {
    atomic_long ended;
    shot *shots;
} volley;

static void landed(void *user, sparoa_request *request, sparoa_status status)
{
    shot *s = user;
    s->end_ns = status == SPAROA_OK ? sparoa_now_ns() : INT64_MAX;
    sparoa_request_release(request);
    atomic_fetch_add(&s->volley->ended, 1);
}

/* 99th percentile of latency in seconds, counted from when each request was due. */
static double poisson(const bench *b, sparoa_service *service, double rate, uint64_t seed)
{
    static shot shots[MAX_SHOTS];
    static double latencies[MAX_SHOTS];
    volley v = {.shots = shots};
    sparoa_submit_options o = {.struct_size = sizeof o, .done = landed};
    int64_t begin = sparoa_now_ns() + 1000000, due = begin;
    int64_t end = begin + (int64_t)(b->seconds * 1e9);
    long n = 0;
    for (; n < MAX_SHOTS - 1; n++) {
        due += (int64_t)(-log1p(-sp_rng_uniform(seed, (uint64_t)n)) / rate * 1e9);
        if (due >= end) break;
        sparoa_request *r;
        shots[n] = (shot){&v, due, 0};
        o.user = &shots[n];
        if (due > sparoa_now_ns()) sleep_until(due);
        MUST(sparoa_submit(service, b->in, b->n_in, NULL, 0, &o, &r, err));
    }
    while (atomic_load(&v.ended) < n) usleep(500);
    for (long i = 0; i < n; i++) latencies[i] = (double)(shots[i].end_ns - shots[i].due_ns) * 1e-9;
    return quantile(latencies, (int)n, 0.99);
}

/* The highest rate that keeps p99 within the bound, by bisection below `most`. */
static double highest_rate(const bench *b, int32_t max_batch, double bound, double most,
                           double *p99, double *mean_batch)
{
    sparoa_server *server = NULL;
    sparoa_service *service = NULL;
    double low = 0, high = most;
    open_service(b, max_batch, 0, &server, &service);
    saturated(b, service, max_batch, 0.1);
    *p99 = *mean_batch = NAN;
    for (int i = 0; i < STEPS; i++) {
        double rate = i == 0 ? 0.8 * most : (low + high) / 2;
        sparoa_service_info before, after;
        sparoa_service_get_info(service, &before);
        double got = poisson(b, service, rate, 77 + (uint64_t)i);
        sparoa_service_get_info(service, &after);
        if (got <= bound) {
            low = rate;
            *p99 = got;
            *mean_batch =
                (double)(after.items - before.items) / (double)(after.batches - before.batches);
        } else {
            high = rate;
        }
    }
    sparoa_server_destroy(server);
    return low;
}

/* ---- one model ---- */

static void bench_model(bench *b, const char *argument)
{
    char path[1024];
    double curve[CURVE] = {0};
    int sizes = 0, best = 0;
    snprintf(path, sizeof path, "%s", argument);
    char *colon = strrchr(path, ':');
    b->dims[0] = '\0';
    if (colon) {
        snprintf(b->dims, sizeof b->dims, "%s", colon + 1);
        *colon = '\0';
    }
    open_model(b, path);
    printf("%s, %d threads\n  batch      ms   ms per item\n", path, b->threads);
    for (int n = 1; n <= b->max_batch && sizes < CURVE; n *= 2, sizes++) {
        double s = direct(b, n, 0.25);
        curve[sizes] = s / n;
        printf("  %5d %8.3f   %8.4f\n", n, s * 1e3, curve[sizes] * 1e3);
        if (curve[sizes] < 0.97 * curve[best]) best = sizes;
    }
    int32_t batch = 1 << best;
    double gain = curve[0] / curve[best];
    overhead one = measure_overhead(b, 1), many = measure_overhead(b, batch);
    double bound = fmax(b->bound * curve[0], b->least_bound * 1e-3), p99_one, p99_many, mean_one,
           mean_many;
    double rate_one = highest_rate(b, 1, bound, one.per_second, &p99_one, &mean_one);
    double rate_many = highest_rate(b, batch, bound, many.per_second, &p99_many, &mean_many);
    printf("  curve      batch %d is best: %.2fx the items per second of batch 1\n", batch, gain);
    printf("  overhead   batch 1: %.1f %% (%.1f to %.1f), batch %d: %.1f %% (%.1f to %.1f)\n",
           100 * one.median, 100 * one.better, 100 * one.worse, batch, 100 * many.median,
           100 * many.better, 100 * many.worse);
    printf(
        "  poisson    p99 within %.3f ms: %.1f per second one by one (p99 %.3f), %.1f in batches "
        "(p99 %.3f, %.1f each): %.2fx\n",
        bound * 1e3, rate_one, p99_one * 1e3, rate_many, p99_many * 1e3, mean_many,
        rate_many / rate_one);
    if (b->json) {
        fprintf(b->json, "{\"model\":\"%s\",\"threads\":%d,\"batch\":%d,\"curve_ms_per_item\":[",
                path, b->threads, batch);
        for (int i = 0; i < sizes; i++) fprintf(b->json, "%s%.5f", i ? "," : "", curve[i] * 1e3);
        fprintf(b->json,
                "],\"curve_gain\":%.3f,\"overhead_batch1\":[%.4f,%.4f,%.4f],"
                "\"overhead\":[%.4f,%.4f,%.4f],\"p99_bound_ms\":%.4f,\"rate_one\":%.1f,"
                "\"rate_batched\":%.1f,\"mean_batch\":%.2f,\"gain\":%.3f}\n",
                gain, one.better, one.median, one.worse, many.better, many.median, many.worse,
                bound * 1e3, rate_one, rate_many, mean_many, rate_many / rate_one);
        fflush(b->json);
    }
    close_model(b);
}

int main(int argc, char **argv)
{
    bench b = {.threads = 1,
               .max_batch = 32,
               .bound = 10,
               .least_bound = 20,
               .seconds = 1.5,
               .overhead_s = 6};
    int option;
    prctl(PR_SET_TIMERSLACK, 1L); /* arrivals on time */
    while ((option = getopt(argc, argv, "t:b:p:m:s:v:o:")) != -1) {
        switch (option) {
        case 't': b.threads = atoi(optarg); break;
        case 'b': b.max_batch = atoi(optarg); break;
        case 'p': b.bound = atof(optarg); break;
        case 'm': b.least_bound = atof(optarg); break;
        case 's': b.seconds = atof(optarg); break;
        case 'v': b.overhead_s = atof(optarg); break;
        case 'o': b.json = fopen(optarg, "a"); break;
        default: return 2;
        }
    }
    if (optind == argc || b.threads < 1 || b.max_batch < 1) {
        fprintf(
            stderr,
            "usage: bench_batch [-t THREADS] [-b MAX_BATCH] [-p BOUND] [-m LEAST_MS] [-s SECONDS] "
            "[-v SECONDS] [-o FILE] MODEL.onnx[:DIM=N,...]...\n");
        return 2;
    }
    for (int i = optind; i < argc; i++) bench_model(&b, argv[i]);
    if (b.json) fclose(b.json);
    return 0;
}
