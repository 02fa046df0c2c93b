/*
 * serve.c - requests: a server with one worker runs what is submitted to it, forms batches, calls
 * back, and lets go of what is cancelled or late.
 *
 *   serve MODEL.onnx
 */
#include <sparoa_serve.h>
#include <stdio.h>

#define REQUESTS 32

typedef struct answer {
    float pixels[8 * 8], scores[10];
    sparoa_status status;
} answer;

/* On a thread of the server: the request is given back here, its scores are in our buffer. */
static void done(void *user, sparoa_request *request, sparoa_status status)
{
    ((answer *)user)->status = status;
    sparoa_request_release(request);
}

static sparoa_status run(sparoa_service *service, sparoa_error *err)
{
    static answer answers[REQUESTS];
    sparoa_status status = SPAROA_OK;
    for (int i = 0; i < REQUESTS && !status; i++) {
        answer *a = &answers[i];
        sparoa_request *request;
        sparoa_submit_options o = {.struct_size = sizeof o, .done = done, .user = a};
        for (int k = 0; k < 64; k++) a->pixels[k] = (float)((k * 7 + i) % 17) / 16;
        sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, a->pixels, 4, 1, 1, 8, 8);
        sparoa_tensor out = sparoa_tensor_of(SPAROA_FLOAT32, a->scores, 2, 1, 10);
        status = sparoa_submit(service, &in, 1, &out, 1, &o, &request, err);
    }
    /* One to wait for, with 10 s to be done; no outputs given: it brings its own memory. */
    sparoa_request *last = NULL;
    sparoa_submit_options o = {.struct_size = sizeof o};
    o.deadline_ns = sparoa_now_ns() + 10000000000;
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, answers[0].pixels, 4, 1, 1, 8, 8), out;
    if (!status) status = sparoa_submit(service, &in, 1, NULL, 0, &o, &last, err);
    if (!status) status = sparoa_request_wait(last, err);
    if (!status && !sparoa_request_output(last, 0, &out))
        printf("first score %.4f\n", ((float *)out.data)[0]);
    sparoa_request_release(last);
    return status;
}

static void report(const sparoa_service *service)
{
    sparoa_service_info info;
    sparoa_service_get_info(service, &info);
    printf("%lld of %lld requests done in %lld batches\n", (long long)info.completed,
           (long long)info.submitted, (long long)info.batches);
    for (int i = 0; i < SPAROA_RELEASE_COUNT; i++)
        if (info.by_release[i])
            printf("  %lld released: %s\n", (long long)info.by_release[i],
                   sparoa_release_name((sparoa_release)i));
}

int main(int argc, char **argv)
{
    sparoa_runtime *runtime = NULL;
    sparoa_model *model = NULL;
    sparoa_server *server = NULL;
    sparoa_service *service = NULL;
    sparoa_error err;
    sparoa_server_options so = {.struct_size = sizeof so, .threads = 1};
    sparoa_batch_policy policy = {
        .struct_size = sizeof policy, .max_batch = 16, .max_queue_delay_ns = 2000000};
    sparoa_service_options options = {.struct_size = sizeof options, .batch = &policy};
    if (argc < 2) {
        fprintf(stderr, "usage: serve MODEL.onnx\n");
        return 2;
    }
    int failed = sparoa_runtime_create(NULL, &runtime, &err) ||
                 sparoa_model_load(runtime, argv[1], NULL, &model, &err) ||
                 sparoa_server_create(runtime, &so, &server, &err) ||
                 sparoa_service_create(server, model, &options, &service, &err) ||
                 run(service, &err);
    if (failed)
        fprintf(stderr, "%s\n", err.message);
    else
        report(service);
    sparoa_server_destroy(server); /* ends what is under way, and the service with it */
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(runtime);
    return failed;
}
