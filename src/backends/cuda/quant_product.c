/* Convolutions and products of 8-bit tensors. */
#include "backends/cuda/quant.h"
#include "ops/epilogue.h"

/* Where the inputs are; -1: there is none. */
typedef struct places {
    int32_t w, x_scale, x_zero, w_scale, w_zero, y_scale, y_zero, bias;
} places;
static const places integer_places = {1, -1, 2, -1, 3, -1, -1, -1};
static const places conv_places = {3, 1, 2, 4, 5, 6, 7, 8};
static const places matmul_places = {3, 1, 2, 4, 5, 6, 7, -1};

typedef struct q8_state {
    void *weight; /* packed; NULL: as the engine uploads it */
    size_t weight_bytes;
    void *sums; /* of each channel's weights as signed bytes; NULL: they have a zero point */
    size_t sums_bytes;
} q8_state;

static const places *places_of(const sparoa_kernel *k)
{
    if (k->op == 1) return &integer_places; /* ConvInteger, MatMulInteger */
    return strcmp(k->row->ops[0], "QLinearConv") == 0 ? &conv_places : &matmul_places;
}

static int64_t count_of(const sparoa_node *node, int32_t i)
{
    const sparoa_tensor *t = i < 0 ? NULL : sparoa_in(node, i);
    return t ? sp_count(t) : 1;
}

/* Types, and one scale and zero point for all of x. */
static const char *common_refuses(const sparoa_node *node, const places *at)
{
    if (!sp_cuda_is_q8(sparoa_in(node, 0)) || !sp_cuda_is_q8(sparoa_in(node, at->w)))
        return "only 8 bits";
    const int32_t scales[] = {at->x_scale, at->w_scale, at->y_scale};
    for (int i = 0; i < 3; i++)
        if (scales[i] >= 0 && !sp_cuda_is_scale(node, scales[i])) return "only float32 scales";
    if (count_of(node, at->x_zero) != 1 || count_of(node, at->x_scale) != 1)
        return "scales or zero points for each row";
    return NULL;
}

/* The weights [channels][each], strides given, as signed bytes summed up; only where their zero
 * points are known and vanish as signed bytes. */
static sparoa_status sum_weights(sparoa_kernel *k, const sparoa_node *node, const places *at,
                                 int64_t channels, int64_t each, int64_t f_n, int64_t f_k,
                                 sparoa_error *err)
{
    q8_state *s = k->state;
    const sparoa_tensor *w = node->in[at->w], *zero = sparoa_in(node, at->w_zero);
    bool is_signed = w->dtype == SPAROA_INT8;
    int64_t want = is_signed ? 0 : 128;
    if (zero && (!node->constant[at->w_zero] || !zero->data)) return SPAROA_OK;
    if (!zero && want != 0) return SPAROA_OK;
    for (int64_t i = 0; zero && i < sp_count(zero); i++)
        if (sp_get_i64(zero, i) != want) return SPAROA_OK;
    s->sums_bytes = (size_t)channels * sizeof(int32_t);
    int32_t *sums = sp_cuda_host_alloc(k->dev, s->sums_bytes);
    if (!sums) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to sum weights");
    const uint8_t *v = w->data;
    for (int64_t n = 0; n < channels; n++)
        for (int64_t i = 0; i < each; i++)
            sums[n] += (int8_t)(v[n * f_n + i * f_k] ^ (is_signed ? 0 : 0x80));
    sparoa_status status = sp_cuda_upload(k->dev, k, sums, s->sums_bytes, &s->sums, err);
    sp_cuda_host_free(k->dev, sums, s->sums_bytes);
    return status;
}

