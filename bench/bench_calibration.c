/*
 * bench_calibration: the shipped platform files against published figures.
 *
 *   bench_calibration PLATFORMS_DIR [OPS_CSV] [NAME=MODEL ...]
 *
 * MODEL: prefix of profiles, read from MODEL.eager.yaml and MODEL.graph.yaml (sparoa plan
 * --profile). OPS_CSV: per-operator times of an AGX Orin
 * (platform,model,precision,batch,pattern,operation_class,
 * flops,bytes,mean_ms,median_ms,index,name). NAME: resnet18, mobilenet_v2, mobilenet_v3_small,
 * vit_b_16. "fit" marks figures that the platform file was made from, "held out" those it was not.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/order.h"
#include "platform/sim.h"
#include "schedule/env_sim.h"
#include "schedule/policy.h"
#include "sparoa_schedule.h"

static sp_mem mem;
static sparoa_allocator alloc;
static sp_platform agx, nano;

static void line(const char *id, const char *what, const char *kind, double predicted,
                 double published, const char *unit)
{
    printf("| %s | %s | %s | %.3g %s | %.3g %s | %+.0f%% |\n", id, what, kind, predicted, unit,
           published, unit, 100 * (predicted / published - 1));
}

/* V1: launch cost goes with 1 / f_cpu. The MAXN value is taken as published; the modes follow. */
static void dispatch_law(void)
{
    static const char *const modes[] = {"MODE_30W", "MODE_50W", "MODE_15W"};
    static const double us[3][4] = {
        {14.4, 19.0, 21.6, 28.7}, {61.0, 79.8, 91.8, 119.0}, {73.0, 92.1, 106.1, 142.1}};
    static const char *const names[] = {"empty kernel", "small add", "small matmul"};
    const sp_work w = {.kind = SPAROA_CLASS_ELTWISE};
    double full = sp_platform_cost(&agx, 1, SP_REGIME_EAGER, &w, NULL).overhead_ns;
    for (int k = 0; k < 3; k++)
        for (int m = 0; m < 3; m++) {
            const sp_platform_mode *mode = sp_platform_find_mode(&agx, modes[m]);
            char what[64];
            if (!mode) continue;
            double ratio =
                sp_platform_cost(&agx, 1, SP_REGIME_EAGER, &w, &mode->state).overhead_ns / full;
            snprintf(what, sizeof what, "AGX %s, %s", modes[m], names[k]);
            line("V1", what, "held out", us[k][0] * ratio, us[k][m + 1], "us");
        }
}

/* V7: bandwidth and products by mode, from those at full clocks. The source ran with DVFS: while it
 * measured GPU products its log tells 306 to 408 MHz, in MAXN too. */
static void rates(const sp_platform *p, uint32_t device, const char *board, const char *what,
                  int kind, sparoa_cost cost, const char *const *modes, const double *published,
                  const char *const *use, int count, const char *unit)
{
    const sp_work w = {.kind = kind, .cost = cost};
    double full = sp_platform_cost(p, device, SP_REGIME_GRAPH, &w, NULL).ns;
    for (int m = 1; m < count; m++) {
        const sp_platform_mode *mode = sp_platform_find_mode(p, modes[m]);
        char text[96];
        if (!mode) continue;
        double ns = sp_platform_cost(p, device, SP_REGIME_GRAPH, &w, &mode->state).ns;
        snprintf(text, sizeof text, "%s %s, %s", board, modes[m], what);
        line("V7", text, use[m], published[0] * full / ns, published[m], unit);
    }
}

