#include "backends/cpu/backend.h"

#include <unistd.h>

#include "backends/cpu/describe.h"
#include "backends/cpu/kernel.h"
#include "base/mem.h"
#include "ops/op.h"

struct sparoa_dev {
    sp_cpu_host host;
    const sparoa_host *engine;
    bool reference;
};

struct sparoa_queue {
    sparoa_dev *dev;
};

/* One of row and op runs the node. */
struct sparoa_kernel {
    sparoa_dev *dev;
    const sp_cpu_kernel_row *row;
    const sparoa_op *op;
    const char *variant;
    void *state;
};

/* ---- device ---- */

static sparoa_status cpu_probe(const sparoa_host *host, sparoa_error *why)
{
    (void)host;
    (void)why;
    return SPAROA_OK;
}

static int32_t cpu_device_count(const sparoa_host *host)
{
    (void)host;
    return 1;
}

static void cpu_device_close(sparoa_dev *dev)
{
    if (!dev) return;
    sparoa_allocator a = dev->host.allocator;
    if (dev->host.cache) sp_cpu_packcache_destroy(dev->host.cache);
    sp_free(&a, dev, sizeof *dev);
}

/* What follows "key=" among the options, up to the next comma; NULL: not there. */
static const char *value_of(const char *options, const char *key, int *length)
{
    const char *at = options ? strstr(options, key) : NULL;
    if (!at) return NULL;
    at += strlen(key);
    size_t have = strcspn(at, ",");
    *length = have > 40 ? 40 : (int)have;
    return at;
}

/* "key=auto", "key=never" or "key=always" among the options. */
static sparoa_status read_when(const char *options, const char *key, sp_when *when,
                               sparoa_error *err)
{
    static const char *const names[] = {"auto", "never", "always"};
    int length = 0;
    const char *at = value_of(options, key, &length);
    if (!at) return SPAROA_OK;
    for (int i = 0; i < 3; i++)
        if (strlen(names[i]) == (size_t)length && strncmp(at, names[i], (size_t)length) == 0) {
            *when = (sp_when)i;
            return SPAROA_OK;
        }
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                       "cpu option %s: expected auto, never or always, not '%.*s'", key, length,
                       at);
}

/* The kernels of the instruction set that the options name, else the best ones. */
static sparoa_status read_isa(const char *options, const sp_kernels **kernels, sparoa_error *err)
{
    char isa[48] = "", known[64];
    int length = 0;
    const char *at = value_of(options, "isa=", &length);
    if (at) snprintf(isa, sizeof isa, "%.*s", length, at);
    *kernels = sp_cpu_kernels(isa);
    if (*kernels) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_DEVICE_UNAVAILABLE, NULL,
                       "this machine has no instruction set '%s', it has %s", isa,
                       sp_cpu_isas(known, sizeof known));
}

/* By the processor's own word, without reading files. */
static size_t l2_bytes(void)
{
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? (size_t)bytes : 0;
}

static sparoa_status cpu_device_open(const sparoa_host *host, int32_t index, const char *options,
                                     sparoa_dev **dev, sparoa_error *err)
{
    const sp_kernels *kernels = NULL;
    sp_when sparse = SP_WHEN_FASTER, join = SP_WHEN_FASTER;
    if (index != 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "cpu device %d: there is one",
                           index);
    SP_TRY(read_isa(options, &kernels, err));
    SP_TRY(read_when(options, "sparse=", &sparse, err));
    SP_TRY(read_when(options, "join=", &join, err));
    sparoa_dev *d = sp_calloc(&host->allocator, 1, sizeof *d);
    if (!d) return sp_no_memory(&host->allocator, sizeof *d, err);
    d->engine = host;
    d->reference = options && strstr(options, "reference");
    d->host = (sp_cpu_host){.allocator = host->allocator,
                            .threads = host->threads,
                            .kernels = kernels,
                            .engine = host,
                            .sparse = sparse,
                            .join = join,
                            .l2_bytes = l2_bytes()};
    d->host.cache = sp_cpu_packcache_create(&d->host.allocator);
    if (!d->host.cache) {
        cpu_device_close(d);
        return sp_no_memory(&host->allocator, sizeof *d, err);
    }
    *dev = d;
    return SPAROA_OK;
}

