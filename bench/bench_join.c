/* What joining convolutions gains (SPAROA_JOIN): inverted residuals of real networks, and models.
 *
 *   bench_join THREADS BATCH SECONDS [MODEL...]
 *
 * For each block or model one session joins as it is by default and one never does, in one process;
 * both run in turns. Prints the median times and the median of the paired ratios, above 1: joined
 * is faster, with its quartiles. Without models the blocks of a list, with Transposes at their
 * ends. A dynamic first dimension of the only input is the batch, other ones are 224. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/order.h"
#include "tests/engine/block_net.h"

#define TURN_MS 15
#define MOST_ROUNDS 2000

static const bn_block blocks[] = {
    {7, 7, 160, 960, 160, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {14, 14, 64, 384, 64, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {14, 14, 96, 576, 96, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {28, 28, 24, 88, 24, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {28, 28, 32, 192, 32, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {28, 28, 40, 240, 40, 5, 1, 1, {2, 2, 2, 2}, "HardSwish", NULL, false, true},
    {28, 28, 80, 480, 80, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {40, 40, 96, 576, 96, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {56, 56, 24, 144, 24, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {56, 56, 24, 144, 32, 3, 2, 1, {1, 1, 1, 1}, "Relu", NULL, false, false},
    {56, 56, 24, 144, 40, 5, 2, 1, {2, 2, 2, 2}, "HardSwish", NULL, false, true},
    {56, 56, 64, 64, 64, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, false, false},
    {80, 80, 24, 144, 24, 5, 1, 1, {2, 2, 2, 2}, "Relu", NULL, true, false},
    {112, 112, 16, 96, 24, 3, 2, 1, {1, 1, 1, 1}, "Relu", NULL, false, false},
    {128, 128, 24, 144, 24, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
    {256, 256, 16, 96, 16, 3, 1, 1, {1, 1, 1, 1}, "Relu", NULL, true, false},
};

typedef struct contender {
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *s;
    double times[MOST_ROUNDS];
} contender;

static contender sides[2]; /* joined, not */
static sparoa_error err;

static void must(sparoa_status status)
{
    if (status == SPAROA_OK) return;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}

/* path NULL: the model in memory. */
static void open_sides(int32_t threads, const char *path, const uint8_t *bytes, size_t size)
{
    for (int i = 0; i < 2; i++) {
        sparoa_runtime_options o = {.struct_size = sizeof o, .threads = threads};
        setenv("SPAROA_JOIN", i ? "never" : "auto", 1);
        must(sparoa_runtime_create(&o, &sides[i].rt, &err));
        must(path
                 ? sparoa_model_load(sides[i].rt, path, NULL, &sides[i].model, &err)
                 : sparoa_model_load_memory(sides[i].rt, bytes, size, NULL, &sides[i].model, &err));
        must(sparoa_session_create(sides[i].model, NULL, &sides[i].s, &err));
    }
}

static void close_sides(void)
{
    for (int i = 0; i < 2; i++) {
        sparoa_session_destroy(sides[i].s);
        sparoa_model_destroy(sides[i].model);
        sparoa_runtime_destroy(sides[i].rt);
    }
}

/* Milliseconds of a run. */
static double run(const contender *c, const sparoa_tensor *in, int times)
{
    sparoa_tensor out[64];
    size_t outputs = sparoa_model_output_count(c->model);
    int64_t start = sp_now_ns();
    for (int k = 0; k < times; k++) {
        memset(out, 0, sizeof out);
        must(sparoa_session_run(c->s, in, 1, out, outputs, &err));
    }
    return (double)(sp_now_ns() - start) * 1e-6 / times;
}

static sparoa_tensor make_input(int64_t batch)
{
    sparoa_value_info info;
    if (sparoa_model_input_count(sides[0].model) != 1 ||
        sparoa_model_input(sides[0].model, 0, &info) != SPAROA_OK || info.dtype != SPAROA_FLOAT32 ||
        info.rank < 0) {
        fprintf(stderr, "a model must have one float32 input\n");
        exit(1);
    }
    for (int32_t i = 0; i < info.rank; i++)
        if (info.dims[i] < 0) info.dims[i] = i ? 224 : batch;
    return ts_random(info.rank, info.dims, 7);
}

static void compare(const char *name, int64_t batch, double seconds)
{
    static double ratios[MOST_ROUNDS];
    sparoa_tensor in = make_input(batch);
    for (int i = 0; i < 2; i++) run(&sides[i], &in, 3);
    double once = run(&sides[1], &in, 1);
    int times = 1 + (int)(TURN_MS / once), rounds = 3 + (int)(seconds * 500 / (once * times));
    if (rounds > MOST_ROUNDS) rounds = MOST_ROUNDS;
    for (int r = 0; r < rounds; r++) {
        for (int k = 0; k < 2; k++)
            sides[(r + k) % 2].times[r] = run(&sides[(r + k) % 2], &in, times);
        ratios[r] = sides[1].times[r] / sides[0].times[r];
    }
    for (int i = 0; i < 2; i++) qsort(sides[i].times, (size_t)rounds, sizeof(double), by_value);
    qsort(ratios, (size_t)rounds, sizeof *ratios, by_value);
    printf("| %s | %.3f | %.3f | %.3f (%.3f-%.3f) |\n", name, sides[1].times[rounds / 2],
           sides[0].times[rounds / 2], ratios[rounds / 2], ratios[rounds / 4],
           ratios[rounds * 3 / 4]);
    fflush(stdout);
    free(in.data);
}

static void compare_block(const bn_block *b, int32_t threads, int64_t batch, double seconds)
{
    char name[96];
    size_t size;
    uint8_t *bytes = mb_pack(bn_net(b), &size);
    snprintf(name, sizeof name, "%lldx%lld, %lld, %lld, %lld; %lld, %lld%s | %lld", (long long)b->h,
             (long long)b->w, (long long)b->c_in, (long long)b->c, (long long)b->c_out,
             (long long)b->kernel, (long long)b->stride, b->gate ? ", squeeze and excite" : "",
             (long long)(b->h * b->w * b->c * 4 >> 10));
    open_sides(threads, NULL, bytes, size);
    compare(name, batch, seconds);
    close_sides();
    mb_end();
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: bench_join THREADS BATCH SECONDS [MODEL...]\n");
        return 2;
    }
    const int32_t threads = (int32_t)strtol(argv[1], NULL, 10);
    const int64_t batch = strtol(argv[2], NULL, 10);
    const double seconds = strtod(argv[3], NULL);
    printf("| %s | not joined ms | joined ms | ratio |\n",
           argc > 4 ? "model" : "map, channels in, expanded, out; kernel, stride | expanded KB");
    for (int i = 4; i < argc; i++) {
        open_sides(threads, argv[i], NULL, 0);
        compare(argv[i], batch, seconds);
        close_sides();
    }
    for (size_t i = 0; argc == 4 && i < sizeof blocks / sizeof *blocks; i++)
        compare_block(&blocks[i], threads, batch, seconds);
    return 0;
}