static void by_mode(void)
{
    static const char *const agx_modes[] = {"MAXN", "MODE_50W", "MODE_30W", "MODE_15W"};
    static const char *const nano_modes[] = {"MAXN_SUPER", "25W", "15W"};
    static const char *const fit_50[] = {"fit", "fit", "held out", "held out"};
    static const char *const held[] = {"fit", "held out", "held out", "held out"};
    static const char *const dvfs[] = {"-", "GPU clock not known", "GPU clock not known",
                                       "GPU clock not known"};
    static const char *const fit[] = {"fit", "fit", "fit"};
    const sparoa_cost add = {.flops = 1e8, .bytes_in = 1e9, .bytes_out = 5e8};
    const sparoa_cost product = {
        .flops = 1.4e11, .bytes_in = 6.7e7, .bytes_w = 6.7e7, .bytes_out = 6.7e7};
    const sparoa_cost square = {/* 2048: the largest that the source ran in every mode */
                                .flops = 1.7e10,
                                .bytes_in = 1.7e7,
                                .bytes_w = 1.7e7,
                                .bytes_out = 1.7e7};
    rates(&agx, 1, "AGX", "GPU addition", SPAROA_CLASS_ELTWISE, add, agx_modes,
          (const double[]){187.5, 169.6, 124, 79}, fit_50, 4, "GB/s");
    rates(&nano, 1, "Nano", "GPU addition", SPAROA_CLASS_ELTWISE, add, nano_modes,
          (const double[]){95.3, 95.5, 63.4}, fit, 3, "GB/s");
    rates(&agx, 0, "AGX", "CPU product FP32", SPAROA_CLASS_GEMM, product, agx_modes,
          (const double[]){274, 189, 158, 60}, held, 4, "GFLOPS");
    rates(&agx, 1, "AGX", "GPU product FP32", SPAROA_CLASS_GEMM, square, agx_modes,
          (const double[]){1492, 1397, 715, 380}, dvfs, 4, "GFLOPS");
    rates(&agx, 1, "AGX", "GPU product TF32", SPAROA_CLASS_GEMM, square, agx_modes,
          (const double[]){3715, 2526, 2012, 1556}, dvfs, 4, "GFLOPS");
}

/*
 * V9: TensorRT INT8 at clocks that were set, against full ones (MLPerf Inference v3.1, closed,
 * NVIDIA, Orin and Orin NX; clocks of MaxQ from its configs): how many times slower. Launches are
 * those of the graph regime, their number estimated from the architectures; the rest computes. The
 * memory's clock is 2133 of 3199 MHz in MaxQ. The Orin NX has the Nano's GPU and memory, with 918
 * MHz at most.
 */
static double slower(const sp_platform *p, double full_ms, double launches, double host,
                     double accelerator)
{
    sp_platform_state low = sp_platform_nominal(p);
    const sp_work launch = {.kind = SPAROA_CLASS_CONV};
    const sp_work work = {.kind = SPAROA_CLASS_CONV, .cost = {.flops = 1e12}};
    low.device[0].clock = host;
    low.device[1].clock = accelerator;
    low.memory_clock = 2133.0 / 3199;
    double fixed = launches * 1e-6 * sp_platform_cost(p, 1, SP_REGIME_GRAPH, &launch, NULL).ns;
    double then = launches * 1e-6 * sp_platform_cost(p, 1, SP_REGIME_GRAPH, &launch, &low).ns;
    double ratio = sp_platform_cost(p, 1, SP_REGIME_GRAPH, &work, &low).compute_ns /
                   sp_platform_cost(p, 1, SP_REGIME_GRAPH, &work, NULL).compute_ns;
    return ((full_ms - fixed) * ratio + then) / full_ms;
}

static void at_set_clocks(void)
{
    static const struct {
        const char *what;
        const sp_platform *platform;
        double full_ms, low_ms, launches, host, accelerator;
    } points[] = {{"AGX 714 MHz, RetinaNet single stream", &agx, 11.560, 20.411, 135,
                   652.8 / 2201.6, 714 / 1300.5},
                  {"AGX 714 MHz, RetinaNet multi-stream of 8", &agx, 82.501, 144.896, 4 * 135,
                   576 / 2201.6, 714 / 1300.5},
                  {"NX 816 MHz, RetinaNet single stream", &nano, 28.429, 34.191, 135, 652.8 / 1984,
                   816.0 / 918},
                  {"NX 714 MHz, BERT-Large single stream", &nano, 8.760, 12.772, 170, 576.0 / 1984,
                   714.0 / 918},
                  {"NX 714 MHz, BERT-Large offline", &nano, 1e3 / 194.503, 1e3 / 136.59, 0,
                   499.2 / 1984, 714.0 / 918}};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        line("V9", points[i].what, "held out",
             slower(points[i].platform, points[i].full_ms, points[i].launches, points[i].host,
                    points[i].accelerator),
             points[i].low_ms / points[i].full_ms, "x");
}

/* ---- V2: operators of PyTorch eager, fused by the source's tracer into chains ---- */

typedef struct group {
    char model[40];
    int batch;
    double predicted, published;
    int count;
} group;

