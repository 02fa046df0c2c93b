/*
 * Random models on two devices, the CPU and the emulated accelerator: every placement gives what
 * the CPU alone gives, also while commands are slow, and a fault at any step ends in the right
 * answer or in an error that says what happened.
 *
 * SPAROA_HYBRID_GRAPHS sets how many graphs run, SPAROA_HYBRID_PLANS how many small ones with
 * random plans. `test_hybrid SEED [COUNT]` runs those.
 */
#include "tests/engine/hand_plan.h"
#include "tests/engine/random_build.h"

#if defined(SP_TEST_EMULATED) /* qemu's user mode keeps 280 KB of every thread that has ended */
#define GRAPHS 100
#define FAULT_GRAPHS 1
#define STRIDE 3
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define GRAPHS 200
#define FAULT_GRAPHS 3
#define STRIDE 1
#else
#define GRAPHS 1000
#define FAULT_GRAPHS 12
#define STRIDE 1 /* from one step at which a fault is injected to the next */
#endif
#define PLANNED_GRAPHS 300
#define PLANS 2 /* of each of them */
#define MAX_PINS 256
#define MAX_STEPS 80 /* of one model at which a fault is injected */
#define TOLERANCE 1e-3

static uint64_t splits[SP_SPLIT_COUNT]; /* by axis: nodes that plans divided */
static uint64_t first_seed, seed_count = GRAPHS, planned_count = PLANNED_GRAPHS;

/* A runtime with the accelerator. */
typedef struct bed {
    ts_memory memory;
    atomic_int complaints; /* lines of level ERROR: the device was used wrongly */
    char complaint[256];
    sparoa_runtime *rt;
} bed;

static void on_log(void *user, sparoa_log_level level, const char *line)
{
    bed *b = user;
    if (level != SPAROA_LOG_ERROR) return;
    if (atomic_fetch_add(&b->complaints, 1) == 0)
        snprintf(b->complaint, sizeof b->complaint, "%s", line);
}

static void bed_make(bed *b, const char *options)
{
    sparoa_error err;
    memset(b, 0, sizeof *b);
    sparoa_runtime_options o = ts_options(&b->memory, 2);
    o.log = on_log;
    o.log_user = b;
    ts_ok(sparoa_runtime_create(&o, &b->rt, &err), err);
    ts_emu(b->rt, options);
}

/* Everything was given back, device memory too. */
static void bed_clear(bed *b)
{
    sparoa_runtime_destroy(b->rt);
    ts_balanced(&b->memory);
    if (atomic_load(&b->complaints)) fail_msg("%s", b->complaint);
}

/* ---- one model ---- */

/* A random model, its inputs at one or two batch sizes, and what the CPU makes of them. */
typedef struct sample {
    rg graph;
    uint64_t seed;
    int batches;
    sparoa_tensor in[2][2], want[2][RG_MAX_OUTPUTS];
    sparoa_pin pins[MAX_PINS];
    char names[MAX_PINS][64];
    size_t pin_count;
} sample;

/* A part of the nodes stays on the CPU; none, some, or most of them. */
static void pick_pins(sample *s, const sparoa_session *session)
{
    int percent = (int[]){0, 20, 50, 80}[rg_pick(&s->graph, 4)];
    size_t count = sparoa_session_node_count(session);
    for (size_t i = 0; i < count && s->pin_count < MAX_PINS; i++) {
        sparoa_node_info info;
        assert_int_equal(sparoa_session_node(session, i, &info), SPAROA_OK);
        if (!rg_chance(&s->graph, percent) || strlen(info.name) >= sizeof s->names[0]) continue;
        strcpy(s->names[s->pin_count], info.name);
        s->pins[s->pin_count] = (sparoa_pin){s->names[s->pin_count], "cpu"};
        s->pin_count++;
    }
}

static void copy_out(const sparoa_tensor *out, size_t count, sparoa_tensor *to)
{
    for (size_t i = 0; i < count; i++) to[i] = ts_copy(&out[i]);
}

