/*
 * optimal: places node after node and keeps, side by side, all partial plans ("labels") that can
 * still become the best. A label is dropped when
 *   - a bound on all that can come of it is no better than a plan already known, or
 *   - another label with the same devices for all values still to be read is no later in anything.
 * What is left at the end is the optimum. If more labels remain after a node than may be kept,
 * those with the least bounds stay, and the outcome is good but no longer proved.
 *
 * Only what the future can see is kept: when lanes and links are free, and when and where the live
 * values are.
 */
#include <math.h>

#include "schedule/policy.h"

enum { LAMBDAS = 7, DEFAULT_LABELS = 512, MAX_LABELS = 16384 };
#define MAX_STEPS ((size_t)32 << 20) /* parents that are remembered */

typedef struct label {
    double bound; /* of the score */
    double makespan, energy;
    double lane[SP_ENV_DEVICES][SP_ENV_LANES];
    double link[SP_ENV_DEVICES][SP_ENV_DEVICES];
    uint64_t key; /* of the devices of live values and where they are */
    uint32_t parent;
    uint8_t device;
} label;

typedef struct step {
    uint32_t parent;
    uint8_t device;
} step;

typedef struct search {
    const sp_env *env;
    const sp_policy_options *options;
    sp_objective objective;
    sp_arena arena;
    sp_env_state state;
    double incumbent;
    uint32_t keep;
    bool complete;
    /* live values after each node: those before it that a later node reads */
    uint32_t *last_use, *live, live_count, most_live;
    double *work[LAMBDAS];         /* by node: work that is left, priced with a share of the host */
    double *joules;                /* by node: least energy that is left */
    label *now, *next;             /* keep, and keep * devices */
    double *now_at, *next_at;      /* by label: arrivals of the live values on each device */
    uint8_t *now_home, *next_home; /* by label: device of each live value's producer */
    uint32_t now_count, next_count;
    uint32_t *order;
    step **steps; /* by node: one for each label kept */
} search;

static double lambda_of(int k)
{
    return (k + 1) / (LAMBDAS + 1.0);
}

/* ---- bounds ---- */

static void suffix_sums(search *s)
{
    const sp_env *env = s->env;
    for (uint32_t i = env->node_count; i-- > 0;) {
        const sp_env_node *n = &env->nodes[i];
        double least = INFINITY;
        for (uint32_t d = 0; d < env->device_count; d++)
            if (n->allowed >> d & 1) least = fmin(least, n->energy_j[d]);
        s->joules[i] = s->joules[i + 1] + least;
        for (int k = 0; k < LAMBDAS; k++) {
            double l = lambda_of(k), cost = INFINITY;
            for (uint32_t d = 0; d < env->device_count && d < 2; d++)
                if (n->allowed >> d & 1)
                    cost = fmin(cost, (d ? 1 - l : l) * n->time_ns[d] / env->devices[d].lanes);
            s->work[k][i] = s->work[k][i + 1] + cost;
        }
    }
}

static double mean_lane(const search *s, const label *x, uint32_t d)
{
    double sum = 0;
    for (int l = 0; l < s->env->devices[d].lanes; l++) sum += x->lane[d][l];
    return sum / s->env->devices[d].lanes;
}

/* No plan that begins like this ends sooner. For a share l, l F0 + (1-l) F1 is at most the later of
 * both devices' ends, and at least what both have done and the cheapest split of the rest. */
static double time_bound(const search *s, const label *x, const double *at, uint32_t next)
{
    const sp_env *env = s->env;
    double bound = x->makespan;
    if (env->device_count == 2)
        for (int k = 0; k < LAMBDAS; k++) {
            double l = lambda_of(k);
            bound = fmax(bound,
                         l * mean_lane(s, x, 0) + (1 - l) * mean_lane(s, x, 1) + s->work[k][next]);
        }
    for (uint32_t i = 0; i < s->live_count; i++) {
        uint32_t reader = s->last_use[s->live[i]];
        double earliest = INFINITY;
        for (uint32_t d = 0; d < env->device_count; d++) {
            double there = at[(size_t)i * SP_ENV_DEVICES + d];
            if (there >= 0) earliest = fmin(earliest, there);
        }
        bound = fmax(bound, earliest + env->best_ns[reader]);
    }
    return bound;
}

