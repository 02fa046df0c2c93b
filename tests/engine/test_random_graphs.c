/* Random models run the same with and without each graph pass, by the reference and by the CPU's
 * kernels, at every batch size. A failure prints the seed; `test_random_graphs SEED [COUNT]` runs
 * those. */
#include "tests/engine/random_build.h"

#if defined(SP_TEST_EMULATED)
#define GRAPHS 300
#else
#define GRAPHS 1200
#endif
#define TOLERANCE 1e-3 /* sums in another order, through a dozen nodes */

static uint64_t first_seed, seed_count = GRAPHS;

typedef struct results {
    sparoa_tensor t[RG_MAX_OUTPUTS];
    size_t count;
} results;

static void release(results *r)
{
    for (size_t i = 0; i < r->count; i++) free(r->t[i].data);
}

static sparoa_session *create(const rg *r, uint64_t seed, sparoa_model *model, const char *without,
                              int reference)
{
    sparoa_session_options o = {
        .struct_size = sizeof o, .disable_passes = without, .reference = reference};
    sparoa_session *s = NULL;
    sparoa_error err;
    if (sparoa_session_create(model, &o, &s, &err) != SPAROA_OK)
        fail_msg("seed %llu, opset %lld, without passes \"%s\": %s\n%s", (unsigned long long)seed,
                 (long long)r->opset, without, err.message, r->text);
    return s;
}

static void run(const rg *r, uint64_t seed, sparoa_session *s, const sparoa_tensor *in, results *to)
{
    sparoa_tensor out[RG_MAX_OUTPUTS] = {{0}};
    sparoa_error err;
    to->count = r->g->n_output;
    sparoa_status status = sparoa_session_run(s, in, r->g->n_input, out, to->count, &err);
    if (status != SPAROA_OK)
        fail_msg("seed %llu does not run: %s\n%s", (unsigned long long)seed, err.message, r->text);
    for (size_t i = 0; i < to->count; i++) to->t[i] = ts_copy(&out[i]);
}

static void compare(const rg *r, uint64_t seed, const char *what, const results *got,
                    const results *want)
{
    for (size_t i = 0; i < want->count; i++) {
        double d = ts_difference(&got->t[i], &want->t[i]);
        if (d <= TOLERANCE) continue;
        fail_msg("seed %llu, opset %lld, without passes \"%s\": output %s differs by %g\n%s",
                 (unsigned long long)seed, (long long)r->opset, what, r->g->output[i]->name, d,
                 r->text);
    }
}

/* What the generator thinks of shapes must hold too, at the batch it was made for. */
static void check_shapes(const rg *r, uint64_t seed, const results *got)
{
    for (size_t i = 0; i < got->count; i++) {
        const rg_value *v = &r->values[strtol(r->g->output[i]->name + 1, NULL, 10)];
        if (got->t[i].rank != v->rank ||
            memcmp(got->t[i].dims, v->dims, (size_t)v->rank * sizeof v->dims[0]) != 0)
            fail_msg("seed %llu: output %s has the wrong shape\n%s", (unsigned long long)seed,
                     v->name, r->text);
    }
}

static void check_graph(sparoa_runtime *rt, uint64_t seed)
{
    const char *variants[] = {"", "all", "layout", "+attention", NULL};
    size_t passes = 0; /* and one of them for each graph */
    while (sparoa_pass_name(passes)) passes++;
    variants[4] = sparoa_pass_name(seed % passes);
    rg *r = malloc(sizeof *r);
    sparoa_tensor in[2][2];
    results want[2], got;
    rg_build(r, seed);
    sparoa_model *model = ts_load(rt, r->model);
    sparoa_session *oracle = create(r, seed, model, "all", 1);
    int batches = r->dynamic ? 2 : 1;
    for (int b = 0; b < batches; b++) {
        rg_inputs(r, b ? r->n + 2 : r->n, in[b]);
        run(r, seed, oracle, in[b], &want[b]);
    }
    check_shapes(r, seed, &want[0]);
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        for (int reference = 0; reference < 2; reference++) {
            sparoa_session *s = create(r, seed, model, variants[v], reference);
            for (int turn = 0; turn < (batches == 2 ? 3 : 2); turn++) { /* back to the first too */
                run(r, seed, s, in[turn % batches], &got);
                compare(r, seed, variants[v], &got, &want[turn % batches]);
                release(&got);
            }
            sparoa_session_destroy(s);
        }
    }
    for (int b = 0; b < batches; b++) {
        release(&want[b]);
        for (size_t i = 0; i < r->g->n_input; i++) free(in[b][i].data);
    }
    sparoa_session_destroy(oracle);
    sparoa_model_destroy(model);
    mb_end();
    free(r);
}

static void test_graphs(void **state)
{
    (void)state;
    sparoa_runtime *rt[2] = {ts_runtime(NULL, 2), NULL};
    setenv("SPAROA_JOIN", "always", 1); /* of itself it takes larger images */
    rt[1] = ts_runtime(NULL, 2);
    unsetenv("SPAROA_JOIN");
    for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++)
        check_graph(rt[seed & 1], seed);
    for (int i = 0; i < 2; i++) sparoa_runtime_destroy(rt[i]);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        first_seed = strtoull(argv[1], NULL, 10);
        seed_count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_graphs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
