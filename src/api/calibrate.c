/* sparoa_calibrate: this machine as a platform, by measuring small networks on every device. */
#include <math.h>

#include "api/calibrate.h"
#include "base/clock.h"
#include "profile/fit.h"
#include "profile/micro.h"

enum {
    WARMUP = 2,
    LEAST_RUNS = 5,
    MOST_RUNS = 40,
    MOST_NETS = 4000,
    COPIES = 9,      /* timed copies of each size */
    CHAIN_SHORT = 8, /* nodes of the chains that tell dispatch and entry apart */
    CHAIN_LONG = 72
};
#define NET_NS 8e6            /* time for the runs of one network */
#define FEW_WEIGHTS (1 << 20) /* bytes: more are cold when a model comes to them again */
#define PASSED_BY (40 << 20)  /* bytes that have gone through the caches meanwhile */
#define FLOPS_A_BYTE 50       /* of weights: with more, computing takes longer than reading them */
#define SLOW_NS 40e6          /* two runs of a network that takes this long are followed by two */
#define SMALL_COPY 4096       /* bytes */
#define LARGE_COPY (8 << 20)

typedef struct job {
    sparoa_runtime *rt;
    sparoa_calibrate_options o;
    sp_platform *p;
    sp_fit fit;
    uint32_t device, device_count;
    unsigned char *passed_by; /* PASSED_BY bytes */
    sparoa_error *err;
} job;

static void tell(const job *j, const char *what, double share)
{
    if (j->o.progress)
        j->o.progress(j->o.progress_user, what, (j->device + share) / j->device_count);
}

/* ---- networks ---- */

/* A network on the device of the job, with its one input. */
typedef struct trial {
    sparoa_model *model;
    sparoa_session *session;
    sparoa_tensor input, output;
} trial;

static void close_trial(job *j, trial *t)
{
    sparoa_tensor_free(j->rt, &t->input);
    sparoa_session_destroy(t->session);
    sparoa_model_destroy(t->model);
}

/* Takes over the graph. */
static sparoa_status open_trial(job *j, sp_graph *graph, int32_t profile, trial *t)
{
    *t = (trial){0};
    if (!graph) return sp_no_memory(&j->rt->alloc, 1 << 20, j->err);
    SP_TRY(sp_model_of_graph(j->rt, graph, &t->model, j->err));
    sparoa_session_options o = {.struct_size = sizeof o,
                                .profile = profile,
                                .device = j->rt->names[j->device],
                                .fallback = SPAROA_FALLBACK_ALLOW};
    sparoa_value_info in;
    sparoa_model_input(t->model, 0, &in);
    t->input = sparoa_tensor_view(in.dtype, NULL, in.rank, in.dims);
    sparoa_status status = sparoa_session_create(t->model, &o, &t->session, j->err);
    sparoa_tensor made = t->input;
    if (status == SPAROA_OK) status = sparoa_tensor_alloc(j->rt, &made, j->err);
    if (status != SPAROA_OK) {
        t->input = (sparoa_tensor){0};
        close_trial(j, t);
        return status;
    }
    t->input = made;
    float *x = made.data;
    for (int64_t i = 0; i < sparoa_tensor_count(&made); i++)
        x[i] = (float)((uint32_t)(i * 2654435761u) >> 8) / 8388608.0f - 1;
    return SPAROA_OK;
}

static sparoa_status run(job *j, trial *t)
{
    t->output = (sparoa_tensor){0};
    return sparoa_session_run(t->session, &t->input, 1, &t->output, 1, j->err);
}

/* The median time of whole runs. */
static sparoa_status time_runs(job *j, trial *t, double *median)
{
    double ns[MOST_RUNS];
    int count = 0;
    for (int i = 0; i < WARMUP; i++) SP_TRY(run(j, t));
    for (int64_t start = sp_now_ns();
         count < LEAST_RUNS || (count < MOST_RUNS && (double)(sp_now_ns() - start) < NET_NS);) {
        int64_t before = sp_now_ns();
        SP_TRY(run(j, t));
        double took = (double)(sp_now_ns() - before);
        int at = count++;
        for (; at > 0 && ns[at - 1] > took; at--) ns[at] = ns[at - 1];
        ns[at] = took;
    }
    *median = ns[count / 2];
    return SPAROA_OK;
}

