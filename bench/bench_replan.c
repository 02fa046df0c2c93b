/*
 * Re-planning while the machine's state changes: 200 inferences one after the other, simulated with
 * noise and contention, under bursts of work on the host, work on the accelerator, throttling, or
 * all of them, work that takes nearly all of the accelerator, or queues of other requests (0 to 2
 * inferences long) before the devices. Every policy sees the load and clocks of the inference
 * before; queues it knows. "best static" is the plan that
 * is best in the mean over this very trace (in hindsight) among the best plans of all its states;
 * "nominal" the best plan for the idle machine; "clairvoyant" plans with the state to come: a bound
 * on what re-planning can gain. "static, divided" and "clairvoyant, divided" are the same where
 * heavy operators may be divided between both devices. Usage: bench_replan UPDATES
 * PLATFORM.yaml[,...] NAME=MODEL.onnx...
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/rng.h"
#include "bench_models_in.h"
#include "schedule/env_build.h"
#include "schedule/env_sim.h"
#include "schedule/replan.h"

/* By index: how an inference is placed. What re-planning does comes first. */
enum { CLAIRVOYANT = 5, STATIC_DIVIDED, CLAIRVOYANT_DIVIDED, WAYS };
enum { INFERENCES = 200, STATES = 120, SCENARIOS = 6 };
static const char *const scenarios[SCENARIOS] = {
    "host bursts",        "accelerator busy",
    "throttling",         "host, accelerator, throttling",
    "accelerator seized", "queues"};
static const char *const ways[WAYS] = {"greedy",
                                       "dp",
                                       "heft",
                                       "policy alone",
                                       "replan",
                                       "clairvoyant",
                                       "static, divided",
                                       "clairvoyant, divided"};
static const uint32_t way_mask[CLAIRVOYANT] = {SP_REPLAN_GREEDY, SP_REPLAN_DP, SP_REPLAN_HEFT,
                                               SP_REPLAN_POLICY, SP_REPLAN_ALL};

typedef struct trace {
    sp_live_state state[STATES];
    uint32_t count, at[INFERENCES], weight[STATES];
} trace;

typedef struct bench {
    sparoa_runtime *rt;
    sp_platform *platform;
    uint32_t updates;
    double log_gain[WAYS], log_scenario[SCENARIOS][WAYS], log_nominal[SCENARIOS];
    int cases;
    double worst_us;
} bench;

/* Loads come and go with a mean of 15 inferences, clocks step with one of 25. */
static void make_trace(const sp_platform *p, int scenario, uint64_t seed, double unit_ns, trace *t)
{
    uint64_t key = sp_rng_stream(sp_rng_text("trace"), seed * 8 + (uint64_t)scenario), i = 0;
    sp_live_state s = {.platform = sp_platform_nominal(p)};
    bool host = scenario == 0 || scenario == 3, heat = scenario == 2 || scenario == 3;
    bool gpu = scenario == 1 || scenario == 3 || scenario == 4, queues = scenario == 5;
    double least = scenario == 4 ? 0.9 : 0.5, range = scenario == 4 ? 0.05 : 0.4;
    memset(t, 0, sizeof *t);
    for (int k = 0; k < INFERENCES; k++) {
        bool changed = k == 0;
        for (uint32_t d = 0; d < 2; d++) {
            double *load = &s.platform.device[d].load;
            double u = sp_rng_uniform(key, i), v = sp_rng_uniform(key, i + 1);
            i += 2;
            if (!(d ? gpu : host) || u >= 1 / 15.) continue;
            *load = *load > 0 ? 0 : least + range * v;
            changed = true;
        }
        double u = sp_rng_uniform(key, i), v = sp_rng_uniform(key, i + 1);
        i += 2;
        if (heat && u < 1 / 25.) {
            double clock = v < 0.4 ? 1 : v < 0.7 ? 0.7 : 0.45; /* of the accelerator; host milder */
            s.platform.device[1].clock = clock;
            s.platform.device[0].clock = sqrt(clock);
            changed = true;
        }
        for (uint32_t d = 0; d < 2 && queues; d++) {
            u = sp_rng_uniform(key, i++);
            if (sp_rng_uniform(key, i++) >= 0.2) continue;
            s.queue_ns[d] = u < 0.5 ? 0 : 4 * (u - 0.5) * unit_ns;
            changed = true;
        }
        if (changed && t->count < STATES) t->state[t->count++] = s;
        t->at[k] = t->count - 1;
        t->weight[t->at[k]]++;
    }
}

static double price(sp_env *env, const uint8_t *plan)
{
    sp_env_result r;
    sparoa_error err;
    return sp_env_evaluate(env, plan, &r, &err) ? INFINITY : r.makespan_ns;
}

