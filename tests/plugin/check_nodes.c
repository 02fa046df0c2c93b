/* Nodes on the device: every supported case against the plain implementation. */
#include "base/rng.h"
#include "plugin/check.h"

#define ROUNDS_PER_ROW 16
#define GUARD 256 /* bytes behind each buffer that must stay as they are */

/* A node on the device. */
typedef struct device_node {
    sparoa_tensor in[CASE_PORTS], out[CASE_PORTS];
    sparoa_tensor *in_list[CASE_PORTS], *out_list[CASE_PORTS];
    sparoa_node node;
    sparoa_kernel *kernel;
    sparoa_prepared *prepared;
    void *workspace;
    size_t workspace_bytes;
} device_node;

static void *buffer(check *c, size_t bytes)
{
    void *p = NULL;
    sparoa_status s = c->t->buffer_alloc(c->dev, bytes + GUARD, SPAROA_MEMORY_DEVICE, &p);
    check_that(c, s == SPAROA_OK && p, "buffer_alloc of %zu bytes: %s", bytes + GUARD,
               sparoa_status_name(s));
    return s == SPAROA_OK ? p : NULL;
}

/* Copies `bytes` to or from the device, the guard behind them as well, and waits. */
static bool move(check *c, void *dst, const void *src, size_t bytes)
{
    sparoa_status s = c->t->copy(c->queues[0], dst, src, bytes);
    if (s == SPAROA_OK) s = c->t->queue_sync(c->queues[0]);
    return s == SPAROA_OK;
}

/* Device memory for a tensor with `value` (or nothing) in it and a pattern behind. */
static bool place(check *c, sparoa_tensor *t, const void *value)
{
    size_t bytes = sparoa_tensor_bytes(t);
    t->data = buffer(c, bytes);
    char *image = malloc(bytes + GUARD);
    if (!t->data || !image) {
        free(image);
        return false;
    }
    memset(image, 0x5a, bytes + GUARD);
    if (value && bytes) memcpy(image, value, bytes);
    bool ok = move(c, t->data, image, bytes + GUARD);
    check_that(c, ok, "a copy of %zu bytes to the device failed", bytes + GUARD);
    free(image);
    return ok;
}

/* The tensor's contents on the host, after a look at what lies behind; NULL: that changed. */
static char *fetch(check *c, const sparoa_tensor *t, const case_node *n)
{
    size_t bytes = sparoa_tensor_bytes(t);
    char *image = malloc(bytes + GUARD);
    bool ok = image && move(c, image, t->data, bytes + GUARD);
    for (size_t i = bytes; i < bytes + GUARD && ok; i++) ok = image[i] == 0x5a;
    if (check_that(c, ok, "%s: wrote behind a buffer", n->text)) return image;
    free(image);
    return NULL;
}

static void drop(check *c, sparoa_tensor *t)
{
    if (!t->data) return;
    c->t->buffer_free(c->dev, t->data, sparoa_tensor_bytes(t) + GUARD, SPAROA_MEMORY_DEVICE);
    t->data = NULL;
}

/* As the engine shows a node before it runs: data of constants only. */
static void view(const case_node *n, device_node *d)
{
    memset(d, 0, sizeof *d);
    d->node = n->node;
    d->node.in = d->in_list;
    d->node.out = d->out_list;
    for (int32_t i = 0; i < n->node.n_in; i++) {
        d->in[i] = n->in[i];
        d->in[i].data = n->constant[i] ? n->values[i] : NULL;
        d->in_list[i] = n->in_list[i] ? &d->in[i] : NULL;
    }
    for (int32_t i = 0; i < n->node.n_out; i++) {
        d->out[i] = n->out[i];
        d->out[i].data = NULL;
        d->out_list[i] = &d->out[i];
    }
}

static bool prepare(check *c, const case_node *n, device_node *d)
{
    sparoa_status s = c->t->node_create(c->dev, &d->node, &d->kernel, &c->h.err);
    if (!check_that(c, s == SPAROA_OK && d->kernel, "%s: node_create: %s", n->text,
                    s == SPAROA_OK ? "no kernel" : c->h.err.message))
        return false;
    for (int k = 0; k < 2 && s == SPAROA_OK; k++) /* again: what is there is used again */
        s = c->t->node_prepare(d->kernel, &d->node, &d->prepared, &d->workspace_bytes, &c->h.err);
    check_that(c, s == SPAROA_OK, "%s: node_prepare: %s", n->text, c->h.err.message);
    const char *variant = c->t->node_variant(d->kernel);
    check_that(c, variant && *variant, "%s: node_variant has no name", n->text);
    check_that(c, c->t->node_bytes(d->kernel) < (size_t)1 << 40, "%s: node_bytes is absurd",
               n->text);
    return s == SPAROA_OK;
}

