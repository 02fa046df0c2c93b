/* Quantised operators against plain index arithmetic: blocks, integer convolutions and products. */
#include "bench.h"

static sparoa_tensor tensor(sparoa_dtype t, int rank, const int64_t *dims)
{
    sparoa_tensor v = sparoa_tensor_view(t, NULL, rank, dims);
    int64_t n = sp_count(&v);
    v.data = malloc((size_t)n * sparoa_dtype_size(t) + (n == 0));
    for (int64_t i = 0; i < n; i++) {
        if (t == SPAROA_FLOAT32)
            sp_set_f64(&v, i, (below(2000) - 1000) * 0.0625);
        else
            sp_set_i64(&v, i, below(256) - (t == SPAROA_UINT8 ? 0 : 128));
    }
    return v;
}

static sparoa_tensor scales(int rank, const int64_t *dims)
{
    sparoa_tensor v = tensor(SPAROA_FLOAT32, rank, dims);
    for (int64_t i = 0, n = sp_count(&v); i < n; i++) sp_set_f64(&v, i, 0.25 * (1 + below(4)));
    return v;
}

static void release(bench *b)
{
    for (int32_t k = 0; k < b->node.n_in; k++) free(b->in[k].data);
    free(b->out[0].data);
}

static double clamp(double v, sparoa_dtype t)
{
    const double lo = t == SPAROA_INT8 ? -128 : 0, hi = t == SPAROA_INT8 ? 127 : 255;
    return v < lo ? lo : v > hi ? hi : v;
}

/* Every kind of scale: per tensor, per index of an axis, in blocks that do or do not divide the
 * axis. */
static void test_linear(void **state)
{
    (void)state;
    for (int round = 0; round < 1000; round++) {
        const bool quantize = round & 1;
        const int64_t dims[3] = {1 + below(4), 1 + below(7), 1 + below(6)};
        int64_t shape[3] = {dims[0], dims[1], dims[2]};
        const int axis = below(3), kind = below(3);
        const int64_t block = kind == 2 ? 1 + below(5) : 0;
        const sparoa_dtype t = below(2) ? SPAROA_INT8 : SPAROA_UINT8;
        bench b;
        setup(&b, quantize ? "QuantizeLinear" : "DequantizeLinear", 21, 3);
        attr_int(&b, "axis", below(2) ? axis : axis - 3);
        if (block) attr_int(&b, "block_size", block);
        if (block) shape[axis] = (dims[axis] + block - 1) / block;
        const int rank = kind == 0 ? 0 : kind == 1 ? 1 : 3;
        b.in[0] = tensor(quantize ? SPAROA_FLOAT32 : t, 3, dims);
        b.in[1] = scales(rank, kind == 1 ? &shape[axis] : shape);
        b.in[2] = tensor(t, rank, kind == 1 ? &shape[axis] : shape);
        assert_int_equal(run_node(&b, -1), SPAROA_OK);
        for (int64_t i = 0; i < sp_count(&b.in[0]); i++) {
            int64_t at[3] = {i / dims[2] / dims[1], i / dims[2] % dims[1], i % dims[2]};
            if (block) at[axis] /= block;
            const int64_t k = kind == 0   ? 0
                              : kind == 1 ? at[axis]
                                          : (at[0] * shape[1] + at[1]) * shape[2] + at[2];
            const double x = sp_get_f64(&b.in[0], i), s = sp_get_f64(&b.in[1], k),
                         z = sp_get_f64(&b.in[2], k);
            const double want = quantize ? clamp(rint(x / s) + z, t) : (x - z) * s;
            if (sp_get_f64(&b.out[0], i) != want)
                fail_msg("round %d element %d: %g, expected %g", round, (int)i,
                         sp_get_f64(&b.out[0], i), want);
        }
        release(&b);
    }
}

typedef struct geometry {
    int64_t x[4], w[4], stride[2], dilation[2], pads[4], group;
} geometry;

