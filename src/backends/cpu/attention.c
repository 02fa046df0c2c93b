/*
 * Attention on float32 tensors [batch, heads, length, size] or [batch, length, heads * size], in
 * tensors of their own or side by side in one (sp.qkv): a block of queries at a time, so that only
 * its rows of the scores exist. Keys and values of a head are packed once; scale, mask and the
 * products go through the matrix kernel. Caches, windows and causal masks are left to the plain
 * operator.
 */
#include "ops/attention.h"
#include "backends/cpu/gemm_run.h"

#define SCORE_BYTES ((size_t)128 << 10) /* of one block: stays in the second-level cache */

enum { IN_Q, IN_K, IN_V, IN_MASK };

static const char *attention_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    static const char *const plain_only[] = {"is_causal",
                                             "softcap",
                                             "left_window_size",
                                             "right_window_size",
                                             "qk_matmul_output_mode",
                                             "softmax_precision"};
    if (node->n_in < 3 || !sp_cpu_all_float32(node)) return NULL;
    for (int32_t i = 0; i < 3; i++)
        if (!node->in[i] || node->in[i]->rank != node->in[0]->rank) return NULL;
    if (node->in[0]->rank != 3 && node->in[0]->rank != 4) return NULL;
    for (int32_t i = 4; i < node->n_in; i++)
        if (node->in[i]) return NULL;
    for (int32_t i = 1; i < node->n_out; i++)
        if (node->out[i]) return NULL;
    for (size_t i = 0; i < sizeof plain_only / sizeof *plain_only; i++)
        if (sparoa_attr_find(node, plain_only[i])) return NULL;
    const sparoa_tensor *mask = sparoa_in(node, IN_MASK);
    if (mask && (mask->rank < 1 || mask->rank > 4)) return NULL;
    return host->kernels->attention_name;
}

typedef struct attention_job {
    const sparoa_node *node;
    const sp_kernels *kernels;
    sp_attn a;
    size_t heads, kv_heads, queries, keys, size, value_size;
    size_t block;                           /* rows of scores at a time */
    size_t row;                             /* floats of a row of scores: whole vectors */
    size_t mask_batch, mask_head, mask_row; /* strides; 0: repeated */
    size_t mask_images;                     /* after so many its masks come again */
    size_t mask_width;                      /* floats of one of its rows */
    bool wide_mask;                         /* its rows are made as wide as those of the scores */
    float scale;
    char *workspace;
    size_t piece_bytes, k_floats, v_floats, score_floats;
    int64_t total; /* heads of all batches */
    int32_t pieces;
} attention_job;