static void cpu_device_info(const sparoa_dev *dev, sparoa_device_info *info)
{
    *info = (sparoa_device_info){
        .struct_size = sizeof *info, .kind = SPAROA_DEVICE_CPU, .alignment = SP_ALIGN};
    info->caps = SPAROA_CAP_HOST_MEMORY;
    snprintf(info->name, sizeof info->name, "cpu");
    sparoa_device_desc desc;
    sp_cpu_describe(&dev->host, &desc);
    snprintf(info->description, sizeof info->description, "%s", desc.description);
    info->memory_bytes = desc.memory_bytes;
}

static void cpu_describe(const sparoa_dev *dev, sparoa_device_desc *desc)
{
    sp_cpu_describe(&dev->host, desc);
}

static sparoa_status cpu_buffer_alloc(sparoa_dev *dev, size_t bytes, sparoa_memory_kind kind,
                                      void **ptr)
{
    (void)kind;
    void *p = sp_alloc(&dev->host.allocator, bytes);
    if (!p) return SPAROA_OUT_OF_MEMORY;
    *ptr = p;
    return SPAROA_OK;
}

static void cpu_buffer_free(sparoa_dev *dev, void *ptr, size_t bytes, sparoa_memory_kind kind)
{
    (void)kind;
    sp_free(&dev->host.allocator, ptr, bytes);
}

/* ---- queue: everything happens at once ---- */

static sparoa_status cpu_queue_create(sparoa_dev *dev, int32_t priority, sparoa_queue **queue)
{
    (void)priority;
    sparoa_queue *q = sp_alloc(&dev->host.allocator, sizeof *q);
    if (!q) return SPAROA_OUT_OF_MEMORY;
    q->dev = dev;
    *queue = q;
    return SPAROA_OK;
}

static void cpu_queue_destroy(sparoa_queue *queue)
{
    if (queue) sp_free(&queue->dev->host.allocator, queue, sizeof *queue);
}

static sparoa_status cpu_queue_sync(sparoa_queue *queue)
{
    (void)queue;
    return SPAROA_OK;
}

static sparoa_status cpu_copy(sparoa_queue *queue, void *dst, const void *src, size_t bytes)
{
    (void)queue;
    if (bytes) memmove(dst, src, bytes);
    return SPAROA_OK;
}

static sparoa_status cpu_host_call(sparoa_queue *queue, void (*fn)(void *arg), void *arg)
{
    (void)queue;
    fn(arg);
    return SPAROA_OK;
}

/* ---- kernels ---- */

static bool cpu_node_supports(sparoa_dev *dev, const sparoa_node *node, char *why, size_t why_size)
{
    if (dev->engine->operator_of(dev->engine, node)) return true;
    snprintf(why, why_size, "there is no operator %s of version %d", node->op, node->version);
    return false;
}

static void cpu_node_destroy(sparoa_kernel *kernel)
{
    if (!kernel) return;
    sparoa_dev *dev = kernel->dev;
    if (kernel->row && kernel->row->destroy && kernel->state)
        kernel->row->destroy(kernel->state, &dev->host);
    if (kernel->op && kernel->op->destroy && kernel->state)
        kernel->op->destroy(kernel->state, &dev->host.allocator);
    sp_free(&dev->host.allocator, kernel, sizeof *kernel);
}

/* An operator of the application always runs its own code. */
static bool is_own(const sparoa_node *node, const sparoa_op *op)
{
    return sp_op_find(node->domain, node->op, node->version, NULL, 0) == op;
}

