/* The simulation: activities on lanes and links progress at rates that change at events. */
#include "platform/sim.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

enum {
    LANES = 4,
    ACTIVITIES = SP_PLATFORM_DEVICES * LANES + SP_PLATFORM_DEVICES * SP_PLATFORM_DEVICES
};
#define NONE UINT32_MAX

/* Something that runs now: a task on a lane or a copy on a link. */
typedef struct activity {
    uint32_t id;       /* task, or index into copies; NONE: free */
    double overhead;   /* ns left of launching */
    double left, full; /* ns left of the rest, at the present state; what that was in all */
    double memory;     /* share of the rest that waits for memory if nobody slows it */
    double demand;     /* bytes per second while it runs */
    double start, factor, joules;
} activity;

typedef struct copy {
    uint32_t value, from, to, next; /* next: on the same link */
    double ready, done;             /* negative: not yet */
} copy;

typedef struct sim {
    const sp_platform *platform;
    const sp_sim_graph *graph;
    const sp_sim_options *o;
    sp_platform_state state;
    double now, run_start, next_load, last_heat, heat_joules, temperature, throttle;
    uint64_t load_draws;
    uint32_t run;
    copy *copies;
    uint32_t copy_count, *copy_of; /* by value and device: index of its copy, or NONE */
    double *done;                  /* by task; negative: not yet */
    uint32_t *next_task;           /* by task: the next one on the same device */
    uint32_t queue[SP_PLATFORM_DEVICES], finished;
    uint32_t link_queue[SP_PLATFORM_DEVICES][SP_PLATFORM_DEVICES];
    activity active[ACTIVITIES];
    sp_sim_result sum;
    double energy;
    bool throttled;
} sim;

static uint32_t home_of(const sim *s, uint32_t value)
{
    uint32_t p = s->graph->values[value].producer;
    return p == SP_SIM_INPUT ? 0 : s->graph->tasks[p].device;
}

/* ---- preparing: copies in the order that their readers are dispatched ---- */

static void want_copy(sim *s, uint32_t value, uint32_t to)
{
    uint32_t from = home_of(s, value), *slot = &s->copy_of[value * SP_PLATFORM_DEVICES + to];
    if (from == to || *slot != NONE) return;
    *slot = s->copy_count;
    s->copies[s->copy_count++] = (copy){value, from, to, NONE, -1, -1};
}

static void want_inputs(sim *s, const sp_sim_task *t)
{
    for (uint32_t k = 0; k < t->n_in; k++)
        want_copy(s, s->graph->reads[t->first_in + k], t->device);
}

static void list_copies(sim *s)
{
    const sp_sim_graph *g = s->graph;
    for (uint32_t i = 0; i < g->task_count; i++) {
        const sp_sim_task *t = &g->tasks[i];
        want_inputs(s, t);
        if (i + 1 < g->task_count && t[1].second) want_inputs(s, &t[1]);
        for (uint32_t k = 0; k < t->n_out; k++)
            if (g->values[t->first_out + k].output) want_copy(s, t->first_out + k, 0);
    }
}

static uint32_t *link_of(sim *s, const copy *c)
{
    return s->platform->shared_link ? &s->link_queue[0][0] : &s->link_queue[c->from][c->to];
}

static void reset_run(sim *s)
{
    const sp_sim_graph *g = s->graph;
    uint32_t last[SP_PLATFORM_DEVICES];
    memset(s->queue, 0xff, sizeof s->queue);
    memset(s->link_queue, 0xff, sizeof s->link_queue);
    memset(last, 0xff, sizeof last);
    for (uint32_t i = 0; i < g->task_count; i++) {
        uint32_t d = g->tasks[i].device;
        s->done[i] = -1;
        s->next_task[i] = NONE;
        *(last[d] == NONE ? &s->queue[d] : &s->next_task[last[d]]) = i;
        last[d] = i;
    }
    for (uint32_t i = s->copy_count; i-- > 0;) {
        copy *c = &s->copies[i];
        uint32_t *queue = link_of(s, c);
        c->next = *queue;
        *queue = i;
        c->done = -1;
        c->ready = g->values[c->value].producer == SP_SIM_INPUT ? s->now : -1;
    }
    for (int a = 0; a < ACTIVITIES; a++) s->active[a].id = NONE;
    s->finished = 0;
}

