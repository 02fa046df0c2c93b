/* Frames: any sequence of shapes, eviction of old ones, and memory plans in which no two living
 * values share a byte. */
#include "api/objects.h"
#include "tests/engine/random_build.h"

#define PLANNED_GRAPHS 300

static sparoa_error err;

/* ---- sequences of shapes ---- */

static sparoa_session *session_of(sparoa_model *model, int32_t max_shapes)
{
    sparoa_session_options o = {.struct_size = sizeof o, .max_shapes = max_shapes};
    sparoa_session *s = NULL;
    ts_ok(sparoa_session_create(model, &o, &s, &err), err);
    return s;
}

static size_t frame_count(const sparoa_session *s)
{
    size_t n = 0;
    for (const sp_frame *f = s->program->frames; f; f = f->next) n++;
    assert_int_equal(n, s->program->frame_count);
    return n;
}

/* One session through random batch sizes against a new session for each. */
static void walk(mb_model *m, int32_t max_shapes, int rank, const int64_t *like)
{
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 1);
    sparoa_model *model = ts_load(rt, m);
    sparoa_session *s = session_of(model, max_shapes);
    size_t outputs = sparoa_model_output_count(model);
    for (uint64_t turn = 0; turn < 60; turn++) {
        int64_t dims[4];
        memcpy(dims, like, (size_t)rank * sizeof *dims);
        dims[0] = 1 + (int64_t)(sp_rng_bits(5, turn) % 7);
        sparoa_tensor in = ts_random(rank, dims, turn), out[4] = {{0}}, want[4] = {{0}};
        sparoa_session *fresh = session_of(model, 0);
        ts_ok(sparoa_session_run(s, &in, 1, out, outputs, &err), err);
        ts_ok(sparoa_session_run(fresh, &in, 1, want, outputs, &err), err);
        for (size_t i = 0; i < outputs; i++) assert_true(ts_same(&out[i], &want[i]));
        assert_true(frame_count(s) <= (size_t)max_shapes);
        sparoa_session_destroy(fresh);
        free(in.data);
    }
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
    ts_balanced(&memory);
}

static void test_shape_sequences(void **state)
{
    (void)state;
    for (int32_t max_shapes = 1; max_shapes <= 4; max_shapes++) {
        walk(ts_small_net(), max_shapes, 4, (int64_t[]){0, 3, 8, 8});
        walk(ts_nonzero_net(), max_shapes, 1, (int64_t[]){0});
        walk(ts_control_net(3), max_shapes, 1, (int64_t[]){0});
        walk(ts_scan_net(), max_shapes, 2, (int64_t[]){0, 3});
    }
}

/* The frame that makes room for one that can't be made is gone; so is what the session knew of it.
 */
static void test_eviction_then_failure(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 1);
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_session *s = session_of(model, 1);
    sparoa_tensor in = ts_random(MB_DIMS(1, 3, 8, 8), 1), out = {0}, big = in;
    sparoa_node_info node;
    sparoa_session_info info;
    ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    big.dims[0] = 100;
    memory.fail_at = atomic_load(&memory.calls) + 3;
    assert_int_equal(sparoa_session_prepare(s, &big, 1, &err), SPAROA_OUT_OF_MEMORY);
    sparoa_session_get_info(s, &info);
    for (size_t i = 0; i < info.node_count; i++)
        assert_int_equal(sparoa_session_node(s, i, &node), SPAROA_OK);
    memory.fail_at = 0;
    out = (sparoa_tensor){0}; /* what it named went with the frame */
    ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    free(in.data);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
    ts_balanced(&memory);
}

/* Least recently used goes first. */
static void test_eviction_order(void **state)
{
    (void)state;
    ts_memory memory = {0};
    sparoa_runtime *rt = ts_runtime(&memory, 1);
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_session *s = session_of(model, 2);
    static const struct {
        int64_t batch;
        bool ready;
    } steps[] = {{1, false}, {2, false}, {1, true}, {3, false}, {1, true}, {2, false}, {3, false}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        sparoa_tensor in = ts_random(MB_DIMS(steps[i].batch, 3, 8, 8), 1), out = {0};
        long before = atomic_load(&memory.calls);
        ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
        assert_int_equal(atomic_load(&memory.calls) == before, steps[i].ready);
        free(in.data);
    }
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    mb_end();
}

/* ---- memory plans ---- */

typedef struct life {
    const char *from, *to; /* its bytes */
    sp_id root;            /* whose place in memory it has */
    sp_id content;         /* the value that it is a view of, or itself */
    uint32_t first, last;  /* nodes between which its content must stay */
    bool placed;
} life;

