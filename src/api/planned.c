/* What a plan means for a session: the device of every node, and where it divides nodes the graph
 * in which they are divided. */
#include <string.h>

#include "api/schedule_objects.h"
#include "graph/infer.h"

/* The runtime's device that a plan's device means: the one of that name; for an accelerator also
 * the only one that there is, since platform files name theirs by kind ("gpu"). -1: none. */
static int32_t device_of(const sparoa_runtime *rt, const sp_plan *plan, uint32_t index)
{
    int32_t device = sp_runtime_device(rt, plan->devices[index]);
    if (device >= 0) return device;
    if (index == 0) return 0;
    return rt->device_count == 2 && plan->device_count == 2 ? 1 : -1;
}

/* A plan that is being read. */
typedef struct reading {
    const sparoa_session *s;
    const sp_plan *plan;
    const sp_plan_node **at; /* by node of the session's graph */
    sp_arena scratch;
    sp_planned *to;
} reading;

/* What keeps a node of a graph from a device, or NULL. */
static const char *obstacle(reading *r, const sp_graph *g, const sp_gnode *n, int32_t device,
                            char *why, size_t size)
{
    const sparoa_runtime *rt = r->s->model->runtime;
    size_t ports = (size_t)(n->n_in + n->n_out);
    sparoa_node view;
    if (device < 0) return "there is no such device; load its plug-in";
    if (device == 0) return NULL;
    if (n->op->op_class == SPAROA_CLASS_CONTROL) return "control flow runs on the cpu";
    sparoa_tensor **in = sp_arena_alloc(&r->scratch, (ports + 1) * sizeof *in);
    bool *constant = sp_arena_alloc(&r->scratch, ports + 1);
    if (!in || !constant) return "there is no memory to find out";
    sp_graph_node_view(g, n, in, in + n->n_in, constant, &view);
    const sp_device *d = &rt->devices[device];
    if (d->table->node_supports(d->dev, &view, why, size)) return NULL;
    return why[0] ? why : "the device cannot run it";
}

static sparoa_status refuse(const sp_gnode *n, const char *device, const char *why,
                            sparoa_error *err)
{
    const sparoa_node view = {.name = n->name, .op = n->op_type};
    return sparoa_fail(err, SPAROA_INVALID_PLAN, &view, "planned for device '%s': %s", device, why);
}

/* The plan's row for each node of the graph; each must have the other's node. */
static sparoa_status match_nodes(reading *r, sparoa_error *err)
{
    const sp_graph *g = r->s->graph;
    const sp_plan *plan = r->plan;
    uint32_t next = 0;
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        const sp_plan_node *found = NULL;
        for (uint32_t k = 0; k < plan->node_count && !found; k++) {
            uint32_t index = (next + k) % plan->node_count;
            if (strcmp(plan->nodes[index].name, n->name)) continue;
            found = &plan->nodes[index];
            next = index + 1;
        }
        const sparoa_node view = {.name = n->name, .op = n->op_type};
        if (!found)
            return sparoa_fail(err, SPAROA_INVALID_PLAN, &view,
                               "the plan has no such node: another model, or other graph passes");
        if (strcmp(found->op, n->op_type))
            return sparoa_fail(err, SPAROA_INVALID_PLAN, &view, "the plan has a %.40s there",
                               found->op);
        r->at[i] = found;
    }
    if (plan->node_count == g->node_count) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                       "the plan has %u nodes, the graph %zu: another model, or other graph passes",
                       plan->node_count, g->node_count);
}

/* Devices of the nodes that stay whole; what is divided is looked at in parts. */
static sparoa_status place_whole(reading *r, int32_t *device, sparoa_error *err)
{
    const sp_graph *g = r->s->graph;
    for (size_t i = 0; i < g->node_count; i++) {
        char why[160] = "";
        const sp_plan_node *at = r->at[i];
        device[i] = device_of(r->s->model->runtime, r->plan, at->device);
        const char *wrong = at->share > 0 && device[i] >= 0
                                ? NULL
                                : obstacle(r, g, &g->nodes[i], device[i], why, sizeof why);
        if (wrong) return refuse(&g->nodes[i], r->plan->devices[at->device], wrong, err);
    }
    return SPAROA_OK;
}

/* ---- divided nodes ---- */

/* By value of the graph that is being made: where what writes it runs. */
typedef struct writer {
    int32_t device;
    uint32_t node; /* of the session's graph, that it is a part of; UINT32_MAX: it helps only */
} writer;

typedef struct dividing {
    reading *r;
    sp_graph *g;
    writer *writers;
    size_t capacity, count;
} dividing;

static bool note_values(dividing *d)
{
    const sparoa_allocator *a = &d->r->s->model->runtime->alloc;
    if (!sp_grow(a, &d->writers, &d->capacity, d->g->value_count, sizeof *d->writers)) return false;
    for (; d->count < d->g->value_count; d->count++) d->writers[d->count] = (writer){0, UINT32_MAX};
    return true;
}

