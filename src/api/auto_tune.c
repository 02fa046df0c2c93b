/* Sessions whose device is "auto": measuring the candidates and choosing among them. */
#include <math.h>
#include <stdlib.h>

#include "api/auto.h"
#include "base/clock.h"

enum {
    LEAST_ROUNDS = 5,
    MOST_ROUNDS = 41,
    NODE_RUNS = 3,   /* that measure the nodes on one device */
    MOST_DEVICES = 3 /* besides the host */
};
#define BETTER 0.99    /* of the simpler candidate's time: less is clearly faster */
#define HOPELESS 1.25  /* of the best median: no more rounds */
#define USELESS 25     /* times the host's: such a device has no part in plans either */
#define FIRST_NS 300e6 /* a device may take this long to start up, whatever is left of the time */
#define SHORT_NS 20e6  /* shorter runs are measured behind another one of the same candidate */

typedef struct contender {
    int32_t place;     /* plan of `devices`, SP_AUTO_HOST */
    bool alive;        /* takes part in the next round */
    sparoa_plan *plan; /* NULL: the host, or the first device alone */
    double ns[MOST_ROUNDS];
} contender;

typedef struct tuning {
    sparoa_session *s;
    sp_auto *automatic;
    const sparoa_tensor *inputs;
    size_t count;
    sparoa_choice info;
    contender contenders[SPAROA_CANDIDATES];
    int64_t start, end; /* the time given */
    double host_ns;     /* of the first run on the host */
    sp_env *env;        /* NULL: nothing could be priced */
    uint8_t *trial;     /* by node of `devices` */
    int32_t rounds;
} tuning;

/* ---- runs ---- */

static sparoa_status run(tuning *t, int32_t place, int64_t deadline_ns, double *ns,
                         sparoa_error *err)
{
    sp_auto *automatic = t->automatic;
    uint32_t outputs = t->s->graph->output_count;
    const sp_stop stop = {.deadline_ns = deadline_ns};
    memset(automatic->outputs, 0, outputs * sizeof *automatic->outputs);
    if (place != SP_AUTO_HOST) SP_TRY(sp_auto_use(automatic, place, err));
    int64_t start = sp_now_ns();
    if (place == SP_AUTO_HOST)
        SP_TRY(sp_session_run_here(t->s, t->inputs, t->count, automatic->outputs, outputs, err));
    else
        SP_TRY(sp_session_run(automatic->devices, t->inputs, t->count, automatic->outputs, outputs,
                              &stop, err));
    if (ns) *ns = (double)(sp_now_ns() - start);
    return SPAROA_OK;
}

/* Until when a candidate may take that has never run here. */
static int64_t patience(const tuning *t)
{
    int64_t least = sp_now_ns() + (int64_t)(FIRST_NS + 5 * t->host_ns);
    return t->end > least ? t->end : least;
}

/* ---- candidates ---- */

static void drop(tuning *t, int32_t i, const char *why)
{
    t->contenders[i].alive = false;
    snprintf(t->info.candidates[i].verdict, sizeof t->info.candidates[i].verdict, "%.120s", why);
}

static void drop_failed(tuning *t, int32_t i, sparoa_status status, const sparoa_error *fault)
{
    char why[128];
    if (status == SPAROA_DEADLINE)
        snprintf(why, sizeof why, "given up within its first run; the cpu takes %.3g ms",
                 t->host_ns * 1e-6);
    else
        snprintf(why, sizeof why, "%s: %.90s", sparoa_status_name(status), fault->message);
    drop(t, i, why);
    t->s->lost |= status == SPAROA_DEVICE_LOST;
}

/* Its index, or -1: there is no room. */
static int32_t add(tuning *t, const char *name, int32_t place)
{
    int32_t i = t->info.candidate_count;
    if (i == SPAROA_CANDIDATES) return -1;
    t->info.candidate_count++;
    t->contenders[i] = (contender){.place = place, .alive = true};
    snprintf(t->info.candidates[i].name, sizeof t->info.candidates[i].name, "%.47s", name);
    return i;
}

