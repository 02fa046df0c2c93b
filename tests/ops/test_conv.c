/* Convolutions and pools of random geometry against the definition, in both layouts; epilogues. */
#include "node.h"

typedef struct geometry {
    int spatial;
    int64_t n, c, m, group;
    int64_t in[3], kernel[3], stride[3], dilation[3], pads[6];
} geometry;

static geometry random_geometry(uint32_t *seed)
{
    geometry g = {.spatial = (int)test_range(seed, 1, 3), .n = test_range(seed, 1, 2)};
    g.group = test_range(seed, 1, 3);
    g.c = g.group * test_range(seed, 1, 3);
    g.m = g.group * test_range(seed, 1, 6);
    for (int i = 0; i < g.spatial; i++) {
        g.kernel[i] = test_range(seed, 1, 3);
        g.stride[i] = test_range(seed, 1, 3);
        g.dilation[i] = test_range(seed, 1, 2);
        g.pads[i] = test_range(seed, 0, 2);
        g.pads[g.spatial + i] = test_range(seed, 0, 2);
        g.in[i] = test_range(seed, 5, i == g.spatial - 1 && g.spatial < 3 ? 40 : 7);
    }
    return g;
}

static void image_dims(const geometry *g, bool nhwc, int64_t channels, int64_t *dims)
{
    dims[0] = g->n;
    dims[nhwc ? g->spatial + 1 : 1] = channels;
    for (int i = 0; i < g->spatial; i++) dims[i + (nhwc ? 1 : 2)] = g->in[i];
}

static void window_attrs(test_node *t, const geometry *g)
{
    node_ints(t, "kernel_shape", (size_t)g->spatial, g->kernel);
    node_ints(t, "strides", (size_t)g->spatial, g->stride);
    node_ints(t, "dilations", (size_t)g->spatial, g->dilation);
    node_ints(t, "pads", (size_t)g->spatial * 2, g->pads);
}

/* Index of element (n, c, position) of a tensor in either layout. */
static int64_t element(const sparoa_tensor *t, bool nhwc, int64_t n, int64_t c, const int64_t *at)
{
    int64_t index = n, channels = t->dims[nhwc ? t->rank - 1 : 1];
    if (!nhwc) index = index * channels + c;
    for (int i = 0; i < t->rank - 2; i++) index = index * t->dims[i + (nhwc ? 1 : 2)] + at[i];
    return nhwc ? index * channels + c : index;
}

/* Steps through positions below `sizes`; false after the last. */
static bool next(int64_t *at, const int64_t *sizes, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        if (++at[i] < sizes[i]) return true;
        at[i] = 0;
    }
    return false;
}

/* Where tap k of output o reads; false outside the image. */
static bool reads(const geometry *g, const int64_t *o, const int64_t *k, int64_t *at)
{
    for (int i = 0; i < g->spatial; i++) {
        at[i] = o[i] * g->stride[i] - g->pads[i] + k[i] * g->dilation[i];
        if (at[i] < 0 || at[i] >= g->in[i]) return false;
    }
    return true;
}

static double naive_conv(const test_node *t, const geometry *g, bool nhwc, int64_t n, int64_t m,
                         const int64_t *o)
{
    int64_t per_group = g->c / g->group, first = m / (g->m / g->group) * per_group, volume = 1,
            k[3] = {0}, at[3];
    double sum = sp_get_f64(&t->in[2], m);
    for (int i = 0; i < g->spatial; i++) volume *= g->kernel[i];
    for (int64_t c = 0; c < per_group; c++) {
        int64_t tap = 0;
        do {
            double w = sp_get_f64(&t->in[1], (m * per_group + c) * volume + tap++);
            if (reads(g, o, k, at))
                sum += w * sp_get_f64(&t->in[0], element(&t->in[0], nhwc, n, first + c, at));
        } while (next(k, g->kernel, g->spatial));
    }
    return sum;
}

static void conv_inputs(test_node *t, const geometry *g, bool nhwc, bool transposed,
                        sparoa_dtype type, uint32_t *seed)
{
    int64_t x[5], w[5] = {transposed ? g->c : g->m, (transposed ? g->m : g->c) / g->group};
    image_dims(g, nhwc, g->c, x);
    memcpy(w + 2, g->kernel, sizeof g->kernel);
    node_input(t, type, g->spatial + 2, x, seed);
    node_input(t, type, g->spatial + 2, w, seed);
    node_input(t, type, 1, (const int64_t[]){g->m}, seed);
    node_int(t, "group", g->group);
    node_int(t, "sp.nhwc", nhwc);
    window_attrs(t, g);
}