static size_t align16(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* Strides of the mask seen as [batch, heads, queries, keys]. */
static void mask_strides(attention_job *job, const sparoa_tensor *mask)
{
    size_t *to[3] = {&job->mask_row, &job->mask_head, &job->mask_batch};
    size_t stride = job->mask_width = (size_t)mask->dims[mask->rank - 1];
    job->mask_images = mask->rank == 4 && mask->dims[0] > 0 ? (size_t)mask->dims[0] : 1;
    for (int32_t d = mask->rank - 2, k = 0; d >= 0; d--, k++) {
        *to[k] = mask->dims[d] == 1 ? 0 : stride;
        stride *= (size_t)mask->dims[d];
    }
}

/* Rows of the mask as wide as those of the scores: one element is repeated, a row that is too short
 * leaves the keys behind it out. */
static const float *widen(const attention_job *job, const float *mask, size_t rows, float *to)
{
    const bool repeat = job->mask_width == 1 && !job->a.pads_mask;
    for (size_t i = 0; i < rows; i++, mask += job->mask_row) {
        float *row = to + i * job->row;
        for (size_t j = 0; j < job->mask_width; j++) row[j] = mask[j];
        for (size_t j = job->mask_width; j < job->keys; j++) row[j] = repeat ? *mask : -INFINITY;
    }
    return to;
}

static sparoa_status read_job(const sp_cpu_host *host, const sparoa_node *node, attention_job *job,
                              sparoa_error *err)
{
    *job = (attention_job){.node = node, .kernels = host->kernels};
    SP_TRY(sp_attn_parse(node, &job->a, err));
    const sp_attn *a = &job->a;
    job->heads = (size_t)a->q_heads, job->kv_heads = (size_t)a->kv_heads;
    job->queries = (size_t)a->q_len, job->keys = (size_t)a->kv_len;
    job->size = (size_t)a->head, job->value_size = (size_t)a->v_head;
    job->total = a->batch * a->q_heads;
    job->scale = sparoa_attr_float(node, "scale", job->size ? 1 / sqrtf((float)job->size) : 1);
    const sparoa_tensor *mask = sparoa_in(node, IN_MASK);
    if (mask) mask_strides(job, mask);
    size_t vector = (size_t)host->kernels->vector;
    job->row = (job->keys + vector - 1) / vector * vector;
    job->block = job->keys ? SCORE_BYTES / sizeof(float) / job->keys : 1;
    size_t tile = (size_t)host->kernels->gemm_rows;
    job->block = job->block / tile * tile;
    if (job->block < tile) job->block = tile;
    if (job->block > job->queries) job->block = job->queries;
    job->k_floats = align16(sp_gemm_group_floats(host->kernels, job->keys, job->size));
    job->v_floats = align16(sp_gemm_group_floats(host->kernels, job->value_size, job->keys));
    job->score_floats = align16(job->block * job->row);
    job->wide_mask = mask && job->mask_width != job->keys;
    job->piece_bytes =
        (job->k_floats + job->v_floats + job->score_floats * (job->wide_mask ? 2 : 1)) *
        sizeof(float);
    return SPAROA_OK;
}

static sparoa_status attention_prepare(void *state, const sp_cpu_host *host,
                                       const sparoa_node *node, void **prepared, size_t *workspace,
                                       sparoa_error *err)
{
    attention_job job;
    (void)state;
    (void)prepared;
    SP_TRY(read_job(host, node, &job, err));
    *workspace = job.piece_bytes * (size_t)host->threads;
    return SPAROA_OK;
}

static void pack(const attention_job *job, size_t n, size_t k, const float *b, size_t k_stride,
                 size_t n_stride, float scale, float *to)
{
    sp_gemm_f32_source source = {.n = n,
                                 .k = k,
                                 .taps = 1,
                                 .b = b,
                                 .k_stride = k_stride,
                                 .n_stride = n_stride,
                                 .scale = scale};
    job->kernels->gemm_f32_pack(&source, 0, job->kernels->gemm_f32_panels(n), to);
}

static size_t offset(const sp_attn_view *v, size_t batch, size_t head)
{
    return batch * (size_t)v->batch + head * (size_t)v->head;
}

static const float *at(const sp_attn_view *v, size_t batch, size_t head)
{
    return (const float *)v->data + offset(v, batch, head);
}

static void run_head(const attention_job *job, size_t index, float *room)
{
    const sp_kernels *f = job->kernels;
    size_t batch = index / job->heads, head = index % job->heads;
    size_t kv = head / (job->heads / job->kv_heads);
    const float *q = at(&job->a.q, batch, head), *m = NULL;
    const size_t q_row = (size_t)job->a.q.row, y_row = (size_t)job->a.y.row;
    float *y = (float *)job->node->out[0]->data + offset(&job->a.y, batch, head);
    const sparoa_tensor *mask = sparoa_in(job->node, IN_MASK);
    if (mask)
        m = (const float *)mask->data + batch % job->mask_images * job->mask_batch +
            head * job->mask_head;
    float *keys = room, *values = keys + job->k_floats, *scores = values + job->v_floats;
    pack(job, job->keys, job->size, at(&job->a.k, batch, kv), 1, (size_t)job->a.k.row, job->scale,
         keys);
    pack(job, job->value_size, job->keys, at(&job->a.v, batch, kv), (size_t)job->a.v.row, 1, 1,
         values);
    for (size_t row = 0; row < job->queries; row += job->block) {
        size_t rows = job->queries - row < job->block ? job->queries - row : job->block;
        sp_gemm_f32 g = {.m = rows,
                         .n = job->row, /* packed as that many columns, and stored whole */
                         .k = job->size,
                         .taps = 1,
                         .a = q + row * q_row,
                         .lda = q_row,
                         .b = keys,
                         .c = scores,
                         .ldc = job->row};
        f->gemm_f32(&g, 0, rows, 0, f->gemm_f32_panels(job->keys));
        const float *bias = m ? m + row * job->mask_row : NULL;
        size_t bias_row = job->wide_mask ? job->row : job->mask_row;
        if (job->wide_mask) bias = widen(job, bias, rows, scores + job->score_floats);
        f->softmax_masked_f32(rows, job->keys, scores, job->row, bias, bias_row);
        sp_gemm_f32 o = {.m = rows,
                         .n = job->value_size,
                         .k = job->keys,
                         .taps = 1,
                         .a = scores,
                         .lda = job->row,
                         .b = values,
                         .c = y + row * y_row,
                         .ldc = y_row};
        f->gemm_f32(&o, 0, rows, 0, f->gemm_f32_panels(job->value_size));
    }
}

static void attention_piece(void *arg, int32_t piece)
{
    const attention_job *job = arg;
    float *room = (float *)(void *)(job->workspace + job->piece_bytes * (size_t)piece);
    int64_t begin = job->total * piece / job->pieces, end = job->total * (piece + 1) / job->pieces;
    for (int64_t i = begin; i < end; i++) run_head(job, (size_t)i, room);
}

static sparoa_status attention_run(void *state, void *prepared, const sp_cpu_host *host,
                                   const sparoa_node *node, const sparoa_exec *exec)
{
    attention_job job;
    (void)state;
    (void)prepared;
    SP_TRY(read_job(host, node, &job, exec->err));
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    if (job.keys == 0) { /* a sum of nothing */
        memset(node->out[0]->data, 0, sparoa_tensor_bytes(node->out[0]));
        return SPAROA_OK;
    }
    sp_attn_set_views(node, &job.a);
    job.workspace = exec->workspace;
    job.pieces = job.total < exec->threads ? (int32_t)job.total : exec->threads;
    exec->parallel(exec, job.pieces, attention_piece, &job);
    return SPAROA_OK;
}

/* ONNX Attention, version 23 and newer. */
SP_CPU_KERNEL(Attention) = {
    .op = "Attention",
    .domain = "",
    .supports = attention_supports,
    .prepare = attention_prepare,
    .run = attention_run,
};
