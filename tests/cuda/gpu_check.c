/* Drives the CUDA plug-in through its table, without the engine: every family of operators on
 * random cases against the plain operator, the other slots, and measurements. Usage: gpu_check
 * PLUGIN [results.jsonl] [family]. Ends with 77 where the machine has no CUDA device. */
#include "gpu_check.h"

#include <dlfcn.h>
#include <time.h>

#define GUARD 512
#define POISON 0xa5

double gpu_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

bool gpu_expect(gpu_test *t, bool ok, const char *format, ...)
{
    if (ok) {
        t->passed++;
        return true;
    }
    va_list args;
    va_start(args, format);
    printf("FAIL %s: ", t->family);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    t->failed++;
    return false;
}

/* ---- the host that the plug-in sees ---- */

static void *host_alloc(void *user, size_t size, size_t align)
{
    __atomic_add_fetch((long *)user, 1, __ATOMIC_RELAXED);
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void host_free(void *user, void *ptr, size_t size)
{
    (void)size;
    if (ptr) __atomic_sub_fetch((long *)user, 1, __ATOMIC_RELAXED);
    free(ptr);
}

static int warnings; /* of launches or library calls that failed */

static void host_log(void *user, sparoa_log_level level, const char *line)
{
    (void)user;
    printf("log: %s\n", line);
    if (level <= SPAROA_LOG_WARN && strstr(line, "failed")) warnings++;
}

static void serial(const sparoa_exec *exec, int32_t count, void (*task)(void *arg, int32_t i),
                   void *arg)
{
    (void)exec;
    for (int32_t i = 0; i < count; i++) task(arg, i);
}

/* ---- placing a node ---- */

static void *device_memory(gpu_test *t, gpu_placed *p, size_t bytes)
{
    void *ptr = NULL;
    if (t->b->buffer_alloc(t->dev, bytes ? bytes : 1, SPAROA_MEMORY_DEVICE, &ptr) != SPAROA_OK)
        return NULL;
    p->buffers[p->n_buffers] = ptr;
    p->bytes[p->n_buffers++] = bytes ? bytes : 1;
    return ptr;
}

static bool place_tensors(gpu_test *t, gpu_node *g, gpu_placed *p, size_t guard)
{
    const sparoa_backend *b = t->b;
    for (int32_t i = 0; i < g->node.n_in; i++) {
        if (!g->in_list[i]) continue;
        p->in[i] = g->in[i];
        p->in_list[i] = &p->in[i];
        size_t bytes = sparoa_tensor_bytes(&g->in[i]);
        bool keeps = !g->constant[i] || b->node_keeps_input(p->kernel, i);
        p->in[i].data = keeps ? device_memory(t, p, bytes) : (void *)16; /* must not be read */
        if (keeps && bytes && b->copy(t->queue, p->in[i].data, g->in[i].data, bytes) != SPAROA_OK)
            return false;
    }
    for (int32_t i = 0; i < g->node.n_out; i++) {
        p->out[i] = g->out[i];
        p->out_list[i] = &p->out[i];
        size_t bytes = sparoa_tensor_bytes(&g->out[i]) + 2 * guard;
        char *ptr = device_memory(t, p, bytes);
        void *poison = malloc(bytes + 1);
        memset(poison, POISON, bytes);
        if (!ptr || b->copy(t->queue, ptr, poison, bytes) != SPAROA_OK) return false;
        b->queue_sync(t->queue);
        free(poison);
        p->out[i].data = ptr + guard;
    }
    return true;
}

bool gpu_place(gpu_test *t, gpu_node *g, gpu_placed *p, size_t guard)
{
    const sparoa_backend *b = t->b;
    sparoa_error err = {0};
    size_t workspace = 0;
    memset(p, 0, sizeof *p);
    p->node = g->node;
    p->node.in = p->in_list;
    p->node.out = p->out_list;
    sparoa_tensor host_in[GPU_PORTS], *host_list[GPU_PORTS] = {0};
    for (int32_t i = 0; i < g->node.n_in; i++) {
        if (!g->in_list[i]) continue;
        host_in[i] = g->in[i];
        if (!g->constant[i]) host_in[i].data = NULL;
        host_list[i] = &host_in[i];
    }
    sparoa_node view = g->node;
    view.in = host_list;
    if (!gpu_expect(t, b->node_create(t->dev, &view, &p->kernel, &err) == SPAROA_OK, "create: %s",
                    err.message))
        return false;
    if (!gpu_expect(t,
                    b->node_prepare(p->kernel, &view, &p->prepared, &workspace, &err) == SPAROA_OK,
                    "prepare: %s", err.message))
        return false;
    if (!gpu_expect(t, place_tensors(t, g, p, guard), "placing tensors")) return false;
    if (workspace) p->workspace = device_memory(t, p, workspace);
    return gpu_expect(t, !workspace || p->workspace, "no memory for %zu bytes of workspace",
                      workspace);
}

void gpu_unplace(gpu_test *t, gpu_placed *p)
{
    for (int i = 0; i < p->n_buffers; i++)
        t->b->buffer_free(t->dev, p->buffers[i], p->bytes[i], SPAROA_MEMORY_DEVICE);
    if (p->kernel && p->prepared) t->b->prepared_destroy(p->kernel, p->prepared);
    if (p->kernel) t->b->node_destroy(p->kernel);
}

/* ---- comparing ---- */

static void describe(const gpu_node *g, char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "%s-%d", g->node.op, g->node.version);
    for (int32_t i = 0; i < g->node.n_in; i++) {
        if (!g->in_list[i]) continue;
        n += (size_t)snprintf(text + n, size - n, " %s[", sparoa_dtype_name(g->in[i].dtype));
        for (int32_t d = 0; d < g->in[i].rank; d++)
            n += (size_t)snprintf(text + n, size - n, d ? ",%lld" : "%lld",
                                  (long long)g->in[i].dims[d]);
        n += (size_t)snprintf(text + n, size - n, "]");
    }
    for (int32_t i = 0; i < g->node.n_attrs && n + 80 < size; i++) {
        const sparoa_attr *a = &g->node.attrs[i];
        n += (size_t)snprintf(text + n, size - n, " %s=", a->name);
        if (a->type == SPAROA_ATTR_INT)
            n += (size_t)snprintf(text + n, size - n, "%lld", (long long)a->v.i);
        if (a->type == SPAROA_ATTR_FLOAT)
            n += (size_t)snprintf(text + n, size - n, "%g", (double)a->v.f);
        if (a->type == SPAROA_ATTR_STRING)
            n += (size_t)snprintf(text + n, size - n, "%.20s", a->v.s);
        for (size_t k = 0; a->type == SPAROA_ATTR_INTS && k < a->count; k++)
            n +=
                (size_t)snprintf(text + n, size - n, k ? ",%lld" : "%lld", (long long)a->v.ints[k]);
    }
}

