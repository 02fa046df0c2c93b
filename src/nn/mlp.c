/* Multi-layer perceptron. */
#include "nn/nn.h"

sp_nn_mlp sp_nn_mlp_make(size_t *count, sp_act act, size_t layers, const size_t *widths)
{
    sp_nn_mlp l = {.layers = layers, .act = act};
    for (size_t i = 0; i < layers; i++)
        l.linear[i] = sp_nn_linear_make(count, widths[i], widths[i + 1]);
    return l;
}

void sp_nn_mlp_init(const sp_nn_mlp *l, float *params, sp_nn_rng *rng)
{
    for (size_t i = 0; i < l->layers; i++) sp_nn_linear_init(&l->linear[i], params, rng);
}

/* Each hidden layer before and after the activation. */
size_t sp_nn_mlp_cache(const sp_nn_mlp *l, size_t rows)
{
    size_t floats = 1;
    for (size_t i = 0; i + 1 < l->layers; i++) floats += 2 * rows * l->linear[i].out;
    return floats;
}

void sp_nn_mlp_forward(sp_nn *nn, const sp_nn_mlp *l, const float *params, size_t rows,
                       const float *x, float *y, float *cache)
{
    for (size_t i = 0; i + 1 < l->layers; i++) {
        size_t size = rows * l->linear[i].out;
        sp_nn_linear_forward(nn, &l->linear[i], params, rows, x, cache);
        sp_nn_act_forward(nn, l->act, size, cache, cache + size);
        x = cache + size;
        cache += 2 * size;
    }
    sp_nn_linear_forward(nn, &l->linear[l->layers - 1], params, rows, x, y);
}

void sp_nn_mlp_backward(sp_nn *nn, const sp_nn_mlp *l, const float *params, size_t rows,
                        const float *x, const float *dy, float *dx, float *grads,
                        const float *cache, float *work)
{
    size_t end = sp_nn_mlp_cache(l, rows) - 1;
    for (size_t i = l->layers - 1; i > 0; i--) {
        size_t size = rows * l->linear[i].in, before = end - 2 * size;
        const float *hidden = cache + before, *active = hidden + size;
        float *d = work + before + size;
        sp_nn_linear_backward(nn, &l->linear[i], params, rows, active, dy, d, grads);
        sp_nn_act_backward(l->act, size, hidden, active, d, d);
        dy = d;
        end = before;
    }
    sp_nn_linear_backward(nn, &l->linear[0], params, rows, x, dy, dx, grads);
}
