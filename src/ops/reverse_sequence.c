#include "ops/move.h"

static sparoa_status reverse_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_indices(node, 1, err));
    const sparoa_tensor *in = node->in[0], *lens = node->in[1];
    int64_t batch = sparoa_attr_int(node, "batch_axis", 1),
            time = sparoa_attr_int(node, "time_axis", 0);
    if (batch < 0 || batch > 1 || time < 0 || time > 1 || batch == time)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "batch_axis=%lld and time_axis=%lld: expected 0 and 1", (long long)batch,
                           (long long)time);
    if (in->rank >= 0 && in->rank < 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input 0 has rank %d, expected 2 or more", in->rank);
    if (lens->rank >= 0 && lens->rank != 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "sequence_lens has rank %d, expected 1", lens->rank);
    if (in->rank >= 0 && lens->rank == 1 && in->dims[batch] >= 0 && lens->dims[0] >= 0 &&
        in->dims[batch] != lens->dims[0])
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "sequence_lens has %lld entries for a batch of %lld",
                           (long long)lens->dims[0], (long long)in->dims[batch]);
    return sp_infer_same(node, err);
}

typedef struct reverse_args {
    const sparoa_tensor *in, *lens;
    char *out;
    bool batch_first;
    size_t block;
} reverse_args;

static void reverse_piece(void *arg, int64_t begin, int64_t end)
{
    const reverse_args *a = arg;
    int64_t cols = a->in->dims[1], block = (int64_t)a->block;
    for (int64_t i = begin; i < end; i++) {
        int64_t b = a->batch_first ? i / cols : i % cols, t = a->batch_first ? i % cols : i / cols;
        int64_t n = sp_get_i64(a->lens, b), from = t < n ? n - 1 - t : t;
        int64_t src = a->batch_first ? b * cols + from : from * cols + b;
        sp_copy_block(a->out + i * block, (const char *)a->in->data + src * block, a->block);
    }
}

static sparoa_status reverse_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *lens = node->in[1];
    bool batch_first = sparoa_attr_int(node, "batch_axis", 1) == 0;
    int64_t limit = in->dims[batch_first ? 1 : 0];
    for (int64_t b = 0; b < sp_count(lens); b++) {
        int64_t n = sp_get_i64(lens, b);
        if (n < 0 || n > limit)
            return sparoa_fail(exec->err, SPAROA_INDEX_OUT_OF_RANGE, node,
                               "sequence_lens[%lld]=%lld is out of range for axis %d of size %lld",
                               (long long)b, (long long)n, batch_first ? 1 : 0, (long long)limit);
    }
    if (sp_count(in) == 0) return SPAROA_OK;
    reverse_args a = {in, lens, node->out[0]->data, batch_first,
                      (size_t)sp_dims_product(in, 2, in->rank) * sparoa_dtype_size(in->dtype)};
    sp_parallel_for(exec, in->dims[0] * in->dims[1], 65536 / (int64_t)a.block + 1, reverse_piece,
                    &a);
    return SPAROA_OK;
}

/* ONNX ReverseSequence, versions 10 and 28. */
SP_OP(ReverseSequence) = {
    SP_OP_HEAD("ReverseSequence", 10, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = reverse_infer,
    .run = reverse_run,
};