static void conv_follows_its_definition(void **state)
{
    uint32_t seed = 11;
    for (int round = 0; round < 200; round++) {
        geometry g = random_geometry(&seed);
        bool nhwc = round & 1;
        test_node t;
        if (round % 5 == 0)
            for (int i = 0; i < 3; i++)
                g.kernel[i] = g.stride[i] = 1, g.pads[i] = g.pads[i + 3] = 0;
        node_start(&t, "Conv", 11, 1);
        conv_inputs(&t, &g, nhwc, false, round % 3 ? SPAROA_FLOAT32 : SPAROA_FLOAT64, &seed);
        node_run(&t, 3);
        for (int64_t n = 0; n < g.n; n++)
            for (int64_t m = 0; m < g.m; m++) {
                int64_t o[3] = {0};
                do {
                    double got = sp_get_f64(&t.out[0], element(&t.out[0], nhwc, n, m, o));
                    check_close(got, naive_conv(&t, &g, nhwc, n, m, o), 1e-6);
                } while (next(o, t.out[0].dims + (nhwc ? 1 : 2), g.spatial));
            }
        node_free(&t);
    }
}

static void scatter(const test_node *t, const geometry *g, bool nhwc, int64_t n, int64_t c,
                    const int64_t *i, double *y)
{
    int64_t out_group = g->m / g->group, volume = 1, k[3] = {0}, tap = 0;
    const sparoa_tensor *out = &t->out[0];
    double x = sp_get_f64(&t->in[0], element(&t->in[0], nhwc, n, c, i));
    for (int d = 0; d < g->spatial; d++) volume *= g->kernel[d];
    do {
        int64_t o[3];
        bool inside = true;
        for (int d = 0; d < g->spatial; d++) {
            o[d] = i[d] * g->stride[d] + k[d] * g->dilation[d] - g->pads[d];
            inside = inside && o[d] >= 0 && o[d] < out->dims[d + (nhwc ? 1 : 2)];
        }
        for (int64_t m = 0; inside && m < out_group; m++) {
            int64_t channel = c / (g->c / g->group) * out_group + m;
            y[element(out, nhwc, n, channel, o)] +=
                x * sp_get_f64(&t->in[1], (c * out_group + m) * volume + tap);
        }
        tap++;
    } while (next(k, g->kernel, g->spatial));
}

static void transposed_conv_scatters(void **state)
{
    uint32_t seed = 5;
    for (int round = 0; round < 150; round++) {
        geometry g = random_geometry(&seed);
        int64_t extra[3];
        bool nhwc = round & 1;
        test_node t;
        node_start(&t, "ConvTranspose", 11, 1);
        for (int i = 0; i < 3; i++) {
            if (g.spatial > 1 && g.in[i] > 12) g.in[i] = 12;
            extra[i] = test_range(&seed, 0, 1);
        }
        conv_inputs(&t, &g, nhwc, true, round % 3 ? SPAROA_FLOAT32 : SPAROA_FLOAT64, &seed);
        node_ints(&t, "output_padding", (size_t)g.spatial, extra);
        node_run(&t, 2);
        int64_t count = sp_count(&t.out[0]), i[3] = {0};
        double *y = calloc((size_t)count + 1, sizeof *y);
        do {
            for (int64_t n = 0; n < g.n; n++)
                for (int64_t c = 0; c < g.c; c++) scatter(&t, &g, nhwc, n, c, i, y);
        } while (next(i, g.in, g.spatial));
        int64_t per_image = count / g.n;
        for (int64_t e = 0; e < count; e++) {
            int64_t m = nhwc ? e % g.m : e % per_image / (per_image / g.m);
            check_close(sp_get_f64(&t.out[0], e), y[e] + sp_get_f64(&t.in[2], m), 1e-6);
        }
        free(y);
        node_free(&t);
    }
}

