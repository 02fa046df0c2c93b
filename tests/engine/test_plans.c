/* Sessions that take plans: what is refused, that every node runs where the plan has it, files, and
 * changing plans between runs. */
#include <unistd.h>

#include "tests/engine/hand_plan.h"
#include "tests/engine/random_build.h"

typedef struct bed {
    ts_memory memory;
    sparoa_runtime *rt;
    rg graph;
    sparoa_model *model;
    sparoa_session *cpu;
    sparoa_plan *plan;
    sparoa_tensor in[2], want[RG_MAX_OUTPUTS];
} bed;

static void bed_make(bed *b, uint64_t seed, bool with_device)
{
    sparoa_error err;
    sparoa_tensor out[RG_MAX_OUTPUTS] = {{0}};
    memset(b, 0, sizeof *b);
    sparoa_runtime_options o = ts_options(&b->memory, 2);
    ts_ok(sparoa_runtime_create(&o, &b->rt, &err), err);
    if (with_device) ts_emu(b->rt, NULL);
    rg_build_steps(&b->graph, seed, 12);
    b->model = ts_load(b->rt, b->graph.model);
    ts_ok(sparoa_session_create(b->model, NULL, &b->cpu, &err), err);
    rg_inputs(&b->graph, b->graph.n, b->in);
    ts_ok(sparoa_session_run(b->cpu, b->in, b->graph.g->n_input, out, b->graph.g->n_output, &err),
          err);
    for (size_t i = 0; i < b->graph.g->n_output; i++) b->want[i] = ts_copy(&out[i]);
    b->plan = hp_make(b->rt, b->cpu, "emu0");
}

static void bed_clear(bed *b)
{
    for (size_t i = 0; i < b->graph.g->n_input; i++) free(b->in[i].data);
    for (size_t i = 0; i < b->graph.g->n_output; i++) free(b->want[i].data);
    sparoa_plan_destroy(b->plan);
    sparoa_session_destroy(b->cpu);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    ts_balanced(&b->memory);
    mb_end();
}

static sparoa_status create(bed *b, sparoa_session **session, sparoa_error *err)
{
    sparoa_session_options o = {.struct_size = sizeof o, .plan = b->plan};
    return sparoa_session_create(b->model, &o, session, err);
}

static void run(bed *b, sparoa_session *session)
{
    sparoa_error err;
    sparoa_tensor out[RG_MAX_OUTPUTS] = {{0}};
    ts_ok(sparoa_session_run(session, b->in, b->graph.g->n_input, out, b->graph.g->n_output, &err),
          err);
    for (size_t i = 0; i < b->graph.g->n_output; i++)
        assert_true(ts_difference(&out[i], &b->want[i]) <= 1e-3);
}

/* Nodes on the accelerator where `bits` has a one, as far as it can run them. Returns how many. */
static int scatter(bed *b, uint64_t bits)
{
    int moved = 0;
    sparoa_session_options o = {.struct_size = sizeof o, .device = "emu0", .fallback = 1};
    sparoa_session *all = NULL;
    sparoa_error err;
    ts_ok(sparoa_session_create(b->model, &o, &all, &err), err);
    for (uint32_t i = 0; i < b->plan->p->node_count; i++) {
        sparoa_node_info info;
        assert_int_equal(sparoa_session_node(all, i, &info), SPAROA_OK);
        bool can = strcmp(info.device, "emu0") == 0;
        b->plan->p->nodes[i].device = can && (bits >> i % 64 & 1);
        moved += b->plan->p->nodes[i].device;
    }
    sparoa_session_destroy(all);
    return moved;
}

static void check_places(bed *b, const sparoa_session *session)
{
    for (uint32_t i = 0; i < b->plan->p->node_count; i++) {
        const sp_plan_node *n = &b->plan->p->nodes[i];
        sparoa_node_info info;
        assert_int_equal(sparoa_session_node(session, i, &info), SPAROA_OK);
        assert_string_equal(info.name, n->name);
        assert_string_equal(info.device, n->device ? "emu0" : "cpu");
    }
}

static void nodes_run_where_the_plan_says(void **state)
{
    (void)state;
    int moved = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        bed b;
        sparoa_session *session = NULL;
        sparoa_error err;
        bed_make(&b, seed, true);
        moved += scatter(&b, 0x5a5a3c3c0ff0u * (seed + 1));
        ts_ok(create(&b, &session, &err), err);
        check_places(&b, session);
        run(&b, session);
        run(&b, session);
        sparoa_session_destroy(session);
        bed_clear(&b);
    }
    assert_true(moved > 40);
}

static void expect_invalid(bed *b, const char *node, const char *what)
{
    sparoa_session *session = NULL;
    sparoa_error err = {0};
    assert_int_equal(create(b, &session, &err), SPAROA_INVALID_PLAN);
    assert_null(session);
    if (node) assert_string_equal(err.node, node);
    if (!strstr(err.message, what)) fail_msg("'%s' lacks '%s'", err.message, what);
}

