/* Operators that move elements, against index arithmetic written the plain way. */
#include "node.h"

static const sparoa_dtype by_size[] = {SPAROA_UINT8, SPAROA_FLOAT16, SPAROA_FLOAT32,
                                       SPAROA_FLOAT64};

/* Fills a tensor with distinct bit patterns, as far as the type has them. */
static void number_elements(sparoa_tensor *t)
{
    size_t size = sparoa_dtype_size(t->dtype);
    for (int64_t i = 0; i < sp_count(t); i++) {
        uint64_t v = (uint64_t)i * 0x9e3779b97f4a7c15u + 1;
        memcpy((char *)t->data + i * (int64_t)size, &v, size);
    }
}

static sparoa_tensor *numbered_input(test_node *t, sparoa_dtype dtype, int rank,
                                     const int64_t *dims)
{
    uint32_t seed = 1;
    sparoa_tensor *in = node_input(t, dtype, rank, dims, &seed);
    number_elements(in);
    return in;
}

static void int_input(test_node *t, const int64_t *v, int64_t n)
{
    uint32_t seed = 1;
    sparoa_tensor *in = node_input(t, SPAROA_INT64, 1, &n, &seed);
    memcpy(in->data, v, (size_t)n * sizeof *v);
}

/* Element `at` of a tensor, by coordinates. */
static const char *element(const sparoa_tensor *t, const int64_t *at)
{
    int64_t offset = 0;
    for (int32_t i = 0; i < t->rank; i++) {
        assert_in_range(at[i], 0, t->dims[i] - 1);
        offset = offset * t->dims[i] + at[i];
    }
    return (const char *)t->data + offset * (int64_t)sparoa_dtype_size(t->dtype);
}

static void coordinates(const sparoa_tensor *t, int64_t i, int64_t *at)
{
    for (int32_t a = t->rank - 1; a >= 0; a--) {
        at[a] = i % t->dims[a];
        i /= t->dims[a];
    }
}

/* Checks out[at] = in[source(at)] for all at; source returns false where the value must be zero. */
static void check_moved(const sparoa_tensor *in, const sparoa_tensor *out,
                        bool (*source)(const int64_t *at, int64_t *from, void *arg), void *arg)
{
    static const char zeros[8];
    int64_t at[SPAROA_MAX_RANK] = {0}, from[SPAROA_MAX_RANK] = {0};
    size_t size = sparoa_dtype_size(in->dtype);
    for (int64_t i = 0; i < sp_count(out); i++) {
        coordinates(out, i, at);
        const char *want = source(at, from, arg) ? element(in, from) : zeros;
        assert_memory_equal(element(out, at), want, size);
    }
}

static void random_dims(uint32_t *seed, int rank, int64_t most, int64_t *dims)
{
    for (int i = 0; i < rank; i++) dims[i] = test_range(seed, 1, most);
}

/* ---- Transpose ---- */

typedef struct perm_arg {
    int rank;
    const int64_t *perm;
} perm_arg;

static bool permuted(const int64_t *at, int64_t *from, void *arg)
{
    const perm_arg *p = arg;
    for (int i = 0; i < p->rank; i++) from[p->perm[i]] = at[i];
    return true;
}

static void one_transpose(sparoa_dtype dtype, int rank, const int64_t *dims, const int64_t *perm,
                          int32_t threads)
{
    test_node t;
    node_start(&t, "Transpose", 13, 1);
    numbered_input(&t, dtype, rank, dims);
    node_ints(&t, "perm", (size_t)rank, perm);
    node_run(&t, threads);
    perm_arg arg = {rank, perm};
    check_moved(&t.in[0], &t.out[0], permuted, &arg);
    node_free(&t);
}

static void test_transpose(void **state)
{
    (void)state;
    static const int64_t most[] = {0, 3000, 150, 40, 14, 7, 5};
    uint32_t seed = 7;
    for (int round = 0; round < 400; round++) {
        int rank = (int)test_range(&seed, 1, 6);
        int64_t dims[8], perm[8] = {0, 1, 2, 3, 4, 5, 6, 7};
        random_dims(&seed, rank, most[rank], dims);
        for (int i = rank - 1; i > 0; i--) {
            int64_t j = test_range(&seed, 0, i), swap = perm[i];
            perm[i] = perm[j];
            perm[j] = swap;
        }
        one_transpose(by_size[round % 4], rank, dims, perm, (int32_t)test_range(&seed, 1, 4));
    }
    for (int size = 0; size < 4; size++) { /* images, in and out of channel-last order */
        const int64_t chw[] = {2, 3, 70, 65}, to_last[] = {0, 2, 3, 1};
        const int64_t hwc[] = {2, 70, 65, 3}, to_first[] = {0, 3, 1, 2}, wide[] = {1, 130, 37, 40};
        one_transpose(by_size[size], 4, chw, to_last, 2);
        one_transpose(by_size[size], 4, hwc, to_first, 2);
        one_transpose(by_size[size], 4, wide, to_last, 3);
    }
}