static void count_nodes(tuning *t, int32_t i)
{
    const sp_program *p = t->automatic->devices->program;
    for (size_t k = 0; k < p->graph->node_count; k++)
        t->info.candidates[i].nodes += p->placement->device[k] != 0;
}

/* A run that gets ready what the rounds will use. False: it is out. */
static bool warm_up(tuning *t, int32_t i)
{
    sparoa_error fault = {0};
    sparoa_status status = run(t, t->contenders[i].place, patience(t), NULL, &fault);
    if (status != SPAROA_OK)
        drop_failed(t, i, status, &fault);
    else
        count_nodes(t, i);
    return status == SPAROA_OK;
}

/* The same for a device that may be hopelessly slow: node by node first, so that no more than one
 * node is under way when time is up. */
static bool warm_up_slowly(tuning *t, int32_t i)
{
    sparoa_session *devices = t->automatic->devices;
    bool profiles = devices->engine.profile;
    sparoa_error fault = {0};
    double ns = 0;
    devices->engine.profile = true;
    sparoa_status status = run(t, t->contenders[i].place, patience(t), &ns, &fault);
    devices->engine.profile = profiles;
    if (status != SPAROA_OK) {
        drop_failed(t, i, status, &fault);
        return false;
    }
    if (!warm_up(t, i)) return false;
    if (ns < USELESS * t->host_ns) return true;
    sparoa_status again = run(t, t->contenders[i].place, patience(t), &ns, &fault);
    if (again == SPAROA_OK && ns < USELESS * t->host_ns) return true;
    t->info.candidates[i].median_ns = ns;
    t->info.candidates[i].ratio = ns / t->host_ns;
    drop(t, i, "far slower");
    return false;
}

/* A candidate that is a plan, which it takes over; `whole`: that of a device. Its index, or -1. */
static int32_t add_planned(tuning *t, const char *name, sparoa_plan *plan, bool whole)
{
    sparoa_error fault = {0};
    size_t place = 0;
    int32_t i = add(t, name, 0);
    if (i < 0) {
        sparoa_plan_destroy(plan);
        return -1;
    }
    t->contenders[i].plan = plan;
    sparoa_status status = sparoa_session_add_plan(t->automatic->devices, plan, &place, &fault);
    t->contenders[i].place = (int32_t)place;
    if (status != SPAROA_OK) drop_failed(t, i, status, &fault);
    if (status != SPAROA_OK) return -1;
    return (whole ? warm_up_slowly(t, i) : warm_up(t, i)) ? i : -1;
}

/* ---- times of nodes ---- */

/* Runs a plan that puts all it can on one device and takes over the times of its nodes. */
static bool measure_nodes(tuning *t, int32_t place, uint32_t device)
{
    sparoa_session *devices = t->automatic->devices;
    bool profiles = devices->engine.profile;
    sparoa_error fault;
    sparoa_status status = SPAROA_OK;
    devices->engine.profile = true;
    sparoa_session_profile_reset(devices);
    for (int k = 0; status == SPAROA_OK && k < NODE_RUNS; k++) {
        if (k && sp_now_ns() > t->end) break;
        status = run(t, place, patience(t), NULL, &fault);
    }
    if (status == SPAROA_OK) sp_auto_basis_measured(devices, t->automatic->basis, device);
    sparoa_session_profile_reset(devices);
    devices->engine.profile = profiles;
    t->s->lost |= status == SPAROA_DEVICE_LOST;
    return status == SPAROA_OK;
}

static bool measure_host(tuning *t)
{
    sparoa_plan *plan = NULL;
    size_t place;
    sp_auto *automatic = t->automatic;
    bool good = sp_auto_basis_single(t->s, automatic->basis, t->env, 0, &plan, NULL) == SPAROA_OK &&
                sparoa_session_add_plan(automatic->devices, plan, &place, NULL) == SPAROA_OK &&
                measure_nodes(t, (int32_t)place, 0);
    sparoa_plan_destroy(plan);
    return good;
}

static void price(tuning *t, int32_t i, uint32_t device)
{
    sp_env_result r;
    for (uint32_t k = 0; k < t->env->node_count; k++)
        t->trial[k] = t->env->nodes[k].allowed >> device & 1 ? (uint8_t)device : 0;
    if (sp_env_evaluate(t->env, t->trial, &r, NULL) == SPAROA_OK)
        t->info.candidates[i].predicted_ns = r.makespan_ns;
}