static sample *sample_make(bed *b, uint64_t seed, int steps, int reference, sparoa_model **model)
{
    sample *s = calloc(1, sizeof *s);
    sparoa_error err;
    s->seed = seed;
    rg_build_steps(&s->graph, seed, steps);
    s->batches = s->graph.dynamic ? 2 : 1;
    *model = ts_load(b->rt, s->graph.model);
    sparoa_session_options o = {.struct_size = sizeof o, .reference = reference};
    sparoa_session *cpu = NULL;
    ts_ok(sparoa_session_create(*model, &o, &cpu, &err), err);
    pick_pins(s, cpu);
    for (int k = 0; k < s->batches; k++) {
        sparoa_tensor out[RG_MAX_OUTPUTS] = {{0}};
        rg_inputs(&s->graph, k ? s->graph.n + 2 : s->graph.n, s->in[k]);
        ts_ok(
            sparoa_session_run(cpu, s->in[k], s->graph.g->n_input, out, s->graph.g->n_output, &err),
            err);
        copy_out(out, s->graph.g->n_output, s->want[k]);
    }
    sparoa_session_destroy(cpu);
    return s;
}

static void sample_free(sample *s)
{
    for (int k = 0; k < s->batches; k++) {
        for (size_t i = 0; i < s->graph.g->n_input; i++) free(s->in[k][i].data);
        for (size_t i = 0; i < s->graph.g->n_output; i++) free(s->want[k][i].data);
    }
    mb_end();
    free(s);
}

static sparoa_status hybrid(const sample *s, sparoa_model *model, sparoa_fallback fallback,
                            int reference, sparoa_session **session, sparoa_error *err)
{
    sparoa_session_options o = {.struct_size = sizeof o,
                                .reference = reference,
                                .device = "emu0",
                                .fallback = fallback,
                                .pins = s->pins,
                                .pin_count = s->pin_count};
    return sparoa_session_create(model, &o, session, err);
}

/* One run, into the session's memory or into the caller's. What is given out must be right. */
static sparoa_status run(const sample *s, sparoa_session *session, int turn, double tolerance,
                         const char *what, sparoa_error *err)
{
    int k = turn % s->batches;
    size_t count = s->graph.g->n_output;
    sparoa_tensor out[RG_MAX_OUTPUTS] = {{0}};
    for (size_t i = 0; turn % 3 == 1 && i < count; i++) {
        out[i] = ts_copy(&s->want[k][i]);
        if (out[i].data) memset(out[i].data, 0xff, sparoa_tensor_bytes(&out[i]));
    }
    sparoa_status status =
        sparoa_session_run(session, s->in[k], s->graph.g->n_input, out, count, err);
    for (size_t i = 0; i < count && status == SPAROA_OK; i++) {
        double d = ts_difference(&out[i], &s->want[k][i]);
        if (!(d <= tolerance))
            fail_msg("seed %llu, %s, run %d: output %s differs by %g with %zu of the nodes on the "
                     "CPU\n%s",
                     (unsigned long long)s->seed, what, turn, s->graph.g->output[i]->name, d,
                     s->pin_count, s->graph.text);
    }
    for (size_t i = 0; turn % 3 == 1 && i < count; i++) free(out[i].data);
    return status;
}

/* ---- placements ---- */

static void check_graph(bed *b, uint64_t seed)
{
    sparoa_model *model;
    sparoa_session *session = NULL;
    sparoa_error err;
    int reference = seed % 2 == 0; /* then both devices run the same code */
    sample *s = sample_make(b, seed, RG_STEPS, reference, &model);
    sparoa_status status = hybrid(s, model, SPAROA_FALLBACK_ALLOW, reference, &session, &err);
    if (status != SPAROA_OK)
        fail_msg("seed %llu: %s\n%s", (unsigned long long)seed, err.message, s->graph.text);
    for (int turn = 0; turn < 3; turn++) {
        status = run(s, session, turn, reference ? 1e-6 : TOLERANCE, "no fault", &err);
        if (status != SPAROA_OK)
            fail_msg("seed %llu: %s\n%s", (unsigned long long)seed, err.message, s->graph.text);
    }
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sample_free(s);
}

static void placements_agree(void **state)
{
    static const char *const options[] = {
        "delay_us=20,copy_delay_us=20,seed=5", NULL, "support=every_other,copy_delay_us=30",
        "support=conv+gemm+pool,delay_us=15,streams=1", "unified=1,delay_us=15,copy_delay_us=15"};
    (void)state;
    for (int k = 0; k < 5; k++) {
        bed b;
        bed_make(&b, options[k]);
        for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++)
            if (seed / 2 % 5 == (uint64_t)k) check_graph(&b, seed);
        bed_clear(&b);
    }
}

/* ---- plans ---- */

