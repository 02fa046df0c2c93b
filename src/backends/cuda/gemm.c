/* Gemm, MatMul and their relatives of com.microsoft. */
#include "backends/cuda/cuda.h"
#include "ops/epilogue.h"

typedef struct gemm_prepared {
    sp_cuda_product product;
    bool bias_first; /* Gemm: C is a bias [n] that goes into the product's epilogue */
    sp_cu_space c;   /* Gemm: any other C, added after the product */
    bool has_c;
    float beta;
} gemm_prepared;

static sp_cu_epilogue epilogue_for(const sparoa_node *node, int64_t n)
{
    sp_epilogue e = sp_epilogue_of(node);
    return (sp_cu_epilogue){
        .act = e.act, .a = e.a, .b = e.b, .residual = e.residual, .channels = n, .inner = 1};
}

static void gemm_unprepare(sparoa_kernel *k, void *prepared)
{
    sp_cuda_product_done(k->dev, &((gemm_prepared *)prepared)->product);
}

/* ---- Gemm ---- */

static const char *gemm_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    return sp_cuda_all_f32(node) && node->n_in >= 2 ? NULL : "only float32";
}

static const sparoa_tensor *c_of(const sparoa_node *node)
{
    return sp_epilogue_of(node).residual_input == 2 ? NULL : sparoa_in(node, 2);
}

static sparoa_status gemm_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                  size_t *workspace, sparoa_error *err)
{
    gemm_prepared *p = prepared;
    const sparoa_tensor *a = node->in[0], *b = node->in[1], *c = c_of(node);
    bool ta = sparoa_attr_int(node, "transA", 0) != 0, tb = sparoa_attr_int(node, "transB", 0) != 0;
    sp_cu_gemm *g = &p->product.shape;
    *g = (sp_cu_gemm){.m = a->dims[ta],
                      .n = b->dims[!tb],
                      .k = a->dims[!ta],
                      .batch = 1,
                      .alpha = sparoa_attr_float(node, "alpha", 1)};
    g->a_m = ta ? 1 : a->dims[1];
    g->a_k = ta ? a->dims[1] : 1;
    g->b_k = tb ? 1 : b->dims[1];
    g->b_n = tb ? b->dims[1] : 1;
    p->beta = sparoa_attr_float(node, "beta", 1);
    sp_cu_epilogue e = epilogue_for(node, g->n), none = {.channels = g->n, .inner = 1};
    p->has_c = c && p->beta != 0;
    p->bias_first = p->has_c && p->beta == 1 && c->rank >= 1 && c->dims[c->rank - 1] == g->n &&
                    (c->rank == 1 || c->dims[0] == 1);
    if (p->has_c && !p->bias_first) {
        const sparoa_tensor *in[] = {node->out[0], c};
        sp_cuda_space(&p->c, node->out[0], 2, in);
        sp_cuda_product_plan(k->dev, &p->product, &none, false);
        p->product.epilogue = e; /* run after C was added */
    } else
        sp_cuda_product_plan(k->dev, &p->product, &e, p->bias_first);
    *workspace = p->product.workspace;
    k->variant = p->product.use_lt ? "gemm_cublaslt" : "gemm_f32";
    (void)err;
    return SPAROA_OK;
}

static sparoa_status gemm_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    gemm_prepared *p = prepared;
    sp_epilogue e = sp_epilogue_of(node);
    const sparoa_tensor *c = c_of(node), *r = sparoa_in(node, e.residual_input);
    const float *residual = e.residual_input >= 0 ? r->data : NULL;
    float *y = node->out[0]->data;
    if (!p->has_c || p->bias_first)
        return sp_cuda_product_run(k->dev, &p->product, node->in[0]->data, node->in[1]->data,
                                   p->bias_first ? c->data : NULL, residual, y, workspace, stream,
                                   node, err);
    sp_cu_epilogue rest = p->product.epilogue;
    int64_t n = sp_count(node->out[0]);
    sp_cuda_product bare = p->product;
    bare.epilogue = (sp_cu_epilogue){.channels = rest.channels, .inner = 1};
    /* y = beta (y / beta + C) */
    bare.shape.alpha = p->product.shape.alpha / p->beta;
    SP_TRY(sp_cuda_product_run(k->dev, &bare, node->in[0]->data, node->in[1]->data, NULL, NULL, y,
                               workspace, stream, node, err));
    sp_cu_binary(SP_CU_BIN_Add, SP_CU_F32, &p->c, y, c->data, y, stream);
    if (p->beta != 1) sp_cu_scale(p->beta, y, n, stream);
    sp_cu_epilogue_run(&rest, y, NULL, residual, n, stream);
    return SPAROA_OK;
}

/* ONNX Gemm, versions 7 to 13. */
SP_CUDA_KERNEL(Gemm) = {.ops = SP_CUDA_NAMES("Gemm"),
                        .variant = "gemm_cublaslt",
                        .prepared_bytes = sizeof(gemm_prepared),
                        .refuses = gemm_refuses,
                        .prepare = gemm_prepare,
                        .unprepare = gemm_unprepare,
                        .run = gemm_run};

/* com.microsoft FusedGemm: Gemm with an activation. */
SP_CUDA_KERNEL(FusedGemm) = {.ops = SP_CUDA_NAMES("FusedGemm"),
                             .domain = "com.microsoft",
                             .variant = "gemm_cublaslt",
                             .prepared_bytes = sizeof(gemm_prepared),
                             .refuses = gemm_refuses,
                             .prepare = gemm_prepare,
                             .unprepare = gemm_unprepare,
                             .run = gemm_run};

/* ---- MatMul ---- */

