/* RNN, GRU and LSTM of random sizes and options against one naive step at a time in double: the
 * plain operators and the CPU's kernels. */
#include "node.h"
#include "tests/support/kernels.h"

typedef struct sizes {
    int64_t steps, batch, input, hidden, dirs, gates;
    bool reverse, batch_first, lengths, state, bias, peepholes, linear, forget;
    float clip;
} sizes;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double at(const test_node *t, int input, int64_t i)
{
    return t->in_list[input] ? sp_get_f64(&t->in[input], i) : 0;
}

static double clipped(const sizes *s, double x)
{
    double c = s->clip > 0 ? s->clip : INFINITY;
    return x > c ? c : x < -c ? -c : x;
}

/* Row `row` of W x + R h of a direction, biases left out. */
static double product(const test_node *t, const sizes *s, int64_t d, int matrix, int64_t row,
                      const double *x)
{
    int64_t k = matrix == 1 ? s->input : s->hidden;
    double sum = 0;
    for (int64_t i = 0; i < k; i++)
        sum += at(t, matrix, ((d * s->gates * s->hidden) + row) * k + i) * x[i];
    return sum;
}

static void cell(const test_node *t, const sizes *s, int64_t d, const double *x, double *h,
                 double *c)
{
    int64_t n = s->hidden;
    double next[32], reset[32];
    const double *h_old = h;
#define W(g, j) (product(t, s, d, 1, (g)*n + (j), x) + at(t, 3, d * 2 * s->gates * n + (g)*n + (j)))
#define RB(g, j) at(t, 3, d * 2 * s->gates * n + s->gates * n + (g)*n + (j))
#define R(g, j) (product(t, s, d, 2, (g)*n + (j), h_old) + RB(g, j))
#define P(g, j) at(t, 7, d * 3 * n + (g)*n + (j))
    for (int64_t j = 0; s->gates == 3 && j < n; j++)
        reset[j] = sigmoid(clipped(s, W(1, j) + R(1, j))) * h[j];
    for (int64_t j = 0; j < n; j++) {
        if (s->gates == 1) {
            next[j] = tanh(clipped(s, W(0, j) + R(0, j)));
        } else if (s->gates == 3) {
            double z = sigmoid(clipped(s, W(0, j) + R(0, j)));
            double r = sigmoid(clipped(s, W(1, j) + R(1, j)));
            double rest =
                s->linear ? r * R(2, j) : product(t, s, d, 2, 2 * n + j, reset) + RB(2, j);
            next[j] = (1 - z) * tanh(clipped(s, W(2, j) + rest)) + z * h[j];
        } else {
            bool peep = s->peepholes;
            double i = sigmoid(clipped(s, W(0, j) + R(0, j) + (peep ? P(0, j) * c[j] : 0)));
            double f = sigmoid(clipped(s, W(2, j) + R(2, j) + (peep ? P(2, j) * c[j] : 0)));
            if (s->forget) f = 1 - i;
            c[j] = f * c[j] + i * tanh(clipped(s, W(3, j) + R(3, j)));
            double o = sigmoid(clipped(s, W(1, j) + R(1, j) + (peep ? P(1, j) * c[j] : 0)));
            next[j] = o * tanh(c[j]);
        }
    }
    memcpy(h, next, (size_t)n * sizeof *h);
}

static void check_sequence(const test_node *t, const sizes *s, int64_t d, int64_t b)
{
    double h[32] = {0}, c[32] = {0}, x[32],
           tolerance = t->in[0].dtype == SPAROA_FLOAT64 ? 1e-12 : 2e-5;
    int64_t n = s->hidden, state = (s->batch_first ? b * s->dirs + d : d * s->batch + b) * n;
    int64_t length = s->lengths ? sp_get_i64(&t->in[4], b) : s->steps;
    for (int64_t j = 0; j < n; j++) {
        h[j] = at(t, 5, state + j);
        if (s->gates == 4) c[j] = at(t, 6, state + j);
    }
    for (int64_t k = 0; k < s->steps; k++) {
        int64_t time = k < length && (d == 1 || s->reverse) ? length - 1 - k : k;
        int64_t row = s->batch_first ? b * s->steps + time : time * s->batch + b;
        int64_t y = s->batch_first ? (b * s->steps + time) * s->dirs + d
                                   : (time * s->dirs + d) * s->batch + b;
        for (int64_t i = 0; i < s->input; i++) x[i] = at(t, 0, row * s->input + i);
        if (k < length) cell(t, s, d, x, h, c);
        for (int64_t j = 0; t->out_list[0] && j < n; j++)
            check_close(sp_get_f64(&t->out[0], y * n + j), k < length ? h[j] : 0, tolerance);
    }
    for (int64_t j = 0; j < n; j++) {
        check_close(sp_get_f64(&t->out[1], state + j), h[j], tolerance);
        if (s->gates == 4) check_close(sp_get_f64(&t->out[2], state + j), c[j], tolerance);
    }
}