static void note(dividing *d, sp_id node, int32_t device, uint32_t origin)
{
    const sp_gnode *n = &d->g->nodes[node];
    for (int32_t k = 0; k < n->n_out; k++)
        if (n->out[k] != SP_NO_ID) d->writers[n->out[k]] = (writer){device, origin};
}

static sparoa_status divide(dividing *d, size_t i, int32_t first, sparoa_error *err)
{
    const sp_plan_node *at = d->r->at[i];
    const sp_gnode *n = &d->r->s->graph->nodes[i];
    sp_divided made;
    int32_t second = device_of(d->r->s->model->runtime, d->r->plan, at->second);
    if (second < 0)
        return refuse(n, d->r->plan->devices[at->second],
                      "there is no such device; load its plug-in", err);
    if (first == second) return refuse(n, d->r->plan->devices[at->second], "both parts are", err);
    SP_TRY(sp_graph_divide(d->g, (sp_id)i, (sp_split_axis)at->axis, at->share, &made, err));
    if (!note_values(d)) return sp_no_memory(&d->g->arena.alloc, d->g->value_count, err);
    /* what cuts an input runs where that is made, so that only the part is copied */
    for (sp_id k = made.first; k < made.join; k++)
        note(d, k, d->writers[d->g->nodes[k].in[0]].device, UINT32_MAX);
    note(d, made.part[0], first, (uint32_t)i);
    note(d, made.part[1], second, (uint32_t)i);
    note(d, made.join, first, UINT32_MAX);
    return SPAROA_OK;
}

/* The devices of the graph's nodes once it is in order. What only helps runs on the host where its
 * device can't. */
static sparoa_status place_divided(dividing *d, sparoa_error *err)
{
    sp_planned *to = d->r->to;
    const sparoa_allocator *a = &d->r->s->model->runtime->alloc;
    to->count = d->g->node_count;
    to->device = sp_calloc(a, to->count, sizeof *to->device);
    if (!to->device) return sp_no_memory(a, to->count * sizeof *to->device, err);
    for (size_t i = 0; i < to->count; i++) {
        const sp_gnode *n = &d->g->nodes[i];
        char why[160] = "";
        writer w = {0, UINT32_MAX};
        for (int32_t k = 0; k < n->n_out; k++)
            if (n->out[k] != SP_NO_ID) w = d->writers[n->out[k]];
        to->device[i] = w.device;
        const char *wrong = obstacle(d->r, d->g, n, w.device, why, sizeof why);
        if (wrong && w.node != UINT32_MAX)
            return refuse(&d->r->s->graph->nodes[w.node], d->r->s->model->runtime->names[w.device],
                          wrong, err);
        if (wrong) to->device[i] = 0;
    }
    return SPAROA_OK;
}

static sparoa_status make_divided(reading *r, const int32_t *device, sparoa_error *err)
{
    const sparoa_allocator *a = &r->s->model->runtime->alloc;
    dividing d = {.r = r, .g = sp_graph_clone(r->s->graph, a)};
    size_t count = r->s->graph->node_count;
    if (!d.g) return sp_no_memory(a, sizeof *d.g, err);
    r->to->graph = d.g;
    sparoa_status status =
        note_values(&d) ? SPAROA_OK : sp_no_memory(a, d.g->value_count * sizeof *d.writers, err);
    for (size_t i = 0; status == SPAROA_OK && i < count; i++)
        note(&d, (sp_id)i, device[i], (uint32_t)i);
    for (size_t i = 0; status == SPAROA_OK && i < count; i++)
        if (r->at[i]->share > 0) status = divide(&d, i, device[i], err);
    if (status == SPAROA_OK) status = sp_graph_compact(d.g, err);
    if (status == SPAROA_OK) status = sp_graph_verify(d.g, err);
    if (status == SPAROA_OK) status = sp_graph_infer(d.g, err);
    if (status == SPAROA_OK) status = place_divided(&d, err);
    sp_free(a, d.writers, d.capacity * sizeof *d.writers);
    return status;
}

/* ---- */

static sparoa_status read_plan(reading *r, sparoa_error *err)
{
    const sparoa_allocator *a = &r->s->model->runtime->alloc;
    size_t count = r->s->graph->node_count;
    bool divided = false;
    r->at = sp_arena_alloc(&r->scratch, (count + 1) * sizeof(const sp_plan_node *));
    int32_t *device = sp_arena_alloc(&r->scratch, (count + 1) * sizeof *device);
    if (!r->at || !device) return sp_no_memory(a, count * sizeof *device, err);
    SP_TRY(match_nodes(r, err));
    SP_TRY(place_whole(r, device, err));
    for (size_t i = 0; i < count; i++) divided |= r->at[i]->share > 0;
    if (divided) return make_divided(r, device, err);
    r->to->count = count;
    r->to->device = sp_calloc(a, count, sizeof *device);
    if (!r->to->device) return sp_no_memory(a, count * sizeof *device, err);
    if (count) memcpy(r->to->device, device, count * sizeof *device);
    return SPAROA_OK;
}

