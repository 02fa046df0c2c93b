/*
 * custom_op.c - an operator of the application's own, in a domain of its own: com.example::Scale3
 * multiplies by three. The model that uses it is written here by hand, byte by byte, to keep the
 * example in one file.
 */
#include <sparoa.h>
#include <sparoa_backend.h>
#include <stdio.h>

static sparoa_status scale3_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = sparoa_in(node, 0);
    if (x->dtype != SPAROA_FLOAT32)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node, "input is %d, expected float32",
                           (int)x->dtype);
    *sparoa_out(node, 0) = *x; /* same type and shape */
    sparoa_out(node, 0)->data = NULL;
    return SPAROA_OK;
}

static sparoa_status scale3_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const float *x = sparoa_in(node, 0)->data;
    float *y = sparoa_out(node, 0)->data;
    int64_t n = 1;
    (void)exec;
    for (int32_t i = 0; i < node->in[0]->rank; i++) n *= node->in[0]->dims[i];
    for (int64_t i = 0; i < n; i++) y[i] = 3 * x[i];
    return SPAROA_OK;
}

static const sparoa_op scale3 = {
    .struct_size = sizeof(sparoa_op),
    .name = "Scale3",
    .domain = "com.example",
    .since = 1,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_ELTWISE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = scale3_infer,
    .run = scale3_run,
};

/* ModelProto: ir_version 8; graph "g" with node x -> Scale3 -> y and float32 tensors x, y of shape
 * [4]; opsets ai.onnx 17 and com.example 1. Field numbers are those of onnx.proto. */
static const unsigned char model_bytes[] = {
    0x08, 8,                                                                      /* ir_version */
    0x3a, 66,                                                                     /* graph */
    0x0a, 27,                                                                     /*   node */
    0x0a, 1,  'x',  0x12, 1,    'y',  0x22, 6,    'S', 'c',  'a', 'l',  'e', '3', /*     x, y,
                                                                                     Scale3 */
    0x3a, 11, 'c',  'o',  'm',  '.',  'e',  'x',  'a', 'm',  'p', 'l',  'e',      /*     domain */
    0x12, 1,  'g',                                                                /*   name */
    0x5a, 15, 0x0a, 1,    'x',  0x12, 10,   0x0a, 8,   0x08, 1,   0x12, 4,   0x0a, 2,
    0x08, 4, /* input */
    0x62, 15, 0x0a, 1,    'y',  0x12, 10,   0x0a, 8,   0x08, 1,   0x12, 4,   0x0a, 2,
    0x08, 4,                        /* output */
    0x42, 4,  0x0a, 0,    0x10, 17, /* opset_import */
    0x42, 15, 0x0a, 11,   'c',  'o',  'm',  '.',  'e', 'x',  'a', 'm',  'p', 'l',  'e',
    0x10, 1,
};

int main(void)
{
    const sparoa_op *own[] = {&scale3};
    sparoa_runtime_options options = {
        .struct_size = sizeof options, .operators = own, .operator_count = 1};
    sparoa_runtime *runtime = NULL;
    sparoa_model *model = NULL;
    sparoa_session *session = NULL;
    sparoa_error err;
    float x[4] = {1, 2, 3, 4};
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, x, 1, 4), out = {0};
    int failed =
        sparoa_runtime_create(&options, &runtime, &err) ||
        sparoa_model_load_memory(runtime, model_bytes, sizeof model_bytes, NULL, &model, &err) ||
        sparoa_session_create(model, NULL, &session, &err) ||
        sparoa_session_run(session, &in, 1, &out, 1, &err);
    if (failed) fprintf(stderr, "%s\n", err.message);
    for (int i = 0; !failed && i < 4; i++) printf("%g -> %g\n", x[i], ((float *)out.data)[i]);
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(runtime);
    return failed != 0;
}