/* Weights [outer][inner][taps] as [outer][taps][inner], or with the channel last of all. */
static sparoa_status pack(sparoa_kernel *k, const sparoa_tensor *w, bool channel_last,
                          sparoa_error *err)
{
    q8_state *s = k->state;
    int64_t outer = w->dims[0], inner = w->dims[1], taps = sp_dims_product(w, 2, w->rank);
    s->weight_bytes = (size_t)(outer * inner * taps);
    if (s->weight_bytes == 0) return SPAROA_OK;
    uint8_t *packed = sp_cuda_host_alloc(k->dev, s->weight_bytes);
    if (!packed) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no memory to pack weights");
    const uint8_t *from = w->data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++)
            for (int64_t t = 0; t < taps; t++) {
                int64_t value = t * inner + i;
                packed[channel_last ? value * outer + o : o * inner * taps + value] = *from++;
            }
    sparoa_status status = sp_cuda_upload(k->dev, k, packed, s->weight_bytes, &s->weight, err);
    sp_cuda_host_free(k->dev, packed, s->weight_bytes);
    return status;
}

static void q8_destroy(sparoa_kernel *k)
{
    q8_state *s = k->state;
    sp_cuda_free(k->dev, s->weight, s->weight_bytes);
    sp_cuda_free(k->dev, s->sums, s->sums_bytes);
}

static bool q8_keeps_input(const sparoa_kernel *k, int32_t input)
{
    return input != places_of(k)->w || !((const q8_state *)k->state)->weight;
}

static sp_cu_q8 parameters(const sparoa_kernel *k, const sparoa_node *node)
{
    const places *at = places_of(k);
    const q8_state *s = k->state;
    sparoa_dtype y = node->out[0]->dtype;
    sp_cu_q8 q = {.x_signed = node->in[0]->dtype == SPAROA_INT8,
                  .w_signed = node->in[at->w]->dtype == SPAROA_INT8,
                  .y_signed = y == SPAROA_INT8,
                  .raw = y == SPAROA_INT32,
                  .w_scales = (int32_t)count_of(node, at->w_scale),
                  .w_zeros = (int32_t)count_of(node, at->w_zero),
                  .x_zero = sp_cuda_data(node, at->x_zero),
                  .w_zero = sp_cuda_data(node, at->w_zero),
                  .w_sums = s->sums};
    if (q.raw) return q;
    q.x_scale = sp_cuda_data(node, at->x_scale);
    q.w_scale = sp_cuda_data(node, at->w_scale);
    q.y_scale = sp_cuda_data(node, at->y_scale);
    q.y_zero = sp_cuda_data(node, at->y_zero);
    if (at->bias >= 0) q.bias = sp_cuda_data(node, at->bias);
    return q;
}

/* ---- QLinearConv, ConvInteger ---- */

typedef struct conv_prepared {
    sp_cu_window window;
    int64_t f_n, f_k;
} conv_prepared;

static const char *conv_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const places *at = op == 1 ? &integer_places : &conv_places;
    const sparoa_tensor *x = sparoa_in(node, 0), *w = sparoa_in(node, at->w);
    (void)dev;
    const char *why = common_refuses(node, at);
    if (why) return why;
    if (!node->constant || !node->constant[at->w]) return "weights that are not constant";
    if (w->rank < 3 || w->rank > 5 || x->rank != w->rank)
        return "an image of unknown or other rank";
    int64_t group = sparoa_attr_int(node, "group", 1);
    return group < 1 || group > 65535 || w->dims[0] % group != 0 ? "too many groups" : NULL;
}

static sp_cu_window grouping(const sparoa_node *node, const sparoa_tensor *w)
{
    int64_t group = sparoa_attr_int(node, "group", 1);
    return (sp_cu_window){.group = (int32_t)group, .c_in = (int32_t)(w->dims[1] * group)};
}

static sparoa_status conv_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    const places *at = places_of(k);
    const sparoa_tensor *w = node->in[at->w];
    sp_cu_window shape = grouping(node, w);
    int64_t each = w->dims[1] * sp_dims_product(w, 2, w->rank);
    SP_TRY(pack(k, w, sp_cu_conv_q8_direct(&shape), err));
    return w->dims[0] ? sum_weights(k, node, at, w->dims[0], each, each, 1, err) : SPAROA_OK;
}

