#include "backends/cuda/device.h"

#include <dlfcn.h>

#define POOL_LIMIT                                                                                 \
    ((size_t)1 << 30) /* freed memory kept, unless the option pool_mb says otherwise */

/* The runtime is linked statically and loads the driver itself; this says in words what is missing.
 */
sparoa_status sp_cuda_probe(const sparoa_host *host, sparoa_error *why)
{
    (void)host;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver)
        return sparoa_fail(why, SPAROA_DEVICE_UNAVAILABLE, NULL,
                           "no NVIDIA driver: libcuda.so.1 was not found");
    int count = 0, version = 0, runtime = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver) {
        cudaDriverGetVersion(&version);
        cudaRuntimeGetVersion(&runtime);
        cudaGetLastError();
        return sparoa_fail(why, SPAROA_DEVICE_UNAVAILABLE, NULL,
                           "the driver is for CUDA %d.%d, too old for this plug-in's CUDA %d.%d",
                           version / 1000, version % 1000 / 10, runtime / 1000,
                           runtime % 1000 / 10);
    }
    if (error != cudaSuccess || count < 1) {
        cudaGetLastError();
        return sparoa_fail(why, SPAROA_DEVICE_UNAVAILABLE, NULL, "no CUDA device: %s",
                           error == cudaSuccess ? "the driver lists none"
                                                : cudaGetErrorString(error));
    }
    return SPAROA_OK;
}

int32_t sp_cuda_device_count(const sparoa_host *host)
{
    int count = 0;
    if (sp_cuda_probe(host, NULL) != SPAROA_OK || cudaGetDeviceCount(&count) != cudaSuccess)
        return 0;
    return count;
}

/* Value of "key=" in "key=value,key=value" as text; "" where it is missing. */
static void option(const char *options, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);
    value[0] = '\0';
    for (const char *at = options; at && *at;) {
        size_t length = strcspn(at, ",");
        if (length > n && strncmp(at, key, n) == 0 && at[n] == '=')
            snprintf(value, size, "%.*s", (int)(length - n - 1), at + n + 1);
        at += length + (at[length] == ',');
    }
}

static bool option_is(const char *options, const char *key, const char *wanted)
{
    char value[16];
    option(options, key, value, sizeof value);
    return strcmp(value, wanted) == 0;
}

static void open_libraries(sparoa_dev *dev, const char *options)
{
    char folders[512], bus[32] = "";
    option(options, "libs", folders, sizeof folders);
    cudaDeviceGetPCIBusId(bus, sizeof bus, dev->index);
    sp_cuda_libs_open(&dev->libs, folders[0] ? folders : NULL, bus);
    if (option_is(options, "own", "1")) dev->libs.blas = dev->libs.dnn = dev->libs.cusparse = NULL;
    if (dev->libs.blas && dev->libs.lt_create(&dev->lt) != 0) dev->lt = NULL;
    if (dev->libs.dnn && dev->libs.dnn_create(&dev->dnn) != 0) dev->dnn = NULL;
    if (dev->libs.cusparse && dev->libs.sparse_create(&dev->sparse) != 0) dev->sparse = NULL;
    const sparoa_host *h = dev->engine;
    if (!h->log) return;
    char line[320];
    if (!dev->lt) {
        snprintf(line, sizeof line, "cuda%d: no cuBLASLt, plain products instead: %s", dev->index,
                 dev->libs.blas_why[0] ? dev->libs.blas_why : "not found");
        h->log(h->log_user, SPAROA_LOG_WARN, line);
    }
    if (!dev->dnn) {
        snprintf(line, sizeof line, "cuda%d: no cuDNN, plain convolutions instead: %s", dev->index,
                 dev->libs.dnn_why[0] ? dev->libs.dnn_why : "not found");
        h->log(h->log_user, SPAROA_LOG_WARN, line);
    }
}

