/* Memory of the device. Freed blocks are kept for the next allocation of the same size, up to a
 * limit: cudaMalloc and cudaFree take up to a millisecond and wait for the whole device. */
#include "backends/cuda/cuda.h"

typedef struct sp_cuda_block {
    struct sp_cuda_block *next;
    void *ptr;
    size_t bytes;
} sp_cuda_block;

/* Sizes are rounded so that a freed block fits more than one request: to 512 bytes, above 1 MiB to
 * an eighth of the power of two below. */
static size_t rounded(size_t bytes)
{
    size_t step = 512;
    if (bytes > (size_t)1 << 20) step = ((size_t)1 << (63 - __builtin_clzll(bytes))) / 8;
    return (bytes + step - 1) / step * step;
}

void *sp_cuda_host_alloc(sparoa_dev *dev, size_t bytes)
{
    void *p = dev->allocator.alloc(dev->allocator.user, bytes ? bytes : 1, 64);
    if (p) memset(p, 0, bytes);
    return p;
}

void sp_cuda_host_free(sparoa_dev *dev, void *ptr, size_t bytes)
{
    if (ptr) dev->allocator.free(dev->allocator.user, ptr, bytes ? bytes : 1);
}

void sp_cuda_pool_trim(sparoa_dev *dev)
{
    pthread_mutex_lock(&dev->lock);
    sp_cuda_block *list = dev->idle;
    dev->idle = NULL;
    dev->idle_bytes = 0;
    pthread_mutex_unlock(&dev->lock);
    while (list) {
        sp_cuda_block *next = list->next;
        cudaFree(list->ptr);
        sp_cuda_host_free(dev, list, sizeof *list);
        list = next;
    }
}

static void *take_idle(sparoa_dev *dev, size_t bytes)
{
    void *ptr = NULL;
    pthread_mutex_lock(&dev->lock);
    for (sp_cuda_block **at = &dev->idle; *at; at = &(*at)->next) {
        sp_cuda_block *b = *at;
        if (b->bytes != bytes) continue;
        *at = b->next;
        dev->idle_bytes -= bytes;
        ptr = b->ptr;
        sp_cuda_host_free(dev, b, sizeof *b);
        break;
    }
    pthread_mutex_unlock(&dev->lock);
    return ptr;
}

sparoa_status sp_cuda_alloc(sparoa_dev *dev, size_t bytes, void **ptr)
{
    if (bytes > SIZE_MAX / 2) return SPAROA_OUT_OF_MEMORY;
    size_t size = rounded(bytes ? bytes : 1);
    *ptr = take_idle(dev, size);
    if (*ptr) return SPAROA_OK;
    cudaError_t error = cudaMalloc(ptr, size);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* forget it: the next call starts clean */
        sp_cuda_pool_trim(dev);
        error = cudaMalloc(ptr, size);
    }
    if (error != cudaSuccess) cudaGetLastError();
    return sp_cuda_status(error);
}

/* As cudaFree does, waits for work that may still use the memory, but for our own queues only. */
static void wait_for_queues(sparoa_dev *dev)
{
    pthread_mutex_lock(&dev->lock);
    for (sparoa_queue *q = dev->queues; q; q = q->next)
        if (!q->capturing) cudaStreamSynchronize(q->stream);
    pthread_mutex_unlock(&dev->lock);
}

void sp_cuda_free(sparoa_dev *dev, void *ptr, size_t bytes)
{
    if (!ptr) return;
    size_t size = rounded(bytes ? bytes : 1);
    sp_cuda_block *b = NULL;
    wait_for_queues(dev);
    if (size <= dev->idle_limit && (b = sp_cuda_host_alloc(dev, sizeof *b))) {
        pthread_mutex_lock(&dev->lock);
        bool keep = dev->idle_bytes + size <= dev->idle_limit;
        if (keep) {
            *b = (sp_cuda_block){dev->idle, ptr, size};
            dev->idle = b;
            dev->idle_bytes += size;
        }
        pthread_mutex_unlock(&dev->lock);
        if (keep) return;
        sp_cuda_host_free(dev, b, sizeof *b);
    }
    cudaFree(ptr);
}

sparoa_status sp_cuda_upload(sparoa_dev *dev, sparoa_kernel *k, const void *host, size_t bytes,
                             void **ptr, sparoa_error *err)
{
    if (sp_cuda_alloc(dev, bytes, ptr) != SPAROA_OK)
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no device memory for %zu bytes",
                           bytes);
    cudaError_t error = cudaMemcpy(*ptr, host, bytes, cudaMemcpyHostToDevice);
    if (error != cudaSuccess) {
        sp_cuda_free(dev, *ptr, bytes);
        *ptr = NULL;
        return sp_cuda_fail(err, NULL, "copying constants to the device", error);
    }
    if (k) k->bytes += bytes;
    return SPAROA_OK;
}
