/* random_build.h - a whole random model from a seed, and inputs for it. */
#ifndef TESTS_ENGINE_RANDOM_BUILD_H
#define TESTS_ENGINE_RANDOM_BUILD_H

#include "tests/engine/random_ops.h"

#define RG_STEPS 18
#define RG_MAX_OUTPUTS 64

static inline void rg_build_steps(rg *r, uint64_t seed, int steps)
{
    static const int64_t opsets[] = {11, 13, 17, 17, 18};
    memset(r, 0, sizeof *r);
    r->key = sp_rng_stream(0x5eed, seed);
    r->model = mb_new();
    r->g = r->model->graph;
    r->opset = opsets[rg_pick(r, 5)];
    mb_opset(r->model, r->opset);
    r->dynamic = rg_chance(r, 50);
    r->n = 1 + rg_pick(r, 3);
    int inputs = 1 + rg_chance(r, 30);
    for (int i = 0; i < inputs; i++) {
        int64_t sizes[] = {1, 4, 7, 8, 8, 12};
        int64_t dims[4] = {r->n, i ? r->values[0].dims[1] : 1 + rg_pick(r, 8), sizes[rg_pick(r, 6)],
                           sizes[rg_pick(r, 6)]};
        if (i) memcpy(dims, r->values[0].dims, sizeof dims);
        rg_value *v = rg_new(r, 4, dims, NULL);
        if (r->dynamic) dims[0] = -1;
        mb_input(r->g, v->name, SPAROA_FLOAT32, 4, dims);
    }
    for (int step = 0; step < steps && r->count < RG_MAX_VALUES - 20; step++) {
        rg_value *x = rg_any(r, rg_chance(r, 65) ? 4 : 0);
        if (!x) x = rg_any(r, 0);
        if (!rg_ops[rg_pick(r, sizeof rg_ops / sizeof *rg_ops)](r, x)) step -= rg_chance(r, 80);
    }
    for (int i = 0; i < r->count && r->g->n_output < RG_MAX_OUTPUTS; i++) {
        bool input = i < inputs;
        if ((!input && r->values[i].uses == 0) || rg_chance(r, input ? 3 : 15))
            mb_output(r->g, r->values[i].name);
    }
    if (r->g->n_output == 0) mb_output(r->g, r->values[r->count - 1].name);
}

static inline void rg_build(rg *r, uint64_t seed)
{
    rg_build_steps(r, seed, RG_STEPS);
}

/* Random inputs of batch n; free their data. */
static inline void rg_inputs(const rg *r, int64_t n, sparoa_tensor *in)
{
    for (size_t i = 0; i < r->g->n_input; i++) {
        int64_t dims[4];
        memcpy(dims, r->values[i].dims, sizeof dims);
        dims[0] = n;
        in[i] = ts_random(4, dims, sp_rng_stream(r->key, 1000 + i));
    }
}

#endif