sparoa_status sp_cuda_device_open(const sparoa_host *host, int32_t index, const char *options,
                                  sparoa_dev **dev, sparoa_error *err)
{
    sparoa_status status = sp_cuda_probe(host, err);
    if (status != SPAROA_OK) return status;
    int count = sp_cuda_device_count(host);
    if (index < 0 || index >= count)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "cuda device %d: there are %d",
                           index, count);
    sparoa_dev *d = host->allocator.alloc(host->allocator.user, sizeof *d, 64);
    if (!d) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no memory for a device");
    memset(d, 0, sizeof *d);
    d->engine = host;
    d->allocator = host->allocator;
    d->index = index;
    d->tf32 = option_is(options, "tf32", "1");
    d->autotune = !option_is(options, "autotune", "0");
    d->sparse_ways = option_is(options, "sparse", "0")          ? 0
                     : option_is(options, "sparse", "own")      ? 2
                     : option_is(options, "sparse", "cusparse") ? 3
                                                                : 1;
    d->raw_graphs = option_is(options, "graph", "raw");
    char pool[16], way[16];
    option(options, "way", way, sizeof way);
    d->way = way[0] ? atoi(way) : -1;
    option(options, "pool_mb", pool, sizeof pool);
    d->idle_limit = pool[0] ? (size_t)strtoul(pool, NULL, 10) << 20 : POOL_LIMIT;
    pthread_mutex_init(&d->lock, NULL);
    cudaError_t error = cudaSetDevice(index);
    if (error == cudaSuccess) error = cudaGetDeviceProperties(&d->prop, index);
    if (error == cudaSuccess)
        error = cudaHostAlloc((void **)&d->fault, sizeof *d->fault, cudaHostAllocMapped);
    if (error == cudaSuccess) error = cudaHostGetDevicePointer((void **)&d->fault_dev, d->fault, 0);
    if (error != cudaSuccess) {
        cudaGetLastError();
        sp_cuda_device_close(d);
        return sp_cuda_fail(err, NULL, "opening the device", error);
    }
    *d->fault = 0;
    d->unified = (d->prop.integrated || option_is(options, "zero_copy", "1")) &&
                 d->prop.canMapHostMemory && !option_is(options, "zero_copy", "0");
    open_libraries(d, options);
    option(options, "cache", d->tuned_path, sizeof d->tuned_path);
    sp_cuda_tuned_load(d);
    *dev = d;
    return SPAROA_OK;
}

void sp_cuda_device_close(sparoa_dev *dev)
{
    if (!dev) return;
    cudaSetDevice(dev->index);
    sp_cuda_tuned_save(dev);
    if (dev->lt) dev->libs.lt_destroy(dev->lt);
    if (dev->dnn) dev->libs.dnn_destroy(dev->dnn);
    if (dev->sparse) dev->libs.sparse_destroy(dev->sparse);
    sp_cuda_pool_trim(dev);
    if (dev->fault) cudaFreeHost(dev->fault);
    pthread_mutex_destroy(&dev->lock);
    sparoa_allocator a = dev->allocator;
    a.free(a.user, dev, sizeof *dev);
}

static double attribute(const sparoa_dev *dev, enum cudaDeviceAttr what)
{
    int v = 0;
    return cudaDeviceGetAttribute(&v, what, dev->index) == cudaSuccess ? v : 0;
}

void sp_cuda_device_info(const sparoa_dev *dev, sparoa_device_info *info)
{
    const struct cudaDeviceProp *p = &dev->prop;
    int lanes = p->major == 7 || (p->major == 8 && p->minor == 0) ? 64 : 128; /* per processor */
    *info = (sparoa_device_info){.struct_size = sizeof *info, .alignment = 256};
    snprintf(info->name, sizeof info->name, "cuda%d", dev->index);
    snprintf(info->description, sizeof info->description, "%.60s, sm_%d%d", p->name, p->major,
             p->minor);
    info->kind = p->integrated ? SPAROA_DEVICE_INTEGRATED_GPU : SPAROA_DEVICE_GPU;
    info->caps = SPAROA_CAP_ASYNC | SPAROA_CAP_TIMED_EVENTS | SPAROA_CAP_CAPTURE;
    if (dev->unified) info->caps |= SPAROA_CAP_UNIFIED;
    info->memory_bytes = p->totalGlobalMem;
    info->peak_flops =
        2.0 * lanes * p->multiProcessorCount * attribute(dev, cudaDevAttrClockRate) * 1e3;
    info->memory_bandwidth = 2 * attribute(dev, cudaDevAttrMemoryClockRate) * 1e3 *
                             attribute(dev, cudaDevAttrGlobalMemoryBusWidth) / 8;
}