static void random_options(sizes *s, uint32_t *numbers)
{
    static const int64_t gates[] = {1, 3, 4};
    s->gates = gates[test_range(numbers, 0, 2)];
    s->steps = test_range(numbers, 1, 7);
    s->batch = test_range(numbers, 1, 6);
    s->input = test_range(numbers, 1, 19);
    s->hidden = test_range(numbers, 1, 30);
    s->dirs = test_range(numbers, 1, 2);
    s->reverse = s->dirs == 1 && test_range(numbers, 0, 1);
    s->batch_first = test_range(numbers, 0, 1);
    s->lengths = test_range(numbers, 0, 1);
    s->bias = test_range(numbers, 0, 3) > 0;
    s->state = test_range(numbers, 0, 1);
    s->peepholes = s->gates == 4 && test_range(numbers, 0, 1);
    s->linear = test_range(numbers, 0, 1);
    s->forget = test_range(numbers, 0, 3) == 0;
    s->clip = test_range(numbers, 0, 1) ? 0.5f : 0;
}

static void add_optional(test_node *t, bool wanted, sparoa_dtype type, int rank,
                         const int64_t *dims, uint32_t *numbers)
{
    if (wanted)
        node_input(t, type, rank, dims, numbers);
    else
        node_skip_input(t);
}

static void build(test_node *t, const sizes *s, sparoa_dtype type, uint32_t *numbers)
{
    int64_t d = s->dirs, n = s->hidden, g = s->gates * n;
    const char *names[] = {"", "RNN", "", "GRU", "LSTM"};
    node_start(t, names[s->gates], 14, s->gates == 4 ? 3 : 2);
    node_input(t, type, 3,
               s->batch_first ? (int64_t[]){s->batch, s->steps, s->input}
                              : (int64_t[]){s->steps, s->batch, s->input},
               numbers);
    node_input(t, type, 3, (int64_t[]){d, g, s->input}, numbers);
    node_input(t, type, 3, (int64_t[]){d, g, n}, numbers);
    add_optional(t, s->bias, type, 2, (int64_t[]){d, 2 * g}, numbers);
    add_optional(t, s->lengths, SPAROA_INT32, 1, (int64_t[]){s->batch}, numbers);
    for (int64_t b = 0; s->lengths && b < s->batch; b++)
        sp_set_i64(&t->in[4], b, test_range(numbers, 0, s->steps));
    const int64_t *state =
        s->batch_first ? (int64_t[]){s->batch, d, n} : (int64_t[]){d, s->batch, n};
    add_optional(t, s->state, type, 3, state, numbers);
    if (s->gates == 4) {
        add_optional(t, s->state, type, 3, state, numbers);
        add_optional(t, s->peepholes, type, 2, (int64_t[]){d, 3 * n}, numbers);
    }
    for (int i = 0; i < t->node.n_in; i++) /* keep the sums where the functions are not flat */
        for (int64_t k = 0; i != 4 && t->in_list[i] && k < sp_count(&t->in[i]); k++)
            sp_set_f64(&t->in[i], k, at(t, i, k) / 8);
    node_int(t, "hidden_size", n);
    node_int(t, "layout", s->batch_first);
    node_int(t, "linear_before_reset", s->linear);
    node_int(t, "input_forget", s->forget);
    node_string(t, "direction", d == 2 ? "bidirectional" : s->reverse ? "reverse" : "forward");
    if (s->clip > 0) node_float(t, "clip", s->clip);
}

static void against_naive_steps(void **state)
{
    uint32_t numbers = 11;
    for (int round = 0; round < 300; round++) {
        test_node t;
        sizes s;
        random_options(&s, &numbers);
        build(&t, &s, round % 3 ? SPAROA_FLOAT32 : SPAROA_FLOAT64, &numbers);
        if (round % 5 == 0) t.out_list[0] = NULL;
        node_run(&t, round % 4 + 1);
        for (int64_t d = 0; d < s.dirs; d++)
            for (int64_t b = 0; b < s.batch; b++) check_sequence(&t, &s, d, b);
        node_free(&t);
    }
}