static double score_bound(const search *s, const label *x, const double *at, uint32_t next)
{
    double ns = time_bound(s, x, at, next);
    sp_env_result r = {.makespan_ns = ns,
                       .energy_j = x->energy + s->joules[next] +
                                   s->env->idle_watts * (ns - x->makespan) * 1e-9};
    return sp_policy_score(s->options, &r);
}

/* ---- steps ---- */

/* The environment's state as a label has it. */
static void load(search *s, const label *x, const double *at, const uint8_t *home, uint32_t node)
{
    sp_env_state *st = &s->state;
    st->next = node;
    st->result.makespan_ns = x->makespan;
    st->result.energy_j = x->energy;
    memcpy(st->lane_free, x->lane, sizeof x->lane);
    memcpy(st->link_free, x->link, sizeof x->link);
    for (uint32_t i = 0; i < s->live_count; i++) {
        uint32_t v = s->live[i], producer = s->env->values[v].producer;
        memcpy(&st->arrival[(size_t)v * SP_ENV_DEVICES], &at[(size_t)i * SP_ENV_DEVICES],
               SP_ENV_DEVICES * sizeof *at);
        if (producer != SP_ENV_INPUT) st->device[producer] = home[i];
    }
    const sp_env_node *n = &s->env->nodes[node];
    for (uint32_t k = 0; k < n->n_out; k++)
        for (int d = 0; d < SP_ENV_DEVICES; d++)
            st->arrival[(size_t)(n->first_out + k) * SP_ENV_DEVICES + d] = -1;
}

/* Drops from the live values those that node was the last to read and adds what it wrote. */
static void next_live(search *s, uint32_t node, uint32_t *live, uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; i < s->live_count; i++)
        if (s->last_use[s->live[i]] > node) live[(*count)++] = s->live[i];
    const sp_env_node *n = &s->env->nodes[node];
    for (uint32_t k = 0; k < n->n_out; k++) {
        uint32_t v = n->first_out + k;
        if (s->last_use[v] != SP_ENV_INPUT && s->last_use[v] > node) live[(*count)++] = v;
    }
}

static double least_lane(const search *s, const label *x, uint32_t d)
{
    double least = x->lane[d][0];
    for (int l = 1; l < s->env->devices[d].lanes; l++) least = fmin(least, x->lane[d][l]);
    return least;
}

/* The label that the state has become. Times that can no longer matter are raised to where they
 * begin to, so that labels compare equal more often. */
static void store(search *s, label *x, double *at, uint8_t *home, const uint32_t *live,
                  uint32_t count)
{
    const sp_env_state *st = &s->state;
    uint32_t devices = s->env->device_count;
    x->makespan = st->result.makespan_ns;
    x->energy = st->result.energy_j;
    memcpy(x->lane, st->lane_free, sizeof x->lane);
    memcpy(x->link, st->link_free, sizeof x->link);
    x->key = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t v = live[i], producer = s->env->values[v].producer;
        home[i] = producer == SP_ENV_INPUT ? 0 : st->device[producer];
        uint64_t where = home[i];
        for (uint32_t d = 0; d < SP_ENV_DEVICES; d++) {
            double t = st->arrival[(size_t)v * SP_ENV_DEVICES + d];
            if (t >= 0 && d < devices && d != home[i]) t = fmax(t, least_lane(s, x, d));
            at[(size_t)i * SP_ENV_DEVICES + d] = t;
            where = where << 1 | (t >= 0);
        }
        x->key = (x->key ^ where) * 0x100000001b3u;
    }
}

/* ---- dominance ---- */