static void output_shape_sets_the_padding(void **state)
{
    uint32_t seed = 1;
    test_node t;
    node_start(&t, "ConvTranspose", 11, 1);
    node_input(&t, SPAROA_FLOAT32, 4, (const int64_t[]){1, 1, 3, 3}, &seed);
    node_input(&t, SPAROA_FLOAT32, 4, (const int64_t[]){1, 2, 3, 3}, &seed);
    node_ints(&t, "output_shape", 2, (const int64_t[]){10, 8});
    node_ints(&t, "strides", 2, (const int64_t[]){3, 2});
    node_run(&t, 1);
    assert_int_equal(t.out[0].dims[2], 10);
    assert_int_equal(t.out[0].dims[3], 8);
    node_free(&t);
}

static void pools_follow_their_definition(void **state)
{
    static const char *const names[] = {"MaxPool", "AveragePool", "LpPool"};
    uint32_t seed = 23;
    for (int round = 0; round < 300; round++) {
        geometry g = random_geometry(&seed);
        int kind = round % 3;
        bool nhwc = round & 1, with_pads = round % 4 == 1;
        test_node t;
        for (int i = 0; i < 3; i++) {
            if (g.kernel[i] == 1)
                g.pads[i] = g.pads[g.spatial + i] = 0;
            else if (g.pads[i] >= g.kernel[i])
                g.pads[i] = 1;
        }
        int64_t x[5];
        image_dims(&g, nhwc, g.c, x);
        node_start(&t, names[kind], 22, 1);
        node_input(&t, SPAROA_FLOAT32, g.spatial + 2, x, &seed);
        window_attrs(&t, &g);
        node_int(&t, "sp.nhwc", nhwc);
        node_int(&t, "ceil_mode", test_range(&seed, 0, 1));
        node_int(&t, "count_include_pad", with_pads);
        node_run(&t, 2);
        for (int64_t n = 0; n < g.n; n++)
            for (int64_t c = 0; c < g.c; c++) {
                int64_t o[3] = {0};
                do {
                    int64_t k[3] = {0}, at[3];
                    double best = -INFINITY, sum = 0, square = 0, count = 0;
                    do {
                        bool padded = true;
                        for (int i = 0; i < g.spatial; i++)
                            padded = padded && o[i] * g.stride[i] + k[i] * g.dilation[i] <
                                                   g.in[i] + g.pads[i] + g.pads[g.spatial + i];
                        bool inside = reads(&g, o, k, at);
                        count += with_pads ? padded : inside;
                        if (!inside) continue;
                        double v = sp_get_f64(&t.in[0], element(&t.in[0], nhwc, n, c, at));
                        best = v > best ? v : best;
                        sum += v;
                        square += v * v;
                    } while (next(k, g.kernel, g.spatial));
                    double got = sp_get_f64(&t.out[0], element(&t.out[0], nhwc, n, c, o));
                    double want = kind == 0   ? best
                                  : kind == 2 ? sqrt(square)
                                  : count > 0 ? sum / count
                                              : 0;
                    assert_true(got == want || fabs(got - want) <= 1e-6 * (1 + fabs(want)));
                } while (next(o, t.out[0].dims + (nhwc ? 1 : 2), g.spatial));
            }
        node_free(&t);
    }
}

/* Rounding the size up lets a window be larger than the image, by less than a stride. */
static void pools_end_behind_the_image(void **state)
{
    static const float values[10] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
    static const double max[2] = {9, 5}, average[2] = {25.0 / 6, 4};
    for (int kind = 0; kind < 2; kind++) {
        uint32_t seed = 1;
        test_node t;
        node_start(&t, kind ? "AveragePool" : "MaxPool", 19, 1);
        memcpy(node_input(&t, SPAROA_FLOAT32, 4, (const int64_t[]){1, 1, 2, 5}, &seed)->data,
               values, sizeof values);
        node_ints(&t, "kernel_shape", 2, (const int64_t[]){3, 3});
        node_ints(&t, "strides", 2, (const int64_t[]){2, 4});
        node_int(&t, "ceil_mode", 1);
        node_run(&t, 1);
        assert_int_equal(t.out[0].dims[2], 1);
        assert_int_equal(t.out[0].dims[3], 2);
        for (int i = 0; i < 2; i++)
            check_close(sp_get_f64(&t.out[0], i), (kind ? average : max)[i], 1e-6);
        node_free(&t);
    }
}

