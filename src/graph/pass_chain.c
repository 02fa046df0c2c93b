/* Element-wise operators that follow each other, each read by the next alone, become one operator
 * (ops/chain.h): on a device each would cost a launch and a way through memory of its own. */
#include "graph/passes.h"
#include "graph/rewrite.h"
#include "ops/chain.h"

typedef struct builder {
    sp_graph *g;
    sp_uses uses;
    sp_chain chain; /* from the last step to the first */
    sp_id in[SP_CHAIN_INPUTS];
    int32_t n_in; /* of those 1.. : input 0 is put there at the end */
    sp_id members[SP_CHAIN_STEPS];
} builder;

static bool bounds_of(const sp_graph *g, const sp_gnode *n, sp_chain_step *step)
{
    double low = (double)step->a, high = (double)step->b;
    if (n->n_in > 1 && n->in[1] != SP_NO_ID && !sp_const_scalar(g, n, 1, &low)) return false;
    if (n->n_in > 2 && n->in[2] != SP_NO_ID && !sp_const_scalar(g, n, 2, &high)) return false;
    step->a = (float)low;
    step->b = (float)high;
    return true;
}

/* The step that a node is; false: it is none, or on other types than float32 and float16. */
static bool step_of(const sp_graph *g, const sp_gnode *n, sp_chain_step *step)
{
    sparoa_node attrs = sp_node_attrs(n);
    const sparoa_tensor *out = sp_node_out(g, n, 0);
    if (n->dead || n->domain[0] || n->n_out != 1 || !out ||
        (out->dtype != SPAROA_FLOAT32 && out->dtype != SPAROA_FLOAT16))
        return false;
    if (!sp_chain_step_of(&attrs, step)) return false;
    if (sparoa_attr_find(&attrs, "axis") || sparoa_attr_find(&attrs, "broadcast")) return false;
    bool two = step->fn >= SP_CHAIN_Add;
    if (two && n->n_in != 2) return false;
    for (int32_t i = 0; i < (two ? 2 : 1); i++) {
        const sparoa_tensor *in = sp_node_in(g, n, i);
        if (!in || in->dtype != out->dtype) return false;
    }
    return step->fn != SP_CHAIN_Clip || bounds_of(g, n, step);
}

/* The input whose maker is the step before; -1: none. Where both are, the later one. */
static int32_t input_before(const builder *b, const sp_gnode *n)
{
    sp_chain_step step;
    int32_t best = -1;
    for (int32_t i = 0; i < n->n_in && i < 2; i++) {
        const sp_gnode *p = sp_producer(b->g, n, i);
        if (!p || b->uses.count[n->in[i]] != 1 || !step_of(b->g, p, &step)) continue;
        /* what is small is not worked out anew for each element of something large */
        if (!sp_same_shape(sp_node_out(b->g, p, 0), sp_node_out(b->g, n, 0))) continue;
        if (best < 0 || p > sp_producer(b->g, n, best)) best = i;
    }
    return best;
}

/* Whether the value's only reader goes on with the chain: then that is looked at instead. */
static bool goes_on(const builder *b, const sp_gnode *n)
{
    sp_chain_step step;
    sp_id reader = b->uses.count[n->out[0]] == 1 ? b->uses.single[n->out[0]] : SP_NO_ID;
    if (reader == SP_NO_ID) return false;
    const sp_gnode *next = &b->g->nodes[reader];
    int32_t from = step_of(b->g, next, &step) ? input_before(b, next) : -1;
    return from >= 0 && sp_producer(b->g, next, from) == n;
}

/* Follows the chain from its last node back to the value that it begins with. */
static void collect(builder *b, sp_id last)
{
    b->chain.count = 0;
    b->n_in = 1;
    for (sp_id at = last;;) {
        const sp_gnode *n = &b->g->nodes[at];
        sp_chain_step step;
        step_of(b->g, n, &step);
        int32_t from = input_before(b, n);
        bool two = step.fn >= SP_CHAIN_Add, full = b->chain.count == SP_CHAIN_STEPS - 1;
        if (two && b->n_in >= SP_CHAIN_INPUTS - 1) full = true;
        if (full) from = -1;
        int32_t own = from < 0 ? 0 : from;
        if (two) {
            step.input = b->n_in;
            step.first = own == 1;
            b->in[b->n_in++] = n->in[1 - own];
        }
        b->members[b->chain.count] = at;
        b->chain.steps[b->chain.count++] = step;
        b->in[0] = n->in[own];
        if (from < 0) return;
        at = b->g->values[n->in[from]].producer;
    }
}

/* The chain as one node, in the place of its last. */
static bool replace(builder *b)
{
    sp_graph *g = b->g;
    int64_t steps[SP_CHAIN_STEPS * 3];
    float args[SP_CHAIN_STEPS * 2];
    int32_t count = b->chain.count;
    for (int32_t i = 0; i < count; i++) {
        const sp_chain_step *s = &b->chain.steps[count - 1 - i];
        steps[i * 3] = s->fn;
        steps[i * 3 + 1] = s->input;
        steps[i * 3 + 2] = s->first;
        args[i * 2] = s->a;
        args[i * 2 + 1] = s->b;
    }
    sparoa_attr attrs[2] = {
        {.name = "sp.steps", .type = SPAROA_ATTR_INTS, .count = (size_t)count * 3},
        {.name = "sp.args", .type = SPAROA_ATTR_FLOATS, .count = (size_t)count * 2}};
    attrs[0].v.ints = sp_arena_copy(&g->arena, steps, (size_t)count * 3 * sizeof *steps);
    attrs[1].v.floats = sp_arena_copy(&g->arena, args, (size_t)count * 2 * sizeof *args);
    const sparoa_op *op = sp_op_find(SP_CHAIN_DOMAIN, "Chain", 1, NULL, 0);
    if (!op || !attrs[0].v.ints || !attrs[1].v.floats) return false;
    sp_id out = g->nodes[b->members[0]].out[0];
    for (int32_t i = 0; i < count; i++) g->nodes[b->members[i]].dead = true;
    return sp_graph_add_node(g, g->nodes[b->members[0]].name, op, 1, b->in, b->n_in, &out, 1, attrs,
                             2) != SP_NO_ID;
}

sparoa_status sp_pass_chain(sp_graph *graph, sparoa_error *err)
{
    builder b = {.g = graph};
    bool ok = true;
    if (!sp_uses_build(&b.uses, graph, &graph->arena.alloc)) return SP_NO_MEMORY(graph, err);
    for (size_t i = graph->node_count; i-- > 0 && ok;) {
        sp_chain_step step;
        if (!step_of(graph, &graph->nodes[i], &step) || goes_on(&b, &graph->nodes[i])) continue;
        collect(&b, (sp_id)i);
        if (b.chain.count > 1) ok = replace(&b);
    }
    sp_uses_free(&b.uses);
    return ok ? SPAROA_OK : SP_NO_MEMORY(graph, err);
}
