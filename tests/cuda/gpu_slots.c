/* Queues, events, copies, captures, memory and status. */
#include "gpu_check.h"

#define N 100003

static void copies(gpu_test *t)
{
    const sparoa_backend *b = t->b;
    void *device = NULL, *pinned = NULL, *unified = NULL;
    char *plain = malloc(N), *back = malloc(N);
    t->family = "copies";
    for (int i = 0; i < N; i++) plain[i] = (char)(i * 31);
    gpu_expect(t, !b->buffer_alloc(t->dev, N, SPAROA_MEMORY_DEVICE, &device), "device memory");
    gpu_expect(t, !b->buffer_alloc(t->dev, N, SPAROA_MEMORY_PINNED, &pinned), "pinned memory");
    gpu_expect(t, !b->buffer_alloc(t->dev, N, SPAROA_MEMORY_UNIFIED, &unified), "unified memory");
    memcpy(pinned, plain, N);
    memset(unified, 0, N);
    memset(back, 0, N);
    gpu_expect(t, !b->copy(t->queue, device, pinned, N), "pinned to device");
    gpu_expect(t, !b->copy(t->queue, unified, device, N), "device to unified");
    gpu_expect(t, !b->copy(t->queue, back, device, N), "device to plain");
    gpu_expect(t, !b->queue_sync(t->queue), "sync");
    gpu_expect(t, memcmp(back, plain, N) == 0 && memcmp(unified, plain, N) == 0, "bytes differ");
    memset(back, 0, N); /* at odd offsets, from plain memory */
    gpu_expect(t, !b->copy(t->queue, (char *)device + 7, plain + 3, N - 11), "plain to device");
    gpu_expect(t, !b->copy(t->queue, back, (char *)device + 7, N - 11), "device to plain");
    gpu_expect(t, !b->queue_sync(t->queue), "sync");
    gpu_expect(t, memcmp(back, plain + 3, N - 11) == 0, "bytes differ at an odd offset");
    b->buffer_free(t->dev, device, N, SPAROA_MEMORY_DEVICE);
    b->buffer_free(t->dev, pinned, N, SPAROA_MEMORY_PINNED);
    b->buffer_free(t->dev, unified, N, SPAROA_MEMORY_UNIFIED);
    void *huge = NULL;
    gpu_expect(t,
               b->buffer_alloc(t->dev, (size_t)1 << 50, SPAROA_MEMORY_DEVICE, &huge) ==
                   SPAROA_OUT_OF_MEMORY,
               "a petabyte was not refused");
    gpu_expect(t, !b->queue_sync(t->queue), "sync after a refused allocation");
    free(plain);
    free(back);
}

static void note(void *arg)
{
    __atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
}

static void events(gpu_test *t)
{
    const sparoa_backend *b = t->b;
    sparoa_queue *other = NULL;
    sparoa_event *first = NULL, *last = NULL;
    void *a = NULL, *host = NULL;
    const size_t bytes = (size_t)64 << 20;
    int called = 0;
    t->family = "events";
    gpu_expect(t, !b->queue_create(t->dev, 1, &other), "a second queue");
    gpu_expect(t, !b->event_create(t->dev, &first) && !b->event_create(t->dev, &last), "events");
    b->buffer_alloc(t->dev, bytes, SPAROA_MEMORY_DEVICE, &a);
    b->buffer_alloc(t->dev, bytes, SPAROA_MEMORY_PINNED, &host);
    memset(host, 0x11, bytes);
    gpu_expect(t, !b->event_record(first, t->queue), "record");
    gpu_expect(t, !b->copy(t->queue, a, host, bytes), "copy");
    gpu_expect(t, !b->event_record(last, t->queue), "record");
    gpu_expect(t, !b->event_wait(last, other), "wait on another queue");
    char *seen = (char *)host + bytes / 2;
    gpu_expect(t, !b->copy(other, seen, a, 4096), "copy back on another queue");
    gpu_expect(t, !b->host_call(other, note, &called), "host call");
    gpu_expect(t, !b->queue_sync(other), "sync");
    gpu_expect(t, __atomic_load_n(&called, __ATOMIC_ACQUIRE) == 1, "the host call did not come");
    gpu_expect(t, b->event_done(first) && b->event_done(last) && !b->event_sync(last), "done");
    double ns = b->event_elapsed_ns(first, last);
    gpu_expect(t, ns > 1e5 && ns < 1e9, "64 MiB took %g ns", ns);
    printf("events: 64 MiB to the device at %.1f GB/s\n", (double)bytes / ns);
    b->buffer_free(t->dev, a, bytes, SPAROA_MEMORY_DEVICE);
    b->buffer_free(t->dev, host, bytes, SPAROA_MEMORY_PINNED);
    b->event_destroy(first);
    b->event_destroy(last);
    b->queue_destroy(other);
}