static bool no_later(const search *s, const label *a, const double *at_a, const uint8_t *home_a,
                     const label *b, const double *at_b, const uint8_t *home_b)
{
    if (a->makespan > b->makespan) return false;
    if (s->objective != SP_OBJECTIVE_LATENCY && a->energy > b->energy) return false;
    for (uint32_t d = 0; d < s->env->device_count; d++) {
        for (int l = 0; l < s->env->devices[d].lanes; l++)
            if (a->lane[d][l] > b->lane[d][l]) return false;
        for (uint32_t e = 0; e < s->env->device_count; e++)
            if (a->link[d][e] > b->link[d][e]) return false;
    }
    for (uint32_t i = 0; i < s->live_count; i++) {
        if (home_a[i] != home_b[i]) return false;
        for (uint32_t d = 0; d < s->env->device_count; d++) {
            double x = at_a[(size_t)i * SP_ENV_DEVICES + d],
                   y = at_b[(size_t)i * SP_ENV_DEVICES + d];
            if ((x < 0) != (y < 0) || x > y) return false;
        }
    }
    return true;
}

/* Orders labels by bound: a heap sort, as qsort takes no context. */
static bool before(const search *s, uint32_t a, uint32_t b)
{
    const label *x = &s->next[a], *y = &s->next[b];
    if (x->bound != y->bound) return x->bound < y->bound;
    if (x->key != y->key) return x->key < y->key;
    return a < b;
}

static void sift(search *s, uint32_t at, uint32_t count)
{
    uint32_t moved = s->order[at];
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(s, s->order[child], s->order[child + 1])) child++;
        if (!before(s, moved, s->order[child])) break;
        s->order[at] = s->order[child];
    }
    s->order[at] = moved;
}

static void sort_by_bound(search *s)
{
    uint32_t n = s->next_count;
    for (uint32_t i = 0; i < n; i++) s->order[i] = i;
    for (uint32_t i = n / 2; i-- > 0;) sift(s, i, n);
    for (uint32_t end = n; end-- > 1;) {
        uint32_t top = s->order[0];
        s->order[0] = s->order[end];
        s->order[end] = top;
        sift(s, 0, end);
    }
}

static size_t at_of(const search *s, uint32_t label_index)
{
    return (size_t)label_index * s->most_live * SP_ENV_DEVICES;
}

static size_t home_of(const search *s, uint32_t label_index)
{
    return (size_t)label_index * s->most_live;
}

/* Moves the labels that are worth keeping from next to now, best bounds first. */
static void select_labels(search *s, uint32_t node)
{
    sort_by_bound(s);
    s->now_count = 0;
    for (uint32_t i = 0; i < s->next_count; i++) {
        uint32_t from = s->order[i];
        const label *x = &s->next[from];
        const double *at = &s->next_at[at_of(s, from)];
        const uint8_t *home = &s->next_home[home_of(s, from)];
        bool dominated = false;
        for (uint32_t k = 0; !dominated && k < s->now_count; k++)
            dominated =
                s->now[k].key == x->key && no_later(s, &s->now[k], &s->now_at[at_of(s, k)],
                                                    &s->now_home[home_of(s, k)], x, at, home);
        if (dominated) continue;
        if (s->now_count == s->keep) {
            s->complete = false;
            break;
        }
        uint32_t to = s->now_count++;
        s->now[to] = *x;
        memcpy(&s->now_at[at_of(s, to)], at, s->live_count * SP_ENV_DEVICES * sizeof *at);
        memcpy(&s->now_home[home_of(s, to)], home, s->live_count);
        s->steps[node][to] = (step){x->parent, x->device};
    }
}

/* ---- the search ---- */

