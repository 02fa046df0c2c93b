/* RNN, GRU and LSTM: shapes, cost, packing of weights. Attributes are read in rnn_parse.c, the
 * computation is in rnn_run.c. */
#include "ops/rnn.h"

static sparoa_status rnn_infer(const sparoa_node *node, sparoa_error *err)
{
    sp_rnn p = {0};
    SP_TRY(sp_rnn_parse(node, &p, err));
    sparoa_dtype type = node->in[0]->dtype;
    int64_t y0[4] = {p.steps, p.dirs, p.batch, p.hidden},
            y1[4] = {p.batch, p.steps, p.dirs, p.hidden};
    int64_t s0[3] = {p.dirs, p.batch, p.hidden}, s1[3] = {p.batch, p.dirs, p.hidden};
    if (sparoa_out(node, 0)) sp_set_shape(node->out[0], type, 4, p.batch_first ? y1 : y0);
    for (int32_t i = 1; i < node->n_out; i++)
        if (node->out[i]) sp_set_shape(node->out[i], type, 3, p.batch_first ? s1 : s0);
    return SPAROA_OK;
}

static void rnn_cost(const sparoa_node *node, sparoa_cost *cost)
{
    sp_rnn p = {0};
    if (sp_rnn_parse(node, &p, NULL) != SPAROA_OK) return;
    double rows = (double)p.steps * (double)p.batch * p.dirs;
    cost->flops = rows * p.gates * (double)p.hidden * (2.0 * (double)(p.input + p.hidden) + 10.0);
}

static int64_t product(int64_t n, const int64_t *v)
{
    int64_t all = 1;
    for (int64_t i = 0; i < n; i++)
        if (v[i] < 0 || __builtin_mul_overflow(all, v[i], &all)) return -1;
    return all;
}

int64_t sp_rnn_packed_count(const sp_rnn *p)
{
    if (p->hidden < 0 || p->input < 0 || p->input > INT64_MAX / 2) return -1;
    int64_t columns = (p->hidden + SP_RNN_LANES - 1) / SP_RNN_LANES * SP_RNN_LANES;
    return product(4, (int64_t[]){p->dirs, p->gates, columns, p->input + p->hidden});
}

int64_t sp_rnn_work_count(const sp_rnn *p)
{
    int64_t projected = product(4, (int64_t[]){p->steps, p->batch, p->gates, p->hidden});
    int64_t state = product(3, (int64_t[]){p->batch, p->hidden, p->gates + 4});
    int64_t all;
    return projected < 0 || state < 0 || __builtin_add_overflow(projected, state, &all) ? -1 : all;
}

bool sp_rnn_packs_once(const sparoa_node *node)
{
    bool all = true;
    if (!node->constant) return false;
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] && !node->constant[i]) all = false;
    return node->constant[1] && node->constant[2] && !all;
}

static size_t rnn_workspace(const sparoa_node *node, int32_t threads)
{
    sp_rnn p = {0};
    if (sp_rnn_parse(node, &p, NULL) != SPAROA_OK) return 0;
    int64_t work = sp_rnn_work_count(&p),
            packed = sp_rnn_packs_once(node) ? 0 : sp_rnn_packed_count(&p);
    size_t bytes;
    if (work < 0 || packed < 0 || __builtin_add_overflow(work, packed, &work) ||
        __builtin_mul_overflow((size_t)work, sparoa_dtype_size(node->in[0]->dtype), &bytes))
        return SIZE_MAX / 2;
    return bytes;
}

void sp_rnn_pack(const sp_rnn *p, const sparoa_node *node, sparoa_dtype dtype, void *data)
{
    sparoa_tensor all = {.data = data, .dtype = dtype};
    int64_t at = 0, h = p->hidden, panels = (h + SP_RNN_LANES - 1) / SP_RNN_LANES;
    for (int64_t dg = 0; dg < (int64_t)p->dirs * p->gates; dg++) {
        for (int32_t m = 1; m <= 2; m++) {
            int64_t k = m == 1 ? p->input : h;
            for (int64_t panel = 0; panel < panels; panel++)
                for (int64_t i = 0; i < k; i++)
                    for (int64_t lane = 0; lane < SP_RNN_LANES; lane++) {
                        int64_t row = panel * SP_RNN_LANES + lane;
                        double v = row < h ? sp_get_f64(node->in[m], (dg * h + row) * k + i) : 0;
                        if (dtype == SPAROA_FLOAT32)
                            ((float *)all.data)[at++] = (float)v;
                        else
                            ((double *)all.data)[at++] = v;
                    }
        }
    }
}

static sparoa_status rnn_create(const sparoa_node *node, const sparoa_allocator *alloc,
                                void **state, sparoa_error *err)
{
    *state = NULL;
    sp_rnn p = {0};
    if (!sp_rnn_packs_once(node)) return SPAROA_OK;
    SP_TRY(sp_rnn_parse(node, &p, err));
    p.input = sp_dim(node->in[1], 2);
    p.hidden = sp_dim(node->in[2], 2);
    sparoa_dtype dtype = node->in[1]->dtype == SPAROA_FLOAT64 ? SPAROA_FLOAT64 : SPAROA_FLOAT32;
    int64_t count = sp_rnn_packed_count(&p);
    size_t bytes, head = 64;
    if (count < 0 || __builtin_mul_overflow((size_t)count, sparoa_dtype_size(dtype), &bytes))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the weights are too large");
    sp_rnn_packed *packed = alloc->alloc(alloc->user, head + bytes, 64);
    if (!packed)
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node,
                           "no memory for %zu bytes of packed weights", bytes);
    *packed = (sp_rnn_packed){head + bytes, dtype, (char *)packed + head};
    sp_rnn_pack(&p, node, dtype, packed->data);
    *state = packed;
    return SPAROA_OK;
}

static void rnn_destroy(void *state, const sparoa_allocator *alloc)
{
    sp_rnn_packed *packed = state;
    if (packed) alloc->free(alloc->user, packed, packed->bytes);
}

/* clang-format off */
#define RNN_ROW(name_, max_in_, max_out_)                                                        \
    {                                                                                            \
        SP_OP_HEAD(name_, 1, 0), .min_in = 3, .max_in = (max_in_), .min_out = 0, .max_out = (max_out_), \
        .op_class = SPAROA_CLASS_RNN, .tolerance = SPAROA_TOL_SUM, .infer = rnn_infer,           \
        .cost = rnn_cost, .workspace = rnn_workspace, .run = sp_rnn_run, .create = rnn_create,   \
        .destroy = rnn_destroy                                                                   \
    }

/* ONNX RNN, versions 1, 7, 14 and 22. */
SP_OP(RNN) = RNN_ROW("RNN", 6, 2);
/* ONNX GRU, versions 1, 3, 7, 14 and 22. */
SP_OP(GRU) = RNN_ROW("GRU", 6, 2);
/* ONNX LSTM, versions 1, 7, 14 and 22. */
SP_OP(LSTM) = RNN_ROW("LSTM", 8, 3);
