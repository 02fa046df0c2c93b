#include "ops/move.h"

static sparoa_status trilu_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0];
    int64_t k;
    bool known;
    if (in->rank >= 0 && in->rank < 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input 0 has rank %d, expected 2 or more", in->rank);
    if (sparoa_in(node, 1)) SP_TRY(sp_read_scalar(node, 1, &k, &known, err));
    return sp_infer_same(node, err);
}

typedef struct trilu_args {
    const char *in;
    char *out;
    int64_t rows, cols, k, size;
    bool upper;
} trilu_args;

static void trilu_rows(void *arg, int64_t begin, int64_t end)
{
    const trilu_args *a = arg;
    int64_t pitch = a->cols * a->size;
    for (int64_t row = begin; row < end; row++) {
        int64_t cut = row % a->rows + a->k +
                      (a->upper ? 0 : 1); /* upper keeps cut and after, lower what is before */
        cut = (cut < 0 ? 0 : cut > a->cols ? a->cols : cut) * a->size;
        const char *src = a->in + row * pitch;
        char *dst = a->out + row * pitch;
        int64_t from = a->upper ? cut : 0, to = a->upper ? pitch : cut;
        memset(dst, 0, (size_t)from);
        if (dst != src) memcpy(dst + from, src + from, (size_t)(to - from));
        memset(dst + to, 0, (size_t)(pitch - to));
    }
}

static sparoa_status trilu_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0];
    int64_t k = sparoa_in(node, 1) ? sp_get_i64(node->in[1], 0) : 0;
    int64_t rows = in->dims[in->rank - 2], cols = in->dims[in->rank - 1];
    if (sp_count(in) == 0) return SPAROA_OK;
    k = k < -rows - 1  ? -rows - 1
        : k > cols + 1 ? cols + 1
                       : k; /* beyond the corners nothing changes */
    trilu_args a = {in->data,
                    node->out[0]->data,
                    rows,
                    cols,
                    k,
                    (int64_t)sparoa_dtype_size(in->dtype),
                    sparoa_attr_int(node, "upper", 1) != 0};
    sp_parallel_for(exec, sp_dims_product(in, 0, in->rank - 1), 65536 / (cols * a.size) + 1,
                    trilu_rows, &a);
    return SPAROA_OK;
}

/* ONNX Trilu, version 14. */
SP_OP(Trilu) = {
    SP_OP_HEAD("Trilu", 14, 0),
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_INPLACE,
    .infer = trilu_infer,
    .run = trilu_run,
};