/* ---- starting ---- */

static double noise_of(const sim *s, uint64_t what)
{
    const sp_platform *p = s->platform;
    if (!s->o->noise) return 1;
    uint64_t key = sp_rng_stream(sp_rng_stream(s->o->seed, s->run), what);
    double f = exp(p->noise_sigma * sp_rng_normal(key, 0) - p->noise_sigma * p->noise_sigma / 2);
    return sp_rng_uniform(key, 2) < p->spike_probability ? f * p->spike_factor : f;
}

static bool inputs_here(const sim *s, const sp_sim_task *t, bool *opens)
{
    *opens = t->n_in == 0;
    for (uint32_t k = 0; k < t->n_in; k++) {
        uint32_t v = s->graph->reads[t->first_in + k], p = s->graph->values[v].producer;
        if (home_of(s, v) != t->device) {
            *opens = true;
            if (s->copies[s->copy_of[v * SP_PLATFORM_DEVICES + t->device]].done < 0) return false;
        } else if (p != SP_SIM_INPUT && s->done[p] < 0) {
            return false;
        }
    }
    return true;
}

static void start_task(sim *s, activity *a, uint32_t id, bool opens)
{
    const sp_sim_task *t = &s->graph->tasks[id];
    sp_price p = sp_platform_cost(s->platform, t->device, s->o->regime, &t->work, &s->state);
    double factor = noise_of(s, id) * (t->scale > 0 ? t->scale : 1);
    double entry =
        opens ? s->platform->devices[t->device].entry_ns[s->o->regime] / s->state.device[0].clock
              : 0;
    double busy = fmax(p.compute_ns, p.memory_ns);
    *a = (activity){.id = id,
                    .overhead = p.overhead_ns * factor + entry,
                    .left = busy * factor,
                    .full = busy * factor,
                    .memory = busy > 0 ? p.memory_ns / busy : 0,
                    .demand = busy > 0 ? p.bytes / busy * 1e9 : 0,
                    .start = s->now,
                    .factor = factor,
                    .joules = p.joules * factor + entry * 1e-9 * s->platform->dispatch_watts};
}

static void start_copy(sim *s, activity *a, uint32_t id)
{
    const copy *c = &s->copies[id];
    double bytes = s->graph->values[c->value].bytes;
    sp_copy_price p = sp_platform_copy(s->platform, c->from, c->to, s->o->regime, bytes, &s->state);
    double factor = noise_of(s, (uint64_t)1 << 32 | id);
    *a = (activity){.id = id,
                    .left = p.ns * factor,
                    .full = p.ns * factor,
                    .memory = 1,
                    .demand = p.ns > 0 ? 2 * bytes / p.ns * 1e9 : 0,
                    .start = s->now,
                    .factor = factor,
                    .joules = p.joules * factor};
}

static double queue_end(const sim *s, uint32_t d)
{
    return s->run_start + s->o->queue_ns[d];
}

static void start_all(sim *s)
{
    const sp_platform *p = s->platform;
    for (uint32_t d = 0; d < p->device_count; d++)
        for (int l = 0; l < p->devices[d].lanes; l++) {
            activity *a = &s->active[d * LANES + (uint32_t)l];
            bool opens;
            if (a->id != NONE || s->queue[d] == NONE || s->now < queue_end(s, d) ||
                !inputs_here(s, &s->graph->tasks[s->queue[d]], &opens))
                continue;
            uint32_t id = s->queue[d];
            s->queue[d] = s->next_task[id];
            start_task(s, a, id, opens);
        }
    for (uint32_t k = 0; k < SP_PLATFORM_DEVICES * SP_PLATFORM_DEVICES; k++) {
        activity *a = &s->active[SP_PLATFORM_DEVICES * LANES + k];
        uint32_t *queue = &s->link_queue[k / SP_PLATFORM_DEVICES][k % SP_PLATFORM_DEVICES];
        if (a->id != NONE || *queue == NONE || s->copies[*queue].ready < 0) continue;
        uint32_t id = *queue;
        *queue = s->copies[id].next;
        start_copy(s, a, id);
    }
}

