/* Loading and opening grow with a model, not with its square: long chains of nodes that go, are
 * merged or are shared. Four times the nodes may take at most eight times the time, of sixteen that
 * a search through all of them for each would take. */
#include <time.h>

#include "tests/support/support.h"

#define NODES 4000
#define TRIES 5
#define MOST 8.0

static sparoa_error err;

/* Into the list that `seconds` made large enough. */
static void append(mb_graph *g, const char *op, const char *in, const char *out)
{
    g->node[g->n_node++] = mb_make_node(op, out, in, out);
}

/* Unsqueeze and Squeeze in turn, which pass pattern takes for moves of data. */
static void add_moves(mb_graph *g, int n)
{
    char in[40] = "x,axis", out[24] = "x";
    mb_raw(mb_initializer(g, "axis", SPAROA_INT64, MB_DIMS(1)), &(int64_t){0}, sizeof(int64_t));
    for (int i = 0; i < n; i++) {
        snprintf(out, sizeof out, "v%d", i);
        append(g, i % 2 ? "Squeeze" : "Unsqueeze", in, out);
        snprintf(in, sizeof in, "%s,axis", out);
    }
    mb_output(g, out);
}

/* Identities, which vanish. */
static void add_idle(mb_graph *g, int n)
{
    char in[24] = "x", out[24];
    for (int i = 0; i < n; i++, memcpy(in, out, sizeof in)) {
        snprintf(out, sizeof out, "v%d", i);
        append(g, "Identity", in, out);
    }
    append(g, "Abs", in, "y");
    mb_output(g, "y");
}

/* Pairs of equal nodes, one of which is dropped. */
static void add_twins(mb_graph *g, int n)
{
    char at[24] = "x", a[24], b[24], both[50];
    for (int i = 0; i < n / 3; i++) {
        snprintf(a, sizeof a, "a%d", i);
        snprintf(b, sizeof b, "b%d", i);
        snprintf(both, sizeof both, "%s,%s", a, b);
        append(g, "Cos", at, a);
        append(g, "Cos", at, b);
        snprintf(at, sizeof at, "s%d", i);
        append(g, "Sub", both, at);
    }
    mb_output(g, at);
}

/* The least processor time of loading such a model and making a session. */
static double seconds(void (*add)(mb_graph *g, int n), int n)
{
    double best = INFINITY;
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    mb_model *m = mb_new();
    size_t size;
    mb_input(m->graph, "x", SPAROA_FLOAT32, MB_DIMS(3, 2));
    m->graph->node = mb_alloc((size_t)(n + 1) * sizeof *m->graph->node);
    add(m->graph, n);
    uint8_t *bytes = mb_pack(m, &size);
    for (int i = 0; i < TRIES; i++) {
        sparoa_model *model = NULL;
        sparoa_session *session = NULL;
        clock_t begin = clock();
        ts_ok(sparoa_model_load_memory(rt, bytes, size, NULL, &model, &err), err);
        ts_ok(sparoa_session_create(model, NULL, &session, &err), err);
        const double time = (double)(clock() - begin) / CLOCKS_PER_SEC;
        if (time < best) best = time;
        sparoa_session_destroy(session);
        sparoa_model_destroy(model);
    }
    sparoa_runtime_destroy(rt);
    mb_end();
    return best;
}

static void check(const char *what, void (*add)(mb_graph *g, int n))
{
    const double few = seconds(add, NODES), many = seconds(add, 4 * NODES);
    if (!(many < MOST * few))
        fail_msg("%s: %d nodes take %.4f s, %d nodes %.4f s", what, NODES, few, 4 * NODES, many);
}

static void test_moves(void **state)
{
    (void)state;
    check("moves", add_moves);
}

static void test_idle(void **state)
{
    (void)state;
    check("idle", add_idle);
}

static void test_twins(void **state)
{
    (void)state;
    check("twins", add_twins);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_twins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
