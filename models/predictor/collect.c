/*
 * predictor_collect NAME=FOLDER... - runs each model of a folder in ONNX's test layout once and
 * prints one line per operator of the optimised graph: what corpus.c reads. Progress and faults go
 * to stderr.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/objects.h"
#include "ops/epilogue.h"
#include "ops/op.h"
#include "platform/platform.h"

enum { MOST_INPUTS = 16 };

static double product(const sparoa_tensor *t, int32_t first, int32_t last)
{
    double p = 1;
    for (int32_t i = first; t && i < last && i < t->rank; i++) p *= (double)t->dims[i];
    return p;
}

static double first_int(const sparoa_node *v, const char *name)
{
    size_t n;
    const int64_t *ints = sparoa_attr_ints(v, name, &n);
    return n ? (double)ints[0] : 1;
}

static void print_node(const char *model, const sparoa_session *s, size_t i)
{
    const sp_gnode *n = &s->graph->nodes[i];
    const sp_frame_node *f = &s->frame->nodes[i];
    const sparoa_node *v = &f->view;
    sparoa_node_info info = {0};
    const sparoa_tensor *out = v->n_out ? sparoa_out(v, 0) : NULL, *w = NULL;
    for (int32_t k = 0; k < v->n_in; k++)
        if (v->in[k] && !sp_known(v->in[k])) return;
    if (!out || !sp_known(out) || f->skip || sparoa_session_node(s, i, &info)) return;
    if (v->n_in > 1) w = sparoa_in(v, 1);
    sparoa_cost c;
    sp_op_cost(n->op, v, &c);
    double groups = (double)sparoa_attr_int(v, "group", 1);
    int kind = (int)n->op->op_class;
    if (n->op->op_class == SPAROA_CLASS_CONV && groups > 1 && w && w->rank > 1 && w->dims[1] == 1)
        kind = SP_KIND_DEPTHWISE;
    if (n->op->flags & SPAROA_OP_VIEW) kind = SP_KIND_VIEW;
    bool last = sp_is_nhwc(v) || out->rank < 4;
    int32_t axis = out->rank < 2 ? 0 : last ? out->rank - 1 : 1;
    double batch = out->rank > 1 ? (double)out->dims[0] : 1;
    double channels = out->rank ? (double)out->dims[axis] : 1, all = product(out, 0, out->rank);
    double pixels = batch * channels > 0 ? all / (batch * channels) : 1;
    printf("%s\t%s\t%.6g\t%.6g\t%.6g\t%.6g\t%.4g\t%.4g\t%g\t%g\t%g\t%g\t%g\t%g\n", model,
           sp_kind_name(kind), c.flops, c.bytes_in, c.bytes_w, c.bytes_out,
           info.weight_zeros > 0 ? info.weight_zeros : 0,
           info.input_zeros > 0 ? info.input_zeros : 0, batch, channels, pixels,
           first_int(v, "kernel_shape"), first_int(v, "strides"), groups);
}

static sparoa_status collect(sparoa_runtime *rt, const char *name, const char *folder,
                             sparoa_error *err)
{
    char path[4096];
    sparoa_model *model = NULL;
    sparoa_session *session = NULL;
    sparoa_tensor inputs[MOST_INPUTS] = {0}, outputs[256] = {0};
    sparoa_session_options options = {.struct_size = sizeof options, .profile = 1};
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    sparoa_status status = sparoa_model_load(rt, path, NULL, &model, err);
    if (!status) status = sparoa_session_create(model, &options, &session, err);
    size_t n = status ? 0 : sparoa_model_input_count(model);
    if (n > MOST_INPUTS || (!status && sparoa_model_output_count(model) > 256))
        status = SPAROA_TOO_LARGE;
    for (size_t i = 0; !status && i < n; i++) {
        snprintf(path, sizeof path, "%s/test_data_set_0/input_%zu.pb", folder, i);
        status = sparoa_tensor_load_pb(rt, path, &inputs[i], NULL, 0, err);
    }
    if (!status)
        status =
            sparoa_session_run(session, inputs, n, outputs, sparoa_model_output_count(model), err);
    for (size_t i = 0; !status && i < session->graph->node_count; i++) print_node(name, session, i);
    for (size_t i = 0; i < MOST_INPUTS; i++)
        if (inputs[i].data) sparoa_tensor_free(rt, &inputs[i]);
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    return status;
}

int main(int argc, char **argv)
{
    sparoa_runtime *rt = NULL;
    sparoa_error err;
    int failed = 0;
    if (sparoa_runtime_create(NULL, &rt, &err)) return fprintf(stderr, "%s\n", err.message), 1;
    for (int i = 1; i < argc; i++) {
        char *folder = strchr(argv[i], '=');
        if (!folder) return fprintf(stderr, "usage: predictor_collect NAME=FOLDER...\n"), 2;
        *folder++ = 0;
        err.message[0] = 0;
        if (collect(rt, argv[i], folder, &err)) {
            fprintf(stderr, "%s: left out: %s\n", argv[i], err.message);
            failed = 1;
        }
    }
    sparoa_runtime_destroy(rt);
    return failed;
}