static void test_transpose_errors(void **state)
{
    (void)state;
    static const int64_t bad[][2] = {{0, 0}, {0, 2}, {-1, 0}};
    for (int i = 0; i < 3; i++) {
        test_node t;
        node_start(&t, "Transpose", 13, 1);
        numbered_input(&t, SPAROA_FLOAT32, 2, (int64_t[]){2, 3});
        node_ints(&t, "perm", 2, bad[i]);
        assert_int_equal(node_infer(&t), SPAROA_INVALID_GRAPH);
        node_free(&t);
    }
}

/* ---- Slice ---- */

typedef struct slice_arg {
    int rank;
    const int64_t *first, *step;
} slice_arg;

static bool sliced(const int64_t *at, int64_t *from, void *arg)
{
    const slice_arg *s = arg;
    for (int i = 0; i < s->rank; i++) from[i] = s->first[i] + at[i] * s->step[i];
    return true;
}

/* Counts by walking along the axis. */
static int64_t walk_slice(int64_t d, int64_t start, int64_t end, int64_t step, int64_t *first)
{
    if (start < 0) start += d;
    if (end < 0) end += d;
    if (step > 0 && start < 0) start = 0;
    if (step < 0 && start < 0) start = 0;
    if (step < 0 && start > d - 1) start = d - 1;
    int64_t n = 0;
    *first = start;
    for (int64_t i = start; i >= 0 && i < d && (step > 0 ? i < end : i > end); i += step) n++;
    return n;
}

static void test_slice(void **state)
{
    (void)state;
    uint32_t seed = 11;
    for (int round = 0; round < 500; round++) {
        int rank = (int)test_range(&seed, 1, 4);
        int64_t dims[8], starts[8], ends[8], steps[8], first[8], axes[8];
        test_node t;
        random_dims(&seed, rank, 9, dims);
        node_start(&t, "Slice", 13, 1);
        numbered_input(&t, by_size[round % 4], rank, dims);
        int64_t count[8];
        for (int i = 0; i < rank; i++) {
            starts[i] = test_range(&seed, -12, 12);
            ends[i] = test_range(&seed, -12, 12);
            steps[i] = test_range(&seed, 1, 3) * (test_range(&seed, 0, 1) ? 1 : -1);
            axes[i] = i - (test_range(&seed, 0, 1) ? rank : 0);
            count[i] = walk_slice(dims[i], starts[i], ends[i], steps[i], &first[i]);
        }
        int_input(&t, starts, rank);
        int_input(&t, ends, rank);
        int_input(&t, axes, rank);
        int_input(&t, steps, rank);
        node_run(&t, 2);
        for (int i = 0; i < rank; i++) assert_int_equal(t.out[0].dims[i], count[i]);
        slice_arg arg = {rank, first, steps};
        check_moved(&t.in[0], &t.out[0], sliced, &arg);
        node_free(&t);
    }
}