static void *take(void *user, size_t size, size_t align)
{
    (void)user;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void give(void *user, void *ptr, size_t size)
{
    (void)user, (void)size;
    free(ptr);
}

/* Runs the node, which node_run has run, once more, on the kernel of an instruction set. */
static sparoa_status run_kernel(test_node *t, const sp_kernels *kernels, int32_t threads)
{
    static const bool constant[MAX_PORTS] = {[1] = true, [2] = true, [3] = true};
    const sp_cpu_host host = {
        .allocator = {NULL, take, give}, .threads = threads, .kernels = kernels};
    void *state = NULL, *prepared = NULL;
    size_t bytes = 0;
    t->node.constant = constant;
    const sp_cpu_kernel_row *row = sp_cpu_kernel_find(&host, &t->node, NULL);
    assert_non_null(row);
    assert_int_equal(row->create(&t->node, &host, &state, &t->err), SPAROA_OK);
    assert_int_equal(row->prepare(state, &host, &t->node, &prepared, &bytes, &t->err), SPAROA_OK);
    for (int32_t i = 0; i < t->node.n_out; i++)
        if (t->out_list[i]) memset(t->out[i].data, 0xff, sparoa_tensor_bytes(&t->out[i]));
    sparoa_exec exec = {.threads = threads, .parallel = test_parallel, .err = &t->err};
    exec.workspace = take(NULL, bytes + 1, 64);
    memset(exec.workspace, 0xff, bytes);
    sparoa_status status = row->run(state, prepared, &host, &t->node, &exec);
    free(exec.workspace);
    row->destroy(state, &host);
    return status;
}

static void kernels_against_naive_steps(void **state)
{
    uint32_t numbers = 29;
    FOR_EACH_ISA(kernels)
    for (int round = 0; round < 120; round++) {
        test_node t;
        sizes s;
        random_options(&s, &numbers);
        if (s.gates == 1) continue;
        s.clip = 0, s.forget = s.peepholes = false; /* those go to the plain operator */
        build(&t, &s, SPAROA_FLOAT32, &numbers);
        if (round % 5 == 0) t.out_list[0] = NULL;
        node_run(&t, 1);
        assert_int_equal(run_kernel(&t, kernels, round % 3 + 1), SPAROA_OK);
        for (int64_t d = 0; d < s.dirs; d++)
            for (int64_t b = 0; b < s.batch; b++) check_sequence(&t, &s, d, b);
        node_free(&t);
    }
}

static void bad_shapes_are_refused(void **state)
{
    uint32_t numbers = 5;
    for (int i = 0; i < 8; i++) {
        test_node t;
        sizes s = {.steps = 2,
                   .batch = 3,
                   .input = 4,
                   .hidden = 5,
                   .dirs = 2,
                   .gates = 4,
                   .bias = true,
                   .lengths = true,
                   .state = true,
                   .peepholes = true};
        build(&t, &s, SPAROA_FLOAT32, &numbers);
        t.in[i].dims[0] += 1;
        if (i == 0) t.in[0].dims[2] = 7;
        assert_int_not_equal(node_infer(&t), SPAROA_OK);
        node_free(&t);
    }
}

static void bad_lengths_are_refused(void **state)
{
    uint32_t numbers = 5;
    test_node t;
    char space[8192];
    sizes s = {
        .steps = 2, .batch = 1, .input = 1, .hidden = 1, .dirs = 1, .gates = 3, .lengths = true};
    build(&t, &s, SPAROA_FLOAT32, &numbers);
    node_run(&t, 1);
    sp_set_i64(&t.in[4], 0, 3);
    FOR_EACH_ISA(kernels)
    assert_int_equal(run_kernel(&t, kernels, 1), SPAROA_INDEX_OUT_OF_RANGE);
    sparoa_exec exec = {.threads = 1, .parallel = test_parallel, .err = &t.err, .workspace = space};
    assert_int_equal(sp_op_run(node_row(&t), &t.node, &exec), SPAROA_INDEX_OUT_OF_RANGE);
    node_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_naive_steps),
        cmocka_unit_test(kernels_against_naive_steps),
        cmocka_unit_test(bad_shapes_are_refused),
        cmocka_unit_test(bad_lengths_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