static void max_pool_tells_where(void **state)
{
    uint32_t seed = 2;
    for (int order = 0; order < 2; order++) {
        test_node t;
        node_start(&t, "MaxPool", 12, 2);
        node_input(&t, SPAROA_FLOAT32, 4, (const int64_t[]){2, 3, 5, 6}, &seed);
        node_ints(&t, "kernel_shape", 2, (const int64_t[]){2, 2});
        node_int(&t, "storage_order", order);
        node_run(&t, 2);
        for (int64_t i = 0; i < sp_count(&t.out[0]); i++) {
            int64_t at = sp_get_i64(&t.out[1], i), plane = at / 30, h = at % 30 / 6, w = at % 6;
            if (order) h = at % 30 % 5, w = at % 30 / 5;
            assert_true(sp_get_f64(&t.out[0], i) == sp_get_f64(&t.in[0], plane * 30 + h * 6 + w));
        }
        node_free(&t);
    }
}

static void epilogues_apply(void **state)
{
    uint32_t seed = 9;
    for (int residual = 1; residual <= 2; residual++)
        for (int act = 0; act < SP_ACT_COUNT; act++) {
            test_node t, plain;
            for (int fused = 0; fused < 2; fused++) {
                test_node *p = fused ? &t : &plain;
                uint32_t same = seed;
                node_start(p, "MatMul", 13, 1);
                node_input(p, SPAROA_FLOAT32, 3, (const int64_t[]){2, 5, 7}, &same);
                node_input(p, SPAROA_FLOAT32, 2, (const int64_t[]){7, 70}, &same);
                if (!fused) continue;
                node_input(p, SPAROA_FLOAT32, 1, (const int64_t[]){70}, &same);
                node_input(p, SPAROA_FLOAT32, 3, (const int64_t[]){2, 5, 70}, &same);
                node_int(p, "sp.bias", 1);
                node_int(p, "sp.residual", residual);
                node_string(p, "sp.act", sp_act_names[act]);
                node_float(p, "sp.act_a", 0.2f);
                node_float(p, "sp.act_b", 0.5f);
            }
            node_run(&plain, 1);
            node_run(&t, 2);
            for (int64_t i = 0; i < 700; i++) {
                float r = (float)sp_get_f64(&t.in[3], i);
                float v = (float)(sp_get_f64(&plain.out[0], i) + sp_get_f64(&t.in[2], i % 70));
                v = residual == 1 ? sp_act_apply((sp_act)act, 0.2f, 0.5f, v + r)
                                  : sp_act_apply((sp_act)act, 0.2f, 0.5f, v) + r;
                check_close(sp_get_f64(&t.out[0], i), v, 1e-4);
            }
            node_free(&plain);
            node_free(&t);
        }
}

static void bad_geometry_is_refused(void **state)
{
    static const struct {
        const char *name;
        int64_t value[4];
    } bad[] = {{"strides", {0, 1}},
               {"dilations", {1, -1}},
               {"kernel_shape", {2, 3}},
               {"strides", {INT64_MAX, 1}}};
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int transposed = 0; transposed < 2; transposed++) {
            test_node t;
            node_start(&t, transposed ? "ConvTranspose" : "Conv", 11, 1);
            node_input(&t, SPAROA_FLOAT32, 4, (const int64_t[]){1, 2, 6, 6}, &seed);
            node_input(&t, SPAROA_FLOAT32, 4, (const int64_t[]){2, 2, 3, 3}, &seed);
            node_ints(&t, bad[i].name, 2, bad[i].value);
            assert_int_not_equal(node_infer(&t), SPAROA_OK);
            t.attrs[0] =
                (sparoa_attr){.name = "group", .type = SPAROA_ATTR_INT, .v.i = (int64_t)i - 2};
            if (i < 3) assert_int_not_equal(node_infer(&t), SPAROA_OK);
            node_free(&t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_follows_its_definition),
        cmocka_unit_test(transposed_conv_scatters),
        cmocka_unit_test(output_shape_sets_the_padding),
        cmocka_unit_test(pools_follow_their_definition),
        cmocka_unit_test(pools_end_behind_the_image),
        cmocka_unit_test(max_pool_tells_where),
        cmocka_unit_test(epilogues_apply),
        cmocka_unit_test(bad_geometry_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
