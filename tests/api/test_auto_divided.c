/* Sessions whose device is "auto" and plans that divide operators; devices whose memory ends while
 * they are measured.
 *
 * Products of doubles have no kernel of their own on the CPU: host and emulated device take about
 * the same time for them, so that by what was measured half of each belongs on either. */
#include <unistd.h>

#include "sparoa_schedule.h"
#include "tests/support/support.h"

enum { ROWS = 96, SIDE = 256, LAYERS = 2 };

typedef struct bed {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_dtype dtype;
    void *x;
    int rows, side;
    double want[ROWS * SIDE];
    char cache[64];
} bed;

static void put(void *to, sparoa_dtype dtype, int64_t i, double value)
{
    if (dtype == SPAROA_FLOAT64)
        ((double *)to)[i] = value;
    else
        ((float *)to)[i] = (float)value;
}

static double get(const void *from, sparoa_dtype dtype, int64_t i)
{
    return dtype == SPAROA_FLOAT64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
}

static double number(uint64_t key, int64_t i, sparoa_dtype dtype)
{
    double v = 2 * sp_rng_uniform(key, (uint64_t)i) - 1;
    return dtype == SPAROA_FLOAT64 ? v : (double)(float)v;
}

/* x times one weight after the other, and what comes out, worked out here. */
static void bed_make(bed *b, sparoa_dtype dtype, int rows, int side, const char *emu)
{
    sparoa_error err;
    size_t size = sparoa_dtype_size(dtype);
    memset(b, 0, sizeof *b);
    b->dtype = dtype;
    b->rows = rows;
    b->side = side;
    sparoa_runtime_options o = ts_options(&b->memory, 1);
    ts_ok(sparoa_runtime_create(&o, &b->rt, &err), err);
    ts_emu(b->rt, emu);
    mb_model *m = mb_new();
    mb_input(m->graph, "x0", dtype, MB_DIMS(rows, side));
    b->x = malloc((size_t)(rows * side) * size);
    for (int64_t i = 0; i < rows * side; i++) put(b->x, dtype, i, b->want[i] = number(9, i, dtype));
    for (int k = 0; k < LAYERS; k++) {
        static double next[ROWS * SIDE];
        double *w = mb_alloc((size_t)(side * side) * sizeof *w);
        for (int64_t i = 0; i < side * side; i++)
            put(w, dtype, i, number(k + 1, i, dtype) / sqrt(side));
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < side; c++) {
                next[r * side + c] = 0;
                for (int i = 0; i < side; i++)
                    next[r * side + c] += b->want[r * side + i] * get(w, dtype, i * side + c);
            }
        memcpy(b->want, next, sizeof next);
        char name[16], in[32], out[16];
        snprintf(name, sizeof name, "w%d", k);
        snprintf(in, sizeof in, "x%d,w%d", k, k);
        snprintf(out, sizeof out, "x%d", k + 1);
        mb_raw(mb_initializer(m->graph, name, dtype, MB_DIMS(side, side)), w,
               (size_t)(side * side) * size);
        mb_add(m->graph, "MatMul", out, in, out);
        if (k == LAYERS - 1) mb_output(m->graph, out);
    }
    b->model = ts_load(b->rt, m);
    snprintf(b->cache, sizeof b->cache, "sparoa_divided_%ld.yaml", (long)getpid());
    remove(b->cache);
}

static void bed_clear(bed *b)
{
    free(b->x);
    remove(b->cache);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    ts_balanced(&b->memory);
    mb_end();
}

static sparoa_session *bed_session(bed *b, double seconds, sparoa_fallback fallback)
{
    sparoa_session_options o = {.struct_size = sizeof o,
                                .device = "auto",
                                .fallback = fallback,
                                .auto_seconds = seconds,
                                .auto_cache = b->cache};
    sparoa_session *s = NULL;
    sparoa_error err;
    ts_ok(sparoa_session_create(b->model, &o, &s, &err), err);
    return s;
}

static sparoa_tensor input_of(const bed *b)
{
    return (sparoa_tensor){.data = b->x, .dtype = b->dtype, .rank = 2, .dims = {b->rows, b->side}};
}

static void bed_run(bed *b, sparoa_session *s)
{
    sparoa_error err;
    sparoa_tensor in = input_of(b), out = {0};
    double most = b->dtype == SPAROA_FLOAT64 ? 1e-12 : 1e-3;
    ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    assert_int_equal(sparoa_tensor_count(&out), b->rows * b->side);
    for (int64_t i = 0; i < b->rows * b->side; i++)
        assert_true(fabs(get(out.data, b->dtype, i) - b->want[i]) <= most);
}

static sparoa_choice choice_of(sparoa_session *s)
{
    sparoa_choice c;
    sparoa_error err;
    ts_ok(sparoa_session_choice(s, NULL, 0, &c, &err), err);
    return c;
}

static const sparoa_candidate *divided_of(const sparoa_choice *c)
{
    for (int i = 0; i < c->candidate_count; i++)
        if (!strcmp(c->candidates[i].name, "plan divided")) return &c->candidates[i];
    return NULL;
}