/* Divides a node of the plan, if it can be, along some axis and at some place. */
static void toss_split(sample *s, const sparoa_session *session, sp_plan_node *n, sp_id node)
{
    static const double shares[] = {0.001, 0.0625, 0.25, 0.4, 0.5, 0.75, 0.9, 0.999};
    int first = (int)rg_pick(&s->graph, SP_SPLIT_COUNT - 1);
    n->share = 0;
    for (int k = 0; k < SP_SPLIT_COUNT - 1; k++) {
        sp_split_axis axis = (sp_split_axis)(SP_SPLIT_CHANNELS + (first + k) % 3);
        if (sp_divide_obstacle(session->graph, node, axis)) continue;
        n->axis = (uint8_t)axis;
        n->share = shares[rg_pick(&s->graph, 8)];
        n->second = !n->device;
        splits[axis]++;
        return;
    }
}

/* Another plan: each node that the device can run goes there by the toss of a coin, or to both. */
static void toss(sample *s, const sparoa_session *session, sparoa_plan *plan)
{
    int percent = (int[]){20, 50, 80, 100}[rg_pick(&s->graph, 4)];
    int split_percent = (int[]){0, 30, 70, 100}[rg_pick(&s->graph, 4)];
    for (uint32_t i = 0; i < plan->p->node_count; i++) {
        sparoa_node_info info;
        assert_int_equal(sparoa_session_node(session, i, &info), SPAROA_OK);
        bool can = strcmp(info.device, "emu0") == 0;
        plan->p->nodes[i].device = can && rg_chance(&s->graph, percent);
        plan->p->nodes[i].share = 0;
        if (can && rg_chance(&s->graph, split_percent))
            toss_split(s, session, &plan->p->nodes[i], i);
    }
}

/* One session, several plans: each runs as it is, and then replays what it recorded. */
static void check_plans(bed *b, uint64_t seed)
{
    sparoa_model *model;
    sparoa_session *session = NULL;
    sparoa_error err;
    size_t index[PLANS];
    int reference = seed % 2 == 0; /* then both devices run the same code */
    sample *s = sample_make(b, seed, 6, reference, &model);
    sparoa_session_options o = {.struct_size = sizeof o,
                                .reference = reference,
                                .device = "emu0",
                                .fallback = SPAROA_FALLBACK_ALLOW};
    ts_ok(sparoa_session_create(model, &o, &session, &err), err);
    sparoa_plan *plan = hp_make(b->rt, session, "emu0");
    for (int k = 0; k < PLANS; k++) {
        toss(s, session, plan);
        ts_ok(sparoa_session_add_plan(session, plan, &index[k], &err), err);
    }
    for (int turn = 0; turn < 2 * PLANS; turn++) {
        ts_ok(sparoa_session_use_plan(session, index[turn % PLANS], &err), err);
        sparoa_status status =
            run(s, session, turn / PLANS, reference ? 1e-6 : TOLERANCE, "plan", &err);
        if (status != SPAROA_OK)
            fail_msg("seed %llu: %s\n%s", (unsigned long long)seed, err.message, s->graph.text);
    }
    sparoa_plan_destroy(plan);
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sample_free(s);
}

static void random_plans_agree(void **state)
{
    (void)state;
    bed b;
    bed_make(&b, NULL);
    for (uint64_t seed = first_seed; seed < first_seed + planned_count; seed++)
        check_plans(&b, seed);
    bed_clear(&b);
    for (int axis = SP_SPLIT_CHANNELS; axis < SP_SPLIT_COUNT; axis++)
        if (planned_count >= PLANNED_GRAPHS) assert_true(splits[axis] > 20);
}

/* ---- faults ---- */

typedef struct fault {
    const char *option;
    bool lasting; /* the device is gone for good */
} fault;

static const fault faults[] = {{"fail_copy", false},
                               {"fail_kernel", false},
                               {"fail_alloc", false},
                               {"lose_at", true},
                               {"hang_ms=3,hang_at", true}};

static bool is_device_error(sparoa_status status)
{
    return status == SPAROA_DEVICE_LOST || status == SPAROA_DEVICE_UNAVAILABLE ||
           status == SPAROA_OUT_OF_MEMORY;
}

/* Every node of the device's goes there or to both devices. */
static sparoa_plan *divided_plan(bed *b, sample *s, const sparoa_session *session)
{
    sparoa_plan *plan = hp_make(b->rt, session, "emu0");
    for (uint32_t i = 0; i < plan->p->node_count; i++) {
        sparoa_node_info info;
        assert_int_equal(sparoa_session_node(session, i, &info), SPAROA_OK);
        bool can = strcmp(info.device, "emu0") == 0;
        plan->p->nodes[i].device = can && i % 4 != 0;
        if (can) toss_split(s, session, &plan->p->nodes[i], i);
    }
    return plan;
}

