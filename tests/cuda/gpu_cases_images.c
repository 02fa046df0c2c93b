/* Cases of operators on images and matrices. */
#include "gpu_node.h"

static void image(gpu_node *g, int64_t n, int64_t c, int64_t h, int64_t w, bool nhwc)
{
    gpu_input(g, SPAROA_FLOAT32, 4, nhwc ? DIMS(n, h, w, c) : DIMS(n, c, h, w));
}

static void pool(gpu_test *t, gpu_node *g)
{
    bool nhwc = gpu_range(g, 0, 1), average = gpu_range(g, 0, 1);
    int64_t k[2] = {gpu_range(g, 1, 5), gpu_range(g, 1, 5)},
            s[2] = {gpu_range(g, 1, 3), gpu_range(g, 1, 3)};
    int64_t p[4], d[2] = {gpu_range(g, 1, 2), gpu_range(g, 1, 2)};
    gpu_start(g, average ? "AveragePool" : "MaxPool", average ? 19 : 12, 1);
    image(g, gpu_range(g, 1, 3), gpu_range(g, 1, 70), gpu_range(g, 9, 30), gpu_range(g, 9, 30),
          nhwc);
    for (int i = 0; i < 4; i++) p[i] = gpu_range(g, 0, k[i % 2] - 1);
    gpu_ints(g, "kernel_shape", 2, k);
    gpu_ints(g, "strides", 2, s);
    gpu_ints(g, "pads", 4, p);
    if (gpu_range(g, 0, 2) == 0) gpu_ints(g, "dilations", 2, d);
    gpu_int(g, "ceil_mode", gpu_range(g, 0, 1));
    if (average) gpu_int(g, "count_include_pad", gpu_range(g, 0, 1));
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    gpu_compare(t, g);
}

static void global_pool(gpu_test *t, gpu_node *g)
{
    bool nhwc = gpu_range(g, 0, 1);
    gpu_start(g, gpu_range(g, 0, 2) ? "GlobalAveragePool" : "GlobalMaxPool", 1, 1);
    image(g, gpu_range(g, 1, 3), gpu_range(g, 1, 200), gpu_range(g, 1, 30), gpu_range(g, 1, 30),
          nhwc);
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    gpu_compare(t, g);
}

static void resize(gpu_test *t, gpu_node *g)
{
    static const char *const coords[] = {"half_pixel", "asymmetric", "align_corners",
                                         "pytorch_half_pixel"};
    static const char *const modes[] = {"nearest", "linear", "linear", "cubic"};
    bool nhwc = gpu_range(g, 0, 1);
    gpu_start(g, "Resize", 19, 1);
    image(g, gpu_range(g, 1, 2), gpu_range(g, 1, 20), gpu_range(g, 2, 20), gpu_range(g, 2, 20),
          nhwc);
    gpu_skip_input(g);
    sparoa_tensor *scales = gpu_weight(g, 1, DIMS(4));
    float values[4] = {1, 1, (float)gpu_uniform(g, 0.4, 3), (float)gpu_uniform(g, 0.4, 3)};
    if (gpu_range(g, 0, 1)) values[2] = values[3] = 2;
    memcpy(scales->data, values, sizeof values);
    const char *mode = PICK(g, modes);
    gpu_string(g, "mode", mode);
    gpu_string(g, "coordinate_transformation_mode", PICK(g, coords));
    if (strcmp(mode, "nearest") != 0 && gpu_range(g, 0, 2) == 0) gpu_int(g, "antialias", 1);
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    gpu_compare(t, g);
}

/* How large a sum of k products of values in -2..2 becomes; activations hide it. */
static double sum_of(int64_t k)
{
    return 4 * sqrt((double)k);
}

/* Adds an activation and perhaps a residual of the output's shape. */
static void epilogue(gpu_node *g, sparoa_dtype type, int rank, const int64_t *out)
{
    int residual = (int)gpu_range(g, 0, 3);
    if (gpu_range(g, 0, 3)) {
        gpu_string(g, "sp.act",
                   sp_act_names[gpu_range(g, 0, 1) ? 1 : gpu_range(g, 0, SP_ACT_COUNT - 1)]);
        gpu_float(g, "sp.act_a", -0.25f);
        gpu_float(g, "sp.act_b", 1.5f);
    }
    if (residual == 0 || residual == 3) return;
    gpu_input(g, type, rank, out);
    gpu_int(g, "sp.residual", residual);
}