/* Nodes that the device does not take ran on the host: they are no samples of it. */
static void drop_others(const job *j, const trial *t, sparoa_profile *profile)
{
    size_t count = sparoa_session_node_count(t->session);
    for (size_t i = 0; i < count; i++) {
        sparoa_node_info n;
        sparoa_session_node(t->session, i, &n);
        uint32_t k = strcmp(n.device, j->rt->names[j->device]) ? sp_profile_find(profile->p, n.name)
                                                               : SP_NO_ID;
        if (k != SP_NO_ID) profile->p->nodes[k].measured_ns[0] = 0;
    }
}

/* Whether the time of a network's weights to come from memory matters beside that of computing. */
static bool waits_for_weights(const sp_profile *p)
{
    double flops = 0, bytes = 0;
    for (uint32_t i = 0; i < p->node_count; i++) {
        flops += p->nodes[i].cost.flops;
        bytes += p->nodes[i].cost.bytes_w;
    }
    return bytes > FEW_WEIGHTS && flops < FLOPS_A_BYTE * bytes;
}

/* In a model with large weights those of other nodes go through the caches between two runs of a
 * node; its input was made just before. */
static void pass_by(job *j, const trial *t)
{
    const volatile unsigned char *x = t->input.data;
    for (size_t i = 0; i < PASSED_BY; i += 64) j->passed_by[i]++;
    for (size_t i = 0; i < sparoa_tensor_bytes(&t->input); i += 64) (void)x[i];
}

static sparoa_status measure_net(job *j, sp_graph *graph)
{
    trial t;
    sparoa_profile *profile = NULL;
    bool large = false;
    SP_TRY(open_trial(j, graph, 1, &t));
    sparoa_status status =
        sparoa_profile_create(t.model, &t.input, 1, SPAROA_REGIME_GRAPH, &profile, j->err);
    if (status == SPAROA_OK) large = waits_for_weights(profile->p);
    int64_t start = sp_now_ns();
    for (int i = 0; status == SPAROA_OK && i < WARMUP; i++) status = run(j, &t);
    bool slow = (double)(sp_now_ns() - start) > SLOW_NS;
    start = sp_now_ns();
    sp_pool_enter(j->rt->pool); /* in a model workers are awake by the second node */
    for (int i = 0; status == SPAROA_OK && i < MOST_RUNS; i++) {
        if (i >= (slow ? 2 : LEAST_RUNS) && (double)(sp_now_ns() - start) > NET_NS) break;
        if (large) pass_by(j, &t);
        status = run(j, &t);
        if (status == SPAROA_OK)
            status =
                sparoa_profile_sample(profile, t.session, j->rt->names[j->device], NULL, j->err);
    }
    sp_pool_leave(j->rt->pool);
    if (status == SPAROA_OK) {
        drop_others(j, &t, profile);
        if (!sp_fit_add(&j->fit, profile->p, 0))
            status = sp_no_memory(&j->rt->alloc, sizeof(sp_fit_sample), j->err);
    }
    sparoa_profile_destroy(profile);
    close_trial(j, &t);
    return status;
}

static sparoa_status measure_nets(job *j)
{
    double limit = (j->o.seconds > 0 ? j->o.seconds : 50) * 1e9;
    int64_t start = sp_now_ns();
    for (uint32_t i = 0; i < MOST_NETS; i++) {
        double passed = (double)(sp_now_ns() - start);
        if (i >= 8 && passed > limit) break; /* at least one of each family */
        tell(j, j->rt->names[j->device], passed / limit);
        SP_TRY(measure_net(j, sp_micro_graph(&j->rt->alloc, i, 0)));
    }
    return SPAROA_OK;
}

/* ---- dispatch, copies ---- */