/* ---- time passes ---- */

/* Nanoseconds until an activity ends if nothing changes; slow: of memory. */
static double stretch(const activity *a, double slow)
{
    return fmax(1, a->memory * slow); /* the larger of computing (1 or less) and memory */
}

static double memory_slowdown(const sim *s)
{
    double demand = 0;
    for (int a = 0; a < ACTIVITIES; a++)
        if (s->active[a].id != NONE && s->active[a].overhead <= 0) demand += s->active[a].demand;
    return s->o->contention ? sp_platform_contention(s->platform, demand, &s->state) : 1;
}

static double next_event(const sim *s, double slow)
{
    double dt = s->next_load - s->now;
    for (uint32_t d = 0; d < s->platform->device_count; d++)
        if (queue_end(s, d) > s->now) dt = fmin(dt, queue_end(s, d) - s->now);
    for (int i = 0; i < ACTIVITIES; i++) {
        const activity *a = &s->active[i];
        if (a->id == NONE) continue;
        dt = fmin(dt, a->overhead > 0 ? a->overhead : a->left * stretch(a, slow));
    }
    return fmax(dt, 0);
}

static void put_event(sim *s, const char *name, const char *category, uint32_t lane, double start)
{
    sp_text *t = s->o->trace;
    if (!t || s->run) return;
    sp_text_add(t, ",\n{\"name\": ");
    sp_text_quote(t, name);
    sp_text_add(t, ", \"cat\": \"%s\", \"ph\": \"X\", \"pid\": 1, \"tid\": %u, \"ts\": ", category,
                lane);
    sp_text_number(t, start * 1e-3);
    sp_text_add(t, ", \"dur\": ");
    sp_text_number(t, (s->now - start) * 1e-3);
    sp_text_add(t, "}");
}

static void end_task(sim *s, uint32_t lane, activity *a)
{
    const sp_sim_task *t = &s->graph->tasks[a->id];
    s->done[a->id] = s->now;
    s->sum.busy_ns[t->device] += s->now - a->start;
    for (uint32_t k = 0; k < t->n_out; k++)
        for (uint32_t d = 0; d < SP_PLATFORM_DEVICES; d++) {
            uint32_t c = s->copy_of[(t->first_out + k) * SP_PLATFORM_DEVICES + d];
            if (c != NONE) s->copies[c].ready = s->now;
        }
    put_event(s, t->name, sp_kind_name(t->work.kind), lane, a->start);
}

static void advance(sim *s, double dt, double slow)
{
    s->now += dt;
    for (uint32_t i = 0; i < ACTIVITIES; i++) {
        activity *a = &s->active[i];
        if (a->id == NONE) continue;
        if (a->overhead > 0) {
            a->overhead = a->overhead <= dt * (1 + 1e-12) ? 0 : a->overhead - dt;
            if (a->overhead > 0 || a->left > 0) continue;
        } else {
            double rate = 1 / stretch(a, slow), part = dt * rate;
            s->sum.slowed_ns += dt * (1 - rate);
            a->left = a->left <= part * (1 + 1e-12) ? 0 : a->left - part;
            if (a->left > 0) continue;
        }
        bool task = i < SP_PLATFORM_DEVICES * LANES;
        s->energy += a->joules;
        s->heat_joules += a->joules;
        s->finished++;
        if (task) {
            end_task(s, i, a);
        } else {
            s->copies[a->id].done = s->now;
            s->sum.transfer_ns += s->now - a->start;
            put_event(s, "copy", "copy", i, a->start);
        }
        a->id = NONE;
    }
}