static double conv_at(const bench *b, const geometry *g, const sparoa_tensor *out, int32_t w_in,
                      double xz, double wz, int64_t at)
{
    const int64_t ow = at % out->dims[3], oh = at / out->dims[3] % out->dims[2];
    const int64_t m = at / out->dims[3] / out->dims[2] % g->w[0],
                  n = at / out->dims[3] / out->dims[2] / g->w[0];
    const int64_t first = m / (g->w[0] / g->group) * g->w[1];
    double sum = 0;
    for (int64_t c = 0; c < g->w[1]; c++)
        for (int64_t kh = 0; kh < g->w[2]; kh++)
            for (int64_t kw = 0; kw < g->w[3]; kw++) {
                const int64_t ih = oh * g->stride[0] + kh * g->dilation[0] - g->pads[0];
                const int64_t iw = ow * g->stride[1] + kw * g->dilation[1] - g->pads[1];
                if (ih < 0 || ih >= g->x[2] || iw < 0 || iw >= g->x[3]) continue;
                const int64_t ix = ((n * g->x[1] + first + c) * g->x[2] + ih) * g->x[3] + iw;
                const int64_t wi = ((m * g->w[1] + c) * g->w[2] + kh) * g->w[3] + kw;
                sum += (sp_get_f64(&b->in[0], ix) - xz) * (sp_get_f64(&b->in[w_in], wi) - wz);
            }
    return sum;
}

static void attr_ints(bench *b, const char *name, const int64_t *values, size_t n)
{
    b->attrs[b->node.n_attrs++] =
        (sparoa_attr){.name = name, .type = SPAROA_ATTR_INTS, .count = n, .v.ints = values};
}

static geometry random_geometry(void)
{
    geometry g = {.group = 1 + below(3)};
    g.w[1] = 1 + below(3);
    g.w[0] = g.group * (1 + below(3));
    g.x[0] = 1 + below(2);
    g.x[1] = g.group * g.w[1];
    for (int d = 0; d < 2; d++) {
        g.w[2 + d] = 1 + (below(2) ? below(3) : 0);
        g.stride[d] = 1 + (below(3) ? 0 : below(3));
        g.dilation[d] = 1 + (below(3) ? 0 : below(2));
        g.pads[d] = below(2) ? below(4) : 0;
        g.pads[2 + d] = below(2) ? below(4) : 0;
        g.x[2 + d] = (g.w[2 + d] - 1) * g.dilation[d] + 1 + below(6);
    }
    return g;
}

static void test_conv(void **state)
{
    (void)state;
    for (int round = 0; round < 1500; round++) {
        const bool qlinear = round & 1;
        const geometry g = random_geometry();
        const sparoa_dtype xt = below(2) ? SPAROA_INT8 : SPAROA_UINT8,
                           wt = below(2) ? SPAROA_INT8 : SPAROA_UINT8;
        const int32_t w = qlinear ? 3 : 1, wz = qlinear ? 5 : 3;
        bench b;
        setup(&b, qlinear ? "QLinearConv" : "ConvInteger", 13, qlinear ? 9 : 4);
        attr_ints(&b, "strides", g.stride, 2);
        attr_ints(&b, "dilations", g.dilation, 2);
        attr_ints(&b, "pads", g.pads, 4);
        attr_int(&b, "group", g.group);
        b.in[0] = tensor(xt, 4, g.x);
        b.in[w] = tensor(wt, 4, g.w);
        b.in[2] = tensor(xt, 0, NULL);
        b.in[wz] = tensor(wt, below(2), g.w);
        if (qlinear) {
            b.in[1] = scales(0, NULL);
            b.in[4] = scales(below(2), g.w);
            b.in[6] = scales(0, NULL);
            sp_set_f64(&b.in[6], 0, 512);
            b.in[7] = tensor(SPAROA_UINT8, 0, NULL);
            b.in[8] = tensor(SPAROA_INT32, 1, g.w);
        }
        assert_int_equal(run_node(&b, -1), SPAROA_OK);
        const sparoa_tensor *out = &b.out[0];
        for (int64_t i = 0; i < sp_count(out); i++) {
            const int64_t m = i / out->dims[3] / out->dims[2] % g.w[0];
            const double z = sp_get_f64(&b.in[wz], sp_count(&b.in[wz]) > 1 ? m : 0);
            double want = conv_at(&b, &g, out, w, sp_get_f64(&b.in[2], 0), z, i);
            if (qlinear) {
                const double s = sp_get_f64(&b.in[4], sp_count(&b.in[4]) > 1 ? m : 0);
                want = (want + sp_get_f64(&b.in[8], m)) * sp_get_f64(&b.in[1], 0) * s / 512;
                want = clamp(rint(want) + sp_get_f64(&b.in[7], 0), SPAROA_UINT8);
            }
            if (sp_get_f64(out, i) != want)
                fail_msg("round %d element %d: %g, expected %g", round, (int)i, sp_get_f64(out, i),
                         want);
        }
        release(&b);
    }
}