static double price(int kind, double flops, double bytes)
{
    const sp_work w = {.kind = kind, .cost = {.flops = flops, .bytes_in = bytes}};
    return sp_platform_cost(&agx, 1, SP_REGIME_EAGER, &w, NULL).ns * 1e-6;
}

/* Steps of the tracer that compute nothing: views, and attributes, indices and checks of Python. */
static bool is_view(const char *name)
{
    static const char *const parts[] = {
        "flatten",  "reshape", "permute", "drop",  "swapaxes",         "getitem", "getattr",
        "floordiv", "eq_",     "_assert", "chunk", "stochastic_depth", "view"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(name, parts[i])) return true;
    return false;
}

/* A chain's time: its heavy part with all FLOPs, the rest with overhead and its bytes. */
static double chain_ms(const char *pattern, const char *name, double flops, double bytes)
{
    double ms = 0;
    bool conv = strstr(pattern, "Conv2d"), linear = strstr(pattern, "Linear");
    if (conv) ms += price(SPAROA_CLASS_CONV, flops, bytes);
    if (linear) ms += price(SPAROA_CLASS_GEMM, flops, bytes);
    if (strstr(pattern, "Multihead")) ms += price(SPAROA_CLASS_ATTENTION, flops, bytes);
    if (strstr(pattern, "BatchNorm") || strstr(pattern, "LayerNorm"))
        ms += price(SPAROA_CLASS_NORM, 0, bytes);
    if (strstr(pattern, "ReLU") || strstr(pattern, "Hardswish") || strstr(pattern, "SiLU") ||
        strstr(pattern, "GELU"))
        ms += price(SPAROA_CLASS_ELTWISE, 0, bytes);
    if (strstr(pattern, "AvgPool")) ms += price(SPAROA_CLASS_POOL, 0, bytes);
    if (strstr(pattern, "add_")) ms += price(SPAROA_CLASS_ELTWISE, 0, bytes);
    if (strstr(pattern, "Dropout")) ms += price(SP_KIND_VIEW, 0, 0);
    if (strstr(pattern,
               "+3more")) { /* the same again; after a pool convolution, sigmoid, product */
        bool gate = strstr(pattern, "AvgPool");
        ms += price(SPAROA_CLASS_CONV, 0, 0) + price(SPAROA_CLASS_ELTWISE, 0, 0) +
              price(gate ? SPAROA_CLASS_ELTWISE : SPAROA_CLASS_NORM, 0, 0);
    }
    if (strcmp(pattern, "Unfused") == 0) {
        bool pool = strstr(name, "pool"), view = is_view(name);
        bool heavy = flops > 1e6 && !pool;
        ms = view    ? price(SP_KIND_VIEW, 0, 0)
             : heavy ? price(SPAROA_CLASS_CONV, flops, bytes)
             : pool  ? price(SPAROA_CLASS_POOL, 0, bytes)
                     : price(SPAROA_CLASS_ELTWISE, 0, bytes);
    }
    return ms;
}

static group *find_group(group *groups, int *count, const char *model, int batch)
{
    for (int i = 0; i < *count; i++)
        if (groups[i].batch == batch && strcmp(groups[i].model, model) == 0) return &groups[i];
    if (*count == 128) return NULL;
    group *g = &groups[(*count)++];
    snprintf(g->model, sizeof g->model, "%s", model);
    g->batch = batch;
    return g;
}

enum { MAX_OPERATORS = 20000 };

