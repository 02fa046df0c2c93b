/*
 * LSTM and GRU on float32 with constant weights and the usual functions (sigmoid, tanh, tanh). The
 * input's products of all steps are one product; each step is a small one with packed weights, to
 * which the step's share is added before it is stored. Rows that have ended are computed like the
 * others and dropped, so that they keep their states. Two directions run on two threads.
 */
#include "ops/rnn.h"
#include "backends/cpu/gemm_run.h"
#include "ops/op.h"

enum { LENGTHS = 4, PEEPHOLES = 7 }; /* inputs */

typedef struct rnn_state {
    sp_rnn p;
    sp_cpu_packed *w[2], *r[2];  /* by direction */
    sp_cpu_packed *candidate[2]; /* GRU: R of the hidden gate, which r lacks */
} rnn_state;

static bool usual_functions(const sp_rnn *p)
{
    for (int32_t d = 0; d < p->dirs; d++)
        for (int32_t i = 0; i < p->gates - 1; i++)
            if (p->act[d][i].fn != (i ? SP_RNN_TANH : SP_RNN_SIGMOID)) return false;
    return !(p->clip < INFINITY) && !p->input_forget;
}

/* All float32 but sequence_lens. */
static bool has_types(const sparoa_node *node)
{
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->dtype != (i == LENGTHS ? SPAROA_INT32 : SPAROA_FLOAT32))
            return false;
    return true;
}

static const char *rnn_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    sp_rnn p = {0};
    if (node->n_in < 3 || sparoa_in(node, PEEPHOLES)) return NULL;
    for (int32_t i = 0; i < 3; i++)
        if (!node->in[i] || (i && !sp_cpu_is_constant(node, i))) return NULL;
    if (!has_types(node) || !sp_cpu_constant_or_absent(node, 3)) return NULL;
    if (sp_rnn_parse(node, &p, NULL) != SPAROA_OK || !usual_functions(&p)) return NULL;
    return p.hidden > 0 && p.input > 0 ? host->kernels->gemm_name : NULL;
}

static sp_cpu_packed *pack(const sp_cpu_host *host, const float *b, int64_t n, int64_t k,
                           const float *bias)
{
    sp_gemm_f32_source source = {.n = (size_t)n,
                                 .k = (size_t)k,
                                 .taps = 1,
                                 .b = b,
                                 .k_stride = 1,
                                 .n_stride = (size_t)k,
                                 .bias = bias,
                                 .scale = 1};
    return sp_gemm_pack_shared(host, &source, 1, source.n * source.k);
}

/* The biases of both products go with the input's, but for the one that GRU's reset multiplies. */
static bool pack_direction(const sp_cpu_host *host, rnn_state *s, const sparoa_node *node,
                           int32_t dir)
{
    const sp_rnn *p = &s->p;
    const int64_t h = p->hidden, n = p->gates * h;
    const bool gru = p->gates == 3;
    const float *w = (const float *)node->in[1]->data + dir * n * p->input,
                *r = (const float *)node->in[2]->data + dir * n * h;
    const float *b = sparoa_in(node, 3) ? (const float *)node->in[3]->data + dir * 2 * n : NULL;
    const size_t bytes = (size_t)n * sizeof(float);
    float *sum = sp_cpu_alloc(host, bytes);
    if (!sum) return false;
    for (int64_t i = 0; b && i < n; i++)
        sum[i] = b[i] + (gru && p->linear_before_reset && i >= 2 * h ? 0 : b[n + i]);
    s->w[dir] = pack(host, w, n, p->input, sum);
    s->r[dir] = pack(host, r, gru ? 2 * h : n, h, NULL);
    if (gru)
        s->candidate[dir] =
            pack(host, r + 2 * h * h, h, h, b && p->linear_before_reset ? b + n + 2 * h : NULL);
    sp_cpu_free(host, sum, bytes);
    return s->w[dir] && s->r[dir] && (!gru || s->candidate[dir]);
}

static void rnn_destroy(void *state, const sp_cpu_host *host)
{
    rnn_state *s = state;
    if (!s) return;
    for (int32_t d = 0; d < 2; d++) {
        sp_cpu_pack_release(s->w[d]);
        sp_cpu_pack_release(s->r[d]);
        sp_cpu_pack_release(s->candidate[d]);
    }
    sp_cpu_free(host, s, sizeof *s);
}

static sparoa_status rnn_create(const sparoa_node *node, const sp_cpu_host *host, void **state,
                                sparoa_error *err)
{
    rnn_state *s = sp_cpu_alloc(host, sizeof *s);
    if (!s) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    sparoa_status status = sp_rnn_parse(node, &s->p, err);
    for (int32_t d = 0; d < s->p.dirs && status == SPAROA_OK; d++)
        if (!pack_direction(host, s, node, d))
            status = sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to pack the weights");
    if (status != SPAROA_OK)
        rnn_destroy(s, host);
    else
        *state = s;
    return status;
}