/* Rescales what runs on devices whose state has changed. */
static void state_changed(sim *s)
{
    for (uint32_t i = 0; i < SP_PLATFORM_DEVICES * LANES; i++) {
        activity *a = &s->active[i];
        if (a->id == NONE || !(a->full > 0)) continue;
        const sp_sim_task *t = &s->graph->tasks[a->id];
        sp_price p = sp_platform_cost(s->platform, t->device, s->o->regime, &t->work, &s->state);
        double full = fmax(p.compute_ns, p.memory_ns) * a->factor;
        a->left *= full / a->full;
        a->full = full;
        a->demand = full > 0 ? p.bytes * a->factor / full * 1e9 : 0;
    }
}

static void draw_load(sim *s)
{
    const sp_sim_options *o = s->o;
    uint64_t key = sp_rng_stream(o->seed, 0x10ad);
    for (uint32_t d = 0; d < s->platform->device_count; d++) {
        bool busy = sp_rng_uniform(key, s->load_draws++) < o->load_probability[d];
        double base = o->state ? o->state->device[d].load : 0;
        s->state.device[d].load = fmin(0.95, base + (busy ? o->load_share[d] : 0));
    }
    s->next_load += o->load_period_ns;
}

/* First-order heating by the power of the time since the last call. */
static void heat(sim *s)
{
    const sp_platform *p = s->platform;
    double dt = s->now - s->last_heat;
    if (!s->o->thermal || !(p->limit_c > 0) || !(dt > 0)) return;
    double watts = sp_platform_idle_watts(p, &s->state) + s->heat_joules / (dt * 1e-9);
    double target = p->ambient_c + watts * p->c_per_watt;
    s->temperature += (target - s->temperature) * (1 - exp(-dt * 1e-9 / p->thermal_s));
    s->last_heat = s->now;
    s->heat_joules = 0;
    double throttle = s->temperature > p->limit_c       ? p->throttled_clock
                      : s->temperature < p->limit_c - 5 ? 1
                                                        : s->throttle;
    for (uint32_t d = 0; d < p->device_count; d++) {
        s->state.device[d].clock *= throttle / s->throttle;
        s->state.device[d].temperature = s->temperature;
    }
    s->throttle = throttle;
    s->throttled |= throttle < 1;
}

static sparoa_status one_run(sim *s, sparoa_error *err)
{
    reset_run(s);
    s->run_start = s->now;
    uint32_t all = s->graph->task_count + s->copy_count;
    while (s->finished < all) {
        start_all(s);
        double slow = memory_slowdown(s), dt = next_event(s, slow);
        if (!isfinite(dt))
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, NULL,
                               "simulation: %u of %u tasks and copies can never start",
                               all - s->finished, all);
        advance(s, dt, slow);
        if (s->now < s->next_load) continue;
        draw_load(s);
        state_changed(s);
    }
    heat(s);
    return SPAROA_OK;
}

/* ---- the whole ---- */

static sparoa_status check_graph(const sp_platform *p, const sp_sim_graph *g, sparoa_error *err)
{
    for (uint32_t i = 0; i < g->task_count; i++)
        if (g->tasks[i].device >= p->device_count)
            return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                               "simulation: task '%.80s' is on device %u of %u", g->tasks[i].name,
                               g->tasks[i].device, p->device_count);
    return SPAROA_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise(sim *s, double *times, uint32_t runs, sp_sim_result *r)
{
    *r = s->sum;
    qsort(times, runs, sizeof *times, by_value);
    for (uint32_t i = 0; i < runs; i++) r->mean_ns += times[i] / runs;
    r->min_ns = times[0];
    r->p50_ns = times[runs / 2];
    r->p99_ns = times[(uint32_t)((double)(runs - 1) * 0.99)];
    r->max_ns = times[runs - 1];
    r->energy_j =
        s->energy / runs + sp_platform_idle_watts(s->platform, &s->state) * r->mean_ns * 1e-9;
    for (int d = 0; d < SP_PLATFORM_DEVICES; d++) r->busy_ns[d] /= runs;
    r->transfer_ns /= runs;
    r->slowed_ns /= runs;
    r->temperature_c = s->o->thermal && s->platform->limit_c > 0 ? s->temperature : 0;
}

