// cpp.cpp - the C interface from C++: owners by unique_ptr, errors as exceptions.
//
//   cpp MODEL.onnx

#include <sparoa.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

namespace
{

template <typename T, void (*destroy)(T *)> struct Destroy {
    void operator()(T *object) const
    {
        destroy(object);
    }
};
template <typename T, void (*destroy)(T *)> using Owner = std::unique_ptr<T, Destroy<T, destroy>>;

using Runtime = Owner<sparoa_runtime, sparoa_runtime_destroy>;
using Model = Owner<sparoa_model, sparoa_model_destroy>;
using Session = Owner<sparoa_session, sparoa_session_destroy>;

void check(sparoa_status status, const sparoa_error &err)
{
    if (status != SPAROA_OK) throw std::runtime_error(err.message);
}

std::vector<float> run(const char *path, std::vector<float> &pixels)
{
    sparoa_error err;
    sparoa_runtime *runtime = nullptr;
    check(sparoa_runtime_create(nullptr, &runtime, &err), err);
    Runtime runtime_owner(runtime);
    sparoa_model *model = nullptr;
    check(sparoa_model_load(runtime, path, nullptr, &model, &err), err);
    Model model_owner(model);
    sparoa_session *session = nullptr;
    check(sparoa_session_create(model, nullptr, &session, &err), err);
    Session session_owner(session);
    const sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, pixels.data(), 4, 1, 1, 8, 8);
    std::vector<float> scores(10);
    sparoa_tensor out = sparoa_tensor_of(SPAROA_FLOAT32, scores.data(), 2, 1, 10);
    check(sparoa_session_run(session, &in, 1, &out, 1, &err), err);
    return scores;
}

} // namespace

int main(int argc, char **argv)
{
    std::vector<float> pixels(64, 0.5F);
    try {
        for (float score : run(argc > 1 ? argv[1] : "digits.onnx", pixels))
            std::printf("%.3f\n", score);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
    return 0;
}
