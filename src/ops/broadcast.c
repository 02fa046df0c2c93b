#include "ops/broadcast.h"

/* Neighbouring dimensions become one where every input walks through them evenly. */
static void collapse(sp_bcast *p, int32_t rank, const int64_t *dims,
                     int64_t strides[SP_BROADCAST_MAX_IN][SPAROA_MAX_RANK])
{
    p->rank = 0;
    for (int32_t d = 0; d < rank; d++) {
        if (dims[d] == 1) continue;
        int32_t last = p->rank - 1;
        bool even = last >= 0;
        for (int32_t k = 0; k < p->n_in && even; k++)
            even = p->stride[k][last] == strides[k][d] * dims[d];
        int32_t at = even ? last : p->rank++;
        p->dims[at] = even ? p->dims[at] * dims[d] : dims[d];
        for (int32_t k = 0; k < p->n_in; k++) p->stride[k][at] = strides[k][d];
    }
    if (p->rank > 0) return;
    p->rank = 1;
    p->dims[0] = 1;
    for (int32_t k = 0; k < p->n_in; k++) p->stride[k][0] = 0;
}

void sp_bcast_plan(sp_bcast *plan, const sparoa_tensor *out, int32_t n_in,
                   const sparoa_tensor *const *in, sp_run_fn fn, const void *arg)
{
    int64_t strides[SP_BROADCAST_MAX_IN][SPAROA_MAX_RANK];
    plan->n_in = n_in;
    plan->fn = fn;
    plan->arg = arg;
    plan->out_size = sparoa_dtype_size(out->dtype);
    for (int32_t k = 0; k < n_in; k++) {
        plan->in[k] = in[k]->data;
        plan->in_size[k] = sparoa_dtype_size(in[k]->dtype);
        sp_broadcast_strides(in[k], out, strides[k]);
    }
    collapse(plan, out->rank, out->dims, strides);
}

void sp_bcast_range(const sp_bcast *plan, int64_t begin, int64_t end, void *out)
{
    const int32_t inner = plan->rank - 1;
    const int64_t n = plan->dims[inner], rows = inner > 0 ? plan->dims[inner - 1] : 1;
    sp_run run = {.out = out, .arg = plan->arg};
    for (int32_t k = 0; k < plan->n_in; k++) {
        run.step[k] = plan->stride[k][inner];
        run.row[k] = inner > 0 ? plan->stride[k][inner - 1] : 0;
    }
    for (int64_t pos = begin; pos < end;) {
        const int64_t col = pos % n, row = pos / n % rows;
        for (int32_t k = 0; k < plan->n_in; k++) {
            int64_t rest = pos / n / rows, offset = col * run.step[k] + row * run.row[k];
            for (int32_t d = inner - 2; d >= 0; d--) {
                offset += rest % plan->dims[d] * plan->stride[k][d];
                rest /= plan->dims[d];
            }
            run.in[k] = plan->in[k] + (size_t)offset * plan->in_size[k];
        }
        if (col > 0 || end - pos < n) {
            run.rows = 1;
            run.n = n - col < end - pos ? n - col : end - pos;
        } else {
            run.n = n;
            run.rows = rows - row < (end - pos) / n ? rows - row : (end - pos) / n;
        }
        plan->fn(&run);
        run.out = (char *)run.out + (size_t)(run.rows * run.n) * plan->out_size;
        pos += run.rows * run.n;
    }
}

typedef struct bcast_job {
    sp_bcast plan;
    char *out;
} bcast_job;

static void bcast_piece(void *arg, int64_t begin, int64_t end)
{
    const bcast_job *job = arg;
    sp_bcast_range(&job->plan, begin, end, job->out + (size_t)begin * job->plan.out_size);
}

void sp_bcast_run(const sparoa_exec *exec, sparoa_tensor *out, int32_t n_in,
                  const sparoa_tensor *const *in, sp_run_fn fn, const void *arg, int64_t grain)
{
    int64_t total = sp_count(out);
    if (total <= 0) return;
    bcast_job job;
    sp_bcast_plan(&job.plan, out, n_in, in, fn, arg);
    job.out = out->data;
    sp_parallel_for(exec, total, grain, bcast_piece, &job);
}

sparoa_status sp_second_operand(const sparoa_node *node, sparoa_tensor *second, sparoa_error *err)
{
    const sparoa_tensor *a = node->in[0];
    *second = *node->in[1];
    if (node->version >= 7 || node->domain[0] != '\0' || !sparoa_attr_find(node, "axis"))
        return SPAROA_OK;
    if (a->rank < 0 || second->rank < 0 || second->rank > a->rank) return SPAROA_OK;
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), a->rank, true, &axis, err));
    while (second->rank < a->rank - axis) second->dims[second->rank++] = 1;
    return SPAROA_OK;
}

sparoa_status sp_infer_binary(const sparoa_node *node, uint32_t types, sparoa_dtype result,
                              sparoa_error *err)
{
    sparoa_tensor second;
    sparoa_tensor *out = node->out[0];
    SP_TRY(sp_check_type(node, 0, types, err));
    SP_TRY(sp_check_type(node, 1, types, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    SP_TRY(sp_second_operand(node, &second, err));
    SP_TRY(sp_broadcast(node, node->in[0], &second, out, err));
    out->dtype = result == SPAROA_UNDEFINED ? node->in[0]->dtype : result;
    return SPAROA_OK;
}

sparoa_status sp_run_binary(const sparoa_node *node, const sparoa_exec *exec, sp_run_fn fn,
                            const void *arg, int64_t grain)
{
    sparoa_tensor second;
    if (!fn)
        return sparoa_fail(exec->err, SPAROA_UNSUPPORTED_TYPE, node, "no implementation for %s",
                           sparoa_dtype_name(node->in[0]->dtype));
    SP_TRY(sp_second_operand(node, &second, exec->err));
    const sparoa_tensor *in[2] = {node->in[0], &second};
    sp_bcast_run(exec, node->out[0], 2, in, fn, arg, grain);
    return SPAROA_OK;
}
