/* The plug-in's table: devices, queues, events, kernels, captures. */
#include "backends/cuda/device.h"
#include "backends/cuda/graph.h"

struct sparoa_capture {
    sparoa_dev *dev;
    cudaGraphExec_t graph;
};

sparoa_status sp_cuda_status(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return SPAROA_OK;
    case cudaErrorMemoryAllocation: return SPAROA_OUT_OF_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver: return SPAROA_DEVICE_UNAVAILABLE;
    case cudaErrorInvalidValue: return SPAROA_INVALID_ARGUMENT;
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated: return SPAROA_INVALID_STATE;
    default: return SPAROA_DEVICE_LOST;
    }
}

sparoa_status sp_cuda_fail(sparoa_error *err, const sparoa_node *node, const char *what,
                           cudaError_t error)
{
    sparoa_status status = sp_cuda_status(error);
    if (status == SPAROA_OK) status = SPAROA_INTERNAL;
    return sparoa_fail(err, status, node, "CUDA failed %s: %s", what, cudaGetErrorString(error));
}

/* ---- memory ---- */

static sparoa_status cuda_buffer_alloc(sparoa_dev *dev, size_t bytes, sparoa_memory_kind kind,
                                       void **ptr)
{
    void *p = NULL;
    cudaSetDevice(dev->index);
    if (kind == SPAROA_MEMORY_DEVICE) {
        sparoa_status status = sp_cuda_alloc(dev, bytes, &p);
        if (status == SPAROA_OK) *ptr = p;
        return status;
    }
    /* One address for both sides is pinned memory that is mapped: never managed memory. */
    unsigned flags = cudaHostAllocPortable;
    if (kind == SPAROA_MEMORY_UNIFIED) flags |= cudaHostAllocMapped;
    cudaError_t error = cudaHostAlloc(&p, bytes ? bytes : 1, flags);
    if (error == cudaSuccess)
        *ptr = p;
    else
        cudaGetLastError();
    return sp_cuda_status(error);
}

static void cuda_buffer_free(sparoa_dev *dev, void *ptr, size_t bytes, sparoa_memory_kind kind)
{
    cudaSetDevice(dev->index);
    if (kind == SPAROA_MEMORY_DEVICE)
        sp_cuda_free(dev, ptr, bytes);
    else if (ptr)
        cudaFreeHost(ptr);
}

/* ---- queues ---- */

static sparoa_status cuda_queue_create(sparoa_dev *dev, int32_t priority, sparoa_queue **queue)
{
    int least = 0, greatest = 0;
    sparoa_queue *q = sp_cuda_host_alloc(dev, sizeof *q);
    if (!q) return SPAROA_OUT_OF_MEMORY;
    cudaSetDevice(dev->index);
    cudaDeviceGetStreamPriorityRange(&least, &greatest);
    int level = priority > 0 ? greatest : priority < 0 ? least : 0;
    cudaError_t error = cudaStreamCreateWithPriority(&q->stream, cudaStreamNonBlocking, level);
    if (error != cudaSuccess) {
        cudaGetLastError();
        sp_cuda_host_free(dev, q, sizeof *q);
        return sp_cuda_status(error);
    }
    q->dev = dev;
    pthread_mutex_lock(&dev->lock);
    q->next = dev->queues;
    dev->queues = q;
    pthread_mutex_unlock(&dev->lock);
    *queue = q;
    return SPAROA_OK;
}

static void cuda_queue_destroy(sparoa_queue *queue)
{
    if (!queue) return;
    sparoa_dev *dev = queue->dev;
    cudaSetDevice(dev->index);
    pthread_mutex_lock(&dev->lock);
    for (sparoa_queue **at = &dev->queues; *at; at = &(*at)->next)
        if (*at == queue) {
            *at = queue->next;
            break;
        }
    pthread_mutex_unlock(&dev->lock);
    cudaStreamSynchronize(queue->stream);
    cudaStreamDestroy(queue->stream);
    sp_cuda_host_free(dev, queue, sizeof *queue);
}

static sparoa_status cuda_queue_sync(sparoa_queue *queue)
{
    sparoa_dev *dev = queue->dev;
    cudaError_t error = cudaStreamSynchronize(queue->stream);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return sp_cuda_status(error);
    }
    if (*(volatile int *)dev->fault) {
        *(volatile int *)dev->fault = 0;
        return SPAROA_INDEX_OUT_OF_RANGE;
    }
    return SPAROA_OK;
}

static sparoa_status finished(cudaError_t error)
{
    if (error != cudaSuccess) cudaGetLastError();
    return sp_cuda_status(error);
}

static sparoa_status cuda_copy(sparoa_queue *queue, void *dst, const void *src, size_t bytes)
{
    if (bytes == 0 || dst == src) return SPAROA_OK;
    return finished(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, queue->stream));
}

static sparoa_status cuda_host_call(sparoa_queue *queue, void (*fn)(void *arg), void *arg)
{
    return finished(cudaLaunchHostFunc(queue->stream, fn, arg));
}

/* ---- events ---- */