/* ---- plans ---- */

/* Whether the placement in `trial` is another than those of the candidates before. */
static bool is_new(const tuning *t)
{
    const sp_env *env = t->env;
    for (uint32_t d = 0; d < env->device_count; d++) {
        bool same = true;
        for (uint32_t i = 0; same && i < env->node_count; i++)
            same = t->trial[i] == (env->nodes[i].allowed >> d & 1 ? d : 0);
        if (same) return false;
    }
    for (int32_t k = 0; k < t->info.candidate_count; k++) {
        const sparoa_plan *plan = t->contenders[k].plan;
        bool same = plan != NULL;
        for (uint32_t i = 0; same && i < env->node_count; i++)
            same = t->trial[i] == plan->p->nodes[i].device;
        if (same) return false;
    }
    return true;
}

static bool divides(const tuning *t)
{
    bool any = false;
    for (uint32_t i = 0; i < t->env->node_count; i++) any |= sp_place_share(t->trial[i]) != 0;
    return any;
}

/* `divided`: with nodes shared between the devices, if by what is known that is faster. */
static void propose(tuning *t, const char *policy, bool divided)
{
    sp_policy_result r;
    sparoa_error fault;
    sparoa_plan *plan = NULL;
    char name[48];
    const sp_policy_options o = {.objective = SP_OBJECTIVE_LATENCY, .split = divided};
    if (t->s->lost || sp_now_ns() > t->end ||
        sp_policy_run(sp_policy_find(policy), t->env, &o, t->trial, &r, &fault) != SPAROA_OK ||
        divides(t) != divided || !is_new(t) ||
        sp_auto_basis_plan(t->s, t->env, t->trial, policy, &plan, &fault))
        return;
    snprintf(name, sizeof name, "plan %s", divided ? "divided" : policy);
    int32_t i = t->info.candidate_count;
    add_planned(t, name, plan, false);
    if (i < t->info.candidate_count) t->info.candidates[i].predicted_ns = r.price.makespan_ns;
}

/* The devices alone, then plans by what their nodes took; false: that is not known. */
static bool gather(tuning *t)
{
    sp_auto *automatic = t->automatic;
    const sparoa_runtime *rt = t->s->model->runtime;
    static const char *const policies[] = {"portfolio", "heft", "dp", "greedy"};
    int32_t alone[MOST_DEVICES + 1] = {0, add(t, rt->names[1], 0), -1, -1};
    bool known = warm_up_slowly(t, alone[1]);
    if (t->s->lost || (!known && rt->device_count == 2)) return false;
    if (sp_auto_basis_create(t->s, t->inputs, &automatic->basis, NULL) ||
        sp_auto_basis_env(t->s, automatic->basis, &t->env, NULL))
        return false;
    t->trial = sp_calloc(&rt->alloc, t->env->node_count + 1, 1);
    if (!t->trial) return false;
    uint32_t count = t->env->device_count;
    for (uint32_t d = 2; d < count && !t->s->lost; d++) {
        sparoa_plan *plan;
        if (!sp_auto_basis_single(t->s, automatic->basis, t->env, d, &plan, NULL))
            alone[d] = add_planned(t, rt->names[d], plan, true);
    }
    known = known && measure_host(t);
    for (uint32_t d = 1; known && d < count; d++)
        known = alone[d] > 0 && t->contenders[alone[d]].alive &&
                measure_nodes(t, t->contenders[alone[d]].place, d);
    if (!known || t->s->lost) return false; /* a device so slow, or so ill, has no part in a plan */
    sp_env_destroy(t->env);
    t->env = NULL;
    if (sp_auto_basis_env(t->s, automatic->basis, &t->env, NULL)) return false;
    for (uint32_t d = 0; d < count; d++) price(t, alone[d], d);
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) propose(t, policies[i], false);
    propose(t, policies[0], true);
    return true;
}

/* ---- rounds ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of the times of candidate i, or of their ratios to those of `by`; the distance between
 * quartiles in *spread. */
