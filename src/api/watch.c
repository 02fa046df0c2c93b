/* sparoa_live.h: following the machine's state with a session's plans. */
#include "platform/watch.h"

#include <math.h>

#include "api/auto.h"
#include "api/live.h"
#include "base/clock.h"

#define DEFAULT_GAIN 0.05
#define LEAST_PERIOD_NS 1000000
#define FIRST_COST_NS 1e6 /* of planning and switching, until it was measured */

/* A plan that the session has. */
typedef struct known {
    struct known *next;
    int32_t place;    /* of the session, or with device "auto" of its `devices`; SP_AUTO_HOST */
    uint8_t device[]; /* by node of the replanner */
} known;

struct sparoa_watch {
    sparoa_session *session;
    sparoa_watch_options o;
    sparoa_replanner *replanner; /* the caller's, or our own */
    sp_auto_basis *basis;        /* what our own is of; with device "auto" only */
    sp_choice *choice;           /* likewise: what is changed, until the end of the watch ... */
    sparoa_choice measured;      /* ... from this, */
    int32_t measured_place;      /* which was there */
    sp_watch watch;
    bool started;
    sp_platform_state base; /* device "auto": the first state; it counts as nominal */
    known *plans, *home, *current;
    uint8_t *target; /* by node: room for a plan */
    sp_env_state price;
    double busy_ns[SP_PLATFORM_DEVICES]; /* of the plan in use, in a run */
    int64_t last_runs, last_read_ns;
    double cost_ns;
    sparoa_watch_info info;
    pthread_mutex_t mutex; /* one step at a time */
    pthread_t thread;
    pthread_cond_t wake;
    bool has_thread, ending;
};

static size_t node_count(const sparoa_watch *w)
{
    return w->replanner->profile->p->node_count;
}

static sparoa_allocator *memory(const sparoa_watch *w)
{
    return &w->session->model->runtime->alloc;
}

static size_t known_bytes(const sparoa_watch *w)
{
    return sizeof(known) + node_count(w);
}

/* ---- plans ---- */

static known *find(const sparoa_watch *w, const uint8_t *device)
{
    for (known *k = w->plans; k; k = k->next)
        if (memcmp(k->device, device, node_count(w)) == 0) return k;
    return NULL;
}

static sparoa_status remember(sparoa_watch *w, const uint8_t *device, int32_t place, known **made,
                              sparoa_error *err)
{
    known *k = sp_calloc(memory(w), 1, known_bytes(w));
    if (!k) return sp_no_memory(memory(w), known_bytes(w), err);
    memcpy(k->device, device, node_count(w));
    k->place = place;
    k->next = w->plans;
    w->plans = k;
    *made = k;
    return SPAROA_OK;
}

/* Gives the session a plan that it lacks. */
static sparoa_status add_plan(sparoa_watch *w, const uint8_t *device, known **made,
                              sparoa_error *err)
{
    sparoa_plan *plan;
    size_t index = 0;
    bool host = true;
    for (size_t i = 0; i < node_count(w); i++) host = host && device[i] == 0;
    if (w->choice && host) return remember(w, device, SP_AUTO_HOST, made, err);
    SP_TRY(sp_replanner_plan_of(w->replanner, device, &plan, err));
    sparoa_session *to = w->choice ? w->session->choose->devices : w->session;
    sparoa_status status = sparoa_session_add_plan(to, plan, &index, err);
    sparoa_plan_destroy(plan);
    return status == SPAROA_OK ? remember(w, device, (int32_t)index, made, err) : status;
}

static void count_nodes(sparoa_watch *w)
{
    w->info.nodes = 0;
    for (size_t i = 0; i < node_count(w); i++) w->info.nodes += w->current->device[i] != 0;
    w->info.plan = w->current->place == SP_AUTO_HOST ? SIZE_MAX : (size_t)w->current->place;
}

/* The session runs by it from now on. */
static sparoa_status use(sparoa_watch *w, known *k, sparoa_error *err)
{
    sparoa_session *s = w->session;
    if (!w->choice) {
        SP_TRY(sparoa_session_use_plan(s, (size_t)k->place, err));
    } else {
        sparoa_choice *info = &w->choice->info;
        pthread_mutex_lock(&s->mutex);
        bool failed = s->lost || info->source == SPAROA_CHOICE_FAILED;
        if (!failed) {
            w->choice->place = k->place;
            info->source = SPAROA_CHOICE_WATCHED;
            if (k->place == SP_AUTO_HOST)
                snprintf(info->chosen, sizeof info->chosen, "cpu");
            else
                snprintf(info->chosen, sizeof info->chosen, "plan %d", (int)k->place);
            snprintf(info->reason, sizeof info->reason, "the machine's %s changed", w->info.reason);
        }
        pthread_mutex_unlock(&s->mutex);
        if (failed)
            return sparoa_fail(err, SPAROA_DEVICE_LOST, NULL,
                               "a device of the session failed: it stays on the cpu");
    }
    w->current = k;
    count_nodes(w);
    return SPAROA_OK;
}

