/*
 * All policies on real models and described machines, as tab-separated rows for bench/reproduce.sh:
 * predicted and simulated (50 runs with noise and contention) latency, energy, shares, copies, time
 * to decide, and for "sac" how long it took to be within 1 % of its final plan. Rows "energy" are
 * the least energy at no more than 1.1 times the latency of co-execution; "energy+clock": the same
 * where host and accelerator may be clocked down too, as devfreq and cpufreq allow.
 * Usage: bench_policies UPDATES PLATFORM.yaml[,...] NAME=MODEL.onnx... (UPDATES 0: the default)
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bench_models_in.h"
#include "schedule/clocks.h"
#include "schedule/env_build.h"
#include "schedule/env_predict.h"
#include "schedule/env_sim.h"
#include "schedule/policy.h"

enum { STEPS = 4096, RUNS = 50 };

typedef struct bench {
    sparoa_runtime *rt;
    sp_platform *platform;
    uint32_t updates;
    const char *model;
    const sp_profile *profile;
    sp_env *env;
    uint8_t *device, *start;
    sp_platform_state state; /* that prices and simulations are for */
    struct {
        double ms, score;
    } step[STEPS];
    int steps;
    clock_t begin;
} bench;

static double since(const bench *b)
{
    return (double)(clock() - b->begin) * 1e3 / CLOCKS_PER_SEC;
}

static void note(void *user, uint32_t updates, double score)
{
    bench *b = user;
    if (b->steps == STEPS) return;
    b->step[b->steps].ms = since(b);
    b->step[b->steps++].score = score;
}

static double off_host(const double *by_device, uint32_t count)
{
    double all = 0, moved = 0;
    for (uint32_t d = 0; d < count; d++) {
        all += by_device[d];
        if (d) moved += by_device[d];
    }
    return all > 0 ? 100 * moved / all : 0;
}

static double converged(const bench *b)
{
    for (int i = 0; i < b->steps; i++)
        if (b->step[i].score <= 1.01 * b->step[b->steps - 1].score) return b->step[i].ms;
    return 0;
}

static void fail(const char *what, const sparoa_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    exit(1);
}

/* Returns the price; prints a row under the name `as`. */
static sp_env_result run(bench *b, const char *policy, const char *as, sp_policy_options o,
                         double energy_bound)
{
    sp_policy_result r;
    sp_sim_result sim;
    sparoa_error err;
    const sp_sim_options so = {.regime = b->profile->regime,
                               .state = &b->state,
                               .runs = RUNS,
                               .noise = true,
                               .contention = true};
    uint32_t n = b->platform->device_count;
    o.progress = note;
    o.progress_user = b;
    b->steps = 0;
    b->begin = clock();
    if (sp_policy_run(sp_policy_find(policy), b->env, &o, b->device, &r, &err)) fail(policy, &err);
    double decide = since(b);
    if (sp_env_simulate(&b->rt->alloc, b->profile, b->platform, b->device, &so, &sim, &err))
        fail(policy, &err);
    uint32_t split = 0;
    for (uint32_t i = 0; i < b->env->node_count; i++) split += sp_place_share(b->device[i]) > 0;
    printf("%s\t%s\t%s\t%s\t%u\t%.6g\t%.6g\t%.6g\t%.6g\t%.6g\t%.6g\t%.4g\t%.4g\t%.6g\t%u\t%u\t%u\t"
           "%.4g\t%.4g\t%d\t%.6g\t%.3g\t%.3g\n",
           b->platform->name, sp_regime_name(b->profile->regime), b->model, as, b->env->node_count,
           r.price.makespan_ns * 1e-6, sim.mean_ns * 1e-6, sim.p99_ns * 1e-6,
           sp_env_lower_bound(b->env, split > 0) * 1e-6, r.price.energy_j * 1e3, sim.energy_j * 1e3,
           off_host(r.price.flops, n), off_host(sim.busy_ns, n), sim.transfer_ns * 1e-6,
           r.price.copies, r.price.segments, split, decide, b->steps ? converged(b) : decide,
           r.optimal, energy_bound * 1e3, b->state.device[0].clock, b->state.device[1].clock);
    fflush(stdout);
    return r.price;
}

static void use(void *user, const char *name, sp_profile *profile)
{
    bench *b = user;
    sparoa_error err;
    const sp_platform_state nominal = sp_platform_nominal(b->platform);
    const sp_predict_machine machine = {b->platform, &nominal, profile->regime};
    b->state = nominal;
    b->model = name;
    b->profile = profile;
    if (sp_env_build(&b->rt->alloc, profile, b->platform, profile->regime, NULL, &b->env, &err) ||
        sp_env_predict_shipped(b->env, profile, &machine, NULL, &err))
        fail(name, &err);
    b->device = malloc(b->env->node_count + 1);
    b->start = malloc(b->env->node_count + 1);
    if (!b->device || !b->start) exit(1);
    sp_env_result both = {0};
    const sp_policy_options latency = {.updates = b->updates, .seed = 1};
    for (const sp_policy *p = sp_policy_table; p->name; p++) {
        sp_env_result r = run(b, p->name, p->name, latency, 0);
        if (p->run == sp_policy_portfolio) memcpy(b->start, b->device, b->env->node_count);
        if (p->run == sp_policy_coexec) both = r;
    }
    sp_policy_options o = {
        .objective = SP_OBJECTIVE_ENERGY, .limit_ns = 1.1 * both.makespan_ns, .start = b->start};
    run(b, "portfolio", "energy", o, sp_env_energy_bound(b->env, o.limit_ns));
    memcpy(b->start, b->device, b->env->node_count);
    sp_clock_choice choice;
    sp_policy_result r;
    if (sp_clocks_choose(b->env, profile, b->platform, &nominal, sp_policy_find("portfolio"), &o,
                         b->device, &r, &choice, &err))
        fail("clocks", &err);
    b->state = choice.state;
    memcpy(b->start, b->device, b->env->node_count);
    run(b, "portfolio", "energy+clock", o, choice.bound);
    free(b->device);
    free(b->start);
    sp_env_destroy(b->env);
}

int main(int argc, char **argv)
{
    static bench b;
    sparoa_error err;
    int code = 0;
    b.platform = calloc(1, sizeof *b.platform);
    if (argc < 4 || !b.platform || sparoa_runtime_create(NULL, &b.rt, &err)) return 2;
    b.updates = (uint32_t)atoi(argv[1]);
    puts("platform\tregime\tmodel\tpolicy\tnodes\tpredicted_ms\tsimulated_ms\tp99_ms\tbound_ms\t"
         "predicted_mj\tsimulated_mj\toff_host_flops\toff_host_busy\tcopies_ms\tcopies\tsegments\t"
         "split\tdecide_ms\tconverged_ms\tproved\tenergy_bound_mj\thost_clock\tgpu_clock");
    for (char *path = strtok(argv[2], ","); path && !code; path = strtok(NULL, ",")) {
        if (sp_platform_load(&b.rt->alloc, path, b.platform, &err)) fail(path, &err);
        code = bench_each_profile(b.rt, argc - 3, argv + 3, use, &b);
    }
    sparoa_runtime_destroy(b.rt);
    free(b.platform);
    return code;
}