static bool place_node(search *s, uint32_t node, uint32_t *fresh)
{
    const sp_env *env = s->env;
    uint32_t count;
    next_live(s, node, fresh, &count);
    s->next_count = 0;
    for (uint32_t i = 0; i < s->now_count; i++)
        for (uint32_t d = 0; d < env->device_count; d++) {
            if (!(env->nodes[node].allowed >> d & 1)) continue;
            uint32_t to = s->next_count;
            label *x = &s->next[to];
            load(s, &s->now[i], &s->now_at[at_of(s, i)], &s->now_home[home_of(s, i)], node);
            sp_env_step(&s->state, d, NULL);
            store(s, x, &s->next_at[at_of(s, to)], &s->next_home[home_of(s, to)], fresh, count);
            x->parent = i;
            x->device = (uint8_t)d;
            uint32_t *old = s->live, old_count = s->live_count;
            s->live = fresh;
            s->live_count = count;
            x->bound = score_bound(s, x, &s->next_at[at_of(s, to)], node + 1);
            s->live = old;
            s->live_count = old_count;
            s->next_count += x->bound < s->incumbent;
        }
    memcpy(s->live, fresh, count * sizeof *fresh);
    s->live_count = count;
    s->steps[node] = sp_arena_alloc(
        &s->arena, (s->next_count < s->keep ? s->next_count : s->keep) * sizeof **s->steps + 1);
    if (!s->steps[node]) return false;
    select_labels(s, node);
    return true;
}

static void trace_back(const search *s, uint32_t at, uint8_t *device)
{
    for (uint32_t i = s->env->node_count; i-- > 0;) {
        device[i] = s->steps[i][at].device;
        at = s->steps[i][at].parent;
    }
}

static void find_uses(search *s)
{
    const sp_env *env = s->env;
    uint32_t live = 0;
    for (uint32_t v = 0; v < env->value_count; v++) s->last_use[v] = SP_ENV_INPUT;
    for (uint32_t i = 0; i < env->node_count; i++)
        for (uint32_t k = 0; k < env->nodes[i].n_in; k++)
            s->last_use[env->reads[env->nodes[i].first_in + k]] = i;
    for (uint32_t v = 0; v < env->value_count && env->values[v].producer == SP_ENV_INPUT; v++)
        if (s->last_use[v] != SP_ENV_INPUT) s->live[s->live_count++] = v;
    /* The most at once decides the size of a label. */
    uint32_t *ends = s->order; /* room for node_count: how many end at each node */
    memset(ends, 0, env->node_count * sizeof *ends);
    for (uint32_t v = 0; v < env->value_count; v++)
        if (s->last_use[v] != SP_ENV_INPUT) ends[s->last_use[v]]++;
    live = s->most_live = s->live_count;
    for (uint32_t i = 0; i < env->node_count; i++) {
        const sp_env_node *n = &env->nodes[i];
        for (uint32_t k = 0; k < n->n_out; k++)
            live += s->last_use[n->first_out + k] != SP_ENV_INPUT;
        live -= ends[i];
        if (live > s->most_live) s->most_live = live;
    }
    s->most_live++;
}

static bool allocate(search *s)
{
    uint32_t nodes = s->env->node_count, values = s->env->value_count;
    uint32_t children = s->keep * s->env->device_count;
    sp_arena *a = &s->arena;
    s->last_use = sp_arena_alloc(a, (values + 1) * sizeof *s->last_use);
    s->live = sp_arena_alloc(a, (values + 1) * sizeof *s->live);
    s->order = sp_arena_alloc(a, ((size_t)nodes + children + 1) * sizeof *s->order);
    s->steps = sp_arena_alloc(a, (nodes + 1) * sizeof *s->steps);
    s->joules = sp_arena_alloc(a, (nodes + 1) * sizeof *s->joules);
    bool good = s->last_use && s->live && s->order && s->steps && s->joules;
    for (int k = 0; k < LAMBDAS; k++) {
        s->work[k] = sp_arena_alloc(a, (nodes + 1) * sizeof **s->work);
        good = good && s->work[k];
    }
    if (!good) return false;
    find_uses(s);
    size_t row = (size_t)s->most_live * SP_ENV_DEVICES * sizeof(double);
    s->now = sp_arena_alloc(a, (s->keep + 1) * sizeof *s->now);
    s->next = sp_arena_alloc(a, (children + 1) * sizeof *s->next);
    s->now_at = sp_arena_alloc(a, (s->keep + 1) * row);
    s->next_at = sp_arena_alloc(a, (children + 1) * row);
    s->now_home = sp_arena_alloc(a, (s->keep + 1) * (size_t)s->most_live);
    s->next_home = sp_arena_alloc(a, (children + 1) * (size_t)s->most_live);
    return s->now && s->next && s->now_at && s->next_at && s->now_home && s->next_home;
}