/* Relu captured once and launched on new input each time. */
static void capture(gpu_test *t)
{
    const sparoa_backend *b = t->b;
    gpu_node g = {.seed = 5};
    gpu_placed p;
    sparoa_capture *c = NULL;
    sparoa_error err = {0};
    float in[1000], out[1000];
    t->family = "capture";
    gpu_start(&g, "Relu", 14, 1);
    gpu_input(&g, SPAROA_FLOAT32, 1, (const int64_t[]){1000});
    sp_copy_fact(&g.out[0], &g.in[0]);
    if (gpu_place(t, &g, &p, 0)) {
        b->node_run(p.kernel, p.prepared, t->queue, &p.node, p.workspace,
                    &err); /* loads the code */
        b->queue_sync(t->queue);
        gpu_expect(t, !b->capture_begin(t->queue), "begin");
        gpu_expect(t, !b->node_run(p.kernel, p.prepared, t->queue, &p.node, p.workspace, &err),
                   "run in a capture: %s", err.message);
        gpu_expect(t, !b->capture_end(t->queue, &c), "end");
        for (int k = 0; c && k < 3; k++) {
            for (int i = 0; i < 1000; i++) in[i] = (float)(i * (k + 1) % 17 - 8);
            b->copy(t->queue, p.in[0].data, in, sizeof in);
            gpu_expect(t, !b->capture_launch(c, t->queue), "launch");
            b->copy(t->queue, out, p.out[0].data, sizeof out);
            gpu_expect(t, !b->queue_sync(t->queue), "sync");
            bool same = true;
            for (int i = 0; i < 1000; i++) same = same && out[i] == (in[i] < 0 ? 0 : in[i]);
            gpu_expect(t, same, "launch %d gave other values", k);
        }
        b->capture_destroy(c);
    }
    gpu_unplace(t, &p);
    gpu_free(&g);
}

static void status(gpu_test *t)
{
    sparoa_device_info info = {.struct_size = sizeof info};
    sparoa_device_status s = {.struct_size = sizeof s};
    sparoa_device_desc desc;
    sparoa_device_peak peak = {0};
    sparoa_error err = {0};
    t->family = "status";
    t->b->device_info(t->dev, &info);
    t->b->describe(t->dev, &desc);
    gpu_expect(t, strcmp(info.name, "cuda0") == 0 && info.memory_bytes > 0, "info");
    gpu_expect(t, (info.caps & SPAROA_CAP_ASYNC) != 0, "caps");
    gpu_expect(t, !t->b->device_status(t->dev, &s) && s.free_bytes > 0, "status");
    printf("device %s (%s), %zu MiB, %.1f TFLOP/s and %.0f GB/s by its clocks; free %zu MiB, load "
           "%.2f, %.0f MHz, %.0f C, %.0f W\n",
           info.description, desc.isa, info.memory_bytes >> 20, info.peak_flops / 1e12,
           info.memory_bandwidth / 1e9, s.free_bytes >> 20, s.load, s.clock_mhz, s.temperature_c,
           s.power_w);
    gpu_expect(t, !t->b->measure(t->dev, 100, &peak, &err), "measure: %s", err.message);
    printf("measured: %.1f TFLOP/s float32, %.0f GB/s\n", peak.gflops_all / 1e3, peak.bandwidth);
}

/* A bad index is reported when the queue is waited for, and the queue lives on. */
static void bad_index(gpu_test *t)
{
    gpu_node g = {.seed = 6};
    gpu_placed p;
    sparoa_error err = {0};
    t->family = "bad index";
    gpu_start(&g, "Gather", 13, 1);
    gpu_input(&g, SPAROA_FLOAT32, 2, (const int64_t[]){5, 3});
    sparoa_tensor *index = gpu_input(&g, SPAROA_INT64, 1, (const int64_t[]){2});
    ((int64_t *)index->data)[0] = 4;
    ((int64_t *)index->data)[1] = 1000000000000;
    sp_set_shape(&g.out[0], SPAROA_FLOAT32, 2, (const int64_t[]){2, 3});
    if (gpu_place(t, &g, &p, 0)) {
        gpu_expect(t, !t->b->node_run(p.kernel, p.prepared, t->queue, &p.node, p.workspace, &err),
                   "run");
        gpu_expect(t, t->b->queue_sync(t->queue) == SPAROA_INDEX_OUT_OF_RANGE, "not reported");
        gpu_expect(t, t->b->queue_sync(t->queue) == SPAROA_OK, "reported twice");
    }
    gpu_unplace(t, &p);
    gpu_free(&g);
}

void gpu_check_slots(gpu_test *t)
{
    int failed = t->failed;
    copies(t);
    events(t);
    capture(t);
    bad_index(t);
    status(t);
    printf("%-16s %4d failed\n", "slots", t->failed - failed);
}