static sparoa_status cuda_event_create(sparoa_dev *dev, sparoa_event **event)
{
    sparoa_event *e = sp_cuda_host_alloc(dev, sizeof *e);
    if (!e) return SPAROA_OUT_OF_MEMORY;
    cudaSetDevice(dev->index);
    cudaError_t error = cudaEventCreate(&e->event);
    if (error != cudaSuccess) {
        sp_cuda_host_free(dev, e, sizeof *e);
        return finished(error);
    }
    e->dev = dev;
    *event = e;
    return SPAROA_OK;
}

static void cuda_event_destroy(sparoa_event *event)
{
    if (!event) return;
    cudaSetDevice(event->dev->index);
    cudaEventDestroy(event->event);
    sp_cuda_host_free(event->dev, event, sizeof *event);
}

static sparoa_status cuda_event_record(sparoa_event *event, sparoa_queue *queue)
{
    return finished(cudaEventRecord(event->event, queue->stream));
}

static sparoa_status cuda_event_wait(sparoa_event *event, sparoa_queue *queue)
{
    return finished(cudaStreamWaitEvent(queue->stream, event->event, 0));
}

static sparoa_status cuda_event_sync(sparoa_event *event)
{
    return finished(cudaEventSynchronize(event->event));
}

static bool cuda_event_done(sparoa_event *event)
{
    cudaError_t error = cudaEventQuery(event->event);
    if (error != cudaSuccess) cudaGetLastError();
    return error != cudaErrorNotReady; /* a failed one is done, too: waiting for it tells */
}

static double cuda_event_elapsed_ns(sparoa_event *start, sparoa_event *end)
{
    float ms = 0;
    cudaError_t error = cudaEventElapsedTime(&ms, start->event, end->event);
    if (error != cudaSuccess) cudaGetLastError();
    return error == cudaSuccess ? ms * 1e6 : -1;
}

/* ---- kernels ---- */

static bool cuda_node_supports(sparoa_dev *dev, const sparoa_node *node, char *why, size_t why_size)
{
    int op;
    bool widens;
    const char *reason;
    if (sp_cuda_row_find(dev, node, &op, &widens, &reason)) return true;
    snprintf(why, why_size, "%s: %s", node->op, reason);
    return false;
}

static void cuda_node_destroy(sparoa_kernel *k)
{
    if (!k) return;
    sparoa_dev *dev = k->dev;
    cudaSetDevice(dev->index);
    if (k->row->destroy && k->state) k->row->destroy(k);
    sp_cuda_host_free(dev, k->state, k->row->state_bytes);
    sp_cuda_host_free(dev, k, sizeof *k);
}

static sparoa_status cuda_node_create(sparoa_dev *dev, const sparoa_node *node,
                                      sparoa_kernel **kernel, sparoa_error *err)
{
    int op;
    bool widens;
    const char *reason;
    const sp_cuda_row *row = sp_cuda_row_find(dev, node, &op, &widens, &reason);
    if (!row) return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node, "%s", reason);
    sparoa_kernel *k = sp_cuda_host_alloc(dev, sizeof *k);
    if (!k) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    *k = (sparoa_kernel){
        .dev = dev, .row = row, .op = op, .variant = row->variant, .widens = widens};
    cudaSetDevice(dev->index);
    sparoa_status status = SPAROA_OK;
    if (row->state_bytes && !(k->state = sp_cuda_host_alloc(dev, row->state_bytes)))
        status = sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    if (status == SPAROA_OK && widens)
        status = sp_cuda_widened_create(k, node, err);
    else if (status == SPAROA_OK && row->create)
        status = row->create(k, node, err);
    if (status != SPAROA_OK)
        cuda_node_destroy(k);
    else
        *kernel = k;
    return status;
}

static const char *cuda_node_variant(const sparoa_kernel *kernel)
{
    return kernel->variant;
}

static size_t cuda_node_bytes(const sparoa_kernel *kernel)
{
    return kernel->bytes;
}

static bool cuda_node_keeps_input(const sparoa_kernel *kernel, int32_t input)
{
    return !kernel->row->keeps_input || kernel->row->keeps_input(kernel, input);
}

static void cuda_prepared_destroy(sparoa_kernel *kernel, sparoa_prepared *prepared)
{
    if (!prepared) return;
    cudaSetDevice(kernel->dev->index);
    if (kernel->row->unprepare) kernel->row->unprepare(kernel, prepared);
    sp_cuda_host_free(kernel->dev, prepared, kernel->row->prepared_bytes);
}

static sparoa_status cuda_node_prepare(sparoa_kernel *kernel, const sparoa_node *node,
                                       sparoa_prepared **prepared, size_t *workspace,
                                       sparoa_error *err)
{
    const sp_cuda_row *row = kernel->row;
    *workspace = 0;
    if (!row->prepare && !kernel->widens) return SPAROA_OK;
    cudaSetDevice(kernel->dev->index);
    void *p = sp_cuda_host_alloc(kernel->dev, row->prepared_bytes);
    if (!p) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to prepare the kernel");
    sparoa_status status = kernel->widens ? sp_cuda_widened_prepare(kernel, node, p, workspace, err)
                                          : row->prepare(kernel, node, p, workspace, err);
    if (status != SPAROA_OK) {
        cuda_prepared_destroy(kernel, p);
        return status;
    }
    cuda_prepared_destroy(kernel, *prepared);
    *prepared = p;
    return SPAROA_OK;
}

