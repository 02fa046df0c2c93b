/* Where the nodes of a session run: by device and pins, or by a plan. */
#include <string.h>

#include "api/schedule_objects.h"

static const sparoa_pin *pin_of(const sparoa_session *s, const char *node)
{
    for (size_t i = 0; i < s->pin_count; i++)
        if (strcmp(s->pins[i].node, node) == 0) return &s->pins[i];
    return NULL;
}

static int32_t refuse(sparoa_session *s, const sparoa_node *node, const char *device,
                      const char *why)
{
    if (s->place_status == SPAROA_OK)
        s->place_status =
            sparoa_fail(&s->place_error, SPAROA_UNSUPPORTED_OP, node,
                        "device '%s' cannot run it: %s", device, why[0] ? why : "no reason given");
    return 0;
}

int32_t sp_session_place(void *user, size_t index, const sparoa_node *node)
{
    sparoa_session *s = user;
    sparoa_runtime *rt = s->model->runtime;
    if (s->planned) return s->planned[index];
    const sparoa_pin *pin = pin_of(s, node->name);
    int32_t device = pin ? sp_runtime_device(rt, pin->device) : s->preferred;
    char why[160] = "";
    if (device <= 0) return 0;
    const sp_device *d = &s->devices[device];
    if (d->table->node_supports(d->dev, node, why, sizeof why)) return device;
    if (pin || s->fallback == SPAROA_FALLBACK_FORBID)
        return refuse(s, node, rt->names[device], why);
    if (s->fallback == SPAROA_FALLBACK_WARN)
        sp_log_line(&rt->log, SPAROA_LOG_WARN, "%s '%s' runs on the cpu: %s cannot run it: %s",
                    node->op, node->name, rt->names[device], why);
    return 0;
}

sparoa_status sp_session_devices(sparoa_session *session, const sparoa_session_options *options,
                                 sparoa_error *err)
{
    sparoa_runtime *rt = session->model->runtime;
    if (options->pin_count && !options->pins)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "pins is NULL but pin_count is not 0");
    if (options->plan && (options->device || options->pin_count || options->reference))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "a plan says where every node runs: leave out device, pins, reference");
    session->preferred = options->device ? sp_runtime_device(rt, options->device) : 0;
    if (session->preferred < 0)
        return sparoa_fail(
            err, SPAROA_INVALID_ARGUMENT, NULL,
            "there is no device '%.60s'; load its plug-in with sparoa_runtime_load_plugin",
            options->device);
    for (size_t i = 0; i < options->pin_count; i++) {
        const sparoa_pin *pin = &options->pins[i];
        if (!pin->node || !pin->device || sp_runtime_device(rt, pin->device) < 0)
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "pin %zu names device '%.60s', which is not there", i,
                               pin->device ? pin->device : "(null)");
    }
    session->pins = options->pins;
    session->pin_count = options->pin_count;
    session->fallback = options->fallback;
    return SPAROA_OK;
}

/* ---- plans ---- */

/* The runtime's device that a plan's device means: the one of that name; for an accelerator also
 * the only one that there is, since platform files name theirs by kind ("gpu"). -1: none. */
static int32_t device_of(const sparoa_runtime *rt, const sp_plan *plan, uint32_t index)
{
    int32_t device = sp_runtime_device(rt, plan->devices[index]);
    if (device >= 0) return device;
    if (index == 0) return 0;
    return rt->device_count == 2 && plan->device_count == 2 ? 1 : -1;
}

/* What keeps a node from where the plan has it, or NULL. */
static const char *obstacle(const sparoa_runtime *rt, int32_t device, const sp_gnode *n,
                            const sparoa_node *view, char *why, size_t size)
{
    if (device < 0) return "there is no such device; load its plug-in";
    if (device == 0) return NULL;
    if (n->op->op_class == SPAROA_CLASS_CONTROL) return "control flow runs on the cpu";
    const sp_device *d = &rt->devices[device];
    if (d->table->node_supports(d->dev, view, why, size)) return NULL;
    return why[0] ? why : "the device cannot run it";
}

