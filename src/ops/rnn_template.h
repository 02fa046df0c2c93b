/* The computation of RNN, GRU and LSTM for one element type. rnn_run.c includes it with
 *   REAL: float or double;  RNN(name): name with a suffix for the type;  REAL_MATH(f): f or ff. */

typedef REAL RNN(vec)
    __attribute__((vector_size(SP_RNN_LANES * sizeof(REAL)), aligned(sizeof(REAL))));

/* out[row][0..columns-1] += a[row][0..k-1] * panel for up to 4 rows. */
static void RNN(block)(const REAL *a, int64_t lda, int64_t rows, const REAL *panel, int64_t k,
                       REAL *out, int64_t ldo, int64_t columns)
{
    RNN(vec) acc[4] = {{0}};
    if (rows == 4) {
        const REAL *a0 = a, *a1 = a + lda, *a2 = a + 2 * lda, *a3 = a + 3 * lda;
        RNN(vec) s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        for (int64_t i = 0; i < k; i++) {
            RNN(vec) w = *(const RNN(vec) *)(panel + i * SP_RNN_LANES);
            s0 += w * a0[i];
            s1 += w * a1[i];
            s2 += w * a2[i];
            s3 += w * a3[i];
        }
        acc[0] = s0, acc[1] = s1, acc[2] = s2, acc[3] = s3;
    } else {
        for (int64_t r = 0; r < rows; r++) {
            RNN(vec) s = {0}, t = {0};
            const REAL *x = a + r * lda;
            int64_t i = 0;
            for (; i + 1 < k; i += 2) {
                s += *(const RNN(vec) *)(panel + i * SP_RNN_LANES) * x[i];
                t += *(const RNN(vec) *)(panel + (i + 1) * SP_RNN_LANES) * x[i + 1];
            }
            if (i < k) s += *(const RNN(vec) *)(panel + i * SP_RNN_LANES) * x[i];
            acc[r] = s + t;
        }
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++) out[r * ldo + j] += acc[r][j];
}

typedef struct RNN(product) {
    const REAL *a; /* rows x k */
    int64_t rows, k, lda;
    const REAL *weights; /* of gate 0 of this direction and matrix */
    int64_t gate_stride; /* elements from one gate's panels to the next's */
    REAL *out;
    int64_t ldo, hidden, panels; /* panels of one gate */
    int64_t first;               /* first panel */
} RNN(product);

static void RNN(product_piece)(void *arg, int64_t begin, int64_t end)
{
    const RNN(product) *m = arg;
    for (int64_t u = m->first + begin; u < m->first + end; u++) {
        int64_t gate = u / m->panels, column = u % m->panels * SP_RNN_LANES;
        const REAL *panel = m->weights + gate * m->gate_stride + column * m->k;
        int64_t columns = m->hidden - column < SP_RNN_LANES ? m->hidden - column : SP_RNN_LANES;
        REAL *out = m->out + gate * m->hidden + column;
        for (int64_t r = 0; r < m->rows; r += 4) RNN(block)
        (m->a + r * m->lda, m->lda, m->rows - r < 4 ? m->rows - r : 4, panel, m->k,
         out + r * m->ldo, m->ldo, columns);
    }
}

/* out += a * weights, for the panels first..first+count-1. */
static void RNN(multiply)(const sparoa_exec *exec, RNN(product) m, int64_t count)
{
    int64_t work = m.rows * m.k * SP_RNN_LANES + 1;
    sp_parallel_for(exec, count, 1 + 131072 / work, RNN(product_piece), &m);
}

static void RNN(activate)(sp_rnn_act act, REAL clip, REAL *x, int64_t n)
{
    REAL a = act.a, b = act.b;
    if (clip < (REAL)INFINITY)
        for (int64_t i = 0; i < n; i++) x[i] = x[i] > clip ? clip : x[i] < -clip ? -clip : x[i];
#define EACH(expr)                                                                                 \
    for (int64_t i = 0; i < n; i++) {                                                              \
        REAL v = x[i];                                                                             \
        x[i] = (expr);                                                                             \
    }                                                                                              \
    break
    switch (act.fn) {
    case SP_RNN_RELU: EACH(v > 0 ? v : 0);
    case SP_RNN_TANH: EACH(REAL_MATH(tanh)(v));
    case SP_RNN_SIGMOID: EACH(1 / (1 + REAL_MATH(exp)(-v)));
    case SP_RNN_AFFINE: EACH(a * v + b);
    case SP_RNN_LEAKYRELU: EACH(v >= 0 ? v : a * v);
    case SP_RNN_THRESHOLDEDRELU: EACH(v >= a ? v : 0);
    case SP_RNN_SCALEDTANH: EACH(a * REAL_MATH(tanh)(b * v));
    case SP_RNN_HARDSIGMOID: EACH(a * v + b < 0 ? 0 : a * v + b > 1 ? 1 : a * v + b);
    case SP_RNN_ELU: EACH(v >= 0 ? v : a * REAL_MATH(expm1)(v));
    case SP_RNN_SOFTSIGN: EACH(v / (1 + REAL_MATH(fabs)(v)));
    case SP_RNN_SOFTPLUS:
        EACH(v > 0 ? v + REAL_MATH(log1p)(REAL_MATH(exp)(-v))
                   : REAL_MATH(log1p)(REAL_MATH(exp)(v)));
    default: break;
    }
#undef EACH
}