static size_t rnn_bytes(const void *state)
{
    const rnn_state *s = state;
    size_t bytes = 0;
    for (int32_t d = 0; d < s->p.dirs; d++)
        bytes += s->w[d]->bytes + s->r[d]->bytes + (s->candidate[d] ? s->candidate[d]->bytes : 0);
    return bytes;
}

static bool rnn_keeps_input(const void *state, int32_t input)
{
    (void)state;
    return input < 1 || input > 3;
}

static sparoa_status rnn_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                 void **prepared, size_t *workspace, sparoa_error *err)
{
    sp_rnn p = {0};
    SP_TRY(sp_rnn_parse(node, &p, err));
    int64_t floats = sp_rnn_work_count(&p);
    size_t bytes;
    if (floats < 0 || __builtin_mul_overflow((size_t)floats, p.dirs * sizeof(float), &bytes))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    *workspace = bytes;
    return SPAROA_OK;
}

typedef struct rnn_task {
    const rnn_state *s;
    const sp_kernels *kernels;
    const sparoa_node *node;
    const sparoa_exec *exec; /* NULL: another thread has the other direction */
    sp_rnn p;
    float *work;
} rnn_task;

/* Where one direction's step reads and writes. */
typedef struct rnn_step {
    int32_t dir;
    float *gates, *h, *c, *scratch;
    const float *input; /* of the step: row b at input + b * stride */
    size_t stride;
    int64_t at;             /* the step's place in time */
    const int32_t *lengths; /* of the rows, or NULL */
} rnn_step;

/* Backwards too: a row's first steps are then those behind its end, which change nothing. */
static bool has_ended(const rnn_step *k, int64_t b)
{
    return k->lengths && k->at >= k->lengths[b];
}

static void product(const rnn_task *t, const sp_gemm_f32 *g)
{
    if (t->exec)
        sp_gemm_parallel(t->kernels, g, t->exec);
    else
        t->kernels->gemm_f32(g, 0, g->m, 0, t->kernels->gemm_f32_panels(g->n));
}

static void act(const rnn_task *t, sp_act function, int64_t n, float *x)
{
    t->kernels->act_f32((int)function, 0, 0, (size_t)n, x, x);
}

/* c = a * packed, plus `add` where given. */
static void recur(const rnn_task *t, const rnn_step *k, const float *a, const sp_cpu_packed *packed,
                  int64_t n, int64_t first, bool add)
{
    size_t h = (size_t)t->p.hidden, all = h * (size_t)t->p.gates;
    sp_gemm_f32 g = {.m = (size_t)t->p.batch,
                     .n = (size_t)n,
                     .k = h,
                     .taps = 1,
                     .a = a,
                     .lda = h,
                     .b = packed->data,
                     .c = k->gates + first,
                     .ldc = all};
    if (add) g.residual = k->input + first, g.ldr = k->stride, g.epilogue.residual = 1;
    product(t, &g);
}

static void lstm_step(const rnn_task *t, const rnn_step *k)
{
    const int64_t h = t->p.hidden, n = 4 * h;
    recur(t, k, k->h, t->s->r[k->dir], n, 0, true);
    for (int64_t b = 0; b < t->p.batch; b++) {
        if (has_ended(k, b)) continue;
        float *g = k->gates + b * n, *restrict c = k->c + b * h, *restrict y = k->h + b * h;
        const float *in = g, *out = g + h, *forget = g + 2 * h, *cell = g + 3 * h;
        act(t, SP_ACT_SIGMOID, 3 * h, g);
        act(t, SP_ACT_TANH, h, g + 3 * h);
        for (int64_t i = 0; i < h; i++) y[i] = c[i] = forget[i] * c[i] + in[i] * cell[i];
        act(t, SP_ACT_TANH, h, y);
        for (int64_t i = 0; i < h; i++) y[i] *= out[i];
    }
}

static void gru_step(const rnn_task *t, const rnn_step *k)
{
    const int64_t h = t->p.hidden, n = 3 * h;
    const bool late = t->p.linear_before_reset;
    recur(t, k, k->h, t->s->r[k->dir], 2 * h, 0, true);
    if (late) recur(t, k, k->h, t->s->candidate[k->dir], h, 2 * h, false);
    for (int64_t b = 0; b < t->p.batch; b++) {
        float *g = k->gates + b * n, *reset = g + h, *hidden = g + 2 * h;
        const float *x = k->input + (size_t)b * k->stride + 2 * h, *state = k->h + b * h;
        act(t, SP_ACT_SIGMOID, 2 * h, g);
        for (int64_t i = 0; late && i < h; i++) hidden[i] = x[i] + reset[i] * hidden[i];
        for (int64_t i = 0; !late && i < h; i++) k->scratch[b * h + i] = reset[i] * state[i];
    }
    if (!late) recur(t, k, k->scratch, t->s->candidate[k->dir], h, 2 * h, true);
    for (int64_t b = 0; b < t->p.batch; b++) {
        if (has_ended(k, b)) continue;
        float *g = k->gates + b * n, *hidden = g + 2 * h, *restrict y = k->h + b * h;
        act(t, SP_ACT_TANH, h, hidden);
        for (int64_t i = 0; i < h; i++) y[i] = (1 - g[i]) * hidden[i] + g[i] * y[i];
    }
}