/* Four runs with the fault at that step. Returns whether it struck. */
static bool check_fault(const fault *f, int step, uint64_t seed, sparoa_fallback fallback)
{
    bool planned = seed % 2; /* by a plan that divides what it can */
    bed b;
    char options[96];
    sparoa_model *model;
    sparoa_session *session = NULL;
    sparoa_error err;
    int failures = 0;
    snprintf(options, sizeof options, "%s=%d,copy_delay_us=%d", f->option, step, step % 3 * 10);
    bed_make(&b, options);
    sample *s = sample_make(&b, seed, 8, 1, &model);
    ts_ok(hybrid(s, model, fallback == SPAROA_FALLBACK_FORBID ? SPAROA_FALLBACK_ALLOW : fallback, 1,
                 &session, &err),
          err);
    sparoa_plan *plan = planned ? divided_plan(&b, s, session) : NULL;
    sparoa_session_destroy(session); /* a first session must leave nothing behind */
    session = NULL;
    sparoa_status status = hybrid(s, model, fallback, 1, &session, &err);
    size_t index;
    if (status == SPAROA_OK && plan) {
        ts_ok(sparoa_session_add_plan(session, plan, &index, &err), err);
        ts_ok(sparoa_session_use_plan(session, index, &err), err);
    }
    sparoa_plan_destroy(plan);
    if (status == SPAROA_UNSUPPORTED_OP) { /* a node that only the CPU has, and it may not */
        sparoa_model_destroy(model);
        sample_free(s);
        bed_clear(&b);
        return false;
    }
    ts_ok(status, err);
    for (int turn = 0; turn < 4; turn++) {
        err.message[0] = '\0';
        status = run(s, session, turn, TOLERANCE, options, &err);
        if (status == SPAROA_OK) {
            if (failures && f->lasting) fail_msg("%s: the device came back", options);
            continue;
        }
        failures++;
        if (fallback != SPAROA_FALLBACK_FORBID || !is_device_error(status) ||
            !strstr(err.message, "emu") || (failures > 1 && !f->lasting))
            fail_msg("seed %llu, %s, fallback %d, run %d: %s: %s\n%s", (unsigned long long)seed,
                     options, (int)fallback, turn, sparoa_status_name(status), err.message,
                     s->graph.text);
    }
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sample_free(s);
    bed_clear(&b);
    return failures > 0;
}

static void faults_at_every_step(void **state)
{
    (void)state;
    int struck = 0;
    for (uint64_t seed = 0; seed < FAULT_GRAPHS; seed++)
        for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
            int step = 1;
            while (step < MAX_STEPS &&
                   check_fault(&faults[k], step, seed, SPAROA_FALLBACK_FORBID)) {
                check_fault(&faults[k], step, seed, SPAROA_FALLBACK_ALLOW);
                struck++;
                step += STRIDE;
            }
        }
    assert_true(struck > 50 / STRIDE);
}

/* Device memory that is too small for the model from the start. */
static void too_little_memory(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        bed b;
        sparoa_model *model;
        sparoa_session *session = NULL;
        sparoa_error err;
        bed_make(&b, "memory=4096");
        sample *s = sample_make(&b, seed, RG_STEPS, 1, &model);
        ts_ok(hybrid(s, model, SPAROA_FALLBACK_ALLOW, 1, &session, &err), err);
        for (int turn = 0; turn < 3; turn++)
            ts_ok(run(s, session, turn, TOLERANCE, "memory=4096", &err), err);
        sparoa_session_destroy(session);
        sparoa_model_destroy(model);
        sample_free(s);
        bed_clear(&b);
    }
}

int main(int argc, char **argv)
{
    const char *graphs = getenv("SPAROA_HYBRID_GRAPHS");
    const char *plans = getenv("SPAROA_HYBRID_PLANS");
    if (graphs) seed_count = strtoull(graphs, NULL, 10);
    if (plans) planned_count = strtoull(plans, NULL, 10);
    if (argc > 1) {
        first_seed = strtoull(argv[1], NULL, 10);
        planned_count = seed_count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(placements_agree),
        cmocka_unit_test(random_plans_agree),
        cmocka_unit_test(faults_at_every_step),
        cmocka_unit_test(too_little_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