static void best_at(sp_env *env, uint8_t *plan, uint8_t *trial)
{
    static const char *const names[] = {"gpu", "cpu", "greedy", "dp", "heft"};
    const sp_policy_options o = {0};
    sp_policy_result r;
    sparoa_error err;
    double best = INFINITY;
    for (int i = 0; i < 5; i++) {
        if (sp_policy_run(sp_policy_find(names[i]), env, &o, trial, &r, &err)) continue;
        if (!(r.price.makespan_ns < best)) continue;
        best = r.price.makespan_ns;
        memcpy(plan, trial, env->node_count);
    }
    sp_policy_refine(env, &o, env->node_count > 300 ? 1 : 4, plan, &err);
}

static double simulate(const bench *b, const sp_profile *profile, const uint8_t *plan,
                       const sp_live_state *state, uint64_t seed)
{
    sp_sim_result r;
    sparoa_error err;
    const sp_sim_options o = {.regime = profile->regime,
                              .state = &state->platform,
                              .seed = seed,
                              .runs = 1,
                              .noise = true,
                              .contention = true,
                              .queue_ns = {state->queue_ns[0], state->queue_ns[1]}};
    if (sp_env_simulate(&b->rt->alloc, profile, b->platform, plan, &o, &r, &err)) exit(1);
    return r.mean_ns;
}

static void set_state(const bench *b, const sp_profile *profile, sp_env *env,
                      const sp_live_state *state)
{
    sp_env_reprice(env, profile, b->platform, profile->regime, &state->platform);
    for (uint32_t d = 0; d < 2; d++) env->devices[d].queue_ns = state->queue_ns[d];
}

/* plans[state]: the best of each, and the same with nodes divided where that is better. */
static void plan_states(bench *b, const sp_profile *profile, sp_env *env, const trace *t,
                        uint8_t *plans, uint8_t *divided, uint8_t *trial)
{
    const sp_policy_options o = {.split = true};
    size_t n = env->node_count;
    sparoa_error err;
    for (uint32_t s = 0; s < t->count; s++) {
        set_state(b, profile, env, &t->state[s]);
        best_at(env, plans + s * n, trial);
        memcpy(divided + s * n, plans + s * n, n);
        if (sp_policy_divide(env, &o, divided + s * n, &err)) exit(1);
    }
}

/* The index of the plan that is best in the mean over the trace. */
static uint32_t best_static(bench *b, const sp_profile *profile, sp_env *env, const trace *t,
                            const uint8_t *plans)
{
    uint32_t n = env->node_count, best = 0;
    double mean[STATES] = {0};
    for (uint32_t s = 0; s < t->count; s++) {
        set_state(b, profile, env, &t->state[s]);
        for (uint32_t c = 0; c < t->count; c++)
            mean[c] += t->weight[s] * price(env, plans + (size_t)c * n);
    }
    for (uint32_t c = 1; c < t->count; c++)
        if (mean[c] < mean[best]) best = c;
    return best;
}

/* What way w runs inference k with. */
static const uint8_t *plan_of(sp_replanner *r, const trace *t, int w, int k, const uint8_t *plans,
                              const uint8_t *divided, uint32_t fixed, uint8_t *plan)
{
    uint32_t now = t->at[k], before = k ? t->at[k - 1] : now;
    sp_replan_result result;
    size_t n = sp_replanner_env(r)->node_count;
    if (w == CLAIRVOYANT) return plans + now * n;
    if (w == STATIC_DIVIDED) return divided + fixed * n;
    if (w == CLAIRVOYANT_DIVIDED) return divided + now * n;
    sp_live_state seen = t->state[before];
    memcpy(seen.queue_ns, t->state[now].queue_ns, sizeof seen.queue_ns);
    sp_replan(r, &seen, way_mask[w], plan, &result);
    return plan;
}

static void run_scenario(bench *b, const sp_profile *profile, sp_replanner *r, sp_env *env,
                         const char *name, int scenario)
{
    static trace t;
    sp_policy_result nominal;
    sparoa_error err;
    uint32_t n = env->node_count;
    double mean[WAYS + 2] = {0};
    uint8_t *plans = malloc((size_t)(STATES + 1) * n), *plan = malloc(n), *trial = malloc(n);
    uint8_t *divided = malloc((size_t)STATES * n);
    if (!plans || !plan || !trial || !divided) exit(1);
    const sp_live_state idle = {.platform = sp_platform_nominal(b->platform)};
    set_state(b, profile, env, &idle);
    uint8_t *first = plans + (size_t)STATES * n;
    if (sp_policy_run(sp_policy_find("portfolio"), env, NULL, first, &nominal, &err)) exit(1);
    make_trace(b->platform, scenario, 1, nominal.price.makespan_ns, &t);
    plan_states(b, profile, env, &t, plans, divided, trial);
    uint32_t fixed = best_static(b, profile, env, &t, plans);
    uint32_t fixed_divided = best_static(b, profile, env, &t, divided);
    for (int w = 0; w < WAYS + 2; w++)
        for (int k = 0; k < INFERENCES; k++) {
            const uint8_t *use = w == WAYS ? plans + (size_t)fixed * n
                                 : w == WAYS + 1
                                     ? first
                                     : plan_of(r, &t, w, k, plans, divided, fixed_divided, plan);
            mean[w] += simulate(b, profile, use, &t.state[t.at[k]], (uint64_t)k) / INFERENCES;
        }
    printf("| %s | %s | %s | %s | %u | %.3f | %.3f |", name, b->platform->name,
           sp_regime_name(profile->regime), scenarios[scenario], t.count, mean[WAYS] * 1e-6,
           mean[WAYS] / mean[WAYS + 1]);
    b->log_nominal[scenario] += log(mean[WAYS] / mean[WAYS + 1]);
    for (int w = 0; w < WAYS; w++) {
        double gain = mean[WAYS] / mean[w];
        b->log_gain[w] += log(gain);
        b->log_scenario[scenario][w] += log(gain);
        printf(" %.3f |", gain);
    }
    putchar('\n');
    fflush(stdout);
    free(plans);
    free(divided);
    free(plan);
    free(trial);
}

