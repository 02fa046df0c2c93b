/* Det: determinants of square matrices by elimination with partial pivoting, in double. */
#include "ops/op.h"

static sparoa_status det_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    sparoa_tensor *out = node->out[0];
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    out->dtype = x->dtype;
    out->rank = -1;
    if (x->rank < 0) return SPAROA_OK;
    if (x->rank < 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input 0 has rank %d, expected at least 2", x->rank);
    int64_t rows = x->dims[x->rank - 2], cols = x->dims[x->rank - 1];
    if (rows >= 0 && cols >= 0 && rows != cols)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "a matrix of %lld x %lld is not square", (long long)rows,
                           (long long)cols);
    sp_set_shape(out, x->dtype, x->rank - 2, x->dims);
    return SPAROA_OK;
}

static size_t det_workspace(const sparoa_node *node, int32_t threads)
{
    int64_t n = node->in[0]->dims[node->in[0]->rank - 1];
    return (size_t)n * (size_t)n * sizeof(double);
}

static void swap_rows(double *a, double *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

static double determinant(double *m, int64_t n)
{
    double det = 1;
    for (int64_t c = 0; c < n; c++) {
        int64_t pivot = c;
        for (int64_t r = c + 1; r < n; r++)
            if (fabs(m[r * n + c]) > fabs(m[pivot * n + c])) pivot = r;
        if (m[pivot * n + c] == 0) return 0;
        if (pivot != c) {
            swap_rows(m + pivot * n, m + c * n, n);
            det = -det;
        }
        det *= m[c * n + c];
        for (int64_t r = c + 1; r < n; r++) {
            double f = m[r * n + c] / m[c * n + c];
            for (int64_t k = c; k < n; k++) m[r * n + k] -= f * m[c * n + k];
        }
    }
    return det;
}

static sparoa_status det_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    int64_t n = x->dims[x->rank - 1], count = sp_count(node->out[0]);
    double *m = exec->workspace;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < n * n; k++) m[k] = sp_get_f64(x, i * n * n + k);
        sp_set_f64(node->out[0], i, determinant(m, n));
    }
    return SPAROA_OK;
}

static void det_cost(const sparoa_node *node, sparoa_cost *cost)
{
    const sparoa_tensor *x = node->in[0];
    cost->flops = x->rank < 2 ? 0 : (double)sp_count(x) * (double)x->dims[x->rank - 1] * 2 / 3;
}

/* ONNX Det, versions 11 and 22. */
SP_OP(Det) = {
    SP_OP_HEAD("Det", 11, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_SUM,
    .infer = det_infer,
    .cost = det_cost,
    .workspace = det_workspace,
    .run = det_run,
};
