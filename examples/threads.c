/*
 * threads.c - many threads on one model: each has its own session, all share the weights. A runtime
 * with one thread per run makes N runs at once use N cores.
 *
 *   threads MODEL.onnx [THREADS]
 */
#include <pthread.h>
#include <sparoa.h>
#include <stdio.h>
#include <stdlib.h>

#define RUNS 100
#define MAX_THREADS 64

typedef struct worker {
    sparoa_model *model;
    int number;
    float first; /* first value of the result */
    sparoa_error err;
    int failed;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    sparoa_session *session = NULL;
    float pixels[8 * 8];
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, pixels, 4, 1, 1, 8, 8);
    for (int i = 0; i < 64; i++) pixels[i] = (float)((i * 7 + w->number) % 17) / 16;
    w->failed = sparoa_session_create(w->model, NULL, &session, &w->err) != SPAROA_OK;
    for (int i = 0; i < RUNS && !w->failed; i++) {
        sparoa_tensor out = {0};
        w->failed = sparoa_session_run(session, &in, 1, &out, 1, &w->err) != SPAROA_OK;
        if (!w->failed) w->first = *(float *)out.data;
    }
    sparoa_session_destroy(session);
    return NULL;
}

int main(int argc, char **argv)
{
    static worker workers[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    int count = argc > 2 ? atoi(argv[2]) : 4, failed = 0;
    sparoa_runtime *runtime = NULL;
    sparoa_model *model = NULL;
    sparoa_error err;
    sparoa_runtime_options options = {.struct_size = sizeof options, .threads = 1};
    if (argc < 2 || count < 1 || count > MAX_THREADS) {
        fprintf(stderr, "usage: threads MODEL.onnx [1..%d]\n", MAX_THREADS);
        return 2;
    }
    if (sparoa_runtime_create(&options, &runtime, &err) ||
        sparoa_model_load(runtime, argv[1], NULL, &model, &err)) {
        fprintf(stderr, "%s\n", err.message);
        sparoa_runtime_destroy(runtime);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        workers[i] = (worker){.model = model, .number = i};
        if (pthread_create(&threads[i], NULL, work, &workers[i])) return 1;
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        if (workers[i].failed)
            fprintf(stderr, "thread %d: %s\n", i, workers[i].err.message);
        else
            printf("thread %d: %d runs, first value %.4f\n", i, RUNS, workers[i].first);
        failed |= workers[i].failed;
    }
    printf("peak memory %.1f KiB for %d sessions\n",
           (double)sparoa_runtime_memory_peak(runtime) / 1024, count);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(runtime);
    return failed;
}
