/*
 * How the cost of deciding grows with the graph: chains of residual blocks (Conv, Relu, Conv, Add,
 * Relu) of up to 20,000 operators are profiled statically, their thresholds predicted, and placed
 * by greedy, dp, heft and a SAC policy that was trained on 500 operators of the same kind. Best
 * of 3. Usage: bench_scale PLATFORM.yaml
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "graph/rewrite.h"
#include "schedule/env_build.h"
#include "schedule/env_predict.h"
#include "schedule/plan.h"
#include "schedule/replan.h"

enum { STAGES = 8, REPEATS = 3 };
static const char *const stages[STAGES] = {"profile", "price", "predict", "greedy",
                                           "dp",      "heft",  "sac",     "plan"};

typedef struct bench {
    sp_mem mem;
    sparoa_allocator alloc;
    sp_platform platform;
    unsigned char *policy;
    size_t policy_bytes;
    double ms[STAGES];
} bench;

static void must(bool ok, const char *what, const sparoa_error *err)
{
    if (ok) return;
    fprintf(stderr, "%s: %s\n", what, err ? err->message : "failed");
    exit(1);
}

static sp_id add(sp_graph *g, const char *type, int i, const sp_id *in, int32_t n)
{
    char name[32];
    snprintf(name, sizeof name, "%s_%d", type, i);
    sp_id out = sp_graph_add_value(g, name, SP_VALUE_NODE);
    sp_id node =
        sp_graph_add_node(g, name, sp_op_find("", type, 13, NULL, 0), 13, in, n, &out, 1, NULL, 0);
    must(out != SP_NO_ID && node != SP_NO_ID, type, NULL);
    if (strcmp(type, "Conv") == 0)
        must(sp_node_set_ints(g, node, "pads", (const int64_t[]){1, 1, 1, 1}, 4), type, NULL);
    return out;
}

/* `nodes` operators; channels alternate so that neither device has all. */
static sp_graph *make_graph(bench *b, int nodes)
{
    sp_graph *g = sp_graph_create(&b->alloc, "chain");
    must(g != NULL, "graph", NULL);
    g->inputs = sp_arena_alloc(&g->arena, sizeof *g->inputs);
    g->outputs = sp_arena_alloc(&g->arena, sizeof *g->outputs);
    sp_id x = sp_graph_add_value(g, "x", SP_VALUE_INPUT);
    g->values[x].fact =
        sparoa_tensor_view(SPAROA_FLOAT32, NULL, 4, (const int64_t[]){1, 32, 28, 28});
    g->inputs[g->input_count++] = x;
    sp_id w = sp_add_const(g, "w", SPAROA_FLOAT32, 4, (const int64_t[]){32, 32, 3, 3}, NULL);
    for (int i = 0, kind = 0; i < nodes; i++, kind = (kind + 1) % 5) {
        static sp_id skip;
        if (kind == 0) skip = x;
        if (kind == 0 || kind == 2)
            x = add(g, "Conv", i, (const sp_id[]){x, w}, 2);
        else if (kind == 3)
            x = add(g, "Add", i, (const sp_id[]){x, skip}, 2);
        else
            x = add(g, "Relu", i, &x, 1);
    }
    g->outputs[g->output_count++] = x;
    return g;
}

static sp_profile *profile_of(bench *b, const sp_graph *g)
{
    sparoa_error err;
    sp_profile *p;
    const sparoa_tensor in =
        sparoa_tensor_view(SPAROA_FLOAT32, NULL, 4, (const int64_t[]){1, 32, 28, 28});
    must(!sp_profile_create(&b->alloc, g, "chain", &in, 1, SP_REGIME_EAGER, &p, &err), "profile",
         &err);
    return p;
}

static void lap(bench *b, int stage, int64_t *since)
{
    int64_t now = sp_now_ns();
    b->ms[stage] = fmin(b->ms[stage], (double)(now - *since) * 1e-6);
    *since = sp_now_ns();
}

