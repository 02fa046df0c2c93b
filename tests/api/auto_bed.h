/* auto_bed.h - sessions whose device is "auto", and what decides there which candidate is the
 * faster one: two operators, `Here`, which sleeps everywhere but on the thread of the host, and
 * `There`, which sleeps on that thread only. */
#ifndef SP_TESTS_API_AUTO_BED_H
#define SP_TESTS_API_AUTO_BED_H

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "sparoa_schedule.h"
#include "tests/support/support.h"

#define SLOW_NS 2000000
#define AMPLE 60 /* seconds: rounds end it long before, however busy the machine is */

static pthread_t host;

static inline void sleep_slowly(void)
{
    nanosleep(&(struct timespec){0, SLOW_NS}, NULL);
}

static inline sparoa_status infer(const sparoa_node *node, sparoa_error *err)
{
    (void)err;
    *sparoa_out(node, 0) = *sparoa_in(node, 0);
    sparoa_out(node, 0)->data = NULL;
    return SPAROA_OK;
}

static inline sparoa_status work(const sparoa_node *node)
{
    const float *x = sparoa_in(node, 0)->data;
    float *y = sparoa_out(node, 0)->data;
    for (int64_t i = 0; i < sparoa_tensor_count(node->in[0]); i++) y[i] = 2 * x[i] + 1;
    return SPAROA_OK;
}

static inline sparoa_status run_here(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    if (!pthread_equal(pthread_self(), host)) sleep_slowly();
    return work(node);
}

static inline sparoa_status run_there(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    if (pthread_equal(pthread_self(), host)) sleep_slowly();
    return work(node);
}

/* Slow everywhere, on the host twice as much. */
static inline sparoa_status run_either(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    sleep_slowly();
    if (pthread_equal(pthread_self(), host)) sleep_slowly();
    return work(node);
}

#define OWN_OP(op_name, op_run)                                                                    \
    {                                                                                              \
        .struct_size = sizeof(sparoa_op), .name = op_name, .domain = "test", .since = 1,           \
        .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .op_class = SPAROA_CLASS_OTHER,      \
        .tolerance = SPAROA_TOL_EXACT, .infer = infer, .run = op_run,                              \
    }
static const sparoa_op here = OWN_OP("Here", run_here), there = OWN_OP("There", run_there);
static const sparoa_op either = OWN_OP("Either", run_either);
static const sparoa_op *const own[] = {&here, &there, &either};

typedef struct bed {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_tensor in;
    size_t nodes;
    char cache[64];
} bed;

/* A chain: 'h' a node that is fast here, 't' there, 'e' slow on either. emu NULL: no device. */
static inline void bed_make(bed *b, const char *chain, const char *emu, int32_t threads)
{
    sparoa_error err;
    memset(b, 0, sizeof *b);
    host = pthread_self();
    sparoa_runtime_options o = ts_options(&b->memory, threads);
    o.operators = own;
    o.operator_count = 3;
    ts_ok(sparoa_runtime_create(&o, &b->rt, &err), err);
    if (emu) ts_emu(b->rt, emu);
    mb_model *m = mb_new();
    mb_import(m, "test", 1);
    mb_input(m->graph, "v0", SPAROA_FLOAT32, MB_DIMS(-1, 8));
    char name[32], from[32], to[32];
    b->nodes = strlen(chain);
    for (size_t i = 0; i < b->nodes; i++) {
        snprintf(name, sizeof name, "n%zu", i);
        snprintf(from, sizeof from, "v%zu", i);
        snprintf(to, sizeof to, "v%zu", i + 1);
        const char *op = chain[i] == 'h' ? "Here" : chain[i] == 't' ? "There" : "Either";
        mb_add(m->graph, op, name, from, to)->domain = mb_str("test");
    }
    mb_output(m->graph, to);
    b->model = ts_load(b->rt, m);
    b->in = ts_random(2, (int64_t[]){1, 8}, 5);
    snprintf(b->cache, sizeof b->cache, "sparoa_auto_%ld.yaml", (long)getpid());
    remove(b->cache);
}

static inline void bed_clear(bed *b)
{
    free(b->in.data);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    ts_balanced(&b->memory);
    mb_end();
}

static inline sparoa_session *bed_session(bed *b, double seconds, sparoa_fallback fallback,
                                          const char *cache)
{
    sparoa_session_options o = {.struct_size = sizeof o,
                                .device = "auto",
                                .fallback = fallback,
                                .auto_seconds = seconds,
                                .auto_cache = cache};
    sparoa_session *s = NULL;
    sparoa_error err;
    ts_ok(sparoa_session_create(b->model, &o, &s, &err), err);
    return s;
}

static inline sparoa_status bed_try(bed *b, sparoa_session *s, sparoa_error *err)
{
    sparoa_tensor out = {0};
    sparoa_status status = sparoa_session_run(s, &b->in, 1, &out, 1, err);
    if (status != SPAROA_OK) return status;
    assert_int_equal(sparoa_tensor_count(&out), sparoa_tensor_count(&b->in));
    for (int64_t i = 0; i < sparoa_tensor_count(&out); i++) {
        float want = ((float *)b->in.data)[i];
        for (size_t k = 0; k < b->nodes; k++) want = 2 * want + 1;
        assert_true(((float *)out.data)[i] == want);
    }
    return SPAROA_OK;
}

static inline void bed_run(bed *b, sparoa_session *s)
{
    sparoa_error err;
    ts_ok(bed_try(b, s, &err), err);
}

static inline sparoa_choice choice_of(sparoa_session *s)
{
    sparoa_choice c;
    sparoa_error err;
    ts_ok(sparoa_session_choice(s, NULL, 0, &c, &err), err);
    return c;
}

#endif