static void open_trace(const sim *s)
{
    sp_text *t = s->o->trace;
    sp_text_add(t, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n{\"name\": \"process_name\", "
                   "\"ph\": \"M\", \"pid\": 1, \"args\": {\"name\": ");
    char name[96];
    snprintf(name, sizeof name, "simulated: %s", s->platform->name);
    sp_text_quote(t, name);
    sp_text_add(t, "}}");
    for (uint32_t i = 0; i < ACTIVITIES; i++) {
        uint32_t k = i - SP_PLATFORM_DEVICES * LANES, a = k / SP_PLATFORM_DEVICES,
                 b = k % SP_PLATFORM_DEVICES, d = i / LANES, n = s->platform->device_count;
        if (i < SP_PLATFORM_DEVICES * LANES) {
            if (d >= n || (int)(i % LANES) >= s->platform->devices[d].lanes) continue;
            snprintf(name, sizeof name, "%s %u", s->platform->devices[d].name, i % LANES);
        } else {
            if (a >= n || b >= n || a == b) continue;
            snprintf(name, sizeof name, "copy %s to %s", s->platform->devices[a].name,
                     s->platform->devices[b].name);
        }
        sp_text_add(t,
                    ",\n{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": %u, "
                    "\"args\": {\"name\": ",
                    i);
        sp_text_quote(t, name);
        sp_text_add(t, "}}");
    }
}

static bool prepare(sim *s, sp_arena *arena, uint32_t runs, double **times)
{
    const sp_sim_graph *g = s->graph;
    size_t slots = (size_t)g->value_count * SP_PLATFORM_DEVICES;
    s->copies = sp_arena_alloc(arena, (slots + 1) * sizeof *s->copies);
    s->copy_of = sp_arena_alloc(arena, (slots + 1) * sizeof *s->copy_of);
    s->done = sp_arena_alloc(arena, (g->task_count + 1) * sizeof *s->done);
    s->next_task = sp_arena_alloc(arena, (g->task_count + 1) * sizeof *s->next_task);
    *times = sp_arena_alloc(arena, runs * sizeof **times);
    if (!s->copies || !s->copy_of || !s->done || !s->next_task || !*times) return false;
    memset(s->copy_of, 0xff, slots * sizeof *s->copy_of);
    list_copies(s);
    return true;
}

sparoa_status sp_sim_run(const sparoa_allocator *alloc, const sp_platform *platform,
                         const sp_sim_graph *graph, const sp_sim_options *options,
                         sp_sim_result *result, sparoa_error *err)
{
    sparoa_status status = check_graph(platform, graph, err);
    if (status != SPAROA_OK) return status;
    sim s = {.platform = platform, .graph = graph, .o = options, .throttle = 1};
    uint32_t runs = options->runs ? options->runs : 1;
    sp_arena arena;
    double *times;
    sp_arena_init(&arena, alloc);
    s.state = options->state ? *options->state : sp_platform_nominal(platform);
    s.temperature =
        platform->ambient_c + sp_platform_idle_watts(platform, &s.state) * platform->c_per_watt;
    if (options->state && options->state->device[0].temperature > 0)
        s.temperature = options->state->device[0].temperature;
    s.next_load = options->load_period_ns > 0 ? 0 : INFINITY;
    if (!prepare(&s, &arena, runs, &times)) status = sp_no_memory(alloc, graph->task_count, err);
    if (status == SPAROA_OK && options->trace) open_trace(&s);
    if (status == SPAROA_OK && options->load_period_ns > 0) draw_load(&s);
    for (s.run = 0; status == SPAROA_OK && s.run < runs; s.run++) {
        double start = s.now;
        s.throttled = s.throttle < 1;
        status = one_run(&s, err);
        times[s.run] = s.now - start;
        s.sum.throttled += s.throttled;
    }
    if (status == SPAROA_OK) summarise(&s, times, runs, result);
    if (status == SPAROA_OK && options->trace) sp_text_add(options->trace, "\n]}\n");
    sp_arena_destroy(&arena);
    return status;
}