sparoa_status sp_cuda_device_status(sparoa_dev *dev, sparoa_device_status *status)
{
    const sp_cuda_libs *l = &dev->libs;
    size_t total, bytes = 0;
    *status = (sparoa_device_status){.struct_size = sizeof *status,
                                     .load = -1,
                                     .clock_mhz = -1,
                                     .temperature_c = -1,
                                     .power_w = -1};
    cudaSetDevice(dev->index);
    cudaError_t error = cudaMemGetInfo(&bytes, &total);
    if (error != cudaSuccess) return sp_cuda_status(error);
    status->free_bytes = bytes;
    if (!l->nvml) return SPAROA_OK;
    nvml_utilization use;
    unsigned v;
    if (l->nvml_utilization(l->nvml_device, &use) == 0) status->load = use.gpu / 100.0;
    if (l->nvml_clock(l->nvml_device, 1, &v) == 0) status->clock_mhz = v; /* multiprocessors */
    if (l->nvml_temperature(l->nvml_device, 0, &v) == 0) status->temperature_c = v;
    if (l->nvml_power(l->nvml_device, &v) == 0) status->power_w = v / 1000.0;
    return SPAROA_OK;
}

void sp_cuda_describe(const sparoa_dev *dev, sparoa_device_desc *desc)
{
    memset(desc, 0, sizeof *desc);
    snprintf(desc->name, sizeof desc->name, "cuda%d", dev->index);
    snprintf(desc->description, sizeof desc->description, "%.90s", dev->prop.name);
    snprintf(desc->isa, sizeof desc->isa, "sm_%d%d", dev->prop.major, dev->prop.minor);
    desc->cores = dev->prop.multiProcessorCount;
    desc->memory_bytes = dev->prop.totalGlobalMem;
    desc->cache_bytes[1] = (size_t)dev->prop.l2CacheSize;
    desc->clock_mhz = attribute(dev, cudaDevAttrClockRate) / 1e3;
}

typedef struct measure_args {
    sparoa_dev *dev;
    sp_cuda_product product;
    void *memory;
    size_t bytes;
} measure_args;

static void multiply(void *arg, cudaStream_t stream)
{
    measure_args *m = arg;
    const float *a = m->memory;
    size_t n = (size_t)m->product.shape.n * (size_t)m->product.shape.n;
    sp_cuda_product_run(m->dev, &m->product, a, a + n, NULL, NULL, (float *)m->memory + 2 * n,
                        (float *)m->memory + 3 * n, stream, NULL, NULL);
}

static void duplicate(void *arg, cudaStream_t stream)
{
    measure_args *m = arg;
    cudaMemcpyAsync((char *)m->memory + m->bytes / 2, m->memory, m->bytes / 2,
                    cudaMemcpyDeviceToDevice, stream);
}

/* A product of square matrices, and a copy within the device counted as read and write. */
sparoa_status sp_cuda_measure(sparoa_dev *dev, int32_t milliseconds, sparoa_device_peak *peak,
                              sparoa_error *err)
{
    const int64_t n = 4096;
    (void)milliseconds;
    cudaSetDevice(dev->index);
    measure_args m = {.dev = dev};
    m.product.shape = (sp_cu_gemm){
        .m = n, .n = n, .k = n, .batch = 1, .a_m = n, .a_k = 1, .b_k = n, .b_n = 1, .alpha = 1};
    sp_cuda_product_plan(dev, &m.product, &(sp_cu_epilogue){.channels = n, .inner = 1}, false);
    m.bytes = (size_t)(3 * n * n) * sizeof(float) + m.product.workspace;
    if (sp_cuda_alloc(dev, m.bytes, &m.memory) != SPAROA_OK) {
        sp_cuda_product_done(dev, &m.product);
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no device memory to measure with");
    }
    cudaMemset(m.memory, 0x3c, m.bytes);
    float product_ms = sp_cuda_time(dev, 10, multiply, &m),
          copy_ms = sp_cuda_time(dev, 10, duplicate, &m);
    cudaError_t error = cudaDeviceSynchronize();
    sp_cuda_product_done(dev, &m.product);
    sp_cuda_free(dev, m.memory, m.bytes);
    if (error != cudaSuccess || !(product_ms > 0) || !(copy_ms > 0))
        return sp_cuda_fail(err, NULL, "measuring", error);
    peak->gflops_all = 10 * 2.0 * (double)(n * n * n) / (product_ms * 1e6);
    peak->gflops_one = peak->gflops_all;
    peak->bandwidth = 10 * (double)m.bytes / (copy_ms * 1e6);
    return SPAROA_OK;
}
