/*
 * predictor_collect FAMILY/NAME=FOLDER... - runs each model of a folder in ONNX's test layout once
 * in both regimes and prints what their profiles say of every operator: a corpus
 * (predict/corpus.h). Progress and faults go to stderr.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/schedule_objects.h"
#include "predict/corpus.h"

enum { MOST_INPUTS = 16, MOST_OUTPUTS = 256 };

static void print_profile(const char *family, const char *name, const sp_profile *p)
{
    for (uint32_t i = 0; i < p->node_count; i++) {
        sp_predict_op o = sp_predict_op_of(&p->nodes[i]);
        const sparoa_cost *c = &o.work.cost;
        if (c->flops + c->bytes_in + c->bytes_out <= 0) continue; /* nothing is known of it */
        printf("%s\t%s\t%s\t%s\t%.6g\t%.6g\t%.6g\t%.6g\t%.4g\t%.4g\t%g\t%g\t%g\t%g\t%g\t%g\n",
               family, name, sp_regime_name(p->regime), sp_kind_name(o.work.kind), c->flops,
               c->bytes_in, c->bytes_w, c->bytes_out, o.work.weight_zeros, o.work.input_zeros,
               o.batch, o.channels, o.pixels, o.kernel, o.stride, o.groups);
    }
}

static sparoa_status profile(sparoa_model *model, sparoa_regime regime, sparoa_tensor *inputs,
                             size_t count, sparoa_profile **made, sparoa_error *err)
{
    sparoa_session *session = NULL;
    sparoa_tensor outputs[MOST_OUTPUTS] = {0};
    sparoa_session_options options = {.struct_size = sizeof options,
                                      .profile = 1,
                                      .disable_passes = sparoa_profile_passes(regime)};
    sparoa_status status = sparoa_profile_create(model, inputs, count, regime, made, err);
    if (!status) status = sparoa_session_create(model, &options, &session, err);
    if (!status)
        status = sparoa_session_run(session, inputs, count, outputs,
                                    sparoa_model_output_count(model), err);
    if (!status) status = sparoa_profile_measured(*made, session, NULL, NULL, err);
    sparoa_session_destroy(session);
    return status;
}

static sparoa_status collect(sparoa_runtime *rt, const char *family, const char *name,
                             const char *folder, sparoa_error *err)
{
    char path[4096];
    sparoa_model *model = NULL;
    sparoa_tensor inputs[MOST_INPUTS] = {0};
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    sparoa_status status = sparoa_model_load(rt, path, NULL, &model, err);
    size_t n = status ? 0 : sparoa_model_input_count(model);
    if (n > MOST_INPUTS || (!status && sparoa_model_output_count(model) > MOST_OUTPUTS))
        status = SPAROA_TOO_LARGE;
    for (size_t i = 0; !status && i < n; i++) {
        snprintf(path, sizeof path, "%s/test_data_set_0/input_%zu.pb", folder, i);
        status = sparoa_tensor_load_pb(rt, path, &inputs[i], NULL, 0, err);
    }
    for (int r = 0; !status && r < SP_REGIME_COUNT; r++) {
        sparoa_profile *p = NULL;
        status = profile(model, (sparoa_regime)r, inputs, n, &p, err);
        if (!status) print_profile(family, name, p->p);
        sparoa_profile_destroy(p);
    }
    for (size_t i = 0; i < MOST_INPUTS; i++)
        if (inputs[i].data) sparoa_tensor_free(rt, &inputs[i]);
    sparoa_model_destroy(model);
    return status;
}

int main(int argc, char **argv)
{
    sparoa_runtime *rt = NULL;
    sparoa_error err;
    int failed = 0;
    if (sparoa_runtime_create(NULL, &rt, &err)) return fprintf(stderr, "%s\n", err.message), 1;
    puts(SP_PREDICT_CORPUS_HEAD);
    for (int i = 1; i < argc; i++) {
        char *slash = strchr(argv[i], '/'), *folder = slash ? strchr(slash, '=') : NULL;
        if (!folder) return fprintf(stderr, "usage: predictor_collect FAMILY/NAME=FOLDER...\n"), 2;
        *folder++ = *slash++ = 0;
        err.message[0] = 0;
        if (collect(rt, argv[i], slash, folder, &err)) {
            fprintf(stderr, "%s: left out: %s\n", slash, err.message);
            failed = 1;
        }
    }
    sparoa_runtime_destroy(rt);
    return failed;
}
