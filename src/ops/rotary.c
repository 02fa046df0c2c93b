/* RotaryEmbedding: pairs of elements are turned by an angle that depends on the token's position.
 */
#include "ops/check.h"

typedef struct rotary {
    int64_t batch, length, heads, head, turned; /* turned: elements of a head that take part */
    bool rank4, interleaved;
    const float *x, *cosines, *sines;
    const int64_t *positions; /* NULL: the tables have one row for each token */
    float *y;
} rotary;

static sparoa_status parse(const sparoa_node *node, rotary *r, sparoa_error *err)
{
    const uint32_t types = SP_TYPES_FLOAT & ~(1u << SPAROA_FLOAT64);
    for (int32_t i = 0; i < 3; i++) {
        SP_TRY(sp_check_type(node, i, types, err));
        SP_TRY(sp_check_same_type(node, 0, i, err));
    }
    SP_TRY(sp_check_rank(node, 0, 3, 4, err));
    const sparoa_tensor *x = node->in[0];
    int64_t heads = sparoa_attr_int(node, "num_heads", 0), width = -1;
    *r = (rotary){.rank4 = x->rank == 4,
                  .interleaved = sparoa_attr_int(node, "interleaved", 0) != 0};
    r->batch = sp_dim(x, 0);
    r->heads = r->rank4 ? sp_dim(x, 1) : heads;
    r->length = sp_dim(x, r->rank4 ? 2 : 1);
    r->head = r->rank4 ? sp_dim(x, 3) : -1;
    if (x->rank == 3) {
        width = sp_dim(x, 2);
        if (heads < 1 || (width >= 0 && width % heads))
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                               "num_heads=%lld must divide the width %lld", (long long)heads,
                               (long long)width);
        if (width >= 0) r->head = width / heads;
    }
    r->turned = sparoa_attr_int(node, "rotary_embedding_dim", 0);
    if (r->turned < 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "rotary_embedding_dim=%lld is negative",
                           (long long)r->turned);
    if (r->turned == 0) r->turned = r->head;
    if ((r->head >= 0 && r->turned > r->head) || (r->turned > 0 && r->turned % 2))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "%lld elements of a head of %lld cannot be turned in pairs",
                           (long long)r->turned, (long long)r->head);
    int64_t half = r->turned < 0 ? -1 : r->turned / 2;
    bool by_position = sparoa_in(node, 3) != NULL;
    for (int32_t i = 1; i <= 2; i++) {
        if (by_position)
            SP_TRY(sp_check_dims(node, i, 2, (int64_t[]){-1, half}, err));
        else
            SP_TRY(sp_check_dims(node, i, 3, (int64_t[]){r->batch, r->length, half}, err));
    }
    if (!by_position) return SPAROA_OK;
    SP_TRY(sp_check_type(node, 3, 1u << SPAROA_INT64, err));
    SP_TRY(sp_check_dims(node, 3, 2, (int64_t[]){r->batch, r->length}, err));
    return sp_check_dims(node, 2, 2, (int64_t[]){sp_dim(node->in[1], 0), half}, err);
}

static sparoa_status infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 3, 1, err));
    rotary r;
    SP_TRY(parse(node, &r, err));
    return sp_infer_same(node, err);
}

static void cost_of(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 3.0 * (double)sp_count(node->in[0]);
}

/* One head of one token. */
static void turn(const rotary *r, const float *x, const float *c, const float *s, float *y)
{
    int64_t half = r->turned / 2;
    for (int64_t i = 0; i < half; i++) {
        int64_t a = r->interleaved ? 2 * i : i, b = r->interleaved ? 2 * i + 1 : i + half;
        float re = x[a], im = x[b];
        y[a] = c[i] * re - s[i] * im;
        y[b] = s[i] * re + c[i] * im;
    }
    for (int64_t i = r->turned; i < r->head; i++) y[i] = x[i];
}

static void piece(void *arg, int64_t begin, int64_t end)
{
    const rotary *r = arg;
    for (int64_t token = begin; token < end; token++) {
        int64_t b = token / r->length, t = token % r->length;
        int64_t at = (r->positions ? r->positions[token] : token) * (r->turned / 2);
        for (int64_t h = 0; h < r->heads; h++) {
            int64_t row = r->rank4 ? (b * r->heads + h) * r->length + t : token * r->heads + h;
            turn(r, r->x + row * r->head, r->cosines + at, r->sines + at, r->y + row * r->head);
        }
    }
}

static sparoa_status run(const sparoa_node *node, const sparoa_exec *exec)
{
    rotary r;
    SP_TRY(parse(node, &r, exec->err));
    r.x = node->in[0]->data;
    r.cosines = node->in[1]->data;
    r.sines = node->in[2]->data;
    r.y = node->out[0]->data;
    r.positions = sparoa_in(node, 3) ? node->in[3]->data : NULL;
    int64_t tokens = r.batch * r.length, rows = node->in[1]->dims[0];
    for (int64_t i = 0; r.positions && i < tokens; i++)
        if (r.positions[i] < 0 || r.positions[i] >= rows)
            return sparoa_fail(exec->err, SPAROA_INDEX_OUT_OF_RANGE, node,
                               "position_ids[%lld]=%lld is out of range for %lld positions",
                               (long long)i, (long long)r.positions[i], (long long)rows);
    if (sp_count(node->in[0]) == 0) return SPAROA_OK;
    sp_parallel_for(exec, tokens, 1 + 16384 / (r.heads * r.head), piece, &r);
    return SPAROA_OK;
}

/* ONNX RotaryEmbedding, version 23. */
SP_OP(RotaryEmbedding) = {
    SP_OP_HEAD("RotaryEmbedding", 23, 0),
    .min_in = 3,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_ELTWISE,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = infer,
    .cost = cost_of,
    .run = run,
};