static void operators(const char *path)
{
    static group groups[128];
    static double error[2][MAX_OPERATORS];
    int ops[2] = {0};
    int count = 0;
    char text[1024];
    FILE *file = fopen(path, "r");
    if (!file) {
        printf("cannot open %s\n", path);
        return;
    }
    while (fgets(text, sizeof text, file)) {
        char *field[12], *at = text;
        int n = 0;
        for (; n < 12 && at; n++) field[n] = strsep(&at, ",\n");
        /* Larger batches were recorded under the other name of the same board and mode. */
        if (n < 12 || strcmp(field[2], "fp32")) continue;
        if (strcmp(field[0], atoi(field[3]) == 1 ? "jetson_orin_agx_maxn" : "jetson_orin_maxn"))
            continue;
        double measured = atof(field[9]);
        group *g = find_group(groups, &count, field[1], atoi(field[3]));
        if (!g || !(measured > 0)) continue;
        double ms = chain_ms(field[4], field[11], atof(field[6]), atof(field[7]));
        g->predicted += ms;
        g->published += measured;
        int held = g->batch != 1;
        if (ops[held] < MAX_OPERATORS) error[held][ops[held]++] = fabs(ms / measured - 1);
        g->count++;
    }
    fclose(file);
    double sums[2] = {0};
    int models[2] = {0};
    for (int i = 0; i < count; i++) {
        const group *g = &groups[i];
        char what[160];
        int held = g->batch != 1;
        snprintf(what, sizeof what, "AGX eager %.39s b%d, sum of %d", g->model, g->batch, g->count);
        line("V2", what, held ? "held out" : "fit", g->predicted, g->published, "ms");
        sums[held] += fabs(g->predicted / g->published - 1);
        models[held]++;
    }
    for (int held = 0; held < 2; held++)
        if (ops[held]) {
            qsort(error[held], (size_t)ops[held], sizeof **error, by_value);
            printf(
                "\nV2 %s: median error %.0f%% per operator (%d), mean %.0f%% per model sum (%d)\n",
                held ? "held out (batch 4, 16, 64)" : "fit (batch 1)",
                100 * error[held][ops[held] / 2], ops[held], 100 * sums[held] / models[held],
                models[held]);
        }
}

/* ---- whole models ---- */

typedef struct published {
    const char *id, *model, *what, *kind;
    const sp_platform *platform;
    const char *mode;
    sparoa_regime regime;
    int device;
    double ms;
} published;

static double whole_ms(const char *profile_path, const published *p, double memory_clock)
{
    sp_profile *profile;
    sp_env *env;
    sparoa_error err;
    const sp_platform_mode *mode = sp_platform_find_mode(p->platform, p->mode);
    if (!mode || sp_profile_load(&alloc, profile_path, &profile, &err)) return NAN;
    sp_platform_state state = mode->state;
    state.memory_clock *= memory_clock;
    sp_policy_result r = {0};
    uint8_t *device = calloc(profile->node_count + 1, 1);
    if (sp_env_build(&alloc, profile, p->platform, (sp_regime)p->regime, &state, &env, &err) ==
        SPAROA_OK) {
        sp_policy_run(sp_policy_find(p->device ? "gpu" : "cpu"), env, NULL, device, &r, &err);
        sp_env_destroy(env);
    }
    free(device);
    sp_profile_destroy(profile);
    return r.price.makespan_ns * 1e-6;
}

