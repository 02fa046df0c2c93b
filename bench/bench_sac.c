/*
 * SAC on Pendulum-v1 (tests/schedule/pendulum.h): mean return over 20 evaluation episodes as
 * training goes on, for 5 seeds, against the acceptance bounds: -200 by 10,000 steps and -170 by
 * 20,000 on at least 4 seeds. Usage: bench_sac [SEEDS [STEPS]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "backends/cpu/kernel.h"
#include "tests/schedule/pendulum.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Evaluates every 2,000 steps; at[0], at[1]: the mean at 10,000 steps and at the end. */
static sparoa_status run_seed(const sparoa_allocator *alloc, uint64_t seed, int steps, double at[2],
                              sparoa_error *err)
{
    sp_sac_options options = {.obs = PENDULUM_OBS, .actions = 1, .seed = seed};
    pendulum_training t = {.rng = {.key = seed + 1000}};
    sparoa_status status = sp_sac_create(alloc, sp_cpu_kernels(NULL), &options, &t.sac, err);
    double start = now();
    at[0] = at[1] = -1e9;
    printf("%4d ", (int)seed);
    while (!status && t.steps < steps) {
        double mean, deviation;
        status = pendulum_train(&t, 2000, err);
        mean = pendulum_evaluate(t.sac, 20, 4242, &deviation);
        if (t.steps == 10000) at[0] = mean;
        at[1] = mean;
        printf(" %8.1f", mean);
        fflush(stdout);
    }
    printf("  %6.1f s\n", now() - start);
    sp_sac_destroy(t.sac);
    return status;
}

int main(int argc, char **argv)
{
    int seeds = argc > 1 ? atoi(argv[1]) : 5, steps = argc > 2 ? atoi(argv[2]) : 20000;
    int good[2] = {0, 0};
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, 0);
    sparoa_error err;
    printf("Pendulum-v1, mean return of 20 evaluation episodes, kernels %s\nseed ",
           sp_cpu_kernels(NULL)->isa);
    for (int s = 2000; s <= steps; s += 2000) printf(" %8d", s);
    printf("   processor time\n");
    for (int seed = 1; seed <= seeds; seed++) {
        double at[2];
        if (run_seed(&alloc, (uint64_t)seed, steps, at, &err)) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        good[0] += at[0] >= -200;
        good[1] += at[1] >= -170;
    }
    printf("-200 or better at 10,000 steps: %d of %d seeds; -170 or better at 20,000: %d of %d\n",
           good[0], seeds, good[1], seeds);
    return good[0] * 5 >= seeds * 4 && good[1] * 5 >= seeds * 4 ? 0 : 1;
}