/* Overheads: a node waited for by itself (eager), and one more node in a run (graph). What is left
 * of a short run is the entry, whose copies are known by now. */
static sparoa_status measure_dispatch(job *j)
{
    sp_platform_device *d = &j->p->devices[j->device];
    double runs[2], least = INFINITY;
    trial t;
    for (int k = 0; k < 2; k++) {
        sp_graph *chain = sp_micro_chain(&j->rt->alloc, k ? CHAIN_LONG : CHAIN_SHORT, 16);
        SP_TRY(open_trial(j, chain, 0, &t));
        sparoa_status status = time_runs(j, &t, &runs[k]);
        close_trial(j, &t);
        SP_TRY(status);
    }
    SP_TRY(open_trial(j, sp_micro_chain(&j->rt->alloc, CHAIN_SHORT, 16), 1, &t));
    double ignored;
    sparoa_status status = time_runs(j, &t, &ignored);
    for (size_t i = 0; i < sparoa_session_node_count(t.session); i++) {
        sparoa_node_info n;
        sparoa_session_node(t.session, i, &n);
        if (n.min_ns > 0) least = fmin(least, (double)n.min_ns);
    }
    close_trial(j, &t);
    SP_TRY(status);
    double more = fmax(0, (runs[1] - runs[0]) / (CHAIN_LONG - CHAIN_SHORT));
    double eager = isfinite(least) ? fmax(least, more) : more;
    for (int k = 0; k < SP_KIND_COUNT; k++) {
        d->kinds[k] = (sp_platform_kind){.efficiency = {.count = 1, .y = {1}}, .bandwidth = 1};
        d->kinds[k].overhead_ns[SP_REGIME_EAGER] = eager;
        d->kinds[k].overhead_ns[SP_REGIME_GRAPH] = more;
    }
    for (int free = 0; free < 2; free++) { /* what moves no data costs nothing here */
        sp_platform_kind *k = &d->kinds[free ? SP_KIND_VIEW : SPAROA_CLASS_SHAPE];
        k->given = true;
        k->overhead_ns[0] = k->overhead_ns[1] = 0;
    }
    double rest = runs[0] - CHAIN_SHORT * more;
    for (uint32_t l = 0; l < j->p->link_count; l++)
        if (j->p->links[l].to == j->device || j->p->links[l].from == j->device)
            rest -= j->p->links[l].fixed_ns[SP_REGIME_GRAPH];
    if (j->device) d->entry_ns[0] = d->entry_ns[1] = fmax(0, rest);
    return SPAROA_OK;
}

/* The median time of a copy, its wait included. */
static sparoa_status time_copy(const sp_device *d, sparoa_queue *queue, void *to, const void *from,
                               size_t bytes, double *median)
{
    double ns[COPIES];
    for (int i = 0; i < COPIES; i++) {
        int64_t start = sp_now_ns();
        SP_TRY(d->table->copy(queue, to, from, bytes));
        SP_TRY(d->table->queue_sync(queue));
        double took = (double)(sp_now_ns() - start);
        int at = i;
        for (; at > 0 && ns[at - 1] > took; at--) ns[at] = ns[at - 1];
        ns[at] = took;
    }
    *median = ns[COPIES / 2];
    return SPAROA_OK;
}

static sparoa_status time_link(const sp_device *d, sparoa_queue *queue, void *to, const void *from,
                               sp_platform_link *link)
{
    double small, large;
    SP_TRY(time_copy(d, queue, to, from, SMALL_COPY, &small));
    SP_TRY(time_copy(d, queue, to, from, LARGE_COPY, &large));
    double per_byte = fmax(1e-3, large - small) / (LARGE_COPY - SMALL_COPY);
    link->bandwidth = fmin(1e16, 1e9 / per_byte);
    link->fixed_ns[0] = link->fixed_ns[1] = fmax(0, small - SMALL_COPY * per_byte);
    return SPAROA_OK;
}