sparoa_status sp_session_plan(const sparoa_session *session, const sparoa_plan *plan,
                              sp_planned *planned, sparoa_error *err)
{
    *planned = (sp_planned){0};
    reading r = {.s = session, .plan = plan->p, .to = planned};
    sp_arena_init(&r.scratch, &session->model->runtime->alloc);
    sparoa_status status = read_plan(&r, err);
    sp_arena_destroy(&r.scratch);
    if (status != SPAROA_OK) sp_planned_free(session, planned);
    return status;
}

void sp_planned_free(const sparoa_session *session, sp_planned *planned)
{
    const sparoa_allocator *a = &session->model->runtime->alloc;
    sp_graph_destroy(planned->graph);
    if (planned->device) sp_free(a, planned->device, planned->count * sizeof *planned->device);
    *planned = (sp_planned){0};
}

const char *sp_plan_passes(const sparoa_plan *plan)
{
    bool eager = strcmp(plan->p->regime, sp_regime_name(SP_REGIME_EAGER)) == 0;
    return sp_regime_disabled_passes(eager ? SP_REGIME_EAGER : SP_REGIME_GRAPH);
}

/* ---- several plans ---- */

sparoa_status sp_session_keep_plan(sparoa_session *session, sp_program *program,
                                   sp_placement *placement, sparoa_error *err)
{
    const sparoa_allocator *a = &session->model->runtime->alloc;
    if (!sp_grow(a, &session->plans, &session->plan_capacity, session->plan_count + 1,
                 sizeof *session->plans))
        return sp_no_memory(a, sizeof *session->plans, err);
    session->plans[session->plan_count++] = (sp_session_plan_entry){program, placement};
    return SPAROA_OK;
}

/* The program of the session's own graph, or NULL. */
static sp_program *whole_program(const sparoa_session *s)
{
    for (size_t i = 0; i < s->plan_count; i++)
        if (s->plans[i].program->graph == s->graph) return s->plans[i].program;
    return NULL;
}

/* A divided graph has a program of its own, which shares kernels with the first. */
static sparoa_status add_program(sparoa_session *s, sp_planned *planned, sparoa_error *err)
{
    sp_program *made;
    sp_graph *graph = planned->graph ? planned->graph : s->graph;
    SP_TRY(sp_program_create_kin(s->plans[0].program, graph, planned->device, &made, err));
    sparoa_status status = sp_session_keep_plan(s, made, made->placement, err);
    if (status != SPAROA_OK) {
        sp_program_destroy(made);
        return status;
    }
    planned->graph = NULL; /* the session's from here on */
    return SPAROA_OK;
}

static sparoa_status add_plan(sparoa_session *s, const sparoa_plan *plan, sparoa_error *err)
{
    sp_planned planned;
    sp_placement *made;
    SP_TRY(sp_session_plan(s, plan, &planned, err));
    sp_program *whole = planned.graph ? NULL : whole_program(s);
    sparoa_status status;
    if (!whole)
        status = add_program(s, &planned, err);
    else if ((status = sp_program_place(whole, planned.device, &made, err)) == SPAROA_OK)
        status = sp_session_keep_plan(s, whole, made, err);
    sp_planned_free(s, &planned);
    return status;
}

sparoa_status sparoa_session_add_plan(sparoa_session *session, const sparoa_plan *plan,
                                      size_t *index, sparoa_error *err)
{
    if (!session || !plan || !index)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session, plan or index is NULL");
    if (session->engine.device_count == 1)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL,
                           "the session is the cpu's alone: create it with a plan or a device");
    pthread_mutex_lock(&session->mutex);
    sparoa_status status = add_plan(session, plan, err);
    if (status == SPAROA_OK) *index = session->plan_count - 1;
    pthread_mutex_unlock(&session->mutex);
    return status;
}

sparoa_status sparoa_session_use_plan(sparoa_session *session, size_t index, sparoa_error *err)
{
    if (!session) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session is NULL");
    pthread_mutex_lock(&session->mutex);
    size_t count = session->plan_count;
    if (index < count) {
        session->program = session->plans[index].program;
        session->program->placement = session->plans[index].placement;
        session->frame = NULL;
    }
    pthread_mutex_unlock(&session->mutex);
    if (index < count) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "plan %zu; the session has %zu", index,
                       count);
}

void sp_session_drop_plans(sparoa_session *session)
{
    const sparoa_allocator *a = &session->model->runtime->alloc;
    for (size_t i = session->plan_count; i-- > 0;) { /* the first last: others share with it */
        sp_program *p = session->plans[i].program;
        bool again = false;
        for (size_t k = 0; k < i; k++) again |= session->plans[k].program == p;
        if (again) continue;
        sp_graph *graph = p->graph;
        sp_program_destroy(p);
        if (graph != session->graph) sp_graph_destroy(graph);
    }
    sp_free(a, session->plans, session->plan_capacity * sizeof *session->plans);
}
