/* Runs RNN, GRU and LSTM: the input projection of all steps is one product, then one small product
 * and the cell's formulas for each step. */
#include "ops/rnn.h"

#define REAL float
#define RNN(name) name##_f32
#define REAL_MATH(name) name##f
#include "ops/rnn_template.h"
#undef REAL
#undef RNN
#undef REAL_MATH

#define REAL double
#define RNN(name) name##_f64
#define REAL_MATH(name) name
#include "ops/rnn_template.h"
#undef REAL
#undef RNN
#undef REAL_MATH

sparoa_status sp_rnn_check_lengths(const sparoa_node *node, const sp_rnn *p, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, 4);
    for (int64_t b = 0; t && b < p->batch; b++) {
        int64_t length = ((const int32_t *)t->data)[b];
        if (length < 0 || length > p->steps)
            return sparoa_fail(err, SPAROA_INDEX_OUT_OF_RANGE, node,
                               "sequence_lens[%lld]=%lld is out of range for %lld steps",
                               (long long)b, (long long)length, (long long)p->steps);
    }
    return SPAROA_OK;
}

sparoa_status sp_rnn_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_rnn p = {0};
    SP_TRY(sp_rnn_parse(node, &p, exec->err));
    SP_TRY(sp_rnn_check_lengths(node, &p, exec->err));
    const sp_rnn_packed *state = exec->state;
    sparoa_dtype type = node->in[0]->dtype;
    char *work = exec->workspace;
    const void *packed = state ? state->data : NULL;
    if (state && state->dtype != type)
        return sparoa_fail(exec->err, SPAROA_INTERNAL, node,
                           "the weights were packed for another element type");
    if (!packed && sp_rnn_packs_once(node))
        return sparoa_fail(exec->err, SPAROA_INTERNAL, node, "the weights were not packed");
    if (!packed) {
        sp_rnn_pack(&p, node, type, work);
        packed = work;
        work += (size_t)sp_rnn_packed_count(&p) * sparoa_dtype_size(type);
    }
    if (type == SPAROA_FLOAT64)
        run_all_f64(node, exec, &p, packed, work);
    else
        run_all_f32(node, exec, &p, packed, work);
    return SPAROA_OK;
}