static void models(int argc, char **argv)
{
    const published table[] = {
        {"V3", "resnet18", "Nano 25W onnxruntime CPU", "fit", &nano, "25W", 1, 0, 42.2},
        {"V3", "resnet18", "Nano 25W PyTorch eager", "held out", &nano, "25W", 0, 1, 11.63},
        {"V3", "resnet18", "Nano 25W TensorRT FP32", "fit", &nano, "25W", 1, 1, 4.03},
        {"V2", "resnet18", "AGX 50W PyTorch eager", "held out", &agx, "MODE_50W", 0, 1, 25.6},
        {"V2", "resnet18", "AGX 30W PyTorch eager", "held out", &agx, "MODE_30W", 0, 1, 20.4},
        {"V2", "mobilenet_v2", "AGX 30W PyTorch eager", "held out", &agx, "MODE_30W", 0, 1, 29.9},
        {"V2", "mobilenet_v3_small", "AGX 30W PyTorch eager", "held out", &agx, "MODE_30W", 0, 1,
         33.1},
        {"V2", "vit_b_16", "AGX MAXN PyTorch eager", "held out", &agx, "MAXN", 0, 1, 60.6},
        {"V5", "mobilenet_v2", "Nano original OpenCV CPU", "held out", &nano, "ORIGINAL_15W", 1, 0,
         15.8},
        {"V5", "mobilenet_v2", "Nano original OpenCV CUDA FP32", "held out", &nano, "ORIGINAL_15W",
         1, 1, 10.3},
        {"V6", "mobilenet_v3_small", "AGX TensorRT FP16, half pruned: must be more", "held out",
         &agx, "MAXN", 1, 1, 0.594},
        {"V6", "mobilenet_v3_small", "Nano TensorRT FP16, half pruned: must be more", "fit", &nano,
         "MAXN_SUPER", 1, 1, 1.34}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (int a = 0; a < argc; a++) {
            const char *equals = strchr(argv[a], '=');
            size_t n = strlen(table[i].model);
            if (!equals || (size_t)(equals - argv[a]) != n || strncmp(argv[a], table[i].model, n))
                continue;
            char what[128], profile[512];
            snprintf(profile, sizeof profile, "%s.%s.yaml", equals + 1,
                     table[i].regime ? "graph" : "eager");
            snprintf(what, sizeof what, "%s %s", table[i].what, table[i].model);
            line(table[i].id, what, table[i].kind, whole_ms(profile, &table[i], 1), table[i].ms,
                 "ms");
        }
}

/* The memory at 2133 instead of 3199 MHz: 11 to 48 % slower on an Orin Nano, by workload (arXiv
 * 2606.16106); which workload is which the abstract does not tell. */
static void slow_memory(int argc, char **argv)
{
    const published p = {.platform = &nano, .mode = "MAXN_SUPER", .regime = 1, .device = 1};
    for (int a = 0; a < argc; a++) {
        const char *equals = strchr(argv[a], '=');
        char profile[512];
        if (!equals) continue;
        snprintf(profile, sizeof profile, "%s.graph.yaml", equals + 1);
        double more = 100 * (whole_ms(profile, &p, 2133.0 / 3199) / whole_ms(profile, &p, 1) - 1);
        const char *how = more < 11 ? "less" : more > 48 ? "more" : "within";
        printf("| V9 | Nano, slower memory: %.*s | held out | +%.0f %% | +11..48 %% | %s |\n",
               (int)(equals - argv[a]), argv[a], more, how);
    }
}

/* Rails of CPU and GPU under a stress test, by mode, from those at full clocks. */
static void stress(void)
{
    static const char *const modes[] = {"MODE_50W", "MODE_30W", "MODE_15W"};
    static const double watts[2][4] = {{15.2, 6.0, 5.6, 1.6}, {40.4, 18.4, 7.6, 5.2}};
    static const double idle[2] = {1.7, 5.0}; /* at full clocks */
    for (uint32_t d = 0; d < 2; d++)
        for (int m = 0; m < 3; m++) {
            const sp_platform_mode *mode = sp_platform_find_mode(&agx, modes[m]);
            const sp_platform_device *k = &agx.devices[d];
            char what[64];
            if (!mode) continue;
            const sp_device_state *s = &mode->state.device[d];
            double at = (watts[d][0] - idle[d]) * pow(s->clock, k->clock_power) * s->units +
                        idle[d] - k->idle_clock_watts * (1 - s->clock * s->units);
            snprintf(what, sizeof what, "AGX %s, %s under stress", modes[m], k->name);
            line("V8", what, m ? "held out" : "fit", at, watts[d][m + 1], "W");
        }
}

static void power(void)
{
    const sp_platform_device *g = &agx.devices[1];
    const sp_platform_mode *mode = sp_platform_find_mode(&nano, "25W");
    stress();
    line("V8", "AGX memory-bound GPU load", "held out",
         agx.idle_watts + g->active_watts + agx.joules_per_byte * g->bandwidth, 36, "W");
    line("V8", "Nano onnxruntime CPU ResNet-18", "fit",
         sp_platform_idle_watts(&nano, &mode->state) + nano.devices[0].active_watts, 7.5, "W");
    line("V8", "Nano PyTorch YOLOv8n", "held out", nano.idle_watts + nano.devices[1].active_watts,
         11.4, "W");
}

int main(int argc, char **argv)
{
    char path[512];
    sparoa_error err = {0};
    if (argc < 2) return 2;
    alloc = sp_mem_init(&mem, NULL, 0);
    snprintf(path, sizeof path, "%s/jetson_agx_orin_64gb.yaml", argv[1]);
    sparoa_status status = sp_platform_load(&alloc, path, &agx, &err);
    snprintf(path, sizeof path, "%s/jetson_orin_nano_8gb.yaml", argv[1]);
    if (status == SPAROA_OK) status = sp_platform_load(&alloc, path, &nano, &err);
    if (status != SPAROA_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf("| id | figure | use | predicted | published | error |\n|---|---|---|---:|---:|---:|\n");
    dispatch_law();
    by_mode();
    at_set_clocks();
    models(argc - 2, argv + 2);
    slow_memory(argc - 2, argv + 2);
    power();
    if (argc > 2 && !strchr(argv[2], '=')) operators(argv[2]);
    return 0;
}