/* Largest difference over what is allowed; above 1 is a failure. NaN must meet NaN. */
static double excess(const gpu_test *t, double magnitude, const sparoa_tensor *want,
                     const sparoa_tensor *got, sparoa_tolerance tolerance, int64_t *where)
{
    double worst = 0, largest = magnitude;
    bool floats = sp_is_float(want->dtype);
    if (!floats || tolerance == SPAROA_TOL_EXACT) {
        size_t size = sparoa_dtype_size(want->dtype);
        for (int64_t i = 0; i < sp_count(want); i++) {
            const char *a = (const char *)want->data + (size_t)i * size;
            const char *c = (const char *)got->data + (size_t)i * size;
            bool same =
                floats ? sp_get_f64(want, i) == sp_get_f64(got, i) : memcmp(a, c, size) == 0;
            if (floats && isnan(sp_get_f64(want, i))) same = isnan(sp_get_f64(got, i));
            if (same) continue;
            *where = i;
            return INFINITY;
        }
        return 0;
    }
    for (int64_t i = 0; i < sp_count(want); i++) {
        double v = fabs(sp_get_f64(want, i));
        if (v > largest && !isinf(v)) largest = v;
    }
    double sums = t->tf32 || want->dtype == SPAROA_FLOAT16 ? 2e-3 : 2e-5;
    for (int64_t i = 0; i < sp_count(want); i++) {
        double w = sp_get_f64(want, i), v = sp_get_f64(got, i);
        double allowed =
            tolerance == SPAROA_TOL_SUM ? sums * (largest + 1e-3) : 3e-6 * (fabs(w) + 0.1);
        double over = w == v || (isnan(w) && isnan(v)) ? 0 : fabs(w - v) / allowed;
        if (!(over <= worst)) {
            worst = isnan(over) ? INFINITY : over;
            *where = i;
        }
    }
    return worst;
}