/* The best of the quick policies, refined where the graph is small: what the search must beat. */
static sparoa_status first_plan(search *s, const sp_policy_options *options, uint8_t *device,
                                sparoa_error *err)
{
    static const char *const names[] = {"cpu", "gpu", "greedy", "dp", "heft"};
    uint8_t *trial = sp_arena_alloc(&s->arena, s->env->node_count + 1);
    if (!trial) return sp_no_memory(&s->env->alloc, s->env->node_count, err);
    s->incumbent = INFINITY;
    if (options->start) {
        sp_env_replay(&s->state, options->start);
        s->incumbent = sp_policy_score(options, &s->state.result);
        memcpy(device, options->start, s->env->node_count);
    }
    for (int i = 0; i < 5; i++) {
        sp_policy_result r;
        sparoa_status status =
            sp_policy_run(sp_policy_find(names[i]), s->env, options, trial, &r, err);
        if (status != SPAROA_OK) return status;
        double score = sp_policy_score(options, &r.price);
        if (!(score < s->incumbent) && (i || options->start)) continue;
        s->incumbent = score;
        memcpy(device, trial, s->env->node_count);
    }
    return SPAROA_OK;
}

static sparoa_status run(search *s, uint8_t *device, sparoa_error *err)
{
    const sp_env *env = s->env;
    if (!allocate(s)) return sp_no_memory(&env->alloc, s->keep * sizeof *s->now, err);
    uint32_t *fresh = sp_arena_alloc(&s->arena, (env->value_count + 1) * sizeof *fresh);
    if (!fresh) return sp_no_memory(&env->alloc, env->value_count * sizeof *fresh, err);
    suffix_sums(s);
    s->now_count = 1;
    s->now[0] = (label){0};
    for (uint32_t d = 0; d < env->device_count; d++)
        for (int l = 0; l < SP_ENV_LANES; l++) s->now[0].lane[d][l] = env->devices[d].queue_ns;
    for (uint32_t i = 0; i < s->live_count; i++)
        for (int d = 0; d < SP_ENV_DEVICES; d++)
            s->now_at[(size_t)i * SP_ENV_DEVICES + d] = d ? -1 : 0;
    for (uint32_t node = 0; node < env->node_count && s->now_count; node++)
        if (!place_node(s, node, fresh))
            return sp_no_memory(&env->alloc, s->keep * sizeof(step), err);
    if (s->now_count) trace_back(s, 0, device); /* sorted: the first is the best */
    return SPAROA_OK;
}

SP_POLICY_RUN(optimal)
{
    search s = {.env = env, .options = options, .objective = options->objective, .complete = true};
    uint32_t keep = options->labels ? options->labels : DEFAULT_LABELS;
    size_t most = env->node_count ? MAX_STEPS / env->node_count : 1;
    s.keep = keep > MAX_LABELS ? MAX_LABELS : keep;
    if (s.keep > most) s.keep = most ? (uint32_t)most : 1;
    sp_arena_init(&s.arena, &env->alloc);
    if (!sp_env_state_init(&s.state, env)) return sp_no_memory(&env->alloc, env->node_count, err);
    sparoa_status status = first_plan(&s, options, device, err);
    if (status == SPAROA_OK && env->node_count) status = run(&s, device, err);
    if (status == SPAROA_OK) *optimal = s.complete && !sp_policy_memory_binds(env);
    sp_env_state_free(&s.state);
    sp_arena_destroy(&s.arena);
    return status;
}