static bool place_all(check *c, const case_node *n, device_node *d)
{
    for (int32_t i = 0; i < n->node.n_in; i++) {
        bool kept = !n->constant[i] || c->t->node_keeps_input(d->kernel, i);
        d->in[i].data = NULL;
        if (n->in_list[i] && kept && !place(c, &d->in[i], n->values[i])) return false;
    }
    for (int32_t i = 0; i < n->node.n_out; i++)
        if (!place(c, &d->out[i], NULL)) return false;
    if (d->workspace_bytes) d->workspace = buffer(c, d->workspace_bytes);
    return !d->workspace_bytes || d->workspace;
}

/* One run on a queue: no allocation, right outputs, inputs untouched. */
static void run_once(check *c, case_node *n, device_node *d, sparoa_queue *queue)
{
    long calls = atomic_load(&c->h.calls);
    sparoa_status s =
        c->t->node_run(d->kernel, d->prepared, queue, &d->node, d->workspace, &c->h.err);
    long allocated = atomic_load(&c->h.calls) - calls;
    sparoa_status done = c->t->queue_sync(queue);
    if (!check_that(c, s == SPAROA_OK && done == SPAROA_OK, "%s: node_run: %s, queue_sync: %s",
                    n->text, sparoa_status_name(s), sparoa_status_name(done)))
        return;
    check_that(c, allocated == 0, "%s: node_run allocated %ld times", n->text, allocated);
    for (int32_t i = 0; i < n->node.n_out; i++) {
        char *got = fetch(c, &d->out[i], n);
        double off = got ? case_departure(n, i, got) : 0;
        check_that(c, off <= 1,
                   "%s: output %d departs from the plain implementation by %.3g times "
                   "what its class allows",
                   n->text, i, off);
        free(got);
    }
    for (int32_t i = 0; i < n->node.n_in; i++) {
        char *got = d->in[i].data ? fetch(c, &d->in[i], n) : NULL;
        if (got)
            check_that(c, memcmp(got, n->values[i], sparoa_tensor_bytes(&n->in[i])) == 0,
                       "%s: input %d was changed", n->text, i);
        free(got);
    }
}

static void run_case(check *c, case_node *n)
{
    device_node d;
    view(n, &d);
    bool ready = prepare(c, n, &d) && place_all(c, n, &d);
    for (int round = 0; round < 2 && ready; round++) {
        run_once(c, n, &d, c->queues[round]);
        case_refill(n, 100 + (uint64_t)round);
        ready = round == 0 && case_run(n) == SPAROA_OK;
        for (int32_t i = 0; i < n->node.n_in && ready; i++)
            if (n->in_list[i] && !n->constant[i])
                ready = move(c, d.in[i].data, n->values[i], sparoa_tensor_bytes(&n->in[i]));
    }
    for (int32_t i = 0; i < n->node.n_in && d.kernel; i++)
        if (!n->constant[i] || c->t->node_keeps_input(d.kernel, i)) drop(c, &d.in[i]);
    for (int32_t i = 0; i < n->node.n_out; i++) drop(c, &d.out[i]);
    if (d.workspace)
        c->t->buffer_free(c->dev, d.workspace, d.workspace_bytes + GUARD, SPAROA_MEMORY_DEVICE);
    if (d.kernel) {
        c->t->prepared_destroy(d.kernel, d.prepared);
        c->t->node_destroy(d.kernel);
    }
}

/* Returns whether the device ran it. */
static bool try_case(check *c, case_node *n)
{
    device_node d;
    char why[160] = "";
    view(n, &d);
    if (!c->t->node_supports(c->dev, &d.node, why, sizeof why)) {
        check_that(c, why[0] && memchr(why, 0, sizeof why), "%s: refused without a reason",
                   n->text);
        return false;
    }
    bool again = c->t->node_supports(c->dev, &d.node, NULL, 0);
    check_that(c, again, "%s: node_supports does not answer the same twice", n->text);
    run_case(c, n);
    return true;
}

void check_nodes(check *c)
{
    case_node n;
    int ran = 0;
    for (size_t i = 0; case_listed(c, i, &n); i++) {
        sparoa_status s = case_run(&n);
        check_that(c, s == SPAROA_OK, "the case '%s' does not run on the host: %s", n.text,
                   sparoa_status_name(s));
        bool did = s == SPAROA_OK && try_case(c, &n);
        c->unsupported += !did;
        ran += did;
        case_free(&n);
    }
    for (const sparoa_op *const *row = sp_op_table; *row; row++)
        for (uint64_t seed = 0; seed < ROUNDS_PER_ROW; seed++) {
            if (case_of_row(*row, seed, &n) && case_run(&n) == SPAROA_OK) ran += try_case(c, &n);
            case_free(&n);
        }
    printf("%d nodes ran on the device; %d of the listed cases are not supported\n", ran,
           c->unsupported);
    check_that(c, ran > 0, "not one case is supported");
}