/* Fetches output i with its guards; true if those are untouched. */
static bool fetch(gpu_test *t, gpu_placed *p, int32_t i, sparoa_tensor *got)
{
    size_t bytes = sparoa_tensor_bytes(&p->out[i]);
    char *all = malloc(bytes + 2 * GUARD);
    bool ok =
        t->b->copy(t->queue, all, (char *)p->out[i].data - GUARD, bytes + 2 * GUARD) == SPAROA_OK &&
        t->b->queue_sync(t->queue) == SPAROA_OK;
    for (size_t k = 0; k < GUARD && ok; k++)
        ok = (unsigned char)all[k] == POISON && (unsigned char)all[GUARD + bytes + k] == POISON;
    *got = p->out[i];
    got->data = malloc(bytes + 1);
    memcpy(got->data, all + GUARD, bytes);
    free(all);
    return ok;
}

static bool reference(gpu_test *t, gpu_node *g, const sparoa_op *op)
{
    sparoa_error err = {0};
    if (!gpu_expect(t, op->infer(&g->node, &err) == SPAROA_OK, "infer: %s", err.message))
        return false;
    for (int32_t i = 0; i < g->node.n_out; i++)
        g->out[i].data = malloc(sparoa_tensor_bytes(&g->out[i]) + 1);
    sparoa_exec exec = {.threads = 1, .parallel = serial, .err = &err};
    exec.workspace = aligned_alloc(64, (sp_op_workspace(op, &g->node, 1) + 127) / 64 * 64);
    bool ok = sp_op_run(op, &g->node, &exec) == SPAROA_OK;
    free(exec.workspace);
    return gpu_expect(t, ok, "plain operator: %s", err.message);
}

static void run_and_compare(gpu_test *t, gpu_node *g, const sparoa_op *op, const char *text)
{
    gpu_placed p;
    sparoa_error err = {0};
    bool ok = gpu_place(t, g, &p, GUARD);
    for (int times = 0; ok && times < 2; times++) /* the second finds what the first left behind */
        ok = gpu_expect(
            t,
            t->b->node_run(p.kernel, p.prepared, t->queue, &p.node, p.workspace, &err) == SPAROA_OK,
            "%s: run: %s", text, err.message);
    if (ok)
        ok = gpu_expect(t, t->b->queue_sync(t->queue) == SPAROA_OK, "%s: the queue failed", text);
    for (int32_t i = 0; ok && i < g->node.n_out; i++) {
        sparoa_tensor got;
        int64_t at = 0;
        gpu_expect(t, fetch(t, &p, i, &got), "%s: output %d: written outside", text, i);
        double over = excess(t, g->magnitude, &g->out[i], &got, op->tolerance, &at);
        gpu_expect(t, over <= 1, "%s (%s): output %d[%lld] is %.9g, expected %.9g (%.3g allowed)",
                   text, t->b->node_variant(p.kernel), i, (long long)at,
                   sp_count(&got) ? sp_get_f64(&got, at) : 0,
                   sp_count(&got) ? sp_get_f64(&g->out[i], at) : 0, over);
        free(got.data);
    }
    gpu_unplace(t, &p);
}

void gpu_compare(gpu_test *t, gpu_node *g)
{
    char why[200] = "", text[900];
    const sparoa_op *op = sp_op_find(g->node.domain, g->node.op, g->node.version, NULL, 0);
    describe(g, text, sizeof text);
    if (!gpu_expect(t, op != NULL, "%s: no such operator", text)) return;
    if (!reference(t, g, op)) {
        printf("  in %s\n", text);
        gpu_free(g);
        return;
    }
    void *data[GPU_PORTS];
    for (int32_t i = 0; i < g->node.n_in; i++) {
        data[i] = g->in[i].data;
        if (!g->constant[i]) g->in[i].data = NULL;
    }
    bool supported = t->b->node_supports(t->dev, &g->node, why, sizeof why);
    for (int32_t i = 0; i < g->node.n_in; i++) g->in[i].data = data[i];
    if (gpu_expect(t, supported, "%s: refused: %s", text, why))
        run_and_compare(t, g, op, text);
    else
        t->refused++;
    gpu_free(g);
}

static void run_family(gpu_test *t, const gpu_family *f)
{
    int failed = t->failed, passed = t->passed;
    t->family = f->name;
    for (int i = 0; i < f->times; i++) {
        gpu_node g = {.seed = (uint64_t)i + 1};
        for (int k = 0; k < 5; k++) gpu_random(&g);
        if (strcmp(f->name, "unary") == 0) g.seed = (uint64_t)i;
        f->run(t, &g);
    }
    gpu_expect(t, warnings == 0, "%d warnings of something that failed", warnings);
    warnings = 0;
    printf("%-16s %5d passed %4d failed\n", f->name, t->passed - passed, t->failed - failed);
    fflush(stdout);
}

