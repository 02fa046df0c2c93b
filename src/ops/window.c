/* Windows of signal processing and the mel filter bank: tables made from a few scalars. */
#include "ops/check.h"

#define MAX_SIZE ((int64_t)1 << 31)

static sparoa_status output_type(const sparoa_node *node, sparoa_dtype *type, sparoa_error *err)
{
    int64_t t = sparoa_attr_int(node, "output_datatype", SPAROA_FLOAT32);
    if (t < 0 || t > 31 || !(SP_TYPES_NUMBER >> t & 1u))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "output_datatype=%lld is not a number type", (long long)t);
    *type = (sparoa_dtype)t;
    return SPAROA_OK;
}

static sparoa_status window_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    sparoa_dtype type = SPAROA_FLOAT32;
    bool known;
    int64_t size = -1;
    SP_TRY(output_type(node, &type, err));
    SP_TRY(sp_check_type(node, 0, 1u << SPAROA_INT32 | 1u << SPAROA_INT64, err));
    SP_TRY(sp_read_scalar(node, 0, &known, &size, err));
    if (known && (size < 0 || size > MAX_SIZE))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "a window of size %lld is not possible",
                           (long long)size);
    if (!known) size = -1;
    sp_set_shape(node->out[0], type, 1, &size);
    return SPAROA_OK;
}

/* a0 - a1 cos(x) + a2 cos(2x), x from 0 to 2 pi. */
static sparoa_status window_fill(const sparoa_node *node, double a0, double a1, double a2)
{
    int64_t n = node->out[0]->dims[0];
    int64_t period = sparoa_attr_int(node, "periodic", 1) != 0 ? n : n - 1;
    for (int64_t i = 0; i < n; i++) {
        double x = period > 0 ? 2.0 * M_PI * (double)i / (double)period : M_PI;
        sp_set_f64(node->out[0], i, a0 - a1 * cos(x) + a2 * cos(2.0 * x));
    }
    return SPAROA_OK;
}

static sparoa_status hann_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return window_fill(node, 0.5, 0.5, 0.0);
}

static sparoa_status hamming_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return window_fill(node, 25.0 / 46.0, 21.0 / 46.0, 0.0);
}

static sparoa_status blackman_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return window_fill(node, 0.42, 0.5, 0.08);
}

static sparoa_status mel_read(const sparoa_node *node, int64_t *mels, int64_t *length,
                              sparoa_error *err)
{
    bool known;
    for (int32_t i = 0; i < 3; i++)
        SP_TRY(sp_check_type(node, i, 1u << SPAROA_INT32 | 1u << SPAROA_INT64, err));
    for (int32_t i = 3; i < 5; i++) SP_TRY(sp_check_type(node, i, SP_TYPES_FLOAT, err));
    *mels = *length = -1;
    SP_TRY(sp_read_scalar(node, 0, &known, mels, err));
    if (!known)
        *mels = -1;
    else if (*mels < 0 || *mels > MAX_SIZE)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "num_mel_bins=%lld is not possible",
                           (long long)*mels);
    SP_TRY(sp_read_scalar(node, 1, &known, length, err));
    if (!known)
        *length = -1;
    else if (*length < 0 || *length > MAX_SIZE)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "dft_length=%lld is not possible",
                           (long long)*length);
    return SPAROA_OK;
}

static sparoa_status mel_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 5, 1, err));
    sparoa_dtype type = SPAROA_FLOAT32;
    int64_t mels, length;
    SP_TRY(output_type(node, &type, err));
    SP_TRY(mel_read(node, &mels, &length, err));
    sp_set_shape(node->out[0], type, 2, (int64_t[]){length < 0 ? -1 : length / 2 + 1, mels});
    return SPAROA_OK;
}

typedef struct mel_scale {
    double low, step, length, rate;
    int64_t bins;
} mel_scale;

static int64_t mel_bin(const mel_scale *s, int64_t i)
{
    double hertz = 700.0 * (pow(10.0, (s->low + (double)i * s->step) / 2595.0) - 1.0);
    double bin = floor((s->length + 1.0) * hertz / s->rate);
    if (!(bin > 0)) return 0;
    return bin > (double)s->bins ? s->bins : (int64_t)bin;
}

static sparoa_status mel_run(const sparoa_node *node, const sparoa_exec *exec)
{
    int64_t mels, length, rate = 0;
    bool known;
    SP_TRY(mel_read(node, &mels, &length, exec->err));
    SP_TRY(sp_read_scalar(node, 2, &known, &rate, exec->err));
    sparoa_tensor *out = node->out[0];
    if (rate < 1 || sp_count(node->in[3]) != 1 || sp_count(node->in[4]) != 1)
        return sparoa_fail(exec->err, SPAROA_INVALID_GRAPH, node,
                           "sample_rate=%lld and the edges must be positive", (long long)rate);
    double low = 2595.0 * log10(1.0 + sp_get_f64(node->in[3], 0) / 700.0);
    double high = 2595.0 * log10(1.0 + sp_get_f64(node->in[4], 0) / 700.0);
    mel_scale s = {low, (high - low) / (double)(mels + 2), (double)length, (double)rate,
                   length / 2 + 1};
    if (out->dims[0] != s.bins || out->dims[1] != mels)
        return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                           "the output is not prepared for this size");
    memset(out->data, 0, sparoa_tensor_bytes(out));
    for (int64_t m = 0; m < mels; m++) {
        int64_t left = mel_bin(&s, m), centre = mel_bin(&s, m + 1), right = mel_bin(&s, m + 2);
        if (centre == left && centre < s.bins) sp_set_f64(out, centre * mels + m, 1.0);
        for (int64_t j = left; centre > left && j <= centre && j < s.bins; j++)
            sp_set_f64(out, j * mels + m, (double)(j - left) / (double)(centre - left));
        for (int64_t j = centre; right > centre && j < right && j < s.bins; j++)
            sp_set_f64(out, j * mels + m, (double)(right - j) / (double)(right - centre));
    }
    return SPAROA_OK;
}

#define WINDOW_ROW(name_, run_)                                                                    \
    {                                                                                              \
        SP_OP_HEAD(name_, 17, 0),                                                                  \
            .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .op_class = SPAROA_CLASS_OTHER,  \
            .tolerance = SPAROA_TOL_ROUNDING, .infer = window_infer, .run = (run_)                 \
    }

/* ONNX HannWindow, version 17. */
SP_OP(HannWindow) = WINDOW_ROW("HannWindow", hann_run);
/* ONNX HammingWindow, version 17. */
SP_OP(HammingWindow) = WINDOW_ROW("HammingWindow", hamming_run);
/* ONNX BlackmanWindow, version 17. */
SP_OP(BlackmanWindow) = WINDOW_ROW("BlackmanWindow", blackman_run);

/* ONNX MelWeightMatrix, version 17. */
SP_OP(MelWeightMatrix) = {
    SP_OP_HEAD("MelWeightMatrix", 17, 0),
    .min_in = 5,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = mel_infer,
    .run = mel_run,
};