static void test_slice_extremes(void **state)
{
    (void)state;
    static const struct {
        int64_t start, end, step, count;
    } cases[] = {
        {0, INT64_MAX, 1, 5},
        {INT64_MIN, INT64_MAX, 1, 5},
        {INT64_MAX, INT64_MIN, -1, 5},
        {-1, INT64_MIN, INT64_MIN, 1},
        {0, INT64_MAX, INT64_MAX, 1},
        {4, INT64_MIN, -2, 3},
        {5, 5, 1, 0},
        {INT64_MAX, INT64_MAX, 1, 0},
        {3, 1, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_node t;
        node_start(&t, "Slice", 13, 1);
        numbered_input(&t, SPAROA_INT32, 1, (int64_t[]){5});
        int_input(&t, &cases[i].start, 1);
        int_input(&t, &cases[i].end, 1);
        node_skip_input(&t);
        int_input(&t, &cases[i].step, 1);
        node_run(&t, 1);
        assert_int_equal(t.out[0].dims[0], cases[i].count);
        node_free(&t);
    }
    test_node t; /* attributes, as before version 10 */
    node_start(&t, "Slice", 9, 1);
    numbered_input(&t, SPAROA_FLOAT32, 2, (int64_t[]){4, 6});
    node_ints(&t, "starts", 1, (int64_t[]){1});
    node_ints(&t, "ends", 1, (int64_t[]){-1});
    node_ints(&t, "axes", 1, (int64_t[]){1});
    node_run(&t, 1);
    assert_int_equal(t.out[0].dims[1], 4);
    assert_memory_equal((float *)t.out[0].data + 4, (float *)t.in[0].data + 7, 4 * sizeof(float));
    node_free(&t);
}

/* ---- SpaceToDepth and DepthToSpace ---- */

typedef struct depth_arg {
    int64_t b, c; /* block, channels of the wide image */
    bool crd, nhwc, to_space;
} depth_arg;

static bool depth_source(const int64_t *at, int64_t *from, void *arg)
{
    const depth_arg *d = arg;
    int c = d->nhwc ? 3 : 1, h = d->nhwc ? 1 : 2, w = d->nhwc ? 2 : 3;
    from[0] = at[0];
    if (d->to_space) {
        int64_t bh = at[h] % d->b, bw = at[w] % d->b;
        from[h] = at[h] / d->b;
        from[w] = at[w] / d->b;
        from[c] = d->crd ? (at[c] * d->b + bh) * d->b + bw : (bh * d->b + bw) * d->c + at[c];
    } else {
        int64_t place = d->crd ? at[c] % (d->b * d->b) : at[c] / d->c;
        from[c] = d->crd ? at[c] / (d->b * d->b) : at[c] % d->c;
        from[h] = at[h] * d->b + place / d->b;
        from[w] = at[w] * d->b + place % d->b;
    }
    return true;
}

static void test_depth_space(void **state)
{
    (void)state;
    for (int round = 0; round < 64; round++) {
        depth_arg arg = {.b = 1 + round % 3,
                         .c = 1 + round % 5,
                         .crd = round & 1,
                         .nhwc = round & 2,
                         .to_space = round & 4};
        int64_t b = arg.b, c = arg.to_space ? arg.c * b * b : arg.c, h = arg.to_space ? 3 : 3 * b;
        int64_t w = arg.to_space ? 7 : 7 * b;
        test_node t;
        node_start(&t, arg.to_space ? "DepthToSpace" : "SpaceToDepth", 28, 1);
        numbered_input(&t, by_size[round / 16], 4,
                       arg.nhwc ? (int64_t[]){2, h, w, c} : (int64_t[]){2, c, h, w});
        node_int(&t, "blocksize", b);
        node_string(&t, "mode", arg.crd ? "CRD" : "DCR");
        if (arg.nhwc) node_int(&t, "sp.nhwc", 1);
        node_run(&t, 2);
        check_moved(&t.in[0], &t.out[0], depth_source, &arg);
        node_free(&t);
    }
}

/* ---- Pad ---- */

typedef struct pad_arg {
    int rank;
    const int64_t *before, *after, *dims;
    const char *mode;
} pad_arg;

static bool pad_source(const int64_t *at, int64_t *from, void *arg)
{
    const pad_arg *p = arg;
    for (int i = 0; i < p->rank; i++) {
        int64_t low = p->before[i] < 0 ? -p->before[i] : 0,
                high = p->dims[i] + (p->after[i] < 0 ? p->after[i] : 0);
        int64_t c = at[i] - p->before[i];
        if (strcmp(p->mode, "constant") == 0 && (c < low || c >= high)) return false;
        while (c < low || c >= high) { /* one step at a time towards the inside */
            if (strcmp(p->mode, "edge") == 0)
                c = c < low ? low : high - 1;
            else if (strcmp(p->mode, "wrap") == 0)
                c += c < low ? high - low : low - high;
            else if (high - low == 1)
                c = low;
            else
                c = c < low ? 2 * low - c : 2 * (high - 1) - c;
        }
        from[i] = c;
    }
    return true;
}

static void test_pad(void **state)
{
    (void)state;
    static const char *const modes[] = {"constant", "edge", "reflect", "wrap"};
    uint32_t seed = 3;
    for (int round = 0; round < 400; round++) {
        int rank = (int)test_range(&seed, 1, 4);
        int64_t dims[8], pads[16] = {0};
        test_node t;
        random_dims(&seed, rank, 6, dims);
        for (int i = 0; i < rank; i++) {
            if (test_range(&seed, 0, 2) == 0) continue;
            pads[i] = test_range(&seed, -(dims[i] - 1) / 2, 9);
            pads[rank + i] = test_range(&seed, -(dims[i] - 1) / 2, 9);
        }
        node_start(&t, "Pad", 19, 1);
        numbered_input(&t, by_size[round / 4 % 4], rank, dims);
        int_input(&t, pads, 2 * rank);
        node_string(&t, "mode", modes[round % 4]);
        node_run(&t, (int32_t)test_range(&seed, 1, 3));
        pad_arg arg = {rank, pads, pads + rank, dims, modes[round % 4]};
        check_moved(&t.in[0], &t.out[0], pad_source, &arg);
        node_free(&t);
    }
}

/* ---- Concat and Split, Expand and Tile ---- */

static void test_concat_split(void **state)
{
    (void)state;
    uint32_t seed = 5;
    for (int round = 0; round < 60; round++) {
        int rank = (int)test_range(&seed, 1, 4), axis = (int)test_range(&seed, 0, rank - 1);
        int64_t dims[8], sizes[3], total = 0;
        test_node split, concat;
        random_dims(&seed, rank, 12, dims);
        for (int i = 0; i < 3; i++) total += sizes[i] = test_range(&seed, 0, 5);
        dims[axis] = total;
        node_start(&split, "Split", 13, 3);
        numbered_input(&split, by_size[round % 4], rank, dims);
        int_input(&split, sizes, 3);
        node_int(&split, "axis", axis - rank);
        node_run(&split, 2);
        node_start(&concat, "Concat", 13, 1);
        node_int(&concat, "axis", axis);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(split.out[i].dims[axis], sizes[i]);
            concat.in_list[concat.node.n_in++] = &split.out[i];
        }
        node_run(&concat, 2);
        assert_memory_equal(concat.out[0].data, split.in[0].data,
                            sparoa_tensor_bytes(&split.in[0]));
        node_free(&split);
        node_free(&concat);
    }
}