static double median(const tuning *t, int32_t i, int32_t by, double *spread)
{
    double x[MOST_ROUNDS];
    int n = 0;
    for (int32_t r = 0; r < t->rounds; r++) {
        double mine = t->contenders[i].ns[r], other = by < 0 ? 1 : t->contenders[by].ns[r];
        if (mine > 0 && other > 0) x[n++] = mine / other;
    }
    qsort(x, (size_t)n, sizeof *x, ascending);
    if (spread) *spread = n ? x[3 * n / 4] - x[n / 4] : 0;
    return n ? x[n / 2] : INFINITY;
}

static sparoa_status one_round(tuning *t, sparoa_error *err)
{
    int32_t count = t->info.candidate_count;
    for (int32_t k = 0; k < count; k++) {
        int32_t i = (k + t->rounds) % count; /* nobody is always behind the same one */
        contender *c = &t->contenders[i];
        sparoa_error fault = {0};
        if (!c->alive || (i && t->s->lost)) continue;
        double *ns = &c->ns[t->rounds];
        int64_t deadline = i ? patience(t) : 0;
        sparoa_status status = run(t, c->place, deadline, ns, &fault);
        /* behind others it finds its threads asleep and its data gone: once more */
        if (status == SPAROA_OK && *ns < SHORT_NS) status = run(t, c->place, deadline, ns, &fault);
        if (status == SPAROA_OK) {
            t->info.candidates[i].rounds++;
            continue;
        }
        if (i == 0) {
            if (err) *err = fault;
            return status;
        }
        *ns = 0;
        drop_failed(t, i, status, &fault);
    }
    t->rounds++;
    return SPAROA_OK;
}

static double fastest(const tuning *t, int32_t i)
{
    double best = INFINITY;
    for (int32_t r = 0; r < t->rounds; r++)
        if (t->contenders[i].ns[r] > 0) best = fmin(best, t->contenders[i].ns[r]);
    return best;
}

static int32_t still_alive(const tuning *t)
{
    int32_t count = 0;
    for (int32_t i = 0; i < t->info.candidate_count; i++) count += t->contenders[i].alive;
    return count;
}

/* Those that cannot win any more, not even by their fastest run, need no further rounds. */
static void thin_out(tuning *t)
{
    double best = INFINITY, limit = t->rounds < 3 ? 3 : HOPELESS;
    for (int32_t i = 0; i < t->info.candidate_count; i++)
        if (t->contenders[i].alive) best = fmin(best, median(t, i, -1, NULL));
    for (int32_t i = 0; i < t->info.candidate_count; i++)
        if (t->contenders[i].alive && fastest(t, i) > limit * best) drop(t, i, "slower");
}

static sparoa_status race(tuning *t, sparoa_error *err)
{
    int64_t begin = sp_now_ns(), end = begin + (t->end - t->start) / 2;
    if (end < t->end) end = t->end;
    while (still_alive(t) > 1 && t->rounds < MOST_ROUNDS && !t->s->lost) {
        if (t->rounds >= LEAST_ROUNDS && sp_now_ns() > end) break;
        SP_TRY(one_round(t, err));
        if (t->rounds > 1) thin_out(t);
    }
    return SPAROA_OK;
}

/* ---- the choice ---- */

/* The candidates stand from the simplest on: a later one must be clearly faster than the best
 * before it. */
static int32_t decide(tuning *t)
{
    int32_t best = 0;
    for (int32_t i = 1; t->s->lost && i < t->info.candidate_count; i++)
        if (t->contenders[i].alive) drop(t, i, "the device was lost");
    for (int32_t i = 0; i < t->info.candidate_count; i++) {
        sparoa_candidate *c = &t->info.candidates[i];
        double m = median(t, i, -1, NULL);
        if (c->rounds) {
            c->median_ns = m;
            c->ratio = median(t, i, 0, &c->spread);
        }
        if (i && t->contenders[i].alive && median(t, i, best, NULL) < BETTER) best = i;
    }
    if (!t->rounds) t->info.candidates[0].median_ns = t->host_ns;
    for (int32_t i = 0; i < t->info.candidate_count; i++)
        if (i != best && t->contenders[i].alive) drop(t, i, i ? "not clearly faster" : "slower");
    drop(t, best, "chosen");
    return best;
}