static sparoa_status conv_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                  size_t *workspace, sparoa_error *err)
{
    conv_prepared *p = prepared;
    const sparoa_tensor *w = node->in[places_of(k)->w];
    bool nhwc = sp_is_nhwc(node);
    sp_conv c;
    (void)workspace;
    SP_TRY(sp_conv_shape(node, node->in[0], w, nhwc, &c, err));
    SP_TRY(sp_cuda_window(node, &c.w, nhwc, &p->window, err));
    p->window.group = (int32_t)c.group;
    bool direct = sp_cu_conv_q8_direct(&p->window);
    p->f_n = direct ? 1 : w->dims[1] * sp_dims_product(w, 2, w->rank);
    p->f_k = direct ? w->dims[0] : 1;
    return SPAROA_OK;
}

static sparoa_status conv_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const conv_prepared *p = prepared;
    const q8_state *s = k->state;
    const sp_cu_q8 q = parameters(k, node);
    (void)workspace, (void)err;
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    sp_cu_conv_q8(&p->window, &q, p->f_n, p->f_k, node->in[0]->data,
                  s->weight ? s->weight : node->in[places_of(k)->w]->data, node->out[0]->data,
                  stream);
    return SPAROA_OK;
}

/* ONNX QLinearConv and ConvInteger, version 10: constant weights. */
SP_CUDA_KERNEL(ConvQ8) = {.ops = SP_CUDA_NAMES("QLinearConv", "ConvInteger"),
                          .variant = "conv_q8",
                          .state_bytes = sizeof(q8_state),
                          .prepared_bytes = sizeof(conv_prepared),
                          .refuses = conv_refuses,
                          .create = conv_create,
                          .destroy = q8_destroy,
                          .keeps_input = q8_keeps_input,
                          .prepare = conv_prepare,
                          .run = conv_run};

/* ---- QLinearMatMul, MatMulInteger ---- */

typedef struct matmul_prepared {
    sp_cu_window window; /* one matrix: rows are pixels */
    int64_t f_n, f_k, m, n, k;
    int64_t matrices; /* of y */
    int32_t rank;     /* batch dimensions, with the matrices' strides in a and b */
    int64_t dims[SPAROA_MAX_RANK], a[SPAROA_MAX_RANK], b[SPAROA_MAX_RANK];
} matmul_prepared;

static const char *matmul_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const places *at = op == 1 ? &integer_places : &matmul_places;
    (void)dev;
    const char *why = common_refuses(node, at);
    if (why) return why;
    const sparoa_tensor *a = node->in[0], *b = node->in[at->w];
    if (a->rank < 1 || b->rank < 1) return "operands of unknown rank";
    int64_t n = b->rank > 1 ? b->dims[b->rank - 1] : 1, zeros = count_of(node, at->w_zero),
            scales = count_of(node, at->w_scale);
    if ((zeros != 1 && zeros != n) || (scales != 1 && scales != n))
        return "scales or zero points for each matrix";
    return NULL;
}

/* A constant matrix [k][n] is turned, so that values come in words. */
static sparoa_status matmul_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    q8_state *s = k->state;
    const places *at = places_of(k);
    const sparoa_tensor *b = node->in[at->w];
    if (!node->constant || !node->constant[at->w] || !b->data || b->rank != 2) return SPAROA_OK;
    size_t rows = (size_t)b->dims[0], n = (size_t)b->dims[1];
    s->weight_bytes = rows * n;
    if (s->weight_bytes == 0) return SPAROA_OK;
    uint8_t *turned = sp_cuda_host_alloc(k->dev, s->weight_bytes);
    if (!turned) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to pack weights");
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) turned[j * rows + i] = ((const uint8_t *)b->data)[i * n + j];
    sparoa_status status = sp_cuda_upload(k->dev, k, turned, s->weight_bytes, &s->weight, err);
    sp_cuda_host_free(k->dev, turned, s->weight_bytes);
    if (status != SPAROA_OK) return status;
    return sum_weights(k, node, at, (int64_t)n, (int64_t)rows, 1, (int64_t)n, err);
}

