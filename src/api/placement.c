/* Where the nodes of a session run by device and pins. */
#include <string.h>

#include "api/objects.h"

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
    (void)index;
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
