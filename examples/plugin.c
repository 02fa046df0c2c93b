/*
 * plugin.c - a device plug-in: the smallest one that does something. Its device is the host itself
 * and runs Relu and Add on float32 tensors of equal shapes, at once, in the thread that asks. It
 * links to nothing; sparoa_backend.h is all that it needs.
 *
 *   cc -shared -fPIC -fvisibility=hidden -o libexample.so plugin.c
 *   plugin_check ./libexample.so
 *
 * docs/plugins.md explains what a real device adds: its own memory, work that goes on while the
 * host does something else, and events.
 */
#include <sparoa_backend.h>

struct sparoa_dev {
    const sparoa_host *host; /* outlives the device */
};

struct sparoa_queue {
    sparoa_dev *dev;
};

struct sparoa_kernel {
    sparoa_dev *dev;
    void (*run)(const sparoa_node *node, int64_t count);
};

/* ---- the two operators ---- */

static int64_t count_of(const sparoa_tensor *t)
{
    int64_t n = 1;
    for (int32_t i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

/* x and y may be the same memory: the engine may let an operator work in place. */
static void run_relu(const sparoa_node *node, int64_t count)
{
    const float *x = node->in[0]->data;
    float *y = node->out[0]->data;
    for (int64_t i = 0; i < count; i++) y[i] = x[i] < 0 ? 0 : x[i]; /* keeps NaN */
}

static void run_add(const sparoa_node *node, int64_t count)
{
    const float *a = node->in[0]->data, *b = node->in[1]->data;
    float *y = node->out[0]->data;
    for (int64_t i = 0; i < count; i++) y[i] = a[i] + b[i];
}

static bool plain_floats(const sparoa_node *node)
{
    for (int32_t i = 0; i < node->n_in; i++) {
        const sparoa_tensor *t = sparoa_in(node, i);
        if (!t || t->dtype != SPAROA_FLOAT32 || t->rank != node->in[0]->rank) return false;
        for (int32_t k = 0; k < t->rank; k++) /* -1: not known before the first run */
            if (t->dims[k] < 0 || t->dims[k] != node->in[0]->dims[k]) return false;
    }
    return true;
}

/* Capability only. The engine's passes fuse operators and say so in attributes that begin with
 * "sp.": a node that has one is more than its operator. */
static bool node_supports(sparoa_dev *dev, const sparoa_node *node, char *why, size_t why_size)
{
    bool relu = strcmp(node->op, "Relu") == 0 && node->n_in == 1;
    bool add = strcmp(node->op, "Add") == 0 && node->n_in == 2 && node->version >= 7;
    const char *reason = NULL;
    (void)dev;
    if (node->domain[0] || !(relu || add))
        reason = "only Relu and Add are supported";
    else if (node->n_attrs)
        reason = "it is fused with another operator";
    else if (!plain_floats(node))
        reason = "only float32 and equal, fixed shapes are supported";
    if (reason && why) snprintf(why, why_size, "%s", reason);
    return !reason;
}

/* ---- host memory: every object comes from the host's allocator, so that its cap holds ---- */

static void *take(const sparoa_host *host, size_t bytes)
{
    return host->allocator.alloc(host->allocator.user, bytes, 64);
}

static void give(const sparoa_host *host, void *ptr, size_t bytes)
{
    host->allocator.free(host->allocator.user, ptr, bytes);
}

/* ---- library and device ---- */

static sparoa_status probe(const sparoa_host *host, sparoa_error *why)
{
    (void)host;
    (void)why; /* a real one: sparoa_fail(why, SPAROA_DEVICE_UNAVAILABLE, NULL, "no driver ...") */
    return SPAROA_OK;
}

static int32_t device_count(const sparoa_host *host)
{
    (void)host;
    return 1;
}

static sparoa_status device_open(const sparoa_host *host, int32_t index, const char *options,
                                 sparoa_dev **dev, sparoa_error *err)
{
    if (index != 0 || (options && *options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "example: there is one device, and it has no options");
    sparoa_dev *d = take(host, sizeof *d);
    if (!d) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "example: no memory");
    d->host = host;
    *dev = d;
    return SPAROA_OK;
}

static void device_close(sparoa_dev *dev)
{
    if (dev) give(dev->host, dev, sizeof *dev);
}

static void device_info(const sparoa_dev *dev, sparoa_device_info *info)
{
    (void)dev;
    *info = (sparoa_device_info){.struct_size = sizeof *info,
                                 .name = "example0",
                                 .description = "Relu and Add on the host",
                                 .kind = SPAROA_DEVICE_NPU,
                                 .caps = SPAROA_CAP_HOST_MEMORY, /* and not ASYNC: no events */
                                 .alignment = 64};
}

static sparoa_status buffer_alloc(sparoa_dev *dev, size_t bytes, sparoa_memory_kind kind,
                                  void **ptr)
{
    (void)kind;
    void *p = take(dev->host, bytes ? bytes : 1);
    if (!p) return SPAROA_OUT_OF_MEMORY;
    *ptr = p;
    return SPAROA_OK;
}

static void buffer_free(sparoa_dev *dev, void *ptr, size_t bytes, sparoa_memory_kind kind)
{
    (void)kind;
    if (ptr) give(dev->host, ptr, bytes ? bytes : 1);
}

/* ---- queues: there is nothing to queue ---- */

static sparoa_status queue_create(sparoa_dev *dev, int32_t priority, sparoa_queue **queue)
{
    (void)priority;
    sparoa_queue *q = take(dev->host, sizeof *q);
    if (!q) return SPAROA_OUT_OF_MEMORY;
    q->dev = dev;
    *queue = q;
    return SPAROA_OK;
}

static void queue_destroy(sparoa_queue *queue)
{
    if (queue) give(queue->dev->host, queue, sizeof *queue);
}

static sparoa_status queue_sync(sparoa_queue *queue)
{
    (void)queue;
    return SPAROA_OK;
}

static sparoa_status copy(sparoa_queue *queue, void *dst, const void *src, size_t bytes)
{
    (void)queue;
    if (bytes) memmove(dst, src, bytes);
    return SPAROA_OK;
}

/* ---- nodes: created once, prepared for each set of shapes, run often ---- */

static sparoa_status node_create(sparoa_dev *dev, const sparoa_node *node, sparoa_kernel **kernel,
                                 sparoa_error *err)
{
    sparoa_kernel *k = take(dev->host, sizeof *k);
    if (!k) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for its kernel");
    k->dev = dev;
    k->run = strcmp(node->op, "Relu") == 0 ? run_relu : run_add;
    *kernel = k;
    return SPAROA_OK;
}

static const char *node_variant(const sparoa_kernel *kernel)
{
    return kernel->run == run_relu ? "example_relu" : "example_add";
}

static size_t node_bytes(const sparoa_kernel *kernel)
{
    (void)kernel;
    return 0;
}

static bool node_keeps_input(const sparoa_kernel *kernel, int32_t input)
{
    (void)kernel;
    (void)input;
    return true; /* no constant was packed: the engine keeps them all */
}

static sparoa_status node_prepare(sparoa_kernel *kernel, const sparoa_node *node,
                                  sparoa_prepared **prepared, size_t *workspace, sparoa_error *err)
{
    (void)kernel;
    (void)node;
    (void)prepared; /* nothing depends on shapes: stays NULL */
    (void)err;
    *workspace = 0;
    return SPAROA_OK;
}

static sparoa_status node_run(sparoa_kernel *kernel, sparoa_prepared *prepared, sparoa_queue *queue,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    (void)prepared;
    (void)queue;
    (void)workspace;
    (void)err;
    kernel->run(node, count_of(node->out[0]));
    return SPAROA_OK;
}

static void prepared_destroy(sparoa_kernel *kernel, sparoa_prepared *prepared)
{
    (void)kernel;
    (void)prepared;
}

static void node_destroy(sparoa_kernel *kernel)
{
    if (kernel) give(kernel->dev->host, kernel, sizeof *kernel);
}

/* ---- the one symbol ---- */

SPAROA_API const sparoa_backend *sparoa_backend_query(const sparoa_host *host);

const sparoa_backend *sparoa_backend_query(const sparoa_host *host)
{
    static const sparoa_backend table = {
        .struct_size = sizeof(sparoa_backend),
        .abi = SPAROA_BACKEND_ABI,
        .name = "example",
        .version = "1.0.0",
        .probe = probe,
        .device_count = device_count,
        .device_open = device_open,
        .device_close = device_close,
        .device_info = device_info,
        .buffer_alloc = buffer_alloc,
        .buffer_free = buffer_free,
        .queue_create = queue_create,
        .queue_destroy = queue_destroy,
        .queue_sync = queue_sync,
        .copy = copy,
        .node_supports = node_supports,
        .node_create = node_create,
        .node_variant = node_variant,
        .node_bytes = node_bytes,
        .node_keeps_input = node_keeps_input,
        .node_prepare = node_prepare,
        .node_run = node_run,
        .prepared_destroy = prepared_destroy,
        .node_destroy = node_destroy,
    };
    return host->abi == SPAROA_BACKEND_ABI ? &table : NULL; /* NULL: the host is another version */
}
