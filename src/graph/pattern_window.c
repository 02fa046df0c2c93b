/* Rows taken into another order by several moves of data: windows cut out of an image and put back
 * (Swin), with the image rolled before and after (Slice and Concat). As long as no move touches the
 * last dimension, it is one Gather of rows. The order is found by moving the numbers of the rows.
 */
#include <string.h>

#include "base/mem.h"
#include "graph/pattern.h"

enum {
    MAX_MOVES = 64,   /* looked at for one chain */
    MAX_NODES = 256,  /* the same, with those that move nothing */
    MIN_COLUMNS = 32, /* shorter rows are better moved by elements */
    MAX_INPUTS = 8    /* of a Concat */
};
#define MAX_ROWS (INT64_C(1) << 20)

/* A value as rows of the root: dimensions without the last, and the number of the row at each
 * place. */
typedef struct row_map {
    int32_t rank;
    int64_t dims[SPAROA_MAX_RANK], count;
    int32_t *at;
} row_map;

typedef struct search {
    sp_pattern *p;
    int64_t columns; /* the last dimension */
    int64_t inner;   /* rows of the output in each of its first dimension */
    /* The first dimension is a batch of any size: no move may know of it, so that all do the same
     * to any number of whole images, and what holds for some that fit every shape holds for all. */
    bool any_batch;
    sp_id root; /* SP_NO_ID: not met yet */
    int64_t root_rows;
    int32_t moves; /* nodes that copy, counted each time they are met */
    int32_t nodes; /* all that were met */
    bool failed;   /* out of memory */
} search;

static const sparoa_tensor *fact(const sp_pattern *p, sp_id value)
{
    return &p->g->values[value].fact;
}

static const sparoa_allocator *memory(const search *s)
{
    return &s->p->g->arena.alloc;
}

static void drop(const search *s, row_map *m)
{
    sp_free(memory(s), m->at, (size_t)m->count * sizeof *m->at);
    m->at = NULL;
}

/* A map of these dimensions, with nothing in it yet. */
static bool make(search *s, int32_t rank, const int64_t *dims, row_map *m)
{
    *m = (row_map){.rank = rank, .count = 1};
    for (int32_t d = 0; d < rank; d++) {
        m->dims[d] = dims[d];
        if (dims[d] < 1 || __builtin_mul_overflow(m->count, dims[d], &m->count)) return false;
    }
    if (m->count > MAX_ROWS) return false;
    m->at = sp_alloc(memory(s), (size_t)m->count * sizeof *m->at);
    if (!m->at) s->failed = true;
    return m->at != NULL;
}

/* The dimensions of a value without the last, the first worked out from `rows` where it is not
 * known. */
static bool dims_of(const search *s, sp_id value, int64_t rows, int64_t *dims)
{
    const sparoa_tensor *t = fact(s->p, value);
    int64_t known = 1;
    if (t->rank < 2 || t->dims[t->rank - 1] != s->columns) return false;
    for (int32_t d = 0; d + 1 < t->rank; d++) {
        dims[d] = t->dims[d];
        if (d > 0 || dims[d] >= 0) known *= dims[d];
        if (dims[d] == 0 || (d > 0 && dims[d] < 0) || known > MAX_ROWS) return false;
    }
    if (dims[0] >= 0) return rows < 0 || rows == known;
    dims[0] = rows / known;
    return rows > 0 && dims[0] * known == rows;
}