/* A state between [batch][hidden] and its place among the directions. */
static void copy_state(const rnn_task *t, int32_t dir, float *inner, const sparoa_tensor *outer,
                       bool load)
{
    const sp_rnn *p = &t->p;
    const size_t bytes = (size_t)p->hidden * sizeof(float);
    for (int64_t b = 0; b < p->batch; b++) {
        float *in = inner + b * p->hidden;
        int64_t at = (p->batch_first ? b * p->dirs + dir : dir * p->batch + b) * p->hidden;
        if (!outer)
            load ? memset(in, 0, bytes) : NULL;
        else if (load)
            memcpy(in, (const float *)outer->data + at, bytes);
        else
            memcpy((float *)outer->data + at, in, bytes);
    }
}

/* The step's part of Y: zeros where a row has ended. */
static void store_step(const rnn_task *t, const rnn_step *k, float *y)
{
    const sp_rnn *p = &t->p;
    const size_t bytes = (size_t)p->hidden * sizeof(float);
    for (int64_t b = 0; b < p->batch; b++) {
        int64_t row = p->batch_first ? (b * p->steps + k->at) * p->dirs + k->dir
                                     : (k->at * p->dirs + k->dir) * p->batch + b;
        if (has_ended(k, b))
            memset(y + row * p->hidden, 0, bytes);
        else
            memcpy(y + row * p->hidden, k->h + b * p->hidden, bytes);
    }
}

static void run_direction(void *arg, int32_t dir)
{
    const rnn_task *t = arg;
    const sp_rnn *p = &t->p;
    const int64_t h = p->hidden, n = p->gates * h, rows = p->steps * p->batch;
    float *projected = t->work + dir * sp_rnn_work_count(p);
    rnn_step k = {.dir = dir, .gates = projected + rows * n};
    k.h = k.gates + p->batch * n, k.c = k.h + p->batch * h, k.scratch = k.c + p->batch * h;
    sp_gemm_f32 g = {.m = (size_t)rows,
                     .n = (size_t)n,
                     .k = (size_t)p->input,
                     .taps = 1,
                     .a = t->node->in[0]->data,
                     .lda = (size_t)p->input,
                     .b = t->s->w[dir]->data,
                     .c = projected,
                     .ldc = (size_t)n};
    product(t, &g);
    copy_state(t, dir, k.h, sparoa_in(t->node, 5), true);
    copy_state(t, dir, k.c, sparoa_in(t->node, 6), true);
    k.stride = (size_t)(p->batch_first ? p->steps * n : n);
    const sparoa_tensor *lengths = sparoa_in(t->node, LENGTHS);
    if (lengths) k.lengths = lengths->data;
    const sparoa_tensor *y = sparoa_out(t->node, 0);
    for (int64_t step = 0; step < p->steps; step++) {
        k.at = dir == 1 || p->reverse ? p->steps - 1 - step : step;
        k.input = projected + k.at * (p->batch_first ? 1 : p->batch) * n;
        p->gates == 4 ? lstm_step(t, &k) : gru_step(t, &k);
        if (y) store_step(t, &k, y->data);
    }
    if (sparoa_out(t->node, 1)) copy_state(t, dir, k.h, t->node->out[1], false);
    if (sparoa_out(t->node, 2)) copy_state(t, dir, k.c, t->node->out[2], false);
}

static sparoa_status rnn_run(void *state, void *prepared, const sp_cpu_host *host,
                             const sparoa_node *node, const sparoa_exec *exec)
{
    const rnn_state *s = state;
    const sparoa_tensor *x = node->in[0];
    rnn_task t = {s, host->kernels, node, exec, s->p, exec->workspace};
    t.p.steps = x->dims[t.p.batch_first ? 1 : 0];
    t.p.batch = x->dims[t.p.batch_first ? 0 : 1];
    SP_TRY(sp_rnn_check_lengths(node, &t.p, exec->err));
    if (t.p.batch == 0) return SPAROA_OK;
    if (t.p.dirs == 2 && exec->threads > 1) {
        t.exec = NULL;
        exec->parallel(exec, 2, run_direction, &t);
        return SPAROA_OK;
    }
    for (int32_t d = 0; d < t.p.dirs; d++) run_direction(&t, d);
    return SPAROA_OK;
}

#define RNN_ROW(name)                                                                              \
    {                                                                                              \
        .op = name, .domain = "", .supports = rnn_supports, .create = rnn_create,                  \
        .bytes = rnn_bytes, .keeps_input = rnn_keeps_input, .prepare = rnn_prepare,                \
        .run = rnn_run, .destroy = rnn_destroy                                                     \
    }
/* ONNX LSTM, all versions, without peepholes and clipping. */
SP_CPU_KERNEL(LSTM) = RNN_ROW("LSTM");
/* ONNX GRU, all versions, without clipping. */
SP_CPU_KERNEL(GRU) = RNN_ROW("GRU");