static double priced(sparoa_watch *w, const uint8_t *device)
{
    sp_env_replay(&w->price, device);
    return w->price.result.makespan_ns;
}

/* ---- states ---- */

/* A state in which the session was measured counts as nominal: others are relative to it. */
static void make_relative(const sparoa_watch *w, sp_platform_state *s)
{
    if (!w->choice) return;
    for (uint32_t d = 0; d < sp_replanner_env(w->replanner->r)->device_count; d++) {
        const sp_device_state *base = &w->base.device[d];
        sp_device_state *to = &s->device[d];
        to->load = fmin(0.95, fmax(0, 1 - (1 - to->load) / (1 - base->load)));
        to->clock = fmin(1, fmax(0.05, to->clock / base->clock));
        to->units = fmin(1, fmax(0.05, to->units / base->units));
    }
    s->memory_clock = fmin(1, fmax(0.05, s->memory_clock / w->base.memory_clock));
}

/* The share of its time that each device spent on the session's runs since the last reading. */
static void read_sensors(sparoa_watch *w, sparoa_live_state *state)
{
    double own[SPAROA_LIVE_DEVICES] = {0};
    sparoa_session *s = w->session;
    int64_t now = sp_now_ns();
    pthread_mutex_lock(&s->mutex);
    int64_t runs = s->runs;
    pthread_mutex_unlock(&s->mutex);
    double passed = (double)(now - w->last_read_ns);
    for (uint32_t d = 1; d < sp_replanner_env(w->replanner->r)->device_count && passed > 0; d++)
        own[d] = fmin(1, (double)(runs - w->last_runs) * w->busy_ns[d] / passed);
    w->last_runs = runs;
    w->last_read_ns = now;
    sp_live_read(w->o.live->live, own, state);
}

/* ---- a step ---- */

/* Prices plans for the state and takes the best one if it is worth it. */
static sparoa_status decide(sparoa_watch *w, sparoa_error *err)
{
    const sp_live_state now = {.platform = w->watch.seen};
    sp_replan_result result;
    sp_replan(w->replanner->r, &now, SP_REPLAN_ALL, w->target, &result);
    double keep = 1 - w->o.gain, best = priced(w, w->target), home = priced(w, w->home->device),
           current = priced(w, w->current->device);
    bool return_home = !(best < keep * home);
    if (return_home) {
        memcpy(w->target, w->home->device, node_count(w));
        best = home;
    }
    w->info.replans++;
    w->info.before_ns = w->info.after_ns = current;
    known *to = find(w, w->target);
    bool worth = return_home ? best <= current : best < keep * current;
    if (to == w->current || !worth) return SPAROA_OK;
    if (!to) SP_TRY(add_plan(w, w->target, &to, err));
    SP_TRY(use(w, to, err));
    w->info.after_ns = priced(w, to->device);
    memcpy(w->busy_ns, w->price.result.busy_ns, sizeof w->busy_ns);
    w->info.changed = 1;
    w->info.switches++;
    return SPAROA_OK;
}

