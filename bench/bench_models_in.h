/* bench_models_in.h - profiles of the models that a benchmark of placement is given. */
#ifndef SP_BENCH_MODELS_IN_H
#define SP_BENCH_MODELS_IN_H

#include <stdio.h>
#include <string.h>

#include "api/objects.h"
#include "profile/profile.h"

/* Calls `use` with the static profile of each NAME=MODEL.onnx in each regime, open dimensions 1. */
static inline int bench_each_profile(sparoa_runtime *rt, int count, char **models,
                                     void (*use)(void *user, const char *name, sp_profile *profile),
                                     void *user)
{
    for (int i = 0; i < count; i++) {
        char name[64];
        sparoa_error err;
        sparoa_model *model = NULL;
        sparoa_value_info info = {0};
        const char *path = strchr(models[i], '=');
        if (!path) return fprintf(stderr, "%s: expected NAME=MODEL.onnx\n", models[i]), 2;
        snprintf(name, sizeof name, "%.*s", (int)(path - models[i]), models[i]);
        sparoa_status status = sparoa_model_load(rt, path + 1, NULL, &model, &err);
        if (!status) status = sparoa_model_input(model, 0, &info);
        sparoa_tensor in = sparoa_tensor_view(info.dtype, NULL, info.rank, info.dims);
        for (int d = 0; d < in.rank; d++)
            if (in.dims[d] < 1) in.dims[d] = 1;
        for (int r = 0; r < SP_REGIME_COUNT && !status; r++) {
            sp_profile *profile = NULL;
            status = sp_profile_create(&rt->alloc, model->graph, name, &in, 1, (sp_regime)r,
                                       &profile, &err);
            if (!status) use(user, name, profile);
            sp_profile_destroy(profile);
        }
        sparoa_model_destroy(model);
        if (status) return fprintf(stderr, "%s: %s\n", name, err.message), 1;
    }
    return 0;
}

#endif
