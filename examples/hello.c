/* hello.c - load a model, run it on a picture of ones, print the result. */
#include <sparoa.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    sparoa_runtime *runtime = NULL;
    sparoa_model *model = NULL;
    sparoa_session *session = NULL;
    sparoa_error err;
    float pixels[8 * 8] = {0};
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, pixels, 4, 1, 1, 8, 8), out = {0};
    for (int i = 0; i < 8; i++) pixels[i * 8 + 4] = 1; /* a vertical stroke */
    int failed =
        sparoa_runtime_create(NULL, &runtime, &err) ||
        sparoa_model_load(runtime, argc > 1 ? argv[1] : "digits.onnx", NULL, &model, &err) ||
        sparoa_session_create(model, NULL, &session, &err) ||
        sparoa_session_run(session, &in, 1, &out, 1, &err);
    if (failed) fprintf(stderr, "%s\n", err.message);
    for (int i = 0; !failed && i < 10; i++) printf("%d: %.3f\n", i, ((float *)out.data)[i]);
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(runtime);
    return failed != 0;
}
