/* The device itself, what it supports, and the table. */
#include "emu.h"

_Static_assert(EMU_SCRATCH >= EMU_MAX_PORTS * (sizeof(sparoa_tensor) + sizeof(void *)),
               "scratch holds the largest node");

static sparoa_status probe(const sparoa_host *host, sparoa_error *why)
{
    (void)host;
    (void)why;
    return SPAROA_OK;
}

static int32_t device_count(const sparoa_host *host)
{
    (void)host;
    return 1;
}

/* Queues that are left end with the device, and so do threads of the host that wait for them. */
static void device_close(sparoa_dev *dev)
{
    if (!dev) return;
    pthread_mutex_lock(&dev->lock);
    dev->closing = true;
    pthread_cond_broadcast(&dev->changed);
    while (dev->waiting) pthread_cond_wait(&dev->changed, &dev->lock);
    pthread_mutex_unlock(&dev->lock);
    while (dev->queues) emu_queue_destroy(dev->queues);
    emu_memory_close(dev);
    pthread_cond_destroy(&dev->changed);
    pthread_mutex_destroy(&dev->lock);
    emu_host_free(dev, dev, sizeof *dev);
}

static sparoa_status device_open(const sparoa_host *host, int32_t index, const char *options,
                                 sparoa_dev **dev, sparoa_error *err)
{
    sparoa_dev first = {.host = host, .index = index, .fd = -1};
    if (index != 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "emu device %d: there is one",
                           index);
    sparoa_status status = emu_options_read(options, &first.options, err);
    if (status != SPAROA_OK) return status;
    first.random = first.options.seed * 0x9e3779b97f4a7c15u | 1;
    sparoa_dev *d = emu_host_alloc(&first, sizeof *d);
    if (!d) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "emu: no memory for the device");
    *d = first;
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&d->changed, &clock);
    pthread_condattr_destroy(&clock);
    status = emu_memory_open(d);
    if (status != SPAROA_OK) {
        device_close(d);
        return sparoa_fail(err, status, NULL, "emu: no address space for %llu bytes",
                           (unsigned long long)first.options.memory);
    }
    *dev = d;
    return SPAROA_OK;
}

static void device_info(const sparoa_dev *dev, sparoa_device_info *info)
{
    *info = (sparoa_device_info){.struct_size = sizeof *info,
                                 .description = "accelerator emulated on the host",
                                 .kind = SPAROA_DEVICE_GPU,
                                 .caps = SPAROA_CAP_ASYNC | SPAROA_CAP_TIMED_EVENTS |
                                         SPAROA_CAP_CAPTURE |
                                         (dev->options.unified ? SPAROA_CAP_UNIFIED : 0),
                                 .memory_bytes = (size_t)dev->options.memory,
                                 .alignment = EMU_ALIGN};
    snprintf(info->name, sizeof info->name, "emu%d", dev->index);
}

static sparoa_status device_status(sparoa_dev *dev, sparoa_device_status *status)
{
    const emu_options *o = &dev->options;
    pthread_mutex_lock(&dev->lock);
    bool lost = dev->lost;
    size_t used = dev->used;
    pthread_mutex_unlock(&dev->lock);
    if (lost) return SPAROA_DEVICE_LOST;
    *status = (sparoa_device_status){.struct_size = sizeof *status,
                                     .free_bytes = (size_t)o->memory - used,
                                     .load = o->load,
                                     .clock_mhz = o->clock_mhz,
                                     .temperature_c = o->temperature_c,
                                     .power_w = o->power_w};
    return SPAROA_OK;
}

static void describe(const sparoa_dev *dev, sparoa_device_desc *desc)
{
    *desc = (sparoa_device_desc){.description = "accelerator emulated on the host",
                                 .isa = "generic",
                                 .cores = (int32_t)dev->options.streams,
                                 .memory_bytes = (size_t)dev->options.memory,
                                 .clock_mhz = dev->options.clock_mhz};
    snprintf(desc->name, sizeof desc->name, "emu%d", dev->index);
}

/* ---- nodes ---- */

/* The host widens half floats around operators that cannot compute with them; nobody does it here.
 */
static bool needs_widening(const sparoa_op *op, const sparoa_node *node)
{
    if (op->flags & (SPAROA_OP_HALF | SPAROA_OP_VIEW | SPAROA_OP_SHAPE_ONLY) ||
        op->op_class == SPAROA_CLASS_MOVE)
        return false;
    for (int32_t i = 0; i < node->n_in + node->n_out; i++) {
        const sparoa_tensor *t = i < node->n_in ? node->in[i] : node->out[i - node->n_in];
        if (t && (t->dtype == SPAROA_FLOAT16 || t->dtype == SPAROA_BFLOAT16)) return true;
    }
    return false;
}

/* Of the node's name, so that the answer does not depend on who asks first. */
static bool is_odd(const sparoa_dev *dev, const sparoa_node *node)
{
    uint64_t h = 1469598103934665603u ^ dev->options.seed;
    for (const char *p = node->name; *p; p++) h = (h ^ (unsigned char)*p) * 1099511628211u;
    return (h ^ h >> 32) * 0x9e3779b97f4a7c15u >> 63;
}