static sparoa_status measure_copies(job *j)
{
    const sp_device *d = &j->rt->devices[j->device];
    void *host = sp_alloc(&j->rt->alloc, LARGE_COPY), *remote = NULL;
    sparoa_queue *queue = NULL;
    sp_platform_link *links = &j->p->links[j->p->link_count];
    sparoa_status status = host ? SPAROA_OK : SPAROA_OUT_OF_MEMORY;
    if (host) memset(host, 1, LARGE_COPY);
    if (status == SPAROA_OK)
        status = d->table->buffer_alloc(d->dev, LARGE_COPY, SPAROA_MEMORY_DEVICE, &remote);
    if (status == SPAROA_OK) status = d->table->queue_create(d->dev, 0, &queue);
    links[0] = (sp_platform_link){.from = 0, .to = j->device};
    links[1] = (sp_platform_link){.from = j->device, .to = 0};
    if (status == SPAROA_OK) status = time_link(d, queue, remote, host, &links[0]);
    if (status == SPAROA_OK) status = time_link(d, queue, host, remote, &links[1]);
    if (queue) d->table->queue_destroy(queue);
    if (remote) d->table->buffer_free(d->dev, remote, LARGE_COPY, SPAROA_MEMORY_DEVICE);
    sp_free(&j->rt->alloc, host, LARGE_COPY);
    if (status != SPAROA_OK)
        return sparoa_fail(j->err, status, NULL, "copies to and from '%s' fail",
                           j->rt->names[j->device]);
    j->p->link_count += 2;
    return SPAROA_OK;
}

/* Two accelerators reach each other through the host. */
static void link_accelerators(sp_platform *p)
{
    uint32_t direct = p->link_count;
    for (uint32_t a = 1; a < p->device_count; a++)
        for (uint32_t b = 1; b < p->device_count; b++) {
            sp_platform_link l = {.from = a, .to = b};
            double per_byte = 0;
            for (uint32_t i = 0; a != b && i < direct; i++)
                if ((p->links[i].from == a && p->links[i].to == 0) ||
                    (p->links[i].from == 0 && p->links[i].to == b)) {
                    l.fixed_ns[0] += p->links[i].fixed_ns[0];
                    l.fixed_ns[1] += p->links[i].fixed_ns[1];
                    per_byte += 1 / p->links[i].bandwidth;
                }
            l.bandwidth = per_byte > 0 ? 1 / per_byte : 1;
            if (a != b) p->links[p->link_count++] = l;
        }
}

/* ---- zeros in weights ---- */

/* The time of one product with that share of zeros in its weights. */
static sparoa_status time_product(job *j, const int64_t *size, double zeros, double *ns)
{
    trial t;
    SP_TRY(open_trial(j, sp_micro_product(&j->rt->alloc, size[0], size[1], size[2], zeros), 0, &t));
    sparoa_status status = time_runs(j, &t, ns);
    close_trial(j, &t);
    return status;
}

/* What zeros in constant weights gain, the geometric mean of products as in a MobileNet's 7x7 and
 * 14x14 maps and in a transformer; nothing is written where no kernel uses them. */
static sparoa_status measure_sparse(job *j)
{
    static const double zeros[] = {0.5, 0.7, 0.8, 0.9, 0.95, 0.99};
    static const int64_t sizes[][3] = {{49, 960, 160}, {196, 64, 384}, {196, 512, 512}};
    enum { SIZES = sizeof sizes / sizeof *sizes, ZEROS = sizeof zeros / sizeof *zeros };
    sp_curve curve = {.count = ZEROS};
    double most = 1;
    for (int z = 0; z < ZEROS; z++) curve.x[z] = zeros[z], curve.y[z] = 1;
    for (int i = 0; i < SIZES; i++) {
        double dense, ns;
        SP_TRY(time_product(j, sizes[i], 0, &dense));
        for (int z = 0; z < ZEROS; z++) {
            SP_TRY(time_product(j, sizes[i], zeros[z], &ns));
            curve.y[z] *= pow(fmax(1, dense / ns), 1.0 / SIZES);
        }
    }
    for (int z = 0; z < ZEROS; z++) most = fmax(most, curve.y[z]);
    if (most < 1.1) return SPAROA_OK; /* noise */
    j->p->devices[j->device].kinds[SPAROA_CLASS_GEMM].sparse_weights = curve;
    j->p->devices[j->device].kinds[SPAROA_CLASS_CONV].sparse_weights = curve;
    return SPAROA_OK;
}