static sparoa_status step(sparoa_watch *w, const sparoa_live_state *state, sparoa_error *err)
{
    sp_platform_state s;
    const sp_platform *platform = sp_replanner_platform(w->replanner->r);
    sp_platform_state nominal = sp_platform_nominal(platform);
    sp_live_platform_state(state, platform, &nominal, &s);
    if (!w->started) {
        w->base = s;
        const sp_watch_options o = {.load_band = w->o.load_band,
                                    .clock_band = w->o.clock_band,
                                    .memory_limit = w->o.memory_limit,
                                    .hold_ns = (double)w->o.hold_ns,
                                    .smooth_ns = (double)w->o.smooth_ns,
                                    .switch_share = w->o.switch_share};
        sp_watch_start(&w->watch, &o, &nominal, platform->device_count, state->time_ns);
        w->started = true;
    }
    make_relative(w, &s);
    w->info.changed = 0;
    w->info.cost_ns = 0;
    sp_watch_reason why = sp_watch_feed(&w->watch, &s, w->cost_ns, state->time_ns);
    w->info.reason = sp_watch_reason_text(why);
    w->info.held_back = w->watch.held_back;
    if (why == SP_WATCH_INSIDE) return SPAROA_OK;
    int64_t start = sp_now_ns();
    sparoa_status status = decide(w, err);
    w->info.cost_ns = (double)(sp_now_ns() - start);
    w->cost_ns = fmax(w->cost_ns * 0.5, w->info.cost_ns);
    sp_watch_switched(&w->watch, &w->watch.seen, w->info.cost_ns, state->time_ns);
    if (w->info.changed)
        sp_log_line(&w->session->model->runtime->log, SPAROA_LOG_INFO,
                    "watch: %s changed: %d nodes on devices now, predicted %.3f ms in place of "
                    "%.3f",
                    w->info.reason, (int)w->info.nodes, w->info.after_ns * 1e-6,
                    w->info.before_ns * 1e-6);
    if (w->info.changed && w->o.report) w->o.report(w->o.report_user, &w->info);
    return status;
}

sparoa_status sparoa_watch_step(sparoa_watch *watch, const sparoa_live_state *state,
                                sparoa_watch_info *info, sparoa_error *err)
{
    if (!watch || (!state && !watch->o.live) ||
        (state && state->device_count > SPAROA_LIVE_DEVICES))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "watch is NULL, or there is neither a state nor sensors");
    sparoa_live_state read;
    pthread_mutex_lock(&watch->mutex);
    if (!state) read_sensors(watch, &read);
    sparoa_status status = step(watch, state ? state : &read, err);
    if (info) *info = watch->info;
    pthread_mutex_unlock(&watch->mutex);
    return status;
}

/* ---- the thread ---- */

static void *follow(void *user)
{
    sparoa_watch *w = user;
    sparoa_error fault;
    bool told = false;
    pthread_mutex_lock(&w->mutex);
    while (!w->ending) {
        int64_t until = sp_now_ns() + w->o.period_ns;
        const struct timespec t = {until / 1000000000, until % 1000000000};
        while (!w->ending && pthread_cond_timedwait(&w->wake, &w->mutex, &t) == 0) {
        }
        if (w->ending) break;
        sparoa_live_state state;
        read_sensors(w, &state);
        sparoa_status status = step(w, &state, &fault);
        if (status != SPAROA_OK && !told)
            sp_log_line(&w->session->model->runtime->log, SPAROA_LOG_WARN, "watch: %s",
                        fault.message);
        told = status != SPAROA_OK;
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static sparoa_status start_thread(sparoa_watch *w, sparoa_error *err)
{
    if (!w->o.period_ns) return SPAROA_OK;
    if (w->o.period_ns < LEAST_PERIOD_NS) w->o.period_ns = LEAST_PERIOD_NS;
    if (pthread_create(&w->thread, NULL, follow, w) != 0)
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "the watch's thread does not start");
    w->has_thread = true;
    return SPAROA_OK;
}

/* ---- making ---- */

static sparoa_status check(const sparoa_session *s, const sparoa_watch_options *o,
                           sparoa_error *err)
{
    bool good = o->load_band >= 0 && o->clock_band >= 0 && o->memory_limit >= 0 &&
                o->hold_ns >= 0 && o->switch_share >= 0 && o->gain >= 0 && o->gain < 1 &&
                o->period_ns >= 0;
    if (!good)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "an option of the watch is out of range");
    if (o->period_ns && !o->live)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "period_ns asks for a thread, which needs `live`");
    if (!o->replanner == !s->choose)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           s->choose ? "a session with device \"auto\" takes no replanner"
                                     : "options.replanner is NULL");
    return SPAROA_OK;
}

/* Where the nodes are that the measured choice runs by. */
static void fill_chosen(const sparoa_watch *w, uint8_t *device)
{
    const sp_choice *c = w->choice;
    for (uint32_t i = 0; i < node_count(w); i++)
        device[i] = c->place == SP_AUTO_HOST ? 0
                    : c->plan                ? c->plan->p->nodes[i].device
                                             : w->basis->allowed[i] >> 1 & 1;
}