static sparoa_status place_planned(const sparoa_session *s, const sp_plan *plan, uint8_t *at,
                                   int32_t *device, sparoa_error *err)
{
    const sparoa_runtime *rt = s->model->runtime;
    sp_arena scratch;
    sp_arena_init(&scratch, &rt->alloc);
    sparoa_status status = SPAROA_OK;
    for (size_t i = 0; status == SPAROA_OK && i < s->graph->node_count; i++) {
        const sp_gnode *n = &s->graph->nodes[i];
        size_t ports = (size_t)(n->n_in + n->n_out);
        sparoa_tensor **in = sp_arena_alloc(&scratch, (ports + 1) * sizeof *in);
        bool *constant = sp_arena_alloc(&scratch, ports + 1);
        sparoa_node view;
        char why[160] = "";
        if (!in || !constant) {
            status = sp_no_memory(&rt->alloc, ports * sizeof *in, err);
            break;
        }
        sp_graph_node_view(s->graph, n, in, in + n->n_in, constant, &view);
        device[i] = device_of(rt, plan, at[i]);
        const char *wrong = obstacle(rt, device[i], n, &view, why, sizeof why);
        if (wrong)
            status = sparoa_fail(err, SPAROA_INVALID_PLAN, &view, "planned for device '%s': %s",
                                 plan->devices[at[i]], wrong);
    }
    sp_arena_destroy(&scratch);
    return status;
}

/* The plan's device by node of the graph; each must have the other's node. */
static sparoa_status match_nodes(const sparoa_session *s, const sp_plan *plan, uint8_t *at,
                                 sparoa_error *err)
{
    const sp_graph *g = s->graph;
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
        if (found->share > 0)
            return sparoa_fail(err, SPAROA_INVALID_PLAN, &view,
                               "the plan divides it between two devices, which sessions cannot do "
                               "yet; plan without splits");
        at[i] = found->device;
    }
    if (plan->node_count == g->node_count) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_PLAN, NULL,
                       "the plan has %u nodes, the graph %zu: another model, or other graph passes",
                       plan->node_count, g->node_count);
}

sparoa_status sp_session_plan(const sparoa_session *session, const sparoa_plan *plan,
                              int32_t *device, sparoa_error *err)
{
    const sparoa_allocator *a = &session->model->runtime->alloc;
    uint8_t *at = sp_calloc(a, session->graph->node_count, 1);
    if (!at) return sp_no_memory(a, session->graph->node_count, err);
    sparoa_status status = match_nodes(session, plan->p, at, err);
    if (status == SPAROA_OK) status = place_planned(session, plan->p, at, device, err);
    sp_free(a, at, session->graph->node_count);
    return status;
}

const char *sp_plan_passes(const sparoa_plan *plan)
{
    bool eager = strcmp(plan->p->regime, sp_regime_name(SP_REGIME_EAGER)) == 0;
    return sp_regime_disabled_passes(eager ? SP_REGIME_EAGER : SP_REGIME_GRAPH);
}

sparoa_status sparoa_session_add_plan(sparoa_session *session, const sparoa_plan *plan,
                                      size_t *index, sparoa_error *err)
{
    if (!session || !plan || !index)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session, plan or index is NULL");
    if (session->engine.device_count == 1)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL,
                           "the session is the cpu's alone: create it with a plan or a device");
    const sparoa_allocator *a = &session->model->runtime->alloc;
    size_t bytes = session->graph->node_count * sizeof(int32_t);
    int32_t *device = sp_calloc(a, 1, bytes);
    if (!device) return sp_no_memory(a, bytes, err);
    sp_placement *made;
    pthread_mutex_lock(&session->mutex);
    sparoa_status status = sp_session_plan(session, plan, device, err);
    if (status == SPAROA_OK) status = sp_program_place(session->program, device, &made, err);
    if (status == SPAROA_OK) *index = (size_t)session->program->placement_count - 1;
    pthread_mutex_unlock(&session->mutex);
    sp_free(a, device, bytes);
    return status;
}

sparoa_status sparoa_session_use_plan(sparoa_session *session, size_t index, sparoa_error *err)
{
    if (!session) return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session is NULL");
    pthread_mutex_lock(&session->mutex);
    size_t count = (size_t)session->program->placement_count;
    sp_placement *p = session->program->placements; /* the latest comes first */
    for (size_t i = count - 1; index < count && i > index; i--) p = p->next;
    if (index < count) {
        session->program->placement = p;
        session->frame = NULL;
    }
    pthread_mutex_unlock(&session->mutex);
    if (index < count) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "plan %zu; the session has %zu", index,
                       count);
}
