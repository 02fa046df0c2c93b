/*
 * The SAC policy beside the others on real models and described machines: objective of each plan,
 * relative to the best that the search "optimal" found (proved or not), and processor time of SAC.
 * "alone": without the demonstrations of the simpler policies. Usage: bench_sac_policy UPDATES
 * PLATFORM.yaml[,...] NAME=MODEL.onnx...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/objects.h"
#include "schedule/env_build.h"
#include "schedule/policy.h"

static const char *const names[] = {"cpu",  "gpu",       "threshold", "greedy", "dp",
                                    "heft", "portfolio", "sac",       "alone"};
enum { COUNT = sizeof names / sizeof *names };

static double score(const char *name, const sp_env *env, sp_policy_options o, bool *proved)
{
    uint8_t *device = malloc(env->node_count + 1);
    sp_policy_result r;
    sparoa_error err;
    o.alone = strcmp(name, "alone") == 0;
    const sp_policy *p = sp_policy_find(o.alone ? "sac" : name);
    bool failed = !device || sp_policy_run(p, env, &o, device, &r, &err);
    free(device);
    if (failed) return fprintf(stderr, "%s: %s\n", name, err.message), 0;
    if (proved) *proved = r.optimal;
    return sp_objective_score(o.objective, &r.price);
}

static void print_case(const char *model, const char *platform, sp_regime regime, const sp_env *env,
                       uint32_t updates)
{
    bool proved = false;
    sp_policy_options o = {.updates = updates, .seed = 1};
    double best = score("optimal", env, o, &proved);
    printf("| %s | %s | %s | %u | %.3f%s |", model, platform, sp_regime_name(regime),
           env->node_count, best * 1e3, proved ? "" : "*");
    clock_t start = 0, end = 0;
    for (int i = 0; i < COUNT; i++) {
        if (strcmp(names[i], "sac") == 0) start = clock();
        printf(" %+.2f%% |", 100 * (score(names[i], env, o, NULL) / best - 1));
        if (strcmp(names[i], "sac") == 0) end = clock();
    }
    printf(" %.1f |\n", (double)(end - start) / CLOCKS_PER_SEC);
    fflush(stdout);
}

static sparoa_status run_model(sparoa_runtime *rt, const char *name, const char *path,
                               const sp_platform *platform, uint32_t updates, sparoa_error *err)
{
    sparoa_model *model = NULL;
    sparoa_status status = sparoa_model_load(rt, path, NULL, &model, err);
    sparoa_value_info info = {0};
    if (!status) status = sparoa_model_input(model, 0, &info);
    sparoa_tensor in = sparoa_tensor_view(info.dtype, NULL, info.rank, info.dims);
    for (int i = 0; i < in.rank; i++)
        if (in.dims[i] < 1) in.dims[i] = 1;
    for (int r = 0; r < SP_REGIME_COUNT && !status; r++) {
        sp_profile *profile = NULL;
        sp_env *env = NULL;
        status =
            sp_profile_create(&rt->alloc, model->graph, name, &in, 1, (sp_regime)r, &profile, err);
        if (!status)
            status = sp_env_build(&rt->alloc, profile, platform, (sp_regime)r, NULL, &env, err);
        if (!status) print_case(name, platform->name, (sp_regime)r, env, updates);
        sp_env_destroy(env);
        sp_profile_destroy(profile);
    }
    sparoa_model_destroy(model);
    return status;
}

int main(int argc, char **argv)
{
    sparoa_runtime *rt = NULL;
    sparoa_error err;
    sp_platform *platform = calloc(1, sizeof *platform);
    if (argc < 4 || !platform || sparoa_runtime_create(NULL, &rt, &err)) return 2;
    fputs("| model | platform | regime | nodes | best, ms |", stdout);
    for (int i = 0; i < COUNT; i++) printf(" %s |", names[i]);
    puts(" sac, s |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (char *path = strtok(argv[2], ","); path; path = strtok(NULL, ",")) {
        if (sp_platform_load(&rt->alloc, path, platform, &err))
            return fprintf(stderr, "%s\n", err.message), 1;
        for (int i = 3; i < argc; i++) {
            char name[64];
            const char *model = strchr(argv[i], '=');
            if (!model) return 2;
            snprintf(name, sizeof name, "%.*s", (int)(model - argv[i]), argv[i]);
            if (run_model(rt, name, model + 1, platform, (uint32_t)atoi(argv[1]), &err))
                fprintf(stderr, "%s: %s\n", name, err.message);
        }
    }
    puts("* best found, not proved. Relative to it: what each plan takes longer (below 0: less).");
    sparoa_runtime_destroy(rt);
    free(platform);
    return 0;
}
