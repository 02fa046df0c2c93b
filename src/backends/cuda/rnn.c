/* RNN, GRU and LSTM: one product with the inputs of all steps, then the recurrent kernels. */
#include "ops/rnn.h"
#include "backends/cuda/cuda.h"

_Static_assert((int)SP_RNN_FN_COUNT == SP_CU_RNN_FNS, "the kernels know these activations");

typedef struct rnn_prepared {
    sp_cuda_product product;
    sp_cu_rnn cell;
    size_t projected; /* bytes of the product's result, which comes first in the workspace */
} rnn_prepared;

static const char *rnn_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    for (int32_t i = 0; i < node->n_in; i++)
        if (i != 4 && node->in[i] && node->in[i]->dtype != SPAROA_FLOAT32)
            return "only float32 and float16";
    for (int32_t i = 0; i < 3; i++)
        if (!sparoa_in(node, i)) return "an input is missing";
    return NULL;
}

static void describe_cell(const sp_rnn *d, sp_cu_rnn *c)
{
    *c = (sp_cu_rnn){.gates = d->gates,
                     .dirs = d->dirs,
                     .reverse = d->reverse,
                     .batch_first = d->batch_first,
                     .linear_before_reset = d->linear_before_reset,
                     .input_forget = d->input_forget,
                     .clip = d->clip,
                     .steps = (int32_t)d->steps,
                     .batch = (int32_t)d->batch,
                     .hidden = (int32_t)d->hidden};
    for (int dir = 0; dir < 2; dir++)
        for (int i = 0; i < 3; i++) {
            c->act[dir][i] = (int32_t)d->act[dir][i].fn;
            c->a[dir][i] = d->act[dir][i].a;
            c->b[dir][i] = d->act[dir][i].b;
        }
}

static sparoa_status rnn_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                 size_t *workspace, sparoa_error *err)
{
    rnn_prepared *p = prepared;
    sp_rnn d = {0};
    SP_TRY(sp_rnn_parse(node, &d, err));
    if (d.batch > 65535 || d.steps > INT32_MAX || d.steps * d.batch > INT32_MAX)
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "too many sequences for the CUDA kernel");
    describe_cell(&d, &p->cell);
    int64_t rows = d.steps * d.batch, n = d.gates * d.hidden;
    p->product.math = SP_CUDA_MATH_F32; /* errors of TF32 would grow from step to step */
    p->product.shape = (sp_cu_gemm){.m = rows,
                                    .n = n,
                                    .k = d.input,
                                    .batch = d.dirs,
                                    .a_m = d.input,
                                    .a_k = 1,
                                    .b_k = 1,
                                    .b_n = d.input,
                                    .b_batch = n * d.input,
                                    .y_batch = rows * n,
                                    .alpha = 1};
    sp_cuda_product_plan(k->dev, &p->product, &(sp_cu_epilogue){.channels = n, .inner = 1}, false);
    p->projected = ((size_t)(d.dirs * rows * n) * sizeof(float) + 255) / 256 * 256;
    size_t state = (sp_cu_rnn_state(&p->cell) + 255) / 256 * 256;
    *workspace = p->projected + state + p->product.workspace;
    return SPAROA_OK;
}

static void rnn_unprepare(sparoa_kernel *k, void *prepared)
{
    sp_cuda_product_done(k->dev, &((rnn_prepared *)prepared)->product);
}

static void *data_of(const sparoa_tensor *t)
{
    return t ? t->data : NULL;
}

static sparoa_status rnn_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                             const sparoa_node *node, void *workspace, sparoa_error *err)
{
    rnn_prepared *p = prepared;
    sp_cu_rnn c = p->cell;
    c.projected = workspace;
    c.state = (float *)((char *)workspace + p->projected);
    void *rest = (char *)c.state + (sp_cu_rnn_state(&c) + 255) / 256 * 256;
    if (c.steps > 0 && p->product.shape.k > 0)
        SP_TRY(sp_cuda_product_run(k->dev, &p->product, node->in[0]->data, node->in[1]->data, NULL,
                                   NULL, workspace, rest, stream, node, err));
    c.r = node->in[2]->data;
    c.bias = data_of(sparoa_in(node, 3));
    c.lengths = data_of(sparoa_in(node, 4));
    c.h0 = data_of(sparoa_in(node, 5));
    c.c0 = data_of(sparoa_in(node, 6));
    c.peephole = data_of(sparoa_in(node, 7));
    c.y = data_of(sparoa_out(node, 0));
    c.y_h = data_of(sparoa_out(node, 1));
    c.y_c = data_of(sparoa_out(node, 2));
    c.fault = k->dev->fault_dev;
    sp_cu_rnn_run(&c, stream);
    return SPAROA_OK;
}

/* ONNX RNN, GRU and LSTM, versions 1 to 22. */
SP_CUDA_KERNEL(Rnn) = {.ops = SP_CUDA_NAMES("RNN", "GRU", "LSTM"),
                       .variant = "rnn",
                       .prepared_bytes = sizeof(rnn_prepared),
                       .refuses = rnn_refuses,
                       .prepare = rnn_prepare,
                       .unprepare = rnn_unprepare,
                       .run = rnn_run};
