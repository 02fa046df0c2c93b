#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "api/objects.h"
#include "backends/cpu/backend.h"
#include "onnx/load.h"
#include "ops/chain.h"
#include "ops/op.h"

#define MAX_THREADS 1024
#define DEFAULT_SPIN_US 100 /* waking a worker takes about half as long */

bool sp_read_options(void *to, size_t size, const void *from)
{
    size_t given;
    memset(to, 0, size);
    if (!from) return true;
    memcpy(&given, from, sizeof given); /* struct_size is the first field of every options struct */
    if (given < sizeof given) return false;
    memcpy(to, from, given < size ? given : size);
    return true;
}

static int32_t usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int32_t)n : 1;
}

static const sparoa_op *operator_of(const sparoa_host *host, const sparoa_node *node)
{
    return sp_op_find(node->domain, node->op, node->version, host->operators, host->operator_count);
}

static void host_log(void *user, sparoa_log_level level, const char *line)
{
    sp_log_line(user, level, "%s", line);
}

static void host_parallel(void *pool, int32_t count, void (*task)(void *arg, int32_t i), void *arg)
{
    sp_pool_run(pool, count, task, arg);
}

static sparoa_status check_options(const sparoa_runtime_options *o, sparoa_error *err)
{
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "threads=%d; expected 0 to %d",
                           o->threads, MAX_THREADS);
    if (o->spin_us < 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "spin_us=%d; expected 0 or more",
                           o->spin_us);
    if ((o->allocator.alloc == NULL) != (o->allocator.free == NULL))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "the allocator needs both alloc and free");
    if ((o->operator_count && !o->operators) || (o->affinity_count && !o->affinity))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "a list is NULL but its count is not 0");
    if (o->affinity_count < 0)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "affinity_count=%d; expected 0 or more", o->affinity_count);
    for (int32_t i = 0; i < o->affinity_count; i++)
        if (o->affinity[i] < 0 || o->affinity[i] >= CPU_SETSIZE)
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "affinity[%d]=%d; expected a CPU number from 0 to %d", i,
                               o->affinity[i], CPU_SETSIZE - 1);
    for (size_t i = 0; i < o->operator_count; i++) {
        const sparoa_op *op = o->operators[i];
        if (!op || op->struct_size < sizeof *op || !op->name || !op->domain || !op->infer ||
            !op->run)
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "operator %zu lacks struct_size, name, domain, infer or run", i);
    }
    return SPAROA_OK;
}

static void fill_host(sparoa_runtime *rt, const sparoa_runtime_options *o, int32_t threads)
{
    rt->host = (sparoa_host){.struct_size = sizeof rt->host,
                             .abi = SPAROA_BACKEND_ABI,
                             .allocator = rt->alloc,
                             .log_user = &rt->log,
                             .log = host_log,
                             .threads = threads,
                             .pool = rt->pool,
                             .parallel = host_parallel,
                             .operators = o->operators,
                             .operator_count = o->operator_count,
                             .operator_of = operator_of};
}

static sparoa_status open_cpu(sparoa_runtime *rt, bool reference, sp_device *device,
                              sparoa_error *err)
{
    char options[96] = "";
    snprintf(options, sizeof options, "%s,%s%.15s,%s%.15s,%s%.15s", reference ? "reference" : "",
             rt->knobs.isa ? "isa=" : "", rt->knobs.isa ? rt->knobs.isa : "",
             rt->knobs.sparse ? "sparse=" : "", rt->knobs.sparse ? rt->knobs.sparse : "",
             rt->knobs.join ? "join=" : "", rt->knobs.join ? rt->knobs.join : "");
    device->table = sp_cpu_backend();
    return device->table->device_open(&rt->host, 0, options, &device->dev, err);
}

sparoa_status sp_runtime_reference(sparoa_runtime *runtime, sp_device *device, sparoa_error *err)
{
    pthread_mutex_lock(&runtime->mutex);
    sparoa_status status = SPAROA_OK;
    if (!runtime->reference.dev) status = open_cpu(runtime, true, &runtime->reference, err);
    *device = runtime->reference;
    pthread_mutex_unlock(&runtime->mutex);
    return status;
}

static sparoa_status start_runtime(sparoa_runtime *rt, const sparoa_runtime_options *o,
                                   sparoa_error *err)
{
    int32_t threads = o->threads ? o->threads : usable_cores();
    sp_pool_options pool = {.threads = threads,
                            .spin_us = o->spin_us ? o->spin_us : DEFAULT_SPIN_US,
                            .affinity = o->affinity,
                            .affinity_count = o->affinity_count,
                            .parallel = o->parallel,
                            .parallel_user = o->parallel_user,
                            .trace = &rt->trace};
    SP_TRY(sp_pool_create(&pool, &rt->alloc, &rt->pool, err));
    fill_host(rt, o, threads);
    SP_TRY(open_cpu(rt, false, &rt->devices[0], err));
    snprintf(rt->names[0], sizeof rt->names[0], "cpu");
    rt->device_count = 1;
    return SPAROA_OK;
}