/* Rows in each of the first dimension; 0: not known, or too many. */
static int64_t inner_rows(const sparoa_tensor *t)
{
    int64_t rows = 1;
    for (int32_t d = 1; d + 1 < t->rank; d++)
        if (t->dims[d] < 1 || t->dims[d] > MAX_ROWS || (rows *= t->dims[d]) > MAX_ROWS) return 0;
    return rows;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static bool is_view(const sp_gnode *n)
{
    return sp_node_is(n, "Reshape") || sp_node_is(n, "Squeeze") || sp_node_is(n, "Unsqueeze") ||
           sp_node_is(n, "Flatten");
}

/* The value that everything comes from: rows in order; of a batch of any size as many as make whole
 * images both here and in the output. */
static bool from_root(search *s, sp_id value, row_map *m)
{
    const sparoa_tensor *t = fact(s->p, value);
    int64_t dims[SPAROA_MAX_RANK], rows = -1;
    if (s->root != SP_NO_ID && s->root != value) return false;
    if (s->p->g->values[value].kind == SP_VALUE_CONST || t->rank < 2) return false;
    if (t->dims[0] < 0) {
        const int64_t own = inner_rows(t);
        if (!s->any_batch || own == 0) return false;
        rows = own / common_divisor(own, s->inner) * s->inner;
    }
    if (!dims_of(s, value, rows, dims)) return false;
    if (!make(s, t->rank - 1, dims, m)) return false;
    for (int64_t i = 0; i < m->count; i++) m->at[i] = (int32_t)i;
    s->root = value;
    s->root_rows = m->count;
    return true;
}

static bool follow(search *s, sp_id value, row_map *m);

/* dst = src along the strides of src's elements, one for each dimension of dst. */
static void walk(const row_map *src, int64_t offset, const int64_t *strides, row_map *dst)
{
    int64_t index[SPAROA_MAX_RANK] = {0}, at = offset;
    for (int64_t i = 0; i < dst->count; i++) {
        dst->at[i] = src->at[at];
        for (int32_t d = dst->rank - 1; d >= 0; d--) {
            at += strides[d];
            if (++index[d] < dst->dims[d]) break;
            at -= strides[d] * dst->dims[d];
            index[d] = 0;
        }
    }
}

static void strides_of(const row_map *m, int64_t *strides)
{
    int64_t stride = 1;
    for (int32_t d = m->rank - 1; d >= 0; d--) {
        strides[d] = stride;
        stride *= m->dims[d];
    }
}

static bool transposed(search *s, const sp_gnode *n, const row_map *from, row_map *m)
{
    sparoa_node attrs = sp_node_attrs(n);
    size_t count;
    const int64_t *perm = sparoa_attr_ints(&attrs, "perm", &count);
    int64_t dims[SPAROA_MAX_RANK], old[SPAROA_MAX_RANK], strides[SPAROA_MAX_RANK];
    if (!perm || count != (size_t)from->rank + 1 || perm[from->rank] != from->rank) return false;
    if (s->any_batch && perm[0] != 0) return false;
    strides_of(from, old);
    for (int32_t d = 0; d < from->rank; d++) {
        dims[d] = from->dims[perm[d]];
        strides[d] = old[perm[d]];
    }
    if (!make(s, from->rank, dims, m)) return false;
    walk(from, 0, strides, m);
    return true;
}

/* Constant 64-bit integers; NULL: they are none. */
static const int64_t *integers(const search *s, const sp_gnode *n, int32_t input, int64_t count)
{
    const sp_value *v = sp_const_in(s->p->g, n, input);
    bool fits = v && v->fact.dtype == SPAROA_INT64 && sparoa_tensor_count(&v->fact) == count;
    return fits ? v->fact.data : NULL;
}

static bool sliced(search *s, const sp_gnode *n, const row_map *from, row_map *m)
{
    const sp_value *first = n->n_in >= 4 ? sp_const_in(s->p->g, n, 1) : NULL;
    const int64_t count = first ? sparoa_tensor_count(&first->fact) : 0;
    const int64_t *starts = first ? integers(s, n, 1, count) : NULL,
                  *ends = first ? integers(s, n, 2, count) : NULL,
                  *axes = first ? integers(s, n, 3, count) : NULL,
                  *steps = n->n_in > 4 && n->in[4] != SP_NO_ID ? integers(s, n, 4, count) : NULL;
    int64_t dims[SPAROA_MAX_RANK], strides[SPAROA_MAX_RANK], offset = 0;
    if (!starts || !ends || !axes || (n->n_in > 4 && n->in[4] != SP_NO_ID && !steps)) return false;
    memcpy(dims, from->dims, sizeof dims);
    strides_of(from, strides);
    for (int64_t k = 0; k < count; k++) {
        int64_t d = axes[k] < 0 ? axes[k] + from->rank + 1 : axes[k], step = steps ? steps[k] : 1;
        if (d < s->any_batch || d >= from->rank || step < 1) return false;
        int64_t size = from->dims[d], start = starts[k] < 0 ? starts[k] + size : starts[k];
        int64_t end = ends[k] < 0 ? ends[k] + size : ends[k] < size ? ends[k] : size;
        if (start < 0 || start >= end || dims[d] != size) return false;
        if (step > size) step = size; /* one element as well */
        dims[d] = (end - start + step - 1) / step;
        offset += start * strides[d];
        strides[d] *= step;
    }
    if (!make(s, from->rank, dims, m)) return false;
    walk(from, offset, strides, m);
    return true;
}

/* Along `axis`: what the inputs hold, side by side. */
static bool join(search *s, const row_map *parts, int32_t count, int32_t axis, row_map *m)
{
    int64_t dims[SPAROA_MAX_RANK], inner = 1, outer = 1, before = 0;
    memcpy(dims, parts[0].dims, sizeof dims);
    for (int32_t i = 1; i < count; i++) {
        for (int32_t d = 0; d < parts[0].rank; d++)
            if (parts[i].rank != parts[0].rank || (d != axis && parts[i].dims[d] != dims[d]))
                return false;
        dims[axis] += parts[i].dims[axis];
    }
    if (!make(s, parts[0].rank, dims, m)) return false;
    for (int32_t d = 0; d < m->rank; d++) *(d < axis ? &outer : &inner) *= d == axis ? 1 : dims[d];
    for (int32_t i = 0; i < count; i++) {
        const int64_t run = parts[i].dims[axis] * inner;
        for (int64_t o = 0; o < outer; o++)
            memcpy(m->at + o * dims[axis] * inner + before, parts[i].at + o * run,
                   (size_t)run * sizeof *m->at);
        before += run;
    }
    return true;
}

static bool concatenated(search *s, const sp_gnode *n, row_map *m)
{
    row_map parts[MAX_INPUTS];
    sparoa_node attrs = sp_node_attrs(n);
    const int32_t rank = fact(s->p, n->out[0])->rank;
    int64_t axis = sparoa_attr_int(&attrs, "axis", 0);
    int32_t count = 0;
    if (axis < 0) axis += rank;
    if (n->n_in > MAX_INPUTS || axis < s->any_batch || axis >= rank - 1) return false;
    while (count < n->n_in && follow(s, n->in[count], &parts[count])) count++;
    bool ok = count == n->n_in && join(s, parts, count, (int32_t)axis, m);
    while (count-- > 0) drop(s, &parts[count]);
    return ok;
}

/* Through a node that moves rows. False: it doesn't, or not in a way that is understood. */
static bool through(search *s, const sp_gnode *n, sp_id value, row_map *m)
{
    row_map from;
    bool view = is_view(n), turn = sp_node_is(n, "Transpose"), cut = sp_node_is(n, "Slice");
    if (!view && !turn && !cut && !sp_node_is(n, "Concat")) return false;
    const sparoa_tensor *t = n->in[0] == SP_NO_ID ? NULL : fact(s->p, n->in[0]);
    if (!t || t->rank < 2 || t->dims[t->rank - 1] != s->columns) return false;
    if (++s->nodes > MAX_NODES || (!view && ++s->moves > MAX_MOVES)) return false;
    if (!view && !turn && !cut) return concatenated(s, n, m);
    if (!follow(s, n->in[0], &from)) return false;
    if (view) {
        *m = from;
        m->rank = fact(s->p, value)->rank - 1;
        if (dims_of(s, value, from.count, m->dims)) return true;
        drop(s, m);
        return false;
    }
    bool ok = turn ? transposed(s, n, &from, m) : sliced(s, n, &from, m);
    drop(s, &from);
    return ok;
}

static bool follow(search *s, sp_id value, row_map *m)
{
    const sp_gnode *n = sp_pattern_from(s->p, value, NULL);
    const int32_t moves = s->moves;
    if (n && through(s, n, value, m)) return true;
    if (s->failed) return false;
    s->moves = moves; /* what is not understood is where the rows come from */
    return from_root(s, value, m);
}

/* Whether every image has its rows from the image of the same number, all in one order. */
static bool by_image(const row_map *m, int64_t images, int64_t root_rows)
{
    const int64_t rows = m->count / images, from = root_rows / images;
    if (rows * images != m->count || from * images != root_rows) return false;
    for (int64_t i = 0; i < m->count; i++)
        if (m->at[i] != m->at[i % rows] + i / rows * from || (i < rows && m->at[i] >= from))
            return false;
    return true;
}

static bool in_order(const row_map *m)
{
    for (int64_t i = 0; i < m->count; i++)
        if (m->at[i] != i) return false;
    return true;
}

/* The constant of these indices: one that is there already where one is. */
static sp_id indices(sp_pattern *p, const int32_t *at, int64_t count)
{
    int64_t dims[1] = {count};
    for (size_t v = 0; v < p->g->value_count; v++) {
        const sp_value *old = &p->g->values[v];
        if (old->kind == SP_VALUE_CONST && old->fact.dtype == SPAROA_INT32 && old->fact.rank == 1 &&
            old->fact.dims[0] == count &&
            memcmp(old->fact.data, at, (size_t)count * sizeof *at) == 0)
            return (sp_id)v;
    }
    return sp_add_const(p->g, "rows", SPAROA_INT32, 1, dims, at);
}

/* Reshape of x to [images or any number, rows, columns]. */
static sp_id flat(sp_pattern *p, sp_id x, int64_t images, int64_t rows, int64_t columns)
{
    const int64_t dims[3] = {images, rows, columns};
    sp_id in[2] = {x, sp_add_const_i64(p->g, "shape", dims, 3)};
    if (in[1] == SP_NO_ID) return SP_NO_ID;
    sp_id out = sp_pattern_insert(p, "Reshape", 14, "rows", in, 2);
    if (out != SP_NO_ID) sp_set_shape(&p->g->values[out].fact, fact(p, x)->dtype, 3, dims);
    return out;
}

static bool replace(search *s, sp_id node, const row_map *m, int64_t images)
{
    sp_pattern *p = s->p;
    const sparoa_tensor out = *fact(p, p->g->nodes[node].out[0]);
    const int64_t rows = m->count / images, batch = s->any_batch ? -1 : images;
    sp_id in[2] = {flat(p, s->root, batch, s->root_rows / images, s->columns),
                   indices(p, m->at, rows)};
    if (in[0] == SP_NO_ID || in[1] == SP_NO_ID) return false;
    sp_id y = sp_pattern_insert(p, "Gather", 13, p->g->nodes[node].name, in, 2);
    if (y == SP_NO_ID || !sp_node_set_int(p->g, p->g->values[y].producer, "axis", 1)) return false;
    sp_set_shape(&p->g->values[y].fact, out.dtype, 3, (int64_t[]){batch, rows, s->columns});
    sp_id last[2] = {y, sp_add_const_i64(p->g, "shape", out.dims, out.rank)};
    return last[1] != SP_NO_ID && sp_pattern_replace(p, node, "Reshape", 14, last, 2) != SP_NO_ID;
}

/* Whether nothing but moves of these rows reads the value: then the last of them takes all. */
static bool goes_on(const sp_pattern *p, sp_id value, int depth)
{
    bool read = false;
    for (size_t i = 0; i < p->g->node_count; i++) {
        const sp_gnode *n = &p->g->nodes[i];
        for (int32_t k = 0; k < n->n_in && !n->dead; k++) {
            if (n->in[k] != value) continue;
            const sparoa_tensor *out = sp_node_out(p->g, n, 0), *in = fact(p, value);
            bool moves = sp_node_is(n, "Transpose") || sp_node_is(n, "Concat") ||
                         (sp_node_is(n, "Slice") && k == 0);
            if (!out || out->rank < 2 || out->dims[out->rank - 1] != in->dims[in->rank - 1])
                return false;
            if (!moves && (!is_view(n) || k > 0 || depth == 0 || !goes_on(p, n->out[0], depth - 1)))
                return false;
            read = true;
        }
    }
    return read;
}

bool sp_pattern_window(sp_pattern *p, sp_id node)
{
    const sp_gnode *n = &p->g->nodes[node];
    row_map m;
    if (n->domain[0] || (!sp_node_is(n, "Transpose") && !sp_node_is(n, "Concat"))) return false;
    const sparoa_tensor *out = fact(p, n->out[0]);
    if (out->rank < 3 || out->dims[out->rank - 1] < MIN_COLUMNS) return false;
    search s = {.p = p,
                .columns = out->dims[out->rank - 1],
                .inner = inner_rows(out),
                .any_batch = out->dims[0] < 0,
                .root = SP_NO_ID};
    if (s.inner == 0 || out->dims[0] == 0) return false;
    if (goes_on(p, n->out[0], 4)) return false;
    if (!through(&s, n, n->out[0], &m)) {
        sp_pattern_done(p, !s.failed);
        return false;
    }
    /* one move alone is as well left as it is */
    int64_t images = m.count / s.inner;
    bool found = s.moves > 1 && m.count % s.inner == 0 && !in_order(&m), ok = true;
    if (found && !by_image(&m, images, s.root_rows)) {
        images = 1;
        found = !s.any_batch;
    }
    if (found) ok = replace(&s, node, &m, images);
    drop(&s, &m);
    return sp_pattern_done(p, ok) && found;
}
