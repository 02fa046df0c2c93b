/* float16 for rows that compute in float32: the node is shown with float32 tensors, constants are
 * converted when it is created, values before and after each run, in the workspace. */
#include "backends/cuda/cuda.h"
#include "ops/half.h"

#define MOST 40 /* inputs and outputs of a node */

typedef struct widened {
    sparoa_node node;
    sparoa_tensor tensors[MOST];
    sparoa_tensor *slots[MOST];
} widened;

bool sp_cuda_has_half(const sparoa_node *node)
{
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->dtype == SPAROA_FLOAT16) return true;
    for (int32_t i = 0; i < node->n_out; i++)
        if (node->out[i] && node->out[i]->dtype == SPAROA_FLOAT16) return true;
    return false;
}

static size_t room(const sparoa_tensor *t)
{
    return ((size_t)sp_count(t) * sizeof(float) + 255) / 256 * 256;
}

/* float16 tensors become float32 ones without data. */
static bool show(widened *w, const sparoa_node *node)
{
    int32_t n = node->n_in + node->n_out;
    if (n > MOST) return false;
    w->node = *node;
    w->node.in = w->slots;
    w->node.out = w->slots + node->n_in;
    for (int32_t i = 0; i < n; i++) {
        sparoa_tensor *t = i < node->n_in ? node->in[i] : node->out[i - node->n_in];
        w->slots[i] = t;
        if (!t || t->dtype != SPAROA_FLOAT16) continue;
        w->tensors[i] = *t;
        w->tensors[i].dtype = SPAROA_FLOAT32;
        w->tensors[i].data = NULL;
        w->slots[i] = &w->tensors[i];
    }
    return true;
}

const char *sp_cuda_widened_refuses(sparoa_dev *dev, const sp_cuda_row *row,
                                    const sparoa_node *node, int op)
{
    widened w;
    if (!show(&w, node)) return "more inputs than float16 is supported for";
    return row->refuses ? row->refuses(dev, &w.node, op) : NULL;
}

sparoa_status sp_cuda_widened_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    widened w;
    sparoa_status status = SPAROA_OK;
    if (!k->row->create) return SPAROA_OK;
    if (!show(&w, node)) return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node, "too many inputs");
    for (int32_t i = 0; i < node->n_in && status == SPAROA_OK; i++) {
        const sparoa_tensor *t = node->in[i];
        if (w.slots[i] != &w.tensors[i] || !t->data) continue;
        int64_t n = sp_count(t);
        float *to = sp_cuda_host_alloc(k->dev, (size_t)n * sizeof *to);
        w.tensors[i].data = to;
        if (!to) status = sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for a constant");
        for (int64_t j = 0; to && j < n; j++) to[j] = sp_f32_of_f16(((const uint16_t *)t->data)[j]);
    }
    if (status == SPAROA_OK) status = k->row->create(k, &w.node, err);
    for (int32_t i = 0; i < node->n_in; i++)
        if (w.slots[i] == &w.tensors[i])
            sp_cuda_host_free(k->dev, w.tensors[i].data,
                              (size_t)sp_count(node->in[i]) * sizeof(float));
    return status;
}

/* An input that the row keeps for itself has no data when it runs. */
static bool converts(const sparoa_kernel *k, const widened *w, int32_t i)
{
    if (w->slots[i] != &w->tensors[i]) return false;
    bool constant = i < w->node.n_in && w->node.constant && w->node.constant[i];
    return !constant || !k->row->keeps_input || k->row->keeps_input(k, i);
}

sparoa_status sp_cuda_widened_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                      size_t *workspace, sparoa_error *err)
{
    widened w;
    if (!show(&w, node)) return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node, "too many inputs");
    sparoa_status status =
        k->row->prepare ? k->row->prepare(k, &w.node, prepared, workspace, err) : SPAROA_OK;
    for (int32_t i = 0; i < node->n_in + node->n_out; i++)
        if (converts(k, &w, i)) *workspace += room(&w.tensors[i]);
    return status;
}

sparoa_status sp_cuda_widened_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                  const sparoa_node *node, void *workspace, sparoa_error *err)
{
    widened w;
    char *at = workspace;
    if (!show(&w, node)) return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node, "too many inputs");
    for (int32_t i = 0; i < node->n_in + node->n_out; i++) {
        if (!converts(k, &w, i)) continue;
        w.tensors[i].data = at;
        at += room(&w.tensors[i]);
        if (i < node->n_in)
            sp_cu_cast(SP_CU_F16, SP_CU_F32, node->in[i]->data, w.tensors[i].data,
                       sp_count(node->in[i]), stream);
    }
    SP_TRY(k->row->run(k, prepared, stream, &w.node, at, err));
    for (int32_t i = 0; i < node->n_out; i++)
        if (node->out[i] && node->out[i]->dtype == SPAROA_FLOAT16)
            sp_cu_cast(SP_CU_F32, SP_CU_F16, w.tensors[node->n_in + i].data, node->out[i]->data,
                       sp_count(node->out[i]), stream);
    return SPAROA_OK;
}