/* g: the sums of gates i, o, f, c of one sequence; c, h: its state; p: peepholes of i, o, f or
 * NULL. */
static void RNN(lstm_cell)(const sp_rnn *d, const sp_rnn_act *act, REAL *g, REAL *h, REAL *c,
                           const REAL *p)
{
    int64_t n = d->hidden;
    REAL clip = d->clip, *in = g, *out = g + n, *forget = g + 2 * n, *cell = g + 3 * n;
    for (int64_t i = 0; p && i < n; i++) {
        in[i] += p[i] * c[i];
        forget[i] += p[2 * n + i] * c[i];
    }
    RNN(activate)(act[0], clip, in, n);
    if (!d->input_forget) RNN(activate)(act[0], clip, forget, n);
    for (int64_t i = 0; d->input_forget && i < n; i++) forget[i] = 1 - in[i];
    RNN(activate)(act[1], clip, cell, n);
    for (int64_t i = 0; i < n; i++) c[i] = forget[i] * c[i] + in[i] * cell[i];
    for (int64_t i = 0; p && i < n; i++) out[i] += p[n + i] * c[i];
    RNN(activate)(act[0], clip, out, n);
    memcpy(h, c, (size_t)n * sizeof *h);
    RNN(activate)(act[2], (REAL)INFINITY, h, n); /* the cell state itself is not clipped */
    for (int64_t i = 0; i < n; i++) h[i] *= out[i];
}

/* g: z and r activated, and the sum of the hidden gate; x: W x + bias of the hidden gate where the
 * reset comes after the product. */
static void RNN(gru_cell)(const sp_rnn *d, const sp_rnn_act *act, REAL *g, REAL *h, const REAL *x)
{
    int64_t n = d->hidden;
    REAL *z = g, *r = g + n, *hidden = g + 2 * n;
    for (int64_t i = 0; d->linear_before_reset && i < n; i++) hidden[i] = x[i] + r[i] * hidden[i];
    RNN(activate)(act[1], d->clip, hidden, n);
    for (int64_t i = 0; i < n; i++) h[i] = (1 - z[i]) * hidden[i] + z[i] * h[i];
}

typedef struct RNN(run) {
    const sparoa_node *node;
    const sparoa_exec *exec;
    sp_rnn d;
    const REAL *packed;
    REAL *projected, *gates, *h, *c, *reset; /* [steps*batch][G*H], [batch][G*H], [batch][H] x 3 */
} RNN(run);

static const REAL *RNN(input)(const sparoa_node *node, int32_t i)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    return t ? t->data : NULL;
}

/* projected = X * W + biases, for all steps at once. */
static void RNN(project)(const RNN(run) * s, int32_t dir)
{
    const sp_rnn *d = &s->d;
    int64_t n = d->gates * d->hidden, rows = d->steps * d->batch, h = d->hidden;
    int64_t panels = (h + SP_RNN_LANES - 1) / SP_RNN_LANES, columns = panels * SP_RNN_LANES;
    const REAL *b = RNN(input)(s->node, 3);
    if (b) b += dir * 2 * n;
    /* the bias of the recurrent product stays with it where the reset gate multiplies both */
    int64_t both = d->gates == 3 && d->linear_before_reset ? 2 * h : n;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++)
            s->projected[r * n + j] = !b ? 0 : j < both ? b[j] + b[n + j] : b[j];
    int64_t gate_stride = columns * (d->input + h);
    RNN(product)
    m = {s->node->in[0]->data,
         rows,
         d->input,
         d->input,
         s->packed + dir * d->gates * gate_stride,
         gate_stride,
         s->projected,
         n,
         h,
         panels,
         0};
    RNN(multiply)(s->exec, m, d->gates * panels);
}

static void RNN(recur)(const RNN(run) * s, int32_t dir, const REAL *a, int64_t first_gate,
                       int64_t gates)
{
    const sp_rnn *d = &s->d;
    int64_t h = d->hidden, panels = (h + SP_RNN_LANES - 1) / SP_RNN_LANES,
            columns = panels * SP_RNN_LANES;
    int64_t gate_stride = columns * (d->input + h);
    const REAL *weights = s->packed + dir * d->gates * gate_stride + columns * d->input;
    RNN(product)
    m = {a,      d->batch,           h, h, weights, gate_stride, s->gates, d->gates * h, h,
         panels, first_gate * panels};
    RNN(multiply)(s->exec, m, gates * panels);
}

/* Step k of sequence b runs at time k, or backwards from the sequence's own end. */
static int64_t RNN(time_of)(const sp_rnn *d, int32_t dir, int64_t k, int64_t length)
{
    return dir == 1 || d->reverse ? length - 1 - k : k;
}

