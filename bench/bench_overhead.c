/* What the engine itself costs: a graph of operators that do nothing, run on the CPU path.
 *
 *   bench_overhead [NODES [RUNS]]
 *
 * Prints the median, the fastest and the 99th percentile of one run, and how many allocations the
 * measured runs made. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/order.h"
#include "sparoa_backend.h"
#include "tests/onnx/model_builder.h"

static atomic_long allocations;

static void *count_alloc(void *user, size_t size, size_t align)
{
    void *p = NULL;
    (void)user;
    atomic_fetch_add(&allocations, 1);
    return posix_memalign(&p, align < sizeof p ? sizeof p : align, size) ? NULL : p;
}

static void count_free(void *user, void *ptr, size_t size)
{
    (void)user, (void)size;
    free(ptr);
}

static sparoa_status empty_infer(const sparoa_node *node, sparoa_error *err)
{
    (void)err;
    const sparoa_tensor *in = sparoa_in(node, 0);
    sparoa_tensor *out = sparoa_out(node, 0);
    out->dtype = in->dtype;
    out->rank = in->rank;
    memcpy(out->dims, in->dims, sizeof out->dims);
    return SPAROA_OK;
}

static sparoa_status empty_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)node, (void)exec;
    return SPAROA_OK;
}

static const sparoa_op empty = {.struct_size = sizeof empty,
                                .name = "Empty",
                                .domain = "bench",
                                .since = 1,
                                .min_in = 1,
                                .max_in = 1,
                                .min_out = 1,
                                .max_out = 1,
                                .op_class = SPAROA_CLASS_OTHER,
                                .infer = empty_infer,
                                .run = empty_run};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void chain(mb_model *m, int nodes)
{
    int64_t dim = 4;
    char from[16], to[16];
    mb_import(m, "bench", 1);
    mb_input(m->graph, "v0", SPAROA_FLOAT32, 1, &dim);
    for (int i = 0; i < nodes; i++) {
        snprintf(from, sizeof from, "v%d", i);
        snprintf(to, sizeof to, "v%d", i + 1);
        mb_add(m->graph, "Empty", to, from, to)->domain = mb_str("bench");
    }
    mb_output(m->graph, to);
}

int main(int argc, char **argv)
{
    int nodes = argc > 1 ? atoi(argv[1]) : 100, runs = argc > 2 ? atoi(argv[2]) : 20000;
    const sparoa_op *const operators[] = {&empty};
    sparoa_runtime_options options = {.struct_size = sizeof options,
                                      .threads = 1,
                                      .allocator = {NULL, count_alloc, count_free},
                                      .operators = operators,
                                      .operator_count = 1};
    sparoa_runtime *rt = NULL;
    sparoa_model *model = NULL;
    sparoa_session *session = NULL;
    sparoa_error err = {0};
    double *us = calloc((size_t)runs + 1, sizeof *us);
    float x[4] = {1, 2, 3, 4};
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, x, 1, 4), out = {0};
    mb_model *m = mb_new();
    chain(m, nodes);
    size_t bytes;
    void *file = mb_pack(m, &bytes);
    bool bad = !us || nodes < 1 || runs < 1 || sparoa_runtime_create(&options, &rt, &err) ||
               sparoa_model_load_memory(rt, file, bytes, NULL, &model, &err) ||
               sparoa_session_create(model, NULL, &session, &err);
    for (int i = 0; i < 100 && !bad; i++) {
        out = (sparoa_tensor){0};
        bad = sparoa_session_run(session, &in, 1, &out, 1, &err) != SPAROA_OK;
    }
    long before = atomic_load(&allocations);
    for (int i = 0; i < runs && !bad; i++) {
        out = (sparoa_tensor){0};
        double start = now_us();
        bad = sparoa_session_run(session, &in, 1, &out, 1, &err) != SPAROA_OK;
        us[i] = now_us() - start;
    }
    if (bad) {
        fprintf(stderr, "bench_overhead: %s\n", err.message);
        return 1;
    }
    qsort(us, (size_t)runs, sizeof *us, by_value);
    printf("%d empty operators, %d runs, 1 thread: median %.2f us, min %.2f us, p99 %.2f us, "
           "%ld allocations\n",
           nodes, runs, us[runs / 2], us[0], us[runs * 99 / 100],
           atomic_load(&allocations) - before);
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
    free(us);
    return 0;
}