static void test_split_uneven(void **state)
{
    (void)state;
    static const int64_t want[] = {2, 2, 1, 0};
    test_node t;
    node_start(&t, "Split", 18, 4);
    numbered_input(&t, SPAROA_INT32, 1, (int64_t[]){5});
    node_int(&t, "num_outputs", 4);
    node_run(&t, 1);
    for (int i = 0; i < 4; i++) assert_int_equal(t.out[i].dims[0], want[i]);
    node_free(&t);
    node_start(&t, "Split", 13, 4);
    numbered_input(&t, SPAROA_INT32, 1, (int64_t[]){5});
    assert_int_equal(node_infer(&t), SPAROA_SHAPE_MISMATCH);
    node_free(&t);
}

static bool modulo_source(const int64_t *at, int64_t *from, void *arg)
{
    const sparoa_tensor *in = arg;
    for (int32_t i = 0; i < in->rank; i++) from[i] = at[i] % in->dims[i];
    return true;
}

static void test_tile_expand(void **state)
{
    (void)state;
    uint32_t seed = 9;
    for (int round = 0; round < 100; round++) {
        int rank = (int)test_range(&seed, 1, 5);
        int64_t dims[8], repeats[8], shape[8];
        test_node t;
        random_dims(&seed, rank, 5, dims);
        random_dims(&seed, rank, 3, repeats);
        node_start(&t, "Tile", 13, 1);
        numbered_input(&t, by_size[round % 4], rank, dims);
        int_input(&t, repeats, rank);
        node_run(&t, 2);
        check_moved(&t.in[0], &t.out[0], modulo_source, &t.in[0]);
        node_free(&t);
        for (int i = 0; i < rank; i++) {
            shape[i] = test_range(&seed, 0, 1) ? dims[i] : test_range(&seed, 1, 7);
            if (shape[i] != dims[i]) dims[i] = 1;
        }
        node_start(&t, "Expand", 13, 1);
        numbered_input(&t, by_size[round % 4], rank, dims);
        int_input(&t, shape, rank);
        node_run(&t, 2);
        check_moved(&t.in[0], &t.out[0], modulo_source, &t.in[0]);
        node_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transpose),    cmocka_unit_test(test_transpose_errors),
        cmocka_unit_test(test_slice),        cmocka_unit_test(test_slice_extremes),
        cmocka_unit_test(test_depth_space),  cmocka_unit_test(test_pad),
        cmocka_unit_test(test_concat_split), cmocka_unit_test(test_split_uneven),
        cmocka_unit_test(test_tile_expand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