static void RNN(step)(const RNN(run) * s, int32_t dir, int64_t k, const int32_t *lengths)
{
    const sp_rnn *d = &s->d;
    const sp_rnn_act *act = d->act[dir];
    int64_t h = d->hidden, n = d->gates * h, batch = d->batch;
    const REAL *bias = RNN(input)(s->node, 3),
               *peep = d->gates == 4 ? RNN(input)(s->node, 7) : NULL;
    const REAL *rows[1] = {s->projected};
    for (int64_t b = 0; b < batch; b++) {
        int64_t length = lengths ? lengths[b] : d->steps, t = RNN(time_of)(d, dir, k, length);
        REAL *g = s->gates + b * n;
        if (k >= length)
            memset(g, 0, (size_t)n * sizeof *g);
        else
            memcpy(g, rows[0] + (d->batch_first ? b * d->steps + t : t * batch + b) * n,
                   (size_t)n * sizeof *g);
        for (int64_t i = 0; d->gates == 3 && d->linear_before_reset && i < h; i++)
            g[2 * h + i] = bias ? bias[dir * 2 * n + n + 2 * h + i] : 0;
    }
    if (d->gates == 3 && !d->linear_before_reset)
        RNN(recur)(s, dir, s->h, 0, 2);
    else
        RNN(recur)(s, dir, s->h, 0, d->gates);
    for (int64_t b = 0; d->gates == 3 && b < batch; b++) {
        REAL *g = s->gates + b * n, *reset = s->reset + b * h;
        RNN(activate)(act[0], d->clip, g, 2 * h);
        for (int64_t i = 0; i < h; i++) reset[i] = g[h + i] * s->h[b * h + i];
    }
    if (d->gates == 3 && !d->linear_before_reset) RNN(recur)(s, dir, s->reset, 2, 1);
    REAL *y = sparoa_out(s->node, 0) ? s->node->out[0]->data : NULL;
    for (int64_t b = 0; b < batch; b++) {
        int64_t length = lengths ? lengths[b] : d->steps, t = RNN(time_of)(d, dir, k, length);
        REAL *g = s->gates + b * n, *hb = s->h + b * h;
        int64_t to = k < length ? t : k; /* past the end: the padding of Y is zero */
        REAL *yb = y ? y + (d->batch_first ? (b * d->steps + to) * d->dirs + dir
                                           : (to * d->dirs + dir) * batch + b) *
                               h
                     : NULL;
        if (k >= length) {
            if (yb) memset(yb, 0, (size_t)h * sizeof *yb);
            continue;
        }
        const REAL *x = rows[0] + (d->batch_first ? b * d->steps + t : t * batch + b) * n;
        if (d->gates == 4) {
            RNN(lstm_cell)(d, act, g, hb, s->c + b * h, peep ? peep + dir * 3 * h : NULL);
        } else if (d->gates == 3) {
            RNN(gru_cell)(d, act, g, hb, x + 2 * h);
        } else {
            RNN(activate)(act[0], d->clip, g, h);
            memcpy(hb, g, (size_t)h * sizeof *hb);
        }
        if (yb) memcpy(yb, hb, (size_t)h * sizeof *yb);
    }
}

/* Copies a state between [batch][H] and its place among the directions; `to` NULL: not wanted. */
static void RNN(copy_state)(const sp_rnn *d, int32_t dir, REAL *inner, REAL *outer, bool load)
{
    for (int64_t b = 0; b < d->batch; b++) {
        int64_t at = (d->batch_first ? b * d->dirs + dir : dir * d->batch + b) * d->hidden;
        size_t bytes = (size_t)d->hidden * sizeof *inner;
        if (load && outer)
            memcpy(inner + b * d->hidden, outer + at, bytes);
        else if (load)
            memset(inner + b * d->hidden, 0, bytes);
        else if (outer)
            memcpy(outer + at, inner + b * d->hidden, bytes);
    }
}

static void RNN(run_all)(const sparoa_node *node, const sparoa_exec *exec, const sp_rnn *d,
                         const void *packed, void *workspace)
{
    RNN(run) s = {.node = node, .exec = exec, .d = *d, .packed = packed, .projected = workspace};
    s.gates = s.projected + d->steps * d->batch * d->gates * d->hidden;
    s.h = s.gates + d->batch * d->gates * d->hidden;
    s.c = s.h + d->batch * d->hidden;
    s.reset = s.c + d->batch * d->hidden;
    const int32_t *lengths = sparoa_in(node, 4) ? node->in[4]->data : NULL;
    for (int32_t dir = 0; dir < d->dirs; dir++) {
        RNN(project)(&s, dir);
        RNN(copy_state)(d, dir, s.h, (REAL *)RNN(input)(node, 5), true);
        if (d->gates == 4) RNN(copy_state)(d, dir, s.c, (REAL *)RNN(input)(node, 6), true);
        for (int64_t k = 0; k < d->steps; k++) RNN(step)(&s, dir, k, lengths);
        if (sparoa_out(node, 1)) RNN(copy_state)(d, dir, s.h, node->out[1]->data, false);
        if (sparoa_out(node, 2)) RNN(copy_state)(d, dir, s.c, node->out[2]->data, false);
    }
}