/* With the session's mutex held: takes over what it measured. */
static sparoa_status take_measured(sparoa_watch *w, sparoa_error *err)
{
    sp_auto *automatic = w->session->choose;
    if (!automatic->basis || !automatic->basis_of || w->session->lost ||
        automatic->basis_of->info.source != SPAROA_CHOICE_MEASURED)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL,
                           "the session has not measured its devices: call sparoa_session_tune "
                           "(a choice from a cache holds no times of nodes)");
    SP_TRY(sp_auto_devices(w->session, err));
    SP_TRY(sparoa_replanner_create(&automatic->basis->profile, &automatic->basis->platform,
                                   SPAROA_OBJECTIVE_LATENCY, NULL, &w->replanner, err));
    w->basis = automatic->basis;
    automatic->basis = NULL;
    automatic->keep = true;
    w->choice = automatic->basis_of;
    w->measured = w->choice->info;
    w->measured_place = w->choice->place;
    return SPAROA_OK;
}

static sparoa_status begin(sparoa_watch *w, sparoa_error *err)
{
    sparoa_session *s = w->session;
    if (s->choose) {
        pthread_mutex_lock(&s->mutex);
        sparoa_status status = take_measured(w, err);
        pthread_mutex_unlock(&s->mutex);
        SP_TRY(status);
    }
    w->target = sp_calloc(memory(w), node_count(w) + 1, 1);
    if (!w->target || !sp_env_state_init(&w->price, sp_replanner_env(w->replanner->r)))
        return sp_no_memory(memory(w), node_count(w), err);
    if (w->choice) {
        fill_chosen(w, w->target);
        SP_TRY(remember(w, w->target, w->choice->place, &w->home, err));
        w->current = w->home;
        count_nodes(w);
    } else {
        SP_TRY(add_plan(w, w->replanner->device, &w->home, err));
        SP_TRY(use(w, w->home, err));
    }
    priced(w, w->home->device);
    memcpy(w->busy_ns, w->price.result.busy_ns, sizeof w->busy_ns);
    pthread_mutex_lock(&s->mutex);
    w->last_runs = s->runs;
    pthread_mutex_unlock(&s->mutex);
    w->last_read_ns = sp_now_ns();
    return start_thread(w, err);
}

sparoa_status sparoa_watch_create(sparoa_session *session, const sparoa_watch_options *options,
                                  sparoa_watch **watch, sparoa_error *err)
{
    sparoa_watch_options o;
    if (!session || !options || !watch)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session, options or watch is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    SP_TRY(check(session, &o, err));
    const sparoa_allocator *a = &session->model->runtime->alloc;
    sparoa_watch *w = sp_calloc(a, 1, sizeof *w);
    if (!w) return sp_no_memory(a, sizeof *w, err);
    w->session = session;
    w->o = o;
    if (w->o.gain == 0) w->o.gain = DEFAULT_GAIN;
    w->replanner = o.replanner;
    w->cost_ns = FIRST_COST_NS;
    w->info.reason = sp_watch_reason_text(SP_WATCH_INSIDE);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attr);
    pthread_condattr_destroy(&attr);
    sparoa_status status = begin(w, err);
    if (status != SPAROA_OK)
        sparoa_watch_destroy(w);
    else
        *watch = w;
    return status;
}

void sparoa_watch_destroy(sparoa_watch *w)
{
    if (!w) return;
    sparoa_session *s = w->session;
    const sparoa_allocator *a = memory(w);
    if (w->has_thread) {
        pthread_mutex_lock(&w->mutex);
        w->ending = true;
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->mutex);
        pthread_join(w->thread, NULL);
    }
    size_t bytes = w->plans ? known_bytes(w) : 0;
    for (known *k = w->plans, *next; k; k = next) {
        next = k->next;
        sp_free(a, k, bytes);
    }
    sp_env_state_free(&w->price);
    if (w->target) sp_free(a, w->target, node_count(w) + 1);
    if (w->basis) {
        sparoa_replanner_destroy(w->replanner);
        pthread_mutex_lock(&s->mutex);
        s->choose->keep = false;
        if (w->choice->info.source == SPAROA_CHOICE_WATCHED) {
            w->choice->info = w->measured;
            w->choice->place = w->measured_place;
        }
        if (s->choose->basis) { /* measured anew meanwhile */
            sp_auto_basis_destroy(s, w->basis);
        } else {
            s->choose->basis = w->basis;
            s->choose->basis_of = w->choice;
        }
        sp_auto_release(s);
        pthread_mutex_unlock(&s->mutex);
    }
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    sp_free(a, w, sizeof *w);
}