static sparoa_status cuda_node_run(sparoa_kernel *kernel, sparoa_prepared *prepared,
                                   sparoa_queue *queue, const sparoa_node *node, void *workspace,
                                   sparoa_error *err)
{
    cudaSetDevice(kernel->dev->index);
    sparoa_status status =
        kernel->widens ? sp_cuda_widened_run(kernel, prepared, queue->stream, node, workspace, err)
                       : kernel->row->run(kernel, prepared, queue->stream, node, workspace, err);
    cudaError_t error = cudaGetLastError();
    if (status != SPAROA_OK || error == cudaSuccess) return status;
    return sp_cuda_fail(err, node, "enqueueing", error);
}

/* ---- capture ---- */

static sparoa_status cuda_capture_begin(sparoa_queue *queue)
{
    cudaError_t error = cudaStreamBeginCapture(queue->stream, cudaStreamCaptureModeRelaxed);
    queue->capturing = error == cudaSuccess;
    return finished(error);
}

static sparoa_status cuda_capture_end(sparoa_queue *queue, sparoa_capture **capture)
{
    cudaGraph_t graph = NULL;
    sparoa_dev *dev = queue->dev;
    cudaError_t error = cudaStreamEndCapture(queue->stream, &graph);
    queue->capturing = false;
    if (error != cudaSuccess) return finished(error);
    sparoa_capture *c = sp_cuda_host_alloc(dev, sizeof *c);
    if (!c) {
        cudaGraphDestroy(graph);
        return SPAROA_OUT_OF_MEMORY;
    }
    c->dev = dev;
    sp_cuda_graph_refine(dev, graph);
    error = cudaGraphInstantiateWithFlags(&c->graph, graph, 0);
    cudaGraphDestroy(graph);
    /* what the device needs of it goes there now, not at the first launch */
    if (error == cudaSuccess && !dev->raw_graphs) cudaGraphUpload(c->graph, queue->stream);
    if (error != cudaSuccess)
        sp_cuda_host_free(dev, c, sizeof *c);
    else
        *capture = c;
    return finished(error);
}

static sparoa_status cuda_capture_launch(sparoa_capture *capture, sparoa_queue *queue)
{
    return finished(cudaGraphLaunch(capture->graph, queue->stream));
}

static void cuda_capture_destroy(sparoa_capture *capture)
{
    if (!capture) return;
    cudaSetDevice(capture->dev->index);
    cudaGraphExecDestroy(capture->graph);
    sp_cuda_host_free(capture->dev, capture, sizeof *capture);
}

__attribute__((visibility("default"))) const sparoa_backend *
sparoa_backend_query(const sparoa_host *host);

const sparoa_backend *sparoa_backend_query(const sparoa_host *host)
{
    static const sparoa_backend table = {
        .struct_size = sizeof(sparoa_backend),
        .abi = SPAROA_BACKEND_ABI,
        .name = "cuda",
        .version = "0.1.0",
        .probe = sp_cuda_probe,
        .device_count = sp_cuda_device_count,
        .device_open = sp_cuda_device_open,
        .device_close = sp_cuda_device_close,
        .device_info = sp_cuda_device_info,
        .device_status = sp_cuda_device_status,
        .buffer_alloc = cuda_buffer_alloc,
        .buffer_free = cuda_buffer_free,
        .queue_create = cuda_queue_create,
        .queue_destroy = cuda_queue_destroy,
        .queue_sync = cuda_queue_sync,
        .copy = cuda_copy,
        .host_call = cuda_host_call,
        .event_create = cuda_event_create,
        .event_destroy = cuda_event_destroy,
        .event_record = cuda_event_record,
        .event_wait = cuda_event_wait,
        .event_sync = cuda_event_sync,
        .event_done = cuda_event_done,
        .event_elapsed_ns = cuda_event_elapsed_ns,
        .node_supports = cuda_node_supports,
        .node_create = cuda_node_create,
        .node_variant = cuda_node_variant,
        .node_bytes = cuda_node_bytes,
        .node_keeps_input = cuda_node_keeps_input,
        .node_prepare = cuda_node_prepare,
        .node_run = cuda_node_run,
        .prepared_destroy = cuda_prepared_destroy,
        .node_destroy = cuda_node_destroy,
        .capture_begin = cuda_capture_begin,
        .capture_end = cuda_capture_end,
        .capture_launch = cuda_capture_launch,
        .capture_destroy = cuda_capture_destroy,
        .measure = sp_cuda_measure,
        .describe = sp_cuda_describe,
    };
    return host && host->abi == SPAROA_BACKEND_ABI ? &table : NULL;
}