static sparoa_status cpu_node_create(sparoa_dev *dev, const sparoa_node *node,
                                     sparoa_kernel **kernel, sparoa_error *err)
{
    const sparoa_op *op = dev->engine->operator_of(dev->engine, node);
    sparoa_kernel *k = sp_calloc(&dev->host.allocator, 1, sizeof *k);
    if (!k) return sp_no_memory(&dev->host.allocator, sizeof *k, err);
    k->dev = dev;
    sparoa_status status = SPAROA_OK;
    const sp_cpu_kernel_row *row = dev->reference || !is_own(node, op)
                                       ? NULL
                                       : sp_cpu_kernel_find(&dev->host, node, &k->variant);
    if (row) {
        k->row = row;
        if (row->create) status = row->create(node, &dev->host, &k->state, err);
    } else {
        k->op = op;
        k->variant = "reference";
        if (op->create) status = op->create(node, &dev->host.allocator, &k->state, err);
    }
    if (status != SPAROA_OK)
        cpu_node_destroy(k);
    else
        *kernel = k;
    return status;
}

static sparoa_status cpu_nodes_join(sparoa_dev *dev, sparoa_kernel *const *kernels,
                                    const sparoa_node *const *nodes, int32_t count, bool lane,
                                    bool kept, sparoa_kernel **kernel, sparoa_error *err)
{
    const sp_cpu_kernel_row *row = NULL, *rows[SPAROA_JOIN_MAX];
    void *state, *states[SPAROA_JOIN_MAX];
    sp_cpu_host host = dev->host;
    if (lane) host.threads = 1;
    *kernel = NULL;
    if (host.join == SP_WHEN_NEVER || count > SPAROA_JOIN_MAX) return SPAROA_OK;
    for (int32_t i = 0; i < count; i++) {
        if (kernels[i]->op && !is_own(nodes[i], kernels[i]->op)) return SPAROA_OK;
        rows[i] = kernels[i]->row;
        states[i] = kernels[i]->state;
    }
    SP_TRY(sp_cpu_join(&host, rows, states, nodes, count, kept, &row, &state, err));
    if (!state) return SPAROA_OK;
    sparoa_kernel *k = sp_calloc(&dev->host.allocator, 1, sizeof *k);
    if (!k) {
        row->destroy(state, &dev->host);
        return sp_no_memory(&dev->host.allocator, sizeof *k, err);
    }
    *k = (sparoa_kernel){.dev = dev, .row = row, .state = state};
    k->variant = dev->host.kernels->conv_name;
    *kernel = k;
    return SPAROA_OK;
}

static const char *cpu_node_variant(const sparoa_kernel *kernel)
{
    return kernel->variant;
}

static size_t cpu_node_bytes(const sparoa_kernel *kernel)
{
    return kernel->row && kernel->row->bytes ? kernel->row->bytes(kernel->state) : 0;
}

static bool cpu_node_keeps_input(const sparoa_kernel *kernel, int32_t input)
{
    return !kernel->row || !kernel->row->keeps_input ||
           kernel->row->keeps_input(kernel->state, input);
}

static sparoa_status prepare_for(const sp_cpu_host *host, sparoa_kernel *kernel,
                                 const sparoa_node *node, sparoa_prepared **prepared,
                                 size_t *workspace, sparoa_error *err)
{
    *workspace = 0;
    if (kernel->op) {
        *workspace = sp_op_workspace(kernel->op, node, host->threads);
        return SPAROA_OK;
    }
    if (!kernel->row->prepare) return SPAROA_OK;
    void *p = *prepared;
    SP_TRY(kernel->row->prepare(kernel->state, host, node, &p, workspace, err));
    *prepared = p;
    return SPAROA_OK;
}

static sparoa_status cpu_node_prepare(sparoa_kernel *kernel, const sparoa_node *node,
                                      sparoa_prepared **prepared, size_t *workspace,
                                      sparoa_error *err)
{
    return prepare_for(&kernel->dev->host, kernel, node, prepared, workspace, err);
}