/* The runtime itself comes from the caller's allocator, before there is anything to count with. */
sparoa_status sparoa_runtime_create(const sparoa_runtime_options *options, sparoa_runtime **runtime,
                                    sparoa_error *err)
{
    sparoa_runtime_options o;
    if (!runtime) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "runtime is NULL");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    SP_TRY(check_options(&o, err));
    sp_mem first;
    sparoa_allocator base = sp_mem_init(&first, &o.allocator, 0);
    sparoa_runtime *rt = sp_calloc(&first.base, 1, sizeof *rt);
    if (!rt) return sp_no_memory(&base, sizeof *rt, err);
    atomic_init(&rt->refs, 1);
    rt->alloc = sp_mem_init(&rt->mem, &o.allocator, o.memory_limit);
    sp_trace_init(&rt->trace, &rt->alloc);
    rt->knobs = sp_knobs_read();
    rt->log = (sp_log){o.log, o.log_user, o.log_level};
    if (o.log_level == 0) rt->log.level = SPAROA_LOG_WARN;
    if (o.log_level == 0 && rt->knobs.log && rt->knobs.log[0] >= '0' && rt->knobs.log[0] <= '4')
        rt->log.level = (sparoa_log_level)(rt->knobs.log[0] - '0');
    pthread_mutex_init(&rt->mutex, NULL);
    sparoa_status status = start_runtime(rt, &o, err);
    if (status != SPAROA_OK)
        sp_runtime_unref(rt);
    else
        *runtime = rt;
    return status;
}

void sp_runtime_ref(sparoa_runtime *runtime)
{
    atomic_fetch_add(&runtime->refs, 1);
}

void sp_runtime_unref(sparoa_runtime *runtime)
{
    if (!runtime || atomic_fetch_sub(&runtime->refs, 1) != 1) return;
    for (int32_t i = SP_MAX_DEVICES - 1; i >= 0; i--)
        if (runtime->devices[i].dev)
            runtime->devices[i].table->device_close(runtime->devices[i].dev);
    if (runtime->reference.dev) runtime->reference.table->device_close(runtime->reference.dev);
    sp_pool_destroy(runtime->pool);
    sp_trace_destroy(&runtime->trace);
    pthread_mutex_destroy(&runtime->mutex);
    sparoa_allocator base = runtime->mem.base;
    sp_free(&base, runtime, sizeof *runtime);
}

void sparoa_runtime_destroy(sparoa_runtime *runtime)
{
    sp_runtime_unref(runtime);
}

size_t sparoa_runtime_memory(const sparoa_runtime *runtime)
{
    return runtime ? atomic_load(&runtime->mem.used) : 0;
}

size_t sparoa_runtime_memory_peak(const sparoa_runtime *runtime)
{
    return runtime ? atomic_load(&runtime->mem.peak) : 0;
}

int32_t sparoa_runtime_threads(const sparoa_runtime *runtime)
{
    return runtime ? sp_pool_threads(runtime->pool) : 0;
}

/* ---- trace ---- */

#define DEFAULT_EVENTS 100000
#define MAX_EVENTS 100000000

sparoa_status sparoa_trace_start(sparoa_runtime *runtime, size_t max_events, sparoa_error *err)
{
    if (!runtime || max_events > MAX_EVENTS)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "runtime is NULL, or max_events is above %d", MAX_EVENTS);
    return sp_trace_start(&runtime->trace, max_events ? max_events : DEFAULT_EVENTS, err);
}

void sparoa_trace_stop(sparoa_runtime *runtime)
{
    if (runtime) sp_trace_stop(&runtime->trace);
}

size_t sparoa_trace_events(const sparoa_runtime *runtime, size_t *dropped)
{
    if (runtime) return sp_trace_count(&runtime->trace, dropped);
    if (dropped) *dropped = 0;
    return 0;
}

sparoa_status sparoa_trace_save(const sparoa_runtime *runtime, const char *path, sparoa_error *err)
{
    if (!runtime || !path)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "runtime or path is NULL");
    return sp_trace_save(&runtime->trace, path, err);
}

/* ---- tensors ---- */

sparoa_status sparoa_tensor_alloc(sparoa_runtime *runtime, sparoa_tensor *tensor, sparoa_error *err)
{
    if (!runtime || !tensor || tensor->rank > SPAROA_MAX_RANK || sparoa_tensor_count(tensor) < 0 ||
        !sparoa_dtype_size(tensor->dtype))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "the tensor needs an element type and known dimensions");
    size_t bytes = sparoa_tensor_bytes(tensor);
    void *data = sp_calloc(&runtime->alloc, bytes, 1);
    if (!data) return sp_no_memory(&runtime->alloc, bytes, err);
    tensor->data = data;
    return SPAROA_OK;
}

void sparoa_tensor_free(sparoa_runtime *runtime, sparoa_tensor *tensor)
{
    if (!runtime || !tensor) return;
    sp_free(&runtime->alloc, tensor->data, sparoa_tensor_bytes(tensor));
    *tensor = (sparoa_tensor){0};
}

sparoa_status sparoa_tensor_load_pb(sparoa_runtime *runtime, const char *path,
                                    sparoa_tensor *tensor, char *name, size_t name_size,
                                    sparoa_error *err)
{
    if (!runtime || !path || !tensor)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "runtime, path or tensor is NULL");
    return sp_onnx_load_tensor(path, &runtime->alloc, tensor, name, name_size, err);
}

const char *sparoa_operator_name(size_t index, int32_t *since, int32_t *until)
{
    size_t listed = 0;
    for (size_t i = 0; sp_op_table[i]; i++) {
        const char *domain = sp_op_table[i]->domain;
        if (domain && strcmp(domain, SP_CHAIN_DOMAIN) == 0)
            continue; /* made by passes, in no file */
        if (listed++ != index) continue;
        if (since) *since = sp_op_table[i]->since;
        if (until) *until = sp_op_table[i]->until;
        return sp_op_table[i]->name;
    }
    return NULL;
}
