/* Cast and CastLike between float32 and half floats, and from float32 to integers. */
#include "backends/cpu/kernel.h"
#include "ops/op.h"

#define GRAIN 65536 /* elements worth another thread */

static const struct cast_row {
    sparoa_dtype from, to;
    sp_cast kind;
} cast_rows[] = {
    {SPAROA_FLOAT16, SPAROA_FLOAT32, SP_CAST_F32_OF_F16},
    {SPAROA_BFLOAT16, SPAROA_FLOAT32, SP_CAST_F32_OF_BF16},
    {SPAROA_FLOAT32, SPAROA_FLOAT16, SP_CAST_F16_OF_F32},
    {SPAROA_FLOAT32, SPAROA_BFLOAT16, SP_CAST_BF16_OF_F32},
    {SPAROA_FLOAT32, SPAROA_INT32, SP_CAST_I32_OF_F32},
    {SPAROA_FLOAT32, SPAROA_INT64, SP_CAST_I64_OF_F32},
    {SPAROA_FLOAT32, SPAROA_UINT8, SP_CAST_U8_OF_F32},
    {SPAROA_FLOAT32, SPAROA_INT8, SP_CAST_I8_OF_F32},
    {SPAROA_FLOAT32, SPAROA_BOOL, SP_CAST_BOOL_OF_F32},
};

static const struct cast_row *row_of(const sparoa_node *node)
{
    if (!node->in[0] || node->n_out < 1 || !node->out[0]) return NULL;
    for (size_t i = 0; i < sizeof cast_rows / sizeof *cast_rows; i++)
        if (node->in[0]->dtype == cast_rows[i].from && node->out[0]->dtype == cast_rows[i].to)
            return &cast_rows[i];
    return NULL;
}

static const char *cast_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    return row_of(node) ? host->kernels->name : NULL;
}

typedef struct cast_task {
    const sp_kernels *kernels;
    const struct cast_row *row;
    const char *x;
    char *y;
} cast_task;

static void cast_piece(void *arg, int64_t begin, int64_t end)
{
    const cast_task *t = arg;
    const size_t at = (size_t)begin;
    t->kernels->cast(t->row->kind, (size_t)(end - begin),
                     t->x + at * sparoa_dtype_size(t->row->from),
                     t->y + at * sparoa_dtype_size(t->row->to));
}

static sparoa_status cast_run(void *state, void *prepared, const sp_cpu_host *host,
                              const sparoa_node *node, const sparoa_exec *exec)
{
    cast_task t = {host->kernels, row_of(node), node->in[0]->data, node->out[0]->data};
    if (!t.row)
        return sparoa_fail(exec->err, SPAROA_UNSUPPORTED_TYPE, node, "no kernel for these types");
    sp_parallel_for(exec, sp_count(node->in[0]), GRAIN, cast_piece, &t);
    return SPAROA_OK;
}

/* ONNX Cast and CastLike, all versions. */
SP_CPU_KERNEL(Cast) = {.op = "Cast", .domain = "", .supports = cast_supports, .run = cast_run};
SP_CPU_KERNEL(CastLike) = {
    .op = "CastLike", .domain = "", .supports = cast_supports, .run = cast_run};