static int parts_of(sparoa_session *s)
{
    int parts = 0;
    for (size_t i = 0; i < sparoa_session_node_count(s); i++) {
        sparoa_node_info n;
        assert_int_equal(sparoa_session_node(s, i, &n), SPAROA_OK);
        parts += strstr(n.name, "/part") != NULL;
    }
    return parts;
}

/* Where both devices are as fast, a plan that divides is measured, and taken if it was faster. What
 * is taken stays so with the file. */
static void where_it_pays_it_is_measured(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b, SPAROA_FLOAT64, ROWS, SIDE, "");
    sparoa_tensor in = input_of(&b);
    sparoa_session *s = bed_session(&b, -1, SPAROA_FALLBACK_WARN);
    bed_run(&b, s);
    sparoa_choice c;
    const sparoa_candidate *divided = NULL;
    sparoa_session_info info;
    sparoa_session_get_info(s, &info); /* plans are proposed behind some twenty runs */
    const double seconds = fmax(1, 40e-9 * (double)info.last_run_ns);
    for (int k = 0; k < 8 && !divided; k++) { /* others may take the device's core meanwhile */
        ts_ok(sparoa_session_tune(s, &in, 1, seconds, &err), err);
        c = choice_of(s);
        divided = divided_of(&c);
    }
    for (int k = 0; k < 3; k++) bed_run(&b, s);
    assert_non_null(divided);
    assert_true(divided->rounds > 0 && divided->predicted_ns > 0);
    assert_true(divided->predicted_ns < c.candidates[0].predicted_ns);
    bool chosen = !strcmp(c.chosen, "plan divided");
    assert_int_equal(chosen, !strcmp(divided->verdict, "chosen"));
    if (chosen) assert_true(divided->ratio < 1);
    assert_int_equal(parts_of(s), chosen ? 2 * LAYERS : 0);
    sparoa_session *again = bed_session(&b, -1, SPAROA_FALLBACK_WARN);
    for (int k = 0; k < 2; k++) bed_run(&b, again);
    assert_int_equal(choice_of(again).source, SPAROA_CHOICE_CACHED);
    assert_string_equal(choice_of(again).chosen, c.chosen);
    assert_int_equal(parts_of(again), parts_of(s));
    sparoa_session_destroy(again);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

/* Where every command of the device takes longer than all of the model on the host, it is not. */
static void where_it_does_not_pay_it_is_not_taken(void **state)
{
    (void)state;
    bed b;
    sparoa_error err;
    bed_make(&b, SPAROA_FLOAT64, 32, 128, "delay_us=30000,copy_delay_us=30000");
    sparoa_tensor in = input_of(&b);
    sparoa_session *s = bed_session(&b, -1, SPAROA_FALLBACK_WARN);
    ts_ok(sparoa_session_tune(s, &in, 1, 0.2, &err), err);
    for (int k = 0; k < 2; k++) bed_run(&b, s);
    assert_string_equal(choice_of(s).chosen, "cpu");
    assert_int_equal(parts_of(s), 0);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

/* ---- devices that fail while they are measured ---- */

static void measured_on(const char *emu, sparoa_fallback fallback)
{
    bed b;
    sparoa_error err;
    bed_make(&b, SPAROA_FLOAT32, 32, 128, emu);
    sparoa_tensor in = input_of(&b);
    sparoa_session *s = bed_session(&b, -1, fallback);
    bed_run(&b, s);
    sparoa_status status = sparoa_session_tune(s, &in, 1, 0.01, &err);
    if (status != SPAROA_OK) fail_msg("%s: %s", emu, err.message);
    for (int k = 0; k < 2; k++) bed_run(&b, s);
    sparoa_choice c = choice_of(s);
    assert_true(c.source == SPAROA_CHOICE_MEASURED || c.source == SPAROA_CHOICE_FAILED);
    sparoa_session_destroy(s);
    bed_clear(&b);
}

/* An allocation, copy or kernel fails, at every step of the measuring, or the device's memory is
 * too small for some part of it: neither the measuring nor a run fails. */
static void failures_are_verdicts(void **state)
{
    (void)state;
    static const char *const kinds[] = {"fail_alloc", "fail_copy", "fail_kernel"};
    char emu[64];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int at = 1; at < 400; at += 1 + at / 8) {
            snprintf(emu, sizeof emu, "%s=%d", kinds[k], at);
            measured_on(emu, at % 2 ? SPAROA_FALLBACK_WARN : SPAROA_FALLBACK_ALLOW);
        }
}

static void memory_that_ends_is_a_verdict(void **state)
{
    (void)state;
    char emu[64];
    for (int bytes = 4096; bytes < 1 << 20; bytes += bytes / 4)
        for (int fallback = SPAROA_FALLBACK_WARN; fallback <= SPAROA_FALLBACK_FORBID; fallback++) {
            snprintf(emu, sizeof emu, "memory=%d", bytes);
            measured_on(emu, (sparoa_fallback)fallback);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_it_pays_it_is_measured),
        cmocka_unit_test(where_it_does_not_pay_it_is_not_taken),
        cmocka_unit_test(failures_are_verdicts),
        cmocka_unit_test(memory_that_ends_is_a_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