static void conv(gpu_test *t, gpu_node *g)
{
    bool nhwc = gpu_range(g, 0, 3) != 0, bias = gpu_range(g, 0, 1);
    int kind = (int)gpu_range(g, 0, 4); /* 1x1, depthwise, grouped, plain */
    int64_t n = gpu_range(g, 1, 3), h = gpu_range(g, 5, 30), w = gpu_range(g, 5, 30);
    int64_t group = 1, ci = gpu_range(g, 1, 70), co = gpu_range(g, 1, 70), k[2], s[2], d[2], p[4];
    if (kind == 1) group = ci = co = gpu_range(g, 2, 70);
    if (kind == 2) {
        group = gpu_range(g, 2, 4);
        ci = group * gpu_range(g, 1, 9);
        co = group * gpu_range(g, 1, 9);
    }
    gpu_start(g, "Conv", 11, 1);
    for (int i = 0; i < 2; i++) {
        k[i] = kind == 0 ? 1 : gpu_range(g, 1, 5);
        s[i] = kind == 0 && gpu_range(g, 0, 2) ? 1 : gpu_range(g, 1, 2);
        d[i] = k[i] < 4 && gpu_range(g, 0, 3) == 0 ? 2 : 1;
        p[i] = kind == 0 ? 0 : gpu_range(g, 0, k[i] - 1);
        p[i + 2] = kind == 0 || gpu_range(g, 0, 2) ? p[i] : gpu_range(g, 0, k[i] - 1);
    }
    h += k[0] * d[0];
    w += k[1] * d[1];
    int64_t oh = (h + p[0] + p[2] - (k[0] - 1) * d[0] - 1) / s[0] + 1;
    int64_t ow = (w + p[1] + p[3] - (k[1] - 1) * d[1] - 1) / s[1] + 1;
    image(g, n, ci, h, w, nhwc);
    gpu_weight(g, 4, DIMS(co, ci / group, k[0], k[1]));
    if (bias)
        gpu_weight(g, 1, DIMS(co));
    else
        gpu_skip_input(g);
    gpu_ints(g, "strides", 2, s);
    gpu_ints(g, "dilations", 2, d);
    gpu_ints(g, "pads", 4, p);
    gpu_int(g, "group", group);
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    g->magnitude = sum_of(ci / group * k[0] * k[1]);
    epilogue(g, SPAROA_FLOAT32, 4, nhwc ? DIMS(n, oh, ow, co) : DIMS(n, co, oh, ow));
    gpu_compare(t, g);
}

/* Shapes that the kernels for little arithmetic take: depthwise, 1x1, and few input channels. */
static void conv_light(gpu_test *t, gpu_node *g)
{
    sparoa_dtype type = gpu_range(g, 0, 2) ? SPAROA_FLOAT16 : SPAROA_FLOAT32;
    int kind = (int)gpu_range(g, 0, 2);
    int64_t n = gpu_range(g, 1, 3), h = gpu_range(g, 5, 40), w = gpu_range(g, 5, 40), p[4];
    int64_t k = kind == 1 ? 1 : kind == 0 && gpu_range(g, 0, 1) ? 5 : 3, d = 1, s = 1;
    int64_t ci = kind == 2 ? gpu_range(g, 1, 3) : 8 * gpu_range(g, 1, 20);
    int64_t co = kind == 0 ? ci : 8 * gpu_range(g, 1, kind == 2 ? 8 : 20);
    if (kind != 1) s = gpu_range(g, 1, 2);
    if (kind == 2) d = gpu_range(g, 1, 2);
    if (kind == 2 && gpu_range(g, 0, 3)) w = (w + 7) / 8 * 8;
    for (int i = 0; i < 4; i++) p[i] = gpu_range(g, 0, k / 2);
    int64_t oh = (h + p[0] + p[2] - (k - 1) * d - 1) / s + 1;
    int64_t ow = (w + p[1] + p[3] - (k - 1) * d - 1) / s + 1;
    gpu_start(g, "Conv", 11, 1);
    gpu_input(g, type, 4, DIMS(n, h, w, ci));
    gpu_constant(g, type, 4, DIMS(co, kind == 0 ? 1 : ci, k, k));
    if (gpu_range(g, 0, 3))
        gpu_constant(g, type, 1, DIMS(co));
    else
        gpu_skip_input(g);
    gpu_ints(g, "strides", 2, DIMS(s, s));
    gpu_ints(g, "dilations", 2, DIMS(d, d));
    gpu_ints(g, "pads", 4, p);
    gpu_int(g, "group", kind == 0 ? ci : 1);
    gpu_int(g, "sp.nhwc", 1);
    g->magnitude = sum_of((kind == 0 ? 1 : ci) * k * k);
    epilogue(g, type, 4, DIMS(n, oh, ow, co));
    gpu_compare(t, g);
}

