/* Sums and global averages of 8-bit tensors, domain com.microsoft. */
#include "backends/cpu/kernel.h"
#include "ops/op.h"
#include "ops/quant.h"

#define GRAIN 16384  /* elements worth another thread */
#define CHANNELS 256 /* of a piece of a global average */

/* Scale and zero point lie in inputs i and i + 1. */
static sp_q8_input input_of(const sparoa_node *node, int32_t i)
{
    return (sp_q8_input){sp_q_scale(node, i, 0), sp_q_zero(node, i + 1, 0),
                         node->in[0]->dtype == SPAROA_INT8 ? 0x80 : 0};
}

static sp_q8_sum output_of(const sparoa_node *node, int32_t i)
{
    sp_q8_sum y = {.scale = sp_q_scale(node, i, 0), .zero = sp_q_zero(node, i + 1, 0)};
    sp_q_range(node->in[0]->dtype, &y.lo, &y.hi);
    return y;
}

static bool is_8_bit(const sparoa_tensor *t)
{
    return t && (t->dtype == SPAROA_UINT8 || t->dtype == SPAROA_INT8);
}

/* ---- QLinearAdd ---- */

static const char *add_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    const sparoa_tensor *a = sparoa_in(node, 0), *b = sparoa_in(node, 3);
    if (node->n_in < 7 || !is_8_bit(a) || !is_8_bit(b) || a->dtype != b->dtype) return NULL;
    if (a->rank < 0 || a->rank != b->rank) return NULL;
    for (int32_t i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return NULL;
    return host->kernels->q8_name;
}

typedef struct add_task {
    const sp_kernels *kernels;
    const uint8_t *a, *b;
    uint8_t *y;
    sp_q8_input qa, qb;
    sp_q8_sum sum;
} add_task;

static void add_piece(void *arg, int64_t begin, int64_t end)
{
    const add_task *t = arg;
    t->kernels->add_q8((size_t)(end - begin), t->a + begin, &t->qa, t->b + begin, &t->qb, &t->sum,
                       t->y + begin);
}

static sparoa_status add_run(void *state, void *prepared, const sp_cpu_host *host,
                             const sparoa_node *node, const sparoa_exec *exec)
{
    add_task t = {.kernels = host->kernels,
                  .a = node->in[0]->data,
                  .b = node->in[3]->data,
                  .y = node->out[0]->data,
                  .qa = input_of(node, 1),
                  .qb = input_of(node, 4),
                  .sum = output_of(node, 6)};
    /* dimensions that were unknown before may now be 1 on one side */
    if (!sp_same_shape(node->in[0], node->in[3])) {
        const sparoa_op *plain = sp_op_find(node->domain, node->op, node->version, NULL, 0);
        return sp_op_run(plain, node, exec);
    }
    sp_parallel_for(exec, sp_count(node->out[0]), GRAIN, add_piece, &t);
    return SPAROA_OK;
}

/* com.microsoft QLinearAdd, version 1, of two tensors of one shape. */
SP_CPU_KERNEL(QLinearAdd) = {
    .op = "QLinearAdd", .domain = "com.microsoft", .supports = add_supports, .run = add_run};

/* ---- QLinearGlobalAveragePool ---- */

static const char *average_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    const sparoa_tensor *x = sparoa_in(node, 0);
    if (node->n_in < 4 || !is_8_bit(x) || x->rank < 3) return NULL;
    return sparoa_attr_int(node, "channels_last", 0) ? host->kernels->q8_name : NULL;
}

typedef struct average_task {
    const sp_kernels *kernels;
    const uint8_t *x;
    uint8_t *y;
    int64_t channels, pixels, blocks;
    sp_q8_input in;
    sp_q8_sum out;
} average_task;

static void average_piece(void *arg, int64_t begin, int64_t end)
{
    const average_task *t = arg;
    const float scale = t->in.scale / t->out.scale;
    for (int64_t i = begin; i < end; i++) {
        int32_t sums[CHANNELS];
        int64_t n = i / t->blocks, c = i % t->blocks * CHANNELS;
        int64_t count = t->channels - c < CHANNELS ? t->channels - c : CHANNELS;
        t->kernels->sum_q8((size_t)t->pixels, (size_t)count, (size_t)t->channels,
                           t->x + n * t->pixels * t->channels + c, t->in.flip, sums);
        int64_t zero = (t->in.zero + (t->in.flip ? 128 : 0)) * t->pixels;
        for (int64_t k = 0; k < count; k++) {
            float mean = (float)(sums[k] - zero) / (float)t->pixels;
            t->y[n * t->channels + c + k] =
                (uint8_t)sp_quantize(mean * scale, t->out.zero, t->out.lo, t->out.hi);
        }
    }
}

static sparoa_status average_run(void *state, void *prepared, const sp_cpu_host *host,
                                 const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    average_task t = {.kernels = host->kernels,
                      .x = x->data,
                      .y = node->out[0]->data,
                      .channels = x->dims[x->rank - 1],
                      .pixels = sp_dims_product(x, 1, x->rank - 1),
                      .in = input_of(node, 1),
                      .out = output_of(node, 3)};
    if (t.pixels > INT32_MAX / 255)
        return sparoa_fail(exec->err, SPAROA_TOO_LARGE, node, "a plane has %lld pixels",
                           (long long)t.pixels);
    t.blocks = (t.channels + CHANNELS - 1) / CHANNELS;
    sp_parallel_for(exec, x->dims[0] * t.blocks, 65536 / (t.pixels * CHANNELS + 1) + 1,
                    average_piece, &t);
    return SPAROA_OK;
}

/* com.microsoft QLinearGlobalAveragePool, version 1, with the channel last. */
SP_CPU_KERNEL(QLinearGlobalAveragePool) = {.op = "QLinearGlobalAveragePool",
                                           .domain = "com.microsoft",
                                           .supports = average_supports,
                                           .run = average_run};
