/* QuantizeLinear of float32 to 8 bits by one scale, and DynamicQuantizeLinear. */
#include "ops/quant.h"

#include "backends/cpu/kernel.h"

#define GRAIN 65536 /* elements worth another thread */

typedef struct quantize_task {
    const sp_kernels *kernels;
    sp_quantize_f32 q;
    const float *x;
    uint8_t *y;
} quantize_task;

static void quantize_piece(void *arg, int64_t begin, int64_t end)
{
    const quantize_task *t = arg;
    t->kernels->quantize_f32((size_t)(end - begin), &t->q, t->x + begin, t->y + begin);
}

static const char *quantize_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0], *scale = sparoa_in(node, 1), *zero = sparoa_in(node, 2);
    if (!x || !scale || node->n_out < 1 || !node->out[0]) return NULL;
    const sparoa_dtype to = node->out[0]->dtype;
    if (x->dtype != SPAROA_FLOAT32 || scale->dtype != SPAROA_FLOAT32) return NULL;
    if (to != SPAROA_UINT8 && to != SPAROA_INT8) return NULL;
    if (!sp_known(scale) || sp_count(scale) != 1 || sparoa_attr_int(node, "block_size", 0) != 0)
        return NULL;
    return !zero || (sp_known(zero) && sp_count(zero) == 1) ? host->kernels->name : NULL;
}

static sparoa_status quantize_run(void *state, void *prepared, const sp_cpu_host *host,
                                  const sparoa_node *node, const sparoa_exec *exec)
{
    quantize_task t = {.kernels = host->kernels,
                       .q = {.scale = sp_q_scale(node, 1, 0), .zero = sp_q_zero(node, 2, 0)},
                       .x = node->in[0]->data,
                       .y = node->out[0]->data};
    sp_q_range(node->out[0]->dtype, &t.q.lo, &t.q.hi);
    sp_parallel_for(exec, sp_count(node->in[0]), GRAIN, quantize_piece, &t);
    return SPAROA_OK;
}

/* ONNX QuantizeLinear, all versions, and com.microsoft's. */
SP_CPU_KERNEL(QuantizeLinear) = {
    .op = "QuantizeLinear", .domain = "", .supports = quantize_supports, .run = quantize_run};
SP_CPU_KERNEL(QuantizeLinear_ms) = {.op = "QuantizeLinear",
                                    .domain = "com.microsoft",
                                    .supports = quantize_supports,
                                    .run = quantize_run};

#define PARTS 64 /* whose ranges are found by themselves */

typedef struct range_task {
    const sp_kernels *kernels;
    const float *x;
    int64_t n, part;
    float least[PARTS], most[PARTS];
} range_task;

static void range_piece(void *arg, int64_t begin, int64_t end)
{
    range_task *t = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i * t->part, left = t->n - at;
        t->kernels->range_f32((size_t)(left < t->part ? left : t->part), t->x + at, &t->least[i],
                              &t->most[i]);
    }
}

static const char *dynamic_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    bool fits = node->in[0] && node->in[0]->dtype == SPAROA_FLOAT32;
    return fits ? host->kernels->name : NULL;
}

static sparoa_status dynamic_run(void *state, void *prepared, const sp_cpu_host *host,
                                 const sparoa_node *node, const sparoa_exec *exec)
{
    const int64_t n = sp_count(node->in[0]);
    range_task r = {
        .kernels = host->kernels, .x = node->in[0]->data, .n = n, .part = n / PARTS + 1};
    if (r.part < GRAIN / 4) r.part = GRAIN / 4;
    const int64_t parts = (n + r.part - 1) / r.part;
    sp_parallel_for(exec, parts, 1 + GRAIN / r.part, range_piece, &r);
    float least = 0, most = 0;
    for (int64_t i = 0; i < parts; i++) {
        least = r.least[i] < least ? r.least[i] : least;
        most = r.most[i] > most ? r.most[i] : most;
    }
    quantize_task t = {.kernels = host->kernels,
                       .q = {.scale = (most - least) / 255, .hi = 255},
                       .x = node->in[0]->data};
    if (!(t.q.scale > 0)) t.q.scale = 1; /* all zeros: any scale does */
    t.q.zero = sp_quantize(-least / t.q.scale, 0, 0, 255);
    if (sparoa_out(node, 1)) sp_set_f64(node->out[1], 0, t.q.scale);
    if (sparoa_out(node, 2)) sp_set_i64(node->out[2], 0, t.q.zero);
    if (!sparoa_out(node, 0)) return SPAROA_OK;
    t.y = node->out[0]->data;
    sp_parallel_for(exec, n, GRAIN, quantize_piece, &t);
    return SPAROA_OK;
}

/* ONNX DynamicQuantizeLinear, version 11. */
SP_CPU_KERNEL(DynamicQuantizeLinear) = {
    .op = "DynamicQuantizeLinear", .domain = "", .supports = dynamic_supports, .run = dynamic_run};