static void time_it(bench *b, sp_replanner *r, uint32_t n)
{
    uint8_t *plan = malloc(n + 1);
    sp_replan_result result;
    double times[41];
    for (int i = 0; i < 41; i++) {
        sp_live_state s = sp_live_random(b->platform, (uint64_t)i, 1e6);
        int64_t start = sp_now_ns();
        sp_replan(r, &s, SP_REPLAN_ALL, plan, &result);
        times[i] = (double)(sp_now_ns() - start) * 1e-3;
        for (int k = i; k > 0 && times[k] < times[k - 1]; k--) {
            double kept = times[k];
            times[k] = times[k - 1];
            times[k - 1] = kept;
        }
    }
    printf(
        "    one re-planning of %u nodes: median %.0f us, at most %.0f us; per 200 nodes %.0f us\n",
        n, times[20], times[40], times[20] * 200 / n);
    b->worst_us = fmax(b->worst_us, times[20] * 200 / n);
    free(plan);
}

static void use(void *user, const char *name, sp_profile *profile)
{
    bench *b = user;
    sp_replanner *r;
    sp_env *env;
    sparoa_error err;
    sp_replan_training training = {.seed = 1, .updates = b->updates};
    clock_t start = clock();
    if (sp_replanner_create(&b->rt->alloc, profile, b->platform, SP_OBJECTIVE_LATENCY, &r, &err) ||
        sp_replanner_train(r, &training, &err) ||
        sp_env_build(&b->rt->alloc, profile, b->platform, profile->regime, NULL, &env, &err)) {
        fprintf(stderr, "%s: %s\n", name, err.message);
        exit(1);
    }
    printf(
        "    %s, %s, %s, %u nodes: trained in %.1f s on %u states; alone %+.2f%% to the teacher on "
        "states that neither trained nor chose it\n",
        name, b->platform->name, sp_regime_name(profile->regime), env->node_count,
        (double)(clock() - start) / CLOCKS_PER_SEC, training.states, 100 * training.above_teacher);
    time_it(b, r, env->node_count);
    for (int s = 0; s < SCENARIOS; s++) run_scenario(b, profile, r, env, name, s);
    b->cases++;
    sp_env_destroy(env);
    sp_replanner_destroy(r);
}

int main(int argc, char **argv)
{
    bench b = {.platform = calloc(1, sizeof *b.platform)};
    sparoa_error err;
    int code = 0;
    if (argc < 4 || !b.platform || sparoa_runtime_create(NULL, &b.rt, &err)) return 2;
    b.updates = (uint32_t)atoi(argv[1]);
    fputs("| model | platform | regime | scenario | states | best static, ms | nominal |", stdout);
    for (int w = 0; w < WAYS; w++) printf(" %s |", ways[w]);
    puts("\n|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (char *path = strtok(argv[2], ","); path && !code; path = strtok(NULL, ",")) {
        if (sp_platform_load(&b.rt->alloc, path, b.platform, &err))
            return fprintf(stderr, "%s\n", err.message), 1;
        code = bench_each_profile(b.rt, argc - 3, argv + 3, use, &b);
    }
    double log_nominal = 0;
    for (int s = 0; s < SCENARIOS; s++) log_nominal += b.log_nominal[s];
    for (int s = 0; s <= SCENARIOS && b.cases; s++) {
        printf(
            "| **geometric mean** | | | %s | | | %.3f |", s < SCENARIOS ? scenarios[s] : "all",
            exp(s < SCENARIOS ? b.log_nominal[s] / b.cases : log_nominal / (SCENARIOS * b.cases)));
        for (int w = 0; w < WAYS; w++)
            printf(" %.3f |", exp(s < SCENARIOS ? b.log_scenario[s][w] / b.cases
                                                : b.log_gain[w] / (SCENARIOS * b.cases)));
        putchar('\n');
    }
    printf(
        "Simulated with the platform files named. Columns: times faster than the best static plan "
        "in the mean.\nRe-planning: at most %.0f us per 200 nodes (median of 41).\n",
        b.worst_us);
    sparoa_runtime_destroy(b.rt);
    free(b.platform);
    return code;
}
