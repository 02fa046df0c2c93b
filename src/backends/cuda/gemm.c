/* Gemm, MatMul and their relatives of com.microsoft. */
#include "backends/cuda/sparse.h"
#include "ops/epilogue.h"

typedef struct gemm_state {
    void *weight; /* constant B as [n][k], for tensor cores; NULL: as the engine uploads it */
    size_t bytes;
    sp_cuda_sparse *sparse; /* the same, where it has many zeros; else NULL */
} gemm_state;

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

/* ---- constant weights ---- */

/* Rows of k elements are what tensor cores read best. */
static sparoa_status pack_weight(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    gemm_state *s = k->state;
    const sparoa_tensor *b = node->in[1];
    bool constant = node->constant && node->constant[1] && b->data;
    bool turned = sparoa_attr_int(node, "transB", 0) != 0;
    if (constant && b->rank == 2 && b->dtype == SPAROA_FLOAT32) {
        int64_t cols = b->dims[1];
        SP_TRY(sp_cuda_sparse_make(k, b->data, b->dims[!turned], turned ? cols : 1, b->dims[turned],
                                   turned ? 1 : cols, &s->sparse, err));
    }
    if (!constant || turned || b->rank != 2 ||
        !sp_cuda_has_cores(k->dev, sp_cuda_math_of(k->dev, node)))
        return SPAROA_OK;
    size_t size = sparoa_dtype_size(b->dtype), rows = (size_t)b->dims[0], n = (size_t)b->dims[1];
    s->bytes = rows * n * size;
    if (s->bytes == 0) return SPAROA_OK;
    char *packed = sp_cuda_host_alloc(k->dev, s->bytes);
    if (!packed) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to pack weights");
    const char *from = b->data;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++)
            memcpy(packed + (j * rows + i) * size, from + (i * n + j) * size, size);
    sparoa_status status = sp_cuda_upload(k->dev, k, packed, s->bytes, &s->weight, err);
    sp_cuda_host_free(k->dev, packed, s->bytes);
    return status;
}

static void gemm_destroy(sparoa_kernel *k)
{
    gemm_state *s = k->state;
    sp_cuda_free(k->dev, s->weight, s->bytes);
    sp_cuda_sparse_done(k->dev, s->sparse);
}

static bool gemm_keeps_input(const sparoa_kernel *k, int32_t input)
{
    return input != 1 || !((const gemm_state *)k->state)->weight;
}

static const void *weight_of(const sparoa_kernel *k, const sparoa_node *node)
{
    const gemm_state *s = k->state;
    return s->weight ? s->weight : node->in[1]->data;
}

/* ---- Gemm ---- */

/* A general C is scaled in float32. */
static bool gemm_half(sparoa_dev *dev, const sparoa_node *node, int op)
{
    return sp_cuda_all_half(dev, node, op) && sparoa_attr_float(node, "beta", 1) == 1;
}

static const char *gemm_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    bool floats = sp_cuda_all_f32(node) || sp_cuda_all_half(dev, node, op);
    return floats && node->n_in >= 2 ? NULL : "only float32 and float16";
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
    const gemm_state *s = k->state;
    bool ta = sparoa_attr_int(node, "transA", 0) != 0, tb = sparoa_attr_int(node, "transB", 0) != 0;
    p->product.math = sp_cuda_math_of(k->dev, node);
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
    if (s->weight) {
        g->b_k = 1;
        g->b_n = g->k;
    }
    p->product.sparse = s->sparse;
    p->beta = sparoa_attr_float(node, "beta", 1);
    sp_cu_epilogue e = epilogue_for(node, g->n), none = {.channels = g->n, .inner = 1};
    p->has_c = c && p->beta != 0;
    p->bias_first = p->has_c && p->beta == 1 && c->rank >= 1 && c->dims[c->rank - 1] == g->n &&
                    (c->rank == 1 || c->dims[0] == 1);
    if (p->has_c && !p->bias_first) {
        const sparoa_tensor *in[] = {node->out[0], c};
        sp_cuda_space(&p->c, node->out[0], 2, in);
        g->alpha /= p->beta; /* y = beta (y / beta + C) */
        sp_cuda_product_plan(k->dev, &p->product, &none, false);
        p->product.epilogue = e; /* run after C was added */
    } else
        sp_cuda_product_plan(k->dev, &p->product, &e, p->bias_first);
    *workspace = p->product.workspace;
    k->variant = sp_cuda_product_variant(&p->product);
    (void)err;
    return SPAROA_OK;
}