static void run_families(gpu_test *t, const char *only)
{
    static const gpu_family *const lists[] = {gpu_families_elements, gpu_families_images,
                                              gpu_families_quant};
    for (int i = 0; i < 3; i++)
        for (const gpu_family *f = lists[i]; f->name; f++)
            if (!only || strcmp(only, f->name) == 0) run_family(t, f);
}

static bool open_device(gpu_test *t, const char *options)
{
    sparoa_error err = {0};
    if (t->b->device_open(&t->host, 0, options, &t->dev, &err) != SPAROA_OK) {
        printf("device_open: %s\n", err.message);
        return false;
    }
    return t->b->queue_create(t->dev, 0, &t->queue) == SPAROA_OK;
}

static void close_device(gpu_test *t)
{
    t->b->queue_destroy(t->queue);
    t->b->device_close(t->dev);
    gpu_expect(t, t->live == 0, "%ld host allocations were not given back", t->live);
}

/* Products with more and more zeros in their weights, against the dense ways. */
static int sweep(const gpu_test *t, const char *path)
{
    static const char *const options[GPU_SIDES] = {NULL, "sparse=0", "sparse=own",
                                                   "sparse=cusparse"};
    static gpu_test tests[GPU_SIDES];
    FILE *out = fopen(path, "w");
    bool ok = out != NULL;
    for (int i = 0; i < GPU_SIDES && ok; i++) {
        tests[i] = *t;
        ok = open_device(&tests[i], options[i]);
    }
    if (ok) gpu_sweep(tests, out);
    if (out) fclose(out);
    return !ok;
}

/* Every shape of the kernels that have several. */
static bool check_ways(gpu_test *t)
{
    enum { WAYS = 6 };
    for (int i = 0; i < 2 * WAYS; i++) {
        char options[32];
        t->tf32 = i % 2;
        snprintf(options, sizeof options, "way=%d,tf32=%d", i / 2, i % 2);
        printf("== options %s\n", options);
        if (!open_device(t, options)) return false;
        run_families(t, "conv_light");
        close_device(t);
    }
    return true;
}

int main(int argc, char **argv)
{
    gpu_test t = {.family = "start"};
    void *plugin = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!plugin) {
        printf("usage: gpu_check PLUGIN [results] [family]; %s\n", argc > 1 ? dlerror() : "");
        return 2;
    }
    sparoa_backend_query_fn query;
    *(void **)&query = dlsym(plugin, "sparoa_backend_query");
    t.host = (sparoa_host){.struct_size = sizeof t.host,
                           .abi = SPAROA_BACKEND_ABI,
                           .threads = 1,
                           .allocator = {&t.live, host_alloc, host_free},
                           .log = host_log};
    t.b = query ? query(&t.host) : NULL;
    if (!t.b) return 2;
    sparoa_error why = {0};
    if (t.b->probe(&t.host, &why) != SPAROA_OK) {
        printf("no device: %s\n", why.message);
        return 77;
    }
    const char *only = argc > 3 ? argv[3] : NULL;
    if (only && strcmp(only, "zeros") == 0) return sweep(&t, argv[2]);
    static const char *const options[] = {NULL,     "autotune=0", "own=1",
                                          "tf32=1", "sparse=own", "sparse=cusparse"};
    for (int i = 0; i < 6; i++) {
        const char *o = options[i];
        printf("== options %s\n", o ? o : "(none)");
        if (!open_device(&t, o)) return 1;
        t.tf32 = i == 3;
        if (i == 0 || only) {
            run_families(&t, only);
            if (!only) gpu_check_slots(&t);
        } else {
            static const char *const some[] = {"conv", "gemm", "matmul", "attention"};
            for (int k = 0; i < 4 && k < COUNT(some); k++) run_families(&t, some[k]);
            if (i > 3) run_families(&t, "sparse");
        }
        close_device(&t);
    }
    if ((!only || strcmp(only, "conv_light") == 0) && !check_ways(&t)) return 1;
    FILE *out = argc > 2 ? fopen(argv[2], "w") : NULL;
    for (int i = 0; i < 4 && !only; i++)
        if (open_device(&t, options[i])) {
            gpu_bench(&t, options[i] ? options[i] : "", out ? out : stdout);
            close_device(&t);
        }
    if (out) fclose(out);
    printf("%d passed, %d failed, %d refused\n", t.passed, t.failed, t.refused);
    return t.failed != 0;
}