static void test_matmul(void **state)
{
    (void)state;
    for (int round = 0; round < 500; round++) {
        const int64_t m = below(5), k = below(40), n = below(12) ? below(20) : 1000,
                      batch = 1 + below(3);
        const int64_t as[3] = {batch, m, k}, bs[3] = {below(2) ? batch : 1, k, n};
        const int b_rank = bs[0] == 1 ? 2 : 3;
        const bool columns = below(2);
        bench b;
        setup(&b, "MatMulInteger", 13, 4);
        b.in[0] = tensor(SPAROA_UINT8, 3, as);
        b.in[1] = tensor(SPAROA_INT8, b_rank, bs + 3 - b_rank);
        b.in[2] = tensor(SPAROA_UINT8, 0, NULL);
        b.in[3] = tensor(SPAROA_INT8, columns, &n);
        assert_int_equal(run_node(&b, -1), SPAROA_OK);
        assert_int_equal(sp_count(&b.out[0]), batch * m * n);
        for (int64_t i = 0; i < batch * m * n; i++) {
            const int64_t j = i % n, row = i / n, matrix = b_rank == 3 ? row / m : 0;
            const double az = sp_get_f64(&b.in[2], 0), bz = sp_get_f64(&b.in[3], columns ? j : 0);
            double want = 0;
            for (int64_t p = 0; p < k; p++)
                want += (sp_get_f64(&b.in[0], row * k + p) - az) *
                        (sp_get_f64(&b.in[1], (matrix * k + p) * n + j) - bz);
            assert_true(sp_get_f64(&b.out[0], i) == want);
        }
        release(&b);
    }
}

/* Shapes and parameters that cannot work are refused before anything runs. */
static void test_refusals(void **state)
{
    (void)state;
    const int64_t huge[2] = {INT64_MAX, INT64_MAX}, none[2] = {0, 1}, negative[4] = {-1, 0, 0, 0};
    const geometry g = {.x = {1, 2, 5, 5}, .w = {2, 2, 3, 3}};
    static const char *const names[] = {"strides", "dilations", "strides", "pads", "pads"};
    const int64_t *const values[] = {huge, huge, none, negative, huge};
    for (int i = 0; i < 5; i++) {
        bench b;
        setup(&b, "ConvInteger", 13, 2);
        attr_ints(&b, names[i], values[i], i == 3 ? 4 : 2);
        b.in[0] = sparoa_tensor_view(SPAROA_UINT8, NULL, 4, g.x);
        b.in[1] = sparoa_tensor_view(SPAROA_UINT8, NULL, 4, g.w);
        assert_int_equal(infer(&b), SPAROA_INVALID_GRAPH);
    }
    bench b;
    setup(&b, "ConvInteger", 13, 2);
    attr_int(&b, "group", 3);
    b.in[0] = sparoa_tensor_view(SPAROA_UINT8, NULL, 4, g.x);
    b.in[1] = sparoa_tensor_view(SPAROA_UINT8, NULL, 4, g.w);
    assert_int_equal(infer(&b), SPAROA_SHAPE_MISMATCH);
    setup(&b, "DequantizeLinear", 13, 2);
    b.in[0] = sparoa_tensor_view(SPAROA_UINT8, NULL, 4, g.x);
    b.in[1] = sparoa_tensor_view(SPAROA_FLOAT32, NULL, 1, &g.x[2]);
    assert_int_equal(infer(&b), SPAROA_SHAPE_MISMATCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear), cmocka_unit_test(test_conv),
                                       cmocka_unit_test(test_matmul),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