static sparoa_status gemm_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    gemm_prepared *p = prepared;
    sp_epilogue e = sp_epilogue_of(node);
    const sparoa_tensor *c = c_of(node), *r = sparoa_in(node, e.residual_input);
    const void *residual = e.residual_input >= 0 ? r->data : NULL;
    void *y = node->out[0]->data;
    int half = p->product.math == SP_CUDA_MATH_F16;
    if (!p->has_c || p->bias_first)
        return sp_cuda_product_run(k->dev, &p->product, node->in[0]->data, weight_of(k, node),
                                   p->bias_first ? c->data : NULL, residual, y, workspace, stream,
                                   node, err);
    sp_cu_epilogue rest = p->product.epilogue;
    int64_t n = sp_count(node->out[0]);
    sp_cuda_product bare = p->product;
    bare.epilogue = (sp_cu_epilogue){.channels = rest.channels, .inner = 1};
    SP_TRY(sp_cuda_product_run(k->dev, &bare, node->in[0]->data, weight_of(k, node), NULL, NULL, y,
                               workspace, stream, node, err));
    sp_cu_binary(SP_CU_BIN_Add, half ? SP_CU_F16 : SP_CU_F32, &p->c, y, c->data, y, stream);
    if (p->beta != 1) sp_cu_scale(p->beta, y, n, stream);
    sp_cu_epilogue_run(&rest, half, y, NULL, residual, n, stream);
    return SPAROA_OK;
}

/* ONNX Gemm, versions 7 to 13. */
SP_CUDA_KERNEL(Gemm) = {.ops = SP_CUDA_NAMES("Gemm"),
                        .variant = "gemm_cublaslt",
                        .state_bytes = sizeof(gemm_state),
                        .prepared_bytes = sizeof(gemm_prepared),
                        .refuses = gemm_refuses,
                        .half = gemm_half,
                        .create = pack_weight,
                        .destroy = gemm_destroy,
                        .keeps_input = gemm_keeps_input,
                        .prepare = gemm_prepare,
                        .unprepare = gemm_unprepare,
                        .run = gemm_run};

/* com.microsoft FusedGemm: Gemm with an activation. */
SP_CUDA_KERNEL(FusedGemm) = {.ops = SP_CUDA_NAMES("FusedGemm"),
                             .domain = "com.microsoft",
                             .variant = "gemm_cublaslt",
                             .state_bytes = sizeof(gemm_state),
                             .prepared_bytes = sizeof(gemm_prepared),
                             .refuses = gemm_refuses,
                             .half = gemm_half,
                             .create = pack_weight,
                             .destroy = gemm_destroy,
                             .keeps_input = gemm_keeps_input,
                             .prepare = gemm_prepare,
                             .unprepare = gemm_unprepare,
                             .run = gemm_run};

/* ---- MatMul ---- */

static const char *matmul_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    bool floats = sp_cuda_all_f32(node) || sp_cuda_all_half(dev, node, op);
    if (!floats || node->n_in < 2) return "only float32 and float16";
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
    const gemm_state *s = k->state;
    if (s->weight) {
        b.row = 1;
        b.col = b.rows;
    }
    p->product.math = sp_cuda_math_of(k->dev, node);
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
    p->product.sparse = s->sparse;
    sp_cu_epilogue epilogue = epilogue_for(node, b.cols);
    sp_cuda_product_plan(k->dev, &p->product, &epilogue, e.bias_input >= 0);
    *workspace = p->product.workspace;
    k->variant = sp_cuda_product_variant(&p->product);
    (void)err;
    return SPAROA_OK;
}

static sparoa_status matmul_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    gemm_prepared *p = prepared;
    sp_epilogue e = sp_epilogue_of(node);
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    return sp_cuda_product_run(k->dev, &p->product, node->in[0]->data, weight_of(k, node),
                               e.bias_input >= 0 ? node->in[e.bias_input]->data : NULL,
                               e.residual_input >= 0 ? node->in[e.residual_input]->data : NULL,
                               node->out[0]->data, workspace, stream, node, err);
}

/* ONNX MatMul, versions 1 to 13. */
SP_CUDA_KERNEL(MatMul) = {.ops = SP_CUDA_NAMES("MatMul"),
                          .variant = "gemm_cublaslt",
                          .state_bytes = sizeof(gemm_state),
                          .prepared_bytes = sizeof(gemm_prepared),
                          .refuses = matmul_refuses,
                          .half = sp_cuda_all_half,
                          .create = pack_weight,
                          .destroy = gemm_destroy,
                          .keeps_input = gemm_keeps_input,
                          .prepare = matmul_prepare,
                          .unprepare = gemm_unprepare,
                          .run = matmul_run};

/* com.microsoft FusedMatMul: MatMul with transposition and scale. */
SP_CUDA_KERNEL(FusedMatMul) = {.ops = SP_CUDA_NAMES("FusedMatMul"),
                               .domain = "com.microsoft",
                               .variant = "gemm_cublaslt",
                               .state_bytes = sizeof(gemm_state),
                               .prepared_bytes = sizeof(gemm_prepared),
                               .refuses = matmul_refuses,
                               .half = sp_cuda_all_half,
                               .create = pack_weight,
                               .destroy = gemm_destroy,
                               .keeps_input = gemm_keeps_input,
                               .prepare = matmul_prepare,
                               .unprepare = gemm_unprepare,
                               .run = matmul_run};