/* ---- memory that devices share ---- */

/* How much slower the host's copying gets while the device's queue is full of copies. */
static sparoa_status measure_contention(job *j)
{
    const sp_device *d = &j->rt->devices[j->device];
    sparoa_device_info info = {.struct_size = sizeof info};
    d->table->device_info(d->dev, &info);
    if (!(info.caps & SPAROA_CAP_ASYNC)) return SPAROA_OK;
    enum { BYTES = 4 << 20, QUEUED = 24 };
    char *host = sp_alloc(&j->rt->alloc, 3 * BYTES);
    void *remote = NULL;
    sparoa_queue *queue = NULL;
    sparoa_status status = host ? SPAROA_OK : SPAROA_OUT_OF_MEMORY;
    if (host) memset(host, 1, 3 * BYTES);
    if (status == SPAROA_OK)
        status = d->table->buffer_alloc(d->dev, BYTES, SPAROA_MEMORY_DEVICE, &remote);
    if (status == SPAROA_OK) status = d->table->queue_create(d->dev, 0, &queue);
    double ns[2] = {INFINITY, INFINITY};
    for (int busy = 0; status == SPAROA_OK && busy < 2; busy++) {
        for (int i = 0; busy && i < QUEUED && status == SPAROA_OK; i++)
            status = d->table->copy(queue, remote, host + 2 * BYTES, BYTES);
        for (int i = 0; i < 4; i++) {
            int64_t start = sp_now_ns();
            memcpy(host + BYTES, host, BYTES);
            ns[busy] = fmin(ns[busy], (double)(sp_now_ns() - start));
        }
        if (status == SPAROA_OK) status = d->table->queue_sync(queue);
    }
    if (queue) d->table->queue_destroy(queue);
    if (remote) d->table->buffer_free(d->dev, remote, BYTES, SPAROA_MEMORY_DEVICE);
    sp_free(&j->rt->alloc, host, 3 * BYTES);
    if (status != SPAROA_OK)
        return sparoa_fail(j->err, status, NULL, "copies to '%s' fail", j->rt->names[j->device]);
    j->p->memory_bandwidth = j->p->devices[0].bandwidth;
    j->p->contention_knee = 0.5;
    j->p->contention = fmax(j->p->contention, fmin(10, fmax(0, ns[1] / ns[0] - 1)));
    return SPAROA_OK;
}

/* ---- the whole ---- */

/* What the device says of itself. */
static void describe_device(job *j)
{
    sp_platform_device *d = &j->p->devices[j->device];
    const sp_device *from = &j->rt->devices[j->device];
    sparoa_device_info info = {.struct_size = sizeof info};
    from->table->device_info(from->dev, &info);
    snprintf(d->name, sizeof d->name, "%s", j->rt->names[j->device]);
    d->kind = info.kind;
    d->lanes = 1;
    d->clock_power = 1;
    d->memory_by_clock = 0.2;
    d->memory_bytes = (double)info.memory_bytes;
    d->peak_flops = fmax(info.peak_flops, 1e6);
    d->bandwidth = fmax(info.memory_bandwidth, 1e6);
}

static sparoa_status measure_peaks(job *j)
{
    sp_platform_device *d = &j->p->devices[j->device];
    const sp_device *from = &j->rt->devices[j->device];
    sparoa_device_peak peak = {0};
    describe_device(j);
    if (from->table->measure) SP_TRY(from->table->measure(from->dev, 300, &peak, j->err));
    if (peak.gflops_all > 0) d->peak_flops = peak.gflops_all * 1e9;
    if (peak.bandwidth > 0) d->bandwidth = peak.bandwidth * 1e9;
    return SPAROA_OK;
}