static sp_id root_of(const sp_frame *f, sp_id v)
{
    return f->locations[v].place == SP_PLACE_ALIAS ? f->locations[v].root : v;
}

static void find_lives(const sp_frame *f, life *lives)
{
    const sp_graph *g = f->program->graph;
    for (size_t v = 0; v < g->value_count; v++) {
        sp_id producer = g->values[v].producer;
        lives[v] = (life){.root = root_of(f, (sp_id)v), .content = (sp_id)v};
        lives[v].placed = producer != SP_NO_ID && f->locations[v].place != SP_PLACE_NONE &&
                          f->locations[lives[v].root].place == SP_PLACE_ARENA;
        if (!lives[v].placed) continue;
        lives[v].first = lives[v].last = producer;
        lives[v].from = f->tensors[v].data;
        lives[v].to = lives[v].from + sparoa_tensor_bytes(&f->tensors[v]);
    }
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        if (n->out[0] != SP_NO_ID && n->op->flags & SPAROA_OP_VIEW && f->nodes[i].skip &&
            f->locations[n->out[0]].place == SP_PLACE_ALIAS)
            lives[n->out[0]].content = lives[n->in[0]].content;
        for (int32_t k = 0; k < n->n_in && !f->nodes[i].skip; k++)
            if (n->in[k] != SP_NO_ID) lives[lives[n->in[k]].content].last = (uint32_t)i;
    }
    for (uint32_t k = 0; k < g->output_count; k++)
        lives[lives[g->outputs[k]].content].last = UINT32_MAX;
}

static bool overlap(const life *a, const char *from, const char *to)
{
    return a->from < to && from < a->to;
}

static void check_plan(const sp_frame *f, uint64_t seed, const char *text)
{
    const sp_graph *g = f->program->graph;
    life *lives = calloc(g->value_count, sizeof *lives);
    const char *memory = f->sides[0].memory, *end = memory + f->sides[0].memory_bytes;
    find_lives(f, lives);
    for (size_t a = 0; a < g->value_count; a++) {
        const life *u = &lives[a], *cu = &lives[u->content];
        if (!u->placed) continue;
        if (u->from < memory || u->to > end)
            fail_msg("seed %llu: '%s' lies outside\n%s", (unsigned long long)seed,
                     g->values[a].name, text);
        for (size_t b = 0; b < g->value_count; b++) {
            const life *v = &lives[b];
            if (a == b || !v->placed || v->content == u->content || !overlap(u, v->from, v->to))
                continue;
            if (v->first < u->first) continue; /* the other way round is looked at too */
            bool over = cu->last < v->first || (cu->last == v->first && u->root == v->root);
            if (!over || v->first == u->first)
                fail_msg("seed %llu: '%s' is written over '%s', which is still needed\n%s",
                         (unsigned long long)seed, g->values[b].name, g->values[a].name, text);
        }
        for (size_t i = 0; i < g->node_count; i++) {
            const char *w = f->nodes[i].workspace;
            if (!w || f->nodes[i].skip || i < u->first || i > cu->last) continue;
            if (overlap(u, w, w + f->nodes[i].workspace_bytes))
                fail_msg("seed %llu: the workspace of '%s' lies on '%s'\n%s",
                         (unsigned long long)seed, g->nodes[i].name, g->values[a].name, text);
        }
    }
    free(lives);
}

static void test_no_overlap(void **state)
{
    (void)state;
    sparoa_runtime *rt = ts_runtime(NULL, 2);
    size_t planned = 0, unshared = 0;
    for (uint64_t seed = 0; seed < PLANNED_GRAPHS; seed++) {
        rg *r = malloc(sizeof *r);
        rg_build(r, 7000 + seed);
        sparoa_model *model = ts_load(rt, r->model);
        static const char *const without[] = {"", "all"};
        sparoa_tensor in[2];
        rg_inputs(r, r->n, in);
        for (int k = 0; k < 2; k++) {
            sparoa_session *s = ts_session(model, without[k], 0);
            ts_ok(sparoa_session_prepare(s, in, r->g->n_input, &err), err);
            check_plan(s->frame, 7000 + seed, r->text);
            planned += s->frame->sides[0].memory_bytes;
            unshared += s->frame->unshared_bytes;
            sparoa_session_destroy(s);
        }
        for (size_t i = 0; i < r->g->n_input; i++) free(in[i].data);
        sparoa_model_destroy(model);
        mb_end();
        free(r);
    }
    assert_true(planned < unshared);
    sparoa_runtime_destroy(rt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape_sequences),
        cmocka_unit_test(test_eviction_then_failure),
        cmocka_unit_test(test_eviction_order),
        cmocka_unit_test(test_no_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