static void plans_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    bed b;
    bed_make(&b, 3, true);
    sp_plan *p = b.plan->p;
    assert_true(scatter(&b, UINT64_MAX) > 0);
    uint32_t k = 0;
    while (!p->nodes[k].device) k++;
    const char *name = p->nodes[k].name, *op = p->nodes[k].op;

    p->nodes[k].name = "nobody";
    expect_invalid(&b, name, "no such node");
    p->nodes[k].name = name;
    p->nodes[k].op = "Nothing";
    expect_invalid(&b, name, "Nothing");
    p->nodes[k].op = op;
    uint32_t plain = 0; /* a node that is neither a convolution nor a product */
    while (sp_divides(p->nodes[plain].op)) plain++;
    p->nodes[plain].share = 0.25;
    p->nodes[plain].axis = SP_SPLIT_BATCH;
    p->nodes[plain].second = !p->nodes[plain].device;
    expect_invalid(&b, p->nodes[plain].name, "by batch");
    p->nodes[plain].share = 0;
    strcpy(p->devices[1], "npu7"); /* two devices there, and two here: it means the other one */
    sparoa_session *session = NULL;
    sparoa_error err;
    ts_ok(create(&b, &session, &err), err);
    sparoa_session_destroy(session);
    p->device_count = 3;
    strcpy(p->devices[2], "npu8");
    p->nodes[k].device = 2;
    expect_invalid(&b, name, "npu8");
    p->nodes[k].device = 0;
    strcpy(p->devices[1], "emu0");
    p->node_count--;
    expect_invalid(&b, NULL, "plan");
    p->node_count++;

    sparoa_session_options o = {.struct_size = sizeof o, .plan = b.plan, .device = "emu0"};
    assert_int_equal(sparoa_session_create(b.model, &o, &session, &err), SPAROA_INVALID_ARGUMENT);
    bed_clear(&b);

    bed_make(&b, 3, false); /* the device is not there */
    for (uint32_t i = 0; i < b.plan->p->node_count; i++) b.plan->p->nodes[i].device = i == k;
    expect_invalid(&b, b.plan->p->nodes[k].name, "emu0");
    bed_clear(&b);
}

/* A device that lacks some classes of operators says so by name. */
static void unsupported_nodes_are_named(void **state)
{
    (void)state;
    bed b;
    bed_make(&b, 5, false);
    ts_emu(b.rt, "support=rnn");
    b.plan->p->nodes[1].device = 1;
    expect_invalid(&b, b.plan->p->nodes[1].name, "support=");
    bed_clear(&b);
}

static void plans_come_from_files(void **state)
{
    (void)state;
    bed b;
    sparoa_session *session = NULL;
    sparoa_error err;
    char path[] = "sparoa-plan-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    bed_make(&b, 8, true);
    scatter(&b, 0xaaaaaaaaaaaaaaaau);
    ts_ok(sparoa_plan_save(b.plan, path, &err), err);
    sparoa_plan *read = NULL, *kept = b.plan;
    ts_ok(sparoa_plan_load(b.rt, path, &read, &err), err);
    b.plan = read;
    ts_ok(create(&b, &session, &err), err);
    b.plan = kept;
    sparoa_plan_destroy(read);
    check_places(&b, session);
    run(&b, session);
    sparoa_session_destroy(session);
    unlink(path);
    bed_clear(&b);
}

/* Three plans side by side: once each has run, changing between them allocates nothing. */
static void plans_are_changed_between_runs(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        bed b;
        sparoa_session *session = NULL;
        sparoa_error err;
        size_t index[2];
        bed_make(&b, seed, true);
        scatter(&b, 0);
        ts_ok(create(&b, &session, &err), err);
        for (int k = 0; k < 2; k++) {
            scatter(&b, k ? UINT64_MAX : 0x3333333333333333u);
            ts_ok(sparoa_session_add_plan(session, b.plan, &index[k], &err), err);
            assert_int_equal(index[k], k + 1);
        }
        for (size_t k = 3; k-- > 0;) {
            ts_ok(sparoa_session_use_plan(session, k, &err), err);
            run(&b, session);
            run(&b, session);
        }
        long calls = atomic_load(&b.memory.calls);
        for (size_t turn = 0; turn < 9; turn++) {
            ts_ok(sparoa_session_use_plan(session, turn * 2 % 3, &err), err);
            run(&b, session);
        }
        assert_int_equal(atomic_load(&b.memory.calls), calls);
        ts_ok(sparoa_session_use_plan(session, 2, &err), err);
        run(&b, session);
        check_places(&b, session);
        assert_int_equal(sparoa_session_use_plan(session, 3, &err), SPAROA_INVALID_ARGUMENT);
        assert_int_equal(sparoa_session_add_plan(b.cpu, b.plan, &index[0], &err),
                         SPAROA_INVALID_STATE);
        sparoa_session_destroy(session);
        bed_clear(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_run_where_the_plan_says),
        cmocka_unit_test(plans_that_do_not_fit_are_refused),
        cmocka_unit_test(unsupported_nodes_are_named),
        cmocka_unit_test(plans_come_from_files),
        cmocka_unit_test(plans_are_changed_between_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
