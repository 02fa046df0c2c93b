#include "ops/eltwise.h"

typedef struct unary_job {
    const char *in;
    char *out;
    size_t in_size, out_size;
    sp_unary_fn fn;
    const void *arg;
} unary_job;

static void unary_piece(void *arg, int64_t begin, int64_t end)
{
    const unary_job *job = arg;
    job->fn(job->in + (size_t)begin * job->in_size, job->out + (size_t)begin * job->out_size,
            end - begin, job->arg);
}

sparoa_status sp_run_unary(const sparoa_node *node, const sparoa_exec *exec, sp_unary_fn fn,
                           const void *arg, int64_t grain)
{
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    if (!fn)
        return sparoa_fail(exec->err, SPAROA_UNSUPPORTED_TYPE, node, "no implementation for %s",
                           sparoa_dtype_name(in->dtype));
    unary_job job = {
        in->data, out->data, sparoa_dtype_size(in->dtype), sparoa_dtype_size(out->dtype), fn, arg};
    sp_parallel_for(exec, sp_count(in), grain, unary_piece, &job);
    return SPAROA_OK;
}

sparoa_status sp_infer_float(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    return sp_infer_same(node, err);
}

sparoa_status sp_infer_number(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_NUMBER, err));
    return sp_infer_same(node, err);
}

void sp_cost_div(const sparoa_node *node, sparoa_cost *cost)
{
    (void)node;
    cost->flops *= 4;
}

void sp_cost_exp(const sparoa_node *node, sparoa_cost *cost)
{
    (void)node;
    cost->flops *= 10;
}

void sp_cost_exp2(const sparoa_node *node, sparoa_cost *cost)
{
    (void)node;
    cost->flops *= 20;
}