static void once(bench *b, const sp_graph *g)
{
    static const char *const policies[] = {"greedy", "dp", "heft"};
    const sp_platform_state nominal = sp_platform_nominal(&b->platform);
    const sp_predict_machine machine = {&b->platform, &nominal, SP_REGIME_EAGER};
    const sp_plan_origin origin = {
        "chain", b->platform.name, "eager", "sac", SP_OBJECTIVE_LATENCY, 0, false};
    sparoa_error err;
    sp_env *env;
    int64_t t = sp_now_ns();
    sp_profile *p = profile_of(b, g);
    lap(b, 0, &t);
    must(!sp_env_build(&b->alloc, p, &b->platform, SP_REGIME_EAGER, NULL, &env, &err), "env", &err);
    lap(b, 1, &t);
    must(!sp_env_predict_shipped(env, p, &machine, NULL, &err), "predict", &err);
    lap(b, 2, &t);
    uint8_t *device = malloc(p->node_count);
    must(device != NULL, "memory", NULL);
    for (int i = 0; i < 3; i++) {
        sp_policy_result r;
        t = sp_now_ns();
        must(!sp_policy_run(sp_policy_find(policies[i]), env, NULL, device, &r, &err), "policy",
             &err);
        lap(b, 3 + i, &t);
    }
    sp_replanner *replanner;
    sp_replan_result r;
    const sp_live_state live = {.platform = nominal};
    must(!sp_replanner_create(&b->alloc, p, &b->platform, SP_OBJECTIVE_LATENCY, &replanner, &err) &&
             !sp_replanner_load(replanner, b->policy, b->policy_bytes, &err),
         "replanner", &err);
    t = sp_now_ns();
    sp_replan(replanner, &live, SP_REPLAN_POLICY, device, &r);
    lap(b, 6, &t);
    sp_plan *plan;
    sp_text text;
    sp_text_init(&text, &b->alloc);
    must(!sp_plan_create(env, device, &origin, &plan, &err), "plan", &err);
    sp_plan_write(plan, &text);
    lap(b, 7, &t);
    sp_text_free(&text);
    sp_plan_destroy(plan);
    sp_replanner_destroy(replanner);
    sp_env_destroy(env);
    sp_profile_destroy(p);
    free(device);
}

static void train(bench *b)
{
    sp_graph *g = make_graph(b, 500);
    sp_profile *p = profile_of(b, g);
    sp_replanner *r;
    sparoa_error err;
    sp_replan_training training = {.seed = 1, .updates = 1500};
    must(!sp_replanner_create(&b->alloc, p, &b->platform, SP_OBJECTIVE_LATENCY, &r, &err) &&
             !sp_replanner_train(r, &training, &err),
         "train", &err);
    b->policy_bytes = sp_replanner_file_bytes(r);
    b->policy = malloc(b->policy_bytes);
    must(b->policy != NULL, "memory", NULL);
    sp_replanner_save(r, b->policy);
    sp_replanner_destroy(r);
    sp_profile_destroy(p);
    sp_graph_destroy(g);
}

int main(int argc, char **argv)
{
    static bench b;
    static const int sizes[] = {1250, 2500, 5000, 10000, 20000};
    sparoa_error err;
    double last[STAGES] = {0};
    b.alloc = sp_mem_init(&b.mem, NULL, 0);
    if (argc != 2) return fprintf(stderr, "usage: bench_scale PLATFORM.yaml\n"), 2;
    must(!sp_platform_load(&b.alloc, argv[1], &b.platform, &err), argv[1], &err);
    train(&b);
    fputs("| operators |", stdout);
    for (int s = 0; s < STAGES; s++) printf(" %s, ms |", stages[s]);
    puts(" all but plan, us per operator |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        sp_graph *g = make_graph(&b, sizes[i]);
        double sum = 0;
        for (int s = 0; s < STAGES; s++) b.ms[s] = INFINITY;
        for (int k = 0; k < REPEATS; k++) once(&b, g);
        printf("| %d |", sizes[i]);
        for (int s = 0; s < STAGES; s++) {
            printf(" %.2f |", b.ms[s]);
            sum += s < 7 ? b.ms[s] : 0;
            if (sizes[i] <= 10000) last[s] = b.ms[s];
        }
        printf(" %.1f |\n", sum * 1e3 / sizes[i]);
        fflush(stdout);
        sp_graph_destroy(g);
    }
    double most = 0;
    for (int s = 0; s < STAGES; s++) most = fmax(most, last[s]);
    printf("10,000 operators: the slowest stage takes %.0f ms (aim: below 1000 ms each)\n", most);
    free(b.policy);
    return most < 1000 ? 0 : 1;
}