static const char *matmul_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    if (!sp_cuda_all_f32(node) || node->n_in < 2) return "only float32";
    if (sparoa_attr_int(node, "transBatchA", 0) || sparoa_attr_int(node, "transBatchB", 0))
        return "transposed batches";
    return NULL;
}

/* A matrix operand: its last two dimensions and their strides, and the dimensions before them. */
typedef struct matrix {
    int64_t rows, cols, row, col;
    int32_t batch;
    const int64_t *dims;
} matrix;

static matrix matrix_of(const sparoa_tensor *t, bool left, bool transposed)
{
    if (t->rank == 1)
        return left ? (matrix){1, t->dims[0], t->dims[0], 1, 0, t->dims}
                    : (matrix){t->dims[0], 1, 1, 1, 0, t->dims};
    int64_t r = t->dims[t->rank - 2], c = t->dims[t->rank - 1];
    matrix m = {r, c, c, 1, t->rank - 2, t->dims};
    if (transposed) m = (matrix){c, r, 1, c, t->rank - 2, t->dims};
    return m;
}

/* The batch dimensions of both operands, merged where both are regular. */
static void plan_batch(sp_cuda_product *p, const matrix *a, const matrix *b)
{
    sp_cu_gemm *g = &p->shape;
    int32_t rank = a->batch > b->batch ? a->batch : b->batch;
    int64_t step_a = a->rows * a->cols, step_b = b->rows * b->cols;
    int64_t dims[SPAROA_MAX_RANK], sa[SPAROA_MAX_RANK], sb[SPAROA_MAX_RANK];
    int32_t n = 0; /* innermost first */
    for (int32_t i = 0; i < rank; i++) {
        int64_t da = i < a->batch ? a->dims[a->batch - 1 - i] : 1;
        int64_t db = i < b->batch ? b->dims[b->batch - 1 - i] : 1;
        int64_t d = da == 1 ? db : da, ta = da == 1 ? 0 : step_a, tb = db == 1 ? 0 : step_b;
        step_a *= da;
        step_b *= db;
        if (d == 1) continue;
        if (n > 0 && ta == sa[n - 1] * dims[n - 1] && tb == sb[n - 1] * dims[n - 1]) {
            dims[n - 1] *= d;
            continue;
        }
        dims[n] = d;
        sa[n] = ta;
        sb[n++] = tb;
    }
    g->batch = n ? dims[0] : 1;
    g->a_batch = n ? sa[0] : 0;
    g->b_batch = n ? sb[0] : 0;
    /* rows of a batch that all meet one matrix are one tall matrix */
    if (g->batch > 1 && g->b_batch == 0 && g->a_k == 1 && g->a_batch == g->m * g->a_m) {
        g->m *= g->batch;
        g->batch = 1;
        g->a_batch = 0;
    }
    g->y_batch = g->m * g->n;
    p->outer_rank = n > 1 ? n - 1 : 0;
    for (int32_t i = 0; i < p->outer_rank; i++) {
        p->outer[i] = dims[n - 1 - i];
        p->outer_a[i] = sa[n - 1 - i];
        p->outer_b[i] = sb[n - 1 - i];
    }
}

static sparoa_status matmul_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                    size_t *workspace, sparoa_error *err)
{
    gemm_prepared *p = prepared;
    matrix a = matrix_of(node->in[0], true, sparoa_attr_int(node, "transA", 0) != 0);
    matrix b = matrix_of(node->in[1], false, sparoa_attr_int(node, "transB", 0) != 0);
    sp_epilogue e = sp_epilogue_of(node);
    p->product.shape = (sp_cu_gemm){.m = a.rows,
                                    .n = b.cols,
                                    .k = a.cols,
                                    .a_m = a.row,
                                    .a_k = a.col,
                                    .b_k = b.row,
                                    .b_n = b.col,
                                    .alpha = sparoa_attr_float(node, "alpha", 1)};
    plan_batch(&p->product, &a, &b);
    sp_cu_epilogue epilogue = epilogue_for(node, b.cols);
    sp_cuda_product_plan(k->dev, &p->product, &epilogue, e.bias_input >= 0);
    *workspace = p->product.workspace;
    k->variant = p->product.use_lt ? "gemm_cublaslt" : "gemm_f32";
    (void)err;
    return SPAROA_OK;
}

static sparoa_status matmul_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    gemm_prepared *p = prepared;
    sp_epilogue e = sp_epilogue_of(node);
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    return sp_cuda_product_run(k->dev, &p->product, node->in[0]->data, node->in[1]->data,
                               e.bias_input >= 0 ? node->in[e.bias_input]->data : NULL,
                               e.residual_input >= 0 ? node->in[e.residual_input]->data : NULL,
                               node->out[0]->data, workspace, stream, node, err);
}

/* ONNX MatMul, versions 1 to 13. */
SP_CUDA_KERNEL(MatMul) = {.ops = SP_CUDA_NAMES("MatMul"),
                          .variant = "gemm_cublaslt",
                          .prepared_bytes = sizeof(gemm_prepared),
                          .refuses = matmul_refuses,
                          .prepare = matmul_prepare,
                          .unprepare = gemm_unprepare,
                          .run = matmul_run};

/* com.microsoft FusedMatMul: MatMul with transposition and scale. */
SP_CUDA_KERNEL(FusedMatMul) = {.ops = SP_CUDA_NAMES("FusedMatMul"),
                               .domain = "com.microsoft",
                               .variant = "gemm_cublaslt",
                               .prepared_bytes = sizeof(gemm_prepared),
                               .refuses = matmul_refuses,
                               .prepare = matmul_prepare,
                               .unprepare = gemm_unprepare,
                               .run = matmul_run};