static sparoa_status measure_device(job *j)
{
    tell(j, j->rt->names[j->device], 0);
    SP_TRY(measure_peaks(j));
    if (j->device) SP_TRY(measure_copies(j));
    SP_TRY(measure_dispatch(j));
    SP_TRY(measure_nets(j));
    if (!sp_fit_device(&j->fit, j->p, j->device, SP_PLATFORM_SAMPLES / j->device_count))
        return sp_no_memory(&j->fit.alloc, j->fit.count * sizeof *j->fit.samples, j->err);
    SP_TRY(measure_sparse(j));
    return j->device ? measure_contention(j) : SPAROA_OK;
}

/* An empty platform for the devices of the runtime. */
static void begin_platform(job *j, sp_platform *p, const char *name)
{
    sparoa_device_desc cpu = {0};
    sparoa_device(j->rt, 0, &cpu);
    j->p = p;
    j->fit.alloc = j->rt->alloc;
    j->device_count = (uint32_t)(j->rt->device_count < SP_PLATFORM_DEVICES ? j->rt->device_count
                                                                           : SP_PLATFORM_DEVICES);
    p->device_count = j->device_count;
    p->spike_factor = p->contention_knee = p->throttled_clock = 1;
    p->ambient_c = 25;
    p->thermal_s = 100;
    snprintf(p->name, sizeof p->name, "%s", name);
    snprintf(p->description, sizeof p->description, "%.80s, %d threads, measured by sparoa %s",
             cpu.description, (int)sparoa_runtime_threads(j->rt), sparoa_version());
}

sparoa_status sp_calibrate_links(sparoa_runtime *runtime, sp_platform *platform, sparoa_error *err)
{
    sparoa_error ignored;
    job j = {.rt = runtime, .err = err ? err : &ignored};
    memset(platform, 0, sizeof *platform);
    begin_platform(&j, platform, "this_machine");
    for (; j.device < j.device_count; j.device++) {
        describe_device(&j);
        if (j.device) SP_TRY(measure_copies(&j));
        SP_TRY(measure_dispatch(&j));
    }
    link_accelerators(platform);
    return SPAROA_OK;
}

sparoa_status sparoa_calibrate(sparoa_runtime *runtime, const sparoa_calibrate_options *options,
                               sparoa_platform **platform, sparoa_error *err)
{
    sparoa_error ignored;
    job j = {.rt = runtime, .err = err ? err : &ignored};
    if (!runtime || !platform)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "runtime or platform is NULL");
    if (!sp_read_options(&j.o, sizeof j.o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    const char *name = j.o.name ? j.o.name : "this_machine";
    if (!*name || strlen(name) >= sizeof j.p->name || !(j.o.seconds >= 0 && j.o.seconds <= 3600))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "the name '%.80s' is empty or too long, or %g seconds are not 0..3600",
                           name, j.o.seconds);
    sparoa_platform *made = sp_calloc(&runtime->alloc, 1, sizeof *made);
    if (!made) return sp_no_memory(&runtime->alloc, sizeof *made, err);
    j.passed_by = sp_calloc(&runtime->alloc, 1, PASSED_BY);
    if (!j.passed_by) {
        sp_free(&runtime->alloc, made, sizeof *made);
        return sp_no_memory(&runtime->alloc, PASSED_BY, err);
    }
    begin_platform(&j, &made->p, name);
    sparoa_status status = SPAROA_OK;
    for (; status == SPAROA_OK && j.device < j.device_count; j.device++) {
        j.fit.count = 0;
        status = measure_device(&j);
    }
    link_accelerators(j.p);
    sp_fit_free(&j.fit);
    sp_free(&runtime->alloc, j.passed_by, PASSED_BY);
    if (status != SPAROA_OK) {
        sp_free(&runtime->alloc, made, sizeof *made);
        return status;
    }
    made->runtime = runtime;
    sp_runtime_ref(runtime);
    *platform = made;
    return SPAROA_OK;
}
