#include "ops/eltwise.h"

/* One row; the values' steps are compile-time constants where they vary, so that each case
 * vectorises. */
#define SELECT(T, sx, sy)                                                                          \
    SP_IVDEP for (int64_t i = 0; i < n; i++)                                                       \
    {                                                                                              \
        const T u = px[i * (sx)], v = pz[i * (sy)];                                                \
        out[i] = c[i] ? u : v;                                                                     \
    }
#define X(T, size)                                                                                 \
    static void where_##T(const sp_run *run)                                                       \
    {                                                                                              \
        const int64_t n = run->n;                                                                  \
        for (int64_t r = 0; r < run->rows; r++) {                                                  \
            const uint8_t *c = (const uint8_t *)run->in[0] + r * run->row[0];                      \
            const T *px = (const T *)run->in[1] + r * run->row[1];                                 \
            const T *pz = (const T *)run->in[2] + r * run->row[2];                                 \
            T *out = (T *)run->out + r * n;                                                        \
            if (!run->step[0]) {                                                                   \
                const T *from = *c ? px : pz;                                                      \
                const int64_t step = *c ? run->step[1] : run->step[2];                             \
                for (int64_t i = 0; i < n; i++) out[i] = from[i * step];                           \
            } else if (run->step[1] && run->step[2]) {                                             \
                SELECT(T, 1, 1)                                                                    \
            } else if (run->step[1]) {                                                             \
                SELECT(T, 1, 0)                                                                    \
            } else if (run->step[2]) {                                                             \
                SELECT(T, 0, 1)                                                                    \
            } else {                                                                               \
                SELECT(T, 0, 0)                                                                    \
            }                                                                                      \
        }                                                                                          \
    }
SP_FOR_SIZES(X)
#undef X

static sparoa_status where_infer(const sparoa_node *node, sparoa_error *err)
{
    sparoa_tensor *out = node->out[0];
    SP_TRY(sp_check_type(node, 0, 1u << SPAROA_BOOL, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_ALL, err));
    SP_TRY(sp_check_type(node, 2, SP_TYPES_ALL, err));
    SP_TRY(sp_check_same_type(node, 1, 2, err));
    SP_TRY(sp_infer_broadcast(node, err));
    out->dtype = node->in[1]->dtype;
    return SPAROA_OK;
}

static sparoa_status where_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in[3] = {node->in[0], node->in[1], node->in[2]};
    sp_run_fn fn = NULL;
    switch (sparoa_dtype_size(node->out[0]->dtype)) {
#define X(T, size)                                                                                 \
    case size: fn = where_##T; break;
        SP_FOR_SIZES(X)
#undef X
    default:
        return sparoa_fail(exec->err, SPAROA_UNSUPPORTED_TYPE, node, "no implementation for %s",
                           sparoa_dtype_name(node->out[0]->dtype));
    }
    sp_bcast_run(exec, node->out[0], 3, in, fn, NULL, SP_GRAIN);
    return SPAROA_OK;
}

/* ONNX Where, versions 9 and 16. */
SP_OP(Where) = {
    SP_OP_HEAD("Where", 9, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_ELTWISE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_INPLACE | SPAROA_OP_BROADCASTS | SPAROA_OP_HALF,
    .infer = where_infer,
    .run = where_run,
};