/* One and three dimensions. */
static void conv_other(gpu_test *t, gpu_node *g)
{
    int spatial = gpu_range(g, 0, 1) ? 1 : 3, rank = spatial + 2;
    bool nhwc = gpu_range(g, 0, 1);
    int64_t x[5], w[5], ci = gpu_range(g, 1, 20), co = gpu_range(g, 1, 20);
    gpu_start(g, "Conv", 11, 1);
    x[0] = gpu_range(g, 1, 3);
    x[nhwc ? rank - 1 : 1] = ci;
    w[0] = co;
    w[1] = ci;
    for (int i = 0; i < spatial; i++) {
        x[i + (nhwc ? 1 : 2)] = gpu_range(g, 6, spatial == 1 ? 200 : 12);
        w[i + 2] = gpu_range(g, 1, 4);
    }
    gpu_input(g, SPAROA_FLOAT32, rank, x);
    gpu_weight(g, rank, w);
    gpu_weight(g, 1, &co);
    if (gpu_range(g, 0, 1)) gpu_string(g, "auto_pad", "SAME_UPPER");
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    gpu_compare(t, g);
}

static void conv_transpose(gpu_test *t, gpu_node *g)
{
    bool nhwc = gpu_range(g, 0, 1);
    int64_t group = gpu_range(g, 1, 2), ci = group * gpu_range(g, 1, 20), cog = gpu_range(g, 1, 20);
    int64_t k[2], s[2], p[4];
    gpu_start(g, "ConvTranspose", 11, 1);
    for (int i = 0; i < 2; i++) {
        k[i] = gpu_range(g, 1, 4);
        s[i] = gpu_range(g, 1, 3);
        p[i] = gpu_range(g, 0, k[i] - 1);
        p[i + 2] = gpu_range(g, 0, k[i] - 1);
    }
    image(g, gpu_range(g, 1, 2), ci, gpu_range(g, 4, 12), gpu_range(g, 4, 12), nhwc);
    gpu_weight(g, 4, DIMS(ci, cog, k[0], k[1]));
    if (gpu_range(g, 0, 1)) gpu_weight(g, 1, DIMS(cog * group));
    gpu_ints(g, "strides", 2, s);
    if (gpu_range(g, 0, 2))
        gpu_ints(g, "pads", 4, p);
    else
        gpu_string(g, "auto_pad", "SAME_UPPER");
    gpu_int(g, "group", group);
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    gpu_compare(t, g);
}

/* ---- products ---- */

static void gemm(gpu_test *t, gpu_node *g)
{
    int64_t m = gpu_range(g, 1, 130), n = gpu_range(g, 1, 130), k = gpu_range(g, 1, 300);
    bool ta = gpu_range(g, 0, 1), tb = gpu_range(g, 0, 1);
    gpu_start(g, "Gemm", 13, 1);
    gpu_input(g, SPAROA_FLOAT32, 2, ta ? DIMS(k, m) : DIMS(m, k));
    gpu_weight(g, 2, tb ? DIMS(n, k) : DIMS(k, n));
    switch (gpu_range(g, 0, 4)) {
    case 0: gpu_skip_input(g); break;
    case 1: gpu_weight(g, 1, DIMS(n)); break;
    case 2: gpu_weight(g, 2, DIMS(m, n)); break;
    case 3: gpu_weight(g, 2, DIMS(m, 1)); break;
    default: gpu_weight(g, 1, DIMS(1));
    }
    gpu_int(g, "transA", ta);
    gpu_int(g, "transB", tb);
    if (gpu_range(g, 0, 2) == 0) gpu_float(g, "alpha", 0.5f);
    if (gpu_range(g, 0, 2) == 0) gpu_float(g, "beta", 0.25f);
    g->magnitude = sum_of(k);
    epilogue(g, SPAROA_FLOAT32, 2, DIMS(m, n));
    gpu_compare(t, g);
}

static void matmul(gpu_test *t, gpu_node *g)
{
    int64_t m = gpu_range(g, 1, 70), n = gpu_range(g, 1, 70), k = gpu_range(g, 1, 200);
    int64_t b0 = gpu_range(g, 1, 4), b1 = gpu_range(g, 1, 4);
    gpu_start(g, "MatMul", 13, 1);
    int kind = (int)gpu_range(g, 0, 6);
    switch (kind) {
    case 0: gpu_input(g, SPAROA_FLOAT32, 2, DIMS(m, k)); break;
    case 1: gpu_input(g, SPAROA_FLOAT32, 1, DIMS(k)); break;
    default: gpu_input(g, SPAROA_FLOAT32, 4, DIMS(kind == 4 ? 1 : b0, kind == 5 ? 1 : b1, m, k));
    }
    switch (kind) {
    case 2: gpu_weight(g, 2, DIMS(k, n)); break;
    case 3: gpu_input(g, SPAROA_FLOAT32, 1, DIMS(k)); break;
    default: gpu_input(g, SPAROA_FLOAT32, 4, DIMS(b0, kind == 6 ? 1 : b1, k, n));
    }
    if (kind == 2) {
        if (gpu_range(g, 0, 1)) {
            gpu_weight(g, 1, DIMS(n));
            gpu_int(g, "sp.bias", 1);
        }
        g->magnitude = sum_of(k);
        epilogue(g, SPAROA_FLOAT32, 4, DIMS(b0, b1, m, n));
    }
    gpu_compare(t, g);
}

