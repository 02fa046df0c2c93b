/* Attention for one element type. attention_run.c includes it with REAL, ATTN(name) and
 * REAL_MATH(name). */

typedef REAL ATTN(vec) __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL))));

static REAL ATTN(dot)(const REAL *a, const REAL *b, int64_t n)
{
    ATTN(vec) s = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) s += *(const ATTN(vec) *)(a + i) * *(const ATTN(vec) *)(b + i);
    REAL sum = 0;
    for (int32_t j = 0; j < 8; j++) sum += s[j];
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static const REAL *ATTN(row_of)(const sp_attn_view *v, int64_t b, int64_t h, int64_t s)
{
    return (const REAL *)v->data + b * v->batch + h * v->head + s * v->row;
}

/* bias = the mask's row for (b, h, s), 0 without a mask. */
static void ATTN(mask_row)(const sp_attn *a, int64_t b, int64_t h, int64_t s, REAL *bias)
{
    const sparoa_tensor *m = a->mask;
    int64_t at = 0, index[3] = {b, h, s};
    if (!m) {
        for (int64_t j = 0; j < a->total; j++) bias[j] = 0;
        return;
    }
    for (int32_t d = 0; d < m->rank - 1; d++)
        at = at * m->dims[d] + (m->dims[d] == 1 ? 0 : index[d + 4 - m->rank] % m->dims[d]);
    int64_t width = m->rank ? m->dims[m->rank - 1] : 1;
    bool repeat = width == 1 && (m->rank == 0 || !a->pads_mask);
    at *= width;
    for (int64_t j = 0; j < a->total; j++) {
        int64_t i = repeat ? at : at + j;
        if (!repeat && j >= width)
            bias[j] = -(REAL)INFINITY;
        else if (m->dtype == SPAROA_BOOL)
            bias[j] = ((const uint8_t *)m->data)[i] ? 0 : -(REAL)INFINITY;
        else if (m->dtype == SPAROA_FLOAT32)
            bias[j] = ((const float *)m->data)[i];
        else
            bias[j] = (REAL)sp_get_f64(m, i);
    }
}

/* Excludes what the causal rule, the window and the count of valid keys exclude. */
static void ATTN(limit_row)(const sp_attn *a, int64_t b, int64_t s, REAL *bias)
{
    int64_t valid = a->valid ? ((const int64_t *)a->valid->data)[b] : a->total;
    int64_t position = s + (a->past_k.data ? a->past : a->valid ? valid - a->q_len : 0);
    int64_t first = a->left >= 0 && a->left < position ? position - a->left : 0, last = valid;
    if (a->causal && position + 1 < last) last = position + 1;
    if (a->right >= 0 && a->right < last && position + a->right + 1 < last)
        last = position + a->right + 1;
    for (int64_t j = 0; j < a->total; j++)
        if (j < first || j >= last) bias[j] = -(REAL)INFINITY;
}

/* scores = softmax(scores + bias); a row without any key becomes zero. */
static void ATTN(softmax)(REAL *scores, int64_t n)
{
    REAL top = -(REAL)INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++)
        if (!(scores[j] <= top)) top = scores[j];
    if (top == -(REAL)INFINITY) {
        for (int64_t j = 0; j < n; j++) scores[j] = 0;
        return;
    }
    for (int64_t j = 0; j < n; j++) sum += scores[j] = REAL_MATH(exp)(scores[j] - top);
    for (int64_t j = 0; j < n; j++) scores[j] /= sum;
}

static void ATTN(keep)(const sp_attn *a, int64_t mode, int64_t row, const REAL *scores)
{
    if (a->qk && a->mode == mode)
        memcpy((REAL *)a->qk->data + row * a->total, scores, (size_t)a->total * sizeof *scores);
}

/* The weights of all values for one query. */
static void ATTN(weights)(const sp_attn *a, int64_t row, REAL *scores, REAL *bias)
{
    int64_t s = row % a->q_len, h = row / a->q_len % a->q_heads, b = row / a->q_len / a->q_heads;
    int64_t kh = h / (a->q_heads / a->kv_heads);
    const REAL *q = ATTN(row_of)(&a->q, b, h, s);
    REAL scale = isnan(a->scale) ? 1 / REAL_MATH(sqrt)((REAL)a->head) : (REAL)a->scale,
         cap = a->softcap;
    for (int64_t j = 0; j < a->total; j++) {
        const REAL *k = j < a->past ? ATTN(row_of)(&a->past_k, b, kh, j)
                                    : ATTN(row_of)(&a->k, b, kh, j - a->past);
        scores[j] = scale * ATTN(dot)(q, k, a->head);
    }
    ATTN(keep)(a, 0, row, scores);
    if (a->scores_only) return;
    for (int64_t j = 0; cap > 0 && j < a->total; j++)
        scores[j] = cap * REAL_MATH(tanh)(scores[j] / cap);
    ATTN(keep)(a, 1, row, scores);
    ATTN(mask_row)(a, b, h, s, bias);
    ATTN(limit_row)(a, b, s, bias);
    for (int64_t j = 0; j < a->total; j++)
        scores[j] = bias[j] == -(REAL)INFINITY ? bias[j] : scores[j] + bias[j];
    ATTN(keep)(a, 2, row, scores);
    ATTN(softmax)(scores, a->total);
    ATTN(keep)(a, 3, row, scores);
}

static void ATTN(row)(const sp_attn *a, int64_t row, REAL *scores, REAL *bias)
{
    int64_t s = row % a->q_len, h = row / a->q_len % a->q_heads, b = row / a->q_len / a->q_heads;
    int64_t kh = h / (a->q_heads / a->kv_heads);
    if (a->probs)
        memcpy(scores, (const REAL *)a->probs->data + row * a->total,
               (size_t)a->total * sizeof *scores);
    else
        ATTN(weights)(a, row, scores, bias);
    if (a->scores_only) return;
    REAL *y = (REAL *)ATTN(row_of)(&a->y, b, h, s);
    for (int64_t i = 0; i < a->v_head; i++) y[i] = 0;
    for (int64_t j = 0; j < a->total; j++) {
        const REAL *v = j < a->past ? ATTN(row_of)(&a->past_v, b, kh, j)
                                    : ATTN(row_of)(&a->v, b, kh, j - a->past);
        REAL p = scores[j];
        if (p == 0) continue; /* excluded keys, whatever their values */
        for (int64_t i = 0; i < a->v_head; i++) y[i] += p * v[i];
    }
}

static void ATTN(slot_piece)(void *arg, int64_t begin, int64_t end)
{
    const attn_job *job = arg;
    for (int64_t slot = begin; slot < end; slot++) {
        REAL *scores = (REAL *)job->buffers + slot * 2 * job->a->total;
        int64_t last = sp_slot_first(job->rows, job->slots, slot + 1);
        for (int64_t i = sp_slot_first(job->rows, job->slots, slot); i < last; i++)
            ATTN(row)(job->a, i, scores, scores + job->a->total);
    }
}