static void explain(tuning *t, int32_t best)
{
    const sparoa_candidate *c = &t->info.candidates[best];
    const sp_log *log = &t->s->model->runtime->log;
    sparoa_choice *info = &t->info;
    memcpy(info->chosen, c->name, sizeof info->chosen);
    info->source = SPAROA_CHOICE_MEASURED;
    info->tune_ns = (double)(sp_now_ns() - t->start);
    if (best)
        snprintf(info->reason, sizeof info->reason, "takes %.3f of the cpu's time over %d rounds",
                 c->ratio, c->rounds);
    else if (t->info.candidate_count > 1)
        snprintf(info->reason, sizeof info->reason, "nothing was clearly faster than the cpu");
    else
        snprintf(info->reason, sizeof info->reason, "there is no device but the cpu");
    for (int32_t i = 0; i < info->candidate_count; i++) {
        c = &info->candidates[i];
        sp_log_line(log, SPAROA_LOG_INFO, "auto: %s: %.3f ms, %.3f of the cpu's time, %d nodes: %s",
                    c->name, c->median_ns * 1e-6, c->ratio, (int)c->nodes, c->verdict);
    }
    sp_log_line(log, SPAROA_LOG_INFO, "auto: %s is chosen: %s (measured in %.0f ms)", info->chosen,
                info->reason, info->tune_ns * 1e-6);
}

static void settle(tuning *t, sp_choice *choice, int32_t best)
{
    contender *c = &t->contenders[best];
    choice->place = c->place;
    choice->plan = c->plan;
    c->plan = NULL;
    choice->info = t->info;
}

/* What was known of the nodes was for other shapes, or is not complete. */
static void forget_basis(sparoa_session *s)
{
    sp_auto_basis_destroy(s, s->choose->basis);
    s->choose->basis = NULL;
}

sparoa_status sp_auto_tune(sparoa_session *s, sp_choice *choice, const sparoa_tensor *inputs,
                           double budget_ns, sparoa_error *err)
{
    const sparoa_allocator *a = &s->model->runtime->alloc;
    tuning *t = sp_calloc(a, 1, sizeof *t);
    if (!t) return sp_no_memory(a, sizeof *t, err);
    *t = (tuning){.s = s, .automatic = s->choose, .inputs = inputs, .start = sp_now_ns()};
    t->count = s->graph->input_count;
    t->end = sp_later_ns(t->start, (int64_t)budget_ns);
    sparoa_plan_destroy(choice->plan);
    choice->plan = NULL;
    choice->place = SP_AUTO_HOST;
    choice->info.source = SPAROA_CHOICE_NONE;
    s->choose->basis_of = choice;
    forget_basis(s);
    bool known = false;
    sparoa_error fault = {0};
    int64_t runs = s->runs, last_run_ns = s->last_run_ns; /* of the caller's */
    add(t, "cpu", SP_AUTO_HOST);
    sparoa_status status = run(t, SP_AUTO_HOST, 0, &t->host_ns, err);
    if (status == SPAROA_OK && s->model->runtime->device_count > 1 && !s->lost) {
        sparoa_status opened = sp_auto_devices(s, &fault);
        if (opened == SPAROA_OK)
            known = gather(t);
        else
            drop_failed(t, add(t, s->model->runtime->names[1], 0), opened, &fault);
        status = race(t, err);
    }
    if (status == SPAROA_OK) {
        int32_t best = decide(t);
        explain(t, best);
        settle(t, choice, best);
        sp_auto_cache_save(s);
    }
    for (int32_t i = 0; i < t->info.candidate_count; i++)
        sparoa_plan_destroy(t->contenders[i].plan);
    if (t->trial) sp_free(a, t->trial, t->automatic->devices->graph->node_count + 1);
    sp_env_destroy(t->env);
    if (!known) forget_basis(s);
    sp_auto_release(s);
    s->runs = runs;
    s->last_run_ns = last_run_ns;
    sp_free(a, t, sizeof *t);
    return status;
}