/* With masks that leave some queries no key at all. */
static void attention(gpu_test *t, gpu_node *g)
{
    static const int64_t sizes[] = {32, 64, 20};
    int64_t b = gpu_range(g, 1, 2), h = gpu_range(g, 1, 3), d = PICK(g, sizes);
    int64_t q = gpu_range(g, 1, 100), kv = gpu_range(g, 1, 150);
    int mask = (int)gpu_range(g, 0, 2); /* none, bool, added */
    gpu_start(g, "Attention", 23, 1);
    gpu_input(g, SPAROA_FLOAT32, 4, DIMS(b, h, q, d));
    gpu_input(g, SPAROA_FLOAT32, 4, DIMS(b, h, kv, d));
    gpu_input(g, SPAROA_FLOAT32, 4, DIMS(b, h, kv, d));
    if (mask) {
        sparoa_tensor *m = gpu_input(g, mask == 1 ? SPAROA_BOOL : SPAROA_FLOAT32, 2, DIMS(q, kv));
        for (int64_t i = 0; i < q * kv; i++) {
            bool hidden = i / kv % 3 == 1 || gpu_range(g, 0, 3) == 0;
            if (mask == 1)
                ((uint8_t *)m->data)[i] = !hidden;
            else if (hidden)
                ((float *)m->data)[i] = -INFINITY;
        }
    }
    if (!mask) gpu_int(g, "is_causal", gpu_range(g, 0, 1));
    gpu_compare(t, g);
}

/* Weights with many zeros. */
static void sparse(gpu_test *t, gpu_node *g)
{
    int kind = (int)gpu_range(g, 0, 2); /* Conv 1x1, Gemm, MatMul */
    int64_t m = gpu_range(g, 1, 200), n = gpu_range(g, 60, 200), k = gpu_range(g, 70, 300);
    bool turned = kind == 1 && gpu_range(g, 0, 1);
    if (gpu_range(g, 0, 1)) n = (n + 3) / 4 * 4, k = (k + 3) / 4 * 4;
    gpu_start(g, kind == 0 ? "Conv" : kind == 1 ? "Gemm" : "MatMul", 13, 1);
    if (kind == 0)
        gpu_input(g, SPAROA_FLOAT32, 4, DIMS(2, m, 3, k));
    else
        gpu_input(g, SPAROA_FLOAT32, 2, DIMS(m, k));
    const int64_t *shape = turned ? DIMS(n, k) : DIMS(k, n);
    sparoa_tensor *w = kind == 0 ? gpu_weight(g, 4, DIMS(n, k, 1, 1)) : gpu_weight(g, 2, shape);
    for (int64_t i = 0; i < n * k; i++)
        if (gpu_range(g, 0, 99) < 85) ((float *)w->data)[i] = 0;
    if (kind == 2 || gpu_range(g, 0, 1))
        gpu_weight(g, 1, &n);
    else
        gpu_skip_input(g);
    if (kind == 0) gpu_int(g, "sp.nhwc", 1);
    if (kind == 2) gpu_int(g, "sp.bias", 1);
    if (turned) gpu_int(g, "transB", 1);
    g->magnitude = sum_of(k / 6);
    epilogue(g, SPAROA_FLOAT32, kind == 0 ? 4 : 2, kind == 0 ? DIMS(2, m, 3, n) : DIMS(m, n));
    gpu_compare(t, g);
}

const gpu_family gpu_families_images[] = {
    {"pool", pool, 80},
    {"global_pool", global_pool, 30},
    {"resize", resize, 80},
    {"conv", conv, 300},
    {"conv_light", conv_light, 120},
    {"conv_other", conv_other, 40},
    {"conv_transpose", conv_transpose, 50},
    {"gemm", gemm, 120},
    {"matmul", matmul, 120},
    {"sparse", sparse, 60},
    {"attention", attention, 60},
    {NULL, NULL, 0},
};