static sparoa_status cpu_node_prepare_lane(sparoa_kernel *kernel, const sparoa_node *node,
                                           sparoa_prepared **prepared, size_t *workspace,
                                           sparoa_error *err)
{
    sp_cpu_host alone = kernel->dev->host;
    alone.threads = 1;
    return prepare_for(&alone, kernel, node, prepared, workspace, err);
}

static void cpu_parallel(const sparoa_exec *exec, int32_t count, void (*task)(void *arg, int32_t i),
                         void *arg)
{
    const sparoa_host *engine = exec->pool;
    engine->parallel(engine->pool, count, task, arg);
}

static sparoa_status cpu_node_run(sparoa_kernel *kernel, sparoa_prepared *prepared,
                                  sparoa_queue *queue, const sparoa_node *node, void *workspace,
                                  sparoa_error *err)
{
    sparoa_dev *dev = queue->dev;
    sparoa_exec exec = {.state = kernel->state,
                        .workspace = workspace,
                        .threads = dev->host.threads,
                        .parallel = cpu_parallel,
                        .pool = (void *)dev->engine,
                        .err = err};
    if (kernel->op) return sp_op_run(kernel->op, node, &exec);
    return kernel->row->run(kernel->state, prepared, &dev->host, node, &exec);
}

static void run_alone(const sparoa_exec *exec, int32_t count, void (*task)(void *arg, int32_t i),
                      void *arg)
{
    (void)exec;
    for (int32_t i = 0; i < count; i++) task(arg, i);
}

static sparoa_status cpu_node_run_lane(sparoa_kernel *kernel, sparoa_prepared *prepared,
                                       const sparoa_node *node, void *workspace, sparoa_error *err)
{
    sp_cpu_host alone = kernel->dev->host;
    alone.threads = 1;
    sparoa_exec exec = {.state = kernel->state,
                        .workspace = workspace,
                        .threads = 1,
                        .parallel = run_alone,
                        .err = err};
    if (kernel->op) return sp_op_run(kernel->op, node, &exec);
    return kernel->row->run(kernel->state, prepared, &alone, node, &exec);
}

static void cpu_prepared_destroy(sparoa_kernel *kernel, sparoa_prepared *prepared)
{
    if (kernel->row && kernel->row->prepared_destroy)
        kernel->row->prepared_destroy(kernel->state, &kernel->dev->host, prepared);
}

static sparoa_status cpu_measure(sparoa_dev *dev, int32_t milliseconds, sparoa_device_peak *peak,
                                 sparoa_error *err)
{
    return sp_cpu_measure(&dev->host, dev->engine, milliseconds, peak, err);
}

const sparoa_backend *sp_cpu_backend(void)
{
    static const sparoa_backend table = {
        .struct_size = sizeof(sparoa_backend),
        .abi = SPAROA_BACKEND_ABI,
        .name = "cpu",
        .version = "0.1.0",
        .probe = cpu_probe,
        .device_count = cpu_device_count,
        .device_open = cpu_device_open,
        .device_close = cpu_device_close,
        .device_info = cpu_device_info,
        .buffer_alloc = cpu_buffer_alloc,
        .buffer_free = cpu_buffer_free,
        .queue_create = cpu_queue_create,
        .queue_destroy = cpu_queue_destroy,
        .queue_sync = cpu_queue_sync,
        .copy = cpu_copy,
        .host_call = cpu_host_call,
        .node_supports = cpu_node_supports,
        .node_create = cpu_node_create,
        .node_variant = cpu_node_variant,
        .node_bytes = cpu_node_bytes,
        .node_keeps_input = cpu_node_keeps_input,
        .node_prepare = cpu_node_prepare,
        .node_run = cpu_node_run,
        .prepared_destroy = cpu_prepared_destroy,
        .node_destroy = cpu_node_destroy,
        .measure = cpu_measure,
        .describe = cpu_describe,
        .node_prepare_lane = cpu_node_prepare_lane,
        .node_run_lane = cpu_node_run_lane,
        .nodes_join = cpu_nodes_join,
    };
    return &table;
}