static void plan_batch(matmul_prepared *p, const sparoa_tensor *a, const sparoa_tensor *b)
{
    int32_t ra = a->rank > 2 ? a->rank - 2 : 0, rb = b->rank > 2 ? b->rank - 2 : 0;
    int64_t step_a = 1, step_b = 1;
    p->rank = ra > rb ? ra : rb;
    p->matrices = 1;
    for (int32_t i = 0; i < p->rank; i++) { /* from the innermost on */
        int32_t d = p->rank - 1 - i;
        int64_t da = i < ra ? a->dims[ra - 1 - i] : 1, db = i < rb ? b->dims[rb - 1 - i] : 1;
        p->dims[d] = da == 1 ? db : da;
        p->a[d] = da == 1 ? 0 : step_a;
        p->b[d] = db == 1 ? 0 : step_b;
        step_a *= da;
        step_b *= db;
        p->matrices *= p->dims[d];
    }
}

static sparoa_status matmul_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                    size_t *workspace, sparoa_error *err)
{
    matmul_prepared *p = prepared;
    const q8_state *s = k->state;
    const sparoa_tensor *a = node->in[0], *b = node->in[places_of(k)->w];
    (void)workspace;
    p->m = a->rank > 1 ? a->dims[a->rank - 2] : 1;
    p->k = a->dims[a->rank - 1];
    p->n = b->rank > 1 ? b->dims[b->rank - 1] : 1;
    plan_batch(p, a, b);
    if (b->rank <= 2 && p->matrices > 1) { /* rows of all matrices meet one b */
        p->m *= p->matrices;
        p->matrices = 1;
        p->rank = 0;
    }
    if (p->m > INT32_MAX / 2 || p->n > INT32_MAX / 2 || p->k > INT32_MAX / 8)
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "a matrix is too large for the kernel");
    p->window = (sp_cu_window){.n = 1,
                               .c_in = (int32_t)p->k,
                               .c_out = (int32_t)p->n,
                               .group = 1,
                               .in = {1, (int32_t)p->m, 1},
                               .out = {1, (int32_t)p->m, 1},
                               .kernel = {1, 1, 1},
                               .stride = {1, 1, 1},
                               .dilation = {1, 1, 1},
                               .x_n = p->m * p->k,
                               .x_c = 1,
                               .x_s = {p->m * p->k, p->k, p->k},
                               .y_n = p->m * p->n,
                               .y_c = 1,
                               .y_s = {p->m * p->n, p->n, p->n}};
    p->f_n = s->weight ? p->k : 1;
    p->f_k = s->weight ? 1 : p->n;
    return SPAROA_OK;
}

static sparoa_status matmul_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const matmul_prepared *p = prepared;
    const q8_state *s = k->state;
    const sp_cu_q8 q = parameters(k, node);
    const char *a = node->in[0]->data, *b = s->weight ? s->weight : node->in[places_of(k)->w]->data;
    size_t size = sparoa_dtype_size(node->out[0]->dtype);
    (void)workspace, (void)err;
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    for (int64_t i = 0; i < p->matrices; i++) {
        int64_t rest = i, at_a = 0, at_b = 0;
        for (int32_t d = p->rank - 1; d >= 0; d--) {
            at_a += rest % p->dims[d] * p->a[d];
            at_b += rest % p->dims[d] * p->b[d];
            rest /= p->dims[d];
        }
        sp_cu_conv_q8(&p->window, &q, p->f_n, p->f_k, a + at_a * p->m * p->k,
                      b + at_b * p->k * p->n,
                      (char *)node->out[0]->data + (size_t)(i * p->m * p->n) * size, stream);
    }
    return SPAROA_OK;
}

/* ONNX QLinearMatMul, versions 10 and 21, and MatMulInteger, version 10. */
SP_CUDA_KERNEL(MatMulQ8) = {.ops = SP_CUDA_NAMES("QLinearMatMul", "MatMulInteger"),
                            .variant = "gemm_q8",
                            .state_bytes = sizeof(q8_state),
                            .prepared_bytes = sizeof(matmul_prepared),
                            .refuses = matmul_refuses,
                            .create = matmul_create,
                            .destroy = q8_destroy,
                            .keeps_input = q8_keeps_input,
                            .prepare = matmul_prepare,
                            .run = matmul_run};