static const char *refusal(const sparoa_dev *dev, const sparoa_op *op, const sparoa_node *node)
{
    if (!op) return "the host has no implementation";
    if (op->op_class == SPAROA_CLASS_CONTROL) return "control flow is the host's";
    if (op->flags & SPAROA_OP_TRIMS) return "its output shapes depend on data";
    if (op->flags & SPAROA_OP_RANDOM) return "it is random";
    if (node->n_in + node->n_out > EMU_MAX_PORTS) return "it has too many inputs and outputs";
    if (needs_widening(op, node)) return "half floats";
    if (!(dev->options.classes >> op->op_class & 1)) return "its class is not in support=";
    if (dev->options.every_other && is_odd(dev, node)) return "support=every_other leaves it out";
    return NULL;
}

static bool node_supports(sparoa_dev *dev, const sparoa_node *node, char *why, size_t why_size)
{
    const char *reason = refusal(dev, dev->host->operator_of(dev->host, node), node);
    if (reason && why) snprintf(why, why_size, "%s: %s", node->op, reason);
    return !reason;
}

static void node_destroy(sparoa_kernel *kernel)
{
    if (!kernel) return;
    if (kernel->state && kernel->op->destroy)
        kernel->op->destroy(kernel->state, &kernel->dev->host->allocator);
    emu_host_free(kernel->dev, kernel, sizeof *kernel);
}

static sparoa_status node_create(sparoa_dev *dev, const sparoa_node *node, sparoa_kernel **kernel,
                                 sparoa_error *err)
{
    char why[128];
    if (!node_supports(dev, node, why, sizeof why))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node, "%s", why);
    sparoa_kernel *k = emu_host_alloc(dev, sizeof *k);
    if (!k) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for its kernel");
    k->dev = dev;
    k->op = dev->host->operator_of(dev->host, node);
    sparoa_status status = SPAROA_OK;
    if (k->op->create) status = k->op->create(node, &dev->host->allocator, &k->state, err);
    if (status != SPAROA_OK)
        node_destroy(k);
    else
        *kernel = k;
    return status;
}

static const char *node_variant(const sparoa_kernel *kernel)
{
    (void)kernel;
    return "reference";
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
    return true;
}

static sparoa_status node_prepare(sparoa_kernel *kernel, const sparoa_node *node,
                                  sparoa_prepared **prepared, size_t *workspace, sparoa_error *err)
{
    sparoa_prepared *p = *prepared;
    if (!p) p = emu_host_alloc(kernel->dev, sizeof *p);
    if (!p) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to prepare it");
    p->workspace = kernel->op->workspace ? kernel->op->workspace(node, 1) : 0;
    *workspace = p->workspace;
    *prepared = p;
    return SPAROA_OK;
}

static void prepared_destroy(sparoa_kernel *kernel, sparoa_prepared *prepared)
{
    if (prepared) emu_host_free(kernel->dev, prepared, sizeof *prepared);
}

__attribute__((visibility("default"))) const sparoa_backend *
sparoa_backend_query(const sparoa_host *host);

const sparoa_backend *sparoa_backend_query(const sparoa_host *host)
{
    static const sparoa_backend table = {
        .struct_size = sizeof(sparoa_backend),
        .abi = SPAROA_BACKEND_ABI,
        .name = "emu",
        .version = "0.1.0",
        .probe = probe,
        .device_count = device_count,
        .device_open = device_open,
        .device_close = device_close,
        .device_info = device_info,
        .device_status = device_status,
        .buffer_alloc = emu_buffer_alloc,
        .buffer_free = emu_buffer_free,
        .queue_create = emu_queue_create,
        .queue_destroy = emu_queue_destroy,
        .queue_sync = emu_queue_sync,
        .copy = emu_copy,
        .host_call = emu_host_call,
        .event_create = emu_event_create,
        .event_destroy = emu_event_destroy,
        .event_record = emu_event_record,
        .event_wait = emu_event_wait,
        .event_sync = emu_event_sync,
        .event_done = emu_event_done,
        .event_elapsed_ns = emu_event_elapsed_ns,
        .node_supports = node_supports,
        .node_create = node_create,
        .node_variant = node_variant,
        .node_bytes = node_bytes,
        .node_keeps_input = node_keeps_input,
        .node_prepare = node_prepare,
        .node_run = emu_node_run,
        .prepared_destroy = prepared_destroy,
        .node_destroy = node_destroy,
        .capture_begin = emu_capture_begin,
        .capture_end = emu_capture_end,
        .capture_launch = emu_capture_launch,
        .capture_destroy = emu_capture_destroy,
        .describe = describe,
        .event_sync_for = emu_event_sync_for,
    };
    bool fits = host->struct_size >= sizeof *host && host->abi == SPAROA_BACKEND_ABI;
    return fits ? &table : NULL;
}
