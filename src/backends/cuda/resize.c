/* Resize and Upsample: the tables of each axis are worked out on the host when shapes are known. */
#include "ops/resize.h"
#include "backends/cuda/cuda.h"

#define MAX_ACTIVE 3

typedef struct resize_prepared {
    sp_cu_resize r;
    void *start[MAX_ACTIVE], *weight[MAX_ACTIVE];
    size_t start_bytes[MAX_ACTIVE], weight_bytes[MAX_ACTIVE];
} resize_prepared;

static const char *resize_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0);
    (void)dev, (void)op;
    if (!sp_cuda_is_f32(node, 0)) return "only float32";
    for (int32_t i = 1; i < node->n_in; i++)
        if (!sp_cuda_known(node, i)) return "sizes that are not constant";
    if (x->rank < 0) return "a rank that is not known";
    sp_resize r;
    int32_t active = 0;
    if (sp_resize_parse(node, &r, NULL) != SPAROA_OK) return "sizes that are not known";
    for (int32_t i = 0; i < r.rank; i++) active += r.axis[i].active;
    return active <= MAX_ACTIVE ? NULL : "more than three axes";
}

static sparoa_status table(sparoa_kernel *k, const sp_resize *r, int32_t d, resize_prepared *p,
                           int slot, sparoa_error *err)
{
    sparoa_dev *dev = k->dev;
    const sp_resize_axis *axis = &r->axis[d];
    bool nearest = r->mode == SP_RESIZE_NEAREST;
    size_t n = (size_t)axis->out, taps = nearest ? 1 : (size_t)sp_resize_taps(r, axis);
    if (axis->in > INT32_MAX || axis->out > INT32_MAX || taps > 4096 || n * taps > SIZE_MAX / 16)
        return sparoa_fail(err, SPAROA_TOO_LARGE, NULL, "an axis is too long for the CUDA kernel");
    int64_t *start = sp_cuda_host_alloc(dev, n * sizeof *start);
    double *weight = sp_cuda_host_alloc(dev, n * taps * sizeof *weight);
    sparoa_status status = SPAROA_OUT_OF_MEMORY;
    if (start && weight) {
        sp_resize_table(r, axis, start, nearest ? NULL : weight);
        int32_t *narrow = (int32_t *)start; /* converted in place, front to back */
        float *single = (float *)weight;
        for (size_t i = 0; i < n; i++) {
            int64_t v = start[i];
            memcpy(&narrow[i], &(int32_t){(int32_t)v}, sizeof *narrow);
        }
        for (size_t i = 0; i < n * taps; i++) {
            double v = weight[i];
            memcpy(&single[i], &(float){(float)v}, sizeof *single);
        }
        p->start_bytes[slot] = n * sizeof(int32_t);
        p->weight_bytes[slot] = nearest ? 0 : n * taps * sizeof(float);
        status = sp_cuda_upload(dev, NULL, narrow, p->start_bytes[slot], &p->start[slot], err);
        if (status == SPAROA_OK && !nearest)
            status =
                sp_cuda_upload(dev, NULL, single, p->weight_bytes[slot], &p->weight[slot], err);
    }
    sp_cuda_host_free(dev, start, n * sizeof *start);
    sp_cuda_host_free(dev, weight, n * taps * sizeof *weight);
    p->r.active[slot] = d;
    p->r.taps[slot] = (int32_t)taps;
    p->r.start[slot] = p->start[slot];
    p->r.weight[slot] = p->weight[slot];
    return status;
}

static sparoa_status resize_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                    size_t *workspace, sparoa_error *err)
{
    resize_prepared *p = prepared;
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    sp_resize r;
    int64_t strides[SPAROA_MAX_RANK];
    (void)workspace;
    SP_TRY(sp_resize_parse(node, &r, err));
    sp_strides(x, strides);
    p->r = (sp_cu_resize){
        .rank = x->rank, .count = sp_count(y), .extrapolation = (float)r.extrapolation};
    if (p->r.count == 0) return SPAROA_OK;
    for (int32_t i = 0; i < x->rank; i++) {
        p->r.out[i] = y->dims[i];
        p->r.strides[i] = strides[i];
        if (!r.axis[i].active) continue;
        if (p->r.n_active == MAX_ACTIVE)
            return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node, "more than three axes change");
        SP_TRY(table(k, &r, i, p, p->r.n_active, err));
        p->r.n_active++;
    }
    return SPAROA_OK;
}

static void resize_unprepare(sparoa_kernel *k, void *prepared)
{
    resize_prepared *p = prepared;
    for (int i = 0; i < MAX_ACTIVE; i++) {
        sp_cuda_free(k->dev, p->start[i], p->start_bytes[i]);
        sp_cuda_free(k->dev, p->weight[i], p->weight_bytes[i]);
    }
}

static sparoa_status resize_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    (void)k, (void)workspace, (void)err;
    sp_cu_resize_run(&((resize_prepared *)prepared)->r, node->in[0]->data, node->out[0]->data,
                     stream);
    return SPAROA_OK;
}

/* ONNX Resize, versions 10 to 19, and Upsample, versions 7 and 9: float32, all modes, constant
 * sizes. */
SP_CUDA_KERNEL(Resize) = {.ops = SP_CUDA_NAMES("Resize", "Upsample"),
                          .variant = "resize_f32",
                          .prepared_bytes = sizeof(resize_prepared),
                          .refuses = resize_refuses,
                          .prepare = resize_prepare,
                          .unprepare = resize_unprepare,
                          .run = resize_run};
